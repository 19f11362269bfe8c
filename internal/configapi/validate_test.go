package configapi

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

// refused sends a request that must be refused with a text, and change nothing.
func (b *bench) refused(status int, want, method, path, body string) {
	b.Helper()
	before := b.dump()
	got, text, _ := b.call(method, path, body)
	if got != status || !strings.Contains(text, want) {
		b.Errorf("%s %s %.120s: %d %s, want %d %s", method, path, body, got, text, status, want)
	}
	if !maps.Equal(before, b.dump()) {
		b.Errorf("%s %s: the refused request changed the store", method, path)
	}
}

// The rules hold by whatever request a change comes.
func TestRulesHoldOnEveryWay(t *testing.T) {
	b := newBench(t, testConfig())
	vn := b.network()
	const protocol = `network_policy_entries.policy_rule[0].protocol is "tpc", want any, a number`
	rule := `{"policy_rule": [{"direction": "<>", "protocol": "tpc", "src_addresses": [{"virtual_network": "any"}], "dst_addresses": [{"virtual_network": "any"}], "action_list": {"simple_action": "pass"}}]}`
	good := strings.ReplaceAll(rule, "tpc", "tcp")
	b.refused(400, "Bad property in create: "+protocol, "POST", "/network-policys",
		`{"network-policy": {"fq_name": ["default-domain", "p", "np"], "network_policy_entries": `+rule+`}}`)
	np := b.create("network-policy", `{"fq_name": ["default-domain", "p", "np"], "network_policy_entries": `+good+`}`)
	b.refused(400, "Bad property in http_put: "+protocol, "PUT", "/network-policy/"+np, `{"network-policy": {"network_policy_entries": `+rule+`}}`)

	// References count as they will be, one by one and as lists.
	b.refused(400, "virtual_network_refs", "PUT", "/virtual-network/"+vn, `{"virtual-network": {"virtual_network_refs": [{"uuid": "`+vn+`"}]}}`)
	b.refused(400, `want another network than itself`, "POST", "/ref-update",
		fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "virtual-network", "ref-uuid": %q, "operation": "ADD"}`, vn, vn))
	b.json("POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "virtual-network", "ref-fq-name": ["default-domain", "default-project", "ip-fabric"], "operation": "ADD"}`, vn))

	// Attributes of references are values too.
	pools := `{"ipam_subnets": [{"subnet": {"ip_prefix": "10.1.0.0", "ip_prefix_len": 24}, "host_routes": {"route": [{"prefix": "10.9.0.0/16", "next_hop": "2001:db8::1"}]}}]}`
	b.refused(400, "Bad reference in http_put: network_ipam_refs.attr.ipam_subnets[0].host_routes.route[0].next_hop", "PUT", "/virtual-network/"+vn,
		`{"virtual-network": {"network_ipam_refs": [{"to": ["default-domain", "p", "ipam"], "attr": `+pools+`}]}}`)
	b.refused(400, "Bad reference in ref-update: network_ipam_refs.attr", "POST", "/ref-update",
		fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "network-ipam", "ref-fq-name": ["default-domain", "p", "ipam"], "operation": "ADD", "attr": %s}`, vn, pools))

	// What must stay may not be taken away.
	primary := b.create("virtual-machine-interface", `{"fq_name": ["default-domain", "p", "primary"], "parent_type": "project", "virtual_network_refs": [{"uuid": "`+vn+`"}]}`)
	sub := func(name string) string {
		return `{"fq_name": ["default-domain", "p", "` + name + `"], "parent_type": "project", "virtual_network_refs": [{"uuid": "` + vn + `"}],
			"virtual_machine_interface_refs": [{"uuid": "` + primary + `"}], "virtual_machine_interface_properties": {"sub_interface_vlan_tag": 7}}`
	}
	id := b.create("virtual-machine-interface", sub("sub"))
	b.refused(400, "sub_interface_vlan_tag is 7", "POST", "/virtual-machine-interfaces", `{"virtual-machine-interface": `+sub("second")+`}`)
	b.refused(400, "exactly one reference to the primary", "POST", "/ref-update",
		fmt.Sprintf(`{"type": "virtual-machine-interface", "uuid": %q, "ref-type": "virtual-machine-interface", "ref-uuid": %q, "operation": "DELETE"}`, id, primary))
}

// Properties that are not a client's to set.
func TestSystemProperties(t *testing.T) {
	b := newBench(t, testConfig())
	b.network()
	const fq = `"fq_name": ["default-domain", "p", "x"]`
	b.refused(400, "Bad property in create: is_provider_network can not be set", "POST", "/virtual-networks", `{"virtual-network": {`+fq+`, "is_provider_network": true}}`)
	b.refused(403, "Cannot set the security group ID", "POST", "/security-groups", `{"security-group": {`+fq+`, "security_group_id": 8000001}}`)
	b.refused(403, "access-control-list follows from", "POST", "/access-control-lists", `{"access-control-list": {"fq_name": ["default-domain", "p", "blue", "acl"], "parent_type": "virtual-network"}}`)
	id := b.create("virtual-network", `{`+fq+`, "is_provider_network": false}`)
	b.refused(400, "Bad property in http_put: is_provider_network can not be changed", "PUT", "/virtual-network/"+id, `{"virtual-network": {"is_provider_network": true}}`)
}

// Rules without a UUID get one, and keep it when the same rules are sent again.
func TestRulesAreNamed(t *testing.T) {
	b := newBench(t, testConfig())
	b.network()
	rule := func(port int) string {
		return fmt.Sprintf(`{"protocol": "tcp", "src_addresses": [{"security_group": "local"}], "dst_addresses": [{"subnet": {"ip_prefix": "0.0.0.0", "ip_prefix_len": 0}}], "dst_ports": [{"start_port": %d, "end_port": %d}]}`, port, port)
	}
	ids := func(id string) []string {
		var list []string
		for _, r := range b.get("security-group", id)["security_group_entries"].(map[string]any)["policy_rule"].([]any) {
			list = append(list, r.(map[string]any)["rule_uuid"].(string))
		}
		return list
	}
	sg := b.create("security-group", `{"fq_name": ["default-domain", "p", "sg"], "security_group_entries": {"policy_rule": [`+rule(80)+","+rule(443)+`]}}`)
	first := ids(sg)
	if len(first) != 2 || !model.IsUUID(first[0]) || first[0] == first[1] {
		t.Fatalf("rules are %v", first)
	}
	b.json("PUT", "/security-group/"+sg, `{"security-group": {"security_group_entries": {"policy_rule": [`+rule(443)+","+rule(22)+`]}}}`)
	second := ids(sg)
	if second[0] != first[1] || second[1] == first[0] || !model.IsUUID(second[1]) {
		t.Errorf("rules are %v, were %v", second, first)
	}
}

// An object that an older version let in can be changed elsewhere, and mended,
// but not be made worse.
func TestOldViolationsStay(t *testing.T) {
	b := newBench(t, testConfig())
	id := b.create("global-vrouter-config", `{"fq_name": ["default-global-system-config", "x"]}`)
	const path = "/global-vrouter-config/"
	o, _ := model.New(model.KindGlobalVrouterConfig)
	b.api.graph.View(func(v *model.View) {
		found, _ := v.Find(id)
		*o.GetMeta() = *found.GetMeta()
	})
	o.(*model.GlobalVrouterConfig).EncapsulationPriorities = &model.EncapsulationPrioritiesType{Encapsulation: []string{"VXLAN", "VXLAN"}}
	txn := b.store.Txn()
	var head uint64
	b.api.graph.View(func(v *model.View) { head = v.Position().Revision })
	txn.UpdateObject(o, head)
	revision, err := txn.Commit(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.api.catchUp(b.ctx(), revision); err != nil {
		t.Fatal(err)
	}
	b.json("PUT", path+id, `{"global-vrouter-config": {"flow_export_rate": 100}}`)
	b.refused(400, "encapsulation[2]", "PUT", path+id, `{"global-vrouter-config": {"encapsulation_priorities": {"encapsulation": ["VXLAN", "VXLAN", "VXLAN"]}}}`)
	b.json("PUT", path+id, `{"global-vrouter-config": {"encapsulation_priorities": {"encapsulation": ["VXLAN"]}}}`)
}

// Two writers that each add what would be fine alone: one of them is refused.
func TestRulesHoldInRaces(t *testing.T) {
	b := newBench(t, testConfig())
	c := openBench(t, b.prefix, testConfig())
	b.network()
	lr := b.create("logical-router", `{"fq_name": ["default-domain", "p", "lr"]}`)
	for round := range 10 {
		var ids []string
		for _, side := range []string{"a", "b"} {
			ids = append(ids, b.create("virtual-network", fmt.Sprintf(`{"fq_name": ["default-domain", "p", "%s%d"]}`, side, round)))
		}
		update := func(on *bench, id, operation string) int {
			status, _, _ := on.call("POST", "/ref-update", fmt.Sprintf(`{"type": "logical-router", "uuid": %q, "ref-type": "virtual-network", "ref-uuid": %q, "operation": %q}`, lr, id, operation))
			return status
		}
		head, err := b.store.Head(b.ctx())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.api.catchUp(c.ctx(), head); err != nil {
			t.Fatal(err)
		}
		var done sync.WaitGroup
		var status [2]int
		for i, on := range []*bench{b, c} {
			done.Go(func() { status[i] = update(on, ids[i], "ADD") })
		}
		done.Wait()
		if status[0]+status[1] != http.StatusOK+http.StatusBadRequest {
			t.Errorf("round %d: %v", round, status)
		}
		for _, id := range ids {
			update(b, id, "DELETE")
		}
	}
}
