package model

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of the JSON that is accepted from outside. The model itself nests a
// dozen levels deep at most.
const (
	maxDepth  = 32
	maxValues = 200_000
)

// CheckJSON refuses what encoding/json would quietly accept or repair, and
// what costs much more to read than to send: keys that come twice, text that
// is not UTF-8, lone surrogates, control characters, deep nesting, masses of
// values, and text after the value. It reads the data once. The error is a
// *PropertyError whose path leads to the value; root is what the whole is called.
func CheckJSON(root string, data []byte) error {
	s := scanner{root: root, data: data}
	s.space()
	if s.at == len(data) {
		return s.bad("nothing", "a JSON value")
	}
	if err := s.value(); err != nil {
		return err
	}
	if s.space(); s.at < len(data) {
		return s.bad(s.rest(), "nothing after the JSON value")
	}
	return nil
}

// scanner walks over JSON. It keeps the path to where it is.
type scanner struct {
	root   string
	data   []byte
	at     int
	path   []step
	values int
}

// step is a key of an object, or the index in a list.
type step struct {
	key   []byte
	index int
}

func (s *scanner) where() string {
	var b bytes.Buffer
	for _, p := range s.path {
		switch {
		case p.key == nil:
			b.WriteString("[" + strconv.Itoa(p.index) + "]")
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(briefText(string(p.key)))
		}
	}
	if b.Len() == 0 {
		return s.root
	}
	return b.String()
}

// briefText is text that a client sent, fit for a message: short, and without
// what would disturb a terminal.
func briefText(s string) string {
	quoted := strconv.QuoteToGraphic(s)
	quoted = quoted[1 : len(quoted)-1]
	if len(quoted) > 64 {
		return trimUTF8(quoted[:61]) + "..."
	}
	return quoted
}

