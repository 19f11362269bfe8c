package configapi

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// portsOf are the numbers of a service's references, by interface.
func (b *bench) portsOf(service string) map[string]uint32 {
	ports := map[string]uint32{}
	b.api.graph.View(func(v *model.View) {
		for r := range v.ReferenceSeq(service, model.KindVirtualMachineInterface) {
			ports[r.To.UUID] = r.Number
		}
	})
	return ports
}

const bgpKeys = "number/bgp-as-a-service/"

// TestBGPServicePorts: each interface of a service has a port from the range for
// as long as the service refers to it, whoever ends that and how.
func TestBGPServicePorts(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	one, two := b.attach(request(node, "c1", "blue")), b.attach(request(node, "c2", "blue"))
	system := b.json("POST", "/fqname-to-id", `{"type": "global-system-config", "fq_name": ["default-global-system-config"]}`)["uuid"].(string)
	ports := func(first, last int) string {
		return fmt.Sprintf(`{"global-system-config": {"bgpaas_parameters": {"port_start": %d, "port_end": %d}}}`, first, last)
	}
	service := func(name, interfaces string) string {
		return fmt.Sprintf(`{"bgp-as-a-service": {"fq_name": ["default-domain", "mesos-default", %q], "parent_type": "project", "autonomous_system": 65001,
			"virtual_machine_interface_refs": [%s]}}`, name, interfaces)
	}
	to := func(id string) string { return fmt.Sprintf(`{"uuid": %q}`, id) }
	create := func(name, interfaces string) string {
		out := b.json("POST", "/bgp-as-a-services", service(name, interfaces))
		return out["bgp-as-a-service"].(map[string]any)["uuid"].(string)
	}
	first := create("first", to(one.InterfaceId))
	if got := b.portsOf(first); got[one.InterfaceId] != 50000 {
		t.Errorf("ports %v", got)
	}
	b.refer("bgp-as-a-service", first, "virtual-machine-interface", two.InterfaceId, "null")
	want := b.portsOf(first)
	if want[two.InterfaceId] != 50001 {
		t.Errorf("ports %v", want)
	}
	b.noneOf(bgpKeys, 2)
	b.fits()

	// Whoever writes the references again, the ports stay.
	b.json("PUT", "/bgp-as-a-service/"+first, fmt.Sprintf(`{"bgp-as-a-service": {"autonomous_system": 65002, "virtual_machine_interface_refs": [%s, %s]}}`, to(two.InterfaceId), to(one.InterfaceId)))
	b.json("POST", "/ref-relax-for-delete", fmt.Sprintf(`{"uuid": %q, "ref-uuid": %q}`, first, two.InterfaceId))
	if got := b.portsOf(first); !maps.Equal(got, want) {
		t.Errorf("ports %v, want %v", got, want)
	}

	// The range cannot leave out what is in use, nor give what it has not.
	b.refused(400, "BGP Port range cannot be shrunk to 50001-50512: port 50000 is that of bgp-as-a-service default-domain:mesos-default:first", "PUT", "/global-system-config/"+system, ports(50001, 50512))
	b.json("PUT", "/global-system-config/"+system, ports(49999, 50001))
	other := create("other", to(one.InterfaceId))
	if got := b.portsOf(other); got[one.InterfaceId] != 49999 {
		t.Errorf("ports %v", got)
	}
	b.refused(400, "raise bgpaas_parameters.port_end", "POST", "/bgp-as-a-services", service("third", to(two.InterfaceId)))

	// They end with the reference, the interface and the service.
	b.json("PUT", "/bgp-as-a-service/"+other, `{"bgp-as-a-service": {"virtual_machine_interface_refs": []}}`)
	b.noneOf(bgpKeys, 2)
	b.refer("bgp-as-a-service", other, "virtual-machine-interface", one.InterfaceId, "null")
	b.noneOf(bgpKeys, 3)
	b.detach(one.Key)
	b.noneOf(bgpKeys, 1)
	b.fits()
	b.json("DELETE", "/bgp-as-a-service/"+first, "")
	b.json("DELETE", "/bgp-as-a-service/"+other, "")
	b.noneOf(bgpKeys, 0)
	b.fits()
}

