package configapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/model"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// call sends one request and returns status, text and headers.
func (b *bench) call(method, path, body string) (int, string, http.Header) {
	b.Helper()
	r := httptest.NewRequest(method, "http://api:8082"+path, strings.NewReader(body)).WithContext(b.ctx())
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w.Code, w.Body.String(), w.Header()
}

// json sends a request that must succeed.
func (b *bench) json(method, path, body string) map[string]any {
	b.Helper()
	status, text, header := b.call(method, path, body)
	if status != http.StatusOK {
		b.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	if header.Get(positionHeader) == "" {
		b.Errorf("%s %s: no position", method, path)
	}
	if text == "" {
		return nil
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		b.Fatalf("%s %s: %v in %s", method, path, err, text)
	}
	return out
}

// create makes an object and returns its UUID.
func (b *bench) create(kind, properties string) string {
	b.Helper()
	out := b.json("POST", "/"+kind+"s", fmt.Sprintf(`{%q: %s}`, kind, properties))
	return out[kind].(map[string]any)["uuid"].(string)
}

// get reads an object.
func (b *bench) get(kind, id string) map[string]any {
	b.Helper()
	return b.json("GET", "/"+kind+"/"+id, "")[kind].(map[string]any)
}

const subnetBlue = `{"ipam_subnets": [{"subnet": {"ip_prefix": "10.1.0.0", "ip_prefix_len": 24}, "addr_from_start": true}]}`

// network makes a project, an IPAM and a network with a subnet.
func (b *bench) network() string {
	b.Helper()
	b.create("project", `{"fq_name": ["default-domain", "p"]}`)
	b.create("network-ipam", `{"fq_name": ["default-domain", "p", "ipam"]}`)
	return b.create("virtual-network", `{"fq_name": ["default-domain", "p", "blue"], "parent_type": "project",
		"network_ipam_refs": [{"to": ["default-domain", "p", "ipam"], "attr": `+subnetBlue+`}]}`)
}

func TestCreateReadUpdateDelete(t *testing.T) {
	b := newBench(t, testConfig())
	vn := b.network()
	out := b.get("virtual-network", vn)
	for _, field := range []string{
		"name", "fq_name", "uuid", "href", "parent_type", "parent_uuid", "parent_href", "id_perms", "perms2",
		"display_name", "virtual_network_network_id", "network_ipam_refs", "routing_instances",
	} {
		if out[field] == nil {
			t.Errorf("network has no %s", field)
		}
	}
	if out["href"] != "http://api:8082/virtual-network/"+vn {
		t.Errorf("href %v", out["href"])
	}
	ref := out["network_ipam_refs"].([]any)[0].(map[string]any)
	subnet := ref["attr"].(map[string]any)["ipam_subnets"].([]any)[0].(map[string]any)
	if subnet["default_gateway"] != "10.1.0.1" || subnet["dns_server_address"] != "10.1.0.2" || subnet["subnet_uuid"] == nil {
		t.Errorf("subnet %v", subnet)
	}

	// The derived objects are there to read and to find.
	instance := out["routing_instances"].([]any)[0].(map[string]any)["uuid"].(string)
	ri := b.get("routing-instance", instance)
	if ri["parent_uuid"] != vn || len(ri["route_target_refs"].([]any)) != 1 {
		t.Errorf("routing instance %v", ri)
	}
	target := ri["route_target_refs"].([]any)[0].(map[string]any)["to"].([]any)[0].(string)
	if want := fmt.Sprintf("target:64512:%d", 8_000_000+int(out["virtual_network_network_id"].(float64))); target != want {
		t.Errorf("route target %s, want %s", target, want)
	}
	found := b.json("POST", "/fqname-to-id", `{"type": "routing-instance", "fq_name": ["default-domain", "p", "blue", "blue"]}`)
	if found["uuid"] != instance {
		t.Errorf("routing instance is found as %v", found)
	}
	if list := b.json("GET", "/routing-instances?parent_id="+vn, "")["routing-instances"].([]any); len(list) != 1 {
		t.Errorf("children of the network: %v", list)
	}
	b.json("POST", "/fqname-to-id", fmt.Sprintf(`{"type": "route-target", "fq_name": [%q]}`, target))

	// A fetched object can be sent back whole; only what changes changes.
	whole, err := json.Marshal(map[string]any{"virtual-network": out})
	if err != nil {
		t.Fatal(err)
	}
	b.json("PUT", "/virtual-network/"+vn, string(whole))
	b.json("PUT", "/virtual-network/"+vn, `{"virtual-network": {"display_name": "Blue", "is_shared": true}}`)
	again := b.get("virtual-network", vn)
	if again["display_name"] != "Blue" || again["is_shared"] != true || again["network_ipam_refs"] == nil {
		t.Errorf("after update %v", again)
	}
	if old, now := out["id_perms"].(map[string]any), again["id_perms"].(map[string]any); old["created"] != now["created"] || old["last_modified"] == now["last_modified"] {
		t.Errorf("id_perms %v became %v", old, now)
	}
	b.json("PUT", "/virtual-network/"+vn, `{"virtual-network": {"is_shared": null}}`)
	if again = b.get("virtual-network", vn); again["is_shared"] != nil {
		t.Errorf("is_shared is %v after null", again["is_shared"])
	}

	id := b.json("POST", "/id-to-fqname", fmt.Sprintf(`{"uuid": %q}`, vn))
	if id["type"] != "virtual-network" || fmt.Sprint(id["fq_name"]) != "[default-domain p blue]" {
		t.Errorf("id-to-fqname answers %v", id)
	}
	if status, text, _ := b.call("DELETE", "/virtual-network/"+vn, ""); status != 200 || text != "" {
		t.Errorf("delete: %d %q", status, text)
	}
	if status, _, _ := b.call("GET", "/virtual-network/"+vn, ""); status != 404 {
		t.Errorf("read after delete: %d", status)
	}
}

func TestETag(t *testing.T) {
	b := newBench(t, testConfig())
	vn := b.network()
	_, _, header := b.call("GET", "/virtual-network/"+vn, "")
	r := httptest.NewRequest("GET", "/virtual-network/"+vn, nil).WithContext(b.ctx())
	r.Header.Set("If-None-Match", header.Get("ETag"))
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	if w.Code != http.StatusNotModified {
		t.Errorf("status %d, want 304", w.Code)
	}
}

func TestErrors(t *testing.T) {
	b := newBench(t, testConfig())
	vn := b.network()
	project := b.get("virtual-network", vn)["parent_uuid"].(string)
	vm := b.create("virtual-machine", `{"fq_name": ["vm"]}`)
	ip := b.create("instance-ip", fmt.Sprintf(`{"fq_name": ["ip"], "virtual_network_refs": [{"uuid": %q}]}`, vn))
	nowhere := model.NewUUID()
	before := b.dump()
	tests := []struct {
		name, method, path, body string
		status                   int
		text                     string
	}{
		{"no name", "POST", "/virtual-networks", `{"virtual-network": {}}`, 400, "Bad Request, no fq_name in POST body"},
		{"no envelope", "POST", "/virtual-networks", `{"fq_name": []}`, 400, "Bad Request"},
		{"no JSON", "POST", "/virtual-networks", `{`, 400, "Bad Request"},
		{"colon", "POST", "/virtual-machines", `{"virtual-machine": {"fq_name": ["a:b"]}}`, 400, "name has one of invalid chars"},
		{"control", "POST", "/virtual-machines", `{"virtual-machine": {"fq_name": ["a\u0001"]}}`, 400, "name has one of invalid chars"},
		{"no parent", "POST", "/virtual-networks", `{"virtual-network": {"fq_name": ["default-domain", "none", "n"]}}`, 400, "Parent ['default-domain', 'none'] type project does not exist"},
		{"wrong parent", "POST", "/virtual-networks", `{"virtual-network": {"fq_name": ["default-domain", "n"], "parent_type": "domain"}}`, 400, "Invalid parent type: domain. Allowed types: ['project']"},
		{"missing parent type", "POST", "/security-groups", `{"security-group": {"fq_name": ["x"]}}`, 400, "no part that names the parent"},
		{"which parent", "POST", "/virtual-machine-interfaces", `{"virtual-machine-interface": {"fq_name": ["default-domain", "p", "i"]}}`, 400, "Missing parent type"},
		{"top with parent", "POST", "/virtual-machines", `{"virtual-machine": {"fq_name": ["a", "b"]}}`, 400, "Invalid fq-name of an object with no parent: ['a', 'b']"},
		{"bad property", "POST", "/virtual-networks", `{"virtual-network": {"fq_name": ["default-domain", "p", "n"], "is_shared": 3}}`, 400, "Bad property in create: is_shared"},
		{"unknown property", "POST", "/virtual-networks", `{"virtual-network": {"fq_name": ["default-domain", "p", "n"], "fish": 3}}`, 400, "Bad property in create: fish"},
		{"bad reference", "POST", "/virtual-networks", `{"virtual-network": {"fq_name": ["default-domain", "p", "n"], "network_policy_refs": [{"to": ["x"]}]}}`, 400, "Bad reference in create"},
		{"empty reference", "POST", "/virtual-networks", `{"virtual-network": {"fq_name": ["default-domain", "p", "n"], "network_policy_refs": [{}]}}`, 400, "Bad reference in create"},
		{"unknown reference", "POST", "/virtual-networks", `{"virtual-network": {"fq_name": ["default-domain", "p", "n"], "fish_refs": []}}`, 400, "Unknown reference in resource create {fish_refs}"},
		{"bad uuid", "POST", "/virtual-machines", `{"virtual-machine": {"fq_name": ["x"], "uuid": "1"}}`, 400, "Invalid UUID format: 1"},
		{"duplicate name", "POST", "/virtual-machines", `{"virtual-machine": {"fq_name": ["vm"]}}`, 409, "['vm'] already exists with uuid: " + vm},
		{"duplicate uuid", "POST", "/virtual-machines", fmt.Sprintf(`{"virtual-machine": {"fq_name": ["x"], "uuid": %q}}`, vm), 409, vm + " already exists with fq_name: ['vm']"},
		{"network id", "POST", "/virtual-networks", `{"virtual-network": {"fq_name": ["default-domain", "p", "n"], "virtual_network_network_id": 7}}`, 403, "Cannot set the virtual network ID"},
		{"overlapping subnets", "POST", "/virtual-networks", `{"virtual-network": {"fq_name": ["default-domain", "p", "n"], "network_ipam_refs": [{"to": ["default-domain", "p", "ipam"],
			"attr": {"ipam_subnets": [{"subnet": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 8}}, {"subnet": {"ip_prefix": "10.1.0.0", "ip_prefix_len": 16}}]}}]}}`, 400, "overlaps"},
		{"no subnets", "POST", "/instance-ips", `{"instance-ip": {"fq_name": ["i"], "virtual_network_refs": [{"to": ["default-domain", "default-project", "default-virtual-network"]}]}}`, 400, "Virtual-Network(default-domain:default-project:default-virtual-network) has no defined subnets"},
		{"no network", "POST", "/instance-ips", `{"instance-ip": {"fq_name": ["i"]}}`, 400, "virtual_network_refs"},
		{"gateway", "POST", "/instance-ips", fmt.Sprintf(`{"instance-ip": {"fq_name": ["i"], "instance_ip_address": "10.1.0.1", "virtual_network_refs": [{"uuid": %q}]}}`, vn), 400, "Gateway IP cannot be used by VM port"},
		{"outside", "POST", "/instance-ips", fmt.Sprintf(`{"instance-ip": {"fq_name": ["i"], "instance_ip_address": "10.2.0.1", "virtual_network_refs": [{"uuid": %q}]}}`, vn), 400, "has invalid subnet(10.2.0.1)"},
		{"in use", "POST", "/instance-ips", fmt.Sprintf(`{"instance-ip": {"fq_name": ["i"], "instance_ip_address": "10.1.0.3", "virtual_network_refs": [{"uuid": %q}]}}`, vn), 409, "IP address already in use"},
		{"change address", "PUT", "/instance-ip/" + ip, `{"instance-ip": {"instance_ip_address": "10.1.0.9"}}`, 400, "Instance IP Address can not be changed"},
		{"change name", "PUT", "/virtual-network/" + vn, `{"virtual-network": {"fq_name": ["a"]}}`, 400, "fq_name can not be changed"},
		{"perms2", "PUT", "/virtual-network/" + vn, `{"virtual-network": {"perms2": {"owner_access": 7}}}`, 400, "perms2"},
		{"bad update", "PUT", "/virtual-network/" + vn, `{"virtual-network": {"is_shared": "yes"}}`, 400, "Bad property in http_put: is_shared"},
		{"take subnet away", "PUT", "/virtual-network/" + vn, `{"virtual-network": {"network_ipam_refs": []}}`, 409, "is in use"},
		{"unknown read", "GET", "/virtual-network/" + nowhere, "", 404, "No virtual-network object found for id " + nowhere},
		{"unknown update", "PUT", "/virtual-network/" + nowhere, `{"virtual-network": {"is_shared": true}}`, 404, "No virtual-network object found"},
		{"unknown delete", "DELETE", "/virtual-network/" + nowhere, "", 404, "No virtual-network object found"},
		{"other type", "GET", "/virtual-machine/" + vn, "", 404, "No virtual-machine object found"},
		{"unknown type", "GET", "/fishs", "", 404, "Resource type 'fishs' not found"},
		{"unknown name", "POST", "/fqname-to-id", `{"type": "project", "fq_name": ["a", "b"]}`, 404, "Name ['a', 'b'] not found"},
		{"unknown id", "POST", "/id-to-fqname", fmt.Sprintf(`{"uuid": %q}`, nowhere), 404, "UUID " + nowhere + " not found"},
		{"children", "DELETE", "/project/" + project, "", 409, "Delete when children still present: ['http://api:8082/network-ipam/"},
		{"referred", "DELETE", "/virtual-network/" + vn, "", 409, "Delete when resource still referred: ['http://api:8082/instance-ip/" + ip + "']"},
		{"ref operation", "POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "network-ipam", "ref-uuid": %q, "operation": "x"}`, vn, vn), 400, "Bad Request: operation should be add or delete: x"},
		{"ref target", "POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "network-ipam", "operation": "ADD"}`, vn), 400, "ref-uuid or ref-fq-name must be specified"},
		{"ref from nowhere", "POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "network-ipam", "ref-uuid": %q, "operation": "ADD"}`, nowhere, vn), 404, "found"},
		{"ref to nowhere", "POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "network-policy", "ref-uuid": %q, "operation": "ADD"}`, vn, nowhere), 404, "not found"},
		{"ref of no kind", "POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "virtual-machine", "ref-uuid": %q, "operation": "ADD"}`, vn, vm), 400, "no references"},
		{"filter", "GET", "/virtual-networks?filters=is_shared", "", 400, "Invalid filter"},
		{"large", "POST", "/virtual-machines", `{"virtual-machine": {"fq_name": ["` + strings.Repeat("x", maxBody) + `"]}}`, 413, "1024000"},
		{"method", "PATCH", "/virtual-network/" + vn, "", 405, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, text, header := b.call(tt.method, tt.path, tt.body)
			if status != tt.status || !strings.Contains(text, tt.text) {
				t.Errorf("%d %q, want %d and %q", status, text, tt.status, tt.text)
			}
			if kind := header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain") {
				t.Errorf("content type %q", kind)
			}
		})
	}
	for _, name := range []string{fabricNetwork, linkLocalNetwork} {
		id := b.json("POST", "/fqname-to-id", fmt.Sprintf(`{"type": "virtual-network", "fq_name": ["default-domain", "default-project", %q]}`, name))["uuid"].(string)
		if status, text, _ := b.call("DELETE", "/virtual-network/"+id, ""); status != 409 || text != "Can not delete system created default virtual-network "+id {
			t.Errorf("delete %s: %d %q", name, status, text)
		}
	}
	after := b.dump()
	for k, v := range after {
		if before[k] != v {
			t.Errorf("refused requests changed %s", k)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d keys after, %d before", len(after), len(before))
	}
}

func TestList(t *testing.T) {
	b := newBench(t, testConfig())
	vn := b.network()
	project := b.get("virtual-network", vn)["parent_uuid"].(string)
	ipam := b.get("virtual-network", vn)["network_ipam_refs"].([]any)[0].(map[string]any)["uuid"].(string)
	b.json("PUT", "/virtual-network/"+vn, `{"virtual-network": {"is_shared": true, "annotations": {"key_value_pair": [{"key": "a", "value": "x,y"}]}}}`)
	tests := []struct {
		query string
		count int
	}{
		{"", 5},
		{"?parent_id=" + project, 1},
		{"?parent_id=" + project + "," + vn, 1},
		{"?parent_id=" + model.NewUUID(), 0},
		{"?obj_uuids=" + vn + "," + model.NewUUID(), 1},
		{"?back_ref_id=" + ipam, 1},
		{"?fq_names=default-domain:p:blue", 1},
		{"?filters=is_shared==true", 1},
		{"?filters=is_shared==false", 0},
		{"?filters=is_shared==true,is_shared==false,display_name==%22blue%22", 1},
		{`?filters=annotations=={"key_value_pair":[{"key":"a","value":"x,y"}]}`, 1},
		{"?page_limit=2", 2},
	}
	for _, tt := range tests {
		path := strings.NewReplacer(`"`, "%22", "{", "%7B", "}", "%7D").Replace("/virtual-networks" + tt.query)
		list := b.json("GET", path, "")["virtual-networks"].([]any)
		if len(list) != tt.count {
			t.Errorf("%s: %d networks, want %d", tt.query, len(list), tt.count)
		}
		for _, e := range list {
			if m := e.(map[string]any); m["uuid"] == nil || m["fq_name"] == nil || m["href"] == nil || len(m) != 3 {
				t.Errorf("%s: element %v", tt.query, m)
			}
		}
	}
	if n := b.json("GET", "/virtual-networks?count=True", "")["virtual-networks"].(map[string]any)["count"]; n != 5.0 {
		t.Errorf("count %v", n)
	}
	detail := b.json("GET", "/virtual-networks?detail=True&obj_uuids="+vn, "")["virtual-networks"].([]any)[0].(map[string]any)
	if m := detail["virtual-network"].(map[string]any); m["network_ipam_refs"] == nil || m["display_name"] != "blue" {
		t.Errorf("detail %v", m)
	}
	some := b.json("GET", "/virtual-networks?fields=is_shared,routing_instances&obj_uuids="+vn, "")["virtual-networks"].([]any)[0].(map[string]any)
	if some["is_shared"] != true || some["routing_instances"] == nil || some["network_ipam_refs"] != nil || some["uuid"] != vn || some["href"] == nil {
		t.Errorf("fields %v", some)
	}
	var all []string
	for marker := ""; ; {
		page := b.json("GET", "/virtual-networks?page_limit=2&page_marker="+marker, "")
		for _, e := range page["virtual-networks"].([]any) {
			all = append(all, e.(map[string]any)["uuid"].(string))
		}
		if page["marker"] == nil {
			break
		}
		marker = page["marker"].(string)
	}
	if len(all) != 5 || len(slices.Compact(slices.Sorted(slices.Values(all)))) != 5 {
		t.Errorf("pages have %v", all)
	}
}

// The classic sequence of calls gives what an attachment gives.
func TestClassicSequence(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	vn := b.network()
	before := b.dump()
	vm := b.create("virtual-machine", `{"fq_name": ["vm"]}`)
	vmi := b.create("virtual-machine-interface", fmt.Sprintf(`{"fq_name": ["default-domain", "p", "vmi"], "parent_type": "project", "uuid": "753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a",
		"virtual_network_refs": [{"uuid": %q}], "virtual_machine_refs": [{"uuid": %q}]}`, vn, vm))
	ip := b.create("instance-ip", fmt.Sprintf(`{"fq_name": ["ip"], "virtual_network_refs": [{"uuid": %q}], "virtual_machine_interface_refs": [{"uuid": %q}]}`, vn, vmi))
	if got := b.get("instance-ip", ip); got["instance_ip_address"] != "10.1.0.3" || got["subnet_uuid"] == nil {
		t.Errorf("instance-ip %v", got)
	}
	macs := b.get("virtual-machine-interface", vmi)["virtual_machine_interface_mac_addresses"].(map[string]any)
	if fmt.Sprint(macs["mac_address"]) != "[02:75:3a:65:ef:91]" {
		t.Errorf("mac %v", macs)
	}
	update := func(operation string) {
		b.json("POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-router", "uuid": %q, "ref-type": "virtual-machine", "ref-uuid": %q, "ref-fq-name": ["vm"], "operation": %q, "attr": null}`, node, vm, operation))
	}
	binding := func(id string) (got model.Binding, ok bool) {
		b.api.graph.View(func(v *model.View) { got, ok = v.Binding(id) })
		return got, ok
	}
	update("ADD")
	update("ADD")
	if got, ok := binding(vmi); !ok || got.Node != node || got.Label != 16 || got.Machine != vm {
		t.Errorf("binding %+v %v", got, ok)
	}
	list := b.json("GET", "/inventory", "")
	if n := len(list["attachments"].([]any)); n != 1 {
		t.Errorf("%d attachments", n)
	}
	// An interface that comes later is bound too.
	late := b.create("virtual-machine-interface", fmt.Sprintf(`{"fq_name": ["default-domain", "p", "late"], "parent_type": "project",
		"virtual_network_refs": [{"uuid": %q}], "virtual_machine_refs": [{"uuid": %q}]}`, vn, vm))
	if got, ok := binding(late); !ok || got.Label != 17 {
		t.Errorf("late binding %+v %v", got, ok)
	}
	if status, text, _ := b.call("DELETE", "/virtual-machine-interface/"+vmi, ""); status != 409 {
		t.Errorf("delete an interface with an address: %d %s", status, text)
	}
	update("DELETE")
	update("DELETE")
	if _, ok := binding(vmi); ok {
		t.Error("still bound")
	}
	for _, path := range []string{"/instance-ip/" + ip, "/virtual-machine-interface/" + vmi, "/virtual-machine-interface/" + late, "/virtual-machine/" + vm} {
		b.json("DELETE", path, "")
	}
	for k := range b.dump() {
		if _, ok := before[k]; !ok {
			t.Errorf("left behind: %s", k)
		}
	}
	// The address rests.
	ip = b.create("instance-ip", fmt.Sprintf(`{"fq_name": ["ip"], "virtual_network_refs": [{"uuid": %q}]}`, vn))
	if got := b.get("instance-ip", ip); got["instance_ip_address"] != "10.1.0.4" {
		t.Errorf("second address %v", got["instance_ip_address"])
	}
}

func TestTouchedNetworkStays(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	a := b.attach(request(node, "a", "blue"))
	b.json("PUT", "/virtual-network/"+a.NetworkId, `{"virtual-network": {"is_shared": true}}`)
	b.detach(a.Key)
	b.get("virtual-network", a.NetworkId)
	if again := b.attach(request(node, "b", "blue")); again.NetworkId != a.NetworkId {
		t.Errorf("network %s became %s", a.NetworkId, again.NetworkId)
	}
}

func TestWithoutRights(t *testing.T) {
	b := newBench(t, testConfig())
	for _, path := range []string{"/", "/virtual-networks", "/metrics", "/inventory"} {
		r := httptest.NewRequest("GET", path, nil).WithContext(as(ctls.RoleNode, model.NewUUID()))
		w := httptest.NewRecorder()
		b.handler.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("GET %s by a node: %d", path, w.Code)
		}
	}
	if status, text, _ := b.call("GET", "/metrics", ""); status != 200 || !strings.Contains(text, "contrail_config_early_reuse_total") {
		t.Errorf("metrics: %d %s", status, text)
	}
}

// A client changes parts of an attachment in the classic way; the detach that
// follows still leaves nothing.
func TestDetachAfterClassicChanges(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	before := b.dump()
	update := func(a *configv1.Attachment, operation string) {
		b.json("POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-router", "uuid": %q, "ref-type": "virtual-machine", "ref-uuid": %q, "operation": %q}`, node, a.VirtualMachineId, operation))
	}
	tests := map[string]func(a *configv1.Attachment){
		"taken off its node": func(a *configv1.Attachment) { update(a, "DELETE") },
		"taken off and put back": func(a *configv1.Attachment) {
			update(a, "DELETE")
			update(a, "ADD")
		},
		"without its address": func(a *configv1.Attachment) {
			b.json("DELETE", "/instance-ip/"+a.Addresses[0].InstanceIpId, "")
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			a := b.attach(request(node, containerID(), "blue"))
			change(a)
			if _, err := b.api.attach(b.ctx(), request(node, a.Key.ContainerId, "blue")); code(err) != connect.CodeAlreadyExists {
				t.Errorf("attach again: %v", err)
			}
			if !b.detach(a.Key) {
				t.Error("detach found nothing")
			}
			if vn, ok := networkOf(b, a); ok {
				b.json("DELETE", "/virtual-network/"+vn.UUID, "")
				t.Errorf("network stays")
			}
		})
	}
	for k := range b.dump() {
		if _, ok := before[k]; !ok {
			t.Errorf("left behind: %s", k)
		}
	}
}

func networkOf(b *bench, a *configv1.Attachment) (vn *model.VirtualNetwork, ok bool) {
	b.api.graph.View(func(v *model.View) { vn, ok = model.Get[*model.VirtualNetwork](v, a.NetworkId) })
	return vn, ok
}
