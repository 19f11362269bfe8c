package configapi

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// setSubnets makes refs all references that a network has to IPAMs from now
// on: it checks them, fills in what their subnets leave out, and refuses what
// would orphan an address in use. The references themselves are written by the
// caller.
func (c *change) setSubnets(network model.Object, refs []model.Reference, where string) error {
	id, scope := network.GetMeta().UUID, networkScope(network.GetMeta().FQName)
	var own, all []subnet
	for i := range refs {
		r := &refs[i]
		if r.To.Kind != model.KindNetworkIPAM {
			continue
		}
		ipam, ok := model.Get[*model.NetworkIPAM](c.v, r.To.UUID)
		var list []subnet
		var err error
		if ok && isFlat(ipam) {
			if list, err = c.flatOf(ipam, r); err == nil {
				all = append(all, list...)
			}
		} else if list, err = c.completeRef(r, scope); err == nil {
			own = append(own, list...)
		}
		if err != nil {
			return invalid("Bad reference in %s: %v", where, err)
		}
	}
	all = append(all, own...)
	if err := checkSubnets(all); err != nil {
		return invalid("Bad reference in %s: %v", where, err)
	}
	if _, exists := c.v.Find(id); !exists {
		return nil
	}
	before, flat, err := bothSubnets(c.v, id)
	if err != nil {
		return err
	}
	if err := c.keepFlat(network, flat, all); err != nil {
		return err
	}
	return c.keepUsed(scope, before, own)
}

// checkSubnets refuses subnets of one network that overlap or have one id.
func checkSubnets(list []subnet) error {
	ids := map[string]netip.Prefix{}
	for _, s := range list {
		if other, ok := ids[s.uuid]; ok && s.uuid != "" {
			return fmt.Errorf("subnets %s and %s have the same subnet_uuid %s; leave one out to get another", other, s.prefix, s.uuid)
		}
		ids[s.uuid] = s.prefix
	}
	return checkTogether(list)
}

// flatOf are the subnets that a network has by a flat IPAM; its reference
// cannot name any.
func (c *change) flatOf(ipam *model.NetworkIPAM, r *model.Reference) ([]subnet, error) {
	attr, err := model.RefAttr[model.VnSubnetsType](*r)
	if err != nil {
		return nil, err
	}
	for i := range attr.IPAMSubnets {
		if s := attr.IPAMSubnets[i].Subnet; s != nil {
			return nil, fmt.Errorf("subnet %s/%d: the subnets of network-ipam %s are its own (%s); leave ipam_subnets empty",
				brief(s.IPPrefix), s.IPPrefixLen, model.FQString(ipam.FQName), methodFlat)
		}
	}
	c.holdIPAM(ipam.UUID)
	return flatSubnets(ipam)
}

// completeRef checks the subnets that a network has by a reference.
func (c *change) completeRef(r *model.Reference, scope string) ([]subnet, error) {
	attr, err := model.RefAttr[model.VnSubnetsType](*r)
	if err != nil {
		return nil, err
	}
	var before model.VnSubnetsType
	if old, ok := c.v.Reference(r.From.UUID, r.To.UUID); ok {
		if before, err = model.RefAttr[model.VnSubnetsType](old); err != nil {
			return nil, err
		}
	}
	list, err := completeSubnets(attr.IPAMSubnets, before.IPAMSubnets, scope)
	if err != nil {
		return nil, err
	}
	if r.Attr, err = json.Marshal(attr); err != nil {
		return nil, fmt.Errorf("encode subnets: %w", err)
	}
	return list, nil
}

// completeSubnets checks subnets and fills in what is left out: from those
// that they replace, else as completeSubnet does.
func completeSubnets(list, before []model.IpamSubnetType, scope string) ([]subnet, error) {
	if len(list) > maxRanges {
		return nil, fmt.Errorf("%d subnets; at most %d are possible", len(list), maxRanges)
	}
	var done []subnet
	for i := range list {
		t := &list[i]
		for k := range before {
			if inherits(t, &before[k]) {
				break
			}
		}
		s, err := completeSubnet(t, scope)
		if err != nil {
			return nil, err
		}
		done = append(done, s)
	}
	return done, nil
}

