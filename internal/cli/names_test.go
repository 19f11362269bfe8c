package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

func TestFindType(t *testing.T) {
	for word, want := range map[string]model.Kind{
		"virtual-network": "virtual-network", "virtual_networks": "virtual-network", "vn": "virtual-network", "vns": "virtual-network",
		"networks": "virtual-network", "VMI": "virtual-machine-interface", "interfaces": "virtual-machine-interface",
		"policies": "network-policy", "network-policys": "network-policy", "iip": "instance-ip", "virtual-dns": "virtual-DNS",
		"virtual-DNSs": "virtual-DNS", "node": "node", "subnets": "subnet", "sg": "security-group", "fip": "floating-ip",
		"bgpaas": "bgp-as-a-service", "vrf": "routing-instance", "aliases": "",
	} {
		got, err := FindType(word)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is %s", word, got.Kind)
		case want != "" && (err != nil || got.Kind != want):
			t.Errorf("%q: %v, %v", word, got, err)
		}
	}
	for short, kind := range shortNames {
		if _, ok := model.TypeOf(string(kind)); !ok {
			t.Errorf("%s stands for %s, which is no type", short, kind)
		}
		if _, ok := model.TypeOf(short); ok {
			t.Errorf("%s stands for %s and is a type itself", short, kind)
		}
	}
	for _, typ := range model.Types() {
		if got, err := FindType(typ.Collection()); err != nil || got != typ {
			t.Errorf("%s: %v %v", typ.Collection(), got, err)
		}
	}
	if _, err := FindType("virtual-netwrok"); err == nil || !strings.Contains(err.Error(), "did you mean virtual-network?") {
		t.Error(err)
	}
}

func TestCandidates(t *testing.T) {
	for _, c := range []struct{ kind, project, name, want string }{
		{"virtual-network", "demo", "blue", "default-domain:demo:blue"},
		{"virtual-network", "other:demo", "blue", "other:demo:blue"},
		{"virtual-network", "demo", "red:blue", "default-domain:red:blue"},
		{"virtual-network", "demo", "d:red:blue", "d:red:blue"},
		{"virtual-network", "demo", "a:b:c:d", ""},
		{"project", "demo", "x", "default-domain:x"},
		{"project", "demo", "d:x", "d:x"},
		{"domain", "demo", "d", "d"},
		{"virtual-machine", "demo", "m", "m"},
		{"instance-ip", "demo", "i", "i"},
		{"route-target", "demo", "target:64512:1", "target:64512:1"},
		{"virtual-router", "demo", "node-1", "default-global-system-config:node-1"},
		{"tag", "demo", "application=web", "default-domain:demo:application=web application=web"},
		{"floating-ip-pool", "demo", "blue:pool", "default-domain:demo:blue:pool"},
		{"routing-instance", "demo", "default-domain:demo:blue:blue", "default-domain:demo:blue:blue"},
	} {
		typ, ok := model.TypeOf(c.kind)
		if !ok {
			t.Fatal(c.kind)
		}
		var got []string
		for _, name := range (Scope{Project: c.project}).candidates(typ, c.name) {
			got = append(got, model.FQString(name))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s %s in %s: %q, want %q", c.kind, c.name, c.project, got, c.want)
		}
	}
}

func TestSelectors(t *testing.T) {
	vmi, _ := model.TypeOf("virtual-machine-interface")
	o := object{
		"annotations":           []byte(`{"key_value_pair":[{"key":"team","value":"net"},{"key":"flag","value":""}]}`),
		"tag_refs":              []byte(`[{"to":["application=web"]},{"to":["default-domain","demo","label=a"]},{"to":["label=b"]}]`),
		"port_security_enabled": []byte(`true`),
		"virtual_network_refs":  []byte(`[{"to":["default-domain","demo","blue"],"uuid":"u"}]`),
		"virtual_machine_interface_fat_flow_protocols": []byte(`{"fat_flow_protocol":[{"port":80},{"port":443}]}`),
	}
	for text, want := range map[string]bool{
		"": true, "team=net": true, "team==net": true, "team=x": false, "team!=net": false, "team!=x": true, "team": true, "!team": false,
		"none": false, "!none": true, "none!=x": true, "flag=": true, "application=web,team=net": true, "application=web,team=x": false,
		"label=a": true, "label=b": true, "label=c": false,
	} {
		s, err := ParseSelector(text)
		if err != nil || s.matches(o) != want {
			t.Errorf("%q: %v, %v", text, s.matches(o), err)
		}
	}
	for text, want := range map[string]bool{
		"port_security_enabled=true": true, "port_security_enabled=false": false, "port_security_enabled!=true": false, "virtual_network_refs=blue": true,
		"virtual_network_refs=default-domain:demo:blue": true, "virtual_network_refs=red": false,
		"virtual_machine_interface_fat_flow_protocols.fat_flow_protocol.port=443":      true,
		"virtual_machine_interface_fat_flow_protocols.fat_flow_protocol.port=8080":     false,
		"virtual_machine_interface_fat_flow_protocols.fat_flow_protocol.protocol=udp":  false,
		"virtual_machine_interface_fat_flow_protocols.fat_flow_protocol.protocol!=udp": true,
		"instance_ip_back_refs=x": false,
	} {
		s, err := ParseFields(vmi, []string{text})
		if err != nil || s.matches(o) != want {
			t.Errorf("%q: %v, %v", text, s.matches(o), err)
		}
	}
	for _, text := range []string{"", "x", "=x", "nonsense=1", "network_policy_refs=x", "virtual_machine_interface_fat_flow_protocols.nonsense=1"} {
		if s, err := ParseFields(vmi, []string{text}); err == nil {
			t.Errorf("--field %q is %v", text, s)
		}
	}
	for _, text := range []string{"=x", ",", "a=b,,c=d"} {
		if _, err := ParseSelector(text); err == nil {
			t.Errorf("%q is a selector", text)
		}
	}
}

func TestShortOf(t *testing.T) {
	if got := shortOf("virtual-network"); got != "vn" {
		t.Error(got)
	}
	if !slices.Contains([]string{"ri", "vrf"}, shortOf("routing-instance")) {
		t.Error(shortOf("routing-instance"))
	}
}
