package compile

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// A client may make routing instances of a network beside the one that follows
// from it. Each is a forwarding table of its own, which has the routes to those
// interfaces of the network that refer to it, and what it imports:
//
//	routing-instance --route_target--> targets, import and export
//	                 --routing_instance--> another one: each imports the other's own target
//	virtual-machine-interface --routing_instance--> the table that it is in
//
// Its static routes lead to addresses in it.
//
// The same references on a network's own instance, which is a view, are stored
// for it, and mean the same.

// fabricInstance is the instance of the fabric: routers are below it, and its
// routes are those without labels, which routers tell. It has no route targets.
const fabricInstance = fabricNetwork + ":__default__"

// InstanceNumber is the number of the forwarding table of a routing instance that
// a client made. It follows from the instance's UUID, and is beyond those of
// networks and below those of services. That no two instances have the same is
// seen to when they are made.
func InstanceNumber(instance string) uint32 {
	sum := sha256.Sum256([]byte(instance))
	return 1<<30 | binary.BigEndian.Uint32(sum[:])>>2
}

// instanceOwner is a routing instance that is stored: that of a client, or one
// that stands for a network's own.
type instanceOwner struct {
	From    Origin
	Network string
	// Number is 0 for one that stands for the network's own.
	Number uint32
}

var instanceOwners = &unit[instanceOwner]{name: "instance-owner", layer: 1, compute: func(g *graph, id string) *instanceOwner {
	o, ok := get[*model.RoutingInstance](g, model.KindRoutingInstance, id)
	if !ok {
		return nil
	}
	of := identities.get(g, o.ParentUUID)
	if of == nil || of.Number == 0 {
		return nil
	}
	x := &instanceOwner{From: originOf(o), Network: o.ParentUUID}
	if x.From.Name != ownInstanceName(of.Name) {
		x.Number = InstanceNumber(id)
	}
	return x
}}

// ownInstanceName is the name of a network's own instance.
func ownInstanceName(network string) string {
	return network + ":" + network[strings.LastIndexByte(network, ':')+1:]
}

// viewOwner is that of the view which is a network's own instance; nil where the
// network is none or has no number.
func viewOwner(g *graph, network string) *instanceOwner {
	of := identities.get(g, network)
	if of == nil || of.Number == 0 {
		return nil
	}
	return &instanceOwner{
		From:    Origin{Kind: model.KindRoutingInstance, UUID: InstanceUUID(network), Name: ownInstanceName(of.Name)},
		Network: network,
	}
}

// ownerOf is that of a stored instance or of a view; nil where there is none.
func ownerOf(g *graph, instance string) *instanceOwner {
	if x := instanceOwners.get(g, instance); x != nil {
		return x
	}
	return viewOwner(g, NetworkOfInstance(instance))
}

// target is the instance's own; empty where there is none.
func (x *instanceOwner) target(g *graph) Target {
	if x.Number == 0 {
		return ownTargetOf(g, x.Network)
	}
	if asn := systemUnit.get(g, "").asn; x.From.Name != fabricInstance && asn <= lastShortASN {
		return ownTarget(asn, x.Number)
	}
	return ""
}

// ownInstances are a network's own instance as it may have references: the view,
// and an object that stands for it.
func ownInstances(g *graph, network string) []*instanceOwner {
	view := viewOwner(g, network)
	if view == nil {
		return nil
	}
	list := []*instanceOwner{view}
	if e, ok := g.EntityByName(model.KindRoutingInstance, view.From.Name); ok && e.UUID != view.From.UUID {
		if stored := instanceOwners.get(g, e.UUID); stored != nil {
			list = append(list, stored)
		}
	}
	return list
}

// instanceTargets are the route targets that references of an instance give it,
// and what is wrong with these.
func instanceTargets(g *graph, x *instanceOwner) ([]targetFrom, []Problem) {
	var list []targetFrom
	var problems []Problem
	asn, own := systemUnit.get(g, "").asn, x.target(g)
	for _, r := range g.References(x.From.UUID, model.KindRouteTarget) {
		o, ok := g.Object(model.KindRouteTarget, r.To.UUID)
		if !ok {
			continue
		}
		t := Target(o.GetMeta().Name()).Canonical()
		if t.IsAutomatic(asn) && t != own && t != ownTargetOf(g, x.Network) {
			problems = append(problems, Problem{About: x.From, Text: "route target " + string(t) +
				" is one that networks get for their own, and is left out; refer to the routing-instance of that network instead"})
			continue
		}
		attr, _ := model.RefAttr[model.InstanceTargetType](r)
		list = append(list, targetFrom{Target: t, Import: attr.ImportExport != "export", Export: attr.ImportExport != "import", From: x.From})
	}
	connected, more := connections(g, x)
	for _, other := range connected {
		if t := other.target(g); t != "" {
			list = append(list, targetFrom{Target: t, Import: true, From: other.From})
		}
	}
	return list, append(problems, more...)
}

