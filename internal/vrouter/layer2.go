package vrouter

import (
	"context"
	"iter"
	"maps"
	"net/netip"
	"slices"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// layer2Key is what a row of layer 2 is about: a MAC, perhaps with an address of
// it, or without a MAC a router at an address that wants broadcasts.
type layer2Key struct {
	mac     dataplane.MAC
	address netip.Addr
}

func (k layer2Key) isFlood() bool { return k.mac == (dataplane.MAC{}) }

// layer2Rows are the MACs of a VRF and who wants its broadcasts, as a control
// node told them: paths by MAC and then by address. Those that want broadcasts
// are under the MAC of zeros.
type layer2Rows map[dataplane.MAC]map[netip.Addr][]*controlv1.Path

func newLayer2Rows() layer2Rows { return layer2Rows{} }

func (l layer2Rows) set(k layer2Key, paths []*controlv1.Path) {
	if l[k.mac] == nil {
		l[k.mac] = map[netip.Addr][]*controlv1.Path{}
	}
	l[k.mac][k.address] = paths
}

func (l layer2Rows) delete(k layer2Key) {
	delete(l[k.mac], k.address)
	if len(l[k.mac]) == 0 {
		delete(l, k.mac)
	}
}

func (l layer2Rows) has(k layer2Key) bool { _, ok := l[k.mac][k.address]; return ok }

// all yields the rows; it stands rows being deleted meanwhile.
func (l layer2Rows) all() iter.Seq2[layer2Key, []*controlv1.Path] {
	return func(yield func(layer2Key, []*controlv1.Path) bool) {
		for mac, rows := range l {
			for address, paths := range rows {
				if !yield(layer2Key{mac, address}, paths) {
					return
				}
			}
		}
	}
}

func (l layer2Rows) clone() layer2Rows {
	c := make(layer2Rows, len(l))
	for mac, rows := range l {
		c[mac] = maps.Clone(rows)
	}
	return c
}

// takeLayer2 puts a row into a view, and if it leads, believes it.
func (r *routing) takeLayer2(v *view, m *controlv1.ControlMessage) (changed bool) {
	vrf, key, paths, ok := layer2Of(m)
	if !ok || vrf == 0 {
		r.log.Warn("control node sent a route of layer 2 that is none", "vrf", vrf, "mac", key.mac, "address", key.address)
		return false
	}
	rows, leads := v.vrf(vrf).layer2, v == r.leader
	if len(paths) == 0 {
		rows.delete(key)
		if leads {
			r.dropLayer2(vrf, key)
		}
		return leads && key.isFlood()
	}
	rows.set(key, paths)
	if leads {
		r.believed.vrf(vrf).unheard = false
		r.setLayer2(vrf, key, paths)
	}
	return leads && key.isFlood()
}

// layer2Of reads a message about layer 2.
func layer2Of(m *controlv1.ControlMessage) (vrf uint32, key layer2Key, paths []*controlv1.Path, ok bool) {
	if f := m.GetMulticastRoute(); f != nil {
		originator, err := netip.ParseAddr(f.GetOriginator())
		return f.GetVrf(), layer2Key{address: originator}, f.GetPaths(), err == nil
	}
	route := m.GetMacRoute()
	if len(route.GetMac()) != len(key.mac) {
		return route.GetVrf(), key, nil, false
	}
	key.mac = dataplane.MAC(route.GetMac())
	if text := route.GetAddress(); text != "" {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return route.GetVrf(), key, nil, false
		}
		key.address = address
	}
	return route.GetVrf(), key, route.GetPaths(), key.mac != dataplane.MAC{} && key.mac[0]&1 == 0
}

func (r *routing) setLayer2(vrf uint32, key layer2Key, paths []*controlv1.Path) {
	r.believed.vrf(vrf).layer2.set(key, paths)
	r.settleMAC(vrf, key.mac)
}

func (r *routing) dropLayer2(vrf uint32, key layer2Key) {
	if table := r.believed.vrfs[vrf]; table != nil {
		table.layer2.delete(key)
	}
	r.settleMAC(vrf, key.mac)
}

// closeLayer2 drops what a complete table does not have.
func (r *routing) closeLayer2(vrf uint32, now layer2Rows) {
	for key := range r.believed.vrf(vrf).layer2.all() {
		if !now.has(key) {
			r.dropLayer2(vrf, key)
		}
	}
	r.macs.Wake()
}

