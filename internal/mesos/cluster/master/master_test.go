package master

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	masterv1 "github.com/contrail-mesos/contrail/api/mesos/v1/master"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

func listenLoopback() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

const nodeA, nodeB = "4f8b2c0e-6d54-4c52-9d70-0d6f3a3f0a01", "4f8b2c0e-6d54-4c52-9d70-0d6f3a3f0a02"

// running launches a task and brings it to TASK_RUNNING, acknowledged.
func running(h *harness, s *testScheduler, a *testAgent, id string) {
	h.t.Helper()
	s.launch(s.offer(), taskInfo(id, a.id))
	run := a.next().GetRun()
	if run.GetTask().GetTaskId().GetValue() != id || run.GetFramework().GetId().GetValue() != s.id.GetValue() {
		h.t.Fatalf("Run %v", run)
	}
	a.report(s.id.GetValue(), id, mesosv1.TaskState_TASK_STARTING)
	s.acknowledge(s.update(id, mesosv1.TaskState_TASK_STARTING))
	wantAck(h.t, a, id)
	a.report(s.id.GetValue(), id, mesosv1.TaskState_TASK_RUNNING)
	s.acknowledge(s.update(id, mesosv1.TaskState_TASK_RUNNING))
	wantAck(h.t, a, id)
}

func wantAck(t *testing.T, a *testAgent, id string) {
	t.Helper()
	if got := a.next().GetAcknowledge().GetTaskId().GetValue(); got != id {
		t.Fatalf("acknowledgement of %q, want %s", got, id)
	}
}

func TestLaunchRunKill(t *testing.T) {
	h := newHarness(t, quickConfig())
	events := h.watch()
	a := h.agent(nodeA, registration("node1.example"))
	expect(t, events, "AGENT_ADDED")
	s := h.subscribe(frameworkInfo("test", 60))
	expect(t, events, "FRAMEWORK_ADDED")
	running(h, s, a, "web")
	expect(t, events, "TASK_ADDED", "TASK_STARTING", "TASK_RUNNING")

	o := s.offer()
	if got := o.GetResources(); len(got) != 4 || got[0].GetName() != "ports" || got[1].GetScalar().GetValue() != 1.9 {
		t.Errorf("offered %v beside the task", got)
	}
	s.call(&schedulerv1.Call{Type: schedulerv1.Call_DECLINE.Enum(), Decline: &schedulerv1.Call_Decline{
		OfferIds: []*mesosv1.OfferID{o.GetId()}, Filters: &mesosv1.Filters{RefuseSeconds: proto.Float64(3600)},
	}}, http.StatusAccepted)

	s.call(&schedulerv1.Call{Type: schedulerv1.Call_KILL.Enum(), Kill: &schedulerv1.Call_Kill{
		TaskId: &mesosv1.TaskID{Value: proto.String("web")}, KillPolicy: &mesosv1.KillPolicy{GracePeriod: &mesosv1.DurationInfo{Nanoseconds: proto.Int64(5e9)}},
	}}, http.StatusAccepted)
	if kill := a.next().GetKill(); kill.GetTaskId().GetValue() != "web" || kill.GetKillPolicy().GetGracePeriod().GetNanoseconds() != 5e9 {
		t.Errorf("kill %v", kill)
	}
	id := a.report(s.id.GetValue(), "web", mesosv1.TaskState_TASK_KILLED)
	status := s.update("web", mesosv1.TaskState_TASK_KILLED)
	// The whole agent is free again, which is more than was declined.
	s.offer()
	// Not acknowledged: the agent sends it again, and nobody is told twice.
	a.resend(s.id.GetValue(), "web", mesosv1.TaskState_TASK_KILLED, id)
	s.update("web", mesosv1.TaskState_TASK_KILLED)
	tasks := h.operator(&masterv1.Call{Type: masterv1.Call_GET_TASKS.Enum()}).GetGetTasks()
	if len(tasks.GetTasks()) != 1 || len(tasks.GetTasks()[0].GetStatuses()) != 3 {
		t.Errorf("before the acknowledgement: %v", tasks)
	}
	s.acknowledge(status)
	wantAck(t, a, "web")
	tasks = h.operator(&masterv1.Call{Type: masterv1.Call_GET_TASKS.Enum()}).GetGetTasks()
	if len(tasks.GetTasks()) != 0 || len(tasks.GetCompletedTasks()) != 1 {
		t.Errorf("after the acknowledgement: %v", tasks)
	}
	expect(t, events, "TASK_KILLED")
	s.simple(schedulerv1.Call_TEARDOWN)
	expect(t, events, "FRAMEWORK_REMOVED")
	if a.next().GetShutdownFramework() == nil {
		t.Error("agent is not told of the teardown")
	}
}

