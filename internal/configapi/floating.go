package configapi

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// poolNetwork is the network that a pool of floating or alias addresses is of.
func (c *change) poolNetwork(pool string) (*model.VirtualNetwork, error) {
	if o, ok := c.v.Find(pool); ok {
		if vn, ok := model.Get[*model.VirtualNetwork](c.v, o.GetMeta().ParentUUID); ok {
			return vn, nil
		}
	}
	return nil, missing("the network of pool %s does not exist", pool)
}

// addressFloating gives a floating-ip its address: one of its pool's network,
// or that of the instance-ip which it is under.
func (c *change) addressFloating(o *model.FloatingIP, refs []model.Reference) error {
	if err := c.fixedOf(o, targetsOf(refs, model.KindVirtualMachineInterface)); err != nil {
		return err
	}
	if o.ParentType == string(model.KindInstanceIP) {
		return c.addressOfParent(o)
	}
	pool, ok := model.Get[*model.FloatingIPPool](c.v, o.ParentUUID)
	if !ok {
		return notFound(model.KindFloatingIPPool, o.ParentUUID)
	}
	var restricted []string
	if pool.FloatingIPPoolSubnets != nil {
		restricted = pool.FloatingIPPoolSubnets.SubnetUUID
	}
	if len(restricted) > 0 {
		c.holdObject(model.EntityOf(pool))
	}
	got, err := c.takeFromPool(o, "floating_ip_address", o.FloatingIPAddress, o.FloatingIPAddressFamily, restricted)
	if err != nil {
		return err
	}
	o.FloatingIPAddress, o.FloatingIPAddressFamily = got.String(), familyOf(got)
	return nil
}

func (c *change) addressOfParent(o *model.FloatingIP) error {
	ip, ok := model.Get[*model.InstanceIP](c.v, o.ParentUUID)
	if !ok {
		return notFound(model.KindInstanceIP, o.ParentUUID)
	}
	if o.FloatingIPAddress != "" && o.FloatingIPAddress != ip.InstanceIPAddress {
		return invalid("Bad property in create: floating_ip_address %s is not that of the instance-ip above it, %s; leave it out",
			brief(o.FloatingIPAddress), ip.InstanceIPAddress)
	}
	o.FloatingIPAddress, o.FloatingIPAddressFamily = ip.InstanceIPAddress, ip.InstanceIPFamily
	return nil
}

// addressAlias gives an alias-ip its address.
func (c *change) addressAlias(o *model.AliasIP) error {
	got, err := c.takeFromPool(o, "alias_ip_address", o.AliasIPAddress, o.AliasIPAddressFamily, nil)
	if err != nil {
		return err
	}
	o.AliasIPAddress, o.AliasIPAddressFamily = got.String(), familyOf(got)
	return nil
}

// takeFromPool takes an address for an object under a pool, of the subnets
// that the pool is restricted to, if it is.
func (c *change) takeFromPool(o model.Object, field, text, family string, restricted []string) (netip.Addr, error) {
	want, err := wantedAddress(field, text, family)
	if err != nil {
		return want, err
	}
	vn, err := c.poolNetwork(o.GetMeta().ParentUUID)
	if err != nil {
		return want, err
	}
	c.holdSubnets(vn.UUID)
	list, err := c.choices(vn)
	if err != nil {
		return want, err
	}
	for _, id := range restricted {
		if !slices.ContainsFunc(list, func(s subnet) bool { return s.uuid == id }) {
			return want, invalid("%s has invalid subnet(%s): floating_ip_pool_subnets of its pool name it; correct the pool", ofNetwork(vn.FQName), brief(id))
		}
	}
	if len(restricted) > 0 {
		list = slices.DeleteFunc(list, func(s subnet) bool { return !slices.Contains(restricted, s.uuid) })
	}
	if !want.IsValid() && len(list) > 0 {
		six := family == familyIPv6 || family == "" && len(ofFamily(list, false)) == 0
		if list = ofFamily(list, six); len(list) == 0 {
			return want, invalid("%s has no subnet of family %s", ofNetwork(vn.FQName), family)
		}
	}
	got, err := c.takeAddress(wish{from: ofNetwork(vn.FQName), subnets: list, address: want, owner: o.GetMeta().UUID})
	return got.address, err
}

// fixedOf demands that the fixed address of a floating-ip is one that its
// interfaces have.
func (c *change) fixedOf(o *model.FloatingIP, interfaces []string) error {
	if o.FloatingIPFixedIPAddress == "" {
		return nil
	}
	fixed, err := netip.ParseAddr(o.FloatingIPFixedIPAddress)
	if err != nil {
		return invalid("Bad property: floating_ip_fixed_ip_address: %q is no address", brief(o.FloatingIPFixedIPAddress))
	}
	for _, vmi := range interfaces {
		for r := range c.v.BackReferenceSeq(vmi, model.KindInstanceIP) {
			ip, ok := model.Get[*model.InstanceIP](c.v, r.From.UUID)
			if ok && ip.InstanceIPAddress == fixed.String() {
				c.Need(model.EntityOf(ip))
				return nil
			}
		}
	}
	if len(interfaces) == 0 {
		return nil // it is looked at when there is one
	}
	return invalid("floating_ip_fixed_ip_address %s is no address of virtual-machine-interface %s; name an address of it or leave it out",
		fixed, strings.Join(interfaces, ", "))
}

// addFloating is what a further interface of a floating-ip means.
func (c *change) addFloating(floating, vmi string) error {
	if o, ok := model.Get[*model.FloatingIP](c.v, floating); ok {
		return c.fixedOf(o, append(targetsOf(c.v.References(floating, ""), model.KindVirtualMachineInterface), vmi))
	}
	return nil
}

// returnFloating gives back the address of a floating-ip that has its own.
func (c *change) returnFloating(o *model.FloatingIP) error {
	if o.ParentType == string(model.KindInstanceIP) {
		return nil
	}
	return c.returnToPool(o.ParentUUID, o.FloatingIPAddress)
}

func (c *change) returnToPool(pool, address string) error {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return nil // it never had one
	}
	vn, err := c.poolNetwork(pool)
	if err != nil {
		return err
	}
	return c.returnTo(vn, a)
}
