package compile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Chains lead traffic between two networks through services:
//
//	network-policy --linkPolicies--> rules with services
//	    a network's policies --reaches--> which ways through services it asks for
//	        two networks that ask for the same way --networkChains--> a chain
//	            its routes in both networks --> Instance.Chains
//	            between two services --passages--> Passages of each
//
// The network on the left is reached from the right through the same services.
// What the routes are is told in passages.go.

// chainRule sends traffic between the networks of its two sides through
// services.
type chainRule struct {
	linkRule
	// Index is that of the rule in the policy.
	Index int
	// Services are UUIDs, from the source to the destination.
	Services []string
}

// chainWish is a way through services that a network asks for.
type chainWish struct {
	// At is the side on which the network is, To whom it wants to reach.
	At side
	To linkSide
	// Services are UUIDs, from left to right.
	Services []string
	Rule     ExplainedRule
}

// Chain is a way between two networks through services, which both ask for.
type Chain struct {
	// Ends are the UUIDs of the networks, left and right.
	Ends [2]string
	// Services are UUIDs, from left to right.
	Services []string
}

func (c *Chain) compare(o *Chain) int {
	return cmp.Or(cmp.Compare(c.Ends[left], o.Ends[left]), cmp.Compare(c.Ends[right], o.Ends[right]), slices.Compare(c.Services, o.Services))
}

// sideOf is the side on which a network is.
func (c *Chain) sideOf(network string) side {
	if c.Ends[left] == network {
		return left
	}
	return right
}

// hasEnds tells whether a chain is between the same networks, either way round.
func (c *Chain) hasEnds(o Chain) bool {
	return c.Ends == o.Ends || c.Ends[left] == o.Ends[right] && c.Ends[right] == o.Ends[left]
}

// chain adds a rule that sends traffic through services. They have to be of
// the policy's project: whoever may write a policy of his own must not send
// traffic into the containers of others.
func (p *linkPolicy) chain(g *graph, policy *model.NetworkPolicy, index int, r linkRule, names []string) {
	c := chainRule{linkRule: r, Index: index}
	for _, name := range names {
		o, ok := byName[*model.ServiceInstance](g, model.KindServiceInstance, name)
		switch {
		// Its name alone says so: whether others have a service is not for all who
		// read the policy.
		case !isBeside(&policy.Meta, name), ok && o.ParentUUID != policy.ParentUUID:
			p.problem(r, "sends traffic through service-instance %s, which is of another project; make one in the project of the policy", name)
			return
		case !ok:
			p.Problems = append(p.Problems, Problem{
				About: p.From, Text: "rule " + r.UUID + " sends traffic through service-instance " + name + ", which does not exist (yet)", Missing: true,
			})
			return
		case slices.Contains(c.Services, o.UUID):
			p.problem(r, "sends traffic through service-instance %s twice, in a circle; name it once", name)
			return
		}
		c.Services = append(c.Services, o.UUID)
	}
	p.Chains = append(p.Chains, c)
}

// isBeside tells whether a full name is one of a child of an object's parent.
func isBeside(m *model.Meta, name string) bool {
	last, beside := strings.CutPrefix(name, model.FQString(m.FQName[:max(len(m.FQName)-1, 0)])+":")
	return beside && !strings.Contains(last, ":")
}

func (p *linkPolicy) problem(r linkRule, format string, args ...any) {
	p.Problems = append(p.Problems, Problem{About: p.From, Text: "rule " + r.UUID + " " + fmt.Sprintf(format, args...)})
}

// wishesOf are the ways through services that the policy of a network asks for.
func (p *linkPolicy) wishesOf(network string) []chainWish {
	var list []chainWish
	for i := range p.Chains {
		r := &p.Chains[i]
		for at, mine := range []*linkSide{&r.Src, &r.Dst} {
			if mine.has(network) {
				to := []*linkSide{&r.Dst, &r.Src}[at]
				list = append(list, chainWish{At: side(at), To: *to, Services: r.Services, Rule: ExplainedRule{p.From, r.UUID}})
			}
		}
	}
	return list
}

