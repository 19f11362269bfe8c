//go:build net

package dataplane

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

func TestNetSweepGoesByAge(t *testing.T) {
	b := newBench(t)
	tcp := ipv4(addr1, farAddr, layers.IPProtocolTCP)
	head := &layers.TCP{SrcPort: 1000, DstPort: 80, SYN: true}
	head.SetNetworkLayerForChecksum(tcp)
	verdict, _ := b.fromPort(b.port1, serialize(ethernet(mac1, RouterMAC()), tcp, head))
	wantVerdict(t, verdict, tcRedirect)
	icmp := ipv4(addr1, farAddr, layers.IPProtocolICMPv4)
	echo := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 99, Seq: 1}
	verdict, _ = b.fromPort(b.port1, serialize(ethernet(mac1, RouterMAC()), icmp, echo))
	wantVerdict(t, verdict, tcRedirect)
	wantVerdict(t, b.send(b.port1, farAddr, 1), tcRedirect)

	ages := Ages{TCP: 3 * time.Minute, UDP: 2 * time.Minute, Other: time.Minute, Unanswered: time.Hour}
	now, err := Now()
	b.must(err)
	for _, step := range []struct {
		after time.Duration
		left  []uint8
	}{
		{0, []uint8{1, 6, 6, 17}},
		{90 * time.Second, []uint8{6, 6, 17}},
		{150 * time.Second, []uint8{6, 6}},
		{200 * time.Second, nil},
	} {
		_, live, err := b.dp.SweepFlows(now+step.after, ages)
		b.must(err)
		var left []uint8
		for _, f := range b.flows() {
			left = append(left, f.Protocol)
			if f.Protocol == 1 && (f.SrcPort != 99 || f.DstPort != 8) {
				t.Errorf("echo is entered as %+v", f)
			}
		}
		slices.Sort(left)
		if !slices.Equal(left, step.left) || live != len(step.left) {
			t.Errorf("after %s protocols %v are left, %d counted, want %v", step.after, left, live, step.left)
		}
	}
}

func TestNetChangesOutdateFlows(t *testing.T) {
	b := newBench(t)
	leaves := func(label uint32) {
		t.Helper()
		verdict, out := b.fromPort(b.port1, udpFrame(mac1, addr1, farAddr))
		wantVerdict(t, verdict, tcRedirect)
		if got := uint32(out[14+28])<<12 | uint32(out[14+29])<<4 | uint32(out[14+30])>>4; got != label {
			t.Errorf("packet leaves with label %d, want %d", got, label)
		}
	}
	leaves(farLabel)
	b.must(b.dp.PutRoute(host(vrf, farAddr), NextHop{Kind: Tunnel, Remote: otherIP, Label: 77}))
	if f := b.flows(); len(f) != 1 || f[0].Current {
		t.Errorf("after the change flows are %+v, want one that is not current", f)
	}
	leaves(77)
	if f := b.flows(); len(f) != 1 || !f[0].Current || f[0].Packets != 2 {
		t.Errorf("after the next packet flows are %+v, want one with both packets", f)
	}
	// What comes from the former node is refused from now on.
	verdict, _ := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, udpFrame(mac1, farAddr, addr1)))
	b.wantDrop(verdict, DropTunnelSource, b.port1.IfIndex)

	b.must(b.dp.DeleteRoute(host(vrf, farAddr)))
	b.wantDrop(b.send(b.port1, farAddr, 1000), DropNoRoute, b.port1.IfIndex)
	b.must(b.dp.DeleteRoute(host(vrf, farAddr)))

	// An address taken from a port is no source any more, nor a destination.
	verdict, _ = b.fromPort(b.port1, udpFrame(mac1, addr1b, addr2))
	wantVerdict(t, verdict, tcRedirect)
	wire := tunnelled(remoteIP, localIP, label1, 50000, udpFrame(mac1, farAddr2, addr1b))
	verdict, _ = b.fromWire(wire)
	wantVerdict(t, verdict, tcRedirect)
	less := b.port1
	less.Addresses = less.Addresses[:1]
	b.putPort(less)
	verdict, _ = b.fromPort(b.port1, udpFrame(mac1, addr1b, addr2))
	b.wantDrop(verdict, DropSourceAddress, b.port1.IfIndex)
	verdict, _ = b.fromWire(wire)
	b.wantDrop(verdict, DropDestinationAddress, b.port1.IfIndex)

	// A new label replaces the old one.
	other := less
	other.Label = 3003
	b.putPort(other)
	to1 := udpFrame(mac1, farAddr2, addr1)
	verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, to1))
	b.wantDrop(verdict, DropLabel, b.eth0)
	verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, 3003, 50000, to1))
	wantVerdict(t, verdict, tcRedirect)
}

