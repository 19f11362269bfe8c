package records

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	collectorv1 "github.com/contrail-mesos/contrail/api/contrail/collector/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

const (
	// batchSize is how many records a batch has, at most, and window how many
	// batches are on their way.
	batchSize = 512
	window    = 8
	// patience is how long a collector may take to acknowledge.
	patience = 30 * time.Second
	// Pauses before a collector is tried again.
	firstPause, longestPause = 200 * time.Millisecond, 10 * time.Second
)

var (
	errSilent  = fmt.Errorf("the collector has acknowledged nothing for %s", patience)
	errNotSent = errors.New("the collector acknowledges a batch that was not sent")
)

type sessionStream = *connect.BidiStreamForClient[collectorv1.SessionBatch, collectorv1.SessionAcknowledgement]

// send keeps a stream to one of the collectors until ctx ends.
func (e *Exporter) send(ctx context.Context) error {
	for failures, at := 0, 0; ; at++ {
		address := e.config.Collectors[at%len(e.config.Collectors)]
		taken, err := e.stream(ctx, address)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if taken {
			failures = 0
		}
		e.notTaken(address, err, taken || failures == 0)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(reconcile.Backoff(failures/len(e.config.Collectors), firstPause, longestPause)):
		}
		failures++
	}
}

// notTaken and taken log when e.mu is free: ended waits for it, and the data plane
// for ended.
func (e *Exporter) notTaken(address string, err error, news bool) {
	e.mu.Lock()
	if e.state.Collector != "" {
		e.state.Collector, e.state.Since = "", time.Now()
	}
	e.state.Error = err.Error()
	e.mu.Unlock()
	if news {
		e.log.Warn("no collector takes records of sessions; ends and refusals wait", "collector", address, "error", err)
	}
}

func (e *Exporter) taken(address string, records int) {
	e.mu.Lock()
	news := e.state.Collector != address
	if news {
		e.state.Collector, e.state.Since, e.state.Error = address, time.Now(), ""
	}
	e.state.Acknowledged += uint64(records)
	e.mu.Unlock()
	if news {
		e.log.Info("collector takes records of sessions", "collector", address)
	}
}

// flight is what is on its way in a stream.
type flight struct {
	mu sync.Mutex
	// batches in their order; the first has the number first, the last that is sent
	// the number sent. One that waits for room may follow.
	batches     [][]*collectorv1.Session
	first, sent uint64
	room        chan struct{}
	// silence ends the stream when what was sent is not acknowledged.
	silence *time.Timer
}

func newFlight(silence *time.Timer) *flight {
	return &flight{first: 1, room: make(chan struct{}, window), silence: silence}
}

// add has a batch on its way when there is room, and returns its number.
func (f *flight) add(ctx context.Context, batch []*collectorv1.Session) (uint64, error) {
	// Before the wait: what was taken from the queue must not be lost.
	f.mu.Lock()
	f.batches = append(f.batches, batch)
	f.mu.Unlock()
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case f.room <- struct{}{}:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent++
	f.silence.Reset(patience)
	return f.sent, nil
}

// acknowledge takes out all batches up to a number, and returns how many records
// they had.
func (f *flight) acknowledge(number uint64) (records int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if number > f.sent {
		return 0, fmt.Errorf("%w: %d, the last one is %d", errNotSent, number, f.sent)
	}
	for f.first <= number {
		records += len(f.batches[0])
		f.batches, f.first = f.batches[1:], f.first+1
		<-f.room
	}
	if f.first > f.sent {
		f.silence.Stop()
	} else {
		f.silence.Reset(patience)
	}
	return records, nil
}

func (f *flight) rest() []*collectorv1.Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Concat(f.batches...)
}

// stream sends to one collector until that fails. taken tells whether it has
// acknowledged anything.
func (e *Exporter) stream(ctx context.Context, address string) (taken bool, err error) {
	client, err := e.config.Dial(address)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	silence := time.AfterFunc(patience, func() { cancel(errSilent) })
	defer silence.Stop()
	flight := newFlight(silence)
	defer func() {
		cancel(err)
		running.Wait()
		e.queue.restart(flight.rest())
	}()
	stream := client.Sessions(ctx)
	// What waits for the end of the request does not see that ctx has ended.
	stop := context.AfterFunc(ctx, func() { _ = stream.CloseRequest() })
	defer stop()
	// An empty batch asks whether there is anybody.
	if err := e.sendBatch(ctx, stream, flight, nil); err != nil {
		_, received := stream.Receive() // has the reason
		return false, errors.Join(fmt.Errorf("send to collector: %w", cause(ctx, err)), received)
	}
	for {
		message, err := stream.Receive()
		if err != nil {
			return taken, fmt.Errorf("receive from collector: %w", cause(ctx, err))
		}
		records, err := flight.acknowledge(message.GetNumber())
		if err != nil {
			return taken, err
		}
		e.taken(address, records)
		if !taken {
			taken = true
			running.Go(func() { cancel(e.sendAll(ctx, stream, flight)) })
			running.Go(func() { cancel(e.scan(ctx)) })
		}
	}
}

func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil {
		return why
	}
	return err
}

// sendAll sends what is queued.
func (e *Exporter) sendAll(ctx context.Context, stream sessionStream, flight *flight) error {
	for {
		batch, err := e.queue.take(ctx, batchSize)
		if err != nil {
			return err
		}
		if err := e.sendBatch(ctx, stream, flight, batch); err != nil {
			return err
		}
	}
}

// sendBatch sends a batch when there is room on the way.
func (e *Exporter) sendBatch(ctx context.Context, stream sessionStream, flight *flight, batch []*collectorv1.Session) error {
	number, err := flight.add(ctx, batch)
	if err != nil {
		return err
	}
	state := e.State()
	return stream.Send(&collectorv1.SessionBatch{Number: number, Sessions: batch, Lost: &collectorv1.Losses{
		Records: state.LostRecords, Events: state.LostEvents, OverRate: state.OverRate,
	}})
}
