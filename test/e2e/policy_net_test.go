//go:build net

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"syscall"
	"testing"

	base "github.com/contrail-mesos/contrail/test/cluster"
)

// project in which the networks of these tests are.
const policyProject = "ruled"

// ruled starts a test of policy. What a user has changed is his, and stays
// until he deletes it: so the networks named and the project go at its end.
func ruled(t *testing.T, networks ...string) *cluster {
	t.Helper()
	c := start(t)
	t.Cleanup(func() {
		for _, name := range networks {
			c.api(t, "DELETE", "/virtual-network/"+c.find(t, "virtual-network", "default-domain", policyProject, name), nil, nil)
			c.api(t, "DELETE", "/network-ipam/"+c.find(t, "network-ipam", "default-domain", policyProject, name), nil, nil)
		}
		c.api(t, "DELETE", "/project/"+c.find(t, "project", "default-domain", policyProject), nil, nil)
		c.clean(t)
	})
	return c
}

// inNetwork runs a task of a network of the project on a node.
func (c *cluster) inNetwork(t *testing.T, id, network string, node int) task {
	t.Helper()
	c.post(t, c.labelled(id, node, 1, map[string]string{"networks": network, "project-name": policyProject}))
	t.Cleanup(func() { c.destroy(t, id) })
	return c.running(t, id, 1)[0]
}

// below makes an object below another, for as long as the test lasts.
func (c *cluster) below(t *testing.T, kind, parent string, name []string, properties map[string]any) (uuid string) {
	t.Helper()
	properties = maps.Clone(properties)
	if properties == nil {
		properties = map[string]any{}
	}
	properties["fq_name"], properties["parent_type"] = name, parent
	var made map[string]struct {
		UUID string `json:"uuid"`
	}
	c.api(t, "POST", "/"+kind+"s", map[string]any{kind: properties}, &made)
	t.Cleanup(func() { c.api(t, "DELETE", "/"+kind+"/"+made[kind].UUID, nil, nil) })
	return made[kind].UUID
}

// object makes an object of the project, likewise.
func (c *cluster) object(t *testing.T, kind, name string, properties map[string]any) (uuid string) {
	t.Helper()
	return c.below(t, kind, "project", []string{"default-domain", policyProject, name}, properties)
}

// refer adds a reference, for as long as the test lasts.
func (c *cluster) refer(t *testing.T, kind, from, toKind, to string, attr any) {
	t.Helper()
	update := func(operation string) {
		c.api(t, "POST", "/ref-update", map[string]any{
			"operation": operation, "type": kind, "uuid": from, "ref-type": toKind, "ref-uuid": to, "attr": attr,
		}, nil)
	}
	update("ADD")
	t.Cleanup(func() { update("DELETE") })
}

// interfaceOf is the UUID of the interface with an address.
func (c *cluster) interfaceOf(t *testing.T, address string) string {
	t.Helper()
	var list struct {
		IPs []struct {
			IP struct {
				Address    string `json:"instance_ip_address"`
				Interfaces []struct {
					UUID string `json:"uuid"`
				} `json:"virtual_machine_interface_refs"`
			} `json:"instance-ip"`
		} `json:"instance-ips"`
	}
	c.api(t, "GET", "/instance-ips?detail=true", nil, &list)
	for _, i := range list.IPs {
		if refs := i.IP.Interfaces; i.IP.Address == address && len(refs) == 1 {
			return refs[0].UUID
		}
	}
	t.Fatalf("no interface has the address %s", address)
	return ""
}

// portRule is a rule as network policies and security groups have it.
func portRule(protocol string, src, dst map[string]any, port int) map[string]any {
	ports := map[string]any{"start_port": -1, "end_port": -1}
	to := ports
	if port >= 0 {
		to = map[string]any{"start_port": port, "end_port": port}
	}
	return map[string]any{
		"direction": ">", "protocol": protocol, "src_addresses": []any{src}, "src_ports": []any{ports},
		"dst_addresses": []any{dst}, "dst_ports": []any{to}, "ethertype": "IPv4",
	}
}

// becomes waits until a way from a task to an address is open, or is not.
func (c *cluster) becomes(t *testing.T, from task, address, way string, open bool) {
	t.Helper()
	eventually(t, recovery, fmt.Sprintf("%s from %s to %s is open: %v", way, from.ID, address, open), func() error {
		timeout := "500ms"
		if open {
			timeout = "3s"
		}
		err := c.check(t, from, address, way, timeout)
		if (err == nil) != open {
			return fmt.Errorf("it is %v: %w", err == nil, err)
		}
		return nil
	})
}

// ways that a task reaches another by.
func (c *cluster) allow(t *testing.T, from, to task, want map[string]bool) {
	t.Helper()
	for _, way := range ways {
		c.becomes(t, from, to.Address(), way, want[way])
	}
}

