package simulate

import (
	"context"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/contrail/control/v1/controlv1connect"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

const (
	domain = "default-domain"
	bootID = "simulated"
	// subnet of each network: they may overlap.
	subnet = "10.0.0.0/8"
)

// agent plays one node.
type agent struct {
	fleet *fleet
	index int
	id    string // of the node
	// plan has the network of each port that is to be attached.
	plan   []*network
	joined bool
	// sessions of this agent, and the control nodes as it reaches them; set before
	// the sessions run.
	sessions []*session
	nodes    []controlv1connect.ControlClient
	close    []func()
	// mu keeps two sessions from going to the same control node.
	mu sync.Mutex
}

func newAgent(f *fleet, index int) *agent {
	return &agent{fleet: f, index: index, id: uuid.NewString()}
}

// join makes the agent a node. Addresses are of the shared space (RFC 6598),
// which no fabric has.
func (a *agent) join(ctx context.Context) error {
	address := netip.AddrFrom4([4]byte{100, 64 + byte(a.index>>16), byte(a.index >> 8), byte(a.index)})
	_, err := a.fleet.nodes.Join(ctx, connect.NewRequest(&configv1.JoinRequest{
		Node: a.id, Name: fmt.Sprintf("%s-%d", a.fleet.project, a.index), Address: address.String(), FabricMtu: 1500, BootId: bootID,
	}))
	if err != nil {
		return fmt.Errorf("join node %d: %w", a.index, err)
	}
	a.joined = true
	return nil
}

func (a *agent) remove(ctx context.Context) error {
	if !a.joined {
		return nil
	}
	if _, err := a.fleet.nodes.Remove(ctx, connect.NewRequest(&configv1.RemoveNodeRequest{Node: a.id})); err != nil {
		return fmt.Errorf("remove node %d: %w", a.index, err)
	}
	return nil
}

// key is the interface of the nth container of the node.
func (a *agent) key(n int) *configv1.AttachmentKey {
	id := uuid.NewSHA1(uuid.MustParse(a.id), strconv.AppendInt(nil, int64(n), 10))
	return &configv1.AttachmentKey{Node: a.id, ContainerId: id.String(), Interface: "eth0", BootId: bootID, Namespace: "4:1"}
}

// attach attaches the nth container to a network, and returns the hash of the
// route that leads to it.
func (a *agent) attach(ctx context.Context, to *network, n int) (uint64, error) {
	answer, err := a.fleet.attachments.Attach(ctx, connect.NewRequest(&configv1.AttachRequest{
		Key:     a.key(n),
		Network: &configv1.NetworkRequest{Domain: domain, Project: a.fleet.project, Network: to.name, Subnets: []string{subnet}, CreateMissing: true},
	}))
	if err != nil {
		return 0, fmt.Errorf("attach container %d of node %d to %s: %w", n, a.index, to.name, err)
	}
	attachment := answer.Msg.GetAttachment()
	if len(attachment.GetAddresses()) != 1 {
		return 0, fmt.Errorf("attach container %d of node %d to %s: it has %d addresses, want one", n, a.index, to.name, len(attachment.GetAddresses()))
	}
	to.mu.Lock()
	to.vrf = attachment.GetVrf()
	to.mu.Unlock()
	hash := maphash.String(a.fleet.seed, attachment.GetAddresses()[0].GetAddress()+"/32")
	to.changed(hash, 1)
	return hash, nil
}

// detach detaches the nth container, whose route has the hash.
func (a *agent) detach(ctx context.Context, from *network, n int, hash uint64) error {
	if _, err := a.fleet.attachments.Detach(ctx, connect.NewRequest(&configv1.DetachRequest{Key: a.key(n)})); err != nil {
		return fmt.Errorf("detach container %d of node %d: %w", n, a.index, err)
	}
	from.changed(hash, -1)
	return nil
}

// session is a stream to a control node, and what it has said. When the stream
// ends the session goes on with another one.
type session struct {
	agent *agent

	mu sync.Mutex
	// node is the control node, or the next one to be tried.
	node  int
	vrfs  map[uint32]*table
	ports map[string]uint32 // VRF of each
	// ended is why the last stream ended.
	ended error
}

// table is what a session was told of a VRF.
type table struct {
	routes map[uint64]struct{} // hashes of the prefixes
	sum    uint64
	done   bool
}

// connect prepares the agent's sessions.
func (a *agent) connect() error {
	credentials, err := a.fleet.certificates(a)
	if err != nil {
		return err
	}
	for _, address := range a.fleet.Control {
		client, base, err := serve.Client(address, credentials, true, ctls.RoleController)
		if err != nil {
			return err
		}
		a.nodes = append(a.nodes, controlv1connect.NewControlClient(client, base, connect.WithGRPC()))
		a.close = append(a.close, client.CloseIdleConnections)
	}
	for n := range a.fleet.Sessions {
		s := &session{agent: a, node: (a.index + n) % len(a.fleet.Control)}
		s.forget(nil)
		a.sessions = append(a.sessions, s)
	}
	return nil
}

func (a *agent) disconnect() {
	for _, closeIdle := range a.close {
		closeIdle()
	}
}

// spread is within which time an agent goes to another control node; it is
// doubled for each that does not take it, up to longest.
const spread, longest = time.Second, 8 * time.Second

// run keeps the session until ctx ends.
func (s *session) run(ctx context.Context) {
	within := spread
	for {
		err := s.once(ctx)
		if s.forget(err) {
			within = spread
		}
		s.agent.fleet.note(ctx, err)
		timer := time.NewTimer(rand.N(within))
		within = min(2*within, longest)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		s.agent.moveOn(s)
	}
}

// moveOn has a session try the next control node with which the agent has no
// other session.
func (a *agent) moveOn(s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := map[int]bool{}
	for _, other := range a.sessions {
		if other != s {
			taken[other.with()] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.node = (s.node + 1) % len(a.nodes); !taken[s.node] {
			return
		}
	}
}

// with is the control node that the session is with.
func (s *session) with() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node
}

func (s *session) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := s.agent.nodes[s.with()].Session(ctx)
	if err := stream.Send(&controlv1.AgentMessage{Body: &controlv1.AgentMessage_Hello{Hello: &controlv1.Hello{BootId: bootID}}}); err != nil {
		_, reason := stream.Receive()
		return fmt.Errorf("begin session: %w", reason)
	}
	for {
		m, err := stream.Receive()
		if err != nil {
			return err
		}
		if up := s.take(m); up != "" {
			status := &controlv1.PortStatus{InterfaceId: up, State: controlv1.PortStatus_STATE_UP}
			if err := stream.Send(&controlv1.AgentMessage{Body: &controlv1.AgentMessage_PortStatus{PortStatus: status}}); err != nil {
				return err
			}
		}
	}
}

