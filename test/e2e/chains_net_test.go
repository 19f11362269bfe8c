//go:build net

package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// secondNetwork lets tasks join another network by the same plugin: a name of
// its own, as Mesos takes no network twice.
func (c *cluster) secondNetwork(t *testing.T) (name string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(c.Data, "*", "cni", "net.d", "contrail.conf"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no configuration of the plugin in %s: %v", c.Data, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		second := filepath.Join(filepath.Dir(file), "second.conf")
		text := strings.Replace(string(data), `"name": "contrail"`, `"name": "second"`, 1)
		if err := os.WriteFile(second, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(second) })
	}
	return "second"
}

// forwards has a task forward what is not for itself, or not.
func (c *cluster) forwards(t *testing.T, of task, on bool) {
	t.Helper()
	value := map[bool]string{true: "1", false: "0"}[on]
	c.inNamespaceOf(t, of, "sysctl", "-qw", "net.ipv4.ip_forward="+value)
}

// TestNetServiceOfTask: a policy leads the traffic between two networks through
// a task with an interface in each, for what it passes, and nothing past it.
func TestNetServiceOfTask(t *testing.T) {
	c := ruled(t, "left", "right")
	second := c.secondNetwork(t)
	client := c.inNetwork(t, "/ruled/client", "left", 1)
	server := c.inNetwork(t, "/ruled/server", "right", 2)
	def := c.labelled("/ruled/service", 2, 1, map[string]string{"networks": "left", "project-name": policyProject})
	beside := networks(map[string]string{"networks": "right", "project-name": policyProject})[0]
	beside = maps.Clone(beside)
	beside["name"] = second
	def["networks"] = append(def["networks"].([]map[string]any), beside)
	c.post(t, def)
	service := c.running(t, "/ruled/service", 1)[0]
	if len(service.IPAddresses) != 2 {
		t.Fatalf("the service has the addresses %v, want two", service.IPAddresses)
	}
	c.forwards(t, service, true)

	template := c.below(t, "service-template", "domain", []string{"default-domain", "router"},
		map[string]any{"service_template_properties": map[string]any{"service_mode": "in-network"}})
	instance := c.object(t, "service-instance", "fw", map[string]any{})
	c.refer(t, "service-instance", instance, "service-template", template, nil)
	tuple := c.below(t, "port-tuple", "service-instance", []string{"default-domain", policyProject, "fw", "one"}, nil)
	for i, side := range []string{"left", "right"} {
		vmi := c.interfaceOf(t, service.IPAddresses[i].IPAddress)
		c.api(t, "PUT", "/virtual-machine-interface/"+vmi, map[string]any{"virtual-machine-interface": map[string]any{
			"virtual_machine_interface_properties": map[string]any{"service_interface_type": side},
		}}, nil)
		c.refer(t, "virtual-machine-interface", vmi, "port-tuple", tuple, nil)
	}
	c.allow(t, client, server, noWay)
	network := func(name string) map[string]any {
		return map[string]any{"virtual_network": "default-domain:" + policyProject + ":" + name}
	}
	rule := portRule("tcp", network("left"), network("right"), -1)
	rule["action_list"] = map[string]any{"simple_action": "pass", "apply_service": []string{"default-domain:" + policyProject + ":fw"}}
	policy := c.object(t, "network-policy", "through", map[string]any{"network_policy_entries": map[string]any{"policy_rule": []any{rule}}})
	for i, name := range []string{"left", "right"} {
		c.refer(t, "virtual-network", c.find(t, "virtual-network", "default-domain", policyProject, name), "network-policy", policy,
			map[string]any{"sequence": map[string]any{"major": i, "minor": 0}})
	}
	c.allow(t, client, server, map[string]bool{"tcp": true})
	c.allow(t, server, client, noWay)
	c.forwards(t, service, false)
	c.allow(t, client, server, noWay)
	c.forwards(t, service, true)
	c.allow(t, client, server, map[string]bool{"tcp": true})
}
