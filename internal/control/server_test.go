package control

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/contrail/control/v1/controlv1connect"
	"github.com/contrail-mesos/contrail/internal/metricsdoc"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// patience bounds waits for what must come.
const patience = time.Minute

// cluster is a control node behind TLS.
type cluster struct {
	t *testing.T
	*world
	authority *ctls.Authority
	server    *Server
	address   string
	socket    string
	stop      func()
}

func newCluster(t *testing.T, cfg Config) *cluster {
	authority, err := ctls.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, world: newWorld(), authority: authority}
	c.start(c.graph, cfg)
	return c
}

// start runs a control node on a graph, as a process that starts.
func (c *cluster) start(g *model.Graph, cfg Config) {
	if cfg.KeepAlive == 0 {
		cfg.KeepAlive = 5 * time.Millisecond
	}
	c.server = New(discard(), cfg, g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.address = l.Addr().String()
	l.Close()
	c.socket = filepath.Join(c.t.TempDir(), "control.sock")
	server, err := serve.Listen(discard(), serve.Config{TLS: c.address, Unix: c.socket, Credentials: c.credentials(ctls.RoleController, "")}, c.server.Handler())
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := server.Run(ctx); err != nil {
			c.t.Error(err)
		}
	})
	parts.Go(func() {
		if err := c.server.Run(ctx); !errors.Is(err, context.Canceled) {
			c.t.Error(err)
		}
	})
	c.stop = sync.OnceFunc(func() {
		cancel()
		parts.Wait()
	})
	c.t.Cleanup(c.stop)
}

func (c *cluster) credentials(role, node string) *ctls.Credentials {
	dir := c.t.TempDir()
	if err := c.authority.Issue(dir, role, node); err != nil {
		c.t.Fatal(err)
	}
	credentials, err := ctls.LoadCredentials(dir)
	if err != nil {
		c.t.Fatal(err)
	}
	return credentials
}

// remote is an agent on the other side of a TLS connection.
type remote struct {
	t      *testing.T
	node   string
	stream *connect.BidiStreamForClient[controlv1.AgentMessage, controlv1.ControlMessage]
	state  *agentState
	hangUp func()
}

func (c *cluster) dial(role, node string, options ...connect.ClientOption) *remote {
	client, base, err := serve.Client(c.address, c.credentials(role, node), true, ctls.RoleController)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	r := &remote{t: c.t, node: node, state: newAgentState()}
	r.stream = controlv1connect.NewControlClient(client, base, options...).Session(ctx)
	r.hangUp = sync.OnceFunc(func() {
		cancel()
		r.stream.CloseRequest()
		r.stream.CloseResponse()
		client.CloseIdleConnections()
	})
	c.t.Cleanup(r.hangUp)
	return r
}

func (c *cluster) agent(name string, options ...connect.ClientOption) *remote {
	<-c.server.tables.ready
	r := c.dial(ctls.RoleNode, id("node", name), options...)
	r.send(&controlv1.AgentMessage{Body: &controlv1.AgentMessage_Hello{Hello: &controlv1.Hello{BootId: "boot-1", Layer2: true}}})
	return r
}

func (r *remote) send(m *controlv1.AgentMessage) {
	r.t.Helper()
	if err := r.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		r.t.Fatal(err)
	}
}

func (r *remote) report(iface string, state controlv1.PortStatus_State) {
	r.send(&controlv1.AgentMessage{Body: &controlv1.AgentMessage_PortStatus{PortStatus: &controlv1.PortStatus{InterfaceId: iface, State: state}}})
}

