package compile

import (
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// targetFrom is a route target of an instance, and what it has it from.
type targetFrom struct {
	Target Target
	Import bool
	Export bool
	From   Origin
	// Through is the network whose own target it is, where a logical router
	// connects the two.
	Through string
}

// targetLists are route targets that users have written into an object.
type targetLists struct {
	From   Origin
	Both   []Target
	Import []Target
	Export []Target
}

func (l *targetLists) has(t Target) bool {
	return slices.Contains(l.Both, t) || slices.Contains(l.Import, t) || slices.Contains(l.Export, t)
}

func writtenInto(vn *model.VirtualNetwork) *targetLists {
	return &targetLists{
		From: originOf(vn), Both: listed(vn.RouteTargetList),
		Import: listed(vn.ImportRouteTargetList), Export: listed(vn.ExportRouteTargetList),
	}
}

// vpn is a bgpvpn: route targets of all networks and logical routers that
// refer to it.
type vpn struct {
	Lists    targetLists
	Problems []Problem
}

var vpns = &unit[vpn]{name: "vpn", layer: 0, compute: func(g *graph, id string) *vpn {
	o, ok := get[*model.BGPVPN](g, model.KindBGPVPN, id)
	if !ok {
		return nil
	}
	from := originOf(o)
	if o.BGPVPNType == "l2" { // MACs do not leave their network
		return &vpn{Lists: targetLists{From: from}, Problems: []Problem{{
			About: from, Text: "a bgpvpn of the type l2 shares nothing; make one of the type l3, which shares routes",
		}}}
	}
	return &vpn{Lists: targetLists{
		From: from, Both: listed(o.RouteTargetList),
		Import: listed(o.ImportRouteTargetList), Export: listed(o.ExportRouteTargetList),
	}}
}}

// vpnsOf are those that a network or logical router refers to.
func vpnsOf(g *graph, id string) []*vpn {
	return vpns.getAll(g, g.References(id, model.KindBGPVPN))
}

// writtenFor are the route targets that users wrote for a network: into it,
// into its logical routers, and into the VPNs of both.
func writtenFor(g *graph, vn *model.VirtualNetwork) []*targetLists {
	list := []*targetLists{writtenInto(vn)}
	for _, p := range vpnsOf(g, vn.UUID) {
		list = append(list, &p.Lists)
	}
	for _, r := range routersOf(g, vn.UUID) {
		list = append(list, r.Lists...)
	}
	return list
}

// targetsOf are all route targets of a network, some perhaps more than once:
// its own, those that users wrote for it, those of the networks that logical
// routers connect it with, and those that references of its instance give it.
func targetsOf(g *graph, vn *model.VirtualNetwork) []targetFrom {
	own := identityOf(vn).target(g)
	list := []targetFrom{{Target: own, Import: true, Export: true, From: originOf(vn)}}
	for _, r := range routersOf(g, vn.UUID) {
		for _, other := range r.Networks {
			if t := ownTargetOf(g, other); t != "" && other != vn.UUID {
				list = append(list, targetFrom{Target: t, Import: true, From: r.From, Through: other})
			}
		}
	}
	asn := systemUnit.get(g, "").asn
	for _, l := range writtenFor(g, vn) {
		for _, part := range []struct {
			targets        []Target
			imports, expts bool
		}{{l.Both, true, true}, {l.Import, true, false}, {l.Export, false, true}} {
			for _, t := range part.targets {
				if !t.IsAutomatic(asn) || t == own {
					list = append(list, targetFrom{Target: t, Import: part.imports, Export: part.expts, From: l.From})
				}
			}
		}
	}
	for _, x := range ownInstances(g, vn.UUID) {
		more, _ := instanceTargets(g, x)
		list = append(list, more...)
	}
	return list
}

// stolen are the route targets that users wrote and that are for the system
// to give, which count for nothing: they would connect strangers.
func stolen(g *graph, vn *model.VirtualNetwork) []Problem {
	asn, own := systemUnit.get(g, "").asn, identityOf(vn).target(g)
	var list []Problem
	for _, l := range writtenFor(g, vn) {
		for _, t := range slices.Concat(l.Both, l.Import, l.Export) {
			if t.IsAutomatic(asn) && t != own {
				list = append(list, Problem{About: l.From, Text: "route target " + string(t) +
					" is one that networks get for their own, and is left out; use another autonomous system, or a lower number"})
			}
		}
	}
	return list
}

// IsAutomatic tells whether a route target is one that a network of the
// autonomous system may get for its own.
func (t Target) IsAutomatic(asn int64) bool {
	as, number, ok := t.numbers()
	return ok && as == asn && number >= FirstTarget(asn)
}

// OwnTarget is the route target that a network has got; empty where it has none.
func OwnTarget(v *model.View, network string) Target { return ownTargetOf(graphOf(v), network) }

// holders are the networks whose instances may have a target: those that it is
// written in or for, and those that a logical router connects with them.
func holders(g *graph, t Target) []string {
	var list []string
	asn := systemUnit.get(g, "").asn
	for o := range g.All(model.KindVirtualNetwork) {
		vn := o.(*model.VirtualNetwork)
		number := networkNumber(vn)
		named := func() bool {
			return writtenInto(vn).has(t) || slices.ContainsFunc(vpnsOf(g, vn.UUID), func(p *vpn) bool { return p.Lists.has(t) })
		}
		if number > 0 && (t == ownTarget(asn, number) || named()) {
			list = append(list, vn.UUID)
		}
	}
	direct := slices.Clone(list)
	list = append(list, instanceHolders(g, t, direct)...)
	for o := range g.All(model.KindLogicalRouter) {
		r := routers.get(g, o.GetMeta().UUID)
		named := slices.ContainsFunc(r.Lists, func(l *targetLists) bool { return l.has(t) })
		if named || slices.ContainsFunc(direct, func(id string) bool { return slices.Contains(r.Networks, id) }) {
			list = append(list, r.Networks...)
		}
	}
	return sorted(list)
}

// instanceHolders are the networks whose own instances may have a target by
// references of theirs: to the target, or to an instance that has it as its own,
// as those of direct do.
func instanceHolders(g *graph, t Target, direct []string) []string {
	var list []string
	add := func(instance string) {
		if x := ownerOf(g, instance); x != nil {
			list = append(list, x.Network)
		}
	}
	if e, ok := g.EntityByName(model.KindRouteTarget, string(t)); ok {
		for _, r := range g.BackReferences(e.UUID, model.KindRoutingInstance) {
			add(r.From.UUID)
		}
	}
	var owners []*instanceOwner
	for _, network := range direct {
		owners = append(owners, ownInstances(g, network)...)
	}
	for o := range g.All(model.KindRoutingInstance) {
		if x := instanceOwners.get(g, o.GetMeta().UUID); x != nil && x.target(g) == t {
			owners = append(owners, x)
		}
	}
	for _, x := range owners {
		for _, r := range g.References(x.From.UUID, model.KindRoutingInstance) {
			add(r.To.UUID)
		}
		for _, r := range g.BackReferences(x.From.UUID, model.KindRoutingInstance) {
			add(r.From.UUID)
		}
	}
	return list
}

// Holders are the networks whose instances have a target, sorted.
func Holders(v *model.View, t Target) []string {
	g := graphOf(v)
	t = t.Canonical()
	return slices.DeleteFunc(holders(g, t), func(id string) bool {
		i := instances.get(g, id)
		return i == nil || !slices.Contains(i.Import, t) && !slices.Contains(i.Export, t)
	})
}
