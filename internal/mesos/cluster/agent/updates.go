package agent

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
)

// An unacknowledged update is sent again after firstPause, doubling to lastPause.
const (
	firstPause = 10 * time.Second
	lastPause  = 10 * time.Minute
)

// counters of updates by state.
type counters struct {
	mu      sync.Mutex
	byState map[mesosv1.TaskState]int64
}

func (c *counters) add(s mesosv1.TaskState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byState == nil {
		c.byState = map[mesosv1.TaskState]int64{}
	}
	c.byState[s]++
}

func (c *counters) get(s mesosv1.TaskState) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byState[s]
}

// appendStatus puts an update on disk and, if it is the task's first that is
// not acknowledged, on its way. One that is there already is not added again.
// The lock of t is held.
func (a *Agent) appendStatus(t *task, s *mesosv1.TaskStatus) error {
	for _, old := range t.statuses {
		if string(old.GetUuid()) == string(s.GetUuid()) {
			return nil
		}
	}
	if terminal(t.state()) {
		a.log.Warn("update after the end of a task is dropped", "task", t.id(), "state", s.GetState().String())
		return nil
	}
	t.statuses = append(t.statuses, s)
	if t.abandoned {
		t.acknowledged = len(t.statuses)
	}
	if err := a.save(t); err != nil {
		a.log.Error("update is not on disk", "task", t.id(), "error", err)
		t.statuses = t.statuses[:len(t.statuses)-1]
		t.acknowledged = min(t.acknowledged, len(t.statuses))
		return err
	}
	a.counts.add(s.GetState())
	a.log.Info("task changes", "task", t.id(), "state", s.GetState().String(), "reason", s.GetMessage())
	if t.acknowledged == len(t.statuses)-1 {
		t.pause = firstPause
		a.sendFirst(t)
	}
	return nil
}

// sendFirst sends the first update that is not acknowledged and sees to its
// repetition. The lock of t is held.
func (a *Agent) sendFirst(t *task) {
	if t.retry != nil {
		t.retry.Stop()
		t.retry = nil
	}
	if t.acknowledged == len(t.statuses) {
		return
	}
	a.send(t.framework.GetId(), t.statuses[t.acknowledged], t.state())
	t.retry = time.AfterFunc(t.pause, func() {
		if a.runCtx.Err() != nil {
			return
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.pause = min(2*t.pause, lastPause)
		a.sendFirst(t)
	})
}

// resend sends again at once, as after a registration.
func (a *Agent) resend(t *task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pause = firstPause
	a.sendFirst(t)
}

// acknowledge lets go of an update, and sends the next.
func (a *Agent) acknowledge(framework, id string, uuid []byte) {
	t := a.find(framework, id)
	if t == nil {
		return
	}
	t.mu.Lock()
	if t.acknowledged == len(t.statuses) || !slices.Equal(t.statuses[t.acknowledged].GetUuid(), uuid) {
		t.mu.Unlock()
		return
	}
	t.acknowledged++
	if err := a.save(t); err != nil {
		a.log.Error("acknowledgement is not on disk", "task", id, "error", err)
	}
	t.pause = firstPause
	a.sendFirst(t)
	done := t.phase == ended && t.acknowledged == len(t.statuses)
	t.mu.Unlock()
	if done {
		a.forget(t)
	}
}

// send gives an update to the master, if it is there.
func (a *Agent) send(framework *mesosv1.FrameworkID, s *mesosv1.TaskStatus, latest mesosv1.TaskState) {
	a.tell(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_StatusUpdate{StatusUpdate: &clusterv1.StatusUpdate{
		FrameworkId: framework, Status: s, LatestState: latest.Enum(),
	}}})
}

func (a *Agent) tell(m *clusterv1.AgentMessage) {
	if s := a.session.Load(); s != nil {
		s.send(m)
	}
}

// containerStatus is what a status says of the container. The lock of t is held.
func (a *Agent) containerStatus(t *task) *mesosv1.ContainerStatus {
	s := &mesosv1.ContainerStatus{ContainerId: &mesosv1.ContainerID{Value: proto.String(t.cid)}}
	if t.pid != 0 {
		s.ExecutorPid = proto.Uint32(uint32(t.pid))
	}
	if t.attachment != nil {
		for _, requested := range t.info.GetContainer().GetNetworkInfos() {
			for _, r := range t.attachment.Results {
				if r.Network != requested.GetName() {
					continue
				}
				info := proto.CloneOf(requested)
				info.IpAddresses = nil
				if r.IP4 != "" {
					info.IpAddresses = append(info.IpAddresses, address(mesosv1.NetworkInfo_IPv4, r.IP4))
				}
				if r.IP6 != "" {
					info.IpAddresses = append(info.IpAddresses, address(mesosv1.NetworkInfo_IPv6, r.IP6))
				}
				if len(info.IpAddresses) > 0 {
					s.NetworkInfos = append(s.NetworkInfos, info)
				}
			}
		}
	}
	if len(s.NetworkInfos) == 0 {
		s.NetworkInfos = []*mesosv1.NetworkInfo{{IpAddresses: []*mesosv1.NetworkInfo_IPAddress{
			address(mesosv1.NetworkInfo_IPv4, a.config.IP),
		}}}
	}
	return s
}

func address(p mesosv1.NetworkInfo_Protocol, ip string) *mesosv1.NetworkInfo_IPAddress {
	return &mesosv1.NetworkInfo_IPAddress{Protocol: p.Enum(), IpAddress: proto.String(ip)}
}

// asTask is the task as operators see it: with the update that is under way, or
// the last one.
func (a *Agent) asTask(t *task) *mesosv1.Task {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := &mesosv1.Task{
		Name: t.info.Name, TaskId: t.info.GetTaskId(), FrameworkId: t.framework.GetId(), AgentId: t.info.GetAgentId(),
		State: t.state().Enum(), Resources: t.info.GetResources(), Statuses: slices.Clone(t.statuses), Labels: t.info.GetLabels(),
		Discovery: t.info.GetDiscovery(), Container: t.info.GetContainer(), HealthCheck: t.info.GetHealthCheck(),
		KillPolicy: t.info.GetKillPolicy(), Limits: t.info.GetLimits(),
	}
	if user := t.info.GetCommand().GetUser(); user != "" {
		m.User = proto.String(user)
	}
	if n := len(t.statuses); n > 0 {
		under := t.statuses[min(t.acknowledged, n-1)]
		m.StatusUpdateState, m.StatusUpdateUuid = under.State, under.GetUuid()
	}
	return m
}
