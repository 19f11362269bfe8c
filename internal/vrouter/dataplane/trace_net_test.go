//go:build net

package dataplane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
)

var nowhere, group4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("224.0.0.5")

// drawRoute is where a route may lead, from nowhere to several nodes.
func (d draw) route() NextHop {
	tunnel := func() NextHop {
		n := NextHop{Kind: Tunnel, Remote: pick(d, remoteIP, otherIP), Encapsulation: pick(d, MPLSoUDP, MPLSoUDP, MPLSoGRE, VXLAN), Identity: d.identity()}
		if n.Encapsulation == VXLAN {
			n.VNI = vni
			if d.IntN(2) == 0 {
				n.MAC = mac2
			}
			return n
		}
		n.Label = pick[uint32](d, farLabel, farLabel2)
		return n
	}
	switch d.IntN(8) {
	case 0:
		return NextHop{}
	case 1:
		return NextHop{Kind: Local, Label: pick[uint32](d, label1, label2, 4711), Identity: d.identity()}
	case 2:
		return NextHop{Kind: Local, Label: pick[uint32](d, label1, label2), Behind: true, Identity: d.identity()}
	case 3, 4:
		return Share([]Member{{NextHop: tunnel()}, {NextHop: tunnel(), Weight: 3}, {NextHop: NextHop{Kind: Local, Label: label2, Identity: d.identity()}}})
	}
	return tunnel()
}

// tracedWorld gives the bench drawn ports, policies and routes.
func (d draw) tracedWorld(b *bench) {
	one, two := b.port1, b.port2
	one.Blocked, two.Blocked = d.IntN(20) == 0, d.IntN(20) == 0
	if d.IntN(2) == 0 {
		one.Foreign = []ForeignAddress{{Address: floating, VRF: poolVRF, Fixed: addr1, AnswersOnly: d.IntN(3) == 0}}
		if d.IntN(2) == 0 {
			one.Foreign = append(one.Foreign, ForeignAddress{Address: alias, VRF: poolVRF, Fixed: alias})
		}
	}
	if d.IntN(2) == 0 {
		two.Foreign = []ForeignAddress{{Address: floating2, VRF: poolVRF, Fixed: addr2}}
	}
	b.putPort(one)
	b.putPort(two)
	for _, p := range []Port{one, two} {
		if drawn := d.port(pick(d, 0, 3, 70, 5000)); d.IntN(12) == 0 {
			b.must(b.dp.DeletePolicy(p.IfIndex))
		} else if d.IntN(3) == 0 {
			b.putPolicy(p, drawn.policy, drawn.sets[:]...)
		}
	}
	for _, key := range []RouteKey{
		host(vrf, farAddr), host(vrf, farAddr2), host(vrf, far6), host(vrf, far6b), host(vrf, addr2), host(vrf, floating2), host(poolVRF, floating2),
		{vrf, netip.MustParsePrefix("10.32.0.0/24")},
		{poolVRF, netip.MustParsePrefix("203.0.113.0/24")},
		{vrf, netip.MustParsePrefix("0.0.0.0/0")},
		{vrf, netip.MustParsePrefix("::/0")},
		{poolVRF, netip.MustParsePrefix("10.32.0.0/16")},
	} {
		if d.IntN(3) == 0 {
			b.must(b.dp.DeleteRoute(key))
			continue
		}
		n := d.route()
		if key == host(vrf, addr2) && d.IntN(2) == 0 {
			n = NextHop{Kind: Local, Label: label2, Identity: d.identity()}
		}
		b.must(b.dp.PutRoute(key, n))
	}
}

