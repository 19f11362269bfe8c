//go:build net

package dataplane

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func wantFrame(t *testing.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("frame differs\n got:\n%s\nwant:\n%s", hex.Dump(got), hex.Dump(want))
	}
}

func wantVerdict(t *testing.T, got, want uint32) {
	t.Helper()
	if got != want {
		t.Errorf("verdict is %d, want %d", got, want)
	}
}

func TestNetLocalDelivery(t *testing.T) {
	b := newBench(t)
	frame := udpFrame(mac1, addr1, addr2)
	for range 2 { // the first packet decides, the second finds the flow
		verdict, out := b.fromPort(b.port1, frame)
		wantVerdict(t, verdict, tcRedirect)
		wantFrame(t, out, routed(frame, mac2))
	}
	flows := b.flows()
	if len(flows) != 1 {
		t.Fatalf("flows are %+v, want one", flows)
	}
	f := flows[0]
	if f.Direction != FromPort || f.IfIndex != b.port1.IfIndex || f.VRF != vrf || f.Src != addr1 ||
		f.Dst != addr2 || f.Protocol != 17 || f.SrcPort != 1000 || f.DstPort != 53 ||
		f.NextHop != (NextHop{Kind: Local, IfIndex: b.port2.IfIndex}) || f.Packets != 2 ||
		f.Bytes != uint64(2*len(frame)) || !f.Current || f.LastSeen < f.Created {
		t.Errorf("flow is %+v", f)
	}
	for port, want := range map[int]Counters{
		b.port1.IfIndex: {FromPackets: 2, FromBytes: uint64(2 * len(frame))},
		b.port2.IfIndex: {ToPackets: 2, ToBytes: uint64(2 * len(frame))},
	} {
		if got, err := b.dp.Counters(port); err != nil || got != want {
			t.Errorf("counters of %d are %+v, %v, want %+v", port, got, err, want)
		}
	}
}

func TestNetEncapsulation(t *testing.T) {
	b := newBench(t)
	frame := udpFrame(mac1, addr1, farAddr, func(ip *layers.IPv4) { ip.TOS = 0xb8 | 1 })
	var port uint16
	for range 2 {
		verdict, out := b.fromPort(b.port1, frame)
		wantVerdict(t, verdict, tcRedirect)
		sport := binary.BigEndian.Uint16(out[14+20:])
		if sport < 49152 {
			t.Errorf("outer source port %d is below 49152", sport)
		}
		if port != 0 && sport != port {
			t.Errorf("outer source port changed from %d to %d in a flow", port, sport)
		}
		port = sport
		want := tunnelled(localIP, remoteIP, farLabel, sport, routed(frame, mac2),
			func(ip *layers.IPv4) { ip.TOS = 0xb8 })
		// The neighbour's MACs come later, with the redirect.
		wantFrame(t, out[14:], want[14:])
	}
	other := udpFrame(mac1, addr1, farAddr2)
	_, out := b.fromPort(b.port1, other)
	if got := binary.BigEndian.Uint32(out[14+28:]) >> 12; got != farLabel2 {
		t.Errorf("label is %d, want %d", got, farLabel2)
	}
}

func TestNetSourcePortsSpread(t *testing.T) {
	b := newBench(t)
	ports := map[uint16]bool{}
	for sport := range 64 {
		ip := ipv4(addr1, farAddr, layers.IPProtocolUDP)
		frame := serialize(ethernet(mac1, RouterMAC()), ip, udp(ip, 1000+sport, 53), payload)
		_, out := b.fromPort(b.port1, frame)
		ports[binary.BigEndian.Uint16(out[14+20:])] = true
	}
	if len(ports) < 32 {
		t.Errorf("64 flows leave by %d source ports", len(ports))
	}
}

