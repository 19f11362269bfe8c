package configapi

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// running is a checked attachment as a node has it.
type running struct {
	*key
	vmi, network, project string
	fqName                []string
	number, label         uint32
	mac, displayName      string
	addresses             []runningAddress
}

type runningAddress struct {
	prefix       netip.Prefix // the address with the length of its subnet
	gateway, dns string
	instance     string // UUID of the instance-ip, empty if it is not known
}

// inConflict says why something that runs cannot be adopted, and what is in
// its way.
func inConflict(holder, format string, args ...any) error {
	return &errAsConflict{conflict{holder: holder, reason: fmt.Sprintf(format, args...)}}
}

// readRunning checks what a node says of an attachment. What is not whole is a
// conflict: it runs nevertheless.
func readRunning(ctx context.Context, node string, r *configv1.Running) (*running, error) {
	at := r.GetAttachment()
	k, err := checkKey(ctx, &configv1.AttachmentKey{
		Node: node, ContainerId: at.GetKey().GetContainerId(), Interface: at.GetKey().GetInterface(),
		BootId: at.GetKey().GetBootId(), Namespace: at.GetKey().GetNamespace(),
	})
	if err != nil {
		return nil, inConflict("", "the node's record of it is damaged: %v", err)
	}
	k.sequence = r.GetSequence()
	out := &running{
		key: k, vmi: strings.ToLower(at.GetInterfaceId()), network: strings.ToLower(at.GetNetworkId()), project: strings.ToLower(at.GetProjectId()),
		fqName: at.GetNetworkFqName(), number: at.GetVrf(), label: at.GetLabel(), displayName: at.GetDisplayName(),
	}
	mac, err := net.ParseMAC(at.GetMac())
	switch {
	case !model.IsUUID(out.network):
		return nil, inConflict("", "the node's record of it has no network: %q is no UUID", brief(out.network))
	case len(out.fqName) != 3:
		return nil, inConflict("", "the node's record of it has no name of a network: %v", out.fqName)
	case out.number == 0 || out.label < firstLabel || out.label > 1<<20-1:
		return nil, inConflict("", "the node's record of it has network number %d and label %d", out.number, out.label)
	case err != nil || len(mac) != 6:
		return nil, inConflict("", "the node's record of it has no MAC address: %q", brief(at.GetMac()))
	case len(at.GetAddresses()) == 0:
		return nil, inConflict("", "the node's record of it has no address")
	}
	for i, kind := range []model.Kind{model.KindDomain, model.KindProject, model.KindVirtualNetwork} {
		if err := checkName(kind, out.fqName[i]); err != nil {
			return nil, inConflict("", "the node's record of it is damaged: %v", err)
		}
	}
	out.mac = mac.String()
	for _, a := range at.GetAddresses() {
		address, err := netip.ParseAddr(a.GetAddress())
		if err != nil {
			return nil, inConflict("", "the node's record of it has address %q", brief(a.GetAddress()))
		}
		prefix := netip.PrefixFrom(address, int(a.GetPrefixLength()))
		if !prefix.IsValid() {
			return nil, inConflict("", "the node's record of it has address %s with prefix length %d", address, a.GetPrefixLength())
		}
		out.addresses = append(out.addresses, runningAddress{prefix, a.GetGateway(), a.GetDnsServer(), strings.ToLower(a.GetInstanceIpId())})
	}
	return out, nil
}

// adopt makes the store have what runs, with everything as it is. adopted is
// false when the store knew it. The error is a conflict when something else
// has its place.
func (c *change) adopt(r *running) (adopted bool, err error) {
	if o, ok := c.v.Find(r.vmi); ok {
		return false, c.confirm(r, o)
	}
	for _, t := range r.tombs() {
		grave, ok := c.api.ledger.tombOf(t)
		if ok && grave.forbids(r.sequence) {
			return false, inConflict("", "it was detached before, as its tombstone says, and runs nevertheless")
		}
		c.guardTomb(t, grave)
	}
	if o, ok := c.v.ByName(model.KindInstanceIP, []string{r.name()}); ok {
		return false, inConflict(o.GetMeta().UUID, "instance-ip %s with the name %s exists", o.GetMeta().UUID, r.name())
	}
	node, router, err := c.homeOf(r)
	if err != nil {
		return false, err
	}
	p, err := c.adoptNetwork(r)
	if err != nil {
		return false, err
	}
	vm, err := c.adoptMachine(r, router)
	if err != nil {
		return false, err
	}
	return true, c.adoptInterface(r, p, node, vm)
}

