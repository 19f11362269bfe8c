package validate

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

// world are the other objects of a test, by what tests call them: the last
// part of the name.
type world struct {
	objects map[string]model.Object
	refs    []model.Reference
}

// Find implements Neighbours.
func (w *world) Find(kind model.Kind, uuid string) (model.Object, bool) {
	o, ok := w.objects[uuid]
	return o, ok && o.Kind() == kind
}

// ByName implements Neighbours.
func (w *world) ByName(kind model.Kind, fq []string) (model.Object, bool) {
	for _, o := range w.objects {
		if o.Kind() == kind && model.FQString(o.GetMeta().FQName) == model.FQString(fq) {
			return o, true
		}
	}
	return nil, false
}

// Children implements Neighbours.
func (w *world) Children(parent string, kind model.Kind) []model.Object {
	var list []model.Object
	for _, o := range w.objects {
		if o.Kind() == kind && o.GetMeta().ParentUUID == parent {
			list = append(list, o)
		}
	}
	return list
}

// References implements Neighbours.
func (w *world) References(from model.Entity, to model.Kind) []model.Reference {
	var list []model.Reference
	for _, r := range w.refs {
		if r.From.UUID == from.UUID && r.To.Kind == to {
			list = append(list, r)
		}
	}
	return list
}

// BackReferences implements Neighbours.
func (w *world) BackReferences(to model.Entity, from model.Kind) []model.Reference {
	var list []model.Reference
	for _, r := range w.refs {
		if r.To.UUID == to.UUID && r.From.Kind == from {
			list = append(list, r)
		}
	}
	return list
}

// add makes an object; its UUID is its name.
func (w *world) add(t *testing.T, kind, name, parent, properties string) model.Object {
	t.Helper()
	typ, ok := model.TypeOf(kind)
	if !ok {
		t.Fatalf("no type %s", kind)
	}
	o, err := typ.Decode([]byte(properties))
	if err != nil {
		t.Fatalf("%s: %v", properties, err)
	}
	fq := strings.Split(name, ":")
	*o.GetMeta() = model.Meta{UUID: fq[len(fq)-1], FQName: fq, ParentUUID: parent, ParentType: "project"}
	w.objects[o.GetMeta().UUID] = o
	return o
}

// refer makes a reference: "kind/name" and its attribute.
func (w *world) refer(from model.Object, to, attr string) {
	kind, name, _ := strings.Cut(to, "/")
	w.refs = append(w.refs, model.Reference{
		From: model.EntityOf(from), To: model.Entity{Kind: model.Kind(kind), UUID: name}, Attr: json.RawMessage(attr),
	})
}

// case is an object with its references, and where it is wrong; nowhere when
// path is empty.
type checkCase struct {
	name, kind, properties string
	refs                   []string // "kind/name attribute"
	path                   string
}

func (w *world) run(t *testing.T, cases []checkCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.kind+"/"+c.name, func(t *testing.T) {
			w := &world{w.objects, w.refs[:len(w.refs):len(w.refs)]}
			if c.properties == "" {
				c.properties = "{}"
			}
			o := w.add(t, c.kind, "d:p:subject", "parent", c.properties)
			defer delete(w.objects, "subject")
			for _, r := range c.refs {
				to, attr, _ := strings.Cut(r, " ")
				w.refer(o, to, attr)
			}
			found := Check(&Subject{Object: o, Before: func() model.Object { return nil }, Neighbours: w})
			for _, r := range w.refs {
				if r.From.UUID == "subject" {
					found = append(found, Attribute(r)...)
				}
			}
			checkFound(t, found, c.path)
		})
	}
}

func checkFound(t *testing.T, found []*model.PropertyError, path string) {
	t.Helper()
	if path == "" {
		for _, e := range found {
			t.Errorf("refused: %v", e)
		}
		return
	}
	for _, e := range found {
		if e.Want == "" {
			t.Errorf("%v does not say what to write", e)
		}
		if e.Property == path {
			return
		}
	}
	t.Errorf("want a violation of %s, got %v", path, found)
}

func newWorld() *world { return &world{objects: map[string]model.Object{}} }

