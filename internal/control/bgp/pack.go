package bgp

import "encoding/binary"

// batch is a run of messages, encoded once for all members of a group.
type batch struct {
	id     uint64
	family Family
	data   []byte
	parts  []part
	// start is where the batch began, for members that never get to it; left
	// is how many have not taken it.
	start *cursor
	left  int
}

// part is a message of a batch, and who gets it.
type part struct {
	bucketKey
	start, end, routes int
}

// bucketKey is what rows of one message share.
type bucketKey struct {
	kind  partKind
	src   *source
	attrs *Attrs
	state staleness
	// toSource says that the source is told, too.
	toSource bool
}

type partKind uint8

const (
	// announce is for members that want the attributes, but the source.
	announce partKind = iota
	// instead withdraws changed rows from those that an announce with the same
	// key is not for: they may have been told of the row as it was.
	instead
	// gone withdraws rows from members that may have them: all but the source,
	// if there is one, and if there are attributes, those that want them.
	gone
)

// isFor says whether a member gets a part. Membership is about families that
// have route targets.
func (b *batch) isFor(p *part, peer *peer, m *membership) bool {
	if !b.family.targeted() {
		m = nil
	}
	other := p.src == nil || p.src.peer != peer || p.toSource
	switch p.kind {
	case announce:
		return other && m.wants(p.attrs)
	case instead:
		return !other || !m.wants(p.attrs)
	}
	return other && (p.attrs == nil || m.wants(p.attrs))
}

type bucket struct {
	bucketKey
	rows []outRow
}

type outRow struct {
	key, rest string
	label     uint32
}

// packer turns rows into messages: add collects, encode writes. It is kept
// from batch to batch for its memory.
type packer struct {
	exporter
	family Family
	// filtered says that some members do not want everything; member tells a
	// source that is one of them.
	filtered bool
	member   func(*source) bool
	// only restricts the rows to those that a change of membership concerns.
	only    *refilter
	index   map[bucketKey]int
	buckets []bucket
	attrs   []byte
}

// refilter is a change of what a member wants, as rows are sent again for it.
type refilter struct {
	m      *membership
	change targetChange
	// told is the change of the table up to which the member knows all rows;
	// those behind are news in any case.
	told uint64
}

func (p *packer) reset(f Family) {
	p.family = f
	if p.index == nil {
		p.index = map[bucketKey]int{}
	}
	clear(p.index)
	for i := range p.buckets {
		b := &p.buckets[i]
		clear(b.rows)
		b.bucketKey, b.rows = bucketKey{}, b.rows[:0]
	}
	p.buckets = p.buckets[:0]
}

// add takes a row as it stands, under the table's lock.
func (p *packer) add(r *row) {
	at := r.paths
	changed := r.flags&rowChanged != 0
	k := bucketKey{kind: announce, src: at.src, attrs: at.attrs, state: at.src.stale}
	if p.family == RTC { // what others want, too, is told to all: RFC 4684 §3.2
		for o := at.next; o != nil; o = o.next {
			k.toSource = k.toSource || o.src.peer != at.src.peer
		}
	}
	switch {
	case r.flags&rowGone != 0 || !p.allows(p.family, at):
		p.addGone(r, at, changed)
	case p.only != nil && r.order[byBest].seq <= p.only.told:
		p.addAgain(k, r, at, changed)
	default:
		p.put(k, r, at)
		if changed && (p.filtered && p.family.targeted() || p.member(at.src)) {
			k.kind = instead
			p.put(k, r, at)
		}
	}
}

func (p *packer) addGone(r *row, at *path, changed bool) {
	if changed || p.only != nil {
		p.put(bucketKey{kind: gone}, r, at)
		return
	}
	if r.flags&rowGone == 0 || !p.allows(p.family, at) {
		return // nobody was told
	}
	k := bucketKey{kind: gone, src: at.src}
	if p.filtered && p.family.targeted() {
		k.attrs = at.attrs
	}
	p.put(k, r, at)
}

// addAgain sends a row again if a change of membership concerns it.
func (p *packer) addAgain(k bucketKey, r *row, at *path, changed bool) {
	c := &p.only.change
	switch wanted := p.only.m.wants(at.attrs); {
	case wanted && (c.all || touches(c.added, at.attrs)):
		p.put(k, r, at)
		if changed {
			k.kind = instead
			p.put(k, r, at)
		}
	case !wanted && (c.all || changed || touches(c.removed, at.attrs)):
		p.put(bucketKey{kind: gone}, r, at)
	}
}

func (p *packer) put(k bucketKey, r *row, at *path) {
	i := len(p.buckets) - 1
	if i < 0 || p.buckets[i].bucketKey != k {
		var ok bool
		if i, ok = p.index[k]; !ok {
			i = len(p.buckets)
			p.index[k] = i
			if i < cap(p.buckets) {
				p.buckets = p.buckets[:i+1]
			} else {
				p.buckets = append(p.buckets, bucket{})
			}
			p.buckets[i].bucketKey = k
		}
	}
	p.buckets[i].rows = append(p.buckets[i].rows, outRow{r.key, at.rest, at.label})
}

