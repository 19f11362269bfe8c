//go:build net

package dataplane

import (
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func (b *bench) send(p Port, dst netip.Addr, sport int) uint32 {
	b.t.Helper()
	ip := ipv4(p.Addresses[0], dst, layers.IPProtocolUDP)
	verdict, _ := b.fromPort(p, serialize(ethernet(p.MAC, RouterMAC()), ip, udp(ip, sport, 53), payload))
	return verdict
}

// receive sends the port a datagram through the tunnel.
func (b *bench) receive(sport, dport int) uint32 {
	b.t.Helper()
	return b.receiveFrom(farAddr, addr1, sport, dport)
}

func (b *bench) receiveFrom(src, dst netip.Addr, sport, dport int) uint32 {
	b.t.Helper()
	ip := ipv4(src, dst, layers.IPProtocolUDP)
	inner := serialize(ethernet(mac1, RouterMAC()), ip, udp(ip, sport, dport), payload)
	verdict, _ := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, inner))
	return verdict
}

// answer has port1 answer a datagram that came for its port 53.
func (b *bench) answer(dst netip.Addr, dport int) uint32 {
	b.t.Helper()
	ip := ipv4(addr1, dst, layers.IPProtocolUDP)
	verdict, _ := b.fromPort(b.port1, serialize(ethernet(mac1, RouterMAC()), ip, udp(ip, 53, dport), payload))
	return verdict
}

func (b *bench) wantCounts(p Port, own, others FlowCount) {
	b.t.Helper()
	if o, i, err := b.dp.PortFlowCount(p.IfIndex); err != nil || o != own || i != others {
		b.t.Errorf("port began %+v, others towards it %+v, %v, want %+v and %+v", o, i, err, own, others)
	}
}

// bounds are the two quotas of a port.
func bounds(flows, unanswered uint32) func(*Config) {
	return func(c *Config) { c.PortFlows, c.PortUnanswered = flows, unanswered }
}

func TestNetQuotaRefusesNewFlowsOnly(t *testing.T) {
	b := newBench(t, bounds(3, 3))
	for sport := 1; sport <= 3; sport++ {
		wantVerdict(t, b.send(b.port1, farAddr, sport), tcRedirect)
	}
	b.wantDrop(b.send(b.port1, farAddr, 4), DropFlowQuota, b.port1.IfIndex)
	// Established flows and other ports go on.
	wantVerdict(t, b.send(b.port1, farAddr, 2), tcRedirect)
	wantVerdict(t, b.send(b.port2, farAddr, 4), tcRedirect)
	// So do established flows that are decided anew.
	b.must(b.dp.PutRoute(host(vrf, otherIP), NextHop{}))
	wantVerdict(t, b.send(b.port1, farAddr, 3), tcRedirect)
	b.wantCounts(b.port1, FlowCount{3, 3}, FlowCount{})
	// What the sweep removes is free again.
	now, err := Now()
	b.must(err)
	removed, live, err := b.dp.SweepFlows(now+time.Hour, DefaultAges())
	if err != nil || removed != 4 || live != 0 {
		t.Fatalf("sweep removed %d and left %d, %v, want 4 and 0", removed, live, err)
	}
	wantVerdict(t, b.send(b.port1, farAddr, 4), tcRedirect)
}

func TestNetFloodLeavesThePortItsOwnFlows(t *testing.T) {
	b := newBench(t, bounds(3, 3))
	for sport := 1; sport <= 3; sport++ {
		wantVerdict(t, b.receive(sport, 53), tcRedirect)
	}
	b.wantDrop(b.receive(4, 53), DropFlowQuota, b.port1.IfIndex)
	// The port answers all that came, which is none of its own flows.
	for sport := 1; sport <= 3; sport++ {
		wantVerdict(t, b.answer(farAddr, sport), tcRedirect)
	}
	b.wantCounts(b.port1, FlowCount{}, FlowCount{3, 0})
	// It begins as many, and their answers come in beyond what others may begin.
	for sport := 1001; sport <= 1003; sport++ {
		wantVerdict(t, b.send(b.port1, farAddr, sport), tcRedirect)
		wantVerdict(t, b.receive(53, sport), tcRedirect)
	}
	b.wantDrop(b.send(b.port1, farAddr, 1004), DropFlowQuota, b.port1.IfIndex)
	b.wantDrop(b.receive(4, 53), DropFlowQuota, b.port1.IfIndex)
	b.wantCounts(b.port1, FlowCount{3, 0}, FlowCount{3, 0})
	now, err := Now()
	b.must(err)
	if removed, live, err := b.dp.SweepFlows(now+time.Minute, DefaultAges()); err != nil || removed != 0 || live != 12 {
		t.Errorf("sweep removed %d and left %d, %v, want all 12 left", removed, live, err)
	}
	b.wantCounts(b.port1, FlowCount{3, 0}, FlowCount{3, 0})
}

