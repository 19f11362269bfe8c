//go:build net

package dataplane

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	one6     = netip.MustParseAddr("2001:db8::3")
	one6b    = netip.MustParseAddr("2001:db8:0:21::3")
	two6     = netip.MustParseAddr("2001:db8::4")
	far6     = netip.MustParseAddr("2001:db8::5")
	far6b    = netip.MustParseAddr("2001:db8::6")
	gateway6 = netip.MustParseAddr("2001:db8::1")
	gateway4 = netip.MustParseAddr("10.32.0.1")
	router6  = netip.MustParseAddr("fe80::200:5eff:fe00:100")
	anyone6  = netip.MustParsePrefix("::/0")
)

// newBench6 is a bench whose ports have addresses of both families.
func newBench6(t testing.TB) *bench {
	t.Helper()
	b := newBench(t)
	b.port1.Addresses = append(b.port1.Addresses, one6, one6b)
	b.port1.Gateways = []netip.Addr{gateway4, gateway6}
	b.port2.Addresses = append(b.port2.Addresses, two6)
	b.putPort(b.port1)
	b.putPort(b.port2)
	b.must(errors.Join(b.dp.PutVNI(vni, vrf), b.dp.PutRoutes(map[RouteKey]NextHop{
		host(vrf, one6):  {Kind: Local, Label: label1},
		host(vrf, one6b): {Kind: Local, Label: label1},
		host(vrf, two6):  {Kind: Local, Label: label2},
		host(vrf, far6):  {Kind: Tunnel, Remote: remoteIP, Label: farLabel},
		host(vrf, far6b): {Kind: Tunnel, Remote: remoteIP, Label: farLabel2},
	})))
	return b
}

func ethernet6(src, dst MAC) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: hw(src), DstMAC: hw(dst), EthernetType: layers.EthernetTypeIPv6}
}

func ipv6(src, dst netip.Addr, next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{
		Version: 6, TrafficClass: 0xb9, FlowLabel: 0x12345, HopLimit: 64, NextHeader: next,
		SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
	}
}

func udp6(ip *layers.IPv6, src, dst int) *layers.UDP {
	u := &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}
	u.SetNetworkLayerForChecksum(ip)
	return u
}

func udpFrame6(from MAC, src, dst netip.Addr, change ...func(*layers.IPv6)) []byte {
	ip := ipv6(src, dst, layers.IPProtocolUDP)
	for _, f := range change {
		f(ip)
	}
	return serialize(ethernet6(from, RouterMAC()), ip, udp6(ip, 1000, 53), payload)
}

// frameOf6 is frameOf for IPv6.
func frameOf6(from MAC, c connection) []byte {
	ip := ipv6(c.src.addr, c.dst.addr, layers.IPProtocol(c.protocol))
	parts := []gopacket.SerializableLayer{ethernet6(from, RouterMAC()), ip}
	switch c.protocol {
	case 58:
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(uint8(c.sport), uint8(c.dport))}
		icmp.SetNetworkLayerForChecksum(ip)
		parts = append(parts, icmp, gopacket.Payload{0, 7, 0, 1})
	case 6:
		tcp := &layers.TCP{SrcPort: layers.TCPPort(c.sport), DstPort: layers.TCPPort(c.dport), SYN: true}
		tcp.SetNetworkLayerForChecksum(ip)
		parts = append(parts, tcp)
	case 17:
		parts = append(parts, udp6(ip, int(c.sport), int(c.dport)))
	}
	return serialize(append(parts, payload)...)
}

// routed6 is what a router makes of a frame: new MACs, hop limit less one.
func routed6(frame []byte, to MAC) []byte {
	out := between(RouterMAC(), to, frame)
	out[14+7]--
	return out
}

// raw6 is a frame with anything behind the IP header.
func raw6(from MAC, src, dst netip.Addr, next uint8, body []byte) []byte {
	return serialize(ethernet6(from, RouterMAC()), ipv6(src, dst, layers.IPProtocol(next)), gopacket.Payload(body))
}

