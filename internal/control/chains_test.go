package control

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/rib"
	"github.com/contrail-mesos/contrail/internal/model"
)

// newChainBench is a bench whose agents hold traffic to policies.
func newChainBench() *bench {
	b := newBench()
	b.tables.facts.policies = true
	for n := range 4 {
		b.node(fmt.Sprintf("n%d", n+1), fmt.Sprintf("172.31.0.%d", 11+n), 1500)
	}
	return b
}

// routed makes a network with a prefix that follows from its number.
func (w *world) routed(name string, number int64) {
	w.network(name, number, nil, nil)
	ipam := &model.NetworkIPAM{Meta: model.Meta{UUID: id("ipam", name), FQName: []string{"default-domain", "p", name}}}
	attr := fmt.Sprintf(`{"ipam_subnets": [{"subnet": {"ip_prefix": "10.0.%d.0", "ip_prefix_len": 24}}]}`, number)
	w.apply(model.Batch{Objects: []model.Object{ipam}, References: []model.Reference{
		{From: model.Entity{Kind: model.KindVirtualNetwork, UUID: id("net", name)}, To: model.EntityOf(ipam), Attr: []byte(attr)},
	}})
}

// service makes a service-instance of a mode.
func (w *world) service(name, mode string) {
	si := &model.ServiceInstance{Meta: model.Meta{UUID: id("si", name), FQName: []string{"default-domain", "p", name}}}
	st := &model.ServiceTemplate{
		Meta:                      model.Meta{UUID: id("st", name), FQName: []string{"default-domain", name}},
		ServiceTemplateProperties: &model.ServiceTemplateType{ServiceMode: mode},
	}
	w.apply(model.Batch{Objects: []model.Object{si, st}, References: []model.Reference{{From: model.EntityOf(si), To: model.EntityOf(st)}}})
}

// instance gives a service an instance on a node, with an interface in each of
// two networks. Its addresses end with a number, its labels with 0 on the left
// and 1 on the right.
func (w *world) instance(service, name, node, from, to string, number int, preference int64) {
	tuple := &model.PortTuple{Meta: model.Meta{
		UUID: id("tuple", name), FQName: []string{"default-domain", "p", service, name},
		ParentType: string(model.KindServiceInstance), ParentUUID: id("si", service),
	}}
	w.apply(model.Batch{Objects: []model.Object{tuple}})
	for side, network := range []string{from, to} {
		container := name + []string{"-left", "-right"}[side]
		var vn *model.VirtualNetwork
		w.graph.View(func(v *model.View) { vn, _ = model.Get[*model.VirtualNetwork](v, id("net", network)) })
		batch := w.attachment(container, network, node, fmt.Sprintf("10.0.%d.%d", *vn.VirtualNetworkNetworkID, number), uint32(10*number+side))
		vmi := batch.Objects[1].(*model.VirtualMachineInterface)
		vmi.VirtualMachineInterfaceProperties = &model.VirtualMachineInterfacePropertiesType{
			ServiceInterfaceType: []string{"left", "right"}[side], LocalPreference: &preference,
		}
		batch.References = append(batch.References, model.Reference{From: model.EntityOf(vmi), To: model.EntityOf(tuple)})
		w.apply(batch)
	}
}

// lead has a policy lead traffic between networks through services.
func (w *world) lead(from, to string, services ...string) {
	names := make([]string, len(services))
	for i, s := range services {
		names[i] = "default-domain:p:" + s
	}
	p := &model.NetworkPolicy{
		Meta: model.Meta{UUID: id("policy", from, to), FQName: []string{"default-domain", "p", from + "-" + to}},
		NetworkPolicyEntries: &model.PolicyEntriesType{PolicyRule: []model.PolicyRuleType{{
			RuleUUID: id("rule", from, to), Direction: "<>", Protocol: "any",
			SrcAddresses: []model.AddressType{{VirtualNetwork: "default-domain:p:" + from}},
			DstAddresses: []model.AddressType{{VirtualNetwork: "default-domain:p:" + to}},
			ActionList:   &model.ActionListType{SimpleAction: "pass", ApplyService: names},
		}}},
	}
	batch := model.Batch{Objects: []model.Object{p}}
	for _, network := range []string{from, to} {
		batch.References = append(batch.References, model.Reference{From: model.Entity{Kind: model.KindVirtualNetwork, UUID: id("net", network)}, To: model.EntityOf(p)})
	}
	w.apply(batch)
}