func TestValues(t *testing.T) {
	pair := func(s string) string {
		return `{"virtual_machine_interface_allowed_address_pairs": {"allowed_address_pair": [` + s + `]}}`
	}
	fat := func(s string) string {
		return `{"virtual_network_fat_flow_protocols": {"fat_flow_protocol": [` + s + `]}}`
	}
	routes := func(s string) string { return `{"interface_route_table_routes": {"route": [` + s + `]}}` }
	const fatPath = "virtual_network_fat_flow_protocols.fat_flow_protocol[0]."
	const pairPath = "virtual_machine_interface_allowed_address_pairs.allowed_address_pair[0]"
	newWorld().run(t, []checkCase{
		{"prefix", "namespace", `{"namespace_cidr": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 32}}`, nil, ""},
		{"prefix too long", "namespace", `{"namespace_cidr": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 33}}`, nil, "namespace_cidr.ip_prefix_len"},
		{"prefix with zone", "namespace", `{"namespace_cidr": {"ip_prefix": "fe80::1%eth0", "ip_prefix_len": 64}}`, nil, "namespace_cidr.ip_prefix"},
		{"prefixes twice", "address-group", `{"address_group_prefix": {"subnet": [{"ip_prefix": "10.0.0.0", "ip_prefix_len": 8}, {"ip_prefix": "10.0.0.0", "ip_prefix_len": 8}]}}`, nil, "address_group_prefix.subnet[1]"},
		{"annotations twice", "namespace", `{}`, nil, ""},
		{"pair", "virtual-machine-interface", pair(`{"ip": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 24}, "address_mode": "active-standby", "mac": "02:00:00:00:00:01"}`), nil, ""},
		{"pair of a whole network", "virtual-machine-interface", pair(`{"ip": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 16}, "address_mode": "active-active"}`), nil, ""},
		{"pair without prefix", "virtual-machine-interface", pair(`{"mac": "02:00:00:00:00:01"}`), nil, pairPath + ".ip"},
		{"standby of too many", "virtual-machine-interface", pair(`{"ip": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 23}, "address_mode": "active-standby"}`), nil, pairPath + ".ip.ip_prefix_len"},
		{"standby of too many in IPv6", "virtual-machine-interface", pair(`{"ip": {"ip_prefix": "2001:db8::", "ip_prefix_len": 64}, "address_mode": "active-standby"}`), nil, pairPath + ".ip.ip_prefix_len"},
		{"pairs twice", "virtual-machine-interface", pair(`{"ip": {"ip_prefix": "10.0.0.1", "ip_prefix_len": 32}}, {"ip": {"ip_prefix": "10.0.0.1", "ip_prefix_len": 32}}`), nil, "virtual_machine_interface_allowed_address_pairs.allowed_address_pair[1]"},
		{"macs", "virtual-machine-interface", `{"virtual_machine_interface_mac_addresses": {"mac_address": ["02:00:00:00:00:01", "02:00:00:00:00:02"]}}`, nil, ""},
		{"mac twice", "virtual-machine-interface", `{"virtual_machine_interface_mac_addresses": {"mac_address": ["02:00:00:00:00:0a", "02:00:00:00:00:0A"]}}`, nil, "virtual_machine_interface_mac_addresses.mac_address[1]"},
		{"mac of a group", "virtual-machine-interface", `{"virtual_machine_interface_mac_addresses": {"mac_address": ["01:00:5e:00:00:01"]}}`, nil, "virtual_machine_interface_mac_addresses.mac_address[0]"},
		{"route", "interface-route-table", routes(`{"prefix": "10.0.0.0/8"}, {"prefix": "::/0", "next_hop": "2001:db8::1", "next_hop_type": "ip-address"}`), nil, ""},
		{"route with too many communities", "interface-route-table", routes(`{"prefix": "10.0.0.0/8", "community_attributes": {"community_attribute": [` + strings.Repeat(`"64512:1", `, 100) + `"64512:2"]}}`), nil, "interface_route_table_routes.route[0].community_attributes.community_attribute"},
		{"route without prefix", "interface-route-table", routes(`{"next_hop": "10.0.0.1"}`), nil, "interface_route_table_routes.route[0].prefix"},
		{"route of two families", "interface-route-table", routes(`{"prefix": "10.0.0.0/8", "next_hop": "2001:db8::1"}`), nil, "interface_route_table_routes.route[0].next_hop"},
		{"route to no address", "interface-route-table", routes(`{"prefix": "10.0.0.0/8", "next_hop": "x", "next_hop_type": "ip-address"}`), nil, "interface_route_table_routes.route[0].next_hop"},
		{"route to no service", "interface-route-table", routes(`{"prefix": "10.0.0.0/8", "next_hop": "x", "next_hop_type": "service-instance"}`), nil, "interface_route_table_routes.route[0].next_hop"},
		{"route twice", "interface-route-table", routes(`{"prefix": "10.0.0.0/8"}, {"prefix": "10.0.0.0/8"}`), nil, "interface_route_table_routes.route[1]"},
		{"fat flow", "virtual-network", fat(`{"protocol": "tcp", "port": 80, "source_prefix": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 8}, "source_aggregate_prefix_length": 24}`), nil, ""},
		{"fat flow of no protocol", "virtual-network", fat(`{"protocol": "tpc"}`), nil, fatPath + "protocol"},
		{"fat flow port of icmp", "virtual-network", fat(`{"protocol": "icmp", "port": 1}`), nil, fatPath + "port"},
		{"fat flow length alone", "virtual-network", fat(`{"protocol": "udp", "destination_aggregate_prefix_length": 24}`), nil, fatPath + "destination_prefix"},
		{"fat flow length outside", "virtual-network", fat(`{"protocol": "udp", "destination_prefix": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 8}, "destination_aggregate_prefix_length": 4}`), nil, fatPath + "destination_aggregate_prefix_length"},
		{"fat flow ignores its prefix", "virtual-network", fat(`{"protocol": "udp", "ignore_address": "source", "source_prefix": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 8}}`), nil, fatPath + "ignore_address"},
		{"hashing", "virtual-network", `{"ecmp_hashing_include_fields": {"hashing_configured": true, "source_ip": true}}`, nil, ""},
		{"hashing over nothing", "virtual-network", `{"ecmp_hashing_include_fields": {"hashing_configured": true, "source_ip": false, "destination_ip": false, "ip_protocol": false, "source_port": false, "destination_port": false}}`, nil, "ecmp_hashing_include_fields.hashing_configured"},
		{"option", "virtual-machine-interface", `{"virtual_machine_interface_dhcp_option_list": {"dhcp_option": [{"dhcp_option_name": "6", "dhcp_option_value": "10.0.0.2"}]}}`, nil, ""},
		{"option without name", "virtual-machine-interface", `{"virtual_machine_interface_dhcp_option_list": {"dhcp_option": [{"dhcp_option_value": "x"}]}}`, nil, "virtual_machine_interface_dhcp_option_list.dhcp_option[0].dhcp_option_name"},
		{"option number", "virtual-machine-interface", `{"virtual_machine_interface_dhcp_option_list": {"dhcp_option": [{"dhcp_option_name": "255"}]}}`, nil, "virtual_machine_interface_dhcp_option_list.dhcp_option[0].dhcp_option_name"},
		{"option bytes", "virtual-machine-interface", `{"virtual_machine_interface_dhcp_option_list": {"dhcp_option": [{"dhcp_option_name": "43", "dhcp_option_value_bytes": "1 300"}]}}`, nil, "virtual_machine_interface_dhcp_option_list.dhcp_option[0].dhcp_option_value_bytes"},
		{"pools of an attribute", "virtual-network", `{}`, []string{`network-ipam/ipam {"ipam_subnets": [{"subnet": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 24}, "allocation_pools": [{"start": "10.0.0.9", "end": "10.0.0.5"}]}]}`}, "network_ipam_refs.attr.ipam_subnets[0].allocation_pools[0].end"},
		{"timer", "virtual-network", `{}`, []string{`network-policy/np {"timer": {"start_time": "2026-01-02T00:00:00", "end_time": "2026-01-01T00:00:00"}}`}, "network_policy_refs.attr.timer.end_time"},
		{"timer without end", "virtual-network", `{}`, []string{`network-policy/np {"timer": {"start_time": "2026-01-02T00:00:00"}}`}, "network_policy_refs.attr.timer"},
		{"family", "instance-ip", `{"instance_ip_address": "10.0.0.1", "instance_ip_family": "v4"}`, nil, ""},
		{"other family", "instance-ip", `{"instance_ip_address": "10.0.0.1", "instance_ip_family": "v6"}`, nil, "instance_ip_family"},
		{"other family of an alias", "alias-ip", `{"alias_ip_address": "2001:db8::1", "alias_ip_address_family": "v4"}`, nil, "alias_ip_address_family"},
		{"mirror to nobody", "virtual-machine-interface", `{"virtual_machine_interface_properties": {"interface_mirror": {"mirror_to": {}}}}`, nil, "virtual_machine_interface_properties.interface_mirror.mirror_to.analyzer_name"},
		{"static mirror", "virtual-machine-interface", `{"virtual_machine_interface_properties": {"interface_mirror": {"mirror_to": {"analyzer_name": "a", "nh_mode": "static", "juniper_header": false}}}}`, nil, "virtual_machine_interface_properties.interface_mirror.mirror_to.static_nh_header"},
		{"mirror by nic", "virtual-machine-interface", `{"virtual_machine_interface_properties": {"interface_mirror": {"mirror_to": {"nic_assisted_mirroring": true}}}}`, nil, "virtual_machine_interface_properties.interface_mirror.mirror_to.nic_assisted_mirroring_vlan"},
	})
}
