//go:build net

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestNetWorkflow is the way of a user: applications in networks, posted with
// curl; who reaches whom; what Marathon, Mesos and the configuration API say;
// and that nothing is left when they are destroyed.
func TestNetWorkflow(t *testing.T) {
	c := start(t)
	c.post(t, app("/flow/web", "blue", 3, unique))
	c.post(t, app("/flow/client", "blue", 1))
	c.post(t, app("/flow/db", "red", 1))
	webs, clients, dbs := c.running(t, "/flow/web", 3), c.running(t, "/flow/client", 1), c.running(t, "/flow/db", 1)
	client, db := clients[0], dbs[0]

	t.Run("addresses are unique in their network", func(t *testing.T) {
		seen := make(map[string]string)
		for _, task := range append(append([]task{}, webs...), client) {
			if other := seen[task.Address()]; other != "" {
				t.Errorf("%s and %s both have %s", other, task.ID, task.Address())
			}
			seen[task.Address()] = task.ID
		}
	})
	t.Run("one network", func(t *testing.T) {
		same, across := 0, 0
		for _, web := range webs {
			if web.Host == client.Host {
				same++
			} else {
				across++
			}
			c.reaches(t, client, web.Address())
		}
		if same != 1 || across != 2 {
			t.Errorf("%d webs beside the client and %d on other nodes; want 1 and 2", same, across)
		}
	})
	t.Run("two networks", func(t *testing.T) {
		c.refused(t, client, db.Address())
		c.refused(t, db, client.Address())
		c.refused(t, db, webs[0].Address())
	})
	t.Run("containers cannot reach the fabric", func(t *testing.T) {
		for _, address := range []string{"172.31.0.1", "172.31.0.11"} {
			if err := c.check(t, client, address, "icmp", "500ms"); err == nil {
				t.Errorf("client reaches %s", address)
			}
		}
	})
	t.Run("Mesos tells the address", func(t *testing.T) { c.mesosKnows(t, client) })
	t.Run("configuration API shows the objects", func(t *testing.T) { c.configKnows(t, client) })
	t.Run("scaling", func(t *testing.T) {
		if got := c.curl(t, "PUT", marathon+"/v2/apps/flow/client", `{"instances":2}`); got.Status != 200 {
			t.Fatalf("%d %s", got.Status, got.Body)
		}
		c.running(t, "/flow/client", 2)
		if got := c.curl(t, "PUT", marathon+"/v2/apps/flow/client", `{"instances":1}`); got.Status != 200 {
			t.Fatalf("%d %s", got.Status, got.Body)
		}
		c.running(t, "/flow/client", 1)
	})
	for _, id := range []string{"/flow/web", "/flow/client", "/flow/db"} {
		c.destroy(t, id)
	}
	c.clean(t)
}

func (c *cluster) mesosKnows(t *testing.T, task task) {
	t.Helper()
	var answer struct {
		GetTasks struct {
			Tasks []struct {
				TaskID   struct{ Value string } `json:"task_id"`
				Statuses []json.RawMessage      `json:"statuses"`
			} `json:"tasks"`
		} `json:"get_tasks"`
	}
	decode(t, c.curl(t, "POST", master+"/api/v1", `{"type":"GET_TASKS"}`), &answer)
	for _, known := range answer.GetTasks.Tasks {
		if known.TaskID.Value != task.ID {
			continue
		}
		if statuses := fmt.Sprintf("%s", known.Statuses); !strings.Contains(statuses, fmt.Sprintf("%q", task.Address())) {
			t.Errorf("statuses of %s do not tell %s: %s", task.ID, task.Address(), statuses)
		}
		return
	}
	t.Errorf("the master does not know task %s", task.ID)
}

func (c *cluster) configKnows(t *testing.T, task task) {
	t.Helper()
	var list struct {
		IPs []struct {
			IP struct {
				Address string   `json:"instance_ip_address"`
				Name    []string `json:"fq_name"`
			} `json:"instance-ip"`
		} `json:"instance-ips"`
	}
	decode(t, c.curl(t, "GET", config+"/instance-ips?detail=true", ""), &list)
	for _, ip := range list.IPs {
		if ip.IP.Address == task.Address() {
			return
		}
	}
	t.Errorf("no instance-ip has %s: %+v", task.Address(), list)
}

// TestNetEncapsulation looks at the fabric with tcpdump while two containers
// on different nodes talk.
func TestNetEncapsulation(t *testing.T) {
	c := start(t)
	c.post(t, app("/tunnel/a", "violet", 1, c.On(1)))
	c.post(t, app("/tunnel/b", "violet", 1, c.On(2)))
	a, b := c.running(t, "/tunnel/a", 1)[0], c.running(t, "/tunnel/b", 1)[0]
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dump := exec.CommandContext(ctx, "nsenter", "--net=/run/netns/"+c.Node(1),
		"tcpdump", "-l", "-n", "-v", "-i", "eth0", "udp", "port", "6635")
	out, err := dump.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := dump.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dump.Start(); err != nil {
		t.Fatal(err)
	}
	// tcpdump says on stderr when it listens.
	if ready := bufio.NewScanner(stderr); !ready.Scan() {
		t.Fatal("tcpdump does not start")
	}
	c.reaches(t, a, b.Address())
	want := map[string]bool{
		// RFC 7510: UDP to port 6635, then one label with the bottom-of-stack bit.
		"172.31.0.12.6635: MPLS": false, "[S], ttl 64": false,
		a.Address() + " > " + b.Address() + ": ICMP echo request": false,
	}
	lines := bufio.NewScanner(out)
	var seen strings.Builder
	for missing := len(want); missing > 0 && lines.Scan(); {
		seen.WriteString(lines.Text() + "\n")
		for text, found := range want {
			if !found && strings.Contains(strings.ReplaceAll(seen.String(), "\n\t", " "), text) {
				want[text] = true
				missing--
			}
		}
	}
	cancel()
	_ = dump.Wait() // ended by us
	for text, found := range want {
		if !found {
			t.Errorf("tcpdump did not show %q; it showed\n%s", text, seen.String())
		}
	}
}

// TestNetPythonMarathon drives the cluster with a client that was written for
// the real Marathon and refuses what it does not know.
func TestNetPythonMarathon(t *testing.T) {
	c := start(t)
	t.Cleanup(func() { c.destroy(t, "/python") })
	out, err := c.InHost(t.Context(), "/usr/bin/python3", "testdata/marathon_client.py", "http://"+marathon)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out)
	c.clean(t)
}
