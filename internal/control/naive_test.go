package control

import (
	"cmp"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// candidate is a path that a computation from scratch has to choose from.
type candidate struct {
	own, shared bool
	path        *controlv1.Path
}

// naive computes all routes in the plainest way there is.
func naive(v *model.View, state func(string) portState) map[uint32]map[string][]*controlv1.Path {
	candidates := map[uint32]map[string][]candidate{}
	bridges, routes3, taken := true, true, []string{"MPLSoUDP", "MPLSoGRE", "VXLAN"}
	if o, ok := v.ByName(model.KindGlobalVrouterConfig, []string{"default-global-system-config", "default-global-vrouter-config"}); ok {
		if e := o.(*model.GlobalVrouterConfig).EncapsulationPriorities; e != nil {
			taken = e.Encapsulation
		}
		bridges = o.(*model.GlobalVrouterConfig).ForwardingMode != "l3" && slices.Contains(taken, "VXLAN")
		routes3 = o.(*model.GlobalVrouterConfig).ForwardingMode != "l2"
	}
	encapsulations := func(but string) (list []controlv1.Encapsulation) {
		for i, name := range []string{"MPLSoUDP", "MPLSoGRE", "VXLAN"} {
			if slices.Contains(taken, name) && name != but {
				list = append(list, controlv1.Encapsulation(i+1))
			}
		}
		return list
	}
	for _, to := range allInstances(v) {
		found := map[string][]candidate{}
		candidates[to.Number] = found
		for b := range v.Bindings() {
			from := instanceOfInterface(v, b.Interface)
			n, joined := v.Node(b.Node)
			s := state(b.Interface)
			if from == nil || !joined || n.Address == "" || !s.usable {
				continue
			}
			vmi, _ := v.Stored(b.Interface)
			mac, _ := net.ParseMAC(macOf(vmi))
			path := &controlv1.Path{
				NextHop: n.Address, Label: b.Label, InterfaceId: b.Interface, OriginNetwork: networkOfInterface(v, b.Interface).Number, Mac: mac,
				Vni: from.Number, Encapsulations: encapsulations(""), LocalPreference: 100, Sequence: b.Revision, Stale: s.stale,
			}
			if from.Client != "" {
				path.Vni, path.Encapsulations = 0, encapsulations("VXLAN")
			}
			if p := compile.PortOf(v, b.Interface); p != nil {
				path.SecurityGroups, path.Tags = p.Groups, p.Tags
			}
			own := from.Number == to.Number
			add := func(key string, own, shared bool, change func(p *controlv1.Path)) {
				p := proto.CloneOf(path)
				change(p)
				found[key] = append(found[key], candidate{own, shared, p})
			}
			asVXLAN := func(p *controlv1.Path) {
				p.Encapsulations = []controlv1.Encapsulation{controlv1.Encapsulation_ENCAPSULATION_VXLAN}
			}
			if own && bridges && from.Client == "" {
				add(mac.String(), true, false, asVXLAN)
				found["to "+n.Address] = []candidate{{true, false, &controlv1.Path{
					NextHop: n.Address, OriginNetwork: from.Number, Vni: from.Number, LocalPreference: 100, Stale: s.stale,
					Encapsulations: []controlv1.Encapsulation{controlv1.Encapsulation_ENCAPSULATION_VXLAN},
				}}}
			}
			for _, r := range v.BackReferences(b.Interface, model.KindInstanceIP) {
				ip, _ := model.Get[*model.InstanceIP](v, r.From.UUID)
				if ip == nil {
					continue
				}
				shared := ip.InstanceIPMode == "active-active"
				if own || routes3 && meet(from.Export, to.Import) {
					add(ip.InstanceIPAddress+"/32", own, shared, func(p *controlv1.Path) {
						if shared {
							p.Sequence = 0
						}
					})
				}
				if own && bridges && from.Client == "" {
					add(mac.String()+" "+ip.InstanceIPAddress, true, false, asVXLAN)
				}
			}
			for _, prefix := range behindInterface(v, b.Interface) {
				if own || routes3 && meet(from.Export, to.Import) {
					add(prefix, false, true, func(p *controlv1.Path) { p.Sequence, p.Behind = 0, true })
				}
			}
			for _, kind := range []model.Kind{model.KindFloatingIP, model.KindAliasIP} {
				for _, r := range v.BackReferences(b.Interface, kind) {
					ip, _ := v.Find(r.From.UUID)
					pool, _ := v.Find(ip.GetMeta().ParentUUID)
					of := compile.InstanceOf(v, pool.GetMeta().ParentUUID)
					if of == nil {
						continue
					}
					own := of.Number == to.Number
					if !routes3 || !own && !meet(of.Export, to.Import) {
						continue
					}
					address := ""
					switch ip := ip.(type) {
					case *model.FloatingIP:
						address = ip.FloatingIPAddress
					case *model.AliasIP:
						address = ip.AliasIPAddress
					}
					add(address+"/32", own, true, func(p *controlv1.Path) {
						p.Foreign, p.Sequence, p.OriginNetwork = true, 0, of.Number
						p.Vni, p.Encapsulations = 0, encapsulations("VXLAN")
					})
				}
			}
		}
	}
	routes := map[uint32]map[string][]*controlv1.Path{}
	for number, found := range candidates {
		routes[number] = map[string][]*controlv1.Path{}
		for key, list := range found {
			routes[number][key] = choose(list)
		}
	}
	if routes3 {
		addStatic(v, routes)
	}
	return routes
}

// foreignOf are the addresses that an interface has in networks beside its own,
// in no order.
func foreignOf(v *model.View, iface string) []*controlv1.ForeignAddress {
	var list []*controlv1.ForeignAddress
	fixed := ""
	for _, r := range v.BackReferences(iface, model.KindInstanceIP) {
		if ip, ok := model.Get[*model.InstanceIP](v, r.From.UUID); ok && (fixed == "" || ip.InstanceIPAddress < fixed) {
			fixed = ip.InstanceIPAddress
		}
	}
	for _, kind := range []model.Kind{model.KindFloatingIP, model.KindAliasIP} {
		for _, r := range v.BackReferences(iface, kind) {
			ip, _ := v.Find(r.From.UUID)
			pool, _ := v.Find(ip.GetMeta().ParentUUID)
			of := compile.InstanceOf(v, pool.GetMeta().ParentUUID)
			if of == nil {
				continue
			}
			f := &controlv1.ForeignAddress{Vrf: of.Number, Fixed: fixed}
			switch ip := ip.(type) {
			case *model.FloatingIP:
				f.Address = ip.FloatingIPAddress
			case *model.AliasIP:
				f.Address, f.Fixed = ip.AliasIPAddress, ip.AliasIPAddress
			}
			list = append(list, f)
		}
	}
	return list
}

// behindInterface are the prefixes that tables put behind an interface.
func behindInterface(v *model.View, iface string) []string {
	var prefixes []string
	for _, r := range v.References(iface, model.KindInterfaceRouteTable) {
		if t, ok := model.Get[*model.InterfaceRouteTable](v, r.To.UUID); ok {
			for _, route := range t.InterfaceRouteTableRoutes.Route {
				prefixes = append(prefixes, route.Prefix)
			}
		}
	}
	return prefixes
}

// addStatic adds the routes that networks have through addresses.
func addStatic(v *model.View, routes map[uint32]map[string][]*controlv1.Path) {
	for network := range v.AllStored(model.KindVirtualNetwork) {
		from := compile.InstanceOf(v, network.UUID)
		if from == nil {
			continue
		}
		for _, r := range v.References(network.UUID, model.KindRouteTable) {
			table, ok := model.Get[*model.RouteTable](v, r.To.UUID)
			if !ok {
				continue
			}
			for _, route := range table.Routes.Route {
				var paths []*controlv1.Path
				for _, via := range routes[from.Number][route.NextHop+"/32"] {
					p := proto.CloneOf(via)
					p.OriginNetwork, p.Sequence, p.LocalPreference, p.Behind = from.Number, 0, 100, true
					paths = append(paths, p)
				}
				for _, to := range allInstances(v) {
					if len(paths) > 0 && (to.Number == from.Number || meet(from.Export, to.Import)) {
						routes[to.Number][route.Prefix] = paths
					}
				}
			}
		}
	}
}

// choose takes the best, and those that are as good if they share.
func choose(list []candidate) []*controlv1.Path {
	better := func(yes bool) int {
		if yes {
			return 0
		}
		return 1
	}
	preference := func(a, b candidate) int {
		return cmp.Or(better(a.own)-better(b.own), -cmp.Compare(a.path.Sequence, b.path.Sequence), better(!a.path.Stale)-better(!b.path.Stale))
	}
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(preference(a, b), better(a.shared)-better(b.shared),
			netip.MustParseAddr(a.path.NextHop).Compare(netip.MustParseAddr(b.path.NextHop)), cmp.Compare(a.path.Label, b.path.Label),
			strings.Compare(a.path.InterfaceId, b.path.InterfaceId))
	})
	paths := []*controlv1.Path{}
	for _, c := range list {
		if len(paths) == 0 || list[0].shared && c.shared && preference(list[0], c) == 0 {
			paths = append(paths, c.path)
		}
	}
	return paths
}

func meet(a, b []compile.Target) bool {
	return slices.ContainsFunc(a, func(x compile.Target) bool { return slices.Contains(b, x) })
}

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func always(string) portState { return portState{usable: true} }
