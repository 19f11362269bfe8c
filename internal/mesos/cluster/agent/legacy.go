package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// double is a number that Mesos writes with a fraction.
type double float64

// MarshalJSON writes it so.
func (d double) MarshalJSON() ([]byte, error) { return codec.AppendDouble(nil, float64(d)), nil }

type object = map[string]any

func sortBy[T any](s []T, compare func(a, b T) int) { slices.SortStableFunc(s, compare) }

// legacy makes a handler of a function that builds a document.
func legacy(build func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, build()) }
}

func writeJSON(w http.ResponseWriter, v any) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		codec.WriteError(w, err)
		return
	}
	body := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}

func (a *Agent) legacyVersion() any {
	return object{"build_date": "", "build_time": double(0), "build_user": "", "version": Version}
}

func (a *Agent) legacyFlags() any { return object{"flags": a.config.Flags} }

func (a *Agent) legacyMetrics() any {
	all := object{}
	for name, value := range a.metrics() {
		all[name] = double(value)
	}
	return all
}

// legacyState is /state.
func (a *Agent) legacyState() any {
	attributes := object{}
	for _, at := range a.config.Attributes {
		if at.Scalar != nil {
			attributes[at.GetName()] = double(at.GetScalar().GetValue())
		} else {
			attributes[at.GetName()] = at.GetText().GetValue()
		}
	}
	var used []*mesosv1.Resource
	active, completed := []object{}, []object{}
	current := a.current()
	for _, f := range frameworks(current) {
		active = append(active, a.legacyFramework(f, current))
	}
	for _, t := range current {
		if p, _ := t.now(); p != ended {
			used = append(used, t.info.GetResources()...)
		}
	}
	gone := a.done()
	for _, f := range frameworks(gone) {
		completed = append(completed, a.legacyFramework(f, gone))
	}
	return object{
		"version": Version, "build_date": "", "build_time": double(0), "build_user": "",
		"start_time": double(float64(a.began.UnixMicro()) / 1e6), "id": a.id().GetValue(), "pid": a.pid(),
		"hostname": a.config.Hostname, "master_hostname": a.config.Master, "flags": a.config.Flags,
		"capabilities": []string{"MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT"},
		"resources":    legacyResources(a.config.Resources), "unreserved_resources": legacyResources(a.config.Resources),
		"reserved_resources": object{}, "reserved_resources_full": object{}, "reserved_resources_allocated": object{},
		"unreserved_resources_full":      messages(withRole(a.config.Resources)),
		"unreserved_resources_allocated": legacyResources(used), "resource_providers": []object{},
		"attributes": attributes, "frameworks": active, "completed_frameworks": completed,
	}
}

func legacyResources(all []*mesosv1.Resource) object {
	sums := map[string]float64{"cpus": 0, "mem": 0, "disk": 0, "gpus": 0}
	ranges := map[string][]string{}
	for _, r := range all {
		if r.Ranges == nil {
			sums[r.GetName()] += r.GetScalar().GetValue()
			continue
		}
		for _, part := range r.GetRanges().GetRange() {
			ranges[r.GetName()] = append(ranges[r.GetName()], fmt.Sprintf("%d-%d", part.GetBegin(), part.GetEnd()))
		}
	}
	out := object{}
	for name, sum := range sums {
		out[name] = double(sum)
	}
	for name, parts := range ranges {
		out[name] = "[" + strings.Join(parts, ", ") + "]"
	}
	return out
}

// withRole names the role of resources that are nobody's.
func withRole(all []*mesosv1.Resource) []*mesosv1.Resource {
	var named []*mesosv1.Resource
	for _, r := range all {
		r = proto.CloneOf(r)
		r.Role = proto.String("*")
		named = append(named, r)
	}
	return named
}

func messages[M interface {
	*mesosv1.Resource | *mesosv1.Label | *mesosv1.NetworkInfo_IPAddress | *mesosv1.NetworkInfo_PortMapping
}](all []M) []json.RawMessage {
	out := []json.RawMessage{}
	for _, m := range all {
		switch m := any(m).(type) {
		case *mesosv1.Resource:
			out = append(out, codec.MarshalJSON(m))
		case *mesosv1.Label:
			out = append(out, codec.MarshalJSON(m))
		case *mesosv1.NetworkInfo_IPAddress:
			out = append(out, codec.MarshalJSON(m))
		case *mesosv1.NetworkInfo_PortMapping:
			out = append(out, codec.MarshalJSON(m))
		}
	}
	return out
}

