package control

import (
	"testing"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// TestAggregate: an aggregate leads to its next hop as long as there is a route
// within it, and not without a next hop.
func TestAggregate(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.node("n1", "172.31.0.11", 1500)
	b.network("blue", 1, nil, nil)
	b.attach("gateway", "blue", "n1", "10.0.0.1", 16)
	b.connect("n1", 10)
	aggregate := func(hop string) {
		o := &model.RouteAggregate{
			Meta:                  model.Meta{UUID: id("ra"), FQName: []string{"default-domain", "p", "ra"}},
			AggregateRouteEntries: &model.RouteListType{Route: []string{"192.0.2.0/24"}}, AggregateRouteNexthop: hop,
		}
		b.apply(model.Batch{Objects: []model.Object{o}, References: []model.Reference{{
			From: model.EntityOf(o), To: model.Entity{Kind: model.KindRoutingInstance, UUID: compile.InstanceUUID(id("net", "blue"))},
		}}})
	}
	want := func(what, iface string) {
		t.Helper()
		b.step()
		if err := b.agents["n1"].drain(); err != nil {
			t.Fatal(err)
		}
		paths := b.agents["n1"].state.routes[1]["192.0.2.0/24"].GetPaths()
		switch {
		case iface == "" && len(paths) != 0:
			t.Errorf("%s: the aggregate leads to %v", what, paths)
		case iface != "" && (len(paths) != 1 || paths[0].InterfaceId != iface || !paths[0].Behind):
			t.Errorf("%s: the aggregate leads to %v, want %s", what, paths, iface)
		}
	}
	aggregate("10.0.0.1")
	want("nothing within", "")
	b.behind("irt", "192.0.2.128/25", "gateway")
	want("a route within", id("vmi", "gateway"))
	aggregate("")
	want("no next hop", "")
	aggregate("10.0.0.1")
	want("again", id("vmi", "gateway"))
	b.notBehind("irt", "gateway")
	want("the route within is gone", "")
}
