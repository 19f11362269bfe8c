package bgp

import (
	"bytes"
	"math"
	"sync"
)

// rib is all tables, and who has to be told of their changes.
type rib struct {
	mu        sync.Mutex
	tables    [numFam]*table
	pool      pool
	alwaysMED bool
	// held says that nothing goes out yet: the speaker restarts (RFC 4724 §4.1).
	held bool
	// batchRows is how many rows a batch has at most.
	batchRows int
	// maxGraves is how many rows of a table are remembered, once they are gone,
	// for those who have not read that.
	maxGraves int
	wakers    map[chan struct{}]struct{}
	groupMu   sync.Mutex
	groups    map[exporter]*group
}

func newRIB() *rib {
	r := &rib{batchRows: fullBatch, maxGraves: defaultMaxPrefixes, pool: pool{}, wakers: map[chan struct{}]struct{}{}, groups: map[exporter]*group{}}
	for i, f := range families {
		r.tables[i] = newTable(f, r)
	}
	return r
}

// wake tells every reader that there may be something; under the lock.
func (r *rib) wake() {
	for c := range r.wakers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

const (
	fullBatch = 4096
	// ringSize is how many batches a member may be behind the others before it
	// goes on alone.
	ringSize = 16
)

// group is the peers that get the same messages. A change is encoded once, by
// the member that asks first. A member is a place in the ring of the last
// batches; one that falls out of it goes on with a cursor of its own until it
// has caught up, so that a slow peer costs the others nothing and nothing is
// queued for it. Locks: group.mu, then rib.mu.
type group struct {
	exporter
	rib     *rib
	mu      sync.Mutex
	pack    packer
	cursors [numFam]*cursor
	ring    []*batch
	newest  uint64
	members map[*member]struct{}
}

// member is an established session in its group; group.mu protects it.
type member struct {
	group *group
	peer  *peer
	wake  chan struct{}
	// late ends the session of a member that is too far behind.
	late func()
	// wants is read by the session's writer only.
	wants *membership
	pos   uint64
	// started has the families of which the peer is told; catchup those that it
	// gets by a cursor of its own, and skip the batches that this has covered.
	started familySet
	waitRTC bool
	catchup [numFam]*catchup
	skip    [numFam]uint64
	pack    packer
}

// catchup is a pass over a table for one member.
type catchup struct {
	cursor *cursor
	only   *refilter
	begin  []byte // goes before
	end    []byte // goes after
}

// join makes a session a member of its group.
func (r *rib) join(e exporter, p *peer, wants *membership, late func()) *member {
	r.groupMu.Lock()
	defer r.groupMu.Unlock()
	g := r.groups[e]
	if g == nil {
		g = &group{exporter: e, rib: r, members: map[*member]struct{}{}}
		g.pack.exporter = e
		g.pack.member = g.has
		r.groups[e] = g
		r.mu.Lock()
		for _, f := range e.families.list() {
			c := r.tables[f.index()].readNew(byBest)
			c.late = func() { g.shed(math.MaxUint64) }
			g.cursors[f.index()] = c
		}
		r.mu.Unlock()
	}
	m := &member{group: g, peer: p, wake: make(chan struct{}, 1), late: late, wants: wants}
	m.waitRTC = wants != nil && wants.marked
	m.pack.exporter = e
	m.pack.filtered = wants != nil
	m.pack.member = func(s *source) bool { return s.peer == p }
	g.mu.Lock()
	m.pos = g.newest
	g.members[m] = struct{}{}
	g.pack.filtered = g.pack.filtered || wants != nil
	g.mu.Unlock()
	r.mu.Lock()
	r.wakers[m.wake] = struct{}{}
	r.mu.Unlock()
	return m
}

func (g *group) has(s *source) bool {
	for m := range g.members {
		if m.peer == s.peer {
			return true
		}
	}
	return false
}

// leave ends a membership; the last one out closes the group.
func (m *member) leave() {
	g, r := m.group, m.group.rib
	r.groupMu.Lock()
	defer r.groupMu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.wakers, m.wake)
	delete(g.members, m)
	for _, c := range m.catchup {
		if c != nil {
			c.cursor.close()
		}
	}
	for _, b := range g.ring {
		if b.id > m.pos {
			b.left--
		}
	}
	g.trim()
	if len(g.members) > 0 {
		return
	}
	delete(r.groups, g.exporter)
	for _, c := range g.cursors {
		if c != nil {
			c.close()
		}
	}
}

// trim drops batches from the ring that all have taken; under both locks.
func (g *group) trim() {
	for len(g.ring) > 0 && g.ring[0].left <= 0 {
		g.drop()
	}
}

func (g *group) drop() {
	g.ring[0].start.close()
	g.ring[0] = nil
	g.ring = g.ring[1:]
	if len(g.ring) == 0 {
		g.ring = nil
	}
}

// next returns messages that the member has not had, or nil. It is called by
// the session's writer.
func (m *member) next() *batch {
	g := m.group
	g.mu.Lock()
	defer g.mu.Unlock()
	m.begin()
	if b := m.catchUp(); b != nil {
		return b
	}
	for m.started != 0 {
		if b := m.take(); b != nil {
			return b
		}
		if !g.generate() {
			return nil
		}
	}
	return nil
}

// begin starts the families that have been waiting, and passes over the tables
// again that a change of membership concerns.
func (m *member) begin() {
	r := m.group.rib
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held {
		return
	}
	var change targetChange
	if m.wants != nil && !m.wants.pending.empty() {
		change = m.wants.apply()
	}
	for _, f := range m.group.families.list() {
		i := f.index()
		switch {
		case m.started.has(f):
			if f.targeted() && !change.empty() {
				m.again(f, &refilter{m.wants, change, m.told(i)})
			}
		case f.targeted() && m.waitRTC:
		default:
			m.started.add(f)
			m.catchup[i] = m.pass(r.tables[i].read(byBest))
			m.catchup[i].end = endOfRIB(f)
		}
	}
}