// until reads messages until done says so.
func (r *remote) until(what string, done func() bool) {
	r.t.Helper()
	for start := time.Now(); !done(); {
		m, err := r.stream.Receive()
		if err == nil {
			err = r.state.apply(m)
		}
		if err != nil {
			r.t.Fatalf("waiting for %s: %v", what, err)
		}
		if time.Since(start) > patience {
			r.t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// reach reads until everything up to the world's revision has been sent.
func (r *remote) reach(w *world) {
	r.t.Helper()
	r.until(fmt.Sprintf("revision %d", w.revision), func() bool { return r.state.keepAlive.Revision >= w.revision })
}

// fails reads until the stream fails.
func (r *remote) fails() error {
	for {
		if _, err := r.stream.Receive(); err != nil {
			return err
		}
	}
}

func wantCode(t *testing.T, err error, code connect.Code, says string) {
	t.Helper()
	if connect.CodeOf(err) != code || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %s: %s", err, code, says)
	}
}

func (c *cluster) twoNodes() {
	c.node("n1", "172.31.0.11", 1500)
	c.node("n2", "172.31.0.12", 1500)
	c.network("blue", 1, nil, nil)
	c.network("red", 2, nil, nil)
	for i := range 20 {
		c.attach(fmt.Sprintf("b%d", i), "blue", fmt.Sprintf("n%d", i%2+1), fmt.Sprintf("10.0.0.%d", i+3), uint32(16+i))
	}
	c.attach("r0", "red", "n2", "10.0.0.3", 100)
}

func (r *remote) wantSame(w *world, state func(string) portState) {
	r.t.Helper()
	r.reach(w)
	if diff := r.state.difference(w.graph, r.node, state); diff != "" {
		r.t.Error(diff)
	}
}

func TestSessionOverTLS(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]connect.ClientOption{
		"binary": nil, "json": {connect.WithProtoJSON()}, "grpc": {connect.WithGRPC()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, Config{})
			c.twoNodes()
			one, two := c.agent("n1", options...), c.agent("n2", options...)
			one.wantSame(c.world, always)
			two.wantSame(c.world, always)
			if len(one.state.routes[2]) != 0 {
				t.Error("n1 has routes of red, where it has no port")
			}
			iface := c.attach("new", "blue", "n1", "10.0.1.1", 500)
			two.reach(c.world)
			if two.state.routes[1]["10.0.1.1/32"] != nil {
				t.Error("the route is there before the port is")
			}
			one.report(iface, controlv1.PortStatus_STATE_UP)
			two.until("route of the new port", func() bool { return two.state.routes[1]["10.0.1.1/32"] != nil })
			c.detach("new", "blue")
			one.wantSame(c.world, always)
			two.wantSame(c.world, always)
		})
	}
}

func TestReconnectAndRestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Config{})
	c.twoNodes()
	one := c.agent("n1")
	one.wantSame(c.world, always)
	one.hangUp()
	c.detach("b0", "blue")
	again := c.agent("n1")
	again.wantSame(c.world, always)
	c.stop()
	if err := again.fails(); err == nil {
		t.Error("the stream goes on without a server")
	}
	c.detach("b1", "blue")
	c.start(c.graph, Config{})
	c.agent("n1").wantSame(c.world, always)
	c.agent("n2").wantSame(c.world, always)
}

// TestSlowAgent does not read for thousands of changes, twice for each route,
// loses none, and holds up nobody.
func TestSlowAgent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Config{Stuck: time.Hour}) // it reads in the end
	c.twoNodes()
	slow, quick := c.agent("n1"), c.agent("n2")
	slow.reach(c.world)
	quick.reach(c.world)
	const routes = 3000
	for i := range routes {
		c.apply(c.attachment(fmt.Sprintf("x%d", i), "blue", "n3", fmt.Sprintf("10.1.%d.%d", i/250, i%250+1), uint32(1000+i)))
	}
	c.node("n3", "172.31.0.13", 1500)
	quick.wantSame(c.world, always)
	for i := range routes / 2 {
		c.detach(fmt.Sprintf("x%d", i), "blue")
	}
	c.node("n3", "172.31.0.99", 1500)
	quick.wantSame(c.world, always)
	slow.wantSame(c.world, always)
}

// TestStuckAgent: a session whose agent reads nothing is ended, and meanwhile
// nobody waits for it.
func TestStuckAgent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Config{Stuck: 5 * time.Second, Snapshots: 1})
	c.twoNodes()
	for i := range 3000 {
		c.apply(c.attachment(fmt.Sprintf("x%d", i), "blue", "n3", fmt.Sprintf("10.1.%d.%d", i/250, i%250+1), uint32(1000+i)))
	}
	c.node("n3", "172.31.0.13", 1500)
	<-c.server.tables.ready
	client, base, err := serve.Client(c.address, c.credentials(ctls.RoleNode, id("node", "n1")), true, ctls.RoleController)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	client.Transport.(*http.Transport).HTTP2.MaxReceiveBufferPerStream = 64 << 10
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stuck := controlv1connect.NewControlClient(client, base).Session(ctx)
	if err := stuck.Send(&controlv1.AgentMessage{Body: &controlv1.AgentMessage_Hello{Hello: &controlv1.Hello{}}}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the session that will be stuck", func(t *tables) bool { return len(t.sessions) > 0 })
	two := c.agent("n2")
	two.until("its tables", func() bool { return two.state.vrfsDone[1] })
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		_, text := c.get("/metrics")
		if strings.Contains(text, "contrail_control_stuck_sessions_total 1\n") && strings.Contains(text, "contrail_control_sessions 1\n") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the stuck session goes on:\n%s", text)
		}
	}
	// It may come again, and read.
	c.agent("n1").wantSame(c.world, always)
}

