package control

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/rib"
	"github.com/contrail-mesos/contrail/internal/model"
)

// Unread are the properties that a control node asks of no object; its graph may
// be without them. They are half of a small object.
var Unread = []string{"id_perms", "perms2"}

// attachment is what the graph says of one interface that is bound to a node.
// It is never changed.
type attachment struct {
	model.Binding
	network     string // UUID
	networkName string
	number      uint32 // of the network
	// vrf is the number of the network, or of the client's instance of it that the
	// interface is in.
	vrf    uint32
	vni    uint32 // of the network, for VXLAN; 0 in a client's instance
	bridge bridge // of the network
	// routers are the VXLAN network identifiers of the logical routers that connect
	// the network, sorted.
	routers     []uint32
	mac         string
	displayName string
	addresses   []address // sorted
	// foreign are floating and alias addresses, of other networks.
	foreign []foreignAddress
	// routes are the prefixes behind it.
	routes []compile.StaticRoute
	// services are the BGP services of the task behind it, sorted by UUID, and
	// announced are the prefixes that it may announce by them, sorted and disjoint.
	services  []compile.BGPService
	announced []netip.Prefix
	// passage is the VRF in which what leaves the interface is looked up, where
	// it is one of a service in a chain; else 0.
	passage uint32
	// checks are its health checks, sorted by id.
	checks []check
	// policy is what it is to policy, where that is known; securityGroups and
	// tags are of it.
	policy          *compile.Port
	securityGroups  []uint32 // sorted
	tags            []uint32 // sorted
	localPreference uint32
	// service: it is an interface of a service.
	service bool
	// fabricNetwork is the number of the network that all outside is in, where its
	// own reaches that by SNAT; else 0.
	fabricNetwork uint32
}

// bridge is what a network does with frames.
type bridge struct{ layer2, layer3, floodsUnknown bool }

func bridgeOf(i *compile.Instance) bridge { return bridge{i.Layer2, i.Layer3, i.FloodsUnknown} }

// address is one that the interface has in its own network.
type address struct {
	netip.Addr
	// shared: all interfaces that have it are active.
	shared bool
}

// foreignAddress is one that the interface has in another network.
type foreignAddress struct {
	netip.Addr
	vrf  uint32
	kind rib.SourceKind
	// fixed is what it is translated to, itself for an alias.
	fixed netip.Addr
	// answersOnly: the interface begins nothing by it.
	answersOnly bool
}

// attachmentOf collects the facts of an interface; nil when it is not bound,
// or not complete.
func (f *facts) attachmentOf(v *model.View, iface string) *attachment {
	binding, ok := v.Binding(iface)
	if !ok {
		return nil
	}
	// There may be a thousand of them in a second: what is needed is read from
	// the stored forms, which are not decoded.
	vmi, ok := v.Stored(iface)
	if !ok || vmi.Kind != model.KindVirtualMachineInterface {
		return nil
	}
	a := &attachment{Binding: binding, mac: macOf(vmi), localPreference: preferenceOf(vmi), service: isOfService(vmi)}
	for r := range v.ReferenceSeq(iface, model.KindVirtualNetwork) {
		// An interface has one network; the lowest number, should there be more.
		if i := f.compiler.Instance(r.To.UUID); i != nil && (a.vrf == 0 || i.Number < a.vrf) {
			a.network, a.networkName, a.vrf, a.vni, a.bridge, a.routers = i.Network, i.Name, i.Number, i.VXLAN, bridgeOf(i), i.RouterVNIs
		}
	}
	if a.vrf == 0 {
		return nil
	}
	a.number = a.vrf
	if i := compile.PlacedIn(v, iface, a.network, f.compiler.ClientInstance); i != nil {
		a.vrf, a.vni, a.bridge, a.routers = i.Number, 0, bridgeOf(i), nil
	}
	if vm, ok := v.Stored(binding.Machine); ok && vm.Kind == model.KindVirtualMachine {
		a.displayName = vm.Text("display_name")
	}
	if a.displayName == "" {
		a.displayName = vmi.Text("display_name")
	}
	a.readAddresses(v)
	if a.bridge.layer3 { // what is only bridged is reached from its network alone
		f.readForeign(v, a)
		if i := f.compiler.Instance(a.network); i != nil && i.FabricSNAT {
			a.fabricNetwork = f.fabricNumber(v)
		}
	}
	f.readRoutes(v, a)
	f.readPassage(v, a)
	f.readChecks(v, a)
	a.readServices(v)
	if a.policy = f.compiler.Port(iface); a.policy != nil {
		a.securityGroups, a.tags = a.policy.Groups, a.policy.Tags
	}
	return a
}

