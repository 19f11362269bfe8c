package model

import (
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// namespace is the UUIDv5 namespace of everything this project derives. It
// must never change: stored references point at derived UUIDs.
var namespace = uuid.MustParse("5d0a2c1e-7f57-4c0b-9c36-2b6a1f0e9d43")

// DerivedUUID is the UUIDv5 of the parts. Different lists of parts give
// different UUIDs also when their concatenations are equal.
func DerivedUUID(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%d:%s", len(p), p)
	}
	return uuid.NewSHA1(namespace, []byte(b.String())).String()
}

// NewUUID is a random UUIDv4.
func NewUUID() string { return uuid.NewString() }

// IsUUID reports whether s is a UUID in the form with dashes, in either case.
func IsUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	_, err := uuid.Parse(s)
	return err == nil
}

// FQString joins a fully qualified name with colons, as property fields and
// queries have it.
func FQString(fq []string) string { return strings.Join(fq, ":") }

// ParseFQ splits a name that FQString joined. Route targets, the only objects
// whose names contain colons, stay in one part.
func ParseFQ(kind Kind, s string) []string {
	if kind == KindRouteTarget {
		return []string{s}
	}
	return strings.Split(s, ":")
}

// CheckName finds what a fully qualified name may not contain: empty elements,
// characters that XML forbids, and colons in its last element, which only
// route targets have. The error is a *PropertyError.
func CheckName(kind Kind, fq []string) error {
	if len(fq) == 0 {
		return &PropertyError{Property: "fq_name", Want: "a list of names, from the topmost ancestor to the object"}
	}
	for i, part := range fq {
		path := fmt.Sprintf("fq_name[%d]", i)
		if part == "" {
			return &PropertyError{Property: path, Value: `""`, Want: "a name"}
		}
		if strings.ContainsFunc(part, forbiddenInXML) || !utf8.ValidString(part) {
			return &PropertyError{Property: path, Value: strconv.Quote(part), Want: "a name without control characters"}
		}
	}
	last := len(fq) - 1
	if kind != KindRouteTarget && strings.Contains(fq[last], ":") {
		return &PropertyError{Property: fmt.Sprintf("fq_name[%d]", last), Value: strconv.Quote(fq[last]), Want: "a name without colons"}
	}
	return nil
}

// forbiddenInXML follows XML 1.0 section 2.2.
func forbiddenInXML(r rune) bool {
	return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF
}

// MACOf is the MAC address of a virtual-machine-interface that asks for none:
// 02, the first four bytes of its UUID, and the fifth.
func MACOf(interfaceUUID string) (net.HardwareAddr, error) {
	id, err := uuid.Parse(interfaceUUID)
	if err != nil {
		return nil, fmt.Errorf("derive mac address of interface %q: %w", interfaceUUID, err)
	}
	return net.HardwareAddr{0x02, id[0], id[1], id[2], id[3], id[4]}, nil
}

// UUIDNumbers splits a UUID into the two numbers that id_perms carries.
func UUIDNumbers(s string) (UuidType, error) {
	id, err := uuid.Parse(s)
	if err != nil {
		return UuidType{}, fmt.Errorf("split uuid %q: %w", s, err)
	}
	return UuidType{
		UUIDMslong: binary.BigEndian.Uint64(id[:8]),
		UUIDLslong: binary.BigEndian.Uint64(id[8:]),
	}, nil
}

// UUIDOfNumbers is the inverse of UUIDNumbers.
func UUIDOfNumbers(n UuidType) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], n.UUIDMslong)
	binary.BigEndian.PutUint64(id[8:], n.UUIDLslong)
	return id.String()
}

// timeLayout is ISO 8601 with microseconds and without a zone; the zone is UTC.
const timeLayout = "2006-01-02T15:04:05.000000"

// Timestamp is t as the contract writes times.
func Timestamp(t time.Time) string { return t.UTC().Format(timeLayout) }

// ParseTimestamp reads what Timestamp wrote; a zone and fewer or more digits
// of the fraction are accepted too.
func ParseTimestamp(s string) (time.Time, error) {
	if t, err := time.Parse("2006-01-02T15:04:05.999999999", s); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("parse time %q: want the form 2006-01-02T15:04:05.000000", s)
	}
	return t.UTC(), nil
}

// The owner of objects that no tenant made.
const (
	cloudAdmin      = "cloud-admin"
	cloudAdminGroup = "cloud-admin-group"
)

// NewIDPerms is the id_perms of an object made now.
func NewIDPerms(objectUUID string, now time.Time) (*IdPermsType, error) {
	numbers, err := UUIDNumbers(objectUUID)
	if err != nil {
		return nil, err
	}
	stamp := Timestamp(now)
	return &IdPermsType{
		Enable:       new(true),
		UserVisible:  new(true),
		UUID:         &numbers,
		Created:      stamp,
		LastModified: stamp,
		Permissions: &PermType{
			Owner: cloudAdmin, OwnerAccess: new(int64(7)),
			Group: cloudAdminGroup, GroupAccess: new(int64(7)),
			OtherAccess: new(int64(7)),
		},
	}, nil
}

// NewPerms2 gives all rights to owner, a tenant's UUID without dashes, or to
// the administrator of the cloud when owner is empty; and none to others.
func NewPerms2(owner string) *PermType2 {
	if owner == "" {
		owner = cloudAdmin
	}
	return &PermType2{Owner: owner, OwnerAccess: new(int64(7)), GlobalAccess: new(int64(0))}
}
