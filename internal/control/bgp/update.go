package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Sizes and types of messages, RFC 4271 §4.1.
const (
	headerSize  = 19
	maxMessage  = 4096
	msgOpen     = 1
	msgUpdate   = 2
	msgNotify   = 3
	msgAlive    = 4
	msgRefresh  = 5
	minOpen     = headerSize + 10
	minUpdate   = headerSize + 4
	minNotify   = headerSize + 2
	sizeRefresh = headerSize + 4

	msgNotification = msgNotify
)

// appendHeader appends the header of a message of size bytes in all.
func appendHeader(dst []byte, size int, kind uint8) []byte {
	for range 16 {
		dst = append(dst, 0xff)
	}
	return append(dst, byte(size>>8), byte(size), kind)
}

// checkHeader returns the length and type of the message that begins b, which
// has headerSize bytes at least.
func checkHeader(b []byte) (size int, kind uint8, bad *Notification) {
	for _, m := range b[:16] {
		if m != 0xff {
			return 0, 0, &Notification{Code: codeHeader, Subcode: headerNotSynced}
		}
	}
	size, kind = int(binary.BigEndian.Uint16(b[16:])), b[18]
	least, most := headerSize, maxMessage
	switch kind {
	case msgOpen:
		least = minOpen
	case msgUpdate:
		least = minUpdate
	case msgNotify:
		least = minNotify
	case msgAlive:
		most = headerSize
	case msgRefresh:
		least = sizeRefresh
	default:
		return 0, 0, &Notification{Code: codeHeader, Subcode: headerType, Data: []byte{kind}}
	}
	if size < least || size > most {
		return 0, 0, &Notification{Code: codeHeader, Subcode: headerLength, Data: slices.Clone(b[16:18])}
	}
	return size, kind, nil
}

// update is an UPDATE in its parts; its slices point into the message.
type update struct {
	withdrawn, routes []byte // of inet, outside attributes
	attrs             []byte // the attributes but MP_REACH and MP_UNREACH
	reach, unreach    mpRoutes
	// withdraw says why the routes are to be treated as withdrawn.
	withdraw error
}

type mpRoutes struct {
	present bool
	family  Family
	nextHop netip.Addr
	routes  []byte
}

