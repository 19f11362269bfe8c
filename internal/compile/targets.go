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

// targetsOf are all route targets of a network, some perhaps more than once:
// its own, those that users wrote into it and into its logical routers, and
// those of the networks that they connect it with.
func targetsOf(g *graph, vn *model.VirtualNetwork) []targetFrom {
	own := identityOf(vn).target(g)
	list := []targetFrom{{Target: own, Import: true, Export: true, From: originOf(vn)}}
	written := []*targetLists{{
		From: originOf(vn), Both: listed(vn.RouteTargetList),
		Import: listed(vn.ImportRouteTargetList), Export: listed(vn.ExportRouteTargetList),
	}}
	for _, r := range routersOf(g, vn.UUID) {
		written = append(written, r.Lists...)
		for _, other := range r.Networks {
			if t := ownTargetOf(g, other); t != "" && other != vn.UUID {
				list = append(list, targetFrom{Target: t, Import: true, From: r.From, Through: other})
			}
		}
	}
	asn := systemUnit.get(g, "").asn
	for _, l := range written {
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
	return list
}

// stolen are the route targets that users wrote and that are for the system
// to give, which count for nothing: they would connect strangers.
func stolen(g *graph, vn *model.VirtualNetwork) []Problem {
	asn, own := systemUnit.get(g, "").asn, identityOf(vn).target(g)
	var list []Problem
	check := func(from Origin, lists ...[]Target) {
		for _, t := range slices.Concat(lists...) {
			if t.IsAutomatic(asn) && t != own {
				list = append(list, Problem{About: from, Text: "route target " + string(t) +
					" is one that networks get for their own, and is left out; use another autonomous system, or a lower number"})
			}
		}
	}
	check(originOf(vn), listed(vn.RouteTargetList), listed(vn.ImportRouteTargetList), listed(vn.ExportRouteTargetList))
	for _, r := range routersOf(g, vn.UUID) {
		for _, l := range r.Lists {
			check(l.From, l.Both, l.Import, l.Export)
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

// holders are the networks whose instances may have a target: those that it is
// written in or for, and those that a logical router connects with them.
func holders(g *graph, t Target) []string {
	var list []string
	asn := systemUnit.get(g, "").asn
	has := func(targets []Target) bool { return slices.Contains(targets, t) }
	for o := range g.All(model.KindVirtualNetwork) {
		vn := o.(*model.VirtualNetwork)
		number := networkNumber(vn)
		if number > 0 && (t == ownTarget(asn, number) ||
			has(listed(vn.RouteTargetList)) || has(listed(vn.ImportRouteTargetList)) || has(listed(vn.ExportRouteTargetList))) {
			list = append(list, vn.UUID)
		}
	}
	direct := slices.Clone(list)
	for o := range g.All(model.KindLogicalRouter) {
		r := routers.get(g, o.GetMeta().UUID)
		named := slices.ContainsFunc(r.Lists, func(l *targetLists) bool { return has(l.Both) || has(l.Import) || has(l.Export) })
		if named || slices.ContainsFunc(direct, func(id string) bool { return slices.Contains(r.Networks, id) }) {
			list = append(list, r.Networks...)
		}
	}
	return sorted(list)
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