// told is what a node has of a VRF: next hops with labels, by prefix.
func (b *bench) told(t *testing.T, node string, vrf uint32) map[string]string {
	t.Helper()
	b.step()
	a := b.agents[node]
	if a == nil {
		b.connect(node, batch)
		a = b.agents[node]
	}
	if err := a.drain(); err != nil {
		t.Fatalf("agent %s: %v", node, err)
	}
	told := map[string]string{}
	for prefix, route := range a.state.routes[vrf] {
		var paths []string
		for _, p := range route.Paths {
			paths = append(paths, fmt.Sprintf("%s %d of %d", p.NextHop, p.Label, p.OriginNetwork))
		}
		slices.Sort(paths)
		told[prefix] = strings.Join(paths, ", ")
	}
	return told
}

func (b *bench) wantTold(t *testing.T, node string, vrf uint32, want map[string]string) {
	t.Helper()
	if got := b.told(t, node, vrf); !maps.Equal(got, want) {
		t.Errorf("node %s has in vrf %d\n%v, want\n%v", node, vrf, got, want)
	}
}

// TestChainRoutes: nodes of two networks are told the way through a service
// between them, in each direction, shared by its instances, as long as there is
// somebody to reach and an instance that works.
func TestChainRoutes(t *testing.T) {
	b := newChainBench()
	defer b.subscription.Close()
	b.routed("blue", 1)
	b.routed("red", 2)
	b.service("fw", "in-network")
	b.attach("b", "blue", "n1", "10.0.1.3", 16)
	b.instance("fw", "one", "n2", "blue", "red", 10, 100)
	b.lead("blue", "red", "fw")
	// The service is somebody in red.
	blue := map[string]string{
		"10.0.1.3/32": "172.31.0.11 16 of 1", "10.0.1.10/32": "172.31.0.12 100 of 1",
		"10.0.2.0/24": "172.31.0.12 100 of 2",
	}
	b.wantTold(t, "n1", 1, blue)
	b.attach("r", "red", "n4", "10.0.2.3", 16)
	b.wantTold(t, "n1", 1, blue)
	for _, p := range b.agents["n1"].state.routes[1]["10.0.2.0/24"].Paths {
		if !p.Behind || p.Vni != 0 || len(p.Encapsulations) == 0 || slices.Contains(p.Encapsulations, controlv1.Encapsulation_ENCAPSULATION_VXLAN) {
			t.Errorf("the way through the service is %v, want it behind an interface that a label names", p)
		}
	}
	red := map[string]string{
		"10.0.2.3/32": "172.31.0.14 16 of 2", "10.0.2.10/32": "172.31.0.12 101 of 2",
		"10.0.1.0/24": "172.31.0.12 101 of 1",
	}
	b.wantTold(t, "n4", 2, red)
	// What leaves its interfaces is looked up in the networks' own tables.
	b.wantTold(t, "n2", 1, blue)
	for iface, want := range map[string]uint32{"one-left": 1, "one-right": 2} {
		if got := b.agents["n2"].state.ports[id("vmi", iface)].Passage; got != want {
			t.Errorf("what leaves %s is looked up in %d, want %d", iface, got, want)
		}
	}
	if got := b.agents["n1"].state.ports[id("vmi", "b")].Passage; got != 0 {
		t.Errorf("a container is taken for a service, in %d", got)
	}
	// Another instance shares the traffic.
	b.instance("fw", "two", "n3", "blue", "red", 11, 100)
	if got, want := b.told(t, "n1", 1)["10.0.2.0/24"], "172.31.0.12 100 of 2, 172.31.0.13 110 of 2"; got != want {
		t.Errorf("two instances: %s, want %s", got, want)
	}
	// One that its node says does not work is left out, and taken in again.
	b.told(t, "n3", 1)
	report := func(iface string, state controlv1.PortStatus_State) {
		t.Helper()
		if err := b.agents["n3"].report(&controlv1.PortStatus{InterfaceId: id("vmi", iface), State: state}); err != nil {
			t.Fatal(err)
		}
	}
	report("two-left", controlv1.PortStatus_STATE_DOWN)
	if got := b.told(t, "n1", 1)["10.0.2.0/24"]; got != blue["10.0.2.0/24"] {
		t.Errorf("with one that does not work: %s", got)
	}
	report("two-left", controlv1.PortStatus_STATE_UP)
	if got := b.told(t, "n1", 1)["10.0.2.0/24"]; !strings.Contains(got, ", ") {
		t.Errorf("with one that works again: %s", got)
	}
	// Without the policy there is nothing left.
	b.apply(model.Batch{DeleteReferences: []model.Edge{{
		From: model.Entity{Kind: model.KindVirtualNetwork, UUID: id("net", "red")}, To: model.Entity{Kind: model.KindNetworkPolicy, UUID: id("policy", "blue", "red")},
	}}})
	for node, vrf := range map[string]uint32{"n1": 1, "n4": 2} {
		if got := b.told(t, node, vrf); got["10.0.2.0/24"]+got["10.0.1.0/24"] != "" {
			t.Errorf("%s still has %v", node, got)
		}
	}
	b.told(t, "n2", 1)
	if got := b.agents["n2"].state.ports[id("vmi", "one-left")]; got.Passage != 0 {
		t.Errorf("what leaves the service is still looked up in %d", got.Passage)
	}
}

