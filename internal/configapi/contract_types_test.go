package configapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

// family makes objects of any type with what they need above them.
type family struct {
	*classic
	count   int
	network string
}

func newFamily(c *classic) *family {
	c.project("p")
	return &family{classic: c, network: c.network("p", "blue", "10.1.0.0/16")}
}

// needs are the fields without which some types cannot be created.
func (f *family) needs(kind model.Kind) m {
	switch kind {
	case "instance-ip":
		return m{"virtual_network_refs": l{m{"uuid": f.network}}}
	case "tag":
		return m{"tag_type_name": fmt.Sprint("type", f.count), "tag_value": "v"}
	case "floating-ip", "alias-ip":
		return m{"project_refs": l{m{"to": l{"default-domain", "p"}}}}
	case "virtual-machine-interface":
		return m{"virtual_network_refs": l{m{"uuid": f.network}}}
	case "firewall-rule":
		return m{
			"action_list": m{"simple_action": "pass"}, "direction": "<>", "service": m{"protocol": "any"},
			"endpoint_1": m{"any": true}, "endpoint_2": m{"any": true},
		}
	case "virtual-DNS":
		return m{"virtual_DNS_data": m{"domain_name": "example.org"}}
	case "virtual-DNS-record":
		return m{"virtual_DNS_record_data": m{"record_name": fmt.Sprint("n", f.count), "record_type": "A", "record_data": "10.1.0.5"}}
	}
	return m{}
}

// parent finds or makes an object for one of the type to be under.
func (f *family) parent(t *model.Type) (kind model.Kind, name l) {
	f.Helper()
	if len(t.Parents) == 0 || t.MayHaveParent("config-root") && t.Kind != "tag" {
		return "config-root", nil
	}
	switch {
	case t.MayHaveParent("project"):
		return "project", l{"default-domain", "p"}
	case t.MayHaveParent("global-system-config"):
		return "global-system-config", l{"default-global-system-config"}
	case t.MayHaveParent("virtual-network"):
		return "virtual-network", l{"default-domain", "p", "blue"}
	case t.MayHaveParent("routing-instance"):
		return "routing-instance", l{"default-domain", "p", "blue", "blue"}
	}
	kind = t.Parents[0]
	id := f.make(kind, nil)
	return kind, f.read(string(kind), id)["fq_name"].(l)
}

// fields are those of a new object of the type.
func (f *family) fields(kind model.Kind, extra m) m {
	f.Helper()
	t, _ := model.TypeOf(string(kind))
	f.count++
	parent, above := f.parent(t)
	name := fmt.Sprint("n", f.count)
	if kind == "route-target" {
		name = fmt.Sprint("target:65000:", f.count)
	}
	out := m{"fq_name": append(append(l{}, above...), name), "parent_type": string(parent)}
	for k, v := range f.needs(kind) {
		out[k] = v
	}
	for k, v := range extra {
		out[k] = v
	}
	return out
}

func (f *family) make(kind model.Kind, extra m) string {
	f.Helper()
	return f.create(string(kind), f.fields(kind, extra))
}

// system are the types that no client creates.
var system = map[model.Kind]bool{"config-root": true, "access-control-list": true}

