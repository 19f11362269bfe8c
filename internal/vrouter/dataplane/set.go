package dataplane

import (
	"encoding/hex"
	"net/netip"
	"slices"
)

// Set is a policy set: rules in order, of which the first that matches a
// connection's first packet decides; what none matches is refused. It must not
// be changed once it has been handed over.
type Set struct {
	ID SetID `json:"id"`
	// Blocks are asked one after the other. Sets may share them.
	Blocks [][]Rule `json:"-"`
}

// SetID follows from what is in a set: sets with the same id are the same. The
// zero SetID is of none.
type SetID [16]byte

// String is the id in hexadecimal digits.
func (id SetID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is String.
func (id SetID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// Rule says what becomes of connections that match all its parts.
type Rule struct {
	// UUID, Owner and Place are how people know the rule; the programs know it by
	// its place in the set. Owner is the object that it is written in, or follows
	// from, with its type; Place is that in the owner, from 1, and 0 for a rule that
	// follows and for an owner that is the rule.
	UUID, Owner string
	Place       int

	Src, Dst Selector
	// Family is 4 or 6, 0 for both.
	Family uint8
	// Protocol is the number of one, or AnyProtocol.
	Protocol int16
	// SrcPorts and DstPorts are any of the ranges; of ICMP they are types and
	// codes. A rule with something else than all ports on a side does not match
	// protocols without ports, unless it names ICMP itself.
	SrcPorts, DstPorts []PortRange
	// SameTags are types of tags of which both sides must have the same one.
	SameTags []uint16
	Deny     bool
}

// AnyProtocol matches packets of every protocol.
const AnyProtocol = -1

// PortRange is a range with both ends.
type PortRange struct{ First, Last uint16 }

// AllPorts is the range of all ports.
var AllPorts = PortRange{0, 1<<16 - 1}

// Selector chooses one side of connections: those for which one of its parts
// holds. The zero Selector chooses none.
type Selector struct {
	Any bool
	// Own is the network of the port whose set it is, OwnOf the same where it
	// is one of these.
	Own      bool
	OwnOf    []uint32
	Networks []uint32
	Prefixes []netip.Prefix
	Groups   []uint32
	// Tags must all be there.
	Tags []uint32
}

// protocolsWithPorts are TCP, UDP, DCCP, SCTP and UDP-Lite.
var protocolsWithPorts = []int16{6, 17, 33, 132, 136}

func (r *Rule) isICMP() bool { return r.Protocol == 1 || r.Protocol == 58 }

// anyPorts tells whether a list of ranges is that of all ports.
func anyPorts(list []PortRange) bool { return len(list) == 1 && list[0] == AllPorts }

// matchesService tells whether the rule is about a protocol, whatever the ports.
func (r *Rule) matchesService(family uint8, protocol int16) bool {
	switch {
	case r.Family != 0 && r.Family != family, r.Protocol != AnyProtocol && r.Protocol != protocol:
		return false
	case anyPorts(r.SrcPorts) && anyPorts(r.DstPorts):
		return true
	}
	return r.isICMP() || slices.Contains(protocolsWithPorts, protocol)
}
