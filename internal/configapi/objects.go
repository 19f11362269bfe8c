package configapi

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// Numbers of security groups that the system chooses begin here; lower ones
// are configured by users.
const (
	securityGroups     = "security-group"
	firstSecurityGroup = 8_000_000
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
		if err := c.need(r.To); err != nil {
			return err
		}
		c.disown(r.To.UUID)
		c.PutReference(r)
	}
	return nil
}

// prepare allocates what a new object needs and fills in what follows from its
// type. It may change the attributes of refs.
func (c *change) prepare(o model.Object, refs []model.Reference) error {
	switch o := o.(type) {
	case *model.VirtualNetwork:
		if o.VirtualNetworkNetworkID != nil {
			return denied("Cannot set the virtual network ID")
		}
		if _, err := completeSubnets(refs); err != nil {
			return invalid("Bad reference in create: %v", err)
		}
		n, err := c.takeNumber(networkNumbers, 1, o.UUID)
		o.VirtualNetworkNetworkID = new(int64(n))
		return err
	case *model.SecurityGroup:
		if o.SecurityGroupID != nil {
			return denied("Cannot set the security group ID")
		}
		n, err := c.takeNumber(securityGroups, firstSecurityGroup, o.UUID)
		o.SecurityGroupID = new(int64(n))
		return err
	case *model.VirtualMachineInterface:
		if err := completeMAC(o); err != nil {
			return err
		}
		for _, r := range refs {
			if r.To.Kind == model.KindVirtualMachine {
				if err := c.bindInterface(o.UUID, r.To.UUID); err != nil {
					return err
				}
			}
		}
	case *model.InstanceIP:
		return c.addressInstance(o, refs)
	case *model.Tag:
		return c.prepareTag(o, refs)
	case *model.TagType:
		return c.prepareTagType(o)
	}
	return nil
}

func completeMAC(o *model.VirtualMachineInterface) error {
	if m := o.VirtualMachineInterfaceMACAddresses; m != nil && len(m.MACAddress) > 0 {
		for _, text := range m.MACAddress {
			if hw, err := net.ParseMAC(text); err != nil || len(hw) != 6 {
				return invalid("Bad property in create: virtual_machine_interface_mac_addresses: %q is no MAC address; write it as 02:00:00:00:00:01", brief(text))
			}
		}
		return nil
	}
	mac, err := model.MACOf(o.UUID)
	if err != nil {
		return err
	}
	o.VirtualMachineInterfaceMACAddresses = &model.MacAddressesType{MACAddress: []string{mac.String()}}
	return nil
}

// completeSubnets checks the subnets of a network's references to IPAMs and
// fills in what is left out.
func completeSubnets(refs []model.Reference) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for i := range refs {
		if refs[i].To.Kind != model.KindNetworkIPAM {
			continue
		}
		attr, err := model.RefAttr[model.VnSubnetsType](refs[i])
		if err != nil {
			return nil, err
		}
		for j := range attr.IPAMSubnets {
			if err := completeSubnet(&attr.IPAMSubnets[j]); err != nil {
				return nil, err
			}
			p, err := prefixOf(attr.IPAMSubnets[j].Subnet)
			if err != nil {
				return nil, err
			}
			all = append(all, p)
		}
		if refs[i].Attr, err = json.Marshal(attr); err != nil {
			return nil, fmt.Errorf("encode subnets: %w", err)
		}
	}
	return all, checkOverlap(all)
}

