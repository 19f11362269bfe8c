package master

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	masterv1 "github.com/contrail-mesos/contrail/api/mesos/v1/master"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

type exchange struct {
	N          int
	T          float64
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
	Records  []struct {
		T      float64
		Record json.RawMessage
	}
	StreamEnd struct {
		T  float64
		By string
	} `json:"stream_end"`
}

func (a *answer) UnmarshalJSON(data []byte) error {
	if data[0] != '{' {
		return nil // told in words: there was no answer
	}
	type plain answer
	return json.Unmarshal(data, (*plain)(a))
}

// isOperator tells whether the exchange is with the operator API.
func (e exchange) isOperator() bool {
	return e.Request != nil && !strings.HasSuffix(e.Request.Path, "/scheduler")
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

// replayer plays the client's side of a recording against our master, with an
// agent that says of each task what the recorded one did.
type replayer struct {
	t      *testing.T
	h      *harness
	file   string
	client *http.Client
	base   string
	// ids maps recorded ids to ours: frameworks, agents, offers, streams.
	ids     map[string]string
	streams []*replayStream
	agent   *playedAgent
	script  []scripted // updates of agents, in order of time
	// said are the updates of agents until now, acknowledged those that
	// schedulers have acknowledged.
	said, acknowledged [][]byte
	owners             map[string]string // recorded frameworks, by task
	roles              map[string]string // of recorded offers
	newest             string            // framework whose SUBSCRIBED the recording leaves out
	// before an exchange, by number, and notes of the recorder, by beginning:
	// what else happened.
	before map[int]func()
	// past is the beginning of paths in documents that the recorded master had
	// from before the recording.
	past  string
	notes map[string]func()
}

// scripted is an update of the recorded agent.
type scripted struct {
	at     float64
	status *mesosv1.TaskStatus
	failed *schedulerv1.Event_Failure // an executor's end, instead of an update
}

type replayStream struct {
	id       string
	recorded []*schedulerv1.Event
	got      []*schedulerv1.Event
	events   chan *schedulerv1.Event
	// dropped is when the recorded client closed it; 0 if the master did.
	dropped float64
	close   func()
	closed  bool
	// operator has the lines of an operator stream instead.
	operator chan string
	wanted   []string
}

var masterIDs = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(-[A-Z]*[0-9]+)?`)

// neutral replaces ids, which differ from run to run.
func neutral(text string) string { return masterIDs.ReplaceAllString(text, "ID") }

func newReplayer(t *testing.T, file string) *replayer { return replayerWith(t, file, quickConfig()) }

func replayerWith(t *testing.T, file string, cfg Config) *replayer {
	t.Parallel()
	h := newHarnessNow(t, cfg)
	r := &replayer{
		t: t, h: h, file: file, ids: map[string]string{}, owners: map[string]string{}, roles: map[string]string{},
		before: map[int]func(){}, notes: map[string]func(){},
	}
	r.client, r.base = h.client(ctls.RoleAdmin, "", false)
	r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return r
}

// learn reads the script of agents from the recorded streams, and the roles of offers.
func (r *replayer) learn(exchanges []exchange) {
	seen := map[string]bool{}
	add := func(at float64, status *mesosv1.TaskStatus) {
		if status.GetSource() != mesosv1.TaskStatus_SOURCE_MASTER && !seen[string(status.GetUuid())] {
			seen[string(status.GetUuid())] = true
			r.script = append(r.script, scripted{at: at, status: status})
		}
	}
	for _, e := range exchanges {
		for _, rec := range e.Response.Records {
			event := &schedulerv1.Event{}
			if e.isOperator() {
				operator := &masterv1.Event{}
				if codec.UnmarshalJSON(rec.Record, operator) == nil && operator.TaskUpdated != nil {
					status := operator.GetTaskUpdated().GetStatus()
					r.owners[status.GetTaskId().GetValue()] = operator.GetTaskUpdated().GetFrameworkId().GetValue()
					add(rec.T, status)
				}
				continue
			}
			if codec.UnmarshalJSON(rec.Record, event) != nil {
				continue
			}
			for _, o := range event.GetOffers().GetOffers() {
				for _, resource := range o.GetResources() {
					r.roles[o.GetId().GetValue()] = resource.GetAllocationInfo().GetRole()
				}
			}
			if event.Update != nil {
				add(rec.T, event.GetUpdate().GetStatus())
			}
			if event.GetFailure().GetExecutorId() != nil {
				r.script = append(r.script, scripted{at: rec.T, failed: event.GetFailure()})
			}
		}
	}
	// The stream that the scheduler read may be left out of the recording: what
	// it acknowledged had come before.
	for _, e := range exchanges {
		call := &schedulerv1.Call{}
		if e.Request == nil || codec.UnmarshalJSON(e.Request.Body, call) != nil || call.Acknowledge == nil {
			continue
		}
		for i := range r.script {
			if bytes.Equal(r.script[i].status.GetUuid(), call.GetAcknowledge().GetUuid()) {
				r.script[i].at = min(r.script[i].at, e.T)
			}
		}
	}
	slices.SortStableFunc(r.script, func(a, b scripted) int { return cmp.Compare(a.at, b.at) })
}

var frameworkID = regexp.MustCompile(`-[0-9]{4}$`)

var agentID = regexp.MustCompile(`-S[0-9]+$`)

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
					if role, known := r.roles[old]; !known || role == "" || role == o.role {
						r.ids[old] = o.id
					}
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
	r.learn(exchanges)
	if r.agent == nil {
		r.startAgent("node1.example")
	}
	for n, e := range exchanges {
		r.advance(e.T)
		if e.Request == nil {
			for note, action := range r.notes {
				if strings.HasPrefix(e.Note, note) {
					action()
				}
			}
			continue
		}
		if before := r.before[e.N]; before != nil {
			before()
		}
		for _, value := range []string{string(e.Request.Body), e.Request.Path} {
			for _, id := range masterIDs.FindAllString(value, -1) {
				if agentID.MatchString(id) && r.ids[id] == "" {
					r.ids[id] = r.agent.id.GetValue()
				}
			}
		}
		r.offersBeforeSuppress(exchanges, n)
		if typeOf(e.Request.Body) == "SUBSCRIBE" { // may end another stream
			for _, id := range r.said {
				r.await(id)
			}
		}
		if e.Response.Status != 0 && !strings.HasSuffix(e.Connection, ":5051") && !skip(e) {
			r.exchange(e)
			call := &schedulerv1.Call{}
			if codec.UnmarshalJSON(e.Request.Body, call) == nil && call.Acknowledge != nil {
				r.acknowledged = append(r.acknowledged, call.GetAcknowledge().GetUuid())
			}
		}
	}
	r.advance(math.MaxFloat64)
	for _, s := range r.streams {
		r.compareStream(s)
	}
}

// advance plays what agents said, and which streams the client closed, until a
// time of the recording.
func (r *replayer) advance(now float64) {
	r.t.Helper()
	for len(r.script) > 0 && r.script[0].at <= now {
		r.dropStreams(math.Nextafter(r.script[0].at, 0))
		next := r.script[0]
		framework := r.translate(r.owners[next.status.GetTaskId().GetValue()])
		r.h.master.mu.Lock()
		there := r.h.master.frameworks[framework] != nil
		r.h.master.mu.Unlock()
		if next.status != nil && !there {
			if now == math.MaxFloat64 {
				break // recorded after the last call
			}
			r.t.Fatalf("%s: task %s has no framework yet", r.file, next.status.GetTaskId().GetValue())
		}
		r.script = r.script[1:]
		if next.failed != nil {
			for _, owner := range slices.Compact(slices.Sorted(maps.Values(r.owners))) {
				framework = r.translate(owner)
			}
			r.agent.exited(framework, next.failed)
			continue
		}
		r.agent.report(framework, next.status)
		r.said = append(r.said, next.status.GetUuid())
		r.until("an update reaches the master", func() bool {
			f := r.h.master.frameworks[framework]
			if f == nil || f.tasks[next.status.GetTaskId().GetValue()] == nil {
				return true
			}
			return bytes.Equal(f.tasks[next.status.GetTaskId().GetValue()].info.GetStatusUpdateUuid(), next.status.GetUuid())
		})
		r.await(next.status.GetUuid())
	}
	r.dropStreams(now)
}

// await waits for an update on the streams that have it in the recording.
func (r *replayer) await(id []byte) {
	r.t.Helper()
	for _, s := range r.streams {
		has := func(events []*schedulerv1.Event) bool {
			return slices.ContainsFunc(events, func(e *schedulerv1.Event) bool { return bytes.Equal(e.GetUpdate().GetStatus().GetUuid(), id) })
		}
		for !s.closed && has(s.recorded) && !has(s.got) {
			if r.nextEvent(s) == nil {
				r.t.Fatalf("%s: stream ended before an update", r.file)
			}
		}
	}
}

// dropStreams closes what the recorded client had closed by then, as soon as it
// has everything, and waits until the master knows.
func (r *replayer) dropStreams(now float64) {
	for _, s := range r.streams {
		if s.dropped == 0 || s.dropped > now || s.closed || s.operator != nil {
			continue
		}
		r.compareStream(s)
		s.closed = true
		s.close()
		for range s.events {
		}
		r.until("the master sees the end of a stream", func() bool {
			return !slices.ContainsFunc(slices.Collect(maps.Values(r.h.master.frameworks)), func(f *framework) bool {
				return f.stream != nil && f.stream.id == s.id
			})
		})
	}
}

// until waits for a condition of the master, which is checked under its lock.
func (r *replayer) until(what string, check func() bool) {
	r.t.Helper()
	deadline := time.After(patience)
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		r.h.master.mu.Lock()
		done := check()
		r.h.master.mu.Unlock()
		if done {
			return
		}
		select {
		case <-deadline:
			r.t.Fatalf("%s: never: %s", r.file, what)
		case <-poll.C:
		}
	}
}

// offersBeforeSuppress waits for offers that a call after a SUPPRESS declines.
func (r *replayer) offersBeforeSuppress(exchanges []exchange, n int) {
	if typeOf(exchanges[n].Request.Body) != "SUPPRESS" {
		return
	}
	for _, next := range exchanges[n+1:] {
		call := &schedulerv1.Call{}
		if next.Request == nil || codec.UnmarshalJSON(next.Request.Body, call) != nil || call.Decline == nil {
			return
		}
		r.offersFor(call)
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
		for _, operation := range call.GetAccept().GetOperations() {
			for _, info := range slices.Concat(operation.GetLaunch().GetTaskInfos(), operation.GetLaunchGroup().GetTaskGroup().GetTasks()) {
				r.owners[info.GetTaskId().GetValue()] = call.GetFrameworkId().GetValue()
			}
		}
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

// follow reads a stream, of a scheduler or of operators.
func (r *replayer) follow(e exchange, response *http.Response, cancel func()) {
	r.t.Cleanup(cancel)
	s := &replayStream{id: response.Header.Get(streamHeader), close: cancel}
	if strings.HasPrefix(e.Response.StreamEnd.By, "the recorder") {
		s.dropped = e.Response.StreamEnd.T
	}
	r.streams = append(r.streams, s)
	if e.isOperator() {
		r.followOperator(s, e, response)
		return
	}
	s.events = make(chan *schedulerv1.Event, 1000)
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
