package configapi

import "strings"

var listParameters = []string{
	"parent_id", "parent_fq_name_str", "parent_type", "back_ref_id", "obj_uuids", "fq_names", "fields", "filters",
	"detail", "count", "shared", "exclude_hrefs", "page_marker", "page_limit",
}

// parameters are those of paths and queries, by name.
func parameters() object {
	out := object{"uuid": object{
		"name": "uuid", "in": "path", "required": true, "schema": object{"type": "string", "format": "uuid"},
	}}
	for name, doc := range map[string]string{
		"parent_id":          "UUIDs of parents, with commas between them",
		"parent_fq_name_str": "the name of the parent, joined with colons",
		"parent_type":        "the type of the parent",
		"back_ref_id":        "UUIDs of objects that are referred to, with commas between them",
		"obj_uuids":          "UUIDs of objects, with commas between them",
		"fq_names":           "names joined with colons, with commas between them",
		"fields":             "properties, references, children and back references to show, with commas between them",
		"filters":            "conditions such as is_shared==true, with commas between them; values are JSON",
		"detail":             "true shows whole objects",
		"count":              "true shows the number only",
		"shared":             "true adds what others share",
		"exclude_hrefs":      "leaves hrefs out",
		"exclude_children":   "leaves children out",
		"exclude_back_refs":  "leaves back references out",
		"page_marker":        "where the page begins: the marker of the last answer",
		"page_limit":         "how many objects at most",
	} {
		s := object{"type": "string"}
		if name == "page_limit" {
			s = object{"type": "integer", "minimum": 1}
		}
		p := object{"name": name, "in": "query", "description": doc, "schema": s}
		if strings.HasPrefix(name, "exclude_") {
			p["allowEmptyValue"] = true // they need no value
		}
		out[name] = p
	}
	return out
}

// The values of which the bodies of actions are made.
var (
	aText  = object{"type": "string"}
	texts  = object{"type": "array", "items": aText}
	aFlag  = object{"type": "boolean"}
	aCount = object{"type": "integer"}
	rights = object{"type": "integer", "minimum": 0, "maximum": 7}
	free   = object{}
)

// bodies are what the actions are asked with, by path. Of those that are not
// here, none has a body.
func bodies() map[string]object {
	return map[string]object{
		"/fqname-to-id":         {"type": aText, "fq_name": texts},
		"/id-to-fqname":         {"uuid": aText},
		"/ref-relax-for-delete": {"uuid": aText, "ref-uuid": aText},
		"/ref-update": {
			"type": aText, "uuid": aText, "ref-type": aText, "ref-uuid": orNull(aText), "ref-fq-name": orNull(texts),
			"operation": object{"enum": []string{"ADD", "DELETE"}}, "attr": free, "relax_ref_for_delete": orNull(aFlag),
		},
		"/prop-collection-update": {"uuid": aText, "updates": object{"type": "array", "items": object{
			"type": "object", "required": []string{"field", "operation"}, "properties": object{
				"field": aText, "operation": object{"enum": []string{"add", "modify", "delete", "set"}}, "value": free, "position": free,
			},
		}}},
		"/useragent-kv": {"operation": object{"enum": []string{"STORE", "RETRIEVE", "DELETE"}}, "key": free, "value": free},
		"/list-bulk-collection": {
			"type": aText, "parent_id": aText, "back_ref_id": aText, "obj_uuids": aText, "fields": aText, "filters": aText,
			"count": free, "detail": free, "shared": free, "exclude_hrefs": free, "page_marker": free, "page_limit": free,
		},
		"/obj-cache": {"uuids": texts, "count": aCount},
		"/chown":     {"uuid": aText, "owner": aText},
		"/chmod":     {"uuid": aText, "owner": aText, "owner_access": rights, "global_access": rights, "share": object{"type": "array", "items": ref("ShareType")}},
		"/aaa-mode":  {"aaa-mode": object{"enum": []string{"no-auth", "cloud-admin", "rbac"}}},
		"/set-tag":   {"obj_type": aText, "obj_uuid": aText},

		"/virtual-network/{uuid}/ip-alloc":        {"count": aCount, "subnet": aText, "family": object{"enum": []string{"v4", "v6"}}},
		"/virtual-network/{uuid}/ip-free":         {"ip_addr": texts},
		"/virtual-network/{uuid}/subnet-ip-count": {"subnet_list": texts},
	}
}

// queries are the parameters of the actions that are read.
var queries = map[string][]string{
	"/prop-collection-get": {"uuid", "fields", "position"},
	"/obj-perms":           {"uuid"},
}

// addAction describes a route that is not about the objects of one type.
func (d *description) addAction(x action) {
	op := d.operation("actions", strings.ToLower(x.method)+strings.ReplaceAll(strings.NewReplacer("{", "", "}", "").Replace(x.path), "/", "-"), x.link+".", nil, nil, free)
	if fields, ok := bodies()[x.path]; ok && x.method != "GET" {
		op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": object{"type": "object", "properties": fields}}}}
	}
	var list []object
	for _, name := range queries[x.path] {
		list = append(list, object{"name": name, "in": "query", "schema": aText})
	}
	if list != nil {
		op["parameters"] = list
	}
	path, ok := d.paths[x.path].(object)
	if !ok {
		path = object{}
		if strings.Contains(x.path, "{uuid}") {
			path["parameters"] = []object{{"$ref": "#/components/parameters/uuid"}}
		}
		d.paths[x.path] = path
	}
	path[strings.ToLower(x.method)] = op
}

// addOthers describes what is neither an object nor an action.
func (d *description) addOthers() {
	d.tags = append(d.tags, object{"name": "actions", "description": "What is not about the objects of one type."})
	d.schemas["Link"] = object{"type": "object", "required": []string{"uuid", "to"}, "properties": object{
		"to": texts, "uuid": aText, "href": aText, "attr": free,
	}}
	for path, summary := range map[string]string{
		"/": "Links to everything.", "/config-root": "Links to what is at the top.", "/openapi.json": "This description.",
	} {
		d.paths[path] = object{"get": d.operation("actions", "get"+strings.NewReplacer("/", "-", ".", "-").Replace(path), summary, nil, nil, object{"type": "object"})}
	}
	watch := d.operation("actions", "get-watch", "Follow changes as server-sent events.", nil, nil, nil)
	watch["parameters"] = []object{
		{"name": "resource_type", "in": "query", "description": "types, with commas between them", "schema": aText},
		{"name": "Last-Event-ID", "in": "header", "description": "the last id of an earlier stream of the same types, to go on there", "schema": aText},
	}
	watch["responses"].(object)["200"] = object{"description": "Events.", "content": object{"text/event-stream": object{"schema": aText}}}
	d.paths["/watch"] = object{"get": watch}
}
