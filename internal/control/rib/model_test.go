package rib

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/feed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// model is what was said to a RIB, and what follows from it in the plainest
// way there is.
type model struct {
	vrfs map[uint32]VRF
	own  map[place]Spec
	ext  map[place]Spec
}

// place is where a path is: in a VRF, or under a route distinguisher.
type place struct {
	at     uint64
	key    Key
	source Source
}

func newModel() *model {
	return &model{vrfs: map[uint32]VRF{}, own: map[place]Spec{}, ext: map[place]Spec{}}
}

type candidate struct {
	Spec
	place
	own bool
}

// routes computes the chosen paths of a VRF from scratch.
func (m *model) routes(number uint32) map[Key][]candidate { return m.choose(number, m.derived()) }

// derived makes paths of static routes, aggregates and chains, from nothing and
// again and again until nothing is new.
func (m *model) derived() map[place]Spec {
	made := map[place]Spec{}
	for round := 0; ; round++ {
		now := map[place]Spec{}
		tables, ways := map[uint32]map[Key][]candidate{}, map[uint32]map[Key][]candidate{}
		for n := range uint32(5) {
			tables[n], ways[n] = m.choose(n, made), m.choose(n, nil)
		}
		for n, vrf := range m.vrfs {
			m.derive(n, vrf, tables, ways, now)
		}
		if reflect.DeepEqual(now, made) {
			return made
		}
		if made = now; round > 100 {
			panic("the model does not come to rest")
		}
	}
}

func (m *model) derive(n uint32, vrf VRF, tables, ways map[uint32]map[Key][]candidate, made map[place]Spec) {
	put := func(kind SourceKind, name string, via []candidate, key Key, s Spec, policies ...*compile.RoutingPolicy) {
		names := map[string]int{}
		for _, c := range via {
			s := s
			s.Source = Source{Kind: kind, Name: name + " via " + c.Name}
			if names[s.Name]++; names[s.Name] > 1 {
				s.Name = fmt.Sprintf("%s (%d)", s.Name, names[s.Name])
			}
			s.NextHop, s.Label, s.RouterID = c.NextHop, c.Label, c.RouterID
			if s.Interface = ""; c.Kind != BGP {
				s.Interface = c.Name
			}
			if kind != Chain {
				s.SecurityGroups = c.SecurityGroups
			}
			s.Flags |= c.Flags&Stale | Multipath
			if kind == Chain {
				s.LocalPreference = c.LocalPreference
			}
			if s, accepted := judge(policies, key, s, s.Targets); accepted {
				made[place{uint64(n), key, s.Source}] = s
			}
		}
	}
	for _, r := range vrf.Static {
		s := Spec{Attributes: Attributes{LocalPreference: 100, OriginNetwork: n, Targets: r.Targets}}
		put(Static, fmt.Sprintf("%s to %s", r.Prefix, r.NextHop), ways[n][HostKey(r.NextHop)], UnicastKey(r.Prefix), s)
	}
	chained := func(s Spec) bool { return s.Kind == Aggregate || s.Kind == Chain }
	for _, r := range vrf.Aggregates {
		for key, list := range tables[n] {
			if key.Kind() == Unicast && r.Prefix.Overlaps(key.Prefix()) && key.Prefix().Bits() > r.Prefix.Bits() && !chained(list[0].Spec) {
				s := Spec{Attributes: Attributes{LocalPreference: 100, OriginNetwork: n}}
				put(Aggregate, fmt.Sprintf("%s to %s", r.Prefix, r.NextHop), ways[n][HostKey(r.NextHop)], UnicastKey(r.Prefix), s)
			}
		}
	}
	for _, c := range vrf.Chains {
		via := ways[c.Via][HostKey(c.Address)]
		ends := []uint32{c.From, n}
		slices.Sort(ends)
		stands := map[Key]bool{}
		for _, again := range []bool{false, true} { // first what prefixes stand for
			for key, list := range tables[c.From] {
				best := list[0]
				if key.Kind() != Unicast || slices.Contains(best.Networks, n) || slices.Contains(best.Networks, c.To) {
					continue
				}
				if best.OriginNetwork != c.Network && best.OriginNetwork != 0 {
					continue
				}
				of := slices.IndexFunc(c.Prefixes, func(p netip.Prefix) bool { return p.Overlaps(key.Prefix()) && key.Prefix().Bits() >= p.Bits() })
				switch {
				case of >= 0 && !chained(best.Spec):
					prefix := UnicastKey(c.Prefixes[of])
					stands[prefix] = true
					put(Chain, c.Name, via, prefix, Spec{Attributes: Attributes{LocalPreference: 100, OriginNetwork: c.Network, Networks: slices.Compact(ends)}}, c.Policies...)
				case again && !stands[key]:
					s := best.Spec
					through := append(slices.Clone(best.Networks), c.From, n)
					slices.Sort(through)
					s.Targets, s.External, s.Networks, s.Flags = nil, false, slices.Compact(through), best.Flags&Stale
					put(Chain, c.Name, via, key, s, c.Policies...)
				}
			}
		}
	}
}

