package master

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	masterv1 "github.com/contrail-mesos/contrail/api/mesos/v1/master"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// framework is one that has subscribed and is not removed.
type framework struct {
	info *mesosv1.FrameworkInfo
	// stream is nil while the scheduler is away.
	stream       *schedulerStream
	registered   time.Time
	reregistered time.Time
	disconnected time.Time // also when it was removed
	suppressed   map[string]bool
	filters      map[filterKey][]filter

	tasks       map[string]*task // not terminal, or their end is not acknowledged
	unreachable map[string]*mesosv1.Task
	completed   []*mesosv1.Task
}

// schedulerStream is one subscription.
type schedulerStream struct {
	id        string
	mediaType codec.Type
	events    *queue[*schedulerv1.Event]
}

// filterKey is what a refusal is about.
type filterKey struct{ agent, role string }

// filter hides offers that have no more than was refused.
type filter struct {
	refused quantities
	until   time.Time
}

func (f *framework) id() string { return f.info.GetId().GetValue() }

func (f *framework) failoverTimeout() time.Duration {
	return boundedSeconds(f.info.GetFailoverTimeout())
}

// boundedSeconds reads a number of seconds of a client: never negative, and
// never more than a year, which is Mesos's own bound for filters.
func boundedSeconds(s float64) time.Duration {
	if !(s > 0) { // also NaN
		return 0
	}
	return time.Duration(min(s, 365*24*3600) * float64(time.Second))
}

func (f *framework) has(c mesosv1.FrameworkInfo_Capability_Type) bool {
	return slices.ContainsFunc(f.info.GetCapabilities(), func(have *mesosv1.FrameworkInfo_Capability) bool {
		return have.Type != nil && have.GetType() == c
	})
}

func (f *framework) partitionAware() bool {
	return f.has(mesosv1.FrameworkInfo_Capability_PARTITION_AWARE)
}

// visible is the state as the framework may see it.
func (f *framework) visible(state mesosv1.TaskState) mesosv1.TaskState {
	if f.partitionAware() {
		return state
	}
	switch state {
	case mesosv1.TaskState_TASK_UNREACHABLE, mesosv1.TaskState_TASK_GONE, mesosv1.TaskState_TASK_GONE_BY_OPERATOR,
		mesosv1.TaskState_TASK_UNKNOWN, mesosv1.TaskState_TASK_DROPPED:
		return mesosv1.TaskState_TASK_LOST
	}
	return state
}

func (f *framework) roles() []string { return rolesOf(f.info) }

func rolesOf(info *mesosv1.FrameworkInfo) []string {
	if slices.ContainsFunc(info.GetCapabilities(), func(c *mesosv1.FrameworkInfo_Capability) bool {
		return c.GetType() == mesosv1.FrameworkInfo_Capability_MULTI_ROLE
	}) {
		return info.GetRoles()
	}
	return []string{info.GetRole()}
}

// send queues an event for the scheduler, if it is there.
func (f *framework) send(events ...*schedulerv1.Event) {
	if f.stream != nil {
		f.stream.events.push(events...)
	}
}

func errorEvent(text string) *schedulerv1.Event {
	return &schedulerv1.Event{Type: schedulerv1.Event_ERROR.Enum(), Error: &schedulerv1.Event_Error{Message: &text}}
}

// update queues a status for the scheduler.
func (f *framework) update(status *mesosv1.TaskStatus) {
	status = clone(status)
	status.State = f.visible(status.GetState()).Enum()
	f.send(&schedulerv1.Event{Type: schedulerv1.Event_UPDATE.Enum(), Update: &schedulerv1.Event_Update{Status: status}})
}

// validateFramework returns the text of what is wrong with roles, or "".
func validateFramework(info *mesosv1.FrameworkInfo, suppressed []string) string {
	multi := slices.ContainsFunc(info.GetCapabilities(), func(c *mesosv1.FrameworkInfo_Capability) bool {
		return c.GetType() == mesosv1.FrameworkInfo_Capability_MULTI_ROLE
	})
	if multi && info.Role != nil {
		return "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"
	}
	if !multi && len(info.GetRoles()) > 0 {
		return "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable"
	}
	roles, field := rolesOf(info), "'FrameworkInfo.role' is not a valid role: "
	if multi {
		field = "'FrameworkInfo.roles' contains invalid role: "
	}
	for i, role := range roles {
		if text := invalidRole(role); text != "" {
			return field + text
		}
		if slices.Contains(roles[:i], role) {
			return fmt.Sprintf("'FrameworkInfo.roles' contains duplicate items: { %s }", role)
		}
	}
	var foreign []string
	for _, role := range suppressed {
		if !slices.Contains(roles, role) {
			foreign = append(foreign, role)
		}
	}
	if len(foreign) > 0 {
		return fmt.Sprintf("Suppressed roles { %s } are not contained in the set of roles", strings.Join(foreign, ", "))
	}
	return ""
}

