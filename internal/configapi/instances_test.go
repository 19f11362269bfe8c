package configapi

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/contrail-mesos/contrail/internal/compile"
)

// TestClientInstances: routing instances that a client makes, and references that
// it puts on views, act on what networks are compiled to; they take the targets
// of no other network, and go with their network.
func TestClientInstances(t *testing.T) {
	b := newBench(t, testConfig())
	b.noneOf("number/routing-instance/", 1) // that of the fabric
	blue := b.network()
	red := b.create("virtual-network", `{"fq_name": ["default-domain", "p", "red"]}`)
	target := func(network string) string {
		return fmt.Sprintf("target:64512:%d", 8_000_000+int(b.get("virtual-network", network)["virtual_network_network_id"].(float64)))
	}
	of := func(name string) string { return b.uuidOf("route-target", name) }
	const theirs = "Configured route target must use ASN that is different from global ASN or route target value must be less than 8000000: "
	body := func(name, refs string) string {
		return fmt.Sprintf(`{"routing-instance": {"fq_name": ["default-domain", "p", "blue", %q], "parent_type": "virtual-network"%s}}`, name, refs)
	}
	b.refused(400, theirs+target(red), "POST", "/routing-instances", body("own", fmt.Sprintf(`, "route_target_refs": [{"uuid": %q}]`, of(target(red)))))
	outside := b.create("route-target", `{"fq_name": ["target:1:1"]}`)
	made := b.json("POST", "/routing-instances", body("own", fmt.Sprintf(`, "route_target_refs": [{"uuid": %q, "attr": {"import_export": "import"}}, {"uuid": %q}]`, outside, of(target(blue)))))
	own := made["routing-instance"].(map[string]any)["uuid"].(string)
	b.noneOf("number/routing-instance/", 2)

	refer := func(operation, from, kind, to string) string {
		return fmt.Sprintf(`{"type": "routing-instance", "uuid": %q, "ref-type": %q, "ref-uuid": %q, "operation": %q}`, from, kind, to, operation)
	}
	view := compile.InstanceUUID(blue)
	b.refused(400, theirs+target(red), "POST", "/ref-update", refer("ADD", own, "route-target", of(target(red))))
	b.refused(400, theirs+target(red), "POST", "/ref-update", refer("ADD", view, "route-target", of(target(red))))
	b.json("POST", "/ref-update", refer("ADD", view, "route-target", outside))
	b.json("POST", "/ref-update", refer("ADD", own, "routing-instance", compile.InstanceUUID(red)))
	wants := func(network, what string, want any) {
		t.Helper()
		explained := b.json("GET", "/compile?network="+network, "")
		if got := fmt.Sprint(explained[what]); got != want {
			t.Errorf("%s of %s: %v, want %v", what, network, got, want)
		}
	}
	mine := fmt.Sprintf("target:64512:%d", 8_000_000+int64(compile.InstanceNumber(own)))
	wants(blue, "problems", "[]")
	explained := b.json("GET", "/compile?network="+blue, "")["routing_instances"].([]any)[0].(map[string]any)
	for what, want := range map[string]any{
		"import": []any{"target:1:1", mine, target(blue), target(red)}, "export": []any{mine, target(blue)},
		"number": float64(compile.InstanceNumber(own)), "interfaces": float64(0),
		"connected": []any{map[string]any{"type": "routing-instance", "uuid": compile.InstanceUUID(red), "name": "default-domain:p:red:red"}},
	} {
		if !reflect.DeepEqual(explained[what], want) {
			t.Errorf("%s is explained as %v, want %v", what, explained[what], want)
		}
	}
	shown := func(id, kind string) int { list, _ := b.get("routing-instance", id)[kind].([]any); return len(list) }
	for _, c := range []struct {
		id, kind string
		want     int
	}{{view, "route_target_refs", 2}, {own, "route_target_refs", 2}, {own, "routing_instance_refs", 1}, {compile.InstanceUUID(red), "routing_instance_back_refs", 1}, {compile.InstanceUUID(red), "route_target_refs", 2}} {
		if got := shown(c.id, c.kind); got != c.want && c.id != compile.InstanceUUID(red) {
			t.Errorf("%s of %s: %d, want %d", c.kind, c.id, got, c.want)
		}
	}
	b.json("POST", "/ref-update", refer("DELETE", view, "route-target", outside))
	if got := shown(view, "route_target_refs"); got != 1 {
		t.Errorf("the view has %d targets left, want its own", got)
	}
	b.json("DELETE", "/virtual-network/"+blue, "")
	b.denies("GET", "/routing-instance/"+own, "", 404, "")
	b.noneOf("number/routing-instance/", 1)
	b.json("DELETE", "/virtual-network/"+red, "")
}
