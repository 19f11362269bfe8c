package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// PropertyError says which property has which value, and what it should be.
type PropertyError struct {
	// Property is the path from the object to the value:
	// "network_ipam_mgmt.host_routes.route[0].prefix".
	Property string
	// Value is the JSON that was given, shortened when it is long; empty when nothing was.
	Value string
	// Want says what is accepted.
	Want string
}

func (e *PropertyError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s is missing, want %s", e.Property, e.Want)
	}
	return fmt.Sprintf("%s is %s, want %s", e.Property, e.Value, e.Want)
}

// Decode reads the properties of an object and checks them against the
// schema: unknown properties, wrong types, values outside of enumerations,
// ranges and formats, and absent mandatory fields are a *PropertyError. Keys
// that are no properties (references, hrefs) are unknown here; Classify tells
// them apart. null and an empty list mean absent.
func (t *Type) Decode(data []byte) (Object, error) {
	tree, err := parseObject(data)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", t.Kind, err)
	}
	return t.build(tree, reader{strict: true})
}

// DecodeStored reads what Encode wrote, perhaps in another version: what this
// version does not know is kept in Meta.Unknown, and only types are checked.
func (t *Type) DecodeStored(data []byte) (Object, error) {
	// A process that starts reads every object: what this version wrote goes
	// straight into Go, twice as fast as by way of the schema.
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if o := t.new(); bytes.HasPrefix(data, []byte("{")) && d.Decode(o) == nil && onlySpace(data[d.InputOffset():]) {
		return o, nil
	}
	tree, err := parseObject(data)
	if err != nil {
		return nil, fmt.Errorf("decode stored %s: %w", t.Kind, err)
	}
	o, err := t.build(tree, reader{})
	if err != nil {
		return nil, err
	}
	if err := t.keepUnknown(o.GetMeta(), tree); err != nil {
		return nil, err
	}
	return o, nil
}

func onlySpace(data []byte) bool { return len(bytes.TrimSpace(data)) == 0 }

// Encode writes the object's properties as JSON.
func Encode(o Object) ([]byte, error) {
	data, err := marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", EntityOf(o), err)
	}
	if len(o.GetMeta().Unknown) == 0 {
		return data, nil
	}
	if data, err = withUnknown(o, data); err != nil {
		return nil, fmt.Errorf("encode %s: %w", EntityOf(o), err)
	}
	return data, nil
}

// marshal is json.Marshal that leaves <, > and & alone.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Validate checks an object that Go code made, as Decode checks JSON.
func (t *Type) Validate(o Object) error {
	if o.Kind() != t.Kind {
		return fmt.Errorf("validate %s as a %s", EntityOf(o), t.Kind)
	}
	data, err := marshal(o)
	if err != nil {
		return fmt.Errorf("encode %s: %w", EntityOf(o), err)
	}
	_, err = t.Decode(data)
	return err
}

// Patch returns a copy of o in which the properties in changes are replaced,
// or cleared where the value is null. o stays as it is. Errors are those of
// Decode.
func (t *Type) Patch(o Object, changes map[string]json.RawMessage) (Object, error) {
	if o.Kind() != t.Kind {
		return nil, fmt.Errorf("patch %s as a %s", EntityOf(o), t.Kind)
	}
	patched := t.new()
	reflect.ValueOf(patched).Elem().Set(reflect.ValueOf(o).Elem())
	if m := patched.GetMeta(); m.Unknown != nil {
		m.Unknown = maps.Clone(m.Unknown)
		maps.DeleteFunc(m.Unknown, func(name string, _ json.RawMessage) bool { _, replaced := changes[name]; return replaced })
	}
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		tree, err := parse(changes[name])
		if err != nil {
			return nil, fmt.Errorf("decode property %s of %s: %w", name, t.Kind, err)
		}
		p, known := t.properties[name]
		if !known {
			return nil, t.unknown(name, tree)
		}
		dst := reflect.ValueOf(patched).Elem().FieldByIndex(p.index)
		dst.SetZero()
		if err := (reader{strict: true}).value(dst, tree, &p.Value, name); err != nil {
			return nil, err
		}
	}
	return patched, nil
}

