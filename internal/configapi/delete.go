package configapi

import (
	"strings"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// mayDelete refuses to delete what others need, and deletes the children that
// go with the object: derived ones, and those of the default name.
func (c *change) mayDelete(o model.Object, base string) error {
	e := model.EntityOf(o)
	if e.Kind == model.KindVirtualNetwork && isSystemNetwork(o.GetMeta().FQName) {
		return taken("Can not delete system created default virtual-network %s", e.UUID)
	}
	// What hangs on a network's view hangs on the network.
	at := []string{e.UUID}
	if e.Kind == model.KindVirtualNetwork {
		at = append(at, compile.InstanceUUID(e.UUID))
	}
	var inTheWay []model.Entity
	var along []model.Object
	for _, id := range at {
		for _, child := range c.v.Children(id, "") {
			if c.goesAlong(child) {
				along = append(along, child)
				continue
			}
			inTheWay = append(inTheWay, model.EntityOf(child))
		}
	}
	if len(inTheWay) > 0 {
		return taken("Delete when children still present: %s", quoted(c.hrefs(base, inTheWay)))
	}
	// From here on they are no reason for each other to stay.
	c.deleted[e.UUID] = true
	for _, child := range along {
		c.deleted[child.GetMeta().UUID] = true
	}
	for _, id := range at {
		for _, r := range c.v.BackReferences(id, "") {
			if c.keeps(r) {
				inTheWay = append(inTheWay, r.From)
			}
		}
	}
	if len(inTheWay) > 0 {
		return taken("Delete when resource still referred: %s", quoted(c.hrefs(base, inTheWay)))
	}
	for _, child := range along {
		if err := c.deleteObject(child, base); err != nil {
			return err
		}
	}
	return nil
}

// goesAlong tells whether a child is deleted with its parent.
func (c *change) goesAlong(child model.Object) bool {
	t, _ := model.TypeOf(string(child.Kind()))
	return t.Derived || child.GetMeta().Name() == "default-"+string(child.Kind()) || c.isDefaultGroup(child)
}

// keeps tells whether a reference keeps its target from being deleted.
func (c *change) keeps(r model.Reference) bool {
	if r.Relaxed || c.deleted[r.From.UUID] {
		return false
	}
	t, _ := model.TypeOf(string(r.From.Kind))
	reference, ok := t.Reference(r.To.Kind)
	return !ok || !reference.Derived
}

// removeView removes the references from and to the view of a network that
// goes. Nobody may have put something on it meanwhile.
func (c *change) removeView(network string) {
	view := model.Entity{Kind: model.KindRoutingInstance, UUID: compile.InstanceUUID(network)}
	if _, stored := c.v.Find(view.UUID); stored {
		return
	}
	c.Guard(store.Guard{Condition: store.RangeUnchanged, Key: store.ChildPrefix(view.UUID), Revision: int64(c.since)})
	c.Guard(store.Guard{Condition: store.RangeUnchanged, Key: store.RefPrefix(view), Revision: int64(c.since)})
	for r := range c.v.ReferenceSeq(view.UUID, "") {
		c.dropEdge(r.Edge())
	}
	for r := range c.v.BackReferenceSeq(view.UUID, "") {
		c.dropEdge(r.Edge())
	}
}

func href(base string, e model.Entity) string { return base + "/" + string(e.Kind) + "/" + e.UUID }

// quoted is a list as classic clients parse it.
func quoted(list []string) string {
	if len(list) == 0 {
		return "[]"
	}
	return "['" + strings.Join(list, "', '") + "']"
}