func TestNetRepetitionChangesNothing(t *testing.T) {
	b := newBench(t)
	wantVerdict(t, b.send(b.port1, farAddr, 1), tcRedirect)
	b.putPort(b.port1)
	b.must(b.dp.PutRoute(host(vrf, farAddr), NextHop{Kind: Tunnel, Remote: remoteIP, Label: farLabel}))
	b.must(b.dp.DeleteRoute(host(vrf, otherIP)))
	if f := b.flows(); len(f) != 1 || !f[0].Current {
		t.Errorf("flows are %+v, want one that is still current", f)
	}
}

func TestNetLongestPrefixWins(t *testing.T) {
	b := newBench(t)
	hop := func(label uint32) NextHop { return NextHop{Kind: Tunnel, Remote: remoteIP, Label: label} }
	routes := map[RouteKey]NextHop{
		{vrf, netip.MustParsePrefix("0.0.0.0/0")}:     hop(100),
		{vrf, netip.MustParsePrefix("20.0.0.0/8")}:    hop(108),
		{vrf, netip.MustParsePrefix("20.1.0.0/16")}:   hop(116),
		{vrf, netip.MustParsePrefix("20.1.2.0/31")}:   hop(131),
		{vrf, netip.MustParsePrefix("20.1.2.1/32")}:   hop(132),
		{vrf + 1, netip.MustParsePrefix("0.0.0.0/0")}: hop(200),
		{256, netip.MustParsePrefix("20.1.2.0/24")}:   hop(256),
	}
	b.must(b.dp.PutRoutes(routes))
	got, err := b.dp.Routes()
	b.must(err)
	for key, nh := range routes {
		if got[key] != nh {
			t.Errorf("route %s reads as %s, want %s", key, got[key], nh)
		}
	}
	labels := func(want map[string]uint32) {
		t.Helper()
		for dst, label := range want {
			before := len(b.flows())
			verdict := b.send(b.port1, netip.MustParseAddr(dst), 1+before)
			if label == 0 {
				b.wantDrop(verdict, DropNoRoute, b.port1.IfIndex)
				continue
			}
			for _, f := range b.flows() {
				if f.Dst.String() == dst && f.Current && f.NextHop.Label != label {
					t.Errorf("%s goes to label %d, want %d", dst, f.NextHop.Label, label)
				}
			}
		}
	}
	labels(map[string]uint32{
		"30.0.0.1": 100, "20.9.0.1": 108, "20.1.9.1": 116, "20.1.2.0": 131, "20.1.2.1": 132,
	})
	b.must(b.dp.DeleteRoutes([]RouteKey{
		{vrf, netip.MustParsePrefix("20.1.2.1/32")},
		{vrf, netip.MustParsePrefix("20.1.0.0/16")},
		{vrf, netip.MustParsePrefix("0.0.0.0/0")},
	}))
	labels(map[string]uint32{"30.0.0.1": 0, "20.1.9.1": 108, "20.1.2.1": 131})
}

// TestNetManyRoutes: thousands of routes of both kinds, written and removed by few
// system calls, read as they were put, also those that were there already; what is
// absent among those to be removed keeps no other.
func TestNetManyRoutes(t *testing.T) {
	b := newBench(t)
	had, err := b.dp.Routes()
	b.must(err)
	many := map[RouteKey]NextHop{}
	var keys []RouteKey
	for i := range 3000 {
		address := netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 0})
		for _, p := range []netip.Prefix{netip.PrefixFrom(address, 32), netip.PrefixFrom(address, 24)} {
			key := RouteKey{vrf, p}
			many[key] = NextHop{Kind: Tunnel, Remote: remoteIP, Label: uint32(16 + i), Identity: NewIdentity(uint32(1+i%7), nil, nil)}
			absent := RouteKey{vrf + 1, p}
			keys = append(keys, key, absent)
		}
	}
	for range 2 {
		b.must(b.dp.PutRoutes(many))
		got, err := b.dp.Routes()
		b.must(err)
		for key, nh := range many {
			if got[key] != nh {
				t.Fatalf("route %s reads as %s, want %s", key, got[key], nh)
			}
		}
	}
	b.must(b.dp.DeleteRoutes(keys))
	got, err := b.dp.Routes()
	b.must(err)
	if !maps.Equal(got, had) {
		t.Errorf("%d routes are left, want the %d that there were", len(got), len(had))
	}
}

