package rib

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

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
func (m *model) routes(number uint32) map[Key][]candidate {
	found := map[Key][]candidate{}
	vrf := m.vrfs[number]
	for at, s := range m.own {
		switch {
		case at.at == uint64(number):
			found[at.key] = append(found[at.key], candidate{s, at, true})
		case at.key.Kind() == Unicast && meet(slices.Concat(m.vrfs[uint32(at.at)].Export, s.Targets), vrf.Import):
			found[at.key] = append(found[at.key], candidate{s, at, false})
		}
	}
	for at, s := range m.ext {
		if meet(s.Targets, vrf.External) {
			key := at.key
			if key.Kind() == Prefix {
				key = UnicastKey(key.Prefix())
			}
			found[key] = append(found[key], candidate{s, at, false})
		}
	}
	for key, list := range found {
		list = slices.DeleteFunc(list, func(c candidate) bool {
			return !c.NextHop.IsValid() || c.Flags&(Waiting|Down) != 0
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
	trust := func(c candidate) int {
		bound := c.Kind == Attachment || c.Kind == Floating || c.Kind == Alias || c.Kind == NodeInNetwork
		switch {
		case bound && c.own:
			return 0
		case bound:
			return 1
		case c.Flags&Stale == 0:
			return 2
		}
		return 3
	}
	yes := func(b bool) int {
		if b {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(trust(a), trust(b)),
		-cmp.Compare(a.LocalPreference, b.LocalPreference),
		-cmp.Compare(a.Sequence, b.Sequence),
		cmp.Compare(yes(a.Flags&Stale == 0), yes(b.Flags&Stale == 0)),
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
	return fmt.Sprintf("%s %s label %d next hop %s pref %d med %d flags %d seq %d",
		s.Kind, s.Name, label, a.NextHop, a.LocalPreference, a.MED, flags, sequence)
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

// wantEmpty fails when anything is left in memory after all was withdrawn.
func (b *bench) wantEmpty(t interface{ Fatalf(string, ...any) }) {
	for _, r := range b.readers {
		r.close()
	}
	for at := range b.own {
		b.rib.Remove(uint32(at.at), at.key, at.source)
	}
	for at := range b.ext {
		b.rib.RemoveExternal(RD(at.at), at.key, at.source)
	}
	for number := range b.vrfs {
		b.rib.RemoveVRF(number)
	}
	b.rib.Flush()
	r := b.rib
	if n := len(r.vrfs) + len(r.external) + len(r.attributes) + len(r.sets) + len(r.importers) + len(r.exporters) +
		len(r.dirty) + len(r.changed) + r.routes + r.paths; n != 0 {
		t.Fatalf("left after all was withdrawn: vrfs %v, external %v, attributes %d, sets %d, importers %v, exporters %v, %d routes, %d paths",
			r.vrfs, r.external, len(r.attributes), len(r.sets), r.importers, r.exporters, r.routes, r.paths)
	}
}

var (
	testKeys = []Key{
		HostKey(netip.MustParseAddr("10.0.0.1")), HostKey(netip.MustParseAddr("fd00::1")), UnicastKey(netip.MustParsePrefix("10.0.0.0/24")),
		MACKey(0, [6]byte{2, 0, 0, 0, 0, 1}, netip.Addr{}), MACKey(0, [6]byte{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.0.0.1")),
		MulticastKey(0, netip.MustParseAddr("172.31.0.11")),
	}
	externalKeys = append([]Key{PrefixKey(0, netip.MustParsePrefix("10.0.0.0/24"))}, testKeys...)
)

func drawTargets(t *rapid.T, label string) []Target {
	return sortedTargets(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Target { return Target(rapid.IntRange(1, 4).Draw(t, "target")) }), 0, 3).Draw(t, label))
}

func drawSpec(t *rapid.T, kinds ...SourceKind) Spec {
	s := Spec{
		Source:   Source{rapid.SampledFrom(kinds).Draw(t, "kind"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")},
		Label:    uint32(rapid.IntRange(16, 18).Draw(t, "label")),
		Sequence: uint64(rapid.IntRange(0, 2).Draw(t, "sequence")),
		Flags:    Flags(rapid.SampledFrom([]int{0, 0, int(Waiting), int(Down), int(Stale), int(Multipath), int(Multipath), int(Stale | Multipath)}).Draw(t, "flags")),
		Attributes: Attributes{
			Targets:         drawTargets(t, "targets"),
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
				v := VRF{Number: number.Draw(t, "vrf"), Import: drawTargets(t, "import"), Export: drawTargets(t, "export"), External: drawTargets(t, "external")}
				b.vrfs[v.Number] = v
				b.rib.SetVRF(v)
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
				s := drawSpec(t, Attachment, Floating, Static)
				b.own[place{uint64(n), key, s.Source}] = s
				b.rib.Put(n, key, s)
			},
			"remove": func(t *rapid.T) {
				for at := range b.own {
					delete(b.own, at)
					b.rib.Remove(uint32(at.at), at.key, at.source)
					return
				}
			},
			"put external": func(t *rapid.T) {
				rd, key, s := rapid.Uint64Range(1, 2).Draw(t, "rd"), rapid.SampledFrom(externalKeys).Draw(t, "key"), drawSpec(t, BGP)
				b.ext[place{rd, key, s.Source}] = s
				b.rib.PutExternal(RD(rd), key, s)
			},
			"remove external": func(t *rapid.T) {
				for at := range b.ext {
					delete(b.ext, at)
					b.rib.RemoveExternal(RD(at.at), at.key, at.source)
					return
				}
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
				Source: Source{Attachment, fmt.Sprint(i)}, Sequence: uint64(i), Label: uint32(16 + i),
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
