package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// Maps of routes as they were before next hops had ids.
const (
	hostRoutesBefore = "host_route_v1"
	routesBefore     = "route_v1"
)

// routeBefore is the value that they had: the next hop itself, with the
// interface where it is local.
type routeBefore struct {
	Kind    uint32
	IfIndex uint32
	Label   uint32
	_       uint32
	Remote  bpfAddr
}

func (r routeBefore) nextHop(vifs map[int]bpfVif) NextHop {
	switch NextHopKind(r.Kind) {
	case Local:
		if vif, ok := vifs[int(r.IfIndex)]; ok {
			return NextHop{Kind: Local, Label: vif.Label}
		}
	case Tunnel:
		return NextHop{Kind: Tunnel, Remote: fromAddr(r.Remote), Label: r.Label}
	}
	return NextHop{}
}

// migrateRoutes takes over the routes of an earlier layout: the programs that
// use them go on until these here are attached.
func (d *Dataplane) migrateRoutes(vifs map[int]bpfVif) error {
	routes := map[RouteKey]NextHop{}
	if err := migrate(d, hostRoutesBefore, func(k bpfHostRouteKey, v routeBefore) {
		routes[fromHostRouteKey(k)] = v.nextHop(vifs)
	}); err != nil {
		return err
	}
	if err := migrate(d, routesBefore, func(k bpfRouteKey, v routeBefore) {
		routes[fromRouteKey(k)] = v.nextHop(vifs)
	}); err != nil {
		return err
	}
	if err := d.PutRoutes(routes); err != nil {
		return fmt.Errorf("take over routes of an earlier layout: %w", err)
	}
	for _, name := range []string{hostRoutesBefore, routesBefore} {
		if err := os.Remove(filepath.Join(d.mapDir(), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove pin of an earlier layout: %w", err)
		}
	}
	return nil
}

// migrate reads a pinned map that there may be.
func migrate[K comparable, V any](d *Dataplane, name string, f func(K, V)) error {
	m, err := ebpf.LoadPinnedMap(filepath.Join(d.mapDir(), name), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned map %s: %w", name, err)
	}
	defer m.Close()
	for e, err := range batches[K, V](m, name) {
		if err != nil {
			return err
		}
		f(e.key, e.value)
	}
	return nil
}