// TestBGPServiceDamage: `db check` finds ports that nobody has, and those that are
// not in use.
func TestBGPServiceDamage(t *testing.T) {
	b := newBench(t, testConfig())
	one := b.attach(request(b.join(1), "c1", "blue"))
	id := b.create("bgp-as-a-service", fmt.Sprintf(`{"fq_name": ["default-domain", "mesos-default", "s"], "parent_type": "project", "autonomous_system": 65001,
		"virtual_machine_interface_refs": [{"uuid": %q}]}`, one.InterfaceId))
	b.fits()
	b.damage(func(txn *store.Txn) {
		txn.Delete(store.NumberKey(bgpServices, 50000))
		txn.Put(store.NumberKey(bgpServices, 50007), []byte(id))
	})
	var found []string
	for _, f := range b.findings() {
		found = append(found, fmt.Sprint(f))
	}
	text := strings.Join(found, "\n")
	if len(found) != 2 || !strings.Contains(text, "its number 50000 is not in use") || !strings.Contains(text, "none of whose interfaces has it") {
		t.Errorf("found %s", text)
	}
}

// TestBGPServiceRouters: the routers at both ends of sessions are shown as classic
// clients know them, and cannot be changed.
func TestBGPServiceRouters(t *testing.T) {
	b := newBench(t, testConfig())
	one := b.attach(request(b.join(1), "c1", "blue"))
	id := b.create("bgp-as-a-service", fmt.Sprintf(`{"fq_name": ["default-domain", "mesos-default", "s"], "parent_type": "project", "autonomous_system": 65001,
		"bgpaas_session_attributes": {"hold_time": 30}, "virtual_machine_interface_refs": [{"uuid": %q}]}`, one.InterfaceId))
	clients := b.uuids("bgp-as-a-service", id, "bgp_router_refs")
	if len(clients) != 1 || !compile.IsBGPServiceView(clients[0]) {
		t.Fatalf("the service has the routers %v", clients)
	}
	client := b.get("bgp-router", clients[0])
	p := client["bgp_router_parameters"].(map[string]any)
	gateway := p["gateway_address"].(string)
	if p["router_type"] != "bgpaas-client" || p["autonomous_system"] != 65001.0 || p["source_port"] != 50000.0 || p["address"] != one.Addresses[0].GetAddress() || gateway == "" || p["hold_time"] != 30.0 {
		t.Errorf("client is %v, of %v", p, one.Addresses)
	}
	if got := b.uuids("bgp-router", clients[0], "bgp_as_a_service_back_refs"); len(got) != 1 || got[0] != id {
		t.Errorf("it follows from %v", got)
	}
	servers := b.uuids("bgp-router", clients[0], "bgp_router_refs")
	if len(servers) != 1 {
		t.Fatalf("its peers are %v", servers)
	}
	server := b.get("bgp-router", servers[0])
	if p := server["bgp_router_parameters"].(map[string]any); p["router_type"] != "bgpaas-server" || p["autonomous_system"] != 64512.0 {
		t.Errorf("server is %v", p)
	}
	if got := b.uuids("bgp-router", servers[0], "bgp_router_back_refs"); len(got) != 1 || got[0] != clients[0] {
		t.Errorf("the server's peers are %v", got)
	}
	instance := client["parent_uuid"].(string)
	if got := b.uuids("routing-instance", instance, "bgp_routers"); len(got) != 2 {
		t.Errorf("the instance has the routers %v", got)
	}
	name := fqName(client)
	parts := strings.Split(name, ":")
	found := b.json("POST", "/fqname-to-id", fmt.Sprintf(`{"type": "bgp-router", "fq_name": ["%s"]}`, strings.Join(parts, `", "`)))
	if found["uuid"] != clients[0] || parts[len(parts)-1] != "c1-eth0" {
		t.Errorf("%s is %v", name, found)
	}
	if list := b.json("GET", "/bgp-routers?parent_id="+instance, "")["bgp-routers"].([]any); len(list) != 2 {
		t.Errorf("listed below the instance: %v", list)
	}
	b.denies("PUT", "/bgp-router/"+clients[0], `{"bgp-router": {"bgp_router_parameters": {"autonomous_system": 1}}}`, 403, "")
	b.denies("DELETE", "/bgp-router/"+clients[0], "", 403, "")
	b.json("DELETE", "/bgp-as-a-service/"+id, "")
	b.noneOf("obj/bgp-", 0)
	b.fits()
	b.denies("GET", "/bgp-router/"+clients[0], "", 404, "")
}
