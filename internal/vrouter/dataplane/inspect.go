package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
)

// RouteEntry is a route as the maps have it.
type RouteEntry struct {
	RouteKey
	// Hop is the id of the next hop.
	Hop     uint32
	NextHop NextHop
}

// RouteEntries returns the routes that match in the order of VRF and prefix, not
// more than limit, and how many there are beyond.
func (t *Tables) RouteEntries(match func(RouteKey) bool, limit int) (list []RouteEntry, left int, err error) {
	var all []entry[RouteKey, bpfRoute]
	for r, err := range t.rawRoutes() {
		if err != nil {
			return nil, 0, err
		}
		if match(r.key) {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b entry[RouteKey, bpfRoute]) int { return a.key.Compare(b.key) })
	left = max(len(all)-limit, 0)
	resolve, err := t.resolver()
	if err != nil {
		return nil, 0, err
	}
	for _, r := range all[:len(all)-left] {
		list = append(list, RouteEntry{r.key, r.value.NextHop, resolve(r.value)})
	}
	return list, left, nil
}

// Compare orders routes as people want them listed.
func (k RouteKey) Compare(o RouteKey) int {
	return cmp.Or(cmp.Compare(k.VRF, o.VRF), k.Prefix.Addr().Compare(o.Prefix.Addr()), cmp.Compare(k.Prefix.Bits(), o.Prefix.Bits()))
}

// RouteTo returns the route that packets of a VRF to an address take.
func (t *Tables) RouteTo(vrf uint32, address netip.Addr) (RouteEntry, bool, error) {
	r, ok, err := t.rawRouteTo(vrf, address)
	if err != nil || !ok {
		return RouteEntry{}, false, err
	}
	key, err := prefixOf(vrf, address, r)
	if err != nil {
		return RouteEntry{}, false, err
	}
	resolve, err := t.resolver()
	return RouteEntry{key, r.NextHop, resolve(r)}, true, err
}

// rawRouteTo is RouteTo as the maps have it.
func (t *Tables) rawRouteTo(vrf uint32, address netip.Addr) (r bpfRoute, ok bool, err error) {
	host := RouteKey{VRF: vrf, Prefix: netip.PrefixFrom(address, address.BitLen())}
	err = t.maps.HostRouteV2.Lookup(toHostRouteKey(host), &r)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		err = t.maps.RouteV2.Lookup(toRouteKey(host), &r)
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("look up route to %s in vrf %d: %w", address, vrf, err)
	}
	// A prefix of IPv6 that is short enough has the addresses of IPv4 in it.
	return r, address.Is6() || r.Bits >= mappedBits, nil
}

// prefixOf is the prefix that a route to an address is of.
func prefixOf(vrf uint32, address netip.Addr, r bpfRoute) (RouteKey, error) {
	bits := int(r.Bits)
	if address.Is4() {
		bits -= mappedBits
	}
	prefix, err := address.Prefix(bits)
	if err != nil {
		return RouteKey{}, fmt.Errorf("route to %s in vrf %d: %w", address, vrf, err)
	}
	return RouteKey{VRF: vrf, Prefix: prefix}, nil
}

// MACEntry is the way to a MAC as the maps have it.
type MACEntry struct {
	MACKey
	Hop     uint32
	NextHop NextHop
}

// MACEntries returns the ways to MACs that match in the order of VRF and MAC, not
// more than limit, and how many there are beyond.
func (t *Tables) MACEntries(match func(MACKey) bool, limit int) (list []MACEntry, left int, err error) {
	resolve, err := t.resolver()
	if err != nil {
		return nil, 0, err
	}
	for e, err := range batches[bpfMacKey, bpfRoute](t.maps.MacV1, "macs") {
		if err != nil {
			return nil, 0, err
		}
		if key := (MACKey{VRF: e.key.Vrf, MAC: e.key.Mac}); match(key) {
			list = append(list, MACEntry{key, e.value.NextHop, resolve(e.value)})
		}
	}
	slices.SortFunc(list, func(a, b MACEntry) int { return a.MACKey.Compare(b.MACKey) })
	left = max(len(list)-limit, 0)
	return list[:len(list)-left], left, nil
}

// rawRoutes yields the routes of both maps.
func (t *Tables) rawRoutes() iter.Seq2[entry[RouteKey, bpfRoute], error] {
	return func(yield func(entry[RouteKey, bpfRoute], error) bool) {
		for r, err := range batches[bpfHostRouteKey, bpfRoute](t.maps.HostRouteV2, "host routes") {
			if !yield(entry[RouteKey, bpfRoute]{fromHostRouteKey(r.key), r.value}, err) || err != nil {
				return
			}
		}
		for r, err := range batches[bpfRouteKey, bpfRoute](t.maps.RouteV2, "routes") {
			if !yield(entry[RouteKey, bpfRoute]{fromRouteKey(r.key), r.value}, err) || err != nil {
				return
			}
		}
	}
}

// resolver returns what tells where a route's value leads.
func (t *Tables) resolver() (func(bpfRoute) NextHop, error) {
	hops, err := t.readHops()
	if err != nil {
		return func(bpfRoute) NextHop { return NextHop{} }, err
	}
	who, err := t.identities()
	return func(r bpfRoute) NextHop { return fromRoute(r, hops, who) }, err
}

