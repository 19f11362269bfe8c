package master

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// TestReplayOperator brings the master into the recorded state: one framework
// with a task that runs, one of a group, and one that has finished.
func TestReplayOperator(t *testing.T) {
	for _, file := range []string{"master-01-operator-calls.json", "master-02-legacy-endpoints.json", "master-06-legacy-suffix-and-misc.json"} {
		t.Run(file, func(t *testing.T) {
			r := newReplayer(t, file)
			if file != "master-06-legacy-suffix-and-misc.json" {
				seed(t, r)
			}
			r.run(recorded(t, file), func(e exchange) bool { return e.N == 28 && strings.HasPrefix(file, "master-02") })
		})
	}
}

// seed launches the tasks of GET_STATE in master-01.
func seed(t *testing.T, r *replayer) {
	var state struct {
		State struct {
			Frameworks struct {
				Frameworks []struct {
					Info json.RawMessage `json:"framework_info"`
				} `json:"frameworks"`
			} `json:"get_frameworks"`
			Executors struct {
				Executors []struct {
					Info json.RawMessage `json:"executor_info"`
				} `json:"executors"`
			} `json:"get_executors"`
			Tasks struct {
				Tasks     []json.RawMessage `json:"tasks"`
				Completed []json.RawMessage `json:"completed_tasks"`
			} `json:"get_tasks"`
		} `json:"get_state"`
	}
	if err := json.Unmarshal(recorded(t, "master-01-operator-calls.json")[4].Response.Body, &state); err != nil {
		t.Fatal(err)
	}
	info := &mesosv1.FrameworkInfo{}
	if err := codec.UnmarshalJSON(state.State.Frameworks.Frameworks[0].Info, info); err != nil {
		t.Fatal(err)
	}
	old := info.GetId().GetValue()
	info.Id = nil
	a := r.h.agent(nodeA, fullRegistration())
	s := r.h.subscribe(info)
	r.ids[old] = s.id.GetValue()
	executorInfo := &mesosv1.ExecutorInfo{}
	if err := codec.UnmarshalJSON(state.State.Executors.Executors[0].Info, executorInfo); err != nil {
		t.Fatal(err)
	}
	executorInfo.FrameworkId = s.id
	for _, text := range append(state.State.Tasks.Tasks, state.State.Tasks.Completed...) {
		task := &mesosv1.Task{}
		if err := codec.UnmarshalJSON(text, task); err != nil {
			t.Fatal(err)
		}
		launchRecorded(t, s, a, task, executorInfo)
	}
	s.simple(schedulerv1.Call_SUPPRESS) // nothing is on offer in the recording
	r.h.master.mu.Lock()
	outstanding := r.h.master.offersOf(r.h.master.frameworks[s.id.GetValue()])
	r.h.master.mu.Unlock()
	for _, o := range outstanding {
		s.call(&schedulerv1.Call{Type: schedulerv1.Call_DECLINE.Enum(), Decline: &schedulerv1.Call_Decline{
			OfferIds: []*mesosv1.OfferID{{Value: &o.id}}, Filters: &mesosv1.Filters{RefuseSeconds: proto.Float64(3600)},
		}}, http.StatusAccepted)
	}
	r.agent = &playedAgent{testAgent: a}
}

func fullRegistration() *clusterv1.Register { return registration("node1.example") }

func launchRecorded(t *testing.T, s *testScheduler, a *testAgent, task *mesosv1.Task, executorInfo *mesosv1.ExecutorInfo) {
	t.Helper()
	info := &mesosv1.TaskInfo{
		Name: task.Name, TaskId: task.TaskId, AgentId: a.id, Resources: task.Resources, Labels: task.Labels, Discovery: task.Discovery, Container: task.Container,
	}
	o := s.offer()
	operation := &mesosv1.Offer_Operation{}
	if task.ExecutorId != nil {
		operation.Type = mesosv1.Offer_Operation_LAUNCH_GROUP.Enum()
		operation.LaunchGroup = &mesosv1.Offer_Operation_LaunchGroup{Executor: executorInfo, TaskGroup: &mesosv1.TaskGroupInfo{Tasks: []*mesosv1.TaskInfo{info}}}
	} else {
		info.Command = &mesosv1.CommandInfo{Value: proto.String("sleep 1000")}
		operation.Type = mesosv1.Offer_Operation_LAUNCH.Enum()
		operation.Launch = &mesosv1.Offer_Operation_Launch{TaskInfos: []*mesosv1.TaskInfo{info}}
	}
	s.call(&schedulerv1.Call{Type: schedulerv1.Call_ACCEPT.Enum(), Accept: &schedulerv1.Call_Accept{
		OfferIds: []*mesosv1.OfferID{o.GetId()}, Operations: []*mesosv1.Offer_Operation{operation}, Filters: &mesosv1.Filters{RefuseSeconds: proto.Float64(0)},
	}}, http.StatusAccepted)
	a.next()
	for _, status := range task.GetStatuses() {
		status = clone(status)
		status.AgentId = a.id
		a.send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_StatusUpdate{StatusUpdate: &clusterv1.StatusUpdate{
			FrameworkId: s.id, Status: status, LatestState: status.State,
		}}})
		s.acknowledge(s.update(task.GetTaskId().GetValue(), status.GetState()))
		a.next()
	}
}
