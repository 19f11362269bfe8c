package control

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/control/rib"
	"github.com/contrail-mesos/contrail/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is tables that follow a world step by step, and agents that take
// messages when the test says so.
type bench struct {
	*world
	tables       *tables
	subscription *model.Subscription
	agents       map[string]*agent
	left         map[string]*agentState
}

type agent struct {
	*session
	state *agentState
}

func newBench() *bench {
	w := newWorld()
	return &bench{world: w, tables: newTables(discard(), newMetrics()), subscription: w.graph.Subscribe(), agents: map[string]*agent{}, left: map[string]*agentState{}}
}

// step lets the tables see what the world did since the last step.
func (b *bench) step() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if changes, err := b.subscription.Next(ctx); err == nil {
		b.tables.apply(b.tables.facts.read(b.graph, changes))
	}
}

func (b *bench) connect(node string, limit int) {
	state, hello := b.left[node].again(true)
	s, _ := b.tables.open(id("node", node), hello, func(error) {})
	s.limit = limit
	b.agents[node] = &agent{s, state}
}

func (b *bench) disconnect(node string) {
	b.agents[node].close()
	b.left[node] = b.agents[node].state
	delete(b.agents, node)
}

// take delivers one batch to an agent.
func (a *agent) take() (more bool, err error) {
	position, bodies, more := a.collect(nil)
	var taken []*frame
	for f := range frames(position, bodies, !more) {
		taken = append(taken, &frame{f.position, f.body})
	}
	if !more {
		taken = slices.AppendSeq(taken, a.keepAlive())
	}
	for _, f := range taken {
		m, err := f.message()
		if err == nil {
			err = a.state.apply(m)
		}
		if err != nil {
			return false, err
		}
	}
	return more, nil
}

func (a *agent) drain() error {
	for {
		more, err := a.take()
		if err != nil || !more {
			return err
		}
	}
}

// hello is what agents of the tests say, which want all there is.
var hello = &controlv1.Hello{BootId: "boot-1", Layer2: true}

func (b *bench) state(iface string) portState {
	p, ok := b.tables.ports[iface]
	return portState{usable: ok && p.usable(), stale: ok && b.tables.nodes[p.Node].lost}
}

func (b *bench) check(t interface{ Fatalf(string, ...any) }) {
	b.step()
	for name, a := range b.agents {
		if err := a.drain(); err != nil {
			t.Fatalf("agent %s: %v", name, err)
		}
		if diff := a.state.difference(b.graph, id("node", name), b.state); diff != "" {
			t.Fatalf("agent %s: %s", name, diff)
		}
	}
}

