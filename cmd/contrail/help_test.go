package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// withoutJSON are commands that have no answer of their own: they run until
// they are stopped, or pass on what others write.
var withoutJSON = map[string]string{
	"contrail exec": "the task's command answers", "contrail logs": "the components answer", "contrail supervise": "runs on",
	"contrail controller": "runs on", "contrail controller store": "runs on", "contrail controller config": "runs on", "contrail controller control": "runs on",
	"contrail mesos-manager": "runs on", "contrail vrouter-agent": "runs on", "contrail repo": "runs on",
	"contrail mesos master": "runs on", "contrail mesos agent": "runs on", "contrail mesos marathon": "runs on", "contrail mesos executor": "runs on",
}

// TestEveryCommandHelps looks at each command: it can answer in JSON, its help
// is written like that of the others, and its examples are commands of ours
// with flags that exist.
func TestEveryCommandHelps(t *testing.T) {
	root := newRootCommand()
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		path := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Short[0] < 'A' || c.Short[0] > 'Z' {
			t.Errorf("%s: short help is %q; want a sentence in the imperative without a full stop", path, c.Short)
		}
		if !c.Runnable() || isGroup(c) {
			return
		}
		if _, excepted := withoutJSON[path]; c.Flags().Lookup("output") == nil && !excepted {
			t.Errorf("%s has no -o json", path)
		}
		for line := range strings.Lines(strings.ReplaceAll(c.Example, "\\\n", " ")) {
			checkExample(t, path, strings.TrimSpace(line))
		}
	}
	for _, c := range root.Commands() {
		visit(c)
	}
}

// checkExample parses the flags of an example.
func checkExample(t *testing.T, path, line string) {
	t.Helper()
	if i := strings.LastIndex(line, "| "); i >= 0 {
		line = line[i+len("| "):]
	}
	at := strings.Index(line, "contrail ")
	if at < 0 || strings.HasPrefix(line, "#") {
		if line != "" {
			t.Errorf("%s: example %q is no command of contrail", path, line)
		}
		return
	}
	root := newRootCommand()
	found, rest, err := root.Find(strings.Fields(line[at:])[1:])
	if err != nil || found == root {
		t.Errorf("%s: example %q: %v", path, line, err)
		return
	}
	if err := found.ParseFlags(rest); err != nil {
		t.Errorf("%s: example %q: %v", path, line, err)
		return
	}
	if err := found.ValidateArgs(found.Flags().Args()); err != nil {
		t.Errorf("%s: example %q: %v", path, line, err)
	}
}