// inherits takes over the id, gateway and DNS address that a subnet had, where
// a client sends it again without them.
func inherits(t, old *model.IpamSubnetType) bool {
	same := t.Subnet != nil && old.Subnet != nil && *t.Subnet == *old.Subnet
	if t.SubnetUUID != "" && t.SubnetUUID != old.SubnetUUID || t.SubnetUUID == "" && !same {
		return false
	}
	t.SubnetUUID = old.SubnetUUID
	prefix, err := prefixOf(t.Subnet)
	if err != nil || model.ValueOr(t.AddrFromStart, false) != model.ValueOr(old.AddrFromStart, false) {
		return true
	}
	for _, f := range []struct{ now, before *string }{
		{&t.DefaultGateway, &old.DefaultGateway}, {&t.DNSServerAddress, &old.DNSServerAddress},
	} {
		if a, err := netip.ParseAddr(*f.before); *f.now == "" && err == nil && (prefix.Contains(a) || a.IsUnspecified()) {
			*f.now = *f.before
		}
	}
	return true
}

// keepUsed refuses to make the subnets of a scope those of after while an
// address in use would be outside of them, or be the gateway's, the DNS
// server's or one of the edges.
func (c *change) keepUsed(scope string, before, after []subnet) error {
	lost, err := lostRanges(before, after)
	if err != nil {
		return err
	}
	l := c.api.ledger
	for _, r := range lost {
		if a, ok := l.firstUsed(scope, r.From(), r.To(), anyAddress); ok {
			return taken("address %s of %s is in use; its subnet can not be removed: delete what has the address first", a, scope)
		}
	}
	if err := c.keepRoles(scope, before, after); err != nil {
		return err
	}
	moved, err := c.keepUnits(scope, before, after)
	if err != nil {
		return err
	}
	if len(lost) > 0 || moved {
		c.guardUnused(scope, lost, moved)
	}
	return nil
}

// lostRanges are the addresses of the subnets before that none after has.
func lostRanges(before, after []subnet) ([]netipx.IPRange, error) {
	var b netipx.IPSetBuilder
	for _, s := range before {
		b.AddPrefix(s.prefix)
	}
	for _, s := range after {
		b.RemovePrefix(s.prefix)
	}
	set, err := b.IPSet()
	if err != nil {
		return nil, fmt.Errorf("compare subnets: %w", err)
	}
	return set.Ranges(), nil
}

// fewAddresses is up to how many each gets a guard of its own: one on the
// whole scope fails as soon as anybody takes an address anywhere in it.
const fewAddresses = 256

// guardUnused demands that nobody takes one of the lost addresses meanwhile.
func (c *change) guardUnused(scope string, lost []netipx.IPRange, all bool) {
	var n uint64
	for _, r := range lost {
		n = min(n+indexOf(r.From()).distance(indexOf(r.To()))+1, 1<<62)
	}
	if all || n > fewAddresses {
		c.Guard(store.Guard{Condition: store.RangeUnchanged, Key: store.AddressPrefix(scope), Revision: int64(c.since)})
		return
	}
	for _, r := range lost {
		for a := r.From(); r.Contains(a); a = a.Next() {
			c.Guard(store.Guard{Condition: store.Absent, Key: store.AddressKey(scope, a)})
		}
	}
}

// keepRoles refuses to make an address in use a gateway, DNS server, network
// or broadcast address.
func (c *change) keepRoles(scope string, before, after []subnet) error {
	type role struct {
		name    string
		address netip.Addr
	}
	rolesOf := func(list []subnet) []role {
		var roles []role
		for i := range list {
			s := &list[i]
			roles = append(roles, role{"default_gateway", s.gateway}, role{"dns_server_address", s.dns})
			for _, edge := range s.edges() {
				roles = append(roles, role{"network or broadcast address", edge})
			}
		}
		return roles
	}
	had := map[role]bool{}
	for _, r := range rolesOf(before) {
		had[r] = true
	}
	for _, r := range rolesOf(after) {
		inside := slices.ContainsFunc(before, func(s subnet) bool { return s.prefix.Contains(r.address) })
		if !r.address.IsValid() || !inside || had[r] {
			continue
		}
		if c.api.ledger.isUsed(scope, r.address) {
			return taken("address %s of %s is in use; it can not become the %s: choose another or delete what has the address first", r.address, scope, r.name)
		}
		c.Guard(store.Guard{Condition: store.Absent, Key: store.AddressKey(scope, r.address)})
	}
	return nil
}

// keepUnits refuses another alloc_unit where an address in use does not fit
// it: to have been given out with a larger unit is to own its neighbours.
func (c *change) keepUnits(scope string, before, after []subnet) (moved bool, err error) {
	for _, was := range before {
		for _, now := range after {
			if was.unit == now.unit || !was.prefix.Overlaps(now.prefix) {
				continue
			}
			moved = true
			r := netipx.RangeOfPrefix(was.prefix)
			a, ok := c.api.ledger.firstUsed(scope, r.From(), r.To(), func(a netip.Addr) bool {
				return a != now.gateway && (now.unit < was.unit || indexOf(a).lo&(now.unit-1) != 0)
			})
			if ok {
				return moved, taken("address %s of %s is in use; the alloc_unit of subnet %s can not become %d", a, scope, now.prefix, now.unit)
			}
		}
	}
	return moved, nil
}

