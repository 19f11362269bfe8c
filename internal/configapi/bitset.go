package configapi

import (
	"cmp"
	"math/bits"
	"math/rand/v2"
)

// index is the place of a thing in a set: 128 bits, as an IPv6 address has.
type index struct{ hi, lo uint64 }

func (i index) compare(j index) int { return cmp.Or(cmp.Compare(i.hi, j.hi), cmp.Compare(i.lo, j.lo)) }

func (i index) plus(n uint64) index {
	lo, carry := bits.Add64(i.lo, n, 0)
	return index{i.hi + carry, lo}
}

func (i index) minus(n uint64) index {
	lo, borrow := bits.Sub64(i.lo, n, 0)
	return index{i.hi - borrow, lo}
}

// distance to a later index, at most 2^62.
func (i index) distance(j index) uint64 {
	lo, borrow := bits.Sub64(j.lo, i.lo, 0)
	if hi, _ := bits.Sub64(j.hi, i.hi, borrow); hi != 0 {
		return 1 << 62
	}
	return min(lo, 1<<62)
}

// A page holds the bits of 1024 neighbours.
const (
	pageShift = 10
	pageSize  = 1 << pageShift
	pageWords = pageSize / 64
)

func (i index) page() index { return index{i.hi >> pageShift, i.lo>>pageShift | i.hi<<(64-pageShift)} }

func (i index) bit() int { return int(i.lo % pageSize) }

// at is the place of a bit of the page i.
func (i index) at(bit int) index {
	return index{i.hi<<pageShift | i.lo>>(64-pageShift), i.lo<<pageShift | uint64(bit)}
}

// page of a bitset. Pages without a bit are not kept.
type page struct {
	words [pageWords]uint64
	count int
}

// bitset is a sparse set of indexes in which the next one that is not set is
// found at once, however many are. The zero value is empty.
type bitset struct {
	pages map[index]*page
	// full are the pages in which everything is set; nil when there are none.
	full *bitset
}

func (s *bitset) has(i index) bool {
	p := s.pages[i.page()]
	return p != nil && p.words[i.bit()/64]&(1<<(i.bit()%64)) != 0
}

func (s *bitset) set(i index) {
	p := s.pages[i.page()]
	if p == nil {
		if s.pages == nil {
			s.pages = map[index]*page{}
		}
		p = &page{}
		s.pages[i.page()] = p
	}
	word, bit := &p.words[i.bit()/64], uint64(1)<<(i.bit()%64)
	if *word&bit != 0 {
		return
	}
	*word |= bit
	if p.count++; p.count == pageSize {
		if s.full == nil {
			s.full = &bitset{}
		}
		s.full.set(i.page())
	}
}

func (s *bitset) clear(i index) {
	p := s.pages[i.page()]
	if p == nil {
		return
	}
	word, bit := &p.words[i.bit()/64], uint64(1)<<(i.bit()%64)
	if *word&bit == 0 {
		return
	}
	*word &^= bit
	if p.count == pageSize {
		s.full.clear(i.page())
	}
	if p.count--; p.count == 0 {
		delete(s.pages, i.page())
	}
}

func (s *bitset) empty() bool { return s == nil || len(s.pages) == 0 }

// span is a stretch of indexes from first to last, both included; last is the
// lower one in a stretch that is walked downwards. Only multiples of unit, a
// power of two, belong to it.
type span struct {
	first, last index
	unit        uint64
	down        bool
}

// ends are the lowest and the highest index.
func (s *span) ends() (low, high index) {
	if s.down {
		return s.last, s.first
	}
	return s.first, s.last
}

func (s *span) contains(i index) bool {
	low, high := s.ends()
	return i.compare(low) >= 0 && i.compare(high) <= 0 && i.lo&(s.unit-1) == 0
}

// size is how many indexes belong to the span.
func (s *span) size() uint64 {
	low, high := s.ends()
	return low.distance(high)/s.unit + 1
}

// somewhere is any index of the span.
func (s *span) somewhere() index {
	low, _ := s.ends()
	return low.plus(rand.Uint64N(s.size()) * s.unit)
}

