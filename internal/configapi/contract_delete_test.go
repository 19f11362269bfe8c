package configapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// hrefsOf reads the list in the text of a delete conflict as clients do: as a
// literal of quoted hrefs, each ending in the type and the id.
func hrefsOf(t *testing.T, text, begin string) []string {
	t.Helper()
	list, ok := strings.CutPrefix(text, begin+": ")
	var hrefs []string
	if !ok || json.Unmarshal([]byte(strings.ReplaceAll(list, "'", `"`)), &hrefs) != nil {
		t.Fatalf("text %q", text)
	}
	for i, h := range hrefs {
		parts := strings.Split(h, "/")
		if len(parts) != 5 {
			t.Fatalf("href %q", h)
		}
		hrefs[i] = strings.Join(parts[3:], "/")
	}
	slices.Sort(hrefs)
	return hrefs
}

// A.5 and A.9: what keeps an object from being deleted, and what does not.
func TestContractDeleteRules(t *testing.T) {
	const children = "Delete when children still present"
	const referred = "Delete when resource still referred"
	c := newClassic(t)
	project := c.project("p")
	refused := func(kind, id, begin string, want ...string) {
		t.Helper()
		status, text, _ := c.send("DELETE", "/"+kind+"/"+id, nil)
		slices.Sort(want)
		if got := hrefsOf(t, text, begin); status != 409 || !slices.Equal(got, want) {
			t.Errorf("%d %v, want %v", status, got, want)
		}
	}
	blue := c.network("p", "blue", "10.1.0.0/24")
	ipam := c.id("network-ipam", "default-domain:p:blue")
	refused("project", project, children, "virtual-network/"+blue, "network-ipam/"+ipam)
	refused("network-ipam", ipam, referred, "virtual-network/"+blue)
	ip := c.create("instance-ip", m{"fq_name": l{"ip"}, "virtual_network_refs": l{m{"uuid": blue}}})
	refused("virtual-network", blue, referred, "instance-ip/"+ip)
	c.delete("instance-ip", ip)

	t.Run("default children", func(t *testing.T) {
		c := newClassic(t)
		id := c.project("d")
		vn := c.create("virtual-network", m{"fq_name": l{"default-domain", "d", "default-virtual-network"}})
		c.create("network-ipam", m{"fq_name": l{"default-domain", "d", "default-network-ipam"}})
		c.do("POST", "/ref-update", m{
			"type": "virtual-network", "uuid": vn, "ref-type": "network-ipam", "operation": "ADD",
			"ref-fq-name": l{"default-domain", "d", "default-network-ipam"}, "attr": m{"ipam_subnets": l{}},
		})
		c.delete("project", id)
		c.fails(404, "No virtual-network object found", "GET", "/virtual-network/"+vn, nil)
	})
	t.Run("default children in use", func(t *testing.T) {
		c := newClassic(t)
		id := c.project("d")
		vn := c.create("virtual-network", m{"fq_name": l{"default-domain", "d", "default-virtual-network"}})
		c.create("floating-ip-pool", m{"fq_name": l{"default-domain", "d", "default-virtual-network", "pool"}})
		c.fails(409, "Delete when children still present: ['"+c.url+"/floating-ip-pool/", "DELETE", "/project/"+id, nil)
		c.read("virtual-network", vn)
	})
	t.Run("derived", func(t *testing.T) {
		c := newClassic(t)
		c.project("d")
		vn := c.network("d", "blue", "10.1.0.0/24")
		ri := c.create("routing-instance", m{"fq_name": l{"default-domain", "d", "blue", "mine"}})
		vm := c.create("virtual-machine", m{"fq_name": l{"vm"}})
		red := c.network("d", "red", "10.1.0.0/24")
		vmi := c.create("virtual-machine-interface", m{
			"fq_name": l{"default-domain", "d", "vmi"}, "parent_type": "project", "virtual_network_refs": l{m{"uuid": red}},
			"virtual_machine_refs": l{m{"uuid": vm}}, "routing_instance_refs": l{m{"uuid": ri}, m{"to": l{"default-domain", "d", "blue", "blue"}}},
		})
		c.delete("virtual-network", vn)
		c.fails(404, "No routing-instance object found for id "+ri, "GET", "/routing-instance/"+ri, nil)
		if refs := c.read("virtual-machine-interface", vmi)["routing_instance_refs"]; refs != nil {
			t.Errorf("references %v", refs)
		}
	})
	t.Run("system networks", func(t *testing.T) {
		for _, name := range []string{"ip-fabric", "__link_local__"} {
			id := c.id("virtual-network", "default-domain:default-project:"+name)
			c.fails(409, "Can not delete system created default virtual-network "+id, "DELETE", "/virtual-network/"+id, nil)
		}
		c.delete("virtual-network", c.create("virtual-network", m{"fq_name": l{"default-domain", "p", "ip-fabric"}}))
	})
}

