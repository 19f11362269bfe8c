package compile

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Derived is what one network yields as objects of the configuration.
type Derived struct {
	Instance *model.RoutingInstance
	// Targets that no client has stored under the same name.
	Targets []*model.RouteTarget
	// References of the instance to all its targets, and to the instances with
	// which policies link it.
	References []model.Reference
	// Services are the instances of the services that chains lead it through.
	Services []ServiceView
}

// Views derives objects from one view of the graph. What networks have in
// common is computed once.
type Views struct {
	v *model.View
	g *graph
}

// ViewsOf derives from a view; it is valid as long as that is.
func ViewsOf(v *model.View) *Views { return &Views{v, graphOf(v)} }

// View is what they are derived from.
func (w *Views) View() *model.View { return w.v }

// Of derives the objects of one network; false when it has no instance, and
// when an object is stored under the instance's name, which then stands for it.
func (w *Views) Of(network string) (Derived, bool) {
	v := w.v
	instance := instances.get(w.g, network)
	if instance == nil {
		return Derived{}, false
	}
	vn, _ := model.Get[*model.VirtualNetwork](v, network)
	if _, stored := v.ByName(model.KindRoutingInstance, instanceName(vn.FQName)); stored {
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
		} else if _, overlaid := v.Reference(d.Instance.UUID, target.UUID); overlaid {
			continue // that reference is shown
		}
		d.References = append(d.References, model.Reference{
			From: model.EntityOf(d.Instance),
			To:   model.EntityOf(target),
			Attr: importExport(instance, t),
		})
	}
	for _, l := range instance.Links {
		r := model.Reference{From: model.EntityOf(d.Instance), To: instanceEntity(v, l.Network)}
		if _, overlaid := v.Reference(r.From.UUID, r.To.UUID); !overlaid {
			d.References = append(d.References, r)
		}
	}
	d.Services = w.servicesOf(vn)
	return d, true
}

// instanceEntity is a network's own routing instance: the stored one that
// stands for it, or the derived one.
func instanceEntity(v *model.View, network string) model.Entity {
	e := model.Entity{Kind: model.KindRoutingInstance, UUID: InstanceUUID(network)}
	if s, ok := v.Stored(network); ok {
		name := s.FQString()
		if stored, ok := v.EntityByName(e.Kind, name+":"+name[strings.LastIndexByte(name, ':')+1:]); ok {
			return stored
		}
	}
	return e
}

// instanceName is the fq_name of a network's own routing instance: that of
// the network, its last element repeated.
func instanceName(network []string) []string {
	return append(slices.Clone(network), network[len(network)-1])
}

// instanceMeta is that of a network's instance.
func instanceMeta(vn *model.VirtualNetwork) model.Meta {
	m := viewMeta(&vn.Meta, InstanceUUID(vn.UUID), instanceName(vn.FQName))
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
