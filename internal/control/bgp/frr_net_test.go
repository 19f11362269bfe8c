//go:build net

package bgp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

const frrConf = `
route-map RT permit 10
 set extcommunity rt 64512:100
!
router bgp 64512
 bgp router-id 10.99.1.2
 no bgp default ipv4-unicast
 neighbor 10.99.1.1 remote-as 64512
 neighbor 10.99.1.1 timers connect 1
 %s
 address-family ipv4 vpn
  neighbor 10.99.1.1 activate
  network 10.2.2.0/24 rd 64512:2 label 2001 route-map RT
 exit-address-family
 address-family ipv6 vpn
  neighbor 10.99.1.1 activate
 exit-address-family
 address-family l2vpn evpn
  neighbor 10.99.1.1 activate
 exit-address-family
`

func vpnRoute(rd RD, prefix string, label uint32, attrs *Attrs) Route {
	return Route{NLRI: VPNNLRI(rd, netip.MustParsePrefix(prefix)), Label: label, Attrs: attrs}
}

var ourAttrs = &Attrs{
	NextHop: netip.MustParseAddr("10.99.0.7"), LocalPref: Some(200),
	ExtCommunities: []ExtCommunity{
		ExtCommunity(NewRouteTarget(64512, 100)), NewEncap(EncapMPLSoUDP), NewSecurityGroup(64512, 8000001),
	},
}

func TestNetFRR(t *testing.T) {
	l := newLab(t, nil)
	ns := l.link(1, "frr")
	frr := l.frr(ns, fmt.Sprintf(frrConf, ""))
	l.setPeers(map[string]PeerConfig{"frr": {
		Addr: theirs(1), AS: labAS, Families: []Family{VPNv4, VPNv6, EVPN}, Retry: time.Second,
	}})
	if err := l.sp.Put(
		vpnRoute(RDFromAddr(netip.MustParseAddr("10.99.0.7"), 3), "10.1.1.4/32", 1001, ourAttrs),
		vpnRoute(RDFromAddr(netip.MustParseAddr("10.99.0.7"), 3), "fd00:1::4/128", 1002, ourAttrs),
	); err != nil {
		t.Fatal(err)
	}
	st := l.up("frr")
	if len(st.Families) != 3 || st.RouterID != theirs(1) {
		t.Fatalf("%+v", st)
	}
	eventually(t, "our route in FRR", func() string {
		return contains(frr.vtysh("show bgp ipv4 vpn 10.1.1.4/32"), "10.99.0.7:3", "10.99.0.7 from", "RT:64512:100", "label: 1001", "localpref 200", "ET:13")
	})
	eventually(t, "our IPv6 route in FRR", func() string {
		return contains(frr.vtysh("show bgp ipv6 vpn fd00:1::4/128"), "RT:64512:100", "label: 1002")
	})
	mac := [6]byte{2, 0, 0, 0, 0, 7}
	if err := l.sp.Put(Route{
		EVPN: &EVPNRoute{Type: 5, RD: RDFromAddr(netip.MustParseAddr("10.99.0.7"), 3), Prefix: netip.MustParsePrefix("10.1.1.4/32"), Label: 5001},
		Attrs: &Attrs{NextHop: netip.MustParseAddr("10.99.0.7"), ExtCommunities: []ExtCommunity{
			ExtCommunity(NewRouteTarget(64512, 100)), NewEncap(EncapVXLAN), NewRouterMAC(mac),
		}},
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "our EVPN prefix in FRR", func() string {
		return contains(frr.vtysh("show bgp l2vpn evpn route detail"), "[5]:[0]:[32]:[10.1.1.4]", "VNI 5001", "RT:64512:100", "ET:8", "Rmac:02:00:00:00:00:07")
	})
	w := l.watch(VPNv4)
	id := VPNNLRI(RDFromAS(64512, 2), netip.MustParsePrefix("10.2.2.0/24"))
	w.see(t, id, one(func(p Path) string {
		if p.Label != 2001 || p.Peer != "frr" || p.Attrs.NextHop != theirs(1) || fmt.Sprint(p.Attrs.RouteTargets()) != "[target:64512:100]" {
			return fmt.Sprintf("%+v %+v", p, p.Attrs)
		}
		return ""
	}))

	// A withdrawn route is gone there.
	l.sp.Withdraw(VPNNLRI(RDFromAddr(netip.MustParseAddr("10.99.0.7"), 3), netip.MustParsePrefix("10.1.1.4/32")))
	eventually(t, "withdrawal in FRR", func() string {
		return contains(frr.vtysh("show bgp ipv4 vpn 10.1.1.4/32"), "Network not in table")
	})
	// Killed, it takes its routes along; started again, they are back.
	frr.kill()
	w.see(t, id, none)
	frr.start()
	l.up("frr")
	w.see(t, id, one(func(Path) string { return "" }))
	if got := l.peer("frr"); got.Flaps != 1 {
		t.Errorf("flaps: %+v", got)
	}
}

// TestNetTTLSecurity has an eBGP neighbour that takes only packets that no
// router has passed on, and that sends such.
func TestNetTTLSecurity(t *testing.T) {
	l := newLab(t, nil)
	l.frr(l.link(1, "frr"), `
router bgp 65001
 bgp router-id 10.99.1.2
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 neighbor 10.99.1.1 remote-as 64512
 neighbor 10.99.1.1 timers connect 1
 neighbor 10.99.1.1 ttl-security hops 1
 address-family ipv4 vpn
  neighbor 10.99.1.1 activate
`)
	l.setPeers(map[string]PeerConfig{"frr": {
		Addr: theirs(1), AS: 65001, Families: []Family{VPNv4}, Retry: time.Second, TTLSecurity: 1,
	}})
	l.up("frr")
}
