package store

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Announce keeps a key in the store for as long as ctx lasts and the store is
// reached, and a little longer: ttl. A restore that removes it is made up for.
// It returns when ctx ends; the key goes with it.
func (s *Store) Announce(ctx context.Context, key Key, value []byte, ttl time.Duration) error {
	var lease Lease
	defer func() {
		if lease != 0 {
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_, _ = s.client.Revoke(end, clientv3.LeaseID(lease)) // it ends by itself
		}
	}()
	failing := false
	for {
		err := s.announce(ctx, &lease, key, value, ttl)
		if err != nil && !failing && ctx.Err() == nil {
			s.log.Warn("cannot announce this process in the store; trying again", "key", key, "error", err)
		}
		failing = err != nil
		if err := wait(ctx, ttl/5); err != nil {
			return err
		}
	}
}

func (s *Store) announce(ctx context.Context, lease *Lease, key Key, value []byte, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, ttl/5)
	defer cancel()
	if *lease != 0 {
		if _, err := s.client.KeepAliveOnce(ctx, clientv3.LeaseID(*lease)); err != nil {
			*lease = 0
		}
	}
	if *lease == 0 {
		resp, err := s.client.Grant(ctx, int64(max(ttl/time.Second, 2)))
		if err != nil {
			return fmt.Errorf("grant lease: %w", err)
		}
		*lease = Lease(resp.ID)
	}
	// Written only where it is missing or of an earlier process: each write is
	// news for all who follow the store.
	path := s.path(key)
	_, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.LeaseValue(path), "!=", int64(*lease))).
		Then(clientv3.OpPut(path, string(value), clientv3.WithLease(clientv3.LeaseID(*lease)))).Commit()
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}
