package configapi

import (
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A.2: replies to create, read, update and delete.
func TestContractEnvelopes(t *testing.T) {
	c := newClassic(t)
	project := c.project("p")
	c.create("network-ipam", m{"fq_name": l{"default-domain", "p", "pods"}})
	made := c.do("POST", "/virtual-networks", m{"virtual-network": m{
		"parent_type": "project", "fq_name": l{"default-domain", "p", "blue"}, "virtual_network_properties": m{"forwarding_mode": "l3"},
		"network_ipam_refs": l{m{"to": l{"default-domain", "p", "pods"}, "attr": m{"ipam_subnets": l{}}}},
	}})["virtual-network"].(m)
	id := made["uuid"].(string)
	want := m{
		"name": "blue", "fq_name": l{"default-domain", "p", "blue"}, "uuid": id, "href": c.url + "/virtual-network/" + id,
		"parent_type": "project", "parent_uuid": project, "parent_href": c.url + "/project/" + project,
	}
	if !reflect.DeepEqual(made, want) {
		t.Errorf("created %v, want %v", made, want)
	}
	const chosen = "11111111-2222-4333-8444-555555555555"
	vm := c.do("POST", "/virtual-machines", m{"virtual-machine": m{"fq_name": l{"vm"}, "uuid": strings.ToUpper(chosen)}})["virtual-machine"].(m)
	if vm["uuid"] != chosen || len(vm) != 4 {
		t.Errorf("created at the top %v", vm)
	}
	got := c.read("virtual-network", id)
	for _, field := range []string{"uuid", "name", "fq_name", "parent_type", "parent_uuid", "parent_href", "href", "id_perms", "perms2", "display_name", "virtual_network_properties", "network_ipam_refs", "routing_instances"} {
		if got[field] == nil {
			t.Errorf("read has no %s", field)
		}
	}
	ref := got["network_ipam_refs"].(l)[0].(m)
	if len(ref) != 4 || ref["href"] != c.url+"/network-ipam/"+ref["uuid"].(string) || ref["attr"] == nil {
		t.Errorf("reference %v", ref)
	}
	child := got["routing_instances"].(l)[0].(m)
	if len(child) != 3 || child["to"] == nil || child["uuid"] == nil || child["href"] == nil {
		t.Errorf("child %v", child)
	}
	back := c.read("network-ipam", ref["uuid"].(string))["virtual_network_back_refs"].(l)
	if len(back) != 1 || back[0].(m)["uuid"] != id || back[0].(m)["href"] != c.url+"/virtual-network/"+id {
		t.Errorf("back references %v", back)
	}
	if p := c.read("project", project); !slices.Equal(uuidsOf(p["virtual_networks"]), []string{id}) {
		t.Errorf("children %v", p["virtual_networks"])
	}
	read := func(query string) m {
		t.Helper()
		return c.do("GET", "/virtual-network/"+id+"?"+query, nil)["virtual-network"].(m)
	}
	if p := read("exclude_children"); p["routing_instances"] != nil || p["network_ipam_refs"] == nil {
		t.Errorf("without children %v", p)
	}
	if p := c.do("GET", "/network-ipam/"+ref["uuid"].(string)+"?exclude_back_refs=anything", nil)["network-ipam"].(m); p["virtual_network_back_refs"] != nil {
		t.Errorf("without back references %v", p)
	}
	_, text, _ := c.send("GET", "/virtual-network/"+id+"?exclude_hrefs", nil)
	if strings.Contains(text, "href") {
		t.Errorf("without hrefs %s", text)
	}
	some := read("fields=virtual_network_properties,routing_instances")
	if some["id_perms"] == nil || some["perms2"] == nil || some["virtual_network_properties"] == nil || some["routing_instances"] == nil || some["network_ipam_refs"] != nil {
		t.Errorf("fields %v", some)
	}

	t.Run("update", func(t *testing.T) {
		answer := c.do("PUT", "/virtual-network/"+id, m{"virtual-network": m{"is_shared": true, "virtual_network_properties": m{"rpf": "enable"}}})["virtual-network"]
		if !reflect.DeepEqual(answer, m{"uuid": id, "href": c.url + "/virtual-network/" + id}) {
			t.Errorf("answer %v", answer)
		}
		now := c.read("virtual-network", id)
		if !reflect.DeepEqual(now["virtual_network_properties"], m{"rpf": "enable"}) || now["is_shared"] != true || now["network_ipam_refs"] == nil {
			t.Errorf("merged %v", now)
		}
		policy := c.create("network-policy", m{"fq_name": l{"default-domain", "p", "one"}})
		other := c.create("network-policy", m{"fq_name": l{"default-domain", "p", "two"}})
		c.do("PUT", "/virtual-network/"+id, m{"virtual-network": m{"network_policy_refs": l{m{"uuid": policy, "attr": m{"sequence": m{"major": 1, "minor": 0}}}}}})
		c.do("PUT", "/virtual-network/"+id, m{"virtual-network": m{"network_policy_refs": l{m{"to": l{"default-domain", "p", "two"}}}, "is_shared": nil}})
		now = c.read("virtual-network", id)
		if !slices.Equal(uuidsOf(now["network_policy_refs"]), []string{other}) || now["is_shared"] != nil || now["network_ipam_refs"] == nil {
			t.Errorf("replaced list %v", now)
		}
		c.do("PUT", "/virtual-network/"+id, m{"virtual-network": m{"network_policy_refs": nil}})
		c.do("PUT", "/virtual-network/"+id, m{"virtual-network": m{"network_policy_refs": l{}}})
		if now = c.read("virtual-network", id); now["network_policy_refs"] != nil {
			t.Errorf("cleared list %v", now)
		}
		if status, text, _ := c.send("PUT", "/virtual-network/"+id, nil); status != 200 || text != "" {
			t.Errorf("empty body: %d %q", status, text)
		}
		// A.9: what was read is sent back whole, with a change.
		now["display_name"] = "Blue"
		c.do("PUT", "/virtual-network/"+id, m{"virtual-network": now})
		if again := c.read("virtual-network", id); again["display_name"] != "Blue" || !reflect.DeepEqual(again["network_ipam_refs"], now["network_ipam_refs"]) {
			t.Errorf("sent back whole %v", again)
		}
	})
	t.Run("etag", func(t *testing.T) {
		status, _, header := c.send("GET", "/virtual-network/"+id, nil)
		tag := header.Get("ETag")
		if modified := c.read("virtual-network", id)["id_perms"].(m)["last_modified"]; status != 200 || tag != fmt.Sprintf("%q", modified) {
			t.Errorf("ETag %s, last modified %v", tag, modified)
		}
		again := func(tag string) (int, int64) {
			r, err := http.NewRequest("GET", c.url+"/virtual-network/"+id, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("If-None-Match", tag)
			resp, err := c.http.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			return resp.StatusCode, resp.ContentLength
		}
		if status, length := again(tag); status != 304 || length > 0 {
			t.Errorf("unchanged: %d with %d bytes", status, length)
		}
		if status, _ := again(`"other"`); status != 200 {
			t.Errorf("another tag: %d", status)
		}
		c.do("PUT", "/virtual-network/"+id, m{"virtual-network": m{"is_shared": true}})
		if status, _ := again(tag); status != 200 {
			t.Errorf("changed: %d", status)
		}
	})
	c.delete("virtual-network", id)
}

var isoTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?$`)

// A.3: what every object has.
func TestContractCommonFields(t *testing.T) {
	c := newClassic(t)
	project := c.project("p")
	tenant := strings.ReplaceAll(project, "-", "")
	vn := c.create("virtual-network", m{"fq_name": l{"default-domain", "p", "blue"}, "id_perms": m{"enable": false, "description": "mine", "creator": "me", "user_visible": true, "created": "2001-01-01T00:00:00"}})
	perms := c.read("virtual-network", vn)["id_perms"].(m)
	numbers := perms["uuid"].(m)
	if numbers["uuid_mslong"] == nil || numbers["uuid_lslong"] == nil || perms["enable"] != false || perms["description"] != "mine" || perms["user_visible"] != true {
		t.Errorf("id_perms %v", perms)
	}
	if created := perms["created"].(string); !isoTime.MatchString(created) || strings.HasPrefix(created, "2001") || perms["last_modified"] != created {
		t.Errorf("dates %v", perms)
	}
	if want := (m{"owner": "cloud-admin", "owner_access": 7.0, "group": "cloud-admin-group", "group_access": 7.0, "other_access": 7.0}); !reflect.DeepEqual(perms["permissions"], want) {
		t.Errorf("permissions %v", perms["permissions"])
	}
	c.do("PUT", "/virtual-network/"+vn, m{"virtual-network": m{"id_perms": m{"enable": true, "description": "yours", "user_visible": true}}})
	now := c.read("virtual-network", vn)["id_perms"].(m)
	if now["enable"] != true || now["description"] != "yours" || now["created"] != perms["created"] || now["last_modified"] == perms["last_modified"] || !reflect.DeepEqual(now["uuid"], numbers) {
		t.Errorf("updated id_perms %v, were %v", now, perms)
	}
	// Ownership: a project is its own, what is below it is the project's, the rest is the administrator's.
	owner := func(kind, id string) any { return c.read(kind, id)["perms2"].(m)["owner"] }
	if owner("project", project) != tenant || owner("virtual-network", vn) != tenant {
		t.Errorf("owners %v %v, want %s", owner("project", project), owner("virtual-network", vn), tenant)
	}
	dns := c.create("virtual-DNS", m{"fq_name": l{"default-domain", "dns"}, "virtual_DNS_data": m{"domain_name": "example.test", "default_ttl_seconds": 60, "record_order": "random"}})
	if owner("virtual-DNS", dns) != "cloud-admin" {
		t.Errorf("owner of a child of a domain %v", owner("virtual-DNS", dns))
	}
	p := c.read("virtual-network", vn)["perms2"].(m)
	if p["owner_access"] != 7.0 || p["global_access"] != 0.0 {
		t.Errorf("perms2 %v", p)
	}
	share := l{m{"tenant": "tenant:" + project, "tenant_access": 5.0}}
	c.do("PUT", "/virtual-network/"+vn, m{"virtual-network": m{"perms2": m{"owner": tenant, "global_access": 5, "share": share}}})
	if p = c.read("virtual-network", vn)["perms2"].(m); p["global_access"] != 5.0 || !reflect.DeepEqual(p["share"], share) || p["owner"] != tenant {
		t.Errorf("perms2 %v", p)
	}
	c.fails(400, "", "PUT", "/virtual-network/"+vn, m{"virtual-network": m{"perms2": m{"global_access": 7}}})

	t.Run("names", func(t *testing.T) {
		long := strings.Repeat("x", 256)
		for _, name := range []string{"a:b", "a\x01b", "a\x0bb", "\x1f", "a\ufffe", ""} {
			c.fails(400, "Bad Request", "POST", "/virtual-machines", m{"virtual-machine": m{"fq_name": l{name}}})
		}
		c.fails(400, "Bad Request", "POST", "/virtual-machines", m{"virtual-machine": m{"fq_name": l{long}}})
		for _, name := range []string{"a:b", "a\x01b"} {
			c.fails(400, "Bad Request, name has one of invalid chars", "POST", "/virtual-machines", m{"virtual-machine": m{"fq_name": l{name}}})
		}
		for _, name := range []string{"a b", "ä", "a/b", "a%b", "a'b", `a"b`, "<a>&"} {
			id := c.create("virtual-machine", m{"fq_name": l{name}})
			if got := c.read("virtual-machine", id); got["name"] != name || got["display_name"] != name {
				t.Errorf("%q is %v", name, got["name"])
			}
			if c.do("POST", "/fqname-to-id", m{"type": "virtual-machine", "fq_name": l{name}})["uuid"] != id {
				t.Errorf("%q is not found", name)
			}
		}
		c.create("route-target", m{"fq_name": l{"target:65000:8100001"}})
	})
	t.Run("display name", func(t *testing.T) {
		id := c.create("virtual-machine", m{"fq_name": l{"vm"}, "display_name": "Machine"})
		if got := c.read("virtual-machine", id)["display_name"]; got != "Machine" {
			t.Errorf("display_name %v", got)
		}
	})
	t.Run("parent type", func(t *testing.T) {
		c.create("network-ipam", m{"fq_name": l{"default-domain", "p", "ipam"}}) // one type only
		c.fails(400, "Missing parent type", "POST", "/virtual-machine-interfaces", m{"virtual-machine-interface": m{"fq_name": l{"default-domain", "p", "vmi"}}})
		c.create("virtual-machine", m{"fq_name": l{"top"}, "parent_type": "config-root"})
	})
}

