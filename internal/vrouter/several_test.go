package vrouter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/control"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// several are control nodes, each with a graph of its own, on one store that the
// test stands for.
type several struct {
	*controlNode // for its credentials, and the batches
	members      map[string]*member
	batches      []model.Batch
}

type member struct {
	set     *several
	address string
	socket  string
	graph   *model.Graph
	away    atomic.Bool // the store, for this one
	stop    func()
	// tell says which control nodes the store knows.
	tell func(addresses ...string)
}

// Head and Sync implement control.Source.
func (m *member) Head(context.Context) (int64, error) {
	if m.away.Load() {
		return 0, errors.New("no quorum")
	}
	return int64(m.graph.Position().Revision), nil
}

func (m *member) Sync(context.Context) error { return nil }

func newSeveral(t *testing.T, count int) *several {
	authority, err := ctls.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := &several{controlNode: &controlNode{T: t, graph: model.NewGraph(), authority: authority}, members: map[string]*member{}}
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		m := &member{set: s, address: l.Addr().String(), socket: filepath.Join(t.TempDir(), "control.sock")}
		l.Close()
		s.members[m.address] = m
	}
	return s
}

// commit brings a batch to all control nodes that hear from the store.
func (s *several) commit(b model.Batch) {
	s.revision++
	b.Position = model.Position{Epoch: 1, Revision: s.revision}
	s.batches = append(s.batches, b)
	for _, m := range s.members {
		if m.graph != nil && !m.away.Load() {
			m.graph.Apply(b)
		}
	}
}

// start starts a control node, which reads the store from the beginning.
func (m *member) start() {
	s := m.set
	m.graph = model.NewGraph()
	for i, b := range s.batches {
		if i == 0 {
			m.graph.Reset(b)
		} else {
			m.graph.Apply(b)
		}
	}
	node := control.New(quiet(), control.Config{KeepAlive: 10 * time.Millisecond, CutOff: 150 * time.Millisecond}, m.graph)
	server, err := serve.Listen(quiet(), serve.Config{TLS: m.address, Unix: m.socket, Credentials: s.credentials(ctls.RoleController, "")}, node.Handler())
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	prove := func(ctx context.Context) error { return node.Prove(ctx, m) }
	for _, part := range []func(context.Context) error{node.Run, server.Run, prove} {
		parts.Go(func() {
			if err := part(ctx); err != nil && !errors.Is(err, context.Canceled) {
				s.Error(err)
			}
		})
	}
	m.stop = sync.OnceFunc(func() { cancel(); parts.Wait() })
	exchange, err := node.Exchange(m.address, s.credentials(ctls.RoleController, ""))
	if err != nil {
		s.Fatal(err)
	}
	m.tell = func(addresses ...string) {
		<-node.Ready()
		entries := make([]store.Entry, len(addresses))
		for i, a := range addresses {
			entries[i].Key = store.ControlKey(a)
		}
		for _, err := range []error{exchange.Reset(1, 1), exchange.Load(entries), exchange.Loaded()} {
			if err != nil {
				s.Fatal(err)
			}
		}
	}
	s.Cleanup(m.stop)
}

// metric reads one of the control node's metrics.
func (m *member) metric(name string) (value int) {
	client, base, err := serve.Client("unix:"+m.socket, nil, false)
	if err != nil {
		m.set.Fatal(err)
	}
	defer client.CloseIdleConnections()
	response, err := client.Get(base + "/metrics")
	if err != nil {
		m.set.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		m.set.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "\n"+name+" ")
	if _, err := fmt.Sscan(after, &value); err != nil {
		m.set.Fatalf("metric %s: %v", name, err)
	}
	return value
}

// watchedPlane notes when a route is taken away.
type watchedPlane struct {
	*fakePlane
	gone sync.Map
}

func (p *watchedPlane) DeleteRoute(k dataplane.RouteKey) error {
	p.gone.Store(k.Prefix.String(), true)
	return p.fakePlane.DeleteRoute(k)
}

func (p *watchedPlane) label(prefix string) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.routes[dataplane.RouteKey{VRF: 1, Prefix: netip.MustParsePrefix(prefix)}].Label
}

