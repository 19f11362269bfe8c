package configapi

import (
	"context"
	"net/netip"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// nodes implements the RPC service Nodes.
type nodes struct{ api *API }

// systemConfig is the name of the only global-system-config.
const systemConfig = "default-global-system-config"

// MTUs of a fabric that make sense: IPv4 guarantees 576, and no device has
// more than 65535.
const (
	smallestMTU = 576
	largestMTU  = 65535
)

// Join implements the RPC.
func (s *nodes) Join(ctx context.Context, r *connect.Request[configv1.JoinRequest]) (*connect.Response[configv1.JoinResponse], error) {
	n, err := checkJoin(ctx, r.Msg)
	if err != nil {
		return nil, rpcError(err)
	}
	var mtu uint32
	position, err := s.api.write(ctx, audit{"join", n.Name}, func(c *change) (err error) {
		mtu, err = c.join(n)
		return err
	})
	if err != nil {
		return nil, rpcError(err)
	}
	_, awaited := s.api.recovery.awaitedNode(n.UUID)
	return connect.NewResponse(&configv1.JoinResponse{Mtu: mtu, Position: protoPosition(position), Awaited: awaited}), nil
}

func checkJoin(ctx context.Context, r *configv1.JoinRequest) (model.Node, error) {
	id, err := nodeOf(ctx, r.GetNode())
	if err != nil {
		return model.Node{}, err
	}
	n := model.Node{UUID: id, Name: r.GetName(), Address: r.GetAddress(), FabricMTU: r.GetFabricMtu(), BootID: r.GetBootId()}
	if err := checkName(model.KindVirtualRouter, n.Name); err != nil {
		return n, invalid("name: %v", err)
	}
	a, err := netip.ParseAddr(n.Address)
	if err != nil || !a.IsValid() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		return n, invalid("address %q is no address that tunnels could go to; name the node's address on the fabric", brief(n.Address))
	}
	n.Address = a.Unmap().String()
	if n.FabricMTU < smallestMTU || n.FabricMTU > largestMTU {
		return n, invalid("fabric_mtu %d: want %d to %d", n.FabricMTU, smallestMTU, largestMTU)
	}
	if n.BootID == "" || len(n.BootID) > longestName {
		return n, invalid("boot_id %q: want the kernel's boot id", brief(n.BootID))
	}
	return n, nil
}

// join makes or refreshes a node and returns the MTU of containers with it.
func (c *change) join(n model.Node) (uint32, error) {
	if other, ok := c.v.NodeByName(n.Name); ok && other.UUID != n.UUID {
		return 0, taken("name %q is that of node %s; if that one is gone for good, run `contrail node remove %s`", n.Name, other.UUID, other.UUID)
	}
	if other, ok := c.v.NodeByAddress(n.Address); ok && other.UUID != n.UUID {
		return 0, taken("address %s is that of node %s (%s); if that one is gone for good, run `contrail node remove %s`", n.Address, other.Name, other.UUID, other.Name)
	}
	mtu := mtuWith(c.v, n)
	known, ok := c.v.Node(n.UUID)
	known.Revision = 0
	if ok && known == n {
		return mtu, nil
	}
	router, joined := model.Get[*model.VirtualRouter](c.v, n.UUID)
	switch {
	case joined && router.Name() != n.Name:
		return 0, taken("node %s is known as %q; to rename it, run `contrail node remove %s` and let it join again", n.UUID, router.Name(), n.UUID)
	case joined && router.VirtualRouterIPAddress != n.Address:
		changed := *router
		changed.VirtualRouterIPAddress = n.Address
		c.UpdateObject(&changed, c.since)
	case joined:
		c.Need(model.EntityOf(router))
	default:
		if err := c.createRouter(n); err != nil {
			return 0, err
		}
	}
	// Before the address: that the node itself has it by now is no reason to refuse.
	c.Guard(store.Guard{Condition: store.NotSince, Key: store.NodeKey(n.UUID), Revision: int64(c.since)})
	if !ok || known.Address != n.Address {
		if ok {
			c.Delete(store.FabricKey(known.Address))
		}
		c.Create(store.FabricKey(n.Address), []byte(n.UUID))
	}
	c.PutNode(n)
	return mtu, nil
}

func (c *change) createRouter(n model.Node) error {
	if o, ok := c.v.ByName(model.KindVirtualRouter, []string{systemConfig, n.Name}); ok {
		return taken("virtual-router %q exists with uuid %s, which is no node; delete it first", n.Name, o.GetMeta().UUID)
	}
	parent, ok := c.v.ByName(model.KindGlobalSystemConfig, []string{systemConfig})
	if !ok {
		return missing("%s does not exist; create it first", systemConfig)
	}
	meta, err := c.meta(n.UUID, parent, systemConfig, n.Name)
	if err != nil {
		return err
	}
	c.Need(model.EntityOf(parent))
	c.CreateObject(&model.VirtualRouter{Meta: meta, VirtualRouterIPAddress: n.Address})
	return nil
}

