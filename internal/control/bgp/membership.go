package bgp

import (
	"encoding/binary"
	"maps"
)

// membership is what route targets a peer wants (RFC 4684). A nil one wants
// all: the peer does not say. The session's writer owns the set; reader's
// changes wait in pending until it takes them, under the table's lock.
type membership struct {
	exact map[RouteTarget]int
	// wide counts memberships shorter than a whole target, by key; the empty
	// one is everything.
	wide    map[string]int
	pending targetChange
}

func newMembership() *membership {
	return &membership{exact: map[RouteTarget]int{}, wide: map[string]int{}}
}

// targetChange is what changed in a membership. With all set it was more than
// single targets.
type targetChange struct {
	added, removed map[RouteTarget]int
	wide           map[string]int
	all            bool
}

func (c *targetChange) empty() bool {
	return len(c.added) == 0 && len(c.removed) == 0 && len(c.wide) == 0 && !c.all
}

// note records that the peer announced (by 1) or took back (by -1) a
// membership. Several origin ASes may want one target.
func (m *membership) note(key string, by int) {
	p := &m.pending
	if key[0] != 96 {
		if p.wide == nil {
			p.wide = map[string]int{}
		}
		p.wide[key] += by
		return
	}
	t := RouteTarget(binary.BigEndian.Uint64([]byte(key[5:])))
	if p.added == nil {
		p.added, p.removed = map[RouteTarget]int{}, map[RouteTarget]int{}
	}
	if by > 0 {
		p.added[t] += by
	} else {
		p.removed[t] -= by
	}
}

// apply takes what is pending into the set and returns what it means: targets
// that are wanted now and were not, or no longer.
func (m *membership) apply() targetChange {
	p := m.pending
	m.pending = targetChange{}
	out := targetChange{added: map[RouteTarget]int{}, removed: map[RouteTarget]int{}, all: len(p.wide) > 0}
	before := map[RouteTarget]bool{}
	for _, part := range []map[RouteTarget]int{p.added, p.removed} {
		for t := range part {
			before[t] = m.exact[t] > 0
		}
	}
	for t := range before {
		m.exact[t] += p.added[t] - p.removed[t]
		now := m.exact[t] > 0
		if !now {
			delete(m.exact, t)
		}
		switch {
		case now && !before[t]:
			out.added[t] = 1
		case !now && before[t]:
			out.removed[t] = 1
		}
	}
	for key, by := range p.wide {
		if m.wide[key] += by; m.wide[key] <= 0 {
			delete(m.wide, key)
		}
	}
	return out
}

// merge adds a later change.
func (c *targetChange) merge(o targetChange) {
	c.all = c.all || o.all
	if c.added == nil {
		c.added, c.removed = map[RouteTarget]int{}, map[RouteTarget]int{}
	}
	maps.Copy(c.added, o.added)
	maps.Copy(c.removed, o.removed)
}

// wants says whether routes with the attributes pass.
func (m *membership) wants(a *Attrs) bool {
	if m == nil {
		return true
	}
	for _, c := range a.ExtCommunities {
		if !c.isTarget() {
			continue
		}
		if m.exact[RouteTarget(c)] > 0 {
			return true
		}
		for key := range m.wide {
			if covers(key, uint64(c)) {
				return true
			}
		}
	}
	// A route without targets is for those who want everything.
	return len(m.wide) > 0 && m.wide["\x00"] > 0
}

// covers says whether a membership shorter than a target matches one: its bits
// behind the origin AS are the first of the target.
func covers(key string, target uint64) bool {
	bits := int(key[0]) - 32
	if bits <= 0 {
		return true
	}
	have := make([]byte, 8)
	copy(have, key[5:])
	shift := uint(64 - bits)
	return binary.BigEndian.Uint64(have)>>shift == target>>shift
}

// touches says whether the change concerns routes with the attributes.
func touches(set map[RouteTarget]int, a *Attrs) bool {
	for _, c := range a.ExtCommunities {
		if set[RouteTarget(c)] > 0 && c.isTarget() {
			return true
		}
	}
	return false
}

// membershipKey is the key of a membership of the whole target.
func membershipKey(as uint32, t RouteTarget) string {
	b := binary.BigEndian.AppendUint32([]byte{96}, as)
	return string(binary.BigEndian.AppendUint64(b, uint64(t)))
}
