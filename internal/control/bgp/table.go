package bgp

import "net/netip"

// source is where paths of a family come from: one session of a peer, or the
// speaker's own routes. The table's lock protects what changes.
type source struct {
	peer     *peer // nil for own routes
	addr     netip.Addr
	routerID netip.Addr
	ebgp     bool
	client   bool
	stale    staleness // what became of the session
	count    int
	// most is how many paths of a destination are taken, 0 for any number.
	most int
	// wants is the peer's route-target membership, of the family RTC.
	wants *membership
}

type staleness uint8

const (
	fresh     staleness = iota
	stale               // kept by graceful restart (RFC 4724)
	longStale           // kept as a last resort (RFC 9494)
)

func (s *source) local() bool { return s.peer == nil }

// path is one way to a row's destination.
type path struct {
	src   *source
	attrs *Attrs
	rest  string // see nlri.rest
	next  *path
	id    uint32
	label uint32
}

// row is a destination with its paths, the best one first. Once it is gone the
// last path remains, so that readers can know who was told of it.
type row struct {
	key   string
	paths *path
	order [2]link
	flags rowFlags
}

type rowFlags uint8

const (
	rowGone     rowFlags = 1 << iota
	rowChanged           // the best path changed since the row was first seen
	rowReceived          // there was a path from a peer
	rowMarker            // no row, but a cursor's place
)

// A row has two places: byBest in the order of changes of the best path, for
// peers; byPaths in the order of all changes of received paths, for
// subscribers.
const (
	byBest  = 0
	byPaths = 1
)

type link struct {
	prev, next *row
	seq        uint64
}

// table has the routes of a family. Its rows are kept in the order of their
// last change, so that a reader is a place in that order and nothing is queued
// for it. rib.mu protects it.
type table struct {
	family Family
	index  int
	rib    *rib
	rows   map[string]*row
	size   int // rows that are not gone
	seq    uint64
	ends   [2]row // sentinels of the two orders
	// cursors are all readers, graves the rows that are gone until all of them
	// have seen that, oldest first.
	cursors map[*cursor]struct{}
	graves  []grave
}

type grave struct {
	row *row
	seq uint64
}

func newTable(f Family, r *rib) *table {
	t := &table{family: f, index: f.index(), rib: r, rows: map[string]*row{}, cursors: map[*cursor]struct{}{}}
	for w := range t.ends {
		e := &t.ends[w]
		e.order[w].prev, e.order[w].next = e, e
	}
	return t
}

func unlink(r *row, which int) {
	l := &r.order[which]
	if l.prev != nil {
		l.prev.order[which].next = l.next
		l.next.order[which].prev = l.prev
		l.prev, l.next = nil, nil
	}
}

func insertAfter(at, r *row, which int) {
	next := at.order[which].next
	r.order[which].prev, r.order[which].next = at, next
	at.order[which].next, next.order[which].prev = r, r
}

// touch makes a row the last that changed.
func (t *table) touch(r *row, which int) {
	unlink(r, which)
	insertAfter(t.ends[which].order[which].prev, r, which)
	r.order[which].seq = t.seq
}

// best is what readers of byBest compare: what peers are told.
type best struct {
	has      bool
	peer     *peer
	routerID netip.Addr
	attrs    *Attrs
	rest     string
	label    uint32
	long     bool
}

func bestOf(r *row) best {
	if r == nil || r.flags&rowGone != 0 {
		return best{}
	}
	p := r.paths
	return best{true, p.src.peer, p.src.routerID, p.attrs, p.rest, p.label, p.src.stale == longStale}
}

// put sets a source's path, with a set that the pool handed out. It reports
// whether there was room for it.
func (t *table) put(src *source, n *nlri, a *Attrs) (taken bool) {
	r := t.rows[string(n.key)]
	if r.full(src, n.id) {
		return false
	}
	before := bestOf(r)
	if r == nil {
		r = &row{key: string(n.key)}
		t.rows[r.key] = r
		t.size++
	} else if r.flags&rowGone != 0 {
		t.drop(r, r.paths)
		r.flags = r.flags&^rowGone | rowChanged
		t.size++
	}
	p := r.find(src, n.id)
	switch {
	case p == nil:
		p = &path{src: src, attrs: t.rib.pool.take(a), label: n.label, rest: string(n.rest), id: n.id, next: r.paths}
		r.paths = p
		src.count++
		src.note(r.key, 1)
	case p.src == src && p.attrs == a && p.label == n.label && p.rest == string(n.rest):
		return true
	default:
		a = t.rib.pool.take(a)
		t.rib.pool.release(p.attrs)
		if p.src != src { // of the peer's earlier session
			p.src.count--
			src.count++
			if p.src.wants != src.wants {
				src.note(r.key, 1)
			}
		}
		p.src, p.attrs, p.label = src, a, n.label
		if p.rest != string(n.rest) {
			p.rest = string(n.rest)
		}
	}
	t.settle(r, before, src)
	return true
}

// full tells whether a row has as many paths of a source as it takes, without the
// one with an identifier.
func (r *row) full(src *source, id uint32) bool {
	if src.most == 0 || r == nil || r.flags&rowGone != 0 {
		return false
	}
	n := 0
	for p := r.paths; p != nil; p = p.next {
		if p.src == src {
			if p.id == id {
				return false
			}
			n++
		}
	}
	return n >= src.most
}

// remove takes a source's path away, and reports whether there was one.
func (t *table) remove(src *source, key []byte, id uint32) bool {
	r := t.rows[string(key)]
	if r == nil || r.flags&rowGone != 0 {
		return false
	}
	p := r.find(src, id)
	if p == nil {
		return false
	}
	before := bestOf(r)
	t.take(r, p)
	t.settle(r, before, p.src)
	return true
}

