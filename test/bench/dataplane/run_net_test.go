//go:build net

package dataplane

import (
	"strings"
	"testing"
	"time"
)

// TestNetRun tries the benchmark itself, for moments.
func TestNetRun(t *testing.T) {
	area, err := run(t.Context(), 1, 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	area.Print(&table)
	t.Log("\n" + table.String())
	if len(area.Results) != len(cases())+1 {
		t.Fatalf("%d results, want %d", len(area.Results), len(cases())+1)
	}
	for _, r := range area.Results {
		if r.Value <= 0 || r.Runs != 1 || len(r.Against) < 1 {
			t.Errorf("%+v", r)
		}
	}
}
