package bgp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// A peer that sends bytes, but no messages, does not keep its session.
func TestHoldTimerIsOfMessages(t *testing.T) {
	s := scripted(t, map[string]PeerConfig{"a": passivePeer})
	w := s.from("127.0.0.2")
	w.establish(openOf(t, 65001, "10.0.0.9", 3, Inet))
	s.state("a", Established)
	began := time.Now()
	for _, b := range inetUpdate(goodAttrs(), testRoute...) {
		if _, err := w.Write([]byte{b}); err != nil || time.Since(began) > 6*time.Second {
			break
		}
		if st := s.sp.Peers()[0]; st.State != Established {
			break
		}
		time.Sleep(200 * time.Millisecond) // the peer's pace
	}
	w.notified(codeHold, 0)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the session lasted for %s, want 3", took)
	}
}

func TestArrivals(t *testing.T) {
	now := time.Now()
	var a arrivals
	admitted := 0
	for i := range 1000 { // ten a second
		if a.admit(now.Add(time.Duration(i) * 100 * time.Millisecond)) {
			admitted++
		}
	}
	if admitted < mostArrivals+90 || admitted > mostArrivals+110 {
		t.Errorf("%d of 1000 in 100 s are admitted, want about %d", admitted, mostArrivals+100)
	}
	if !a.admit(now.Add(time.Hour)) {
		t.Error("one after an hour is not admitted")
	}
}

// bulky are attributes of about size bytes that no other number has.
func bulky(size, number int) []byte {
	communities := make([]byte, size/4*4)
	binary.BigEndian.PutUint32(communities, uint32(number)|1<<24)
	return append(goodAttrs(), appendAttr(nil, flagOptional|flagTransitive, attrCommunities, communities)...)
}

func numbered(n int) []byte { return []byte{32, 10, byte(n >> 16), byte(n >> 8), byte(n)} }

func appendWithdrawals(b []byte, routes ...[]byte) []byte {
	body := bytes.Join(routes, nil)
	b = appendHeader(b, headerSize+4+len(body), msgUpdate)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(append(b, body...), 0, 0)
}

// Few routes with attributes as large as a message can have must not fill the
// memory either; equal ones, and those that are replaced, cost nothing.
func TestLargeAttributes(t *testing.T) {
	c := passivePeer
	c.MaxPrefixes = 2000
	s := scripted(t, map[string]PeerConfig{"a": c})
	limit := s.sp.peers["a"].config.maxSetBytes()
	w := s.from("127.0.0.2")
	w.establish(openOf(t, 65001, "10.0.0.9", 90, Inet))
	const size = 3000
	for n := range 2 * limit / size {
		w.send(inetUpdate(bulky(size, n), testRoute...))
		w.send(inetUpdate(bulky(size, 1<<20), numbered(n)...))
	}
	w.send(keepalive)
	s.poll("messages", func() string {
		if st := s.sp.Peers()[0]; st.State != Established || st.Counters.RoutesIn < uint64(4*limit/size) {
			return fmt.Sprintf("%+v", st)
		}
		return ""
	})
	for n := range limit/size + 10 {
		if _, err := w.Write(inetUpdate(bulky(size, n), numbered(n)...)); err != nil {
			break
		}
	}
	w.notified(codeCease, ceaseResources)
	s.state("a", Idle)
	s.sp.rib.mu.Lock()
	defer s.sp.rib.mu.Unlock()
	if left := s.sp.peers["a"].setBytes; left != 0 {
		t.Errorf("%d bytes are accounted for without a session", left)
	}
}

