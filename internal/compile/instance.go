package compile

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Instance is the routing instance of a network: its forwarding table, and
// what it shares with others. A route of an instance is in every instance that
// imports a target which it exports.
type Instance struct {
	// Number is the network's number, unique in the cluster and never 0.
	Number uint32
	// Network is the UUID of the virtual-network.
	Network string
	// Client is the UUID of the routing-instance, where a client made it beside the
	// network's own.
	Client string
	// Name is the fq_name of the network, or of the client's instance, joined with
	// colons.
	Name string
	// Import and Export are sorted, without duplicates.
	Import, Export []Target
	// Links are to the networks with which policies connect this one, sorted.
	// Their targets are not among Import, which users have set: what is imported
	// by them is open as far as the policies' rules let it pass.
	Links []Link
	// VXLAN is the network identifier in VXLAN headers.
	VXLAN uint32
	// Layer2 instances bridge, so that MACs have routes; Layer3 ones route.
	Layer2, Layer3 bool
	// Prefixes: routers that speak EVPN are told its routes as IP prefixes (RFC
	// 9136), as it routes and a logical router with VXLAN routing connects it.
	Prefixes bool
	// RouterVNIs are the VXLAN network identifiers of those logical routers, sorted: by
	// them, too, packets for the network come.
	RouterVNIs []uint32
	// FloodsUnknown: frames for MACs that nobody knows go where broadcasts go.
	FloodsUnknown bool
	// External networks are announced to routers outside.
	External bool
	// Fabric is the table of the fabric: its routes have no labels. Nothing is
	// imported into it by route targets, and no interface is in it.
	Fabric bool
	// Provider networks are networks of the fabric.
	Provider bool
	// FabricSNAT: what leaves for the fabric gets the node's address.
	FabricSNAT bool
	// RPF: sources are only accepted where a route leads to them.
	RPF bool
	// Chains are the routes through services for which policies ask. As those of
	// links they may only be used where the policies' rules are enforced.
	Chains []ChainRoute
	// Routes, Aggregates and Policies are those that the user wrote; Policies
	// are in the order in which they apply.
	Routes     []StaticRoute
	Aggregates []Aggregate
	Policies   []*RoutingPolicy
}

// Owner is the UUID of what the instance follows from: the network, or the
// client's routing-instance.
func (i *Instance) Owner() string { return cmp.Or(i.Client, i.Network) }

// LinkTargets are those by which the routes of linked networks come in.
func (i *Instance) LinkTargets() []Target {
	targets := make([]Target, len(i.Links))
	for n, l := range i.Links {
		targets[n] = l.Target
	}
	return targets
}

var instances = &unit[Instance]{name: "instance", layer: 3, of: model.KindVirtualNetwork, compute: instanceOf}

// InstanceOf is the instance of a network; nil when there is no such network,
// or it has no number.
func InstanceOf(v *model.View, network string) *Instance { return instances.get(graphOf(v), network) }

func instanceOf(g *graph, network string) *Instance {
	vn, ok := get[*model.VirtualNetwork](g, model.KindVirtualNetwork, network)
	if !ok {
		return nil
	}
	of := identityOf(vn)
	if of.Number == 0 {
		return nil
	}
	i := &Instance{
		Number:     of.Number,
		Network:    vn.UUID,
		Name:       of.Name,
		VXLAN:      of.Number,
		External:   model.ValueOr(vn.RouterExternal, false),
		Provider:   model.ValueOr(vn.IsProviderNetwork, false),
		FabricSNAT: model.ValueOr(vn.FabricSNAT, false),
		RPF:        true,

		FloodsUnknown: model.ValueOr(vn.FloodUnknownUnicast, false),
		Links:         linksOf(g, network),
		Chains:        chainRoutesOf(g, network),
	}
	i.addTargets(targetsOf(g, vn)...)
	i.Import, i.Export = sorted(i.Import), sorted(i.Export)
	i.setProperties(systemUnit.get(g, ""), vn.VirtualNetworkProperties)
	i.setRouters(g)
	i.setRoutes(g)
	return i
}

func (i *Instance) setProperties(s *system, p *model.VirtualNetworkType) {
	mode := s.mode
	if p != nil {
		mode = cmp.Or(p.ForwardingMode, mode)
		if n := model.ValueOr(p.VXLANNetworkIdentifier, 0); s.ownVXLAN && n > 0 && n < 1<<24 {
			i.VXLAN = uint32(n)
		}
		i.RPF = p.RPF != "disable"
	}
	i.Layer2, i.Layer3 = mode != "l3", mode != "l2"
}

// isRouted tells whether a network routes, so that its gateway is there.
func isRouted(g *graph, network string) bool {
	vn, ok := get[*model.VirtualNetwork](g, model.KindVirtualNetwork, network)
	if !ok {
		return false
	}
	mode := systemUnit.get(g, "").mode
	if p := vn.VirtualNetworkProperties; p != nil {
		mode = cmp.Or(p.ForwardingMode, mode)
	}
	return mode != "l2"
}

func (i *Instance) setRoutes(g *graph) {
	for _, t := range tablesOf(g, i.Network) {
		i.Routes = append(i.Routes, t.Routes...)
	}
	own := ownInstances(g, i.Network)
	for _, x := range own {
		if t := staticRoutesOf(g, x); t != nil {
			i.Routes = append(i.Routes, t.Routes...)
		}
	}
	for _, a := range aggregatesOf(g, i.Network, own...) {
		i.Aggregates = append(i.Aggregates, a.Entries...)
	}
	i.Policies, _ = routingPoliciesOf(g, i.Network)
}

// tablesOf are the route-tables of a network, then those of the logical routers
// that connect it.
func tablesOf(g *graph, network string) []*routeTable {
	tables := routeTables.getAll(g, g.References(network, model.KindRouteTable))
	for _, r := range routersOf(g, network) {
		for _, id := range r.Tables {
			if t := routeTables.get(g, id); t != nil && !slices.Contains(tables, t) {
				tables = append(tables, t)
			}
		}
	}
	return tables
}

// maxAggregates bounds those of a network: each of its routes is looked at for each
// of them, while all tables of a control node wait.
const maxAggregates = 1000

// within is the aggregate with as many entries as there is room for.
func (a *routeAggregate) within(room int) *routeAggregate {
	more := len(a.Entries) - room
	if more <= 0 {
		return a
	}
	return &routeAggregate{From: a.From, Project: a.Project, Entries: a.Entries[:room], Problems: append(slices.Clone(a.Problems), Problem{
		About: a.From, Text: fmt.Sprintf("the last %d of its prefixes are left out: a network can have %d aggregates", more, maxAggregates),
	})}
}

// aggregatesOf are those that refer to routing instances of a network. Whoever
// may use a network of another project cannot lead its traffic elsewhere.
func aggregatesOf(g *graph, network string, instances ...*instanceOwner) []*routeAggregate {
	var list []*routeAggregate
	room := maxAggregates
	for _, x := range instances {
		for _, r := range g.BackReferences(x.From.UUID, model.KindRouteAggregate) {
			switch a := routeAggregates.get(g, r.From.UUID); {
			case a == nil:
			case projectOf(g, network) == a.Project:
				a = a.within(room)
				room -= len(a.Entries)
				list = append(list, a)
			default:
				list = append(list, &routeAggregate{From: a.From, Problems: []Problem{{
					About: a.From, Text: "it has no effect on the network, which is of another project",
				}}})
			}
		}
	}
	return list
}
