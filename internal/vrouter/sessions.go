package vrouter

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

const (
	// wanted is how many good control nodes an agent has sessions with.
	wanted = 2
	// hope is how long a session may take to begin, and patience then how long
	// to catch up, before another is begun beside it.
	hope, patience = 2 * time.Second, 30 * time.Second
	// spread is within which time the agents of a control node that was lost
	// go to another one, if they have a second session to live on.
	spread = time.Second
	// returns is after about which time a control node that was left is tried
	// again.
	returns = 15 * time.Second
)

var (
	errLeft    = errors.New("the control node is left for another one")
	errSurplus = errors.New("there are enough others, which come first for this node")
)

// sessions keeps sessions with two of the control nodes: the first two that are
// good, in an order that each node has of its own.
//
// A control node is good when it has told all that is believed here, hears from
// the store, and is not behind the others. One that is not good is left only
// when there are two others; until then its word is as good as any.
type sessions struct {
	log     *slog.Logger
	node    string
	bootID  string
	routing *routing
	// configured are the control nodes to begin with; dial makes the client of
	// any.
	configured []string
	dial       dialer
	// ports returns the ports with what control is to know of them (unspecified
	// is nothing new), and a channel that is closed when they change.
	ports    func() (map[string]portWord, <-chan struct{})
	sequence *sequence
	// bgpChanged is told, with no lock held, when other control nodes take BGP
	// sessions than before.
	bgpChanged func()
	// changed has the sessions arranged anew.
	changed chan struct{}

	mu    sync.Mutex
	peers []*controlPeer // in the node's order
	// hold is until when no session begins with a control node that is not
	// urgently needed.
	hold time.Time
}

// rank orders the control nodes for one node, so that each of them is first,
// and second, for as many nodes as any other, and that the rest of the order
// stays when one is added or removed.
func rank(node string, addresses []string) []string {
	weight := func(address string) uint64 {
		sum := sha256.Sum256([]byte(node + " " + address))
		return binary.BigEndian.Uint64(sum[:])
	}
	ranked := slices.Clone(addresses)
	slices.SortFunc(ranked, func(a, b string) int { return cmp.Compare(weight(b), weight(a)) })
	return slices.Compact(ranked)
}

// run keeps the sessions until ctx ends. Forwarding goes on without any.
func (s *sessions) run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		s.arrange(ctx, &running)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.changed:
		case <-ticker.C:
		}
	}
}

// arrange begins and ends sessions as plan has it.
func (s *sessions) arrange(ctx context.Context, running *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	candidates := make([]candidate, len(s.peers))
	for i, p := range s.peers {
		candidates[i] = s.candidate(p, now)
	}
	begin, end := plan(candidates, now.Before(s.hold))
	for _, i := range begin {
		peer := s.peers[i]
		peerCtx, cancel := context.WithCancelCause(ctx)
		peer.end = cancel
		peer.state.Since = now
		running.Go(func() {
			s.ended(peer, s.session(peerCtx, peer), context.Cause(peerCtx))
			cancel(nil)
		})
	}
	for _, i := range end {
		if candidates[i].bad {
			s.peers[i].end(errLeft)
		} else {
			s.peers[i].end(errSurplus)
		}
	}
}

// candidate is a control node as plan sees it.
type candidate struct {
	// running: there is a session, or one is being begun.
	running bool
	// good: it is caught up and nothing is wrong with its control node.
	good, bad, leads bool
	// young: the session has not had the time to become good.
	young bool
	// ready: a session may begin.
	ready bool
}

func (s *sessions) candidate(p *controlPeer, now time.Time) candidate {
	c := candidate{running: p.end != nil, ready: !now.Before(p.retry)}
	if !c.running {
		return c
	}
	c.young = now.Sub(p.state.Since) < hope
	if p.view != nil {
		c.young = now.Sub(p.state.Since) < patience
		standing := s.routing.standing(p.view)
		c.bad, c.leads = standing.bad != "", standing.leads
		c.good = standing.complete && !c.bad
	}
	return c
}

// plan tells with which control nodes, given in their order, sessions are to
// begin and to end. hold defers what can wait.
func plan(peers []candidate, hold bool) (begin, end []int) {
	var good, running []int
	hopeful := 0
	for i, p := range peers {
		if p.running {
			running = append(running, i)
		}
		switch {
		case p.good:
			good = append(good, i)
		case p.running && p.young && !p.bad:
			hopeful++
		}
	}
	if len(good) >= wanted {
		last := good[wanted-1]
		for i, p := range peers {
			switch {
			case p.running && (i > last || p.bad):
				end = append(end, i)
			case !p.running && p.ready && i < last: // comes back
				begin = append(begin, i)
			}
		}
		return begin, end
	}
	total := len(running)
	for i, p := range peers {
		if p.running || !p.ready || hopeful+len(good) >= wanted || hold && len(good) > 0 {
			continue
		}
		if total > wanted { // room for one more than wanted, no more
			if worst := worstOf(peers); worst >= 0 {
				end = append(end, worst)
			}
			break
		}
		begin = append(begin, i)
		hopeful++
		total++
	}
	return begin, end
}

// worstOf is a session that can be ended to try another control node: not a
// good one, nor the one that is believed. The last in order, or -1.
func worstOf(peers []candidate) int {
	for i, p := range slices.Backward(peers) {
		if p.running && !p.good && !p.young && !p.leads {
			return i
		}
	}
	return -1
}

// ended notes the end of a session.
func (s *sessions) ended(peer *controlPeer, err, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	begun, after := peer.state.Connected, now.Sub(peer.state.Since).Round(time.Millisecond)
	peer.earlier = s.routing.last(peer.view, peer.earlier)
	peer.end, peer.view, peer.bgp = nil, nil, netip.Addr{}
	s.regroup()
	peer.state = sessionState{Peer: peer.address, Since: now}
	if err != nil {
		peer.state.Error = err.Error()
	}
	if errors.Is(cause, errLeft) || errors.Is(cause, errSurplus) {
		s.log.Info("control session given up", "peer", peer.address, "after", after, "reason", cause)
		peer.failures, peer.retry = 0, now.Add(returns+rand.N(returns))
		s.poke()
		return
	}
	switch {
	case begun:
		s.log.Warn("control session ended; forwarding goes on", "peer", peer.address, "after", after, "error", err)
		peer.failures = 0
		s.hold = now.Add(rand.N(spread))
	case peer.failures == 0:
		s.log.Warn("control node cannot be reached and is tried again; forwarding goes on", "peer", peer.address, "error", err)
	}
	peer.retry = now.Add(reconcile.Backoff(peer.failures, 100*time.Millisecond, 5*time.Second))
	peer.failures++
	s.poke()
}

func (s *sessions) poke() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// all are the sessions with all control nodes, in the node's order.
func (s *sessions) all() []sessionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := make([]sessionState, len(s.peers))
	for i, p := range s.peers {
		states[i] = p.state
		if p.view == nil {
			continue
		}
		standing := s.routing.standing(p.view)
		states[i].CaughtUp, states[i].Leads, states[i].Bad = standing.complete, standing.leads, standing.bad
		states[i].Epoch, states[i].Revision = standing.position.GetEpoch(), standing.position.GetRevision()
	}
	return states
}
