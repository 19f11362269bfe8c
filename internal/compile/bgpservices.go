package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// BGPService is a bgp-as-a-service as one interface has it: a session with each
// of two control nodes.
type BGPService struct {
	UUID string
	// Name is the fq_name, joined with colons.
	Name string
	// Interface is the one that the task speaks from, Port the port of its node by
	// which control nodes know the sessions; 0 when none was given.
	Interface string
	Port      uint16
	// Shared: several interfaces have one address, and speak with it in turn.
	Shared bool
	// AS is the task's, LocalAS what it is shown instead of the cluster's if not 0.
	AS, LocalAS uint32
	// Families are among inet and inet6.
	Families []string
	// Hold is the hold time in seconds, 0 for the default.
	Hold uint16
	// LoopCount is how often our own AS may be in a path.
	LoopCount uint8
	// MaxPrefixes bounds the routes of a session, 0 for the default, and
	// IdleTimeout is the number of seconds after which one that broke the bound
	// may begin again; 0 is never.
	MaxPrefixes, IdleTimeout int
	// ASOverride puts our own AS in the place of the task's where that is in a path.
	ASOverride bool
	// PrivateAS is what becomes of private AS numbers in paths that the task is told,
	// and Origin which origin its routes get, as the API has them.
	PrivateAS string
	Origin    *model.RouteOriginOverride
	Disabled  bool
	// Suppressed: the task is told no routes.
	Suppressed bool
	// Peers are what the task connects to, sorted.
	Peers []BGPServicePeer
	// Gateway4 and Gateway6 are the next hops that the task is told.
	Gateway4, Gateway6 netip.Addr
	// Problem says why there is no session; empty where there can be one. Ignored says
	// what of the service does nothing while there is one.
	Problem string
	Ignored []string
}

// BGPServicePeer is an address in the network that stands for a control node.
type BGPServicePeer struct {
	Client, Server netip.Addr
	// ControlNode is 0 for the first of those that the node has, 1 for the second.
	ControlNode int
}

// Clients are the addresses from which the task may connect.
func (s *BGPService) Clients() []netip.Addr {
	var list []netip.Addr
	for _, p := range s.Peers {
		if !slices.Contains(list, p.Client) {
			list = append(list, p.Client)
		}
	}
	return list
}

// The ports of nodes that tell sessions apart, where the configuration names none.
const (
	firstBGPServicePort = 50000
	lastBGPServicePort  = 50512
)

// BGPServicePorts are the first and the last port that sessions can be given.
func BGPServicePorts(v *model.View) (first, last int64) {
	o, _ := v.ByName(model.KindGlobalSystemConfig, []string{"default-global-system-config"})
	system, _ := o.(*model.GlobalSystemConfig)
	return BGPServicePortsOf(system)
}

// BGPServicePortsOf are those of a configuration, nil for the default.
func BGPServicePortsOf(o *model.GlobalSystemConfig) (first, last int64) {
	first, last = firstBGPServicePort, lastBGPServicePort
	if o != nil && o.BgpaasParameters != nil {
		first, last = model.ValueOr(o.BgpaasParameters.PortStart, first), model.ValueOr(o.BgpaasParameters.PortEnd, last)
	}
	return first, last
}

// BGPServicesOf are the services of an interface in a network, sorted by UUID.
func BGPServicesOf(v *model.View, iface, network string) []BGPService {
	var list []BGPService
	for _, r := range v.BackReferences(iface, model.KindBGPAsAService) {
		if o, ok := model.Get[*model.BGPAsAService](v, r.From.UUID); ok {
			s := newBGPService(o, r)
			s.setPeers(v, o, network)
			s.checkClients(list)
			s.checkReferences(v)
			list = append(list, s)
		}
	}
	return list
}

