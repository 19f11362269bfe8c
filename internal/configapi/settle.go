package configapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

const (
	// settlers is how many attachments of one report are looked at at a time.
	settlers = 8
	// maxReported bounds what one node can say that it runs: each may become an
	// object, or a conflict that is kept.
	maxReported = 32_768
	// foreignNamespace stands for the namespace of a container that a foreign
	// plugin attached: no report has it, only the boot says something about it.
	foreignNamespace = "foreign"
	// maxEpochLead bounds how far ahead of the store a node may have been.
	maxEpochLead = 1 << 20
)

// Settle implements the RPC.
func (s *recoveries) Settle(ctx context.Context, r *connect.Request[configv1.SettleRequest]) (*connect.Response[configv1.SettleResponse], error) {
	out, err := s.api.settle(ctx, r.Msg)
	if err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(out), nil
}

// report is a node's word on what it runs.
type report struct {
	node, boot string
	// live are the interfaces that run, by container and name; the value is the
	// interface's UUID where the report has it.
	live map[containerPort]string
}

// containerPort is an interface of a container.
type containerPort struct{ container, ifname string }

func (a *API) settle(ctx context.Context, r *configv1.SettleRequest) (*configv1.SettleResponse, error) {
	node, err := nodeOf(ctx, r.GetNode())
	if err != nil {
		return nil, err
	}
	if n := len(r.GetRunning()) + len(r.GetLive()) + len(r.GetAdding()); n > maxReported {
		return nil, invalid("running, live and adding have %d attachments; at most %d are possible on one node", n, maxReported)
	}
	again, err := a.mustLookAgain(ctx, node, r.GetSeen())
	if again || err != nil {
		return &configv1.SettleResponse{Awaited: again, Position: protoPosition(a.graph.Position())}, err
	}
	if _, ok := a.nodeRecord(node); !ok {
		return nil, notJoined(node)
	}
	said := newReport(node, r)
	out := &configv1.SettleResponse{}
	if _, awaited := a.recovery.awaitedNode(node); awaited {
		if out.Released, err = a.releaseUnreported(ctx, said); err != nil {
			return nil, err
		}
	}
	if err := a.adoptAll(ctx, node, r.GetRunning(), out); err != nil {
		return nil, err
	}
	at, err := a.noteReport(ctx, node, r, out)
	if err != nil {
		return nil, err
	}
	_, out.Awaited = a.recovery.awaitedNode(node)
	out.Position = protoPosition(at)
	return out, nil
}

func newReport(node string, r *configv1.SettleRequest) *report {
	said := &report{node: node, boot: r.GetBootId(), live: map[containerPort]string{}}
	for _, k := range slices.Concat(r.GetLive(), r.GetAdding()) {
		if k.GetBootId() == "" || k.GetBootId() == said.boot {
			said.live[containerPort{k.GetContainerId(), k.GetInterface()}] = ""
		}
	}
	for _, run := range r.GetRunning() {
		k := run.GetAttachment().GetKey()
		if k.GetBootId() == "" || k.GetBootId() == said.boot {
			said.live[containerPort{k.GetContainerId(), k.GetInterface()}] = strings.ToLower(run.GetAttachment().GetInterfaceId())
		}
	}
	return said
}

// nodeRecord is what the register has of a node.
func (a *API) nodeRecord(node string) (n model.Node, ok bool) {
	a.graph.View(func(v *model.View) { n, ok = v.Node(node) })
	return n, ok
}

// mustLookAgain tells whether the report was made before the node had seen the
// present epoch: what happened between the two is not in it.
func (a *API) mustLookAgain(ctx context.Context, node string, seen *typesv1.Position) (bool, error) {
	now := a.graph.Position()
	if seen.GetEpoch() < now.Epoch {
		return true, nil
	}
	head := now.Revision
	if seen.GetEpoch() == now.Epoch && seen.GetRevision() > head {
		newest, err := a.store.Head(ctx)
		if err != nil {
			return false, err
		}
		head = uint64(newest)
	}
	if seen.GetEpoch() == now.Epoch && seen.GetRevision() <= head {
		return false, nil
	}
	// The node has followed a store that this one knows nothing of: one that
	// was lost. Its positions are not to be taken for ours.
	if !a.recovery.settling() || seen.GetEpoch()-now.Epoch > maxEpochLead {
		return false, refuse(409, connect.CodeFailedPrecondition,
			"node %s has seen epoch %d revision %d of the store, and this is epoch %d revision %d: the store has lost changes; restore a backup with `contrail db restore`",
			node, seen.GetEpoch(), seen.GetRevision(), now.Epoch, head)
	}
	a.log.Warn("a node has seen a later epoch than that of the restored store; the store goes beyond it", "node", node, "seen", seen.GetEpoch(), "epoch", now.Epoch)
	t := a.store.Txn()
	t.In(now.Epoch)
	t.Put(store.EpochKey, []byte(strconv.FormatUint(seen.GetEpoch()+1, 10)))
	if _, err := t.Commit(ctx); err != nil && !errors.Is(err, store.ErrNewEpoch) {
		return false, err
	}
	return true, nil
}