func TestNetPortsReadBack(t *testing.T) {
	b := newBench(t)
	ports, err := b.dp.Ports()
	b.must(err)
	if len(ports) != 2 || !ports[b.port1.IfIndex].Equal(b.port1) || !ports[b.port2.IfIndex].Equal(b.port2) {
		t.Errorf("ports are %+v", ports)
	}
	taken := b.port2
	taken.Label = label1
	err = b.ns.Do(func() error { return b.dp.PutPort(taken) })
	if err == nil || !strings.Contains(err.Error(), "label 1001 belongs to the port of interface") {
		t.Errorf("a label given twice: error is %v", err)
	}
	missing := b.port2
	missing.IfIndex, missing.Label = 4242, 4242
	if err := b.ns.Do(func() error { return b.dp.PutPort(missing) }); err == nil {
		t.Error("a port without a device is accepted")
	}
	if ports, err := b.dp.Ports(); err != nil || len(ports) != 2 {
		t.Errorf("refused ports leave %+v, %v", ports, err)
	}
}

// entriesLeft counts what the tables hold of ports and flows.
func (b *bench) entriesLeft() map[string]int {
	b.t.Helper()
	m := b.dp.maps()
	left := map[string]int{}
	count := func(name string, n int, err error) {
		b.must(err)
		if n != 0 {
			left[name] = n
		}
	}
	vifs, err := entries[uint32, bpfVif](m.VifV1, "vif")
	count("vif", len(vifs), err)
	addrs, err := entries[bpfPortAddrKey, uint32](m.PortAddrV1, "port_addr")
	count("port_addr", len(addrs), err)
	labels, err := entries[uint32, uint32](m.LabelV1, "label")
	count("label", len(labels), err)
	count("flow", len(b.flows()), nil)
	drops, err := b.dp.Drops()
	for _, d := range drops {
		if d.IfIndex != 0 {
			left["drop"]++
		}
	}
	b.must(err)
	devices, err := b.dp.filtered()
	count("filter", len(devices), err)
	return left
}

func TestNetDeletePortLeavesNothing(t *testing.T) {
	for _, gone := range []bool{false, true} {
		b := newBench(t)
		wantVerdict(t, b.send(b.port1, farAddr, 1), tcRedirect)
		wantVerdict(t, b.send(b.port1, addr2, 1), tcRedirect)
		wantVerdict(t, b.send(b.port2, addr1, 1), tcRedirect)
		verdict, _ := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, udpFrame(mac1, farAddr, addr1)))
		wantVerdict(t, verdict, tcRedirect)
		wantVerdict(t, b.send(b.port1, otherIP, 1), tcDrop)
		if gone {
			b.must(b.ns.Links.LinkDel(b.ns.Link("tap1")))
		}
		remove := func(ifindex int) {
			t.Helper()
			b.ns.Must(func() error { return b.dp.DeletePort(ifindex) })
		}
		remove(b.port1.IfIndex)
		remove(b.port1.IfIndex)
		if f := b.flows(); len(f) != 0 {
			t.Errorf("flows are %+v, want none from or to the port", f)
		}
		if !gone && b.ns.Link("tap1").Attrs().RawFlags&1 != 0 {
			t.Error("the device is up without its program")
		}
		if want := (Drop{Reason: DropNoRoute, Packets: 1}); !b.dropped()[want] {
			t.Errorf("drops are %v, want the port's kept as %v", b.dropped(), want)
		}
		b.wantNextHopDrop()
		// Its number, slot and label can be used again.
		if !gone {
			b.putPort(b.port1)
			if c, err := b.dp.Counters(b.port1.IfIndex); err != nil || c != (Counters{}) {
				t.Errorf("a new port starts with %+v, %v", c, err)
			}
			wantVerdict(t, b.send(b.port1, farAddr, 1), tcRedirect)
			remove(b.port1.IfIndex)
		}
		remove(b.port2.IfIndex)
		if left := b.entriesLeft(); len(left) != 0 {
			t.Errorf("after both ports: %v", left)
		}
	}
}

