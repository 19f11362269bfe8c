package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A transaction whose answer is lost has happened, happens later, or never
// happens. Two keys of each writer settle which:
//
//	fence/<writer>  every transaction demands that it is unchanged; changing it
//	                stops those of this writer that are still on their way
//	mark/<writer>/N carries a nonce in transactions that write nothing unique
//
// So one looks at the history between the decision and the new fence: what is
// not there will never be.

func (s *Store) fenceKey() string { return s.path(key(SpaceFence, s.writer)) }

// markKey is one of several in turn, so that transactions which bring no proof
// of their own can go together.
func (s *Store) markKey() Key {
	return key(SpaceMark, s.writer, strconv.Itoa(int(s.marks.Add(1)%mostMembers)))
}

// raise changes the writer's fence.
func (s *Store) raise() (position, error) {
	ctx, cancel := context.WithTimeout(s.client.Ctx(), attemptTimeout)
	defer cancel()
	resp, err := s.client.Put(ctx, s.fenceKey(), time.Now().UTC().Format(time.RFC3339Nano))
	if err != nil {
		return position{}, fmt.Errorf("raise fence: %w", err)
	}
	s.fence.Store(resp.Header.Revision)
	return position{revision: resp.Header.Revision}, nil
}

// readFence learns the fence that others of the same name, or a restore, left.
func (s *Store) readFence(ctx context.Context) error {
	resp, err := s.get(ctx, s.fenceKey(), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	var revision int64
	if len(resp.Kvs) > 0 {
		revision = resp.Kvs[0].ModRevision
	}
	s.fence.Store(revision)
	return nil
}

// Settle finds out what became of a transaction whose Commit returned an error
// that wraps ErrUnknown. since is the revision of the store that it was decided
// on. Settle returns the revision at which it happened, or 0 when it did not
// and never will. Without a quorum nobody can tell, and it gives up.
func (t *Txn) Settle(ctx context.Context, since int64) (int64, error) {
	if t.count == 0 {
		return 0, nil
	}
	for {
		fence, err := t.store.fences.do(ctx)
		if err == nil {
			var revision int64
			if revision, err = t.search(ctx, since, fence.revision); err == nil {
				return revision, nil
			}
		}
		if errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, rpctypes.ErrNoSpace) {
			return 0, fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		if err := t.store.quorate(); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return 0, fmt.Errorf("%w: %w", ErrUnknown, err)
		}
	}
}

// search looks for the transaction in the revisions after since, up to the
// one that wrote the fence.
func (t *Txn) search(ctx context.Context, since, fence int64) (int64, error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), requestTimeout)
	defer cancel()
	found := int64(0)
	for resp := range t.store.client.Watch(ctx, t.store.prefix, clientv3.WithPrefix(), clientv3.WithRev(since+1)) {
		if err := resp.Err(); err != nil {
			return 0, fmt.Errorf("settle: %w", err)
		}
		for _, e := range resp.Events {
			if string(e.Kv.Key) == t.proofKey && bytes.Equal(e.Kv.Value, t.proof) {
				found = e.Kv.ModRevision
			}
			if e.Kv.ModRevision >= fence {
				return found, nil
			}
		}
	}
	return 0, fmt.Errorf("settle: %w", context.Cause(ctx))
}