// settleMAC has a MAC lead where its row without an address says, else the one
// with the lowest address: a router may tell either.
func (r *routing) settleMAC(vrf uint32, mac dataplane.MAC) {
	if mac == (dataplane.MAC{}) {
		return // is of the bridge
	}
	key := dataplane.MACKey{VRF: vrf, MAC: mac}
	var rows map[netip.Addr][]*controlv1.Path
	if table := r.believed.vrfs[vrf]; table != nil {
		rows = table.layer2[mac]
	}
	if len(rows) > 0 {
		first := slices.MinFunc(slices.Collect(maps.Keys(rows)), netip.Addr.Compare)
		if hop, ok := r.frameHop(rows[first]); ok {
			r.macs.Set(key, hop)
			return
		}
	}
	r.macs.Delete(key)
}

// frameHop is where frames go along paths, of which they take the first: to the
// port of a label here, or by VXLAN.
func (r *routing) frameHop(paths []*controlv1.Path) (hop dataplane.NextHop, ok bool) {
	p := paths[0]
	address, err := netip.ParseAddr(p.GetNextHop())
	switch {
	case err != nil || !address.Is4():
		return hop, false
	case address == r.own:
		hop = dataplane.NextHop{Kind: dataplane.Local, Label: p.GetLabel()}
	case p.GetVni() != 0 && slices.Contains(p.GetEncapsulations(), controlv1.Encapsulation_ENCAPSULATION_VXLAN):
		hop = dataplane.NextHop{Kind: dataplane.Tunnel, Remote: address, Encapsulation: dataplane.VXLAN, VNI: p.GetVni()}
	default:
		return hop, false
	}
	hop.Identity = identityOf(p)
	return hop, true
}

// bridges are what the node's networks do with frames, as far as all that want
// the broadcasts are known: a list that is not complete is none.
func (r *routing) bridges() map[uint32]dataplane.Bridge {
	r.mu.Lock()
	defer r.mu.Unlock()
	bridges := map[uint32]dataplane.Bridge{}
	for _, p := range r.believed.ports {
		table := r.believed.vrfs[p.GetVrf()]
		if _, made := bridges[p.GetVrf()]; made || p.GetBridge() == nil || table == nil || !table.done {
			continue
		}
		b := dataplane.Bridge{Routes: p.GetBridge().GetRoutes(), FloodsUnknown: p.GetBridge().GetFloodsUnknown()}
		b.Remotes, b.LeftOut = dataplane.ListRemotes(r.flooded(table))
		bridges[p.GetVrf()] = b
	}
	return bridges
}

// flooded are the nodes and routers that want the broadcasts of a VRF.
func (r *routing) flooded(table *vrfTable) []dataplane.Remote {
	var list []dataplane.Remote
	for _, paths := range table.layer2[dataplane.MAC{}] {
		if hop, ok := r.frameHop(paths); ok && hop.Kind == dataplane.Tunnel {
			list = append(list, dataplane.Remote{Address: hop.Remote, VNI: hop.VNI})
		}
	}
	return list
}

// mayDeleteBridge tells whether a bridge that nobody desires may go: when all
// ports are known, and none is of such a network.
func (r *routing) mayDeleteBridge(vrf uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.believed.ports {
		if p.GetVrf() == vrf && p.GetBridge() != nil {
			return false
		}
	}
	return r.believed.portsDone
}

// macTarget makes the ways to MACs real.
type macTarget struct{ plane Dataplane }

func (t macTarget) List(context.Context) (map[dataplane.MACKey]dataplane.NextHop, error) {
	return t.plane.MACs()
}

func (t macTarget) Put(_ context.Context, k dataplane.MACKey, n dataplane.NextHop) error {
	return t.plane.PutMACs(map[dataplane.MACKey]dataplane.NextHop{k: n})
}

func (t macTarget) PutAll(_ context.Context, all map[dataplane.MACKey]dataplane.NextHop) error {
	return t.plane.PutMACs(all)
}

func (t macTarget) Delete(_ context.Context, k dataplane.MACKey) error { return t.plane.DeleteMAC(k) }

// bridgeTarget makes bridges real.
type bridgeTarget struct{ plane Dataplane }

func (t bridgeTarget) List(context.Context) (map[uint32]dataplane.Bridge, error) {
	return t.plane.Bridges()
}

func (t bridgeTarget) Put(_ context.Context, vrf uint32, b dataplane.Bridge) error {
	return t.plane.PutBridge(vrf, b)
}

func (t bridgeTarget) Delete(_ context.Context, vrf uint32) error { return t.plane.DeleteBridge(vrf) }
