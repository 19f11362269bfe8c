//go:build net

package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	base "github.com/contrail-mesos/contrail/test/cluster"
)

var (
	cycles = flag.Int("cycles", 100, "how often the leak test starts and destroys an application")
	keep   = flag.Bool("keep", false, "leave the cluster running after the tests")
)

// Short, so that tests can wait for their ends.
const (
	rest      = 5 * time.Second
	tombstone = 10 * time.Second
	// recovery is how soon everything has to be well again after a crash, on a
	// busy machine.
	recovery = 90 * time.Second
)

// cluster is the one that all tests share.
type cluster struct {
	*base.Cluster
	// empty is the inventory before the first task.
	empty inventory
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
		if err := c.Remove(); err != nil {
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
		var started *base.Cluster
		if started, shared.err = base.New(context.Background(), "e2e", "../.."); shared.err != nil {
			return
		}
		fmt.Fprintf(os.Stderr, "cluster %s, data in %s\n", started.Name, started.Data)
		shared.c = &cluster{Cluster: started}
		if shared.err = shared.c.up("--no-example"); shared.err != nil {
			return
		}
		shared.c.empty, shared.err = shared.c.tryInventory(t)
	})
	if shared.err != nil {
		t.Fatalf("start the cluster: %v", shared.err)
	}
	return shared.c
}

// up runs `contrail up` with short rests.
func (c *cluster) up(args ...string) error {
	return c.Up(context.Background(), append([]string{"--rest", rest.String(), "--tombstone", tombstone.String()}, args...)...)
}

// curl asks a service on the host's loopback.
func (c *cluster) curl(t *testing.T, method, url, body string) base.Answer {
	t.Helper()
	got, err := c.Curl(contextOf(t), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// decode reads a JSON answer.
func decode(t *testing.T, a base.Answer, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.Body), into); err != nil {
		t.Fatalf("decode %d %s: %v", a.Status, a.Body, err)
	}
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
	if err := base.Eventually(ctx, f); err != nil {
		t.Fatalf("%s: not within %s: %v", what, limit, err)
	}
}
