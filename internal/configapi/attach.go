package configapi

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// attachments implements the RPC service Attachments.
type attachments struct{ api *API }

// nodeOf returns the node that the caller speaks for, of those he may.
func nodeOf(ctx context.Context, named string) (string, error) {
	caller := serve.CallerOf(ctx)
	switch caller.Role {
	case ctls.RoleNode:
		if named != "" && !strings.EqualFold(named, caller.Node) {
			return "", denied("node %s may not speak for node %s", caller.Node, brief(named))
		}
		return caller.Node, nil
	case ctls.RoleAdmin, ctls.RoleManager, ctls.RoleController:
		if !model.IsUUID(named) {
			return "", invalid("key.node %q is no UUID; name the node by its UUID", brief(named))
		}
		return strings.ToLower(named), nil
	default:
		return "", denied("%s may not attach containers", caller.Identity)
	}
}

// mayAdminister refuses nodes and components that have no business here.
func mayAdminister(ctx context.Context) error {
	switch caller := serve.CallerOf(ctx); caller.Role {
	case ctls.RoleAdmin, ctls.RoleManager, ctls.RoleController:
		return nil
	default:
		return denied("Permission denied: %s may not do this; it is for administrators", caller)
	}
}

// key is a checked AttachmentKey, with the sequence of the request for it.
type key struct {
	node, container, ifname, boot, namespace string
	// sequence is 0 when the order is unknown.
	sequence uint64
}

// name of the interface and the instance-ip of an attachment.
func (k *key) name() string { return k.container + "-" + k.ifname }

// machine is the UUID of the virtual machine that the container is.
func (k *key) machine() string {
	if model.IsUUID(k.container) {
		return strings.ToLower(k.container)
	}
	return model.DerivedUUID(k.node, k.container)
}

func (k *key) proto() *configv1.AttachmentKey {
	return &configv1.AttachmentKey{
		Node: k.node, ContainerId: k.container, Interface: k.ifname, BootId: k.boot, Namespace: k.namespace,
	}
}

// keyOf is the key that a binding was attached by.
func keyOf(b model.Binding) *key {
	return &key{
		node: b.Node, container: b.ContainerID, ifname: b.IfName, boot: b.BootID, namespace: b.Namespace, sequence: b.Sequence,
	}
}

func (k *key) tomb() store.Key {
	return store.TombKey(k.node, k.container, k.ifname, k.boot, k.namespace)
}

// tombs are the tombstones that forbid the attachment: its own, and those of
// detaches that knew neither boot nor namespace.
func (k *key) tombs() []store.Key {
	list := make([]store.Key, 0, 4)
	for _, boot := range []string{k.boot, ""} {
		for _, namespace := range []string{k.namespace, ""} {
			if t := store.TombKey(k.node, k.container, k.ifname, boot, namespace); !slices.Contains(list, t) {
				list = append(list, t)
			}
		}
	}
	return list
}

const longestIfname = 15 // of Linux, without the end

func checkKey(ctx context.Context, k *configv1.AttachmentKey) (*key, error) {
	node, err := nodeOf(ctx, k.GetNode())
	if err != nil {
		return nil, err
	}
	out := &key{
		node: node, container: k.GetContainerId(), ifname: k.GetInterface(), boot: k.GetBootId(), namespace: k.GetNamespace(),
	}
	switch {
	case out.ifname == "" || len(out.ifname) > longestIfname || strings.ContainsAny(out.ifname, "/ \t\n\x00") || !utf8.ValidString(out.ifname):
		return nil, invalid("key.interface %q is no interface name; use 1 to %d characters without blanks and slashes", brief(out.ifname), longestIfname)
	case out.container == "":
		return nil, invalid("key.container_id is empty; name the container")
	case len(out.boot) > longestName:
		return nil, invalid("key.boot_id has %d bytes; at most %d are possible", len(out.boot), longestName)
	case len(out.namespace) > longestName:
		return nil, invalid("key.namespace has %d bytes; at most %d are possible", len(out.namespace), longestName)
	}
	if err := checkName(model.KindVirtualMachineInterface, out.name()); err != nil {
		return nil, invalid("key.container_id: %v", err)
	}
	return out, nil
}

