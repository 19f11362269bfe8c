//go:build net

package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

const poolVRF = 9

var (
	floating  = netip.MustParseAddr("198.51.100.3")
	floating2 = netip.MustParseAddr("198.51.100.4")
	alias     = netip.MustParseAddr("198.51.100.5")
	outside   = netip.MustParseAddr("203.0.113.9")
)

// float gives port1 addresses in the network of the pool, which a remote node
// can reach.
func (b *bench) float(list ...ForeignAddress) {
	b.t.Helper()
	p := b.port1
	p.Foreign = list
	b.putPort(p)
	routes := map[RouteKey]NextHop{{poolVRF, netip.MustParsePrefix("203.0.113.0/24")}: {Kind: Tunnel, Remote: remoteIP, Label: farLabel}}
	for _, f := range list {
		routes[host(f.VRF, f.Address)] = NextHop{Kind: Local, Label: label1}
	}
	b.must(b.dp.PutRoutes(routes))
}

// inner is the packet that a frame of the wire carries, or a frame delivered.
func inner(frame []byte, tunnelled bool) gopacket.Packet {
	at := 14
	if tunnelled {
		at += overhead
	}
	return gopacket.NewPacket(frame[at:], layers.LayerTypeIPv4, gopacket.Default)
}

// wantInner checks addresses, and that the checksums are right.
func (b *bench) wantInner(frame []byte, tunnelled bool, src, dst netip.Addr) {
	b.t.Helper()
	p := inner(frame, tunnelled)
	ip, ok := p.NetworkLayer().(*layers.IPv4)
	if !ok {
		b.t.Fatalf("no packet in %x", frame)
	}
	if got := [2]string{ip.SrcIP.String(), ip.DstIP.String()}; got != [2]string{src.String(), dst.String()} {
		b.t.Errorf("packet is from %s to %s, want %s to %s", got[0], got[1], src, dst)
	}
	again := slices.Clone(ip.LayerContents())
	if fresh := serialize(&layers.Ethernet{SrcMAC: hw(nic), DstMAC: hw(nic), EthernetType: layers.EthernetTypeIPv4}, ip, gopacket.Payload(ip.Payload)); !slices.Equal(fresh[14:34], again) {
		b.t.Errorf("IP header is %x, want %x", again, fresh[14:34])
	}
	if err := checkTransport(p); err != nil {
		b.t.Error(err)
	}
}

// checkTransport recomputes the checksum behind the IP header.
func checkTransport(p gopacket.Packet) error {
	options := gopacket.SerializeOptions{ComputeChecksums: true}
	for _, l := range p.Layers() {
		var have, want uint16
		buf := gopacket.NewSerializeBuffer()
		switch l := l.(type) {
		case *layers.UDP:
			have = l.Checksum
			l.SetNetworkLayerForChecksum(p.NetworkLayer())
			gopacket.SerializeLayers(buf, options, l, gopacket.Payload(l.Payload))
			want = l.Checksum
		case *layers.TCP:
			have = l.Checksum
			l.SetNetworkLayerForChecksum(p.NetworkLayer())
			gopacket.SerializeLayers(buf, options, l, gopacket.Payload(l.Payload))
			want = l.Checksum
		case *layers.ICMPv4:
			have = l.Checksum
			gopacket.SerializeLayers(buf, options, l, gopacket.Payload(l.Payload))
			want = l.Checksum
		}
		if have != want {
			return fmt.Errorf("checksum of %s is %04x, want %04x", l.LayerType(), have, want)
		}
	}
	return nil
}

