package configapi

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// Ways in which an IPAM has subnets.
const (
	methodUser = "user-defined-subnet"
	methodFlat = "flat-subnet"
	methodAuto = "auto-subnet"
)

// Orders in which a network takes addresses.
const (
	modeUserOnly = "user-defined-subnet-only"
	modeFlat     = "flat-subnet-preferred"
	modeFlatOnly = "flat-subnet-only"
)

// networkScope is where the addresses of a network's own subnets are unique.
func networkScope(fqName []string) string { return model.FQString(fqName) }

// ipamScope is where the addresses of an IPAM's flat subnets are unique. It
// has one part more than the name of a network and meets none.
func ipamScope(fqName []string) string {
	return string(model.KindNetworkIPAM) + ":" + model.FQString(fqName)
}

func isFlat(o *model.NetworkIPAM) bool { return o.IPAMSubnetMethod == methodFlat }

// subnetsOf returns all subnets of a network: its own in the order of its
// references, then those of its flat IPAMs.
func subnetsOf(v *model.View, network string) ([]subnet, error) {
	own, flat, err := bothSubnets(v, network)
	return append(own, flat...), err
}

func bothSubnets(v *model.View, network string) (own, flat []subnet, err error) {
	return bothSubnetsBy(v, network, readAttribute)
}

// bothSubnetsBy is bothSubnets with the way in which the attributes of
// references are read.
func bothSubnetsBy(v *model.View, network string, read func(r model.Reference, scope string) ([]subnet, error)) (own, flat []subnet, err error) {
	vn, ok := v.Object(model.KindVirtualNetwork, network)
	if !ok {
		return nil, nil, nil
	}
	scope := networkScope(vn.GetMeta().FQName)
	for _, r := range v.References(network, model.KindNetworkIPAM) {
		if ipam, ok := model.Get[*model.NetworkIPAM](v, r.To.UUID); ok && isFlat(ipam) {
			list, err := flatSubnets(ipam)
			if err != nil {
				return nil, nil, err
			}
			flat = append(flat, list...)
			continue
		}
		list, err := read(r, scope)
		if err != nil {
			return nil, nil, err
		}
		own = append(own, list...)
	}
	return own, flat, nil
}

// readAttribute reads the subnets of a network's reference to an IPAM.
func readAttribute(r model.Reference, scope string) ([]subnet, error) {
	attr, err := model.RefAttr[model.VnSubnetsType](r)
	if err != nil {
		return nil, err
	}
	return readSubnets(attr.IPAMSubnets, scope)
}

// flatSubnets returns the subnets that an IPAM itself has.
func flatSubnets(ipam *model.NetworkIPAM) ([]subnet, error) {
	if ipam.IPAMSubnets == nil {
		return nil, nil
	}
	return readSubnets(ipam.IPAMSubnets.Subnets, ipamScope(ipam.FQName))
}

