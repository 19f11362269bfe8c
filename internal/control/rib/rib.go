package rib

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"reflect"
	"slices"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/feed"
)

// VRF is what the configuration says of a forwarding table. Lists of targets
// are sorted, without duplicates.
type VRF struct {
	Number         uint32
	Import, Export []Target
	// External are those of the imported targets under which the VRF takes what
	// other routers announce.
	External []Target
	// What is made out of other routes.
	Static     []StaticRoute
	Aggregates []AggregateRoute
	Chains     []ServiceChain
	// Policies are what all that comes to its unicast routes goes through, its own
	// paths before they go to others; in the order in which they apply.
	Policies []*compile.RoutingPolicy
}

// Encoder encodes the message that tells a VRF's readers which paths a key has;
// none when it is gone.
type Encoder func(vrf uint32, key Key, paths []*Path) []byte

// RIB is the routes of all VRFs.
type RIB struct {
	encode Encoder
	// feedsVersion counts how often Feeds has come to answer something else.
	feedsVersion uint64
	vrfs         map[uint32]*vrf
	external     map[externalKey]*Path
	// heard counts those by control node.
	heard      map[string]int
	attributes map[string]*sharedAttributes
	sets       map[string]*targetSet
	// importers are the VRFs, exporters the lists of paths, by target.
	importers map[topic]map[*vrf]struct{}
	exporters map[topic]map[*targetSet]struct{}
	// byVia and byFrom are the derivations that depend on a route, or on all of
	// a VRF.
	byVia  map[spot]map[*derivation]struct{}
	byFrom map[uint32]map[*derivation]struct{}
	// ways are the paths that lead to what is in byVia.
	ways map[spot][]*Path
	// observe is told of each route whose chosen paths are others than before.
	observe func(vrf uint32, key Key)
	// hops are the own paths of each VRF over each next hop, for who is told of
	// the first and the last; of VRFs with a number of at least hopsFrom.
	hops        map[hop]int
	hopsFrom    uint32
	observeHops func(vrf uint32, nextHop netip.Addr, has bool)
	// dirty are the routes whose paths have changed since the last Flush.
	dirty []*route
	// changed are the feeds whose readers the next Flush wakes.
	changed map[*feed.Feed]struct{}
	routes  int
	paths   int
	buffer  []byte
}

// hop is a next hop of a VRF.
type hop struct {
	vrf     uint32
	nextHop netip.Addr
}

// topic is what VRFs import by: a target, of our own paths or of those of
// other routers.
type topic struct {
	target   Target
	external bool
}

type externalKey struct {
	rd  RD
	key Key
}

// vrf is a forwarding table. It is there as soon as it has paths of its own,
// even if its configuration comes later, so that no order of events matters.
type vrf struct {
	VRF
	rib        *RIB
	configured bool
	routes     map[Key]*route
	// own is the number of paths whose origin it is.
	own int
	// derived are what makes paths of it out of other routes.
	derived map[Source]*derivation
	// filter is nil where there are no policies.
	filter          *filter
	unicast, layer2 *feed.Feed
}

// route is a key in a VRF, with its paths, the best first.
type route struct {
	vrf   *vrf
	key   Key
	paths []*Path
	// told are the chosen paths as readers know them.
	told  []*Path
	dirty bool
	row   feed.Row
}

// New returns a RIB without routes.
func New(encode Encoder) *RIB {
	return &RIB{
		encode: encode, vrfs: map[uint32]*vrf{}, external: map[externalKey]*Path{}, heard: map[string]int{},
		attributes: map[string]*sharedAttributes{}, sets: map[string]*targetSet{},
		importers: map[topic]map[*vrf]struct{}{}, exporters: map[topic]map[*targetSet]struct{}{},
		byVia: map[spot]map[*derivation]struct{}{}, byFrom: map[uint32]map[*derivation]struct{}{},
		ways: map[spot][]*Path{}, changed: map[*feed.Feed]struct{}{}, hops: map[hop]int{},
	}
}

// Observe has f told, during Flush, of each route whose chosen paths are others
// than before. It must not change the RIB.
func (r *RIB) Observe(f func(vrf uint32, key Key)) { r.observe = f }

// Chosen are the paths that traffic takes to a key in a VRF, as of the last Flush.
func (r *RIB) Chosen(vrf uint32, key Key) []*Path { return r.chosen(spot{vrf, key}) }