func TestNetIPv6LocalDelivery(t *testing.T) {
	b := newBench6(t)
	frame := udpFrame6(mac1, one6, two6)
	for range 2 { // the first packet decides, the second finds the flow
		verdict, out := b.fromPort(b.port1, frame)
		wantVerdict(t, verdict, tcRedirect)
		wantFrame(t, out, routed6(frame, mac2))
	}
	flows := b.flows()
	if len(flows) != 1 {
		t.Fatalf("flows are %+v, want one", flows)
	}
	f := flows[0]
	if f.Direction != FromPort || f.IfIndex != b.port1.IfIndex || f.VRF != vrf || f.Src != one6 ||
		f.Dst != two6 || f.Protocol != 17 || f.SrcPort != 1000 || f.DstPort != 53 ||
		f.NextHop != (NextHop{Kind: Local, IfIndex: b.port2.IfIndex}) || f.Packets != 2 ||
		f.Bytes != uint64(2*len(frame)) || !f.Current {
		t.Errorf("flow is %+v", f)
	}
	// What the maps have of a port is what was put.
	ports, err := b.dp.Ports()
	b.must(err)
	if !ports[b.port1.IfIndex].Equal(b.port1) {
		t.Errorf("port is %+v, want %+v", ports[b.port1.IfIndex], b.port1)
	}
}

func TestNetIPv6Encapsulations(t *testing.T) {
	b := newBench6(t)
	frame := udpFrame6(mac1, one6, far6)
	around := map[string]struct {
		hop  NextHop
		want func(sport uint16, inner []byte) []byte
	}{
		"MPLSoUDP": {NextHop{Kind: Tunnel, Remote: remoteIP, Label: farLabel}, func(sport uint16, inner []byte) []byte {
			return tunnelled(localIP, remoteIP, farLabel, sport, inner, func(ip *layers.IPv4) { ip.TOS = 0xb8 })
		}},
		"MPLSoGRE": {NextHop{Kind: Tunnel, Remote: remoteIP, Encapsulation: MPLSoGRE, Label: farLabel}, func(_ uint16, inner []byte) []byte {
			return byGRE(localIP, remoteIP, farLabel, inner)
		}},
		"VXLAN": {NextHop{Kind: Tunnel, Remote: remoteIP, Encapsulation: VXLAN, VNI: farVNI, MAC: farMAC}, func(sport uint16, inner []byte) []byte {
			return byVXLAN(localIP, remoteIP, farVNI, sport, between(mac1, farMAC, inner))
		}},
	}
	for name, c := range around {
		t.Run(name, func(t *testing.T) {
			b.t = t
			b.must(b.dp.PutRoute(host(vrf, far6), c.hop))
			for range 2 {
				verdict, out := b.fromPort(b.port1, frame)
				wantVerdict(t, verdict, tcRedirect)
				want := c.want(binary.BigEndian.Uint16(out[14+20:]), routed6(frame, mac2))
				// The class is the inner one's, without ECN.
				want[15] = 0xb8
				want[14+10], want[14+11] = out[14+10], out[14+11]
				wantFrame(t, out[12:], want[12:])
			}
		})
	}
}

func TestNetIPv6Decapsulations(t *testing.T) {
	b := newBench6(t)
	inner := udpFrame6(mac2, far6, one6)
	delivered := between(RouterMAC(), mac1, inner)
	for name, outer := range map[string][]byte{
		"MPLSoUDP":            tunnelled(remoteIP, localIP, label1, 50000, inner),
		"MPLSoGRE":            byGRE(remoteIP, localIP, label1, inner),
		"VXLAN to the port":   byVXLAN(remoteIP, localIP, vni, 50000, between(farMAC, mac1, inner)),
		"VXLAN to the router": byVXLAN(remoteIP, localIP, vni, 50000, between(farMAC, RouterMAC(), inner)),
	} {
		for range 2 {
			verdict, out := b.fromWire(outer)
			wantVerdict(t, verdict, tcRedirect)
			if !bytes.Equal(out, delivered) {
				t.Errorf("%s:\n got %x\nwant %x", name, out, delivered)
			}
		}
	}
	mangled := tunnelled(remoteIP, localIP, label1, 50000, udpFrame6(mac2, far6, two6))
	verdict, _ := b.fromWire(mangled)
	b.wantDrop(verdict, DropDestinationAddress, b.port1.IfIndex)
	verdict, _ = b.fromWire(tunnelled(otherIP, localIP, label1, 50000, inner))
	b.wantDrop(verdict, DropTunnelSource, b.port1.IfIndex)
	verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, udpFrame6(mac2, netip.MustParseAddr("2001:db8:9::9"), one6)))
	b.wantDrop(verdict, DropNoSourceRoute, b.port1.IfIndex)
	verdict, _ = b.fromWire(byVXLAN(remoteIP, localIP, vni, 50000, between(farMAC, MAC{0x33, 0x33, 0, 0, 0, 1}, inner)))
	b.wantDrop(verdict, DropMulticast, b.eth0)
}

