package configapi

import (
	"context"
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

const anyPorts = `"src_ports": [{"start_port": -1, "end_port": -1}], "dst_ports": [{"start_port": -1, "end_port": -1}]`

func policyOf(src, dst string) string {
	return fmt.Sprintf(`"network_policy_entries": {"policy_rule": [{"rule_uuid": "00000000-0000-4000-8000-000000000030", "direction": "<>", "protocol": "tcp",
		"ethertype": "IPv4", "action_list": {"simple_action": "pass"}, "src_addresses": [%s], "dst_addresses": [%s], %s}]}`, src, dst, anyPorts)
}

// rulesOf counts the entries of an access list.
func rulesOf(o map[string]any) int {
	entries, _ := o["access_control_list_entries"].(map[string]any)
	list, _ := entries["acl_rule"].([]any)
	return len(list)
}

// The access lists of networks and groups are there to read and to find, where
// classic clients look for them, and follow their rules.
func TestAccessLists(t *testing.T) {
	b := newBench(t, testConfig())
	vn := b.network()
	if b.get("virtual-network", vn)["access_control_lists"] != nil {
		t.Error("a network without policies has an access list")
	}
	policy := b.create("network-policy", `{"fq_name": ["default-domain", "p", "np"], `+policyOf(`{"virtual_network": "local"}`, `{"virtual_network": "default-domain:p:red"}`)+`}`)
	b.json("POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "network-policy", "ref-uuid": %q, "operation": "ADD", "attr": {"sequence": {"major": 0, "minor": 0}}}`, vn, policy))
	group := b.create("security-group", `{"fq_name": ["default-domain", "p", "g"], "security_group_entries": {"policy_rule": [{"direction": ">", "protocol": "any", "ethertype": "IPv4",
		"src_addresses": [{"security_group": "local"}], "dst_addresses": [{"security_group": "any"}], `+anyPorts+`}]}}`)

	link := b.get("virtual-network", vn)["access_control_lists"].([]any)[0].(map[string]any)
	id := link["uuid"].(string)
	acl := b.get("access-control-list", id)
	if fmt.Sprint(acl["fq_name"]) != "[default-domain p blue blue]" || acl["parent_type"] != "virtual-network" || acl["parent_uuid"] != vn || acl["access_control_list_hash"] == nil {
		t.Errorf("access list %v", acl)
	}
	if n := rulesOf(acl); n != 6 {
		t.Errorf("%d entries: %v", n, acl)
	}
	found := b.json("POST", "/fqname-to-id", `{"type": "access-control-list", "fq_name": ["default-domain", "p", "blue", "blue"]}`)
	if found["uuid"] != id {
		t.Errorf("found as %v", found)
	}
	if list := b.json("GET", "/access-control-lists?detail=true&parent_id="+group, "")["access-control-lists"].([]any); len(list) != 2 {
		t.Errorf("lists of the group: %v", list)
	}
	egress := b.json("POST", "/fqname-to-id", `{"type": "access-control-list", "fq_name": ["default-domain", "p", "g", "egress-access-control-list"]}`)["uuid"].(string)
	if n := rulesOf(b.get("access-control-list", egress)); n != 1 {
		t.Errorf("%d egress entries", n)
	}
	byHash := fmt.Sprintf(`/access-control-lists?filters=access_control_list_hash==%.0f`, acl["access_control_list_hash"])
	if list := b.json("GET", byHash, "")["access-control-lists"].([]any); len(list) > 1 {
		t.Errorf("by hash %v", list)
	}
	// They are nobody's to write.
	for _, q := range [][3]string{
		{"DELETE", "/access-control-list/" + id, ""},
		{"PUT", "/access-control-list/" + id, `{"access-control-list": {"display_name": "mine"}}`},
		{"POST", "/prop-collection-update", fmt.Sprintf(`{"uuid": %q, "updates": [{"field": "annotations", "operation": "set", "value": {"key": "a", "value": "b"}}]}`, id)},
		{"POST", "/set-tag", fmt.Sprintf(`{"obj_type": "access_control_list", "obj_uuid": %q, "label": {"add_values": ["x"]}}`, id)},
	} {
		b.create("tag", fmt.Sprintf(`{"fq_name": ["default-domain", "p", "x"], "parent_type": "project", "tag_type_name": "label", "tag_value": "x%d"}`, len(q[1])+len(q[0])*100))
		if status, text, _ := b.call(q[0], q[1], q[2]); status < 400 || status >= 500 {
			t.Errorf("%s %s: %d %s", q[0], q[1], status, text)
		}
	}
	tag := b.create("tag", `{"fq_name": ["default-domain", "p", "y"], "parent_type": "project", "tag_type_name": "label", "tag_value": "y"}`)
	b.denies("POST", "/ref-update", fmt.Sprintf(`{"type": "access-control-list", "uuid": %q, "ref-type": "tag", "ref-uuid": %q, "operation": "ADD"}`, id, tag), 403, "has no references")

	// A network and a group go although lists follow from them.
	for _, of := range []string{"/virtual-network/" + vn, "/security-group/" + group} {
		if status, text, _ := b.call("DELETE", of, ""); status != 200 {
			t.Errorf("delete %s: %d %s", of, status, text)
		}
	}
	if status, _, _ := b.call("GET", "/access-control-list/"+id, ""); status != 404 {
		t.Errorf("read after delete: %d", status)
	}
	b.fits()
}

// What a policy says of its networks is not told of those of others.
func TestAccessListsTellNothingOfOthers(t *testing.T) {
	b := newBench(t, testConfig())
	b.twoTenants()
	for _, path := range []string{"/access-control-lists?detail=true", "/access-control-lists"} {
		r := httptest.NewRequest("GET", "http://api:8082"+path, nil).WithContext(asUser(member1))
		w := httptest.NewRecorder()
		b.handler.ServeHTTP(w, r)
		if text := w.Body.String(); w.Code != 200 || strings.Contains(text, secret) || !strings.Contains(text, "p1-vn") {
			t.Errorf("%s: %d %s", path, w.Code, text)
		}
	}
	// Else the test would find nothing where nothing is.
	var full bool
	b.api.graph.View(func(v *model.View) {
		o, _ := v.ByName(model.KindVirtualNetwork, []string{"default-domain", "p1", "p1-vn"})
		full = len(v.References(o.GetMeta().UUID, model.KindNetworkPolicy)) > 0
	})
	if !full {
		t.Fatal("the network has no policy")
	}
}

// A network that all may read tells nobody of its owner's policies, nor of the
// networks that they name, whichever way its access list is asked for.
func TestAccessListsOfSharedNetworks(t *testing.T) {
	b := newBench(t, testConfig())
	b.twoTenants()
	policy := b.create("network-policy", `{"fq_name": ["default-domain", "`+secret+`", "policy"], `+policyOf(`{"virtual_network": "local"}`, `{"virtual_network": "default-domain:`+secret+`:`+secret+`-vn"}`)+`}`)
	vn := b.create("virtual-network", `{"fq_name": ["default-domain", "`+secret+`", "open"], "parent_type": "project", "perms2": {"global_access": 4}}`)
	b.json("POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "network-policy", "ref-uuid": %q, "operation": "ADD", "attr": {"sequence": {"major": 0, "minor": 0}}}`, vn, policy))
	full := b.json("POST", "/fqname-to-id", `{"type": "access-control-list", "fq_name": ["default-domain", "`+secret+`", "open", "open"]}`)
	acl := b.get("access-control-list", full["uuid"].(string))
	if n := rulesOf(acl); n != 6 {
		t.Fatalf("an administrator is shown %d entries: %v", n, acl)
	}
	_, text, _ := b.call("GET", "/access-control-list/"+full["uuid"].(string)+"?fields=access_control_list_hash", "")
	hash := regexp.MustCompile(`"access_control_list_hash":(\d+)`).FindStringSubmatch(text)[1]
	for _, q := range []string{
		"/access-control-list/" + full["uuid"].(string),
		"/access-control-lists?detail=true&parent_id=" + vn,
		"/access-control-lists?fields=access_control_list_entries,annotations&obj_uuids=" + full["uuid"].(string),
		"/access-control-lists?filters=access_control_list_hash==" + hash,
		"/watch?resource_type=access-control-list",
	} {
		ctx, cancel := context.WithCancel(asUser(member1))
		w := httptest.NewRecorder()
		b.handler.ServeHTTP(initialOnly{w, cancel}, httptest.NewRequest("GET", "http://api:8082"+q, nil).WithContext(ctx))
		cancel()
		text := w.Body.String()
		if w.Code != 200 || strings.Contains(text, secret+"-") || strings.Contains(text, hash) || strings.Contains(text, "000000000030") {
			t.Errorf("%s: %d %s", q, w.Code, text)
		}
		if asksFor := strings.Contains(q, "filters"); strings.Contains(text, full["uuid"].(string)) == asksFor {
			t.Errorf("%s: %s", q, text)
		}
	}
}

// A list that is watched comes, changes and goes with the rules.
func TestContractWatchAccessLists(t *testing.T) {
	c := newClassic(t)
	c.project("p")
	blue := c.network("p", "blue", "10.1.0.0/24")
	e := c.watch("resource_type=access-control-list")
	e.next()
	policy := c.create("network-policy", m{"fq_name": l{"default-domain", "p", "policy"}})
	c.do("POST", "/ref-update", m{"type": "virtual-network", "uuid": blue, "ref-type": "network-policy", "ref-uuid": policy, "operation": "ADD"})
	id := c.id("access-control-list", "default-domain:p:blue:blue")
	if o := e.want("create", "access-control-list", id); rulesOf(o) != 2 {
		t.Errorf("created %v", o)
	}
	anyPort := l{m{"start_port": -1, "end_port": -1}}
	c.do("PUT", "/network-policy/"+policy, m{"network-policy": m{"network_policy_entries": m{"policy_rule": l{m{
		"direction": "<>", "protocol": "any", "ethertype": "IPv4", "action_list": m{"simple_action": "pass"},
		"src_addresses": l{m{"virtual_network": "local"}}, "dst_addresses": l{m{"network_policy": "default-domain:p:policy"}}, "src_ports": anyPort, "dst_ports": anyPort,
	}}}}})
	if o := e.want("update", "access-control-list", id); rulesOf(o) != 5 {
		t.Errorf("updated %v", o)
	}
	red := c.network("p", "red", "10.2.0.0/24")
	c.do("POST", "/ref-update", m{"type": "virtual-network", "uuid": red, "ref-type": "network-policy", "ref-uuid": policy, "operation": "ADD"})
	other := c.id("access-control-list", "default-domain:p:red:red")
	for range 2 {
		switch name, _, value := e.next(); value.(m)["uuid"] {
		case id:
			if name != "update" || rulesOf(value.(m)) < 8 {
				t.Errorf("%s %v", name, value)
			}
		case other:
			if name != "create" {
				t.Errorf("%s %v", name, value)
			}
		default:
			t.Errorf("%s %v", name, value)
		}
	}
	c.delete("virtual-network", red)
	for range 2 {
		name, _, value := e.next()
		if want := map[any]string{id: "update", other: "delete"}[value.(m)["uuid"]]; name != want {
			t.Errorf("%s of %v, want %q", name, value, want)
		}
	}
}
