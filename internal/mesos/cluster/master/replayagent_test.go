package master

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	masterv1 "github.com/contrail-mesos/contrail/api/mesos/v1/master"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// playedAgent says what it is told to, and repeats what is not acknowledged
// when it is asked to, or comes back.
type playedAgent struct {
	*testAgent
	node string
	done chan struct{}

	mu    sync.Mutex
	runs  []*clusterv1.Run
	open  []*clusterv1.StatusUpdate
	last  map[string]*mesosv1.TaskStatus // by task
	heard []string                       // kinds of orders, but acknowledgements
}

// startAgent registers a node under a new id.
func (r *replayer) startAgent(hostname string) {
	r.agent = r.h.play(&playedAgent{node: nodeA, last: map[string]*mesosv1.TaskStatus{}}, registration(hostname))
}

// play registers an agent and lets it hear what the master says.
func (h *harness) play(a *playedAgent, register *clusterv1.Register) *playedAgent {
	h.t.Helper()
	a.testAgent, a.done = h.agent(a.node, register), make(chan struct{})
	go a.listen(a.testAgent, a.done)
	h.t.Cleanup(a.leave)
	return a
}

// heardAll is whether none of the updates is open. What an agent that comes
// back has not heard the acknowledgement of, it says again.
func (a *playedAgent) heardAll(acknowledged [][]byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !slices.ContainsFunc(a.open, func(u *clusterv1.StatusUpdate) bool {
		return slices.ContainsFunc(acknowledged, func(id []byte) bool { return bytes.Equal(id, u.GetStatus().GetUuid()) })
	})
}

// leave ends the session, as a crash does.
func (a *playedAgent) leave() {
	a.testAgent.close()
	<-a.done
}

// comeBack registers again with everything that runs.
func (r *replayer) comeBack() {
	a := r.agent
	a.leave()
	a.mu.Lock()
	register := registration("node1.example")
	register.Agent.Id = a.id
	seen := map[string]bool{}
	for _, run := range a.runs {
		info := run.GetTask()
		task := &mesosv1.Task{
			Name: info.Name, TaskId: info.TaskId, FrameworkId: run.GetFramework().GetId(), AgentId: a.id, Resources: info.Resources,
			State: a.last[info.GetTaskId().GetValue()].State, Statuses: []*mesosv1.TaskStatus{a.last[info.GetTaskId().GetValue()]}, Container: info.Container,
		}
		for _, update := range a.open {
			if update.GetStatus().GetTaskId().GetValue() == info.GetTaskId().GetValue() {
				task.StatusUpdateState, task.StatusUpdateUuid = update.GetStatus().State, update.GetStatus().GetUuid()
			}
		}
		register.Tasks = append(register.Tasks, task)
		if id := run.GetFramework().GetId().GetValue(); !seen[id] {
			seen[id] = true
			register.Frameworks = append(register.Frameworks, run.GetFramework())
		}
	}
	a.mu.Unlock()
	r.h.play(a, register)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.repeat("")
}

func (a *playedAgent) listen(session *testAgent, done chan struct{}) {
	defer close(done)
	for m := range session.inbox {
		a.mu.Lock()
		switch body := m.GetBody().(type) {
		case *clusterv1.MasterMessage_Run:
			a.runs = append(a.runs, body.Run)
		case *clusterv1.MasterMessage_Acknowledge:
			a.open = slices.DeleteFunc(a.open, func(u *clusterv1.StatusUpdate) bool {
				return bytes.Equal(u.GetStatus().GetUuid(), body.Acknowledge.GetUuid())
			})
		case *clusterv1.MasterMessage_Resend:
			a.repeat(body.Resend.GetFrameworkId().GetValue())
		default:
			kind := fmt.Sprintf("%T", body)
			a.heard = append(a.heard, kind[strings.LastIndex(kind, "_")+1:])
		}
		a.mu.Unlock()
	}
}

// repeat sends what is not acknowledged, of one framework or, with "", of all.
// The lock is held.
func (a *playedAgent) repeat(framework string) {
	for _, update := range a.open {
		if framework == "" || framework == update.GetFrameworkId().GetValue() {
			a.send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_StatusUpdate{StatusUpdate: update}})
		}
	}
}

