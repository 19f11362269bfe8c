//go:build net

package dataplane

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

const (
	vni     = 5007
	farVNI  = 6007
	nearVRF = 8
)

var farMAC = MAC{2, 0, 0, 0, 0, 9}

// newTunnelBench is a bench with a second network, and with a neighbour by GRE
// and one by VXLAN.
func newTunnelBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	b.must(errors.Join(
		b.dp.PutVNI(vni, vrf), b.dp.PutVNI(vni+1, nearVRF),
		b.dp.PutRoutes(map[RouteKey]NextHop{
			host(vrf, farAddr):  {Kind: Tunnel, Remote: remoteIP, Encapsulation: MPLSoGRE, Label: farLabel},
			host(vrf, farAddr2): {Kind: Tunnel, Remote: remoteIP, Encapsulation: VXLAN, VNI: farVNI, MAC: farMAC},
			// The other network knows addresses of this one.
			host(nearVRF, addr1):    {Kind: Local, Label: label1},
			host(nearVRF, farAddr2): {Kind: Tunnel, Remote: remoteIP, Encapsulation: VXLAN, VNI: farVNI},
		})))
	return b
}

func TestNetEncapsulationsOfRoutes(t *testing.T) {
	b := newTunnelBench(t)
	for range 2 { // the first packet decides, the second finds the flow
		frame := udpFrame(mac1, addr1, farAddr)
		verdict, out := b.fromPort(b.port1, frame)
		wantVerdict(t, verdict, tcRedirect)
		wantFrame(t, out[14:], byGRE(localIP, remoteIP, farLabel, routed(frame, mac2))[14:])

		frame = udpFrame(mac1, addr1, farAddr2)
		verdict, out = b.fromPort(b.port1, frame)
		wantVerdict(t, verdict, tcRedirect)
		sport := binary.BigEndian.Uint16(out[14+20:])
		if sport < 49152 {
			t.Errorf("outer source port %d is below 49152", sport)
		}
		wantFrame(t, out[14:], byVXLAN(localIP, remoteIP, farVNI, sport, between(mac1, farMAC, routed(frame, mac2)))[14:])
	}
	// Who is not told the receiver's MAC sends to the router there.
	b.must(b.dp.PutRoute(host(vrf, farAddr2), NextHop{Kind: Tunnel, Remote: remoteIP, Encapsulation: VXLAN, VNI: farVNI}))
	_, out := b.fromPort(b.port1, udpFrame(mac1, addr1, farAddr2))
	if got := MAC(out[14+36:]); got != RouterMAC() {
		t.Errorf("inner destination is %s, want %s", got, RouterMAC())
	}
}

func TestNetTunnelsAreTaken(t *testing.T) {
	b := newTunnelBench(t)
	for range 2 {
		inner := udpFrame(mac2, farAddr, addr1)
		delivered := between(RouterMAC(), mac1, inner)
		verdict, out := b.fromWire(byGRE(remoteIP, localIP, label1, inner))
		wantVerdict(t, verdict, tcRedirect)
		wantFrame(t, out, delivered)
		// How the way back is encapsulated matters not.
		verdict, out = b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, inner))
		wantVerdict(t, verdict, tcRedirect)
		wantFrame(t, out, delivered)
		for _, to := range []MAC{mac1, RouterMAC()} {
			verdict, out = b.fromWire(byVXLAN(remoteIP, localIP, vni, 50000, between(farMAC, to, inner)))
			wantVerdict(t, verdict, tcRedirect)
			wantFrame(t, out, delivered)
		}
	}
	for _, f := range b.flows() {
		if f.IfIndex != b.port1.IfIndex || f.VRF != vrf || f.OuterSource != remoteIP || f.Label != 0 && f.Label != label1 {
			t.Errorf("flow is %+v", f)
		}
	}
	// Who answers is known as that, whichever side begins.
	out := ipv4(farAddr2, addr1, layers.IPProtocolUDP)
	begin := serialize(ethernet(farMAC, mac1), out, udp(out, 2000, 80), payload)
	back := ipv4(addr1, farAddr2, layers.IPProtocolUDP)
	b.fromWire(byVXLAN(remoteIP, localIP, vni, 50000, begin))
	b.fromPort(b.port1, serialize(ethernet(mac1, RouterMAC()), back, udp(back, 80, 2000), payload))
	for _, f := range b.flows() {
		if ports := [2]uint16{f.SrcPort, f.DstPort}; ports == [2]uint16{80, 2000} != f.Answers {
			t.Errorf("flow is %+v", f)
		}
	}
	// Of an answered flow each direction finds the other's entry.
	b.fromPort(b.port1, udpFrame(mac1, addr1, farAddr2))
	now, err := Now()
	b.must(err)
	reply := ipv4(farAddr2, addr1, layers.IPProtocolUDP)
	answer := serialize(ethernet(farMAC, mac1), reply, udp(reply, 53, 1000), payload)
	verdict, _ := b.fromWire(byVXLAN(remoteIP, localIP, vni, 50000, answer))
	wantVerdict(t, verdict, tcRedirect)
	later := DefaultAges().Unanswered * 2
	if _, live, err := b.dp.SweepFlows(now+later, DefaultAges()); err != nil || live != 4 {
		t.Errorf("%d flows are left, %v, want the four that answer each other: %+v", live, err, b.flows())
	}
}

