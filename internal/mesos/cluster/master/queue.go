package master

import (
	"context"
	"sync"
	"time"
)

// maxQueued bounds what waits for one slow client; one that is further behind
// is cut off, as it would be by Mesos's own buffers.
const maxQueued = 100_000

// queue holds messages for one stream. Pushing never blocks.
type queue[T any] struct {
	mu     sync.Mutex
	items  []T
	closed bool
	wake   chan struct{}
}

func newQueue[T any]() *queue[T] { return &queue[T]{wake: make(chan struct{}, 1)} }

func (q *queue[T]) push(items ...T) {
	q.mu.Lock()
	if !q.closed {
		q.items = append(q.items, items...)
		q.closed = len(q.items) > maxQueued
	}
	q.mu.Unlock()
	q.signal()
}

// close ends the stream after what is queued.
func (q *queue[T]) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue[T]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue[T]) take() (items []T, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	items, q.items = q.items, nil
	return items, q.closed
}

// drain sends messages until the queue is closed and empty, ctx ends, or
// sending fails. idle is called at each tick.
func (q *queue[T]) drain(ctx context.Context, ticks <-chan time.Time, idle func() T, send func(T) error) error {
	for {
		items, closed := q.take()
		for _, item := range items {
			if err := send(item); err != nil {
				return err
			}
		}
		if closed {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-q.wake:
		case <-ticks:
			if err := send(idle()); err != nil {
				return err
			}
		}
	}
}
