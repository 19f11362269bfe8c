package control

import (
	"cmp"
	"time"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
	"github.com/contrail-mesos/contrail/internal/control/feed"
	"github.com/contrail-mesos/contrail/internal/model"
)

// here is the name of this control node among those that a report is from.
const here = ""

// word is what an agent said of a port.
type word struct {
	up bool
	// failing are health checks that have failed.
	failing []failure
	// sequence grows with each word of an agent, in one boot of its node.
	sequence uint64
}

func wordOf(p *controlv1.PortStatus) word {
	return word{p.GetState() == controlv1.PortStatus_STATE_UP, failuresOf(p.GetFailing()), p.GetSequence()}
}

// report is all that one control node has heard from a node's agent. The ones
// of others come by the exchange.
type report struct {
	// live: the agent has a session there, or had one a moment ago.
	live bool
	// cut: the exchange with the control node is interrupted.
	cut  bool
	boot string
	// since is the position at which the session began.
	since model.Position
	words map[string]word // by interface
}

// speaks tells whether the agent has a session there, as far as is known.
func (r *report) speaks() bool { return r.live && !r.cut }

// newest is the last word on a port, of those who have a session if there are
// any. No clock of one machine is compared with that of another: the sequence
// is the agent's own, and a boot is later by the position of its session.
func (n *node) newest(iface string) (newest word, known bool) {
	var from *report
	for _, r := range n.reports {
		w, ok := r.words[iface]
		if !ok || from != nil && !r.overrides(from, w, newest) {
			continue
		}
		newest, from = w, r
	}
	return newest, from != nil
}

func (r *report) overrides(other *report, mine, theirs word) bool {
	switch {
	case r.speaks() != other.speaks():
		return r.speaks()
	case r.boot == other.boot && mine.sequence != theirs.sequence:
		return mine.sequence > theirs.sequence
	case r.since != other.since:
		return other.since.Before(r.since)
	}
	// The same for all who hear both: the worse.
	return theirs.up && !mine.up || theirs.up == mine.up && len(mine.failing) > len(theirs.failing)
}

// live tells whether the agent has a session with any control node.
func (n *node) live() bool {
	for _, r := range n.reports {
		if r.speaks() {
			return true
		}
	}
	return false
}

// judge brings a port to what is known of it, and tells whether that is news.
// A port waits for its agent's word that it is up if it was bound while the
// agent had a session; what was bound before may have been up all the time.
func (t *tables) judge(p *port) bool {
	n := t.node(p.Node)
	waiting, down, failing := p.waiting, p.down, p.failing
	w, known := n.newest(p.Interface)
	p.waiting, p.down, p.failing = false, known && !w.up, p.failingOf(w.failing)
	for _, r := range n.reports {
		if !known && r.speaks() && r.since.Epoch == t.epoch && r.since.Revision < p.bound {
			p.waiting = true
		}
	}
	return p.waiting != waiting || p.down != down || len(p.failing) > 0 != (len(failing) > 0)
}

// heard has all ports of a node judged anew.
func (t *tables) heard(n *node) {
	lost := len(n.reports) > 0 && !n.live()
	changed := n.lost != lost
	n.lost = lost
	for _, p := range n.ports {
		if t.judge(p) || changed {
			t.announce(p)
		}
	}
	t.tidyNode(n)
}

// own is what this control node has heard from a node's agent.
func (n *node) own() *report { return n.reports[here] }

// begin is for the begin of a session. What the agent said in an earlier one
// of the same boot stands until it says something else, and what is of ports
// that the graph does not bind to it is forgotten: it says that again.
func (t *tables) begin(n *node, boot string) {
	r := n.own()
	if r == nil || r.boot != boot {
		r = &report{boot: boot, words: map[string]word{}}
		n.reports[here] = r
	}
	for iface := range n.early {
		delete(r.words, iface)
	}
	clear(n.early)
	if !r.live || r.since.Epoch != t.position.Epoch {
		r.since = t.position // else it was not away: what waits still does
	}
	r.live = true
	if n.grace != nil {
		n.grace.Stop()
		n.grace = nil
	}
	t.heard(n)
	t.share(n)
}

// end is for the end of a session. An agent that comes back soon was not away.
func (t *tables) end(n *node) {
	if t.grace == 0 {
		t.lose(n)
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(t.grace, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if n.grace == timer {
			n.grace = nil
			t.lose(n)
			t.flush()
		}
	})
	n.grace = timer
}

// lose is for the end of the time in which the agent might have come back.
func (t *tables) lose(n *node) {
	n.own().live = false
	for iface := range n.early {
		delete(n.own().words, iface)
	}
	clear(n.early)
	t.share(n)
	t.heard(n)
}

// shared is a node's own report as the other control nodes are told of it.
type shared struct {
	node *node
	row  feed.Row
}

