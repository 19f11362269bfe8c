package compile

import (
	"math"
	"slices"
	"strconv"

	"github.com/contrail-mesos/contrail/internal/model"
)

// identity is what others need to know of a network.
type identity struct {
	// Number is 0 where the network has none that is possible.
	Number  uint32
	Name    string
	Project string // UUID
}

var identities = &unit[identity]{name: "identity", layer: 0, compute: func(g *graph, network string) *identity {
	vn, ok := get[*model.VirtualNetwork](g, model.KindVirtualNetwork, network)
	if !ok {
		return nil
	}
	return identityOf(vn)
}}

func identityOf(vn *model.VirtualNetwork) *identity {
	return &identity{Number: networkNumber(vn), Name: model.FQString(vn.FQName), Project: vn.ParentUUID}
}

// networkNumber is 0 for a network that has none.
func networkNumber(vn *model.VirtualNetwork) uint32 {
	n := model.ValueOr(vn.VirtualNetworkNetworkID, 0)
	if n <= 0 || n > math.MaxUint32 {
		return 0
	}
	return uint32(n)
}

// ownTargetOf is a network's own route target; empty where it has none.
func ownTargetOf(g *graph, network string) Target {
	if of := identities.get(g, network); of != nil {
		return of.target(g)
	}
	return ""
}

func (i *identity) target(g *graph) Target {
	if i.Number == 0 {
		return ""
	}
	return ownTarget(systemUnit.get(g, "").asn, i.Number)
}

// router is a logical router. It has no route target of its own: the networks
// that it connects import each other's, and all of them the targets that users
// gave it or its VPNs, so that no number has to be kept for it.
//
// It connects the networks of its project that it refers to or has interfaces
// in, and all networks that refer to it. Whoever may use a network of another
// project, because it is shared, cannot route it to his own: its owner has to
// make it refer to the router.
type router struct {
	From Origin
	// Networks that it connects, sorted.
	Networks []string
	// Others are networks of other projects that it does not connect.
	Others []string
	Lists  []*targetLists
	// VXLAN: it is of a project with vxlan_routing. VNI is its own network identifier
	// then, by which routers that speak EVPN send to all networks that it connects; 0
	// where it has none, and they send to each by its own.
	VXLAN bool
	VNI   uint32
	// Tables are the route-tables of all networks that it connects, sorted.
	Tables   []string
	Problems []Problem
}

var routers = &unit[router]{
	name: "router", layer: 1, of: model.KindLogicalRouter, compute: routerOf,
	offers: func(r *router) []string { return slices.Concat(r.Networks, r.Others) },
}

func routerOf(g *graph, id string) *router {
	o, ok := get[*model.LogicalRouter](g, model.KindLogicalRouter, id)
	if !ok {
		return nil
	}
	r := &router{From: originOf(o)}
	if p, ok := get[*model.Project](g, model.KindProject, o.ParentUUID); ok {
		r.VXLAN = model.ValueOr(p.VXLANRouting, false)
	}
	if n, err := strconv.ParseUint(o.VXLANNetworkIdentifier, 10, 24); err == nil && r.VXLAN {
		r.VNI = uint32(n)
	}
	if both := listed(o.ConfiguredRouteTargetList); len(both) > 0 {
		r.Lists = []*targetLists{{From: r.From, Both: both}}
	}
	for _, p := range vpnsOf(g, id) {
		r.Lists = append(r.Lists, &p.Lists)
		r.Problems = append(r.Problems, p.Problems...)
	}
	for _, t := range g.References(id, model.KindRouteTable) {
		r.Tables = append(r.Tables, t.To.UUID)
	}
	for _, vn := range g.BackReferences(id, model.KindVirtualNetwork) {
		r.Networks = append(r.Networks, vn.From.UUID)
	}
	for _, vn := range referredTo(g, id) {
		switch of := identities.get(g, vn); {
		case of == nil:
		case of.Project == o.ParentUUID:
			r.Networks = append(r.Networks, vn)
		default:
			r.Others = append(r.Others, vn)
		}
	}
	r.Networks = sorted(r.Networks)
	r.Others = slices.DeleteFunc(sorted(r.Others), r.connects)
	return r
}

func (r *router) connects(network string) bool {
	_, connected := slices.BinarySearch(r.Networks, network)
	return connected
}

// referredTo are the networks that a logical router refers to or has
// interfaces in.
func referredTo(g *graph, router string) []string {
	var list []string
	for _, vmi := range g.References(router, model.KindVirtualMachineInterface) {
		for _, vn := range g.References(vmi.To.UUID, model.KindVirtualNetwork) {
			list = append(list, vn.To.UUID)
		}
	}
	for _, vn := range g.References(router, model.KindVirtualNetwork) {
		// A gateway to the outside is not one of those that are connected.
		as, err := model.RefAttr[model.LogicalRouterVirtualNetworkType](vn)
		if err == nil && as.LogicalRouterVirtualNetworkType != "ExternalGateway" {
			list = append(list, vn.To.UUID)
		}
	}
	return list
}

// routersOf are those that connect a network.
func routersOf(g *graph, network string) []*router {
	var list []*router
	for r := range routers.offered(g, network) {
		if r.connects(network) {
			list = append(list, r)
		}
	}
	return list
}

// vpnProblems are what is wrong with the VPNs of a network and of its routers.
func vpnProblems(g *graph, network string) []Problem {
	var list []Problem
	for _, p := range vpnsOf(g, network) {
		list = append(list, p.Problems...)
	}
	for _, r := range routersOf(g, network) {
		list = append(list, r.Problems...)
	}
	return list
}

// notConnected are the problems of routers that would connect a network and
// must not.
func notConnected(g *graph, network string) []Problem {
	var list []Problem
	for r := range routers.offered(g, network) {
		if !r.connects(network) {
			list = append(list, Problem{About: r.From, Text: "it does not connect the network, which is of another project; the owner of the network can make it refer to the router"})
		}
	}
	return list
}
