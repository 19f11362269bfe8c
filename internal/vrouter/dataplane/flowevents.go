package dataplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
)

// flowEventRing is the memory for events that nobody has read yet, some 5,700.
const flowEventRing = 1 << 20

// FlowEvent is what the programs tell of a flow.
type FlowEvent struct {
	// Reason why policy refused it; 0 for an entry that policy ended, which has
	// its last counts. A refused flow has those of the refused packet.
	Reason DropReason
	FlowTotals
}

// flowEventSize is that of struct flow_event.
const flowEventSize = unsafe.Sizeof(bpfFlowEvent{})

var errFlowEvent = errors.New("not a flow event")

// decodeFlowEvent reads what is in the ring.
func decodeFlowEvent(sample []byte) (e bpfFlowEvent, err error) {
	if len(sample) < int(flowEventSize) {
		return e, fmt.Errorf("%w: %d bytes, want %d", errFlowEvent, len(sample), flowEventSize)
	}
	copy((*[flowEventSize]byte)(unsafe.Pointer(&e))[:], sample)
	switch {
	case int(e.Reason) >= len(dropReasons):
		return e, fmt.Errorf("%w: reason %d", errFlowEvent, e.Reason)
	case e.Key.Dir >= flowDirs || e.Flow.Role > flowAnswers:
		return e, fmt.Errorf("%w: direction %d and role %d", errFlowEvent, e.Key.Dir, e.Flow.Role)
	}
	return e, nil
}

// namesKeptFor is for how long numbers stand for the same in events.
const namesKeptFor = time.Second

// FlowEvents calls f with what the programs tell of flows, until ctx ends. The
// data plane must have been opened with Config.FlowEvents; one may read at a time.
func (d *Dataplane) FlowEvents(ctx context.Context, f func(FlowEvent)) error {
	reader, err := ringbuf.NewReader(d.objects.FlowEventRing)
	if err != nil {
		return fmt.Errorf("read flow events: %w", err)
	}
	defer reader.Close()
	stop := context.AfterFunc(ctx, func() { reader.Close() })
	defer stop()
	var record ringbuf.Record
	names, since := d.newNames(), time.Now()
	for {
		switch err := reader.ReadInto(&record); {
		case errors.Is(err, os.ErrClosed):
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("read flow events: %w", err)
		}
		event, err := decodeFlowEvent(record.RawSample)
		if err != nil {
			return fmt.Errorf("read flow events: %w", err)
		}
		if time.Since(since) > namesKeptFor {
			names, since = d.newNames(), time.Now()
		}
		if err := names.read(); err != nil {
			return fmt.Errorf("read flow events: %w", err)
		}
		totals := names.totals(rawFlow{event.Key, event.Flow}, event.Reason == 0)
		f(FlowEvent{DropReason(event.Reason), *totals})
	}
}

// FlowEventsLost are those that there was no room for in the ring, and refusals
// beyond the rate of a port, since the data plane was opened.
func (d *Dataplane) FlowEventsLost() (noRoom, overRate uint64, err error) {
	for why, n := range map[uint32]*uint64{0: &noRoom, 1: &overRate} {
		if err := d.maps().FlowEventLost.Lookup(why, n); err != nil {
			return 0, 0, fmt.Errorf("read lost flow events: %w", err)
		}
	}
	return noRoom, overRate, nil
}
