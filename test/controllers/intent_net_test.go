//go:build net

package controllers_test

import (
	"fmt"
	"math/rand/v2"
)

// What users want, drawn, and what it comes to for each connection: computed from
// their words alone, not from what the controllers make of them.

// intent is networks, tasks in them, and rules.
type intent struct {
	tasks []*wanted
	// policies connect two networks each.
	policies []pairPolicy
	groups   []group
	firewall []tagRule
}

// wanted is a task.
type wanted struct {
	network, node int
	groups        []int
	tier          int // 0 for no tag
}

// about is what a rule is about: a protocol, "any" for all, and a port, -1 for all.
type about struct {
	protocol string
	port     int
}

type pairPolicy struct {
	from, to int // networks
	rules    []pairRule
}

type pairRule struct {
	about
	both, deny bool
}

// group is a security group; in rules allow from members of a group, or from all
// for -1, out rules the same to them.
type group struct{ in, out []groupRule }

type groupRule struct {
	about
	members int
}

// tagRule is a firewall rule between tiers, 0 for any.
type tagRule struct {
	about
	from, to   int
	both, deny bool
}

// way is how a task tries another.
type way struct {
	protocol string
	port     int
}

var ways = []way{{"icmp", 0}, {"tcp", 7001}, {"tcp", 7002}, {"udp", 7001}, {"udp", 7002}}

func (a about) matches(w way) bool {
	return (a.protocol == "any" || a.protocol == w.protocol) && (a.port < 0 || a.port == w.port)
}

// reaches says whether a task is to reach another.
func (in *intent) reaches(from, to *wanted, w way) bool {
	return in.connects(from.network, to.network, w) && in.mayPass(from.groups, to.groups, w) && in.passesFirewall(from, to, w)
}

func (in *intent) connects(from, to int, w way) bool {
	if from == to {
		return true
	}
	for _, p := range in.policies {
		forth, back := p.from == from && p.to == to, p.from == to && p.to == from
		if !forth && !back {
			continue
		}
		for _, r := range p.rules {
			if r.matches(w) && (forth || r.both) {
				return !r.deny
			}
		}
		return false
	}
	return false
}

// mayPass: who is in no group is open, who is in some needs a rule of one of them.
func (in *intent) mayPass(from, to []int, w way) bool {
	allows := func(own, other []int, rules func(group) []groupRule) bool {
		for _, g := range own {
			for _, r := range rules(in.groups[g]) {
				if r.matches(w) && (r.members < 0 || contains(other, r.members)) {
					return true
				}
			}
		}
		return len(own) == 0
	}
	return allows(from, to, func(g group) []groupRule { return g.out }) && allows(to, from, func(g group) []groupRule { return g.in })
}

func contains(list []int, v int) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}

func (in *intent) passesFirewall(from, to *wanted, w way) bool {
	is := func(tier int, t *wanted) bool { return tier == 0 || tier == t.tier }
	for _, r := range in.firewall {
		if r.matches(w) && (is(r.from, from) && is(r.to, to) || r.both && is(r.from, to) && is(r.to, from)) {
			return !r.deny
		}
	}
	return len(in.firewall) == 0
}

// drawsAtMost is how often one is drawn anew that shows little.
const drawsAtMost = 1000

// cells are all ways between tasks, by what is wanted of them.
func (in *intent) cells() (open, closed []cell) {
	for from := range in.tasks {
		for to := range in.tasks {
			for _, w := range ways {
				switch {
				case from == to:
				case in.reaches(in.tasks[from], in.tasks[to], w):
					open = append(open, cell{from, to, w})
				default:
					closed = append(closed, cell{from, to, w})
				}
			}
		}
	}
	return open, closed
}

// balanced is whether there are enough ways of both kinds to show something.
func (in *intent) balanced() bool {
	open, closed := in.cells()
	return 20*len(open) >= len(closed) && 20*len(closed) >= len(open)
}

// drawn makes a balanced intent with so many tasks.
func drawn(r *rand.Rand, tasks, networks, nodes int) *intent {
	in := drawnOnce(r, tasks, networks, nodes)
	for n := 1; n < drawsAtMost && !in.balanced(); n++ {
		in = drawnOnce(r, tasks, networks, nodes)
	}
	return in
}

func drawnOnce(r *rand.Rand, tasks, networks, nodes int) *intent {
	in := &intent{}
	protocol := func() string { return []string{"any", "tcp", "udp", "icmp"}[r.IntN(4)] }
	what := func() about {
		a := about{protocol(), -1}
		if (a.protocol == "tcp" || a.protocol == "udp") && r.IntN(2) == 0 {
			a.port = 7001 + r.IntN(2)
		}
		return a
	}
	for range 3 {
		var g group
		for range 1 + r.IntN(2) {
			g.in = append(g.in, groupRule{what(), r.IntN(4) - 1})
			g.out = append(g.out, groupRule{what(), r.IntN(4) - 1})
		}
		if r.IntN(2) == 0 {
			g.out = append(g.out, groupRule{about{"any", -1}, -1})
		}
		in.groups = append(in.groups, g)
	}
	for from := range networks {
		for to := from + 1; to < networks; to++ {
			if r.IntN(3) == 0 {
				continue
			}
			p := pairPolicy{from: from, to: to}
			for range 1 + r.IntN(3) {
				// A port is that of one side: such a rule goes one way.
				rule := pairRule{about: what(), deny: r.IntN(3) == 0}
				rule.both = rule.port < 0 && r.IntN(2) == 0
				p.rules = append(p.rules, rule)
			}
			// Networks are connected by what passes.
			p.rules = append(p.rules, pairRule{about: about{protocol(), -1}, both: true})
			in.policies = append(in.policies, p)
		}
	}
	for range 2 {
		in.firewall = append(in.firewall, tagRule{about{protocol(), -1}, r.IntN(3), 1 + r.IntN(2), r.IntN(2) == 0, r.IntN(3) > 0})
	}
	in.firewall = append(in.firewall, tagRule{about{"any", -1}, 0, 0, true, false})
	for i := range tasks {
		t := &wanted{network: i % networks, node: r.IntN(nodes), tier: r.IntN(3)}
		t.regroup(r, len(in.groups))
		in.tasks = append(in.tasks, t)
	}
	return in
}

// regroup draws other groups for every second task, so that all stays balanced.
func (in *intent) regroup(r *rand.Rand) {
	for n := 0; n == 0 || n < drawsAtMost && !in.balanced(); n++ {
		for i := 1; i < len(in.tasks); i += 2 {
			in.tasks[i].regroup(r, len(in.groups))
		}
	}
}

func (t *wanted) regroup(r *rand.Rand, groups int) {
	t.groups = nil
	for g := range groups {
		if r.IntN(4) == 0 {
			t.groups = append(t.groups, g)
		}
	}
}

func (t *wanted) String() string {
	return fmt.Sprintf("network %d, node %d, groups %v, tier %d", t.network, t.node+1, t.groups, t.tier)
}
