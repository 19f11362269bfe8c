package bgp

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
)

// nlri is one route of a message. Its slices are valid until the next parse.
type nlri struct {
	// key is what makes the route the same route, without the label: for
	// prefixes the length in bits (of route distinguisher and prefix), then
	// those bytes; for EVPN the type and the fields of RFC 7432 that count.
	key []byte
	// label is the first entry of the label stack as it is on the wire.
	label uint32
	// rest is what the other fields cannot say: all of an EVPN route, or a
	// stack of more than one label.
	rest []byte
	// id is the path identifier (RFC 7911), 0 without ADD-PATH.
	id uint32
	// ignored is a route of a type that nobody here knows; RFC 7606 §5.4.
	ignored bool

	scratch [64]byte
}

var (
	errShort  = errors.New("the last route is cut off")
	errLength = errors.New("prefix length out of range")
	errLabels = errors.New("label stack without an end")
)

const (
	labelBottom = 1 // S bit of the 3-byte entry
	rdBits      = 64
)

// next takes the first route off b.
func (n *nlri) next(f Family, b []byte, addPath, withdraw bool) ([]byte, error) {
	n.id, n.label, n.rest, n.ignored = 0, 0, nil, false
	if addPath {
		if len(b) < 4 {
			return nil, errShort
		}
		n.id = binary.BigEndian.Uint32(b)
		b = b[4:]
	}
	switch f {
	case Inet:
		return n.prefix(b, 0, 32)
	case Inet6:
		return n.prefix(b, 0, 128)
	case RTC:
		return n.membership(b)
	case VPNv4:
		return n.vpn(b, rdBits+32, withdraw)
	case VPNv6:
		return n.vpn(b, rdBits+128, withdraw)
	case EVPN:
		return n.evpn(b)
	}
	return nil, fmt.Errorf("routes of %s are not understood", f)
}

// prefix reads length and prefix, and clears the bits behind the length: they
// do not count (RFC 4271 §4.3).
func (n *nlri) prefix(b []byte, least, most int) ([]byte, error) {
	if len(b) < 1 {
		return nil, errShort
	}
	bits := int(b[0])
	if bits < least || bits > most {
		return nil, errLength
	}
	size := 1 + (bits+7)/8
	if len(b) < size {
		return nil, errShort
	}
	n.key = append(n.scratch[:0], b[:size]...)
	mask(n.key[1:], bits)
	return b[size:], nil
}

// membership reads a route-target membership: nothing (all targets), or the
// origin AS and up to eight bytes of route target (RFC 4684 §4).
func (n *nlri) membership(b []byte) ([]byte, error) {
	if len(b) > 0 && b[0] != 0 && b[0] < 32 {
		return nil, errLength
	}
	return n.prefix(b, 0, 96)
}

// vpn reads labels, route distinguisher and prefix. In a withdrawal the label
// field says nothing, and some send it without the bottom bit (RFC 8277 §2.4).
func (n *nlri) vpn(b []byte, most int, withdraw bool) ([]byte, error) {
	if len(b) < 1 {
		return nil, errShort
	}
	bits := int(b[0])
	size := 1 + (bits+7)/8
	if len(b) < size {
		return nil, errShort
	}
	var labels []byte
	for at := 1; ; at += 3 {
		if at+3 > size {
			return nil, errLabels
		}
		labels = b[1 : at+3]
		last := uint32(b[at])<<16 | uint32(b[at+1])<<8 | uint32(b[at+2])
		if at == 1 {
			n.label = last
		}
		if last&labelBottom != 0 || withdraw && (last == 0 || last == 0x800000) {
			break
		}
	}
	bits -= 8 * len(labels)
	if bits < rdBits || bits > most {
		return nil, errLength
	}
	if len(labels) > 3 {
		n.rest = labels
	}
	n.key = append(append(n.scratch[:0], byte(bits)), b[1+len(labels):size]...)
	mask(n.key[1:], bits)
	return b[size:], nil
}

// Lengths of EVPN fields.
const (
	esiSize = 10
	rdSize  = 8
)

// evpn reads a route of RFC 7432 or RFC 9136. Each has its length, so that one
// that is wrong inside, or of another type, harms nothing but itself.
func (n *nlri) evpn(b []byte) ([]byte, error) {
	if len(b) < 2 || len(b) < 2+int(b[1]) {
		return nil, errShort
	}
	whole := b[:2+int(b[1])]
	n.rest = whole
	n.key = evpnKey(n.scratch[:0], whole)
	n.ignored = n.key == nil
	return b[len(whole):], nil
}

