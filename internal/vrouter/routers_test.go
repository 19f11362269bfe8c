package vrouter

import (
	"maps"
	"testing"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
)

// TestLogicalRouters: a node takes the VNIs of the logical routers of its ports' networks,
// and keeps their tables, as long as it has such a port. A network's own VNI is
// the network's, whichever router claims it.
func TestLogicalRouters(t *testing.T) {
	r := newTestRouting()
	r.believed.ports["a"] = &controlv1.Port{Vrf: 1, Vni: 1, Routers: []*controlv1.RouterTable{{Vrf: 1<<29 | 7000, Vni: 7000}}}
	r.believed.ports["b"] = &controlv1.Port{Vrf: 2, Vni: 2, Routers: []*controlv1.RouterTable{{Vrf: 1<<29 | 7000, Vni: 7000}, {Vrf: 1<<29 | 1, Vni: 1}}}
	if got, want := r.vnis(), map[uint32]uint32{1: 1, 2: 2, 7000: 1<<29 | 7000}; !maps.Equal(got, want) {
		t.Errorf("VNIs are of %v, want %v", got, want)
	}
	if !r.needed(1<<29|7000) || r.needed(1<<29|7001) {
		t.Errorf("table of the router needed: %t, of another: %t", r.needed(1<<29|7000), r.needed(1<<29|7001))
	}
	delete(r.believed.ports, "b")
	if !r.needed(1<<29|7000) || r.needed(1<<29|1) {
		t.Error("a table is needed by the port that is left, and the other by none")
	}
	delete(r.believed.ports, "a")
	if got := r.vnis(); len(got) != 0 || r.needed(1<<29|7000) {
		t.Errorf("without ports there are %v", got)
	}
}

// TestVNIMayGo: a VNI goes only when the graph has told of all ports, and none of
// them is in its network, though nobody desires it yet.
func TestVNIMayGo(t *testing.T) {
	r := newTestRouting()
	r.believed.ports["a"] = &controlv1.Port{Vrf: 1, Vni: 5}
	if r.believed.portsDone = false; r.mayDeleteVNI(5) || r.mayDeleteVNI(6) {
		t.Error("a VNI may go before all ports are known")
	}
	if r.believed.portsDone = true; r.mayDeleteVNI(5) || !r.mayDeleteVNI(6) {
		t.Errorf("the VNI of a port may go: %t, that of none: %t", r.mayDeleteVNI(5), r.mayDeleteVNI(6))
	}
}
