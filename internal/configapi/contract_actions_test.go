package configapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

// A.1 and A.9: the homepage names the root, every type twice, and the actions
// under the names that client libraries look for.
func TestContractHomepage(t *testing.T) {
	c := newClassic(t)
	page := c.do("GET", "/", nil)
	if page["href"] != c.url {
		t.Errorf("href %v", page["href"])
	}
	byRel := map[string]map[string]string{}
	for _, e := range page["links"].(l) {
		link := e.(m)["link"].(m)
		rel, name, method := link["rel"].(string), link["name"].(string), link["method"].(string)
		if byRel[rel] == nil {
			byRel[rel] = map[string]string{}
		}
		if name == "aaa-mode" { // to read and to set
			name = method + " " + name
		}
		if byRel[rel][name] != "" {
			t.Errorf("%s %s is there twice", rel, name)
		}
		byRel[rel][name] = method + " " + strings.TrimPrefix(link["href"].(string), c.url)
	}
	for _, typ := range model.Types() {
		kind := string(typ.Kind)
		if kind == "config-root" {
			continue
		}
		if got := byRel["collection"][kind]; got != "GET /"+kind+"s" {
			t.Errorf("collection of %s: %q", kind, got)
		}
		if got := byRel["resource-base"][kind]; got != "GET /"+kind {
			t.Errorf("resource-base of %s: %q", kind, got)
		}
		if list := c.do("GET", "/"+kind+"s", nil)[kind+"s"]; list == nil {
			t.Errorf("no list of %s", kind)
		}
	}
	if got := byRel["documentation"]["documentation"]; got != "GET /openapi.json" || c.do("GET", "/openapi.json", nil)["paths"] == nil {
		t.Errorf("documentation: %q", got)
	}
	if got := byRel["root"]["config-root"]; got != "GET /config-root" {
		t.Errorf("root: %q", got)
	}
	for name, want := range map[string]string{
		"name-to-id": "POST /fqname-to-id", "id-to-name": "POST /id-to-fqname", "ref-update": "POST /ref-update",
		"ref-relax-for-delete": "POST /ref-relax-for-delete", "list-bulk-collection": "POST /list-bulk-collection",
		"prop-collection-get": "GET /prop-collection-get", "prop-collection-update": "POST /prop-collection-update",
		"useragent-keyvalue": "POST /useragent-kv", "set-tag": "POST /set-tag",
		"obj-perms": "GET /obj-perms", "chown": "POST /chown", "chmod": "POST /chmod", "GET aaa-mode": "GET /aaa-mode", "PUT aaa-mode": "PUT /aaa-mode",
	} {
		if got := byRel["action"][name]; got != want {
			t.Errorf("action %s: %q, want %q", name, got, want)
		}
	}
	if root := c.do("GET", "/config-root", nil); len(root["links"].(l)) < 10 {
		t.Errorf("config-root %v", root)
	}
}

// A.1: names and ids.
func TestContractNames(t *testing.T) {
	c := newClassic(t)
	project := c.project("p")
	for _, kind := range []string{"project"} {
		if got := c.do("POST", "/fqname-to-id", m{"type": kind, "fq_name": l{"default-domain", "p"}}); got["uuid"] != project {
			t.Errorf("%s: %v", kind, got)
		}
	}
	if got := c.do("POST", "/id-to-fqname", m{"uuid": project}); fmt.Sprint(got["fq_name"]) != "[default-domain p]" || got["type"] != "project" {
		t.Errorf("%v", got)
	}
	const nowhere = "00000000-0000-4000-8000-000000000001"
	c.fails(404, "Name ['default-domain', 'q'] not found", "POST", "/fqname-to-id", m{"type": "project", "fq_name": l{"default-domain", "q"}})
	c.fails(404, "Resource type 'fish' not found", "POST", "/fqname-to-id", m{"type": "fish", "fq_name": l{"x"}})
	c.fails(404, "UUID "+nowhere+" not found", "POST", "/id-to-fqname", m{"uuid": nowhere})
	c.fails(400, "Invalid UUID format: x", "POST", "/id-to-fqname", m{"uuid": "x"})
}

