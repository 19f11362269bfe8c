//go:build net

package bgp

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNetBIRD(t *testing.T) {
	l := newLab(t, nil)
	ns := l.link(1, "bird")
	dir := t.TempDir()
	conf := write(t, dir, "bird.conf", `
router id 10.99.1.2;
log stderr all;
vpn4 table vt4;
vpn6 table vt6;
protocol device {}
protocol static s4 { vpn4 { table vt4; };
  route 64512:3 10.3.3.0/24 unreachable { bgp_ext_community.add((rt, 64512, 100)); bgp_next_hop = 10.99.1.2; };
}
protocol bgp contrail {
  local 10.99.1.2 as 64512; neighbor 10.99.1.1 as 64512; password "open sesame"; connect retry time 1; connect delay time 1;
  vpn4 mpls { table vt4; import all; export all; next hop self; };
  vpn6 mpls { table vt6; import all; export all; };
}
`)
	socket := filepath.Join(dir, "bird.ctl")
	d := launch(t, ns, dir, nil, "/usr/sbin/bird", "-f", "-c", conf, "-s", socket)
	birdc := func(command string) string {
		out, err := d.ns.Run("birdc", append([]string{"-s", socket}, strings.Fields(command)...)...)
		if err != nil {
			return err.Error()
		}
		return out
	}
	c := PeerConfig{
		Addr: theirs(1), AS: labAS, Families: []Family{VPNv4, VPNv6}, Retry: time.Second, Password: "open sesame",
	}
	l.setPeers(map[string]PeerConfig{"bird": c})
	rd := RDFromAddr(netip.MustParseAddr("10.99.0.7"), 3)
	six := *ourAttrs // BIRD refuses IPv4 inside IPv6 as a next hop
	six.NextHop = netip.MustParseAddr("fd00::7")
	if err := l.sp.Put(vpnRoute(rd, "10.1.1.4/32", 1001, ourAttrs), vpnRoute(rd, "fd00:1::4/128", 1002, &six)); err != nil {
		t.Fatal(err)
	}
	l.up("bird")
	eventually(t, "our route in BIRD", func() string {
		return contains(birdc("show route all table vt4"), "10.99.0.7:3 10.1.1.4/32", "(rt, 64512, 100)", "BGP.mpls_label_stack: 1001", "BGP.next_hop: 10.99.0.7", "BGP.local_pref: 200")
	})
	eventually(t, "our IPv6 route in BIRD", func() string {
		return contains(birdc("show route all table vt6"), "10.99.0.7:3 fd00:1::4/128", "BGP.mpls_label_stack: 1002")
	})
	w := l.watch(VPNv4)
	id := VPNNLRI(RDFromAS(64512, 3), netip.MustParsePrefix("10.3.3.0/24"))
	w.see(t, id, one(func(p Path) string {
		if p.Attrs.NextHop != theirs(1) || fmt.Sprint(p.Attrs.RouteTargets()) != "[target:64512:100]" {
			return fmt.Sprintf("%+v %+v", p, p.Attrs)
		}
		return ""
	}))

	// With another password there is no session, in either direction; with the
	// right one again there is.
	c.Password = "open wheat"
	l.setPeers(map[string]PeerConfig{"bird": c})
	w.see(t, id, none)
	if st := l.peer("bird"); st.State == Established {
		t.Errorf("session with a wrong password: %+v", st)
	}
	c.Password, c.Passive = "open sesame", true
	l.setPeers(map[string]PeerConfig{"bird": c})
	if st := l.up("bird"); st.Outgoing {
		t.Errorf("a passive peer connected: %+v", st)
	}
	w.see(t, id, one(func(Path) string { return "" }))

	// It may bring no more routes than it may.
	c.MaxPrefixes = 1
	l.setPeers(map[string]PeerConfig{"bird": c})
	l.up("bird")
	if out := birdc("configure \"" + write(t, dir, "two.conf", strings.Replace(read(t, conf), "route 64512:3",
		"route 64512:3 10.4.4.0/24 unreachable { bgp_ext_community.add((rt, 64512, 100)); bgp_next_hop = 10.99.1.2; };\n  route 64512:3", 1)) + "\""); !strings.Contains(out, "Reconfig") {
		t.Fatal(out)
	}
	eventually(t, "end of the session", func() string {
		if st := l.peer("bird"); st.State != Idle || !strings.Contains(st.LastErr, "maximum number of prefixes") {
			return fmt.Sprintf("%+v", st)
		}
		return ""
	})
	w.see(t, id, none)
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const gobgpdConf = `
[global.config]
  as = 64512
  router-id = "10.99.%[1]d.2"
[[neighbors]]
  [neighbors.config]
    neighbor-address = "10.99.%[1]d.1"
    peer-as = 64512
  [neighbors.timers.config]
    connect-retry = 1
    idle-hold-time-after-reset = 1
  [neighbors.graceful-restart.config]
    enabled = true
    restart-time = 60
%[2]s`

func gobgpdFamilies(names ...string) string {
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = %q\n"+
			"    [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true\n", n)
	}
	return b.String()
}

