package control

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/feed"
	"github.com/contrail-mesos/contrail/internal/control/rib"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// defaultFabricMTU is assumed until a node has joined.
const defaultFabricMTU = 1500

// tables is the whole state of a control node. Its lock is held for short
// computations only, never while something is sent.
type tables struct {
	log     *slog.Logger
	metrics *metrics
	facts   *facts // of what was applied
	// warnings bounds the lines of the log that nodes can cause.
	warnings serve.Limiter

	mu       sync.Mutex
	ready    chan struct{} // closed when the graph was read for the first time
	position model.Position
	stamped  *stamp // the position, encoded
	epoch    uint64 // of the position, or of the one that is being applied
	// encapsulations are those of the cluster, the preferred one first, and mtu
	// is what they leave for containers.
	encapsulations []compile.Encapsulation
	mtu            uint32
	// fabric is what leaves nodes without a tunnel.
	fabric    fabric
	fabricMTU uint32 // the smallest of all nodes, 0 when there are none
	// settling: the store was restored and lacks what nodes have not reported.
	settling bool
	recovery *settling
	// cutOff: the store does not answer, see Prove.
	cutOff   bool
	nodes    map[string]*node
	ports    map[string]*port
	networks map[uint32]*network
	numbers  map[string]uint32            // UUID of network, or of a client's instance, to VRF
	passages map[string]*compile.Passages // by service-instance
	// routers are the forwarding tables of logical routers.
	routers  map[string]*compile.RouterTable
	rib      *rib.RIB
	border   *border
	sessions map[*session]struct{}
	// messages are those on policy, which all nodes share.
	messages map[policyKey]*sharedMessage
	// shared are the nodes' reports, for the other control nodes; sharing is set
	// when these have to be woken.
	shared  *feed.Feed
	sharing bool
	// learned is what routers told this control node, and learnedFeed has it for
	// the others.
	learned     map[outside]*learned
	learnedFeed *feed.Feed
	// spoken is what tasks told any control node, by interface; learnedFeed has
	// what they told this one, too.
	spoken map[string]words
	// expected are control nodes that have not told yet what routers told them,
	// since this process began.
	expected map[string]struct{}
	// grace is how long an agent may be away before it is lost.
	grace time.Duration
	// colleagues are all control nodes, for the agents.
	colleagues colleagues
	// touched are the sessions to wake when the present change is complete.
	touched map[*session]struct{}
}

// node is a machine: as the graph has it, its ports, and its agent's session.
type node struct {
	id     string
	record *model.Node
	feed   *feed.Feed // its ports
	rows   map[string]*portRow
	// policies are the sets and blocks that its ports have, messages those of
	// all nodes.
	policies map[policyKey]*policyRow
	messages map[policyKey]*sharedMessage
	ports    map[string]*port
	vrfs     map[uint32]int // ports that need each VRF
	session  *session
	// lost: there was a session, and it has ended. Paths to its ports are stale.
	lost bool
	// early are ports that the agent said are up and that the graph does not
	// bind to this node, with the time since when. They are used when, and only
	// when, it does.
	early map[string]time.Time
	// reports are what is heard of the agent, by control node.
	reports map[string]*report
	shared  shared
	// grace runs from the end of a session.
	grace *time.Timer
}

func newTables(log *slog.Logger, metrics *metrics) *tables {
	t := &tables{
		log: log, metrics: metrics, facts: newFacts(), recovery: &settling{}, ready: make(chan struct{}),
		nodes: map[string]*node{}, ports: map[string]*port{}, networks: map[uint32]*network{}, numbers: map[string]uint32{},
		passages: map[string]*compile.Passages{}, routers: map[string]*compile.RouterTable{}, rib: rib.New(encodeRoute), shared: feed.New(), learned: map[outside]*learned{},
		fabric: noFabric(), learnedFeed: feed.New(), spoken: map[string]words{}, expected: map[string]struct{}{}, sessions: map[*session]struct{}{}, messages: map[policyKey]*sharedMessage{}, touched: map[*session]struct{}{},
	}
	t.border = newBorder(t)
	return t
}

// follow keeps the tables as the graph is, until ctx ends.
func (t *tables) follow(ctx context.Context, g *model.Graph) error {
	subscription := g.Subscribe()
	defer subscription.Close()
	for {
		changes, err := subscription.Next(ctx)
		if err != nil {
			return err
		}
		t.apply(t.facts.read(g, changes))
	}
}

var errRestored = errors.New("the store was restored; connect again for a new snapshot")

// apply brings the tables to the update's position.
func (t *tables) apply(u *update) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u.position.Epoch == 0 {
		return // nothing has been read from the store yet
	}
	if t.position.Epoch != 0 && t.position.Epoch != u.position.Epoch {
		for s := range t.sessions {
			s.end(errRestored)
		}
	}
	t.epoch = u.position.Epoch
	if u.everything {
		t.addMissing(u)
	}
	if t.fabricMTU = u.fabricMTU; u.encapsulations != nil && !slices.Equal(u.encapsulations, t.encapsulations) {
		t.setEncapsulations(u.encapsulations)
	}
	t.measure()
	for network, i := range u.instances {
		if i != nil {
			t.putInstance(network, i)
		}
	}
	for service, now := range u.passages {
		t.putPassages(service, now)
	}
	for router, now := range u.routers {
		t.putRouter(router, now)
	}
	for id, record := range u.nodes {
		t.putNode(id, record)
	}
	for iface, a := range u.attachments {
		t.putAttachment(iface, a)
	}
	for network, i := range u.instances {
		if i == nil {
			t.removeInstance(network)
		}
	}
	if len(u.instances) > 0 {
		t.border.retarget()
	}
	if len(u.instances)+len(u.nodes) > 0 || u.linkLocal != nil || u.machines != nil {
		t.setFabric(u)
	}
	if u.rereadPeering {
		t.border.setPeering(u.peering)
	}
	if t.position.Epoch == 0 {
		close(t.ready)
	}
	t.position = u.position
	t.settle()
	t.flush()
}