// ObserveHops has f told when a VRF with a number of at least from gets its first
// path of its own over a next hop, chosen or not, and when it has none any more.
// Paths of chains, which stay in their VRF, do not count. It must be called
// before there are paths, and f must not change the RIB.
func (r *RIB) ObserveHops(from uint32, f func(vrf uint32, nextHop netip.Addr, has bool)) {
	r.hopsFrom, r.observeHops = from, f
}

// countHop counts a path of a VRF's own, or no longer counts it.
func (r *RIB) countHop(p *Path, times int) {
	if r.observeHops == nil || p.origin.Number < r.hopsFrom || p.Kind == Chain || !p.NextHop.IsValid() {
		return
	}
	at := hop{p.origin.Number, p.NextHop}
	before := r.hops[at]
	switch now := before + times; now {
	case 0:
		delete(r.hops, at)
		r.observeHops(at.vrf, at.nextHop, false)
	default:
		r.hops[at] = now
		if before == 0 {
			r.observeHops(at.vrf, at.nextHop, true)
		}
	}
}

// Own are the chosen paths of a route whose origin is that VRF itself.
func (r *RIB) Own(vrf uint32, key Key) []*Path {
	return slices.DeleteFunc(slices.Clone(r.chosen(spot{vrf, key})), func(p *Path) bool {
		return p.origin == nil || p.origin.Number != vrf
	})
}

func (r *RIB) vrf(number uint32) *vrf {
	v, ok := r.vrfs[number]
	if !ok {
		v = &vrf{VRF: VRF{Number: number}, rib: r, routes: map[Key]*route{}, unicast: feed.New(), layer2: feed.New()}
		r.vrfs[number] = v
	}
	return v
}

// tidy forgets a VRF that has neither a configuration nor paths of its own.
func (r *RIB) tidy(v *vrf) {
	if !v.configured && v.own == 0 {
		delete(r.vrfs, v.Number)
		r.routes -= len(v.routes)
		clear(v.routes) // what is left is gone, and waits for readers to be told
	}
}

// SetVRF sets the configuration of a VRF.
func (r *RIB) SetVRF(c VRF) {
	v := r.vrf(c.Number)
	if !v.configured {
		v.configured = true
		r.feedsVersion++
	}
	if !reflect.DeepEqual(v.VRF, c) {
		r.configure(v, c)
	}
}

// RemoveVRF takes away the configuration of a VRF. Its own paths stay until
// they are removed.
func (r *RIB) RemoveVRF(number uint32) {
	v, ok := r.vrfs[number]
	if !ok || !v.configured {
		return
	}
	v.configured = false
	r.feedsVersion++
	r.configure(v, VRF{Number: number})
	r.wakeLater(v.unicast)
	r.wakeLater(v.layer2)
	r.tidy(v)
}

func (r *RIB) configure(v *vrf, c VRF) {
	old := v.VRF
	v.VRF = c
	if !slices.Equal(old.Export, c.Export) {
		for _, rt := range v.routes {
			for _, p := range rt.paths {
				if p.origin == v {
					r.retarget(p)
				}
			}
		}
	}
	if !reflect.DeepEqual(old.Policies, c.Policies) {
		v.setPolicies(c.Policies)
	}
	r.reimport(v, old.topics(), c.topics())
	r.derive(v, &c)
}

// Put sets the path that a source has to a key in a VRF.
func (r *RIB) Put(number uint32, key Key, s Spec) {
	v := r.vrf(number)
	old := v.ownPath(key, s.Source)
	attributes := r.intern(&s.Attributes)
	if old != nil && old.is(&s, attributes) {
		r.release(attributes)
		return
	}
	p := s.path(key, attributes)
	p.origin = v
	v.own++
	r.replace(old, p)
}

// Remove takes away the path that a source has to a key in a VRF.
func (r *RIB) Remove(number uint32, key Key, source Source) {
	v, ok := r.vrfs[number]
	if !ok {
		return
	}
	if old := v.ownPath(key, source); old != nil {
		r.replace(old, nil)
		r.tidy(v)
	}
}

// ownPath is a path of the VRF as its source said it.
func (v *vrf) ownPath(key Key, source Source) *Path {
	if v.filter != nil && key.kind == Unicast {
		for _, x := range v.filter.came[key] {
			if x.from.origin == v && x.from.Source == source {
				return x.from
			}
		}
	} else if rt := v.routes[key]; rt != nil {
		for _, p := range rt.paths {
			if p.origin == v && p.Source == source {
				return p
			}
		}
	}
	return nil
}

