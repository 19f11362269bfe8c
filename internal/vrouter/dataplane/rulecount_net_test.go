//go:build net

package dataplane

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

// countsOf are the counts of a set's rules, and of none.
func (b *bench) countsOf(s *Set) []uint64 {
	b.t.Helper()
	sets, err := b.dp.SetsWithRules([]SetID{s.ID})
	b.must(err)
	return sets[s.ID].Counts
}

func (b *bench) wantCountsOf(s *Set, want ...uint64) {
	b.t.Helper()
	if got := b.countsOf(s); len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
		b.t.Errorf("counts are %v, want %v", got, want)
	}
}

// TestNetRuleCounts: a rule counts what begins, once, and each packet that it
// refuses; not what is established or answers, nor what is decided anew. Counts
// outlive the process and identities that come, stay with their rules when a set
// takes the place of another, and go with the last set.
func TestNetRuleCounts(t *testing.T) {
	b := newBench(t)
	from := func(c connection) { b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, frameOf(mac2, c))) }
	port := func(n uint16) connection {
		c := webTCP
		c.dport = n
		return c
	}
	web, ssh := allow(6, 80, anyone, anyone), allow(6, 22, anyone, anyone)
	ssh.Deny = true
	set := someSet("first", web, ssh)
	policy := Policy{Identity: member, Sets: [policySets]SetID{Arriving: set.ID}}
	b.putPolicy(b.port1, policy, set)
	for range 3 { // one flow
		from(port(80))
	}
	b.fromPort(b.port1, frameOf(mac1, port(80).answer()))
	b.must(b.dp.PutRoute(host(vrf, netip.MustParseAddr("10.9.9.9")), NextHop{})) // all is decided anew
	from(port(80))
	b.fromPort(b.port1, frameOf(mac1, port(80).answer()))
	from(port(22))
	from(port(22))
	from(port(443))
	b.wantCountsOf(set, 1, 2, 1)
	fills, err := b.dp.MapFills()
	b.must(err)
	if !slices.Contains(fills, MapFill{"rule_count", 3, 262143}) {
		t.Errorf("maps are filled as %v, want 3 counters of rules", fills)
	}

	// An identity that the set has rules for has it written anew.
	b.must(b.dp.PutRoute(host(vrf, farAddr2), NextHop{Kind: Tunnel, Remote: remoteIP, Label: farLabel, Identity: NewIdentity(99, []uint32{1, 2, 3}, nil)}))
	b.wantCountsOf(set, 1, 2, 1)
	b.must(b.dp.Close())
	b.open()
	b.wantCountsOf(set, 1, 2, 1)
	from(port(22))
	b.wantCountsOf(set, 1, 3, 1) // though this process knows no rules
	b.putPolicy(b.port1, policy, set)
	b.wantCountsOf(set, 1, 3, 1)

	second := someSet("second", allow(17, 53, anyone, anyone), web, ssh)
	policy.Sets[Arriving] = second.ID
	b.putPolicy(b.port1, policy, second)
	b.wantCountsOf(second, 0, 1, 3, 1)
	from(port(22))
	b.wantCountsOf(second, 0, 1, 4, 1)
	b.wantCountsOf(set)
	policy.Sets[Arriving] = SetID{}
	b.putPolicy(b.port1, policy)
	if len(b.dp.counters.taken) != 0 {
		t.Errorf("counters of sets that are gone are taken: %v", b.dp.counters.taken)
	}
	policy.Sets[Arriving] = set.ID
	b.putPolicy(b.port1, policy, set)
	b.wantCountsOf(set, 0, 0, 0)
}

// TestNetRuleCountsHaveRoom: a set for whose rules there is no room is enforced, and
// not counted.
func TestNetRuleCountsHaveRoom(t *testing.T) {
	b := newBench(t)
	b.dp.counters.size = 8
	rules := make([]Rule, 9)
	for i := range rules {
		rules[i] = allow(6, uint16(80+i), anyone, anyone)
		rules[i].UUID = fmt.Sprint(i)
	}
	set := someSet("big", rules...)
	b.putPolicy(b.port1, Policy{Identity: member, Sets: [policySets]SetID{Arriving: set.ID}}, set)
	b.wants(webTCP, 0)
	b.wantCountsOf(set)
	c := webTCP
	c.dport = 22
	b.wants(c, DropPolicyGroup)
}
