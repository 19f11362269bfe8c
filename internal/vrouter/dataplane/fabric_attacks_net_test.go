//go:build net

package dataplane

import (
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
)

// TestNetNATOfOthersStays: a container had a flow within the overlay, from a source
// port that is another's port of the node by now, to an address that is outside
// since its route went. What refuses the old flow ends nobody else's answers, and
// that it was an answer opens nothing.
func TestNetNATOfOthersStays(t *testing.T) {
	b := newBench(t)
	b.putFabric()
	for _, p := range []Port{b.port1, b.port2} {
		b.must(b.dp.PutSNAT(p.IfIndex, fabricNet))
	}
	far := ap(outsider, 53)
	s := b.leaves(b.port2, udpBetween(mac2, ap(addr2, 40000), far, 64), far)
	answer := udpBetween(nic, far, ap(localIP, s), 64)
	b.arrives(b.port2, answer, far, ap(addr2, 40000))

	route := RouteKey{vrf, netip.PrefixFrom(outsider, 32)}
	b.must(b.dp.PutRoute(route, NextHop{Kind: Tunnel, Remote: remoteIP, Label: farLabel}))
	old := udpBetween(mac1, ap(addr1, s), far, 64)
	verdict, _ := b.fromPort(b.port1, old)
	wantVerdict(t, verdict, tcRedirect)
	closed := Policy{Identity: NewIdentity(vrf, nil, nil)}
	closed.Sets[Leaving] = nothing.ID
	b.putPolicy(b.port1, closed, nothing)
	b.must(b.dp.DeleteRoute(route))
	b.forgetDrops()
	verdict, _ = b.fromPort(b.port1, old)
	b.wantDrop(verdict, DropPolicyGroup, b.port1.IfIndex)
	b.arrives(b.port2, answer, far, ap(addr2, 40000))

	// The same of a flow that answered.
	b.forgetFlows()
	b.must(b.dp.PutRoute(route, NextHop{Kind: Tunnel, Remote: remoteIP, Label: farLabel}))
	question := ipv4(outsider, addr1, layers.IPProtocolUDP)
	verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, label1, 50000,
		serialize(ethernet(farMAC, mac1), question, udp(question, 53, int(s)), payload)))
	wantVerdict(t, verdict, tcRedirect)
	verdict, _ = b.fromPort(b.port1, old)
	wantVerdict(t, verdict, tcRedirect)
	b.must(b.dp.DeleteRoute(route))
	b.forgetDrops()
	verdict, _ = b.fromPort(b.port1, old)
	b.wantDrop(verdict, DropPolicyGroup, b.port1.IfIndex)
}

// TestNetNATWithoutOptions: IP options do not leave as the node's.
func TestNetNATWithoutOptions(t *testing.T) {
	b := newBench(t)
	b.putFabric()
	b.must(b.dp.PutSNAT(b.port1.IfIndex, fabricNet))
	ip := ipv4(addr1, outsider, layers.IPProtocolUDP)
	ip.Options = []layers.IPv4Option{{OptionType: 131, OptionLength: 7, OptionData: []byte{4, 172, 31, 0, 12}}, {OptionType: 0}}
	verdict, _ := b.fromPort(b.port1, serialize(ethernet(mac1, RouterMAC()), ip, udp(ip, 1000, 53), payload))
	b.wantDrop(verdict, DropNatProtocol, b.port1.IfIndex)
}

// TestNetAnswersAreHeldToTheirQuestion: as long as answers come, what they answer is
// there and counted: else a port could have as many answers as the table holds.
func TestNetAnswersAreHeldToTheirQuestion(t *testing.T) {
	b := newBench(t)
	ip := ipv4(addr1, farAddr, layers.IPProtocolTCP)
	head := &layers.TCP{SrcPort: 1000, DstPort: 80, SYN: true}
	head.SetNetworkLayerForChecksum(ip)
	verdict, _ := b.fromPort(b.port1, serialize(ethernet(mac1, RouterMAC()), ip, head))
	wantVerdict(t, verdict, tcRedirect)
	ip = ipv4(farAddr, addr1, layers.IPProtocolTCP)
	head = &layers.TCP{SrcPort: 80, DstPort: 1000, SYN: true, ACK: true}
	head.SetNetworkLayerForChecksum(ip)
	verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, serialize(ethernet(farMAC, mac1), ip, head)))
	wantVerdict(t, verdict, tcRedirect)
	later, err := Now()
	b.must(err)
	for range 3 {
		later += DefaultAges().Unanswered - time.Second
		b.touchFlows(flowFromTunnel, later)
		b.sweepAt(later, 2)
		b.wantCounts(b.port1, FlowCount{1, 0}, FlowCount{})
	}
	later += DefaultAges().Unanswered + time.Second
	if _, _, err := b.dp.SweepFlows(later, DefaultAges()); err != nil { // it may meet the answer first
		t.Fatal(err)
	}
	b.sweepAt(later, 0)
	b.wantCounts(b.port1, FlowCount{}, FlowCount{})
}