// evpnKey appends the key of a route: its type and the fields that count. It
// returns nil for a route that is malformed or of another type.
func evpnKey(key, whole []byte) []byte {
	v := whole[2:]
	key = append(key, whole[0])
	addr := func(at int) bool { // an address length in bits and the address end the route
		return len(v) > at && (v[at] == 32 || v[at] == 128) && len(v) == at+1+int(v[at])/8
	}
	switch whole[0] {
	case 1: // Ethernet auto-discovery: RD, ESI, tag, label
		if len(v) != rdSize+esiSize+4+3 {
			return nil
		}
		return append(key, v[:rdSize+esiSize+4]...)
	case 2: // MAC/IP: RD, ESI, tag, 48, MAC, IP length, IP, one or two labels
		const mac = rdSize + esiSize + 4
		if len(v) < mac+8+3 || v[mac] != 48 {
			return nil
		}
		ip := int(v[mac+7]) / 8
		if v[mac+7] != 0 && v[mac+7] != 32 && v[mac+7] != 128 {
			return nil
		}
		if labels := len(v) - (mac + 8 + ip); labels != 3 && labels != 6 {
			return nil
		}
		key = append(key, v[:rdSize]...)
		return append(key, v[rdSize+esiSize:mac+8+ip]...)
	case 3: // inclusive multicast: RD, tag, IP length, IP
		if !addr(rdSize + 4) {
			return nil
		}
		return append(key, v...)
	case 4: // Ethernet segment: RD, ESI, IP length, IP
		if !addr(rdSize + esiSize) {
			return nil
		}
		return append(key, v...)
	case 5: // IP prefix: RD, ESI, tag, length, prefix, gateway, label
		const at = rdSize + esiSize + 4
		if len(v) != at+1+4+4+3 && len(v) != at+1+16+16+3 {
			return nil
		}
		size := (len(v) - at - 4) / 2
		if int(v[at]) > 8*size {
			return nil
		}
		key = append(key, v[:rdSize]...)
		key = append(key, v[rdSize+esiSize:at+1+size]...)
		mask(key[len(key)-size:], int(v[at]))
		return key
	}
	return nil
}

// mask clears the bits of b behind the first bits.
func mask(b []byte, bits int) {
	i := bits / 8
	if i < len(b) && bits%8 != 0 {
		b[i] &= 0xff << (8 - bits%8)
		i++
	}
	for ; i < len(b); i++ {
		b[i] = 0
	}
}

// appendNLRI appends a route as it goes out.
func appendNLRI(dst []byte, f Family, key string, label uint32, rest string) []byte {
	switch f {
	case EVPN:
		return append(dst, rest...)
	case VPNv4, VPNv6:
		if rest == "" {
			dst = append(dst, key[0]+24, byte(label>>16), byte(label>>8), byte(label))
		} else {
			dst = append(append(dst, key[0]+byte(8*len(rest))), rest...)
		}
		return append(dst, key[1:]...)
	}
	return append(dst, key...)
}

// appendWithdrawal appends a route as it is withdrawn. The label is the one of
// RFC 8277 §2.4.
func appendWithdrawal(dst []byte, f Family, key, rest string) []byte {
	if f == VPNv4 || f == VPNv6 {
		return append(append(dst, key[0]+24, 0x80, 0, 0), key[1:]...)
	}
	return appendNLRI(dst, f, key, 0, rest)
}

// NLRI is a route's identity without its label. It compares and can be a map
// key. Routes that came in have one; VPNNLRI, PrefixNLRI and EVPNRoute.NLRI
// make others.
type NLRI struct {
	Family Family
	key    string // see nlri.key
}

// Key is the identity in bytes: equal for equal routes of a family, no more.
func (n NLRI) Key() string { return n.key }

// RD is a route distinguisher as it is on the wire.
type RD [8]byte

// RDFromAddr returns a type 1 distinguisher, ADDRESS:NUMBER.
func RDFromAddr(addr netip.Addr, number uint16) RD {
	rd := RD{0, 1}
	ip := addr.As4()
	copy(rd[2:], ip[:])
	binary.BigEndian.PutUint16(rd[6:], number)
	return rd
}

// Address returns the parts of a type 1 distinguisher; ok is false for others.
func (rd RD) Address() (addr netip.Addr, number uint16, ok bool) {
	return netip.AddrFrom4([4]byte(rd[2:6])), binary.BigEndian.Uint16(rd[6:]), rd[0] == 0 && rd[1] == 1
}

// RDFromAS returns a type 0 distinguisher, AS:NUMBER.
func RDFromAS(as uint16, number uint32) RD {
	rd := RD{}
	binary.BigEndian.PutUint16(rd[2:], as)
	binary.BigEndian.PutUint32(rd[4:], number)
	return rd
}

func (rd RD) String() string { return administrator(rd[:2], rd[2:]) }

