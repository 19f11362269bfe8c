package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/contrail/control/v1/controlv1connect"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/rib"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// exchangeWith has a control node ask others, which the store names.
func (c *cluster) exchangeWith(others ...string) *Exchange {
	x, err := c.server.Exchange(c.address, c.credentials(ctls.RoleController, ""))
	if err != nil {
		c.t.Fatal(err)
	}
	entries := []store.Entry{{Key: store.ControlKey(c.address)}}
	for _, o := range others {
		entries = append(entries, store.Entry{Key: store.ControlKey(o)})
	}
	for _, err := range []error{x.Reset(1, 1), x.Load(entries), x.Loaded()} {
		if err != nil {
			c.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = x.Run(ctx) }) // ends with ctx
	c.t.Cleanup(func() { cancel(); running.Wait() })
	return x
}

// eventually waits for a control node's tables.
func (c *cluster) eventually(what string, check func(t *tables) bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		c.server.tables.mu.Lock()
		ok := check(c.server.tables)
		c.server.tables.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			text, _ := json.Marshal(c.server.tables.showAgents())
			c.t.Fatalf("waited %s for %s: %s, %+v", patience, what, text, c.server.exchange.show())
		}
	}
}

// TestThirdControlNodeKnows: a control node that an agent has no session with
// announces its ports like the one that it has, and when that one goes, as it
// was.
func TestThirdControlNodeKnows(t *testing.T) {
	t.Parallel()
	one := newCluster(t, Config{Grace: time.Millisecond})
	one.twoNodes()
	third := &cluster{t: t, world: one.world, authority: one.authority}
	third.start(one.graph, Config{})
	third.exchangeWith(one.address)
	agent := one.agent("n1")
	agent.wantSame(one.world, always)
	third.eventually("the session of n1", func(t *tables) bool { return t.nodes[id("node", "n1")].live() })

	iface := one.attach("new", "blue", "n1", "10.0.1.1", 500)
	third.eventually("the port that waits", func(t *tables) bool { return t.ports[iface] != nil && t.ports[iface].waiting })
	agent.send(&controlv1.AgentMessage{Body: &controlv1.AgentMessage_PortStatus{PortStatus: &controlv1.PortStatus{
		InterfaceId: iface, State: controlv1.PortStatus_STATE_UP, Sequence: 1,
	}}})
	third.eventually("the port that is up", func(t *tables) bool { return t.ports[iface].usable() })
	agent.send(&controlv1.AgentMessage{Body: &controlv1.AgentMessage_PortStatus{PortStatus: &controlv1.PortStatus{
		InterfaceId: iface, State: controlv1.PortStatus_STATE_DOWN, Sequence: 2,
	}}})
	third.eventually("the port that is down", func(t *tables) bool { return t.ports[iface].down })

	one.stop()
	third.eventually("that the agent is lost, and its word stands", func(t *tables) bool {
		return t.nodes[id("node", "n1")].lost && t.ports[iface].down
	})
	// The agent comes here, and what it says now is news.
	again := third.agent("n1")
	again.send(&controlv1.AgentMessage{Body: &controlv1.AgentMessage_PortStatus{PortStatus: &controlv1.PortStatus{
		InterfaceId: iface, State: controlv1.PortStatus_STATE_UP, Sequence: 3,
	}}})
	third.eventually("the port that is up again", func(t *tables) bool {
		return t.ports[iface].usable() && !t.nodes[id("node", "n1")].lost
	})
}

// gatewayPath is a path that a router of a name announces.
func gatewayPath(name, hop string, label uint32) rib.Spec {
	return rib.Spec{
		Source: rib.Source{Kind: rib.BGP, Name: name}, Label: label, Flags: rib.Multipath,
		Attributes: rib.Attributes{
			NextHop: netip.MustParseAddr(hop), Encapsulations: rib.MPLSoUDP | rib.MPLSoGRE, Targets: []rib.Target{rib.Target(outsideTarget)},
			LocalPreference: 100, MED: 7, ASPath: []uint32{64500}, Origin: 2, External: true, RouterID: netip.MustParseAddr(hop),
			Communities: []uint32{64500<<16 | 1}, OriginNetwork: 9, SecurityGroups: []uint32{3}, Tags: []uint32{4, 5},
		},
	}
}

