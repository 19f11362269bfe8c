package vrouter

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// routing keeps what the control nodes said, and turns it into the desired
// routes. It outlives sessions: while none is there, everything stays.
//
//	session --> view --+
//	                   +-- elect --> leader's view --> believed --> routes table
//	session --> view --+
//
// Each session has a view: all that its control node said. One of them leads:
// it is believed as a whole, so that what two control nodes know at different
// times is never mixed. Another takes the lead when the leader's session ends,
// or when the leader lags behind; it must have reached the position of what is
// believed. So a control node that restarts or is cut off from the store is only
// listened to until it has caught up, and so is one whose store was restored
// and lacks what the nodes have not reported yet.
//
// What the leader adds is believed at once; that something is gone is believed
// when it has closed the table's snapshot.
type routing struct {
	log     *slog.Logger
	own     netip.Addr
	usesVRF func(vrf uint32) bool
	// portsChanged is told, without locks held, when graph ports changed.
	portsChanged func()
	// newEpoch is told that a session has a later epoch than those before. It
	// must not block.
	newEpoch func()
	routes   *reconcile.Table[dataplane.RouteKey, dataplane.NextHop]
	macs     *reconcile.Table[dataplane.MACKey, dataplane.NextHop]
	// patience is how long a view may be behind another before it is late.
	patience time.Duration

	mu       sync.Mutex
	views    []*view // in the order of their sessions' beginning
	leader   *view
	believed tables
	// preferred are the encapsulations as the leader has them.
	preferred []controlv1.Encapsulation
	// fabric is what the leader says of NAT to the fabric; nil before.
	fabric   *controlv1.Fabric
	position *typesv1.Position // up to which believed has everything
	heard    *typesv1.Position // newest of a message that is believed
	epoch    uint64            // newest of any session
}

// tables are the ports and routes as a control node told them.
type tables struct {
	ports map[string]*controlv1.Port
	policyTables
	portsDone bool
	vrfs      map[uint32]*vrfTable
}

type vrfTable struct {
	routes map[netip.Prefix][]*controlv1.Path
	layer2 layer2Rows
	done   bool
	// unheard: it is of an earlier session; the present one, whose list of
	// ports is complete, has said nothing of it yet.
	unheard bool
}

func newTables() tables {
	return tables{ports: map[string]*controlv1.Port{}, policyTables: newPolicyTables(), vrfs: map[uint32]*vrfTable{}}
}

func (t *tables) vrf(number uint32) *vrfTable {
	v := t.vrfs[number]
	if v == nil {
		v = &vrfTable{routes: map[netip.Prefix][]*controlv1.Path{}, layer2: newLayer2Rows()}
		t.vrfs[number] = v
	}
	return v
}

func newRouting(log *slog.Logger, own netip.Addr) *routing {
	return &routing{log: log, own: own, believed: newTables(), newEpoch: func() {}, patience: time.Second}
}

func (r *routing) seen() *typesv1.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.position
}

// apply takes a message of a session in.
func (r *routing) apply(v *view, m *controlv1.ControlMessage) {
	r.mu.Lock()
	portsChanged := r.take(v, m)
	r.mark(v, m)
	portsChanged = r.elect() || portsChanged
	r.advance(v)
	r.mu.Unlock()
	if portsChanged {
		r.portsChanged()
	}
}

// adopt believes all that a view says.
func (r *routing) adopt(v *view) {
	r.prefer(v.preferred)
	if v.fabric != nil {
		r.fabric = v.fabric
	}
	r.believed.add(&v.policyTables)
	for id, p := range v.ports {
		r.believed.ports[id] = p
	}
	for number, t := range v.vrfs {
		for prefix, paths := range t.routes {
			r.setRoute(number, prefix, paths)
		}
		for key, paths := range t.layer2.all() {
			r.setLayer2(number, key, paths)
		}
		if t.done {
			r.closeVRF(v, number)
		}
	}
	if v.portsDone {
		r.closePorts(v)
	}
}

// prefer has routes take the encapsulations in another order, if it is one.
func (r *routing) prefer(now []controlv1.Encapsulation) {
	if slices.Equal(r.preferred, now) {
		return
	}
	r.preferred = now
	for number, table := range r.believed.vrfs {
		for prefix, paths := range table.routes {
			r.routes.Set(dataplane.RouteKey{VRF: number, Prefix: prefix}, r.nextHop(paths))
		}
	}
}