// Hop is a next hop by its id, and how many routes and MACs lead to it. Routes
// say label or VNI and who is there themselves: a tunnel here has neither.
type Hop struct {
	ID      uint32
	NextHop NextHop
	Routes  int
}

// Hops returns all next hops in the order of their ids; those that need no entry
// are among them.
func (t *Tables) Hops() ([]Hop, error) {
	hops, err := t.readHops()
	if err != nil {
		return nil, err
	}
	routes := map[uint32]int{}
	for r, err := range t.rawRoutes() {
		if err != nil {
			return nil, err
		}
		routes[r.value.NextHop]++
	}
	for r, err := range batches[bpfMacKey, bpfRoute](t.maps.MacV1, "macs") {
		if err != nil {
			return nil, err
		}
		routes[r.value.NextHop]++
	}
	list := []Hop{{hopDiscard, NextHop{}, routes[hopDiscard]}, {hopLocal, NextHop{Kind: Local}, routes[hopLocal]}}
	for id, n := range hops {
		list = append(list, Hop{id, n, routes[id]})
	}
	slices.SortFunc(list, func(a, b Hop) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// RouteCount is how many routes and MACs a VRF has.
type RouteCount struct{ IPv4, IPv6, MACs int }

// RouteCounts counts the routes and MACs of each VRF that has any.
func (t *Tables) RouteCounts() (map[uint32]RouteCount, error) {
	counts := map[uint32]RouteCount{}
	for r, err := range t.rawRoutes() {
		if err != nil {
			return nil, err
		}
		c := counts[r.key.VRF]
		if r.key.Prefix.Addr().Is4() {
			c.IPv4++
		} else {
			c.IPv6++
		}
		counts[r.key.VRF] = c
	}
	for r, err := range batches[bpfMacKey, bpfRoute](t.maps.MacV1, "macs") {
		if err != nil {
			return nil, err
		}
		c := counts[r.key.Vrf]
		c.MACs++
		counts[r.key.Vrf] = c
	}
	return counts, nil
}

// FlowPair is both directions of a conversation. Either may be nil: what has no
// answer yet, or what answers a flow that is forgotten already.
type FlowPair struct{ Begins, Answers *Flow }

// FlowPairs returns the conversations of which a direction matches, not more than
// limit, and how many there are beyond.
func (t *Tables) FlowPairs(match func(*Flow) bool, limit int) (pairs []FlowPair, left int, err error) {
	now, err := t.generations()
	if err != nil {
		return nil, 0, err
	}
	vifs, err := t.vifs()
	if err != nil {
		return nil, 0, err
	}
	for f, err := range t.rawFlows() {
		if err != nil {
			return nil, 0, err
		}
		flow := fromFlow(f.key, f.value, now)
		if f.value.Packets == 0 || !match(&flow) { // without packets it keeps the place of an answer
			continue
		}
		if len(pairs) == limit && !flow.Answers { // no look-up for what is only counted
			left++
			continue
		}
		other, err := t.otherDirection(f, vifs, now)
		if err != nil {
			return nil, 0, err
		}
		if flow.Answers && other != nil && match(other) {
			continue // it comes with the one that it answers
		}
		if len(pairs) == limit {
			left++
			continue
		}
		pair := FlowPair{Begins: &flow, Answers: other}
		if flow.Answers {
			pair = FlowPair{Begins: other, Answers: &flow}
		}
		pairs = append(pairs, pair)
	}
	return pairs, left, nil
}

// otherDirection is the flow that an entry answers, or that answers it; nil if
// there is none.
func (t *Tables) otherDirection(f rawFlow, vifs map[int]bpfVif, now generations) (*Flow, error) {
	other, err := t.reverseOf(f, vifs)
	if err != nil || other == nil || other.value.Packets == 0 {
		return nil, err
	}
	flow := fromFlow(other.key, other.value, now)
	if flow.Answers == (f.value.Role == flowAnswers) {
		return nil, nil
	}
	return &flow, nil
}

// reverseOf is the entry of the flow's other direction, nil if there is none.
func (t *Tables) reverseOf(f rawFlow, vifs map[int]bpfVif) (*rawFlow, error) {
	for _, key := range reverseKeys(f, vifs) {
		other := rawFlow{key: key}
		err := t.maps.FlowV3.Lookup(key, &other.value)
		if err == nil {
			return &other, nil
		}
		if !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("look up flow: %w", err)
		}
	}
	return nil, nil
}

// Generations are what the decisions of flows have to be of: the node's, and by
// interface those of the ports' policies.
func (t *Tables) Generations() (node uint32, policies map[int]uint32, err error) {
	now, err := t.generations()
	if err != nil {
		return 0, nil, err
	}
	vifs, err := t.vifs()
	if err != nil {
		return 0, nil, err
	}
	policies = make(map[int]uint32, len(vifs))
	for ifindex, v := range vifs {
		policies[ifindex] = now.policy[v.Slot]
	}
	return now.generation, policies, nil
}
