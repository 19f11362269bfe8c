package dataplane

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// NextHopKind says what becomes of a packet.
type NextHopKind uint32

// The kinds of next hops.
const (
	Discard NextHopKind = 0
	Local   NextHopKind = 1
	Tunnel  NextHopKind = 2
	ECMP    NextHopKind = 3
	// Fabric is only of flows: to Remote, as the node, without a tunnel.
	Fabric NextHopKind = 4
	// Bridged is only of flows: to a local port, as the frame is.
	Bridged NextHopKind = 5
)

func (k NextHopKind) String() string {
	switch k {
	case Discard:
		return "discard"
	case Local:
		return "local"
	case Tunnel:
		return "tunnel"
	case ECMP:
		return "ecmp"
	case Fabric:
		return "fabric"
	case Bridged:
		return "bridged"
	}
	return fmt.Sprintf("kind %d", uint32(k))
}

// MarshalText writes the name, for JSON.
func (k NextHopKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// NextHop is where a route leads. Fields that the kind does not use are zero.
type NextHop struct {
	Kind NextHopKind `json:"kind"`
	// IfIndex is the port that a flow with a Local next hop goes to. Routes name
	// the port by Label alone, and may do so before it comes.
	IfIndex int `json:"ifindex,omitempty"`
	// Remote is the underlay address of the node, or other router, at the end of
	// a Tunnel.
	Remote        netip.Addr    `json:"remote,omitzero"`
	Encapsulation Encapsulation `json:"encapsulation,omitzero"`
	// Label is that of the port; not with VXLAN.
	Label uint32 `json:"label,omitempty"`
	// VNI is that of the network at the other end, and MAC the receiver's there,
	// without one the router's; for VXLAN. Each MAC makes a next hop of its own.
	VNI uint32 `json:"vni,omitempty"`
	MAC MAC    `json:"mac,omitzero"`
	// Behind a Local port is what it does not have itself: it may send from
	// there.
	Behind bool `json:"behind,omitempty"`
	// Identity is who is there, for the policy of who sends to it and who hears
	// from it. Of an ECMP next hop each member has its own.
	Identity Identity `json:"identity,omitzero"`
	// Members of an ECMP next hop share its flows.
	Members Members `json:"members,omitempty"`
}

func (n NextHop) String() string {
	switch n.Kind {
	case Local:
		if n.IfIndex != 0 {
			return fmt.Sprintf("local %d", n.IfIndex)
		}
		if n.Behind {
			return fmt.Sprintf("behind label %d", n.Label)
		}
		return fmt.Sprintf("local label %d", n.Label)
	case Tunnel:
		if n.Encapsulation == VXLAN {
			return fmt.Sprintf("tunnel %s VXLAN %d to %s", n.Remote, n.VNI, n.MAC)
		}
		return fmt.Sprintf("tunnel %s %s label %d", n.Remote, n.Encapsulation, n.Label)
	case ECMP:
		return "ecmp of " + n.Members.String()
	}
	return n.Kind.String()
}

// validate says whether a route may lead there.
func (n NextHop) validate() error {
	if n.Kind == Local || n.Kind == Tunnel {
		if err := n.Identity.validate(); err != nil {
			return fmt.Errorf("%s next hop: %w", n.Kind, err)
		}
		n.Identity = Identity{}
	}
	switch n.Kind {
	case Discard:
		if n != (NextHop{}) {
			return fmt.Errorf("discard takes no other field")
		}
	case Local:
		if n != (NextHop{Kind: Local, Label: n.Label, Behind: n.Behind}) {
			return fmt.Errorf("local next hop takes only a label and whether it is behind")
		}
		return n.validateLabel()
	case Tunnel:
		if !n.Remote.Is4() {
			return fmt.Errorf("tunnel next hop: remote %s is not IPv4", n.Remote)
		}
		return n.validateTunnel()
	case ECMP:
		return n.Members.validate()
	default:
		return fmt.Errorf("unknown next hop %s", n.Kind)
	}
	return nil
}

func (n NextHop) validateLabel() error {
	if n.Label < 16 || n.Label > 1<<20-1 {
		return fmt.Errorf("%s next hop: label %d is outside 16..1048575", n.Kind, n.Label)
	}
	return nil
}

func (n NextHop) validateTunnel() error {
	plain := NextHop{Kind: Tunnel, Remote: n.Remote, Encapsulation: n.Encapsulation}
	switch n.Encapsulation {
	case MPLSoUDP, MPLSoGRE:
		plain.Label = n.Label
		if n != plain {
			return fmt.Errorf("tunnel next hop of %s takes only a remote and a label", n.Encapsulation)
		}
		return n.validateLabel()
	case VXLAN:
		plain.VNI, plain.MAC = n.VNI, n.MAC
		if n != plain {
			return fmt.Errorf("tunnel next hop of VXLAN takes only a remote, a vni and a mac")
		}
		if n.MAC[0]&1 != 0 {
			return fmt.Errorf("tunnel next hop: mac %s is not a unicast address", n.MAC)
		}
		if err := validateVNI(n.VNI); err != nil {
			return fmt.Errorf("tunnel next hop: %w", err)
		}
		return nil
	}
	return fmt.Errorf("tunnel next hop: unknown %s", n.Encapsulation)
}

// Member is one of the next hops that share the flows of a route.
type Member struct {
	NextHop
	// Weight is its share; 0 counts as 1.
	Weight uint32 `json:"weight"`
}

// MaxMembers is how many next hops may share the flows of a route;
// ECMP_MEMBERS of the programs says the same.
const MaxMembers = 64

// Members are a list of them in the one order and form that equal lists have,
// so that next hops can be compared.
type Members string

// Share is the next hop of which the members share the flows: one alone is it
// itself, none is Discard. Those that say the same count once, with the higher
// weight, and of too many those stay that all nodes would keep.
func Share(members []Member) NextHop {
	list := slices.Clone(members)
	for i := range list {
		list[i].Weight = max(list[i].Weight, 1)
	}
	slices.SortFunc(list, func(a, b Member) int {
		return cmp.Or(a.Remote.Compare(b.Remote), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Encapsulation, b.Encapsulation), cmp.Compare(a.number(), b.number()), bytes.Compare(a.MAC[:], b.MAC[:]), first(a.Behind, b.Behind), cmp.Compare(a.Identity.text(), b.Identity.text()), cmp.Compare(b.Weight, a.Weight))
	})
	list = slices.CompactFunc(list, func(a, b Member) bool { return a.NextHop == b.NextHop })
	list = list[:min(len(list), MaxMembers)]
	switch len(list) {
	case 0:
		return NextHop{}
	case 1:
		return list[0].NextHop
	}
	var b []byte
	for _, m := range list {
		remote := m.Remote.As16()
		b = append(b, byte(m.Kind), 0)
		if m.Behind {
			b[len(b)-1] = 1
		}
		b = append(b, remote[:]...)
		b = append(append(b, byte(m.Encapsulation)), m.MAC[:]...)
		b = binary.BigEndian.AppendUint32(b, m.number())
		b = binary.BigEndian.AppendUint32(b, m.Weight)
		b = binary.BigEndian.AppendUint16(b, uint16(len(m.Identity.text())))
		b = append(b, m.Identity.text()...)
	}
	return NextHop{Kind: ECMP, Members: Members(b)}
}