var (
	outsideTarget, _ = compile.Target("target:64500:1").Community()
	farAway          = outside{1, rib.UnicastKey(netip.MustParsePrefix("203.0.113.0/24"))}
)

// say has a control node's routers announce a route, these paths and no others.
func (c *cluster) say(at outside, specs ...rib.Spec) {
	t := c.server.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	t.setLearned(at, specs)
	t.flush()
}

// leads waits until a network reaches what is far away by these next hops.
func (c *cluster) leads(want string) {
	c.t.Helper()
	have := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		c.server.tables.mu.Lock()
		have = ""
		if r, ok := c.server.tables.rib.Route(1, farAway.key); ok {
			for _, p := range r.Paths {
				if p.Used {
					have += fmt.Sprintf("%s:%d%v ", p.NextHop, p.Label, p.State)
				}
			}
		}
		c.server.tables.mu.Unlock()
		if have == want {
			return
		}
	}
	c.t.Fatalf("%s leads to %q, want %q", c.address, have, want)
}

// TestLearnedRoutesAreExchanged: control nodes with different routers choose
// alike, one without any too; and what routers told one that is gone is stale,
// and gone when it is gone for good.
func TestLearnedRoutesAreExchanged(t *testing.T) {
	t.Parallel()
	one := newCluster(t, Config{})
	one.network("blue", 1, []string{"target:64500:1"}, nil)
	other := func() *cluster {
		c := &cluster{t: t, world: one.world, authority: one.authority}
		c.start(one.graph, Config{})
		return c
	}
	two, third := other(), other()
	one.exchangeWith(two.address, third.address)
	two.exchangeWith(one.address, third.address)
	exchange := third.exchangeWith(one.address, two.address)
	all := []*cluster{one, two, third}

	one.say(farAway, gatewayPath("a", "192.0.2.1", 20))
	for _, c := range all {
		c.leads("192.0.2.1:20[multipath] ")
	}
	want, have := shownPaths(one), shownPaths(third)
	have[0].Name = want[0].Name // and whom it was told
	if !reflect.DeepEqual(want, have) {
		t.Errorf("the third has %+v, want %+v", have, want)
	}
	if shown := exchange.show(); shown[0].Paths+shown[1].Paths != 1 {
		t.Errorf("the third shows %+v, want one path", shown)
	}
	worse := gatewayPath("b", "192.0.2.2", 21)
	worse.MED = 8
	two.say(farAway, worse)
	one.leads("192.0.2.1:20[multipath] ")
	two.leads("192.0.2.1:20[multipath] ")
	two.say(farAway, gatewayPath("b", "192.0.2.2", 21))
	for _, c := range all {
		c.leads("192.0.2.1:20[multipath] 192.0.2.2:21[multipath] ")
	}
	// Both hear of one router: nodes are told of it once.
	two.say(farAway, gatewayPath("b", "192.0.2.2", 21), gatewayPath("a", "192.0.2.1", 20))
	third.leads("192.0.2.1:20[multipath] 192.0.2.1:20[multipath] 192.0.2.2:21[multipath] ")
	third.server.tables.mu.Lock()
	paths := slices.SortedFunc(third.server.tables.rib.External(farAway.rd, farAway.key), func(a, b *rib.Path) int { return int(a.Label) - int(b.Label) })
	route, err := (&frame{nil, encodeRoute(1, farAway.key, paths)}).message()
	third.server.tables.mu.Unlock()
	if err != nil || len(route.GetRoute().GetPaths()) != 2 {
		t.Errorf("nodes are told %v, error %v; want two paths", route, err)
	}
	one.say(farAway)
	two.say(farAway)
	for _, c := range all {
		c.leads("")
	}

	one.say(farAway, gatewayPath("a", "192.0.2.1", 20))
	third.leads("192.0.2.1:20[multipath] ")
	one.stop()
	third.leads("192.0.2.1:20[stale multipath] ")
	two.say(farAway, worse)
	third.leads("192.0.2.2:21[multipath] ")
	two.say(farAway)
	third.leads("192.0.2.1:20[stale multipath] ")
	if err := exchange.Apply(2, []store.Entry{{Key: store.ControlKey(one.address), Deleted: true}}); err != nil {
		t.Fatal(err)
	}
	third.leads("")
}

