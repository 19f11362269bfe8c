package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Lease is the life of some keys, counted by the store alone.
type Lease int64

// slot is the lease that writers share for a short while, so that a thousand
// detaches cost one lease.
type slot struct {
	mu    sync.Mutex
	lease Lease
	until time.Time
}

// Lease returns a lease that ends in ttl or a little later, never before.
// Callers within the same short time share it. The store counts in seconds and
// knows no lease below 2 s.
func (s *Store) Lease(ctx context.Context, ttl time.Duration) (Lease, error) {
	s.mu.Lock()
	shared := s.leases[ttl]
	if shared == nil {
		shared = &slot{}
		s.leases[ttl] = shared
	}
	s.mu.Unlock()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	now := time.Now()
	if shared.lease != 0 && now.Before(shared.until) {
		return shared.lease, nil
	}
	length := max(time.Second, ttl/20)
	seconds := int64((ttl + length + time.Second - 1) / time.Second)
	id, err := s.grant(ctx, seconds)
	if err != nil {
		return 0, fmt.Errorf("grant lease of %ds: %w", seconds, err)
	}
	shared.lease, shared.until = id, now.Add(length)
	return shared.lease, nil
}

// grant tries again for as long as it is not known what became of it: a lease
// too many ends by itself.
func (s *Store) grant(ctx context.Context, seconds int64) (Lease, error) {
	for {
		if err := s.quorate(); err != nil {
			return 0, err
		}
		once, cancel := context.WithTimeout(ctx, attemptTimeout)
		resp, err := s.client.Grant(once, seconds)
		cancel()
		if err == nil {
			return Lease(resp.ID), nil
		}
		if err = s.reason(err); ctx.Err() != nil || !errors.Is(err, ErrUnknown) {
			return 0, err
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// ForgetLeases makes the next Lease a new one; for callers that met ErrLeaseGone.
func (s *Store) ForgetLeases() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.leases)
}

// SecondsLeft of a lease, 0 when it has ended.
func (s *Store) SecondsLeft(ctx context.Context, lease Lease) (uint64, error) {
	resp, err := s.client.TimeToLive(ctx, clientv3.LeaseID(lease))
	if err != nil {
		return 0, fmt.Errorf("read lease: %w", err)
	}
	return uint64(max(resp.TTL, 0)), nil
}

// EndLeases ends leases now, with all their keys: for tests and for operators
// who do not want to wait for rests to pass.
func (s *Store) EndLeases(ctx context.Context, leases ...Lease) error {
	for _, l := range leases {
		if _, err := s.client.Revoke(ctx, clientv3.LeaseID(l)); err != nil {
			return fmt.Errorf("end lease: %w", err)
		}
	}
	s.ForgetLeases()
	return nil
}