// TestSnapshotAndChanges: after any sequence of events, however slowly the
// agents take their messages, each has exactly what a computation from scratch
// gives.
func TestSnapshotAndChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench()
		defer b.subscription.Close()
		nodes := []string{"n1", "n2", "n3"}
		networks := []string{"blue", "red", "green"}
		numbers := map[string]int64{}
		attached := map[string]string{} // container to network
		label := uint32(16)
		targets := rapid.SliceOfN(rapid.StringMatching(`target:1:[12]`), 0, 2)
		container := rapid.SampledFrom([]string{"c1", "c2", "c3", "c4", "c5", "c6"})
		nextNumber := int64(0)
		network := func(name string) {
			if numbers[name] == 0 {
				nextNumber++
				numbers[name] = nextNumber
			}
			b.network(name, numbers[name], targets.Draw(t, "import"), targets.Draw(t, "export"))
		}
		t.Repeat(map[string]func(*rapid.T){
			"network": func(t *rapid.T) { network(rapid.SampledFrom(networks).Draw(t, "network")) },
			"remove network": func(t *rapid.T) {
				name := rapid.SampledFrom(networks).Draw(t, "network")
				for _, n := range attached {
					if n == name {
						t.Skip()
					}
				}
				if numbers[name] != 0 {
					b.removeNetwork(name)
					numbers[name] = 0
				}
			},
			"node": func(t *rapid.T) {
				// No two nodes have the same address: which of them has a route is open then.
				n := rapid.IntRange(0, len(nodes)-1).Draw(t, "node")
				b.node(nodes[n], fmt.Sprintf("172.31.0.%d", 10*n+rapid.IntRange(11, 14).Draw(t, "address")), uint32(rapid.IntRange(1400, 1500).Draw(t, "mtu")))
			},
			"remove node": func(t *rapid.T) { b.removeNode(rapid.SampledFrom(nodes).Draw(t, "node")) },
			"attach": func(t *rapid.T) {
				c := container.Draw(t, "container")
				name := rapid.SampledFrom(networks).Draw(t, "network")
				if attached[c] != "" || numbers[name] == 0 {
					t.Skip()
				}
				label++
				attached[c] = name
				b.attach(c, name, rapid.SampledFrom(nodes).Draw(t, "node"), fmt.Sprintf("10.0.0.%d", rapid.IntRange(1, 4).Draw(t, "address")), label)
			},
			"move": func(t *rapid.T) {
				c := container.Draw(t, "container")
				if attached[c] == "" {
					t.Skip()
				}
				label++
				b.move(c, rapid.SampledFrom(nodes).Draw(t, "node"), label)
			},
			"detach": func(t *rapid.T) {
				c := container.Draw(t, "container")
				if attached[c] == "" {
					t.Skip()
				}
				b.detach(c, attached[c])
				delete(attached, c)
			},
			"floating": func(t *rapid.T) {
				c := container.Draw(t, "container")
				name := rapid.SampledFrom(networks).Draw(t, "network")
				if attached[c] == "" || numbers[name] == 0 {
					t.Skip()
				}
				b.foreign(rapid.SampledFrom([]string{"f1", "f2", "a1"}).Draw(t, "address"), name, c)
			},
			"remove floating": func(t *rapid.T) {
				b.removeForeign(rapid.SampledFrom([]string{"f1", "f2", "a1"}).Draw(t, "address"))
			},
			"behind": func(t *rapid.T) {
				if c := container.Draw(t, "container"); attached[c] != "" {
					table := rapid.SampledFrom([]string{"r1", "r2"}).Draw(t, "table")
					b.behind(table, map[string]string{"r1": "192.0.2.0/24", "r2": "0.0.0.0/0"}[table], c)
				}
			},
			"not behind": func(t *rapid.T) {
				b.notBehind(rapid.SampledFrom([]string{"r1", "r2"}).Draw(t, "table"), container.Draw(t, "container"))
			},
			"route": func(t *rapid.T) {
				b.route(rapid.SampledFrom(networks).Draw(t, "network"), rapid.SampledFrom([]string{"", "10.0.0.1", "10.0.0.2"}).Draw(t, "hop"))
			},
			"share": func(t *rapid.T) {
				c, other := container.Draw(t, "container"), container.Draw(t, "other")
				if attached[c] == "" || attached[other] == "" || c == other {
					t.Skip()
				}
				b.share(c, other)
			},
			"encapsulations": func(t *rapid.T) {
				b.encapsulations(rapid.SampledFrom([][]string{{"MPLSoUDP"}, {"VXLAN", "MPLSoGRE"}, {"MPLSoUDP", "MPLSoGRE", "VXLAN"}}).Draw(t, "list")...)
			},
			"group": func(t *rapid.T) {
				b.group(rapid.SampledFrom([]string{"g1", "g2"}).Draw(t, "group"), rapid.Int64Range(80, 82).Draw(t, "port"))
			},
			"join": func(t *rapid.T) {
				if c := container.Draw(t, "container"); attached[c] != "" {
					b.join(c, rapid.SampledFrom([]string{"g1", "g2"}).Draw(t, "group"), rapid.Bool().Draw(t, "in"))
				}
			},
			"checked": func(t *rapid.T) {
				if c := container.Draw(t, "container"); attached[c] != "" {
					b.checkedBy(rapid.SampledFrom([]string{"h1", "h2"}).Draw(t, "check"), vmiEntity(c))
				}
			},
			"unchecked": func(t *rapid.T) {
				b.unchecked(rapid.SampledFrom([]string{"h1", "h2"}).Draw(t, "check"), container.Draw(t, "container"))
			},
			"check enabled": func(t *rapid.T) {
				b.healthCheck(rapid.SampledFrom([]string{"h1", "h2"}).Draw(t, "check"), rapid.Bool().Draw(t, "enabled"))
			},
			"forwarding": func(t *rapid.T) { b.forwarding(rapid.SampledFrom([]string{"", "l3", "l2_l3", "l2"}).Draw(t, "mode")) },
			"instance": func(t *rapid.T) {
				b.clientInstance(rapid.SampledFrom(networks).Draw(t, "network"), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "instance"), targets.Draw(t, "import"), targets.Draw(t, "export"))
			},
			"remove instance": func(t *rapid.T) {
				b.removeInstance(rapid.SampledFrom(networks).Draw(t, "network"), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "instance"))
			},
			"place": func(t *rapid.T) {
				c := container.Draw(t, "container")
				name := rapid.SampledFrom(networks).Draw(t, "network")
				if attached[c] == "" {
					t.Skip()
				}
				b.place(c, name, rapid.SampledFrom([]string{"x", "y"}).Draw(t, "instance"), rapid.IntRange(0, 2).Draw(t, "in") > 0)
			},
			"connect": func(t *rapid.T) {
				b.connectTo(rapid.SampledFrom(networks).Draw(t, "network"), "x", rapid.SampledFrom(networks).Draw(t, "other"), rapid.IntRange(0, 2).Draw(t, "connected") > 0)
			},
			"session": func(t *rapid.T) {
				name := rapid.SampledFrom(nodes).Draw(t, "node")
				if b.agents[name] == nil {
					b.connect(name, rapid.IntRange(1, 4).Draw(t, "limit"))
				} else {
					b.disconnect(name)
				}
			},
			"report": func(t *rapid.T) {
				name := rapid.SampledFrom(nodes).Draw(t, "node")
				if b.agents[name] == nil {
					t.Skip()
				}
				state := controlv1.PortStatus_State(rapid.IntRange(1, 2).Draw(t, "state"))
				said := failing(container.Draw(t, "container"), 0, rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"h1", "h2"}), 0, 2, rapid.ID).Draw(t, "failing")...)
				said.State = state
				if err := b.agents[name].report(said); err != nil {
					t.Fatal(err)
				}
			},
			"reload": func(t *rapid.T) { b.reload() },
			"step":   func(*rapid.T) { b.step() },
			"take": func(t *rapid.T) {
				if a := b.agents[rapid.SampledFrom(nodes).Draw(t, "node")]; a != nil {
					if _, err := a.take(); err != nil {
						t.Fatal(err)
					}
				}
			},
			"check": func(t *rapid.T) { b.check(t) },
		})
		b.check(t)
	})
}

