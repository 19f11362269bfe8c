package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/contrail/control/v1/controlv1connect"
	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// maxAgentMessage bounds what an agent may send at once, in bytes.
const maxAgentMessage = 64 << 10

// Config of a Server. Zero fields mean the defaults.
type Config struct {
	// KeepAlive is the pause between keep-alives of a quiet session; 5 s.
	KeepAlive time.Duration
	// Displace is how long a second session of a node waits for the first one
	// to end, before it is refused; 12 s, which is longer than it takes the
	// server's HTTP/2 pings to end a connection whose peer does not answer.
	Displace time.Duration
	// FirstMessage is how long an agent may take to say Hello; 10 s.
	FirstMessage time.Duration
	// Router is the name of the bgp-router that this control node is; without
	// it, or without such an object, there is no BGP.
	Router string
	// AddPaths is how many paths of a route are taken of a BGP peer that offers
	// several (RFC 7911), at most MaxAddPaths; with 0 none is asked for more than one.
	AddPaths int
	// Network is where BGP's sockets are, the host's if nil.
	Network bgp.Network
	// CutOff is how long the graph may be without a proof that it is as the
	// store is, before the agents are told so; 3 s.
	CutOff time.Duration
	// Grace is how long an agent whose session ended may take to come back
	// before the paths to its ports are stale; 10 s.
	Grace time.Duration
	// Stuck is how long an agent may not read what is sent to it before its
	// session is ended; 15 s.
	Stuck time.Duration
	// Policies says that the agents hold traffic to the rules of policies: the
	// routes that nothing but policies ask for are used.
	Policies bool
	// Snapshots is how many agents are sent all their tables at the same time,
	// others wait; 16.
	Snapshots int
}

// MaxAddPaths is the most paths of a route that are taken of a BGP peer.
const MaxAddPaths = bgp.MaxAddPaths

// Server is a control node on one graph.
type Server struct {
	log      *slog.Logger
	cfg      Config
	graph    *model.Graph
	tables   *tables
	registry *prometheus.Registry
	exchange *Exchange // nil where there is none
	// snapshots has an element for each session that is sent all its tables.
	snapshots chan struct{}

	mu sync.Mutex
	// contenders are nodes of which a second session waits for the first.
	contenders map[string]bool
}

// New returns a control node that follows a graph, which somebody else feeds.
func New(log *slog.Logger, cfg Config, g *model.Graph) *Server {
	if cfg.KeepAlive == 0 {
		cfg.KeepAlive = 5 * time.Second
	}
	if cfg.Displace == 0 {
		cfg.Displace = 12 * time.Second
	}
	if cfg.FirstMessage == 0 {
		cfg.FirstMessage = 10 * time.Second
	}
	if cfg.CutOff == 0 {
		cfg.CutOff = 3 * time.Second
	}
	if cfg.Grace == 0 {
		cfg.Grace = 10 * time.Second
	}
	if cfg.Stuck == 0 {
		cfg.Stuck = 15 * time.Second
	}
	if cfg.Snapshots == 0 {
		cfg.Snapshots = 16
	}
	m := newMetrics()
	s := &Server{
		log: log, cfg: cfg, snapshots: make(chan struct{}, cfg.Snapshots), graph: g, tables: newTables(log, m),
		registry: prometheus.NewRegistry(), contenders: map[string]bool{},
	}
	s.tables.grace = cfg.Grace
	s.tables.facts.router, s.tables.border.net = cfg.Router, cfg.Network
	s.tables.facts.policies, s.tables.facts.addPaths = cfg.Policies, cfg.AddPaths
	m.register(s.registry, s.tables)
	return s
}

// Run computes, and speaks BGP, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = s.tables.border.run(ctx) }) // ends with ctx
	running.Go(func() {
		ticker := time.NewTicker(overdue / 4)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-ticker.C:
				s.tables.alarm(now)
			}
		}
	})
	return s.tables.follow(ctx, s.graph)
}

// Ready is closed when the routes are those of a graph that was read.
func (s *Server) Ready() <-chan struct{} { return s.tables.ready }

// Handler serves agents' sessions, and to administrators the introspection.
// It expects requests from internal/serve, which says who is calling.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	// Agents sit on the same fabric: compressing for each of a thousand streams
	// would cost more than it saves, and would undo encoding once.
	mux.Handle(controlv1connect.ControlSessionProcedure, withGather(connect.NewBidiStreamHandler(
		controlv1connect.ControlSessionProcedure, s.session,
		connect.WithCodec(binaryCodec{}), connect.WithCodec(jsonCodec{}),
		connect.WithCompression("gzip", nil, nil), connect.WithReadMaxBytes(maxAgentMessage))))
	mux.Handle(controlv1connect.ControlExchangeProcedure, connect.NewServerStreamHandler(
		controlv1connect.ControlExchangeProcedure, s.tellColleague,
		connect.WithCodec(binaryCodec{}), connect.WithCompression("gzip", nil, nil), connect.WithReadMaxBytes(maxAgentMessage)))
	s.registerIntrospection(mux)
	return mux
}

