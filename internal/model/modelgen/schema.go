package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// file is one YAML file of the model.
type file struct {
	Common  object            `yaml:"common"`
	Objects map[string]object `yaml:"objects"`
	Types   map[string]typ    `yaml:"types"`
}

type object struct {
	Doc        string               `yaml:"doc"`
	Go         string               `yaml:"go"`
	Parents    []string             `yaml:"parents"`
	Effect     effect               `yaml:"effect"`
	Derived    bool                 `yaml:"derived"`
	Properties map[string]property  `yaml:"properties"`
	References map[string]reference `yaml:"references"`
	file       string
}

type property struct {
	value      `yaml:",inline"`
	Ops        string `yaml:"ops"`
	Collection string `yaml:"collection"`
	Effect     string `yaml:"effect"`
}

type reference struct {
	Attr     string `yaml:"attr"`
	Presence string `yaml:"presence"`
	Effect   string `yaml:"effect"`
	Derived  bool   `yaml:"derived"`
}

// typ is a struct when it has fields, else a restricted simple type.
type typ struct {
	value  `yaml:",inline"`
	Fields map[string]field `yaml:"fields"`
	file   string
}

type field struct {
	value     `yaml:",inline"`
	Mandatory bool   `yaml:"mandatory"`
	Keep      bool   `yaml:"keep"`
	Effect    string `yaml:"effect"`
}

// value is what properties, fields and simple types have in common.
type value struct {
	Doc      string   `yaml:"doc"`
	Type     string   `yaml:"type"`
	Presence string   `yaml:"presence"`
	Minimum  *int64   `yaml:"minimum"`
	Maximum  *int64   `yaml:"maximum"`
	Enum     []string `yaml:"enum"`
	Format   string   `yaml:"format"`
	Default  any      `yaml:"default"`
}

// effect is `none`, `full`, or the list of the properties and references that
// something enforces.
type effect struct {
	word  string
	names []string
}

func (e *effect) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.SequenceNode {
		return n.Decode(&e.names)
	}
	return n.Decode(&e.word)
}

// model is all files together.
type model struct {
	common  object
	objects map[string]object
	types   map[string]typ
}

var (
	baseTypes = []string{"string", "boolean", "integer", "unsigned"}
	presences = []string{"", "required", "system", "admin", "exclusive"}
	formats   = []string{"", "date-time", "ip", "uuid", "hex16", "hex32", "service-interface", "route-target", "mac", "prefix", "community", "esi"}
)

// load reads every .yaml file of fsys. Keys it does not know are errors.
func load(fsys fs.FS) (*model, error) {
	names, err := fs.Glob(fsys, "*.yaml")
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errors.New("no .yaml file in the directory of the model")
	}
	m := &model{objects: map[string]object{}, types: map[string]typ{}}
	for _, name := range names {
		f, err := loadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		if err := m.add(strings.TrimSuffix(name, ".yaml"), f); err != nil {
			return nil, fmt.Errorf("add %s: %w", name, err)
		}
	}
	return m, m.check()
}

func loadFile(fsys fs.FS, name string) (*file, error) {
	r, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	d := yaml.NewDecoder(r)
	d.KnownFields(true)
	var f file
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	if err := d.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	return &f, nil
}

func (m *model) add(name string, f *file) error {
	if f.Common.Properties != nil {
		if m.common.Properties != nil {
			return errors.New("common is described twice")
		}
		m.common = f.Common
	}
	for n, o := range f.Objects {
		if _, twice := m.objects[n]; twice {
			return fmt.Errorf("object %s is described twice", n)
		}
		o.file = name
		m.objects[n] = o
	}
	for n, t := range f.Types {
		if _, twice := m.types[n]; twice {
			return fmt.Errorf("type %s is described twice", n)
		}
		t.file = name
		m.types[n] = t
	}
	return nil
}

