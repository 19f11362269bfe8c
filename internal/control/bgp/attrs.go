package bgp

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Attribute types.
const (
	attrOrigin          = 1
	attrASPath          = 2
	attrNextHop         = 3
	attrMED             = 4
	attrLocalPref       = 5
	attrAtomicAggregate = 6
	attrAggregator      = 7
	attrCommunities     = 8
	attrOriginatorID    = 9
	attrClusterList     = 10
	attrMPReach         = 14
	attrMPUnreach       = 15
	attrExtCommunities  = 16
	attrAS4Path         = 17
	attrAS4Aggregator   = 18
	attrPMSI            = 22
	attrLargeCommunity  = 32
	attrOriginVNPath    = 243 // Contrail's guard against chain loops
)

// Attribute flags.
const (
	flagOptional   = 0x80
	flagTransitive = 0x40
	flagPartial    = 0x20
	flagExtended   = 0x10
)

// Values of ORIGIN.
const (
	OriginIGP        uint8 = 0
	OriginEGP        uint8 = 1
	OriginIncomplete uint8 = 2
)

// DefaultLocalPref counts where a route has none.
const DefaultLocalPref = 100

// Attrs is what routes have in common: next hop and path attributes. A set that
// the speaker hands out is shared and must not be changed; sets that are equal
// are the same pointer while a route has them.
type Attrs struct {
	NextHop   netip.Addr
	Origin    uint8
	ASPath    ASPath
	MED       Optional
	LocalPref Optional
	// OriginatorID and ClusterList are set by reflectors (RFC 4456).
	OriginatorID   netip.Addr
	ClusterList    []uint32
	Communities    []uint32
	ExtCommunities []ExtCommunity
	// PMSI is the value of the PMSI tunnel attribute (RFC 6514), without it "".
	PMSI string
	// Others are attributes that are only passed on, by type.
	Others []RawAttr

	// canon is the set's name in the table of sets: next hop, then the
	// attributes as an iBGP message has them.
	canon string
	// refs counts the routes that have the set; payer is the peer that brought it
	// first, as long as there is one. The table's lock protects both.
	refs  int
	payer *peer
}

// Optional is a number that may be absent.
type Optional struct {
	Value uint32
	Set   bool
}

// Some returns a number that is there.
func Some(v uint32) Optional { return Optional{v, true} }

func (o Optional) or(v uint32) uint32 {
	if o.Set {
		return o.Value
	}
	return v
}

// RawAttr is an attribute as it came.
type RawAttr struct {
	Flags, Type uint8
	Value       string
}

// ASPath is an AS path in wire form with AS numbers of four bytes: segments of
// type (1 set, 2 sequence), count, numbers.
type ASPath string

const (
	asSet      = 1
	asSequence = 2
)

// NewASPath returns a path of one sequence.
func NewASPath(as ...uint32) ASPath {
	var p ASPath
	for _, n := range slices.Backward(as) {
		p = p.prepend(n, 1)
	}
	return p
}

// each calls f for every number.
func (p ASPath) each(f func(kind byte, as uint32)) {
	for len(p) >= 2 {
		kind, count := p[0], int(p[1])
		p = p[2:]
		for range count {
			f(kind, binary.BigEndian.Uint32([]byte(p[:4])))
			p = p[4:]
		}
	}
}

// replace puts one number in the place of another.
func (p ASPath) replace(as, by uint32) ASPath {
	if as == 0 || p.count(as) == 0 {
		return p
	}
	out := []byte(p)
	for at := 0; at+2 <= len(out); {
		end := at + 2 + 4*int(out[at+1])
		for at += 2; at < end; at += 4 {
			if binary.BigEndian.Uint32(out[at:]) == as {
				binary.BigEndian.PutUint32(out[at:], by)
			}
		}
	}
	return ASPath(out)
}

// isPrivate tells whether an AS number is for private use (RFC 6996 §5).
func isPrivate(as uint32) bool {
	return as >= 64512 && as <= 65534 || as >= 4_200_000_000 && as <= 4_294_967_294
}

