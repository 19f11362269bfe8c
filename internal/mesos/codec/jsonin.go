package codec

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// UnmarshalJSON reads m from Mesos's JSON. Unknown fields are ignored, unknown
// names of optional enums too. Texts of errors are Mesos's; the first word says
// whether the text was no JSON ("Failed to parse body into JSON: ...") or did not
// fit ("Failed to convert JSON into Call protobuf: ...", with m's name).
func UnmarshalJSON(data []byte, m proto.Message) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return fmt.Errorf("Failed to parse body into JSON: %s", syntaxError(data, err)) //nolint:staticcheck // Mesos's text
	}
	if rest := bytes.TrimSpace(data[decoder.InputOffset():]); len(rest) > 0 {
		return fmt.Errorf("Failed to parse body into JSON: Parsed JSON included non-whitespace suffix: %s", firstLine(rest)) //nolint:staticcheck // Mesos's text
	}
	name := m.ProtoReflect().Descriptor().Name()
	object, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("Failed to convert JSON into %s protobuf: Expecting a JSON object", name) //nolint:staticcheck // Mesos's text
	}
	err := setMessage(m.ProtoReflect(), object)
	if err == nil {
		err = missingFields(m.ProtoReflect())
	}
	if err != nil {
		return fmt.Errorf("Failed to convert JSON into %s protobuf: %w", name, err) //nolint:staticcheck // Mesos's text
	}
	return nil
}

func syntaxError(data []byte, err error) string {
	offset := int64(len(data))
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		offset = min(offset, max(0, syntax.Offset-1))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		offset = int64(len(data))
	}
	line := 1 + bytes.Count(data[:offset], []byte("\n"))
	return fmt.Sprintf("syntax error at line %d near: %s", line, firstLine(data[offset:]))
}

func firstLine(data []byte) []byte {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return line[:min(len(line), 100)]
}

func setMessage(m protoreflect.Message, object map[string]any) error {
	fields := m.Descriptor().Fields()
	for _, name := range sortedNames(object) {
		field := fields.ByName(protoreflect.Name(name))
		if field == nil || object[name] == nil {
			continue
		}
		if err := setField(m, field, object[name]); err != nil {
			return err
		}
	}
	return nil
}

func setField(m protoreflect.Message, field protoreflect.FieldDescriptor, v any) error {
	if field.IsMap() {
		return setMap(m, field, v)
	}
	array, isArray := v.([]any)
	if !field.IsList() {
		if isArray {
			return unexpected("array", field)
		}
		value, ok, err := scalar(m.NewField, field, v)
		if err == nil && ok {
			m.Set(field, value)
		}
		return err
	}
	if !isArray {
		array = []any{v}
	}
	list := m.Mutable(field).List()
	for _, element := range array {
		newElement := func(protoreflect.FieldDescriptor) protoreflect.Value { return list.NewElement() }
		value, ok, err := scalar(newElement, field, element)
		if err != nil {
			return err
		}
		if ok {
			list.Append(value)
		}
	}
	return nil
}

func setMap(m protoreflect.Message, field protoreflect.FieldDescriptor, v any) error {
	object, ok := v.(map[string]any)
	if !ok {
		return unexpected(kindOf(v), field)
	}
	mapping := m.Mutable(field).Map()
	for _, name := range sortedNames(object) {
		newValue := func(protoreflect.FieldDescriptor) protoreflect.Value { return mapping.NewValue() }
		value, ok, err := scalar(newValue, field.MapValue(), object[name])
		if err != nil {
			return err
		}
		if ok {
			mapping.Set(protoreflect.ValueOfString(name).MapKey(), value)
		}
	}
	return nil
}

// scalar converts one value; ok is false where the value is to be ignored.
func scalar(make func(protoreflect.FieldDescriptor) protoreflect.Value, field protoreflect.FieldDescriptor, v any) (protoreflect.Value, bool, error) {
	none := protoreflect.Value{}
	switch v := v.(type) {
	case map[string]any:
		if field.Message() == nil {
			return none, false, unexpected("object", field)
		}
		value := make(field)
		return value, true, setMessage(value.Message(), v)
	case string:
		return fromString(field, v)
	case json.Number:
		value, err := number(field, v.String())
		return value, err == nil, err
	case bool:
		if field.Kind() != protoreflect.BoolKind {
			return none, false, unexpected("boolean", field)
		}
		return protoreflect.ValueOfBool(v), true, nil
	case nil:
		return none, false, nil
	default:
		return none, false, unexpected(kindOf(v), field)
	}
}