// take removes a path from a row; the last one stays as the row's memory.
func (t *table) take(r *row, p *path) {
	p.src.count--
	p.src.note(r.key, -1)
	if r.paths == p && p.next == nil {
		r.flags |= rowGone
		t.size--
		return
	}
	t.drop(r, p)
}

func (t *table) drop(r *row, p *path) {
	t.rib.pool.release(p.attrs)
	for at := &r.paths; *at != nil; at = &(*at).next {
		if *at == p {
			*at = p.next
			return
		}
	}
}

// note keeps the peer's membership.
func (s *source) note(key string, by int) {
	if s.wants != nil {
		s.wants.note(key, by)
	}
}

// find returns the path of the source's peer with an identifier.
func (r *row) find(src *source, id uint32) *path {
	for p := r.paths; p != nil; p = p.next {
		if p.src.peer == src.peer && p.id == id {
			return p
		}
	}
	return nil
}

// settle chooses the best path after a change of a source's path, and puts the
// row where its readers will find it.
func (t *table) settle(r *row, before best, changed *source) {
	if r.flags&rowGone == 0 && r.paths.next != nil {
		r.choose(t.rib.alwaysMED)
	}
	t.seq++
	// Every member of a target counts, not the best one only: see export.
	if now := bestOf(r); now != before || t.family == RTC {
		if before.has && r.flags&rowGone == 0 {
			r.flags |= rowChanged
		}
		t.touch(r, byBest)
	}
	if !changed.local() {
		r.flags |= rowReceived
		t.touch(r, byPaths)
	}
	if r.flags&rowGone != 0 {
		t.bury(r)
	}
}

// bury remembers that a row is to be forgotten once all have seen it.
func (t *table) bury(r *row) {
	if len(t.cursors) == 0 {
		t.forget(r)
		return
	}
	t.graves = append(t.graves, grave{r, t.seq})
	if len(t.graves) > t.rib.maxGraves {
		t.shed()
	}
}

// shed gives up the readers for whom too much is remembered that is gone: a peer
// that announces and withdraws, and reads nothing, must not fill the memory.
func (t *table) shed() {
	if t.rib.held { // nobody may read yet
		t.rib.held = false
		t.rib.wake()
		return
	}
	half := t.graves[len(t.graves)/2].seq
	for c := range t.cursors {
		if c.at < half && c.late != nil {
			go c.late()
			c.late = nil
		}
	}
}

func (t *table) forget(r *row) {
	unlink(r, byBest)
	unlink(r, byPaths)
	t.drop(r, r.paths)
	delete(t.rows, r.key)
}

// sweep forgets rows that are gone and that every reader has seen so.
func (t *table) sweep() {
	if len(t.graves) == 0 {
		return
	}
	seen := t.seq
	for c := range t.cursors {
		seen = min(seen, c.at)
	}
	i := 0
	for ; i < len(t.graves) && t.graves[i].seq <= seen; i++ {
		g := t.graves[i]
		r := g.row
		if r.flags&rowGone != 0 && max(r.order[byBest].seq, r.order[byPaths].seq) <= g.seq {
			t.forget(r)
		}
		t.graves[i].row = nil
	}
	t.graves = t.graves[i:]
	if len(t.graves) == 0 {
		t.graves = nil
	}
}

// cursor is a reader's place in one order of a table.
type cursor struct {
	marker row
	table  *table
	which  int
	// at is the change up to which all was read, from the one at which reading
	// began: what was gone by then was never told to this reader.
	at, from uint64
	// late is called, once, when the reader is too far behind; nil for one that
	// never is.
	late func()
}

// read opens a cursor before the first row.
func (t *table) read(which int) *cursor {
	c := &cursor{table: t, which: which, from: t.seq}
	c.marker.flags = rowMarker
	insertAfter(&t.ends[which], &c.marker, which)
	t.cursors[c] = struct{}{}
	return c
}

// readNew opens a cursor behind the last row.
func (t *table) readNew(which int) *cursor {
	c := t.read(which)
	unlink(&c.marker, which)
	insertAfter(t.ends[which].order[which].prev, &c.marker, which)
	c.at = t.seq
	return c
}

// clone opens a cursor at the same place.
func (c *cursor) clone() *cursor {
	n := &cursor{table: c.table, which: c.which, at: c.at, from: c.from}
	n.marker.flags = rowMarker
	insertAfter(&c.marker, &n.marker, c.which)
	c.table.cursors[n] = struct{}{}
	return n
}

func (c *cursor) close() {
	unlink(&c.marker, c.which)
	delete(c.table.cursors, c)
	c.table.sweep()
}

// next calls f for up to limit rows that have not been read, and reports
// whether there are no more.
func (c *cursor) next(limit int, f func(*row)) bool {
	end := &c.table.ends[c.which]
	last := &c.marker
	r := last.order[c.which].next
	for ; r != end && limit > 0; r = r.order[c.which].next {
		last = r
		if r.flags&rowMarker != 0 {
			continue
		}
		c.at = r.order[c.which].seq
		if r.flags&rowGone != 0 && c.at <= c.from {
			continue
		}
		limit--
		f(r)
	}
	if last != &c.marker {
		unlink(&c.marker, c.which)
		insertAfter(last, &c.marker, c.which)
	}
	if r == end {
		c.at = c.table.seq
	}
	c.table.sweep()
	return r == end
}

// atEnd says that there is nothing to read.
func (c *cursor) atEnd() bool {
	for r := c.marker.order[c.which].next; ; r = r.order[c.which].next {
		if r == &c.table.ends[c.which] {
			c.at = c.table.seq
			return true
		}
		if r.flags&rowMarker == 0 {
			return false
		}
	}
}
