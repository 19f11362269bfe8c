package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

func read(text string) ([]*Manifest, error) {
	return ReadManifests("f.yaml", strings.NewReader(text), Scope{Project: "demo"})
}

func TestManifestErrors(t *testing.T) {
	const head = "kind: virtual-network\nname: blue\n"
	for text, want := range map[string]string{
		"3":                                      "f.yaml:1: want an object",
		"kind: virtual-network":                  "f.yaml:1: name is missing; write name: DOMAIN:PROJECT:VIRTUAL-NETWORK",
		"name: x":                                "f.yaml:1: kind is missing",
		"kind: 3":                                "f.yaml:1: kind is missing",
		"kind: vn\nname: x":                      `f.yaml:1: kind "vn" is no type`,
		"kind: virtual-network\nname: a:b:c:d":   "f.yaml:2: name \"a:b:c:d\": want DOMAIN:PROJECT:VIRTUAL-NETWORK",
		"kind: virtual-network\nname: ''":        "f.yaml:2: ",
		"kind: virtual-network\nname: 7":         "f.yaml:2: name is 7; want",
		"kind: virtual-network\nname: [a, b, 3]": "f.yaml:2: name: 3 is no text; quote it",
		"kind: api-access-list\nname: [a, b]":    "parent_type is missing: api-access-list objects are below domain or global-system-config or project",
		"kind: virtual-network\nname: x\nparent_type: domain": "parent_type \"domain\": a virtual-network is below project",

		head + "x: 1":                  "f.yaml:3: virtual-network default-domain:demo:blue: x is no property",
		head + "fq_name: [a]":          "f.yaml:3: virtual-network default-domain:demo:blue: fq_name is not for a client to set",
		head + "href: x":               "href follows from the object's name",
		head + "floating_ip_pools: []": "floating_ip_pools are objects of their own",

		head + "virtual_machine_interface_back_refs: []": "virtual_machine_interface_back_refs follows from the references",
		head + "is_shared: 3":                            "f.yaml:3: virtual-network default-domain:demo:blue: is_shared is 3, want",

		head + "route_target_list:\n  route_target:\n  - target:1:1\n  - nonsense": "f.yaml:6: ",
		head + "network_policy_refs: web":                                          "network_policy_refs is \"web\"; want a list of names",
		head + "network_policy_refs:\n- a\n- 3":                                    "f.yaml:5: virtual-network default-domain:demo:blue: network_policy_refs[1]: 3 is no name of a network-policy",
		head + "network_policy_refs:\n- {too: a}":                                  "\"too\" is unknown; a reference has to, uuid and attr",
		head + "network_policy_refs:\n- {uuid: a}":                                 "uuid \"a\": want a UUID",
		head + "network_policy_refs:\n- {to: a, attr: {sequence: 3}}":              "f.yaml:4: ",
		head + "is_shared: true\nis_shared: true":                                  "f.yaml:4: the key \"is_shared\" is there twice",
		head + "display_name: !!binary aGVsbG8=":                                   "values of type !!binary are not possible",
		head + "1: 2":                                                              "the key \"1\" is no text; quote it",
		head + "virtual_network_network_id: 99999999999999999999":                  "f.yaml:3: ",
		head + "display_name: .inf":                                                "\".inf\" is no number",
		"a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\n" +
			"e: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: &f [*e, *e, *e, *e, *e, *e, *e, *e]\ng: &g [*f, *f, *f, *f, *f, *f, *f, *f]\nh: &h [*g, *g, *g, *g, *g, *g, *g, *g]": "aliases make more than",
		head + "annotations: " + strings.Repeat("[", 100) + strings.Repeat("]", 100): "more than 64 deep",
	} {
		list, err := read(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n gives %v, %v; want %s", text, list, err, want)
		}
	}
}

