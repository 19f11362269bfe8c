//go:build net

package configapi

import (
	"strings"
	"testing"
	"time"
)

// TestNetRun tries the benchmark itself, in miniature.
func TestNetRun(t *testing.T) {
	area, err := run(t.Context(), size{
		rounds: 1, length: 100 * time.Millisecond, warmUp: 50 * time.Millisecond, clients: []int{1, 16},
		list: 1000, short: 50, objects: 2000, starts: 1, watched: 5, fill: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	area.Print(&table)
	t.Log("\n" + table.String())
	seen := map[string]bool{}
	for _, r := range area.Results {
		seen[r.Case] = true
		if r.Value <= 0 || len(r.Against) == 0 || r.Against[0].Value <= 0 {
			t.Errorf("%+v", r)
		}
	}
	for _, name := range []string{
		"create-interface/1", "create-interface/16", "create-interface/16/p99", "attach/1", "attach/16", "read/16",
		"list10k", "list10k-detail", "watch", "create-interface/16/three", "attach/16/three", "attach/16/three/p99", "fill1k/first", "fill1k/last", "fill1k", "fill1k/detach", "start2k/elapsed", "start2k/rss",
	} {
		if !seen[name] {
			t.Errorf("there is no result of %s", name)
		}
	}
}
