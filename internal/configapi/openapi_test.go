package configapi

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/contrail-mesos/contrail/internal/model"
)

// The description is one of OpenAPI 3.1, of every type and route, and its
// schemas are those of JSON Schema 2020-12.
func TestOpenAPI(t *testing.T) {
	b := newBench(t, testConfig())
	status, text, header := b.call("GET", "/openapi.json", "")
	if status != 200 || !strings.HasPrefix(header.Get("Content-Type"), "application/json") {
		t.Fatalf("%d %s", status, header.Get("Content-Type"))
	}
	doc, err := openapi3.NewLoader().LoadFromData([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Errorf("no OpenAPI: %.500v", err)
	}
	ids := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if ids[op.OperationID] {
				t.Errorf("%s %s: operationId %s is there twice", method, path, op.OperationID)
			}
			ids[op.OperationID] = true
		}
	}
	for _, typ := range model.Types() {
		one, collection := doc.Paths.Value("/"+string(typ.Kind)+"/{uuid}"), doc.Paths.Value("/"+typ.Collection())
		if one == nil || collection == nil || one.Get == nil || one.Put == nil || one.Delete == nil || collection.Get == nil {
			t.Errorf("%s is not described", typ.Kind)
		}
	}
	for _, x := range actions() {
		if item := doc.Paths.Value(x.path); item == nil || item.GetOperation(x.method) == nil {
			t.Errorf("%s %s is not described", x.method, x.path)
		}
	}
	for path := range bodies() {
		if doc.Paths.Value(path) == nil {
			t.Errorf("%s is described and not served", path)
		}
	}
	schemas := compiled(t, text)
	for name := range doc.Components.Schemas {
		schemas(name)
	}
}

// compiled returns what compiles a schema of the description.
func compiled(t *testing.T, text string) func(name string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	whole, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddResource("openapi.json", whole); err != nil {
		t.Fatal(err)
	}
	return func(name string) *jsonschema.Schema {
		t.Helper()
		s, err := c.Compile("openapi.json#/components/schemas/" + name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return s
	}
}

// What the API answers is what it describes: everything that a new cluster
// has, and samples of every type with every property.
func TestAnswersMatchOpenAPI(t *testing.T) {
	c := newClassic(t)
	f := newFamily(c)
	doc, err := openapi()
	if err != nil {
		t.Fatal(err)
	}
	schemas := compiled(t, string(doc))
	check := func(kind, id string) {
		raw, err := json.Marshal(c.read(kind, id))
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schemas(kind).Validate(v); err != nil {
			t.Errorf("%s/%s: %.600v", kind, id, err)
		}
	}
	for _, typ := range model.Types() {
		kind := string(typ.Kind)
		if !system[typ.Kind] {
			id := f.make(typ.Kind, nil)
			for _, p := range typ.Properties {
				if strings.Contains(p.Ops, "U") && p.Name != "perms2" && p.Name != "id_perms" {
					c.send("PUT", "/"+kind+"/"+id, m{kind: m{p.Name: sampleOf(p.Name, &p.Value, 0)}})
				}
			}
		}
		for _, id := range uuidsOf(c.do("GET", "/"+kind+"s", nil)[kind+"s"]) {
			check(kind, id)
		}
	}
}

// A schema refuses what the API refuses.
func TestOpenAPIRefuses(t *testing.T) {
	doc, err := openapi()
	if err != nil {
		t.Fatal(err)
	}
	schemas := compiled(t, string(doc))
	for _, text := range []string{
		`{"virtual_network_properties": {"rpf": "maybe"}}`, `{"virtual_network_properties": {"vxlan_network_identifier": 0}}`,
		`{"virtual_network_properties": {"x": 1}}`, `{"is_shared": "yes"}`, `{"network_ipam_refs": {}}`,
		`{"network_ipam_refs": [{"attr": {"ipam_subnets": [{"subnet": {"ip_prefix": "10.0.0.0"}}]}}]}`,
	} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if schemas("virtual-network").Validate(v) == nil {
			t.Error(fmt.Sprint("accepts ", text))
		}
	}
}
