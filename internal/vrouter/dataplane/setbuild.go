package dataplane

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// How the programs have a set: see bpf/policy_set.h, whose enumerations and
// numbers these are.
const (
	tableSrcIdentity = iota
	tableDstIdentity
	tableSrcOwn
	tableDstOwn
	tableSrcPrefix
	tableDstPrefix
	tableService
	tableSrcPort
	tableDstPort
	tableSame
	tableEnd
)

const (
	bitsSrcAny = iota
	bitsDstAny
	bitsSrcOwn
	bitsDstOwn
	bitsSrcPortAny
	bitsDstPortAny
	bitsService4
	bitsService6
	bitsPass
	bitsSameNone
	bitsSame
	maxSameLists = 8
	bitsHead     = bitsSame + maxSameLists
)

const (
	headKnown  = 2
	headRules  = 3
	headTables = 4
	// headCounters is where the counters of the rules begin.
	headCounters = 14
	headBits     = 16
	headWords    = headBits + 2*bitsHead
	rowWords     = 4
)

// policyRow is an element of a set's array, struct policy_row.
type policyRow struct{ W [rowWords]uint64 }

const (
	smallSet = 64
	// maxSetRules is what the programs go through, maxSetWords bounds the memory
	// of one set.
	maxSetRules = 1 << 16
	maxSetWords = 4 << 20
)

// setIndex is a set taken apart, ready to be written for any identities.
type setIndex struct {
	id    SetID
	rules []*Rule
	sides [2]sideIndex // source, destination
	// same are the lists of types of tags that rules want to be equal.
	same [][]uint16
}

// sideIndex are the rules by what they name of one side.
type sideIndex struct {
	networks, groups, ownOf map[uint32][]int
	tagged                  []taggedRules
}

// taggedRules are those that name the same tags.
type taggedRules struct {
	tags  []uint32
	rules []int
}

// indexSet takes a set apart. The error says why it cannot be enforced.
func indexSet(s *Set) (*setIndex, error) {
	x := &setIndex{id: s.ID, rules: s.rules()}
	if len(x.rules) > maxSetRules {
		return nil, fmt.Errorf("policy set %s has %d rules; the data plane takes up to %d", s.ID, len(x.rules), maxSetRules)
	}
	for side := range x.sides {
		x.sides[side] = x.indexSide(side)
	}
	for _, r := range x.rules {
		if len(r.SameTags) > 0 && x.sameList(r) < 0 {
			x.same = append(x.same, r.SameTags)
		}
	}
	if len(x.same) > maxSameLists {
		return nil, fmt.Errorf("policy set %s wants equal tags of %d different lists of types; the data plane takes up to %d", s.ID, len(x.same), maxSameLists)
	}
	return x, nil
}

func (x *setIndex) sameList(r *Rule) int {
	return slices.IndexFunc(x.same, func(list []uint16) bool { return slices.Equal(list, r.SameTags) })
}

func (r *Rule) side(n int) *Selector {
	if n == 0 {
		return &r.Src
	}
	return &r.Dst
}

func (x *setIndex) indexSide(side int) sideIndex {
	s := sideIndex{networks: map[uint32][]int{}, groups: map[uint32][]int{}, ownOf: map[uint32][]int{}}
	byTags := map[string]int{}
	for i, r := range x.rules {
		sel := r.side(side)
		for into, list := range map[*map[uint32][]int][]uint32{&s.networks: sel.Networks, &s.groups: sel.Groups, &s.ownOf: sel.OwnOf} {
			for _, n := range list {
				(*into)[n] = append((*into)[n], i)
			}
		}
		if len(sel.Tags) == 0 {
			continue
		}
		key := fmt.Sprint(sel.Tags)
		at, ok := byTags[key]
		if !ok {
			at = len(s.tagged)
			byTags[key] = at
			s.tagged = append(s.tagged, taggedRules{tags: sel.Tags})
		}
		s.tagged[at].rules = append(s.tagged[at].rules, i)
	}
	return s
}

