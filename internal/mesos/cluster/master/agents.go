package master

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	masterv1 "github.com/contrail-mesos/contrail/api/mesos/v1/master"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
)

// agent is one that is registered; its session may be down.
type agent struct {
	info         *mesosv1.AgentInfo
	node         string // of its certificate
	version      string
	address      string // IP:PORT of its HTTP API
	capabilities []*mesosv1.AgentInfo_Capability
	total        quantities
	session      *session // nil while it is disconnected
	registered   time.Time
	reregistered time.Time // zero if it never was
	heard        time.Time // when its last message came
	deactivated  bool
	drain        *mesosv1.DrainInfo
	drainStart   time.Time

	tasks     map[ownedKey]*task
	executors map[ownedKey]*executor
}

// ownedKey names a task or an executor of a framework.
type ownedKey struct{ framework, id string }

// executor is one that runs, other than a command executor.
type executor struct {
	info    *mesosv1.ExecutorInfo
	amounts quantities
}

func (a *agent) id() string { return a.info.GetId().GetValue() }

func (a *agent) active() bool { return a.session != nil && !a.deactivated }

// used is what tasks and executors hold.
func (a *agent) used() quantities {
	var sum quantities
	for _, key := range slices.SortedFunc(maps.Keys(a.tasks), compareOwned) {
		if t := a.tasks[key]; !t.released {
			sum = sum.plus(t.amounts)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(a.executors), compareOwned) {
		sum = sum.plus(a.executors[key].amounts)
	}
	return sum
}

func compareOwned(a, b ownedKey) int {
	return cmp.Or(cmp.Compare(a.framework, b.framework), cmp.Compare(a.id, b.id))
}

func (a *agent) executorIDs(framework string) []*mesosv1.ExecutorID {
	var ids []*mesosv1.ExecutorID
	for _, key := range slices.SortedFunc(maps.Keys(a.executors), compareOwned) {
		if key.framework == framework {
			ids = append(ids, a.executors[key].info.GetExecutorId())
		}
	}
	return ids
}

func (a *agent) removeExecutorsOf(framework string) {
	maps.DeleteFunc(a.executors, func(key ownedKey, _ *executor) bool { return key.framework == framework })
}

// send queues a message for the agent; false means that it is away.
func (a *agent) send(message *clusterv1.MasterMessage) bool {
	if a.session == nil {
		return false
	}
	a.session.messages.push(message)
	return true
}

func (a *agent) sendShutdownFramework(id *mesosv1.FrameworkID) {
	a.send(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_ShutdownFramework{
		ShutdownFramework: &clusterv1.ShutdownFramework{FrameworkId: id},
	}})
}

// sortedTasksOf returns the agent's tasks in a fixed order.
func (a *agent) sortedTasks() []*task {
	tasks := make([]*task, 0, len(a.tasks))
	for _, key := range slices.SortedFunc(maps.Keys(a.tasks), compareOwned) {
		tasks = append(tasks, a.tasks[key])
	}
	return tasks
}

// disconnectAgent is called when a session has ended; a newer one is not
// touched.
func (m *Master) disconnectAgent(a *agent, s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.session != s {
		return
	}
	a.session = nil
	m.rescindAgent(a)
	now := time.Now()
	for _, t := range a.sortedTasks() {
		if !t.framework.info.GetCheckpoint() {
			m.lose(t, mesosv1.TaskState_TASK_LOST, mesosv1.TaskStatus_REASON_AGENT_DISCONNECTED, "Agent "+a.info.GetHostname()+" disconnected", now)
		}
	}
	for _, key := range slices.Collect(maps.Keys(a.executors)) {
		if f := m.frameworks[key.framework]; f == nil || !f.info.GetCheckpoint() {
			delete(a.executors, key)
		}
	}
	m.log.Info("agent disconnected", "agent", a.id(), "hostname", a.info.GetHostname())
}