// homeOf is the node that the attachment is on, which has joined before it reports.
func (c *change) homeOf(r *running) (model.Node, *model.VirtualRouter, error) {
	node, ok := c.v.Node(r.node)
	router, joined := model.Get[*model.VirtualRouter](c.v, r.node)
	if !ok || !joined {
		return node, nil, notJoined(r.node)
	}
	c.Guard(store.Guard{Condition: store.Present, Key: store.NodeKey(node.UUID)})
	c.Need(model.EntityOf(router))
	return node, router, nil
}

// confirm compares what runs with what the store has of the same interface.
// Namespace and boot are the node's to say.
func (c *change) confirm(r *running, o model.Object) error {
	b, ok := c.v.Binding(r.vmi)
	switch {
	case o.Kind() != model.KindVirtualMachineInterface:
		return inConflict(r.vmi, "its UUID is that of the %s %s", o.Kind(), model.FQString(o.GetMeta().FQName))
	case !ok || b.ContainerID == "":
		return inConflict(r.vmi, "the store has it without a place on a node: it was changed by hand before the backup")
	case b.Node != r.node || b.ContainerID != r.container || b.IfName != r.ifname:
		return inConflict(r.vmi, "the store has it as interface %s of container %s on node %s", b.IfName, b.ContainerID, b.Node)
	case b.Label != r.label:
		return inConflict(r.vmi, "the store has label %d for it, and it runs with %d", b.Label, r.label)
	}
	have, err := attachmentOf(c.v, b)
	if err != nil {
		return err
	}
	if have.NetworkId != r.network || have.Vrf != r.number {
		return inConflict(r.vmi, "the store has it in network %s (%s, number %d), and it runs in %s (%s, number %d)",
			model.FQString(have.NetworkFqName), have.NetworkId, have.Vrf, model.FQString(r.fqName), r.network, r.number)
	}
	for _, a := range r.addresses {
		if !slices.ContainsFunc(have.Addresses, func(h *configv1.Address) bool { return h.Address == a.prefix.Addr().String() }) {
			return inConflict(r.vmi, "the store does not have its address %s", a.prefix.Addr())
		}
	}
	if b.BootID == r.boot && (b.Namespace == r.namespace && b.Sequence == r.sequence || b.Sequence > r.sequence) {
		return nil
	}
	b.BootID, b.Namespace, b.Sequence = r.boot, r.namespace, r.sequence
	c.Guard(store.Guard{Condition: store.Present, Key: store.BindingKey(r.vmi)})
	c.Guard(store.Guard{Condition: store.NotSince, Key: store.BindingKey(r.vmi), Revision: int64(c.since)})
	c.PutBinding(b)
	return nil
}

func (c *change) adoptMachine(r *running, router model.Object) (model.Object, error) {
	id := r.machine()
	if o, ok := c.v.Find(id); ok {
		vm, ok := o.(*model.VirtualMachine)
		if !ok {
			return nil, inConflict(id, "the UUID of its virtual-machine is that of the %s %s", o.Kind(), model.FQString(o.GetMeta().FQName))
		}
		for back := range c.v.BackReferenceSeq(id, model.KindVirtualRouter) {
			if back.From.UUID != r.node {
				return nil, inConflict(id, "the store has its container on node %s", back.From.UUID)
			}
		}
		c.Need(model.EntityOf(vm))
		return vm, c.refer(router, vm, nil)
	}
	if o, ok := c.v.ByName(model.KindVirtualMachine, []string{r.container}); ok {
		return nil, inConflict(o.GetMeta().UUID, "virtual-machine %s with the name %s exists", o.GetMeta().UUID, r.container)
	}
	meta, err := c.meta(id, nil, r.container)
	if err != nil {
		return nil, err
	}
	if r.displayName != "" {
		meta.DisplayName = r.displayName
	}
	vm := &model.VirtualMachine{Meta: meta, ServerType: "container"}
	c.CreateObject(vm)
	return vm, c.refer(router, vm, nil)
}

