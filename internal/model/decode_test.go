package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func typeOf(t testing.TB, name string) *Type {
	t.Helper()
	typ, ok := TypeOf(name)
	if !ok {
		t.Fatalf("no type %s", name)
	}
	return typ
}

func TestDecodeNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name, kind, json string
		property, want   string
	}{
		{"unknown property", "virtual-network", `{"colour":"blue"}`, "colour", "no such property"},
		{"a reference is no property", "virtual-network", `{"network_ipam_refs":[]}`, "network_ipam_refs", "no such property"},
		{"names are exact", "virtual-network", `{"UUID":"x"}`, "UUID", "no such property"},
		{"unknown field", "virtual-network", `{"virtual_network_properties":{"mode":"l3"}}`, "virtual_network_properties.mode", "VirtualNetworkType does not have it"},
		{"string for a truth value", "virtual-network", `{"router_external":"true"}`, "router_external", "true or false"},
		{"string for a number", "virtual-network", `{"mac_aging_time":"300"}`, "mac_aging_time", "an integer from 0 to 86400"},
		{"fraction", "virtual-network", `{"mac_aging_time":1.5}`, "mac_aging_time", "an integer from 0 to 86400"},
		{"exponent", "virtual-network", `{"mac_aging_time":1e2}`, "mac_aging_time", "an integer"},
		{"too big", "virtual-network", `{"mac_aging_time":86401}`, "mac_aging_time", "86400"},
		{"too small", "global-system-config", `{"autonomous_system":0}`, "autonomous_system", "an integer from 1 to 4294967294"},
		{"out of 64 bits", "virtual-network", `{"virtual_network_network_id":9223372036854775808}`, "virtual_network_network_id", "an integer"},
		{"enumeration", "virtual-network", `{"virtual_network_properties":{"forwarding_mode":"l4"}}`, "virtual_network_properties.forwarding_mode", "one of l2_l3, l2, l3"},
		{"address", "instance-ip", `{"instance_ip_address":"10.0.0.256"}`, "instance_ip_address", "an IPv4 or IPv6 address"},
		{"time", "virtual-network", `{"id_perms":{"created":"yesterday"}}`, "id_perms.created", "a time such as"},
		{"number of hexadecimal digits", "tag", `{"tag_id":"0x123456789"}`, "tag_id", "hexadecimal"},
		{"negative unsigned", "virtual-network", `{"id_perms":{"uuid":{"uuid_mslong":-1,"uuid_lslong":1}}}`, "id_perms.uuid.uuid_mslong", "an integer from 0"},
		{"route target without a number", "virtual-network", `{"route_target_list":{"route_target":["target:64512"]}}`, "route_target_list.route_target[0]", "a route target such as"},
		{"route target of seven bytes", "virtual-network", `{"route_target_list":{"route_target":["target:4200000000:65536"]}}`, "route_target_list.route_target[0]", "a route target such as"},
		{"route target of an IPv6 address", "virtual-network", `{"route_target_list":{"route_target":["target:2001:db8::1:1"]}}`, "route_target_list.route_target[0]", "a route target such as"},
		{"route target of a large number", "virtual-network", `{"route_target_list":{"route_target":["target:192.0.2.1:65536"]}}`, "route_target_list.route_target[0]", "a route target such as"},
		{"no list", "virtual-network", `{"fq_name":"a:b:c"}`, "fq_name", "a list"},
		{"list for a value", "virtual-network", `{"display_name":["a"]}`, "display_name", "a string"},
		{"hole in a list", "virtual-network", `{"route_target_list":{"route_target":["target:1:1",null]}}`, "route_target_list.route_target[1]", "a string"},
		{"no object", "virtual-network", `{"route_target_list":["target:1:1"]}`, "route_target_list", "an object (RouteTargetList)"},
		{
			"deep inside", "network-ipam",
			`{"network_ipam_mgmt":{"host_routes":{"route":[{"prefix":"0.0.0.0/0"},{"next_hop_type":"nowhere"}]}}}`,
			"network_ipam_mgmt.host_routes.route[1].next_hop_type", "one of service-instance, ip-address",
		},
		{"mandatory", "network-ipam", `{"ipam_subnets":{"subnets":[{"subnet":{"ip_prefix":"10.0.0.0"}}]}}`, "ipam_subnets.subnets[0].subnet.ip_prefix_len", "an integer"},
		{"mandatory and null", "virtual-network", `{"annotations":{"key_value_pair":[{"key":null,"value":"v"}]}}`, "annotations.key_value_pair[0].key", "a string"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := typeOf(t, c.kind).Decode([]byte(c.json))
			var bad *PropertyError
			if !errors.As(err, &bad) {
				t.Fatalf("%s gives %v", c.json, err)
			}
			if bad.Property != c.property || !strings.Contains(bad.Want, c.want) {
				t.Errorf("property %q, want %q; expected %q and %q", bad.Property, bad.Want, c.property, c.want)
			}
			if !strings.HasPrefix(bad.Error(), c.property+" is ") {
				t.Errorf("message: %s", bad)
			}
		})
	}
}

