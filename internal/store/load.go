package store

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// page is the most keys read at once: bigger reads cost memory at the store.
const page = 5000

// loader reads a snapshot part by part and hands each part on.
type loader struct {
	store    *Store
	revision int64
	take     func([]Entry) error
}

// load feeds followers with all followed spaces as of one revision.
func (s *Store) load(ctx context.Context, followers []Follower) (position, error) {
	at, err := s.head(ctx)
	if err == nil {
		err = s.notRestoring(ctx, at.revision)
	}
	if err != nil {
		return at, err
	}
	if err := tell(followers, func(f Follower) error { return f.Reset(at.epoch, at.revision) }); err != nil {
		return at, err
	}
	keys := 0
	l := loader{store: s, revision: at.revision, take: func(entries []Entry) error {
		keys += len(entries)
		return tell(followers, func(f Follower) error { return f.Load(entries) })
	}}
	for _, space := range followed {
		if err := l.space(ctx, space); err != nil {
			return at, err
		}
	}
	if err := tell(followers, func(f Follower) error { return f.Loaded() }); err != nil {
		return at, err
	}
	s.log.Debug("loaded from the store", "epoch", at.epoch, "revision", at.revision, "keys", keys)
	return at, nil
}

// space loads one space.
func (l *loader) space(ctx context.Context, space Space) error {
	prefix := l.store.prefix + string(space) + "/"
	err := l.stream(ctx, prefix, clientv3.GetPrefixRangeEnd(prefix))
	if status.Code(err) != codes.Unimplemented {
		return err
	}
	// An external etcd may be older than 3.7, which brought streams.
	if space == SpaceObject || space == SpaceRef {
		return l.types(ctx, prefix)
	}
	return l.names(ctx, prefix)
}

// stream loads a range in the chunks in which the store streams it: neither
// side holds more than a few of them.
func (l *loader) stream(ctx context.Context, from, end string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(requestTimeout, func() {
		cancel(fmt.Errorf("read %s: nothing came for %s: %w", from, requestTimeout, context.DeadlineExceeded))
	})
	defer stalled.Stop()
	chunks, err := l.store.client.GetStream(ctx, from, clientv3.WithRange(end), clientv3.WithRev(l.revision))
	if err != nil {
		return fmt.Errorf("read %s: %w", from, err)
	}
	defer func() {
		cancel(nil)
		for range chunks { // its goroutine ends when it can say so
		}
	}()
	for chunk := range chunks {
		if err := chunk.Err(); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("read %s: %w", from, err)
		}
		if err := l.entries(chunk.Kvs); err != nil {
			return err
		}
		stalled.Reset(requestTimeout)
	}
	return nil
}

// entries hands keys on.
func (l *loader) entries(kvs []*mvccpb.KeyValue) error {
	entries := make([]Entry, 0, len(kvs))
	for _, kv := range kvs {
		if e := l.store.entry(kv); !e.Key.private() {
			entries = append(entries, e)
		}
	}
	return l.take(entries)
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
		if err := l.names(ctx, prefix); err != nil {
			return err
		}
		from = clientv3.GetPrefixRangeEnd(prefix)
	}
}

// names loads one prefix whose keys go on with a UUID or a name. A big one is
// read by the first two characters: the store counts the rest of a range on
// every page, so pages of one big range would cost the square of its size.
func (l *loader) names(ctx context.Context, prefix string) error {
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
		if err := l.entries(resp.Kvs); err != nil {
			return err
		}
		if !resp.More {
			return nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// Dump returns every key of the store as of now, in order; for inventories.
func (s *Store) Dump(ctx context.Context) ([]Entry, error) {
	return s.List(ctx, "")
}
