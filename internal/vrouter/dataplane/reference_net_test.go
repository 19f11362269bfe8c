//go:build net

package dataplane

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// The reference: what a node is to do with a packet of IPv4 or ARP, step by step,
// by what the node was told. It remembers who began what, and fragments; all else
// it decides anew for each packet, so that it shows where an entry of the flow
// table decides otherwise.

// told is what a node knows: it is changed only between packets.
type told struct {
	local    netip.Addr
	underlay int
	mtu      int
	ports    map[int]Port // by ifindex
	policies map[int]Policy
	sets     map[SetID]*Set
	routes   map[RouteKey]NextHop
	vnis     map[uint32]uint32
}

// reference is a node as it should be.
type reference struct {
	told
	entries   map[entryKey]remembered
	fragments map[fragmentID]upper
	// changes of the policies of ports, by ifindex.
	changes map[int]int
}

func newReference(t told) *reference {
	return &reference{t, map[entryKey]remembered{}, map[fragmentID]upper{}, map[int]int{}}
}

// outcome is what becomes of a packet.
type outcome struct {
	verdict uint32
	// reason and at are those of a drop.
	reason DropReason
	at     int
	// frame is what leaves, loose what of it is not said: offsets of bytes.
	frame []byte
	loose map[int]bool
	// translated: checksums follow from the addresses, see checksums.
	translated bool
	// unknown is a packet that the reference does not speak of.
	unknown bool
}

func dropFor(reason DropReason, at int) outcome {
	return outcome{verdict: tcDrop, reason: reason, at: at}
}

// scope is where a packet came from: a port, a label or by VXLAN a VRF.
type scope struct {
	port       int
	label, vrf uint32
}

type upper struct {
	proto        uint8
	sport, dport uint16 // of ICMP identifier and type, where it has an answer
	code         uint8
}

type entryKey struct {
	src, dst     netip.Addr
	scope        scope
	proto        uint8
	sport, dport uint16
}

type remembered struct {
	answers bool
	waits   bool // for a first packet
	vrf     uint32
	natSrc  netip.Addr
	changes int // of the policy of its ends when it was decided
}

type fragmentID struct {
	src, dst netip.Addr
	scope    scope
	id       uint16
	proto    uint8
}

// datagram is a packet of IPv4 that was read.
type datagram struct {
	raw      []byte // from its header to the frame's end
	header   int
	ttl, tos uint8
	src, dst netip.Addr
	upper
	id                 uint16
	later, first, lost bool
}

func (d *datagram) key(s scope) entryKey {
	return entryKey{d.src, d.dst, s, d.proto, d.sport, d.dport}
}

func addrAt(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b[:4])) }

// readDatagram reads what is behind a link header.
func readDatagram(b []byte) (d datagram, reason DropReason) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return d, DropMalformed
	}
	d.raw, d.header = b, int(b[0]&15)*4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if d.header < 20 || total < d.header || total > len(b) {
		return d, DropMalformed
	}
	d.tos, d.ttl, d.proto, d.id = b[1], b[8], b[9], binary.BigEndian.Uint16(b[4:])
	d.src, d.dst = addrAt(b[12:]), addrAt(b[16:])
	flags := binary.BigEndian.Uint16(b[6:])
	if offset := int(flags&0x1fff) * 8; offset > 0 {
		d.later = true
		if d.proto == 6 && offset < 20 {
			return d, DropMalformed // it overwrites the header that was judged
		}
		return d, 0
	}
	d.first = flags&0x2000 != 0
	head := b[d.header:total]
	least := map[uint8]int{6: 20, 17: 8, 132: 8, 1: 8}[d.proto]
	if len(head) < least {
		return d, DropMalformed
	}
	switch d.proto {
	case 6, 17, 132:
		d.sport, d.dport = binary.BigEndian.Uint16(head), binary.BigEndian.Uint16(head[2:])
	case 1:
		d.dport, d.code = uint16(head[0]), head[1]
		if ICMPAnswer(1, d.dport) != d.dport {
			d.sport = binary.BigEndian.Uint16(head[4:])
		}
	}
	return d, 0
}

