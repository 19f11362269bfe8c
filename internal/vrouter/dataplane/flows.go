package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
)

// Directions of flow keys, as enum flow_dir of the programs has them.
const (
	flowFromPort = iota
	flowFromTunnel
	flowDirs
)

// flowScopeVRF marks the scope of a flow that comes by VXLAN: the number of its
// VRF instead of a label. FLOW_SCOPE_VRF of the programs is the same.
const flowScopeVRF = 1 << 31

// flowAnswers is FLOW_ANSWERS, and noSlot NO_SLOT of the programs.
const (
	flowAnswers = 1
	noSlot      = 1<<32 - 1
)

// Ages say after how long without a packet a flow is forgotten. Unanswered is
// for those without an entry of the other direction.
type Ages struct {
	TCP, UDP, Other, Unanswered time.Duration
}

// DefaultAges are the ages an agent uses if it is told nothing else. A TCP
// connection costs nothing but its entry when it is forgotten too early: the
// next packet enters it again.
func DefaultAges() Ages {
	return Ages{TCP: 3 * time.Minute, UDP: 3 * time.Minute, Other: time.Minute, Unanswered: 20 * time.Second}
}

func (a Ages) of(protocol uint8) time.Duration {
	switch protocol {
	case protocolTCP:
		return a.TCP
	case 17:
		return a.UDP
	}
	return a.Other
}

// SweepFlows deletes the flows that had no packet for the time given, by the
// clock of Now, and sets the count of each port's flows right. A TCP connection
// whose beginner has sent no more than the first packet goes with those that
// have no answer. It returns the number of flows deleted and left.
func (d *Dataplane) SweepFlows(now time.Duration, ages Ages) (removed, live int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	vifs, err := d.vifs()
	if err != nil {
		return 0, 0, fmt.Errorf("sweep flows: %w", err)
	}
	services, err := d.Services()
	if err != nil {
		return 0, 0, fmt.Errorf("sweep flows: %w", err)
	}
	removed, live, err = d.sweep(func(f rawFlow) bool {
		idle := now - time.Duration(f.value.LastSeen)
		if f.value.Fabric == fabricNAT {
			return d.natEnds(f, now, ages)
		}
		if ofService(f) {
			there, same := hasService(f, services)
			return !there || !same && idle > ages.TCP
		}
		if !d.ends(f, idle, ages, vifs) {
			return false
		}
		if f.value.Role == flowAnswers {
			return true
		}
		// Answers are counted with what they answer, which stays as long as they
		// come: else a port could have as many as the table holds.
		other, err := d.reverseOf(f, vifs)
		if err != nil || other == nil || other.value.Role != flowAnswers || other.value.Packets == 0 {
			return err == nil
		}
		return d.ends(f, min(idle, now-time.Duration(other.value.LastSeen)), ages, vifs)
	})
	if err != nil {
		return removed, live, fmt.Errorf("sweep flows: %w", err)
	}
	return removed, live, nil
}

// ends says whether a flow that is idle for so long is to be forgotten.
func (d *Dataplane) ends(f rawFlow, idle time.Duration, ages Ages, vifs map[int]bpfVif) bool {
	return idle > ages.of(f.key.Proto) ||
		idle > ages.Unanswered && (halfOpen(f) || !isQuiet(f, idle-ages.Unanswered) && !d.answered(f, vifs))
}

const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolICMPv6 = 58
)

// halfOpen says whether the flow begins a TCP connection by one packet alone, as
// a flood does.
func halfOpen(f rawFlow) bool {
	return f.key.Proto == protocolTCP && f.value.Role != flowAnswers && f.value.Packets < 2
}

// quietAfter is how long an answer is looked after when it is idle longer than what
// has no answer may be: some sweeps, in one of which what it answers went or stayed.
const quietAfter = 30 * time.Second

// isQuiet says whether the flow is an answer that goes by its protocol's age alone.
// So idle connections do not each cost a look at every sweep.
func isQuiet(f rawFlow, over time.Duration) bool {
	return f.value.Role == flowAnswers && f.value.Packets > 0 && over > quietAfter
}

// ICMPAnswer is the type of ICMP, or of ICMPv6, that answers one, and is answered by
// it; of what has no answer the type itself. icmp_answer of the programs says the same.
func ICMPAnswer(protocol uint8, typ uint16) uint16 {
	switch {
	case protocol == protocolICMPv6 && (typ == 128 || typ == 129):
		return 257 - typ
	case protocol == protocolICMP && (typ == 0 || typ == 8):
		return 8 - typ
	case protocol == protocolICMP && (typ == 13 || typ == 14):
		return 27 - typ
	}
	return typ
}

