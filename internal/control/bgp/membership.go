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
	wide map[string]int
	// marked: the peer marks the end of what it wants at first.
	marked  bool
	pending memberChange
}

// memberChange is by how much counts of a membership change. What comes and
// goes again leaves nothing, so that a peer which reads nothing cannot fill it.
type memberChange struct {
	exact map[RouteTarget]int
	wide  map[string]int
}

// maxWide is how many short memberships are looked at for each route. Who has
// more gets everything.
const maxWide = 256

func newMembership() *membership {
	return &membership{
		exact: map[RouteTarget]int{}, wide: map[string]int{},
		pending: memberChange{map[RouteTarget]int{}, map[string]int{}},
	}
}

func (c *memberChange) empty() bool { return len(c.exact) == 0 && len(c.wide) == 0 }

// targetChange is what changed in a membership. With all set it was more than
// single targets.
type targetChange struct {
	added, removed map[RouteTarget]int
	all            bool
}

func (c *targetChange) empty() bool { return len(c.added) == 0 && len(c.removed) == 0 && !c.all }

// note records that the peer announced (by 1) or took back (by -1) a
// membership. Several origin ASes may want one target.
func (m *membership) note(key string, by int) {
	if key[0] != 96 {
		count(m.pending.wide, key, by)
		return
	}
	count(m.pending.exact, RouteTarget(binary.BigEndian.Uint64([]byte(key[5:]))), by)
}

// count changes a count; 0 is not kept.
func count[K comparable](counts map[K]int, key K, by int) {
	if counts[key] += by; counts[key] == 0 {
		delete(counts, key)
	}
}

// apply takes what is pending into the set and returns what it means: targets
// that are wanted now and were not, or no longer.
func (m *membership) apply() targetChange {
	p := m.pending
	m.pending = memberChange{map[RouteTarget]int{}, map[string]int{}}
	out := targetChange{added: map[RouteTarget]int{}, removed: map[RouteTarget]int{}, all: len(p.wide) > 0}
	for t, by := range p.exact {
		before := m.exact[t] > 0
		count(m.exact, t, by)
		switch now := m.exact[t] > 0; {
		case now && !before:
			out.added[t] = 1
		case !now && before:
			out.removed[t] = 1
		}
	}
	for key, by := range p.wide {
		count(m.wide, key, by)
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
	if m == nil || len(m.wide) > maxWide {
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
