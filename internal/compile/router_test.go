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
