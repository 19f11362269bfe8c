package control

import (
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/internal/control/bgp"
)

// distinguishers give each VRF a route distinguisher on each next hop that it
// has, ADDRESS:INDEX (RFC 4364 §4.2, type 1): so a router that has a prefix from
// two nodes has two routes, also behind a route reflector, and another cluster
// on the same fabric has none of ours.
//
// An index has 16 bits, and a VRF's number 32. Numbers up to 65535 are their own
// index. The others share the upper half of the indexes with whoever is on the
// same next hop: each has the one that follows from its number, or the next
// which no lower number on the next hop has. So which index a VRF has depends on
// nothing but which VRFs the node has: all control nodes come to the same, now
// and after a restart. A VRF that comes to a node may move another one there,
// whose routes are then told anew.
type distinguishers struct {
	hops map[netip.Addr]*indexes
	// dirty are the next hops whose VRFs are others than those with an index.
	dirty map[netip.Addr]struct{}
}

const (
	// firstShared is the first index, and the lowest number, of those that share
	// sharedIndexes.
	firstShared   = 1 << 15
	sharedIndexes = 1<<16 - firstShared
)

// indexes are those of the VRFs on a next hop with a number from firstShared on.
type indexes struct {
	vrfs map[uint32]struct{}
	// of has 0 for VRFs that are too many.
	of map[uint32]uint16
	at map[uint16]uint32
}

func newDistinguishers() *distinguishers {
	return &distinguishers{hops: map[netip.Addr]*indexes{}, dirty: map[netip.Addr]struct{}{}}
}

// note hears that a VRF with a number from firstShared on has a next hop, or has it
// no more.
func (d *distinguishers) note(vrf uint32, hop netip.Addr, has bool) {
	if !hop.Is4() {
		return
	}
	x := d.hops[hop]
	if x == nil {
		x = &indexes{vrfs: map[uint32]struct{}{}}
		d.hops[hop] = x
	}
	if has {
		x.vrfs[vrf] = struct{}{}
	} else {
		delete(x.vrfs, vrf)
	}
	d.dirty[hop] = struct{}{}
}

// settle gives out the indexes, and calls moved with each VRF that had another
// one on some next hop.
func (d *distinguishers) settle(moved func(vrf uint32)) {
	for hop := range d.dirty {
		x := d.hops[hop]
		before := x.of
		x.assign()
		for vrf, old := range before {
			if now, has := x.of[vrf]; has && now != old {
				moved(vrf)
			}
		}
		if len(x.vrfs) == 0 {
			delete(d.hops, hop)
		}
	}
	clear(d.dirty)
}

func (x *indexes) assign() {
	numbers := make([]uint32, 0, len(x.vrfs))
	for vrf := range x.vrfs {
		numbers = append(numbers, vrf)
	}
	slices.Sort(numbers)
	x.of, x.at = make(map[uint32]uint16, len(numbers)), make(map[uint16]uint32, len(numbers))
	for _, vrf := range numbers {
		if len(x.at) == sharedIndexes {
			x.of[vrf] = 0
			continue
		}
		slot := vrf % sharedIndexes
		for x.at[uint16(firstShared+slot)] != 0 {
			slot = (slot + 1) % sharedIndexes
		}
		x.of[vrf], x.at[uint16(firstShared+slot)] = uint16(firstShared+slot), vrf
	}
}

// of is the distinguisher of a VRF on a next hop. Where there is none, for the
// next hop is no IPv4 address or has too many VRFs, it is AS:NUMBER (type 0), the
// same on all such next hops.
func (d *distinguishers) of(vrf uint32, hop netip.Addr, as uint16) bgp.RD {
	if hop.Is4() && vrf < firstShared {
		return bgp.RDFromAddr(hop, uint16(vrf))
	}
	if x := d.hops[hop]; x != nil {
		if index := x.of[vrf]; index != 0 {
			return bgp.RDFromAddr(hop, index)
		}
	}
	return bgp.RDFromAS(as, vrf)
}

// holder is the VRF that has an index from firstShared on at present.
func (d *distinguishers) holder(rd bgp.RD) (vrf uint32, ok bool) {
	hop, index, ok := rd.Address()
	if !ok || d.hops[hop] == nil {
		return 0, false
	}
	vrf, ok = d.hops[hop].at[index]
	return vrf, ok
}