func fromString(field protoreflect.FieldDescriptor, v string) (protoreflect.Value, bool, error) {
	none := protoreflect.Value{}
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(v), true, nil
	case protoreflect.BytesKind:
		data, err := base64.StdEncoding.DecodeString(v)
		if err != nil {
			return none, false, fmt.Errorf("Failed to base64 decode bytes field '%s': %w", field.Name(), err) //nolint:staticcheck // Mesos's text
		}
		return protoreflect.ValueOfBytes(data), true, nil
	case protoreflect.EnumKind:
		if known := field.Enum().Values().ByName(protoreflect.Name(v)); known != nil {
			return protoreflect.ValueOfEnum(known.Number()), true, nil
		}
		if field.Cardinality() == protoreflect.Required {
			return none, false, fmt.Errorf("Failed to find enum for '%s'", v) //nolint:staticcheck // Mesos's text
		}
		return none, false, nil
	case protoreflect.BoolKind, protoreflect.MessageKind, protoreflect.GroupKind:
		return none, false, unexpected("string", field)
	default:
		value, err := number(field, v)
		if err != nil {
			return none, false, fmt.Errorf("Failed to parse '%s' as a JSON number for field '%s'", v, field.Name()) //nolint:staticcheck // Mesos's text
		}
		return value, true, nil
	}
}

func number(field protoreflect.FieldDescriptor, text string) (protoreflect.Value, error) {
	none := protoreflect.Value{}
	switch field.Kind() {
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		v, err := strconv.ParseFloat(text, 64)
		return protoreflect.ValueOfFloat64(v), err
	case protoreflect.Int32Kind:
		v, err := integer(text, math.MinInt32, math.MaxInt32)
		return protoreflect.ValueOfInt32(int32(v)), err
	case protoreflect.Int64Kind:
		v, err := integer(text, math.MinInt64, math.MaxInt64)
		return protoreflect.ValueOfInt64(v), err
	case protoreflect.Uint32Kind:
		v, err := integer(text, 0, math.MaxUint32)
		return protoreflect.ValueOfUint32(uint32(v)), err
	case protoreflect.Uint64Kind:
		if v, err := strconv.ParseUint(text, 10, 64); err == nil {
			return protoreflect.ValueOfUint64(v), nil
		}
		v, err := integer(text, 0, math.MaxInt64)
		return protoreflect.ValueOfUint64(uint64(v)), err
	default:
		return none, unexpected("number", field)
	}
}

// integer reads an integer, also one that is written with a fraction (5.0),
// whose fraction is dropped.
func integer(text string, least, most int64) (int64, error) {
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		float, floatErr := strconv.ParseFloat(text, 64)
		if floatErr != nil || math.IsNaN(float) || math.Abs(float) >= 1<<63 {
			return 0, fmt.Errorf("Number '%s' is out of range", text) //nolint:staticcheck // Mesos's text
		}
		v = int64(float)
	}
	if v < least || v > most {
		return 0, fmt.Errorf("Number '%s' is out of range", text) //nolint:staticcheck // Mesos's text
	}
	return v, nil
}

func unexpected(kind string, field protoreflect.FieldDescriptor) error {
	return fmt.Errorf("Not expecting a JSON %s for field '%s'", kind, field.Name()) //nolint:staticcheck // Mesos's text
}

func kindOf(v any) string {
	switch v.(type) {
	case map[string]any:
		return "object"
	case []any:
		return "array"
	case string:
		return "string"
	case bool:
		return "boolean"
	case json.Number:
		return "number"
	default:
		return "null"
	}
}

// missingFields names the required fields that are not set, by their paths.
func missingFields(m protoreflect.Message) error {
	paths := appendMissing(nil, "", m)
	if len(paths) == 0 {
		return nil
	}
	return fmt.Errorf("Missing required fields: %s", strings.Join(paths, ", ")) //nolint:staticcheck // Mesos's text
}

func appendMissing(paths []string, prefix string, m protoreflect.Message) []string {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); f.Cardinality() == protoreflect.Required && !m.Has(f) {
			paths = append(paths, prefix+string(f.Name()))
		}
	}
	for i := range fields.Len() {
		field := fields.Get(i)
		name := prefix + string(field.Name())
		switch {
		case !m.Has(field):
		case field.IsMap():
			if field.MapValue().Message() == nil {
				continue
			}
			values := m.Get(field).Map()
			for _, key := range sortedKeys(values) {
				paths = appendMissing(paths, fmt.Sprintf("%s[%s].", name, key), values.Get(key).Message())
			}
		case field.Message() == nil:
		case field.IsList():
			list := m.Get(field).List()
			for j := range list.Len() {
				paths = appendMissing(paths, fmt.Sprintf("%s[%d].", name, j), list.Get(j).Message())
			}
		default:
			paths = appendMissing(paths, name+".", m.Get(field).Message())
		}
	}
	return paths
}

func sortedKeys(m protoreflect.Map) []protoreflect.MapKey {
	keys := make([]protoreflect.MapKey, 0, m.Len())
	m.Range(func(key protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, key)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return cmp.Compare(a.String(), b.String()) })
	return keys
}

func sortedNames(object map[string]any) []string {
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
