package configapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

func subnetAttribute(prefix string, pad int) model.Reference {
	text := fmt.Sprintf(`{"ipam_subnets": [{"subnet": {"ip_prefix": %q, "ip_prefix_len": 24}}]%s}`, prefix, strings.Repeat(" ", pad))
	return model.Reference{Attr: json.RawMessage(text)}
}

// The subnets of a reference are those of its attribute, whoever has read it
// before and whatever he did with them.
func TestSubnetCache(t *testing.T) {
	var cache subnetCache
	refs := []model.Reference{
		subnetAttribute("10.1.0.0", 0), subnetAttribute("10.2.0.0", 0), subnetAttribute("10.1.0.0", maxCached-300), {},
	}
	for range 3 {
		for i, r := range refs {
			for _, scope := range []string{"a", "b"} {
				got, err := cache.read(r, scope)
				if err != nil {
					t.Fatal(err)
				}
				want, err := readAttribute(r, scope)
				if err != nil {
					t.Fatal(err)
				}
				for n := range want {
					want[n].known = want[n].spans()
				}
				if len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
					t.Errorf("reference %d in %s: %+v, want %+v", i, scope, got, want)
				}
				clear(got)
				if cache.size > maxCached+len(r.Attr) {
					t.Errorf("keeps %d bytes, want at most %d", cache.size, maxCached)
				}
			}
		}
	}
	if _, err := cache.read(model.Reference{Attr: json.RawMessage(`{"ipam_subnets": 1}`)}, "a"); err == nil {
		t.Error("an attribute that cannot be read has no error")
	}
}
