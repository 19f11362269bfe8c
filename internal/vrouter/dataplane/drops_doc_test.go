package dataplane

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var updateDocs = flag.Bool("update", false, "write the documents that follow from the code anew")

// TestDropReference fails when docs/reference/drops.md is not what the reasons
// are, or when nobody is told what to do about one. `go test
// ./internal/vrouter/dataplane -run DropReference -update` writes it anew.
func TestDropReference(t *testing.T) {
	var b strings.Builder
	b.WriteString(`<!-- Written by go test -run DropReference -update in internal/vrouter/dataplane. -->

# Why the vRouter drops packets

Each dropped packet is counted by its reason and interface. ` + "`contrail vrouter drops`" + ` shows the counts, and so does the metric ` + "`contrail_vrouter_drops_total`" + `. The interface is the port concerned where it is known, else the one that the packet came in by: for what comes from other nodes that is the underlay.

| reason | what happened | what to do |
|---|---|---|
`)
	for _, r := range DropReasons() {
		if dropAdvice[r] == "" {
			t.Errorf("drop_advice.go says nothing about %s", r)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r, r.Help(), r.Advice())
	}
	if len(dropAdvice) != len(DropReasons()) {
		t.Errorf("drop_advice.go has %d reasons, and there are %d", len(dropAdvice), len(DropReasons()))
	}
	path := filepath.Join("..", "..", "..", "docs", "reference", "drops.md")
	if *updateDocs {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Errorf("%s is not what the reasons are; write it anew: go test ./internal/vrouter/dataplane -run DropReference -update", path)
	}
}
