package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// turns are had by a few handshakes at a time. One address has half of them at
// the most, so that who begins handshakes and does not go on keeps nobody else
// out.
type turns struct {
	all  chan struct{} // an element for each handshake that has its turn
	each int           // the most of one address

	mu sync.Mutex
	of map[netip.Addr]*source
}

// source is an address with connections that have not shaken hands.
type source struct {
	turns chan struct{}
	conns int
}

func newTurns(each int) *turns {
	return &turns{all: make(chan struct{}, 2*each), each: each, of: map[netip.Addr]*source{}}
}

// join returns the source of a connection, how many it has now, and leave, which is
// called when the connection has shaken hands.
func (t *turns) join(conn net.Conn) (s *source, conns int, leave func()) {
	var addr netip.Addr // of TCP; all others have one
	if at, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		addr = at.AddrPort().Addr().Unmap()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s = t.of[addr]; s == nil {
		s = &source{turns: make(chan struct{}, t.each)}
		t.of[addr] = s
	}
	s.conns++
	return s, s.conns, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if s.conns--; s.conns == 0 {
			delete(t.of, addr)
		}
	}
}

// handshake is one that is under way.
type handshake struct {
	conn    net.Conn
	turns   *turns
	source  *source
	release func()
}

type handshakeKey struct{}

// inTurn has a handshake go on after the client's first message when it is its
// turn: from there on it costs a private key's work.
func inTurn(config *tls.Config) *tls.Config {
	inner := config.GetConfigForClient
	config = config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if h, ok := hello.Context().Value(handshakeKey{}).(*handshake); ok {
			if err := h.begin(hello.Context()); err != nil {
				return nil, err
			}
		}
		if inner == nil {
			return nil, nil // this one
		}
		return inner(hello)
	}
	return config
}

// begin waits until it is the handshake's turn.
func (h *handshake) begin(ctx context.Context) error {
	late := time.NewTimer(queueTime)
	defer late.Stop()
	// Who waits for a turn of all has one of its address's: not the other way
	// round, or who waits for that would keep the others waiting.
	var taken []chan struct{}
	release := sync.OnceFunc(func() {
		for _, c := range taken {
			<-c
		}
	})
	for _, c := range []chan struct{}{h.source.turns, h.turns.all} {
		select {
		case c <- struct{}{}:
			taken = append(taken, c)
		case <-ctx.Done():
			release()
			return ctx.Err()
		case <-late.C:
			release()
			return errors.New("too many clients shake hands")
		}
	}
	timer := time.AfterFunc(handshakeTurn, release)
	h.release = func() {
		timer.Stop()
		release()
	}
	return h.conn.SetDeadline(time.Now().Add(helloTime))
}
