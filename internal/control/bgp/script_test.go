package bgp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// loopback is the network of scripted peers: the speaker listens on 127.0.0.1,
// and what it dials comes out of dialed.
type loopback struct {
	addr   chan string
	dialed chan net.Conn
}

func (n *loopback) Listen(ctx context.Context, c *net.ListenConfig, network, _ string) (net.Listener, error) {
	l, err := c.Listen(ctx, network, "127.0.0.1:0")
	if err == nil {
		n.addr <- l.Addr().String()
	}
	return l, err
}

func (n *loopback) Dial(ctx context.Context, d *net.Dialer, network, _ string) (net.Conn, error) {
	l, err := net.Listen(network, "127.0.0.2:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	c, err := d.DialContext(ctx, network, l.Addr().String())
	if err != nil {
		return nil, err
	}
	theirs, err := l.Accept()
	if err != nil {
		return nil, err
	}
	select {
	case n.dialed <- theirs:
		return c, nil
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), c.Close(), theirs.Close())
	}
}

type script struct {
	t    *testing.T
	sp   *Speaker
	addr string
	net  *loopback
}

// scripted runs a speaker for tests that play its peers.
func scripted(t *testing.T, peers map[string]PeerConfig, changes ...func(*Config)) *script {
	t.Helper()
	n := &loopback{make(chan string, 1), make(chan net.Conn)}
	c := Config{
		AS: 64512, RouterID: netip.MustParseAddr("10.0.0.5"), Network: n,
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:179")},
	}
	for _, change := range changes {
		change(&c)
	}
	sp, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sp.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	s := &script{t, sp, <-n.addr, n}
	for name, err := range sp.SetPeers(peers) {
		t.Fatalf("%s: %v", name, err)
	}
	return s
}

// wire is the peer's end of a connection.
type wireEnd struct {
	t *testing.T
	net.Conn
}

// from connects from an address, as soon as the speaker runs.
func (s *script) from(addr string) *wireEnd {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	c, err := d.Dial("tcp4", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	return wrap(s.t, c)
}

func wrap(t *testing.T, c net.Conn) *wireEnd {
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &wireEnd{t, c}
}

func (w *wireEnd) send(b []byte) {
	w.t.Helper()
	if _, err := w.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

// next reads a message; of kind 0 is the end of the connection.
func (w *wireEnd) next() (kind byte, body []byte) {
	w.t.Helper()
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(w, head); err != nil {
		return 0, nil
	}
	body = make([]byte, int(binary.BigEndian.Uint16(head[16:]))-headerSize)
	if _, err := io.ReadFull(w, body); err != nil {
		return 0, nil
	}
	return head[18], body
}

// expect skips keepalives and updates to a message of a kind.
func (w *wireEnd) expect(kind byte) []byte {
	w.t.Helper()
	for {
		got, body := w.next()
		if got == kind {
			return body
		}
		if got == 0 || got == msgNotify {
			w.t.Fatalf("message %d (% x) instead of %d", got, body, kind)
		}
	}
}

// notified skips to a NOTIFICATION and checks its codes.
func (w *wireEnd) notified(code, subcode byte) {
	w.t.Helper()
	for {
		kind, body := w.next()
		if kind == 0 {
			w.t.Fatalf("the connection ended without NOTIFICATION %d/%d", code, subcode)
		}
		if kind == msgNotify {
			if body[0] != code || body[1] != subcode {
				w.t.Fatalf("NOTIFICATION %d/%d (%v), want %d/%d", body[0], body[1], &Notification{body[0], body[1], body[2:]}, code, subcode)
			}
			return
		}
	}
}

// openOf makes a peer's OPEN.
func openOf(t *testing.T, as uint32, id string, hold uint16, fams ...Family) []byte {
	t.Helper()
	return openWith(t, as, id, hold, nil, fams...)
}

// openWith has more capabilities.
func openWith(t *testing.T, as uint32, id string, hold uint16, more []packet.ParameterCapabilityInterface, fams ...Family) []byte {
	t.Helper()
	caps := []packet.ParameterCapabilityInterface{packet.NewCapFourOctetASNumber(as)}
	for _, f := range fams {
		caps = append(caps, packet.NewCapMultiProtocol(packet.Family(f)))
	}
	caps = append(caps, more...)
	m, err := packet.NewBGPOpenMessage(uint16(min(as, asTrans)), hold, netip.MustParseAddr(id),
		[]packet.OptionParameterInterface{packet.NewOptionParameterCapability(caps)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// establish goes through the handshake.
func (w *wireEnd) establish(open []byte) {
	w.t.Helper()
	w.send(open)
	w.expect(msgOpen)
	w.send(keepalive)
	w.expect(msgAlive)
}

// poll waits for a condition; what it returns is why not yet.
func (s *script) poll(what string, f func() string) {
	s.t.Helper()
	why := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if why = f(); why == "" {
			return
		}
	}
	s.t.Fatalf("%s: %s", what, why)
}

func (s *script) state(name string, want State) {
	s.t.Helper()
	s.poll("state of "+name, func() string {
		for _, p := range s.sp.Peers() {
			if p.Name == name && p.State == want {
				return ""
			}
		}
		return fmt.Sprintf("%+v", s.sp.Peers())
	})
}