// reload makes the graph anew from what it holds, as after a lost watch.
func (b *bench) reload() {
	batch := model.Batch{Position: b.next()}
	b.graph.View(func(v *model.View) {
		for _, kind := range []model.Kind{model.KindVirtualNetwork, model.KindVirtualMachine, model.KindVirtualMachineInterface, model.KindInstanceIP, model.KindRouteTable, model.KindInterfaceRouteTable, model.KindSecurityGroup, model.KindServiceHealthCheck} {
			for o := range v.All(kind) {
				batch.Objects = append(batch.Objects, o)
				batch.References = append(batch.References, v.References(o.GetMeta().UUID, "")...)
			}
		}
		batch.Nodes = v.Nodes()
		for bound := range v.Bindings() {
			batch.Bindings = append(batch.Bindings, bound)
		}
	})
	b.graph.Reset(batch)
}

func TestNetworksAreIsolated(t *testing.T) {
	b := newBench()
	b.node("n1", "172.31.0.11", 1500)
	b.node("n2", "172.31.0.12", 1500)
	b.network("blue", 1, nil, nil)
	b.network("red", 2, nil, nil)
	b.attach("b1", "blue", "n1", "10.0.0.3", 16)
	b.attach("b2", "blue", "n2", "10.0.0.4", 16)
	b.attach("r2", "red", "n2", "10.0.0.3", 17) // the same address as in blue
	b.step()
	b.connect("n1", batch)
	b.connect("n2", batch)
	b.check(t)
	if got := b.agents["n1"].state.routes; len(got) != 1 || len(got[1]) != 2 {
		t.Errorf("n1 has %v, want the two routes of blue", got)
	}
	if got := b.agents["n2"].state.routes; len(got[2]) != 1 || got[2]["10.0.0.3/32"].Paths[0].NextHop != "172.31.0.12" {
		t.Errorf("n2 has %v for red", got[2])
	}
	// Red comes to n1 with its first port there, and goes with its last.
	b.attach("r1", "red", "n1", "10.0.0.9", 17)
	b.check(t)
	if len(b.agents["n1"].state.routes) != 2 {
		t.Error("n1 did not get red")
	}
	b.detach("r1", "red")
	b.check(t)
	if len(b.agents["n1"].state.routes) != 1 || slices.ContainsFunc(b.agents["n1"].vrfs, func(r *reading) bool { return r.number == 2 }) {
		t.Error("n1 still has red")
	}
}

