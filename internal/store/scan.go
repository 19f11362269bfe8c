package store

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Scan reads every key of the store at one revision, page by page, and hands
// the pages to use: space by space, in no order within a space. Memory is that
// of one page. It fails when the revision is compacted meanwhile; IsCompacted
// tells.
func (s *Store) Scan(ctx context.Context, revision int64, use func([]Entry) error) error {
	end := clientv3.GetPrefixRangeEnd(s.prefix)
	for from := s.prefix; ; {
		resp, err := s.get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(revision), clientv3.WithLimit(1), clientv3.WithKeysOnly())
		if err != nil || len(resp.Kvs) == 0 {
			return err
		}
		space := s.key(resp.Kvs[0].Key).Space()
		if err := s.ScanSpace(ctx, space, revision, use); err != nil {
			return err
		}
		from = clientv3.GetPrefixRangeEnd(s.prefix + string(space))
	}
}

// ScanSpace is Scan for one space.
func (s *Store) ScanSpace(ctx context.Context, space Space, revision int64, use func([]Entry) error) error {
	l := loader{store: s, revision: revision, take: func(entries []Entry) error {
		if len(entries) == 0 {
			return nil
		}
		return use(entries)
	}}
	if space == SpaceEpoch { // the one key that is its own space
		start := s.path(EpochKey)
		return l.pages(ctx, start, start+"\x00")
	}
	return l.space(ctx, space)
}

// IsCompacted tells whether a read failed because its revision is compacted.
func IsCompacted(err error) bool { return errors.Is(err, rpctypes.ErrCompacted) }

// GrantLease returns a lease of its own that ends in some seconds.
func (s *Store) GrantLease(ctx context.Context, seconds int64) (Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Grant(ctx, max(seconds, 2))
	if err != nil {
		return 0, fmt.Errorf("grant lease of %ds: %w", seconds, err)
	}
	return Lease(resp.ID), nil
}