// TestNetUnansweredFlowsAreFewer: of what has no answer a port may have less;
// an answer makes room.
func TestNetUnansweredFlowsAreFewer(t *testing.T) {
	b := newBench(t, bounds(100, 2))
	for sport := 1; sport <= 2; sport++ {
		wantVerdict(t, b.send(b.port1, farAddr, sport), tcRedirect)
		wantVerdict(t, b.receive(sport, 80), tcRedirect)
	}
	b.wantDrop(b.send(b.port1, farAddr, 3), DropFlowUnanswered, b.port1.IfIndex)
	b.wantDrop(b.receive(3, 80), DropFlowUnanswered, b.port1.IfIndex)
	wantVerdict(t, b.receive(53, 1), tcRedirect)
	b.wantCounts(b.port1, FlowCount{2, 1}, FlowCount{2, 2})
	wantVerdict(t, b.send(b.port1, farAddr, 3), tcRedirect)
	b.wantDrop(b.send(b.port1, farAddr, 4), DropFlowUnanswered, b.port1.IfIndex)

	// The ports of one node count the same among them.
	wantVerdict(t, b.send(b.port2, addr1, 7), tcRedirect)
	b.wantCounts(b.port2, FlowCount{1, 1}, FlowCount{})
	wantVerdict(t, b.answer(addr2, 7), tcRedirect)
	b.wantCounts(b.port2, FlowCount{1, 0}, FlowCount{})
	b.wantCounts(b.port1, FlowCount{3, 2}, FlowCount{2, 2})

	// One that was forgotten while its answers were not begins with an answer.
	now, err := Now()
	b.must(err)
	for _, f := range b.flows() {
		if f.Direction == FromPort && f.SrcPort == 1 {
			_, _, err := b.dp.sweep(func(r rawFlow) bool { return r.key.Dir == flowFromPort && swap16(r.key.Sport) == 1 })
			b.must(err)
		}
	}
	wantVerdict(t, b.send(b.port1, farAddr, 1), tcRedirect)
	b.wantCounts(b.port1, FlowCount{3, 2}, FlowCount{2, 2})
	if _, _, err := b.dp.SweepFlows(now, DefaultAges()); err != nil {
		t.Fatal(err)
	}
	b.wantCounts(b.port1, FlowCount{3, 2}, FlowCount{2, 2})
}

// TestNetFloodToFloatingAddress: neither what comes for a floating address, nor
// what the port answers, nor the entries made for that in advance, take anything
// from what the port may begin.
func TestNetFloodToFloatingAddress(t *testing.T) {
	b := newBench(t, bounds(10, 4))
	b.float(ForeignAddress{Address: floating, VRF: poolVRF, Fixed: addr1})
	accepted := 0
	for sport := 1; sport <= 100; sport++ {
		if b.receiveFrom(outside, floating, sport, 53) != tcRedirect {
			continue
		}
		accepted++
		if sport%4 != 0 {
			wantVerdict(t, b.answer(outside, sport), tcRedirect)
		}
	}
	b.wantCounts(b.port1, FlowCount{}, FlowCount{10, 2})
	if accepted != 10 || len(b.flows()) != 20 {
		t.Errorf("%d of the flood are accepted with %d entries, want 10 with 20", accepted, len(b.flows()))
	}
	b.forgetDrops()
	for sport := 1001; sport <= 1010; sport++ {
		wantVerdict(t, b.send(b.port1, farAddr, sport), tcRedirect)
		wantVerdict(t, b.receive(53, sport), tcRedirect)
	}
	b.wantDrop(b.send(b.port1, farAddr, 1011), DropFlowQuota, b.port1.IfIndex)
	b.wantCounts(b.port1, FlowCount{10, 0}, FlowCount{10, 2})
}

