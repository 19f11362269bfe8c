package master

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
)

// acceptance is an ACCEPT under way: what is left of its offers.
type acceptance struct {
	framework *framework
	agent     *agent
	role      string
	available quantities
	now       time.Time
}

// accept is the scheduler's ACCEPT.
func (m *Master) accept(f *framework, call *schedulerv1.Call_Accept, now time.Time) {
	offers, err := m.takeOffers(f, call.GetOfferIds())
	if err != nil {
		m.dropTasks(f, call, "Task launched with invalid offers: "+err.Error(), now)
		m.allocate(now)
		return
	}
	acc := &acceptance{framework: f, agent: offers[0].agent, role: offers[0].role, now: now}
	for _, o := range offers {
		acc.available = acc.available.plus(o.amounts)
	}
	for _, operation := range call.GetOperations() {
		switch operation.GetType() {
		case mesosv1.Offer_Operation_LAUNCH:
			for _, info := range operation.GetLaunch().GetTaskInfos() {
				m.launch(acc, info)
			}
		case mesosv1.Offer_Operation_LAUNCH_GROUP:
			m.launchGroup(acc, operation.GetLaunchGroup())
		default:
			m.log.Warn("operation is not supported and dropped", "framework", f.id(), "operation", operation.GetType().String())
		}
	}
	f.refuse(acc.agent, acc.role, acc.available, call.GetFilters(), now)
	m.allocate(now)
}

// takeOffers removes the offers. On error too: none of them can be used again.
func (m *Master) takeOffers(f *framework, ids []*mesosv1.OfferID) ([]*offer, error) {
	if len(ids) == 0 {
		return nil, told("No offers specified")
	}
	var offers []*offer
	var problem error
	seen := map[string]bool{}
	for _, id := range ids {
		o := m.offers[id.GetValue()]
		switch {
		case seen[id.GetValue()]:
			problem = errors.Join(problem, told("Duplicate offer %s in offer list", id.GetValue()))
			continue
		case o == nil || o.framework != f:
			problem = errors.Join(problem, told("Offer %s is no longer valid", id.GetValue()))
			continue
		case len(offers) > 0 && o.agent != offers[0].agent:
			problem = errors.Join(problem, told("Aggregated offers must belong to one single agent. Offer %s uses agent %s and agent %s",
				o.id, o.agent.id(), offers[0].agent.id()))
		case len(offers) > 0 && o.role != offers[0].role:
			problem = errors.Join(problem, told("Aggregated offers must be allocated to the same role. Offer %s uses role %s but another is being allocated to role %s",
				o.id, o.role, offers[0].role))
		}
		seen[o.id] = true
		offers = append(offers, o)
	}
	for _, o := range offers {
		delete(m.offers, o.id)
	}
	if joined, ok := problem.(interface{ Unwrap() []error }); ok {
		problem = joined.Unwrap()[0]
	}
	return offers, problem
}

// dropTasks answers for all tasks of an ACCEPT whose offers are not valid.
func (m *Master) dropTasks(f *framework, call *schedulerv1.Call_Accept, message string, now time.Time) {
	for _, operation := range call.GetOperations() {
		tasks := operation.GetLaunch().GetTaskInfos()
		if operation.GetType() == mesosv1.Offer_Operation_LAUNCH_GROUP {
			tasks = operation.GetLaunchGroup().GetTaskGroup().GetTasks()
		}
		for _, info := range tasks {
			refuseTask(f, info, mesosv1.TaskState_TASK_DROPPED, mesosv1.TaskStatus_REASON_INVALID_OFFERS, message, now)
		}
	}
}

func refuseTask(f *framework, info *mesosv1.TaskInfo, state mesosv1.TaskState, reason mesosv1.TaskStatus_Reason, message string, now time.Time) {
	f.update(&mesosv1.TaskStatus{
		TaskId: info.GetTaskId(), State: &state, Message: &message, Source: mesosv1.TaskStatus_SOURCE_MASTER.Enum(),
		Reason: &reason, AgentId: info.GetAgentId(), Timestamp: proto.Float64(seconds(now)),
	})
}

