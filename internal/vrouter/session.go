package vrouter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/contrail/control/v1/controlv1connect"
)

// controlPeer is a control node, and how the session with it does.
type controlPeer struct {
	address string
	client  controlv1connect.ControlClient

	// What follows is protected by sessions.mu.
	state sessionState
	// end ends the session; nil while there is none.
	end  context.CancelCauseFunc
	view *view
	// earlier is the view that the next session goes on from.
	earlier *view
	// own is the control node's address as it says itself, told are those of all
	// that it knows.
	own  string
	told []string
	// bgp is where it takes BGP sessions of tasks, invalid if it does not.
	bgp      netip.Addr
	failures int
	// retry is when the next session may begin.
	retry time.Time
}

type sessionState struct {
	Peer      string    `json:"peer"`
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	Error     string    `json:"error,omitempty"`
	Epoch     uint64    `json:"epoch"`
	Revision  uint64    `json:"revision"`
	Messages  uint64    `json:"messages"`
	// CaughtUp: the control node has told all that has been believed here.
	CaughtUp bool `json:"caught_up"`
	// Leads: what it says is believed.
	Leads bool `json:"leads"`
	// Bad is why the control node is left when there is another.
	Bad string `json:"bad,omitempty"`
}

// silence is how long a control node may say nothing; it sends a keep-alive
// every 5 s.
const silence = 16 * time.Second

var errSilent = errors.New("control node has been silent for too long")

// session runs one session with a control node.
func (s *sessions) session(ctx context.Context, peer *controlPeer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watchdog.Stop()

	view := s.routing.newView(peer.earlier)
	defer s.routing.endView(view)
	stream := peer.client.Session(ctx)
	hello := s.routing.hello(view, s.bootID)
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
	for {
		message, err := stream.Receive()
		if err != nil {
			return fmt.Errorf("receive from control node: %w", sessionError(ctx, err))
		}
		watchdog.Reset(silence)
		s.routing.apply(view, message)
		s.note(peer, view)
		if cluster := message.GetCluster(); cluster != nil {
			s.learn(peer, cluster)
		}
	}
}

// sessionError prefers why we ended a session over how that looked.
func sessionError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (s *sessions) note(peer *controlPeer, v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !peer.state.Connected {
		s.log.Info("control session established", "peer", peer.address)
		peer.state = sessionState{Peer: peer.address, Connected: true, Since: time.Now()}
		peer.view = v
	}
	peer.state.Messages++
}

// sendPorts tells the control node which ports are up, and then what changes.
func (s *sessions) sendPorts(ctx context.Context, stream *connect.BidiStreamForClient[controlv1.AgentMessage, controlv1.ControlMessage]) error {
	told := map[string]uint64{} // the sequence of the last word
	send := func(id string, now portWord) error {
		status := &controlv1.PortStatus{InterfaceId: id, State: now.state, Sequence: now.sequence}
		for _, f := range now.failing {
			status.Failing = append(status.Failing, &controlv1.FailedCheck{CheckId: f.Check, Reason: f.Reason})
		}
		if err := stream.Send(&controlv1.AgentMessage{Body: &controlv1.AgentMessage_PortStatus{PortStatus: status}}); err != nil {
			return fmt.Errorf("tell control node of port %s: %w", id, err)
		}
		return nil
	}
	for {
		began := time.Now()
		ports, changed := s.ports()
		for id, now := range ports {
			if told[id] == now.sequence || now.state == controlv1.PortStatus_STATE_UNSPECIFIED {
				continue
			}
			if err := send(id, now); err != nil {
				return err
			}
			told[id] = now.sequence
		}
		for id := range told {
			if _, exists := ports[id]; exists {
				continue
			}
			if err := send(id, portWord{state: controlv1.PortStatus_STATE_DOWN, sequence: s.sequence.next()}); err != nil {
				return err
			}
			delete(told, id)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(graphRest*time.Since(began), longestGraphRest)):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