// SetExternal sets the paths that other routers have to a key under a route
// distinguisher, as they told a control node, and reports whether they are others
// than before. Each has a source of its own, and its targets are those of its
// attributes.
func (r *RIB) SetExternal(via string, rd RD, key Key, specs []Spec) (changed bool) {
	at := externalKey{rd, key}
	for p := r.external[at]; p != nil; p = p.sibling {
		if p.Via == via && !slices.ContainsFunc(specs, func(s Spec) bool { return s.Kind == p.Kind && s.Name == p.Name }) {
			r.unchain(at, p)
			r.replace(p, nil)
			changed = true
		}
	}
	for _, s := range specs {
		s.Via = via
		changed = r.putExternal(at, s) || changed
	}
	return changed
}

// KeepExternal takes away the paths that other routers told a control node, but
// for the keys that keep knows.
func (r *RIB) KeepExternal(via string, keep func(RD, Key) bool) {
	for at := range r.external {
		if !keep(at.rd, at.key) {
			r.SetExternal(via, at.rd, at.key, nil)
		}
	}
}

// AgeExternal makes all paths stale that other routers told a control node.
func (r *RIB) AgeExternal(via string) {
	for at, p := range r.external {
		for ; p != nil; p = p.sibling {
			if p.Via == via {
				s := p.spec()
				s.Flags |= Stale
				r.putExternal(at, s)
			}
		}
	}
}

// Heard is how many paths other routers told a control node.
func (r *RIB) Heard(via string) int { return r.heard[via] }

// External are the paths of other routers to a key under a route distinguisher.
func (r *RIB) External(rd RD, key Key) iter.Seq[*Path] {
	return func(yield func(*Path) bool) {
		for p := r.external[externalKey{rd, key}]; p != nil && yield(p); p = p.sibling {
		}
	}
}

func (r *RIB) putExternal(at externalKey, s Spec) (changed bool) {
	old := r.externalPath(at, s.Source)
	attributes := r.intern(&s.Attributes)
	if old != nil && old.is(&s, attributes) {
		r.release(attributes)
		return false
	}
	p := s.path(at.key, attributes)
	p.rd = at.rd
	if old != nil {
		r.unchain(at, old)
	}
	p.sibling = r.external[at]
	r.external[at] = p
	r.replace(old, p)
	return true
}

func (r *RIB) externalPath(at externalKey, source Source) *Path {
	for p := r.external[at]; p != nil; p = p.sibling {
		if p.Source == source {
			return p
		}
	}
	return nil
}

func (r *RIB) unchain(at externalKey, p *Path) {
	if r.external[at] == p {
		if p.sibling == nil {
			delete(r.external, at)
		} else {
			r.external[at] = p.sibling
		}
		return
	}
	for q := r.external[at]; q != nil; q = q.sibling {
		if q.sibling == p {
			q.sibling = p.sibling
			return
		}
	}
}

func (s *Spec) path(key Key, attributes *sharedAttributes) *Path {
	return &Path{
		Source: s.Source, sharedAttributes: attributes, Key: key,
		Label: s.Label, VNI: s.VNI, MAC: s.MAC, Flags: s.Flags, Sequence: s.Sequence,
	}
}

// replace takes a path out of everywhere and puts another one in; either may
// be nil.
func (r *RIB) replace(old, p *Path) {
	if old != nil {
		was := old
		if old.origin != nil {
			was = old.origin.unpass(old)
		}
		if was != nil {
			r.withdraw(was)
			r.releaseOther(was, old)
		}
		if old.origin != nil {
			old.origin.own--
			r.countHop(old, -1)
		} else if r.heard[old.Via]--; r.heard[old.Via] == 0 {
			delete(r.heard, old.Via)
		}
		r.release(old.sharedAttributes)
		r.paths--
	}
	if p != nil {
		now := p
		if p.origin == nil {
			r.heard[p.Via]++
		} else {
			r.countHop(p, 1)
			now = p.origin.pass(p)
		}
		if now != nil {
			r.announce(now)
		}
		r.paths++
	}
}

// announce puts a path into all VRFs that have it.
func (r *RIB) announce(p *Path) {
	r.list(p)
	r.forEach(p, func(v *vrf) { v.add(p) })
}

// withdraw takes it out again.
func (r *RIB) withdraw(p *Path) {
	r.forEach(p, func(v *vrf) { v.drop(p) })
	r.unlist(p)
}

// offer puts what the policies of a VRF have made of a path to where it belongs:
// its own paths also to others.
func (v *vrf) offer(p *Path) {
	if p.origin == v {
		v.rib.announce(p)
	} else {
		v.enter(p)
	}
}