// wantNextHopDrop checks that the route to the removed port leads nowhere.
func (b *bench) wantNextHopDrop() {
	b.t.Helper()
	b.forgetDrops()
	b.wantDrop(b.send(b.port2, addr1, 9), DropNextHop, b.port2.IfIndex)
}

func TestNetGuardedDevice(t *testing.T) {
	b := newBench(t)
	tap3 := b.ns.Dummy("tap3").Attrs().Index
	third := Port{
		IfIndex: tap3, Name: "tap3", VRF: vrf, Label: 1003,
		MAC: MAC{2, 0, 0, 0, 0, 3}, Addresses: []netip.Addr{netip.MustParseAddr("10.32.0.9")},
	}
	guard := func() {
		t.Helper()
		b.ns.Must(func() error { return b.dp.Guard(tap3) })
	}
	guard()
	b.wantDrop(b.send(third, farAddr, 1), DropNoPort, tap3)
	b.putPort(third)
	wantVerdict(t, b.send(third, farAddr, 1), tcRedirect)
	b.ns.Must(func() error { return b.dp.DeletePort(tap3) })
	guard()
	b.ns.Must(func() error { return b.dp.DeletePort(tap3) })
	if devices, err := b.dp.filtered(); err != nil || slices.Contains(devices, tap3) {
		t.Errorf("devices with the program are %v, %v, want none of %d", devices, err, tap3)
	}
}

func TestNetAdoption(t *testing.T) {
	b := newBench(t)
	wantVerdict(t, b.send(b.port1, farAddr, 1), tcRedirect)
	b.must(b.dp.Close())
	b.config.FlowEntries = 4096 // a pinned map keeps its size
	b.open()
	if got := b.dp.maps().FlowV3.MaxEntries(); got != 1024 {
		t.Errorf("adopted flow table has %d entries, want 1024", got)
	}
	ports, err := b.dp.Ports()
	if err != nil || !ports[b.port1.IfIndex].Equal(b.port1) || !ports[b.port2.IfIndex].Equal(b.port2) {
		t.Errorf("adopted ports are %+v, %v", ports, err)
	}
	if routes, err := b.dp.Routes(); err != nil || len(routes) != 5 {
		t.Errorf("adopted routes are %v, %v", routes, err)
	}
	wantVerdict(t, b.send(b.port1, farAddr, 1), tcRedirect)
	if f := b.flows(); len(f) != 1 || f[0].Packets != 2 || !f[0].Current {
		t.Errorf("adopted flows are %+v, want one with both packets", f)
	}
	// Slots are known again: a third port takes one of its own.
	third := Port{
		IfIndex: b.ns.Dummy("tap3").Attrs().Index, Name: "tap3", VRF: vrf, Label: 1003,
		MAC: MAC{2, 0, 0, 0, 0, 3}, Addresses: []netip.Addr{netip.MustParseAddr("10.32.0.9")},
	}
	b.putPort(third)
	if c, err := b.dp.Counters(b.port1.IfIndex); err != nil || c.FromPackets != 2 {
		t.Errorf("counters of the adopted port are %+v, %v, want 2 packets", c, err)
	}
}

func TestNetAdoptionClosesHalfRemovedPorts(t *testing.T) {
	b := newBench(t)
	// As a crash in DeletePort of a device that then came back would leave it.
	b.must(b.dp.maps().VifV1.Delete(uint32(b.port1.IfIndex)))
	b.must(b.ns.Links.LinkDel(b.ns.Link("tap2")))
	b.must(b.dp.Close())
	b.open()
	if b.ns.Link("tap1").Attrs().RawFlags&1 != 0 {
		t.Error("a device whose port is not known stays up")
	}
	if left, err := b.dp.filtered(); err != nil || len(left) != 0 {
		t.Errorf("devices with the program are %v, %v, want none", left, err)
	}
	b.ns.Must(func() error { return b.dp.DeletePort(b.port2.IfIndex) })
	if ports, err := b.dp.Ports(); err != nil || len(ports) != 0 {
		t.Errorf("ports are %v, %v, want none", ports, err)
	}
}