// memberSize is the length of one member in Members but for its identity, which
// follows: kind, whether it is behind, remote, encapsulation, MAC, number, weight,
// length of identity.
const memberSize = 1 + 1 + 16 + 1 + 6 + 4 + 4 + 2

// first orders what is not so before what is.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// List are the members.
func (m Members) List() []Member {
	var list []Member
	for b := []byte(m); len(b) >= memberSize; {
		n := Member{NextHop: NextHop{Kind: NextHopKind(b[0]), Behind: b[1] != 0}, Weight: binary.BigEndian.Uint32(b[29:])}
		if n.Kind == Tunnel {
			n.Remote = netip.AddrFrom16([16]byte(b[2:18])).Unmap()
			n.Encapsulation, n.MAC = Encapsulation(b[18]), MAC(b[19:25])
		}
		n.NextHop = n.with(binary.BigEndian.Uint32(b[25:]))
		end := min(memberSize+int(binary.BigEndian.Uint16(b[33:])), len(b))
		n.Identity = identityOf(string(b[memberSize:end]))
		list, b = append(list, n), b[end:]
	}
	return list
}

func (m Members) String() string {
	var parts []string
	for _, n := range m.List() {
		text := n.NextHop.String()
		if n.Weight != 1 {
			text += fmt.Sprintf(" weight %d", n.Weight)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// MarshalJSON writes the list.
func (m Members) MarshalJSON() ([]byte, error) {
	return json.Marshal(m.List())
}

func (m Members) validate() error {
	list := m.List()
	if len(list) < 2 || len(list) > MaxMembers || Share(list).Members != m {
		return fmt.Errorf("ecmp next hop: %d members are not as Share makes them", len(list))
	}
	for _, n := range list {
		if n.Kind != Local && n.Kind != Tunnel {
			return fmt.Errorf("ecmp next hop: member %s is neither local nor a tunnel", n.NextHop)
		}
		if err := n.NextHop.validate(); err != nil {
			return fmt.Errorf("ecmp next hop: %w", err)
		}
	}
	return nil
}

// ecmpSlots is what a group's flows are spread over; ECMP_SLOTS of the programs
// says the same.
const ecmpSlots = 256

// slots gives each slot to a member: the one of the highest score, which follows
// from the two alone (weighted rendezvous). So a member that comes or goes takes
// or leaves its own slots and moves no other.
func (m Members) slots() (slots [ecmpSlots]uint8) {
	list := m.List()
	seeds := make([]uint64, len(list))
	for i, n := range list {
		seeds[i] = n.seed()
	}
	for s := range slots {
		best := 0.0
		for i, n := range list {
			if score := score(seeds[i], uint64(s), n.Weight); i == 0 || score > best {
				best, slots[s] = score, uint8(i)
			}
		}
	}
	return slots
}

// seed is a number of the member's own.
func (n Member) seed() uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, n.NextHop)
	return h.Sum64()
}

// score is exponentially distributed over the slots, by the weight.
func score(seed, slot uint64, weight uint32) float64 {
	x := seed + (slot+1)*0x9e3779b97f4a7c15 // SplitMix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return -float64(weight) / math.Log((float64(x>>11)+0.5)/(1<<53))
}