// query is a drawn packet, as a question and as a frame.
func (d draw) query(b *bench) (TraceQuery, []byte) {
	c := connection{protocol: pick[uint8](d, 1, 6, 17, 47), sport: uint16(d.IntN(12)), dport: uint16(d.IntN(12))}
	c.src.addr = pick(d, addr1, addr1, addr1, addr1b, alias, farAddr)
	c.dst.addr = pick(d, addr2, farAddr, farAddr2, outside, floating2, nowhere, group4, gateway4)
	if d.IntN(4) == 0 {
		c.src.addr, c.dst.addr, c.protocol = pick(d, one6, one6b, far6), pick(d, two6, far6, far6b, gateway6), pick[uint8](d, 58, 6, 17, 47)
	}
	q := TraceQuery{IfIndex: b.port1.IfIndex, Src: c.src.addr, Dst: c.dst.addr, Protocol: c.protocol, SrcPort: c.sport, DstPort: c.dport}
	switch c.protocol {
	case 47:
		q.SrcPort, q.DstPort = 0, 0
	case 1, 58:
		c.sport = pick[uint16](d, 0, 3, 5, 8, 128, 129)
		q.SrcPort, q.DstPort, q.Code = 0, c.sport, uint8(c.dport)
		if c.protocol == 1 && (c.sport == 0 || c.sport == 8) || c.protocol == 58 && c.sport >= 128 {
			q.SrcPort = 7
		}
	}
	return q, frameOf(mac1, c)
}

// arrival is the question with what is around it, and the frame of the wire.
func (d draw) arrival(q TraceQuery, frame []byte) (ArrivalQuery, []byte) {
	q.Src, q.Dst, q.IfIndex = q.Dst, q.Src, 0
	frame = turned(frame)
	a := ArrivalQuery{Outer: pick(d, remoteIP, remoteIP, otherIP), Label: pick[uint32](d, label1, label1, label2, 4711), TraceQuery: q}
	switch d.IntN(4) {
	case 0:
		a.Encapsulation, a.Label, a.VNI, a.MAC = VXLAN, 0, pick[uint32](d, vni, vni, 99), pick(d, RouterMAC(), mac1, mac2)
		return a, byVXLAN(a.Outer, localIP, a.VNI, 50000, between(nic, a.MAC, frame))
	case 1:
		a.Encapsulation = MPLSoGRE
		return a, byGRE(a.Outer, localIP, a.Label, frame)
	}
	return a, tunnelled(a.Outer, localIP, a.Label, 50000, frame)
}

// turned is a frame with its IP addresses the other way round; sums of addresses
// stay as they are.
func turned(frame []byte) []byte {
	at, size := 14+12, 4
	if frame[12] == 0x86 {
		at, size = 14+8, 16
	}
	out := append([]byte(nil), frame...)
	copy(out[at:], frame[at+size:at+2*size])
	copy(out[at+size:], frame[at:at+size])
	return out
}

// wantTrace compares a trace with what a program has just done.
func (b *bench) wantTrace(what string, trace Trace, verdict uint32) {
	t := b.t
	t.Helper()
	drops := b.dropped()
	if trace.Reason != 0 {
		at := trace.Steps[len(trace.Steps)-1].IfIndex
		if at == 0 {
			at = b.eth0
		}
		if verdict != tcDrop || len(drops) != 1 || !drops[Drop{Reason: trace.Reason, IfIndex: at, Packets: 1}] {
			t.Fatalf("%s: verdict %d, drops %v, traced %+v", what, verdict, drops, trace)
		}
		return
	}
	if verdict != tcRedirect {
		t.Fatalf("%s: verdict %d, drops %v, traced %+v", what, verdict, drops, trace)
	}
	var made []Flow
	for _, f := range b.flows() {
		if f.Packets > 0 {
			made = append(made, f)
		}
	}
	want := trace.NextHop
	want.Identity, want.MAC, want.Behind = Identity{}, MAC{}, false
	switch {
	case want.Kind == Discard: // the router's answer
		if len(made) != 0 {
			t.Fatalf("%s: made %+v, traced %+v", what, made, trace)
		}
	case len(made) != 1 || made[0].NextHop != want:
		t.Fatalf("%s: made %+v, traced %+v", what, made, trace)
	default:
		src, dst := made[0].Src, made[0].Dst
		if made[0].NATSrc.IsValid() {
			src = made[0].NATSrc
		}
		if made[0].NATDst.IsValid() {
			dst = made[0].NATDst
		}
		if src != trace.Src || dst != trace.Dst {
			t.Fatalf("%s: goes from %s to %s, traced %+v", what, src, dst, trace)
		}
	}
}

