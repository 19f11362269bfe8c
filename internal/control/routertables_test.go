package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// TestRouterTable: nodes with a port in a network of a logical router that has a VXLAN
// network identifier have the router's table, with the routes of all its networks.
func TestRouterTable(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.node("n1", "172.31.0.11", 1500)
	b.node("n2", "172.31.0.12", 1500)
	b.network("blue", 1, nil, nil)
	b.network("red", 2, nil, nil)
	b.network("green", 3, nil, nil)
	b.attach("c1", "blue", "n1", "10.0.0.3", 16)
	b.attach("c2", "red", "n2", "10.1.0.3", 17)
	b.attach("c3", "green", "n2", "10.2.0.3", 18)
	yes := true
	project := &model.Project{Meta: model.Meta{UUID: id("project"), FQName: []string{"default-domain", "p"}}, VXLANRouting: &yes}
	router := &model.LogicalRouter{Meta: model.Meta{
		UUID: id("lr"), FQName: []string{"default-domain", "p", "lr"}, ParentType: string(model.KindProject), ParentUUID: project.UUID,
	}}
	set := func(vni string, networks ...string) {
		now := *router
		now.VXLANNetworkIdentifier = vni
		batch := model.Batch{Objects: []model.Object{project, &now}}
		for _, n := range []string{"blue", "red"} {
			r := model.Reference{From: model.Entity{Kind: model.KindVirtualNetwork, UUID: id("net", n)}, To: model.EntityOf(router)}
			batch.DeleteReferences = append(batch.DeleteReferences, r.Edge())
			for _, wanted := range networks {
				if n == wanted {
					batch.DeleteReferences = batch.DeleteReferences[:len(batch.DeleteReferences)-1]
					batch.References = append(batch.References, r)
				}
			}
		}
		b.apply(batch)
	}
	routersOf := func(node, container string) string {
		b.told(t, node, 1)
		var list []string
		for _, r := range b.agents[node].state.ports[id("vmi", container)].Routers {
			list = append(list, fmt.Sprintf("%d in %d", r.Vni, r.Vrf))
		}
		return strings.Join(list, ", ")
	}
	none, one := "", func(vni uint32) string { return fmt.Sprintf("%d in %d", vni, compile.RouterNumber(vni)) }
	want := func(when, container, node, routers string, vni uint32, routes map[string]string) {
		t.Helper()
		if got := routersOf(node, container); got != routers {
			t.Errorf("%s: %s has the routers %s, want %s", when, container, got, routers)
		}
		b.wantTold(t, node, compile.RouterNumber(vni), routes)
	}
	blue, red := "172.31.0.11 16 of 1", "172.31.0.12 17 of 2"
	both := map[string]string{"10.0.0.3/32": blue, "10.1.0.3/32": red}
	set("7000", "blue", "red")
	want("both", "c1", "n1", one(7000), 7000, both)
	want("both", "c2", "n2", one(7000), 7000, both)
	want("both", "c3", "n2", none, 7000, both)
	if shown := b.tables.showInstances(); len(shown) != 4 || shown[3].Name != "default-domain:p:lr" || shown[3].VNI != 7000 || shown[3].Routes != 2 || shown[3].Subscribers != 2 {
		t.Errorf("shown are %+v", shown)
	}
	set("7000", "blue")
	want("blue alone", "c1", "n1", one(7000), 7000, map[string]string{"10.0.0.3/32": blue})
	want("blue alone", "c2", "n2", none, 7000, map[string]string{})
	set("7001", "blue", "red")
	want("another identifier", "c1", "n1", one(7001), 7001, both)
	want("the identifier of before", "c2", "n2", one(7001), 7000, map[string]string{})
	set("", "blue", "red")
	want("without", "c1", "n1", none, 7001, map[string]string{})
	if stats := b.tables.rib.Stats(); stats.VRFs != 3 {
		t.Errorf("%d forwarding tables are left, want those of the networks", stats.VRFs)
	}
}
