package control

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/control/rib"
	"github.com/contrail-mesos/contrail/internal/model"
)

// prefixesIn are the routes of a VRF that are used, sorted.
func (b *bench) prefixesIn(vrf uint32) string {
	var list []string
	keys, _ := b.tables.rib.Keys(vrf)
	for _, key := range keys {
		if r, ok := b.tables.rib.Route(vrf, key); ok && len(r.Paths) > 0 && r.Paths[0].Used && key.Kind() == rib.Unicast {
			list = append(list, key.Prefix().String())
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// TestClientInstance: an interface is in the routing instance of a client that it
// refers to, with its address, and its agent's word on it stays; who is connected
// with the instance has the routes.
func TestClientInstance(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.node("n1", "172.31.0.11", 1500)
	b.network("blue", 1, nil, nil)
	b.network("red", 2, nil, nil)
	b.attach("c1", "blue", "n1", "10.0.0.3", 16)
	b.attach("c2", "blue", "n1", "10.0.0.4", 17)
	b.clientInstance("blue", "x", nil, []string{"target:1:1"})
	b.step()
	b.connect("n1", 100)
	if err := b.agents["n1"].report(&controlv1.PortStatus{InterfaceId: id("vmi", "c1"), State: controlv1.PortStatus_STATE_UP}); err != nil {
		t.Fatal(err)
	}
	x := compile.InstanceNumber(id("ri", "blue", "x"))
	want := func(when, blue, red, own string) {
		t.Helper()
		b.check(t)
		for _, c := range []struct {
			name string
			vrf  uint32
			want string
		}{{"blue", 1, blue}, {"red", 2, red}, {"the instance", x, own}} {
			if got := b.prefixesIn(c.vrf); got != c.want {
				t.Errorf("%s: %s has %q, want %q", when, c.name, got, c.want)
			}
		}
	}
	const one, two = "10.0.0.3/32", "10.0.0.4/32"
	want("at first", one+" "+two, "", "")
	b.place("c1", "blue", "x", true)
	want("in the instance", two, "", one)
	b.connectTo("blue", "x", "red", true)
	want("connected", two, one, one)
	b.connectTo("blue", "x", "blue", true)
	want("connected with its network", one+" "+two, one, one+" "+two)
	b.removeInstance("blue", "x")
	want("without the instance", one+" "+two, "", "")
	b.clientInstance("blue", "x", nil, nil)
	b.place("c1", "red", "x", true) // of another network, which is not there either
	want("elsewhere", one+" "+two, "", "")
	b.disconnect("n1")

	names := []string{}
	for _, i := range b.tables.showInstances() {
		names = append(names, i.Name)
	}
	if want := []string{"default-domain:p:blue", "default-domain:p:red", "default-domain:p:blue:x"}; !slices.Equal(names, want) {
		t.Errorf("instances are %v, want %v", names, want)
	}
}

// TestClientInstanceGoesOut: routers are told the routes of an instance with a
// target of its own choice, as those of the network behind it.
func TestClientInstanceGoesOut(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.node("n1", "172.31.0.11", 1500)
	b.network("blue", 1, nil, nil)
	b.clientInstance("blue", "x", []string{"target:1:2"}, []string{"target:1:1"})
	b.attach("c1", "blue", "n1", "10.0.0.3", 16)
	b.place("c1", "blue", "x", true)
	b.step()
	x := compile.InstanceNumber(id("ri", "blue", "x"))
	at := netip.MustParseAddr("172.31.0.11")
	routes := b.tables.border.routesOf(place{x, rib.HostKey(netip.MustParseAddr("10.0.0.3"))})
	if len(routes) != 1 {
		t.Fatalf("routes are %+v", routes)
	}
	rd, _ := routes[0].NLRI.RD()
	if _, index, ok := rd.Address(); !ok || rd != bgp.RDFromAddr(at, uint16(firstShared+x%sharedIndexes)) || index < firstShared {
		t.Errorf("distinguisher %s", rd)
	}
	if got, want := fmt.Sprint(routes[0].Attrs.RouteTargets()), fmt.Sprintf("[target:1:1 target:64512:%d]", 8_000_000+int64(x)); got != want {
		t.Errorf("targets %s, want %s", got, want)
	}
	if _, wanted := b.tables.border.wanted[rib.Target(bgp.NewRouteTarget(1, 2))]; !wanted || len(b.tables.border.wanted) != 1 {
		t.Errorf("wanted from routers: %v", b.tables.border.wanted)
	}
	if who := routes[0].Attrs.Identity(0); who.OriginVN != 1 {
		t.Errorf("origin is network %d, want blue's", who.OriginVN)
	}
}

// TestStaticRouteOfInstance: a static route of a client's instance leads to an
// interface in it, and those know it who import one of its own targets, routers too.
func TestStaticRouteOfInstance(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.node("n1", "172.31.0.11", 1500)
	b.network("blue", 1, nil, nil)
	b.network("red", 2, []string{"target:1:2"}, nil)
	b.clientInstance("blue", "x", nil, nil)
	b.attach("c1", "blue", "n1", "10.0.0.3", 16)
	b.place("c1", "blue", "x", true)
	static := func(targets ...string) {
		b.apply(model.Batch{Objects: []model.Object{&model.RoutingInstance{
			Meta: model.Meta{
				UUID: id("ri", "blue", "x"), FQName: []string{"default-domain", "p", "blue", "x"}, ParentType: "virtual-network", ParentUUID: id("net", "blue"),
			},
			StaticRouteEntries: &model.StaticRouteEntriesType{Route: []model.StaticRouteType{{
				Prefix: "192.0.2.0/24", NextHop: "10.0.0.3", RouteTarget: targets, Community: []string{"64512:7"},
			}}},
		}}})
		b.step()
	}
	x := compile.InstanceNumber(id("ri", "blue", "x"))
	out := func() []bgp.Route {
		return b.tables.border.routesOf(place{x, rib.UnicastKey(netip.MustParsePrefix("192.0.2.0/24"))})
	}
	static()
	if got, want := b.prefixesIn(x), "10.0.0.3/32 192.0.2.0/24"; got != want {
		t.Errorf("the instance has %q, want %q", got, want)
	}
	if got := b.prefixesIn(2); got != "" || len(out()) != 0 {
		t.Errorf("red has %q, and routers are told %v", got, out())
	}
	static("target:1:2")
	if got, want := b.prefixesIn(2), "192.0.2.0/24"; got != want {
		t.Errorf("red has %q, want %q", got, want)
	}
	routes := out()
	if len(routes) != 1 || routes[0].Label != 16 || !slices.Contains(routes[0].Attrs.RouteTargets(), bgp.NewRouteTarget(1, 2)) || !slices.Equal(routes[0].Attrs.Communities, []uint32{64512<<16 | 7}) {
		t.Errorf("routers are told %+v", routes)
	}
	if host := b.tables.border.routesOf(place{x, rib.HostKey(netip.MustParseAddr("10.0.0.3"))}); len(host) != 0 {
		t.Errorf("routers are told of the interface: %+v", host)
	}
	static()
	if got := b.prefixesIn(2); got != "" || len(out()) != 0 {
		t.Errorf("red still has %q, and routers %v", got, out())
	}
}

// TestFabricRoutes: what routers tell without labels is in the table of the
// fabric and nowhere else, also when another control node was told.
func TestFabricRoutes(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.apply(model.Batch{Objects: []model.Object{
		&model.VirtualNetwork{
			Meta:                    model.Meta{UUID: id("net", "ip-fabric"), FQName: strings.Split(fabricInstance, ":")[:3]},
			VirtualNetworkNetworkID: new(int64(1)),
		},
		&model.RoutingInstance{Meta: model.Meta{
			UUID: id("fabric"), FQName: strings.Split(fabricInstance, ":"), ParentType: "virtual-network", ParentUUID: id("net", "ip-fabric"),
		}},
	}})
	b.network("blue", 2, []string{"target:1:1"}, nil)
	b.step()
	number := compile.InstanceNumber(id("fabric"))
	learn := func(prefix string, hop string) {
		n := bgp.PrefixNLRI(netip.MustParsePrefix(prefix))
		keys, rd := keysOf(n)
		var specs []rib.Spec
		if hop != "" {
			attrs := &bgp.Attrs{NextHop: netip.MustParseAddr(hop), ExtCommunities: []bgp.ExtCommunity{bgp.ExtCommunity(bgp.NewRouteTarget(1, 1))}}
			s, ok := specOf(n.Family, &bgp.Path{Peer: "gw", Attrs: attrs}, b.tables.border.wanted, 64512)
			if !ok {
				t.Fatal("the route is not wanted")
			}
			specs = append(specs, s)
		}
		b.tables.setLearned(outside{rd, keys[0]}, specs)
		b.tables.flush()
	}
	learn("192.0.2.0/24", "10.99.0.2")
	learn("2001:db8::/32", "fd00::2")
	if got, want := b.prefixesIn(number), "192.0.2.0/24 2001:db8::/32"; got != want {
		t.Errorf("the fabric has %q, want %q", got, want)
	}
	if got := b.prefixesIn(1) + b.prefixesIn(2); got != "" {
		t.Errorf("networks have %q", got)
	}
	other := newTables(discard(), newMetrics())
	other.apply(other.facts.read(b.graph, model.Changes{Everything: true, Position: model.Position{Epoch: 1, Revision: b.revision}}))
	for at, l := range b.tables.learned {
		message := &controlv1.ExchangeMessage{}
		if err := proto.Unmarshal(l.Message(false), message); err != nil {
			t.Fatal(err)
		}
		if got, err := other.hearLearned("c2", message.GetLearned()); err != nil || got != at {
			t.Errorf("another hears of %v, %v; want %v", got, err, at)
		}
	}
	if keys, _ := other.rib.Keys(number); len(keys) != 2 {
		t.Errorf("another control node has %v", keys)
	}
	learn("192.0.2.0/24", "")
	if got, want := b.prefixesIn(number), "2001:db8::/32"; got != want {
		t.Errorf("the fabric has %q, want %q", got, want)
	}
	hostile := bgp.VPNNLRI(bgp.RD{0xff, 0xff}, netip.MustParsePrefix("192.0.2.0/24"))
	if keys, _ := keysOf(hostile); len(keys) != 0 {
		t.Errorf("a route of a network counts as %v of the fabric", keys)
	}
}
