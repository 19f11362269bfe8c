//go:build net

package bgp

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// siege is a speaker with a session with gobgpd, and a namespace beside it whose
// address is that of another peer, from which everything comes.
type siege struct {
	*lab
	gobgpd gobgpd
	ns     *nstest.NS
	peers  map[string]PeerConfig
	before PeerState
	heap   uint64
	routes int
}

const siegeAS = 65001 // that of goodAttrs

func newSiege(t *testing.T) *siege {
	s := &siege{lab: newLab(t, nil)}
	s.gobgpd = s.lab.gobgpd(1, allFamilies...)
	s.ns = s.link(3, "hostile")
	s.peers = map[string]PeerConfig{"gobgpd": gobgpdPeer(1), "hostile": {
		Addr: theirs(3), AS: siegeAS, Families: []Family{Inet, VPNv4, RTC}, Passive: true, MaxPrefixes: 50_000, RestartAfter: time.Second,
	}}
	s.setPeers(s.peers)
	s.before = s.up("gobgpd")
	eventually(t, "VRF", func() string { return s.gobgpd.gobgp("vrf add red rd 64512:9 rt both 64512:100") })
	s.heap = heap()
	return s
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// calm checks that nobody else was disturbed: the other session is the same, a
// route gets there at once, and the memory is as it was, about.
func (s *siege) calm(t *testing.T) {
	t.Helper()
	s.routes++
	prefix := fmt.Sprintf("10.1.%d.4/32", s.routes)
	began := time.Now()
	if err := s.sp.Put(vpnRoute(RDFromAddr(netip.MustParseAddr("10.99.0.7"), 3), prefix, 1001, ourAttrs)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "our route in gobgpd", func() string { return contains(s.gobgpd.gobgp("global rib -a vpnv4"), prefix) })
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("a route takes %s to another peer", took)
	}
	if now := s.peer("gobgpd"); now.State != Established || !now.Since.Equal(s.before.Since) {
		t.Errorf("the session with gobgpd began anew: %+v", now)
	}
	var grown uint64
	eventually(t, "memory", func() string {
		if now := heap(); now > s.heap {
			grown = now - s.heap
		}
		if grown > 100<<20 {
			return fmt.Sprintf("%d MiB more than before", grown>>20)
		}
		return ""
	})
}

// connect is a connection from the hostile address.
func (s *siege) connect(t *testing.T) *wireEnd {
	t.Helper()
	c, err := s.ns.Dial(context.Background(), &net.Dialer{Timeout: 10 * time.Second}, "tcp4", "10.99.3.1:179")
	if err != nil {
		t.Fatal(err)
	}
	return wrap(t, c)
}

// begin is a connection that is answered, as soon as there may be one.
func (s *siege) begin(t *testing.T) *wireEnd {
	t.Helper()
	var w *wireEnd
	eventually(t, "connection", func() string {
		w = s.connect(t)
		if kind, body := w.next(); kind != msgOpen {
			w.Close()
			return fmt.Sprintf("message %d (% x)", kind, body)
		}
		return ""
	})
	return w
}

// session is an established one, once the end of the one before is known.
func (s *siege) session(t *testing.T, open []byte) *wireEnd {
	t.Helper()
	var w *wireEnd
	eventually(t, "session", func() string {
		w = s.begin(t)
		w.Write(open)
		w.Write(keepalive)
		if kind, body := w.next(); kind != msgAlive {
			w.Close()
			return fmt.Sprintf("message %d (% x)", kind, body)
		}
		return ""
	})
	return w
}

