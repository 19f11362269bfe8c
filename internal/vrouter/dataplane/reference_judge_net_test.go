//go:build net

package dataplane

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// answerKey is what an answer to a packet comes as.
func (d *datagram) answerKey(s scope, to *decision) entryKey {
	key := entryKey{src: d.dst, dst: d.src, proto: d.proto, sport: d.dport, dport: d.sport}
	return key.turned(s, to)
}

// turned completes a key that has the ports and addresses of the other way round.
func (key entryKey) turned(s scope, to *decision) entryKey {
	if key.proto == 1 {
		key.sport, key.dport = key.dport, ICMPAnswer(1, key.sport)
	}
	if to.natDst.IsValid() {
		key.src = to.natDst
	}
	if to.natSrc.IsValid() {
		key.dst = to.natSrc
	}
	switch {
	case s.port == 0:
		key.scope = scope{port: to.port.IfIndex}
	case to.hop.Kind == Local:
		key.scope = scope{port: to.to.IfIndex}
	case to.hop.Encapsulation == VXLAN && !to.foreign:
		key.scope = scope{vrf: to.vrf}
	default:
		key.scope = scope{label: to.port.Label}
	}
	return key
}

// other is the entry under a key of the other way round: the far end may send by
// another encapsulation than it takes.
func (r *reference) other(key entryKey, to *decision) (remembered, bool) {
	e, there := r.entries[key]
	if there || key.scope.port != 0 {
		return e, there
	}
	if to.hop.Encapsulation == VXLAN {
		key.scope = scope{label: to.port.Label}
	} else {
		key.scope = scope{vrf: to.vrf}
	}
	e, there = r.entries[key]
	return e, there
}

// judge asks the policies of the ports at both ends, and remembers the flow.
func (r *reference) judge(d *datagram, s scope, to *decision) DropReason {
	own, has := r.policies[to.port.IfIndex]
	local := s.port != 0 && to.hop.Kind == Local
	var peer Policy
	hasPeer := true
	if local {
		peer, hasPeer = r.policies[to.to.IfIndex]
		to.far = peer.Identity
	}
	if !has || !hasPeer {
		return DropPolicyPending
	}
	key := d.key(s)
	this, known := r.entries[key]
	changes := r.changes[to.port.IfIndex]
	if to.hop.Kind == Local && to.to.IfIndex != to.port.IfIndex {
		changes += r.changes[to.to.IfIndex]
	}
	if !known {
		begun, there := r.other(d.answerKey(s, to), to)
		from := netip.Addr{}
		if to.natDst.IsValid() {
			from = d.dst
		}
		this.answers = there && !begun.answers && begun.natSrc == from
	}
	this.vrf, this.natSrc = to.vrf, to.natSrc
	enter := func() {
		this.waits, this.changes = false, changes
		r.entries[key] = this
		r.awaitAnswer(d, s, to, this)
	}
	none := Policy{}.Sets
	if own.Sets == none && peer.Sets == none {
		enter()
		return 0
	}
	// One is taken for a part of what has no ports, while that holds.
	if d.lost && (!known || this.waits || this.changes != changes) {
		return DropFragment
	}
	if !known && r.isAboutFlow(d, s, to) {
		return 0
	}
	leaves := (s.port != 0) != this.answers
	c := d.connection(this.answers, to.natSrc)
	sides := []*Identity{&c.src.who, &c.dst.who}
	if !leaves {
		slices.Reverse(sides)
	}
	*sides[0], *sides[1] = own.Identity, to.far
	reason := r.ask(own, c, leaves)
	if reason == 0 && local {
		reason = r.ask(peer, c, !leaves)
	}
	switch {
	case reason == 0:
		enter()
	case known || this.answers: // both directions begin anew
		delete(r.entries, key)
		delete(r.entries, d.answerKey(s, to))
	}
	return reason
}

// connection is the beginning of what a packet is of, as rules see it.
func (d *datagram) connection(answers bool, natSrc netip.Addr) connection {
	src := d.src
	if natSrc.IsValid() {
		src = natSrc
	}
	c := connection{src: end{addr: src}, dst: end{addr: d.dst}, protocol: d.proto, sport: d.sport, dport: d.dport}
	if answers {
		c.src, c.dst, c.sport, c.dport = c.dst, c.src, c.dport, c.sport
	}
	if d.proto == 1 {
		c.sport, c.dport = d.dport, uint16(d.code)
		if answers {
			c.sport, c.dport = ICMPAnswer(1, d.dport), 0
		}
	}
	return c
}

func (r *reference) ask(p Policy, c connection, leaves bool) DropReason {
	last := Arriving
	if leaves {
		last = Leaving
	}
	for _, x := range []struct {
		kind   PolicySet
		reason DropReason
	}{{NetworkPolicy, DropPolicyNetwork}, {Firewall, DropPolicyFirewall}, {last, DropPolicyGroup}} {
		if id := p.Sets[x.kind]; id != (SetID{}) && !r.sets[id].passes(p.Identity.Network(), c) {
			return x.reason
		}
	}
	return 0
}

// awaitAnswer notes from which address the receiver of a translated packet is to
// answer.
func (r *reference) awaitAnswer(d *datagram, s scope, to *decision, this remembered) {
	if !to.natDst.IsValid() {
		return
	}
	f, _ := foreignOf(to.to, d.dst)
	key := d.answerKey(s, to)
	if _, there := r.entries[key]; !there {
		r.entries[key] = remembered{waits: true, answers: !this.answers, vrf: f.VRF, natSrc: f.Address}
	}
}