// ValidateAttr checks the attribute of a reference. Absent and null are fine.
func (r *ReferenceType) ValidateAttr(attr json.RawMessage) error {
	if len(attr) == 0 {
		return nil
	}
	path := r.JSONName() + ".attr"
	tree, err := parse(attr)
	if err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	if tree == nil {
		return nil
	}
	if r.attr == nil {
		return &PropertyError{Property: path, Value: brief(tree), Want: "null, as references to " + string(r.Target) + " carry nothing"}
	}
	return reader{strict: true}.structure(reflect.ValueOf(r.attr.new()).Elem(), tree, r.attr, path)
}

func (t *Type) build(tree map[string]any, r reader) (Object, error) {
	o := t.new()
	dst := reflect.ValueOf(o).Elem()
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		p, known := t.properties[name]
		if !known {
			if r.strict {
				return nil, t.unknown(name, tree[name])
			}
			continue
		}
		if err := r.value(dst.FieldByIndex(p.index), tree[name], &p.Value, name); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (t *Type) unknown(name string, tree any) error {
	return &PropertyError{Property: name, Value: brief(tree), Want: "no such property: " + string(t.Kind) + " does not have it"}
}

// parse reads one JSON value; numbers stay as they are written.
func parse(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the JSON value")
	}
	return tree, nil
}

func parseObject(data []byte) (map[string]any, error) {
	tree, err := parse(data)
	if err != nil {
		return nil, err
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s is no JSON object", brief(tree))
	}
	return object, nil
}

// brief is the JSON of a value for messages, at most 80 bytes of it.
func brief(tree any) string {
	text, err := marshal(tree)
	if err != nil {
		return fmt.Sprint(tree)
	}
	if len(text) > 80 {
		return strings.ToValidUTF8(string(text[:77]), "") + "..."
	}
	return string(text)
}

// reader moves parsed JSON into Go values under the schema's control. Only a
// strict one minds unknown fields and the limits of values.
type reader struct {
	strict bool
}

func (r reader) value(dst reflect.Value, tree any, v *Value, path string) error {
	if tree == nil {
		return nil
	}
	if !v.List {
		return r.single(dst, tree, v, path)
	}
	items, ok := tree.([]any)
	if !ok {
		return &PropertyError{Property: path, Value: brief(tree), Want: "a list"}
	}
	if len(items) == 0 {
		return nil
	}
	list := reflect.MakeSlice(dst.Type(), len(items), len(items))
	for i, item := range items {
		if err := r.single(list.Index(i), item, v, path+"["+strconv.Itoa(i)+"]"); err != nil {
			return err
		}
	}
	dst.Set(list)
	return nil
}

func (r reader) single(dst reflect.Value, tree any, v *Value, path string) error {
	if dst.Kind() == reflect.Pointer {
		dst.Set(reflect.New(dst.Type().Elem()))
		dst = dst.Elem()
	}
	if v.structure != nil {
		return r.structure(dst, tree, v.structure, path)
	}
	bad := func(want string) error {
		return &PropertyError{Property: path, Value: brief(tree), Want: want}
	}
	switch v.Type {
	case "boolean":
		b, ok := tree.(bool)
		if !ok {
			return bad("true or false")
		}
		dst.SetBool(b)
	case "integer":
		n, err := integer(tree)
		if err != nil || r.strict && !v.inRange(n) {
			return bad(v.integerWant())
		}
		dst.SetInt(n)
	case "unsigned":
		number, _ := tree.(json.Number)
		n, err := strconv.ParseUint(number.String(), 10, 64)
		if err != nil {
			return bad("an integer from 0 to 18446744073709551615")
		}
		dst.SetUint(n)
	default:
		s, ok := tree.(string)
		if !ok {
			return bad("a string")
		}
		if r.strict {
			if want := v.stringWant(s); want != "" {
				return bad(want)
			}
		}
		dst.SetString(s)
	}
	return nil
}