// take puts what a session says into its view, and if it leads, believes it.
func (r *routing) take(v *view, m *controlv1.ControlMessage) (portsChanged bool) {
	leads := v == r.leader
	switch body := m.GetBody().(type) {
	case *controlv1.ControlMessage_Cluster:
		v.settling, v.preferred = body.Cluster.GetSettling(), body.Cluster.GetEncapsulations()
		if leads {
			r.prefer(v.preferred)
		}
	case *controlv1.ControlMessage_Fabric:
		v.fabric = body.Fabric
		if leads {
			r.fabric = v.fabric
		}
		return leads
	case *controlv1.ControlMessage_Port:
		v.ports[body.Port.GetInterfaceId()] = body.Port
		if leads {
			r.believed.ports[body.Port.GetInterfaceId()] = body.Port
			return true
		}
	case *controlv1.ControlMessage_PolicySet, *controlv1.ControlMessage_PolicyBlock, *controlv1.ControlMessage_PolicyGone:
		r.takePolicy(v, m)
	case *controlv1.ControlMessage_PortGone:
		id := body.PortGone.GetInterfaceId()
		delete(v.ports, id)
		if leads && v.portsDone {
			delete(r.believed.ports, id)
			return true
		}
	case *controlv1.ControlMessage_Route:
		prefix, err := netip.ParsePrefix(body.Route.GetPrefix())
		if err != nil || prefix.Addr().Is4In6() || body.Route.GetVrf() == 0 {
			r.log.Warn("control node sent a route that is none", "vrf", body.Route.GetVrf(), "prefix", body.Route.GetPrefix())
			return false
		}
		v.vrf(body.Route.GetVrf()).routes[prefix.Masked()] = body.Route.GetPaths()
		if leads {
			r.believed.vrf(body.Route.GetVrf()).unheard = false
			r.setRoute(body.Route.GetVrf(), prefix.Masked(), body.Route.GetPaths())
		}
	case *controlv1.ControlMessage_RouteGone:
		prefix, err := netip.ParsePrefix(body.RouteGone.GetPrefix())
		if err != nil {
			return false
		}
		delete(v.vrf(body.RouteGone.GetVrf()).routes, prefix.Masked())
		if leads {
			r.dropRoute(body.RouteGone.GetVrf(), prefix.Masked())
		}
	case *controlv1.ControlMessage_MacRoute, *controlv1.ControlMessage_MulticastRoute:
		return r.takeLayer2(v, m)
	case *controlv1.ControlMessage_VrfGone:
		delete(v.vrfs, body.VrfGone.GetVrf())
		delete(v.places, body.VrfGone.GetVrf())
		if leads {
			r.dropVRF(body.VrfGone.GetVrf())
		}
	case *controlv1.ControlMessage_EndOfTable:
		return r.endOfTable(v, body.EndOfTable)
	case *controlv1.ControlMessage_Resumed:
		v.resume(body.Resumed.GetVrf())
	case *controlv1.ControlMessage_KeepAlive:
		v.cutOff = body.KeepAlive.GetCutOff()
		v.notePlaces(body.KeepAlive.GetTables())
		// Its position may have passed that of a port that is still missing.
		return leads
	}
	return false
}

func (r *routing) endOfTable(v *view, end *controlv1.EndOfTable) (portsChanged bool) {
	leads := v == r.leader
	switch table := end.GetTable().(type) {
	case *controlv1.EndOfTable_Ports:
		v.portsDone = true
		if leads {
			r.closePorts(v)
			return true
		}
	case *controlv1.EndOfTable_Vrf:
		v.vrf(table.Vrf).done = true
		if leads {
			r.closeVRF(v, table.Vrf)
			return true // its bridge may be made now
		}
	}
	return false
}

// closePorts believes that what the session did not name does not exist.
func (r *routing) closePorts(v *view) {
	r.believed.ports, r.believed.portsDone = v.ports, true
	if v.fabric != nil { // an earlier version says nothing of it
		r.fabric = v.fabric
	}
	r.believed.policyTables = v.policyTables
	for number, table := range r.believed.vrfs {
		table.unheard = v.vrfs[number] == nil
	}
	r.dropUnheard()
	r.routes.Wake()
}