// forget drops what a stream said that has ended, and tells whether that was
// anything.
func (s *session) forget(why error) (said bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.vrfs {
		s.agent.fleet.routes.Add(-int64(len(t.routes)))
	}
	said = len(s.vrfs)+len(s.ports) > 0
	s.vrfs, s.ports, s.ended = map[uint32]*table{}, map[string]uint32{}, why
	return said
}

// take takes a message in, and returns the port that is to be reported as up.
func (s *session) take(m *controlv1.ControlMessage) (up string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch body := m.GetBody().(type) {
	case *controlv1.ControlMessage_Port:
		s.ports[body.Port.GetInterfaceId()] = body.Port.GetVrf()
		return body.Port.GetInterfaceId()
	case *controlv1.ControlMessage_PortGone:
		delete(s.ports, body.PortGone.GetInterfaceId())
	case *controlv1.ControlMessage_Route:
		s.put(body.Route.GetVrf(), body.Route.GetPrefix())
	case *controlv1.ControlMessage_RouteGone:
		s.remove(body.RouteGone.GetVrf(), body.RouteGone.GetPrefix())
	case *controlv1.ControlMessage_VrfGone:
		if t := s.vrfs[body.VrfGone.GetVrf()]; t != nil {
			s.agent.fleet.routes.Add(-int64(len(t.routes)))
			delete(s.vrfs, body.VrfGone.GetVrf())
		}
	case *controlv1.ControlMessage_EndOfTable:
		if vrf := body.EndOfTable.GetVrf(); vrf != 0 {
			s.table(vrf).done = true
		}
	}
	return ""
}

func (s *session) table(vrf uint32) *table {
	t := s.vrfs[vrf]
	if t == nil {
		t = &table{routes: map[uint64]struct{}{}}
		s.vrfs[vrf] = t
	}
	return t
}

func (s *session) put(vrf uint32, prefix string) {
	f, t, hash := s.agent.fleet, s.table(vrf), maphash.String(s.agent.fleet.seed, prefix)
	f.deliveries.Add(1)
	if _, has := t.routes[hash]; !has {
		t.routes[hash] = struct{}{}
		t.sum += hash
		f.routes.Add(1)
	}
	if p := f.probe.Load(); p != nil && !p.gone {
		p.arrive(s.agent, vrf)
	}
}

func (s *session) remove(vrf uint32, prefix string) {
	f, t, hash := s.agent.fleet, s.table(vrf), maphash.String(s.agent.fleet.seed, prefix)
	f.deliveries.Add(1)
	f.withdrawals.Add(1)
	if _, has := t.routes[hash]; has {
		delete(t.routes, hash)
		t.sum -= hash
		f.routes.Add(-1)
	}
	if p := f.probe.Load(); p != nil && p.gone {
		p.arrive(s.agent, vrf)
	}
}

// right tells whether the session was told what a network has, to the end.
func (s *session) right(n *network) error {
	n.mu.Lock()
	vrf, routes, sum := n.vrf, n.routes, n.sum
	n.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	t, from := s.vrfs[vrf], s.agent.fleet.Control[s.node]
	switch {
	case t == nil && s.ended != nil:
		return fmt.Errorf("node %d has no session with %s; the last one: %w", s.agent.index, from, s.ended)
	case t == nil:
		return fmt.Errorf("node %d was told nothing of %s by %s", s.agent.index, n.name, from)
	case s.agent.fleet.isLost(from):
		return fmt.Errorf("node %d has not noticed that %s is lost", s.agent.index, from)
	case len(t.routes) != routes:
		return fmt.Errorf("node %d was told %d routes of %s by %s, want %d", s.agent.index, len(t.routes), n.name, from, routes)
	case t.sum != sum:
		return fmt.Errorf("node %d was told other routes of %s by %s than there are", s.agent.index, n.name, from)
	case !t.done:
		return fmt.Errorf("node %d was not told the end of %s by %s", s.agent.index, n.name, from)
	}
	return nil
}
