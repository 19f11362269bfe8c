// Package compile derives from the configuration what forwarding needs and no
// user writes: for each virtual network a routing instance (a VRF) and its
// route targets.
//
//	View of the graph --VRFOf, VRFs--> control: number, import, export
//	                  \--Derive, Views--> configuration API: objects and references
//
// Everything here is a pure function of the graph. All numbers were allocated
// in the transaction that created the user's object, and ids follow from the
// network's, so that every process that needs a derived object computes the
// same one for itself, and none is stored.
//
// A VRF depends on its virtual-network object and on the autonomous system of
// the global-system-config, on nothing else: whoever keeps results has to
// compute again only when one of these changes.
package compile

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

const (
	// DefaultASN is the autonomous system where the configuration names none.
	DefaultASN = 64512
	// lastShortASN is the highest autonomous system that leaves 32 bits of a
	// route target for the number; higher ones leave 16 (RFC 5668).
	lastShortASN = 1<<16 - 1
)

// FirstTarget is added to a network's number in its own route target; lower
// ones are left to users.
func FirstTarget(asn int64) int64 {
	if asn > lastShortASN {
		return 8_000
	}
	return 8_000_000
}

// LastNumber is the highest number of a network whose own route target can be
// encoded.
func LastNumber(asn int64) int64 {
	if asn > lastShortASN {
		return 1<<16 - 1 - FirstTarget(asn)
	}
	return 1<<32 - 1 - FirstTarget(asn)
}

// Target is a route target in the form target:ASN:NUMBER.
type Target string

// VRF is the forwarding table of a network, and what it shares with others: a
// route of a VRF is in every VRF that imports a target which it exports.
type VRF struct {
	// Number is the network's number, unique in the cluster and never 0.
	Number uint32
	// Network is the UUID of the virtual-network.
	Network string
	// Name is the network's fq_name, joined with colons.
	Name string
	// Import and Export are sorted, without duplicates.
	Import, Export []Target
}

// VRFOf is the VRF of a network; false when there is no such network, or it
// has no number.
func VRFOf(v *model.View, network string) (VRF, bool) {
	vn, ok := model.Get[*model.VirtualNetwork](v, network)
	if !ok {
		return VRF{}, false
	}
	return vrfOf(ASN(v), vn)
}

// VRFs are those of all networks, in no particular order.
func VRFs(v *model.View) iter.Seq[VRF] {
	return func(yield func(VRF) bool) {
		asn := ASN(v)
		for o := range v.All(model.KindVirtualNetwork) {
			if vrf, ok := vrfOf(asn, o.(*model.VirtualNetwork)); ok && !yield(vrf) {
				return
			}
		}
	}
}

// ASN is the cluster's autonomous system.
func ASN(v *model.View) int64 {
	o, ok := v.ByName(model.KindGlobalSystemConfig, []string{"default-global-system-config"})
	if !ok {
		return DefaultASN
	}
	if n := model.ValueOr(o.(*model.GlobalSystemConfig).AutonomousSystem, 0); n > 0 {
		return n
	}
	return DefaultASN
}

func vrfOf(asn int64, vn *model.VirtualNetwork) (VRF, bool) {
	number := model.ValueOr(vn.VirtualNetworkNetworkID, 0)
	if number <= 0 || number > 1<<32-1 {
		return VRF{}, false
	}
	both := append([]Target{ownTarget(asn, number)}, listed(vn.RouteTargetList)...)
	return VRF{
		Number:  uint32(number),
		Network: vn.UUID,
		Name:    model.FQString(vn.FQName),
		Import:  sorted(append(listed(vn.ImportRouteTargetList), both...)),
		Export:  sorted(append(listed(vn.ExportRouteTargetList), both...)),
	}, true
}

func ownTarget(asn, number int64) Target {
	return Target(fmt.Sprintf("target:%d:%d", asn, FirstTarget(asn)+number))
}

func listed(list *model.RouteTargetList) []Target {
	if list == nil {
		return nil
	}
	var targets []Target
	for _, t := range list.RouteTarget {
		targets = append(targets, Target(t).Canonical())
	}
	return targets
}

func sorted(targets []Target) []Target {
	slices.Sort(targets)
	return slices.Compact(targets)
}

// Derived is what one network yields as objects of the configuration.
type Derived struct {
	Instance *model.RoutingInstance
	// Targets that no client has stored under the same name.
	Targets []*model.RouteTarget
	// References of the instance to all its targets.
	References []model.Reference
}

