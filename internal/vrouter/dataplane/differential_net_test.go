//go:build net

package dataplane

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The programs and the reference are told the same and given the same packets:
// what comes of each has to be the same.

// differ is a node that both are.
type differ struct {
	*bench
	taps [4]int
	ref  *reference
	// counts say what the packets came to, to see that they come to much.
	counts map[string]int
}

var (
	drawnAddresses = addresses("10.32.0.3", "10.32.0.33", "10.32.0.4", "10.32.0.5", "10.32.0.6", "10.32.7.1")
	drawnElsewhere = addresses("198.51.100.3", "198.51.100.4", "198.51.100.9", "10.32.0.3", "203.0.113.1")
	drawnStrange   = addresses("224.0.0.5", "255.255.255.255", "0.0.0.0", "127.0.0.1", "10.33.0.1")
	drawnNodes     = []netip.Addr{remoteIP, remoteIP, otherIP}
	drawnMACs      = []MAC{mac1, mac2, {2, 0, 0, 0, 0, 3}, {2, 0, 0, 0, 0, 4}}
)

// Networks 7 and 8 have the same addresses, 9 is that of floating ones.
var drawnVRFs = [4]uint32{7, 7, 8, 9}

func addresses(all ...string) (list []netip.Addr) {
	for _, a := range all {
		list = append(list, netip.MustParseAddr(a))
	}
	return list
}

func newDiffer(t testing.TB) *differ {
	b := newBench(t, func(c *Config) {
		c.FlowEntries, c.PortFlows, c.PortUnanswered = 65536, 32768, 32768
	})
	d := &differ{bench: b, counts: map[string]int{}}
	d.taps = [4]int{b.port1.IfIndex, b.port2.IfIndex, b.ns.Dummy("tap3").Attrs().Index, b.ns.Dummy("tap4").Attrs().Index}
	for vrf := range uint32(3) {
		b.must(b.dp.PutVNI(vniOf(7+vrf), 7+vrf))
	}
	return d
}

func newDraw(seed uint64) draw { return draw{rand.New(rand.NewPCG(seed, 1))} }

// world draws what a node is told.
func (d draw) world(taps [4]int) told {
	w := told{
		local: localIP, mtu: 1500, ports: map[int]Port{}, policies: map[int]Policy{}, sets: map[SetID]*Set{},
		routes: map[RouteKey]NextHop{}, vnis: map[uint32]uint32{},
	}
	for vrf := uint32(7); vrf < 10; vrf++ {
		w.vnis[vniOf(vrf)] = vrf
	}
	for i, ifindex := range taps {
		p := Port{
			IfIndex: ifindex, Name: fmt.Sprintf("tap%d", i+1), VRF: drawnVRFs[i], Label: uint32(1001 + i), MAC: drawnMACs[i],
			Addresses: []netip.Addr{drawnAddresses[[4]int{0, 2, 0, 4}[i]]}, Blocked: d.IntN(12) == 0,
		}
		if i == 0 && d.IntN(2) == 0 {
			p.Addresses = append(p.Addresses, drawnAddresses[1])
		}
		if i == 3 {
			p.Addresses = []netip.Addr{drawnElsewhere[2]}
		}
		for _, a := range drawnElsewhere[:2] {
			if i < 3 && d.IntN(3) == 0 {
				f := ForeignAddress{Address: a, VRF: 9, Fixed: p.Addresses[0], AnswersOnly: d.IntN(3) == 0}
				if d.IntN(5) == 0 {
					f.Fixed = f.Address
				}
				p.Foreign = append(p.Foreign, f)
			}
		}
		w.ports[ifindex] = p
		if d.IntN(20) > 0 {
			drawn := d.port(pick(d, 1, 5, 20, 20))
			if d.IntN(5) > 2 {
				drawn = drawnPort{policy: Policy{Identity: d.identity()}}
			}
			w.policies[ifindex] = drawn.policy
			for _, s := range drawn.sets {
				if s != nil {
					w.sets[s.ID] = s
				}
			}
		}
	}
	for vrf := uint32(7); vrf < 10; vrf++ {
		for _, a := range append(slices.Clone(drawnAddresses), drawnElsewhere...) {
			if d.IntN(6) > 0 {
				w.routes[host(vrf, a)] = d.hop(w, vrf, a)
			}
		}
		for _, prefix := range []string{"10.32.0.0/24", "10.32.0.0/16", "198.51.100.0/24", "0.0.0.0/0"} {
			if d.IntN(3) == 0 {
				hop := d.hop(w, 0, netip.Addr{})
				hop.Behind = hop.Kind == Local && d.IntN(2) == 0
				w.routes[RouteKey{vrf, netip.MustParsePrefix(prefix)}] = hop
			}
		}
	}
	return w
}

