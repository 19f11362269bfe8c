package master

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	masterv1 "github.com/contrail-mesos/contrail/api/mesos/v1/master"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// session is one connection of an agent.
type session struct {
	node     string
	messages *queue[*clusterv1.MasterMessage]
}

// cluster is contrail.mesos.v1.Cluster.
type cluster struct{ m *Master }

// Agent serves one agent.
func (c cluster) Agent(ctx context.Context, stream *connect.BidiStream[clusterv1.AgentMessage, clusterv1.MasterMessage]) error {
	m := c.m
	caller := serve.CallerOf(ctx)
	if caller.Role != ctls.RoleNode {
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("agents have the certificate of a node, not of %s", caller))
	}
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	if first.GetRegister() == nil {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("the first message is not Register"))
	}
	s := &session{node: caller.Node, messages: newQueue[*clusterv1.MasterMessage]()}
	m.mu.Lock()
	a, err := m.register(s, first.GetRegister(), time.Now())
	m.mu.Unlock()
	if err != nil {
		return err
	}
	defer m.disconnectAgent(a, s)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(m.receive(a, s, stream)) }()
	ticker := time.NewTicker(m.cfg.PingInterval)
	defer ticker.Stop()
	err = s.messages.drain(ctx, ticker.C, func() *clusterv1.MasterMessage {
		return &clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_Ping{Ping: &clusterv1.Ping{}}}
	}, stream.Send)
	if err == nil {
		return connect.NewError(connect.CodeAborted, errors.New("the master has ended this session"))
	}
	m.log.Debug("agent session ended", "agent", a.id(), "error", context.Cause(ctx))
	return err
}

// receive handles what the agent says, until its stream ends.
func (m *Master) receive(a *agent, s *session, stream *connect.BidiStream[clusterv1.AgentMessage, clusterv1.MasterMessage]) error {
	for {
		message, err := stream.Receive()
		if err != nil {
			return err
		}
		m.mu.Lock()
		current := a.session == s
		if current {
			m.handle(a, message, time.Now())
		}
		m.mu.Unlock()
		if !current {
			return errors.New("the session was replaced")
		}
	}
}

func (m *Master) handle(a *agent, message *clusterv1.AgentMessage, now time.Time) {
	a.heard = now
	switch body := message.GetBody().(type) {
	case *clusterv1.AgentMessage_StatusUpdate:
		m.statusUpdate(a, body.StatusUpdate, now)
	case *clusterv1.AgentMessage_ExecutorExited:
		m.executorExited(a, body.ExecutorExited, now)
	case *clusterv1.AgentMessage_ExecutorMessage:
		if f := m.frameworks[body.ExecutorMessage.GetFrameworkId().GetValue()]; f != nil && body.ExecutorMessage.ExecutorId != nil {
			f.send(&schedulerv1.Event{Type: schedulerv1.Event_MESSAGE.Enum(), Message: &schedulerv1.Event_Message{
				AgentId: a.info.GetId(), ExecutorId: body.ExecutorMessage.ExecutorId, Data: nonNil(body.ExecutorMessage.GetData()),
			}})
		}
	case *clusterv1.AgentMessage_Unregister:
		if err := m.removeAgent(a, "the agent unregistered", now); err != nil {
			m.log.Error("agent that unregistered stays registered", "agent", a.id(), "error", err)
		}
	case *clusterv1.AgentMessage_Register:
		m.log.Warn("agent registers twice in one session", "agent", a.id())
	}
}

func nonNil(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}

func (m *Master) executorExited(a *agent, exited *clusterv1.ExecutorExited, now time.Time) {
	key := ownedKey{exited.GetFrameworkId().GetValue(), exited.GetExecutorId().GetValue()}
	delete(a.executors, key)
	if f := m.frameworks[key.framework]; f != nil {
		f.send(&schedulerv1.Event{Type: schedulerv1.Event_FAILURE.Enum(), Failure: &schedulerv1.Event_Failure{
			AgentId: a.info.GetId(), ExecutorId: exited.GetExecutorId(), Status: proto.Int32(exited.GetStatus()),
		}})
	}
	m.checkDrained(a, now)
	m.allocate(now)
}

