//go:build net

package agent

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

const (
	finished = mesosv1.TaskState_TASK_FINISHED
	failed   = mesosv1.TaskState_TASK_FAILED
	killed   = mesosv1.TaskState_TASK_KILLED
	isUp     = mesosv1.TaskState_TASK_RUNNING
)

func TestNetTaskLife(t *testing.T) {
	c := newCluster(t)
	c.run(shell("t", `echo $FROM $BOTH $MESOS_CONTAINER_IP; hostname; cat /etc/resolv.conf; echo oops >&2; cat /mnt/mesos/sandbox/stderr`))
	up := c.until("t", isUp)
	status := up.GetContainerStatus()
	id := status.GetContainerId().GetValue()
	if up.GetAgentId().GetValue() != "agent-1" || up.GetExecutorId().GetValue() != "t" || up.GetSource() != mesosv1.TaskStatus_SOURCE_EXECUTOR ||
		status.GetExecutorPid() == 0 || len(status.GetNetworkInfos()) != 1 {
		t.Errorf("RUNNING: %s", codec.MarshalJSON(up))
	}
	want := `{"ip_addresses":[{"protocol":"IPv4","ip_address":"10.32.0.7"}],"name":"blue","labels":{"labels":[{"key":"a","value":"b"}]}}`
	if got := string(codec.MarshalJSON(status.GetNetworkInfos()[0])); got != want {
		t.Errorf("network: %s", got)
	}
	end := c.until("t", finished)
	if end.GetMessage() != "Command exited with status 0" || c.states("t") != "STARTING RUNNING FINISHED" {
		t.Errorf("%s: %s", c.states("t"), codec.MarshalJSON(end))
	}
	c.empty()
	if got, want := c.sandbox("t", "stdout"), "image task 10.32.0.7\n"+id+"\nnameserver 10.32.0.2\noops\n"; got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
	calls, err := os.ReadFile(filepath.Join(c.dir, "calls/log"))
	if err != nil || string(calls) != "ADD "+id+"\nDEL "+id+"\n" {
		t.Errorf("plugin calls %q %v", calls, err)
	}
}

func TestNetTaskEnds(t *testing.T) {
	c := newCluster(t)
	noNetwork := func(i *mesosv1.TaskInfo) { i.Container.NetworkInfos = nil }
	image := func(name string) func(*mesosv1.TaskInfo) {
		return func(i *mesosv1.TaskInfo) { i.Container.Mesos.Image.Docker.Name = proto.String(name) }
	}
	for _, test := range []struct {
		info    *mesosv1.TaskInfo
		state   mesosv1.TaskState
		reason  mesosv1.TaskStatus_Reason
		message string
	}{
		{info: shell("exit3", "exit 3"), state: failed, message: "Command exited with status 3"},
		{info: shell("signal", "kill -SEGV $$"), state: failed, message: "Command terminated with signal Segmentation fault"},
		{info: shell("default", "", noNetwork, func(i *mesosv1.TaskInfo) { i.Command.Shell, i.Command.Value = proto.Bool(false), nil }), state: finished, message: "Command exited with status 0"},
		{info: shell("host", "echo host", func(i *mesosv1.TaskInfo) { i.Container = nil }), state: finished, message: "Command exited with status 0"},
		{info: shell("memory", "a=x; while true; do a=$a$a; done"), state: failed, reason: mesosv1.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY, message: "Memory limit exceeded: Requested: 32MB"},
		{info: shell("slow", "sleep 100", func(i *mesosv1.TaskInfo) {
			i.MaxCompletionTime = &mesosv1.DurationInfo{Nanoseconds: proto.Int64(1e8)}
		}), state: failed, reason: mesosv1.TaskStatus_REASON_MAX_COMPLETION_TIME_REACHED},
		{info: shell("image", "true", image("none:1")), state: failed, reason: mesosv1.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED, message: "Failed to launch container: no such image"},
		{
			info: shell("network", "true", func(i *mesosv1.TaskInfo) { i.Container.NetworkInfos[0].Name = proto.String("none") }), state: failed,
			reason: mesosv1.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED, message: "Failed to launch container: Unknown CNI network 'none'",
		},
		{info: shell("twice", "true", func(i *mesosv1.TaskInfo) {
			i.Container.NetworkInfos = append(i.Container.NetworkInfos, i.Container.NetworkInfos[0])
		}), state: failed, reason: mesosv1.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED, message: "Failed to launch container: Attempted to join CNI network 'blue' multiple times"},
		{info: shell("executor", "true", func(i *mesosv1.TaskInfo) {
			i.Executor = &mesosv1.ExecutorInfo{ExecutorId: &mesosv1.ExecutorID{Value: proto.String("e")}}
		}), state: failed, reason: mesosv1.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED, message: "Failed to launch container: custom executors are not supported"},
		{
			info: shell("user", "true", func(i *mesosv1.TaskInfo) { i.Command.User = proto.String("no-such-user") }), state: failed,
			reason: mesosv1.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED, message: `Failed to launch container: user "no-such-user" is unknown`,
		},
		{
			info: shell("program", "", func(i *mesosv1.TaskInfo) { i.Command.Shell, i.Command.Value = proto.Bool(false), proto.String("/none") }), state: failed,
			reason: mesosv1.TaskStatus_REASON_COMMAND_EXECUTOR_FAILED, message: "Failed to launch command: start container",
		},
	} {
		c.run(test.info)
		id := test.info.GetTaskId().GetValue()
		end := c.until(id, test.state)
		if end.GetReason() != test.reason || !strings.HasPrefix(end.GetMessage(), test.message) {
			t.Errorf("%s: %s %q, want %s %q", id, end.GetReason(), end.GetMessage(), test.reason, test.message)
		}
	}
	c.empty()
	if out := c.sandbox("default", "stdout"); out != "default\n" {
		t.Errorf("image's command printed %q", out)
	}
	if out := c.sandbox("host", "stdout"); out != "host\n" {
		t.Errorf("host task printed %q", out)
	}
}

