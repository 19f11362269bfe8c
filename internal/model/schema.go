package model

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Type describes one type of object. Types are made once and never changed.
type Type struct {
	Kind Kind
	// Name is the kind with underscores.
	Name string
	Doc  string
	// Effect is none, partial or full: whether anything acts on such objects yet.
	Effect string
	// Derived objects follow from others: they go with their parent.
	Derived bool
	// Parents are the kinds an object may be under; none means only the top.
	Parents []Kind
	// Properties and References are sorted by name and contain the common ones.
	Properties []*Property
	References []*ReferenceType

	new        func() Object
	properties map[string]*Property
	references map[Kind]*ReferenceType
	// children and referrers are the kinds that may be under, or refer to, this one.
	children, referrers []Kind
}

// Property is a property of an object type.
type Property struct {
	Name  string
	Doc   string
	Value Value
	// Ops has C, R, U, D for what a client may do with the property.
	Ops string
	// Presence says when the property is there: required (for the object to be
	// of use; not enforced, as classic clients leave such properties out),
	// system, admin, exclusive, or empty for optional.
	Presence string
	// Collection is list or map when single elements can be changed.
	Collection string
	// Effective is false while nothing acts on the property.
	Effective bool

	index []int
}

// Value describes the values that a property or field may have.
type Value struct {
	// Type is string, boolean, integer, unsigned or the name of a Struct;
	// Named is the name of a restricted simple type.
	Type, Named string
	List        bool
	// Minimum and Maximum bound integers, both included.
	Minimum, Maximum *int64
	Enum             []string
	// Format is one of date-time, ip, uuid, hex16, hex32, service-interface, route-target.
	Format string
	// Default in JSON, for the reader of an absent value; it is not stored.
	Default string

	structure *Struct
}

// Struct describes a structured value.
type Struct struct {
	Name   string
	Fields []*Field

	new    func() any
	fields map[string]*Field
}

// Field is a field of a Struct. A mandatory one must be given. One that is not
// Effective does nothing, also in a property that does something.
type Field struct {
	Name      string
	Value     Value
	Mandatory bool
	Presence  string
	Effective bool

	index []int
}

// ReferenceType describes the references to objects of one kind.
type ReferenceType struct {
	Target Kind
	// Attr is the name of the Struct that references carry, if any.
	Attr      string
	Presence  string
	Effective bool
	// Derived references follow from others: they do not keep their target.
	Derived bool

	attr *Struct
}

// JSONName is the key under which objects show these references.
func (r *ReferenceType) JSONName() string { return r.Target.Name() + "_refs" }

// table is what one file of the model describes.
type table struct {
	objects []*Type
	structs []*Struct
}

// schema is the whole model, linked. It is built once and then only read.
type schema struct {
	types   []*Type
	byKind  map[Kind]*Type
	structs map[string]*Struct
}

// linked is made at the first use: processes that only start containers link
// this package too and should not pay for it.
var linked = sync.OnceValue(link)

// Types returns all object types, sorted by kind.
func Types() []*Type { return slices.Clone(linked().types) }

// TypeOf returns the type with the dashed kind or underscored name.
func TypeOf(name string) (*Type, bool) {
	t, ok := linked().byKind[KindOfName(name)]
	return t, ok && (name == string(t.Kind) || name == t.Name)
}

// TypeOfCollection returns the type whose collection has this name:
// "virtual-networks".
func TypeOfCollection(plural string) (*Type, bool) {
	name, ok := strings.CutSuffix(plural, "s")
	if !ok {
		return nil, false
	}
	t, ok := linked().byKind[Kind(name)]
	return t, ok
}

// Collection is the name of the type's collection: the kind with an "s".
func (t *Type) Collection() string { return string(t.Kind) + "s" }

// New returns an empty object of the type.
func (t *Type) New() Object { return t.new() }

// New returns an empty object of the kind.
func New(kind Kind) (Object, error) {
	t, ok := linked().byKind[kind]
	if !ok {
		return nil, fmt.Errorf("make object of unknown type %q", kind)
	}
	return t.new(), nil
}

// Property returns the property with this name.
func (t *Type) Property(name string) (*Property, bool) {
	p, ok := t.properties[name]
	return p, ok
}

