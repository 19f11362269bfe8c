//go:build net

package control

import (
	"strings"
	"testing"
	"time"
)

// TestNetRun tries the benchmark itself, in miniature.
func TestNetRun(t *testing.T) {
	area, err := run(t.Context(), []agentsCase{{"agents10", 10, 10, 10, 5, 3, 200 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	area.Print(&table)
	t.Log("\n" + table.String())
	seen := map[string]bool{}
	for _, r := range area.Results {
		seen[r.Case] = r.Value > 0
	}
	for _, name := range []string{"converge", "rss", "change", "churn", "churn-settled"} {
		if !seen["agents10/"+name] {
			t.Errorf("there is no result of %s", name)
		}
	}
}
