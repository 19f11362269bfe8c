package master

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// The read-only JSON endpoints from before the v1 API. Names of fields and the
// numbers that are written with a fraction are Mesos's.

// double is a number that has a fraction in JSON.
type double float64

func (d double) MarshalJSON() ([]byte, error) { return codec.AppendDouble(nil, float64(d)), nil }

// message is a protobuf message inside a legacy document.
type message struct{ proto.Message }

func (m message) MarshalJSON() ([]byte, error) { return codec.MarshalJSON(m.Message), nil }

// object is a JSON object in the order of its pairs.
type object []pair

type pair struct {
	name  string
	value any
}

func (o object) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, p := range o {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(codec.AppendText(nil, p.name))
		out.WriteByte(':')
		value, err := plainJSON(p.value)
		if err != nil {
			return nil, err
		}
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// plainJSON is encoding/json without its escapes for HTML.
func plainJSON(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// callbackLetters are what the name of a JSONP callback is made of: nothing
// that could be read as markup.
const callbackLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$."

// legacy makes a handler of a function that builds a document under the lock.
func (m *Master) legacy(build func(url.Values) object) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
			r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
			if r.ParseForm() == nil {
				query = r.Form
			}
		}
		m.mu.Lock()
		body, err := plainJSON(build(query))
		m.mu.Unlock()
		if err != nil {
			codec.WriteError(w, err)
			return
		}
		contentType := "application/json"
		if callback := query.Get("jsonp"); callback != "" && strings.Trim(callback, callbackLetters) == "" {
			body = slices.Concat([]byte(callback), []byte("("), body, []byte(");"))
			contentType = "text/javascript"
			w.Header().Set("X-Content-Type-Options", "nosniff")
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	}
}

func (m *Master) legacyVersion(url.Values) object {
	return object{{"build_date", ""}, {"build_time", double(0)}, {"build_user", ""}, {"version", m.cfg.Version}}
}

func (m *Master) legacyFlags(url.Values) object { return object{{"flags", m.flags()}} }

func (m *Master) legacyMetrics(url.Values) object {
	var all object
	for _, metric := range m.metricMessages() {
		all = append(all, pair{metric.GetName(), double(metric.GetValue())})
	}
	return all
}

func (m *Master) legacyState(url.Values) object {
	capabilities := []string{}
	for _, c := range m.info.GetCapabilities() {
		capabilities = append(capabilities, c.GetType().String())
	}
	active := 0
	for _, a := range m.agents {
		if a.active() {
			active++
		}
	}
	return object{
		{"version", m.cfg.Version},
		{"build_date", ""},
		{"build_time", double(0)},
		{"build_user", ""},
		{"start_time", double(seconds(m.started))},
		{"elected_time", double(seconds(m.started))},
		{"id", m.id},
		{"pid", m.info.GetPid()},
		{"hostname", m.cfg.Hostname},
		{"capabilities", capabilities},
		{"activated_slaves", double(active)},
		{"deactivated_slaves", double(len(m.agents) - active)},
		{"unreachable_slaves", double(len(m.registry.Unreachable))},
		{"leader", m.info.GetPid()},
		{"leader_info", object{{"id", m.id}, {"pid", m.info.GetPid()}, {"port", m.info.GetPort()}, {"hostname", m.cfg.Hostname}}},
		{"cluster", m.cfg.Cluster},
		{"flags", m.flags()},
		{"slaves", m.legacyAgents("", false)},
		{"recovered_slaves", m.legacyRecovered()},
		{"frameworks", m.legacyFrameworkList("")},
		{"completed_frameworks", m.legacyCompleted("")},
		{"orphan_tasks", []any{}},
		{"unregistered_frameworks", []any{}},
	}
}

func (m *Master) legacySlaves(query url.Values) object {
	return object{{"slaves", m.legacyAgents(query.Get("slave_id"), true)}, {"recovered_slaves", m.legacyRecovered()}}
}

