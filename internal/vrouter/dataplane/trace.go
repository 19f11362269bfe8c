package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
)

// A trace is what the programs would decide of a packet, computed from the maps
// that they read: nothing is sent, and no flow is made or counted. It is about
// packets for which there is no flow yet; what is established passes by its entry.

// TraceQuery is the first packet of a connection, or one that answers it, that a
// container sends to its router.
type TraceQuery struct {
	// IfIndex is the port that it comes from.
	IfIndex  int
	Src, Dst netip.Addr
	Protocol uint8
	// SrcPort and DstPort of ICMP are the identifier and the type.
	SrcPort, DstPort uint16
	// Code is ICMP's.
	Code uint8
	// Size is that of the IP packet; 0 for one that fits everywhere.
	Size int
	// Answers: it answers a connection that passed here, which was sent to Asked:
	// the port's own address where that was not translated.
	Answers bool
	Asked   netip.Addr
}

// ArrivalQuery is a packet that comes by tunnel.
type ArrivalQuery struct {
	// Outer is the node that it comes from.
	Outer         netip.Addr
	Encapsulation Encapsulation
	// Label is that of MPLS; VNI and MAC, without one the router's, are of VXLAN.
	Label, VNI uint32
	MAC        MAC
	TraceQuery // without IfIndex and Size
}

// StepKind says what a step of a trace tells of.
type StepKind string

// The kinds of steps.
const (
	StepPort    StepKind = "port"    // the port that it comes from or is for
	StepSource  StepKind = "source"  // the source address may be used
	StepNAT     StepKind = "nat"     // addresses become others
	StepRoute   StepKind = "route"   // the route that is taken
	StepMember  StepKind = "member"  // the member of an ECMP group
	StepCheck   StepKind = "check"   // the route back, of what comes by tunnel
	StepPolicy  StepKind = "policy"  // a set of a port is asked
	StepAnswer  StepKind = "answer"  // it passes with what it answers
	StepQuota   StepKind = "quota"   // there may be another flow
	StepTunnel  StepKind = "tunnel"  // it goes to another node
	StepMTU     StepKind = "mtu"     // what fits into a packet of the underlay
	StepDeliver StepKind = "deliver" // a container gets it
	StepRouter  StepKind = "router"  // the router answers it
	StepFabric  StepKind = "fabric"  // it goes out as the node's
	StepDrop    StepKind = "drop"
	StepUnknown StepKind = "unknown"
)

// Step is one of a trace. Fields that its kind has no use for are zero.
type Step struct {
	Kind StepKind
	// IfIndex is the port concerned.
	IfIndex int
	VRF     uint32
	// Address is the one that was looked up or checked.
	Address netip.Addr
	Route   *RouteEntry
	NextHop NextHop
	// NATSrc and NATDst are what addresses become.
	NATSrc, NATDst netip.Addr
	Policy         *PolicyStep
	// MTU is the underlay's, and Largest what a container may send through.
	MTU, Largest int
	Reason       DropReason
	// Why says what cannot be told.
	Why string
}

// PolicyStep is the answer of a set.
type PolicyStep struct {
	Kind PolicySet
	Set  SetID
	// Rule decided, the Place-th of the set from 1; nil where none matched.
	Rule  *Rule
	Place int
	Pass  bool
}

// Trace is what becomes of a packet.
type Trace struct {
	Steps []Step
	// Reason says why it is dropped; 0 if it is not.
	Reason DropReason
	// Unknown: it cannot be told; the last step says why.
	Unknown bool
	// NextHop is where it goes: a tunnel, a local port, or out as the node's; Discard
	// for what is dropped or answered by the router.
	NextHop NextHop
	// Src and Dst are its addresses there.
	Src, Dst netip.Addr
}

// tracer makes a trace. Its methods return whether to go on.
type tracer struct {
	*Dataplane
	q     TraceQuery
	trace Trace
	hops  map[uint32]NextHop
	who   map[uint32]Identity
	err   error // of a look-up
	// vrf is the one that the packet is routed in.
	vrf            uint32
	natSrc, natDst netip.Addr
}

func (d *Dataplane) newTracer(q TraceQuery) (*tracer, error) {
	q.Src, q.Dst, q.Asked = q.Src.Unmap(), q.Dst.Unmap(), q.Asked.Unmap()
	if !q.Src.IsValid() || !q.Dst.IsValid() || q.Src.Is4() != q.Dst.Is4() {
		return nil, fmt.Errorf("trace from %s to %s: want two addresses of one family", q.Src, q.Dst)
	}
	q.normalise()
	t := &tracer{Dataplane: d, q: q}
	t.trace.Src, t.trace.Dst = q.Src, q.Dst
	var err error
	if t.hops, err = d.readHops(); err != nil {
		return nil, err
	}
	t.who, err = d.Tables.identities()
	return t, err
}

// normalise leaves the ports to the protocols that have some, and the identifier
// to messages of ICMP that have answers.
func (q *TraceQuery) normalise() {
	switch q.Protocol {
	case protocolTCP, protocolUDP, protocolSCTP:
	case protocolICMP, protocolICMPv6:
		if !slices.Contains(answered[q.Protocol], q.DstPort) {
			q.SrcPort = 0
		}
	default:
		q.SrcPort, q.DstPort = 0, 0
	}
}

const (
	protocolUDP  = 17
	protocolSCTP = 132
)

// answered are the types of ICMP messages that have an answer, and of answers.
var answered = map[uint8][]uint16{protocolICMP: {0, 8, 13, 14}, protocolICMPv6: {128, 129}}

func (t *tracer) step(s Step) bool {
	t.trace.Steps = append(t.trace.Steps, s)
	return true
}

