//go:build net

package reflect

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if !Main(os.Args[1:]) {
		os.Exit(m.Run())
	}
}

// TestNetRun tries the benchmark itself, with few routes.
func TestNetRun(t *testing.T) {
	results, err := run(t.Context(), 1, []benchCase{{"reflect1k", 1000, 2, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 3 {
		t.Fatalf("%d results, want 3", len(results))
	}
	for _, r := range results {
		t.Logf("%+v", r)
		if r.Runs != 1 || len(r.Against) != 3 {
			t.Errorf("%+v", r)
		}
	}
}
