package dataplane

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// PolicySet is one of a port's sets by what it is asked about.
type PolicySet int

// The sets of a port. What passes must pass all that there are.
const (
	// NetworkPolicy and Firewall are asked about connections in both directions.
	NetworkPolicy PolicySet = iota
	Firewall
	// Arriving and Leaving are of security groups.
	Arriving
	Leaving
	policySets
)

func (k PolicySet) String() string {
	return [...]string{"network", "firewall", "arriving", "leaving"}[k]
}

// Policy is what a port is to policy. A port without one is closed.
type Policy struct {
	// Identity is who the port is to others, with its network.
	Identity Identity
	// Sets are the ids of its sets; the zero id is nothing to ask.
	Sets [policySets]SetID
}

// SetNames are the ids of its sets by what they are asked about.
func (p Policy) SetNames() map[string]string {
	names := map[string]string{}
	for kind, id := range p.Sets {
		if id != (SetID{}) {
			names[PolicySet(kind).String()] = id.String()
		}
	}
	return names
}

// MarshalJSON writes the sets that there are by their names.
func (p Policy) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Identity Identity          `json:"identity"`
		Sets     map[string]string `json:"sets"`
	}{p.Identity, p.SetNames()})
}

func (p Policy) validate() error {
	if p.Identity.Network() == 0 {
		return fmt.Errorf("network is 0; numbers start at 1")
	}
	return nil
}

// liveSet is a set that is in the maps.
type liveSet struct {
	number uint32
	// index is nil as long as this process has not been told what is in it.
	index *setIndex
	// known is the highest identity that it decides about.
	known    uint32
	counters counterRange
	// err says why it cannot be enforced and refuses everything; nil if it can.
	err error
}

// policies is what the data plane knows of the maps of policy.
type policies struct {
	who  identityTable
	sets map[SetID]*liveSet
	// lastSet is the highest number of a set.
	lastSet  uint32
	counters ruleCounters
	ports    map[int]bpfPortPolicy
	// behind: some set may not know all identities.
	behind bool
}

// adoptPolicies reads what an earlier process left.
func (d *Dataplane) adoptPolicies() error {
	if err := d.adoptIdentities(); err != nil {
		return err
	}
	sets, err := d.setHeads()
	if err != nil {
		return err
	}
	d.sets = map[SetID]*liveSet{}
	d.counters = ruleCounters{size: d.maps().RuleCountV1.MaxEntries()}
	d.counters.adopt(sets)
	for number, head := range sets {
		d.sets[head.id] = &liveSet{number: number, counters: head.counters}
		d.lastSet = max(d.lastSet, number)
		// It may have rows for identities that are gone: their numbers are not
		// given again as long as it is there.
		d.who.last = max(d.who.last, head.known)
	}
	ports, err := entries[uint32, bpfPortPolicy](d.maps().PortPolicyV1, "policies of ports")
	if err != nil {
		return err
	}
	d.policies.ports = map[int]bpfPortPolicy{}
	for ifindex, p := range ports {
		d.policies.ports[int(ifindex)] = p
	}
	return nil
}

// dropLostPolicies removes those of devices that went before they were ports:
// no DeletePort will, and KnownPolicies does not tell of them.
func (d *Dataplane) dropLostPolicies(vifs map[int]bpfVif) error {
	for ifindex := range maps.Clone(d.policies.ports) {
		if _, known := vifs[ifindex]; known {
			continue
		}
		_, err := d.links.LinkByIndex(ifindex)
		if isGone(err) {
			err = d.deletePolicy(ifindex)
		}
		if err != nil {
			return fmt.Errorf("look after the policy of interface %d: %w", ifindex, err)
		}
	}
	return nil
}

// setHead is what the head of a set says.
type setHead struct {
	id       SetID
	known    uint32
	counters counterRange
}

