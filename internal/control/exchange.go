package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/contrail/control/v1/controlv1connect"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// Exchange keeps control nodes in the know about agents that have no session
// with them, and routers. Each asks each other for what its agents report and its
// routers say:
//
//	store: control/<address> --> exchange --Exchange()--> another control node
//	                                |  <--reports, changes--
//	                                v
//	                             tables.hear, tables.hearLearned
//
// The others are those who announce themselves in the store. A lost stream goes
// on where it was.
type Exchange struct {
	log         *slog.Logger
	tables      *tables
	own         string
	credentials *ctls.Credentials
	silence     time.Duration

	mu      sync.Mutex
	known   map[string]bool // addresses, as the store has them
	loading map[string]bool
	changed chan struct{}
	peers   map[string]*colleague
}

// colleague is another control node.
type colleague struct {
	address string
	cancel  context.CancelFunc
	// What follows is protected by the exchange's lock.
	connected bool
	since     time.Time
	err       error
	cursor    *controlv1.TableCursor
}

// colleagues are the addresses of all control nodes, and of this one. A list is
// never changed.
type colleagues struct {
	own     string
	all     []string
	version int
}

// setColleagues has the agents told of the control nodes.
func (t *tables) setColleagues(own string, all []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Equal(t.colleagues.all, all) {
		t.colleagues = colleagues{own, all, t.colleagues.version + 1}
		t.setFabric(&update{})
		t.touchAll()
		t.flush()
	}
}

// announceFor is how long a control node that is gone stays in the store.
const announceFor = 30 * time.Second

// Exchange makes the exchange of a control node that serves at an address,
// which is a host that others can reach and a port.
func (s *Server) Exchange(address string, credentials *ctls.Credentials) (*Exchange, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("--listen-tls %q: want host:port", address)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return nil, fmt.Errorf("--listen-tls %q: want the address that agents and other controllers reach, not a wildcard", address)
	}
	x := &Exchange{
		log: s.log, tables: s.tables, own: address, credentials: credentials, silence: 3*s.cfg.KeepAlive + time.Second,
		known: map[string]bool{}, changed: make(chan struct{}, 1), peers: map[string]*colleague{},
	}
	s.exchange = x
	return x, nil
}

// Announce has the other control nodes find this one, until ctx ends.
func (x *Exchange) Announce(ctx context.Context, s *store.Store) error {
	return s.Announce(ctx, store.ControlKey(x.own), []byte("{}"), announceFor)
}

// Reset implements store.Follower.
func (x *Exchange) Reset(uint64, int64) error {
	x.loading = map[string]bool{}
	return nil
}

// Load implements store.Follower.
func (x *Exchange) Load(entries []store.Entry) error {
	enter(x.loading, entries)
	return nil
}

// Loaded implements store.Follower.
func (x *Exchange) Loaded() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.known = x.loading
	for address := range x.known {
		if address != x.own {
			x.tables.expect(address)
		}
	}
	x.tell()
	return nil
}

// Apply implements store.Follower.
func (x *Exchange) Apply(_ int64, changes []store.Entry) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if enter(x.known, changes) {
		x.tell()
	}
	return nil
}

// tell has others know that the store knows other control nodes. This one is
// always among them: it may not have announced itself yet.
func (x *Exchange) tell() {
	all := append(slices.Collect(maps.Keys(x.known)), x.own)
	slices.Sort(all)
	x.tables.setColleagues(x.own, slices.Compact(all))
	x.poke()
}

func enter(known map[string]bool, entries []store.Entry) (changed bool) {
	for _, e := range entries {
		if e.Key.Space() != store.SpaceControl {
			continue
		}
		segments, err := e.Key.Split(1)
		if err != nil {
			continue
		}
		changed = true
		if e.Deleted {
			delete(known, segments[0])
		} else {
			known[segments[0]] = true
		}
	}
	return changed
}

func (x *Exchange) poke() {
	select {
	case x.changed <- struct{}{}:
	default:
	}
}

// Run asks the others until ctx ends.
func (x *Exchange) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		x.arrange(ctx, &running)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-x.changed:
		}
	}
}

// arrange begins with those that are new. One that is gone from the store is
// left when its stream ends too: the store may be what is out of reach.
func (x *Exchange) arrange(ctx context.Context, running *sync.WaitGroup) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for address := range x.known {
		if address == x.own || x.peers[address] != nil {
			continue
		}
		peerCtx, cancel := context.WithCancel(ctx)
		c := &colleague{address: address, cancel: cancel, since: time.Now()}
		x.peers[address] = c
		running.Go(func() { x.ask(peerCtx, c) })
	}
	for address, c := range x.peers {
		if !x.known[address] && !c.connected {
			c.cancel()
		}
	}
}

// ask keeps a stream from another control node until it is gone for good.
func (x *Exchange) ask(ctx context.Context, c *colleague) {
	defer c.cancel()
	for failures := 0; ctx.Err() == nil; failures++ {
		err := x.listen(ctx, c)
		x.mu.Lock()
		if c.connected {
			failures = 0
			x.log.Warn("exchange with another control node ended and is tried again", "peer", c.address, "error", err)
		} else if failures == 0 && ctx.Err() == nil {
			x.log.Warn("another control node cannot be reached and is tried again", "peer", c.address, "error", err)
		}
		c.connected, c.since, c.err = false, time.Now(), err
		x.poke() // it may be gone from the store
		x.mu.Unlock()
		x.tables.cut(c.address, true)
		x.tables.without(c.address)
		pause := min(100*time.Millisecond<<min(failures, 10), 5*time.Second)
		timer := time.NewTimer(pause - rand.N(pause/2))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	x.tables.unheard(c.address, nil)
	x.tables.unlearn(c.address, &named{})
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.peers, c.address)
	x.poke() // it may be back
}