func (a *Agent) legacyFramework(f *mesosv1.FrameworkInfo, all []*task) object {
	executors, completed := []object{}, []object{}
	for _, t := range all {
		if t.frameworkID() != f.GetId().GetValue() {
			continue
		}
		if p, _ := t.now(); p == ended {
			completed = append(completed, a.legacyExecutor(t))
		} else {
			executors = append(executors, a.legacyExecutor(t))
		}
	}
	o := object{
		"id": f.GetId().GetValue(), "name": f.GetName(), "user": f.GetUser(), "failover_timeout": double(f.GetFailoverTimeout()),
		"checkpoint": f.GetCheckpoint(), "hostname": f.GetHostname(), "roles": append([]string{}, f.GetRoles()...),
		"executors": executors, "completed_executors": completed,
	}
	if f.Principal != nil {
		o["principal"] = f.GetPrincipal()
	}
	return o
}

func (a *Agent) legacyExecutor(t *task) object {
	queued, tasks, completed := []object{}, []object{}, []object{}
	shown := legacyTask(a.asTask(t))
	switch p, state := t.now(); {
	case p == ended || terminal(state):
		completed = append(completed, shown)
	case p == launching:
		queued = append(queued, shown)
	default:
		tasks = append(tasks, shown)
	}
	return object{
		"id": t.id(), "name": executorName(t.info), "source": t.id(), "container": t.cid, "directory": a.sandboxDir(t),
		"resources": legacyResources(t.info.GetResources()), "tasks": tasks, "queued_tasks": queued, "completed_tasks": completed,
	}
}

func legacyTask(t *mesosv1.Task) object {
	statuses := []object{}
	for _, s := range t.GetStatuses() {
		statuses = append(statuses, legacyStatus(s))
	}
	role := "*"
	for _, r := range t.GetResources() {
		if allocated := r.GetAllocationInfo().GetRole(); allocated != "" {
			role = allocated
		}
	}
	o := object{
		"id": t.GetTaskId().GetValue(), "name": t.GetName(), "framework_id": t.GetFrameworkId().GetValue(), "executor_id": "",
		"slave_id": t.GetAgentId().GetValue(), "state": t.GetState().String(), "resources": legacyResources(t.GetResources()),
		"role": role, "statuses": statuses,
	}
	if t.Labels != nil {
		o["labels"] = messages(t.GetLabels().GetLabels())
	}
	if t.Discovery != nil {
		o["discovery"] = json.RawMessage(codec.MarshalJSON(t.Discovery))
	}
	if t.Container != nil {
		o["container"] = json.RawMessage(codec.MarshalJSON(t.Container))
	}
	return o
}

// legacyStatus has labels of networks as a flat list, unlike everything else.
func legacyStatus(s *mesosv1.TaskStatus) object {
	o := object{"state": s.GetState().String(), "timestamp": double(s.GetTimestamp())}
	if s.ContainerStatus != nil {
		o["container_status"] = legacyContainerStatus(s.ContainerStatus)
	}
	return o
}

func legacyContainerStatus(s *mesosv1.ContainerStatus) object {
	networks := []object{}
	for _, n := range s.GetNetworkInfos() {
		o := object{"ip_addresses": messages(n.GetIpAddresses())}
		if n.Name != nil {
			o["name"] = n.GetName()
		}
		if n.Labels != nil {
			o["labels"] = messages(n.GetLabels().GetLabels())
		}
		if len(n.GetGroups()) > 0 {
			o["groups"] = n.GetGroups()
		}
		if len(n.GetPortMappings()) > 0 {
			o["port_mappings"] = messages(n.GetPortMappings())
		}
		networks = append(networks, o)
	}
	o := object{"container_id": object{"value": s.GetContainerId().GetValue()}, "network_infos": networks}
	return o
}

func (a *Agent) legacyContainers() any { return a.legacyContainerList(true) }

func (a *Agent) legacyStatistics() any { return a.legacyContainerList(false) }

func (a *Agent) legacyContainerList(full bool) []object {
	out := []object{}
	for _, c := range a.containers() {
		o := object{
			"executor_id": c.GetExecutorId().GetValue(), "executor_name": c.GetExecutorName(),
			"framework_id": c.GetFrameworkId().GetValue(), "source": c.GetExecutorId().GetValue(),
			"statistics": json.RawMessage(codec.MarshalJSON(c.ResourceStatistics)),
		}
		if full {
			o["container_id"] = c.GetContainerId().GetValue()
			o["status"] = legacyContainerStatus(c.ContainerStatus)
		}
		out = append(out, o)
	}
	return out
}
