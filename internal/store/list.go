package store

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// List returns the keys of a range as of now, in order: for what is asked for
// too seldom to be kept in memory.
func (s *Store) List(ctx context.Context, prefix Key) ([]Entry, error) {
	revision, err := s.Head(ctx)
	if err != nil {
		return nil, err
	}
	var all []Entry
	l := loader{store: s, revision: revision, take: func(entries []Entry) error {
		all = append(all, entries...)
		return nil
	}}
	start := s.path(prefix)
	return all, l.pages(ctx, start, clientv3.GetPrefixRangeEnd(start))
}