// TestThreeControlNodes: a node has sessions with two of three. Neither the loss
// of one, nor that of its link to the store, nor that of all takes a route away
// or keeps a new one from coming where there is somebody to tell it.
func TestThreeControlNodes(t *testing.T) {
	s := newSeveral(t, 3)
	number := int64(1)
	own, other := model.DerivedUUID("own"), model.DerivedUUID("other")
	s.commit(model.Batch{
		Objects: []model.Object{&model.VirtualNetwork{
			Meta: model.Meta{UUID: model.DerivedUUID("blue"), FQName: []string{"d", "p", "blue"}}, VirtualNetworkNetworkID: &number,
		}},
		Nodes: []model.Node{
			{UUID: own, Name: "own", Address: ownAddress, FabricMTU: 1500, BootID: "b"},
			{UUID: other, Name: "other", Address: "172.31.0.12", FabricMTU: 1500, BootID: "b"},
		},
	})
	s.commit(attachmentBatch(own, "mine", "10.0.0.3", 23))
	s.commit(attachmentBatch(other, "stays", "10.0.0.4", 24))
	var addresses []string
	for address, m := range s.members {
		m.start()
		addresses = append(addresses, address)
	}
	dir := t.TempDir()
	plane := &watchedPlane{fakePlane: newFakePlane()}
	a, err := newAgent(quiet(), Config{
		Name: "own", RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Underlay: "eth0",
		Address: netip.MustParseAddr(ownAddress), Manager: "127.0.0.1:1", Control: addresses, Credentials: s.credentials(ctls.RoleNode, own),
	}, plane, &fakeLinks{links: map[int]string{2: "eth0"}})
	if err != nil {
		t.Fatal(err)
	}
	runAgent(t, a)
	// settled waits for two sessions that are good, none of them with the given
	// ones, and returns who leads.
	settled := func(without ...*member) (leader *member) {
		t.Helper()
		eventually(t, "two good sessions", func() error {
			good, connected := 0, 0
			leader = nil
			for _, p := range a.sessions.all() {
				if p.Connected {
					connected++
				}
				if p.CaughtUp && p.Bad == "" {
					good++
				}
				if p.Leads {
					leader = s.members[p.Peer]
				}
				for _, m := range without {
					if m.address == p.Peer && p.Connected {
						return fmt.Errorf("there is one with %s, which must not be: %+v", p.Peer, p)
					}
				}
			}
			if good != min(2, 3-len(without)) || connected != good || leader == nil {
				return fmt.Errorf("sessions %+v", a.sessions.all())
			}
			return nil
		})
		return leader
	}
	label := uint32(100)
	arrives := func(what string) {
		t.Helper()
		label++
		address := fmt.Sprintf("10.0.1.%d", label)
		s.commit(attachmentBatch(other, what, address, label))
		eventually(t, what, func() error {
			if got := plane.label(address + "/32"); got != label {
				return fmt.Errorf("label %d, sessions %+v", got, a.sessions.all())
			}
			return nil
		})
		if got := plane.label("10.0.0.4/32"); got != 24 {
			t.Fatalf("%s: the other route has label %d", what, got)
		}
	}
	first := settled()
	arrives("a route with three control nodes")

	// A session that breaks goes on where it was: the ports, and one VRF.
	sent := first.metric("contrail_control_tables_sent_total")
	a.sessions.mu.Lock()
	for _, p := range a.sessions.peers {
		if p.address == first.address {
			p.end(errors.New("broken by the test"))
		}
	}
	a.sessions.mu.Unlock()
	arrives("a route while a session is broken")
	eventually(t, "the session goes on", func() error {
		if n := first.metric("contrail_control_tables_resumed_total"); n != 2 {
			return fmt.Errorf("%d tables were resumed", n)
		}
		return nil
	})
	if now := first.metric("contrail_control_tables_sent_total"); now != sent {
		t.Errorf("%d tables were sent anew", now-sent)
	}
	first = settled()
	first.stop()
	arrives("a route just after the loss of one")
	second := settled(first)

	first.start()
	second.away.Store(true)
	arrives("a route while one is cut off and one comes back")
	settled(second)

	for _, m := range s.members {
		m.stop()
	}
	eventually(t, "no session", func() error {
		for _, p := range a.sessions.all() {
			if p.Connected {
				return fmt.Errorf("%+v", p)
			}
		}
		return nil
	})
	if plane.label("10.0.0.4/32") != 24 || plane.label(fmt.Sprintf("10.0.1.%d/32", label)) != label {
		t.Error("a route is gone with the last session")
	}
	second.away.Store(false)
	for _, m := range s.members {
		m.start()
	}
	arrives("a route after all were away")
	plane.gone.Range(func(prefix, _ any) bool {
		t.Errorf("the route to %s was taken away", prefix)
		return true
	})
	for what, m := range s.members {
		if m.graph.Position().Revision != s.revision {
			t.Errorf("%s is at %d of %d", what, m.graph.Position().Revision, s.revision)
		}
	}
}
