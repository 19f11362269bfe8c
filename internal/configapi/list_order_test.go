package configapi

import (
	"encoding/json"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
)

func TestInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var items []*item
		var want []string
		for range rapid.IntRange(0, 300).Draw(t, "items") {
			id := model.NewUUID()
			if rapid.Bool().Draw(t, "close to another") {
				id = "00000000-0000-0000-0000-" + strconv.Itoa(100000000000+rapid.IntRange(0, 40).Draw(t, "n"))
			}
			items = append(items, &item{entry: entry{Stored: model.Stored{Entity: model.Entity{UUID: id}}}})
			want = append(want, id)
		}
		slices.Sort(want)
		var got []string
		for _, i := range inOrder(items) {
			got = append(got, i.UUID)
		}
		if want = slices.Compact(want); !slices.Equal(got, want) {
			t.Fatalf("in order: %v, want %v", got, want)
		}
	})
}

// A string is appended as an encoder would write it, wherever in it a character
// needs an escape.
func TestAppendString(t *testing.T) {
	for _, c := range []string{"", "a", " ", "~", "\"", "\\", "\x00", "\x1f", "\x7f", "\x80", "ü", "\u2028", "<"} {
		for n := range 20 {
			text := "0123456789abcdefghij"[:n] + c + "0123456789abcdefghij"[n:]
			var got string
			if err := json.Unmarshal(appendString(nil, text), &got); err != nil || c != "\x80" && got != text {
				t.Errorf("%q is appended as %s: %v", text, appendString(nil, text), err)
			}
		}
	}
}
