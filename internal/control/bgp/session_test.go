package bgp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/prometheus/client_golang/prometheus"
)

var passivePeer = PeerConfig{
	Addr: netip.MustParseAddr("127.0.0.2"), AS: 65001, Passive: true, Families: []Family{Inet, VPNv4},
}

func TestRefusedOpens(t *testing.T) {
	good := openOf(t, 65001, "10.0.0.9", 90, Inet)
	changed := func(at int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], v)
		return b
	}
	for _, tt := range []struct {
		name          string
		message       []byte
		code, subcode byte
	}{
		{"marker", changed(3, 0), codeHeader, headerNotSynced},
		{"length", changed(16, 0xff, 0xff), codeHeader, headerLength},
		{"type", changed(18, 9), codeHeader, headerType},
		{"version", changed(headerSize, 3), codeOpen, openVersion},
		{"hold time", changed(headerSize+3, 0, 1), codeOpen, openHoldTime},
		{"identifier", changed(headerSize+5, 0, 0, 0, 0), codeOpen, openIdentifier},
		{"AS", openOf(t, 65002, "10.0.0.9", 90, Inet), codeOpen, openPeerAS},
		{"families", openOf(t, 65001, "10.0.0.9", 90, EVPN), codeOpen, openCapability},
		{"other message", keepalive, codeFSM, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := scripted(t, map[string]PeerConfig{"a": passivePeer})
			w := s.from("127.0.0.2")
			w.send(tt.message)
			w.notified(tt.code, tt.subcode)
			s.poll("last error", func() string {
				if st := s.sp.Peers()[0]; st.LastErr == "" || st.State != Active {
					return fmt.Sprintf("%+v", st)
				}
				return ""
			})
			// It may come again, and be right.
			w = s.from("127.0.0.2")
			w.establish(good)
			s.state("a", Established)
		})
	}
}

func TestStrangerIsNotAnswered(t *testing.T) {
	s := scripted(t, map[string]PeerConfig{"a": passivePeer})
	if kind, body := s.from("127.0.0.3").next(); kind != 0 {
		t.Errorf("message %d (% x)", kind, body)
	}
}

