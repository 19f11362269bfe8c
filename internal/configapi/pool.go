package configapi

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"

	"github.com/contrail-mesos/contrail/internal/store"
)

// pool is one set of things to give out: the addresses of a scope, numbers of
// a kind, labels of a node. A million in use cost some 200 KiB, a million at
// rest less than 1 MiB. The ledger's mutex guards it.
type pool struct {
	// taken are those in use or at rest.
	taken bitset
	// resting says of those at rest to which group they belong, by page.
	resting map[index]*tags
	groups  [maxGroups + 1]restGroup // by tag; 0 is not at rest
	leases  map[store.Lease]uint8    // tags of the groups
	held    map[index]int
	// cursor is where the next search begins, by the first of the span: going
	// on from the last given gives what was freed the longest rest.
	cursor map[index]index
	// crowded is set when another controller took what this one had chosen. The
	// next search begins somewhere else: side by side they would go on to choose
	// the same.
	crowded bool
	// near has a crowded pool searched a little further on, not anywhere.
	near bool
	used int
}

// maxGroups is how many ages of rest are told apart.
const maxGroups = 15

// restGroup are things whose rest began at about the same time: under the same
// lease, or under leases next to each other.
type restGroup struct {
	// since is the earliest revision at which one of them began its rest.
	since int64
	count int
}

// tags of a page: four bits for each.
type tags struct {
	words [pageSize / 16]uint64
	count int
}

func (t *tags) get(bit int) uint8 { return uint8(t.words[bit/16] >> (bit % 16 * 4) & 15) }

func (t *tags) set(bit int, tag uint8) {
	word, shift := &t.words[bit/16], bit%16*4
	*word = *word&^(15<<shift) | uint64(tag)<<shift
}

// each calls f with the bits that have the tag, until f returns false.
func (t *tags) each(tag uint8, f func(bit int) bool) {
	const ones = 0x1111111111111111
	for w, word := range t.words {
		if word == 0 {
			continue
		}
		// Four bits that are zero here have the tag; what a borrow adds above
		// the first of them is looked at again.
		x := word ^ uint64(tag)*ones
		for hits := (x - ones) & ^x & (ones << 3); hits != 0; hits &= hits - 1 {
			bit := w*16 + bits.TrailingZeros64(hits)/4
			if t.get(bit) == tag && !f(bit) {
				return
			}
		}
	}
}

func newPool() *pool {
	return &pool{resting: map[index]*tags{}, held: map[index]int{}, cursor: map[index]index{}}
}

// empty tells whether nothing is known of the pool.
func (p *pool) empty() bool { return p.taken.empty() && len(p.held) == 0 }

func (p *pool) tagOf(i index) uint8 {
	if t := p.resting[i.page()]; t != nil {
		return t.get(i.bit())
	}
	return 0
}

func (p *pool) isUsed(i index) bool { return p.taken.has(i) && p.tagOf(i) == 0 }

// note records what the store says of a thing. One that is in use does not
// rest: the store has the end of the rest in the same transaction.
func (p *pool) note(i index, e store.Entry, rest bool) {
	used, resting := p.isUsed(i), p.tagOf(i) != 0
	switch {
	case rest && e.Deleted:
		if resting {
			p.awake(i)
			p.taken.clear(i)
		}
	case rest:
		if !used && !resting {
			p.taken.set(i)
			p.lay(i, p.group(e.Lease, e.Modified))
		}
	case e.Deleted:
		if used {
			p.used--
			p.taken.clear(i)
		}
	case !used:
		p.awake(i)
		p.used++
		p.taken.set(i)
	}
}

// lay puts a thing to rest.
func (p *pool) lay(i index, tag uint8) {
	t := p.resting[i.page()]
	if t == nil {
		t = &tags{}
		p.resting[i.page()] = t
	}
	t.set(i.bit(), tag)
	t.count++
	p.groups[tag].count++
}

// awake ends a rest, if there is one.
func (p *pool) awake(i index) {
	t := p.resting[i.page()]
	if t == nil {
		return
	}
	tag := t.get(i.bit())
	if tag == 0 {
		return
	}
	t.set(i.bit(), 0)
	p.groups[tag].count--
	if t.count--; t.count == 0 {
		delete(p.resting, i.page())
	}
}

// group is the tag of the things that rest under a lease.
func (p *pool) group(lease store.Lease, since int64) uint8 {
	if tag, ok := p.leases[lease]; ok && p.groups[tag].count > 0 {
		p.groups[tag].since = min(p.groups[tag].since, since)
		return tag
	}
	spare := uint8(0)
	for tag := uint8(1); tag <= maxGroups && spare == 0; tag++ {
		if p.groups[tag].count == 0 {
			spare = tag
		}
	}
	if spare == 0 {
		spare = p.join()
	}
	maps.DeleteFunc(p.leases, func(_ store.Lease, tag uint8) bool { return tag == spare })
	if p.leases == nil {
		p.leases = map[store.Lease]uint8{}
	}
	p.leases[lease] = spare
	p.groups[spare] = restGroup{since: since}
	return spare
}

