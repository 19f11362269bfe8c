package records

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	collectorv1 "github.com/contrail-mesos/contrail/api/contrail/collector/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

func wantTotals(t *testing.T, c *fakeCollector, want uint64) {
	t.Helper()
	eventually(t, "the collector knows what was counted", func() error {
		if got := totals(c.all()); got != want {
			return fmt.Errorf("%d packets, want %d", got, want)
		}
		return nil
	})
}

// TestTableIsToldToWhoAcknowledges: all there is, and nothing is read before
// somebody takes it.
func TestTableIsToldToWhoAcknowledges(t *testing.T) {
	source, c := newFakeSource(), newFakeCollector(t)
	var want uint64
	for i := range 3 * batchSize {
		source.flows = append(source.flows, pair(i, 2, 1))
		want += 3
	}
	deaf := func(*collectorv1.SessionBatch) error { return errors.New("no") }
	c.refuse = deaf
	e := exporterOf(source, c)
	run(t, e)
	eventually(t, "the collector has refused", func() error {
		if e.State().Error == "" {
			return errors.New("it has not")
		}
		return nil
	})
	if n := source.readings(); n != 0 {
		t.Errorf("the table was read %d times for nobody", n)
	}
	c.mu.Lock()
	c.refuse = nil
	c.mu.Unlock()
	wantTotals(t, c, want)
	if c.lost.GetEvents() != 3 || c.lost.GetOverRate() != 4 {
		t.Errorf("losses are %v", c.lost)
	}
}

