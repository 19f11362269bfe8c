//go:build net

package dataplane

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

var everybody = MAC{255, 255, 255, 255, 255, 255}

const someEthertype = 0x88b5 // of experiments (IEEE 802)

// frameOf is a frame that is not IP.
func rawFrame(src, dst MAC, text string) []byte {
	return slices.Concat(dst[:], src[:], []byte{someEthertype >> 8, someEthertype & 0xff}, []byte(text))
}

func arpOf(src MAC, operation byte, sender, target netip.Addr) []byte {
	a := slices.Concat(everybody[:], src[:], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, operation}, src[:], sender.AsSlice(), make([]byte, 6), target.AsSlice())
	return a
}

// newBridgeBench is a bench whose network is a bridge to two nodes.
func newBridgeBench(t *testing.T, b Bridge, change ...func(*Config)) *bench {
	t.Helper()
	n := newBench(t, change...)
	b.Remotes, _ = ListRemotes([]Remote{{remoteIP, farVNI}, {otherIP, farVNI + 1}})
	far := NextHop{Kind: Tunnel, Remote: remoteIP, Encapsulation: VXLAN, VNI: farVNI}
	n.must(errors.Join(
		n.dp.PutVNI(vni, vrf), n.dp.PutBridge(vrf, b),
		n.dp.PutMACs(map[MACKey]NextHop{
			{vrf, mac1}:   {Kind: Local, Label: label1},
			{vrf, mac2}:   {Kind: Local, Label: label2},
			{vrf, farMAC}: far,
		}),
		n.dp.PutRoute(host(vrf, farAddr), far),
	))
	for _, a := range []netip.Addr{remoteIP, otherIP} { // nobody answers there
		if _, err := n.ns.Run("ip", "neigh", "replace", a.String(), "lladdr", farMAC.String(), "dev", "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// taker captures what goes to a device of a bench, or comes to one of a container.
type taker struct {
	*sniffer
	name string
}

func (b *bench) takers() map[string]*taker {
	b.t.Helper()
	all := map[string]*taker{}
	for _, device := range []string{"tap1", "tap2", "eth0"} {
		all[device] = &taker{sniffBench(b.t, b.ns, device), device}
	}
	return all
}

func sniffBench(t testing.TB, ns *nstest.NS, device string) *sniffer {
	t.Helper()
	s := &sniffer{}
	ns.Must(func() error {
		fd, err := packetSocket(ns.Link(device).Attrs().Index)
		s.file = os.NewFile(uintptr(fd), "packets of "+device)
		return err
	})
	t.Cleanup(func() { s.file.Close() })
	return s
}

// until are the frames up to one that ends with a text.
func (k *taker) until(t testing.TB, end string) (frames [][]byte) {
	t.Helper()
	k.file.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 70000)
	for {
		n, err := k.file.Read(buf)
		if err != nil {
			t.Fatalf("%s: %v before %q, after %d frames", k.name, err, end, len(frames))
		}
		if bytes.HasSuffix(bytes.TrimRight(buf[:n], "\x00"), []byte(end)) {
			return frames
		}
		if n > 14 && (buf[12] != 0x86 || buf[13] != 0xdd) { // the devices' own IPv6
			frames = append(frames, bytes.Clone(buf[:n]))
		}
	}
}

// mark sends a frame to a device of a bench, past the programs.
func (b *bench) mark(device, text string) {
	b.t.Helper()
	send(b.t, b.ns, device, rawFrame(nic, nic, text))
}

// sentOut are the remotes that VXLAN went to, with the frames inside. The underlay
// shows each twice: as it comes in for a second time, and as it goes out.
func sentOut(t *testing.T, own MAC, frames [][]byte) map[netip.Addr][][]byte {
	t.Helper()
	out := map[netip.Addr][][]byte{}
	for _, f := range frames {
		p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
		ip, _ := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		vx, _ := p.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
		if ip == nil || vx == nil {
			continue
		}
		if MAC(f[6:12]) != own {
			continue // it comes in
		}
		remote, _ := netip.AddrFromSlice(ip.DstIP)
		if want := map[netip.Addr]uint32{remoteIP: farVNI, otherIP: farVNI + 1}[remote]; vx.VNI != want {
			t.Errorf("VNI to %s is %d, want %d", remote, vx.VNI, want)
		}
		out[remote] = append(out[remote], vx.LayerPayload())
	}
	return out
}

// TestNetFloodFromPort: what is for all goes to the other ports and to each
// remote, once, as it is.
func TestNetFloodFromPort(t *testing.T) {
	ip := ipv4(addr1, netip.MustParseAddr("255.255.255.255"), layers.IPProtocolUDP)
	for name, frame := range map[string][]byte{
		"frame of no protocol": rawFrame(mac1, everybody, "a frame of an experiment, and a long one at that, of more than sixty bytes"),
		"short frame":          rawFrame(mac1, everybody, "x"),
		"UDP":                  serialize(ethernet(mac1, everybody), ip, udp(ip, 1000, 53), payload),
		"multicast":            serialize(ethernet(mac1, MAC{1, 0, 0x5e, 0, 0, 0xfb}), ipv4(addr1, netip.MustParseAddr("224.0.0.251"), layers.IPProtocolUDP), payload),
		"ARP":                  arpOf(mac1, 1, addr1, addr2),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBridgeBench(t, Bridge{})
			takers := b.takers()
			verdict, _ := b.fromPort(b.port1, frame)
			if verdict != tcDrop || len(b.dropped()) != 0 {
				t.Errorf("verdict %d, drops %v", verdict, b.dropped())
			}
			for device := range takers {
				b.mark(device, "end")
			}
			if got := takers["tap1"].until(t, "end"); len(got) != 0 {
				t.Errorf("it came back: %x", got)
			}
			if got := takers["tap2"].until(t, "end"); len(got) != 1 || !bytes.Equal(got[0], frame) {
				t.Errorf("the other port got %x, want %x", got, frame)
			}
			padded := append(bytes.Clone(frame), make([]byte, max(0, 60-len(frame)))...)
			if strings.Contains(name, "UDP") || name == "multicast" {
				padded = frame
			}
			var got map[netip.Addr][][]byte
			deadline := time.Now().Add(patience)
			var seen [][]byte
			for i := 0; len(got) < 2 && time.Now().Before(deadline); i++ {
				end := fmt.Sprint("end of ", i)
				b.mark("eth0", end)
				seen = append(seen, takers["eth0"].until(t, end)...)
				got = sentOut(t, MAC(b.ns.Link("eth0").Attrs().HardwareAddr), seen)
			}
			for _, remote := range []netip.Addr{remoteIP, otherIP} {
				if frames := got[remote]; len(frames) != 1 || !bytes.Equal(frames[0], padded) {
					t.Errorf("%s got %x, want %x", remote, frames, padded)
				}
			}
		})
	}
}

