package model

import (
	"testing"
)

// A property without a place in the Go struct would be lost in silence.
func TestEverythingHasAPlaceInGo(t *testing.T) {
	for _, typ := range Types() {
		for _, p := range typ.Properties {
			if p.index == nil {
				t.Errorf("%s.%s has no Go field", typ.Kind, p.Name)
			}
			checkValueIsLinked(t, string(typ.Kind)+"."+p.Name, &p.Value)
		}
		for _, r := range typ.References {
			if r.Attr != "" && r.attr == nil {
				t.Errorf("%s -> %s: no struct %s", typ.Kind, r.Target, r.Attr)
			}
		}
		for _, p := range typ.Parents {
			if _, err := New(p); err != nil {
				t.Errorf("%s: parent: %v", typ.Kind, err)
			}
		}
	}
	for _, s := range linked().structs {
		for _, f := range s.Fields {
			if f.index == nil {
				t.Errorf("%s.%s has no Go field", s.Name, f.Name)
			}
			checkValueIsLinked(t, s.Name+"."+f.Name, &f.Value)
		}
	}
}

func checkValueIsLinked(t *testing.T, where string, v *Value) {
	t.Helper()
	switch v.Type {
	case "string", "boolean", "integer", "unsigned":
	default:
		if v.structure == nil {
			t.Errorf("%s: no struct %s", where, v.Type)
		}
	}
	if _, known := formats[v.Format]; v.Format != "" && !known {
		t.Errorf("%s: nothing checks the format %s", where, v.Format)
	}
}

func TestTypesAreFoundByAllTheirNames(t *testing.T) {
	for _, typ := range Types() {
		if o := typ.New(); o.Kind() != typ.Kind {
			t.Errorf("new %s is a %s", typ.Kind, o.Kind())
		}
		if found, ok := TypeOfCollection(typ.Collection()); !ok || found != typ {
			t.Errorf("collection %s is not found", typ.Collection())
		}
		for _, name := range []string{string(typ.Kind), typ.Name} {
			if found, ok := TypeOf(name); !ok || found != typ {
				t.Errorf("type %s is not found", name)
			}
		}
	}
	for _, name := range []string{"", "virtual", "virtual_machine-interface", "virtual-networks"} {
		if typ, ok := TypeOf(name); ok {
			t.Errorf("%q is found as %s", name, typ.Kind)
		}
	}
	if typ, ok := TypeOfCollection("virtual-network"); ok {
		t.Errorf("virtual-network is found as the collection of %s", typ.Kind)
	}
	if _, err := New("virtual-nothing"); err == nil {
		t.Error("made an object of no type")
	}
}

func TestNamesWithCapitals(t *testing.T) {
	typ, ok := TypeOf("virtual-DNS")
	if !ok || typ.Name != "virtual_DNS" || typ.Collection() != "virtual-DNSs" {
		t.Fatalf("virtual-DNS is %+v", typ)
	}
}

func TestClassify(t *testing.T) {
	network, _ := TypeOf("virtual-network")
	for _, c := range []struct {
		key  string
		want Class
		kind Kind
	}{
		{"fq_name", ClassProperty, ""},
		{"router_external", ClassProperty, ""},
		{"network_ipam_refs", ClassReference, KindNetworkIPAM},
		{"tag_refs", ClassReference, KindTag},
		{"virtual_network_refs", ClassReference, KindVirtualNetwork},
		{"virtual_network_back_refs", ClassBackReference, KindVirtualNetwork},
		{"virtual_machine_interface_back_refs", ClassBackReference, KindVirtualMachineInterface},
		{"routing_instances", ClassChildren, KindRoutingInstance},
		{"floating_ip_pools", ClassChildren, KindFloatingIPPool},
		{"href", ClassComputed, ""},
		{"name", ClassComputed, ""},
		{"parent_href", ClassComputed, ""},
		{"security_group_refs", ClassUnknown, ""},
		{"virtual_networks", ClassUnknown, ""},
		{"", ClassUnknown, ""},
	} {
		class, kind := network.Classify(c.key)
		if class != c.want || kind != c.kind {
			t.Errorf("%q is of class %d, kind %q; want %d, %q", c.key, class, kind, c.want, c.kind)
		}
	}
}

// No property, reference, list of children or of back references of a type
// may share its key with another.
func TestKeysAreUnambiguous(t *testing.T) {
	for _, typ := range Types() {
		for _, kind := range typ.Children() {
			if c, k := typ.Classify(kind.Name() + "s"); c != ClassChildren || k != kind {
				t.Errorf("%s: children %s are taken for class %d", typ.Kind, kind, c)
			}
		}
		for _, kind := range typ.Referrers() {
			if c, k := typ.Classify(kind.Name() + "_back_refs"); c != ClassBackReference || k != kind {
				t.Errorf("%s: back references %s are taken for class %d", typ.Kind, kind, c)
			}
		}
		for _, r := range typ.References {
			if c, k := typ.Classify(r.JSONName()); c != ClassReference || k != r.Target {
				t.Errorf("%s: references %s are taken for class %d", typ.Kind, r.Target, c)
			}
		}
	}
}

func TestEffect(t *testing.T) {
	network, _ := TypeOf("virtual-network")
	for name, want := range map[string]bool{"fq_name": true, "virtual_network_network_id": true, "perms2": true, "mac_aging_time": false} {
		if p, _ := network.Property(name); p.Effective != want {
			t.Errorf("%s is effective: %t", name, p.Effective)
		}
	}
	if r, _ := network.Reference(KindNetworkIPAM); !r.Effective {
		t.Error("references to network-ipam have no effect")
	}
}
