//go:build net

package e2e

import (
	"testing"
)

// TestNetRoutingInstances: a routing instance that a client made keeps those who
// are in it together, on one node and on several, and from the rest of their
// network; a reference to another instance lets them reach that.
func TestNetRoutingInstances(t *testing.T) {
	c := ruled(t, "divided")
	left := c.inNetwork(t, "/ruled/left", "divided", 1)
	right := c.inNetwork(t, "/ruled/right", "divided", 2)
	near := c.inNetwork(t, "/ruled/near", "divided", 1)
	all := []task{left, right, near}
	everybody := func(when string) {
		t.Helper()
		for _, from := range all {
			for _, to := range all {
				if from.ID != to.ID {
					c.allow(t, from, to, everything)
				}
			}
		}
	}
	everybody("at first")
	t.Run("apart", func(t *testing.T) {
		name := []string{"default-domain", policyProject, "divided", "apart"}
		instance := c.below(t, "routing-instance", "virtual-network", name, nil)
		for _, of := range []task{left, right} {
			c.refer(t, "virtual-machine-interface", c.interfaceOf(t, of.Address()), "routing-instance", instance, map[string]any{"direction": "both"})
		}
		c.allow(t, near, left, noWay)
		c.allow(t, left, near, noWay)
		c.allow(t, near, right, noWay)
		c.allow(t, left, right, everything)
		c.allow(t, right, left, everything)
		t.Run("connected", func(t *testing.T) {
			own := c.find(t, "routing-instance", "default-domain", policyProject, "divided", "divided")
			c.refer(t, "routing-instance", own, "routing-instance", instance, nil)
			everybody("connected")
		})
		c.allow(t, near, left, noWay)
		c.allow(t, left, right, everything)
	})
	everybody("in the end")
}

// tune sets a tuning of the cluster for as long as the test lasts.
func (c *cluster) tune(t *testing.T, name, value string) {
	t.Helper()
	system := c.find(t, "global-system-config", "default-global-system-config")
	put := func(properties ...any) {
		c.api(t, "PUT", "/global-system-config/"+system, map[string]any{
			"global-system-config": map[string]any{"plugin_tuning": map[string]any{"plugin_property": properties}},
		}, nil)
	}
	put(map[string]any{"property": name, "value": value})
	t.Cleanup(func() { put() })
}

// TestNetWithoutLogicalRouters: what a logical router connects is closed where
// networks have policies and these are to decide all.
func TestNetWithoutLogicalRouters(t *testing.T) {
	c := ruled(t, "front", "back", "third")
	front := c.inNetwork(t, "/ruled/front", "front", 1)
	back := c.inNetwork(t, "/ruled/back", "back", 2)
	third := c.inNetwork(t, "/ruled/third", "third", 2)
	same := c.inNetwork(t, "/ruled/same", "front", 2)
	c.betweenFrontAndBack(t)
	router := c.object(t, "logical-router", "all", nil)
	for _, name := range []string{"front", "third"} {
		c.refer(t, "virtual-network", c.find(t, "virtual-network", "default-domain", policyProject, name), "logical-router", router, nil)
	}
	c.allow(t, front, back, map[string]bool{"tcp": true})
	c.allow(t, front, third, everything)
	t.Run("strict", func(t *testing.T) {
		c.tune(t, "logical_routers_enabled", "false")
		c.allow(t, front, third, noWay)
		c.allow(t, third, front, noWay)
		c.allow(t, front, back, map[string]bool{"tcp": true})
		c.allow(t, front, same, everything)
	})
	c.allow(t, front, third, everything)
}

// TestNetDefaultSecurityGroup: when asked, a task has the group of its project,
// and is reached by members only; one from before has it not. Nobody changes
// anything of the project, so it goes by itself with its last task.
func TestNetDefaultSecurityGroup(t *testing.T) {
	c := start(t)
	t.Cleanup(func() { c.clean(t) })
	before := c.inNetwork(t, "/ruled/before", "kept", 1)
	t.Run("asked", func(t *testing.T) {
		c.tune(t, "default_security_group_enabled", "true")
		one := c.inNetwork(t, "/ruled/one", "kept", 1)
		two := c.inNetwork(t, "/ruled/two", "kept", 2)
		c.allow(t, one, two, everything)
		c.allow(t, one, before, everything)
		c.allow(t, before, one, noWay)
	})
}