// follow gives fragments the ports of their datagram.
func (r *reference) follow(d *datagram, s scope) {
	key := fragmentID{d.src, d.dst, s, d.id, d.proto}
	switch {
	case d.first:
		r.fragments[key] = d.upper
	case d.later:
		known, seen := r.fragments[key]
		if !seen {
			d.lost = true
			return
		}
		d.upper = known
	}
}

// route is the longest prefix of a VRF that has the address.
func (t *told) route(vrf uint32, a netip.Addr) (hop NextHop, bits int, found bool) {
	for bits := 32; bits >= 0; bits-- {
		prefix, _ := a.Prefix(bits)
		if hop, found := t.routes[RouteKey{vrf, prefix}]; found {
			return hop, bits, true
		}
	}
	return hop, 0, false
}

// has says whether a port has the address, or it is behind it.
func (t *told) has(p Port, a netip.Addr) bool {
	if slices.Contains(p.Addresses, a) {
		return true
	}
	hop, _, found := t.route(p.VRF, a)
	return found && hop.Kind == Local && hop.Behind && hop.Label == p.Label
}

func foreignOf(p Port, a netip.Addr) (ForeignAddress, bool) {
	for _, f := range p.Foreign {
		if f.Address == a {
			return f, true
		}
	}
	return ForeignAddress{}, false
}

func isAlias(f ForeignAddress) bool { return f.Address == f.Fixed }

func (t *told) labelled(label uint32) (Port, bool) {
	for _, p := range t.ports {
		if p.Label == label {
			return p, true
		}
	}
	return Port{}, false
}

// decision is where a packet goes.
type decision struct {
	port           Port // whose quota it is: the sender, from a tunnel the receiver
	hop            NextHop
	to             Port // of Local
	vrf            uint32
	foreign        bool
	natSrc, natDst netip.Addr
	far            Identity
}

// fromPort is what becomes of a frame of the container behind a port.
func (r *reference) fromPort(ifindex int, frame []byte) outcome {
	proto := binary.BigEndian.Uint16(frame[12:])
	if proto == 0x86dd {
		return outcome{unknown: true}
	}
	var d datagram
	here := scope{port: ifindex}
	if proto == 0x0800 {
		var reason DropReason
		if d, reason = readDatagram(frame[14:]); reason != 0 {
			return dropFor(reason, ifindex)
		}
		r.follow(&d, here)
	}
	port, plugged := r.ports[ifindex]
	switch {
	case !plugged:
		return dropFor(DropNoPort, ifindex)
	case port.Blocked:
		return dropFor(DropBlocked, ifindex)
	case MAC(frame[6:12]) != port.MAC:
		return dropFor(DropSourceMAC, ifindex)
	}
	sends := func(a netip.Addr) bool {
		f, foreign := foreignOf(port, a)
		return r.has(port, a) || foreign && isAlias(f)
	}
	switch {
	case proto == 0x0806:
		return r.answerARP(port, frame, sends)
	case proto == 0x0800 && !sends(d.src):
		return dropFor(DropSourceAddress, ifindex)
	case proto != 0x0800:
		return dropFor(DropProtocol, ifindex)
	case MAC(frame[:6]) != RouterMAC() && frame[0]&1 != 0:
		return dropFor(DropMulticast, ifindex)
	case MAC(frame[:6]) != RouterMAC():
		return dropFor(DropDestinationMAC, ifindex)
	case d.ttl <= 1:
		return dropFor(DropTTL, ifindex)
	}
	before, known := r.entries[d.key(here)]
	to, reason := r.decideFromPort(port, &d, before, known)
	if reason == 0 {
		reason = r.judge(&d, here, &to)
	}
	if reason != 0 {
		return dropFor(reason, ifindex)
	}
	return r.forward(frame, &d, &to)
}