// choose computes the chosen paths of a VRF, given what is derived.
func (m *model) choose(number uint32, derived map[place]Spec) map[Key][]candidate {
	found := map[Key][]candidate{}
	vrf := m.vrfs[number]
	own := maps.Clone(m.own)
	maps.Copy(own, derived)
	for at, s := range own {
		origin := m.vrfs[uint32(at.at)]
		s, accepted := judge(origin.Policies, at.key, s, s.Targets)
		targets := sortedTargets(origin.Export, s.Targets)
		switch {
		case !accepted:
		case at.at == uint64(number):
			found[at.key] = append(found[at.key], candidate{s, at, true})
		case at.key.Kind() == Unicast && s.Kind != Chain && meet(targets, vrf.Import):
			if s, accepted := judge(vrf.Policies, at.key, s, targets); accepted {
				found[at.key] = append(found[at.key], candidate{s, at, false})
			}
		}
	}
	for at, s := range m.ext {
		if meet(s.Targets, vrf.External) {
			key := at.key
			if key.Kind() == Prefix || key.Kind() == Neighbour {
				key = UnicastKey(key.Prefix())
			}
			if s, accepted := judge(vrf.Policies, key, s, s.Targets); accepted {
				found[key] = append(found[key], candidate{s, at, false})
			}
		}
	}
	for key, list := range found {
		list = slices.DeleteFunc(list, func(c candidate) bool {
			return !c.NextHop.IsValid() || c.Flags&(Waiting|Down|Unhealthy) != 0
		})
		slices.SortFunc(list, func(a, b candidate) int { return cmp.Or(preference(a, b), tie(a, b)) })
		if len(list) == 0 {
			delete(found, key)
			continue
		}
		n := 1
		for list[0].Flags&Multipath != 0 && n < len(list) && list[n].Flags&Multipath != 0 && preference(list[0], list[n]) == 0 {
			n++
		}
		found[key] = list[:n]
	}
	return found
}

func meet(a, b []Target) bool {
	return slices.ContainsFunc(a, func(t Target) bool { return slices.Contains(b, t) })
}

// preference is the documented order, up to where paths are equals.
func preference(a, b candidate) int {
	bound := func(c candidate) bool {
		return c.Kind == Attachment || c.Kind == Floating || c.Kind == Alias || c.Kind == NodeInNetwork
	}
	yes := func(b bool) int {
		if b {
			return 0
		}
		return 1
	}
	stale := cmp.Compare(yes(a.Flags&Stale == 0), yes(b.Flags&Stale == 0))
	learned := 0
	if !bound(a) && !bound(b) {
		learned = stale
	}
	return cmp.Or(
		cmp.Compare(yes(bound(a)), yes(bound(b))),
		cmp.Compare(yes(bound(a) && a.own), yes(bound(b) && b.own)),
		cmp.Compare(len(a.Networks), len(b.Networks)),
		learned,
		-cmp.Compare(a.LocalPreference, b.LocalPreference),
		-cmp.Compare(a.Sequence, b.Sequence),
		stale,
		cmp.Compare(len(a.ASPath), len(b.ASPath)),
		cmp.Compare(a.Origin, b.Origin),
		cmp.Compare(a.MED, b.MED),
		cmp.Compare(yes(a.External), yes(b.External)),
	)
}

