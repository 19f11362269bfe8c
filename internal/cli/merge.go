package cli

import (
	"encoding/json"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// completed are the fields that the API fills in where a client leaves them
// out, beside those that the model says the system sets. A manifest that does
// not mention them leaves them as they are.
var completed = map[string]map[string]bool{
	"IpamSubnetType": {"subnet_uuid": true, "default_gateway": true, "dns_server_address": true, "created": true, "last_modified": true, "alloc_unit": true},
	"PolicyRuleType": {"rule_uuid": true, "created": true, "last_modified": true},
	"RouteType":      {"community_attributes": true},
}

// identifies is the field that says which element of a list it is, for
// structures whose elements have one.
var identifies = map[string]string{"IpamSubnetType": "subnet"}

func isCompleted(s *model.Struct, f *model.Field) bool {
	return f.Presence == "system" || completed[s.Name][f.Name]
}

// wanted is what a value becomes when a manifest asks for it: with the fields
// that the system completes taken over from what there is, and without what is
// the same as nothing.
func wanted(asked, now any, s *model.Struct) any {
	asked, now = tidy(asked), tidy(now)
	return carry(asked, now, s)
}

func carry(asked, now any, s *model.Struct) any {
	if s == nil {
		return asked
	}
	switch asked := asked.(type) {
	case map[string]any:
		have, ok := now.(map[string]any)
		if !ok {
			return asked
		}
		for _, f := range s.Fields {
			old, there := have[f.Name]
			mine, given := asked[f.Name]
			switch {
			case there && !given && isCompleted(s, f):
				asked[f.Name] = old
			case there && given:
				asked[f.Name] = carry(mine, old, f.Value.Struct())
			}
		}
	case []any:
		have, _ := now.([]any)
		used := make([]bool, len(have))
		for i := range asked {
			if j := partner(asked[i], have, used, s); j >= 0 {
				used[j] = true
				asked[i] = carry(asked[i], have[j], s)
			}
		}
	}
	return asked
}

// partner is the index of the element that one of a manifest was before, -1
// where there is none.
func partner(asked any, have []any, used []bool, s *model.Struct) int {
	for j := range have {
		if used[j] {
			continue
		}
		if field, ok := identifies[s.Name]; ok {
			if sameValue(fieldOf(asked, field), fieldOf(have[j], field)) {
				return j
			}
		} else if sameValue(carry(clone(asked), clone(have[j]), s), have[j]) {
			return j
		}
	}
	return -1
}

func fieldOf(v any, name string) any {
	fields, _ := v.(map[string]any)
	return fields[name]
}

func clone(v any) any {
	tree, err := decodeTree(mustJSON(v))
	if err != nil {
		return v
	}
	return tree
}

// sameValue compares values; both came out of decodeTree or a manifest.
func sameValue(a, b any) bool { return string(mustJSON(tidy(a))) == string(mustJSON(tidy(b))) }

// tidy leaves out what is the same as nothing: null, empty text, empty lists.
// json.Marshal sorts keys, so that equal values are equal text.
func tidy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, inner := range v {
			if inner = tidy(inner); inner != nil {
				out[key] = inner
			}
		}
		return out
	case []any:
		if len(v) == 0 {
			return nil
		}
		out := make([]any, len(v))
		for i := range v {
			if out[i] = tidy(v[i]); out[i] == nil {
				out[i] = v[i] // elements keep their places
			}
		}
		return out
	case string:
		if v == "" {
			return nil
		}
	case json.Number:
		return v
	}
	return v
}

// tree decodes JSON; nil where it is none.
func tree(raw json.RawMessage) any {
	if len(raw) == 0 {
		return nil
	}
	v, err := decodeTree(raw)
	if err != nil {
		return nil
	}
	return v
}

// change is what applying a manifest does to the object that there is.
type change struct {
	// fields to send, complete references included.
	fields object
	// keys that change, sorted.
	keys []string
}

// changesOf compares a manifest with the object that there is. References are
// resolved: their UUIDs are known.
func changesOf(m *Manifest, live object, refs map[string][]target) change {
	c := change{fields: object{}}
	for key, raw := range m.Properties {
		if key == "uuid" {
			continue
		}
		p, _ := m.Type.Property(key)
		asked, now := tree(raw), tree(live[key])
		if key == "perms2" {
			asked = overlay(asked, now)
		}
		want := wanted(asked, now, p.Value.Struct())
		if sameValue(want, now) {
			continue
		}
		c.fields[key] = mustJSON(want)
		c.keys = append(c.keys, key)
	}
	for key, list := range refs {
		if merged, differs := mergeReferences(m.Type, key, list, live.links(key)); differs {
			c.fields[key] = mustJSON(merged)
			c.keys = append(c.keys, key)
		}
	}
	slices.Sort(c.keys)
	return c
}

// overlay takes the fields that are not given from what there is.
func overlay(asked, now any) any {
	given, ok := asked.(map[string]any)
	have, ok2 := now.(map[string]any)
	if !ok || !ok2 {
		return asked
	}
	for key, v := range have {
		if _, there := given[key]; !there {
			given[key] = v
		}
	}
	return given
}

// target is a reference whose target is known.
type target struct {
	uuid string
	name []string
	attr json.RawMessage
}

// sent is a reference as the API takes it.
type sent struct {
	To   []string        `json:"to,omitempty"`
	UUID string          `json:"uuid,omitempty"`
	Attr json.RawMessage `json:"attr"`
}

// mergeReferences is the list to send, and whether it differs from what there is.
func mergeReferences(t *model.Type, key string, list []target, now []linkTo) ([]sent, bool) {
	_, kind := t.Classify(key)
	described, _ := t.Reference(kind)
	merged := make([]sent, 0, len(list))
	differs := len(list) != len(now)
	for _, r := range list {
		attr := r.attr
		i := slices.IndexFunc(now, func(l linkTo) bool { return l.UUID == r.uuid })
		if i < 0 {
			differs = true
		} else {
			have := tree(now[i].Attr)
			want := wanted(tree(attr), have, described.Struct())
			differs = differs || !sameValue(want, have)
			attr = mustJSON(want)
		}
		if len(attr) == 0 {
			attr = json.RawMessage("null")
		}
		merged = append(merged, sent{To: r.name, UUID: r.uuid, Attr: attr})
	}
	return merged, differs
}
