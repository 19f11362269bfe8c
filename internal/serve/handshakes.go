package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"
)

const (
	// helloTime is how long a client may take to begin a handshake, and again
	// to end it when it is his turn. queueTime is the longest wait for that.
	helloTime, queueTime = 10 * time.Second, 30 * time.Second
	// handshakeTurn is how long a handshake has its turn at the longest: a client
	// that does not go on holds up nobody.
	handshakeTurn = time.Second
	// maxHandshakes is how many clients are waited for. More wait in the kernel.
	maxHandshakes = 8192
)

// handshakes is a listener of TLS whose connections have shaken hands. A few
// do so at the same time, in the order in which they came: when thousands come
// at once, all at the same time would take so long for each that most clients,
// and the server, gave up before the end, and came again.
type handshakes struct {
	net.Listener
	log    *slog.Logger
	config *tls.Config
	ctx    context.Context
	cancel context.CancelFunc
	done   chan *tls.Conn
	// turns has an element for each handshake that has its turn, pending for
	// each connection that has not shaken hands.
	turns, pending chan struct{}
	running        sync.WaitGroup
	// failed is why the listener accepts no more.
	failed error
}

func newHandshakes(log *slog.Logger, l net.Listener, config *tls.Config) *handshakes {
	h := &handshakes{
		Listener: l, log: log, config: inTurn(config), done: make(chan *tls.Conn),
		turns: make(chan struct{}, 16*runtime.GOMAXPROCS(0)), pending: make(chan struct{}, maxHandshakes),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.running.Go(h.run)
	return h
}

// Accept implements net.Listener.
func (h *handshakes) Accept() (net.Conn, error) {
	select {
	case c := <-h.done:
		return c, nil
	case <-h.ctx.Done():
		h.running.Wait()
		return nil, h.failed
	}
}

// Close implements net.Listener. Handshakes that are under way fail.
func (h *handshakes) Close() error {
	err := h.Listener.Close()
	h.cancel()
	h.running.Wait()
	return err
}

func (h *handshakes) run() {
	defer h.cancel()
	for {
		select {
		case h.pending <- struct{}{}:
		case <-h.ctx.Done():
			h.failed = net.ErrClosed
			return
		}
		conn, err := h.Listener.Accept()
		var temporary interface{ Temporary() bool } // no descriptors left, as net/http has it
		switch {
		case errors.As(err, &temporary) && temporary.Temporary():
			<-h.pending
			select {
			case <-time.After(100 * time.Millisecond):
			case <-h.ctx.Done():
			}
		case err != nil:
			h.failed = err
			return
		default:
			h.running.Go(func() {
				defer func() { <-h.pending }()
				h.shake(conn)
			})
		}
	}
}

func (h *handshakes) shake(raw net.Conn) {
	t := &handshake{conn: raw, turns: h.turns, release: func() {}}
	ctx, cancel := context.WithTimeout(context.WithValue(h.ctx, handshakeKey{}, t), 2*helloTime+queueTime)
	defer cancel()
	_ = raw.SetDeadline(time.Now().Add(helloTime)) // what fails here fails below
	conn := tls.Server(raw, h.config)
	err := conn.HandshakeContext(ctx)
	t.release()
	if err != nil {
		h.refuse(raw, err)
		return
	}
	_ = raw.SetDeadline(time.Time{})
	select {
	case h.done <- conn:
	case <-h.ctx.Done():
		raw.Close()
	}
}

// refuse ends a connection without a handshake. Who speaks HTTP is told why.
func (h *handshakes) refuse(raw net.Conn, err error) {
	h.log.Debug("TLS handshake failed", "from", raw.RemoteAddr(), "error", err)
	var other tls.RecordHeaderError
	if errors.As(err, &other) && other.Conn != nil && other.RecordHeader[0] >= 'A' && other.RecordHeader[0] <= 'Z' {
		_, _ = io.WriteString(other.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks HTTPS only.\n")
	}
	raw.Close()
}

// handshake is one that is under way.
type handshake struct {
	conn    net.Conn
	turns   chan struct{}
	release func()
}

type handshakeKey struct{}

// inTurn has a handshake go on after the client's first message when it is its
// turn: from there on it costs a private key's work.
func inTurn(config *tls.Config) *tls.Config {
	inner := config.GetConfigForClient
	config = config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if t, ok := hello.Context().Value(handshakeKey{}).(*handshake); ok {
			if err := t.begin(hello.Context()); err != nil {
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

func (t *handshake) begin(ctx context.Context) error {
	late := time.NewTimer(queueTime)
	defer late.Stop()
	select {
	case t.turns <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		return errors.New("too many clients shake hands")
	}
	release := sync.OnceFunc(func() { <-t.turns })
	timer := time.AfterFunc(handshakeTurn, release)
	t.release = func() {
		timer.Stop()
		release()
	}
	return t.conn.SetDeadline(time.Now().Add(helloTime))
}
