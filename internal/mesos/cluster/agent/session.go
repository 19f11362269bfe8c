package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	"github.com/contrail-mesos/contrail/api/contrail/mesos/v1/mesosclusterv1connect"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// session is one stream to the master.
type session struct {
	out  chan *clusterv1.AgentMessage
	done <-chan struct{}
}

// send never blocks: what does not fit is an update, and comes again.
func (s *session) send(m *clusterv1.AgentMessage) {
	select {
	case s.out <- m:
	case <-s.done:
	default:
	}
}

// serveMaster keeps a session until ctx ends or the master wants the agent to go.
func (a *Agent) serveMaster(ctx context.Context) error {
	httpClient, base, err := serve.Client(a.config.Master, a.config.Credentials, true, ctls.RoleMaster)
	if err != nil {
		return err
	}
	defer httpClient.CloseIdleConnections()
	client := mesosclusterv1connect.NewClusterClient(httpClient, base, connect.WithGRPC())
	const least, most = 100 * time.Millisecond, 10 * time.Second
	pause := least
	for {
		began := time.Now()
		err := a.connect(ctx, client)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errGone):
			return errors.Join(err, a.startOver())
		case connect.CodeOf(err) == connect.CodeFailedPrecondition:
			a.log.Warn("the master does not want this agent back: its tasks end and it registers as a new one", "error", err)
			if err := a.startOver(); err != nil {
				return err
			}
		}
		if time.Since(began) > most {
			pause = least
		}
		a.log.Warn("no session with the master", "master", a.config.Master, "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, most)
	}
}

// silence of the master for this long ends the session: it pings each 15 s.
const silence = 50 * time.Second

func (a *Agent) connect(ctx context.Context, client mesosclusterv1connect.ClusterClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := client.Agent(ctx)
	defer stream.CloseResponse()
	if err := stream.Send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_Register{Register: a.registration()}}); err != nil {
		// The reason is in the answer.
		if _, answer := stream.Receive(); answer != nil {
			err = answer
		}
		return fmt.Errorf("register: %w", err)
	}
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	first, err := stream.Receive()
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	registered := first.GetRegistered()
	if id := registered.GetAgentId().GetValue(); id == "" {
		return errors.New("register: the master's first message gives no agent id")
	} else if err := a.saveIdentity(id); err != nil {
		return err
	} else {
		a.agentID.Store(&id)
	}
	s := &session{out: make(chan *clusterv1.AgentMessage, 4096), done: ctx.Done()}
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		for {
			select {
			case <-ctx.Done():
				return
			case m := <-s.out:
				if stream.Send(m) != nil {
					cancel()
					return
				}
			}
		}
	}()
	defer func() { a.session.CompareAndSwap(s, nil); cancel(); <-writer }()
	a.session.Store(s)
	a.log.Info("registered with the master", "master", a.config.Master, "agent", a.id().GetValue())
	for _, t := range a.current() {
		a.resend(t)
	}
	for {
		m, err := stream.Receive()
		if err != nil {
			return fmt.Errorf("session with the master: %w", err)
		}
		watchdog.Reset(silence)
		if err := a.obey(m); err != nil {
			return err
		}
	}
}

func (a *Agent) registration() *clusterv1.Register {
	r := &clusterv1.Register{
		Agent: a.info(), Version: proto.String(Version), Address: proto.String(a.endpoint()),
		Capabilities: []*mesosv1.AgentInfo_Capability{
			{Type: mesosv1.AgentInfo_Capability_MULTI_ROLE.Enum()},
			{Type: mesosv1.AgentInfo_Capability_HIERARCHICAL_ROLE.Enum()},
			{Type: mesosv1.AgentInfo_Capability_RESERVATION_REFINEMENT.Enum()},
		},
	}
	if a.id() == nil {
		return r
	}
	all := a.current()
	for _, t := range all {
		task := a.asTask(t)
		t.mu.Lock()
		if t.acknowledged == len(t.statuses) {
			task.StatusUpdateState, task.StatusUpdateUuid = nil, nil
		}
		t.mu.Unlock()
		// The newest is enough, and keeps the message small.
		if n := len(task.Statuses); n > 1 {
			task.Statuses = task.Statuses[n-1:]
		}
		r.Tasks = append(r.Tasks, task)
	}
	r.Frameworks = frameworks(all)
	return r
}

