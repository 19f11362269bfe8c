package configapi

import (
	"fmt"
	"testing"

	"github.com/contrail-mesos/contrail/internal/compile"
)

// TestRouteTargetsByOtherWays: who may not write the route targets of networks
// gives no routes any by a routing-policy, nor a routing-instance those of others:
// it would lead to, and to himself, what networks of strangers have.
func TestRouteTargetsByOtherWays(t *testing.T) {
	b := newBench(t, testConfig())
	ids := b.tenants()
	is := func(want, status int, text string) {
		t.Helper()
		if status != want {
			t.Errorf("%d %s, want %d", status, text, want)
		}
	}
	entries := func(update string) string {
		return fmt.Sprintf(`"routing_policy_entries": {"term": [{"term_match_condition": {"protocol": ["interface"]},
			"term_action_list": {"action": "accept", "update": {%s}}}]}`, update)
	}
	adds := func(targets string) string {
		return entries(`"extcommunity": {"add": {"community": [` + targets + `]}}`)
	}
	sets := func(targets string) string {
		return entries(`"extcommunity": {"set": {"community": [` + targets + `]}}`)
	}
	named := func(name, more string) string {
		return fmt.Sprintf(`{"routing-policy": {"fq_name": ["default-domain", "p1", %q], "parent_type": "project", %s}}`, name, more)
	}
	for i, update := range []string{adds(`"target:64512:100"`), sets(`"target:64512:100"`), adds(`"0x0002fc0000000064"`)} {
		status, text := b.callAs(admin1, "POST", "/routing-policys", named(fmt.Sprintf("bad%d", i), update))
		is(403, status, text)
	}
	status, text := b.callAs(admin1, "POST", "/routing-policys", named("good", entries(`"local_pref": 200`)))
	is(200, status, text)
	good := b.uuidOf("routing-policy", "default-domain", "p1", "good")
	put := func(update string) (int, string) {
		return b.callAs(admin1, "PUT", "/routing-policy/"+good, `{"routing-policy": {`+update+`}}`)
	}
	status, text = put(adds(`"target:64512:100"`))
	is(403, status, text)
	// What the administrator wrote may stay, go and come back not.
	b.json("PUT", "/routing-policy/"+good, `{"routing-policy": {`+adds(`"target:64512:100"`)+`}}`)
	status, text = put(sets(`"target:64512:100"`))
	is(200, status, text)
	status, text = put(adds(`"target:64512:100", "target:64512:101"`))
	is(403, status, text)
	status, text = put(entries(`"med": 1`))
	is(200, status, text)
	status, text = put(adds(`"target:64512:100"`))
	is(403, status, text)

	// A network that is shared for use has routes that are not.
	mine, theirs := ids["p1/virtual-network"], ids["p2/virtual-network"]
	b.json("PUT", "/virtual-network/"+theirs, `{"virtual-network": {"route_target_list": {"route_target": ["target:64512:100"]}}}`)
	b.json("POST", "/chmod", fmt.Sprintf(`{"uuid": %q, "global_access": 5}`, theirs))
	target := b.uuidOf("route-target", "target:64512:100")
	refer := func(who string) string {
		return fmt.Sprintf(`{"type": "routing-instance", "uuid": %q, "ref-type": "route-target", "ref-uuid": %q, "operation": %q}`, compile.InstanceUUID(mine), target, who)
	}
	status, text = b.callAs(admin1, "POST", "/ref-update", refer("ADD"))
	is(403, status, text)
	status, text = b.callAs(admin1, "POST", "/routing-instances", fmt.Sprintf(`{"routing-instance": {"fq_name": ["default-domain", "p1", "p1-virtual-network", "own"],
		"parent_type": "virtual-network", "route_target_refs": [{"uuid": %q}]}}`, target))
	is(403, status, text)
	b.json("POST", "/ref-update", refer("ADD"))
	status, text = b.callAs(admin1, "POST", "/ref-update", refer("DELETE"))
	is(200, status, text)

	// Nor do static routes of an instance.
	static := func(targets string) string {
		return `"static_route_entries": {"route": [{"prefix": "192.0.2.0/24", "next_hop": "10.0.0.3", "route_target": [` + targets + `]}]}`
	}
	instance := func(name, targets string) string {
		return fmt.Sprintf(`{"routing-instance": {"fq_name": ["default-domain", "p1", "p1-virtual-network", %q], "parent_type": "virtual-network", %s}}`, name, static(targets))
	}
	status, text = b.callAs(admin1, "POST", "/routing-instances", instance("bad", `"target:64512:100"`))
	is(403, status, text)
	status, text = b.callAs(admin1, "POST", "/routing-instances", instance("good", ""))
	is(200, status, text)
	made := "/routing-instance/" + b.uuidOf("routing-instance", "default-domain", "p1", "p1-virtual-network", "good")
	change := func(targets string) string { return `{"routing-instance": {` + static(targets) + `}}` }
	status, text = b.callAs(admin1, "PUT", made, change(`"target:64512:100"`))
	is(403, status, text)
	b.json("PUT", made, change(`"target:64512:100"`))
	status, text = b.callAs(admin1, "PUT", made, change(""))
	is(200, status, text)
	b.denies("PUT", made, change(`"target:64512:8000009"`), 400, "must be less than 8000000: target:64512:8000009")
}
