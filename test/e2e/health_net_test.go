//go:build net

package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// serversOf are the processes of a task that answer in its network namespace.
func (c *cluster) serversOf(t *testing.T, of task) (pids []int) {
	t.Helper()
	own, err := c.Contrail(contextOf(t), "exec", of.ID, "--", "readlink", "/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		process := filepath.Dir(filepath.Dir(path))
		ns, err := os.Readlink(path)
		name, _ := os.ReadFile(filepath.Join(process, "comm"))
		if err == nil && ns == strings.TrimSpace(own) && strings.HasPrefix(string(name), "contrail-exampl") {
			pid, _ := strconv.Atoi(filepath.Base(process))
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		t.Fatalf("no process of %s answers in its network namespace", of.ID)
	}
	return pids
}

// answering has a task answer nothing any more, or again.
func (c *cluster) answering(t *testing.T, of task, on bool) {
	t.Helper()
	for _, pid := range c.serversOf(t, of) {
		kill(t, pid, map[bool]syscall.Signal{true: syscall.SIGCONT, false: syscall.SIGSTOP}[on])
	}
}

// answerers waits until exactly these tasks share what is for an address.
func (c *cluster) answerers(t *testing.T, from task, address string, want ...task) {
	t.Helper()
	ids := map[string]bool{}
	for _, w := range want {
		ids[w.ID] = true
	}
	eventually(t, recovery, fmt.Sprintf("%s is answered by %v", address, slices.Sorted(maps.Keys(ids))), func() error {
		got := map[string]bool{}
		for range 8 {
			id, err := c.tryAnswerer(t, from, address, 3)
			if err != nil {
				return err
			}
			got[id] = true
		}
		if !maps.Equal(got, ids) {
			return fmt.Errorf("it is answered by %v", slices.Sorted(maps.Keys(got)))
		}
		return nil
	})
}

// TestNetHealthCheck: a task that has an HTTP health check and stops answering
// loses its routes, and another that shares its prefix takes over; when it
// answers again it is back. A restart of the agent changes nothing meanwhile.
func TestNetHealthCheck(t *testing.T) {
	c := ruled(t)
	one := c.inNetwork(t, "/ruled/one", "checked", 1)
	two := c.inNetwork(t, "/ruled/two", "checked", 2)
	client := c.inNetwork(t, "/ruled/client", "checked", 2)
	const shared = "192.0.2.1"
	table := c.object(t, "interface-route-table", "shared", map[string]any{
		"interface_route_table_routes": map[string]any{"route": []any{map[string]any{"prefix": "192.0.2.0/24"}}},
	})
	check := c.object(t, "service-health-check", "alive", map[string]any{"service_health_check_properties": map[string]any{
		"enabled": true, "health_check_type": "link-local", "monitor_type": "HTTP", "url_path": "http://local-ip:8080/",
		"delay": 1, "timeout": 1, "max_retries": 2,
	}})
	for _, server := range []task{one, two} {
		c.inNamespaceOf(t, server, "ip", "address", "add", shared+"/24", "dev", "lo")
		vmi := c.interfaceOf(t, server.Address())
		c.refer(t, "virtual-machine-interface", vmi, "interface-route-table", table, nil)
		c.refer(t, "virtual-machine-interface", vmi, "service-health-check", check, nil)
	}
	c.answerers(t, client, shared, one, two)

	c.answering(t, one, false)
	t.Cleanup(func() {
		for _, pid := range c.serversOf(t, one) {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	})
	c.answerers(t, client, shared, two)
	// The kernel of the one that is stopped would answer, if there were a route.
	c.becomes(t, client, one.Address(), "icmp", false)
	health, err := c.InHost(contextOf(t), c.Bin+"/contrail", "control", "health", "--control", "unix:/run/"+c.Name+"/control.sock")
	if err != nil || !strings.Contains(health, "failing") || !strings.Contains(health, "no answer within 1s") || !strings.Contains(health, "passing") {
		t.Errorf("contrail control health: %v\n%s", err, health)
	}
	c.killOne(t, "vrouter-agent --name "+c.Node(1), func() {})
	for range 5 {
		if err := c.check(t, client, one.Address(), "icmp", "300ms"); err == nil {
			t.Error("the restart of its agent brought the route of a task back that does not answer")
		}
	}
	c.killOne(t, "controller control", func() {})
	c.becomes(t, client, one.Address(), "icmp", false)
	c.answerers(t, client, shared, two)
	c.answering(t, one, true)
	c.answerers(t, client, shared, one, two)
	c.becomes(t, client, one.Address(), "icmp", true)

	// Who does not answer and is not asked any more has its routes.
	c.answering(t, one, false)
	c.answerers(t, client, shared, two)
	c.api(t, "PUT", "/service-health-check/"+check, map[string]any{"service-health-check": map[string]any{
		"service_health_check_properties": map[string]any{"enabled": false, "health_check_type": "link-local", "monitor_type": "HTTP", "url_path": "http://local-ip:8080/"},
	}}, nil)
	c.becomes(t, client, one.Address(), "icmp", true)
	c.answering(t, one, true)
	c.answerers(t, client, shared, one, two)
}
