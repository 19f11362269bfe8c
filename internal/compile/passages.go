package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// A chain of two services S and T between the networks L and R. What leaves a
// container of L for R goes to an interface on the left of S:
//
//	in L        R is reached through the left of S
//	S gives it out on its right, where
//	            R is reached through the left of T
//	T gives it out on its right, which forwards as R does
//
// and back the same way: in R, L is reached through the right of T, on the left
// of T through the right of S, and the left of S forwards as L does. So an
// interface at the end of a chain needs no forwarding table of its own; one
// between two services does, which is a passage. As those of L and R it also
// has the way through the interface itself: what comes out of it is from there.

// ChainRoute leads to a network through an instance of a service.
type ChainRoute struct {
	Name string
	// Network and To are the numbers of the network that it leads to, and of the
	// one at the other end.
	Network, To uint32
	// From is the forwarding table behind the service: there is the route only
	// while it is there.
	From uint32
	// Address is that of the service's interface, in the forwarding table Via.
	Via      uint32
	Address  netip.Addr
	Prefixes []netip.Prefix
	// Policies are those of that interface, in the order in which they apply.
	Policies []*RoutingPolicy
}

// Passage is where what leaves a side of a service is looked up.
type Passage struct {
	// Number is that of a network's forwarding table, or of one of its own.
	Number uint32
	Own    bool
	// Import and Routes are those of its own one.
	Import []Target
	Routes []ChainRoute
}

// Passages are the two of a service that is in a chain.
type Passages struct {
	Service Origin
	// Sides are left and right.
	Sides [2]Passage
	// Interfaces are the UUIDs of those on the left and on the right, sorted.
	Interfaces [2][]string
	Problems   []Problem
}

// PassageNumber is the number of the forwarding table on one side of a service.
// It follows from the service's UUID, and is beyond those of networks. That no
// two services have the same is seen to when they are made.
func PassageNumber(service string, onRight bool) uint32 {
	s := left
	if onRight {
		s = right
	}
	return passageNumber(service, s)
}

func passageNumber(service string, s side) uint32 {
	sum := sha256.Sum256([]byte(service + " " + s.String()))
	return 1<<31 | binary.BigEndian.Uint32(sum[:])
}

// next is the service behind one, towards a side; false at the end.
func (c *Chain) next(service string, towards side) (string, bool) {
	at := slices.Index(c.Services, service)
	if towards == left {
		at--
	} else {
		at++
	}
	if at < 0 || at >= len(c.Services) {
		return "", false
	}
	return c.Services[at], true
}

// first is the service that a network at a side of the chain sends to.
func (c *Chain) first(from side) string {
	if from == left {
		return c.Services[0]
	}
	return c.Services[len(c.Services)-1]
}

// routesThrough are the routes to the network at a side of a chain, through a
// service of it.
func (c *Chain) routesThrough(g *graph, service string, towards side) []ChainRoute {
	s := services.get(g, service)
	network, to := identities.get(g, c.Ends[towards]), identities.get(g, c.Ends[towards.other()])
	if s == nil || network == nil || to == nil || s.NAT && towards == left {
		return nil
	}
	common := ChainRoute{
		Network: network.Number, To: to.Number, From: network.Number, Prefixes: *subnets.get(g, c.Ends[towards]),
		Policies: policiesAt(g, s, towards.other()),
	}
	if _, more := c.next(service, towards); more {
		common.From = passageNumber(service, towards)
	}
	var list []ChainRoute
	for i := range s.Instances {
		at := s.Instances[i].at(towards.other())
		via := identities.get(g, at.Network)
		if via == nil || via.Number == 0 {
			continue
		}
		r := common
		r.Via, r.Address = via.Number, at.Address
		r.Name = fmt.Sprintf("%s through %s of %s", network.Name, s.Instances[i].Name, s.From.Name)
		if !slices.ContainsFunc(list, func(o ChainRoute) bool { return o.Via == r.Via && o.Address == r.Address }) {
			list = append(list, r)
		}
	}
	return list
}

// chainRoutesOf are the routes of a network through services.
func chainRoutesOf(g *graph, network string) []ChainRoute {
	n := networkChains.get(g, network)
	if n == nil {
		return nil
	}
	var list []ChainRoute
	for i := range n.Chains {
		c := &n.Chains[i]
		at := c.sideOf(network)
		list = append(list, c.routesThrough(g, c.first(at), at.other())...)
	}
	return list
}

var passages = &unit[Passages]{
	name: "passages", layer: 3, of: model.KindServiceInstance, compute: passagesOf,
}

// PassagesOf are those of a service; nil when it is in no chain.
func PassagesOf(v *model.View, service string) *Passages { return passages.get(graphOf(v), service) }

func passagesOf(g *graph, service string) *Passages {
	s := services.get(g, service)
	if s == nil {
		return nil
	}
	var chains []*Chain
	for n := range networkChains.offered(g, service) {
		for i := range n.Chains {
			if c := &n.Chains[i]; c.Ends[left] == n.Network && slices.Contains(c.Services, service) {
				chains = append(chains, c)
			}
		}
	}
	if len(chains) == 0 {
		return nil
	}
	slices.SortFunc(chains, func(a, b *Chain) int { return a.compare(b) })
	p := &Passages{Service: s.From}
	for _, at := range []side{left, right} {
		for i := range s.Instances {
			p.Interfaces[at] = append(p.Interfaces[at], s.Instances[i].at(at).UUID)
		}
		p.Interfaces[at] = sorted(p.Interfaces[at])
		p.Sides[at] = p.passage(g, service, at, chains)
	}
	return p
}

// passage computes the passage of a side. It is a network's where all chains
// end there; else it has the routes of all of them.
func (p *Passages) passage(g *graph, service string, at side, chains []*Chain) Passage {
	var ends []string
	next := map[string]string{} // by network
	own := Passage{Number: passageNumber(service, at), Own: true}
	for _, c := range chains {
		network := c.Ends[at]
		behind, more := c.next(service, at)
		before, known := next[network]
		switch {
		case known && before != behind:
			to := networkOrigin(g, network)
			p.Problems = append(p.Problems, Problem{About: p.Service, Names: []Origin{to}, Text: fmt.Sprintf(
				"two ways lead from its %s to virtual-network %s, and traffic takes one; use another service-instance for the other", at, to.Name)})
		case known:
		case more:
			own.Routes = append(own.Routes, c.routesThrough(g, behind, at)...)
			own.Routes = append(own.Routes, c.routesThrough(g, service, at.other())...)
		default:
			ends = append(ends, network)
			own.Routes = append(own.Routes, c.routesThrough(g, service, at.other())...)
			own.Import = append(own.Import, ownTargetOf(g, network))
		}
		if !known {
			next[network] = behind
		}
	}
	if len(ends) == 1 && len(next) == 1 {
		if of := identities.get(g, ends[0]); of != nil && of.Number != 0 {
			return Passage{Number: of.Number}
		}
	}
	own.Import = slices.DeleteFunc(sorted(own.Import), func(t Target) bool { return t == "" })
	slices.SortFunc(own.Routes, func(a, b ChainRoute) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Name, b.Name), cmp.Compare(a.To, b.To))
	})
	// The way back through the service may be that of several chains.
	own.Routes = slices.CompactFunc(own.Routes, func(a, b ChainRoute) bool { return a.Network == b.Network && a.Name == b.Name })
	return own
}
