package control

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/model"
)

// checkedBy has a check ask a container's interface, or a service's.
func (w *world) checkedBy(check string, from model.Entity) {
	w.healthCheck(check, true)
	w.apply(model.Batch{References: []model.Reference{{From: from, To: model.Entity{Kind: model.KindServiceHealthCheck, UUID: id("check", check)}}}})
}

// check makes a health check, or replaces it.
func (w *world) healthCheck(name string, enabled bool) {
	w.apply(model.Batch{Objects: []model.Object{&model.ServiceHealthCheck{
		Meta:                         model.Meta{UUID: id("check", name), FQName: []string{"default-domain", "p", name}},
		ServiceHealthCheckProperties: &model.ServiceHealthCheckType{MonitorType: "PING", Enabled: &enabled},
	}}})
}

func (w *world) unchecked(check, container string) {
	w.apply(model.Batch{DeleteReferences: []model.Edge{{From: vmiEntity(container), To: model.Entity{Kind: model.KindServiceHealthCheck, UUID: id("check", check)}}}})
}

func vmiEntity(container string) model.Entity {
	return model.Entity{Kind: model.KindVirtualMachineInterface, UUID: id("vmi", container)}
}

// failing is an agent's word that a port is up and that checks fail.
func failing(container string, sequence uint64, checks ...string) *controlv1.PortStatus {
	s := &controlv1.PortStatus{InterfaceId: id("vmi", container), State: controlv1.PortStatus_STATE_UP, Sequence: sequence}
	for _, c := range checks {
		s.Failing = append(s.Failing, &controlv1.FailedCheck{CheckId: id("check", c), Reason: "HTTP status 503"})
	}
	return s
}

// TestFailedCheckTakesRoutes: what a node says of its checks takes the routes to
// the port away, all of them, and brings them back; only a check that the port
// has counts.
func TestFailedCheckTakesRoutes(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.node("n1", "172.31.0.11", 1500)
	b.node("n2", "172.31.0.12", 1500)
	b.network("blue", 1, nil, nil)
	b.network("red", 2, nil, nil)
	b.attach("web", "blue", "n1", "10.0.1.3", 16)
	b.attach("other", "blue", "n2", "10.0.1.4", 17)
	b.share("web", "other")
	b.behind("r1", "192.0.2.0/24", "web")
	b.foreign("f1", "red", "web")
	b.attach("r", "red", "n2", "10.0.2.3", 18)
	b.checkedBy("alive", vmiEntity("web"))
	b.step()
	b.connect("n1", batch)
	all := map[string]string{
		"10.0.1.3/32": "172.31.0.11 16 of 1, 172.31.0.12 17 of 1", "10.0.1.4/32": "172.31.0.12 17 of 1", "192.0.2.0/24": "172.31.0.11 16 of 1",
	}
	without := map[string]string{"10.0.1.3/32": "172.31.0.12 17 of 1", "10.0.1.4/32": "172.31.0.12 17 of 1"}
	b.wantTold(t, "n2", 1, all)
	sequence := uint64(0)
	say := func(node, container string, checks ...string) {
		t.Helper()
		sequence++
		if err := b.agents[node].report(failing(container, sequence, checks...)); err != nil {
			t.Fatal(err)
		}
	}
	floating := func(want bool) {
		t.Helper()
		if _, ok := b.told(t, "n2", 2)["198.51.100.1/32"]; ok != want {
			t.Errorf("the floating address is told: %t, want %t", ok, want)
		}
	}
	b.told(t, "n1", 1)
	if got := b.agents["n1"].state.ports[id("vmi", "web")].GetHealthChecks(); len(got) != 1 || got[0].Id != id("check", "alive") || got[0].Address != "10.0.1.3" {
		t.Errorf("the node is told to check %v", got)
	}
	say("n1", "web", "alive")
	b.wantTold(t, "n2", 1, without)
	floating(false)
	explained, err := b.tables.explain("192.0.2.0/24", "1")
	if err != nil || len(explained) != 1 || explained[0].Route.Paths[0].Why != "a health check of the port has failed" {
		t.Errorf("explained is %+v, %v", explained, err)
	}
	if shown := b.tables.showHealth(); len(shown) != 1 || !shown[0].Failing || shown[0].Reason != "HTTP status 503" || shown[0].Node != "n1" {
		t.Errorf("shown is %+v", shown)
	}
	if a := b.tables.showAgents(); len(a[0].Unhealthy)+len(a[1].Unhealthy) != 1 {
		t.Errorf("agents are shown as %+v", a)
	}
	say("n1", "web")
	b.wantTold(t, "n2", 1, all)
	floating(true)

	// A check that the port has not, or no longer, says nothing.
	say("n1", "web", "none")
	b.wantTold(t, "n2", 1, all)
	say("n1", "web", "alive")
	b.wantTold(t, "n2", 1, without)
	b.healthCheck("alive", false)
	b.wantTold(t, "n2", 1, all)
	b.healthCheck("alive", true)
	b.wantTold(t, "n2", 1, without)
	// The agent comes back and has said nothing yet: as before.
	b.disconnect("n1")
	b.connect("n1", batch)
	b.wantTold(t, "n2", 1, without)
	b.unchecked("alive", "web")
	b.wantTold(t, "n2", 1, all)

	// Another control node has heard something newer, then we have.
	b.checkedBy("alive", vmiEntity("web"))
	b.wantTold(t, "n2", 1, without)
	r := &controlv1.Report{Node: id("node", "n1"), Live: true, BootId: "boot-1", Ports: []*controlv1.PortStatus{failing("web", sequence+1)}}
	b.tables.hear("c2", r)
	b.wantTold(t, "n2", 1, all)
	sequence++
	say("n1", "web", "alive")
	b.wantTold(t, "n2", 1, without)
	var m controlv1.ExchangeMessage
	if err := proto.Unmarshal(b.tables.node(id("node", "n1")).shared.Message(false), &m); err != nil {
		t.Fatal(err)
	}
	passed := newTables(discard(), newMetrics())
	passed.hear("c1", m.GetReport())
	if w, known := passed.node(id("node", "n1")).newest(id("vmi", "web")); !known || len(w.failing) != 1 {
		t.Errorf("another control node hears %v", w)
	}
}