// counts are those of the sets that a trace asks.
func (b *bench) counts(trace Trace) map[SetID][]uint64 {
	b.t.Helper()
	var ids []SetID
	for _, s := range trace.Steps {
		if s.Policy != nil {
			ids = append(ids, s.Policy.Set)
		}
	}
	sets, err := b.dp.SetsWithRules(ids)
	b.must(err)
	counts := map[SetID][]uint64{}
	for id, s := range sets {
		counts[id] = s.Counts
	}
	return counts
}

// wantDecided wants the rules of a trace to have counted, and no others of their sets.
func (b *bench) wantDecided(what string, trace Trace, want map[SetID][]uint64) (counted int) {
	b.t.Helper()
	for _, s := range trace.Steps {
		if s.Policy == nil {
			continue
		}
		counts := want[s.Policy.Set]
		at := s.Policy.Place - 1
		if s.Policy.Rule == nil {
			at = len(counts) - 1
		}
		counts[at]++
		counted++
	}
	if got := b.counts(trace); !reflect.DeepEqual(got, want) {
		b.t.Fatalf("%s: counts are %v, want %v after %+v", what, got, want, trace)
	}
	return counted
}

// TestNetTraceIsWhatProgramsDo: whatever ports, policies and routes are, a trace
// tells what a packet meets, the reason of its drop among it.
func TestNetTraceIsWhatProgramsDo(t *testing.T) {
	b := newBench6(t)
	met := map[string]int{}
	counted := 0
	for seed := range uint64(25) {
		d := draw{rand.New(rand.NewPCG(seed, 2))}
		d.tracedWorld(b)
		for range 60 {
			q, frame := d.query(b)
			var trace Trace
			var verdict uint32
			var err error
			what := fmt.Sprintf("seed %d: %+v", seed, q)
			var before map[SetID][]uint64
			if d.IntN(3) > 0 {
				trace, err = b.dp.Trace(q)
				b.must(err)
				before = b.counts(trace)
				verdict, _ = b.fromPort(b.port1, frame)
			} else {
				a, frame := d.arrival(q, frame)
				what = fmt.Sprintf("seed %d: %+v", seed, a)
				trace, err = b.dp.TraceArrival(a)
				b.must(err)
				before = b.counts(trace)
				verdict, _ = b.fromWire(frame)
			}
			b.wantTrace(what, trace, verdict)
			counted += b.wantDecided(what, trace, before)
			met[string(trace.Steps[len(trace.Steps)-1].Kind)+" "+trace.Reason.String()]++
			b.forgetFlows()
			b.forgetDrops()
		}
	}
	t.Logf("met %v, %d rules were counted", met, counted)
	if counted < 100 {
		t.Errorf("%d rules were counted: the test shows little", counted)
	}
	for _, reason := range []DropReason{
		DropBlocked, DropSourceAddress, DropMulticast, DropNoRoute, DropDiscard, DropNextHop, DropLabel, DropVNI, DropDestinationAddress,
		DropDestinationMAC, DropNoSourceRoute, DropTunnelSource, DropPolicyPending, DropPolicyNetwork, DropPolicyFirewall, DropPolicyGroup,
	} {
		if met["drop "+reason.String()] == 0 {
			t.Errorf("no packet was dropped for %s", reason)
		}
	}
	for _, kind := range []StepKind{StepDeliver, StepTunnel, StepRouter} {
		if met[string(kind)+" "+DropReason(0).String()] == 0 {
			t.Errorf("no trace ended with %s", kind)
		}
	}
}
