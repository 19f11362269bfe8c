package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
)

// Counters of rules: the programs count what each rule of a set has decided, in
// one array for all sets; see bpf/rule_count.h. A set has a range of it, which its
// head names, from when it is written until it is forgotten. A set for which there
// is no room is enforced all the same, and not counted.

// counterRange are counters that follow each other: one for each rule of a set, and
// one for what none matches. None are at 0.
type counterRange struct{ first, count uint32 }

func (r counterRange) end() uint32 { return r.first + r.count }

// ruleCounters are the ranges that are taken, in order.
type ruleCounters struct {
	taken []counterRange
	size  uint32
}

// take finds the first room for so many; none is at 0.
func (c *ruleCounters) take(count uint32) counterRange {
	at := uint32(1) // the counter 0 is of no rule
	for i, r := range c.taken {
		if r.first-at >= count {
			return c.insert(i, counterRange{at, count})
		}
		at = r.end()
	}
	if c.size < at || c.size-at < count {
		return counterRange{}
	}
	return c.insert(len(c.taken), counterRange{at, count})
}

func (c *ruleCounters) insert(i int, r counterRange) counterRange {
	c.taken = slices.Insert(c.taken, i, r)
	return r
}

// give takes a range back.
func (c *ruleCounters) give(r counterRange) {
	c.taken = slices.DeleteFunc(c.taken, func(t counterRange) bool { return t == r })
}

// adopt takes the ranges that sets in the maps have. One that cannot be is left to
// nobody: then its set gets another when it is written.
func (c *ruleCounters) adopt(heads map[uint32]setHead) {
	for number, h := range heads {
		if h.counters.first > 0 && h.counters.end() <= c.size {
			c.taken = append(c.taken, h.counters)
			continue
		}
		h.counters = counterRange{}
		heads[number] = h
	}
	slices.SortFunc(c.taken, func(a, b counterRange) int { return int(int64(a.first) - int64(b.first)) })
}

// countersFor are counters for a set of so many rules: those that it has, where they
// are of as many, else others, which begin at 0; none where there is no room.
func (d *Dataplane) countersFor(live *liveSet, rules int) (counterRange, error) {
	count := uint32(rules) + 1
	if live.counters.count == count {
		return live.counters, nil
	}
	r := d.counters.take(count)
	if r.count == 0 {
		d.log.Warn("no room for the counters of a policy set: its rules are not counted", "rules", rules, "counters", d.counters.size)
		return r, nil
	}
	if err := d.setCounters(r, make([]uint64, count)); err != nil {
		d.counters.give(r)
		return counterRange{}, err
	}
	return r, nil
}

// MapFills are those of Tables, and how many counters of rules are taken.
func (d *Dataplane) MapFills() ([]MapFill, error) {
	fills, err := d.Tables.MapFills()
	d.mu.Lock()
	defer d.mu.Unlock()
	counters := MapFill{Map: layoutVersion.ReplaceAllString(bpfMapRuleCountV1, ""), Max: int(d.counters.size) - 1}
	for _, r := range d.counters.taken {
		counters.Used += int(r.count)
	}
	at, _ := slices.BinarySearchFunc(fills, counters, func(a, b MapFill) int { return cmp.Compare(a.Map, b.Map) })
	return slices.Insert(fills, at, counters), err
}

func (d *Dataplane) setCounters(r counterRange, values []uint64) error {
	keys := make([]uint32, r.count)
	for i := range keys {
		keys[i] = r.first + uint32(i)
	}
	if _, err := d.maps().RuleCountV1.BatchUpdate(keys, values, nil); err != nil {
		return fmt.Errorf("set counters of rules: %w", err)
	}
	return nil
}

// countersOf reads a range; nil where there is none.
func (d *Dataplane) countersOf(r counterRange) ([]uint64, error) {
	if r.count == 0 {
		return nil, nil
	}
	values := make([]uint64, r.count)
	for i := range values {
		if err := d.maps().RuleCountV1.Lookup(r.first+uint32(i), &values[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("read counters of rules: %w", err)
		}
	}
	return values, nil
}

// carryCounts has rules keep their counts when ports are given a new set in place of
// one that no port will have: those of the old set that are in the new one, too. It
// is done before the new set is asked. newest is the number of the last set that
// was there before.
func (d *Dataplane) carryCounts(changed map[int]bpfPortPolicy, newest uint32) error {
	becomes, used := map[uint32]uint32{}, map[uint32]bool{}
	for _, p := range changed {
		for _, number := range p.Sets {
			used[number] = true
		}
	}
	for ifindex, p := range d.policies.ports {
		now, ok := changed[ifindex]
		if !ok {
			now = p
		}
		for kind, number := range now.Sets {
			used[number] = true
			if before := p.Sets[kind]; before != 0 && number > newest && becomes[before] == 0 {
				becomes[before] = number
			}
		}
	}
	byNumber := make(map[uint32]*liveSet, len(d.sets))
	for _, live := range d.sets {
		byNumber[live.number] = live
	}
	for before, now := range becomes {
		if used[before] {
			continue
		}
		if err := d.carryCountsOf(byNumber[before], byNumber[now]); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dataplane) carryCountsOf(before, now *liveSet) error {
	if before == nil || now == nil || before.index == nil || now.index == nil {
		return nil // an earlier process knew the rules
	}
	old, err := d.countersOf(before.counters)
	if err != nil || len(old) != len(before.index.rules)+1 || now.counters.count == 0 {
		return err
	}
	counts, err := d.countersOf(now.counters)
	if err != nil {
		return err
	}
	places := make(map[string]int, len(now.index.rules))
	for i, r := range slices.Backward(now.index.rules) { // of equal ones the first decides
		places[r.key()] = i
	}
	for i, r := range before.index.rules {
		if at, stays := places[r.key()]; stays && old[i] > 0 {
			counts[at] += old[i]
		}
	}
	counts[len(counts)-1] += old[len(old)-1]
	return d.setCounters(now.counters, counts)
}

// key is the same for the same rule. Its place in its owner is not part of it: a rule
// stays when another is written before it.
func (r *Rule) key() string {
	same := *r
	same.Place = 0
	return fmt.Sprint(same)
}

// SetRules is a policy set in the maps with what its rules have decided.
type SetRules struct {
	ID SetID
	// Rules are in their order; nobody may change them. They are not Known where an
	// earlier process was told them and this one was not yet.
	Rules []*Rule
	Known bool
	// Counts are of connections that began, and packets that were refused, by each
	// rule, and behind these by none; nil where they are not counted.
	Counts []uint64
	// Err says why the set cannot be enforced and refuses everything.
	Err error
}

// SetsWithRules returns the policy sets of ids, of those that there are.
func (d *Dataplane) SetsWithRules(ids []SetID) (map[SetID]SetRules, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make(map[SetID]SetRules, len(ids))
	for _, id := range ids {
		live := d.sets[id]
		if live == nil {
			continue
		}
		s := SetRules{ID: id, Known: live.index != nil, Err: live.err}
		var err error
		if s.Counts, err = d.countersOf(live.counters); err != nil {
			return nil, err
		}
		if s.Known {
			s.Rules = live.index.rules
		}
		all[id] = s
	}
	return all, nil
}
