package rib

import "slices"

// targetSet is the list of all paths that have the same targets.
type targetSet struct {
	code   string
	topics []topic
	first  *Path
	// importers are the VRFs that import any of the targets.
	importers []*vrf
}

func (c *VRF) topics() []topic {
	topics := make([]topic, 0, len(c.Import)+len(c.External))
	for _, t := range c.Import {
		topics = append(topics, topic{t, false})
	}
	for _, t := range c.External {
		topics = append(topics, topic{t, true})
	}
	return topics
}

// targets are those that a path is offered under; none when no other VRF may
// have it.
func (p *Path) targets() []Target {
	switch {
	case p.origin == nil:
		return p.Targets
	case p.Key.Layer2(), p.Kind == Chain:
		return nil
	case len(p.Targets) == 0:
		return p.origin.Export
	}
	return sortedTargets(p.origin.Export, p.Targets)
}

// list enters a path in the list of its targets.
func (r *RIB) list(p *Path) {
	targets, external := p.targets(), p.origin == nil
	if len(targets) == 0 {
		return
	}
	code := code(targets, external)
	set, ok := r.sets[code]
	if !ok {
		set = &targetSet{code: code, topics: make([]topic, len(targets))}
		for i, t := range targets {
			at := topic{t, external}
			set.topics[i] = at
			enter(r.exporters, at, set)
			for v := range r.importers[at] {
				if !slices.Contains(set.importers, v) {
					set.importers = append(set.importers, v)
				}
			}
		}
		r.sets[code] = set
	}
	p.set, p.next = set, set.first
	if set.first != nil {
		set.first.prev = p
	}
	set.first = p
}

// unlist takes a path out of its list, and forgets an empty one.
func (r *RIB) unlist(p *Path) {
	set := p.set
	if set == nil {
		return
	}
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		set.first = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	}
	p.set, p.next, p.prev = nil, nil, nil
	if set.first == nil {
		delete(r.sets, set.code)
		for _, at := range set.topics {
			leave(r.exporters, at, set)
		}
	}
}

// retarget moves a path to the list of the targets that it has now.
func (r *RIB) retarget(p *Path) {
	var before []*vrf
	if p.set != nil {
		before = p.set.importers
	}
	r.unlist(p)
	r.list(p)
	var after []*vrf
	if p.set != nil {
		after = p.set.importers
	}
	for _, v := range before {
		switch {
		case v == p.origin:
		case !slices.Contains(after, v):
			v.drop(p)
		case v.filter != nil: // its policies may look at the targets
			v.repass(passed{p, v.unpass(p)})
		}
	}
	for _, v := range after {
		if v != p.origin && !slices.Contains(before, v) {
			v.add(p)
		}
	}
}

// reimport has a VRF import by other topics than before.
func (r *RIB) reimport(v *vrf, before, after []topic) {
	affected := map[*targetSet]struct{}{}
	note := func(at topic) {
		for set := range r.exporters[at] {
			affected[set] = struct{}{}
		}
	}
	for _, at := range before {
		if !slices.Contains(after, at) {
			leave(r.importers, at, v)
			note(at)
		}
	}
	for _, at := range after {
		if !slices.Contains(before, at) {
			enter(r.importers, at, v)
			note(at)
		}
	}
	for set := range affected {
		had := slices.Index(set.importers, v)
		has := slices.ContainsFunc(set.topics, func(at topic) bool { _, ok := r.importers[at][v]; return ok })
		switch {
		case had < 0 && has:
			set.importers = append(set.importers, v)
			set.forEach(v, v.add)
		case had >= 0 && !has:
			set.importers = slices.Delete(slices.Clone(set.importers), had, had+1)
			set.forEach(v, v.drop)
		}
	}
}

// forEach calls f with the paths that v does not have as its own.
func (s *targetSet) forEach(v *vrf, f func(*Path)) {
	for p := s.first; p != nil; p = p.next {
		if p.origin != v {
			f(p)
		}
	}
}

func enter[K, T comparable](index map[K]map[T]struct{}, at K, x T) {
	if index[at] == nil {
		index[at] = map[T]struct{}{}
	}
	index[at][x] = struct{}{}
}

func leave[K, T comparable](index map[K]map[T]struct{}, at K, x T) {
	delete(index[at], x)
	if len(index[at]) == 0 {
		delete(index, at)
	}
}