// withoutPrivate takes private numbers out, or puts one in their place, but for that
// of the peer.
func (p ASPath) withoutPrivate(action PrivateAS, peer, by uint32) ASPath {
	if action == KeepPrivate {
		return p
	}
	out := make([]byte, 0, len(p))
	leading := true
	for len(p) >= 2 {
		segment := p[:2+4*int(p[1])]
		start := len(out)
		out = append(out, segment[0], 0)
		for at := 2; at < len(segment); at += 4 {
			as := binary.BigEndian.Uint32([]byte(segment[at:]))
			if leading = leading && isPrivate(as) && as != peer; !isPrivate(as) || as == peer || action == RemovePrivate && !leading {
				out = binary.BigEndian.AppendUint32(out, as)
			} else if action == ReplaceAllPrivate {
				out = binary.BigEndian.AppendUint32(out, by)
			}
		}
		if out[start+1] = byte((len(out) - start - 2) / 4); out[start+1] == 0 {
			out = out[:start]
		}
		p = p[len(segment):]
	}
	return ASPath(out)
}

// Len is the length as best path selection counts it: a set counts one.
func (p ASPath) Len() int {
	n := 0
	for len(p) >= 2 {
		count := int(p[1])
		if p[0] == asSet {
			n++
		} else {
			n += count
		}
		p = p[2+4*count:]
	}
	return n
}

// Numbers are those that Len counts, in order: of a set the first.
func (p ASPath) Numbers() []uint32 {
	numbers := make([]uint32, 0, p.Len())
	for len(p) >= 2 {
		count := int(p[1])
		for i := range count {
			if i == 0 || p[0] != asSet {
				numbers = append(numbers, binary.BigEndian.Uint32([]byte(p[2+4*i:])))
			}
		}
		p = p[2+4*count:]
	}
	return numbers
}

// First is the neighbouring AS, or 0: of a path that is empty or begins with
// a set.
func (p ASPath) First() uint32 {
	if len(p) < 6 || p[0] != asSequence {
		return 0
	}
	return binary.BigEndian.Uint32([]byte(p[2:6]))
}

// count says how often a number is in the path.
func (p ASPath) count(as uint32) int {
	n := 0
	p.each(func(_ byte, have uint32) {
		if have == as {
			n++
		}
	})
	return n
}

func (p ASPath) prepend(as uint32, times int) ASPath {
	for range times {
		number := string(binary.BigEndian.AppendUint32(nil, as))
		if len(p) >= 2 && p[0] == asSequence && p[1] < 255 {
			p = ASPath([]byte{asSequence, p[1] + 1}) + ASPath(number) + p[2:]
		} else {
			p = ASPath([]byte{asSequence, 1}) + ASPath(number) + p
		}
	}
	return p
}

func (p ASPath) String() string {
	var parts []string
	p.each(func(kind byte, as uint32) {
		s := strconv.FormatUint(uint64(as), 10)
		if kind == asSet {
			s = "{" + s + "}"
		}
		parts = append(parts, s)
	})
	return strings.Join(parts, " ")
}

// appendAttr appends an attribute with its header.
func appendAttr[T ~[]byte | ~string](dst []byte, flags, kind uint8, value T) []byte {
	dst = appendAttrHeader(dst, flags, kind, len(value))
	return append(dst, value...)
}

func appendAttrHeader(dst []byte, flags, kind uint8, size int) []byte {
	if size > 255 {
		return append(dst, flags|flagExtended, kind, byte(size>>8), byte(size))
	}
	return append(dst, flags&^flagExtended, kind, byte(size))
}

func appendAttr32(dst []byte, flags, kind uint8, v uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, flags, kind, 4), v)
}

