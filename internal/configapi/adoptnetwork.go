package configapi

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// adoptNetwork finds the network of something that runs, or makes it again as
// far as the node knows it.
func (c *change) adoptNetwork(r *running) (*place, error) {
	if vn, ok := model.Get[*model.VirtualNetwork](c.v, r.network); ok {
		if !slices.Equal(vn.FQName, r.fqName) {
			return nil, inConflict(vn.UUID, "its network %s is called %s, and it runs in %s", vn.UUID, model.FQString(vn.FQName), model.FQString(r.fqName))
		}
		if n := model.ValueOr(vn.VirtualNetworkNetworkID, 0); n != int64(r.number) {
			return nil, inConflict(vn.UUID, "its network %s has the number %d, and it runs with %d", model.FQString(vn.FQName), n, r.number)
		}
		return c.adoptInto(r, vn)
	}
	if o, ok := c.v.Find(r.network); ok {
		return nil, inConflict(r.network, "the UUID of its network is that of the %s %s", o.Kind(), model.FQString(o.GetMeta().FQName))
	}
	if o, ok := c.v.ByName(model.KindVirtualNetwork, r.fqName); ok {
		return nil, inConflict(o.GetMeta().UUID, "network %s exists with the UUID %s, and it runs in one with the UUID %s",
			model.FQString(r.fqName), o.GetMeta().UUID, r.network)
	}
	if c.api.ledger.isNumberUsed(networkNumbers, r.number) {
		owner := c.networkNumbered(r.number)
		if owner == "" && c.isBehind() {
			return nil, errBehind
		}
		return nil, inConflict(owner, "the number %d of its network is that of network %s", r.number, owner)
	}
	project, err := c.adoptProject(r)
	if err != nil {
		return nil, err
	}
	return c.makeNetworkAgain(r, project)
}