// A peer that reads nothing, and announces and withdraws without end, is given
// up before what is gone, and not forgotten for its sake, fills the memory.
func TestDeafPeer(t *testing.T) {
	b := passivePeer
	b.Addr, b.AS = netip.MustParseAddr("127.0.0.3"), 65002
	s := scripted(t, map[string]PeerConfig{"a": passivePeer, "b": b})
	const most = 40_000
	s.sp.rib.mu.Lock()
	s.sp.rib.maxGraves = most
	s.sp.rib.mu.Unlock()
	w, other := s.from("127.0.0.2"), s.from("127.0.0.3")
	if err := w.Conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	w.establish(openOf(t, 65001, "10.0.0.9", 90, Inet))
	other.establish(openOf(t, 65002, "10.0.0.10", 90, Inet))
	s.state("a", Established)
	s.state("b", Established)
	told := make(chan int, 1)
	go func() { // reads all, at its own pace
		n := 0
		for kind, _ := other.next(); kind != 0; kind, _ = other.next() {
			n++
		}
		told <- n
	}()
	s.fill()
	s.told("b")
	for n := 0; n < 20*most; n += 100 {
		var pack [][]byte
		for i := range 100 {
			pack = append(pack, numbered(n+i))
		}
		if _, err := w.Write(appendWithdrawals(inetUpdate(goodAttrs(), bytes.Join(pack, nil)...), pack...)); err != nil {
			break
		}
		if n%10_000 == 0 { // at a pace that the other one can follow
			s.poll("routes", func() string {
				if st := s.sp.Peers()[0]; st.Flaps == 0 && st.Counters.RoutesIn < uint64(n) {
					return fmt.Sprintf("%+v", st)
				}
				return ""
			})
			s.told("b")
		}
	}
	s.poll("end of the session", func() string {
		if st := s.sp.Peers()[0]; st.Flaps == 0 {
			return fmt.Sprintf("%+v", st)
		}
		return ""
	})
	if reason := s.sp.Peers()[0].LastErr; reason != errBehind.Error() {
		t.Errorf("the session ended for %q, want %q", reason, errBehind)
	}
	s.poll("what is gone is forgotten", func() string {
		s.sp.rib.mu.Lock()
		defer s.sp.rib.mu.Unlock()
		if n := len(s.sp.rib.tables[Inet.index()].rows); n > filling+most {
			return fmt.Sprintf("%d rows", n)
		}
		return ""
	})
	if st := s.sp.Peers()[1]; st.State != Established || st.Flaps > 0 {
		t.Errorf("the session of another peer: %+v", st)
	}
	other.Close()
	if n := <-told; n < 1000 {
		t.Errorf("the other peer was told %d messages", n)
	}
}

// filling is how many routes are more than buffers take.
const filling = 100_000

func (s *script) fill() {
	s.t.Helper()
	routes := make([]Route, filling)
	for n := range routes {
		r := &routes[n]
		r.NLRI = PrefixNLRI(netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(n >> 16), byte(n >> 8), byte(n)}), 32))
		r.Attrs = &Attrs{NextHop: addr(9), MED: Some(uint32(n)), Communities: make([]uint32, 20)}
	}
	if err := s.sp.Put(routes...); err != nil {
		s.t.Fatal(err)
	}
}

// A peer that changes its mind without end is read at its pace, and loses nothing
// but time.
func TestPace(t *testing.T) {
	c := passivePeer
	c.Pace = mostAhead / 2
	s := scripted(t, map[string]PeerConfig{"a": c})
	w := s.from("127.0.0.2")
	w.establish(openOf(t, 65001, "10.0.0.9", 90, Inet))
	s.state("a", Established)
	pair := appendWithdrawals(inetUpdate(goodAttrs(), testRoute...), testRoute)
	pairs := 2 * mostAhead / len(pair)
	began := time.Now()
	w.send(bytes.Repeat(pair, pairs))
	s.poll("all of it", func() string {
		if st := s.sp.Peers()[0]; st.State != Established || st.Counters.UpdatesIn < uint64(2*pairs) {
			return fmt.Sprintf("%+v, want %d updates", st, 2*pairs)
		}
		return ""
	})
	if took := time.Since(began); took < 1700*time.Millisecond {
		t.Errorf("two megabytes took %s, want two seconds for the second one", took)
	}
}

