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
	// turnsEach is how many clients of one address have their turn at the same
	// time, for each CPU.
	turnsEach = 16
	// maxHandshakes is how many clients are waited for, half of them of one address
	// at the most. More wait in the kernel.
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
	turns  *turns
	// pending has an element for each connection that has not shaken hands.
	pending chan struct{}
	// started is done when connections are taken, or never will be.
	started sync.Once
	running sync.WaitGroup
	// troubles bounds the lines of the log about connections that were not taken.
	troubles Limiter
	// failed is why the listener accepts no more.
	failed error
}

func newHandshakes(log *slog.Logger, l net.Listener, config *tls.Config) *handshakes {
	h := &handshakes{
		Listener: l, log: log, config: inTurn(config), done: make(chan *tls.Conn),
		turns: newTurns(turnsEach * runtime.GOMAXPROCS(0)), pending: make(chan struct{}, maxHandshakes),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// Accept implements net.Listener. Connections are taken from the first call on:
// until somebody serves, clients wait in the kernel, without a handshake after
// which they would expect answers.
func (h *handshakes) Accept() (net.Conn, error) {
	h.started.Do(func() { h.running.Go(h.run) })
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
	h.started.Do(func() { h.failed = net.ErrClosed })
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
			if silent, ok := h.troubles.Admit(time.Now()); ok {
				h.log.Warn("connection not taken", "error", err, "not_logged", silent)
			}
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
	source, conns, leave := h.turns.join(raw)
	defer leave()
	// Who says nothing is waited for as well, but not instead of all others.
	if conns > cap(h.pending)/2 {
		h.refuse(raw, errors.New("too many connections of one address have not shaken hands"))
		return
	}
	t := &handshake{conn: raw, turns: h.turns, source: source, release: func() {}}
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
