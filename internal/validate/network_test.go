package validate

import (
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

func TestVirtualNetwork(t *testing.T) {
	w := newWorld()
	w.add(t, "virtual-network", "d:p:fabric", "project", `{"is_provider_network": true}`)
	w.add(t, "virtual-network", "d:p:red", "project", `{}`)
	w.run(t, []checkCase{
		{"targets", "virtual-network", `{"route_target_list": {"route_target": ["target:1:1"]}, "import_route_target_list": {"route_target": ["target:1:2"]}}`, nil, ""},
		{"target twice", "virtual-network", `{"route_target_list": {"route_target": ["target:1:1", "target:1:1"]}}`, nil, "route_target_list.route_target[1]"},
		{"target in two lists", "virtual-network", `{"route_target_list": {"route_target": ["target:1:1"]}, "export_route_target_list": {"route_target": ["target:1:1"]}}`, nil, "export_route_target_list.route_target[0]"},
		{"provider", "virtual-network", "", []string{"virtual-network/fabric"}, ""},
		{"no provider", "virtual-network", "", []string{"virtual-network/red"}, "virtual_network_refs"},
		{"itself", "virtual-network", "", []string{"virtual-network/subject"}, "virtual_network_refs"},
		{"two", "virtual-network", "", []string{"virtual-network/fabric", "virtual-network/red"}, "virtual_network_refs"},
		{"networks of a provider", "virtual-network", `{"is_provider_network": true}`, []string{"virtual-network/red", "virtual-network/gone"}, ""},
		{"provider of a provider", "virtual-network", `{"is_provider_network": true}`, []string{"virtual-network/fabric"}, "virtual_network_refs"},
		{"segment", "virtual-network", `{"provider_properties": {"segmentation_id": 5, "physical_network": "eth1"}}`, nil, ""},
		{"segment of nothing", "virtual-network", `{"provider_properties": {"segmentation_id": 5}}`, nil, "provider_properties.physical_network"},
	})
}

func TestVirtualMachineInterface(t *testing.T) {
	w := newWorld()
	w.add(t, "virtual-machine-interface", "d:p:primary", "project", `{}`)
	sub := w.add(t, "virtual-machine-interface", "d:p:sub", "project", `{"virtual_machine_interface_properties": {"sub_interface_vlan_tag": 5, "service_interface_type": "left"}}`)
	w.refer(sub, "virtual-machine-interface/primary", "")
	w.refer(sub, "port-tuple/pt", "")
	w.add(t, "port-tuple", "d:p:pt", "si", `{}`)
	properties := func(s string) string { return `{"virtual_machine_interface_properties": {` + s + `}}` }
	const path = "virtual_machine_interface_properties."
	w.run(t, []checkCase{
		{"plain", "virtual-machine-interface", "", []string{"virtual-network/a"}, ""},
		{"two networks", "virtual-machine-interface", "", []string{"virtual-network/a", "virtual-network/b"}, "virtual_network_refs"},
		{"pairs without security", "virtual-machine-interface", `{"port_security_enabled": false, "virtual_machine_interface_allowed_address_pairs": {"allowed_address_pair": [{"ip": {"ip_prefix": "10.0.0.1", "ip_prefix_len": 32}}]}}`, nil, "virtual_machine_interface_allowed_address_pairs"},
		{"profile", "virtual-machine-interface", `{"virtual_machine_interface_bindings": {"key_value_pair": [{"key": "profile", "value": "{}"}, {"key": "host_id", "value": "n1"}]}}`, nil, ""},
		{"profile is no JSON", "virtual-machine-interface", `{"virtual_machine_interface_bindings": {"key_value_pair": [{"key": "profile", "value": "{"}]}}`, nil, "virtual_machine_interface_bindings.key_value_pair[0].value"},
		{"bindings twice", "virtual-machine-interface", `{"virtual_machine_interface_bindings": {"key_value_pair": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]}}`, nil, "virtual_machine_interface_bindings.key_value_pair[1]"},
		{"mirror", "virtual-machine-interface", properties(`"interface_mirror": {"traffic_direction": "both"}`), nil, path + "interface_mirror.mirror_to"},
		{"sub-interface", "virtual-machine-interface", properties(`"sub_interface_vlan_tag": 6`), []string{"virtual-machine-interface/primary"}, ""},
		{"sub-interface of none", "virtual-machine-interface", properties(`"sub_interface_vlan_tag": 6`), nil, path + "sub_interface_vlan_tag"},
		{"sub-interface of itself", "virtual-machine-interface", properties(`"sub_interface_vlan_tag": 6`), []string{"virtual-machine-interface/subject"}, "virtual_machine_interface_refs"},
		{"sub-interface of one", "virtual-machine-interface", properties(`"sub_interface_vlan_tag": 6`), []string{"virtual-machine-interface/sub"}, "virtual_machine_interface_refs"},
		{"tag taken", "virtual-machine-interface", properties(`"sub_interface_vlan_tag": 5`), []string{"virtual-machine-interface/primary"}, path + "sub_interface_vlan_tag"},
		{"tuple", "virtual-machine-interface", properties(`"service_interface_type": "right"`), []string{"port-tuple/pt"}, ""},
		{"tuple without place", "virtual-machine-interface", "", []string{"port-tuple/pt"}, path + "service_interface_type"},
		{"tuple place taken", "virtual-machine-interface", properties(`"service_interface_type": "left"`), []string{"port-tuple/pt"}, path + "service_interface_type"},
	})
}

func TestFloatingIP(t *testing.T) {
	mappings := func(s string) string {
		return `{"floating_ip_port_mappings_enable": true, "floating_ip_port_mappings": {"port_mappings": [` + s + `]}}`
	}
	const path = "floating_ip_port_mappings.port_mappings[0]"
	newWorld().run(t, []checkCase{
		{"mapped", "floating-ip", mappings(`{"protocol": "TCP", "src_port": 80, "dst_port": 8080}`), nil, ""},
		{"without mapping", "floating-ip", `{"floating_ip_port_mappings_enable": true}`, nil, "floating_ip_port_mappings"},
		{"protocol", "floating-ip", mappings(`{"protocol": "ICMP", "src_port": 80, "dst_port": 8080}`), nil, path + ".protocol"},
		{"no port", "floating-ip", mappings(`{"protocol": "TCP", "dst_port": 8080}`), nil, path + ".src_port"},
		{"port 0", "floating-ip", mappings(`{"protocol": "TCP", "src_port": 80, "dst_port": 0}`), nil, path + ".dst_port"},
		{"twice", "floating-ip", mappings(`{"protocol": "TCP", "src_port": 80, "dst_port": 1}, {"protocol": "TCP", "src_port": 80, "dst_port": 2}`), nil, "floating_ip_port_mappings.port_mappings[1]"},
		{"families", "floating-ip", `{"floating_ip_address": "10.0.0.1", "floating_ip_fixed_ip_address": "2001:db8::1"}`, nil, "floating_ip_fixed_ip_address"},
	})
}

func TestNetworkIPAM(t *testing.T) {
	mgmt := func(s string) string { return `{"network_ipam_mgmt": {` + s + `}}` }
	newWorld().run(t, []checkCase{
		{"virtual", "network-ipam", mgmt(`"ipam_dns_method": "virtual-dns-server", "ipam_dns_server": {"virtual_dns_server_name": "d:dns"}`), nil, ""},
		{"tenant", "network-ipam", mgmt(`"ipam_dns_method": "tenant-dns-server", "ipam_dns_server": {"tenant_dns_server_address": {"ip_address": ["10.0.0.1"]}}`), nil, ""},
		{"virtual without name", "network-ipam", mgmt(`"ipam_dns_method": "virtual-dns-server"`), nil, "network_ipam_mgmt.ipam_dns_server.virtual_dns_server_name"},
		{"virtual by short name", "network-ipam", mgmt(`"ipam_dns_method": "virtual-dns-server", "ipam_dns_server": {"virtual_dns_server_name": "dns"}`), nil, "network_ipam_mgmt.ipam_dns_server.virtual_dns_server_name"},
		{"tenant without address", "network-ipam", mgmt(`"ipam_dns_method": "tenant-dns-server"`), nil, "network_ipam_mgmt.ipam_dns_server.tenant_dns_server_address.ip_address"},
	})
}

func TestLogicalRouter(t *testing.T) {
	w := newWorld()
	vmi := w.add(t, "virtual-machine-interface", "d:p:port", "project", `{}`)
	w.refer(vmi, "virtual-network/blue", "")
	other := w.add(t, "logical-router", "d:p:other", "project", `{}`)
	busy := w.add(t, "virtual-machine-interface", "d:p:busy", "project", `{}`)
	w.refer(other, "virtual-machine-interface/busy", "")
	_ = busy
	const internal = ` {"logical_router_virtual_network_type": "InternalVirtualNetwork"}`
	w.run(t, []checkCase{
		{"port and gateway", "logical-router", `{"vxlan_network_identifier": "5"}`, []string{"virtual-machine-interface/port", "virtual-network/public"}, ""},
		{"internal networks", "logical-router", "", []string{"virtual-network/a" + internal, "virtual-network/b" + internal, "virtual-network/c"}, ""},
		{"two gateways", "logical-router", "", []string{"virtual-network/a", "virtual-network/b"}, "virtual_network_refs"},
		{"port in the gateway", "logical-router", "", []string{"virtual-machine-interface/port", "virtual-network/blue"}, "virtual_machine_interface_refs"},
		{"port of another", "logical-router", "", []string{"virtual-machine-interface/busy"}, "virtual_machine_interface_refs"},
		{"vni", "logical-router", `{"vxlan_network_identifier": "16777216"}`, nil, "vxlan_network_identifier"},
		{"no vni", "logical-router", `{"vxlan_network_identifier": "red"}`, nil, "vxlan_network_identifier"},
	})
}

func TestInterfaces(t *testing.T) {
	w := newWorld()
	w.add(t, "logical-interface", "d:pr:ge.5", "parent", `{"logical_interface_vlan_tag": 5}`)
	w.run(t, []checkCase{
		{"tag", "logical-interface", `{"logical_interface_vlan_tag": 6}`, nil, ""},
		{"tag taken", "logical-interface", `{"logical_interface_vlan_tag": 5}`, nil, "logical_interface_vlan_tag"},
		{"other", "physical-interface", "", []string{"physical-interface/other"}, ""},
		{"itself", "physical-interface", "", []string{"physical-interface/subject"}, "physical_interface_refs"},
		{"group", "multicast-policy", `{"multicast_source_groups": {"multicast_source_group": [{"group_address": "224.1.1.1", "source_address": "10.0.0.1", "action": "pass"}]}}`, nil, ""},
		{"no group", "multicast-policy", `{"multicast_source_groups": {"multicast_source_group": [{"group_address": "10.1.1.1", "source_address": "10.0.0.1", "action": "pass"}]}}`, nil, "multicast_source_groups.multicast_source_group[0].group_address"},
		{"no action", "multicast-policy", `{"multicast_source_groups": {"multicast_source_group": [{"group_address": "224.1.1.1", "source_address": "10.0.0.1"}]}}`, nil, "multicast_source_groups.multicast_source_group[0].action"},
		{"group families", "multicast-policy", `{"multicast_source_groups": {"multicast_source_group": [{"group_address": "224.1.1.1", "source_address": "2001:db8::1", "action": "pass"}]}}`, nil, "multicast_source_groups.multicast_source_group[0].source_address"},
	})
}

func TestRouting(t *testing.T) {
	routes := func(s string) string { return `{"routes": {"route": [` + s + `]}}` }
	bgp := func(s string) string {
		return `{"bgp_router_parameters": {"autonomous_system": 64512, "address": "10.0.0.1"` + s + `}}`
	}
	term := func(match, action string) string {
		return `{"routing_policy_entries": {"term": [{"term_match_condition": {` + match + `}, "term_action_list": {` + action + `}}]}}`
	}
	session := func(s string) string {
		return `{"autonomous_system": 65001, "bgpaas_session_attributes": {` + s + `}}`
	}
	const accept = `"action": "accept"`
	const p = "bgp_router_parameters."
	newWorld().run(t, []checkCase{
		{"table", "route-table", routes(`{"prefix": "0.0.0.0/0", "next_hop": "10.0.0.1"}, {"prefix": "10.0.0.0/8", "next_hop": "d:p:si", "next_hop_type": "service-instance"}`), nil, ""},
		{"no next hop", "route-table", routes(`{"prefix": "0.0.0.0/0"}`), nil, "routes.route[0].next_hop"},
		{"bad next hop", "route-table", routes(`{"prefix": "0.0.0.0/0", "next_hop": "gateway"}`), nil, "routes.route[0].next_hop"},
		{"aggregate", "route-aggregate", `{"aggregate_route_entries": {"route": ["10.0.0.0/8"]}, "aggregate_route_nexthop": "10.0.0.1"}`, nil, ""},
		{"aggregate twice", "route-aggregate", `{"aggregate_route_entries": {"route": ["10.0.0.0/8", "10.0.0.0/8"]}}`, nil, "aggregate_route_entries.route[1]"},
		{"aggregate of two families", "route-aggregate", `{"aggregate_route_entries": {"route": ["::/0"]}, "aggregate_route_nexthop": "10.0.0.1"}`, nil, "aggregate_route_entries.route[0]"},
		{"aggregate to a name", "route-aggregate", `{"aggregate_route_entries": {"route": ["10.0.0.0/8"]}, "aggregate_route_nexthop": "x"}`, nil, "aggregate_route_nexthop"},
		{"policy", "routing-policy", term(`"protocol": ["bgp", "static"], "prefix": [{"prefix": "10.0.0.0/8", "prefix_type": "longer"}], "community_list": ["64512:.*"]`, `"action": "next", "update": {"community": {"add": {"community": ["1:2"]}}}`), nil, ""},
		{"no action", "routing-policy", term("", ""), nil, "routing_policy_entries.term[0].term_action_list.action"},
		{"source", "routing-policy", term(`"protocol": ["ospf"]`, accept), nil, "routing_policy_entries.term[0].term_match_condition.protocol[0]"},
		{"no prefix", "routing-policy", term(`"prefix": [{"prefix_type": "exact"}]`, accept), nil, "routing_policy_entries.term[0].term_match_condition.prefix[0].prefix"},
		{"pattern", "routing-policy", term(`"community_list": ["("]`, accept), nil, "routing_policy_entries.term[0].term_match_condition.community_list"},
		{"set and add", "routing-policy", term("", `"update": {"community": {"set": {"community": ["1:1"]}, "add": {"community": ["1:2"]}}}`), nil, "routing_policy_entries.term[0].term_action_list.update.community.set"},
		{"set and remove", "routing-policy", term("", `"update": {"extcommunity": {"set": {"community": ["1:1"]}, "remove": {"community": ["1:2"]}}}`), nil, "routing_policy_entries.term[0].term_action_list.update.extcommunity.set"},
		{"order", "routing-policy", term("", accept), []string{`service-instance/si {"left_sequence": "1.0", "right_sequence": "2.0"}`}, ""},
		{"no order", "routing-policy", term("", accept), []string{`service-instance/si {"left_sequence": "first"}`}, "service_instance_refs.attr.left_sequence"},
		{"order in a network", "virtual-network", "", []string{`routing-policy/rp {"sequence": "x"}`}, "routing_policy_refs.attr.sequence"},
		{"router", "bgp-router", bgp(`, "identifier": "10.0.0.1", "port": 179, "hold_time": 90, "address_families": {"family": ["inet-vpn", "e-vpn"]}, "auth_data": {"key_type": "md5", "key_items": [{"key_id": 0, "key": "s"}]}`), nil, ""},
		{"router of a workload", "bgp-router", `{"bgp_router_parameters": {"router_type": "bgpaas-client"}}`, nil, ""},
		{"no as", "bgp-router", `{"bgp_router_parameters": {"address": "10.0.0.1"}}`, nil, p + "autonomous_system"},
		{"no address", "bgp-router", `{"bgp_router_parameters": {"autonomous_system": 1}}`, nil, p + "address"},
		{"as trans", "bgp-router", bgp(`, "local_autonomous_system": 23456`), nil, p + "local_autonomous_system"},
		{"identifier", "bgp-router", bgp(`, "identifier": "2001:db8::1"`), nil, p + "identifier"},
		{"no identifier", "bgp-router", bgp(`, "identifier": "0.0.0.0"`), nil, p + "identifier"},
		{"gateway", "bgp-router", bgp(`, "ipv6_gateway_address": "10.0.0.1"`), nil, p + "ipv6_gateway_address"},
		{"hold time", "bgp-router", bgp(`, "hold_time": 2`), nil, p + "hold_time"},
		{"families twice", "bgp-router", bgp(`, "address_families": {"family": ["inet", "inet"]}`), nil, p + "address_families.family[1]"},
		{"no key", "bgp-router", bgp(`, "auth_data": {"key_type": "md5"}`), nil, p + "auth_data.key_items"},
		{"empty key", "bgp-router", bgp(`, "auth_data": {"key_type": "md5", "key_items": [{"key_id": 0}]}`), nil, p + "auth_data.key_items[0].key"},
		{"key twice", "bgp-router", bgp(`, "auth_data": {"key_items": [{"key_id": 1, "key": "a"}, {"key_id": 1, "key": "b"}]}`), nil, p + "auth_data.key_items[1].key_id"},
		{"itself", "bgp-router", bgp(""), []string{"bgp-router/subject"}, "bgp_router_refs"},
		{"peering", "bgp-router", bgp(""), []string{`bgp-router/other {"session": [{"uuid": "x", "attributes": [{"hold_time": 1}]}]}`}, "bgp_router_refs.attr.session[0].attributes[0].hold_time"},
		{"bgpaas", "bgp-as-a-service", session(`"hold_time": 30`), nil, ""},
		{"bgpaas shared", "bgp-as-a-service", `{"autonomous_system": 65001, "bgpaas_shared": true}`, nil, "bgpaas_ip_address"},
		{"bgpaas as", "bgp-as-a-service", `{"autonomous_system": 23456}`, nil, "autonomous_system"},
		{"bgpaas key", "bgp-as-a-service", session(`"auth_data": {"key_type": "md5", "key_items": [{"key_id": 0, "key": "s"}]}`), nil, "bgpaas_session_attributes.auth_data"},
		{"bgpaas of a router's family", "bgp-as-a-service", session(`"address_families": {"family": ["inet", "inet-vpn"]}`), nil, "bgpaas_session_attributes.address_families.family[1]"},
		{"bgpaas limit", "bgp-as-a-service", session(`"family_attributes": [{"address_family": "inet", "prefix_limit": {"maximum": 10001}}]`), nil, "bgpaas_session_attributes.family_attributes[0].prefix_limit.maximum"},
		{"bgpaas nobody's address", "bgp-as-a-service", `{"autonomous_system": 65001, "bgpaas_ip_address": "0.0.0.0"}`, nil, "bgpaas_ip_address"},
		{"bgpaas local as", "bgp-as-a-service", session(`"local_autonomous_system": 23456`), nil, "bgpaas_session_attributes.local_autonomous_system"},
		{"bgpaas families", "bgp-as-a-service", session(`"family_attributes": [{"address_family": "inet"}, {"address_family": "inet"}]`), nil, "bgpaas_session_attributes.family_attributes[1]"},
	})
}

// Keys are secrets: no message shows one.
func TestKeysAreNotShown(t *testing.T) {
	w := newWorld()
	long := "secret" + string(make([]byte, 100))
	o := &model.BGPRouter{Meta: model.Meta{UUID: "r"}, BGPRouterParameters: &model.BgpRouterParams{
		AuthData: &model.AuthenticationData{KeyItems: []model.AuthenticationKeyItem{{Key: long}, {Key: long}}},
	}}
	for _, e := range Check(&Subject{Object: o, Neighbours: w}) {
		if got := e.Error(); len(got) == 0 || strings.Contains(got, "secret") {
			t.Error(got)
		}
	}
}
