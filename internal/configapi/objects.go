package configapi

import (
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// create creates an object with its references, and what goes with it.
func (c *change) create(o model.Object, refs []model.Reference) error {
	m := o.GetMeta()
	if m.ParentUUID != "" {
		if err := c.need(model.Entity{Kind: model.Kind(m.ParentType), UUID: m.ParentUUID}); err != nil {
			return err
		}
		c.disown(m.ParentUUID)
	}
	refs = slices.Clone(refs)
	if err := c.prepare(o, refs); err != nil {
		return err
	}
	c.CreateObject(o)
	for _, r := range refs {
		err := c.need(r.To)
		if err != nil {
			return err
		}
		if err := c.checkInstanceTarget(r); err != nil {
			return err
		}
		c.disown(r.To.UUID)
		if r.Number, err = c.numberOf(r.Edge()); err != nil {
			return err
		}
		c.PutReference(r)
	}
	if project, ok := o.(*model.Project); ok {
		return c.createDefaultGroup(project)
	}
	return nil
}

// prepare allocates what a new object needs and fills in what follows from its
// type. It may change the attributes of refs.
func (c *change) prepare(o model.Object, refs []model.Reference) error {
	if err := c.checkTargets(o, nil); err != nil {
		return err
	}
	switch o := o.(type) {
	case *model.VirtualNetwork:
		return c.prepareNetwork(o, refs)
	case *model.NetworkIPAM:
		return c.setFlatSubnets(o, nil)
	case *model.LogicalRouter:
		return c.numberVXLAN(o, nil)
	case *model.ServiceInstance:
		return c.takePassages(o.UUID)
	case *model.RoutingInstance:
		return c.takeInstance(o)
	case *model.SecurityGroup:
		if o.SecurityGroupID != nil {
			return denied("Cannot set the security group ID")
		}
		return c.numberGroup(o, nil)
	case *model.VirtualMachineInterface:
		return c.prepareInterface(o, refs)
	case *model.InstanceIP:
		return c.addressInstance(o, refs)
	case *model.Tag:
		return c.prepareTag(o, refs)
	case *model.TagType:
		return c.prepareTagType(o)
	case *model.FloatingIP:
		return c.addressFloating(o, refs)
	case *model.AliasIP:
		return c.addressAlias(o)
	case *model.VirtualRouter:
		for _, r := range refs {
			if err := c.checkRouterIPAM(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *change) prepareNetwork(o *model.VirtualNetwork, refs []model.Reference) error {
	if o.VirtualNetworkNetworkID != nil {
		return denied("Cannot set the virtual network ID")
	}
	if err := c.setSubnets(o, refs, "create"); err != nil {
		return err
	}
	n, err := c.takeNetworkNumber(o.UUID)
	if err != nil {
		return err
	}
	o.VirtualNetworkNetworkID = new(int64(n))
	return c.numberVXLAN(o, nil)
}

func (c *change) prepareInterface(o *model.VirtualMachineInterface, refs []model.Reference) error {
	if err := completeMAC(o); err != nil {
		return err
	}
	for _, r := range refs {
		switch r.To.Kind {
		case model.KindVirtualNetwork:
			c.takeMACs(o, r.To.UUID)
		case model.KindVirtualMachine:
			if err := c.bindInterface(o.UUID, r.To.UUID); err != nil {
				return err
			}
		}
	}
	return nil
}

// bindInterface gives an interface its label where its virtual machine runs,
// if it runs somewhere.
func (c *change) bindInterface(vmi, vm string) error {
	for r := range c.v.BackReferenceSeq(vm, model.KindVirtualRouter) {
		c.Guard(store.Guard{Condition: store.Present, Key: store.RefKey(r.Edge())})
		return c.bind(vmi, vm, r.From.UUID)
	}
	// A machine that gets its place meanwhile must not be missed.
	machine := model.Entity{Kind: model.KindVirtualMachine, UUID: vm}
	c.Guard(store.Guard{Condition: store.RangeEmpty, Key: store.RefPrefixFrom(machine, model.KindVirtualRouter)})
	return nil
}

func (c *change) bind(vmi, vm, router string) error {
	if b, ok := c.v.Binding(vmi); ok {
		if b.Node == router && b.Machine == vm {
			return nil
		}
		return taken("interface %s is bound to virtual-router %s; remove that reference first", vmi, b.Node)
	}
	node, ok := c.v.Node(router)
	if !ok {
		node = model.Node{UUID: router, Name: router} // it may join later
	}
	label, err := c.takeLabel(node, vmi)
	if err != nil {
		return err
	}
	c.Guard(store.Guard{Condition: store.Absent, Key: store.BindingKey(vmi)})
	c.PutBinding(model.Binding{Interface: vmi, Machine: vm, Node: router, Label: label})
	return nil
}

// setReference adds or replaces a reference of a stored object.
func (c *change) setReference(r model.Reference) error {
	if err := c.need(r.From); err != nil {
		return err
	}
	if err := c.need(r.To); err != nil {
		return err
	}
	if err := c.checkRouterIPAM(r); err != nil {
		return err
	}
	if err := c.checkInstanceTarget(r); err != nil {
		return err
	}
	old, exists := c.v.Reference(r.From.UUID, r.To.UUID)
	if r.Number = old.Number; !exists {
		if err := c.referenceAdded(r.Edge()); err != nil {
			return err
		}
		var err error
		if r.Number, err = c.numberOf(r.Edge()); err != nil {
			return err
		}
		c.disown(r.To.UUID)
	}
	c.disown(r.From.UUID)
	c.PutReference(r)
	return nil
}

// referenceAdded does what a new reference means beside itself.
func (c *change) referenceAdded(e model.Edge) error {
	switch {
	case e.From.Kind == model.KindVirtualRouter && e.To.Kind == model.KindVirtualMachine:
		for r := range c.v.BackReferenceSeq(e.To.UUID, model.KindVirtualRouter) {
			if r.From.UUID != e.From.UUID {
				return taken("virtual-machine %s is on virtual-router %s; remove that reference first", e.To.UUID, r.From.UUID)
			}
		}
		// An interface that the machine gets meanwhile must not be missed.
		c.Guard(store.Guard{Condition: store.RangeUnchanged, Key: store.RefPrefixFrom(e.To, model.KindVirtualMachineInterface), Revision: int64(c.since)})
		for r := range c.v.BackReferenceSeq(e.To.UUID, model.KindVirtualMachineInterface) {
			if err := c.bind(r.From.UUID, e.To.UUID, e.From.UUID); err != nil {
				return err
			}
		}
	case e.From.Kind == model.KindVirtualMachineInterface && e.To.Kind == model.KindVirtualMachine:
		if err := c.addMachine(e.From.UUID); err != nil {
			return err
		}
		return c.bindInterface(e.From.UUID, e.To.UUID)
	case isAddressSource(e):
		return invalid("the network of an instance-ip can not be changed; delete it and create another")
	case e.From.Kind == model.KindInstanceIP && e.To.Kind == model.KindVirtualMachineInterface:
		return c.addInterface(e.From.UUID, e.To.UUID)
	case e.From.Kind == model.KindFloatingIP && e.To.Kind == model.KindVirtualMachineInterface:
		return c.addFloating(e.From.UUID, e.To.UUID)
	case e.From.Kind == model.KindVirtualMachineInterface && e.To.Kind == model.KindVirtualNetwork:
		if o, ok := model.Get[*model.VirtualMachineInterface](c.v, e.From.UUID); ok {
			c.takeMACs(o, e.To.UUID)
		}
		return c.mayMove(e.From.UUID)
	case e.From.Kind == model.KindTag && e.To.Kind == model.KindTagType:
		return invalid("Tag-type reference cannot be updated")
	}
	return nil
}

// isAddressSource tells whether a reference says where an instance-ip has its
// address from.
func isAddressSource(e model.Edge) bool {
	return e.From.Kind == model.KindInstanceIP &&
		(e.To.Kind == model.KindVirtualNetwork || e.To.Kind == model.KindNetworkIPAM || e.To.Kind == model.KindVirtualRouter)
}

// mayMove refuses to take an interface out of a network that it has addresses of.
func (c *change) mayMove(vmi string) error {
	if c.v.CountBackReferences(vmi, model.KindInstanceIP) > 0 {
		return taken("the network of interface %s can not be changed while it has addresses; delete its instance-ips first", vmi)
	}
	return nil
}

// dropReference removes a reference and undoes what it meant beside itself.
func (c *change) dropReference(r model.Reference) error {
	e := r.Edge()
	if c.Touches(store.RefKey(e)) {
		return nil
	}
	switch {
	case e.From.Kind == model.KindVirtualRouter && e.To.Kind == model.KindVirtualMachine:
		for back := range c.v.BackReferenceSeq(e.To.UUID, model.KindVirtualMachineInterface) {
			if b, ok := c.v.Binding(back.From.UUID); ok && b.Node == e.From.UUID {
				if err := c.unbind(b); err != nil {
					return err
				}
			}
		}
	case e.From.Kind == model.KindVirtualMachineInterface && e.To.Kind == model.KindVirtualMachine:
		if b, ok := c.v.Binding(e.From.UUID); ok {
			if err := c.unbind(b); err != nil {
				return err
			}
		}
	case isAddressSource(e):
		return invalid("the network of an instance-ip can not be changed; delete it and create another")
	case e.From.Kind == model.KindVirtualMachineInterface && e.To.Kind == model.KindVirtualNetwork:
		if err := c.mayMove(e.From.UUID); err != nil {
			return err
		}
		if o, ok := model.Get[*model.VirtualMachineInterface](c.v, e.From.UUID); ok {
			c.returnMACs(o, e.To.UUID)
		}
	case e.From.Kind == model.KindTag && e.To.Kind == model.KindTagType:
		return invalid("Tag-type reference cannot be updated")
	case e.From.Kind == model.KindVirtualNetwork && e.To.Kind == model.KindNetworkIPAM:
		if err := c.dropIPAM(e); err != nil {
			return err
		}
	case e.From.Kind == model.KindVirtualRouter && e.To.Kind == model.KindNetworkIPAM:
		if err := c.dropRouterIPAM(e); err != nil {
			return err
		}
	}
	c.disown(e.From.UUID)
	c.dropEdge(e)
	return nil
}

// deleteObject deletes an object if nothing but what goes with it is left on
// it. base is the beginning of hrefs in messages.
func (c *change) deleteObject(o model.Object, base string) error {
	if err := c.mayDelete(o, base); err != nil {
		return err
	}
	switch o := o.(type) {
	case *model.VirtualNetwork:
		if err := c.mayDeleteNetwork(o); err != nil {
			return err
		}
		if err := c.returnNumbers(o); err != nil {
			return err
		}
	case *model.LogicalRouter:
		if err := c.returnVXLAN(o); err != nil {
			return err
		}
	case *model.SecurityGroup:
		if err := c.returnGroup(o); err != nil {
			return err
		}
	case *model.ServiceInstance:
		if err := c.returnPassages(o.UUID); err != nil {
			return err
		}
	case *model.RoutingInstance:
		if err := c.returnInstance(o); err != nil {
			return err
		}
	case *model.InstanceIP:
		if err := c.returnAddress(o); err != nil {
			return err
		}
	case *model.Tag:
		if err := c.returnTag(o); err != nil {
			return err
		}
	case *model.TagType:
		if err := c.returnTagType(o); err != nil {
			return err
		}
	case *model.FloatingIP:
		if err := c.returnFloating(o); err != nil {
			return err
		}
	case *model.AliasIP:
		if err := c.returnToPool(o.ParentUUID, o.AliasIPAddress); err != nil {
			return err
		}
	case *model.VirtualMachineInterface:
		if b, ok := c.v.Binding(o.UUID); ok {
			if err := c.unbind(b); err != nil {
				return err
			}
		}
	case *model.VirtualRouter:
		if n, ok := c.v.Node(o.UUID); ok {
			return taken("virtual-router %s is that of a node that has joined; run `contrail node remove %s`", o.UUID, n.Name)
		}
		for _, b := range c.v.BindingsOfNode(o.UUID) {
			if err := c.unbind(b); err != nil {
				return err
			}
		}
	}
	c.remove(o)
	return nil
}