// lose ends a task by the master's own decision and tells its framework.
func (m *Master) lose(t *task, state mesosv1.TaskState, reason mesosv1.TaskStatus_Reason, message string, now time.Time) {
	if terminal(t.info.GetState()) {
		m.completeTask(t) // it had ended; only the acknowledgement is lost
		return
	}
	status := &mesosv1.TaskStatus{
		TaskId: t.info.GetTaskId(), State: t.framework.visible(state).Enum(), Message: &message,
		Source: mesosv1.TaskStatus_SOURCE_MASTER.Enum(), Reason: &reason, AgentId: t.info.GetAgentId(),
		Timestamp: proto.Float64(seconds(now)),
	}
	m.finishTask(t, status)
	t.framework.update(status)
}

// markUnreachable takes out an agent that has been silent for too long.
func (m *Master) markUnreachable(a *agent, now time.Time) {
	if err := m.registry.markUnreachable(a.id(), now); err != nil {
		m.log.Error("agent stays registered although it is unreachable", "agent", a.id(), "error", err)
		return
	}
	m.counters.agentUnreachable++
	m.log.Warn("agent is unreachable", "agent", a.id(), "hostname", a.info.GetHostname())
	m.rescindAgent(a)
	for _, t := range a.sortedTasks() {
		if terminal(t.info.GetState()) {
			m.completeTask(t)
			continue
		}
		status := &mesosv1.TaskStatus{
			TaskId: t.info.GetTaskId(), State: t.framework.visible(mesosv1.TaskState_TASK_UNREACHABLE).Enum(),
			Message: proto.String("health check timed out"), Source: mesosv1.TaskStatus_SOURCE_MASTER.Enum(),
			Reason: mesosv1.TaskStatus_REASON_AGENT_REMOVED.Enum(), AgentId: t.info.GetAgentId(),
			Timestamp: proto.Float64(seconds(now)), UnreachableTime: timeInfo(now),
		}
		m.applyStatus(t, status, status.GetState())
		m.detachTask(t)
		t.framework.unreachable[t.info.GetTaskId().GetValue()] = t.info
		t.framework.update(status)
	}
	m.dropAgent(a)
}

// dropAgent forgets an agent's session and tells frameworks that it is gone.
func (m *Master) dropAgent(a *agent) {
	if a.session != nil {
		a.session.messages.close()
		a.session = nil
	}
	delete(m.agents, a.id())
	for _, f := range m.frameworks {
		f.send(&schedulerv1.Event{
			Type: schedulerv1.Event_FAILURE.Enum(), Failure: &schedulerv1.Event_Failure{AgentId: a.info.GetId()},
		})
	}
}

// unreachableRecovered is for agents that did not come back after a restart of
// the master, which knows no tasks of theirs.
func (m *Master) unreachableRecovered(id string, now time.Time) {
	if err := m.registry.markUnreachable(id, now); err != nil {
		m.log.Error("agent stays recovered although it is unreachable", "agent", id, "error", err)
		return
	}
	delete(m.recovered, id)
	m.counters.agentUnreachable++
	m.log.Warn("agent did not come back after the master's restart", "agent", id)
}

// markGone is MARK_AGENT_GONE. It tells whether the agent was known.
func (m *Master) markGone(id string, now time.Time) (bool, error) {
	_, known := m.registry.nodeOf(id)
	if _, gone := m.registry.Gone[id]; gone {
		return true, nil
	}
	a := m.agents[id]
	if !known && a == nil {
		return false, nil
	}
	if err := m.registry.markGone(id, now); err != nil {
		return true, err
	}
	delete(m.recovered, id)
	for _, f := range sorted(m.frameworks) {
		for _, unreachable := range sorted(f.unreachable) {
			if unreachable.GetAgentId().GetValue() == id {
				m.goneWhileUnreachable(f, unreachable, now)
			}
		}
	}
	if a == nil {
		return true, nil
	}
	m.rescindAgent(a)
	for _, t := range a.sortedTasks() {
		m.lose(t, mesosv1.TaskState_TASK_GONE_BY_OPERATOR, mesosv1.TaskStatus_REASON_AGENT_REMOVED_BY_OPERATOR, "Agent has been marked gone", now)
	}
	a.send(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_Shutdown{
		Shutdown: &clusterv1.Shutdown{Message: proto.String("Agent has been marked gone")},
	}})
	m.dropAgent(a)
	m.log.Info("agent marked gone", "agent", id)
	return true, nil
}