// TestNetFloatingAddress: what a port sends into the network of its floating
// address is from that; what comes for it is delivered, and answered from it.
func TestNetFloatingAddress(t *testing.T) {
	b := newBench(t)
	fromWire := func(src, dst netip.Addr) (uint32, []byte) {
		return b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, udpFrame(mac1, src, dst)))
	}
	verdict, _ := fromWire(outside, floating)
	b.wantDrop(verdict, DropDestinationAddress, b.port1.IfIndex)
	b.float(ForeignAddress{Address: floating, VRF: poolVRF, Fixed: addr1}, ForeignAddress{Address: floating2, VRF: poolVRF, Fixed: addr1b})

	for range 2 { // the first packet decides, the second finds the flow
		verdict, out := b.fromPort(b.port1, udpFrame(mac1, addr1, outside))
		wantVerdict(t, verdict, tcRedirect)
		b.wantInner(out, true, floating, outside)
		verdict, out = b.fromPort(b.port1, udpFrame(mac1, addr1b, outside))
		wantVerdict(t, verdict, tcRedirect)
		b.wantInner(out, true, floating2, outside)
		verdict, out = fromWire(outside, floating2)
		wantVerdict(t, verdict, tcRedirect)
		b.wantInner(out, false, outside, addr1b)
		// In its own network it is itself.
		verdict, out = b.fromPort(b.port1, udpFrame(mac1, addr1, farAddr))
		wantVerdict(t, verdict, tcRedirect)
		b.wantInner(out, true, addr1, farAddr)
	}
	// Nobody else sends from the address, or gets what is for it.
	verdict, _ = b.fromPort(b.port2, udpFrame(mac2, addr2, outside))
	b.wantDrop(verdict, DropNoRoute, b.port2.IfIndex)
	verdict, _ = b.fromPort(b.port1, udpFrame(mac1, floating, outside))
	b.wantDrop(verdict, DropSourceAddress, b.port1.IfIndex)
	verdict, _ = b.fromWire(tunnelled(otherIP, localIP, label1, 50000, udpFrame(mac1, outside, floating2)))
	b.wantDrop(verdict, DropTunnelSource, b.port1.IfIndex)
	verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, label2, 50000, udpFrame(mac1, outside, floating)))
	b.wantDrop(verdict, DropDestinationAddress, b.port2.IfIndex)

	// The address goes, and what was decided by it.
	b.float()
	verdict, _ = b.fromPort(b.port1, udpFrame(mac1, addr1, outside))
	b.wantDrop(verdict, DropNoRoute, b.port1.IfIndex)
	verdict, _ = fromWire(outside, floating2)
	b.wantDrop(verdict, DropDestinationAddress, b.port1.IfIndex)
}

// TestNetAnswersFromTheAddressAsked: a port with several floating addresses
// answers from the one that was asked, even by one that it begins nothing by.
func TestNetAnswersFromTheAddressAsked(t *testing.T) {
	b := newBench(t)
	b.float(ForeignAddress{Address: floating, VRF: poolVRF, Fixed: addr1},
		ForeignAddress{Address: floating2, VRF: poolVRF, Fixed: addr1, AnswersOnly: true})
	answer := func(port int, want netip.Addr) {
		t.Helper()
		ip := ipv4(addr1, outside, layers.IPProtocolUDP)
		verdict, out := b.fromPort(b.port1, serialize(ethernet(mac1, RouterMAC()), ip, udp(ip, 53, port), payload))
		wantVerdict(t, verdict, tcRedirect)
		b.wantInner(out, true, want, outside)
	}
	for i, asked := range []netip.Addr{floating, floating2} {
		ip := ipv4(outside, asked, layers.IPProtocolUDP)
		frame := serialize(ethernet(mac1, RouterMAC()), ip, udp(ip, 1000+i, 53), payload)
		verdict, out := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, frame))
		wantVerdict(t, verdict, tcRedirect)
		b.wantInner(out, false, outside, addr1)
		for range 2 {
			answer(1000+i, asked)
		}
		b.must(b.dp.PutRoute(host(vrf, otherIP), NextHop{Kind: Tunnel, Remote: otherIP, Label: uint32(20 + i)})) // all is decided anew
		answer(1000+i, asked)
	}
	answer(2000, floating) // asked by nobody
}

// TestNetUnansweredFloating: an entry that waits for an answer does not keep the
// question.
func TestNetUnansweredFloating(t *testing.T) {
	b := newBench(t)
	b.float(ForeignAddress{Address: floating, VRF: poolVRF, Fixed: addr1})
	verdict, _ := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, udpFrame(mac1, outside, floating)))
	wantVerdict(t, verdict, tcRedirect)
	now, err := Now()
	b.must(err)
	if n := len(b.flows()); n != 2 {
		t.Errorf("%d entries, want the question's and the answer's", n)
	}
	for range 2 { // the answer's goes when there is no question
		_, _, err := b.dp.SweepFlows(now+DefaultAges().Unanswered+time.Second, DefaultAges())
		b.must(err)
	}
	if left := b.flows(); len(left) != 0 {
		t.Errorf("left are %+v, want none", left)
	}
}

// TestNetFloatingBothEnds: ports of one node reach each other by their floating
// addresses, both of which are translated.
func TestNetFloatingBothEnds(t *testing.T) {
	b := newBench(t)
	b.float(ForeignAddress{Address: floating, VRF: poolVRF, Fixed: addr1})
	other := b.port2
	other.VRF = vrf + 1
	other.Foreign = []ForeignAddress{{Address: floating2, VRF: poolVRF, Fixed: addr2}}
	b.putPort(other)
	b.must(b.dp.PutRoute(host(poolVRF, floating2), NextHop{Kind: Local, Label: label2}))
	for range 2 {
		verdict, out := b.fromPort(b.port1, udpFrame(mac1, addr1, floating2))
		wantVerdict(t, verdict, tcRedirect)
		b.wantInner(out, false, floating, addr2)
		ip := ipv4(addr2, floating, layers.IPProtocolUDP)
		verdict, out = b.fromPort(other, serialize(ethernet(mac2, RouterMAC()), ip, udp(ip, 53, 1000), payload))
		wantVerdict(t, verdict, tcRedirect)
		b.wantInner(out, false, floating2, addr1)
	}
}