// lookup is the VRF in which what leaves the interface is looked up, 0 for that of
// its network. To its node that one is the interface's in any case: a restored
// store learns from there which network it was in.
func (a *attachment) lookup() uint32 {
	switch {
	case a.passage != 0:
		return a.passage
	case a.vrf != a.number:
		return a.vrf
	}
	return 0
}

// defaultPreference is the local preference of a path whose source names none.
const defaultPreference = 100

func (a *attachment) readAddresses(v *model.View) {
	for r := range v.BackReferenceSeq(a.Interface, model.KindInstanceIP) {
		ip, ok := v.Stored(r.From.UUID)
		if !ok {
			continue
		}
		if addr, err := netip.ParseAddr(ip.Text("instance_ip_address")); err == nil {
			a.addresses = append(a.addresses, address{addr, ip.Text("instance_ip_mode") == "active-active"})
		}
	}
	slices.SortFunc(a.addresses, func(x, y address) int { return x.Compare(y.Addr) })
	a.addresses = slices.CompactFunc(a.addresses, func(x, y address) bool { return x.Addr == y.Addr })
}

// readForeign reads the floating and alias addresses of the interface. Left out
// are those that nothing can be done with yet: for what leaves the interface
// only, for some ports only, and for an address that the interface has not.
func (f *facts) readForeign(v *model.View, a *attachment) {
	add := func(text, network string, x foreignAddress) {
		var err error
		x.Addr, err = netip.ParseAddr(text)
		i := f.compiler.Instance(network)
		if i == nil || err != nil {
			return
		}
		if x.vrf = i.Number; x.kind == rib.Alias {
			x.fixed = x.Addr
		} else if x.fixed = a.fixedFor(x); !x.fixed.IsValid() {
			return
		}
		a.foreign = append(a.foreign, x)
	}
	for r := range v.BackReferenceSeq(a.Interface, model.KindFloatingIP) {
		ip, ok := model.Get[*model.FloatingIP](v, r.From.UUID)
		if !ok || ip.FloatingIPTrafficDirection == "egress" || model.ValueOr(ip.FloatingIPPortMappingsEnable, false) {
			continue
		}
		x := foreignAddress{kind: rib.Floating, answersOnly: ip.FloatingIPTrafficDirection == "ingress"}
		if fixed, err := netip.ParseAddr(ip.FloatingIPFixedIPAddress); err == nil {
			x.fixed = fixed
		}
		add(ip.FloatingIPAddress, networkOfFloating(v, ip), x)
	}
	for r := range v.BackReferenceSeq(a.Interface, model.KindAliasIP) {
		if alias, ok := model.Get[*model.AliasIP](v, r.From.UUID); ok {
			if pool, ok := v.Find(alias.ParentUUID); ok {
				add(alias.AliasIPAddress, pool.GetMeta().ParentUUID, foreignAddress{kind: rib.Alias})
			}
		}
	}
	slices.SortFunc(a.foreign, func(x, y foreignAddress) int {
		return cmp.Or(x.Compare(y.Addr), cmp.Compare(x.vrf, y.vrf), cmp.Compare(x.kind, y.kind))
	})
	a.foreign = slices.CompactFunc(a.foreign, func(x, y foreignAddress) bool { return x.Addr == y.Addr && x.vrf == y.vrf && x.kind == y.kind })
}

// fixedFor is the address of the interface that a floating one is for: the named
// one, else the first of its family.
func (a *attachment) fixedFor(x foreignAddress) netip.Addr {
	for _, own := range a.addresses {
		if x.fixed == own.Addr || !x.fixed.IsValid() && own.Is4() == x.Is4() {
			return own.Addr
		}
	}
	return netip.Addr{}
}

