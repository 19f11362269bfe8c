//go:build net

package cni

import (
	"flag"
	"strings"
	"testing"
)

var rounds = flag.Int("rounds", 2, "how often to run every case")

// TestNetRun tries the benchmark itself, on few rounds.
func TestNetRun(t *testing.T) {
	area, err := Run(t.Context(), *rounds)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	area.Print(&table)
	t.Log("\n" + table.String())
	if len(area.Results) != 3 {
		t.Fatalf("%d results, want 3", len(area.Results))
	}
	for _, r := range area.Results {
		if r.Value <= 0 || len(r.Against) != 1 || r.Against[0].Value <= 0 {
			t.Errorf("%+v", r)
		}
	}
}