// dropUnneeded lets go of the VRFs that no port needs any more. Whether one
// does changes with the ports of the node, and with those of the graph.
func (r *routing) dropUnneeded() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropUnheard()
	r.routes.Wake() // asks mayDelete again
}

// dropUnheard drops VRFs that the session did not send, and will not while no
// port needs them. What it sent goes when it says so: it sends that once.
func (r *routing) dropUnheard() {
	for number, table := range r.believed.vrfs {
		if table.unheard && !r.needed(number) {
			r.dropVRF(number)
		}
	}
}

func (r *routing) closeVRF(v *view, number uint32) {
	now := v.vrf(number)
	for prefix := range r.believed.vrf(number).routes {
		if _, stays := now.routes[prefix]; !stays {
			r.dropRoute(number, prefix)
		}
	}
	r.closeLayer2(number, now.layer2)
	// A table of its own, for the view's is changed before it is believed.
	r.believed.vrfs[number] = &vrfTable{routes: maps.Clone(now.routes), layer2: now.layer2.clone(), done: true}
	now.done = true
	r.routes.Wake()
}

func (r *routing) needed(vrf uint32) bool {
	if r.usesVRF(vrf) {
		return true
	}
	for _, p := range r.believed.ports {
		if p.GetVrf() == vrf || p.GetPassage() == vrf || slices.ContainsFunc(p.GetForeign(), func(f *controlv1.ForeignAddress) bool { return f.GetVrf() == vrf }) ||
			slices.ContainsFunc(p.GetRouters(), func(r *controlv1.RouterTable) bool { return r.GetVrf() == vrf }) {
			return true
		}
	}
	return false
}

func (r *routing) setRoute(vrf uint32, prefix netip.Prefix, paths []*controlv1.Path) {
	r.believed.vrf(vrf).routes[prefix] = paths
	r.routes.Set(dataplane.RouteKey{VRF: vrf, Prefix: prefix}, r.nextHop(paths))
}

func (r *routing) dropRoute(vrf uint32, prefix netip.Prefix) {
	if table := r.believed.vrfs[vrf]; table != nil {
		delete(table.routes, prefix)
	}
	r.routes.Delete(dataplane.RouteKey{VRF: vrf, Prefix: prefix})
}

func (r *routing) dropVRF(vrf uint32) {
	if table := r.believed.vrfs[vrf]; table != nil {
		for prefix := range table.routes {
			r.dropRoute(vrf, prefix)
		}
		for key := range table.layer2.all() {
			r.dropLayer2(vrf, key)
		}
		delete(r.believed.vrfs, vrf)
	}
	r.routes.Wake()
}

// nextHop is what paths lead to, which share the traffic if there are several.
// A port of this node is known by its label, like any other: the route finds
// the port when it is plugged, and leads nowhere before. A path that the data
// plane cannot take is left out, and a route with no other discards.
func (r *routing) nextHop(paths []*controlv1.Path) dataplane.NextHop {
	var members []dataplane.Member
	for _, p := range paths {
		address, err := netip.ParseAddr(p.GetNextHop())
		if err != nil {
			r.log.Warn("control node sent a next hop that is no address", "next_hop", p.GetNextHop())
			continue
		}
		m := dataplane.Member{Weight: p.GetWeight()}
		if address == r.own {
			m.Kind, m.Label, m.Behind = dataplane.Local, p.GetLabel(), p.GetBehind()
		} else if hop, ok := r.tunnel(p, address); ok {
			m.NextHop = hop
		} else {
			continue
		}
		m.Identity = identityOf(p)
		members = append(members, m)
	}
	return dataplane.Share(members)
}

// mplsOverUDP is what there is where no encapsulation is named.
var mplsOverUDP = []controlv1.Encapsulation{controlv1.Encapsulation_ENCAPSULATION_MPLS_OVER_UDP}

