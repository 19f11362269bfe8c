//go:build net

package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/control/rib"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/nstest"
)

// gateway is a router of others that peers with a control node, each in a namespace
// of its own.
type gateway struct {
	t *testing.T
	*world
	server  *Server
	speaker *bgp.Speaker
	heard   *bgp.Subscription
	routes  map[string]bgp.Change // what the router was told, by route
	// end ends the control node and the router, wait waits for that.
	end  context.CancelFunc
	wait func()
}

func newGateway(t *testing.T, as uint32) *gateway {
	g := &gateway{t: t, world: newWorld(), routes: map[string]bgp.Change{}}
	ours, theirs := netip.MustParseAddrPort("10.99.0.1:179"), netip.MustParseAddrPort("10.99.0.2:179")
	here, there := nstest.New(t, "controller"), nstest.New(t, "gateway")
	nstest.Veth(t, here, "eth0", there, "eth0")
	here.Up("eth0", netip.MustParsePrefix("10.99.0.1/24"))
	there.Up("eth0", netip.MustParsePrefix("10.99.0.2/24"))
	g.server = New(discard(), Config{Router: "c1", Network: here}, g.graph)
	var err error
	if g.speaker, err = bgp.New(bgp.Config{AS: as, RouterID: theirs.Addr(), Listen: []netip.AddrPort{theirs}, Network: there}); err != nil {
		t.Fatal(err)
	}
	refused := g.speaker.SetPeers(map[string]bgp.PeerConfig{"us": {
		Addr: ours.Addr(), Port: ours.Port(), LocalAddr: theirs.Addr(), AS: 64512, Retry: 50 * time.Millisecond, Trusted: true,
		Families: []bgp.Family{bgp.RTC, bgp.VPNv4, bgp.VPNv6, bgp.EVPN},
	}})
	if len(refused) > 0 {
		t.Fatal(refused)
	}
	g.speaker.SetImports([]bgp.RouteTarget{bgp.NewRouteTarget(64500, 1), bgp.NewRouteTarget(64512, 8000001), bgp.NewRouteTarget(64512, 8000002)})
	g.heard = g.speaker.Subscribe(bgp.VPNv4, bgp.VPNv6, bgp.EVPN)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := g.server.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	running.Go(func() {
		if err := g.speaker.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	g.end, g.wait = cancel, running.Wait
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	g.router("c1", "control-node", ours, 64512)
	g.router("gw", "router", theirs, int64(as))
	g.peer("c1", "gw", `{"session": [{"attributes": [{"address_families": {"family": ["route-target", "inet-vpn", "inet6-vpn", "e-vpn"]}}]}]}`)
	return g
}

func (g *gateway) announce(prefix string, label uint32, targets ...string) {
	attrs := &bgp.Attrs{NextHop: netip.MustParseAddr("192.0.2.1"), LocalPref: bgp.Some(5000)}
	for _, t := range targets {
		target, ok := compile.Target(t).Community()
		if !ok {
			g.t.Fatalf("%q is no route target", t)
		}
		attrs.ExtCommunities = append(attrs.ExtCommunities, bgp.ExtCommunity(target))
	}
	if err := g.speaker.Put(bgp.Route{NLRI: g.nlri(prefix), Label: label, Attrs: attrs}); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) nlri(prefix string) bgp.NLRI {
	return bgp.VPNNLRI(bgp.RDFromAS(64500, 7), netip.MustParsePrefix(prefix))
}

// told is how a network reaches a prefix: next hops and labels.
func (g *gateway) reaches(vrf uint32, prefix string) string {
	t := g.server.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.rib.Route(vrf, rib.UnicastKey(netip.MustParsePrefix(prefix)))
	if !ok {
		return "none"
	}
	var used []string
	for _, p := range r.Paths {
		if p.Used {
			used = append(used, fmt.Sprintf("%s %s label %d", p.Source, p.NextHop, p.Label))
		}
	}
	return strings.Join(used, ", ")
}

// hears is what the router was told of a prefix of ours.
func (g *gateway) hears(prefix string) string {
	for _, c := range g.heard.Next(1000) {
		g.routes[c.NLRI.String()] = c
	}
	var all []string
	for _, c := range g.routes {
		if p, ok := c.NLRI.Prefix(); ok && p.String() == prefix {
			for _, path := range c.Paths {
				rd, _ := c.NLRI.RD()
				all = append(all, fmt.Sprintf("%s via %s label %d %s", rd, path.Attrs.NextHop, path.Label, communitiesOf(&path)))
			}
		}
	}
	slices.Sort(all)
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

func communitiesOf(p *bgp.Path) string {
	var communities []string
	for _, e := range p.Attrs.ExtCommunities {
		communities = append(communities, e.String())
	}
	slices.Sort(communities)
	return strings.Join(communities, " ")
}

func (g *gateway) want(what, want string, have func() string) {
	g.t.Helper()
	got := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if got = have(); got == want {
			return
		}
	}
	g.t.Fatalf("%s: %q, want %q; peers here: %+v; there: %+v", what, got, want, g.server.tables.showPeers(), g.speaker.Peers())
}

// TestNetBorder: what peers announce gets into the networks that ask for it and no
// others, what is bound in the store comes first, and only marked networks are
// known outside; inside one autonomous system and between two.
func TestNetBorder(t *testing.T) {
	t.Parallel()
	for name, as := range map[string]uint32{"internal": 64512, "external": 64500} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, as)
			mine, red := []string{"target:64500:1"}, []string{"target:64512:8000002"}
			g.node("n1", "172.31.0.11", 1500)
			g.network("blue", 1, mine, mine)
			g.network("red", 2, nil, nil)
			g.attach("b1", "blue", "n1", "10.0.0.3", 16)
			g.attach("r1", "red", "n1", "10.0.0.4", 17)
			seen := "172.31.0.11:1 via 172.31.0.11 label 16 encapsulation:11 encapsulation:13 origin-vn:64512:1 target:64500:1 target:64512:8000001"
			g.want("blue seen outside", seen, func() string { return g.hears("10.0.0.3/32") })
			g.want("red seen outside", "none", func() string { return g.hears("10.0.0.4/32") })

			g.announce("10.9.0.0/24", 99, mine...)
			g.announce("10.8.0.0/24", 98, red...) // which only red itself has
			g.announce("10.0.0.3/32", 97, mine...)
			g.announce("fd09::/64", 96, mine...)
			g.want("blue's way out", "bgp 192.0.2.1 label 99", func() string { return g.reaches(1, "10.9.0.0/24") })
			g.want("blue's way out by IPv6", "bgp 192.0.2.1 label 96", func() string { return g.reaches(1, "fd09::/64") })
			g.want("the attachment of blue", "attachment 172.31.0.11 label 16", func() string { return g.reaches(1, "10.0.0.3/32") })
			for _, prefix := range []string{"10.9.0.0/24", "10.8.0.0/24"} {
				g.want("red's way out", "none", func() string { return g.reaches(2, prefix) })
			}

			// Networks come to ask for routes, and to be marked, and stop again.
			g.network("red", 2, mine, nil)
			g.want("red's way out", "bgp 192.0.2.1 label 99", func() string { return g.reaches(2, "10.9.0.0/24") })
			g.network("red", 2, nil, nil)
			g.network("blue", 1, nil, nil)
			g.want("blue's way out", "none", func() string { return g.reaches(1, "10.9.0.0/24") })
			g.want("blue seen outside", "none", func() string { return g.hears("10.0.0.3/32") })
			g.want("routes held", "0", func() string { return fmt.Sprint(g.server.tables.showPeers().Imported) })
			external := true
			g.apply(model.Batch{Objects: []model.Object{&model.VirtualNetwork{
				Meta: model.Meta{UUID: id("net", "red"), FQName: []string{"default-domain", "p", "red"}}, VirtualNetworkNetworkID: new(int64(2)), RouterExternal: &external,
			}}})
			g.want("red seen outside", "172.31.0.11:2 via 172.31.0.11 label 17 encapsulation:11 encapsulation:13 origin-vn:64512:2 target:64512:8000002", func() string { return g.hears("10.0.0.4/32") })
			g.detach("r1", "red")
			g.want("red seen outside", "none", func() string { return g.hears("10.0.0.4/32") })

			g.network("blue", 1, mine, mine)
			g.want("blue's way out", "bgp 192.0.2.1 label 99", func() string { return g.reaches(1, "10.9.0.0/24") })
			g.speaker.Withdraw(g.nlri("10.9.0.0/24"))
			g.want("blue's way out", "none", func() string { return g.reaches(1, "10.9.0.0/24") })

			// A network that is gone is not known outside any more.
			g.want("blue seen outside", seen, func() string { return g.hears("10.0.0.3/32") })
			g.removeNetwork("blue")
			g.want("blue seen outside", "none", func() string { return g.hears("10.0.0.3/32") })
			g.network("blue", 1, mine, mine)
			g.want("blue seen outside", seen, func() string { return g.hears("10.0.0.3/32") })

			// Without a bgp-router of its name the control node is no router.
			g.apply(model.Batch{DeleteObjects: []model.Entity{{Kind: model.KindBGPRouter, UUID: id("router", "c1")}}})
			g.want("blue's way out by IPv6", "none", func() string { return g.reaches(1, "fd09::/64") })
			g.want("blue seen outside", "none", func() string { return g.hears("10.0.0.3/32") })
			if p := g.server.tables.showPeers(); p.Running || len(p.Peers) != 0 {
				t.Errorf("peers are %+v", p)
			}
		})
	}
}

// TestNetBorderEnd: the end of the control node's process takes no route of a
// router away from agents that still listen, however busy it is just then.
func TestNetBorderEnd(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 64500)
	g.network("blue", 1, []string{"target:64500:1"}, nil)
	g.announce("203.0.113.0/24", 100, "target:64500:1")
	const way = "bgp 192.0.2.1 label 100"
	g.want("the router's route", way, func() string { return g.reaches(1, "203.0.113.0/24") })
	await := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited %s for %s", patience, what)
			}
		}
	}
	b := g.server.tables.border
	g.server.tables.mu.Lock()
	received := b.state.speaker.Subscribe(bgp.VPNv4)
	defer received.Close()
	received.Next(1000)
	b.poke()
	await("that somebody waits for the tables", func() bool { return len(b.wake) == 0 })
	g.end()
	await("the end of the session", func() bool { return len(received.Next(1)) > 0 })
	g.server.tables.mu.Unlock()
	g.wait()
	if got := g.reaches(1, "203.0.113.0/24"); got != way {
		t.Errorf("after the end: %s, want %s", got, way)
	}
}
