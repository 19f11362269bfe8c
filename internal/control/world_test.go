package control

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// world is a graph that tests change the way the configuration API would.
type world struct {
	graph    *model.Graph
	revision uint64
	vrouters model.GlobalVrouterConfig
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
	vmi := &model.VirtualMachineInterface{
		Meta:                                model.Meta{UUID: id("vmi", container), FQName: []string{"default-domain", "p", container + "-eth0"}},
		VirtualMachineInterfaceMACAddresses: &model.MacAddressesType{MACAddress: []string{macFor(container)}},
	}
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

// clientInstance makes a client's routing instance of a network, with targets to import
// and to export; removeInstance takes it away.
func (w *world) clientInstance(network, name string, imports, exports []string) {
	e := model.EntityOf(&model.RoutingInstance{Meta: model.Meta{UUID: id("ri", network, name)}})
	b := model.Batch{Objects: []model.Object{&model.RoutingInstance{Meta: model.Meta{
		UUID: e.UUID, FQName: []string{"default-domain", "p", network, name}, ParentType: "virtual-network", ParentUUID: id("net", network),
	}}}}
	w.graph.View(func(v *model.View) {
		for _, r := range v.References(e.UUID, model.KindRouteTarget) {
			b.DeleteReferences = append(b.DeleteReferences, r.Edge())
		}
	})
	for _, t := range slices.Concat(imports, exports) {
		target := &model.RouteTarget{Meta: model.Meta{UUID: compile.TargetUUID(compile.Target(t)), FQName: []string{t}}}
		r := model.Reference{From: e, To: model.EntityOf(target), Attr: json.RawMessage(`{"import_export":"import"}`)}
		switch {
		case slices.Contains(exports, t) && slices.Contains(imports, t):
			r.Attr = nil
		case slices.Contains(exports, t):
			r.Attr = json.RawMessage(`{"import_export":"export"}`)
		}
		b.Objects, b.References = append(b.Objects, target), append(b.References, r)
		b.DeleteReferences = slices.DeleteFunc(b.DeleteReferences, func(e model.Edge) bool { return e == r.Edge() })
	}
	w.apply(b)
}

func (w *world) removeInstance(network, name string) {
	ri := id("ri", network, name)
	b := model.Batch{DeleteObjects: []model.Entity{{Kind: model.KindRoutingInstance, UUID: ri}}}
	w.graph.View(func(v *model.View) {
		for _, r := range slices.Concat(v.References(ri, ""), v.BackReferences(ri, "")) {
			b.DeleteReferences = append(b.DeleteReferences, r.Edge())
		}
	})
	w.apply(b)
}

// place has a container's interface be in a client's instance, or no longer.
func (w *world) place(container, network, name string, in bool) {
	r := model.Reference{
		From: model.Entity{Kind: model.KindVirtualMachineInterface, UUID: id("vmi", container)},
		To:   model.Entity{Kind: model.KindRoutingInstance, UUID: id("ri", network, name)}, Attr: json.RawMessage(`{"direction":"both"}`),
	}
	if in {
		w.apply(model.Batch{References: []model.Reference{r}})
	} else {
		w.apply(model.Batch{DeleteReferences: []model.Edge{r.Edge()}})
	}
}

// connectTo has a client's instance refer to the view of a network.
func (w *world) connectTo(network, name, other string, connected bool) {
	r := model.Reference{
		From: model.Entity{Kind: model.KindRoutingInstance, UUID: id("ri", network, name)},
		To:   model.Entity{Kind: model.KindRoutingInstance, UUID: compile.InstanceUUID(id("net", other))},
	}
	if connected {
		w.apply(model.Batch{References: []model.Reference{r}})
	} else {
		w.apply(model.Batch{DeleteReferences: []model.Edge{r.Edge()}})
	}
}

// macFor is a container's MAC.
func macFor(container string) string {
	sum := sha256.Sum256([]byte(container))
	sum[0] = 2
	return net.HardwareAddr(sum[:6]).String()
}

// foreign gives a container a floating address of a network, or for names that
// begin with a an alias.
func (w *world) foreign(name, network, container string) {
	w.removeForeign(name)
	meta := func(kind string) model.Meta { return model.Meta{UUID: id(kind, name), FQName: []string{kind, name}} }
	pool, address := model.Object(&model.FloatingIPPool{Meta: meta("pool")}), "198.51.100."+name[1:]
	ip := model.Object(&model.FloatingIP{Meta: meta("ip"), FloatingIPAddress: address})
	if name[0] == 'a' {
		pool, ip = &model.AliasIPPool{Meta: meta("pool")}, &model.AliasIP{Meta: meta("ip"), AliasIPAddress: address}
	}
	pool.GetMeta().ParentType, pool.GetMeta().ParentUUID = string(model.KindVirtualNetwork), id("net", network)
	ip.GetMeta().ParentType, ip.GetMeta().ParentUUID = string(pool.Kind()), id("pool", name)
	w.apply(model.Batch{
		Objects:    []model.Object{pool, ip},
		References: []model.Reference{{From: model.EntityOf(ip), To: model.Entity{Kind: model.KindVirtualMachineInterface, UUID: id("vmi", container)}}},
	})
}

func (w *world) removeForeign(name string) {
	var batch model.Batch
	w.graph.View(func(v *model.View) {
		for _, kind := range []string{"pool", "ip"} {
			if e, ok := v.Entity(id(kind, name)); ok {
				batch.DeleteObjects = append(batch.DeleteObjects, e)
			}
		}
		for _, r := range v.References(id("ip", name), "") {
			batch.DeleteReferences = append(batch.DeleteReferences, model.Edge{From: r.From, To: r.To})
		}
	})
	w.apply(batch)
}

// behind has a table of routes put a prefix behind a container's interface.
func (w *world) behind(table, prefix, container string) {
	t := &model.InterfaceRouteTable{
		Meta:                      model.Meta{UUID: id("irt", table), FQName: []string{"default-domain", "p", table}},
		InterfaceRouteTableRoutes: &model.RouteTableType{Route: []model.RouteType{{Prefix: prefix}}},
	}
	w.apply(model.Batch{
		Objects:    []model.Object{t},
		References: []model.Reference{{From: model.Entity{Kind: model.KindVirtualMachineInterface, UUID: id("vmi", container)}, To: model.EntityOf(t)}},
	})
}

// notBehind takes the table off the interface.
func (w *world) notBehind(table, container string) {
	w.apply(model.Batch{DeleteReferences: []model.Edge{{
		From: model.Entity{Kind: model.KindVirtualMachineInterface, UUID: id("vmi", container)},
		To:   model.Entity{Kind: model.KindInterfaceRouteTable, UUID: id("irt", table)},
	}}})
}

// route has a network reach a prefix of its own through an address; through
// none, it has no route.
func (w *world) route(network, hop string) {
	t := &model.RouteTable{Meta: model.Meta{UUID: id("table", network), FQName: []string{"default-domain", "p", network}}, Routes: &model.RouteTableType{}}
	if hop != "" {
		t.Routes.Route = []model.RouteType{{Prefix: prefixOf(network), NextHop: hop, NextHopType: "ip-address"}}
	}
	w.apply(model.Batch{
		Objects:    []model.Object{t},
		References: []model.Reference{{From: model.Entity{Kind: model.KindVirtualNetwork, UUID: id("net", network)}, To: model.EntityOf(t)}},
	})
}

// prefixOf is the prefix that a network routes.
func prefixOf(network string) string {
	return map[string]string{"blue": "203.0.113.0/26", "red": "203.0.113.64/26", "green": "203.0.113.128/26"}[network]
}

// share has another container use the address of the first as well.
func (w *world) share(container, other string) {
	var batch model.Batch
	w.graph.View(func(v *model.View) {
		ip, ok := model.Get[*model.InstanceIP](v, id("iip", container))
		if !ok {
			return
		}
		shared := *ip
		shared.InstanceIPMode = "active-active"
		batch.Objects = []model.Object{&shared}
		batch.References = []model.Reference{{From: model.EntityOf(ip), To: model.Entity{Kind: model.KindVirtualMachineInterface, UUID: id("vmi", other)}}}
	})
	w.apply(batch)
}

// forwarding sets the mode of all networks that name none.
func (w *world) forwarding(mode string) {
	w.vrouters.ForwardingMode = mode
	w.configure()
}

// encapsulations sets those of tunnels.
func (w *world) encapsulations(list ...string) {
	w.vrouters.EncapsulationPriorities = &model.EncapsulationPrioritiesType{Encapsulation: list}
	w.configure()
}

func (w *world) configure() {
	w.vrouters.Meta = model.Meta{UUID: id("gvc"), FQName: []string{"default-global-system-config", "default-global-vrouter-config"}}
	now := w.vrouters
	w.apply(model.Batch{Objects: []model.Object{&now}})
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
	batch := model.Batch{DeleteBindings: []string{id("vmi", container)}}
	w.graph.View(func(v *model.View) {
		for _, kind := range []string{"vm", "vmi", "iip"} {
			if e, ok := v.Entity(id(kind, container)); ok {
				batch.DeleteObjects = append(batch.DeleteObjects, e)
			}
			for _, r := range slices.Concat(v.References(id(kind, container), ""), v.BackReferences(id(kind, container), "")) {
				batch.DeleteReferences = append(batch.DeleteReferences, model.Edge{From: r.From, To: r.To})
			}
		}
	})
	w.apply(batch)
}

// agentState is what an agent has learned, by applying messages one by one.
type agentState struct {
	mtu       uint32
	fabric    *controlv1.Fabric
	ports     map[string]*controlv1.Port
	routes    map[uint32]map[string]*controlv1.Route
	layer2    map[uint32]map[string][]*controlv1.Path
	sets      map[string]*controlv1.PolicySet
	blocks    map[string]*controlv1.PolicyBlock
	portsDone bool
	vrfsDone  map[uint32]bool
	position  model.Position
	keepAlive model.Position
	cutOff    bool
	// places are for the next session, before is what the last one told.
	places  map[uint32]*controlv1.TableCursor
	before  *agentState
	resumed int
}

func newAgentState() *agentState {
	return &agentState{
		places: map[uint32]*controlv1.TableCursor{},
		ports:  map[string]*controlv1.Port{}, routes: map[uint32]map[string]*controlv1.Route{},
		layer2: map[uint32]map[string][]*controlv1.Path{}, vrfsDone: map[uint32]bool{},
		sets: map[string]*controlv1.PolicySet{}, blocks: map[string]*controlv1.PolicyBlock{},
	}
}

// bridge takes in a MAC or multicast route.
func (a *agentState) bridge(vrf uint32, key string, paths []*controlv1.Path) error {
	if !a.needs(vrf) {
		return fmt.Errorf("%s of vrf %d, which no port needs", key, vrf)
	}
	if a.layer2[vrf] == nil {
		a.layer2[vrf] = map[string][]*controlv1.Path{}
	}
	a.layer2[vrf][key] = paths
	if len(paths) == 0 {
		delete(a.layer2[vrf], key)
	}
	return nil
}

// again is the state at the beginning of another session, and its Hello.
func (a *agentState) again(layer2 bool) (*agentState, *controlv1.Hello) {
	next, hello := newAgentState(), &controlv1.Hello{BootId: "boot-1", Layer2: layer2}
	if next.before = a; a == nil {
		return next, hello
	}
	for _, c := range a.places {
		hello.Tables = append(hello.Tables, c)
	}
	return next, hello
}

// apply returns an error for a message that must not come in this state.
func (a *agentState) apply(m *controlv1.ControlMessage) error {
	now := model.Position{Epoch: m.Position.GetEpoch(), Revision: m.Position.GetRevision()}
	if now.Before(a.position) {
		return fmt.Errorf("position %v after %v", now, a.position)
	}
	a.position = now
	switch b := m.Body.(type) {
	case *controlv1.ControlMessage_Fabric:
		a.fabric = b.Fabric
	case *controlv1.ControlMessage_Cluster:
		a.mtu = b.Cluster.Mtu
	case *controlv1.ControlMessage_Port:
		a.ports[b.Port.InterfaceId] = b.Port
		for _, set := range setsOfPort(b.Port) {
			if a.sets[string(set)] == nil {
				return fmt.Errorf("port %s has the set %x, which was not told", b.Port.InterfaceId, set)
			}
		}
	case *controlv1.ControlMessage_PolicySet:
		a.sets[string(b.PolicySet.Id)] = b.PolicySet
		for _, block := range b.PolicySet.Blocks {
			if a.blocks[string(block)] == nil {
				return fmt.Errorf("set %x has the block %x, which was not told", b.PolicySet.Id, block)
			}
		}
	case *controlv1.ControlMessage_PolicyBlock:
		a.blocks[string(b.PolicyBlock.Id)] = b.PolicyBlock
	case *controlv1.ControlMessage_PolicyGone:
		delete(a.sets, string(b.PolicyGone.GetSet()))
		delete(a.blocks, string(b.PolicyGone.GetBlock()))
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
	case *controlv1.ControlMessage_MacRoute:
		return a.bridge(b.MacRoute.Vrf, strings.TrimSpace(net.HardwareAddr(b.MacRoute.Mac).String()+" "+b.MacRoute.Address), b.MacRoute.Paths)
	case *controlv1.ControlMessage_MulticastRoute:
		return a.bridge(b.MulticastRoute.Vrf, "to "+b.MulticastRoute.Originator, b.MulticastRoute.Paths)
	case *controlv1.ControlMessage_VrfGone:
		delete(a.routes, b.VrfGone.Vrf)
		delete(a.places, b.VrfGone.Vrf)
		delete(a.layer2, b.VrfGone.Vrf)
		delete(a.vrfsDone, b.VrfGone.Vrf)
	case *controlv1.ControlMessage_EndOfTable:
		if b.EndOfTable.GetPorts() {
			a.portsDone = true
		} else {
			a.vrfsDone[b.EndOfTable.GetVrf()] = true
		}
	case *controlv1.ControlMessage_Resumed:
		a.resumed++
		if number := b.Resumed.Vrf; number == portsTable {
			a.ports, a.sets, a.blocks = a.before.ports, a.before.sets, a.before.blocks
		} else {
			a.routes[number], a.layer2[number] = a.before.routes[number], a.before.layer2[number]
		}
	case *controlv1.ControlMessage_KeepAlive:
		for _, c := range b.KeepAlive.Tables {
			a.places[c.Vrf] = c
		}
		if a.cutOff = b.KeepAlive.CutOff; m.Complete {
			a.keepAlive = now
		}
	default:
		return fmt.Errorf("message without body")
	}
	return nil
}

func (a *agentState) needs(vrf uint32) bool {
	for _, p := range a.ports {
		if p.Vrf == vrf || p.Passage == vrf {
			return true
		}
		for _, f := range p.Foreign {
			if f.Vrf == vrf {
				return true
			}
		}
		for _, r := range p.Routers {
			if r.Vrf == vrf {
				return true
			}
		}
	}
	return false
}

// portState is what agents said of a port.
type portState struct{ usable, stale bool }

// difference compares an agent's tables with what a computation from scratch
// says; "" when they agree. state says how the ports are.
func (a *agentState) difference(g *model.Graph, node string, state func(iface string) portState) (diff string) {
	g.View(func(v *model.View) { diff = a.compare(v, node, state) })
	return diff
}

func (a *agentState) compare(v *model.View, node string, state func(iface string) portState) string {
	want := naive(v, state)
	needed := map[uint32]bool{}
	ports := 0
	for b := range v.Bindings() {
		if b.Node != node {
			continue
		}
		vrf := instanceOfInterface(v, b.Interface)
		if vrf == nil {
			continue
		}
		ports++
		network, passage := networkOfInterface(v, b.Interface), uint32(0)
		if vrf.Client != "" {
			passage = vrf.Number
		}
		needed[vrf.Number], needed[network.Number] = true, true
		var foreign []*controlv1.ForeignAddress
		if vrf.Layer3 {
			foreign = foreignOf(v, b.Interface)
		}
		for _, f := range foreign {
			needed[f.Vrf] = true
		}
		p, ok := a.ports[b.Interface]
		if !ok || p.Vrf != network.Number || p.Passage != passage || p.Label != b.Label || p.Revision != b.Revision || p.NetworkName != network.Name {
			return fmt.Sprintf("port %s: have %v, want label %d in vrf %d at %d", b.Interface, p, b.Label, vrf.Number, b.Revision)
		}
		var bridge *controlv1.Bridge
		if vrf.Layer2 {
			bridge = &controlv1.Bridge{Routes: vrf.Layer3}
		}
		if !proto.Equal(p.Bridge, bridge) {
			return fmt.Sprintf("port %s: has the bridge %v, want %v", b.Interface, p.Bridge, bridge)
		}
		for _, f := range foreign {
			if len(p.Foreign) != len(foreign) || !slices.ContainsFunc(p.Foreign, func(x *controlv1.ForeignAddress) bool { return proto.Equal(x, f) }) {
				return fmt.Sprintf("port %s: has in other networks %v, want %v", b.Interface, p.Foreign, foreign)
			}
		}
	}
	if len(a.ports) != ports || !a.portsDone {
		return fmt.Sprintf("%d ports, want %d; complete %t", len(a.ports), ports, a.portsDone)
	}
	if diff := a.comparePolicy(v); diff != "" {
		return diff
	}
	for number := range needed {
		have := map[string][]*controlv1.Path{}
		for prefix, route := range a.routes[number] {
			have[prefix] = route.Paths
		}
		maps.Copy(have, a.layer2[number])
		if !a.vrfsDone[number] || len(have) != len(want[number]) {
			return fmt.Sprintf("vrf %d: %d routes, want %d; complete %t; have %v, want %v", number, len(have), len(want[number]), a.vrfsDone[number], have, want[number])
		}
		for key, paths := range want[number] {
			if !slices.EqualFunc(have[key], paths, func(a, b *controlv1.Path) bool { return proto.Equal(a, b) }) {
				return fmt.Sprintf("vrf %d %s: have %v, want %v", number, key, have[key], paths)
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

// allInstances are those of networks, and those that clients made.
func allInstances(v *model.View) []*compile.Instance {
	var list []*compile.Instance
	for s := range v.AllStored(model.KindVirtualNetwork) {
		if i := compile.InstanceOf(v, s.UUID); i != nil {
			list = append(list, i)
		}
	}
	for s := range v.AllStored(model.KindRoutingInstance) {
		if i := compile.ClientInstanceOf(v, s.UUID); i != nil {
			list = append(list, i)
		}
	}
	return list
}

// instanceOfInterface is the one that an interface is in: a client's, if it refers
// to one of its network.
func instanceOfInterface(v *model.View, iface string) *compile.Instance {
	found := networkOfInterface(v, iface)
	if found == nil {
		return nil
	}
	network := found.Network
	for _, r := range v.References(iface, model.KindRoutingInstance) {
		if i := compile.ClientInstanceOf(v, r.To.UUID); i != nil && i.Network == network && (found.Client == "" || i.Number < found.Number) {
			found = i
		}
	}
	return found
}

func networkOfInterface(v *model.View, iface string) *compile.Instance {
	var found *compile.Instance
	for _, r := range v.References(iface, model.KindVirtualNetwork) {
		if i := compile.InstanceOf(v, r.To.UUID); i != nil && (found == nil || i.Number < found.Number) {
			found = i
		}
	}
	return found
}