// parse takes an UPDATE's body apart. What cannot be taken apart ends the
// session (RFC 7606 §3, §5); scratch is kept for the next message.
func (u *update) parse(body []byte) *Notification {
	*u = update{attrs: u.attrs[:0]}
	malformed := &Notification{Code: codeUpdate, Subcode: updateMalformed}
	size := int(binary.BigEndian.Uint16(body))
	if len(body) < 2+size+2 {
		return malformed
	}
	u.withdrawn = body[2 : 2+size]
	body = body[2+size:]
	size = int(binary.BigEndian.Uint16(body))
	if len(body) < 2+size {
		return malformed
	}
	u.routes = body[2+size:]
	for b := body[2 : 2+size]; len(b) > 0; {
		flags, kind, value, rest, ok := nextAttr(b)
		if !ok {
			if kind == attrMPReach || kind == attrMPUnreach {
				return &Notification{Code: codeUpdate, Subcode: updateOptional}
			}
			u.withdraw = errCut
			return nil
		}
		if err := u.attr(flags, kind, value, b[:len(b)-len(rest)]); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

var errCut = errors.New("an attribute is longer than the list of attributes")

// nextAttr takes the first attribute off b. If it is cut off, ok is false and
// kind is its type as far as that can be read.
func nextAttr(b []byte) (flags, kind uint8, value, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, 0, nil, nil, false
	}
	flags, kind = b[0], b[1]
	head := 3
	if flags&flagExtended != 0 {
		head = 4
	}
	if len(b) < head {
		return flags, kind, nil, nil, false
	}
	size := int(b[2])
	if head == 4 {
		size = int(binary.BigEndian.Uint16(b[2:]))
	}
	if len(b) < head+size {
		return flags, kind, nil, nil, false
	}
	return flags, kind, b[head : head+size], b[head+size:], true
}

func (u *update) attr(flags, kind uint8, value, whole []byte) *Notification {
	var mp *mpRoutes
	switch kind {
	case attrMPReach:
		mp = &u.reach
	case attrMPUnreach:
		mp = &u.unreach
	default:
		u.attrs = append(u.attrs, whole...)
		return nil
	}
	bad := &Notification{Code: codeUpdate, Subcode: updateOptional, Data: slices.Clone(whole)}
	if mp.present { // RFC 7606 §3 g
		return &Notification{Code: codeUpdate, Subcode: updateMalformed}
	}
	if flags&(flagOptional|flagTransitive) != flagOptional {
		u.withdraw = fmt.Errorf("attribute %d has flags %#x", kind, flags)
	}
	if len(value) < 3 {
		return bad
	}
	mp.present = true
	mp.family = Family(binary.BigEndian.Uint16(value))<<16 | Family(value[2])
	mp.routes = value[3:]
	if kind == attrMPUnreach {
		return nil
	}
	if len(value) < 5 || len(value) < 5+int(value[3]) {
		return bad
	}
	hop := value[4 : 4+int(value[3])]
	mp.routes = value[5+len(hop):]
	if mp.family.index() < 0 {
		return nil
	}
	addr, ok := parseNextHop(mp.family, hop)
	if !ok {
		return bad // RFC 7606 §7.11
	}
	mp.nextHop = addr
	return nil
}

// parseNextHop reads the next hop of MP_REACH_NLRI. IPv4 inside IPv6 is IPv4.
func parseNextHop(f Family, b []byte) (netip.Addr, bool) {
	if f == VPNv4 || f == VPNv6 {
		if len(b) < rdSize {
			return netip.Addr{}, false
		}
		if len(b) == 2*(rdSize+16) { // and a link-local one
			b = b[:rdSize+16]
		}
		b = b[rdSize:]
	} else if len(b) == 32 {
		b = b[:16]
	}
	addr, ok := netip.AddrFromSlice(b)
	if f == Inet6 && !addr.Is6() {
		ok = false
	}
	return addr.Unmap(), ok
}

// appendNextHop appends length and next hop for MP_REACH_NLRI.
func appendNextHop(dst []byte, f Family, hop netip.Addr) []byte {
	switch f {
	case VPNv4:
		dst = append(dst, 12, 0, 0, 0, 0, 0, 0, 0, 0)
	case VPNv6:
		ip := hop.As16() // IPv4 inside IPv6 where it is IPv4, RFC 4659 §3.2.1.2
		dst = append(dst, 24, 0, 0, 0, 0, 0, 0, 0, 0)
		return append(dst, ip[:]...)
	default:
		dst = append(dst, byte(hop.BitLen()/8))
	}
	return append(dst, hop.AsSlice()...)
}

// decoder turns attributes into sets, for a session.
type decoder struct {
	as4     bool // AS numbers have four bytes
	ebgp    bool
	trusted bool     // identity communities are kept
	origin  Optional // in the place of that of all routes
	// discarded counts attributes that were left out as malformed.
	discarded uint64
}

// decode reads the attributes of routes whose next hop MP_REACH_NLRI gave, or
// NEXT_HOP if hop is not valid. withdraw is why the routes are treated as
// withdrawn, bad why the session ends (RFC 7606).
func (d *decoder) decode(b []byte, hop netip.Addr) (a *Attrs, bad *Notification, withdraw error) {
	a = &Attrs{}
	var seen [4]uint64
	var as4Path ASPath
	var as4Aggregator string
	for len(b) > 0 {
		flags, kind, value, rest, ok := nextAttr(b)
		if !ok {
			return nil, nil, errCut
		}
		b = rest
		if seen[kind>>6]&(1<<(kind&63)) != 0 {
			continue // RFC 7606 §3 g: the first one counts
		}
		seen[kind>>6] |= 1 << (kind & 63)
		want, known := attrFlags[kind]
		if !known && flags&flagOptional == 0 {
			return nil, &Notification{Code: codeUpdate, Subcode: updateWellKnown}, nil
		}
		if known && flags&(flagOptional|flagTransitive) != want {
			withdraw = fmt.Errorf("attribute %d has flags %#x", kind, flags)
			continue
		}
		switch kind {
		case attrAS4Path:
			as4Path, _ = parseASPath(value, true) // RFC 6793 §6: a malformed one is left out
			continue
		case attrAS4Aggregator:
			if len(value) == 8 {
				as4Aggregator = string(value)
			}
			continue
		}
		if !d.set(a, flags, kind, value) {
			withdraw = fmt.Errorf("attribute %d is malformed: % x", kind, value[:min(len(value), 32)])
		}
	}
	if hop.IsValid() {
		a.NextHop = hop
	}
	if withdraw == nil {
		withdraw = missing(seen, a)
	}
	if withdraw != nil {
		return nil, nil, withdraw
	}
	if !d.as4 {
		a.widen(as4Path, as4Aggregator)
	}
	slices.SortFunc(a.Others, func(x, y RawAttr) int { return int(x.Type) - int(y.Type) })
	a.setCanon()
	return a, nil, nil
}

// attrFlags are the flags that known attributes must have.
var attrFlags = map[uint8]uint8{
	attrOrigin: flagTransitive, attrASPath: flagTransitive, attrNextHop: flagTransitive,
	attrMED: flagOptional, attrLocalPref: flagTransitive, attrAtomicAggregate: flagTransitive,
	attrAggregator: flagOptional | flagTransitive, attrCommunities: flagOptional | flagTransitive,
	attrOriginatorID: flagOptional, attrClusterList: flagOptional,
	attrExtCommunities: flagOptional | flagTransitive, attrAS4Path: flagOptional | flagTransitive,
	attrAS4Aggregator: flagOptional | flagTransitive, attrPMSI: flagOptional | flagTransitive,
	attrLargeCommunity: flagOptional | flagTransitive,
}

// missing checks that what every route needs is there (RFC 7606 §3 d).
func missing(seen [4]uint64, a *Attrs) error {
	for _, kind := range []uint8{attrOrigin, attrASPath} {
		if seen[0]&(1<<kind) == 0 {
			return fmt.Errorf("attribute %d is missing", kind)
		}
	}
	if !a.NextHop.IsValid() {
		return errors.New("next hop is missing")
	}
	if a.NextHop.IsUnspecified() || a.NextHop.IsMulticast() || a.NextHop.IsLoopback() {
		return fmt.Errorf("next hop %s is no host's address", a.NextHop)
	}
	return nil
}

// set puts an attribute into the set; false if it is malformed and takes the
// routes with it.
func (d *decoder) set(a *Attrs, flags, kind uint8, v []byte) bool {
	switch kind {
	case attrOrigin:
		if len(v) != 1 || v[0] > OriginIncomplete {
			return false
		}
		if a.Origin = v[0]; d.origin.Set {
			a.Origin = uint8(d.origin.Value)
		}
	case attrASPath:
		var ok bool
		a.ASPath, ok = parseASPath(v, d.as4)
		return ok
	case attrNextHop:
		if len(v) != 4 {
			return false
		}
		a.NextHop = netip.AddrFrom4([4]byte(v))
	case attrMED:
		return set32(&a.MED, v)
	case attrLocalPref:
		if d.ebgp { // RFC 7606 §7.5
			d.discarded++
			return true
		}
		return set32(&a.LocalPref, v)
	case attrAtomicAggregate, attrAggregator:
		d.setAggregate(a, flags, kind, v)
	case attrCommunities:
		for c := range slices.Chunk(v, 4) {
			if len(c) != 4 {
				return false
			}
			a.Communities = append(a.Communities, binary.BigEndian.Uint32(c))
		}
		return len(v) > 0
	case attrOriginatorID, attrClusterList:
		return d.setReflection(a, kind, v)
	case attrExtCommunities:
		return d.setExtCommunities(a, v)
	case attrPMSI:
		if len(v) < 5 {
			return false
		}
		a.PMSI = string(v)
	case attrLargeCommunity:
		if len(v) == 0 || len(v)%12 != 0 {
			return false
		}
		a.Others = append(a.Others, RawAttr{flags &^ flagExtended, kind, string(v)})
	case attrOriginVNPath:
		if d.trusted {
			a.Others = append(a.Others, RawAttr{flags &^ flagExtended, kind, string(v)})
		}
	default: // RFC 4271 §9: passed on if transitive
		if flags&flagTransitive != 0 {
			a.Others = append(a.Others, RawAttr{flags&^flagExtended | flagPartial, kind, string(v)})
		}
	}
	return true
}

// setAggregate keeps the two attributes that say that a route was aggregated,
// and drops malformed ones (RFC 7606 §7.6, §7.7).
func (d *decoder) setAggregate(a *Attrs, flags, kind uint8, v []byte) {
	flags &^= flagExtended
	switch {
	case kind == attrAtomicAggregate && len(v) == 0:
		a.Others = append(a.Others, RawAttr{flags, kind, ""})
	case kind == attrAggregator && d.as4 && len(v) == 8:
		a.Others = append(a.Others, RawAttr{flags, kind, string(v)})
	case kind == attrAggregator && !d.as4 && len(v) == 6:
		a.Others = append(a.Others, RawAttr{flags, kind, "\x00\x00" + string(v)})
	default:
		d.discarded++
	}
}

func set32(o *Optional, v []byte) bool {
	if len(v) != 4 {
		return false
	}
	*o = Some(binary.BigEndian.Uint32(v))
	return true
}

// setReflection keeps what reflectors say; from other ASes it counts nothing
// (RFC 7606 §7.9, §7.10).
func (d *decoder) setReflection(a *Attrs, kind uint8, v []byte) bool {
	switch {
	case d.ebgp:
		d.discarded++
	case len(v) == 0 || len(v)%4 != 0 || kind == attrOriginatorID && len(v) != 4:
		return false
	case kind == attrOriginatorID:
		a.OriginatorID = netip.AddrFrom4([4]byte(v))
	default:
		for c := range slices.Chunk(v, 4) {
			a.ClusterList = append(a.ClusterList, binary.BigEndian.Uint32(c))
		}
	}
	return true
}

func (d *decoder) setExtCommunities(a *Attrs, v []byte) bool {
	if len(v) == 0 || len(v)%8 != 0 {
		return false
	}
	a.ExtCommunities = make([]ExtCommunity, 0, len(v)/8)
	for c := range slices.Chunk(v, 8) {
		if x := ExtCommunity(binary.BigEndian.Uint64(c)); d.trusted || !x.isIdentity() {
			a.ExtCommunities = append(a.ExtCommunities, x)
		}
	}
	return true
}

// parseASPath reads AS_PATH or AS4_PATH. Confederation segments have no place
// here, nor has AS 0 (RFC 7607).
func parseASPath(v []byte, as4 bool) (ASPath, bool) {
	size := 2
	if as4 {
		size = 4
	}
	p := make([]byte, 0, 2*len(v))
	for len(v) > 0 {
		if len(v) < 2 || v[0] != asSet && v[0] != asSequence || v[1] == 0 || len(v) < 2+int(v[1])*size {
			return "", false
		}
		p = append(p, v[0], v[1])
		for n := range slices.Chunk(v[2:2+int(v[1])*size], size) {
			as := uint32(binary.BigEndian.Uint16(n))
			if as4 {
				as = binary.BigEndian.Uint32(n)
			}
			if as == 0 {
				return "", false
			}
			p = binary.BigEndian.AppendUint32(p, as)
		}
		v = v[2+int(v[1])*size:]
	}
	return ASPath(p), true
}

// widen puts the numbers of four bytes back that an older speaker carried
// along (RFC 6793 §4.2.3).
func (a *Attrs) widen(path ASPath, aggregator string) {
	for i, o := range a.Others {
		if o.Type == attrAggregator && aggregator != "" {
			if binary.BigEndian.Uint32([]byte(o.Value)) != asTrans {
				return
			}
			a.Others[i].Value = aggregator
		}
	}
	if path == "" || path.Len() > a.ASPath.Len() {
		return
	}
	lead := a.ASPath.Len() - path.Len()
	var numbers []uint32
	a.ASPath.each(func(kind byte, as uint32) {
		if len(numbers) < lead && kind == asSequence {
			numbers = append(numbers, as)
		}
	})
	for _, as := range slices.Backward(numbers) {
		path = path.prepend(as, 1)
	}
	a.ASPath = path
}