// TestLinkRoutes: networks that policies link get each other's routes once
// agents hold traffic to policies, and not before.
func TestLinkRoutes(t *testing.T) {
	for _, policies := range []bool{true, false} {
		b := newChainBench()
		b.tables.facts.policies = policies
		b.routed("blue", 1)
		b.routed("red", 2)
		b.attach("b", "blue", "n1", "10.0.1.3", 16)
		b.attach("r", "red", "n4", "10.0.2.3", 16)
		b.lead("blue", "red")
		for node, vrf := range map[string]uint32{"n1": 1, "n4": 2} {
			want := 1
			if policies {
				want = 2
			}
			if got := b.told(t, node, vrf); len(got) != want {
				t.Errorf("policies held to %t: %s has %v, want %d routes", policies, node, got, want)
			}
		}
		b.subscription.Close()
	}
}

// TestChainOfTwo: what leaves a service for the next one is looked up in a
// table of its own, which its node is told; and what is missing at the end is
// not sent into the first.
func TestChainOfTwo(t *testing.T) {
	b := newChainBench()
	defer b.subscription.Close()
	b.routed("blue", 1)
	b.routed("red", 2)
	b.service("fw", "in-network")
	b.service("dpi", "in-network")
	b.attach("b", "blue", "n1", "10.0.1.3", 16)
	b.attach("r", "red", "n4", "10.0.2.3", 16)
	b.instance("fw", "one", "n2", "blue", "red", 10, 100)
	b.instance("dpi", "two", "n3", "blue", "red", 11, 100)
	b.lead("blue", "red", "fw", "dpi")
	onRight, onLeft := compile.PassageNumber(id("si", "fw"), true), compile.PassageNumber(id("si", "dpi"), false)
	if got, want := b.told(t, "n1", 1)["10.0.2.0/24"], "172.31.0.12 100 of 2"; got != want {
		t.Errorf("blue sends to red by %s, want %s", got, want)
	}
	b.wantTold(t, "n2", onRight, map[string]string{"10.0.2.0/24": "172.31.0.13 110 of 2", "10.0.1.0/24": "172.31.0.12 101 of 1"})
	if got := b.told(t, "n3", 2); got["10.0.2.3/32"] != "172.31.0.14 16 of 2" {
		t.Errorf("the last service forwards as red: %v", got)
	}
	if got, want := b.told(t, "n4", 2)["10.0.1.0/24"], "172.31.0.13 111 of 1"; got != want {
		t.Errorf("red sends to blue by %s, want %s", got, want)
	}
	b.wantTold(t, "n3", onLeft, map[string]string{"10.0.1.0/24": "172.31.0.12 101 of 1", "10.0.2.0/24": "172.31.0.13 110 of 2"})
	for iface, want := range map[string]uint32{"two-left": onLeft, "two-right": 2} {
		if got := b.agents["n3"].state.ports[id("vmi", iface)].Passage; got != want {
			t.Errorf("what leaves %s is looked up in %d, want %d", iface, got, want)
		}
	}
	if shown := b.tables.showInstances(); len(shown) != 4 || shown[2].Name != "default-domain:p:dpi (left)" || shown[2].Subscribers != 1 {
		t.Errorf("shown are %+v", shown)
	}
	if table, err := b.tables.showRoutes(fmt.Sprint(onRight)); err != nil || table.Name != "default-domain:p:fw (right)" || len(table.Routes) != 2 {
		t.Errorf("shown is %+v, %v", table, err)
	}
	// The second goes: nothing is sent into the first.
	b.detach("two-left", "blue")
	if got, ok := b.told(t, "n1", 1)["10.0.2.0/24"]; ok {
		t.Errorf("blue sends into a chain that has no end, by %s", got)
	}
	b.apply(model.Batch{DeleteObjects: []model.Entity{{Kind: model.KindNetworkPolicy, UUID: id("policy", "blue", "red")}}})
	b.told(t, "n2", 1)
	if got := b.agents["n2"].state; len(got.routes) != 2 || len(b.tables.passages) != 0 {
		t.Errorf("the node still has %v, and there are %v", got.routes, b.tables.passages)
	}
	if stats := b.tables.rib.Stats(); stats.VRFs != 2 {
		t.Errorf("%d forwarding tables are left, want those of two networks", stats.VRFs)
	}
}

