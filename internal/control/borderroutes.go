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

// keysOf are the keys that a peer's route has in the tables, and its route
// distinguisher. A MAC with an address is two: there is a route to the address
// as well, so that who only routes gets there.
func keysOf(n bgp.NLRI) ([]rib.Key, rib.RD) {
	if n.Family == bgp.Inet || n.Family == bgp.Inet6 {
		prefix, ok := n.Prefix()
		if !ok {
			return nil, 0
		}
		return []rib.Key{rib.UnicastKey(prefix)}, rib.Fabric
	}
	rd, ok := n.RD()
	at := rib.RD(binary.BigEndian.Uint64(rd[:]))
	if !ok || at == rib.Fabric {
		return nil, 0
	}
	if n.Family != bgp.EVPN {
		prefix, ok := n.Prefix()
		if !ok {
			return nil, 0
		}
		return []rib.Key{rib.UnicastKey(prefix)}, at
	}
	r, err := n.EVPN()
	if err != nil {
		return nil, 0
	}
	switch r.Type {
	case 2:
		keys := []rib.Key{rib.MACKey(r.Tag, [6]byte(r.MAC), r.IP)}
		if r.IP.IsValid() {
			keys = append(keys, rib.NeighbourKey(r.Tag, [6]byte(r.MAC), r.IP))
		}
		return keys, at
	case 3:
		return []rib.Key{rib.MulticastKey(r.Tag, r.IP)}, at
	case 5:
		return []rib.Key{rib.PrefixKey(r.Tag, r.Prefix)}, at
	}
	return nil, 0
}

// specOf is a peer's path as the tables have it; false when no network wants
// it, or no node could take it. What has no label is for the fabric's table. Of a
// trusted peer it says who is behind it, in the numbers of the own autonomous
// system.
func specOf(f bgp.Family, p *bgp.Path, wanted map[rib.Target]struct{}, as uint16) (rib.Spec, bool) {
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
	for _, list := range [][]uint32{s.Communities, s.SecurityGroups, s.Tags} {
		slices.Sort(list)
	}
	if f == bgp.Inet || f == bgp.Inet6 {
		s.Targets = []rib.Target{rib.FabricTarget}
		return s, true
	}
	for _, c := range a.ExtCommunities {
		if _, ok := wanted[rib.Target(c)]; ok {
			s.Targets = append(s.Targets, rib.Target(c))
		} else if c.IsMark() {
			s.ExtCommunities = append(s.ExtCommunities, uint64(c))
		}
	}
	for _, e := range a.Encaps() {
		s.Encapsulations |= encapsulationOf(e)
	}
	if s.Encapsulations == 0 { // who does not say takes MPLS
		s.Encapsulations = rib.MPLSoUDP | rib.MPLSoGRE
	}
	slices.Sort(s.Targets)
	slices.Sort(s.ExtCommunities)
	for _, list := range [][]uint32{s.Communities, s.SecurityGroups, s.Tags} {
		slices.Sort(list)
	}
	if len(s.Targets) == 0 {
		return s, false
	}
	return s, f != bgp.EVPN || takeVXLAN(&s, p)
}

