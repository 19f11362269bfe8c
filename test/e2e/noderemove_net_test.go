//go:build net

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	base "github.com/contrail-mesos/contrail/test/cluster"
)

// TestNetNodeRemove: a node dies for good and is removed; nothing of it is left
// in the store, with the master or in the tables of other nodes. Should it come
// back nevertheless, it joins anew and forgets what it ran.
func TestNetNodeRemove(t *testing.T) {
	c := start(t)
	c.post(t, app("/lost", "green", 2, c.On(3)))
	c.post(t, app("/peer", "green", 1, c.On(1)))
	lost, peer := c.running(t, "/lost", 2), c.running(t, "/peer", 1)[0]
	c.reaches(t, peer, lost[0].Address())
	node, agent := c.nodeUUID(t, 3), c.agentID(t, 3)
	t.Cleanup(func() { // whatever happens, for whoever comes next
		if err := c.up("--no-example"); err != nil {
			t.Error(err)
		}
	})
	supervisor, err := c.pidOf("supervise")
	if err != nil {
		t.Fatal(err)
	}
	kill(t, supervisor, syscall.SIGKILL)
	c.killNode(t, 3)
	out, err := c.nodeCommand(t, "remove", c.Node(3))
	if err != nil || !strings.Contains(out, "2 attachments are released") {
		t.Fatalf("node remove: %v: %s", err, out)
	}
	gone := `{"type":"MARK_AGENT_GONE","mark_agent_gone":{"agent_id":{"value":"` + agent + `"}}}`
	if got := c.curl(t, "POST", base.Master+"/api/v1", gone); got.Status != 200 {
		t.Fatalf("MARK_AGENT_GONE: %d %s", got.Status, got.Body)
	}
	eventually(t, recovery, "nothing is left of the node", func() error {
		return errors.Join(c.notInStore(t, node), c.notInStore(t, c.Node(3)), c.noTunnel(t, 1, 3), c.noAgent(t, agent))
	})
	for _, task := range lost {
		if err := c.check(t, peer, task.Address(), "icmp", "500ms"); err == nil {
			t.Errorf("%s answers", task.Address())
		}
	}
	if _, err := c.nodeCommand(t, "remove", c.Node(3)); err == nil || !strings.Contains(err.Error(), "contrail node list") {
		t.Errorf("removed twice: %v", err)
	}

	if err := c.up("--no-example"); err != nil {
		t.Fatal(err)
	}
	again := c.running(t, "/lost", 2)
	c.reaches(t, peer, again[0].Address())
	for _, old := range lost {
		for _, now := range again {
			if now.ID == old.ID {
				t.Errorf("task %s was taken for one that runs", old.ID)
			}
		}
	}
	if now := c.nodeUUID(t, 3); now != node {
		t.Errorf("the node came back as %s, not as %s", now, node)
	}
	c.destroy(t, "/lost")
	c.destroy(t, "/peer")
	c.clean(t)
}

func (c *cluster) nodeCommand(t *testing.T, args ...string) (string, error) {
	command := append([]string{filepath.Join(c.Bin, "contrail"), "node"}, args...)
	return c.InHost(contextOf(t), append(command, "--config", "unix:/run/"+c.Name+"/config.sock")...)
}

func (c *cluster) nodeUUID(t *testing.T, n int) string {
	t.Helper()
	out, err := c.nodeCommand(t, "list", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var nodes []struct{ UUID, Name string }
	if err := json.Unmarshal([]byte(out), &nodes); err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		if node.Name == c.Node(n) {
			return node.UUID
		}
	}
	t.Fatalf("%s is not in %s", c.Node(n), out)
	return ""
}

// agents are the ids that the master knows, by host name.
func (c *cluster) agents(t *testing.T) (map[string]string, error) {
	got, err := c.Curl(contextOf(t), "GET", base.Master+"/slaves", "")
	if err != nil {
		return nil, err
	}
	var answer struct {
		Slaves []struct{ ID, Hostname string }
	}
	if err := json.Unmarshal([]byte(got.Body), &answer); err != nil {
		return nil, err
	}
	byHost := make(map[string]string)
	for _, agent := range answer.Slaves {
		byHost[agent.Hostname] = agent.ID
	}
	return byHost, nil
}

func (c *cluster) agentID(t *testing.T, n int) string {
	t.Helper()
	agents, err := c.agents(t)
	if err != nil || agents[c.Node(n)] == "" {
		t.Fatalf("the master does not know %s: %v %v", c.Node(n), agents, err)
	}
	return agents[c.Node(n)]
}

// killNode ends every process of a node at once, as a power failure does: all
// are stopped first, so that none sees another's end and cleans up after it.
func (c *cluster) killNode(t *testing.T, n int) {
	t.Helper()
	stopped := make(map[int]bool)
	for more := true; more; {
		more = false
		for _, pid := range c.nodeProcesses(t, n) {
			if !stopped[pid] {
				stopped[pid], more = true, true
				_ = syscall.Kill(pid, syscall.SIGSTOP) // it may have ended by itself
			}
		}
	}
	for {
		processes := c.nodeProcesses(t, n)
		if len(processes) == 0 {
			return
		}
		for _, pid := range processes {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended with its parent
		}
	}
}

// nodeProcesses are a node's: the agents by their arguments, the rest by its
// cgroup.
func (c *cluster) nodeProcesses(t *testing.T, n int) []int {
	t.Helper()
	processes, err := c.findProcesses()
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, p := range processes {
		groups, _ := os.ReadFile("/proc/" + p.pid + "/cgroup") // none: it has ended
		inGroup := strings.Contains(string(groups), "/"+c.Name+"/node-"+strconv.Itoa(n))
		if !inGroup && !strings.Contains(p.command+" ", c.Node(n)+" ") {
			continue
		}
		if pid, err := strconv.Atoi(p.pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// notInStore looks for a text in the keys and values of the store, but for what
// rests or is remembered.
func (c *cluster) notInStore(t *testing.T, text string) error {
	out, err := c.etcdctl(t, "get", "/", "--prefix", "--write-out", "json")
	if err != nil {
		return err
	}
	var answer struct {
		KVs []struct{ Key, Value []byte } `json:"kvs"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return err
	}
	for _, kv := range answer.KVs {
		key := string(kv.Key)
		if !inactive(key) && strings.Contains(key+"\x00"+string(kv.Value), text) {
			return fmt.Errorf("%s names %s", key, text)
		}
	}
	return nil
}

// noTunnel looks for the address of a node in the next hops of another. Flows
// are no evidence: a change of routes outdates them all, and they end by age.
func (c *cluster) noTunnel(t *testing.T, on, to int) error {
	pins, err := c.pins(t)
	if err != nil {
		return err
	}
	address := fmt.Sprintf(`"0xac","0x1f","0x00","0x%02x"`, 10+to)
	for _, pin := range pins {
		if !strings.Contains(pin, "/node-"+strconv.Itoa(on)+"/") || statistics(pin) || strings.Contains(pin, "flow") {
			continue
		}
		out, err := base.Run(contextOf(t), "bpftool", "-j", "map", "dump", "pinned", pin)
		if err == nil && strings.Contains(out, address) {
			return fmt.Errorf("%s has the address of %s", pin, c.Node(to))
		}
	}
	return nil
}

func (c *cluster) noAgent(t *testing.T, id string) error {
	agents, err := c.agents(t)
	if err != nil {
		return err
	}
	for host, known := range agents {
		if known == id {
			return fmt.Errorf("the master knows agent %s on %s", id, host)
		}
	}
	return nil
}
