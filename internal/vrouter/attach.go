package vrouter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"
	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	managerv1 "github.com/contrail-mesos/contrail/api/contrail/manager/v1"
	"github.com/contrail-mesos/contrail/api/portapi"
)

// attach gives a container its interface: the manager makes the attachment, the
// port is plugged and written to disk. When it fails, what was made is undone
// or, where that needs a manager who is away, queued.
//
// made waits for the interface pair and returns the name of its host side. It
// is called once.
func (a *Agent) attach(ctx context.Context, req portapi.AttachRequest, made func() (string, error)) (*portapi.AttachResponse, error) {
	if err := validAttach(req); err != nil {
		return nil, err
	}
	limits, err := parseLimits(req.NetworkConfiguration)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, portapi.AttachTimeout)
	defer cancel()
	if err := order(&req.Sequence); err != nil {
		return nil, err
	}
	key := attachKey{req.ContainerID, req.Interface}
	adding := &configv1.AttachmentKey{
		Node: a.node, ContainerId: req.ContainerID, Interface: req.Interface, BootId: a.bootID, Namespace: req.Namespace,
	}
	ctx, end, err := a.registry.begin(ctx, key, adding)
	if err != nil {
		return nil, &portapi.Error{Kind: portapi.KindUnavailable, Message: err.Error()}
	}
	defer end()
	old := a.registry.byKey(key)
	find := func() (pair, error) { return a.findPair(made) }
	if old != nil && old.Namespace == req.Namespace {
		p, err := find()
		if err != nil {
			return nil, err
		}
		if p.index == old.HostIndex {
			return a.attachAgain(ctx, old, limits)
		}
		find = func() (pair, error) { return p, nil }
	}
	if err := a.queue.settleKey(ctx, key); err != nil {
		return nil, a.manager.explain(err)
	}
	started := time.Now()
	// Kernel and disk take a while for what the manager's answer does not change.
	g := a.guard(find)
	file := a.files.reserve()
	defer file.release()
	response, err := a.askManager(ctx, req)
	asked := time.Now()
	if err != nil {
		g.undo()
		if reached(err) {
			a.release(adding, req.Sequence, "ADD failed: "+err.Error())
		}
		if errors.Is(context.Cause(ctx), errPreempted) {
			return nil, &portapi.Error{Kind: portapi.KindConflict, Message: "the interface was detached while it was being attached"}
		}
		return nil, a.manager.explain(err)
	}
	p, err := g.found()
	if err != nil {
		a.release(adding, req.Sequence, "ADD failed: "+err.Error())
		return nil, err
	}
	r := a.newRecord(req, p, response)
	r.Egress, r.Ingress = limits.egress, limits.ingress
	if err := a.plug(ctx, old, r, g, file); err != nil {
		a.unplug(r)
		g.undo()
		a.release(adding, req.Sequence, "ADD failed: "+err.Error())
		return nil, &portapi.Error{Kind: portapi.KindInternal, Message: fmt.Sprintf("vRouter agent cannot plug %s: %v", p.name, err)}
	}
	plugged := time.Now()
	a.awaitPolicy(ctx, r)
	a.log.Info("port attached", "port", r.ID, "container", r.ContainerID, "interface", r.Interface,
		"host_interface", r.HostInterface, "network", r.NetworkName, "mac", r.MAC, "vrf", r.VRF, "label", r.Label,
		"manager_took", asked.Sub(started), "plug_took", plugged.Sub(asked), "policy_took", time.Since(plugged))
	return r.answer(), nil
}

// attachAgain answers a runtime that asks for what there is. What it says of
// bandwidth now holds from now on.
func (a *Agent) attachAgain(ctx context.Context, old *record, l limits) (*portapi.AttachResponse, error) {
	if old.Egress == l.egress && old.Ingress == l.ingress {
		return old.answer(), nil
	}
	next := *old
	next.Egress, next.Ingress = l.egress, l.ingress
	err := a.change(old, &next)
	if err == nil {
		err = a.ports.Wait(ctx, next.HostIndex)
	}
	if err != nil {
		return nil, &portapi.Error{Kind: portapi.KindInternal, Message: fmt.Sprintf("vRouter agent cannot change the rates of %s: %v", next.HostInterface, err)}
	}
	a.log.Info("rates of port changed", "port", next.ID, "container", next.ContainerID, "interface", next.Interface,
		"egress", next.Egress.Rate, "ingress", next.Ingress.Rate)
	return next.answer(), nil
}

