//go:build net

package dataplane

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// dumped is how many entries bpftool finds in a pinned map.
func (b *bench) dumped(name string) int {
	b.t.Helper()
	out, err := exec.Command("bpftool", "-j", "map", "dump", "pinned", filepath.Join(b.config.PinDir, mapDirName, name)).CombinedOutput()
	if err != nil {
		b.t.Fatalf("bpftool: %v: %s", err, out)
	}
	var list []struct{ Error json.RawMessage }
	if err := json.Unmarshal(out, &list); err != nil {
		b.t.Fatalf("bpftool says %s: %v", out, err)
	}
	return len(list)
}

// TestNetRoutesAreListed: routes and next hops are what was put, in order, as many
// as bpftool finds, and an address takes the longest of the prefixes that it is in.
func TestNetRoutesAreListed(t *testing.T) {
	b := newBench(t)
	shared := Share([]Member{{NextHop: NextHop{Kind: Local, Label: label2}}, tunnelTo(remoteIP, farLabel), tunnelTo(otherIP, farLabel)})
	more := map[RouteKey]NextHop{
		{vrf, netip.MustParsePrefix("10.32.0.0/20")}:   {Kind: Tunnel, Remote: otherIP, Encapsulation: VXLAN, VNI: 77},
		{vrf, netip.MustParsePrefix("0.0.0.0/0")}:      {},
		{vrf + 1, netip.MustParsePrefix("10.0.0.0/8")}: {Kind: Tunnel, Remote: remoteIP, Label: 99},
		host(vrf, netip.MustParseAddr("10.32.0.77")):   shared,
		host(vrf, far6): {Kind: Tunnel, Remote: remoteIP, Label: 100},
		{vrf, netip.MustParsePrefix("2001:db8::/64")}: {Kind: Tunnel, Remote: remoteIP, Label: 101},
	}
	more[RouteKey{vrf + 1, anyone6}] = NextHop{Kind: Tunnel, Remote: remoteIP, Label: 102}
	b.must(b.dp.PutRoutes(more))
	b.must(b.dp.PutMACs(map[MACKey]NextHop{{vrf, mac2}: {Kind: Local, Label: label2}}))
	want, err := b.dp.Routes()
	b.must(err)

	all, left, err := b.dp.RouteEntries(func(RouteKey) bool { return true }, 100)
	b.must(err)
	if left != 0 || len(all) != len(want) || len(all) != b.dumped(bpfMapHostRouteV2)+b.dumped(bpfMapRouteV2) {
		t.Errorf("%d routes and %d more, want %d", len(all), left, len(want))
	}
	if !slices.IsSortedFunc(all, func(a, b RouteEntry) int { return a.RouteKey.Compare(b.RouteKey) }) {
		t.Errorf("routes are not in order: %v", all)
	}
	hops := map[uint32]int{}
	for _, r := range all {
		if r.NextHop != want[r.RouteKey] {
			t.Errorf("%s leads to %s, want %s", r.RouteKey, r.NextHop, want[r.RouteKey])
		}
		hops[r.Hop]++
	}
	hops[hopLocal]++ // the MAC
	some, left, err := b.dp.RouteEntries(func(k RouteKey) bool { return k.VRF == vrf }, 3)
	if err != nil || len(some) != 3 || left != len(want)-2-3 || !slices.Equal(some, all[:3]) {
		t.Errorf("of %d routes three are %v and %d more, %v", len(want)-2, some, left, err)
	}

	for address, prefix := range map[string]string{
		"10.32.0.5": "10.32.0.5/32", "10.32.0.200": "10.32.0.0/20", "192.0.2.1": "0.0.0.0/0", "10.32.0.77": "10.32.0.77/32",
		"2001:db8::5": "2001:db8::5/128", "2001:db8::9": "2001:db8::/64",
	} {
		r, found, err := b.dp.RouteTo(vrf, netip.MustParseAddr(address))
		if err != nil || !found || r.Prefix.String() != prefix || r.NextHop != want[r.RouteKey] {
			t.Errorf("%s takes %v (%t, %v), want that to %s", address, r, found, err, prefix)
		}
	}
	if r, found, err := b.dp.RouteTo(vrf+1, netip.MustParseAddr("192.0.2.1")); found || err != nil {
		t.Errorf("an address without a route takes %v, %v", r, err)
	}

	// The default route of IPv6 is none of IPv4, although it has its addresses in it.
	if r, found, err := b.dp.RouteTo(vrf+1, far6); !found || err != nil || r.Prefix != anyone6 {
		t.Errorf("%s takes %v (%t, %v), want that to %s", far6, r, found, err, anyone6)
	}

	list, err := b.dp.Hops()
	b.must(err)
	if len(list) != b.dumped(bpfMapNextHopV1)+2 {
		t.Errorf("%d next hops, bpftool finds %d beside the two that need none", len(list), b.dumped(bpfMapNextHopV1))
	}
	for _, h := range list {
		if h.Routes != hops[h.ID] {
			t.Errorf("%d routes lead to next hop %d, %s, want %d", h.Routes, h.ID, h.NextHop, hops[h.ID])
		}
	}
	counts, err := b.dp.RouteCounts()
	if err != nil || counts[vrf] != (RouteCount{IPv4: len(want) - 4, IPv6: 2, MACs: 1}) || counts[vrf+1] != (RouteCount{IPv4: 1, IPv6: 1}) {
		t.Errorf("counts are %v, %v", counts, err)
	}
	macs, left, err := b.dp.MACEntries(func(MACKey) bool { return true }, 10)
	if err != nil || left != 0 || len(macs) != 1 || macs[0].MAC != mac2 || macs[0].NextHop.Label != label2 {
		t.Errorf("macs are %v and %d more, %v", macs, left, err)
	}
}