// Peers that read nothing are let go of all together: what follows for others
// does not wait for one after the other.
func TestDeafPeersGo(t *testing.T) {
	peers := map[string]PeerConfig{}
	for n := range 6 {
		c := passivePeer
		c.Addr, c.AS = netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + n)}), 65001+uint32(n)
		peers[fmt.Sprint(n)] = c
	}
	s := scripted(t, peers)
	for n := range len(peers) {
		c := peers[fmt.Sprint(n)]
		w := s.from(c.Addr.String())
		if err := w.Conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
			t.Fatal(err)
		}
		w.establish(openOf(t, c.AS, fmt.Sprintf("10.0.1.%d", n), 90, Inet))
		s.state(fmt.Sprint(n), Established)
	}
	s.fill()
	last := map[string]uint64{}
	since := time.Now()
	s.poll("that nothing can be sent any more", func() string {
		for _, p := range s.sp.Peers() {
			if sent := p.Counters.BytesOut; sent == 0 || sent != last[p.Name] {
				last[p.Name], since = sent, time.Now()
			}
		}
		if time.Since(since) < 500*time.Millisecond {
			return "some is sent"
		}
		return ""
	})
	began := time.Now()
	s.sp.SetPeers(nil)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %s to let go of %d peers", took, len(peers))
	}
}

// told waits until a peer has been sent all there is.
func (s *script) told(name string) {
	s.t.Helper()
	i := Inet.index()
	s.poll("reading", func() string {
		p := s.sp.peer(name)
		p.mu.Lock()
		session := p.session
		p.mu.Unlock()
		if session == nil {
			s.t.Fatalf("%+v", s.sp.Peers())
		}
		m := session.member
		m.group.mu.Lock()
		defer m.group.mu.Unlock()
		s.sp.rib.mu.Lock()
		defer s.sp.rib.mu.Unlock()
		if m.catchup[i] != nil || m.pos < m.group.newest || !m.group.cursors[i].atEnd() {
			return "not all is read"
		}
		return ""
	})
}

// A peer that asks for all routes again and again, and reads nothing, is owed the
// marks around one answer.
func TestRefreshesWithoutEnd(t *testing.T) {
	r := newRIB()
	e := exporter{}
	e.families.add(Inet)
	m := r.join(e, &peer{}, nil, func() {})
	defer m.leave()
	for m.next() != nil {
	}
	for range 1000 {
		m.refresh(Inet, true)
	}
	var sent []byte
	for b := m.next(); b != nil; b = m.next() {
		for _, part := range b.parts {
			sent = append(sent, b.data[part.start:part.end]...)
		}
	}
	if want := append(routeRefresh(Inet, refreshBegin), routeRefresh(Inet, refreshEnd)...); !bytes.Equal(sent, want) {
		t.Errorf("%d bytes are sent, want %d: the two marks", len(sent), len(want))
	}
}

// What comes and goes while a peer's writer is busy leaves nothing.
func TestMembershipPending(t *testing.T) {
	m := newMembership()
	for n := range 1000 {
		key := membershipKey(64512, NewRouteTarget(64512, uint32(n)))
		short := string([]byte{40, 0, 0, 0xfc, 0, byte(n)})
		for _, by := range []int{1, -1} {
			m.note(key, by)
			m.note(short, by)
		}
	}
	if !m.pending.empty() {
		t.Errorf("%d targets and %d others are pending", len(m.pending.exact), len(m.pending.wide))
	}
	// Who has more short ones than can be looked at is told everything.
	nothing := &Attrs{ExtCommunities: []ExtCommunity{ExtCommunity(NewRouteTarget(1, 1))}}
	for n := range maxWide {
		m.note(string([]byte{48, 0, 0, 0xfc, 0, byte(n), 9}), 1)
	}
	if m.apply(); m.wants(nothing) {
		t.Error("a route is wanted that nobody asked for")
	}
	m.note(string([]byte{48, 0, 0, 0xfc, 0, 7, 10}), 1)
	if change := m.apply(); !change.all || !m.wants(nothing) {
		t.Error("not everything is told")
	}
}
