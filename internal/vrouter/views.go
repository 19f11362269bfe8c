package vrouter

import (
	"maps"
	"slices"
	"time"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
)

// view is one session's tables, and how far they are.
type view struct {
	tables
	// position up to which the session has said everything; nil at first.
	position *typesv1.Position
	// heard is the position of its last message.
	heard *typesv1.Position
	// settling: after a restore, what the session says lacks what other nodes
	// have not reported yet. It is only listened to.
	settling bool
	// preferred are the encapsulations as the session has them.
	preferred []controlv1.Encapsulation
	// fabric is what the session said of NAT to the fabric; nil as long as it has not.
	fabric *controlv1.Fabric
	// cutOff: the control node says that it does not hear from the store.
	cutOff bool
	// late: another view got to a position, and this one did not for a while.
	// The bound is one of progress: the time is that of this node alone, and a
	// store in which nothing happens makes nobody late.
	late bool
	// beats are the keep-alives of the others while this one has been late.
	beats int
	// places are how far the session is in each table, for the next one with the
	// same control node; earlier is what the one before had.
	places  map[uint32]*controlv1.TableCursor
	earlier *view
	// mark is the position that another got to, while it is waited for.
	mark *typesv1.Position
}

// lateBeats is for how many keep-alives of another a view may be late before
// its control node is left.
const lateBeats = 2

// newView is for a new session with a control node. earlier is the view of the
// last one, nil if there was none.
func (r *routing) newView(earlier *view) *view {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := &view{tables: newTables(), places: map[uint32]*controlv1.TableCursor{}, earlier: earlier}
	r.views = append(r.views, v)
	return v
}

// maxPlaces bounds what Hello says; the control node takes no longer message.
const maxPlaces = 1000

// hello begins a session: it says what the agent has of the one before.
func (r *routing) hello(v *view, bootID string) *controlv1.Hello {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := &controlv1.Hello{BootId: bootID, Seen: r.position, Layer2: true}
	if v.earlier == nil {
		return h
	}
	for _, number := range slices.Sorted(maps.Keys(v.earlier.places)) {
		if len(h.Tables) < maxPlaces {
			h.Tables = append(h.Tables, v.earlier.places[number])
		}
	}
	return h
}

// last is the view that the next session with the control node goes on from:
// that of the one which ended, unless it had not told everything yet.
func (r *routing) last(ended, before *view) *view {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ended == nil || ended.earlier != nil {
		return before
	}
	return ended
}

// resume takes a table over from the view before. Its end is announced as that
// of any other.
func (v *view) resume(number uint32) {
	switch {
	case v.earlier == nil:
	case number == 0:
		// What is believed may be the same maps.
		v.ports, v.policyTables = maps.Clone(v.earlier.ports), v.earlier.policyTables.clone()
	case v.earlier.vrfs[number] != nil:
		v.vrf(number).routes, v.vrf(number).layer2 = v.earlier.vrfs[number].routes, v.earlier.vrfs[number].layer2
	}
}

// notePlaces takes in how far the session is. When it has told everything, the
// view before is needed no more.
func (v *view) notePlaces(places []*controlv1.TableCursor) {
	for _, c := range places {
		v.places[c.GetVrf()] = c
	}
	if v.portsDone && v.position != nil {
		v.earlier = nil
	}
}

// endView is for the end of a session. What it said stays believed, until
// another view takes the lead.
func (r *routing) endView(v *view) {
	r.mu.Lock()
	r.views = slices.DeleteFunc(r.views, func(o *view) bool { return o == v })
	if r.leader == v {
		r.leader = nil
	}
	portsChanged := r.elect()
	r.mu.Unlock()
	if portsChanged {
		r.portsChanged()
	}
}

// standing is how a session does, for those who choose among control nodes.
type standing struct {
	// Complete: all tables were told, up to what is believed at least.
	complete bool
	leads    bool
	// bad says why the control node is not good enough; empty if it is.
	bad      string
	position *typesv1.Position
}

func (r *routing) standing(v *view) standing {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := standing{complete: v.portsDone && v.position != nil && r.eligible(v), leads: v == r.leader, position: v.position}
	switch {
	case v.cutOff:
		s.bad = "it does not hear from the store"
	case v.late && v.beats >= lateBeats:
		s.bad = "it is behind another control node"
	}
	return s
}

// mark notes how far a session is, and has the node report at once when it
// meets another epoch.
func (r *routing) mark(v *view, m *controlv1.ControlMessage) {
	p := m.GetPosition()
	if epoch := p.GetEpoch(); epoch > r.epoch {
		if r.epoch != 0 {
			r.newEpoch()
		}
		r.epoch = epoch
	}
	if p != nil {
		v.heard = p
	}
	if p == nil || !m.GetComplete() {
		return
	}
	if newer(p, v.position) {
		v.position = p
	}
	for _, o := range r.views {
		ahead := r.ahead(o)
		switch {
		case ahead == nil:
			o.late, o.beats = false, 0
		case o.late && ahead == v && m.GetKeepAlive() != nil:
			o.beats++
		case !o.late && o.mark == nil:
			o.mark = ahead.position
			time.AfterFunc(r.patience, func() { r.judge(o) })
		}
	}
}

// ahead is the newest view if it is ahead of another, else nil.
func (r *routing) ahead(of *view) (newest *view) {
	for _, v := range r.views {
		if newer(v.position, of.position) && (newest == nil || newer(v.position, newest.position)) {
			newest = v
		}
	}
	return newest
}

// judge finds a view late that has not reached the mark that was set for it.
func (r *routing) judge(v *view) {
	r.mu.Lock()
	v.late, v.mark = newer(v.mark, v.position), nil
	portsChanged := r.elect()
	r.mu.Unlock()
	if portsChanged {
		r.portsChanged()
	}
}

// eligible tells whether a view may be believed: it is whole, and not behind
// what is believed.
func (r *routing) eligible(v *view) bool {
	return v.heard != nil && !v.settling && !newer(r.heard, v.position)
}

// better tells whether a view leads rather than another. The leader stays as
// long as there is no reason to change.
func (r *routing) better(v, than *view) bool {
	switch {
	case than == nil:
		return true
	case v.position.GetEpoch() != than.position.GetEpoch():
		return newer(v.position, than.position)
	case v.cutOff != than.cutOff:
		return than.cutOff
	case v.late != than.late:
		return than.late
	}
	return false
}

// elect has the best view lead, if there is one that may.
func (r *routing) elect() (portsChanged bool) {
	if r.leader != nil && r.leader.settling {
		r.leader = nil
	}
	best := r.leader
	for _, v := range r.views {
		if v != best && r.eligible(v) && r.better(v, best) {
			best = v
		}
	}
	if best == r.leader {
		return false
	}
	r.leader = best
	r.adopt(best)
	r.advance(best)
	return true
}

// advance notes the position of what is believed when the leader has spoken.
func (r *routing) advance(v *view) {
	if v != r.leader {
		return
	}
	if newer(v.heard, r.heard) {
		r.heard = v.heard
	}
	if v.portsDone && newer(v.position, r.position) {
		r.position = v.position
	}
}
