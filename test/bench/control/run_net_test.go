//go:build net

package control

import (
	"strings"
	"testing"
	"time"
)

// TestNetRun tries the benchmark itself, in miniature.
func TestNetRun(t *testing.T) {
	area, err := run(t.Context(), []agentsCase{
		{"agents10", 10, 10, 10, 5, 3, 200 * time.Millisecond, 1}, {"agents12", 12, 4, 5, 2, 2, 0, 3},
	})
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
	for _, name := range []string{
		"agents10/converge", "agents10/rss", "agents10/change", "agents10/churn", "agents10/churn-settled",
		"agents12/converge", "agents12/rss", "agents12/change", "agents12/resync",
	} {
		if !seen[name] {
			t.Errorf("there is no result of %s", name)
		}
	}
}