// TestCollision has a connection from each side at once: the one lives that
// the side with the higher identifier began.
func TestCollision(t *testing.T) {
	for _, tt := range []struct {
		id       string
		outgoing bool // the speaker's lives
	}{{"10.0.0.4", true}, {"10.0.0.6", false}} {
		t.Run(tt.id, func(t *testing.T) {
			c := passivePeer
			c.Passive, c.Retry = false, time.Second
			s := scripted(t, map[string]PeerConfig{"a": c})
			theirs := wrap(t, <-s.net.dialed)
			own := s.from("127.0.0.2")
			open := openOf(t, 65001, tt.id, 90, Inet)
			for _, w := range []*wireEnd{theirs, own} {
				w.expect(msgOpen)
				w.send(open)
				if w == theirs { // known there before the other one's OPEN comes
					w.expect(msgAlive)
				}
			}
			lives, dies := own, theirs
			if tt.outgoing {
				lives, dies = theirs, own
			}
			dies.notified(codeCease, ceaseCollision)
			lives.send(keepalive)
			s.state("a", Established)
			if st := s.sp.Peers()[0]; st.Outgoing != tt.outgoing {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestHoldTimer(t *testing.T) {
	s := scripted(t, map[string]PeerConfig{"a": passivePeer})
	w := s.from("127.0.0.2")
	w.establish(openOf(t, 65001, "10.0.0.9", 3, Inet))
	w.expect(msgAlive) // it keeps the session, we do not
	w.notified(codeHold, 0)
	s.state("a", Active)
}

// attrsOf makes attributes of a route of AS 65001, in the order given.
func attrsOf(more ...string) []byte {
	return unhex("400101" + "00" + "400206" + "02010000fde9" + "400304" + "7f000002" + strings.Join(more, ""))
}

func inetUpdate(attrs []byte, routes ...byte) []byte {
	b := appendHeader(nil, headerSize+4+len(attrs)+len(routes), msgUpdate)
	b = binary.BigEndian.AppendUint16(append(b, 0, 0), uint16(len(attrs)))
	return append(append(b, attrs...), routes...)
}

// TestMalformedUpdates checks the action of RFC 7606 for each: the route is
// withdrawn and the session goes on, an attribute is left out, or the session
// ends.
func TestMalformedUpdates(t *testing.T) {
	route := []byte{24, 10, 1, 2}
	id := PrefixNLRI(netip.MustParsePrefix("10.1.2.0/24"))
	// Loopback addresses are no next hops; the scripted peer has another.
	attrs := func(more ...string) []byte {
		return bytes.Replace(attrsOf(more...), unhex("7f000002"), unhex("0a630002"), 1)
	}
	for _, tt := range []struct {
		name          string
		update        []byte
		keeps         bool
		code, subcode byte
	}{
		{name: "as before", update: inetUpdate(attrs(), route...), keeps: true},
		{name: "origin 3", update: inetUpdate(append(unhex("40010103"), attrs()[4:]...), route...)},
		{name: "no origin", update: inetUpdate(attrs()[4:], route...)},
		{name: "origin flags", update: inetUpdate(append(unhex("c0010100"), attrs()[4:]...), route...)},
		{name: "no next hop", update: inetUpdate(attrs()[:13], route...)},
		{name: "next hop 127.0.0.2", update: inetUpdate(attrsOf(), route...)},
		{name: "AS path cut", update: inetUpdate(append(attrs()[:4], unhex("400203020100"+"4003040a630002")...), route...)},
		{name: "confederation", update: inetUpdate(append(attrs()[:4], unhex("400206"+"03010000fde9"+"4003040a630002")...), route...)},
		{name: "AS 0", update: inetUpdate(append(attrs()[:4], unhex("40020a"+"02020000fde900000000"+"4003040a630002")...), route...)},
		{name: "own AS", update: inetUpdate(append(attrs()[:4], unhex("40020a"+"02020000fde90000fc00"+"4003040a630002")...), route...)},
		{name: "other first AS", update: inetUpdate(append(attrs()[:4], unhex("400206"+"02010000fdea"+"4003040a630002")...), route...)},
		{name: "MED of 3 bytes", update: inetUpdate(attrs("800403000001"), route...)},
		{name: "communities of 5 bytes", update: inetUpdate(attrs("c008050000000100"), route...)},
		{name: "ext communities of 7 bytes", update: inetUpdate(attrs("c0100700020000000001"), route...)},
		{name: "attribute beyond the list", update: inetUpdate(attrs("c008ff0000"), route...)},
		{name: "local preference from outside", update: inetUpdate(attrs("40050400000001"), route...), keeps: true},
		{name: "originator from outside", update: inetUpdate(attrs("8009040a000005"), route...), keeps: true},
		{name: "aggregator of 3 bytes", update: inetUpdate(attrs("c00703000001"), route...), keeps: true},
		{name: "second origin", update: inetUpdate(attrs("40010102"), route...), keeps: true},
		{name: "unknown optional", update: inetUpdate(attrs("c0e70101"), route...), keeps: true},
		{name: "unknown well-known", update: inetUpdate(attrs("40e70101"), route...), code: codeUpdate, subcode: updateWellKnown},
		{name: "prefix of 33 bits", update: inetUpdate(attrs(), 33, 1, 2, 3, 4, 5), code: codeUpdate, subcode: updateNetwork},
		{name: "list beyond the message", update: append(appendHeader(nil, headerSize+4, msgUpdate), 0, 0, 0, 9), code: codeUpdate, subcode: updateMalformed},
		{name: "two MP_REACH_NLRI", update: inetUpdate(attrs("800e0500018000"+"00", "800e0500018000"+"00"), route...), code: codeUpdate, subcode: updateOptional},
		{name: "open again", update: openOf(t, 65001, "10.0.0.9", 90, Inet), code: codeFSM, subcode: 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := scripted(t, map[string]PeerConfig{"a": passivePeer})
			w := s.from("127.0.0.2")
			w.establish(openOf(t, 65001, "10.0.0.9", 90, Inet, VPNv4))
			sub := s.sp.Subscribe(Inet)
			defer sub.Close()
			w.send(inetUpdate(attrs(), route...))
			w.send(tt.update)
			if tt.code != 0 {
				w.notified(tt.code, tt.subcode)
				s.state("a", Active)
			} else {
				w.send(keepalive)
				s.poll("messages", func() string {
					if st := s.sp.Peers()[0]; st.Counters.MessagesIn < 3 || st.State != Established {
						return fmt.Sprintf("%+v", st)
					}
					return ""
				})
			}
			// Whatever it was told meanwhile, the last word counts.
			var last []Path
			for changes := sub.Next(10); len(changes) > 0; changes = sub.Next(10) {
				for _, c := range changes {
					if c.NLRI == id {
						last = c.Paths
					}
				}
			}
			if (len(last) == 1) != tt.keeps {
				t.Errorf("paths: %v", last)
			}
		})
	}
}

// Peers may go, and change, before the speaker runs, or when it could not begin
// to: nothing of them has been started then.
func TestSetPeersBeforeRun(t *testing.T) {
	sp, err := New(Config{AS: 65000, RouterID: netip.MustParseAddr("10.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	changed := passivePeer
	changed.AS = 65009
	for _, peers := range []map[string]PeerConfig{{"a": passivePeer}, {"a": changed}, {"b": changed}, nil} {
		if refused := sp.SetPeers(peers); len(refused) > 0 {
			t.Error(refused)
		}
		if n := len(sp.Peers()); n != len(peers) {
			t.Errorf("there are %d peers, want %d", n, len(peers))
		}
	}
}

// TestSetPeers changes one peer: the other's session goes on.
func TestSetPeers(t *testing.T) {
	b := passivePeer
	b.Addr, b.AS = netip.MustParseAddr("127.0.0.3"), 65002
	s := scripted(t, map[string]PeerConfig{"a": passivePeer, "b": b})
	wa, wb := s.from("127.0.0.2"), s.from("127.0.0.3")
	wa.establish(openOf(t, 65001, "10.0.0.9", 90, Inet))
	wb.establish(openOf(t, 65002, "10.0.0.10", 90, Inet))
	s.state("a", Established)
	s.state("b", Established)

	down := b
	down.Disabled, down.Message = true, "moved to rack 7"
	same := passivePeer
	bad := s.sp.SetPeers(map[string]PeerConfig{"a": passivePeer, "b": down, "thief": same})
	if len(bad) != 1 || bad["thief"] == nil || !strings.Contains(bad["thief"].Error(), "peer a") {
		t.Errorf("refused: %v", bad)
	}
	body := wb.until(msgNotify)
	if n := (&Notification{body[0], body[1], body[2:]}); n.Subcode != ceaseShutdown || !strings.Contains(n.Error(), "moved to rack 7") {
		t.Errorf("%v", n)
	}
	s.state("b", Idle)
	s.state("a", Established)
	if bad := s.sp.SetPeers(map[string]PeerConfig{"a": passivePeer}); len(bad) > 0 {
		t.Error(bad)
	}
	wb = s.from("127.0.0.3")
	if kind, _ := wb.next(); kind != 0 {
		t.Errorf("message %d for a peer that is not there any more", kind)
	}
	wa.send(keepalive)
	s.state("a", Established)
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(s.sp.Collector()); err != nil {
		t.Fatal(err)
	}
	if got, err := registry.Gather(); err != nil || len(got) != 8 {
		t.Errorf("%v %v", got, err)
	}
	if st := s.sp.Peers(); len(st) != 1 || st[0].Flaps != 0 {
		t.Errorf("%+v", st)
	}
}

// until skips to a message of a kind, whatever comes before.
func (w *wireEnd) until(want byte) []byte {
	w.t.Helper()
	for {
		kind, body := w.next()
		if kind == want {
			return body
		}
		if kind == 0 {
			w.t.Fatalf("the connection ended before message %d", want)
		}
	}
}

// follow waits until the paths of a route, as subscribers know them, fulfil a
// condition.
func (s *script) follow(sub *Subscription, id NLRI, f func([]Path) string) {
	s.t.Helper()
	why := "nothing was told"
	s.poll(id.String(), func() string {
		for changes := sub.Next(10); len(changes) > 0; changes = sub.Next(10) {
			for _, c := range changes {
				if c.NLRI == id {
					why = f(c.Paths)
				}
			}
		}
		return why
	})
}

var (
	testPrefix = PrefixNLRI(netip.MustParsePrefix("10.1.2.0/24"))
	testRoute  = []byte{24, 10, 1, 2}
)

func goodAttrs() []byte {
	return bytes.Replace(attrsOf(), unhex("7f000002"), unhex("0a630002"), 1)
}

// TestLongLived has a peer that does not come back: its route is stale, then a
// last resort, which only those are told who know what that is, then gone.
func TestLongLived(t *testing.T) {
	b, c := passivePeer, passivePeer
	b.Addr, b.AS = netip.MustParseAddr("127.0.0.3"), 65002
	c.Addr, c.AS = netip.MustParseAddr("127.0.0.4"), 65003
	s := scripted(t, map[string]PeerConfig{"a": passivePeer, "b": b, "c": c}, func(c *Config) {
		c.RestartTime, c.LongLived = time.Minute, time.Minute
	})
	graceful := func(restart uint16, long uint32) []packet.ParameterCapabilityInterface {
		f := packet.Family(Inet)
		return []packet.ParameterCapabilityInterface{
			packet.NewCapGracefulRestart(false, false, restart, []*packet.CapGracefulRestartTuple{packet.NewCapGracefulRestartTuple(f, true)}),
			packet.NewCapLongLivedGracefulRestart([]*packet.CapLongLivedGracefulRestartTuple{packet.NewCapLongLivedGracefulRestartTuple(f, true, long)}),
		}
	}
	wa, wb, wc := s.from("127.0.0.2"), s.from("127.0.0.3"), s.from("127.0.0.4")
	wa.establish(openWith(t, 65001, "10.0.0.9", 90, graceful(1, 1), Inet))
	wb.establish(openWith(t, 65002, "10.0.0.10", 90, graceful(1, 1), Inet))
	wc.establish(openOf(t, 65003, "10.0.0.11", 90, Inet))
	sub := s.sp.Subscribe(Inet)
	defer sub.Close()
	for _, w := range []*wireEnd{wb, wc} {
		if body := w.until(msgUpdate); len(body) != 4 {
			t.Fatalf("update % x instead of an end-of-RIB mark", body)
		}
	}
	wa.send(inetUpdate(goodAttrs(), testRoute...))
	for _, w := range []*wireEnd{wb, wc} {
		if body := w.until(msgUpdate); !bytes.HasSuffix(body, testRoute) {
			t.Fatalf("update % x", body)
		}
	}
	wa.Close()
	s.follow(sub, testPrefix, func(p []Path) string {
		if len(p) != 1 || !p[0].Stale {
			return fmt.Sprintf("%+v", p)
		}
		return ""
	})
	if body := wb.until(msgUpdate); !bytes.Contains(body, unhex("c00804ffff0006")) {
		t.Errorf("update % x has no LLGR_STALE", body)
	}
	withdrawal := append(append([]byte{0, 4}, testRoute...), 0, 0)
	if body := wc.until(msgUpdate); !bytes.Equal(body, withdrawal) {
		t.Errorf("update % x is no withdrawal", body)
	}
	if body := wb.until(msgUpdate); !bytes.Equal(body, withdrawal) {
		t.Errorf("update % x is no withdrawal", body)
	}
	s.follow(sub, testPrefix, func(p []Path) string {
		if len(p) != 0 {
			return fmt.Sprintf("%+v", p)
		}
		return ""
	})
}

// TestOwnLastResort: a route of our own that is a last resort is marked so for
// those who know the mark, and told to all.
func TestOwnLastResort(t *testing.T) {
	b := passivePeer
	b.Addr, b.AS = netip.MustParseAddr("127.0.0.3"), 65002
	s := scripted(t, map[string]PeerConfig{"a": passivePeer, "b": b}, func(c *Config) {
		c.RestartTime, c.LongLived = time.Minute, time.Minute
	})
	knows, other := s.from("127.0.0.2"), s.from("127.0.0.3")
	f := packet.Family(Inet)
	knows.establish(openWith(t, 65001, "10.0.0.9", 90, []packet.ParameterCapabilityInterface{
		packet.NewCapGracefulRestart(false, false, 60, []*packet.CapGracefulRestartTuple{packet.NewCapGracefulRestartTuple(f, true)}),
		packet.NewCapLongLivedGracefulRestart([]*packet.CapLongLivedGracefulRestartTuple{packet.NewCapLongLivedGracefulRestartTuple(f, true, 60)}),
	}, Inet))
	other.establish(openOf(t, 65002, "10.0.0.10", 90, Inet))
	attrs := &Attrs{NextHop: addr(9), Communities: []uint32{64512<<16 | 7, CommunityLLGRStale}}
	if err := s.sp.Put(Route{NLRI: testPrefix, Attrs: attrs}); err != nil {
		t.Fatal(err)
	}
	for w, want := range map[*wireEnd]string{knows: "c00808fc000007ffff0006", other: "c00804fc000007"} {
		body := w.until(msgUpdate)
		for ; !bytes.HasSuffix(body, testRoute); body = w.until(msgUpdate) {
			if len(body) != 4 {
				t.Fatalf("update % x", body)
			}
		}
		if !bytes.Contains(body, unhex(want)) {
			t.Errorf("update % x has no communities %s", body, want)
		}
	}
}

// TestAddPath takes two paths of a route from one peer, and one of them away.
func TestAddPath(t *testing.T) {
	c := passivePeer
	c.AddPaths = 2
	s := scripted(t, map[string]PeerConfig{"a": c})
	w := s.from("127.0.0.2")
	w.establish(openWith(t, 65001, "10.0.0.9", 90, []packet.ParameterCapabilityInterface{
		packet.NewCapAddPath([]*packet.CapAddPathTuple{packet.NewCapAddPathTuple(packet.Family(Inet), packet.BGP_ADD_PATH_SEND)}),
	}, Inet))
	sub := s.sp.Subscribe(Inet)
	defer sub.Close()
	ids := func(want string) {
		t.Helper()
		s.follow(sub, testPrefix, func(paths []Path) string {
			var got []uint32
			for _, p := range paths {
				got = append(got, p.ID)
			}
			if fmt.Sprint(got) != want {
				return fmt.Sprint(got)
			}
			return ""
		})
	}
	one, two := append([]byte{0, 0, 0, 1}, testRoute...), append([]byte{0, 0, 0, 2}, testRoute...)
	w.send(inetUpdate(goodAttrs(), append(bytes.Clone(two), one...)...))
	ids("[1 2]")
	body := append(append([]byte{0, byte(len(one))}, one...), 0, 0)
	w.send(append(appendHeader(nil, headerSize+len(body), msgUpdate), body...))
	ids("[2]")
}

// TestAddPathsBound: of a route no more paths are taken than were asked for. When
// one goes, the peer is asked for those that were too many.
func TestAddPathsBound(t *testing.T) {
	c := passivePeer
	c.AddPaths = 2
	s := scripted(t, map[string]PeerConfig{"a": c})
	w := s.from("127.0.0.2")
	w.establish(openWith(t, 65001, "10.0.0.9", 90, []packet.ParameterCapabilityInterface{
		packet.NewCapAddPath([]*packet.CapAddPathTuple{packet.NewCapAddPathTuple(packet.Family(Inet), packet.BGP_ADD_PATH_SEND)}),
		packet.NewCapRouteRefresh(),
	}, Inet))
	sub := s.sp.Subscribe(Inet)
	defer sub.Close()
	ids := func(want string) {
		t.Helper()
		s.follow(sub, testPrefix, func(paths []Path) string {
			var got []uint32
			for _, p := range paths {
				got = append(got, p.ID)
			}
			if fmt.Sprint(got) != want {
				return fmt.Sprint(got)
			}
			return ""
		})
	}
	path := func(id byte) []byte { return append([]byte{0, 0, 0, id}, testRoute...) }
	withdraw := func(id byte) {
		body := append(append([]byte{0, byte(len(path(id)))}, path(id)...), 0, 0)
		w.send(append(appendHeader(nil, headerSize+len(body), msgUpdate), body...))
	}
	w.send(inetUpdate(goodAttrs(), slices.Concat(path(1), path(2), path(3), path(4))...))
	ids("[1 2]")
	withdraw(4) // which is not there
	withdraw(1)
	ids("[2]")
	if got, want := w.until(msgRefresh), routeRefresh(Inet, refreshRequest)[headerSize:]; !bytes.Equal(got, want) {
		t.Fatalf("asks with % x, want % x", got, want)
	}
	w.send(inetUpdate(goodAttrs(), slices.Concat(path(2), path(3))...))
	ids("[2 3]")
	if n := s.sp.Peers()[0].Counters.Excess; n != 2 {
		t.Errorf("%d paths were too many, want 2", n)
	}
}

func TestWrongPeers(t *testing.T) {
	own := Config{
		AS: 64512, RouterID: netip.MustParseAddr("10.0.0.1"),
		Listen: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:179")},
	}
	good := PeerConfig{Addr: netip.MustParseAddr("10.0.0.9"), AS: 64512, Families: []Family{VPNv4}}
	if c := good.normal(); c.check(&own) != nil {
		t.Fatal(c.check(&own))
	}
	for name, change := range map[string]func(*PeerConfig){
		"autonomous system 0": func(c *PeerConfig) { c.AS = 0 },
		"own":                 func(c *PeerConfig) { c.Addr = own.RouterID },
		"own;":                func(c *PeerConfig) { c.Addr = netip.MustParseAddr("10.0.0.2") },
		"no host's":           func(c *PeerConfig) { c.Addr = netip.Addr{} },
		"no address families": func(c *PeerConfig) { c.Families = nil },
		"listed twice":        func(c *PeerConfig) { c.Families = []Family{VPNv4, VPNv4} },
		"cannot be exchanged": func(c *PeerConfig) { c.Families = []Family{7} },
		"hold time 1s":        func(c *PeerConfig) { c.Hold = time.Second },
		"hold time 3.5s":      func(c *PeerConfig) { c.Hold = 3500 * time.Millisecond },
		"password":            func(c *PeerConfig) { c.Password = strings.Repeat("x", 81) },
		"reflection client":   func(c *PeerConfig) { c.AS, c.Client = 65001, true },
		"different kinds":     func(c *PeerConfig) { c.LocalAddr = netip.MustParseAddr("fd00::1") },
		"TTL security":        func(c *PeerConfig) { c.TTLSecurity, c.Multihop = 1, 2 },
		"negative":            func(c *PeerConfig) { c.MaxPrefixes = -1 },
	} {
		c := good
		change(&c)
		c = c.normal()
		if err := c.check(&own); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHops(t *testing.T) {
	for _, tt := range []struct {
		config PeerConfig
		ebgp   bool
		want   hops
	}{
		{PeerConfig{}, false, hops{}},
		{PeerConfig{}, true, hops{1, 0}},
		{PeerConfig{Multihop: 4}, true, hops{4, 0}},
		{PeerConfig{TTLSecurity: 1}, true, hops{255, 255}},
		{PeerConfig{TTLSecurity: 3}, false, hops{255, 253}},
	} {
		if got := tt.config.hops(tt.ebgp); got != tt.want {
			t.Errorf("%+v: %+v, want %+v", tt.config, got, tt.want)
		}
	}
}

// TestRefresh asks a peer for its routes again, and is asked.
func TestRefresh(t *testing.T) {
	s := scripted(t, map[string]PeerConfig{"a": passivePeer})
	if s.sp.Refresh("a") || s.sp.Refresh("nobody") {
		t.Error("asked a peer without a session")
	}
	w := s.from("127.0.0.2")
	w.establish(openWith(t, 65001, "10.0.0.9", 90, []packet.ParameterCapabilityInterface{
		packet.NewCapRouteRefresh(), packet.NewCapEnhancedRouteRefresh(),
	}, Inet))
	s.state("a", Established)
	if err := s.sp.Put(Route{NLRI: testPrefix, Attrs: &Attrs{NextHop: addr(9)}}); err != nil {
		t.Fatal(err)
	}
	for body := w.until(msgUpdate); !bytes.HasSuffix(body, testRoute); body = w.until(msgUpdate) {
		if len(body) != 4 {
			t.Fatalf("update % x", body)
		}
	}
	// Asked, it sends all again, between marks.
	w.send(routeRefresh(Inet, refreshRequest))
	if body := w.until(msgRefresh); !bytes.Equal(body, routeRefresh(Inet, refreshBegin)[headerSize:]) {
		t.Errorf("% x", body)
	}
	if body := w.until(msgUpdate); !bytes.HasSuffix(body, testRoute) {
		t.Errorf("update % x", body)
	}
	if body := w.until(msgRefresh); !bytes.Equal(body, routeRefresh(Inet, refreshEnd)[headerSize:]) {
		t.Errorf("% x", body)
	}
	// Asking, it forgets what is not in the answer.
	sub := s.sp.Subscribe(Inet)
	defer sub.Close()
	w.send(inetUpdate(goodAttrs(), 24, 10, 9, 1))
	w.send(inetUpdate(goodAttrs(), 24, 10, 9, 2))
	forgotten, kept := PrefixNLRI(netip.MustParsePrefix("10.9.1.0/24")), PrefixNLRI(netip.MustParsePrefix("10.9.2.0/24"))
	there := func(n int) func([]Path) string {
		return func(p []Path) string {
			if len(p) != n {
				return fmt.Sprintf("%+v", p)
			}
			return ""
		}
	}
	s.follow(sub, kept, there(1))
	if !s.sp.Refresh("a") {
		t.Error("not asked")
	}
	if body := w.until(msgRefresh); !bytes.Equal(body, routeRefresh(Inet, refreshRequest)[headerSize:]) {
		t.Errorf("% x", body)
	}
	w.send(routeRefresh(Inet, refreshBegin))
	w.send(inetUpdate(goodAttrs(), 24, 10, 9, 2))
	w.send(routeRefresh(Inet, refreshEnd))
	s.follow(sub, forgotten, there(0))
	if st := s.sp.Peers()[0]; st.Families[0].Routes != 1 {
		t.Errorf("%+v", st)
	}
}

// TestReset ends a session with words, and a pause after too many prefixes.
func TestReset(t *testing.T) {
	c := passivePeer
	c.MaxPrefixes = 1
	s := scripted(t, map[string]PeerConfig{"a": c})
	open := openOf(t, 65001, "10.0.0.9", 90, Inet)
	w := s.from("127.0.0.2")
	w.establish(open)
	s.state("a", Established)
	if !s.sp.Reset("a", "line card swap") || s.sp.Reset("nobody", "") {
		t.Error("reset the wrong one")
	}
	body := w.until(msgNotify)
	if n := (&Notification{body[0], body[1], body[2:]}); n.Subcode != ceaseReset || !strings.Contains(n.Error(), "line card swap") {
		t.Error(n)
	}
	s.state("a", Active)

	w = s.from("127.0.0.2")
	w.establish(open)
	w.send(inetUpdate(goodAttrs(), 24, 10, 9, 1, 24, 10, 9, 2))
	w.notified(codeCease, ceaseMaxPrefixes)
	s.state("a", Idle)
	s.from("127.0.0.2").notified(codeCease, ceaseRejected)
	s.sp.Reset("a", "")
	s.from("127.0.0.2").establish(open)
	s.state("a", Established)
}