// TestUnacknowledgedComesAgain, to another collector, and ends and refusals of the
// time between are there once.
func TestUnacknowledgedComesAgain(t *testing.T) {
	source, first, second := newFakeSource(pair(1, 5, 4)), newFakeCollector(t), newFakeCollector(t)
	var died atomic.Bool
	first.refuse = func(b *collectorv1.SessionBatch) error {
		if len(b.GetSessions()) > 0 {
			died.Store(true)
			return errors.New("dies before it acknowledges")
		}
		return nil
	}
	away := errors.New("away")
	second.refuse = func(*collectorv1.SessionBatch) error { return away }
	e := exporterOf(source, first, second)
	run(t, e)
	eventually(t, "both have failed", func() error {
		if s := e.State(); !died.Load() || s.Error == "" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	gone := flowOf(2, 7, false)
	gone.Ended = true
	source.end(dataplane.Conversation{Begins: gone})
	for range 3 {
		source.events <- dataplane.FlowEvent{Reason: dataplane.DropPolicyGroup, FlowTotals: *flowOf(3, 1, false)}
	}
	second.mu.Lock()
	second.refuse = nil
	second.mu.Unlock()
	wantTotals(t, second, 5+4+7+3)
	for _, s := range second.all() {
		denied := s.GetVerdict() == collectorv1.Session_VERDICT_DENY
		switch s.GetClient().GetPort() {
		case 2:
			if !s.GetForward().GetEnded() {
				t.Errorf("ended is told as %v", s)
			}
		case 3:
			if !denied || s.GetReason() != "policy-group" || s.GetForward().GetPackets() != 3 || s.GetForward().GetBytes() != 300 {
				t.Errorf("refusals are told as %v", s)
			}
		default:
			if denied {
				t.Errorf("passed is told as %v", s)
			}
		}
	}
}

// TestAgentThatStartsAgainCountsNothingTwice.
func TestAgentThatStartsAgainCountsNothingTwice(t *testing.T) {
	source, c := newFakeSource(pair(1, 5, 4)), newFakeCollector(t)
	stop := run(t, exporterOf(source, c))
	wantTotals(t, c, 9)
	stop()
	source.mu.Lock()
	source.flows[0].Begins.Packets = 8
	source.mu.Unlock()
	run(t, exporterOf(source, c))
	wantTotals(t, c, 12)
}

// TestEndIsKnownByThePortThatHasGone.
func TestEndIsKnownByThePortThatHasGone(t *testing.T) {
	e := exporterOf(newFakeSource())
	e.learnPorts()
	e.config.Ports = func() map[int]Port { return nil }
	e.learnPorts()
	if p, ok := e.portOf(5); !ok || p.ID != "port-5" {
		t.Errorf("port is %+v, %v", p, ok)
	}
	e.ports[5] = knownPort{last: time.Now().Add(-2 * goneFor)}
	e.learnPorts()
	if _, ok := e.portOf(5); ok {
		t.Error("a port is known for ever")
	}
}

// TestStreamThatEndsLosesNothing: what goes on leaves all room to ends, as the next
// stream is told of it again.
func TestStreamThatEndsLosesNothing(t *testing.T) {
	const room = 16
	source, c := newFakeSource(), newFakeCollector(t)
	var want uint64
	for i := range 3 * room {
		source.flows = append(source.flows, pair(i, 2, 1))
		want += 3
	}
	died := false
	c.refuse = func(b *collectorv1.SessionBatch) error {
		if died = died || len(b.GetSessions()) > 0; died {
			return errors.New("dies before it acknowledges")
		}
		return nil
	}
	e := exporterOf(source, c)
	e.queue = newQueue(room)
	run(t, e)
	eventually(t, "the stream has ended and nothing waits", func() error {
		if s := e.State(); s.Error == "" || s.Waiting > 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	for i := range room {
		gone := flowOf(1000+i, 7, false)
		gone.Ended = true
		source.end(dataplane.Conversation{Begins: gone})
		want += 7
	}
	if s := e.State(); s.Waiting != room || s.LostRecords != 0 {
		t.Errorf("%d wait and %d are lost, want %d and none", s.Waiting, s.LostRecords, room)
	}
	c.mu.Lock()
	c.refuse = nil
	c.mu.Unlock()
	wantTotals(t, c, want)
}

// recordOf is one of a kind.
func recordOf(k kind, number uint32) *collectorv1.Session {
	s := &collectorv1.Session{Vrf: number, Forward: &collectorv1.Flow{}}
	switch k {
	case refused:
		s.Verdict = collectorv1.Session_VERDICT_DENY
	case ended:
		s.Forward.Ended = true
	}
	return s
}

func wantTaken(t *testing.T, q *queue, n int, want ...uint32) []*collectorv1.Session {
	t.Helper()
	taken, err := q.take(t.Context(), n)
	var got []uint32
	for _, s := range taken {
		got = append(got, s.GetVrf())
	}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("took %v, %v, want %v", got, err, want)
	}
	return taken
}

func wantState(t *testing.T, q *queue, waiting int, dropped uint64) {
	t.Helper()
	if w, d := q.state(); w != waiting || d != dropped {
		t.Errorf("%d wait and %d are dropped, want %d and %d", w, d, waiting, dropped)
	}
}

func TestQueueIsBounded(t *testing.T) {
	q, ctx := newQueue(4), context.Background()
	for n := range uint32(2) {
		if err := q.put(ctx, recordOf(goingOn, n)); err != nil {
			t.Fatal(err)
		}
	}
	full, cancel := context.WithCancel(ctx)
	cancel()
	if err := q.put(full, recordOf(goingOn, 9)); !errors.Is(err, context.Canceled) {
		t.Errorf("put beyond half of the room: %v", err)
	}
	for n := range uint32(3) {
		q.add(recordOf(ended, 2+n))
	}
	wantState(t, q, 4, 0) // what goes on is not lost
	taken := wantTaken(t, q, 3, 1, 2, 3)
	q.add(recordOf(ended, 5))
	q.add(recordOf(ended, 6))
	q.restart(taken)
	wantState(t, q, 4, 1)
	wantTaken(t, q, 9, 3, 4, 5, 6)
}

// TestRefusalsLeaveRoomForEnds, also those that come back.
func TestRefusalsLeaveRoomForEnds(t *testing.T) {
	q := newQueue(4)
	q.add(recordOf(ended, 0))
	for n := range uint32(9) {
		q.add(recordOf(refused, 1+n))
	}
	wantState(t, q, 4, 6)
	taken := wantTaken(t, q, 2, 0, 7)
	q.add(recordOf(ended, 10))
	q.add(recordOf(ended, 11))
	q.restart(taken)
	wantState(t, q, 4, 8)
	wantTaken(t, q, 9, 0, 9, 10, 11)
}

func TestAcknowledgementOfNothingSent(t *testing.T) {
	silence := time.NewTimer(time.Hour)
	f := newFlight(silence)
	for range 2 {
		if _, err := f.add(context.Background(), make([]*collectorv1.Session, 3)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.acknowledge(3); !errors.Is(err, errNotSent) {
		t.Errorf("acknowledged what was not sent: %v", err)
	}
	for _, c := range []struct {
		number  uint64
		records int
	}{{0, 0}, {1, 3}, {1, 0}, {2, 3}} {
		if n, err := f.acknowledge(c.number); err != nil || n != c.records {
			t.Errorf("acknowledge %d: %d records, %v, want %d", c.number, n, err, c.records)
		}
	}
	if silence.Stop() {
		t.Error("a collector that owes nothing may not be silent")
	}
}
