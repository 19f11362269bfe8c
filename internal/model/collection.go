package model

// Elements says where the elements of a collection are.
type Elements struct {
	// Field of the property's value that is the list.
	Field string
	// Key is the field of an element that names it; empty for lists, whose
	// elements are named by their positions.
	Key string
}

// Elements returns where the elements of the property are; false when they
// cannot be changed one by one.
func (p *Property) Elements() (Elements, bool) {
	if p.Collection == "" || p.Value.structure == nil {
		return Elements{}, false
	}
	for _, f := range p.Value.structure.Fields {
		if !f.Value.List {
			continue
		}
		e := Elements{Field: f.Name}
		if p.Collection == "map" && f.Value.structure != nil {
			e.Key = f.Value.structure.keyField()
		}
		return e, p.Collection == "list" || e.Key != ""
	}
	return Elements{}, false
}

// keyField is the field that names an element of a map.
func (s *Struct) keyField() string {
	for _, name := range []string{"key", "name"} {
		if s.fields[name] != nil {
			return name
		}
	}
	return ""
}
