package vrouter

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// registry knows the node's ports and what is being done to them. It is safe
// for concurrent use; it does no I/O.
type registry struct {
	mu      sync.Mutex
	ports   map[string]*record // by interface id
	list    []*record          // of ports, by id; nil after a change of them
	busy    map[attachKey]*operation
	changed chan struct{} // closed and replaced with each change of ports
}

// operation is an ADD or DEL in progress.
type operation struct {
	// adding is the key of an ADD, nil for anything else.
	adding *configv1.AttachmentKey
	cancel context.CancelCauseFunc
	done   chan struct{}
}

func newRegistry() *registry {
	return &registry{ports: map[string]*record{}, busy: map[attachKey]*operation{}, changed: make(chan struct{})}
}

// errPreempted is the cause of an ADD's end when a DEL came.
var errPreempted = fmt.Errorf("the interface is being detached")

// begin waits until nothing else is done to the interface. The context it
// returns ends early if a DEL comes. An operation that is not an ADD ends one
// that is in progress. end must be called.
func (g *registry) begin(ctx context.Context, k attachKey, adding *configv1.AttachmentKey) (opCtx context.Context, end func(), err error) {
	for {
		g.mu.Lock()
		other := g.busy[k]
		if other == nil {
			opCtx, cancel := context.WithCancelCause(ctx)
			op := &operation{adding: adding, cancel: cancel, done: make(chan struct{})}
			g.busy[k] = op
			g.mu.Unlock()
			return opCtx, func() { g.end(k, op) }, nil
		}
		g.mu.Unlock()
		if adding == nil && other.adding != nil {
			other.cancel(errPreempted)
		}
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("wait for another operation on interface %s: %w", k, context.Cause(ctx))
		}
	}
}

// tryBegin is begin for work that can wait for its next turn.
func (g *registry) tryBegin(k attachKey) (end func(), free bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy[k] != nil {
		return nil, false
	}
	op := &operation{cancel: func(error) {}, done: make(chan struct{})}
	g.busy[k] = op
	return func() { g.end(k, op) }, true
}

func (g *registry) end(k attachKey, op *operation) {
	g.mu.Lock()
	delete(g.busy, k)
	g.mu.Unlock()
	op.cancel(nil)
	close(op.done)
}

func (g *registry) put(r *record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ports[r.ID], g.list = r, nil
	g.announce()
}

// replace puts next where old is still what is known.
func (g *registry) replace(old, next *record) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ports[old.ID] != old {
		return false
	}
	g.ports[next.ID], g.list = next, nil
	g.announce()
	return true
}

// remove takes r out if it is still the one that is known.
func (g *registry) remove(r *record) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ports[r.ID] != r {
		return false
	}
	delete(g.ports, r.ID)
	g.list = nil
	g.announce()
	return true
}

// touch announces a change of what belongs to ports but is kept elsewhere.
func (g *registry) touch() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.announce()
}

func (g *registry) announce() {
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *registry) get(id string) *record {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ports[id]
}

// byKey finds the port of a container's interface.
func (g *registry) byKey(k attachKey) *record {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.ports {
		if r.key() == k {
			return r
		}
	}
	return nil
}

// all returns the ports by id, and a channel that is closed with the next change.
// The list is shared: nobody changes it.
func (g *registry) all() ([]*record, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.list == nil {
		g.list = slices.SortedFunc(maps.Values(g.ports), func(a, b *record) int { return strings.Compare(a.ID, b.ID) })
	}
	return g.list, g.changed
}

// nextChange returns the channel alone.
func (g *registry) nextChange() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// usesVRF tells whether any port is in the VRF, or has an address of it.
func (g *registry) usesVRF(vrf uint32) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.ports {
		if r.VRF == vrf || r.Passage == vrf || slices.ContainsFunc(r.Foreign, func(f dataplane.ForeignAddress) bool { return f.VRF == vrf }) {
			return true
		}
	}
	return false
}

// usesInterface tells whether any port has the interface.
func (g *registry) usesInterface(ifindex int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.ports {
		if r.HostIndex == ifindex {
			return true
		}
	}
	return false
}

// said is what a report tells of the attachments.
type said struct {
	// live are the keys of all, those in progress included; adding are these.
	live, adding []*configv1.AttachmentKey
	// running describes those of an earlier epoch.
	running []*configv1.Running
}

// say returns all attachments as of one moment: an ADD is among the ports or
// among those in progress until it has failed.
func (g *registry) say(node string, epoch uint64) said {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out said
	for _, r := range g.ports {
		if r.isClassic() {
			continue
		}
		out.live = append(out.live, &configv1.AttachmentKey{
			Node: node, ContainerId: r.ContainerID, Interface: r.Interface, BootId: r.BootID, Namespace: r.Namespace,
		})
		if r.Epoch != epoch {
			out.running = append(out.running, r.running(node))
		}
	}
	for _, op := range g.busy {
		if op.adding != nil {
			out.live = append(out.live, op.adding)
			out.adding = append(out.adding, op.adding)
		}
	}
	return out
}
