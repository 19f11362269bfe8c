package model

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// A stored form without some properties is that of the object without them.
func TestWithout(t *testing.T) {
	types := Types()
	rapid.Check(t, func(t *rapid.T) {
		typ := rapid.SampledFrom(types).Draw(t, "type")
		tree := randomObject(t, typ)
		addUnknown(t, tree)
		e := Entity{Kind: typ.Kind, UUID: "753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a"}
		tree["uuid"], tree["fq_name"] = e.UUID, []any{"a", rapid.String().Draw(t, "name")}
		text, err := marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(text)
		s, err := ParseStored(e, text)
		if err != nil {
			t.Fatal(err)
		}
		var without []string
		for _, name := range slices.Sorted(maps.Keys(tree)) {
			if name != "fq_name" && rapid.Bool().Draw(t, "without "+name) {
				without = append(without, name)
				delete(tree, name)
			}
		}
		got := s.Without(append(without, "nothing")...)
		left, err := parseObject(got.JSON)
		if err != nil {
			t.Fatalf("%v in %s", err, got.JSON)
		}
		want, err := parseObject(mustMarshal(t, tree))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, left); diff != "" {
			t.Fatalf("without %v: %s", without, diff)
		}
		if !slices.Equal(got.FQName(), s.FQName()) || got.Parent != s.Parent || !bytes.Equal(text, before) {
			t.Fatalf("%s became %s with the name %q", before, got.JSON, got.FQName())
		}
	})
}

func mustMarshal(t *rapid.T, tree any) []byte {
	text, err := marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
