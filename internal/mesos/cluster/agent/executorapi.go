package agent

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	executorv1 "github.com/contrail-mesos/contrail/api/mesos/v1/executor"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// executorStream is an executor's subscription.
type executorStream struct {
	events chan *executorv1.Event
	cancel context.CancelFunc
}

// send never blocks; an executor that does not read for so long is cut off and
// subscribes again.
func (s *executorStream) send(e *executorv1.Event) {
	select {
	case s.events <- e:
	default:
		s.cancel()
	}
}

const (
	maxCall = 8 << 20
	// heartbeat keeps a subscription from looking dead.
	heartbeat = 15 * time.Second
)

// serveExecutor is POST /slave(1)/api/v1/executor.
func (a *Agent) serveExecutor(w http.ResponseWriter, r *http.Request) {
	call := &executorv1.Call{}
	if err := codec.ReadCall(w, r, maxCall, call); err != nil {
		codec.WriteError(w, err)
		return
	}
	if err := validateCall(call); err != nil {
		codec.WriteError(w, err)
		return
	}
	t, err := a.executorOf(call)
	if err != nil {
		codec.WriteError(w, err)
		return
	}
	switch call.GetType() {
	case executorv1.Call_SUBSCRIBE:
		accept, err := codec.ResponseType(r)
		if err != nil {
			codec.WriteError(w, err)
			return
		}
		a.subscribe(w, r, accept, t, call.GetSubscribe())
		return
	case executorv1.Call_UPDATE:
		t.mu.Lock()
		err := a.fromExecutor(t, call.GetUpdate().GetStatus())
		t.mu.Unlock()
		if err != nil {
			codec.WriteError(w, codec.Errorf(http.StatusInternalServerError, "Failed to store the update: %v", err))
			return
		}
	case executorv1.Call_MESSAGE:
		a.tell(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_ExecutorMessage{ExecutorMessage: &clusterv1.ExecutorMessage{
			FrameworkId: call.GetFrameworkId(), ExecutorId: call.GetExecutorId(), Data: call.GetMessage().GetData(),
		}}})
	}
	w.WriteHeader(http.StatusAccepted)
}

// validateCall has Mesos's rules and texts.
func validateCall(call *executorv1.Call) error {
	invalid := func(text string) error {
		return codec.Errorf(http.StatusBadRequest, "Failed to validate Executor::Call: %s", text)
	}
	switch call.GetType() {
	case executorv1.Call_SUBSCRIBE:
		if call.Subscribe == nil {
			return invalid("Expecting 'subscribe' to be present")
		}
	case executorv1.Call_UPDATE:
		if call.Update == nil {
			return invalid("Expecting 'update' to be present")
		}
		return validateStatus(call, call.GetUpdate().GetStatus(), invalid)
	case executorv1.Call_MESSAGE:
		if call.Message == nil {
			return invalid("Expecting 'message' to be present")
		}
	case executorv1.Call_HEARTBEAT:
	default:
		return invalid("Expecting 'type' to be present")
	}
	return nil
}

func validateStatus(call *executorv1.Call, s *mesosv1.TaskStatus, invalid func(string) error) error {
	if s.Uuid == nil {
		return invalid("Expecting 'uuid' to be present")
	}
	id, err := uuid.FromBytes(s.GetUuid())
	if err != nil || id.Variant() != uuid.RFC4122 || id.Version() < 1 || id.Version() > 5 {
		return invalid("Not a valid UUID")
	}
	who := "executor " + call.GetExecutorId().GetValue() + " of framework " + call.GetFrameworkId().GetValue()
	if s.Source == nil || s.GetSource() != mesosv1.TaskStatus_SOURCE_EXECUTOR {
		return invalid("Received Call from " + who + " with invalid source, expecting 'SOURCE_EXECUTOR'")
	}
	if s.GetState() == mesosv1.TaskState_TASK_STAGING {
		return invalid("Received TASK_STAGING from " + who + " which is not allowed")
	}
	return nil
}

func (a *Agent) executorOf(call *executorv1.Call) (*task, error) {
	framework := call.GetFrameworkId().GetValue()
	t := a.find(framework, call.GetExecutorId().GetValue())
	if t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.phase != ended {
			return t, nil
		}
	}
	for _, other := range a.current() {
		if other.frameworkID() == framework {
			return nil, codec.Errorf(http.StatusBadRequest, "Executor cannot be found")
		}
	}
	return nil, codec.Errorf(http.StatusBadRequest, "Framework cannot be found")
}

