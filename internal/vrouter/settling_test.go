package vrouter

import (
	"testing"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

func clusterSays(settling bool) *controlv1.ControlMessage {
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_Cluster{Cluster: &controlv1.Cluster{Mtu: 1400, Settling: settling}}}
}

// sayIn is say at a position of any epoch.
func (r *routing) sayIn(v *view, epoch, revision uint64, messages ...*controlv1.ControlMessage) {
	for i, m := range messages {
		m.Position, m.Complete = &typesv1.Position{Epoch: epoch, Revision: revision}, i == len(messages)-1
		r.apply(v, m)
	}
}

// After a restore the store lacks what nodes have not reported. Until it says
// that it is whole, the routes of before stay as they are, complete tables and
// other next hops or not.
func TestRestoredStoreIsNotBelievedBeforeItIsWhole(t *testing.T) {
	const mine, kept, late, moved = "10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32", "10.0.0.4/32"
	r := newTestRouting()
	first := r.newView(nil)
	r.say(first, 100, clusterSays(false), portMessage("a", 1), portMessage("b", 1), endOfPorts(),
		routeMessage(1, mine, ownAddress, 16, "a"), routeMessage(1, kept, "172.31.0.12", 17, "k"),
		routeMessage(1, late, "172.31.0.13", 18, "l"), routeMessage(1, moved, "172.31.0.14", 19, "m"), endOfVRF(1))
	before := r.desired()
	if len(before) != 4 {
		t.Fatalf("routes are %v, want 4", before)
	}
	told := 0
	r.newEpoch = func() { told++ }

	second := r.newView(nil)
	// The backup does not know the late one, and has what moved where it was.
	r.sayIn(second, 2, 5, clusterSays(true), portMessage("a", 1), endOfPorts(),
		routeMessage(1, mine, ownAddress, 16, "a"), routeMessage(1, kept, "172.31.0.12", 17, "k"),
		routeMessage(1, moved, "172.31.0.13", 20, "n"), endOfVRF(1), routeGone(1, kept))
	if told != 1 {
		t.Errorf("the node was told %d times of the new epoch, want once", told)
	}
	if now := r.desired(); !equalRoutes(now, before) {
		t.Errorf("routes while the store settles: %v, want those of before: %v", now, before)
	}
	if port, absent := r.graphPort(&record{ID: "b", Epoch: 1, Revision: 50}); port == nil || absent {
		t.Errorf("port b is %v, absent %t; want it to stay", port, absent)
	}

	// The nodes have reported.
	r.sayIn(second, 2, 9, routeMessage(1, kept, "172.31.0.12", 17, "k"), routeMessage(1, late, "172.31.0.13", 18, "l"),
		routeMessage(1, moved, "172.31.0.14", 19, "m"), clusterSays(false))
	if now := r.desired(); !equalRoutes(now, before) {
		t.Errorf("routes of the whole store: %v, want %v", now, before)
	}
	if r.seen().GetEpoch() != 2 {
		t.Errorf("position is %v, want epoch 2", r.seen())
	}
	// What is in the new epoch is newer, whatever its revision.
	if port, _ := r.graphPort(&record{ID: "a"}); !r.isNewer(port, &record{Epoch: 1, Revision: 100}) {
		t.Error("a port of the new epoch is not newer than the record of the old one")
	}
	// From now on it is believed as any other.
	r.sayIn(second, 2, 10, routeGone(1, late))
	if _, there := r.desired()[key(1, late)]; there {
		t.Error("a route that is gone stays")
	}
}

func equalRoutes(a, b map[dataplane.RouteKey]dataplane.NextHop) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// What a restored store is told of a port is all that it takes to adopt it.
func TestReportDescribesPortsOfEarlierEpochs(t *testing.T) {
	g := newRegistry()
	g.put(&record{ID: "old", ContainerID: "c", Interface: "eth0", Epoch: 1, Label: 16, VRF: 5, MAC: "02:00:00:00:00:01", NetworkName: []string{"d", "p", "n"}})
	g.put(&record{ID: "new", ContainerID: "e", Interface: "eth0", Epoch: 2})
	g.put(&record{ID: "classic"})
	said := g.say("node", 2)
	if len(said.live) != 2 || len(said.running) != 1 || len(said.adding) != 0 {
		t.Fatalf("said: %+v, want two live and one of them described", said)
	}
	at := said.running[0].Attachment
	if at.InterfaceId != "old" || at.Label != 16 || at.Vrf != 5 || at.Key.ContainerId != "c" || len(at.NetworkFqName) != 3 {
		t.Errorf("described as %v", at)
	}
}
