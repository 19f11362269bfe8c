package dataplane

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Addresses and ports are in network order in the maps: the words are written
// byte by byte in the order of the wire, whatever the machine's.

func toAddr(a netip.Addr) (c bpfAddr) {
	b := a.As16()
	for i := range c.W {
		c.W[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return c
}

func fromAddr(c bpfAddr) netip.Addr {
	var b [16]byte
	for i, w := range c.W {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	if b == ([16]byte{}) {
		return netip.Addr{}
	}
	return netip.AddrFrom16(b).Unmap()
}

// toWord is an IPv4 address as the maps have it by itself.
func toWord(a netip.Addr) uint32 { return toAddr(a).W[3] }

// fromWord is the zero Addr for 0.
func fromWord(w uint32) netip.Addr {
	if w == 0 {
		return netip.Addr{}
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], w)
	return netip.AddrFrom4(b)
}

func swap16(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

func swap32(v uint32) uint32 {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return binary.NativeEndian.Uint32(b[:])
}

// fromNextHop is where a flow was decided to go.
func fromNextHop(c bpfNextHop) NextHop {
	if kind := NextHopKind(c.Kind); kind == Local || kind == Bridged {
		return NextHop{Kind: kind, IfIndex: int(c.Ifindex)}
	}
	n := NextHop{Kind: NextHopKind(c.Kind), Encapsulation: Encapsulation(c.Encap), Remote: fromAddr(c.Remote)}
	return n.with(c.Label)
}

func toHostRouteKey(k RouteKey) bpfHostRouteKey {
	return bpfHostRouteKey{Vrf: k.VRF, Addr: toAddr(k.Prefix.Addr())}
}

func fromHostRouteKey(c bpfHostRouteKey) RouteKey {
	a := fromAddr(c.Addr)
	return RouteKey{VRF: c.Vrf, Prefix: netip.PrefixFrom(a, a.BitLen())}
}

// The trie's prefix has the 32 bits of the VRF in front, and IPv4 is mapped.
const (
	vrfBits    = 32
	mappedBits = 96
)

// bitsOf is the length of a prefix as the maps have it.
func bitsOf(p netip.Prefix) uint8 {
	if p.Addr().Is4() {
		return uint8(p.Bits()) + mappedBits
	}
	return uint8(p.Bits())
}

func toRouteKey(k RouteKey) bpfRouteKey {
	return bpfRouteKey{PrefixLen: vrfBits + uint32(bitsOf(k.Prefix)), Vrf: swap32(k.VRF), Addr: toAddr(k.Prefix.Addr())}
}

func fromRouteKey(c bpfRouteKey) RouteKey {
	a := fromAddr(c.Addr)
	bits := int(c.PrefixLen) - vrfBits
	// An IPv4 prefix has at least the 96 bits of the mapping.
	if !a.IsValid() {
		a = netip.IPv6Unspecified()
	} else if a.Is4() {
		bits -= mappedBits
	}
	return RouteKey{VRF: swap32(c.Vrf), Prefix: netip.PrefixFrom(a, bits)}
}

func fromFlow(k bpfFlowKey, v bpfFlow, now generations) Flow {
	f := Flow{
		Direction: Direction(k.Dir),
		IfIndex:   int(v.Ifindex),
		VRF:       v.Vrf,
		Src:       fromAddr(k.Src),
		Dst:       fromAddr(k.Dst),
		Protocol:  k.Proto,
		SrcPort:   swap16(k.Sport),
		DstPort:   swap16(k.Dport),
		NextHop:   fromNextHop(v.Nh),
		Packets:   v.Packets,
		Bytes:     v.Bytes,
		Created:   time.Duration(v.Created),
		LastSeen:  time.Duration(v.LastSeen),
		Answers:   v.Role == flowAnswers,
		Current:   v.Generation == now.generation && v.Policy == now.policyOf(v),
		NATSrc:    fromWord(v.NatSrc),
		NATDst:    fromWord(v.NatDst),

		NATSrcPort: swap16(v.NatSport),
		NATDstPort: swap16(v.NatDport),

		Generation: v.Generation,
		Policy:     v.Policy,
		Answered:   v.Answered != 0,
	}
	if f.Direction == FromTunnel {
		if k.Scope&(flowScopeVRF|flowScopeFabric) == 0 {
			f.Label = k.Scope
		}
		f.OuterSource = fromAddr(v.Nh.Remote)
	}
	return f
}