// connections are the instances with which one is connected: those of networks of
// its own project that it refers to or that refer to it, and of others those that
// do both. Whoever may use a network of another project cannot join it to his
// own.
func connections(g *graph, x *instanceOwner) (connected []*instanceOwner, problems []Problem) {
	refers, referred := map[string]bool{}, map[string]bool{}
	var all []string
	for _, r := range g.References(x.From.UUID, model.KindRoutingInstance) {
		refers[r.To.UUID] = true
		all = append(all, r.To.UUID)
	}
	for _, r := range g.BackReferences(x.From.UUID, model.KindRoutingInstance) {
		referred[r.From.UUID] = true
		all = append(all, r.From.UUID)
	}
	project := projectOf(g, x.Network)
	for _, id := range sorted(all) {
		other := ownerOf(g, id)
		switch {
		case other == nil:
		case other.Network == x.Network && other.Number == x.Number: // itself
		case !(refers[id] && referred[id]) && projectOf(g, other.Network) != project:
			if refers[id] {
				problems = append(problems, Problem{About: x.From, Names: []Origin{other.From}, Text: "it is not connected with " + other.From.Name +
					", which is of another project, until that refers to it as well"})
			}
		case x.From.Name == fabricInstance || other.From.Name == fabricInstance:
			problems = append(problems, Problem{About: x.From, Names: []Origin{other.From}, Text: "it is not connected with " + other.From.Name +
				": the table of the fabric has the routes that routers tell without labels, and no others"})
		case other.target(g) == "":
			problems = append(problems, Problem{About: x.From, Names: []Origin{other.From}, Text: "it imports nothing of " + other.From.Name +
				", which has no route target of its own; give both one"})
		default:
			connected = append(connected, other)
		}
	}
	return connected, problems
}

func projectOf(g *graph, network string) string {
	if of := identities.get(g, network); of != nil {
		return of.Project
	}
	return ""
}

var clientInstances = &unit[Instance]{
	name: "client-instance", layer: 3, of: model.KindRoutingInstance, compute: clientInstanceOf,
	offers: func(i *Instance) []string { return []string{i.Network} },
}

func clientInstanceOf(g *graph, id string) *Instance {
	x := instanceOwners.get(g, id)
	if x == nil || x.Number == 0 {
		return nil
	}
	vn, ok := get[*model.VirtualNetwork](g, model.KindVirtualNetwork, x.Network)
	if !ok {
		return nil
	}
	i := &Instance{
		Number: x.Number, Network: x.Network, Client: id, Name: x.From.Name, Layer3: true,
		Fabric:   x.From.Name == fabricInstance,
		Provider: model.ValueOr(vn.IsProviderNetwork, false), RPF: vn.VirtualNetworkProperties == nil || vn.VirtualNetworkProperties.RPF != "disable",
	}
	if i.Fabric {
		return i
	}
	if own := x.target(g); own != "" {
		i.addTargets(targetFrom{Target: own, Import: true, Export: true})
	}
	more, _ := instanceTargets(g, x)
	i.addTargets(more...)
	i.Import, i.Export = sorted(i.Import), sorted(i.Export)
	if t := staticRoutesOf(g, x); t != nil {
		i.Routes = t.Routes
	}
	for _, a := range aggregatesOf(g, x.Network, x) {
		i.Aggregates = append(i.Aggregates, a.Entries...)
	}
	return i
}

