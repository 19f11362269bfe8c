package configapi

import (
	"math"
	"net"
	"slices"
	"strconv"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// Kinds of numbers in the store.
const (
	networkNumbers = "virtual-network"
	securityGroups = "security-group"
	vxlanNumbers   = "vxlan"
	passageNumbers = "passage"
	// instanceNumbers are those of routing instances that clients make.
	instanceNumbers = "routing-instance"
)

const (
	// firstSecurityGroup is where the numbers of security groups begin that
	// the system chooses; lower ones are configured by users.
	firstSecurityGroup = 8_000_000
	// lastVXLAN is the highest network identifier of a VXLAN header.
	lastVXLAN = 1<<24 - 1
)

// takeNetworkNumber gives a network its number. Its own route target is made
// of it, so the number of the autonomous system bounds it.
func (c *change) takeNetworkNumber(owner string) (uint32, error) {
	c.holdSystem()
	asn := compile.ASN(c.v)
	last := min(compile.LastNumber(asn), lastVXLAN)
	n, err := c.takeNumber(networkNumbers, 1, uint32(last), owner)
	if err != nil && last < lastVXLAN {
		return 0, exhausted("no free number for a virtual-network: route targets of the autonomous_system %d have room for %d; delete networks or use a 2-byte autonomous_system", asn, last)
	}
	return n, err
}

// holdSystem demands that the autonomous system is still that of the view.
func (c *change) holdSystem() {
	if o, ok := c.v.ByName(model.KindGlobalSystemConfig, []string{systemConfig}); ok {
		c.Guard(store.Guard{Condition: store.NotSince, Key: store.ObjectKey(model.EntityOf(o)), Revision: int64(c.since)})
	}
}

// numberGroup gives a security group the number that it is configured to have,
// or one of the system's.
func (c *change) numberGroup(o, old *model.SecurityGroup) error {
	configured := uint32(model.ValueOr(o.ConfiguredSecurityGroupID, 0))
	if old != nil {
		before := model.ValueOr(old.ConfiguredSecurityGroupID, 0)
		if before == int64(configured) {
			return nil
		}
		if err := c.returnGroup(old); err != nil {
			return err
		}
	}
	if configured != 0 {
		o.SecurityGroupID = new(int64(configured))
		return c.takeThisNumber(securityGroups, configured, o.UUID, "configured_security_group_id")
	}
	n, err := c.takeNumber(securityGroups, firstSecurityGroup, math.MaxUint32, o.UUID)
	o.SecurityGroupID = new(int64(n))
	return err
}

// returnGroup gives back the number of a security group.
func (c *change) returnGroup(o *model.SecurityGroup) error {
	if n := model.ValueOr(o.SecurityGroupID, 0); n > 0 && n <= math.MaxUint32 {
		return c.giveBack(store.NumberKey(securityGroups, uint32(n)), "")
	}
	return nil
}

// vxlanOf is the VXLAN network identifier that an object is configured to
// have, 0 for none.
func vxlanOf(o model.Object) (uint32, error) {
	switch o := o.(type) {
	case *model.VirtualNetwork:
		if p := o.VirtualNetworkProperties; p != nil {
			return uint32(model.ValueOr(p.VXLANNetworkIdentifier, 0)), nil
		}
	case *model.LogicalRouter:
		if o.VXLANNetworkIdentifier == "" {
			return 0, nil
		}
		n, err := strconv.ParseUint(o.VXLANNetworkIdentifier, 10, 32)
		if err != nil || n == 0 || n > lastVXLAN {
			return 0, invalid("Bad property: vxlan_network_identifier %q is no number from 1 to %d", brief(o.VXLANNetworkIdentifier), lastVXLAN)
		}
		return uint32(n), nil
	}
	return 0, nil
}

// numberVXLAN gives an object the VXLAN network identifier that it asks for,
// which no other network or router has; old is nil for a new object.
func (c *change) numberVXLAN(o, old model.Object) error {
	now, err := vxlanOf(o)
	if err != nil {
		return err
	}
	if old != nil {
		before, err := vxlanOf(old)
		if err != nil || before == now {
			return nil // what was wrong before was never taken
		}
		if err := c.returnVXLAN(old); err != nil {
			return err
		}
	}
	if now == 0 {
		return nil
	}
	return c.takeThisNumber(vxlanNumbers, now, o.GetMeta().UUID, "vxlan_network_identifier")
}

func (c *change) returnVXLAN(o model.Object) error {
	n, err := vxlanOf(o)
	if err != nil || n == 0 {
		return nil // what was wrong before was never taken
	}
	return c.giveBack(store.NumberKey(vxlanNumbers, n), "")
}

// takePassages makes the numbers of the forwarding tables on the two sides of a
// service its own. They follow from its UUID, and two UUIDs may lead to the
// same: the store lets one of them be.
func (c *change) takePassages(service string) error {
	for _, onRight := range []bool{false, true} {
		n := compile.PassageNumber(service, onRight)
		if err := c.takeThisNumber(passageNumbers, n, service, "uuid "+service+": the number that follows from it,"); err != nil {
			return err
		}
	}
	return nil
}

func (c *change) returnPassages(service string) error {
	for _, onRight := range []bool{false, true} {
		if err := c.giveBack(store.NumberKey(passageNumbers, compile.PassageNumber(service, onRight)), ""); err != nil {
			return err
		}
	}
	return nil
}

// takeInstance makes the number of a client's routing instance its own, as
// takePassages does.
func (c *change) takeInstance(o *model.RoutingInstance) error {
	return c.takeThisNumber(instanceNumbers, compile.InstanceNumber(o.UUID), o.UUID, "uuid "+o.UUID+": the number that follows from it,")
}

func (c *change) returnInstance(o *model.RoutingInstance) error {
	return c.giveBack(store.NumberKey(instanceNumbers, compile.InstanceNumber(o.UUID)), "")
}

// routeTargetsOf are the route targets that users gave an object.
func routeTargetsOf(o model.Object) []string {
	var lists []*model.RouteTargetList
	switch o := o.(type) {
	case *model.RouteTarget:
		return o.FQName
	case *model.VirtualNetwork:
		lists = []*model.RouteTargetList{o.RouteTargetList, o.ImportRouteTargetList, o.ExportRouteTargetList}
	case *model.BGPVPN:
		lists = []*model.RouteTargetList{o.RouteTargetList, o.ImportRouteTargetList, o.ExportRouteTargetList}
	case *model.LogicalRouter:
		lists = []*model.RouteTargetList{o.ConfiguredRouteTargetList}
	case *model.RoutingInstance:
		for _, t := range compile.TargetsOfRoutes(o) {
			lists = append(lists, &model.RouteTargetList{RouteTarget: []string{string(t)}})
		}
	}
	var all []string
	for _, list := range lists {
		if list != nil {
			all = append(all, list.RouteTarget...)
		}
	}
	return all
}

// withTargets are the types that users give route targets.
var withTargets = []model.Kind{model.KindVirtualNetwork, model.KindBGPVPN, model.KindLogicalRouter, model.KindRouteTarget, model.KindRoutingInstance}

// checkTargets refuses route targets of users among those that networks get.
func (c *change) checkTargets(o, old model.Object) error {
	targets := routeTargetsOf(o)
	if len(targets) == 0 || old != nil && slices.Equal(targets, routeTargetsOf(old)) {
		return nil
	}
	c.holdSystem()
	asn := compile.ASN(c.v)
	for _, t := range targets {
		if compile.Target(t).IsAutomatic(asn) {
			return invalid("Configured route target must use ASN that is different from global ASN or route target value must be less than %d: %s",
				compile.FirstTarget(asn), t)
		}
	}
	return nil
}

// changeSystem refuses an autonomous system with which a network could get the
// route target that a user has configured, or one that nobody can encode.
func (c *change) changeSystem(o, old *model.GlobalSystemConfig) error {
	asn := model.ValueOr(o.AutonomousSystem, compile.DefaultASN)
	if o.Name() != systemConfig || asn == model.ValueOr(old.AutonomousSystem, compile.DefaultASN) {
		return nil
	}
	for _, kind := range withTargets {
		for other := range c.v.All(kind) {
			for _, t := range routeTargetsOf(other) {
				if compile.Target(t).IsAutomatic(asn) {
					return invalid("%s %s is configured with route target %s, which networks may get for their own with autonomous_system %d; change it first",
						kind, model.FQString(other.GetMeta().FQName), t, asn)
				}
			}
		}
	}
	last := compile.LastNumber(asn)
	for other := range c.v.All(model.KindVirtualNetwork) {
		if n := model.ValueOr(other.(*model.VirtualNetwork).VirtualNetworkNetworkID, 0); n > last {
			return invalid("autonomous_system %d has room for the route targets of networks up to number %d; virtual-network %s has number %d: use a 2-byte autonomous_system",
				asn, last, model.FQString(other.GetMeta().FQName), n)
		}
	}
	// No network may come meanwhile, and none may get another target.
	for _, k := range []store.Key{store.NumberPrefix(networkNumbers), store.KindPrefix(model.KindVirtualNetwork), store.KindPrefix(model.KindBGPVPN), store.KindPrefix(model.KindLogicalRouter), store.KindPrefix(model.KindRouteTarget), store.KindPrefix(model.KindRoutingInstance)} {
		c.Guard(store.Guard{Condition: store.RangeUnchanged, Key: k, Revision: int64(c.since)})
	}
	return nil
}

// macsOf are the MAC addresses of an interface in one way of writing.
func macsOf(o *model.VirtualMachineInterface) []string {
	if o.VirtualMachineInterfaceMACAddresses == nil {
		return nil
	}
	var list []string
	for _, text := range o.VirtualMachineInterfaceMACAddresses.MACAddress {
		if hw, err := net.ParseMAC(text); err == nil && !slices.Contains(list, hw.String()) {
			list = append(list, hw.String())
		}
	}
	return list
}

// maxMACs bounds the MAC addresses of an interface: each is a key in each of
// its networks.
const maxMACs = 256

// completeMAC checks the MAC addresses that an interface asks for, or gives it
// that of its UUID.
func completeMAC(o *model.VirtualMachineInterface) error {
	if m := o.VirtualMachineInterfaceMACAddresses; m != nil && len(m.MACAddress) > 0 {
		if len(m.MACAddress) > maxMACs {
			return invalid("Bad property: virtual_machine_interface_mac_addresses has %d addresses; at most %d are possible", len(m.MACAddress), maxMACs)
		}
		for _, text := range m.MACAddress {
			hw, err := net.ParseMAC(text)
			if err != nil || len(hw) != 6 {
				return invalid("Bad property in create: virtual_machine_interface_mac_addresses: %q is no MAC address; write it as 02:00:00:00:00:01", brief(text))
			}
			if hw[0]&1 != 0 || hw.String() == "00:00:00:00:00:00" {
				return invalid("Bad property in create: virtual_machine_interface_mac_addresses: %s is a group's or nobody's address; write one such as 02:00:00:00:00:01", hw)
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

// takeMACs makes the MAC addresses of an interface its own in a network.
func (c *change) takeMACs(o *model.VirtualMachineInterface, network string) {
	for _, mac := range macsOf(o) {
		if k := store.MACKey(network, mac); !c.Touches(k) {
			c.Create(k, []byte(o.UUID))
		}
	}
}

func (c *change) returnMACs(o *model.VirtualMachineInterface, network string) {
	for _, mac := range macsOf(o) {
		if k := store.MACKey(network, mac); !c.Touches(k) {
			c.Delete(k)
		}
	}
}

// changeMACs gives an interface other MAC addresses in all its networks.
func (c *change) changeMACs(o, old *model.VirtualMachineInterface) error {
	if err := completeMAC(o); err != nil {
		return err
	}
	now, before := macsOf(o), macsOf(old)
	for r := range c.v.ReferenceSeq(o.UUID, model.KindVirtualNetwork) {
		for _, mac := range now {
			if !slices.Contains(before, mac) {
				c.Create(store.MACKey(r.To.UUID, mac), []byte(o.UUID))
			}
		}
		for _, mac := range before {
			if !slices.Contains(now, mac) {
				c.Delete(store.MACKey(r.To.UUID, mac))
			}
		}
	}
	return nil
}
