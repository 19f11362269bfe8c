package rib

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/contrail-mesos/contrail/internal/compile"
)

// StaticRoute is a prefix that is reached like an address of the same VRF.
type StaticRoute struct {
	Prefix      netip.Prefix
	NextHop     netip.Addr
	Targets     []Target // beside those that the VRF exports; sorted
	Communities []uint32
}

// AggregateRoute is a prefix that is reached like an address of the same VRF,
// while there is any route within it.
type AggregateRoute struct {
	Prefix  netip.Prefix
	NextHop netip.Addr
}

// ServiceChain brings the routes of a network into this VRF, with the way
// through a service: that to an address of it.
type ServiceChain struct {
	Name string
	// Network is the one that is reached through the service, and To the one
	// that it is reached from. Routes of others are not brought in, except those
	// from outside: whom else the network reaches is not for To to know. Nor is
	// anything that has come from To itself, by whatever chain.
	Network, To uint32
	// From is the VRF behind the service: the network's, or that in which the
	// next service of several is the way to it.
	From uint32
	// Prefixes stand for all routes within them; other routes are brought in
	// one by one.
	Prefixes []netip.Prefix
	// Via is the VRF in which the service is reached, at Address.
	Via     uint32
	Address netip.Addr
	// Policies are what the routes that it brings in go through before those of
	// the VRF; in the order in which they apply.
	Policies []*compile.RoutingPolicy
}

// noReoriginate is the community of routes that no chain brings elsewhere.
const noReoriginate = 0xFFFFF000

// spot is a route of a VRF.
type spot struct {
	vrf uint32
	key Key
}

// derivation makes paths of a VRF out of other routes: of the one through
// which they are reached, via, and for chains and aggregates of those that
// they stand for, from.
//
// Every path of a chain has in Networks the VRFs that chains brought it from
// and into, and no chain brings it into any of them again. Paths that came
// through fewer are preferred before anything else, and prefixes stand only for
// what no chain has brought. So what is chosen among the paths of chains depends
// on shorter ones only, and Flush comes to the same end in whatever order things
// happen, whatever the chains look like.
//
// The paths of chains stay in their VRF, whatever it exports: those who import
// from it have not been allowed what its own policies allow.
type derivation struct {
	rib  *RIB
	into uint32
	kind SourceKind
	name string
	spec any // the StaticRoute, AggregateRoute or ServiceChain
	via  spot
	// from is the VRF whose routes it stands for, 0 for none.
	from     uint32
	prefixes []netip.Prefix
	// within are the keys of from that each prefix stands for at present.
	within map[Key]map[Key]struct{}
	// made are the paths that it has made, by key.
	made map[Key]map[Source]struct{}
}

func (c *VRF) derivations(r *RIB) map[Source]*derivation {
	all := map[Source]*derivation{}
	add := func(d *derivation) {
		d.rib, d.into = r, c.Number
		d.within, d.made = map[Key]map[Key]struct{}{}, map[Key]map[Source]struct{}{}
		all[Source{Kind: d.kind, Name: d.name}] = d
	}
	for _, s := range c.Static {
		add(&derivation{
			kind: Static, name: fmt.Sprintf("%s to %s", s.Prefix.Masked(), s.NextHop), spec: s,
			via: spot{c.Number, HostKey(s.NextHop)}, prefixes: []netip.Prefix{s.Prefix.Masked()},
		})
	}
	for _, a := range c.Aggregates {
		add(&derivation{
			kind: Aggregate, name: fmt.Sprintf("%s to %s", a.Prefix.Masked(), a.NextHop), spec: a,
			via: spot{c.Number, HostKey(a.NextHop)}, from: c.Number, prefixes: []netip.Prefix{a.Prefix.Masked()},
		})
	}
	for _, s := range c.Chains {
		d := &derivation{kind: Chain, name: s.Name, spec: s, via: spot{s.Via, HostKey(s.Address)}, from: s.From}
		for _, p := range s.Prefixes {
			d.prefixes = append(d.prefixes, p.Masked())
		}
		add(d)
	}
	return all
}

