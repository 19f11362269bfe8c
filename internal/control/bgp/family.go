package bgp

import (
	"fmt"
	"strings"
)

// Family is an address family as capabilities and messages name it: AFI in the
// upper half, SAFI in the lower.
type Family uint32

// The families that the speaker can exchange.
const (
	Inet   Family = 1<<16 | 1   // IPv4 unicast
	Inet6  Family = 2<<16 | 1   // IPv6 unicast
	VPNv4  Family = 1<<16 | 128 // RFC 4364
	VPNv6  Family = 2<<16 | 128 // RFC 4659
	EVPN   Family = 25<<16 | 70 // RFC 7432, RFC 9136
	RTC    Family = 1<<16 | 132 // RFC 4684
	numFam        = 6
)

// families lists them in the order in which a session sends them: route-target
// membership first, since it decides what the other side sends us.
var families = [numFam]Family{RTC, VPNv4, VPNv6, EVPN, Inet, Inet6}

var familyNames = map[Family]string{
	Inet: "inet", Inet6: "inet6", VPNv4: "inet-vpn", VPNv6: "inet6-vpn", EVPN: "e-vpn", RTC: "route-target",
}

func (f Family) afi() uint16 { return uint16(f >> 16) }
func (f Family) safi() uint8 { return uint8(f) }

// String is the name that the API uses for the family.
func (f Family) String() string {
	if name, ok := familyNames[f]; ok {
		return name
	}
	return fmt.Sprintf("afi %d safi %d", f.afi(), f.safi())
}

// ParseFamily is the inverse of String.
func ParseFamily(name string) (Family, error) {
	for f, n := range familyNames {
		if n == name {
			return f, nil
		}
	}
	return 0, fmt.Errorf("address family %q is not known; choose from inet, inet6, inet-vpn, inet6-vpn, e-vpn, route-target", name)
}

// index is the family's place in families, or -1.
func (f Family) index() int {
	for i, known := range families {
		if f == known {
			return i
		}
	}
	return -1
}

// targeted says that the family's routes carry route targets, so that
// route-target membership (RFC 4684) filters them.
func (f Family) targeted() bool { return f == VPNv4 || f == VPNv6 || f == EVPN }

// familySet is a set of families by index.
type familySet uint8

func (s familySet) has(f Family) bool {
	i := f.index()
	return i >= 0 && s&(1<<i) != 0
}

func (s *familySet) add(f Family) {
	if i := f.index(); i >= 0 {
		*s |= 1 << i
	}
}

func (s *familySet) remove(f Family) {
	if i := f.index(); i >= 0 {
		*s &^= 1 << i
	}
}

func (s familySet) list() []Family {
	var all []Family
	for i, f := range families {
		if s&(1<<i) != 0 {
			all = append(all, f)
		}
	}
	return all
}

func (s familySet) String() string {
	var names []string
	for _, f := range s.list() {
		names = append(names, f.String())
	}
	return strings.Join(names, ",")
}