// staticRoutesOf are the static routes of an instance that is stored; nil where it
// has none. Like references, they cannot have the targets that networks got for
// their own.
func staticRoutesOf(g *graph, x *instanceOwner) *routeTable {
	o, ok := get[*model.RoutingInstance](g, model.KindRoutingInstance, x.From.UUID)
	if !ok || o.StaticRouteEntries == nil || len(o.StaticRouteEntries.Route) == 0 {
		return nil
	}
	t := &routeTable{From: x.From}
	if x.From.Name == fabricInstance {
		t.problem("its static routes do nothing: the table of the fabric has the routes that routers tell without labels, and no others")
		return t
	}
	asn := systemUnit.get(g, "").asn
	for i := range o.StaticRouteEntries.Route {
		r := &o.StaticRouteEntries.Route[i]
		s, ok := t.readRoute(&model.RouteType{
			Prefix: r.Prefix, NextHop: r.NextHop, CommunityAttributes: &model.CommunityAttributes{CommunityAttribute: r.Community},
		}, true)
		if !ok {
			continue
		}
		for _, target := range sorted(targetsOfRoute(r)) {
			if target.IsAutomatic(asn) {
				t.problem("route %s has route target %s, which is one that networks get for their own, and is left out", s.Prefix, target)
			} else {
				s.Targets = append(s.Targets, target)
			}
		}
		t.Routes = append(t.Routes, s)
	}
	t.sort()
	return t
}

func targetsOfRoute(r *model.StaticRouteType) []Target {
	list := make([]Target, 0, len(r.RouteTarget))
	for _, text := range r.RouteTarget {
		list = append(list, Target(text).Canonical())
	}
	return list
}

// TargetsOfRoutes are the route targets that the static routes of an instance give.
func TargetsOfRoutes(o *model.RoutingInstance) []Target {
	var list []Target
	if o.StaticRouteEntries != nil {
		for i := range o.StaticRouteEntries.Route {
			list = append(list, targetsOfRoute(&o.StaticRouteEntries.Route[i])...)
		}
	}
	return sorted(list)
}

func (i *Instance) addTargets(list ...targetFrom) {
	for _, t := range list {
		if t.Import {
			i.Import = append(i.Import, t.Target)
		}
		if t.Export {
			i.Export = append(i.Export, t.Target)
		}
	}
}

// ClientInstanceOf is the forwarding table of a routing instance that a client
// made; nil when there is no such instance, when it stands for a network's own,
// or its network has no number.
func ClientInstanceOf(v *model.View, instance string) *Instance {
	return clientInstances.get(graphOf(v), instance)
}

// placesInterface tells whether a reference of an interface says that the
// interface is in a routing instance, and not only some of its traffic.
func placesInterface(attr json.RawMessage) bool {
	if len(attr) == 0 {
		return true
	}
	var rule model.PolicyBasedForwardingRuleType
	if json.Unmarshal(attr, &rule) != nil {
		return false
	}
	all := rule.Direction == "" || rule.Direction == "both"
	none := func(n *int64) bool { return model.ValueOr(n, 0) == 0 }
	return all && none(rule.VLANTag) && none(rule.MPLSLabel) && rule.SrcMAC == "" && rule.DstMAC == "" &&
		rule.Protocol == "" && rule.ServiceChainAddress == "" && rule.Ipv6ServiceChainAddress == ""
}

// PlacedIn is the client's instance of a network that an interface is in, the one
// with the lowest number should it refer to several; nil where it is in the
// network's own. instanceOf finds the instances of clients.
func PlacedIn(v *model.View, vmi, network string, instanceOf func(id string) *Instance) *Instance {
	var found *Instance
	for r := range v.ReferenceSeq(vmi, model.KindRoutingInstance) {
		i := instanceOf(r.To.UUID)
		if i != nil && i.Network == network && !i.Fabric && placesInterface(r.Attr) && (found == nil || i.Number < found.Number) {
			found = i
		}
	}
	return found
}

// interfacesOf are the interfaces in a client's instance, sorted, and what keeps
// others that refer to it from being in it.
func interfacesOf(g *graph, i *Instance) (list []string, problems []Problem) {
	for _, r := range g.BackReferences(i.Client, model.KindVirtualMachineInterface) {
		o, ok := g.Object(model.KindVirtualMachineInterface, r.From.UUID)
		if !ok {
			continue
		}
		in := slices.ContainsFunc(g.References(r.From.UUID, model.KindVirtualNetwork), func(r model.Reference) bool { return r.To.UUID == i.Network })
		switch {
		case i.Fabric:
			problems = append(problems, Problem{About: originOf(o), Text: "it is not in routing-instance " + i.Name + ", which is the fabric's and has no interfaces"})
		case !in:
			problems = append(problems, Problem{About: originOf(o), Text: "it is not in routing-instance " + i.Name + ", which is of another network than its own"})
		case !placesInterface(r.Attr):
			problems = append(problems, Problem{About: originOf(o), Text: "it is not in routing-instance " + i.Name +
				": only a reference for all its traffic puts it there, with the direction both and nothing else"})
		default:
			list = append(list, r.From.UUID)
		}
	}
	return list, problems
}
