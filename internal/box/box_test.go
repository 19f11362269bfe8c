package box

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		cfg  Config
		want string // in the error; empty means none
	}{
		{Config{Name: "contrail"}, ""},
		{Config{Name: "c-2", Nodes: 200, Data: "relative"}, ""},
		{Config{Name: ""}, "--name"},
		{Config{Name: "Upper"}, "--name"},
		{Config{Name: "a/../b"}, "--name"},
		{Config{Name: strings.Repeat("x", 25)}, "--name"},
		{Config{Name: "x", Nodes: -1}, "--nodes"},
		{Config{Name: "x", Nodes: 201}, "--nodes"},
		{Config{Name: "x", Data: "/"}, "--data"},
	} {
		err := test.cfg.Validate()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: %v, want %q", test.cfg, err, test.want)
		}
		if err == nil && !filepath.IsAbs(test.cfg.Data) {
			t.Errorf("data directory %q is not absolute", test.cfg.Data)
		}
	}
}

// TestPlan: names are unique, and every component comes after what it needs.
func TestPlan(t *testing.T) {
	cfg := Config{Name: "x", Data: "/data", Rest: time.Minute, Tombstone: time.Minute}
	seen := make(map[string]bool)
	open := make(map[string]string)
	for _, c := range cfg.plan(4) {
		if seen[c.name] {
			t.Errorf("%s is there twice", c.name)
		}
		for _, need := range c.after {
			if !seen[need] {
				t.Errorf("%s comes before %s, which it needs", c.name, need)
			}
		}
		seen[c.name] = true
		for _, address := range c.open {
			if other := open[address]; other != "" {
				t.Errorf("%s and %s both open %s", other, c.name, address)
			}
			open[address] = c.name
		}
		if c.ready == (probe{}) {
			t.Errorf("%s has no probe", c.name)
		}
	}
	if len(seen) != 5+2*4 {
		t.Errorf("%d components for 4 nodes", len(seen))
	}
}

func TestIdentity(t *testing.T) {
	cfg := Config{Name: "x", Data: t.TempDir()}
	if err := cfg.ensureIdentity(); err != nil || cfg.Nodes != 3 {
		t.Fatalf("%d nodes, %v; want 3", cfg.Nodes, err)
	}
	first, err := cfg.readIdentity()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Nodes = 5
	if err := cfg.ensureIdentity(); err != nil {
		t.Fatal(err)
	}
	grown, err := cfg.readIdentity()
	if err != nil || len(grown.Nodes) != 5 {
		t.Fatalf("%v, %v; want 5 nodes", grown, err)
	}
	for i := range first.Nodes {
		if grown.Nodes[i] != first.Nodes[i] {
			t.Errorf("node %d is another one after growing", i+1)
		}
	}
	cfg.Nodes = 0
	if err := cfg.ensureIdentity(); err != nil || cfg.Nodes != 5 {
		t.Errorf("%d nodes, %v; want as many as before", cfg.Nodes, err)
	}
	cfg.Nodes = 2
	if err := cfg.ensureIdentity(); err == nil || !strings.Contains(err.Error(), "--purge") {
		t.Errorf("shrinking: %v; want an error that says what to do", err)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		"/plain": "/plain", `/a\040b`: "/a b", `/a\134`: `/a\`, `\0`: `\0`, `/x\04`: `/x\04`, `\999`: `\999`,
	} {
		if got := unescape(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestLogs(t *testing.T) {
	cfg := Config{Name: "x", Data: t.TempDir()}
	write := func(name, text string) {
		t.Helper()
		path := cfg.logFile(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := Logs(t.Context(), cfg, "", 10, false, &out); err == nil {
		t.Error("no logs, and no error")
	}
	write("a", "1\n2\n3\n")
	write("b", "4\n")
	for _, test := range []struct {
		component string
		lines     int
		want      string
	}{{"", 10, "a: 1\na: 2\na: 3\nb: 4\n"}, {"a", 2, "2\n3\n"}, {"a", 0, ""}} {
		out.Reset()
		if err := Logs(t.Context(), cfg, test.component, test.lines, false, &out); err != nil || out.String() != test.want {
			t.Errorf("%q %d: %q, %v; want %q", test.component, test.lines, out.String(), err, test.want)
		}
	}
	if err := Logs(t.Context(), cfg, "c", 1, false, &out); err == nil || !strings.Contains(err.Error(), "a, b") {
		t.Errorf("unknown component: %v", err)
	}
	if got := lastLine(cfg.logFile("a")); got != "3" {
		t.Errorf("last line %q", got)
	}
}

// TestRotateLogs: a log beyond the limit moves aside and goes on being written
// by who has it open; who follows it sees what comes then.
func TestRotateLogs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.log")
	writer, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	var shown bytes.Buffer
	reading, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	follower := &logReader{file: reading, out: &shown}
	for _, step := range []struct{ write, log, old string }{
		{"one\n", "one\n", ""}, {"two, long enough\n", "", "one\ntwo, long enough\n"}, {"three\n", "three\n", "one\ntwo, long enough\n"},
	} {
		if _, err := writer.WriteString(step.write); err != nil {
			t.Fatal(err)
		}
		if err := follower.more(); err != nil {
			t.Fatal(err)
		}
		if err := rotateLogs(dir, 10); err != nil {
			t.Fatal(err)
		}
		log, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		old, err := os.ReadFile(path + ".1")
		if err != nil && step.old != "" {
			t.Fatal(err)
		}
		if string(log) != step.log || string(old) != step.old {
			t.Errorf("log %q and old %q, want %q and %q", log, old, step.log, step.old)
		}
	}
	if want := "one\ntwo, long enough\nthree\n"; shown.String() != want {
		t.Errorf("shown %q, want %q", shown.String(), want)
	}
}

func TestEventually(t *testing.T) {
	calls := 0
	err := eventually(t.Context(), func() error {
		if calls++; calls < 3 {
			return os.ErrNotExist
		}
		return nil
	})
	if err != nil || calls != 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if err := eventually(t.Context(), func() error { return permanent(os.ErrExist) }); err != os.ErrExist {
		t.Errorf("permanent error became %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := eventually(ctx, func() error { return os.ErrClosed }); err == nil {
		t.Error("no error although the context has ended")
	}
}
