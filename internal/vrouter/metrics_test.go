package vrouter

import (
	"flag"
	"path/filepath"
	"testing"

	"github.com/contrail-mesos/contrail/internal/metricsdoc"
)

var updateDocs = flag.Bool("update", false, "write the documents that follow from the code anew")

// TestMetricsReference fails when docs/reference/metrics.md is not what the
// metrics are. `go test ./internal/vrouter -run MetricsReference -update` writes
// it anew.
func TestMetricsReference(t *testing.T) {
	a := testAgent(t, t.TempDir(), newFakePlane(), &fakeLinks{links: map[int]string{2: "eth0"}})
	metricsdoc.Compare(t, filepath.Join("..", "..", "docs", "reference", "metrics.md"), "Metrics of the vRouter agent", a.metrics(), *updateDocs)
}
