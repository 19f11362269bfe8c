package dataplane

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// routeBatch is how many routes one system call writes.
const routeBatch = 1024

// PutRoute adds a route or replaces its next hop.
func (d *Dataplane) PutRoute(key RouteKey, nh NextHop) error {
	return d.PutRoutes(map[RouteKey]NextHop{key: nh})
}

// fewRoutes are so many that each is looked up before it is written: what is
// there already does not outdate the node's flows. Many are written whatever is
// there; a look-up costs more than twice what the writing does.
const fewRoutes = 64

// PutRoutes adds or replaces routes. A route that is refused is one that makes
// the whole call fail before anything is written; when the kernel refuses one,
// others may have been written.
func (d *Dataplane) PutRoutes(routes map[RouteKey]NextHop) error {
	who := make([]Identity, 0, len(routes))
	for key, nh := range routes {
		if err := errors.Join(key.validate(), nh.validate()); err != nil {
			return fmt.Errorf("put route %s: %w", key, err)
		}
		who = append(who, nh.Identity)
		if nh.Kind == ECMP {
			for _, m := range nh.Members.List() {
				who = append(who, m.Identity)
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.know(who); err != nil {
		return fmt.Errorf("put routes: %w", err)
	}
	hosts := routeWriter[bpfHostRouteKey]{table: d.maps().HostRouteV2}
	prefixes := routeWriter[bpfRouteKey]{table: d.maps().RouteV2}
	err := d.writeRoutes(routes, &hosts, &prefixes)
	if err == nil {
		err = errors.Join(hosts.flush(), prefixes.flush())
	}
	if hosts.written || prefixes.written {
		d.hops.left = true
		// Also after an error: what was written before is in force.
		err = errors.Join(err, d.bump())
	}
	return err
}

func (d *Dataplane) writeRoutes(routes map[RouteKey]NextHop, hosts *routeWriter[bpfHostRouteKey], prefixes *routeWriter[bpfRouteKey]) error {
	hops := tunnelIDs{}
	for key, nh := range routes {
		route, err := d.routeTo(nh, hops)
		if err != nil {
			return fmt.Errorf("put route %s: %w", key, err)
		}
		route.Bits = bitsOf(key.Prefix)
		if len(routes) <= fewRoutes {
			same, err := d.hasRoute(key, route)
			if err != nil {
				return fmt.Errorf("put route %s: %w", key, err)
			}
			if same {
				continue
			}
		}
		if key.Prefix.IsSingleIP() {
			err = hosts.add(key, toHostRouteKey(key), route)
		} else {
			err = prefixes.add(key, toRouteKey(key), route)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tunnelIDs are the ids of next hops that routes of one call share, by what
// tells plain tunnels apart: to look for a whole NextHop among all costs as much
// as the writing of the route.
type tunnelIDs map[tunnelID]uint32

type tunnelID struct {
	remote [4]byte
	encap  Encapsulation
	mac    MAC
}

// routeTo is toRoute for many.
func (d *Dataplane) routeTo(n NextHop, known tunnelIDs) (bpfRoute, error) {
	if n.Kind != Tunnel {
		return d.toRoute(n)
	}
	key := tunnelID{n.Remote.As4(), n.Encapsulation, n.MAC}
	id, ok := known[key]
	if !ok {
		r, err := d.toRoute(n)
		if err == nil {
			known[key] = r.NextHop
		}
		return r, err
	}
	return bpfRoute{NextHop: id, Label: n.number(), Identity: d.who.numbers[n.Identity]}, nil
}

// routeWriter writes routes into a table, so many at a time.
type routeWriter[K any] struct {
	table   *ebpf.Map
	names   []RouteKey
	keys    []K
	routes  []bpfRoute
	written bool
}

func (w *routeWriter[K]) add(name RouteKey, key K, route bpfRoute) error {
	w.names, w.keys, w.routes = append(w.names, name), append(w.keys, key), append(w.routes, route)
	if len(w.keys) < routeBatch {
		return nil
	}
	return w.flush()
}

func (w *routeWriter[K]) flush() error {
	if len(w.keys) == 0 {
		return nil
	}
	w.written = true
	done, err := w.table.BatchUpdate(w.keys, w.routes, nil)
	if err != nil {
		at := w.names[min(done, len(w.names)-1)]
		if errors.Is(err, errTooMany) {
			err = fmt.Errorf("table of %d routes is full: %w", w.table.MaxEntries(), err)
		}
		return fmt.Errorf("put route %s: %w", at, err)
	}
	w.names, w.keys, w.routes = w.names[:0], w.keys[:0], w.routes[:0]
	return nil
}

// hasRoute says whether the route is there as it should be.
func (d *Dataplane) hasRoute(key RouteKey, want bpfRoute) (bool, error) {
	var (
		found bpfRoute
		err   error
	)
	if key.Prefix.IsSingleIP() {
		err = d.maps().HostRouteV2.Lookup(toHostRouteKey(key), &found)
	} else {
		// It finds the longest match, which may be a shorter prefix.
		err = d.maps().RouteV2.Lookup(toRouteKey(key), &found)
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, nil
	}
	return err == nil && found == want, err
}

// DeleteRoute removes a route; absent is success.
func (d *Dataplane) DeleteRoute(key RouteKey) error {
	return d.DeleteRoutes([]RouteKey{key})
}

// DeleteRoutes removes routes; absent is success.
func (d *Dataplane) DeleteRoutes(keys []RouteKey) error {
	var hosts []bpfHostRouteKey
	var prefixes []bpfRouteKey
	for _, key := range keys {
		if err := key.validate(); err != nil {
			return fmt.Errorf("delete route %s: %w", key, err)
		}
		if key.Prefix.IsSingleIP() {
			hosts = append(hosts, toHostRouteKey(key))
		} else {
			prefixes = append(prefixes, toRouteKey(key))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ofHosts, err := deleteAll(d.maps().HostRouteV2, hosts)
	ofPrefixes, err2 := deleteAll(d.maps().RouteV2, prefixes)
	if err = errors.Join(err, err2); err != nil {
		err = fmt.Errorf("delete routes: %w", err)
	}
	if ofHosts || ofPrefixes {
		d.hops.left = true
		err = errors.Join(err, d.bump())
	}
	return err
}

// deleteAll removes keys, many by one system call, which ends at the first that
// is absent: that one is left out. It tells whether any was there.
func deleteAll[K any](table *ebpf.Map, keys []K) (some bool, err error) {
	for len(keys) > 0 {
		n := min(len(keys), routeBatch)
		done, err := table.BatchDelete(keys[:n], nil)
		some = some || done > 0
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			done++
		case err != nil:
			return some, err
		}
		keys = keys[min(done, n):]
	}
	return some, nil
}
