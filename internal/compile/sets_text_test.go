package compile

import (
	"net/netip"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

func TestTexts(t *testing.T) {
	for want, got := range map[string]interface{ String() string }{
		"any":    anyone,
		"nobody": &Selector{},
		"own network, networks 1 2, 10.0.0.0/8, group 8000001, tags 0x00010001 and 0x00020001": &Selector{
			Own: true, Networks: []uint32{1, 2}, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Groups: []uint32{8000001}, Tags: []uint32{hrApp, webTier},
		},
		"own network, if network 3":       &Selector{OwnOf: []uint32{3}},
		"any from 53 to 80-90,99":         &Service{Protocol: AnyProtocol, Src: []Ports{{53, 53}}, Dst: []Ports{{80, 90}, {99, 99}}},
		"IPv6 icmp6 type 128 code 0":      &Service{Family: IPv6, Protocol: icmpv6, Src: []Ports{{128, 128}}, Dst: []Ports{{0, 0}}},
		"99":                              &Service{Protocol: 99, Src: anyPorts, Dst: anyPorts},
		"deny, log, alert":                &Action{Deny: true, Log: true, Alert: true},
		"pass, mirror, to d:p:n:n, qos q": &Action{MirrorTo: &model.MirrorActionType{}, Instance: "d:p:n:n", QoS: "q"},
	} {
		if got.String() != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