// No address passes that may not: what is not the port's, what has no place
// outside a link, and what would be taken for IPv4.
func TestNetIPv6Refused(t *testing.T) {
	b := newBench6(t)
	parse := netip.MustParseAddr
	cases := map[string]struct {
		src, dst netip.Addr
		reason   DropReason
	}{
		"source of another port":      {two6, far6, DropSourceAddress},
		"source of a remote":          {far6, two6, DropSourceAddress},
		"link-local source":           {parse("fe80::1"), far6, DropSourceAddress},
		"unspecified source":          {parse("::"), far6, DropSourceAddress},
		"loopback source":             {parse("::1"), far6, DropSourceAddress},
		"multicast source":            {parse("ff02::1"), far6, DropMalformed},
		"mapped source":               {netip.AddrFrom16(addr1.As16()), far6, DropMalformed},
		"mapped destination":          {one6, netip.AddrFrom16(addr2.As16()), DropMalformed},
		"both mapped":                 {netip.AddrFrom16(addr1.As16()), netip.AddrFrom16(addr2.As16()), DropMalformed},
		"multicast destination":       {one6, parse("ff02::1"), DropMulticast},
		"wider multicast destination": {one6, parse("ff0e::1"), DropMulticast},
		"link-local destination":      {one6, parse("fe80::5"), DropLinkLocal},
		"unspecified destination":     {one6, parse("::"), DropMalformed},
		"no route":                    {one6, parse("2001:db8:9::9"), DropNoRoute},
	}
	check := func() {
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				b.t = t
				verdict, _ := b.fromPort(b.port1, udpFrame6(mac1, c.src, c.dst))
				b.wantDrop(verdict, c.reason, b.port1.IfIndex)
			})
		}
		b.t = t
	}
	// IPv4 has flows between the same addresses as those that are mapped.
	verdict, _ := b.fromPort(b.port1, udpFrame(mac1, addr1, addr2))
	wantVerdict(t, verdict, tcRedirect)
	check()
	// With everything behind the port, and a way to everything: these are the rest.
	b.must(b.dp.PutRoute(RouteKey{vrf, anyone6}, NextHop{Kind: Local, Label: label1, Behind: true}))
	for name, reason := range map[string]DropReason{
		"link-local source": DropLinkLocal, "unspecified source": DropMalformed, "loopback source": DropMalformed,
	} {
		c := cases[name]
		c.reason = reason
		cases[name] = c
	}
	delete(cases, "no route")
	check()
	verdict, _ = b.fromPort(b.port1, udpFrame6(MAC{2, 6, 6, 6, 6, 6}, one6, far6))
	b.wantDrop(verdict, DropSourceMAC, b.port1.IfIndex)
	verdict, _ = b.fromPort(b.port1, between(mac1, mac2, udpFrame6(mac1, one6, far6)))
	b.wantDrop(verdict, DropDestinationMAC, b.port1.IfIndex)
}

