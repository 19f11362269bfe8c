package vrouter

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// noTarget is for tables that are looked at and never run.
type noTarget[K comparable] struct{}

func (noTarget[K]) List(context.Context) (map[K]dataplane.NextHop, error) { return nil, nil }
func (noTarget[K]) Put(context.Context, K, dataplane.NextHop) error       { return nil }
func (noTarget[K]) Delete(context.Context, K) error                       { return nil }

const ownAddress = "172.31.0.11"

func newTestRouting() *routing {
	r := newRouting(quiet(), netip.MustParseAddr(ownAddress))
	r.usesVRF = func(uint32) bool { return false }
	r.portsChanged = func() {}
	r.routes = reconcile.New(quiet(), noTarget[dataplane.RouteKey]{}, reconcile.Options[dataplane.RouteKey, dataplane.NextHop]{
		Name: "routes", Equal: func(a, b dataplane.NextHop) bool { return a == b }, MayDelete: r.mayDelete,
	})
	r.macs = reconcile.New(quiet(), noTarget[dataplane.MACKey]{}, reconcile.Options[dataplane.MACKey, dataplane.NextHop]{
		Name: "macs", Equal: func(a, b dataplane.NextHop) bool { return a == b },
	})
	return r
}

func (r *routing) desired() map[dataplane.RouteKey]dataplane.NextHop {
	all := map[dataplane.RouteKey]dataplane.NextHop{}
	for _, o := range r.routes.Objects() {
		all[o.Key] = o.Value
	}
	return all
}

func at(revision uint64) *typesv1.Position { return &typesv1.Position{Epoch: 1, Revision: revision} }

func portMessage(id string, vrf uint32) *controlv1.ControlMessage {
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_Port{Port: &controlv1.Port{InterfaceId: id, Vrf: vrf}}}
}

func routeMessage(vrf uint32, prefix, nextHop string, label uint32, id string) *controlv1.ControlMessage {
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_Route{Route: &controlv1.Route{
		Vrf: vrf, Prefix: prefix, Paths: []*controlv1.Path{{NextHop: nextHop, Label: label, InterfaceId: id}},
	}}}
}

func routeGone(vrf uint32, prefix string) *controlv1.ControlMessage {
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_RouteGone{RouteGone: &controlv1.RouteGone{Vrf: vrf, Prefix: prefix}}}
}

func endOfPorts() *controlv1.ControlMessage {
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_EndOfTable{EndOfTable: &controlv1.EndOfTable{Table: &controlv1.EndOfTable_Ports{Ports: true}}}}
}

func endOfVRF(vrf uint32) *controlv1.ControlMessage {
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_EndOfTable{EndOfTable: &controlv1.EndOfTable{Table: &controlv1.EndOfTable_Vrf{Vrf: vrf}}}}
}

// say applies messages at a position, which the last completes.
func (r *routing) say(v *view, revision uint64, messages ...*controlv1.ControlMessage) {
	for i, m := range messages {
		m.Position, m.Complete = at(revision), i == len(messages)-1
		r.apply(v, m)
	}
}

// begin is say with messages that complete nothing.
func (r *routing) begin(v *view, revision uint64, messages ...*controlv1.ControlMessage) {
	for _, m := range messages {
		m.Position = at(revision)
		r.apply(v, m)
	}
}

// next is a new session after one that ended.
func (r *routing) next(old *view) *view {
	r.endView(old)
	return r.newView(nil)
}

func key(vrf uint32, prefix string) dataplane.RouteKey {
	return dataplane.RouteKey{VRF: vrf, Prefix: netip.MustParsePrefix(prefix)}
}

func TestNextHops(t *testing.T) {
	r := newTestRouting()
	v := r.newView(nil)
	r.say(v, 1,
		portMessage("here", 1),
		routeMessage(1, "10.0.0.3/32", ownAddress, 20, "here"),
		routeMessage(1, "10.0.0.5/32", "172.31.0.12", 22, "there"),
		routeMessage(1, "10.0.0.6/32", "none", 22, "there"),
		routeMessage(1, "none", "172.31.0.12", 22, "there"),
	)
	want := map[dataplane.RouteKey]dataplane.NextHop{
		key(1, "10.0.0.3/32"): {Kind: dataplane.Local, Label: 20},
		key(1, "10.0.0.5/32"): {Kind: dataplane.Tunnel, Remote: netip.MustParseAddr("172.31.0.12"), Label: 22},
		key(1, "10.0.0.6/32"): {Kind: dataplane.Discard},
	}
	if got := r.desired(); !maps.Equal(got, want) {
		t.Errorf("routes %v, want %v", got, want)
	}
}

