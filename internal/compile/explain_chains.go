package compile

import (
	"cmp"
	"slices"
)

// explainChains tells of the ways through services that a network asks for, and
// what is wrong with them.
func (e *Explanation) explainChains(g *graph, i *Instance) {
	mine := reaches.get(g, i.Network)
	if mine == nil {
		return
	}
	n := networkChains.get(g, i.Network)
	for j := range mine.Chains {
		w := &mine.Chains[j]
		others := slices.Clone(w.To.Networks)
		for _, other := range asked(g, mine, &w.To) {
			others = append(others, other.Network)
		}
		for _, other := range sorted(others) {
			if other != i.Network {
				e.explainWay(g, w, other, n)
			}
		}
	}
	slices.SortStableFunc(e.Chains, func(a, b ExplainedChain) int { return cmp.Compare(a.Network.UUID, b.Network.UUID) })
	if n == nil {
		return
	}
	e.Problems = append(e.Problems, n.Problems...)
	for j := range n.Chains {
		c := &n.Chains[j]
		other := c.Ends[c.sideOf(i.Network).other()]
		if i.leadsPastServices(instances.get(g, other)) {
			e.problem(networkOrigin(g, other), "routes of a rule without services, of a logical router or of shared route targets lead past the services of another rule, which therefore passes nothing; leave them out, or send their traffic through the services too")
		}
		for _, id := range c.Services {
			if s := services.get(g, id); s != nil {
				e.Problems = slices.Concat(e.Problems, s.Problems, servicePolicyProblems(g, s))
			}
			if p := passages.get(g, id); p != nil {
				e.Problems = append(e.Problems, p.Problems...)
			}
		}
	}
}

func (e *Explanation) problem(about Origin, text string) {
	e.Problems = append(e.Problems, Problem{About: about, Text: text})
}

// explainWay adds a way that a network asks for to another one. Where the other
// one answers there is a chain; there is one at most.
func (e *Explanation) explainWay(g *graph, w *chainWish, other string, n *chainsOfNetwork) {
	x := ExplainedChain{Network: networkOrigin(g, other), Rules: []ExplainedRule{w.Rule}}
	if n != nil {
		for i := range n.Chains {
			c := &n.Chains[i]
			if c.Ends[w.At] == n.Network && c.Ends[w.At.other()] == other && slices.Equal(c.Services, w.Services) {
				x.Theirs = theirWishes(g, c, other)
			}
		}
	}
	for _, id := range w.Services {
		s := services.get(g, id)
		if s == nil {
			return
		}
		x.Services = append(x.Services, ExplainedService{
			Service: s.From, Instances: len(s.Instances), Left: originsOf(policiesAt(g, s, left)), Right: originsOf(policiesAt(g, s, right)),
		})
	}
	if w.At == right {
		slices.Reverse(x.Services)
	}
	e.Chains = append(e.Chains, x)
}

func originsOf(policies []*RoutingPolicy) []Origin {
	var list []Origin
	for _, p := range policies {
		list = append(list, p.From)
	}
	return list
}

// theirWishes are the rules by which a network asks for a chain.
func theirWishes(g *graph, c *Chain, network string) []ExplainedRule {
	var list []ExplainedRule
	if r := reaches.get(g, network); r != nil {
		for i := range r.Chains {
			if w := &r.Chains[i]; w.At == c.sideOf(network) && slices.Equal(w.Services, c.Services) {
				list = append(list, w.Rule)
			}
		}
	}
	return list
}

// hide takes out the names of what somebody may not see.
func (c *ExplainedChain) hide(hide func(*Origin), sees func(Origin) bool) {
	hide(&c.Network)
	for i := range c.Services {
		if !sees(c.Services[i].Service) {
			c.Services[i] = ExplainedService{Service: Origin{Kind: c.Services[i].Service.Kind}}
		}
		for _, policies := range [][]Origin{c.Services[i].Left, c.Services[i].Right} {
			for j := range policies {
				hide(&policies[j])
			}
		}
	}
	for _, rules := range [][]ExplainedRule{c.Rules, c.Theirs} {
		for i := range rules {
			hideRule(&rules[i], sees)
		}
	}
}
