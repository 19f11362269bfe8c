package configapi

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// patience is how long the first attempt at a transaction may take; later ones
// may take longer. What a dying leader swallowed is noticed by its silence.
const patience = 2 * time.Second

// errNotWritten says that a transaction did not happen and never will.
var errNotWritten = errors.New("the store did not take the transaction")

// commit commits c and waits until the graph shows it. retry says to decide anew.
func (a *API) commit(ctx context.Context, c *change, attempt int) (at model.Position, retry bool, err error) {
	started := time.Now()
	revision, err := a.commitOnce(ctx, c, attempt)
	callOf(ctx).spend(committing, started)
	var conflict *store.Conflict
	switch {
	case err == nil:
		if err := a.catchUp(ctx, revision); err != nil && !errors.Is(err, context.Canceled) {
			a.log.Warn("a write is done, but this process does not see it yet", "error", err)
		}
		return model.Position{Epoch: c.Epoch(), Revision: uint64(revision)}, false, nil
	case errors.As(err, &conflict):
		if err, ok := takenAtCommit(conflict); ok {
			return at, false, err
		}
		a.metrics.conflicts.WithLabelValues(string(conflict.Guard.Key.Space())).Inc()
		a.ledger.noteCrowd(conflict.Guard.Key)
		if err := a.catchUp(ctx, conflict.Revision); err != nil {
			return at, false, err
		}
	case errors.Is(err, store.ErrLeaseGone):
		a.store.ForgetLeases()
		return at, true, nil
	case errors.Is(err, store.ErrNewEpoch):
		err := a.settlingEpoch(ctx)
		if err == nil {
			err = a.enterEpoch(ctx, c.Epoch())
		}
		return at, err == nil, err
	case errors.Is(err, errNotWritten):
		err := ctx.Err()
		return at, err == nil, err
	default:
		return at, false, storeError(err)
	}
	if attempt > 2 {
		pause := time.NewTimer(time.Duration(rand.Int64N(int64(min(attempt, 20)) * int64(2*time.Millisecond))))
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done():
			return at, false, ctx.Err()
		}
	}
	return at, true, nil
}

// commitOnce commits c. Where the answer is lost it finds out what happened, so
// that a write is never decided against itself. What was sent is waited for
// although the caller has gone: it belongs in the audit log.
func (a *API) commitOnce(ctx context.Context, c *change, attempt int) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience<<min(attempt, 2))
	defer cancel()
	revision, err := c.Commit(once)
	if !errors.Is(err, store.ErrUnknown) {
		return revision, err
	}
	a.log.Warn("the store did not answer a transaction; finding out what became of it", "error", err)
	revision, err = c.Settle(ctx, int64(c.since))
	if err == nil && revision == 0 {
		err = errNotWritten
	}
	return revision, err
}

// storeError is what a client is told of an error of the store.
func storeError(err error) error {
	switch {
	case errors.Is(err, store.ErrTooBig):
		return refuse(http.StatusRequestEntityTooLarge, connect.CodeInvalidArgument, "nothing was changed: %v", err)
	case errors.Is(err, store.ErrFull):
		return refuse(http.StatusInsufficientStorage, connect.CodeResourceExhausted,
			"the store is full, so nothing was changed: delete what is not needed, free space on the controllers' disks, or run: contrail db compact (%v)", err)
	case errors.Is(err, store.ErrNoQuorum) && !errors.Is(err, store.ErrUnknown):
		return refuse(http.StatusServiceUnavailable, connect.CodeUnavailable, "nothing was changed: %v; ask another controller, or try again", err)
	case errors.Is(err, store.ErrUnknown):
		return fmt.Errorf("it is not known whether this was written: %w; look before trying again", err)
	default:
		return err
	}
}

// refreshed makes sure that a decision not to write was made on all that other
// controllers have written. retry says that it was not. given is the decision.
func (a *API) refreshed(ctx context.Context, since uint64, given error) (retry bool, err error) {
	revision, err := a.barrier(ctx)
	if err != nil {
		return false, err
	}
	if uint64(revision) <= since {
		return false, given
	}
	err = a.catchUp(ctx, revision)
	return err == nil, err
}

// barrier is the store's, in the present epoch.
func (a *API) barrier(ctx context.Context) (int64, error) {
	for {
		epoch := a.store.Epoch()
		revision, err := a.store.Barrier(ctx)
		if !errors.Is(err, store.ErrNewEpoch) {
			return revision, err
		}
		if a.settlingEpoch(ctx) != nil {
			return 0, nil // until the restore has ended, what was before it is read
		}
		if err := a.enterEpoch(ctx, epoch); err != nil {
			return 0, err
		}
	}
}

// enterEpoch waits until the graph shows a later epoch than the given one.
func (a *API) enterEpoch(ctx context.Context, epoch uint64) error {
	now, over := a.store.Era()
	if now != epoch {
		return nil
	}
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	// firstSync is when the store is asked how far it is, because a revision
	// may have changed nothing that we follow; then less and less often.
	firstSync = 10 * time.Millisecond
	lastSync  = 200 * time.Millisecond
)

// catchUp waits until the graph has seen a revision.
func (a *API) catchUp(ctx context.Context, revision int64) error {
	defer callOf(ctx).spend(catchingUp, time.Now())
	for pause := firstSync; ; pause = min(2*pause, lastSync) {
		if a.graph.Position().Revision >= uint64(revision) {
			return nil
		}
		soon, cancel := context.WithTimeout(ctx, pause)
		err := a.graph.WaitFor(soon, uint64(revision))
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if err := a.store.Sync(ctx); err != nil && ctx.Err() == nil {
			a.log.Debug("cannot ask the store how far it is", "error", err)
		}
	}
}
