package configapi

import (
	"encoding/json"
	"iter"
	"slices"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// derived is an object with the references that it has by itself. One that
// follows from a network or a security group is not stored: it is a view, to
// read and, except an access list, to refer to.
type derived struct {
	object model.Object
	refs   []model.Reference
	// owner is what a view follows from; zero for a stored object.
	owner model.Entity
	// from are other objects that a view tells of: it is for who may read all.
	from []model.Entity
	// near are the views that follow from the same network, by UUID.
	near map[string]model.Object
}

// isView tells a view from a stored object.
func (d *derived) isView() bool { return d.owner != model.Entity{} }

// find finds a stored object or a view; an empty kind means any.
func find(v *model.View, kind model.Kind, id string) (derived, bool) {
	if o, ok := v.Find(id); ok {
		return derived{object: o}, kind == "" || o.Kind() == kind
	}
	return findDerived(v, kind, id)
}

// findDerived finds a view by its UUID, which tells where to look.
func findDerived(v *model.View, kind model.Kind, id string) (derived, bool) {
	if kind == "" || kind == model.KindRoutingInstance {
		views := compile.ViewsOf(v)
		for _, d := range deriveOf(views, views.NetworkOf(id)) {
			if d.object.GetMeta().UUID == id {
				return d, true
			}
		}
	}
	if kind == "" || kind == model.KindRouteTarget {
		if t, ok := compile.TargetOfUUID(id); ok {
			return findTarget(v, t)
		}
	}
	if kind == "" || kind == model.KindBGPRouter {
		if d, ok := findServiceRouter(v, id); ok {
			return d, true
		}
	}
	if kind == "" || kind == model.KindAccessControlList {
		for _, parent := range compile.ParentsOfAccessList(id) {
			for _, d := range accessListViews(v, parent) {
				if d.object.GetMeta().UUID == id {
					return d, true
				}
			}
		}
	}
	return derived{}, false
}

// findTarget finds the view of a route target.
func findTarget(v *model.View, t compile.Target) (derived, bool) {
	name := []string{string(t.Canonical())}
	views := compile.ViewsOf(v)
	for _, network := range compile.Holders(v, t) {
		for _, d := range deriveOf(views, network) {
			if d.object.Kind() == model.KindRouteTarget && slices.Equal(d.object.GetMeta().FQName, name) {
				return d, true
			}
		}
	}
	return derived{}, false
}

// byName finds a stored object or a view by its name.
func byName(v *model.View, kind model.Kind, name []string) (model.Object, bool) {
	d, ok := findByName(v, kind, name)
	return d.object, ok
}

func findByName(v *model.View, kind model.Kind, name []string) (derived, bool) {
	if o, ok := v.ByName(kind, name); ok {
		return derived{object: o}, true
	}
	switch {
	case kind == model.KindRouteTarget && len(name) == 1:
		return findTarget(v, compile.Target(name[0]))
	case kind == model.KindRoutingInstance && len(name) > 1:
		vn, ok := v.ByName(model.KindVirtualNetwork, name[:len(name)-1])
		if !ok {
			return derived{}, false
		}
		for _, d := range deriveOf(compile.ViewsOf(v), vn.GetMeta().UUID) {
			if d.object.Kind() == kind && slices.Equal(d.object.GetMeta().FQName, name) {
				return d, true
			}
		}
	case kind == model.KindAccessControlList && len(name) > 1:
		return findAccessList(v, name)
	case kind == model.KindBGPRouter:
		return serviceRouterByName(v, name)
	}
	return derived{}, false
}

// hasViews tells whether objects of a kind may follow from others.
func hasViews(kind model.Kind) bool {
	switch kind {
	case model.KindRoutingInstance, model.KindRouteTarget, model.KindAccessControlList, model.KindBGPRouter:
		return true
	}
	return false
}

// derive returns all views of a kind.
func derive(v *model.View, kind model.Kind) []derived {
	switch {
	case kind == model.KindAccessControlList:
		return deriveAccessLists(v)
	case kind == model.KindBGPRouter:
		return serviceRouters(v, anyRouter)
	case !hasViews(kind):
		return nil
	}
	var list []derived
	seen := map[string]bool{}
	views := compile.ViewsOf(v)
	for o := range v.All(model.KindVirtualNetwork) {
		for _, d := range deriveOf(views, o.GetMeta().UUID) {
			if id := d.object.GetMeta().UUID; d.object.Kind() == kind && !seen[id] {
				seen[id] = true
				list = append(list, d)
			}
		}
	}
	return list
}

// childViews are the views of a kind that are children of an object.
func childViews(views *compile.Views, parent model.Entity, kind model.Kind) []derived {
	switch {
	case kind == model.KindAccessControlList:
		return accessListViews(views.View(), parent)
	case kind == model.KindBGPRouter && parent.Kind == model.KindRoutingInstance:
		return serviceRouters(views.View(), func(w *compile.BGPServiceView) bool { return w.Router.ParentUUID == parent.UUID })
	case kind == model.KindRoutingInstance && parent.Kind == model.KindVirtualNetwork:
		return slices.DeleteFunc(deriveOf(views, parent.UUID), func(d derived) bool { return d.object.Kind() != kind })
	}
	return nil
}

// kindsOfChildViews are the kinds of views that can be children.
var kindsOfChildViews = []model.Kind{model.KindAccessControlList, model.KindBGPRouter, model.KindRoutingInstance}

// deriveOf returns the views that follow from one network, its own instance
// first.
func deriveOf(views *compile.Views, network string) []derived {
	d, ok := views.Of(network)
	if !ok {
		return nil
	}
	near := make(map[string]model.Object, 1+len(d.Targets))
	list := make([]derived, 0, 1+len(d.Targets))
	add := func(o model.Object) {
		near[o.GetMeta().UUID] = o
		list = append(list, derived{object: o, owner: model.Entity{Kind: model.KindVirtualNetwork, UUID: network}, near: near})
	}
	add(d.Instance)
	for _, t := range d.Targets {
		add(t)
	}
	list[0].refs = d.References
	for _, s := range d.Services {
		add(s.Instance)
		list[len(list)-1].refs, list[len(list)-1].from = s.References, s.From
	}
	return list
}

// need demands that an object exists. A view exists as long as its network,
// except a route target, which many networks may have and which can be taken
// from their lists at any time: one that is referred to is stored. Those of
// services come and go with policies, and nobody may refer to them.
func (c *change) need(e model.Entity) error {
	if _, ok := c.v.Object(e.Kind, e.UUID); ok {
		c.Need(e)
		return nil
	}
	d, ok := findDerived(c.v, e.Kind, e.UUID)
	switch {
	case !ok:
		return missing("No %s object found for id %s", e.Kind, e.UUID)
	case e.Kind == model.KindRouteTarget:
		return c.storeTarget(d.object)
	case e.Kind == model.KindBGPRouter:
		return denied("bgp-router %s follows from a bgp-as-a-service, and has no references of others", e.UUID)
	case compile.IsServiceView(e.UUID):
		return denied("routing-instance %s is there as long as policies lead through its service, and has no references of others; refer to that of its network", e.UUID)
	}
	c.Need(d.owner)
	c.disown(d.owner.UUID)
	return nil
}

// instancesOf yields the views that refer to a route target or to a routing
// instance by themselves, with the attribute of their reference to it.
func instancesOf(v *model.View, target *entry) iter.Seq2[model.Object, json.RawMessage] {
	return func(yield func(model.Object, json.RawMessage) bool) {
		views := compile.ViewsOf(v)
		for _, network := range networksWith(v, target) {
			for _, d := range deriveOf(views, network) {
				for _, r := range d.refs {
					if r.To.UUID == target.UUID && !yield(d.object, r.Attr) {
						return
					}
				}
			}
		}
	}
}

// networksWith are the networks whose instances may refer to a target.
func networksWith(v *model.View, target *entry) []string {
	switch target.Kind {
	case model.KindRouteTarget:
		return compile.Holders(v, compile.Target(target.FQString()))
	case model.KindRoutingInstance: // links are in both that they link
		return compile.Linked(v, target.Parent.UUID)
	}
	return nil
}