// A far end that sends in another encapsulation than it takes answers all the
// same, and may say what is wrong with what it was sent.
func TestNetAnswersInAnotherEncapsulation(t *testing.T) {
	b := newTunnelBench(t)
	dns := someSet("dns", allow(17, 53, anyone, anyone))
	policy := Policy{Identity: member}
	policy.Sets[Leaving], policy.Sets[Arriving] = dns.ID, nothing.ID
	b.putPolicy(b.port1, policy, dns, nothing)
	wire := map[netip.Addr]func(inner []byte) []byte{
		farAddr:  func(inner []byte) []byte { return byVXLAN(remoteIP, localIP, vni, 50000, between(farMAC, mac1, inner)) },
		farAddr2: func(inner []byte) []byte { return byGRE(remoteIP, localIP, label1, inner) },
	}
	for far, by := range wire {
		verdict, _ := b.fromPort(b.port1, udpFrame(mac1, addr1, far))
		wantVerdict(t, verdict, tcRedirect)
		ip := ipv4(far, addr1, layers.IPProtocolUDP)
		verdict, _ = b.fromWire(by(serialize(ethernet(farMAC, mac1), ip, udp(ip, 53, 1000), payload)))
		wantVerdict(t, verdict, tcRedirect)
	}
	now, err := Now()
	b.must(err)
	if _, live, err := b.dp.SweepFlows(now+DefaultAges().Unanswered*2, DefaultAges()); err != nil || live != 4 {
		t.Errorf("%d flows are left, %v, want the four that answer each other: %+v", live, err, b.flows())
	}
	b.forgetFlows()
	policy.Sets[Arriving], policy.Sets[Leaving] = dns.ID, nothing.ID
	b.putPolicy(b.port1, policy, dns, nothing)
	for far, by := range wire {
		ip := ipv4(far, addr1, layers.IPProtocolUDP)
		asked := serialize(ethernet(farMAC, mac1), ip, udp(ip, 1000, 53), payload)
		verdict, _ := b.fromWire(by(asked))
		wantVerdict(t, verdict, tcRedirect)
		verdict, _ = b.fromPort(b.port1, serialize(ethernet(mac1, RouterMAC()), ipv4(addr1, far, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort)},
			gopacket.Payload(asked[14:])))
		wantVerdict(t, verdict, tcRedirect)
	}
}