func TestNetDecapsulation(t *testing.T) {
	b := newBench(t)
	inner := udpFrame(mac1, farAddr, addr1)
	for range 2 {
		verdict, out := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, inner))
		wantVerdict(t, verdict, tcRedirect)
		wantFrame(t, out, append(append(append([]byte{}, mac1[:]...), hw(RouterMAC())...), inner[12:]...))
	}
	flows := b.flows()
	if len(flows) != 1 || flows[0].Direction != FromTunnel || flows[0].Label != label1 ||
		flows[0].OuterSource != remoteIP || flows[0].IfIndex != b.port1.IfIndex || flows[0].Packets != 2 ||
		flows[0].Bytes != uint64(2*len(inner)) ||
		flows[0].NextHop != (NextHop{Kind: Local, IfIndex: b.port1.IfIndex}) {
		t.Errorf("flows are %+v", flows)
	}
	c, err := b.dp.Counters(b.port1.IfIndex)
	if want := (Counters{ToPackets: 2, ToBytes: uint64(2 * len(inner))}); err != nil || c != want {
		t.Errorf("counters are %+v, %v, want %+v", c, err, want)
	}
	// The second address of the port, too.
	verdict, _ := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, udpFrame(mac1, farAddr, addr1b)))
	wantVerdict(t, verdict, tcRedirect)
}

func TestNetARP(t *testing.T) {
	request := func(senderMAC MAC, sender, target netip.Addr) *layers.ARP {
		return &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4,
			HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: senderMAC[:], SourceProtAddress: sender.AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice(),
		}
	}
	frame := func(src MAC, arp *layers.ARP) []byte {
		eth := ethernet(src, MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		eth.EthernetType = layers.EthernetTypeARP
		return serialize(eth, arp)
	}
	b := newBench(t)

	verdict, out := b.fromPort(b.port1, frame(mac1, request(mac1, addr1, farAddr)))
	wantVerdict(t, verdict, tcRedirect)
	reply := &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4,
		HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPReply,
		SourceHwAddress: hw(RouterMAC()), SourceProtAddress: farAddr.AsSlice(),
		DstHwAddress: hw(mac1), DstProtAddress: addr1.AsSlice(),
	}
	eth := ethernet(RouterMAC(), mac1)
	eth.EthernetType = layers.EthernetTypeARP
	wantFrame(t, out, serialize(eth, reply))

	answer := request(mac1, addr1, farAddr)
	answer.Operation = layers.ARPReply
	ipv6 := request(mac1, addr1, farAddr)
	ipv6.Protocol = layers.EthernetTypeIPv6
	ignored := []struct {
		name   string
		frame  []byte
		reason DropReason
	}{
		{"probe", frame(mac1, request(mac1, netip.IPv4Unspecified(), addr1)), DropARP},
		{"announcement", frame(mac1, request(mac1, addr1, addr1)), DropARP},
		{"for another address of the port", frame(mac1, request(mac1, addr1, addr1b)), DropARP},
		{"reply", frame(mac1, answer), DropARP},
		{"foreign sender MAC", frame(mac1, request(mac2, addr1, farAddr)), DropSourceMAC},
		{"foreign frame MAC", frame(mac2, request(mac1, addr1, farAddr)), DropSourceMAC},
		{"foreign sender address", frame(mac1, request(mac1, addr2, farAddr)), DropSourceAddress},
		{"not IPv4", frame(mac1, ipv6), DropMalformed},
		{"cut off", frame(mac1, request(mac1, addr1, farAddr))[:14+27], DropMalformed},
	}
	for _, c := range ignored {
		t.Run(c.name, func(t *testing.T) {
			verdict, _ := b.fromPort(b.port1, c.frame)
			b.wantDrop(verdict, c.reason, b.port1.IfIndex)
		})
	}
}

