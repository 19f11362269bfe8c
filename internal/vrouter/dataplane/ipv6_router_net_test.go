//go:build net

package dataplane

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// solicited is the solicited-node multicast address of a target, and its MAC.
func solicited(target netip.Addr) (netip.Addr, MAC) {
	a := target.As16()
	return netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]}),
		MAC{0x33, 0x33, 0xff, a[13], a[14], a[15]}
}

// solicit asks for a target, as hosts do.
func solicit(from MAC, src, target netip.Addr, change ...func(*layers.IPv6)) []byte {
	group, mac := solicited(target)
	ip := ipv6(src, group, layers.IPProtocolICMPv6)
	ip.HopLimit = 255
	for _, f := range change {
		f(ip)
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	icmp.SetNetworkLayerForChecksum(ip)
	ns := &layers.ICMPv6NeighborSolicitation{TargetAddress: target.AsSlice()}
	if !src.IsUnspecified() {
		ns.Options = layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: hw(from)}}
	}
	return serialize(ethernet6(from, mac), ip, icmp, ns)
}

// advertised is the answer that a target has a MAC.
func advertised(src, dst, mac MAC, target, to netip.Addr, flags uint8) []byte {
	ip := &layers.IPv6{
		Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: target.AsSlice(), DstIP: to.AsSlice(),
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)}
	icmp.SetNetworkLayerForChecksum(ip)
	na := &layers.ICMPv6NeighborAdvertisement{
		Flags: flags, TargetAddress: target.AsSlice(),
		Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: hw(mac)}},
	}
	return serialize(ethernet6(src, dst), ip, icmp, na)
}

const (
	flagRouter    = 0x80
	flagSolicited = 0x40
	flagOverride  = 0x20
)

