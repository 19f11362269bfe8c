package compile

import (
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// A rule that sends traffic through services passes what it names between the
// ends of chains, and only where routes lead nowhere but through the services.
// Which networks these are depends on the network that has the policy. So such
// a rule is no part of the policy's blocks, and makes a block of its own for
// each network that is at the end of a chain.

// chainedRule is a rule that sends traffic through services, as it is for all
// networks.
type chainedRule struct {
	Index    int
	UUID     string
	Owner    string
	Place    int
	TwoWay   bool
	Services []Service
	Action   *Action
}

// chainPeers are whom a network reaches by the chains of a rule: those on the
// right where it is itself on the left, and the other way round.
type chainPeers [2][]chainPeer

type chainPeer struct {
	UUID   string
	Number uint32
	Name   string
}

// chainPeersOf are those of the rules of a policy that a network has, by index.
func chainPeersOf(g *graph, network, policy string) map[int]chainPeers {
	p, mine, n := linkPolicies.get(g, policy), reaches.get(g, network), networkChains.get(g, network)
	if p == nil || mine == nil || n == nil || len(n.Chains) == 0 {
		return nil
	}
	instance := instances.get(g, network)
	all := map[int]chainPeers{}
	for i := range p.Chains {
		r := &p.Chains[i]
		var peers chainPeers
		for j := range n.Chains {
			c := &n.Chains[j]
			at := c.sideOf(network)
			sides := [2]*linkSide{&r.Src, &r.Dst}
			other, of := reaches.get(g, c.Ends[at.other()]), identities.get(g, c.Ends[at.other()])
			if other == nil || of == nil || !slices.Equal(c.Services, r.Services) || !sides[at].has(network) || !sides[at.other()].means(mine, other) {
				continue
			}
			if !instance.leadsPastServices(instances.get(g, other.Network)) {
				peers[at] = append(peers[at], chainPeer{other.Network, of.Number, of.Name})
			}
		}
		all[r.Index] = peers
	}
	return all
}

// leadsPastServices tells whether an instance has the routes of another one also
// without services: by a link, or by route targets that users gave both.
func (i *Instance) leadsPastServices(other *Instance) bool {
	if i == nil || other == nil {
		return false
	}
	return slices.ContainsFunc(i.Links, func(l Link) bool { return l.Network == other.Network }) ||
		slices.ContainsFunc(i.Import, func(t Target) bool { return slices.Contains(other.Export, t) })
}

// blocksFor are the blocks of a policy for a network that has it.
func (p *policyBlocks) blocksFor(g *graph, network, policy string) []*Block {
	if len(p.chained) == 0 {
		return p.rules
	}
	peers := chainPeersOf(g, network, policy)
	var blocks []*Block
	for i, b := range p.rules {
		blocks = append(blocks, b)
		if i < len(p.chained) {
			if rules := p.chained[i].rules(peers[p.chained[i].Index]); len(rules) > 0 {
				blocks = append(blocks, newBlock(rules))
			}
		}
	}
	return blocks
}

// rules are what a rule says of a network and those that it reaches by chains.
func (r *chainedRule) rules(peers chainPeers) []Rule {
	var rules []Rule
	for at, list := range peers {
		if len(list) == 0 {
			continue
		}
		others := &Selector{}
		for _, p := range list {
			others.Networks = append(others.Networks, p.Number)
		}
		others.Networks = sorted(others.Networks)
		src, dst := own, others.seal()
		if side(at) == right {
			src, dst = dst, src
		}
		like := policyRule{written: &model.PolicyRuleType{RuleUUID: r.UUID}, owner: r.Owner, place: r.Place, services: r.Services, action: r.Action}
		if r.TwoWay {
			like.written.Direction = "<>"
		}
		rules = like.appendRules(rules, pair{src, dst})
	}
	return rules
}

// expandChained writes out a rule that sends traffic through services.
func (l *networkLinks) expandChained(list *AccessList, r *policyRule, peers chainPeers, to Reader, e Entry) {
	for at, others := range peers {
		for _, p := range others {
			if !to(model.Entity{Kind: model.KindVirtualNetwork, UUID: p.UUID}) {
				continue
			}
			src, dst := l.self(), &model.AddressType{VirtualNetwork: p.Name}
			if side(at) == right {
				src, dst = dst, src
			}
			if !r.writeOut(list, src, dst, e) {
				return
			}
		}
	}
}
