package configapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/contrail-mesos/contrail/internal/model"
)

// openapi is the description of the REST interface, made from the schema and
// the table of actions: there is no other place where a type is described.
var openapi = sync.OnceValues(func() (json.RawMessage, error) {
	d := &description{schemas: object{}, paths: object{}}
	for _, t := range model.Types() {
		d.addType(t)
	}
	for _, x := range actions() {
		d.addAction(x)
	}
	d.addOthers()
	return json.Marshal(object{
		"openapi":           "3.1.0",
		"jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
		"info": object{
			"title": "Contrail for Mesos configuration API", "version": "1",
			"description": "Objects of the configuration over REST, as clients of the VNC API know it. Errors are plain text. A property that is null in a PUT is cleared; a list of references replaces those to that type.",
			"license":     object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"servers":  []object{{"url": "/"}},
		"security": []object{{"bearer": []string{}}, {"certificate": []string{}}},
		"tags":     d.tags,
		"paths":    d.paths,
		"components": object{
			"schemas":    d.schemas,
			"parameters": parameters(),
			"responses": object{"Error": object{
				"description": "A text that says what is wrong.",
				"content":     object{"text/plain": object{"schema": object{"type": "string"}}},
			}},
			"securitySchemes": object{
				"bearer":      object{"type": "http", "scheme": "bearer"},
				"certificate": object{"type": "mutualTLS"},
			},
		},
	})
})

// object is one of JSON.
type object = map[string]any

type description struct {
	schemas, paths object
	tags           []object
}

// openAPI serves the description.
func (a *API) openAPI(*http.Request) (*answer, error) {
	doc, err := openapi()
	if err != nil {
		return nil, err
	}
	return &answer{at: a.graph.Position(), body: doc}, nil
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

func orNull(s object) object { return object{"anyOf": []object{s, {"type": "null"}}} }

// addType describes a type, its collection and its objects.
func (d *description) addType(t *model.Type) {
	kind := string(t.Kind)
	d.tags = append(d.tags, object{"name": kind, "description": t.Doc})
	d.schemas[kind] = d.typeSchema(t)
	one := object{"type": "object", "required": []string{kind}, "properties": object{kind: ref(kind)}}
	made := object{"type": "object", "required": []string{kind}, "properties": object{kind: object{
		"type": "object", "required": []string{"uuid", "href"}, "properties": object{
			"uuid": object{"type": "string", "format": "uuid"}, "href": object{"type": "string"}, "name": object{"type": "string"},
			"fq_name": object{"type": "array", "items": object{"type": "string"}}, "parent_type": object{"type": "string"},
			"parent_uuid": object{"type": "string"}, "parent_href": object{"type": "string"},
		},
	}}}
	list := object{"type": "object", "required": []string{t.Collection()}, "properties": object{
		"marker": object{"type": []string{"string", "null"}, "description": "where the next page begins"},
		t.Collection(): object{"oneOf": []object{
			{"type": "array", "items": ref(kind), "description": "with the fields that were asked for"},
			{"type": "array", "minItems": 1, "items": one, "description": "with detail=true"},
			{"type": "object", "required": []string{"count"}, "properties": object{"count": object{"type": "integer"}}},
		}},
	}}
	collection := object{"get": d.operation(kind, "list-"+kind, "List objects.", listParameters, nil, list)}
	if t.Kind != model.KindConfigRoot && t.Kind != model.KindAccessControlList {
		collection["post"] = d.operation(kind, "create-"+kind, "Create an object.", nil, one, made)
	}
	d.paths["/"+t.Collection()] = collection
	d.paths["/"+kind+"/{uuid}"] = object{
		"parameters": []object{{"$ref": "#/components/parameters/uuid"}},
		"get":        d.operation(kind, "read-"+kind, "Read an object.", []string{"fields", "exclude_back_refs", "exclude_children", "exclude_hrefs"}, nil, one),
		"put":        d.operation(kind, "update-"+kind, "Change the properties and lists of references that are given.", nil, one, made),
		"delete":     d.operation(kind, "delete-"+kind, "Delete an object that nothing needs.", nil, nil, nil),
	}
}

// typeSchema describes an object as it is read, and as it may be written.
func (d *description) typeSchema(t *model.Type) object {
	properties := object{}
	for _, p := range t.Properties {
		v := p.Value
		written := strings.ContainsAny(p.Ops, "CU")
		if !written {
			v.Minimum, v.Maximum = nil, nil // bounds are for those who write
		}
		s := orNull(d.value(&v))
		switch {
		case !written:
			s["readOnly"] = true
		case !strings.Contains(p.Ops, "U"):
			s["description"] = strings.TrimSpace(p.Doc + " Set at creation.")
		case p.Doc != "":
			s["description"] = p.Doc
		}
		if !p.Effective {
			s["x-effect"] = "none"
		}
		properties[p.Name] = s
	}
	for _, name := range []string{"name", "href", "parent_href"} {
		properties[name] = object{"type": "string", "readOnly": true}
	}
	for _, r := range t.References {
		properties[r.JSONName()] = d.references(r)
	}
	links := object{"type": "array", "readOnly": true, "items": ref("Link")}
	for _, child := range t.Children() {
		properties[child.Name()+"s"] = links
	}
	for _, from := range t.Referrers() {
		properties[from.Name()+"_back_refs"] = links
	}
	return object{"type": "object", "description": t.Doc, "properties": properties, "x-effect": t.Effect}
}

func (d *description) references(r *model.ReferenceType) object {
	attr := object{"type": "null"}
	if r.Attr != "" {
		attr = orNull(ref(r.Attr))
		d.structure(r.AttrStruct())
	}
	s := object{"type": []string{"array", "null"}, "items": object{
		"type": "object", "description": "either to or uuid is needed to write",
		"properties": object{
			"to":   object{"type": "array", "items": object{"type": "string"}},
			"uuid": object{"type": "string"}, "href": object{"type": "string", "readOnly": true}, "attr": attr,
		},
	}}
	if !r.Effective {
		s["x-effect"] = "none"
	}
	return s
}

// structure describes a structured value once.
func (d *description) structure(st *model.Struct) {
	if _, done := d.schemas[st.Name]; done {
		return
	}
	properties := object{}
	s := object{"type": "object", "properties": properties, "additionalProperties": false}
	d.schemas[st.Name] = s
	var required []string
	for _, f := range st.Fields {
		one := d.value(&f.Value)
		if f.Mandatory {
			required = append(required, f.Name)
		} else {
			one = orNull(one)
		}
		if !f.Effective {
			one["x-effect"] = "none"
		}
		properties[f.Name] = one
	}
	if required != nil {
		s["required"] = required
	}
}

// value describes a value.
func (d *description) value(v *model.Value) object {
	s := object{"type": v.Type}
	switch {
	case v.Struct() != nil:
		d.structure(v.Struct())
		s = ref(v.Struct().Name)
	case v.Type == "unsigned":
		s = object{"type": "integer", "minimum": 0, "maximum": json.Number("18446744073709551615")}
	}
	if v.Minimum != nil {
		s["minimum"] = *v.Minimum
	}
	if v.Maximum != nil {
		s["maximum"] = *v.Maximum
	}
	if v.Enum != nil {
		s["enum"] = v.Enum
	}
	if v.Format == "date-time" {
		// Ours have no zone: UTC is meant.
		s["pattern"] = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+`
	} else if v.Format != "" {
		s["format"] = v.Format
	}
	if v.Default != "" {
		s["default"] = json.RawMessage(v.Default)
	}
	if v.List {
		return object{"type": "array", "items": s}
	}
	return s
}

func (d *description) operation(tag, id, summary string, query []string, body, reply object) object {
	ok := object{"description": "Done."}
	if reply != nil {
		ok["content"] = object{"application/json": object{"schema": reply}}
	}
	op := object{
		"operationId": id, "summary": summary, "tags": []string{tag},
		"responses": object{"200": ok, "default": object{"$ref": "#/components/responses/Error"}},
	}
	if body != nil {
		op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": body}}}
	}
	if query != nil {
		var list []object
		for _, name := range query {
			list = append(list, object{"$ref": "#/components/parameters/" + name})
		}
		op["parameters"] = list
	}
	return op
}