func shownPaths(c *cluster) []rib.ShownPath {
	c.server.tables.mu.Lock()
	defer c.server.tables.mu.Unlock()
	r, _ := c.server.tables.rib.Route(1, farAway.key)
	return r.Paths
}

// TestEndOfLearned: what another control node does not name any more in a new
// stream is gone, but not before its routers are back; and agents are told of no
// end of a table before that.
func TestEndOfLearned(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.network("blue", 1, []string{"target:64500:1"}, nil)
	b.node("n1", "172.31.0.11", 1500)
	b.attach("b1", "blue", "n1", "10.0.0.3", 16)
	b.tables.expect("c2")
	b.step()
	b.connect("n1", batch)
	agent := b.agents["n1"]
	if err := agent.drain(); err != nil || agent.state.vrfsDone[1] {
		t.Errorf("the table ended: %t, error %v", agent.state.vrfsDone[1], err)
	}
	told, err := b.tables.hearLearned("c2", &controlv1.Learned{RouteDistinguisher: 1, Prefix: "203.0.113.0/24", Paths: []*controlv1.LearnedPath{{
		Peer: "a", NextHop: "192.0.2.1", Label: 20, RouteTargets: []uint64{outsideTarget},
	}}})
	if err != nil || told != farAway {
		t.Fatalf("told of %v, error %v", told, err)
	}
	b.tables.unlearn("c2", &named{routes: map[outside]struct{}{told: {}}})
	if err := agent.drain(); err != nil || !agent.state.vrfsDone[1] || agent.state.routes[1]["203.0.113.0/24"] == nil {
		t.Errorf("the table ended: %t, error %v, routes %v", agent.state.vrfsDone[1], err, agent.state.routes)
	}
	b.tables.unlearn("c2", &named{})
	if err := agent.drain(); err != nil || agent.state.routes[1]["203.0.113.0/24"] != nil {
		t.Errorf("routes %v, error %v", agent.state.routes, err)
	}
	for _, wrong := range []*controlv1.Learned{
		{Prefix: "nowhere"},
		{Prefix: "10.0.0.0/8", Paths: []*controlv1.LearnedPath{{NextHop: "?"}}},
		{Prefix: "10.0.0.0/8", Paths: []*controlv1.LearnedPath{{NextHop: "192.0.2.1", RouterId: "?"}}},
	} {
		if _, err := b.tables.hearLearned("c2", wrong); err == nil {
			t.Errorf("%v is taken", wrong)
		}
	}
	// Who tells holds the end back until its own routers are there.
	b.tables.border.returning = true
	r := b.tables.readShared(nil)
	ended := func() (yes bool) {
		bodies, _ := r.collect()
		for _, body := range bodies {
			m := new(controlv1.ExchangeMessage)
			if err := proto.Unmarshal(body, m); err != nil {
				t.Fatal(err)
			}
			yes = yes || m.GetEndOfLearned()
		}
		return yes
	}
	if ended() {
		t.Error("the end was told before the routers were back")
	}
	b.tables.border.returned()
	if !ended() || ended() {
		t.Error("the end is not told once")
	}
	r.close()
	b.disconnect("n1")
}

// TestExchangeGoesOn: after an interruption nothing is told again.
func TestExchangeGoesOn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Config{})
	c.twoNodes()
	c.agent("n1").reach(c.world)
	c.agent("n2").reach(c.world)
	ask := func(cursor *controlv1.TableCursor) (names map[string]bool, resumed bool, _ *controlv1.TableCursor) {
		client, base, err := serve.Client(c.address, c.credentials(ctls.RoleController, ""), true, ctls.RoleController)
		if err != nil {
			t.Fatal(err)
		}
		defer client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		stream, err := controlv1connect.NewControlClient(client, base).Exchange(ctx, connect.NewRequest(&controlv1.ExchangeRequest{Cursor: cursor}))
		if err != nil {
			t.Fatal(err)
		}
		names = map[string]bool{}
		for stream.Receive() {
			m := stream.Msg()
			if m.GetReport() != nil {
				names[m.GetReport().GetNode()] = true
			}
			resumed = resumed || m.GetResumed()
			if m.GetCursor() != nil {
				cursor = m.GetCursor()
			}
			if m.GetKeepAlive() {
				return names, resumed, cursor
			}
		}
		t.Fatalf("exchange: %v", stream.Err())
		return nil, false, nil
	}
	names, resumed, cursor := ask(nil)
	if len(names) != 2 || resumed || cursor == nil {
		t.Errorf("first told of %v, resumed %t, cursor %v", names, resumed, cursor)
	}
	if names, resumed, _ := ask(cursor); len(names) != 0 || !resumed {
		t.Errorf("then told of %v, resumed %t", names, resumed)
	}
	if names, resumed, _ := ask(&controlv1.TableCursor{Table: 1, At: 1}); len(names) != 2 || resumed {
		t.Errorf("of another process: told of %v, resumed %t", names, resumed)
	}
}

