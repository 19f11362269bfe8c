package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// RouterMAC is the MAC address of the router in every network: the answer to
// all ARP requests and neighbour solicitations, and the source of all frames to
// containers.
func RouterMAC() MAC { return MAC{0x00, 0x00, 0x5e, 0x00, 0x01, 0x00} }

// MAC is an Ethernet address that can be compared and be a map key.
type MAC [6]byte

// ParseMAC reads the forms of net.ParseMAC that have six bytes.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil {
		return MAC{}, fmt.Errorf("parse MAC %q: %w", s, err)
	}
	if len(hw) != 6 {
		return MAC{}, fmt.Errorf("parse MAC %q: %d bytes instead of 6", s, len(hw))
	}
	return MAC(hw), nil
}

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText writes the colon form, for JSON.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (m *MAC) UnmarshalText(text []byte) error {
	parsed, err := ParseMAC(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}

// Port is a container's interface as the data plane sees it.
type Port struct {
	// IfIndex and Name are those of the host-side end of the veth pair, in the
	// namespace of the process.
	IfIndex int    `json:"ifindex"`
	Name    string `json:"name"`
	// VRF is the number of the virtual network's routing table, from 1.
	VRF uint32 `json:"vrf"`
	// Label is the MPLS label by which other nodes send to the port, 16 to
	// 1048575 (RFC 3032 section 2.1).
	Label uint32 `json:"label"`
	// MAC is the container's own.
	MAC MAC `json:"mac"`
	// Addresses are all that the container may send from and is sent to.
	Addresses []netip.Addr `json:"addresses"`
	// Gateways are addresses that the router has for the port: it answers echo
	// requests there, and sends errors of IPv6 from the first one of these.
	Gateways []netip.Addr `json:"gateways,omitempty"`
	// Foreign are addresses that it has in other networks.
	Foreign []ForeignAddress `json:"foreign,omitempty"`
	// Egress bounds what the container sends, Ingress what it is sent. The agent's
	// probes and their answers are no part of it.
	Egress  Limit `json:"egress,omitzero"`
	Ingress Limit `json:"ingress,omitzero"`
	// Blocked drops everything in both directions.
	Blocked bool `json:"blocked"`
}

// MaxGateways is how many gateways a port may have; PORT_GATEWAYS of the programs
// says the same.
const MaxGateways = 8

// Equal says whether both describe the same port; the order of addresses
// matters not.
func (p Port) Equal(q Port) bool {
	a, b := slices.Clone(p.Addresses), slices.Clone(q.Addresses)
	slices.SortFunc(a, netip.Addr.Compare)
	slices.SortFunc(b, netip.Addr.Compare)
	f, g := slices.Clone(p.Foreign), slices.Clone(q.Foreign)
	slices.SortFunc(f, compareForeign)
	slices.SortFunc(g, compareForeign)
	return p.IfIndex == q.IfIndex && p.Name == q.Name && p.VRF == q.VRF && p.Label == q.Label &&
		p.MAC == q.MAC && p.Blocked == q.Blocked && p.Egress == q.Egress && p.Ingress == q.Ingress && slices.Equal(p.Gateways, q.Gateways) &&
		slices.Equal(slices.Compact(a), slices.Compact(b)) && slices.Equal(f, g)
}

func (p Port) validate() error {
	switch {
	case p.IfIndex <= 0:
		return fmt.Errorf("ifindex %d is not positive", p.IfIndex)
	case len(p.Name) > 15:
		return fmt.Errorf("name %q is longer than 15 bytes", p.Name)
	case p.VRF == 0:
		return fmt.Errorf("vrf is 0; numbers start at 1")
	case p.Label < 16 || p.Label > 1<<20-1:
		return fmt.Errorf("label %d is outside 16..1048575", p.Label)
	case p.MAC[0]&1 != 0 || p.MAC == (MAC{}):
		return fmt.Errorf("mac %s is not a unicast address", p.MAC)
	case len(p.Addresses) == 0:
		return fmt.Errorf("addresses are missing")
	}
	for _, a := range p.Addresses {
		if !isForwarded(a) {
			return fmt.Errorf("address %s is none of a single host that is routed", a)
		}
	}
	if len(p.Gateways) > MaxGateways {
		return fmt.Errorf("%d gateways; a port may have %d", len(p.Gateways), MaxGateways)
	}
	for _, a := range p.Gateways {
		if !isForwarded(a) {
			return fmt.Errorf("gateway %s is none of a single host that is routed", a)
		}
	}
	if err := errors.Join(p.Egress.validate("egress"), p.Ingress.validate("ingress")); err != nil {
		return err
	}
	return validateForeign(p.Foreign)
}

// isForwarded says whether there may be packets from and to an address: the
// programs drop those of the others, whatever routes say. IPv4 in the form of IPv6
// would be taken for IPv4.
func isForwarded(a netip.Addr) bool {
	if a.Is4() {
		return true
	}
	return a.Is6() && a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
}

// RouteKey names a route. Prefix is masked: 10.0.0.0/8, never 10.1.0.0/8.
type RouteKey struct {
	VRF    uint32       `json:"vrf"`
	Prefix netip.Prefix `json:"prefix"`
}

func (k RouteKey) String() string { return fmt.Sprintf("%d:%s", k.VRF, k.Prefix) }

func (k RouteKey) validate() error {
	switch {
	case k.VRF == 0:
		return fmt.Errorf("vrf is 0; numbers start at 1")
	case !k.Prefix.IsValid():
		return fmt.Errorf("prefix is missing")
	case k.Prefix.Addr().Is4In6():
		return fmt.Errorf("prefix %s is of IPv4 in the form of IPv6; write it as IPv4", k.Prefix)
	case k.Prefix != k.Prefix.Masked():
		return fmt.Errorf("prefix %s has host bits set; use %s", k.Prefix, k.Prefix.Masked())
	}
	return nil
}

// Direction says where the packets of a flow enter the node.
type Direction uint8

// The directions.
const (
	FromPort   Direction = 0
	FromTunnel Direction = 1
)

func (d Direction) String() string {
	if d == FromTunnel {
		return "from-tunnel"
	}
	return "from-port"
}

// MarshalText writes the name, for JSON.
func (d Direction) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Flow is one direction of a conversation.
type Flow struct {
	Direction Direction `json:"direction"`
	// IfIndex is the port whose quota the flow counts against: the sender's,
	// from a tunnel the receiver's.
	IfIndex int    `json:"ifindex"`
	VRF     uint32 `json:"vrf"`
	// Label is the one that the packets of a FromTunnel flow carry; those that
	// come by VXLAN have none.
	Label    uint32     `json:"label,omitempty"`
	Src      netip.Addr `json:"src"`
	Dst      netip.Addr `json:"dst"`
	Protocol uint8      `json:"protocol"`
	// Answers: it is the direction that answers, of a connection that the other
	// one began.
	Answers bool `json:"answers,omitempty"`
	// SrcPort and DstPort of ICMP requests and replies, of both families, are the
	// identifier and the type, of other ICMP DstPort is the type.
	SrcPort uint16  `json:"src_port"`
	DstPort uint16  `json:"dst_port"`
	NextHop NextHop `json:"next_hop"`
	// OuterSource is the only node a FromTunnel flow is accepted from.
	OuterSource netip.Addr `json:"outer_source,omitzero"`
	// NATSrc and NATDst are what the packets' addresses are made to be, NATSrcPort
	// and NATDstPort their ports.
	NATSrc     netip.Addr `json:"nat_src,omitzero"`
	NATDst     netip.Addr `json:"nat_dst,omitzero"`
	NATSrcPort uint16     `json:"nat_src_port,omitempty"`
	NATDstPort uint16     `json:"nat_dst_port,omitempty"`
	Packets    uint64     `json:"packets"`
	Bytes      uint64     `json:"bytes"`
	// Created and LastSeen are times of the monotonic clock, see Now.
	Created  time.Duration `json:"created"`
	LastSeen time.Duration `json:"last_seen"`
	// Current is false for a decision that the next packet makes anew: it holds
	// while Generation is the node's and Policy that of its ports' policies.
	Current    bool   `json:"current"`
	Generation uint32 `json:"generation"`
	Policy     uint32 `json:"policy_generation"`
	// Answered: there has been an answer to what began.
	Answered bool `json:"answered,omitempty"`
}

// Counters are those of one port. Bytes include the Ethernet header; a
// super-packet counts as the segments it stands for.
type Counters struct {
	FromPackets uint64 `json:"from_packets"` // sent by the container and forwarded
	FromBytes   uint64 `json:"from_bytes"`
	ToPackets   uint64 `json:"to_packets"` // delivered to the container
	ToBytes     uint64 `json:"to_bytes"`
}

// DropReason says why a packet was dropped; 0 is none.
type DropReason uint32

func (r DropReason) String() string {
	if int(r) < len(dropReasons) {
		return dropReasons[r].name
	}
	return fmt.Sprintf("reason %d", uint32(r))
}

// Help returns a sentence for people.
func (r DropReason) Help() string {
	if int(r) < len(dropReasons) {
		return dropReasons[r].help
	}
	return "counted by a newer data plane"
}

// MarshalText writes the name, for JSON and metrics.
func (r DropReason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// DropReasons returns all reasons.
func DropReasons() []DropReason {
	all := make([]DropReason, 0, len(dropReasons)-1)
	for i := 1; i < len(dropReasons); i++ {
		all = append(all, DropReason(i))
	}
	return all
}

// Drop counts the packets dropped for one reason at one interface. IfIndex is
// the port concerned where it is known, else the interface the packet came in
// by; 0 sums up ports that no longer exist.
type Drop struct {
	Reason  DropReason `json:"reason"`
	IfIndex int        `json:"ifindex"`
	Packets uint64     `json:"packets"`
	Bytes   uint64     `json:"bytes"`
}

// nameOf reads a NUL-padded C string.
func nameOf(c [16]int8) string {
	var b strings.Builder
	for _, ch := range c {
		if ch == 0 {
			break
		}
		b.WriteByte(byte(ch))
	}
	return b.String()
}

func cName(name string) (c [16]int8) {
	for i := range min(len(name), len(c)-1) {
		c[i] = int8(name[i])
	}
	return c
}
