package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// ErrNoQuorum says that the member in use has known no leader for so long that
// this is no election: a write that ends with it was not sent.
var ErrNoQuorum = errors.New("the store has no quorum: more than half of the controllers must run and reach each other")

const (
	// leaderless is how long a member may know no leader until writes are refused.
	// An election takes a small part of it, one with a tied vote a second or two.
	leaderless = 3 * time.Second
	// soon is how often a member without a leader is asked.
	soon = pulse / 4
	// memberPause is how often the members' addresses are asked for.
	memberPause = 5 * time.Second
)

// attend looks after the connection to the store until ctx ends: it notices
// when there is no quorum, how full the store is, and where its members are.
func (s *Store) attend(ctx context.Context) {
	var asked time.Time
	for pause := time.Duration(0); wait(ctx, pause) == nil; {
		pause = pulse
		if err := s.learnStatus(ctx); err != nil {
			s.log.Debug("cannot see how the store is", "error", err)
		}
		if s.lost.Load() != nil {
			pause = soon
			continue
		}
		if s.members != nil && time.Since(asked) > memberPause {
			asked = time.Now()
			if err := s.learnMembers(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("cannot learn where the store's members are; trying again", "error", err)
			}
		}
	}
}

// learnStatus asks the member in use how full it is and whether it knows a
// leader. One that does not answer knows none.
func (s *Store) learnStatus(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	got, err := etcdserverpb.NewMaintenanceClient(s.client.ActiveConnection()).Status(ctx, &etcdserverpb.StatusRequest{})
	if err != nil || got.Leader == 0 {
		s.noLeader()
	} else {
		s.lost.Store(nil)
	}
	if err != nil {
		return fmt.Errorf("read the store's status: %w", err)
	}
	s.fill.Store(&fill{got.DbSizeInUse, got.DbSizeQuota})
	return nil
}

// noLeader begins to count, unless it has begun before. A store that nobody
// else uses has nobody to be asked instead: it is waited for.
func (s *Store) noLeader() {
	if s.shared {
		now := time.Now()
		s.lost.CompareAndSwap(nil, &now)
	}
}

// quorate fails when there has been no leader for too long.
func (s *Store) quorate() error {
	since := s.lost.Load()
	if since == nil {
		return nil
	}
	if lasted := time.Since(*since); lasted >= leaderless {
		return fmt.Errorf("%w; this one has known no leader for %s", ErrNoQuorum, lasted.Round(time.Second))
	}
	return nil
}
