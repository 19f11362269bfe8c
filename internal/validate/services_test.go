package validate

import (
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

func TestDNS(t *testing.T) {
	w := newWorld()
	dns := func(name, next string) {
		o := w.add(t, "virtual-DNS", name, "d", `{"virtual_DNS_data": {"domain_name": "example.org", "next_virtual_DNS": "`+next+`"}}`)
		o.GetMeta().ParentType = "domain"
	}
	dns("d:up", "10.0.0.1")
	dns("d:loop", "d:p:subject")
	record := func(name, kind, data, more string) string {
		return `{"virtual_DNS_record_data": {"record_name": "` + name + `", "record_type": "` + kind + `", "record_class": "IN", "record_data": "` + data + `"` + more + `}}`
	}
	w.add(t, "virtual-DNS-record", "d:up:www", "parent", record("www", "A", "10.1.1.1", ""))
	w.add(t, "virtual-DNS-record", "d:up:alias", "parent", record("alias", "CNAME", "www.example.org", ""))
	server := func(s string) string { return `{"virtual_DNS_data": {` + s + `}}` }
	const data, name = "virtual_DNS_record_data.record_data", "virtual_DNS_record_data.record_name"
	w.run(t, []checkCase{
		{"server", "virtual-DNS", server(`"domain_name": "example.org", "next_virtual_DNS": "d:up", "default_ttl_seconds": 60`), nil, ""},
		{"server asks an address", "virtual-DNS", server(`"domain_name": "example.org", "next_virtual_DNS": "10.0.0.1"`), nil, ""},
		{"no data", "virtual-DNS", "", nil, "virtual_DNS_data.domain_name"},
		{"domain", "virtual-DNS", server(`"domain_name": "-x.org"`), nil, "virtual_DNS_data.domain_name"},
		{"unknown next", "virtual-DNS", server(`"domain_name": "x", "next_virtual_DNS": "d:none"`), nil, "virtual_DNS_data.next_virtual_DNS"},
		{"itself next", "virtual-DNS", server(`"domain_name": "x", "next_virtual_DNS": "d:p:subject"`), nil, "virtual_DNS_data.next_virtual_DNS"},
		{"loop", "virtual-DNS", server(`"domain_name": "x", "next_virtual_DNS": "d:loop"`), nil, "virtual_DNS_data.next_virtual_DNS"},
		{"A", "virtual-DNS-record", record("mail", "A", "10.1.1.1", ""), nil, ""},
		{"second A", "virtual-DNS-record", record("www", "A", "10.1.1.2", ""), nil, ""},
		{"wildcard", "virtual-DNS-record", record("*", "AAAA", "2001:db8::1", ""), nil, ""},
		{"PTR", "virtual-DNS-record", record("10.1.1.1", "PTR", "www.example.org", ""), nil, ""},
		{"PTR in arpa", "virtual-DNS-record", record("1.1.1.10.in-addr.arpa", "PTR", "www.example.org.", ""), nil, ""},
		{"NS", "virtual-DNS-record", record("sub", "NS", "d:other", ""), nil, ""},
		{"MX", "virtual-DNS-record", record("mx", "MX", "mail.example.org", `, "record_mx_preference": 10`), nil, ""},
		{"no record", "virtual-DNS-record", "", nil, "virtual_DNS_record_data.record_type"},
		{"no name", "virtual-DNS-record", record("", "A", "10.1.1.1", ""), nil, name},
		{"no data in a record", "virtual-DNS-record", record("x", "A", "", ""), nil, data},
		{"name", "virtual-DNS-record", record("a b", "A", "10.1.1.1", ""), nil, name},
		{"PTR name", "virtual-DNS-record", record("a b", "PTR", "x", ""), nil, name},
		{"NS name", "virtual-DNS-record", record("a b", "NS", "x", ""), nil, name},
		{"A of a name", "virtual-DNS-record", record("x", "A", "www", ""), nil, data},
		{"A of IPv6", "virtual-DNS-record", record("x", "A", "2001:db8::1", ""), nil, data},
		{"AAAA of IPv4", "virtual-DNS-record", record("x", "AAAA", "10.1.1.1", ""), nil, data},
		{"CNAME of an address", "virtual-DNS-record", record("x", "CNAME", "10.1.1.1", ""), nil, data},
		{"NS of nothing", "virtual-DNS-record", record("x", "NS", "a b", ""), nil, data},
		{"MX without preference", "virtual-DNS-record", record("x", "MX", "mail", ""), nil, "virtual_DNS_record_data.record_mx_preference"},
		{"twice", "virtual-DNS-record", record("WWW", "A", "10.1.1.1", ""), nil, data},
		{"beside a CNAME", "virtual-DNS-record", record("alias", "A", "10.1.1.1", ""), nil, name},
		{"CNAME beside", "virtual-DNS-record", record("www", "CNAME", "x", ""), nil, name},
	})
}

func TestServices(t *testing.T) {
	w := newWorld()
	w.add(t, "service-template", "d:tpl", "d", `{"service_template_properties": {"interface_type": [{"service_interface_type": "left"}, {"service_interface_type": "right"}]}}`)
	w.add(t, "virtual-network", "d:p:blue", "project", "{}")
	template := func(s string) string { return `{"service_template_properties": {` + s + `}}` }
	instance := func(s string) string { return `{"service_instance_properties": {` + s + `}}` }
	check := func(s string) string { return `{"service_health_check_properties": {` + s + `}}` }
	const side = `{"virtual_network": "d:p:blue"}`
	const tp, ip, hp = "service_template_properties.", "service_instance_properties.", "service_health_check_properties."
	tpl := []string{"service-template/tpl"}
	w.run(t, []checkCase{
		{"firewall", "service-template", template(`"version": 2, "service_type": "firewall", "service_mode": "in-network", "interface_type": [{"service_interface_type": "management"}, {"service_interface_type": "left"}, {"service_interface_type": "right"}]`), nil, ""},
		{"analyzer", "service-template", template(`"service_type": "analyzer", "service_mode": "transparent", "interface_type": [{"service_interface_type": "left"}]`), nil, ""},
		{"one-sided", "service-template", template(`"service_type": "firewall", "service_mode": "in-network-nat", "interface_type": [{"service_interface_type": "left"}]`), nil, tp + "interface_type"},
		{"twice left", "service-template", template(`"interface_type": [{"service_interface_type": "left"}, {"service_interface_type": "left"}]`), nil, tp + "interface_type[1]"},
		{"no place", "service-template", template(`"interface_type": [{}]`), nil, tp + "interface_type[0].service_interface_type"},
		{"instance", "service-instance", instance(`"interface_list": [` + side + `, {"virtual_network": ""}], "scale_out": {"max_instances": 2}`), tpl, ""},
		{"too few", "service-instance", instance(`"interface_list": [` + side + `]`), tpl, ip + "interface_list"},
		{"unknown network", "service-instance", instance(`"interface_list": [` + side + `, {"virtual_network": "d:p:red"}]`), tpl, ip + "interface_list[1].virtual_network"},
		{"unknown left", "service-instance", instance(`"left_virtual_network": "d:p:red"`), tpl, ip + "left_virtual_network"},
		{"no instances", "service-instance", instance(`"scale_out": {"max_instances": 0}`), tpl, ip + "scale_out.max_instances"},
		{"two templates", "service-instance", "", []string{"service-template/tpl", "service-template/other"}, "service_template_refs"},
		{"ping", "service-health-check", check(`"monitor_type": "PING", "delay": 3, "timeout": 5, "max_retries": 2, "health_check_type": "link-local"`), nil, ""},
		{"http", "service-health-check", check(`"monitor_type": "HTTP", "url_path": "http://10.0.0.1/x", "expected_codes": "200-204,301", "http_method": "GET"`), nil, ""},
		{"microseconds", "service-health-check", check(`"monitor_type": "BFD", "delay": 0, "delayUsecs": 300000, "timeout": 0`), nil, ""},
		{"no monitor", "service-health-check", check(`"delay": 3`), nil, hp + "monitor_type"},
		{"delay", "service-health-check", check(`"monitor_type": "PING", "delay": 0`), nil, hp + "delay"},
		{"timeout", "service-health-check", check(`"monitor_type": "PING", "timeout": 0`), nil, hp + "timeout"},
		{"retries", "service-health-check", check(`"monitor_type": "PING", "max_retries": 0`), nil, hp + "max_retries"},
		{"http without path", "service-health-check", check(`"monitor_type": "HTTP"`), nil, hp + "url_path"},
		{"http with bad path", "service-health-check", check(`"monitor_type": "HTTP", "url_path": "ftp://x"`), nil, hp + "url_path"},
		{"http method", "service-health-check", check(`"monitor_type": "HTTP", "url_path": "/", "http_method": "get it"`), nil, hp + "http_method"},
		{"http codes", "service-health-check", check(`"monitor_type": "HTTP", "url_path": "/", "expected_codes": "2xx"`), nil, hp + "expected_codes"},
		{"tcp", "service-health-check", check(`"monitor_type": "TCP", "url_path": "local-ip:8080"`), nil, ""},
		{"tcp without port", "service-health-check", check(`"monitor_type": "TCP", "url_path": "/x"`), nil, hp + "url_path"},
		{"segment", "service-health-check", check(`"monitor_type": "HTTP", "url_path": "/", "health_check_type": "segment"`), nil, hp + "monitor_type"},
	})
}

func TestHealthCheckTypeStays(t *testing.T) {
	make := func(kind string) *model.ServiceHealthCheck {
		return &model.ServiceHealthCheck{ServiceHealthCheckProperties: &model.ServiceHealthCheckType{MonitorType: "PING", HealthCheckType: kind}}
	}
	for kind, path := range map[string]string{"link-local": "", "end-to-end": "service_health_check_properties.health_check_type"} {
		checkFound(t, Check(&Subject{
			Object: make(kind), Before: func() model.Object { return make("link-local") }, Neighbours: newWorld(),
		}), path)
	}
}

func TestLoadBalancers(t *testing.T) {
	w := newWorld()
	w.add(t, "loadbalancer-member", "d:p:pool:m", "parent", `{"loadbalancer_member_properties": {"address": "10.0.0.1", "protocol_port": 80}}`)
	listener := func(s string) string { return `{"loadbalancer_listener_properties": {` + s + `}}` }
	pool := func(s string) string { return `{"loadbalancer_pool_properties": {` + s + `}}` }
	member := func(s string) string { return `{"loadbalancer_member_properties": {` + s + `}}` }
	monitor := func(s string) string { return `{"loadbalancer_healthmonitor_properties": {` + s + `}}` }
	vip := func(s string) string { return `{"virtual_ip_properties": {` + s + `}}` }
	w.run(t, []checkCase{
		{"tcp", "loadbalancer-listener", listener(`"protocol": "TCP", "protocol_port": 80`), []string{"loadbalancer/lb"}, ""},
		{"tls", "loadbalancer-listener", listener(`"protocol": "TERMINATED_HTTPS", "protocol_port": 443, "default_tls_container": "c"`), nil, ""},
		{"no protocol", "loadbalancer-listener", listener(`"protocol_port": 80`), nil, "loadbalancer_listener_properties.protocol"},
		{"no port", "loadbalancer-listener", listener(`"protocol": "TCP"`), nil, "loadbalancer_listener_properties.protocol_port"},
		{"no certificate", "loadbalancer-listener", listener(`"protocol": "TERMINATED_HTTPS", "protocol_port": 443`), nil, "loadbalancer_listener_properties.default_tls_container"},
		{"two", "loadbalancer-listener", listener(`"protocol": "TCP", "protocol_port": 80`), []string{"loadbalancer/a", "loadbalancer/b"}, "loadbalancer_refs"},
		{"round robin", "loadbalancer-pool", pool(`"protocol": "HTTP", "loadbalancer_method": "ROUND_ROBIN", "session_persistence": "APP_COOKIE", "persistence_cookie_name": "id"`), nil, ""},
		{"pool protocol", "loadbalancer-pool", pool(``), nil, "loadbalancer_pool_properties.protocol"},
		{"no cookie", "loadbalancer-pool", pool(`"protocol": "HTTP", "session_persistence": "APP_COOKIE"`), nil, "loadbalancer_pool_properties.persistence_cookie_name"},
		{"cookie for nothing", "loadbalancer-pool", pool(`"protocol": "HTTP", "session_persistence": "SOURCE_IP", "persistence_cookie_name": "id"`), nil, "loadbalancer_pool_properties.persistence_cookie_name"},
		{"member", "loadbalancer-member", member(`"address": "10.0.0.1", "protocol_port": 81`), nil, ""},
		{"member twice", "loadbalancer-member", member(`"address": "10.0.0.1", "protocol_port": 80`), nil, "loadbalancer_member_properties.address"},
		{"member without address", "loadbalancer-member", member(`"protocol_port": 80`), nil, "loadbalancer_member_properties.address"},
		{"member without port", "loadbalancer-member", member(`"address": "10.0.0.2"`), nil, "loadbalancer_member_properties.protocol_port"},
		{"monitor", "loadbalancer-healthmonitor", monitor(`"monitor_type": "HTTPS", "delay": 5, "timeout": 5, "max_retries": 3, "url_path": "/"`), nil, ""},
		{"monitor delay", "loadbalancer-healthmonitor", monitor(`"monitor_type": "TCP", "delay": 0`), nil, "loadbalancer_healthmonitor_properties.delay"},
		{"vip", "virtual-ip", vip(`"protocol": "TCP", "protocol_port": 80`), nil, ""},
		{"vip protocol", "virtual-ip", vip(`"protocol_port": 80`), nil, "virtual_ip_properties.protocol"},
		{"vip port", "virtual-ip", vip(`"protocol": "TCP"`), nil, "virtual_ip_properties.protocol_port"},
		{"vip cookie", "virtual-ip", vip(`"protocol": "TCP", "protocol_port": 80, "persistence_type": "APP_COOKIE"`), nil, "virtual_ip_properties.persistence_cookie_name"},
	})
}

func TestSystem(t *testing.T) {
	w := newWorld()
	w.add(t, "qos-queue", "q", "parent", `{"qos_queue_identifier": 1}`)
	w.add(t, "forwarding-class", "f", "parent", `{"forwarding_class_id": 1}`)
	local := func(s string) string { return `{"linklocal_services": {"linklocal_service_entry": [` + s + `]}}` }
	entry := func(name, more string) string {
		return `{"linklocal_service_name": "` + name + `", "linklocal_service_ip": "169.254.169.254", "linklocal_service_port": 80, "ip_fabric_service_port": 8775` + more + `}`
	}
	aging := func(s string) string { return `{"flow_aging_timeout_list": {"flow_aging_timeout": [` + s + `]}}` }
	pools := func(s string) string { return `{"port_translation_pools": {"port_translation_pool": [` + s + `]}}` }
	const address = `, "ip_fabric_service_ip": "10.0.0.1"`
	const l, a, p = "linklocal_services.linklocal_service_entry", "flow_aging_timeout_list.flow_aging_timeout", "port_translation_pools.port_translation_pool"
	w.run(t, []checkCase{
		{"defaults", "global-system-config", `{"autonomous_system": 64512, "bgpaas_parameters": {"port_start": 50000, "port_end": 50512}}`, nil, ""},
		{"as", "global-system-config", `{"autonomous_system": 23456}`, nil, "autonomous_system"},
		{"no ports", "global-system-config", `{"bgpaas_parameters": {"port_end": 5}}`, nil, "bgpaas_parameters.port_start"},
		{"ports backwards", "global-system-config", `{"bgpaas_parameters": {"port_start": 9, "port_end": 5}}`, nil, "bgpaas_parameters.port_end"},
		{"range of as", "global-system-config", `{"data_center_interconnect_asn_namespace": {"asn_min": 9, "asn_max": 5}}`, nil, "data_center_interconnect_asn_namespace.asn_max"},
		{"pattern", "global-system-config", `{"user_defined_log_statistics": {"statlist": [{"name": "a", "pattern": "("}]}}`, nil, "user_defined_log_statistics.statlist[0].pattern"},
		{"statistic twice", "global-system-config", `{"user_defined_log_statistics": {"statlist": [{"name": "a", "pattern": "x"}, {"name": "a", "pattern": "y"}]}}`, nil, "user_defined_log_statistics.statlist[1]"},
		{"encapsulations", "global-vrouter-config", `{"encapsulation_priorities": {"encapsulation": ["VXLAN", "MPLSoUDP"]}}`, nil, ""},
		{"none", "global-vrouter-config", `{"encapsulation_priorities": {"encapsulation": []}}`, nil, "encapsulation_priorities.encapsulation"},
		{"twice", "global-vrouter-config", `{"encapsulation_priorities": {"encapsulation": ["VXLAN", "VXLAN"]}}`, nil, "encapsulation_priorities.encapsulation[1]"},
		{"link local", "global-vrouter-config", local(entry("metadata", address)), nil, ""},
		{"link local by name", "global-vrouter-config", local(entry("metadata", `, "ip_fabric_DNS_service_name": "nova.example.org"`)), nil, ""},
		{"link local to nobody", "global-vrouter-config", local(entry("metadata", "")), nil, l + "[0].ip_fabric_service_ip"},
		{"link local to both", "global-vrouter-config", local(entry("metadata", address+`, "ip_fabric_DNS_service_name": "x"`)), nil, l + "[0].ip_fabric_service_ip"},
		{"link local name", "global-vrouter-config", local(entry("", address)), nil, l + "[0].linklocal_service_name"},
		{"link local DNS name", "global-vrouter-config", local(entry("x", `, "ip_fabric_DNS_service_name": "a b"`)), nil, l + "[0].ip_fabric_DNS_service_name"},
		{"link local address", "global-vrouter-config", local(`{"linklocal_service_name": "x", "linklocal_service_port": 1, "ip_fabric_service_port": 1` + address + `}`), nil, l + "[0].linklocal_service_ip"},
		{"link local elsewhere", "global-vrouter-config", local(`{"linklocal_service_name": "x", "linklocal_service_ip": "10.0.0.1", "linklocal_service_port": 1, "ip_fabric_service_port": 1` + address + `}`), nil, l + "[0].linklocal_service_ip"},
		{"link local to loopback", "global-vrouter-config", local(entry("x", `, "ip_fabric_service_ip": "127.0.0.1"`)), nil, l + "[0].ip_fabric_service_ip"},
		{"link local to IPv6", "global-vrouter-config", local(entry("x", `, "ip_fabric_service_ip": "2001:db8::1"`)), nil, l + "[0].ip_fabric_service_ip"},
		{"link local port", "global-vrouter-config", local(`{"linklocal_service_name": "x", "linklocal_service_ip": "169.254.0.1", "linklocal_service_port": 0, "ip_fabric_service_port": 0` + address + `}`), nil, l + "[0].linklocal_service_port"},
		{"link local twice", "global-vrouter-config", local(entry("a", address) + "," + entry("b", address)), nil, l + "[1]"},
		{"ageing", "global-vrouter-config", aging(`{"protocol": "tcp", "port": 0, "timeout_in_seconds": 180}, {"protocol": "icmp", "timeout_in_seconds": 5}`), nil, ""},
		{"ageing twice", "global-vrouter-config", aging(`{"protocol": "tcp", "timeout_in_seconds": 1}, {"protocol": "TCP", "port": 0, "timeout_in_seconds": 2}`), nil, a + "[1]"},
		{"ageing of no protocol", "global-vrouter-config", aging(`{"protocol": "x", "timeout_in_seconds": 1}`), nil, a + "[0].protocol"},
		{"ageing of a port of icmp", "global-vrouter-config", aging(`{"protocol": "icmp", "port": 8, "timeout_in_seconds": 1}`), nil, a + "[0].port"},
		{"ageing after nothing", "global-vrouter-config", aging(`{"protocol": "tcp"}`), nil, a + "[0].timeout_in_seconds"},
		{"pools", "global-vrouter-config", pools(`{"protocol": "tcp", "port_range": {"start_port": 100, "end_port": 200}}, {"protocol": "udp", "port_count": "100"}`), nil, ""},
		{"pool of nothing", "global-vrouter-config", pools(`{"protocol": "tcp"}`), nil, p + "[0]"},
		{"pool of icmp", "global-vrouter-config", pools(`{"protocol": "icmp", "port_count": "5"}`), nil, p + "[0].protocol"},
		{"pool count", "global-vrouter-config", pools(`{"protocol": "tcp", "port_count": "many"}`), nil, p + "[0].port_count"},
		{"pool backwards", "global-vrouter-config", pools(`{"protocol": "tcp", "port_range": {"start_port": 300, "end_port": 200}}`), nil, p + "[0].port_range"},
		{"pools overlap", "global-vrouter-config", pools(`{"protocol": "tcp", "port_range": {"start_port": 100, "end_port": 200}}, {"protocol": "tcp", "port_range": {"start_port": 200, "end_port": 300}}`), nil, p + "[1].port_range"},
		{"endpoints twice", "global-vrouter-config", `{"encryption_tunnel_endpoints": {"endpoint": [{"tunnel_remote_ip_address": "10.0.0.1"}, {"tunnel_remote_ip_address": "10.0.0.1"}]}}`, nil, "encryption_tunnel_endpoints.endpoint[1]"},
		{"marks", "qos-config", `{"qos_config_type": "project", "dscp_entries": {"qos_id_forwarding_class_pair": [{"key": 63, "forwarding_class_id": 1}]}}`, nil, ""},
		{"mark too large", "qos-config", `{"mpls_exp_entries": {"qos_id_forwarding_class_pair": [{"key": 8}]}}`, nil, "mpls_exp_entries.qos_id_forwarding_class_pair[0].key"},
		{"mark twice", "qos-config", `{"vlan_priority_entries": {"qos_id_forwarding_class_pair": [{"key": 1}, {"key": 1}]}}`, nil, "vlan_priority_entries.qos_id_forwarding_class_pair[1].key"},
		{"fabric in a project", "qos-config", `{"qos_config_type": "fabric"}`, nil, "qos_config_type"},
		{"queue", "qos-queue", `{"qos_queue_identifier": 2, "min_bandwidth": 10, "max_bandwidth": 20}`, nil, ""},
		{"queue taken", "qos-queue", `{"qos_queue_identifier": 1}`, nil, "qos_queue_identifier"},
		{"queue bandwidth", "qos-queue", `{"min_bandwidth": 30, "max_bandwidth": 20}`, nil, "max_bandwidth"},
		{"class", "forwarding-class", `{"forwarding_class_id": 2}`, nil, ""},
		{"class taken", "forwarding-class", `{"forwarding_class_id": 1}`, nil, "forwarding_class_id"},
	})
}