// TestNetFlowsArePaired: both directions of a conversation come together, whether
// it is with a neighbour, by a tunnel, translated, or with a control node.
func TestNetFlowsArePaired(t *testing.T) {
	b := newBench6(t)
	b.float(ForeignAddress{floating, poolVRF, addr1, false})
	b.putService(b.port1, gateway, Service{control, source})
	wantVerdict(t, b.send(b.port1, addr2, 1), tcRedirect) // a neighbour, who answers
	verdict, _ := b.fromPort(b.port2, reversed(addr2, addr1, 1))
	wantVerdict(t, verdict, tcRedirect)
	wantVerdict(t, b.send(b.port1, farAddr, 2), tcRedirect) // another node, which answers
	verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, label1, 49152, reversed(farAddr, addr1, 2)))
	wantVerdict(t, verdict, tcRedirect)
	wantVerdict(t, b.send(b.port1, outside, 3), tcRedirect) // from the floating address; no answer
	wantVerdict(t, b.send(b.port1, farAddr2, 4), tcRedirect)
	b.wantService(t, gateway, control, 40000, syn)
	wantVerdict(t, b.echo6(b.port1, one6, two6, 128), tcRedirect)
	wantVerdict(t, b.echo6(b.port2, two6, one6, 129), tcRedirect)

	pairs, left, err := b.dp.FlowPairs(func(*Flow) bool { return true }, 100)
	b.must(err)
	if left != 0 {
		t.Errorf("%d are left out", left)
	}
	got, directions := map[string]string{}, 0
	for _, p := range pairs {
		if p.Begins == nil {
			t.Errorf("only %+v, which answers", *p.Answers)
			continue
		}
		directions++
		answers := "-"
		if p.Answers != nil {
			directions++
			answers = fmt.Sprintf("%s to %s %t", p.Answers.Src, p.Answers.Dst, p.Answers.Answers)
		}
		got[fmt.Sprintf("%s to %s", p.Begins.Src, p.Begins.Dst)] = answers
	}
	want := map[string]string{
		"10.32.0.3 to 10.32.0.4":   "10.32.0.4 to 10.32.0.3 true",
		"10.32.0.3 to 10.32.0.5":   "10.32.0.5 to 10.32.0.3 true",
		"10.32.0.3 to 203.0.113.9": "-",
		"10.32.0.3 to 10.32.0.6":   "-",
		"10.32.0.3 to 10.32.0.1":   "172.31.0.1 to 172.31.0.11 true",

		"2001:db8::3 to 2001:db8::4": "2001:db8::4 to 2001:db8::3 true",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("conversations are %v, want %v", got, want)
	}
	if found := b.dumped(bpfMapFlowV3); directions != found {
		t.Errorf("%d directions, bpftool finds %d", directions, found)
	}
	pairs, left, err = b.dp.FlowPairs(func(f *Flow) bool { return f.Dst == farAddr || f.Dst == addr2 }, 1)
	if err != nil || len(pairs) != 1 || left != 1 || pairs[0].Answers == nil {
		t.Errorf("of two one is %v and %d more, %v", pairs, left, err)
	}

	// That the answer alone matches is enough, and the pair comes once where both do.
	pairs, left, err = b.dp.FlowPairs(func(f *Flow) bool { return f.Src == addr2 || f.Src == farAddr }, 1)
	if err != nil || len(pairs) != 1 || left != 1 || pairs[0].Begins == nil || pairs[0].Begins.Src != addr1 || pairs[0].Answers == nil {
		t.Errorf("of two whose answers match one is %+v and %d more, %v", pairs, left, err)
	}
	// An entry without packets is none, nor is it the other direction of one.
	for f, err := range b.dp.rawFlows() {
		b.must(err)
		if fromAddr(f.key.Src) == farAddr {
			f.value.Packets = 0
			b.must(b.dp.maps().FlowV3.Put(f.key, f.value))
		}
	}
	pairs, left, err = b.dp.FlowPairs(func(f *Flow) bool { return f.Src == farAddr || f.Dst == farAddr }, 10)
	if err != nil || len(pairs) != 1 || left != 0 || pairs[0].Begins == nil || pairs[0].Answers != nil {
		t.Errorf("with the place of an answer there are %+v and %d more, %v", pairs, left, err)
	}

	// Who answers is listed alone when what it answers is gone.
	for f, err := range b.dp.rawFlows() {
		b.must(err)
		if fromAddr(f.key.Dst) == addr2 {
			b.must(b.dp.maps().FlowV3.Delete(f.key))
		}
	}
	pairs, _, err = b.dp.FlowPairs(func(f *Flow) bool { return f.Src == addr2 }, 10)
	if err != nil || len(pairs) != 1 || pairs[0].Begins != nil || pairs[0].Answers.Dst != addr1 {
		t.Errorf("what answers alone is %v, %v", pairs, err)
	}
}

