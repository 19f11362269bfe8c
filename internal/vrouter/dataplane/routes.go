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

// PutRoutes adds or replaces routes. A route that is refused is one that makes
// the whole call fail before anything is written; when the kernel refuses one,
// those before it stay.
func (d *Dataplane) PutRoutes(routes map[RouteKey]NextHop) error {
	for key, nh := range routes {
		if err := errors.Join(key.validate(), nh.validate()); err != nil {
			return fmt.Errorf("put route %s: %w", key, err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var who []Identity
	for _, nh := range routes {
		who = append(who, nh.Identity)
		for _, m := range nh.Members.List() {
			who = append(who, m.Identity)
		}
	}
	if err := d.know(who); err != nil {
		return fmt.Errorf("put routes: %w", err)
	}
	var (
		hosts, prefixes  []RouteKey
		hostKeys         []bpfHostRouteKey
		prefixKeys       []bpfRouteKey
		toHosts, toOther []bpfRoute
	)
	for _, key := range sortedKeys(routes) {
		route, err := d.toRoute(routes[key])
		if err != nil {
			return fmt.Errorf("put route %s: %w", key, err)
		}
		route.Bits = bitsOf(key.Prefix)
		same, err := d.hasRoute(key, route)
		if err != nil {
			return fmt.Errorf("put route %s: %w", key, err)
		}
		switch {
		case same:
		case key.Prefix.IsSingleIP():
			hosts = append(hosts, key)
			hostKeys = append(hostKeys, toHostRouteKey(key))
			toHosts = append(toHosts, route)
		default:
			prefixes = append(prefixes, key)
			prefixKeys = append(prefixKeys, toRouteKey(key))
			toOther = append(toOther, route)
		}
	}
	if len(hosts)+len(prefixes) == 0 {
		return nil
	}
	d.hops.left = true
	// What was written before an error is in force: bump in any case.
	return errors.Join(
		putBatches(d.maps().HostRouteV2, hosts, hostKeys, toHosts),
		putBatches(d.maps().RouteV2, prefixes, prefixKeys, toOther),
		d.bump(),
	)
}

func putBatches[K any](m *ebpf.Map, names []RouteKey, keys []K, routes []bpfRoute) error {
	for len(keys) > 0 {
		n := min(len(keys), routeBatch)
		done, err := m.BatchUpdate(keys[:n], routes[:n], nil)
		if err != nil {
			at := names[min(done, n-1)]
			if errors.Is(err, errTooMany) {
				err = fmt.Errorf("table of %d routes is full: %w", m.MaxEntries(), err)
			}
			return fmt.Errorf("put route %s: %w", at, err)
		}
		names, keys, routes = names[n:], keys[n:], routes[n:]
	}
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
	for _, key := range keys {
		if err := key.validate(); err != nil {
			return fmt.Errorf("delete route %s: %w", key, err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := false
	var errs []error
	for _, key := range keys {
		var err error
		if key.Prefix.IsSingleIP() {
			err = d.maps().HostRouteV2.Delete(toHostRouteKey(key))
		} else {
			err = d.maps().RouteV2.Delete(toRouteKey(key))
		}
		switch {
		case err == nil:
			changed = true
		case !errors.Is(err, ebpf.ErrKeyNotExist):
			errs = append(errs, fmt.Errorf("delete route %s: %w", key, err))
		}
	}
	if changed {
		d.hops.left = true
		errs = append(errs, d.bump())
	}
	return errors.Join(errs...)
}