// derive has a VRF make the paths that its configuration says.
func (r *RIB) derive(v *vrf, c *VRF) {
	now := c.derivations(r)
	for id, d := range v.derived {
		if next := now[id]; next != nil && reflect.DeepEqual(next.spec, d.spec) {
			now[id] = d
			continue
		}
		leave(r.byVia, d.via, d)
		if len(r.byVia[d.via]) == 0 {
			r.setWays(d.via, nil)
		}
		leave(r.byFrom, d.from, d)
		for key := range maps.Clone(d.made) {
			d.make(key, nil)
		}
	}
	before := v.derived
	v.derived = now
	for id, d := range now {
		if before[id] == d {
			continue
		}
		if len(r.byVia[d.via]) == 0 {
			r.setWays(d.via, r.waysTo(d.via))
		}
		enter(r.byVia, d.via, d)
		if d.from != 0 {
			enter(r.byFrom, d.from, d)
			if from := r.vrfs[d.from]; from != nil {
				for key := range from.routes {
					if key.kind == Unicast {
						d.note(key)
					}
				}
			}
		}
		d.all()
	}
}

// reached has everything made anew that is reached through a route, if the ways
// there are others than before.
func (r *RIB) reached(rt *route) {
	if rt.key.kind != Unicast || len(r.byVia) == 0 {
		return
	}
	at := spot{rt.vrf.Number, rt.key}
	through := r.byVia[at]
	if len(through) == 0 {
		return
	}
	ways := r.waysTo(at)
	if slices.Equal(ways, r.ways[at]) {
		return
	}
	r.setWays(at, ways)
	for d := range through {
		d.all()
	}
}

func (r *RIB) waysTo(at spot) []*Path {
	v := r.vrfs[at.vrf]
	if v == nil || v.routes[at.key] == nil {
		return nil
	}
	return v.routes[at.key].ways()
}

func (r *RIB) setWays(at spot, ways []*Path) {
	if len(ways) == 0 {
		delete(r.ways, at)
	} else {
		r.ways[at] = ways
	}
}

// settled has everything made anew that stands for a route.
func (r *RIB) settled(rt *route) {
	if rt.key.kind != Unicast {
		return
	}
	for d := range r.byFrom[rt.vrf.Number] {
		if prefix, covered := d.note(rt.key); covered {
			d.one(prefix)
		}
		if d.kind == Chain {
			d.one(rt.key)
		}
	}
}

// note keeps count of what prefixes stand for, and returns the one that the
// key is within.
func (d *derivation) note(key Key) (prefix Key, covered bool) {
	if prefix, covered = d.covering(key); !covered {
		return prefix, false
	}
	if p := d.acceptable(key); p != nil && !p.Kind.chained() {
		if d.within[prefix] == nil {
			d.within[prefix] = map[Key]struct{}{}
		}
		d.within[prefix][key] = struct{}{}
	} else if delete(d.within[prefix], key); len(d.within[prefix]) == 0 {
		delete(d.within, prefix)
	}
	return prefix, true
}

// covering is the prefix that stands for a key. An aggregate is none of the
// routes that it stands for.
func (d *derivation) covering(key Key) (prefix Key, covered bool) {
	for _, p := range d.prefixes {
		prefix := UnicastKey(p)
		if p.Bits() <= int(key.bits) && p.Contains(key.Address()) && (d.kind == Chain || prefix != key) {
			return prefix, true
		}
	}
	return Key{}, false
}

// acceptable is the path of a route that may go on; nil when there is none.
func (d *derivation) acceptable(key Key) *Path {
	p := d.rib.chosen(spot{d.from, key})
	if p == nil {
		return nil
	}
	best := p[0]
	if d.kind == Aggregate {
		return best
	}
	c := d.spec.(ServiceChain)
	switch {
	case best.OriginNetwork != 0 && best.OriginNetwork != c.Network:
		return nil
	case slices.Contains(best.Networks, d.into) || slices.Contains(best.Networks, c.To) || slices.Contains(best.Communities, noReoriginate):
		return nil
	}
	return best
}

// chosen are the paths that traffic takes to a key, as of when the route was
// settled last: each time that this becomes different, settled is called.
func (r *RIB) chosen(at spot) []*Path {
	v := r.vrfs[at.vrf]
	if v == nil || v.routes[at.key] == nil {
		return nil
	}
	return v.routes[at.key].told
}

