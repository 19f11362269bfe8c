package compile

import (
	"encoding/json"
	"iter"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Derived is what one network yields as objects of the configuration.
type Derived struct {
	Instance *model.RoutingInstance
	// Targets that no client has stored under the same name.
	Targets []*model.RouteTarget
	// References of the instance to all its targets.
	References []model.Reference
}

// Derive derives the objects of one network; false when it has no instance, and
// when an object is stored under the instance's name, which then stands for it.
func Derive(v *model.View, network string) (Derived, bool) {
	instance := InstanceOf(v, network)
	if instance == nil {
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
	for _, t := range sorted(slices.Concat(instance.Import, instance.Export)) {
		target, stored := storedTarget(v, t)
		if !stored {
			d.Targets = append(d.Targets, target)
		}
		d.References = append(d.References, model.Reference{
			From: model.EntityOf(d.Instance),
			To:   model.EntityOf(target),
			Attr: importExport(instance, t),
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

// instanceMeta is that of a network's instance.
func instanceMeta(vn *model.VirtualNetwork) model.Meta {
	m := viewMeta(&vn.Meta, InstanceUUID(vn.UUID), InstanceName(vn.FQName))
	m.ParentType = string(model.KindVirtualNetwork)
	return m
}

// viewMeta is that of an object that follows from its parent, of which it has
// rights and dates.
func viewMeta(parent *model.Meta, id string, name []string) model.Meta {
	m := model.Meta{
		UUID: id, FQName: name, ParentUUID: parent.UUID, DisplayName: name[len(name)-1], Perms2: parent.Perms2,
	}
	if parent.IDPerms != nil {
		perms := *parent.IDPerms
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
func importExport(i *Instance, t Target) json.RawMessage {
	_, imported := slices.BinarySearch(i.Import, t)
	_, exported := slices.BinarySearch(i.Export, t)
	switch {
	case imported && exported:
		return json.RawMessage(`{}`)
	case imported:
		return json.RawMessage(`{"import_export":"import"}`)
	default:
		return json.RawMessage(`{"import_export":"export"}`)
	}
}