// B.1, for every type that there is: create, find, list, read, update with
// nothing and with a name, delete.
func TestContractEveryType(t *testing.T) {
	c := newClassic(t)
	f := newFamily(c)
	for _, typ := range model.Types() {
		kind := string(typ.Kind)
		if system[typ.Kind] {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			fields := f.fields(typ.Kind, m{"annotations": m{"key_value_pair": l{m{"key": "k", "value": "v"}}}})
			made := c.do("POST", "/"+kind+"s", m{kind: fields})[kind].(m)
			id := made["uuid"].(string)
			fq := made["fq_name"].(l)
			if typ.Kind != "tag" && !reflect.DeepEqual(made["fq_name"], fields["fq_name"]) || made["name"] != fq[len(fq)-1] || made["href"] != c.url+"/"+kind+"/"+id {
				t.Errorf("created %v", made)
			}
			if top := fields["parent_type"] == "config-root"; (made["parent_uuid"] == nil) != top || (made["parent_href"] == nil) != top || !top && made["parent_type"] != fields["parent_type"] {
				t.Errorf("parent of the created %v", made)
			}
			got := c.read(kind, id)
			for _, field := range []string{"uuid", "name", "fq_name", "href", "parent_uuid", "parent_href"} {
				if !reflect.DeepEqual(got[field], made[field]) {
					t.Errorf("%s is %v, was created as %v", field, got[field], made[field])
				}
			}
			if got["display_name"] != got["name"] || fmt.Sprint(got["annotations"]) != "map[key_value_pair:[map[key:k value:v]]]" {
				t.Errorf("read %v", got)
			}
			if found := c.do("POST", "/fqname-to-id", m{"type": kind, "fq_name": fq}); found["uuid"] != id {
				t.Errorf("found %v", found)
			}
			if list := uuidsOf(c.do("GET", "/"+kind+"s?obj_uuids="+id, nil)[kind+"s"]); len(list) != 1 {
				t.Errorf("listed %v", list)
			}
			if kind != "tag" { // whose name follows from its value
				c.do("PUT", "/"+kind+"/"+id, m{kind: got}) // what was read may be sent back
				if answer := c.do("PUT", "/"+kind+"/"+id, m{kind: m{"display_name": "other"}})[kind].(m); answer["uuid"] != id || answer["href"] != got["href"] || len(answer) != 2 {
					t.Errorf("answer of PUT %v", answer)
				}
				if again := c.read(kind, id); again["display_name"] != "other" || again["annotations"] == nil {
					t.Errorf("updated %v", again)
				}
			}
			c.fails(409, pyText(fq)+" already exists with uuid: "+id, "POST", "/"+kind+"s", m{kind: fields})
			c.delete(kind, id)
			c.fails(404, "No "+kind+" object found for id "+id, "GET", "/"+kind+"/"+id, nil)
			c.fails(404, "", "POST", "/fqname-to-id", m{"type": kind, "fq_name": fq})
		})
	}
}

