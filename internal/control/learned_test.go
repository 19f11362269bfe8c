package control

import (
	"net/netip"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/control/rib"
)

// TestLearnedMessages: another control node has of each kind of route what this
// one was told.
func TestLearnedMessages(t *testing.T) {
	address, mac := netip.MustParseAddr("10.0.0.9"), [6]byte{2, 0, 0, 0, 0, 9}
	for _, key := range []rib.Key{
		rib.UnicastKey(netip.MustParsePrefix("10.9.0.0/16")), rib.HostKey(netip.MustParseAddr("fd00::1")),
		rib.MACKey(3, mac, netip.Addr{}), rib.MACKey(0, mac, address), rib.MACKey(0, mac, netip.MustParseAddr("fd00::1")),
		rib.MulticastKey(4, address), rib.PrefixKey(5, netip.MustParsePrefix("10.9.0.0/16")), rib.NeighbourKey(6, mac, address),
	} {
		want := gatewayPath("a", "192.0.2.1", 0)
		want.Encapsulations, want.VNI, want.MAC, want.Sequence = rib.VXLAN, 5001, mac, 7
		at := outside{1, key}
		r := rib.New(encodeRoute)
		r.SetExternal(here, at.rd, at.key, []rib.Spec{want})
		var m controlv1.ExchangeMessage
		if err := proto.Unmarshal((&learned{tables: &tables{rib: r}, at: at}).Message(false), &m); err != nil {
			t.Fatal(err)
		}
		got, err := learnedKey(m.GetLearned())
		if err != nil || got != key || m.GetLearned().GetRouteDistinguisher() != 1 {
			t.Errorf("%s reads as %s, %v", key, got, err)
		}
		if s, err := learnedSpec(m.GetLearned().GetPaths()[0]); err != nil || !reflect.DeepEqual(s, want) {
			t.Errorf("path of %s reads as %+v, %v, want %+v", key, s, err, want)
		}
	}
	unknown := &controlv1.LearnedPath{NextHop: "192.0.2.1", Encapsulations: []controlv1.Encapsulation{-1, 0, controlv1.Encapsulation_ENCAPSULATION_VXLAN, 99}}
	if s, err := learnedSpec(unknown); err != nil || s.Encapsulations != rib.VXLAN {
		t.Errorf("encapsulations that nobody knows read as %v, %v", s.Encapsulations.Names(), err)
	}
	for name, m := range map[string]*controlv1.Learned{
		"no prefix":    {},
		"bad prefix":   {Prefix: "10.0.0.9"},
		"unknown kind": {Prefix: "10.0.0.0/24", Kind: 9},
		"short MAC":    {Kind: controlv1.Learned_KIND_MAC, Mac: mac[:5]},
	} {
		if key, err := learnedKey(m); err == nil {
			t.Errorf("%s reads as %s", name, key)
		}
	}
}