// keepFlat refuses to take flat subnets away from a network that has addresses
// of them.
func (c *change) keepFlat(network model.Object, before, after []subnet) error {
	lost := slices.DeleteFunc(slices.Clone(before), func(s subnet) bool {
		return slices.ContainsFunc(after, func(n subnet) bool { return n.scope == s.scope && n.prefix == s.prefix })
	})
	if len(lost) == 0 {
		return nil
	}
	for a := range c.addressesOf(network) {
		if s := subnetWith(lost, a); s != nil {
			return taken("address %s of %s is in use; subnet %s can not be removed: delete what has the address first", a, s.scope, s.prefix)
		}
	}
	for _, s := range lost {
		r := netipx.RangeOfPrefix(s.prefix)
		if a, ok := c.api.ledger.firstAllocated(network.GetMeta().UUID, r.From(), r.To()); ok {
			return taken("address %s of %s is in use by ip-alloc; subnet %s can not be removed: give the address back with ip-free first", a, s.scope, s.prefix)
		}
	}
	// Nobody may get one meanwhile.
	e := model.EntityOf(network)
	for _, k := range []store.Key{store.RefPrefixFrom(e, model.KindInstanceIP), store.ChildPrefix(e.UUID), store.AllocatedPrefix(e.UUID)} {
		c.Guard(store.Guard{Condition: store.RangeUnchanged, Key: k, Revision: int64(c.since)})
	}
	for pool := range c.v.ChildSeq(e.UUID, "") {
		c.Guard(store.Guard{Condition: store.RangeUnchanged, Key: store.ChildPrefix(pool.GetMeta().UUID), Revision: int64(c.since)})
	}
	return nil
}

// addressesOf yields the addresses that the objects of a network have; those
// of ip-alloc belong to no object.
func (c *change) addressesOf(network model.Object) func(yield func(netip.Addr) bool) {
	id := network.GetMeta().UUID
	return func(yield func(netip.Addr) bool) {
		try := func(text string) bool {
			a, err := netip.ParseAddr(text)
			return err != nil || yield(a)
		}
		for r := range c.v.BackReferenceSeq(id, model.KindInstanceIP) {
			if o, ok := model.Get[*model.InstanceIP](c.v, r.From.UUID); ok && !try(o.InstanceIPAddress) {
				return
			}
		}
		for pool := range c.v.ChildSeq(id, "") {
			for o := range c.v.ChildSeq(pool.GetMeta().UUID, "") {
				switch o := o.(type) {
				case *model.FloatingIP:
					if !try(o.FloatingIPAddress) {
						return
					}
				case *model.AliasIP:
					if !try(o.AliasIPAddress) {
						return
					}
				}
			}
		}
	}
}

// isResizable tells whether a property can be changed although the contract
// has it fixed: flat subnets grow and shrink as those of networks do.
func isResizable(kind model.Kind, property string) bool {
	return kind == model.KindNetworkIPAM && property == "ipam_subnets"
}

// setFlatSubnets checks the subnets that an IPAM itself is to have, fills in
// what they leave out, and refuses what would orphan an address in use. old is
// nil for a new IPAM.
func (c *change) setFlatSubnets(o, old *model.NetworkIPAM) error {
	switch {
	case o.IPAMSubnetMethod == methodAuto:
		return invalid("Bad property: ipam_subnet_method %s is not offered; use %s or %s", methodAuto, methodUser, methodFlat)
	case o.IPAMSubnets == nil || len(o.IPAMSubnets.Subnets) == 0:
		o.IPAMSubnets = nil
	case !isFlat(o):
		return invalid("Bad property: ipam_subnets need the ipam_subnet_method %s; give the subnets to the networks' references instead", methodFlat)
	default:
		o.IPAMSubnets = &model.IpamSubnets{Subnets: slices.Clone(o.IPAMSubnets.Subnets)}
	}
	var types, replaced []model.IpamSubnetType
	if o.IPAMSubnets != nil {
		types = o.IPAMSubnets.Subnets
	}
	if old != nil && old.IPAMSubnets != nil {
		replaced = old.IPAMSubnets.Subnets
	}
	scope := ipamScope(o.FQName)
	after, err := completeSubnets(types, replaced, scope)
	if err == nil {
		err = checkSubnets(after)
	}
	if err != nil {
		return invalid("Bad property: ipam_subnets: %v", err)
	}
	if old == nil {
		return nil
	}
	before, err := flatSubnets(old)
	if err != nil {
		return err
	}
	if err := c.fitReferrers(o, after); err != nil {
		return err
	}
	return c.keepUsed(scope, before, after)
}

