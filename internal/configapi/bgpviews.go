package configapi

import (
	"slices"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// Routers of BGP services are views: see compile.BGPServiceView.

// serviceRouters are the views of routers for which f says yes.
func serviceRouters(v *model.View, f func(*compile.BGPServiceView) bool) []derived {
	var list []derived
	for _, w := range compile.BGPServiceViewsOf(v, f) {
		d := derived{object: w.Router, refs: w.Refs, owner: w.Network}
		if w.Service.UUID != "" {
			d.owner, d.from = w.Service, []model.Entity{w.Network}
		}
		list = append(list, d)
	}
	return list
}

func anyRouter(*compile.BGPServiceView) bool { return true }

// findServiceRouter finds the view of a router by its UUID.
func findServiceRouter(v *model.View, id string) (derived, bool) {
	if !compile.IsBGPServiceView(id) {
		return derived{}, false
	}
	return firstOfViews(serviceRouters(v, func(w *compile.BGPServiceView) bool { return w.Router.UUID == id }))
}

// serviceRouterByName finds the view of a router by its name.
func serviceRouterByName(v *model.View, name []string) (derived, bool) {
	return firstOfViews(serviceRouters(v, func(w *compile.BGPServiceView) bool { return slices.Equal(w.Router.FQName, name) }))
}

func firstOfViews(list []derived) (derived, bool) {
	if len(list) == 0 {
		return derived{}, false
	}
	return list[0], true
}

// collectServiceRouters adds the routers that follow from a bgp-as-a-service.
func (i *item) collectServiceRouters(v *model.View, s *selection) {
	field := s.textsOf(model.KindBGPRouter).fields.refs
	if i.Kind != model.KindBGPAsAService || !i.wants(s, field) {
		return
	}
	for _, d := range serviceRouters(v, func(w *compile.BGPServiceView) bool { return w.Service == i.Entity }) {
		if s.may.mayReadDerived(v, d) {
			i.addView(field, d.object, nil, true)
		}
	}
}

// collectServiceOfRouter adds the bgp-as-a-service that a router follows from, and
// to that of the control nodes those of the tasks.
func (i *item) collectServiceOfRouter(v *model.View, s *selection) {
	if i.Kind != model.KindBGPRouter || i.view == nil || !compile.IsBGPServiceView(i.UUID) {
		return
	}
	if i.view.owner.Kind == model.KindBGPAsAService {
		i.addReference(v, s, s.textsOf(model.KindBGPAsAService).fields.backRefs, i.view.owner, nil)
	}
	field := s.textsOf(model.KindBGPRouter).fields.backRefs
	if !i.wants(s, field) {
		return
	}
	for _, d := range serviceRouters(v, func(w *compile.BGPServiceView) bool { return w.Service.UUID != "" && w.Refs[0].To.UUID == i.UUID }) {
		if s.may.mayReadDerived(v, d) {
			i.addView(field, d.object, d.refs[0].Attr, true)
		}
	}
}
