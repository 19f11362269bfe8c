//go:build net

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	base "github.com/contrail-mesos/contrail/test/cluster"
)

// foreignIP gives a task an address of a network, floating or alias.
func (c *cluster) foreignIP(t *testing.T, kind, network, name string, of task) (address string) {
	t.Helper()
	pool := []string{"default-domain", policyProject, network, kind + "s-of-" + name}
	c.below(t, kind+"-ip-pool", "virtual-network", pool, nil)
	id := c.below(t, kind+"-ip", kind+"-ip-pool", append(slices.Clone(pool), name), map[string]any{
		"project_refs": []any{map[string]any{"to": []string{"default-domain", policyProject}}},
	})
	c.refer(t, kind+"-ip", id, "virtual-machine-interface", c.interfaceOf(t, of.Address()), nil)
	var got map[string]map[string]any
	c.api(t, "GET", "/"+kind+"-ip/"+id, nil, &got)
	return got[kind+"-ip"][kind+"_ip_address"].(string)
}

// reachable waits until ICMP and TCP from a task to an address are open, or are
// not. UDP answers come from whatever address the kernel likes, where a task has
// several.
func (c *cluster) reachable(t *testing.T, from task, address string, open bool) {
	t.Helper()
	for _, way := range []string{"icmp", "tcp"} {
		c.becomes(t, from, address, way, open)
	}
}

// TestNetFloatingIP: a task of a private network is reached by its floating IP
// from a public one, on its own node and on another, and reaches that; when the
// address goes, it is not.
func TestNetFloatingIP(t *testing.T) {
	c := ruled(t, "public")
	shop := c.inNetwork(t, "/ruled/shop", "private", 1)
	near := c.inNetwork(t, "/ruled/near", "public", 1)
	far := c.inNetwork(t, "/ruled/far", "public", 2)
	inside := c.inNetwork(t, "/ruled/inside", "private", 2)
	t.Run("while it is there", func(t *testing.T) {
		address := c.foreignIP(t, "floating", "public", "shop", shop)
		for _, client := range []task{near, far} {
			c.reachable(t, client, address, true)
			c.reaches(t, client, address)
			if got := c.answerer(t, client, address); got != shop.ID {
				t.Errorf("at %s answers %s, want %s", address, got, shop.ID)
			}
			c.refused(t, client, shop.Address())
			c.reachable(t, shop, client.Address(), true)
		}
		c.reaches(t, inside, shop.Address())
		c.refused(t, inside, near.Address())
	})
	c.refused(t, shop, far.Address())
}

// inNamespaceOf runs a command in the network namespace of a task.
func (c *cluster) inNamespaceOf(t *testing.T, of task, command ...string) {
	t.Helper()
	if _, err := base.Run(contextOf(t), append([]string{"nsenter", "--net=" + c.namespaceOf(t, of)}, command...)...); err != nil {
		t.Fatal(err)
	}
}

// namespaceOf is a path to the network namespace of a task.
func (c *cluster) namespaceOf(t *testing.T, of task) string {
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
		if ns, err := os.Readlink(path); err == nil && ns == strings.TrimSpace(own) {
			return path
		}
	}
	t.Fatalf("no process is in the network namespace %s of %s", own, of.ID)
	return ""
}

// TestNetRouteBehindTask: a prefix behind a task is reached through it by the
// tables of its interface, and of its network, and by nothing without them; an
// alias IP is its as well.
func TestNetRouteBehindTask(t *testing.T) {
	c := ruled(t, "outer", "routed")
	router := c.inNetwork(t, "/ruled/router", "routed", 1)
	near := c.inNetwork(t, "/ruled/near", "routed", 1)
	far := c.inNetwork(t, "/ruled/far", "routed", 2)
	outer := c.inNetwork(t, "/ruled/outer", "outer", 2)
	const behind = "192.0.2.1"
	c.inNamespaceOf(t, router, "ip", "address", "add", behind+"/24", "dev", "lo")
	closed := func() {
		t.Helper()
		for _, client := range []task{near, far} {
			c.reachable(t, client, behind, false)
		}
	}
	open := func(t *testing.T) {
		t.Helper()
		for _, client := range []task{near, far} {
			c.reachable(t, client, behind, true)
			if got := c.answerer(t, client, behind); got != router.ID {
				t.Errorf("at %s answers %s, want %s", behind, got, router.ID)
			}
		}
	}
	closed()
	routes := func(route map[string]any) map[string]any { return map[string]any{"route": []any{route}} }
	t.Run("table of the interface", func(t *testing.T) {
		table := c.object(t, "interface-route-table", "behind", map[string]any{"interface_route_table_routes": routes(map[string]any{"prefix": "192.0.2.0/24"})})
		c.refer(t, "virtual-machine-interface", c.interfaceOf(t, router.Address()), "interface-route-table", table, nil)
		open(t)
	})
	closed()
	t.Run("table of the network", func(t *testing.T) {
		table := c.object(t, "route-table", "behind", map[string]any{"routes": routes(map[string]any{
			"prefix": "192.0.2.0/24", "next_hop": router.Address(), "next_hop_type": "ip-address",
		})})
		c.refer(t, "virtual-network", c.find(t, "virtual-network", "default-domain", policyProject, "routed"), "route-table", table, nil)
		open(t)
	})
	closed()
	alias := c.foreignIP(t, "alias", "outer", "router", router)
	c.inNamespaceOf(t, router, "ip", "address", "add", alias+"/32", "dev", "lo")
	c.reachable(t, outer, alias, true)
	c.refused(t, near, alias)
}
