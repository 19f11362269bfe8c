package dataplane

import "net/netip"

// Trace tells what becomes of a packet that a container sends. An error is one of
// reading, or of a query that no packet could be.
func (d *Dataplane) Trace(q TraceQuery) (Trace, error) {
	t, err := d.newTracer(q)
	if err != nil {
		return Trace{}, err
	}
	t.fromPort()
	return t.end()
}

// fromPort is what vif_rx does, in its order.
func (t *tracer) fromPort() bool {
	q := &t.q
	vif, ok := t.vif(q.IfIndex)
	if !ok {
		return t.drop(DropNoPort, q.IfIndex)
	}
	t.vrf = vif.Vrf
	t.step(Step{Kind: StepPort, IfIndex: q.IfIndex, VRF: vif.Vrf})
	if vif.Blocked != 0 {
		return t.drop(DropBlocked, q.IfIndex)
	}
	if foreign, has := t.foreign(q.IfIndex, vif, q.Src); !t.mayHave(q.IfIndex, vif, q.Src) && !(has && usedAsIs(foreign)) {
		if q.Dst.Is6() && q.Dst.IsMulticast() && (q.Src.IsLinkLocalUnicast() || q.Src.IsUnspecified()) {
			return t.drop(DropMulticast, q.IfIndex)
		}
		return t.drop(DropSourceAddress, q.IfIndex)
	}
	t.step(Step{Kind: StepSource, IfIndex: q.IfIndex, Address: q.Src})
	if bridges, routes := t.bridges(vif.Vrf); bridges && !routes {
		return t.unknown(q.IfIndex, "the network bridges IP: frames go by their MACs, see contrail vrouter rt --family bridge")
	}
	if t.isEcho() && t.isGateway(q.Dst) {
		return t.step(Step{Kind: StepRouter, IfIndex: q.IfIndex, Address: q.Dst})
	}
	if s, ok := t.service(); ok {
		return t.toService(s)
	}
	if reason := q.wrong(); reason != 0 {
		return t.drop(reason, q.IfIndex)
	}
	return t.findWay(vif) && t.answers() && t.toNextHop(vif)
}

func (t *tracer) isEcho() bool {
	return t.q.Protocol == protocolICMP && t.q.DstPort == 8 || t.q.Protocol == protocolICMPv6 && t.q.DstPort == 128
}

// linkLocalOfRouter is the router's address on each link (RFC 4291 appendix A).
var linkLocalOfRouter = netip.MustParseAddr("fe80::200:5eff:fe00:100")

func (t *tracer) isGateway(a netip.Addr) bool {
	if a == linkLocalOfRouter {
		return true
	}
	g, _ := lookup[bpfGateways](t, t.maps().GatewayV1, uint32(t.q.IfIndex))
	for _, own := range g.Addr[:min(g.Count, MaxGateways)] {
		if own == toAddr(a) {
			return true
		}
	}
	return false
}

// service is the BGP service that the packet is for.
func (t *tracer) service() (bpfBgpService, bool) {
	q := &t.q
	if !q.Src.Is4() || q.Protocol != protocolTCP || q.DstPort != 179 {
		return bpfBgpService{}, false
	}
	return lookup[bpfBgpService](t, t.maps().BgpServiceV1, bpfBgpServiceKey{
		Ifindex: uint32(q.IfIndex), Client: toWord(q.Src), Server: toWord(q.Dst),
	})
}

func (t *tracer) toService(s bpfBgpService) bool {
	if _, ok := t.portPolicy(t.q.IfIndex); !ok {
		return t.drop(DropPolicyPending, t.q.IfIndex)
	}
	control := fromWord(s.Control)
	t.trace.Src, t.trace.Dst = t.config.LocalIP, control
	t.trace.NextHop = NextHop{Kind: Fabric, Remote: control}
	t.step(Step{Kind: StepNAT, IfIndex: t.q.IfIndex, NATSrc: t.config.LocalIP, NATDst: control})
	return t.step(Step{Kind: StepFabric, IfIndex: t.q.IfIndex, NextHop: t.trace.NextHop})
}

