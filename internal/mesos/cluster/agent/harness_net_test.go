//go:build net

package agent

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	"github.com/contrail-mesos/contrail/api/contrail/mesos/v1/mesosclusterv1connect"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	agentv1 "github.com/contrail-mesos/contrail/api/mesos/v1/agent"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/container"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// cluster is an agent process with a master that the test plays.
type cluster struct {
	mesosclusterv1connect.UnimplementedClusterHandler
	t      *testing.T
	dir    string
	config childConfig
	agent  *exec.Cmd

	mu        sync.Mutex
	session   *connect.BidiStream[clusterv1.AgentMessage, clusterv1.MasterMessage]
	registers []*clusterv1.Register
	updates   []*clusterv1.StatusUpdate
	exited    []*clusterv1.ExecutorExited
	hold      bool // updates are not acknowledged
	changed   chan struct{}
}

// Agent plays the master's side of a session.
func (c *cluster) Agent(ctx context.Context, stream *connect.BidiStream[clusterv1.AgentMessage, clusterv1.MasterMessage]) error {
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.registers = append(c.registers, first.GetRegister())
	id := first.GetRegister().GetAgent().GetId()
	if id == nil {
		id = &mesosv1.AgentID{Value: proto.String("agent-1")}
	}
	err = stream.Send(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_Registered{Registered: &clusterv1.Registered{AgentId: id}}})
	c.session = stream
	c.signal()
	c.mu.Unlock()
	for err == nil {
		var m *clusterv1.AgentMessage
		if m, err = stream.Receive(); err != nil {
			break
		}
		c.mu.Lock()
		if e := m.GetExecutorExited(); e != nil {
			c.exited = append(c.exited, e)
			c.signal()
		}
		if u := m.GetStatusUpdate(); u != nil {
			c.updates = append(c.updates, u)
			if !c.hold && len(u.GetStatus().GetUuid()) > 0 {
				err = stream.Send(acknowledge(u))
			}
			c.signal()
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == stream {
		c.session = nil
		c.signal()
	}
	return nil
}

func acknowledge(u *clusterv1.StatusUpdate) *clusterv1.MasterMessage {
	return &clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_Acknowledge{Acknowledge: &clusterv1.Acknowledge{
		FrameworkId: u.GetFrameworkId(), TaskId: u.GetStatus().GetTaskId(), Uuid: u.GetStatus().GetUuid(),
	}}}
}

func (c *cluster) signal() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// wait until ok, which is called with the lock held.
func (c *cluster) wait(what string, ok func() bool) {
	c.t.Helper()
	deadline := time.After(time.Minute)
	for {
		c.mu.Lock()
		done, changed := ok(), c.changed
		c.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			log, _ := os.ReadFile(filepath.Join(c.dir, "agent.log"))
			c.t.Fatalf("no %s; updates:\n%s\nlog of the agent:\n%s", what, c.history(), log)
		}
	}
}

func (c *cluster) history() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, u := range c.updates {
		fmt.Fprintf(&b, "%s\n", codec.MarshalJSON(u.GetStatus()))
	}
	return b.String()
}

