package master

import (
	"bytes"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	masterv1 "github.com/contrail-mesos/contrail/api/mesos/v1/master"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
)

// task is one that was launched and whose end is not acknowledged.
type task struct {
	info      *mesosv1.Task
	framework *framework
	agent     *agent
	role      string
	amounts   quantities
	released  bool // it has ended; its resources are free
}

func (t *task) key() ownedKey {
	return ownedKey{t.framework.id(), t.info.GetTaskId().GetValue()}
}

func terminal(state mesosv1.TaskState) bool {
	switch state {
	case mesosv1.TaskState_TASK_FINISHED, mesosv1.TaskState_TASK_FAILED, mesosv1.TaskState_TASK_KILLED,
		mesosv1.TaskState_TASK_ERROR, mesosv1.TaskState_TASK_LOST, mesosv1.TaskState_TASK_DROPPED,
		mesosv1.TaskState_TASK_GONE, mesosv1.TaskState_TASK_GONE_BY_OPERATOR:
		return true
	}
	return false
}

// attachTask puts a task in the state of its framework and agent.
func (m *Master) attachTask(t *task) {
	t.framework.tasks[t.info.GetTaskId().GetValue()] = t
	t.agent.tasks[t.key()] = t
	delete(t.framework.unreachable, t.info.GetTaskId().GetValue())
	m.publish(&masterv1.Event{Type: masterv1.Event_TASK_ADDED.Enum(), TaskAdded: &masterv1.Event_TaskAdded{Task: clone(t.info)}})
}

func (m *Master) detachTask(t *task) {
	delete(t.framework.tasks, t.info.GetTaskId().GetValue())
	delete(t.agent.tasks, t.key())
}

// completeTask moves a task to the past.
func (m *Master) completeTask(t *task) {
	m.detachTask(t)
	t.framework.complete(t.info)
	m.checkDrained(t.agent, time.Now())
}

func (f *framework) complete(t *mesosv1.Task) {
	f.completed = append(f.completed, t)
	if len(f.completed) > maxCompletedTasks {
		f.completed = f.completed[len(f.completed)-maxCompletedTasks:]
	}
}

// applyStatus records a status, with the newest state known.
func (m *Master) applyStatus(t *task, status *mesosv1.TaskStatus, latest mesosv1.TaskState) {
	status = clone(status)
	status.Data = nil // may be large, and is the scheduler's affair
	if last := len(t.info.Statuses) - 1; last >= 0 && t.info.Statuses[last].GetState() == status.GetState() {
		t.info.Statuses[last] = status
	} else {
		t.info.Statuses = append(t.info.Statuses, status)
	}
	if status.Uuid != nil {
		t.info.StatusUpdateState, t.info.StatusUpdateUuid = status.State, status.Uuid
	}
	if !t.released {
		t.info.State = latest.Enum()
	}
	if terminal(latest) && !t.released {
		t.released = true
		m.counters.terminal[latest]++
	}
	m.publishTaskUpdate(t.framework, status, t.info.GetState())
}

func (m *Master) publishTaskUpdate(f *framework, status *mesosv1.TaskStatus, state mesosv1.TaskState) {
	m.publish(&masterv1.Event{
		Type: masterv1.Event_TASK_UPDATED.Enum(),
		TaskUpdated: &masterv1.Event_TaskUpdated{
			FrameworkId: f.info.GetId(), Status: clone(status), State: &state,
		},
	})
}

// finishTask records an end that the master itself decides; nobody
// acknowledges it.
func (m *Master) finishTask(t *task, status *mesosv1.TaskStatus) {
	m.applyStatus(t, status, status.GetState())
	m.completeTask(t)
}

// statusUpdate is an agent's report.
func (m *Master) statusUpdate(a *agent, update *clusterv1.StatusUpdate, now time.Time) {
	m.counters.statusUpdates++
	status := update.GetStatus()
	if proto.CheckInitialized(update) != nil || status == nil || update.GetFrameworkId() == nil {
		m.counters.invalidUpdates++
		m.log.Warn("status update has required fields missing", "agent", a.id())
		return
	}
	id := update.GetFrameworkId().GetValue()
	f := m.frameworks[id]
	if f == nil {
		if slices.ContainsFunc(m.completed, func(f *framework) bool { return f.id() == id }) {
			m.sendAcknowledge(a, update.GetFrameworkId(), status.GetTaskId(), status.GetUuid())
		}
		return
	}
	if state := status.GetState(); a.drain != nil && status.Reason == nil &&
		(state == mesosv1.TaskState_TASK_KILLING || state == mesosv1.TaskState_TASK_KILLED) {
		status.Reason = mesosv1.TaskStatus_REASON_AGENT_DRAINING.Enum()
	}
	latest := status.GetState()
	if update.LatestState != nil {
		latest = update.GetLatestState()
	}
	if t := f.tasks[status.GetTaskId().GetValue()]; t != nil && t.agent == a {
		if status.Uuid == nil || !bytes.Equal(status.Uuid, t.info.StatusUpdateUuid) {
			m.applyStatus(t, status, latest)
		}
		if status.Uuid == nil && terminal(status.GetState()) {
			m.completeTask(t)
		}
		if terminal(latest) {
			m.allocate(now)
		}
	}
	f.update(status)
}