// check finds names that nothing describes, and words that mean nothing.
func (m *model) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for n, o := range m.objects {
		m.checkObject(n, o, bad)
	}
	for n, p := range m.common.Properties {
		m.checkValue("common."+n, p.value, bad)
		checkEffect("common."+n, p.Effect, bad)
	}
	for n, t := range m.types {
		if (t.Type == "") == (t.Fields == nil) {
			bad("type %s: wants either type or fields", n)
		}
		if t.Fields == nil {
			m.checkValue(n, t.value, bad)
		}
		for fn, f := range t.Fields {
			m.checkValue(n+"."+fn, f.value, bad)
			if f.Mandatory && f.Keep {
				bad("%s.%s: mandatory implies keep", n, fn)
			}
			checkEffect(n+"."+fn, f.Effect, bad)
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func (m *model) checkObject(n string, o object, bad func(string, ...any)) {
	for _, p := range o.Parents {
		if _, ok := m.objects[p]; !ok {
			bad("object %s: unknown parent %s", n, p)
		}
	}
	if o.Effect.names == nil && o.Effect.word != "none" && o.Effect.word != "full" {
		bad("object %s: effect is %q, want none, full or a list of names", n, o.Effect.word)
	}
	for _, e := range o.Effect.names {
		_, isProperty := o.Properties[e]
		_, isReference := o.References[e]
		_, isCommon := m.common.Properties[e]
		if !isProperty && !isReference && !isCommon {
			bad("object %s: effect names unknown %s", n, e)
		}
	}
	for pn, p := range o.Properties {
		if _, taken := m.common.Properties[pn]; taken {
			bad("%s.%s: every object has this property", n, pn)
		}
		m.checkValue(n+"."+pn, p.value, bad)
		if p.Ops != "" && strings.Trim(p.Ops, "CRUD") != "" {
			bad("%s.%s: ops %q, want letters of CRUD", n, pn, p.Ops)
		}
		if !slices.Contains([]string{"", "list", "map"}, p.Collection) {
			bad("%s.%s: collection %q, want list or map", n, pn, p.Collection)
		}
		checkEffect(n+"."+pn, p.Effect, bad)
	}
	for rn, r := range o.References {
		if _, ok := m.objects[rn]; !ok {
			bad("%s -> %s: unknown target", n, rn)
		}
		checkEffect(n+" -> "+rn, r.Effect, bad)
		if t, ok := m.types[r.Attr]; r.Attr != "" && (!ok || t.Fields == nil) {
			bad("%s -> %s: attr %s is no struct", n, rn, r.Attr)
		}
		if !slices.Contains(presences, r.Presence) {
			bad("%s -> %s: presence %q, want one of %q", n, rn, r.Presence, presences)
		}
	}
}

func checkEffect(where, effect string, bad func(string, ...any)) {
	if effect != "" && effect != "none" {
		bad("%s: effect %q, want none", where, effect)
	}
}

func (m *model) checkValue(where string, v value, bad func(string, ...any)) {
	t, _ := elem(v.Type)
	if _, ok := m.types[t]; !ok && !slices.Contains(baseTypes, t) {
		bad("%s: unknown type %q", where, v.Type)
	}
	if !slices.Contains(presences, v.Presence) {
		bad("%s: presence %q, want one of %q", where, v.Presence, presences)
	}
	if !slices.Contains(formats, v.Format) {
		bad("%s: format %q, want one of %q", where, v.Format, formats)
	}
}

// elem strips the brackets of a list type.
func elem(t string) (name string, list bool) {
	if e, ok := strings.CutPrefix(t, "["); ok {
		return strings.TrimSuffix(e, "]"), true
	}
	return t, false
}

// resolved is a value with its simple types followed to the end.
type resolved struct {
	base     string // string, boolean, integer, unsigned, or the name of a struct
	named    string // the simple type's name, if it has one
	isStruct bool
	list     bool
	value
}

func (m *model) resolve(v value) resolved {
	name, list := elem(v.Type)
	r := resolved{base: name, list: list, value: v}
	t, ok := m.types[name]
	if !ok {
		return r
	}
	if t.Fields != nil {
		r.isStruct = true
		return r
	}
	in := m.resolve(t.value)
	r.base, r.isStruct, r.named = in.base, in.isStruct, name
	r.list = r.list || in.list
	if r.Minimum == nil {
		r.Minimum = in.Minimum
	}
	if r.Maximum == nil {
		r.Maximum = in.Maximum
	}
	if r.Enum == nil {
		r.Enum = in.Enum
	}
	if r.Format == "" {
		r.Format = in.Format
	}
	if r.Default == nil {
		r.Default = in.Default
	}
	return r
}
