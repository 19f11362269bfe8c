package master

import (
	"net/http"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	masterv1 "github.com/contrail-mesos/contrail/api/mesos/v1/master"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// operator is POST /api/v1.
func (m *Master) operator(w http.ResponseWriter, r *http.Request) {
	call := &masterv1.Call{}
	err := codec.ReadCall(w, r, maxCall, call)
	if err == nil {
		if text := invalidOperatorCall(call); text != "" {
			err = codec.Errorf(http.StatusBadRequest, "Failed to validate master::Call: %s", text)
		}
	}
	var mediaType codec.Type
	if err == nil {
		mediaType, err = codec.ResponseType(r)
	}
	if err == nil && call.GetType() == masterv1.Call_SUBSCRIBE {
		m.serveSubscriber(w, r, mediaType)
		return
	}
	var response *masterv1.Response
	if err == nil {
		response, err = m.operatorCall(r, call)
	}
	switch {
	case err != nil:
		codec.WriteError(w, err)
	case response == nil:
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
	default:
		codec.WriteMessage(w, mediaType, response)
	}
}

func invalidOperatorCall(call *masterv1.Call) string {
	if call.Type == nil || call.GetType() == masterv1.Call_UNKNOWN {
		return "Expecting 'type' to be present"
	}
	body, present := "", true
	switch call.GetType() {
	case masterv1.Call_GET_METRICS:
		body, present = "get_metrics", call.GetMetrics != nil
	case masterv1.Call_SET_LOGGING_LEVEL:
		body, present = "set_logging_level", call.SetLoggingLevel != nil
	case masterv1.Call_LIST_FILES:
		body, present = "list_files", call.ListFiles != nil
	case masterv1.Call_READ_FILE:
		body, present = "read_file", call.ReadFile != nil
	case masterv1.Call_DRAIN_AGENT:
		body, present = "drain_agent", call.DrainAgent != nil
	case masterv1.Call_DEACTIVATE_AGENT:
		body, present = "deactivate_agent", call.DeactivateAgent != nil
	case masterv1.Call_REACTIVATE_AGENT:
		body, present = "reactivate_agent", call.ReactivateAgent != nil
	case masterv1.Call_TEARDOWN:
		body, present = "teardown", call.Teardown != nil
	case masterv1.Call_MARK_AGENT_GONE:
		body, present = "mark_agent_gone", call.MarkAgentGone != nil
	}
	if !present {
		return "Expecting '" + body + "' to be present"
	}
	return ""
}

func (m *Master) serveSubscriber(w http.ResponseWriter, r *http.Request, mediaType codec.Type) {
	m.mu.Lock()
	s := m.subscribe()
	m.mu.Unlock()
	defer m.unsubscribe(s)
	records := codec.NewRecordWriter(w, mediaType, mediaType.String())
	ticker := time.NewTicker(m.cfg.Heartbeat)
	defer ticker.Stop()
	err := s.events.drain(r.Context(), ticker.C, func() *masterv1.Event {
		return &masterv1.Event{Type: masterv1.Event_HEARTBEAT.Enum()}
	}, func(event *masterv1.Event) error { return records.Write(event) })
	if err != nil {
		m.log.Debug("operator stream ended", "error", err)
	}
}

// operatorCall answers a call; without a response the answer is empty.
func (m *Master) operatorCall(r *http.Request, call *masterv1.Call) (*masterv1.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch call.GetType() {
	case masterv1.Call_TEARDOWN, masterv1.Call_MARK_AGENT_GONE, masterv1.Call_DRAIN_AGENT,
		masterv1.Call_DEACTIVATE_AGENT, masterv1.Call_REACTIVATE_AGENT:
		if caller := serve.CallerOf(r.Context()); !caller.IsAdmin() {
			return nil, codec.Errorf(http.StatusForbidden, "%s may not change the cluster", caller)
		}
		return nil, m.operatorChange(call, time.Now())
	}
	return m.operatorRead(call)
}

func (m *Master) operatorRead(call *masterv1.Call) (*masterv1.Response, error) {
	switch call.GetType() {
	case masterv1.Call_GET_HEALTH:
		return &masterv1.Response{Type: masterv1.Response_GET_HEALTH.Enum(), GetHealth: &masterv1.Response_GetHealth{Healthy: proto.Bool(true)}}, nil
	case masterv1.Call_GET_FLAGS:
		return &masterv1.Response{Type: masterv1.Response_GET_FLAGS.Enum(), GetFlags: &masterv1.Response_GetFlags{Flags: m.flagMessages()}}, nil
	case masterv1.Call_GET_VERSION:
		return &masterv1.Response{Type: masterv1.Response_GET_VERSION.Enum(), GetVersion: &masterv1.Response_GetVersion{
			VersionInfo: &mesosv1.VersionInfo{Version: &m.cfg.Version, BuildDate: proto.String(""), BuildTime: proto.Float64(0), BuildUser: proto.String("")},
		}}, nil
	case masterv1.Call_GET_METRICS:
		return &masterv1.Response{Type: masterv1.Response_GET_METRICS.Enum(), GetMetrics: &masterv1.Response_GetMetrics{Metrics: m.metricMessages()}}, nil
	case masterv1.Call_GET_STATE:
		return &masterv1.Response{Type: masterv1.Response_GET_STATE.Enum(), GetState: m.state()}, nil
	case masterv1.Call_GET_AGENTS:
		return &masterv1.Response{Type: masterv1.Response_GET_AGENTS.Enum(), GetAgents: m.state().GetGetAgents()}, nil
	case masterv1.Call_GET_FRAMEWORKS:
		return &masterv1.Response{Type: masterv1.Response_GET_FRAMEWORKS.Enum(), GetFrameworks: m.state().GetGetFrameworks()}, nil
	case masterv1.Call_GET_EXECUTORS:
		return &masterv1.Response{Type: masterv1.Response_GET_EXECUTORS.Enum(), GetExecutors: m.state().GetGetExecutors()}, nil
	case masterv1.Call_GET_TASKS:
		return &masterv1.Response{Type: masterv1.Response_GET_TASKS.Enum(), GetTasks: m.state().GetGetTasks()}, nil
	case masterv1.Call_GET_ROLES:
		return &masterv1.Response{Type: masterv1.Response_GET_ROLES.Enum(), GetRoles: &masterv1.Response_GetRoles{Roles: m.roleMessages()}}, nil
	case masterv1.Call_GET_WEIGHTS:
		return &masterv1.Response{Type: masterv1.Response_GET_WEIGHTS.Enum()}, nil
	case masterv1.Call_GET_LOGGING_LEVEL:
		return &masterv1.Response{Type: masterv1.Response_GET_LOGGING_LEVEL.Enum(), GetLoggingLevel: &masterv1.Response_GetLoggingLevel{Level: proto.Uint32(0)}}, nil
	case masterv1.Call_GET_MASTER:
		return &masterv1.Response{Type: masterv1.Response_GET_MASTER.Enum(), GetMaster: &masterv1.Response_GetMaster{
			MasterInfo: m.info, StartTime: proto.Float64(seconds(m.started)), ElectedTime: proto.Float64(seconds(m.started)),
		}}, nil
	case masterv1.Call_LIST_FILES, masterv1.Call_READ_FILE:
		return nil, codec.Errorf(http.StatusNotFound, "")
	default:
		return nil, codec.Errorf(http.StatusNotImplemented, "%s is not implemented", call.GetType())
	}
}

func (m *Master) operatorChange(call *masterv1.Call, now time.Time) error {
	switch call.GetType() {
	case masterv1.Call_TEARDOWN:
		return m.teardown(call.GetTeardown().GetFrameworkId().GetValue(), now)
	case masterv1.Call_MARK_AGENT_GONE:
		id := call.GetMarkAgentGone().GetAgentId().GetValue()
		known, err := m.markGone(id, now)
		if err == nil && !known {
			err = codec.Errorf(http.StatusNotFound, "Agent '%s' not found", id)
		}
		m.allocate(now)
		return err
	case masterv1.Call_DRAIN_AGENT:
		return m.changeAgent(call.GetDrainAgent().GetAgentId(), func(a *agent) { m.drainAgent(a, call.GetDrainAgent(), now) })
	case masterv1.Call_DEACTIVATE_AGENT:
		return m.changeAgent(call.GetDeactivateAgent().GetAgentId(), m.deactivate)
	default:
		return m.changeAgent(call.GetReactivateAgent().GetAgentId(), func(a *agent) { m.reactivate(a, now) })
	}
}

func (m *Master) teardown(id string, now time.Time) error {
	f := m.frameworks[id]
	if f == nil {
		return codec.Errorf(http.StatusBadRequest, "No framework found with specified ID")
	}
	m.removeFramework(f, now)
	m.allocate(now)
	return nil
}

func (m *Master) changeAgent(id *mesosv1.AgentID, change func(*agent)) error {
	a := m.agents[id.GetValue()]
	if a == nil {
		return codec.Errorf(http.StatusNotFound, "Agent '%s' not found", id.GetValue())
	}
	change(a)
	return nil
}

// state is all of GET_STATE, in copies.
func (m *Master) state() *masterv1.Response_GetState {
	tasks, executors := &masterv1.Response_GetTasks{}, &masterv1.Response_GetExecutors{}
	frameworks, agents := &masterv1.Response_GetFrameworks{}, &masterv1.Response_GetAgents{}
	addTasks := func(f *framework) {
		for _, t := range sortedTasks(f.tasks) {
			tasks.Tasks = append(tasks.Tasks, clone(t.info))
		}
		for _, t := range sorted(f.unreachable) {
			tasks.UnreachableTasks = append(tasks.UnreachableTasks, clone(t))
		}
		for _, t := range f.completed {
			tasks.CompletedTasks = append(tasks.CompletedTasks, clone(t))
		}
	}
	for _, f := range sorted(m.frameworks) {
		addTasks(f)
		if f.registered.IsZero() {
			frameworks.RecoveredFrameworks = append(frameworks.RecoveredFrameworks, clone(f.info))
		}
		frameworks.Frameworks = append(frameworks.Frameworks, m.shownFramework(f))
	}
	for _, f := range m.completed {
		addTasks(f)
		frameworks.CompletedFrameworks = append(frameworks.CompletedFrameworks, m.shownFramework(f))
	}
	for _, a := range sorted(m.agents) {
		agents.Agents = append(agents.Agents, m.shownAgent(a))
		for _, e := range a.sortedExecutors() {
			executors.Executors = append(executors.Executors, &masterv1.Response_GetExecutors_Executor{ExecutorInfo: clone(e.info), AgentId: a.info.GetId()})
		}
	}
	for id := range m.recovered {
		info := &mesosv1.AgentInfo{}
		if codec.UnmarshalJSON(m.registry.Agents[id].Info, info) == nil {
			agents.RecoveredAgents = append(agents.RecoveredAgents, info)
		}
	}
	return &masterv1.Response_GetState{GetTasks: tasks, GetExecutors: executors, GetFrameworks: frameworks, GetAgents: agents}
}

func (m *Master) shownAgent(a *agent) *masterv1.Response_GetAgents_Agent {
	shown := &masterv1.Response_GetAgents_Agent{
		AgentInfo: clone(a.info), Active: proto.Bool(a.session != nil), Deactivated: proto.Bool(a.deactivated), Version: &a.version,
		Pid: proto.String("slave(1)@" + a.address), RegisteredTime: timeInfo(a.registered),
		TotalResources: a.total.resources("", true), Capabilities: a.capabilities,
		AllocatedResources: a.allocated(), OfferedResources: m.offeredMessages(a),
	}
	if !a.reregistered.IsZero() {
		shown.ReregisteredTime = timeInfo(a.reregistered)
	}
	if a.drain != nil {
		shown.DrainInfo = clone(a.drain)
		shown.EstimatedDrainStartTime = timeInfo(a.drainStart)
	}
	return shown
}

// allocated is what tasks and executors hold, by role.
func (a *agent) allocated() []*mesosv1.Resource {
	byRole := map[string]quantities{}
	for _, t := range a.sortedTasks() {
		if !t.released {
			byRole[t.role] = byRole[t.role].plus(t.amounts)
		}
	}
	for _, e := range a.sortedExecutors() {
		role := e.role()
		byRole[role] = byRole[role].plus(e.amounts)
	}
	return inRoles(byRole)
}

func (e *executor) role() string {
	for _, r := range e.info.GetResources() {
		return r.GetAllocationInfo().GetRole()
	}
	return "*"
}

func (a *agent) sortedExecutors() []*executor {
	all := make([]*executor, 0, len(a.executors))
	keys := make([]ownedKey, 0, len(a.executors))
	for key := range a.executors {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareOwned)
	for _, key := range keys {
		all = append(all, a.executors[key])
	}
	return all
}

func inRoles(byRole map[string]quantities) []*mesosv1.Resource {
	var all []*mesosv1.Resource
	roles := make([]string, 0, len(byRole))
	for role := range byRole {
		roles = append(roles, role)
	}
	slices.Sort(roles)
	for _, role := range roles {
		all = append(all, byRole[role].resources(role, true)...)
	}
	return all
}

func (m *Master) offeredMessages(a *agent) []*mesosv1.Resource {
	byRole := map[string]quantities{}
	for _, o := range m.offers {
		if o.agent == a {
			byRole[o.role] = byRole[o.role].plus(o.amounts)
		}
	}
	return inRoles(byRole)
}

func (m *Master) shownFramework(f *framework) *masterv1.Response_GetFrameworks_Framework {
	shown := &masterv1.Response_GetFrameworks_Framework{
		FrameworkInfo: clone(f.info), Active: proto.Bool(f.stream != nil), Connected: proto.Bool(f.stream != nil),
		Recovered: proto.Bool(f.registered.IsZero()), RegisteredTime: timeInfo(f.registered), ReregisteredTime: timeInfo(f.reregistered),
	}
	if m.frameworks[f.id()] != f { // only of those that are removed
		shown.UnregisteredTime = timeInfo(f.disconnected)
	}
	byRole, offered := map[string]quantities{}, map[string]quantities{}
	for _, t := range sortedTasks(f.tasks) {
		if !t.released {
			byRole[t.role] = byRole[t.role].plus(t.amounts)
		}
	}
	for _, a := range sorted(m.agents) {
		for key, e := range a.executors {
			if key.framework == f.id() {
				byRole[e.role()] = byRole[e.role()].plus(e.amounts)
			}
		}
	}
	for _, o := range m.offersOf(f) {
		offered[o.role] = offered[o.role].plus(o.amounts)
		shown.Offers = append(shown.Offers, o.message())
	}
	shown.AllocatedResources, shown.OfferedResources = inRoles(byRole), inRoles(offered)
	return shown
}

func (m *Master) roleMessages() []*mesosv1.Role {
	type held struct {
		frameworks []*mesosv1.FrameworkID
		amounts    quantities
	}
	roles := map[string]*held{}
	for _, f := range sorted(m.frameworks) {
		for _, role := range f.roles() {
			if roles[role] == nil {
				roles[role] = &held{}
			}
			roles[role].frameworks = append(roles[role].frameworks, f.info.GetId())
		}
		for _, t := range sortedTasks(f.tasks) {
			if h := roles[t.role]; h != nil && !t.released {
				h.amounts = h.amounts.plus(t.amounts)
			}
		}
	}
	for _, a := range sorted(m.agents) {
		for _, e := range a.sortedExecutors() {
			if h := roles[e.role()]; h != nil {
				h.amounts = h.amounts.plus(e.amounts)
			}
		}
	}
	var all []*mesosv1.Role
	names := make([]string, 0, len(roles))
	for name := range roles {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		all = append(all, &mesosv1.Role{
			Name: &name, Weight: proto.Float64(1), Frameworks: roles[name].frameworks, Resources: roles[name].amounts.scalars().resources("", false),
		})
	}
	return all
}
