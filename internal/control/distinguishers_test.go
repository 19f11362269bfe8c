package control

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/model"
)

// TestDistinguishers: whatever VRFs come and go, no two on a node have the same
// distinguisher, and none the same on two nodes; what each has follows from the
// VRFs of its node alone, and nothing that has another one is passed over.
func TestDistinguishers(t *testing.T) {
	hops := []netip.Addr{netip.MustParseAddr("172.31.0.11"), netip.MustParseAddr("172.31.0.12")}
	rapid.Check(t, func(t *rapid.T) {
		// Few homes and many numbers, so that many want the same index.
		number := rapid.Custom(func(t *rapid.T) uint32 {
			return firstShared + rapid.Uint32Range(0, 3).Draw(t, "home") + sharedIndexes*rapid.Uint32Range(0, 5).Draw(t, "round")
		})
		d, has := newDistinguishers(), map[netip.Addr]map[uint32]bool{hops[0]: {}, hops[1]: {}}
		told := map[netip.Addr]map[uint32]bgp.RD{hops[0]: {}, hops[1]: {}}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				hop, vrf, here := rapid.SampledFrom(hops).Draw(t, "hop"), number.Draw(t, "vrf"), rapid.Bool().Draw(t, "has")
				d.note(vrf, hop, here)
				if has[hop][vrf] = here; !here {
					delete(has[hop], vrf)
					delete(told[hop], vrf)
				}
			}
			d.settle(func(vrf uint32) {
				for _, hop := range hops {
					delete(told[hop], vrf)
				}
			})
			fresh := newDistinguishers()
			for hop, vrfs := range has {
				for _, vrf := range rapid.Permutation(slices.Sorted(maps.Keys(vrfs))).Draw(t, "order") {
					fresh.note(vrf, hop, true)
				}
			}
			fresh.settle(func(vrf uint32) { t.Fatalf("VRF %d is moved, and is new", vrf) })
			seen := map[bgp.RD]string{}
			for hop, vrfs := range has {
				for vrf := range vrfs {
					rd, at := d.of(vrf, hop, 64512), fmt.Sprintf("VRF %d on %s", vrf, hop)
					if rd != fresh.of(vrf, hop, 64512) {
						t.Fatalf("%s has %s, and %s from scratch", at, rd, fresh.of(vrf, hop, 64512))
					}
					if other, taken := seen[rd]; taken {
						t.Fatalf("%s and %s have %s", at, other, rd)
					}
					seen[rd] = at
					if was, ok := told[hop][vrf]; ok && was != rd {
						t.Fatalf("%s has %s after %s, and nobody was told", at, rd, was)
					}
					told[hop][vrf] = rd
					if want := fmt.Sprintf("%s:%d", hop, vrf); vrf < 1<<16 && rd.String() != want {
						t.Fatalf("%s has %s, want %s", at, rd, want)
					}
					if holder, ok := d.holder(rd); !ok || holder != vrf {
						t.Fatalf("%s is VRF %d's, %t; want %d's", rd, holder, ok, vrf)
					}
				}
			}
		}
	})
}

// TestDistinguishersOfOthers: a low number is its own index, and who cannot have
// an index has a distinguisher all the same.
func TestDistinguishersOfOthers(t *testing.T) {
	d := newDistinguishers()
	node := netip.MustParseAddr("172.31.0.11")
	for n := range uint32(sharedIndexes + 2) {
		d.note(1<<24+n, node, true)
	}
	d.settle(func(uint32) {})
	for _, c := range []struct {
		vrf  uint32
		hop  string
		want string
	}{
		{7, "172.31.0.11", "172.31.0.11:7"},
		{firstShared - 1, "172.31.0.12", "172.31.0.12:32767"},
		{7, "fd00::1", "64512:7"},
		{1 << 24, "fd00::1", "64512:16777216"},
		{1 << 24, "172.31.0.11", "172.31.0.11:32768"},
		{1<<24 + sharedIndexes - 1, "172.31.0.11", "172.31.0.11:65535"},
		{1<<24 + sharedIndexes, "172.31.0.11", "64512:16809984"},
	} {
		if rd := d.of(c.vrf, netip.MustParseAddr(c.hop), 64512); rd.String() != c.want {
			t.Errorf("VRF %d on %s has %s, want %s", c.vrf, c.hop, rd, c.want)
		}
	}
}