// readRoutes reads the prefixes that tables of routes put behind the interface.
// Where several name one, the first table decides.
func (f *facts) readRoutes(v *model.View, a *attachment) {
	for _, r := range v.References(a.Interface, model.KindInterfaceRouteTable) {
		t := f.compiler.InterfaceRoutes(r.To.UUID)
		if t != nil && slices.Contains(t.Interfaces, a.Interface) {
			a.routes = append(a.routes, t.Routes...)
		}
	}
	slices.SortStableFunc(a.routes, func(x, y compile.StaticRoute) int {
		return cmp.Or(x.Prefix.Addr().Compare(y.Prefix.Addr()), cmp.Compare(x.Prefix.Bits(), y.Prefix.Bits()))
	})
	a.routes = slices.CompactFunc(a.routes, func(x, y compile.StaticRoute) bool { return x.Prefix == y.Prefix })
}

// readServices reads the BGP services of the interface. What the task may announce
// is its own addresses, and all within the prefixes that the interface may use by
// allowed address pairs or that are behind it. Pairs count in networks of the
// interface's project only: whoever may use one of another project writes them
// himself, and cannot lead its traffic elsewhere.
func (a *attachment) readServices(v *model.View) {
	if a.services = compile.BGPServicesOf(v, a.Interface, a.network); len(a.services) == 0 {
		return
	}
	for _, own := range a.addresses {
		a.announced = append(a.announced, netip.PrefixFrom(own.Addr, own.BitLen()))
	}
	for _, r := range a.routes {
		a.announced = append(a.announced, r.Prefix.Masked())
	}
	vmi, ok := model.Get[*model.VirtualMachineInterface](v, a.Interface)
	network, _ := v.Stored(a.network)
	if ok && vmi.VirtualMachineInterfaceAllowedAddressPairs != nil && vmi.ParentUUID == network.Parent.UUID {
		for _, pair := range vmi.VirtualMachineInterfaceAllowedAddressPairs.AllowedAddressPair {
			if p, ok := compile.ParsePrefix(pair.IP); ok {
				a.announced = append(a.announced, p.Masked())
			}
		}
	}
	a.announced = disjoint(a.announced)
}

// disjoint sorts prefixes, without those that others cover.
func disjoint(list []netip.Prefix) []netip.Prefix {
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	kept := list[:0]
	for _, p := range list {
		if len(kept) == 0 || !kept[len(kept)-1].Contains(p.Addr()) {
			kept = append(kept, p)
		}
	}
	return kept
}

// mayAnnounce tells whether a prefix is within one of those that the task may
// announce.
func (a *attachment) mayAnnounce(p netip.Prefix) bool {
	after, found := slices.BinarySearchFunc(a.announced, p.Addr(), func(x netip.Prefix, at netip.Addr) int { return x.Addr().Compare(at) })
	if found {
		after++
	}
	return after > 0 && a.announced[after-1].Bits() <= p.Bits() && a.announced[after-1].Contains(p.Addr())
}

// networkOfFloating is the network that a floating address is of: that of its
// pool, or that of the instance-ip it is below.
func networkOfFloating(v *model.View, f *model.FloatingIP) string {
	parent, ok := v.Find(f.ParentUUID)
	switch {
	case !ok:
		return ""
	case parent.Kind() == model.KindFloatingIPPool:
		return parent.GetMeta().ParentUUID
	}
	for r := range v.ReferenceSeq(f.ParentUUID, model.KindVirtualNetwork) {
		return r.To.UUID
	}
	return ""
}

func macOf(vmi model.Stored) string {
	var macs []string
	if list, ok := vmi.Member("virtual_machine_interface_mac_addresses", "mac_address"); ok && json.Unmarshal(list, &macs) == nil && len(macs) > 0 {
		return macs[0]
	}
	mac, err := model.MACOf(vmi.UUID)
	if err != nil {
		return ""
	}
	return mac.String()
}

