package master

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	"github.com/contrail-mesos/contrail/api/contrail/mesos/v1/mesosclusterv1connect"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	masterv1 "github.com/contrail-mesos/contrail/api/mesos/v1/master"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
	"github.com/contrail-mesos/contrail/internal/lifecycle"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waiting for something that must come.
const patience = time.Minute

// harness is a master that answers on a real TLS socket.
type harness struct {
	t         *testing.T
	authority *ctls.Authority
	dir       string
	cfg       Config
	master    *Master
	address   string
	stop      func()
}

func quickConfig() Config {
	return Config{
		Hostname: "master.example", Cluster: "rec", Version: "1.12.0",
		AllocationInterval: 20 * time.Millisecond, PingInterval: 5 * time.Second,
	}
}

func newHarness(t *testing.T, cfg Config) *harness {
	t.Helper()
	t.Parallel() // each has its own socket and directories
	return newHarnessNow(t, cfg)
}

func newHarnessNow(t *testing.T, cfg Config) *harness {
	t.Helper()
	authority, err := ctls.OpenAuthority(filepath.Join(t.TempDir(), "ca"))
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, authority: authority, dir: t.TempDir(), cfg: cfg}
	h.cfg.WorkDir = filepath.Join(h.dir, "work")
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *harness) credentials(role, node string) *ctls.Credentials {
	h.t.Helper()
	dir := filepath.Join(h.dir, "tls", role+node)
	if err := h.authority.Issue(dir, role, node); err != nil {
		h.t.Fatal(err)
	}
	credentials, err := ctls.LoadCredentials(dir)
	if err != nil {
		h.t.Fatal(err)
	}
	return credentials
}

// start runs a master on the address of the one before, or a new one.
func (h *harness) start() {
	h.t.Helper()
	if h.address == "" {
		h.address = freeAddress(h.t)
	}
	h.cfg.Address = h.address
	m, err := New(slog.New(slog.DiscardHandler), h.cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.master = m
	server, err := serve.Listen(slog.New(slog.DiscardHandler), serve.Config{TLS: h.address, Credentials: h.credentials(ctls.RoleMaster, "")}, m.Handler())
	if err != nil {
		h.t.Fatal(err)
	}
	// The order of the command: the master goes first and ends its streams.
	group := lifecycle.New(slog.New(slog.DiscardHandler))
	group.Add("server", server.Run)
	group.Add("master", m.Run)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- group.Wait(ctx) }()
	stopped := false
	h.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := listenLoopback()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// client returns an HTTP client and the base URL for a role.
func (h *harness) client(role, node string, stream bool) (*http.Client, string) {
	h.t.Helper()
	client, base, err := serve.Client(h.address, h.credentials(role, node), stream, ctls.RoleMaster)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(client.CloseIdleConnections)
	return client, base
}

// --- a scripted agent

type testAgent struct {
	t      *testing.T
	cancel context.CancelFunc
	stream *connect.BidiStreamForClient[clusterv1.AgentMessage, clusterv1.MasterMessage]
	inbox  chan *clusterv1.MasterMessage
	ended  chan error
	id     *mesosv1.AgentID
}

func agentInfo(hostname string) *mesosv1.AgentInfo {
	info := &mesosv1.AgentInfo{}
	text := `{"hostname":"` + hostname + `","port":5051,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":2}},
	 {"name":"mem","type":"SCALAR","scalar":{"value":2048}},{"name":"disk","type":"SCALAR","scalar":{"value":2048}},
	 {"name":"ports","type":"RANGES","ranges":{"range":[{"begin":31000,"end":31099}]}}],
	 "attributes":[{"name":"rack","type":"TEXT","text":{"value":"r1"}},{"name":"zone","type":"TEXT","text":{"value":"a"}}]}`
	if err := codec.UnmarshalJSON([]byte(text), info); err != nil {
		panic(err)
	}
	return info
}

func registration(hostname string) *clusterv1.Register {
	register := &clusterv1.Register{Agent: agentInfo(hostname), Version: proto.String("1.12.0"), Address: proto.String("127.0.0.1:5051")}
	for _, c := range []mesosv1.AgentInfo_Capability_Type{
		mesosv1.AgentInfo_Capability_MULTI_ROLE, mesosv1.AgentInfo_Capability_HIERARCHICAL_ROLE, mesosv1.AgentInfo_Capability_AGENT_DRAINING,
	} {
		register.Capabilities = append(register.Capabilities, &mesosv1.AgentInfo_Capability{Type: c.Enum()})
	}
	return register
}

// connect opens a session and sends Register; it does not wait for the answer.
func (h *harness) connect(node string, register *clusterv1.Register) *testAgent {
	h.t.Helper()
	client, base := h.client(ctls.RoleNode, node, true)
	ctx, cancel := context.WithCancel(context.Background())
	stream := mesosclusterv1connect.NewClusterClient(client, base, connect.WithGRPC()).Agent(ctx)
	a := &testAgent{t: h.t, cancel: cancel, stream: stream, inbox: make(chan *clusterv1.MasterMessage, 1000), ended: make(chan error, 1)}
	if err := stream.Send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_Register{Register: register}}); err != nil && !errors.Is(err, io.EOF) {
		h.t.Fatal(err)
	}
	go a.read()
	h.t.Cleanup(a.close)
	return a
}

