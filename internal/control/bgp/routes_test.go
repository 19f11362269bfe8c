package bgp

import (
	"log/slog"
	"net/netip"
	"testing"
)

// Who gives routes out reads them, too: giving out nothing must not wake him,
// or he never sleeps.
func TestNothingWakesNobody(t *testing.T) {
	s, err := New(Config{AS: 64512, RouterID: netip.MustParseAddr("192.0.2.1"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	sub := s.Subscribe(VPNv4)
	defer sub.Close()
	<-sub.Ready() // the first look
	s.Withdraw()
	if err := s.Put(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-sub.Ready():
		t.Error("woken by nothing")
	default:
	}
}
