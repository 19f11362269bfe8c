package control

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/control/rib"
)

// A thousand routers that cannot be peers would else fill the log with a line
// for each of them whenever one of them changes.
func TestRefusedPeerIsLoggedOnce(t *testing.T) {
	var text bytes.Buffer
	b := newBorder(New(discard(), Config{}, newWorld().graph).tables)
	b.log = slog.New(slog.NewTextHandler(&text, nil))
	own := netip.MustParseAddr("10.99.0.1")
	speaker, err := bgp.New(bgp.Config{AS: 64512, RouterID: own})
	if err != nil {
		t.Fatal(err)
	}
	peers := map[string]bgp.PeerConfig{}
	for n := range 20 {
		peers[fmt.Sprintf("r%d", n)] = bgp.PeerConfig{Addr: own, AS: 64512, Families: []bgp.Family{bgp.VPNv4}}
		b.setPeers(speaker, peers)
	}
	logged := func() int { return strings.Count(text.String(), "BGP peer is refused") }
	if n := logged(); n != 20 {
		t.Errorf("20 peers are refused, and %d times that is logged", n)
	}
	// Another reason is news, and so is the same one after a peer was good.
	reset := func(c bgp.PeerConfig, want int) {
		t.Helper()
		peers["r7"] = c
		b.setPeers(speaker, peers)
		if n := logged(); n != want {
			t.Errorf("peers were refused %d times, want %d", n, want)
		}
	}
	bad := peers["r7"]
	nobody := bgp.PeerConfig{Addr: netip.MustParseAddr("0.0.0.0"), AS: 64512, Families: bad.Families}
	good := bgp.PeerConfig{Addr: netip.MustParseAddr("10.99.0.2"), AS: 64512, Families: bad.Families}
	reset(nobody, 21)
	reset(good, 21)
	reset(nobody, 22)
}

// refuser is a speaker that takes no route.
type refuser struct{}

func (refuser) Put(r ...bgp.Route) error { return fmt.Errorf("route %s is too long", r[0].NLRI) }
func (refuser) Withdraw(...bgp.NLRI)     {}

// A tenant whose routes have too many attributes, and change all the time, would
// else fill the log.
func TestRouteThatIsNotToldIsLoggedSeldom(t *testing.T) {
	var text bytes.Buffer
	b := newBorder(New(discard(), Config{}, newWorld().graph).tables)
	b.log = slog.New(slog.NewTextHandler(&text, nil))
	routes := make([]bgp.Route, 1000)
	for i := range routes {
		routes[i].NLRI = bgp.PrefixNLRI(netip.MustParsePrefix("10.0.0.0/24"))
	}
	b.putEach(refuser{}, routes)
	if n := strings.Count(text.String(), "\n"); n == 0 || n > 100 {
		t.Errorf("of 1000 routes that cannot be told the log has %d lines", n)
	}
}

// A node whose agent is gone is the last resort, for routers too.
func TestStaleRouteGoesOut(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	mine := []string{"target:64500:1"}
	b.node("n1", "172.31.0.11", 1500)
	b.network("blue", 1, mine, mine)
	b.attach("b1", "blue", "n1", "10.0.0.3", 16)
	b.step()
	told := func() *bgp.Attrs {
		b.tables.mu.Lock()
		defer b.tables.mu.Unlock()
		routes := b.tables.border.routesOf(place{1, rib.HostKey(netip.MustParseAddr("10.0.0.3"))})
		if len(routes) != 1 {
			t.Fatalf("routes are %+v", routes)
		}
		return routes[0].Attrs
	}
	session, _ := b.tables.open(id("node", "n1"), &controlv1.Hello{BootId: "boot-1"}, func(error) {})
	if a := told(); a.LocalPref != bgp.Some(100) || a.HasCommunity(bgp.CommunityLLGRStale) {
		t.Errorf("with a session: %+v", a)
	}
	session.close()
	if a := told(); a.LocalPref != bgp.Some(0) || !a.HasCommunity(bgp.CommunityLLGRStale) {
		t.Errorf("without its session: %+v", a)
	}
}