func (m *Master) legacyAgents(id string, full bool) []object {
	all := []object{}
	for _, a := range sorted(m.agents) {
		if id != "" && a.id() != id {
			continue
		}
		attributes := object{}
		for _, attribute := range a.info.GetAttributes() {
			attributes = append(attributes, pair{attribute.GetName(), attributeValue(attribute)})
		}
		capabilities := []string{}
		for _, c := range a.capabilities {
			capabilities = append(capabilities, c.GetType().String())
		}
		_, port := splitAddress(a.address)
		used, offered := a.used(), m.offered(a)
		shown := object{
			{"id", a.id()},
			{"hostname", a.info.GetHostname()},
			{"port", port},
			{"attributes", attributes},
			{"pid", "slave(1)@" + a.address},
			{"registered_time", double(seconds(a.registered))},
			{"resources", legacyAmounts(a.total)},
			{"used_resources", legacyAmounts(used)},
			{"offered_resources", legacyAmounts(offered)},
			{"reserved_resources", object{}},
			{"unreserved_resources", legacyAmounts(a.total)},
			{"active", a.session != nil},
			{"deactivated", a.deactivated},
			{"version", a.version},
			{"capabilities", capabilities},
		}
		if !a.reregistered.IsZero() {
			shown = append(shown, pair{"reregistered_time", double(seconds(a.reregistered))})
		}
		if full {
			shown = append(shown, pair{"reserved_resources_full", object{}},
				pair{"unreserved_resources_full", messages(a.total.resources("", true))},
				pair{"used_resources_full", messages(a.allocated())}, pair{"offered_resources_full", messages(m.offeredMessages(a))})
		}
		all = append(all, shown)
	}
	return all
}

func (m *Master) legacyRecovered() []object {
	all := []object{}
	for id := range m.recovered {
		info := &mesosv1.AgentInfo{}
		if codec.UnmarshalJSON(m.registry.Agents[id].Info, info) == nil {
			all = append(all, object{{"id", id}, {"hostname", info.GetHostname()}, {"port", info.GetPort()}})
		}
	}
	return all
}

func attributeValue(a *mesosv1.Attribute) any {
	switch a.GetType() {
	case mesosv1.Value_SCALAR:
		return double(a.GetScalar().GetValue())
	case mesosv1.Value_RANGES:
		var spans []span
		for _, r := range a.GetRanges().GetRange() {
			spans = append(spans, span{r.GetBegin(), r.GetEnd()})
		}
		return formatSpans(spans)
	case mesosv1.Value_SET:
		return "{" + strings.Join(a.GetSet().GetItem(), ", ") + "}"
	default:
		return a.GetText().GetValue()
	}
}

// legacyAmounts has the four well-known scalars always, the rest as it is.
func legacyAmounts(qs quantities) object {
	shown := object{}
	for _, name := range []string{"disk", "mem", "gpus", "cpus"} {
		shown = append(shown, pair{name, double(float64(qs.of(name).milli) / 1000)})
	}
	for _, q := range qs {
		switch {
		case q.spans != nil:
			shown = append(shown, pair{q.name, formatSpans(q.spans)})
		case !slices.ContainsFunc(shown, func(p pair) bool { return p.name == q.name }):
			shown = append(shown, pair{q.name, double(float64(q.milli) / 1000)})
		}
	}
	return shown
}

func messages[T proto.Message](all []T) []message {
	shown := make([]message, len(all))
	for i, m := range all {
		shown[i] = message{m}
	}
	return shown
}

func (m *Master) legacyFrameworks(query url.Values) object {
	id := query.Get("framework_id")
	return object{
		{"frameworks", m.legacyFrameworkList(id)}, {"completed_frameworks", m.legacyCompleted(id)}, {"unregistered_frameworks", []any{}},
	}
}

func (m *Master) legacyFrameworkList(id string) []object {
	all := []object{}
	for _, f := range sorted(m.frameworks) {
		if id == "" || f.id() == id {
			all = append(all, m.legacyFramework(f))
		}
	}
	return all
}

func (m *Master) legacyCompleted(id string) []object {
	all := []object{}
	for _, f := range m.completed {
		if id == "" || f.id() == id {
			all = append(all, m.legacyFramework(f))
		}
	}
	return all
}