// TestSnapshotsInTurn: with one turn at a time many agents get all they need.
func TestSnapshotsInTurn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Config{Snapshots: 1})
	c.twoNodes()
	c.server.snapshots <- struct{}{}
	one, two := c.agent("n1"), c.agent("n2")
	one.until("keep-alives", func() bool { return one.state.position.Revision > 0 })
	two.until("keep-alives", func() bool { return two.state.position.Revision > 0 })
	if one.state.portsDone || len(one.state.ports)+len(two.state.ports) > 0 {
		t.Error("tables were sent out of turn")
	}
	<-c.server.snapshots
	one.wantSame(c.world, always)
	two.wantSame(c.world, always)
}

func TestCallers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Config{FirstMessage: patience})
	<-c.server.tables.ready
	hello := &controlv1.AgentMessage{Body: &controlv1.AgentMessage_Hello{Hello: &controlv1.Hello{}}}
	manager := c.dial(ctls.RoleManager, "")
	manager.send(hello)
	wantCode(t, manager.fails(), connect.CodePermissionDenied, "only nodes")

	impatient := c.dial(ctls.RoleNode, id("node", "n1"))
	impatient.report("x", controlv1.PortStatus_STATE_UP)
	wantCode(t, impatient.fails(), connect.CodeInvalidArgument, "first message is not hello")

	twice := c.agent("n3")
	twice.send(hello)
	wantCode(t, twice.fails(), connect.CodeInvalidArgument, "hello came twice")

	c.stop()
	c.start(c.graph, Config{FirstMessage: 50 * time.Millisecond})
	<-c.server.tables.ready
	silent := c.dial(ctls.RoleNode, id("node", "n2"))
	silent.send(nil) // headers only
	wantCode(t, silent.fails(), connect.CodeInvalidArgument, "no hello within 50ms")
}

func TestNotReady(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Config{})
	c.stop()
	c.start(model.NewGraph(), Config{})
	early := c.dial(ctls.RoleNode, id("node", "n1"))
	early.send(&controlv1.AgentMessage{Body: &controlv1.AgentMessage_Hello{Hello: &controlv1.Hello{}}})
	wantCode(t, early.fails(), connect.CodeUnavailable, "has not read the store")
}

func TestSecondSession(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Config{Displace: 300 * time.Millisecond})
	c.twoNodes()
	first := c.agent("n1")
	first.reach(c.world)
	second := c.agent("n1")
	wantCode(t, second.fails(), connect.CodeAlreadyExists, "has a session already")
	c.detach("b0", "blue")
	first.wantSame(c.world, always) // and goes on
	if _, text := c.get("/metrics"); !strings.Contains(text, "contrail_control_duplicate_sessions_total 1") {
		t.Error("the second session was not counted")
	}
}

// TestSuccessor: the new process of a killed agent is there before the old
// connection is known to be dead, and waits for that.
func TestSuccessor(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Config{Displace: patience})
	c.twoNodes()
	first := c.agent("n1")
	first.reach(c.world)
	second := c.agent("n1")
	for contending := false; !contending; {
		c.server.mu.Lock()
		contending = c.server.contenders[id("node", "n1")]
		c.server.mu.Unlock()
	}
	first.hangUp()
	second.wantSame(c.world, always)
}

func (c *cluster) get(path string) (int, string) {
	client, base, err := serve.Client("unix:"+c.socket, nil, false)
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	return get(c.t, client, base+path)
}