func TestNetRefusedFromVXLAN(t *testing.T) {
	b := newTunnelBench(t)
	good := between(farMAC, mac1, udpFrame(mac1, farAddr2, addr1))
	wire := func(vni uint32, inner []byte) []byte { return byVXLAN(remoteIP, localIP, vni, 50000, inner) }
	noVNI := wire(vni, good)
	noVNI[14+28] = 0
	ipv6 := append([]byte{}, good...)
	ipv6[12], ipv6[13] = 0x86, 0xdd
	mpls := append([]byte{}, good...)
	mpls[12], mpls[13] = 0x88, 0x47
	at1, eth0 := b.port1.IfIndex, b.eth0
	cases := []struct {
		name   string
		frame  []byte
		reason DropReason
		at     int
	}{
		{"unknown VNI", wire(4242, good), DropVNI, eth0},
		{"VNI of the far end", wire(farVNI, good), DropVNI, eth0},
		{"VNI of another network here", wire(vni+1, good), DropDestinationAddress, at1},
		{"flag is not set", noVNI, DropMalformed, eth0},
		{"cut off", wire(vni, good)[:14+49], DropMalformed, eth0},
		{"nothing inside", wire(vni, good[:14]), DropMalformed, eth0},
		{"IPv4 as IPv6", wire(vni, ipv6), DropMalformed, eth0},
		{"MPLS", wire(vni, mpls), DropProtocol, eth0},
		{"broadcast", wire(vni, between(farMAC, MAC{255, 255, 255, 255, 255, 255}, good)), DropMulticast, eth0},
		{"frame for another", wire(vni, between(farMAC, mac2, good)), DropDestinationMAC, at1},
		{"destination is nobody's", wire(vni, between(farMAC, mac1, udpFrame(mac1, farAddr2, netip.MustParseAddr("10.40.0.1")))), DropDestinationAddress, eth0},
		{"destination is far away", wire(vni, between(farMAC, mac1, udpFrame(mac1, farAddr2, farAddr))), DropDestinationAddress, eth0},
		{"outer source is another node", byVXLAN(otherIP, localIP, vni, 50000, good), DropTunnelSource, at1},
		{"inner source is local", wire(vni, between(farMAC, mac1, udpFrame(mac1, addr2, addr1))), DropTunnelSource, at1},
		{"inner source unknown", wire(vni, between(farMAC, mac1, udpFrame(mac1, netip.MustParseAddr("10.40.0.1"), addr1))), DropNoSourceRoute, at1},
	}
	for _, established := range []bool{false, true} {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				b.t = t
				verdict, _ := b.fromWire(c.frame)
				b.wantDrop(verdict, c.reason, c.at)
			})
		}
		b.t = t
		if n := len(b.flows()); !established && n != 0 {
			t.Errorf("refused packets made %d flows", n)
		}
		verdict, _ := b.fromWire(wire(vni, good))
		wantVerdict(t, verdict, tcRedirect)
	}
	// A network that has no port here any more takes nothing, flow or not.
	b.must(b.dp.DeleteVNI(vni))
	verdict, _ := b.fromWire(wire(vni, good))
	b.wantDrop(verdict, DropVNI, eth0)
}

// A neighbour that bridges asks all nodes of the network; the one that has the
// address answers for its port.
func TestNetAnswersNeighbours(t *testing.T) {
	b := newTunnelBench(t)
	everybody := MAC{255, 255, 255, 255, 255, 255}
	request := func(senderMAC MAC, sender, target netip.Addr) *layers.ARP {
		return &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4,
			HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: senderMAC[:], SourceProtAddress: sender.AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice(),
		}
	}
	frame := func(src, dst MAC, arp *layers.ARP) []byte {
		eth := ethernet(src, dst)
		eth.EthernetType = layers.EthernetTypeARP
		return serialize(eth, arp)
	}
	ask := func(from netip.Addr, vni uint32, arp *layers.ARP) []byte {
		return byVXLAN(from, localIP, vni, 50000, frame(farMAC, everybody, arp))
	}
	// A route may be outdated: the port with the label has another address now.
	former := netip.MustParseAddr("10.32.0.90")
	b.must(b.dp.PutRoute(host(vrf, former), NextHop{Kind: Local, Label: label1}))
	good := request(farMAC, farAddr2, addr1)
	verdict, out := b.fromWire(ask(remoteIP, vni, good))
	wantVerdict(t, verdict, tcRedirect)
	reply := request(mac1, addr1, farAddr2)
	reply.Operation, reply.DstHwAddress = layers.ARPReply, hw(farMAC)
	sport := binary.BigEndian.Uint16(out[14+20:])
	wantFrame(t, out[14:], byVXLAN(localIP, remoteIP, farVNI, sport, frame(mac1, farMAC, reply))[14:])

	answer := request(farMAC, farAddr2, addr1)
	answer.Operation = layers.ARPReply
	long := request(farMAC, farAddr2, addr1)
	long.Protocol = layers.EthernetTypeIPv6
	for _, c := range []struct {
		name   string
		frame  []byte
		reason DropReason
	}{
		{"for nobody here", ask(remoteIP, vni, request(farMAC, farAddr2, farAddr)), DropARP},
		{"for an address that the port had", ask(remoteIP, vni, request(farMAC, farAddr2, former)), DropARP},
		{"for an address unknown", ask(remoteIP, vni, request(farMAC, farAddr2, netip.MustParseAddr("10.40.0.1"))), DropARP},
		{"probe", ask(remoteIP, vni, request(farMAC, netip.IPv4Unspecified(), addr1)), DropARP},
		{"reply", ask(remoteIP, vni, answer), DropARP},
		{"other protocol", ask(remoteIP, vni, long), DropMalformed},
		{"cut off", ask(remoteIP, vni, good)[:14+50+27], DropMalformed},
		{"in another network", ask(remoteIP, vni+1, good), DropARP},
		{"in a network unknown", ask(remoteIP, 4242, good), DropVNI},
		{"from elsewhere", ask(otherIP, vni, good), DropTunnelSource},
		{"of a local address", ask(remoteIP, vni, request(mac2, addr2, addr1)), DropTunnelSource},
		{"of one that is reached by MPLS", ask(remoteIP, vni, request(farMAC, farAddr, addr1)), DropTunnelSource},
		{"of nobody known", ask(remoteIP, vni, request(farMAC, netip.MustParseAddr("10.40.0.1"), addr1)), DropNoSourceRoute},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.t = t
			verdict, _ := b.fromWire(c.frame)
			b.wantDrop(verdict, c.reason, b.eth0)
		})
	}
	b.t = t
	blocked := b.port1
	blocked.Blocked = true
	b.putPort(blocked)
	verdict, _ = b.fromWire(ask(remoteIP, vni, good))
	b.wantDrop(verdict, DropARP, b.eth0)
}