func (m *Master) legacyFramework(f *framework) object {
	var used, offered quantities
	tasks, unreachable, completed, offers, executors := []object{}, []object{}, []object{}, []object{}, []object{}
	for _, t := range sortedTasks(f.tasks) {
		tasks = append(tasks, legacyTask(t.info))
		if !t.released {
			used = used.plus(t.amounts)
		}
	}
	for _, t := range sorted(f.unreachable) {
		unreachable = append(unreachable, legacyTask(t))
	}
	for _, t := range f.completed {
		completed = append(completed, legacyTask(t))
	}
	for _, o := range m.offersOf(f) {
		offered = offered.plus(o.amounts)
		offers = append(offers, object{{"id", o.id}, {"framework_id", f.id()}, {"allocation_info", object{{"role", o.role}}}, {"slave_id", o.agent.id()}, {"resources", legacyAmounts(o.amounts)}})
	}
	for _, a := range sorted(m.agents) {
		for _, e := range a.sortedExecutors() {
			if e.info.GetFrameworkId().GetValue() == f.id() {
				used = used.plus(e.amounts)
				executors = append(executors, object{
					{"executor_id", e.info.GetExecutorId().GetValue()},
					{"name", e.info.GetName()},
					{"framework_id", f.id()},
					{"command", object{{"argv", []string{}}, {"uris", []string{}}}},
					{"resources", legacyAmounts(e.amounts)},
					{"role", e.role()},
					{"type", e.info.GetType().String()},
					{"slave_id", a.id()},
				})
			}
		}
	}
	capabilities := []string{}
	for _, c := range f.info.GetCapabilities() {
		capabilities = append(capabilities, c.GetType().String())
	}
	shown := object{
		{"id", f.id()},
		{"name", f.info.GetName()},
		{"used_resources", legacyAmounts(used)},
		{"offered_resources", legacyAmounts(offered)},
		{"capabilities", capabilities},
		{"hostname", f.info.GetHostname()},
		{"webui_url", f.info.GetWebuiUrl()},
		{"active", f.stream != nil},
		{"connected", f.stream != nil},
		{"recovered", f.registered.IsZero()},
		{"user", f.info.GetUser()},
		{"failover_timeout", double(f.info.GetFailoverTimeout())},
		{"checkpoint", f.info.GetCheckpoint()},
		{"registered_time", legacySeconds(f.registered.IsZero(), seconds(f.registered))},
		{"unregistered_time", legacySeconds(f.stream != nil || f.disconnected.IsZero(), seconds(f.disconnected))},
	}
	if f.info.Principal != nil {
		shown = append(shown, pair{"principal", f.info.GetPrincipal()})
	}
	if f.reregistered.After(f.registered) {
		shown = append(shown, pair{"reregistered_time", double(seconds(f.reregistered))})
	}
	shown = append(shown, pair{"resources", legacyAmounts(used.plus(offered))})
	if f.has(mesosv1.FrameworkInfo_Capability_MULTI_ROLE) {
		shown = append(shown, pair{"roles", append([]string{}, f.info.GetRoles()...)})
	} else {
		shown = append(shown, pair{"role", f.info.GetRole()})
	}
	shown = append(shown, pair{"tasks", tasks}, pair{"unreachable_tasks", unreachable}, pair{"completed_tasks", completed},
		pair{"offers", offers}, pair{"executors", executors})
	if f.info.Labels != nil {
		shown = append(shown, pair{"labels", messages(f.info.GetLabels().GetLabels())})
	}
	return shown
}

func legacySeconds(none bool, s float64) double {
	if none {
		return 0
	}
	return double(s)
}