// register admits an agent and queues Registered for it.
func (m *Master) register(s *session, r *clusterv1.Register, now time.Time) (*agent, error) {
	info, total, err := checkRegistration(r)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	id := info.GetId().GetValue()
	if _, gone := m.registry.Gone[id]; gone {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("agent %s was marked gone", id))
	}
	if owner, known := m.registry.nodeOf(id); known && owner != s.node {
		return nil, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("agent %s is of another node than %s", id, s.node))
	}
	if err := m.replaceAgentsOf(s.node, id, now); err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	again := id != "" // also where this master has lost its registry
	if id == "" {
		id = fmt.Sprintf("%s-S%d", m.id, m.nextAgent)
		m.nextAgent++
		info.Id = &mesosv1.AgentID{Value: &id}
	}
	_, wasUnreachable := m.registry.Unreachable[id]
	if err := m.registry.admit(info, s.node); err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	delete(m.recovered, id)
	m.counters.agentRegistrations++

	a, known := m.agents[id]
	if known {
		if a.session != nil {
			a.session.messages.close()
			m.rescindAgent(a)
		}
		a.reregistered = now
	} else {
		a = &agent{registered: now, tasks: map[ownedKey]*task{}, executors: map[ownedKey]*executor{}}
		if again {
			a.reregistered = now
		}
		m.agents[id] = a
	}
	a.info, a.node, a.version, a.address, a.total = info, s.node, r.GetVersion(), r.GetAddress(), total
	a.capabilities, a.session, a.heard = r.GetCapabilities(), s, now
	a.send(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_Registered{
		Registered: &clusterv1.Registered{AgentId: info.GetId(), Master: m.info},
	}})
	m.adopt(a, r, known, wasUnreachable, now)
	if !known {
		m.publish(&masterv1.Event{Type: masterv1.Event_AGENT_ADDED.Enum(), AgentAdded: &masterv1.Event_AgentAdded{Agent: m.shownAgent(a)}})
	}
	m.log.Info("agent registered", "agent", id, "hostname", info.GetHostname(), "again", again)
	m.allocate(now)
	return a, nil
}

func checkRegistration(r *clusterv1.Register) (*mesosv1.AgentInfo, quantities, error) {
	if r.GetAgent() == nil || proto.CheckInitialized(r) != nil {
		return nil, nil, errors.New("registration has no agent, or required fields are missing")
	}
	info := clone(r.GetAgent())
	if err := validID(info.GetHostname()); err != nil {
		return nil, nil, fmt.Errorf("hostname: %w", err)
	}
	if _, err := netip.ParseAddrPort(r.GetAddress()); err != nil {
		return nil, nil, fmt.Errorf("address %q: want IP:PORT", r.GetAddress())
	}
	for _, resource := range info.GetResources() {
		if role := resource.GetRole(); role != "" && role != "*" || len(resource.GetReservations()) > 0 {
			return nil, nil, fmt.Errorf("resource %s is reserved, which is not supported", resource.GetName())
		}
	}
	total, err := quantitiesOf(info.GetResources())
	return info, total, err
}

// replaceAgentsOf removes other agents of a node: it runs one at a time, so an
// agent with another id, or without one, has lost its state.
func (m *Master) replaceAgentsOf(node, id string, now time.Time) error {
	const why = "a new agent registered at the same address"
	for _, a := range sorted(m.agents) {
		if a.node == node && a.id() != id {
			if err := m.removeAgent(a, why, now); err != nil {
				return err
			}
		}
	}
	for other := range m.recovered {
		if owner, _ := m.registry.nodeOf(other); owner == node && other != id {
			if err := m.registry.remove(other); err != nil {
				return err
			}
			delete(m.recovered, other)
		}
	}
	return nil
}

