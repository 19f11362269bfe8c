//go:build net

package dataplane

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

func withEvents(c *Config) { c.FlowEvents = true }

func (b *bench) changed(c Changes) (all []Conversation) {
	b.t.Helper()
	for conversation, err := range b.dp.Changed(c) {
		b.must(err)
		all = append(all, conversation)
	}
	return all
}

// TestNetChangedConversations: both directions in one, only what has changed, and
// under the same id as long as the entry is there.
func TestNetChangedConversations(t *testing.T) {
	b := newBench(t)
	b.receive(9, 53)
	b.answer(farAddr, 9)
	b.send(b.port1, farAddr, 1000)
	all := b.changed(Changes{})
	if len(all) != 2 {
		t.Fatalf("%d conversations, want 2: %+v", len(all), all)
	}
	ids := map[FlowID]bool{}
	for _, c := range all {
		ids[c.Begins.ID] = true
		if c.Begins.SrcPort == 9 && (c.Answers == nil || c.Answers.Packets != 1 || c.Begins.Direction != FromTunnel) {
			t.Errorf("answered is %+v", c)
		}
	}
	now, err := Now()
	b.must(err)
	if left := b.changed(Changes{Made: now, Seen: now}); len(left) != 0 {
		t.Errorf("nothing has changed, but %+v", left)
	}
	b.must(b.dp.PutRoute(host(vrf, otherIP), NextHop{})) // outdates all decisions
	b.send(b.port1, farAddr, 1000)
	for _, c := range b.changed(Changes{}) {
		if !ids[c.Begins.ID] {
			t.Errorf("the flow has another id: %+v", c)
		}
	}
	stop := errors.New("enough")
	if c := (Changes{Seen: math.MaxInt64, Made: math.MaxInt64, Pace: func(int) error { return stop }}); len(b.changed(c)) != 0 {
		t.Error("something is newer than the end of time")
	}
}

// TestNetEndsHaveTheLastCounts, by the sweep and with the port.
func TestNetEndsHaveTheLastCounts(t *testing.T) {
	b := newBench(t)
	packets := map[FlowID]uint64{}
	b.dp.OnFlowEnd(func(c Conversation) {
		for _, f := range []*FlowTotals{c.Begins, c.Answers} {
			if f != nil && f.Ended {
				packets[f.ID] = f.Packets
			}
		}
	})
	want := func(flows int, sum uint64) {
		t.Helper()
		var got uint64
		for _, n := range packets {
			got += n
		}
		if len(packets) != flows || got != sum {
			t.Errorf("%d flows with %d packets have ended, want %d with %d", len(packets), got, flows, sum)
		}
	}
	b.receive(9, 53)
	b.answer(farAddr, 9)
	for range 3 {
		b.send(b.port2, farAddr, 1000)
	}
	b.must(b.dp.DeletePort(b.port2.IfIndex))
	want(1, 3)
	now, err := Now()
	b.must(err)
	if _, live, err := b.dp.SweepFlows(now+time.Hour, DefaultAges()); err != nil || live != 0 {
		t.Fatalf("%d flows live, %v", live, err)
	}
	want(3, 5)
}

// events reads what the programs tell, and returns what waits for the next.
func (b *bench) events() (next func() FlowEvent) {
	events := make(chan FlowEvent, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.dp.FlowEvents(ctx, func(e FlowEvent) { events <- e }) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			b.t.Error(err)
		}
	})
	return func() FlowEvent {
		b.t.Helper()
		select {
		case e := <-events:
			return e
		case <-time.After(10 * time.Second):
			b.t.Fatal("no event")
			return FlowEvent{}
		}
	}
}

