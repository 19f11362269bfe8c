//go:build net

package control

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/control/rib"
	"github.com/contrail-mesos/contrail/internal/model"
)

var hostMAC = net.HardwareAddr{2, 0, 0, 0, 0, 9}

// announceEVPN has the router announce a route, with itself as its RD.
func (g *gateway) announceEVPN(r bgp.EVPNRoute, more []bgp.ExtCommunity, targets ...string) bgp.NLRI {
	g.t.Helper()
	r.RD = bgp.RDFromAS(64500, 7)
	attrs := &bgp.Attrs{NextHop: netip.MustParseAddr("192.0.2.1"), ExtCommunities: slices.Clone(more)}
	if r.Type == 3 {
		attrs.PMSI = bgp.IngressReplication(r.Label, attrs.NextHop)
	}
	for _, t := range targets {
		target, _ := compile.Target(t).Community()
		attrs.ExtCommunities = append(attrs.ExtCommunities, bgp.ExtCommunity(target))
	}
	if err := g.speaker.Put(bgp.Route{EVPN: &r, Attrs: attrs}); err != nil {
		g.t.Fatal(err)
	}
	nlri, err := r.NLRI()
	if err != nil {
		g.t.Fatal(err)
	}
	return nlri
}

// hearsEVPN is all that the router was told by EVPN.
func (g *gateway) hearsEVPN() string {
	for _, c := range g.heard.Next(1000) {
		g.routes[c.NLRI.String()] = c
	}
	var all []string
	for name, c := range g.routes {
		for _, p := range c.Paths {
			if r, err := p.EVPN(); err == nil {
				vni := r.Label
				if n, ok := p.Attrs.IngressReplication(); ok {
					vni = n
				}
				all = append(all, fmt.Sprintf("%s via %s vni %d %s", name, p.Attrs.NextHop, vni, communitiesOf(&p)))
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// gets is how a network gets to a key.
func (g *gateway) gets(vrf uint32, key rib.Key) string {
	t := g.server.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	r, _ := t.rib.Route(vrf, key)
	var used []string
	for _, p := range r.Paths {
		if p.Used {
			used = append(used, fmt.Sprintf("%s %s vni %d mac %s %s", p.Source, p.NextHop, p.VNI, p.MAC, p.Encapsulations))
		}
	}
	return strings.Join(used, ", ")
}

// routeByVXLAN has a network be one of a logical router, and that router's project
// say whether it routes by VXLAN; vni is the router's own, where it has one.
func (g *gateway) routeByVXLAN(network string, yes bool, vni string) {
	project := &model.Project{Meta: model.Meta{UUID: id("project"), FQName: []string{"default-domain", "p"}}, VXLANRouting: &yes}
	router := &model.LogicalRouter{Meta: model.Meta{
		UUID: id("lr"), FQName: []string{"default-domain", "p", "lr"}, ParentType: string(model.KindProject), ParentUUID: project.UUID,
	}, VXLANNetworkIdentifier: vni}
	g.apply(model.Batch{Objects: []model.Object{project, router}, References: []model.Reference{
		{From: model.Entity{Kind: model.KindVirtualNetwork, UUID: id("net", network)}, To: model.EntityOf(router)},
	}})
}

// TestNetEVPNBorder: MACs and broadcasts of marked networks are known outside, and
// a router's hosts and prefixes get into the networks that ask for them, by
// VXLAN.
func TestNetEVPNBorder(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 64512)
	mine, red := []string{"target:64500:1"}, []string{"target:64512:8000002"}
	vxlan := []bgp.ExtCommunity{bgp.NewEncap(bgp.EncapVXLAN)}
	g.node("n1", "172.31.0.11", 1500)
	g.network("blue", 1, mine, mine)
	g.network("red", 2, nil, nil)
	g.attach("b1", "blue", "n1", "10.0.0.3", 16)
	g.attach("r1", "red", "n1", "10.0.0.4", 17)
	rest := " via 172.31.0.11 vni 1 encapsulation:8 origin-vn:64512:1 target:64500:1 target:64512:8000001"
	mac := macFor("b1")
	seen := strings.Join([]string{
		"2:172.31.0.11:1:0:" + mac + rest, "2:172.31.0.11:1:0:" + mac + ",10.0.0.3" + rest, "3:172.31.0.11:1:0:172.31.0.11" + rest,
	}, "\n")
	g.want("blue seen outside", seen, g.hearsEVPN)

	host := netip.MustParseAddr("10.0.0.77")
	neighbour := bgp.EVPNRoute{Type: 2, MAC: hostMAC, IP: host, Label: 5001}
	key := rib.MACKey(0, [6]byte(hostMAC), host)
	way := fmt.Sprintf("bgp 192.0.2.1 vni 5001 mac %s [VXLAN]", hostMAC)
	of := func(vrf uint32, k rib.Key) func() string { return func() string { return g.gets(vrf, k) } }

	// What nobody asked for, no node could take or is bound in the store: none
	// of it comes in. What comes in after it tells that it has been looked at.
	bad := func(change func(*bgp.EVPNRoute)) bgp.EVPNRoute {
		r := neighbour
		r.IP = netip.MustParseAddr("10.0.0.66")
		change(&r)
		return r
	}
	g.announceEVPN(bad(func(r *bgp.EVPNRoute) { r.MAC = net.HardwareAddr{2, 0, 0, 0, 1, 1} }), vxlan, red...)
	g.announceEVPN(bad(func(r *bgp.EVPNRoute) { r.MAC = net.HardwareAddr{2, 0, 0, 0, 1, 2} }), nil, mine...)
	g.announceEVPN(bad(func(r *bgp.EVPNRoute) { r.MAC = net.HardwareAddr{1, 0, 0, 0, 1, 3} }), vxlan, mine...)
	g.announceEVPN(bad(func(r *bgp.EVPNRoute) { r.MAC, r.Label = net.HardwareAddr{2, 0, 0, 0, 1, 4}, 0 }), vxlan, mine...)
	g.announceEVPN(bad(func(r *bgp.EVPNRoute) { r.IP = netip.MustParseAddr("10.0.0.3") }), vxlan, mine...)
	g.announceEVPN(bgp.EVPNRoute{Type: 5, Prefix: netip.MustParsePrefix("10.8.0.0/24"), Gateway: host, Label: 5002}, vxlan, mine...)
	nlri := g.announceEVPN(neighbour, vxlan, mine...)
	g.want("host's MAC", way, of(1, key))
	g.want("host's address", way, of(1, rib.HostKey(host)))
	g.want("blue's own address", fmt.Sprintf("attachment 172.31.0.11 vni 1 mac %s [MPLSoUDP MPLSoGRE VXLAN]", mac), of(1, rib.HostKey(netip.MustParseAddr("10.0.0.3"))))
	for vrf := range uint32(3) {
		g.want("what must not come in", "", of(vrf, rib.HostKey(netip.MustParseAddr("10.0.0.66"))))
		g.want("what is behind a gateway", "", of(vrf, rib.UnicastKey(netip.MustParsePrefix("10.8.0.0/24"))))
	}
	g.want("host in red", "", of(2, rib.HostKey(host)))

	router := bgp.ExtCommunity(0x0603<<48 | 0x0200000000aa)
	prefix := g.announceEVPN(bgp.EVPNRoute{Type: 5, Prefix: netip.MustParsePrefix("10.9.0.0/24"), Label: 5002}, append(vxlan, router), mine...)
	g.want("prefix", "bgp 192.0.2.1 vni 5002 mac 02:00:00:00:00:aa [VXLAN]", of(1, rib.UnicastKey(netip.MustParsePrefix("10.9.0.0/24"))))
	broadcasts := g.announceEVPN(bgp.EVPNRoute{Type: 3, IP: netip.MustParseAddr("192.0.2.1"), Label: 5001}, vxlan, mine...)
	g.want("who wants broadcasts", "bgp 192.0.2.1 vni 5001 mac  [VXLAN]", of(1, rib.MulticastKey(0, netip.MustParseAddr("192.0.2.1"))))
	g.speaker.Withdraw(nlri, prefix, broadcasts)
	for _, k := range []rib.Key{key, rib.HostKey(host), rib.UnicastKey(netip.MustParsePrefix("10.9.0.0/24")), rib.MulticastKey(0, netip.MustParseAddr("192.0.2.1"))} {
		g.want(k.String()+" withdrawn", "", of(1, k))
	}

	// A logical router with VXLAN routing has routers told of prefixes, too.
	prefixes := func() string {
		var list []string
		for _, line := range strings.Split(g.hearsEVPN(), "\n") {
			if strings.HasPrefix(line, "5:") {
				list = append(list, line)
			}
		}
		return strings.Join(list, "\n")
	}
	g.want("prefixes without a logical router", "", prefixes)
	g.routeByVXLAN("blue", true, "")
	by := func(vni int, prefix string) string {
		return fmt.Sprintf("5:172.31.0.11:1:0:%s via 172.31.0.11 vni %d encapsulation:8 origin-vn:64512:1 router-mac:0e:00:ac:1f:00:0b target:64500:1 target:64512:8000001", prefix, vni)
	}
	to := func(prefix string) string { return by(1, prefix) }
	g.want("blue's prefixes", to("10.0.0.3/32"), prefixes)
	g.behind("irt", "10.77.0.0/24", "b1")
	g.want("a prefix behind it", to("10.0.0.3/32")+"\n"+to("10.77.0.0/24"), prefixes)
	g.notBehind("irt", "b1")
	g.forwarding("l2")
	g.want("prefixes of a network that only bridges", "", prefixes)
	g.forwarding("l3")
	g.want("those of one that only routes", to("10.0.0.3/32"), g.hearsEVPN)
	g.routeByVXLAN("blue", true, "7000")
	g.want("those by the VNI of the router", by(7000, "10.0.0.3/32"), g.hearsEVPN)
	g.routeByVXLAN("blue", true, "")
	g.want("those by the VNI of the network again", to("10.0.0.3/32"), g.hearsEVPN)
	g.forwarding("")
	g.routeByVXLAN("blue", false, "")
	g.want("blue seen outside", seen, g.hearsEVPN)

	// Where VXLAN is not used, nobody is told of MACs; prefixes say what is taken.
	g.encapsulations("MPLSoUDP")
	g.want("blue seen outside without VXLAN", "", g.hearsEVPN)
	g.want("blue's address seen outside", "172.31.0.11:1 via 172.31.0.11 label 16 encapsulation:13 origin-vn:64512:1 target:64500:1 target:64512:8000001", func() string { return g.hears("10.0.0.3/32") })
	g.encapsulations("VXLAN", "MPLSoUDP")
	g.want("blue seen outside with VXLAN", seen, g.hearsEVPN)
	g.forwarding("l3")
	g.want("blue that only routes seen outside", "", g.hearsEVPN)
	g.forwarding("")
	g.want("blue seen outside again", seen, g.hearsEVPN)
	g.network("blue", 1, nil, nil)
	g.want("blue that is not marked seen outside", "", g.hearsEVPN)
}