// TestNetErrorsAreAnsweredByNobody: an error message about a flow to a floating
// address makes no entry, of whomever it is.
func TestNetErrorsAreAnsweredByNobody(t *testing.T) {
	b := newBench(t)
	b.float(ForeignAddress{Address: floating, VRF: poolVRF, Fixed: addr1})
	dns := someSet("dns", allow(17, 53, anyone, anyone))
	policy := Policy{Identity: member}
	policy.Sets[Leaving] = dns.ID
	b.putPolicy(b.port1, policy, dns)
	verdict, sent := b.fromPort(b.port1, udpFrame(mac1, addr1, outside))
	wantVerdict(t, verdict, tcRedirect)
	before := len(b.flows())
	for i := range 10 {
		router := netip.AddrFrom4([4]byte{203, 0, 113, byte(100 + i)})
		message := serialize(ethernet(mac1, RouterMAC()), ipv4(router, floating, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(11, 0)}, gopacket.Payload(sent[14+overhead:]))
		verdict, _ := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, message))
		wantVerdict(t, verdict, tcRedirect)
	}
	if after := b.flows(); len(after) != before {
		t.Errorf("%d entries became %d: %+v", before, len(after), after)
	}
}

// TestNetAnswersAreAsManyAsFlows: what comes to another address of the port than
// the one that it began a flow from is no answer to that.
func TestNetAnswersAreAsManyAsFlows(t *testing.T) {
	b := newBench(t)
	b.float(ForeignAddress{Address: floating, VRF: poolVRF, Fixed: addr1}, ForeignAddress{Address: floating2, VRF: poolVRF, Fixed: addr1})
	verdict, out := b.fromPort(b.port1, udpFrame(mac1, addr1, outside))
	wantVerdict(t, verdict, tcRedirect)
	b.wantInner(out, true, floating, outside)
	wantVerdict(t, b.receiveFrom(outside, floating, 53, 1000), tcRedirect)
	b.wantCounts(b.port1, FlowCount{1, 0}, FlowCount{})
	wantVerdict(t, b.receiveFrom(outside, floating2, 53, 1000), tcRedirect)
	b.wantCounts(b.port1, FlowCount{1, 0}, FlowCount{1, 1})
}

// TestNetCrowdedTable: a port that fills half of the table gets no more, while
// others have their share of what is left.
func TestNetCrowdedTable(t *testing.T) {
	b := newBench(t, bounds(1000, 1000), func(c *Config) { c.FlowEntries = 64 })
	for sport := 1; sport <= 16; sport++ {
		wantVerdict(t, b.send(b.port1, farAddr, sport), tcRedirect)
	}
	b.wantDrop(b.send(b.port1, farAddr, 17), DropFlowTableFull, b.port1.IfIndex)
	const share = 64 / 8 / 2
	for sport := 1; sport <= share; sport++ {
		wantVerdict(t, b.send(b.port2, farAddr, sport), tcRedirect)
		wantVerdict(t, b.receive(sport, 80), tcRedirect)
	}
	b.wantDrop(b.send(b.port2, farAddr, share+1), DropFlowTableFull, b.port2.IfIndex)
	b.wantDrop(b.receive(share+1, 80), DropFlowTableFull, b.port1.IfIndex)
	for sport := 1; sport <= 16; sport++ { // established
		wantVerdict(t, b.send(b.port1, farAddr, sport), tcRedirect)
	}
	// What goes makes room again, and a restart counts the same.
	b.must(b.dp.Close())
	b.open()
	b.wantDrop(b.send(b.port2, farAddr, share+1), DropFlowTableFull, b.port2.IfIndex)
	now, err := Now()
	b.must(err)
	_, _, err = b.dp.SweepFlows(now+time.Hour, DefaultAges())
	b.must(err)
	wantVerdict(t, b.send(b.port2, farAddr, share+1), tcRedirect)
}