// Message implements feed.Item.
func (s *shared) Message(gone bool) []byte {
	m := &controlv1.Report{Node: s.node.id, Gone: gone}
	if r := s.node.own(); r != nil && !gone {
		m.Live, m.BootId = r.live, r.boot
		m.Since = &typesv1.Position{Epoch: r.since.Epoch, Revision: r.since.Revision}
		for iface, w := range r.words {
			p := &controlv1.PortStatus{InterfaceId: iface, State: controlv1.PortStatus_STATE_DOWN, Sequence: w.sequence, Failing: failedChecks(w.failing)}
			if w.up {
				p.State = controlv1.PortStatus_STATE_UP
			}
			m.Ports = append(m.Ports, p)
		}
	}
	return encode(&controlv1.ExchangeMessage{Body: &controlv1.ExchangeMessage_Report{Report: m}})
}

// Forgotten implements feed.Item.
func (s *shared) Forgotten() {}

// share has the other control nodes told of a node's report.
func (t *tables) share(n *node) {
	t.shared.Put(&n.shared.row, &n.shared)
	t.sharing = true
}

// hear takes in what another control node says of a node's agent.
func (t *tables) hear(from string, m *controlv1.Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.node(m.GetNode())
	if m.GetGone() {
		delete(n.reports, from)
	} else {
		since := model.Position{Epoch: m.GetSince().GetEpoch(), Revision: m.GetSince().GetRevision()}
		r := &report{live: m.GetLive(), boot: m.GetBootId(), since: since, words: make(map[string]word, len(m.GetPorts()))}
		for _, p := range m.GetPorts() {
			r.words[p.GetInterfaceId()] = wordOf(p)
		}
		n.reports[from] = r
	}
	t.heard(n)
	t.flush()
}

// unheard is for the end of another control node's reports: those of nodes that
// it did not name do not exist.
func (t *tables) unheard(from string, named map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, n := range t.nodes {
		if n.reports[from] != nil && !named[id] {
			delete(n.reports, from)
			t.heard(n)
		}
	}
	t.flush()
}

// cut is for the loss of another control node, whose agents have left it too,
// and for its return with all that it had said. While it is cut off, what its
// agents said stands until somebody hears something else, and what routers told
// it is stale.
func (t *tables) cut(from string, now bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.nodes {
		if r := n.reports[from]; r != nil && r.cut != now {
			r.cut = now
			t.heard(n)
		}
	}
	if now {
		t.rib.AgeExternal(from)
		t.ageSpoken(from)
	}
	t.flush()
}

// firstBound is the revision at which a port came to its node.
func firstBound(a *attachment, old *port) uint64 {
	if old != nil && old.Node == a.Node {
		return cmp.Or(old.bound, old.Revision)
	}
	return a.Revision
}

// sharedReading is another control node's place in the reports, and in what
// routers told this one.
type sharedReading struct {
	tables *tables
	*reading
	learned *feed.Cursor
	// whole: the end of that was told.
	whole bool
	wake  chan struct{}
}

// readShared begins to read the reports, where an earlier reading ended if that
// can be.
func (t *tables) readShared(earlier *controlv1.TableCursor) *sharedReading {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &sharedReading{tables: t, wake: make(chan struct{}, 1), reading: &reading{}}
	poke := func() {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	if earlier != nil {
		r.unicast = t.shared.Resume(poke, earlier.GetTable(), earlier.GetAt())
	}
	if r.resumed = r.unicast != nil; !r.resumed {
		r.unicast = t.shared.Read(poke)
	}
	r.learned = t.learnedFeed.Read(poke)
	return r
}

func (r *sharedReading) close() {
	r.tables.mu.Lock()
	defer r.tables.mu.Unlock()
	r.reading.close()
	r.learned.Close()
}

// collect takes the next messages, with the place after them; more says that
// there are more.
func (r *sharedReading) collect() (out [][]byte, more bool) {
	r.tables.mu.Lock()
	defer r.tables.mu.Unlock()
	if r.resumed {
		r.resumed = false
		out = append(out, encode(&controlv1.ExchangeMessage{Body: &controlv1.ExchangeMessage_Resumed{Resumed: true}}))
	}
	out, done := r.unicast.Next(out, batch)
	if !done {
		return out, true
	}
	if r.end() {
		out = append(out, encode(&controlv1.ExchangeMessage{Body: &controlv1.ExchangeMessage_EndOfReports{EndOfReports: true}}))
	}
	if place := r.place(); place != nil {
		out = append(out, encode(&controlv1.ExchangeMessage{Cursor: place}))
	}
	if out, done = r.learned.Next(out, max(batch-len(out), 0)); !done {
		return out, true
	}
	if !r.whole && !r.tables.border.isReturning() {
		r.whole = true
		out = append(out, encode(&controlv1.ExchangeMessage{Body: &controlv1.ExchangeMessage_EndOfLearned{EndOfLearned: true}}))
	}
	return out, false
}
