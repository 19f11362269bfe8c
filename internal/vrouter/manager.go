package vrouter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
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

// reportEvery is the pause between reports while all is well.
const reportEvery = 30 * time.Second

// runReports joins, and tells the manager again and again which containers
// live here: that is how releases that were lost are made up for.
func (a *Agent) runReports(ctx context.Context) error {
	failures := 0
	for {
		pause := reportEvery
		err := a.report(ctx)
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
		case <-timer.C:
		}
	}
}

// report sends one report. The position is read before the list is made: what
// is attached in between is newer than the report and is not judged by it. The
// first one has no position and only joins; a second follows at once.
func (a *Agent) report(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	since := a.manager.seen()
	err := a.reportSince(ctx, since)
	if err == nil && since == nil {
		err = a.reportSince(ctx, a.manager.seen())
	}
	a.manager.mu.Lock()
	defer a.manager.mu.Unlock()
	if a.manager.joined != (err == nil) || a.manager.since.IsZero() {
		a.manager.since = time.Now()
	}
	a.manager.joined, a.manager.lastErr = err == nil, err
	return err
}

func (a *Agent) reportSince(ctx context.Context, since *typesv1.Position) error {
	var live []*configv1.AttachmentKey
	if since != nil {
		a.checkLinks(ctx)
		live = a.registry.live(a.node)
	}
	mtu, err := a.links.mtu(a.config.Underlay)
	if err != nil {
		return err
	}
	response, err := a.manager.client.Report(ctx, connect.NewRequest(&managerv1.ReportRequest{
		Name: a.config.Name, Address: a.config.Address.String(), FabricMtu: mtu, BootId: a.bootID, Since: since, Live: live,
	}))
	if err != nil {
		return fmt.Errorf("report to the manager: %w", err)
	}
	for _, k := range response.Msg.GetReleased() {
		a.log.Info("attachment released because its container is gone",
			"container", k.GetContainerId(), "interface", k.GetInterface(), "namespace", k.GetNamespace())
	}
	a.manager.saw(response.Msg.GetPosition())
	a.manager.mu.Lock()
	a.manager.mtu = response.Msg.GetMtu()
	a.manager.mu.Unlock()
	return nil
}
