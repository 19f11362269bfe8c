package compile

import (
	"slices"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

// TestAggregateWithoutNextHop: it leads nowhere, and is said to.
func TestAggregateWithoutNextHop(t *testing.T) {
	number := int64(5)
	net := &model.VirtualNetwork{Meta: model.Meta{UUID: "0f0e0d0c-0000-4000-8000-000000000001", FQName: []string{"d", "p", "n"}}, VirtualNetworkNetworkID: &number}
	o := &model.RouteAggregate{
		Meta:                  model.Meta{UUID: "0f0e0d0c-0000-4000-8000-000000000002", FQName: []string{"d", "p", "ra"}},
		AggregateRouteEntries: &model.RouteListType{Route: []string{"192.0.2.0/24"}},
	}
	g := model.NewGraph()
	g.Reset(model.Batch{Position: model.Position{Epoch: 1, Revision: 1}, Objects: []model.Object{net, o}, References: []model.Reference{
		{From: model.EntityOf(o), To: model.Entity{Kind: model.KindRoutingInstance, UUID: InstanceUUID(net.UUID)}},
	}})
	g.View(func(v *model.View) {
		problems := Explain(v, net.UUID).Problems
		if !slices.ContainsFunc(problems, func(p Problem) bool {
			return p.About.UUID == o.UUID && strings.Contains(p.Text, "aggregate_route_nexthop is missing")
		}) {
			t.Errorf("problems are %v", problems)
		}
	})
}
