package validate

import (
	"fmt"
	"testing"
)

func TestNetworkPolicy(t *testing.T) {
	policy := func(rule string) string { return `{"network_policy_entries": {"policy_rule": [` + rule + `]}}` }
	rule := func(protocol, src, dst, ports, action string) string {
		return policy(fmt.Sprintf(`{"direction": "<>", "protocol": %q, "src_addresses": [%s], "dst_addresses": [%s], "src_ports": [{"start_port": -1, "end_port": -1}], "dst_ports": [%s], "action_list": %s}`, protocol, src, dst, ports, action))
	}
	const any = `{"start_port": -1, "end_port": -1}`
	const pass = `{"simple_action": "pass"}`
	const blue, red = `{"virtual_network": "d:p:blue"}`, `{"virtual_network": "d:p:red"}`
	const at = "network_policy_entries.policy_rule[0]"
	newWorld().run(t, []checkCase{
		{"empty", "network-policy", policy(""), nil, ""},
		{"any", "network-policy", rule("any", `{"virtual_network": "any"}`, `{"virtual_network": "local"}`, any, pass), nil, ""},
		{"number", "network-policy", rule("47", blue, red, any, pass), nil, ""},
		{"upper case", "network-policy", rule("TCP", blue, `{"subnet": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 8}}`, `{"start_port": 80, "end_port": 90}`, `{"simple_action": "deny"}`), nil, ""},
		{"icmp type and code", "network-policy", rule("icmp", blue, red, `{"start_port": 8, "end_port": 0}`, pass), nil, ""},
		{"icmp range of all ports", "network-policy", rule("icmp", blue, red, `{"start_port": 0, "end_port": 65535}`, pass), nil, ""},
		{"icmp type out of range", "network-policy", rule("icmp", blue, red, `{"start_port": 300, "end_port": 0}`, pass), nil, at + ".dst_ports[0]"},
		{"icmp code out of range", "network-policy", rule("icmp6", blue, red, `{"start_port": 8, "end_port": 300}`, pass), nil, at + ".dst_ports[0]"},
		{"service", "network-policy", rule("any", blue, red, any, `{"apply_service": ["d:p:fw"]}`), nil, ""},
		{"mirror", "network-policy", rule("any", blue, red, any, `{"simple_action": "pass", "mirror_to": {"analyzer_name": "d:p:a"}}`), nil, ""},
		{"protocol", "network-policy", rule("tpc", blue, red, any, pass), nil, at + ".protocol"},
		{"protocol number", "network-policy", rule("256", blue, red, any, pass), nil, at + ".protocol"},
		{"no protocol", "network-policy", rule("", blue, red, any, pass), nil, at + ".protocol"},
		{"no direction", "network-policy", policy(`{"protocol": "any", "src_addresses": [` + blue + `], "dst_addresses": [` + red + `], "action_list": ` + pass + `}`), nil, at + ".direction"},
		{"no address", "network-policy", rule("any", "", red, any, pass), nil, at + ".src_addresses"},
		{"two addresses", "network-policy", rule("any", `{"virtual_network": "any", "subnet": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 8}}`, red, any, pass), nil, at + ".src_addresses[0]"},
		{"empty address", "network-policy", rule("any", `{}`, red, any, pass), nil, at + ".src_addresses[0]"},
		{"short name", "network-policy", rule("any", blue, `{"virtual_network": "red"}`, any, pass), nil, at + ".dst_addresses[0].virtual_network"},
		{"policy name", "network-policy", rule("any", blue, `{"network_policy": "red"}`, any, pass), nil, at + ".dst_addresses[0].network_policy"},
		{"group name", "network-policy", rule("any", blue, `{"security_group": "red"}`, any, pass), nil, at + ".dst_addresses[0].security_group"},
		{"ports backwards", "network-policy", rule("tcp", blue, red, `{"start_port": 90, "end_port": 80}`, pass), nil, at + ".dst_ports[0]"},
		{"half any", "network-policy", rule("tcp", blue, red, `{"start_port": -1, "end_port": 80}`, pass), nil, at + ".dst_ports[0]"},
		{"half a range", "network-policy", rule("tcp", blue, red, `{"start_port": 80}`, pass), nil, at + ".dst_ports[0].end_port"},
		{"no action", "network-policy", rule("any", blue, red, any, `{}`), nil, at + ".action_list"},
		{"deny to a service", "network-policy", rule("any", blue, red, any, `{"simple_action": "deny", "apply_service": ["d:p:fw"]}`), nil, at + ".action_list.simple_action"},
		{"service name", "network-policy", rule("any", blue, red, any, `{"apply_service": ["fw"]}`), nil, at + ".action_list.apply_service[0]"},
		{"service twice", "network-policy", rule("any", blue, red, any, `{"apply_service": ["d:p:fw", "d:p:fw"]}`), nil, at + ".action_list.apply_service[1]"},
		{"service between all", "network-policy", rule("any", `{"virtual_network": "any"}`, red, any, `{"apply_service": ["d:p:fw"]}`), nil, at + ".action_list.apply_service"},
		{"ethertype", "network-policy", policy(`{"ethertype": "IPv6", "direction": ">", "protocol": "any", "src_addresses": [{"subnet_list": [{"ip_prefix": "10.0.0.0", "ip_prefix_len": 8}]}], "dst_addresses": [` + red + `], "action_list": ` + pass + `}`), nil, at + ".src_addresses[0].subnet_list[0].ip_prefix"},
	})
}

