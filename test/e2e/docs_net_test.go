//go:build net

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	base "github.com/contrail-mesos/contrail/test/cluster"
)

// documents are tried as a reader would: their ```sh blocks are run one after
// the other, and what an ```output block shows has to be in the answer of the
// block before it.
var documents = []string{"README.md", "docs/user-guide.md", "docs/operator-guide.md", "docs/benchmarks.md"}

// elsewhere are commands that other tests try, or that a test cannot do to the
// machine it runs on.
var elsewhere = []string{
	"apt-get ",             // whoever sets a bare machine up
	"make up", "make down", // TestNetUpAgain, TestNetDownLeavesNothing
	"make test",                 // this is it
	"make bench",                // the benchmarks' own tests
	"bin/contrail node remove ", // the test of removed nodes
}

// block is a fenced block of a document.
type block struct {
	line           int
	language, text string
}

// blocksOf takes a document apart.
func blocksOf(text string) []block {
	var blocks []block
	inside := false
	for i, line := range strings.Split(text, "\n") {
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && !inside:
			blocks = append(blocks, block{line: i + 1, language: language})
			inside = true
		case fence:
			inside = false
		case inside:
			blocks[len(blocks)-1].text += line + "\n"
		}
	}
	return blocks
}

// commands are the block's lines but for those that are tried elsewhere.
func (b block) commands() string {
	return strings.Join(slices.DeleteFunc(strings.SplitAfter(b.text, "\n"), func(line string) bool {
		return slices.ContainsFunc(elsewhere, func(prefix string) bool { return strings.HasPrefix(line, prefix) })
	}), "")
}

// asCluster turns the names of the cluster that documents speak of into those
// of this one.
func (c *cluster) asCluster(text string) string {
	for _, name := range []string{"contrail-node-", "contrail-fabric", "contrail-controller", "contrail-router", "/run/contrail/", "/etc/contrail/", "/sys/fs/bpf/contrail/"} {
		text = strings.ReplaceAll(text, name, strings.ReplaceAll(name, "contrail", c.Name))
	}
	return text
}

// tryDirectory is where the commands run: bin/contrail there speaks to this
// cluster, as it does to the reader's without being told.
func (c *cluster) tryDirectory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/bash
case $1 in
node) exec %[1]s/contrail "$@" --config unix:/run/%[2]s/config.sock ;;
db)
	[ "$2" != restore ] || set -- "$@" --config unix:/run/%[2]s/config.sock
	exec %[1]s/contrail "$@" --store unix:/run/%[2]s/store.sock ;;
control) exec %[1]s/contrail "$@" --control unix:/run/%[2]s/control.sock ;;
vrouter | trace) exec %[1]s/contrail "$@" --name %[2]s ;;
up | down | status | exec | logs) exec %[1]s/contrail "$1" --name %[2]s "${@:2}" ;;
*) CONTRAIL_API_URL=unix:/run/%[2]s/config.sock exec %[1]s/contrail "$@" ;;
esac
`, c.Bin, c.Name)
	if err := os.WriteFile(filepath.Join(dir, "bin", "contrail"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestNetDocuments runs the commands of the README and the guides.
func TestNetDocuments(t *testing.T) {
	c := start(t)
	t.Cleanup(func() {
		for _, id := range []string{"/web", "/client", "/db", "/hello", "/shop/web"} {
			c.destroy(t, id)
		}
		c.forget(t, "blue")
		// What the chapter about BGP makes, should it not come to its end.
		router := c.Name + "-router"
		_, _ = base.Run(contextOf(t), "bash", "-c", "ip netns pids "+router+" | xargs -r kill; ip netns delete "+router)
		c.clean(t)
		os.RemoveAll("/etc/" + c.Name)
	})
	if err := c.up(); err != nil { // with the example, which they speak of
		t.Fatal(err)
	}
	dir := c.tryDirectory(t)
	for _, document := range documents {
		text, err := os.ReadFile(filepath.Join("../..", document))
		if err != nil {
			t.Fatal(err)
		}
		var answer string
		for _, b := range blocksOf(string(text)) {
			t.Run(fmt.Sprintf("%s:%d", document, b.line), func(t *testing.T) {
				switch b.language {
				case "sh":
					answer = c.try(t, dir, b)
				case "output":
					c.shows(t, answer, b)
				case "text", "json":
				default:
					t.Errorf("block of language %q; want sh, output, text or json", b.language)
				}
			})
		}
	}
}

// try runs a block as bash does, with any command's failure a failure, that of
// a refused request included.
func (c *cluster) try(t *testing.T, dir string, b block) string {
	t.Helper()
	script := "cd " + dir + "\ncurl() { command curl --fail-with-body \"$@\"; }\n" + c.asCluster(b.commands())
	out, err := c.InHost(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	if err != nil {
		t.Error(err)
	}
	return out
}

// shows checks that each line that a document shows is, but for numbers and
// names that differ from run to run, among those of the answer.
func (c *cluster) shows(t *testing.T, answer string, b block) {
	t.Helper()
	var real []string
	for line := range strings.Lines(answer) {
		real = append(real, shape(line))
	}
	for line := range strings.Lines(c.asCluster(b.text)) {
		if !slices.Contains(real, shape(line)) {
			t.Errorf("the document shows\n%s\nand the answer is\n%s", line, answer)
		}
	}
}

var (
	devices     = regexp.MustCompile(`\btap[0-9a-z]{12}\b`)
	macs        = regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`)
	identifiers = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)
	durations   = regexp.MustCompile(`\b[0-9][0-9hms.]*[hms]\b`)
	numbers     = regexp.MustCompile(`[0-9]+`)
)

// shape is a line without what differs from run to run.
func shape(line string) string {
	line = devices.ReplaceAllString(line, "DEVICE")
	line = macs.ReplaceAllString(line, "MAC")
	line = identifiers.ReplaceAllString(line, "ID")
	line = durations.ReplaceAllString(line, "TIME")
	line = numbers.ReplaceAllString(line, "0")
	return strings.Join(strings.Fields(line), " ")
}