func preferenceOf(vmi model.Stored) uint32 {
	n := uint32(0)
	if p, ok := vmi.Member("virtual_machine_interface_properties", "local_preference"); !ok || json.Unmarshal(p, &n) != nil || n == 0 {
		return defaultPreference
	}
	return n
}

// isOfService tells whether an interface is one of a service.
func isOfService(vmi model.Stored) bool {
	side, ok := vmi.Member("virtual_machine_interface_properties", "service_interface_type")
	return ok && len(side) > len(`""`) && string(side) != "null"
}

func (a *attachment) equal(b *attachment) bool {
	x, y := *a, *b
	x.policy, y.policy = nil, nil // sets may be long, and have ids
	return a.policy.Equal(b.policy) && reflect.DeepEqual(x, y)
}

// instance is the forwarding table of a network. It is never changed.
type instance struct {
	*compile.Instance
	// importing are the route targets by which routes come in: those of Import,
	// and those of links where they may be used.
	importing        []compile.Target
	imports, exports []rib.Target // sorted
	// external are those imported targets under which routers outside may bring
	// routes in.
	external []rib.Target
	// exported: routers outside are told the network's routes; someExported: those to
	// which its policies, or static routes themselves, give a route target.
	exported, someExported bool
	chains                 []rib.ServiceChain
}

func (f *facts) instanceOf(v *model.View, i *compile.Instance) *instance {
	if i == nil {
		return nil
	}
	x := &instance{Instance: i, importing: i.Import, exports: targetsOf(i.Export)}
	if f.policies {
		x.chains = chainsOf(i.Chains)
		if len(i.Links) > 0 {
			x.importing = slices.Concat(i.Import, i.LinkTargets())
			slices.Sort(x.importing)
			x.importing = slices.Compact(x.importing)
		}
	}
	x.imports = targetsOf(x.importing)
	// The target that a network was given is not for anybody outside: nobody
	// may bring routes in under it, and it alone makes no network known there.
	asn := compile.ASN(v)
	automatic := func(t compile.Target) bool { return t.IsAutomatic(asn) }
	x.external = targetsOf(slices.DeleteFunc(slices.Clone(i.Import), automatic))
	x.someExported = slices.ContainsFunc(i.Policies, (*compile.RoutingPolicy).GivesTargets) ||
		slices.ContainsFunc(i.Routes, func(r compile.StaticRoute) bool { return len(r.Targets) > 0 })
	x.exported = i.External || slices.ContainsFunc(i.Export, func(t compile.Target) bool { return !automatic(t) })
	return x
}

// vrf is what the tables of routes have of the instance. An aggregate without
// a next hop is none: there is no way to it. Where nothing is routed the addresses
// are the network's own affair, by which it checks who sends.
func (i *instance) vrf() rib.VRF {
	if !i.Layer3 {
		return rib.VRF{Number: i.Number, External: i.external}
	}
	v := rib.VRF{Number: i.Number, Import: i.imports, Export: i.exports, External: i.external, Chains: i.chains, Policies: i.Policies}
	if i.Fabric {
		v.External = append(v.External, rib.FabricTarget)
	}
	for _, r := range i.Routes {
		v.Static = append(v.Static, rib.StaticRoute{Prefix: r.Prefix, NextHop: r.NextHop, Communities: r.Communities, Targets: targetsOf(r.Targets)})
	}
	for _, a := range i.Aggregates {
		if a.NextHop.IsValid() {
			v.Aggregates = append(v.Aggregates, rib.AggregateRoute{Prefix: a.Prefix, NextHop: a.NextHop})
		}
	}
	return v
}

func targetsOf(list []compile.Target) []rib.Target {
	targets := make([]rib.Target, 0, len(list))
	for _, t := range list {
		if c, ok := t.Community(); ok {
			targets = append(targets, rib.Target(c))
		}
	}
	slices.Sort(targets)
	return slices.Compact(targets)
}

