//go:build net

package dataplane

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

var (
	metadata  = netip.MustParseAddrPort("169.254.169.254:80")
	machine   = netip.MustParseAddr("172.31.0.200")
	outsider  = netip.MustParseAddr("198.51.100.7")
	fabricNet = uint32(99)
)

// someFabric has a service on a machine, and refuses the nodes.
func someFabric() FabricServices {
	return FabricServices{
		LinkLocal: map[netip.AddrPort]LinkLocal{metadata: {Targets: LinkLocalTargets{machine}, Port: 8775}},
		Refused:   map[netip.Prefix]bool{netip.PrefixFrom(localIP, 32): true, netip.PrefixFrom(remoteIP, 32): true},
	}
}

func (b *bench) putFabric(change ...func(*FabricServices)) {
	b.t.Helper()
	f := someFabric()
	for _, c := range change {
		c(&f)
	}
	b.must(b.dp.SetFabricServices(f))
}

// udpBetween is one of UDP with right checksums.
func udpBetween(from MAC, src, dst netip.AddrPort, ttl int) []byte {
	ip := ipv4(src.Addr(), dst.Addr(), layers.IPProtocolUDP)
	ip.TTL = uint8(ttl)
	return serialize(ethernet(from, RouterMAC()), ip, udp(ip, int(src.Port()), int(dst.Port())), payload)
}

func echoMessage(from MAC, src, dst netip.Addr, kind uint8, id uint16) []byte {
	return serialize(ethernet(from, RouterMAC()), ipv4(src, dst, layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: id, Seq: 1}, payload)
}

// ends are the ends of a packet that has a whole frame's checksums right; of ICMP
// the source port is the identifier.
func (b *bench) ends(frame []byte) (src, dst netip.AddrPort, ttl uint8) {
	b.t.Helper()
	p := inner(frame, false)
	ip, ok := p.NetworkLayer().(*layers.IPv4)
	if !ok {
		b.t.Fatalf("no IPv4 in %x", frame)
	}
	from, to := netip.AddrFrom4([4]byte(ip.SrcIP.To4())), netip.AddrFrom4([4]byte(ip.DstIP.To4()))
	b.wantInner(frame, false, from, to) // with its checksums
	switch l := p.Layer(ip.NextLayerType()).(type) {
	case *layers.TCP:
		return netip.AddrPortFrom(from, uint16(l.SrcPort)), netip.AddrPortFrom(to, uint16(l.DstPort)), ip.TTL
	case *layers.UDP:
		return netip.AddrPortFrom(from, uint16(l.SrcPort)), netip.AddrPortFrom(to, uint16(l.DstPort)), ip.TTL
	case *layers.ICMPv4:
		return netip.AddrPortFrom(from, l.Id), netip.AddrPortFrom(to, 0), ip.TTL
	}
	b.t.Fatalf("no transport in %x", frame)
	return src, dst, 0
}

// leaves sends a frame of a port, wants it to leave as the node's, and returns the
// port that it has there.
func (b *bench) leaves(p Port, frame []byte, to netip.AddrPort) uint16 {
	b.t.Helper()
	verdict, out := b.fromPort(p, frame)
	wantVerdict(b.t.(*testing.T), verdict, tcRedirect)
	src, dst, ttl := b.ends(out)
	first, last := b.dp.config.NATPorts.First, b.dp.config.NATPorts.Last
	if src.Addr() != localIP || dst != to || src.Port() < first || src.Port() > last || ttl != 63 {
		b.t.Fatalf("leaves from %s to %s with TTL %d, want %s with one of %d to %d, to %s with 63", src, dst, ttl, localIP, first, last, to)
	}
	return src.Port()
}

// arrives wants a frame of the wire to reach the port with these ends.
func (b *bench) arrives(p Port, frame []byte, from, to netip.AddrPort) {
	b.t.Helper()
	verdict, out := b.fromWire(frame)
	wantVerdict(b.t.(*testing.T), verdict, tcRedirect)
	if src, dst, ttl := b.ends(out); src != from || dst != to || ttl != 63 {
		b.t.Errorf("arrives from %s to %s with TTL %d, want %s, %s, 63", src, dst, ttl, from, to)
	}
	if got := MAC(out[:6]); got != p.MAC {
		b.t.Errorf("arrives at %s, want %s", got, p.MAC)
	}
}

