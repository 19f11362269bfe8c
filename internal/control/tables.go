package control

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

const (
	// overhead of MPLSoUDP over IPv4: IPv4 20, UDP 8, one label 4 bytes.
	overhead = 32
	// defaultFabricMTU is assumed until a node has joined.
	defaultFabricMTU = 1500
)

// tables is the whole state of a control node. Its lock is held for short
// computations only, never while something is sent.
type tables struct {
	log     *slog.Logger
	metrics *metrics

	mu       sync.Mutex
	ready    chan struct{} // closed when the graph was read for the first time
	position model.Position
	mtu      uint32
	// settling: the store was restored and lacks what nodes have not reported.
	settling bool
	recovery *settling
	nodes    map[string]*node
	ports    map[string]*port
	vrfs     map[uint32]*vrf
	numbers  map[string]uint32 // network's UUID to VRF
	imports  map[compile.Target]map[uint32]*vrf
	exports  map[compile.Target]map[uint32]*vrf
	sessions map[*session]struct{}
	// touched are the sessions to wake when the present change is complete.
	touched map[*session]struct{}
}

// node is a machine: as the graph has it, its ports, and its agent's session.
type node struct {
	id      string
	record  *model.Node
	table   *table // ports by interface UUID
	ports   map[string]*port
	vrfs    map[uint32]int // ports in each VRF
	session *session
	// early are ports that the agent said are up before the graph bound them
	// to this node; they are used when, and only when, it does.
	early map[string]bool
}

// port is an attachment, and what its node's agent says of it.
type port struct {
	*attachment
	// waiting: bound during the agent's session, which has not said that it is up.
	waiting bool
	// down: the agent said so.
	down bool
}

func (p *port) usable() bool { return !p.waiting && !p.down }

// vrf is a network's forwarding table.
type vrf struct {
	compile.VRF
	table *table // routes by prefix
	// local are the network's own ports by prefix.
	local map[netip.Prefix]map[string]*port
	// sources are the VRFs that this one imports from, destinations those that
	// import from it; both with itself.
	sources, destinations map[uint32]*vrf
}

func newTables(log *slog.Logger, metrics *metrics) *tables {
	return &tables{
		log: log, metrics: metrics, recovery: &settling{}, ready: make(chan struct{}), mtu: defaultFabricMTU - overhead,
		nodes: map[string]*node{}, ports: map[string]*port{}, vrfs: map[uint32]*vrf{}, numbers: map[string]uint32{},
		imports: map[compile.Target]map[uint32]*vrf{}, exports: map[compile.Target]map[uint32]*vrf{},
		sessions: map[*session]struct{}{}, touched: map[*session]struct{}{},
	}
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
		t.apply(read(g, changes))
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
	if u.everything {
		t.addMissing(u)
	}
	// VRFs and nodes first: ports refer to them. VRFs that are gone go last.
	for network, v := range u.vrfs {
		if v != nil {
			t.putVRF(network, v)
		}
	}
	for id, record := range u.nodes {
		t.putNode(id, record)
	}
	for iface, a := range u.attachments {
		t.putAttachment(iface, a)
	}
	for network, v := range u.vrfs {
		if v == nil {
			t.removeVRF(network)
		}
	}
	if t.position.Epoch == 0 {
		close(t.ready)
	}
	t.position = u.position
	t.settle()
	t.wakeTouched()
}

// settle has the sessions told whether the tables are the whole truth.
func (t *tables) settle() {
	now := t.recovery.at(t.position)
	if now == t.settling {
		return
	}
	t.settling = now
	for s := range t.sessions {
		t.touched[s] = struct{}{}
	}
}

// addMissing makes an update of everything name what it does not have.
func (t *tables) addMissing(u *update) {
	for network := range t.numbers {
		if _, ok := u.vrfs[network]; !ok {
			u.vrfs[network] = nil
		}
	}
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
		n = &node{id: id, table: newTable(), ports: map[string]*port{}, vrfs: map[uint32]int{}, early: map[string]bool{}}
		t.nodes[id] = n
	}
	return n
}

// tidyNode forgets a node that nothing needs any more.
func (t *tables) tidyNode(n *node) {
	if n.record == nil && n.session == nil && len(n.ports) == 0 {
		delete(t.nodes, n.id)
	}
}

