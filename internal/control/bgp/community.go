package bgp

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
)

// ExtCommunity is an extended community (RFC 4360), its eight bytes in order.
type ExtCommunity uint64

// Types and subtypes, the first two bytes.
const (
	extRTAS2        = 0x0002
	extRTAddr       = 0x0102
	extRTAS4        = 0x0202
	extEncap        = 0x030c // RFC 9012
	extGateway      = 0x030d
	extLoadBalance  = 0x03aa
	extMobility     = 0x0600 // RFC 7432 §7.7
	extRouterMAC    = 0x0603 // RFC 9135
	extGroup        = 0x8004 // security group
	extOriginVN     = 0x8071
	extTag          = 0x8084
	extNotAcrossASs = 0x4000 // the bit of non-transitive ones
)

// Encap is a tunnel type of the encapsulation community.
type Encap uint16

// Tunnel types; the legacy numbers are of earlier versions of Contrail.
const (
	EncapGRE            Encap = 2
	EncapVXLAN          Encap = 8
	EncapMPLSoGRE       Encap = 11
	EncapMPLSoUDP       Encap = 13
	EncapMPLSoUDPLegacy Encap = 37001
	EncapVXLANLegacy    Encap = 37002
)

func (c ExtCommunity) kind() uint16 { return uint16(c >> 48) }

// RouteTarget is an extended community that is a route target.
type RouteTarget uint64

// NewRouteTarget returns target:AS:NUMBER.
func NewRouteTarget(as, number uint32) RouteTarget {
	if as <= 0xffff {
		return RouteTarget(extRTAS2<<48 | uint64(as)<<32 | uint64(number))
	}
	return RouteTarget(extRTAS4<<48 | uint64(as)<<16 | uint64(number&0xffff))
}

func (t RouteTarget) String() string {
	b := binary.BigEndian.AppendUint64(nil, uint64(t))
	return "target:" + administrator(b[:1], b[2:])
}

func (c ExtCommunity) isTarget() bool {
	switch c.kind() {
	case extRTAS2, extRTAddr, extRTAS4:
		return true
	}
	return false
}

// IsMark says that the community is one of an autonomous system or an address, such
// as a route target: it means what those mean by it who look at it.
func (c ExtCommunity) IsMark() bool {
	return c.kind()>>8 <= 2 // RFC 7153 §5.1
}

// isIdentity says that the community tells who a workload is: from anybody
// that is not trusted it would be a way into other tenants' rules.
func (c ExtCommunity) isIdentity() bool {
	switch c.kind() &^ 0x0200 { // 0x82 is 0x80 with an AS of four bytes
	case extGroup, extOriginVN, extTag:
		return true
	}
	return c.kind() == extMobility
}

// NewEncap returns the encapsulation community.
func NewEncap(e Encap) ExtCommunity { return ExtCommunity(extEncap<<48 | uint64(e)) }

// NewRouterMAC returns the community of the MAC to which packets go (RFC 9135 §8.1).
func NewRouterMAC(mac [6]byte) ExtCommunity {
	return ExtCommunity(extRouterMAC<<48 | binary.BigEndian.Uint64(append([]byte{0, 0}, mac[:]...)))
}

// NewSecurityGroup returns the community of a security group.
func NewSecurityGroup(as uint16, id uint32) ExtCommunity {
	return ExtCommunity(extGroup<<48 | uint64(as)<<32 | uint64(id))
}

// NewOriginVN returns the community of the network that a route comes from.
func NewOriginVN(as uint16, id uint32) ExtCommunity {
	return ExtCommunity(extOriginVN<<48 | uint64(as)<<32 | uint64(id))
}

// NewTag returns the community of a tag.
func NewTag(as uint16, id uint32) ExtCommunity {
	return ExtCommunity(extTag<<48 | uint64(as)<<32 | uint64(id))
}

// String names what is known, and writes the rest in hex.
func (c ExtCommunity) String() string {
	switch value := uint32(c); c.kind() {
	case extRTAS2, extRTAddr, extRTAS4:
		return RouteTarget(c).String()
	case extEncap:
		return fmt.Sprintf("encapsulation:%d", uint16(c))
	case extGateway:
		return "default-gateway"
	case extGroup:
		return fmt.Sprintf("security-group:%d:%d", uint16(c>>32), value)
	case extOriginVN:
		return fmt.Sprintf("origin-vn:%d:%d", uint16(c>>32), value)
	case extTag:
		return fmt.Sprintf("tag:%d:%d", uint16(c>>32), value)
	case extMobility:
		return fmt.Sprintf("mobility:%d", value)
	case extRouterMAC:
		return "router-mac:" + c.mac().String()
	case extLoadBalance:
		return fmt.Sprintf("load-balance:%012x", uint64(c)&(1<<48-1))
	}
	return hex.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(c)))
}

func (c ExtCommunity) mac() net.HardwareAddr {
	return net.HardwareAddr(binary.BigEndian.AppendUint64(nil, uint64(c))[2:])
}

// Well-known communities.
const (
	CommunityNoExport    = 0xffffff01
	CommunityNoAdvertise = 0xffffff02
	communityNoExportSub = 0xffffff03
	CommunityLLGRStale   = 0xffff0006 // RFC 9494
	CommunityNoLLGR      = 0xffff0007
)

// RouteTargets returns the route targets.
func (a *Attrs) RouteTargets() []RouteTarget {
	var all []RouteTarget
	for _, c := range a.ExtCommunities {
		if c.isTarget() {
			all = append(all, RouteTarget(c))
		}
	}
	return all
}

// Encaps returns the encapsulations, legacy numbers as their present ones.
func (a *Attrs) Encaps() []Encap {
	var all []Encap
	for _, c := range a.ExtCommunities {
		if c.kind() != extEncap {
			continue
		}
		e := Encap(c)
		switch e {
		case EncapMPLSoUDPLegacy:
			e = EncapMPLSoUDP
		case EncapVXLANLegacy:
			e = EncapVXLAN
		}
		if !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

// Identity is who is behind a route, as one autonomous system numbers it.
type Identity struct {
	OriginVN             uint32 // 0 if it is not told
	SecurityGroups, Tags []uint32
}

// Identity returns what the communities of an autonomous system say. Numbers of
// others mean others: they are left out.
func (a *Attrs) Identity(as uint16) (id Identity) {
	for _, c := range a.ExtCommunities {
		if uint16(c>>32) != as {
			continue
		}
		switch value := uint32(c); c.kind() {
		case extOriginVN:
			id.OriginVN = value
		case extGroup:
			id.SecurityGroups = append(id.SecurityGroups, value)
		case extTag:
			id.Tags = append(id.Tags, value)
		}
	}
	return id
}

// Mobility returns the sequence of the MAC mobility community.
func (a *Attrs) Mobility() (uint32, bool) {
	for _, c := range a.ExtCommunities {
		if c.kind() == extMobility {
			return uint32(c), true
		}
	}
	return 0, false
}

// RouterMAC returns the MAC of the router behind a route (RFC 9135 §8.1).
func (a *Attrs) RouterMAC() (mac [6]byte, ok bool) {
	for _, c := range a.ExtCommunities {
		if c.kind() == extRouterMAC {
			return [6]byte(c.mac()), true
		}
	}
	return mac, false
}

// HasCommunity says whether a community is attached.
func (a *Attrs) HasCommunity(c uint32) bool { return slices.Contains(a.Communities, c) }