// hop draws a way to an address, mostly the right one where it is here.
func (d draw) hop(w told, vrf uint32, a netip.Addr) NextHop {
	for _, p := range w.ports {
		_, foreign := foreignOf(p, a)
		if (p.VRF == vrf && slices.Contains(p.Addresses, a) || vrf == 9 && foreign) && d.IntN(8) > 0 {
			return NextHop{Kind: Local, Label: p.Label, Identity: w.policies[p.IfIndex].Identity}
		}
	}
	switch d.IntN(10) {
	case 0:
		return NextHop{Kind: Discard}
	case 1:
		return NextHop{Kind: Local, Label: uint32(1001 + d.IntN(6))}
	}
	n := NextHop{Kind: Tunnel, Remote: pick(d, drawnNodes...), Label: farLabel + uint32(d.IntN(3)), Identity: d.identity()}
	switch d.IntN(4) {
	case 0:
		n.Encapsulation = MPLSoGRE
	case 1:
		n.Encapsulation, n.VNI, n.Label = VXLAN, 6000+uint32(d.IntN(3)), 0
		if d.IntN(2) == 0 {
			n.MAC = MAC{2, 9, 9, 9, 9, 9}
		}
	}
	return n
}

// tell has the programs and the reference know a world, and nothing from before.
func (x *differ) tell(w told) {
	x.t.Helper()
	w.underlay = x.eth0
	known, err := x.dp.Routes()
	x.must(err)
	x.must(x.dp.DeleteRoutes(slices.Collect(maps.Keys(known))))
	x.ns.Must(func() error {
		for _, ifindex := range x.taps {
			if err := x.dp.DeletePolicy(ifindex); err != nil {
				return err
			}
			if err := x.dp.PutPort(w.ports[ifindex]); err != nil {
				return err
			}
		}
		return errors.Join(x.dp.PutPolicies(w.policies, w.sets), x.dp.PutRoutes(w.routes))
	})
	x.forgetFlows()
	x.forgetFragments()
	x.forgetDrops()
	x.ref = newReference(w)
}

// change gives some ports other policies amid their flows.
func (x *differ) change(d draw, w told) told {
	x.t.Helper()
	next := w
	next.policies, next.sets = maps.Clone(w.policies), maps.Clone(w.sets)
	for _, ifindex := range x.taps {
		switch d.IntN(4) {
		case 0:
			drawn := d.port(pick(d, 1, 5, 20, 20))
			next.policies[ifindex] = drawn.policy
			for _, s := range drawn.sets {
				if s != nil {
					next.sets[s.ID] = s
				}
			}
		case 1:
			next.policies[ifindex] = Policy{Identity: d.identity()}
		}
	}
	x.must(x.dp.PutPolicies(next.policies, next.sets))
	next.underlay = x.eth0
	for _, ifindex := range x.taps {
		before, had := w.policies[ifindex]
		if now, has := next.policies[ifindex]; has != had || now != before {
			x.ref.changes[ifindex]++
		}
	}
	x.ref.told = next
	return next
}

func (x *differ) forgetFragments() {
	x.t.Helper()
	all, err := entries[bpfFragmentKey, bpfFragment](x.dp.maps().FragmentV1, "fragments")
	x.must(err)
	for key := range all {
		x.must(deleted(x.dp.maps().FragmentV1.Delete(key)))
	}
}

// input is a frame and where it comes in: by a port, or by the underlay for 0.
type input struct {
	tap   int // 1 to 4
	frame []byte
}

// compare gives a packet to both.
func (x *differ) compare(in input) error {
	var got, want outcome
	if in.tap > 0 {
		ifindex := x.taps[in.tap-1]
		want = x.ref.fromPort(ifindex, in.frame)
		got.verdict, got.frame = x.run(x.dp.objects.VifRx, ifindex, in.frame)
	} else {
		want = x.ref.fromWire(in.frame)
		got.verdict, got.frame = x.fromWire(in.frame)
	}
	drops := x.dropped()
	x.forgetDrops()
	for drop := range drops {
		got.reason, got.at = drop.Reason, drop.IfIndex
	}
	if want.unknown {
		x.counts["not spoken of"]++
		if got.verdict == tcRedirect {
			return fmt.Errorf("%v passes a packet that is none of IPv4: %x", in, got.frame)
		}
		return nil
	}
	x.counts[want.what(in)]++
	if got.verdict != want.verdict || got.reason != want.reason || got.at != want.at || len(drops) > 1 {
		return fmt.Errorf("%v: verdict %d, drops %v, want verdict %d, %s at %d", in, got.verdict, drops, want.verdict, want.reason, want.at)
	}
	if want.verdict == tcRedirect {
		return want.matches(in, got.frame)
	}
	return nil
}

func (in input) String() string {
	return fmt.Sprintf("tap %d: %s", in.tap, hex.EncodeToString(in.frame))
}

