package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Entry is a key as it stands at some revision.
type Entry struct {
	Key Key
	// Value is nil when the key was deleted.
	Value []byte
	// Created and Modified are revisions.
	Created, Modified int64
	Lease             Lease
	Deleted           bool
}

// Follower is told what the store holds, by one goroutine: a snapshot, then
// every change. A snapshot comes in parts, so that nobody has to hold all of it
// twice: Reset, any number of Load, Loaded. One that is given up is followed by
// another Reset; until Loaded, what the follower knew before is what it knows.
type Follower interface {
	// Reset begins a consistent snapshot of the store.
	Reset(epoch uint64, revision int64) error
	// Load brings some of the snapshot's entries, each once, in no order.
	Load(entries []Entry) error
	// Loaded replaces everything the follower knew by the snapshot.
	Loaded() error
	// Apply applies all changes of one revision. Without changes it says that
	// nothing happened up to this revision.
	Apply(revision int64, changes []Entry) error
}

// Why a watch ends for good and everything is loaded anew.
var (
	errCompacted = errors.New("missed revisions are compacted")
	errRestored  = errors.New("the store was restored")
)

// errWatchClosed is why a watch ended that did not say why.
var errWatchClosed = errors.New("the watch was closed")

// restoringPause is how soon a follower looks again whether a restore has ended,
// doubled by Follow.
const restoringPause = 100 * time.Millisecond

const (
	// longestResume bounds the pause before a watch is resumed.
	longestResume = 500 * time.Millisecond
	// lastingWatch is how long a watch lasts that had something to end it.
	lastingWatch = 2 * time.Second
)

// pulse is how often a follower asks the store how far it is.
const pulse = time.Second

// Follow feeds followers until ctx ends: first a snapshot, then every revision
// from one watch. It survives a store that goes away and comes back. When the
// revisions it missed are compacted, or the store has a new epoch, it loads a
// new snapshot. It returns an error only when ctx ends or a follower fails.
func (s *Store) Follow(ctx context.Context, followers ...Follower) error {
	ctx, cancel := context.WithCancel(ctx)
	var attending sync.WaitGroup
	defer attending.Wait()
	defer cancel()
	attending.Go(func() { s.attend(ctx) })
	return s.follow(ctx, followers)
}

func (s *Store) follow(ctx context.Context, followers []Follower) error {
	restoring := false
	for delay := time.Duration(0); ; delay = min(max(2*delay, 50*time.Millisecond), 2*time.Second) {
		if err := wait(ctx, delay); err != nil {
			return err
		}
		at, err := s.load(ctx, followers)
		var failed *followerError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrRestoring):
			if !restoring {
				s.log.Warn("the store is being restored; what it held before is kept until it is whole")
			}
			restoring, delay = true, restoringPause
			continue
		case errors.As(err, &failed):
			return err
		case err != nil:
			s.log.Warn("cannot load from the store; trying again", "error", err)
			continue
		}
		restoring = false
		s.enter(at.epoch)
		err = s.watch(ctx, at.revision, followers)
		if !errors.Is(err, errCompacted) && !errors.Is(err, errRestored) {
			return err
		}
		s.log.Warn("loading everything from the store anew", "reason", err)
		delay = 0
	}
}

// watch follows the revisions after the given one.
func (s *Store) watch(ctx context.Context, revision int64, followers []Follower) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var pulsing sync.WaitGroup
	defer pulsing.Wait()
	defer cancel(nil)
	var applied atomic.Int64
	applied.Store(revision)
	pulsing.Go(func() { cancel(s.pulse(ctx, &applied)) })
	for delay := time.Duration(0); ; {
		started := time.Now()
		watchCtx, stop := context.WithCancel(ctx)
		ended, err := s.watchOnce(watchCtx, &applied, followers)
		stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		// A member without a leader ends each watch at once, for as long as it has
		// none. The first says so.
		level := slog.LevelDebug
		if delay == 0 || time.Since(started) > lastingWatch {
			delay, level = 0, slog.LevelWarn
		}
		s.log.Log(ctx, level, "watch ended; resuming", "error", ended, "revision", applied.Load())
		delay = min(max(2*delay, 50*time.Millisecond), longestResume)
		if err := wait(ctx, delay); err != nil {
			return context.Cause(ctx)
		}
	}
}

// pulse asks the store again and again how far it is. It returns errRestored
// when the store is another one than what was followed: a watch resumed on a
// store whose revisions begin anew would wait for the old ones in silence.
func (s *Store) pulse(ctx context.Context, applied *atomic.Int64) error {
	for {
		if err := wait(ctx, pulse); err != nil {
			return err
		}
		before := applied.Load()
		at, err := s.head(ctx)
		if err == nil && (at.epoch != s.Epoch() || at.revision < before) {
			return errRestored
		}
	}
}