// addressInstance gives an instance-ip its address.
func (c *change) addressInstance(o *model.InstanceIP, refs []model.Reference) error {
	var vn *model.VirtualNetwork
	for _, r := range refs {
		if r.To.Kind == model.KindVirtualNetwork {
			vn, _ = model.Get[*model.VirtualNetwork](c.v, r.To.UUID)
		}
	}
	if vn == nil {
		return invalid("Bad Request, instance-ip %s has no virtual_network_refs; name the network that the address is from", o.Name())
	}
	subnets, err := subnetsOf(c.v, vn.UUID)
	if err != nil {
		return err
	}
	if o.SubnetUUID != "" {
		subnets = slices.DeleteFunc(subnets, func(s subnet) bool { return s.uuid != o.SubnetUUID })
		if len(subnets) == 0 {
			return invalid("Virtual-Network(%s) has invalid subnet(%s)", model.FQString(vn.FQName), o.SubnetUUID)
		}
	}
	var want netip.Addr
	if o.InstanceIPAddress != "" {
		if want, err = netip.ParseAddr(o.InstanceIPAddress); err != nil {
			return invalid("Bad property in create: instance_ip_address: %q is no address", brief(o.InstanceIPAddress))
		}
	} else {
		family := "v4"
		six := o.InstanceIPFamily == "v6"
		if six {
			family = "v6"
		}
		filtered := slices.DeleteFunc(slices.Clone(subnets), func(s subnet) bool { return s.prefix.Addr().Is6() != six })
		if len(filtered) == 0 && len(subnets) > 0 {
			return invalid("Virtual-Network(%s) has no subnet of family %s", model.FQString(vn.FQName), family)
		}
		subnets = filtered
	}
	c.holdSubnets(vn)
	got, err := c.takeAddress(vn.FQName, subnets, want, o.UUID)
	if err != nil {
		return err
	}
	o.InstanceIPAddress, o.SubnetUUID = got.address.String(), got.subnet.uuid
	o.InstanceIPFamily = "v4"
	if got.address.Is6() {
		o.InstanceIPFamily = "v6"
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
	_, exists := c.v.Reference(r.From.UUID, r.To.UUID)
	if !exists {
		if err := c.referenceAdded(r.Edge()); err != nil {
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
		return c.bindInterface(e.From.UUID, e.To.UUID)
	case e.From.Kind == model.KindInstanceIP && e.To.Kind == model.KindVirtualNetwork:
		return invalid("the network of an instance-ip can not be changed; delete it and create another")
	case e.From.Kind == model.KindVirtualMachineInterface && e.To.Kind == model.KindVirtualNetwork:
		return c.mayMove(e.From.UUID)
	case e.From.Kind == model.KindTag && e.To.Kind == model.KindTagType:
		return invalid("Tag-type reference cannot be updated")
	}
	return nil
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
	case e.From.Kind == model.KindInstanceIP && e.To.Kind == model.KindVirtualNetwork:
		return invalid("the network of an instance-ip can not be changed; delete it and create another")
	case e.From.Kind == model.KindVirtualMachineInterface && e.To.Kind == model.KindVirtualNetwork:
		if err := c.mayMove(e.From.UUID); err != nil {
			return err
		}
	case e.From.Kind == model.KindTag && e.To.Kind == model.KindTagType:
		return invalid("Tag-type reference cannot be updated")
	case e.From.Kind == model.KindVirtualNetwork && e.To.Kind == model.KindNetworkIPAM:
		rest, err := c.otherPrefixes(e.From.UUID, e.To.UUID)
		if err != nil {
			return err
		}
		if err := c.keepUsed(e.From.UUID, rest); err != nil {
			return err
		}
	}
	c.disown(e.From.UUID)
	c.dropEdge(e)
	return nil
}

// otherPrefixes are the subnets that a network has by other IPAMs than one.
func (c *change) otherPrefixes(network, ipam string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for r := range c.v.ReferenceSeq(network, model.KindNetworkIPAM) {
		if r.To.UUID == ipam {
			continue
		}
		attr, err := model.RefAttr[model.VnSubnetsType](r)
		if err != nil {
			return nil, err
		}
		for i := range attr.IPAMSubnets {
			p, err := prefixOf(attr.IPAMSubnets[i].Subnet)
			if err != nil {
				return nil, err
			}
			list = append(list, p)
		}
	}
	return list, nil
}

// keepUsed refuses to leave a network with these subnets only while addresses
// of others are in use.
func (c *change) keepUsed(network string, after []netip.Prefix) error {
	vn, ok := model.Get[*model.VirtualNetwork](c.v, network)
	if !ok {
		return nil
	}
	scope := model.FQString(vn.FQName)
	for _, a := range c.api.ledger.addressesOf(scope) {
		if !slices.ContainsFunc(after, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return taken("address %s of network %s is in use; its subnet can not be removed", a, scope)
		}
	}
	c.Guard(store.Guard{Condition: store.RangeUnchanged, Key: store.AddressPrefix(scope), Revision: int64(c.since)})
	return nil
}

// inheritSubnets gives subnets that a client sends again without their ids the
// ones they had.
func (c *change) inheritSubnets(refs []model.Reference) error {
	for i := range refs {
		old, ok := c.v.Reference(refs[i].From.UUID, refs[i].To.UUID)
		if !ok || refs[i].To.Kind != model.KindNetworkIPAM {
			continue
		}
		before, err := model.RefAttr[model.VnSubnetsType](old)
		if err != nil {
			return err
		}
		after, err := model.RefAttr[model.VnSubnetsType](refs[i])
		if err != nil {
			return err
		}
		for j := range after.IPAMSubnets {
			s := &after.IPAMSubnets[j]
			for k := range before.IPAMSubnets {
				if b := &before.IPAMSubnets[k]; s.SubnetUUID == "" && s.Subnet != nil && b.Subnet != nil && *s.Subnet == *b.Subnet {
					s.SubnetUUID = b.SubnetUUID
				}
			}
		}
		if refs[i].Attr, err = json.Marshal(after); err != nil {
			return fmt.Errorf("encode subnets: %w", err)
		}
	}
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
		if err := c.returnNumbers(o); err != nil {
			return err
		}
	case *model.SecurityGroup:
		if n := model.ValueOr(o.SecurityGroupID, 0); n >= firstSecurityGroup {
			if err := c.giveBack(store.NumberKey(securityGroups, uint32(n)), ""); err != nil {
				return err
			}
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