func TestNetNeighbourDiscovery(t *testing.T) {
	b := newBench6(t)
	own := netip.MustParseAddr("fe80::1234")
	for name, c := range map[string]struct {
		src, target netip.Addr
		flags       uint8
	}{
		"another of the network":            {one6, two6, 0},
		"one that is nobody's":              {one6, netip.MustParseAddr("2001:db8::99"), 0},
		"the gateway":                       {one6, gateway6, flagRouter},
		"the gateway, from link-local":      {own, gateway6, flagRouter},
		"the router's link-local":           {own, router6, flagRouter},
		"from the second address":           {one6b, two6, 0},
		"another of the network, as before": {one6, two6, 0},
	} {
		frame := solicit(mac1, c.src, c.target)
		verdict, out := b.fromPort(b.port1, frame)
		wantVerdict(t, verdict, tcRedirect)
		want := advertised(RouterMAC(), mac1, RouterMAC(), c.target, c.src, c.flags|flagSolicited|flagOverride)
		if !bytes.Equal(out, want) {
			t.Errorf("%s:\n got %x\nwant %x", name, out, want)
		}
	}
	// One that knows the neighbour asks it alone, and without its own MAC.
	ip := ipv6(one6, two6, layers.IPProtocolICMPv6)
	ip.HopLimit = 255
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	icmp.SetNetworkLayerForChecksum(ip)
	groups := func(src netip.Addr) []byte {
		return between(mac1, MAC{0x33, 0x33, 0, 0, 0, 0x16}, frameOf6(mac1, connection{src: end{addr: src}, dst: end{addr: netip.MustParseAddr("ff02::16")}, protocol: 58, sport: 143}))
	}
	verdict, out := b.fromPort(b.port1, serialize(ethernet6(mac1, RouterMAC()), ip, icmp,
		&layers.ICMPv6NeighborSolicitation{TargetAddress: two6.AsSlice()}))
	wantVerdict(t, verdict, tcRedirect)
	wantFrame(t, out, advertised(RouterMAC(), mac1, RouterMAC(), two6, one6, flagSolicited|flagOverride))

	hops := func(n uint8) func(*layers.IPv6) { return func(ip *layers.IPv6) { ip.HopLimit = n } }
	good := solicit(mac1, one6, two6)
	other := func(typ uint8) []byte {
		frame := bytes.Clone(good)
		frame[14+40] = typ
		return frame
	}
	fragment := serialize(ethernet6(mac1, RouterMAC()), func() gopacket.SerializableLayer {
		ip := ipv6(one6, two6, layers.IPProtocolIPv6Fragment)
		ip.HopLimit = 255
		return ip
	}(), gopacket.Payload(append([]byte{58, 0, 0, 1, 0, 0, 0, 9}, good[54:]...)))
	for name, c := range map[string]struct {
		frame  []byte
		reason DropReason
	}{
		"whether one is alone":      {solicit(mac1, netip.IPv6Unspecified(), one6), DropND},
		"for its own":               {solicit(mac1, one6b, one6), DropND},
		"another link-local":        {solicit(mac1, one6, netip.MustParseAddr("fe80::99")), DropND},
		"from another's address":    {solicit(mac1, two6, far6), DropSourceAddress},
		"from another's MAC":        {solicit(mac2, one6, far6), DropSourceMAC},
		"from afar":                 {solicit(mac1, one6, two6, hops(254)), DropMalformed},
		"for many":                  {solicit(mac1, one6, netip.MustParseAddr("ff02::1")), DropMalformed},
		"cut off":                   {good[:14+40+23], DropMalformed},
		"a router's solicitation":   {other(133), DropND},
		"a router's advertisement":  {other(134), DropND},
		"an advertisement":          {other(136), DropND},
		"a redirect":                {other(137), DropND},
		"a report of groups":        {other(143), DropMulticast},
		"one from the link-local":   {groups(own), DropMulticast},
		"one from nobody":           {groups(netip.IPv6Unspecified()), DropMulticast},
		"one from another":          {groups(two6), DropSourceAddress},
		"in a fragment, to the one": {fragment, DropND},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			verdict, _ := b.fromPort(b.port1, c.frame)
			b.wantDrop(verdict, c.reason, b.port1.IfIndex)
		})
	}
	b.t = t
	if n := len(b.flows()); n != 0 {
		t.Errorf("neighbour discovery made %d flows", n)
	}
	// None of it comes in or goes out by a tunnel.
	for _, frame := range [][]byte{good, other(136)} {
		copy(frame[14+8:], far6.AsSlice())
		copy(frame[14+24:], one6.AsSlice())
		verdict, _ := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, frame))
		b.wantDrop(verdict, DropND, b.eth0)
	}
}

// A neighbour that bridges asks all nodes of the network by VXLAN.
func TestNetAnswersNeighboursOfIPv6(t *testing.T) {
	b := newBench6(t)
	b.must(b.dp.PutRoute(host(vrf, far6), NextHop{Kind: Tunnel, Remote: remoteIP, Encapsulation: VXLAN, VNI: farVNI, MAC: farMAC}))
	b.must(b.dp.PutVNI(vni+1, nearVRF))
	ask := func(from netip.Addr, vni uint32, src, target netip.Addr) []byte {
		return byVXLAN(from, localIP, vni, 50000, solicit(farMAC, src, target))
	}
	verdict, out := b.fromWire(ask(remoteIP, vni, far6, one6))
	wantVerdict(t, verdict, tcRedirect)
	sport := binary.BigEndian.Uint16(out[14+20:])
	reply := advertised(mac1, farMAC, mac1, one6, far6, flagSolicited|flagOverride)
	wantFrame(t, out[12:], byVXLAN(localIP, remoteIP, farVNI, sport, reply)[12:])
	for name, c := range map[string]struct {
		frame  []byte
		reason DropReason
	}{
		"for nobody here":          {ask(remoteIP, vni, far6, far6b), DropND},
		"in another network":       {ask(remoteIP, vni+1, far6, one6), DropND},
		"in a network unknown":     {ask(remoteIP, 4242, far6, one6), DropVNI},
		"from elsewhere":           {ask(otherIP, vni, far6, one6), DropTunnelSource},
		"of a local address":       {ask(remoteIP, vni, two6, one6), DropTunnelSource},
		"of nobody known":          {ask(remoteIP, vni, netip.MustParseAddr("2001:db8:9::9"), one6), DropNoSourceRoute},
		"of nobody":                {ask(remoteIP, vni, netip.IPv6Unspecified(), one6), DropND},
		"from a link-local":        {ask(remoteIP, vni, netip.MustParseAddr("fe80::9"), one6), DropLinkLocal},
		"for the link-local":       {ask(remoteIP, vni, far6, router6), DropLinkLocal},
		"of one reached by labels": {ask(remoteIP, vni, far6b, one6), DropTunnelSource},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			verdict, _ := b.fromWire(c.frame)
			b.wantDrop(verdict, c.reason, b.eth0)
		})
	}
}

