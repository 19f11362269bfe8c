package dataplane

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"

	"github.com/contrail-mesos/contrail/internal/nstest"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/test/bench/internal/report"
	"github.com/contrail-mesos/contrail/test/bench/internal/scope"
)

// routeUpdate is the case of routes that a node is told of: how fast they get
// into the maps, next to the same entries in a map of the same kind, written by
// system calls of the same size by a program that has them ready.
const (
	routeUpdate    = "route-update"
	updateRoutes   = 100_000
	updateNodes    = 200
	updateBatch    = 1024
	updateNetworks = 20
)

type updater struct {
	plane  *dataplane.Dataplane
	routes map[dataplane.RouteKey]dataplane.NextHop
	keys   []dataplane.RouteKey
	ns     *nstest.NS

	bare       *ebpf.Map
	bareKeys   [][20]byte
	bareValues [][16]byte
}

func newUpdater(s *scope.Scope) *updater {
	u := &updater{routes: map[dataplane.RouteKey]dataplane.NextHop{}, ns: host(s, "update")}
	nstest.Veth(s, u.ns, "eth0", host(s, "update-fabric"), "eth0")
	u.ns.Up("eth0", prefix(nodeAddr(0)))
	pins := nstest.BPFFS(s)
	u.ns.Must(func() (err error) {
		u.plane, err = dataplane.Open(slog.New(slog.NewTextHandler(io.Discard, nil)), dataplane.Config{
			PinDir: filepath.Join(pins, u.ns.Name()), Underlay: "eth0", LocalIP: nodeAddr(0),
		})
		return err
	})
	s.Cleanup(func() { removePlane(s, u.ns, u.plane) })
	var err error
	u.bare, err = ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.Hash, KeySize: 20, ValueSize: 16, MaxEntries: 1 << 20, Flags: noPrealloc,
	})
	s.Must(err)
	s.Cleanup(func() { s.Must(u.bare.Close()) })
	for i := range uint32(updateRoutes) {
		vrf := 1 + i%updateNetworks
		key := dataplane.RouteKey{VRF: vrf, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)}
		u.keys = append(u.keys, key)
		u.routes[key] = dataplane.NextHop{
			Kind: dataplane.Tunnel, Remote: netip.AddrFrom4([4]byte{172, 31, 1, byte(i % updateNodes)}), Label: 16 + i,
			Identity: dataplane.NewIdentity(vrf, []uint32{8_000_000 + vrf}, nil),
		}
		var k [20]byte
		var v [16]byte
		binary.NativeEndian.PutUint32(k[:], vrf)
		address := key.Prefix.Addr().As16()
		copy(k[4:], address[:])
		binary.NativeEndian.PutUint32(v[:], 2+i%updateNodes)
		binary.NativeEndian.PutUint32(v[4:], 16+i)
		u.bareKeys, u.bareValues = append(u.bareKeys, k), append(u.bareValues, v)
	}
	return u
}

// noPrealloc is BPF_F_NO_PREALLOC, as the table of routes has it.
const noPrealloc = 1

func (u *updater) round(samples report.Samples) error {
	began := time.Now()
	if err := u.ns.Do(func() error { return u.plane.PutRoutes(u.routes) }); err != nil {
		return err
	}
	samples.Add(routeUpdate, ours, updateRoutes/time.Since(began).Seconds())
	if err := u.ns.Do(func() error { return u.plane.DeleteRoutes(u.keys) }); err != nil {
		return err
	}

	began = time.Now()
	for at := 0; at < updateRoutes; at += updateBatch {
		end := min(at+updateBatch, updateRoutes)
		if _, err := u.bare.BatchUpdate(u.bareKeys[at:end], u.bareValues[at:end], nil); err != nil {
			return fmt.Errorf("write bare map: %w", err)
		}
	}
	samples.Add(routeUpdate, "batch", updateRoutes/time.Since(began).Seconds())
	if _, err := u.bare.BatchDelete(u.bareKeys, nil); err != nil {
		return fmt.Errorf("empty bare map: %w", err)
	}
	return nil
}