func get(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

var updateDocs = flag.Bool("update", false, "write docs/reference/metrics.md anew")

func TestMetricsReference(t *testing.T) {
	s := New(discard(), Config{}, model.NewGraph())
	metricsdoc.Compare(t, filepath.Join("..", "..", "docs", "reference", "metrics.md"), "Metrics of the control node", s.registry, *updateDocs)
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Config{})
	c.twoNodes()
	anyPort := []model.PortType{{StartPort: new(int64(-1)), EndPort: new(int64(-1))}}
	group := &model.SecurityGroup{
		Meta: model.Meta{UUID: id("group"), FQName: []string{"default-domain", "p", "g"}}, SecurityGroupID: new(int64(8000001)),
		SecurityGroupEntries: &model.PolicyEntriesType{PolicyRule: []model.PolicyRuleType{{
			RuleUUID: "r1", Direction: ">", Protocol: "tcp", SrcAddresses: []model.AddressType{{SecurityGroup: "default-domain:p:g"}}, SrcPorts: anyPort,
			DstAddresses: []model.AddressType{{SecurityGroup: "local"}}, DstPorts: []model.PortType{{StartPort: new(int64(80)), EndPort: new(int64(81))}},
		}}},
	}
	c.world.apply(model.Batch{Objects: []model.Object{group}, References: []model.Reference{{
		From: model.Entity{Kind: model.KindVirtualMachineInterface, UUID: id("vmi", "b0")}, To: model.EntityOf(group),
	}}})
	one := c.agent("n1")
	one.reach(c.world)
	var agents []ShownAgent
	if code, text := c.get("/agents"); code != 200 || json.Unmarshal([]byte(text), &agents) != nil ||
		len(agents) != 2 || !slices.ContainsFunc(agents, func(a ShownAgent) bool { return a.Name == "n1" && a.Connected && a.Ports == 10 }) {
		t.Errorf("agents: %d %s", code, text)
	}
	var instances []ShownInstance
	if code, text := c.get("/instances"); code != 200 || json.Unmarshal([]byte(text), &instances) != nil ||
		len(instances) != 2 || instances[0].Routes != 62 || instances[0].Subscribers != 1 { // 20 addresses, MACs, both; two nodes
		t.Errorf("instances: %d %s", code, text)
	}
	var imports []ShownImport
	if code, text := c.get("/imports?network=red"); code != 200 || json.Unmarshal([]byte(text), &imports) != nil ||
		len(imports) != 1 || imports[0].VRF != 2 || len(imports[0].From) != 0 {
		t.Errorf("imports: %d %s", code, text)
	}
	var table struct {
		Routes []struct {
			Key   string
			Paths []struct {
				NextHop string `json:"next_hop"`
				Label   uint32
				Why     string
			}
		}
	}
	for _, name := range []string{"2", "red", "default-domain:p:red", id("net", "red")} {
		if code, text := c.get("/routes?network=" + name); code != 200 || json.Unmarshal([]byte(text), &table) != nil || len(table.Routes) != 4 ||
			table.Routes[0].Key != "10.0.0.3/32" || table.Routes[0].Paths[0].NextHop != "172.31.0.12" || table.Routes[0].Paths[0].Label != 100 {
			t.Errorf("routes: %d %s", code, text)
		}
	}
	for path, want := range map[string]string{
		"/explain?prefix=10.0.0.4":                   `"the only path"`,
		"/policy?interface=default-domain:p:b0-eth0": `"service": "tcp to 80-81"`,
		"/policy?interface=" + id("vmi", "b1"):       `"sets": []`,
		"/explain?prefix=10.0.0.4&network=red":       "the vrf imports target:64512:8000002; the path has target:64512:8000001",
	} {
		if code, text := c.get(path); code != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s, want %q", path, code, text, want)
		}
	}
	for path, want := range map[string]int{
		"/policy": 400, "/policy?interface=x": 400,
		"/routes": 400, "/routes?network=x": 400, "/routes?network=77": 400, "/explain?prefix=10": 400, "/explain": 400, "/metrics": 200,
		"/debug/pprof/heap": 200,
	} {
		if code, text := c.get(path); code != want {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	for _, x := range []struct{ role, node, path string }{
		{ctls.RoleNode, id("node", "n1"), "/routes?network=1"}, {ctls.RoleController, "", "/debug/pprof/heap"},
	} {
		client, base, err := serve.Client(c.address, c.credentials(x.role, x.node), false, ctls.RoleController)
		if err != nil {
			t.Fatal(err)
		}
		defer client.CloseIdleConnections()
		if code, _ := get(t, client, base+x.path); code != http.StatusForbidden {
			t.Errorf("a %s looked at %s: %d", x.role, x.path, code)
		}
	}
}