// The gateway answers an echo of its own port, of either family; nobody's else.
func TestNetGatewayAnswersEcho(t *testing.T) {
	b := newBench6(t)
	echo6 := func(typ uint8, src, dst netip.Addr) []byte {
		ip := ipv6(src, dst, layers.IPProtocolICMPv6)
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
		icmp.SetNetworkLayerForChecksum(ip)
		return serialize(ethernet6(mac1, RouterMAC()), ip, icmp, &layers.ICMPv6Echo{Identifier: 7, SeqNumber: 9}, payload)
	}
	echo4 := func(typ uint8, src, dst netip.Addr) []byte {
		return serialize(ethernet(mac1, RouterMAC()), ipv4(src, dst, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, 0), Id: 7, Seq: 9}, payload)
	}
	for _, gateway := range []netip.Addr{gateway6, router6} {
		verdict, out := b.fromPort(b.port1, echo6(128, one6, gateway))
		wantVerdict(t, verdict, tcRedirect)
		wantFrame(t, out, between(RouterMAC(), mac1, echo6(129, gateway, one6)))
	}
	verdict, out := b.fromPort(b.port1, echo4(8, addr1, gateway4))
	wantVerdict(t, verdict, tcRedirect)
	wantFrame(t, out, between(RouterMAC(), mac1, echo4(0, gateway4, addr1)))

	link := echo6(128, netip.MustParseAddr("fe80::1234"), gateway6)
	verdict, _ = b.fromPort(b.port1, link)
	b.wantDrop(verdict, DropSourceAddress, b.port1.IfIndex)
	verdict, _ = b.fromPort(b.port1, echo6(129, one6, gateway6))
	b.wantDrop(verdict, DropNoRoute, b.port1.IfIndex)
	// The other port has no gateway.
	verdict, _ = b.fromPort(b.port2, between(mac2, RouterMAC(), echo6(128, two6, gateway6)))
	b.wantDrop(verdict, DropNoRoute, b.port2.IfIndex)
	verdict, _ = b.fromPort(b.port2, between(mac2, RouterMAC(), echo4(8, addr2, gateway4)))
	b.wantDrop(verdict, DropNoRoute, b.port2.IfIndex)
	b.port1.Gateways = nil
	b.putPort(b.port1)
	verdict, _ = b.fromPort(b.port1, echo6(128, one6, gateway6))
	b.wantDrop(verdict, DropNoRoute, b.port1.IfIndex)
}

// wantError checks an ICMPv6 error to port 1 about a frame.
func wantError(t *testing.T, out []byte, from, to netip.Addr, typ uint8, info uint32, about []byte) {
	t.Helper()
	p := gopacket.NewPacket(out, layers.LayerTypeEthernet, gopacket.Default)
	eth, _ := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	ip, _ := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	icmp, _ := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	if eth == nil || ip == nil || icmp == nil {
		t.Fatalf("%x is no ICMPv6", out)
	}
	quoted := about[14:]
	if len(quoted) > 448 {
		quoted = quoted[:448]
	}
	want := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolICMPv6, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	message := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
	message.SetNetworkLayerForChecksum(want)
	wantFrame(t, out, serialize(ethernet6(RouterMAC(), MAC(eth.DstMAC)), want, message,
		gopacket.Payload(append(binary.BigEndian.AppendUint32(nil, info), quoted...))))
}

