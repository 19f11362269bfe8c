package master

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// differences are all known ones from what a real Mesos answered, by file and
// number of the exchange, or by path of the request.
var differences = map[string]string{
	"/api/v1 GET_OPERATIONS":           "501: no operations on resources",
	"/api/v1 GET_QUOTA":                "501: no quotas",
	"/api/v1 GET_MAINTENANCE_STATUS":   "501: no maintenance schedule",
	"/api/v1 GET_MAINTENANCE_SCHEDULE": "501: no maintenance schedule",
	"/roles":                           "404: nobody that we know reads it; GET_ROLES has the same",
	"/master/state-summary":            "404: nobody that we know reads it",
	"/maintenance/status":              "404: no maintenance schedule",
	"/quota":                           "404: no quotas",
	"/weights":                         "404: no weights",
	"/system/stats.json":               "404: belongs to libprocess",
	"/logging/toggle":                  "404: belongs to libprocess",
	"/__processes__":                   "404: belongs to libprocess",
	"/help":                            "404: belongs to libprocess",
	"/registrar(1)/registry":           "404: our registry is our own",
	"/master/machine/down":             "404: no maintenance schedule",
	"errors-04-call-type-unknown-crashes-master.json call": "a call of type UNKNOWN aborts Mesos; ours answers 400",
}

// missingFields are parts of recorded documents that ours do not have, by the
// end of their path.
var missingFields = []string{
	"agent_info.checkpoint", // leaks from Mesos's internal schema
	".offer_constraints",    // not supported
	".get_weights", ".flags.", ".get_flags.", ".get_metrics.",
	".reserved_resources_full", ".unavailability",
}

type exchange struct {
	N          int
	Note       string
	Connection string
	Request    *struct {
		Method, Path string
		Headers      map[string]string
		Body         json.RawMessage
		BodyText     string `json:"body_text"`
		BodyB64      string `json:"body_base64"`
	}
	Response answer
}

type answer struct {
	Status   int
	Headers  map[string]string
	Body     json.RawMessage
	BodyText string `json:"body_text"`
	BodyB64  string `json:"body_base64"`
	Records  []struct{ Record json.RawMessage }
}

func (a *answer) UnmarshalJSON(data []byte) error {
	if data[0] != '{' {
		return nil // told in words: there was no answer
	}
	type plain answer
	return json.Unmarshal(data, (*plain)(a))
}

