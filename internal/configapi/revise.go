package configapi

import (
	"reflect"

	"github.com/contrail-mesos/contrail/internal/model"
)

// revise does what new values of an object's properties mean beside
// themselves, and refuses those that do not go. It may change o, which is
// written afterwards; what o points to is shared with old.
func (c *change) revise(o, old model.Object) error {
	if err := c.checkTargets(o, old); err != nil {
		return err
	}
	switch o := o.(type) {
	case *model.VirtualNetwork, *model.LogicalRouter:
		return c.numberVXLAN(o, old)
	case *model.SecurityGroup:
		return c.numberGroup(o, old.(*model.SecurityGroup))
	case *model.GlobalSystemConfig:
		before := old.(*model.GlobalSystemConfig)
		if err := c.changeBGPServicePorts(o, before); err != nil {
			return err
		}
		return c.changeSystem(o, before)
	case *model.NetworkIPAM:
		if reflect.DeepEqual(o.IPAMSubnets, old.(*model.NetworkIPAM).IPAMSubnets) {
			return nil
		}
		return c.setFlatSubnets(o, old.(*model.NetworkIPAM))
	case *model.VirtualMachineInterface:
		return c.changeMACs(o, old.(*model.VirtualMachineInterface))
	case *model.InstanceIP:
		if !reflect.DeepEqual(o.InstanceIPSubnet, old.(*model.InstanceIP).InstanceIPSubnet) {
			return invalid("Bad property in http_put: instance_ip_subnet can not be changed; the address %s stays", o.InstanceIPAddress)
		}
		return checkTracking(o)
	case *model.FloatingIP:
		before := old.(*model.FloatingIP)
		if o.FloatingIPAddressFamily != before.FloatingIPAddressFamily {
			return invalid("Bad property in http_put: floating_ip_address_family can not be changed; the address %s stays", o.FloatingIPAddress)
		}
		if o.FloatingIPFixedIPAddress != before.FloatingIPFixedIPAddress {
			return c.fixedOf(o, targetsOf(c.v.References(o.UUID, ""), model.KindVirtualMachineInterface))
		}
	case *model.AliasIP:
		if o.AliasIPAddressFamily != old.(*model.AliasIP).AliasIPAddressFamily {
			return invalid("Bad property in http_put: alias_ip_address_family can not be changed; the address %s stays", o.AliasIPAddress)
		}
	}
	return nil
}