func (m *Master) launch(acc *acceptance, info *mesosv1.TaskInfo) {
	info = clone(info)
	need, err := m.checkTask(acc, info)
	if err == nil {
		err = acc.take(need, "required by task and its executor is more than available", info.GetResources())
	}
	if err != nil {
		refuseTask(acc.framework, info, mesosv1.TaskState_TASK_ERROR, mesosv1.TaskStatus_REASON_TASK_INVALID, err.Error(), acc.now)
		return
	}
	if info.Executor != nil {
		m.addExecutor(acc, info.Executor)
	}
	m.startTask(acc, info, info.GetExecutor().GetExecutorId())
	acc.agent.send(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_Run{Run: &clusterv1.Run{
		Framework: clone(acc.framework.info), What: &clusterv1.Run_Task{Task: info},
	}}})
}

// launchGroup starts all tasks of a group or none.
func (m *Master) launchGroup(acc *acceptance, group *mesosv1.Offer_Operation_LaunchGroup) {
	group = clone(group)
	tasks := group.GetTaskGroup().GetTasks()
	if err := m.checkGroup(acc, group); err != nil {
		for _, info := range tasks {
			refuseTask(acc.framework, info, mesosv1.TaskState_TASK_ERROR, mesosv1.TaskStatus_REASON_TASK_GROUP_INVALID, err.Error(), acc.now)
		}
		return
	}
	m.addExecutor(acc, group.Executor)
	for _, info := range tasks {
		m.startTask(acc, info, group.Executor.GetExecutorId())
	}
	acc.agent.send(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_Run{Run: &clusterv1.Run{
		Framework: clone(acc.framework.info),
		What:      &clusterv1.Run_Group{Group: &clusterv1.TaskGroup{Executor: group.Executor, Tasks: group.TaskGroup}},
	}}})
}

func (m *Master) checkGroup(acc *acceptance, group *mesosv1.Offer_Operation_LaunchGroup) error {
	tasks := group.GetTaskGroup().GetTasks()
	if len(tasks) == 0 {
		return told("Task group must have at least one task")
	}
	need, err := m.checkExecutor(acc, group.GetExecutor())
	if err != nil {
		return err
	}
	var all []*mesosv1.Resource
	for i, info := range tasks {
		if info.Executor != nil {
			return told("'TaskInfo.executor' must not be set")
		}
		if slices.ContainsFunc(tasks[:i], func(o *mesosv1.TaskInfo) bool { return o.GetTaskId().GetValue() == info.GetTaskId().GetValue() }) {
			return told("Task has duplicate ID: %s", info.GetTaskId().GetValue())
		}
		amounts, err := m.checkTaskItself(acc, info)
		if err != nil {
			return err
		}
		need = need.plus(amounts)
		all = append(all, info.GetResources()...)
	}
	return acc.take(need, "required by task group and its executor are more than available", all)
}

// startTask records a task that is about to be sent to its agent.
func (m *Master) startTask(acc *acceptance, info *mesosv1.TaskInfo, executor *mesosv1.ExecutorID) {
	amounts, err := quantitiesOf(info.GetResources())
	if err != nil {
		m.log.Error("resources of a checked task do not parse", "task", info.GetTaskId().GetValue(), "error", err)
	}
	info.Resources = amounts.resources(acc.role, false)
	m.attachTask(&task{
		info: &mesosv1.Task{
			Name: info.Name, TaskId: info.TaskId, FrameworkId: acc.framework.info.GetId(), ExecutorId: executor, AgentId: info.AgentId,
			State: mesosv1.TaskState_TASK_STAGING.Enum(), Resources: info.Resources, Labels: info.Labels, Discovery: info.Discovery,
			Container: info.Container, HealthCheck: info.HealthCheck, KillPolicy: info.KillPolicy, Limits: info.Limits,
			User: commandUser(info),
		},
		framework: acc.framework, agent: acc.agent, role: acc.role, amounts: amounts,
	})
}

func commandUser(info *mesosv1.TaskInfo) *string {
	if info.Command != nil {
		return info.Command.User
	}
	if command := info.GetExecutor().GetCommand(); command != nil {
		return command.User
	}
	return nil
}

func (m *Master) addExecutor(acc *acceptance, info *mesosv1.ExecutorInfo) {
	key := ownedKey{acc.framework.id(), info.GetExecutorId().GetValue()}
	if acc.agent.executors[key] != nil {
		return
	}
	amounts, err := quantitiesOf(info.GetResources())
	if err != nil {
		m.log.Error("resources of a checked executor do not parse", "executor", key.id, "error", err)
	}
	info.Resources = amounts.resources(acc.role, false)
	acc.agent.executors[key] = &executor{info: clone(info), amounts: amounts}
}