// what is the kind of an outcome.
func (o outcome) what(in input) string {
	from := "port"
	if in.tap == 0 {
		from = "underlay"
	}
	switch {
	case o.verdict == tcNext:
		return from + ": for the host"
	case o.verdict == tcDrop:
		return from + ": " + o.reason.String()
	case o.translated:
		return from + ": passes translated"
	case len(o.loose) > 0:
		return from + ": passes to a tunnel"
	}
	return from + ": passes to a port"
}

// matches compares what leaves.
func (o outcome) matches(in input, got []byte) error {
	if len(got) != len(o.frame) {
		return fmt.Errorf("%v: %d bytes leave, want %d:\n%x\n%x", in, len(got), len(o.frame), got, o.frame)
	}
	got, want := slices.Clone(got), slices.Clone(o.frame)
	if o.translated {
		if err := wellSummed(in.frame, got); err != nil {
			return fmt.Errorf("%v: %w: %x", in, err, got)
		}
		blank(got)
		blank(want)
	}
	for at := range o.loose {
		got[at], want[at] = 0, 0
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%v: what leaves is\n%x, want\n%x", in, got, want)
	}
	return nil
}

// innermost is where the IPv4 header of a frame is that a container sees.
func innermost(frame []byte) int {
	at := 14
	ip := frame[at:]
	switch {
	case len(ip) < 28:
	case ip[9] == 17 && binary.BigEndian.Uint16(ip[22:]) == 6635:
		at += 32
	case ip[9] == 17 && binary.BigEndian.Uint16(ip[22:]) == 4789:
		at += 50
	case ip[9] == 47 && binary.BigEndian.Uint32(ip[20:]) == 0x8847:
		at += 28
	}
	return at
}

// sums are the checksums of the innermost packet that are wrong, and where each is.
func sums(frame []byte) (wrong map[string]bool, at []int) {
	wrong = map[string]bool{}
	ip := frame[innermost(frame):]
	if len(ip) < 20 {
		return wrong, nil
	}
	base, size := len(frame)-len(ip), int(ip[0]&15)*4
	total := min(int(binary.BigEndian.Uint16(ip[2:])), len(ip))
	if size < 20 || total < size {
		return wrong, nil
	}
	at = append(at, base+10)
	wrong["IP"] = sumOf(ip[:size], 0) != 0xffff
	if binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
		return wrong, at
	}
	upper := ip[size:total]
	pseudo := uint32(sumOf(ip[12:20], 0)) + uint32(ip[9]) + uint32(len(upper))
	switch {
	case ip[9] == 6 && len(upper) >= 20:
		at = append(at, base+size+16)
		wrong["TCP"] = sumOf(upper, pseudo) != 0xffff
	case ip[9] == 17 && len(upper) >= 8:
		at = append(at, base+size+6)
		wrong["UDP"] = binary.BigEndian.Uint16(upper[6:]) != 0 && sumOf(upper, pseudo) != 0xffff
	case ip[9] == 1 && len(upper) >= 28:
		at = append(at, base+size+8+10) // of what it quotes
		wrong["ICMP"] = sumOf(upper, 0) != 0xffff
	}
	return wrong, at
}

// wellSummed is an error where a checksum was right and is not any more.
func wellSummed(in, out []byte) error {
	before, _ := sums(in)
	after, _ := sums(out)
	for name, wrong := range after {
		if was, there := before[name]; there && wrong && !was {
			return fmt.Errorf("the %s checksum is wrong now", name)
		}
	}
	return nil
}

func blank(frame []byte) {
	_, at := sums(frame)
	for _, i := range at {
		frame[i], frame[i+1] = 0, 0
	}
}

// TestNetProgramsAreTheReference gives random packets, among them broken ones, to
// nodes with random ports, routes and policies. FULL=1 has far more of them.
func TestNetProgramsAreTheReference(t *testing.T) {
	x := newDiffer(t)
	packets := 60
	if os.Getenv("FULL") == "1" {
		packets = 5000
	}
	rapid.Check(t, func(t *rapid.T) {
		d := newDraw(rapid.Uint64().Draw(t, "seed"))
		w := d.world(x.taps)
		x.tell(w)
		var sent []talk
		for n := range packets {
			if n > 0 && n%20 == 0 {
				w = x.change(d, w)
			}
			in := d.input(w, x.taps, &sent)
			if err := x.compare(in); err != nil {
				t.Fatalf("%v\nports %+v\nroutes %v\npolicies %+v", err, w.ports, w.routes, w.policies)
			}
		}
	})
	for _, what := range slices.Sorted(maps.Keys(x.counts)) {
		t.Logf("%6d  %s", x.counts[what], what)
	}
	for _, what := range []string{
		"port: passes to a tunnel", "port: passes to a port", "port: passes translated", "underlay: passes to a port",
		"underlay: passes translated", "port: source-address", "underlay: tunnel-source", "underlay: destination-address",
		"port: policy-group", "underlay: policy-network", "port: malformed", "underlay: malformed", "underlay: for the host",
	} {
		if x.counts[what] == 0 {
			t.Errorf("no packet came to %q: the test shows little", what)
		}
	}
}