// retract takes it out again.
func (v *vrf) retract(p *Path) {
	if p.origin == v {
		v.rib.withdraw(p)
	} else {
		v.leave(p)
	}
}

// forEach calls f with each VRF that has the path.
func (r *RIB) forEach(p *Path, f func(*vrf)) {
	if p.origin != nil {
		f(p.origin)
	}
	if p.set != nil {
		for _, v := range p.set.importers {
			if v != p.origin {
				f(v)
			}
		}
	}
}

// add takes in a path; the policies of its own VRF it has gone through.
func (v *vrf) add(p *Path) {
	if p.origin != v {
		if p = v.pass(p); p == nil {
			return
		}
	}
	v.enter(p)
}

func (v *vrf) drop(p *Path) {
	if p.origin == v {
		v.leave(p)
	} else if was := v.unpass(p); was != nil {
		v.leave(was)
		v.rib.releaseOther(was, p)
	}
}

func (v *vrf) enter(p *Path) {
	key := p.Key.inVRF()
	rt, ok := v.routes[key]
	if !ok {
		rt = &route{vrf: v, key: key}
		v.routes[key] = rt
		v.rib.routes++
	}
	rt.insert(p)
	rt.touch()
}

func (v *vrf) leave(p *Path) {
	if rt := v.routes[p.Key.inVRF()]; rt != nil {
		rt.drop(p)
		rt.touch()
	}
}

func (rt *route) touch() {
	if !rt.dirty {
		rt.dirty = true
		rt.vrf.rib.dirty = append(rt.vrf.rib.dirty, rt)
	}
}

// Flush chooses the paths of what has changed, and wakes who reads it.
func (r *RIB) Flush() {
	for len(r.dirty) > 0 {
		dirty := r.dirty
		r.dirty = nil
		for _, rt := range dirty {
			rt.dirty = false
			rt.settle()
		}
	}
	for f := range r.changed {
		f.Wake()
	}
	clear(r.changed)
}

func (r *RIB) wakeLater(f *feed.Feed) { r.changed[f] = struct{}{} }

// settle tells readers what is different in a route, and forgets a route that
// is no more.
func (rt *route) settle() {
	chosen := rt.chosen()
	if !slices.Equal(chosen, rt.told) {
		rt.told = chosen
		f := rt.feed()
		if len(chosen) > 0 {
			f.Put(&rt.row, rt)
		} else {
			f.Remove(&rt.row)
		}
		rt.vrf.rib.wakeLater(f)
		rt.vrf.rib.settled(rt)
		if rt.vrf.rib.observe != nil {
			rt.vrf.rib.observe(rt.vrf.Number, rt.key)
		}
	}
	rt.vrf.rib.reached(rt)
	if len(rt.paths) == 0 && !rt.row.Held() {
		rt.forget()
	}
}

func (rt *route) feed() *feed.Feed {
	if rt.key.Layer2() {
		return rt.vrf.layer2
	}
	return rt.vrf.unicast
}

// Message implements feed.Item.
func (rt *route) Message(gone bool) []byte {
	if gone {
		return rt.vrf.rib.encode(rt.vrf.Number, rt.key, nil)
	}
	return rt.vrf.rib.encode(rt.vrf.Number, rt.key, rt.told)
}

// Forgotten implements feed.Item.
func (rt *route) Forgotten() {
	if len(rt.paths) == 0 {
		rt.forget()
	}
}

func (rt *route) forget() {
	if rt.vrf.routes[rt.key] == rt {
		delete(rt.vrf.routes, rt.key)
		rt.vrf.rib.routes--
	}
}

// Feeds are the changes of a VRF's routes, those of routers and those of
// bridges; false when the VRF is not configured.
func (r *RIB) Feeds(number uint32) (unicast, layer2 *feed.Feed, ok bool) {
	v, ok := r.vrfs[number]
	if !ok || !v.configured {
		return nil, nil, false
	}
	return v.unicast, v.layer2, true
}

// FeedsVersion is another whenever Feeds may answer something else.
func (r *RIB) FeedsVersion() uint64 { return r.feedsVersion }

// code is what equal lists of targets have alike.
func code(targets []Target, external bool) string {
	b := make([]byte, 1, 1+8*len(targets))
	if external {
		b[0] = 1
	}
	for _, t := range targets {
		b = binary.BigEndian.AppendUint64(b, uint64(t))
	}
	return string(b)
}