// adoptInterface creates the interface with its addresses, label and binding.
func (c *change) adoptInterface(r *running, p *place, node model.Node, vm model.Object) error {
	name := below(p.project, r.name())
	if o, ok := c.v.ByName(model.KindVirtualMachineInterface, name); ok {
		return inConflict(o.GetMeta().UUID, "interface %s with the name %s exists", o.GetMeta().UUID, model.FQString(name))
	}
	meta, err := c.meta(r.vmi, p.project, name...)
	if err != nil {
		return err
	}
	if r.displayName != "" {
		meta.DisplayName = r.displayName
	}
	vmi := &model.VirtualMachineInterface{
		Meta: meta, VirtualMachineInterfaceMACAddresses: &model.MacAddressesType{MACAddress: []string{r.mac}},
	}
	c.CreateObject(vmi)
	for _, to := range []model.Object{p.network, vm} {
		if err := c.refer(vmi, to, nil); err != nil {
			return err
		}
	}
	c.takeMACs(vmi, p.network.UUID)
	for i, a := range r.addresses {
		if err := c.adoptAddress(r, i, a, p, vmi); err != nil {
			return err
		}
	}
	if c.api.ledger.isLabelUsed(node.UUID, r.label) {
		owner := c.labelHolder(node.UUID, r.label)
		if owner == "" && c.isBehind() {
			return errBehind
		}
		return inConflict(owner, "its label %d on node %s is that of interface %s", r.label, node.Name, owner)
	}
	c.claim(store.LabelKey(node.UUID, r.label), r.vmi)
	c.PutBinding(model.Binding{
		Interface: r.vmi, Machine: vm.GetMeta().UUID, Node: node.UUID, Label: r.label,
		ContainerID: r.container, IfName: r.ifname, BootID: r.boot, Namespace: r.namespace, Sequence: r.sequence,
	})
	return nil
}

// claim takes a key that something already lives by, whether it rests or not.
func (c *change) claim(k store.Key, owner string) {
	c.Create(k, []byte(owner))
	c.Delete(store.RestKey(k))
}

func (c *change) adoptAddress(r *running, i int, a runningAddress, p *place, vmi model.Object) error {
	address := a.prefix.Addr()
	s := subnetWith(p.subnets, address)
	if s == nil {
		return inConflict("", "no subnet of network %s contains its address %s", model.FQString(p.network.FQName), address)
	}
	if c.api.ledger.isUsed(s.scope, address) {
		owner := c.addressHolder(p.network.UUID, address)
		if owner == "" && c.isBehind() {
			return errBehind
		}
		return inConflict(owner, "its address %s of %s is that of %s", address, s.scope, cmp.Or(owner, "something else"))
	}
	id := a.instance
	if _, taken := c.v.Find(id); taken || !model.IsUUID(id) {
		id = model.NewUUID()
	}
	name := r.name()
	if i > 0 {
		name = fmt.Sprintf("%s-%d", name, i)
	}
	meta, err := c.meta(id, nil, name)
	if err != nil {
		return err
	}
	ip := &model.InstanceIP{Meta: meta, InstanceIPAddress: address.String(), InstanceIPFamily: familyOf(address), SubnetUUID: s.uuid}
	c.claim(store.AddressKey(s.scope, address), id)
	c.CreateObject(ip)
	for _, to := range []model.Object{p.network, vmi} {
		if err := c.refer(ip, to, nil); err != nil {
			return err
		}
	}
	return nil
}