func (r *reference) answerARP(port Port, frame []byte, sends func(netip.Addr) bool) outcome {
	if len(frame) < 42 || string(frame[14:20]) != "\x00\x01\x08\x00\x06\x04" {
		return dropFor(DropMalformed, port.IfIndex)
	}
	sender, target := addrAt(frame[28:]), addrAt(frame[38:])
	foreign, has := foreignOf(port, target)
	switch {
	case binary.BigEndian.Uint16(frame[20:]) != 1, sender.IsUnspecified():
		return dropFor(DropARP, port.IfIndex)
	case MAC(frame[22:28]) != port.MAC:
		return dropFor(DropSourceMAC, port.IfIndex)
	case !sends(sender):
		return dropFor(DropSourceAddress, port.IfIndex)
	case slices.Contains(port.Addresses, target), has && isAlias(foreign):
		return dropFor(DropARP, port.IfIndex)
	}
	router := RouterMAC()
	out := slices.Concat(port.MAC[:], router[:], frame[12:20], []byte{0, 2}, router[:], frame[38:42], frame[22:32], frame[42:])
	return outcome{verdict: tcRedirect, frame: out}
}

// way is the network that a packet of a port leaves by, see find_way.
func (r *reference) way(port Port, d *datagram, before remembered, known bool, to *decision) DropReason {
	to.vrf = port.VRF
	longest := -1
	if r.has(port, d.src) {
		if _, bits, found := r.route(port.VRF, d.dst); found {
			if longest = bits; known && before.vrf == port.VRF && !before.natSrc.IsValid() {
				return 0
			}
		}
	}
	for _, f := range port.Foreign {
		if f.Fixed != d.src {
			continue
		}
		src := f.Address
		if isAlias(f) {
			src = netip.Addr{}
		}
		_, bits, found := r.route(f.VRF, d.dst)
		same := known && before.vrf == f.VRF && before.natSrc == src
		if !found || f.AnswersOnly && !same {
			continue
		}
		if same {
			bits = 255
		}
		if bits > longest {
			longest, to.vrf, to.natSrc, to.foreign = bits, f.VRF, src, true
		}
	}
	if longest < 0 {
		return DropNoRoute
	}
	return 0
}

func (r *reference) decideFromPort(port Port, d *datagram, before remembered, known bool) (to decision, reason DropReason) {
	to = decision{port: port, vrf: port.VRF}
	if d.dst.As4()[0] >= 224 {
		return to, DropMulticast
	}
	if len(port.Foreign) > 0 {
		if reason := r.way(port, d, before, known, &to); reason != 0 {
			return to, reason
		}
	}
	hop, _, found := r.route(to.vrf, d.dst)
	if !found {
		return to, DropNoRoute
	}
	to.hop, to.far = hop, hop.Identity
	switch hop.Kind {
	case Tunnel:
		return to, 0
	case Local:
		var there bool
		if to.to, there = r.labelled(hop.Label); !there {
			return to, DropNextHop
		}
		if to.to.Blocked {
			return to, DropBlocked
		}
		if !r.has(to.to, d.dst) {
			f, foreign := foreignOf(to.to, d.dst)
			if !foreign {
				return to, DropDestinationAddress
			}
			if !isAlias(f) {
				to.natDst = f.Fixed
			}
		}
		return to, 0
	}
	return to, DropDiscard
}