func TestDecodeRefusesWhatIsNoObject(t *testing.T) {
	for _, text := range []string{``, `null`, ` null`, `[]`, `"x"`, `{`, `{}{}`, `{} x`} {
		if o, err := typeOf(t, "project").Decode([]byte(text)); err == nil {
			t.Errorf("%q gives %v", text, o)
		}
		if o, err := typeOf(t, "project").DecodeStored([]byte(text)); err == nil {
			t.Errorf("stored %q gives %v", text, o)
		}
	}
}

func TestLongValuesAreShortenedInMessages(t *testing.T) {
	_, err := typeOf(t, "project").Decode([]byte(`{"x":"` + strings.Repeat("ö", 1000) + `"}`))
	if len(err.Error()) > 200 {
		t.Errorf("message has %d bytes", len(err.Error()))
	}
}

func TestAbsentZeroAndFalseAreDifferent(t *testing.T) {
	network := typeOf(t, "virtual-network")
	for _, c := range []struct{ in, out string }{
		{`{"port_security_enabled":false}`, `{"port_security_enabled":false}`},
		{`{"mac_aging_time":0}`, `{"mac_aging_time":0}`},
		{`{"port_security_enabled":null,"mac_aging_time":null,"route_target_list":null}`, `{}`},
		{`{"route_target_list":{}}`, `{"route_target_list":{}}`},
		{`{"route_target_list":{"route_target":[]}}`, `{"route_target_list":{}}`},
		{`{"annotations":{"key_value_pair":[{"key":"k","value":""}]}}`, `{"annotations":{"key_value_pair":[{"key":"k","value":""}]}}`},
		{`{"display_name":"a<b>&c"}`, `{"display_name":"a<b>&c"}`},
	} {
		o, err := network.Decode([]byte(c.in))
		if err != nil {
			t.Fatal(err)
		}
		out, err := Encode(o)
		if err != nil {
			t.Fatal(err)
		}
		if string(out) != c.out {
			t.Errorf("%s becomes %s, want %s", c.in, out, c.out)
		}
	}
}

