package agent

import (
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	agentv1 "github.com/contrail-mesos/contrail/api/mesos/v1/agent"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/container"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// serveOperator is POST /api/v1.
func (a *Agent) serveOperator(w http.ResponseWriter, r *http.Request) {
	call := &agentv1.Call{}
	if err := codec.ReadCall(w, r, maxCall, call); err != nil {
		codec.WriteError(w, withRecordIO(err))
		return
	}
	accept, err := codec.ResponseType(r)
	if err != nil {
		codec.WriteError(w, codec.Errorf(http.StatusNotAcceptable,
			"Expecting 'Accept' to allow application/json or application/x-protobuf or application/recordio"))
		return
	}
	response, err := a.answer(call)
	if err != nil {
		codec.WriteError(w, err)
		return
	}
	codec.WriteMessage(w, accept, response)
}

// withRecordIO rewrites the one text in which this endpoint differs.
func withRecordIO(err error) error {
	if e, ok := err.(*codec.HTTPError); ok && e.Status == http.StatusUnsupportedMediaType {
		return codec.Errorf(e.Status, "Expecting 'Content-Type' of application/json or application/x-protobuf or application/recordio")
	}
	return err
}

func (a *Agent) answer(call *agentv1.Call) (*agentv1.Response, error) {
	r := &agentv1.Response{}
	if kind, ok := agentv1.Response_Type_value[call.GetType().String()]; ok {
		r.Type = agentv1.Response_Type(kind).Enum()
	}
	switch call.GetType() {
	case agentv1.Call_GET_HEALTH:
		r.GetHealth = &agentv1.Response_GetHealth{Healthy: proto.Bool(true)}
	case agentv1.Call_GET_VERSION:
		r.GetVersion = &agentv1.Response_GetVersion{VersionInfo: &mesosv1.VersionInfo{Version: proto.String(Version)}}
	case agentv1.Call_GET_FLAGS:
		r.GetFlags = &agentv1.Response_GetFlags{}
		for _, name := range sortedKeys(a.config.Flags) {
			r.GetFlags.Flags = append(r.GetFlags.Flags, &mesosv1.Flag{Name: proto.String(name), Value: proto.String(a.config.Flags[name])})
		}
	case agentv1.Call_GET_METRICS:
		r.GetMetrics = &agentv1.Response_GetMetrics{}
		all := a.metrics()
		for _, name := range sortedKeys(all) {
			r.GetMetrics.Metrics = append(r.GetMetrics.Metrics, &mesosv1.Metric{Name: proto.String(name), Value: proto.Float64(all[name])})
		}
	case agentv1.Call_GET_LOGGING_LEVEL:
		r.GetLoggingLevel = &agentv1.Response_GetLoggingLevel{Level: proto.Uint32(0)}
	case agentv1.Call_GET_STATE:
		r.GetState = &agentv1.Response_GetState{GetTasks: a.getTasks(), GetExecutors: a.getExecutors(), GetFrameworks: a.getFrameworks()}
	case agentv1.Call_GET_CONTAINERS:
		if all := a.containers(); len(all) > 0 {
			r.GetContainers = &agentv1.Response_GetContainers{Containers: all}
		}
	case agentv1.Call_GET_TASKS:
		r.GetTasks = a.getTasks()
	case agentv1.Call_GET_EXECUTORS:
		r.GetExecutors = a.getExecutors()
	case agentv1.Call_GET_FRAMEWORKS:
		r.GetFrameworks = a.getFrameworks()
	case agentv1.Call_GET_OPERATIONS, agentv1.Call_GET_RESOURCE_PROVIDERS:
		// There are none, and the answer has nothing but its type.
	case agentv1.Call_GET_AGENT:
		r.GetAgent = &agentv1.Response_GetAgent{AgentInfo: a.info()}
	case agentv1.Call_LIST_FILES:
		return a.listFiles(r, call.GetListFiles())
	case agentv1.Call_READ_FILE:
		return a.readFile(r, call.GetReadFile())
	case agentv1.Call_UNKNOWN:
		return nil, codec.Errorf(http.StatusBadRequest, "Failed to validate agent::Call: Expecting 'type' to be present")
	default:
		return nil, codec.Errorf(http.StatusNotImplemented, "%s is not supported by this agent", call.GetType())
	}
	return r, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// ended tasks that are still in memory, newest last.
func (a *Agent) done() []*task {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.completed)
}

func (t *task) now() (phase, mesosv1.TaskState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.phase, t.state()
}

func (a *Agent) getTasks() *agentv1.Response_GetTasks {
	r := &agentv1.Response_GetTasks{}
	for _, t := range a.current() {
		shown := a.asTask(t)
		switch p, state := t.now(); {
		case terminal(state):
			r.TerminatedTasks = append(r.TerminatedTasks, shown)
		case p == launching:
			r.QueuedTasks = append(r.QueuedTasks, shown)
		default:
			r.LaunchedTasks = append(r.LaunchedTasks, shown)
		}
	}
	for _, t := range a.done() {
		r.CompletedTasks = append(r.CompletedTasks, a.asTask(t))
	}
	return r
}

func (a *Agent) getExecutors() *agentv1.Response_GetExecutors {
	r := &agentv1.Response_GetExecutors{}
	for _, t := range a.current() {
		shown := &agentv1.Response_GetExecutors_Executor{ExecutorInfo: a.executorInfo(t)}
		if p, _ := t.now(); p == ended {
			r.CompletedExecutors = append(r.CompletedExecutors, shown)
		} else {
			r.Executors = append(r.Executors, shown)
		}
	}
	for _, t := range a.done() {
		r.CompletedExecutors = append(r.CompletedExecutors, &agentv1.Response_GetExecutors_Executor{ExecutorInfo: a.executorInfo(t)})
	}
	return r
}

func (a *Agent) getFrameworks() *agentv1.Response_GetFrameworks {
	r := &agentv1.Response_GetFrameworks{}
	current := frameworks(a.current())
	for _, f := range current {
		r.Frameworks = append(r.Frameworks, &agentv1.Response_GetFrameworks_Framework{FrameworkInfo: f})
	}
	for _, f := range frameworks(a.done()) {
		if !slices.ContainsFunc(current, func(c *mesosv1.FrameworkInfo) bool { return c.GetId().GetValue() == f.GetId().GetValue() }) {
			r.CompletedFrameworks = append(r.CompletedFrameworks, &agentv1.Response_GetFrameworks_Framework{FrameworkInfo: f})
		}
	}
	return r
}

func (a *Agent) containers() []*agentv1.Response_GetContainers_Container {
	var all []*agentv1.Response_GetContainers_Container
	for _, t := range a.current() {
		t.mu.Lock()
		if t.phase == ended {
			t.mu.Unlock()
			continue
		}
		status := a.containerStatus(t)
		t.mu.Unlock()
		all = append(all, &agentv1.Response_GetContainers_Container{
			FrameworkId: t.framework.GetId(), ExecutorId: &mesosv1.ExecutorID{Value: proto.String(t.id())},
			ExecutorName: proto.String(executorName(t.info)), ContainerId: status.GetContainerId(),
			ContainerStatus: status, ResourceStatistics: a.statistics(t),
		})
	}
	return all
}

func (a *Agent) statistics(t *task) *mesosv1.ResourceStatistics {
	usage := container.OpenGroup(a.cgroup(t.cid)).Usage()
	s := &mesosv1.ResourceStatistics{
		Timestamp: now(), CpusUserTimeSecs: &usage.UserSeconds, CpusSystemTimeSecs: &usage.SystemSeconds,
		MemTotalBytes: bytesOf(usage.Memory), MemLimitBytes: bytesOf(usage.MemoryLimit), MemRssBytes: bytesOf(usage.RSS),
		MemAnonBytes: bytesOf(usage.RSS), MemCacheBytes: bytesOf(usage.Cache), MemFileBytes: bytesOf(usage.Cache),
	}
	if a.config.CPUQuota {
		s.CpusLimit = proto.Float64(limitsOf(t.info, true).CPUs)
	}
	return s
}

func bytesOf(n int64) *uint64 { return proto.Uint64(uint64(max(0, n))) }

// metrics that mean something here, by the names of Mesos.
func (a *Agent) metrics() map[string]float64 {
	states := map[mesosv1.TaskState]float64{}
	var executors float64
	used := map[string]float64{}
	for _, t := range a.current() {
		p, state := t.now()
		states[state]++
		if p == ended {
			continue
		}
		executors++
		for _, r := range t.info.GetResources() {
			used[r.GetName()] += r.GetScalar().GetValue()
		}
	}
	registered := 0.0
	if a.session.Load() != nil {
		registered = 1
	}
	all := map[string]float64{
		"slave/registered": registered, "slave/uptime_secs": time.Since(a.began).Seconds(),
		"slave/frameworks_active": float64(len(frameworks(a.current()))), "slave/executors_running": executors,
		"containerizer/mesos/container_destroy_errors": float64(a.destroyErrors.Load()),
	}
	for state, suffix := range map[mesosv1.TaskState]string{
		mesosv1.TaskState_TASK_STAGING: "staging", mesosv1.TaskState_TASK_STARTING: "starting",
		mesosv1.TaskState_TASK_RUNNING: "running", mesosv1.TaskState_TASK_KILLING: "killing",
	} {
		all["slave/tasks_"+suffix] = states[state]
	}
	for state, suffix := range map[mesosv1.TaskState]string{
		mesosv1.TaskState_TASK_FINISHED: "finished", mesosv1.TaskState_TASK_FAILED: "failed",
		mesosv1.TaskState_TASK_KILLED: "killed",
	} {
		all["slave/tasks_"+suffix] = float64(a.counts.get(state))
	}
	for _, r := range a.config.Resources {
		if total := r.GetScalar().GetValue(); r.Scalar != nil {
			name := "slave/" + strings.ReplaceAll(r.GetName(), "/", "_")
			all[name+"_total"], all[name+"_used"] = total, used[r.GetName()]
			if total > 0 {
				all[name+"_percent"] = used[r.GetName()] / total
			}
		}
	}
	return all
}