// answered says whether the other direction has had a packet. What begins says so
// itself; what answers goes with that, which has to be looked up.
func (d *Dataplane) answered(f rawFlow, vifs map[int]bpfVif) bool {
	return f.value.Answered != 0 || slices.ContainsFunc(reverseKeys(f, vifs), d.passed)
}

// reverseKeys are those under which find_reverse of the programs looks for the
// other direction.
func reverseKeys(f rawFlow, vifs map[int]bpfVif) []bpfFlowKey {
	key := bpfFlowKey{
		Src: f.key.Dst, Dst: f.key.Src, Sport: f.key.Dport, Dport: f.key.Sport, Proto: f.key.Proto,
	}
	if f.key.Proto == protocolICMP || f.key.Proto == protocolICMPv6 {
		key.Sport, key.Dport = f.key.Sport, swap16(ICMPAnswer(f.key.Proto, swap16(f.key.Dport)))
	}
	if f.value.NatDst != 0 {
		key.Src = toAddr(fromWord(f.value.NatDst))
	}
	if f.value.NatSrc != 0 {
		key.Dst = toAddr(fromWord(f.value.NatSrc))
	}
	if f.key.Proto == protocolICMP {
		key.Sport = cmp.Or(f.value.NatSport, f.value.NatDport, key.Sport)
	} else {
		key.Sport, key.Dport = cmp.Or(f.value.NatDport, key.Sport), cmp.Or(f.value.NatSport, key.Dport)
	}
	switch {
	case f.key.Dir == flowFromTunnel:
		key.Scope, key.Dir = f.value.Ifindex, flowFromPort
		return []bpfFlowKey{key}
	case f.value.Nh.Kind == uint8(Local):
		key.Scope, key.Dir = f.value.Nh.Ifindex, flowFromPort
		return []bpfFlowKey{key}
	case f.value.Nh.Kind == uint8(Fabric):
		key.Scope, key.Dir = flowScopeFabric, flowFromTunnel
		return []bpfFlowKey{key}
	}
	byLabel, byVRF := key, key
	byLabel.Scope, byLabel.Dir = vifs[int(f.value.Ifindex)].Label, flowFromTunnel
	byVRF.Scope, byVRF.Dir = flowScopeVRF|f.value.Vrf, flowFromTunnel
	// The far end may send in another encapsulation than it takes.
	switch {
	case f.value.Nh.Encap != uint8(VXLAN):
		return []bpfFlowKey{byLabel, byVRF}
	case f.value.Foreign == 0:
		return []bpfFlowKey{byVRF, byLabel}
	}
	return []bpfFlowKey{byLabel}
}

// passed says whether a flow has had a packet: one that only waits for an answer,
// see enter_answer of the programs, has none.
func (d *Dataplane) passed(key bpfFlowKey) bool {
	var f bpfFlow
	err := d.maps().FlowV3.Lookup(key, &f)
	return err == nil && f.Packets > 0 || err != nil && !errors.Is(err, ebpf.ErrKeyNotExist)
}

// purgeFlows deletes the flows from and to a port.
func (d *Dataplane) purgeFlows(ifindex int) error {
	_, _, err := d.sweep(func(f rawFlow) bool {
		return int(f.value.Ifindex) == ifindex ||
			f.value.Nh.Kind == uint8(Local) && int(f.value.Nh.Ifindex) == ifindex
	})
	if err != nil {
		return fmt.Errorf("purge flows: %w", err)
	}
	return nil
}

// purgeFragments deletes what is known of fragments from and to a port.
func (d *Dataplane) purgeFragments(ifindex int, label uint32) error {
	of := func(dir uint8, scope uint32) bool {
		return dir == flowFromPort && scope == uint32(ifindex) || dir == flowFromTunnel && scope == label
	}
	all, err := entries[bpfFragmentKey, bpfFragment](d.maps().FragmentV1, "fragments")
	if err != nil {
		return err
	}
	all6, err := entries[bpfFragment6Key, bpfFragment6](d.maps().Fragment6V1, "fragments of IPv6")
	if err != nil {
		return err
	}
	for key := range all {
		if of(key.Dir, key.Scope) {
			err = errors.Join(err, deleted(d.maps().FragmentV1.Delete(key)))
		}
	}
	for key := range all6 {
		if of(key.Dir, key.Scope) {
			err = errors.Join(err, deleted(d.maps().Fragment6V1.Delete(key)))
		}
	}
	if err != nil {
		return fmt.Errorf("delete fragments: %w", err)
	}
	return nil
}