func trimUTF8(s string) string {
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

func (s *scanner) bad(value, want string) error {
	return &PropertyError{Property: s.where(), Value: value, Want: want}
}

// rest is the beginning of what has not been read.
func (s *scanner) rest() string {
	if s.at >= len(s.data) {
		return "the end of the text"
	}
	return strconv.QuoteToGraphic(trimUTF8(string(s.data[s.at:min(s.at+24, len(s.data))])))
}

func (s *scanner) space() {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

func (s *scanner) next(c byte) bool {
	if s.at < len(s.data) && s.data[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) value() error {
	if s.values++; s.values > maxValues {
		return s.bad("one of more than "+strconv.Itoa(maxValues)+" values", "fewer in one request")
	}
	if s.at == len(s.data) {
		return s.bad(s.rest(), "a JSON value")
	}
	switch c := s.data[s.at]; {
	case c == '{':
		return s.object()
	case c == '[':
		return s.list()
	case c == '"':
		_, err := s.text()
		return err
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(s.data[s.at:], []byte(word)) {
			s.at += len(word)
			return nil
		}
	}
	return s.bad(s.rest(), "a JSON value")
}

func (s *scanner) enter(p step) error {
	if len(s.path) == maxDepth {
		return s.bad("nested deeper than "+strconv.Itoa(maxDepth)+" levels", "less")
	}
	s.path = append(s.path, p)
	return nil
}

func (s *scanner) leave() { s.path = s.path[:len(s.path)-1] }

func (s *scanner) list() error {
	s.at++
	if s.space(); s.next(']') {
		return nil
	}
	if err := s.enter(step{}); err != nil {
		return err
	}
	for {
		s.space()
		if err := s.value(); err != nil {
			return err
		}
		s.space()
		if s.next(']') {
			s.leave()
			return nil
		}
		if !s.next(',') {
			return s.bad(s.rest(), "a comma or ]")
		}
		s.path[len(s.path)-1].index++
	}
}

func (s *scanner) object() error {
	s.at++
	if s.space(); s.next('}') {
		return nil
	}
	if err := s.enter(step{}); err != nil {
		return err
	}
	var seen keys
	for {
		if s.space(); s.at == len(s.data) || s.data[s.at] != '"' {
			s.leave()
			return s.bad(s.rest(), "a key in quotes")
		}
		s.path[len(s.path)-1].key = []byte("a key")
		key, err := s.text()
		if err != nil {
			return err
		}
		s.path[len(s.path)-1].key = key
		if !seen.add(key) {
			return s.bad("given twice", "it once")
		}
		if s.space(); !s.next(':') {
			return s.bad(s.rest(), "a colon after the key")
		}
		s.space()
		if err := s.value(); err != nil {
			return err
		}
		s.space()
		if s.next('}') {
			s.leave()
			return nil
		}
		if !s.next(',') {
			return s.bad(s.rest(), "a comma or }")
		}
	}
}

// keys are those of one object. Most objects have few.
type keys struct {
	few  [][]byte
	many map[string]bool
}

// add tells whether the key is new.
func (k *keys) add(key []byte) bool {
	if k.many == nil {
		if slices.ContainsFunc(k.few, func(have []byte) bool { return bytes.Equal(have, key) }) {
			return false
		}
		if k.few = append(k.few, key); len(k.few) > 16 {
			k.many = make(map[string]bool, 2*len(k.few))
			for _, have := range k.few {
				k.many[string(have)] = true
			}
		}
		return true
	}
	if k.many[string(key)] {
		return false
	}
	k.many[string(key)] = true
	return true
}

// text reads a string and returns what it stands for.
func (s *scanner) text() ([]byte, error) {
	s.at++
	start := s.at
	var plain []byte // only when something is escaped
	for s.at < len(s.data) {
		c := s.data[s.at]
		switch {
		case c == '"':
			raw := s.data[start:s.at]
			s.at++
			if plain != nil {
				raw = append(plain, raw...)
			}
			return raw, nil
		case c == '\\':
			plain = append(plain, s.data[start:s.at]...)
			r, err := s.escaped()
			if err != nil {
				return nil, err
			}
			plain = utf8.AppendRune(plain, r)
			start = s.at
		case c < 0x20:
			return nil, s.control(rune(c))
		case c < utf8.RuneSelf:
			s.at++
		default:
			r, n := utf8.DecodeRune(s.data[s.at:])
			if r == utf8.RuneError && n == 1 {
				return nil, s.bad(fmt.Sprintf("text with the byte 0x%02x", c), "text in UTF-8")
			}
			if forbiddenInXML(r) {
				return nil, s.control(r)
			}
			s.at += n
		}
	}
	return nil, s.bad("text without an end", "a quote that ends it")
}

func (s *scanner) control(r rune) error {
	return s.bad(fmt.Sprintf("text with the control character %U", r), "text without control characters")
}

// escaped reads one escape sequence. JSON can write half a surrogate pair
// (RFC 8259 section 8.2), which stands for no character.
func (s *scanner) escaped() (rune, error) {
	if s.at+1 >= len(s.data) {
		s.at = len(s.data)
		return 0, s.bad("text without an end", "a quote that ends it")
	}
	c := s.data[s.at+1]
	if i := bytes.IndexByte([]byte(`"\/bfnrt`), c); i >= 0 {
		r := []rune("\"\\/\b\f\n\r\t")[i]
		if forbiddenInXML(r) {
			return 0, s.control(r)
		}
		s.at += 2
		return r, nil
	}
	r, ok := s.hex4(s.at)
	if !ok {
		return 0, s.bad(s.rest(), "an escape sequence of JSON")
	}
	width := 6
	if utf16.IsSurrogate(r) {
		low, ok := s.hex4(s.at + 6)
		pair := utf16.DecodeRune(r, low)
		if !ok || pair == utf8.RuneError {
			return 0, s.bad(fmt.Sprintf(`text with the lone surrogate \u%04x`, r), "both halves of the pair")
		}
		r, width = pair, 12
	}
	if forbiddenInXML(r) {
		return 0, s.control(r)
	}
	s.at += width
	return r, nil
}

func (s *scanner) hex4(at int) (rune, bool) {
	if at+6 > len(s.data) || s.data[at] != '\\' || s.data[at+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range s.data[at+2 : at+6] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// longestNumber is that of any number that a property can have, amply.
const longestNumber = 64

func (s *scanner) number() error {
	start := s.at
	digits := func() bool {
		from := s.at
		for s.at < len(s.data) && s.data[s.at] >= '0' && s.data[s.at] <= '9' {
			s.at++
		}
		return s.at > from
	}
	s.next('-')
	ok := s.next('0') || digits()
	if ok && s.next('.') {
		ok = digits()
	}
	if ok && (s.next('e') || s.next('E')) {
		_ = s.next('+') || s.next('-')
		ok = digits()
	}
	switch length := s.at - start; {
	case !ok:
		s.at = start
		return s.bad(s.rest(), "a number")
	case length > longestNumber:
		return s.bad("a number of "+strconv.Itoa(length)+" characters", "at most "+strconv.Itoa(longestNumber))
	}
	return nil
}
