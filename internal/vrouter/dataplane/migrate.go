package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/cilium/ebpf"
)

// Maps of earlier layouts: routes before next hops had ids, flows before their
// addresses were translated, and before they and answers were counted apart.
const (
	hostRoutesBefore = "host_route_v1"
	routesBefore     = "route_v1"
	flowsFirst       = "flow_v1"
	flowsBefore      = "flow_v2"
	flowsMadeBefore  = "flow_made_v1"
	flowsGoneBefore  = "flow_gone_v1"
)

// The value of a flow, which has become longer twice since.
type (
	flowFirst  [104]byte
	flowBefore [112]byte
)

// migrateFlows takes over the flows of earlier layouts, for their counts and so
// that they stay with their members of groups.
func (d *Dataplane) migrateFlows() error {
	first, err := takeFlows(d, flowsFirst, func(v flowFirst) []byte { return v[:] })
	if err != nil {
		return err
	}
	before, err := takeFlows(d, flowsBefore, func(v flowBefore) []byte { return v[:] })
	if err != nil {
		return err
	}
	if first+before > 0 {
		if _, _, err := d.sweep(func(rawFlow) bool { return false }); err != nil { // counts them
			return err
		}
	}
	return d.removePins(flowsFirst, flowsBefore, flowsMadeBefore, flowsGoneBefore)
}

// takeFlows copies the flows of a map that there may be, and returns how many.
func takeFlows[V any](d *Dataplane, name string, content func(V) []byte) (int, error) {
	var keys []bpfFlowKey
	var values [][unsafe.Sizeof(bpfFlow{})]byte
	if err := migrate(d, name, func(k bpfFlowKey, v V) {
		var longer [unsafe.Sizeof(bpfFlow{})]byte
		copy(longer[:], content(v))
		keys, values = append(keys, k), append(values, longer)
	}); err != nil {
		return 0, err
	}
	taken := len(keys)
	for len(keys) > 0 {
		n := min(len(keys), routeBatch)
		// What has no room is decided anew like any other flow.
		if _, err := d.maps().FlowV3.BatchUpdate(keys[:n], values[:n], nil); err != nil && !errors.Is(err, errTooMany) {
			return 0, fmt.Errorf("take over flows of an earlier layout: %w", err)
		}
		keys, values = keys[n:], values[n:]
	}
	return taken, nil
}

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
	return d.removePins(hostRoutesBefore, routesBefore)
}

func (d *Dataplane) removePins(names ...string) error {
	for _, name := range names {
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