// Routing instances and route targets that follow from networks are there to
// read, to find and to refer to, and are not written.
func TestContractViews(t *testing.T) {
	c := newClassic(t)
	c.project("p")
	blue := c.network("p", "blue", "10.1.0.0/24")
	c.do("PUT", "/virtual-network/"+blue, m{"virtual-network": m{"import_route_target_list": m{"route_target": l{"target:1:7"}}}})
	view := c.id("routing-instance", "default-domain:p:blue:blue")
	got := c.read("routing-instance", view)
	if got["parent_uuid"] != blue || got["routing_instance_is_default"] != true || len(got["route_target_refs"].(l)) != 2 {
		t.Errorf("view %v", got)
	}
	if ids := uuidsOf(c.read("virtual-network", blue)["routing_instances"]); !slices.Equal(ids, []string{view}) {
		t.Errorf("children %v", ids)
	}
	target := c.do("POST", "/fqname-to-id", m{"type": "route-target", "fq_name": l{"target:1:7"}})["uuid"].(string)
	back := c.read("route-target", target)["routing_instance_back_refs"].(l)
	if !slices.Equal(uuidsOf(back), []string{view}) || fmt.Sprint(back[0].(m)["attr"]) != "map[import_export:import]" {
		t.Errorf("back references %v", back)
	}
	if ids := uuidsOf(c.do("GET", "/routing-instances?back_ref_id="+target, nil)["routing-instances"]); !slices.Equal(ids, []string{view}) {
		t.Errorf("by back reference %v", ids)
	}
	for _, query := range []string{"?parent_id=" + blue, "?obj_uuids=" + view, "?fq_names=default-domain:p:blue:blue", "?filters=routing_instance_is_default==true&parent_fq_name_str=default-domain:p:blue"} {
		if ids := uuidsOf(c.do("GET", "/routing-instances"+query, nil)["routing-instances"]); !slices.Equal(ids, []string{view}) {
			t.Errorf("%s: %v", query, ids)
		}
	}
	if id := c.do("POST", "/id-to-fqname", m{"uuid": view}); fmt.Sprint(id["fq_name"]) != "[default-domain p blue blue]" || id["type"] != "routing-instance" {
		t.Errorf("name of the view %v", id)
	}
	c.fails(409, "['default-domain', 'p', 'blue', 'blue'] already exists with uuid: "+view, "POST", "/routing-instances", m{"routing-instance": m{"fq_name": l{"default-domain", "p", "blue", "blue"}}})
	c.fails(409, view+" already exists with fq_name: ", "POST", "/virtual-machines", m{"virtual-machine": m{"fq_name": l{"x"}, "uuid": view}})
	c.fails(409, "['target:1:7'] already exists with uuid: "+target, "POST", "/route-targets", m{"route-target": m{"fq_name": l{"target:1:7"}}})
	c.fails(403, "", "DELETE", "/routing-instance/"+view, nil)
	c.fails(403, "", "PUT", "/routing-instance/"+view, m{"routing-instance": m{"routing_instance_is_default": false}})
	c.fails(403, "", "PUT", "/routing-instance/"+view, m{"routing-instance": m{"route_target_refs": l{}}})
	c.fails(403, "", "POST", "/ref-update", m{"type": "routing-instance", "uuid": view, "ref-type": "route-target", "ref-uuid": target, "operation": "DELETE"})
	c.do("PUT", "/routing-instance/"+view, m{"routing-instance": got}) // what was read may be sent back

	t.Run("overlay", func(t *testing.T) {
		mine := c.create("routing-instance", m{"fq_name": l{"default-domain", "p", "blue", "mine"}})
		c.do("POST", "/ref-update", m{"type": "routing-instance", "uuid": view, "ref-type": "routing-instance", "ref-uuid": mine, "operation": "ADD", "attr": m{}})
		if ids := uuidsOf(c.read("routing-instance", view)["routing_instance_refs"]); !slices.Equal(ids, []string{mine}) {
			t.Errorf("references %v", ids)
		}
		if ids := uuidsOf(c.read("routing-instance", mine)["routing_instance_back_refs"]); !slices.Equal(ids, []string{view}) {
			t.Errorf("back references %v", ids)
		}
		// By the reference it has that one's target as well.
		connected := c.read("routing-instance", view)["route_target_refs"].(l)
		if len(connected) != 3 {
			t.Errorf("references %v", connected)
		}
		other := c.create("route-target", m{"fq_name": l{"target:1:9"}})
		put := func(to string) m {
			return m{"routing-instance": m{"route_target_refs": append(slices.Clone(connected), m{"to": l{to}})}}
		}
		c.fails(400, "Configured route target must use ASN that is different from global ASN", "PUT", "/routing-instance/"+view, put("target:64512:8000001"))
		c.do("PUT", "/routing-instance/"+view, put("target:1:9"))
		if refs := c.read("routing-instance", view)["route_target_refs"].(l); len(refs) != 4 {
			t.Errorf("references %v", refs)
		}
		c.do("PUT", "/routing-instance/"+view, m{"routing-instance": m{"routing_instance_refs": nil, "route_target_refs": connected}})
		if again := c.read("routing-instance", view); again["routing_instance_refs"] != nil || len(again["route_target_refs"].(l)) != 2 {
			t.Errorf("references %v", again)
		}
		c.delete("route-target", other)
	})
	t.Run("parent", func(t *testing.T) {
		router := c.create("bgp-router", m{"fq_name": l{"default-domain", "p", "blue", "blue", "r"}})
		if ids := uuidsOf(c.read("routing-instance", view)["bgp_routers"]); !slices.Equal(ids, []string{router}) {
			t.Errorf("children %v", ids)
		}
		if parent := c.read("bgp-router", router); parent["parent_uuid"] != view || parent["parent_href"] != c.url+"/routing-instance/"+view {
			t.Errorf("parent %v", parent)
		}
		c.fails(409, "Delete when children still present: ['"+c.url+"/bgp-router/"+router+"']", "DELETE", "/virtual-network/"+blue, nil)
		c.delete("bgp-router", router)
	})
	t.Run("target that is referred to stays", func(t *testing.T) {
		router := c.create("logical-router", m{"fq_name": l{"default-domain", "p", "lr"}, "route_target_refs": l{m{"uuid": target}}})
		c.do("PUT", "/virtual-network/"+blue, m{"virtual-network": m{"import_route_target_list": nil}})
		if ids := uuidsOf(c.read("logical-router", router)["route_target_refs"]); !slices.Equal(ids, []string{target}) {
			t.Errorf("references %v", ids)
		}
		c.read("route-target", target)
		c.delete("logical-router", router)
		c.delete("route-target", target)
	})
	c.delete("virtual-network", blue)
	c.fails(404, "No routing-instance object found", "GET", "/routing-instance/"+view, nil)
}
