package configapi

import (
	"net/http"
	"net/netip"
	"slices"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// Defaults of an attachment that names nothing.
const (
	defaultDomain  = "default-domain"
	defaultProject = "mesos-default"
	defaultNetwork = "mesos-default-pod-task-network"
)

// Labels of a workload that say where it belongs; messages name them.
const (
	labelDomain  = "domain-name"
	labelProject = "project-name"
	labelNetwork = "networks"
	labelSubnets = "network-subnets"
)

// wanted is a checked NetworkRequest.
type wanted struct {
	domain, project, network string
	prefixes                 []netip.Prefix
	create                   bool
	address                  netip.Addr
}

func (w *wanted) fqName() []string { return []string{w.domain, w.project, w.network} }

func checkNetwork(r *configv1.NetworkRequest) (*wanted, error) {
	w := &wanted{
		domain: r.GetDomain(), project: r.GetProject(), network: r.GetNetwork(), create: r.GetCreateMissing(),
	}
	for _, f := range []struct {
		label string
		kind  model.Kind
		value *string
		other string
	}{
		{labelDomain, model.KindDomain, &w.domain, defaultDomain},
		{labelProject, model.KindProject, &w.project, defaultProject},
		{labelNetwork, model.KindVirtualNetwork, &w.network, defaultNetwork},
	} {
		if *f.value == "" {
			*f.value = f.other
		}
		if err := checkName(f.kind, *f.value); err != nil {
			return nil, invalid("label %s: %v", f.label, err)
		}
	}
	if err := w.checkSubnets(r.GetSubnets()); err != nil {
		return nil, err
	}
	if text := r.GetAddress(); text != "" {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Is4In6() || a.Zone() != "" {
			return nil, invalid("address %q is no address; write it as 10.0.0.4 or 2001:db8::4", brief(text))
		}
		w.address = a
	}
	return w, nil
}

// maxSubnets bounds what one request may bring into being.
const maxSubnets = 64

func (w *wanted) checkSubnets(texts []string) error {
	if len(texts) > maxSubnets {
		return invalid("label %s: %d subnets; at most %d are possible", labelSubnets, len(texts), maxSubnets)
	}
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return invalid("label %s: %q is no subnet; write it as 10.1.0.0/24 or 2001:db8::/64", labelSubnets, brief(text))
		}
		if err := checkContainers(p); err != nil {
			return invalid("label %s: %v", labelSubnets, err)
		}
		w.prefixes = append(w.prefixes, p)
	}
	if err := checkOverlap(w.prefixes); err != nil {
		return invalid("label %s: %v", labelSubnets, err)
	}
	return nil
}

// place is where an attachment goes: objects that are there or that the
// change creates.
type place struct {
	project *model.Project
	network *model.VirtualNetwork
	subnets []subnet
}

// resolve finds the network, or creates what is missing of it.
func (c *change) resolve(w *wanted) (*place, error) {
	if o, ok := c.v.ByName(model.KindVirtualNetwork, w.fqName()); ok {
		return c.existing(w, o.(*model.VirtualNetwork))
	}
	if !w.create {
		return nil, invalid("label %s: network %s does not exist; create it first", labelNetwork, model.FQString(w.fqName()))
	}
	if err := checkLabel(w.network); err != nil {
		return nil, invalid("label %s: %v", labelNetwork, err)
	}
	project, err := c.project(w)
	if err != nil {
		return nil, err
	}
	return c.createNetwork(w, project)
}

func (c *change) existing(w *wanted, vn *model.VirtualNetwork) (*place, error) {
	subnets, err := c.choices(vn)
	if err != nil {
		return nil, err
	}
	for _, p := range w.prefixes {
		if !slices.ContainsFunc(subnets, func(s subnet) bool { return s.prefix == p }) {
			return nil, invalid("label %s: network %s exists without subnet %s; leave the label out or name one of %s",
				labelSubnets, model.FQString(vn.FQName), p, prefixList(subnets))
		}
	}
	project, ok := model.Get[*model.Project](c.v, vn.ParentUUID)
	if !ok {
		return nil, missing("project of network %s does not exist", model.FQString(vn.FQName))
	}
	c.Need(model.EntityOf(vn))
	c.Need(model.EntityOf(project))
	c.holdSubnets(vn.UUID)
	return &place{project, vn, subnets}, nil
}

// project finds the project of a new network, or creates it.
func (c *change) project(w *wanted) (*model.Project, error) {
	fq := []string{w.domain, w.project}
	if o, ok := c.v.ByName(model.KindProject, fq); ok {
		c.Need(model.EntityOf(o))
		return o.(*model.Project), nil
	}
	domain, ok := c.v.ByName(model.KindDomain, fq[:1])
	if !ok {
		return nil, invalid("label %s: domain %q does not exist; create it or leave the label out", labelDomain, w.domain)
	}
	if err := checkLabel(w.project); err != nil {
		return nil, invalid("label %s: %v", labelProject, err)
	}
	id := model.NewUUID()
	meta, err := c.meta(id, domain, fq...)
	if err != nil {
		return nil, err
	}
	meta.Perms2 = model.NewPerms2(tenant(id))
	p := &model.Project{Meta: meta}
	c.Need(model.EntityOf(domain))
	c.CreateObject(p)
	c.own(p)
	return p, c.createDefaultGroup(p)
}