func (a *testAgent) read() {
	for {
		message, err := a.stream.Receive()
		if err != nil {
			a.ended <- err
			close(a.inbox)
			return
		}
		if message.GetPing() != nil {
			a.send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_Pong{Pong: &clusterv1.Pong{}}})
			continue
		}
		a.inbox <- message
	}
}

func (a *testAgent) close() {
	a.cancel()
	a.stream.CloseRequest()
	a.stream.CloseResponse()
}

func (a *testAgent) send(m *clusterv1.AgentMessage) {
	if err := a.stream.Send(m); err != nil && !errors.Is(err, io.EOF) && a.t.Context().Err() == nil {
		a.t.Logf("agent send: %v", err)
	}
}

// agent registers and waits for Registered.
func (h *harness) agent(node string, register *clusterv1.Register) *testAgent {
	h.t.Helper()
	a := h.connect(node, register)
	a.id = a.next().GetRegistered().GetAgentId()
	if a.id == nil {
		h.t.Fatal("agent did not get Registered first")
	}
	return a
}

func (a *testAgent) next() *clusterv1.MasterMessage {
	a.t.Helper()
	select {
	case m, ok := <-a.inbox:
		if !ok {
			a.t.Fatalf("agent session ended: %v", <-a.ended)
		}
		return m
	case <-time.After(patience):
		a.t.Fatal("no message for the agent")
	}
	return nil
}

// end waits for the end of the session and returns its error.
func (a *testAgent) end() error {
	a.t.Helper()
	select {
	case err := <-a.ended:
		return err
	case <-time.After(patience):
		a.t.Fatal("agent session does not end")
	}
	return nil
}

// report sends a status update and returns its uuid.
func (a *testAgent) report(framework, task string, state mesosv1.TaskState) []byte {
	id := uuid.New()
	a.resend(framework, task, state, id[:])
	return id[:]
}

func (a *testAgent) resend(framework, task string, state mesosv1.TaskState, id []byte) {
	a.send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_StatusUpdate{StatusUpdate: &clusterv1.StatusUpdate{
		FrameworkId: &mesosv1.FrameworkID{Value: &framework}, LatestState: state.Enum(),
		Status: &mesosv1.TaskStatus{
			TaskId: &mesosv1.TaskID{Value: &task}, State: state.Enum(), Source: mesosv1.TaskStatus_SOURCE_EXECUTOR.Enum(),
			AgentId: a.id, ExecutorId: &mesosv1.ExecutorID{Value: &task}, Timestamp: proto.Float64(1), Uuid: id,
			ContainerStatus: &mesosv1.ContainerStatus{
				ContainerId: &mesosv1.ContainerID{Value: proto.String("c-" + task)},
				NetworkInfos: []*mesosv1.NetworkInfo{{Name: proto.String("blue"), IpAddresses: []*mesosv1.NetworkInfo_IPAddress{
					{Protocol: mesosv1.NetworkInfo_IPv4.Enum(), IpAddress: proto.String("10.32.0.7")},
				}}},
			},
		},
	}}})
}

// --- a scripted scheduler

