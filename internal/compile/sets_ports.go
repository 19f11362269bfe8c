package compile

import (
	"maps"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Port is what an interface is to policy: who it is in the rules of others, and
// the sets that its own traffic is asked about. Sets are shared with all ports
// for which the same rules follow.
type Port struct {
	// Network is the number of its network.
	Network uint32
	// Groups and Tags are those that it has, tags with those that it inherits
	// of its machine, network and project. Both are sorted.
	Groups []uint32
	Tags   []uint32
	// Static are the rules of its network's policies, which both directions
	// are asked about; nil when nothing is asked. Timed only says what else is
	// done.
	Static, Timed *Set
	// Ingress and Egress are what its security groups allow to arrive and to
	// leave; nil without groups.
	Ingress, Egress *Set
	// Firewall is asked about both directions; nil when nothing is asked.
	Firewall *Set
}

var portUnit = &unit[Port]{
	name: "port", layer: 6, of: model.KindVirtualMachineInterface, compute: portOf, same: (*Port).Equal,
}

// Equal tells whether both are the same to policy; nil is equal to nil alone.
func (p *Port) Equal(o *Port) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.Network == o.Network && slices.Equal(p.Groups, o.Groups) && slices.Equal(p.Tags, o.Tags) &&
		sameSet(p.Static, o.Static) && sameSet(p.Timed, o.Timed) && sameSet(p.Ingress, o.Ingress) &&
		sameSet(p.Egress, o.Egress) && sameSet(p.Firewall, o.Firewall)
}

// PortOf is what an interface is to policy; nil when it does not exist or is in
// no network.
func PortOf(v *model.View, vmi string) *Port { return portUnit.get(graphOf(v), vmi) }

func portOf(g *graph, uuid string) *Port {
	vmi, ok := get[*model.VirtualMachineInterface](g, model.KindVirtualMachineInterface, uuid)
	if !ok {
		return nil
	}
	refs := g.References(uuid, model.KindVirtualNetwork)
	if len(refs) == 0 {
		return nil
	}
	network := portNetworkUnit.get(g, refs[0].To.UUID)
	if network == nil {
		return nil
	}
	project := network.project
	if vmi.ParentType == string(model.KindProject) {
		project = vmi.ParentUUID
	}
	tags := tagsOfPort(g, uuid, network, project)
	p := &Port{Network: network.number, Tags: tags.numbers()}
	var groups []string
	for _, r := range g.References(uuid, model.KindSecurityGroup) {
		groups = append(groups, r.To.UUID)
	}
	var pair *groupPair
	if len(groups) > 0 {
		pair = groupPairUnit.get(g, joinList(groups))
		p.Groups = pair.numbers
	}
	if model.ValueOr(vmi.VirtualMachineInterfaceDisablePolicy, false) {
		return p
	}
	p.Static, p.Timed = network.static, network.timed
	p.Firewall = firewallUnit.get(g, joinList(append([]string{project}, tags.applications()...))).set
	if pair != nil && network.portSecurity && model.ValueOr(vmi.PortSecurityEnabled, true) {
		p.Ingress, p.Egress = pair.ingress, pair.egress
	}
	return p
}

// tagsOfPort are a port's own tags and those that it inherits.
func tagsOfPort(g *graph, vmi string, network *portNetwork, project string) tagSet {
	levels := []tagSet{tagsOf(g, vmi)}
	for _, r := range g.References(vmi, model.KindVirtualMachine) {
		levels = append(levels, tagsOf(g, r.To.UUID))
	}
	levels = append(levels, network.tags)
	if tags := tagUnit.get(g, project); tags != nil {
		levels = append(levels, *tags)
	}
	return inherit(levels...)
}

// portNetwork is what all ports of a network have of it.
type portNetwork struct {
	number       uint32
	project      string
	portSecurity bool
	tags         tagSet
	static       *Set
	timed        *Set
}

// portNetworkUnit is nil where there is no such network.
var portNetworkUnit = &unit[portNetwork]{
	name: "port-network", layer: 5, compute: func(g *graph, uuid string) *portNetwork {
		vn, ok := get[*model.VirtualNetwork](g, model.KindVirtualNetwork, uuid)
		sets := networkSetUnit.get(g, uuid)
		if !ok || sets == nil {
			return nil
		}
		return &portNetwork{
			number: networkNumber(vn), project: vn.ParentUUID, portSecurity: model.ValueOr(vn.PortSecurityEnabled, true),
			tags: tagsOf(g, uuid), static: sets.Static, timed: sets.Timed,
		}
	},
	same: func(a, b *portNetwork) bool {
		return a.number == b.number && a.project == b.project && a.portSecurity == b.portSecurity && maps.Equal(a.tags, b.tags) &&
			sameSet(a.static, b.static) && sameSet(a.timed, b.timed)
	},
}

// Evaluate asks all sets of a port about a packet that arrives at it, or
// leaves it. What passes must pass them all; the rule of the verdict is that
// which refuses, or else that of the last set. Nothing to ask passes.
func (p *Port) Evaluate(packet Packet, arrives bool) Verdict {
	group := p.Egress
	if arrives {
		group = p.Ingress
	}
	verdict := Verdict{Pass: true}
	for _, set := range []*Set{p.Static, p.Firewall, group} {
		if set == nil {
			continue
		}
		if verdict = set.Evaluate(p.Network, packet); !verdict.Pass {
			return verdict
		}
	}
	return verdict
}
