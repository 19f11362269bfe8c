package configapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

// FuzzFilters: what is accepted is whole: the parts make up the text, and each
// value is JSON that matches itself.
func FuzzFilters(f *testing.F) {
	for _, seed := range []string{
		"", "a==1", `a=="x,y",b=={"c":[1,2,"}"]}`, "a==", "==1", "a==1,", `a=="\"",a=="\\"`, "a==[", "a==]]", "a==1==2", `"`, `a=="x`, "a==tru", " a ==1", "a==1e999", "a==\"\xff\"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if parts := splitFilters(text); strings.Join(parts, ",") != text {
			t.Errorf("%q falls into %q", text, parts)
		}
		filters, err := readFilters(text)
		if err != nil {
			if httpStatus(err) != http.StatusBadRequest || !strings.HasPrefix(err.Error(), "Invalid filter ") {
				t.Errorf("%q: %d %v", text, httpStatus(err), err)
			}
			return
		}
		for name, values := range filters {
			for v := range values.set {
				if name == "" || !json.Valid([]byte(v)) || canonical(json.RawMessage(v)) != v {
					t.Errorf("%q filters %q by %q", text, name, v)
				}
			}
		}
	})
}

// FuzzListQuery: a query is read or refused, and means what it says.
func FuzzListQuery(f *testing.F) {
	for _, seed := range []string{
		"", "parent_id=a,b&count=TRUE", "obj_uuids=", "page_limit=-1", "page_limit=99999999999999999999", "page_marker=x", "fields=,,a", "detail=1&shared=true",
		"fq_names=a:b,c", "parent_fq_name_str=a:b&parent_type=project", "filters=a==1&filters=b==2", "exclude_hrefs", "back_ref_id=%00",
	} {
		f.Add(seed)
	}
	typ, _ := model.TypeOf("virtual-network")
	view := model.NewGraph()
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		l, err := listQueryOf(typ, q, "http://api")
		if err != nil {
			if httpStatus(err) != http.StatusBadRequest {
				t.Errorf("%q: %v", query, err)
			}
			return
		}
		if l.limit < 0 || q.Has("page_limit") && q.Get("page_limit") != "" && l.limit == 0 {
			t.Errorf("%q: limit %d", query, l.limit)
		}
		view.View(func(v *model.View) {
			l.may = everything
			if found := l.find(v, typ); len(found) != 0 {
				t.Errorf("%q finds %v in an empty graph", query, found)
			}
		})
	})
}

// FuzzCollectionUpdate: changes of elements are made or refused, all of them;
// no two elements have one position.
func FuzzCollectionUpdate(f *testing.F) {
	for _, seed := range []string{
		`[]`, `[{"field": "annotations", "operation": "set", "value": {"key": "a", "value": "b"}}]`,
		`[{"field": "annotations", "operation": "delete", "position": "k"}]`,
		`[{"field": "virtual_network_fat_flow_protocols", "operation": "add", "value": {"protocol": "tcp", "port": 1}, "position": "0"}]`,
		`[{"field": "virtual_network_fat_flow_protocols", "operation": "add", "value": {"protocol": "tcp"}}, {"field": "virtual_network_fat_flow_protocols", "operation": "delete", "position": 0}]`,
		`[{"field": "virtual_network_fat_flow_protocols", "operation": "modify", "value": 7, "position": "1"}]`,
		`[{"field": "annotations", "operation": "set", "value": {"key": 7}}]`, `[{"field": "annotations", "operation": "set", "value": null}]`, `[{"field": "fish"}]`,
		`[{"field": "annotations", "operation": "SET", "value": {"key": "k"}, "position": {}}]`,
	} {
		f.Add([]byte(seed))
	}
	typ, _ := model.TypeOf("virtual-network")
	o, err := typ.Decode([]byte(`{"uuid": "00000000-0000-4000-8000-000000000001", "fq_name": ["a", "b", "c"],
		"annotations": {"key_value_pair": [{"key": "k", "value": "v"}]}, "virtual_network_fat_flow_protocols": {"fat_flow_protocol": [{"protocol": "udp", "port": 1}, {"protocol": "udp", "port": 2}]}}`))
	if err != nil {
		f.Fatal(err)
	}
	api := &API{positions: &positions{}}
	f.Fuzz(func(t *testing.T, data []byte) {
		var updates []elementUpdate
		if json.Unmarshal(data, &updates) != nil {
			return
		}
		g, err := api.updated(typ, o, updates)
		if err != nil {
			if status := httpStatus(err); status < 400 || status >= 500 {
				t.Errorf("%s: %d %v", data, status, err)
			}
			return
		}
		for name, list := range g.positions {
			if len(slices.Compact(slices.Sorted(slices.Values(list)))) != len(list) {
				t.Errorf("%s: positions of %s %v", data, name, list)
			}
		}
		patched, err := typ.Patch(o, g.properties)
		if err != nil {
			return // refused as PUT would
		}
		c, err := api.collection(typ, patched, "annotations")
		if err != nil || len(c.values) != len(c.positions) {
			t.Errorf("%s: annotations %v %v", data, c, err)
		}
	})
}

// FuzzTagChanges: what is asked of tags is understood or refused.
func FuzzTagChanges(f *testing.F) {
	for _, seed := range []string{
		`{"application": {"is_global": true, "value": "hr"}, "label": {"add_values": ["a"], "delete_values": ["b"]}, "tier": null}`,
		`{"application": {"add_values": []}}`, `{"label": {"value": "x"}}`, `{"": {"value": "x"}}`, `{"x": 7}`, `{"x": {"value": ["a"]}}`, `{"LABEL": {"value": "x"}}`,
	} {
		f.Add([]byte(seed))
	}
	typ, _ := model.TypeOf("virtual-network")
	f.Fuzz(func(t *testing.T, data []byte) {
		var q map[string]json.RawMessage
		if json.Unmarshal(data, &q) != nil {
			return
		}
		changes, err := tagChanges(typ, q)
		if err != nil {
			if httpStatus(err) != http.StatusBadRequest {
				t.Errorf("%s: %v", data, err)
			}
			return
		}
		for _, x := range changes {
			if !x.clear && x.typeName != labelType && (x.Value == nil || x.Add != nil || x.Delete != nil) {
				t.Errorf("%s: %+v", data, x)
			}
		}
	})
}
