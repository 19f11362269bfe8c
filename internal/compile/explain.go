package compile

import (
	"cmp"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Explanation tells what a network is compiled to, and from what. It is the
// answer of GET /compile.
type Explanation struct {
	Network    Origin            `json:"network"`
	Number     uint32            `json:"number"`
	VXLAN      uint32            `json:"vxlan"`
	Layer2     bool              `json:"layer2"`
	Layer3     bool              `json:"layer3"`
	External   bool              `json:"router_external"`
	Provider   bool              `json:"provider"`
	FabricSNAT bool              `json:"fabric_snat"`
	RPF        bool              `json:"rpf"`
	Prefixes   bool              `json:"evpn_prefixes"`
	RouterVNIs []uint32          `json:"router_vxlan,omitempty"`
	Targets    []ExplainedTarget `json:"targets"`
	Links      []ExplainedLink   `json:"links"`
	Unanswered []ExplainedLink   `json:"unanswered"`
	Chains     []ExplainedChain  `json:"chains"`
	Routes     []ExplainedRoutes `json:"routes"`
	Aggregates []ExplainedRoutes `json:"aggregates"`
	Policies   []*RoutingPolicy  `json:"routing_policies"`
	// Instances are those that clients made of the network.
	Instances []ExplainedInstance `json:"routing_instances"`
	Problems  []Problem           `json:"problems"`
}

// ExplainedInstance is a routing instance that a client made.
type ExplainedInstance struct {
	Instance Origin   `json:"instance"`
	Number   uint32   `json:"number"`
	Import   []Target `json:"import"`
	Export   []Target `json:"export"`
	// Connected are the instances with which references connect it.
	Connected []Origin `json:"connected"`
	// Interfaces is how many are in it, of those that one may see.
	Interfaces int `json:"interfaces"`

	ports []string
}

// ExplainedTarget is a route target with one of the objects that it is from.
type ExplainedTarget struct {
	Target Target `json:"target"`
	Import bool   `json:"import"`
	Export bool   `json:"export"`
	From   Origin `json:"from"`
	// Through is the network whose own target it is, where From connects the two.
	Through *Origin `json:"through,omitempty"`
}

// ExplainedLink is a network that this one is linked with, or asks for in
// vain, with the rules of both sides.
type ExplainedLink struct {
	Network Origin          `json:"network"`
	Target  Target          `json:"target"`
	Rules   []ExplainedRule `json:"rules"`
	// Theirs are the rules of the other network; none where it does not answer.
	Theirs []ExplainedRule `json:"their_rules,omitempty"`
}

// ExplainedRule is a rule of a policy.
type ExplainedRule struct {
	Policy Origin `json:"policy"`
	Rule   string `json:"rule"`
}

// ExplainedChain is a way through services to a network, or to one that does
// not ask for the same way.
type ExplainedChain struct {
	Network Origin `json:"network"`
	// Services are in the order in which traffic from this network takes them.
	Services []ExplainedService `json:"services"`
	Rules    []ExplainedRule    `json:"rules"`
	// Theirs are the rules of the other network; none where it does not answer,
	// and the chain does nothing.
	Theirs []ExplainedRule `json:"their_rules,omitempty"`
}

// ExplainedService is a service of a chain, with its instances that can be used.
type ExplainedService struct {
	Service   Origin `json:"service"`
	Instances int    `json:"instances"`
	// Left and Right are the routing policies of the interfaces on each side, in
	// the order in which they apply.
	Left  []Origin `json:"left_routing_policies,omitempty"`
	Right []Origin `json:"right_routing_policies,omitempty"`
}

// ExplainedRoutes are the prefixes that an object makes.
type ExplainedRoutes struct {
	From       Origin        `json:"from"`
	Routes     []StaticRoute `json:"routes,omitempty"`
	Aggregates []Aggregate   `json:"aggregates,omitempty"`
}

// Explain tells what a network is compiled to; nil where there is no network.
// One without a number has only problems.
func Explain(v *model.View, network string) *Explanation {
	g := graphOf(v)
	vn, ok := get[*model.VirtualNetwork](g, model.KindVirtualNetwork, network)
	if !ok {
		return nil
	}
	e := &Explanation{
		Network: originOf(vn), Targets: []ExplainedTarget{}, Links: []ExplainedLink{}, Unanswered: []ExplainedLink{}, Chains: []ExplainedChain{},
		Routes: []ExplainedRoutes{}, Aggregates: []ExplainedRoutes{}, Policies: []*RoutingPolicy{}, Instances: []ExplainedInstance{}, Problems: []Problem{},
	}
	i := instances.get(g, network)
	if i == nil {
		e.Problems = append(e.Problems, Problem{About: e.Network, Text: "the network has no number from which its route target follows, and is in no forwarding table; delete it and make it anew"})
		return e
	}
	e.Number, e.VXLAN, e.Layer2, e.Layer3 = i.Number, i.VXLAN, i.Layer2, i.Layer3
	e.External, e.Provider, e.FabricSNAT, e.RPF = i.External, i.Provider, i.FabricSNAT, i.RPF
	e.Prefixes, e.RouterVNIs = i.Prefixes, i.RouterVNIs
	e.explainTargets(g, vn)
	e.explainLinks(g, i)
	e.explainChains(g, i)
	e.explainRoutes(g, i)
	e.Problems = slices.Concat(e.Problems, checkProblems(g, network), routerProblems(v, g, i), serviceProblems(v, g, network))
	e.explainEncapsulations(i, Encapsulations(v))
	e.explainInstances(g, network)
	if e.Problems == nil {
		e.Problems = []Problem{}
	}
	return e
}

// explainInstances tells of the instances that clients made, and of what is wrong
// with the references of all of the network.
func (e *Explanation) explainInstances(g *graph, network string) {
	for _, x := range ownInstances(g, network) {
		_, problems := instanceTargets(g, x)
		e.Problems = append(e.Problems, problems...)
		e.explainStatic(g, x)
	}
	for i := range clientInstances.offered(g, network) {
		x := instanceOwners.get(g, i.Client)
		_, problems := instanceTargets(g, x)
		connected, _ := connections(g, x)
		ports, more := interfacesOf(g, i)
		shown := ExplainedInstance{
			Instance: x.From, Number: i.Number, Import: append([]Target{}, i.Import...), Export: append([]Target{}, i.Export...),
			Connected: []Origin{}, Interfaces: len(ports), ports: ports,
		}
		for _, other := range connected {
			shown.Connected = append(shown.Connected, other.From)
		}
		e.Instances = append(e.Instances, shown)
		e.Problems = slices.Concat(e.Problems, problems, more)
		e.explainStatic(g, x)
		for _, a := range aggregatesOf(g, network, x) {
			e.Aggregates = append(e.Aggregates, ExplainedRoutes{From: a.From, Aggregates: a.Entries})
			e.Problems = append(e.Problems, a.Problems...)
		}
	}
}

// explainEncapsulations tells what does not get from node to node by any that the
// cluster uses.
func (e *Explanation) explainEncapsulations(i *Instance, list []Encapsulation) {
	const where = "is among the encapsulation_priorities of the global-vrouter-config; add it"
	if i.Layer2 && !slices.Contains(list, VXLAN) {
		e.Problems = append(e.Problems, Problem{About: e.Network, Text: "its frames do not leave a node: no VXLAN, which alone takes them, " + where})
	}
	if len(i.Chains) > 0 && !slices.Contains(list, MPLSoUDP) && !slices.Contains(list, MPLSoGRE) {
		e.Problems = append(e.Problems, Problem{About: e.Network, Text: "what goes through services does not leave a node: no MPLSoUDP or MPLSoGRE, by whose labels alone nodes know the service, " + where})
	}
}

// explainStatic tells of the static routes of an instance itself.
func (e *Explanation) explainStatic(g *graph, x *instanceOwner) {
	if t := staticRoutesOf(g, x); t != nil {
		e.Routes = append(e.Routes, ExplainedRoutes{From: t.From, Routes: t.Routes})
		e.Problems = append(e.Problems, t.Problems...)
	}
}

func (e *Explanation) explainTargets(g *graph, vn *model.VirtualNetwork) {
	for _, t := range targetsOf(g, vn) {
		x := ExplainedTarget{Target: t.Target, Import: t.Import, Export: t.Export, From: t.From}
		if t.Through != "" {
			through := networkOrigin(g, t.Through)
			x.Through = &through
		}
		e.Targets = append(e.Targets, x)
	}
	slices.SortStableFunc(e.Targets, func(a, b ExplainedTarget) int { return cmp.Compare(a.Target, b.Target) })
	e.Problems = slices.Concat(e.Problems, stolen(g, vn), vpnProblems(g, vn.UUID), notConnected(g, vn.UUID))
}

func networkOrigin(g *graph, network string) Origin {
	o := Origin{Kind: model.KindVirtualNetwork, UUID: network}
	if of := identities.get(g, network); of != nil {
		o.Name = of.Name
	}
	return o
}

func (e *Explanation) explainLinks(g *graph, i *Instance) {
	for _, l := range i.Links {
		e.Links = append(e.Links, ExplainedLink{
			Network: networkOrigin(g, l.Network), Target: l.Target,
			Rules: askedBy(g, i.Network, l.Network), Theirs: askedBy(g, l.Network, i.Network),
		})
	}
	for _, p := range policiesOf(g, i.Network) {
		e.Problems = append(e.Problems, p.Problems...)
	}
	mine := reaches.get(g, i.Network)
	if mine == nil {
		return
	}
	for _, named := range mine.Named {
		linked := slices.ContainsFunc(i.Links, func(l Link) bool { return l.Network == named })
		if t := ownTargetOf(g, named); t != "" && !linked && named != i.Network {
			e.Unanswered = append(e.Unanswered, ExplainedLink{Network: networkOrigin(g, named), Target: t, Rules: askedBy(g, i.Network, named)})
		}
	}
}

// askedBy are the rules by which a network asks for another.
func askedBy(g *graph, network, other string) []ExplainedRule {
	list := []ExplainedRule{}
	together := false
	if a, b := identities.get(g, network), identities.get(g, other); a != nil && b != nil {
		together = a.Project == b.Project
	}
	asks := func(s *linkSide) bool {
		_, named := slices.BinarySearch(s.Networks, other)
		return named || s.Any && together
	}
	for _, p := range policiesOf(g, network) {
		for i := range p.Rules {
			r := &p.Rules[i]
			if r.Src.has(network) && asks(&r.Dst) || r.Dst.has(network) && asks(&r.Src) {
				list = append(list, ExplainedRule{p.From, r.UUID})
			}
		}
	}
	return list
}

func (e *Explanation) explainRoutes(g *graph, i *Instance) {
	for _, t := range tablesOf(g, i.Network) {
		e.Routes = append(e.Routes, ExplainedRoutes{From: t.From, Routes: t.Routes})
		e.Problems = append(e.Problems, t.Problems...)
	}
	for _, a := range aggregatesOf(g, i.Network, ownInstances(g, i.Network)...) {
		e.Aggregates = append(e.Aggregates, ExplainedRoutes{From: a.From, Aggregates: a.Entries})
		e.Problems = append(e.Problems, a.Problems...)
	}
	policies, problems := routingPoliciesOf(g, i.Network)
	e.Policies = append(e.Policies, policies...)
	e.Problems = append(e.Problems, problems...)
}

// ShowOnly takes out what somebody may not see: what is missing, unless he may
// see everything, and the names and contents of objects that are not for him.
func (e *Explanation) ShowOnly(everything bool, sees func(Origin) bool) {
	if everything {
		return
	}
	hide := func(o *Origin) {
		if !sees(*o) {
			*o = Origin{Kind: o.Kind}
		}
	}
	hidden := func(o Origin) bool { return !sees(o) }
	e.Problems = slices.DeleteFunc(e.Problems, func(p Problem) bool {
		return p.Missing || hidden(p.About) || slices.ContainsFunc(p.Names, hidden)
	})
	e.Unanswered = slices.DeleteFunc(e.Unanswered, func(l ExplainedLink) bool { return !sees(l.Network) })
	for i := range e.Targets {
		hide(&e.Targets[i].From)
		if through := e.Targets[i].Through; through != nil {
			hide(through)
		}
	}
	for _, links := range [][]ExplainedLink{e.Links, e.Unanswered} {
		for i := range links {
			hide(&links[i].Network)
			for _, rules := range [][]ExplainedRule{links[i].Rules, links[i].Theirs} {
				for j := range rules {
					hideRule(&rules[j], sees)
				}
			}
		}
	}
	e.Chains = slices.DeleteFunc(e.Chains, func(c ExplainedChain) bool { return len(c.Theirs) == 0 && !sees(c.Network) })
	for i := range e.Chains {
		e.Chains[i].hide(hide, sees)
	}
	e.Instances = slices.DeleteFunc(e.Instances, func(i ExplainedInstance) bool { return !sees(i.Instance) })
	for i := range e.Instances {
		x := &e.Instances[i]
		for j := range x.Connected {
			hide(&x.Connected[j])
		}
		x.ports = slices.DeleteFunc(x.ports, func(id string) bool { return !sees(Origin{Kind: model.KindVirtualMachineInterface, UUID: id}) })
		x.Interfaces = len(x.ports)
	}
	for _, routes := range [][]ExplainedRoutes{e.Routes, e.Aggregates} {
		for i := range routes {
			if !sees(routes[i].From) {
				routes[i] = ExplainedRoutes{From: Origin{Kind: routes[i].From.Kind}}
			}
		}
	}
	for i, p := range e.Policies {
		if !sees(p.From) {
			e.Policies[i] = &RoutingPolicy{From: Origin{Kind: p.From.Kind}, Terms: []Term{}}
		}
	}
}

func hideRule(r *ExplainedRule, sees func(Origin) bool) {
	if !sees(r.Policy) {
		*r = ExplainedRule{Policy: Origin{Kind: r.Policy.Kind}}
	}
}
