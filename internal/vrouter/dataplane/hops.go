package dataplane

import (
	"errors"
	"fmt"
	"maps"

	"github.com/cilium/ebpf"
)

// Ids of next hops that need no entry; NEXT_HOP_ID_ of the programs says the same.
const (
	hopDiscard = 0
	hopLocal   = 1
	firstHop   = 2
)

// hops are the next hops in the maps. One never becomes another while a route
// may lead to it: it is written before the first, and swept after the last.
type hops struct {
	// ids are by next hop, without number and identity of a tunnel.
	ids map[NextHop]uint32
	by  map[uint32]NextHop
	// next is where to look for a free id.
	next uint32
	// left: routes or ports went elsewhere since the last sweep.
	left bool
}

// readHops reads the next hops of the maps.
func (t *Tables) readHops() (map[uint32]NextHop, error) {
	raw, err := entries[uint32, bpfNextHop](t.maps.NextHopV1, "next hops")
	if err != nil {
		return nil, err
	}
	groups, err := entries[uint32, bpfEcmp](t.maps.EcmpV1, "groups of next hops")
	if err != nil {
		return nil, err
	}
	who, err := t.identities()
	if err != nil {
		return nil, err
	}
	macs, err := entries[uint32, bpfReceiverMac](t.maps.NextHopMacV1, "MACs of next hops")
	if err != nil {
		return nil, err
	}
	all := make(map[uint32]NextHop, len(raw))
	for id, n := range raw {
		if n.Kind == uint8(Tunnel) {
			all[id] = NextHop{Kind: Tunnel, Remote: fromAddr(n.Remote), Encapsulation: Encapsulation(n.Encap), MAC: MAC(macs[id].Mac)}
		}
	}
	for id, n := range raw {
		if group, ok := groups[id]; ok && n.Kind == uint8(ECMP) {
			all[id] = groupOf(&group, all, who)
		}
	}
	return all, nil
}

// groupOf is a group as the programs have it.
func groupOf(group *bpfEcmp, all map[uint32]NextHop, who map[uint32]Identity) NextHop {
	members := make([]Member, min(group.Count, MaxMembers))
	for i := range members {
		members[i] = Member{NextHop: fromRoute(group.Member[i], all, who), Weight: group.Weight[i]}
	}
	return Share(members)
}

// fromRoute is what a route's value says, given the next hops by id and the
// identities by number.
func fromRoute(r bpfRoute, all map[uint32]NextHop, who map[uint32]Identity) NextHop {
	switch r.NextHop {
	case hopDiscard:
		return NextHop{}
	case hopLocal:
		return NextHop{Kind: Local, Label: r.Label, Behind: r.Behind != 0, Identity: who[r.Identity]}
	}
	n := all[r.NextHop]
	if n.Kind == Tunnel {
		n = n.with(r.Label)
		n.Identity = who[r.Identity]
	}
	return n
}

// adoptHops takes over the next hops of the maps.
func (d *Dataplane) adoptHops() error {
	all, err := d.readHops()
	if err != nil {
		return err
	}
	d.hops = hops{ids: make(map[NextHop]uint32, len(all)), by: all, next: firstHop, left: true}
	for id, n := range all {
		d.hops.ids[n] = id
	}
	return d.dropUnfinishedGroups()
}

// dropUnfinishedGroups removes what is left of groups of which a crash cut off
// the making or the end.
func (d *Dataplane) dropUnfinishedGroups() error {
	members, err := entries[bpfEcmpMemberKey, bpfRoute](d.maps().EcmpMemberV1, "members of groups")
	if err != nil {
		return err
	}
	for key := range members {
		if d.hops.by[key.Group].Kind == ECMP {
			continue
		}
		if err := errors.Join(deleted(d.maps().EcmpMemberV1.Delete(key)), deleted(d.maps().EcmpV1.Delete(key.Group))); err != nil {
			return fmt.Errorf("remove unfinished group %d: %w", key.Group, err)
		}
	}
	return nil
}

// toRoute is the value of a route to a next hop, which is in the maps then. The
// identities there are known.
func (d *Dataplane) toRoute(n NextHop) (bpfRoute, error) {
	label := n.number()
	switch n.Kind {
	case Discard:
		return bpfRoute{NextHop: hopDiscard}, nil
	case Local:
		r := bpfRoute{NextHop: hopLocal, Label: label, Identity: d.who.numbers[n.Identity]}
		if n.Behind {
			r.Behind = 1
		}
		return r, nil
	}
	identity := d.who.numbers[n.Identity]
	n = n.shared()
	id, ok := d.hops.ids[n]
	if !ok {
		var err error
		if id, err = d.addHop(n); err != nil {
			return bpfRoute{}, fmt.Errorf("add next hop %s: %w", n, err)
		}
	}
	return bpfRoute{NextHop: id, Label: label, Identity: identity}, nil
}