// administrator writes AS:NUMBER or ADDRESS:NUMBER, as the type says.
func administrator(kind, value []byte) string {
	switch kind[len(kind)-1] {
	case 0:
		return fmt.Sprintf("%d:%d", binary.BigEndian.Uint16(value), binary.BigEndian.Uint32(value[2:]))
	case 1:
		return fmt.Sprintf("%s:%d", netip.AddrFrom4([4]byte(value)), binary.BigEndian.Uint16(value[4:]))
	case 2:
		return fmt.Sprintf("%d:%d", binary.BigEndian.Uint32(value), binary.BigEndian.Uint16(value[4:]))
	}
	return hex.EncodeToString(kind) + ":" + hex.EncodeToString(value)
}

// PrefixNLRI returns the identity of a prefix in inet or inet6.
func PrefixNLRI(p netip.Prefix) NLRI {
	p = p.Masked()
	f := Inet6
	if p.Addr().Is4() {
		f = Inet
	}
	return NLRI{f, string(appendPrefix([]byte{byte(p.Bits())}, p))}
}

// VPNNLRI returns the identity of a prefix in inet-vpn or inet6-vpn.
func VPNNLRI(rd RD, p netip.Prefix) NLRI {
	p = p.Masked()
	f := VPNv6
	if p.Addr().Is4() {
		f = VPNv4
	}
	key := append([]byte{byte(rdBits + p.Bits())}, rd[:]...)
	return NLRI{f, string(appendPrefix(key, p))}
}

func appendPrefix(b []byte, p netip.Prefix) []byte {
	return append(b, p.Addr().AsSlice()[:(p.Bits()+7)/8]...)
}

// RD returns the route distinguisher; ok is false where a family has none.
func (n NLRI) RD() (rd RD, ok bool) {
	if !n.Family.targeted() || len(n.key) < 1+rdSize {
		return RD{}, false
	}
	return RD([]byte(n.key[1 : 1+rdSize])), true
}

// Prefix returns the prefix of a route of inet, inet6, inet-vpn, inet6-vpn, or
// of an EVPN route of type 5; ok is false for others.
func (n NLRI) Prefix() (p netip.Prefix, ok bool) {
	switch n.Family {
	case Inet:
		return prefixOf(n.key[1:], int(n.key[0]), 4)
	case Inet6:
		return prefixOf(n.key[1:], int(n.key[0]), 16)
	case VPNv4:
		return prefixOf(n.key[1+rdSize:], int(n.key[0])-rdBits, 4)
	case VPNv6:
		return prefixOf(n.key[1+rdSize:], int(n.key[0])-rdBits, 16)
	case EVPN:
		const at = 1 + rdSize + 4
		if n.key[0] == 5 {
			return prefixOf(n.key[at+1:], int(n.key[at]), len(n.key)-at-1)
		}
	}
	return netip.Prefix{}, false
}

func prefixOf(b string, bits, size int) (netip.Prefix, bool) {
	full := make([]byte, size)
	copy(full, b)
	addr, _ := netip.AddrFromSlice(full)
	return netip.PrefixFrom(addr, bits), addr.IsValid()
}

// String is how operators know the route.
func (n NLRI) String() string {
	if n.Family == EVPN {
		return n.evpnString()
	}
	if n.Family == RTC {
		return n.membershipString()
	}
	p, _ := n.Prefix()
	if rd, ok := n.RD(); ok {
		return rd.String() + ":" + p.String()
	}
	return p.String()
}

func (n NLRI) membershipString() string {
	b := []byte(n.key)
	switch b[0] {
	case 0:
		return "0:0/0"
	case 96:
		return strconv.FormatUint(uint64(binary.BigEndian.Uint32(b[1:])), 10) + ":" +
			RouteTarget(binary.BigEndian.Uint64(b[5:])).String()
	}
	return hex.EncodeToString(b[1:]) + "/" + strconv.Itoa(int(b[0]))
}

func (n NLRI) evpnString() string {
	r, err := parseEVPNKey(n.key)
	if err != nil {
		return hex.EncodeToString([]byte(n.key))
	}
	s := fmt.Sprintf("%d:%s:%d", r.Type, r.RD, r.Tag)
	switch r.Type {
	case 1:
		return fmt.Sprintf("%s:%x", s, r.ESI)
	case 2:
		s += ":" + r.MAC.String()
		if r.IP.IsValid() {
			s += "," + r.IP.String()
		}
		return s
	case 4:
		return fmt.Sprintf("%s:%x:%s", s, r.ESI, r.IP)
	case 5:
		return s + ":" + r.Prefix.String()
	}
	return s + ":" + r.IP.String()
}
