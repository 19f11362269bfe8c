package records

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/contrail-mesos/contrail/api/contrail/collector/v1/collectorv1connect"
	"github.com/contrail-mesos/contrail/internal/lifecycle"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// Source is the data plane.
type Source interface {
	Changed(dataplane.Changes) iter.Seq2[dataplane.Conversation, error]
	OnFlowEnd(func(dataplane.Conversation))
	FlowEvents(context.Context, func(dataplane.FlowEvent)) error
	FlowEventsLost() (noRoom, overRate uint64, err error)
}

// Config of an exporter. All fields are needed.
type Config struct {
	Source Source
	// Node and Boot are the UUIDs of the node and of its boot.
	Node, Boot string
	// Ports are those of the node by interface.
	Ports func() map[int]Port
	// Collectors are host:port; the first one that answers gets the records. Dial
	// makes the client of one.
	Collectors []string
	Dial       func(address string) (collectorv1connect.CollectorClient, error)
}

const (
	// tick is how often the table is read for what is new, and refusals are summed
	// up; goesOn how often for what goes on.
	tick   = time.Second
	goesOn = 10 * time.Second
	// slack is how much the stamps of flows are behind the clock, at most.
	slack = 100 * time.Millisecond
	// readRate is how many entries are read in a second.
	readRate = 256 << 10
	// goneFor is for how long the name of a port is known after it has gone.
	goneFor = time.Minute
	// maxRefusals are summed up before they become records.
	maxRefusals = 4096
)

// Exporter sends records of sessions to a collector.
type Exporter struct {
	log    *slog.Logger
	config Config
	salt   [16]byte
	queue  *queue

	mu       sync.Mutex
	state    State
	ports    map[int]knownPort
	refusals map[refusalKey]*dataplane.FlowTotals
}

type knownPort struct {
	Port
	last time.Time
}

// refusalKey is what refusals of one flow have alike.
type refusalKey struct {
	reason           dataplane.DropReason
	ifindex          int
	src, dst         netip.Addr
	srcPort, dstPort uint16
	protocol         uint8
	direction        dataplane.Direction
}

func keyOf(event *dataplane.FlowEvent) refusalKey {
	f := &event.Flow
	return refusalKey{event.Reason, f.IfIndex, f.Src, f.Dst, f.SrcPort, f.DstPort, f.Protocol, f.Direction}
}

// State is how the sending does.
type State struct {
	// Collector that takes records, empty if none does.
	Collector string    `json:"collector"`
	Since     time.Time `json:"since"`
	Error     string    `json:"error,omitempty"`
	// Waiting are the records that are not sent yet.
	Waiting int `json:"waiting"`
	// Acknowledged records. Lost: see Losses of the contract.
	Acknowledged uint64 `json:"acknowledged"`
	LostRecords  uint64 `json:"lost_records"`
	LostEvents   uint64 `json:"lost_events"`
	OverRate     uint64 `json:"refusals_over_rate"`
}

// New makes an exporter.
func New(log *slog.Logger, config Config) *Exporter {
	return &Exporter{
		log: log, config: config, salt: saltOf(config.Node, config.Boot), queue: newQueue(queueLimit),
		state: State{Since: time.Now()}, ports: map[int]knownPort{}, refusals: map[refusalKey]*dataplane.FlowTotals{},
	}
}

// State returns how the sending does.
func (e *Exporter) State() State {
	e.mu.Lock()
	state := e.state
	e.mu.Unlock()
	state.Waiting, state.LostRecords = e.queue.state()
	var err error
	if state.LostEvents, state.OverRate, err = e.config.Source.FlowEventsLost(); err != nil && state.Error == "" {
		state.Error = err.Error()
	}
	return state
}

// Run sends until ctx ends.
func (e *Exporter) Run(ctx context.Context) error {
	e.learnPorts()
	e.config.Source.OnFlowEnd(e.ended)
	defer e.config.Source.OnFlowEnd(nil)
	group := lifecycle.New(e.log)
	group.Add("flow events", e.listen)
	group.Add("refusals", e.sumUp)
	group.Add("collector", e.send)
	return group.Wait(ctx)
}