// TestNetFramesFromPort: what becomes of frames by mode of the network.
func TestNetFramesFromPort(t *testing.T) {
	toMAC := func(dst MAC, to netip.Addr) []byte { return between(mac1, dst, udpFrame(mac1, addr1, to)) }
	stranger := MAC{2, 0, 0, 0, 0, 77}
	tagged := slices.Concat(everybody[:], mac1[:], []byte{0x81, 0, 0, 5}, udpFrame(mac1, addr1, addr2)[12:])
	ipv6 := slices.Concat(everybody[:], mac1[:], []byte{0x86, 0xdd}, make([]byte, 40))
	for mode, bridge := range map[string]Bridge{"l2": {}, "l2_l3": {Routes: true}} {
		t.Run(mode, func(t *testing.T) {
			b := newBridgeBench(t, bridge)
			for _, c := range []struct {
				name   string
				frame  []byte
				reason DropReason
			}{
				{"MAC of somebody else", rawFrame(mac2, everybody, "spoofed"), DropSourceMAC},
				{"address of somebody else", between(mac1, everybody, udpFrame(mac1, addr2, netip.MustParseAddr("255.255.255.255"))), DropSourceAddress},
				{"unknown MAC", rawFrame(mac1, stranger, "hello"), DropUnknownMAC},
				{"unknown MAC and IP", toMAC(stranger, addr2), DropUnknownMAC},
				{"many MACs and one address", toMAC(everybody, addr2), DropDestinationMAC},
				{"tagged", tagged, DropProtocol},
				{"IPv6 that is none", ipv6, DropMalformed},
				{"IPv6 of somebody else", between(mac1, mac2, udpFrame6(mac1, one6, two6)), DropSourceAddress},
				{"for the bridge", rawFrame(mac1, MAC{1, 0x80, 0xc2, 0, 0, 0}, "spanning tree"), DropMulticast},
				{"itself", rawFrame(mac1, mac1, "me"), DropDestinationMAC},
			} {
				verdict, _ := b.fromPort(b.port1, c.frame)
				b.t = t
				if b.wantDrop(verdict, c.reason, b.port1.IfIndex); t.Failed() {
					t.Fatal(c.name)
				}
			}
			for range 2 { // the first packet decides, the second finds the flow
				frame := rawFrame(mac1, mac2, "unicast")
				verdict, out := b.fromPort(b.port1, frame)
				wantVerdict(t, verdict, tcRedirect)
				wantFrame(t, out, frame)
				frame = toMAC(mac2, addr2)
				verdict, out = b.fromPort(b.port1, frame)
				wantVerdict(t, verdict, tcRedirect)
				if want := map[string][]byte{"l2": frame, "l2_l3": routed(frame, mac2)}[mode]; !bytes.Equal(out, want) {
					t.Errorf("IP to a MAC became %x, want %x", out, want)
				}
				frame = toMAC(farMAC, farAddr)
				verdict, out = b.fromPort(b.port1, frame)
				wantVerdict(t, verdict, tcRedirect)
				if mode == "l2" {
					sport := uint16(out[34])<<8 | uint16(out[35])
					wantFrame(t, out[14:], byVXLAN(localIP, remoteIP, farVNI, sport, frame)[14:])
				}
				frame = rawFrame(mac1, farMAC, "unicast to a far node, which is of more than sixty bytes, as is usual")
				verdict, out = b.fromPort(b.port1, frame)
				wantVerdict(t, verdict, tcRedirect)
				sport := uint16(out[34])<<8 | uint16(out[35])
				wantFrame(t, out[14:], byVXLAN(localIP, remoteIP, farVNI, sport, frame)[14:])
			}
			arp := map[string]DropReason{"l2": DropSourceAddress, "l2_l3": DropSourceAddress}
			verdict, _ := b.fromPort(b.port1, arpOf(mac1, 1, addr2, addr1))
			b.wantDrop(verdict, arp[mode], b.port1.IfIndex)
			verdict, out := b.fromPort(b.port1, arpOf(mac1, 1, addr1, addr2))
			if mode == "l2_l3" {
				wantVerdict(t, verdict, tcRedirect)
				if MAC(out[22:28]) != RouterMAC() {
					t.Errorf("the answer is %x", out)
				}
			} else if verdict != tcDrop || len(b.dropped()) != 0 {
				t.Errorf("ARP is not flooded: %d, %v", verdict, b.dropped())
			}
			// IPv6 is routed where IPv4 is, and bridged nowhere.
			b.port1.Addresses = append(b.port1.Addresses, one6)
			b.putPort(b.port1)
			b.must(b.dp.PutRoute(host(vrf, far6), NextHop{Kind: Tunnel, Remote: remoteIP, Label: farLabel}))
			for dst, reason := range map[MAC]DropReason{RouterMAC(): 0, mac2: 0, stranger: DropDestinationMAC, everybody: DropMulticast} {
				if mode == "l2" {
					reason = DropProtocol
				}
				verdict, _ := b.fromPort(b.port1, between(mac1, dst, udpFrame6(mac1, one6, far6)))
				if reason == 0 {
					wantVerdict(t, verdict, tcRedirect)
				} else {
					b.wantDrop(verdict, reason, b.port1.IfIndex)
				}
			}
		})
	}
}