// TestBoundsOfFailures: whatever an agent says of checks can be told to other control
// nodes, and what cannot be a check is not kept.
func TestBoundsOfFailures(t *testing.T) {
	long := strings.Repeat("x", maxReason-1) + "\u00fc"
	said := &controlv1.PortStatus{
		InterfaceId: id("vmi", "web"), State: controlv1.PortStatus_STATE_UP,
		Failing: []*controlv1.FailedCheck{
			{CheckId: id("check", "alive"), Reason: long},
			{CheckId: strings.Repeat("y", 60_000)},
		},
	}
	r := &report{live: true, boot: "boot-1", words: map[string]word{said.InterfaceId: wordOf(said)}}
	n := &node{id: id("node", "n1"), reports: map[string]*report{here: r}}
	n.shared.node = n
	var m controlv1.ExchangeMessage
	if err := proto.Unmarshal(n.shared.Message(false), &m); err != nil {
		t.Fatal(err)
	}
	got := m.GetReport().GetPorts()[0].GetFailing()
	if len(got) != 1 || got[0].GetReason() != long[:maxReason-1] {
		t.Errorf("other control nodes are told of %v", got)
	}
}

// TestUnhealthyInstance: traffic is led through the instance of a service whose
// checks do not fail.
func TestUnhealthyInstance(t *testing.T) {
	b := newChainBench()
	defer b.subscription.Close()
	b.routed("blue", 1)
	b.routed("red", 2)
	b.service("fw", "in-network")
	b.attach("b", "blue", "n1", "10.0.1.3", 16)
	b.instance("fw", "one", "n2", "blue", "red", 10, 100)
	b.instance("fw", "two", "n3", "blue", "red", 11, 100)
	b.lead("blue", "red", "fw")
	b.healthCheck("alive", true)
	b.apply(model.Batch{References: []model.Reference{{
		From: model.Entity{Kind: model.KindServiceHealthCheck, UUID: id("check", "alive")},
		To:   model.Entity{Kind: model.KindServiceInstance, UUID: id("si", "fw")}, Attr: []byte(`{"interface_type": "left"}`),
	}}})
	const one, two = "172.31.0.12 100 of 2", "172.31.0.13 110 of 2"
	want := func(way string) {
		t.Helper()
		if got := b.told(t, "n1", 1)["10.0.2.0/24"]; got != way {
			t.Errorf("blue sends to red by %q, want %q", got, way)
		}
	}
	want(one + ", " + two)
	b.told(t, "n2", 1)
	if left, right := b.agents["n2"].state.ports[id("vmi", "one-left")], b.agents["n2"].state.ports[id("vmi", "one-right")]; len(left.HealthChecks) != 1 || len(right.HealthChecks) != 0 {
		t.Errorf("checks are %v on the left and %v on the right", left.HealthChecks, right.HealthChecks)
	}
	if err := b.agents["n2"].report(failing("one-left", 1, "alive")); err != nil {
		t.Fatal(err)
	}
	want(two)
	b.told(t, "n3", 1)
	if err := b.agents["n3"].report(failing("two-left", 1, "alive")); err != nil {
		t.Fatal(err)
	}
	want("")
	if err := b.agents["n2"].report(failing("one-left", 2)); err != nil {
		t.Fatal(err)
	}
	want(one)
}
