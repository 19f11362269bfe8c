package records

import (
	"context"
	"slices"
	"sync"

	collectorv1 "github.com/contrail-mesos/contrail/api/contrail/collector/v1"
)

// queueLimit is how many records may wait. One takes about 1 KiB.
const queueLimit = 16384

// queue holds records until they are sent.
type queue struct {
	mu      sync.Mutex
	limit   int
	records []*collectorv1.Session
	dropped uint64
	// changed is closed and replaced when records come or go.
	changed chan struct{}
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, changed: make(chan struct{})}
}

// add takes a record that nothing makes good, in place of the oldest one if there is
// no room.
func (q *queue) add(s *collectorv1.Session) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.records = append(q.records, s)
	q.trim()
	q.announce()
}

// put takes a record when less than half of the room is used, so that add has the
// other half.
func (q *queue) put(ctx context.Context, s *collectorv1.Session) error {
	for {
		q.mu.Lock()
		if len(q.records) < q.limit/2 {
			q.records = append(q.records, s)
			q.announce()
			q.mu.Unlock()
			return nil
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// take waits for records and returns up to n of them, the oldest first.
func (q *queue) take(ctx context.Context, n int) ([]*collectorv1.Session, error) {
	for {
		q.mu.Lock()
		if size := min(n, len(q.records)); size > 0 {
			taken := slices.Clone(q.records[:size])
			clear(q.records[:size]) // no longer held from here
			q.records = q.records[size:]
			q.announce()
			q.mu.Unlock()
			return taken, nil
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// giveBack puts records that were taken before all others.
func (q *queue) giveBack(records []*collectorv1.Session) {
	if len(records) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.records = append(records, q.records...)
	q.trim()
	q.announce()
}

func (q *queue) trim() {
	if over := len(q.records) - q.limit; over > 0 {
		clear(q.records[:over])
		q.records = q.records[over:]
		q.dropped += uint64(over)
	}
}

func (q *queue) announce() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *queue) state() (waiting int, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.records), q.dropped
}