func TestStoredObjectsKeepWhatIsNotKnown(t *testing.T) {
	stored := `{"uuid":"u","fq_name":["p"],"colour":{"name":"blue","weights":[1,18446744073709551616]},"vxlan_routing":true}`
	o, err := typeOf(t, "project").DecodeStored([]byte(stored))
	if err != nil {
		t.Fatal(err)
	}
	changed, err := typeOf(t, "project").Patch(o, map[string]json.RawMessage{"display_name": json.RawMessage(`"P"`)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := Encode(changed)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"colour":{"name":"blue","weights":[1,18446744073709551616]},"display_name":"P","fq_name":["p"],"uuid":"u","vxlan_routing":true}`
	if string(out) != want {
		t.Errorf("stored %s", out)
	}
	only := &Project{Meta: Meta{Unknown: map[string]json.RawMessage{"colour": json.RawMessage(`1`)}}}
	if out, err := Encode(only); err != nil || string(out) != `{"colour":1}` {
		t.Errorf("stored %s, %v", out, err)
	}
}

func TestStoredObjectsKeepUnknownFieldsOfKnownProperties(t *testing.T) {
	ipam := typeOf(t, "network-ipam")
	stored := `{"fq_name":["a"],"ipam_subnets":{"new":1,"subnets":[{"subnet":{"ip_prefix":"10.0.0.0","ip_prefix_len":24}},` +
		`{"colour":"red","subnet":{"ip_prefix":"10.0.1.0","ip_prefix_len":24,"zone":2}}]},"network_ipam_mgmt":{"new":3}}`
	decode := func() *NetworkIPAM {
		o, err := ipam.DecodeStored([]byte(stored))
		if err != nil {
			t.Fatal(err)
		}
		return o.(*NetworkIPAM)
	}
	check := func(what string, o Object, want string) {
		t.Helper()
		if got, err := Encode(o); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", what, got, err)
		}
	}
	check("unchanged", decode(), stored)

	longer := decode()
	longer.IPAMSubnets = &IpamSubnets{Subnets: append(longer.IPAMSubnets.Subnets[:1:1], IpamSubnetType{}, IpamSubnetType{})}
	check("list of another length", longer, `{"fq_name":["a"],"ipam_subnets":{"new":1,"subnets":[{"subnet":{"ip_prefix":"10.0.0.0","ip_prefix_len":24}},{},{}]},"network_ipam_mgmt":{"new":3}}`)

	cleared := decode()
	cleared.IPAMSubnets = nil
	check("property cleared", cleared, `{"fq_name":["a"],"network_ipam_mgmt":{"new":3}}`)

	before := decode()
	patched, err := ipam.Patch(before, map[string]json.RawMessage{"network_ipam_mgmt": json.RawMessage(`{"ipam_method":"dhcp"}`), "ipam_subnets": json.RawMessage(`null`)})
	if err != nil {
		t.Fatal(err)
	}
	check("patched", patched, `{"fq_name":["a"],"network_ipam_mgmt":{"ipam_method":"dhcp"}}`)
	check("the original of the patch", before, stored)
}

func TestStoredObjectsMayHaveValuesOfAnotherVersion(t *testing.T) {
	network := typeOf(t, "virtual-network")
	if _, err := network.DecodeStored([]byte(`{"virtual_network_properties":{"forwarding_mode":"l5","new":1}}`)); err != nil {
		t.Error(err)
	}
	if _, err := network.DecodeStored([]byte(`{"virtual_network_properties":{"forwarding_mode":5}}`)); err == nil {
		t.Error("a number was taken for a string")
	}
}

func TestPatch(t *testing.T) {
	network := typeOf(t, "virtual-network")
	before, err := network.Decode([]byte(`{"fq_name":["a"],"router_external":true,"route_target_list":{"route_target":["target:1:1"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	copied, _ := Encode(before)
	after, err := network.Patch(before, map[string]json.RawMessage{
		"router_external":   json.RawMessage(`null`),
		"route_target_list": json.RawMessage(`{"route_target":["target:2:2"]}`),
		"is_shared":         json.RawMessage(`true`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := Encode(after); string(text) != `{"fq_name":["a"],"is_shared":true,"route_target_list":{"route_target":["target:2:2"]}}` {
		t.Errorf("patched: %s", text)
	}
	if text, _ := Encode(before); string(text) != string(copied) {
		t.Errorf("the original became %s", text)
	}
	for name, value := range map[string]string{"colour": `1`, "is_shared": `1`, "router_external": `{`} {
		if _, err := network.Patch(before, map[string]json.RawMessage{name: json.RawMessage(value)}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("patch of %s: %v", name, err)
		}
	}
	if _, err := network.Patch(&Project{}, nil); err == nil {
		t.Error("patched a project as a network")
	}
}

func TestValidate(t *testing.T) {
	network := typeOf(t, "virtual-network")
	good := &VirtualNetwork{Meta: Meta{FQName: []string{"a"}}, MACAgingTime: new(int64(5))}
	if err := network.Validate(good); err != nil {
		t.Error(err)
	}
	bad := &VirtualNetwork{VirtualNetworkProperties: &VirtualNetworkType{RPF: "maybe"}}
	var wrong *PropertyError
	if err := network.Validate(bad); !errors.As(err, &wrong) || wrong.Property != "virtual_network_properties.rpf" {
		t.Errorf("got %v", err)
	}
	if err := network.Validate(&Project{}); err == nil {
		t.Error("a project is valid as a network")
	}
}

func TestReferenceAttributes(t *testing.T) {
	toIPAM, _ := typeOf(t, "virtual-network").Reference(KindNetworkIPAM)
	toRouter, _ := typeOf(t, "virtual-network").Reference(KindLogicalRouter)
	for _, c := range []struct {
		to   *ReferenceType
		attr string
		want string
	}{
		{toIPAM, ``, ``},
		{toIPAM, `null`, ``},
		{toIPAM, `{"ipam_subnets":[{"subnet":{"ip_prefix":"10.0.0.0","ip_prefix_len":24}}]}`, ``},
		{toIPAM, `{"subnets":[]}`, `network_ipam_refs.attr.subnets is []`},
		{toIPAM, `{"ipam_subnets":[{"subnet":{}}]}`, `network_ipam_refs.attr.ipam_subnets[0].subnet.ip_prefix is missing`},
		{toIPAM, `{`, `decode network_ipam_refs.attr`},
		{toRouter, `null`, ``},
		{toRouter, `{}`, `logical_router_refs.attr is {}`},
	} {
		err := c.to.ValidateAttr([]byte(c.attr))
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s %s: %v", c.to.Target, c.attr, err)
		}
	}
	r := Reference{Attr: json.RawMessage(`{"ipam_subnets":[{"addr_from_start":true}]}`)}
	attr, err := RefAttr[VnSubnetsType](r)
	if err != nil || len(attr.IPAMSubnets) != 1 || !ValueOr(attr.IPAMSubnets[0].AddrFromStart, false) {
		t.Errorf("attribute %+v, %v", attr, err)
	}
	if _, err := RefAttr[VnSubnetsType](Reference{}); err != nil {
		t.Error(err)
	}
	if _, err := RefAttr[VnSubnetsType](Reference{Attr: json.RawMessage(`7`)}); err == nil {
		t.Error("decoded 7")
	}
}

// Whatever the schema allows survives the way into Go and back.
func TestRoundTrip(t *testing.T) {
	types := Types()
	rapid.Check(t, func(t *rapid.T) {
		typ := rapid.SampledFrom(types).Draw(t, "type")
		tree := randomObject(t, typ)
		text, err := marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		for name, decode := range map[string]func([]byte) (Object, error){"strict": typ.Decode, "stored": typ.DecodeStored} {
			o, err := decode(text)
			if err != nil {
				t.Fatalf("%s decode of %s: %v", name, text, err)
			}
			encoded, err := Encode(o)
			if err != nil {
				t.Fatal(err)
			}
			again, err := decode(encoded)
			if err != nil {
				t.Fatalf("%s decode again: %v", name, err)
			}
			if twice, err := Encode(again); err != nil || !bytes.Equal(encoded, twice) {
				t.Fatalf("%s: %s became %s, %v", name, encoded, twice, err)
			}
			if name == "strict" && !reflect.DeepEqual(o, again) {
				t.Fatal(cmp.Diff(o, again))
			}
			back, err := parseObject(encoded)
			if err != nil {
				t.Fatal(err)
			}
			sent, err := parseObject(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(withoutEmpty(sent), withoutEmpty(back)); diff != "" {
				t.Fatalf("%s: sent and encoded differ: %s", name, diff)
			}
		}
	})
}

// A newer version's fields, wherever they are, survive this one.
func TestUnknownSurvives(t *testing.T) {
	types := Types()
	rapid.Check(t, func(t *rapid.T) {
		typ := rapid.SampledFrom(types).Draw(t, "type")
		sent := randomObject(t, typ)
		addUnknown(t, sent)
		text, err := marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		o, err := typ.DecodeStored(text)
		if err != nil {
			t.Fatalf("decode %s: %v", text, err)
		}
		encoded, err := Encode(o)
		if err != nil {
			t.Fatal(err)
		}
		want, err := parseObject(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseObject(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(withoutEmpty(want), withoutEmpty(got)); diff != "" {
			t.Fatalf("stored and encoded differ: %s", diff)
		}
	})
}

// addUnknown puts fields that no version has into some objects of the tree.
func addUnknown(t *rapid.T, tree any) {
	switch x := tree.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(x)) {
			addUnknown(t, x[k])
		}
		if rapid.Bool().Draw(t, "newer") {
			x["of another version"] = map[string]any{"n": rapid.Int().Draw(t, "n"), "list": []any{"a", 1.5}}
		}
	case []any:
		for _, item := range x {
			addUnknown(t, item)
		}
	}
}

// withoutEmpty drops what counts as absent.
func withoutEmpty(tree any) any {
	switch x := tree.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, v := range x {
			if v = withoutEmpty(v); v != nil {
				out[k] = v
			}
		}
		return out
	case []any:
		var out []any
		for _, v := range x {
			if v = withoutEmpty(v); v == nil {
				v = ""
			}
			out = append(out, v)
		}
		if out == nil {
			return nil
		}
		return out
	case string:
		if x == "" {
			return nil
		}
	}
	return tree
}

func randomObject(t *rapid.T, typ *Type) map[string]any {
	tree := map[string]any{}
	for _, p := range typ.Properties {
		if rapid.IntRange(0, 2).Draw(t, "has "+p.Name) == 0 {
			tree[p.Name] = randomValue(t, &p.Value, 4)
		}
	}
	return tree
}

func randomValue(t *rapid.T, v *Value, depth int) any {
	if !v.List {
		return randomSingle(t, v, depth)
	}
	items := []any{}
	for range rapid.IntRange(0, 3).Draw(t, "length") {
		items = append(items, randomSingle(t, v, depth))
	}
	return items
}

func randomSingle(t *rapid.T, v *Value, depth int) any {
	switch {
	case v.structure != nil:
		tree := map[string]any{}
		for _, f := range v.structure.Fields {
			if f.Mandatory || depth > 0 && rapid.Bool().Draw(t, "has "+f.Name) {
				tree[f.Name] = randomValue(t, &f.Value, depth-1)
			}
		}
		return tree
	case v.Type == "boolean":
		return rapid.Bool().Draw(t, "truth")
	case v.Type == "integer":
		return rapid.Int64Range(ValueOr(v.Minimum, -1<<63), ValueOr(v.Maximum, 1<<63-1)).Draw(t, "integer")
	case v.Type == "unsigned":
		return rapid.Uint64().Draw(t, "unsigned")
	case v.Enum != nil:
		return rapid.SampledFrom(v.Enum).Draw(t, "word")
	}
	examples := map[string][]string{
		"date-time":         {"2026-01-02T03:04:05.000006", "2026-01-02T03:04:05", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123+02:00"},
		"ip":                {"10.0.0.1", "2001:db8::1", "::ffff:1.2.3.4", ""},
		"uuid":              {"753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a"},
		"hex16":             {"0x0", "0xFFff"},
		"hex32":             {"0x0", "0xFFFFffff"},
		"route-target":      {"target:64512:8000001", "target:192.0.2.1:65535", "target:4200000000:1"},
		"mac":               {"02:00:00:00:00:01", "02-00-00-00-00-0A"},
		"prefix":            {"10.1.0.0/16", "::/0", "2001:db8::1/128"},
		"community":         {"64512:100", "no-export", "0xFFFF0001"},
		"esi":               {"00:11:22:33:44:55:66:77:88:99"},
		"service-interface": {"left", "right", "management", "other", "other12"},
	}
	if list, ok := examples[v.Format]; ok {
		return rapid.SampledFrom(list).Draw(t, v.Format)
	}
	return rapid.String().Draw(t, "string")
}

func FuzzDecode(f *testing.F) {
	types := Types()
	f.Add(uint8(0), []byte(`{}`))
	for i, typ := range types {
		f.Add(uint8(i), []byte(`{"fq_name":["a"],"annotations":{"key_value_pair":[{"key":"a","value":"b"}]},"display_name":"`+typ.Name+`"}`))
	}
	f.Add(uint8(3), []byte(`{"id_perms":{"uuid":{"uuid_mslong":1,"uuid_lslong":18446744073709551615},"created":"2026-01-02T03:04:05"}}`))
	f.Fuzz(func(t *testing.T, which uint8, text []byte) {
		typ := types[int(which)%len(types)]
		if o, err := typ.Decode(text); err == nil {
			if again := throughJSON(t, typ.Decode, o); !reflect.DeepEqual(o, again) {
				t.Fatal(cmp.Diff(o, again))
			}
			if stored := throughJSON(t, typ.DecodeStored, o); !reflect.DeepEqual(o, stored) {
				t.Fatal(cmp.Diff(o, stored))
			}
		}
		if o, err := typ.DecodeStored(text); err == nil {
			throughJSON(t, typ.DecodeStored, o)
		}
	})
}

func throughJSON(t *testing.T, decode func([]byte) (Object, error), o Object) Object {
	encoded, err := Encode(o)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	again, err := decode(encoded)
	if err != nil {
		t.Fatalf("decode %s: %v", encoded, err)
	}
	return again
}

func BenchmarkDecode(b *testing.B) {
	text := []byte(`{"uuid":"753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a","fq_name":["default-domain","mesos-default","753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a-eth0"],` +
		`"parent_type":"project","parent_uuid":"153a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a","display_name":"web.1",` +
		`"id_perms":{"enable":true,"uuid":{"uuid_mslong":1,"uuid_lslong":2},"created":"2026-01-02T03:04:05.000006","last_modified":"2026-01-02T03:04:05.000006","user_visible":true},` +
		`"perms2":{"owner":"cloud-admin","owner_access":7,"global_access":0},` +
		`"annotations":{"key_value_pair":[{"key":"app","value":"/web"}]},` +
		`"virtual_machine_interface_mac_addresses":{"mac_address":["02:75:3a:65:ef:91"]}}`)
	typ := typeOf(b, "virtual-machine-interface")
	b.Run("client", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := typ.Decode(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stored", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := typ.DecodeStored(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		o, err := typ.Decode(text)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Encode(o); err != nil {
				b.Fatal(err)
			}
		}
	})
}
