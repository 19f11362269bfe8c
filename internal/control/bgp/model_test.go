package bgp

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// world is a rib with peers that announce at random and members that read at
// random; each member keeps what it was told, as a router would.
type world struct {
	*rapid.T
	rib   *rib
	peers []*modelPeer
	local [numFam]*source
}

type modelPeer struct {
	peer    *peer
	kind    int
	sources [numFam]*source
	member  *member
	told    [numFam]map[string]string // key to attributes and label
	ended   [numFam]int
}

var modelFamilies = []Family{RTC, VPNv4}

// kinds of peers: iBGP, client, eBGP; and with or without membership.
func (w *world) exporterOf(kind int) exporter {
	e := exporter{as4: true, llgr: kind != 3, localAS: 64512, routerID: addr(1), self4: addr(1), clusterID: 1}
	e.families.add(VPNv4)
	switch kind {
	case 1, 3:
		e.client = true
	case 2:
		e.ebgp = true
	case 4:
		e.client = true
		e.families.add(RTC)
	}
	return e
}

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

func (w *world) connect(p *modelPeer) {
	p.told = [numFam]map[string]string{}
	p.ended = [numFam]int{}
	var wants *membership
	for i, f := range families {
		if !slices.Contains(modelFamilies, f) {
			continue
		}
		p.told[i] = map[string]string{}
		p.sources[i] = &source{peer: p.peer, addr: p.peer.config.Addr, routerID: p.peer.config.Addr, ebgp: p.kind == 2, client: p.kind == 1 || p.kind >= 3}
		if f == RTC && p.kind == 4 {
			wants = newMembership()
			p.sources[i].wants = wants
		}
	}
	p.member = w.rib.join(w.exporterOf(p.kind), p.peer, wants, func() {})
}

func (w *world) disconnect(p *modelPeer) {
	p.member.leave()
	p.member = nil
	for i, src := range p.sources {
		if src != nil {
			w.rib.purge(families[i], src)
		}
	}
}

var modelTargets = []RouteTarget{NewRouteTarget(1, 1), NewRouteTarget(1, 2), NewRouteTarget(1, 3)}

func (w *world) attrs() *Attrs {
	a := &Attrs{
		NextHop: addr(500 + rapid.IntRange(0, 2).Draw(w.T, "hop")), LocalPref: Some(uint32(rapid.IntRange(100, 101).Draw(w.T, "pref"))),
		ASPath: NewASPath(65001),
	}
	for i, t := range modelTargets {
		if rapid.Bool().Draw(w.T, fmt.Sprint("target", i)) {
			a.ExtCommunities = append(a.ExtCommunities, ExtCommunity(t))
		}
	}
	if rapid.IntRange(0, 9).Draw(w.T, "community") == 0 {
		a.Communities = append(a.Communities, rapid.SampledFrom([]uint32{CommunityNoExport, CommunityNoAdvertise, CommunityNoLLGR}).Draw(w.T, "which"))
	}
	return a
}

func (w *world) key() nlri {
	id := VPNNLRI(RDFromAS(1, 1), netip.PrefixFrom(addr(rapid.IntRange(0, 5).Draw(w.T, "prefix")), 32))
	return nlri{key: []byte(id.key), label: uint32(rapid.IntRange(1, 2).Draw(w.T, "label"))<<4 | 1}
}

// announce changes a route of a source, or a membership.
func (w *world) announce(src *source, f Family) {
	n := w.key()
	if f == RTC {
		key := membershipKey(1, rapid.SampledFrom(modelTargets).Draw(w.T, "target"))
		if rapid.IntRange(0, 5).Draw(w.T, "all") == 0 {
			key = "\x00"
		}
		n = nlri{key: []byte(key)}
	}
	t := w.rib.tables[f.index()]
	w.rib.mu.Lock()
	defer w.rib.mu.Unlock()
	if rapid.IntRange(0, 2).Draw(w.T, "withdraw") == 0 {
		t.remove(src, n.key, 0)
		return
	}
	a := w.rib.pool.take(w.attrs())
	t.put(src, &n, a)
	w.rib.pool.release(a)
}

// read lets a member take some batches.
func (w *world) read(p *modelPeer, limit int) {
	for range limit {
		b := p.member.next()
		if b == nil {
			return
		}
		for i := range b.parts {
			if part := &b.parts[i]; b.isFor(part, p.peer, p.member.wants) {
				p.take(w, b.data[part.start:part.end])
			}
		}
	}
}