// TestEncodedOnce: two agents get the same bytes, not equal ones.
func TestEncodedOnce(t *testing.T) {
	b := newBench()
	b.node("n1", "172.31.0.11", 1500)
	b.node("n2", "172.31.0.12", 1500)
	b.network("blue", 1, nil, nil)
	b.attach("b1", "blue", "n1", "10.0.0.3", 16)
	b.attach("b2", "blue", "n2", "10.0.0.4", 16)
	b.step()
	seen := map[*byte]int{}
	for _, name := range []string{"n1", "n2"} {
		b.connect(name, batch)
		a := b.agents[name]
		_, bodies, _ := a.collect(nil)
		for _, body := range bodies {
			if m, err := (&frame{nil, body}).message(); err == nil && m.GetRoute() != nil {
				seen[&body[0]]++
			}
		}
	}
	if len(seen) != 2 {
		t.Errorf("two routes went to two agents in %d encodings", len(seen))
	}
	for _, times := range seen {
		if times != 2 {
			t.Errorf("an encoding was sent %d times", times)
		}
	}
}

func TestPortStates(t *testing.T) {
	up, down := controlv1.PortStatus_STATE_UP, controlv1.PortStatus_STATE_DOWN
	b := newBench()
	b.node("n1", "172.31.0.11", 1500)
	b.node("n2", "172.31.0.12", 1500)
	b.network("blue", 1, nil, nil)
	b.attach("watcher", "blue", "n2", "10.0.0.2", 16)
	before := b.attach("before", "blue", "n1", "10.0.0.3", 16)
	b.step()
	b.connect("n2", batch)
	wantRoute := func(address string, want bool) {
		t.Helper()
		b.check(t)
		if _, got := b.agents["n2"].state.routes[1][address+"/32"]; got != want {
			t.Errorf("route to %s: %t, want %t", address, got, want)
		}
	}
	report := func(node, iface string, state controlv1.PortStatus_State) {
		t.Helper()
		if err := b.agents[node].report(&controlv1.PortStatus{InterfaceId: iface, State: state}); err != nil {
			t.Fatal(err)
		}
	}
	wantRoute("10.0.0.3", true) // no session: stale counts as up
	b.connect("n1", batch)
	wantRoute("10.0.0.3", true) // a session that says nothing withdraws nothing
	report("n1", before, down)
	wantRoute("10.0.0.3", false)
	report("n1", before, up)
	wantRoute("10.0.0.3", true)

	during := b.attach("during", "blue", "n1", "10.0.0.4", 17)
	wantRoute("10.0.0.4", false) // waits for the agent's word
	report("n2", during, up)     // which is not this agent's
	wantRoute("10.0.0.4", false)
	report("n1", during, up)
	wantRoute("10.0.0.4", true)

	early := id("vmi", "early")
	report("n1", early, up)
	b.attach("early", "blue", "n1", "10.0.0.5", 18)
	wantRoute("10.0.0.5", true) // the agent was faster than the store's watch

	b.attach("silent", "blue", "n1", "10.0.0.6", 19)
	wantRoute("10.0.0.6", false)
	b.disconnect("n1")
	wantRoute("10.0.0.6", true) // stale

	b.connect("n1", batch)
	for i := range maxEarly + 10 {
		report("n1", fmt.Sprintf("nobody-%d", i), up)
	}
	if got := len(b.tables.nodes[id("node", "n1")].early); got != maxEarly {
		t.Errorf("%d reports are held, want %d", got, maxEarly)
	}
	if err := b.agents["n1"].report(&controlv1.PortStatus{InterfaceId: before}); err == nil {
		t.Error("a status without state was accepted")
	}
	if err := b.agents["n1"].report(&controlv1.PortStatus{State: up}); err == nil {
		t.Error("a status without interface was accepted")
	}
}