// TestNetAliasAddress: a port uses an alias as it is, in that network alone.
func TestNetAliasAddress(t *testing.T) {
	b := newBench(t)
	b.float(ForeignAddress{Address: alias, VRF: poolVRF, Fixed: alias})
	verdict, out := b.fromPort(b.port1, udpFrame(mac1, alias, outside))
	wantVerdict(t, verdict, tcRedirect)
	b.wantInner(out, true, alias, outside)
	verdict, out = b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, udpFrame(mac1, outside, alias)))
	wantVerdict(t, verdict, tcRedirect)
	b.wantInner(out, false, outside, alias)
	verdict, _ = b.fromPort(b.port1, udpFrame(mac1, alias, farAddr))
	b.wantDrop(verdict, DropNoRoute, b.port1.IfIndex)
	verdict, _ = b.fromPort(b.port1, udpFrame(mac1, addr1, outside))
	b.wantDrop(verdict, DropNoRoute, b.port1.IfIndex)
}

// TestNetQuoteIsTranslated: an error message about a translated packet quotes it
// as its sender knows it.
func TestNetQuoteIsTranslated(t *testing.T) {
	b := newBench(t)
	b.float(ForeignAddress{Address: floating, VRF: poolVRF, Fixed: addr1})
	verdict, sent := b.fromPort(b.port1, udpFrame(mac1, addr1, outside))
	wantVerdict(t, verdict, tcRedirect)
	message := func(src, dst netip.Addr, quote []byte) []byte {
		return serialize(ethernet(mac1, RouterMAC()), ipv4(src, dst, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: 1400}, gopacket.Payload(quote))
	}
	wantQuote := func(frame []byte, tunnelled bool, src, dst netip.Addr) {
		t.Helper()
		icmp := inner(frame, tunnelled).Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		quoted := gopacket.NewPacket(icmp.Payload, layers.LayerTypeIPv4, gopacket.Default).NetworkLayer().(*layers.IPv4)
		if quoted.SrcIP.String() != src.String() || quoted.DstIP.String() != dst.String() {
			t.Errorf("quoted is %s to %s, want %s to %s", quoted.SrcIP, quoted.DstIP, src, dst)
		}
	}
	quote := sent[14+overhead:]
	verdict, out := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, message(outside, floating, quote)))
	wantVerdict(t, verdict, tcRedirect)
	b.wantInner(out, false, outside, addr1)
	wantQuote(out, false, addr1, outside)
	// And the other way: about what came for the floating address.
	verdict, got := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, udpFrame(mac1, outside, floating)))
	wantVerdict(t, verdict, tcRedirect)
	verdict, out = b.fromPort(b.port1, message(addr1, outside, got[14:]))
	wantVerdict(t, verdict, tcRedirect)
	b.wantInner(out, true, floating, outside)
	wantQuote(out, true, outside, floating)
}

// TestNetForeignReadsBack: addresses of other networks are adopted, and nothing
// is left of those that go.
func TestNetForeignReadsBack(t *testing.T) {
	b := newBench(t)
	b.float(ForeignAddress{Address: floating, VRF: poolVRF, Fixed: addr1},
		ForeignAddress{Address: floating2, VRF: poolVRF, Fixed: addr1, AnswersOnly: true}, ForeignAddress{Address: alias, VRF: 300, Fixed: alias})
	want := b.port1
	want.Foreign = []ForeignAddress{{alias, 300, alias, false}, {floating2, poolVRF, addr1, true}}
	b.putPort(want)
	b.dp.Close()
	b.open()
	ports, err := b.dp.Ports()
	b.must(err)
	if got := ports[want.IfIndex]; !got.Equal(want) {
		t.Errorf("port reads %+v, want %+v", got, want)
	}
	b.ns.Must(func() error { return b.dp.DeletePort(want.IfIndex) })
	all, err := entries[bpfPortAddrKey, bpfForeignAddr](b.dp.maps().ForeignAddrV1, "foreign addresses")
	b.must(err)
	lists, err := entries[uint32, bpfForeign](b.dp.maps().ForeignV1, "foreign addresses")
	b.must(err)
	if len(all) != 0 || len(lists) != 0 {
		t.Errorf("left of the port: %v, %v", all, lists)
	}
}