// means tells whether a side of a rule of one network's policy means another
// network.
func (s *linkSide) means(of, other *reach) bool {
	_, named := slices.BinarySearch(s.Networks, other.Network)
	return named || s.Any && of.Project == other.Project
}

// answers tells whether two networks ask for the same way to each other.
func (w *chainWish) answers(of *reach, other *chainWish, others *reach) bool {
	return w.At != other.At && slices.Equal(w.Services, other.Services) && w.To.means(of, others) && other.To.means(others, of)
}

// chainsOfNetwork are the chains that end at a network, sorted.
type chainsOfNetwork struct {
	Network string
	Chains  []Chain
	// Problems are why ways that both sides ask for are none.
	Problems []Problem
}

// networkChains are offered under each of their services, by the network on
// the left.
var networkChains = &unit[chainsOfNetwork]{
	name: "chains", layer: 2, of: model.KindVirtualNetwork, compute: chainsOf,
	offers: func(n *chainsOfNetwork) []string {
		var keys []string
		for i := range n.Chains {
			if n.Chains[i].Ends[left] == n.Network {
				keys = append(keys, n.Chains[i].Services...)
			}
		}
		return keys
	},
}

func chainsOf(g *graph, network string) *chainsOfNetwork {
	mine := reaches.get(g, network)
	if mine == nil || len(mine.Chains) == 0 {
		return nil
	}
	n := &chainsOfNetwork{Network: network}
	rules := map[string]Origin{} // of each way, by the services
	var ways []Chain
	for i := range mine.Chains {
		w := &mine.Chains[i]
		for _, other := range asked(g, mine, &w.To) {
			if slices.ContainsFunc(other.Chains, func(o chainWish) bool { return w.answers(mine, &o, other) }) {
				c := Chain{Services: w.Services}
				c.Ends[w.At], c.Ends[w.At.other()] = network, other.Network
				ways = append(ways, c)
				rules[strings.Join(c.Services, ",")] = w.Rule.Policy
			}
		}
	}
	slices.SortFunc(ways, func(a, b Chain) int { return a.compare(&b) })
	ways = slices.CompactFunc(ways, func(a, b Chain) bool { return a.compare(&b) == 0 })
	for i := range ways {
		n.add(g, &ways[i], rules[strings.Join(ways[i].Services, ",")])
	}
	return n
}

// asked are the networks that a side of a rule means and that have policies.
func asked(g *graph, mine *reach, s *linkSide) []*reach {
	var list []*reach
	for _, named := range s.Networks {
		if r := reaches.get(g, named); r != nil && named != mine.Network {
			list = append(list, r)
		}
	}
	if s.Any {
		for r := range reaches.offered(g, mine.Project) {
			if _, named := slices.BinarySearch(s.Networks, r.Network); !named && r.Network != mine.Network {
				list = append(list, r)
			}
		}
	}
	return list
}

// add adds a chain, if traffic can take it. Routes go by the destination: of
// several ways between two networks there can be one, and it must be the same
// one for both.
func (n *chainsOfNetwork) add(g *graph, c *Chain, policy Origin) {
	problem := func(text string) { n.Problems = append(n.Problems, Problem{About: policy, Text: text}) }
	if slices.ContainsFunc(n.Chains, c.hasEnds) {
		problem("there is more than one way through services between the same two networks; traffic takes one of them, leave one in the policies")
		return
	}
	for i, id := range c.Services {
		s := services.get(g, id)
		if s == nil {
			return // it goes, and its rule with it
		}
		if s.NAT && i < len(c.Services)-1 {
			problem("service-instance " + s.From.Name + " translates addresses, and the answers do not go through the services behind it; put it last")
			return
		}
	}
	n.Chains = append(n.Chains, *c)
}
