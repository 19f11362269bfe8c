package vrouter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

func fabricMessage(refused []netip.Addr, services ...*controlv1.LinkLocalService) *controlv1.ControlMessage {
	f := &controlv1.Fabric{Services: services}
	for _, a := range refused {
		f.Refused = append(f.Refused, a.AsSlice()...)
	}
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_Fabric{Fabric: f}}
}

// TestFabricFollowsTheGraph: the data plane has the services and the ports with SNAT
// that control nodes say, and refuses what they and the node itself have; it stays
// while the agent or its sessions are away.
func TestFabricFollowsTheGraph(t *testing.T) {
	dir := t.TempDir()
	links := &fakeLinks{links: map[int]string{2: "eth0", 3: "tap0"}}
	rec := portRecord("here", "c1", "tap0", 3, testAgent(t, dir, newFakePlane(), links).bootID)
	rec.Epoch = 1
	if err := (portFiles{filepath.Join(dir, "state", portsName)}).write(rec); err != nil {
		t.Fatal(err)
	}
	port := func(fabric uint32) *controlv1.ControlMessage {
		return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_Port{Port: &controlv1.Port{
			InterfaceId: "here", Vrf: 1, Label: rec.Label, Revision: rec.Revision, Namespace: rec.Namespace, FabricNetwork: fabric,
		}}}
	}
	service := func(name, to, dns string, port uint32) *controlv1.LinkLocalService {
		return &controlv1.LinkLocalService{Name: name, Address: "169.254.169.254", Port: port, To: to, DnsName: dns, ToPort: 8775}
	}
	at := func(port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr("169.254.169.254"), port)
	}
	machine := netip.MustParseAddr("192.0.2.1")
	named := [2]netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")}
	own := netip.MustParseAddr("10.9.9.9")
	var found []netip.Addr
	stub := func(a *Agent) *Agent {
		a.fabricNAT.own = func() ([]netip.Addr, error) { return []netip.Addr{own}, nil }
		a.fabricNAT.lookup = func(_ context.Context, name string) ([]netip.Addr, error) {
			if name != "db.example.org" || found == nil {
				return nil, errors.New("no such host")
			}
			return found, nil
		}
		return a
	}
	has := func(plane *fakePlane, services map[netip.AddrPort]dataplane.LinkLocal, refused int, snats map[int]uint32) {
		t.Helper()
		eventually(t, fmt.Sprintf("there are %d services, %d refusals and SNAT of %v", len(services), refused, snats), func() error {
			f, _ := plane.FabricServices()
			s, _ := plane.SNATs()
			if !maps.Equal(f.LinkLocal, services) || len(f.Refused) != refused || !maps.Equal(s, snats) {
				return fmt.Errorf("have %v and %v", f, s)
			}
			return nil
		})
	}
	found = []netip.Addr{named[1], named[0], own, netip.MustParseAddr("2001:db8::1")}
	plane := newFakePlane()
	a := stub(testAgent(t, dir, plane, links))
	stop := startAgent(t, a)
	v := a.routing.newView(nil)
	a.routing.say(v, 5, fabricMessage([]netip.Addr{nodeB, nodeC},
		service("metadata", machine.String(), "", 80), service("bad", nodeB.String(), "", 81), service("named", "", "db.example.org", 82), service("lost", "", "nobody", 83)),
		port(99), endOfPorts())
	want := map[netip.AddrPort]dataplane.LinkLocal{
		at(80): {Targets: dataplane.LinkLocalTargets{machine}, Port: 8775},
		at(82): {Targets: dataplane.LinkLocalTargets{named[0], named[1]}, Port: 8775},
	}
	has(plane, want, 5, map[int]uint32{3: 99}) // with the node's two and the manager's
	eventually(t, "what is wrong is shown", func() error {
		shown, err := a.showFabric()
		problems := ""
		for _, s := range shown.Services {
			problems += s.Name + ": " + s.Problem + "\n"
		}
		for _, want := range []string{"bad: 172.31.0.2 is the address of a node", "lost: the node does not find the name: no such host", "named: 10.9.9.9 is the address of a node", "metadata: \n"} {
			if !strings.Contains(problems, want) {
				return fmt.Errorf("%q is not in %q, %v", want, problems, err)
			}
		}
		return nil
	})
	stop()

	// The next agent finds it, and takes nothing away before it knows.
	again := newFakePlane()
	again.fabric, again.snats = plane.fabric, maps.Clone(plane.snats)
	found = nil
	a = stub(testAgent(t, dir, again, links))
	defer startAgent(t, a)()
	v = a.routing.newView(nil)
	a.routing.say(v, 6, port(99))
	has(again, want, 5, map[int]uint32{3: 99})
	// A name that is not found any more stays where it was found.
	a.routing.say(v, 7, fabricMessage([]netip.Addr{nodeB, nodeC},
		service("metadata", machine.String(), "", 80), service("named", "", "db.example.org", 82)))
	eventually(t, "the name has been looked up", func() error {
		if shown, err := a.showFabric(); err != nil || len(shown.Services) != 2 || !strings.Contains(shown.Services[1].Problem, "does not find the name") {
			return fmt.Errorf("%+v, %v", shown, err)
		}
		return nil
	})
	has(again, want, 5, map[int]uint32{3: 99})
	a.routing.say(v, 8, fabricMessage(nil), port(0), endOfPorts())
	has(again, map[netip.AddrPort]dataplane.LinkLocal{}, 3, map[int]uint32{})
}

// TestFabricOfEarlierControlNode: a control node that does not know NAT to the fabric,
// and comes to lead, takes none away.
func TestFabricOfEarlierControlNode(t *testing.T) {
	r := newTestRouting()
	knows, knowsNot := r.newView(nil), r.newView(nil)
	r.say(knows, 5, fabricMessage([]netip.Addr{nodeB}), endOfPorts())
	r.say(knowsNot, 6, endOfPorts())
	r.endView(knows)
	if r.leader != knowsNot {
		t.Fatal("the newer one does not lead")
	}
	if f := r.saidOfFabric(); len(f.GetRefused()) != 4 {
		t.Errorf("the agent believes %v", f)
	}
}