func (a *playedAgent) report(framework string, status *mesosv1.TaskStatus) {
	status = clone(status)
	status.AgentId = a.id
	a.mu.Lock()
	defer a.mu.Unlock()
	update := &clusterv1.StatusUpdate{FrameworkId: &mesosv1.FrameworkID{Value: &framework}, Status: status, LatestState: status.State}
	a.open = append(a.open, update)
	a.last[status.GetTaskId().GetValue()] = status
	a.send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_StatusUpdate{StatusUpdate: update}})
}

func (a *playedAgent) exited(framework string, failure *schedulerv1.Event_Failure) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_ExecutorExited{ExecutorExited: &clusterv1.ExecutorExited{
		FrameworkId: &mesosv1.FrameworkID{Value: &framework}, ExecutorId: failure.GetExecutorId(), Status: proto.Int32(failure.GetStatus()),
	}}})
}

// followOperator reads a stream of operators' events.
func (r *replayer) followOperator(s *replayStream, e exchange, response *http.Response) {
	s.operator = make(chan string, 1000)
	if e.Response.Headers["Content-Type"] != "application/json" {
		s.close()
		response.Body.Close()
		return
	}
	for _, rec := range e.Response.Records {
		event := &masterv1.Event{}
		if err := codec.UnmarshalJSON(rec.Record, event); err != nil {
			r.t.Fatal(err)
		}
		if line := operatorLine(event); line != "" {
			s.wanted = append(s.wanted, line)
		}
	}
	go func() {
		defer response.Body.Close()
		defer close(s.operator)
		reader := codec.NewRecordReader(response.Body, codec.MaxFrame)
		for {
			event := &masterv1.Event{}
			if reader.Read(codec.JSON, event) != nil {
				return
			}
			if line := operatorLine(event); line != "" {
				s.operator <- line
			}
		}
	}()
}

// compareOperator compares what operators are told. What is of different tasks
// may come in another order.
func (r *replayer) compareOperator(s *replayStream) {
	r.t.Helper()
	var got []string
	deadline := time.After(streamPatience)
	for len(got) < len(s.wanted) {
		select {
		case line, ok := <-s.operator:
			if ok {
				got = append(got, line)
				continue
			}
		case <-deadline:
		}
		break
	}
	want := slices.Clone(s.wanted)
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("%s, operator stream: (-recorded +ours)\n%s", r.file, diff)
	}
}

// operatorLine is an event in a line; "" for those that are not compared.
func operatorLine(e *masterv1.Event) string {
	kind := e.GetType().String()
	switch {
	case e.TaskAdded != nil:
		return kind + " " + e.GetTaskAdded().GetTask().GetTaskId().GetValue() + " " + e.GetTaskAdded().GetTask().GetState().String()
	case e.TaskUpdated != nil:
		s := e.GetTaskUpdated().GetStatus()
		return fmt.Sprintf("%s %s %s %s %s %s uuid=%t container=%t %s", kind, s.GetTaskId().GetValue(), s.GetState(), e.GetTaskUpdated().GetState(),
			s.GetSource(), reasonOf(s), s.Uuid != nil, s.ContainerStatus != nil, neutral(s.GetMessage()))
	case e.FrameworkAdded != nil:
		return kind + " " + e.GetFrameworkAdded().GetFramework().GetFrameworkInfo().GetName()
	case e.FrameworkUpdated != nil:
		info := e.GetFrameworkUpdated().GetFramework().GetFrameworkInfo()
		return kind + " " + info.GetName() + " " + info.GetWebuiUrl()
	case e.FrameworkRemoved != nil:
		return kind + " " + e.GetFrameworkRemoved().GetFrameworkInfo().GetName()
	case e.AgentAdded != nil:
		return kind + " " + e.GetAgentAdded().GetAgent().GetAgentInfo().GetHostname()
	case e.AgentRemoved != nil:
		return kind
	}
	return ""
}