func TestNetOtherGREIsTheHosts(t *testing.T) {
	b := newTunnelBench(t)
	good := byGRE(remoteIP, localIP, label1, udpFrame(mac1, farAddr, addr1))
	for name, change := range map[string]func([]byte){
		"with a key": func(f []byte) { f[14+20] = 0x20 },
		"of IPv4":    func(f []byte) { f[14+22], f[14+23] = 8, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			frame := append([]byte{}, good...)
			change(frame)
			verdict, _ := b.fromWire(frame)
			wantVerdict(t, verdict, tcNext)
		})
	}
}

// Each encapsulation has a size of its own.
func TestNetTooBigByEncapsulation(t *testing.T) {
	b := newTunnelBench(t)
	for to, fits := range map[netip.Addr]int{farAddr: 1500 - 28, farAddr2: 1500 - 50} {
		of := func(size int) []byte {
			ip := ipv4(addr1, to, layers.IPProtocolUDP)
			return serialize(ethernet(mac1, RouterMAC()), ip, udp(ip, 1000, 53), make(gopacket.Payload, size-28))
		}
		verdict, _ := b.fromPort(b.port1, of(fits))
		wantVerdict(t, verdict, tcRedirect)
		verdict, _ = b.fromPort(b.port1, of(fits+1))
		b.wantDrop(verdict, DropTooBig, b.port1.IfIndex)
	}
}

// A host behind two routers: what it sends comes by either, and what is for it
// goes to one of them, with its MAC. An address that ports here and elsewhere
// share is delivered to the one here.
func TestNetGroupsByVXLAN(t *testing.T) {
	b := newTunnelBench(t)
	shared := addr1b
	members := func(hops ...NextHop) NextHop {
		list := make([]Member, len(hops))
		for i, h := range hops {
			list[i].NextHop = h
		}
		return Share(list)
	}
	to := func(node netip.Addr) NextHop {
		return NextHop{Kind: Tunnel, Remote: node, Encapsulation: VXLAN, VNI: farVNI, MAC: farMAC}
	}
	routes := map[RouteKey]NextHop{
		host(vrf, farAddr2): members(to(remoteIP), to(otherIP)),
		host(vrf, shared):   members(NextHop{Kind: Local, Label: label1}, NextHop{Kind: Tunnel, Remote: otherIP, Encapsulation: VXLAN, VNI: vni}),
	}
	b.must(b.dp.PutRoutes(routes))
	have, err := b.dp.Routes()
	b.must(err)
	for key, want := range routes {
		if have[key] != want {
			t.Errorf("route %s leads to %s, want %s", key, have[key], want)
		}
	}
	inner := between(farMAC, mac1, udpFrame(mac1, farAddr2, shared))
	for _, node := range []netip.Addr{remoteIP, otherIP} {
		verdict, _ := b.fromWire(byVXLAN(node, localIP, vni, 50000, inner))
		wantVerdict(t, verdict, tcRedirect)
	}
	verdict, _ := b.fromWire(byVXLAN(netip.MustParseAddr("172.31.0.14"), localIP, vni, 50000, inner))
	b.wantDrop(verdict, DropTunnelSource, b.port1.IfIndex)
	verdict, out := b.fromPort(b.port1, udpFrame(mac1, addr1, farAddr2))
	wantVerdict(t, verdict, tcRedirect)
	if MAC(out[14+36:]) != farMAC {
		t.Errorf("inner destination is %s, want %s", MAC(out[14+36:]), farMAC)
	}
	// Nothing of it is left when nothing needs it.
	b.must(b.dp.DeleteRoutes([]RouteKey{host(vrf, farAddr2), host(vrf, shared)}))
	b.must(b.dp.SweepNextHops())
	macs, err := entries[uint32, bpfReceiverMac](b.dp.maps().NextHopMacV1, "MACs")
	if err != nil || len(macs) != 0 {
		t.Errorf("MACs of next hops are left: %v, %v", macs, err)
	}
}
