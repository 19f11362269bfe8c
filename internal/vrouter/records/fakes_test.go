package records

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	collectorv1 "github.com/contrail-mesos/contrail/api/contrail/collector/v1"
	"github.com/contrail-mesos/contrail/api/contrail/collector/v1/collectorv1connect"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// fakeSource is a flow table in memory.
type fakeSource struct {
	mu     sync.Mutex
	flows  []dataplane.Conversation
	ended  func(dataplane.Conversation)
	reads  int
	events chan dataplane.FlowEvent
}

func newFakeSource(flows ...dataplane.Conversation) *fakeSource {
	return &fakeSource{flows: flows, events: make(chan dataplane.FlowEvent)}
}

func (s *fakeSource) Changed(c dataplane.Changes) iter.Seq2[dataplane.Conversation, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	var changed []dataplane.Conversation
	for _, f := range s.flows {
		if has(c, f.Begins) || has(c, f.Answers) {
			changed = append(changed, f)
		}
	}
	return func(yield func(dataplane.Conversation, error) bool) {
		for _, f := range changed {
			if !yield(f, nil) {
				return
			}
		}
	}
}

func has(c dataplane.Changes, f *dataplane.FlowTotals) bool {
	return f != nil && (f.Created > c.Made || f.LastSeen > c.Seen)
}

func (s *fakeSource) OnFlowEnd(f func(dataplane.Conversation)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = f
}

func (s *fakeSource) end(c dataplane.Conversation) {
	s.mu.Lock()
	f := s.ended
	s.mu.Unlock()
	f(c)
}

func (s *fakeSource) FlowEvents(ctx context.Context, f func(dataplane.FlowEvent)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-s.events:
			f(e)
		}
	}
}

func (s *fakeSource) FlowEventsLost() (noRoom, overRate uint64, err error) { return 3, 4, nil }

func (s *fakeSource) readings() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// fakeCollector keeps what it has acknowledged, and the last of each flow.
type fakeCollector struct {
	mu       sync.Mutex
	sessions []*collectorv1.Session
	lost     *collectorv1.Losses
	// refuse is asked before a batch is acknowledged, and ends the stream.
	refuse func(*collectorv1.SessionBatch) error
	server *httptest.Server
}

func newFakeCollector(t *testing.T) *fakeCollector {
	c := &fakeCollector{}
	_, handler := collectorv1connect.NewCollectorHandler(c)
	c.server = httptest.NewUnstartedServer(handler)
	c.server.EnableHTTP2 = true
	c.server.StartTLS()
	t.Cleanup(c.server.Close)
	t.Cleanup(c.server.CloseClientConnections)
	return c
}

func (c *fakeCollector) Sessions(_ context.Context, stream *connect.BidiStream[collectorv1.SessionBatch, collectorv1.SessionAcknowledgement]) error {
	for {
		batch, err := stream.Receive()
		if err != nil {
			return err
		}
		if err := c.take(batch); err != nil {
			return err
		}
		if err := stream.Send(&collectorv1.SessionAcknowledgement{Number: batch.GetNumber()}); err != nil {
			return err
		}
	}
}

func (c *fakeCollector) take(batch *collectorv1.SessionBatch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse != nil {
		if err := c.refuse(batch); err != nil {
			return err
		}
	}
	c.sessions = append(c.sessions, batch.GetSessions()...)
	c.lost = batch.GetLost()
	return nil
}

func (c *fakeCollector) all() []*collectorv1.Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*collectorv1.Session(nil), c.sessions...)
}

// totals are the packets of all flows that records tell of.
func totals(sessions []*collectorv1.Session) (packets uint64) {
	last := map[string]uint64{}
	for _, s := range sessions {
		for _, f := range []*collectorv1.Flow{s.GetForward(), s.GetReverse()} {
			if f != nil {
				last[string(f.GetFlowId())] = f.GetPackets()
			}
		}
	}
	for _, n := range last {
		packets += n
	}
	return packets
}

func dialing(collectors ...*fakeCollector) func(string) (collectorv1connect.CollectorClient, error) {
	return func(address string) (collectorv1connect.CollectorClient, error) {
		for i, c := range collectors {
			if address == fmt.Sprint(i) {
				return collectorv1connect.NewCollectorClient(c.server.Client(), c.server.URL, connect.WithGRPC()), nil
			}
		}
		return nil, errors.New("no such collector")
	}
}

func exporterOf(s *fakeSource, collectors ...*fakeCollector) *Exporter {
	var addresses []string
	for i := range collectors {
		addresses = append(addresses, fmt.Sprint(i))
	}
	return New(slog.New(slog.NewTextHandler(io.Discard, nil)), Config{
		Source: s, Node: "node", Boot: "boot", Collectors: addresses, Dial: dialing(collectors...),
		Ports: func() map[int]Port {
			return map[int]Port{5: {ID: "port-5", NetworkName: "d:p:blue", Identity: dataplane.NewIdentity(7, []uint32{1}, []uint32{2})}, 6: {ID: "port-6"}}
		},
	})
}

// run has the exporter run until the test, or stop, ends it.
func run(t *testing.T, e *Exporter) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

var (
	client = netip.MustParseAddr("10.0.0.3")
	server = netip.MustParseAddr("10.0.0.4")
	public = netip.MustParseAddr("203.0.113.9")
	far    = netip.MustParseAddr("172.31.0.12")
)

// flowOf is a flow from port 5 to port 6 of the node with a number of its own.
func flowOf(number int, packets uint64, answers bool) *dataplane.FlowTotals {
	now, _ := dataplane.Now()
	f := &dataplane.FlowTotals{Flow: dataplane.Flow{
		IfIndex: 5, VRF: 7, Src: client, Dst: server, Protocol: 6, SrcPort: uint16(number), DstPort: 80,
		NextHop: dataplane.NextHop{Kind: dataplane.Local, IfIndex: 6}, Packets: packets, Bytes: 100 * packets, Created: now, LastSeen: now,
	}, ID: dataplane.FlowID{1, byte(number), byte(number >> 8)}}
	if answers {
		f.Src, f.Dst, f.SrcPort, f.DstPort, f.IfIndex, f.NextHop.IfIndex = server, client, 80, uint16(number), 6, 5
		f.Answers, f.ID[0] = true, 2
	}
	return f
}

func pair(number int, forward, reverse uint64) dataplane.Conversation {
	return dataplane.Conversation{Begins: flowOf(number, forward, false), Answers: flowOf(number, reverse, true)}
}