// of are the rules that choose who has an identity, each perhaps more than once.
func (s *sideIndex) of(network uint32, groups, tags []uint32) []int {
	rules := slices.Clone(s.networks[network])
	for _, g := range groups {
		rules = append(rules, s.groups[g]...)
	}
	for _, t := range s.tagged {
		if !slices.ContainsFunc(t.tags, func(tag uint32) bool { return !slices.Contains(tags, tag) }) {
			rules = append(rules, t.rules...)
		}
	}
	return rules
}

// isAbout tells whether the set has to be written anew for an identity.
func (x *setIndex) isAbout(i Identity) bool {
	network, groups, tags := i.Network(), i.Groups(), i.Tags()
	return len(x.sides[0].of(network, groups, tags)) > 0 || len(x.sides[1].of(network, groups, tags)) > 0 ||
		slices.ContainsFunc(x.same, func(types []uint16) bool { return tagsOfTypes(tags, types) != "" })
}

// tagsOfTypes names the tags of some types; empty if there is none of one.
func tagsOfTypes(tags []uint32, types []uint16) string {
	var b []byte
	for _, typ := range types {
		at := slices.IndexFunc(tags, func(t uint32) bool { return uint16(t>>16) == typ })
		if at < 0 {
			return ""
		}
		b = binary.BigEndian.AppendUint32(b, tags[at])
	}
	return string(b)
}

// bits is a bitmap as the programs have it: the top level, and the word at which
// its pages begin.
type bits struct{ top, pages uint64 }

// tableRow is a row of a table.
type tableRow struct {
	high, low uint64
	bits
}

// setBuilder writes a set.
type setBuilder struct {
	*setIndex
	words  []uint64
	tables [tableEnd][]tableRow
	// written are the bitmaps that there are.
	written map[string]bits
	scratch []byte
}

// build writes the set for identities by their number. known is the highest
// number there has been, counters the first counter of its rules, or 0.
func (x *setIndex) build(who map[Identity]uint32, known, counters uint32) ([]uint64, error) {
	b := &setBuilder{setIndex: x, words: make([]uint64, headWords), written: map[string]bits{}}
	b.words[0], b.words[1] = binary.BigEndian.Uint64(x.id[:8]), binary.BigEndian.Uint64(x.id[8:])
	b.words[headKnown] = uint64(len(x.same))<<32 | uint64(known)
	b.words[headRules] = uint64(len(x.rules))
	b.words[headCounters] = uint64(counters)
	b.writeHead()
	for side := range x.sides {
		b.writeOwn(side)
		b.writePrefixes(side)
		b.writePorts(side)
	}
	b.writeIdentities(who)
	b.writeServices()
	for len(b.words)%rowWords != 0 {
		b.words = append(b.words, 0)
	}
	for i, rows := range b.tables {
		b.words[headTables+i] = uint64(len(b.words)/rowWords)<<32 | uint64(len(rows))
		for _, r := range rows {
			b.words = append(b.words, r.high, r.low, r.top, r.pages)
		}
	}
	if len(b.words) > maxSetWords {
		return nil, fmt.Errorf("policy set %s takes %d MB; the data plane takes up to %d", x.id, len(b.words)>>17, maxSetWords>>17)
	}
	return b.words, nil
}

// bitmap is one bit for each rule.
type bitmap []uint64

func (b *setBuilder) bitmap(rules ...int) bitmap {
	m := make(bitmap, max(1, (len(b.rules)+63)/64))
	for _, i := range rules {
		m[i/64] |= 1 << (i % 64)
	}
	return m
}

// where are the rules for which something holds.
func (b *setBuilder) where(holds func(*Rule) bool) bits {
	m := b.bitmap()
	for i, r := range b.rules {
		if holds(r) {
			m[i/64] |= 1 << (i % 64)
		}
	}
	return b.put(m)
}

