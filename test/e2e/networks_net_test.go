//go:build net

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	base "github.com/contrail-mesos/contrail/test/cluster"
)

// labelled is an application in the network that the labels say, on one node.
func (c *cluster) labelled(id string, node, instances int, labels map[string]string) map[string]any {
	return app(id, "", instances, c.On(node), map[string]any{"networks": networks(labels)})
}

// answerer is the task that answers HTTP at an address, asked from a container.
func (c *cluster) answerer(t *testing.T, from task, address string) string {
	t.Helper()
	id, err := c.tryAnswerer(t, from, address, 10)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// tryAnswerer is answerer for where there may be none within some seconds.
func (c *cluster) tryAnswerer(t *testing.T, from task, address string, seconds int) (string, error) {
	t.Helper()
	out, err := c.Contrail(contextOf(t), "exec", from.ID, "--", "sh", "-c", fmt.Sprintf(`printf 'GET / HTTP/1.0\r\n\r\n' | timeout %[1]d nc -w %[1]d %[2]s 8080`, seconds, address))
	if err != nil {
		return "", err
	}
	_, out, _ = strings.Cut(out, "\r\n\r\n") // the body comes after the headers
	var answer struct {
		Task string `json:"task"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return "", fmt.Errorf("decode what %s answered: %w: %s", address, err, out)
	}
	return answer.Task, nil
}

// networkNames are the networks that the configuration API lists.
func (c *cluster) networkNames(t *testing.T) []string {
	t.Helper()
	var list struct {
		Networks []struct {
			Name []string `json:"fq_name"`
		} `json:"virtual-networks"`
	}
	decode(t, c.curl(t, "GET", config+"/virtual-networks", ""), &list)
	var names []string
	for _, n := range list.Networks {
		names = append(names, strings.Join(n.Name, ":"))
	}
	return names
}

// TestNetOverlap: networks of the same name and with the same addresses in two
// projects are two networks; each container reaches that of its own.
func TestNetOverlap(t *testing.T) {
	c := start(t)
	var tasks [2][2]task // by project and node
	projects := []string{"left", "right"}
	for i, project := range projects {
		for node := range 2 {
			id := fmt.Sprintf("/overlap/%s-%d", project, node+1)
			c.post(t, c.labelled(id, node+1, 1, map[string]string{
				"networks": "same", "project-name": project, "network-subnets": "10.7.0.0/24",
			}))
			// One after the other, so that both projects give addresses in the same order.
			tasks[i][node] = c.running(t, id, 1)[0]
		}
	}
	for node := range 2 {
		if left, right := tasks[0][node].Address(), tasks[1][node].Address(); left != right {
			t.Fatalf("addresses %s and %s do not overlap", left, right)
		}
	}
	for i, project := range projects {
		from, to := tasks[i][0], tasks[i][1]
		c.reaches(t, from, to.Address())
		if got := c.answerer(t, from, to.Address()); got != to.ID {
			t.Errorf("%s of project %s is answered by %s, want %s", to.Address(), project, got, to.ID)
		}
		if name := "default-domain:" + project + ":same"; !slices.Contains(c.networkNames(t), name) {
			t.Errorf("no network %s: %s", name, c.networkNames(t))
		}
		for node := range 2 {
			c.destroy(t, fmt.Sprintf("/overlap/%s-%d", project, node+1))
		}
	}
	c.clean(t)
}

// TestNetLabels: each label does what the user guide says, in both forms of an
// application.
func TestNetLabels(t *testing.T) {
	c := start(t)
	// Projects come by themselves, domains are the operator's.
	got := c.curl(t, "POST", config+"/domains", `{"domain": {"fq_name": ["country"]}}`)
	var created struct {
		Domain struct {
			UUID string `json:"uuid"`
		} `json:"domain"`
	}
	decode(t, got, &created)
	if got.Status != 200 {
		t.Fatalf("create a domain: %d %s", got.Status, got.Body)
	}
	older := app("/labels/older", "", 1, map[string]any{
		"ipAddress": map[string]any{"networkName": "contrail", "labels": map[string]string{"networks": "older"}},
	})
	delete(older, "networks")
	for _, test := range []struct {
		name, network string
		def           map[string]any
		subnets       []string
		instances     int
	}{
		{
			name: "none", network: "default-domain:mesos-default:mesos-default-pod-task-network",
			def: c.labelled("/labels/none", 1, 1, nil), subnets: []string{"10.32.0.0/12"}, instances: 1,
		},
		{
			name: "older form", network: "default-domain:mesos-default:older",
			def: older, subnets: []string{"10.32.0.0/12"}, instances: 1,
		},
		{
			name: "project and domain", network: "country:town:street",
			def: c.labelled("/labels/project", 2, 1, map[string]string{
				"networks": "street", "project-name": "town", "domain-name": "country",
			}), subnets: []string{"10.32.0.0/12"}, instances: 1,
		},
		{
			name: "full name", network: "country:town:square",
			def:     c.labelled("/labels/full", 3, 1, map[string]string{"networks": "country:town:square"}),
			subnets: []string{"10.32.0.0/12"}, instances: 1,
		},
		{
			// The first subnet has four addresses for containers.
			name: "subnets", network: "default-domain:mesos-default:chosen",
			def: c.labelled("/labels/subnets", 1, 6, map[string]string{
				"networks": "chosen", "network-subnets": "10.6.0.0/29,10.6.1.0/24",
			}), subnets: []string{"10.6.0.0/29", "10.6.1.0/24"}, instances: 6,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c.post(t, test.def)
			tasks := c.running(t, test.def["id"].(string), test.instances)
			if names := c.networkNames(t); !slices.Contains(names, test.network) {
				t.Errorf("no network %s: %s", test.network, names)
			}
			for _, subnet := range test.subnets {
				prefix := netip.MustParsePrefix(subnet)
				if !slices.ContainsFunc(tasks, func(task task) bool { return prefix.Contains(netip.MustParseAddr(task.Address())) }) {
					t.Errorf("no address of %s: %+v", subnet, tasks)
				}
			}
			c.reaches(t, tasks[0], tasks[len(tasks)-1].Address())
			c.destroy(t, test.def["id"].(string))
		})
	}
	// It can go once what the tasks made in it has gone.
	eventually(t, recovery, "the domain is deleted", func() error {
		if got := c.curl(t, "DELETE", config+"/domain/"+created.Domain.UUID, ""); got.Status != 200 {
			return fmt.Errorf("%d %s", got.Status, got.Body)
		}
		return nil
	})
	c.clean(t)
}

// TestNetAgentKnows: the Mesos agent tells the address of its container, and
// the container has it.
func TestNetAgentKnows(t *testing.T) {
	c := start(t)
	c.post(t, app("/known", "green", 1, c.On(2)))
	known := c.running(t, "/known", 1)[0]
	out, err := base.Run(t.Context(), "curl", "--silent", "--show-error", "--unix-socket", "/run/"+c.Name+"/node-2/mesos.sock",
		"--header", "Content-Type: application/json", "--data", `{"type":"GET_CONTAINERS"}`, "http://agent/api/v1")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		GetContainers struct {
			Containers []struct {
				ExecutorID struct{ Value string } `json:"executor_id"`
				Status     struct {
					NetworkInfos []struct {
						IPAddresses []struct {
							Address string `json:"ip_address"`
						} `json:"ip_addresses"`
					} `json:"network_infos"`
				} `json:"container_status"`
			} `json:"containers"`
		} `json:"get_containers"`
	}
	decode(t, base.Answer{Status: 200, Body: out}, &answer)
	var told []string
	for _, container := range answer.GetContainers.Containers {
		if container.ExecutorID.Value != known.ID {
			continue
		}
		for _, info := range container.Status.NetworkInfos {
			for _, ip := range info.IPAddresses {
				told = append(told, ip.Address)
			}
		}
	}
	if !slices.Equal(told, []string{known.Address()}) {
		t.Errorf("the Mesos agent tells %q, Marathon %q", told, known.Address())
	}
	inside, err := c.Contrail(t.Context(), "exec", known.ID, "--", "ip", "-4", "address", "show", "dev", "eth0")
	if err != nil || !strings.Contains(inside, " "+known.Address()+"/") {
		t.Errorf("the container does not have %s: %v %s", known.Address(), err, inside)
	}
	c.destroy(t, "/known")
	c.clean(t)
}

// TestNetMemoryLimit: a task that takes more memory than it asked for fails
// with a message that says so, and leaves nothing.
func TestNetMemoryLimit(t *testing.T) {
	c := start(t)
	c.fails(t, app("/greedy", "green", 1, map[string]any{"cmd": "exec dd if=/dev/zero of=/dev/null bs=256M count=1"}), "Memory limit exceeded", "32MB")
	c.destroy(t, "/greedy")
	c.clean(t)
}

// TestNetExec: a command in a container gets its input, its exit code comes
// back, and it has no more rights than the task.
func TestNetExec(t *testing.T) {
	c := start(t)
	c.post(t, app("/inside", "green", 1))
	id := c.running(t, "/inside", 1)[0].ID
	in := []string{"nsenter", "--net=/run/netns/" + c.Host, c.Bin + "/contrail", "exec", "--name", c.Name}
	for _, test := range []struct {
		name, stdin string
		args        []string
		want        string // in stdout, or in the error
		fails       string
	}{
		{"shell", "echo one; hostname\nexit 3\n", []string{"inside", "--", "/bin/sh"}, "one", "exit status 3"},
		{"by id", "", []string{id, "--", "cat", "/proc/1/cmdline"}, "contrail", ""},
		{"rights", "", []string{"inside", "--", "sh", "-c", "mount -t tmpfs none /mnt || ip link add x type dummy"}, "", "not permitted"},
		{"no such program", "", []string{"inside", "--", "nowhere"}, "", "nowhere"},
		{"no such task", "", []string{"outside", "--", "true"}, "", id},
		{"signal", "", []string{"inside", "--", "sh", "-c", "kill -9 $$"}, "", "exit status 137"},
		{"no command", "", []string{"inside"}, "", "-- COMMAND"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := base.RunWith(t.Context(), strings.NewReader(test.stdin), append(slices.Clone(in), test.args...)...)
			if !strings.Contains(out, test.want) {
				t.Errorf("output %q, want %q", out, test.want)
			}
			if (err == nil) != (test.fails == "") || err != nil && !strings.Contains(err.Error(), test.fails) {
				t.Errorf("error %v, want %q", err, test.fails)
			}
		})
	}
	c.destroy(t, "/inside")
	c.clean(t)
}
