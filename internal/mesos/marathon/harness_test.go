package marathon

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	"github.com/contrail-mesos/contrail/api/contrail/mesos/v1/mesosclusterv1connect"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/lifecycle"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/master"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// harness is a real master on TLS, a Marathon that uses it, and its REST API on
// plain HTTP as the administrator.
type harness struct {
	t         *testing.T
	authority *ctls.Authority
	dir       string
	master    string
	marathon  *Marathon
	url       string
	launching time.Duration // the launch timeout; 0 means the default
	stop      func()
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	t.Parallel()
	authority, err := ctls.OpenAuthority(filepath.Join(t.TempDir(), "ca"))
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, authority: authority, dir: t.TempDir()}
	h.startMaster()
	h.startMarathon()
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *harness) credentials(role, node string) *ctls.Credentials {
	h.t.Helper()
	dir := filepath.Join(h.dir, "tls", role+node)
	if err := h.authority.Issue(dir, role, node); err != nil {
		h.t.Fatal(err)
	}
	credentials, err := ctls.LoadCredentials(dir)
	if err != nil {
		h.t.Fatal(err)
	}
	return credentials
}

func (h *harness) startMaster() {
	h.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.master = l.Addr().String()
	l.Close()
	log := slog.New(slog.DiscardHandler)
	m, err := master.New(log, master.Config{
		WorkDir: filepath.Join(h.dir, "master"), Address: h.master, Version: "1.12.0", AllocationInterval: 20 * time.Millisecond,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	server, err := serve.Listen(log, serve.Config{TLS: h.master, Credentials: h.credentials(ctls.RoleMaster, "")}, m.Handler())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(run(h.t, log, server.Run, m.Run))
}

// run starts parts and returns what stops them.
func run(t *testing.T, log *slog.Logger, parts ...func(context.Context) error) func() {
	group := lifecycle.New(log)
	for _, part := range parts {
		group.Add("part", part)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- group.Wait(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (h *harness) startMarathon() {
	h.t.Helper()
	client, base, err := serve.Client(h.master, h.credentials(ctls.RoleMarathon, ""), false, ctls.RoleMaster)
	if err != nil {
		h.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	m, err := New(log, Config{Client: client, URL: base, StateDir: filepath.Join(h.dir, "marathon"), Hostname: "localhost", Version: "1.11.0", LaunchTimeout: h.launching})
	if err != nil {
		h.t.Fatal(err)
	}
	handler := m.Handler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := serve.WithCaller(r.Context(), serve.Caller{Identity: ctls.Identity{Role: ctls.RoleAdmin}, Via: "open"})
		handler.ServeHTTP(w, r.WithContext(ctx))
	}))
	stop := run(h.t, log, m.Run)
	h.marathon, h.url = m, server.URL
	h.stop = sync.OnceFunc(func() {
		stop()
		server.Close()
		client.CloseIdleConnections()
		http.DefaultClient.CloseIdleConnections()
	})
}

// agent runs every task at once, in memory: the first word of its command says
// how it goes.
type agent struct {
	mu      sync.Mutex
	stream  *connect.BidiStreamForClient[clusterv1.AgentMessage, clusterv1.MasterMessage]
	id      *mesosv1.AgentID
	runs    []*clusterv1.Run
	running map[string]bool
}

func (h *harness) agent(hostname string) *agent {
	h.t.Helper()
	node := uuid.NewString()
	client, base, err := serve.Client(h.master, h.credentials(ctls.RoleNode, node), true, ctls.RoleMaster)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream := mesosclusterv1connect.NewClusterClient(client, base, connect.WithGRPC()).Agent(ctx)
	info := &mesosv1.AgentInfo{}
	text := `{"hostname":"` + hostname + `","resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":2}},
	 {"name":"mem","type":"SCALAR","scalar":{"value":2048}},{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":31000,"end":31099}]}}],
	 "attributes":[{"name":"rack","type":"TEXT","text":{"value":"r1"}}]}`
	if err := codec.UnmarshalJSON([]byte(text), info); err != nil {
		h.t.Fatal(err)
	}
	a := &agent{stream: stream, running: map[string]bool{}}
	a.send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_Register{Register: &clusterv1.Register{
		Agent: info, Version: proto.String("1.12.0"), Address: proto.String("127.0.0.1:5051"),
	}}})
	first, err := stream.Receive()
	if err != nil {
		h.t.Fatal(err)
	}
	a.id = first.GetRegistered().GetAgentId()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := stream.Receive()
			if err != nil {
				return
			}
			a.handle(m)
		}
	}()
	h.t.Cleanup(func() {
		cancel()
		stream.CloseRequest()
		stream.CloseResponse()
		<-done
		client.CloseIdleConnections()
	})
	return a
}