// take uses up a part of what the offers have.
func (acc *acceptance) take(need quantities, words string, resources []*mesosv1.Resource) error {
	role := acc.role
	for _, r := range resources {
		if r.AllocationInfo != nil {
			role = r.GetAllocationInfo().GetRole()
		}
	}
	if role != acc.role || !acc.available.contains(need) {
		return told("Total resources %s %s %s", need.text(role), words, acc.available.rangesFirst().text(acc.role))
	}
	acc.available = acc.available.minus(need)
	return nil
}

// checkTask validates a task of LAUNCH and returns what it and a new executor
// of it need.
func (m *Master) checkTask(acc *acceptance, info *mesosv1.TaskInfo) (quantities, error) {
	if err := m.checkIdentity(acc, info); err != nil {
		return nil, err
	}
	if (info.Command == nil) == (info.Executor == nil) {
		return nil, told("Task should have at least one (but not both) of CommandInfo or ExecutorInfo present")
	}
	need, err := m.checkTaskItself(acc, info)
	if err != nil || info.Executor == nil {
		return need, err
	}
	ofExecutor, err := m.checkExecutor(acc, info.Executor)
	return need.plus(ofExecutor), err
}

func (m *Master) checkIdentity(acc *acceptance, info *mesosv1.TaskInfo) error {
	id := info.GetTaskId().GetValue()
	if err := validID(id); err != nil {
		return err
	}
	if acc.framework.tasks[id] != nil {
		return told("Task has duplicate ID: %s", id)
	}
	if got := info.GetAgentId().GetValue(); got != acc.agent.id() {
		return told("Task uses invalid agent %s while agent %s is expected", got, acc.agent.id())
	}
	return nil
}

func (m *Master) checkTaskItself(acc *acceptance, info *mesosv1.TaskInfo) (quantities, error) {
	if err := m.checkIdentity(acc, info); err != nil {
		return nil, err
	}
	if period := info.GetKillPolicy().GetGracePeriod(); period.GetNanoseconds() < 0 {
		return nil, told("Task's 'kill_policy.grace_period' must be non-negative")
	}
	if len(info.GetResources()) == 0 {
		return nil, told("Task uses no resources")
	}
	return quantitiesOf(info.GetResources())
}

// checkExecutor validates an executor and returns what it needs: nothing if it
// runs already.
func (m *Master) checkExecutor(acc *acceptance, info *mesosv1.ExecutorInfo) (quantities, error) {
	if err := validID(info.GetExecutorId().GetValue()); err != nil {
		return nil, err
	}
	if info.FrameworkId == nil {
		info.FrameworkId = acc.framework.info.GetId()
	}
	switch {
	case info.GetFrameworkId().GetValue() != acc.framework.id():
		return nil, told("ExecutorInfo has an invalid FrameworkID (Actual: %s vs Expected: %s)", info.GetFrameworkId().GetValue(), acc.framework.id())
	case info.GetType() == mesosv1.ExecutorInfo_DEFAULT && info.Command != nil:
		return nil, told("'ExecutorInfo.command' must not be set for 'DEFAULT' executor")
	case info.GetType() != mesosv1.ExecutorInfo_DEFAULT && info.Command == nil:
		return nil, told("'ExecutorInfo.command' must be set for 'CUSTOM' executor")
	}
	need, err := quantitiesOf(info.GetResources())
	if err != nil {
		return nil, err
	}
	running := acc.agent.executors[ownedKey{acc.framework.id(), info.GetExecutorId().GetValue()}]
	if running == nil {
		return need, nil
	}
	same := clone(info)
	same.Resources = need.resources(acc.role, false)
	if !proto.Equal(same, running.info) {
		return nil, told("ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.")
	}
	return nil, nil
}

// validID checks an id that becomes a name of a directory.
func validID(id string) error {
	switch {
	case id == "":
		return told("ID must not be empty")
	case len(id) > 255:
		return told("ID must not be greater than 255 characters")
	case id == "." || id == "..":
		return fmt.Errorf("'%s' is disallowed", id)
	case strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' || r == '\\' }):
		return fmt.Errorf("'%s' contains invalid characters", id)
	}
	return nil
}

// told is an error with a text of Mesos, which schedulers read: it is not ours
// to write as other errors.
func told(format string, args ...any) error { return fmt.Errorf(format, args...) }