func TestNetKill(t *testing.T) {
	c := newCluster(t)
	c.run(shell("soft", "sleep 1000"))
	c.run(shell("hard", "trap '' TERM; while true; do sleep 1; done"))
	c.until("soft", isUp)
	c.until("hard", isUp)
	c.kill("soft", 30*time.Second)
	c.kill("hard", 100*time.Millisecond)
	if end := c.until("soft", killed); !strings.HasPrefix(end.GetMessage(), "Command ") || c.states("soft") != "STARTING RUNNING KILLING KILLED" {
		t.Errorf("%s %s", c.states("soft"), end.GetMessage())
	}
	if end := c.until("hard", killed); end.GetMessage() != "Command terminated with signal Killed" {
		t.Errorf("%s %s", c.states("hard"), end.GetMessage())
	}
	c.kill("unknown", 0)
	c.until("unknown", mesosv1.TaskState_TASK_GONE)
	group := &clusterv1.TaskGroup{
		Executor: &mesosv1.ExecutorInfo{ExecutorId: &mesosv1.ExecutorID{Value: proto.String("e")}},
		Tasks:    &mesosv1.TaskGroupInfo{Tasks: []*mesosv1.TaskInfo{shell("grouped", "true")}},
	}
	c.tell(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_Run{Run: &clusterv1.Run{Framework: testFramework, What: &clusterv1.Run_Group{Group: group}}}})
	if end := c.until("grouped", failed); !strings.Contains(end.GetMessage(), "Task groups are not supported by this agent") {
		t.Errorf("task of a group: %s", codec.MarshalJSON(end))
	}
	c.wait("end of the group's executor", func() bool { return len(c.exited) == 1 && c.exited[0].GetExecutorId().GetValue() == "e" })
	c.run(shell("framework", "sleep 1000"))
	c.until("framework", isUp)
	c.tell(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_ShutdownFramework{ShutdownFramework: &clusterv1.ShutdownFramework{FrameworkId: testFramework.GetId()}}})
	c.empty()
}