// setHeads returns the sets in the maps by number.
func (t *Tables) setHeads() (map[uint32]setHead, error) {
	var (
		all    = map[uint32]setHead{}
		number uint32
		inner  ebpf.MapID
	)
	it := t.maps.PolicySetV1.Iterate()
	for it.Next(&number, &inner) {
		m, err := ebpf.NewMapFromID(inner)
		if errors.Is(err, fs.ErrNotExist) {
			continue // replaced meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("open policy set %d: %w", number, err)
		}
		var row, third policyRow
		err = errors.Join(m.Lookup(uint32(0), &row), m.Lookup(uint32(headCounters/rowWords), &third))
		m.Close()
		if err != nil {
			return nil, fmt.Errorf("read policy set %d: %w", number, err)
		}
		head := setHead{known: uint32(row.W[headKnown])}
		if first := uint32(third.W[headCounters%rowWords]); first != 0 {
			head.counters = counterRange{first, uint32(row.W[headRules]) + 1}
		}
		binary.BigEndian.PutUint64(head.id[:8], row.W[0])
		binary.BigEndian.PutUint64(head.id[8:], row.W[1])
		all[number] = head
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read policy sets: %w", err)
	}
	return all, nil
}

// Policies returns the policies of all ports that have one, by interface.
func (t *Tables) Policies() (map[int]Policy, error) {
	who, err := t.identities()
	if err != nil {
		return nil, err
	}
	sets, err := t.setHeads()
	if err != nil {
		return nil, err
	}
	raw, err := entries[uint32, bpfPortPolicy](t.maps.PortPolicyV1, "policies of ports")
	if err != nil {
		return nil, err
	}
	all := make(map[int]Policy, len(raw))
	for ifindex, c := range raw {
		p := Policy{Identity: who[c.Identity]}
		for i, number := range c.Sets {
			p.Sets[i] = sets[number].id
		}
		all[int(ifindex)] = p
	}
	return all, nil
}

// KnownPolicies are those of Policies whose sets this process has been told, and
// enforces: only these learn to decide about an identity that is new.
func (d *Dataplane) KnownPolicies() (map[int]Policy, error) {
	all, err := d.Policies()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(all, func(_ int, p Policy) bool {
		return slices.ContainsFunc(p.Sets[:], func(id SetID) bool {
			return id != (SetID{}) && (d.sets[id] == nil || d.sets[id].index == nil || d.sets[id].err != nil)
		})
	})
	return all, nil
}