func (a *agent) send(m *clusterv1.AgentMessage) { _ = a.stream.Send(m) } // a broken stream is seen by Receive

func (a *agent) handle(m *clusterv1.MasterMessage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch body := m.GetBody().(type) {
	case *clusterv1.MasterMessage_Run:
		a.runs = append(a.runs, body.Run)
		task, framework := body.Run.GetTask().GetTaskId(), body.Run.GetFramework().GetId()
		if strings.HasPrefix(body.Run.GetTask().GetCommand().GetValue(), "fail") {
			a.report(framework, task, mesosv1.TaskState_TASK_FAILED, "The CNI plugin failed: no address left in blue")
			return
		}
		if strings.HasPrefix(body.Run.GetTask().GetCommand().GetValue(), "hang") && len(a.runs) == 1 {
			return // nothing is heard of the first one
		}
		a.running[task.GetValue()] = true
		a.report(framework, task, mesosv1.TaskState_TASK_STARTING, "")
		a.report(framework, task, mesosv1.TaskState_TASK_RUNNING, "")
	case *clusterv1.MasterMessage_Kill:
		if !a.running[body.Kill.GetTaskId().GetValue()] {
			return
		}
		delete(a.running, body.Kill.GetTaskId().GetValue())
		a.report(body.Kill.GetFrameworkId(), body.Kill.GetTaskId(), mesosv1.TaskState_TASK_KILLED, "Command terminated with signal Terminated")
	case *clusterv1.MasterMessage_Ping:
		a.send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_Pong{Pong: &clusterv1.Pong{}}})
	}
}

func (a *agent) report(framework *mesosv1.FrameworkID, task *mesosv1.TaskID, state mesosv1.TaskState, message string) {
	id := uuid.New()
	status := &mesosv1.TaskStatus{
		TaskId: task, State: &state, Source: mesosv1.TaskStatus_SOURCE_EXECUTOR.Enum(), AgentId: a.id, Timestamp: proto.Float64(1), Uuid: id[:],
	}
	if message != "" {
		status.Message = &message
	}
	if state == mesosv1.TaskState_TASK_RUNNING {
		status.ContainerStatus = &mesosv1.ContainerStatus{NetworkInfos: []*mesosv1.NetworkInfo{{
			Name: proto.String("contrail"), IpAddresses: []*mesosv1.NetworkInfo_IPAddress{{Protocol: mesosv1.NetworkInfo_IPv4.Enum(), IpAddress: proto.String("10.32.0.7")}},
		}}}
	}
	a.send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_StatusUpdate{StatusUpdate: &clusterv1.StatusUpdate{
		FrameworkId: framework, Status: status, LatestState: &state,
	}}})
}

// count is how many tasks run, and were ever run.
func (a *agent) count() (running, ever int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.running), len(a.runs)
}

// do makes a request and decodes the answer, whose status must be want.
func (h *harness) do(method, path, body string, want int) map[string]any {
	h.t.Helper()
	request, err := http.NewRequest(method, h.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		h.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	if response.StatusCode != want {
		h.t.Fatalf("%s %s: %s: %s, want %d", method, path, response.Status, data, want)
	}
	answer := map[string]any{}
	if len(data) > 0 && data[0] == '{' {
		if err := json.Unmarshal(data, &answer); err != nil {
			h.t.Fatal(err)
		}
	}
	if len(data) > 0 && data[0] == '[' {
		var list []any
		if err := json.Unmarshal(data, &list); err != nil {
			h.t.Fatal(err)
		}
		answer["list"] = list
	}
	return answer
}

// eventually waits until check is true.
func (h *harness) eventually(what string, check func() bool) {
	h.t.Helper()
	deadline := time.After(patience)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !check() {
		select {
		case <-deadline:
			h.t.Fatalf("never: %s; apps %v", what, h.do("GET", "/v2/apps?embed=apps.tasks&embed=apps.lastTaskFailure", "", 200))
		case <-poll.C:
		}
	}
}

func (h *harness) deployed() {
	h.t.Helper()
	h.eventually("no deployment left", func() bool { return len(h.do("GET", "/v2/deployments", "", 200)["list"].([]any)) == 0 })
}