// invalidRole returns what is wrong with a role, or "".
func invalidRole(role string) string {
	if role == "" {
		return "Empty role name is invalid"
	}
	if role == "*" {
		return ""
	}
	for _, part := range strings.Split(role, "/") {
		switch {
		case part == "":
			return fmt.Sprintf("Role '%s' cannot start or end with a slash, or contain two adjacent ones", role)
		case part == "." || part == ".." || part == "*":
			return fmt.Sprintf("Role component '%s' is invalid", part)
		case strings.HasPrefix(part, "-"):
			return fmt.Sprintf("Role component '%s' is invalid because it begins with a dash", part)
		case strings.ContainsAny(part, "\t\n\v\f\r \b\x7f"):
			return fmt.Sprintf("Role component '%s' is invalid because it contains backspace or whitespace", part)
		}
	}
	return ""
}

// subscribeFramework begins a subscription. On refusal the stream has one ERROR
// event and is closed.
func (m *Master) subscribeFramework(call *schedulerv1.Call_Subscribe, mediaType codec.Type, now time.Time) (*framework, *schedulerStream) {
	stream := &schedulerStream{id: uuid.NewString(), mediaType: mediaType, events: newQueue[*schedulerv1.Event]()}
	refuse := func(text string) (*framework, *schedulerStream) {
		stream.events.push(errorEvent(text))
		stream.events.close()
		return nil, stream
	}
	info := clone(call.GetFrameworkInfo())
	if text := validateFramework(info, call.GetSuppressedRoles()); text != "" {
		return refuse(text)
	}
	id := info.GetId().GetValue()
	if slices.ContainsFunc(m.completed, func(f *framework) bool { return f.id() == id }) {
		return refuse("Framework has been removed")
	}
	if id == "" {
		id = fmt.Sprintf("%s-%04d", m.id, m.nextFrame)
		m.nextFrame++
		info.Id = &mesosv1.FrameworkID{Value: &id}
	}
	f, known := m.frameworks[id]
	switch {
	case !known:
		f = newFramework(info, now)
		m.frameworks[id] = f
	case f.registered.IsZero(): // known through an agent only
		f.registered, f.reregistered = now, now
		known = false
		f.info = info
	default:
		if f.stream != nil {
			f.send(errorEvent("Framework failed over"))
			f.stream.events.close()
		}
		m.recoverOffers(f)
		keepImmutable(info, f.info)
		f.info, f.reregistered = info, now
		clear(f.filters)
	}
	f.suppressed = setOf(call.GetSuppressedRoles())
	f.stream = stream
	f.send(&schedulerv1.Event{
		Type: schedulerv1.Event_SUBSCRIBED.Enum(),
		Subscribed: &schedulerv1.Event_Subscribed{
			FrameworkId: f.info.GetId(), HeartbeatIntervalSeconds: proto.Float64(m.cfg.Heartbeat.Seconds()), MasterInfo: m.info,
		},
	}, &schedulerv1.Event{Type: schedulerv1.Event_HEARTBEAT.Enum()})
	if id == call.GetFrameworkInfo().GetId().GetValue() { // not a new one
		m.askForUpdates(f)
	}
	m.publishFramework(f, !known)
	m.log.Info("framework subscribed", "framework", id, "name", info.GetName(), "again", known)
	m.allocate(now)
	return f, stream
}

// askForUpdates makes agents send again what the framework has not acknowledged:
// their next repetition may be minutes away.
func (m *Master) askForUpdates(f *framework) {
	for _, a := range m.agents {
		a.send(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_Resend{Resend: &clusterv1.Resend{FrameworkId: f.info.GetId()}}})
	}
}

func newFramework(info *mesosv1.FrameworkInfo, registered time.Time) *framework {
	return &framework{
		info: info, registered: registered, reregistered: registered,
		filters: map[filterKey][]filter{}, suppressed: map[string]bool{},
		tasks: map[string]*task{}, unreachable: map[string]*mesosv1.Task{},
	}
}

// keepImmutable restores the fields that a subscription cannot change.
func keepImmutable(info, old *mesosv1.FrameworkInfo) {
	info.User, info.Checkpoint, info.Principal = old.User, old.Checkpoint, old.Principal
}