// put writes a bitmap, once for all that are equal.
func (b *setBuilder) put(m bitmap) bits {
	if len(b.rules) <= smallSet {
		return bits{top: m[0]}
	}
	b.scratch = b.scratch[:0]
	for i, w := range m {
		if w != 0 {
			b.scratch = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint16(b.scratch, uint16(i)), w)
		}
	}
	if done, ok := b.written[string(b.scratch)]; ok {
		return done
	}
	var out bits
	var pages []uint64
	for page := 0; page*64 < len(m); page++ {
		summary, at := uint64(0), len(b.words)
		for i, w := range m[page*64 : min(page*64+64, len(m))] {
			if w != 0 {
				summary |= 1 << i
				b.words = append(b.words, w)
			}
		}
		if summary != 0 {
			out.top |= 1 << page
			pages = append(pages, summary, uint64(at))
		}
	}
	out.pages = uint64(len(b.words))
	b.words = append(b.words, pages...)
	b.written[string(b.scratch)] = out
	return out
}

func (b *setBuilder) writeHead() {
	head := func(at int, m bits) { b.words[headBits+2*at], b.words[headBits+2*at+1] = m.top, m.pages }
	for side := range b.sides {
		head(bitsSrcAny+side, b.where(func(r *Rule) bool { return r.side(side).Any }))
		head(bitsSrcOwn+side, b.where(func(r *Rule) bool { return r.side(side).Own }))
		head(bitsSrcPortAny+side, b.where(func(r *Rule) bool { return anyPorts(r.ports(side)) }))
	}
	const none = 255 // no rule that names it is to be found by it
	head(bitsService4, b.where(func(r *Rule) bool { return r.Protocol == AnyProtocol && r.matchesService(4, none) }))
	head(bitsService6, b.where(func(r *Rule) bool { return r.Protocol == AnyProtocol && r.matchesService(6, none) }))
	head(bitsPass, b.where(func(r *Rule) bool { return !r.Deny }))
	head(bitsSameNone, b.where(func(r *Rule) bool { return len(r.SameTags) == 0 }))
	for i := range b.same {
		head(bitsSame+i, b.where(func(r *Rule) bool { return len(r.SameTags) > 0 && b.sameList(r) == i }))
	}
}

func (r *Rule) ports(side int) []PortRange {
	if side == 0 {
		return r.SrcPorts
	}
	return r.DstPorts
}

func (b *setBuilder) row(table int, high, low uint64, m bits) {
	b.tables[table] = append(b.tables[table], tableRow{high, low, m})
}

func (b *setBuilder) sortTable(table int) {
	slices.SortFunc(b.tables[table], func(x, y tableRow) int {
		return cmp.Or(cmp.Compare(x.high, y.high), cmp.Compare(x.low, y.low))
	})
}

func (b *setBuilder) writeOwn(side int) {
	for network, rules := range b.sides[side].ownOf {
		b.row(tableSrcOwn+side, 0, uint64(network), b.put(b.bitmap(rules...)))
	}
	b.sortTable(tableSrcOwn + side)
}

func (b *setBuilder) writeIdentities(who map[Identity]uint32) {
	numbers := make([]map[string]uint64, len(b.same))
	for i := range numbers {
		numbers[i] = map[string]uint64{}
	}
	for identity, number := range who {
		network, groups, tags := identity.Network(), identity.Groups(), identity.Tags()
		for side := range b.sides {
			if rules := b.sides[side].of(network, groups, tags); len(rules) > 0 {
				b.row(tableSrcIdentity+side, 0, uint64(number), b.put(b.bitmap(rules...)))
			}
		}
		for i, types := range b.same {
			name := tagsOfTypes(tags, types)
			if name == "" {
				continue
			}
			if numbers[i][name] == 0 {
				numbers[i][name] = uint64(len(numbers[i]) + 1)
			}
			b.row(tableSame, uint64(i), uint64(number), bits{top: numbers[i][name]})
		}
	}
	for _, table := range []int{tableSrcIdentity, tableDstIdentity, tableSame} {
		b.sortTable(table)
	}
}

