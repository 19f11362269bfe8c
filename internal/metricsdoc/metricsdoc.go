// Package metricsdoc keeps docs/reference/metrics.md as the metrics are. Each
// service's tests compare the section of the page that is theirs.
package metricsdoc

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// descPattern takes the description of a metric apart.
var descPattern = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: "([^"]*)", .*variableLabels: \{([^}]*)\}\}$`)

// Compare fails when the section with the title is not what the collector
// describes; with update set it writes it anew. path is that of the page.
func Compare(t *testing.T, path, title string, of prometheus.Collector, update bool) {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, have, after := section(string(page), title)
	want := "# " + title + "\n\n| metric | labels | meaning |\n|---|---|---|\n" + strings.Join(rows(t, of), "")
	if after != "" {
		want += "\n"
	}
	if have == want {
		return
	}
	if update {
		if err := os.WriteFile(path, []byte(before+want+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s, %q, is not what the metrics are; write it anew: go test ./PACKAGE -run MetricsReference -update", path, title)
}

// section cuts a page into what is before, in and after a section.
func section(page, title string) (before, in, after string) {
	at := strings.Index(page, "# "+title+"\n")
	if at < 0 {
		return page + "\n", "", ""
	}
	before, in = page[:at], page[at:]
	if next := strings.Index(in[1:], "\n# "); next >= 0 {
		in, after = in[:next+2], in[next+2:]
	}
	return before, in, after
}

// rows are those of the section's table.
func rows(t *testing.T, of prometheus.Collector) []string {
	t.Helper()
	descs := make(chan *prometheus.Desc, 1000)
	of.Describe(descs)
	close(descs)
	var rows []string
	for d := range descs {
		m := descPattern.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read %s", d)
		}
		if strings.HasPrefix(m[1], "go_") || strings.HasPrefix(m[1], "process_") {
			continue
		}
		labels := ""
		if m[3] != "" {
			labels = "`" + strings.ReplaceAll(m[3], ",", "`, `") + "`"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", m[1], labels, m[2]))
	}
	slices.Sort(rows)
	return rows
}
