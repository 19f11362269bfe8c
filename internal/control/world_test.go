package control

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// world is a graph that tests change the way the configuration API would.
type world struct {
	graph    *model.Graph
	revision uint64
}

func newWorld() *world {
	w := &world{graph: model.NewGraph()}
	w.graph.Reset(model.Batch{Position: w.next()})
	return w
}

func (w *world) next() model.Position {
	w.revision++
	return model.Position{Epoch: 1, Revision: w.revision}
}

func (w *world) apply(b model.Batch) {
	b.Position = w.next()
	w.graph.Apply(b)
}

func id(parts ...string) string { return model.DerivedUUID(parts...) }

// network makes or replaces a network with a number and shared targets.
func (w *world) network(name string, number int64, imports, exports []string) {
	w.apply(model.Batch{Objects: []model.Object{&model.VirtualNetwork{
		Meta:                    model.Meta{UUID: id("net", name), FQName: []string{"default-domain", "p", name}, DisplayName: name},
		VirtualNetworkNetworkID: &number,
		ImportRouteTargetList:   &model.RouteTargetList{RouteTarget: imports},
		ExportRouteTargetList:   &model.RouteTargetList{RouteTarget: exports},
	}}})
}

func (w *world) removeNetwork(name string) {
	w.apply(model.Batch{DeleteObjects: []model.Entity{{Kind: model.KindVirtualNetwork, UUID: id("net", name)}}})
}

func (w *world) node(name, address string, mtu uint32) {
	w.apply(model.Batch{Nodes: []model.Node{{UUID: id("node", name), Name: name, Address: address, FabricMTU: mtu, Revision: w.revision + 1}}})
}

func (w *world) removeNode(name string) {
	w.apply(model.Batch{DeleteNodes: []string{id("node", name)}})
}

// attach gives a container on a node its interface, in one transaction.
func (w *world) attach(container, network, node, address string, label uint32) string {
	w.apply(w.attachment(container, network, node, address, label))
	return id("vmi", container)
}

func (w *world) attachment(container, network, node, address string, label uint32) model.Batch {
	vm := &model.VirtualMachine{Meta: model.Meta{UUID: id("vm", container), FQName: []string{container}, DisplayName: container}}
	vmi := &model.VirtualMachineInterface{Meta: model.Meta{UUID: id("vmi", container), FQName: []string{"default-domain", "p", container + "-eth0"}}}
	ip := &model.InstanceIP{Meta: model.Meta{UUID: id("iip", container), FQName: []string{container + "-eth0"}}, InstanceIPAddress: address}
	vn := model.Entity{Kind: model.KindVirtualNetwork, UUID: id("net", network)}
	return model.Batch{
		Objects: []model.Object{vm, vmi, ip},
		References: []model.Reference{
			{From: model.EntityOf(vmi), To: vn},
			{From: model.EntityOf(vmi), To: model.EntityOf(vm)},
			{From: model.EntityOf(ip), To: vn},
			{From: model.EntityOf(ip), To: model.EntityOf(vmi)},
		},
		Bindings: []model.Binding{w.binding(container, node, label)},
	}
}

func (w *world) binding(container, node string, label uint32) model.Binding {
	return model.Binding{
		Interface: id("vmi", container), Machine: id("vm", container), Node: id("node", node), Label: label,
		ContainerID: container, IfName: "eth0", BootID: "boot-1", Namespace: "4:1", Revision: w.revision + 1,
	}
}

// move binds an interface to another node.
func (w *world) move(container, node string, label uint32) {
	w.apply(model.Batch{Bindings: []model.Binding{w.binding(container, node, label)}})
}

func (w *world) detach(container, network string) {
	vm := model.Entity{Kind: model.KindVirtualMachine, UUID: id("vm", container)}
	vmi := model.Entity{Kind: model.KindVirtualMachineInterface, UUID: id("vmi", container)}
	ip := model.Entity{Kind: model.KindInstanceIP, UUID: id("iip", container)}
	vn := model.Entity{Kind: model.KindVirtualNetwork, UUID: id("net", network)}
	w.apply(model.Batch{
		DeleteObjects:    []model.Entity{vm, vmi, ip},
		DeleteReferences: []model.Edge{{From: vmi, To: vn}, {From: vmi, To: vm}, {From: ip, To: vn}, {From: ip, To: vmi}},
		DeleteBindings:   []string{vmi.UUID},
	})
}

// agentState is what an agent has learned, by applying messages one by one.
type agentState struct {
	mtu       uint32
	ports     map[string]*controlv1.Port
	routes    map[uint32]map[string]*controlv1.Route
	portsDone bool
	vrfsDone  map[uint32]bool
	position  model.Position
	keepAlive model.Position
}

func newAgentState() *agentState {
	return &agentState{ports: map[string]*controlv1.Port{}, routes: map[uint32]map[string]*controlv1.Route{}, vrfsDone: map[uint32]bool{}}
}