// join makes one group of the two neighbours in age that have the fewest
// members together, and returns the tag that is spare now.
func (p *pool) join() uint8 {
	ages := p.ages()
	older, newer := ages[0], ages[1]
	for n, tag := range ages[1:] {
		if before := ages[n]; p.groups[before].count+p.groups[tag].count < p.groups[older].count+p.groups[newer].count {
			older, newer = before, tag
		}
	}
	for _, t := range p.resting {
		t.each(newer, func(bit int) bool {
			t.set(bit, older)
			return true
		})
	}
	p.groups[older].count += p.groups[newer].count
	p.groups[newer] = restGroup{}
	for lease, tag := range p.leases {
		if tag == newer {
			p.leases[lease] = older
		}
	}
	return newer
}

// ages are the tags in use, the oldest first.
func (p *pool) ages() []uint8 {
	var ages []uint8
	for tag := uint8(1); tag <= maxGroups; tag++ {
		if p.groups[tag].count > 0 {
			ages = append(ages, tag)
		}
	}
	slices.SortFunc(ages, func(a, b uint8) int { return cmp.Compare(p.groups[a].since, p.groups[b].since) })
	return ages
}

// choose finds a free thing in the first span that has one, and holds it. When
// all free ones are at rest, it takes one of those that have rested longest,
// and early is set.
func (p *pool) choose(spans ...span) (got index, early, ok bool) {
	if got, ok = p.pick(spans, false); ok {
		return got, false, true
	}
	got, ok = p.pick(spans, true)
	return got, true, ok
}

// pick finds and holds a thing that is free, or one that rests.
func (p *pool) pick(spans []span, resting bool) (got index, ok bool) {
	if resting {
		got, ok = p.oldest(spans)
	}
	for i := 0; i < len(spans) && !resting && !ok; i++ {
		got, ok = p.fresh(spans[i])
	}
	if ok {
		p.held[got]++
	}
	return got, ok
}

func (p *pool) fresh(s span) (index, bool) {
	from, ok := p.cursor[s.first]
	if !ok || !s.contains(from) {
		from = s.first
	}
	if p.crowded && p.near {
		from, p.crowded = s.ahead(from), false
	} else if p.crowded {
		from, p.crowded = s.somewhere(), false
	}
	for _, part := range []span{{from, s.last, s.unit, s.down}, {s.first, from, s.unit, s.down}} {
		for {
			i, ok := p.taken.firstClear(part)
			if !ok {
				break
			}
			next, more := part.past(i)
			if p.held[i] == 0 {
				p.goOn(s, i)
				return i, true
			}
			if !more {
				break
			}
			part.first = next
		}
	}
	return index{}, false
}

// goOn lets the next search of a span begin after i.
func (p *pool) goOn(s span, i index) {
	next := i.plus(s.unit)
	if s.down {
		next = i.minus(s.unit)
	}
	if i == s.last || !s.contains(next) {
		next = s.first
	}
	p.cursor[s.first] = next
}

// oldest finds one of the things of the spans that have rested longest.
func (p *pool) oldest(spans []span) (best index, found bool) {
	for _, tag := range p.ages() {
		for _, s := range spans {
			low, high := s.ends()
			for at, t := range p.resting {
				if at.compare(low.page()) < 0 || at.compare(high.page()) > 0 {
					continue
				}
				t.each(tag, func(bit int) bool {
					best = at.at(bit)
					found = s.contains(best) && p.held[best] == 0
					return !found
				})
				if found {
					return best, true
				}
			}
		}
	}
	return index{}, false
}

func (p *pool) release(i index) {
	if p.held[i]--; p.held[i] <= 0 {
		delete(p.held, i)
	}
}

// count says how many of the spans are in use (or about to be) and at rest.
func (p *pool) count(spans ...span) (used, resting int) {
	for _, s := range spans {
		low, high := s.ends()
		p.taken.each(low, high, func(at index, words [pageWords]uint64) bool {
			t := p.resting[at]
			for w, word := range words {
				word &= multiples(w, s.unit)
				used += bits.OnesCount64(word)
				for ; t != nil && word != 0; word &= word - 1 {
					if t.get(w*64+bits.TrailingZeros64(word)) != 0 {
						resting++
					}
				}
			}
			return true
		})
		for i := range p.held {
			if s.contains(i) && !p.taken.has(i) {
				used++
			}
		}
	}
	return used - resting, resting
}

// findUsed returns the lowest thing in use from low to high that f accepts.
func (p *pool) findUsed(low, high index, f func(index) bool) (best index, found bool) {
	p.taken.each(low, high, func(at index, words [pageWords]uint64) bool {
		for w, word := range words {
			for ; word != 0; word &= word - 1 {
				i := at.at(w*64 + bits.TrailingZeros64(word))
				if (!found || i.compare(best) < 0) && p.tagOf(i) == 0 && f(i) {
					best, found = i, true
				}
			}
		}
		return true
	})
	return best, found
}
