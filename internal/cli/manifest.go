package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Manifest is an object as a person wants it:
//
//	kind: virtual-network
//	name: default-domain:demo:blue     # or short, within --project
//	parent_type: project               # where several are possible
//	virtual_network_properties:        # properties, as the API has them
//	  forwarding_mode: l3
//	network_policy_refs:               # references, by name
//	- default-domain:demo:web
//	network_ipam_refs:                 # with an attribute where there is one
//	- to: default-domain:demo:pods
//	  attr: {ipam_subnets: [{subnet: {ip_prefix: 10.1.0.0, ip_prefix_len: 16}}]}
//
// What it does not mention stays as it is; null clears.
type Manifest struct {
	Type *model.Type
	Name []string
	// ParentType is the kind of the parent, empty for the only one possible.
	ParentType model.Kind
	// Properties are those it mentions.
	Properties object
	// References by key, each the whole list.
	References map[string][]reference
	// Source is where it is from, for messages: "net.yaml:12". It is empty for
	// what the command line says.
	Source string

	file string
	node *yaml.Node
}

// reference is an element of a list of references.
type reference struct {
	// names are the full names that it can mean, the likeliest first.
	names [][]string
	// uuid stands instead of a name.
	uuid string
	attr []byte
	line int
}

func (r *reference) String() string {
	if r.uuid != "" {
		return r.uuid
	}
	return model.FQString(r.names[0])
}

// id is what the manifest is about: type and name.
func (m *Manifest) id() string { return string(m.Type.Kind) + " " + model.FQString(m.Name) }

// errorf is an error about the manifest.
func (m *Manifest) errorf(format string, args ...any) error {
	return at(m.Source, fmt.Errorf("%s: %w", m.id(), fmt.Errorf(format, args...)))
}

// at is an error with where it is; what the command line says is at no place.
func at(place string, err error) error {
	if place == "" {
		return err
	}
	return fmt.Errorf("%s: %w", place, err)
}

// line is a place in the manifest's file.
func (m *Manifest) line(n int) string { return lineOf(m.file, n) }

func lineOf(file string, n int) string {
	if file == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", file, n)
}

const (
	// largestManifest bounds a file, in bytes.
	largestManifest = 64 << 20
	// mostValues bounds what aliases can blow a file up to.
	mostValues = 4 << 20
	// deepest is how deep values may be inside of each other.
	deepest = 64
)

// ReadManifests reads all manifests of a file: documents separated by ---, each
// an object or a list of objects. Whatever is not known is an error that names
// file and line.
func ReadManifests(file string, r io.Reader, s Scope) ([]*Manifest, error) {
	d := yaml.NewDecoder(&bounded{r: r, left: largestManifest})
	var list []*Manifest
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
		}
		for _, n := range objectsIn(&doc) {
			m, err := readManifest(file, n, s)
			if err != nil {
				return nil, err
			}
			list = append(list, m)
		}
	}
}

// bounded refuses to read more than it may.
type bounded struct {
	r    io.Reader
	left int
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("more than %d MiB; split it", largestManifest>>20)
	}
	return n, err
}

// objectsIn are the objects of a document; none of an empty one.
func objectsIn(doc *yaml.Node) []*yaml.Node {
	if doc.Kind == yaml.DocumentNode {
		if len(doc.Content) == 0 {
			return nil
		}
		doc = doc.Content[0]
	}
	switch {
	case doc.Kind == yaml.SequenceNode:
		return doc.Content
	case doc.Kind == yaml.ScalarNode && doc.Tag == "!!null":
		return nil
	}
	return []*yaml.Node{doc}
}