// take applies messages as a router would.
func (p *modelPeer) take(w *world, data []byte) {
	for len(data) > 0 {
		size, kind, bad := checkHeader(data)
		if bad != nil {
			w.Fatalf("header: %v", bad)
		}
		body := data[headerSize:size]
		data = data[size:]
		if kind == msgRefresh {
			continue
		}
		var u update
		if bad := u.parse(body); bad != nil || u.withdraw != nil {
			w.Fatalf("update % x: %v %v", body, bad, u.withdraw)
		}
		if u.unreach.present && len(u.unreach.routes) == 0 {
			p.ended[u.unreach.family.index()]++
		}
		var n nlri
		for b := u.unreach.routes; len(b) > 0; {
			rest, err := n.next(u.unreach.family, b, false, true)
			if err != nil {
				w.Fatalf("withdrawn route: %v", err)
			}
			delete(p.told[u.unreach.family.index()], string(n.key))
			b = rest
		}
		for b := u.reach.routes; len(b) > 0; {
			rest, err := n.next(u.reach.family, b, false, false)
			if err != nil {
				w.Fatalf("route: %v", err)
			}
			p.told[u.reach.family.index()][string(n.key)] = fmt.Sprint(n.label, u.reach.nextHop, u.attrs)
			b = rest
		}
	}
}

// want is what the member should have been told, from the tables as they are.
func (w *world) want(p *modelPeer, f Family) map[string]string {
	e := w.exporterOf(p.kind)
	i := f.index()
	out := map[string]string{}
	for key, r := range w.rib.tables[i].rows {
		if r.flags&rowGone != 0 {
			continue
		}
		at := r.paths
		others := false
		for o := at; o != nil; o = o.next {
			others = others || o.src.peer != p.peer
			if compare(o, at, false) < 0 {
				w.Fatalf("best path is not first")
			}
		}
		split := at.src.peer == p.peer && (f != RTC || !others)
		if split || !e.families.has(f) || !e.allows(f, at) || !p.wants(w, at.attrs, f) {
			continue
		}
		x := e.rewrite(f, at.src, at.attrs, at.src.stale)
		out[key] = fmt.Sprint(at.label, e.nextHop(f, at.attrs), x.encode(nil, true))
	}
	return out
}

// wants computes a peer's filter from its routes in the table, not from the
// set that the code keeps.
func (p *modelPeer) wants(w *world, a *Attrs, f Family) bool {
	if p.kind != 4 || f == RTC {
		return true
	}
	for key, r := range w.rib.tables[RTC.index()].rows {
		if r.flags&rowGone != 0 || r.find(p.sources[RTC.index()], 0) == nil {
			continue
		}
		if key == "\x00" {
			return true
		}
		for _, t := range a.RouteTargets() {
			if key == membershipKey(1, t) {
				return true
			}
		}
	}
	return false
}

// TestModel runs any interleaving of changes, sessions and reads: in the end
// everybody was told the same as the tables say, and nothing is kept that
// nobody needs.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{T: t, rib: newRIB()}
		w.rib.batchRows = rapid.IntRange(1, 4).Draw(t, "rows in a batch")
		for i := range w.local {
			w.local[i] = &source{routerID: addr(1)}
		}
		for i, kind := range []int{0, 0, 1, 1, 2, 3, 4, 4} {
			w.peers = append(w.peers, &modelPeer{kind: kind, peer: &peer{config: PeerConfig{Addr: addr(10 + i)}}})
		}
		for _, p := range w.peers {
			if rapid.Bool().Draw(t, "up") {
				w.connect(p)
			}
		}
		anyone := func(t *rapid.T, connected bool) *modelPeer {
			p := w.peers[rapid.IntRange(0, len(w.peers)-1).Draw(t, "peer")]
			if (p.member != nil) != connected {
				t.Skip("not so")
			}
			return p
		}
		t.Repeat(map[string]func(t *rapid.T){
			"announce": func(t *rapid.T) { w.announce(anyone(t, true).sources[VPNv4.index()], VPNv4) },
			"own":      func(t *rapid.T) { w.announce(w.local[VPNv4.index()], VPNv4) },
			"member": func(t *rapid.T) {
				p := w.peers[rapid.IntRange(len(w.peers)-2, len(w.peers)-1).Draw(t, "peer")]
				if p.member == nil {
					t.Skip("not so")
				}
				w.announce(p.sources[RTC.index()], RTC)
			},
			"import":  func(t *rapid.T) { w.announce(w.local[RTC.index()], RTC) },
			"connect": func(t *rapid.T) { w.connect(anyone(t, false)) },
			"leave":   func(t *rapid.T) { w.disconnect(anyone(t, true)) },
			"read":    func(t *rapid.T) { w.read(anyone(t, true), rapid.IntRange(1, 3).Draw(t, "batches")) },
			"ready":   func(t *rapid.T) { anyone(t, true).member.ready() },
			"refresh": func(t *rapid.T) { anyone(t, true).member.refresh(VPNv4, rapid.Bool().Draw(t, "enhanced")) },
			"age": func(t *rapid.T) {
				src := anyone(t, true).sources[VPNv4.index()]
				if src.stale < longStale { // a session ends once
					w.rib.age(VPNv4, src, src.stale+1)
				}
			},
			"burst": func(t *rapid.T) { // more batches than the ring holds, for one reader
				p := anyone(t, true)
				for range ringSize + 3 {
					w.announce(w.local[VPNv4.index()], VPNv4)
					w.read(p, 1)
				}
			},
		})
		w.finish()
	})
}