func readSubnets(types []model.IpamSubnetType, scope string) ([]subnet, error) {
	var list []subnet
	for i := range types {
		if types[i].Subnet == nil {
			continue // a client names nothing but the flat subnet's id
		}
		s, err := readSubnet(&types[i], scope)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// choices are the subnets that a network gives addresses out of, in order.
func (c *change) choices(vn *model.VirtualNetwork) ([]subnet, error) {
	own, flat, err := bothSubnetsBy(c.v, vn.UUID, c.api.subnets.read)
	if err != nil {
		return nil, err
	}
	switch vn.AddressAllocationMode {
	case modeUserOnly:
		return own, nil
	case modeFlatOnly:
		return flat, nil
	case modeFlat:
		return append(flat, own...), nil
	default:
		return append(own, flat...), nil
	}
}

// holdSubnets demands that the network's subnets are still those of the view.
func (c *change) holdSubnets(network string) {
	for r := range c.v.ReferenceSeq(network, model.KindNetworkIPAM) {
		k := store.RefKey(r.Edge())
		c.Guard(store.Guard{Condition: store.Present, Key: k})
		c.Guard(store.Guard{Condition: store.NotSince, Key: k, Revision: int64(c.since)})
		if ipam, ok := model.Get[*model.NetworkIPAM](c.v, r.To.UUID); ok && isFlat(ipam) {
			c.holdIPAM(ipam.UUID)
		}
	}
}

// holdIPAM demands that an IPAM's own subnets are still those of the view.
func (c *change) holdIPAM(uuid string) {
	c.holdObject(model.Entity{Kind: model.KindNetworkIPAM, UUID: uuid})
}

// holdObject demands that an object is still that of the view.
func (c *change) holdObject(e model.Entity) {
	k := store.ObjectKey(e)
	c.Guard(store.Guard{Condition: store.Present, Key: k})
	c.Guard(store.Guard{Condition: store.NotSince, Key: k, Revision: int64(c.since)})
}

// scopeIn is the scope of an address of a network: that of the subnet that has
// it, else the network's own.
func scopeIn(v *model.View, vn model.Object, a netip.Addr) (string, error) {
	list, err := subnetsOf(v, vn.GetMeta().UUID)
	if err != nil {
		return "", err
	}
	if s := subnetWith(list, a); s != nil {
		return s.scope, nil
	}
	return networkScope(vn.GetMeta().FQName), nil
}

// subnetWith finds the subnet that has an address.
func subnetWith(list []subnet, a netip.Addr) *subnet {
	for i := range list {
		if list[i].prefix.Contains(a) {
			return &list[i]
		}
	}
	return nil
}

func prefixList(subnets []subnet) []netip.Prefix {
	list := make([]netip.Prefix, len(subnets))
	for i := range subnets {
		list[i] = subnets[i].prefix
	}
	return list
}

// ofFamily keeps the subnets of one family.
func ofFamily(list []subnet, six bool) []subnet {
	return slices.DeleteFunc(slices.Clone(list), func(s subnet) bool { return s.prefix.Addr().Is6() != six })
}

// routerSubnets are the subnets that a virtual router takes addresses from for
// itself: those of its IPAMs, within the pools that its references name.
func routerSubnets(v *model.View, router string) ([]subnet, error) {
	var all []subnet
	for _, r := range v.References(router, model.KindNetworkIPAM) {
		ipam, ok := model.Get[*model.NetworkIPAM](v, r.To.UUID)
		if !ok {
			continue
		}
		list, err := flatSubnets(ipam)
		if err != nil {
			return nil, err
		}
		attr, err := model.RefAttr[model.VirtualRouterNetworkIpamType](r)
		if err != nil {
			return nil, err
		}
		if list, err = narrow(list, &attr); err != nil {
			return nil, fmt.Errorf("network-ipam %s: %w", model.FQString(ipam.FQName), err)
		}
		all = append(all, list...)
	}
	return all, nil
}

// narrow leaves what a virtual router may use of an IPAM's subnets.
func narrow(list []subnet, attr *model.VirtualRouterNetworkIpamType) ([]subnet, error) {
	var allowed []netip.Prefix
	for i := range attr.Subnet {
		p, err := prefixOf(&attr.Subnet[i])
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(list, func(s subnet) bool { return s.prefix == p }) {
			return nil, fmt.Errorf("has no subnet %s; name one of %s", p, prefixList(list))
		}
		allowed = append(allowed, p)
	}
	if len(allowed) > 0 {
		list = slices.DeleteFunc(slices.Clone(list), func(s subnet) bool { return !slices.Contains(allowed, s.prefix) })
	}
	if len(attr.AllocationPools) == 0 {
		return list, nil
	}
	narrowed := make([]subnet, len(list))
	for i, s := range list {
		s.pools, s.routerPools, s.known = nil, nil, nil
		narrowed[i] = s
	}
	for _, p := range attr.AllocationPools {
		start, err := netip.ParseAddr(p.Start)
		if err != nil {
			return nil, fmt.Errorf("allocation_pools start %q is no address", brief(p.Start))
		}
		s := subnetWith(narrowed, start)
		if s == nil {
			return nil, fmt.Errorf("allocation pool %s-%s is outside of its subnets %s", p.Start, brief(p.End), prefixList(list))
		}
		r, err := poolIn(s.prefix, p)
		if err != nil {
			return nil, err
		}
		s.pools = append(s.pools, r)
	}
	return slices.DeleteFunc(narrowed, func(s subnet) bool { return len(s.pools) == 0 }), nil
}