// allowTraced is allow where a trace tells the same.
func (c *cluster) allowTraced(t *testing.T, from, to task, want map[string]bool) {
	t.Helper()
	c.allow(t, from, to, want)
	for _, way := range ways {
		c.traces(t, from, to, way, want[way])
	}
}

// traced is what `contrail trace -o json` tells.
type traced struct {
	Verdict, Reason string
	Hops            []struct {
		Steps []struct {
			Text string
			Rule *struct{ Owner string }
		}
	}
	AnswerVerdict string `json:"answer_verdict"`
}

// traces wants a trace to tell what packets have met.
func (c *cluster) traces(t *testing.T, from, to task, way string, open bool) (answer traced) {
	t.Helper()
	if way != "icmp" {
		way += ":7007"
	}
	text, err := base.Run(contextOf(t), filepath.Join(c.Bin, "contrail"), "trace", from.ID, to.ID, way, "--name", c.Name, "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(text), &answer)
	}
	switch {
	case err != nil:
		t.Errorf("trace of %s from %s to %s: %v", way, from.ID, to.ID, err)
	case open && (answer.Verdict != "delivered" || answer.AnswerVerdict != "delivered"),
		!open && (answer.Verdict != "dropped" || answer.Reason == ""):
		t.Errorf("%s from %s to %s is open: %v, traced %s", way, from.ID, to.ID, open, text)
	}
	return answer
}

// isBy wants some step of a trace to be by a rule of an object.
func (a traced) isBy(t *testing.T, owner string) {
	t.Helper()
	for _, h := range a.Hops {
		for _, s := range h.Steps {
			if s.Rule != nil && s.Rule.Owner == owner {
				return
			}
		}
	}
	t.Errorf("traced %+v, want a rule of %s", a, owner)
}

var (
	everything = map[string]bool{"icmp": true, "tcp": true, "udp": true}
	noWay      = map[string]bool{}
)

// TestNetSecurityGroups: a security group allows what it says to its ports, from
// the same and from another node, and answers; a change is enforced; a port that
// leaves the group is open again.
func TestNetSecurityGroups(t *testing.T) {
	c := ruled(t)
	server := c.inNetwork(t, "/ruled/server", "grouped", 1)
	near := c.inNetwork(t, "/ruled/near", "grouped", 1)
	far := c.inNetwork(t, "/ruled/far", "grouped", 2)
	for _, client := range []task{near, far} {
		c.allowTraced(t, client, server, everything)
	}
	entries := func(rules ...map[string]any) map[string]any {
		return map[string]any{"security_group_entries": map[string]any{"policy_rule": rules}}
	}
	anyone := map[string]any{"subnet": map[string]any{"ip_prefix": "0.0.0.0", "ip_prefix_len": 0}}
	local := map[string]any{"security_group": "local"}
	group := c.object(t, "security-group", "web", entries(portRule("tcp", anyone, local, 7007)))
	c.refer(t, "virtual-machine-interface", c.interfaceOf(t, server.Address()), "security-group", group, nil)
	for _, client := range []task{near, far} {
		c.allowTraced(t, client, server, map[string]bool{"tcp": true})
		c.traces(t, client, server, "tcp", true).isBy(t, "security-group default-domain:"+policyProject+":web")
		// Nothing lets the server begin.
		c.allowTraced(t, server, client, noWay)
		c.allowTraced(t, client, near, everything)
	}
	// Members of a group, wherever they are.
	members := c.object(t, "security-group", "members", entries())
	c.refer(t, "virtual-machine-interface", c.interfaceOf(t, far.Address()), "security-group", members, nil)
	c.api(t, "PUT", "/security-group/"+group, map[string]any{"security-group": entries(
		portRule("icmp", map[string]any{"security_group": "default-domain:" + policyProject + ":members"}, local, -1),
	)}, nil)
	// The group of the far one allows nothing, so it cannot ask.
	c.allowTraced(t, far, server, noWay)
	c.allowTraced(t, near, server, noWay)
	c.api(t, "PUT", "/security-group/"+members, map[string]any{"security-group": entries(portRule("any", local, anyone, -1))}, nil)
	c.allowTraced(t, far, server, map[string]bool{"icmp": true})
	c.allowTraced(t, near, server, noWay)

	// The same while the processes are away that said so, and after their return.
	held := func(when string) {
		t.Helper()
		if err := c.check(t, far, server.Address(), "icmp", "3s"); err != nil {
			t.Errorf("%s: what is allowed is refused: %v", when, err)
		}
		for _, way := range ways {
			if err := c.check(t, near, server.Address(), way, "500ms"); err == nil {
				t.Errorf("%s: %s is not refused", when, way)
			}
		}
	}
	for _, victim := range []string{"controller control", "vrouter-agent --name " + c.Node(1)} {
		pid, err := c.pidOf(victim)
		if err != nil {
			t.Fatal(err)
		}
		kill(t, pid, syscall.SIGSTOP)
		held(victim + " is stopped")
		kill(t, pid, syscall.SIGCONT)
		c.killOne(t, victim, func() {})
		held(victim + " was killed")
	}
	// Who comes after that is known to the sets there are.
	late := c.inNetwork(t, "/ruled/late", "grouped", 2)
	c.refer(t, "virtual-machine-interface", c.interfaceOf(t, late.Address()), "security-group", members, nil)
	c.allowTraced(t, late, server, map[string]bool{"icmp": true})
}