// releaseUnreported releases what the store binds to an awaited node and the
// node does not run: it was detached after the backup.
func (a *API) releaseUnreported(ctx context.Context, said *report) ([]*configv1.AttachmentKey, error) {
	var dead []model.Binding
	a.graph.View(func(v *model.View) {
		for _, b := range v.BindingsOfNode(said.node) {
			if said.dead(b) {
				dead = append(dead, b)
			}
		}
	})
	var mu sync.Mutex
	var released []*configv1.AttachmentKey
	group := newCrew(settlers)
	for _, b := range dead {
		group.do(func() error {
			_, err := a.write(ctx, audit{"release after restore", b.ContainerID + "-" + b.IfName}, func(c *change) error {
				now, ok := c.v.Binding(b.Interface)
				if _, awaited := a.recovery.awaitedNode(said.node); !ok || !awaited || now.Node != said.node || !said.dead(now) {
					return nil
				}
				c.settles = true
				c.Guard(store.Guard{Condition: store.Present, Key: store.AwaitedKey(said.node)})
				if err := c.tombstone(keyOf(now).tomb(), now.Sequence); err != nil {
					return err
				}
				return c.unplug(now)
			})
			if err == nil {
				mu.Lock()
				released = append(released, keyOf(b).proto())
				mu.Unlock()
			}
			return err
		})
	}
	return released, group.wait()
}

// dead tells whether a report proves that a binding's container is gone, or
// that its interface is another one by now. Nothing is said of what a client
// bound in the classic way.
func (said *report) dead(b model.Binding) bool {
	if b.ContainerID == "" {
		return false
	}
	if b.BootID != "" && b.BootID != said.boot {
		// No namespace outlives the kernel; but the backup may be older than the
		// boot, and the interface attached again since.
		vmi, live := said.live[containerPort{b.ContainerID, b.IfName}]
		return !live || vmi != "" && vmi != b.Interface
	}
	if b.Namespace == foreignNamespace {
		return false
	}
	vmi, live := said.live[containerPort{b.ContainerID, b.IfName}]
	return !live || vmi != "" && vmi != b.Interface
}

// adoptAll looks at everything that the node runs.
func (a *API) adoptAll(ctx context.Context, node string, running []*configv1.Running, out *configv1.SettleResponse) error {
	var mu sync.Mutex
	group := newCrew(settlers)
	for _, run := range running {
		group.do(func() error {
			found, adopted, err := a.settleOne(ctx, node, run)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
			case found != nil:
				out.Conflicts = append(out.Conflicts, found.proto())
				if found.drop {
					out.Drop = append(out.Drop, found.attachment.GetInterfaceId())
				}
			case adopted:
				out.Adopted = append(out.Adopted, run.GetAttachment().GetKey())
			}
			return err
		})
	}
	return group.wait()
}

// errAsConflict carries a conflict out of a decision that changes nothing.
type errAsConflict struct{ conflict }

func (e *errAsConflict) Error() string { return e.reason }