func newBGPService(o *model.BGPAsAService, r model.Reference) BGPService {
	s := BGPService{
		UUID: o.UUID, Name: model.FQString(o.FQName), Interface: r.To.UUID, Port: uint16(r.Number),
		Shared:     model.ValueOr(o.BgpaasShared, false),
		AS:         uint32(model.ValueOr(o.AutonomousSystem, 0)),
		Suppressed: model.ValueOr(o.BgpaasSuppressRouteAdvertisement, false),
		Families:   []string{"inet", "inet6"},
	}
	if a := o.BgpaasSessionAttributes; a != nil {
		s.readSession(a)
	}
	switch {
	case s.AS == 0:
		s.Problem = "it has no autonomous_system; set that of the task"
	case s.Port == 0:
		s.Problem = "its reference to the interface has no port; make it anew"
	case len(s.Families) == 0:
		s.Problem = "bgpaas_session_attributes.address_families names neither inet nor inet6"
	}
	return s
}

func (s *BGPService) readSession(a *model.BgpSessionAttributes) {
	if a.AddressFamilies != nil && len(a.AddressFamilies.Family) > 0 {
		s.Families = slices.DeleteFunc(s.Families, func(f string) bool { return !slices.Contains(a.AddressFamilies.Family, f) })
	}
	s.LocalAS = uint32(model.ValueOr(a.LocalAutonomousSystem, 0))
	s.Hold = uint16(model.ValueOr(a.HoldTime, 0))
	s.LoopCount = uint8(model.ValueOr(a.LoopCount, 0))
	s.Disabled = model.ValueOr(a.AdminDown, false)
	s.ASOverride = model.ValueOr(a.AsOverride, false)
	s.PrivateAS, s.Origin = a.PrivateAsAction, a.RouteOriginOverride
	for _, f := range a.FamilyAttributes {
		s.LoopCount = max(s.LoopCount, uint8(model.ValueOr(f.LoopCount, 0)))
		if f.PrefixLimit != nil {
			s.MaxPrefixes += int(model.ValueOr(f.PrefixLimit.Maximum, 0))
			s.IdleTimeout = max(s.IdleTimeout, int(model.ValueOr(f.PrefixLimit.IdleTimeout, 0)))
		}
	}
}

// setPeers finds the addresses that the task connects from and to: the gateway of
// the client's subnet stands for the first control node, the DNS server for the
// second.
func (s *BGPService) setPeers(v *model.View, o *model.BGPAsAService, network string) {
	clients := ownAddresses(v, s.Interface)
	if shared, err := netip.ParseAddr(o.BgpaasIPAddress); err == nil {
		clients = []netip.Addr{shared}
	}
	all := serviceAddresses(v, network)
	for _, c := range clients {
		sub, ok := all.of(c)
		if !ok {
			continue
		}
		for i, server := range []netip.Addr{sub.gateway, sub.dns} {
			if server.IsValid() && (i == 0 || server != sub.gateway) {
				s.Peers = append(s.Peers, BGPServicePeer{Client: c, Server: server, ControlNode: i})
			}
		}
	}
	slices.SortFunc(s.Peers, func(a, b BGPServicePeer) int {
		return cmp.Or(a.Client.Compare(b.Client), cmp.Compare(a.ControlNode, b.ControlNode))
	})
	s.setGateways(all, model.ValueOr(o.BgpaasIpv4MappedIpv6Nexthop, false))
	if s.Problem == "" && !isRouted(graphOf(v), network) {
		s.Problem = "its network has the forwarding_mode l2, in which there is no gateway to speak with; make it l2_l3 or l3"
	}
	if len(s.Peers) == 0 && s.Problem == "" {
		s.Problem = "there is no address to speak from in a subnet with a gateway; give the interface one, or set bgpaas_ip_address"
	}
}

// checkReferences says what references of a service do nothing.
func (s *BGPService) checkReferences(v *model.View) {
	for _, r := range []struct {
		kind model.Kind
		text string
	}{
		{model.KindControlNodeZone, "control_node_zone does nothing: the sessions are with the two controllers of the node"},
		{model.KindServiceHealthCheck, "service_health_check does nothing here: let the interface refer to the health check"},
	} {
		for range v.ReferenceSeq(s.UUID, r.kind) {
			s.Ignored = append(s.Ignored, r.text)
			break
		}
	}
}

