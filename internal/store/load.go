package store

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
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
		start := s.prefix + string(space) + "/"
		if space == SpaceObject || space == SpaceRef {
			err = l.types(ctx, start)
		} else {
			err = l.space(ctx, start)
		}
		if err != nil {
			return at, err
		}
	}
	if err := tell(followers, func(f Follower) error { return f.Loaded() }); err != nil {
		return at, err
	}
	s.log.Debug("loaded from the store", "epoch", at.epoch, "revision", at.revision, "keys", keys)
	return at, nil
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
		entries := make([]Entry, 0, len(resp.Kvs))
		for _, kv := range resp.Kvs {
			if e := l.store.entry(kv); !e.Key.private() {
				entries = append(entries, e)
			}
		}
		if err := l.take(entries); err != nil {
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
