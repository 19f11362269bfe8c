package model

import "testing"

// TestCollections: whatever the model calls a collection has elements, and
// those of a map have names.
func TestCollections(t *testing.T) {
	lists, keys := 0, map[string]string{}
	for _, typ := range Types() {
		for _, p := range typ.Properties {
			e, ok := p.Elements()
			if ok != (p.Collection != "") {
				t.Errorf("%s.%s: collection %q, elements %+v", typ.Kind, p.Name, p.Collection, e)
			}
			switch p.Collection {
			case "list":
				lists++
				if e.Key != "" {
					t.Errorf("list %s.%s has the key %s", typ.Kind, p.Name, e.Key)
				}
			case "map":
				keys[p.Name] = e.Field + "." + e.Key
			}
		}
	}
	if lists < 12 || keys["annotations"] != "key_value_pair.key" || keys["user_defined_log_statistics"] != "statlist.name" || keys["dscp_entries"] != "qos_id_forwarding_class_pair.key" {
		t.Errorf("%d lists, maps %v", lists, keys)
	}
}
