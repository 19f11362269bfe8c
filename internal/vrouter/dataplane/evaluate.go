package dataplane

import (
	"net/netip"
	"slices"
)

// What a set means, rule by rule: the definition that the programs are compared
// with, and what explains their decisions. It shares nothing with the code that
// makes the programs' form of a set.

// connection is the first packet of one, as rules see it.
type connection struct {
	src, dst     end
	protocol     uint8
	sport, dport uint16 // of ICMP type and code
}

type end struct {
	addr netip.Addr
	who  Identity
}

// passes tells whether a port of the network own lets a connection pass.
func (s *Set) passes(own uint32, c connection) bool {
	r := decides(s.rules(), own, c)
	return r != nil && !r.Deny
}

// rules are those of all blocks, in their order.
func (s *Set) rules() []*Rule {
	var list []*Rule
	for _, block := range s.Blocks {
		for i := range block {
			list = append(list, &block[i])
		}
	}
	return list
}

// decides is the first rule that matches a connection of a port in the network
// own; nil when none does, which refuses.
func decides(rules []*Rule, own uint32, c connection) *Rule {
	for _, r := range rules {
		if r.matches(own, c) {
			return r
		}
	}
	return nil
}

func (r *Rule) matches(own uint32, c connection) bool {
	return r.matchesPorts(c) && r.Src.matches(own, c.src) && r.Dst.matches(own, c.dst) &&
		!slices.ContainsFunc(r.SameTags, func(typ uint16) bool {
			a, hasA := tagOf(c.src.who, typ)
			b, hasB := tagOf(c.dst.who, typ)
			return !hasA || !hasB || a != b
		})
}

// tagOf is the first tag of a type that somebody has.
func tagOf(who Identity, typ uint16) (tag uint32, has bool) {
	for _, t := range who.Tags() {
		if uint16(t>>16) == typ {
			return t, true
		}
	}
	return 0, false
}

func (r *Rule) matchesPorts(c connection) bool {
	in := func(list []PortRange, port uint16) bool {
		return slices.ContainsFunc(list, func(p PortRange) bool { return p.First <= port && port <= p.Last })
	}
	all := []PortRange{AllPorts}
	switch {
	case r.Family != 0 && (r.Family == 4) != c.src.addr.Is4(), r.Protocol != AnyProtocol && r.Protocol != int16(c.protocol):
		return false
	case slices.Equal(r.SrcPorts, all) && slices.Equal(r.DstPorts, all):
		return true
	case !slices.Contains([]uint8{6, 17, 33, 132, 136}, c.protocol) && r.Protocol != 1 && r.Protocol != 58:
		return false
	}
	return in(r.SrcPorts, c.sport) && in(r.DstPorts, c.dport)
}

func (s *Selector) matches(own uint32, e end) bool {
	network := e.who.Network()
	return s.Any || network == own && (s.Own || slices.Contains(s.OwnOf, own)) || slices.Contains(s.Networks, network) ||
		slices.ContainsFunc(s.Prefixes, func(p netip.Prefix) bool { return p.Contains(e.addr) }) ||
		slices.ContainsFunc(s.Groups, func(g uint32) bool { return slices.Contains(e.who.Groups(), g) }) ||
		len(s.Tags) > 0 && !slices.ContainsFunc(s.Tags, func(t uint32) bool { return !slices.Contains(e.who.Tags(), t) })
}