func TestFailover(t *testing.T) {
	h := newHarness(t, quickConfig())
	a := h.agent(nodeA, registration("node1.example"))
	first := h.subscribe(frameworkInfo("test", 60))
	running(h, first, a, "web")
	info := frameworkInfo("test", 60)
	info.Id = first.id
	second := h.subscribe(info)
	if got := first.event(schedulerv1.Event_ERROR).GetError().GetMessage(); got != "Framework failed over" {
		t.Errorf("error %q", got)
	}
	for range first.events {
	}
	first.call(&schedulerv1.Call{Type: schedulerv1.Call_REVIVE.Enum()}, http.StatusBadRequest)
	second.call(&schedulerv1.Call{Type: schedulerv1.Call_RECONCILE.Enum(), Reconcile: &schedulerv1.Call_Reconcile{}}, http.StatusAccepted)
	status := second.update("web", mesosv1.TaskState_TASK_RUNNING)
	if status.GetReason() != mesosv1.TaskStatus_REASON_RECONCILIATION || status.Uuid != nil || status.ContainerStatus == nil || status.ExecutorId != nil {
		t.Errorf("reconciled status %v", status)
	}
}

func TestFailoverTimeout(t *testing.T) {
	h := newHarness(t, quickConfig())
	events := h.watch()
	a := h.agent(nodeA, registration("node1.example"))
	s := h.subscribe(frameworkInfo("test", 0.05))
	running(h, s, a, "web")
	expect(t, events, "AGENT_ADDED", "FRAMEWORK_ADDED", "TASK_ADDED", "TASK_STARTING", "TASK_RUNNING")
	s.cancel()
	expect(t, events, "TASK_KILLED", "FRAMEWORK_REMOVED")
	if a.next().GetShutdownFramework() == nil {
		t.Error("agent is not told")
	}
	info := frameworkInfo("test", 0.05)
	info.Id = s.id
	again := &testScheduler{t: t}
	client, base := h.client(ctls.RoleAdmin, "", false)
	again.client, again.base = client, base
	response := post(t.Context(), t, client, base+"/api/v1/scheduler", "",
		&schedulerv1.Call{Type: schedulerv1.Call_SUBSCRIBE.Enum(), FrameworkId: s.id, Subscribe: &schedulerv1.Call_Subscribe{FrameworkInfo: info}})
	defer response.Body.Close()
	buffer := make([]byte, 200)
	n, _ := response.Body.Read(buffer)
	if response.StatusCode != http.StatusOK || !strings.Contains(string(buffer[:n]), "Framework has been removed") {
		t.Errorf("%s: %s", response.Status, buffer[:n])
	}
}

func TestReconcile(t *testing.T) {
	h := newHarness(t, quickConfig())
	a := h.agent(nodeA, registration("node1.example"))
	s := h.subscribe(frameworkInfo("test", 60))
	for _, test := range []struct {
		agent *mesosv1.AgentID
		want  mesosv1.TaskState
	}{
		{a.id, mesosv1.TaskState_TASK_GONE},
		{nil, mesosv1.TaskState_TASK_UNKNOWN},
		{&mesosv1.AgentID{Value: proto.String("nobody")}, mesosv1.TaskState_TASK_UNKNOWN},
	} {
		task := &schedulerv1.Call_Reconcile_Task{TaskId: &mesosv1.TaskID{Value: proto.String("x")}, AgentId: test.agent}
		s.call(&schedulerv1.Call{Type: schedulerv1.Call_RECONCILE.Enum(), Reconcile: &schedulerv1.Call_Reconcile{Tasks: []*schedulerv1.Call_Reconcile_Task{task}}}, http.StatusAccepted)
		s.update("x", test.want)
		s.call(&schedulerv1.Call{Type: schedulerv1.Call_KILL.Enum(), Kill: &schedulerv1.Call_Kill{TaskId: task.TaskId, AgentId: test.agent}}, http.StatusAccepted)
		s.update("x", test.want)
	}
}

