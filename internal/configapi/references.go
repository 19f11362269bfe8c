package configapi

import (
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// makeByItself creates an object that follows from what the caller makes:
// his rights are not asked for.
func (c *change) makeByItself(o model.Object) {
	e := model.EntityOf(o)
	c.made[e.UUID] = o
	c.touched = append(c.touched, touched{verb: "create", entity: e, after: o})
	c.Txn.CreateObject(o)
}

// redate gives an object whose references have changed its new date: readers
// that ask for what is newer shall see it. It also makes two changes of one
// object's references one after the other.
func (c *change) redate(d derived) error {
	e := model.EntityOf(d.object)
	if d.isView() || c.Touches(store.ObjectKey(e)) {
		return nil
	}
	t, _ := model.TypeOf(string(e.Kind))
	o, err := copyOf(t, d.object)
	if err != nil {
		return err
	}
	touch(o.GetMeta(), &perms{}, model.Timestamp(c.now))
	c.Txn.UpdateObject(o, c.since) // who may change the references may change the date
	return nil
}

// holdReference makes sure that a reference that need not be written is still
// as it was seen.
func (c *change) holdReference(e model.Edge) {
	k := store.RefKey(e)
	c.Guard(store.Guard{Condition: store.Present, Key: k})
	c.Guard(store.Guard{Condition: store.NotSince, Key: k, Revision: int64(c.since)})
	c.verify = true
}

// lackReference makes sure that a reference that need not be deleted is still
// not there, and that the object that lacks it is.
func (c *change) lackReference(e model.Edge) error {
	c.Guard(store.Guard{Condition: store.Absent, Key: store.RefKey(e)})
	c.verify = true
	return c.need(e.From)
}

// holdID makes sure that no object of another type has the id that a client
// chose: the store knows objects by type and id, and other controllers may
// have been faster than our graph.
func (c *change) holdID(kind model.Kind, id string) {
	for _, t := range model.Types() {
		if t.Kind != kind {
			c.Guard(store.Guard{Condition: store.Absent, Key: store.ObjectKey(model.Entity{Kind: t.Kind, UUID: id})})
		}
	}
}