func TestNetRefusedFromPort(t *testing.T) {
	b := newBench(t)
	b.must(b.dp.PutRoute(RouteKey{vrf, netip.MustParsePrefix("10.99.0.0/16")}, NextHop{}))
	b.must(b.dp.PutRoute(RouteKey{vrf, netip.MustParsePrefix("10.98.0.0/16")}, NextHop{Kind: Local, Label: 4242}))
	b.must(b.dp.PutRoute(RouteKey{vrf, netip.MustParsePrefix("10.97.0.1/32")}, NextHop{Kind: Local, Label: label2}))
	ttl := func(v uint8) func(*layers.IPv4) { return func(ip *layers.IPv4) { ip.TTL = v } }
	good := udpFrame(mac1, addr1, farAddr)
	ip := ipv4(addr1, farAddr, layers.IPProtocolUDP)
	ipv6 := slices.Clone(good)
	ipv6[12], ipv6[13] = 0x86, 0xdd
	mpls := slices.Clone(good)
	mpls[12], mpls[13] = 0x88, 0x47
	vlan := slices.Clone(good)
	vlan[12], vlan[13] = 0x81, 0x00
	cases := []struct {
		name   string
		frame  []byte
		reason DropReason
	}{
		{"spoofed address", udpFrame(mac1, farAddr2, farAddr), DropSourceAddress},
		{"address of the neighbour port", udpFrame(mac1, addr2, farAddr), DropSourceAddress},
		{"spoofed MAC", udpFrame(mac2, addr1, farAddr), DropSourceMAC},
		{"no route", udpFrame(mac1, addr1, netip.MustParseAddr("10.40.0.1")), DropNoRoute},
		{"discard route", udpFrame(mac1, addr1, netip.MustParseAddr("10.99.3.1")), DropDiscard},
		{"port that is not there", udpFrame(mac1, addr1, netip.MustParseAddr("10.98.3.1")), DropNextHop},
		{"label that somebody else has now", udpFrame(mac1, addr1, netip.MustParseAddr("10.97.0.1")), DropDestinationAddress},
		{"multicast", udpFrame(mac1, addr1, netip.MustParseAddr("224.0.0.251")), DropMulticast},
		{"broadcast", udpFrame(mac1, addr1, netip.MustParseAddr("255.255.255.255")), DropMulticast},
		{"broadcast frame", serialize(ethernet(mac1, MAC{255, 255, 255, 255, 255, 255}), ip, udp(ip, 1, 2)), DropMulticast},
		{"frame to the neighbour", serialize(ethernet(mac1, mac2), ip, udp(ip, 1, 2)), DropDestinationMAC},
		{"TTL 1", udpFrame(mac1, addr1, farAddr, ttl(1)), DropTTL},
		{"TTL 0", udpFrame(mac1, addr1, farAddr, ttl(0)), DropTTL},
		{"IPv4 as IPv6", ipv6, DropMalformed},
		{"MPLS", mpls, DropProtocol},
		{"VLAN", vlan, DropProtocol},
	}
	for _, established := range []bool{false, true} {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				verdict, _ := b.fromPort(b.port1, c.frame)
				b.wantDrop(verdict, c.reason, b.port1.IfIndex)
			})
		}
		if n := len(b.flows()); !established && n != 0 {
			t.Errorf("refused packets made %d flows", n)
		}
		// The same again beside an established flow of the same addresses and
		// ports: it must not vouch for other MACs or an expired TTL.
		verdict, _ := b.fromPort(b.port1, good)
		wantVerdict(t, verdict, tcRedirect)
	}
	verdict, _ := b.run(b.dp.objects.VifRx, b.eth0, good)
	b.wantDrop(verdict, DropNoPort, b.eth0)
}