// TestChainModes: behind a service that translates nobody is told of who is
// before it; one that is transparent has interfaces in networks of its own.
func TestChainModes(t *testing.T) {
	b := newChainBench()
	defer b.subscription.Close()
	for number, name := range []string{"blue", "red", "green", "in", "out"} {
		b.routed(name, int64(number+1))
	}
	b.service("nat", "in-network-nat")
	b.service("wire", "transparent")
	b.attach("b", "blue", "n1", "10.0.1.3", 16)
	b.attach("r", "red", "n4", "10.0.2.3", 16)
	b.attach("g", "green", "n4", "10.0.3.3", 17)
	b.instance("nat", "one", "n2", "blue", "red", 10, 100)
	b.instance("wire", "two", "n3", "in", "out", 11, 100)
	b.lead("blue", "red", "nat")
	b.lead("blue", "green", "wire")
	blue, red, green := b.told(t, "n1", 1), b.told(t, "n4", 2), b.told(t, "n4", 3)
	if blue["10.0.2.0/24"] != "172.31.0.12 100 of 2" || blue["10.0.3.0/24"] != "172.31.0.13 110 of 3" {
		t.Errorf("blue has %v", blue)
	}
	if _, ok := red["10.0.1.0/24"]; ok || red["10.0.2.10/32"] != "172.31.0.12 101 of 2" {
		t.Errorf("red has %v, want the service and not who is behind it", red)
	}
	if green["10.0.1.0/24"] != "172.31.0.13 111 of 1" {
		t.Errorf("green has %v", green)
	}
	// What the transparent one gives out is looked up as if it were there.
	b.told(t, "n3", 4)
	for iface, want := range map[string]uint32{"two-left": 1, "two-right": 3} {
		if got := b.agents["n3"].state.ports[id("vmi", iface)]; got.Passage != want || len(b.agents["n3"].state.routes[want]) == 0 {
			t.Errorf("what leaves %s is looked up in %d, want %d", iface, got.Passage, want)
		}
	}
}

