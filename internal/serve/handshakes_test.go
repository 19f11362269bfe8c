package serve

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

func testCredentials(t *testing.T, role string) *ctls.Credentials {
	t.Helper()
	ca, err := ctls.OpenAuthority(filepath.Join(t.TempDir(), "ca"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), role)
	if err := ca.Issue(dir, role, ""); err != nil {
		t.Fatal(err)
	}
	c, err := ctls.LoadCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Hundreds that come at once all shake hands, although strangers hold turns:
// those say nothing, or go no further than the first message.
func TestHandshakesInTurn(t *testing.T) {
	credentials := testCredentials(t, ctls.RoleController)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newHandshakes(slog.New(slog.DiscardHandler), raw, credentials.Server())
	defer l.Close()
	address := raw.Addr().String()
	for range 2 * cap(l.turns.all) {
		silent, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		stick(t, address, "127.0.0.1")
	}
	const clients = 64
	var group errgroup.Group
	for range clients {
		group.Go(func() error {
			c, err := tls.Dial("tcp", address, credentials.Client("", ctls.RoleController))
			if err != nil {
				return err
			}
			return c.Close()
		})
	}
	for range clients {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if !c.(*tls.Conn).ConnectionState().HandshakeComplete {
			t.Error("a connection was given out that has not shaken hands")
		}
		c.Close()
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// Who begins handshakes and does not go on keeps others of his address waiting,
// and those of no other one.
func TestHandshakesOfStrangers(t *testing.T) {
	credentials := testCredentials(t, ctls.RoleController)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newHandshakes(slog.New(slog.DiscardHandler), raw, credentials.Server())
	l.turns = newTurns(4)
	accepted := make(chan net.Conn, 1)
	var accepting sync.WaitGroup
	defer accepting.Wait()
	defer l.Close()
	accepting.Go(func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	})
	// With one turn a second for each, all of these would take 20 seconds.
	strangers := 20 * l.turns.each
	for range strangers {
		stick(t, raw.Addr().String(), "127.0.0.2")
	}
	for deadline := time.Now().Add(10 * time.Second); len(l.pending) < strangers; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d strangers are waited for", len(l.pending), strangers)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := (&tls.Dialer{Config: credentials.Client("", ctls.RoleController)}).DialContext(ctx, "tcp", raw.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	(<-accepted).Close()
	l.Close()
	if len(l.turns.of) > 0 || len(l.turns.all) > 0 {
		t.Errorf("left are the addresses %v and %d turns", l.turns.of, len(l.turns.all))
	}
}

// Who connects and says nothing keeps those of no other address out, however many
// connections he has.
func TestHandshakesOfTheSilent(t *testing.T) {
	credentials := testCredentials(t, ctls.RoleController)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newHandshakes(slog.New(slog.DiscardHandler), raw, credentials.Server())
	l.pending = make(chan struct{}, 16)
	accepted := make(chan net.Conn, 1)
	var accepting sync.WaitGroup
	defer accepting.Wait()
	defer l.Close()
	accepting.Go(func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	})
	for range 2 * cap(l.pending) {
		silent, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}}).Dial("tcp", raw.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), helloTime/2)
	defer cancel()
	c, err := (&tls.Dialer{Config: credentials.Client("", ctls.RoleController)}).DialContext(ctx, "tcp", raw.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	(<-accepted).Close()
}

// stick begins a handshake: the client's first message goes out, the server's
// answer is not read.
func stick(t *testing.T, address, from string) {
	t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	go tls.Client(writeOnly{conn}, config).Handshake() //nolint:errcheck // ends with the connection
}

// Nothing is taken before somebody serves, and a listener that nobody served
// ends, too.
func TestHandshakesBegin(t *testing.T) {
	credentials := testCredentials(t, ctls.RoleController)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newHandshakes(slog.New(slog.DiscardHandler), raw, credentials.Server())
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if c, err := (&tls.Dialer{Config: credentials.Client("", ctls.RoleController)}).DialContext(ctx, "tcp", raw.Addr().String()); err == nil {
		c.Close()
		t.Error("a handshake before somebody serves")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := l.Accept(); c != nil || !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after the end: %v, %v", c, err)
	}
}

// flaky is a listener that has no descriptors at first, and breaks in the end.
type flaky struct {
	net.Listener
	errs []error
}

func (f *flaky) Accept() (net.Conn, error) {
	if len(f.errs) == 0 {
		return f.Listener.Accept()
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

// A listener that has no descriptors for a moment goes on and says so; one that
// is broken says why to who serves.
func TestHandshakesOfBrokenListener(t *testing.T) {
	credentials := testCredentials(t, ctls.RoleController)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	broken := errors.New("broken")
	l := newHandshakes(slog.New(slog.NewTextHandler(&said, nil)), &flaky{raw, []error{unix.EMFILE, unix.EMFILE, broken}}, credentials.Server())
	defer l.Close()
	if _, err := l.Accept(); !errors.Is(err, broken) {
		t.Errorf("accept: %v, want %v", err, broken)
	}
	if n := strings.Count(said.String(), unix.EMFILE.Error()); n != 2 {
		t.Errorf("the log has %d lines about descriptors, want 2:\n%s", n, said.String())
	}
}

// writeOnly is a connection whose other side says nothing.
type writeOnly struct{ net.Conn }

// Read implements net.Conn: it waits until the connection is closed.
func (w writeOnly) Read(p []byte) (int, error) {
	var end [1]byte
	for {
		if _, err := w.Conn.Read(end[:]); err != nil {
			return 0, err
		}
	}
}

func TestHandshakeWithHTTP(t *testing.T) {
	address := freeAddress(t)
	start(t, Config{TLS: address, Credentials: testCredentials(t, ctls.RoleController)})
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "HTTPS") {
		t.Errorf("who speaks HTTP is told %s: %s", response.Status, body)
	}
}
