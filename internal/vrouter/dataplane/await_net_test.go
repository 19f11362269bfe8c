//go:build net

package dataplane

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// awaited is a connection of port 1 with a way for both directions.
type awaited struct {
	name          string
	dst           netip.Addr // the other end
	begin, answer func(b *bench) (uint32, []byte)
}

func waysToAwait() []awaited {
	fromPort := func(dst netip.Addr, sport, dport int, answers bool) func(*bench) (uint32, []byte) {
		return func(b *bench) (uint32, []byte) {
			return b.fromPort(b.port1, tcpFrame(mac1, RouterMAC(), addr1, dst, sport, dport, answers))
		}
	}
	fromWire := func(wrap func(frame []byte) []byte, src netip.Addr, sport, dport int, answers bool) func(*bench) (uint32, []byte) {
		return func(b *bench) (uint32, []byte) {
			return b.fromWire(wrap(tcpFrame(mac2, RouterMAC(), src, addr1, sport, dport, answers)))
		}
	}
	byUDP := func(frame []byte) []byte { return tunnelled(remoteIP, localIP, label1, 50000, frame) }
	gre := func(frame []byte) []byte { return byGRE(remoteIP, localIP, label1, frame) }
	vxlan := func(frame []byte) []byte { return byVXLAN(remoteIP, localIP, vni, 50000, between(mac2, mac1, frame)) }
	return []awaited{
		{"from the port", farAddr, fromPort(farAddr, 1000, 80, false), fromWire(byUDP, farAddr, 80, 1000, true)},
		{"from the port, answered by GRE", farAddr, fromPort(farAddr, 1000, 80, false), fromWire(gre, farAddr, 80, 1000, true)},
		{"from the port by a group", farAddr2, fromPort(farAddr2, 1000, 80, false), fromWire(byUDP, farAddr2, 80, 1000, true)},
		{"to a neighbour", addr2, fromPort(addr2, 1000, 80, false), func(b *bench) (uint32, []byte) {
			return b.fromPort(b.port2, tcpFrame(mac2, RouterMAC(), addr2, addr1, 80, 1000, true))
		}},
		{"by MPLS in UDP", farAddr, fromWire(byUDP, farAddr, 1000, 80, false), fromPort(farAddr, 80, 1000, true)},
		{"by MPLS in GRE", farAddr, fromWire(gre, farAddr, 1000, 80, false), fromPort(farAddr, 80, 1000, true)},
		{"by VXLAN", farAddr, fromWire(vxlan, farAddr, 1000, 80, false), fromPort(farAddr, 80, 1000, true)},
		{"from a group", farAddr2, fromWire(byUDP, farAddr2, 1000, 80, false), fromPort(farAddr2, 80, 1000, true)},
	}
}

// awaitBench has identities and policy for what is awaited.
func awaitBench(t *testing.T) *bench {
	b := newBench(t)
	far := NewIdentity(vrf, []uint32{5}, nil)
	group := tunnelTo(remoteIP, farLabel2)
	group.Identity = far
	b.must(b.dp.PutVNI(vni, vrf))
	b.must(b.dp.PutRoutes(map[RouteKey]NextHop{
		host(vrf, farAddr):  {Kind: Tunnel, Remote: remoteIP, Label: farLabel, Identity: far},
		host(vrf, farAddr2): Share([]Member{group}),
	}))
	policy := Policy{Identity: member}
	policy.Sets[Arriving], policy.Sets[Leaving] = toWeb.ID, toWeb.ID
	b.putPolicy(b.port1, policy, toWeb)
	b.port1.Egress, b.port1.Ingress = Limit{Rate: 1e9, Burst: 1e6}, Limit{Rate: 1e9, Burst: 1e6}
	b.ns.Must(func() error { return b.dp.PutPort(b.port1) })
	return b
}

// answerOf is the entry of the direction that answers.
func (b *bench) answerOf() (rawFlow, bool) {
	b.t.Helper()
	for f, err := range b.dp.rawFlows() {
		b.must(err)
		if f.value.Role == flowAnswers {
			return f, true
		}
	}
	return rawFlow{}, false
}

// TestNetAnswersAreAwaited: a connection's first packet makes the entry of its
// answer, which is what the answer's own decision would have made.
func TestNetAnswersAreAwaited(t *testing.T) {
	for _, way := range waysToAwait() {
		t.Run(way.name, func(t *testing.T) {
			b := awaitBench(t)
			verdict, _ := way.begin(b)
			wantVerdict(t, verdict, tcRedirect)
			if f, ok := b.answerOf(); !ok || f.value.Packets != 0 {
				t.Fatalf("the answer's entry is %+v, %t, want one without packets", f, ok)
			}
			b.wantUnanswered(1)
			verdict, out := way.answer(b)
			wantVerdict(t, verdict, tcRedirect)
			waited, _ := b.answerOf()
			b.wantUnanswered(0)

			b.must(b.dp.maps().FlowV3.Delete(waited.key))
			verdict, decidedOut := way.answer(b)
			wantVerdict(t, verdict, tcRedirect)
			decided, _ := b.answerOf()
			for _, f := range []*rawFlow{&waited, &decided} {
				f.value.Created, f.value.LastSeen, f.value.UdpSport = 0, 0, 0
			}
			if waited != decided {
				t.Errorf("entries differ\n waited: %+v\ndecided: %+v", waited, decided)
			}
			for _, frame := range [][]byte{out, decidedOut} {
				if waited.key.Dir == flowFromPort {
					binary.BigEndian.PutUint16(frame[14+20:], 0) // the outer source port
				}
			}
			if !bytes.Equal(out, decidedOut) {
				t.Errorf("frames differ\n waited: %x\ndecided: %x", out, decidedOut)
			}
		})
	}
}

