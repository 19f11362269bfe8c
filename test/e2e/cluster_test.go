//go:build net

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	cycles = flag.Int("cycles", 100, "how often the leak test starts and destroys an application")
	keep   = flag.Bool("keep", false, "leave the cluster running after the tests")
)

// Short, so that tests can wait for their ends.
const (
	rest      = 5 * time.Second
	tombstone = 10 * time.Second
	// recovery is how soon everything has to be well again after a crash.
	recovery = 30 * time.Second
)

// cluster is a running cluster and the namespace it was started from.
type cluster struct {
	name, host, data, bin string
}

var shared struct {
	once sync.Once
	c    *cluster
	err  error
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if c := shared.c; c != nil && !*keep {
		if err := c.remove(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// start returns the cluster that all tests share.
func start(t *testing.T) *cluster {
	t.Helper()
	shared.once.Do(func() {
		shared.c, shared.err = newCluster()
		if shared.err == nil {
			shared.err = shared.c.up("--no-example")
		}
	})
	if shared.err != nil {
		t.Fatalf("start the cluster: %v", shared.err)
	}
	return shared.c
}

// newCluster builds the binaries and makes the namespace to start from.
func newCluster() (*cluster, error) {
	dir, err := os.MkdirTemp("", "contrail-e2e-")
	if err != nil {
		return nil, err
	}
	name := "e2e" + strings.ToLower(rand.Text()[:6])
	c := &cluster{name: name, host: name + "-host", data: filepath.Join(dir, "data"), bin: filepath.Join(dir, "bin")}
	fmt.Fprintf(os.Stderr, "cluster %s in %s\n", name, dir)
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", c.bin+"/", "./cmd/...")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, out)
	}
	for _, command := range []string{"ip netns add " + c.host, "ip -n " + c.host + " link set lo up"} {
		if _, err := run(context.Background(), strings.Fields(command)...); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// remove takes the cluster down and fails if anything is left.
func (c *cluster) remove() error {
	_, err := c.contrail(context.Background(), "down", "--purge")
	_, errHost := run(context.Background(), "ip", "netns", "delete", c.host)
	return errors.Join(err, errHost, os.RemoveAll(filepath.Dir(c.data)))
}

// up runs `contrail up` with short rests.
func (c *cluster) up(args ...string) error {
	all := append([]string{"up", "--data", c.data, "--rest", rest.String(), "--tombstone", tombstone.String()}, args...)
	out, err := c.contrail(context.Background(), all...)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// contrail runs the binary for this cluster, in its host namespace.
func (c *cluster) contrail(ctx context.Context, args ...string) (string, error) {
	command := append([]string{filepath.Join(c.bin, "contrail"), args[0], "--name", c.name}, args[1:]...)
	return c.inHost(ctx, command...)
}

// inHost runs a command in the namespace that the cluster was started from.
func (c *cluster) inHost(ctx context.Context, command ...string) (string, error) {
	return run(ctx, append([]string{"nsenter", "--net=/run/netns/" + c.host}, command...)...)
}

// run returns what the command wrote to stdout; its error has all it wrote.
func run(ctx context.Context, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(command, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

func (c *cluster) node(n int) string { return fmt.Sprintf("%s-node-%d", c.name, n) }
func (c *cluster) fabric() string    { return c.name + "-fabric" }

// answer is what curl got.
type answer struct {
	status int
	body   string
}

func (a answer) decode(t *testing.T, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		t.Fatalf("decode %d %s: %v", a.status, a.body, err)
	}
}

// curl asks a service on the host's loopback.
func (c *cluster) curl(t *testing.T, method, url, body string) answer {
	t.Helper()
	got, err := c.tryCurl(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (c *cluster) tryCurl(ctx context.Context, method, url, body string) (answer, error) {
	command := []string{
		"curl", "--silent", "--show-error", "--max-time", "20", "--request", method,
		"--header", "Content-Type: application/json", "--write-out", "\n%{http_code}", "http://" + url,
	}
	if body != "" {
		command = append(command, "--data-binary", "@-")
	}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/" + c.host}, command...)...)
	cmd.Stdin = strings.NewReader(body)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return answer{}, fmt.Errorf("curl %s %s: %w: %s", method, url, err, stderr.String())
	}
	text := string(out)
	i := strings.LastIndexByte(text, '\n')
	a := answer{body: text[:i]}
	_, err = fmt.Sscan(text[i+1:], &a.status)
	return a, err
}

// contextOf is the test's context while it runs, and a live one in its cleanup.
func contextOf(t *testing.T) context.Context {
	if t.Context().Err() != nil {
		return context.Background()
	}
	return t.Context()
}

// eventually tries until f succeeds, or fails the test with its last error. It
// works in a test's cleanup too.
func eventually(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(contextOf(t), limit)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		case <-ticker.C:
		}
	}
}