// A.6: single references.
func TestContractRefUpdate(t *testing.T) {
	c := newClassic(t)
	c.project("p")
	vn := c.network("p", "blue", "10.1.0.0/24")
	policy := c.create("network-policy", m{"fq_name": l{"default-domain", "p", "policy"}})
	change := func(extra m) m {
		q := m{"type": "virtual-network", "uuid": vn, "ref-type": "network-policy", "ref-uuid": policy, "ref-fq-name": l{"default-domain", "p", "policy"}, "operation": "ADD", "attr": nil}
		for k, v := range extra {
			q[k] = v
		}
		return q
	}
	refs := func() l {
		list, _ := c.read("virtual-network", vn)["network_policy_refs"].(l)
		return list
	}
	before := c.read("virtual-network", vn)["id_perms"].(m)["last_modified"]
	if got := c.do("POST", "/ref-update", change(nil)); got["uuid"] != vn {
		t.Errorf("answer %v", got)
	}
	if got := refs(); len(got) != 1 || got[0].(m)["attr"] != nil || got[0].(m)["href"] != c.url+"/network-policy/"+policy || fmt.Sprint(got[0].(m)["to"]) != "[default-domain p policy]" {
		t.Errorf("references %v", got)
	}
	if c.read("virtual-network", vn)["id_perms"].(m)["last_modified"] == before {
		t.Error("a new reference leaves the date of the object")
	}
	c.do("POST", "/ref-update", change(m{"attr": m{"sequence": m{"major": 1, "minor": 2}}}))
	if got := refs(); len(got) != 1 || fmt.Sprint(got[0].(m)["attr"]) != "map[sequence:map[major:1 minor:2]]" {
		t.Errorf("references %v", got)
	}
	c.do("POST", "/ref-update", change(m{"operation": "DELETE"}))
	c.do("POST", "/ref-update", change(m{"operation": "DELETE"}))
	if got := refs(); len(got) != 0 {
		t.Errorf("references %v", got)
	}
	c.do("POST", "/ref-update", change(m{"ref-uuid": nil}))
	if got := refs(); len(got) != 1 {
		t.Errorf("references %v", got)
	}
	const nowhere = "00000000-0000-4000-8000-000000000001"
	c.fails(404, "", "POST", "/ref-update", change(m{"uuid": nowhere}))
	c.fails(404, "", "POST", "/ref-update", change(m{"ref-uuid": nowhere}))
	c.fails(400, "Bad Request: operation should be add or delete: SET", "POST", "/ref-update", change(m{"operation": "SET"}))
	c.fails(400, "Bad Request: ref-uuid or ref-fq-name must be specified", "POST", "/ref-update", change(m{"ref-uuid": nil, "ref-fq-name": nil}))

	t.Run("relaxed", func(t *testing.T) {
		c.fails(409, "Delete when resource still referred: ['"+c.url+"/virtual-network/"+vn+"']", "DELETE", "/network-policy/"+policy, nil)
		if got := c.do("POST", "/ref-relax-for-delete", m{"uuid": vn, "ref-uuid": policy}); got["uuid"] != vn {
			t.Errorf("answer %v", got)
		}
		c.do("POST", "/ref-relax-for-delete", m{"uuid": vn, "ref-uuid": policy})
		c.delete("network-policy", policy)
		if got := refs(); len(got) != 0 {
			t.Errorf("references %v", got)
		}
		c.fails(404, "", "POST", "/ref-relax-for-delete", m{"uuid": vn, "ref-uuid": policy})
		c.fails(404, "", "POST", "/ref-relax-for-delete", m{"uuid": nowhere, "ref-uuid": vn})
		c.fails(400, "Invalid UUID format: x", "POST", "/ref-relax-for-delete", m{"uuid": "x", "ref-uuid": vn})
		second := c.create("network-policy", m{"fq_name": l{"default-domain", "p", "second"}})
		c.do("POST", "/ref-update", change(m{"ref-uuid": second, "ref-fq-name": nil, "relax_ref_for_delete": true}))
		c.delete("network-policy", second)
	})
	t.Run("concurrent", func(t *testing.T) {
		var group sync.WaitGroup
		for i := range 10 {
			id := c.create("network-policy", m{"fq_name": l{"default-domain", "p", fmt.Sprint(i)}})
			group.Go(func() { c.do("POST", "/ref-update", change(m{"ref-uuid": id, "ref-fq-name": nil})) })
		}
		group.Wait()
		if got := refs(); len(got) != 10 {
			t.Errorf("%d references of 10", len(got))
		}
	})
}

