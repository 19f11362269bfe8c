package store

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Value reads one key as it stands now, on every controller the same.
func (s *Store) Value(ctx context.Context, k Key) (value []byte, ok bool, err error) {
	resp, err := s.get(ctx, s.path(k))
	if err != nil || len(resp.Kvs) == 0 {
		return nil, false, err
	}
	return resp.Kvs[0].Value, true, nil
}

// Range reads the first keys of a small space, at most limit.
func (s *Store) Range(ctx context.Context, space Space, limit int) (map[Key][]byte, error) {
	start := s.prefix + string(space) + "/"
	resp, err := s.get(ctx, start, clientv3.WithRange(clientv3.GetPrefixRangeEnd(start)), clientv3.WithLimit(int64(limit)))
	if err != nil {
		return nil, err
	}
	values := make(map[Key][]byte, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		values[s.key(kv.Key)] = kv.Value
	}
	return values, nil
}