// TestNetRefusalsAndEndsByPolicyAreTold, the former no faster than a port may.
func TestNetRefusalsAndEndsByPolicyAreTold(t *testing.T) {
	b := newBench(t, withEvents)
	next := b.events()
	b.send(b.port1, farAddr, 1000)
	b.send(b.port1, farAddr, 1000)
	closed := someSet("refuses everything")
	policy := Policy{Identity: NewIdentity(vrf, nil, nil)}
	policy.Sets[NetworkPolicy] = closed.ID
	b.putPolicy(b.port1, policy, closed)
	wantVerdict(t, b.send(b.port1, farAddr, 1000), tcDrop)
	if e := next(); e.Reason != 0 || !e.Ended || e.Packets != 2 || e.SrcPort != 1000 {
		t.Errorf("end by policy is %+v", e)
	}
	e := next()
	frame := len(udpFrame(mac1, addr1, farAddr))
	if e.Reason != DropPolicyNetwork || e.Packets != 1 || e.Bytes != uint64(frame) || e.IfIndex != b.port1.IfIndex ||
		e.Src != addr1 || e.Dst != farAddr || e.DstPort != 53 || e.NextHop.Remote != remoteIP {
		t.Errorf("refusal is %+v", e)
	}
	wantVerdict(t, b.receive(9, 53), tcDrop)
	if e := next(); e.Direction != FromTunnel || e.OuterSource != remoteIP || e.Bytes != uint64(frame) {
		t.Errorf("refusal of what came by tunnel is %+v, want %d bytes", e, frame)
	}
	for sport := range 300 {
		b.send(b.port1, farAddr, 1+sport)
	}
	noRoom, overRate, err := b.dp.FlowEventsLost()
	b.must(err)
	if noRoom != 0 || overRate < 100 || overRate > 250 {
		t.Errorf("%d lost in the ring and %d over the rate, of 302 refusals at 100 a second", noRoom, overRate)
	}
}

// TestNetEntryThatWaitsHasNoEnd: one that no packet has used yet is not told of when
// policy ends both directions.
func TestNetEntryThatWaitsHasNoEnd(t *testing.T) {
	b := newBench(t, withEvents)
	next := b.events()
	b.float(ForeignAddress{Address: floating, VRF: poolVRF, Fixed: addr1})
	ask := func() uint32 {
		verdict, _ := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, udpFrame(mac1, outside, floating)))
		return verdict
	}
	wantVerdict(t, ask(), tcRedirect)
	if n := len(b.flows()); n != 2 {
		t.Fatalf("%d entries, want the question's and the answer's", n)
	}
	closed := someSet("refuses everything")
	policy := Policy{Identity: NewIdentity(vrf, nil, nil)}
	policy.Sets[NetworkPolicy] = closed.ID
	port := b.port1
	port.Foreign = []ForeignAddress{{Address: floating, VRF: poolVRF, Fixed: addr1}}
	b.putPolicy(port, policy, closed)
	wantVerdict(t, ask(), tcDrop)
	if e := next(); e.Reason != 0 || e.Packets != 1 || e.Dst != floating {
		t.Errorf("end of the question is %+v", e)
	}
	if e := next(); e.Reason != DropPolicyNetwork {
		t.Errorf("after the end comes %+v, want the refusal", e)
	}
}

// TestNetNobodyReadsEvents: then there are none.
func TestNetNobodyReadsEvents(t *testing.T) {
	b := newBench(t)
	closed := someSet("refuses everything")
	policy := Policy{Identity: NewIdentity(vrf, nil, nil)}
	policy.Sets[NetworkPolicy] = closed.ID
	b.putPolicy(b.port1, policy, closed)
	for sport := range 300 {
		b.wantDrop(b.send(b.port1, farAddr, 1+sport), DropPolicyNetwork, b.port1.IfIndex)
	}
	if noRoom, overRate, err := b.dp.FlowEventsLost(); err != nil || noRoom+overRate != 0 {
		t.Errorf("%d lost in the ring, %d over the rate, %v", noRoom, overRate, err)
	}
}

// BenchmarkNetReadFlows reads 100,000 flows: bare, where nothing has changed, and
// where all have.
func BenchmarkNetReadFlows(b *testing.B) {
	n := newBench(b, func(c *Config) { c.FlowEntries = 1 << 18 })
	const flows = 100_000
	keys, values := make([]bpfFlowKey, flows), make([]bpfFlow, flows)
	for i := range keys {
		keys[i] = bpfFlowKey{Src: toAddr(addr1), Dst: toAddr(farAddr), Scope: uint32(n.port1.IfIndex), Sport: uint16(i), Dport: uint16(i >> 16), Proto: 17}
		values[i] = bpfFlow{Packets: 1, Bytes: 60, LastSeen: 5, Created: 5, Ifindex: uint32(n.port1.IfIndex), Vrf: vrf}
	}
	if _, err := n.dp.maps().FlowV3.BatchUpdate(keys, values, nil); err != nil {
		b.Fatal(err)
	}
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			var cursor ebpf.MapBatchCursor
			for {
				_, err := n.dp.maps().FlowV3.BatchLookup(&cursor, keys[:4096], values[:4096], nil)
				if errors.Is(err, ebpf.ErrKeyNotExist) {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	for name, c := range map[string]Changes{"unchanged": {Made: 9, Seen: 9}, "changed": {}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if got := len(n.changed(c)); (got == flows) != (c.Made == 0) {
					b.Fatalf("%d conversations", got)
				}
			}
		})
	}
}
