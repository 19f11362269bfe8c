package vrouter

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

const (
	udp   = controlv1.Encapsulation_ENCAPSULATION_MPLS_OVER_UDP
	gre   = controlv1.Encapsulation_ENCAPSULATION_MPLS_OVER_GRE
	vxlan = controlv1.Encapsulation_ENCAPSULATION_VXLAN
)

func clusterMessage(preferred ...controlv1.Encapsulation) *controlv1.ControlMessage {
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_Cluster{Cluster: &controlv1.Cluster{Mtu: 1450, Encapsulations: preferred}}}
}

// TestEncapsulationByPreference: a tunnel takes the first encapsulation of the
// cluster's that the far end takes.
func TestEncapsulationByPreference(t *testing.T) {
	far := netip.MustParseAddr("172.31.0.12")
	mac := dataplane.MAC{2, 0, 0, 0, 0, 5}
	byUDP := dataplane.NextHop{Kind: dataplane.Tunnel, Remote: far, Label: 16}
	byGRE := dataplane.NextHop{Kind: dataplane.Tunnel, Remote: far, Encapsulation: dataplane.MPLSoGRE, Label: 16}
	byVXLAN := dataplane.NextHop{Kind: dataplane.Tunnel, Remote: far, Encapsulation: dataplane.VXLAN, VNI: 5001, MAC: mac}
	none := dataplane.NextHop{Kind: dataplane.Discard}
	all := controlv1.Path{NextHop: far.String(), Label: 16, Vni: 5001, Mac: mac[:], Encapsulations: []controlv1.Encapsulation{udp, gre, vxlan}}
	only := func(e controlv1.Encapsulation, label, vni uint32) *controlv1.Path {
		return &controlv1.Path{NextHop: far.String(), Label: label, Vni: vni, Encapsulations: []controlv1.Encapsulation{e}}
	}
	for name, test := range map[string]struct {
		preferred []controlv1.Encapsulation
		path      *controlv1.Path
		want      dataplane.NextHop
	}{
		"first of three":          {[]controlv1.Encapsulation{vxlan, udp, gre}, &all, byVXLAN},
		"in another order":        {[]controlv1.Encapsulation{gre, udp, vxlan}, &all, byGRE},
		"second":                  {[]controlv1.Encapsulation{vxlan, udp}, only(udp, 16, 0), byUDP},
		"VXLAN only there":        {[]controlv1.Encapsulation{udp, vxlan}, only(vxlan, 0, 7), dataplane.NextHop{Kind: dataplane.Tunnel, Remote: far, Encapsulation: dataplane.VXLAN, VNI: 7}},
		"nothing in common":       {[]controlv1.Encapsulation{udp, gre}, only(vxlan, 0, 7), none},
		"VXLAN without VNI":       {[]controlv1.Encapsulation{vxlan}, only(vxlan, 16, 0), none},
		"MPLS without label":      {[]controlv1.Encapsulation{udp, gre}, only(udp, 0, 7), none},
		"old control node":        {nil, &all, byUDP},
		"far end that says none":  {[]controlv1.Encapsulation{vxlan, udp}, &controlv1.Path{NextHop: far.String(), Label: 16, Vni: 5001}, byUDP},
		"and has no MPLS to take": {[]controlv1.Encapsulation{vxlan}, &controlv1.Path{NextHop: far.String(), Label: 16, Vni: 5001}, none},
	} {
		r := newTestRouting()
		v := r.newView(nil)
		r.say(v, 1, clusterMessage(test.preferred...))
		if got := r.nextHop([]*controlv1.Path{test.path}); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}

// TestPreferenceChanges: another order has all routes take it, in a session
// and with another leader.
func TestPreferenceChanges(t *testing.T) {
	r := newTestRouting()
	route := &controlv1.ControlMessage{Body: &controlv1.ControlMessage_Route{Route: &controlv1.Route{Vrf: 1, Prefix: "10.0.0.5/32", Paths: []*controlv1.Path{
		{NextHop: "172.31.0.12", Label: 16, Vni: 5001, Encapsulations: []controlv1.Encapsulation{udp, gre, vxlan}},
	}}}}
	want := func(when string, e dataplane.Encapsulation) {
		t.Helper()
		if got := r.desired()[key(1, "10.0.0.5/32")]; got.Kind != dataplane.Tunnel || got.Encapsulation != e {
			t.Errorf("%s: %+v, want %s", when, got, e)
		}
	}
	first := r.newView(nil)
	r.say(first, 1, clusterMessage(udp, vxlan), portMessage("a", 1), endOfPorts(), route, endOfVRF(1))
	want("at first", dataplane.MPLSoUDP)
	second := r.newView(nil)
	r.say(second, 2, clusterMessage(vxlan), portMessage("a", 1), endOfPorts(), route, endOfVRF(1))
	want("with another that does not lead", dataplane.MPLSoUDP)
	r.say(first, 2, clusterMessage(gre, udp))
	want("after a change", dataplane.MPLSoGRE)
	r.endView(first)
	want("when the other leads", dataplane.VXLAN)
}

// TestVNIsOfPorts: the node takes what carries the identifier of a network that
// it has a port in, and nothing else.
func TestVNIsOfPorts(t *testing.T) {
	plane := newFakePlane()
	plane.vnis[4242] = 9 // of an earlier agent
	a := testAgent(t, t.TempDir(), plane, &fakeLinks{links: map[int]string{}})
	runAgent(t, a)
	port := func(id string, vrf, vni uint32) *controlv1.ControlMessage {
		return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_Port{Port: &controlv1.Port{InterfaceId: id, Vrf: vrf, Vni: vni}}}
	}
	want := func(when string, want map[uint32]uint32) {
		t.Helper()
		eventually(t, when, func() error {
			if got, _ := plane.VNIs(); !maps.Equal(got, want) {
				return fmt.Errorf("%v, want %v", got, want)
			}
			return nil
		})
	}
	v := a.routing.newView(nil)
	a.routing.say(v, 1, port("p", 1, 5001), port("q", 1, 5001), port("r", 2, 5002))
	want("before all ports are known", map[uint32]uint32{4242: 9, 5001: 1, 5002: 2})
	a.routing.say(v, 2, endOfPorts())
	want("what nobody needs goes", map[uint32]uint32{5001: 1, 5002: 2})
	a.routing.say(v, 3, port("r", 2, 6002), &controlv1.ControlMessage{Body: &controlv1.ControlMessage_PortGone{PortGone: &controlv1.PortGone{InterfaceId: "p"}}})
	want("a network with another identifier", map[uint32]uint32{5001: 1, 6002: 2})
	a.routing.say(v, 4, port("s", 3, 5001))
	want("of two that claim one the first", map[uint32]uint32{5001: 1, 6002: 2})
}
