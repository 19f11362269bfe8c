package dataplane

import "github.com/cilium/ebpf"

func (t *tracer) portPolicy(ifindex int) (bpfPortPolicy, bool) {
	return lookup[bpfPortPolicy](t, t.maps().PortPolicyV1, uint32(ifindex))
}

// judge asks policy about a packet that the port q.IfIndex sends to the port
// peer, or to somebody far away who is known by a number where peer is 0; see judge
// of the programs.
func (t *tracer) judge(peer int, far uint32) bool {
	q := &t.q
	own, ok := t.portPolicy(q.IfIndex)
	if !ok {
		return t.drop(DropPolicyPending, q.IfIndex)
	}
	other := bpfPortPolicy{Identity: far}
	if peer != 0 {
		if other, ok = t.portPolicy(peer); !ok {
			return t.drop(DropPolicyPending, q.IfIndex)
		}
	}
	if q.Answers {
		return t.step(Step{Kind: StepAnswer, IfIndex: q.IfIndex})
	}
	c := t.connection(own.Identity, other.Identity)
	ends := [2]uint32{own.Identity, other.Identity}
	if !t.askPort(q.IfIndex, own, c, ends, Leaving, q.IfIndex) {
		return false
	}
	return peer == 0 || t.askPort(peer, other, c, ends, Arriving, q.IfIndex)
}

// judgeArrival asks policy about a packet that comes by tunnel for a port.
func (t *tracer) judgeArrival(ifindex int, far uint32) bool {
	own, ok := t.portPolicy(ifindex)
	if !ok {
		return t.drop(DropPolicyPending, ifindex)
	}
	if t.q.Answers {
		return t.step(Step{Kind: StepAnswer, IfIndex: ifindex})
	}
	return t.askPort(ifindex, own, t.connection(far, own.Identity), [2]uint32{far, own.Identity}, Arriving, ifindex)
}

// connection is what rules see of the packet: of a port with a translated address
// that one, as the other end knows it.
func (t *tracer) connection(src, dst uint32) connection {
	q := &t.q
	c := connection{
		src: end{q.Src, t.who[src]}, dst: end{q.Dst, t.who[dst]},
		protocol: q.Protocol, sport: q.SrcPort, dport: q.DstPort,
	}
	if t.natSrc.IsValid() {
		c.src.addr = t.natSrc
	}
	if q.Protocol == protocolICMP || q.Protocol == protocolICMPv6 {
		c.sport, c.dport = q.DstPort, uint16(q.Code)
	}
	return c
}

// askPort asks the sets of a port; drops are counted at the interface at.
func (t *tracer) askPort(ifindex int, policy bpfPortPolicy, c connection, ends [2]uint32, last PolicySet, at int) bool {
	own := t.who[policy.Identity].Network()
	for _, kind := range []PolicySet{NetworkPolicy, Firewall, last} {
		number := policy.Sets[kind]
		if number == 0 {
			continue
		}
		s, known := t.setOf(number)
		switch {
		case !known:
			return t.unknown(ifindex, "the rules of a policy set (%s) are those of an earlier agent: this one is told them when a control node has answered", kind)
		case ends[0] > s.known || ends[1] > s.known:
			return t.drop(DropPolicyPending, at)
		}
		p := &PolicyStep{Kind: kind, Set: s.id}
		for i, r := range s.rules {
			if r.matches(own, c) {
				p.Rule, p.Place, p.Pass = r, i+1, !r.Deny
				break
			}
		}
		t.step(Step{Kind: StepPolicy, IfIndex: ifindex, Policy: p})
		if !p.Pass {
			return t.drop(refusals[kind], at)
		}
	}
	return true
}

// refusals are the reasons that sets drop for.
var refusals = [policySets]DropReason{NetworkPolicy: DropPolicyNetwork, Firewall: DropPolicyFirewall, Arriving: DropPolicyGroup, Leaving: DropPolicyGroup}

// askedSet is a set in the maps as it is asked.
type askedSet struct {
	id    SetID
	rules []*Rule
	known uint32
}

// setOf is the set that has a number; not known where this process has not been
// told what is in it.
func (t *tracer) setOf(number uint32) (askedSet, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, live := range t.sets {
		switch {
		case live.number != number:
		case live.index != nil:
			return askedSet{id, live.index.rules, live.known}, true
		case live.err != nil: // it refuses everything
			return askedSet{id, nil, live.known}, true
		}
	}
	return askedSet{}, false
}

// charge tells whether a port's account has room for another flow; see charge of
// the programs.
func (t *tracer) charge(slot, dir uint32) bool {
	if t.q.Answers {
		return true
	}
	count := func(m *ebpf.Map, key uint32) bpfFlowCount {
		c, _ := lookup[bpfFlowCount](t, m, key)
		return c
	}
	of := account(slot, dir)
	made, gone := count(t.maps().FlowMadeV2, of), count(t.maps().FlowGoneV2, of)
	all := int32(count(t.maps().FlowMadeV2, flowTotal).Flows - count(t.maps().FlowGoneV2, flowTotal).Flows)
	node, _ := lookup[bpfNode](t, t.maps().NodeV1, uint32(0))
	flows, unanswered := int32(made.Flows-gone.Flows), int32(made.Unanswered-gone.Unanswered)
	switch {
	case flows >= int32(t.config.PortFlows):
		return t.drop(DropFlowQuota, t.q.IfIndex)
	case unanswered >= int32(t.config.PortUnanswered):
		return t.drop(DropFlowUnanswered, t.q.IfIndex)
	case all >= int32(t.room/(2*flowPair)) && flows >= int32(node.FlowShare):
		return t.drop(DropFlowTableFull, t.q.IfIndex)
	}
	return true
}