// isAboutFlow says whether an ICMP error quotes a packet of a flow that there is.
func (r *reference) isAboutFlow(d *datagram, s scope, to *decision) bool {
	if d.proto != 1 || !slices.Contains([]uint16{3, 11, 12}, d.dport) || len(d.raw) < d.header+8 {
		return false
	}
	quote := d.raw[d.header+8:]
	if len(quote) < 20 || quote[0]>>4 != 4 || quote[0]&15 < 5 || binary.BigEndian.Uint16(quote[6:])&0x1fff != 0 {
		return false
	}
	head := quote[min(int(quote[0]&15)*4, len(quote)):]
	if len(head) < 8 {
		return false
	}
	key := entryKey{src: addrAt(quote[16:]), dst: addrAt(quote[12:]), scope: s, proto: quote[9]}
	if key.dst != d.dst {
		return false
	}
	switch key.proto {
	case 6, 17, 132:
		key.sport, key.dport = binary.BigEndian.Uint16(head[2:]), binary.BigEndian.Uint16(head)
	case 1:
		typ := uint16(head[0])
		key.dport = ICMPAnswer(1, typ)
		if key.dport != typ {
			key.sport = binary.BigEndian.Uint16(head[4:])
		}
	}
	if _, there := r.entries[key]; there {
		return true
	}
	back := key
	back.src, back.dst, back.sport, back.dport = key.dst, key.src, key.dport, key.sport
	_, there := r.other(back.turned(s, to), to)
	return there
}

// forward is what a packet of a port becomes on its way.
func (r *reference) forward(frame []byte, d *datagram, to *decision) outcome {
	overhead := map[Encapsulation]int{MPLSoUDP: 32, MPLSoGRE: 28, VXLAN: 50}[to.hop.Encapsulation]
	if to.hop.Kind == Tunnel && len(d.raw) > 1024 && len(d.raw)+overhead > r.mtu {
		return dropFor(DropTooBig, to.port.IfIndex)
	}
	inner := slices.Clone(frame)
	// RFC 1141: whatever was wrong with the sum stays wrong.
	inner[14+8]--
	sum := uint32(binary.BigEndian.Uint16(inner[14+10:])) + 0x100
	binary.BigEndian.PutUint16(inner[14+10:], uint16(sum+sum>>16))
	if to.hop.Kind == Local {
		return r.deliver(inner, d, to)
	}
	out := r.encapsulated(translated(inner, d, to)[14:], d, to)
	out.frame = slices.Concat(frame[:12], []byte{8, 0}, out.frame)
	out.translated = to.natSrc.IsValid() || to.natDst.IsValid()
	return out
}

// encapsulated is the outer packet, with offsets as if a link header were before
// it.
func (r *reference) encapsulated(inner []byte, d *datagram, to *decision) (o outcome) {
	o.verdict, o.loose = tcRedirect, map[int]bool{}
	for i := range 12 { // those of the neighbour come later
		o.loose[i] = true
	}
	label := binary.BigEndian.AppendUint32(nil, to.hop.Label<<12|1<<8|64)
	entropy := func(port uint16) []byte {
		o.loose[14+20], o.loose[14+21] = true, true
		return []byte{0xc0, 0, byte(port >> 8), byte(port), 0, 0, 0, 0}
	}
	var head []byte
	proto := byte(17)
	switch to.hop.Encapsulation {
	case MPLSoGRE:
		proto, head = 47, append([]byte{0, 0, 0x88, 0x47}, label...)
	case VXLAN:
		vni := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, to.hop.VNI<<8)
		mac := to.hop.MAC
		if mac == (MAC{}) {
			mac = RouterMAC()
		}
		head = slices.Concat(entropy(4789), vni, mac[:], to.port.MAC[:], []byte{8, 0})
	default:
		head = append(entropy(6635), label...)
	}
	size := 20 + len(head) + len(inner)
	if proto == 17 {
		binary.BigEndian.PutUint16(head[4:], uint16(size-20))
	}
	local, remote := r.local.As4(), to.hop.Remote.As4()
	ip := slices.Concat([]byte{0x45, d.tos & 0xfc, byte(size >> 8), byte(size), 0, 0, 0x40, 0, 64, proto, 0, 0}, local[:], remote[:])
	binary.BigEndian.PutUint16(ip[10:], ^sumOf(ip, 0))
	o.frame = slices.Concat(ip, head, inner)
	return o
}

// deliver is what the container behind a port gets.
func (r *reference) deliver(frame []byte, d *datagram, to *decision) outcome {
	router := RouterMAC()
	out := translated(frame, d, to)
	return outcome{
		verdict: tcRedirect, frame: slices.Concat(to.to.MAC[:], router[:], out[12:]),
		translated: to.natSrc.IsValid() || to.natDst.IsValid(),
	}
}

// translated is the frame with the addresses that it is to have, in what an error
// quotes, too. Checksums stay as they were.
func translated(frame []byte, d *datagram, to *decision) []byte {
	out := slices.Clone(frame)
	put := func(at int, was, now netip.Addr) {
		if now.IsValid() && addrAt(out[at:]) == was {
			b := now.As4()
			copy(out[at:], b[:])
		}
	}
	put(14+12, d.src, to.natSrc)
	put(14+16, d.dst, to.natDst)
	if quote := 14 + d.header + 8; d.proto == 1 && !d.later && slices.Contains([]uint16{3, 11, 12}, d.dport) && len(out) >= quote+20 {
		put(quote+12, d.dst, to.natDst)
		put(quote+16, d.src, to.natSrc)
	}
	return out
}

// sumOf is the sum of RFC 1071, before it is inverted.
func sumOf(b []byte, more uint32) uint16 {
	for len(b) > 1 {
		more += uint32(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		more += uint32(b[0]) << 8
	}
	for more > 0xffff {
		more = more&0xffff + more>>16
	}
	return uint16(more)
}