// listen takes in what another control node says, for one stream.
func (x *Exchange) listen(ctx context.Context, c *colleague) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	client, base, err := serve.Client(c.address, x.credentials, true, ctls.RoleController)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	watchdog := time.AfterFunc(x.silence, func() { cancel(errors.New("it has been silent for too long")) })
	defer watchdog.Stop()
	x.mu.Lock()
	request := &controlv1.ExchangeRequest{Cursor: c.cursor}
	x.mu.Unlock()
	stream, err := controlv1connect.NewControlClient(client, base, connect.WithGRPC()).Exchange(ctx, connect.NewRequest(request))
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	defer stream.Close()
	named := &named{map[string]bool{}, map[outside]struct{}{}, map[spokenAt]struct{}{}}
	for stream.Receive() {
		watchdog.Reset(x.silence)
		m := stream.Msg()
		if err := x.take(c, m, named); err != nil {
			return err
		}
		x.mu.Lock()
		if !c.connected {
			x.log.Info("exchange with another control node begins", "peer", c.address)
			c.connected, c.since, c.err = true, time.Now(), nil
		}
		if m.GetCursor() != nil {
			c.cursor = m.GetCursor()
		}
		x.mu.Unlock()
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err := stream.Err(); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return errors.New("it ended the stream")
}

// named is what a stream has told of, nil once it has told of all.
type named struct {
	nodes  map[string]bool
	routes map[outside]struct{}
	spoken map[spokenAt]struct{}
}

// take takes in a message.
func (x *Exchange) take(c *colleague, m *controlv1.ExchangeMessage, told *named) error {
	switch body := m.GetBody().(type) {
	case *controlv1.ExchangeMessage_Resumed:
		told.nodes = nil
		x.tables.cut(c.address, false)
	case *controlv1.ExchangeMessage_Report:
		if told.nodes != nil {
			told.nodes[body.Report.GetNode()] = true
		}
		x.tables.hear(c.address, body.Report)
	case *controlv1.ExchangeMessage_EndOfReports:
		if told.nodes != nil {
			x.tables.unheard(c.address, told.nodes)
		}
		told.nodes = nil
	case *controlv1.ExchangeMessage_Learned:
		return x.takeLearned(c, body.Learned, told)
	case *controlv1.ExchangeMessage_EndOfLearned:
		x.tables.unlearn(c.address, told)
		told.routes, told.spoken = nil, nil
	}
	return nil
}

// takeLearned takes in what routers, or a task, told another control node.
func (x *Exchange) takeLearned(c *colleague, m *controlv1.Learned, told *named) error {
	if m.GetInterfaceId() != "" {
		at, err := x.tables.hearSpoken(c.address, m)
		if told.spoken != nil {
			told.spoken[at] = struct{}{}
		}
		return err
	}
	at, err := x.tables.hearLearned(c.address, m)
	if told.routes != nil {
		told.routes[at] = struct{}{}
	}
	return err
}

// ShownColleague is another control node as it is shown.
type ShownColleague struct {
	Address   string    `json:"address"`
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	Error     string    `json:"error,omitempty"`
	// Nodes of which it reports, and those of them that have a session there.
	Nodes int `json:"nodes"`
	Live  int `json:"live"`
	// Paths are those that routers told it.
	Paths int `json:"paths"`
}

func (x *Exchange) show() []ShownColleague {
	shown := []ShownColleague{}
	if x == nil {
		return shown
	}
	x.mu.Lock()
	for _, c := range x.peers {
		s := ShownColleague{Address: c.address, Connected: c.connected, Since: c.since}
		if c.err != nil {
			s.Error = c.err.Error()
		}
		shown = append(shown, s)
	}
	x.mu.Unlock()
	x.tables.mu.Lock()
	defer x.tables.mu.Unlock()
	for i := range shown {
		shown[i].Paths = x.tables.rib.Heard(shown[i].Address)
		for _, n := range x.tables.nodes {
			if r := n.reports[shown[i].Address]; r != nil {
				shown[i].Nodes++
				if r.speaks() {
					shown[i].Live++
				}
			}
		}
	}
	slices.SortFunc(shown, func(a, b ShownColleague) int { return strings.Compare(a.Address, b.Address) })
	return shown
}

type exchangeStream = connect.ServerStream[frame]

// tellColleague serves Exchange.
func (s *Server) tellColleague(ctx context.Context, r *connect.Request[controlv1.ExchangeRequest], stream *exchangeStream) error {
	if caller := serve.CallerOf(ctx); caller.Role != ctls.RoleController {
		return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("caller is %q; only controllers exchange reports", caller.Role))
	}
	reading := s.tables.readShared(r.Msg.GetCursor())
	defer reading.close()
	ticker := time.NewTicker(s.cfg.KeepAlive)
	defer ticker.Stop()
	for {
		messages, more := reading.collect()
		for _, body := range messages {
			if err := stream.Send(&frame{nil, body}); err != nil {
				return err
			}
		}
		if more && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-reading.wake:
		case <-ticker.C:
			alive := &controlv1.ExchangeMessage{Body: &controlv1.ExchangeMessage_KeepAlive{KeepAlive: true}}
			if err := stream.Send(&frame{nil, encode(alive)}); err != nil {
				return err
			}
		}
	}
}