// asTask is what an agent reports of a task of taskInfo.
func asTask(s *testScheduler, a *testAgent, id string, state mesosv1.TaskState) *mesosv1.Task {
	info := taskInfo(id, a.id)
	return &mesosv1.Task{
		Name: info.Name, TaskId: info.TaskId, FrameworkId: s.id, AgentId: a.id, State: state.Enum(), Resources: info.Resources, Container: info.Container,
	}
}

func TestUnreachableAndBack(t *testing.T) {
	cfg := quickConfig()
	cfg.PingTimeout = 3 * time.Second // the agent that lives is heard within
	cfg.PingInterval = 200 * time.Millisecond
	h := newHarness(t, cfg)
	events := h.watch()
	a := h.agent(nodeA, registration("node1.example"))
	s := h.subscribe(frameworkInfo("test", 60))
	running(h, s, a, "web")
	expect(t, events, "AGENT_ADDED", "FRAMEWORK_ADDED", "TASK_ADDED", "TASK_STARTING", "TASK_RUNNING")
	a.close()
	s.event(schedulerv1.Event_RESCIND)
	status := s.update("web", mesosv1.TaskState_TASK_UNREACHABLE)
	if status.UnreachableTime == nil || status.GetMessage() != "health check timed out" {
		t.Errorf("status %v", status)
	}
	if got := s.event(schedulerv1.Event_FAILURE).GetFailure().GetAgentId().GetValue(); got != a.id.GetValue() {
		t.Errorf("failure of %s", got)
	}
	s.call(&schedulerv1.Call{Type: schedulerv1.Call_KILL.Enum(), Kill: &schedulerv1.Call_Kill{
		TaskId: &mesosv1.TaskID{Value: proto.String("web")}, AgentId: a.id,
	}}, http.StatusAccepted)
	s.update("web", mesosv1.TaskState_TASK_UNREACHABLE)

	register := registration("node1.example")
	register.Agent.Id = a.id
	register.Tasks = []*mesosv1.Task{asTask(s, a, "web", mesosv1.TaskState_TASK_RUNNING)}
	register.Frameworks = []*mesosv1.FrameworkInfo{frameworkInfo("test", 60)}
	register.Frameworks[0].Id = s.id
	back := h.agent(nodeA, register)
	if back.id.GetValue() != a.id.GetValue() {
		t.Errorf("agent came back as %s", back.id.GetValue())
	}
	if got := s.update("web", mesosv1.TaskState_TASK_RUNNING); got.GetReason() != mesosv1.TaskStatus_REASON_AGENT_REREGISTERED {
		t.Errorf("status %v", got)
	}
	expect(t, events, "TASK_UNREACHABLE", "TASK_ADDED", "AGENT_ADDED")
}

// An agent that comes back in time makes no noise, and what it lost is dropped.
func TestShortDisconnect(t *testing.T) {
	h := newHarness(t, quickConfig())
	events := h.watch()
	a := h.agent(nodeA, registration("node1.example"))
	s := h.subscribe(frameworkInfo("test", 60))
	running(h, s, a, "web")
	running(h, s, a, "lost")
	expect(t, events, "AGENT_ADDED", "FRAMEWORK_ADDED", "TASK_ADDED", "TASK_STARTING", "TASK_RUNNING", "TASK_ADDED", "TASK_STARTING", "TASK_RUNNING")
	register := registration("node1.example")
	register.Agent.Id = a.id
	register.Tasks = []*mesosv1.Task{asTask(s, a, "web", mesosv1.TaskState_TASK_RUNNING)}
	h.agent(nodeA, register)
	if got := connect.CodeOf(a.end()); got != connect.CodeAborted {
		t.Errorf("the older session ended with %s", got)
	}
	s.update("lost", mesosv1.TaskState_TASK_DROPPED)
	expect(t, events, "TASK_DROPPED")
	state := h.operator(&masterv1.Call{Type: masterv1.Call_GET_AGENTS.Enum()}).GetGetAgents().GetAgents()
	if len(state) != 1 || state[0].ReregisteredTime == nil || !state[0].GetActive() {
		t.Errorf("agents %v", state)
	}
}