func TestNetRefusedFromTunnel(t *testing.T) {
	b := newBench(t)
	b.must(b.dp.PutRoute(RouteKey{vrf, netip.MustParsePrefix("10.99.0.0/16")}, NextHop{}))
	good := udpFrame(mac1, farAddr, addr1)
	wire := func(label uint32, inner []byte, change ...func(*layers.IPv4)) []byte {
		return tunnelled(remoteIP, localIP, label, 50000, inner, change...)
	}
	notBottom := wire(label1, good)
	notBottom[14+28+2] &^= 1
	at1, at2, eth0 := b.port1.IfIndex, b.port2.IfIndex, b.eth0
	cases := []struct {
		name   string
		frame  []byte
		reason DropReason
		at     int
	}{
		{"unknown label", wire(4242, good), DropLabel, eth0},
		{"label stack", notBottom, DropLabelStack, eth0},
		{"destination of another port", wire(label1, udpFrame(mac1, farAddr, addr2)), DropDestinationAddress, at1},
		{"label of another port", wire(label2, good), DropDestinationAddress, at2},
		{"outer source is another node", tunnelled(otherIP, localIP, label1, 50000, good), DropTunnelSource, at1},
		{"inner source is local", wire(label1, udpFrame(mac1, addr2, addr1)), DropTunnelSource, at1},
		{"inner source is discarded", wire(label1, udpFrame(mac1, netip.MustParseAddr("10.99.0.1"), addr1)), DropTunnelSource, at1},
		{"inner source unknown", wire(label1, udpFrame(mac1, netip.MustParseAddr("10.40.0.1"), addr1)), DropNoSourceRoute, at1},
		{"outer fragment", wire(label1, good, func(ip *layers.IPv4) { ip.Flags = layers.IPv4MoreFragments }), DropOuterFragment, eth0},
	}
	for _, established := range []bool{false, true} {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				verdict, _ := b.fromWire(c.frame)
				b.wantDrop(verdict, c.reason, c.at)
			})
		}
		if n := len(b.flows()); !established && n != 0 {
			t.Errorf("refused packets made %d flows", n)
		}
		verdict, _ := b.fromWire(wire(label1, good))
		wantVerdict(t, verdict, tcRedirect)
	}
}

func TestNetUnderlayLeavesTheRestToTheStack(t *testing.T) {
	b := newBench(t)
	good := udpFrame(mac1, farAddr, addr1)
	ip := ipv4(remoteIP, localIP, layers.IPProtocolUDP)
	tcp := ipv4(remoteIP, localIP, layers.IPProtocolTCP)
	ipv6 := tunnelled(remoteIP, localIP, label1, 50000, good)
	ipv6[12], ipv6[13] = 0x86, 0xdd
	cases := map[string][]byte{
		"other port":     serialize(ethernet(nic, nic), ip, udp(ip, 6635, 53), payload),
		"other address":  tunnelled(remoteIP, otherIP, label1, 50000, good),
		"TCP":            serialize(ethernet(nic, nic), tcp, gopacket.Payload([]byte("\x00\x01\x19\xeb and the rest of a TCP header"))),
		"later fragment": tunnelled(remoteIP, localIP, label1, 50000, good, func(ip *layers.IPv4) { ip.FragOffset = 10 }),
		"IPv6":           ipv6,
		"runt":           make([]byte, 14),
	}
	for name, frame := range cases {
		t.Run(name, func(t *testing.T) {
			verdict, out := b.fromWire(frame)
			wantVerdict(t, verdict, tcNext)
			wantFrame(t, out, frame)
		})
	}
	if drops := b.dropped(); len(drops) != 0 {
		t.Errorf("drops are %v, want none", drops)
	}
}

func TestNetBlockedPort(t *testing.T) {
	b := newBench(t)
	out1 := udpFrame(mac1, addr1, farAddr)
	to1 := udpFrame(mac2, addr2, addr1)
	wire := tunnelled(remoteIP, localIP, label1, 50000, udpFrame(mac1, farAddr, addr1))
	all := func(want uint32) (verdicts [3]uint32) {
		verdicts[0], _ = b.fromPort(b.port1, out1)
		verdicts[1], _ = b.fromPort(b.port2, to1)
		verdicts[2], _ = b.fromWire(wire)
		for i, v := range verdicts {
			if v != want {
				t.Errorf("verdict %d is %d, want %d", i, v, want)
			}
		}
		return verdicts
	}
	all(tcRedirect)
	blocked := b.port1
	blocked.Blocked = true
	b.putPort(blocked)
	all(tcDrop)
	want := map[Drop]bool{
		{Reason: DropBlocked, IfIndex: b.port1.IfIndex, Packets: 2}: true,
		{Reason: DropBlocked, IfIndex: b.port2.IfIndex, Packets: 1}: true,
	}
	got := b.dropped()
	for d := range want {
		if !got[d] {
			t.Errorf("drops are %v, want %v", got, want)
		}
	}
	b.putPort(b.port1)
	all(tcRedirect)
}