func TestSecurityGroup(t *testing.T) {
	group := func(rules string) string { return `{"security_group_entries": {"policy_rule": [` + rules + `]}}` }
	rule := func(src, dst, more string) string {
		return group(`{"protocol": "any", "src_addresses": [` + src + `], "dst_addresses": [` + dst + `]` + more + `}`)
	}
	const local, all = `{"security_group": "local"}`, `{"subnet": {"ip_prefix": "0.0.0.0", "ip_prefix_len": 0}}`
	const at = "security_group_entries.policy_rule[0]"
	const id = `"rule_uuid": "753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a"`
	newWorld().run(t, []checkCase{
		{"egress", "security-group", rule(local, all, `, "direction": ">", "ethertype": "IPv4"`), nil, ""},
		{"ingress from itself", "security-group", rule(`{"security_group": "d:p:subject"}`, local, `, "ethertype": "IPv6"`), nil, ""},
		{"nobody is local", "security-group", rule(all, all, ""), nil, at + ".src_addresses"},
		{"both are local", "security-group", rule(local, local, ""), nil, at + ".src_addresses"},
		{"local and another", "security-group", rule(local+","+all, all, ""), nil, at + ".src_addresses"},
		{"network", "security-group", rule(local, `{"virtual_network": "d:p:blue"}`, ""), nil, at + ".dst_addresses[0].virtual_network"},
		{"group name", "security-group", rule(local, `{"security_group": "red"}`, ""), nil, at + ".dst_addresses[0].security_group"},
		{"nothing", "security-group", rule(local, `{}`, ""), nil, at + ".dst_addresses[0]"},
		{"deny", "security-group", rule(local, all, `, "action_list": {"simple_action": "deny"}`), nil, at + ".action_list.simple_action"},
		{"ethertype", "security-group", rule(local, all, `, "ethertype": "IPv6"`), nil, at + ".dst_addresses[0].subnet.ip_prefix"},
		{"rules with one id", "security-group", group(`{` + id + `, "protocol": "tcp", "src_addresses": [` + local + `], "dst_addresses": [` + all + `]}, {` + id + `, "protocol": "udp", "src_addresses": [` + local + `], "dst_addresses": [` + all + `]}`), nil, "security_group_entries.policy_rule[1]"},
	})
}