// subscribe streams events until the executor or the agent goes.
func (a *Agent) subscribe(w http.ResponseWriter, r *http.Request, accept codec.Type, t *task, call *executorv1.Call_Subscribe) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s := &executorStream{events: make(chan *executorv1.Event, 64), cancel: cancel}
	t.mu.Lock()
	if t.stream != nil {
		t.stream.cancel() // the executor has left it, or will
	}
	t.stream, t.subscribed = s, true
	s.send(&executorv1.Event{Type: executorv1.Event_SUBSCRIBED.Enum(), Subscribed: &executorv1.Event_Subscribed{
		ExecutorInfo: a.executorInfo(t), FrameworkInfo: t.framework, AgentInfo: a.info(),
		ContainerId: &mesosv1.ContainerID{Value: proto.String(t.cid)},
	}})
	for _, update := range call.GetUnacknowledgedUpdates() {
		if err := a.fromExecutor(t, update.GetStatus()); err != nil {
			cancel() // it subscribes again, with all of them
		}
	}
	// What the executor does not have was lost on the way, unless it has said
	// something of the task.
	has := len(t.statuses) > 0 || len(call.GetUnacknowledgedTasks()) > 0
	if !has {
		s.send(&executorv1.Event{Type: executorv1.Event_LAUNCH.Enum(), Launch: &executorv1.Event_Launch{Task: t.info}})
	}
	if !t.launched {
		t.launched = true
		if err := a.save(t); err != nil {
			a.log.Error("record of task is out of date", "task", t.id(), "error", err)
		}
	}
	t.mu.Unlock()
	t.nudge()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.stream == s {
			t.stream = nil
		}
	}()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	records := codec.NewRecordWriter(w, accept, accept.String())
	for {
		var event *executorv1.Event
		select {
		case <-ctx.Done():
			return
		case event = <-s.events:
		case <-beat.C:
			event = &executorv1.Event{Type: executorv1.Event_HEARTBEAT.Enum()}
		}
		if records.Write(event) != nil {
			return
		}
	}
}

// fromExecutor stores an update and tells the executor so. The lock of t is held.
func (a *Agent) fromExecutor(t *task, s *mesosv1.TaskStatus) error {
	if s.GetTaskId().GetValue() != t.id() {
		a.log.Warn("update of a task that is not the executor's is dropped", "task", s.GetTaskId().GetValue(), "executor", t.id())
		return nil
	}
	status := proto.CloneOf(s)
	status.AgentId = a.id()
	status.ExecutorId = &mesosv1.ExecutorID{Value: proto.String(t.id())}
	status.ContainerStatus = a.containerStatus(t)
	if err := a.appendStatus(t, status); err != nil {
		return err
	}
	if t.stream != nil {
		t.stream.send(&executorv1.Event{Type: executorv1.Event_ACKNOWLEDGED.Enum(), Acknowledged: &executorv1.Event_Acknowledged{
			TaskId: s.GetTaskId(), Uuid: s.GetUuid(),
		}})
	}
	return nil
}

// executorInfo describes the command executor as Mesos does.
func (a *Agent) executorInfo(t *task) *mesosv1.ExecutorInfo {
	argv := slices.Concat([]string{"contrail"}, a.config.Executor[1:])
	return &mesosv1.ExecutorInfo{
		ExecutorId: &mesosv1.ExecutorID{Value: proto.String(t.id())}, FrameworkId: t.framework.GetId(),
		Command:   &mesosv1.CommandInfo{Shell: proto.Bool(false), Value: proto.String(argv[0]), Arguments: argv},
		Container: t.info.GetContainer(), Resources: t.info.GetResources(), Name: proto.String(executorName(t.info)),
		Source: proto.String(t.id()), Discovery: t.info.GetDiscovery(), Labels: t.info.GetLabels(),
	}
}

func executorName(info *mesosv1.TaskInfo) string {
	command := info.GetCommand()
	text := command.GetValue()
	if !command.GetShell() {
		for _, arg := range command.GetArguments() {
			text += " " + arg
		}
	}
	if runes := []rune(text); len(runes) > 15 {
		text = string(runes[:12]) + "..."
	}
	if command.GetShell() {
		text = "sh -c '" + text + "'"
	}
	return "Command Executor (Task: " + info.GetTaskId().GetValue() + ") (Command: " + text + ")"
}

// message passes data from a scheduler to an executor, if it is there.
func (a *Agent) message(m *clusterv1.FrameworkMessage) {
	t := a.find(m.GetFrameworkId().GetValue(), m.GetExecutorId().GetValue())
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stream != nil {
		t.stream.send(&executorv1.Event{Type: executorv1.Event_MESSAGE.Enum(), Message: &executorv1.Event_Message{Data: m.GetData()}})
	}
}
