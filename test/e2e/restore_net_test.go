//go:build net

package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestNetRestore: a backup is restored under running containers. Nobody's
// traffic is cut; what started since the backup is adopted with its network,
// and what ended since is released.
func TestNetRestore(t *testing.T) {
	c := start(t)
	ids := []string{"/old", "/gone", "/late"}
	t.Cleanup(func() {
		for _, id := range ids {
			c.destroy(t, id)
		}
		c.clean(t)
	})
	c.post(t, app("/old", "green", 3))
	c.post(t, app("/gone", "green", 2))
	old := c.running(t, "/old", 3)
	c.running(t, "/gone", 2)
	dump := filepath.Join(t.TempDir(), "dump")
	if out, err := c.db(t, "dump", dump); err != nil {
		t.Fatalf("dump: %v %s", err, out)
	}
	c.destroy(t, "/gone")
	c.post(t, app("/late", "violet", 3))
	late := c.running(t, "/late", 3)

	pings := make(chan error, 2)
	for _, pair := range [][]task{old, late} {
		go func() { pings <- c.pings(t, pair[0], pair[1]) }()
	}
	if out, err := c.db(t, "restore", dump, "--rest", rest.String()); err != nil || !strings.Contains(out, "epoch 2 begins") {
		t.Fatalf("restore: %v %s", err, out)
	}
	eventually(t, recovery, "the store is open", func() error {
		out, err := c.db(t, "restore", "--status", "--config", "unix:/run/"+c.Name+"/config.sock")
		if err != nil || !strings.Contains(out, "store: open") || strings.Contains(out, "CONFLICT") {
			return errors.Join(err, errors.New(out))
		}
		return nil
	})
	for range 2 {
		if err := <-pings; err != nil {
			t.Error(err)
		}
	}
	if out, err := c.db(t, "check"); err != nil {
		t.Errorf("check: %v %s", err, out)
	}
	inventory := c.curl(t, "GET", "127.0.0.1:8082/inventory", "").Body
	for _, task := range append(old, late...) {
		if !strings.Contains(inventory, `"`+task.Address()+`"`) {
			t.Errorf("address %s of %s is not attached", task.Address(), task.ID)
		}
	}
	// New ones get through, and to the old ones.
	ids = append(ids, "/new")
	c.post(t, app("/new", "green", 1))
	c.reaches(t, c.running(t, "/new", 1)[0], old[2].Address())
}

// db runs a command on the store.
func (c *cluster) db(t *testing.T, args ...string) (string, error) {
	command := append([]string{filepath.Join(c.Bin, "contrail"), "db"}, args...)
	return c.InHost(contextOf(t), append(command, "--store", "unix:/run/"+c.Name+"/store.sock")...)
}

// pings fails when one of many pings is lost.
func (c *cluster) pings(t *testing.T, from, to task) error {
	out, err := c.Contrail(t.Context(), "exec", from.ID, "--", "ping", "-i", "0.1", "-c", "150", "-W", "2", to.Address())
	if err != nil || !strings.Contains(out, " 0% packet loss") {
		return fmt.Errorf("packets from %s to %s were lost: %w\n%s", from.ID, to.ID, err, out)
	}
	return nil
}
