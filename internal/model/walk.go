package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// A walker goes over the members of a JSON object without making Go values
// of them, several times as fast as a decoder. It finds where values begin and
// end; whether they are right inside is for whoever decodes them. Its input is
// what Encode wrote, by this version or another.
type walker struct {
	data []byte
	at   int
	// from is where the last value begins.
	from int
	err  error
}

var errNotJSON = errors.New("no JSON object")

// walkObject begins a walk over the members of an object.
func walkObject(data []byte) *walker {
	w := &walker{data: data}
	w.space()
	if w.at >= len(data) || data[w.at] != '{' {
		w.err = errNotJSON
		return w
	}
	w.at++
	return w
}

// next returns the next member: its name, and its value as it is written. It
// returns false at the end and after an error.
func (w *walker) next() (name, value []byte, ok bool) {
	if w.err != nil {
		return nil, nil, false
	}
	w.space()
	if w.take('}') {
		w.space()
		if w.at != len(w.data) {
			w.err = fmt.Errorf("text after the JSON object at byte %d", w.at)
		}
		return nil, nil, false
	}
	from := w.at
	if !w.quoted() {
		return w.broken()
	}
	name = nameOf(w.data[from:w.at])
	w.space()
	if !w.take(':') {
		return w.broken()
	}
	w.space()
	w.from = w.at
	if !w.value() {
		return w.broken()
	}
	value = w.data[w.from:w.at]
	w.space()
	if w.at >= len(w.data) || !w.take(',') && w.data[w.at] != '}' {
		return w.broken()
	}
	return name, value, true
}

func (w *walker) broken() (name, value []byte, ok bool) {
	w.err = fmt.Errorf("broken JSON at byte %d", w.at)
	return nil, nil, false
}

// nameOf is the string that a quoted name stands for.
func nameOf(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	var name string
	_ = json.Unmarshal(quoted, &name) // a name that is none is nobody's
	return []byte(name)
}

func (w *walker) space() {
	for w.at < len(w.data) {
		switch w.data[w.at] {
		case ' ', '\t', '\n', '\r':
			w.at++
		default:
			return
		}
	}
}

func (w *walker) take(c byte) bool {
	if w.at < len(w.data) && w.data[w.at] == c {
		w.at++
		return true
	}
	return false
}

// quoted goes behind a string.
func (w *walker) quoted() bool {
	if !w.take('"') {
		return false
	}
	for {
		i := bytes.IndexByte(w.data[w.at:], '"')
		if i < 0 {
			return false
		}
		end := w.at + i
		escapes := 0
		for end-1-escapes >= w.at && w.data[end-1-escapes] == '\\' {
			escapes++
		}
		w.at = end + 1
		if escapes%2 == 0 {
			return true
		}
	}
}

// value goes behind a value of any kind.
func (w *walker) value() bool {
	if w.at >= len(w.data) {
		return false
	}
	switch w.data[w.at] {
	case '"':
		return w.quoted()
	case '{', '[':
		return w.nested()
	}
	from := w.at
	for w.at < len(w.data) {
		switch w.data[w.at] {
		case ',', '}', ']', ' ', '\t', '\n', '\r':
			return w.at > from
		}
		w.at++
	}
	return false
}

// nested goes behind an object or a list.
func (w *walker) nested() bool {
	for depth := 0; w.at < len(w.data); {
		switch w.data[w.at] {
		case '"':
			if !w.quoted() {
				return false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				w.at++
				return true
			}
		}
		w.at++
	}
	return false
}

// member returns a member of an object as it is written. A null counts as none.
func member(object []byte, name string) (json.RawMessage, bool) {
	w := walkObject(object)
	for {
		n, value, ok := w.next()
		if !ok {
			return nil, false
		}
		if string(n) == name {
			return value, string(value) != "null"
		}
	}
}

// text is the string that a JSON string stands for; empty for other values.
func text(value []byte) string {
	if len(value) >= 2 && value[0] == '"' && bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1])
	}
	var s string
	_ = json.Unmarshal(value, &s)
	return s
}