// watchOnce returns why the watch ended by itself, or an error that no other
// watch would mend.
func (s *Store) watchOnce(ctx context.Context, applied *atomic.Int64, followers []Follower) (ended, err error) {
	revision := applied.Load()
	// A member that lost its leader must not keep us waiting: the watch ends
	// and goes on elsewhere.
	watch := s.client.Watch(clientv3.WithRequireLeader(ctx), s.prefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1), clientv3.WithProgressNotify())
	for resp := range watch {
		if errors.Is(resp.Err(), rpctypes.ErrCompacted) {
			return nil, errCompacted
		}
		if err := resp.Err(); err != nil {
			return err, nil
		}
		if resp.IsProgressNotify() {
			if resp.Header.Revision <= applied.Load() {
				continue
			}
			if err := s.apply(resp.Header.Revision, nil, followers); err != nil {
				return nil, err
			}
			applied.Store(resp.Header.Revision)
			continue
		}
		for events := resp.Events; len(events) > 0; {
			n := 1
			for n < len(events) && events[n].Kv.ModRevision == events[0].Kv.ModRevision {
				n++
			}
			if s.restored(events[:n]) {
				return nil, errRestored
			}
			if err := s.apply(events[0].Kv.ModRevision, events[:n], followers); err != nil {
				return nil, err
			}
			applied.Store(events[0].Kv.ModRevision)
			events = events[n:]
		}
	}
	return errWatchClosed, nil
}

// restored tells whether a revision begins a new epoch.
func (s *Store) restored(events []*clientv3.Event) bool {
	for _, e := range events {
		if string(e.Kv.Key) == s.path(EpochKey) {
			epoch, err := parseEpoch(e.Kv.Value)
			return err != nil || epoch != s.Epoch()
		}
	}
	return false
}

func (s *Store) apply(revision int64, events []*clientv3.Event, followers []Follower) error {
	changes := make([]Entry, 0, len(events))
	for _, e := range events {
		entry := s.entry(e.Kv)
		if entry.Key.private() {
			continue
		}
		if e.Type == clientv3.EventTypeDelete {
			entry.Deleted, entry.Value = true, nil
		}
		changes = append(changes, entry)
	}
	return tell(followers, func(f Follower) error { return f.Apply(revision, changes) })
}

// followerError is that of a follower, which ends the following.
type followerError struct{ err error }

func (e *followerError) Error() string { return "follow store: " + e.err.Error() }
func (e *followerError) Unwrap() error { return e.err }

// tell calls one method of every follower.
func tell(followers []Follower, call func(Follower) error) error {
	for _, f := range followers {
		if err := call(f); err != nil {
			return &followerError{err}
		}
	}
	return nil
}

func (s *Store) entry(kv *mvccpb.KeyValue) Entry {
	return Entry{
		Key: s.key(kv.Key), Value: kv.Value, Created: kv.CreateRevision,
		Modified: kv.ModRevision, Lease: Lease(kv.Lease),
	}
}

// position is a point in the store's history.
type position struct {
	epoch    uint64
	revision int64
}

// head asks a quorum for the newest position.
func (s *Store) head(ctx context.Context) (position, error) {
	resp, err := s.get(ctx, s.path(EpochKey))
	if err != nil {
		return position{}, err
	}
	if len(resp.Kvs) == 0 {
		return position{}, errors.New("read epoch: the store has none; it is being restored")
	}
	s.lost.Store(nil)
	epoch, err := parseEpoch(resp.Kvs[0].Value)
	return position{epoch, resp.Header.Revision}, err
}

// Head returns the store's newest revision.
func (s *Store) Head(ctx context.Context) (int64, error) {
	at, err := s.head(ctx)
	return at.revision, err
}

// Sync makes the store tell the followers how far it is, even where the newest
// revisions changed nothing that they follow.
func (s *Store) Sync(ctx context.Context) error {
	_, err := s.syncs.do(ctx)
	return err
}

func (s *Store) requestProgress() (position, error) {
	// The same kind of context as the watch's: it selects the stream.
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(s.client.Ctx()), attemptTimeout)
	defer cancel()
	if err := s.client.RequestProgress(ctx); err != nil {
		return position{}, fmt.Errorf("request progress: %w", err)
	}
	return position{}, nil
}

func (s *Store) get(ctx context.Context, key string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Get(ctx, key, options...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return resp, nil
}
