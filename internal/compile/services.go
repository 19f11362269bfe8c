package compile

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// service is a service-instance: what traffic can be sent through. Each of its
// port-tuples is an instance of it, with an interface on the left and one on
// the right; they share the traffic.
type service struct {
	From    Origin
	Project string // UUID
	// NAT: on its right nobody knows who is on its left.
	NAT bool
	// Instances by UUID, only those that can be used.
	Instances []serviceInstance
	Problems  []Problem
}

// serviceInstance is a port-tuple.
type serviceInstance struct {
	UUID, Name  string
	Left, Right serviceInterface
}

// serviceInterface is where an instance takes packets in and gives them out.
type serviceInterface struct {
	UUID    string
	Network string
	// Address by which routes lead to it.
	Address netip.Addr
}

func (i *serviceInstance) at(s side) *serviceInterface {
	if s == right {
		return &i.Right
	}
	return &i.Left
}

// side is one of the two of a service or a chain.
type side int

const (
	left side = iota
	right
)

func (s side) other() side { return 1 - s }

func (s side) String() string { return [...]string{"left", "right"}[s] }

// Modes of services.
const (
	transparent = "transparent"
	inNetwork   = "in-network"
	inNetNAT    = "in-network-nat"
)

var services = &unit[service]{name: "service", layer: 0, compute: func(g *graph, id string) *service {
	o, ok := get[*model.ServiceInstance](g, model.KindServiceInstance, id)
	if !ok {
		return nil
	}
	s := &service{From: originOf(o), Project: o.ParentUUID}
	mode := s.readTemplate(g)
	s.NAT = mode == inNetNAT
	for _, t := range g.Children(id, model.KindPortTuple) {
		s.readInstance(g, t)
	}
	if mode == "" {
		s.Instances = nil
	} else if len(s.Instances) == 0 {
		s.problem("it has no port-tuple with an interface on its left and one on its right")
	}
	return s
}}

func (s *service) problem(format string, args ...any) {
	s.Problems = append(s.Problems, Problem{About: s.From, Text: fmt.Sprintf(format, args...)})
}

// readTemplate reads the mode; it is empty where there is none in which traffic
// can be sent through.
func (s *service) readTemplate(g *graph) (mode string) {
	for _, r := range g.References(s.From.UUID, model.KindServiceTemplate) {
		t, ok := get[*model.ServiceTemplate](g, model.KindServiceTemplate, r.To.UUID)
		if !ok || t.ServiceTemplateProperties == nil {
			continue
		}
		p := t.ServiceTemplateProperties
		mode = cmp.Or(p.ServiceMode, transparent)
		switch {
		case mode != transparent && mode != inNetwork && mode != inNetNAT:
			s.problem("service_mode %q of its template is none; set %s, %s or %s", mode, inNetwork, inNetNAT, transparent)
			return ""
		case p.ServiceType == "analyzer":
			s.problem("a service of the type analyzer gives nothing out again; mirror to it with mirror_to")
			return ""
		}
		return mode
	}
	s.problem("it has no service-template that says in which mode it works; refer to one")
	return ""
}

// readInstance reads a port-tuple. One that is on its way, with one interface
// only, is no problem as long as another can be used.
func (s *service) readInstance(g *graph, tuple model.Object) {
	m := tuple.GetMeta()
	i := serviceInstance{UUID: m.UUID, Name: m.Name()}
	for _, r := range g.BackReferences(m.UUID, model.KindVirtualMachineInterface) {
		vmi, ok := get[*model.VirtualMachineInterface](g, model.KindVirtualMachineInterface, r.From.UUID)
		if !ok || vmi.VirtualMachineInterfaceProperties == nil {
			continue
		}
		var at *serviceInterface
		switch vmi.VirtualMachineInterfaceProperties.ServiceInterfaceType {
		case left.String():
			at = &i.Left
		case right.String():
			at = &i.Right
		default:
			continue
		}
		if at.UUID != "" {
			s.problem("its port-tuple %s has more than one interface of a side; traffic takes %s", i.Name, at.UUID)
			continue
		}
		*at = serviceInterface{UUID: vmi.UUID, Address: serviceAddress(g, vmi.UUID)}
		for _, n := range g.References(vmi.UUID, model.KindVirtualNetwork) {
			at.Network = cmp.Or(at.Network, n.To.UUID)
		}
	}
	switch {
	case i.Left.UUID == "" || i.Right.UUID == "":
	case !i.Left.Address.IsValid() || !i.Right.Address.IsValid():
		s.problem("an interface of its port-tuple %s has no address, so no route leads to it; give it an instance-ip", i.Name)
	default:
		s.Instances = append(s.Instances, i)
	}
}

// serviceAddress is the lowest address of an interface, one of its own before
// one that it shares.
func serviceAddress(g *graph, vmi string) netip.Addr {
	var own, shared netip.Addr
	for _, r := range g.BackReferences(vmi, model.KindInstanceIP) {
		ip, ok := get[*model.InstanceIP](g, model.KindInstanceIP, r.From.UUID)
		if !ok || model.ValueOr(ip.InstanceIPSecondary, false) || model.ValueOr(ip.ServiceHealthCheckIP, false) {
			continue
		}
		a, err := netip.ParseAddr(ip.InstanceIPAddress)
		if err != nil {
			continue
		}
		best := &own
		if len(g.References(ip.UUID, model.KindVirtualMachineInterface)) > 1 {
			best = &shared
		}
		if !best.IsValid() || a.Less(*best) {
			*best = a
		}
	}
	if own.IsValid() {
		return own
	}
	return shared
}

// subnetList are the prefixes of a network.
type subnetList []netip.Prefix

var subnets = &unit[subnetList]{name: "subnets", layer: 0, compute: func(g *graph, network string) *subnetList {
	var list subnetList
	for s := range subnetsOf(g, network) {
		if p, ok := ParsePrefix(s.Subnet); ok {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	list = slices.Compact(list)
	return &list
}}

// subnetsOf yields the subnets of a network, its own and those of its IPAMs.
func subnetsOf(g *graph, network string) iter.Seq[*model.IpamSubnetType] {
	return func(yield func(*model.IpamSubnetType) bool) {
		for _, r := range g.References(network, model.KindNetworkIPAM) {
			var all []model.IpamSubnetType
			if attr, err := model.RefAttr[model.VnSubnetsType](r); err == nil {
				all = attr.IPAMSubnets
			}
			if ipam, ok := get[*model.NetworkIPAM](g, model.KindNetworkIPAM, r.To.UUID); ok && ipam.IPAMSubnets != nil {
				all = slices.Concat(all, ipam.IPAMSubnets.Subnets)
			}
			for i := range all {
				if !yield(&all[i]) {
					return
				}
			}
		}
	}
}
