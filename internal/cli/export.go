package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/contrail-mesos/contrail/internal/model"
)

// identity are the properties that say which object it is; a manifest says it
// by kind, name and parent_type.
var identity = map[string]bool{
	"uuid": true, "fq_name": true, "parent_type": true, "parent_uuid": true,
	"id_perms": true, "perms2": true, "configuration_version": true,
}

// settable tells whether a manifest may have the property.
func settable(p *model.Property) bool {
	return !identity[p.Name] && p.Presence != "system" && strings.ContainsAny(p.Ops, "CU")
}

// manifestText is the manifest of an object: what a person may say about it.
// What the system says is in a comment.
func manifestText(t *model.Type, o object) (string, error) {
	n, err := manifestNode(t, o)
	if err != nil {
		return "", err
	}
	n.HeadComment = "uuid " + o.uuid()
	if at := dateOf(o, "last_modified"); !at.IsZero() {
		n.HeadComment += ", last changed " + at.Format("2006-01-02 15:04:05") + " UTC"
	}
	return encodeYAML(n)
}

// plainManifest is the manifest without the comment.
func plainManifest(t *model.Type, o object) (string, error) {
	n, err := manifestNode(t, o)
	if err != nil {
		return "", err
	}
	return encodeYAML(n)
}

func manifestNode(t *model.Type, o object) (*yaml.Node, error) {
	fields := manifestFields(t, o)
	head := &yaml.Node{Kind: yaml.MappingNode}
	addPair(head, "kind", scalar(string(t.Kind)))
	addPair(head, "name", scalar(model.FQString(o.name())))
	if len(t.Parents) > 1 {
		parent := o.text("parent_type")
		if parent == "" {
			parent = string(model.KindConfigRoot)
		}
		addPair(head, "parent_type", scalar(parent))
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		v, err := decodeTree(fields[key])
		if err != nil {
			return nil, fmt.Errorf("read %s of %s: %w", key, o.uuid(), err)
		}
		addPair(head, key, nodeOf(v))
	}
	return head, nil
}

func encodeYAML(n *yaml.Node) (string, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(n); err != nil {
		return "", fmt.Errorf("encode YAML: %w", err)
	}
	return b.String(), e.Close()
}

// manifestFields are the properties and references of an object that a
// manifest has, references by name.
func manifestFields(t *model.Type, o object) object {
	out := object{}
	for key, raw := range o {
		class, _ := t.Classify(key)
		switch class {
		case model.ClassProperty:
			p, _ := t.Property(key)
			own := key == "display_name" && o.text(key) == o.text("name")
			if settable(p) && !own && !empty(raw) {
				out[key] = raw
			}
		case model.ClassReference:
			if list := o.links(key); len(list) > 0 {
				out[key] = mustJSON(referenceList(list))
			}
		}
	}
	if p := sharedPerms(o); p != nil {
		out["perms2"] = p
	}
	return out
}

// sharedPerms are an object's perms2 where they are not what every object has.
func sharedPerms(o object) json.RawMessage {
	var p model.PermType2
	if json.Unmarshal(o["perms2"], &p) != nil {
		return nil
	}
	if len(p.Share) == 0 && model.ValueOr(p.GlobalAccess, 0) == 0 {
		return nil
	}
	return o["perms2"]
}

// referenceList is a list of references as manifests have it: names, and
// mappings where there is an attribute.
func referenceList(list []linkTo) []any {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b linkTo) int { return strings.Compare(a.name(), b.name()) })
	out := make([]any, len(list))
	for i, l := range list {
		var attr any
		if !empty(l.Attr) {
			attr = l.Attr
		}
		switch {
		case len(l.To) == 0:
			out[i] = map[string]any{"uuid": l.UUID, "attr": attr}
		case attr != nil:
			out[i] = map[string]any{"to": l.name(), "attr": attr}
		default:
			out[i] = l.name()
		}
	}
	return out
}

// empty tells whether a value is the same as none.
func empty(raw json.RawMessage) bool {
	switch string(bytes.TrimSpace(raw)) {
	case "", "null", `""`, "[]":
		return true
	}
	return false
}

func addPair(n *yaml.Node, key string, value *yaml.Node) {
	n.Content = append(n.Content, scalar(key), value)
}

func scalar(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if strings.Contains(s, "\n") {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// decodeTree reads JSON and keeps numbers as they are written.
func decodeTree(raw json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// nodeOf makes YAML of a JSON value. Keys are sorted.
func nodeOf(v any) *yaml.Node {
	switch v := v.(type) {
	case map[string]any:
		n := &yaml.Node{Kind: yaml.MappingNode}
		if to, ok := v["to"]; ok { // what a reference is to comes first
			addPair(n, "to", nodeOf(to))
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if key != "to" {
				addPair(n, key, nodeOf(v[key]))
			}
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v {
			n.Content = append(n.Content, nodeOf(item))
		}
		return n
	case json.Number:
		tag := "!!int"
		if strings.ContainsAny(v.String(), ".eE") {
			tag = "!!float"
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: v.String()}
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v)}
	case nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	case string:
		return scalar(v)
	default:
		return scalar(fmt.Sprint(v))
	}
}