func (t *tables) putNode(id string, record *model.Node) {
	n := t.node(id)
	moved := n.address() != addressOf(record)
	n.record = record
	if moved {
		for _, p := range n.ports {
			t.computePort(p)
		}
	}
	t.tidyNode(n)
	smallest := uint32(0)
	for _, n := range t.nodes {
		if n.record != nil && n.record.FabricMTU > overhead && (smallest == 0 || n.record.FabricMTU < smallest) {
			smallest = n.record.FabricMTU
		}
	}
	if mtu := cmp.Or(smallest, defaultFabricMTU) - overhead; mtu != t.mtu {
		t.mtu = mtu
		for s := range t.sessions {
			t.touched[s] = struct{}{}
		}
	}
}

func (n *node) address() string { return addressOf(n.record) }

func addressOf(record *model.Node) string {
	if record == nil {
		return ""
	}
	return record.Address
}

func (t *tables) putAttachment(iface string, a *attachment) {
	old := t.ports[iface]
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
	if old != nil && old.Node == a.Node {
		p.waiting, p.down = old.waiting, old.down
	} else {
		n := t.node(a.Node)
		p.waiting = n.session != nil && !n.early[iface]
		delete(n.early, iface)
	}
	if old != nil && (old.Node != a.Node || old.vrf != a.vrf || !slices.Equal(old.addresses, a.addresses)) {
		t.removePort(old)
		old = nil
	}
	t.ports[iface] = p
	n := t.node(a.Node)
	if old == nil {
		n.vrfs[a.vrf]++
	}
	n.ports[iface] = p
	t.note(n.table, n.table.put(iface, portMessage(a)))
	t.touch(n.session)
	for _, address := range a.addresses {
		t.bindPrefix(p, prefixOf(address))
	}
	t.computePort(p)
}

func (t *tables) bindPrefix(p *port, prefix netip.Prefix) {
	v, ok := t.vrfs[p.vrf]
	if !ok {
		return
	}
	if v.local[prefix] == nil {
		v.local[prefix] = map[string]*port{}
	}
	v.local[prefix][p.Interface] = p
}

func (t *tables) removePort(p *port) {
	delete(t.ports, p.Interface)
	n := t.node(p.Node)
	delete(n.ports, p.Interface)
	if n.vrfs[p.vrf]--; n.vrfs[p.vrf] == 0 {
		delete(n.vrfs, p.vrf)
	}
	t.note(n.table, n.table.remove(p.Interface, portGoneMessage(p.Interface)))
	t.touch(n.session)
	if v, ok := t.vrfs[p.vrf]; ok {
		for _, address := range p.addresses {
			prefix := prefixOf(address)
			delete(v.local[prefix], p.Interface)
			if len(v.local[prefix]) == 0 {
				delete(v.local, prefix)
			}
			t.computePrefix(v, prefix)
		}
	}
	t.tidyNode(n)
}

// computePort computes anew every route that may lead to a port.
func (t *tables) computePort(p *port) {
	if v, ok := t.vrfs[p.vrf]; ok {
		for _, address := range p.addresses {
			t.computePrefix(v, prefixOf(address))
		}
	}
}

// computePrefix computes a prefix in the VRF of its network and in those that
// import from it.
func (t *tables) computePrefix(v *vrf, prefix netip.Prefix) {
	for _, destination := range v.destinations {
		t.computeRoute(destination, prefix)
	}
}

func (t *tables) computeRoute(v *vrf, prefix netip.Prefix) {
	best := t.best(v, prefix)
	key := prefix.String()
	if best == nil {
		t.note(v.table, v.table.remove(key, routeGoneMessage(v.Number, key)))
		return
	}
	t.note(v.table, v.table.put(key, routeMessage(v.Number, key, &controlv1.Path{
		NextHop:       t.nodes[best.Node].address(),
		Label:         best.Label,
		InterfaceId:   best.Interface,
		OriginNetwork: best.vrf,
	})))
}

// best is the port that a prefix leads to: one of the network itself, else
// one of those it imports from; of several, the latest by store revision.
func (t *tables) best(v *vrf, prefix netip.Prefix) *port {
	if p := t.latest(nil, v.local[prefix]); p != nil {
		return p
	}
	var best *port
	for _, source := range v.sources {
		if source != v {
			best = t.latest(best, source.local[prefix])
		}
	}
	return best
}

func (t *tables) latest(best *port, candidates map[string]*port) *port {
	for _, p := range candidates {
		if !p.usable() || t.nodes[p.Node].address() == "" {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(p.Revision, best.Revision), cmp.Compare(p.Interface, best.Interface)) > 0 {
			best = p
		}
	}
	return best
}

