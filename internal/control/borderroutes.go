package control

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/control/rib"
)

func rdOf(rd bgp.RD) rib.RD { return rib.RD(binary.BigEndian.Uint64(rd[:])) }

// specOf is a peer's path as the tables have it; false when no network wants
// it.
func specOf(p *bgp.Path, wanted map[rib.Target]struct{}) (rib.Spec, bool) {
	a := p.Attrs
	s := rib.Spec{
		Source: rib.Source{Kind: rib.BGP, Name: p.Peer}, Label: p.Label, Flags: rib.Multipath,
		Attributes: rib.Attributes{
			NextHop: a.NextHop, LocalPreference: defaultPreference, ASPath: a.ASPath.Numbers(), Origin: a.Origin,
			External: p.EBGP, RouterID: a.OriginatorID, Communities: slices.Clone(a.Communities),
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
		s.Encapsulations |= encapsulationOf(c)
	}
	if s.Encapsulations == 0 { // who does not say takes MPLS
		s.Encapsulations = rib.MPLSoUDP | rib.MPLSoGRE
	}
	slices.Sort(s.Targets)
	slices.Sort(s.Communities)
	return s, len(s.Targets) > 0
}

func encapsulationOf(c bgp.ExtCommunity) rib.Encapsulations {
	switch c {
	case bgp.NewEncap(bgp.EncapGRE), bgp.NewEncap(bgp.EncapMPLSoGRE):
		return rib.MPLSoGRE
	case bgp.NewEncap(bgp.EncapMPLSoUDP), bgp.NewEncap(bgp.EncapMPLSoUDPLegacy):
		return rib.MPLSoUDP
	case bgp.NewEncap(bgp.EncapVXLAN), bgp.NewEncap(bgp.EncapVXLANLegacy):
		return rib.VXLAN
	}
	return 0
}

// routesOf are the routes that peers are told of a place: one for each node
// that has it. Floating and alias addresses are not among them, for no node can
// take what is sent to one yet.
func (b *border) routesOf(at place) []bgp.Route {
	w := b.tables.networks[at.vrf]
	if w == nil || w.instance == nil || !w.instance.exported {
		return nil
	}
	var routes []bgp.Route
	for _, p := range b.tables.rib.Own(at.vrf, at.key) {
		if p.Flags&rib.Foreign != 0 {
			continue
		}
		nlri := bgp.VPNNLRI(distinguisher(p.NextHop, at.vrf, b.peering), at.key.Prefix())
		if slices.ContainsFunc(routes, func(r bgp.Route) bool { return r.NLRI == nlri }) {
			continue
		}
		attrs := &bgp.Attrs{NextHop: p.NextHop, Origin: bgp.OriginIGP, LocalPref: bgp.Some(p.LocalPreference), Communities: p.Communities}
		for _, t := range slices.Concat(w.instance.exports, p.Targets) {
			if c := bgp.ExtCommunity(t); !slices.Contains(attrs.ExtCommunities, c) {
				attrs.ExtCommunities = append(attrs.ExtCommunities, c)
			}
		}
		attrs.ExtCommunities = append(attrs.ExtCommunities, encapCommunities(p.Encapsulations)...)
		routes = append(routes, bgp.Route{NLRI: nlri, Label: p.Label, Attrs: attrs})
	}
	return routes
}

// distinguisher keeps the routes of nodes and networks apart. A network's
// number that does not fit beside an address has one for all its nodes.
func distinguisher(node netip.Addr, vrf uint32, p *peering) bgp.RD {
	if node.Is4() && vrf < 1<<16 {
		return bgp.RDFromAddr(node, uint16(vrf))
	}
	as := uint32(0)
	if p != nil {
		as = p.config.AS
	}
	return bgp.RDFromAS(uint16(as), vrf)
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