// TestNetFirewall: a firewall rule by tags, first match first.
func TestNetFirewall(t *testing.T) {
	c := ruled(t)
	web := c.inNetwork(t, "/ruled/web", "tagged", 1)
	db := c.inNetwork(t, "/ruled/db", "tagged", 2)
	other := c.inNetwork(t, "/ruled/other", "tagged", 1)
	tier := func(value string, of task) {
		tag := c.object(t, "tag", "tier="+value, map[string]any{"tag_type_name": "tier", "tag_value": value})
		c.refer(t, "virtual-machine-interface", c.interfaceOf(t, of.Address()), "tag", tag, nil)
	}
	tier("web", web)
	tier("db", db)
	tagged := func(value string) map[string]any { return map[string]any{"tags": []string{"tier=" + value}} }
	service := func(protocol string) map[string]any {
		return map[string]any{"protocol": protocol, "dst_ports": map[string]any{"start_port": 0, "end_port": 65535}}
	}
	policy := c.object(t, "firewall-policy", "tiers", map[string]any{})
	for i, rule := range []map[string]any{
		{"endpoint_1": tagged("web"), "endpoint_2": tagged("db"), "direction": "<>", "service": service("tcp"), "action_list": map[string]any{"simple_action": "pass"}},
		{"endpoint_1": map[string]any{"any": true}, "endpoint_2": tagged("db"), "direction": ">", "service": service("any"), "action_list": map[string]any{"simple_action": "deny"}},
		{"endpoint_1": map[string]any{"any": true}, "endpoint_2": map[string]any{"any": true}, "direction": "<>", "service": service("any"), "action_list": map[string]any{"simple_action": "pass"}},
	} {
		made := c.object(t, "firewall-rule", fmt.Sprintf("rule-%d", i), rule)
		c.refer(t, "firewall-policy", policy, "firewall-rule", made, map[string]any{"sequence": fmt.Sprint(i + 1)})
	}
	set := c.object(t, "application-policy-set", "all", map[string]any{})
	c.refer(t, "application-policy-set", set, "firewall-policy", policy, map[string]any{"sequence": "1"})
	c.allowTraced(t, web, db, everything)
	c.refer(t, "project", c.find(t, "project", "default-domain", policyProject), "application-policy-set", set, nil)
	c.allowTraced(t, web, db, map[string]bool{"tcp": true})
	c.allowTraced(t, other, db, noWay)
	c.allowTraced(t, web, other, everything)
	c.allowTraced(t, db, other, everything) // its answers pass
}

// TestNetPolicyBetweenNetworks: a policy that two networks have connects them,
// for what it passes.
func TestNetPolicyBetweenNetworks(t *testing.T) {
	c := ruled(t, "front", "back")
	front := c.inNetwork(t, "/ruled/front", "front", 1)
	back := c.inNetwork(t, "/ruled/back", "back", 2)
	same := c.inNetwork(t, "/ruled/same", "back", 1)
	third := c.inNetwork(t, "/ruled/third", "third", 1)
	for _, to := range []task{back, same} {
		c.allowTraced(t, front, to, noWay)
	}
	c.betweenFrontAndBack(t)
	for _, to := range []task{back, same} {
		c.allowTraced(t, front, to, map[string]bool{"tcp": true})
		c.allowTraced(t, to, front, map[string]bool{"tcp": true})
		c.allowTraced(t, third, to, noWay)
	}
	c.allowTraced(t, same, back, everything)
}

// betweenFrontAndBack connects the networks front and back, for TCP.
func (c *cluster) betweenFrontAndBack(t *testing.T) {
	t.Helper()
	network := func(name string) map[string]any {
		return map[string]any{"virtual_network": "default-domain:" + policyProject + ":" + name}
	}
	rule := portRule("tcp", network("front"), network("back"), -1)
	rule["direction"], rule["action_list"] = "<>", map[string]any{"simple_action": "pass"}
	policy := c.object(t, "network-policy", "front-back", map[string]any{"network_policy_entries": map[string]any{"policy_rule": []any{rule}}})
	for i, name := range []string{"front", "back"} {
		c.refer(t, "virtual-network", c.find(t, "virtual-network", "default-domain", policyProject, name), "network-policy", policy,
			map[string]any{"sequence": map[string]any{"major": i, "minor": 0}})
	}
}