type agentStream = connect.BidiStream[controlv1.AgentMessage, frame]

func (s *Server) session(ctx context.Context, stream *agentStream) error {
	caller := serve.CallerOf(ctx)
	if caller.Role != ctls.RoleNode {
		return connect.NewError(connect.CodePermissionDenied,
			fmt.Errorf("caller is %q; only nodes have sessions: connect with a node's certificate", caller.Role))
	}
	select {
	case <-s.tables.ready:
	default:
		return connect.NewError(connect.CodeUnavailable, errors.New("control node has not read the store yet; try again"))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	hello := make(chan *controlv1.Hello, 1)
	opened := make(chan *session, 1)
	go receive(ctx, cancel, stream, hello, opened)

	first, err := s.await(ctx, hello)
	if err != nil {
		return err
	}
	session, err := s.admit(ctx, caller.Node, first, cancel)
	if err != nil {
		return err
	}
	opened <- session
	s.log.Info("session opened", "node", caller.Node, "boot", first.BootId)
	response := gatherOf(ctx)
	out := s.sender(session, func(frames iter.Seq[*frame]) error {
		return response.together(func() error { return each(frames, stream.Send) })
	}, response.cut)
	if err = out.admit(ctx); err == nil {
		err = session.run(ctx, out)
	}
	out.close()
	if ctx.Err() != nil {
		err = context.Cause(ctx) // a write that failed for it tells less
	}
	session.close()
	s.log.Info("session ended", "node", caller.Node, "cause", err)
	return asConnectError(err)
}

func each(frames iter.Seq[*frame], send func(*frame) error) error {
	for f := range frames {
		if err := send(f); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) await(ctx context.Context, hello <-chan *controlv1.Hello) (*controlv1.Hello, error) {
	timer := time.NewTimer(s.cfg.FirstMessage)
	defer timer.Stop()
	select {
	case h := <-hello:
		return h, nil
	case <-ctx.Done():
		return nil, asConnectError(context.Cause(ctx))
	case <-timer.C:
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("no hello within %s", s.cfg.FirstMessage))
	}
}

// receive reads what the agent says: one hello, then states of ports. It ends
// with the stream, at the latest when the handler returns.
func receive(ctx context.Context, end context.CancelCauseFunc, stream *agentStream, hello chan<- *controlv1.Hello, opened <-chan *session) {
	var open *session
	for {
		message, err := stream.Receive()
		if err != nil {
			end(err)
			return
		}
		switch body := message.Body.(type) {
		case *controlv1.AgentMessage_Hello:
			if hello == nil {
				end(connect.NewError(connect.CodeInvalidArgument, errors.New("hello came twice")))
				return
			}
			hello <- body.Hello
			hello = nil
			continue
		case *controlv1.AgentMessage_PortStatus:
			if hello != nil {
				end(connect.NewError(connect.CodeInvalidArgument, errors.New("the first message is not hello")))
				return
			}
			if open == nil {
				select {
				case open = <-opened:
				case <-ctx.Done():
					return
				}
			}
			if err := open.report(body.PortStatus); err != nil {
				end(err)
				return
			}
		default: // of a newer agent
		}
	}
}

// admit opens the node's session. Where one lives already, it waits a while
// for it to end: an agent that was killed comes back before its old connection
// is known to be dead. One that still answers stays, and the new one is refused.
func (s *Server) admit(ctx context.Context, node string, hello *controlv1.Hello, end context.CancelCauseFunc) (*session, error) {
	session, other := s.tables.open(node, hello, end)
	if session != nil {
		return session, nil
	}
	refused := connect.NewError(connect.CodeAlreadyExists,
		fmt.Errorf("node %s has a session already, of boot %s; two machines must not share a node's certificate", node, other.bootID))
	if !s.contend(node) {
		s.tables.metrics.duplicates.Inc()
		return nil, refused
	}
	defer s.concede(node)
	timer := time.NewTimer(s.cfg.Displace)
	defer timer.Stop()
	for {
		select {
		case <-other.ended:
		case <-ctx.Done():
			return nil, asConnectError(context.Cause(ctx))
		case <-timer.C:
			s.tables.metrics.duplicates.Inc()
			s.log.Warn("second live session of a node is refused", "node", node, "boot", hello.GetBootId(), "boot_of_first", other.bootID)
			return nil, refused
		}
		if session, other = s.tables.open(node, hello, end); session != nil {
			return session, nil
		}
	}
}

func (s *Server) contend(node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.contenders[node] {
		return false
	}
	s.contenders[node] = true
	return true
}

func (s *Server) concede(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.contenders, node)
}

func asConnectError(err error) error {
	var e *connect.Error
	switch {
	case err == nil || errors.Is(err, io.EOF) || errors.Is(err, context.Canceled):
		return nil // the agent left, or this process stops
	case errors.As(err, &e):
		return e
	case errors.Is(err, errRestored):
		return connect.NewError(connect.CodeAborted, err)
	case errors.Is(err, errStuck):
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	default:
		return connect.NewError(connect.CodeInternal, err)
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(v) // a caller that left needs no answer
}
