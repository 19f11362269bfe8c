//go:build net

package bgp

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// watched polls that a router keeps a route, from now until the returned
// function is called.
func watched(t *testing.T, what string, has func() string) (end func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
			if why := has(); why != "" {
				t.Errorf("%s: %s", what, why)
				return
			}
		}
	})
	return sync.OnceFunc(func() { close(done); watching.Wait() })
}

// TestNetComesBack: after this speaker has ended without a word, sessions with
// gobgpd and FRR, which have their usual timers, are there again within seconds,
// and neither loses a route meanwhile. A router that is down delays nothing for
// longer than comeBack.
func TestNetComesBack(t *testing.T) {
	l := newLab(t, func(c *Config) { c.RestartTime = 2 * time.Minute })
	frr := l.frr(l.link(1, "frr"), fmt.Sprintf(strings.Replace(frrConf, " neighbor 10.99.1.1 timers connect 1\n", "", 1), ""))
	timers := regexp.MustCompile(`(?s)  \[neighbors\.timers\.config\].*?(  \[neighbors\.graceful)`)
	gobgpd := l.gobgpdWith(timers.ReplaceAllString(gobgpdConf, "$1"), 2, allFamilies...)
	l.link(3, "silent")
	other := gobgpdPeer(2)
	other.Retry = 0
	peers := map[string]PeerConfig{
		"frr":    {Addr: theirs(1), AS: labAS, Families: []Family{VPNv4, VPNv6, EVPN}},
		"gobgpd": other,
		"silent": {Addr: theirs(3), AS: labAS, Families: []Family{VPNv4}},
	}
	rd := RDFromAddr(netip.MustParseAddr("10.99.0.7"), 3)
	begin := func(routes ...Route) {
		l.setPeers(peers)
		l.sp.SetImports([]RouteTarget{NewRouteTarget(64512, 100)})
		if err := l.sp.Put(routes...); err != nil {
			t.Fatal(err)
		}
	}
	old, added := vpnRoute(rd, "10.1.1.4/32", 1001, ourAttrs), vpnRoute(rd, "10.1.1.5/32", 1001, ourAttrs)
	frrHas := func(prefix string) func() string {
		return func() string { return contains(frr.vtysh("show bgp ipv4 vpn "+prefix), "RT:64512:100") }
	}
	gobgpdHas := func(prefix string) func() string {
		return func() string { return contains(gobgpd.gobgp("global rib -a vpnv4"), prefix) }
	}
	begin(old)
	l.up("frr")
	l.up("gobgpd")
	eventually(t, "VRF", func() string { return gobgpd.gobgp("vrf add red rd 64512:9 rt both 64512:100") })
	gobgpd.add("-a vpnv4 10.8.0.0/24 label 1001 rd 64512:1 rt 64512:100 nexthop 10.99.2.2")
	eventually(t, "our route in FRR", frrHas("10.1.1.4/32"))
	eventually(t, "our route in gobgpd", gobgpdHas("10.1.1.4/32"))
	theirRoute := VPNNLRI(RDFromAS(64512, 1), netip.MustParsePrefix("10.8.0.0/24"))
	l.watch(VPNv4).see(t, theirRoute, one(func(Path) string { return "" }))

	for _, end := range []func(){watched(t, "FRR", frrHas("10.1.1.4/32")), watched(t, "gobgpd", gobgpdHas("10.1.1.4/32"))} {
		defer end()
	}
	l.stop()
	l.cfg.Restarting = true
	l.start()
	began := time.Now()
	begin(old, added)
	l.sp.Release()
	within := func(what string, limit time.Duration, wait func()) {
		t.Helper()
		wait()
		took := time.Since(began).Round(100 * time.Millisecond)
		if t.Logf("%s after %s", what, took); took > limit {
			t.Errorf("%s after %s, want within %s", what, took, limit)
		}
	}
	within("session with FRR", 5*time.Second, func() { l.up("frr") })
	within("session with gobgpd", 10*time.Second, func() { l.up("gobgpd") })
	w := l.watch(VPNv4)
	w.see(t, theirRoute, one(func(Path) string { return "" }))
	within("all routes", comeBack+5*time.Second, func() {
		eventually(t, "a new route in FRR", frrHas("10.1.1.5/32"))
		eventually(t, "a new route in gobgpd", gobgpdHas("10.1.1.5/32"))
	})
}
