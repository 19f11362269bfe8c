package rib

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
)

// Target is a route target, as the extended community that carries it in BGP.
type Target uint64

// Encapsulations is a set of them.
type Encapsulations uint8

// The encapsulations that a next hop may take.
const (
	MPLSoUDP Encapsulations = 1 << iota
	MPLSoGRE
	VXLAN
)

// Names are those of the set, as the API writes them.
func (e Encapsulations) Names() []string {
	var names []string
	for i, name := range []string{"MPLSoUDP", "MPLSoGRE", "VXLAN"} {
		if e&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// SourceKind is where a path comes from.
type SourceKind uint8

// The sources, the most trusted first.
const (
	// Attachment: the store binds the address to an interface of a node.
	Attachment SourceKind = iota + 1
	// Floating and Alias: the store gives an interface an address of another network.
	Floating
	Alias
	// NodeInNetwork: a node has an interface in a network with broadcasts.
	NodeInNetwork
	// InterfaceRoute: a prefix behind an interface, as its owner says.
	InterfaceRoute
	// Static, Aggregate and Chain resolve through another route.
	Static
	Aggregate
	Chain
	// BGP: a peer said so.
	BGP
	// Task: a prefix behind an interface, as the task there says by BGP.
	Task
)

var sourceNames = [...]string{"", "attachment", "floating-ip", "alias-ip", "node", "interface-route", "static", "aggregate", "chain", "bgp", "bgpaas"}

func (k SourceKind) String() string {
	if int(k) < len(sourceNames) {
		return sourceNames[k]
	}
	return "unknown"
}

// bound tells whether the store itself says where the address is.
func (k SourceKind) bound() bool { return k <= NodeInNetwork }

// resolved tells whether the path was made from another route.
func (k SourceKind) resolved() bool { return k == Static || k == Aggregate || k == Chain }

// chained tells whether the path stands for others.
func (k SourceKind) chained() bool { return k == Aggregate || k == Chain }

// Source says who a path is from. One source has one path to a key in a VRF.
type Source struct {
	Kind SourceKind
	// Name is the interface of an attachment, floating or alias address or
	// interface route, the node, the peer, or what a resolved path was made from.
	Name string
	// Via is the control node that a peer, or a task, told; empty for this one.
	Via string
}

// Flags of a path.
type Flags uint8

const (
	// Waiting: its node's agent has not said yet that the port is up.
	Waiting Flags = 1 << iota
	// Down: its node's agent said that the port is down.
	Down
	// Stale: nobody has heard of the source for a while; still used.
	Stale
	// Multipath: traffic may be spread over it and its equals.
	Multipath
	// Foreign: the address is of another network than the port's.
	Foreign
	// Service: the port is an interface of a service.
	Service
	// Unhealthy: a health check of the port has failed.
	Unhealthy
)

// Attributes are what many paths have alike. Slices must be sorted, except
// paths of systems and networks, and must not be changed any more.
type Attributes struct {
	// NextHop is a fabric address. A path without one is not used.
	NextHop        netip.Addr
	Encapsulations Encapsulations
	// Targets are beside those that the VRF exports.
	Targets []Target
	// OriginNetwork is the number of the network that the path comes from, and
	// Networks are those that service chains have led it through.
	OriginNetwork  uint32
	Networks       []uint32
	SecurityGroups []uint32
	Tags           []uint32
	Communities    []uint32
	// ExtCommunities are those that only policies and other routers make something
	// of, among them route targets under which no VRF imports.
	ExtCommunities  []uint64
	LocalPreference uint32
	MED             uint32
	// ASPath is of BGP, a set counting as one; Origin too, 0 being the best.
	ASPath   []uint32
	Origin   uint8
	External bool // of a peer in another autonomous system
	// RouterID is of the router that announced the path.
	RouterID netip.Addr
	// Weight is the share that it gets among equals; 0 counts as 1.
	Weight uint32
	// Interface is the one that a path of a task or a resolved one leads to. Others
	// have it as the name of their source.
	Interface string
}

// Spec is a path as its source says it.
type Spec struct {
	Source
	Attributes
	Label    uint32 // MPLS
	VNI      uint32
	MAC      [6]byte // of the interface, where known
	Flags    Flags
	Sequence uint64 // a later one is where the address has moved to
}

// Path is one way to a key. It is never changed, and shared by all VRFs that
// have it.
type Path struct {
	Source
	*sharedAttributes
	Key      Key // as its origin has it
	Label    uint32
	VNI      uint32
	MAC      [6]byte
	Flags    Flags
	Sequence uint64

	// origin is the VRF that it is a path of; nil when it came with the route
	// distinguisher rd from another router.
	origin *vrf
	rd     RD
	// set has the path in the list of all those with the same targets.
	set        *targetSet
	next, prev *Path
	// sibling is the next path that came from elsewhere under the same rd and key.
	sibling *Path
}

// InterfaceID is the interface that the path leads to; empty where it is not one
// of ours.
func (p *Path) InterfaceID() string {
	switch p.Kind {
	case Attachment, Floating, Alias, InterfaceRoute:
		return p.Name
	}
	return p.Interface
}

// Behind tells whether the interface is the way to the prefix, and does not have
// it itself.
func (p *Path) Behind() bool {
	return p.Kind == InterfaceRoute || p.Kind == Task || p.Kind.resolved()
}

// Usable tells whether traffic may take the path.
func (p *Path) Usable() bool { return p.Flags&(Waiting|Down|Unhealthy) == 0 && p.NextHop.IsValid() }

// SameWay tells whether two paths that BGP speakers announced lead the same way:
// traffic that takes one of them takes the other.
func (p *Path) SameWay(o *Path) bool {
	return p.Kind == o.Kind && (p.Kind == BGP || p.Kind == Task) && p.NextHop == o.NextHop && p.Label == o.Label && p.VNI == o.VNI
}

// RD is a route distinguisher.
type RD uint64

// Fabric stands for the distinguisher that routes of the fabric do not have, and
// FabricTarget for their route target: the VRF that imports by it has them. On
// the wire there is neither.
const (
	Fabric       RD     = 0xffff << 48
	FabricTarget Target = 0xffff << 48
)

// spec says the path again.
func (p *Path) spec() Spec {
	return Spec{
		Source: p.Source, Attributes: p.Attributes, Label: p.Label, VNI: p.VNI, MAC: p.MAC, Flags: p.Flags, Sequence: p.Sequence,
	}
}

// is tells whether the path is what a spec says.
func (p *Path) is(s *Spec, attributes *sharedAttributes) bool {
	return p.Source == s.Source && p.sharedAttributes == attributes && p.Label == s.Label && p.VNI == s.VNI &&
		p.MAC == s.MAC && p.Flags == s.Flags && p.Sequence == s.Sequence
}

// sharedAttributes is kept once, for all paths that have it.
type sharedAttributes struct {
	Attributes
	code string
	uses int
}

// intern returns the one copy of attributes, used once more.
func (r *RIB) intern(a *Attributes) *sharedAttributes {
	r.buffer = a.appendCode(r.buffer[:0])
	shared, ok := r.attributes[string(r.buffer)]
	if !ok {
		shared = &sharedAttributes{Attributes: *a, code: string(r.buffer)}
		r.attributes[shared.code] = shared
	}
	shared.uses++
	return shared
}

func (r *RIB) release(a *sharedAttributes) {
	if a.uses--; a.uses == 0 {
		delete(r.attributes, a.code)
	}
}

// appendCode appends what is equal for equal attributes only.
func (a *Attributes) appendCode(b []byte) []byte {
	b = appendAddress(b, a.NextHop)
	b = appendAddress(b, a.RouterID)
	b = append(b, byte(a.Encapsulations), a.Origin, 0)
	if a.External {
		b[len(b)-1] = 1
	}
	for _, n := range []uint32{a.OriginNetwork, a.LocalPreference, a.MED, a.Weight} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(a.Targets)))
	for _, t := range a.Targets {
		b = binary.BigEndian.AppendUint64(b, uint64(t))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(a.ExtCommunities)))
	for _, c := range a.ExtCommunities {
		b = binary.BigEndian.AppendUint64(b, c)
	}
	for _, list := range [][]uint32{a.Networks, a.SecurityGroups, a.Tags, a.Communities, a.ASPath} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
		for _, n := range list {
			b = binary.BigEndian.AppendUint32(b, n)
		}
	}
	return append(b, a.Interface...)
}

func appendAddress(b []byte, a netip.Addr) []byte {
	b = append(b, byte(a.BitLen()))
	return append(b, a.AsSlice()...)
}

func sortedTargets(lists ...[]Target) []Target {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
}

func compareSources(a, b Source) int {
	if a.Kind != b.Kind {
		return int(a.Kind) - int(b.Kind)
	}
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Via, b.Via))
}