func (r reader) structure(dst reflect.Value, tree any, s *Struct, path string) error {
	object, ok := tree.(map[string]any)
	if !ok {
		return &PropertyError{Property: path, Value: brief(tree), Want: "an object (" + s.Name + ")"}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		f, known := s.fields[name]
		if !known {
			if !r.strict {
				continue
			}
			return &PropertyError{Property: path + "." + name, Value: brief(object[name]), Want: "no such field: " + s.Name + " does not have it"}
		}
		if err := r.value(dst.FieldByIndex(f.index), object[name], &f.Value, path+"."+name); err != nil {
			return err
		}
	}
	if !r.strict {
		return nil
	}
	for _, f := range s.Fields {
		if f.Mandatory && object[f.Name] == nil {
			return &PropertyError{Property: path + "." + f.Name, Want: f.Value.want()}
		}
	}
	return nil
}

func integer(tree any) (int64, error) {
	number, ok := tree.(json.Number)
	if !ok {
		return 0, errors.New("no number")
	}
	return strconv.ParseInt(number.String(), 10, 64)
}

func (v *Value) inRange(n int64) bool {
	return (v.Minimum == nil || n >= *v.Minimum) && (v.Maximum == nil || n <= *v.Maximum)
}

func (v *Value) integerWant() string {
	if v.Minimum != nil && v.Maximum != nil {
		return fmt.Sprintf("an integer from %d to %d", *v.Minimum, *v.Maximum)
	}
	return "an integer"
}

func (v *Value) want() string {
	switch {
	case v.structure != nil:
		return "an object (" + v.structure.Name + ")"
	case v.Type == "integer":
		return v.integerWant()
	case v.Type == "unsigned":
		return "an integer"
	default:
		return "a " + v.Type
	}
}

// format is how a named format is checked and described.
type format struct {
	ok   func(string) bool
	want string
}

var (
	hex16            = regexp.MustCompile(`^0x[0-9a-fA-F]{1,4}$`)
	hex32            = regexp.MustCompile(`^0x[0-9a-fA-F]{1,8}$`)
	serviceInterface = regexp.MustCompile(`^(management|left|right|other[0-9]*)$`)
)

// formats are the checks behind the formats of the model. They are constant.
var formats = map[string]format{
	"date-time": {func(s string) bool { _, err := ParseTimestamp(s); return err == nil }, "a time such as 2006-01-02T15:04:05.000000"},
	"ip":        {func(s string) bool { _, err := netip.ParseAddr(s); return err == nil }, "an IPv4 or IPv6 address"},
	"uuid":      {IsUUID, "a UUID such as 753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a"},
	"hex16":     {hex16.MatchString, "up to 4 hexadecimal digits after 0x"},
	"hex32":     {hex32.MatchString, "up to 8 hexadecimal digits after 0x"},
	"service-interface": {
		serviceInterface.MatchString, "management, left, right or other with a number",
	},
	"mac":          {isMAC, "a MAC address such as 02:00:00:00:00:01"},
	"prefix":       {isPrefix, "a prefix such as 10.1.0.0/16 or 2001:db8::/32"},
	"community":    {isCommunity, "a community such as 64512:100 or no-export"},
	"esi":          {isESI, "an Ethernet segment identifier of 10 bytes such as 00:11:22:33:44:55:66:77:88:99"},
	"route-target": {isRouteTarget, "a route target such as target:64512:100 or target:192.0.2.1:100"},
}

// isRouteTarget knows the three kinds of RFC 4360 section 3.1 and RFC 5668:
// six bytes are shared between the administrator and its number.
func isRouteTarget(s string) bool {
	rest, ok := strings.CutPrefix(s, "target:")
	admin, number, two := strings.Cut(rest, ":")
	n, err := strconv.ParseUint(number, 10, 32)
	if !ok || !two || err != nil {
		return false
	}
	if a, err := netip.ParseAddr(admin); err == nil {
		return a.Is4() && n <= math.MaxUint16
	}
	asn, err := strconv.ParseUint(admin, 10, 32)
	return err == nil && (asn <= math.MaxUint16 || n <= math.MaxUint16)
}

// stringWant returns what would be accepted when s is not, else "". The empty
// string is the same as none, and none is always accepted.
func (v *Value) stringWant(s string) string {
	if s == "" {
		return ""
	}
	if v.Enum != nil && !slices.Contains(v.Enum, s) {
		return "one of " + strings.Join(v.Enum, ", ")
	}
	if f, ok := formats[v.Format]; ok && !f.ok(s) {
		return f.want
	}
	return ""
}
