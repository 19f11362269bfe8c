package compile

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/contrail-mesos/contrail/internal/model"
)

// TestVPN: a network has the targets of the VPNs that it refers to and of those
// of its logical routers, each in its direction; what is for bridges only, or
// one that networks get, is left out and said.
func TestVPN(t *testing.T) {
	blue, red, green := network("blue", 1), network("red", 2), network("green", 3)
	vpn := func(name string, v model.BGPVPN) *model.BGPVPN {
		v.Meta = model.Meta{UUID: model.DerivedUUID("vpn", name), FQName: []string{"default-domain", "p", name}, ParentUUID: blue.ParentUUID}
		return &v
	}
	own := vpn("own", model.BGPVPN{BGPVPNType: "l3", RouteTargetList: targets("target:1:1"), ImportRouteTargetList: targets("target:1:2", "target:64512:8000003")})
	routed := vpn("routed", model.BGPVPN{ExportRouteTargetList: targets("target:1:3")})
	bridged := vpn("bridged", model.BGPVPN{BGPVPNType: "l2", RouteTargetList: targets("target:1:4")})
	lr := &model.LogicalRouter{Meta: model.Meta{UUID: model.NewUUID(), FQName: []string{"default-domain", "p", "lr"}, ParentUUID: blue.ParentUUID}}
	g := configuration(blue, red, green, own, routed, bridged, lr)
	ref := func(from, to model.Object) model.Reference {
		return model.Reference{From: model.EntityOf(from), To: model.EntityOf(to)}
	}
	g.Apply(model.Batch{Position: model.Position{Epoch: 1, Revision: 2}, References: []model.Reference{
		ref(blue, own), ref(green, bridged), ref(red, lr), ref(lr, routed),
	}})
	g.View(func(v *model.View) {
		for _, c := range []struct {
			network          *model.VirtualNetwork
			imports, exports []Target
			problems         int
		}{
			{blue, []Target{"target:1:1", "target:1:2", "target:64512:8000001"}, []Target{"target:1:1", "target:64512:8000001"}, 1},
			{red, []Target{"target:64512:8000002"}, []Target{"target:1:3", "target:64512:8000002"}, 0},
			{green, []Target{"target:64512:8000003"}, []Target{"target:64512:8000003"}, 1},
		} {
			i := InstanceOf(v, c.network.UUID)
			if diff := cmp.Diff([][]Target{c.imports, c.exports}, [][]Target{i.Import, i.Export}); diff != "" {
				t.Errorf("%s: %s", i.Name, diff)
			}
			if got := Explain(v, c.network.UUID).Problems; len(got) != c.problems {
				t.Errorf("%s: problems %v, want %d", i.Name, got, c.problems)
			}
		}
		if got := Holders(v, "target:1:3"); len(got) != 1 || got[0] != red.UUID {
			t.Errorf("networks with the target of the router's VPN: %v, want red", got)
		}
	})
}

// TestRouterTables: the networks of a logical router have the static routes of
// its route-tables, one table only once.
func TestRouterTables(t *testing.T) {
	blue, red := network("blue", 1), network("red", 2)
	table := &model.RouteTable{
		Meta:   model.Meta{UUID: model.NewUUID(), FQName: []string{"default-domain", "p", "table"}},
		Routes: &model.RouteTableType{Route: []model.RouteType{{Prefix: "192.0.2.0/24", NextHop: "10.0.0.9"}}},
	}
	lr := &model.LogicalRouter{Meta: model.Meta{UUID: model.NewUUID(), FQName: []string{"default-domain", "p", "lr"}, ParentUUID: blue.ParentUUID}}
	g := configuration(blue, red, table, lr)
	ref := func(from, to model.Object) model.Reference {
		return model.Reference{From: model.EntityOf(from), To: model.EntityOf(to)}
	}
	g.Apply(model.Batch{Position: model.Position{Epoch: 1, Revision: 2}, References: []model.Reference{
		ref(blue, lr), ref(red, lr), ref(red, table), ref(lr, table),
	}})
	g.View(func(v *model.View) {
		for _, vn := range []*model.VirtualNetwork{blue, red} {
			if got := InstanceOf(v, vn.UUID).Routes; len(got) != 1 || got[0].Prefix.String() != "192.0.2.0/24" {
				t.Errorf("%s has the routes %v, want that of the router's table", vn.FQName, got)
			}
		}
	})
}