// all makes all paths anew.
func (d *derivation) all() {
	keys := map[Key]struct{}{}
	for key := range d.made {
		keys[key] = struct{}{}
	}
	for _, p := range d.prefixes {
		keys[UnicastKey(p)] = struct{}{}
	}
	if from := d.rib.vrfs[d.from]; from != nil && d.kind == Chain {
		for key := range from.routes {
			if key.kind == Unicast {
				keys[key] = struct{}{}
			}
		}
	}
	for key := range keys {
		d.one(key)
	}
}

// one makes the paths to a key anew.
func (d *derivation) one(key Key) {
	var specs []Spec
	for _, s := range d.specs(key) {
		if s, accepted := d.pass(key, s, nil); accepted {
			specs = append(specs, s)
		}
	}
	d.make(key, specs)
}

// pass has a path go through the policies of a chain, and tells whether they
// accept it.
func (d *derivation) pass(key Key, s Spec, matched func(*compile.RoutingPolicy, int)) (Spec, bool) {
	c, ok := d.spec.(ServiceChain)
	if !ok || len(c.Policies) == 0 {
		return s, true
	}
	a, accepted := applyPolicies(c.Policies, key, &s, s.Targets, matched)
	s.Attributes = a
	return s, accepted
}

// specs are the paths to a key, before policies.
func (d *derivation) specs(key Key) []Spec {
	model, ok := d.model(key)
	if !ok {
		return nil
	}
	var specs []Spec
	names := map[string]int{}
	for _, c := range d.rib.ways[d.via] {
		if c.Flags&Foreign != 0 {
			continue // only what is really there is a way to anything else
		}
		s := model
		s.Kind, s.Name = d.kind, d.name+" via "+c.Name
		if names[s.Name]++; names[s.Name] > 1 { // the same name in two VRFs
			s.Name = fmt.Sprintf("%s (%d)", s.Name, names[s.Name])
		}
		s.NextHop, s.Encapsulations, s.Weight, s.RouterID = c.NextHop, c.Encapsulations, c.Weight, c.RouterID
		s.Label, s.VNI, s.MAC, s.Interface = c.Label, c.VNI, c.MAC, c.InterfaceID()
		if d.kind != Chain { // who is at the address is behind the prefix
			s.SecurityGroups, s.Tags = c.SecurityGroups, c.Tags
		}
		s.Flags |= c.Flags&Stale | Multipath
		if d.kind == Chain { // a standby of the service takes over from its active one
			s.LocalPreference = c.LocalPreference
			// It is by the label that the node knows which service is meant.
			s.Encapsulations, s.VNI = s.Encapsulations&^VXLAN, 0
		}
		specs = append(specs, s)
	}
	return specs
}

// model is what the paths to a key have beside the way there; false when there
// is to be none.
func (d *derivation) model(key Key) (s Spec, ok bool) {
	s.LocalPreference, s.OriginNetwork = 100, d.into
	switch spec := d.spec.(type) {
	case StaticRoute:
		s.Targets, s.Communities = spec.Targets, spec.Communities
		return s, true
	case AggregateRoute:
		return s, len(d.within[key]) > 0
	}
	if len(d.within[key]) > 0 {
		s.OriginNetwork = d.spec.(ServiceChain).Network
		s.Networks = sortedNumbers([]uint32{d.from, d.into})
		return s, true
	}
	p := d.acceptable(key)
	if _, covered := d.covering(key); p == nil || covered && !p.Kind.chained() {
		return s, false
	}
	s.Attributes = p.Attributes
	s.Targets, s.External = nil, false
	s.Networks = sortedNumbers(append([]uint32{d.from, d.into}, p.Networks...))
	s.Sequence, s.Flags = p.Sequence, p.Flags&Stale
	return s, true
}

func sortedNumbers(list []uint32) []uint32 {
	slices.Sort(list)
	return slices.Compact(list)
}

// make has the paths to a key be those of the specs.
func (d *derivation) make(key Key, specs []Spec) {
	old := d.made[key]
	now := map[Source]struct{}{}
	for _, s := range specs {
		now[s.Source] = struct{}{}
		d.rib.Put(d.into, key, s)
	}
	for source := range old {
		if _, stays := now[source]; !stays {
			d.rib.Remove(d.into, key, source)
		}
	}
	if len(now) == 0 {
		delete(d.made, key)
	} else {
		d.made[key] = now
	}
}