func (t *tables) putVRF(network string, now *compile.VRF) {
	if old, ok := t.numbers[network]; ok && old != now.Number {
		t.removeVRF(network)
	}
	v, ok := t.vrfs[now.Number]
	if ok && v.Network != network { // a restored store gave the number to another network
		t.removeVRF(v.Network)
		ok = false
	}
	if ok && reflect.DeepEqual(v.VRF, *now) {
		return
	}
	var affected map[uint32]*vrf
	if !ok {
		v = &vrf{table: newTable(), local: map[netip.Prefix]map[string]*port{}}
		t.vrfs[now.Number] = v
		t.numbers[network] = now.Number
	} else {
		affected = maps.Clone(v.destinations)
		t.unlink(v)
	}
	v.VRF = *now
	t.link(v)
	if !ok {
		t.adopt(v)
	}
	if affected == nil {
		affected = map[uint32]*vrf{}
	}
	maps.Copy(affected, v.destinations)
	affected[v.Number] = v
	for _, a := range affected {
		t.computeVRF(a)
	}
}

// adopt gives a new VRF the ports that were bound before it was known, and its
// readers.
func (t *tables) adopt(v *vrf) {
	for _, p := range t.ports {
		if p.vrf == v.Number {
			for _, address := range p.addresses {
				t.bindPrefix(p, prefixOf(address))
			}
			t.touch(t.nodes[p.Node].session)
		}
	}
}

func (t *tables) removeVRF(network string) {
	number, ok := t.numbers[network]
	if !ok {
		return
	}
	v := t.vrfs[number]
	delete(t.numbers, network)
	delete(t.vrfs, number)
	affected := maps.Clone(v.destinations)
	delete(affected, number)
	t.unlink(v)
	for _, a := range affected {
		t.computeVRF(a)
	}
	for c := range v.table.readers {
		t.touch(c.owner)
	}
}

// link enters a VRF under its targets and connects it with the others.
func (t *tables) link(v *vrf) {
	for _, target := range v.Import {
		enter(t.imports, target, v)
	}
	for _, target := range v.Export {
		enter(t.exports, target, v)
	}
	v.sources, v.destinations = map[uint32]*vrf{v.Number: v}, map[uint32]*vrf{v.Number: v}
	for _, target := range v.Import {
		for n, other := range t.exports[target] {
			v.sources[n], other.destinations[v.Number] = other, v
		}
	}
	for _, target := range v.Export {
		for n, other := range t.imports[target] {
			v.destinations[n], other.sources[v.Number] = other, v
		}
	}
}

func (t *tables) unlink(v *vrf) {
	for _, target := range v.Import {
		leave(t.imports, target, v)
	}
	for _, target := range v.Export {
		leave(t.exports, target, v)
	}
	for n, other := range v.sources {
		if n != v.Number {
			delete(other.destinations, v.Number)
		}
	}
	for n, other := range v.destinations {
		if n != v.Number {
			delete(other.sources, v.Number)
		}
	}
}

func enter(index map[compile.Target]map[uint32]*vrf, target compile.Target, v *vrf) {
	if index[target] == nil {
		index[target] = map[uint32]*vrf{}
	}
	index[target][v.Number] = v
}

func leave(index map[compile.Target]map[uint32]*vrf, target compile.Target, v *vrf) {
	delete(index[target], v.Number)
	if len(index[target]) == 0 {
		delete(index, target)
	}
}

// computeVRF computes all routes of a VRF: those it has and those it may get.
func (t *tables) computeVRF(v *vrf) {
	prefixes := map[netip.Prefix]struct{}{}
	for key := range v.table.rows {
		prefixes[netip.MustParsePrefix(key)] = struct{}{}
	}
	for _, source := range v.sources {
		for prefix := range source.local {
			prefixes[prefix] = struct{}{}
		}
	}
	for prefix := range prefixes {
		t.computeRoute(v, prefix)
	}
}

// prefixOf is the host route of an address.
func prefixOf(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// note wakes the readers of a table that changed.
func (t *tables) note(changed *table, did bool) {
	if !did {
		return
	}
	for c := range changed.readers {
		t.touched[c.owner] = struct{}{}
	}
}

func (t *tables) touch(s *session) {
	if s != nil {
		t.touched[s] = struct{}{}
	}
}

func (t *tables) wakeTouched() {
	for s := range t.touched {
		s.poke()
	}
	clear(t.touched)
}