// adoptInto takes a network that exists, and gives it the subnets of the
// addresses that run in it.
func (c *change) adoptInto(r *running, vn *model.VirtualNetwork) (*place, error) {
	project, ok := model.Get[*model.Project](c.v, vn.ParentUUID)
	if !ok {
		return nil, inConflict(vn.UUID, "the project of its network %s does not exist", model.FQString(vn.FQName))
	}
	subnets, err := subnetsOf(c.v, vn.UUID)
	if err != nil {
		return nil, err
	}
	c.Need(model.EntityOf(vn))
	c.Need(model.EntityOf(project))
	c.holdSubnets(vn.UUID)
	p := &place{project, vn, subnets}
	for _, a := range r.addresses {
		if !slices.ContainsFunc(p.subnets, func(s subnet) bool { return s.prefix.Contains(a.prefix.Addr()) }) {
			if err := c.addSubnet(p, a); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// addSubnet gives a network the subnet that an address is of, on the first of
// its IPAMs.
func (c *change) addSubnet(p *place, a runningAddress) error {
	for _, s := range p.subnets {
		if s.prefix.Overlaps(a.prefix.Masked()) {
			return inConflict(p.network.UUID, "its subnet %s overlaps the subnet %s of its network", a.prefix.Masked(), s.prefix)
		}
	}
	for _, ref := range c.v.References(p.network.UUID, model.KindNetworkIPAM) {
		if ipam, ok := model.Get[*model.NetworkIPAM](c.v, ref.To.UUID); ok && isFlat(ipam) {
			continue
		}
		if c.Touches(store.RefKey(ref.Edge())) {
			return inConflict("", "it has addresses of two subnets that its network does not have; add one of them")
		}
		attr, err := model.RefAttr[model.VnSubnetsType](ref)
		if err != nil {
			return err
		}
		t, s, err := subnetAgain(a, p.network)
		if err != nil {
			return err
		}
		attr.IPAMSubnets = append(slices.Clone(attr.IPAMSubnets), t)
		if ref.Attr, err = json.Marshal(attr); err != nil {
			return fmt.Errorf("encode subnets: %w", err)
		}
		c.PutReference(ref)
		p.subnets = append(p.subnets, s)
		return nil
	}
	return inConflict(p.network.UUID, "no subnet of network %s contains its address %s, and the network has no IPAM of its own to add one to",
		model.FQString(p.network.FQName), a.prefix.Addr())
}

// subnetAgain is the subnet of an address as its container was told.
func subnetAgain(a runningAddress, vn *model.VirtualNetwork) (model.IpamSubnetType, subnet, error) {
	prefix := a.prefix.Masked()
	t := model.IpamSubnetType{
		Subnet:         &model.SubnetType{IPPrefix: prefix.Addr().String(), IPPrefixLen: int64(prefix.Bits())},
		AddrFromStart:  new(true),
		DefaultGateway: a.gateway, DNSServerAddress: a.dns,
	}
	s, err := completeSubnet(&t, networkScope(vn.FQName))
	if err != nil {
		return t, s, inConflict("", "the subnet of its address cannot be made again: %v", err)
	}
	return t, s, nil
}

func (c *change) adoptProject(r *running) (*model.Project, error) {
	fq := r.fqName[:2]
	if o, ok := c.v.ByName(model.KindProject, fq); ok {
		c.Need(model.EntityOf(o))
		return o.(*model.Project), nil
	}
	domain, ok := c.v.ByName(model.KindDomain, fq[:1])
	if !ok {
		return nil, inConflict("", "the domain %s of its network does not exist; create it", fq[0])
	}
	id := r.project
	if _, taken := c.v.Find(id); taken || !model.IsUUID(id) {
		id = model.NewUUID()
	}
	meta, err := c.meta(id, domain, fq...)
	if err != nil {
		return nil, err
	}
	meta.Perms2 = model.NewPerms2(tenant(id))
	p := &model.Project{Meta: meta}
	c.Need(model.EntityOf(domain))
	c.CreateObject(p)
	c.own(p)
	return p, nil
}

// makeNetworkAgain creates a network with the UUID, the number and the subnets
// that its containers live by. It goes with its last attachment, as they do
// that attachments bring into being.
func (c *change) makeNetworkAgain(r *running, project *model.Project) (*place, error) {
	meta, err := c.meta(r.network, project, r.fqName...)
	if err != nil {
		return nil, err
	}
	vn := &model.VirtualNetwork{
		Meta: meta, VirtualNetworkNetworkID: new(int64(r.number)),
		VirtualNetworkProperties: &model.VirtualNetworkType{ForwardingMode: "l3"},
	}
	p := &place{project: project, network: vn}
	var attr model.VnSubnetsType
	for _, a := range r.addresses {
		if slices.ContainsFunc(p.subnets, func(s subnet) bool { return s.prefix.Contains(a.prefix.Addr()) }) {
			continue
		}
		t, s, err := subnetAgain(a, p.network)
		if err != nil {
			return nil, err
		}
		attr.IPAMSubnets = append(attr.IPAMSubnets, t)
		p.subnets = append(p.subnets, s)
		c.claimPrefix(s.prefix, r.network)
	}
	if err := checkOverlap(prefixList(p.subnets)); err != nil {
		return nil, inConflict("", "the subnets of its addresses: %v", err)
	}
	ipam, err := c.createIPAM(&wanted{domain: r.fqName[0], project: r.fqName[1], network: r.fqName[2]}, project)
	if err != nil {
		return nil, err
	}
	c.claim(store.NumberKey(networkNumbers, r.number), r.network)
	c.CreateObject(vn)
	c.own(vn)
	return p, c.refer(vn, ipam, attr)
}

// claimPrefix takes a prefix of the cluster's pool for a network that lives by
// it. Where another network has it, both stay: prefixes of networks may overlap.
func (c *change) claimPrefix(p netip.Prefix, network string) {
	pool := c.api.cfg.Pool
	if p.Bits() != max(networkBits, pool.Bits()) || !pool.Contains(p.Addr()) || c.api.ledger.isPrefixUsed(p) {
		return
	}
	c.claim(store.PrefixKey(p), network)
}
