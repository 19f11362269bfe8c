package bgp

import (
	"net/netip"
	"slices"
)

// exporter is what the messages to a peer depend on. Peers with equal ones get
// the same bytes: they are one group.
type exporter struct {
	families    familySet
	ebgp        bool
	client      bool
	as4         bool
	llgr        bool
	localAS     uint32
	prepend     uint8
	nextHopSelf bool   // in all families
	unchanged   bool   // in none
	override    uint32 // the AS in whose place the own one is put, 0 for none
	private     PrivateAS
	peerAS      uint32 // where something depends on it
	self4       netip.Addr
	self6       netip.Addr
	routerID    netip.Addr
	clusterID   uint32
}

// allows says whether a path may go out at all to peers of the kind.
func (e *exporter) allows(f Family, p *path) bool {
	a := p.attrs
	if !p.src.ebgp && !p.src.local() && !e.ebgp && !e.client && !p.src.client {
		return false // between iBGP peers that are no clients, RFC 4456 §6
	}
	for _, c := range a.Communities {
		switch c {
		case CommunityNoAdvertise:
			return false
		case CommunityNoExport, communityNoExportSub:
			if e.ebgp {
				return false
			}
		case CommunityLLGRStale:
			if !e.llgr && !p.src.local() { // what is told of one's own is the owner's choice
				return false
			}
		}
	}
	if p.src.stale == longStale && (!e.llgr || a.HasCommunity(CommunityNoLLGR)) {
		return false
	}
	switch hop := e.nextHop(f, a); f {
	case Inet, VPNv4: // others need RFC 8950
		return hop.Is4()
	case Inet6:
		return hop.Is6()
	default:
		return hop.IsValid()
	}
}

// nextHop is the next hop that peers are told.
func (e *exporter) nextHop(f Family, a *Attrs) netip.Addr {
	self := e.nextHopSelf || f == RTC
	if e.ebgp && (f == Inet || f == Inet6) {
		self = self || !e.unchanged
	}
	if !self {
		return a.NextHop
	}
	if (f == Inet6 || !e.self4.IsValid()) && e.self6.IsValid() {
		return e.self6
	}
	return e.self4
}

// rewrite returns the attributes as peers are told them.
func (e *exporter) rewrite(f Family, src *source, a *Attrs, state staleness) *Attrs {
	out := &Attrs{
		Origin: a.Origin, ASPath: a.ASPath, MED: a.MED, LocalPref: a.LocalPref,
		Communities: a.Communities, ExtCommunities: a.ExtCommunities, PMSI: a.PMSI, Others: a.Others,
	}
	if state == longStale && !a.HasCommunity(CommunityLLGRStale) {
		out.Communities = append(slices.Clone(a.Communities), CommunityLLGRStale)
	}
	if !e.llgr && a.HasCommunity(CommunityLLGRStale) { // nobody is told who does not know it
		out.Communities = slices.DeleteFunc(slices.Clone(out.Communities), func(c uint32) bool { return c == CommunityLLGRStale })
	}
	if e.ebgp {
		out.ASPath = a.ASPath.replace(e.override, e.localAS).withoutPrivate(e.private, e.peerAS, e.localAS).prepend(e.localAS, 1+int(e.prepend))
		out.LocalPref = Optional{}
		if !src.local() {
			out.MED = Optional{} // RFC 4271 §5.1.4
		}
		out.ExtCommunities = slices.DeleteFunc(slices.Clone(a.ExtCommunities), func(c ExtCommunity) bool {
			return c.kind()&extNotAcrossASs != 0
		})
		return out
	}
	if !out.LocalPref.Set {
		out.LocalPref = Some(DefaultLocalPref)
	}
	switch {
	case src.local() || src.ebgp:
	case f == RTC:
		out.OriginatorID = e.routerID // RFC 4684 §3.2
	default:
		out.OriginatorID = a.OriginatorID
		if !a.OriginatorID.IsValid() {
			out.OriginatorID = src.routerID
		}
		out.ClusterList = append([]uint32{e.clusterID}, a.ClusterList...)
	}
	return out
}