// encode writes the messages. It needs no lock: rows are copied, and sets of
// attributes do not change.
func (p *packer) encode() *batch {
	b := &batch{family: p.family}
	size := 0
	for i := range p.buckets {
		size += 200 + 24*len(p.buckets[i].rows)
	}
	b.data = make([]byte, 0, size)
	for i := range p.buckets {
		k := &p.buckets[i]
		if k.kind == announce && !p.announce(b, k) {
			k.kind = gone // the attributes do not fit a message
		}
		if k.kind != announce {
			p.withdraw(b, k)
		}
	}
	return b
}

// longestNLRI bounds what one route takes: an EVPN route of type 5 with IPv6.
const longestNLRI = 64

// announce writes a bucket's rows in as few messages as they fit, MP_REACH_NLRI
// first (RFC 7606 §5.1). It reports whether they could be written.
func (p *packer) announce(b *batch, k *bucket) bool {
	out := p.rewrite(p.family, k.src, k.attrs, k.state)
	hop := p.nextHop(p.family, k.attrs)
	p.attrs = p.attrs[:0]
	if p.family == Inet {
		p.attrs = appendAttr(p.attrs, flagTransitive, attrNextHop, hop.AsSlice())
	}
	p.attrs = out.encode(p.attrs, p.as4)
	if len(p.attrs) > maxMessage-headerSize-64-longestNLRI {
		return false
	}
	for rows := k.rows; len(rows) > 0; {
		start := len(b.data)
		d := append(appendHeader(b.data, 0, msgUpdate), 0, 0, 0, 0)
		reach := len(d)
		if p.family == Inet {
			d = append(d, p.attrs...)
			binary.BigEndian.PutUint16(d[reach-2:], uint16(len(p.attrs)))
		} else {
			d = append(d, flagOptional|flagExtended, attrMPReach, 0, 0)
			d = append(d, byte(p.family>>24), byte(p.family>>16), byte(p.family))
			d = append(appendNextHop(d, p.family, hop), 0)
		}
		room := start + maxMessage
		if p.family != Inet {
			room -= len(p.attrs)
		}
		n := 0
		for n < len(rows) && len(d)+longestNLRI+len(rows[n].rest) <= room {
			d = appendNLRI(d, p.family, rows[n].key, rows[n].label, rows[n].rest)
			n++
		}
		if p.family != Inet {
			binary.BigEndian.PutUint16(d[reach+2:], uint16(len(d)-reach-4))
			d = append(d, p.attrs...)
			binary.BigEndian.PutUint16(d[reach-2:], uint16(len(d)-reach))
		}
		p.finish(b, d, start, k, n)
		rows = rows[n:]
	}
	return true
}

func (p *packer) withdraw(b *batch, k *bucket) {
	for rows := k.rows; len(rows) > 0; {
		start := len(b.data)
		d := append(appendHeader(b.data, 0, msgUpdate), 0, 0)
		at := len(d)
		room := start + maxMessage - longestNLRI
		if p.family == Inet {
			room -= 2
		} else {
			d = append(d, 0, 0, flagOptional|flagExtended, attrMPUnreach, 0, 0)
			d = append(d, byte(p.family>>24), byte(p.family>>16), byte(p.family))
		}
		n := 0
		for n < len(rows) && len(d)+len(rows[n].rest) <= room {
			d = appendWithdrawal(d, p.family, rows[n].key, rows[n].rest)
			n++
		}
		if p.family == Inet {
			binary.BigEndian.PutUint16(d[at-2:], uint16(len(d)-at))
			d = append(d, 0, 0)
		} else {
			binary.BigEndian.PutUint16(d[at:], uint16(len(d)-at-2))
			binary.BigEndian.PutUint16(d[at+4:], uint16(len(d)-at-6))
		}
		p.finish(b, d, start, k, n)
		rows = rows[n:]
	}
}

func (p *packer) finish(b *batch, d []byte, start int, k *bucket, routes int) {
	binary.BigEndian.PutUint16(d[start+16:], uint16(len(d)-start))
	b.data = d
	b.parts = append(b.parts, part{k.bucketKey, start, len(d), routes})
}

// endOfRIB is the marker of RFC 4724 §2.
func endOfRIB(f Family) []byte {
	if f == Inet {
		return append(appendHeader(nil, minUpdate, msgUpdate), 0, 0, 0, 0)
	}
	return append(appendHeader(nil, minUpdate+6, msgUpdate),
		0, 0, 0, 6, flagOptional, attrMPUnreach, 3, byte(f>>24), byte(f>>16), byte(f))
}

// Subtypes of ROUTE-REFRESH (RFC 7313).
const (
	refreshRequest = 0
	refreshBegin   = 1
	refreshEnd     = 2
)

func routeRefresh(f Family, subtype uint8) []byte {
	return append(appendHeader(nil, sizeRefresh, msgRefresh),
		byte(f>>24), byte(f>>16), subtype, byte(f))
}
