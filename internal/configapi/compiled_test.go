package configapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

func policyBetween(project, name string, networks ...string) string {
	return fmt.Sprintf(`{"fq_name": ["default-domain", %q, %q], "parent_type": "project", "network_policy_entries": {"policy_rule": [{
		"rule_uuid": "11111111-2222-4333-8444-555555555555", "direction": "<>", "protocol": "any", "action_list": {"simple_action": "pass"},
		"src_addresses": [{"virtual_network": %q}], "dst_addresses": [{"virtual_network": %q}],
		"src_ports": [{"start_port": -1, "end_port": -1}], "dst_ports": [{"start_port": -1, "end_port": -1}]}]}}`, project, name, networks[0], networks[1])
}

func (b *bench) refer(kind, id, toKind, to, attr string) {
	b.Helper()
	b.json("POST", "/ref-update", fmt.Sprintf(`{"type": %q, "uuid": %q, "ref-type": %q, "ref-uuid": %q, "operation": "ADD", "attr": %s}`, kind, id, toKind, to, attr))
}

// uuids are those of an object's references in a field.
func (b *bench) uuids(kind, id, field string) []string {
	b.Helper()
	list, _ := b.get(kind, id)[field].([]any)
	var out []string
	for _, r := range list {
		out = append(out, r.(map[string]any)["uuid"].(string))
	}
	slices.Sort(out)
	return out
}

func (b *bench) compiled(query string) compile.Explanation {
	b.Helper()
	var found compile.Explanation
	status, text, _ := b.call("GET", "/compile?network="+query, "")
	if err := json.Unmarshal([]byte(text), &found); status != 200 || err != nil {
		b.Fatalf("%s: %d %s", query, status, text)
	}
	return found
}

const atSequence = `{"sequence": {"major": 0, "minor": 0}}`

// TestInstancesShowLinks: networks whose policies ask for each other refer to
// each other's instances, and those of a logical router to each other's
// targets, as long as that is so.
func TestInstancesShowLinks(t *testing.T) {
	b := newBench(t, testConfig())
	blue := b.network()
	red := b.create("virtual-network", `{"fq_name": ["default-domain", "p", "red"], "parent_type": "project"}`)
	policy := b.create("network-policy", policyBetween("p", "policy", "default-domain:p:red", "local"))
	blueRI, redRI := compile.InstanceUUID(blue), compile.InstanceUUID(red)
	b.refer("virtual-network", blue, "network-policy", policy, atSequence)
	if got := b.uuids("routing-instance", blueRI, "routing_instance_refs"); got != nil {
		t.Errorf("linked by one side: %v", got)
	}
	if e := b.compiled("default-domain:p:blue"); len(e.Links) != 0 || len(e.Unanswered) != 1 || e.Unanswered[0].Network.UUID != red {
		t.Errorf("explained as %+v", e)
	}
	other := b.create("network-policy", policyBetween("p", "other", "default-domain:p:blue", "local"))
	b.refer("virtual-network", red, "network-policy", other, atSequence)
	for _, c := range [][2]string{{blueRI, redRI}, {redRI, blueRI}} {
		for _, field := range []string{"routing_instance_refs", "routing_instance_back_refs"} {
			if got := b.uuids("routing-instance", c[0], field); !slices.Equal(got, c[1:]) {
				t.Errorf("%s has %s %v, want %s", c[0], field, got, c[1])
			}
		}
		list := b.json("GET", "/routing-instances?back_ref_id="+c[1], "")["routing-instances"].([]any)
		if len(list) != 1 || list[0].(map[string]any)["uuid"] != c[0] {
			t.Errorf("the instances that refer to %s are %v", c[1], list)
		}
	}
	e := b.compiled(blue)
	if len(e.Links) != 1 || e.Links[0].Rules[0].Policy.UUID != policy || e.Links[0].Theirs[0].Policy.UUID != other {
		t.Errorf("explained as %+v", e)
	}
	lr := b.create("logical-router", `{"fq_name": ["default-domain", "p", "lr"], "parent_type": "project", "configured_route_target_list": {"route_target": ["target:1:1"]}}`)
	b.refer("virtual-network", blue, "logical-router", lr, "null")
	b.refer("virtual-network", red, "logical-router", lr, "null")
	var targets []string
	for _, r := range b.get("routing-instance", blueRI)["route_target_refs"].([]any) {
		r := r.(map[string]any)
		attr, _ := json.Marshal(r["attr"])
		targets = append(targets, r["to"].([]any)[0].(string)+string(attr))
	}
	slices.Sort(targets)
	number := func(id string) int {
		return 8_000_000 + int(b.get("virtual-network", id)["virtual_network_network_id"].(float64))
	}
	want := []string{"target:1:1{}", fmt.Sprintf("target:64512:%d{}", number(blue)), fmt.Sprintf(`target:64512:%d{"import_export":"import"}`, number(red))}
	slices.Sort(want)
	if !slices.Equal(targets, want) {
		t.Errorf("targets %v, want %v", targets, want)
	}
	b.json("DELETE", "/virtual-network/"+red, "")
	if got := b.uuids("routing-instance", blueRI, "routing_instance_refs"); got != nil {
		t.Errorf("refers to what is gone: %v", got)
	}
	b.fits()
}

// TestCompiledIsForWhoReadsTheNetwork: others do not learn that it exists, and
// who reads it learns nothing of the objects of others.
func TestCompiledIsForWhoReadsTheNetwork(t *testing.T) {
	b := newBench(t, testConfig())
	hidden := b.twoTenants()
	mine, theirs := "default-domain:p1:p1-vn", "default-domain:"+secret+":"+secret+"-vn"
	policy := b.create("network-policy", policyBetween(secret, secret+"-both", mine, theirs))
	asks := b.create("network-policy", policyBetween("p1", "asks", "local", "default-domain:p1:nothing-there"))
	var ids []string
	for _, name := range []string{mine, theirs} {
		id := b.json("POST", "/fqname-to-id", fmt.Sprintf(`{"type": "virtual-network", "fq_name": ["%s"]}`, strings.ReplaceAll(name, ":", `", "`)))["uuid"].(string)
		b.refer("virtual-network", id, "network-policy", policy, atSequence)
		ids = append(ids, id)
	}
	b.refer("virtual-network", ids[0], "network-policy", asks, atSequence)
	if e := b.compiled(mine); len(e.Links) != 1 || e.Links[0].Network.Name != theirs || len(e.Problems) != 1 {
		t.Fatalf("explained as %+v", e)
	}
	hidden[policy] = model.KindNetworkPolicy
	for _, path := range []string{"/compile?network=" + mine, "/compile?network=" + ids[0], "/routing-instance/" + compile.InstanceUUID(ids[0])} {
		status, text := b.callAs(member1, "GET", path, "")
		if status != 200 || strings.Contains(text, secret) || strings.Contains(text, "nothing-there") {
			t.Errorf("%s: %d %s", path, status, text)
		}
		for id := range hidden {
			if strings.Contains(text, id) {
				t.Errorf("%s shows %s: %s", path, id, text)
			}
		}
	}
	for path, want := range map[string]int{
		"/compile?network=" + theirs: 404, "/compile?network=" + ids[1]: 404, "/compile?network=default-domain:p1:none": 404,
		"/compile": 400, "/compile?network=" + policy: 404,
	} {
		if status, text := b.callAs(member1, "GET", path, ""); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, text, want)
		}
	}
}
