//go:build net

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	base "github.com/contrail-mesos/contrail/test/cluster"
)

// TestNetRefusedByMarathon: what cannot be right is refused at once, with the
// contract's code and a message that names the field.
func TestNetRefusedByMarathon(t *testing.T) {
	c := start(t)
	twice := networks(map[string]string{"networks": "blue"})
	for _, test := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"no JSON", `{"id": "/x",`, 400, "Invalid JSON"},
		{"no object", `[1, 2]`, 400, "message"},
		{"no text", "{\"id\": \"/bad\", \"cmd\": \"\xc3\x28\"}", 400, "UTF-8"},
		{"wrong type", `{"id": "/bad", "cmd": "true", "instances": "many"}`, 400, "instances"},
		{"bad id", `{"id": "/Bad_Id", "cmd": "true"}`, 422, "id"},
		{"no command", `{"id": "/bad"}`, 422, "cmd"},
		{"negative", `{"id": "/bad", "cmd": "true", "cpus": -1}`, 422, "cpus"},
		{"network without name", `{"id": "/bad", "cmd": "true", "networks": [{"mode": "container"}]}`, 422, "network"},
		{"the same network twice", string(jsonOf(t, app("/bad", "blue", 1, map[string]any{"networks": append(twice, twice...)}))), 422, "networks"},
		{"long label", string(jsonOf(t, app("/bad", "blue", 1, map[string]any{
			"networks": networks(map[string]string{"project-name": strings.Repeat("p", 10000)}),
		}))), 422, "project-name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := c.curl(t, "POST", marathon+"/v2/apps", test.body)
			if got.Status != test.status || !strings.Contains(got.Body, test.want) {
				t.Errorf("%d %s; want %d with %q", got.Status, got.Body, test.status, test.want)
			}
		})
	}
	if got := c.curl(t, "GET", marathon+"/v2/apps/none", ""); got.Status != 404 {
		t.Errorf("unknown app: %d", got.Status)
	}
	c.clean(t)
}

func jsonOf(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestNetFailedTasks: what only shows when the container starts reaches the
// user as the message of the failed task, and leaves nothing.
func TestNetFailedTasks(t *testing.T) {
	c := start(t)
	labels := func(pairs ...string) map[string]any {
		all := map[string]string{"networks": "bad"}
		for i := 0; i < len(pairs); i += 2 {
			all[pairs[i]] = pairs[i+1]
		}
		return map[string]any{"networks": networks(all)}
	}
	image := func(name string) map[string]any {
		return map[string]any{"container": map[string]any{"type": "MESOS", "docker": map[string]any{"image": name}}}
	}
	for _, test := range []struct {
		name string
		with map[string]any
		want []string
	}{
		{"unknown image", image("nobody/nothing:none"), []string{"nobody/nothing"}},
		{"registry down", image("172.31.0.1:9/contrail/example"), []string{"172.31.0.1:9"}},
		{"no subnet", labels("network-subnets", "10.1.2.3.4/24"), []string{"network-subnets", "10.1.2.3.4/24"}},
		{"overlapping subnets", labels("network-subnets", "10.9.0.0/24,10.9.0.128/25"), []string{"network-subnets", "10.9.0.128/25"}},
		{"pool too small", labels("network-subnets", "10.9.1.0/30"), []string{"10.9.1.0/30"}},
		{"illegal project", labels("project-name", "a:b\x01c"), []string{"project-name"}},
		{"illegal domain", labels("domain-name", "<script>"), []string{"domain-name"}},
		{"unknown CNI network", map[string]any{"networks": []map[string]any{{"mode": "container", "name": "nowhere"}}}, []string{"nowhere"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c.fails(t, app("/failing", "bad", 1, test.with), test.want...)
			c.destroy(t, "/failing")
			c.clean(t)
		})
	}
}

// fails posts an application and waits for a failure that says all of want.
func (c *cluster) fails(t *testing.T, def map[string]any, want ...string) {
	t.Helper()
	c.post(t, def)
	id := def["id"].(string)
	eventually(t, recovery, id+" fails", func() error {
		message := c.lastFailure(t, id)
		for _, text := range want {
			if !strings.Contains(message, text) {
				return fmt.Errorf("the last failure does not say %q: %.500s", text, message)
			}
		}
		return nil
	})
}

// TestNetPoolExhausted: one address too many is refused with the network's
// name, and is given as soon as one is free and has rested.
func TestNetPoolExhausted(t *testing.T) {
	c := start(t)
	// 8 addresses: network, gateway, service and broadcast leave 4.
	small := map[string]any{"networks": networks(map[string]string{"networks": "small", "network-subnets": "10.8.0.0/29"})}
	c.post(t, app("/small", "small", 4, small))
	c.running(t, "/small", 4)
	one := app("/more", "small", 1)
	maps.Copy(one, small)
	c.fails(t, one, "small", "address")
	if got := c.curl(t, "PUT", marathon+"/v2/apps/small?force=true", `{"instances":3}`); got.Status != 200 {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	c.running(t, "/more", 1)
	c.destroy(t, "/more")
	c.destroy(t, "/small")
	c.clean(t)
}

// TestNetServiceAway: where a service does not answer, the task fails within a
// bounded time with its name; it runs as soon as the service is back.
func TestNetServiceAway(t *testing.T) {
	c := start(t)
	for _, test := range []struct{ component, want string }{
		{"mesos-manager", "manager"}, {"vrouter-agent-1", "agent"},
	} {
		t.Run(test.component, func(t *testing.T) {
			pid := c.components(t)[test.component].PID
			kill(t, pid, syscall.SIGSTOP)
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
			c.fails(t, app("/away", "green", 1, c.On(1)), test.want)
			kill(t, pid, syscall.SIGCONT)
			c.running(t, "/away", 1)
			c.destroy(t, "/away")
			c.clean(t)
		})
	}
}

// TestNetOtherUser: another user in the node's namespace gets nothing from the
// agent, by its socket or its ports.
func TestNetOtherUser(t *testing.T) {
	c := start(t)
	code := slices.Clip([]string{"curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"})
	for name, command := range map[string][]string{
		"socket":     append(code, "--unix-socket", "/run/"+c.Name+"/node-1/agent.sock", "http://agent/v1/status"),
		"port API":   append(code, "http://127.0.0.1:9091/port/7a6f4a62-0000-4000-8000-000000000000"),
		"introspect": append(code, "http://127.0.0.1:8085/ports"),
		"token":      {"cat", "/run/" + c.Name + "/node-1/token"},
		"store":      append(code, "--unix-socket", "/run/"+c.Name+"/store.sock", "http://store/version"),
	} {
		t.Run(name, func(t *testing.T) {
			nobody := []string{"nsenter", "--net=/run/netns/" + c.Node(1), "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
			if out, err := base.Run(t.Context(), append(nobody, command...)...); err == nil && out != "401" {
				t.Errorf("nobody got %q; want no way in, or 401", out)
			}
		})
	}
}
