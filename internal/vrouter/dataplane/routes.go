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
	var (
		hosts, prefixes      []RouteKey
		hostKeys             []bpfHostRouteKey
		prefixKeys           []bpfRouteKey
		hostHops, prefixHops []bpfNextHop
	)
	for _, key := range sortedKeys(routes) {
		same, err := d.hasRoute(key, routes[key])
		if err != nil {
			return fmt.Errorf("put route %s: %w", key, err)
		}
		switch {
		case same:
		case key.Prefix.IsSingleIP():
			hosts = append(hosts, key)
			hostKeys = append(hostKeys, toHostRouteKey(key))
			hostHops = append(hostHops, toNextHop(routes[key]))
		default:
			prefixes = append(prefixes, key)
			prefixKeys = append(prefixKeys, toRouteKey(key))
			prefixHops = append(prefixHops, toNextHop(routes[key]))
		}
	}
	if len(hosts)+len(prefixes) == 0 {
		return nil
	}
	// What was written before an error is in force: bump in any case.
	return errors.Join(
		putBatches(d.maps().HostRouteV1, hosts, hostKeys, hostHops),
		putBatches(d.maps().RouteV1, prefixes, prefixKeys, prefixHops),
		d.bump(),
	)
}

func putBatches[K any](m *ebpf.Map, names []RouteKey, keys []K, hops []bpfNextHop) error {
	for len(keys) > 0 {
		n := min(len(keys), routeBatch)
		done, err := m.BatchUpdate(keys[:n], hops[:n], nil)
		if err != nil {
			at := names[min(done, n-1)]
			if errors.Is(err, errTooMany) {
				err = fmt.Errorf("table of %d routes is full: %w", m.MaxEntries(), err)
			}
			return fmt.Errorf("put route %s: %w", at, err)
		}
		names, keys, hops = names[n:], keys[n:], hops[n:]
	}
	return nil
}

// hasRoute says whether the route is there as it should be.
func (d *Dataplane) hasRoute(key RouteKey, nh NextHop) (bool, error) {
	var (
		found bpfNextHop
		err   error
	)
	if key.Prefix.IsSingleIP() {
		err = d.maps().HostRouteV1.Lookup(toHostRouteKey(key), &found)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return false, nil
		}
		return err == nil && found == toNextHop(nh), err
	}
	// A trie's lookup finds the longest match, which may be another route.
	return false, nil
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
			err = d.maps().HostRouteV1.Delete(toHostRouteKey(key))
		} else {
			err = d.maps().RouteV1.Delete(toRouteKey(key))
		}
		switch {
		case err == nil:
			changed = true
		case !errors.Is(err, ebpf.ErrKeyNotExist):
			errs = append(errs, fmt.Errorf("delete route %s: %w", key, err))
		}
	}
	if changed {
		errs = append(errs, d.bump())
	}
	return errors.Join(errs...)
}
