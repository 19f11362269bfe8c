package compile

// roots are the units that every Compiler keeps for each object of their kind:
// those whose results are for all, and those that offer results to them.
var roots = []anyUnit{instances, clientInstances, interfaceRoutes, routers, reaches, networkChains, passages, healthChecks, routerTables}

// Part names results that a Compiler keeps for those who need them.
type Part []anyUnit

// Policy are the policy sets of networks and ports.
var Policy = Part{networkSetUnit, portUnit}

// Change is a result before and after; nil where there was or is none.
type Change[T any] struct{ Before, After *T }

// Report says which results a change has made others.
type Report struct {
	// Instances by the UUID of their network.
	Instances map[string]Change[Instance]
	// ClientInstances by the UUID of their routing-instance.
	ClientInstances map[string]Change[Instance]
	// NetworkSets by the UUID of their network.
	NetworkSets map[string]Change[NetworkSets]
	// Ports by the UUID of their virtual-machine-interface.
	Ports map[string]Change[Port]
	// InterfaceRoutes by the UUID of their interface-route-table.
	InterfaceRoutes map[string]Change[InterfaceRoutes]
	// Passages by the UUID of their service-instance.
	Passages map[string]Change[Passages]
	// HealthChecks by the UUID of their service-health-check.
	HealthChecks map[string]Change[HealthCheck]
	// RouterTables by the UUID of their logical-router.
	RouterTables map[string]Change[RouterTable]
}

func (r *Report) add(x *cell, before any) {
	switch x.unit {
	case instances:
		enter(&r.Instances, x, before)
	case clientInstances:
		enter(&r.ClientInstances, x, before)
	case networkSetUnit:
		enter(&r.NetworkSets, x, before)
	case portUnit:
		enter(&r.Ports, x, before)
	case interfaceRoutes:
		enter(&r.InterfaceRoutes, x, before)
	case passages:
		enter(&r.Passages, x, before)
	case healthChecks:
		enter(&r.HealthChecks, x, before)
	case routerTables:
		enter(&r.RouterTables, x, before)
	}
}

// enter enters the change of a result into a report.
func enter[T any](all *map[string]Change[T], x *cell, before any) {
	if *all == nil {
		*all = map[string]Change[T]{}
	}
	was, _ := before.(*T)
	is, _ := x.result.(*T)
	(*all)[x.owner] = Change[T]{Before: was, After: is}
}

// Instance is the instance of a network; nil as for InstanceOf.
func (c *Compiler) Instance(network string) *Instance { return resultOf(c, instances, network) }

// ClientInstance is the forwarding table of a client's routing-instance; nil as
// for ClientInstanceOf.
func (c *Compiler) ClientInstance(instance string) *Instance {
	return resultOf(c, clientInstances, instance)
}

// Passages are those of a service-instance; nil as for PassagesOf.
func (c *Compiler) Passages(service string) *Passages { return resultOf(c, passages, service) }

// NetworkSets are the policy sets of a network; nil as for NetworkSetsOf.
func (c *Compiler) NetworkSets(network string) *NetworkSets {
	return resultOf(c, networkSetUnit, network)
}

// InterfaceRoutes are those of an interface-route-table; nil when there is none.
func (c *Compiler) InterfaceRoutes(table string) *InterfaceRoutes {
	return resultOf(c, interfaceRoutes, table)
}

// HealthCheck is a service-health-check; nil when there is none.
func (c *Compiler) HealthCheck(id string) *HealthCheck { return resultOf(c, healthChecks, id) }

// Port is what an interface is to policy; nil as for PortOf.
func (c *Compiler) Port(vmi string) *Port { return resultOf(c, portUnit, vmi) }

func resultOf[T any](c *Compiler, u *unit[T], owner string) *T {
	if x, ok := c.cells[cellKey{u, owner}]; ok {
		r, _ := x.result.(*T)
		return r
	}
	return nil
}