// serviceProblems are those of the BGP services of a network's interfaces.
func serviceProblems(v *model.View, g *graph, network string) []Problem {
	var list []Problem
	for r := range v.BackReferenceSeq(network, model.KindVirtualMachineInterface) {
		vmi, ok := g.Object(model.KindVirtualMachineInterface, r.From.UUID)
		if !ok {
			continue
		}
		of := originOf(vmi)
		for _, s := range BGPServicesOf(v, r.From.UUID, network) {
			about := Origin{Kind: model.KindBGPAsAService, UUID: s.UUID, Name: s.Name}
			add := func(text string, names ...Origin) {
				if !slices.ContainsFunc(list, func(p Problem) bool { return p.About == about && p.Text == text }) {
					list = append(list, Problem{About: about, Names: names, Text: text})
				}
			}
			if s.Problem != "" {
				add(fmt.Sprintf("%s %s has no session by it: %s", of.Kind, of.Name, s.Problem), of)
			}
			for _, text := range s.Ignored {
				add(text)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Problem) int { return cmp.Compare(a.About.UUID, b.About.UUID) })
	return list
}

// checkClients refuses a client that an earlier service of the interface has: the
// node could not tell whose connection it is.
func (s *BGPService) checkClients(earlier []BGPService) {
	for i := range earlier {
		for _, c := range earlier[i].Clients() {
			if s.Problem == "" && slices.Contains(s.Clients(), c) {
				s.Problem = fmt.Sprintf("the interface speaks from %s by bgp-as-a-service %s already; take it off one of the two", c, earlier[i].Name)
			}
		}
	}
}

// setGateways takes the gateways of the clients' subnets, else of any of the family.
func (s *BGPService) setGateways(all serviceSubnets, mapped bool) {
	for _, c := range append(s.Clients(), netip.IPv4Unspecified(), netip.IPv6Unspecified()) {
		sub, ok := all.of(c)
		at := &s.Gateway6
		if c.Is4() {
			at = &s.Gateway4
		}
		if ok && !at.IsValid() {
			*at = sub.gateway
		}
	}
	if mapped && s.Gateway4.IsValid() {
		s.Gateway6 = netip.AddrFrom16(s.Gateway4.As16())
	}
}

// ownAddresses are those of an interface in its network that are not secondary.
func ownAddresses(v *model.View, iface string) []netip.Addr {
	var list []netip.Addr
	for r := range v.BackReferenceSeq(iface, model.KindInstanceIP) {
		ip, ok := model.Get[*model.InstanceIP](v, r.From.UUID)
		if !ok || model.ValueOr(ip.InstanceIPSecondary, false) {
			continue
		}
		if a, err := netip.ParseAddr(ip.InstanceIPAddress); err == nil && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

// serviceSubnet is a subnet with the addresses that are the network's own.
type serviceSubnet struct {
	prefix       netip.Prefix
	gateway, dns netip.Addr
}

type serviceSubnets []serviceSubnet

// of is the subnet of an address, else the first one of its family.
func (l serviceSubnets) of(a netip.Addr) (found serviceSubnet, ok bool) {
	for _, s := range l {
		if s.prefix.Contains(a) {
			return s, true
		}
		if !ok && s.prefix.Addr().Is4() == a.Is4() {
			found, ok = s, true
		}
	}
	return found, ok
}

// serviceAddresses are the subnets of a network that have a gateway, sorted.
func serviceAddresses(v *model.View, network string) serviceSubnets {
	var list serviceSubnets
	add := func(all []model.IpamSubnetType) {
		for i := range all {
			p, ok := ParsePrefix(all[i].Subnet)
			gateway := ownedAddress(all[i].DefaultGateway)
			if ok && gateway.IsValid() {
				list = append(list, serviceSubnet{p, gateway, ownedAddress(all[i].DNSServerAddress)})
			}
		}
	}
	for _, r := range v.References(network, model.KindNetworkIPAM) {
		if attr, err := model.RefAttr[model.VnSubnetsType](r); err == nil {
			add(attr.IPAMSubnets)
		}
		if ipam, ok := model.Get[*model.NetworkIPAM](v, r.To.UUID); ok && ipam.IPAMSubnets != nil {
			add(ipam.IPAMSubnets.Subnets)
		}
	}
	slices.SortFunc(list, func(a, b serviceSubnet) int { return a.prefix.Compare(b.prefix) })
	return list
}

// ownedAddress reads the address of a service; the unspecified one stands for none.
func ownedAddress(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}