// TestDistinguishersAtTheBorder: whatever networks with numbers beyond 65535 come
// to nodes and go, in whatever pieces it is told, peers are told in the end of
// each route once, under a distinguisher of its own, and of nothing else.
func TestDistinguishersAtTheBorder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench()
		defer b.subscription.Close()
		own := netip.MustParseAddr("10.99.0.1")
		speaker, err := bgp.New(bgp.Config{AS: 64512, RouterID: own})
		if err != nil {
			t.Fatal(err)
		}
		for n := range 2 {
			b.node(fmt.Sprintf("n%d", n), fmt.Sprintf("172.31.0.1%d", n), 1500)
		}
		b.encapsulations("MPLSoUDP") // so that there is no EVPN
		mine := []string{"target:64500:1"}
		names := []string{"blue", "red", "green"}
		for i, name := range names {
			b.network(name, int64(70000+i*sharedIndexes), mine, mine)
		}
		b.step()
		edge := b.tables.border
		edge.begin(speaker, netip.AddrPort{})
		told := announced{}
		// All networks have the same two addresses.
		container := func(network, node, address int) string { return fmt.Sprintf("c%d-%d-%d", network, node, address) }
		attached := map[string]bool{}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			network, node, address := rapid.IntRange(0, 2).Draw(t, "network"), rapid.IntRange(0, 1).Draw(t, "node"), rapid.IntRange(3, 4).Draw(t, "address")
			c := container(network, node, address)
			if attached[c] = !attached[c]; attached[c] {
				b.attach(c, names[network], fmt.Sprintf("n%d", node), fmt.Sprintf("10.0.0.%d", address), uint32(16+network*10+node*5+address))
				b.activeActive(c, fmt.Sprintf("10.0.0.%d", address))
			} else {
				b.detach(c, names[network])
			}
			b.step()
			if rapid.Bool().Draw(t, "told") {
				edge.leave(told, rapid.IntRange(1, 3).Draw(t, "how many"))
			}
		}
		for edge.leave(told, borderBatch) {
		}
		want := map[string]string{}
		for i, name := range names {
			for node := range 2 {
				for address := 3; address <= 4; address++ {
					if !attached[container(i, node, address)] {
						continue
					}
					hop := netip.MustParseAddr(fmt.Sprintf("172.31.0.1%d", node))
					rd := edge.distinguishers.of(uint32(70000+i*sharedIndexes), hop, 64512)
					route := bgp.VPNNLRI(rd, netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/32", address))).String()
					if other, twice := want[route]; twice {
						t.Fatalf("%s is of %s and of %s", route, name, other)
					}
					want[route] = fmt.Sprintf("%s label %d", hop, 16+i*10+node*5+address)
				}
			}
		}
		if !maps.Equal(map[string]string(told), want) {
			t.Fatalf("peers are told\n%v, want\n%v", told, want)
		}
	})
}

// announced is what peers are told, by route.
type announced map[string]string

func (a announced) Put(routes ...bgp.Route) error {
	for _, r := range routes {
		a[r.NLRI.String()] = fmt.Sprintf("%s label %d", r.Attrs.NextHop, r.Label)
	}
	return nil
}

func (a announced) Withdraw(routes ...bgp.NLRI) {
	for _, r := range routes {
		delete(a, r.String())
	}
}

// activeActive has a container share its address with others that have it.
func (w *world) activeActive(container, address string) {
	w.apply(model.Batch{Objects: []model.Object{&model.InstanceIP{
		Meta: model.Meta{UUID: id("iip", container), FQName: []string{container + "-eth0"}}, InstanceIPAddress: address, InstanceIPMode: "active-active",
	}}})
}
