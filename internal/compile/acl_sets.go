package compile

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// attachedPolicy is a policy that a network has.
type attachedPolicy struct {
	// networkPolicy is nil until it was read, and for one that is on its way.
	*networkPolicy
	uuid         string
	major, minor int64
	timed        bool
	// peers are those of its chained rules, by index.
	peers map[int]chainPeers
}

func (a *attachedPolicy) entity() model.Entity {
	return model.Entity{Kind: model.KindNetworkPolicy, UUID: a.uuid}
}

// attachedPolicies are a network's, by sequence; without one they come first.
func attachedPolicies(g *graph, network string) []attachedPolicy {
	var list []attachedPolicy
	for _, r := range g.References(network, model.KindNetworkPolicy) {
		attr, err := model.RefAttr[model.VirtualNetworkPolicyType](r)
		if err != nil { // another version wrote it
			attr = model.VirtualNetworkPolicyType{}
		}
		a := attachedPolicy{uuid: r.To.UUID, timed: attr.Timer != nil}
		if attr.Sequence != nil {
			a.major, a.minor = model.ValueOr(attr.Sequence.Major, 0), model.ValueOr(attr.Sequence.Minor, 0)
		}
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b attachedPolicy) int {
		return cmp.Or(cmp.Compare(a.major, b.major), cmp.Compare(a.minor, b.minor), strings.Compare(a.uuid, b.uuid))
	})
	return list
}

// networkLinks is what of a network makes a difference to its rules.
type networkLinks struct {
	vn     *model.VirtualNetwork
	number uint32
	// static policies say what passes; timed ones, with a timer, only say what
	// else is done with it. Both are in order.
	static, timed []attachedPolicy
	isProvider    bool
	// providers are the provider networks that the network is on.
	providers []*model.VirtualNetwork
	// snat is set for a network that reaches the fabric by SNAT.
	snat   bool
	fabric *model.VirtualNetwork
	// strict: what no rule is about is refused.
	strict bool
}

// fabricNetwork is the network that the nodes' own addresses are in.
const fabricNetwork = "default-domain:default-project:ip-fabric"

// readLinks reads them, without what the policies say; nil when the network
// does not exist or has no number.
func readLinks(g *graph, network string) *networkLinks {
	vn, ok := get[*model.VirtualNetwork](g, model.KindVirtualNetwork, network)
	if !ok || networkNumber(vn) == 0 {
		return nil
	}
	l := &networkLinks{
		vn: vn, number: networkNumber(vn),
		isProvider: model.ValueOr(vn.IsProviderNetwork, false), snat: model.ValueOr(vn.FabricSNAT, false),
		strict: systemUnit.get(g, "").strict,
	}
	for _, a := range attachedPolicies(g, network) {
		if a.timed {
			l.timed = append(l.timed, a)
		} else {
			l.static = append(l.static, a)
		}
	}
	if !l.isProvider { // the references of a provider are the networks on it
		for _, r := range g.References(network, model.KindVirtualNetwork) {
			if p, ok := get[*model.VirtualNetwork](g, model.KindVirtualNetwork, r.To.UUID); ok {
				l.providers = append(l.providers, p)
			}
		}
	}
	if l.snat {
		l.fabric, _ = byName[*model.VirtualNetwork](g, model.KindVirtualNetwork, fabricNetwork)
	}
	return l
}

// readPolicies adds what the policies say.
func (l *networkLinks) readPolicies(g *graph) {
	for _, list := range [][]attachedPolicy{l.static, l.timed} {
		for i := range list {
			list[i].networkPolicy = readPolicy(g, list[i].uuid)
			list[i].peers = chainPeersOf(g, l.vn.UUID, list[i].uuid)
		}
	}
}

// hasRules tells whether the network's traffic is asked about at all.
func (l *networkLinks) hasRules() bool {
	return len(l.static) > 0 || l.isProvider || len(l.providers) > 0 || l.snat
}

// NetworkSets are the policy sets of a network.
type NetworkSets struct {
	// Static decides what passes; nil when nothing is asked, and isolation
	// comes from routes alone.
	Static *Set
	// Timed says what else is done with traffic, by policies with a timer. Its
	// verdicts refuse nothing.
	Timed *Set
	Faults
}

var networkSetUnit = &unit[NetworkSets]{
	name: "network-sets", layer: 4, of: model.KindVirtualNetwork, compute: networkSets,
	same: func(a, b *NetworkSets) bool {
		return sameSet(a.Static, b.Static) && sameSet(a.Timed, b.Timed) && a.Faults.equal(&b.Faults)
	},
}

// NetworkSetsOf are the sets of a network; nil when there is no such network.
func NetworkSetsOf(v *model.View, network string) *NetworkSets {
	return networkSetUnit.get(graphOf(v), network)
}