// Reference returns the description of references to the kind.
func (t *Type) Reference(to Kind) (*ReferenceType, bool) {
	r, ok := t.references[to]
	return r, ok
}

// Children are the kinds of objects that may be under this one, sorted.
func (t *Type) Children() []Kind { return slices.Clone(t.children) }

// Referrers are the kinds of objects that may refer to this one, sorted.
func (t *Type) Referrers() []Kind { return slices.Clone(t.referrers) }

// MayHaveParent reports whether objects may be under the kind.
func (t *Type) MayHaveParent(kind Kind) bool { return slices.Contains(t.Parents, kind) }

// Class says what a key in an object's JSON is.
type Class int

// The classes of keys. Computed keys (name, href, parent_href) and children
// and back references are for reading; a client may send them back unchanged.
const (
	ClassUnknown Class = iota
	ClassProperty
	ClassReference
	ClassChildren
	ClassBackReference
	ClassComputed
)

// Classify says what the key is in objects of the type, and for references,
// children and back references, of which kind.
func (t *Type) Classify(key string) (Class, Kind) {
	switch key {
	case "name", "href", "parent_href":
		return ClassComputed, ""
	}
	if _, ok := t.properties[key]; ok {
		return ClassProperty, ""
	}
	if name, ok := strings.CutSuffix(key, "_back_refs"); ok {
		if kind := KindOfName(name); slices.Contains(t.referrers, kind) {
			return ClassBackReference, kind
		}
	}
	if name, ok := strings.CutSuffix(key, "_refs"); ok {
		if kind := KindOfName(name); t.references[kind] != nil {
			return ClassReference, kind
		}
	}
	if name, ok := strings.CutSuffix(key, "s"); ok {
		if kind := KindOfName(name); slices.Contains(t.children, kind) {
			return ClassChildren, kind
		}
	}
	return ClassUnknown, ""
}

// link joins the generated tables: names become pointers, and properties and
// fields learn where in the Go structs they live.
func link() *schema {
	s := &schema{byKind: map[Kind]*Type{}, structs: map[string]*Struct{}}
	for _, t := range tables() {
		s.types = append(s.types, t.objects...)
		for _, st := range t.structs {
			s.structs[st.Name] = st
		}
	}
	for _, st := range s.structs {
		s.linkStruct(st)
	}
	slices.SortFunc(s.types, func(a, b *Type) int { return strings.Compare(string(a.Kind), string(b.Kind)) })
	for _, t := range s.types {
		s.byKind[t.Kind] = t
		s.linkType(t)
	}
	for _, t := range s.types {
		for _, p := range t.Parents {
			parent := s.byKind[p]
			parent.children = append(parent.children, t.Kind)
		}
		for _, r := range t.References {
			target := s.byKind[r.Target]
			target.referrers = append(target.referrers, t.Kind)
		}
	}
	return s
}

func (s *schema) linkStruct(st *Struct) {
	where := jsonFields(reflect.TypeOf(st.new()).Elem())
	st.fields = make(map[string]*Field, len(st.Fields))
	for _, f := range st.Fields {
		f.index = where[f.Name]
		f.Value.structure = s.structs[f.Value.Type]
		st.fields[f.Name] = f
	}
}

func (s *schema) linkType(t *Type) {
	t.Properties = append(t.Properties, commonProperties()...)
	slices.SortFunc(t.Properties, func(a, b *Property) int { return strings.Compare(a.Name, b.Name) })
	t.References = append(t.References, commonReferences()...)
	slices.SortFunc(t.References, func(a, b *ReferenceType) int { return strings.Compare(string(a.Target), string(b.Target)) })
	where := jsonFields(reflect.TypeOf(t.new()).Elem())
	t.properties = make(map[string]*Property, len(t.Properties))
	for _, p := range t.Properties {
		p.index = where[p.Name]
		p.Value.structure = s.structs[p.Value.Type]
		t.properties[p.Name] = p
	}
	t.references = make(map[Kind]*ReferenceType, len(t.References))
	for _, r := range t.References {
		r.attr = s.structs[r.Attr]
		t.references[r.Target] = r
	}
}

// jsonFields maps the JSON names of a struct's fields to where they are.
func jsonFields(t reflect.Type) map[string][]int {
	where := map[string][]int{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			where[name] = f.Index
		}
	}
	return where
}