// TestNetHostilePeer has a peer that does all that it must not. Other sessions
// do not notice, and the memory is bounded.
func TestNetHostilePeer(t *testing.T) {
	s := newSiege(t)
	open := openOf(t, siegeAS, "10.0.0.9", 90, Inet, VPNv4, RTC)
	t.Run("hundreds of connections", func(t *testing.T) {
		for range 400 {
			s.connect(t)
		}
		if n := s.connections(); n > 2 {
			t.Errorf("%d connections are kept", n)
		}
		s.calm(t)
	})
	t.Run("hundreds of connections of a stranger", func(t *testing.T) {
		s.ns.Up("eth0", netip.MustParsePrefix("10.99.3.3/24"))
		for range 400 {
			d := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("10.99.3.3:0"))}
			c, err := s.ns.Dial(context.Background(), d, "tcp4", "10.99.3.1:179")
			if err != nil {
				t.Fatal(err)
			}
			if kind, _ := wrap(t, c).next(); kind != 0 {
				t.Fatal("a stranger is answered")
			}
		}
		s.calm(t)
	})
	t.Run("a byte at a time", func(t *testing.T) {
		w := s.begin(t)
		for _, b := range open[:25] {
			w.send([]byte{b})
			time.Sleep(20 * time.Millisecond) // the peer's pace
		}
		s.calm(t)
	})
	t.Run("flapping", func(t *testing.T) {
		flaps := s.peer("hostile").Flaps
		began := time.Now()
		for range 300 {
			w := s.connect(t)
			w.Write(open)
			w.Write(keepalive)
			w.Write(inetUpdate(goodAttrs(), testRoute...))
			w.Close()
		}
		most := mostArrivals + int(time.Since(began)/time.Second) + 1
		if n := s.peer("hostile").Flaps - flaps; n > most {
			t.Errorf("%d sessions in %s, want at most %d", n, time.Since(began), most)
		}
		s.calm(t)
	})
	t.Run("collisions", func(t *testing.T) { s.collide(t, open) })
	t.Run("more routes than allowed", func(t *testing.T) {
		for range 2 { // it comes again after a second, as configured
			w := s.session(t, open)
			for n := 0; n <= 50_000; n += 500 {
				var pack []byte
				for i := range 500 {
					pack = append(pack, numbered(n+i)...)
				}
				if _, err := w.Write(inetUpdate(goodAttrs(), pack...)); err != nil {
					break
				}
			}
			w.notified(codeCease, ceaseMaxPrefixes)
		}
		s.calm(t)
	})
	t.Run("routes that come and go", func(t *testing.T) {
		w := s.session(t, open)
		for n := 0; n < 1<<20; n += 250 {
			var pack [][]byte
			for i := range 250 {
				pack = append(pack, numbered(n+i))
			}
			w.send(appendWithdrawals(inetUpdate(goodAttrs(), bytes.Join(pack, nil)...), pack...))
		}
		s.calm(t)
		w.Close()
	})
	t.Run("malformed updates", func(t *testing.T) { s.malformed(t, open) })
	t.Run("bytes without sense", func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		for range 12 {
			w := s.session(t, open)
			junk := make([]byte, 2000)
			for i := range junk {
				junk[i] = byte(random.Uint32())
			}
			if random.IntN(2) == 0 {
				copy(junk, appendHeader(nil, len(junk), msgUpdate))
			}
			w.Write(junk)
			w.Close()
		}
		s.calm(t)
	})
}

func (s *siege) connections() int {
	p := s.sp.peer("hostile")
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// collide has the speaker connect to a peer that takes its connections and
// connects itself at the same time, from both sides with the higher identifier.
func (s *siege) collide(t *testing.T, open []byte) {
	active := s.peers["hostile"]
	active.Passive, active.Retry = false, 20*time.Millisecond
	l, err := s.ns.Listen(context.Background(), &net.ListenConfig{}, "tcp4", "10.99.3.2:179")
	if err != nil {
		t.Fatal(err)
	}
	var taking sync.WaitGroup
	taking.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write(open)
			time.AfterFunc(100*time.Millisecond, func() { c.Close() })
		}
	})
	s.setPeers(map[string]PeerConfig{"gobgpd": s.peers["gobgpd"], "hostile": active})
	for n := range 100 {
		w := s.connect(t)
		w.Write(openOf(t, siegeAS, []string{"10.99.0.0", "10.99.0.9"}[n%2], 90, Inet, VPNv4, RTC))
		w.Write(keepalive)
	}
	if n := s.connections(); n > 3 {
		t.Errorf("%d connections are kept", n)
	}
	l.Close()
	taking.Wait()
	s.setPeers(s.peers)
	s.calm(t)
}

// malformed sends each attribute with lengths that it must not have, or with
// flags, and each cut off. The session stays, or ends with the reason.
func (s *siege) malformed(t *testing.T, open []byte) {
	w := s.session(t, open)
	ended := 0
	send := func(attrs []byte) {
		t.Helper()
		w.Write(inetUpdate(append(goodAttrs(), attrs...), testRoute...))
	}
	for kind := range 256 {
		for _, size := range []int{0, 1, 3, 4, 7, 17, 255, 300} {
			flags := byte(flagOptional | flagTransitive | flagExtended)
			if size%2 == 0 && (kind < 40 || kind == 200) { // as one that all must know
				flags = flagTransitive | flagExtended
			}
			value := bytes.Repeat([]byte{byte(kind)}, size)
			attr := append([]byte{flags, byte(kind), byte(size >> 8), byte(size)}, value...)
			send(attr)
			send(attr[:len(attr)-size/2])
		}
		// It may have ended; then for a reason that it was told.
		if st := s.peer("hostile"); st.State != Established {
			ended++
			w.Close()
			w = s.session(t, open)
		}
	}
	t.Logf("%d sessions ended, last for %q; counters %+v", ended, s.peer("hostile").LastErr, s.peer("hostile").Counters)
	s.calm(t)
	w.Close()
}