// findWay finds the network that the packet leaves by and the source that it has
// there; see find_way of the programs.
func (t *tracer) findWay(vif bpfVif) bool {
	q := &t.q
	if vif.Foreign == 0 || !q.Src.Is4() {
		return true
	}
	longest := 0
	if t.mayHave(q.IfIndex, vif, q.Src) {
		if r, ok := t.route(vif.Vrf, q.Dst); ok {
			longest = int(r.Bits) + 1
		}
	}
	list, ok := lookup[bpfForeign](t, t.maps().ForeignV1, uint32(q.IfIndex))
	if !ok {
		return true
	}
	const sameWay = 256
	for _, a := range list.Addr[:min(list.Count, MaxForeign)] {
		went := q.Answers && q.Asked != q.Src && a.Addr == toWord(q.Asked)
		if a.Fixed != toWord(q.Src) || !went && a.Flags&foreignBegins == 0 {
			continue
		}
		r, ok := t.route(a.Vrf, q.Dst)
		length := int(r.Bits) + 1
		if went {
			length = sameWay
		}
		if ok && length > longest {
			longest, t.vrf, t.natSrc = length, a.Vrf, netip.Addr{}
			if !usedAsIs(a) {
				t.natSrc = fromWord(a.Addr)
			}
		}
	}
	if longest == 0 {
		return t.drop(DropNoRoute, q.IfIndex)
	}
	if t.natSrc.IsValid() {
		t.trace.Src = t.natSrc
		t.step(Step{Kind: StepNAT, IfIndex: q.IfIndex, VRF: t.vrf, NATSrc: t.natSrc})
	}
	return true
}

// answers tells whether what is to be an answer leaves from the address that was
// asked: else it begins a flow of its own.
func (t *tracer) answers() bool {
	if !t.q.Answers || t.trace.Src == t.q.Asked {
		return true
	}
	return t.unknown(t.q.IfIndex, "it leaves from %s, which is not the address %s that was asked: it answers nothing", t.trace.Src, t.q.Asked)
}

// staysInOverlay tells whether the packet is not one that leaves by NAT to the
// fabric, which a trace does not follow.
func (t *tracer) staysInOverlay() bool {
	q := &t.q
	if !q.Dst.Is4() {
		return true
	}
	if q.Protocol == protocolTCP || q.Protocol == protocolUDP {
		key := bpfLinkLocalKey{Addr: toWord(q.Dst), Port: swap16(q.DstPort)}
		if _, ok := lookup[bpfLinkLocal](t, t.maps().LinkLocalV1, key); ok {
			return t.unknown(q.IfIndex, "%s port %d is a link-local service: it leaves by NAT as the node's, see contrail vrouter fabric", q.Dst, q.DstPort)
		}
	}
	if _, routed := t.route(t.vrf, q.Dst); routed {
		return true
	}
	if _, ok := lookup[uint32](t, t.maps().SnatV1, uint32(q.IfIndex)); ok {
		return t.unknown(q.IfIndex, "there is no route to %s, and the network has SNAT: it leaves as the node's, unless policy or contrail vrouter fabric refuses it", q.Dst)
	}
	return true
}