type gobgpd struct{ *daemon }

func (l *lab) gobgpd(n int, fams ...string) gobgpd {
	l.t.Helper()
	return l.gobgpdWith(gobgpdConf, n, fams...)
}

func (l *lab) gobgpdWith(conf string, n int, fams ...string) gobgpd {
	l.t.Helper()
	dir := l.t.TempDir()
	conf = write(l.t, dir, "gobgpd.toml", fmt.Sprintf(conf, n, gobgpdFamilies(fams...)))
	return gobgpd{launch(l.t, l.link(n, fmt.Sprint("gobgpd", n)), dir, nil, "/usr/bin/gobgpd", "-f", conf, "--api-hosts", "127.0.0.1:50051")}
}

func (d gobgpd) gobgp(command string) string {
	out, err := d.ns.Run("gobgp", strings.Fields(command)...)
	if err != nil {
		return err.Error()
	}
	return out
}

// add announces a route there, waiting for the daemon if need be.
func (d gobgpd) add(command string) {
	d.t.Helper()
	eventually(d.t, command, func() string { return d.gobgp("global rib add " + command) })
}

func gobgpdPeer(n int) PeerConfig {
	return PeerConfig{
		Addr: theirs(n), AS: labAS, Families: []Family{VPNv4, VPNv6, EVPN, RTC}, Retry: time.Second, Client: true,
	}
}

var allFamilies = []string{"l3vpn-ipv4-unicast", "l3vpn-ipv6-unicast", "l2vpn-evpn", "rtc"}