// bytes of annotations and display name that one attachment may bring.
const maxAnnotations = 64 << 10

func checkDecoration(r *configv1.AttachRequest) error {
	if n := len(r.GetDisplayName()); n > longestName {
		return invalid("display_name has %d bytes; at most %d are possible", n, longestName)
	}
	size := 0
	for k, v := range r.GetAnnotations() {
		size += len(k) + len(v)
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return invalid("annotation %q is not UTF-8", brief(k))
		}
	}
	if size > maxAnnotations {
		return invalid("annotations have %d bytes; at most %d are possible", size, maxAnnotations)
	}
	return nil
}

// Attach implements the RPC.
func (s *attachments) Attach(ctx context.Context, r *connect.Request[configv1.AttachRequest]) (*connect.Response[configv1.AttachResponse], error) {
	answer, err := s.api.attach(ctx, r.Msg)
	s.api.metrics.attaches.WithLabelValues("attach", result(err)).Inc()
	if err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(answer), nil
}

// result of a request, for metrics.
func result(err error) string {
	if err == nil {
		return "ok"
	}
	return connect.CodeOf(rpcError(err)).String()
}

func (a *API) attach(ctx context.Context, r *configv1.AttachRequest) (*configv1.AttachResponse, error) {
	k, err := checkKey(ctx, r.GetKey())
	if err != nil {
		return nil, err
	}
	if k.boot == "" || k.namespace == "" {
		return nil, invalid("key.boot_id and key.namespace are needed to attach; only a detach may leave them out")
	}
	k.sequence = r.GetSequence()
	w, err := checkNetwork(r.GetNetwork())
	if err != nil {
		return nil, err
	}
	if err := checkDecoration(r); err != nil {
		return nil, err
	}
	var out *configv1.Attachment
	position, err := a.write(ctx, audit{"attach", k.name()}, func(c *change) (err error) {
		c.node = k.node
		out, err = c.attach(k, w, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	if out.Revision == 0 {
		out.Revision = position.Revision
	}
	return &configv1.AttachResponse{Attachment: out, Position: protoPosition(position)}, nil
}

func protoPosition(p model.Position) *typesv1.Position {
	return &typesv1.Position{Epoch: p.Epoch, Revision: p.Revision}
}

func (c *change) attach(k *key, w *wanted, r *configv1.AttachRequest) (*configv1.Attachment, error) {
	node, ok := c.v.Node(k.node)
	if !ok {
		return nil, notJoined(k.node)
	}
	if err := c.notDetached(k); err != nil {
		return nil, err
	}
	if vmi, ok := c.interfaceOf(k); ok {
		return c.again(k, w, vmi)
	}
	if _, ok := c.v.ByName(model.KindInstanceIP, []string{k.name()}); ok {
		return nil, taken("the name %s is in use by something else; the container id must be unique in the cluster", k.name())
	}
	c.Guard(store.Guard{Condition: store.Present, Key: store.NodeKey(node.UUID)})
	p, err := c.resolve(w)
	if err != nil {
		return nil, err
	}
	vm, err := c.machine(k, node, p.project, r)
	if err != nil {
		return nil, err
	}
	return c.plug(k, w, p, node, vm, r)
}

// notDetached refuses an attachment that came after its own detach.
func (c *change) notDetached(k *key) error {
	for _, t := range k.tombs() {
		grave, ok := c.api.ledger.tombOf(t)
		if ok && grave.forbids(k.sequence) {
			return taken("interface %s of container %s was detached after this request began; a new container gets a new id", k.ifname, brief(k.container))
		}
		c.guardTomb(t, grave)
	}
	return nil
}

// isLate tells whether what is bound came after a request: it stays.
func isLate(b model.Binding, k *key) bool {
	return k.sequence != 0 && b.BootID == k.boot && b.Sequence > k.sequence
}

// again answers an attach whose attachment exists. In a new namespace or after
// a new boot it is the same container's new port: it keeps what it has.
func (c *change) again(k *key, w *wanted, vmi string) (*configv1.Attachment, error) {
	b, ok := c.v.Binding(vmi)
	if ok && b.ContainerID != "" && (b.Node != k.node || b.ContainerID != k.container || b.IfName != k.ifname) {
		return nil, taken("the name %s is in use by something else; the container id must be unique in the cluster", k.name())
	}
	if !ok || b.ContainerID == "" || c.v.CountBackReferences(vmi, model.KindInstanceIP) == 0 {
		return nil, taken("interface %s of container %s was changed by hand; detach it first", k.ifname, brief(k.container))
	}
	out, err := attachmentOf(c.v, b)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(out.NetworkFqName, w.fqName()) {
		return nil, taken("interface %s of container %s is attached to network %s; detach it first to move it to %s",
			k.ifname, brief(k.container), model.FQString(out.NetworkFqName), model.FQString(w.fqName()))
	}
	if w.address.IsValid() && !slices.ContainsFunc(out.Addresses, func(a *configv1.Address) bool { return a.Address == w.address.String() }) {
		return nil, taken("interface %s of container %s has another address than %s; detach it first", k.ifname, brief(k.container), w.address)
	}
	c.Guard(store.Guard{Condition: store.Present, Key: store.BindingKey(b.Interface)})
	c.Guard(store.Guard{Condition: store.NotSince, Key: store.BindingKey(b.Interface), Revision: int64(c.since)})
	switch sameBoot := b.BootID == k.boot; {
	case sameBoot && b.Namespace == k.namespace && (b.Sequence >= k.sequence || b.Sequence == 0):
		c.verify = true
		return out, nil
	case isLate(b, k):
		return nil, taken("interface %s of container %s was attached in another namespace after this request began", k.ifname, brief(k.container))
	}
	// Asked for again in the same namespace, it has to outlive a detach that
	// was asked for in between.
	b.BootID, b.Namespace, b.Sequence = k.boot, k.namespace, k.sequence
	c.PutBinding(b)
	out.Key, out.Revision = k.proto(), 0
	return out, nil
}

// machine finds the virtual machine of the container, or creates it, and has
// it bound to the node.
func (c *change) machine(k *key, node model.Node, project model.Object, r *configv1.AttachRequest) (model.Object, error) {
	router, ok := model.Get[*model.VirtualRouter](c.v, node.UUID)
	if !ok {
		return nil, notJoined(k.node)
	}
	c.Need(model.EntityOf(router))
	id := k.machine()
	if vm, ok := model.Get[*model.VirtualMachine](c.v, id); ok {
		for back := range c.v.BackReferenceSeq(id, model.KindVirtualRouter) {
			if back.From.UUID != node.UUID {
				return nil, taken("container %s runs on node %s; detach it there first", brief(k.container), back.From.UUID)
			}
		}
		c.Need(model.EntityOf(vm))
		return vm, c.refer(router, vm, nil)
	}
	// The node chose the id, and with it what it would be in the place of.
	if o, ok := c.v.Find(id); ok {
		return nil, taken("container %s cannot be a virtual-machine: its id is that of a %s; the container id must be unique in the cluster", brief(k.container), o.Kind())
	}
	meta, err := c.meta(id, nil, k.container)
	if err != nil {
		return nil, err
	}
	if r.GetDisplayName() != "" {
		meta.DisplayName = r.GetDisplayName()
	}
	meta.Annotations = annotations(r.GetAnnotations())
	meta.Perms2 = ownedWith(project)
	vm := &model.VirtualMachine{Meta: meta, ServerType: "container"}
	c.CreateObject(vm)
	return vm, c.refer(router, vm, nil)
}

// ownedWith are the rights on an object at the top that belongs to a project.
func ownedWith(project model.Object) *model.PermType2 {
	if p := project.GetMeta().Perms2; p != nil {
		return model.NewPerms2(p.Owner)
	}
	return model.NewPerms2("")
}

func annotations(m map[string]string) *model.KeyValuePairs {
	if len(m) == 0 {
		return nil
	}
	var out model.KeyValuePairs
	for k, v := range m {
		out.KeyValuePair = append(out.KeyValuePair, model.KeyValuePair{Key: k, Value: v})
	}
	slices.SortFunc(out.KeyValuePair, func(a, b model.KeyValuePair) int { return strings.Compare(a.Key, b.Key) })
	return &out
}

// plug creates the interface with its address, label and binding.
func (c *change) plug(k *key, w *wanted, p *place, node model.Node, vm model.Object, r *configv1.AttachRequest) (*configv1.Attachment, error) {
	vmiID := model.NewUUID()
	mac, err := model.MACOf(vmiID)
	if err != nil {
		return nil, err
	}
	meta, err := c.meta(vmiID, p.project, below(p.project, k.name())...)
	if err != nil {
		return nil, err
	}
	if r.GetDisplayName() != "" {
		meta.DisplayName = r.GetDisplayName()
	}
	vmi := &model.VirtualMachineInterface{
		Meta:                                meta,
		VirtualMachineInterfaceMACAddresses: &model.MacAddressesType{MACAddress: []string{mac.String()}},
	}
	label, err := c.takeLabel(node, vmiID)
	if err != nil {
		return nil, err
	}
	c.takeMACs(vmi, p.network.UUID)
	c.CreateObject(vmi)
	for _, to := range []model.Object{p.network, vm} {
		if err := c.refer(vmi, to, nil); err != nil {
			return nil, err
		}
	}
	addresses, err := c.giveAddresses(k, w, p, vmi)
	if err != nil {
		return nil, err
	}
	group, err := c.defaultGroup(p.project)
	if err != nil {
		return nil, err
	}
	if group != nil {
		if err := c.refer(vmi, group, nil); err != nil {
			return nil, err
		}
	}
	c.PutBinding(model.Binding{
		Interface: vmiID, Machine: vm.GetMeta().UUID, Node: node.UUID, Label: label,
		ContainerID: k.container, IfName: k.ifname, BootID: k.boot, Namespace: k.namespace, Sequence: k.sequence,
	})
	return &configv1.Attachment{
		Key: k.proto(), VirtualMachineId: vm.GetMeta().UUID, InterfaceId: vmiID,
		NetworkId: p.network.UUID, NetworkFqName: p.network.FQName, ProjectId: p.project.UUID,
		Vrf: uint32(model.ValueOr(p.network.VirtualNetworkNetworkID, 0)), Label: label, Mac: mac.String(),
		Addresses: addresses,
		Mtu:       containerMTU(c.v), DisplayName: vmi.DisplayName,
	}, nil
}

// giveAddresses gives an interface an address of each family that its network has
// a subnet of. The first one's object has the name of the interface.
func (c *change) giveAddresses(k *key, w *wanted, p *place, vmi model.Object) ([]*configv1.Address, error) {
	families := [][]subnet{ofFamily(p.subnets, false), ofFamily(p.subnets, true)}
	families = slices.DeleteFunc(families, func(list []subnet) bool { return len(list) == 0 })
	wanted := func(list []subnet) bool { return w.address.IsValid() && list[0].prefix.Addr().Is6() == w.address.Is6() }
	if len(families) == 0 || w.address.IsValid() && !slices.ContainsFunc(families, wanted) {
		families = [][]subnet{p.subnets} // which says what is missing
	}
	var all []*configv1.Address
	for i, list := range families {
		name, wish := k.name(), wish{from: ofNetwork(p.network.FQName), subnets: list, owner: model.NewUUID()}
		if i > 0 {
			name = fmt.Sprintf("%s-%d", name, i)
		}
		if len(families) == 1 || wanted(list) {
			wish.address = w.address
		}
		got, err := c.takeAddress(wish)
		if err != nil {
			return nil, err
		}
		meta, err := c.meta(wish.owner, nil, name)
		if err != nil {
			return nil, err
		}
		meta.Perms2 = ownedWith(p.project)
		ip := &model.InstanceIP{
			Meta: meta, InstanceIPAddress: got.address.String(), InstanceIPFamily: familyOf(got.address), SubnetUUID: got.subnet.uuid,
		}
		c.CreateObject(ip)
		for _, to := range []model.Object{p.network, vmi} {
			if err := c.refer(ip, to, nil); err != nil {
				return nil, err
			}
		}
		all = append(all, protoAddress(got.address, &got.subnet, wish.owner))
	}
	return all, nil
}

func protoAddress(a netip.Addr, s *subnet, ip string) *configv1.Address {
	out := &configv1.Address{Address: a.String(), PrefixLength: uint32(s.prefix.Bits()), InstanceIpId: ip}
	if s.gateway.IsValid() {
		out.Gateway = s.gateway.String()
	}
	if s.dns.IsValid() {
		out.DnsServer = s.dns.String()
	}
	return out
}

// byFamily has addresses of IPv4 before those of IPv6.
func byFamily(a, b *configv1.Address) int {
	x, y := netip.MustParseAddr(a.Address), netip.MustParseAddr(b.Address)
	return x.Compare(y)
}

// containerMTU is the smallest fabric MTU of all nodes less what the largest
// encapsulation adds; 0 when no node has joined.
func containerMTU(v *model.View) uint32 {
	return lessOverhead(v, v.SmallestFabricMTU(""))
}

func lessOverhead(v *model.View, mtu uint32) uint32 {
	return mtu - min(mtu, compile.Overhead(compile.Encapsulations(v)))
}

// attachmentOf describes what is bound to an interface.
func attachmentOf(v *model.View, b model.Binding) (*configv1.Attachment, error) {
	vmi, ok := model.Get[*model.VirtualMachineInterface](v, b.Interface)
	if !ok {
		return nil, missing("interface %s does not exist", b.Interface)
	}
	out := &configv1.Attachment{
		Key:              keyOf(b).proto(),
		VirtualMachineId: b.Machine, InterfaceId: b.Interface, Label: b.Label,
		ProjectId: vmi.ParentUUID, Mtu: containerMTU(v), DisplayName: vmi.DisplayName, Revision: b.Revision,
	}
	if m := vmi.VirtualMachineInterfaceMACAddresses; m != nil && len(m.MACAddress) > 0 {
		out.Mac = m.MACAddress[0]
	}
	var subnets []subnet
	for r := range v.ReferenceSeq(b.Interface, model.KindVirtualNetwork) {
		vn, ok := model.Get[*model.VirtualNetwork](v, r.To.UUID)
		if !ok {
			continue
		}
		out.NetworkId, out.NetworkFqName = vn.UUID, vn.FQName
		out.Vrf = uint32(model.ValueOr(vn.VirtualNetworkNetworkID, 0))
		var err error
		if subnets, err = subnetsOf(v, vn.UUID); err != nil {
			return nil, err
		}
	}
	for _, r := range v.BackReferences(b.Interface, model.KindInstanceIP) {
		ip, ok := model.Get[*model.InstanceIP](v, r.From.UUID)
		if !ok {
			continue
		}
		a, err := netip.ParseAddr(ip.InstanceIPAddress)
		if err != nil {
			continue
		}
		i := slices.IndexFunc(subnets, func(s subnet) bool { return s.prefix.Contains(a) })
		if i < 0 {
			out.Addresses = append(out.Addresses, &configv1.Address{Address: a.String(), PrefixLength: uint32(a.BitLen()), InstanceIpId: ip.UUID})
			continue
		}
		out.Addresses = append(out.Addresses, protoAddress(a, &subnets[i], ip.UUID))
	}
	slices.SortFunc(out.Addresses, byFamily)
	return out, nil
}