// pass is one of the member's own, with a cursor.
func (m *member) pass(c *cursor) *catchup {
	c.late = m.late
	return &catchup{cursor: c}
}

// again begins a pass over a table whose rows the member may have already.
// What is gone but not forgotten is part of it: the member may not have been
// told. Under both locks.
func (m *member) again(f Family, only *refilter) *catchup {
	i := f.index()
	c := m.pass(m.group.rib.tables[i].read(byBest))
	c.only, c.cursor.from = only, 0
	if old := m.catchup[i]; old != nil {
		c.begin, c.end = old.begin, old.end
		switch {
		case old.only == nil && only != nil:
			only.change.all = true // that pass has not told all yet
		case old.only != nil && only != nil:
			only.change.merge(old.only.change)
			only.told = old.only.told
		case old.only != nil:
			c.only = &refilter{old.only.m, targetChange{all: true}, old.only.told}
		}
		old.cursor.close()
	}
	m.catchup[i] = c
	return c
}

// told is the change of a table up to which the group has told the member.
func (m *member) told(i int) uint64 {
	for _, b := range m.group.ring {
		if b.family.index() == i && b.id > max(m.pos, m.skip[i]) {
			return b.start.at
		}
	}
	return m.group.cursors[i].at
}

// refresh sends a family again, as the peer asked (RFC 2918); enhanced with
// markers around (RFC 7313).
func (m *member) refresh(f Family, enhanced bool) {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	r := m.group.rib
	r.mu.Lock()
	defer r.mu.Unlock()
	if !m.started.has(f) {
		return // all is to come anyway
	}
	c := m.again(f, nil)
	// A peer that asks before it has the last answer gets one for both: it may ask
	// without end, and read nothing.
	if end := routeRefresh(f, refreshEnd); enhanced && !bytes.HasSuffix(c.end, end) {
		c.begin = routeRefresh(f, refreshBegin)
		c.end = append(c.end, end...)
	}
	m.poke()
}

// ready ends the wait for the peer's membership.
func (m *member) ready() {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	m.waitRTC = false
	m.poke()
}

func (m *member) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// catchUp takes the next batch of a pass of the member's own.
func (m *member) catchUp() *batch {
	g := m.group
	for i, c := range m.catchup {
		if c == nil {
			continue
		}
		m.pack.reset(families[i])
		m.pack.only = c.only
		g.rib.mu.Lock()
		done := c.cursor.next(g.rib.batchRows, m.pack.add)
		if done {
			c.cursor.close()
		}
		g.rib.mu.Unlock()
		b := m.pack.encode()
		if done {
			m.catchup[i] = nil
			m.skip[i] = g.newest
			b.end(c.end)
		}
		if c.begin != nil {
			b.parts = append([]part{{start: len(b.data), end: len(b.data) + len(c.begin), bucketKey: bucketKey{kind: gone}}}, b.parts...)
			b.data = append(b.data, c.begin...)
			c.begin = nil
		}
		return b
	}
	return nil
}

// end appends a message for everyone.
func (b *batch) end(message []byte) {
	if len(message) > 0 {
		start := len(b.data)
		b.data = append(b.data, message...)
		b.parts = append(b.parts, part{start: start, end: len(b.data), bucketKey: bucketKey{kind: gone}})
	}
}

// take returns the next batch of the ring that the member needs.
func (m *member) take() *batch {
	g := m.group
	if len(g.ring) == 0 {
		return nil
	}
	var found *batch
	for _, b := range g.ring {
		if b.id <= m.pos {
			continue
		}
		m.pos = b.id
		b.left--
		if i := b.family.index(); m.started.has(b.family) && m.catchup[i] == nil && b.id > m.skip[i] {
			found = b
			break
		}
	}
	g.rib.mu.Lock()
	g.trim()
	g.rib.mu.Unlock()
	return found
}

// generate encodes the next changes for all members, and reports whether there
// were any.
func (g *group) generate() bool {
	r := g.rib
	r.mu.Lock()
	var start *cursor
	for i, c := range g.cursors {
		if c == nil || c.atEnd() {
			continue
		}
		start = c.clone()
		id := g.newest + 1
		start.late = func() { g.shed(id) }
		g.pack.reset(families[i])
		c.next(r.batchRows, g.pack.add)
		break
	}
	r.mu.Unlock()
	if start == nil {
		return false
	}
	b := g.pack.encode()
	g.newest++
	b.id, b.start, b.left = g.newest, start, len(g.members)
	g.ring = append(g.ring, b)
	if len(g.ring) > ringSize {
		g.evict()
	}
	return true
}

// shed gives up the members that have not taken a batch.
func (g *group) shed(id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for m := range g.members {
		if m.pos < id {
			go m.late()
		}
	}
}

// evict drops the oldest batch; members that have not taken it go on alone
// from where it began.
func (g *group) evict() {
	g.rib.mu.Lock()
	defer g.rib.mu.Unlock()
	b := g.ring[0]
	i := b.family.index()
	for m := range g.members {
		if m.pos >= b.id {
			continue
		}
		m.pos = b.id
		if m.started.has(b.family) && m.catchup[i] == nil && b.id > m.skip[i] {
			m.catchup[i] = m.pass(b.start.clone())
		}
	}
	g.drop()
}