func (m *Master) goneWhileUnreachable(f *framework, unreachable *mesosv1.Task, now time.Time) {
	delete(f.unreachable, unreachable.GetTaskId().GetValue())
	status := &mesosv1.TaskStatus{
		TaskId: unreachable.GetTaskId(), State: f.visible(mesosv1.TaskState_TASK_GONE_BY_OPERATOR).Enum(),
		Message: proto.String("Agent has been marked gone"), Source: mesosv1.TaskStatus_SOURCE_MASTER.Enum(),
		Reason: mesosv1.TaskStatus_REASON_AGENT_REMOVED_BY_OPERATOR.Enum(), AgentId: unreachable.GetAgentId(),
		Timestamp: proto.Float64(seconds(now)),
	}
	unreachable.State = status.State
	unreachable.Statuses = append(unreachable.Statuses, status)
	f.complete(unreachable)
	m.publishTaskUpdate(f, status, status.GetState())
	f.update(status)
}

// removeAgent takes an agent out for good, because it left or was replaced.
func (m *Master) removeAgent(a *agent, why string, now time.Time) error {
	if err := m.registry.remove(a.id()); err != nil {
		return err
	}
	m.counters.agentRemovals++
	m.rescindAgent(a)
	for _, t := range a.sortedTasks() {
		m.lose(t, mesosv1.TaskState_TASK_LOST, mesosv1.TaskStatus_REASON_AGENT_REMOVED,
			"Agent "+a.info.GetHostname()+" removed: "+why, now)
	}
	m.publish(&masterv1.Event{
		Type: masterv1.Event_AGENT_REMOVED.Enum(), AgentRemoved: &masterv1.Event_AgentRemoved{AgentId: a.info.GetId()},
	})
	m.dropAgent(a)
	m.log.Info("agent removed", "agent", a.id(), "hostname", a.info.GetHostname(), "why", why)
	return nil
}

// deactivate stops offers of an agent.
func (m *Master) deactivate(a *agent) {
	a.deactivated = true
	m.rescindAgent(a)
}

func (m *Master) reactivate(a *agent, now time.Time) {
	a.deactivated, a.drain, a.drainStart = false, nil, time.Time{}
	m.allocate(now)
}

// drainAgent is DRAIN_AGENT: no more offers, and all tasks are killed.
func (m *Master) drainAgent(a *agent, call *masterv1.Call_DrainAgent, now time.Time) {
	m.deactivate(a)
	config := &mesosv1.DrainConfig{MarkGone: proto.Bool(call.GetMarkGone())}
	var policy *mesosv1.KillPolicy
	if call.MaxGracePeriod != nil {
		grace := &mesosv1.DurationInfo{Nanoseconds: proto.Int64(call.GetMaxGracePeriod().AsDuration().Nanoseconds())}
		config.MaxGracePeriod = grace
		policy = &mesosv1.KillPolicy{GracePeriod: grace}
	}
	a.drain = &mesosv1.DrainInfo{State: mesosv1.DrainState_DRAINING.Enum(), Config: config}
	a.drainStart = now
	for _, t := range a.sortedTasks() {
		m.sendKill(t, policy)
	}
	m.checkDrained(a, now)
}

// checkDrained ends a draining once nothing runs any more.
func (m *Master) checkDrained(a *agent, now time.Time) {
	if a.drain.GetState() != mesosv1.DrainState_DRAINING || len(a.tasks) > 0 || len(a.executors) > 0 {
		return
	}
	a.drain.State = mesosv1.DrainState_DRAINED.Enum()
	m.log.Info("agent drained", "agent", a.id())
	if a.drain.GetConfig().GetMarkGone() {
		if _, err := m.markGone(a.id(), now); err != nil {
			m.log.Error("drained agent is not marked gone", "agent", a.id(), "error", err)
		}
	}
}