// The agent is killed; tasks run on, and what happens meanwhile is told later.
func TestNetAgentKilled(t *testing.T) {
	c := newCluster(t)
	c.run(shell("stays", "sleep 1000"))
	c.run(shell("ends", "while ! test -e /mnt/mesos/sandbox/go; do sleep 0.05; done"))
	c.run(shell("dies", "sleep 1000"))
	c.until("stays", isUp)
	c.until("ends", isUp)
	pid := int(c.until("dies", isUp).GetContainerStatus().GetExecutorPid())
	before := c.until("stays", isUp).GetContainerStatus().GetExecutorPid()
	c.settled()
	c.killAgent()
	c.mu.Lock()
	c.hold = true
	c.mu.Unlock()
	c.write("work/slaves/agent-1/frameworks/f-1/executors/ends/runs/latest/go", "")
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.startAgent()
	c.mu.Lock()
	register := c.registers[len(c.registers)-1]
	c.mu.Unlock()
	if register.GetAgent().GetId().GetValue() != "agent-1" || len(register.GetTasks()) < 2 || len(register.GetFrameworks()) != 1 {
		t.Errorf("registration: %s", codec.MarshalJSON(register))
	}
	if end := c.until("dies", failed); end.GetReason() != mesosv1.TaskStatus_REASON_EXECUTOR_TERMINATED || end.GetMessage() != "Executor terminated" {
		t.Errorf("executor that died: %s", codec.MarshalJSON(end))
	}
	c.until("ends", finished)
	// The updates are not acknowledged: the next agent sends them again.
	c.killAgent()
	c.mu.Lock()
	c.updates, c.hold = nil, false
	c.mu.Unlock()
	c.startAgent()
	c.until("ends", finished)
	c.until("dies", failed)
	containers := c.containers(1)
	if containers[0].GetContainerStatus().GetExecutorPid() != before ||
		containers[0].GetContainerStatus().GetNetworkInfos()[0].GetIpAddresses()[0].GetIpAddress() != "10.32.0.7" {
		t.Errorf("container: %s", codec.MarshalJSON(containers[0]))
	}
	c.kill("stays", time.Second)
	c.until("stays", killed)
	c.empty()
}

// A container that the agent was killed in the middle of is undone.
func TestNetAgentKilledWhileLaunching(t *testing.T) {
	c := newCluster(t)
	if err := unix.Mkfifo(filepath.Join(c.dir, "gate"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.write("plugins/script", `#!/bin/sh
test "$CNI_COMMAND" = DEL || { echo started > `+c.dir+`/gate; exec /bin/sleep 1000; }
`)
	c.run(shell("t", "true"))
	gate, err := os.Open(filepath.Join(c.dir, "gate")) // blocks until the plugin runs
	if err != nil {
		t.Fatal(err)
	}
	gate.Close()
	c.killAgent()
	// The plugin of a dead agent goes on; here it is ended.
	procs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, p := range procs {
		if env, _ := os.ReadFile(p); strings.Contains(string(env), "CNI_PATH="+c.config.Plugins) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(p)))
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	c.startAgent()
	c.until("t", failed)
	c.empty()
}

func TestNetOperatorAPI(t *testing.T) {
	c := newCluster(t)
	c.run(shell("t", "echo first line; sleep 1000"))
	c.until("t", isUp)
	dir := filepath.Join(c.config.Work, "slaves/agent-1/frameworks/f-1/executors/t/runs/latest")
	deadline := time.Now().Add(time.Minute)
	for c.sandbox("t", "stdout") == "" && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path, body string
		code       int
		want       string
	}{
		{"/slave(1)/api/v1", `{"type":"GET_HEALTH"}`, 200, `{"type":"GET_HEALTH","get_health":{"healthy":true}}`},
		{"/slave(1)/api/v1", `{"type":"GET_VERSION"}`, 200, `"version":"1.12.0"`},
		{"/slave(1)/api/v1", `{"type":"GET_STATE"}`, 200, `"launched_tasks":[{"name":"t"`},
		{"/slave(1)/api/v1", `{"type":"GET_TASKS"}`, 200, `"status_update_state":`},
		{"/slave(1)/api/v1", `{"type":"GET_EXECUTORS"}`, 200, `"name":"Command Executor (Task: t) (Command: sh -c 'echo first l...')"`},
		{"/slave(1)/api/v1", `{"type":"GET_FRAMEWORKS"}`, 200, `"framework_info":{"user":"root","name":"test"`},
		{"/slave(1)/api/v1", `{"type":"GET_AGENT"}`, 200, `"agent_info":{"hostname":"node-1"`},
		{"/slave(1)/api/v1", `{"type":"GET_FLAGS"}`, 200, `{"name":"work_dir"`},
		{"/slave(1)/api/v1", `{"type":"GET_METRICS"}`, 200, `{"name":"slave/tasks_running","value":1.0}`},
		{"/slave(1)/api/v1", `{"type":"GET_CONTAINERS"}`, 200, `"mem_limit_bytes":33554432`},
		{"/slave(1)/api/v1", `{"type":"LIST_FILES","list_files":{"path":"` + dir + `"}}`, 200, `/stdout","nlink":1,"size":11`},
		{"/slave(1)/api/v1", `{"type":"READ_FILE","read_file":{"path":"` + dir + `/stdout","offset":6}}`, 200, `"size":11,"data":"bGluZQo="`},
		{"/slave(1)/api/v1", `{"type":"READ_FILE","read_file":{"path":"` + dir + `/link","offset":0}}`, 404, ``},
		{"/slave(1)/api/v1", `{"type":"LIST_FILES","list_files":{"path":"/etc"}}`, 404, ``},
		{"/slave(1)/api/v1", `{"type":"NO_SUCH"}`, 400, `Failed to validate agent::Call: Expecting 'type' to be present`},
		{"/slave(1)/api/v1", `{`, 400, `Failed to parse body into JSON: syntax error at line 1 near: `},
		{"/slave(1)/api/v1", `{"type":"LAUNCH_CONTAINER"}`, 501, `not supported`},
		{"/api/v1", `{"type":"GET_HEALTH"}`, 200, `"healthy":true`},
		{"/api/v1/executor", `{}`, 403, `403 Forbidden.`},
		{"/slave(1)/state", ``, 403, `403 Forbidden.`},
		{"/slave(1)/api/v1/executor", `{"type":"UPDATE"}`, 400, `Failed to convert JSON into Call protobuf: Missing required fields: executor_id, framework_id`},
		{"/slave(1)/api/v1/executor", `{"type":"MESSAGE","executor_id":{"value":"x"},"framework_id":{"value":"f-1"},"message":{"data":"AA=="}}`, 400, `Executor cannot be found`},
		{"/slave(1)/api/v1/executor", `{"type":"MESSAGE","executor_id":{"value":"x"},"framework_id":{"value":"x"},"message":{"data":"AA=="}}`, 400, `Framework cannot be found`},
	} {
		if code, text := c.call(test.path, test.body); code != test.code || !strings.Contains(text, test.want) {
			t.Errorf("%s %s: %d %s", test.path, test.body, code, text)
		}
	}
	c.kill("t", time.Second)
	c.until("t", killed)
	c.empty()
}

