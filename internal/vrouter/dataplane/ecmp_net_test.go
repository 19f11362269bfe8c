//go:build net

package dataplane

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket/layers"
)

func tunnelTo(remote netip.Addr, label uint32) Member {
	return Member{NextHop: NextHop{Kind: Tunnel, Remote: remote, Label: label}}
}

// udpFlow is a frame of one of many flows.
func udpFlow(from MAC, src, dst netip.Addr, number int) []byte {
	ip := ipv4(src, dst, layers.IPProtocolUDP)
	return serialize(ethernet(from, RouterMAC()), ip, udp(ip, 1000+number, 53), payload)
}

// takes tells by which label each of many flows leaves.
func (b *bench) takes(dst netip.Addr, flows int) []uint32 {
	b.t.Helper()
	labels := make([]uint32, flows)
	for i := range labels {
		verdict, out := b.fromPort(b.port1, udpFlow(mac1, addr1, dst, i))
		wantVerdict(b.t.(*testing.T), verdict, tcRedirect)
		if slices.Equal(out[:6], mac2[:]) {
			labels[i] = label2 // delivered here
		} else {
			labels[i] = binary.BigEndian.Uint32(out[14+28:]) >> 12
		}
	}
	return labels
}

// TestNetFlowsShare: flows spread over the members of a group, here and
// elsewhere, and stay where they are while their member is one.
func TestNetFlowsShare(t *testing.T) {
	b := newBench(t, func(c *Config) { c.FlowEntries = 16384 })
	shared := netip.MustParseAddr("10.32.0.77")
	b.port2.Addresses = append(b.port2.Addresses, shared)
	b.putPort(b.port2)
	here := Member{NextHop: NextHop{Kind: Local, Label: label2}}
	near, far, third := tunnelTo(remoteIP, farLabel), tunnelTo(otherIP, farLabel), tunnelTo(otherIP, farLabel2)
	put := func(members ...Member) {
		b.must(b.dp.PutRoute(host(vrf, shared), Share(members)))
	}
	put(here, near, far)
	const flows = 192
	before := b.takes(shared, flows)
	count := map[uint32]int{}
	for _, label := range before {
		count[label]++
	}
	// Both tunnels have the same label.
	if count[label2] < flows/6 || count[label2] > flows/2 || count[farLabel] != flows-count[label2] {
		t.Errorf("flows take %v, want about a third to %d", count, label2)
	}
	if again := b.takes(shared, flows); !slices.Equal(again, before) {
		t.Error("flows move although nothing changed")
	}
	put(here, near, far, third)
	if after := b.takes(shared, flows); !slices.Equal(after, before) {
		t.Error("flows move to a member that came")
	}
	put(near, far, third)
	for i, label := range b.takes(shared, flows) {
		if label == label2 || before[i] != label2 && label != before[i] {
			t.Fatalf("flow %d took %d and takes %d when only %d went", i, before[i], label, label2)
		}
	}
	fresh := map[uint32]int{}
	for i := range flows {
		_, out := b.fromPort(b.port1, udpFlow(mac1, addr1, shared, flows+i))
		fresh[binary.BigEndian.Uint32(out[14+28:])>>12]++
	}
	if fresh[farLabel2] < flows/6 {
		t.Errorf("new flows take %v, want about a third to the member that came", fresh)
	}
}

// TestNetSharedSource: what a group leads to may send, from each of its nodes
// and from no other.
func TestNetSharedSource(t *testing.T) {
	b := newBench(t)
	shared := netip.MustParseAddr("10.32.0.77")
	stranger := netip.MustParseAddr("172.31.0.99")
	b.must(b.dp.PutRoute(host(vrf, shared), Share([]Member{tunnelTo(remoteIP, farLabel), tunnelTo(otherIP, farLabel)})))
	for i, node := range []netip.Addr{remoteIP, otherIP} {
		verdict, _ := b.fromWire(tunnelled(node, localIP, label1, 50000, udpFlow(mac1, shared, addr1, i)))
		wantVerdict(t, verdict, tcRedirect)
	}
	verdict, _ := b.fromWire(tunnelled(stranger, localIP, label1, 50000, udpFlow(mac1, shared, addr1, 2)))
	b.wantDrop(verdict, DropTunnelSource, b.port1.IfIndex)
	// A prefix behind several ports: each may send from it.
	prefix, inside := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParseAddr("192.0.2.9")
	here := Member{NextHop: NextHop{Kind: Local, Label: label1, Behind: true}}
	b.must(b.dp.PutRoute(RouteKey{vrf, prefix}, Share([]Member{here, tunnelTo(remoteIP, farLabel)})))
	verdict, _ = b.fromPort(b.port1, udpFrame(mac1, inside, farAddr))
	wantVerdict(t, verdict, tcRedirect)
	verdict, _ = b.fromPort(b.port2, udpFrame(mac2, inside, farAddr))
	b.wantDrop(verdict, DropSourceAddress, b.port2.IfIndex)
}

