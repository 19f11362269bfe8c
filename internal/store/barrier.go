package store

import (
	"context"
	"fmt"
	"sync"
)

// rounds answers a question that many ask with few requests: whoever asks gets
// the answer to a request that was sent after he asked, and at most one
// request is under way.
type rounds struct {
	ask func() (position, error)

	mu      sync.Mutex
	next    *round
	running bool
}

type round struct {
	done chan struct{}
	at   position
	err  error
}

// do waits for an answer or until ctx ends.
func (r *rounds) do(ctx context.Context) (position, error) {
	r.mu.Lock()
	if r.next == nil {
		r.next = &round{done: make(chan struct{})}
	}
	mine := r.next
	if !r.running {
		r.running = true
		go r.run()
	}
	r.mu.Unlock()
	select {
	case <-mine.done:
		return mine.at, mine.err
	case <-ctx.Done():
		return position{}, ctx.Err()
	}
}

// run answers until nobody asks any more.
func (r *rounds) run() {
	for {
		r.mu.Lock()
		now := r.next
		r.next = nil
		r.running = now != nil
		r.mu.Unlock()
		if now == nil {
			return
		}
		now.at, now.err = r.ask()
		close(now.done)
	}
}

// Barrier returns a revision that is at least that of everything any writer
// was told before Barrier was called; whoever has seen it reads nothing stale.
// Where this process is the only writer, nothing is asked and it is 0. It
// fails when no quorum of the store answers.
func (s *Store) Barrier(ctx context.Context) (int64, error) {
	if !s.shared {
		return 0, nil
	}
	at, err := s.heads.do(ctx)
	if err == nil && at.epoch != s.Epoch() {
		return 0, fmt.Errorf("read barrier: %w", ErrNewEpoch)
	}
	if err != nil {
		return 0, fmt.Errorf("read barrier: %w: %w", ErrUnavailable, err)
	}
	return at.revision, nil
}
