package compile

import (
	"fmt"
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

// Whoever may use a network of another project, because it is shared, cannot
// lead the traffic of others there to himself.
func TestRoutesOfOthersHaveNoEffect(t *testing.T) {
	w := &town{}
	net := w.network("shared", 5)
	vmi := &model.VirtualMachineInterface{Meta: meta(model.KindVirtualMachineInterface, "port")}
	w.put(vmi)
	w.refer(vmi, net, "")
	tables, aggregates := map[string]*model.InterfaceRouteTable{}, map[string]*model.RouteAggregate{}
	for _, project := range []string{net.ParentUUID, model.DerivedUUID("other")} {
		table := &model.InterfaceRouteTable{
			Meta:                      meta(model.KindInterfaceRouteTable, "table-"+project),
			InterfaceRouteTableRoutes: &model.RouteTableType{Route: []model.RouteType{{Prefix: "0.0.0.0/1"}}},
		}
		aggregate := &model.RouteAggregate{
			Meta:                  meta(model.KindRouteAggregate, "aggregate-"+project),
			AggregateRouteNexthop: "10.0.0.9", AggregateRouteEntries: &model.RouteListType{Route: []string{"128.0.0.0/1"}},
		}
		table.ParentUUID, aggregate.ParentUUID = project, project
		tables[project], aggregates[project] = table, aggregate
		w.put(table)
		w.put(aggregate)
		w.refer(vmi, table, "")
		w.batch.References = append(w.batch.References, model.Reference{
			From: model.EntityOf(aggregate), To: model.Entity{Kind: model.KindRoutingInstance, UUID: InstanceUUID(net.UUID)},
		})
	}
	w.view(func(v *model.View) {
		g := graphOf(v)
		for project, table := range tables {
			own := project == net.ParentUUID
			if r := interfaceRoutes.get(g, table.UUID); (len(r.Interfaces) == 1) != own || (len(r.Problems) == 1) == own {
				t.Errorf("a table of the network's own project (%v) acts on %v, with problems %v", own, r.Interfaces, r.Problems)
			}
		}
		e := Explain(v, net.UUID)
		said := slices.ContainsFunc(e.Problems, func(p Problem) bool {
			return p.About.UUID == aggregates[model.DerivedUUID("other")].UUID && strings.Contains(p.Text, "of another project")
		})
		count := 0
		for _, a := range e.Aggregates {
			count += len(a.Aggregates)
		}
		if count != 1 || !said {
			t.Errorf("aggregates are %v, problems %v", e.Aggregates, e.Problems)
		}
	})
}

// TestAggregatesThatAreTooMany: each route of a network is looked at for each of its
// aggregates.
func TestAggregatesThatAreTooMany(t *testing.T) {
	blue := network("blue", 1)
	g := configuration(blue)
	b := model.Batch{Position: model.Position{Epoch: 1, Revision: 2}}
	for n := range 3 {
		a := &model.RouteAggregate{
			Meta:                  model.Meta{UUID: model.DerivedUUID("aggregate", fmt.Sprint(n)), FQName: []string{"d", "p", fmt.Sprint(n)}, ParentUUID: blue.ParentUUID},
			AggregateRouteNexthop: "10.0.0.3", AggregateRouteEntries: &model.RouteListType{},
		}
		for i := range 400 {
			a.AggregateRouteEntries.Route = append(a.AggregateRouteEntries.Route, fmt.Sprintf("10.%d.%d.0/24", 100*n+i>>8, i&255))
		}
		b.Objects = append(b.Objects, a)
		b.References = append(b.References, model.Reference{
			From: model.EntityOf(a), To: model.Entity{Kind: model.KindRoutingInstance, UUID: InstanceUUID(blue.UUID)},
		})
	}
	g.Apply(b)
	g.View(func(v *model.View) {
		problems := 0
		for _, a := range aggregatesOf(graphOf(v), blue.UUID, ownInstances(graphOf(v), blue.UUID)...) {
			problems += len(a.Problems)
		}
		if n := len(InstanceOf(v, blue.UUID).Aggregates); n != maxAggregates || problems != 1 {
			t.Errorf("%d aggregates count of 1200, with %d problems; want %d and one", n, problems, maxAggregates)
		}
	})
}
