package configapi

import (
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// families of addresses as properties have them.
const (
	familyIPv4 = "v4"
	familyIPv6 = "v6"
)

func familyOf(a netip.Addr) string {
	if a.Is6() {
		return familyIPv6
	}
	return familyIPv4
}

// targetsOf are the targets of one kind among references.
func targetsOf(refs []model.Reference, kind model.Kind) []string {
	var list []string
	for _, r := range refs {
		if r.To.Kind == kind {
			list = append(list, r.To.UUID)
		}
	}
	return list
}

// source is where an instance-ip has its address from.
type source struct {
	// from names it, for messages.
	from    string
	subnets []subnet
	// network is nil where the address is an IPAM's or a virtual router's.
	network *model.VirtualNetwork
	// ipams are those of a source that is no network.
	ipams []string
}

// sourceOf finds where a new instance-ip has its address from, and demands
// that it stays as it is.
func (c *change) sourceOf(o *model.InstanceIP, refs []model.Reference) (*source, error) {
	networks := targetsOf(refs, model.KindVirtualNetwork)
	ipams := targetsOf(refs, model.KindNetworkIPAM)
	routers := targetsOf(refs, model.KindVirtualRouter)
	switch {
	case len(networks) > 1 || len(ipams) > 1 || len(routers) > 1:
		return nil, invalid("Bad Request, instance-ip %s has several of virtual_network_refs, network_ipam_refs or virtual_router_refs; name one source of the address", o.Name())
	case len(networks) == 1 && len(routers) == 1, len(ipams) == 1 && len(routers) == 1:
		return nil, invalid("Bad Request, instance-ip %s has virtual_router_refs beside another source of the address; name one", o.Name())
	case len(networks) == 1:
		return c.networkSource(networks[0], ipams)
	case len(ipams) == 1:
		return c.ipamSource(ipams[0])
	case len(routers) == 1:
		return c.routerSource(routers[0])
	default:
		return nil, invalid("Bad Request, instance-ip %s has no virtual_network_refs; name the network that the address is from", o.Name())
	}
}

func (c *change) networkSource(network string, ipams []string) (*source, error) {
	vn, ok := model.Get[*model.VirtualNetwork](c.v, network)
	if !ok {
		return nil, notFound(model.KindVirtualNetwork, network)
	}
	subnets, err := c.choices(vn)
	if err != nil {
		return nil, err
	}
	c.holdSubnets(vn.UUID)
	s := &source{from: ofNetwork(vn.FQName), subnets: subnets, network: vn}
	if len(ipams) == 1 {
		if s.subnets, err = c.subnetsUnder(vn, ipams[0]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// subnetsUnder are the subnets that a network has by one of its IPAMs.
func (c *change) subnetsUnder(vn *model.VirtualNetwork, ipam string) ([]subnet, error) {
	r, ok := c.v.Reference(vn.UUID, ipam)
	if !ok {
		return nil, invalid("%s has no network-ipam %s; name one of its network_ipam_refs or none", ofNetwork(vn.FQName), ipam)
	}
	if o, ok := model.Get[*model.NetworkIPAM](c.v, ipam); ok && isFlat(o) {
		return flatSubnets(o)
	}
	return c.api.subnets.read(r, networkScope(vn.FQName))
}

func (c *change) ipamSource(uuid string) (*source, error) {
	ipam, ok := model.Get[*model.NetworkIPAM](c.v, uuid)
	if !ok {
		return nil, notFound(model.KindNetworkIPAM, uuid)
	}
	from := "Network-Ipam(" + model.FQString(ipam.FQName) + ")"
	if !isFlat(ipam) {
		return nil, invalid("%s has no flat-subnet of its own; name the network that the address is from in virtual_network_refs", from)
	}
	subnets, err := flatSubnets(ipam)
	c.holdIPAM(uuid)
	return &source{from: from, subnets: subnets, ipams: []string{uuid}}, err
}

func (c *change) routerSource(uuid string) (*source, error) {
	router, ok := c.v.Object(model.KindVirtualRouter, uuid)
	if !ok {
		return nil, notFound(model.KindVirtualRouter, uuid)
	}
	s := &source{from: "Virtual-Router(" + model.FQString(router.GetMeta().FQName) + ")"}
	for r := range c.v.ReferenceSeq(uuid, model.KindNetworkIPAM) {
		k := store.RefKey(r.Edge())
		c.Guard(store.Guard{Condition: store.Present, Key: k})
		c.Guard(store.Guard{Condition: store.NotSince, Key: k, Revision: int64(c.since)})
		c.holdIPAM(r.To.UUID)
		s.ipams = append(s.ipams, r.To.UUID)
	}
	var err error
	s.subnets, err = routerSubnets(c.v, uuid)
	return s, err
}

// only leaves the subnets that a property of an instance-ip chooses.
func (s *source) only(o *model.InstanceIP) error {
	keep := func(name string, f func(subnet) bool) error {
		s.subnets = slices.DeleteFunc(slices.Clone(s.subnets), func(n subnet) bool { return !f(n) })
		if len(s.subnets) == 0 {
			return invalid("%s has invalid subnet(%s)", s.from, name)
		}
		return nil
	}
	if len(s.subnets) == 0 {
		return nil // takeAddress says so
	}
	if o.SubnetUUID != "" {
		if err := keep(brief(o.SubnetUUID), func(n subnet) bool { return n.uuid == o.SubnetUUID }); err != nil {
			return err
		}
	}
	if o.InstanceIPSubnet != nil {
		p, err := prefixOf(o.InstanceIPSubnet)
		if err != nil {
			return invalid("Bad property in create: instance_ip_subnet: %v", err)
		}
		return keep(p.String(), func(n subnet) bool { return n.prefix == p })
	}
	return nil
}

// family leaves the subnets of one family when no address is asked for.
func (s *source) family(family string) error {
	six := family == familyIPv6
	if family == "" {
		family = familyIPv4
	}
	filtered := ofFamily(s.subnets, six)
	if len(filtered) == 0 && len(s.subnets) > 0 {
		return invalid("%s has no subnet of family %s", s.from, family)
	}
	s.subnets = filtered
	return nil
}

// addressInstance gives an instance-ip its address.
func (c *change) addressInstance(o *model.InstanceIP, refs []model.Reference) error {
	if err := checkTracking(o); err != nil {
		return err
	}
	s, err := c.sourceOf(o, refs)
	if err != nil {
		return err
	}
	want, err := wantedAddress("instance_ip_address", o.InstanceIPAddress, o.InstanceIPFamily)
	if err != nil {
		return err
	}
	interfaces := targetsOf(refs, model.KindVirtualMachineInterface)
	for _, vmi := range interfaces {
		if err := c.mayBeOn(vmi, s.network, s.ipams); err != nil {
			return err
		}
	}
	if s.network != nil && len(s.subnets) == 0 && isSystemNetwork(s.network.FQName) && want.IsValid() {
		// The underlay's and the link-local addresses are the hosts' own.
		return c.takeHostAddress(o, networkScope(s.network.FQName), want)
	}
	if err := s.only(o); err != nil {
		return err
	}
	if !want.IsValid() {
		if err := s.family(o.InstanceIPFamily); err != nil {
			return err
		}
	}
	got, err := c.takeAddress(wish{
		from: s.from, subnets: s.subnets, address: want, owner: o.UUID,
		gateway: len(interfaces) > 0 && !slices.ContainsFunc(interfaces, c.hasMachine),
	})
	if err != nil {
		return err
	}
	o.InstanceIPAddress, o.SubnetUUID, o.InstanceIPFamily = got.address.String(), got.subnet.uuid, familyOf(got.address)
	return nil
}

// takeHostAddress gives an instance-ip an address that no subnet describes.
func (c *change) takeHostAddress(o *model.InstanceIP, scope string, a netip.Addr) error {
	k := store.AddressKey(scope, a)
	if c.api.ledger.isUsed(scope, a) {
		return addressInUse(scope, a)
	}
	c.Create(k, []byte(o.UUID))
	c.Delete(store.RestKey(k))
	o.InstanceIPAddress, o.InstanceIPFamily = a.String(), familyOf(a)
	return nil
}

// wantedAddress reads an address that a client asks for; none is invalid.
func wantedAddress(field, text, family string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.IsUnspecified() {
		return a, invalid("Bad property in create: %s: %q is no address", field, brief(text))
	}
	if family != "" && family != familyOf(a) {
		return a, invalid("Bad property in create: %s %s is not of the family %s; leave the family out", field, a, family)
	}
	return a, nil
}

// checkTracking checks which address decides over a secondary one.
func checkTracking(o *model.InstanceIP) error {
	if o.SecondaryIPTrackingIP == nil {
		return nil
	}
	p, err := prefixOf(o.SecondaryIPTrackingIP)
	switch {
	case err != nil:
		return invalid("Bad property: secondary_ip_tracking_ip: %v", err)
	case p.Bits() != p.Addr().BitLen():
		return invalid("Bad property: secondary_ip_tracking_ip %s is no single address; use ip_prefix_len %d", p, p.Addr().BitLen())
	case !model.ValueOr(o.InstanceIPSecondary, false):
		return invalid("Bad property: secondary_ip_tracking_ip %s needs instance_ip_secondary true", p.Addr())
	}
	return nil
}

// hasMachine tells whether an interface is that of a virtual machine.
func (c *change) hasMachine(vmi string) bool {
	return countReferences(c.v, vmi, model.KindVirtualMachine) > 0
}

// mayBeOn refuses an address on an interface that is not in its network, where
// it could be somebody else's.
func (c *change) mayBeOn(vmi string, network *model.VirtualNetwork, ipams []string) error {
	for r := range c.v.ReferenceSeq(vmi, model.KindVirtualNetwork) {
		if network != nil && r.To.UUID == network.UUID {
			c.Guard(store.Guard{Condition: store.Present, Key: store.RefKey(r.Edge())})
			return nil
		}
		for _, ipam := range ipams {
			if through, ok := c.v.Reference(r.To.UUID, ipam); ok {
				c.Guard(store.Guard{Condition: store.Present, Key: store.RefKey(r.Edge())})
				c.Guard(store.Guard{Condition: store.Present, Key: store.RefKey(through.Edge())})
				return nil
			}
		}
	}
	if network != nil {
		return invalid("virtual-machine-interface %s is not in virtual-network %s, which the address is from; reference an interface of that network", vmi, model.FQString(network.FQName))
	}
	return invalid("virtual-machine-interface %s is in no network of the network-ipam that the address is from; reference an interface of such a network", vmi)
}

// addInterface is what a further interface of an instance-ip means.
func (c *change) addInterface(ip, vmi string) error {
	o, ok := model.Get[*model.InstanceIP](c.v, ip)
	if !ok {
		return notFound(model.KindInstanceIP, ip)
	}
	refs := c.v.References(ip, "")
	var network *model.VirtualNetwork
	if list := targetsOf(refs, model.KindVirtualNetwork); len(list) > 0 {
		network, _ = model.Get[*model.VirtualNetwork](c.v, list[0])
	}
	ipams := targetsOf(refs, model.KindNetworkIPAM)
	for _, router := range targetsOf(refs, model.KindVirtualRouter) {
		ipams = append(ipams, targetsOf(c.v.References(router, model.KindNetworkIPAM), model.KindNetworkIPAM)...)
	}
	if err := c.mayBeOn(vmi, network, ipams); err != nil {
		return err
	}
	if c.hasMachine(vmi) {
		return c.notGateway(o, network)
	}
	return nil
}

// notGateway refuses the address of a gateway on the port of a machine.
func (c *change) notGateway(o *model.InstanceIP, network *model.VirtualNetwork) error {
	a, err := netip.ParseAddr(o.InstanceIPAddress)
	if err != nil || network == nil {
		return nil
	}
	list, err := subnetsOf(c.v, network.UUID)
	if err != nil {
		return err
	}
	if s := subnetWith(list, a); s != nil && s.gateway == a {
		return invalid("Gateway IP cannot be used by VM port: %s is the gateway of subnet %s; only an interface without a virtual machine may have it", a, s.prefix)
	}
	return nil
}

// addMachine is what the machine of an interface means for its addresses.
func (c *change) addMachine(vmi string) error {
	for r := range c.v.BackReferenceSeq(vmi, model.KindInstanceIP) {
		o, ok := model.Get[*model.InstanceIP](c.v, r.From.UUID)
		if !ok {
			continue
		}
		for n := range c.v.ReferenceSeq(o.UUID, model.KindVirtualNetwork) {
			if vn, ok := model.Get[*model.VirtualNetwork](c.v, n.To.UUID); ok {
				if err := c.notGateway(o, vn); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// returnAddress gives back the address of an instance-ip.
func (c *change) returnAddress(ip *model.InstanceIP) error {
	a, err := netip.ParseAddr(ip.InstanceIPAddress)
	if err != nil {
		return nil // it never had one
	}
	refs := c.v.References(ip.UUID, "")
	for _, id := range targetsOf(refs, model.KindVirtualNetwork) {
		if vn, ok := c.v.Find(id); ok {
			return c.returnTo(vn, a)
		}
	}
	ipams := targetsOf(refs, model.KindNetworkIPAM)
	for _, router := range targetsOf(refs, model.KindVirtualRouter) {
		ipams = append(ipams, targetsOf(c.v.References(router, model.KindNetworkIPAM), model.KindNetworkIPAM)...)
	}
	for _, id := range ipams {
		ipam, ok := model.Get[*model.NetworkIPAM](c.v, id)
		if !ok {
			continue
		}
		list, err := flatSubnets(ipam)
		if err != nil {
			return err
		}
		if subnetWith(list, a) != nil {
			return c.giveBackAddress(ipamScope(ipam.FQName), a)
		}
	}
	return nil
}

// returnTo gives an address back to a network.
func (c *change) returnTo(vn model.Object, a netip.Addr) error {
	scope, err := scopeIn(c.v, vn, a)
	if err != nil {
		return err
	}
	return c.giveBackAddress(scope, a)
}

func (c *change) giveBackAddress(scope string, a netip.Addr) error {
	if k := store.AddressKey(scope, a); !c.Touches(k) {
		return c.giveBack(k, "")
	}
	return nil
}
