package configapi

import (
	"maps"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// A view is not written, but clients may add references to it, which are
// stored and shown over it. Its own references and properties follow from its
// network and stay.

// followsFrom is the refusal to change a view.
func followsFrom(d derived, what string) error {
	e := model.EntityOf(d.object)
	return denied("%s %s follows from its %s and cannot be %s by itself", e.Kind, e.UUID, d.owner.Kind, what)
}

// own tells whether a view has a reference by itself.
func (d *derived) own(target string) bool {
	return slices.ContainsFunc(d.refs, func(r model.Reference) bool { return r.To.UUID == target })
}

// overlay makes the references of a view those that a client sent: those of
// its own must be among them, the others are stored.
func (c *change) overlay(t *model.Type, d derived, g *given) error {
	e := model.EntityOf(d.object)
	// Before an answer tells whether it is as the client says.
	if err := c.may.mayTouch(d.object); err != nil {
		return err
	}
	changes, err := changed(t, d.object, g.properties)
	if err != nil {
		return err
	}
	if len(changes) > 0 {
		return denied("%s %s follows from its %s: %s cannot be changed; change that", e.Kind, e.UUID, d.owner.Kind, slices.Sorted(maps.Keys(changes))[0])
	}
	for _, kind := range slices.Sorted(maps.Keys(g.references)) {
		wanted, err := c.targets(e, kind, g.references[kind], "http_put")
		if err != nil {
			return err
		}
		for _, r := range d.refs {
			i := slices.IndexFunc(wanted, func(w model.Reference) bool { return w.To == r.To })
			switch {
			case r.To.Kind != kind:
			case i < 0 || !sameJSON(wanted[i].Attr, r.Attr):
				return denied("%s %s follows from its %s: its reference to %s cannot be changed; change that", e.Kind, e.UUID, d.owner.Kind, r.To)
			default:
				wanted = slices.Delete(wanted, i, i+1)
			}
		}
		if err := c.setReferences(e, kind, wanted); err != nil {
			return err
		}
	}
	return nil
}

// storeTarget stores the view of a route target under the view's own id.
func (c *change) storeTarget(view model.Object) error {
	m := view.GetMeta()
	stored := &model.RouteTarget{}
	var err error
	if stored.Meta, err = c.meta(m.UUID, nil, m.FQName...); err != nil {
		return err
	}
	if !c.Touches(store.ObjectKey(model.EntityOf(stored))) {
		c.makeByItself(stored)
	}
	return nil
}