func TestMarkGone(t *testing.T) {
	h := newHarness(t, quickConfig())
	a := h.agent(nodeA, registration("node1.example"))
	s := h.subscribe(frameworkInfo("test", 60))
	running(h, s, a, "web")
	h.operator(&masterv1.Call{Type: masterv1.Call_MARK_AGENT_GONE.Enum(), MarkAgentGone: &masterv1.Call_MarkAgentGone{AgentId: a.id}})
	s.update("web", mesosv1.TaskState_TASK_GONE_BY_OPERATOR)
	if a.next().GetShutdown() == nil {
		t.Error("agent is not shut down")
	}
	register := registration("node1.example")
	register.Agent.Id = a.id
	if got := connect.CodeOf(h.connect(nodeA, register).end()); got != connect.CodeFailedPrecondition {
		t.Errorf("gone agent registers: %s", got)
	}
	s.call(&schedulerv1.Call{Type: schedulerv1.Call_RECONCILE.Enum(), Reconcile: &schedulerv1.Call_Reconcile{
		Tasks: []*schedulerv1.Call_Reconcile_Task{{TaskId: &mesosv1.TaskID{Value: proto.String("web")}, AgentId: a.id}},
	}}, http.StatusAccepted)
	s.update("web", mesosv1.TaskState_TASK_GONE_BY_OPERATOR)
}

func TestMasterRestart(t *testing.T) {
	h := newHarness(t, quickConfig())
	a := h.agent(nodeA, registration("node1.example"))
	s := h.subscribe(frameworkInfo("test", 60))
	running(h, s, a, "web")
	h.stop()
	h.start()
	info := frameworkInfo("test", 60)
	info.Id = s.id
	s2 := h.subscribe(info)
	if s2.id.GetValue() != s.id.GetValue() {
		t.Errorf("framework id %s after the restart, %s before", s2.id.GetValue(), s.id.GetValue())
	}
	agents := h.operator(&masterv1.Call{Type: masterv1.Call_GET_AGENTS.Enum()}).GetGetAgents()
	if len(agents.GetAgents()) != 0 || len(agents.GetRecoveredAgents()) != 1 {
		t.Errorf("agents %v", agents)
	}
	register := registration("node1.example")
	register.Agent.Id = a.id
	register.Tasks = []*mesosv1.Task{asTask(s, a, "web", mesosv1.TaskState_TASK_RUNNING)}
	register.Frameworks = []*mesosv1.FrameworkInfo{info}
	// While the agent is away there is no answer; the first one comes with it.
	s2.call(&schedulerv1.Call{Type: schedulerv1.Call_RECONCILE.Enum(), Reconcile: &schedulerv1.Call_Reconcile{
		Tasks: []*schedulerv1.Call_Reconcile_Task{{TaskId: &mesosv1.TaskID{Value: proto.String("web")}, AgentId: a.id}},
	}}, http.StatusAccepted)
	back := h.agent(nodeA, register)
	if got := s2.update("web", mesosv1.TaskState_TASK_RUNNING); got.GetMessage() != "Unknown agent reregistered" {
		t.Errorf("status %v", got)
	}
	// What the agent had not acknowledged comes again.
	back.report(s.id.GetValue(), "web", mesosv1.TaskState_TASK_RUNNING)
	s2.acknowledge(s2.update("web", mesosv1.TaskState_TASK_RUNNING))
	wantAck(t, back, "web")
	if o := s2.offer(); o.GetResources()[1].GetScalar().GetValue() != 1.9 {
		t.Errorf("offer forgets the task: %v", o)
	}
}

