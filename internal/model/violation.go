package model

import (
	"encoding/json"
	"fmt"
)

// Violation is a *PropertyError about a value that has the right type and
// says the wrong thing. An empty string or nil is a value that is missing.
func Violation(property string, value any, want string, args ...any) *PropertyError {
	if len(args) > 0 {
		want = fmt.Sprintf(want, args...)
	}
	e := &PropertyError{Property: property, Want: want}
	if value != nil && value != "" {
		e.Value = brief(value)
	}
	return e
}

// DecodeAttr decodes the attribute of a reference into its structure.
func (r *ReferenceType) DecodeAttr(attr json.RawMessage) (any, error) {
	if r.attr == nil {
		return nil, fmt.Errorf("references to %s carry nothing", r.Target)
	}
	v := r.attr.new()
	if err := json.Unmarshal(attr, v); err != nil {
		return nil, fmt.Errorf("decode %s.attr: %w", r.JSONName(), err)
	}
	return v, nil
}

// AttrStruct is the structure of the attribute, nil when there is none.
func (r *ReferenceType) AttrStruct() *Struct { return r.attr }
