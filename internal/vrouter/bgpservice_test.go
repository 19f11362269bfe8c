package vrouter

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"testing"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

var nodeA, nodeB, nodeC = netip.MustParseAddr("172.31.0.1"), netip.MustParseAddr("172.31.0.2"), netip.MustParseAddr("172.31.0.3")

// TestPlacesOfControlNodes: the first two have the places, and keep them while
// they are there, or nobody else is.
func TestPlacesOfControlNodes(t *testing.T) {
	b := &bgpServices{}
	for i, step := range []struct{ live, want []netip.Addr }{
		{nil, []netip.Addr{{}, {}}},
		{[]netip.Addr{nodeB}, []netip.Addr{nodeB, {}}},
		{[]netip.Addr{nodeA, nodeB}, []netip.Addr{nodeA, nodeB}}, // as the order is when both are there
		{[]netip.Addr{nodeB}, []netip.Addr{nodeA, nodeB}},        // nobody else
		{nil, []netip.Addr{nodeA, nodeB}},
		{[]netip.Addr{nodeB, nodeC}, []netip.Addr{nodeC, nodeB}},
		{[]netip.Addr{nodeA, nodeB, nodeC}, []netip.Addr{nodeC, nodeB}},
		{[]netip.Addr{nodeA}, []netip.Addr{nodeA, nodeB}},
		{[]netip.Addr{nodeA, nodeC}, []netip.Addr{nodeA, nodeC}},
	} {
		b.assign(step.live)
		if b.places != [wanted]netip.Addr(step.want) {
			t.Errorf("step %d: with %v the places are %v, want %v", i, step.live, b.places, step.want)
		}
	}
}

// TestServicesFollowTheGraph: a port has the services of the graph, with the
// control nodes of their places; they stay while the agent or its sessions are
// away, and go with the graph.
func TestServicesFollowTheGraph(t *testing.T) {
	dir := t.TempDir()
	links := &fakeLinks{links: map[int]string{2: "eth0", 3: "tap0"}}
	rec := portRecord("here", "c1", "tap0", 3, testAgent(t, dir, newFakePlane(), links).bootID)
	rec.Epoch = 1
	if err := (portFiles{filepath.Join(dir, "state", portsName)}).write(rec); err != nil {
		t.Fatal(err)
	}
	port := func(services ...*controlv1.BgpService) *controlv1.ControlMessage {
		return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_Port{Port: &controlv1.Port{
			InterfaceId: "here", Vrf: 1, Label: rec.Label, Revision: rec.Revision, Namespace: rec.Namespace, BgpServices: services,
		}}}
	}
	peer := func(client, server string, place uint32) *controlv1.BgpPeer {
		return &controlv1.BgpPeer{Client: client, Server: server, ControlNode: place}
	}
	service := &controlv1.BgpService{Id: "s1", SourcePort: 50007, Peers: []*controlv1.BgpPeer{
		peer("10.0.0.3", "10.0.0.1", 0), peer("10.0.0.3", "10.0.0.2", 1), peer("fd00::3", "fd00::1", 0),
	}}
	key := func(server string) dataplane.ServiceKey {
		return dataplane.ServiceKey{IfIndex: 3, Client: netip.MustParseAddr("10.0.0.3"), Server: netip.MustParseAddr(server)}
	}
	first, both := map[dataplane.ServiceKey]dataplane.Service{key("10.0.0.1"): {Control: nodeA, Source: 50007}}, map[dataplane.ServiceKey]dataplane.Service{
		key("10.0.0.1"): {Control: nodeA, Source: 50007}, key("10.0.0.2"): {Control: nodeB, Source: 50007},
	}
	has := func(plane *fakePlane, want map[dataplane.ServiceKey]dataplane.Service) {
		t.Helper()
		eventually(t, fmt.Sprintf("the port has %d services", len(want)), func() error {
			if have, _ := plane.Services(); !maps.Equal(have, want) {
				return fmt.Errorf("has %v, want %v", have, want)
			}
			return nil
		})
	}
	// control adds a control node with a session.
	control := func(a *Agent, at netip.Addr, bgp string) {
		p := &controlPeer{address: at.String(), state: sessionState{Connected: true}, end: func(error) {}}
		a.sessions.mu.Lock()
		a.sessions.peers = append(a.sessions.peers, p)
		a.sessions.mu.Unlock()
		a.sessions.learn(p, &controlv1.Cluster{Bgp: bgp})
	}
	plane := newFakePlane()
	a := testAgent(t, dir, plane, links)
	stop := startAgent(t, a)
	v := a.routing.newView(nil)
	a.routing.say(v, 5, port(service), endOfPorts())
	control(a, nodeC, "172.31.0.3:1179") // takes none of them
	control(a, nodeA, "172.31.0.1:179")
	has(plane, first)
	control(a, nodeB, "172.31.0.2:179")
	has(plane, both)
	stop()

	// The next agent finds them, and hears of the ports before it knows where
	// control nodes take BGP.
	again := newFakePlane()
	again.service = maps.Clone(plane.service)
	a = testAgent(t, dir, again, links)
	defer startAgent(t, a)()
	v = a.routing.newView(nil)
	a.routing.say(v, 6, port(service), endOfPorts())
	control(a, nodeA, "172.31.0.1:179")
	eventually(t, "the graph is followed", func() error {
		if !a.mayDeleteService(key("10.0.0.9")) {
			return errors.New("what no port has may not go")
		}
		return nil
	})
	if a.mayDeleteService(key("10.0.0.2")) {
		t.Error("a peer of a place without a control node may go")
	}
	has(again, both)
	a.routing.say(v, 7, port(), endOfPorts())
	has(again, map[dataplane.ServiceKey]dataplane.Service{})
}
