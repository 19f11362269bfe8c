package vrouter

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/api/vrouterapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// Families of routes.
const (
	familyIPv4 = "inet"
	familyIPv6 = "inet6"
	familyMACs = "bridge"
)

// destination is what a question about routes is about: one of its fields, or
// everything.
type destination struct {
	address netip.Addr
	prefix  netip.Prefix
	mac     dataplane.MAC
}

func destinationOf(text string) (destination, error) {
	var d destination
	if text == "" {
		return d, nil
	}
	var err error
	if d.address, err = netip.ParseAddr(text); err == nil {
		d.address = d.address.Unmap()
		return d, nil
	}
	if d.prefix, err = netip.ParsePrefix(text); err == nil {
		d.prefix = d.prefix.Masked()
		return d, nil
	}
	if d.mac, err = dataplane.ParseMAC(text); err != nil {
		return d, invalid("%q: want an address, a prefix or a MAC", text)
	}
	return d, nil
}

// has tells whether the question is about a prefix.
func (d destination) has(p netip.Prefix) bool {
	if d.prefix.IsValid() {
		return d.prefix.Bits() <= p.Bits() && d.prefix.Contains(p.Addr())
	}
	return d.mac == dataplane.MAC{}
}

// family is that of what the question is about; empty where it is everything.
func (d destination) family() string {
	switch {
	case d.address.IsValid():
		return familyOf(d.address)
	case d.prefix.IsValid():
		return familyOf(d.prefix.Addr())
	case d.mac != dataplane.MAC{}:
		return familyMACs
	}
	return ""
}

// vrfsOfVif are those of the VRFs asked for that the interface asked for is in.
func (l *look) vrfsOfVif() map[uint32]bool {
	vrfs := map[uint32]bool{}
	if p, ok := l.ports[l.onlyVif]; ok && l.wantsVRF(p.VRF) { // the underlay is in none
		vrfs[p.VRF] = true
	}
	return vrfs
}

func (l *look) routes() (vrouterapi.Routes, error) {
	answer := vrouterapi.Routes{Routes: []vrouterapi.Route{}}
	d, err := destinationOf(l.query.Get(vrouterapi.ParamPrefix))
	if err != nil {
		return answer, err
	}
	family := l.query.Get(vrouterapi.ParamFamily)
	switch family {
	case "", familyIPv4, familyIPv6, familyMACs:
	default:
		return answer, invalid("family %q: want inet, inet6 or bridge", family)
	}
	if of := d.family(); family != "" && of != "" && family != of {
		return answer, invalid("family %s: %s is of %s", family, l.query.Get(vrouterapi.ParamPrefix), of)
	}
	if l.onlyVif != 0 {
		l.onlyVRFs = l.vrfsOfVif()
	}
	var list []dataplane.RouteEntry
	if d.address.IsValid() {
		list, err = l.routesTo(d.address)
	} else {
		list, answer.Left, err = l.tables.RouteEntries(func(k dataplane.RouteKey) bool {
			return l.wantsVRF(k.VRF) && d.has(k.Prefix) && (family == "" || family == familyOf(k.Prefix.Addr()))
		}, l.limit)
	}
	if err != nil {
		return answer, err
	}
	for _, r := range list {
		answer.Routes = append(answer.Routes, l.route(r))
	}
	if d.address.IsValid() || d.prefix.IsValid() || family == familyIPv4 || family == familyIPv6 {
		return answer, nil
	}
	macs, left, err := l.tables.MACEntries(func(k dataplane.MACKey) bool {
		return l.wantsVRF(k.VRF) && (d.mac == dataplane.MAC{} || d.mac == k.MAC)
	}, l.limit-len(list))
	if err != nil {
		return answer, err
	}
	answer.Left += left
	for _, m := range macs {
		r := vrouterapi.Route{
			VRF: m.VRF, Network: l.networks[m.VRF], Family: familyMACs, Destination: m.MAC.String(), NextHop: l.nextHop(m.Hop, m.NextHop),
		}
		r.Status = statusOfObject(l.agent.macs, m.MACKey)
		answer.Routes = append(answer.Routes, r)
	}
	return answer, nil
}

// routesTo are the routes that an address takes, of each VRF one.
func (l *look) routesTo(address netip.Addr) ([]dataplane.RouteEntry, error) {
	vrfs := l.onlyVRFs
	if vrfs == nil {
		counts, err := l.tables.RouteCounts()
		if err != nil {
			return nil, err
		}
		vrfs = map[uint32]bool{}
		for vrf := range counts {
			vrfs[vrf] = true
		}
	}
	var list []dataplane.RouteEntry
	for _, vrf := range slices.Sorted(maps.Keys(vrfs)) {
		r, found, err := l.tables.RouteTo(vrf, address)
		if err != nil {
			return nil, err
		}
		if found {
			list = append(list, r)
		}
	}
	return list, nil
}