func TestNetFragments(t *testing.T) {
	b := newBench(t)
	first := udpFrame(mac1, addr1, farAddr, func(ip *layers.IPv4) { ip.Flags = layers.IPv4MoreFragments })
	// A later fragment has no ports: what is at their place is payload.
	ip := ipv4(addr1, farAddr, layers.IPProtocolUDP)
	ip.FragOffset = 10
	later := serialize(ethernet(mac1, RouterMAC()), ip, payload)
	last := serialize(ethernet(mac1, RouterMAC()), ip, gopacket.Payload("x"))
	for _, frame := range [][]byte{first, later, last} {
		verdict, _ := b.fromPort(b.port1, frame)
		wantVerdict(t, verdict, tcRedirect)
	}
	if flows := b.flows(); len(flows) != 1 || flows[0].DstPort != 53 || flows[0].Packets != 3 {
		t.Errorf("flows are %+v, want one to port 53 with all three packets", flows)
	}
	// One whose first was not seen has no ports.
	ip.Id++
	verdict, _ := b.fromPort(b.port1, serialize(ethernet(mac1, RouterMAC()), ip, payload))
	wantVerdict(t, verdict, tcRedirect)
	var ports []uint16
	for _, f := range b.flows() {
		ports = append(ports, f.DstPort)
	}
	slices.Sort(ports)
	if !slices.Equal(ports, []uint16{0, 53}) {
		t.Errorf("flows are to ports %v, want one of lost fragments (0) and one of 53", ports)
	}
}

func TestNetTooBigForUnderlay(t *testing.T) {
	b := newBench(t)
	of := func(size int) []byte { // IP packet of this size
		ip := ipv4(addr1, farAddr, layers.IPProtocolUDP)
		return serialize(ethernet(mac1, RouterMAC()), ip, udp(ip, 1000, 53), make(gopacket.Payload, size-28))
	}
	verdict, _ := b.fromPort(b.port1, of(1468))
	wantVerdict(t, verdict, tcRedirect)
	verdict, _ = b.fromPort(b.port1, of(1469))
	b.wantDrop(verdict, DropTooBig, b.port1.IfIndex)

	// A super-packet is judged by its segments and counts as them.
	// (A test run cannot say that the segments are UDP's, so that the kernel
	// refuses to encapsulate the one that fits.)
	gso := skBuff{IfIndex: uint32(b.port1.IfIndex), GSOSegs: 2, GSOSize: 1440}
	b.runAs(b.dp.objects.VifRx, gso, of(2908))
	gso.GSOSize = 1441
	b.runAs(b.dp.objects.VifRx, gso, of(2908))
	drops := b.dropped()
	for _, reason := range []DropReason{DropEncapsulate, DropTooBig} {
		if want := (Drop{Reason: reason, IfIndex: b.port1.IfIndex, Packets: 2}); !drops[want] {
			t.Errorf("drops are %v, want %v", drops, want)
		}
	}
}

