package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// StaticRoute leads a prefix to an address of the instance's own network, or
// to the interfaces that have the table which it is from.
type StaticRoute struct {
	Prefix netip.Prefix `json:"prefix"`
	// NextHop is invalid where interfaces are the next hop.
	NextHop netip.Addr `json:"next_hop,omitzero"`
	// Communities are sorted, without duplicates.
	Communities []uint32 `json:"communities,omitempty"`
	// Targets are those that the route has beside those of its instance, sorted.
	Targets []Target `json:"route_targets,omitempty"`
}

// routeTable is a route-table, with what it leads through in order of prefixes.
type routeTable struct {
	From     Origin
	Routes   []StaticRoute
	Problems []Problem
}

var routeTables = &unit[routeTable]{name: "route-table", layer: 0, compute: func(g *graph, id string) *routeTable {
	o, ok := get[*model.RouteTable](g, model.KindRouteTable, id)
	if !ok {
		return nil
	}
	t := &routeTable{From: originOf(o)}
	t.read(o.Routes, true)
	return t
}}

// InterfaceRoutes is an interface-route-table: prefixes that are behind the
// interfaces which refer to it. In a network of another project it has no
// effect: whoever may use one cannot lead the traffic of others to himself. Its
// owner can let others use a table of his.
type InterfaceRoutes struct {
	From Origin
	// Interfaces are those that it acts on, sorted.
	Interfaces []string
	Routes     []StaticRoute
	Problems   []Problem
}

var interfaceRoutes = &unit[InterfaceRoutes]{
	name: "interface-routes", layer: 1, of: model.KindInterfaceRouteTable,
	compute: func(g *graph, id string) *InterfaceRoutes {
		o, ok := get[*model.InterfaceRouteTable](g, model.KindInterfaceRouteTable, id)
		if !ok {
			return nil
		}
		t := routeTable{From: originOf(o)}
		t.read(o.InterfaceRouteTableRoutes, false)
		r := &InterfaceRoutes{From: t.From, Routes: t.Routes, Problems: t.Problems}
		of := g.BackReferences(id, model.KindVirtualMachineInterface)
		for _, vmi := range of {
			if inProject(g, vmi.From.UUID, o.ParentUUID) {
				r.Interfaces = append(r.Interfaces, vmi.From.UUID)
			}
		}
		if len(r.Interfaces) < len(of) {
			r.Problems = append(r.Problems, Problem{About: r.From, Text: "an interface that has it is in no network of its project, so it has no effect there; use a table of the network's project"})
		}
		return r
	},
}

// inProject is whether an interface's network is of a project.
func inProject(g *graph, vmi, project string) bool {
	for _, r := range g.References(vmi, model.KindVirtualNetwork) {
		of := identities.get(g, r.To.UUID)
		return of != nil && of.Project == project
	}
	return false
}

func (t *routeTable) problem(format string, args ...any) {
	t.Problems = append(t.Problems, Problem{About: t.From, Text: fmt.Sprintf(format, args...)})
}

func (t *routeTable) read(list *model.RouteTableType, hops bool) {
	if list == nil {
		return
	}
	for i := range list.Route {
		if s, ok := t.readRoute(&list.Route[i], hops); ok {
			t.Routes = append(t.Routes, s)
		}
	}
	t.sort()
}

func (t *routeTable) sort() {
	slices.SortFunc(t.Routes, func(a, b StaticRoute) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), a.NextHop.Compare(b.NextHop))
	})
	t.Routes = slices.CompactFunc(t.Routes, func(a, b StaticRoute) bool { return a.Prefix == b.Prefix && a.NextHop == b.NextHop })
}

func (t *routeTable) readRoute(r *model.RouteType, hops bool) (s StaticRoute, ok bool) {
	prefix, err := netip.ParsePrefix(r.Prefix)
	if err != nil {
		t.problem("route %q is no prefix; write one such as 192.0.2.0/24", r.Prefix)
		return s, false
	}
	s.Prefix = prefix.Masked()
	if prefix.Addr().Is4In6() {
		t.problem("route %s is of IPv4 in the form of IPv6; write it as IPv4", prefix)
		return s, false
	}
	if hops {
		if r.NextHopType == "service-instance" {
			t.problem("route %s leads to service instance %s: routes to service instances are not supported; name an address as next_hop", prefix, r.NextHop)
			return s, false
		}
		hop, err := netip.ParseAddr(r.NextHop)
		if err != nil || hop.Zone() != "" || hop.Is4() != prefix.Addr().Is4() {
			t.problem("route %s has next_hop %q; name an address of the same family", prefix, r.NextHop)
			return s, false
		}
		s.NextHop = hop
	}
	if c := r.CommunityAttributes; c != nil {
		for _, text := range c.CommunityAttribute {
			if n, ok := parseCommunity(text); ok {
				s.Communities = append(s.Communities, uint32(n))
			} else {
				t.problem("route %s has community %q; write one such as 64512:100 or no-export", prefix, text)
			}
		}
		s.Communities = sorted(s.Communities)
	}
	return s, true
}

// Aggregate is a prefix that is announced as one where a more specific route
// is.
type Aggregate struct {
	Prefix  netip.Prefix `json:"prefix"`
	NextHop netip.Addr   `json:"next_hop,omitzero"`
}

// routeAggregate is a route-aggregate.
type routeAggregate struct {
	From     Origin
	Project  string
	Entries  []Aggregate
	Problems []Problem
}

var routeAggregates = &unit[routeAggregate]{name: "route-aggregate", layer: 0, compute: func(g *graph, id string) *routeAggregate {
	o, ok := get[*model.RouteAggregate](g, model.KindRouteAggregate, id)
	if !ok {
		return nil
	}
	a := &routeAggregate{From: originOf(o), Project: o.ParentUUID}
	problem := func(format string, args ...any) {
		a.Problems = append(a.Problems, Problem{About: a.From, Text: fmt.Sprintf(format, args...)})
	}
	var hop netip.Addr
	if o.AggregateRouteNexthop != "" {
		var err error
		if hop, err = netip.ParseAddr(o.AggregateRouteNexthop); err != nil {
			problem("aggregate_route_nexthop %q is no address", o.AggregateRouteNexthop)
			return a
		}
	}
	if o.AggregateRouteEntries == nil || len(o.AggregateRouteEntries.Route) == 0 {
		return a
	}
	if !hop.IsValid() {
		problem("aggregate_route_nexthop is missing, so there is no way to its prefixes; name an address of the network")
	}
	for _, text := range o.AggregateRouteEntries.Route {
		prefix, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			problem("aggregate %q is no prefix; write one such as 192.0.2.0/24", text)
		case hop.IsValid() && hop.Is4() != prefix.Addr().Is4():
			problem("aggregate %s and its next hop %s are not of the same family", prefix, hop)
		default:
			a.Entries = append(a.Entries, Aggregate{prefix.Masked(), hop})
		}
	}
	slices.SortFunc(a.Entries, func(x, y Aggregate) int {
		return cmp.Or(x.Prefix.Addr().Compare(y.Prefix.Addr()), cmp.Compare(x.Prefix.Bits(), y.Prefix.Bits()))
	})
	a.Entries = slices.Compact(a.Entries)
	return a
}}