func networkSets(g *graph, network string) *NetworkSets {
	l := readLinks(g, network)
	if l == nil {
		return nil
	}
	sets := &NetworkSets{}
	set := func(blocks []*Block) *Set {
		s, err := newSet(blocks...)
		if err != nil {
			sets.problem("virtual-network %s: %v", model.FQString(l.vn.FQName), err)
		}
		return s
	}
	policies := func(list []attachedPolicy) (rules, denies []*Block) {
		for _, a := range list {
			if p := policyUnit.get(g, a.uuid); p != nil {
				rules, denies = append(rules, p.blocksFor(g, network, a.uuid)...), append(denies, p.denies)
				sets.addFaults(p.Faults)
			}
		}
		return rules, denies
	}
	if l.hasRules() {
		rules, denies := policies(l.static)
		if l.strict {
			denies = nil // the last rule says it of all
		}
		sets.Static = set(slices.Concat(rules, l.before(), denies, l.after()))
	}
	if len(l.timed) > 0 {
		rules, _ := policies(l.timed)
		sets.Timed = set(rules)
	}
	return sets
}

// policyBlocks are what a policy adds to the sets of its networks.
type policyBlocks struct {
	// rules are its own, in parts: between each two is a rule of chained. denies
	// is what is implied after the rules of all policies.
	rules   []*Block
	chained []chainedRule
	denies  *Block
	Faults
}

var policyUnit = &unit[policyBlocks]{
	name: "network-policy", layer: 0, compute: compilePolicy,
	same: func(a, b *policyBlocks) bool {
		return slices.EqualFunc(a.rules, b.rules, sameBlock) && reflect.DeepEqual(a.chained, b.chained) &&
			sameBlock(a.denies, b.denies) && a.Faults.equal(&b.Faults)
	},
}

func compilePolicy(g *graph, uuid string) *policyBlocks {
	p := readPolicy(g, uuid)
	if p == nil {
		return nil
	}
	blocks := &policyBlocks{Faults: p.Faults}
	var rules, denies []Rule
	for i := range p.Rules {
		r := &p.Rules[i]
		for _, x := range r.pairs() {
			for _, rule := range between(x.src, x.dst, deny) {
				rule.Owner = r.owner
				denies = append(denies, rule)
			}
			if !r.chained {
				rules = r.appendRules(rules, x)
			}
		}
		if r.chained {
			blocks.rules, rules = append(blocks.rules, newBlock(rules)), nil
			blocks.chained = append(blocks.chained, chainedRule{Index: i, UUID: r.written.RuleUUID, Owner: r.owner, Place: r.place, TwoWay: r.isTwoWay(), Services: r.services, Action: r.action})
		}
	}
	blocks.rules, blocks.denies = append(blocks.rules, newBlock(rules)), newBlock(denies)
	return blocks
}

// appendRules appends what a rule says of two sides.
func (r *policyRule) appendRules(rules []Rule, x pair) []Rule {
	for _, s := range r.services {
		rule := Rule{UUID: r.written.RuleUUID, Owner: r.owner, Place: r.place, Src: x.src, Dst: x.dst, Service: s, Action: r.action}
		rules = append(rules, rule)
		if r.isTwoWay() {
			rule.Src, rule.Dst, rule.Service = x.dst, x.src, s.reverse()
			rules = append(rules, rule)
		}
	}
	return rules
}

func (r *policyRule) isTwoWay() bool { return r.written.Direction == "<>" }

// pair is two sides of traffic.
type pair struct{ src, dst *Selector }

// pairs are the sides of a rule as they concern the network of a port.
func (r *policyRule) pairs() []pair {
	switch {
	case r.src.any:
		return []pair{{anyone, r.dst.all}}
	case r.dst.any:
		return []pair{{r.src.all, anyone}}
	}
	src, dst := r.src.here(), r.dst.here()
	list := []pair{{src, r.dst.all}}
	if src.digest != r.src.all.digest {
		list = append(list, pair{r.src.all, dst})
	}
	if !r.src.others.isEmpty() && !r.dst.others.isEmpty() {
		list = append(list, pair{r.src.others, r.dst.others})
	}
	return list
}

// here is the part of a side that is the network of the port.
func (s *policySide) here() *Selector {
	if s.own {
		return own
	}
	return (&Selector{OwnOf: s.all.Networks}).seal()
}

// before are the blocks between the rules of policies and what these imply.
func (l *networkLinks) before() []*Block {
	rules := []Rule{implied(own, own, pass)}
	if l.snat {
		if l.fabric != nil {
			rules = append(rules, between(own, networkSelector(l.fabric), pass)...)
		}
		rules = append(rules, between(own, anyone, deny)...)
	}
	return []*Block{newBlock(rules)}
}

// after are the blocks at the end.
func (l *networkLinks) after() []*Block {
	if l.strict {
		return []*Block{newBlock([]Rule{implied(anyone, anyone, deny)})}
	}
	var rules []Rule
	if l.isProvider {
		rules = between(own, anyone, deny)
	}
	for _, provider := range l.providers {
		rules = append(rules, between(own, networkSelector(provider), deny)...)
	}
	return []*Block{newBlock(append(rules, implied(anyone, anyone, pass)))}
}

// between are the implied rules for both directions.
func between(a, b *Selector, action *Action) []Rule {
	return []Rule{implied(a, b, action), implied(b, a, action)}
}

func implied(src, dst *Selector, action *Action) Rule {
	uuid := ImplicitAllow
	if action.Deny {
		uuid = ImplicitDeny
	}
	return Rule{UUID: uuid, Src: src, Dst: dst, Service: anyService(), Action: action}
}

func networkSelector(vn *model.VirtualNetwork) *Selector {
	s := &Selector{}
	if n := networkNumber(vn); n != 0 {
		s.Networks = []uint32{n}
	}
	return s.seal()
}
