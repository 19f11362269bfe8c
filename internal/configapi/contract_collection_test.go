package configapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// A.1: elements of lists and maps.
func TestContractCollections(t *testing.T) {
	c := newClassic(t)
	c.project("p")
	vmi := c.create("virtual-machine-interface", m{"fq_name": l{"default-domain", "p", "vmi"}, "parent_type": "project", "virtual_network_refs": l{m{"uuid": c.network("p", "blue", "10.1.0.0/24")}}})
	const list = "virtual_machine_interface_fat_flow_protocols"
	const field = "fat_flow_protocol"
	port := func(n int) m { return m{"protocol": "tcp", "port": n} }
	get := func(name, more string) string {
		t.Helper()
		text, err := json.Marshal(c.do("GET", "/prop-collection-get?uuid="+vmi+"&fields="+name+more, nil)[name])
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	update := func(updates ...m) m { return m{"uuid": vmi, "updates": updates} }
	do := func(updates ...m) {
		t.Helper()
		if status, text, _ := c.send("POST", "/prop-collection-update", update(updates...)); status != 200 {
			t.Fatalf("%v: %d %s", updates, status, text)
		}
	}
	want := func(what, want string) {
		t.Helper()
		if got := get(list, ""); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	want("nothing", `[]`)
	do(m{"field": list, "operation": "add", "value": port(80)}, m{"field": list, "operation": "add", "value": port(81), "position": "mine"}, m{"field": list, "operation": "add", "value": port(82)})
	want("added", `[[{"port":80,"protocol":"tcp"},"0"],[{"port":81,"protocol":"tcp"},"mine"],[{"port":82,"protocol":"tcp"},"2"]]`)
	do(m{"field": list, "operation": "delete", "position": "0"})
	do(m{"field": list, "operation": "delete", "position": "0"})
	do(m{"field": list, "operation": "modify", "position": "2", "value": port(92)})
	do(m{"field": list, "operation": "add", "value": port(83)})
	want("positions stay", `[[{"port":81,"protocol":"tcp"},"mine"],[{"port":92,"protocol":"tcp"},"2"],[{"port":83,"protocol":"tcp"},"3"]]`)
	if got := get(list, "&position=mine"); got != `[[{"port":81,"protocol":"tcp"},"mine"]]` {
		t.Errorf("one element: %s", got)
	}
	if got := c.read("virtual-machine-interface", vmi)[list].(m)[field].(l); len(got) != 3 || got[1].(m)["port"] != 92.0 {
		t.Errorf("property %v", got)
	}
	c.do("PUT", "/virtual-machine-interface/"+vmi, m{"virtual-machine-interface": m{list: m{field: l{port(1), port(2)}}}})
	want("replaced", `[[{"port":1,"protocol":"tcp"},"0"],[{"port":2,"protocol":"tcp"},"1"]]`)
	do(m{"field": list, "operation": "delete", "position": 0}, m{"field": list, "operation": "delete", "position": "1"})
	want("emptied", `[]`)

	bindings := "virtual_machine_interface_bindings"
	do(m{"field": bindings, "operation": "set", "value": m{"key": "a", "value": "1"}}, m{"field": "annotations", "operation": "set", "value": m{"key": "x", "value": "y"}, "position": "x"})
	do(m{"field": bindings, "operation": "set", "value": m{"key": "b", "value": "2"}}, m{"field": bindings, "operation": "set", "value": m{"key": "a", "value": "3"}})
	if got := get(bindings, ""); got != `[[{"key":"a","value":"3"},"a"],[{"key":"b","value":"2"},"b"]]` {
		t.Errorf("map %s", got)
	}
	do(m{"field": bindings, "operation": "delete", "position": "a"})
	if got := get(bindings, ""); got != `[[{"key":"b","value":"2"},"b"]]` {
		t.Errorf("map %s", got)
	}
	for _, tt := range []struct {
		status int
		text   string
		update m
	}{
		{400, "", m{"field": list, "operation": "set", "value": port(1)}},
		{400, "", m{"field": bindings, "operation": "add", "value": m{"key": "a"}}},
		{400, "", m{"field": bindings, "operation": "set", "value": m{"value": "1"}}},
		{400, "", m{"field": bindings, "operation": "set", "value": m{"key": "a"}, "position": "b"}},
		{400, "", m{"field": list, "operation": "delete"}},
		{400, "", m{"field": list, "operation": "add"}},
		{404, "", m{"field": list, "operation": "modify", "value": port(1), "position": "9"}},
		{400, "Bad property in http_put: " + list, m{"field": list, "operation": "add", "value": m{"protocol": "tcp", "port": "x"}}},
		{400, "Bad property", m{"field": list, "operation": "add", "value": m{"fish": 1}}},
		{400, "Bad property", m{"field": "display_name", "operation": "add", "value": "x"}},
		{400, "Bad property", m{"field": "fish", "operation": "add", "value": "x"}},
		{400, "", m{"field": list, "operation": "add", "value": port(1), "position": m{}}},
		{400, "", m{"field": list, "operation": "add", "value": port(1), "position": strings.Repeat("x", 100)}},
	} {
		// All or nothing: what comes before the refused one is not made.
		c.fails(tt.status, tt.text, "POST", "/prop-collection-update", update(m{"field": bindings, "operation": "delete", "position": "b"}, tt.update))
	}
	if got := get(bindings, ""); got != `[[{"key":"b","value":"2"},"b"]]` {
		t.Errorf("refused requests changed %s", got)
	}
	const nowhere = "00000000-0000-4000-8000-000000000001"
	c.fails(404, "", "POST", "/prop-collection-update", m{"uuid": nowhere, "updates": l{}})
	c.fails(404, "", "GET", "/prop-collection-get?uuid="+nowhere+"&fields=annotations", nil)
	c.fails(400, "Invalid UUID format: x", "GET", "/prop-collection-get?uuid=x&fields=annotations", nil)
	c.fails(400, "", "GET", "/prop-collection-get?uuid="+vmi, nil)
	c.fails(400, "", "GET", "/prop-collection-get?uuid="+vmi+"&fields=display_name", nil)

	t.Run("concurrent", func(t *testing.T) {
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() { do(m{"field": list, "operation": "add", "value": port(100 + i)}) })
			group.Go(func() {
				do(m{"field": bindings, "operation": "set", "value": m{"key": fmt.Sprint(i), "value": "1"}})
			})
		}
		group.Wait()
		got := c.read("virtual-machine-interface", vmi)
		if n := len(got[list].(m)[field].(l)); n != 8 {
			t.Errorf("%d elements of 8", n)
		}
		if n := len(got[bindings].(m)["key_value_pair"].(l)); n != 9 {
			t.Errorf("%d keys of 9", n)
		}
	})
	c.delete("virtual-machine-interface", vmi)
}

// What is kept beside an object goes with it.
func TestCollectionLeavesNothing(t *testing.T) {
	b := newBench(t, testConfig())
	before := b.dump()
	id := b.create("alarm", `{"fq_name": ["default-global-system-config", "a"], "parent_type": "global-system-config"}`)
	rule := `{"and_list": [{"operand1": "x", "operation": "==", "operand2": {"json_value": "1"}}]}`
	for range 3 {
		b.json("POST", "/prop-collection-update", fmt.Sprintf(`{"uuid": %q, "updates": [{"field": "alarm_rules", "operation": "add", "value": %s}]}`, id, rule))
	}
	b.json("POST", "/prop-collection-update", fmt.Sprintf(`{"uuid": %q, "updates": [{"field": "alarm_rules", "operation": "delete", "position": "1"}]}`, id))
	b.json("DELETE", "/alarm/"+id, "")
	for k := range b.dump() {
		if _, ok := before[k]; !ok {
			t.Errorf("left behind: %s", k)
		}
	}
}