// toNextHop takes the route and asks policy.
func (t *tracer) toNextHop(vif bpfVif) bool {
	q := &t.q
	if !t.staysInOverlay() {
		return false
	}
	r, ok := t.route(t.vrf, q.Dst)
	if !ok {
		return t.drop(DropNoRoute, q.IfIndex)
	}
	t.step(Step{Kind: StepRoute, IfIndex: q.IfIndex, VRF: t.vrf, Address: q.Dst, Route: t.entry(t.vrf, q.Dst, r)})
	if t.hops[r.NextHop].Kind == ECMP {
		group, ok := lookup[bpfEcmp](t, t.maps().EcmpV1, r.NextHop)
		if !ok {
			return t.drop(DropNextHop, q.IfIndex)
		}
		r = group.Member[group.Slot[q.flowHash()%ecmpSlots]%MaxMembers]
		t.step(Step{Kind: StepMember, IfIndex: q.IfIndex, NextHop: fromRoute(r, t.hops, t.who)})
	}
	switch n := fromRoute(r, t.hops, t.who); {
	case r.NextHop == hopLocal:
		ifindex, ok := lookup[uint32](t, t.maps().LabelV1, r.Label)
		if !ok {
			return t.drop(DropNextHop, q.IfIndex)
		}
		return t.toPort(vif, int(ifindex))
	case r.NextHop == hopDiscard:
		return t.drop(DropDiscard, q.IfIndex)
	case n.Kind != Tunnel:
		return t.drop(DropNextHop, q.IfIndex)
	default:
		return t.toTunnel(vif, r, n)
	}
}

// toPort gives the packet to another port of the node.
func (t *tracer) toPort(vif bpfVif, ifindex int) bool {
	q := &t.q
	to, ok := t.vif(ifindex)
	if !ok {
		return t.drop(DropNextHop, q.IfIndex)
	}
	t.step(Step{Kind: StepPort, IfIndex: ifindex, VRF: to.Vrf})
	if to.Blocked != 0 {
		return t.drop(DropBlocked, q.IfIndex)
	}
	if !t.mayHave(ifindex, to, q.Dst) {
		a, ok := t.foreign(ifindex, to, q.Dst)
		if !ok {
			return t.drop(DropDestinationAddress, q.IfIndex)
		}
		t.translateDst(ifindex, a)
	}
	if !t.judge(ifindex, 0) || !t.charge(vif.Slot, uint32(FromPort)) {
		return false
	}
	t.trace.NextHop = NextHop{Kind: Local, IfIndex: ifindex}
	return t.step(Step{Kind: StepDeliver, IfIndex: ifindex, VRF: to.Vrf, Address: t.trace.Dst})
}

// translateDst makes the destination the port's own.
func (t *tracer) translateDst(ifindex int, a bpfForeignAddr) {
	if usedAsIs(a) {
		return
	}
	t.natDst = fromWord(a.Fixed)
	t.trace.Dst = t.natDst
	t.step(Step{Kind: StepNAT, IfIndex: ifindex, VRF: a.Vrf, NATDst: t.natDst})
}

// toTunnel sends the packet to another node.
func (t *tracer) toTunnel(vif bpfVif, r bpfRoute, n NextHop) bool {
	if !t.judge(0, r.Identity) || !t.charge(vif.Slot, uint32(FromPort)) || !t.fits(n.Encapsulation) {
		return false
	}
	t.trace.NextHop = n
	return t.step(Step{Kind: StepTunnel, IfIndex: t.q.IfIndex, VRF: t.vrf, NextHop: n})
}

// fits tells whether the packet fits into one of the underlay; see fits_underlay.
func (t *tracer) fits(e Encapsulation) bool {
	link, err := t.links.LinkByName(t.config.Underlay)
	if err != nil {
		return true // nobody knows; the next step will be told by the kernel
	}
	s := Step{Kind: StepMTU, IfIndex: t.q.IfIndex, MTU: link.Attrs().MTU}
	s.Largest = s.MTU - e.overhead()
	t.step(s)
	if t.q.Size > 1024 && t.q.Size > s.Largest {
		return t.drop(DropTooBig, t.q.IfIndex)
	}
	return true
}

// overhead is what the encapsulation adds to the inner IP packet, over IPv4.
func (e Encapsulation) overhead() int {
	switch e {
	case MPLSoGRE:
		return 28
	case VXLAN:
		return 50
	}
	return 32
}