func tie(a, b candidate) int {
	shared := func(c candidate) int { return int(Multipath - c.Flags&Multipath) }
	origin := func(c candidate) (vrf, rd uint64) {
		if c.Kind == BGP {
			return 0, c.at
		}
		return c.at, 0
	}
	av, ard := origin(a)
	bv, brd := origin(b)
	return cmp.Or(shared(a)-shared(b), a.RouterID.Compare(b.RouterID), a.NextHop.Compare(b.NextHop),
		cmp.Compare(a.Label, b.Label), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name),
		cmp.Compare(av, bv), cmp.Compare(ard, brd), a.place.key.Compare(b.place.key))
}

// text is what a reader gets to see of a path.
func text(s Source, label uint32, a Attributes, flags Flags, sequence uint64) string {
	return fmt.Sprintf("%s %s label %d next hop %s interface %q groups %v pref %d med %d communities %v as path %v flags %d seq %d",
		s.Kind, s.Name, label, a.NextHop, a.Interface, a.SecurityGroups, a.LocalPreference, a.MED, a.Communities, a.ASPath, flags, sequence)
}

func encodeText(vrf uint32, key Key, paths []*Path) []byte {
	lines := []string{fmt.Sprint(vrf), key.String()}
	for _, p := range paths {
		lines = append(lines, text(p.Source, p.Label, p.Attributes, p.Flags, p.Sequence))
	}
	return []byte(strings.Join(lines, "\n"))
}

// reader is a session that reads one VRF.
type reader struct {
	vrf     uint32
	cursors []*feed.Cursor
	has     map[string]string
	woken   bool
}

func (r *reader) take(limit int) (done bool) {
	done = true
	for _, c := range r.cursors {
		messages, all := c.Next(nil, limit)
		done = done && all
		for _, m := range messages {
			_, rest, _ := strings.Cut(string(m), "\n")
			key, paths, some := strings.Cut(rest, "\n")
			if some {
				r.has[key] = paths
			} else {
				delete(r.has, key)
			}
		}
	}
	return done
}

// bench is a RIB beside its model, with readers.
type bench struct {
	*model
	rib     *RIB
	readers []*reader
}

func newBench() *bench { return &bench{model: newModel(), rib: New(encodeText)} }

func (b *bench) check(t interface{ Fatalf(string, ...any) }) {
	b.rib.Flush()
	for number := range uint32(5) {
		want := map[string]string{}
		for key, list := range b.routes(number) {
			var lines []string
			for _, c := range list {
				lines = append(lines, text(c.Source, c.Label, c.Attributes, c.Flags, c.Sequence))
			}
			want[key.String()] = strings.Join(lines, "\n")
		}
		for _, r := range b.readers {
			if r.vrf != number {
				continue
			}
			for !r.take(2) {
			}
			if diff := difference(r.has, want); diff != "" {
				t.Fatalf("reader of vrf %d: %s", number, diff)
			}
		}
		have := map[string]string{}
		if v := b.rib.vrfs[number]; v != nil {
			for key, rt := range v.routes {
				if chosen := rt.chosen(); len(chosen) > 0 {
					_, paths, _ := strings.Cut(string(encodeText(number, key, chosen)), "\n")
					_, have[key.String()], _ = strings.Cut(paths, "\n")
				}
			}
		}
		if diff := difference(have, want); diff != "" {
			t.Fatalf("vrf %d: %s", number, diff)
		}
	}
}