// update is what may differ, read from one view: of everything, or of what is
// named; of instances always what differs. A nil value says that the thing
// does not exist.
type update struct {
	everything  bool
	position    model.Position
	attachments map[string]*attachment
	instances   map[string]*instance         // by network, or routing-instance of a client
	passages    map[string]*compile.Passages // by service-instance, always what differs
	// routers are the forwarding tables of logical routers, always what differs.
	routers map[string]*compile.RouterTable
	nodes   map[string]*model.Node
	// encapsulations are nil where they were not read.
	encapsulations []compile.Encapsulation
	// linkLocal are nil where they were not read.
	linkLocal []compile.LinkLocalService
	// machines are the addresses of those that serve the cluster; nil where they were
	// not read.
	machines []netip.Addr
	// fabricMTU is the smallest of all nodes, 0 when there are none.
	fabricMTU uint32
	// peering is read where rereadPeering is set.
	rereadPeering bool
	peering       *peering
}

// facts reads from the graph what the tables are made of. It is for one
// goroutine.
type facts struct {
	compiler *compile.Compiler
	// router is the name of the bgp-router that this control node is.
	router string
	// addPaths is how many paths of a route are taken of a router, 0 for one.
	addPaths int
	// policies says that agents hold traffic to the rules of policies. Only then
	// may the routes be used that nothing but a policy asks for, those of links
	// and of chains: else more would pass than the policy's rules allow.
	policies bool
}

func newFacts() *facts { return &facts{compiler: compile.NewCompiler(compile.Policy)} }

// read collects the facts that changes touch.
func (f *facts) read(g *model.Graph, changes model.Changes) *update {
	u := &update{
		everything:  changes.Everything,
		position:    changes.Position,
		attachments: map[string]*attachment{},
		instances:   map[string]*instance{},
		passages:    map[string]*compile.Passages{},
		routers:     map[string]*compile.RouterTable{},
		nodes:       map[string]*model.Node{},
	}
	g.View(func(v *model.View) {
		u.fabricMTU = v.SmallestFabricMTU("")
		report := f.compiler.Apply(v, changes)
		compiled := report.Instances
		for network, change := range compiled {
			u.instances[network] = f.instanceOf(v, change.After)
		}
		for id, change := range report.ClientInstances {
			u.instances[id] = f.instanceOf(v, change.After)
			if identityOf(change.Before) != identityOf(change.After) {
				for r := range v.BackReferenceSeq(id, model.KindVirtualMachineInterface) {
					f.readAttachment(v, u, r.From.UUID)
				}
			}
		}
		f.readPassages(v, u, report.Passages)
		for id, change := range report.RouterTables {
			u.routers[id] = change.After
		}
		if u.rereadPeering = changes.Everything || isRouterChange(changes); u.rereadPeering {
			u.peering = peeringOf(v, f.router, f.addPaths)
		}
		if changes.Everything || isOf(changes, model.KindGlobalVrouterConfig) {
			u.encapsulations, u.linkLocal = compile.Encapsulations(v), compile.LinkLocalServices(v)
		}
		if changes.Everything || isOfMachine(changes) {
			u.machines = compile.Machines(v)
		}
		if changes.Everything {
			f.readAll(v, u)
			return
		}
		f.readChanges(v, u, changes)
		for iface := range report.Ports {
			f.readAttachment(v, u, iface)
		}
		for network, change := range compiled {
			if identityOf(change.Before) != identityOf(change.After) {
				f.readNetwork(v, u, network)
			}
		}
		f.readChecked(v, u, report.HealthChecks)
		for _, change := range report.InterfaceRoutes {
			for _, t := range []*compile.InterfaceRoutes{change.Before, change.After} {
				if t != nil {
					f.readInterfaces(v, u, t.Interfaces)
				}
			}
		}
	})
	return u
}

// isOf tells whether an object of a kind has changed.
func isOf(changes model.Changes, kind model.Kind) bool {
	for e := range changes.Objects {
		if e.Kind == kind {
			return true
		}
	}
	return false
}

// identity is what attachments have of an instance.
type identity struct {
	number, vni uint32
	name        string
	bridge      bridge
	routers     string
	snat        bool
}

func identityOf(i *compile.Instance) identity {
	if i == nil {
		return identity{}
	}
	return identity{i.Number, i.VXLAN, i.Name, bridgeOf(i), fmt.Sprint(i.RouterVNIs), i.FabricSNAT}
}