type testScheduler struct {
	t      *testing.T
	client *http.Client
	base   string
	cancel context.CancelFunc
	id     *mesosv1.FrameworkID
	stream string
	events chan *schedulerv1.Event
	offers []*mesosv1.Offer // seen and not used by the script
}

func frameworkInfo(name string, failover float64) *mesosv1.FrameworkInfo {
	info := &mesosv1.FrameworkInfo{
		User: proto.String("root"), Name: &name, Checkpoint: proto.Bool(true), FailoverTimeout: &failover, Roles: []string{"*"},
	}
	for _, c := range []mesosv1.FrameworkInfo_Capability_Type{
		mesosv1.FrameworkInfo_Capability_MULTI_ROLE, mesosv1.FrameworkInfo_Capability_PARTITION_AWARE, mesosv1.FrameworkInfo_Capability_TASK_KILLING_STATE,
	} {
		info.Capabilities = append(info.Capabilities, &mesosv1.FrameworkInfo_Capability{Type: c.Enum()})
	}
	return info
}

// subscribe starts a scheduler; with info.Id it is a resubscription.
func (h *harness) subscribe(info *mesosv1.FrameworkInfo) *testScheduler {
	h.t.Helper()
	client, base := h.client(ctls.RoleAdmin, "", false)
	ctx, cancel := context.WithCancel(context.Background())
	s := &testScheduler{t: h.t, client: client, base: base, cancel: cancel, events: make(chan *schedulerv1.Event, 1000)}
	h.t.Cleanup(cancel)
	call := &schedulerv1.Call{Type: schedulerv1.Call_SUBSCRIBE.Enum(), FrameworkId: info.Id, Subscribe: &schedulerv1.Call_Subscribe{FrameworkInfo: info}}
	response := post(ctx, h.t, client, base+"/api/v1/scheduler", "", call)
	if response.StatusCode != http.StatusOK {
		h.t.Fatalf("subscribe: %s", response.Status)
	}
	s.stream = response.Header.Get("Mesos-Stream-Id")
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
	first := s.event(schedulerv1.Event_UNKNOWN)
	s.id = first.GetSubscribed().GetFrameworkId()
	return s
}

func post(ctx context.Context, t *testing.T, client *http.Client, url, stream string, call proto.Message) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(codec.MarshalJSON(call)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if stream != "" {
		request.Header.Set("Mesos-Stream-Id", stream)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// event returns the next event of a type, UNKNOWN being any; heartbeats and
// events of other types are passed over, offers are kept.
func (s *testScheduler) event(kind schedulerv1.Event_Type) *schedulerv1.Event {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case event, ok := <-s.events:
			if !ok {
				s.t.Fatalf("stream ended before %s", kind)
			}
			if event.GetType() == schedulerv1.Event_OFFERS && kind != schedulerv1.Event_OFFERS {
				s.offers = append(s.offers, event.GetOffers().GetOffers()...)
			}
			if kind == schedulerv1.Event_UNKNOWN || event.GetType() == kind {
				return event
			}
		case <-deadline:
			s.t.Fatalf("no %s event", kind)
		}
	}
}

func (s *testScheduler) offer() *mesosv1.Offer {
	s.t.Helper()
	if len(s.offers) == 0 {
		s.offers = s.event(schedulerv1.Event_OFFERS).GetOffers().GetOffers()
	}
	o := s.offers[0]
	s.offers = s.offers[1:]
	return o
}

// update returns the next status, which must be of that task and state.
func (s *testScheduler) update(task string, state mesosv1.TaskState) *mesosv1.TaskStatus {
	s.t.Helper()
	status := s.event(schedulerv1.Event_UPDATE).GetUpdate().GetStatus()
	if status.GetTaskId().GetValue() != task || status.GetState() != state {
		s.t.Fatalf("update %s, want %s of %s", codec.MarshalJSON(status), state, task)
	}
	return status
}

// call sends a call and demands the status of its answer.
func (s *testScheduler) call(call *schedulerv1.Call, want int) {
	s.t.Helper()
	call.FrameworkId = s.id
	response := post(context.Background(), s.t, s.client, s.base+"/api/v1/scheduler", s.stream, call)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if response.StatusCode != want {
		s.t.Fatalf("%s: %s: %s, want %d", call.GetType(), response.Status, text, want)
	}
}

