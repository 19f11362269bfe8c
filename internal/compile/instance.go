package compile

import (
	"cmp"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Instance is the routing instance of a network: its forwarding table, and
// what it shares with others. A route of an instance is in every instance that
// imports a target which it exports.
type Instance struct {
	// Number is the network's number, unique in the cluster and never 0.
	Number uint32
	// Network is the UUID of the virtual-network.
	Network string
	// Name is the network's fq_name, joined with colons.
	Name string
	// Import and Export are sorted, without duplicates.
	Import, Export []Target
	// VXLAN is the network identifier in VXLAN headers.
	VXLAN uint32
	// Layer2 instances bridge, so that MACs have routes; Layer3 ones route.
	Layer2, Layer3 bool
}

var instances = &unit[Instance]{name: "instance", layer: 1, of: model.KindVirtualNetwork, compute: instanceOf}

// InstanceOf is the instance of a network; nil when there is no such network,
// or it has no number.
func InstanceOf(v *model.View, network string) *Instance { return instances.get(graphOf(v), network) }

func instanceOf(g *graph, network string) *Instance {
	vn, ok := get[*model.VirtualNetwork](g, model.KindVirtualNetwork, network)
	if !ok {
		return nil
	}
	number := model.ValueOr(vn.VirtualNetworkNetworkID, 0)
	if number <= 0 || number > 1<<32-1 {
		return nil
	}
	system := systemUnit.get(g, "")
	own := ownTarget(system.asn, number)
	both := append([]Target{own}, listed(vn.RouteTargetList)...)
	i := &Instance{
		Number:  uint32(number),
		Network: vn.UUID,
		Name:    model.FQString(vn.FQName),
		Import:  sorted(append(listed(vn.ImportRouteTargetList), both...)),
		Export:  sorted(append(listed(vn.ExportRouteTargetList), both...)),
		VXLAN:   uint32(number),
	}
	mode := system.mode
	if p := vn.VirtualNetworkProperties; p != nil {
		mode = cmp.Or(p.ForwardingMode, mode)
		if n := model.ValueOr(p.VXLANNetworkIdentifier, 0); system.ownVXLAN && n > 0 && n < 1<<24 {
			i.VXLAN = uint32(n)
		}
	}
	i.Layer2, i.Layer3 = mode != "l3", mode != "l2"
	return i
}