// TestNetFramesFromTunnel: frames come from where the network is, for ports of
// this node alone.
func TestNetFramesFromTunnel(t *testing.T) {
	wire := func(outer netip.Addr, frame []byte) []byte { return byVXLAN(outer, localIP, vni, 50000, frame) }
	text := "of more than sixty bytes, as frames on a wire are, padding apart"
	stranger := MAC{2, 0, 0, 0, 0, 77}
	for mode, bridge := range map[string]Bridge{"l2": {}, "l2_l3": {Routes: true}} {
		t.Run(mode, func(t *testing.T) {
			b := newBridgeBench(t, bridge)
			b.forgetDrops()
			for name, c := range map[string]struct {
				frame  []byte
				reason DropReason
			}{
				"no member":             {wire(netip.MustParseAddr("172.31.0.66"), rawFrame(stranger, everybody, text)), DropTunnelSource},
				"another member's MAC":  {wire(otherIP, rawFrame(farMAC, everybody, text)), DropTunnelSource},
				"MAC of a port here":    {wire(otherIP, rawFrame(mac1, everybody, text)), DropTunnelSource},
				"another's address":     {wire(otherIP, serialize(ethernet(stranger, everybody), ipv4(farAddr, netip.MustParseAddr("10.255.255.255"), layers.IPProtocolUDP), payload)), DropTunnelSource},
				"unknown MAC to one":    {wire(remoteIP, rawFrame(stranger, mac1, text)), DropNoSourceRoute},
				"for a MAC elsewhere":   {wire(remoteIP, rawFrame(farMAC, farMAC, text)), DropDestinationMAC},
				"for a MAC of nobody":   {wire(remoteIP, rawFrame(farMAC, stranger, text)), DropUnknownMAC},
				"many, but one address": {wire(remoteIP, serialize(ethernet(farMAC, everybody), ipv4(farAddr, addr1, layers.IPProtocolUDP), payload)), DropDestinationMAC},
				"tagged":                {wire(remoteIP, slices.Concat(everybody[:], farMAC[:], []byte{0x81, 0, 0, 5}, make([]byte, 60))), DropProtocol},
			} {
				b.t = t
				verdict, _ := b.fromWire(c.frame)
				if b.wantDrop(verdict, c.reason, b.eth0); t.Failed() {
					t.Fatal(name)
				}
			}
			takers := b.takers()
			for _, frame := range [][]byte{
				rawFrame(farMAC, everybody, text),
				rawFrame(stranger, MAC{3, 0, 0, 0, 0, 1}, text),
				rawFrame(farMAC, everybody, "short"),
				serialize(ethernet(farMAC, everybody), ipv4(farAddr, netip.MustParseAddr("255.255.255.255"), layers.IPProtocolUDP), payload),
			} {
				verdict, _ := b.fromWire(wire(remoteIP, frame))
				if verdict != tcDrop || len(b.dropped()) != 0 {
					t.Errorf("verdict %d, drops %v", verdict, b.dropped())
				}
				for device := range takers {
					b.mark(device, "end")
				}
				frame = append(bytes.Clone(frame), make([]byte, max(0, 60-len(frame)))...)
				for _, device := range []string{"tap1", "tap2"} {
					if got := takers[device].until(t, "end"); len(got) != 1 || !bytes.Equal(got[0], frame) {
						t.Errorf("%s got %x, want %x", device, got, frame)
					}
				}
				if got := takers["eth0"].until(t, "end"); len(got) != 0 {
					t.Errorf("what came by tunnel left by it: %x", got)
				}
			}
			verdict, out := b.fromWire(wire(remoteIP, rawFrame(farMAC, mac1, text)))
			wantVerdict(t, verdict, tcRedirect)
			wantFrame(t, out, rawFrame(farMAC, mac1, text))
			if mode == "l2_l3" {
				return
			}
			frame := between(farMAC, mac1, udpFrame(farMAC, farAddr, addr1))
			for range 2 {
				verdict, out = b.fromWire(wire(remoteIP, frame))
				wantVerdict(t, verdict, tcRedirect)
				wantFrame(t, out, frame)
			}
			if flows := b.flows(); len(flows) != 1 || flows[0].Packets != 2 || flows[0].NextHop.Kind != Bridged {
				t.Errorf("flows %+v", flows)
			}
			verdict, _ = b.fromWire(wire(remoteIP, between(farMAC, mac2, frame)))
			b.wantDrop(verdict, DropDestinationAddress, b.port2.IfIndex)
			verdict, _ = b.fromWire(wire(otherIP, frame))
			b.wantDrop(verdict, DropTunnelSource, b.eth0)
		})
	}
}