// A.1: what clients keep for themselves.
func TestContractUserAgent(t *testing.T) {
	c := newClassic(t)
	do := func(q m) string {
		t.Helper()
		status, text, _ := c.send("POST", "/useragent-kv", q)
		if status != 200 {
			t.Fatalf("%v: %d %s", q, status, text)
		}
		return text
	}
	do(m{"operation": "STORE", "key": "b/c d", "value": "2"})
	do(m{"operation": "STORE", "key": "a", "value": "1"})
	do(m{"operation": "STORE", "key": "a", "value": `{"x": 1}`})
	if got := c.do("POST", "/useragent-kv", m{"operation": "RETRIEVE", "key": "a"}); got["value"] != `{"x": 1}` {
		t.Errorf("%v", got)
	}
	var list []struct{ Key, Value string }
	if err := json.Unmarshal([]byte(do(m{"operation": "RETRIEVE", "key": nil})), &list); err != nil || len(list) != 2 || list[0].Key != "a" || list[1].Key != "b/c d" || list[1].Value != "2" {
		t.Errorf("%v %v", list, err)
	}
	do(m{"operation": "DELETE", "key": "a"})
	do(m{"operation": "DELETE", "key": "a"})
	c.fails(404, "Unknown User-Agent key a", "POST", "/useragent-kv", m{"operation": "RETRIEVE", "key": "a"})
	c.fails(400, "Bad Request", "POST", "/useragent-kv", m{"operation": "FISH", "key": "a"})
	c.fails(400, "Bad Request", "POST", "/useragent-kv", m{"operation": "STORE", "key": "", "value": "1"})
	c.fails(400, "Bad Request", "POST", "/useragent-kv", m{"operation": "STORE", "key": "a", "value": strings.Repeat("x", 20_000)})
	c.fails(400, "Bad Request", "POST", "/useragent-kv", m{"operation": "STORE", "key": strings.Repeat("x", 600), "value": "1"})
}