// takeVXLAN fills in what an EVPN route says of the way by VXLAN. By MPLS its
// label would be one of a bridge, which nodes are not.
func takeVXLAN(s *rib.Spec, p *bgp.Path) bool {
	r, err := p.EVPN()
	if err != nil || s.Encapsulations&rib.VXLAN == 0 {
		return false
	}
	s.Encapsulations, s.VNI = rib.VXLAN, r.Label
	switch r.Type {
	case 2:
		s.MAC = [6]byte(r.MAC)
		if n, ok := p.Attrs.Mobility(); ok {
			s.Sequence = uint64(n)
		}
	case 3:
		s.VNI, _ = p.Attrs.IngressReplication()
	case 5:
		// A prefix behind an address is reached by that one's route (RFC 9136
		// §3.2), which is not looked for here.
		if r.Gateway.IsValid() && !r.Gateway.IsUnspecified() {
			return false
		}
		s.MAC, _ = p.Attrs.RouterMAC()
	}
	return s.VNI != 0 && s.MAC[0]&1 == 0
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
// that has it, and a second one by EVPN of prefixes, where these are told so. The
// ways through services are not among them, which are for the network alone, nor
// what is reached in no way that the kind of route allows: a prefix by MPLS, MACs,
// broadcasts and the prefixes of EVPN by VXLAN.
func (b *border) routesOf(at place) []bgp.Route {
	w := b.tables.networks[at.vrf]
	if w == nil || !w.exports() {
		return nil
	}
	var routes []bgp.Route
	for _, p := range b.tables.rib.Own(at.vrf, at.key) {
		if p.Kind == rib.Chain || !w.instance.Layer3 && !at.key.Layer2() || !w.instance.exported && len(p.Targets) == 0 {
			continue
		}
		for _, f := range b.forms(w, at.key, p) {
			same := func(r bgp.Route) bool { return r.NLRI == f.route.NLRI }
			if f.encapsulations != 0 && !slices.ContainsFunc(routes, same) {
				f.route.Attrs = b.attributes(w, at.key, p, &f)
				routes = append(routes, f.route)
			}
		}
	}
	return routes
}

// form is a path as a family of BGP has it, without attributes, and how it may be
// taken.
type form struct {
	route          bgp.Route
	encapsulations rib.Encapsulations
}

func (b *border) forms(w *network, key rib.Key, p *rib.Path) []form {
	var forms []form
	add := func(r bgp.Route, err error, e rib.Encapsulations) {
		if err == nil {
			forms = append(forms, form{r, e & p.Encapsulations})
		}
	}
	rd := b.distinguishers.of(w.number, p.NextHop, b.shortAS())
	if key.Layer2() {
		route, err := bridgeRoute(key, p, rd)
		add(route, err, rib.VXLAN)
		return forms
	}
	add(bgp.Route{NLRI: bgp.VPNNLRI(rd, key.Prefix()), Label: p.Label}, nil, rib.MPLSoUDP|rib.MPLSoGRE)
	if w.instance.Prefixes && p.VNI != 0 && p.NextHop.Is4() {
		route, err := evpnRoute(bgp.EVPNRoute{Type: 5, RD: rd, Prefix: key.Prefix(), Label: w.instance.routerVNI()})
		add(route, err, rib.VXLAN)
	}
	return forms
}

// routerVNI is the VXLAN network identifier by which routers reach what they do not
// bridge: that of the logical router, else of the network. Of several logical routers
// one speaks for the network, as a prefix has one route.
func (i *instance) routerVNI() uint32 {
	if len(i.RouterVNIs) > 0 {
		return i.RouterVNIs[0]
	}
	return i.VXLAN
}

// routerMAC is the MAC of a node as a router: its own, as routers have one for an end
// of tunnels, and one end of tunnels for a MAC. It follows from the address, so that
// the node knows it (see node_mac of the data plane).
func routerMAC(node netip.Addr) [6]byte {
	a := node.As4()
	return [6]byte{0x0e, 0, a[0], a[1], a[2], a[3]}
}

func evpnRoute(r bgp.EVPNRoute) (bgp.Route, error) {
	nlri, err := r.NLRI()
	return bgp.Route{NLRI: nlri, EVPN: &r}, err
}

// bridgeRoute is a path to a MAC or of broadcasts.
func bridgeRoute(key rib.Key, p *rib.Path, rd bgp.RD) (bgp.Route, error) {
	r := bgp.EVPNRoute{Type: 3, RD: rd, Tag: key.Tag(), IP: key.Address()}
	if key.Kind() == rib.MAC {
		mac := key.HardwareAddress()
		r.Type, r.MAC, r.Label = 2, mac[:], p.VNI
	}
	return evpnRoute(r)
}

// attributes are those of a path as peers are told it.
func (b *border) attributes(w *network, key rib.Key, p *rib.Path, f *form) *bgp.Attrs {
	preference, communities := p.LocalPreference, p.Communities
	if p.Flags&rib.Stale != 0 { // the last resort, also for peers that do not know the community
		preference, communities = 0, append(slices.Clone(communities), bgp.CommunityLLGRStale)
	}
	attrs := &bgp.Attrs{
		NextHop: p.NextHop, Origin: bgp.OriginIGP, ASPath: bgp.NewASPath(p.ASPath...), LocalPref: bgp.Some(preference),
		MED: bgp.Optional{Value: p.MED, Set: p.MED != 0}, Communities: communities,
	}
	for _, t := range slices.Concat(w.instance.exports, p.Targets) {
		if c := bgp.ExtCommunity(t); !slices.Contains(attrs.ExtCommunities, c) {
			attrs.ExtCommunities = append(attrs.ExtCommunities, c)
		}
	}
	for _, c := range p.ExtCommunities {
		attrs.ExtCommunities = append(attrs.ExtCommunities, bgp.ExtCommunity(c))
	}
	attrs.ExtCommunities = slices.Concat(attrs.ExtCommunities, encapCommunities(f.encapsulations), b.identities(p))
	switch {
	case key.Kind() == rib.Multicast:
		attrs.PMSI = bgp.IngressReplication(p.VNI, p.NextHop)
	case f.route.EVPN != nil && f.route.EVPN.Type == 5:
		attrs.ExtCommunities = append(attrs.ExtCommunities, bgp.NewRouterMAC(routerMAC(p.NextHop)))
	}
	return attrs
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