// TestNetUnknownIsFlooded: where the network says so.
func TestNetUnknownIsFlooded(t *testing.T) {
	b := newBridgeBench(t, Bridge{Routes: true, FloodsUnknown: true})
	stranger := MAC{2, 0, 0, 0, 0, 77}
	takers := b.takers()
	frame := rawFrame(mac1, stranger, "where are you, whoever has a MAC that nobody has told of?")
	if verdict, _ := b.fromPort(b.port1, frame); verdict != tcDrop || len(b.dropped()) != 0 {
		t.Errorf("verdict %d, drops %v", verdict, b.dropped())
	}
	b.mark("tap2", "end")
	if got := takers["tap2"].until(t, "end"); len(got) != 1 {
		t.Errorf("the other port got %x", got)
	}
}

// TestNetFloodsArePaidFor: a port that floods too much is stopped, and nobody else.
func TestNetFloodsArePaidFor(t *testing.T) {
	b := newBridgeBench(t, Bridge{}, func(c *Config) { c.FloodRate = 1 })
	passed := 0
	for passed < 1000 {
		verdict, _ := b.fromPort(b.port1, rawFrame(mac1, everybody, "storm"))
		wantVerdict(t, verdict, tcDrop)
		if len(b.dropped()) != 0 {
			b.wantDrop(verdict, DropFloodRate, b.port1.IfIndex)
			break
		}
		passed++
	}
	// Five copies each, of those that may be ahead.
	if passed < MaxRemotes/5 || passed > MaxRemotes/5+2 {
		t.Errorf("%d frames passed", passed)
	}
	b.fromPort(b.port2, rawFrame(mac2, everybody, "calm"))
	if d := b.dropped(); len(d) != 0 {
		t.Errorf("the other port is stopped, too: %v", d)
	}
	if verdict, _ := b.fromPort(b.port1, rawFrame(mac1, mac2, "unicast")); verdict != tcRedirect {
		t.Errorf("what is for one is stopped, too: %d", verdict)
	}
}