// TestPathsBeyondTheDataPlane: what the data plane cannot do is not attempted.
func TestPathsBeyondTheDataPlane(t *testing.T) {
	r := newTestRouting()
	tunnel := dataplane.NextHop{Kind: dataplane.Tunnel, Remote: netip.MustParseAddr("172.31.0.12"), Label: 16}
	for name, test := range map[string]struct {
		paths []*controlv1.Path
		want  dataplane.NextHop
	}{
		"old control node": {[]*controlv1.Path{{NextHop: "172.31.0.12", Label: 16}}, tunnel},
		"several":          {[]*controlv1.Path{{NextHop: "172.31.0.12", Label: 16, Encapsulations: []controlv1.Encapsulation{vxlan, udp}}}, tunnel},
		"vxlan only":       {[]*controlv1.Path{{NextHop: "172.31.0.12", Label: 16, Encapsulations: []controlv1.Encapsulation{vxlan}}}, dataplane.NextHop{Kind: dataplane.Discard}},
		"foreign":          {[]*controlv1.Path{{NextHop: "172.31.0.12", Label: 16, Foreign: true}}, tunnel},
		"foreign and here": {[]*controlv1.Path{{NextHop: ownAddress, Label: 17, Foreign: true}}, dataplane.NextHop{Kind: dataplane.Local, Label: 17}},
		"equal paths": {
			[]*controlv1.Path{{NextHop: "172.31.0.12", Label: 16, Weight: 3}, {NextHop: ownAddress, Label: 17, Behind: true}},
			dataplane.Share([]dataplane.Member{{NextHop: tunnel, Weight: 3}, {NextHop: dataplane.NextHop{Kind: dataplane.Local, Label: 17, Behind: true}}}),
		},
	} {
		if got := r.nextHop(test.paths); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}

func TestNothingGoesBeforeTheSnapshotIsComplete(t *testing.T) {
	r := newTestRouting()
	first := r.newView(nil)
	r.say(first, 5, portMessage("a", 1), endOfPorts(),
		routeMessage(1, "10.0.0.3/32", "172.31.0.12", 20, "x"), routeMessage(1, "10.0.0.4/32", "172.31.0.12", 21, "y"), endOfVRF(1))
	second := r.next(first)
	r.say(second, 6, portMessage("a", 1), routeMessage(1, "10.0.0.3/32", "172.31.0.13", 30, "x"))
	if got := r.desired(); len(got) != 2 || got[key(1, "10.0.0.3/32")].Label != 30 {
		t.Errorf("in the middle of a snapshot: %v, want both, the first changed", got)
	}
	r.say(second, 6, endOfPorts(), endOfVRF(1))
	if got := r.desired(); len(got) != 1 {
		t.Errorf("after the snapshot: %v, want one", got)
	}
}

func TestSessionThatIsBehindIsNotBelieved(t *testing.T) {
	r := newTestRouting()
	first := r.newView(nil)
	r.say(first, 10, portMessage("a", 1), endOfPorts(), routeMessage(1, "10.0.0.3/32", "172.31.0.12", 20, "x"), endOfVRF(1))
	behind := r.next(first)
	r.say(behind, 8, endOfPorts())
	r.say(behind, 9, portMessage("a", 1), endOfVRF(1), routeMessage(1, "10.0.0.9/32", "172.31.0.12", 29, "z"))
	if got := r.desired(); len(got) != 1 || got[key(1, "10.0.0.3/32")].Label != 20 {
		t.Errorf("routes %v changed by a session that is behind", got)
	}
	r.say(behind, 10, &controlv1.ControlMessage{Body: &controlv1.ControlMessage_KeepAlive{KeepAlive: &controlv1.KeepAlive{}}})
	if got := r.desired(); len(got) != 1 || got[key(1, "10.0.0.9/32")].Label != 29 {
		t.Errorf("routes %v after it has caught up, want what it said", got)
	}
}

func TestMayDelete(t *testing.T) {
	r := newTestRouting()
	v := r.newView(nil)
	in := func(vrf uint32) bool { return r.mayDelete(key(vrf, "10.0.0.3/32")) }
	if in(1) {
		t.Error("a route may go before any session")
	}
	r.say(v, 1, portMessage("a", 1), routeMessage(1, "10.0.0.9/32", "172.31.0.12", 20, "x"))
	if in(1) || in(2) {
		t.Error("a route may go before the tables are closed")
	}
	r.say(v, 1, endOfPorts())
	if in(1) || !in(2) {
		t.Errorf("needed VRF may be cleaned: %v, want not yet; other VRF: %v, want yes", in(1), in(2))
	}
	r.say(v, 1, endOfVRF(1))
	if !in(1) {
		t.Error("a route may not go after its table is closed")
	}
}

func TestAbsenceNeedsANewerSnapshot(t *testing.T) {
	r := newTestRouting()
	v := r.newView(nil)
	absent := func(epoch, revision uint64) bool {
		_, absent := r.graphPort(&record{ID: "p", Epoch: epoch, Revision: revision})
		return absent
	}
	r.say(v, 10, portMessage("q", 1))
	if absent(1, 5) {
		t.Error("absent before the table is closed")
	}
	r.say(v, 10, endOfPorts())
	for _, tt := range []struct {
		epoch, revision uint64
		want            bool
	}{{1, 5, true}, {1, 10, true}, {1, 11, false}, {2, 5, false}, {1, 0, false}} {
		if got := absent(tt.epoch, tt.revision); got != tt.want {
			t.Errorf("port of epoch %d, revision %d: absent %v, want %v", tt.epoch, tt.revision, got, tt.want)
		}
	}
}

// A new session that has not told its ports yet takes away none, however new
// the position is that it begins with.
func TestAbsenceNeedsThePortsOfTheSession(t *testing.T) {
	r := newTestRouting()
	told := 0
	r.portsChanged = func() { told++ }
	old := r.newView(nil)
	r.say(old, 5, endOfPorts())
	rec := &record{ID: "vmi", Epoch: 1, Revision: 7}
	begin := &controlv1.ControlMessage{Position: at(9), Body: &controlv1.ControlMessage_Cluster{Cluster: &controlv1.Cluster{Mtu: 1468}}}
	next := r.next(old)
	told = 0
	r.apply(next, begin)
	if _, absent := r.graphPort(rec); absent || told > 0 {
		t.Errorf("absent %v, told %d times, before the session told its ports", absent, told)
	}
	r.say(next, 9, endOfPorts())
	if _, absent := r.graphPort(rec); !absent || told == 0 {
		t.Errorf("absent %v, told %d times, when the session has told its ports without it", absent, told)
	}
}

// TestSessionsAgainstModel: whatever sessions come and go, once one has closed
// all tables, exactly what it says is desired.
func TestSessionsAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newTestRouting()
		revision := uint64(1)
		var v *view
		vrfs := rapid.SliceOfDistinct(rapid.Uint32Range(1, 3), func(v uint32) uint32 { return v })
		for session := range rapid.IntRange(1, 3).Draw(t, "sessions") {
			v = r.next(v)
			want := map[dataplane.RouteKey]uint32{}
			said := vrfs.Draw(t, "vrfs")
			for _, vrf := range said {
				r.say(v, revision, portMessage(fmt.Sprint("port", session, vrf), vrf))
			}
			r.say(v, revision, endOfPorts())
			for _, vrf := range said {
				closed := false
				for range rapid.IntRange(0, 8).Draw(t, "messages") {
					revision++
					prefix := fmt.Sprintf("10.0.0.%d/32", rapid.IntRange(1, 4).Draw(t, "host"))
					switch {
					case !closed && rapid.Bool().Draw(t, "close"):
						closed = true
						r.say(v, revision, endOfVRF(vrf))
					case rapid.Bool().Draw(t, "gone"):
						delete(want, key(vrf, prefix))
						r.say(v, revision, routeGone(vrf, prefix))
					default:
						label := rapid.Uint32Range(16, 20).Draw(t, "label")
						want[key(vrf, prefix)] = label
						r.say(v, revision, routeMessage(vrf, prefix, "172.31.0.12", label, "x"))
					}
				}
				if !closed {
					r.say(v, revision, endOfVRF(vrf))
				}
			}
			got := map[dataplane.RouteKey]uint32{}
			for k, nh := range r.desired() {
				got[k] = nh.Label
			}
			if !maps.Equal(got, want) {
				t.Fatalf("session %d: routes %v, want %v", session, got, want)
			}
		}
	})
}

