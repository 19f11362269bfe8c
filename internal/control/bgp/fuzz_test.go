package bgp

import (
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// Routes as daemons send them: prefix, VPN prefixes, EVPN of types 1 to 5,
// memberships.
var routeSeeds = map[Family][]string{
	Inet:  {"180a0101", "00", "20c0000201"},
	Inet6: {"4020010db800000001", "00"},
	VPNv4: {"70003e910000fc00000000010a0101", "780138810001" + "0a6300070003" + "0a010104"},
	VPNv6: {"980001" + "f1" + "00010a6300070003" + "20010db800000001"},
	EVPN: {
		"0119" + "00010a6300070007" + "00000000000000000000" + "00000000" + "000001",
		"0225" + "00010a6300070007" + "00000000000000000000" + "00000000" + "30aabbccddee04" + "200a010104" + "001389",
		"0221" + "00010a6300070007" + "00000000000000000000" + "00000000" + "30aabbccddee04" + "00" + "001389",
		"0311" + "00010a6300070007" + "00000000" + "200a630001",
		"0417" + "00010a6300070007" + "00000000000000000001" + "200a630001",
		"0522" + "00010a6300070008" + "00000000000000000000" + "00000000" + "180a070000" + "00000000" + "00138a",
	},
	RTC: {"00", "600000fc000002fc0000000064", "200000fc00"},
}

// FuzzNLRI compares what the own parser and the codec make of routes.
func FuzzNLRI(f *testing.F) {
	for fam, seeds := range routeSeeds {
		for _, s := range seeds {
			f.Add(fam.index(), false, unhex(s))
			f.Add(fam.index(), true, unhex(s))
		}
	}
	f.Fuzz(func(t *testing.T, index int, withdraw bool, b []byte) {
		if index < 0 || index >= numFam || len(b) > maxMessage {
			return
		}
		fam := families[index]
		var n nlri
		rest, err := n.next(fam, b, false, withdraw)
		if err != nil || n.ignored {
			return
		}
		if len(rest) >= len(b) {
			t.Fatal("no progress")
		}
		own := b[:len(b)-len(rest)]
		// What goes out is read as the same route again.
		out := appendNLRI(nil, fam, string(n.key), n.label, string(n.rest))
		key := slices.Clone(n.key)
		if left, err := n.next(fam, out, false, withdraw); err != nil || len(left) > 0 || !slices.Equal(n.key, key) {
			t.Fatalf("% x became % x: %v", own, out, err)
		}
		_ = NLRI{fam, string(key)}.String()
		if fam == EVPN {
			r, err := parseEVPN(string(own))
			if err != nil {
				t.Fatalf("% x: %v", own, err)
			}
			again, err := r.wire()
			if err != nil || !slices.Equal(evpnKey(nil, again), key) {
				t.Fatalf("% x became % x: %v", own, again, err)
			}
		}
		if fam.targeted() && binary.BigEndian.Uint16(key[1:]) > 2 {
			return // the codec loses distinguishers of unknown types
		}
		theirs, err := packet.NLRIFromSlice(packet.Family(fam), own)
		if err != nil {
			return // stricter about distinguishers and the like
		}
		wire, err := theirs.Serialize()
		if err != nil || withdraw {
			return
		}
		var m nlri
		if left, err := m.next(fam, wire, false, false); err != nil || len(left) > 0 || m.label>>4 != n.label>>4 || !slices.Equal(m.key, key) {
			t.Fatalf("% x is % x for the codec, key % x, not % x (%v)", own, wire, m.key, key, err)
		}
	})
}

// A list of attributes with much in it.
const attrSeed = "40010100" + "40020a0202" + "0000fc00" + "0000fde9" + "400304" + "0a630007" + "800404" + "00000005" +
	"400504" + "000000c8" + "c00804" + "ffffff01" + "800904" + "0a630002" + "800a04" + "0a630003" +
	"c01018" + "0002fc0000000064" + "030c00000000000d" + "8004fc00007a1201" + "c01609" + "0006001389" + "0a630001" +
	"c0200c" + "000000010000000200000003" + "c0f003" + "010203"

// FuzzAttributes checks that a set reads the same after it was written, and
// that it says what the codec says.
func FuzzAttributes(f *testing.F) {
	f.Add(true, true, unhex(attrSeed))
	f.Add(true, false, unhex("40010100"+"40020602010000fc00"+"400304"+"0a630007"))
	f.Add(false, true, unhex("40010102"+"400206"+"0202"+"5ba0fde9"+"400304"+"0a630007"+"c0110a"+"0202"+"000186a0"+"0000fde9"+"c007065ba00a000001"))
	f.Fuzz(func(t *testing.T, as4, trusted bool, b []byte) {
		if len(b) > maxMessage {
			return
		}
		d := decoder{as4: as4, trusted: trusted}
		a, bad, withdraw := d.decode(b, netip.Addr{})
		if bad != nil || withdraw != nil {
			return
		}
		again, bad, withdraw := (&decoder{as4: true, trusted: trusted}).decode(a.encode(nil, true), a.NextHop)
		if bad != nil || withdraw != nil || again.canon != a.canon {
			t.Fatalf("% x: became %+v, was %+v (%v %v)", b, again, a, bad, withdraw)
		}
		if !as4 {
			return
		}
		body := append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(b))), b...)
		var theirs packet.BGPUpdate
		if theirs.DecodeFromBytes(append(body, 24, 10, 0, 0)) != nil {
			return
		}
		compareAttrs(t, a, &theirs)
	})
}