// pair is the host side of a container's interface pair.
type pair struct {
	name  string
	index int
}

// findPair waits until the pair is made.
func (a *Agent) findPair(made func() (string, error)) (pair, error) {
	name, err := made()
	if err != nil {
		return pair{}, err
	}
	if name == "" {
		return pair{}, missing("host_interface")
	}
	index, err := a.links.find(name)
	if err == nil && index == 0 {
		err = fmt.Errorf("host_interface %q does not exist on the node; the plugin makes it before it names it", name)
	}
	if err != nil {
		return pair{}, &portapi.Error{Kind: portapi.KindInvalid, Message: err.Error()}
	}
	return pair{name, index}, nil
}

// guard is an interface that is being readied: it drops everything until its
// port is plugged.
type guard struct {
	agent *Agent
	// there is closed when the pair is found, or is known not to come.
	there   chan struct{}
	pair    pair
	pairErr error
	done    chan struct{}
	// guarded: it drops everything. err is why it is not ready.
	guarded bool
	err     error
	// mtu that it was given, as the manager's last answer to a report has it.
	mtu uint32
}

func (a *Agent) guard(find func() (pair, error)) *guard {
	g := &guard{agent: a, there: make(chan struct{}), done: make(chan struct{}), mtu: a.manager.knownMTU()}
	go func() {
		defer close(g.done)
		g.pair, g.pairErr = find()
		close(g.there)
		if g.err = g.pairErr; g.err != nil {
			return
		}
		if g.err = a.dataplane.Guard(g.pair.index); g.err != nil {
			return
		}
		g.guarded = true
		g.err = a.links.prepare(g.pair.index, g.pair.name, g.mtu)
	}()
	return g
}

// found waits for the interface pair.
func (g *guard) found() (pair, error) {
	<-g.there
	return g.pair, g.pairErr
}

func (g *guard) wait() error {
	<-g.done
	return g.err
}

// undo is for a port that did not come to be.
func (g *guard) undo() {
	if <-g.done; !g.guarded {
		return
	}
	if err := g.agent.dataplane.DeletePort(g.pair.index); err != nil {
		g.agent.log.Warn("interface cannot be released", "index", g.pair.index, "error", err)
	}
}

// order fills in the sequence of a request that is taken in now. No request
// began later than that, whatever it says.
func order(sequence *uint64) error {
	now, err := portapi.Sequence()
	if err != nil {
		return &portapi.Error{Kind: portapi.KindInternal, Message: "vRouter agent: " + err.Error()}
	}
	if *sequence == 0 || *sequence > now {
		*sequence = now
	}
	return nil
}

func missing(field string) error {
	return &portapi.Error{Kind: portapi.KindInvalid, Message: field + " is missing in the request to the vRouter agent"}
}

func validAttach(req portapi.AttachRequest) error {
	switch {
	case req.ContainerID == "":
		return missing("container_id")
	case req.Interface == "":
		return missing("interface")
	case req.Namespace == "":
		return missing("namespace")
	}
	return nil
}

// askManager joins first if the manager does not know the node.
func (a *Agent) askManager(ctx context.Context, req portapi.AttachRequest) (*managerv1.AttachResponse, error) {
	request := &managerv1.AttachRequest{
		ContainerId: req.ContainerID, Interface: req.Interface, BootId: a.bootID,
		Namespace: req.Namespace, NetworkConfiguration: req.NetworkConfiguration, Sequence: req.Sequence,
	}
	response, err := a.manager.attach(ctx, request)
	if connect.CodeOf(err) != connect.CodeFailedPrecondition {
		return response, err
	}
	if _, joinErr := a.report(ctx); joinErr != nil {
		return nil, err
	}
	return a.manager.attach(ctx, request)
}

