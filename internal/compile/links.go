package compile

import (
	"cmp"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Policies link networks in three steps:
//
//	network-policy --linkPolicies--> which networks its rules connect
//	    a network's policies --reaches--> which networks it asks for
//	        two networks that ask for each other --> a link in both instances
//
// A rule that denies connects nothing, and neither do prefixes and groups. One
// that sends traffic through services makes no link, but a chain.

// Link says that two networks' policies want each to reach the other.
type Link struct {
	// Network is the UUID of the other one, Target its own route target.
	Network string
	Target  Target
}

// linkPolicy is what a network-policy connects.
type linkPolicy struct {
	From     Origin
	Rules    []linkRule
	Chains   []chainRule
	Problems []Problem
}

// linkRule connects the networks of its two sides.
type linkRule struct {
	UUID     string
	Src, Dst linkSide
}

// linkSide are the networks that a side of a rule means.
type linkSide struct {
	// Any is all networks of the project of the one that has the policy, Local
	// that one itself.
	Any, Local bool
	Networks   []string // sorted
}

func (s *linkSide) has(network string) bool {
	if s.Any || s.Local {
		return true
	}
	_, has := slices.BinarySearch(s.Networks, network)
	return has
}

var linkPolicies = &unit[linkPolicy]{name: "link-policy", layer: 0, compute: linkPolicyOf}

func linkPolicyOf(g *graph, id string) *linkPolicy {
	o, ok := get[*model.NetworkPolicy](g, model.KindNetworkPolicy, id)
	if !ok {
		return nil
	}
	p := &linkPolicy{From: originOf(o)}
	if o.NetworkPolicyEntries == nil {
		return p
	}
	for i := range o.NetworkPolicyEntries.PolicyRule {
		rule := &o.NetworkPolicyEntries.PolicyRule[i]
		src, dst := p.side(g, rule, rule.SrcAddresses), p.side(g, rule, rule.DstAddresses)
		r := linkRule{UUID: rule.RuleUUID, Src: src, Dst: dst}
		switch a := rule.ActionList; {
		case a == nil:
			p.Rules = append(p.Rules, r)
		case a.SimpleAction == "deny":
		case len(a.ApplyService) > 0:
			p.chain(g, o, i, r, a.ApplyService)
		default:
			p.Rules = append(p.Rules, r)
		}
	}
	return p
}

func (p *linkPolicy) side(g *graph, rule *model.PolicyRuleType, addresses []model.AddressType) linkSide {
	var s linkSide
	for i := range addresses {
		a := &addresses[i]
		switch a.VirtualNetwork {
		case "":
		case anyNetwork:
			s.Any = true
		case localNetwork:
			s.Local = true
		default:
			if e, ok := g.EntityByName(model.KindVirtualNetwork, a.VirtualNetwork); ok {
				s.Networks = append(s.Networks, e.UUID)
			} else {
				p.missing(rule, model.KindVirtualNetwork, a.VirtualNetwork)
			}
		}
		if a.NetworkPolicy == "" {
			continue
		}
		e, ok := g.EntityByName(model.KindNetworkPolicy, a.NetworkPolicy)
		if !ok {
			p.missing(rule, model.KindNetworkPolicy, a.NetworkPolicy)
			continue
		}
		for _, r := range g.BackReferences(e.UUID, model.KindVirtualNetwork) {
			s.Networks = append(s.Networks, r.From.UUID)
		}
	}
	s.Networks = sorted(s.Networks)
	return s
}

func (p *linkPolicy) missing(rule *model.PolicyRuleType, kind model.Kind, name string) {
	p.Problems = append(p.Problems, Problem{
		About: p.From, Text: "rule " + rule.RuleUUID + " names " + string(kind) + " " + name + ", which does not exist (yet)", Missing: true,
	})
}

// reach is which networks the policies of a network ask for.
type reach struct {
	Network string
	Project string
	Target  Target // its own
	// All of the project; beside them those that are named, sorted.
	All   bool
	Named []string
	// Chains are the ways through services that it asks for.
	Chains []chainWish
}

func (r *reach) has(other *reach) bool {
	if r.All && r.Project == other.Project {
		return true
	}
	_, has := slices.BinarySearch(r.Named, other.Network)
	return has
}

// reaches are offered under the project: those are the ones that can answer to
// a policy with all of it.
var reaches = &unit[reach]{
	name: "reach", layer: 1, of: model.KindVirtualNetwork, compute: reachOf,
	offers: func(r *reach) []string { return []string{r.Project} },
}

func reachOf(g *graph, network string) *reach {
	policies := policiesOf(g, network)
	if len(policies) == 0 {
		return nil
	}
	of := identities.get(g, network)
	if of == nil || of.Number == 0 {
		return nil
	}
	r := &reach{Network: network, Project: of.Project, Target: of.target(g)}
	add := func(s *linkSide) {
		r.All = r.All || s.Any
		r.Named = append(r.Named, s.Networks...)
	}
	for _, p := range policies {
		for i := range p.Rules {
			rule := &p.Rules[i]
			if rule.Src.has(network) {
				add(&rule.Dst)
			}
			if rule.Dst.has(network) {
				add(&rule.Src)
			}
		}
		r.Chains = append(r.Chains, p.wishesOf(network)...)
	}
	r.Named = slices.Clip(sorted(r.Named))
	return r
}

func policiesOf(g *graph, network string) []*linkPolicy {
	return linkPolicies.getAll(g, g.References(network, model.KindNetworkPolicy))
}

// linksOf are the networks that ask for a network and that it asks for, sorted.
func linksOf(g *graph, network string) []Link {
	mine := reaches.get(g, network)
	if mine == nil {
		return nil
	}
	var links []Link
	link := func(other *reach) {
		if other != nil && other.Network != network && other.has(mine) {
			links = append(links, Link{other.Network, other.Target})
		}
	}
	for _, named := range mine.Named {
		link(reaches.get(g, named))
	}
	if mine.All {
		for other := range reaches.offered(g, mine.Project) {
			if _, named := slices.BinarySearch(mine.Named, other.Network); !named {
				link(other)
			}
		}
		slices.SortFunc(links, func(a, b Link) int { return cmp.Compare(a.Network, b.Network) })
	}
	return slices.Clip(links)
}

// Linked are the networks with which policies link a network, and itself where
// a chain begins at it, sorted: those whose instances may refer to its own.
func Linked(v *model.View, network string) []string {
	g := graphOf(v)
	var list []string
	for _, l := range linksOf(g, network) {
		list = append(list, l.Network)
	}
	if n := networkChains.get(g, network); n != nil && len(n.Chains) > 0 {
		list = append(list, network)
	}
	return sorted(list)
}
