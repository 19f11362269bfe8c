package control

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"testing"
	"time"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/model"
)

// BenchmarkConverge measures from the first of 10,000 attachments in the graph
// until each of 1,000 agents has the routes of all its networks, without a
// network between. Agents say that a port is up as soon as they hear of it.
func BenchmarkConverge(b *testing.B) {
	for _, networks := range []int{100, 1} {
		b.Run(fmt.Sprintf("networks=%d", networks), func(b *testing.B) {
			for b.Loop() {
				converge(b, networks, 1000, 10_000)
			}
		})
	}
}

func converge(b *testing.B, networks, nodes, attachments int) {
	b.StopTimer()
	w := newWorld()
	for n := range nodes {
		w.node(fmt.Sprint(n), fmt.Sprintf("172.16.%d.%d", n/250, n%250+1), 1500)
	}
	for n := range networks {
		w.network(fmt.Sprint(n), int64(n+1), nil, nil)
	}
	batches := make([]model.Batch, attachments)
	needs := make([]map[int]bool, nodes)
	for i := range batches {
		network, node := i%networks, i/10%nodes
		batches[i] = w.attachment(fmt.Sprint(i), fmt.Sprint(network), fmt.Sprint(node), fmt.Sprintf("10.%d.%d.%d", i/62500, i/250%250, i%250+1), uint32(16+i))
		if needs[node] == nil {
			needs[node] = map[int]bool{}
		}
		needs[node][network] = true
	}
	t := newTables(discard(), newMetrics())
	ctx, cancel := context.WithCancel(context.Background())
	var running, arrived sync.WaitGroup
	running.Go(func() { _ = t.follow(ctx, w.graph) }) // ends with ctx
	<-t.ready
	routes := 0
	for n := range nodes {
		s, _ := t.open(id("node", fmt.Sprint(n)), &controlv1.Hello{}, func(error) {})
		missing := len(needs[n]) * attachments / networks
		routes += missing
		arrived.Add(1)
		running.Go(func() {
			defer s.close()
			server := &Server{cfg: Config{KeepAlive: time.Second, Stuck: time.Minute}, tables: t}
			_ = s.run(ctx, server.benchSender(s, func(f *frame) error { // ends with ctx
				switch f.body[0] >> 3 { // the number of the field that the message has
				case fieldPort:
					return s.answer(f)
				case fieldRoute:
					if missing--; missing == 0 {
						arrived.Done()
					}
				}
				return nil
			}))
		})
	}
	b.StartTimer()
	for _, batch := range batches {
		w.apply(batch)
	}
	arrived.Wait()
	b.StopTimer()
	b.ReportMetric(float64(routes), "routes")
	cancel()
	running.Wait()
	b.StartTimer()
}

// benchSender sends without a network.
func (s *Server) benchSender(session *session, send func(*frame) error) *sender {
	return s.sender(session, func(frames iter.Seq[*frame]) error { return each(frames, send) }, func() {})
}

// Fields of ControlMessage.
const (
	fieldPort  = 3
	fieldRoute = 5
)

// answer says what an agent says that has plugged a port.
func (s *session) answer(f *frame) error {
	m, err := f.message()
	if err != nil {
		return err
	}
	return s.report(&controlv1.PortStatus{InterfaceId: m.GetPort().InterfaceId, State: controlv1.PortStatus_STATE_UP})
}

// BenchmarkChange measures from a change of one attachment until each of 1,000
// agents that need its network has been sent the route.
func BenchmarkChange(b *testing.B) {
	const nodes = 1000
	w := newWorld()
	w.network("blue", 1, nil, nil)
	for n := range nodes {
		w.node(fmt.Sprint(n), fmt.Sprintf("172.16.%d.%d", n/250, n%250+1), 1500)
		w.attach(fmt.Sprint(n), "blue", fmt.Sprint(n), fmt.Sprintf("10.0.%d.%d", n/250, n%250+1), 16)
	}
	t := newTables(discard(), newMetrics())
	ctx, cancel := context.WithCancel(context.Background())
	var running, told sync.WaitGroup
	running.Go(func() { _ = t.follow(ctx, w.graph) }) // ends with ctx
	<-t.ready
	told.Add(nodes * nodes) // each agent has all routes
	for n := range nodes {
		s, _ := t.open(id("node", fmt.Sprint(n)), &controlv1.Hello{}, func(error) {})
		running.Go(func() {
			defer s.close()
			server := &Server{cfg: Config{KeepAlive: time.Minute, Stuck: time.Minute}, tables: t}
			_ = s.run(ctx, server.benchSender(s, func(f *frame) error { // ends with ctx
				if f.body[0]>>3 == fieldRoute {
					told.Done()
				}
				return nil
			}))
		})
	}
	told.Wait()
	label := uint32(17)
	for b.Loop() {
		told.Add(nodes)
		label++
		w.move("7", "7", label)
		told.Wait()
	}
	cancel()
	running.Wait()
}