func (f *facts) readAll(v *model.View, u *update) {
	for _, n := range v.Nodes() {
		u.nodes[n.UUID] = &n
	}
	for b := range v.Bindings() {
		f.readAttachment(v, u, b.Interface)
	}
}

func (f *facts) readChanges(v *model.View, u *update, changes model.Changes) {
	for id := range changes.Nodes {
		u.nodes[id] = nil
		if n, ok := v.Node(id); ok {
			u.nodes[id] = &n
		}
	}
	for iface := range changes.Bindings {
		f.readAttachment(v, u, iface)
	}
	for e := range changes.Objects {
		f.readObject(v, u, e)
	}
	for e := range changes.References {
		switch {
		case e.From.Kind == model.KindVirtualMachineInterface:
			f.readAttachment(v, u, e.From.UUID)
		case e.To.Kind == model.KindVirtualMachineInterface:
			f.readAttachment(v, u, e.To.UUID)
		case e.From.Kind == model.KindVirtualNetwork && e.To.Kind == model.KindNetworkIPAM:
			f.readServices(v, u, e.From.UUID)
		}
	}
}

// readObject reads what depends on an object. What depended on it through a
// reference that is gone is found by the reference's own change.
func (f *facts) readObject(v *model.View, u *update, e model.Entity) {
	switch e.Kind {
	case model.KindVirtualMachineInterface:
		f.readAttachment(v, u, e.UUID)
	case model.KindInstanceIP, model.KindFloatingIP, model.KindAliasIP, model.KindBGPAsAService:
		f.readHolders(v, u, e.UUID)
	case model.KindNetworkIPAM:
		for r := range v.BackReferenceSeq(e.UUID, model.KindVirtualNetwork) {
			f.readServices(v, u, r.From.UUID)
		}
	case model.KindVirtualMachine:
		for r := range v.BackReferenceSeq(e.UUID, model.KindVirtualMachineInterface) {
			f.readAttachment(v, u, r.From.UUID)
		}
	case model.KindFloatingIPPool, model.KindAliasIPPool:
		f.readPool(v, u, e.UUID)
	}
}

// readNetwork reads the interfaces that have an address of a network.
func (f *facts) readNetwork(v *model.View, u *update, id string) {
	for r := range v.BackReferenceSeq(id, model.KindVirtualMachineInterface) {
		f.readAttachment(v, u, r.From.UUID)
	}
	for pool := range v.ChildSeq(id, "") {
		if k := pool.Kind(); k == model.KindFloatingIPPool || k == model.KindAliasIPPool {
			f.readPool(v, u, pool.GetMeta().UUID)
		}
	}
}

// readPool reads the interfaces that have an address of a pool.
func (f *facts) readPool(v *model.View, u *update, id string) {
	for o := range v.ChildSeq(id, "") {
		f.readHolders(v, u, o.GetMeta().UUID)
	}
}

// readServices reads the interfaces of a network whose tasks speak BGP: with the
// addresses of its subnets.
func (f *facts) readServices(v *model.View, u *update, network string) {
	for s := range v.AllStored(model.KindBGPAsAService) {
		for r := range v.ReferenceSeq(s.UUID, model.KindVirtualMachineInterface) {
			if _, ok := v.Reference(r.To.UUID, network); ok {
				f.readAttachment(v, u, r.To.UUID)
			}
		}
	}
}

// readHolders reads the interfaces that an address, or a BGP service, refers to.
func (f *facts) readHolders(v *model.View, u *update, address string) {
	for r := range v.ReferenceSeq(address, model.KindVirtualMachineInterface) {
		f.readAttachment(v, u, r.To.UUID)
	}
}

func (f *facts) readInterfaces(v *model.View, u *update, list []string) {
	for _, iface := range list {
		f.readAttachment(v, u, iface)
	}
}

func (f *facts) readAttachment(v *model.View, u *update, iface string) {
	if _, done := u.attachments[iface]; !done {
		u.attachments[iface] = f.attachmentOf(v, iface)
	}
}
