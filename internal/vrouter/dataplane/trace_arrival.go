package dataplane

import (
	"fmt"
	"net/netip"
)

// vrfOfRouter and lastVNI are those of the programs: the VRF of a logical router
// has the number of its VNI behind this bit.
const (
	vrfOfRouter = 0x20000000
	lastVNI     = 0xffffff
)

// TraceArrival tells what becomes of a packet that comes by tunnel.
func (d *Dataplane) TraceArrival(q ArrivalQuery) (Trace, error) {
	if !q.Outer.Is4() {
		return Trace{}, fmt.Errorf("trace of what comes by tunnel: outer source %s is not IPv4", q.Outer)
	}
	t, err := d.newTracer(q.TraceQuery)
	if err != nil {
		return Trace{}, err
	}
	t.arrive(&q)
	return t.end()
}

// arrive is what underlay_rx does, in its order.
func (t *tracer) arrive(a *ArrivalQuery) bool {
	q := &t.q
	scope, ok := t.scopeOf(a)
	if !ok {
		return false
	}
	if reason := q.wrong(); reason != 0 && q.Src.Is6() {
		return t.drop(reason, 0)
	}
	ifindex, vif, reason := t.receiver(scope, a.Encapsulation == VXLAN)
	if reason != 0 {
		return t.drop(reason, ifindex)
	}
	q.IfIndex = ifindex
	t.step(Step{Kind: StepPort, IfIndex: ifindex, VRF: vif.Vrf})
	if vif.Blocked != 0 {
		return t.drop(DropBlocked, ifindex)
	}
	t.vrf = vif.Vrf
	if !t.mayHave(ifindex, vif, q.Dst) {
		own, ok := t.foreign(ifindex, vif, q.Dst)
		if !ok {
			return t.drop(DropDestinationAddress, ifindex)
		}
		t.vrf = own.Vrf
		t.translateDst(ifindex, own)
	}
	if mac := a.MAC; a.Encapsulation == VXLAN && mac != (MAC{}) && mac != RouterMAC() && mac != MAC(vif.Mac) {
		return t.drop(DropDestinationMAC, ifindex)
	}
	far, ok := t.fromWhere(a.Outer, ifindex)
	if !ok || !t.judgeArrival(ifindex, far.Identity) || !t.charge(vif.Slot, uint32(FromTunnel)) {
		return false
	}
	t.trace.NextHop = NextHop{Kind: Local, IfIndex: ifindex}
	return t.step(Step{Kind: StepDeliver, IfIndex: ifindex, VRF: vif.Vrf, Address: t.trace.Dst})
}

// scopeOf is the label, or the VRF of what comes by VXLAN.
func (t *tracer) scopeOf(a *ArrivalQuery) (uint32, bool) {
	if a.Encapsulation != VXLAN {
		return a.Label, true
	}
	vrf, ok := lookup[uint32](t, t.maps().VniV1, a.VNI)
	if !ok {
		return 0, t.drop(DropVNI, 0)
	}
	if bridges, routes := t.bridges(vrf); bridges && !routes {
		return 0, t.unknown(0, "the network bridges IP: frames go by their MACs, see contrail vrouter rt --family bridge")
	}
	return vrf, true
}

// receiver is the port of a label, or the one that the VRF has the destination at.
func (t *tracer) receiver(scope uint32, byVRF bool) (int, bpfVif, DropReason) {
	label := scope
	if byVRF {
		r, ok := t.route(scope, t.q.Dst)
		if ok && r.NextHop >= firstHop {
			r, ok = t.member(r.NextHop, 0, netip.Addr{})
		}
		if !ok || r.NextHop != hopLocal {
			return 0, bpfVif{}, DropDestinationAddress
		}
		label = r.Label
	}
	ifindex, ok := lookup[uint32](t, t.maps().LabelV1, label)
	if !ok {
		return 0, bpfVif{}, DropLabel
	}
	vif, ok := t.vif(int(ifindex))
	if !ok {
		return 0, bpfVif{}, DropLabel
	}
	if byVRF && vif.Vrf != scope && scope&^lastVNI != vrfOfRouter {
		return int(ifindex), bpfVif{}, DropDestinationAddress
	}
	return int(ifindex), vif, 0
}

// fromWhere checks that answers would go to the node that the packet comes from,
// and returns what the route says of who is there.
func (t *tracer) fromWhere(outer netip.Addr, ifindex int) (bpfRoute, bool) {
	r, ok := t.route(t.vrf, t.q.Src)
	if !ok {
		return r, t.drop(DropNoSourceRoute, ifindex)
	}
	t.step(Step{Kind: StepCheck, IfIndex: ifindex, VRF: t.vrf, Address: t.q.Src, Route: t.entry(t.vrf, t.q.Src, r)})
	switch n := t.hops[r.NextHop]; {
	case n.Kind == ECMP:
		if r, ok = t.member(r.NextHop, 0, outer); ok {
			return r, true
		}
	case n.Kind == Tunnel && n.Remote == outer:
		return r, true
	}
	return r, t.drop(DropTunnelSource, ifindex)
}