func (a *Agent) newRecord(req portapi.AttachRequest, p pair, response *managerv1.AttachResponse) *record {
	at := response.GetAttachment()
	r := &record{
		ID:               at.GetInterfaceId(),
		ContainerID:      req.ContainerID,
		Interface:        req.Interface,
		Namespace:        req.Namespace,
		NetnsPath:        req.NetnsPath,
		BootID:           a.bootID,
		Sequence:         req.Sequence,
		HostInterface:    p.name,
		HostIndex:        p.index,
		VirtualMachineID: at.GetVirtualMachineId(),
		InstanceIPs:      map[string]string{},
		ProjectID:        at.GetProjectId(),
		NetworkID:        at.GetNetworkId(),
		NetworkName:      at.GetNetworkFqName(),
		VRF:              at.GetVrf(),
		Label:            at.GetLabel(),
		MAC:              at.GetMac(),
		MTU:              at.GetMtu(),
		DisplayName:      at.GetDisplayName(),
		Epoch:            response.GetPosition().GetEpoch(),
		Revision:         at.GetRevision(),
	}
	for _, address := range at.GetAddresses() {
		r.InstanceIPs[address.GetAddress()] = address.GetInstanceIpId()
		r.Addresses = append(r.Addresses, portapi.Address{
			Address:      address.GetAddress(),
			PrefixLength: int(address.GetPrefixLength()),
			Gateway:      address.GetGateway(),
			DNSServer:    address.GetDnsServer(),
		})
	}
	return r
}

// plug makes the port forward and its file durable; both must succeed before
// the ADD is answered. old is the port of an earlier namespace of the same
// interface, or nil.
func (a *Agent) plug(ctx context.Context, old, r *record, g *guard, file *reservation) error {
	port, complete, err := r.port()
	if err != nil {
		return err
	}
	if r.ID == "" || !complete {
		return fmt.Errorf("the manager's answer is incomplete: interface %q, vrf %d, label %d, %d addresses",
			r.ID, r.VRF, r.Label, len(r.Addresses))
	}
	if old != nil {
		a.unplug(old) // it has the same file
	}
	written := make(chan error, 1)
	go func() { written <- file.write(r) }()
	if err = g.wait(); err == nil && r.MTU != g.mtu {
		err = a.links.prepare(r.HostIndex, r.HostInterface, r.MTU)
	}
	if err == nil {
		a.ports.Set(r.HostIndex, port)
		err = a.ports.Wait(ctx, r.HostIndex)
	}
	if err = errors.Join(err, <-written); err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		a.registry.put(r)
	}
	return err
}

// unplugWait bounds how long a removal waits for the data plane; the table goes
// on trying.
const unplugWait = 2 * time.Second

// unplug removes a port from the node. The pair goes first: from then on no
// packet passes, whatever fails afterwards.
func (a *Agent) unplug(r *record) {
	ctx, cancel := context.WithTimeout(context.Background(), unplugWait)
	defer cancel()
	a.registry.remove(r)
	var failed error
	if !r.isClassic() {
		failed = a.links.remove(r.HostIndex, r.HostInterface)
	}
	if a.forgetPort(r) {
		failed = errors.Join(failed, a.ports.Wait(ctx, r.HostIndex))
	}
	if a.registry.get(r.ID) == nil {
		failed = errors.Join(failed, a.files.remove(r.ID))
	}
	if failed != nil {
		a.log.Warn("port is not removed completely and is tried again", "port", r.ID, "error", failed)
	}
}

// forgetPort has the port taken off if it is desired. After a reboot, or in a
// namespace made anew, the index may be another port's by now.
func (a *Agent) forgetPort(r *record) bool {
	p, desired := a.ports.Get(r.HostIndex)
	if !desired || p.Name != r.HostInterface {
		return false
	}
	a.ports.Delete(r.HostIndex)
	return true
}

