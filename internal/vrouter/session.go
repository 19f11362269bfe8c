package vrouter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/contrail/control/v1/controlv1connect"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// sessions keeps a session with one of the control nodes, in turn.
type sessions struct {
	log     *slog.Logger
	bootID  string
	peers   []controlPeer
	routing *routing
	// ports returns the ports with what control is to know of them (unspecified
	// is nothing new), and a channel that is closed when they change.
	ports func() (map[string]controlv1.PortStatus_State, <-chan struct{})

	mu    sync.Mutex
	state sessionState
}

type controlPeer struct {
	address string
	client  controlv1connect.ControlClient
}

type sessionState struct {
	Peer      string    `json:"peer"`
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	Error     string    `json:"error,omitempty"`
	Epoch     uint64    `json:"epoch"`
	Revision  uint64    `json:"revision"`
	Messages  uint64    `json:"messages"`
	// CaughtUp: the control node knows what has been believed here.
	CaughtUp bool `json:"caught_up"`
}

// silence is how long a control node may say nothing; it sends a keep-alive
// every 5 s.
const silence = 16 * time.Second

var errSilent = errors.New("control node has been silent for too long")

// run keeps a session until ctx ends. Forwarding goes on without one.
func (s *sessions) run(ctx context.Context) error {
	if len(s.peers) == 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	failures := 0
	for turn := 0; ; turn++ {
		peer := s.peers[turn%len(s.peers)]
		started := time.Now()
		err := s.session(ctx, peer)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.ended(peer, err) {
			failures = 0
			s.log.Warn("control session ended; forwarding goes on", "peer", peer.address, "after", time.Since(started).Round(time.Millisecond), "error", err)
		} else if failures == 0 {
			s.log.Warn("control node cannot be reached and is tried again; forwarding goes on", "peer", peer.address, "error", err)
		}
		timer := time.NewTimer(reconcile.Backoff(failures, 100*time.Millisecond, 5*time.Second))
		failures++
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// ended notes the end of a session and tells whether it had begun.
func (s *sessions) ended(peer controlPeer, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	begun := s.state.Connected
	if begun || s.state.Peer != peer.address {
		s.state.Since = time.Now()
	}
	s.state.Peer, s.state.Connected, s.state.CaughtUp = peer.address, false, false
	if err != nil {
		s.state.Error = err.Error()
	}
	return begun
}

func (s *sessions) current() sessionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *sessions) session(ctx context.Context, peer controlPeer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watchdog.Stop()

	stream := peer.client.Session(ctx)
	hello := &controlv1.Hello{BootId: s.bootID, Seen: s.routing.seen()}
	if err := stream.Send(&controlv1.AgentMessage{Body: &controlv1.AgentMessage_Hello{Hello: hello}}); err != nil {
		_, received := stream.Receive() // has the reason
		return errors.Join(fmt.Errorf("begin session: %w", sessionError(ctx, err)), received)
	}
	var sender sync.WaitGroup
	sender.Go(func() {
		if err := s.sendPorts(ctx, stream); err != nil {
			cancel(err)
		}
	})
	defer sender.Wait()
	defer cancel(nil)
	view := s.routing.newView()
	for {
		message, err := stream.Receive()
		if err != nil {
			return fmt.Errorf("receive from control node: %w", sessionError(ctx, err))
		}
		watchdog.Reset(silence)
		s.routing.apply(view, message)
		s.note(peer, view)
	}
}

// sessionError prefers why we ended a session over how that looked.
func sessionError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (s *sessions) note(peer controlPeer, v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.state.Connected {
		s.log.Info("control session established", "peer", peer.address)
		s.state = sessionState{Peer: peer.address, Connected: true, Since: time.Now()}
	}
	s.state.Messages++
	s.state.CaughtUp = v.caughtUp
	s.state.Epoch, s.state.Revision = v.position.GetEpoch(), v.position.GetRevision()
}

// sendPorts tells the control node which ports are up, and then what changes.
func (s *sessions) sendPorts(ctx context.Context, stream *connect.BidiStreamForClient[controlv1.AgentMessage, controlv1.ControlMessage]) error {
	told := map[string]controlv1.PortStatus_State{}
	send := func(id string, state controlv1.PortStatus_State) error {
		status := &controlv1.PortStatus{InterfaceId: id, State: state}
		if err := stream.Send(&controlv1.AgentMessage{Body: &controlv1.AgentMessage_PortStatus{PortStatus: status}}); err != nil {
			return fmt.Errorf("tell control node of port %s: %w", id, err)
		}
		return nil
	}
	for {
		ports, changed := s.ports()
		for id, state := range ports {
			if told[id] == state || state == controlv1.PortStatus_STATE_UNSPECIFIED {
				continue
			}
			if err := send(id, state); err != nil {
				return err
			}
			told[id] = state
		}
		for id := range told {
			if _, exists := ports[id]; exists {
				continue
			}
			if err := send(id, controlv1.PortStatus_STATE_DOWN); err != nil {
				return err
			}
			delete(told, id)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
