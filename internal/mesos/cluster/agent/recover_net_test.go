//go:build net

package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// Agent and containers are killed together, as by a crash of the machine. The
// next agent says so with its first message, before anything is cleaned up:
// nobody is told of a task that runs.
func TestNetEverythingKilled(t *testing.T) {
	for name, reboot := range map[string]bool{"same boot": false, "other boot": true} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.run(shell("t", "sleep 1000"))
			pid := int(c.until("t", isUp).GetContainerStatus().GetExecutorPid())
			c.settled()
			c.killAgent()
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			awaitGone(t, pid)
			var bystander int
			if reboot {
				bystander = c.pretendReboot()
			}
			// The cleaning up does not end before the test says so.
			gate := filepath.Join(c.dir, "gate")
			if err := unix.Mkfifo(gate, 0o600); err != nil {
				t.Fatal(err)
			}
			c.write("plugins/script", "#!/bin/sh\nread line < "+gate+"\n")
			c.startAgent()
			c.mu.Lock()
			told := c.registers[len(c.registers)-1].GetTasks()
			c.mu.Unlock()
			if len(told) != 1 || told[0].GetState() != failed {
				t.Errorf("registration tells %s", codec.MarshalJSON(c.registers[len(c.registers)-1]))
			}
			if end := c.until("t", failed); end.GetReason() != mesosv1.TaskStatus_REASON_EXECUTOR_TERMINATED {
				t.Errorf("end: %s", codec.MarshalJSON(end))
			}
			// The master may use the id again; here it is not free yet.
			c.mu.Lock()
			c.updates = nil
			c.mu.Unlock()
			c.run(shell("t", "true"))
			c.until("t", mesosv1.TaskState_TASK_DROPPED)
			if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
				t.Fatal(err)
			}
			c.empty()
			if bystander != 0 && unix.Kill(bystander, 0) != nil {
				t.Error("a process that has the number of an executor of another boot was killed")
			}
		})
	}
}

// pretendReboot changes the boot that the agent remembers, and gives the
// executor's number to another process. It returns that number.
func (c *cluster) pretendReboot() int {
	c.t.Helper()
	pid := os.Getpid()
	started, err := processStart(pid)
	if err != nil {
		c.t.Fatal(err)
	}
	records, err := filepath.Glob(filepath.Join(c.config.Work, "meta/tasks/*.json"))
	if err != nil || len(records) != 1 {
		c.t.Fatalf("records %v %v", records, err)
	}
	c.edit(records[0], map[string]any{"pid": pid, "started": started})
	c.edit(filepath.Join(c.config.Work, "meta/agent.json"), map[string]any{"boot_id": "another"})
	return pid
}

// edit sets members of a JSON object in a file.
func (c *cluster) edit(path string, members map[string]any) {
	c.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &all); err != nil {
		c.t.Fatal(err)
	}
	for name, value := range members {
		if all[name], err = json.Marshal(value); err != nil {
			c.t.Fatal(err)
		}
	}
	if data, err = json.Marshal(all); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// awaitGone waits for the end of a process that is no child of this one.
func awaitGone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for ; ; time.Sleep(5 * time.Millisecond) {
		if _, err := processStart(pid); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d does not end", pid)
		}
	}
}