// listen takes in what the programs tell. When that fails it is tried again: the
// agent goes on without.
func (e *Exporter) listen(ctx context.Context) error {
	for {
		err := e.config.Source.FlowEvents(ctx, e.happened)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.log.Warn("refusals and ends by policy cannot be read, and are tried again", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(goesOn):
		}
	}
}

// ended queues the last counts of an entry.
func (e *Exporter) ended(c dataplane.Conversation) {
	if m, err := e.maker(); err == nil {
		e.queue.add(m.session(c))
	}
}

// happened takes in what the programs tell.
func (e *Exporter) happened(event dataplane.FlowEvent) {
	f := &event.FlowTotals
	if event.Reason == 0 {
		c := dataplane.Conversation{Begins: f}
		if f.Answers {
			c = dataplane.Conversation{Answers: f}
		}
		e.ended(c)
		return
	}
	key := keyOf(&event)
	e.mu.Lock()
	sum := e.refusals[key]
	if sum == nil {
		e.refusals[key] = f
	} else {
		sum.Packets, sum.Bytes, sum.LastSeen = sum.Packets+f.Packets, sum.Bytes+f.Bytes, f.LastSeen
	}
	full := len(e.refusals) >= maxRefusals
	e.mu.Unlock()
	if full {
		e.flushRefusals()
	}
}

// sumUp makes records of refusals, and keeps the names of ports fresh.
func (e *Exporter) sumUp(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		e.learnPorts()
		e.flushRefusals()
	}
}

func (e *Exporter) flushRefusals() {
	m, err := e.maker()
	if err != nil {
		return
	}
	e.mu.Lock()
	all := e.refusals
	e.refusals = map[refusalKey]*dataplane.FlowTotals{}
	e.mu.Unlock()
	for key, f := range all {
		e.queue.add(m.refusal(f, key.reason))
	}
}

// cuts are the times of the readings before.
type cuts struct{ made, seen, whole time.Duration }

// next is what has changed since then: all there is in the first reading, and then
// mostly what is new.
func (c *cuts) next(now time.Duration) dataplane.Changes {
	changes := dataplane.Changes{Made: c.made, Seen: math.MaxInt64}
	if now >= c.whole {
		changes.Seen, c.seen, c.whole = c.seen, now-slack, now+goesOn
	}
	c.made = now - slack
	return changes
}

// scan reads the table until ctx ends: first all of it, then what changes.
func (e *Exporter) scan(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var earlier cuts
	for {
		now, err := dataplane.Now()
		if err != nil {
			return err
		}
		changes := earlier.next(now)
		changes.Pace = pace(ctx)
		if err := e.read(ctx, changes); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// read queues what has changed, as fast as there is room.
func (e *Exporter) read(ctx context.Context, changes dataplane.Changes) error {
	e.learnPorts()
	m, err := e.maker()
	if err != nil {
		return err
	}
	for c, err := range e.config.Source.Changed(changes) {
		if err != nil {
			return err
		}
		if err := e.queue.put(ctx, m.session(c)); err != nil {
			return err
		}
	}
	return nil
}

// pace keeps to readRate.
func pace(ctx context.Context) func(int) error {
	next := time.Now()
	return func(entries int) error {
		next = next.Add(time.Duration(entries) * time.Second / readRate)
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		}
	}
}

func (e *Exporter) maker() (maker, error) {
	now, err := dataplane.Now()
	if err != nil {
		return maker{}, errors.Join(errors.New("make records of sessions"), err)
	}
	return maker{salt: e.salt, port: e.portOf, booted: time.Now().Add(-now)}, nil
}

// learnPorts takes in what the ports are called; those that have gone stay known
// for a while, as their flows end with them.
func (e *Exporter) learnPorts() {
	ports, now := e.config.Ports(), time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for ifindex, p := range ports {
		e.ports[ifindex] = knownPort{p, now}
	}
	for ifindex, p := range e.ports {
		if now.Sub(p.last) > goneFor {
			delete(e.ports, ifindex)
		}
	}
}

// portOf is the port of an interface.
func (e *Exporter) portOf(ifindex int) (Port, bool) {
	e.mu.Lock()
	p, ok := e.ports[ifindex]
	e.mu.Unlock()
	return p.Port, ok
}
