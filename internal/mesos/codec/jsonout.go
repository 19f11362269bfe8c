package codec

import (
	"bytes"
	"encoding/base64"
	"math"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// MarshalJSON returns m in Mesos's JSON, with the fields that are set, on one
// line.
func MarshalJSON(m proto.Message) []byte {
	e := jsonEncoder{}
	e.message(m.ProtoReflect())
	return e.out.Bytes()
}

// MarshalJSONWithDefaults is MarshalJSON with the fields that are not set but
// have a default in the schema, as Mesos writes files and plugins' input.
func MarshalJSONWithDefaults(m proto.Message) []byte {
	e := jsonEncoder{defaults: true}
	e.message(m.ProtoReflect())
	return e.out.Bytes()
}

type jsonEncoder struct {
	out      bytes.Buffer
	defaults bool
}

func (e *jsonEncoder) message(m protoreflect.Message) {
	e.out.WriteByte('{')
	fields := m.Descriptor().Fields()
	first := true
	for i := range fields.Len() {
		field := fields.Get(i)
		if !m.Has(field) && !(e.defaults && field.HasDefault()) && !emptyLists[field.FullName()] {
			continue
		}
		if !first {
			e.out.WriteByte(',')
		}
		first = false
		e.text(string(field.Name()))
		e.out.WriteByte(':')
		e.field(field, m.Get(field))
	}
	e.out.WriteByte('}')
}

// emptyLists are the lists that a Mesos master writes also when they are empty.
var emptyLists = map[protoreflect.FullName]bool{
	"mesos.v1.master.Response.GetTasks.tasks":                     true,
	"mesos.v1.master.Response.GetTasks.unreachable_tasks":         true,
	"mesos.v1.master.Response.GetTasks.completed_tasks":           true,
	"mesos.v1.master.Response.GetExecutors.executors":             true,
	"mesos.v1.master.Response.GetFrameworks.frameworks":           true,
	"mesos.v1.master.Response.GetFrameworks.completed_frameworks": true,
	"mesos.v1.master.Response.GetAgents.agents":                   true,
	"mesos.v1.master.Response.GetAgents.recovered_agents":         true,
}

func (e *jsonEncoder) field(field protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case field.IsMap():
		e.mapping(field, v.Map())
	case field.IsList():
		list := v.List()
		e.out.WriteByte('[')
		for i := range list.Len() {
			if i > 0 {
				e.out.WriteByte(',')
			}
			e.value(field, list.Get(i))
		}
		e.out.WriteByte(']')
	default:
		e.value(field, v)
	}
}

func (e *jsonEncoder) mapping(field protoreflect.FieldDescriptor, m protoreflect.Map) {
	e.out.WriteByte('{')
	for i, key := range sortedKeys(m) {
		if i > 0 {
			e.out.WriteByte(',')
		}
		e.text(key.String())
		e.out.WriteByte(':')
		e.value(field.MapValue(), m.Get(key))
	}
	e.out.WriteByte('}')
}

func (e *jsonEncoder) value(field protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch field.Kind() {
	case protoreflect.BoolKind:
		e.out.WriteString(strconv.FormatBool(v.Bool()))
	case protoreflect.EnumKind:
		if known := field.Enum().Values().ByNumber(v.Enum()); known != nil {
			e.text(string(known.Name()))
			return
		}
		e.out.WriteString(strconv.Itoa(int(v.Enum())))
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Sint32Kind, protoreflect.Sint64Kind,
		protoreflect.Sfixed32Kind, protoreflect.Sfixed64Kind:
		e.out.WriteString(strconv.FormatInt(v.Int(), 10))
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
		e.out.WriteString(strconv.FormatUint(v.Uint(), 10))
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		e.out.Write(AppendDouble(nil, v.Float()))
	case protoreflect.BytesKind:
		e.text(base64.StdEncoding.EncodeToString(v.Bytes()))
	case protoreflect.MessageKind, protoreflect.GroupKind:
		e.message(v.Message())
	default:
		e.text(v.String())
	}
}

func (e *jsonEncoder) text(s string) { e.out.Write(AppendText(nil, s)) }

// AppendDouble appends a double as Mesos writes it: the shortest decimal that
// reads back equal, with a fraction also where it is whole. Infinities and NaN
// become strings, as JSON has no word for them.
func AppendDouble(to []byte, v float64) []byte {
	switch {
	case math.IsInf(v, 1):
		return append(to, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(to, `"-Infinity"`...)
	case math.IsNaN(v):
		return append(to, `"NaN"`...)
	}
	start := len(to)
	magnitude := math.Abs(v)
	if magnitude != 0 && (magnitude < 1e-6 || magnitude >= 1e21) {
		return strconv.AppendFloat(to, v, 'e', -1, 64)
	}
	to = strconv.AppendFloat(to, v, 'f', -1, 64)
	if bytes.IndexByte(to[start:], '.') < 0 {
		to = append(to, '.', '0')
	}
	return to
}

const hexDigits = "0123456789ABCDEF"

// AppendText appends a JSON string. Only what JSON demands is escaped; bytes
// that are no UTF-8 become U+FFFD.
func AppendText(to []byte, s string) []byte {
	to = append(to, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			to = append(to, '\\', c)
		case c == '\n':
			to = append(to, '\\', 'n')
		case c == '\r':
			to = append(to, '\\', 'r')
		case c == '\t':
			to = append(to, '\\', 't')
		case c < ' ':
			to = append(to, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			to = append(to, c)
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			to = utf8.AppendRune(to, r)
			i += size
			continue
		}
		i++
	}
	return append(to, '"')
}