// release queues the end of an attachment that failed on its way.
func (a *Agent) release(k *configv1.AttachmentKey, sequence uint64, reason string) {
	_, err := a.queue.add(portapi.DetachRequest{
		ContainerID: k.GetContainerId(), Interface: k.GetInterface(), Namespace: k.GetNamespace(), BootID: k.GetBootId(),
		Sequence: sequence, Reason: reason,
	})
	if err != nil {
		// The next report releases it: the interface is not live here.
		a.log.Error("release cannot be queued", "container", k.GetContainerId(), "interface", k.GetInterface(), "error", err)
	}
	a.queue.wake()
}

// detachTry bounds the attempt to have a release confirmed while DEL waits.
const detachTry = 2 * time.Second

// detach gives a container's interface back. It succeeds once the port is off
// and the release is on disk, whether or not a manager is there.
func (a *Agent) detach(ctx context.Context, req portapi.DetachRequest) error {
	if req.ContainerID == "" || req.Interface == "" {
		return &portapi.Error{Kind: portapi.KindInvalid, Message: "container_id and interface are needed to detach"}
	}
	ctx, cancel := context.WithTimeout(ctx, portapi.DetachTimeout)
	defer cancel()
	if err := order(&req.Sequence); err != nil {
		return err
	}
	key := attachKey{req.ContainerID, req.Interface}
	_, end, err := a.registry.begin(ctx, key, nil)
	if err != nil {
		return &portapi.Error{Kind: portapi.KindUnavailable, Message: err.Error()}
	}
	defer end()
	r := a.registry.byKey(key)
	if r != nil && r.outlives(a.queue.complete(req)) {
		r = nil
	}
	if r != nil {
		req.Namespace, req.BootID = r.Namespace, r.BootID
	}
	queued, err := a.queue.add(req)
	if err != nil {
		return &portapi.Error{Kind: portapi.KindInternal, Message: err.Error()}
	}
	a.settleBeside(ctx, queued, func() {
		if r != nil {
			a.unplug(r)
		}
	})
	a.log.Info("port detached", "container", req.ContainerID, "interface", req.Interface,
		"namespace", req.Namespace, "reason", req.Reason, "existed", r != nil)
	return nil
}

// settleBeside asks the manager for a release while the port is taken off: the
// address rests for longer than that takes.
func (a *Agent) settleBeside(ctx context.Context, queued portapi.DetachRequest, work func()) {
	var wait sync.WaitGroup
	wait.Go(func() {
		tryCtx, cancel := context.WithTimeout(ctx, detachTry)
		defer cancel()
		if err := a.queue.settle(tryCtx, queued); err != nil {
			a.log.Info("release is queued", "container", queued.ContainerID, "interface", queued.Interface, "error", err)
			a.queue.wake()
		}
	})
	work()
	wait.Wait()
}

// dropStale detaches a port whose interface has gone without a DEL.
func (a *Agent) dropStale(r *record) error {
	end, free := a.registry.tryBegin(r.key())
	if !free {
		return nil // an ADD or DEL is at it
	}
	defer end()
	if a.registry.get(r.ID) != r {
		return nil
	}
	// What is released is this very attachment.
	_, err := a.queue.add(portapi.DetachRequest{
		ContainerID: r.ContainerID, Interface: r.Interface, Namespace: r.Namespace, BootID: r.BootID, Sequence: r.Sequence,
		Reason: "host interface " + r.HostInterface + " is gone",
	})
	if err != nil {
		return err
	}
	a.unplug(r)
	a.queue.wake()
	a.log.Info("port removed because its interface is gone", "port", r.ID, "container", r.ContainerID, "interface", r.Interface)
	return nil
}

// received takes a port off whose release the plugin queued while the agent
// did not answer.
func (a *Agent) received(q portapi.DetachRequest) {
	key := attachKey{q.ContainerID, q.Interface}
	if a.registry.byKey(key) == nil {
		return
	}
	end, free := a.registry.tryBegin(key)
	if !free {
		return
	}
	defer end()
	r := a.registry.byKey(key)
	if r == nil || !a.queue.holds(q) || r.outlives(q) {
		return
	}
	a.unplug(r)
}
