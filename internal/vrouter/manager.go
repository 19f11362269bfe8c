package vrouter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"connectrpc.com/connect"

	managerv1 "github.com/contrail-mesos/contrail/api/contrail/manager/v1"
	"github.com/contrail-mesos/contrail/api/contrail/manager/v1/managerv1connect"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// manager relays to the Mesos manager and knows how it is doing.
type manager struct {
	address string
	client  managerv1connect.ManagerClient

	mu       sync.Mutex
	position *typesv1.Position // newest seen
	mtu      uint32
	joined   bool  // the last report was accepted
	lastErr  error // of the last report
	since    time.Time
}

func (m *manager) seen() *typesv1.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.position
}

// knownMTU of containers; 0 before the first report.
func (m *manager) knownMTU() uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mtu
}

func (m *manager) saw(p *typesv1.Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p != nil && newer(p, m.position) {
		m.position = p
	}
}

// newer tells whether a is later than b; nil is before everything.
func newer(a, b *typesv1.Position) bool {
	if a.GetEpoch() != b.GetEpoch() {
		return a.GetEpoch() > b.GetEpoch()
	}
	return a.GetRevision() > b.GetRevision()
}

// explain names the manager in its errors, for whoever reads the task's message.
func (m *manager) explain(err error) error {
	if err == nil {
		return nil
	}
	kind := portapi.KindInternal
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument:
		kind = portapi.KindInvalid
	case connect.CodeAlreadyExists:
		kind = portapi.KindConflict
	case connect.CodeResourceExhausted:
		kind = portapi.KindExhausted
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled, connect.CodeAborted, connect.CodeFailedPrecondition:
		kind = portapi.KindUnavailable
	}
	if kind != portapi.KindUnavailable {
		var refusal *connect.Error
		if errors.As(err, &refusal) {
			return &portapi.Error{Kind: kind, Message: fmt.Sprintf("Mesos manager refused: %s", refusal.Message())}
		}
	}
	return &portapi.Error{Kind: kind, Message: fmt.Sprintf("Mesos manager at %s does not answer as it should: %v; is `contrail mesos-manager` running, and can this node reach it?", m.address, err)}
}

// reached tells whether a failed call may have had an effect: not if there was
// no connection, nor if the manager said that it refused.
func reached(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeAlreadyExists, connect.CodeResourceExhausted,
		connect.CodePermissionDenied, connect.CodeFailedPrecondition, connect.CodeUnauthenticated:
		return false
	}
	var op *net.OpError
	return !errors.As(err, &op) || op.Op != "dial"
}

func (m *manager) attach(ctx context.Context, r *managerv1.AttachRequest) (*managerv1.AttachResponse, error) {
	response, err := m.client.Attach(ctx, connect.NewRequest(r))
	if err != nil {
		return nil, err
	}
	m.saw(response.Msg.GetPosition())
	return response.Msg, nil
}

func (m *manager) detach(ctx context.Context, r portapi.DetachRequest) error {
	response, err := m.client.Detach(ctx, connect.NewRequest(&managerv1.DetachRequest{
		ContainerId: r.ContainerID, Interface: r.Interface, BootId: r.BootID, Namespace: r.Namespace, Sequence: r.Sequence,
	}))
	if err != nil {
		return err
	}
	m.saw(response.Msg.GetPosition())
	return nil
}

const (
	// reportEvery is the pause between reports while all is well.
	reportEvery = 30 * time.Second
	// settleEvery is the pause while a restored store waits for the node, and
	// conflictEvery while it waits for an operator who resolves a conflict.
	settleEvery   = time.Second
	conflictEvery = 5 * time.Second
)

// runReports joins, and tells the manager again and again which containers
// live here: that is how releases that were lost are made up for.
func (a *Agent) runReports(ctx context.Context) error {
	failures := 0
	for {
		pause, err := a.report(ctx)
		switch {
		case err == nil && failures > 0:
			a.log.Info("manager answers again", "manager", a.manager.address)
			failures = 0
			a.queue.wake()
		case err != nil:
			if failures == 0 {
				a.log.Warn("report failed and is repeated", "manager", a.manager.address, "error", err)
			}
			pause = reconcile.Backoff(failures, 200*time.Millisecond, 10*time.Second)
			failures++
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-a.reportNow:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// report sends one report. The position is read before the list is made: what
// is attached in between is newer than the report and is not judged by it. The
// first one has no position and only joins; a second follows at once. So
// it does when the store turns out to have another epoch. pause is how soon the
// next is due.
func (a *Agent) report(ctx context.Context) (pause time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	since := a.manager.seen()
	pause, err = a.reportSince(ctx, since)
	if now := a.manager.seen(); err == nil && (since == nil || now.GetEpoch() != since.GetEpoch()) {
		pause, err = a.reportSince(ctx, now)
	}
	a.manager.mu.Lock()
	defer a.manager.mu.Unlock()
	if a.manager.joined != (err == nil) || a.manager.since.IsZero() {
		a.manager.since = time.Now()
	}
	a.manager.joined, a.manager.lastErr = err == nil, err
	return pause, err
}

func (a *Agent) reportSince(ctx context.Context, since *typesv1.Position) (pause time.Duration, err error) {
	var ports said
	if since != nil {
		a.checkLinks(ctx)
		ports = a.registry.say(a.node, since.GetEpoch())
	}
	mtu, err := a.links.mtu(a.config.Underlay)
	if err != nil {
		return 0, err
	}
	response, err := a.manager.client.Report(ctx, connect.NewRequest(&managerv1.ReportRequest{
		Name: a.config.Name, Address: a.config.Address.String(), FabricMtu: mtu, BootId: a.bootID,
		Since: since, Live: ports.live, Running: ports.running, Adding: ports.adding,
	}))
	if err != nil {
		return 0, fmt.Errorf("report to the manager: %w", err)
	}
	for _, k := range response.Msg.GetReleased() {
		a.log.Info("attachment released because its container is gone",
			"container", k.GetContainerId(), "interface", k.GetInterface(), "namespace", k.GetNamespace())
	}
	a.manager.saw(response.Msg.GetPosition())
	a.manager.mu.Lock()
	a.manager.mtu = response.Msg.GetMtu()
	a.manager.mu.Unlock()
	for _, id := range response.Msg.GetDrop() {
		a.drop(id)
	}
	switch {
	case response.Msg.GetAwaited():
		return settleEvery, nil
	case len(response.Msg.GetConflicts()) > 0:
		return conflictEvery, nil
	}
	return reportEvery, nil
}

// drop takes a port off that an operator decided against after a restore. Its
// container goes on without the interface.
func (a *Agent) drop(id string) {
	r := a.registry.get(id)
	if r == nil {
		return
	}
	end, free := a.registry.tryBegin(r.key())
	if !free {
		return // the next report asks again
	}
	defer end()
	if a.registry.get(id) == r {
		a.log.Warn("port removed because an operator decided against it after a restore", "port", id, "container", r.ContainerID, "interface", r.Interface)
		a.unplug(r)
	}
}
