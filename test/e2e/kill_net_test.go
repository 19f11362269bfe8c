//go:build net

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// component is one line of `contrail status -o json`.
type component struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	PID      int    `json:"pid"`
	Restarts int    `json:"restarts"`
}

func (c *cluster) components(t *testing.T) map[string]component {
	t.Helper()
	out, _ := c.Contrail(contextOf(t), "status", "-o", "json") // 1 when degraded, and that is seen below
	var status struct {
		Components []component `json:"components"`
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		t.Fatalf("status: %v: %s", err, out)
	}
	byName := make(map[string]component)
	for _, component := range status.Components {
		byName[component.Name] = component
	}
	return byName
}

// wait blocks until everything runs.
func (c *cluster) wait(t *testing.T) {
	t.Helper()
	if _, err := c.Contrail(contextOf(t), "status", "--wait", "--timeout", recovery.String()); err != nil {
		t.Fatal(err)
	}
}

// pidOf finds a process of the cluster by the beginning of its arguments.
func (c *cluster) pidOf(arguments string) (int, error) {
	processes, err := c.findProcesses()
	if err != nil {
		return 0, err
	}
	for _, p := range processes {
		if _, args, _ := strings.Cut(p.command, " "); strings.HasPrefix(args+" ", arguments+" ") {
			return strconv.Atoi(p.pid)
		}
	}
	return 0, fmt.Errorf("no process runs %q", arguments)
}

func kill(t *testing.T, pid int, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatalf("signal %v to %d: %v", signal, pid, err)
	}
}

// TestNetKill ends each process while containers start, and while they end:
// soon after, everything works, and nothing is left behind.
func TestNetKill(t *testing.T) {
	c := start(t)
	for _, victim := range []string{
		"controller", "controller store", "controller config", "controller control", "mesos-manager", "mesos master", "mesos marathon",
		"vrouter-agent --name " + c.Node(1), "mesos agent",
	} {
		t.Run(victim, func(t *testing.T) {
			c.killOne(t, victim, func() { c.post(t, app("/kill", "green", 3, unique)) })
			tasks := c.running(t, "/kill", 3)
			c.reaches(t, tasks[0], tasks[1].Address())
			c.killOne(t, victim, func() {
				if _, err := c.Curl(t.Context(), "DELETE", marathon+"/v2/apps/kill", ""); err != nil {
					t.Error(err)
				}
			})
			c.destroy(t, "/kill")
			c.clean(t)
		})
	}
}

// killOne does something, kills the process at once, and waits for its return.
func (c *cluster) killOne(t *testing.T, victim string, during func()) {
	t.Helper()
	pid, err := c.pidOf(victim)
	if err != nil {
		t.Fatal(err)
	}
	during()
	kill(t, pid, syscall.SIGKILL)
	eventually(t, recovery, victim+" is back", func() error {
		again, err := c.pidOf(victim)
		if err == nil && again == pid {
			err = errors.New("the old one is still there")
		}
		return err
	})
	c.wait(t)
}

// TestNetKillPlugin ends the plugin in the middle of ADD: the agent is held
// until the plugin waits for it.
func TestNetKillPlugin(t *testing.T) {
	c := start(t)
	agent := c.components(t)["vrouter-agent-1"].PID
	kill(t, agent, syscall.SIGSTOP)
	t.Cleanup(func() { kill(t, agent, syscall.SIGCONT) })
	c.post(t, app("/plugin", "green", 1, c.On(1)))
	eventually(t, recovery, "the plugin is called", func() error {
		processes, err := c.findProcesses()
		if err != nil {
			return err
		}
		for _, p := range processes {
			if strings.HasSuffix(p.command, "/cni/bin/contrail") {
				pid, err := strconv.Atoi(p.pid)
				if err != nil {
					return err
				}
				return syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		return errors.New("no plugin runs")
	})
	kill(t, agent, syscall.SIGCONT)
	c.running(t, "/plugin", 1)
	c.destroy(t, "/plugin")
	c.clean(t)
}

// TestNetTrafficSurvives: forwarding goes on while the processes that set it
// up are killed, each of them.
func TestNetTrafficSurvives(t *testing.T) {
	c := start(t)
	c.post(t, app("/steady/a", "green", 1, c.On(1)))
	c.post(t, app("/steady/b", "green", 1, c.On(2)))
	a, b := c.running(t, "/steady/a", 1)[0], c.running(t, "/steady/b", 1)[0]
	c.reaches(t, a, b.Address())
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		// 100 echo requests, 100 ms apart; an answer may take a second on a busy machine.
		out, err := c.Contrail(t.Context(), "exec", a.ID, "--", "ping", "-i", "0.1", "-c", "100", "-W", "2", b.Address())
		done <- result{out, err}
	}()
	for _, name := range []string{"vrouter-agent-1", "vrouter-agent-2", "controller", "mesos-agent-1", "mesos-agent-2", "mesos-master"} {
		kill(t, c.components(t)[name].PID, syscall.SIGKILL)
	}
	ping := <-done
	if ping.err != nil || !strings.Contains(ping.out, " 0% packet loss") {
		t.Errorf("packets were lost: %v\n%s", ping.err, ping.out)
	}
	c.wait(t)
	c.reaches(t, a, b.Address())
}

// TestNetCycles starts and destroys an application again and again.
func TestNetCycles(t *testing.T) {
	c := start(t)
	for range *cycles {
		c.post(t, app("/cycle", "green", 1))
		c.running(t, "/cycle", 1)
		c.destroy(t, "/cycle")
	}
	c.clean(t)
}