// writeServices has a row for each protocol that some rule names, and for those
// with ports; all others are alike.
func (b *setBuilder) writeServices() {
	protocols := slices.Clone(protocolsWithPorts)
	for _, r := range b.rules {
		if r.Protocol != AnyProtocol {
			protocols = append(protocols, r.Protocol)
		}
	}
	slices.Sort(protocols)
	for _, family := range []uint8{4, 6} {
		for _, p := range slices.Compact(protocols) {
			b.row(tableService, 0, uint64(family)<<8|uint64(p), b.where(func(r *Rule) bool { return r.matchesService(family, p) }))
		}
	}
}

// span is a range of keys of a rule, with both ends.
type span struct {
	first, last spanKey
	rule        int
}

type spanKey struct{ high, low uint64 }

func (k spanKey) compare(o spanKey) int {
	return cmp.Or(cmp.Compare(k.high, o.high), cmp.Compare(k.low, o.low))
}

// next is the key behind k, and false if there is none.
func (k spanKey) next() (spanKey, bool) {
	k.low++
	if k.low == 0 {
		k.high++
	}
	return k, k != spanKey{}
}

// writeSpans writes a row wherever a range begins or ends, with the rules whose
// ranges hold what follows.
func (b *setBuilder) writeSpans(table int, spans []span) {
	type edge struct {
		at   spanKey
		rule int
		by   int
	}
	var edges []edge
	for _, s := range spans {
		edges = append(edges, edge{s.first, s.rule, 1})
		if end, ok := s.last.next(); ok {
			edges = append(edges, edge{end, s.rule, -1})
		}
	}
	slices.SortFunc(edges, func(x, y edge) int { return x.at.compare(y.at) })
	open := make([]int, len(b.rules)) // ranges of each rule
	now := b.bitmap()
	for i, e := range edges {
		if open[e.rule] += e.by; open[e.rule] > 0 {
			now[e.rule/64] |= 1 << (e.rule % 64)
		} else {
			now[e.rule/64] &^= 1 << (e.rule % 64)
		}
		if i+1 == len(edges) || edges[i+1].at != e.at {
			b.row(table, e.at.high, e.at.low, b.put(now))
		}
	}
}

func (b *setBuilder) writePorts(side int) {
	var spans []span
	for i, r := range b.rules {
		if anyPorts(r.ports(side)) {
			continue
		}
		for _, p := range r.ports(side) {
			spans = append(spans, span{spanKey{0, uint64(p.First)}, spanKey{0, uint64(p.Last)}, i})
		}
	}
	b.writeSpans(tableSrcPort+side, spans)
}

func (b *setBuilder) writePrefixes(side int) {
	var spans []span
	for i, r := range b.rules {
		for _, p := range r.side(side).Prefixes {
			for _, s := range spansOf(p) {
				spans = append(spans, span{s[0], s[1], i})
			}
		}
	}
	b.writeSpans(tableSrcPrefix+side, spans)
}

// mapped are the keys of IPv4 addresses.
var mapped = [2]spanKey{{0, 0xffff << 32}, {0, 0xffff<<32 | 0xffffffff}}

// spansOf are the keys of a prefix's addresses. One of IPv6 has none of IPv4.
func spansOf(p netip.Prefix) [][2]spanKey {
	p = p.Masked()
	a := p.Addr().As16()
	first := spanKey{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}
	host := 128 - p.Bits()
	if p.Addr().Is4() {
		host = 32 - p.Bits()
	}
	last := first
	switch {
	case host >= 64:
		last.low = ^uint64(0)
		last.high |= 1<<(host-64) - 1
	default:
		last.low |= 1<<host - 1
	}
	if p.Addr().Is4() {
		return [][2]spanKey{{first, last}}
	}
	if last.compare(mapped[0]) < 0 || first.compare(mapped[1]) > 0 {
		return [][2]spanKey{{first, last}}
	}
	var parts [][2]spanKey
	if first.compare(mapped[0]) < 0 {
		parts = append(parts, [2]spanKey{first, {0, mapped[0].low - 1}})
	}
	if end, _ := mapped[1].next(); end.compare(last) <= 0 {
		parts = append(parts, [2]spanKey{end, last})
	}
	return parts
}
