package vrouter

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

func keepAlive(cutOff bool) *controlv1.ControlMessage {
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_KeepAlive{KeepAlive: &controlv1.KeepAlive{CutOff: cutOff}}}
}

// whole is all that a session says of one VRF with one route.
func whole(label uint32) []*controlv1.ControlMessage {
	return []*controlv1.ControlMessage{
		portMessage("p", 1), endOfPorts(), routeMessage(1, "10.0.0.3/32", "172.31.0.12", label, "x"), endOfVRF(1),
	}
}

func (r *routing) label() uint32 { return r.desired()[key(1, "10.0.0.3/32")].Label }

func TestTheOtherSessionTakesOver(t *testing.T) {
	r := newTestRouting()
	one, two := r.newView(nil), r.newView(nil)
	r.say(one, 5, whole(20)...)
	r.say(two, 4, whole(19)...)
	r.endView(one)
	if r.label() != 20 || r.leader != nil {
		t.Errorf("label %d, leader %v; a session that is behind must not be believed", r.label(), r.leader)
	}
	r.say(two, 6, routeMessage(1, "10.0.0.3/32", "172.31.0.12", 21, "x"))
	if r.label() != 21 {
		t.Errorf("label %d, want 21 of the session that has caught up", r.label())
	}
	// One that is there already does so at once.
	three := r.newView(nil)
	r.say(three, 7, whole(22)...)
	if r.label() != 21 {
		t.Error("the leader changed without a reason")
	}
	r.endView(two)
	if r.label() != 22 || r.seen().GetRevision() != 7 {
		t.Errorf("label %d at %v, want 22 at 7", r.label(), r.seen())
	}
	r.endView(three)
	if r.label() != 22 {
		t.Error("the end of the last session changed a route")
	}
}

func TestControlNodeThatIsCutOffDoesNotLead(t *testing.T) {
	r := newTestRouting()
	one, two := r.newView(nil), r.newView(nil)
	r.say(one, 5, whole(20)...)
	r.say(two, 5, whole(20)...)
	r.say(one, 5, keepAlive(true))
	if r.leader != two || r.standing(one).bad == "" || r.standing(two).bad != "" {
		t.Errorf("one is %+v, two %+v", r.standing(one), r.standing(two))
	}
	r.say(two, 6, routeMessage(1, "10.0.0.3/32", "172.31.0.12", 21, "x"))
	r.say(two, 6, keepAlive(true)) // now nobody is better
	r.say(one, 5, keepAlive(true))
	if r.label() != 21 || r.leader != two {
		t.Errorf("label %d", r.label())
	}
}

// A control node that hangs is late as soon as another has been ahead for a
// while, and bad when that one has sent keep-alives since.
func TestLateControlNodeIsLeft(t *testing.T) {
	r := newTestRouting()
	r.patience = time.Hour // the test judges itself
	one, two := r.newView(nil), r.newView(nil)
	r.say(one, 5, whole(20)...)
	r.say(two, 5, whole(20)...)
	r.say(two, 6, routeMessage(1, "10.0.0.3/32", "172.31.0.12", 21, "x"))
	if r.label() != 20 || one.mark == nil {
		t.Errorf("label %d, mark %v", r.label(), one.mark)
	}
	r.judge(one)
	if r.label() != 21 || r.standing(one).bad != "" {
		t.Errorf("label %d, one is %+v", r.label(), r.standing(one))
	}
	for range lateBeats {
		r.say(two, 6, keepAlive(false))
	}
	if r.standing(one).bad == "" {
		t.Error("one is not bad")
	}
	r.say(one, 6, routeMessage(1, "10.0.0.3/32", "172.31.0.12", 21, "x"))
	if s := r.standing(one); s.bad != "" || !s.complete || s.leads {
		t.Errorf("one has caught up, and is %+v", s)
	}
	// Who keeps up is never late.
	r.say(one, 8, keepAlive(false))
	r.say(two, 8, keepAlive(false))
	r.judge(two)
	if two.late {
		t.Error("two is late")
	}
}

// TestPositionOfABatch: in the middle of a batch of messages a port may be
// missing that another message of the batch tells.
func TestPositionOfABatch(t *testing.T) {
	r := newTestRouting()
	v := r.newView(nil)
	r.say(v, 5, whole(20)...)
	r.begin(v, 9, portMessage("q", 1))
	rec := &record{ID: "vmi", Epoch: 1, Revision: 8}
	if _, absent := r.graphPort(rec); absent {
		t.Error("a port is absent that the batch may still tell")
	}
	r.say(v, 9, portMessage("vmi", 1))
	if p, absent := r.graphPort(rec); absent || p == nil {
		t.Errorf("port %v, absent %v", p, absent)
	}
}

// script is a store whose revisions tests make, control nodes that are
// somewhere in them, and what these told in their sessions.
type script struct {
	history []map[string]uint32 // routes of VRF 1 by prefix, at each revision
	nodes   []*scriptNode
	routing *routing
}

