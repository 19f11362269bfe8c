package compile

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/contrail-mesos/contrail/internal/model"
)

// TestRouterConnects: the networks of a logical router import each other's
// targets and have all of the router's, and a gateway is not one of them.
func TestRouterConnects(t *testing.T) {
	blue, red, outside := network("blue", 1), network("red", 2), network("outside", 3)
	others := network("others", 4)
	others.ParentUUID = model.DerivedUUID("another project")
	lr := &model.LogicalRouter{
		Meta:                      model.Meta{UUID: model.NewUUID(), FQName: []string{"default-domain", "p", "lr"}, ParentUUID: blue.ParentUUID},
		ConfiguredRouteTargetList: targets("target:1:1", "target:64512:8000003"),
	}
	vmi := &model.VirtualMachineInterface{Meta: model.Meta{UUID: model.NewUUID(), FQName: []string{"default-domain", "p", "port"}}}
	ref := func(from, to model.Object, attr string) model.Reference {
		return model.Reference{From: model.EntityOf(from), To: model.EntityOf(to), Attr: []byte(attr)}
	}
	g := configuration(blue, red, outside, others, lr, vmi)
	g.Apply(model.Batch{Position: model.Position{Epoch: 1, Revision: 2}, References: []model.Reference{
		ref(lr, vmi, ""), ref(vmi, blue, ""), ref(red, lr, ""), ref(lr, outside, `{"logical_router_virtual_network_type":"ExternalGateway"}`), ref(lr, others, ""),
	}})
	g.View(func(v *model.View) {
		for _, c := range []struct {
			network          *model.VirtualNetwork
			imports, exports []Target
		}{
			{blue, []Target{"target:1:1", "target:64512:8000001", "target:64512:8000002"}, []Target{"target:1:1", "target:64512:8000001"}},
			{red, []Target{"target:1:1", "target:64512:8000001", "target:64512:8000002"}, []Target{"target:1:1", "target:64512:8000002"}},
			{others, []Target{"target:64512:8000004"}, []Target{"target:64512:8000004"}},
			{outside, []Target{"target:64512:8000003"}, []Target{"target:64512:8000003"}},
		} {
			i := InstanceOf(v, c.network.UUID)
			if diff := cmp.Diff([][]Target{c.imports, c.exports}, [][]Target{i.Import, i.Export}); diff != "" {
				t.Errorf("%s: %s", i.Name, diff)
			}
		}
		if got := Explain(v, blue.UUID).Problems; len(got) != 1 {
			t.Errorf("problems %v, want that of the target which is outside's", got)
		}
		if got := Explain(v, others.UUID).Problems; len(got) != 1 || got[0].About.UUID != lr.UUID {
			t.Errorf("problems %v, want that of the router", got)
		}
	})
	// Its owner may have it connected.
	g.Apply(model.Batch{Position: model.Position{Epoch: 1, Revision: 3}, References: []model.Reference{ref(others, lr, "")}})
	g.View(func(v *model.View) {
		if got := InstanceOf(v, others.UUID).Import; len(got) != 4 {
			t.Errorf("imports %v, want those of the router, of blue and of red", got)
		}
	})
}

// TestRouterTable: a logical router with a VXLAN network identifier has a forwarding
// table of its networks while its project routes by VXLAN, and they know by which
// identifiers routers reach them.
func TestRouterTable(t *testing.T) {
	blue, red, bridged := network("blue", 1), network("red", 2), network("bridged", 3)
	bridged.VirtualNetworkProperties = &model.VirtualNetworkType{ForwardingMode: "l2"}
	project := &model.Project{Meta: model.Meta{UUID: blue.ParentUUID, FQName: []string{"default-domain", "p"}}, VXLANRouting: new(true)}
	lr := &model.LogicalRouter{
		Meta:                   model.Meta{UUID: model.NewUUID(), FQName: []string{"default-domain", "p", "lr"}, ParentUUID: blue.ParentUUID},
		VXLANNetworkIdentifier: "5000",
	}
	other := &model.LogicalRouter{
		Meta:                   model.Meta{UUID: model.NewUUID(), FQName: []string{"default-domain", "p", "other"}, ParentUUID: blue.ParentUUID},
		VXLANNetworkIdentifier: "1",
	}
	ref := func(from, to model.Object) model.Reference {
		return model.Reference{From: model.EntityOf(from), To: model.EntityOf(to)}
	}
	g := configuration(project, blue, red, bridged, lr, other)
	g.Apply(model.Batch{Position: model.Position{Epoch: 1, Revision: 2}, References: []model.Reference{
		ref(blue, lr), ref(red, lr), ref(bridged, lr), ref(blue, other),
	}})
	c := NewCompiler()
	g.View(func(v *model.View) {
		got := c.Apply(v, model.Changes{Everything: true}).RouterTables[lr.UUID].After
		want := &RouterTable{
			Router: originOf(lr), Number: 1<<29 | 5000, VNI: 5000,
			Import: []Target{"target:64512:8000001", "target:64512:8000002", "target:64512:8000003"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for _, n := range []struct {
			network *model.VirtualNetwork
			want    []uint32
		}{{blue, []uint32{1, 5000}}, {red, []uint32{5000}}, {bridged, nil}} {
			if diff := cmp.Diff(n.want, c.Instance(n.network.UUID).RouterVNIs); diff != "" {
				t.Errorf("%s: %s", n.network.Name(), diff)
			}
		}
		// One router speaks for blue, whose identifier is also that of the other. Who may
		// not see blue is not told that it has it.
		found := Explain(v, blue.UUID).Problems
		if len(found) != 2 || found[0].About.UUID == found[1].About.UUID {
			t.Errorf("problems of blue are %v, want those of both routers", found)
		}
		for _, p := range found {
			if p.About.UUID == other.UUID && (len(p.Names) != 1 || p.Names[0] != originOf(blue)) {
				t.Errorf("a problem that names blue says that it names %v", p.Names)
			}
		}
		if got := Explain(v, red.UUID).Problems; len(got) != 0 {
			t.Errorf("problems of red are %v", got)
		}
	})
	project.VXLANRouting = nil
	g.Apply(model.Batch{Position: model.Position{Epoch: 1, Revision: 3}, Objects: []model.Object{project}})
	g.View(func(v *model.View) {
		report := c.Apply(v, model.Changes{Objects: map[model.Entity]struct{}{model.EntityOf(project): {}}})
		if change, ok := report.RouterTables[lr.UUID]; !ok || change.After != nil || c.Instance(blue.UUID).RouterVNIs != nil {
			t.Errorf("without routing by VXLAN there are %+v and %+v", change, c.Instance(blue.UUID))
		}
	})
}