// fitReferrers refuses flat subnets that do not go together with those of a
// network that refers to them, or with the pools of a virtual router.
func (c *change) fitReferrers(o *model.NetworkIPAM, after []subnet) error {
	e := model.EntityOf(o)
	for _, kind := range []model.Kind{model.KindVirtualNetwork, model.KindVirtualRouter} {
		c.Guard(store.Guard{Condition: store.RangeUnchanged, Key: store.RefPrefixFrom(e, kind), Revision: int64(c.since)})
	}
	scope := ipamScope(o.FQName)
	for r := range c.v.BackReferenceSeq(o.UUID, model.KindVirtualNetwork) {
		list, err := subnetsOf(c.v, r.From.UUID)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(s subnet) bool { return s.scope == scope })
		if err := checkTogether(append(list, after...)); err != nil {
			return taken("ipam_subnets do not fit virtual-network %s: %v", r.From.UUID, err)
		}
	}
	for r := range c.v.BackReferenceSeq(o.UUID, model.KindVirtualRouter) {
		attr, err := model.RefAttr[model.VirtualRouterNetworkIpamType](r)
		if err == nil {
			_, err = narrow(after, &attr)
		}
		if err != nil {
			return taken("ipam_subnets do not fit virtual-router %s: %v", r.From.UUID, err)
		}
	}
	return nil
}

// dropIPAM is what a network's lost reference to an IPAM means.
func (c *change) dropIPAM(e model.Edge) error {
	vn, ok := c.v.Find(e.From.UUID)
	if !ok {
		return notFound(e.From.Kind, e.From.UUID)
	}
	var rest []model.Reference
	for r := range c.v.ReferenceSeq(e.From.UUID, model.KindNetworkIPAM) {
		if r.To != e.To {
			rest = append(rest, r)
		}
	}
	return c.setSubnets(vn, rest, "ref-update")
}

// checkRouterIPAM checks a virtual router's reference to an IPAM.
func (c *change) checkRouterIPAM(r model.Reference) error {
	if r.From.Kind != model.KindVirtualRouter || r.To.Kind != model.KindNetworkIPAM {
		return nil
	}
	ipam, ok := model.Get[*model.NetworkIPAM](c.v, r.To.UUID)
	if !ok {
		return notFound(r.To.Kind, r.To.UUID)
	}
	list, err := flatSubnets(ipam)
	if err != nil {
		return err
	}
	attr, err := model.RefAttr[model.VirtualRouterNetworkIpamType](r)
	if err == nil {
		_, err = narrow(list, &attr)
	}
	if err != nil {
		return invalid("Bad reference: network-ipam %s: %v", model.FQString(ipam.FQName), err)
	}
	c.holdIPAM(ipam.UUID)
	return nil
}

// dropRouterIPAM refuses to take an IPAM away from a virtual router that has
// addresses of it.
func (c *change) dropRouterIPAM(e model.Edge) error {
	ipam, ok := model.Get[*model.NetworkIPAM](c.v, e.To.UUID)
	if !ok {
		return nil
	}
	list, err := flatSubnets(ipam)
	if err != nil {
		return err
	}
	for r := range c.v.BackReferenceSeq(e.From.UUID, model.KindInstanceIP) {
		o, ok := model.Get[*model.InstanceIP](c.v, r.From.UUID)
		if !ok {
			continue
		}
		if a, err := netip.ParseAddr(o.InstanceIPAddress); err == nil && subnetWith(list, a) != nil {
			return taken("address %s of %s is in use by instance-ip %s of the virtual-router; delete that first", a, ipamScope(ipam.FQName), o.UUID)
		}
	}
	c.Guard(store.Guard{Condition: store.RangeUnchanged, Key: store.RefPrefixFrom(e.From, model.KindInstanceIP), Revision: int64(c.since)})
	return nil
}

// mayDeleteNetwork refuses to delete a network that has addresses by ip-alloc.
func (c *change) mayDeleteNetwork(vn *model.VirtualNetwork) error {
	for _, all := range []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")} {
		r := netipx.RangeOfPrefix(all)
		if a, ok := c.api.ledger.firstAllocated(vn.UUID, r.From(), r.To()); ok {
			return taken("address %s of virtual-network %s is in use by ip-alloc; give it back with ip-free first", a, model.FQString(vn.FQName))
		}
	}
	c.Guard(store.Guard{Condition: store.RangeEmpty, Key: store.AllocatedPrefix(vn.UUID)})
	return nil
}
