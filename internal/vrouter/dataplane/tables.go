package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Tables reads the maps of a data plane. Its methods may be called by several
// goroutines. Each takes what it finds while it reads: entries made or removed
// meanwhile may be there or not.
type Tables struct {
	maps *bpfMaps
}

// OpenTables opens the pinned maps of a node for reading, beside a running
// agent or without one. The caller closes them.
func OpenTables(pinDir string) (*Tables, error) {
	m := &bpfMaps{}
	t := &Tables{maps: m}
	for name, field := range map[string]**ebpf.Map{
		bpfMapVifV1: &m.VifV1, bpfMapPortAddrV1: &m.PortAddrV1, bpfMapForeignV1: &m.ForeignV1, bpfMapForeignAddrV1: &m.ForeignAddrV1, bpfMapGatewayV1: &m.GatewayV1, bpfMapBgpServiceV1: &m.BgpServiceV1, bpfMapLinkLocalV1: &m.LinkLocalV1, bpfMapSnatV1: &m.SnatV1, bpfMapFabricRefusedV1: &m.FabricRefusedV1, bpfMapLabelV1: &m.LabelV1, bpfMapVniV1: &m.VniV1, bpfMapNextHopMacV1: &m.NextHopMacV1,
		bpfMapHostRouteV2: &m.HostRouteV2, bpfMapRouteV2: &m.RouteV2, bpfMapNextHopV1: &m.NextHopV1, bpfMapEcmpV1: &m.EcmpV1, bpfMapEcmpMemberV1: &m.EcmpMemberV1, bpfMapFlowV3: &m.FlowV3,
		bpfMapNodeV1: &m.NodeV1, bpfMapFlowMadeV2: &m.FlowMadeV2, bpfMapFlowGoneV2: &m.FlowGoneV2,
		bpfMapCounterV1: &m.CounterV1, bpfMapLimitV1: &m.LimitV1, bpfMapDropV1: &m.DropV1, bpfMapIdentityV1: &m.IdentityV1,
		bpfMapPortPolicyV1: &m.PortPolicyV1, bpfMapPolicySetV1: &m.PolicySetV1,
		bpfMapPolicyGenerationV1: &m.PolicyGenerationV1, bpfMapMacV1: &m.MacV1, bpfMapBridgeV1: &m.BridgeV1,
	} {
		pinned, err := ebpf.LoadPinnedMap(filepath.Join(pinDir, mapDirName, name),
			&ebpf.LoadPinOptions{ReadOnly: true})
		if err != nil {
			t.Close()
			return nil, fmt.Errorf("open table %s of %s: %w", name, pinDir, err)
		}
		*field = pinned
	}
	return t, nil
}

// Close lets go of the maps.
func (t *Tables) Close() error {
	if err := t.maps.Close(); err != nil {
		return fmt.Errorf("close tables: %w", err)
	}
	return nil
}