// readManifest reads one object and checks it against the model.
func readManifest(file string, n *yaml.Node, s Scope) (*Manifest, error) {
	fail := func(near *yaml.Node, format string, args ...any) (*Manifest, error) {
		return nil, at(lineOf(file, near.Line), fmt.Errorf(format, args...))
	}
	if n.Kind != yaml.MappingNode {
		return fail(n, "want an object: kind, name, and its properties")
	}
	values := newConverter(file)
	tree, err := values.mapping(n, 0)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Source: lineOf(file, n.Line), file: file, node: n, Properties: object{}, References: map[string][]reference{}}
	kind, ok := tree["kind"].(string)
	if !ok {
		return fail(n, "kind is missing; write kind: TYPE, such as virtual-network; `contrail types` lists them")
	}
	if m.Type, ok = model.TypeOf(kind); !ok {
		return fail(valueOf(n, "kind"), "kind %q is no type; `contrail types` lists them", kind)
	}
	if err := m.readName(tree, s); err != nil {
		return fail(valueOf(n, "name"), "%w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		if key == "kind" || key == "name" || key == "parent_type" {
			continue
		}
		if err := m.readField(key, tree[key], s); err != nil {
			var inner *lineError
			if errors.As(err, &inner) && inner.line > 0 {
				return nil, at(m.line(inner.line), fmt.Errorf("%s: %w", m.id(), inner.err))
			}
			return fail(valueOf(n, key), "%s: %w", m.id(), err)
		}
	}
	return m, m.validate()
}

// valueOf is the node of a key's value, the mapping itself where it is absent.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i]
		}
	}
	return n
}

func (m *Manifest) readName(tree map[string]any, s Scope) error {
	t := m.Type
	if parent, ok := tree["parent_type"]; ok {
		word, ok := parent.(string)
		kind := model.KindOfName(word)
		top := kind == model.KindConfigRoot && len(t.Parents) == 0
		if !ok || !t.MayHaveParent(kind) && !top {
			return fmt.Errorf("parent_type %s: a %s is below %s", mustJSON(parent), t.Kind, or(joinKinds(t.Parents)))
		}
		m.ParentType = kind
	}
	var candidates [][]string
	switch name := tree["name"].(type) {
	case string:
		candidates = s.candidates(t, name)
	case []any:
		parts, err := words(name)
		if err != nil {
			return fmt.Errorf("name: %w", err)
		}
		candidates = [][]string{parts}
	case nil:
		return fmt.Errorf("name is missing; write name: %s", nameForm(t))
	default:
		return fmt.Errorf("name is %s; want %s", mustJSON(name), nameForm(t))
	}
	lengths := lengthsBelow(t, m.ParentType)
	for _, full := range candidates {
		if lengths[len(full)] && model.CheckName(t.Kind, full) == nil {
			m.Name = full
			return m.readParent()
		}
	}
	if len(candidates) > 0 {
		if err := model.CheckName(t.Kind, candidates[0]); err != nil {
			return err
		}
	}
	return fmt.Errorf("name %s: want %s", mustJSON(tree["name"]), nameForm(t))
}

// readParent finds the kind of parent that a manifest does not say, where there
// are several: a project, which is what nearly everything that people make is
// below, or the only kind below which names are as long as this one.
func (m *Manifest) readParent() error {
	t := m.Type
	if m.ParentType != "" || len(t.Parents) < 2 {
		return nil
	}
	var fit []model.Kind
	for _, kind := range t.Parents {
		if lengthsBelow(t, kind)[len(m.Name)] {
			fit = append(fit, kind)
		}
	}
	switch {
	case slices.Contains(fit, model.KindProject):
		m.ParentType = model.KindProject
	case len(fit) == 1:
		m.ParentType = fit[0]
	default:
		return fmt.Errorf("parent_type is missing: %s objects are below %s", t.Kind, strings.ReplaceAll(joinKinds(t.Parents), ",", " or "))
	}
	return nil
}

// lengthsBelow are the lengths that names have below a kind of parent; below
// any when it is empty.
func lengthsBelow(t *model.Type, parent model.Kind) map[int]bool {
	out := map[int]bool{}
	switch p, ok := model.TypeOf(string(parent)); {
	case parent == model.KindConfigRoot:
		out[1] = true
	case ok:
		for n := range depths(p) {
			out[n+1] = true
		}
	default:
		for n := range depths(t) {
			out[n] = true
		}
	}
	return out
}

func words(list []any) ([]string, error) {
	out := make([]string, len(list))
	for i, item := range list {
		word, ok := item.(string)
		if !ok {
			return nil, fmt.Errorf("%s is no text; quote it", mustJSON(item))
		}
		out[i] = word
	}
	return out, nil
}