func TestNetRemoveLeavesNothing(t *testing.T) {
	b := newBench(t)
	b.ns.Must(b.dp.Remove)
	if _, err := os.Stat(b.config.PinDir); !os.IsNotExist(err) {
		t.Errorf("pin directory is still there: %v", err)
	}
	for _, name := range []string{"eth0", "tap1", "tap2"} {
		if l := b.ns.Link(name).Attrs(); (l.RawFlags&1 != 0) != (name == "eth0") {
			t.Errorf("device %s: up is %v", name, l.RawFlags&1 != 0)
		}
	}
	b.must(b.dp.Close())
	b.open() // starts afresh
	if ports, err := b.dp.Ports(); err != nil || len(ports) != 0 {
		t.Errorf("ports after Remove are %v, %v", ports, err)
	}
}

func TestNetPinsOfAnotherNamespace(t *testing.T) {
	hooks(t, func(t *testing.T, withoutTCX bool) {
		b := newBench(t, func(c *Config) { c.withoutTCX = withoutTCX })
		b.must(b.dp.Close())
		other := nstest.New(t, "other")
		other.Dummy("eth0")
		open := func() (dp *Dataplane, err error) {
			err = other.Do(func() (err error) { dp, err = Open(discardLog(), b.config); return err })
			return dp, err
		}
		if _, err := open(); err == nil || !strings.Contains(err.Error(), "another network namespace uses the pins") {
			t.Errorf("pins of a living namespace: error is %v", err)
		}
		for _, name := range []string{"eth0", "tap1", "tap2"} {
			b.must(b.ns.Links.LinkDel(b.ns.Link(name)))
		}
		dp, err := open()
		// The kernel forgets the program of a filter a little after its device.
		for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); dp, err = open() {
			time.Sleep(5 * time.Millisecond)
		}
		if err != nil {
			t.Fatalf("pins of a dead namespace: %v", err)
		}
		if ports, err := dp.Ports(); err != nil || len(ports) != 0 {
			t.Errorf("ports of a dead namespace are adopted: %v, %v", ports, err)
		}
		b.dp = dp
	})
}

func TestNetOpenSaysWhatIsMissing(t *testing.T) {
	ns := nstest.New(t, "node")
	ns.Dummy("eth0")
	good := Config{
		PinDir: filepath.Join(nstest.BPFFS(t), "node"), Underlay: "eth0", LocalIP: localIP, FlowEntries: 16,
	}
	cases := map[string]struct {
		change func(*Config)
		want   string
	}{
		"bpffs":     {func(c *Config) { c.PinDir = t.TempDir() }, "is not on a bpf file system; mount one"},
		"device":    {func(c *Config) { c.Underlay = "eth7" }, "underlay device eth7"},
		"address":   {func(c *Config) { c.LocalIP = netip.Addr{} }, "local address"},
		"directory": {func(c *Config) { c.PinDir = "pins" }, "not an absolute path"},
	}
	for name, c := range cases {
		config := good
		c.change(&config)
		err := ns.Do(func() error {
			_, err := Open(discardLog(), config)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
}

func TestNetOpenTablesBesideTheAgent(t *testing.T) {
	b := newBench(t)
	wantVerdict(t, b.send(b.port1, farAddr, 1), tcRedirect)
	wantVerdict(t, b.send(b.port1, otherIP, 1), tcDrop)
	tables, err := OpenTables(b.config.PinDir)
	b.must(err)
	defer tables.Close()
	if ports, err := tables.Ports(); err != nil || len(ports) != 2 {
		t.Errorf("ports are %v, %v", ports, err)
	}
	if labels, err := tables.Labels(); err != nil || labels[label1] != b.port1.IfIndex {
		t.Errorf("labels are %v, %v", labels, err)
	}
	if routes, err := tables.Routes(); err != nil || len(routes) != 5 {
		t.Errorf("routes are %v, %v", routes, err)
	}
	if drops, err := tables.Drops(); err != nil || len(drops) != 1 {
		t.Errorf("drops are %v, %v", drops, err)
	}
	n := 0
	for _, err := range tables.Flows() {
		b.must(err)
		n++
	}
	if n != 1 {
		t.Errorf("%d flows, want 1", n)
	}
}