// entries reads a map whole.
func entries[K comparable, V any](m *ebpf.Map, what string) (map[K]V, error) {
	all := map[K]V{}
	var (
		k K
		v V
	)
	it := m.Iterate()
	for it.Next(&k, &v) {
		all[k] = v
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return all, nil
}

func (t *Tables) vifs() (map[int]bpfVif, error) {
	raw, err := entries[uint32, bpfVif](t.maps.VifV1, "ports")
	if err != nil {
		return nil, err
	}
	vifs := make(map[int]bpfVif, len(raw))
	for ifindex, v := range raw {
		vifs[int(ifindex)] = v
	}
	return vifs, nil
}

// Ports returns all ports by interface index, also those whose device is gone.
// One whose writing was cut off is not as it was to be: it has no label, or an
// address of another network that it lost, until it is written again.
func (t *Tables) Ports() (map[int]Port, error) {
	vifs, err := t.vifs()
	if err != nil {
		return nil, err
	}
	addrs, err := entries[bpfPortAddrKey, uint32](t.maps.PortAddrV1, "addresses of ports")
	if err != nil {
		return nil, err
	}
	foreign, err := entries[uint32, bpfForeign](t.maps.ForeignV1, "foreign addresses of ports")
	if err != nil {
		return nil, err
	}
	gateways, err := entries[uint32, bpfGateways](t.maps.GatewayV1, "gateways of ports")
	if err != nil {
		return nil, err
	}
	labels, err := t.Labels()
	if err != nil {
		return nil, err
	}
	ports := make(map[int]Port, len(vifs))
	for ifindex, v := range vifs {
		p := Port{
			IfIndex: ifindex, Name: nameOf(v.Name), VRF: v.Vrf, Label: v.Label,
			MAC: MAC(v.Mac), Blocked: v.Blocked != 0, Gateways: fromGateways(gateways[uint32(ifindex)]),
		}
		if list, ok := foreign[uint32(ifindex)]; ok && v.Foreign != 0 {
			p.Foreign = fromForeign(&list)
		}
		if labels[v.Label] != ifindex {
			p.Label = 0
		}
		if err := t.readLimits(v.Slot, &p); err != nil {
			return nil, err
		}
		ports[ifindex] = p
	}
	if err := t.addLostForeign(ports, vifs); err != nil {
		return nil, err
	}
	for k := range addrs {
		if p, ok := ports[int(k.Ifindex)]; ok {
			p.Addresses = append(p.Addresses, fromAddr(k.Addr))
			ports[p.IfIndex] = p
		}
	}
	for _, p := range ports {
		slices.SortFunc(p.Addresses, netip.Addr.Compare)
	}
	return ports, nil
}

// Routes returns all routes of all VRFs.
func (t *Tables) Routes() (map[RouteKey]NextHop, error) {
	hops, err := t.readHops()
	if err != nil {
		return nil, err
	}
	who, err := t.identities()
	if err != nil {
		return nil, err
	}
	routes := map[RouteKey]NextHop{}
	for r, err := range batches[bpfHostRouteKey, bpfRoute](t.maps.HostRouteV2, "host routes") {
		if err != nil {
			return nil, err
		}
		routes[fromHostRouteKey(r.key)] = fromRoute(r.value, hops, who)
	}
	for r, err := range batches[bpfRouteKey, bpfRoute](t.maps.RouteV2, "routes") {
		if err != nil {
			return nil, err
		}
		routes[fromRouteKey(r.key)] = fromRoute(r.value, hops, who)
	}
	return routes, nil
}

// Labels returns the interface index behind each label.
func (t *Tables) Labels() (map[uint32]int, error) {
	raw, err := entries[uint32, uint32](t.maps.LabelV1, "labels")
	if err != nil {
		return nil, err
	}
	labels := make(map[uint32]int, len(raw))
	for label, ifindex := range raw {
		labels[label] = int(ifindex)
	}
	return labels, nil
}

// VNIs returns the VRF of each VXLAN network identifier.
func (t *Tables) VNIs() (map[uint32]uint32, error) {
	return entries[uint32, uint32](t.maps.VniV1, "VXLAN network identifiers")
}

// Drops returns what was dropped, by reason and interface.
func (t *Tables) Drops() ([]Drop, error) {
	var (
		drops []Drop
		k     bpfDropKey
		v     []bpfDropCount
	)
	it := t.maps.DropV1.Iterate()
	for it.Next(&k, &v) {
		d := Drop{Reason: DropReason(k.Reason), IfIndex: int(k.Ifindex)}
		for _, cpu := range v {
			d.Packets += cpu.Packets
			d.Bytes += cpu.Bytes
		}
		if d.Packets != 0 {
			drops = append(drops, d)
		}
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read drops: %w", err)
	}
	slices.SortFunc(drops, func(a, b Drop) int {
		return cmp.Or(cmp.Compare(a.IfIndex, b.IfIndex), cmp.Compare(a.Reason, b.Reason))
	})
	return drops, nil
}

// ErrNoPort says that an interface carries no port.
var ErrNoPort = errors.New("no such port")

// Counters returns what passed through a port.
func (t *Tables) Counters(ifindex int) (Counters, error) {
	var vif bpfVif
	err := t.maps.VifV1.Lookup(uint32(ifindex), &vif)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return Counters{}, fmt.Errorf("read counters of port %d: %w", ifindex, ErrNoPort)
	}
	var cpus []bpfCounters
	if err == nil {
		err = t.maps.CounterV1.Lookup(vif.Slot, &cpus)
	}
	if err != nil {
		return Counters{}, fmt.Errorf("read counters of port %d: %w", ifindex, err)
	}
	var sum Counters
	for _, c := range cpus {
		sum.FromPackets += c.FromPackets
		sum.FromBytes += c.FromBytes
		sum.ToPackets += c.ToPackets
		sum.ToBytes += c.ToBytes
	}
	return sum, nil
}

