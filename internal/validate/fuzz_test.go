package validate

import (
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

// FuzzCheck: whatever the schema lets in, the rules answer, with a path and
// with what is wanted.
func FuzzCheck(f *testing.F) {
	types := model.Types()
	for i, t := range types {
		f.Add(uint8(i), []byte(`{"annotations": {"key_value_pair": [{"key": "`+t.Name+`"}]}}`))
		for _, p := range t.Properties {
			f.Add(uint8(i), []byte(`{"`+p.Name+`": {}}`))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, text []byte) {
		o, err := types[int(which)%len(types)].Decode(text)
		if err != nil {
			return
		}
		before := func() model.Object { return nil }
		for _, e := range Check(&Subject{Object: o, Before: before, Neighbours: newWorld()}) {
			if e.Property == "" || e.Want == "" {
				t.Errorf("%+v", e)
			}
		}
	})
}
