package records

import (
	"context"
	"sync"

	collectorv1 "github.com/contrail-mesos/contrail/api/contrail/collector/v1"
)

// queueLimit is how many records may wait. One takes about 1 KiB.
const queueLimit = 16384

// kind of a record says what is dropped first when there is no room.
type kind int

const (
	// goingOn is made good by the next record of the flow.
	goingOn kind = iota
	// refused is before ended, as one port may have any number of refusals.
	refused
	ended
	kinds
)

func kindOf(s *collectorv1.Session) kind {
	switch {
	case s.GetVerdict() == collectorv1.Session_VERDICT_DENY:
		return refused
	case s.GetForward().GetEnded() || s.GetReverse().GetEnded():
		return ended
	}
	return goingOn
}

// queued is a record with its place in the order of all.
type queued struct {
	place int64
	*collectorv1.Session
}

// queue holds records until they are sent.
type queue struct {
	mu    sync.Mutex
	limit int
	// records by kind, each the oldest first.
	records [kinds][]queued
	// The next record gets the place last; those given back get places before first.
	first, last int64
	dropped     uint64
	// changed is closed and replaced when records come or go.
	changed chan struct{}
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, changed: make(chan struct{})}
}

// add takes a record that nothing makes good, in place of another one if there is
// no room.
func (q *queue) add(s *collectorv1.Session) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.push(s)
	q.trim()
	q.announce()
}

// put takes a record when less than half of the room is used, so that add has the
// other half.
func (q *queue) put(ctx context.Context, s *collectorv1.Session) error {
	for {
		q.mu.Lock()
		if q.size() < q.limit/2 {
			q.push(s)
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
		if size := min(n, q.size()); size > 0 {
			taken := make([]*collectorv1.Session, size)
			for i := range taken {
				taken[i] = q.pop(q.oldest())
			}
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

// restart prepares for the next stream: what the last one had not acknowledged comes
// before all others. Only what nothing makes good is kept, as the next stream is told
// the whole table.
func (q *queue) restart(unacknowledged []*collectorv1.Session) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.first -= int64(len(unacknowledged))
	var back [kinds][]queued
	for i, s := range unacknowledged {
		k := kindOf(s)
		back[k] = append(back[k], queued{q.first + int64(i), s})
	}
	q.records[goingOn] = nil
	for k := goingOn + 1; k < kinds; k++ {
		q.records[k] = append(back[k], q.records[k]...)
	}
	q.trim()
	q.announce()
}

func (q *queue) push(s *collectorv1.Session) {
	k := kindOf(s)
	q.records[k] = append(q.records[k], queued{q.last, s})
	q.last++
}

// pop takes out the oldest record of a kind.
func (q *queue) pop(k kind) *collectorv1.Session {
	s := q.records[k][0].Session
	q.records[k][0] = queued{} // no longer held from here
	q.records[k] = q.records[k][1:]
	return s
}

// oldest is the kind of the oldest record of all.
func (q *queue) oldest() (of kind) {
	for k := range kinds {
		if len(q.records[k]) > 0 && (len(q.records[of]) == 0 || q.records[k][0].place < q.records[of][0].place) {
			of = k
		}
	}
	return of
}

// trim drops what there is no room for.
func (q *queue) trim() {
	for k := goingOn; q.size() > q.limit; {
		if len(q.records[k]) == 0 {
			k++
			continue
		}
		q.pop(k)
		if k != goingOn {
			q.dropped++
		}
	}
}

func (q *queue) size() (n int) {
	for _, records := range q.records {
		n += len(records)
	}
	return n
}

func (q *queue) announce() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *queue) state() (waiting int, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.size(), q.dropped
}
