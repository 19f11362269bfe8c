package bgp

import (
	"net/netip"
	"strings"
	"testing"
)

// TestPrivateAS: what a peer of another AS is told of private numbers, in sequences
// and sets. The peer's own and public ones stay in any case.
func TestPrivateAS(t *testing.T) {
	const own, peer = 64999, 65001
	path := NewASPath(64512, 4_200_000_000, 65001, 64513, 3320, 65534, 4_294_967_295) + ASPath([]byte{asSet, 2}) + NewASPath(64514, 701)[2:] + ASPath([]byte{asSequence, 1}) + NewASPath(65533)[2:]
	for _, c := range []struct {
		name   string
		action PrivateAS
		path   ASPath
		want   string
	}{
		{"kept", KeepPrivate, path, "64512 4200000000 65001 64513 3320 65534 4294967295 {64514} {701} 65533"},
		{"leading", RemovePrivate, path, "65001 64513 3320 65534 4294967295 {64514} {701} 65533"},
		{"all", RemoveAllPrivate, path, "65001 3320 4294967295 {701}"},
		{"replaced", ReplaceAllPrivate, path, "64999 64999 65001 64999 3320 64999 4294967295 {64999} {701} 64999"},
		{"nothing else", RemovePrivate, NewASPath(64512, 64513), ""},
		{"empty", RemoveAllPrivate, "", ""},
		{"public", RemovePrivate, NewASPath(3320, 64512), "3320 64512"},
		{"bounds", RemoveAllPrivate, NewASPath(64511, 64512, 65534, 65535, 4_199_999_999, 4_294_967_294), "64511 65535 4199999999"},
	} {
		got := c.path.withoutPrivate(c.action, peer, own)
		if got.String() != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if again, ok := parseASPath([]byte(got), true); !ok || again != got {
			t.Errorf("%s: % x is no path", c.name, string(got))
		}
	}
	e := exporter{ebgp: true, localAS: own, private: RemoveAllPrivate, peerAS: peer, override: 64512}
	got := e.rewrite(VPNv4, &source{}, &Attrs{ASPath: NewASPath(64512, 64513)}, 0).ASPath.String()
	if got != "64999" { // our own in front is always told
		t.Errorf("the peer is told %q", got)
	}
}

// TestOriginOverride: routes of a peer have the origin that its configuration says.
func TestOriginOverride(t *testing.T) {
	hop := netip.MustParseAddr("192.0.2.1")
	sent := (&Attrs{Origin: OriginIncomplete, NextHop: hop, ASPath: NewASPath(1)}).encode(nil, true)
	for _, c := range []struct {
		override Optional
		want     uint8
	}{{Optional{}, OriginIncomplete}, {Some(uint32(OriginIGP)), OriginIGP}, {Some(uint32(OriginEGP)), OriginEGP}} {
		a, bad, withdraw := (&decoder{as4: true, origin: c.override}).decode(sent, hop)
		if bad != nil || withdraw != nil || a.Origin != c.want {
			t.Errorf("%+v: %+v, %v, %v", c.override, a, bad, withdraw)
		}
	}
	for _, c := range []PeerConfig{{Origin: Some(3)}, {PrivateAS: 4}} {
		c.Addr, c.AS, c.Families = hop, 65001, []Family{Inet}
		c = c.normal()
		if err := c.check(&Config{AS: 64512}); err == nil || !strings.Contains(err.Error(), "origin") && !strings.Contains(err.Error(), "private") {
			t.Errorf("%+v is taken: %v", c, err)
		}
	}
}
