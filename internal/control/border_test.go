package control

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/control/bgp"
)

// A thousand routers that cannot be peers would else fill the log with a line
// for each of them whenever one of them changes.
func TestRefusedPeerIsLoggedOnce(t *testing.T) {
	var text bytes.Buffer
	b := newBorder(New(discard(), Config{}, newWorld().graph).tables)
	b.log = slog.New(slog.NewTextHandler(&text, nil))
	own := netip.MustParseAddr("10.99.0.1")
	speaker, err := bgp.New(bgp.Config{AS: 64512, RouterID: own})
	if err != nil {
		t.Fatal(err)
	}
	peers := map[string]bgp.PeerConfig{}
	for n := range 20 {
		peers[fmt.Sprintf("r%d", n)] = bgp.PeerConfig{Addr: own, AS: 64512, Families: []bgp.Family{bgp.VPNv4}}
		b.setPeers(speaker, peers)
	}
	logged := func() int { return strings.Count(text.String(), "BGP peer is refused") }
	if n := logged(); n != 20 {
		t.Errorf("20 peers are refused, and %d times that is logged", n)
	}
	// Another reason is news, and so is the same one after a peer was good.
	reset := func(c bgp.PeerConfig, want int) {
		t.Helper()
		peers["r7"] = c
		b.setPeers(speaker, peers)
		if n := logged(); n != want {
			t.Errorf("peers were refused %d times, want %d", n, want)
		}
	}
	bad := peers["r7"]
	nobody := bgp.PeerConfig{Addr: netip.MustParseAddr("0.0.0.0"), AS: 64512, Families: bad.Families}
	good := bgp.PeerConfig{Addr: netip.MustParseAddr("10.99.0.2"), AS: 64512, Families: bad.Families}
	reset(nobody, 21)
	reset(good, 21)
	reset(nobody, 22)
}
