package bgp

import (
	"errors"
	"fmt"
	"net/netip"
)

// Route is a route of the speaker's own.
type Route struct {
	NLRI NLRI
	// Label is the MPLS label of a route of inet-vpn or inet6-vpn.
	Label uint32
	// EVPN has the fields of a route of e-vpn; NLRI is then made of them.
	EVPN  *EVPNRoute
	Attrs *Attrs
}

const maxLabel = 1<<20 - 1

// wire returns what the tables hold of a route.
func (r *Route) wire() (id NLRI, n nlri, err error) {
	if r.EVPN != nil {
		if n.rest, err = r.EVPN.wire(); err != nil {
			return id, n, fmt.Errorf("EVPN route: %w", err)
		}
		n.key = evpnKey(nil, n.rest)
		return NLRI{EVPN, string(n.key)}, n, nil
	}
	switch r.NLRI.Family {
	case VPNv4, VPNv6, Inet, Inet6:
	default:
		return id, n, fmt.Errorf("route of family %s without fields", r.NLRI.Family)
	}
	if r.Label > maxLabel {
		return id, n, fmt.Errorf("route %s: label %d is out of range; at most %d", r.NLRI, r.Label, maxLabel)
	}
	n.key = []byte(r.NLRI.key)
	if r.NLRI.Family.targeted() {
		n.label = r.Label<<4 | labelBottom
	}
	return r.NLRI, n, nil
}

// Put announces routes, or announces them anew as they are now. With an error
// none is.
func (s *Speaker) Put(routes ...Route) error {
	if len(routes) == 0 {
		return nil
	}
	ids, wires := make([]NLRI, len(routes)), make([]nlri, len(routes))
	sets := map[*Attrs]*Attrs{}
	for i := range routes {
		r := &routes[i]
		var err error
		if ids[i], wires[i], err = r.wire(); err != nil {
			return err
		}
		if sets[r.Attrs] != nil {
			continue
		}
		if r.Attrs == nil || !r.Attrs.NextHop.IsValid() {
			return fmt.Errorf("route %s has no next hop", ids[i])
		}
		own := *r.Attrs
		own.canon, own.refs, own.payer = "", 0, nil
		own.NextHop = own.NextHop.Unmap()
		own.setCanon()
		if len(own.canon) > maxMessage/2 {
			return fmt.Errorf("route %s has %d bytes of attributes; at most %d", ids[i], len(own.canon), maxMessage/2)
		}
		sets[r.Attrs] = &own
	}
	s.rib.mu.Lock()
	defer s.rib.mu.Unlock()
	for i := range routes {
		index := ids[i].Family.index()
		a := s.rib.pool.take(sets[routes[i].Attrs])
		s.rib.tables[index].put(s.local[index], &wires[i], a)
		s.rib.pool.release(a)
	}
	s.rib.wake()
	return nil
}

// Withdraw takes routes of the speaker's own back; those that are not there
// are no error. Without any, nobody is woken.
func (s *Speaker) Withdraw(routes ...NLRI) {
	if len(routes) == 0 {
		return
	}
	s.rib.mu.Lock()
	defer s.rib.mu.Unlock()
	for _, r := range routes {
		if i := r.Family.index(); i >= 0 && r.Family != RTC {
			s.rib.tables[i].remove(s.local[i], []byte(r.key), 0)
		}
	}
	s.rib.wake()
}

// SetImports says which route targets are imported here. Peers with
// route-target constraint send nothing else.
func (s *Speaker) SetImports(targets []RouteTarget) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := make(map[RouteTarget]struct{}, len(targets))
	for _, t := range targets {
		wanted[t] = struct{}{}
	}
	i := RTC.index()
	s.rib.mu.Lock()
	defer s.rib.mu.Unlock()
	a := s.rib.pool.take(&Attrs{Origin: OriginIGP})
	for t := range wanted {
		if _, ok := s.imports[t]; !ok {
			s.rib.tables[i].put(s.local[i], &nlri{key: []byte(membershipKey(s.config.AS, t))}, a)
		}
	}
	s.rib.pool.release(a)
	for t := range s.imports {
		if _, ok := wanted[t]; !ok {
			s.rib.tables[i].remove(s.local[i], []byte(membershipKey(s.config.AS, t)), 0)
		}
	}
	s.imports = wanted
	s.rib.wake()
}