// TestOnlyControllersExchange: a node must not see what others report.
func TestOnlyControllersExchange(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Config{})
	client, base, err := serve.Client(c.address, c.credentials(ctls.RoleNode, id("node", "n1")), true, ctls.RoleController)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	stream, err := controlv1connect.NewControlClient(client, base).Exchange(t.Context(), connect.NewRequest(&controlv1.ExchangeRequest{}))
	if err == nil {
		stream.Receive()
		err = stream.Err()
	}
	wantCode(t, err, connect.CodePermissionDenied, "only controllers")
	for _, wrong := range []string{"0.0.0.0:5269", ":5269", "[::]:5269", "nothing"} {
		if _, err := c.server.Exchange(wrong, nil); err == nil {
			t.Errorf("%s can be announced", wrong)
		}
	}
}

// TestControlNodesAgree: however an agent's words reach three control nodes,
// directly or from each other, sooner or later, they come to know the last.
func TestControlNodesAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		w.node("n1", "172.31.0.11", 1500)
		w.network("blue", 1, nil, nil)
		ifaces := []string{w.attach("a", "blue", "n1", "10.0.0.3", 16), w.attach("b", "blue", "n1", "10.0.0.4", 17)}
		var nodes [3]*bench
		var sessions [3]*session
		var readings [3][3]*sharedReading
		for i := range nodes {
			nodes[i] = &bench{world: w, tables: newTables(discard(), newMetrics()), subscription: w.graph.Subscribe()}
			defer nodes[i].subscription.Close()
			nodes[i].step()
		}
		for i := range nodes {
			for j := range nodes {
				readings[i][j] = nodes[i].tables.readShared(nil)
			}
		}
		pass := func(i, j int) {
			for more := i != j; more; {
				var messages [][]byte
				messages, more = readings[i][j].collect()
				for _, body := range messages {
					m := new(controlv1.ExchangeMessage)
					if err := proto.Unmarshal(body, m); err != nil {
						t.Fatal(err)
					}
					if m.GetReport() != nil {
						nodes[j].tables.hear(fmt.Sprint("c", i), m.GetReport())
					}
				}
			}
		}
		sequence := uint64(0)
		last := map[string]*controlv1.PortStatus{}
		var queues [3][]*controlv1.PortStatus
		index := rapid.IntRange(0, 2)
		connect := func(i int) {
			if sessions[i] == nil {
				sessions[i], _ = nodes[i].tables.open(id("node", "n1"), hello, func(error) {})
				for _, iface := range ifaces {
					if last[iface] != nil {
						queues[i] = append(queues[i], last[iface])
					}
				}
			}
		}
		deliver := func(i, count int) {
			for range min(count, len(queues[i])) {
				if err := sessions[i].report(queues[i][0]); err != nil {
					t.Fatal(err)
				}
				queues[i] = queues[i][1:]
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"connect": func(t *rapid.T) { connect(index.Draw(t, "node")) },
			"disconnect": func(t *rapid.T) {
				if i := index.Draw(t, "node"); sessions[i] != nil {
					sessions[i].close()
					sessions[i], queues[i] = nil, nil
				}
			},
			"say": func(t *rapid.T) {
				sequence++
				p := &controlv1.PortStatus{InterfaceId: rapid.SampledFrom(ifaces).Draw(t, "port"), State: controlv1.PortStatus_STATE_UP, Sequence: sequence}
				if rapid.Bool().Draw(t, "down") {
					p.State = controlv1.PortStatus_STATE_DOWN
				}
				last[p.InterfaceId] = p
				for i, s := range sessions {
					if s != nil {
						queues[i] = append(queues[i], p)
					}
				}
			},
			"deliver":  func(t *rapid.T) { deliver(index.Draw(t, "node"), rapid.IntRange(1, 3).Draw(t, "count")) },
			"exchange": func(t *rapid.T) { pass(index.Draw(t, "from"), index.Draw(t, "to")) },
		})
		connect(index.Draw(t, "last"))
		for i := range nodes {
			deliver(i, len(queues[i]))
		}
		for i := range nodes {
			for j := range nodes {
				pass(i, j)
			}
		}
		for i := range nodes {
			for _, iface := range ifaces {
				p := nodes[i].tables.ports[iface]
				if want := last[iface].GetState() == controlv1.PortStatus_STATE_DOWN; p.down != want || p.waiting || nodes[i].tables.nodes[p.Node].lost {
					t.Fatalf("control node %d: port down %t, waiting %t, node lost %t; the agent said %v last",
						i, p.down, p.waiting, nodes[i].tables.nodes[p.Node].lost, last[iface])
				}
			}
		}
	})
}