// pyText is a list of names as the texts of errors have it.
func pyText(list l) string {
	var parts []string
	for _, e := range list {
		parts = append(parts, "'"+e.(string)+"'")
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// B.1, every reference of every type: it is added, shown at both ends, and
// removed; or refused with a reason.
func TestContractEveryReference(t *testing.T) {
	c := newClassic(t)
	f := newFamily(c)
	refused := 0
	for _, typ := range model.Types() {
		if system[typ.Kind] {
			continue
		}
		from := string(typ.Kind)
		var id string
		for _, reference := range typ.References {
			if system[reference.Target] {
				continue
			}
			if id == "" {
				id = f.make(typ.Kind, nil)
			}
			to := string(reference.Target)
			target := f.make(reference.Target, nil)
			q := m{"type": from, "uuid": id, "ref-type": to, "ref-uuid": target, "operation": "ADD", "attr": nil}
			if status, text, _ := c.send("POST", "/ref-update", q); status != 200 {
				refused++
				if status >= 500 || text == "" {
					t.Errorf("%s -> %s: %d %s", from, to, status, text)
				}
				continue
			}
			refs := strings.ReplaceAll(to, "-", "_") + "_refs"
			back := strings.ReplaceAll(from, "-", "_") + "_back_refs"
			if !contains(uuidsOf(c.read(from, id)[refs]), target) {
				t.Errorf("%s has no %s", from, refs)
			}
			if !contains(uuidsOf(c.read(to, target)[back]), id) {
				t.Errorf("%s has no %s", to, back)
			}
			if !contains(uuidsOf(c.do("GET", "/"+from+"s?back_ref_id="+target, nil)[from+"s"]), id) {
				t.Errorf("%s is not found by its reference to %s", from, to)
			}
			q["operation"] = "DELETE"
			if status, text, _ := c.send("POST", "/ref-update", q); status != 200 {
				refused++
				if status >= 500 || text == "" {
					t.Errorf("%s -> %s: %d %s", from, to, status, text)
				}
				continue
			}
			if contains(uuidsOf(c.read(from, id)[refs]), target) {
				t.Errorf("%s still has %s", from, refs)
			}
		}
	}
	if refused > 12 {
		t.Errorf("%d references are refused", refused)
	}
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// sampleOf is a value that the schema allows.
func sampleOf(name string, v *model.Value, depth int) any {
	var one any
	switch {
	case v.Struct() != nil:
		fields := m{}
		exclusive := false
		for _, f := range v.Struct().Fields {
			if depth > 5 || f.Presence == "exclusive" && exclusive {
				continue
			}
			exclusive = exclusive || f.Presence == "exclusive"
			fields[f.Name] = sampleOf(f.Name, &f.Value, depth+1)
		}
		one = fields
	case v.Type == "boolean":
		one = true
	case v.Type == "integer" || v.Type == "unsigned":
		n := int64(1)
		if v.Minimum != nil && *v.Minimum > n {
			n = *v.Minimum
		}
		one = float64(n)
	case len(v.Enum) > 0:
		one = v.Enum[0]
	default:
		one = sampleText(name, v.Format)
	}
	if v.List {
		return l{one}
	}
	return one
}

func sampleText(name, format string) string {
	if text, ok := map[string]string{
		"date-time": "2024-01-02T03:04:05.000000", "ip": "10.1.0.5", "uuid": "00000000-0000-4000-8000-000000000005",
		"hex16": "0x0001", "hex32": "0x00010001", "service-interface": "left", "route-target": "target:1:1",
		"mac": "02:00:00:00:00:01", "prefix": "10.9.0.0/24", "community": "1:1", "esi": "00:01:02:03:04:05:06:07:08:09",
	}[format]; ok {
		return text
	}
	switch {
	case strings.Contains(name, "mac"):
		return "02:00:00:00:00:01"
	case name == "prefix":
		return "10.9.0.0/24"
	case strings.Contains(name, "prefix"):
		return "10.9.0.0"
	case strings.Contains(name, "protocol"):
		return "tcp"
	}
	return "1"
}

// A property that the schema allows is stored as it was sent, or refused with
// a text that names it. No value makes the API fail.
func TestContractEveryProperty(t *testing.T) {
	c := newClassic(t)
	f := newFamily(c)
	kept, refused := 0, []string{}
	for _, typ := range model.Types() {
		if system[typ.Kind] {
			continue
		}
		kind := string(typ.Kind)
		id := f.make(typ.Kind, nil)
		for _, p := range typ.Properties {
			switch p.Name {
			case "uuid", "fq_name", "parent_type", "parent_uuid", "id_perms", "perms2", "configuration_version":
				continue
			}
			value := sampleOf(p.Name, &p.Value, 0)
			status, text, _ := c.send("PUT", "/"+kind+"/"+id, m{kind: m{p.Name: value}})
			if status != 200 {
				refused = append(refused, kind+"."+p.Name)
				if status >= 500 || strings.Contains(p.Ops, "U") && !strings.Contains(text, p.Name) && !strings.Contains(text, "annot") {
					t.Errorf("%s.%s %v: %d %s", kind, p.Name, value, status, text)
				}
				continue
			}
			kept++
			if got := c.read(kind, id)[p.Name]; !sameAsSent(got, value) {
				t.Errorf("%s.%s was sent as %v and is %v", kind, p.Name, value, got)
			}
			// Cleared again, unless the system keeps it filled.
			c.send("PUT", "/"+kind+"/"+id, m{kind: m{p.Name: nil}})
		}
	}
	t.Logf("%d properties kept, refused: %v", kept, refused)
	if kept < 4*len(refused) {
		t.Errorf("%d properties kept, %d refused", kept, len(refused))
	}
}

// sameAsSent compares what was sent with what was read: what the system fills
// in beside it is fine.
func sameAsSent(got, sent any) bool {
	raw, err := json.Marshal(sent)
	if err != nil {
		return false
	}
	var want any
	return json.Unmarshal(raw, &want) == nil && within(want, got)
}

func within(want, got any) bool {
	switch want := want.(type) {
	case m:
		have, ok := got.(m)
		for k, v := range want {
			ok = ok && within(v, have[k])
		}
		return ok
	case l:
		have, ok := got.(l)
		if !ok || len(have) < len(want) {
			return false
		}
		for i := range want {
			ok = ok && within(want[i], have[i])
		}
		return ok
	default:
		return reflect.DeepEqual(want, got)
	}
}
