package marathon

import (
	"cmp"
	"maps"
	"slices"
	"time"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
)

// instancesOf returns the instances of an application, oldest first.
func (m *Marathon) instancesOf(app string) []*instance {
	var all []*instance
	for i := range maps.Values(m.store.Instances) {
		if i.AppID == app {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b *instance) int { return cmp.Or(a.StagedAt.Compare(b.StagedAt), cmp.Compare(a.ID, b.ID)) })
	return all
}

func terminal(state mesosv1.TaskState) bool {
	switch state {
	case mesosv1.TaskState_TASK_STAGING, mesosv1.TaskState_TASK_STARTING, mesosv1.TaskState_TASK_RUNNING,
		mesosv1.TaskState_TASK_KILLING, mesosv1.TaskState_TASK_UNREACHABLE:
		return false
	}
	return true
}

// update is a status from the master: of a task, or of one asked for.
func (m *Marathon) update(status *mesosv1.TaskStatus, now time.Time) {
	if len(status.GetUuid()) > 0 {
		m.queue(&schedulerv1.Call{Type: schedulerv1.Call_ACKNOWLEDGE.Enum(), Acknowledge: &schedulerv1.Call_Acknowledge{
			AgentId: status.GetAgentId(), TaskId: status.GetTaskId(), Uuid: status.GetUuid(),
		}})
	}
	i := m.store.Instances[status.GetTaskId().GetValue()]
	if i == nil {
		if !terminal(status.GetState()) && status.GetState() != mesosv1.TaskState_TASK_UNREACHABLE {
			m.log.Warn("unknown task is killed", "task", status.GetTaskId().GetValue())
			m.sendKill(status.GetTaskId().GetValue(), status.GetAgentId().GetValue())
		}
		return
	}
	i.confirmed = true
	changed := i.State != status.GetState().String()
	i.State = status.GetState().String()
	if found := addressesOf(status); len(found) > 0 && !slices.Equal(found, i.Addresses) {
		i.Addresses, changed = found, true
	}
	switch {
	case status.GetState() == mesosv1.TaskState_TASK_RUNNING:
		if i.StartedAt.IsZero() {
			i.StartedAt = now
		}
		i.UnreachableAt = time.Time{}
	case status.GetState() == mesosv1.TaskState_TASK_UNREACHABLE:
		if i.UnreachableAt.IsZero() {
			i.UnreachableAt = now
		}
	case terminal(status.GetState()):
		m.ended(i, status, now)
	}
	if changed {
		m.dirty = true
		m.publishStatus(i, status, now)
	}
}

func addressesOf(status *mesosv1.TaskStatus) []address {
	var all []address
	for _, network := range status.GetContainerStatus().GetNetworkInfos() {
		for _, ip := range network.GetIpAddresses() {
			if ip.GetIpAddress() != "" {
				all = append(all, address{ip.GetIpAddress(), ip.GetProtocol().String()})
			}
		}
	}
	return all
}

// ended removes an instance and, where that was nobody's wish, puts off the
// next launch.
func (m *Marathon) ended(i *instance, status *mesosv1.TaskStatus, now time.Time) {
	delete(m.store.Instances, i.ID)
	m.dirty = true
	e := m.store.Apps[i.AppID]
	if e == nil || i.Killing {
		return
	}
	if status.GetState() != mesosv1.TaskState_TASK_FINISHED {
		e.failed(i, status.GetMessage(), now)
	}
	e.backOff(i, now)
	m.log.Info("instance ended", "task", i.ID, "state", i.State, "message", status.GetMessage(), "delay", e.delay)
}

// failed remembers why the last instance ended.
func (e *entry) failed(i *instance, message string, now time.Time) {
	e.LastFailure = &failure{
		AppID: i.AppID, Host: i.Place.Host, Message: message, State: i.State, TaskID: i.ID,
		Timestamp: timestamp(now), Version: i.Version, SlaveID: i.AgentID,
	}
}

// backOff puts off the next launch, the longer the more of them fail in a row.
func (e *entry) backOff(i *instance, now time.Time) {
	initial := time.Duration(e.App.BackoffSeconds * float64(time.Second))
	most := time.Duration(e.App.MaxLaunchDelaySeconds * float64(time.Second))
	switch {
	case e.delay == 0, !i.StartedAt.IsZero() && now.Sub(i.StartedAt) > max(10*time.Second, 2*e.delay):
		e.delay = initial
	default:
		e.delay = time.Duration(float64(e.delay) * e.App.BackoffFactor)
	}
	e.delay = min(e.delay, most)
	e.until = now.Add(e.delay)
}

// killRetry is after how long a kill is sent again.
const killRetry = 10 * time.Second

func (m *Marathon) kill(i *instance, now time.Time) {
	if !i.Killing {
		i.Killing, m.dirty = true, true
	}
	if now.Sub(i.killSent) < killRetry {
		return
	}
	i.killSent = now
	m.sendKill(i.ID, i.AgentID)
}

func (m *Marathon) sendKill(task, agent string) {
	call := &schedulerv1.Call_Kill{TaskId: &mesosv1.TaskID{Value: &task}}
	if agent != "" {
		call.AgentId = &mesosv1.AgentID{Value: &agent}
	}
	m.queue(&schedulerv1.Call{Type: schedulerv1.Call_KILL.Enum(), Kill: call})
}

// askAgain is after how long a task that the master has said nothing of is
// asked for again.
const askAgain = 2 * time.Second

// reconcile asks for tasks that the master has said nothing about since the
// subscription began.
func (m *Marathon) reconcile(now time.Time) {
	call := &schedulerv1.Call_Reconcile{}
	for _, i := range m.store.Instances {
		if i.confirmed || now.Sub(i.asked) < askAgain {
			continue
		}
		i.asked = now
		call.Tasks = append(call.Tasks, &schedulerv1.Call_Reconcile_Task{
			TaskId: &mesosv1.TaskID{Value: &i.ID}, AgentId: &mesosv1.AgentID{Value: &i.AgentID},
		})
	}
	if len(call.Tasks) > 0 {
		m.queue(&schedulerv1.Call{Type: schedulerv1.Call_RECONCILE.Enum(), Reconcile: call})
	}
}