// TestNetFloatingTraffic: containers of two networks on two nodes talk through
// floating addresses, with what the kernel makes of it: checksums left to the
// device, large segments, fragments.
func TestNetFloatingTraffic(t *testing.T) {
	c := newCluster(t, 2)
	server, near, far := c.container(0, 1, "10.1.0.3"), c.container(0, 2, "10.2.0.3"), c.container(1, 2, "10.2.0.4")
	c.connect()
	own, client := netip.MustParseAddr("198.51.100.3"), netip.MustParseAddr("198.51.100.4")
	float := func(k *container, address netip.Addr) {
		k.port.Foreign = []ForeignAddress{{Address: address, VRF: 9, Fixed: k.addr}}
		k.node.Must(func() error { return k.node.dp.PutPort(k.port) })
		for _, n := range c.nodes {
			if err := n.dp.PutRoute(host(9, address), k.nextHop(n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	float(server, own)
	float(near, client)
	float(far, netip.MustParseAddr("198.51.100.5"))
	server.serve(t)
	for _, k := range []*container{near, far} {
		if _, err := k.Run("ip", "route", "add", "198.51.100.0/24", "dev", "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := server.Run("ip", "route", "add", "198.51.100.0/24", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*container{near, far} {
		for what, err := range map[string]error{
			"ping": k.ping(own), "tcp": k.tcp(own, 1<<20), "udp": k.udp(own, 1000), "fragments": k.udp(own, 20000),
			"by its own address": k.refused(server.addr),
		} {
			if err != nil {
				t.Errorf("%s from %s: %v", what, k.Name(), err)
			}
		}
	}
	if t.Failed() {
		c.dump()
	}
}

// TestNetAnswersToFloatingComeByLabel: what leaves by VXLAN for a floating
// address is answered by the label all the same, as its route says.
func TestNetAnswersToFloatingComeByLabel(t *testing.T) {
	for _, f := range []ForeignAddress{{Address: floating, VRF: poolVRF, Fixed: addr1}, {Address: alias, VRF: poolVRF, Fixed: alias}} {
		b := newBench(t)
		b.float(f)
		b.must(b.dp.PutRoute(RouteKey{poolVRF, netip.MustParsePrefix("203.0.113.0/24")},
			NextHop{Kind: Tunnel, Remote: remoteIP, Encapsulation: VXLAN, VNI: 900}))
		verdict, _ := b.fromPort(b.port1, udpFrame(mac1, f.Fixed, outside))
		wantVerdict(t, verdict, tcRedirect)
		ip := ipv4(outside, f.Address, layers.IPProtocolUDP)
		answer := serialize(ethernet(mac1, RouterMAC()), ip, udp(ip, 53, 1000), payload)
		verdict, out := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, answer))
		wantVerdict(t, verdict, tcRedirect)
		b.wantInner(out, false, outside, f.Fixed)
		for _, flow := range b.flows() {
			if flow.Answers != (flow.Direction == FromTunnel) {
				t.Errorf("%s: flow %+v", f.Address, flow)
			}
		}
		now, err := Now()
		b.must(err)
		if _, left, err := b.dp.SweepFlows(now+DefaultAges().Unanswered+time.Second, DefaultAges()); err != nil || left != 2 {
			t.Errorf("%s: %d entries are left, %v; want both, each answered", f.Address, left, err)
		}
	}
}

// TestNetPortCutOff: a port whose writing was cut off is not taken for one that
// is as it should be; it is mended by the next who puts it, also after a restart.
func TestNetPortCutOff(t *testing.T) {
	b := newBench(t)
	stays := ForeignAddress{Address: floating, VRF: poolVRF, Fixed: addr1}
	goes := ForeignAddress{Address: alias, VRF: poolVRF, Fixed: alias}
	b.float(stays, goes)
	want := b.port1
	want.Foreign = []ForeignAddress{stays}
	sends := func() uint32 {
		verdict, _ := b.fromPort(b.port1, udpFrame(mac1, alias, outside))
		return verdict
	}
	wantVerdict(t, sends(), tcRedirect)

	// Before what went was trimmed.
	b.must(b.dp.putForeign(want))
	b.must(b.dp.Close())
	b.open()
	if got, err := b.dp.Ports(); err != nil || got[want.IfIndex].Equal(want) {
		t.Errorf("port still has the address %s, and is told to be %+v, %v", alias, got[want.IfIndex], err)
	}
	b.must(b.dp.PutPort(want))
	b.wantDrop(sends(), DropSourceAddress, want.IfIndex)

	// Before the label was written.
	b.must(b.dp.maps().LabelV1.Delete(want.Label))
	if got, err := b.dp.Ports(); err != nil || got[want.IfIndex].Equal(want) {
		t.Errorf("port has no label, and is told to be %+v, %v", got[want.IfIndex], err)
	}
	b.must(b.dp.PutPort(want))
	wantVerdict(t, b.receive(1000, 53), tcRedirect)
	if got, err := b.dp.Ports(); err != nil || !got[want.IfIndex].Equal(want) {
		t.Errorf("port is %+v, %v, want %+v", got[want.IfIndex], err, want)
	}
}