func (w *world) finish() {
	for _, p := range w.peers {
		if p.member != nil {
			p.member.ready()
		}
	}
	for _, p := range w.peers {
		if p.member == nil {
			continue
		}
		w.read(p, 1000)
		for _, f := range p.member.group.families.list() {
			if got, want := p.told[f.index()], w.want(p, f); !maps.Equal(got, want) {
				w.Fatalf("peer %s of kind %d, %s:\n got %q\nwant %q", p.peer.config.Addr, p.kind, f, got, want)
			}
			if p.ended[f.index()] != 1 {
				w.Fatalf("peer %s had %d end-of-RIB marks of %s", p.peer.config.Addr, p.ended[f.index()], f)
			}
		}
	}
	for _, p := range w.peers {
		if p.member != nil {
			w.disconnect(p)
		}
	}
	for i, t := range w.rib.tables {
		for _, key := range slices.Collect(maps.Keys(t.rows)) {
			t.remove(w.local[i], []byte(key), 0)
		}
		if len(t.rows) != 0 || len(t.graves) != 0 || len(t.cursors) != 0 || t.size != 0 {
			w.Fatalf("left in %s: %d rows, %d graves, %d cursors, size %d", t.family, len(t.rows), len(t.graves), len(t.cursors), t.size)
		}
	}
	if len(w.rib.pool) != 0 || len(w.rib.groups) != 0 || len(w.rib.wakers) != 0 {
		w.Fatalf("left: %d sets, %d groups, %d wakers", len(w.rib.pool), len(w.rib.groups), len(w.rib.wakers))
	}
}

// TestBestPathIsOne checks that the choice does not depend on the order in
// which paths came, whatever MED does.
func TestBestPathIsOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		always := rapid.Bool().Draw(t, "always")
		n := rapid.IntRange(2, 6).Draw(t, "paths")
		var paths []*path
		for i := range n {
			paths = append(paths, &path{
				src: &source{
					peer: &peer{}, addr: addr(i), routerID: addr(rapid.IntRange(1, 2).Draw(t, "id")),
					ebgp: rapid.Bool().Draw(t, "ebgp"), stale: staleness(rapid.IntRange(0, 1).Draw(t, "stale")),
				},
				attrs: &Attrs{
					Origin: uint8(rapid.IntRange(0, 1).Draw(t, "origin")),
					ASPath: NewASPath(uint32(rapid.IntRange(1, 3).Draw(t, "neighbour")), 9),
					MED:    Optional{uint32(rapid.IntRange(0, 2).Draw(t, "med")), true},
				},
			})
		}
		choice := func(order []*path) *path {
			r := &row{}
			for _, p := range order {
				p.next = r.paths
				r.paths = p
			}
			r.choose(always)
			count := 0
			for p := r.paths; p != nil; p = p.next {
				count++
			}
			if count != len(order) {
				t.Fatalf("%d paths left of %d", count, len(order))
			}
			return r.paths
		}
		first := choice(paths)
		if second := choice(rapid.Permutation(paths).Draw(t, "order")); first != second {
			t.Fatalf("chose %+v %+v, then %+v %+v", first.src, first.attrs, second.src, second.attrs)
		}
	})
}

// TestPacking checks that messages are as full as they can be and no fuller,
// and that every route is in one.
func TestPacking(t *testing.T) {
	r := newRIB()
	r.mu.Lock()
	src := &source{}
	a := r.pool.take(&Attrs{NextHop: addr(9), ASPath: NewASPath(1, 2, 3)})
	for i := range 3000 {
		id := VPNNLRI(RDFromAS(1, 1), netip.PrefixFrom(addr(i), 32))
		r.tables[VPNv4.index()].put(src, &nlri{key: []byte(id.key), label: 17}, a)
	}
	r.mu.Unlock()
	e := exporter{as4: true, routerID: addr(1)}
	e.families.add(VPNv4)
	m := r.join(e, &peer{}, nil, func() {})
	b := m.next()
	if len(b.parts) != 13+1 { // with 256 of 16 bytes each it would be full without attributes
		t.Errorf("%d messages with %d bytes", len(b.parts), len(b.data))
	}
	routes := 0
	for _, p := range b.parts {
		if p.end-p.start > maxMessage {
			t.Errorf("message of %d bytes", p.end-p.start)
		}
		routes += p.routes
	}
	if routes != 3000 {
		t.Errorf("%d routes", routes)
	}
	if !bytes.HasSuffix(b.data, endOfRIB(VPNv4)) {
		t.Error("no end-of-RIB mark")
	}
	m.leave()
}