// apply returns an error for a message that must not come in this state.
func (a *agentState) apply(m *controlv1.ControlMessage) error {
	now := model.Position{Epoch: m.Position.GetEpoch(), Revision: m.Position.GetRevision()}
	if now.Before(a.position) {
		return fmt.Errorf("position %v after %v", now, a.position)
	}
	a.position = now
	switch b := m.Body.(type) {
	case *controlv1.ControlMessage_Cluster:
		a.mtu = b.Cluster.Mtu
	case *controlv1.ControlMessage_Port:
		a.ports[b.Port.InterfaceId] = b.Port
	case *controlv1.ControlMessage_PortGone:
		delete(a.ports, b.PortGone.InterfaceId)
	case *controlv1.ControlMessage_Route:
		if !a.needs(b.Route.Vrf) {
			return fmt.Errorf("route %s of vrf %d, which no port needs", b.Route.Prefix, b.Route.Vrf)
		}
		if a.routes[b.Route.Vrf] == nil {
			a.routes[b.Route.Vrf] = map[string]*controlv1.Route{}
		}
		a.routes[b.Route.Vrf][b.Route.Prefix] = b.Route
	case *controlv1.ControlMessage_RouteGone:
		if !a.needs(b.RouteGone.Vrf) {
			return fmt.Errorf("route of vrf %d gone, which no port needs", b.RouteGone.Vrf)
		}
		delete(a.routes[b.RouteGone.Vrf], b.RouteGone.Prefix)
	case *controlv1.ControlMessage_VrfGone:
		delete(a.routes, b.VrfGone.Vrf)
		delete(a.vrfsDone, b.VrfGone.Vrf)
	case *controlv1.ControlMessage_EndOfTable:
		if b.EndOfTable.GetPorts() {
			a.portsDone = true
		} else {
			a.vrfsDone[b.EndOfTable.GetVrf()] = true
		}
	case *controlv1.ControlMessage_KeepAlive:
		a.keepAlive = now
	default:
		return fmt.Errorf("message without body")
	}
	return nil
}

func (a *agentState) needs(vrf uint32) bool {
	for _, p := range a.ports {
		if p.Vrf == vrf {
			return true
		}
	}
	return false
}

// difference compares an agent's tables with what a computation from scratch
// says; "" when they agree. usable says which ports are announced.
func (a *agentState) difference(g *model.Graph, node string, usable func(iface string) bool) (diff string) {
	g.View(func(v *model.View) { diff = a.compare(v, node, usable) })
	return diff
}

func (a *agentState) compare(v *model.View, node string, usable func(iface string) bool) string {
	want := naive(v, usable)
	needed := map[uint32]bool{}
	ports := 0
	for b := range v.Bindings() {
		if b.Node != node {
			continue
		}
		vrf, ok := vrfOfInterface(v, b.Interface)
		if !ok {
			continue
		}
		ports++
		needed[vrf.Number] = true
		p, ok := a.ports[b.Interface]
		if !ok || p.Vrf != vrf.Number || p.Label != b.Label || p.Revision != b.Revision || p.NetworkName != vrf.Name {
			return fmt.Sprintf("port %s: have %v, want label %d in vrf %d at %d", b.Interface, p, b.Label, vrf.Number, b.Revision)
		}
	}
	if len(a.ports) != ports || !a.portsDone {
		return fmt.Sprintf("%d ports, want %d; complete %t", len(a.ports), ports, a.portsDone)
	}
	for number := range needed {
		if !a.vrfsDone[number] || len(a.routes[number]) != len(want[number]) {
			return fmt.Sprintf("vrf %d: %d routes, want %d; complete %t", number, len(a.routes[number]), len(want[number]), a.vrfsDone[number])
		}
		for prefix, path := range want[number] {
			have := a.routes[number][prefix]
			if have == nil || len(have.Paths) != 1 || !proto.Equal(have.Paths[0], path) {
				return fmt.Sprintf("vrf %d %s: have %v, want %v", number, prefix, have, path)
			}
		}
	}
	if len(a.vrfsDone) != len(needed) {
		return fmt.Sprintf("%d vrfs, want %d", len(a.vrfsDone), len(needed))
	}
	for number := range a.routes {
		if !needed[number] {
			return fmt.Sprintf("routes of vrf %d, which is not needed", number)
		}
	}
	return ""
}

func vrfOfInterface(v *model.View, iface string) (compile.VRF, bool) {
	for _, r := range v.References(iface, model.KindVirtualNetwork) {
		return compile.VRFOf(v, r.To.UUID)
	}
	return compile.VRF{}, false
}

// naive computes all routes in the plainest way there is.
func naive(v *model.View, usable func(string) bool) map[uint32]map[string]*controlv1.Path {
	type candidate struct {
		own      bool
		revision uint64
		iface    string
	}
	routes, bests := map[uint32]map[string]*controlv1.Path{}, map[uint32]map[string]candidate{}
	for to := range compile.VRFs(v) {
		routes[to.Number], bests[to.Number] = map[string]*controlv1.Path{}, map[string]candidate{}
		for b := range v.Bindings() {
			from, ok := vrfOfInterface(v, b.Interface)
			n, joined := v.Node(b.Node)
			if !ok || !joined || n.Address == "" || !usable(b.Interface) || from.Number != to.Number && !meet(from.Export, to.Import) {
				continue
			}
			for _, r := range v.BackReferences(b.Interface, model.KindInstanceIP) {
				ip, _ := model.Get[*model.InstanceIP](v, r.From.UUID)
				if ip == nil {
					continue
				}
				address := netip.MustParseAddr(ip.InstanceIPAddress)
				prefix := netip.PrefixFrom(address, address.BitLen()).String()
				c := candidate{from.Number == to.Number, b.Revision, b.Interface}
				old, ok := bests[to.Number][prefix]
				better := !ok || c.own && !old.own ||
					c.own == old.own && (c.revision > old.revision || c.revision == old.revision && c.iface > old.iface)
				if better {
					bests[to.Number][prefix] = c
					routes[to.Number][prefix] = &controlv1.Path{NextHop: n.Address, Label: b.Label, InterfaceId: b.Interface, OriginNetwork: from.Number}
				}
			}
		}
	}
	return routes
}

func meet(a, b []compile.Target) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				return true
			}
		}
	}
	return false
}

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func always(string) bool { return true }