// settleOne adopts one attachment, finds that it is known, or keeps it as a
// conflict.
func (a *API) settleOne(ctx context.Context, node string, run *configv1.Running) (found *conflict, adopted bool, err error) {
	at := run.GetAttachment()
	if !model.IsUUID(at.GetInterfaceId()) {
		return nil, false, invalid("running.attachment.interface_id %q is no UUID", brief(at.GetInterfaceId()))
	}
	name := at.GetKey().GetContainerId() + "-" + at.GetKey().GetInterface()
	_, err = a.write(ctx, audit{"adopt after restore", name}, func(c *change) error {
		adopted = false
		known, inConflict := a.recovery.conflictOf(strings.ToLower(at.GetInterfaceId()))
		if inConflict && known.drop {
			return &errAsConflict{known}
		}
		c.settles = true
		now, err := readRunning(ctx, node, run)
		if err == nil {
			adopted, err = c.adopt(now)
		}
		if err == nil && inConflict {
			c.Delete(store.ConflictKey(known.attachment.GetInterfaceId()))
		}
		return err
	})
	if errors.Is(err, errBusy) {
		err = inConflict("", "something that no object shows has one of its keys, such as its MAC address; run `contrail db check`")
	}
	var is *errAsConflict
	if !errors.As(err, &is) {
		return nil, adopted, err
	}
	is.attachment = proto.CloneOf(at)
	is.attachment.InterfaceId = strings.ToLower(at.GetInterfaceId())
	is.attachment.Key = proto.CloneOf(at.GetKey())
	is.attachment.Key.Node = node
	return &is.conflict, false, a.keepConflict(ctx, is.conflict)
}

// keepConflict writes a conflict, if it is not known as it is.
func (a *API) keepConflict(ctx context.Context, now conflict) error {
	vmi, news := now.attachment.GetInterfaceId(), false
	_, err := a.write(ctx, audit{"keep conflict", vmi}, func(c *change) error {
		news = false
		known, ok := a.recovery.conflictOf(vmi)
		if ok && (known.drop || known.reason == now.reason && known.holder == now.holder && proto.Equal(known.attachment, now.attachment)) {
			return nil
		}
		news = true
		value, err := now.encode()
		if err != nil {
			return err
		}
		c.Guard(store.Guard{Condition: store.NotSince, Key: store.ConflictKey(vmi), Revision: int64(c.since)})
		c.Put(store.ConflictKey(vmi), value)
		return nil
	})
	if err == nil && news {
		a.log.Warn("an attachment that runs cannot be adopted after the restore",
			"node", now.attachment.GetKey().GetNode(), "container", now.attachment.GetKey().GetContainerId(),
			"interface", vmi, "reason", now.reason)
	}
	return err
}

// noteReport forgets conflicts of what does not run any more, and that the node
// is awaited. A node with conflicts stays until all others have reported: what
// they release may have been in the way.
func (a *API) noteReport(ctx context.Context, node string, r *configv1.SettleRequest, out *configv1.SettleResponse) (model.Position, error) {
	running := map[string]bool{}
	for _, run := range r.GetRunning() {
		running[strings.ToLower(run.GetAttachment().GetInterfaceId())] = true
	}
	return a.write(ctx, audit{"report after restore", node}, func(c *change) error {
		for _, vmi := range slices.Sorted(maps.Keys(a.recovery.conflictsOf(node))) {
			if !running[vmi] {
				c.Delete(store.ConflictKey(vmi))
			}
		}
		awaited, ok := a.recovery.awaitedNode(node)
		if !ok || len(r.GetAdding()) > 0 {
			return nil
		}
		k := store.AwaitedKey(node)
		c.Guard(store.Guard{Condition: store.NotSince, Key: k, Revision: int64(c.since)})
		if len(out.Conflicts) == 0 || !a.recovery.othersToReport(node) {
			c.Delete(k)
			return nil
		}
		if awaited.Reported {
			return nil
		}
		c.Put(k, []byte(fmt.Sprintf(`{"name":%q,"reported":true}`, awaited.Name)))
		return nil
	})
}

// evictHolder releases what stands in the way of something that runs. The
// node's next report has that adopted.
func (a *API) evictHolder(ctx context.Context, vmi string) error {
	found, ok := a.recovery.conflictOf(vmi)
	if !ok {
		return noConflict(vmi)
	}
	holder := ""
	a.graph.View(func(v *model.View) {
		if _, ok := v.Binding(found.holder); ok {
			holder = found.holder
		}
		for r := range v.ReferenceSeq(found.holder, model.KindVirtualMachineInterface) {
			if b, ok := v.Binding(r.To.UUID); ok && b.ContainerID != "" {
				holder = r.To.UUID
			}
		}
	})
	if holder == "" {
		return taken("interface %s: %s; that is no attachment which could be released: change or delete it by hand, and the node's next report has the interface adopted", vmi, found.reason)
	}
	if holder == vmi {
		return taken("interface %s: %s; it is itself what the store has: detach it, or keep the stored side", vmi, found.reason)
	}
	_, err := a.detachBinding(ctx, holder)
	return err
}
