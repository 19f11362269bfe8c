package configapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

const (
	// attempts bounds how often a write is decided anew.
	attempts = 40
	// writeWait bounds a write with all its attempts.
	writeWait = 20 * time.Second
)

// errNeedLeases makes write decide again, with leases at hand.
var errNeedLeases = errors.New("leases needed")

// leases are those of things that rest and of tombstones.
type leases struct {
	rest, tomb store.Lease
}

// change is one write being decided: a view to decide on, and the transaction
// that comes out of it.
type change struct {
	*store.Txn
	api *API
	v   *model.View
	// since is the revision of the view: guards refer to it.
	since   uint64
	now     time.Time
	leases  *leases
	deleted map[string]bool
	// may is what the caller may do; refused is the first thing he may not.
	may     *access
	refused error
	// made are the objects that the change creates, touched is what it does,
	// for the audit log.
	made    map[string]model.Object
	touched []touched
	// node is the one that the change was made for, if it is one's business.
	node string
	// written is what the change writes, for the rules.
	written record
	release []func()
	early   int
	// verify has the guards checked although nothing is written: another
	// controller may have been faster than our graph.
	verify bool
	// settles: the change is part of what a restored store waits for.
	settles bool
}

// audit says what a write is, for the log.
type audit struct {
	operation string
	object    string
}

// write decides and commits one transaction, deciding anew for as long as
// others get in between, and answers when the local graph shows the result.
// decide must not keep anything of the view. A decision without any key
// changes nothing and succeeds.
func (a *API) write(ctx context.Context, what audit, decide func(c *change) error) (model.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, a.writeWait)
	defer cancel()
	var granted *leases
	asked := false
	var c *change
	defer func() { c.letGo() }() // also when a decision panics
	for attempt := range attempts {
		c = &change{Txn: a.store.Txn(), api: a, now: time.Now(), leases: granted, deleted: map[string]bool{}, made: map[string]model.Object{}, written: newRecord()}
		var err error
		started := time.Now()
		a.graph.View(func(v *model.View) {
			c.v, c.since = v, v.Position().Revision
			c.may = a.accessOf(ctx, v)
			if err = decide(c); c.refused != nil {
				err = c.refused
			} else if err == nil {
				if err = c.mayChange(); err == nil {
					err = c.check(what.operation)
				}
			}
			c.v = nil
		})
		callOf(ctx).spend(deciding, started)
		position := model.Position{Epoch: c.Epoch(), Revision: c.since}
		var retry bool
		switch {
		case errors.Is(err, errNeedLeases):
			granted, err = a.grant(ctx)
			retry, err = err == nil, storeError(err)
		case errors.Is(err, errBehind):
			err = a.graph.WaitFor(ctx, c.since+1)
			retry = err == nil
		case err == nil && (!c.Empty() || c.verify) && !isDryRun(ctx):
			position, retry, err = a.commit(ctx, c, attempt)
			if retry {
				granted = nil // one of them may be the reason
			}
		case !asked:
			// Nothing is to be written, which may be for want of what others wrote.
			asked = true
			retry, err = a.refreshed(ctx, c.since, err)
		}
		c.letGo()
		if !retry {
			if err == nil && !c.Empty() && !isDryRun(ctx) {
				a.recordWrite(ctx, what, c, position)
			}
			return position, a.withOwner(ctx, err)
		}
	}
	return model.Position{}, fmt.Errorf("%s %s: %w", what.operation, what.object, errBusy)
}

// letGo ends the holding of what was chosen from memory.
func (c *change) letGo() {
	if c == nil {
		return
	}
	for _, f := range c.release {
		f()
	}
	c.release = nil
}

func (a *API) grant(ctx context.Context) (*leases, error) {
	var l leases
	var err error
	if l.rest, err = a.store.Lease(ctx, max(a.cfg.Rest, time.Second)); err != nil {
		return nil, err
	}
	l.tomb, err = a.store.Lease(ctx, max(a.cfg.Tombstone, time.Second))
	return &l, err
}