func compareAttrs(t *testing.T, a *Attrs, theirs *packet.BGPUpdate) {
	seen := map[packet.BGPAttrType]bool{}
	for _, p := range theirs.PathAttributes {
		if seen[p.GetType()] {
			continue
		}
		seen[p.GetType()] = true
		same := true
		switch p := p.(type) {
		case *packet.PathAttributeOrigin:
			same = p.Value == a.Origin
		case *packet.PathAttributeMultiExitDisc:
			same = a.MED == Some(p.Value)
		case *packet.PathAttributeLocalPref:
			same = a.LocalPref == Some(p.Value)
		case *packet.PathAttributeCommunities:
			same = slices.Equal(p.Value, a.Communities)
		case *packet.PathAttributeAsPath:
			var numbers []uint32
			for _, s := range p.Value {
				numbers = append(numbers, s.GetAS()...)
			}
			var own []uint32
			a.ASPath.each(func(_ byte, as uint32) { own = append(own, as) })
			same = slices.Equal(own, numbers)
		}
		if !same {
			t.Errorf("the codec has %v, we %+v", p, a)
		}
	}
}

// testSession is a session without a connection.
func testSession(t testing.TB, as4, ebgp bool) *session {
	sp, err := New(Config{AS: 64512, RouterID: addr(1)})
	if err != nil {
		t.Fatal(err)
	}
	as := uint32(64512)
	if ebgp {
		as = 65001
	}
	p := newPeer(sp, "peer", PeerConfig{Addr: addr(2), AS: as}.normal())
	p.log = slog.New(slog.DiscardHandler)
	s := &session{
		conn: &conn{peer: p}, n: &negotiated{as4: as4}, known: map[string]known{},
		decoder: decoder{as4: as4, ebgp: ebgp}, local: addr(1),
	}
	for i, f := range families {
		s.n.families.add(f)
		s.sources[i] = &source{peer: p, addr: addr(2), routerID: addr(2), ebgp: ebgp}
	}
	s.member = sp.rib.join(p.exporter(s), p, nil, func() {})
	return s
}

// FuzzMessages gives a session anything: it must not panic, and after an error
// nothing may be half done.
func FuzzMessages(f *testing.F) {
	for fam, seeds := range routeSeeds {
		for _, s := range seeds {
			f.Add(true, false, updateOf(fam, unhex(s), unhex(attrSeed[:16])))
		}
	}
	f.Add(true, false, updateOf(Inet, nil, nil))
	f.Add(false, true, append(slices.Clone(keepalive), routeRefresh(VPNv4, refreshBegin)...))
	f.Fuzz(func(t *testing.T, as4, ebgp bool, b []byte) {
		s := testSession(t, as4, ebgp)
		defer s.member.leave()
		used, err := s.handle(b)
		if used > len(b) || err == nil && len(b)-used >= maxMessage {
			t.Fatalf("used %d of %d", used, len(b))
		}
		for i, src := range s.sources {
			rib := s.peer.speaker.rib
			rib.purge(families[i], src)
			if src.count != 0 || rib.tables[i].size != 0 {
				t.Fatalf("%s: count %d, size %d", families[i], src.count, rib.tables[i].size)
			}
		}
	})
}

// updateOf makes an UPDATE of routes with MP_REACH_NLRI and more attributes.
func updateOf(f Family, routes, attrs []byte) []byte {
	reach := []byte{byte(f >> 24), byte(f >> 16), byte(f)}
	reach = append(appendNextHop(reach, f, addr(7)), 0)
	if f == Inet6 {
		reach = append(append(reach[:3], 16), netip.MustParseAddr("fd00::7").AsSlice()...)
		reach = append(reach, 0)
	}
	all := append(appendAttr(nil, flagOptional, attrMPReach, append(reach, routes...)), attrs...)
	b := appendHeader(nil, headerSize+4+len(all), msgUpdate)
	b = binary.BigEndian.AppendUint16(append(b, 0, 0), uint16(len(all)))
	return append(b, all...)
}

// FuzzOpen gives negotiation anything.
func FuzzOpen(f *testing.F) {
	p := testSession(f, true, false).peer
	open, err := p.openMessage()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(open[headerSize:])
	f.Fuzz(func(_ *testing.T, b []byte) {
		if n, err := p.negotiate(b); err == nil && n == nil {
			panic("neither result nor error")
		}
	})
}