// encode appends the attributes without next hop, in the order of their types,
// as RFC 4271 §5 recommends. With as4 false AS numbers are of two bytes, and
// AS4_PATH says what does not fit (RFC 6793 §4.2.2).
func (a *Attrs) encode(dst []byte, as4 bool) []byte {
	dst = append(dst, flagTransitive, attrOrigin, 1, a.Origin)
	if as4 {
		dst = appendAttr(dst, flagTransitive, attrASPath, a.ASPath)
	} else {
		dst = appendAttr(dst, flagTransitive, attrASPath, a.ASPath.narrow())
	}
	if a.MED.Set {
		dst = appendAttr32(dst, flagOptional, attrMED, a.MED.Value)
	}
	if a.LocalPref.Set {
		dst = appendAttr32(dst, flagTransitive, attrLocalPref, a.LocalPref.Value)
	}
	others := a.Others
	dst, others = appendOthers(dst, others, attrCommunities, as4)
	if len(a.Communities) > 0 {
		dst = appendAttrHeader(dst, flagOptional|flagTransitive, attrCommunities, 4*len(a.Communities))
		for _, c := range a.Communities {
			dst = binary.BigEndian.AppendUint32(dst, c)
		}
	}
	if a.OriginatorID.Is4() {
		dst = appendAttr(dst, flagOptional, attrOriginatorID, a.OriginatorID.AsSlice())
	}
	if len(a.ClusterList) > 0 {
		dst = appendAttrHeader(dst, flagOptional, attrClusterList, 4*len(a.ClusterList))
		for _, c := range a.ClusterList {
			dst = binary.BigEndian.AppendUint32(dst, c)
		}
	}
	if len(a.ExtCommunities) > 0 {
		dst = appendAttrHeader(dst, flagOptional|flagTransitive, attrExtCommunities, 8*len(a.ExtCommunities))
		for _, c := range a.ExtCommunities {
			dst = binary.BigEndian.AppendUint64(dst, uint64(c))
		}
	}
	if !as4 && a.ASPath.wide() {
		dst = appendAttr(dst, flagOptional|flagTransitive, attrAS4Path, a.ASPath)
	}
	dst, others = appendOthers(dst, others, attrPMSI, as4)
	if a.PMSI != "" {
		dst = appendAttr(dst, flagOptional|flagTransitive, attrPMSI, a.PMSI)
	}
	dst, _ = appendOthers(dst, others, 255, as4)
	return dst
}

// appendOthers appends the attributes with a type up to limit and returns the
// rest. An AGGREGATOR has an AS number, too.
func appendOthers(dst []byte, others []RawAttr, limit uint8, as4 bool) ([]byte, []RawAttr) {
	for len(others) > 0 && others[0].Type <= limit {
		o := others[0]
		others = others[1:]
		if o.Type == attrAggregator && !as4 {
			as := binary.BigEndian.Uint32([]byte(o.Value))
			dst = appendAttr(dst, o.Flags, o.Type, string(narrow(nil, as))+o.Value[4:])
			if as > 0xffff {
				dst = appendAttr(dst, o.Flags, attrAS4Aggregator, o.Value)
			}
			continue
		}
		dst = appendAttr(dst, o.Flags, o.Type, o.Value)
	}
	return dst, others
}

// asTrans stands for numbers that do not fit two bytes.
const asTrans = 23456

func narrow(dst []byte, as uint32) []byte {
	if as > 0xffff {
		as = asTrans
	}
	return append(dst, byte(as>>8), byte(as))
}

func (p ASPath) narrow() []byte {
	var b []byte
	for len(p) >= 2 {
		count := int(p[1])
		b = append(b, p[0], p[1])
		for i := range count {
			b = narrow(b, binary.BigEndian.Uint32([]byte(p[2+4*i:])))
		}
		p = p[2+4*count:]
	}
	return b
}

func (p ASPath) wide() bool {
	wide := false
	p.each(func(_ byte, as uint32) { wide = wide || as > 0xffff })
	return wide
}

// setCanon gives the set its name.
func (a *Attrs) setCanon() {
	b := make([]byte, 0, 160)
	b = append(append(b, byte(a.NextHop.BitLen())), a.NextHop.AsSlice()...)
	a.canon = string(a.encode(b, true))
}

// pool has every set that a route has, once. The table's lock protects it.
type pool map[string]*Attrs

// take returns the set that stands for all equal ones, with one reference more.
func (p pool) take(a *Attrs) *Attrs {
	if a.refs == 0 {
		if a.canon == "" {
			a.setCanon()
		}
		if have, ok := p[a.canon]; ok {
			a = have
		} else {
			p[a.canon] = a
		}
	}
	a.refs++
	return a
}

func (p pool) release(a *Attrs) {
	if a.refs--; a.refs > 0 {
		return
	}
	delete(p, a.canon)
	if a.payer != nil {
		a.payer.setBytes -= len(a.canon)
		a.payer = nil
	}
}

// charge has a peer account for a set that it has just brought, if it is new.
func (a *Attrs) charge(p *peer) {
	if a.refs == 1 && a.payer == nil {
		a.payer = p
		p.setBytes += len(a.canon)
	}
}