// newCluster starts the master and the agent, with an image "box" of busybox
// and a network "blue" whose plugin is a script.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root")
	}
	dir, err := os.MkdirTemp("", "agent") // sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: dir, changed: make(chan struct{})}
	t.Cleanup(c.cleanUp)
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	c.config = childConfig{
		Master: at("master.sock"), Socket: at("agent.sock"), Work: at("work"), Runtime: at("run"), Registry: at("registry"),
		Conf: at("conf"), Plugins: at("plugins"), Cgroups: "contrail-test-" + uuid.NewString() + "/node",
	}
	for _, d := range []string{"registry", "conf", "plugins", "calls"} {
		if err := os.Mkdir(at(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.write("conf/blue.conf", `{"name":"blue","cniVersion":"0.2.0","type":"script"}`)
	c.write("plugins/script", `#!/bin/sh
echo "$CNI_COMMAND $CNI_CONTAINERID" >> `+at("calls/log")+`
test "$CNI_COMMAND" = DEL || echo '{"cniVersion":"0.2.0","ip4":{"ip":"10.32.0.7/20"},"dns":{"nameservers":["10.32.0.2"]}}'
`)
	if err := os.Chmod(at("plugins/script"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.buildImage()
	listener, err := net.Listen("unix", c.config.Master)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(mesosclusterv1connect.NewClusterHandler(c))
	server := &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	t.Cleanup(func() { server.Close(); <-done })
	c.startAgent()
	return c
}

func (c *cluster) write(path, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, path), []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) buildImage() {
	c.t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		c.t.Fatalf("busybox-static is needed: %v", err)
	}
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	w.WriteHeader(&tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(busybox))})
	w.Write(busybox)
	for _, applet := range []string{"sh", "cat", "sleep", "hostname", "env", "true"} {
		w.WriteHeader(&tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"})
	}
	if err := w.Close(); err != nil {
		c.t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buffer.Bytes())), nil })
	if err != nil {
		c.t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err == nil {
		img, err = mutate.Config(img, v1.Config{Env: []string{"PATH=/bin", "FROM=image", "BOTH=image"}, Entrypoint: []string{"/bin/sh", "-c"}, Cmd: []string{"echo default"}})
	}
	if err != nil {
		c.t.Fatal(err)
	}
	tag, err := name.NewTag("box")
	if err != nil {
		c.t.Fatal(err)
	}
	if err := tarball.WriteToFile(filepath.Join(c.config.Registry, "box.tar"), tag, img); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) startAgent() {
	c.t.Helper()
	text, err := json.Marshal(c.config)
	if err != nil {
		c.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(c.dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	c.mu.Lock()
	before := len(c.registers)
	c.mu.Unlock()
	c.agent = exec.Command("/proc/self/exe", "agent", string(text))
	c.agent.Stdout, c.agent.Stderr = log, log
	if err := c.agent.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.wait("registration", func() bool { return len(c.registers) > before && c.session != nil })
}

// killAgent as kill -9 does.
func (c *cluster) killAgent() {
	c.t.Helper()
	if err := c.agent.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	c.agent.Wait()
	c.wait("end of the session", func() bool { return c.session == nil })
}

// cleanUp works also after a failed test.
func (c *cluster) cleanUp() {
	if c.agent != nil {
		c.agent.Process.Kill()
		c.agent.Wait()
	}
	records, _ := filepath.Glob(filepath.Join(c.config.Work, "meta/tasks/*.json"))
	for _, path := range records {
		if t, err := readRecord(path); err == nil && t.pid != 0 {
			if fd, err := openProcess(t.pid, t.started); err == nil {
				killProcess(fd)
				unix.Close(fd)
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), 10*time.Second)
	defer cancel()
	groups, _ := container.ListGroups(c.config.Cgroups)
	for _, g := range groups {
		container.OpenGroup(filepath.Join(c.config.Cgroups, g)).Destroy(ctx)
	}
	container.OpenGroup(c.config.Cgroups).Destroy(ctx)
	container.OpenGroup(filepath.Dir(c.config.Cgroups)).Destroy(ctx)
	mounts, _ := filepath.Glob(filepath.Join(c.config.Runtime, "isolators/network/cni/*/ns"))
	for _, m := range mounts {
		unix.Unmount(m, unix.MNT_DETACH)
	}
	os.RemoveAll(c.dir)
}

func (c *cluster) tell(m *clusterv1.MasterMessage) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		c.t.Fatal("no session")
	}
	if err := c.session.Send(m); err != nil {
		c.t.Fatal(err)
	}
}

var testFramework = &mesosv1.FrameworkInfo{
	User: proto.String("root"), Name: proto.String("test"), Id: &mesosv1.FrameworkID{Value: proto.String("f-1")}, Checkpoint: proto.Bool(true),
	Capabilities: []*mesosv1.FrameworkInfo_Capability{
		{Type: mesosv1.FrameworkInfo_Capability_TASK_KILLING_STATE.Enum()}, {Type: mesosv1.FrameworkInfo_Capability_PARTITION_AWARE.Enum()},
	},
}

// shell is a task in image "box" on network "blue"; changes apply in order.
func shell(id, command string, changes ...func(*mesosv1.TaskInfo)) *mesosv1.TaskInfo {
	scalar := func(name string, value float64) *mesosv1.Resource {
		return &mesosv1.Resource{Name: proto.String(name), Type: mesosv1.Value_SCALAR.Enum(), Scalar: &mesosv1.Value_Scalar{Value: proto.Float64(value)}}
	}
	info := &mesosv1.TaskInfo{
		Name: proto.String(id), TaskId: &mesosv1.TaskID{Value: proto.String(id)}, AgentId: &mesosv1.AgentID{Value: proto.String("agent-1")},
		Resources: []*mesosv1.Resource{scalar("cpus", 0.5), scalar("mem", 32)},
		Command: &mesosv1.CommandInfo{Value: proto.String(command), Environment: &mesosv1.Environment{
			Variables: []*mesosv1.Environment_Variable{{Name: proto.String("BOTH"), Value: proto.String("task")}},
		}},
		Container: &mesosv1.ContainerInfo{
			Type:         mesosv1.ContainerInfo_MESOS.Enum(),
			Mesos:        &mesosv1.ContainerInfo_MesosInfo{Image: &mesosv1.Image{Type: mesosv1.Image_DOCKER.Enum(), Docker: &mesosv1.Image_Docker{Name: proto.String("box")}}},
			NetworkInfos: []*mesosv1.NetworkInfo{{Name: proto.String("blue"), Labels: &mesosv1.Labels{Labels: []*mesosv1.Label{{Key: proto.String("a"), Value: proto.String("b")}}}}},
		},
	}
	for _, change := range changes {
		change(info)
	}
	return info
}

func (c *cluster) run(info *mesosv1.TaskInfo) {
	c.t.Helper()
	c.tell(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_Run{Run: &clusterv1.Run{Framework: testFramework, What: &clusterv1.Run_Task{Task: info}}}})
}