// TestMove: an address that is bound again elsewhere goes there at once.
func TestMove(t *testing.T) {
	b := newBench()
	b.node("n1", "172.31.0.11", 1500)
	b.node("n2", "172.31.0.12", 1500)
	b.network("blue", 1, nil, nil)
	b.attach("watcher", "blue", "n2", "10.0.0.2", 16)
	b.attach("old", "blue", "n1", "10.0.0.3", 16)
	b.connect("n2", batch)
	b.check(t)
	next := func() string { return b.agents["n2"].state.routes[1]["10.0.0.3/32"].GetPaths()[0].NextHop }
	if next() != "172.31.0.11" {
		t.Fatalf("leads to %s", next())
	}
	iface := b.attach("new", "blue", "n2", "10.0.0.3", 17) // another interface, the old one not yet released
	b.step()
	if err := b.agents["n2"].report(&controlv1.PortStatus{InterfaceId: iface, State: controlv1.PortStatus_STATE_UP}); err != nil {
		t.Fatal(err)
	}
	b.check(t)
	if next() != "172.31.0.12" {
		t.Errorf("leads to %s, want the later binding", next())
	}
	b.detach("old", "blue")
	b.check(t)
	if next() != "172.31.0.12" {
		t.Errorf("leads to %s after the old one went", next())
	}
}

// TestPortsHaveTheirNetworksVNI: agents are told by which identifier others
// send to a port's network, and when that becomes another.
func TestPortsHaveTheirNetworksVNI(t *testing.T) {
	b := newBench()
	b.vrouters.VXLANNetworkIdentifierMode = "configured"
	b.configure()
	b.node("n1", "172.31.0.11", 1500)
	b.connect("n1", batch)
	blue := func(vni int64) {
		number := int64(1)
		b.apply(model.Batch{Objects: []model.Object{&model.VirtualNetwork{
			Meta:                     model.Meta{UUID: id("net", "blue"), FQName: []string{"default-domain", "p", "blue"}},
			VirtualNetworkNetworkID:  &number,
			VirtualNetworkProperties: &model.VirtualNetworkType{VXLANNetworkIdentifier: &vni},
		}}})
	}
	blue(77)
	iface := b.attach("c", "blue", "n1", "10.0.0.3", 16)
	for _, vni := range []int64{77, 78} {
		blue(vni)
		b.step()
		if err := b.agents["n1"].drain(); err != nil {
			t.Fatal(err)
		}
		if got := b.agents["n1"].state.ports[iface].GetVni(); got != uint32(vni) {
			t.Errorf("port has VNI %d, want %d", got, vni)
		}
	}
}

func TestClusterMTU(t *testing.T) {
	b := newBench()
	b.connect("n1", batch)
	b.check(t)
	if got := b.agents["n1"].state.mtu; got != 1450 {
		t.Errorf("mtu %d without nodes, want 1450", got)
	}
	b.node("n1", "172.31.0.11", 9000)
	b.check(t)
	b.node("n2", "172.31.0.12", 1450)
	b.check(t)
	if got := b.agents["n1"].state.mtu; got != 1400 {
		t.Errorf("mtu %d, want the smallest less 50", got)
	}
	b.removeNode("n2")
	b.check(t)
	if got := b.agents["n1"].state.mtu; got != 8950 {
		t.Errorf("mtu %d after the smallest left, want 8950", got)
	}
	b.encapsulations("MPLSoGRE", "MPLSoUDP")
	b.check(t)
	if got := b.agents["n1"].state.mtu; got != 8968 {
		t.Errorf("mtu %d without VXLAN, want 8968", got)
	}
}

// TestNewEpochEndsSessions: what was sent before a restore is void.
func TestNewEpochEndsSessions(t *testing.T) {
	b := newBench()
	b.step()
	var cause error
	b.tables.open(id("node", "n1"), hello, func(err error) { cause = err })
	b.graph.Reset(model.Batch{Position: model.Position{Epoch: 2, Revision: 1}})
	b.step()
	if cause == nil {
		t.Error("the session goes on in the new epoch")
	}
}

