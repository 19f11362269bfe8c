package compile

import (
	"fmt"
	"strconv"

	"github.com/contrail-mesos/contrail/internal/model"
)

// RouterTable is the forwarding table of a logical router with a VXLAN network
// identifier of its own. What comes to a node by that identifier is for any of the
// networks that the router connects; which one it is for is looked up here, and
// from there on it is as if it had come by the identifier of that network.
type RouterTable struct {
	Router Origin
	// Number is that of the forwarding table.
	Number uint32
	VNI    uint32
	// Import are the own targets of the networks, sorted.
	Import []Target
}

// RouterNumber is the number of the forwarding table of a logical router with a
// VXLAN network identifier. It is beyond those of networks and below those of routing
// instances of clients, and no other router has the identifier.
func RouterNumber(vni uint32) uint32 { return 1<<29 | vni }

var routerTables = &unit[RouterTable]{
	name: "router-table", layer: 2, of: model.KindLogicalRouter, compute: func(g *graph, id string) *RouterTable {
		r := routers.get(g, id)
		if r == nil || r.VNI == 0 {
			return nil
		}
		t := &RouterTable{Router: r.From, Number: RouterNumber(r.VNI), VNI: r.VNI}
		for _, network := range r.Networks {
			if own := ownTargetOf(g, network); own != "" {
				t.Import = append(t.Import, own)
			}
		}
		t.Import = sorted(t.Import)
		return t
	},
}

// setRouters finds the logical routers by which those that speak EVPN reach the
// network.
func (i *Instance) setRouters(g *graph) {
	if !i.Layer3 {
		return
	}
	for _, r := range routersOf(g, i.Network) {
		i.Prefixes = i.Prefixes || r.VXLAN
		if r.VNI != 0 {
			i.RouterVNIs = append(i.RouterVNIs, r.VNI)
		}
	}
	i.RouterVNIs = sorted(i.RouterVNIs)
}

// routerProblems are what is wrong with the VXLAN network identifiers by which
// routers reach a network.
func routerProblems(v *model.View, g *graph, i *Instance) []Problem {
	var list []Problem
	for _, r := range routersOf(g, i.Network) {
		if r.VNI == 0 || !i.Layer3 {
			continue
		}
		if r.VNI != i.RouterVNIs[0] {
			list = append(list, Problem{About: r.From, Text: fmt.Sprintf(
				"routers are told the routes of the network with the vxlan_network_identifier %d of another logical router, the lowest; connect it with one logical router", i.RouterVNIs[0])})
		}
		if taken := networkWith(v, g, r.VNI); taken != nil {
			list = append(list, Problem{About: r.From, Names: []Origin{*taken}, Text: fmt.Sprintf(
				"its vxlan_network_identifier %d is also that of virtual-network %s, for which nodes that have both take what comes by it; choose one above the numbers of networks", r.VNI, taken.Name)})
		}
	}
	return list
}

// networkWith is the network that has a VXLAN network identifier, which may be its
// number; nil where none has.
func networkWith(v *model.View, g *graph, vni uint32) *Origin {
	for s := range v.AllStored(model.KindVirtualNetwork) {
		number, _ := s.Property("virtual_network_network_id")
		asked, _ := s.Member("virtual_network_properties", "vxlan_network_identifier")
		if text := strconv.FormatUint(uint64(vni), 10); string(number) != text && string(asked) != text {
			continue // without computing what most networks are compiled to
		}
		if i := instances.get(g, s.UUID); i != nil && i.VXLAN == vni {
			o := networkOrigin(g, s.UUID)
			return &o
		}
	}
	return nil
}