// nearby is how far ahead a crowded pool is searched at most.
const nearby = 256

// ahead is a little further on than an index of a span that goes up, or where
// the span begins if that is beyond its end.
func (s *span) ahead(from index) index {
	i := from.plus((1 + rand.Uint64N(nearby)) * s.unit)
	if !s.contains(i) {
		return s.first
	}
	return i
}

// past is the index after i in the direction of the span; false at its end.
func (s *span) past(i index) (index, bool) {
	switch {
	case i == s.last:
		return i, false
	case s.down:
		return i.minus(1), true
	default:
		return i.plus(1), true
	}
}

var blank page

// firstClear finds the first index of the span that is not set.
func (s *bitset) firstClear(in span) (index, bool) {
	at, last := in.first.page(), in.last.page()
	for {
		low, high := 0, pageSize-1
		if in.down {
			high, low = bound(at == in.first.page(), in.first, high), bound(at == last, in.last, low)
		} else {
			low, high = bound(at == in.first.page(), in.first, low), bound(at == last, in.last, high)
		}
		p := s.at(at)
		if bit, ok := p.firstClear(low, high, at, &in); ok {
			return at.at(bit), true
		}
		rest := span{first: at, last: last, unit: max(in.unit>>pageShift, 1), down: in.down}
		next, more := rest.past(at)
		if !more {
			return index{}, false
		}
		rest.first = next
		var ok bool
		if at, ok = s.fullPages().firstClear(rest); !ok {
			return index{}, false
		}
	}
}

func bound(atEnd bool, end index, otherwise int) int {
	if atEnd {
		return end.bit()
	}
	return otherwise
}

func (s *bitset) at(i index) *page {
	if p := s.pages[i]; p != nil {
		return p
	}
	return &blank
}

// fullPages is s.full, or an empty set.
func (s *bitset) fullPages() *bitset {
	if s.full == nil {
		return &bitset{}
	}
	return s.full
}

// firstClear looks at the bits from low to high of the page, which is number
// at, in the direction of the span.
func (p *page) firstClear(low, high int, at index, in *span) (int, bool) {
	if in.unit > pageSize && at.lo&(in.unit>>pageShift-1) != 0 {
		return 0, false // no multiple of the unit begins in this page
	}
	for n := low / 64; n <= high/64; n++ {
		w := n
		if in.down {
			w = low/64 + high/64 - n
		}
		free := ^p.words[w] & multiples(w, in.unit)
		if w == low/64 {
			free &= ^uint64(0) << (low % 64)
		}
		if w == high/64 {
			free &= ^uint64(0) >> (63 - high%64)
		}
		switch {
		case free == 0:
		case in.down:
			return w*64 + 63 - bits.LeadingZeros64(free), true
		default:
			return w*64 + bits.TrailingZeros64(free), true
		}
	}
	return 0, false
}

// multiples are the bits of a page's word that are multiples of unit.
func multiples(word int, unit uint64) uint64 {
	if unit < 64 {
		return ^uint64(0) / (1<<unit - 1)
	}
	if uint64(word)*64%min(unit, pageSize) != 0 {
		return 0
	}
	return 1
}

// each calls f with the pages that have bits from low to high, and with those
// of their bits; in no particular order, until f returns false.
func (s *bitset) each(low, high index, f func(at index, words [pageWords]uint64) bool) {
	for at, p := range s.pages {
		if at.compare(low.page()) < 0 || at.compare(high.page()) > 0 {
			continue
		}
		words := p.words
		if at == low.page() {
			keepBits(&words, low.bit(), pageSize-1)
		}
		if at == high.page() {
			keepBits(&words, 0, high.bit())
		}
		if !f(at, words) {
			return
		}
	}
}

func keepBits(words *[pageWords]uint64, low, high int) {
	for w := range words {
		switch {
		case w < low/64 || w > high/64:
			words[w] = 0
			continue
		case w == low/64:
			words[w] &= ^uint64(0) << (low % 64)
		}
		if w == high/64 {
			words[w] &= ^uint64(0) >> (63 - high%64)
		}
	}
}