func legacyTask(t *mesosv1.Task) object {
	amounts, err := quantitiesOf(t.GetResources())
	if err != nil {
		amounts = nil
	}
	role := "*"
	for _, r := range t.GetResources() {
		role = cmp.Or(r.GetAllocationInfo().GetRole(), role)
	}
	statuses := []object{}
	for _, s := range t.GetStatuses() {
		statuses = append(statuses, legacyStatus(s))
	}
	shown := object{
		{"id", t.GetTaskId().GetValue()},
		{"name", t.GetName()},
		{"framework_id", t.GetFrameworkId().GetValue()},
		{"executor_id", t.GetExecutorId().GetValue()},
		{"slave_id", t.GetAgentId().GetValue()},
		{"state", t.GetState().String()},
		{"resources", legacyAmounts(amounts)},
		{"role", role},
		{"statuses", statuses},
	}
	if t.User != nil {
		shown = append(shown, pair{"user", t.GetUser()})
	}
	if t.Labels != nil {
		shown = append(shown, pair{"labels", messages(t.GetLabels().GetLabels())})
	}
	if t.Discovery != nil {
		shown = append(shown, pair{"discovery", message{t.Discovery}})
	}
	if t.Container != nil {
		shown = append(shown, pair{"container", message{t.Container}})
	}
	if t.HealthCheck != nil {
		shown = append(shown, pair{"health_check", message{t.HealthCheck}})
	}
	return shown
}

// legacyStatus has labels of networks as a flat list, unlike everything else.
func legacyStatus(s *mesosv1.TaskStatus) object {
	shown := object{{"state", s.GetState().String()}, {"timestamp", double(s.GetTimestamp())}}
	if s.Labels != nil {
		shown = append(shown, pair{"labels", messages(s.GetLabels().GetLabels())})
	}
	if cs := s.ContainerStatus; cs != nil {
		status := object{}
		if cs.ContainerId != nil {
			status = append(status, pair{"container_id", message{cs.ContainerId}})
		}
		if len(cs.GetNetworkInfos()) > 0 {
			networks := []object{}
			for _, n := range cs.GetNetworkInfos() {
				networks = append(networks, legacyNetwork(n))
			}
			status = append(status, pair{"network_infos", networks})
		}
		shown = append(shown, pair{"container_status", status})
	}
	if s.Healthy != nil {
		shown = append(shown, pair{"healthy", s.GetHealthy()})
	}
	return shown
}

func legacyNetwork(n *mesosv1.NetworkInfo) object {
	shown := object{}
	if len(n.GetGroups()) > 0 {
		shown = append(shown, pair{"groups", n.GetGroups()})
	}
	if n.Labels != nil {
		shown = append(shown, pair{"labels", messages(n.GetLabels().GetLabels())})
	}
	if len(n.GetIpAddresses()) > 0 {
		shown = append(shown, pair{"ip_addresses", messages(n.GetIpAddresses())})
	}
	if n.Name != nil {
		shown = append(shown, pair{"name", n.GetName()})
	}
	if len(n.GetPortMappings()) > 0 {
		shown = append(shown, pair{"port_mappings", messages(n.GetPortMappings())})
	}
	return shown
}

// legacyTasks is /tasks with limit, offset, order, framework_id and task_id.
func (m *Master) legacyTasks(query url.Values) object {
	var all []*mesosv1.Task
	for _, f := range slices.Concat(sorted(m.frameworks), m.completed) {
		if id := query.Get("framework_id"); id != "" && id != f.id() {
			continue
		}
		for _, t := range sortedTasks(f.tasks) {
			all = append(all, t.info)
		}
		all = append(append(all, sorted(f.unreachable)...), f.completed...)
	}
	if id := query.Get("task_id"); id != "" {
		all = slices.DeleteFunc(all, func(t *mesosv1.Task) bool { return t.GetTaskId().GetValue() != id })
	}
	ascending := query.Get("order") == "asc"
	slices.SortStableFunc(all, func(a, b *mesosv1.Task) int {
		order := cmp.Compare(firstTimestamp(a), firstTimestamp(b))
		if !ascending {
			order = -order
		}
		return order
	})
	offset, limit := number(query.Get("offset"), 0), number(query.Get("limit"), 100)
	all = all[min(offset, len(all)):]
	all = all[:min(limit, len(all))]
	shown := []object{}
	for _, t := range all {
		shown = append(shown, legacyTask(t))
	}
	return object{{"tasks", shown}}
}

func firstTimestamp(t *mesosv1.Task) float64 {
	if len(t.GetStatuses()) == 0 {
		return 0
	}
	return t.GetStatuses()[0].GetTimestamp()
}

func number(text string, initial int) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return initial
	}
	return n
}
