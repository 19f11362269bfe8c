package serve

import (
	"bufio"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

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
	for range 2 * cap(l.turns) {
		silent, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		stuck, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer stuck.Close()
		// The client's first message goes out, the server's answer is not read.
		go tls.Client(writeOnly{stuck}, credentials.Client("", ctls.RoleController)).Handshake() //nolint:errcheck // ends with the connection
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