// Path is one way to a destination, as a peer announced it.
type Path struct {
	Peer  string
	Attrs *Attrs // shared: not to be changed
	// Label is the MPLS label of a route of inet-vpn or inet6-vpn.
	Label uint32
	EBGP  bool
	// RouterID is that of the router that brought the route into its
	// autonomous system, as far as the peer tells.
	RouterID netip.Addr
	// Stale says that the peer is gone and its routes are kept for a while; a
	// route may also carry LLGR_STALE of others.
	Stale bool
	// ID tells paths of one peer apart (RFC 7911).
	ID   uint32
	wire string
}

// EVPN returns the fields of an EVPN route.
func (p *Path) EVPN() (EVPNRoute, error) {
	if p.wire == "" {
		return EVPNRoute{}, errors.New("not an EVPN route")
	}
	return parseEVPN(p.wire)
}

// Change is a destination as it now is.
type Change struct {
	NLRI NLRI
	// Paths are those that only tie breakers tell apart, the best one first;
	// none if the destination is gone.
	Paths []Path
}

// Subscription reads what peers announce. Changes that come while nobody reads
// are told once, as the destination then is; nothing is queued.
type Subscription struct {
	rib     *rib
	wake    chan struct{}
	cursors [numFam]*cursor
}

// Subscribe returns a subscription to families. It begins with all there is.
func (s *Speaker) Subscribe(fams ...Family) *Subscription {
	sub := &Subscription{rib: s.rib, wake: make(chan struct{}, 1)}
	s.rib.mu.Lock()
	defer s.rib.mu.Unlock()
	for _, f := range fams {
		if i := f.index(); i >= 0 && sub.cursors[i] == nil {
			sub.cursors[i] = s.rib.tables[i].read(byPaths)
		}
	}
	s.rib.wakers[sub.wake] = struct{}{}
	sub.wake <- struct{}{}
	return sub
}

// Ready has an element when there may be changes.
func (s *Subscription) Ready() <-chan struct{} { return s.wake }

// Next returns up to limit changes; none if all have been read.
func (s *Subscription) Next(limit int) []Change {
	s.rib.mu.Lock()
	defer s.rib.mu.Unlock()
	var out []Change
	for i, c := range s.cursors {
		if c == nil {
			continue
		}
		for done := false; !done && limit > 0; {
			done = c.next(limit, func(r *row) {
				out = append(out, s.rib.change(families[i], r))
				limit--
			})
		}
	}
	return out
}

// change describes a row to subscribers: own routes are not part of it.
func (r *rib) change(f Family, row *row) Change {
	c := Change{NLRI: NLRI{f, row.key}}
	if row.flags&rowGone != 0 {
		return c
	}
	received := func(p *path) bool { return !p.src.local() }
	all := equals(row.paths, r.alwaysMED, received)
	if len(all) > 1 {
		best := all[0]
		for _, p := range all[1:] {
			if compare(p, best, r.alwaysMED) < 0 {
				best = p
			}
		}
		c.Paths = append(c.Paths, describe(f, best))
		for _, p := range all {
			if p != best {
				c.Paths = append(c.Paths, describe(f, p))
			}
		}
		return c
	}
	for _, p := range all {
		c.Paths = append(c.Paths, describe(f, p))
	}
	return c
}

func describe(f Family, p *path) Path {
	d := Path{
		Attrs: p.attrs, EBGP: p.src.ebgp, ID: p.id, RouterID: p.originator(),
		Stale: p.staleness() != fresh,
	}
	if p.src.peer != nil {
		d.Peer = p.src.peer.name
	}
	switch f {
	case EVPN:
		d.wire = p.rest
	case VPNv4, VPNv6:
		d.Label = p.label >> 4
	}
	return d
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.rib.mu.Lock()
	defer s.rib.mu.Unlock()
	delete(s.rib.wakers, s.wake)
	for _, c := range s.cursors {
		if c != nil {
			c.close()
		}
	}
	s.cursors = [numFam]*cursor{}
}