// reversed is the answer to what send sends.
func reversed(src, dst netip.Addr, sport int) []byte {
	ip := ipv4(src, dst, 17)
	from := mac2
	return serialize(ethernet(from, RouterMAC()), ip, udp(ip, 53, sport), payload)
}

// echo6 has a port send a message of ICMPv6 with an identifier.
func (b *bench) echo6(p Port, src, dst netip.Addr, typ uint8) uint32 {
	b.t.Helper()
	ip := ipv6(src, dst, layers.IPProtocolICMPv6)
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
	icmp.SetNetworkLayerForChecksum(ip)
	verdict, _ := b.fromPort(p, serialize(ethernet6(p.MAC, RouterMAC()), ip, icmp, gopacket.Payload{0, 7, 0, 1}))
	return verdict
}

// TestNetMapFill: used and room of the maps are those that bpftool finds.
func TestNetMapFill(t *testing.T) {
	b := newBench(t, func(c *Config) { c.PortFlows = 1024 })
	for i := range 200 {
		wantVerdict(t, b.send(b.port1, farAddr, i+1), tcRedirect)
	}
	routes := map[RouteKey]NextHop{}
	for i := range 5000 { // more than a batch
		routes[host(vrf, netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}))] = NextHop{Kind: Tunnel, Remote: remoteIP, Label: 16}
		routes[RouteKey{vrf, netip.PrefixFrom(netip.AddrFrom4([4]byte{30, byte(i >> 8), byte(i), 0}), 24)}] = NextHop{Kind: Tunnel, Remote: remoteIP, Label: 16}
	}
	b.must(b.dp.PutRoutes(routes))
	set := openSet()
	b.must(b.dp.PutPolicies(map[int]Policy{b.port1.IfIndex: {Identity: NewIdentity(vrf, nil, nil), Sets: [policySets]SetID{set.ID}}}, map[SetID]*Set{set.ID: set}))
	fills, err := b.dp.MapFills()
	b.must(err)
	got := map[string]MapFill{}
	for _, f := range fills {
		got[f.Map] = f
	}
	for name, used := range map[string]int{
		"flow": 200, "host_route": 5005, "route": 5000, "vif": 2, "label": 2, "port_addr": 3, "next_hop": 1, "policy_set": 1, "port_policy": 2, "vni": 0, "ecmp": 0,
	} {
		if got[name].Used != used {
			t.Errorf("%s has %d entries, want %d", name, got[name].Used, used)
		}
	}
	if n := b.dumped(bpfMapDropV1); n == 0 || got["drop"].Used != n || got["drop"].Max < n {
		t.Errorf("drops: %v, bpftool finds %d", got["drop"], n)
	}
	if n := b.dumped(bpfMapFlowV3); got["flow"].Used != n || got["flow"].Max != 1024 || got["vif"].Max != 64 {
		t.Errorf("flows: %v, bpftool finds %d; vifs: %v", got["flow"], n, got["vif"])
	}
}

// openSet is a set that lets everything pass.
func openSet() *Set {
	any := Selector{Any: true}
	return &Set{ID: SetID{1}, Blocks: [][]Rule{{{Src: any, Dst: any, Protocol: AnyProtocol, SrcPorts: []PortRange{AllPorts}, DstPorts: []PortRange{AllPorts}}}}}
}
