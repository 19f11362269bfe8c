package configapi

import (
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

// B.1, line by line: the properties and references that matter of each type,
// as clients write them.
func TestContractProperties(t *testing.T) {
	c := newClassic(t)
	f := newFamily(c)
	group := f.make("security-group", nil)
	policy := f.make("network-policy", nil)
	vm := f.make("virtual-machine", nil)
	vmi := f.make("virtual-machine-interface", m{"virtual_machine_refs": l{m{"uuid": vm}}})
	ref := func(id string, attr any) l { return l{m{"uuid": id, "attr": attr}} }
	subnet := c.read("virtual-network", f.network)["network_ipam_refs"].(l)[0].(m)["attr"].(m)["ipam_subnets"].(l)[0].(m)["subnet_uuid"]
	routes := m{"route": l{m{"prefix": "0.0.0.0/0", "next_hop": "10.1.0.9", "next_hop_type": "ip-address", "community_attributes": m{"community_attribute": l{"no-export"}}}}}
	for _, tt := range []struct {
		kind   model.Kind
		fields m
	}{
		{"domain", m{"domain_limits": m{"project_limit": 10, "virtual_network_limit": 20, "security_group_limit": 30}}},
		{"project", m{"quota": m{"defaults": -1, "virtual_network": 10}, "vxlan_routing": true, "alarm_enable": true}},
		{"network-ipam", m{
			"network_ipam_mgmt": m{
				"ipam_dns_method": "tenant-dns-server", "ipam_dns_server": m{"tenant_dns_server_address": m{"ip_address": l{"10.0.0.53"}}},
				"dhcp_option_list": m{"dhcp_option": l{m{"dhcp_option_name": "15", "dhcp_option_value": "example.test"}}},
				"host_routes":      m{"route": l{m{"prefix": "10.9.0.0/16", "next_hop": "10.1.0.9"}}},
			},
			"virtual_DNS_refs": ref(f.make("virtual-DNS", nil), nil),
		}},
		{"virtual-network", m{
			"virtual_network_properties": m{"allow_transit": true, "vxlan_network_identifier": 77, "forwarding_mode": "l2_l3", "rpf": "enable"},
			"route_target_list":          m{"route_target": l{"target:65001:1"}}, "import_route_target_list": m{"route_target": l{"target:65001:2"}}, "export_route_target_list": m{"route_target": l{"target:65001:3"}},
			"router_external": true, "is_shared": true, "address_allocation_mode": "user-defined-subnet-preferred", "port_security_enabled": true, "flood_unknown_unicast": true,
			"multi_policy_service_chains_enabled": true, "ecmp_hashing_include_fields": m{"hashing_configured": true, "source_ip": true}, "mac_learning_enabled": true, "fabric_snat": true,
			"network_ipam_refs": ref(f.make("network-ipam", nil), m{"ipam_subnets": l{m{
				"subnet": m{"ip_prefix": "10.20.0.0", "ip_prefix_len": 24}, "default_gateway": "10.20.0.1", "dns_server_address": "10.20.0.2", "enable_dhcp": true, "addr_from_start": true,
				"dns_nameservers": l{"10.0.0.53"}, "allocation_pools": l{m{"start": "10.20.0.10", "end": "10.20.0.99"}}, "alloc_unit": 1, "subnet_uuid": "00000000-0000-4000-8000-000000000020",
				"host_routes": m{"route": l{m{"prefix": "10.9.0.0/16", "next_hop": "10.20.0.9"}}},
			}}}),
			"network_policy_refs": ref(policy, m{"sequence": m{"major": 0, "minor": 0}}),
			"route_table_refs":    ref(f.make("route-table", nil), nil), "qos_config_refs": ref(f.make("qos-config", nil), nil),
			"security_logging_object_refs": ref(f.make("security-logging-object", nil), nil), "bgpvpn_refs": ref(f.make("bgpvpn", nil), nil),
		}},
		{"virtual-machine", m{"server_type": "container"}},
		{"virtual-machine-interface", m{
			"virtual_machine_interface_mac_addresses": m{"mac_address": l{"02:00:00:00:00:07"}},
			"virtual_machine_interface_properties":    m{"sub_interface_vlan_tag": 100, "service_interface_type": "left", "local_preference": 200},
			"virtual_machine_interface_bindings":      m{"key_value_pair": l{m{"key": "vnic_type", "value": "normal"}}},
			"virtual_machine_interface_allowed_address_pairs": m{"allowed_address_pair": l{m{
				"ip": m{"ip_prefix": "10.1.7.0", "ip_prefix_len": 24}, "mac": "02:00:00:00:00:08", "address_mode": "active-standby",
			}}},
			"virtual_machine_interface_fat_flow_protocols": m{"fat_flow_protocol": l{m{"protocol": "udp", "port": 53}}},
			"virtual_machine_interface_dhcp_option_list":   m{"dhcp_option": l{m{"dhcp_option_name": "6", "dhcp_option_value": "10.0.0.53"}}},
			"virtual_machine_interface_host_routes":        m{"route": l{m{"prefix": "10.9.0.0/16", "next_hop": "10.1.0.9"}}},
			"virtual_machine_interface_disable_policy":     true, "virtual_machine_interface_device_owner": "mesos", "port_security_enabled": true,
			"ecmp_hashing_include_fields": m{"hashing_configured": true, "ip_protocol": true},
			"security_group_refs":         ref(group, nil), "virtual_machine_interface_refs": ref(vmi, nil), "virtual_machine_refs": ref(vm, nil), "interface_route_table_refs": ref(f.make("interface-route-table", nil), nil),
			"service_health_check_refs": ref(f.make("service-health-check", nil), nil), "bridge_domain_refs": ref(f.make("bridge-domain", nil), m{"vlan_tag": 7}),
		}},
		{"instance-ip", m{"instance_ip_family": "v4", "instance_ip_mode": "active-standby", "instance_ip_secondary": true, "virtual_machine_interface_refs": ref(vmi, nil)}},
		{"floating-ip-pool", m{"floating_ip_pool_subnets": m{"subnet_uuid": l{subnet}}}},
		{"floating-ip", m{
			"floating_ip_port_mappings_enable": true, "floating_ip_port_mappings": m{"port_mappings": l{m{"protocol": "TCP", "src_port": 80, "dst_port": 8080}}},
			"floating_ip_traffic_direction": "ingress", "virtual_machine_interface_refs": ref(vmi, nil),
		}},
		{"alias-ip", m{"virtual_machine_interface_refs": ref(vmi, nil)}},
		{"security-group", m{"security_group_entries": m{"policy_rule": l{m{
			"rule_uuid": "00000000-0000-4000-8000-000000000030", "direction": ">", "protocol": "tcp", "ethertype": "IPv4",
			"src_addresses": l{m{"subnet": m{"ip_prefix": "0.0.0.0", "ip_prefix_len": 0}}}, "src_ports": l{m{"start_port": 0, "end_port": 65535}},
			"dst_addresses": l{m{"security_group": "local"}}, "dst_ports": l{m{"start_port": 80, "end_port": 80}},
		}}}}},
		{"network-policy", m{"network_policy_entries": m{"policy_rule": l{m{
			"rule_uuid": "00000000-0000-4000-8000-000000000031", "direction": "<>", "protocol": "any", "ethertype": "IPv4",
			"src_addresses": l{m{"virtual_network": "default-domain:p:blue"}}, "src_ports": l{m{"start_port": -1, "end_port": -1}},
			"dst_addresses": l{m{"virtual_network": "any"}}, "dst_ports": l{m{"start_port": -1, "end_port": -1}},
			"action_list": m{"simple_action": "pass", "log": true, "alert": false},
		}}}}},
		{"route-table", m{"routes": routes}},
		{"interface-route-table", m{"interface_route_table_routes": m{"route": l{m{"prefix": "10.9.0.0/16"}}}}},
		{"virtual-router", m{"virtual_router_ip_address": "172.31.0.99", "virtual_router_dpdk_enabled": false}},
		{"bgp-router", m{
			"bgp_router_parameters": m{
				"router_type": "router", "vendor": "juniper", "autonomous_system": 65001, "identifier": "192.0.2.1", "address": "192.0.2.1", "port": 179, "hold_time": 90,
				"address_families": m{"family": l{"route-target", "inet-vpn", "inet6-vpn", "e-vpn"}}, "auth_data": m{"key_type": "md5", "key_items": l{m{"key_id": 0, "key": "secret"}}},
			},
			"bgp_router_refs": ref(f.make("bgp-router", nil), m{"session": l{m{"attributes": l{m{"address_families": m{"family": l{"inet-vpn"}}}}}}}),
		}},
		{"service-template", m{"service_template_properties": m{"version": 2, "service_mode": "in-network", "service_type": "firewall", "service_virtualization_type": "virtual-machine", "interface_type": l{m{"service_interface_type": "left"}, m{"service_interface_type": "right"}}}}},
		{"service-health-check", m{"service_health_check_properties": m{"enabled": true, "monitor_type": "PING", "delay": 3, "timeout": 5, "max_retries": 2, "health_check_type": "link-local"}}},
		{"logical-router", m{
			"configured_route_target_list": m{"route_target": l{"target:65001:9"}}, "vxlan_network_identifier": "5000",
			"virtual_machine_interface_refs": ref(f.make("virtual-machine-interface", nil), nil), "route_table_refs": ref(f.make("route-table", nil), nil),
		}},
		{"bgp-as-a-service", m{"autonomous_system": 65002, "bgpaas_shared": false, "bgpaas_ip_address": "10.1.0.200", "bgpaas_session_attributes": m{"loop_count": 1}}},
		{"policy-management", m{}},
		{"application-policy-set", m{"firewall_policy_refs": ref(f.make("firewall-policy", nil), m{"sequence": "1.0"})}},
		{"firewall-policy", m{"firewall_rule_refs": ref(f.make("firewall-rule", nil), m{"sequence": "1.0"})}},
		{"firewall-rule", m{
			"action_list": m{"simple_action": "pass"}, "direction": "<>", "service": m{"protocol": "tcp", "src_ports": m{"start_port": 0, "end_port": 65535}, "dst_ports": m{"start_port": 443, "end_port": 443}},
			"endpoint_1": m{"any": true}, "endpoint_2": m{"subnet": m{"ip_prefix": "10.9.0.0", "ip_prefix_len": 16}}, "match_tags": m{"tag_list": l{"application"}},
		}},
		{"address-group", m{"address_group_prefix": m{"subnet": l{m{"ip_prefix": "10.9.0.0", "ip_prefix_len": 16}}}}},
		{"service-group", m{"service_group_firewall_service_list": m{"firewall_service": l{m{"protocol": "tcp", "dst_ports": m{"start_port": 80, "end_port": 80}}}}}},
		{"loadbalancer", m{"loadbalancer_properties": m{"vip_address": "10.1.0.201", "admin_state": true}, "virtual_machine_interface_refs": ref(f.make("virtual-machine-interface", nil), nil)}},
		{"loadbalancer-listener", m{"loadbalancer_listener_properties": m{"protocol": "HTTP", "protocol_port": 80, "admin_state": true}, "loadbalancer_refs": ref(f.make("loadbalancer", nil), nil)}},
		{"loadbalancer-pool", m{"loadbalancer_pool_properties": m{"protocol": "HTTP", "loadbalancer_method": "ROUND_ROBIN", "admin_state": true}, "loadbalancer_listener_refs": ref(f.make("loadbalancer-listener", nil), nil)}},
		{"loadbalancer-member", m{"loadbalancer_member_properties": m{"address": "10.1.0.30", "protocol_port": 8080, "weight": 1, "admin_state": true}}},
		{"loadbalancer-healthmonitor", m{"loadbalancer_healthmonitor_properties": m{"monitor_type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2, "url_path": "/", "admin_state": true}}},
		{"virtual-DNS", m{"virtual_DNS_data": m{"domain_name": "example.test", "dynamic_records_from_client": true, "record_order": "random", "default_ttl_seconds": 86400, "floating_ip_record": "vm-name", "external_visible": false, "reverse_resolution": true}}},
		{"virtual-DNS-record", m{"virtual_DNS_record_data": m{"record_name": "www", "record_type": "A", "record_class": "IN", "record_data": "10.1.0.50", "record_ttl_seconds": 60}}},
		{"qos-config", m{"dscp_entries": m{"qos_id_forwarding_class_pair": l{m{"key": 10, "forwarding_class_id": 1}}}, "default_forwarding_class_id": 0}},
		{"forwarding-class", m{"forwarding_class_id": 1, "forwarding_class_dscp": 10, "forwarding_class_vlan_priority": 1, "forwarding_class_mpls_exp": 1, "qos_queue_refs": ref(f.make("qos-queue", nil), nil)}},
		{"qos-queue", m{"qos_queue_identifier": 3, "min_bandwidth": 10, "max_bandwidth": 100}},
		{"alarm", m{"uve_keys": m{"uve_key": l{"vrouter"}}, "alarm_severity": 2, "alarm_rules": m{"or_list": l{m{"and_list": l{m{"operand1": "VrouterAgent.x", "operation": ">=", "operand2": m{"json_value": "1"}, "variables": l{"VrouterAgent.y"}}}}}}}},
		{"route-aggregate", m{"aggregate_route_entries": m{"route": l{"10.9.0.0/16"}}, "aggregate_route_nexthop": "10.1.0.9"}},
		{"routing-policy", m{"routing_policy_entries": m{"term": l{m{"term_match_condition": m{"protocol": l{"static"}, "community": "65001:1"}, "term_action_list": m{"action": "accept", "update": m{"local_pref": 200, "med": 5}}}}}}},
		{"security-logging-object", m{"security_logging_object_rate": 50}},
		{"bridge-domain", m{"mac_learning_enabled": true, "isid": 100, "mac_aging_time": 300}},
		{"physical-router", m{"physical_router_management_ip": "192.0.2.7", "physical_router_vendor_name": "juniper", "physical_router_product_name": "mx"}},
		{"physical-interface", m{}},
		{"logical-interface", m{"logical_interface_vlan_tag": 7, "logical_interface_type": "l2"}},
		{"config-node", m{"config_node_ip_address": "172.31.0.1"}},
		{"analytics-node", m{"analytics_node_ip_address": "172.31.0.1"}},
		{"database-node", m{"database_node_ip_address": "172.31.0.1"}},
		{"api-access-list", m{"api_access_list_entries": m{"rbac_rule": l{m{"rule_object": "virtual-network", "rule_perms": l{m{"role_name": "member", "role_crud": "CRUD"}}}}}}},
	} {
		t.Run(string(tt.kind), func(t *testing.T) {
			kind := string(tt.kind)
			id := f.make(tt.kind, tt.fields)
			got := c.read(kind, id)
			for name, value := range tt.fields {
				if !sameAsSent(got[name], value) {
					t.Errorf("%s was sent as %v and is %v", name, value, got[name])
				}
			}
			c.do("PUT", "/"+kind+"/"+id, m{kind: got})
			c.do("PUT", "/"+kind+"/"+id, m{kind: tt.fields})
			c.delete(kind, id)
		})
	}
}

// B.1: the settings of the whole cluster, which exist once.
func TestContractGlobalSettings(t *testing.T) {
	c := newClassic(t)
	for _, tt := range []struct {
		kind, name string
		fields     m
	}{
		{"global-system-config", "default-global-system-config", m{
			"autonomous_system": 65010, "ibgp_auto_mesh": false, "graceful_restart_parameters": m{"enable": true, "restart_time": 60, "long_lived_restart_time": 300, "end_of_rib_timeout": 30, "bgp_helper_enable": true, "xmpp_helper_enable": false},
			"ip_fabric_subnets": m{"subnet": l{m{"ip_prefix": "172.31.0.0", "ip_prefix_len": 24}}}, "bgpaas_parameters": m{"port_start": 50000, "port_end": 50512},
			"plugin_tuning": m{"plugin_property": l{m{"property": "a", "value": "b"}}}, "bgp_always_compare_med": true,
		}},
		{"global-vrouter-config", "default-global-system-config:default-global-vrouter-config", m{
			"encapsulation_priorities": m{"encapsulation": l{"VXLAN", "MPLSoUDP"}}, "vxlan_network_identifier_mode": "configured",
			"linklocal_services": m{"linklocal_service_entry": l{m{"linklocal_service_name": "metadata", "linklocal_service_ip": "169.254.169.254", "linklocal_service_port": 80, "ip_fabric_service_ip": "172.31.0.1", "ip_fabric_service_port": 8775}}},
			"forwarding_mode":    "l3", "flow_export_rate": 100, "flow_aging_timeout_list": m{"flow_aging_timeout": l{m{"protocol": "tcp", "port": 80, "timeout_in_seconds": 120}}},
			"ecmp_hashing_include_fields": m{"hashing_configured": true, "source_port": true}, "enable_security_logging": true,
			"port_translation_pools": m{"port_translation_pool": l{m{"protocol": "tcp", "port_range": m{"start_port": 30000, "end_port": 31000}}}}, "encryption_mode": "none",
		}},
	} {
		id := c.id(tt.kind, tt.name)
		c.do("PUT", "/"+tt.kind+"/"+id, m{tt.kind: tt.fields})
		got := c.read(tt.kind, id)
		for name, value := range tt.fields {
			if !sameAsSent(got[name], value) {
				t.Errorf("%s.%s was sent as %v and is %v", tt.kind, name, value, got[name])
			}
		}
	}
	// An ASN that changes is in all route targets that follow from it.
	view := c.read("routing-instance", c.id("routing-instance", "default-domain:default-project:dci-network:dci-network"))
	if got := names(view["route_target_refs"]); len(got) != 1 || got[0][:13] != "target:65010:" {
		t.Errorf("route targets %v", got)
	}
}
