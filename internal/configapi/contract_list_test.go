package configapi

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// A.4: every parameter of lists, in the query and in a body.
func TestContractList(t *testing.T) {
	c := newClassic(t)
	project := c.project("p")
	other := c.project("q")
	blue := c.network("p", "blue", "10.1.0.0/24")
	red := c.network("p", "red", "10.2.0.0/24")
	green := c.network("q", "green", "10.3.0.0/24")
	ipam := c.id("network-ipam", "default-domain:p:blue")
	c.do("PUT", "/virtual-network/"+red, m{"virtual-network": m{
		"is_shared": true, "perms2": m{"owner": strings.ReplaceAll(project, "-", ""), "global_access": 5},
		"annotations": m{"key_value_pair": l{m{"key": "a", "value": "x,y==z"}}},
	}})
	const nowhere = "00000000-0000-4000-8000-000000000001"
	for _, tt := range []struct {
		name   string
		params url.Values
		want   []string
	}{
		{"parent", url.Values{"parent_id": {project}}, []string{blue, red}},
		{"parents", url.Values{"parent_id": {project + "," + other}}, []string{blue, red, green}},
		{"unknown parent", url.Values{"parent_id": {nowhere}}, nil},
		{"parent by name", url.Values{"parent_fq_name_str": {"default-domain:p"}, "parent_type": {"project"}}, []string{blue, red}},
		{"parent by name alone", url.Values{"parent_fq_name_str": {"default-domain:q"}}, []string{green}},
		{"unknown parent by name", url.Values{"parent_fq_name_str": {"default-domain:none"}, "parent_type": {"project"}}, nil},
		{"parent of another type", url.Values{"parent_fq_name_str": {"default-domain:p"}, "parent_type": {"domain"}}, nil},
		{"back reference", url.Values{"back_ref_id": {ipam}}, []string{blue}},
		{"back references", url.Values{"back_ref_id": {ipam + "," + nowhere}}, []string{blue}},
		{"unknown back reference", url.Values{"back_ref_id": {nowhere}}, nil},
		{"ids", url.Values{"obj_uuids": {blue + "," + nowhere + "," + green}}, []string{blue, green}},
		{"id in upper case", url.Values{"obj_uuids": {strings.ToUpper(blue)}}, []string{blue}},
		{"id twice", url.Values{"obj_uuids": {blue + "," + blue}}, []string{blue}},
		{"no ids", url.Values{"obj_uuids": {""}}, nil},
		{"names", url.Values{"fq_names": {"default-domain:p:red,default-domain:q:green,default-domain:q:none"}}, []string{red, green}},
		{"id under a parent", url.Values{"obj_uuids": {blue + "," + green}, "parent_id": {project}}, []string{blue}},
		{"reference under a parent", url.Values{"back_ref_id": {ipam}, "parent_id": {other}}, nil},
		{"filter", url.Values{"filters": {`is_shared==true`}}, []string{red}},
		{"filter of a parent", url.Values{"filters": {`display_name=="blue"`}, "parent_id": {project}}, []string{blue}},
		{"or within a key", url.Values{"filters": {`display_name=="blue",display_name=="green"`}}, []string{blue, green}},
		{"and between keys", url.Values{"filters": {`display_name=="blue",display_name=="red",is_shared==true`}}, []string{red}},
		{"no such value", url.Values{"filters": {`is_shared=="true"`}}, nil},
		{"filter with commas", url.Values{"filters": {`annotations=={"key_value_pair": [{"value": "x,y==z", "key": "a"}]}`}}, []string{red}},
		{"filter of a name", url.Values{"filters": {`fq_name==["default-domain","p","blue"]`}}, []string{blue}},
		{"filter of nothing", url.Values{"filters": {`no_such_property==1`}}, nil},
		{"shared beside a parent", url.Values{"shared": {"True"}, "parent_id": {other}, "fq_names": {"default-domain:p:red,default-domain:p:blue,default-domain:q:green"}}, []string{red, green}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := slices.Sorted(slices.Values(tt.want))
			list := c.do("GET", "/virtual-networks?"+tt.params.Encode(), nil)["virtual-networks"].(l)
			if got := uuidsOf(list); !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
			for _, e := range list {
				if e := e.(m); len(e) != 3 || e["href"] != c.url+"/virtual-network/"+e["uuid"].(string) || e["fq_name"] == nil {
					t.Errorf("element %v", e)
				}
			}
			if n := c.do("GET", "/virtual-networks?count=true&"+tt.params.Encode(), nil)["virtual-networks"].(m)["count"]; n != float64(len(want)) {
				t.Errorf("count %v, want %d", n, len(want))
			}
			body := m{"type": "virtual-network"}
			for name, values := range tt.params {
				body[name] = values[0]
			}
			if got := uuidsOf(c.do("POST", "/list-bulk-collection", body)["virtual-networks"]); !slices.Equal(got, want) {
				t.Errorf("in bulk %v, want %v", got, want)
			}
		})
	}
	t.Run("bulk in other forms", func(t *testing.T) {
		got := c.do("POST", "/list-bulk-collection", m{"type": "virtual_network", "obj_uuids": l{blue, green}, "detail": true, "exclude_hrefs": true, "count": false, "filters": nil})
		list := got["virtual-networks"].(l)
		if len(list) != 2 || list[0].(m)["virtual-network"].(m)["network_ipam_refs"] == nil || list[0].(m)["virtual-network"].(m)["href"] != nil {
			t.Errorf("%v", got)
		}
	})
	t.Run("malformed", func(t *testing.T) {
		for _, filters := range []string{"is_shared", "is_shared=true", "is_shared==", "is_shared==yes", "==true", `display_name=="blue`, "is_shared==true,", `a=="b"c`} {
			c.fails(400, "Invalid filter", "GET", "/virtual-networks?filters="+url.QueryEscape(filters), nil)
			c.fails(400, "Invalid filter", "POST", "/list-bulk-collection", m{"type": "virtual-network", "filters": filters})
		}
		c.fails(400, "Invalid page_limit", "GET", "/virtual-networks?page_limit=x", nil)
		c.fails(400, "Invalid page_limit", "GET", "/virtual-networks?page_limit=0", nil)
		c.fails(400, "Bad Request", "POST", "/list-bulk-collection", m{"obj_uuids": ""})
		c.fails(400, "Bad Request", "POST", "/list-bulk-collection", m{"type": "virtual-network", "obj_uuids": m{}})
		c.fails(404, "Resource type 'fish' not found", "POST", "/list-bulk-collection", m{"type": "fish"})
		c.fails(404, "Resource type 'fishs' not found", "GET", "/fishs", nil)
	})
}