func (m *Master) sendAcknowledge(a *agent, framework *mesosv1.FrameworkID, task *mesosv1.TaskID, id []byte) {
	if id == nil {
		return
	}
	a.send(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_Acknowledge{
		Acknowledge: &clusterv1.Acknowledge{FrameworkId: framework, TaskId: task, Uuid: id},
	}})
}

// acknowledge is the scheduler's ACKNOWLEDGE.
func (m *Master) acknowledge(f *framework, call *schedulerv1.Call_Acknowledge) {
	a := m.agents[call.GetAgentId().GetValue()]
	if a == nil || a.session == nil {
		return // the agent sends the update again once it is back
	}
	t := f.tasks[call.GetTaskId().GetValue()]
	if t != nil && t.agent == a && terminal(t.info.GetStatusUpdateState()) && t.info.StatusUpdateState != nil &&
		bytes.Equal(t.info.StatusUpdateUuid, call.GetUuid()) {
		m.completeTask(t)
	}
	m.sendAcknowledge(a, f.info.GetId(), call.GetTaskId(), call.GetUuid())
}

// kill is the scheduler's KILL.
func (m *Master) kill(f *framework, call *schedulerv1.Call_Kill, now time.Time) {
	t := f.tasks[call.GetTaskId().GetValue()]
	if t == nil {
		m.reconcileTask(f, &schedulerv1.Call_Reconcile_Task{TaskId: call.GetTaskId(), AgentId: call.GetAgentId()}, now)
		return
	}
	if call.AgentId != nil && call.GetAgentId().GetValue() != t.agent.id() {
		m.log.Warn("kill names another agent", "task", call.GetTaskId().GetValue(), "agent", call.GetAgentId().GetValue())
		return
	}
	m.sendKill(t, call.GetKillPolicy())
}

func (m *Master) sendKill(t *task, policy *mesosv1.KillPolicy) {
	t.agent.send(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_Kill{
		Kill: &clusterv1.Kill{FrameworkId: t.framework.info.GetId(), TaskId: t.info.GetTaskId(), KillPolicy: policy},
	}})
}

// reconcile is the scheduler's RECONCILE: all tasks, or those named.
func (m *Master) reconcile(f *framework, call *schedulerv1.Call_Reconcile, now time.Time) {
	if len(call.GetTasks()) == 0 {
		for _, t := range sortedTasks(f.tasks) {
			f.update(latestStatus(t, "Reconciliation: Latest task state", mesosv1.TaskStatus_REASON_RECONCILIATION, now))
		}
		return
	}
	for _, named := range call.GetTasks() {
		m.reconcileTask(f, named, now)
	}
}

// reconcileTask answers for one task. Where the answer may still come from an
// agent that is to return after a restart of the master, there is none.
func (m *Master) reconcileTask(f *framework, named *schedulerv1.Call_Reconcile_Task, now time.Time) {
	if t := f.tasks[named.GetTaskId().GetValue()]; t != nil {
		f.update(latestStatus(t, "Reconciliation: Latest task state", mesosv1.TaskStatus_REASON_RECONCILIATION, now))
		return
	}
	id := named.GetAgentId().GetValue()
	status := &mesosv1.TaskStatus{
		TaskId: named.GetTaskId(), AgentId: named.GetAgentId(), Source: mesosv1.TaskStatus_SOURCE_MASTER.Enum(),
		Reason: mesosv1.TaskStatus_REASON_RECONCILIATION.Enum(), Timestamp: proto.Float64(seconds(now)),
	}
	_, isRecovered := m.recovered[id]
	unreachable, isUnreachable := m.registry.Unreachable[id]
	_, isGone := m.registry.Gone[id]
	switch {
	case named.AgentId == nil && len(m.recovered) > 0, isRecovered:
		return
	case m.agents[id] != nil:
		status.State, status.Message = mesosv1.TaskState_TASK_GONE.Enum(), proto.String("Reconciliation: Task is unknown to the agent")
	case isUnreachable:
		status.State, status.Message = mesosv1.TaskState_TASK_UNREACHABLE.Enum(), proto.String("Reconciliation: Task is unreachable")
		status.UnreachableTime = timeInfo(unreachable.Since)
	case isGone:
		status.State, status.Message = mesosv1.TaskState_TASK_GONE_BY_OPERATOR.Enum(), proto.String("Reconciliation: Task is gone")
	default:
		status.State, status.Message = mesosv1.TaskState_TASK_UNKNOWN.Enum(), proto.String("Reconciliation: Task is unknown")
	}
	f.update(status)
}

// latestStatus is the newest status that the framework may know, made by the
// master: it has no uuid and needs no acknowledgement.
func latestStatus(t *task, message string, reason mesosv1.TaskStatus_Reason, now time.Time) *mesosv1.TaskStatus {
	state := t.info.GetState()
	if t.info.StatusUpdateState != nil {
		state = t.info.GetStatusUpdateState()
	}
	status := &mesosv1.TaskStatus{
		TaskId: t.info.GetTaskId(), State: &state, Message: &message, Source: mesosv1.TaskStatus_SOURCE_MASTER.Enum(),
		Reason: &reason, AgentId: t.info.GetAgentId(), ExecutorId: t.info.ExecutorId, Timestamp: proto.Float64(seconds(now)),
	}
	if n := len(t.info.Statuses); n > 0 {
		last := t.info.Statuses[n-1]
		status.Healthy, status.Labels = last.Healthy, last.Labels
		status.ContainerStatus = last.ContainerStatus
	}
	return status
}