func (c *cluster) kill(id string, grace time.Duration) {
	c.t.Helper()
	c.tell(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_Kill{Kill: &clusterv1.Kill{
		FrameworkId: testFramework.GetId(), TaskId: &mesosv1.TaskID{Value: proto.String(id)},
		KillPolicy: &mesosv1.KillPolicy{GracePeriod: &mesosv1.DurationInfo{Nanoseconds: proto.Int64(int64(grace))}},
	}}})
}

// until waits for an update of the task with the state, and returns it.
func (c *cluster) until(id string, state mesosv1.TaskState) *mesosv1.TaskStatus {
	c.t.Helper()
	var found *mesosv1.TaskStatus
	c.wait(state.String()+" of "+id, func() bool {
		for _, u := range c.updates {
			s := u.GetStatus()
			if s.GetTaskId().GetValue() != id {
				continue
			}
			if s.GetState() == state {
				found = s
				return true
			}
			if terminal(s.GetState()) {
				c.t.Errorf("%s became %s (%s): %s", id, s.GetState(), s.GetReason(), s.GetMessage())
				found = s
				return true
			}
		}
		return false
	})
	return found
}

// states of a task in the order of their updates, repetitions left out.
func (c *cluster) states(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	seen := map[string]bool{}
	for _, u := range c.updates {
		if s := u.GetStatus(); s.GetTaskId().GetValue() == id && !seen[string(s.GetUuid())] {
			seen[string(s.GetUuid())] = true
			all = append(all, strings.TrimPrefix(s.GetState().String(), "TASK_"))
		}
	}
	return strings.Join(all, " ")
}

// empty waits until nothing is left of any container.
func (c *cluster) empty() {
	c.t.Helper()
	var left []string
	deadline := time.Now().Add(time.Minute)
	for ; ; time.Sleep(20 * time.Millisecond) { // what others than this process own cannot be waited for
		left = c.inventory()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(c.dir, "agent.log"))
			c.t.Fatalf("left behind:\n%s\nlog of the agent:\n%s", strings.Join(left, "\n"), log)
		}
	}
}

// inventory of everything that a container has, but its sandbox.
func (c *cluster) inventory() []string {
	var left []string
	for _, pattern := range []string{"run/containers/*", "run/isolators/network/cni/*", "work/containers/*", "work/meta/tasks/*", "work/images/holders/*", "work/images/tmp/*"} {
		found, _ := filepath.Glob(filepath.Join(c.dir, pattern))
		left = append(left, found...)
	}
	groups, err := container.ListGroups(c.config.Cgroups)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, g := range groups {
		if g != executorsGroup {
			left = append(left, "cgroup "+g)
		}
	}
	out, err := exec.Command("findmnt", "-rno", "TARGET").Output()
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, c.dir) {
			left = append(left, "mount "+line)
		}
	}
	// Executors and inits are found by their binary, and by the directory that
	// only this cluster has.
	self, _ := os.Readlink("/proc/self/exe")
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || pid == c.agent.Process.Pid {
			continue
		}
		exe, _ := os.Readlink("/proc/" + e.Name() + "/exe")
		command, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if exe == self && (bytes.Contains(command, []byte(c.dir)) || bytes.Contains(command, []byte("container-init"))) {
			left = append(left, fmt.Sprintf("process %d: %q", pid, command))
		}
	}
	return left
}

// call of the operator API over the agent's socket.
func (c *cluster) call(path, body string) (int, string) {
	c.t.Helper()
	client, base, err := serve.Client("unix:"+c.config.Socket, nil, false)
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	response, err := client.Post(base+path, "application/json", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// containers waits until the agent has n of them.
func (c *cluster) containers(n int) []*agentv1.Response_GetContainers_Container {
	c.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for ; ; time.Sleep(10 * time.Millisecond) {
		code, text := c.call("/slave(1)/api/v1", `{"type":"GET_CONTAINERS"}`)
		var answer agentv1.Response
		if err := codec.UnmarshalJSON([]byte(text), &answer); code != 200 || err != nil {
			c.t.Fatalf("GET_CONTAINERS: %d %s %v", code, text, err)
		}
		if all := answer.GetGetContainers().GetContainers(); len(all) == n {
			return all
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("containers are not %d: %s", n, text)
		}
	}
}

// settled waits until the agent has all acknowledgements on disk.
func (c *cluster) settled() {
	c.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for ; ; time.Sleep(10 * time.Millisecond) {
		records, err := filepath.Glob(filepath.Join(c.config.Work, "meta/tasks/*.json"))
		if err != nil {
			c.t.Fatal(err)
		}
		open := 0
		for _, path := range records {
			if t, err := readRecord(path); err == nil && t.acknowledged < len(t.statuses) {
				open++
			}
		}
		if open == 0 {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%d tasks have unacknowledged updates", open)
		}
	}
}

// sandbox is what a task's newest sandbox has in a file.
func (c *cluster) sandbox(id, file string) string {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.config.Work, "slaves/agent-1/frameworks/f-1/executors", id, "runs/latest", file))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data)
}