func TestNetFullTableKeepsEstablishedFlows(t *testing.T) {
	b := newBench(t, func(c *Config) { c.FlowEntries = 8 })
	wantVerdict(t, b.send(b.port1, farAddr, 1), tcRedirect)
	for f, err := range b.dp.rawFlows() {
		b.must(err)
		for i := range uint32(7) { // as a count that a crash left too low
			f.key.Scope = 1000 + i
			b.must(b.dp.maps().FlowV3.Put(f.key, f.value))
		}
		break
	}
	b.wantDrop(b.send(b.port2, farAddr, 1), DropFlowTableFull, b.port2.IfIndex)
	wantVerdict(t, b.send(b.port1, farAddr, 1), tcRedirect)
	b.wantCounts(b.port1, FlowCount{1, 1}, FlowCount{})
	b.wantCounts(b.port2, FlowCount{}, FlowCount{}) // refused ones do not count
}

// TestNetHalfOpenConnectionsGoSoon: a connection that was begun by one packet and
// never used is forgotten as if it had no answer.
func TestNetHalfOpenConnectionsGoSoon(t *testing.T) {
	b := newBench(t)
	segment := func(ack bool, sport int) {
		t.Helper()
		ip := ipv4(farAddr, addr1, layers.IPProtocolTCP)
		head := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: 80, SYN: !ack, ACK: ack}
		head.SetNetworkLayerForChecksum(ip)
		verdict, _ := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, serialize(ethernet(mac1, RouterMAC()), ip, head)))
		wantVerdict(t, verdict, tcRedirect)
		ip = ipv4(addr1, farAddr, layers.IPProtocolTCP)
		head = &layers.TCP{SrcPort: 80, DstPort: layers.TCPPort(sport), SYN: !ack, ACK: true}
		head.SetNetworkLayerForChecksum(ip)
		verdict, _ = b.fromPort(b.port1, serialize(ethernet(mac1, RouterMAC()), ip, head))
		wantVerdict(t, verdict, tcRedirect)
	}
	segment(false, 1)
	segment(false, 2)
	segment(true, 2)
	now, err := Now()
	b.must(err)
	for range 2 { // the answer goes when there is no question
		_, _, err := b.dp.SweepFlows(now+DefaultAges().Unanswered+time.Second, DefaultAges())
		b.must(err)
	}
	left := b.flows()
	if len(left) != 2 || min(left[0].SrcPort, left[0].DstPort) != 2 {
		t.Errorf("left are %+v, want both directions of port 2", left)
	}
}

// TestNetFloodTraffic: a container that is flooded at its floating address, and
// answers, talks to others as if nothing was.
func TestNetFloodTraffic(t *testing.T) {
	c := newCluster(t, 2)
	victim, peer := c.container(0, 2, "10.2.0.3"), c.container(1, 2, "10.2.0.4")
	attackers := []*container{c.container(1, 9, "198.51.100.10"), c.container(1, 9, "198.51.100.11")}
	c.connect()
	victim.port.Foreign = []ForeignAddress{{Address: floating, VRF: 9, Fixed: victim.addr}}
	victim.node.Must(func() error { return victim.node.dp.PutPort(victim.port) })
	for _, n := range c.nodes {
		if err := n.dp.PutRoute(host(9, floating), victim.nextHop(n)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := victim.Run("ip", "route", "add", "198.51.100.0/24", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	victim.serve(t)
	peer.serve(t)
	full := func() bool {
		_, others, err := victim.node.dp.PortFlowCount(victim.port.IfIndex)
		if err != nil {
			t.Fatal(err)
		}
		return others.Flows >= 8192/16
	}
	deadline := time.Now().Add(patience)
	for sport := 1; !full(); sport++ {
		if sport > 60000 || time.Now().After(deadline) {
			t.Fatal("the flood does not use up what others may begin")
		}
		for _, a := range attackers {
			ip := ipv4(a.addr, floating, layers.IPProtocolTCP)
			head := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: 7, SYN: true, Window: 1000}
			head.SetNetworkLayerForChecksum(ip)
			if err := a.inject(serialize(ethernet(a.port.MAC, RouterMAC()), ip, head)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 20 {
		if err := victim.tcp(peer.addr, 1000); err != nil {
			c.dump()
			t.Fatal(err)
		}
	}
	if own, _, err := victim.node.dp.PortFlowCount(victim.port.IfIndex); err != nil || own.Flows < 20 || own.Flows > 30 {
		t.Errorf("the victim has begun %+v flows, %v, want its 20", own, err)
	}
}
