package rib

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"net/netip"
)

// Kind is what kind of route a Key stands for.
type Kind uint8

// The kinds. Unicast are the prefixes of IPv4 and IPv6; the others are those of
// EVPN (RFC 7432 section 7, RFC 9136).
const (
	Unicast   Kind = iota + 1
	MAC            // type 2: a MAC, alone or with an address of it
	Multicast      // type 3: who wants the broadcasts of a network
	Prefix         // type 5: an IP prefix
	Neighbour      // type 2 again: the address of a MAC, as a route to it
)

func (k Kind) String() string {
	switch k {
	case Unicast:
		return "unicast"
	case MAC:
		return "mac"
	case Multicast:
		return "multicast"
	case Prefix:
		return "prefix"
	case Neighbour:
		return "neighbour"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Key is what a route leads to, within a VRF. It holds no pointer, so that a
// table of a million costs the garbage collector nothing.
type Key struct {
	kind Kind
	// size is the length of the address in bytes: 4, 16, or 0 for none.
	size uint8
	bits uint8
	mac  [6]byte
	tag  uint32
	addr [16]byte
}

// UnicastKey is the key of a prefix, which need not be masked.
func UnicastKey(p netip.Prefix) Key {
	k := addressed(Unicast, 0, p.Masked().Addr())
	k.bits = uint8(p.Bits())
	return k
}

// HostKey is the key of an address alone.
func HostKey(a netip.Addr) Key { return UnicastKey(netip.PrefixFrom(a, a.BitLen())) }

// MACKey is that of a MAC; address may be the zero Addr.
func MACKey(tag uint32, mac [6]byte, address netip.Addr) Key {
	k := addressed(MAC, tag, address)
	k.mac = mac
	return k
}

// MulticastKey is that of a router that wants a network's broadcasts.
func MulticastKey(tag uint32, originator netip.Addr) Key {
	return addressed(Multicast, tag, originator)
}

// PrefixKey is that of an EVPN route to a prefix.
func PrefixKey(tag uint32, p netip.Prefix) Key {
	k := UnicastKey(p)
	k.kind, k.tag = Prefix, tag
	return k
}

// NeighbourKey is that of the address of a MAC that a router bridges.
func NeighbourKey(tag uint32, mac [6]byte, address netip.Addr) Key {
	k := MACKey(tag, mac, address)
	k.kind = Neighbour
	return k
}

func addressed(kind Kind, tag uint32, a netip.Addr) Key {
	k := Key{kind: kind, tag: tag}
	switch {
	case a.Is4():
		four := a.As4()
		k.size = 4
		copy(k.addr[:], four[:])
	case a.Is6():
		k.size, k.addr = 16, a.As16()
	}
	k.bits = k.size * 8
	return k
}

// Kind tells what the key stands for.
func (k Key) Kind() Kind { return k.kind }

// Tag is the Ethernet tag of EVPN.
func (k Key) Tag() uint32 { return k.tag }

// HardwareAddress is that of a MAC route.
func (k Key) HardwareAddress() [6]byte { return k.mac }

// Address is that of the prefix, the MAC or the router; the zero Addr if there
// is none.
func (k Key) Address() netip.Addr {
	switch k.size {
	case 4:
		return netip.AddrFrom4([4]byte(k.addr[:4]))
	case 16:
		return netip.AddrFrom16(k.addr)
	}
	return netip.Addr{}
}

// Prefix is that of a unicast or EVPN prefix route.
func (k Key) Prefix() netip.Prefix { return netip.PrefixFrom(k.Address(), int(k.bits)) }

// inVRF is the key that a route has in the VRFs that import it: EVPN's routes
// to prefixes and addresses are unicast routes there.
func (k Key) inVRF() Key {
	if k.kind == Prefix || k.kind == Neighbour {
		k.kind, k.tag, k.mac = Unicast, 0, [6]byte{}
	}
	return k
}

// Layer2 tells whether the key is one of a bridge, not of a router.
func (k Key) Layer2() bool { return k.kind == MAC || k.kind == Multicast }

func (k Key) String() string {
	switch k.kind {
	case Unicast:
		return k.Prefix().String()
	case Prefix:
		return fmt.Sprintf("prefix:%d:%s", k.tag, k.Prefix())
	case MAC, Neighbour:
		text := fmt.Sprintf("%s:%d:%s", k.kind, k.tag, net.HardwareAddr(k.mac[:]))
		if k.size != 0 {
			text += "," + k.Address().String()
		}
		return text
	case Multicast:
		return fmt.Sprintf("multicast:%d:%s", k.tag, k.Address())
	}
	return k.kind.String()
}

// Compare orders keys as people want them listed.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.kind, o.kind), cmp.Compare(k.tag, o.tag), bytes.Compare(k.mac[:], o.mac[:]),
		cmp.Compare(k.size, o.size), bytes.Compare(k.addr[:], o.addr[:]), cmp.Compare(k.bits, o.bits))
}
