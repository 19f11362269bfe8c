package executor

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	executorv1 "github.com/contrail-mesos/contrail/api/mesos/v1/executor"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/container"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeAgent plays the agent's side; the test decides what it answers.
type fakeAgent struct {
	t      *testing.T
	socket string
	server *http.Server
	done   chan struct{}

	mu         sync.Mutex
	subscribes []*executorv1.Call_Subscribe
	updates    []*mesosv1.TaskStatus
	refuse     int                    // status of the answer to the next calls
	events     chan *executorv1.Event // of the newest subscription
	changed    chan struct{}
}

func newAgent(t *testing.T) *fakeAgent {
	t.Helper()
	dir, err := os.MkdirTemp("", "executor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a := &fakeAgent{t: t, socket: filepath.Join(dir, "s"), changed: make(chan struct{})}
	a.start()
	t.Cleanup(a.stop)
	return a
}

func (a *fakeAgent) start() {
	a.t.Helper()
	os.Remove(a.socket)
	l, err := net.Listen("unix", a.socket)
	if err != nil {
		a.t.Fatal(err)
	}
	a.server, a.done = &http.Server{Handler: a}, make(chan struct{})
	go func() { defer close(a.done); a.server.Serve(l) }()
}

func (a *fakeAgent) stop() {
	a.server.Close()
	<-a.done
}

func (a *fakeAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := &executorv1.Call{}
	if err := codec.ReadCall(w, r, 1<<20, call); err != nil {
		codec.WriteError(w, err)
		return
	}
	a.mu.Lock()
	if r.URL.Path != "/slave(1)/api/v1/executor" || call.GetExecutorId().GetValue() != "e" || call.GetFrameworkId().GetValue() != "f" {
		a.t.Errorf("call to %s: %s", r.URL.Path, codec.MarshalJSON(call))
	}
	if a.refuse != 0 {
		a.mu.Unlock()
		codec.WriteError(w, codec.Errorf(a.refuse, "Executor cannot be found"))
		return
	}
	if call.GetType() == executorv1.Call_UPDATE {
		a.updates = append(a.updates, call.GetUpdate().GetStatus())
		a.signal()
		a.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
		return
	}
	events := make(chan *executorv1.Event, 16)
	a.subscribes, a.events = append(a.subscribes, call.GetSubscribe()), events
	a.signal()
	a.mu.Unlock()
	records := codec.NewRecordWriter(w, codec.JSON, codec.JSON.String())
	records.Write(&executorv1.Event{Type: executorv1.Event_SUBSCRIBED.Enum(), Subscribed: &executorv1.Event_Subscribed{
		ExecutorInfo:  &mesosv1.ExecutorInfo{ExecutorId: &mesosv1.ExecutorID{Value: proto.String("e")}},
		FrameworkInfo: &mesosv1.FrameworkInfo{User: proto.String("root"), Name: proto.String("f")},
		AgentInfo:     &mesosv1.AgentInfo{Hostname: proto.String("h")},
	}})
	for {
		select {
		case <-r.Context().Done():
			return
		case e := <-events:
			if e == nil || records.Write(e) != nil {
				return
			}
		}
	}
}

func (a *fakeAgent) signal() {
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *fakeAgent) wait(what string, ok func() bool) {
	a.t.Helper()
	deadline := time.After(time.Minute)
	for {
		a.mu.Lock()
		done, changed := ok(), a.changed
		a.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			a.t.Fatalf("no %s", what)
		}
	}
}

func (a *fakeAgent) send(e *executorv1.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events <- e
}

func acknowledged(s *mesosv1.TaskStatus) *executorv1.Event {
	return &executorv1.Event{Type: executorv1.Event_ACKNOWLEDGED.Enum(), Acknowledged: &executorv1.Event_Acknowledged{TaskId: s.GetTaskId(), Uuid: s.GetUuid()}}
}

var launch = &executorv1.Event{Type: executorv1.Event_LAUNCH.Enum(), Launch: &executorv1.Event_Launch{Task: &mesosv1.TaskInfo{
	Name: proto.String("t"), TaskId: &mesosv1.TaskID{Value: proto.String("t")}, AgentId: &mesosv1.AgentID{Value: proto.String("a")},
}}}