func familyOf(a netip.Addr) string {
	if a.Is4() {
		return familyIPv4
	}
	return familyIPv6
}

func (l *look) route(r dataplane.RouteEntry) vrouterapi.Route {
	return vrouterapi.Route{
		VRF: r.VRF, Network: l.networks[r.VRF], Family: familyOf(r.Prefix.Addr()), Destination: r.Prefix.String(),
		NextHop: l.nextHop(r.Hop, r.NextHop), Status: statusOfObject(l.agent.routes, r.RouteKey),
	}
}

// statusOfObject is the status of what the agent wants; nil for anything else.
func statusOfObject[K comparable, V any](t *reconcile.Table[K, V], key K) *portapi.State {
	s, desired := t.StatusOf(key)
	if !desired {
		return nil
	}
	state := stateOf(s)
	return &state
}

// nextHop is where packets go, with the port of a label of this node.
func (l *look) nextHop(id uint32, n dataplane.NextHop) vrouterapi.NextHop {
	hop := vrouterapi.NextHop{ID: id, Type: n.Kind.String(), Behind: n.Behind, Label: n.Label, VNI: n.VNI, Vif: n.IfIndex}
	if n.Kind == dataplane.Local && n.Label != 0 {
		hop.Vif = l.byLabel[n.Label]
	}
	if hop.Vif != 0 {
		hop.Device, hop.Port = l.device(hop.Vif), l.portID(hop.Vif)
	}
	if n.Remote.IsValid() {
		hop.Remote = n.Remote.String()
	}
	if n.Kind == dataplane.Tunnel {
		hop.Encapsulation = n.Encapsulation.String()
	}
	if n.MAC != (dataplane.MAC{}) {
		hop.MAC = n.MAC.String()
	}
	if n.Identity != (dataplane.Identity{}) {
		hop.Identity = identityState(n.Identity)
	}
	for _, m := range n.Members.List() {
		member := l.nextHop(0, m.NextHop)
		member.Weight = m.Weight
		hop.Members = append(hop.Members, member)
	}
	return hop
}

func (l *look) nextHops() (vrouterapi.NextHops, error) {
	answer := vrouterapi.NextHops{NextHops: []vrouterapi.NextHop{}}
	id, asked, err := l.number("next hop")
	if err != nil {
		return answer, err
	}
	list, err := l.tables.Hops()
	if err != nil {
		return answer, err
	}
	for _, h := range list {
		if asked && uint64(h.ID) != id {
			continue
		}
		hop := l.nextHop(h.ID, h.NextHop)
		hop.Routes = &h.Routes
		answer.NextHops = append(answer.NextHops, hop)
	}
	if asked && len(answer.NextHops) == 0 {
		return answer, notFound("no next hop %d on this node", id)
	}
	return answer, nil
}

func (l *look) labels() (vrouterapi.Labels, error) {
	answer := vrouterapi.Labels{Labels: []vrouterapi.Label{}}
	number, asked, err := l.number("label")
	if err != nil {
		return answer, err
	}
	for _, label := range slices.Sorted(maps.Keys(l.byLabel)) {
		ifindex := l.byLabel[label]
		p := l.ports[ifindex]
		if asked && uint64(label) != number || !l.wantsVif(ifindex) || !l.wantsVRF(p.VRF) {
			continue
		}
		answer.Labels = append(answer.Labels, vrouterapi.Label{
			Label: label, Vif: ifindex, Device: p.Name, Port: l.portID(ifindex), VRF: p.VRF, Network: l.networks[p.VRF],
		})
	}
	if asked && len(answer.Labels) == 0 {
		return answer, notFound("no port of this node has the label %d", number)
	}
	return answer, nil
}

func (l *look) vnis() (vrouterapi.VNIs, error) {
	answer := vrouterapi.VNIs{VNIs: []vrouterapi.VNI{}}
	number, asked, err := l.number("VXLAN network identifier")
	if err != nil {
		return answer, err
	}
	vnis, err := l.tables.VNIs()
	if err != nil {
		return answer, err
	}
	bridges, err := l.tables.Bridges()
	if err != nil {
		return answer, err
	}
	for _, vni := range slices.Sorted(maps.Keys(vnis)) {
		vrf := vnis[vni]
		if asked && uint64(vni) != number || !l.wantsVRF(vrf) {
			continue
		}
		v := vrouterapi.VNI{VNI: vni, VRF: vrf, Network: l.networks[vrf]}
		if b, ok := bridges[vrf]; ok {
			v.Bridge = bridgeState(b)
		}
		answer.VNIs = append(answer.VNIs, v)
	}
	if asked && len(answer.VNIs) == 0 {
		return answer, notFound("this node takes nothing with the VXLAN network identifier %d", number)
	}
	return answer, nil
}