// createNetwork creates a network with an IPAM of its name.
func (c *change) createNetwork(w *wanted, project *model.Project) (*place, error) {
	id := model.NewUUID()
	prefixes := w.prefixes
	if len(prefixes) == 0 {
		p, err := c.takePrefix(w.fqName(), id)
		if err != nil {
			return nil, err
		}
		prefixes = []netip.Prefix{p}
	}
	var attr model.VnSubnetsType
	var subnets []subnet
	for _, p := range prefixes {
		t := model.IpamSubnetType{
			Subnet:        &model.SubnetType{IPPrefix: p.Addr().String(), IPPrefixLen: int64(p.Bits())},
			AddrFromStart: new(true),
		}
		s, err := completeSubnet(&t, networkScope(w.fqName()))
		if err != nil {
			return nil, invalid("label %s: %v", labelSubnets, err)
		}
		attr.IPAMSubnets = append(attr.IPAMSubnets, t)
		subnets = append(subnets, s)
	}
	ipam, err := c.createIPAM(w, project)
	if err != nil {
		return nil, err
	}
	number, err := c.takeNetworkNumber(id)
	if err != nil {
		return nil, err
	}
	meta, err := c.meta(id, project, w.fqName()...)
	if err != nil {
		return nil, err
	}
	vn := &model.VirtualNetwork{
		Meta:                    meta,
		VirtualNetworkNetworkID: new(int64(number)),
		VirtualNetworkProperties: &model.VirtualNetworkType{
			ForwardingMode: "l3",
		},
	}
	c.CreateObject(vn)
	c.own(vn)
	if err := c.refer(vn, ipam, attr); err != nil {
		return nil, err
	}
	return &place{project, vn, subnets}, nil
}

func (c *change) createIPAM(w *wanted, project *model.Project) (model.Object, error) {
	if o, ok := c.v.ByName(model.KindNetworkIPAM, w.fqName()); ok {
		c.Need(model.EntityOf(o))
		return o, nil
	}
	meta, err := c.meta(model.NewUUID(), project, w.fqName()...)
	if err != nil {
		return nil, err
	}
	ipam := &model.NetworkIPAM{Meta: meta}
	c.CreateObject(ipam)
	c.own(ipam)
	return ipam, nil
}

// collect removes what exists for attachments only and has lost the last of
// them in this change: the network, its IPAM and its project. What stays must
// be kept by something else; the guard on that makes sure that of two that go
// at the same time one sees itself as the last.
func (c *change) collect(network string) error {
	vn, ok := model.Get[*model.VirtualNetwork](c.v, network)
	if !ok || c.deleted[network] || !c.collectable(vn) {
		return nil
	}
	var ipams []model.Object
	for r := range c.v.ReferenceSeq(network, model.KindNetworkIPAM) {
		if o, ok := c.v.Find(r.To.UUID); ok {
			ipams = append(ipams, o)
		}
	}
	if err := c.removeNetwork(vn); err != nil {
		return err
	}
	for _, o := range ipams {
		if c.collectable(o) {
			c.guardOwned(o)
			c.remove(o)
		}
	}
	if project, ok := model.Get[*model.Project](c.v, vn.ParentUUID); ok {
		return c.collectProject(project)
	}
	return nil
}

// collectProject removes a project that nothing needs, with its default group.
func (c *change) collectProject(project *model.Project) error {
	group, ok := c.ownDefaultGroup(project)
	switch {
	case !ok && c.collectable(project):
	case ok && c.collectable(group) && c.collectable(project, group.UUID):
		c.guardOwned(group)
		if err := c.returnGroup(group); err != nil {
			return err
		}
		c.remove(group)
	default:
		return nil
	}
	c.guardOwned(project)
	c.remove(project)
	return nil
}

func (c *change) guardOwned(o model.Object) {
	c.Guard(store.Guard{Condition: store.Present, Key: store.OwnedKey(o.GetMeta().UUID)})
}

// collectable tells whether an object goes now, with those of its children that
// are named. When it is kept, what keeps it becomes a condition of the change.
func (c *change) collectable(o model.Object, with ...string) bool {
	id := o.GetMeta().UUID
	if !c.api.ledger.isOwned(id) {
		return false
	}
	for child := range c.v.ChildSeq(id, "") {
		if !c.deleted[child.GetMeta().UUID] && !slices.Contains(with, child.GetMeta().UUID) {
			c.Guard(store.Guard{Condition: store.Present, Key: store.ChildKey(id, model.EntityOf(child))})
			return false
		}
	}
	for r := range c.v.BackReferenceSeq(id, "") {
		if !c.deleted[r.From.UUID] {
			c.Guard(store.Guard{Condition: store.Present, Key: store.RefKey(r.Edge())})
			return false
		}
	}
	return true
}

// removeNetwork removes a network with its number and its prefix.
func (c *change) removeNetwork(vn *model.VirtualNetwork) error {
	if c.api.ledger.isOwned(vn.UUID) {
		c.guardOwned(vn)
	}
	if err := c.returnNumbers(vn); err != nil {
		return err
	}
	c.remove(vn)
	return nil
}

// returnNumbers gives back what was allocated with a network.
func (c *change) returnNumbers(vn *model.VirtualNetwork) error {
	if n := model.ValueOr(vn.VirtualNetworkNetworkID, 0); n > 0 {
		if err := c.giveBack(store.NumberKey(networkNumbers, uint32(n)), ""); err != nil {
			return err
		}
	}
	if err := c.returnVXLAN(vn); err != nil {
		return err
	}
	for _, p := range c.api.ledger.prefixesOf(vn.UUID) {
		if err := c.giveBack(store.PrefixKey(p), model.FQString(vn.FQName)); err != nil {
			return err
		}
	}
	return nil
}

// tenant is a project's UUID as perms2 has it.
func tenant(uuid string) string {
	out := make([]byte, 0, 32)
	for i := range len(uuid) {
		if uuid[i] != '-' {
			out = append(out, uuid[i])
		}
	}
	return string(out)
}

func notJoined(node string) error {
	return refuse(http.StatusConflict, connect.CodeFailedPrecondition,
		"node %s has not joined the cluster; see that its vrouter-agent runs and reaches the controller", node)
}
