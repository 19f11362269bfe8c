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
		return nil, errors.New("No offers specified") //nolint:staticcheck // Mesos's text
	}
	var offers []*offer
	var problem error
	seen := map[string]bool{}
	for _, id := range ids {
		o := m.offers[id.GetValue()]
		switch {
		case seen[id.GetValue()]:
			problem = errors.Join(problem, fmt.Errorf("Duplicate offer %s in offer list", id.GetValue())) //nolint:staticcheck // Mesos's text
			continue
		case o == nil || o.framework != f:
			problem = errors.Join(problem, fmt.Errorf("Offer %s is no longer valid", id.GetValue())) //nolint:staticcheck // Mesos's text
			continue
		case len(offers) > 0 && o.agent != offers[0].agent:
			problem = errors.Join(problem, fmt.Errorf("Aggregated offers must belong to one single agent. Offer %s uses agent %s and agent %s", //nolint:staticcheck // Mesos's text
				o.id, o.agent.id(), offers[0].agent.id()))
		case len(offers) > 0 && o.role != offers[0].role:
			problem = errors.Join(problem, fmt.Errorf("Aggregated offers must be allocated to the same role. Offer %s uses role %s but another is being allocated to role %s", //nolint:staticcheck // Mesos's text
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
		return errors.New("Task group must have at least one task") //nolint:staticcheck // in the style of Mesos's texts
	}
	need, err := m.checkExecutor(acc, group.GetExecutor())
	if err != nil {
		return err
	}
	var all []*mesosv1.Resource
	for i, info := range tasks {
		if info.Executor != nil {
			return errors.New("'TaskInfo.executor' must not be set") //nolint:staticcheck // Mesos's text
		}
		if slices.ContainsFunc(tasks[:i], func(o *mesosv1.TaskInfo) bool { return o.GetTaskId().GetValue() == info.GetTaskId().GetValue() }) {
			return fmt.Errorf("Task has duplicate ID: %s", info.GetTaskId().GetValue()) //nolint:staticcheck // Mesos's text
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
		return fmt.Errorf("Total resources %s %s %s", need.text(role), words, acc.available.rangesFirst().text(acc.role)) //nolint:staticcheck // Mesos's text
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
		return nil, errors.New("Task should have at least one (but not both) of CommandInfo or ExecutorInfo present") //nolint:staticcheck // Mesos's text
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
		return fmt.Errorf("Task has duplicate ID: %s", id) //nolint:staticcheck // Mesos's text
	}
	if got := info.GetAgentId().GetValue(); got != acc.agent.id() {
		return fmt.Errorf("Task uses invalid agent %s while agent %s is expected", got, acc.agent.id()) //nolint:staticcheck // Mesos's text
	}
	return nil
}

func (m *Master) checkTaskItself(acc *acceptance, info *mesosv1.TaskInfo) (quantities, error) {
	if err := m.checkIdentity(acc, info); err != nil {
		return nil, err
	}
	if period := info.GetKillPolicy().GetGracePeriod(); period.GetNanoseconds() < 0 {
		return nil, errors.New("Task's 'kill_policy.grace_period' must be non-negative") //nolint:staticcheck // Mesos's text
	}
	if len(info.GetResources()) == 0 {
		return nil, errors.New("Task uses no resources") //nolint:staticcheck // Mesos's text
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
		return nil, fmt.Errorf("ExecutorInfo has an invalid FrameworkID (Actual: %s vs Expected: %s)", info.GetFrameworkId().GetValue(), acc.framework.id()) //nolint:staticcheck // Mesos's text
	case info.GetType() == mesosv1.ExecutorInfo_DEFAULT && info.Command != nil:
		return nil, errors.New("'ExecutorInfo.command' must not be set for 'DEFAULT' executor") //nolint:staticcheck // Mesos's text
	case info.GetType() != mesosv1.ExecutorInfo_DEFAULT && info.Command == nil:
		return nil, errors.New("'ExecutorInfo.command' must be set for 'CUSTOM' executor") //nolint:staticcheck // Mesos's text
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
		return nil, errors.New("ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.") //nolint:staticcheck // Mesos's text
	}
	return nil, nil
}

// validID checks an id that becomes a name of a directory.
func validID(id string) error {
	switch {
	case id == "":
		return errors.New("ID must not be empty") //nolint:staticcheck // Mesos's text
	case len(id) > 255:
		return errors.New("ID must not be greater than 255 characters") //nolint:staticcheck // Mesos's text
	case id == "." || id == "..":
		return fmt.Errorf("'%s' is disallowed", id)
	case strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' || r == '\\' }):
		return fmt.Errorf("'%s' contains invalid characters", id)
	}
	return nil
}