// Views derives the objects of all networks, sorted by the networks' UUIDs.
// Networks that name the same target have an equal object for it.
func Views(v *model.View) []Derived {
	networks := slices.SortedFunc(v.All(model.KindVirtualNetwork), func(a, b model.Object) int {
		return cmp.Compare(a.GetMeta().UUID, b.GetMeta().UUID)
	})
	var all []Derived
	for _, o := range networks {
		if d, ok := Derive(v, o.GetMeta().UUID); ok {
			all = append(all, d)
		}
	}
	return all
}

// Derive derives the objects of one network; false as for VRFOf, and when an
// object is stored under the instance's name, which then stands for it.
func Derive(v *model.View, network string) (Derived, bool) {
	vrf, ok := VRFOf(v, network)
	if !ok {
		return Derived{}, false
	}
	vn, _ := model.Get[*model.VirtualNetwork](v, network)
	if _, stored := v.ByName(model.KindRoutingInstance, InstanceName(vn.FQName)); stored {
		return Derived{}, false
	}
	d := Derived{Instance: &model.RoutingInstance{
		Meta:                     instanceMeta(vn),
		RoutingInstanceIsDefault: new(true),
	}}
	for _, t := range sorted(slices.Concat(vrf.Import, vrf.Export)) {
		target, stored := storedTarget(v, t)
		if !stored {
			d.Targets = append(d.Targets, target)
		}
		d.References = append(d.References, model.Reference{
			From: model.EntityOf(d.Instance),
			To:   model.EntityOf(target),
			Attr: importExport(vrf, t),
		})
	}
	return d, true
}

// InstanceName is the fq_name of a network's own routing instance: that of
// the network, its last element repeated.
func InstanceName(network []string) []string {
	return append(slices.Clone(network), network[len(network)-1])
}

// Holders yields the networks whose instances have a target, in no particular
// order.
func Holders(v *model.View, t Target) iter.Seq[*model.VirtualNetwork] {
	return func(yield func(*model.VirtualNetwork) bool) {
		asn := ASN(v)
		t := t.Canonical()
		for o := range v.All(model.KindVirtualNetwork) {
			vn := o.(*model.VirtualNetwork)
			number := model.ValueOr(vn.VirtualNetworkNetworkID, 0)
			has := t == ownTarget(asn, number) || lists(vn.RouteTargetList, t) ||
				lists(vn.ImportRouteTargetList, t) || lists(vn.ExportRouteTargetList, t)
			if number > 0 && has && !yield(vn) {
				return
			}
		}
	}
}

func lists(list *model.RouteTargetList, t Target) bool {
	return slices.Contains(listed(list), t)
}

// instanceMeta takes rights and dates from the network.
func instanceMeta(vn *model.VirtualNetwork) model.Meta {
	name := InstanceName(vn.FQName)
	m := model.Meta{
		UUID:        InstanceUUID(vn.UUID),
		FQName:      name,
		ParentType:  string(model.KindVirtualNetwork),
		ParentUUID:  vn.UUID,
		DisplayName: name[len(name)-1],
		Perms2:      vn.Perms2,
	}
	if vn.IDPerms != nil {
		perms := *vn.IDPerms
		if numbers, err := model.UUIDNumbers(m.UUID); err == nil {
			perms.UUID = &numbers
		}
		m.IDPerms = &perms
	}
	return m
}

// storedTarget is the stored object of this name, or the derived one.
func storedTarget(v *model.View, t Target) (target *model.RouteTarget, stored bool) {
	name := []string{string(t)}
	if o, ok := v.ByName(model.KindRouteTarget, name); ok {
		return o.(*model.RouteTarget), true
	}
	return &model.RouteTarget{Meta: model.Meta{
		UUID: TargetUUID(t), FQName: name, DisplayName: string(t),
	}}, false
}

// importExport is the attribute of a reference to a target: without direction
// the target is for both.
func importExport(vrf VRF, t Target) json.RawMessage {
	_, imported := slices.BinarySearch(vrf.Import, t)
	_, exported := slices.BinarySearch(vrf.Export, t)
	switch {
	case imported && exported:
		return json.RawMessage(`{}`)
	case imported:
		return json.RawMessage(`{"import_export":"import"}`)
	default:
		return json.RawMessage(`{"import_export":"export"}`)
	}
}
