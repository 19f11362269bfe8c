package control

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/control/rib"
)

func rdOf(rd bgp.RD) rib.RD { return rib.RD(binary.BigEndian.Uint64(rd[:])) }

// specOf is a peer's path as the tables have it; false when no network wants
// it. Of a trusted peer it says who is behind it, in the numbers of the own
// autonomous system.
func specOf(p *bgp.Path, wanted map[rib.Target]struct{}, as uint16) (rib.Spec, bool) {
	a, who := p.Attrs, p.Attrs.Identity(as)
	s := rib.Spec{
		Source: rib.Source{Kind: rib.BGP, Name: p.Peer}, Label: p.Label, Flags: rib.Multipath,
		Attributes: rib.Attributes{
			NextHop: a.NextHop, LocalPreference: defaultPreference, ASPath: a.ASPath.Numbers(), Origin: a.Origin,
			External: p.EBGP, RouterID: p.RouterID, Communities: slices.Clone(a.Communities),
			OriginNetwork: who.OriginVN, SecurityGroups: who.SecurityGroups, Tags: who.Tags,
		},
	}
	if p.ID != 0 {
		s.Name = fmt.Sprintf("%s path %d", p.Peer, p.ID)
	}
	if a.LocalPref.Set {
		s.LocalPreference = a.LocalPref.Value
	}
	if a.MED.Set {
		s.MED = a.MED.Value
	}
	if p.Stale || a.HasCommunity(bgp.CommunityLLGRStale) {
		s.Flags |= rib.Stale
	}
	for _, c := range a.ExtCommunities {
		if _, ok := wanted[rib.Target(c)]; ok {
			s.Targets = append(s.Targets, rib.Target(c))
		}
	}
	for _, e := range a.Encaps() {
		s.Encapsulations |= encapsulationOf(e)
	}
	if s.Encapsulations == 0 { // who does not say takes MPLS
		s.Encapsulations = rib.MPLSoUDP | rib.MPLSoGRE
	}
	slices.Sort(s.Targets)
	for _, list := range [][]uint32{s.Communities, s.SecurityGroups, s.Tags} {
		slices.Sort(list)
	}
	return s, len(s.Targets) > 0
}

func encapsulationOf(e bgp.Encap) rib.Encapsulations {
	switch e {
	case bgp.EncapGRE, bgp.EncapMPLSoGRE:
		return rib.MPLSoGRE
	case bgp.EncapMPLSoUDP:
		return rib.MPLSoUDP
	case bgp.EncapVXLAN:
		return rib.VXLAN
	}
	return 0
}

// routesOf are the routes that peers are told of a place: one for each node
// that has it. Floating and alias addresses are not among them, for no node can
// take what is sent to one yet, nor are the ways through services, which are
// for the network alone.
func (b *border) routesOf(at place) []bgp.Route {
	w := b.tables.networks[at.vrf]
	if w == nil || w.instance == nil || !w.instance.exported {
		return nil
	}
	var routes []bgp.Route
	for _, p := range b.tables.rib.Own(at.vrf, at.key) {
		if p.Flags&rib.Foreign != 0 || p.Kind == rib.Chain {
			continue
		}
		nlri := bgp.VPNNLRI(distinguisher(p.NextHop, at.vrf, b.shortAS()), at.key.Prefix())
		if slices.ContainsFunc(routes, func(r bgp.Route) bool { return r.NLRI == nlri }) {
			continue
		}
		preference, communities := p.LocalPreference, p.Communities
		if p.Flags&rib.Stale != 0 { // the last resort, also for peers that do not know the community
			preference, communities = 0, append(slices.Clone(communities), bgp.CommunityLLGRStale)
		}
		attrs := &bgp.Attrs{NextHop: p.NextHop, Origin: bgp.OriginIGP, LocalPref: bgp.Some(preference), Communities: communities}
		for _, t := range slices.Concat(w.instance.exports, p.Targets) {
			if c := bgp.ExtCommunity(t); !slices.Contains(attrs.ExtCommunities, c) {
				attrs.ExtCommunities = append(attrs.ExtCommunities, c)
			}
		}
		attrs.ExtCommunities = slices.Concat(attrs.ExtCommunities, encapCommunities(p.Encapsulations), b.identities(p))
		routes = append(routes, bgp.Route{NLRI: nlri, Label: p.Label, Attrs: attrs})
	}
	return routes
}

// distinguisher keeps the routes of nodes and networks apart. A network's
// number that does not fit beside an address has one for all its nodes.
func distinguisher(node netip.Addr, vrf uint32, as uint16) bgp.RD {
	if node.Is4() && vrf < 1<<16 {
		return bgp.RDFromAddr(node, uint16(vrf))
	}
	return bgp.RDFromAS(as, vrf)
}

// shortAS is our autonomous system where two bytes are there for it.
func (b *border) shortAS() uint16 {
	switch {
	case b.peering == nil: // what is made now does not go out any more
		return 0
	case b.peering.config.AS > math.MaxUint16:
		return asTrans
	}
	return uint16(b.peering.config.AS)
}

// asTrans stands for an AS number that has no room in two bytes (RFC 6793 §9).
const asTrans = 23456

// identities say who is behind a path: its network, security groups and tags,
// for routers that make policy of them.
func (b *border) identities(p *rib.Path) []bgp.ExtCommunity {
	as := b.shortAS()
	var list []bgp.ExtCommunity
	if p.OriginNetwork != 0 {
		list = append(list, bgp.NewOriginVN(as, p.OriginNetwork))
	}
	for _, n := range p.SecurityGroups {
		list = append(list, bgp.NewSecurityGroup(as, n))
	}
	for _, n := range p.Tags {
		list = append(list, bgp.NewTag(as, n))
	}
	return list
}

func encapCommunities(e rib.Encapsulations) []bgp.ExtCommunity {
	var list []bgp.ExtCommunity
	for _, c := range []struct {
		bit   rib.Encapsulations
		encap bgp.Encap
	}{{rib.MPLSoUDP, bgp.EncapMPLSoUDP}, {rib.MPLSoGRE, bgp.EncapMPLSoGRE}, {rib.VXLAN, bgp.EncapVXLAN}} {
		if e&c.bit != 0 {
			list = append(list, bgp.NewEncap(c.encap))
		}
	}
	return list
}