// Flows yields the flow table; the order has no meaning. An error ends it.
func (t *Tables) Flows() iter.Seq2[Flow, error] {
	return func(yield func(Flow, error) bool) {
		now, err := t.generations()
		if err != nil {
			yield(Flow{}, err)
			return
		}
		for e, err := range t.rawFlows() {
			if err != nil {
				yield(Flow{}, err)
				return
			}
			if !yield(fromFlow(e.key, e.value, now), nil) {
				return
			}
		}
	}
}

// generations are what a flow's decision has to be of.
type generations struct {
	generation uint32
	policy     map[uint32]uint32 // by slot
}

func (t *Tables) generations() (generations, error) {
	var node bpfNode
	if err := t.maps.NodeV1.Lookup(uint32(0), &node); err != nil {
		return generations{}, fmt.Errorf("read generation: %w", err)
	}
	policy, err := entries[uint32, uint32](t.maps.PolicyGenerationV1, "generations of policy")
	return generations{node.Generation, policy}, err
}

// policyOf is policy_of_flow of the programs.
func (g generations) policyOf(f bpfFlow) uint32 {
	sum := g.policy[f.Slot]
	if f.OutSlot != noSlot && f.OutSlot != f.Slot {
		sum += g.policy[f.OutSlot]
	}
	return sum
}

type rawFlow = entry[bpfFlowKey, bpfFlow]

func (t *Tables) rawFlows() iter.Seq2[rawFlow, error] {
	return batches[bpfFlowKey, bpfFlow](t.maps.FlowV3, "flows")
}

// entry is one of a map.
type entry[K, V any] struct {
	key   K
	value V
}

// batches reads a map with many entries in batches, some ten times as fast as
// one by one.
func batches[K, V any](m *ebpf.Map, what string) iter.Seq2[entry[K, V], error] {
	return func(yield func(entry[K, V], error) bool) {
		// A batch ends at a bucket's end; one that does not hold a whole bucket
		// cannot be read, so it must not be small.
		size := min(4096, int(m.MaxEntries()))
		keys, values := make([]K, size), make([]V, size)
		var cursor ebpf.MapBatchCursor
		for {
			n, err := m.BatchLookup(&cursor, keys, values, nil)
			if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				yield(entry[K, V]{}, fmt.Errorf("read %s: %w", what, err))
				return
			}
			for i := range n {
				if !yield(entry[K, V]{keys[i], values[i]}, nil) {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
}

// Now returns the time of the clock that flows are stamped with: monotonic,
// since boot without sleep, in steps of some milliseconds.
func Now() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil {
		return 0, fmt.Errorf("read clock: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// sortedKeys is for deterministic writes in key order, which tries like.
func sortedKeys(m map[RouteKey]NextHop) []RouteKey {
	return slices.SortedFunc(maps.Keys(m), RouteKey.Compare)
}