// TestHeldReportIsAlarmed: a node that claims a port which is not its own is
// named once, and has no route.
func TestHeldReportIsAlarmed(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.node("n1", "172.31.0.11", 1500)
	b.node("n2", "172.31.0.12", 1500)
	b.network("blue", 1, nil, nil)
	b.attach("c", "blue", "n2", "10.0.0.3", 16)
	b.step()
	b.connect("n1", batch)
	if err := b.agents["n1"].report(&controlv1.PortStatus{InterfaceId: id("vmi", "c"), State: controlv1.PortStatus_STATE_UP}); err != nil {
		t.Fatal(err)
	}
	n1 := b.tables.nodes[id("node", "n1")]
	b.tables.alarm(time.Now())
	if n1.early[id("vmi", "c")].IsZero() {
		t.Error("alarmed before it is overdue")
	}
	for range 2 {
		b.tables.alarm(time.Now().Add(overdue))
	}
	if at, held := n1.early[id("vmi", "c")]; !held || !at.IsZero() {
		t.Errorf("held %t, since %v; want it held and alarmed", held, at)
	}
	if p := b.tables.ports[id("vmi", "c")]; p.Node != id("node", "n2") || !p.usable() {
		t.Errorf("the port is on %s", p.Node)
	}
}

// An agent that is away for less than the grace is not stale, and what it had
// said of its ports stands.
func TestGrace(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.tables.grace = time.Hour
	b.node("n1", "172.31.0.11", 1500)
	b.network("blue", 1, nil, nil)
	b.step()
	b.connect("n1", batch)
	down, waits := b.attach("down", "blue", "n1", "10.0.0.3", 16), b.attach("waits", "blue", "n1", "10.0.0.4", 17)
	b.step()
	if err := b.agents["n1"].report(&controlv1.PortStatus{InterfaceId: down, State: controlv1.PortStatus_STATE_DOWN, Sequence: 1}); err != nil {
		t.Fatal(err)
	}
	b.disconnect("n1")
	n := b.tables.nodes[id("node", "n1")]
	if !b.tables.ports[down].down || !b.tables.ports[waits].waiting || n.lost {
		t.Errorf("while it is away: %+v %+v, lost %t", b.tables.ports[down], b.tables.ports[waits], n.lost)
	}
	b.connect("n1", batch)
	if !b.tables.ports[down].down || !b.tables.ports[waits].waiting || n.grace != nil {
		t.Errorf("after it came back: %+v %+v, grace %v", b.tables.ports[down], b.tables.ports[waits], n.grace)
	}
	b.disconnect("n1")
	b.tables.mu.Lock()
	b.tables.lose(n)
	b.tables.mu.Unlock()
	if !b.tables.ports[down].down || !b.tables.ports[waits].usable() || !n.lost {
		t.Errorf("when it has not come back: %+v %+v, lost %t", b.tables.ports[down], b.tables.ports[waits], n.lost)
	}
	n.grace.Stop()
}