// TestUnneededVRFGoes: the node's own port may go before or after control says
// that the VRF is not needed.
func TestUnneededVRFGoes(t *testing.T) {
	for _, early := range []bool{false, true} {
		r := newTestRouting()
		used := true
		r.usesVRF = func(uint32) bool { return used }
		route := key(1, "10.0.0.3/32")
		v := r.newView(nil)
		r.say(v, 1, portMessage("p", 1), endOfPorts(), routeMessage(1, "10.0.0.3/32", "172.31.0.12", 20, "there"), endOfVRF(1))
		used = !early
		r.dropUnneeded()
		if _, ok := r.desired()[route]; !ok {
			t.Fatal("a route is gone that the session told and did not withdraw")
		}
		r.say(v, 2, portGone("p"), vrfGone(1))
		if r.mayDelete(route) != early {
			t.Errorf("may delete %t although the port is still here: %t", !early, used)
		}
		used = false
		r.dropUnneeded()
		if !r.mayDelete(route) || len(r.desired()) != 0 {
			t.Errorf("left %v, may delete %t", r.desired(), r.mayDelete(route))
		}
	}
	// A session that never hears of the VRF: the port went between two sessions.
	r := newTestRouting()
	used := true
	r.usesVRF = func(uint32) bool { return used }
	v := r.newView(nil)
	r.say(v, 1, portMessage("p", 1), endOfPorts(), routeMessage(1, "10.0.0.3/32", "172.31.0.12", 20, "there"), endOfVRF(1))
	r.say(r.next(v), 2, endOfPorts())
	if len(r.desired()) != 1 {
		t.Error("the routes of a port that is here are gone")
	}
	used = false
	r.dropUnneeded()
	if !r.mayDelete(key(1, "10.0.0.3/32")) || len(r.desired()) != 0 {
		t.Errorf("left %v", r.desired())
	}
}

func portGone(id string) *controlv1.ControlMessage {
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_PortGone{PortGone: &controlv1.PortGone{InterfaceId: id}}}
}

func vrfGone(vrf uint32) *controlv1.ControlMessage {
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_VrfGone{VrfGone: &controlv1.VrfGone{Vrf: vrf}}}
}