func TestNetHopLimit(t *testing.T) {
	b := newBench6(t)
	for _, size := range []int{0, 1, 2, 3, 100, 447 - 48, 448 - 48, 1300} {
		ip := ipv6(one6, far6, layers.IPProtocolUDP)
		ip.HopLimit = 1
		frame := serialize(ethernet6(mac1, RouterMAC()), ip, udp6(ip, 1000, 53), make(gopacket.Payload, size))
		verdict, out := b.fromPort(b.port1, frame)
		wantVerdict(t, verdict, tcRedirect)
		wantError(t, out, gateway6, one6, 3, 0, frame)
		if drops := b.dropped(); !drops[Drop{Reason: DropTTL, IfIndex: b.port1.IfIndex, Packets: 1}] {
			t.Errorf("drops are %v", drops)
		}
		b.forgetDrops()
	}
	// Without a gateway it is the router's own address.
	b.port1.Gateways = nil
	b.putPort(b.port1)
	last := func(ip *layers.IPv6) { ip.HopLimit = 1 }
	frame := udpFrame6(mac1, one6, far6, last)
	_, out := b.fromPort(b.port1, frame)
	wantError(t, out, router6, one6, 3, 0, frame)

	// An error makes none, and there is a bound to them.
	icmp := frameOf6(mac1, connection{src: end{addr: one6}, dst: end{addr: far6}, protocol: 58, sport: 3})
	icmp[14+7] = 1
	b.forgetDrops()
	verdict, _ := b.fromPort(b.port1, icmp)
	b.wantDrop(verdict, DropTTL, b.port1.IfIndex)
	told := 0
	for range 1000 {
		if verdict, _ := b.fromPort(b.port1, frame); verdict == tcRedirect {
			told++
		}
	}
	if told < 10 || told > 900 {
		t.Errorf("%d of 1000 packets at once got an error", told)
	}
	// From a tunnel the node is the last hop: containers answer themselves.
	verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, udpFrame6(mac2, far6, one6, last)))
	wantVerdict(t, verdict, tcRedirect)
}

func TestNetPacketTooBig(t *testing.T) {
	b := newBench6(t)
	b.must(b.dp.PutRoute(host(vrf, far6b), NextHop{Kind: Tunnel, Remote: remoteIP, Encapsulation: VXLAN, VNI: farVNI}))
	of := func(dst netip.Addr, size int) []byte { // IP packet of this size
		ip := ipv6(one6, dst, layers.IPProtocolUDP)
		return serialize(ethernet6(mac1, RouterMAC()), ip, udp6(ip, 1000, 53), make(gopacket.Payload, size-48))
	}
	for dst, mtu := range map[netip.Addr]int{far6: 1468, far6b: 1450} {
		verdict, _ := b.fromPort(b.port1, of(dst, mtu))
		wantVerdict(t, verdict, tcRedirect)
		frame := of(dst, mtu+1)
		verdict, out := b.fromPort(b.port1, frame)
		wantVerdict(t, verdict, tcRedirect)
		wantError(t, out, gateway6, one6, 2, uint32(mtu), frame)
		if drops := b.dropped(); !drops[Drop{Reason: DropTooBig, IfIndex: b.port1.IfIndex, Packets: 1}] {
			t.Errorf("drops are %v", drops)
		}
		b.forgetDrops()
	}
	// A super-packet is judged by its segments.
	gso := skBuff{IfIndex: uint32(b.port1.IfIndex), GSOSegs: 2, GSOSize: 1421}
	frame := of(far6, 2908)
	verdict, out := b.runAs(b.dp.objects.VifRx, gso, frame)
	wantVerdict(t, verdict, tcRedirect)
	wantError(t, out, gateway6, one6, 2, 1468, frame)
	gso.GSOSize = 1420
	b.runAs(b.dp.objects.VifRx, gso, frame)
	drops := b.dropped()
	for _, reason := range []DropReason{DropEncapsulate, DropTooBig} { // see TestNetTooBigForUnderlay
		if want := (Drop{Reason: reason, IfIndex: b.port1.IfIndex, Packets: 2}); !drops[want] {
			t.Errorf("drops are %v, want %v", drops, want)
		}
	}
}
