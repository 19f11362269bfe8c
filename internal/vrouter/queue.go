package vrouter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// detachQueue holds the releases that the manager has not confirmed: one file
// each, written before anything else of the interface is removed.
type detachQueue struct {
	log    *slog.Logger
	dir    string
	bootID string
	send   func(context.Context, portapi.DetachRequest) error

	woken chan struct{}
	// turn serialises sending: a release that another has just sent is not
	// sent again, when the interface may have been attached anew.
	turn chan struct{}

	mu      sync.Mutex
	lastErr error
}

// rescanEvery is how soon a file is found that the plugin left while the agent
// did not answer it.
const rescanEvery = 15 * time.Second

func newDetachQueue(log *slog.Logger, dir, bootID string, send func(context.Context, portapi.DetachRequest) error) *detachQueue {
	return &detachQueue{log: log, dir: dir, bootID: bootID, send: send, woken: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
}

func (q *detachQueue) wake() {
	select {
	case q.woken <- struct{}{}:
	default:
	}
}

// complete fills in the boot that a release of a running request means.
func (q *detachQueue) complete(r portapi.DetachRequest) portapi.DetachRequest {
	if r.BootID == "" {
		r.BootID = q.bootID
	}
	if r.BootID != q.bootID {
		r.Sequence = 0 // it is of this boot, and has no order with that one's
	}
	return r
}

// add writes a release to disk and returns it as it was written.
func (q *detachQueue) add(r portapi.DetachRequest) (portapi.DetachRequest, error) {
	r = q.complete(r)
	r.QueuedAt = time.Now().UTC()
	return r, portapi.WriteQueueFile(q.dir, r)
}

// settle sends a release that is on disk and forgets it once it is confirmed.
func (q *detachQueue) settle(ctx context.Context, r portapi.DetachRequest) error {
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return fmt.Errorf("release interface %s of %s: %w", r.Interface, r.ContainerID, ctx.Err())
	}
	r, err := portapi.ReadQueueFile(q.path(r))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = q.send(ctx, r)
	if err != nil && connect.CodeOf(err) == connect.CodeInvalidArgument {
		// The same again would be refused again.
		q.log.Warn("release refused by the manager", "container", r.ContainerID, "interface", r.Interface, "error", err)
		err = nil
	}
	q.mu.Lock()
	q.lastErr = err
	q.mu.Unlock()
	if err != nil {
		return fmt.Errorf("release interface %s of %s: %w", r.Interface, r.ContainerID, err)
	}
	// A file that comes back after a power failure is sent again; that is harmless.
	if err := os.Remove(q.path(r)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove from detach queue: %w", err)
	}
	return nil
}

func (q *detachQueue) path(r portapi.DetachRequest) string {
	return filepath.Join(q.dir, r.QueueName())
}

// holds tells whether a release is still to be confirmed.
func (q *detachQueue) holds(r portapi.DetachRequest) bool {
	_, err := os.Stat(q.path(r))
	return err == nil
}

// settleKey sends what is queued for one interface: a release must not arrive
// after the interface has been attached anew.
func (q *detachQueue) settleKey(ctx context.Context, k attachKey) error {
	queue, err := portapi.ReadQueue(q.dir)
	if err != nil {
		q.log.Warn("detach queue has a file that cannot be read", "error", err)
	}
	for _, r := range queue {
		if (attachKey{r.ContainerID, r.Interface}) == k {
			if err := q.settle(ctx, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (q *detachQueue) pending() []portapi.DetachRequest {
	queue, _ := portapi.ReadQueue(q.dir)
	list := make([]portapi.DetachRequest, 0, len(queue))
	for _, r := range queue {
		list = append(list, r)
	}
	return list
}

// run sends what is queued until ctx ends. received is called for each file
// before it is sent: the plugin may have left it while the agent was away.
func (q *detachQueue) run(ctx context.Context, received func(portapi.DetachRequest)) error {
	failures := 0
	for {
		pause := rescanEvery
		if q.round(ctx, received) != nil {
			pause = reconcile.Backoff(failures, 500*time.Millisecond, rescanEvery)
			failures++
		} else {
			failures = 0
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-q.woken:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (q *detachQueue) round(ctx context.Context, received func(portapi.DetachRequest)) error {
	queue, err := portapi.ReadQueue(q.dir)
	if err != nil {
		q.log.Warn("detach queue has a file that cannot be read", "error", err)
	}
	for _, r := range queue {
		received(r)
		sendCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := q.settle(sendCtx, r)
		cancel()
		if err != nil {
			return err
		}
		q.log.Info("queued release confirmed", "container", r.ContainerID, "interface", r.Interface, "reason", r.Reason)
	}
	return nil
}
