//go:build net

package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// six is the task's IPv6 address. Marathon shows it as Mesos tells it, with the
// length of its prefix.
func six(t *testing.T, of task) string {
	t.Helper()
	for _, a := range of.IPAddresses {
		address, _, _ := strings.Cut(a.IPAddress, "/")
		if ip, err := netip.ParseAddr(address); err == nil && ip.Is6() {
			return address
		}
	}
	t.Fatalf("%s has no IPv6 address: %+v", of.ID, of.IPAddresses)
	return ""
}

// withSubnets runs a task of a network of these subnets on a node.
func (c *cluster) withSubnets(t *testing.T, id, project, network, subnets string, node int) task {
	t.Helper()
	c.post(t, c.labelled(id, node, 1, map[string]string{
		"networks": network, "project-name": project, "network-subnets": subnets,
	}))
	t.Cleanup(func() { c.destroy(t, id) })
	return c.running(t, id, 1)[0]
}

// TestNetIPv6: tasks of networks with IPv6 subnets, alone or beside one of IPv4,
// have their address and the way out from the plugin, reach each other on one node
// and across nodes by each encapsulation, and nobody of another network.
func TestNetIPv6(t *testing.T) {
	const both, alone = "10.77.0.0/24,2001:db8:77::/64", "2001:db8:78::/64"
	c := start(t)
	t.Cleanup(func() { c.clean(t) })
	one := c.withSubnets(t, "/six/one", "six", "both", both, 1)
	near := c.withSubnets(t, "/six/near", "six", "both", both, 1)
	far := c.withSubnets(t, "/six/far", "six", "both", both, 2)
	lone := c.withSubnets(t, "/six/lone", "six", "alone", alone, 1)
	other := c.withSubnets(t, "/six/other", "six", "alone", alone, 2)
	// The same addresses, in another project.
	stranger := c.withSubnets(t, "/six/stranger", "seven", "both", both, 2)

	for _, of := range []task{one, lone} {
		address := six(t, of)
		for command, want := range map[string]string{
			"ip -6 address show dev eth0": address + "/64 scope global",
			"ip -6 route show default":    "default via " + netip.PrefixFrom(netip.MustParseAddr(address), 64).Masked().Addr().Next().String() + " dev eth0",
		} {
			out, err := c.Contrail(contextOf(t), append([]string{"exec", of.ID, "--"}, strings.Fields(command)...)...)
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("%s in %s: %v, want %q: %s", command, of.ID, err, want, out)
			}
		}
	}
	reach := func(when string) {
		t.Helper()
		for _, to := range []task{near, far} {
			c.reaches(t, one, six(t, to))
			c.reaches(t, one, to.Address())
		}
		c.reaches(t, lone, six(t, other))
		for gateway, from := range map[string]task{"2001:db8:77::1": one, "10.77.0.1": one, "2001:db8:78::1": lone} {
			if err := c.check(t, from, gateway, "icmp", "10s"); err != nil {
				t.Errorf("%s: the gateway %s does not answer: %v", when, gateway, err)
			}
		}
		c.refused(t, one, six(t, other))
		c.refused(t, lone, six(t, far))
	}
	if six(t, stranger) != six(t, one) {
		t.Errorf("addresses %s and %s do not overlap", six(t, stranger), six(t, one))
	}
	if got := c.answerer(t, far, six(t, one)); got != one.ID {
		t.Errorf("%s is answered by %s, want %s", six(t, one), got, one.ID)
	}
	for _, e := range []string{"MPLSoUDP", "MPLSoGRE", "VXLAN"} {
		t.Run(e, func(t *testing.T) {
			c.prefer(t, e)
			shown := fmt.Sprintf("%q", e)
			if e == "MPLSoUDP" {
				shown = `"label"` // what is usual is not said
			}
			for node, to := range map[int]task{1: far, 2: near} {
				c.wantRoute(t, node, six(t, to)+"/128", shown, "applied")
			}
			reach(e)
		})
	}
}