// TestStandby: the instance whose interfaces have the higher local preference
// takes all the traffic, until it does not work.
func TestStandby(t *testing.T) {
	b := newChainBench()
	defer b.subscription.Close()
	b.routed("blue", 1)
	b.routed("red", 2)
	b.service("fw", "in-network")
	b.attach("b", "blue", "n1", "10.0.1.3", 16)
	b.attach("r", "red", "n4", "10.0.2.3", 16)
	b.instance("fw", "active", "n2", "blue", "red", 10, 200)
	b.instance("fw", "standby", "n3", "blue", "red", 11, 100)
	b.lead("blue", "red", "fw")
	if got := b.told(t, "n1", 1)["10.0.2.0/24"]; got != "172.31.0.12 100 of 2" {
		t.Errorf("the active one is not alone: %s", got)
	}
	b.detach("active-left", "blue")
	if got := b.told(t, "n1", 1)["10.0.2.0/24"]; got != "172.31.0.13 110 of 2" {
		t.Errorf("the standby does not take over: %s", got)
	}
}

// TestChainLeadsNobodyElse: who shares routes with a network does not get the
// ways through its services, nor do its services lead to whom it shares with;
// and where agents do not hold traffic to policies there is no way at all.
func TestChainLeadsNobodyElse(t *testing.T) {
	for _, policies := range []bool{true, false} {
		b := newChainBench()
		b.tables.facts.policies = policies
		b.routed("blue", 1)
		b.routed("red", 2)
		b.network("blue", 1, nil, []string{"target:1:1"})
		b.network("friend of blue", 3, []string{"target:1:1"}, nil)
		b.network("red", 2, []string{"target:1:2"}, nil)
		b.network("friend of red", 4, nil, []string{"target:1:2"})
		b.service("fw", "in-network")
		b.attach("b", "blue", "n1", "10.0.1.3", 16)
		b.attach("r", "red", "n4", "10.0.2.3", 16)
		b.attach("fb", "friend of blue", "n1", "10.0.3.3", 17)
		b.attach("fr", "friend of red", "n4", "10.0.4.3", 17)
		b.instance("fw", "one", "n2", "blue", "red", 10, 100)
		b.lead("blue", "red", "fw")
		blue, friend := b.told(t, "n1", 1), b.told(t, "n1", 3)
		if b.told(t, "n4", 2)["10.0.4.3/32"] == "" {
			t.Error("red has nothing of who shares with it")
		}
		if _, ok := blue["10.0.2.0/24"]; ok != policies {
			t.Errorf("policies held to %t: blue has %v", policies, blue)
		}
		if _, ok := blue["10.0.4.3/32"]; ok {
			t.Errorf("blue is led to who shares with red: %v", blue)
		}
		if out := b.tables.border.routesOf(place{1, rib.UnicastKey(netip.MustParsePrefix("10.0.2.0/24"))}); len(out) != 0 {
			t.Errorf("routers are told the way through the service of blue: %v", out)
		}
		if out := b.tables.border.routesOf(place{1, rib.HostKey(netip.MustParseAddr("10.0.1.3"))}); len(out) != 1 {
			t.Errorf("routers are told %v of blue's container", out)
		}
		if _, ok := friend["10.0.2.0/24"]; ok || friend["10.0.1.3/32"] == "" {
			t.Errorf("who shares with blue has %v, want blue's own and no way through its service", friend)
		}
		b.subscription.Close()
	}
}