// TestNetPortMovesItsRoutes: routes to a port find it when it comes, and when
// it is another interface.
func TestNetPortMovesItsRoutes(t *testing.T) {
	b := newBench(t)
	prefix, inside := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParseAddr("192.0.2.9")
	b.must(b.dp.PutRoute(RouteKey{vrf, prefix}, NextHop{Kind: Local, Label: label2, Behind: true}))
	frame := udpFrame(mac1, addr1, inside)
	wantFrameTo := func(mac MAC) {
		t.Helper()
		verdict, out := b.fromPort(b.port1, frame)
		wantVerdict(t, verdict, tcRedirect)
		wantFrame(t, out, routed(frame, mac))
	}
	wantFrameTo(mac2)
	b.ns.Must(func() error { return b.dp.DeletePort(b.port2.IfIndex) })
	verdict, _ := b.fromPort(b.port1, frame)
	b.wantDrop(verdict, DropNextHop, b.port1.IfIndex)
	again := b.port2
	again.IfIndex, again.Name, again.MAC = b.ns.Dummy("tap3").Attrs().Index, "tap3", MAC{2, 0, 0, 0, 0, 3}
	b.putPort(again)
	wantFrameTo(again.MAC)
}

// TestNetNextHopsAreSwept: next hops are there as long as routes lead to them,
// and are adopted with the routes.
func TestNetNextHopsAreSwept(t *testing.T) {
	b := newBench(t)
	group := Share([]Member{tunnelTo(remoteIP, farLabel), tunnelTo(otherIP, 20), {NextHop: NextHop{Kind: Local, Label: label1}, Weight: 3}})
	b.must(b.dp.PutRoutes(map[RouteKey]NextHop{
		host(vrf, netip.MustParseAddr("10.32.0.77")):    group,
		{vrf, netip.MustParsePrefix("192.0.2.0/24")}:    group,
		{vrf, netip.MustParsePrefix("198.51.100.0/24")}: {Kind: Tunnel, Remote: otherIP, Label: 21},
	}))
	wantHops := func(want ...NextHop) {
		t.Helper()
		have, err := b.dp.readHops()
		b.must(err)
		for _, n := range have {
			if !slices.Contains(want, n) {
				t.Errorf("next hop %s is there", n)
			}
		}
		if len(have) != len(want) {
			t.Errorf("next hops are %v, want %v", have, want)
		}
	}
	to := func(node netip.Addr) NextHop { return NextHop{Kind: Tunnel, Remote: node} }
	b.must(b.dp.SweepNextHops())
	wantHops(to(remoteIP), to(otherIP), group)
	before, err := b.dp.Routes()
	b.must(err)
	unfinished := bpfEcmpMemberKey{Group: 99, Label: 20}
	b.must(b.dp.maps().EcmpMemberV1.Put(unfinished, bpfRoute{}))
	b.dp.Close()
	b.open()
	if err := b.dp.maps().EcmpMemberV1.Lookup(unfinished, &bpfRoute{}); err == nil {
		t.Error("what is left of an unfinished group is adopted")
	}
	if after, err := b.dp.Routes(); err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("routes read %v, %v after a restart, before %v", after, err, before)
	}
	b.must(b.dp.DeleteRoutes([]RouteKey{host(vrf, netip.MustParseAddr("10.32.0.77")), {vrf, netip.MustParsePrefix("198.51.100.0/24")}}))
	b.must(b.dp.SweepNextHops())
	wantHops(to(remoteIP), to(otherIP), group)
	b.must(b.dp.DeleteRoute(RouteKey{vrf, netip.MustParsePrefix("192.0.2.0/24")}))
	b.must(b.dp.SweepNextHops())
	wantHops(to(remoteIP))
}