func ap(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// TestNetLinkLocal: a service at a link-local address is reached as the node, by TCP
// and UDP, and its answers reach the port; whatever changes meanwhile.
func TestNetLinkLocal(t *testing.T) {
	b := newBench(t)
	b.putFabric()
	to := ap(machine, 8775)
	s := b.leaves(b.port1, segment(mac1, addr1, metadata.Addr(), 40000, 80, 64, syn), to)
	for range 2 {
		b.arrives(b.port1, segment(nic, machine, localIP, 8775, int(s), 64, ack), metadata, ap(addr1, 40000))
		if again := b.leaves(b.port1, segment(mac1, addr1, metadata.Addr(), 40000, 80, 64, ack), to); again != s {
			t.Errorf("the flow has now port %d, and had %d", again, s)
		}
		b.must(b.dp.bump()) // decided anew
	}
	b.wantCounts(b.port1, FlowCount{1, 0}, FlowCount{})
	u := b.leaves(b.port2, udpBetween(mac2, ap(addr2, 40000), metadata, 64), to)
	b.arrives(b.port2, udpBetween(nic, to, ap(localIP, u), 64), metadata, ap(addr2, 40000))
	b.wantCounts(b.port2, FlowCount{1, 0}, FlowCount{})

	// Nothing else is there, nor from there.
	for _, frame := range [][]byte{
		segment(mac1, addr1, metadata.Addr(), 40000, 81, 64, syn), segment(mac1, addr1, machine, 40000, 8775, 64, syn),
		echoMessage(mac1, addr1, metadata.Addr(), 8, 1),
	} {
		verdict, _ := b.fromPort(b.port1, frame)
		b.wantDrop(verdict, DropNoRoute, b.port1.IfIndex)
	}
	for _, frame := range [][]byte{
		segment(nic, machine, localIP, 8776, int(s), 64, ack), segment(nic, otherIP, localIP, 8775, int(s), 64, ack),
		segment(nic, machine, localIP, 8775, int(s)^1, 64, ack), udpBetween(nic, to, ap(localIP, s), 64),
	} {
		if s == u {
			continue
		}
		verdict, _ := b.fromWire(frame)
		wantVerdict(t, verdict, tcNext)
	}
	// An agent that starts anew adopts it.
	b.dp.Close()
	b.open()
	if have, err := b.dp.FabricServices(); err != nil || !have.Equal(someFabric()) {
		t.Errorf("there is %+v, %v", have, err)
	}
	b.arrives(b.port1, segment(nic, machine, localIP, 8775, int(s), 64, ack), metadata, ap(addr1, 40000))
	// It goes, and so do its flows.
	b.putFabric(func(f *FabricServices) { f.LinkLocal = nil })
	verdict, _ := b.fromWire(segment(nic, machine, localIP, 8775, int(s), 64, ack))
	wantVerdict(t, verdict, tcNext)
	verdict, _ = b.fromPort(b.port1, segment(mac1, addr1, metadata.Addr(), 40000, 80, 64, ack))
	b.wantDrop(verdict, DropNoRoute, b.port1.IfIndex)
}

// TestNetLinkLocalIsRefused: a service at a node, or of a closed or blocked port.
func TestNetLinkLocalIsRefused(t *testing.T) {
	b := newBench(t)
	frame := segment(mac1, addr1, metadata.Addr(), 40000, 80, 64, syn)
	for _, at := range []netip.Addr{localIP, remoteIP, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("224.0.0.1")} {
		b.putFabric(func(f *FabricServices) {
			f.LinkLocal[metadata] = LinkLocal{Targets: LinkLocalTargets{at}, Port: 22}
		})
		verdict, _ := b.fromPort(b.port1, frame)
		b.wantDrop(verdict, DropNatDestination, b.port1.IfIndex)
	}
	b.putFabric()
	b.must(b.dp.DeletePolicy(b.port1.IfIndex))
	verdict, _ := b.fromPort(b.port1, frame)
	b.wantDrop(verdict, DropPolicyPending, b.port1.IfIndex)
	b.putPort(b.port1)
	s := b.leaves(b.port1, frame, ap(machine, 8775))
	// Established, and a node comes to have the address.
	b.putFabric(func(f *FabricServices) { f.Refused[netip.PrefixFrom(machine, 32)] = true })
	answer := segment(nic, machine, localIP, 8775, int(s), 64, ack)
	verdict, _ = b.fromWire(answer)
	b.wantDrop(verdict, DropNatDestination, b.port1.IfIndex)
	b.putFabric()
	b.arrives(b.port1, answer, metadata, ap(addr1, 40000))
	blocked := b.port1
	blocked.Blocked = true
	b.putPort(blocked)
	verdict, _ = b.fromWire(answer)
	b.wantDrop(verdict, DropBlocked, b.port1.IfIndex)
	b.must(b.ns.Do(func() error { return b.dp.DeletePort(b.port1.IfIndex) }))
	verdict, _ = b.fromWire(answer)
	wantVerdict(t, verdict, tcNext)
	if flows := b.flows(); len(flows) != 0 {
		t.Errorf("flows are left: %+v", flows)
	}
	for want, f := range map[string]FabricServices{
		"169.254.0.0/16": {LinkLocal: map[netip.AddrPort]LinkLocal{netip.MustParseAddrPort("10.0.0.1:80"): {Targets: LinkLocalTargets{machine}, Port: 1}}},
		"nowhere":        {LinkLocal: map[netip.AddrPort]LinkLocal{metadata: {Port: 1}}},
		"port is 0":      {LinkLocal: map[netip.AddrPort]LinkLocal{metadata: {Targets: LinkLocalTargets{machine}}}},
		"none of IPv4":   {Refused: map[netip.Prefix]bool{netip.MustParsePrefix("2001:db8::/32"): true}},
	} {
		if err := b.dp.SetFabricServices(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}

// TestNetLinkLocalTargets: flows spread over the addresses, and stay.
func TestNetLinkLocalTargets(t *testing.T) {
	b := newBench(t)
	second := netip.MustParseAddr("172.31.0.201")
	b.putFabric(func(f *FabricServices) {
		f.LinkLocal[metadata] = LinkLocal{Targets: LinkLocalTargets{machine, second}, Port: 8775}
	})
	had := map[int]netip.AddrPort{}
	count := map[netip.AddrPort]int{}
	for sport := 40000; sport < 40040; sport++ {
		verdict, out := b.fromPort(b.port1, segment(mac1, addr1, metadata.Addr(), sport, 80, 64, syn))
		wantVerdict(t, verdict, tcRedirect)
		_, had[sport], _ = b.ends(out)
		count[had[sport]]++
	}
	if count[ap(machine, 8775)] < 5 || count[ap(second, 8775)] < 5 {
		t.Errorf("flows go to %v", count)
	}
	b.putFabric(func(f *FabricServices) {
		f.LinkLocal[metadata] = LinkLocal{Targets: LinkLocalTargets{otherIP, second, machine}, Port: 8775}
	})
	for sport, to := range had {
		b.leaves(b.port1, segment(mac1, addr1, metadata.Addr(), sport, 80, 64, ack), to)
	}
}

// TestNetSNAT: what has no route leaves as the node's, and its answers come back: of
// TCP, UDP and echo requests, and for no other port.
func TestNetSNAT(t *testing.T) {
	b := newBench(t)
	if err := b.dp.PutSNAT(b.port1.IfIndex, fabricNet); err == nil || !strings.Contains(err.Error(), "not known yet") {
		t.Errorf("SNAT before anything is refused: %v", err)
	}
	b.putFabric()
	b.must(b.dp.PutSNAT(b.port1.IfIndex, fabricNet))
	to := ap(outsider, 443)
	s := b.leaves(b.port1, segment(mac1, addr1, outsider, 40000, 443, 64, syn), to)
	u := b.leaves(b.port1, udpBetween(mac1, ap(addr1, 40000), ap(outsider, 53), 64), ap(outsider, 53))
	id := b.leaves(b.port1, echoMessage(mac1, addr1, outsider, 8, 77), ap(outsider, 0))
	for range 2 {
		b.arrives(b.port1, segment(nic, outsider, localIP, 443, int(s), 64, ack), to, ap(addr1, 40000))
		b.arrives(b.port1, udpBetween(nic, ap(outsider, 53), ap(localIP, u), 64), ap(outsider, 53), ap(addr1, 40000))
		b.arrives(b.port1, echoMessage(nic, outsider, localIP, 0, id), ap(outsider, 77), ap(addr1, 0))
		b.must(b.dp.bump())
	}
	b.wantCounts(b.port1, FlowCount{3, 0}, FlowCount{})
	verdict, _ := b.fromPort(b.port2, segment(mac2, addr2, outsider, 40000, 443, 64, syn))
	b.wantDrop(verdict, DropNoRoute, b.port2.IfIndex)
	verdict, _ = b.fromPort(b.port1, segment(mac1, addr1, outsider, 40000, 443, 1, ack))
	b.wantDrop(verdict, DropTTL, b.port1.IfIndex)
	// What has a route goes there.
	b.must(b.dp.PutRoute(host(vrf, outsider), NextHop{Kind: Tunnel, Remote: remoteIP, Label: farLabel}))
	verdict, out := b.fromPort(b.port1, segment(mac1, addr1, outsider, 40000, 443, 64, ack))
	wantVerdict(t, verdict, tcRedirect)
	b.wantInner(out, true, addr1, outsider)
	b.must(b.dp.DeleteRoute(host(vrf, outsider)))
	// And without SNAT nowhere.
	b.must(b.dp.DeleteSNAT(b.port1.IfIndex))
	verdict, _ = b.fromPort(b.port1, segment(mac1, addr1, outsider, 40000, 443, 64, ack))
	b.wantDrop(verdict, DropNoRoute, b.port1.IfIndex)
	verdict, _ = b.fromWire(udpBetween(nic, ap(outsider, 53), ap(localIP, u), 64))
	wantVerdict(t, verdict, tcNext)
}

// TestNetSNATRefuses what could be taken for another node's, or reach one.
func TestNetSNATRefuses(t *testing.T) {
	b := newBench(t)
	b.putFabric()
	b.must(b.dp.PutSNAT(b.port1.IfIndex, fabricNet))
	raw := func(protocol layers.IPProtocol) []byte {
		return serialize(ethernet(mac1, RouterMAC()), ipv4(addr1, outsider, protocol), make(gopacket.Payload, 40))
	}
	for name, c := range map[string]struct {
		frame  []byte
		reason DropReason
	}{
		"the node":         {segment(mac1, addr1, localIP, 40000, 22, 64, syn), DropNatDestination},
		"another node":     {segment(mac1, addr1, remoteIP, 40000, 22, 64, syn), DropNatDestination},
		"loopback":         {segment(mac1, addr1, netip.MustParseAddr("127.0.0.1"), 40000, 22, 64, syn), DropNatDestination},
		"link-local":       {segment(mac1, addr1, netip.MustParseAddr("169.254.1.1"), 40000, 22, 64, syn), DropNatDestination},
		"VXLAN":            {udpBetween(mac1, ap(addr1, 40000), ap(outsider, 4789), 64), DropNatProtocol},
		"MPLS over UDP":    {udpBetween(mac1, ap(addr1, 40000), ap(outsider, 6635), 64), DropNatProtocol},
		"GRE":              {raw(layers.IPProtocolGRE), DropNatProtocol},
		"SCTP":             {raw(layers.IPProtocolSCTP), DropNatProtocol},
		"IP in IP":         {raw(layers.IPProtocolIPv4), DropNatProtocol},
		"echo reply":       {echoMessage(mac1, addr1, outsider, 0, 1), DropNatProtocol},
		"another's source": {segment(mac1, addr2, outsider, 40000, 22, 64, syn), DropSourceAddress},
	} {
		verdict, _ := b.fromPort(b.port1, c.frame)
		t.Log(name)
		b.wantDrop(verdict, c.reason, b.port1.IfIndex)
	}
}

// TestNetSNATPolicy: SNAT is asked about as what goes to the network that all outside
// is in, and by the port's own address.
func TestNetSNATPolicy(t *testing.T) {
	b := newBench(t)
	b.putFabric()
	b.must(b.dp.PutSNAT(b.port1.IfIndex, fabricNet))
	own := netip.PrefixFrom(addr1, 32)
	judged := func(rules ...Rule) {
		t.Helper()
		for i := range rules {
			rules[i].Protocol, rules[i].SrcPorts, rules[i].DstPorts = AnyProtocol, []PortRange{AllPorts}, []PortRange{AllPorts}
		}
		set := someSet(fmt.Sprint("outside", rules[0].Dst.Networks), rules...)
		b.must(b.dp.PutPolicies(map[int]Policy{b.port1.IfIndex: {
			Identity: NewIdentity(vrf, nil, nil), Sets: [4]SetID{NetworkPolicy: set.ID},
		}}, map[SetID]*Set{set.ID: set}))
	}
	frame := segment(mac1, addr1, outsider, 40000, 443, 64, syn)
	judged(Rule{Src: Selector{Prefixes: []netip.Prefix{own}}, Dst: Selector{Networks: []uint32{fabricNet}}})
	s := b.leaves(b.port1, frame, ap(outsider, 443))
	answer := segment(nic, outsider, localIP, 443, int(s), 64, ack)
	b.arrives(b.port1, answer, ap(outsider, 443), ap(addr1, 40000))
	// The answers alone have it end.
	judged(Rule{Src: Selector{Prefixes: []netip.Prefix{own}}, Dst: Selector{Networks: []uint32{fabricNet + 1}}})
	verdict, _ := b.fromWire(answer)
	b.wantDrop(verdict, DropPolicyNetwork, b.port1.IfIndex)
	if flows := b.flows(); len(flows) != 0 {
		t.Errorf("flows are left: %+v", flows)
	}
	verdict, _ = b.fromPort(b.port1, frame)
	b.wantDrop(verdict, DropPolicyNetwork, b.port1.IfIndex)
}

// outside is a machine that is no node, behind a router of the fabric's.
func (c *cluster) outside() *container {
	c.t.Helper()
	r, far := nstest.New(c.t, "router"), nstest.New(c.t, "outside")
	nstest.Veth(c.t, r, "eth0", c.fabric, "rtr")
	c.fabric.Enslave("rtr", "br0")
	nstest.Veth(c.t, far, "eth0", r, "eth1")
	r.Up("eth0", netip.MustParsePrefix("172.31.0.254/24"))
	r.Up("eth1", netip.MustParsePrefix("198.51.100.1/24"))
	far.Up("eth0", netip.PrefixFrom(outsider, 24))
	for _, cmd := range [][]string{{"sysctl", "-qw", "net.ipv4.ip_forward=1"}} {
		if _, err := r.Run(cmd[0], cmd[1:]...); err != nil {
			c.t.Fatal(err)
		}
	}
	if _, err := far.Run("ip", "route", "add", "default", "via", "198.51.100.1"); err != nil {
		c.t.Fatal(err)
	}
	for _, n := range c.nodes {
		if _, err := n.Run("ip", "route", "add", "default", "via", "172.31.0.254"); err != nil {
			c.t.Fatal(err)
		}
	}
	return &container{NS: far, cluster: c, addr: outsider}
}

// TestNetSNATTraffic: containers reach a machine behind a router as their node, with
// small and large packets, and the router's "too big" reaches them.
func TestNetSNATTraffic(t *testing.T) {
	c := newCluster(t, 1)
	one, two := c.container(0, 1, "10.1.0.3"), c.container(0, 2, "10.1.0.3")
	c.connect()
	far := c.outside()
	far.serve(t)
	n := c.nodes[0]
	n.Must(func() error { return n.dp.SetFabricServices(someFabric()) })
	for _, k := range []*container{one, two} {
		n.Must(func() error { return n.dp.PutSNAT(k.port.IfIndex, fabricNet) })
		if _, err := k.Run("ip", "route", "add", "default", "dev", "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []*container{one, two} { // with the same address, at the same time
		if err := k.ping(outsider); err != nil {
			c.dump()
			t.Fatal(err)
		}
		if err := k.tcp(outsider, 1<<20); err != nil {
			t.Error(err)
		}
		for _, size := range []int{10, 1300, 4000} {
			if err := k.udp(outsider, size); err != nil {
				t.Error(err)
			}
		}
	}
	if err := far.refused(one.addr); err != nil {
		t.Error(err)
	}
	// A narrow way outside: path MTU discovery works through the translation.
	if _, err := far.Run("ip", "link", "set", "eth0", "mtu", "1000"); err != nil {
		t.Fatal(err)
	}
	conn, err := one.dialTCP(outsider)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := one.tcp(outsider, 1<<20); err != nil {
		t.Error(err)
	}
}