// obey does what the master says; it does not block.
func (a *Agent) obey(m *clusterv1.MasterMessage) error {
	switch body := m.GetBody().(type) {
	case *clusterv1.MasterMessage_Run:
		a.runAll(body.Run)
	case *clusterv1.MasterMessage_Kill:
		a.kill(body.Kill)
	case *clusterv1.MasterMessage_Acknowledge:
		a.acknowledge(body.Acknowledge.GetFrameworkId().GetValue(), body.Acknowledge.GetTaskId().GetValue(), body.Acknowledge.GetUuid())
	case *clusterv1.MasterMessage_ShutdownFramework:
		a.abandon(body.ShutdownFramework.GetFrameworkId().GetValue())
	case *clusterv1.MasterMessage_ShutdownExecutor:
		// A command executor's id is its task's.
		a.kill(&clusterv1.Kill{
			FrameworkId: body.ShutdownExecutor.GetFrameworkId(),
			TaskId:      &mesosv1.TaskID{Value: body.ShutdownExecutor.GetExecutorId().Value},
		})
	case *clusterv1.MasterMessage_FrameworkMessage:
		a.message(body.FrameworkMessage)
	case *clusterv1.MasterMessage_Resend:
		for _, t := range a.current() {
			if t.frameworkID() == body.Resend.GetFrameworkId().GetValue() {
				a.resend(t)
			}
		}
	case *clusterv1.MasterMessage_Ping:
		a.tell(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_Pong{Pong: &clusterv1.Pong{}}})
	case *clusterv1.MasterMessage_Shutdown:
		return fmt.Errorf("%w: %s", errGone, body.Shutdown.GetMessage())
	}
	return nil
}

func (a *Agent) runAll(r *clusterv1.Run) {
	if info := r.GetTask(); info != nil {
		a.run(r.GetFramework(), info)
		return
	}
	for _, info := range r.GetGroup().GetTasks().GetTasks() {
		t := newTask(r.GetFramework(), info)
		status := a.verdict(t, mesosv1.TaskState_TASK_FAILED, mesosv1.TaskStatus_REASON_TASK_GROUP_INVALID,
			"Task groups are not supported by this agent: launch the tasks one by one")
		// Nothing is kept of it, so nothing can be sent again.
		status.Uuid = nil
		status.ExecutorId = r.GetGroup().GetExecutor().GetExecutorId()
		a.send(t.framework.GetId(), status, status.GetState())
	}
	a.executorExited(r.GetFramework().GetId(), r.GetGroup().GetExecutor().GetExecutorId())
}

// executorExited tells the master that an executor which was asked for will not
// be: its resources are free.
func (a *Agent) executorExited(framework *mesosv1.FrameworkID, id *mesosv1.ExecutorID) {
	const exitCode1 = 1 << 8
	a.tell(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_ExecutorExited{ExecutorExited: &clusterv1.ExecutorExited{
		FrameworkId: framework, ExecutorId: id, Status: proto.Int32(exitCode1),
	}}})
}

func (a *Agent) kill(k *clusterv1.Kill) {
	t := a.find(k.GetFrameworkId().GetValue(), k.GetTaskId().GetValue())
	if t == nil {
		a.send(k.GetFrameworkId(), &mesosv1.TaskStatus{
			TaskId: k.GetTaskId(), State: a.goneState(k.GetFrameworkId().GetValue()).Enum(), AgentId: a.id(),
			Source: mesosv1.TaskStatus_SOURCE_AGENT.Enum(), Reason: mesosv1.TaskStatus_REASON_RECONCILIATION.Enum(),
			Message: proto.String("Kill: Task is unknown to the agent"), Timestamp: now(),
		}, mesosv1.TaskState_TASK_GONE)
		return
	}
	t.mu.Lock()
	if t.kill = k.GetKillPolicy(); t.kill == nil {
		t.kill = &mesosv1.KillPolicy{}
	}
	t.mu.Unlock()
	t.nudge()
}

// goneState is how a framework names a task that is not here.
func (a *Agent) goneState(framework string) mesosv1.TaskState {
	for _, t := range a.current() {
		if t.frameworkID() != framework {
			continue
		}
		for _, c := range t.framework.GetCapabilities() {
			if c.GetType() == mesosv1.FrameworkInfo_Capability_PARTITION_AWARE {
				return mesosv1.TaskState_TASK_GONE
			}
		}
		return mesosv1.TaskState_TASK_LOST
	}
	return mesosv1.TaskState_TASK_GONE
}

// abandon ends all tasks of a framework that was removed.
func (a *Agent) abandon(framework string) {
	for _, t := range a.current() {
		if t.frameworkID() != framework {
			continue
		}
		t.mu.Lock()
		t.abandoned = true
		t.acknowledged = len(t.statuses)
		if err := a.save(t); err != nil {
			a.log.Error("record of task is out of date", "task", t.id(), "error", err)
		}
		a.sendFirst(t) // there is none: it stops the repetition
		over := t.phase == ended
		t.mu.Unlock()
		t.nudge()
		if over {
			a.forget(t)
		}
	}
}
