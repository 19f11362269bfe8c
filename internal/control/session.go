package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
)

const (
	// batch is the most messages that a session takes under the tables' lock.
	batch = 256
	// maxEarly bounds the early reports kept for one node.
	maxEarly = 1024
)

// session is one agent's stream. Its cursors are protected by the tables'
// lock; run is its only sender.
type session struct {
	tables *tables
	node   *node
	bootID string
	since  time.Time
	// ended is closed when run has returned and the node has no session.
	ended chan struct{}
	wake  chan struct{}
	end   context.CancelCauseFunc

	// limit is the most messages taken at once, about.
	limit int
	// mtu, encapsulations and settling are what the agent was told of the
	// cluster, and colleagues which version of the control nodes.
	mtu            uint32
	encapsulations []compile.Encapsulation
	bgp            string
	settling       bool
	colleagues     int
	// fabric is the version of what it was told of that.
	fabric uint64
	// cutOff is what the agent was told of that.
	cutOff bool
	// layer2: the agent wants MAC and multicast routes too.
	layer2 bool
	ports  *reading
	// vrfs are those that the node's ports need, by number. They are chosen anew
	// when the node needs others, or other feeds are there than chosen names.
	vrfs   []*reading
	choose bool
	chosen uint64
	// earlier are the places of the agent's last session, by VRF.
	earlier map[uint32]*controlv1.TableCursor
	sent    uint64
}

// open makes the session of a node, if it has none.
func (t *tables) open(id string, hello *controlv1.Hello, end context.CancelCauseFunc) (s, other *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.node(id)
	if n.session != nil {
		return nil, n.session
	}
	s = &session{
		tables: t, node: n, bootID: hello.GetBootId(), layer2: hello.GetLayer2(), since: time.Now(), end: end,
		ended: make(chan struct{}), wake: make(chan struct{}, 1), limit: batch, choose: true,
	}
	n.session = s
	s.earlier = make(map[uint32]*controlv1.TableCursor, len(hello.GetTables()))
	for _, c := range hello.GetTables() {
		s.earlier[c.GetVrf()] = c
	}
	s.ports = s.read(portsTable, n.feed, nil)
	t.sessions[s] = struct{}{}
	t.begin(n, hello.GetBootId())
	t.flush()
	return s, nil
}

// close ends a session.
func (s *session) close() {
	t, n := s.tables, s.node
	t.mu.Lock()
	defer t.mu.Unlock()
	s.ports.close()
	for _, r := range s.vrfs {
		r.close()
	}
	delete(t.sessions, s)
	delete(t.touched, s)
	n.session = nil
	t.end(n)
	t.tidyNode(n)
	t.flush()
	close(s.ended)
}