func difference(have, want map[string]string) string {
	for key, paths := range want {
		if have[key] != paths {
			return fmt.Sprintf("%s: have\n%s\nwant\n%s", key, have[key], paths)
		}
	}
	for key, paths := range have {
		if _, ok := want[key]; !ok {
			return fmt.Sprintf("%s should not be there: %s", key, paths)
		}
	}
	return ""
}

// open has somebody read a VRF, as a session does that comes to need it.
func (b *bench) open(vrf uint32) {
	unicast, layer2, ok := b.rib.Feeds(vrf)
	if !ok {
		return
	}
	r := &reader{vrf: vrf, has: map[string]string{}}
	for _, f := range []*feed.Feed{unicast, layer2} {
		r.cursors = append(r.cursors, f.Read(func() { r.woken = true }))
	}
	b.readers = append(b.readers, r)
}

func (r *reader) close() {
	for _, c := range r.cursors {
		c.Close()
	}
}

// setExternal tells the RIB what the model has of a route of other routers.
func (b *bench) setExternal(rd uint64, key Key) {
	var specs []Spec
	for at, s := range b.ext {
		if at.at == rd && at.key == key {
			specs = append(specs, s)
		}
	}
	for _, via := range vias {
		of := slices.DeleteFunc(slices.Clone(specs), func(s Spec) bool { return s.Via != via })
		b.rib.SetExternal(via, RD(rd), key, of)
	}
}

// wantEmpty fails when anything is left in memory after all was withdrawn.
func (b *bench) wantEmpty(t interface{ Fatalf(string, ...any) }) {
	for _, r := range b.readers {
		r.close()
	}
	for at := range b.own {
		b.rib.Remove(uint32(at.at), at.key, at.source)
	}
	for _, via := range vias {
		b.rib.KeepExternal(via, func(RD, Key) bool { return false })
	}
	for number := range b.vrfs {
		b.rib.RemoveVRF(number)
	}
	b.rib.Flush()
	r := b.rib
	if n := len(r.vrfs) + len(r.external) + len(r.heard) + len(r.attributes) + len(r.sets) + len(r.importers) + len(r.exporters) +
		len(r.ways) + len(r.byVia) + len(r.byFrom) + len(r.dirty) + len(r.changed) + r.routes + r.paths; n != 0 {
		t.Fatalf("left after all was withdrawn: vrfs %v, external %v, attributes %d, sets %d, importers %v, exporters %v, %d routes, %d paths",
			r.vrfs, r.external, len(r.attributes), len(r.sets), r.importers, r.exporters, r.routes, r.paths)
	}
}

var (
	testKeys = []Key{
		HostKey(netip.MustParseAddr("10.0.0.1")), HostKey(netip.MustParseAddr("10.0.0.9")), HostKey(netip.MustParseAddr("fd00::1")), UnicastKey(netip.MustParsePrefix("10.0.0.0/24")),
		MACKey(0, [6]byte{2, 0, 0, 0, 0, 1}, netip.Addr{}), MACKey(0, [6]byte{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.0.0.1")),
		MulticastKey(0, netip.MustParseAddr("172.31.0.11")),
	}
	// vias are control nodes that routers told.
	vias         = []string{"", "c2"}
	externalKeys = append([]Key{
		PrefixKey(0, netip.MustParsePrefix("10.0.0.0/24")),
		NeighbourKey(0, [6]byte{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.0.0.1")),
		NeighbourKey(0, [6]byte{2, 0, 0, 0, 0, 2}, netip.MustParseAddr("10.0.0.1")),
	}, testKeys...)
)

// firstTarget is target:64512:0.
const firstTarget Target = 0x0002fc0000000000

func drawTargets(t *rapid.T, label string) []Target {
	return sortedTargets(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Target { return firstTarget + Target(rapid.IntRange(1, 4).Draw(t, "target")) }), 0, 3).Draw(t, label))
}

// drawPlace picks one of the places where there are paths.
func drawPlace(t *rapid.T, from map[place]Spec) (place, bool) {
	if len(from) == 0 {
		return place{}, false
	}
	return rapid.SampledFrom(slices.SortedFunc(maps.Keys(from), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.at, b.at), a.key.Compare(b.key), compareSources(a.source, b.source))
	})).Draw(t, "place"), true
}