// giveBack takes a key out of use and lets it rest. owner is kept with the rest.
func (c *change) giveBack(k store.Key, owner string) error {
	c.Delete(k)
	if c.api.cfg.Rest <= 0 {
		return nil
	}
	if c.leases == nil {
		return errNeedLeases
	}
	c.PutLeased(store.RestKey(k), []byte(owner), c.leases.rest)
	return nil
}

// take takes a key that the ledger chose, which must not be at rest; early
// says that it is, and that nothing else was free.
func (c *change) take(k store.Key, owner string, early bool) {
	c.Create(k, []byte(owner))
	rested := store.RestKey(k)
	if !early {
		c.Guard(store.Guard{Condition: store.Absent, Key: rested})
		return
	}
	// What went to rest after our view has not rested longest.
	c.Guard(store.Guard{Condition: store.NotSince, Key: rested, Revision: int64(c.since)})
	c.Delete(rested)
	c.early++
}

// meta is that of a new object below its parent (nil for the top).
func (c *change) meta(uuid string, parent model.Object, fqName ...string) (model.Meta, error) {
	perms, err := model.NewIDPerms(uuid, c.now)
	if err != nil {
		return model.Meta{}, err
	}
	m := model.Meta{UUID: uuid, FQName: fqName, IDPerms: perms, DisplayName: fqName[len(fqName)-1], Perms2: model.NewPerms2("")}
	if parent != nil {
		m.ParentType = string(parent.Kind())
		m.ParentUUID = parent.GetMeta().UUID
		if p := parent.GetMeta().Perms2; p != nil {
			m.Perms2 = model.NewPerms2(p.Owner)
		}
	}
	return m, nil
}

// below is the fq name of a child.
func below(parent model.Object, name string) []string {
	fq := parent.GetMeta().FQName
	return append(fq[:len(fq):len(fq)], name)
}

// own marks an object as one that goes with its last attachment.
func (c *change) own(o model.Object) {
	c.Put(store.OwnedKey(o.GetMeta().UUID), []byte(o.Kind()))
}

// disown keeps an object that a client uses for himself.
func (c *change) disown(uuid string) {
	if k := store.OwnedKey(uuid); c.api.ledger.isOwned(uuid) && !c.Touches(k) {
		c.Delete(k)
	}
}

// refer puts a reference between objects of which at least one is new.
func (c *change) refer(from, to model.Object, attr any) error {
	r := model.Reference{From: model.EntityOf(from), To: model.EntityOf(to)}
	if attr != nil {
		data, err := json.Marshal(attr)
		if err != nil {
			return fmt.Errorf("encode attribute of reference %s -> %s: %w", r.From, r.To, err)
		}
		r.Attr = data
	}
	c.PutReference(r)
	return nil
}

// remove deletes an object with all references from it and to it. Whether it
// may go is the caller's decision; what it was based on is guarded.
func (c *change) remove(o model.Object) {
	e := model.EntityOf(o)
	c.deleted[e.UUID] = true
	c.DeleteObject(o, c.since)
	for r := range c.v.ReferenceSeq(e.UUID, "") {
		if vmi, ok := o.(*model.VirtualMachineInterface); ok && r.To.Kind == model.KindVirtualNetwork {
			c.returnMACs(vmi, r.To.UUID)
		}
		c.dropEdge(r.Edge())
	}
	for r := range c.v.BackReferenceSeq(e.UUID, "") {
		c.dropEdge(r.Edge())
	}
	if e.Kind == model.KindVirtualNetwork {
		c.removeView(e.UUID)
	}
	c.dropPositions(e.UUID)
	if k := store.OwnedKey(e.UUID); c.api.ledger.isOwned(e.UUID) && !c.Touches(k) {
		c.Delete(k)
	}
}

func (c *change) dropEdge(e model.Edge) {
	c.forget(e)
	if k := store.RefKey(e); !c.Touches(k) {
		c.refuseIf(c.mayUnlink(e))
		c.touched = append(c.touched, touched{verb: "unrefer", entity: e.From, to: e.To})
		c.Delete(k)
		c.refuseIf(c.returnNumberOf(e))
	}
}