// TestNetGoBGP has two clients and reflects between them, filtered by
// route-target membership; one of them restarts.
func TestNetGoBGP(t *testing.T) {
	l := newLab(t, func(c *Config) { c.RestartTime = 60 * time.Second })
	one1 := l.gobgpd(1, allFamilies...)
	two := l.gobgpd(2, allFamilies...)
	trusted := gobgpdPeer(2)
	trusted.Trusted = true
	l.setPeers(map[string]PeerConfig{"one": gobgpdPeer(1), "two": trusted})
	l.up("one")
	l.up("two")

	// EVPN both ways, in fields.
	mac, _ := net.ParseMAC("02:01:02:03:04:05")
	rd := RDFromAddr(netip.MustParseAddr("10.99.0.7"), 5)
	target := ExtCommunity(NewRouteTarget(64512, 5001))
	vxlan := &Attrs{NextHop: netip.MustParseAddr("10.99.0.7"), ExtCommunities: []ExtCommunity{target, NewEncap(EncapVXLAN)}}
	if err := l.sp.Put(
		Route{EVPN: &EVPNRoute{Type: 2, RD: rd, MAC: mac, IP: netip.MustParseAddr("10.1.1.4"), Label: 5001}, Attrs: vxlan},
		Route{EVPN: &EVPNRoute{Type: 5, RD: rd, Prefix: netip.MustParsePrefix("10.8.0.0/16"), Label: 5002}, Attrs: vxlan},
	); err != nil {
		t.Fatal(err)
	}
	w := l.watch(VPNv4, EVPN)
	one1.add("-a evpn macadv aa:bb:cc:dd:ee:04 10.1.1.9 etag 0 label 5001 rd 10.99.1.2:7 rt 64512:5001 encap vxlan nexthop 10.99.1.2")
	hw, _ := net.ParseMAC("aa:bb:cc:dd:ee:04")
	id, err := EVPNRoute{Type: 2, RD: RDFromAddr(theirs(1), 7), MAC: hw, IP: netip.MustParseAddr("10.1.1.9")}.NLRI()
	if err != nil {
		t.Fatal(err)
	}

	// Nobody wants the target yet: nothing comes, and nothing goes.
	one1.add("-a vpnv4 10.1.1.0/24 label 1001 rd 64512:1 rt 64512:100 nexthop 10.99.1.2")
	vpn := VPNNLRI(RDFromAS(64512, 1), netip.MustParsePrefix("10.1.1.0/24"))
	l.sp.SetImports([]RouteTarget{NewRouteTarget(64512, 5001)})
	w.see(t, id, one(func(p Path) string {
		r, err := p.EVPN()
		if err != nil || r.Label != 5001 || r.Type != 2 || p.Attrs.Encaps()[0] != EncapVXLAN {
			return fmt.Sprintf("%+v %+v %v", r, p.Attrs, err)
		}
		return ""
	}))
	w.see(t, vpn, none)
	l.sp.SetImports([]RouteTarget{NewRouteTarget(64512, 5001), NewRouteTarget(64512, 100)})
	w.see(t, vpn, one(func(p Path) string {
		if p.Label != 1001 || p.Attrs.NextHop != theirs(1) {
			return fmt.Sprintf("%+v %+v", p, p.Attrs)
		}
		return ""
	}))
	if out := two.gobgp("global rib -a vpnv4"); strings.Contains(out, "10.1.1.0/24") {
		t.Errorf("a peer got what it does not want:\n%s", out)
	}
	// The second one imports it into a VRF: now it is reflected.
	eventually(t, "VRF", func() string { return two.gobgp("vrf add red rd 64512:9 rt both 64512:100") })
	eventually(t, "reflected route", func() string {
		return contains(two.gobgp("global rib -a vpnv4 -j"), "10.1.1.0/24", `"10.99.1.2"`)
	})
	eventually(t, "VRF", func() string { return two.gobgp("vrf add blue rd 64512:10 rt both 64512:5001") })
	eventually(t, "our EVPN routes", func() string {
		return contains(two.gobgp("global rib -a evpn"), "02:01:02:03:04:05", "10.1.1.4", "VXLAN", "10.8.0.0/16", "10.99.0.7")
	})
	// No longer wanted, it goes.
	eventually(t, "VRF", func() string { return two.gobgp("vrf del red") })
	eventually(t, "route that is not wanted any more", func() string {
		if out := two.gobgp("global rib -a vpnv4"); strings.Contains(out, "10.1.1.0/24") {
			return out
		}
		return ""
	})

	// Killed, its routes stay as stale; back without them, they go.
	one1.kill()
	w.see(t, vpn, one(func(p Path) string {
		if !p.Stale {
			return "not stale"
		}
		return ""
	}))
	one1.start()
	l.up("one")
	w.see(t, vpn, none)
	one1.add("-a vpnv4 10.1.1.0/24 label 1003 rd 64512:1 rt 64512:100 nexthop 10.99.1.2")
	w.see(t, vpn, one(func(p Path) string {
		if p.Stale || p.Label != 1003 {
			return fmt.Sprintf("%+v", p)
		}
		return ""
	}))
}