// TestNetPolicyOfFrames: frames that are not IP pass where everything may, those
// for many as each port says.
func TestNetPolicyOfFrames(t *testing.T) {
	b := newBridgeBench(t, Bridge{})
	all := someSet("all", Rule{Src: anyone, Dst: anyone, Protocol: AnyProtocol, SrcPorts: []PortRange{AllPorts}, DstPorts: []PortRange{AllPorts}})
	dns := someSet("dns", allow(17, 53, anyone, anyone))
	ip := ipv4(addr1, netip.MustParseAddr("255.255.255.255"), layers.IPProtocolUDP)
	question := serialize(ethernet(mac1, everybody), ip, udp(ip, 1000, 53), payload)
	other := serialize(ethernet(mac1, everybody), ip, udp(ip, 1000, 54), payload)
	policy := func(p Port, kind PolicySet, set *Set) {
		policy := Policy{Identity: member}
		policy.Sets[kind] = set.ID
		b.putPolicy(p, policy, set)
	}
	want := func(frame []byte, reason DropReason, port Port) {
		t.Helper()
		verdict, _ := b.fromPort(b.port1, frame)
		if reason == 0 {
			if d := b.dropped(); len(d) != 0 {
				t.Errorf("drops are %v", d)
			}
			b.forgetDrops()
			return
		}
		if verdict == tcRedirect {
			t.Error("it passed")
		}
		b.wantDrop(tcDrop, reason, port.IfIndex)
	}
	policy(b.port2, Arriving, dns)
	want(question, 0, b.port2)
	want(other, DropPolicyGroup, b.port2)
	want(rawFrame(mac1, everybody, "not IP"), DropPolicyGroup, b.port2)
	want(rawFrame(mac1, mac2, "not IP"), DropPolicyGroup, b.port1)
	want(between(mac1, mac2, udpFrame(mac1, addr1, addr2)), 0, b.port2)
	want(arpOf(mac1, 1, addr1, addr2), 0, b.port2)
	policy(b.port2, Arriving, all)
	want(rawFrame(mac1, mac2, "not IP"), 0, b.port2)
	want(rawFrame(mac1, everybody, "not IP"), 0, b.port2)
	policy(b.port1, Leaving, dns)
	want(other, DropPolicyGroup, b.port1)
	want(question, 0, b.port1)
	want(rawFrame(mac1, everybody, "not IP"), DropPolicyGroup, b.port1)
	// Answers pass with what they answer, also where nothing may begin.
	policy(b.port1, Arriving, nothing)
	want(between(mac1, mac2, udpFrame(mac1, addr1, addr2)), 0, b.port1)
	back := ipv4(addr2, addr1, layers.IPProtocolUDP)
	verdict, _ := b.fromPort(b.port2, serialize(ethernet(mac2, mac1), back, udp(back, 53, 1000), payload))
	wantVerdict(t, verdict, tcRedirect)
	verdict, _ = b.fromPort(b.port2, serialize(ethernet(mac2, mac1), back, udp(back, 53, 1001), payload))
	b.wantDrop(verdict, DropPolicyGroup, b.port2.IfIndex)
}

