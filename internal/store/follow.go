package store

import (
	"context"
	"errors"
	"fmt"
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

// Follower is told what the store holds, by one goroutine.
type Follower interface {
	// Reset replaces everything the follower knows by a consistent snapshot.
	Reset(epoch uint64, revision int64, entries []Entry) error
	// Apply applies all changes of one revision. Without changes it says that
	// nothing happened up to this revision.
	Apply(revision int64, changes []Entry) error
}

// page is the most keys read at once: bigger reads cost memory at the store.
const page = 5000

var errCompacted = errors.New("history is compacted")

// Follow feeds followers until ctx ends: first a snapshot, then every revision
// from one watch. It survives a store that goes away and comes back; when the
// revisions it missed are compacted, it loads a new snapshot. It returns an
// error only when ctx ends or a follower fails.
func (s *Store) Follow(ctx context.Context, followers ...Follower) error {
	for delay := time.Duration(0); ; delay = min(max(2*delay, 50*time.Millisecond), 2*time.Second) {
		if err := wait(ctx, delay); err != nil {
			return err
		}
		revision, entries, err := s.load(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.log.Warn("cannot load from the store; trying again", "error", err)
			continue
		}
		for _, f := range followers {
			if err := f.Reset(s.epoch, revision, entries); err != nil {
				return fmt.Errorf("follow store: %w", err)
			}
		}
		s.log.Debug("loaded from the store", "revision", revision, "keys", len(entries))
		if err := s.watch(ctx, revision, followers); !errors.Is(err, errCompacted) {
			return err
		}
		s.log.Warn("missed revisions are compacted; loading everything anew")
		delay = 0
	}
}

// watch follows the revisions after the given one.
func (s *Store) watch(ctx context.Context, revision int64, followers []Follower) error {
	for {
		watchCtx, cancel := context.WithCancel(ctx)
		last, err := s.watchOnce(watchCtx, revision, followers)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		revision = last
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// watchOnce returns the last revision applied when the watch ended by itself.
func (s *Store) watchOnce(ctx context.Context, revision int64, followers []Follower) (int64, error) {
	watch := s.client.Watch(ctx, s.prefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1), clientv3.WithProgressNotify())
	for resp := range watch {
		if errors.Is(resp.Err(), rpctypes.ErrCompacted) {
			return revision, errCompacted
		}
		if err := resp.Err(); err != nil {
			s.log.Warn("watch ended; resuming", "error", err, "revision", revision)
			return revision, nil
		}
		if resp.IsProgressNotify() {
			if resp.Header.Revision <= revision {
				continue
			}
			revision = resp.Header.Revision
			if err := s.apply(revision, nil, followers); err != nil {
				return revision, err
			}
			continue
		}
		for events := resp.Events; len(events) > 0; {
			n := 1
			for n < len(events) && events[n].Kv.ModRevision == events[0].Kv.ModRevision {
				n++
			}
			revision = events[0].Kv.ModRevision
			if err := s.apply(revision, events[:n], followers); err != nil {
				return revision, err
			}
			events = events[n:]
		}
	}
	return revision, nil
}

func (s *Store) apply(revision int64, events []*clientv3.Event, followers []Follower) error {
	changes := make([]Entry, 0, len(events))
	for _, e := range events {
		entry := s.entry(e.Kv)
		if e.Type == clientv3.EventTypeDelete {
			entry.Deleted, entry.Value = true, nil
		}
		changes = append(changes, entry)
	}
	for _, f := range followers {
		if err := f.Apply(revision, changes); err != nil {
			return fmt.Errorf("follow store: %w", err)
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

// Head returns the store's newest revision.
func (s *Store) Head(ctx context.Context) (int64, error) {
	resp, err := s.get(ctx, s.path(EpochKey), clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// Sync makes the store tell the followers how far it is, even where the newest
// revisions changed nothing that they follow.
func (s *Store) Sync(ctx context.Context) error {
	if err := s.client.RequestProgress(ctx); err != nil {
		return fmt.Errorf("request progress: %w", err)
	}
	return nil
}

// load reads all followed spaces as of one revision.
func (s *Store) load(ctx context.Context) (int64, []Entry, error) {
	resp, err := s.get(ctx, s.path(EpochKey), clientv3.WithCountOnly())
	if err != nil {
		return 0, nil, err
	}
	l := loader{store: s, revision: resp.Header.Revision}
	for _, space := range followed {
		start := s.prefix + string(space) + "/"
		if space == SpaceObject || space == SpaceRef {
			err = l.types(ctx, start)
		} else {
			err = l.space(ctx, start)
		}
		if err != nil {
			return 0, nil, err
		}
	}
	return l.revision, l.entries, nil
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

type loader struct {
	store    *Store
	revision int64
	entries  []Entry
}

// types loads a space whose keys begin with a type, one type after the other.
func (l *loader) types(ctx context.Context, start string) error {
	end := clientv3.GetPrefixRangeEnd(start)
	for from := start; ; {
		resp, err := l.store.get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(l.revision),
			clientv3.WithLimit(1), clientv3.WithKeysOnly())
		if err != nil || len(resp.Kvs) == 0 {
			return err
		}
		prefix := string(resp.Kvs[0].Key)
		for i := len(start); i < len(prefix); i++ {
			if prefix[i] == '/' {
				prefix = prefix[:i+1]
				break
			}
		}
		if err := l.space(ctx, prefix); err != nil {
			return err
		}
		from = clientv3.GetPrefixRangeEnd(prefix)
	}
}

// space loads one prefix whose keys go on with a UUID or a name. A big one is
// read by the first two characters: the store counts the rest of a range on
// every page, so pages of one big range would cost the square of its size.
func (l *loader) space(ctx context.Context, prefix string) error {
	end := clientv3.GetPrefixRangeEnd(prefix)
	resp, err := l.store.get(ctx, prefix, clientv3.WithRange(end), clientv3.WithRev(l.revision), clientv3.WithCountOnly())
	if err != nil || resp.Count == 0 {
		return err
	}
	if resp.Count <= page {
		return l.pages(ctx, prefix, end)
	}
	const hex = "0123456789abcdef"
	from := prefix
	for i := range 256 {
		to := prefix + string(hex[i/16]) + string(hex[i%16])
		if err := l.pages(ctx, from, to); err != nil {
			return err
		}
		from = to
	}
	return l.pages(ctx, from, end)
}

func (l *loader) pages(ctx context.Context, from, end string) error {
	for {
		resp, err := l.store.get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(l.revision), clientv3.WithLimit(page))
		if err != nil {
			return err
		}
		for _, kv := range resp.Kvs {
			l.entries = append(l.entries, l.store.entry(kv))
		}
		if !resp.More {
			return nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// Dump returns every key of the store as of now, in order; for inventories.
func (s *Store) Dump(ctx context.Context) ([]Entry, error) {
	resp, err := s.get(ctx, s.path(EpochKey), clientv3.WithCountOnly())
	if err != nil {
		return nil, err
	}
	l := loader{store: s, revision: resp.Header.Revision}
	if err := l.pages(ctx, s.prefix, clientv3.GetPrefixRangeEnd(s.prefix)); err != nil {
		return nil, err
	}
	return l.entries, nil
}