type scriptNode struct {
	at      int
	view    *view
	told    map[string]uint32
	begun   bool
	pending []*controlv1.ControlMessage
}

// fill has a control node say what is new; the messages wait to be delivered.
func (s *script) fill(n *scriptNode) {
	if n.view == nil || len(n.pending) > 0 {
		return
	}
	now := s.history[n.at]
	if !n.begun {
		n.pending = append(n.pending, clusterSays(false), portMessage("p", 1), endOfPorts())
	}
	for prefix, label := range now {
		if n.told[prefix] != label {
			n.pending = append(n.pending, routeMessage(1, prefix, "172.31.0.12", label, "x"))
		}
	}
	for prefix := range n.told {
		if now[prefix] == 0 {
			n.pending = append(n.pending, routeGone(1, prefix))
		}
	}
	if !n.begun {
		n.pending = append(n.pending, endOfVRF(1))
	}
	n.pending = append(n.pending, keepAlive(false))
	n.begun, n.told = true, maps.Clone(now)
	for i, m := range n.pending {
		m.Position, m.Complete = at(uint64(n.at+1)), i == len(n.pending)-1
	}
}

func (s *script) deliver(n *scriptNode, count int) {
	for range min(count, len(n.pending)) {
		s.routing.apply(n.view, n.pending[0])
		n.pending = n.pending[1:]
	}
}

func (s *script) disconnect(n *scriptNode) {
	if n.view != nil {
		s.routing.endView(n.view)
	}
	*n = scriptNode{at: n.at}
}

// TestInterleavedSessions: however sessions with control nodes that lag come
// and go, no route goes back to what it was before, none that stays in the
// store is ever missing, and in the end there is what one undisturbed session
// would have told.
func TestInterleavedSessions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &script{routing: newTestRouting(), history: []map[string]uint32{{"10.0.0.1/32": 1, "10.0.0.2/32": 1}}}
		s.routing.patience = time.Hour
		for range 3 {
			s.nodes = append(s.nodes, &scriptNode{})
		}
		before := map[dataplane.RouteKey]uint32{}
		check := func(t *rapid.T) {
			now := map[dataplane.RouteKey]uint32{}
			for k, nh := range s.routing.desired() {
				now[k] = nh.Label
			}
			for k, label := range before {
				switch {
				case now[k] != 0 && now[k] < label:
					t.Fatalf("%v went back from %d to %d", k, label, now[k])
				case now[k] == 0 && s.always(k, int(label)):
					t.Fatalf("%v is gone, which the store has had since %d", k, label)
				}
			}
			before = now
		}
		node := func(t *rapid.T) *scriptNode { return rapid.SampledFrom(s.nodes).Draw(t, "node") }
		t.Repeat(map[string]func(*rapid.T){
			"": check,
			"change": func(t *rapid.T) {
				next := maps.Clone(s.history[len(s.history)-1])
				prefix := fmt.Sprintf("10.0.0.%d/32", rapid.IntRange(1, 5).Draw(t, "host"))
				if rapid.Bool().Draw(t, "gone") {
					delete(next, prefix)
				} else {
					next[prefix] = uint32(len(s.history) + 1)
				}
				s.history = append(s.history, next)
			},
			"advance": func(t *rapid.T) {
				n := node(t)
				n.at = rapid.IntRange(n.at, len(s.history)-1).Draw(t, "to")
			},
			"connect": func(t *rapid.T) {
				if n := node(t); n.view == nil {
					n.view = s.routing.newView(nil)
				}
			},
			"disconnect": func(t *rapid.T) { s.disconnect(node(t)) },
			"restart": func(t *rapid.T) {
				n := node(t)
				s.disconnect(n)
				n.at = rapid.IntRange(0, n.at).Draw(t, "to")
			},
			"deliver": func(t *rapid.T) {
				n := node(t)
				s.fill(n)
				s.deliver(n, rapid.IntRange(1, 8).Draw(t, "messages"))
			},
			"judge": func(t *rapid.T) {
				if n := node(t); n.view != nil && n.view.mark != nil {
					s.routing.judge(n.view)
				}
			},
		})
		last := node(t)
		if last.view == nil {
			last.view = s.routing.newView(nil)
		}
		for _, n := range s.nodes {
			n.at = len(s.history) - 1
			for range 2 { // what was under way, then the rest
				s.fill(n)
				s.deliver(n, len(n.pending))
			}
		}
		got := map[string]uint32{}
		for k, nh := range s.routing.desired() {
			got[k.Prefix.String()] = nh.Label
		}
		if want := s.history[len(s.history)-1]; !maps.Equal(got, want) {
			t.Fatalf("routes %v, want %v", got, want)
		}
	})
}

// always tells whether the store has had a route since a revision.
func (s *script) always(k dataplane.RouteKey, since int) bool {
	for _, routes := range s.history[since-1:] {
		if routes[k.Prefix.String()] == 0 {
			return false
		}
	}
	return true
}