func TestFirewall(t *testing.T) {
	w := newWorld()
	w.add(t, "tag", "application=web", "", `{"tag_type_name": "application", "tag_value": "web"}`)
	w.add(t, "tag", "d:p:tier=db", "project", `{"tag_type_name": "tier", "tag_value": "db"}`)
	w.add(t, "tag-type", "tier", "", "{}")
	w.add(t, "tag-type", "label", "", "{}")
	w.add(t, "firewall-policy", "d:p:one", "project", "{}")
	w.add(t, "firewall-policy", "d:p:two", "project", "{}")
	rule := func(one, two, more string) string {
		return `{"action_list": {"simple_action": "pass"}, "direction": "<>", "endpoint_1": ` + one + `, "endpoint_2": ` + two + more + `}`
	}
	const any = `{"any": true}`
	const tcp = `, "service": {"protocol": "tcp", "dst_ports": {"start_port": 80, "end_port": 80}}`
	w.run(t, []checkCase{
		{"tags", "firewall-rule", rule(`{"tags": ["global:application=web", "tier=db"], "tag_ids": [65537]}`, any, tcp+`, "match_tags": {"tag_list": ["tier"]}`), nil, ""},
		{"group of services", "firewall-rule", rule(any, `{"address_group": "default-policy-management:g"}`, ""), []string{"service-group/sg"}, ""},
		{"no action", "firewall-rule", `{"direction": ">", "endpoint_1": {"any": true}, "endpoint_2": {"any": true}, "service": {"protocol": "any"}}`, nil, "action_list.simple_action"},
		{"no direction", "firewall-rule", `{"action_list": {"simple_action": "deny"}, "endpoint_1": {"any": true}, "endpoint_2": {"any": true}, "service": {"protocol": "any"}}`, nil, "direction"},
		{"chain", "firewall-rule", `{"action_list": {"simple_action": "pass", "apply_service": ["d:p:fw"]}, "direction": ">", "endpoint_1": {"any": true}, "endpoint_2": {"any": true}, "service": {"protocol": "any"}}`, nil, "action_list.apply_service"},
		{"no endpoint", "firewall-rule", `{"action_list": {"simple_action": "pass"}, "direction": ">", "endpoint_1": {"any": true}, "service": {"protocol": "any"}}`, nil, "endpoint_2"},
		{"empty endpoint", "firewall-rule", rule(`{"any": false}`, any, tcp), nil, "endpoint_1"},
		{"two kinds", "firewall-rule", rule(`{"any": true, "tags": ["tier=db"]}`, any, tcp), nil, "endpoint_1"},
		{"tag without value", "firewall-rule", rule(`{"tags": ["tier"]}`, any, tcp), nil, "endpoint_1.tags[0]"},
		{"unknown tag", "firewall-rule", rule(any, `{"tags": ["tier=web"]}`, tcp), nil, "endpoint_2.tags[0]"},
		{"tag twice", "firewall-rule", rule(any, `{"tags": ["tier=db", "tier=db"]}`, tcp), nil, "endpoint_2.tags[1]"},
		{"network name", "firewall-rule", rule(any, `{"virtual_network": "blue"}`, tcp), nil, "endpoint_2.virtual_network"},
		{"address group name", "firewall-rule", rule(any, `{"address_group": "g"}`, tcp), nil, "endpoint_2.address_group"},
		{"no service", "firewall-rule", rule(any, any, ""), nil, "service"},
		{"two services", "firewall-rule", rule(any, any, tcp), []string{"service-group/sg"}, "service"},
		{"service of no protocol", "firewall-rule", rule(any, any, `, "service": {}`), nil, "service.protocol"},
		{"service ports", "firewall-rule", rule(any, any, `, "service": {"protocol": "udp", "src_ports": {"start_port": 9, "end_port": 1}}`), nil, "service.src_ports"},
		{"match label", "firewall-rule", rule(any, any, tcp+`, "match_tags": {"tag_list": ["label"]}`), nil, "match_tags.tag_list[0]"},
		{"match unknown", "firewall-rule", rule(any, any, tcp+`, "match_tags": {"tag_list": ["colour"]}`), nil, "match_tags.tag_list[0]"},
		{"services", "service-group", `{"service_group_firewall_service_list": {"firewall_service": [{"protocol": "tcp", "dst_ports": {"start_port": 1, "end_port": 2}}]}}`, nil, ""},
		{"services with bad ports", "service-group", `{"service_group_firewall_service_list": {"firewall_service": [{"protocol": "tcp", "dst_ports": {"start_port": 3, "end_port": 2}}]}}`, nil, "service_group_firewall_service_list.firewall_service[0].dst_ports"},
		{"order", "application-policy-set", "", []string{`firewall-policy/one {"sequence": "1.0"}`, `firewall-policy/two {"sequence": "2"}`}, ""},
		{"no order", "application-policy-set", "", []string{`firewall-policy/one`}, "firewall_policy_refs.attr.sequence"},
		{"bad order", "application-policy-set", "", []string{`firewall-policy/one {"sequence": "first"}`}, "firewall_policy_refs.attr.sequence"},
		{"same place", "application-policy-set", "", []string{`firewall-policy/one {"sequence": "1.0"}`, `firewall-policy/two {"sequence": "1.0"}`}, "firewall_policy_refs.attr.sequence"},
		{"rules in order", "firewall-policy", "", []string{`firewall-rule/r {"sequence": "1.0"}`}, ""},
		{"rules without order", "firewall-policy", "", []string{`firewall-rule/r {"sequence": ""}`}, "firewall_rule_refs.attr.sequence"},
	})
}