func TestNetExaBGP(t *testing.T) {
	l := newLab(t, nil)
	ns := l.link(1, "exabgp")
	dir := t.TempDir()
	received := filepath.Join(dir, "received")
	conf := write(t, dir, "exabgp.conf", fmt.Sprintf(`
process watch { run /bin/sh -c "cat > %s"; encoder json; }
neighbor 10.99.1.1 {
  router-id 10.99.1.2; local-address 10.99.1.2; local-as 65001; peer-as 64512;
  family { ipv4 mpls-vpn; ipv6 mpls-vpn; l2vpn evpn; ipv4 unicast; }
  api { processes [ watch ]; receive { parsed; update; } }
  static {
    route 10.4.4.0/24 rd 64512:4 next-hop 10.99.1.2 extended-community [ target:64512:100 0x8004fc00007a1201 ] label 4004 med 7;
    route 198.51.100.0/24 next-hop 10.99.1.2 community [ 65001:1 ];
  }
}
`, received))
	launch(t, ns, dir, []string{"exabgp.daemon.drop=false", "exabgp.log.level=WARNING", "exabgp.tcp.bind="}, "exabgp", conf)
	l.setPeers(map[string]PeerConfig{"exa": {
		Addr: theirs(1), AS: 65001, Families: []Family{VPNv4, VPNv6, EVPN, Inet}, Retry: time.Second,
	}})
	hidden := *ourAttrs
	hidden.Communities = []uint32{CommunityNoExport}
	rd := RDFromAddr(netip.MustParseAddr("10.99.0.7"), 3)
	if err := l.sp.Put(
		vpnRoute(rd, "10.1.1.4/32", 1001, ourAttrs), vpnRoute(rd, "10.1.1.5/32", 1001, &hidden),
		Route{NLRI: PrefixNLRI(netip.MustParsePrefix("203.0.113.0/24")), Attrs: ourAttrs},
	); err != nil {
		t.Fatal(err)
	}
	st := l.up("exa")
	if !st.EBGP {
		t.Errorf("%+v", st)
	}
	eventually(t, "our routes in ExaBGP", func() string {
		out, _ := os.ReadFile(received)
		if strings.Contains(string(out), "10.1.1.5") {
			t.Fatal("a route marked no-export went out")
		}
		return contains(string(out), `"10.1.1.4/32"`, `1001`, `"as-path": [ 64512 ]`, "target:64512:100", `"10.99.0.7"`,
			`"203.0.113.0/24"`, `"10.99.1.1": [`) // the next hop of inet is ours
	})
	w := l.watch(VPNv4, Inet)
	w.see(t, VPNNLRI(RDFromAS(64512, 4), netip.MustParsePrefix("10.4.4.0/24")), one(func(p Path) string {
		a := p.Attrs
		if p.Label != 4004 || !p.EBGP || a.ASPath.String() != "65001" || a.MED != Some(7) || slices.ContainsFunc(a.ExtCommunities, ExtCommunity.isIdentity) {
			return fmt.Sprintf("%+v %+v", p, a)
		}
		return ""
	}))
	w.see(t, PrefixNLRI(netip.MustParsePrefix("198.51.100.0/24")), one(func(p Path) string {
		if !p.Attrs.HasCommunity(65001<<16 | 1) {
			return fmt.Sprintf("%+v", p.Attrs)
		}
		return ""
	}))
}

// TestNetRestart restarts this speaker under FRR, which keeps its routes.
func TestNetRestart(t *testing.T) {
	l := newLab(t, func(c *Config) { c.RestartTime = 60 * time.Second })
	frr := l.frr(l.link(1, "frr"), fmt.Sprintf(frrConf, "")) // a helper by default
	peers := map[string]PeerConfig{"frr": {Addr: theirs(1), AS: labAS, Families: []Family{VPNv4}, Retry: time.Second}}
	route := vpnRoute(RDFromAddr(netip.MustParseAddr("10.99.0.7"), 3), "10.1.1.4/32", 1001, ourAttrs)
	begin := func() {
		l.setPeers(peers)
		if err := l.sp.Put(route); err != nil {
			t.Fatal(err)
		}
	}
	there := func() string { return contains(frr.vtysh("show bgp ipv4 vpn 10.1.1.4/32"), "RT:64512:100") }
	begin()
	l.up("frr")
	eventually(t, "our route in FRR", there)

	l.stop()
	eventually(t, "our route stale in FRR", func() string {
		return contains(frr.vtysh("show bgp ipv4 vpn"), "S>i10.1.1.4/32")
	})
	l.cfg.Restarting = true
	l.start()
	begin()
	l.up("frr")
	// Held back: it must still be there, as what it was before.
	if why := contains(frr.vtysh("show bgp ipv4 vpn"), "S>i10.1.1.4/32"); why != "" {
		t.Error(why)
	}
	l.sp.Release()
	eventually(t, "our route fresh in FRR", func() string {
		return contains(frr.vtysh("show bgp ipv4 vpn"), "*>i10.1.1.4/32")
	})
}