// A default route of one family is none of the other.
func TestNetDefaultRoutesOfFamilies(t *testing.T) {
	b := newBench6(t)
	to4, to6 := udpFrame(mac1, addr1, netip.MustParseAddr("192.0.2.1")), udpFrame6(mac1, one6, netip.MustParseAddr("2001:db8:9::1"))
	way := NextHop{Kind: Tunnel, Remote: remoteIP, Label: farLabel}
	b.must(b.dp.PutRoute(RouteKey{vrf, anyone6}, way))
	verdict, _ := b.fromPort(b.port1, to6)
	wantVerdict(t, verdict, tcRedirect)
	verdict, _ = b.fromPort(b.port1, to4)
	b.wantDrop(verdict, DropNoRoute, b.port1.IfIndex)
	b.must(errors.Join(
		b.dp.DeleteRoute(RouteKey{vrf, anyone6}),
		b.dp.PutRoute(RouteKey{vrf, netip.MustParsePrefix("0.0.0.0/0")}, way)))
	verdict, _ = b.fromPort(b.port1, to4)
	wantVerdict(t, verdict, tcRedirect)
	verdict, _ = b.fromPort(b.port1, to6)
	b.wantDrop(verdict, DropNoRoute, b.port1.IfIndex)
}

// Two networks know each other's addresses by what is at the end of them alone: a
// floating address of IPv4 is none of the IPv6 address that ends like it.
func TestNetIPv6IsNotTranslated(t *testing.T) {
	b := newBench6(t)
	alike := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 12: 10, 13: 32, 14: 0, 15: 3}) // ends as addr1 does
	b.port1.Addresses = append(b.port1.Addresses, alike)
	b.port1.Foreign = []ForeignAddress{{Address: netip.MustParseAddr("203.0.113.9"), VRF: nearVRF, Fixed: addr1}}
	b.putPort(b.port1)
	// The other network knows the way better.
	to := netip.MustParseAddr("2001:db8:8::8")
	b.must(b.dp.PutRoutes(map[RouteKey]NextHop{
		{vrf, netip.MustParsePrefix("2001:db8:8::/48")}: {Kind: Tunnel, Remote: remoteIP, Label: farLabel},
		host(nearVRF, to): {Kind: Tunnel, Remote: otherIP, Label: 77},
	}))
	frame := udpFrame6(mac1, alike, to)
	verdict, out := b.fromPort(b.port1, frame)
	wantVerdict(t, verdict, tcRedirect)
	if got := binary.BigEndian.Uint32(out[14+28:]) >> 12; got != farLabel {
		t.Errorf("label is %d, want %d", got, farLabel)
	}
	wantFrame(t, out[14+32:], routed6(frame, mac2)[14:])
}

// Every cut and every changed byte of good frames: whatever the verdict, a frame
// that is passed on has gone through the same checks.
func TestNetMangledIPv6Frames(t *testing.T) {
	b := newBench6(t)
	good := udpFrame6(mac1, one6, far6)
	outer := tunnelled(remoteIP, localIP, label1, 50000, udpFrame6(mac1, far6, one6))
	for cut := shortest + 20; cut < len(good); cut++ {
		if verdict, _ := b.fromPort(b.port1, good[:cut]); verdict != tcDrop {
			t.Errorf("frame cut to %d bytes: verdict %d", cut, verdict)
		}
	}
	for cut := shortest; cut < len(outer); cut++ {
		if verdict, _ := b.fromWire(outer[:cut]); verdict != tcDrop && verdict != tcNext {
			t.Errorf("tunnel frame cut to %d bytes: verdict %d", cut, verdict)
		}
	}
	for at := range 14 + 48 {
		for _, flip := range []byte{1, 0x80, 0xff} {
			frame := slices.Clone(good)
			frame[at] ^= flip
			verdict, out := b.fromPort(b.port1, frame)
			if verdict == tcRedirect && at >= 6 && at < 12 {
				t.Errorf("source MAC changed at %d passes", at)
			}
			if verdict == tcRedirect && at >= 14+8 && at < 14+24 {
				t.Errorf("source address changed at %d passes: %x", at, out)
			}
		}
	}
	for at := range 14 + 32 + 48 {
		for _, flip := range []byte{1, 0x80, 0xff} {
			frame := slices.Clone(outer)
			frame[at] ^= flip
			verdict, out := b.fromWire(frame)
			if verdict == tcRedirect && !bytes.Equal(out[:6], mac1[:]) {
				t.Errorf("changed at %d it goes to %x", at, out[:6])
			}
		}
	}
}
