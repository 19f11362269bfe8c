package vrouter

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// TestForeignAddressesFollowTheGraph: a port gets floating and alias addresses
// when the graph gives them, keeps them while the agent is away, and loses them
// with the graph.
func TestForeignAddressesFollowTheGraph(t *testing.T) {
	dir := t.TempDir()
	links := &fakeLinks{links: map[int]string{2: "eth0", 3: "tap0"}}
	rec := portRecord("here", "c1", "tap0", 3, testAgent(t, dir, newFakePlane(), links).bootID)
	rec.Epoch = 1
	if err := (portFiles{filepath.Join(dir, "state", portsName)}).write(rec); err != nil {
		t.Fatal(err)
	}
	port := func(foreign ...*controlv1.ForeignAddress) *controlv1.ControlMessage {
		return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_Port{Port: &controlv1.Port{
			InterfaceId: "here", Vrf: 1, Label: rec.Label, Revision: rec.Revision, Namespace: rec.Namespace, Foreign: foreign,
		}}}
	}
	given := []*controlv1.ForeignAddress{
		{Address: "198.51.100.3", Vrf: 9, Fixed: "10.0.0.3"},
		{Address: "198.51.100.4", Vrf: 9, Fixed: "198.51.100.4", AnswersOnly: true},
		{Address: "198.51.100.3", Vrf: 10, Fixed: "10.0.0.3"}, // the same once more
		{Address: "2001:db8::1", Vrf: 9, Fixed: "fd00::1"},    // not forwarded yet
	}
	for i := range 20 {
		given = append(given, &controlv1.ForeignAddress{Address: fmt.Sprintf("203.0.113.%d", i), Vrf: 9, Fixed: "10.0.0.3"})
	}
	want := []dataplane.ForeignAddress{
		{Address: netip.MustParseAddr("198.51.100.3"), VRF: 9, Fixed: netip.MustParseAddr("10.0.0.3")},
		{Address: netip.MustParseAddr("198.51.100.4"), VRF: 9, Fixed: netip.MustParseAddr("198.51.100.4"), AnswersOnly: true},
	}
	has := func(plane *fakePlane, count int) {
		t.Helper()
		eventually(t, fmt.Sprintf("the port has %d addresses of other networks", count), func() error {
			p, plugged := plane.holds(3)
			if !plugged || len(p.Foreign) != count || count > 0 && !slices.Equal(p.Foreign[:2], want) {
				return fmt.Errorf("plugged %t, has %v", plugged, p.Foreign)
			}
			return nil
		})
	}
	plane := newFakePlane()
	a := testAgent(t, dir, plane, links)
	stop := startAgent(t, a)
	v := a.routing.newView(nil)
	a.routing.say(v, 5, port(), endOfPorts())
	has(plane, 0)
	a.routing.say(v, 6, port(given...))
	has(plane, dataplane.MaxForeign)
	if !a.registry.usesVRF(9) || !a.routing.needed(9) || a.routing.needed(11) {
		t.Errorf("network of the addresses needed: %t, %t; another: %t", a.registry.usesVRF(9), a.routing.needed(9), a.routing.needed(11))
	}
	stop()

	plane = newFakePlane()
	a = testAgent(t, dir, plane, links)
	defer startAgent(t, a)()
	has(plane, dataplane.MaxForeign)
	v = a.routing.newView(nil)
	a.routing.say(v, 7, port(), endOfPorts())
	has(plane, 0)
}
