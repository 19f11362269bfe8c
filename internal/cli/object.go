package cli

import (
	"encoding/json"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// object is an object as the API shows it: keys are properties, lists of
// references, children and back references.
type object map[string]json.RawMessage

// text is a property that is a string, empty where it is not.
func (o object) text(key string) string {
	var s string
	if json.Unmarshal(o[key], &s) != nil {
		return ""
	}
	return s
}

// name is the object's full name.
func (o object) name() []string {
	var fq []string
	if json.Unmarshal(o["fq_name"], &fq) != nil {
		return nil
	}
	return fq
}

func (o object) uuid() string { return o.text("uuid") }

// linkTo is an element of a list of references, children or back references.
type linkTo struct {
	To   []string        `json:"to"`
	UUID string          `json:"uuid"`
	Attr json.RawMessage `json:"attr"`
}

func (l linkTo) name() string { return model.FQString(l.To) }

// short is the last part of the name.
func (l linkTo) short() string {
	if len(l.To) == 0 {
		return l.UUID
	}
	return l.To[len(l.To)-1]
}

// links are the elements of a list of references, children or back references.
func (o object) links(key string) []linkTo {
	var list []linkTo
	if json.Unmarshal(o[key], &list) != nil {
		return nil
	}
	return list
}

// shorts are the last parts of the names of links, in one line.
func (o object) shorts(key string) string {
	list := o.links(key)
	names := make([]string, len(list))
	for i, l := range list {
		names[i] = l.short()
	}
	return strings.Join(names, ",")
}

// at is the value at a dotted path, decoded; nil where there is none. Lists on
// the way stand for all their elements.
func (o object) at(path string) []any {
	first, rest, _ := strings.Cut(path, ".")
	raw, ok := o[first]
	if !ok {
		return nil
	}
	var tree any
	if json.Unmarshal(raw, &tree) != nil {
		return nil
	}
	return valuesAt(tree, rest)
}

func valuesAt(tree any, path string) []any {
	if list, ok := tree.([]any); ok {
		var all []any
		for _, item := range list {
			all = append(all, valuesAt(item, path)...)
		}
		return all
	}
	if path == "" {
		return []any{tree}
	}
	first, rest, _ := strings.Cut(path, ".")
	fields, ok := tree.(map[string]any)
	if !ok {
		return nil
	}
	inner, ok := fields[first]
	if !ok {
		return nil
	}
	return valuesAt(inner, rest)
}