// fromWire is what becomes of a frame of the underlay.
func (r *reference) fromWire(frame []byte) outcome {
	next := outcome{verdict: tcNext}
	ip := frame[14:]
	if binary.BigEndian.Uint16(frame[12:]) != 0x0800 || len(ip) < 28 || ip[0] != 0x45 || addrAt(ip[16:]) != r.local ||
		binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
		return next
	}
	outer := addrAt(ip[12:])
	size, vxlan := 0, false
	switch port := binary.BigEndian.Uint16(ip[22:]); {
	case ip[9] == 17 && port == 6635:
		size = 32
	case ip[9] == 17 && port == 4789:
		size, vxlan = 50, true
	case ip[9] == 47 && binary.BigEndian.Uint32(ip[20:]) == 0x8847:
		size = 28
	default:
		return next
	}
	if ip[6]&0x20 != 0 {
		return dropFor(DropOuterFragment, r.underlay)
	}
	if len(ip) < size || !vxlan && len(ip) < size+20 {
		return dropFor(DropMalformed, r.underlay)
	}
	inner, s, dmac := ip[size:], scope{}, RouterMAC()
	if vxlan {
		vrf, known := r.vnis[binary.BigEndian.Uint32(ip[32:])>>8]
		proto := binary.BigEndian.Uint16(ip[48:])
		dmac = MAC(ip[36:42])
		switch {
		case ip[28]&8 == 0:
			return dropFor(DropMalformed, r.underlay)
		case !known:
			return dropFor(DropVNI, r.underlay)
		case proto == 0x0806, proto == 0x86dd:
			return outcome{unknown: true}
		case proto != 0x0800:
			return dropFor(DropProtocol, r.underlay)
		case dmac[0]&1 != 0:
			return dropFor(DropMulticast, r.underlay)
		}
		s.vrf = vrf
	} else {
		entry := binary.BigEndian.Uint32(ip[size-4:])
		if entry&0x100 == 0 {
			return dropFor(DropLabelStack, r.underlay)
		}
		s.label = entry >> 12
		if inner[0]>>4 == 6 {
			return outcome{unknown: true}
		}
	}
	d, reason := readDatagram(inner)
	if reason != 0 {
		return dropFor(reason, r.underlay)
	}
	r.follow(&d, s)
	to, reason, at := r.decideFromTunnel(&d, s, outer, dmac, vxlan)
	if reason == 0 {
		reason, at = r.judge(&d, s, &to), to.port.IfIndex
	}
	if reason != 0 {
		return dropFor(reason, at)
	}
	return r.deliver(slices.Concat(frame[:12], []byte{8, 0}, inner), &d, &to)
}

func (r *reference) decideFromTunnel(d *datagram, s scope, outer netip.Addr, dmac MAC, vxlan bool) (to decision, reason DropReason, at int) {
	label, at := s.label, r.underlay
	if s.vrf != 0 {
		hop, _, found := r.route(s.vrf, d.dst)
		if !found || hop.Kind != Local {
			return to, DropDestinationAddress, at
		}
		label = hop.Label
	}
	port, there := r.labelled(label)
	if !there {
		return to, DropLabel, at
	}
	at = port.IfIndex
	to = decision{port: port, to: port, vrf: port.VRF, hop: NextHop{Kind: Local}}
	if s.vrf != 0 && port.VRF != s.vrf {
		return to, DropDestinationAddress, at
	}
	if port.Blocked {
		return to, DropBlocked, at
	}
	if !r.has(port, d.dst) {
		f, foreign := foreignOf(port, d.dst)
		if !foreign {
			return to, DropDestinationAddress, at
		}
		if to.vrf = f.VRF; !isAlias(f) {
			to.natDst = f.Fixed
		}
	}
	node := r.local.As4()
	if vxlan && dmac != port.MAC && dmac != RouterMAC() && dmac != (MAC{0x0e, 0, node[0], node[1], node[2], node[3]}) {
		return to, DropDestinationMAC, at
	}
	back, _, found := r.route(to.vrf, d.src)
	if !found {
		return to, DropNoSourceRoute, at
	}
	if back.Kind != Tunnel || back.Remote != outer {
		return to, DropTunnelSource, at
	}
	to.far = back.Identity
	return to, 0, at
}