// A.5: each status with the text that begins it.
func TestContractErrors(t *testing.T) {
	c := newClassic(t)
	c.project("p")
	vn := c.network("p", "blue", "10.1.0.0/29")
	bare := c.create("virtual-network", m{"fq_name": l{"default-domain", "p", "bare"}})
	ip := c.create("instance-ip", m{"fq_name": l{"ip"}, "virtual_network_refs": l{m{"uuid": vn}}})
	taken := c.read("instance-ip", ip)["instance_ip_address"].(string)
	const nowhere = "00000000-0000-4000-8000-000000000001"
	network := func(more m) m {
		fields := m{"fq_name": l{"default-domain", "p", "n"}, "parent_type": "project"}
		for k, v := range more {
			fields[k] = v
		}
		return m{"virtual-network": fields}
	}
	address := func(vn string, more m) m {
		fields := m{"fq_name": l{"i"}, "virtual_network_refs": l{m{"uuid": vn}}}
		for k, v := range more {
			fields[k] = v
		}
		return m{"instance-ip": fields}
	}
	for _, tt := range []struct {
		status             int
		text, method, path string
		body               any
	}{
		{400, "Bad Request, no fq_name in POST body", "POST", "/virtual-networks", m{"virtual-network": m{}}},
		{400, "Bad Request, no fq_name in POST body", "POST", "/virtual-networks", m{"virtual-network": m{"fq_name": nil, "display_name": "x"}}},
		{400, "Bad Request, name has one of invalid chars", "POST", "/virtual-networks", network(m{"fq_name": l{"default-domain", "p", "a:b"}})},
		{400, "Parent ['default-domain', 'none'] type project does not exist", "POST", "/virtual-networks", network(m{"fq_name": l{"default-domain", "none", "n"}})},
		{400, "Invalid parent type: domain. Allowed types: ['project']", "POST", "/virtual-networks", network(m{"parent_type": "domain"})},
		{400, "Missing parent type: ", "POST", "/virtual-machine-interfaces", m{"virtual-machine-interface": m{"fq_name": l{"default-domain", "p", "v"}}}},
		{400, "Invalid fq-name of an object with no parent: ['a', 'b']", "POST", "/virtual-machines", m{"virtual-machine": m{"fq_name": l{"a", "b"}}}},
		{400, "Bad property in create: ", "POST", "/virtual-networks", network(m{"is_shared": "yes"})},
		{400, "Bad property in create: ", "POST", "/virtual-networks", network(m{"virtual_network_properties": m{"rpf": "maybe"}})},
		{400, "Bad property in http_put: ", "PUT", "/virtual-network/" + vn, m{"virtual-network": m{"is_shared": "yes"}}},
		{400, "Bad reference in create: ", "POST", "/virtual-networks", network(m{"network_policy_refs": l{m{"to": l{"x", "y", "z"}}}})},
		{400, "Bad reference in create: ", "POST", "/virtual-networks", network(m{"network_policy_refs": l{m{"to": l{"default-domain", "p", "n"}, "attr": m{"fish": 1}}}})},
		{400, "Unknown reference in resource create {", "POST", "/virtual-networks", network(m{"fish_refs": l{}})},
		{400, "Invalid UUID format: x", "POST", "/virtual-networks", network(m{"uuid": "x"})},
		{400, "Virtual-Network(default-domain:p:bare) has no defined subnets", "POST", "/instance-ips", address(bare, nil)},
		{400, "Virtual-Network(default-domain:p:blue) has invalid subnet(", "POST", "/instance-ips", address(vn, m{"subnet_uuid": nowhere})},
		{400, "Virtual-Network(default-domain:p:blue) has invalid subnet(", "POST", "/instance-ips", address(vn, m{"instance_ip_address": "10.9.0.1"})},
		{400, "Gateway IP cannot be used by VM port", "POST", "/instance-ips", address(vn, m{"instance_ip_address": "10.1.0.1"})},
		{400, "Instance IP Address can not be changed", "PUT", "/instance-ip/" + ip, m{"instance-ip": m{"instance_ip_address": "10.1.0.6"}}},
		{403, "Cannot set the virtual network ID", "POST", "/virtual-networks", network(m{"virtual_network_network_id": 7})},
		{403, "Cannot set the virtual network ID", "PUT", "/virtual-network/" + vn, m{"virtual-network": m{"virtual_network_network_id": 7}}},
		{403, "Cannot set the security group ID", "POST", "/security-groups", m{"security-group": m{"fq_name": l{"default-domain", "p", "g"}, "security_group_id": 8000005}}},
		{404, "No virtual-network object found for id " + nowhere, "GET", "/virtual-network/" + nowhere, nil},
		{404, "No virtual-network object found for id " + nowhere, "PUT", "/virtual-network/" + nowhere, m{"virtual-network": m{"is_shared": true}}},
		{404, "No virtual-network object found for id " + nowhere, "DELETE", "/virtual-network/" + nowhere, nil},
		{404, "No virtual-machine object found for id " + vn, "GET", "/virtual-machine/" + vn, nil},
		{404, "Resource type 'fishs' not found", "GET", "/fishs", nil},
		{404, "Resource type 'fish' not found", "GET", "/fish/" + nowhere, nil},
		{404, "Resource type 'fishs' not found", "POST", "/fishs", m{"fish": m{"fq_name": l{"x"}}}},
		{409, "['default-domain', 'p', 'blue'] already exists with uuid: " + vn, "POST", "/virtual-networks", network(m{"fq_name": l{"default-domain", "p", "blue"}})},
		{409, vn + " already exists with fq_name: ['default-domain', 'p', 'blue']", "POST", "/virtual-networks", network(m{"uuid": vn})},
		{409, ip + " already exists with fq_name: ['ip']", "POST", "/virtual-networks", network(m{"uuid": ip})},
		{409, "IP address already in use", "POST", "/instance-ips", address(vn, m{"instance_ip_address": taken})},
		{413, "", "POST", "/virtual-networks", network(m{"display_name": strings.Repeat("x", 1_024_000)})},
	} {
		c.fails(tt.status, tt.text, tt.method, tt.path, tt.body)
	}
	for range 6 { // a /29 has few addresses
		status, text, _ := c.send("POST", "/instance-ips", address(vn, m{"fq_name": l{fmt.Sprint("i", len(c.do("GET", "/instance-ips", nil)["instance-ips"].(l)))}}))
		if status == 200 {
			continue
		}
		if status != 400 || !strings.HasPrefix(text, "Virtual-Network(default-domain:p:blue) has exhausted subnet(") {
			t.Errorf("exhausted: %d %q", status, text)
		}
		return
	}
	t.Error("a /29 does not run out of addresses")
}