func (s *testScheduler) acknowledge(status *mesosv1.TaskStatus) {
	s.t.Helper()
	s.call(&schedulerv1.Call{Type: schedulerv1.Call_ACKNOWLEDGE.Enum(), Acknowledge: &schedulerv1.Call_Acknowledge{
		AgentId: status.GetAgentId(), TaskId: status.GetTaskId(), Uuid: status.GetUuid(),
	}}, http.StatusAccepted)
}

func taskInfo(id string, agent *mesosv1.AgentID) *mesosv1.TaskInfo {
	info := &mesosv1.TaskInfo{AgentId: agent}
	text := `{"name":"` + id + `","task_id":{"value":"` + id + `"},"agent_id":{"value":"x"},"resources":[
	 {"name":"cpus","type":"SCALAR","scalar":{"value":0.1}},{"name":"mem","type":"SCALAR","scalar":{"value":32}}],
	 "command":{"shell":true,"value":"sleep 1000"},"container":{"type":"MESOS","network_infos":[{"name":"blue"}]}}`
	if err := codec.UnmarshalJSON([]byte(text), info); err != nil {
		panic(err)
	}
	info.AgentId = agent
	return info
}

func (s *testScheduler) launch(o *mesosv1.Offer, tasks ...*mesosv1.TaskInfo) {
	s.t.Helper()
	s.call(&schedulerv1.Call{Type: schedulerv1.Call_ACCEPT.Enum(), Accept: &schedulerv1.Call_Accept{
		OfferIds: []*mesosv1.OfferID{o.GetId()}, Filters: &mesosv1.Filters{RefuseSeconds: proto.Float64(0)},
		Operations: []*mesosv1.Offer_Operation{{
			Type: mesosv1.Offer_Operation_LAUNCH.Enum(), Launch: &mesosv1.Offer_Operation_Launch{TaskInfos: tasks},
		}},
	}}, http.StatusAccepted)
}

func (s *testScheduler) simple(kind schedulerv1.Call_Type) {
	s.t.Helper()
	s.call(&schedulerv1.Call{Type: kind.Enum()}, http.StatusAccepted)
}

// --- the operator API

func (h *harness) operator(call *masterv1.Call) *masterv1.Response {
	h.t.Helper()
	client, base := h.client(ctls.RoleAdmin, "", false)
	answer := post(context.Background(), h.t, client, base+"/api/v1", "", call)
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK {
		h.t.Fatalf("%s: %s: %s", call.GetType(), answer.Status, data)
	}
	response := &masterv1.Response{}
	if len(data) > 0 {
		if err := codec.UnmarshalJSON(data, response); err != nil {
			h.t.Fatal(err)
		}
	}
	return response
}

// watch subscribes to the operator stream.
func (h *harness) watch() chan *masterv1.Event {
	h.t.Helper()
	client, base := h.client(ctls.RoleAdmin, "", false)
	ctx, cancel := context.WithCancel(context.Background())
	h.t.Cleanup(cancel)
	response := post(ctx, h.t, client, base+"/api/v1", "", &masterv1.Call{Type: masterv1.Call_SUBSCRIBE.Enum()})
	events := make(chan *masterv1.Event, 1000)
	go func() {
		defer response.Body.Close()
		defer close(events)
		reader := codec.NewRecordReader(response.Body, codec.MaxFrame)
		for {
			event := &masterv1.Event{}
			if reader.Read(codec.JSON, event) != nil {
				return
			}
			if event.GetType() != masterv1.Event_HEARTBEAT {
				events <- event
			}
		}
	}()
	expect(h.t, events, "SUBSCRIBED")
	return events
}

// expect reads events whose types, with state of tasks, must be those.
func expect(t *testing.T, events chan *masterv1.Event, want ...string) {
	t.Helper()
	for _, kind := range want {
		select {
		case event, ok := <-events:
			got := event.GetType().String()
			if event.GetType() == masterv1.Event_TASK_UPDATED {
				got = event.GetTaskUpdated().GetStatus().GetState().String()
			}
			if !ok || got != kind {
				t.Fatalf("operator event %s, want %s", got, kind)
			}
		case <-time.After(patience):
			t.Fatalf("no %s on the operator stream", kind)
		}
	}
}