// TestNetRoutesOfTheEarlierLayout: they are taken over with all that there is.
func TestNetRoutesOfTheEarlierLayout(t *testing.T) {
	b := newBench(t)
	want, err := b.dp.Routes()
	b.must(err)
	prefix := RouteKey{vrf, netip.MustParsePrefix("192.0.2.0/24")}
	want[prefix] = NextHop{Kind: Tunnel, Remote: otherIP, Label: 77}
	old := func(typ ebpf.MapType, name string, keySize uint32) *ebpf.Map {
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: typ, Name: name, KeySize: keySize, ValueSize: 32, MaxEntries: 64, Flags: 1})
		b.must(err)
		b.must(m.Pin(filepath.Join(b.dp.mapDir(), name)))
		return m
	}
	hosts, prefixes := old(ebpf.Hash, hostRoutesBefore, 20), old(ebpf.LPMTrie, routesBefore, 24)
	for key, n := range want {
		value := routeBefore{Kind: uint32(n.Kind), Label: n.Label, Remote: toAddr(n.Remote)}
		if n.Kind == Local {
			value.IfIndex, value.Label = uint32(map[uint32]int{label1: b.port1.IfIndex, label2: b.port2.IfIndex}[n.Label]), 0
		}
		if key.Prefix.IsSingleIP() {
			b.must(hosts.Put(toHostRouteKey(key), value))
			b.must(b.dp.DeleteRoute(key))
		} else {
			b.must(prefixes.Put(toRouteKey(key), value))
		}
	}
	hosts.Close()
	prefixes.Close()
	b.dp.Close()
	b.open()
	if have, err := b.dp.Routes(); err != nil || fmt.Sprint(have) != fmt.Sprint(want) {
		t.Errorf("routes are %v, %v, want %v", have, err, want)
	}
	if left, _ := filepath.Glob(filepath.Join(b.dp.mapDir(), "*route_v1")); len(left) != 0 {
		t.Errorf("pins are left: %v", left)
	}
}

// TestNetFlowsOfTheEarlierLayouts: flows keep their counts, and their members of
// groups, and count against the quota of their port.
func TestNetFlowsOfTheEarlierLayouts(t *testing.T) {
	for name, size := range map[string]int{flowsFirst: 104, flowsBefore: 112} {
		b := newBench(t)
		shared := netip.MustParseAddr("10.32.0.77")
		group := []Member{tunnelTo(remoteIP, farLabel), tunnelTo(otherIP, farLabel2)}
		b.must(b.dp.PutRoute(host(vrf, shared), Share(group)))
		before := b.takes(shared, 20)
		old, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, Name: name, KeySize: 44, ValueSize: uint32(size), MaxEntries: 1024})
		b.must(err)
		b.must(old.Pin(filepath.Join(b.dp.mapDir(), name)))
		raw, err := entries[bpfFlowKey, [120]byte](b.dp.maps().FlowV3, "flows")
		b.must(err)
		for key, value := range raw {
			b.must(old.Put(key, value[:size]))
			b.must(b.dp.maps().FlowV3.Delete(key))
		}
		old.Close()
		b.must(b.dp.PutRoute(host(vrf, shared), Share(append(group, tunnelTo(otherIP, 99)))))
		_, _, err = b.dp.SweepFlows(0, DefaultAges()) // finds none
		b.must(err)
		b.dp.Close()
		b.open()
		if own, _, err := b.dp.PortFlowCount(b.port1.IfIndex); err != nil || own != (FlowCount{20, 20}) {
			t.Errorf("%s: port has %+v flows, %v, want 20", name, own, err)
		}
		if after := b.takes(shared, 20); !slices.Equal(after, before) {
			t.Errorf("%s: flows take %v, before %v", name, after, before)
		}
		for _, f := range b.flows() {
			if f.Packets != 2 {
				t.Errorf("%s: flow has %d packets, want those from before, too: %+v", name, f.Packets, f)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(b.dp.mapDir(), name)); len(left) != 0 {
			t.Errorf("pins are left: %v", left)
		}
	}
}