// tunnel is the way along a path: by the first encapsulation of ours that the
// far end takes and that the path has the number for; false when there is none.
func (r *routing) tunnel(p *controlv1.Path, remote netip.Addr) (dataplane.NextHop, bool) {
	preferred, taken := r.preferred, p.GetEncapsulations()
	if len(preferred) == 0 {
		preferred = mplsOverUDP
	}
	if len(taken) == 0 {
		taken = mplsOverUDP
	}
	hop := dataplane.NextHop{Kind: dataplane.Tunnel, Remote: remote}
	for _, e := range preferred {
		switch {
		case !slices.Contains(taken, e):
		case e == controlv1.Encapsulation_ENCAPSULATION_VXLAN && p.GetVni() != 0:
			hop.Encapsulation, hop.VNI = dataplane.VXLAN, p.GetVni()
			// Nodes know whom it is for by the address, and share a next hop.
			if p.GetInterfaceId() == "" && len(p.GetMac()) == len(hop.MAC) {
				hop.MAC = dataplane.MAC(p.GetMac())
			}
			return hop, true
		case e == controlv1.Encapsulation_ENCAPSULATION_MPLS_OVER_UDP && p.GetLabel() != 0:
			hop.Encapsulation, hop.Label = dataplane.MPLSoUDP, p.GetLabel()
			return hop, true
		case e == controlv1.Encapsulation_ENCAPSULATION_MPLS_OVER_GRE && p.GetLabel() != 0:
			hop.Encapsulation, hop.Label = dataplane.MPLSoGRE, p.GetLabel()
			return hop, true
		}
	}
	return hop, false
}

// mayDelete tells whether a route that nobody desires may go: when a snapshot
// of its VRF is complete, or a complete list of ports needs the VRF no more.
func (r *routing) mayDelete(key dataplane.RouteKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if table := r.believed.vrfs[key.VRF]; table != nil && table.done {
		return true
	}
	return r.believed.portsDone && !r.needed(key.VRF)
}

// graphPort is what the graph says of a port. absent is true only if a complete
// snapshot that is newer than the port's own attachment lacks it.
func (r *routing) graphPort(rec *record) (port *controlv1.Port, absent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	port = r.believed.ports[rec.ID]
	absent = port == nil && r.believed.portsDone && rec.Epoch == r.position.GetEpoch() &&
		rec.Revision != 0 && rec.Revision <= r.position.GetRevision()
	return port, absent
}

// isNewer tells whether the graph's port is of a later position than the record.
func (r *routing) isNewer(port *controlv1.Port, rec *record) bool {
	now := &typesv1.Position{Epoch: r.seen().GetEpoch(), Revision: port.GetRevision()}
	return newer(now, &typesv1.Position{Epoch: rec.Epoch, Revision: rec.Revision})
}

// vnis are the VXLAN network identifiers of the VRFs that ports of the node
// are in, and of the logical routers that connect these.
func (r *routing) vnis() map[uint32]uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	vnis := map[uint32]uint32{}
	add := func(vni, vrf uint32) {
		// Should two networks claim one, all nodes take the same for right.
		if other, taken := vnis[vni]; vni != 0 && vrf != 0 && (!taken || vrf < other) {
			vnis[vni] = vrf
		}
	}
	for _, p := range r.believed.ports {
		add(p.GetVni(), p.GetVrf())
		for _, t := range p.GetRouters() {
			add(t.GetVni(), t.GetVrf())
		}
	}
	return vnis
}

// mayDeleteVNI tells whether a VNI that nobody desires may go: when all ports are
// known and none is in its VRF. What is desired follows the ports a moment later,
// so the ports themselves are asked.
func (r *routing) mayDeleteVNI(vni uint32) bool {
	known := r.allPortsKnown()
	_, used := r.vnis()[vni]
	return known && !used
}

// allPortsKnown tells whether the leader has told of all ports.
func (r *routing) allPortsKnown() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.believed.portsDone
}

// isSame tells whether the graph's port is the attachment of the record.
func (r *routing) isSame(port *controlv1.Port, rec *record) bool {
	return r.seen().GetEpoch() == rec.Epoch && port.GetRevision() == rec.Revision
}

// graphPorts are all ports that the graph binds to this node.
func (r *routing) graphPorts() []*controlv1.Port {
	r.mu.Lock()
	defer r.mu.Unlock()
	ports := make([]*controlv1.Port, 0, len(r.believed.ports))
	for _, p := range r.believed.ports {
		ports = append(ports, p)
	}
	return ports
}