// readField reads one key beside kind, name and parent_type.
func (m *Manifest) readField(key string, v any, s Scope) error {
	switch class, kind := m.Type.Classify(key); class {
	case model.ClassProperty:
		p, _ := m.Type.Property(key)
		if key != "uuid" && key != "perms2" && !settable(p) {
			return fmt.Errorf("%s is not for a client to set; leave it out", key)
		}
		m.Properties[key] = mustJSON(v)
	case model.ClassReference:
		target, _ := model.TypeOf(string(kind))
		list, err := m.readReferences(target, key, v, s)
		if err != nil {
			return err
		}
		m.References[key] = list
	case model.ClassChildren:
		return fmt.Errorf("%s are objects of their own; write a manifest of kind %s for each", key, kind)
	case model.ClassBackReference:
		return fmt.Errorf("%s follows from the references of %s objects; leave it out", key, kind)
	case model.ClassComputed:
		return fmt.Errorf("%s follows from the object's name; leave it out", key)
	default:
		return fmt.Errorf("%s is no property of a %s; `contrail explain %s` lists them", key, m.Type.Kind, m.Type.Kind)
	}
	return nil
}

func (m *Manifest) readReferences(target *model.Type, key string, v any, s Scope) ([]reference, error) {
	if v == nil {
		return []reference{}, nil
	}
	items, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%s is %s; want a list of names", key, brief(v))
	}
	list := make([]reference, 0, len(items))
	for i, item := range items {
		r, err := readReference(target, item, s)
		if err != nil {
			return nil, m.lineOf(fmt.Errorf("%s[%d]: %w", key, i, err), key, i)
		}
		described, _ := m.Type.Reference(target.Kind)
		if err := described.ValidateAttr(r.attr); err != nil {
			return nil, m.lineOf(fmt.Errorf("%s[%d]: %w", key, i, err), key, i)
		}
		if n := m.find(key, i); n != nil {
			r.line = n.Line
		}
		list = append(list, *r)
	}
	return list, nil
}

// readReference reads a name or {to: NAME, uuid: UUID, attr: …}.
func readReference(target *model.Type, item any, s Scope) (*reference, error) {
	name := item
	r := &reference{}
	if fields, ok := item.(map[string]any); ok {
		for key := range fields {
			if key != "to" && key != "uuid" && key != "attr" {
				return nil, fmt.Errorf("%q is unknown; a reference has to, uuid and attr", key)
			}
		}
		if attr := fields["attr"]; attr != nil {
			r.attr = mustJSON(attr)
		}
		name = fields["to"]
		if id, ok := fields["uuid"]; ok {
			text, _ := id.(string)
			if !model.IsUUID(text) || name != nil {
				return nil, fmt.Errorf("uuid %s: want a UUID, and no to beside it", mustJSON(id))
			}
			r.uuid = strings.ToLower(text)
			return r, nil
		}
	}
	switch name := name.(type) {
	case string:
		r.names = s.candidates(target, name)
	case []any:
		parts, err := words(name)
		if err != nil {
			return nil, err
		}
		r.names = [][]string{parts}
	}
	r.names = slices.DeleteFunc(r.names, func(full []string) bool { return model.CheckName(target.Kind, full) != nil })
	if len(r.names) == 0 {
		return nil, fmt.Errorf("%s is no name of a %s; want %s", brief(name), target.Kind, nameForm(target))
	}
	return r, nil
}

// brief is a value for messages.
func brief(v any) string {
	text := string(mustJSON(v))
	if len(text) > 80 {
		return strings.ToValidUTF8(text[:77], "") + "..."
	}
	return text
}

// validate checks the properties against the model.
func (m *Manifest) validate() error {
	properties := object{}
	for key, raw := range m.Properties {
		properties[key] = raw
	}
	properties["fq_name"] = mustJSON(m.Name)
	_, err := m.Type.Decode(mustJSON(properties))
	var p *model.PropertyError
	if errors.As(err, &p) {
		if n := m.findPath(p.Property); n != nil {
			return at(m.line(n.Line), fmt.Errorf("%s: %w", m.id(), err))
		}
	}
	if err != nil {
		return m.errorf("%w", err)
	}
	return nil
}
