package compile

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// The ids of derived objects can be read backwards: that of a routing instance
// tells its network, that of a route target the target. Whoever is asked for
// an id knows at once whether it can be one of ours, and looks at one network.
// Stored references hold these ids: what follows must never change.

// instanceMask is flipped in a network's id to make that of its instance. It
// leaves the first nine bytes alone, with version and variant.
var instanceMask = [16]byte{9: 0xc3, 0x5a, 0x96, 0x0f, 0x71, 0xe8, 0x2d}

// InstanceUUID is the id of a network's own routing instance.
func InstanceUUID(network string) string { return flipped(network, instanceMask) }

// flipped is an id with the bits of a mask flipped, which flipped again is what
// it was; empty for what is no id.
func flipped(id string, mask [16]byte) string {
	u, err := uuid.Parse(id)
	if err != nil {
		return ""
	}
	for i, b := range mask {
		u[i] ^= b
	}
	return u.String()
}

// NetworkOfInstance is the id of the network whose own instance has the id.
// Any id may be asked for; whether there is such a network is another matter.
func NetworkOfInstance(instance string) string { return InstanceUUID(instance) }

// targetSpace begins the ids of route targets, of version 8 (RFC 9562 section
// 5.8). The kind is in the low bits of byte 8, the target's six bytes are the
// last ones.
var targetSpace = [10]byte{0x72, 0x74, 0x61, 0x72, 0x67, 0x65, 0x80, 0x00, 0x80, 0x00}

// Kinds of route targets by their administrator, numbered as in RFC 4360
// section 3 and RFC 5668 section 2.
const (
	twoOctets = iota
	address
	fourOctets
)

// TargetUUID is the id of a route target that no client has stored; empty for
// what is no route target.
func TargetUUID(t Target) string {
	kind, value, ok := t.parse()
	if !ok {
		return ""
	}
	var id uuid.UUID
	copy(id[:], targetSpace[:])
	id[8] |= kind
	copy(id[10:], value[:])
	return id.String()
}

// TargetOfUUID reads the id of a route target; false when it is none.
func TargetOfUUID(id string) (Target, bool) {
	u, err := uuid.Parse(id)
	kind := u[8] &^ targetSpace[8]
	u[8] = targetSpace[8]
	if err != nil || [10]byte(u[:10]) != targetSpace || kind > fourOctets {
		return "", false
	}
	return targetOf(kind, [6]byte(u[10:])), true
}

// Canonical writes a target as all of the same value are written.
func (t Target) Canonical() Target {
	kind, value, ok := t.parse()
	if !ok {
		return t
	}
	return targetOf(kind, value)
}

func targetOf(kind byte, value [6]byte) Target {
	switch kind {
	case address:
		return Target(fmt.Sprintf("target:%s:%d", netip.AddrFrom4([4]byte(value[:4])), binary.BigEndian.Uint16(value[4:])))
	case twoOctets:
		return Target(fmt.Sprintf("target:%d:%d", binary.BigEndian.Uint16(value[:2]), binary.BigEndian.Uint32(value[2:])))
	default:
		return Target(fmt.Sprintf("target:%d:%d", binary.BigEndian.Uint32(value[:4]), binary.BigEndian.Uint16(value[4:])))
	}
}

// numbers are the autonomous system of a target and its number in it.
func (t Target) numbers() (asn, number int64, ok bool) {
	kind, value, ok := t.parse()
	switch {
	case !ok || kind == address:
		return 0, 0, false
	case kind == twoOctets:
		return int64(binary.BigEndian.Uint16(value[:2])), int64(binary.BigEndian.Uint32(value[2:])), true
	}
	return int64(binary.BigEndian.Uint32(value[:4])), int64(binary.BigEndian.Uint16(value[4:])), true
}

// parse reads the three forms: a number of two bytes and one of four, an
// address or a number of four bytes and one of two.
func (t Target) parse() (kind byte, value [6]byte, ok bool) {
	rest, found := strings.CutPrefix(string(t), "target:")
	admin, text, two := strings.Cut(rest, ":")
	number, err := strconv.ParseUint(text, 10, 32)
	if !found || !two || err != nil {
		return 0, value, false
	}
	if a, err := netip.ParseAddr(admin); err == nil {
		if !a.Is4() || number > 1<<16-1 {
			return 0, value, false
		}
		octets := a.As4()
		copy(value[:], octets[:])
		binary.BigEndian.PutUint16(value[4:], uint16(number))
		return address, value, true
	}
	asn, err := strconv.ParseUint(admin, 10, 32)
	switch {
	case err != nil || asn > 1<<16-1 && number > 1<<16-1:
		return 0, value, false
	case asn <= 1<<16-1:
		binary.BigEndian.PutUint16(value[:], uint16(asn))
		binary.BigEndian.PutUint32(value[2:], uint32(number))
		return twoOctets, value, true
	default:
		binary.BigEndian.PutUint32(value[:], uint32(asn))
		binary.BigEndian.PutUint16(value[4:], uint16(number))
		return fourOctets, value, true
	}
}
