package rib

import (
	"slices"

	"github.com/contrail-mesos/contrail/internal/compile"
)

// filter is what the routing policies of a VRF have made of the paths that came to
// its unicast routes. A VRF without policies has none.
type filter struct {
	policies []*compile.RoutingPolicy
	came     map[Key][]passed
}

// passed is a path that came to a VRF, and what its policies have made of it:
// the same where nothing was changed, nil where it was rejected.
type passed struct{ from, path *Path }

// came are the paths that came to a route of the VRF, with what has become of
// them.
func (v *vrf) came(key Key) []passed {
	if v.filter != nil && key.kind == Unicast {
		return v.filter.came[key]
	}
	rt := v.routes[key]
	if rt == nil {
		return nil
	}
	list := make([]passed, len(rt.paths))
	for i, p := range rt.paths {
		list[i] = passed{p, p}
	}
	return list
}

// became is what the policies of a VRF have made of a path that came to it.
func (v *vrf) became(p *Path) *Path {
	key := p.Key.inVRF()
	if v.filter == nil || key.kind != Unicast {
		return p
	}
	for _, x := range v.filter.came[key] {
		if x.from == p {
			return x.path
		}
	}
	return nil
}

// cameAs is a path of the VRF as it came.
func (v *vrf) cameAs(p *Path) *Path {
	for _, x := range v.came(p.Key.inVRF()) {
		if x.path == p {
			return x.from
		}
	}
	return p
}

// pass has a path that comes to a VRF go through its policies; nil when they
// reject it.
func (v *vrf) pass(p *Path) *Path {
	key := p.Key.inVRF()
	if v.filter == nil || key.kind != Unicast {
		return p
	}
	q := v.through(key, p)
	v.filter.came[key] = append(v.filter.came[key], passed{p, q})
	return q
}

// unpass forgets a path that came to a VRF, and returns what had become of it. What
// is another path is to be released.
func (v *vrf) unpass(p *Path) *Path {
	key := p.Key.inVRF()
	if v.filter == nil || key.kind != Unicast {
		return p
	}
	list := v.filter.came[key]
	at := slices.IndexFunc(list, func(x passed) bool { return x.from == p })
	if at < 0 {
		return nil
	}
	q := list[at].path
	if len(list) == 1 {
		delete(v.filter.came, key)
	} else {
		v.filter.came[key] = slices.Delete(list, at, at+1)
	}
	return q
}

// through is what the policies of a VRF make of a path; nil when they reject it.
func (v *vrf) through(key Key, p *Path) *Path {
	a, accepted := v.apply(key, p, nil)
	if !accepted {
		return nil
	}
	attributes := v.rib.intern(&a)
	if attributes == p.sharedAttributes {
		v.rib.release(attributes)
		return p
	}
	q := *p
	q.sharedAttributes = attributes
	q.set, q.next, q.prev, q.sibling = nil, nil, nil, nil
	return &q
}

// apply has the attributes of a path go through the policies of a VRF. The targets
// that a VRF exports are seen by those who import, not by itself.
func (v *vrf) apply(key Key, p *Path, matched func(*compile.RoutingPolicy, int)) (Attributes, bool) {
	s, targets := p.spec(), p.Targets
	if p.origin != v {
		targets = p.targets()
	}
	return applyPolicies(v.filter.policies, key, &s, targets, matched)
}

// sourcesOf are the names under which policies know where a path is from.
func sourcesOf(kind SourceKind, flags Flags) []string {
	switch {
	case kind == InterfaceRoute:
		return []string{"xmpp", "local", "interface-static"}
	case kind.bound() && flags&Service != 0:
		return []string{"xmpp", "local", "service-interface"}
	case kind.bound():
		return []string{"xmpp", "local", "interface"}
	case kind == Static:
		return []string{"static"}
	case kind == Aggregate:
		return []string{"aggregate"}
	case kind == Chain:
		return []string{"service-chain"}
	case kind == Task:
		return []string{"bgpaas"}
	}
	return []string{"bgp"}
}

// applyPolicies has a path to a key go through policies. It returns its attributes
// as they are afterwards, and whether it is accepted. Targets are those that it is
// seen to have; matched, which may be nil, is told of each term that matches.
func applyPolicies(
	policies []*compile.RoutingPolicy, key Key, s *Spec, targets []Target, matched func(*compile.RoutingPolicy, int),
) (Attributes, bool) {
	a := s.Attributes
	before := make([]uint64, 0, len(targets)+len(a.ExtCommunities))
	for _, t := range targets {
		before = append(before, uint64(t))
	}
	before = append(before, a.ExtCommunities...)
	slices.Sort(before)
	route := &compile.PolicyRoute{
		Prefix: key.Prefix(), Sources: sourcesOf(s.Kind, s.Flags), Communities: a.Communities, ExtCommunities: before,
		ASPath: a.ASPath, LocalPreference: a.LocalPreference, MED: a.MED,
	}
	if !compile.ApplyPolicies(policies, route, matched) {
		return a, false
	}
	a.Communities, a.ASPath, a.LocalPreference, a.MED = route.Communities, route.ASPath, route.LocalPreference, route.MED
	if slices.Equal(before, route.ExtCommunities) {
		return a, true
	}
	a.Targets, a.ExtCommunities = nil, nil
	for _, c := range route.ExtCommunities {
		if _, ok := compile.TargetOfCommunity(c); ok {
			a.Targets = append(a.Targets, Target(c))
		} else {
			a.ExtCommunities = append(a.ExtCommunities, c)
		}
	}
	return a, true
}

// setPolicies has all that came to a VRF go through other policies.
func (v *vrf) setPolicies(policies []*compile.RoutingPolicy) {
	var all []passed
	if v.filter != nil {
		for _, list := range v.filter.came {
			all = append(all, list...)
		}
	} else {
		for key := range v.routes {
			if key.kind == Unicast {
				all = append(all, v.came(key)...)
			}
		}
	}
	v.filter = nil
	if len(policies) > 0 {
		v.filter = &filter{policies: policies, came: map[Key][]passed{}}
	}
	for _, was := range all {
		v.repass(was)
	}
}

// repass has a path that had come to a VRF before, and was forgotten, go through its
// present policies.
func (v *vrf) repass(was passed) {
	r := v.rib
	now := v.pass(was.from)
	if now != nil && was.path != nil && now.sharedAttributes == was.path.sharedAttributes {
		if now != was.path { // the same again: readers need not be told
			r.release(now.sharedAttributes)
			list := v.filter.came[was.from.Key.inVRF()]
			list[len(list)-1].path = was.path
		}
		return
	}
	if was.path != nil {
		v.retract(was.path)
		r.releaseOther(was.path, was.from)
	}
	if now != nil {
		v.offer(now)
	}
}

// releaseOther releases what had become of a path, if that is another one.
func (r *RIB) releaseOther(path, from *Path) {
	if path != from {
		r.release(path.sharedAttributes)
	}
}
