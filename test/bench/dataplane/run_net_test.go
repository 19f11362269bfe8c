//go:build net

package dataplane

import (
	"strings"
	"testing"
	"time"
)

// TestNetRun tries the benchmark itself, for moments.
func TestNetRun(t *testing.T) {
	a := amounts{rules: []int{1, 20}, routes: []int{10, 100}, flows: 2 * connections, bursts: 1, ports: 20}
	area, err := run(t.Context(), 1, 20*time.Millisecond, a)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	area.Print(&table)
	t.Log("\n" + table.String())
	programs := &programs{amounts: a}
	want := len(cases()) + 4 + len(programs.cases())
	if len(area.Results) != want {
		t.Fatalf("%d results, want %d", len(area.Results), want)
	}
	for i, r := range area.Results {
		if r.Value <= 0 || r.Runs != 1 || i < len(cases()) && len(r.Against) != 2 {
			t.Errorf("%+v", r)
		}
	}
}