// adopt brings the master's view in line with what the agent runs.
func (m *Master) adopt(a *agent, r *clusterv1.Register, known, wasUnreachable bool, now time.Time) {
	infos := map[string]*mesosv1.FrameworkInfo{}
	for _, info := range r.GetFrameworks() {
		infos[info.GetId().GetValue()] = info
	}
	reported := map[ownedKey]bool{}
	for _, info := range r.GetTasks() {
		f := m.frameworkOfAgent(a, infos, info.GetFrameworkId().GetValue(), now)
		if f == nil {
			continue
		}
		key := ownedKey{f.id(), info.GetTaskId().GetValue()}
		reported[key] = true
		if t := a.tasks[key]; t != nil {
			if !t.released {
				t.info.State = info.State
			}
			if terminal(info.GetState()) && !t.released {
				t.released = true
				m.counters.terminal[info.GetState()]++
			}
			continue
		}
		m.adoptTask(a, f, info, wasUnreachable, now)
	}
	for _, t := range a.sortedTasks() {
		if !reported[t.key()] {
			m.lose(t, mesosv1.TaskState_TASK_DROPPED, mesosv1.TaskStatus_REASON_RECONCILIATION, "Reconciliation: Task is unknown to the agent", now)
		}
	}
	clear(a.executors)
	for _, info := range r.GetExecutors() {
		if f := m.frameworkOfAgent(a, infos, info.GetFrameworkId().GetValue(), now); f != nil {
			amounts, err := quantitiesOf(info.GetResources())
			if err != nil {
				m.log.Warn("resources of an agent's executor do not parse", "agent", a.id(), "error", err)
			}
			a.executors[ownedKey{f.id(), info.GetExecutorId().GetValue()}] = &executor{info: clone(info), amounts: amounts}
		}
	}
	if known {
		m.checkDrained(a, now)
	}
}

func (m *Master) adoptTask(a *agent, f *framework, info *mesosv1.Task, wasUnreachable bool, now time.Time) {
	info = clone(info)
	info.AgentId = a.info.GetId()
	amounts, err := quantitiesOf(info.GetResources())
	if err != nil {
		m.log.Warn("resources of an agent's task do not parse", "agent", a.id(), "error", err)
	}
	role := "*"
	for _, resource := range info.GetResources() {
		if resource.AllocationInfo != nil {
			role = resource.GetAllocationInfo().GetRole()
		}
	}
	t := &task{info: info, framework: f, agent: a, role: role, amounts: amounts, released: terminal(info.GetState())}
	m.attachTask(t)
	if t.released {
		return // its last update comes from the agent
	}
	message := "Unknown agent reregistered"
	if wasUnreachable {
		message = "Unreachable agent re-reregistered"
	}
	status := latestStatus(t, message, mesosv1.TaskStatus_REASON_AGENT_REREGISTERED, now)
	f.update(status)
}

// frameworkOfAgent finds the framework of what an agent runs. One that was
// removed is shut down there; one that has not come back since the master's
// start is remembered from what the agent knows.
func (m *Master) frameworkOfAgent(a *agent, infos map[string]*mesosv1.FrameworkInfo, id string, now time.Time) *framework {
	if f := m.frameworks[id]; f != nil {
		return f
	}
	for _, f := range m.completed {
		if f.id() == id {
			a.sendShutdownFramework(f.info.GetId())
			return nil
		}
	}
	info := infos[id]
	if info == nil {
		m.log.Warn("agent runs tasks of a framework that nobody describes", "agent", a.id(), "framework", id)
		a.sendShutdownFramework(&mesosv1.FrameworkID{Value: &id})
		return nil
	}
	f := newFramework(clone(info), time.Time{})
	f.disconnected = now
	m.frameworks[id] = f
	return f
}