func recorded(t *testing.T, file string) []exchange {
	t.Helper()
	data, err := os.ReadFile("../../testdata/recordings/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Exchanges []exchange }
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	return all.Exchanges
}

// replayer plays the client's side of a recording against our master, and an
// agent that reports of each task what the recorded one did.
type replayer struct {
	t      *testing.T
	h      *harness
	file   string
	client *http.Client
	base   string
	// ids maps recorded ids to ours: frameworks, agents, offers, streams, uuids.
	ids     map[string]string
	streams []*replayStream
	agent   *testAgent
	script  map[string][]*mesosv1.TaskStatus // updates of agents per task, from the recording
	newest  string                           // framework whose SUBSCRIBED the recording leaves out
	acked   map[string]bool                  // uuids that the recording acknowledges
}

type replayStream struct {
	recorded []*schedulerv1.Event
	got      []*schedulerv1.Event
	events   chan *schedulerv1.Event
}

var masterIDs = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(-[A-Z]*[0-9]+)?`)

// neutral replaces ids, which differ from run to run.
func neutral(text string) string { return masterIDs.ReplaceAllString(text, "ID") }

func newReplayer(t *testing.T, file string) *replayer {
	t.Parallel()
	h := newHarnessNow(t, quickConfig())
	r := &replayer{
		t: t, h: h, file: file, ids: map[string]string{}, script: map[string][]*mesosv1.TaskStatus{}, acked: map[string]bool{},
	}
	r.client, r.base = h.client(ctls.RoleAdmin, "", false)
	r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return r
}

// learn reads the script of tasks from the recorded streams.
func (r *replayer) learn(exchanges []exchange) {
	for _, e := range exchanges {
		if e.Request == nil {
			continue
		}
		call := &schedulerv1.Call{}
		if codec.UnmarshalJSON(e.Request.Body, call) == nil && call.Acknowledge != nil {
			r.acked[string(call.GetAcknowledge().GetUuid())] = true
		}
		for _, rec := range e.Response.Records {
			event := &schedulerv1.Event{}
			if codec.UnmarshalJSON(rec.Record, event) != nil || event.Update == nil {
				continue
			}
			status := event.GetUpdate().GetStatus()
			if id := status.GetTaskId().GetValue(); status.GetSource() != mesosv1.TaskStatus_SOURCE_MASTER {
				r.script[id] = append(r.script[id], status)
			}
		}
	}
}

// runAgent registers the recorded node.
func (r *replayer) runAgent() {
	r.agent = r.h.agent(nodeA, registration("node1.example"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range r.agent.inbox {
		}
	}()
	r.t.Cleanup(func() { r.agent.close(); <-done })
}

// report sends what the recorded agent said of a task, up to the update that is
// about to be acknowledged: so the two sides keep step.
func (r *replayer) report(framework, task string, last []byte) {
	script := r.script[task]
	n := slices.IndexFunc(script, func(s *mesosv1.TaskStatus) bool { return bytes.Equal(s.GetUuid(), last) })
	for _, status := range script[:n+1] {
		status = clone(status)
		status.AgentId = r.agent.id
		r.agent.send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_StatusUpdate{StatusUpdate: &clusterv1.StatusUpdate{
			FrameworkId: &mesosv1.FrameworkID{Value: &framework}, Status: status, LatestState: status.State,
		}}})
	}
	r.script[task] = script[n+1:]
}

var frameworkID = regexp.MustCompile(`-[0-9]{4}$`)

var offerID = regexp.MustCompile(`-O[0-9]+$`)

// translate puts our ids in place of recorded ones in a body or header.
func (r *replayer) translate(text string) string {
	for _, old := range slices.SortedFunc(maps.Keys(r.ids), func(a, b string) int { return len(b) - len(a) }) {
		text = strings.ReplaceAll(text, old, r.ids[old])
	}
	return text
}

// offersFor makes sure that offers named in an ACCEPT or DECLINE have ours.
func (r *replayer) offersFor(call *schedulerv1.Call) {
	for _, id := range slices.Concat(call.GetAccept().GetOfferIds(), call.GetDecline().GetOfferIds()) {
		old := id.GetValue()
		if !offerID.MatchString(old) || r.ids[old] != "" {
			continue
		}
		framework := r.translate(call.GetFrameworkId().GetValue())
		deadline := time.Now().Add(patience)
		for r.ids[old] == "" {
			r.h.master.mu.Lock()
			if f := r.h.master.frameworks[framework]; f != nil {
				for _, o := range r.h.master.offersOf(f) {
					r.ids[old] = o.id
				}
			}
			r.h.master.mu.Unlock()
			if time.Now().After(deadline) {
				r.t.Fatalf("no offer to stand for %s", old)
			}
		}
	}
}

func (r *replayer) run(exchanges []exchange, skip func(exchange) bool) {
	if r.agent == nil {
		r.learn(exchanges)
		r.runAgent()
	}
	for n, e := range exchanges {
		if e.Request == nil {
			continue
		}
		for _, value := range []string{string(e.Request.Body), e.Request.Path} {
			for _, id := range masterIDs.FindAllString(value, -1) {
				if strings.HasSuffix(id, "-S0") && r.ids[id] == "" {
					r.ids[id] = r.agent.id.GetValue()
				}
			}
		}
		r.keepStep(exchanges, n)
		if !skip(e) {
			r.exchange(e)
		}
	}
	for _, s := range r.streams {
		r.compareStream(s)
	}
}

// keepStep waits for what had come before a call in the recording, as far as
// the calls after it tell: updates before REVIVE, offers before SUPPRESS.
func (r *replayer) keepStep(exchanges []exchange, n int) {
	kind := typeOf(exchanges[n].Request.Body)
	for _, next := range exchanges[n+1:] {
		call := &schedulerv1.Call{}
		if next.Request == nil || codec.UnmarshalJSON(next.Request.Body, call) != nil {
			return
		}
		switch {
		case kind == "REVIVE" && call.Acknowledge != nil:
			r.awaitUpdate(call)
		case kind == "SUPPRESS" && call.Decline != nil:
			r.offersFor(call)
		default:
			return
		}
	}
}

func (r *replayer) exchange(e exchange) {
	r.t.Helper()
	body := []byte(e.Request.BodyText)
	if len(e.Request.Body) > 0 && string(e.Request.Body) != `""` {
		body = e.Request.Body
	}
	call := &schedulerv1.Call{}
	if codec.UnmarshalJSON(body, call) == nil {
		r.offersFor(call)
		r.awaitUpdate(call)
	}
	for _, id := range masterIDs.FindAllString(string(body), -1) {
		if frameworkID.MatchString(id) && r.ids[id] == "" && r.newest != "" {
			r.ids[id] = r.newest // its SUBSCRIBED was left out of the recording
		}
	}
	var data []byte
	if e.Request.BodyB64 == "" {
		data = []byte(r.translate(string(body)))
	} else if err := json.Unmarshal([]byte(`"`+e.Request.BodyB64+`"`), &data); err != nil {
		r.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(context.Background(), e.Request.Method, r.base+r.translate(e.Request.Path), bytes.NewReader(data))
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(request.Context())
	request = request.WithContext(ctx)
	for name, value := range e.Request.Headers {
		if name != "Host" && name != "Content-Length" && name != "Accept-Encoding" {
			request.Header.Set(name, r.translate(value))
		}
	}
	response, err := r.client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	if known := differences[strings.TrimSpace(pathOf(e)+" "+typeOf(body))]; known != "" || differences[pathOf(e)] != "" {
		response.Body.Close()
		cancel()
		return
	}
	if response.StatusCode != e.Response.Status {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 300))
		r.t.Errorf("%s %d (%s %s %s): status %d: %s, want %d", r.file, e.N, e.Request.Method, e.Request.Path, e.Note, response.StatusCode, text, e.Response.Status)
	}
	for _, name := range []string{"Content-Type", "Allow", "Location", "Transfer-Encoding"} {
		got, want := response.Header.Get(name), e.Response.Headers[name]
		if name == "Location" {
			got = strings.ReplaceAll(got, r.h.address[strings.LastIndex(r.h.address, ":"):], ":5050")
		}
		if name == "Transfer-Encoding" {
			got = strings.Join(response.TransferEncoding, ",")
			if response.ProtoMajor == 2 {
				got = want // HTTP/2 has no such thing
			}
		}
		if got != want {
			r.t.Errorf("%s %d: %s %q, want %q", r.file, e.N, name, got, want)
		}
	}
	if old, ours := e.Response.Headers["Mesos-Stream-Id"], response.Header.Get("Mesos-Stream-Id"); (old == "") != (ours == "") {
		r.t.Errorf("%s %d: Mesos-Stream-Id %q, recorded %q", r.file, e.N, ours, old)
	} else if old != "" {
		r.ids[old] = ours
	}
	if len(e.Response.Records) > 0 || e.Response.Headers["Mesos-Stream-Id"] != "" {
		r.follow(e, response, cancel)
		return
	}
	defer cancel()
	defer response.Body.Close()
	r.compareBody(e, response)
}

func pathOf(e exchange) string { p, _, _ := strings.Cut(e.Request.Path, "?"); return p }

func typeOf(body []byte) string {
	var call struct{ Type string }
	if json.Unmarshal(body, &call) != nil {
		return ""
	}
	return call.Type
}

// follow reads a scheduler's stream.
func (r *replayer) follow(e exchange, response *http.Response, cancel func()) {
	s := &replayStream{events: make(chan *schedulerv1.Event, 1000)}
	r.t.Cleanup(cancel)
	if !strings.HasSuffix(e.Request.Path, "/scheduler") {
		cancel()
		response.Body.Close()
		return
	}
	for _, rec := range e.Response.Records {
		event := &schedulerv1.Event{}
		if err := codec.UnmarshalJSON(rec.Record, event); err != nil {
			r.t.Fatal(err)
		}
		s.recorded = append(s.recorded, event)
	}
	go func() {
		defer response.Body.Close()
		defer close(s.events)
		reader := codec.NewRecordReader(response.Body, codec.MaxFrame)
		for {
			event := &schedulerv1.Event{}
			if reader.Read(codec.JSON, event) != nil {
				return
			}
			s.events <- event
		}
	}()
	r.streams = append(r.streams, s)
	if len(s.recorded) == 0 {
		r.newest = r.nextEvent(s).GetSubscribed().GetFrameworkId().GetValue()
	}
	if len(s.recorded) > 0 && s.recorded[0].Subscribed != nil {
		first := r.nextEvent(s)
		r.ids[s.recorded[0].GetSubscribed().GetFrameworkId().GetValue()] = first.GetSubscribed().GetFrameworkId().GetValue()
	}
}

func (r *replayer) nextEvent(s *replayStream) *schedulerv1.Event {
	r.t.Helper()
	deadline := time.After(streamPatience)
	for {
		select {
		case event, ok := <-s.events:
			if !ok {
				return nil
			}
			if event.GetType() == schedulerv1.Event_HEARTBEAT {
				continue
			}
			s.got = append(s.got, event)
			return event
		case <-deadline:
			r.t.Fatalf("%s: no more events; have\n%s\nwant\n%s", r.file, strings.Join(r.told(s.got), "\n"), strings.Join(r.told(s.recorded), "\n"))
			return nil
		}
	}
}

// streamPatience is below the interval of heartbeats, so that silence shows.
const streamPatience = 10 * time.Second

// awaitUpdate waits for the update that an ACKNOWLEDGE is about. The agent of
// the replay uses recorded uuids.
func (r *replayer) awaitUpdate(call *schedulerv1.Call) {
	if call.Acknowledge == nil || !validUUID(call.GetAcknowledge().GetUuid()) {
		return
	}
	want := call.GetAcknowledge().GetUuid()
	r.report(r.translate(call.GetFrameworkId().GetValue()), call.GetAcknowledge().GetTaskId().GetValue(), want)
	for _, s := range r.streams {
		has := func(events []*schedulerv1.Event) bool {
			return slices.ContainsFunc(events, func(e *schedulerv1.Event) bool { return bytes.Equal(e.GetUpdate().GetStatus().GetUuid(), want) })
		}
		if !has(s.recorded) {
			continue
		}
		for !has(s.got) {
			if r.nextEvent(s) == nil {
				r.t.Fatalf("%s: stream ended before the update of %s", r.file, call.GetAcknowledge().GetTaskId().GetValue())
			}
		}
	}
}

// compareStream compares what was told of each task, and errors.
func (r *replayer) compareStream(s *replayStream) {
	r.t.Helper()
	want := r.told(s.recorded)
	for n := range want {
		for len(r.told(s.got)) <= n {
			if r.nextEvent(s) == nil {
				r.t.Fatalf("%s: stream ended with\n%s\nwant\n%s", r.file, strings.Join(r.told(s.got), "\n"), strings.Join(want, "\n"))
			}
		}
	}
	got := r.told(s.got)[:len(want)]
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("%s: (-recorded +ours)\n%s", r.file, diff)
	}
}

// told is what a scheduler learns of its tasks, in lines. Updates that the
// recording leaves unacknowledged are not played.
func (r *replayer) told(events []*schedulerv1.Event) []string {
	var all []string
	for _, e := range events {
		switch {
		case e.Update != nil:
			s := e.GetUpdate().GetStatus()
			if s.Uuid != nil && !r.acked[string(s.Uuid)] {
				continue
			}
			message := neutral(s.GetMessage())
			if strings.HasPrefix(message, "ExecutorInfo is not compatible") {
				message = "ExecutorInfo is not compatible" // Mesos adds both in text
			}
			state := s.GetState().String()
			if message == "Reconciliation: Latest task state" {
				state = "LATEST" // how far the task is, depends on time
			}
			all = append(all, fmt.Sprintf("%.40s %s %s %s agent=%t executor=%t uuid=%t container=%t %s", s.GetTaskId().GetValue(), state, s.GetSource(),
				reasonOf(s), s.AgentId != nil, s.ExecutorId != nil, s.Uuid != nil, s.ContainerStatus != nil, message))
		case e.Error != nil:
			all = append(all, "ERROR "+e.GetError().GetMessage())
		}
	}
	return all
}

func reasonOf(s *mesosv1.TaskStatus) string {
	if s.Reason == nil {
		return "-"
	}
	return s.GetReason().String()
}

func (r *replayer) compareBody(e exchange, response *http.Response) {
	data, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	switch {
	case e.Response.BodyText != "" && strings.HasPrefix(e.Response.Headers["Content-Type"], "text/plain"):
		if got, want := neutral(string(data)), neutral(e.Response.BodyText); got != want {
			r.t.Errorf("%s %d:\n got %s\nwant %s", r.file, e.N, got, want)
		}
	case len(e.Response.Body) > 0 && e.Response.Body[0] == '{' && strings.HasPrefix(e.Response.Headers["Content-Type"], "application/json"):
		want, got := shape(r.t, e.Response.Body), shape(r.t, data)
		for path := range want {
			known := slices.ContainsFunc(missingFields, func(end string) bool { return strings.Contains(path+".", end+".") || strings.Contains(path, end) })
			if !got[path] && !known {
				r.t.Errorf("%s %d (%s %s): %s is missing", r.file, e.N, e.Request.Path, typeOf(e.Request.Body), path)
			}
		}
		for path := range got {
			known := slices.ContainsFunc(missingFields, func(end string) bool { return strings.Contains(path, end) })
			if !want[path] && !known {
				r.t.Errorf("%s %d (%s %s): %s is not in the recording", r.file, e.N, e.Request.Path, typeOf(e.Request.Body), path)
			}
		}
	case len(data) > 0 && len(e.Response.Body) == 0 && e.Response.BodyB64 == "":
		r.t.Errorf("%s %d: body %.100s, want none", r.file, e.N, data)
	}
}

// shape is the set of paths with the types of their values.
func shape(t *testing.T, text []byte) map[string]bool {
	t.Helper()
	var v any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%.200s: %v", text, err)
	}
	paths := map[string]bool{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			paths[path+" object"] = true
			for key, value := range v {
				walk(path+"."+key, value)
			}
		case []any:
			paths[path+" array"] = true
			for _, value := range v {
				walk(path+"[]", value)
			}
		case json.Number:
			kind := " integer"
			if strings.ContainsAny(v.String(), ".e") {
				kind = " double"
			}
			paths[path+kind] = true
		default:
			paths[fmt.Sprintf("%s %T", path, v)] = true
		}
	}
	walk("", v)
	return paths
}

func nothing(exchange) bool { return false }

func TestReplayScheduler(t *testing.T) {
	for _, file := range []string{
		"errors-01-scheduler-http.json", "errors-02-accept-and-tasks.json", "errors-03-accept-not-partition-aware.json",
		"scheduler-01-subscribe-offers-decline-suppress-revive.json", "scheduler-02-task-lifecycle-on-network.json",
	} {
		t.Run(file, func(t *testing.T) { newReplayer(t, file).run(recorded(t, file), nothing) })
	}
}

// Mesos aborts here; we answer and live on.
func TestCallOfTypeUnknown(t *testing.T) {
	h := newHarness(t, quickConfig())
	client, base := h.client(ctls.RoleAdmin, "", false)
	s := h.subscribe(frameworkInfo("test", 60))
	response := post(t.Context(), t, client, base+"/api/v1/scheduler", s.stream, &schedulerv1.Call{FrameworkId: s.id, Type: schedulerv1.Call_UNKNOWN.Enum()})
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("%s", response.Status)
	}
	s.simple(schedulerv1.Call_REVIVE)
}

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
	r.agent = a
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