func TestTableForgets(t *testing.T) {
	b := newBench()
	b.node("n1", "172.31.0.11", 1500)
	b.network("blue", 1, nil, nil)
	b.attach("stays", "blue", "n1", "10.0.0.2", 16)
	b.step()
	b.connect("n1", batch)
	for i := range 1000 {
		c := fmt.Sprintf("c%d", i)
		iface := b.attach(c, "blue", "n1", fmt.Sprintf("10.0.%d.%d", i/250, i%250+3), 17)
		b.step()
		if err := b.agents["n1"].report(&controlv1.PortStatus{InterfaceId: iface, State: controlv1.PortStatus_STATE_UP}); err != nil {
			t.Fatal(err)
		}
		b.check(t)
		b.detach(c, "blue")
		b.check(t)
	}
	if ports := b.tables.nodes[id("node", "n1")]; ports.feed.Len() != 1 || len(ports.rows) > 128 {
		t.Errorf("%d ports are told, %d kept", ports.feed.Len(), len(ports.rows))
	}
	// An address, a MAC, and both; the node's wish for broadcasts.
	if stats := b.tables.rib.Stats(); stats.Paths != 4 || stats.Routes > 512 {
		t.Errorf("sizes are %+v", stats)
	}
	b.detach("stays", "blue")
	b.removeNetwork("blue")
	b.removeNode("n1")
	b.disconnect("n1")
	b.step()
	x := b.tables
	stats := x.rib.Stats()
	if n := len(x.nodes) + len(x.ports) + len(x.networks) + len(x.numbers) + len(x.sessions) + len(x.touched); n != 0 || stats != (rib.Stats{}) {
		t.Errorf("%d things are left: %v %v %v %+v", n, x.nodes, x.ports, x.networks, stats)
	}
}

// TestPoliciesConnectNetworks: two networks whose policies ask for each other
// have each other's routes, which say where they come from; others have not, and
// no router may bring routes in by it.
func TestPoliciesConnectNetworks(t *testing.T) {
	b := newBench()
	b.tables.facts.policies = true
	b.node("n1", "172.31.0.11", 1500)
	b.node("n2", "172.31.0.12", 1500)
	for number, name := range []string{"blue", "red", "green"} {
		b.network(name, int64(number)+1, nil, nil)
	}
	b.attach("b1", "blue", "n1", "10.0.0.3", 16)
	b.attach("r2", "red", "n2", "10.0.1.3", 16)
	b.attach("g2", "green", "n2", "10.0.2.3", 17)
	any := []model.PortType{{StartPort: new(int64(-1)), EndPort: new(int64(-1))}}
	policy := &model.NetworkPolicy{
		Meta: model.Meta{UUID: id("policy"), FQName: []string{"default-domain", "p", "policy"}},
		NetworkPolicyEntries: &model.PolicyEntriesType{PolicyRule: []model.PolicyRuleType{{
			RuleUUID: id("rule"), Direction: "<>", Protocol: "any", SrcPorts: any, DstPorts: any,
			SrcAddresses: []model.AddressType{{VirtualNetwork: "default-domain:p:blue"}}, DstAddresses: []model.AddressType{{VirtualNetwork: "default-domain:p:red"}},
		}}},
	}
	attach := func(network string) model.Reference {
		return model.Reference{
			From: model.Entity{Kind: model.KindVirtualNetwork, UUID: id("net", network)}, To: model.EntityOf(policy),
			Attr: []byte(`{"sequence": {"major": 0, "minor": 0}}`),
		}
	}
	b.apply(model.Batch{Objects: []model.Object{policy}, References: []model.Reference{attach("blue")}})
	b.step()
	b.connect("n1", batch)
	b.connect("n2", batch)
	want := func(red ...string) {
		t.Helper()
		b.step()
		for name, a := range b.agents {
			if err := a.drain(); err != nil {
				t.Fatalf("agent %s: %v", name, err)
			}
		}
		if got := slices.Sorted(maps.Keys(b.agents["n2"].state.routes[2])); !slices.Equal(got, red) {
			t.Errorf("red has %v, want %v", got, red)
		}
		if got := len(b.agents["n2"].state.routes[3]); got != 1 {
			t.Errorf("green has %d routes, want its own", got)
		}
	}
	want("10.0.1.3/32") // one side alone connects nothing
	b.apply(model.Batch{References: []model.Reference{attach("red")}})
	want("10.0.0.3/32", "10.0.1.3/32")
	if p := b.agents["n2"].state.routes[2]["10.0.0.3/32"].Paths[0]; p.OriginNetwork != 1 || p.NextHop != "172.31.0.11" {
		t.Errorf("the path is %v, want one of blue", p)
	}
	imports, err := b.tables.showImports("red")
	if err != nil || !slices.ContainsFunc(imports, func(i ShownImport) bool {
		return slices.ContainsFunc(i.From, func(n ShownName) bool { return n.VRF == 1 })
	}) {
		t.Errorf("red is shown to import %v (%v), want blue among them", imports, err)
	}
	if external := b.tables.networks[2].instance.external; len(external) != 0 {
		t.Errorf("routers may bring routes in under %v", external)
	}
	b.apply(model.Batch{DeleteReferences: []model.Edge{attach("red").Edge()}})
	want("10.0.1.3/32")
}