// A.7: tags by type and value.
func TestContractSetTag(t *testing.T) {
	c := newClassic(t)
	project := c.project("p")
	vn := c.network("p", "blue", "10.1.0.0/24")
	tag := func(typ, value string, global bool) string {
		fields := m{"tag_type_name": typ, "tag_value": value, "fq_name": l{typ + "=" + value}}
		if !global {
			fields["fq_name"], fields["parent_type"] = l{"default-domain", "p", typ + "=" + value}, "project"
		}
		return c.create("tag", fields)
	}
	hr := tag("application", "hr", true)
	shop := tag("application", "shop", false)
	tag("tier", "web", false)
	for _, value := range []string{"a", "b", "c"} {
		tag("label", value, false)
	}
	tags := func() []string {
		got := names(c.read("virtual-network", vn)["tag_refs"])
		slices.Sort(got)
		return got
	}
	for _, tt := range []struct {
		name string
		q    m
		want []string
	}{
		{"global and of the project", m{"application": m{"is_global": true, "value": "hr"}, "label": m{"is_global": false, "add_values": l{"a", "b"}}, "tier": m{"value": "web"}}, []string{"application=hr", "label=a", "label=b", "tier=web"}},
		{"again", m{"application": m{"is_global": true, "value": "hr"}, "label": m{"add_values": l{"a", "a"}}}, []string{"application=hr", "label=a", "label=b", "tier=web"}},
		{"another value, labels in and out, none of a type", m{"application": m{"value": "shop"}, "label": m{"add_values": l{"c"}, "delete_values": l{"b", "none"}}, "tier": nil}, []string{"application=shop", "label=a", "label=c"}},
		{"one label", m{"label": m{"value": "b"}}, []string{"application=shop", "label=a", "label=b", "label=c"}},
		{"no labels", m{"label": nil}, []string{"application=shop"}},
	} {
		tt.q["obj_type"], tt.q["obj_uuid"] = "virtual_network", vn
		if got := c.do("POST", "/set-tag", tt.q); len(got) != 0 {
			t.Errorf("%s: answer %v", tt.name, got)
		}
		if got := tags(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	on := func(q m) m {
		q["obj_type"], q["obj_uuid"] = "virtual-network", vn
		return q
	}
	c.fails(404, "Tag with FQName ['default-domain', 'p', 'application=none'] not found", "POST", "/set-tag", on(m{"application": m{"value": "none"}}))
	c.fails(404, "Tag with FQName ['application=shop'] not found", "POST", "/set-tag", on(m{"application": m{"is_global": true, "value": "shop"}, "label": m{"add_values": l{"a"}}}))
	c.fails(400, "", "POST", "/set-tag", on(m{"application": m{"add_values": l{"hr"}}}))
	c.fails(400, "", "POST", "/set-tag", on(m{"application": m{}}))
	c.fails(400, "", "POST", "/set-tag", on(m{"application": "hr"}))
	c.fails(400, "", "POST", "/set-tag", m{"obj_uuid": vn})
	c.fails(400, "", "POST", "/set-tag", m{"obj_type": "fish", "obj_uuid": vn})
	c.fails(404, "No virtual-network object found for id "+project, "POST", "/set-tag", m{"obj_type": "virtual_network", "obj_uuid": project, "tier": nil})
	if got := tags(); !slices.Equal(got, []string{"application=shop"}) {
		t.Errorf("refused requests changed the tags: %v", got)
	}
	// An object that is not below a project has the tags of the one that owns it.
	vm := c.create("virtual-machine", m{"fq_name": l{"vm"}, "perms2": m{"owner": strings.ReplaceAll(project, "-", "")}})
	c.do("POST", "/set-tag", m{"obj_type": "virtual_machine", "obj_uuid": vm, "application": m{"value": "shop"}})
	c.do("POST", "/set-tag", m{"obj_type": "project", "obj_uuid": project, "application": m{"value": "shop"}})
	c.fails(409, "Delete when resource still referred: [", "DELETE", "/tag/"+shop, nil)
	c.delete("tag", hr)
}

// A.7: ids of tags and of their types.
func TestContractTagIDs(t *testing.T) {
	c := newClassic(t)
	c.project("p")
	for i, name := range []string{"label", "application", "tier", "deployment", "site"} {
		if got := c.read("tag-type", c.id("tag-type", name))["tag_type_id"]; got != fmt.Sprintf("0x%04x", i) {
			t.Errorf("%s has id %v", name, got)
		}
	}
	first := c.create("tag", m{"fq_name": l{"whatever"}, "tag_type_name": "Tier", "tag_value": "web"})
	got := c.read("tag", first)
	if got["name"] != "tier=web" || got["display_name"] != "tier=web" || got["tag_id"] != "0x00020001" || got["tag_type_name"] != "tier" || !slices.Equal(names(got["tag_type_refs"]), []string{"tier"}) {
		t.Errorf("tag %v", got)
	}
	second := c.create("tag", m{"fq_name": l{"default-domain", "p", "tier=web"}, "parent_type": "project", "tag_type_name": "tier", "tag_value": "web"})
	if got := c.read("tag", second); got["tag_id"] != "0x00020002" || got["parent_type"] != "project" {
		t.Errorf("tag %v", got)
	}
	mine := c.create("tag", m{"fq_name": l{"x=1"}, "tag_type_name": "x", "tag_value": "1"})
	if got := c.read("tag", mine)["tag_id"]; got != "0x00ff0001" {
		t.Errorf("id of a user's type %v", got)
	}
	typ := c.id("tag-type", "x")
	c.delete("tag", mine)
	c.fails(404, "No tag-type object found", "GET", "/tag-type/"+typ, nil)
	if typ = c.create("tag-type", m{"fq_name": l{"y"}}); c.read("tag-type", typ)["tag_type_id"] != "0x0100" {
		t.Errorf("second type of a user %v; the number of the first rests", c.read("tag-type", typ))
	}
	c.delete("tag", c.create("tag", m{"fq_name": l{"y=1"}, "tag_type_name": "y", "tag_value": "1"}))
	c.delete("tag-type", typ)
	c.fails(400, "", "POST", "/tags", m{"tag": m{"fq_name": l{"tier=x"}}})
	c.fails(400, "", "POST", "/tags", m{"tag": m{"fq_name": l{"a"}, "tag_type_name": "a=b", "tag_value": "1"}})
	c.fails(400, "", "POST", "/tags", m{"tag": m{"fq_name": l{"tier=x"}, "tag_type_name": "tier", "tag_value": "x", "tag_type_refs": l{m{"to": l{"site"}}}}})
	c.fails(409, "['tier=web'] already exists with uuid: "+first, "POST", "/tags", m{"tag": m{"fq_name": l{"z"}, "tag_type_name": "tier", "tag_value": "web"}})
	c.fails(400, "", "POST", "/ref-update", m{"type": "tag", "uuid": first, "ref-type": "tag-type", "ref-fq-name": l{"tier"}, "operation": "DELETE"})
	c.fails(403, "", "DELETE", "/tag-type/"+c.id("tag-type", "site"), nil)
}
