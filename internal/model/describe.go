package model

// Struct describes the fields of the value; nil for a plain one.
func (v *Value) Struct() *Struct { return v.structure }

// Struct describes the attribute of the references; nil for none.
func (r *ReferenceType) Struct() *Struct { return r.attr }

// Field returns the field with the name.
func (s *Struct) Field(name string) (*Field, bool) {
	f, ok := s.fields[name]
	return f, ok
}