func TestParentsThatAreNotSaid(t *testing.T) {
	for text, want := range map[string]string{
		"kind: virtual-machine-interface\nname: x":            "project default-domain:demo:x",
		"kind: virtual-machine-interface\nname: machine:x":    "project default-domain:machine:x",
		"kind: virtual-machine-interface\nname: [machine, x]": "virtual-machine machine:x",
		"kind: floating-ip\nname: default-domain:p:n:pool:f":  "floating-ip-pool default-domain:p:n:pool:f",
		"kind: floating-ip\nname: [instance, f]":              "instance-ip instance:f",
		"kind: tag\nname: tier=web":                           "project default-domain:demo:tier=web",
		"kind: tag\nname: [tier=web]":                         "config-root tier=web",
		"kind: virtual-network\nname: x":                      " default-domain:demo:x",
	} {
		list, err := read(text)
		if err != nil || len(list) != 1 {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := string(list[0].ParentType) + " " + model.FQString(list[0].Name); got != want {
			t.Errorf("%s is below %s; want %s", text, got, want)
		}
	}
}

func TestManifestValues(t *testing.T) {
	list, err := read(`
# A comment, and an empty document.
---
kind: virtual_network
name: blue
display_name: "007"
is_shared: false
annotations: {key_value_pair: [{key: a, value: "1"}, &kv {key: b, value: yes please}]}
virtual_network_properties: {vxlan_network_identifier: 0x1f, forwarding_mode: l3}
network_policy_refs: [web, {to: [d, p, w]}]
---
- {kind: tag, name: application=web, parent_type: config-root, tag_type_name: application, tag_value: web}
- {kind: route-target, name: "target:64512:7"}
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 {
		t.Fatalf("%d manifests", len(list))
	}
	m := list[0]
	if model.FQString(m.Name) != "default-domain:demo:blue" || m.Source != "f.yaml:4" {
		t.Errorf("%v %v", m.Name, m.Source)
	}
	for key, want := range map[string]string{
		"display_name": `"007"`, "is_shared": "false", "virtual_network_properties": `{"forwarding_mode":"l3","vxlan_network_identifier":31}`,
	} {
		if string(m.Properties[key]) != want {
			t.Errorf("%s is %s", key, m.Properties[key])
		}
	}
	refs := m.References["network_policy_refs"]
	if len(refs) != 2 || refs[0].String() != "default-domain:demo:web" || refs[1].String() != "d:p:w" {
		t.Errorf("%v", refs)
	}
	if model.FQString(list[1].Name) != "application=web" || model.FQString(list[2].Name) != "target:64512:7" {
		t.Errorf("%v %v", list[1].Name, list[2].Name)
	}
}

func TestChanges(t *testing.T) {
	vn, _ := model.TypeOf("virtual-network")
	live := object{
		"fq_name": []byte(`["default-domain","demo","blue"]`), "display_name": []byte(`"blue"`), "is_shared": []byte("true"),
		"virtual_network_properties": []byte(`{"forwarding_mode":"l3","allow_transit":false}`),
		"network_ipam_refs": []byte(`[{"to":["default-domain","demo","pods"],"uuid":"i","attr":{"ipam_subnets":[
			{"subnet":{"ip_prefix":"10.1.0.0","ip_prefix_len":24},"subnet_uuid":"s1","default_gateway":"10.1.0.1","dns_server_address":"10.1.0.2"},
			{"subnet":{"ip_prefix":"10.2.0.0","ip_prefix_len":24},"subnet_uuid":"s2","default_gateway":"10.2.0.1","dns_server_address":"10.2.0.2","enable_dhcp":true}]}}]`),
	}
	ipam := func(attr string) map[string][]target {
		return map[string][]target{"network_ipam_refs": {{uuid: "i", name: []string{"default-domain", "demo", "pods"}, attr: json.RawMessage(attr)}}}
	}
	const one = `{"subnet":{"ip_prefix":"10.1.0.0","ip_prefix_len":24}}`
	const two = `{"subnet":{"ip_prefix":"10.2.0.0","ip_prefix_len":24},"enable_dhcp":true}`
	for name, c := range map[string]struct {
		properties object
		refs       map[string][]target
		want       string
	}{
		"nothing":                   {object{}, nil, ""},
		"the same":                  {object{"is_shared": []byte("true"), "display_name": []byte(`"blue"`)}, nil, ""},
		"another value":             {object{"is_shared": []byte("false")}, nil, "is_shared"},
		"a field less":              {object{"virtual_network_properties": []byte(`{"forwarding_mode":"l3"}`)}, nil, "virtual_network_properties"},
		"cleared":                   {object{"is_shared": []byte("null")}, nil, "is_shared"},
		"what was not there":        {object{"router_external": []byte("null")}, nil, ""},
		"subnets as they are":       {object{}, ipam(`{"ipam_subnets":[` + one + `,` + two + `]}`), ""},
		"a subnet less":             {object{}, ipam(`{"ipam_subnets":[` + one + `]}`), "network_ipam_refs"},
		"subnets in another order":  {object{}, ipam(`{"ipam_subnets":[` + two + `,` + one + `]}`), "network_ipam_refs"},
		"a setting of a subnet":     {object{}, ipam(`{"ipam_subnets":[` + one + `,{"subnet":{"ip_prefix":"10.2.0.0","ip_prefix_len":24}}]}`), "network_ipam_refs"},
		"another gateway":           {object{}, ipam(`{"ipam_subnets":[{"subnet":{"ip_prefix":"10.1.0.0","ip_prefix_len":24},"default_gateway":"10.1.0.9"},` + two + `]}`), "network_ipam_refs"},
		"no references":             {object{}, map[string][]target{"network_ipam_refs": {}}, "network_ipam_refs"},
		"another reference as well": {object{}, map[string][]target{"network_policy_refs": {{uuid: "p", name: []string{"x"}}}}, "network_policy_refs"},
	} {
		got := changesOf(&Manifest{Type: vn, Properties: c.properties}, live, c.refs)
		if strings.Join(got.keys, ",") != c.want {
			t.Errorf("%s: changes %v, want %q: %s", name, got.keys, c.want, mustJSON(got.fields))
		}
	}
	// What the system filled in is sent back with what stays.
	got := changesOf(&Manifest{Type: vn}, live, ipam(`{"ipam_subnets":[{"subnet":{"ip_prefix":"10.2.0.0","ip_prefix_len":24}}]}`))
	if text := string(got.fields["network_ipam_refs"]); !strings.Contains(text, `"subnet_uuid":"s2"`) || !strings.Contains(text, `"default_gateway":"10.2.0.1"`) || strings.Contains(text, "s1") {
		t.Error(text)
	}
}

// FuzzManifest reads anything without a panic, and what it can read it reads
// the same from what it writes.
func FuzzManifest(f *testing.F) {
	for _, text := range []string{
		"kind: virtual-network\nname: a:b:c\nis_shared: true\nnetwork_policy_refs: [x, {to: [a, b, c], attr: {sequence: {major: 1}}}]\n",
		"kind: project\nname: demo\nannotations: {key_value_pair: [{key: \"a\\tb\", value: '007'}]}\n---\n- {kind: domain, name: x}\n",
		"kind: virtual-machine-interface\nparent_type: project\nname: x\nvirtual_machine_interface_mac_addresses: {mac_address: [02:00:00:00:00:01]}\n",
		"a: &a [*a]", "? [a]\n: b", "kind: tag\nname: 2020-01-01\nparent_type: config-root\n", "\x00", "{", "- - -", "kind: route-target\nname: target:1:1",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := read(text)
		if err != nil {
			return
		}
		for _, m := range list {
			o := object{"fq_name": mustJSON(m.Name), "parent_type": mustJSON(m.ParentType), "uuid": mustJSON("")}
			for key, raw := range m.Properties {
				o[key] = raw
			}
			for key, refs := range m.References {
				links := make([]linkTo, len(refs))
				for i, r := range refs {
					links[i] = linkTo{UUID: r.uuid, Attr: r.attr}
					if r.uuid == "" {
						links[i].To = r.names[0]
					}
				}
				o[key] = mustJSON(links)
			}
			written, err := plainManifest(m.Type, o)
			if err != nil {
				t.Fatalf("write %s: %v", m.id(), err)
			}
			again, err := read(written)
			if err != nil || len(again) != 1 {
				t.Fatalf("%v: read what was written:\n%s", err, written)
			}
			for key, raw := range manifestFields(m.Type, o) {
				if _, ref := m.References[key]; ref || key == "perms2" {
					continue
				}
				if !sameValue(tree(raw), tree(again[0].Properties[key])) {
					t.Fatalf("%s was %s and is %s", key, raw, again[0].Properties[key])
				}
			}
		}
	})
}