func TestAgentsOfOthers(t *testing.T) {
	h := newHarness(t, quickConfig())
	a := h.agent(nodeA, registration("node1.example"))
	register := registration("node1.example")
	register.Agent.Id = a.id
	if got := connect.CodeOf(h.connect(nodeB, register).end()); got != connect.CodePermissionDenied {
		t.Errorf("node B registers the agent of node A: %s", got)
	}
	for name, change := range map[string]func(*clusterv1.Register){
		"no agent":   func(r *clusterv1.Register) { r.Agent = nil },
		"hostname":   func(r *clusterv1.Register) { r.Agent.Hostname = proto.String("a/b") },
		"address":    func(r *clusterv1.Register) { r.Address = proto.String("node") },
		"reserved":   func(r *clusterv1.Register) { r.Agent.Resources[0].Role = proto.String("red") },
		"negative":   func(r *clusterv1.Register) { r.Agent.Resources[0].Scalar.Value = proto.Float64(-1) },
		"no address": func(r *clusterv1.Register) { r.Address = nil },
	} {
		bad := registration("node2.example")
		change(bad)
		if got := connect.CodeOf(h.connect(nodeB, bad).end()); got != connect.CodeInvalidArgument {
			t.Errorf("%s: %s", name, got)
		}
	}
	// An agent that lost its state replaces its predecessor.
	again := h.agent(nodeA, registration("node1.example"))
	if again.id.GetValue() == a.id.GetValue() {
		t.Error("a new agent has an old id")
	}
	if got := len(h.operator(&masterv1.Call{Type: masterv1.Call_GET_AGENTS.Enum()}).GetGetAgents().GetAgents()); got != 1 {
		t.Errorf("%d agents of one node", got)
	}
}

func TestDrain(t *testing.T) {
	h := newHarness(t, quickConfig())
	a := h.agent(nodeA, registration("node1.example"))
	s := h.subscribe(frameworkInfo("test", 60))
	running(h, s, a, "web")
	h.operator(&masterv1.Call{Type: masterv1.Call_DRAIN_AGENT.Enum(), DrainAgent: &masterv1.Call_DrainAgent{AgentId: a.id}})
	if a.next().GetKill().GetTaskId().GetValue() != "web" {
		t.Error("task is not killed")
	}
	a.report(s.id.GetValue(), "web", mesosv1.TaskState_TASK_KILLED)
	s.acknowledge(s.update("web", mesosv1.TaskState_TASK_KILLED))
	wantAck(t, a, "web")
	shown := h.operator(&masterv1.Call{Type: masterv1.Call_GET_AGENTS.Enum()}).GetGetAgents().GetAgents()[0]
	if !shown.GetDeactivated() || shown.GetDrainInfo().GetState() != mesosv1.DrainState_DRAINED {
		t.Errorf("agent %v", shown)
	}
	s.offers = nil
	h.operator(&masterv1.Call{Type: masterv1.Call_REACTIVATE_AGENT.Enum(), ReactivateAgent: &masterv1.Call_ReactivateAgent{AgentId: a.id}})
	s.offer()
}

func TestUnregister(t *testing.T) {
	h := newHarness(t, quickConfig())
	events := h.watch()
	a := h.agent(nodeA, registration("node1.example"))
	s := h.subscribe(frameworkInfo("test", 60))
	running(h, s, a, "web")
	expect(t, events, "AGENT_ADDED", "FRAMEWORK_ADDED", "TASK_ADDED", "TASK_STARTING", "TASK_RUNNING")
	a.send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_Unregister{Unregister: &clusterv1.Unregister{}}})
	s.update("web", mesosv1.TaskState_TASK_LOST)
	expect(t, events, "TASK_LOST", "AGENT_REMOVED")
}

func TestWhoMay(t *testing.T) {
	h := newHarness(t, quickConfig())
	for _, test := range []struct {
		role, node, path string
		want             int
	}{
		{ctls.RoleMarathon, "", "/api/v1/scheduler", http.StatusBadRequest},
		{ctls.RoleManager, "", "/api/v1/scheduler", http.StatusForbidden},
		{ctls.RoleNode, nodeA, "/api/v1/scheduler", http.StatusForbidden},
		{ctls.RoleNode, nodeA, "/api/v1", http.StatusForbidden},
		{ctls.RoleNode, nodeA, "/state", http.StatusForbidden},
		{ctls.RoleNode, nodeA, "/health", http.StatusOK},
		{ctls.RoleManager, "", "/state", http.StatusOK},
		{ctls.RoleManager, "", "/teardown", http.StatusForbidden},
	} {
		client, base := h.client(test.role, test.node, false)
		response := post(t.Context(), t, client, base+test.path, "", &masterv1.Call{})
		response.Body.Close()
		if response.StatusCode != test.want {
			t.Errorf("%s %s: %s, want %d", test.role, test.path, response.Status, test.want)
		}
	}
}