func (t *tracer) drop(reason DropReason, ifindex int) bool {
	t.trace.Reason = reason
	t.step(Step{Kind: StepDrop, IfIndex: ifindex, Reason: reason})
	return false
}

func (t *tracer) unknown(ifindex int, format string, args ...any) bool {
	t.trace.Unknown = true
	t.step(Step{Kind: StepUnknown, IfIndex: ifindex, Why: fmt.Sprintf(format, args...)})
	return false
}

// end is the trace when nothing more is to be told.
func (t *tracer) end() (Trace, error) {
	if t.err != nil {
		return Trace{}, fmt.Errorf("trace from %s to %s: %w", t.q.Src, t.q.Dst, t.err)
	}
	return t.trace, nil
}

// lookup reads a value of a map; an error ends the trace.
func lookup[V any](t *tracer, m *ebpf.Map, key any) (v V, ok bool) {
	err := m.Lookup(key, &v)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) && t.err == nil {
		t.err = fmt.Errorf("look up in %s: %w", m, err)
	}
	return v, err == nil
}

func (t *tracer) vif(ifindex int) (bpfVif, bool) {
	return lookup[bpfVif](t, t.maps().VifV1, uint32(ifindex))
}

// route is the route of a VRF to an address; see find_route of the programs.
func (t *tracer) route(vrf uint32, a netip.Addr) (bpfRoute, bool) {
	r, ok, err := t.rawRouteTo(vrf, a)
	if err != nil && t.err == nil {
		t.err = err
	}
	return r, ok
}

// entry is a route as people know it.
func (t *tracer) entry(vrf uint32, a netip.Addr, r bpfRoute) *RouteEntry {
	key, _ := prefixOf(vrf, a, r)
	return &RouteEntry{key, r.NextHop, fromRoute(r, t.hops, t.who)}
}

// member is the one of a group that leads to a label of a node, or of this one.
func (t *tracer) member(group, label uint32, remote netip.Addr) (bpfRoute, bool) {
	key := bpfEcmpMemberKey{Group: group, Label: label}
	if remote.IsValid() {
		key.Remote = toAddr(remote)
	}
	return lookup[bpfRoute](t, t.maps().EcmpMemberV1, key)
}

// owns tells whether a port has an address itself.
func (t *tracer) owns(ifindex int, vif bpfVif, a netip.Addr) bool {
	if vif.Primary == toAddr(a) {
		return true
	}
	_, ok := lookup[uint32](t, t.maps().PortAddrV1, bpfPortAddrKey{Ifindex: uint32(ifindex), Addr: toAddr(a)})
	return ok
}

// mayHave tells whether a port has an address, or it is behind the port.
func (t *tracer) mayHave(ifindex int, vif bpfVif, a netip.Addr) bool {
	if t.owns(ifindex, vif, a) {
		return true
	}
	r, ok := t.route(vif.Vrf, a)
	if ok && r.NextHop >= firstHop {
		r, ok = t.member(r.NextHop, vif.Label, netip.Addr{})
	}
	return ok && r.NextHop == hopLocal && r.Label == vif.Label && r.Behind != 0
}

// foreign is the address that a port has in another network, if it has it.
func (t *tracer) foreign(ifindex int, vif bpfVif, a netip.Addr) (bpfForeignAddr, bool) {
	if vif.Foreign == 0 {
		return bpfForeignAddr{}, false
	}
	return lookup[bpfForeignAddr](t, t.maps().ForeignAddrV1, bpfPortAddrKey{Ifindex: uint32(ifindex), Addr: toAddr(a)})
}

// usedAsIs tells whether it is an alias, which the port uses itself.
func usedAsIs(a bpfForeignAddr) bool { return a.Addr == a.Fixed }

// bridges tells whether a VRF bridges, and whether it routes IP all the same.
func (t *tracer) bridges(vrf uint32) (bridges, routes bool) {
	b, ok := lookup[bpfBridge](t, t.maps().BridgeV1, vrf)
	return ok, b.Flags&bridgeRoutes != 0
}

// mix and flowHash are those of the programs, bpf/nexthop.h.
func mix(h, w uint32) uint32 {
	w *= 0xcc9e2d51
	w = w<<15 | w>>17
	h ^= w * 0x1b873593
	h = h<<13 | h>>19
	return h*5 + 0xe6546b64
}

func (q *TraceQuery) flowHash() uint32 {
	src, dst := toAddr(q.Src), toAddr(q.Dst)
	h := uint32(q.Protocol)
	for i := range src.W {
		h = mix(h, src.W[i])
		h = mix(h, dst.W[i])
	}
	h = mix(h, uint32(swap16(q.SrcPort))<<16|uint32(swap16(q.DstPort)))
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	return h ^ h>>16
}

// wrong tells addresses that are not forwarded, see check_ipv6 of the programs;
// 0 for those that are.
func (q *TraceQuery) wrong() DropReason {
	if q.Src.Is4() {
		if q.Dst.As4()[0]>>5 == 7 { // 224.0.0.0/3
			return DropMulticast
		}
		return 0
	}
	ofHost := func(a netip.Addr) bool {
		b := a.As16()
		return binary.BigEndian.Uint64(b[:8]) == 0 && binary.BigEndian.Uint64(b[8:]) <= 1
	}
	switch {
	case q.Dst.IsMulticast():
		return DropMulticast
	case q.Src.IsLinkLocalUnicast(), q.Dst.IsLinkLocalUnicast():
		return DropLinkLocal
	case ofHost(q.Src), ofHost(q.Dst):
		return DropMalformed
	case q.Protocol == protocolICMPv6 && q.DstPort >= 133 && q.DstPort <= 137: // neighbour discovery
		return DropND
	}
	return 0
}
