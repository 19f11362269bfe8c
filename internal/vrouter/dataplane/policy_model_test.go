//go:build net

package dataplane

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/netip"
)

// draw makes rules and packets of a world so small that they meet.
type draw struct{ *rand.Rand }

func pick[T any](d draw, all ...T) T { return all[d.IntN(len(all))] }

func (d draw) some(all ...uint32) (list []uint32) {
	for _, v := range all {
		if d.IntN(3) == 0 {
			list = append(list, v)
		}
	}
	return list
}

var drawnTags = []uint32{1, 2, 1<<16 | 1, 1<<16 | 2, 2<<16 | 1, 2<<16 | 2, 3<<16 | 1}

func (d draw) identity() Identity {
	return NewIdentity(uint32(d.IntN(3)+5), d.some(100, 101, 102), d.some(drawnTags...))
}

func (d draw) selector() Selector {
	var s Selector
	for range 1 + d.IntN(2) {
		switch d.IntN(9) {
		case 0, 1:
			s.Any = true
		case 2:
			s.Own = true
		case 3:
			s.OwnOf = d.some(5, 6, 7)
		case 4:
			s.Networks = d.some(5, 6, 7)
		case 5:
			s.Groups = d.some(100, 101, 102)
		case 6:
			s.Tags = d.some(drawnTags...)
		default:
			s.Prefixes = append(s.Prefixes, netip.MustParsePrefix(pick(d,
				"10.32.0.0/24", "10.32.0.3/32", "10.32.0.4/30", "10.32.0.5/32", "10.32.0.6/31", "10.0.0.0/8",
				"0.0.0.0/0", "::/0", "10.32.0.33/27", "255.0.0.0/8", "::ffff:0:0/90", "2001:db8::/32",
				"2001:db8::3/128", "2001:db8::4/126", "2001:db8::/64", "2001:db8:0:1::/64")))
		}
	}
	return s
}

func (d draw) ports(most int) []PortRange {
	if d.IntN(3) > 0 {
		return []PortRange{AllPorts}
	}
	var list []PortRange
	for range 1 + d.IntN(2) {
		first := d.IntN(most)
		list = append(list, PortRange{uint16(first), uint16(first + d.IntN(3))})
	}
	if d.IntN(4) == 0 {
		list = append(list, PortRange{uint16(d.IntN(most)), 1<<16 - 1})
	}
	return list
}

func (d draw) rule() Rule {
	r := Rule{
		Src: d.selector(), Dst: d.selector(), Family: pick[uint8](d, 0, 0, 0, 4, 6), Protocol: pick[int16](d, AnyProtocol, AnyProtocol, 1, 6, 17, 47, 58),
		SrcPorts: d.ports(10), DstPorts: d.ports(10), Deny: d.IntN(3) == 0,
	}
	if d.IntN(4) == 0 {
		r.SameTags = pick(d, []uint16{1}, []uint16{2}, []uint16{1, 2}, []uint16{0})
	}
	return r
}

// set has so many rules, of which all but a few at random places are about
// nobody here. Half of the sets pass what no rule before the last is about:
// else next to nothing would pass all that a packet is asked for.
func (d draw) set(rules int) *Set {
	s := &Set{Blocks: [][]Rule{make([]Rule, 0, rules)}}
	chance := max(1, rules/10)
	for n := range rules {
		r := d.rule()
		if d.IntN(chance) != 0 {
			r.Src = Selector{Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, byte(n >> 16), byte(n >> 8), byte(n)}), 32)}}
			if n%7 == 0 {
				r.Src, r.Dst = Selector{Any: true}, Selector{Networks: []uint32{uint32(1000 + n)}}
			}
		}
		s.Blocks[0] = append(s.Blocks[0], r)
	}
	if rules > 1 && d.IntN(2) == 0 {
		s.Blocks[0][rules-1] = Rule{
			Src: Selector{Any: true}, Dst: Selector{Any: true}, Protocol: AnyProtocol,
			SrcPorts: []PortRange{AllPorts}, DstPorts: []PortRange{AllPorts},
		}
	}
	sum := sha256.Sum256(fmt.Append(nil, s.Blocks))
	s.ID = SetID(sum[:16])
	half := len(s.Blocks[0]) / 2
	s.Blocks = [][]Rule{s.Blocks[0][:half], s.Blocks[0][half:]}
	return s
}
