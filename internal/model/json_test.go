package model

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestCheckJSON(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for _, c := range []struct{ name, text, path, value string }{
		{"object", `{"a": [1, -2.5e+3, true, false, null, "x\u00e9\n\ud83d\ude00é"], "b": {}}`, "", ""},
		{"scalar", ` 0 `, "", ""},
		{"deepest", deep(maxDepth), "", ""},
		{"nothing", " ", "the body", "nothing"},
		{"trailing", `{} {}`, "the body", `"{}"`},
		{"twice", `{"a": {"b": 1, "c": 2, "b": 3}}`, "a.b", "given twice"},
		{"twice, written differently", `{"ab": 1, "\u0061b": 2}`, "ab", "given twice"},
		{"twice of many", `{` + strings.Repeat(" ", 3) + manyKeys(40) + `, "k7": 1}`, "k7", "given twice"},
		{"deeper", deep(maxDepth + 1), "", "nested deeper than 32 levels"},
		{"utf-8", "{\"a\": [\"x\", \"\xff\"]}", "a[1]", "text with the byte 0xff"},
		{"utf-8 in a key", "{\"\xc3(\": 1}", "a key", "text with the byte 0xc3"},
		{"surrogate", `{"a": "\ud800"}`, "a", `text with the lone surrogate \ud800`},
		{"surrogate and letter", `{"a": "\ud800\u0061"}`, "a", `text with the lone surrogate \ud800`},
		{"low surrogate first", `{"a": "\udc00\ud800"}`, "a", `text with the lone surrogate \udc00`},
		{"control", "{\"a\": \"x\x01\"}", "a", "text with the control character U+0001"},
		{"newline as it is", "{\"a\": \"x\n\"}", "a", "text with the control character U+000A"},
		{"control escaped", `{"a": {"b": ["\u0000"]}}`, "a.b[0]", "text with the control character U+0000"},
		{"backspace", `{"a": "\b"}`, "a", "text with the control character U+0008"},
		{"noncharacter", "{\"a\": \"\uffff\"}", "a", "text with the control character U+FFFF"},
		{"escape", `{"a": "\x"}`, "a", `"\\x\"}"`},
		{"no end", `{"a": "x`, "a", "text without an end"},
		{"no end after backslash", `{"a": "\`, "a", "text without an end"},
		{"no colon", `{"a" 1}`, "a", `"1}"`},
		{"no comma", `{"a": 1 "b": 2}`, "a", `"\"b\": 2}"`},
		{"no comma in a list", `[1 2]`, "[0]", `"2]"`},
		{"comma at the end", `[1,]`, "[1]", `"]"`},
		{"comma at the end of an object", `{"a":1,}`, "the body", `"}"`},
		{"unfinished", `{"a": [`, "a[0]", "the end of the text"},
		{"leading zero", `{"a": 012}`, "a", `"12}"`},
		{"half a number", `{"a": -}`, "a", `"-}"`},
		{"no exponent", `{"a": 1e}`, "a", `"1e}"`},
		{"long number", `{"a": 1` + strings.Repeat("0", 100) + `}`, "a", "a number of 101 characters"},
		{"word", `{"a": nul}`, "a", `"nul}"`},
		{"NaN", `[NaN]`, "[0]", `"NaN]"`},
		{"masses", "[" + strings.Repeat("0,", maxValues) + "0]", "[199999]", "one of more than 200000 values"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := CheckJSON("the body", []byte(c.text))
			if c.value == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			var bad *PropertyError
			if !errors.As(err, &bad) {
				t.Fatalf("accepted: %v", err)
			}
			if bad.Value != c.value || c.path != "" && bad.Property != c.path {
				t.Errorf("got %q %q", bad.Property, bad.Value)
			}
		})
	}
}

func manyKeys(n int) string {
	var parts []string
	for i := range n {
		parts = append(parts, `"k`+string(rune('0'+i%10))+strings.Repeat("x", i/10)+`": 1`)
	}
	return strings.Join(parts, ", ")
}

// A hostile body of the largest size costs no more than reading it.
func TestCheckJSONIsLinear(t *testing.T) {
	const size = 1 << 20
	for name, text := range map[string]string{
		"open brackets": strings.Repeat("[", size),
		"open objects":  strings.Repeat(`{"a":`, size/5),
		"keys":          "{" + strings.Repeat(`"a":1,`, size/6),
		"long key":      `{"` + strings.Repeat("k", size) + `": 1, "` + strings.Repeat("k", size) + `": 1}`,
		"escapes":       `"` + strings.Repeat(`\u0061`, size/6) + `"`,
		"digits":        strings.Repeat("1", size),
		"spaces":        strings.Repeat(" ", size),
	} {
		began := time.Now()
		_ = CheckJSON("the body", []byte(text))
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
}

// FuzzCheckJSON compares with the standard library: what we accept, it accepts.
func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,"x",null]}`, `{"a":1,"a":2}`, `"\ud83d\ude00"`, `[[[]]]`, "\"\xff\"", `-0.0e-1`, ` `, `{"":{}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := CheckJSON("fuzz", data)
		var bad *PropertyError
		switch {
		case err == nil && !json.Valid(data):
			t.Errorf("accepts %q", data)
		case err != nil && !errors.As(err, &bad):
			t.Errorf("%T", err)
		}
	})
}

// FuzzPatch: whatever is accepted can be written and read again as it was.
func FuzzPatch(f *testing.F) {
	for _, seed := range []string{
		`{"display_name": "x", "router_external": true}`,
		`{"virtual_network_properties": {"vxlan_network_identifier": 5, "rpf": "enable"}}`,
		`{"route_target_list": {"route_target": ["target:64512:1"]}}`,
		`{"virtual_network_properties": []}`, `{"is_shared": 1.5}`, `[]`, `{"annotations": {"key_value_pair": [{"key": "a", "value": ""}]}}`,
	} {
		f.Add([]byte(seed))
	}
	t, _ := TypeOf("virtual-network")
	f.Fuzz(func(tt *testing.T, data []byte) {
		o, err := t.Decode(data)
		if err != nil {
			return
		}
		first, err := Encode(o)
		if err != nil {
			tt.Fatal(err)
		}
		again, err := t.DecodeStored(first)
		if err != nil {
			tt.Fatalf("%s: %v", first, err)
		}
		second, err := Encode(again)
		if err != nil || string(first) != string(second) {
			tt.Errorf("%s becomes %s, %v", first, second, err)
		}
		var changes map[string]json.RawMessage
		if json.Unmarshal(data, &changes) == nil {
			if _, err := t.Patch(o, changes); err != nil {
				tt.Errorf("patching with what was decoded: %v", err)
			}
		}
	})
}