func (b *bench) wantUnanswered(n int) {
	b.t.Helper()
	own, others, err := b.dp.PortFlowCount(b.port1.IfIndex)
	b.must(err)
	if own.Flows+others.Flows != 1 || own.Unanswered+others.Unanswered != n {
		b.t.Errorf("port has begun %+v, others %+v, want one flow, %d unanswered", own, others, n)
	}
}

// TestNetAwaitedAnswersAreChecked: what is waited for passes only as long as all
// holds that it was decided by.
func TestNetAwaitedAnswersAreChecked(t *testing.T) {
	for _, way := range waysToAwait() {
		t.Run(way.name, func(t *testing.T) {
			b := awaitBench(t)
			way.begin(b)
			policy := Policy{Identity: member}
			policy.Sets[Arriving], policy.Sets[Leaving] = nothing.ID, nothing.ID
			b.putPolicy(b.port1, policy, nothing)
			verdict, _ := way.answer(b)
			at := b.port1.IfIndex
			if way.dst == addr2 {
				at = b.port2.IfIndex
			}
			b.wantDrop(verdict, DropPolicyGroup, at)
		})
	}
	b := awaitBench(t)
	verdict, _ := b.fromPort(b.port1, tcpFrame(mac1, RouterMAC(), addr1, farAddr, 1000, 80, false))
	wantVerdict(t, verdict, tcRedirect)
	answer := tcpFrame(mac2, RouterMAC(), farAddr, addr1, 80, 1000, true)
	verdict, _ = b.fromWire(tunnelled(otherIP, localIP, label1, 50000, answer))
	b.wantDrop(verdict, DropTunnelSource, b.port1.IfIndex)
	verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, label2, 50000, answer))
	b.wantDrop(verdict, DropDestinationAddress, b.port2.IfIndex)
	b.must(b.dp.DeleteRoute(host(vrf, farAddr)))
	verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, answer))
	b.wantDrop(verdict, DropNoSourceRoute, b.port1.IfIndex)
}

// TestNetAwaitedByNobody: what comes by VXLAN is for whom the routes say.
func TestNetAwaitedByNobody(t *testing.T) {
	b := awaitBench(t)
	b.must(b.dp.PutRoute(host(vrf, farAddr), NextHop{Kind: Tunnel, Remote: remoteIP, Encapsulation: VXLAN, VNI: farVNI}))
	verdict, _ := b.fromPort(b.port1, tcpFrame(mac1, RouterMAC(), addr1, farAddr, 1000, 80, false))
	wantVerdict(t, verdict, tcRedirect)
	if f, ok := b.answerOf(); ok {
		t.Errorf("entry is %+v, want none", f)
	}
}

// TestNetAnswersGoWithTheirQuestion: an answer without what it answers goes as soon
// as that would, or by age where nobody swept in time.
func TestNetAnswersGoWithTheirQuestion(t *testing.T) {
	b := newBench(t)
	now, err := Now()
	b.must(err)
	ages := DefaultAges()
	converse := func() (begun rawFlow) {
		for range 2 {
			b.fromPort(b.port1, tcpFrame(mac1, RouterMAC(), addr1, farAddr, 1000, 80, false))
			b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, tcpFrame(mac2, RouterMAC(), farAddr, addr1, 80, 1000, true)))
		}
		for f, err := range b.dp.rawFlows() {
			b.must(err)
			if f.value.Role != flowAnswers {
				begun = f
			}
		}
		return begun
	}
	sweep := func(after time.Duration, want int) {
		t.Helper()
		_, live, err := b.dp.SweepFlows(now+after, ages)
		b.must(err)
		if live != want {
			t.Errorf("%s later %d flows are left, want %d", after, live, want)
		}
	}
	converse()
	sweep(ages.Unanswered+5*time.Second, 2)
	sweep(ages.TCP-5*time.Second, 2)
	begun := converse()
	b.must(b.dp.maps().FlowV3.Delete(begun.key))
	sweep(ages.Unanswered-5*time.Second, 1)
	sweep(ages.Unanswered+5*time.Second, 0)
	begun = converse()
	b.must(b.dp.maps().FlowV3.Delete(begun.key))
	sweep(ages.Unanswered+quietAfter+5*time.Second, 1)
	sweep(ages.TCP+5*time.Second, 0)
}
