package configapi

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// Detach implements the RPC.
func (s *attachments) Detach(ctx context.Context, r *connect.Request[configv1.DetachRequest]) (*connect.Response[configv1.DetachResponse], error) {
	answer, err := s.api.detach(ctx, r.Msg)
	s.api.metrics.attaches.WithLabelValues("detach", result(err)).Inc()
	if err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(answer), nil
}

func (a *API) detach(ctx context.Context, r *configv1.DetachRequest) (*configv1.DetachResponse, error) {
	k, err := checkKey(ctx, r.GetKey())
	if err != nil {
		return nil, err
	}
	if k.boot != "" {
		k.sequence = r.GetSequence() // those of different boots have no order
	}
	existed := false
	position, err := a.write(ctx, audit{"detach", k.name()}, func(c *change) (err error) {
		c.node = k.node
		existed, err = c.detach(k)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &configv1.DetachResponse{Existed: existed, Position: protoPosition(position)}, nil
}

// detach removes the attachment if it is the one that the key means, and
// leaves a tombstone. An attachment of another namespace or boot, or with a
// newer sequence, stays: the detach is older than it.
func (c *change) detach(k *key) (bool, error) {
	b, ok := c.attached(k)
	if !ok {
		if grave, ok := c.api.ledger.tombOf(k.tomb()); ok && grave.covers(k.sequence) {
			return false, nil
		}
		// An attach that is on its way must meet the tombstone.
		c.Guard(store.Guard{Condition: store.NotSince, Key: store.NameKey(model.KindInstanceIP, []string{k.name()}), Revision: int64(c.since)})
		if b.Interface != "" {
			c.Guard(store.Guard{Condition: store.NotSince, Key: store.BindingKey(b.Interface), Revision: int64(c.since)})
		}
		return false, c.tombstone(k.tomb(), k.sequence)
	}
	gone := *k
	gone.boot, gone.namespace = b.BootID, b.Namespace
	if err := c.tombstone(gone.tomb(), k.sequence); err != nil {
		return false, err
	}
	return true, c.unplug(b)
}

// attached finds what the key means. A client may have taken the interface off
// its node in the classic way, and perhaps put it back: it is still what the
// container was given.
func (c *change) attached(k *key) (model.Binding, bool) {
	vmi, ok := c.interfaceOf(k)
	if !ok {
		return model.Binding{}, false
	}
	b, ok := c.v.Binding(vmi)
	if !ok {
		return model.Binding{Interface: vmi, Machine: k.machine(), BootID: k.boot, Namespace: k.namespace}, true
	}
	if b.ContainerID == "" {
		b.BootID, b.Namespace = k.boot, k.namespace
		return b, b.Node == k.node
	}
	ok = b.Node == k.node && b.ContainerID == k.container && b.IfName == k.ifname &&
		(k.boot == "" || k.boot == b.BootID) && (k.namespace == "" || k.namespace == b.Namespace) && !isLate(b, k)
	return b, ok
}

// interfaceOf finds the interface of the container's machine by its name.
func (c *change) interfaceOf(k *key) (string, bool) {
	for r := range c.v.BackReferenceSeq(k.machine(), model.KindVirtualMachineInterface) {
		if o, ok := c.v.Find(r.From.UUID); ok && o.GetMeta().Name() == k.name() {
			return r.From.UUID, true
		}
	}
	return "", false
}

// unplug removes everything that an attachment consists of, and what goes with
// the last one.
func (c *change) unplug(b model.Binding) error {
	vmi, ok := model.Get[*model.VirtualMachineInterface](c.v, b.Interface)
	if !ok {
		return c.unbind(b)
	}
	var networks []string
	for r := range c.v.ReferenceSeq(b.Interface, model.KindVirtualNetwork) {
		networks = append(networks, r.To.UUID)
	}
	if err := c.unbind(b); err != nil {
		return err
	}
	for _, r := range c.v.BackReferences(b.Interface, model.KindInstanceIP) {
		ip, ok := model.Get[*model.InstanceIP](c.v, r.From.UUID)
		if !ok {
			continue
		}
		if c.v.CountBackReferences(ip.UUID, "") == 0 && countReferences(c.v, ip.UUID, model.KindVirtualMachineInterface) == 1 {
			if err := c.returnAddress(ip); err != nil {
				return err
			}
			c.remove(ip)
		}
	}
	c.remove(vmi)
	c.removeMachine(b.Machine)
	for _, n := range networks {
		if err := c.collect(n); err != nil {
			return err
		}
	}
	return nil
}

func countReferences(v *model.View, from string, to model.Kind) int {
	n := 0
	for range v.ReferenceSeq(from, to) {
		n++
	}
	return n
}

// unbind takes an interface off its node.
func (c *change) unbind(b model.Binding) error {
	k := store.BindingKey(b.Interface)
	if b.Label == 0 {
		// What has no label must still have none.
		c.Guard(store.Guard{Condition: store.Absent, Key: k})
		return nil
	}
	if c.Touches(k) {
		return nil
	}
	c.Guard(store.Guard{Condition: store.Present, Key: k})
	c.Guard(store.Guard{Condition: store.NotSince, Key: k, Revision: int64(c.since)})
	c.Delete(k)
	return c.giveBack(store.LabelKey(b.Node, b.Label), "")
}

// removeMachine removes the virtual machine with its last interface. Another
// interface that keeps it is a condition, as in collectable.
func (c *change) removeMachine(uuid string) {
	vm, ok := model.Get[*model.VirtualMachine](c.v, uuid)
	if !ok || c.deleted[uuid] {
		return
	}
	for r := range c.v.BackReferenceSeq(uuid, "") {
		if r.From.Kind != model.KindVirtualRouter && !c.deleted[r.From.UUID] {
			c.Guard(store.Guard{Condition: store.Present, Key: store.RefKey(r.Edge())})
			return
		}
	}
	for child := range c.v.ChildSeq(uuid, "") {
		if !c.deleted[child.GetMeta().UUID] {
			c.Guard(store.Guard{Condition: store.Present, Key: store.ChildKey(uuid, model.EntityOf(child))})
			return
		}
	}
	c.remove(vm)
}

// List implements the RPC.
func (s *attachments) List(ctx context.Context, r *connect.Request[configv1.ListRequest]) (*connect.Response[configv1.ListResponse], error) {
	answer, err := s.api.list(ctx, r.Msg)
	if err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(answer), nil
}

func (a *API) list(ctx context.Context, r *configv1.ListRequest) (*configv1.ListResponse, error) {
	node := r.GetNode()
	if caller := serve.CallerOf(ctx); caller.Role == ctls.RoleNode {
		own, err := nodeOf(ctx, node)
		if err != nil {
			return nil, err
		}
		node = own
	} else if err := mayReadAll(ctx); err != nil {
		return nil, err
	}
	out := &configv1.ListResponse{}
	a.graph.View(func(v *model.View) {
		add := func(b model.Binding) {
			// What vanished between its transaction's keys is not an attachment.
			if at, err := attachmentOf(v, b); err == nil {
				out.Attachments = append(out.Attachments, at)
			}
		}
		if node != "" {
			for _, b := range v.BindingsOfNode(node) {
				add(b)
			}
		} else {
			for b := range v.Bindings() {
				add(b)
			}
		}
		out.Position = protoPosition(v.Position())
	})
	slices.SortFunc(out.Attachments, func(a, b *configv1.Attachment) int {
		return cmp.Or(strings.Compare(a.Key.Node, b.Key.Node), strings.Compare(a.Key.ContainerId, b.Key.ContainerId),
			strings.Compare(a.Key.Interface, b.Key.Interface), strings.Compare(a.InterfaceId, b.InterfaceId))
	})
	if !r.GetInactive() {
		return out, nil
	}
	return out, a.listInactive(ctx, node, out)
}

// listInactive adds tombstones and resting addresses with the time they have left.
func (a *API) listInactive(ctx context.Context, node string, out *configv1.ListResponse) error {
	left := map[store.Lease]uint64{}
	seconds := func(l store.Lease) (uint64, error) {
		if n, ok := left[l]; ok {
			return n, nil
		}
		n, err := a.store.SecondsLeft(ctx, l)
		left[l] = n
		return n, err
	}
	for k, grave := range a.ledger.tombstones() {
		s, err := k.Split(5)
		if err != nil || node != "" && s[0] != node {
			continue
		}
		n, err := seconds(grave.lease)
		if err != nil {
			return err
		}
		out.Tombstones = append(out.Tombstones, &configv1.Tombstone{
			Key:         (&key{node: s[0], container: s[1], ifname: s[2], boot: s[3], namespace: s[4]}).proto(),
			SecondsLeft: n, Sequence: grave.sequence,
		})
	}
	slices.SortFunc(out.Tombstones, func(a, b *configv1.Tombstone) int {
		return cmp.Or(strings.Compare(a.Key.Node, b.Key.Node), strings.Compare(a.Key.ContainerId, b.Key.ContainerId),
			strings.Compare(a.Key.Interface, b.Key.Interface), strings.Compare(a.Key.Namespace, b.Key.Namespace))
	})
	if node != "" {
		return nil // addresses rest for everyone
	}
	rests, err := a.store.List(ctx, store.RestKey(store.Key(store.SpaceAddress)+"/"))
	if err != nil {
		return err
	}
	for _, e := range rests {
		k, _ := e.Key.Rested()
		scope, address, err := k.ParseAddress()
		if err != nil {
			return err
		}
		n, err := seconds(e.Lease)
		if err != nil {
			return err
		}
		out.Resting = append(out.Resting, &configv1.RestingAddress{
			NetworkFqName: strings.Split(scope, ":"), Address: address.String(), SecondsLeft: n,
		})
	}
	allocated, err := a.store.List(ctx, store.Key(store.SpaceAllocated)+"/")
	if err != nil {
		return err
	}
	for _, e := range allocated {
		network, address, err := e.Key.ParseAddress()
		if err != nil {
			return err
		}
		out.Allocated = append(out.Allocated, &configv1.AllocatedAddress{NetworkId: network, Address: address.String()})
	}
	slices.SortFunc(out.Resting, func(a, b *configv1.RestingAddress) int {
		return cmp.Or(slices.Compare(a.NetworkFqName, b.NetworkFqName), strings.Compare(a.Address, b.Address))
	})
	return nil
}
