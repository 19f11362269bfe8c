package vrouter

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/contrail-mesos/contrail/api/portapi"
)

// The data plane gets the addresses of both families, and each gateway once.
func TestPortOfBothFamilies(t *testing.T) {
	r := portRecord("both", "c1", "tap1", 3, "b")
	r.Addresses = []portapi.Address{
		{Address: "10.0.0.3", PrefixLength: 24, Gateway: "10.0.0.1"},
		{Address: "10.0.0.4", PrefixLength: 24, Gateway: "10.0.0.1"},
		{Address: "2001:db8::3", PrefixLength: 64, Gateway: "2001:db8::1"},
		{Address: "2001:db8:1::3", PrefixLength: 64, Gateway: "::"},
		{Address: "2001:db8:2::3", PrefixLength: 64},
	}
	p, ok, err := r.port()
	if err != nil || !ok || len(p.Addresses) != len(r.Addresses) {
		t.Fatalf("port is %+v, %v, %v", p, ok, err)
	}
	want := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}
	if !slices.Equal(p.Gateways, want) {
		t.Errorf("gateways are %v, want %v", p.Gateways, want)
	}
	form := classicForm(r)
	for field, want := range map[string]any{
		"ip-address": "10.0.0.3", "ip6-address": "2001:db8::3", "plen": 24, "gateway": "10.0.0.1",
	} {
		if form[field] != want {
			t.Errorf("%s of the classic form is %v, want %v", field, form[field], want)
		}
	}
	r.Addresses = r.Addresses[2:]
	form = classicForm(r)
	for field, want := range map[string]any{
		"ip-address": "0.0.0.0", "ip6-address": "2001:db8::3", "plen": 64, "gateway": "2001:db8::1",
	} {
		if form[field] != want {
			t.Errorf("%s of the classic form without IPv4 is %v, want %v", field, form[field], want)
		}
	}
}