func TestNetMalformed(t *testing.T) {
	b := newBench(t)
	good := udpFrame(mac1, addr1, farAddr)
	inner := udpFrame(mac1, farAddr, addr1)
	patch := func(frame []byte, at int, value ...byte) []byte {
		frame = slices.Clone(frame)
		copy(frame[at:], value)
		return frame
	}
	tcp := ipv4(addr1, farAddr, layers.IPProtocolTCP)
	icmp := ipv4(addr1, farAddr, layers.IPProtocolICMPv4)
	cases := map[string][]byte{
		"version 5":               patch(good, 14, 0x55),
		"header length 4":         patch(good, 14, 0x44),
		"header longer than all":  patch(good, 14, 0x4f),
		"length below header":     patch(good, 16, 0, 19),
		"length beyond frame":     patch(good, 16, 0xff, 0xff),
		"no UDP header":           patch(good[:14+20], 16, 0, 20),
		"half a UDP header":       patch(good[:14+27], 16, 0, 27),
		"TCP header cut off":      serialize(ethernet(mac1, RouterMAC()), tcp, make(gopacket.Payload, 19)),
		"ICMP header cut off":     serialize(ethernet(mac1, RouterMAC()), icmp, make(gopacket.Payload, 7)),
		"options over everything": patch(good[:14+24], 14, 0x4f, 0, 0, 24),
	}
	for name, frame := range cases {
		t.Run(name, func(t *testing.T) {
			verdict, _ := b.fromPort(b.port1, frame)
			b.wantDrop(verdict, DropMalformed, b.port1.IfIndex)
		})
	}
	outer := tunnelled(remoteIP, localIP, label1, 50000, inner)
	tunnel := map[string][]byte{
		"no label":              outer[:14+28],
		"half a label":          outer[:14+30],
		"nothing after label":   outer[:14+32],
		"half an inner header":  outer[:14+32+19],
		"inner version 5":       patch(outer, 14+32, 0x55),
		"inner version 6":       patch(outer, 14+32, 0x65),
		"inner length too long": patch(outer, 14+32+2, 0xff, 0xff),
		"no inner UDP header":   patch(outer[:14+32+20], 14+32+2, 0, 20),
	}
	for name, frame := range tunnel {
		t.Run("tunnel: "+name, func(t *testing.T) {
			verdict, _ := b.fromWire(frame)
			b.wantDrop(verdict, DropMalformed, b.eth0)
		})
	}
	// IP options are no error.
	options := ipv4(addr1, farAddr, layers.IPProtocolUDP)
	options.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 0}}
	verdict, _ := b.fromPort(b.port1, serialize(ethernet(mac1, RouterMAC()), options, udp(options, 1000, 53), payload))
	wantVerdict(t, verdict, tcRedirect)
}

// shortest is the shortest IPv4 frame that the kernel takes for a test run; the
// namespace tests send shorter ones.
const shortest = 14 + 20

// Every cut and every changed byte of good frames: whatever the verdict, a frame
// that is passed on has gone through the same checks.
func TestNetMangledFrames(t *testing.T) {
	b := newBench(t)
	good := udpFrame(mac1, addr1, farAddr)
	outer := tunnelled(remoteIP, localIP, label1, 50000, udpFrame(mac1, farAddr, addr1))
	for cut := shortest; cut < len(good); cut++ {
		if verdict, _ := b.fromPort(b.port1, good[:cut]); verdict != tcDrop {
			t.Errorf("frame cut to %d bytes: verdict %d", cut, verdict)
		}
	}
	for cut := shortest; cut < len(outer); cut++ {
		if verdict, _ := b.fromWire(outer[:cut]); verdict != tcDrop && verdict != tcNext {
			t.Errorf("tunnel frame cut to %d bytes: verdict %d", cut, verdict)
		}
	}
	for at := range 14 + 28 {
		for _, flip := range []byte{1, 0x80, 0xff} {
			frame := slices.Clone(good)
			frame[at] ^= flip
			verdict, out := b.fromPort(b.port1, frame)
			if verdict == tcRedirect && at >= 6 && at < 12 {
				t.Errorf("source MAC changed at %d passes", at)
			}
			if verdict == tcRedirect && at >= 26 && at < 30 {
				t.Errorf("source address changed at %d passes: %x", at, out)
			}
		}
	}
	for at := range 14 + 32 + 28 {
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