// Who is behind a trusted peer's route counts in the numbers of the own
// autonomous system only.
func TestIdentityOfATrustedPeersRoute(t *testing.T) {
	target := bgp.NewRouteTarget(64500, 1)
	attrs := &bgp.Attrs{NextHop: netip.MustParseAddr("192.0.2.1"), ExtCommunities: []bgp.ExtCommunity{
		bgp.ExtCommunity(target), bgp.NewOriginVN(64512, 7), bgp.NewSecurityGroup(64512, 9), bgp.NewSecurityGroup(64512, 8),
		bgp.NewTag(64512, 5), bgp.NewOriginVN(64500, 1), bgp.NewSecurityGroup(64500, 1), bgp.NewTag(64500, 1),
	}}
	s, ok := specOf(bgp.VPNv4, &bgp.Path{Peer: "dc2", Attrs: attrs}, map[rib.Target]struct{}{rib.Target(target): {}}, 64512)
	if !ok || s.OriginNetwork != 7 || !slices.Equal(s.SecurityGroups, []uint32{8, 9}) || !slices.Equal(s.Tags, []uint32{5}) {
		t.Errorf("the path is %+v, wanted %t", s, ok)
	}
}

// Several paths of one router share the traffic, if they are equally good.
func TestPathsOfOnePeerShareTraffic(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.network("blue", 1, []string{"target:64500:1"}, nil)
	b.step()
	target := bgp.NewRouteTarget(64500, 1)
	key := rib.UnicastKey(netip.MustParsePrefix("10.9.0.0/24"))
	var specs []rib.Spec
	for n := range uint32(3) {
		attrs := &bgp.Attrs{NextHop: netip.AddrFrom4([4]byte{192, 0, 2, byte(n + 1)}), ExtCommunities: []bgp.ExtCommunity{bgp.ExtCommunity(target)}}
		s, _ := specOf(bgp.VPNv4, &bgp.Path{Peer: "gw", ID: n + 1, Attrs: attrs, Label: 99}, map[rib.Target]struct{}{rib.Target(target): {}}, 64512)
		specs = append(specs, s)
	}
	b.tables.mu.Lock()
	defer b.tables.mu.Unlock()
	for n := len(specs); n >= 0; n-- {
		b.tables.setLearned(outside{1, key}, specs[:n])
		b.tables.flush()
		route, _ := b.tables.rib.Route(1, key)
		used := 0
		for _, p := range route.Paths {
			if p.Used {
				used++
			}
		}
		if used != n {
			t.Errorf("of %d paths %d are used: %+v", n, used, route)
		}
	}
}

// After a restart agents keep what they have of routers until these have told
// their routes: no table ends before.
func TestTablesEndWhenRoutersAreBack(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.tables.facts.router = "c1"
	at := netip.MustParseAddrPort("192.0.2.1:179")
	b.router("c1", "control-node", at, 64512)
	b.router("gw", "router", netip.MustParseAddrPort("192.0.2.2:179"), 64512)
	b.peer("c1", "gw", `null`)
	mine := []string{"target:64500:1"}
	b.node("n1", "172.31.0.11", 1500)
	b.network("blue", 1, mine, mine)
	b.attach("b1", "blue", "n1", "10.0.0.3", 16)
	b.step()
	b.connect("n1", 100)
	agent := b.agents["n1"]
	if err := agent.drain(); err != nil || !agent.state.portsDone || len(agent.state.routes[1]) != 1 {
		t.Fatalf("the agent has %+v, error %v", agent.state, err)
	}
	if agent.state.vrfsDone[1] {
		t.Error("the table ended before the router was there")
	}
	b.tables.border.returned()
	if err := agent.drain(); err != nil || !agent.state.vrfsDone[1] {
		t.Errorf("the table does not end when the router is there: %v", err)
	}
	b.disconnect("n1")
}