// TestNetSetUserID: what root in a container makes set-user-id is below a
// directory that other users of the host cannot pass.
func TestNetSetUserID(t *testing.T) {
	c := newCluster(t)
	c.run(shell("t", `cp /bin/busybox /suid; cp /bin/busybox /mnt/mesos/sandbox/suid; chmod 4755 /suid /mnt/mesos/sandbox/suid; chmod 777 / /mnt/mesos/sandbox; echo made; sleep 1000`))
	c.until("t", isUp)
	found := 0
	for deadline := time.Now().Add(time.Minute); !strings.Contains(c.sandbox("t", "stdout"), "made"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the task does nothing")
		}
	}
	err := filepath.WalkDir(c.config.Work, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil || info.Mode()&fs.ModeSetuid == 0 {
			return err
		}
		found++
		for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
			info, err := os.Stat(dir)
			if err != nil || info.Mode()&0o001 == 0 {
				return err
			}
			if dir == c.config.Work {
				t.Errorf("anyone can run %s", path)
				return nil
			}
		}
	})
	if err != nil || found != 2 {
		t.Errorf("found %d programs, want 2: %v", found, err)
	}
}

// TestNetPluginKilled: what a plugin leaves that is killed in the middle of DEL
// is removed without a new start of the agent, and without a wait of the task.
func TestNetPluginKilled(t *testing.T) {
	c := newCluster(t)
	c.write("plugins/script", `#!/bin/sh
test "$CNI_COMMAND" = DEL || { echo '{"cniVersion":"0.2.0","ip4":{"ip":"10.32.0.7/20"}}'; exit; }
mkdir `+c.dir+`/killed 2>/dev/null && kill -9 $$
exit 0
`)
	c.run(shell("t", "true"))
	c.until("t", finished)
	c.empty()
	if _, err := os.Stat(filepath.Join(c.dir, "killed")); err != nil {
		t.Error("the plugin was not killed")
	}
}
