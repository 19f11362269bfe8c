package control

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/model"
)

func (w *world) router(name, kind string, at netip.AddrPort, as int64) {
	port := int64(at.Port())
	w.apply(model.Batch{Objects: []model.Object{&model.BGPRouter{
		Meta: model.Meta{UUID: id("router", name), FQName: append(strings.Split(fabricInstance, ":"), name)},
		BGPRouterParameters: &model.BgpRouterParams{
			Address: at.Addr().String(), Identifier: at.Addr().String(), AutonomousSystem: &as, Port: &port, RouterType: kind,
		},
	}}})
}

func (w *world) peer(from, to, attributes string) {
	entity := func(name string) model.Entity {
		return model.Entity{Kind: model.KindBGPRouter, UUID: id("router", name)}
	}
	w.apply(model.Batch{References: []model.Reference{{From: entity(from), To: entity(to), Attr: json.RawMessage(attributes)}}})
}

// TestPeering reads what the objects say of peers.
func TestPeering(t *testing.T) {
	g := newWorld()
	at := netip.MustParseAddrPort("192.0.2.1:1790")
	g.router("c1", "control-node", netip.MustParseAddrPort("192.0.2.9:179"), 64512)
	g.router("c2", "control-node", at, 64512)
	g.router("gw", "router", at, 64500)
	g.router("other", "router", at, 64501)
	g.router("dc2", "external-control-node", netip.MustParseAddrPort("192.0.2.2:179"), 64512)
	g.apply(model.Batch{Objects: []model.Object{&model.BGPRouter{Meta: model.Meta{UUID: id("router", "bare"), FQName: append(strings.Split(fabricInstance, ":"), "bare")}}}})
	g.peer("c1", "c2", `{}`)
	g.peer("c1", "bare", `null`)
	g.peer("c1", "dc2", `null`)
	g.peer("gw", "c1", `{"session": [{"attributes": [
		{"bgp_router": "c1", "hold_time": 30, "passive": true, "loop_count": 2, "private_as_action": "replace-all", "route_origin_override": {"origin_override": true, "origin": "EGP"}},
		{"bgp_router": "gw", "hold_time": 45, "private_as_action": "remove"},
		{"hold_time": 60, "address_families": {"family": ["inet-vpn", "erm-vpn"]}, "auth_data": {"key_type": "md5", "key_items": [{"key": "secret"}]},
		 "family_attributes": [{"address_family": "inet-vpn", "prefix_limit": {"maximum": 50, "idle_timeout": 9}}]}]}]}`)
	var p *peering
	g.graph.View(func(v *model.View) { p = peeringOf(v, "c1", 4) })
	want := bgp.PeerConfig{
		Addr: at.Addr(), Port: 1790, LocalAddr: netip.MustParseAddr("192.0.2.9"), AS: 64500, Families: []bgp.Family{bgp.VPNv4},
		Hold: 30 * time.Second, Passive: true, AllowOwnAS: 2, Password: "secret", MaxPrefixes: 50, RestartAfter: 9 * time.Second, AddPaths: 4,
		PrivateAS: bgp.ReplaceAllPrivate, Origin: bgp.Some(uint32(bgp.OriginEGP)),
	}
	if len(p.peers) != 2 || fmt.Sprint(p.peers["gw"]) != fmt.Sprint(want) {
		t.Errorf("peers are %+v, want gw: %+v", p.peers, want)
	}
	if !p.peers["dc2"].Trusted {
		t.Errorf("a control node of another cluster is not trusted: %+v", p.peers["dc2"])
	}
	if len(p.refused) != 1 || !strings.Contains(p.refused["bare"], "no bgp_router_parameters") {
		t.Errorf("refused are %v", p.refused)
	}
	if p.config.AS != 64512 || p.config.Listen.String() != "192.0.2.9:179" || p.config.RouterID.String() != "192.0.2.9" {
		t.Errorf("we are %+v", p.config)
	}
	g.graph.View(func(v *model.View) { p = peeringOf(v, "nobody", 0) })
	if p != nil {
		t.Errorf("nobody is %+v", p)
	}
}
