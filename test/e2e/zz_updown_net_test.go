//go:build net

package e2e

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	base "github.com/contrail-mesos/contrail/test/cluster"
)

// TestNetUpAgain: a second up finds everything running and says so.
func TestNetUpAgain(t *testing.T) {
	c := start(t)
	before := c.components(t)
	if err := c.up("--no-example"); err != nil {
		t.Fatal(err)
	}
	for name, now := range c.components(t) {
		if now.PID != before[name].PID {
			t.Errorf("%s was restarted", name)
		}
	}
}

// TestNetUpAfterKill: whatever was killed, up brings it back, and what ran on
// stays.
func TestNetUpAfterKill(t *testing.T) {
	c := start(t)
	t.Run("supervisor", func(t *testing.T) {
		c.post(t, app("/stays", "green", 1))
		task := c.running(t, "/stays", 1)[0].ID
		before := c.components(t)
		pid, err := c.pidOf("supervise")
		if err != nil {
			t.Fatal(err)
		}
		kill(t, pid, syscall.SIGKILL)
		kill(t, before["mesos-manager"].PID, syscall.SIGKILL)
		if _, err := c.Contrail(t.Context(), "status"); err == nil {
			t.Error("status does not tell that the supervisor is gone")
		}
		if err := c.up("--no-example"); err != nil {
			t.Fatal(err)
		}
		for name, now := range c.components(t) {
			if name != "mesos-manager" && now.PID != before[name].PID {
				t.Errorf("%s was restarted, not adopted", name)
			}
		}
		if now := c.running(t, "/stays", 1)[0].ID; now != task {
			t.Errorf("task %s was replaced by %s", task, now)
		}
		c.destroy(t, "/stays")
	})
	t.Run("everything", func(t *testing.T) {
		c.post(t, app("/lost", "green", 3, unique))
		c.running(t, "/lost", 3)
		c.killAll(t)
		if err := c.up(); err != nil { // with the example: it works
			t.Fatal(err)
		}
	})
}

// killAll ends every process of the cluster, containers too.
func (c *cluster) killAll(t *testing.T) {
	t.Helper()
	for {
		processes, err := c.findProcesses()
		if err != nil {
			t.Fatal(err)
		}
		if len(processes) == 0 {
			return
		}
		for _, p := range processes {
			if pid, err := strconv.Atoi(p.pid); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended with its parent
			}
		}
	}
}

// TestNetDownLeavesNothing: with a running application, and again after all
// processes were killed; data stays until it is purged.
func TestNetDownLeavesNothing(t *testing.T) {
	c := start(t)
	if err := c.up(); err != nil {
		t.Fatal(err)
	}
	for _, killed := range []bool{false, true} {
		if killed {
			if err := c.up(); err != nil {
				t.Fatal(err)
			}
			c.killAll(t)
		}
		if _, err := c.Contrail(t.Context(), "down"); err != nil {
			t.Fatal(err)
		}
		c.nothing(t)
		if _, err := os.Stat(c.Data + "/pki/ca/ca.crt"); err != nil {
			t.Errorf("down without --purge removed data: %v", err)
		}
	}
	if _, err := c.Contrail(t.Context(), "down", "--purge", "--data", c.Data); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.Data); err == nil {
		t.Error("down --purge left the data")
	}
	if err := c.up("--no-example"); err != nil { // for whoever comes next
		t.Fatal(err)
	}
}

// nothing fails the test if the machine has anything of the cluster.
func (c *cluster) nothing(t *testing.T) {
	t.Helper()
	for name, list := range map[string]func(*testing.T) ([]string, error){
		"processes": c.processes, "mounts": c.mounts, "cgroups": c.cgroups, "namespaces": c.namespaces,
	} {
		found, err := list(t)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range found {
			if !strings.Contains(item, c.Host) {
				t.Errorf("%s: %s is left", name, item)
			}
		}
	}
	for _, path := range []string{
		"/run/" + c.Name, "/sys/fs/bpf/" + c.Name, "/run/netns/" + c.Fabric(), "/run/netns/" + c.Node(1), "/sys/fs/cgroup/memory/" + c.Name,
	} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	if out, err := base.Run(t.Context(), "ip", "netns", "exec", c.Host, "ss", "-Hltn"); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("listeners are left: %v %s", err, out)
	}
}