func (d *Dataplane) addHop(n NextHop) (uint32, error) {
	var group bpfEcmp
	if n.Kind == ECMP {
		var err error
		if group, err = d.toGroup(n.Members); err != nil {
			return 0, err
		}
	}
	id := max(d.hops.next, firstHop)
	for d.hops.by[id].Kind != Discard || id < firstHop {
		id++ // wraps around
	}
	value := bpfNextHop{Kind: uint8(n.Kind), Encap: uint8(n.Encapsulation)}
	if n.Kind == ECMP {
		if err := d.putGroup(id, n.Members, group); err != nil {
			return 0, err
		}
	} else {
		value.Remote = toAddr(n.Remote)
		if err := d.putHopMAC(id, n.MAC); err != nil {
			return 0, err
		}
	}
	if err := put(d.maps().NextHopV1, "next hops", id, value); err != nil {
		return 0, err
	}
	d.hops.ids[n], d.hops.by[id], d.hops.next = id, n, id+1
	return id, nil
}

// toGroup is what the programs have of a group, with all its members.
func (d *Dataplane) toGroup(members Members) (bpfEcmp, error) {
	group := bpfEcmp{Slot: members.slots()}
	for i, m := range members.List() {
		r, err := d.toRoute(m.NextHop)
		if err != nil {
			return group, err
		}
		group.Member[i], group.Weight[i] = r, m.Weight
		group.Count++
	}
	return group, nil
}

func (d *Dataplane) putGroup(id uint32, members Members, group bpfEcmp) error {
	for i, m := range members.List() {
		for _, key := range memberKeys(id, m.NextHop) {
			if err := put(d.maps().EcmpMemberV1, "members of groups", key, group.Member[i]); err != nil {
				return err
			}
		}
	}
	return put(d.maps().EcmpV1, "groups", id, group)
}

// memberKeys are those under which the programs look for a member.
func memberKeys(group uint32, n NextHop) []bpfEcmpMemberKey {
	if n.Kind == Local {
		return []bpfEcmpMemberKey{{Group: group, Label: n.Label}, {Group: group}}
	}
	remote := toAddr(n.Remote)
	return []bpfEcmpMemberKey{{Group: group, Label: n.number(), Remote: remote}, {Group: group, Remote: remote}}
}

func put[K, V any](m *ebpf.Map, what string, key K, value V) error {
	err := m.Put(key, value)
	if errors.Is(err, errTooMany) {
		return fmt.Errorf("table of %d %s is full: %w", m.MaxEntries(), what, err)
	}
	return err
}

// SweepNextHops removes the next hops that no route leads to any more, and the
// identities that no route and no port has. It looks at all routes, if any of
// these went elsewhere since the last time.
func (d *Dataplane) SweepNextHops() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.hops.left {
		return nil
	}
	used, identities := map[uint32]bool{}, map[uint32]bool{}
	for r, err := range batches[bpfHostRouteKey, bpfRoute](d.maps().HostRouteV2, "host routes") {
		if err != nil {
			return fmt.Errorf("sweep next hops: %w", err)
		}
		used[r.value.NextHop], identities[r.value.Identity] = true, true
	}
	for r, err := range batches[bpfRouteKey, bpfRoute](d.maps().RouteV2, "routes") {
		if err != nil {
			return fmt.Errorf("sweep next hops: %w", err)
		}
		used[r.value.NextHop], identities[r.value.Identity] = true, true
	}
	for r, err := range batches[bpfMacKey, bpfRoute](d.maps().MacV1, "macs") {
		if err != nil {
			return fmt.Errorf("sweep next hops: %w", err)
		}
		used[r.value.NextHop], identities[r.value.Identity] = true, true
	}
	outside, err := entries[uint32, uint32](d.maps().SnatV1, "ports with SNAT")
	if err != nil {
		return fmt.Errorf("sweep next hops: %w", err)
	}
	for _, n := range outside {
		identities[n] = true
	}
	for id, n := range d.hops.by {
		if used[id] && n.Kind == ECMP {
			for _, m := range n.Members.List() {
				identities[d.who.numbers[m.Identity]] = true
				used[d.hops.ids[m.NextHop.shared()]] = true
			}
		}
	}
	for id, n := range maps.Clone(d.hops.by) {
		if used[id] {
			continue
		}
		if err := d.deleteHop(id, n); err != nil {
			return fmt.Errorf("sweep next hop %s: %w", n, err)
		}
		delete(d.hops.by, id)
		delete(d.hops.ids, n)
	}
	if err := d.sweepIdentities(identities); err != nil {
		return fmt.Errorf("sweep identities: %w", err)
	}
	d.hops.left = false
	return nil
}

// putHopMAC writes the MAC of a next hop, or sees to it that it has none.
func (d *Dataplane) putHopMAC(id uint32, mac MAC) error {
	if mac == (MAC{}) {
		return deleted(d.maps().NextHopMacV1.Delete(id))
	}
	return put(d.maps().NextHopMacV1, "MACs of next hops", id, bpfReceiverMac{Mac: mac})
}

func (d *Dataplane) deleteHop(id uint32, n NextHop) error {
	err := errors.Join(deleted(d.maps().NextHopV1.Delete(id)), d.putHopMAC(id, MAC{}))
	if err != nil || n.Kind != ECMP {
		return err
	}
	for _, m := range n.Members.List() {
		for _, key := range memberKeys(id, m.NextHop) {
			if err := deleted(d.maps().EcmpMemberV1.Delete(key)); err != nil {
				return err
			}
		}
	}
	return deleted(d.maps().EcmpV1.Delete(id))
}
