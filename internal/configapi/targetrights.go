package configapi

import (
	"slices"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// Whoever gives routes or tables a route target joins all networks that have it.
// The lists of networks say who may: the rules about their route_target_list. The
// other ways to the same are held against these.

// mayGiveTargets refuses to give route targets by an object with these rights to
// whom may not write those of networks.
func (c *change) mayGiveTargets(perms *model.PermType2) error {
	const field = "route_target_list"
	if c.may.all || c.may.allowed(perms, bitWrite, opUpdate, model.KindVirtualNetwork, field) {
		return nil
	}
	return c.may.refuseByRule(opUpdate, model.KindVirtualNetwork, field)
}

// checkPolicyTargets looks at the route targets that a routing policy, or a static
// route of a routing instance, gives and did not give before.
func (c *change) checkPolicyTargets(o model.Object) error {
	if c.may.all {
		return nil
	}
	if instance, ok := o.(*model.RoutingInstance); ok {
		return c.checkTargetsOfRoutes(instance)
	}
	policy, ok := o.(*model.RoutingPolicy)
	if !ok {
		return nil
	}
	perms, had := policy.Perms2, []compile.Target(nil)
	if old, ok := model.Get[*model.RoutingPolicy](c.v, policy.UUID); ok {
		perms, had = old.Perms2, compile.GivenTargets(old)
	}
	if !slices.ContainsFunc(compile.GivenTargets(policy), func(t compile.Target) bool { return !slices.Contains(had, t) }) {
		return nil
	}
	return c.mayGiveTargets(perms)
}

// checkTargetsOfRoutes is that for a routing instance, by the rights to its network.
func (c *change) checkTargetsOfRoutes(o *model.RoutingInstance) error {
	had := []compile.Target(nil)
	if old, ok := model.Get[*model.RoutingInstance](c.v, o.UUID); ok {
		had = compile.TargetsOfRoutes(old)
	}
	if !slices.ContainsFunc(compile.TargetsOfRoutes(o), func(t compile.Target) bool { return !slices.Contains(had, t) }) {
		return nil
	}
	network, ok := c.after(o.ParentUUID)
	if !ok {
		return notFound(model.KindVirtualNetwork, o.ParentUUID)
	}
	return c.mayGiveTargets(network.GetMeta().Perms2)
}

// mayTakeTarget refuses a reference by which a routing instance gets a route
// target to whom may not write those of networks.
func (c *change) mayTakeTarget(r model.Reference) error {
	if _, given := c.givenTarget(r); !given {
		return nil
	}
	for _, id := range []string{r.From.UUID, compile.NetworkOfInstance(r.From.UUID)} {
		if o, ok := c.after(id); ok {
			return c.mayGiveTargets(o.GetMeta().Perms2)
		}
	}
	return notFound(r.From.Kind, r.From.UUID)
}

// givenTarget is the route target that a reference gives a routing instance,
// unless that is the one which its network has got.
func (c *change) givenTarget(r model.Reference) (target compile.Target, given bool) {
	if r.From.Kind != model.KindRoutingInstance || r.To.Kind != model.KindRouteTarget {
		return "", false
	}
	target, given = compile.TargetOfUUID(r.To.UUID)
	if o, found := c.after(r.To.UUID); found {
		target, given = compile.Target(o.GetMeta().Name()).Canonical(), true
	}
	network := compile.NetworkOfInstance(r.From.UUID)
	if o, found := c.after(r.From.UUID); found {
		network = o.GetMeta().ParentUUID
	}
	return target, given && target != compile.OwnTarget(c.v, network)
}

// checkInstanceTarget refuses to give a routing instance the route target that
// another network got for its own, which would have that one's routes without
// being asked.
func (c *change) checkInstanceTarget(r model.Reference) error {
	target, given := c.givenTarget(r)
	if !given {
		return nil
	}
	c.holdSystem()
	asn := compile.ASN(c.v)
	if !target.IsAutomatic(asn) {
		return nil
	}
	return invalid("Configured route target must use ASN that is different from global ASN or route target value must be less than %d: %s; to share a network's routes, refer to its routing-instance",
		compile.FirstTarget(asn), target)
}
