// Package linetest puts a line in front of the unix socket of a store, which
// tests cut, or on which they lose what goes one way. It knows nothing of the
// store, whose own tests use it, too.
package linetest

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Line is a unix socket that passes on to another. Its methods are safe for
// concurrent use.
type Line struct {
	// Endpoint is its own, as clients name it.
	Endpoint string

	target string
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	// down is set while no connection is taken.
	down bool
	// noRequests and noAnswers are set while these are not passed on.
	noRequests, noAnswers bool
	// lost are the requests that were not passed on.
	lost bytes.Buffer
}

const scheme = "unix://"

// New returns a line to the endpoint of a store, "unix://PATH". It ends with
// the test, after the clean-ups that the test registers later.
func New(t testing.TB, endpoint string) *Line {
	t.Helper()
	dir, err := os.MkdirTemp("", "line") // a test's own is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l := &Line{Endpoint: scheme + path, target: strings.TrimPrefix(endpoint, scheme), conns: map[net.Conn]bool{}}
	l.wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			l.connect(c)
		}
	})
	t.Cleanup(func() {
		listener.Close()
		l.Cut()
		l.wg.Wait()
		os.RemoveAll(dir)
	})
	return l
}

func (l *Line) connect(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		c.Close()
		return
	}
	up, err := net.Dial("unix", l.target)
	if err != nil {
		c.Close()
		return
	}
	l.conns[c], l.conns[up] = true, true
	l.wg.Go(func() { l.pass(c, up, &l.noRequests) })
	l.wg.Go(func() { l.pass(up, c, &l.noAnswers) })
}

func (l *Line) pass(from, to net.Conn, blocked *bool) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		l.mu.Lock()
		drop := *blocked
		if drop && blocked == &l.noRequests {
			l.lost.Write(buf[:n])
		}
		l.mu.Unlock()
		if drop {
			continue // what is lost is lost: the connection is of no use any more
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// Block loses requests or answers from now on.
func (l *Line) Block(requests, answers bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noRequests, l.noAnswers = requests, answers
	l.lost.Reset()
}

// AwaitLost waits until a request with a text was lost.
func (l *Line) AwaitLost(t testing.TB, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		lost := l.lost.Bytes()
		found, size := bytes.Contains(lost, []byte(text)), len(lost)
		l.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no request with %q in the %d bytes that were lost", text, size)
		}
	}
}

// Cut ends all connections, and takes none until Restore.
func (l *Line) Cut() { l.end(true) }

// Reset ends all connections; what comes on new ones passes.
func (l *Line) Reset() { l.end(false) }

func (l *Line) end(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.noRequests, l.noAnswers = down, false, false
	for c := range l.conns {
		c.Close()
	}
	clear(l.conns)
}

// Restore takes connections again.
func (l *Line) Restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}