// PutPolicies gives ports their policies, with the sets that these name. What is
// established is decided anew where something has changed. A port may come
// later. A set that cannot be enforced refuses everything, and so does a port
// with more groups and tags than an identity has; both are errors.
func (d *Dataplane) PutPolicies(all map[int]Policy, sets map[SetID]*Set) error {
	for ifindex, p := range all {
		if err := p.validate(); err != nil {
			return fmt.Errorf("put policy of interface %d: %w", ifindex, err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var who []Identity
	for _, p := range all {
		if p.Identity.validate() == nil {
			who = append(who, p.Identity)
		}
	}
	if err := d.know(who); err != nil {
		return fmt.Errorf("put policies: %w", err)
	}
	changed := map[int]bpfPortPolicy{}
	newest := d.lastSet
	var errs []error
	for ifindex, p := range all {
		c, err := d.portPolicy(p, sets)
		if err != nil {
			errs = append(errs, fmt.Errorf("put policy of interface %d: %w", ifindex, err))
		}
		if c != nil && *c != d.policies.ports[ifindex] {
			changed[ifindex] = *c
		}
	}
	if err := d.carryCounts(changed, newest); err != nil {
		errs = append(errs, err) // policy is what matters
	}
	if err := d.writePolicies(changed); err != nil {
		return errors.Join(append(errs, fmt.Errorf("put policies: %w", err))...)
	}
	if err := d.forgetSets(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// portPolicy makes sure that the sets of a policy are there; nil if one is not.
func (d *Dataplane) portPolicy(p Policy, sets map[SetID]*Set) (*bpfPortPolicy, error) {
	if err := p.Identity.validate(); err != nil {
		live, closeErr := d.refusing()
		if live == nil {
			return nil, errors.Join(err, closeErr)
		}
		return &bpfPortPolicy{Sets: [policySets]uint32{live.number}}, err
	}
	c := &bpfPortPolicy{Identity: d.who.numbers[p.Identity]}
	var errs []error
	for i, id := range p.Sets {
		if id == (SetID{}) {
			continue
		}
		live := d.sets[id]
		if live == nil || live.index == nil {
			if sets[id] == nil {
				return nil, fmt.Errorf("policy set %s is not known", id)
			}
			var err error
			if live, err = d.putSet(sets[id]); err != nil {
				return nil, errors.Join(append(errs, err)...)
			}
		}
		if live.err != nil {
			errs = append(errs, live.err)
		}
		c.Sets[i] = live.number
	}
	return c, errors.Join(errs...)
}

// writePolicies writes records first and then the generations: what was decided
// by others is outdated.
func (d *Dataplane) writePolicies(changed map[int]bpfPortPolicy) error {
	if len(changed) == 0 {
		return nil
	}
	var keys []uint32
	var records []bpfPortPolicy
	for ifindex, c := range changed {
		keys, records = append(keys, uint32(ifindex)), append(records, c)
	}
	if _, err := d.maps().PortPolicyV1.BatchUpdate(keys, records, nil); err != nil {
		return fmt.Errorf("write policies: %w", err)
	}
	if err := d.outdate(slices.Collect(maps.Keys(changed))...); err != nil {
		return err
	}
	maps.Copy(d.policies.ports, changed)
	d.hops.left = true
	return nil
}

// outdate has the flows of ports decided anew.
func (d *Dataplane) outdate(ports ...int) error {
	var slots, generations []uint32
	for _, ifindex := range ports {
		slot, ok := d.slots[ifindex]
		if !ok {
			continue // it has no flows
		}
		var now uint32
		if err := d.maps().PolicyGenerationV1.Lookup(slot, &now); err != nil {
			return fmt.Errorf("read generation of policy: %w", err)
		}
		slots, generations = append(slots, slot), append(generations, now+1)
	}
	if len(slots) == 0 {
		return nil
	}
	if _, err := d.maps().PolicyGenerationV1.BatchUpdate(slots, generations, nil); err != nil {
		return fmt.Errorf("write generation of policy: %w", err)
	}
	return nil
}

// DeletePolicy closes a port: what is established stays until it ends, nothing
// new begins. Absent is success.
func (d *Dataplane) DeletePolicy(ifindex int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.deletePolicy(ifindex); err != nil {
		return fmt.Errorf("delete policy of interface %d: %w", ifindex, err)
	}
	return nil
}

func (d *Dataplane) deletePolicy(ifindex int) error {
	if err := deleted(d.maps().PortPolicyV1.Delete(uint32(ifindex))); err != nil {
		return err
	}
	delete(d.policies.ports, ifindex)
	d.hops.left = true
	if err := d.outdate(ifindex); err != nil {
		return err
	}
	return d.forgetSets()
}

// putSet makes a set that ports may be given. One that cannot be enforced is
// made to refuse everything, and has the error for all that are given it.
func (d *Dataplane) putSet(s *Set) (*liveSet, error) {
	index, err := indexSet(s)
	if err != nil {
		return d.closeSet(s.ID, err)
	}
	return d.enforce(index)
}

// enforce writes a set, or closes it.
func (d *Dataplane) enforce(x *setIndex) (*liveSet, error) {
	live, err := d.writeSet(x)
	if err != nil {
		return d.closeSet(x.id, err)
	}
	return live, nil
}

// closeSet makes a set refuse everything, for the reason given.
func (d *Dataplane) closeSet(id SetID, reason error) (*liveSet, error) {
	live, err := d.writeSet(&setIndex{id: id})
	if err != nil {
		return nil, errors.Join(reason, err)
	}
	live.err = reason
	if errno := unix.Errno(0); errors.As(reason, &errno) {
		live.index = nil // the kernel may take it the next time
	}
	return live, nil
}

// refusesAll is the id of a set of no user's that refuses everything.
var refusesAll = SetID(bytes.Repeat([]byte{0xff}, len(SetID{})))

// refusing is that set.
func (d *Dataplane) refusing() (*liveSet, error) {
	if live := d.sets[refusesAll]; live != nil && live.index != nil {
		return live, nil
	}
	return d.writeSet(&setIndex{id: refusesAll})
}

// writeSet writes a set under the number that it has, or a new one.
func (d *Dataplane) writeSet(x *setIndex) (*liveSet, error) {
	live := d.sets[x.id]
	if live == nil {
		live = &liveSet{number: d.lastSet + 1}
	}
	counters, err := d.countersFor(live, len(x.rules))
	if err != nil {
		return nil, err
	}
	words, err := x.build(d.who.numbers, d.who.last, counters.first)
	if err == nil {
		d.lastSet = max(d.lastSet, live.number)
		if err = d.swapSet(live.number, words); err != nil {
			err = fmt.Errorf("write policy set %s: %w", x.id, err)
		}
	}
	unused := live.counters
	if err != nil {
		unused = counters
	}
	if live.counters != counters {
		d.counters.give(unused)
	}
	if err != nil {
		return nil, err
	}
	live.counters = counters
	live.index, live.known, live.err = x, d.who.last, nil
	d.sets[x.id] = live
	return live, nil
}

// swapSet puts a new array in the place of a set's.
func (d *Dataplane) swapSet(number uint32, words []uint64) error {
	rows := make([]policyRow, len(words)/rowWords)
	keys := make([]uint32, len(rows))
	for i := range rows {
		keys[i] = uint32(i)
		copy(rows[i].W[:], words[i*rowWords:])
	}
	inner, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "policy_rows", Type: ebpf.Array, KeySize: 4, ValueSize: 8 * rowWords,
		MaxEntries: uint32(len(rows)), Flags: unix.BPF_F_INNER_MAP,
	})
	if err != nil {
		return fmt.Errorf("make array: %w", err)
	}
	defer inner.Close() // the map of sets holds it
	if _, err := inner.BatchUpdate(keys, rows, nil); err != nil {
		return fmt.Errorf("fill array: %w", err)
	}
	if err := d.maps().PolicySetV1.Put(number, inner); err != nil {
		if errors.Is(err, errTooMany) {
			err = fmt.Errorf("table of %d policy sets is full: %w", d.maps().PolicySetV1.MaxEntries(), err)
		}
		return err
	}
	return nil
}

// extendSets has the sets know all identities: those that are about a new one
// are written anew, of the others the head. One that grows too big by that is
// closed, and keeps nobody else's routes and policies from being written.
func (d *Dataplane) extendSets(fresh []Identity) error {
	if d.behind {
		fresh = slices.Collect(maps.Keys(d.who.numbers))
	}
	d.behind = true
	for _, live := range d.sets {
		if live.index == nil || live.known == d.who.last {
			continue
		}
		var err error
		if slices.ContainsFunc(fresh, live.index.isAbout) {
			_, err = d.enforce(live.index)
		} else {
			err = d.raiseKnown(live)
		}
		if err != nil {
			return err
		}
	}
	d.behind = false
	return nil
}

// raiseKnown notes in the head of a set that it knows all identities. It is one
// word of an array in use, of which the others stay as they are.
func (d *Dataplane) raiseKnown(live *liveSet) error {
	var inner *ebpf.Map
	if err := d.maps().PolicySetV1.Lookup(live.number, &inner); err != nil {
		return fmt.Errorf("open policy set %s: %w", live.index.id, err)
	}
	defer inner.Close()
	var row policyRow
	if err := inner.Lookup(uint32(0), &row); err != nil {
		return fmt.Errorf("read policy set %s: %w", live.index.id, err)
	}
	row.W[headKnown] = uint64(len(live.index.same))<<32 | uint64(d.who.last)
	if err := inner.Put(uint32(0), row); err != nil {
		return fmt.Errorf("write policy set %s: %w", live.index.id, err)
	}
	live.known = d.who.last
	return nil
}

// forgetSets removes the sets that no port has.
func (d *Dataplane) forgetSets() error {
	used := map[uint32]bool{}
	for _, p := range d.policies.ports {
		for _, number := range p.Sets {
			used[number] = true
		}
	}
	for id, live := range d.sets {
		if used[live.number] {
			continue
		}
		if err := deleted(d.maps().PolicySetV1.Delete(live.number)); err != nil {
			return fmt.Errorf("delete policy set %s: %w", id, err)
		}
		d.counters.give(live.counters)
		delete(d.sets, id)
	}
	return nil
}