func TestAlarm(t *testing.T) {
	alarm := func(expression string) string {
		return `{"alarm_severity": 1, "uve_keys": {"uve_key": ["virtual-network"]}, "alarm_rules": {"or_list": [{"and_list": [` + expression + `]}]}}`
	}
	const at = "alarm_rules.or_list[0].and_list[0]"
	newWorld().run(t, []checkCase{
		{"equal", "alarm", alarm(`{"operand1": "NodeStatus.x", "operation": "==", "operand2": {"json_value": "\"up\""}}`), nil, ""},
		{"range", "alarm", alarm(`{"operand1": "a", "operation": "range", "operand2": {"json_value": "[1, 5]"}}`), nil, ""},
		{"keys twice", "alarm", `{"uve_keys": {"uve_key": ["x", "x"]}}`, nil, "uve_keys.uve_key[1]"},
		{"no condition", "alarm", alarm(""), nil, "alarm_rules.or_list[0].and_list"},
		{"no operand", "alarm", alarm(`{"operation": "==", "operand2": {"uve_attribute": "b"}}`), nil, at + ".operand1"},
		{"no operation", "alarm", alarm(`{"operand1": "a", "operand2": {"uve_attribute": "b"}}`), nil, at + ".operation"},
		{"both operands", "alarm", alarm(`{"operand1": "a", "operation": "==", "operand2": {"uve_attribute": "b", "json_value": "1"}}`), nil, at + ".operand2"},
		{"no JSON", "alarm", alarm(`{"operand1": "a", "operation": "==", "operand2": {"json_value": "up"}}`), nil, at + ".operand2.json_value"},
		{"in no list", "alarm", alarm(`{"operand1": "a", "operation": "in", "operand2": {"json_value": "1"}}`), nil, at + ".operand2.json_value"},
		{"range backwards", "alarm", alarm(`{"operand1": "a", "operation": "range", "operand2": {"json_value": "[5, 1]"}}`), nil, at + ".operand2.json_value"},
		{"size of text", "alarm", alarm(`{"operand1": "a", "operation": "size==", "operand2": {"json_value": "\"x\""}}`), nil, at + ".operand2.json_value"},
	})
}
