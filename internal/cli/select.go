package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Selector chooses objects by their labels: annotations, and tags such as
// application=web.
type Selector []requirement

type requirement struct {
	key, value string
	// negated inverts; exists asks only for the key.
	negated, exists bool
}

// ParseSelector reads key=value, key!=value, key and !key, separated by
// commas; all have to hold.
func ParseSelector(text string) (Selector, error) {
	var s Selector
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for _, part := range strings.Split(text, ",") {
		part = strings.TrimSpace(part)
		var r requirement
		var ok bool
		if r.key, r.value, ok = strings.Cut(part, "!="); ok {
			r.negated = true
		} else if r.key, r.value, ok = strings.Cut(part, "="); ok {
			r.value = strings.TrimPrefix(r.value, "=") // == is the same
		} else {
			r.key, r.negated = strings.CutPrefix(part, "!")
			r.exists = true
		}
		if r.key = strings.TrimSpace(r.key); r.key == "" {
			return nil, fmt.Errorf("selector %q: want key=value, key!=value, key or !key, separated by commas", text)
		}
		r.value = strings.TrimSpace(r.value)
		s = append(s, r)
	}
	return s, nil
}

// selectorFields are what matching needs of an object.
var selectorFields = []string{"annotations", "tag_refs"}

func (s Selector) matches(o object) bool {
	if len(s) == 0 {
		return true
	}
	labels := labelsOf(o)
	for _, r := range s {
		values, ok := labels[r.key]
		if !r.exists {
			ok = slices.Contains(values, r.value)
		}
		if ok == r.negated {
			return false
		}
	}
	return true
}

// labelsOf are the annotations and tags of an object. A label may have several
// values: tags of the type label do.
func labelsOf(o object) map[string][]string {
	labels := map[string][]string{}
	var annotations struct {
		Pairs []struct{ Key, Value string } `json:"key_value_pair"`
	}
	if json.Unmarshal(o["annotations"], &annotations) == nil {
		for _, kv := range annotations.Pairs {
			labels[kv.Key] = append(labels[kv.Key], kv.Value)
		}
	}
	for _, l := range o.links("tag_refs") {
		if key, value, ok := strings.Cut(l.short(), "="); ok {
			labels[key] = append(labels[key], value)
		}
	}
	return labels
}

// FieldSelector chooses objects by a value at a dotted path:
// virtual_network_properties.forwarding_mode=l3. A list on the way stands for
// all its elements, and a reference for the names it is to.
type FieldSelector []fieldRequirement

type fieldRequirement struct {
	path, value string
	negated     bool
}

// ParseFields reads path=value and path!=value of a type; all have to hold.
func ParseFields(t *model.Type, texts []string) (FieldSelector, error) {
	var s FieldSelector
	for _, text := range texts {
		var r fieldRequirement
		var ok bool
		if r.path, r.value, ok = strings.Cut(text, "!="); ok {
			r.negated = true
		} else if r.path, r.value, ok = strings.Cut(text, "="); !ok {
			return nil, fmt.Errorf("--field %q: want path=value or path!=value, such as virtual_network_properties.forwarding_mode=l3", text)
		}
		r.path, r.value = strings.TrimSpace(r.path), strings.TrimSpace(strings.TrimPrefix(r.value, "="))
		if r.path == "" {
			return nil, fmt.Errorf("--field %q: the path is empty", text)
		}
		if err := checkPath(t, r.path); err != nil {
			return nil, fmt.Errorf("--field %q: %w", text, err)
		}
		s = append(s, r)
	}
	return s, nil
}

// checkPath refuses a path that no object of the type has.
func checkPath(t *model.Type, path string) error {
	first, _, _ := strings.Cut(path, ".")
	switch class, _ := t.Classify(first); class {
	case model.ClassUnknown, model.ClassProperty:
		_, err := explainPath(t, path)
		return err
	}
	return nil
}

// fields are the properties that matching needs.
func (s FieldSelector) fields() []string {
	var list []string
	for _, r := range s {
		first, _, _ := strings.Cut(r.path, ".")
		list = append(list, first)
	}
	return list
}

func (s FieldSelector) matches(o object) bool {
	for _, r := range s {
		if slices.Contains(textsAt(o, r.path), r.value) == r.negated {
			return false
		}
	}
	return true
}

// textsAt are the values at a path as people write them.
func textsAt(o object, path string) []string {
	if strings.HasSuffix(path, "_refs") || strings.HasSuffix(path, "_back_refs") {
		var list []string
		for _, l := range o.links(path) {
			list = append(list, l.name(), l.short(), l.UUID)
		}
		return list
	}
	if path == "fq_name" {
		return []string{strings.Join(o.name(), ":")}
	}
	var list []string
	for _, v := range o.at(path) {
		list = append(list, plainText(v))
	}
	return list
}

// plainText is a value as a word.
func plainText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case nil:
		return ""
	case float64, bool, json.Number:
		return strings.Trim(string(mustJSON(v)), `"`)
	default:
		return string(mustJSON(v))
	}
}

// mustJSON encodes what came out of JSON.
func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		return []byte("null")
	}
	return data
}
