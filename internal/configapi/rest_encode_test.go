package configapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Answers that are put together from stored JSON say what an encoder would say
// of the decoded object, also of names that JSON has to escape.
func TestAnswersSayWhatIsStored(t *testing.T) {
	b := newBench(t, testConfig())
	odd := "ü \"quoted\" \\ <&> \u2028 ok"
	b.create("project", `{"fq_name": ["default-domain", "mesos-default"]}`)
	vn := b.create("virtual-network", `{"fq_name": ["default-domain", "mesos-default", `+quote(odd)+`], "parent_type": "project",
		"annotations": {"key_value_pair": [{"key": "a\"b", "value": "\\u0041"}]}, "is_shared": true}`)
	vmi := b.create("virtual-machine-interface", `{"fq_name": ["default-domain", "mesos-default", "port"], "parent_type": "project",
		"virtual_network_refs": [{"uuid": "`+vn+`"}]}`)
	got := b.get("virtual-network", vn)
	var want map[string]any
	b.api.graph.View(func(v *model.View) {
		o, ok := v.Object(model.KindVirtualNetwork, vn)
		if !ok {
			t.Fatal("the network is not there")
		}
		want = asTree(t, o)
	})
	for name, value := range want {
		if !reflect.DeepEqual(got[name], value) {
			t.Errorf("%s is %v, want %v", name, got[name], value)
		}
	}
	if got["name"] != odd || !strings.HasSuffix(got["href"].(string), "/virtual-network/"+vn) {
		t.Errorf("name %v, href %v", got["name"], got["href"])
	}
	back := got["virtual_machine_interface_back_refs"].([]any)[0].(map[string]any)
	if back["uuid"] != vmi || back["attr"] != nil || len(back["to"].([]any)) != 3 {
		t.Errorf("back reference %v", back)
	}
	if instances := got["routing_instances"].([]any); len(instances) != 1 {
		t.Errorf("routing instances %v", instances)
	}
	to := b.get("virtual-machine-interface", vmi)["virtual_network_refs"].([]any)[0].(map[string]any)["to"].([]any)
	if to[2] != odd {
		t.Errorf("reference to %v", to)
	}
	only := b.showWith("virtual-network", vn, "?fields=is_shared,virtual_machine_interface_back_refs&exclude_hrefs")
	if only["is_shared"] != true || only["annotations"] != nil || only["href"] != nil || only["routing_instances"] != nil ||
		len(only["virtual_machine_interface_back_refs"].([]any)) != 1 {
		t.Errorf("with fields: %v", only)
	}
}

func quote(s string) string {
	data, _ := json.Marshal(s) // strings have a JSON form
	return string(data)
}

// asTree is the JSON of an object, read again.
func asTree(t *testing.T, o model.Object) map[string]any {
	t.Helper()
	data, err := model.Encode(o)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

// showWith reads an object as a query asks for it.
func (b *bench) showWith(kind, id, query string) map[string]any {
	b.Helper()
	return b.json("GET", "/"+kind+"/"+id+query, "")[kind].(map[string]any)
}