// sweep deletes the flows that match. Then it sets the number of flows gone of
// each account to those made before less those found: a sum that heals whatever a
// crash left. A flow made while it reads may be found, too; then the port's
// count is too high by it until the next sweep, never too low for long.
func (d *Dataplane) sweep(match func(rawFlow) bool) (removed, live int, err error) {
	made, err := d.accounts(d.maps().FlowMadeV2)
	if err != nil {
		return 0, 0, err
	}
	left, names := make(map[uint32]bpfFlowCount, len(made)), d.newNames()
	var halfTold error
	for f, err := range d.rawFlows() {
		if err != nil {
			return removed, live, errors.Join(halfTold, err)
		}
		if !match(f) {
			count(left, f)
			live++
			continue
		}
		err := d.forget(f, names)
		switch {
		case errors.Is(err, errHalfTold):
			halfTold = err // the last one stands for all
		case err != nil:
			return removed, live, errors.Join(halfTold, fmt.Errorf("delete flow: %w", err))
		}
		removed++
	}
	for account, n := range made {
		n.Flows -= left[account].Flows
		n.Unanswered -= left[account].Unanswered
		if err := d.maps().FlowGoneV2.Put(account, n); err != nil {
			return removed, live, errors.Join(halfTold, fmt.Errorf("count flows of account %d: %w", account, err))
		}
	}
	return removed, live, halfTold
}

// count adds a flow to the accounts that charge of the programs counted it in.
func count(accounts map[uint32]bpfFlowCount, f rawFlow) {
	if f.value.Role == flowAnswers {
		return
	}
	of := account(f.value.Slot, uint32(f.key.Dir))
	port, total := accounts[of], accounts[flowTotal]
	port.Flows++
	total.Flows++
	if f.value.Answered == 0 {
		port.Unanswered++
	}
	accounts[of], accounts[flowTotal] = port, total
}

// FLOW_TOTAL of the programs, and how many entries a flow has with its answers.
const (
	flowTotal = 0
	flowPair  = 2
)

// account is where the flows that begin in a direction of a slot are counted;
// FLOW_ACCOUNT of the programs says the same.
func account(slot, dir uint32) uint32 { return 1 + slot*flowDirs + dir }

// flowShare is how many flows a port may begin, and others towards it, although
// the table is crowded: all shares together are half of it.
func (d *Dataplane) flowShare() uint32 {
	return max(d.room/(2*flowPair*flowDirs)/uint32(max(len(d.slots), 1)), 1)
}

// accounts reads an array of counts: the total, and those of the slots in use.
func (d *Dataplane) accounts(m *ebpf.Map) (map[uint32]bpfFlowCount, error) {
	keys := []uint32{flowTotal}
	for _, slot := range d.slots {
		for dir := range uint32(flowDirs) {
			keys = append(keys, account(slot, dir))
		}
	}
	values := make(map[uint32]bpfFlowCount, len(keys))
	for _, key := range keys {
		var v bpfFlowCount
		if err := m.Lookup(key, &v); err != nil {
			return nil, fmt.Errorf("read flow count of account %d: %w", key, err)
		}
		values[key] = v
	}
	return values, nil
}

// FlowCount is how many flows count against a quota, and how many of them have
// no answer.
type FlowCount struct {
	Flows, Unanswered int
}

// PortFlowCount returns what counts against a port's quotas: the flows that it
// began, and those that others began towards it by tunnel.
func (t *Tables) PortFlowCount(ifindex int) (own, others FlowCount, err error) {
	var vif bpfVif
	err = t.maps.VifV1.Lookup(uint32(ifindex), &vif)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = ErrNoPort
	}
	if err == nil {
		own, err = t.flowCount(account(vif.Slot, flowFromPort))
	}
	if err == nil {
		others, err = t.flowCount(account(vif.Slot, flowFromTunnel))
	}
	if err != nil {
		return own, others, fmt.Errorf("count flows of port %d: %w", ifindex, err)
	}
	return own, others, nil
}

// flowCount reads what is gone first: what is made grows, and is never less.
func (t *Tables) flowCount(account uint32) (FlowCount, error) {
	var made, gone bpfFlowCount
	err := t.maps.FlowGoneV2.Lookup(account, &gone)
	if err == nil {
		err = t.maps.FlowMadeV2.Lookup(account, &made)
	}
	return FlowCount{int(int32(made.Flows - gone.Flows)), int(int32(made.Unanswered - gone.Unanswered))}, err
}
