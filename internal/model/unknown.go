package model

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Two neighbouring versions of the system share one store. What the newer one
// writes and this one does not know is kept beside the object, in the shape of
// the JSON it came from: an unknown property as a whole, and of a known one
// only the unknown fields. Lists keep their length, with null where there is
// nothing to keep.
//
// When the object is encoded, the kept parts are merged in again. Parts in a
// list are dropped when its length has changed, since it cannot be told which
// element they belong to; a property that Patch replaces loses its parts.

// keepUnknown puts what t does not know of the tree into m.
func (t *Type) keepUnknown(m *Meta, tree map[string]any) error {
	for name, value := range tree {
		if p, known := t.properties[name]; known {
			value = unknownIn(value, &p.Value)
		}
		if value == nil {
			continue
		}
		raw, err := marshal(value)
		if err != nil {
			return fmt.Errorf("keep what is not known of property %s: %w", name, err)
		}
		if m.Unknown == nil {
			m.Unknown = map[string]json.RawMessage{}
		}
		m.Unknown[name] = raw
	}
	return nil
}

// unknownIn returns the parts of the tree that v does not know, nil if there are none.
func unknownIn(tree any, v *Value) any {
	if v.structure == nil {
		return nil
	}
	if !v.List {
		return unknownFields(tree, v.structure)
	}
	items, _ := tree.([]any)
	parts := make([]any, len(items))
	found := false
	for i, item := range items {
		parts[i] = unknownFields(item, v.structure)
		found = found || parts[i] != nil
	}
	if !found {
		return nil
	}
	return parts
}

func unknownFields(tree any, s *Struct) any {
	object, _ := tree.(map[string]any)
	parts := map[string]any{}
	for name, value := range object {
		if f, known := s.fields[name]; known {
			value = unknownIn(value, &f.Value)
		}
		if value != nil {
			parts[name] = value
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return parts
}

// withUnknown merges what was kept into an encoded object.
func withUnknown(o Object, data []byte) ([]byte, error) {
	t := linked().byKind[o.Kind()]
	tree, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	unknown := o.GetMeta().Unknown
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		parts, err := parse(unknown[name])
		if err != nil {
			return nil, fmt.Errorf("read what is not known of property %s: %w", name, err)
		}
		if p, known := t.properties[name]; known {
			mergeValue(tree[name], parts, &p.Value)
			continue
		}
		tree[name] = parts
	}
	return marshal(tree)
}

// mergeValue adds parts to a tree that has a place for them.
func mergeValue(tree, parts any, v *Value) {
	if v.structure == nil {
		return
	}
	if !v.List {
		mergeFields(tree, parts, v.structure)
		return
	}
	items, _ := tree.([]any)
	kept, _ := parts.([]any)
	if len(items) != len(kept) {
		return
	}
	for i := range items {
		mergeFields(items[i], kept[i], v.structure)
	}
}

func mergeFields(tree, parts any, s *Struct) {
	object, isObject := tree.(map[string]any)
	kept, _ := parts.(map[string]any)
	if !isObject {
		return
	}
	for name, part := range kept {
		if f, known := s.fields[name]; known {
			mergeValue(object[name], part, &f.Value)
			continue
		}
		object[name] = part
	}
}