// TestNetBridgeTables: tables read as they were written, are adopted, and leave
// nothing.
func TestNetBridgeTables(t *testing.T) {
	b := newBridgeBench(t, Bridge{Routes: true, FloodsUnknown: true})
	check := func() {
		t.Helper()
		bridges, err := b.dp.Bridges()
		b.must(err)
		remotes, _ := ListRemotes([]Remote{{remoteIP, farVNI}, {otherIP, farVNI + 1}})
		if want := (Bridge{Routes: true, FloodsUnknown: true, Remotes: remotes}); len(bridges) != 1 || bridges[vrf] != want {
			t.Errorf("bridges are %v, want %v", bridges, want)
		}
		macs, err := b.dp.MACs()
		b.must(err)
		if len(macs) != 3 || macs[MACKey{vrf, mac1}] != (NextHop{Kind: Local, Label: label1}) || macs[MACKey{vrf, farMAC}].VNI != farVNI {
			t.Errorf("MACs are %v", macs)
		}
		lists, err := entries[uint32, bpfBridgePorts](b.dp.maps().BridgePortsV1, "ports")
		b.must(err)
		if len(lists) != 1 || lists[vrf].Count != 2 {
			t.Errorf("lists of ports are %v", lists)
		}
	}
	check()
	b.must(b.dp.SweepNextHops())
	check()
	b.dp.Close()
	b.open()
	check()
	b.fromPort(b.port1, rawFrame(mac1, everybody, "text"))
	b.fromWire(byVXLAN(remoteIP, localIP, vni, 50000, rawFrame(farMAC, everybody, "text")))
	paid := func() int {
		p, err := entries[uint32, uint64](b.dp.maps().FloodPaidV1, "costs of copies")
		b.must(err)
		return len(p)
	}
	if n := paid(); n != 2 {
		t.Errorf("%d costs of copies, want one of the port and one of the network", n)
	}
	members := func() int {
		m, err := entries[bpfBridgeMember, uint32](b.dp.maps().BridgeMemberV1, "members")
		b.must(err)
		return len(m)
	}
	one, _ := ListRemotes([]Remote{{remoteIP, farVNI}})
	b.must(b.dp.PutBridge(vrf, Bridge{Remotes: one}))
	if n := members(); n != 1 {
		t.Errorf("%d members", n)
	}
	b.must(errors.Join(b.dp.DeleteBridge(vrf), b.dp.DeleteBridge(vrf), b.dp.DeleteMAC(MACKey{vrf, farMAC}), b.dp.DeleteMAC(MACKey{vrf, farMAC})))
	if n := members(); n != 0 {
		t.Errorf("%d members are left", n)
	}
	b.ns.Must(func() error { return errors.Join(b.dp.DeletePort(b.port1.IfIndex), b.dp.DeletePort(b.port2.IfIndex)) })
	if n := paid(); n != 0 {
		t.Errorf("%d costs of copies are left", n)
	}
	lists, err := entries[uint32, bpfBridgePorts](b.dp.maps().BridgePortsV1, "ports")
	if err != nil || len(lists) != 0 {
		t.Errorf("lists of ports are %v, %v", lists, err)
	}
	for _, err := range []error{
		b.dp.PutBridge(0, Bridge{}), b.dp.PutBridge(vrf, Bridge{Remotes: "x-and-more"}),
		b.dp.PutMACs(map[MACKey]NextHop{{vrf, everybody}: {Kind: Local, Label: label1}}),
		b.dp.PutMACs(map[MACKey]NextHop{{0, mac1}: {Kind: Local, Label: label1}}),
		b.dp.PutMACs(map[MACKey]NextHop{{vrf, mac1}: {Kind: Tunnel, Remote: remoteIP, Label: farLabel}}),
	} {
		if err == nil {
			t.Error("bad input is taken")
		}
	}
}