// settle has the sessions told whether the tables are the whole truth.
func (t *tables) settle() {
	now := t.recovery.at(t.position)
	if now == t.settling {
		return
	}
	t.settling = now
	t.touchAll()
}

// addMissing makes an update of everything name what it does not have.
func (t *tables) addMissing(u *update) {
	for id := range t.nodes {
		if _, ok := u.nodes[id]; !ok {
			u.nodes[id] = nil
		}
	}
	for iface := range t.ports {
		if _, ok := u.attachments[iface]; !ok {
			u.attachments[iface] = nil
		}
	}
}

func (t *tables) node(id string) *node {
	n, ok := t.nodes[id]
	if !ok {
		n = &node{id: id, feed: feed.NewForOne(), rows: map[string]*portRow{}, policies: map[policyKey]*policyRow{}, messages: t.messages, ports: map[string]*port{}, vrfs: map[uint32]int{}, early: map[string]time.Time{}, reports: map[string]*report{}}
		n.shared.node = n
		t.nodes[id] = n
	}
	return n
}

// tidyNode forgets a node that nothing needs any more.
func (t *tables) tidyNode(n *node) {
	if n.record == nil && n.session == nil && n.grace == nil && len(n.ports) == 0 && !n.live() {
		delete(t.nodes, n.id)
		t.shared.Remove(&n.shared.row)
		t.sharing = true
	}
}

func (t *tables) putNode(id string, record *model.Node) {
	n := t.node(id)
	moved := n.address() != addressOf(record)
	n.record = record
	if moved {
		for _, p := range n.ports {
			t.announce(p)
			t.border.tasks.look(p, p)
		}
	}
	t.tidyNode(n)
}

// measure finds the MTU of containers.
func (t *tables) measure() {
	overhead, fabric := compile.Overhead(t.encapsulations), t.fabricMTU
	if fabric <= overhead {
		fabric = defaultFabricMTU
	}
	if mtu := fabric - overhead; mtu != t.mtu {
		t.mtu = mtu
		t.touchAll()
	}
}

// setEncapsulations has all be told what nodes take, and agents what they prefer.
func (t *tables) setEncapsulations(list []compile.Encapsulation) {
	t.encapsulations = list
	for _, w := range t.networks {
		t.announceNetwork(w)
	}
	t.touchAll()
}

func (n *node) address() string { return addressOf(n.record) }

// fabricAddress is the zero Addr while the node has none that can be sent to.
func (n *node) fabricAddress() netip.Addr {
	address, err := netip.ParseAddr(n.address())
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap()
}

func addressOf(record *model.Node) string {
	if record == nil {
		return ""
	}
	return record.Address
}

func (t *tables) putAttachment(iface string, a *attachment) {
	old := t.ports[iface]
	before := old
	switch {
	case a == nil && old == nil:
		return
	case a == nil:
		t.removePort(old)
		return
	case old != nil && old.equal(a):
		return
	}
	p := &port{attachment: a}
	p.bound = firstBound(a, old)
	delete(t.node(a.Node).early, iface)
	switch {
	case old == nil:
	case old.Node != a.Node:
		t.removePort(old)
		old = nil
	case old.vrf != a.vrf:
		t.leaveNetwork(old)
	}
	t.ports[iface] = p
	n := t.node(a.Node)
	n.need(a, 1)
	if old != nil {
		n.need(old.attachment, -1)
		p.offered, p.counted = old.offered, old.counted
	}
	n.ports[iface] = p
	n.tell(a)
	t.touch(n.session)
	t.network(a.vrf).enter(p)
	t.judge(p)
	t.announce(p)
	t.border.tasks.look(before, p)
}

func (t *tables) removePort(p *port) {
	delete(t.ports, p.Interface)
	n := t.node(p.Node)
	delete(n.ports, p.Interface)
	n.need(p.attachment, -1)
	n.withdraw(p.Interface)
	if r := n.own(); r != nil {
		if _, said := r.words[p.Interface]; said {
			delete(r.words, p.Interface)
			t.share(n)
		}
	}
	t.touch(n.session)
	t.border.tasks.look(p, nil)
	t.leaveNetwork(p)
	t.tidyNode(n)
}

// leaveNetwork takes a port out of its VRF. What its agent says of it stays.
func (t *tables) leaveNetwork(p *port) {
	w := t.network(p.vrf)
	w.leave(p)
	t.retract(p)
	t.tidyNetwork(w)
}

func (t *tables) touch(s *session) {
	if s != nil {
		t.touched[s] = struct{}{}
	}
}

func (t *tables) touchAll() {
	for s := range t.sessions {
		t.touched[s] = struct{}{}
	}
}

// flush ends a change: routes are chosen, and whoever has something to read is
// woken.
func (t *tables) flush() {
	t.rib.Flush()
	t.border.settle()
	if t.sharing {
		t.sharing = false
		t.shared.Wake()
		t.learnedFeed.Wake()
	}
	for s := range t.touched {
		s.poke()
	}
	clear(t.touched)
}