// disconnectFramework is called when a stream has ended; a newer subscription
// is not touched.
func (m *Master) disconnectFramework(f *framework, stream *schedulerStream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f == nil || f.stream != stream {
		return
	}
	now := time.Now()
	f.stream, f.disconnected = nil, now
	m.recoverOffers(f)
	m.log.Info("framework disconnected", "framework", f.id())
	if f.failoverTimeout() == 0 {
		m.removeFramework(f, now)
	}
	m.allocate(now)
}

// updateFramework is UPDATE_FRAMEWORK.
func (m *Master) updateFramework(f *framework, call *schedulerv1.Call_UpdateFramework, now time.Time) error {
	info := clone(call.GetFrameworkInfo())
	if text := validateFramework(info, call.GetSuppressedRoles()); text != "" {
		return codec.Errorf(400, "'UpdateFramework.framework_info' is not valid: %s", text)
	}
	for _, field := range []struct{ name, old, updated string }{
		{"principal", f.info.GetPrincipal(), info.GetPrincipal()},
		{"user", f.info.GetUser(), info.GetUser()},
		{"checkpoint", fmt.Sprint(f.info.GetCheckpoint()), fmt.Sprint(info.GetCheckpoint())},
	} {
		if field.old != field.updated {
			return codec.Errorf(400, "FrameworkInfo update is not valid: Updating 'FrameworkInfo.%s' is unsupported; attempted to update from '%s' to '%s'",
				field.name, field.old, field.updated)
		}
	}
	f.info = info
	f.suppressed = setOf(call.GetSuppressedRoles())
	for _, o := range m.offersOf(f) {
		if !slices.Contains(f.roles(), o.role) {
			m.rescind(o)
		}
	}
	m.publishFramework(f, false)
	m.allocate(now)
	return nil
}

// removeFramework ends a framework and everything of it.
func (m *Master) removeFramework(f *framework, now time.Time) {
	if f.stream != nil {
		f.stream.events.close()
		f.stream = nil
	}
	m.recoverOffers(f)
	f.disconnected = now
	for _, t := range sortedTasks(f.tasks) {
		m.finishTask(t, &mesosv1.TaskStatus{
			TaskId: t.info.GetTaskId(), State: mesosv1.TaskState_TASK_KILLED.Enum(), AgentId: t.info.GetAgentId(),
			Message: proto.String("Framework " + f.id() + " removed"), Source: mesosv1.TaskStatus_SOURCE_MASTER.Enum(),
			Reason: mesosv1.TaskStatus_REASON_FRAMEWORK_REMOVED.Enum(), Timestamp: proto.Float64(seconds(now)),
		})
	}
	f.completed = append(f.completed, slices.Collect(maps.Values(f.unreachable))...)
	clear(f.unreachable)
	for _, a := range m.agents {
		a.removeExecutorsOf(f.id())
		a.sendShutdownFramework(f.info.GetId())
	}
	delete(m.frameworks, f.id())
	m.completed = append(m.completed, f)
	if len(m.completed) > maxCompletedFrameworks {
		m.completed = m.completed[len(m.completed)-maxCompletedFrameworks:]
	}
	m.publish(&masterv1.Event{
		Type: masterv1.Event_FRAMEWORK_REMOVED.Enum(), FrameworkRemoved: &masterv1.Event_FrameworkRemoved{FrameworkInfo: clone(f.info)},
	})
	m.log.Info("framework removed", "framework", f.id())
}

func (m *Master) publishFramework(f *framework, added bool) {
	shown := &masterv1.Response_GetFrameworks_Framework{
		FrameworkInfo: clone(f.info), Active: proto.Bool(f.stream != nil), Connected: proto.Bool(f.stream != nil),
		Recovered: proto.Bool(false), RegisteredTime: timeInfo(f.registered), ReregisteredTime: timeInfo(f.reregistered),
		UnregisteredTime: timeInfo(time.Time{}),
	}
	if added {
		m.publish(&masterv1.Event{Type: masterv1.Event_FRAMEWORK_ADDED.Enum(), FrameworkAdded: &masterv1.Event_FrameworkAdded{Framework: shown}})
		return
	}
	m.publish(&masterv1.Event{Type: masterv1.Event_FRAMEWORK_UPDATED.Enum(), FrameworkUpdated: &masterv1.Event_FrameworkUpdated{Framework: shown}})
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

func sortedTasks(tasks map[string]*task) []*task {
	return slices.SortedFunc(maps.Values(tasks), func(a, b *task) int {
		return cmp.Compare(a.info.GetTaskId().GetValue(), b.info.GetTaskId().GetValue())
	})
}

// sorted returns the values of a map in the order of its keys.
func sorted[T any](all map[string]T) []T {
	values := make([]T, 0, len(all))
	for _, key := range slices.Sorted(maps.Keys(all)) {
		values = append(values, all[key])
	}
	return values
}