// A.4: what the elements of a list show.
func TestContractListElements(t *testing.T) {
	c := newClassic(t)
	c.project("p")
	blue := c.network("p", "blue", "10.1.0.0/24")
	ip := c.create("instance-ip", m{"fq_name": l{"ip"}, "virtual_network_refs": l{m{"uuid": blue}}})
	pool := c.create("floating-ip-pool", m{"fq_name": l{"default-domain", "p", "blue", "pool"}})
	one := func(query string) m {
		t.Helper()
		list := c.do("GET", "/virtual-networks?obj_uuids="+blue+"&"+query, nil)["virtual-networks"].(l)
		return list[0].(m)
	}
	full := one("detail=TRUE")["virtual-network"].(m)
	for _, field := range []string{"uuid", "name", "fq_name", "parent_type", "parent_uuid", "parent_href", "href", "id_perms", "perms2", "display_name", "virtual_network_network_id", "network_ipam_refs"} {
		if full[field] == nil {
			t.Errorf("detail has no %s", field)
		}
	}
	some := one("fields=virtual_network_network_id,network_ipam_refs,instance_ip_back_refs,floating_ip_pools,routing_instances,no_such_field")
	if some["virtual_network_network_id"] == nil || some["uuid"] != blue || some["fq_name"] == nil || some["href"] == nil {
		t.Errorf("fields %v", some)
	}
	if got := uuidsOf(some["instance_ip_back_refs"]); len(got) != 1 || got[0] != ip {
		t.Errorf("back references %v", some["instance_ip_back_refs"])
	}
	if got := uuidsOf(some["floating_ip_pools"]); len(got) != 1 || got[0] != pool {
		t.Errorf("children %v", some["floating_ip_pools"])
	}
	if got := names(some["routing_instances"]); len(got) != 1 || got[0] != "blue" {
		t.Errorf("views %v", some["routing_instances"])
	}
	if got := names(some["network_ipam_refs"]); len(got) != 1 || got[0] != "blue" {
		t.Errorf("references %v", some["network_ipam_refs"])
	}
	if some = one("fields=is_shared"); some["network_ipam_refs"] != nil || some["virtual_network_network_id"] != nil {
		t.Errorf("fields show others: %v", some)
	}
	text, err := json.Marshal(one("detail=true&exclude_hrefs"))
	if err != nil || strings.Contains(string(text), "href") {
		t.Errorf("hrefs in %s", text)
	}
}

// A.4: pages.
func TestContractPages(t *testing.T) {
	c := newClassic(t)
	var want []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		want = append(want, c.create("virtual-machine", m{"fq_name": l{name}}))
	}
	slices.Sort(want)
	for _, limit := range []string{"1", "2", "5", "7"} {
		var got []string
		for marker, pages := "", 0; pages < 7; pages++ {
			page := c.do("GET", "/virtual-machines?page_limit="+limit+"&page_marker="+marker, nil)
			got = append(got, uuidsOf(page["virtual-machines"])...)
			next, there := page["marker"]
			if !there {
				t.Fatalf("no marker in %v", page)
			}
			if next == nil {
				break
			}
			marker = next.(string)
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %s: %v, want %v", limit, got, want)
		}
	}
	if page := c.do("GET", "/virtual-machines?page_marker="+want[1], nil); !slices.Equal(uuidsOf(page["virtual-machines"]), want[2:]) {
		t.Errorf("page after a marker: %v", page)
	}
	if _, there := c.do("GET", "/virtual-machines", nil)["marker"]; there {
		t.Error("a list without pages has a marker")
	}
	page := c.do("POST", "/list-bulk-collection", m{"type": "virtual-machine", "page_limit": 2, "page_marker": want[0], "detail": true})
	if len(page["virtual-machines"].(l)) != 2 || page["marker"] != want[2] {
		t.Errorf("page in bulk %v", page)
	}
}
