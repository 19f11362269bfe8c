package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Stored is an object in the form in which the store has it: its JSON, and
// what the graph finds it by. It costs little to look at many of them, where
// an Object has to be decoded. Nothing of it may be changed.
type Stored struct {
	Entity
	// Parent is the zero Entity for objects at the top.
	Parent Entity
	// JSON are the object's properties as Encode writes them.
	JSON json.RawMessage
	// name is where in JSON the fully qualified name is, if that is known.
	name span
	// vertex is the object's in the view that it comes from, nil for others.
	vertex *vertex
}

// span is a part of a text.
type span struct{ from, to uint32 }

// ParseStored reads what the graph needs to know of an object's JSON, of which
// it keeps data. Only that it is an object with a name is checked: the rest is
// when it is decoded.
func ParseStored(e Entity, data []byte) (Stored, error) {
	s := Stored{Entity: e, JSON: data}
	named := false
	walk := walkObject(data)
	for {
		name, value, ok := walk.next()
		if !ok {
			break
		}
		switch string(name) {
		case "uuid":
			s.UUID = text(value)
		case "fq_name":
			named = value[0] == '['
			s.name = span{uint32(walk.from), uint32(walk.from + len(value))}
		case "parent_type":
			s.Parent.Kind = known(Kind(text(value)))
		case "parent_uuid":
			s.Parent.UUID = text(value)
		}
	}
	switch {
	case walk.err != nil:
		return s, fmt.Errorf("read stored %s: %w", e, walk.err)
	case s.UUID != e.UUID:
		return s, fmt.Errorf("read stored %s: its uuid is %q", e, s.UUID)
	case !named:
		return s, fmt.Errorf("read stored %s: it has no fq_name", e)
	}
	s.Entity.UUID = e.UUID
	if s.Parent.UUID == "" {
		s.Parent = Entity{}
	}
	return s, nil
}

// Without is the stored form without some of its properties, for who keeps many
// objects of which nobody will ask that.
func (s Stored) Without(properties ...string) Stored {
	var most [2048]byte // of an object, as a rule
	kept, named := append(most[:0], '{'), s.name
	walk := walkObject(s.JSON)
	for {
		from := walk.at
		name, value, ok := walk.next()
		if !ok {
			break
		}
		if slices.Contains(properties, string(name)) {
			continue
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		end := walk.from + len(value)
		if named == (span{uint32(walk.from), uint32(end)}) {
			at := uint32(len(kept) + walk.from - from)
			s.name = span{at, at + uint32(len(value))}
		}
		kept = append(kept, s.JSON[from:end]...)
	}
	s.JSON = bytes.Clone(append(kept, '}'))
	return s
}

// known returns the constant for a kind that the model has, so that a million
// objects do not keep a million copies of its name.
func known(k Kind) Kind {
	if t, ok := linked().byKind[k]; ok {
		return t.Kind
	}
	return k
}

// StoredOf is the stored form of an object that Go code made.
func StoredOf(o Object) (Stored, error) {
	data, err := Encode(o)
	if err != nil {
		return Stored{}, err
	}
	s := Stored{Entity: EntityOf(o), JSON: data}
	if m := o.GetMeta(); m.ParentUUID != "" {
		s.Parent = Entity{Kind: known(Kind(m.ParentType)), UUID: m.ParentUUID}
	}
	return s, nil
}

// Property returns a property as JSON; false when it is absent or null.
func (s Stored) Property(name string) (json.RawMessage, bool) { return member(s.JSON, name) }

// Member returns a field of a structured property, such as "last_modified" of
// "id_perms".
func (s Stored) Member(property, field string) (json.RawMessage, bool) {
	p, ok := member(s.JSON, property)
	if !ok {
		return nil, false
	}
	return member(p, field)
}

// Text is a property that is a string; empty when it is absent, or no string.
func (s Stored) Text(property string) string {
	value, ok := s.Property(property)
	if !ok {
		return ""
	}
	return text(value)
}

// Properties calls f with each property as JSON, in the order of the stored
// form, until f returns false.
func (s Stored) Properties(f func(name string, value json.RawMessage) bool) {
	walk := walkObject(s.JSON)
	for {
		name, value, ok := walk.next()
		if !ok || !f(string(name), value) {
			return
		}
	}
}

// FQName is the fully qualified name.
func (s Stored) FQName() []string { return names(s.FQNameJSON()) }

// FQNameJSON is the fully qualified name as JSON.
func (s Stored) FQNameJSON() json.RawMessage {
	if s.name.to > 0 {
		return s.JSON[s.name.from:s.name.to]
	}
	all, _ := s.Property("fq_name")
	return all
}

// NameJSON is the last element of the fully qualified name as JSON.
func (s Stored) NameJSON() json.RawMessage {
	all := s.FQNameJSON()
	if bytes.IndexByte(all, '\\') < 0 {
		end := bytes.LastIndexByte(all, '"')
		if end < 1 {
			return nil
		}
		return all[bytes.LastIndexByte(all[:end], '"') : end+1]
	}
	var last json.RawMessage
	walk := walker{data: all, at: 1}
	for walk.space(); walk.at < len(all) && all[walk.at] == '"'; walk.space() {
		from := walk.at
		if !walk.quoted() {
			break
		}
		last = all[from:walk.at]
		walk.space()
		walk.take(',')
	}
	return last
}

// names reads a list of strings.
func names(raw []byte) []string {
	var list []string
	_ = json.Unmarshal(raw, &list) // it was checked to be a list when it was stored
	return list
}

// FQString is the fully qualified name joined by colons.
func (s Stored) FQString() string {
	raw := s.FQNameJSON()
	// A decoder is only needed for what JSON escapes.
	if slices.Contains(raw, '\\') {
		return FQString(names(raw))
	}
	var b strings.Builder
	b.Grow(len(raw))
	inside, first := false, true
	for _, c := range raw {
		switch {
		case c == '"':
			inside = !inside
			if inside && !first {
				b.WriteByte(':')
			}
			first = false
		case inside:
			b.WriteByte(c)
		}
	}
	return strings.Clone(b.String())
}

// Object decodes the object.
func (s Stored) Object() (Object, error) {
	t, ok := linked().byKind[s.Kind]
	if !ok {
		return nil, fmt.Errorf("decode stored %s: this version does not know the type", s.Entity)
	}
	return t.DecodeStored(s.JSON)
}