// mtuWith is the MTU of containers when n is as it says.
func mtuWith(v *model.View, n model.Node) uint32 {
	smallest := n.FabricMTU
	if others := v.SmallestFabricMTU(n.UUID); others != 0 {
		smallest = min(smallest, others)
	}
	return lessOverhead(v, smallest)
}

// List implements the RPC.
func (s *nodes) List(ctx context.Context, _ *connect.Request[configv1.ListNodesRequest]) (*connect.Response[configv1.ListNodesResponse], error) {
	out := &configv1.ListNodesResponse{}
	s.api.graph.View(func(v *model.View) {
		for _, n := range v.Nodes() {
			out.Nodes = append(out.Nodes, &configv1.Node{
				Id: n.UUID, Name: n.Name, Address: n.Address, FabricMtu: n.FabricMTU, BootId: n.BootID,
			})
		}
		out.Position = protoPosition(v.Position())
	})
	return connect.NewResponse(out), nil
}

// Remove implements the RPC. The node can join again; what was attached to it
// is gone.
func (s *nodes) Remove(ctx context.Context, r *connect.Request[configv1.RemoveNodeRequest]) (*connect.Response[configv1.RemoveNodeResponse], error) {
	if err := mayAdminister(ctx); err != nil {
		return nil, rpcError(err)
	}
	detached, position, err := s.api.removeNode(ctx, r.Msg.GetNode())
	if err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(&configv1.RemoveNodeResponse{Detached: detached, Position: protoPosition(position)}), nil
}

func (a *API) removeNode(ctx context.Context, named string) (detached uint32, at model.Position, err error) {
	var node model.Node
	var found bool
	a.graph.View(func(v *model.View) {
		if node, found = v.Node(named); !found {
			node, found = v.NodeByName(named)
		}
	})
	if awaited, ok := a.recovery.awaitedNamed(named); !found && ok {
		// A restored store waits for it, and it has never joined that.
		node, found = model.Node{UUID: awaited, Name: named}, true
	}
	if !found {
		return 0, at, missing("node %q does not exist; see `contrail node list`", brief(named))
	}
	for {
		var bindings []model.Binding
		a.graph.View(func(v *model.View) { bindings = v.BindingsOfNode(node.UUID) })
		for _, b := range bindings {
			n, err := a.detachBinding(ctx, b.Interface)
			if err != nil {
				return detached, at, err
			}
			detached += n
		}
		// The guard on the labels sends us back here when something was
		// attached meanwhile.
		again := false
		at, err = a.write(ctx, audit{"remove node", node.Name}, func(c *change) error {
			again = len(c.v.BindingsOfNode(node.UUID)) > 0
			if again {
				return nil
			}
			return c.removeNode(node)
		})
		if err != nil || !again {
			return detached, at, err
		}
	}
}

// detachBinding removes what is bound to an interface, with a tombstone if it
// was attached by key.
func (a *API) detachBinding(ctx context.Context, vmi string) (detached uint32, err error) {
	_, err = a.write(ctx, audit{"detach", vmi}, func(c *change) error {
		b, ok := c.v.Binding(vmi)
		if !ok {
			return nil
		}
		detached = 1
		c.settles = true // whoever asks for this has evidence
		if b.ContainerID == "" {
			// It belongs to a client, who only loses the place.
			for r := range c.v.BackReferenceSeq(b.Machine, model.KindVirtualRouter) {
				c.dropEdge(r.Edge())
			}
			return c.unbind(b)
		}
		if err := c.tombstone(keyOf(b).tomb(), 0); err != nil {
			return err
		}
		return c.unplug(b)
	})
	return detached, err
}

func (c *change) removeNode(n model.Node) error {
	c.settles = true
	c.forgetNode(n.UUID)
	known, ok := c.v.Node(n.UUID)
	if !ok {
		return nil
	}
	// Else it could have moved, and the address that it has now would stay taken.
	c.Guard(store.Guard{Condition: store.NotSince, Key: store.NodeKey(n.UUID), Revision: int64(c.since)})
	c.Delete(store.FabricKey(known.Address))
	c.Guard(store.Guard{Condition: store.RangeEmpty, Key: store.LabelPrefix(n.UUID)})
	c.Delete(store.NodeKey(n.UUID))
	if router, ok := model.Get[*model.VirtualRouter](c.v, n.UUID); ok {
		c.remove(router)
	}
	return nil
}
