package bgp

import (
	"cmp"
	"net/netip"
)

// choose puts the best path of a row first: RFC 4271 §9.1.2.2 with what came
// after it. What loses a step is out of the steps behind, so that the result
// does not depend on the order of the paths even where MED counts only between
// routes of one neighbouring AS.
func (r *row) choose(alwaysMED bool) {
	best := r.paths
	if best.next.next == nil {
		if compare(best.next, best, alwaysMED) < 0 {
			best = best.next
		}
	} else {
		best = selectBest(r.paths, alwaysMED)
	}
	if best == r.paths {
		return
	}
	for at := r.paths; ; at = at.next {
		if at.next == best {
			at.next = best.next
			best.next = r.paths
			r.paths = best
			return
		}
	}
}

// A step orders paths; less is better.
type step func(a, b *path) int

// before and after are the steps around MED. Before: own routes, those of
// living sessions, local preference, mobility, AS path, origin. After: eBGP,
// then the tie breakers, the last of which no two paths share.
var before = []step{
	func(a, b *path) int { return cmp.Compare(boolRank(a.src.local()), boolRank(b.src.local())) },
	func(a, b *path) int { return cmp.Compare(a.staleness(), b.staleness()) },
	func(a, b *path) int {
		return cmp.Compare(b.attrs.LocalPref.or(DefaultLocalPref), a.attrs.LocalPref.or(DefaultLocalPref))
	},
	func(a, b *path) int {
		x, _ := a.attrs.Mobility()
		y, _ := b.attrs.Mobility()
		return cmp.Compare(y, x)
	},
	func(a, b *path) int { return cmp.Compare(a.attrs.ASPath.Len(), b.attrs.ASPath.Len()) },
	func(a, b *path) int { return cmp.Compare(a.attrs.Origin, b.attrs.Origin) },
}

var after = []step{
	func(a, b *path) int { return cmp.Compare(boolRank(a.src.ebgp), boolRank(b.src.ebgp)) },
}

var ties = []step{
	func(a, b *path) int { return a.originator().Compare(b.originator()) },
	func(a, b *path) int { return cmp.Compare(len(a.attrs.ClusterList), len(b.attrs.ClusterList)) },
	func(a, b *path) int { return a.src.addr.Compare(b.src.addr) },
	func(a, b *path) int { return cmp.Compare(a.id, b.id) },
}

// staleness says how much a path is a last resort. A route that came with
// LLGR_STALE is one here, too (RFC 9494 §4.3).
func (p *path) staleness() staleness {
	if p.attrs.HasCommunity(CommunityLLGRStale) {
		return longStale
	}
	return p.src.stale
}

// originator is the router that brought the route into the AS.
func (p *path) originator() netip.Addr {
	if p.attrs.OriginatorID.IsValid() {
		return p.attrs.OriginatorID
	}
	return p.src.routerID
}

func boolRank(better bool) int {
	if better {
		return 0
	}
	return 1
}

func compareMED(a, b *path, always bool) int {
	if !always && a.attrs.ASPath.First() != b.attrs.ASPath.First() {
		return 0
	}
	return cmp.Compare(a.attrs.MED.or(0), b.attrs.MED.or(0))
}

// compare is the choice between two paths.
func compare(a, b *path, alwaysMED bool) int {
	for _, s := range before {
		if c := s(a, b); c != 0 {
			return c
		}
	}
	if c := compareMED(a, b, alwaysMED); c != 0 {
		return c
	}
	for _, steps := range [][]step{after, ties} {
		for _, s := range steps {
			if c := s(a, b); c != 0 {
				return c
			}
		}
	}
	return 0
}

// equals returns the paths that only tie breakers tell apart, of those that
// keep lets through: the candidates for multipath.
func equals(paths *path, alwaysMED bool, keep func(*path) bool) []*path {
	var left []*path
	for p := paths; p != nil; p = p.next {
		if keep == nil || keep(p) {
			left = append(left, p)
		}
	}
	for _, s := range before {
		left = keepBest(left, s)
	}
	var kept []*path
	for _, p := range left {
		worse := false
		for _, o := range left {
			worse = worse || compareMED(o, p, alwaysMED) < 0
		}
		if !worse {
			kept = append(kept, p)
		}
	}
	for _, s := range after {
		kept = keepBest(kept, s)
	}
	return kept
}

func selectBest(paths *path, alwaysMED bool) *path {
	left := equals(paths, alwaysMED, nil)
	for _, s := range ties {
		left = keepBest(left, s)
	}
	return left[0]
}

// keepBest keeps those that no other one beats in a step.
func keepBest(paths []*path, s step) []*path {
	if len(paths) < 2 {
		return paths
	}
	best := paths[0]
	for _, p := range paths[1:] {
		if s(p, best) < 0 {
			best = p
		}
	}
	kept := paths[:0]
	for _, p := range paths {
		if s(p, best) == 0 {
			kept = append(kept, p)
		}
	}
	return kept
}
