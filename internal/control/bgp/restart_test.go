package bgp

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

func gracefulOpen(t *testing.T, as uint32, id string, restarts bool, fams ...Family) []byte {
	var tuples []*packet.CapGracefulRestartTuple
	for _, f := range fams {
		tuples = append(tuples, packet.NewCapGracefulRestartTuple(packet.Family(f), true))
	}
	return openWith(t, as, id, 90, []packet.ParameterCapabilityInterface{
		packet.NewCapGracefulRestart(restarts, true, 60, tuples),
	}, fams...)
}

// restarted is a speaker that has just come back, with a route of its own.
func restarted(t *testing.T, peers map[string]PeerConfig) *script {
	s := scripted(t, peers, func(c *Config) { c.RestartTime, c.Restarting = time.Hour, true })
	if err := s.sp.Put(Route{NLRI: testPrefix, Attrs: &Attrs{NextHop: netip.MustParseAddr("10.0.0.7")}}); err != nil {
		t.Fatal(err)
	}
	s.sp.Release()
	return s
}

// wantRoute skips marks of other families.
func (w *wireEnd) wantRoute() {
	w.t.Helper()
	body := w.until(msgUpdate)
	for bytes.Equal(body, endOfRIB(VPNv4)[headerSize:]) {
		body = w.until(msgUpdate)
	}
	if !bytes.HasSuffix(body, testRoute) {
		w.t.Errorf("update % x, want the route", body)
	}
}

func isWhole(s *script) bool { return s.sp.restart.isWhole() }

// A peer tells the end of the families that it has, not of all that it could have.
func TestRestartWaitsForEachPeersRoutes(t *testing.T) {
	b := passivePeer
	b.Addr, b.AS = netip.MustParseAddr("127.0.0.3"), 65002
	s := restarted(t, map[string]PeerConfig{"a": passivePeer, "b": b})
	wa, wb := s.from("127.0.0.2"), s.from("127.0.0.3")
	wa.establish(gracefulOpen(t, 65001, "10.0.0.9", false, Inet))
	wb.establish(gracefulOpen(t, 65002, "10.0.0.10", false, Inet, VPNv4))
	s.state("a", Established)
	s.state("b", Established)
	wa.send(endOfRIB(Inet))
	wb.send(endOfRIB(Inet))
	s.poll("messages", func() string {
		for _, p := range s.sp.Peers() {
			if p.Counters.UpdatesIn == 0 {
				return p.Name
			}
		}
		return ""
	})
	if isWhole(s) {
		t.Fatal("the routes of b are not waited for")
	}
	wb.send(endOfRIB(VPNv4))
	wa.wantRoute()
	wb.wantRoute()
	if !isWhole(s) {
		t.Error("something is still waited for")
	}
}

// A peer that marks no end, or waits for ours itself, is given some seconds; one
// that is deleted or turned off none.
func TestRestartWithPeersThatMarkNoEnd(t *testing.T) {
	t.Parallel()
	b, c, d := passivePeer, passivePeer, passivePeer
	b.Addr, b.AS = netip.MustParseAddr("127.0.0.3"), 65002
	c.Addr, c.AS = netip.MustParseAddr("127.0.0.4"), 65003
	d.Addr, d.AS = netip.MustParseAddr("127.0.0.5"), 65004
	s := restarted(t, map[string]PeerConfig{"a": passivePeer, "b": b, "c": c, "d": d})
	began := time.Now()
	wa, wb := s.from("127.0.0.2"), s.from("127.0.0.3")
	wa.establish(openOf(t, 65001, "10.0.0.9", 90, Inet))
	wb.establish(gracefulOpen(t, 65002, "10.0.0.10", true, Inet))
	s.state("a", Established)
	s.state("b", Established)
	c.Disabled = true
	if refused := s.sp.SetPeers(map[string]PeerConfig{"a": passivePeer, "b": b, "c": c}); len(refused) > 0 {
		t.Fatal(refused)
	}
	wa.wantRoute()
	if took := time.Since(began); took < telling/2 || took > 2*telling {
		t.Errorf("the route was held for %s, want about %s", took, telling)
	}
}

func TestFirstRetriesAreQuick(t *testing.T) {
	p := &peer{config: PeerConfig{Retry: 10 * time.Second}}
	total := time.Duration(0)
	for attempts := range 100 {
		wait := p.pause(attempts)
		if total += wait; attempts == 7 && total > 13*time.Second {
			t.Errorf("eight attempts take %s", total)
		}
		if most := p.config.Retry; wait > most || attempts > 20 && wait < most*3/4 {
			t.Errorf("attempt %d: %s, want at most %s", attempts, wait, most)
		}
	}
	p.config.Retry = 50 * time.Millisecond
	if wait := p.pause(0); wait > p.config.Retry {
		t.Errorf("%s between attempts, want at most %s", wait, p.config.Retry)
	}
	// One that refuses at first, as after a loss, is asked again soon.
	c := passivePeer
	c.Passive = false
	s := scripted(t, map[string]PeerConfig{"a": c})
	began := time.Now()
	for range 3 {
		(<-s.net.dialed).Close()
	}
	wrap(t, <-s.net.dialed).establish(openOf(t, 65001, "10.0.0.9", 90, Inet))
	s.state("a", Established)
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("a session after %s", took)
	}
}
