package dataplane

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func drawMember(t *rapid.T) Member {
	m := Member{Weight: rapid.Uint32Range(0, 5).Draw(t, "weight")}
	m.Kind, m.Label = Local, rapid.Uint32Range(16, 1<<20-1).Draw(t, "label")
	m.Behind = rapid.Bool().Draw(t, "behind")
	m.Identity = NewIdentity(rapid.Uint32Range(0, 2).Draw(t, "network"), rapid.SliceOfN(rapid.Uint32Range(1, 3), 0, 2).Draw(t, "groups"), nil)
	if rapid.Bool().Draw(t, "tunnel") {
		m.Kind, m.Behind = Tunnel, false
		m.Remote = netip.AddrFrom4([4]byte{172, 31, 0, rapid.Byte().Draw(t, "node")})
		m.Encapsulation = Encapsulation(rapid.Uint8Range(0, 2).Draw(t, "encapsulation"))
		if m.Encapsulation == VXLAN {
			m.Label, m.VNI = 0, m.Label
			m.MAC[5] = rapid.Byte().Draw(t, "mac")
		}
	}
	return m
}

// TestShare: equal lists make equal next hops that say what was in them.
func TestShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.SliceOfN(rapid.Custom(drawMember), 0, 12).Draw(t, "members")
		n := Share(members)
		if err := n.validate(); err != nil {
			t.Fatalf("%s: %v", n, err)
		}
		if other := Share(append(slices.Clone(members), members...)); other != n {
			t.Fatalf("the same twice is %s, once %s", other, n)
		}
		if other := Share(rapid.Permutation(members).Draw(t, "order")); other != n {
			t.Fatalf("in another order it is %s, not %s", other, n)
		}
		want := map[NextHop]uint32{}
		for _, m := range members {
			want[m.NextHop] = max(want[m.NextHop], m.Weight, 1)
		}
		switch list := n.Members.List(); {
		case len(want) == 0 && n != NextHop{}, len(want) == 1 && n != members[0].NextHop:
			t.Fatalf("%v make %s", members, n)
		case len(want) > 1 && len(list) != len(want):
			t.Fatalf("%d members, want %d", len(list), len(want))
		default:
			for _, m := range list {
				if want[m.NextHop] != m.Weight {
					t.Fatalf("member %s has weight %d, want %d", m.NextHop, m.Weight, want[m.NextHop])
				}
			}
		}
	})
}

// TestSlotsStay: a member that goes leaves its own slots, and no other moves.
func TestSlotsStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.SliceOfNDistinct(rapid.Custom(drawMember), 3, 12, func(m Member) NextHop { return m.NextHop }).Draw(t, "members")
		gone := members[0].NextHop
		all, rest := Share(members).Members, Share(members[1:]).Members
		before, after := all.slots(), rest.slots()
		for i := range before {
			was, is := all.List()[before[i]].NextHop, rest.List()[after[i]].NextHop
			if was != gone && was != is {
				t.Fatalf("slot %d moves from %s to %s when %s goes", i, was, is, gone)
			}
			if is == gone {
				t.Fatalf("slot %d leads to %s, which is gone", i, is)
			}
		}
	})
}

// TestSlotsByWeight: members have slots in proportion.
func TestSlotsByWeight(t *testing.T) {
	var members []Member
	for i, weight := range []uint32{1, 1, 2} {
		m := Member{Weight: weight}
		m.Kind, m.Label = Local, uint32(16+i)
		members = append(members, m)
	}
	count := map[uint8]int{}
	for _, i := range Share(members).Members.slots() {
		count[i]++
	}
	for i, want := range []int{64, 64, 128} {
		if n := count[uint8(i)]; n < want*2/3 || n > want*3/2 {
			t.Errorf("member %d has %d slots of %d, want about %d", i, n, ecmpSlots, want)
		}
	}
}
