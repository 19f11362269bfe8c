package configapi

import (
	"fmt"
	"slices"
	"testing"
)

// A.8: what there is after the first start.
func TestContractInitialObjects(t *testing.T) {
	c := newClassic(t)
	const project = "default-domain:default-project:"
	read := func(kind, name string) m {
		t.Helper()
		return c.read(kind, c.id(kind, name))
	}
	system := read("global-system-config", "default-global-system-config")
	if system["autonomous_system"] != 64512.0 || system["config_version"] == nil || system["parent_type"] != nil {
		t.Errorf("system configuration %v", system)
	}
	for kind, name := range map[string]string{
		"global-vrouter-config": "default-global-vrouter-config", "global-qos-config": "default-global-qos-config", "api-access-list": "default-api-access-list",
	} {
		if got := read(kind, "default-global-system-config:"+name); got["parent_uuid"] != system["uuid"] {
			t.Errorf("%s %v", kind, got)
		}
	}
	read("discovery-service-assignment", "default-discovery-service-assignment")
	owner := read("project", "default-domain:default-project")
	if got := read("network-ipam", project+"default-network-ipam"); got["perms2"].(m)["global_access"] != 5.0 || got["perms2"].(m)["owner"] != owner["perms2"].(m)["owner"] {
		t.Errorf("default IPAM %v", got)
	}
	if got := read("security-group", project+"__no_rule__"); got["perms2"].(m)["global_access"].(float64) < 4 || got["security_group_entries"] != nil {
		t.Errorf("group without rules %v", got)
	}
	flat := read("network-ipam", project+"service-chain-flat-ipam")
	var prefixes []string
	for _, s := range flat["ipam_subnets"].(m)["subnets"].(l) {
		s := s.(m)["subnet"].(m)
		prefixes = append(prefixes, fmt.Sprintf("%v/%v", s["ip_prefix"], s["ip_prefix_len"]))
	}
	if flat["ipam_subnet_method"] != "flat-subnet" || len(prefixes) != 2 || prefixes[0] != "0.0.0.0/8" {
		t.Errorf("IPAM of service chains %v", flat)
	}
	for name, instances := range map[string][]string{
		"default-virtual-network": {"default-virtual-network"}, "ip-fabric": {"__default__", "ip-fabric"}, "__link_local__": {"__link_local__"}, "dci-network": {"dci-network"},
	} {
		got := read("virtual-network", project+name)
		found := names(got["routing_instances"])
		slices.Sort(found)
		if !slices.Equal(found, instances) {
			t.Errorf("%s has the instances %v, want %v", name, found, instances)
		}
		if (got["is_provider_network"] == true) != (name == "ip-fabric") {
			t.Errorf("%s: is_provider_network %v", name, got["is_provider_network"])
		}
	}
	if got := read("routing-instance", project+"ip-fabric:ip-fabric"); got["routing_instance_is_default"] != true {
		t.Errorf("instance of ip-fabric %v", got)
	}
	set := read("application-policy-set", "default-policy-management:default-application-policy-set")
	if set["all_applications"] != true || !slices.Equal(names(set["global_vrouter_config_refs"]), []string{"default-global-vrouter-config"}) {
		t.Errorf("default policy set %v", set)
	}
	if got := read("global-vrouter-config", "default-global-system-config:default-global-vrouter-config"); !slices.Equal(names(got["application_policy_set_back_refs"]), []string{"default-application-policy-set"}) {
		t.Errorf("vrouter configuration %v", got)
	}
	for i, name := range []string{"label", "application", "tier", "deployment", "site"} {
		if got := read("tag-type", name); got["tag_type_id"] != fmt.Sprintf("0x%04x", i) {
			t.Errorf("tag type %v", got)
		}
	}
	// A new project gets nothing.
	fresh := c.read("project", c.project("p"))
	for _, children := range []string{"virtual_networks", "network_ipams", "security_groups", "application_policy_sets", "network_policys"} {
		if fresh[children] != nil {
			t.Errorf("a new project has %s", children)
		}
	}
}

// F.5: the alarms that every cluster has.
func TestContractAlarms(t *testing.T) {
	c := newClassic(t)
	want := map[string]float64{
		"node-status": 0, "process-status": 0, "process-connectivity": 0, "disk-usage-high": 1, "disk-usage-critical": 0, "core-files": 0,
		"package-version-mismatch": 0, "partial-sysinfo": 1, "conf-incorrect": 1, "address-mismatch-compute": 1, "address-mismatch-control": 1,
		"bgp-connectivity": 1, "xmpp-connectivity": 1, "vrouter-interface": 1, "prouter-connectivity": 1, "prouter-tsn-connectivity": 1,
		"phyif-bandwidth": 2, "storage-cluster-state": 1, "pending-cassandra-compaction-tasks": 1, "bottle-request-size-limit": 1,
	}
	list := c.do("GET", "/alarms?detail=true&parent_fq_name_str=default-global-system-config&parent_type=global-system-config", nil)["alarms"].(l)
	have := map[string]m{}
	for _, e := range list {
		a := e.(m)["alarm"].(m)
		have[a["name"].(string)] = a
		if len(a["uve_keys"].(m)["uve_key"].(l)) == 0 || len(a["alarm_rules"].(m)["or_list"].(l)) == 0 {
			t.Errorf("alarm %v", a)
		}
	}
	for name, severity := range want {
		if a := have["system-defined-"+name]; a == nil || a["alarm_severity"] != severity {
			t.Errorf("%s: %v, want severity %v", name, a["alarm_severity"], severity)
		}
	}
	for _, name := range []string{"xmpp-close-reason", "vrouter-limit-exceeded", "vrouter-table-limit-exceeded"} {
		if have["system-defined-"+name] == nil {
			t.Errorf("no %s", name)
		}
	}
	rule := have["system-defined-disk-usage-high"]["alarm_rules"].(m)["or_list"].(l)[0].(m)["and_list"].(l)[0].(m)
	if rule["operation"] != "range" || rule["operand2"].(m)["json_value"] != "[70, 90]" {
		t.Errorf("rule %v", rule)
	}
}