// drawDerived has a VRF make paths out of others. The addresses of services
// are such as may be attached.
func drawDerived(t *rapid.T, v *VRF) {
	addresses := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.9")}
	prefixes := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("10.9.0.0/16")}
	address, prefix, number := rapid.SampledFrom(addresses), rapid.SampledFrom(prefixes), rapid.Uint32Range(1, 4)
	if rapid.IntRange(0, 3).Draw(t, "static") == 0 {
		// One may be to its own next hop, or to that of another.
		to := rapid.SampledFrom(append(prefixes, netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.9/32"))).Draw(t, "prefix")
		v.Static = []StaticRoute{{Prefix: to, NextHop: address.Draw(t, "next hop"), Targets: drawTargets(t, "targets")}}
	}
	if rapid.IntRange(0, 3).Draw(t, "aggregate") == 0 {
		v.Aggregates = []AggregateRoute{{prefix.Draw(t, "prefix"), address.Draw(t, "next hop")}}
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "chains") {
		c := ServiceChain{
			Name: fmt.Sprint(i), Network: number.Draw(t, "network"), To: number.Draw(t, "to"),
			From: number.Draw(t, "from"), Via: number.Draw(t, "via"), Address: address.Draw(t, "address"),
			Policies: drawPolicies(t),
		}
		if rapid.Bool().Draw(t, "alone") {
			c.Network, c.To = c.From, v.Number
		}
		if c.From == v.Number {
			continue
		}
		if rapid.Bool().Draw(t, "aggregated") {
			c.Prefixes = []netip.Prefix{prefix.Draw(t, "prefix")}
		}
		v.Chains = append(v.Chains, c)
	}
}

func drawSpec(t *rapid.T, kinds ...SourceKind) Spec {
	s := Spec{
		Source:   Source{Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Name: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")},
		Label:    uint32(rapid.IntRange(16, 18).Draw(t, "label")),
		Sequence: uint64(rapid.IntRange(0, 2).Draw(t, "sequence")),
		Flags:    Flags(rapid.SampledFrom([]int{0, 0, int(Waiting), int(Down), int(Unhealthy), int(Stale), int(Multipath), int(Multipath), int(Stale | Multipath)}).Draw(t, "flags")),
		Attributes: Attributes{
			Targets:         drawTargets(t, "targets"),
			SecurityGroups:  make([]uint32, rapid.IntRange(0, 1).Draw(t, "groups")),
			OriginNetwork:   uint32(rapid.IntRange(0, 4).Draw(t, "network")),
			Communities:     rapid.SampledFrom([][]uint32{nil, nil, {7}, {7, 8}}).Draw(t, "communities"),
			LocalPreference: uint32(rapid.IntRange(1, 2).Draw(t, "preference")),
			MED:             uint32(rapid.IntRange(0, 1).Draw(t, "med")),
			Origin:          uint8(rapid.IntRange(0, 1).Draw(t, "origin")),
			External:        rapid.Bool().Draw(t, "external"),
			ASPath:          make([]uint32, rapid.IntRange(0, 1).Draw(t, "systems")),
		},
	}
	if n := rapid.IntRange(0, 3).Draw(t, "hop"); n > 0 {
		s.NextHop = netip.AddrFrom4([4]byte{172, 31, 0, byte(10 + n)})
	}
	return s
}

// TestAsFromScratch: after any sequence of events each VRF has what a
// computation from scratch gives, its readers know it however slowly they
// read, and nothing is left once all is withdrawn.
func TestAsFromScratch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench()
		number := rapid.Uint32Range(1, 4)
		t.Repeat(map[string]func(*rapid.T){
			"vrf": func(t *rapid.T) {
				v := VRF{Number: number.Draw(t, "vrf"), Import: drawTargets(t, "import"), Export: drawTargets(t, "export"), External: drawTargets(t, "external"), Policies: drawPolicies(t)}
				drawDerived(t, &v)
				b.vrfs[v.Number] = v
				b.rib.SetVRF(v)
			},
			"policies": func(t *rapid.T) {
				if v, ok := b.vrfs[number.Draw(t, "vrf")]; ok {
					v.Policies = drawPolicies(t)
					b.vrfs[v.Number] = v
					b.rib.SetVRF(v)
				}
			},
			"remove vrf": func(t *rapid.T) {
				n := number.Draw(t, "vrf")
				delete(b.vrfs, n)
				b.rib.RemoveVRF(n)
				b.readers = slices.DeleteFunc(b.readers, func(r *reader) bool {
					if r.vrf == n {
						r.close()
					}
					return r.vrf == n
				})
			},
			"put": func(t *rapid.T) {
				n, key := number.Draw(t, "vrf"), rapid.SampledFrom(testKeys).Draw(t, "key")
				s := drawSpec(t, Attachment, Floating, InterfaceRoute)
				b.own[place{uint64(n), key, s.Source}] = s
				b.rib.Put(n, key, s)
			},
			"remove": func(t *rapid.T) {
				if at, ok := drawPlace(t, b.own); ok {
					delete(b.own, at)
					b.rib.Remove(uint32(at.at), at.key, at.source)
				}
			},
			"put external": func(t *rapid.T) {
				rd, key, s := rapid.Uint64Range(1, 2).Draw(t, "rd"), rapid.SampledFrom(externalKeys).Draw(t, "key"), drawSpec(t, BGP)
				s.Via = rapid.SampledFrom(vias).Draw(t, "via")
				b.ext[place{rd, key, s.Source}] = s
				b.setExternal(rd, key)
			},
			"remove external": func(t *rapid.T) {
				if at, ok := drawPlace(t, b.ext); ok {
					delete(b.ext, at)
					b.setExternal(at.at, at.key)
				}
			},
			"age external": func(t *rapid.T) {
				via := rapid.SampledFrom(vias).Draw(t, "via")
				for at, s := range b.ext {
					if s.Via == via {
						s.Flags |= Stale
						b.ext[at] = s
					}
				}
				b.rib.AgeExternal(via)
			},
			"flush": func(*rapid.T) { b.rib.Flush() },
			"open":  func(t *rapid.T) { b.open(number.Draw(t, "vrf")) },
			"take": func(t *rapid.T) {
				if len(b.readers) > 0 {
					rapid.SampledFrom(b.readers).Draw(t, "reader").take(1)
				}
			},
			"check": func(t *rapid.T) { b.check(t) },
		})
		b.check(t)
		b.wantEmpty(t)
	})
}

// TestMoveConverges: where an address is bound last by the store's revision,
// that is where it leads, in whatever order this is heard.
func TestMoveConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := New(encodeText)
		key := testKeys[0]
		specs := make([]Spec, 5)
		for i := range specs {
			specs[i] = Spec{
				Source: Source{Kind: Attachment, Name: fmt.Sprint(i)}, Sequence: uint64(i), Label: uint32(16 + i),
				Flags:      Flags(rapid.SampledFrom([]int{0, int(Stale)}).Draw(t, "flags")),
				Attributes: Attributes{NextHop: netip.AddrFrom4([4]byte{172, 31, 0, byte(20 - i)}), LocalPreference: 100},
			}
		}
		for _, i := range rapid.Permutation([]int{0, 1, 2, 3, 4}).Draw(t, "order") {
			r.Put(1, key, specs[i])
			if rapid.Bool().Draw(t, "flush") {
				r.Flush()
			}
		}
		r.Flush()
		if chosen := r.vrfs[1].routes[key].told; len(chosen) != 1 || chosen[0].Name != "4" {
			t.Fatalf("leads to %v", chosen)
		}
	})
}