// TestNetSecurityGroupsOfIPv6: rules are of one family, and hold for answers,
// changes and both nodes.
func TestNetSecurityGroupsOfIPv6(t *testing.T) {
	const subnets = "10.79.0.0/24,2001:db8:79::/64"
	c := ruled(t)
	server := c.withSubnets(t, "/six/server", policyProject, "sixgroup", subnets, 1)
	near := c.withSubnets(t, "/six/near", policyProject, "sixgroup", subnets, 1)
	far := c.withSubnets(t, "/six/far", policyProject, "sixgroup", subnets, 2)
	rule := func(protocol, prefix string, port int) map[string]any {
		from := map[string]any{"subnet": map[string]any{"ip_prefix": prefix, "ip_prefix_len": 0}}
		r := portRule(protocol, from, map[string]any{"security_group": "local"}, port)
		if prefix == "::" {
			r["ethertype"] = "IPv6"
		}
		return r
	}
	entries := func(rules ...map[string]any) map[string]any {
		return map[string]any{"security_group_entries": map[string]any{"policy_rule": rules}}
	}
	group := c.object(t, "security-group", "six", entries(rule("tcp", "::", 7007)))
	c.refer(t, "virtual-machine-interface", c.interfaceOf(t, server.Address()), "security-group", group, nil)
	allowed := func(to string, want map[string]bool) {
		t.Helper()
		for _, from := range []task{near, far} {
			for _, way := range ways {
				c.becomes(t, from, to, way, want[way])
			}
		}
	}
	allowed(six(t, server), map[string]bool{"tcp": true})
	allowed(server.Address(), noWay)
	// Nothing lets the server begin.
	for _, way := range ways {
		c.becomes(t, server, six(t, far), way, false)
	}
	c.api(t, "PUT", "/security-group/"+group, map[string]any{"security-group": entries(
		rule("icmp6", "::", -1), rule("udp", "0.0.0.0", -1),
	)}, nil)
	allowed(six(t, server), map[string]bool{"icmp": true})
	allowed(server.Address(), map[string]bool{"udp": true})
}

// TestNetPolicyBetweenNetworksOfIPv6: a policy joins two networks that have nothing
// but IPv6, for what it says, on one node and across nodes.
func TestNetPolicyBetweenNetworksOfIPv6(t *testing.T) {
	c := ruled(t, "front", "back")
	in := func(name string, node int) task {
		subnet := map[string]string{"front": "2001:db8:80::/64", "back": "2001:db8:81::/64"}[name]
		return c.withSubnets(t, fmt.Sprintf("/six/%s-%d", name, node), policyProject, name, subnet, node)
	}
	front, near, far := in("front", 1), in("back", 1), in("back", 2)
	allowed := func(want map[string]bool) {
		t.Helper()
		for _, to := range []task{near, far} {
			for _, way := range ways {
				c.becomes(t, front, six(t, to), way, want[way])
				c.becomes(t, to, six(t, front), way, want[way])
			}
		}
	}
	allowed(noWay)
	network := func(name string) map[string]any {
		return map[string]any{"virtual_network": "default-domain:" + policyProject + ":" + name}
	}
	rule := portRule("tcp", network("front"), network("back"), -1)
	rule["direction"], rule["ethertype"], rule["action_list"] = "<>", "IPv6", map[string]any{"simple_action": "pass"}
	policy := c.object(t, "network-policy", "six", map[string]any{"network_policy_entries": map[string]any{"policy_rule": []any{rule}}})
	for i, name := range []string{"front", "back"} {
		c.refer(t, "virtual-network", c.find(t, "virtual-network", "default-domain", policyProject, name), "network-policy", policy,
			map[string]any{"sequence": map[string]any{"major": i, "minor": 0}})
	}
	allowed(map[string]bool{"tcp": true})
	c.reaches(t, near, six(t, far))
}

// prefer has the cluster prefer an encapsulation, for as long as the test lasts.
func (c *cluster) prefer(t *testing.T, first string) {
	t.Helper()
	all := []string{"MPLSoUDP", "MPLSoGRE", "VXLAN"}
	router := c.find(t, "global-vrouter-config", "default-global-system-config", "default-global-vrouter-config")
	put := func(list []string) {
		c.api(t, "PUT", "/global-vrouter-config/"+router, map[string]any{"global-vrouter-config": map[string]any{
			"encapsulation_priorities": map[string]any{"encapsulation": list},
		}}, nil)
	}
	put(append([]string{first}, slices.DeleteFunc(slices.Clone(all), func(e string) bool { return e == first })...))
	t.Cleanup(func() { put(all) })
}