// begin runs an executor whose container cannot start, which needs no rights.
func begin(t *testing.T, a *fakeAgent, timeout time.Duration) <-chan error {
	t.Helper()
	dir := t.TempDir()
	plan, err := json.Marshal(Plan{Spec: container.Spec{ID: "c"}, Stdout: filepath.Join(dir, "stdout"), Stderr: filepath.Join(dir, "stderr")})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, PlanFile), plan, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := New(slog.New(slog.DiscardHandler), Config{
		Socket: a.socket, Path: "/slave(1)/api/v1/executor", FrameworkID: "f", ExecutorID: "e", Dir: dir,
		Init: []string{"/nowhere"}, RecoveryTimeout: timeout, BackoffMax: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	stopped := make(chan struct{})
	go func() { defer close(stopped); ended <- e.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-stopped })
	return ended
}

func end(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("executor does not end")
		return nil
	}
}

// Updates that were not acknowledged come again with the next subscription,
// and the executor ends when the last one is acknowledged.
func TestResubscription(t *testing.T) {
	a := newAgent(t)
	ended := begin(t, a, time.Minute)
	a.wait("subscription", func() bool { return len(a.subscribes) == 1 })
	a.send(launch)
	a.wait("updates", func() bool { return len(a.updates) == 2 })
	a.stop()
	a.start()
	a.wait("second subscription", func() bool { return len(a.subscribes) == 2 })
	again := a.subscribes[1]
	if len(again.GetUnacknowledgedTasks()) != 1 || len(again.GetUnacknowledgedUpdates()) != 2 ||
		string(again.GetUnacknowledgedUpdates()[1].GetStatus().GetUuid()) != string(a.updates[1].GetUuid()) {
		t.Errorf("second subscription: %s", codec.MarshalJSON(again))
	}
	a.send(launch) // an agent may not know that it was launched
	a.send(acknowledged(a.updates[0]))
	a.send(&executorv1.Event{Type: executorv1.Event_KILL.Enum(), Kill: &executorv1.Event_Kill{TaskId: launch.Launch.Task.TaskId}})
	a.send(acknowledged(a.updates[1]))
	if err := end(t, ended); err != nil {
		t.Error(err)
	}
	first, last := a.updates[0], a.updates[1]
	if len(a.updates) != 2 || first.GetState() != mesosv1.TaskState_TASK_STARTING || last.GetState() != mesosv1.TaskState_TASK_FAILED ||
		last.GetReason() != mesosv1.TaskStatus_REASON_COMMAND_EXECUTOR_FAILED || !strings.HasPrefix(last.GetMessage(), "Failed to launch command: start container c:") {
		t.Errorf("updates: %s", a.updates)
	}
	if id, err := uuid.FromBytes(last.GetUuid()); err != nil || id.Variant() != uuid.RFC4122 || last.GetSource() != mesosv1.TaskStatus_SOURCE_EXECUTOR {
		t.Errorf("update: %s", codec.MarshalJSON(last))
	}
}

func TestEnds(t *testing.T) {
	a := newAgent(t)
	ended := begin(t, a, time.Minute)
	a.wait("subscription", func() bool { return len(a.subscribes) == 1 })
	a.send(&executorv1.Event{Type: executorv1.Event_SHUTDOWN.Enum()})
	if err := end(t, ended); err != nil {
		t.Errorf("shut down before the launch: %v", err)
	}
	a.mu.Lock()
	a.refuse = http.StatusBadRequest
	a.mu.Unlock()
	if err := end(t, begin(t, a, time.Minute)); err == nil || !strings.Contains(err.Error(), "does not know this executor") {
		t.Errorf("unknown to the agent: %v", err)
	}
	a.mu.Lock()
	a.refuse = http.StatusServiceUnavailable // recovering: the executor waits
	a.mu.Unlock()
	if err := end(t, begin(t, a, 200*time.Millisecond)); err == nil || !strings.Contains(err.Error(), "agent was away for") {
		t.Errorf("agent stays away: %v", err)
	}
}

func TestDescribe(t *testing.T) {
	for status, want := range map[container.Status]string{
		{}: "Command exited with status 0", {Code: 3}: "Command exited with status 3", {Signal: 9}: "Command terminated with signal Killed",
		{Signal: 15}: "Command terminated with signal Terminated", {Signal: 11}: "Command terminated with signal Segmentation fault",
	} {
		if got, ok := describe(status); got != want || ok != (status == container.Status{}) {
			t.Errorf("%+v: %q %v", status, got, ok)
		}
	}
}