func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run sends what changes until ctx ends or sending fails, and when there is
// nothing to send, a keep-alive every interval.
func (s *session) run(ctx context.Context, to *sender) error {
	ticker := time.NewTicker(to.every)
	defer ticker.Stop()
	bodies := make([][]byte, 0, batch+16)
	for {
		position, out, more := s.collect(bodies[:0])
		if err := to.all(frames(position, out, !more)); err != nil {
			return err
		}
		if more && ctx.Err() == nil {
			continue
		}
		to.complete()
		select {
		case <-s.wake:
		case <-ticker.C:
			if err := to.all(s.keepAlive()); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// frames are messages at a position, each valid until the next. The last one
// completes it, unless there is more to say.
func frames(position *stamp, bodies [][]byte, complete bool) iter.Seq[*frame] {
	return func(yield func(*frame) bool) {
		f := &frame{position: position.plain}
		for i, body := range bodies {
			f.body = body
			if complete && i == len(bodies)-1 {
				f.position = position.complete
			}
			if !yield(f) {
				return
			}
		}
	}
}

// keepAlive is a message with the position that everything sent so far stands
// for; none when there is more to send, which carries the position.
func (s *session) keepAlive() iter.Seq[*frame] {
	s.tables.mu.Lock()
	defer s.tables.mu.Unlock()
	var bodies [][]byte
	if len(s.wake) == 0 {
		bodies = append(bodies, keepAliveMessage(s.cutOff, s.places()))
	}
	return frames(s.tables.stamp(), bodies, true)
}

// collect takes the next messages: cluster values, ports, then the routes of
// the VRFs that the ports need. more says that there is more.
func (s *session) collect(out [][]byte) (position *stamp, _ [][]byte, more bool) {
	t := s.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	position = t.stamp()
	defer func() { s.sent += uint64(len(out)) }()
	if s.outdated() {
		s.mtu, s.encapsulations, s.settling, s.colleagues = t.mtu, t.encapsulations, s.settling || t.settling, t.colleagues.version
		s.bgp = t.border.takesAt
		out = append(out, clusterMessage(s.mtu, s.settling, t.colleagues, s.encapsulations, s.bgp))
	}
	if s.fabric != t.fabric.version {
		s.fabric = t.fabric.version
		out = append(out, t.fabric.message)
	}
	out, done := s.ports.next(out, s.limit)
	if !done {
		return position, out, true
	}
	ended := s.ports.end()
	if ended {
		out = append(out, endOfPortsMessage())
	}
	if s.choose || s.chosen != t.rib.FeedsVersion() {
		out = s.chooseVRFs(out)
	}
	for _, r := range s.vrfs {
		if r.synced && r.behind() == 0 {
			continue
		}
		if out, done = r.next(out, max(s.limit-len(out), 0)); !done {
			return position, out, true
		}
		if !t.returning() && r.end() {
			ended = true
			out = append(out, endOfVRFMessage(r.number))
		}
	}
	if ended || s.cutOff != t.cutOff {
		s.cutOff = t.cutOff
		out = append(out, keepAliveMessage(s.cutOff, s.places()))
	}
	if s.settling && !t.settling { // now that all has been sent
		s.settling = false
		out = append(out, clusterMessage(s.mtu, false, t.colleagues, s.encapsulations, s.bgp))
	}
	return position, out, false
}

// outdated tells whether the agent was told other values of the cluster.
func (s *session) outdated() bool {
	t := s.tables
	return s.mtu != t.mtu || t.settling && !s.settling || s.colleagues != t.colleagues.version ||
		s.bgp != t.border.takesAt || !slices.Equal(s.encapsulations, t.encapsulations)
}

// chooseVRFs makes the session's VRFs those that the node's ports need.
func (s *session) chooseVRFs(out [][]byte) [][]byte {
	s.choose, s.chosen = false, s.tables.rib.FeedsVersion()
	s.vrfs = slices.DeleteFunc(s.vrfs, func(r *reading) bool {
		unicast, _, ok := s.tables.rib.Feeds(r.number)
		if ok && r.unicast.Of(unicast) && s.node.vrfs[r.number] > 0 {
			return false
		}
		r.close()
		out = append(out, vrfGoneMessage(r.number))
		return true
	})
	for number := range s.node.vrfs {
		unicast, layer2, ok := s.tables.rib.Feeds(number)
		at, has := slices.BinarySearchFunc(s.vrfs, number, func(r *reading, n uint32) int { return cmp.Compare(r.number, n) })
		if has || !ok {
			continue
		}
		if !s.layer2 {
			layer2 = nil
		}
		s.vrfs = slices.Insert(s.vrfs, at, s.read(number, unicast, layer2))
	}
	return out
}

// report takes an agent's word on a port.
func (s *session) report(status *controlv1.PortStatus) error {
	if status.InterfaceId == "" {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("port_status.interface_id is empty"))
	}
	t := s.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.node.session != s {
		return nil
	}
	p, ok := t.ports[status.InterfaceId]
	bound := ok && p.Node == s.node.id
	said := wordOf(status)
	switch {
	case status.State != controlv1.PortStatus_STATE_UP && status.State != controlv1.PortStatus_STATE_DOWN:
		return connect.NewError(connect.CodeInvalidArgument,
			fmt.Errorf("port_status.state: %d is neither up nor down", status.State))
	case bound:
		s.node.own().words[status.InterfaceId] = said
	case !said.up:
		delete(s.node.early, status.InterfaceId)
		delete(s.node.own().words, status.InterfaceId)
	case !s.hold(status.InterfaceId):
		return nil
	default:
		s.node.own().words[status.InterfaceId] = said
	}
	t.share(s.node)
	if bound && t.judge(p) {
		t.announce(p)
	}
	t.flush()
	return nil
}

// hold tells whether the word on a port that the graph does not bind to the node
// is kept. It has no effect unless the graph comes to do so.
func (s *session) hold(iface string) bool {
	t, early := s.tables, s.node.early
	t.metrics.held.Inc()
	if _, held := early[iface]; held {
		return true
	}
	if len(early) >= maxEarly {
		t.metrics.dropped.Inc()
		t.warn("node reports too many ports that are not bound to it", "node", s.node.id, "interface", iface, "held", len(early))
		return false
	}
	early[iface] = time.Now()
	return true
}

// overdue is how long a report may be held before it is no accident: the graph
// of a control node is behind its agents by less.
const overdue = 10 * time.Second

// alarm names the reports that are held for too long, each once.
func (t *tables) alarm(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.nodes {
		for iface, since := range n.early {
			if since.IsZero() || now.Sub(since) < overdue {
				continue
			}
			n.early[iface] = time.Time{} // is named
			t.metrics.alarmed.Inc()
			t.warn("node says that a port is up which the store does not bind to it; the report is held and not used", "node", n.id, "interface", iface)
		}
	}
}

// warn logs what one node could cause again and again.
func (t *tables) warn(message string, attributes ...any) {
	if silent, ok := t.warnings.Admit(time.Now()); ok {
		t.log.Warn(message, append(attributes, "not_logged", silent)...)
	}
}
