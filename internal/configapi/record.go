package configapi

import (
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// record is what a change writes of the graph, so that it can be looked at as
// a whole before it is committed.
type record struct {
	objects map[string]model.Object
	// order is that in which the objects were written first.
	order []string
	// created are the UUIDs of new objects.
	created map[string]bool
	// put and dropped are the references that the change writes and removes.
	put     map[model.Edge]model.Reference
	dropped map[model.Edge]bool
	// edges are those that the change writes and removes, in order.
	edges []model.Edge
}

func newRecord() record {
	return record{
		objects: map[string]model.Object{}, created: map[string]bool{},
		put: map[model.Edge]model.Reference{}, dropped: map[model.Edge]bool{},
	}
}

func (r *record) write(o model.Object) {
	id := o.GetMeta().UUID
	if r.objects[id] == nil {
		r.order = append(r.order, id)
	}
	r.objects[id] = o
}

// noteCreate notes a new object, before it is written.
func (c *change) noteCreate(o model.Object) {
	c.nameRules(o, nil)
	c.written.write(o)
	c.written.created[o.GetMeta().UUID] = true
}

// noteUpdate notes an object that replaces one, before it is written.
func (c *change) noteUpdate(o, before model.Object) {
	c.nameRules(o, before)
	c.written.write(o)
}

// noteReference notes a reference that comes or is replaced.
func (c *change) noteReference(r model.Reference) {
	c.written.put[r.Edge()] = r
	delete(c.written.dropped, r.Edge())
	c.written.edges = append(c.written.edges, r.Edge())
}

// forget notes that a reference goes.
func (c *change) forget(e model.Edge) {
	c.written.dropped[e] = true
	c.written.edges = append(c.written.edges, e)
}

// after is an object as it will be after the change.
func (c *change) after(uuid string) (model.Object, bool) {
	if c.deleted[uuid] {
		return nil, false
	}
	if o, ok := c.written.objects[uuid]; ok {
		return o, true
	}
	return c.v.Find(uuid)
}

// parentAfter is the parent of an object as it will be, the zero Entity at the
// top. The object is not decoded.
func (c *change) parentAfter(uuid string) (model.Entity, bool) {
	if c.deleted[uuid] {
		return model.Entity{}, false
	}
	if o, ok := c.written.objects[uuid]; ok {
		m := o.GetMeta()
		return model.Entity{Kind: model.Kind(m.ParentType), UUID: m.ParentUUID}, true
	}
	s, ok := c.v.Stored(uuid)
	return s.Parent, ok
}

// referencesAfter are the references of an object to a kind as they will be.
func (c *change) referencesAfter(uuid string, to model.Kind) []model.Reference {
	var list []model.Reference
	if !c.written.created[uuid] {
		for r := range c.v.ReferenceSeq(uuid, to) {
			if _, replaced := c.written.put[r.Edge()]; !replaced && !c.written.dropped[r.Edge()] {
				list = append(list, r)
			}
		}
	}
	for _, r := range c.written.put {
		if r.From.UUID == uuid && r.To.Kind == to {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b model.Reference) int { return strings.Compare(a.To.UUID, b.To.UUID) })
	return list
}

// backReferencesAfter are the references to an object from a kind as they will be.
func (c *change) backReferencesAfter(to string, from model.Kind) []model.Reference {
	var list []model.Reference
	for r := range c.v.BackReferenceSeq(to, from) {
		if _, replaced := c.written.put[r.Edge()]; !replaced && !c.written.dropped[r.Edge()] {
			list = append(list, r)
		}
	}
	for _, r := range c.written.put {
		if r.To.UUID == to && r.From.Kind == from {
			list = append(list, r)
		}
	}
	return list
}
