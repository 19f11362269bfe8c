package compile

import (
	"fmt"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// The rules between networks are made of each policy once, whatever networks
// have it:
//
//	network-policy --readPolicy--> networkPolicy: names resolved, ports read
//	                 |-- policyUnit --> blocks --> the sets of networks
//	                 `-- NetworkLists --> access lists, expanded
//
// A network gets of a policy only what concerns it: rules with itself, "local"
// or "any" on one side, or without networks on both. In sets this is said by
// selectors that look at the network of the port.
//
// A rule that sends traffic through services is for each network by itself, see
// acl_chains.go.
//
// After the rules come, as in OpenContrail with logical routers: pass within
// the network; pass to the fabric and nothing else, with SNAT; for each rule,
// deny between its two sides; deny from and to provider networks; pass all
// else, which is traffic of routes that no policy made. A policy links
// networks in both directions, so what its rules do not allow is denied in
// both, also where they only allow one. Without logical routers, see
// TuneLogicalRouters, the last rule denies all, and those before it need not be
// there.

// networkPolicy is a network-policy with its names resolved, the same for all
// networks that have it.
type networkPolicy struct {
	Name  string
	Rules []policyRule
	Faults
}

// Faults are what keeps rules from acting as they were written.
type Faults struct {
	// Problems are for whoever may read what the rules belong to.
	Problems []string
	// Missing are names that nothing has. Only operators are told: that
	// something does not exist is news of other tenants.
	Missing []string
}

func (f *Faults) problem(format string, args ...any) {
	f.Problems = append(f.Problems, fmt.Sprintf(format, args...))
}

func (f *Faults) missing(of string, kind model.Kind, name string) {
	f.Missing = append(f.Missing, fmt.Sprintf("%s: %s %s does not exist", of, kind, name))
}

func (f *Faults) equal(other *Faults) bool {
	return slices.Equal(f.Problems, other.Problems) && slices.Equal(f.Missing, other.Missing)
}

// addFaults adds the faults of something that these rules are made of.
func (f *Faults) addFaults(others Faults) {
	f.Problems = append(f.Problems, others.Problems...)
	f.Missing = append(f.Missing, others.Missing...)
}

type policyRule struct {
	written *model.PolicyRuleType
	// owner and place are those of Rule.
	owner    string
	place    int
	services []Service
	src, dst policySide
	action   *Action
	// chained rules send traffic through services: they only pass what has no
	// other way, see chainPeers.
	chained bool
}

// policySide is one side of a rule.
type policySide struct {
	// addresses are what was written, lists and other policies taken apart.
	addresses []ruleAddress
	any, own  bool
	// all of the side; others are its prefixes and groups.
	all, others *Selector
}

// ruleAddress is one address of a rule, with the number of its network or
// group.
type ruleAddress struct {
	model.AddressType
	number uint32
	// found is what was not named, but found; zero for what is as written.
	found model.Entity
}

// Reader tells whether whoever asks may read all of an object.
type Reader func(model.Entity) bool

// isShown tells whether an address may be shown to somebody.
func (a *ruleAddress) isShown(to Reader) bool {
	return a.found == model.Entity{} || to(a.found)
}

func (a *ruleAddress) isAny() bool {
	return a.VirtualNetwork == anyNetwork || a.SecurityGroup == anyNetwork
}

// readPolicy reads a policy; nil when there is none.
func readPolicy(g *graph, uuid string) *networkPolicy {
	o, ok := get[*model.NetworkPolicy](g, model.KindNetworkPolicy, uuid)
	if !ok {
		return nil
	}
	p := &networkPolicy{Name: model.FQString(o.FQName)}
	if o.NetworkPolicyEntries == nil {
		return p
	}
	for i := range o.NetworkPolicyEntries.PolicyRule {
		p.read(g, i, &o.NetworkPolicyEntries.PolicyRule[i])
	}
	return p
}

// owner is how its rules name the policy.
func (p *networkPolicy) owner() string { return "network-policy " + p.Name }

// read reads a rule. One that cannot be understood allows nothing, and denies
// all between its sides.
func (p *networkPolicy) read(g *graph, i int, written *model.PolicyRuleType) {
	r := policyRule{written: written, owner: p.owner(), place: i + 1, action: actionOf(written.ActionList)}
	of := fmt.Sprintf("network-policy %s: rule %d", p.Name, i+1)
	missing := func(kind model.Kind, name string) { p.missing(of, kind, name) }
	r.src = readSide(g, written.SrcAddresses, missing)
	r.dst = readSide(g, written.DstAddresses, missing)
	r.chained = written.ActionList != nil && len(written.ActionList.ApplyService) > 0
	var err error
	r.services, err = parseServices(ParseFamily(written.Ethertype), written.Protocol, written.SrcPorts, written.DstPorts)
	if err != nil {
		p.problem("%s: %v", of, err)
		if r.action.Deny {
			r.services = []Service{anyService()}
		}
	}
	p.Rules = append(p.Rules, r)
}

// readSide resolves the names of one side. What does not exist is nobody: the
// rule acts when it does.
func readSide(g *graph, list []model.AddressType, missing func(model.Kind, string)) policySide {
	var side policySide
	for i := range list {
		side.add(g, &list[i], missing)
	}
	all, others := &Selector{Any: side.any, Own: side.own}, &Selector{}
	for i := range side.addresses {
		a := &side.addresses[i]
		switch {
		case a.isAny() || a.VirtualNetwork == localNetwork:
		case a.number != 0 && a.VirtualNetwork != "":
			all.Networks = append(all.Networks, a.number)
		case a.number != 0:
			others.Groups = append(others.Groups, a.number)
		case a.Subnet != nil:
			if prefix, ok := ParsePrefix(a.Subnet); ok {
				others.Prefixes = append(others.Prefixes, prefix)
			}
		}
	}
	side.others = others.seal()
	all.Prefixes, all.Groups = others.Prefixes, others.Groups
	side.all = all.seal()
	return side
}

// add takes one written address apart.
func (s *policySide) add(g *graph, a *model.AddressType, missing func(model.Kind, string)) {
	switch {
	case a.NetworkPolicy != "":
		policy, ok := byName[*model.NetworkPolicy](g, model.KindNetworkPolicy, a.NetworkPolicy)
		if !ok {
			missing(model.KindNetworkPolicy, a.NetworkPolicy)
			return
		}
		for _, r := range g.BackReferences(policy.UUID, model.KindVirtualNetwork) {
			if vn, ok := get[*model.VirtualNetwork](g, model.KindVirtualNetwork, r.From.UUID); ok {
				found := model.AddressType{VirtualNetwork: model.FQString(vn.FQName)}
				s.addresses = append(s.addresses, ruleAddress{found, networkNumber(vn), r.From})
			}
		}
	case a.SecurityGroup == anyNetwork || a.VirtualNetwork == anyNetwork:
		s.any = true
		s.addresses = append(s.addresses, ruleAddress{AddressType: *a})
	case a.SecurityGroup != "":
		group, ok := byName[*model.SecurityGroup](g, model.KindSecurityGroup, a.SecurityGroup)
		if !ok {
			missing(model.KindSecurityGroup, a.SecurityGroup)
			return
		}
		s.addresses = append(s.addresses, ruleAddress{AddressType: *a, number: groupNumber(group)})
	case a.VirtualNetwork == localNetwork:
		s.own = true
		s.addresses = append(s.addresses, ruleAddress{AddressType: *a})
	case a.VirtualNetwork != "":
		named := ruleAddress{AddressType: *a}
		if vn, ok := byName[*model.VirtualNetwork](g, model.KindVirtualNetwork, a.VirtualNetwork); ok {
			named.number = networkNumber(vn)
		} else {
			missing(model.KindVirtualNetwork, a.VirtualNetwork)
		}
		s.addresses = append(s.addresses, named)
	default:
		for _, subnet := range prefixesOf(a) {
			s.addresses = append(s.addresses, ruleAddress{AddressType: model.AddressType{Subnet: subnet}})
		}
	}
}

// prefixesOf are the prefixes of an address, one by one.
func prefixesOf(a *model.AddressType) []*model.SubnetType {
	var list []*model.SubnetType
	if a.Subnet != nil {
		list = append(list, a.Subnet)
	}
	for i := range a.SubnetList {
		list = append(list, &a.SubnetList[i])
	}
	return list
}
