package compile

import (
	"net/netip"
	"slices"
)

// Packet is the first packet of a connection, or one that belongs to none.
// Sets are asked about it alone: what answers it passes as a part of the same
// connection, and an ICMP error as one of the connection that it is about.
type Packet struct {
	Src, Dst End
	Protocol uint8
	// SrcPort and DstPort are 0 for protocols without ports; for ICMP they are
	// the type and the code.
	SrcPort, DstPort uint16
}

// End is one end of a packet. What it has besides an address comes from the
// port there, or with the route to it.
type End struct {
	Address netip.Addr
	Network uint32
	Groups  []uint32
	Tags    []uint32
}

// Verdict is what becomes of a packet, and by which rule.
type Verdict struct {
	Pass bool   `json:"pass"`
	Rule string `json:"rule"`
	// Action of the rule; nil when none matched.
	Action *Action `json:"action,omitempty"`
}

// Evaluate asks the rules one after the other about a packet of a port in the
// network own. It is the definition of what a set means, to compare others
// with and to explain; it is not fast.
func (s *Set) Evaluate(own uint32, p Packet) Verdict {
	for r := range s.Rules() {
		if r.Matches(own, p) {
			return Verdict{Pass: !r.Action.Deny, Rule: r.UUID, Action: r.Action}
		}
	}
	return Verdict{Rule: ImplicitDeny}
}

// Matches tells whether a packet of a port in the network own is one that the
// rule is about.
func (r *Rule) Matches(own uint32, p Packet) bool {
	return r.Service.matches(p) && r.Src.matches(own, p.Src) && r.Dst.matches(own, p.Dst) &&
		sameTags(r.SameTags, p.Src.Tags, p.Dst.Tags)
}

func (s *Service) matches(p Packet) bool {
	protocol := Protocol(p.Protocol)
	switch {
	case s.Family != AnyFamily && s.Family != familyOf(p.Src.Address):
		return false
	case s.Protocol != AnyProtocol && s.Protocol != protocol:
		return false
	case s.hasAnyPorts():
		return true
	case !protocol.HasPorts() && !s.Protocol.IsICMP():
		return false
	}
	return contains(s.Src, p.SrcPort) && contains(s.Dst, p.DstPort)
}

// hasAnyPorts tells whether ports do not matter.
func (s *Service) hasAnyPorts() bool {
	return slices.Equal(s.Src, anyPorts) && slices.Equal(s.Dst, anyPorts)
}

func contains(list []Ports, port uint16) bool {
	return slices.ContainsFunc(list, func(p Ports) bool { return p.Contains(port) })
}

func (s *Selector) matches(own uint32, e End) bool {
	return s.Any || e.Network == own && (s.Own || slices.Contains(s.OwnOf, own)) ||
		slices.Contains(s.Networks, e.Network) ||
		slices.ContainsFunc(s.Prefixes, func(p netip.Prefix) bool { return p.Contains(e.Address.Unmap()) }) ||
		slices.ContainsFunc(s.Groups, func(g uint32) bool { return slices.Contains(e.Groups, g) }) ||
		len(s.Tags) > 0 && !slices.ContainsFunc(s.Tags, func(t uint32) bool { return !slices.Contains(e.Tags, t) })
}

// sameTags tells whether both sides have the same tag of each type.
func sameTags(types []uint16, a, b []uint32) bool {
	for _, typ := range types {
		x, ok := tagOf(a, typ)
		y, ok2 := tagOf(b, typ)
		if !ok || !ok2 || x != y {
			return false
		}
	}
	return true
}

// tagOf is the tag of a type, of which an end has one at most.
func tagOf(tags []uint32, typ uint16) (uint32, bool) {
	for _, t := range tags {
		if uint16(t>>16) == typ {
			return t, true
		}
	}
	return 0, false
}
