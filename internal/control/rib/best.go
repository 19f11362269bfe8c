package rib

import (
	"cmp"
	"slices"
	"sort"
)

// maxMultipath is the most paths that share the traffic to a key.
const maxMultipath = 64

// step is one rule of the choice: negative when a is better.
type step struct {
	name    string
	compare func(v *vrf, a, b *Path) int
}

// steps are in the order that the package comment tells.
var steps = []step{
	{"usable", func(_ *vrf, a, b *Path) int { return first(a.Usable(), b.Usable()) }},
	{"bound in the store", func(v *vrf, a, b *Path) int { return cmp.Compare(v.rank(b), v.rank(a)) }},
	{"fewer chains", func(_ *vrf, a, b *Path) int { return cmp.Compare(len(a.Networks), len(b.Networks)) }},
	{"fresh", func(_ *vrf, a, b *Path) int {
		if a.Kind.bound() || b.Kind.bound() {
			return 0
		}
		return first(a.Flags&Stale == 0, b.Flags&Stale == 0)
	}},
	{"local preference", func(_ *vrf, a, b *Path) int { return cmp.Compare(b.LocalPreference, a.LocalPreference) }},
	{"sequence", func(_ *vrf, a, b *Path) int { return cmp.Compare(b.Sequence, a.Sequence) }},
	{"not stale", func(_ *vrf, a, b *Path) int { return first(a.Flags&Stale == 0, b.Flags&Stale == 0) }},
	{"AS path", func(_ *vrf, a, b *Path) int { return cmp.Compare(len(a.ASPath), len(b.ASPath)) }},
	{"origin", func(_ *vrf, a, b *Path) int { return cmp.Compare(a.Origin, b.Origin) }},
	{"MED", func(_ *vrf, a, b *Path) int { return cmp.Compare(a.MED, b.MED) }},
	{"external peer", func(_ *vrf, a, b *Path) int { return first(a.External, b.External) }},
	{"multipath", func(_ *vrf, a, b *Path) int { return first(a.Flags&Multipath != 0, b.Flags&Multipath != 0) }},
	{"router id", func(_ *vrf, a, b *Path) int { return a.RouterID.Compare(b.RouterID) }},
	{"next hop", func(_ *vrf, a, b *Path) int { return a.NextHop.Compare(b.NextHop) }},
	{"label", func(_ *vrf, a, b *Path) int {
		return cmp.Or(cmp.Compare(a.Label, b.Label), cmp.Compare(a.VNI, b.VNI))
	}},
	{"source", func(_ *vrf, a, b *Path) int { return compareSources(a.Source, b.Source) }},
	{"origin VRF", func(_ *vrf, a, b *Path) int {
		return cmp.Or(cmp.Compare(a.originNumber(), b.originNumber()), cmp.Compare(a.rd, b.rd), a.Key.Compare(b.Key))
	}},
}

// equalSteps is how many steps must not tell paths apart that share traffic.
var equalSteps = slices.IndexFunc(steps, func(s step) bool { return s.name == "router id" })

// first orders what is so before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// rank is how much the VRF trusts a path, more being better.
func (v *vrf) rank(p *Path) int {
	switch {
	case p.Kind.bound() && p.origin == v:
		return 2
	case p.Kind.bound():
		return 1
	}
	return 0
}

func (p *Path) originNumber() uint32 {
	if p.origin == nil {
		return 0
	}
	return p.origin.Number
}

// compare orders the paths of a route, the best first. at is the step that
// decided.
func (v *vrf) compare(a, b *Path) (order, at int) {
	for i := range steps {
		if c := steps[i].compare(v, a, b); c != 0 {
			return c, i
		}
	}
	return 0, len(steps)
}

// insert puts a path among those that a route has. Paths are replaced, never
// changed, because what was told of them refers to the old ones.
func (rt *route) insert(p *Path) {
	at := sort.Search(len(rt.paths), func(i int) bool {
		order, _ := rt.vrf.compare(p, rt.paths[i])
		return order < 0
	})
	paths := make([]*Path, len(rt.paths)+1)
	copy(paths, rt.paths[:at])
	paths[at] = p
	copy(paths[at+1:], rt.paths[at:])
	rt.paths = paths
}

// drop takes a path out.
func (rt *route) drop(p *Path) {
	at := slices.Index(rt.paths, p)
	if at < 0 {
		return
	}
	if len(rt.paths) == 1 {
		rt.paths = nil
		return
	}
	rt.paths = slices.Concat(rt.paths[:at], rt.paths[at+1:])
}

// chosen are the paths that traffic takes.
func (rt *route) chosen() []*Path { return rt.vrf.choose(rt.paths) }

// choose are those of paths, the best first, that traffic would take.
func (v *vrf) choose(paths []*Path) []*Path {
	if len(paths) == 0 || !paths[0].Usable() {
		return nil
	}
	best, n := paths[0], 1
	if best.Flags&Multipath != 0 {
		for n < min(len(paths), maxMultipath) {
			if _, at := v.compare(best, paths[n]); at < equalSteps {
				break
			}
			n++
		}
	}
	return paths[:n:n]
}

// ways are the paths by which other routes are reached through this one. Those that
// are reached so themselves are passed over, whether or not they are better: else
// one could take away its own way.
func (rt *route) ways() []*Path {
	paths := rt.paths
	if slices.ContainsFunc(paths, func(p *Path) bool { return p.Kind.resolved() }) {
		paths = slices.DeleteFunc(slices.Clone(paths), func(p *Path) bool { return p.Kind.resolved() })
	}
	return rt.vrf.choose(paths)
}
