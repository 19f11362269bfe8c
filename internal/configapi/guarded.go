package configapi

import (
	"github.com/contrail-mesos/contrail/internal/model"
)

// What a change writes goes through here, whichever handler wrote it: the
// caller's rights are asked for, and what was touched is kept for the audit
// log. A handler cannot forget to ask. The first refusal ends the write, see
// write; what follows from a write that is allowed, such as relaxed references
// to a deleted object, is not asked for again.

// refuseIf keeps the first refusal.
func (c *change) refuseIf(err error) {
	if c.refused == nil {
		c.refused = err
	}
}

// CreateObject creates an object, if the caller may.
func (c *change) CreateObject(o model.Object) {
	e := model.EntityOf(o)
	if !c.may.all {
		c.refuseIf(c.mayBeMade(o))
	}
	c.noteCreate(o)
	c.made[e.UUID] = o
	c.touched = append(c.touched, touched{verb: "create", entity: e, after: o})
	c.Txn.CreateObject(o)
}

// mayBeMade refuses a new object whose parent the caller may not write, or that
// would belong to somebody else.
func (c *change) mayBeMade(o model.Object) error {
	m := o.GetMeta()
	parent := c.parentOf(m)
	if err := c.may.mayCreate(o.Kind(), parent); err != nil {
		return err
	}
	if parent == nil && len(c.may.scopes) > 1 && !c.may.is(m.Perms2.Owner) {
		return invalid("Bad property in create: perms2.owner: %s has roles in several projects; say to which of them the %s belongs", c.may.caller, o.Kind())
	}
	if m.Perms2 == nil || parent != nil && parent.GetMeta().Perms2 != nil && parent.GetMeta().Perms2.Owner == m.Perms2.Owner {
		return nil
	}
	if !c.may.is(m.Perms2.Owner) && m.Perms2.Owner != model.NewPerms2("").Owner {
		return denied("Permission denied: perms2.owner %s is none of the projects of %s", brief(m.Perms2.Owner), c.may.caller)
	}
	return nil
}

// parentOf finds the parent of an object, nil at the top.
func (c *change) parentOf(m *model.Meta) model.Object {
	if m.ParentUUID == "" {
		return nil
	}
	if o, ok := c.made[m.ParentUUID]; ok {
		return o
	}
	if d, ok := find(c.v, model.Kind(m.ParentType), m.ParentUUID); ok {
		return d.object
	}
	return nil
}

// is tells whether a tenant is one of the caller's projects.
func (may *access) is(owner string) bool {
	for _, s := range may.scopes {
		if sameID(s.tenant, owner) {
			return true
		}
	}
	return false
}

// UpdateObject replaces an object, if the caller may change what differs.
func (c *change) UpdateObject(o model.Object, since uint64) {
	e := model.EntityOf(o)
	old, _ := c.v.Find(e.UUID)
	switch {
	case c.may.all:
	case old == nil:
		c.refuseIf(notFound(e.Kind, e.UUID))
	default:
		c.refuseIf(c.mayBeChanged(old, o))
	}
	c.noteUpdate(o, old)
	c.touched = append(c.touched, touched{verb: "update", entity: e, before: old, after: o})
	c.Txn.UpdateObject(o, since)
}

func (c *change) mayBeChanged(old, o model.Object) error {
	fields := differences(old, o)
	if err := c.may.mayWrite(old, opUpdate, fields...); err != nil {
		return err
	}
	before, after := old.GetMeta().Perms2, o.GetMeta().Perms2
	if before == nil || after == nil || before == after || samePerms(before, after) {
		return nil
	}
	if !c.may.is(before.Owner) {
		return denied("Permission denied: perms2 of %s is changed by its owner only", model.EntityOf(old))
	}
	return nil
}

// DeleteObject deletes an object, if the caller may write it or its parent.
func (c *change) DeleteObject(o model.Object, since uint64) {
	if !c.may.all {
		c.refuseIf(c.mayGo(o))
	}
	c.touched = append(c.touched, touched{verb: "delete", entity: model.EntityOf(o), before: o})
	c.Txn.DeleteObject(o, since)
}

// mayGo refuses to delete what the caller may not.
func (c *change) mayGo(o model.Object) error {
	m := o.GetMeta()
	if c.may.all || c.deleted[m.ParentUUID] {
		return nil
	}
	err := c.may.mayWrite(o, opDelete)
	if err == nil {
		return nil
	}
	if parent := c.parentOf(m); parent != nil && parent.GetMeta().Perms2 != nil &&
		c.may.allowed(parent.GetMeta().Perms2, bitWrite, opDelete, o.Kind(), "") {
		return nil
	}
	return err
}

// PutReference writes a reference, if the caller may write the one end and
// refer to the other.
func (c *change) PutReference(r model.Reference) {
	if r.From.Kind == model.KindAccessControlList || r.To.Kind == model.KindAccessControlList {
		c.refuseIf(denied("access-control-list %s follows from its network or security group and has no references; change those", r.From.UUID))
	}
	if !c.may.all {
		c.refuseIf(c.mayLink(r))
	}
	c.noteReference(r)
	c.touched = append(c.touched, touched{verb: "refer", entity: r.From, to: r.To})
	c.Txn.PutReference(r)
}

func (c *change) mayLink(r model.Reference) error {
	field := r.To.Kind.Name() + "_refs"
	if o, ok := c.made[r.From.UUID]; ok {
		if err := c.may.mayCreate(r.From.Kind, c.parentOf(o.GetMeta()), field); err != nil {
			return err
		}
	} else if err := c.mayUnlink(r.Edge()); err != nil {
		return err
	}
	// A view that is stored because of this reference was there before.
	if _, existed := find(c.v, r.To.Kind, r.To.UUID); !existed && c.made[r.To.UUID] != nil {
		return nil
	}
	if err := c.may.mayRefer(c.v, r.To); err != nil {
		return err
	}
	return c.mayTakeTarget(r)
}

// mayUnlink refuses to take a reference from an object that the caller may not write.
func (c *change) mayUnlink(e model.Edge) error {
	if c.may.all || c.deleted[e.From.UUID] || c.deleted[e.To.UUID] {
		return nil
	}
	d, ok := find(c.v, e.From.Kind, e.From.UUID)
	if !ok {
		return notFound(e.From.Kind, e.From.UUID)
	}
	return c.may.mayWrite(d.object, opUpdate, e.To.Kind.Name()+"_refs")
}

// object finds a stored object that the caller is about to write; what he may
// do nothing with does not exist for him.
func (c *change) object(kind model.Kind, id string) (model.Object, bool) {
	o, ok := c.v.Object(kind, id)
	if !ok || !c.may.mayName(c.v, derived{object: o}) {
		return nil, false
	}
	return o, true
}

// target finds what a reference points to, as far as the caller may know it.
func (c *change) target(kind model.Kind, id string, name []string) (model.Entity, bool) {
	e, ok := resolveTarget(c.v, kind, id, name)
	if ok && !c.may.reads {
		d, found := find(c.v, e.Kind, e.UUID)
		ok = found && c.may.mayName(c.v, d)
	}
	return e, ok
}

// mayNameParent tells whether the caller may know a parent that he names.
func (c *change) mayNameParent(o model.Object) bool {
	return c.may.reads || isVisible(o) && c.may.bits(o.GetMeta().Perms2) != 0
}

// isHidden tells whether a reference points to something that the caller is not
// shown. A list that he sends leaves such references as they are: he cannot
// mean to remove what he does not see.
func (c *change) isHidden(r model.Reference) bool {
	if c.may.reads {
		return false
	}
	if o, ok := c.v.Stored(r.To.UUID); ok {
		return !c.may.seesStored(o)
	}
	d, ok := findDerived(c.v, r.To.Kind, r.To.UUID)
	return ok && !c.may.sees(nil, d.object)
}

// hrefs are those of the objects that the caller may know.
func (c *change) hrefs(base string, list []model.Entity) []string {
	var out []string
	for _, e := range list {
		if d, ok := find(c.v, e.Kind, e.UUID); c.may.reads || ok && c.may.mayName(c.v, d) {
			out = append(out, href(base, e))
		}
	}
	return out
}

// newPerms2 are the rights on a new object: a project belongs to itself, a
// child to whom its parent belongs, and what is at the top or in a domain to
// the caller's project. Who creates in what others share with him reaches what
// he made.
func (c *change) newPerms2(m *model.Meta, kind model.Kind) *model.PermType2 {
	if kind == model.KindProject {
		return model.NewPerms2(tenant(m.UUID))
	}
	parent := c.parentOf(m)
	if parent == nil || parent.Kind() == model.KindDomain {
		return model.NewPerms2(c.may.owner())
	}
	above := parent.GetMeta().Perms2
	if above == nil {
		return model.NewPerms2("")
	}
	p := model.NewPerms2(above.Owner)
	if c.may.all || c.may.is(above.Owner) {
		return p
	}
	for _, s := range c.may.scopes {
		if s.bits(above)&bitWrite != 0 {
			p.Share = append(p.Share, model.ShareType{Tenant: "tenant:" + s.project.UUID, TenantAccess: 7})
		}
	}
	return p
}

// bequeath makes an address at the top belong to whom its interface belongs,
// unless somebody said to whom.
func (c *change) bequeath(o model.Object, refs []model.Reference, asked *perms) {
	if o.Kind() != model.KindInstanceIP || asked.perms2 != nil && asked.perms2.Owner != "" {
		return
	}
	for _, r := range refs {
		if vmi, ok := c.v.Object(model.KindVirtualMachineInterface, r.To.UUID); ok && vmi.GetMeta().Perms2 != nil {
			p := *o.GetMeta().Perms2
			p.Owner = vmi.GetMeta().Perms2.Owner
			o.GetMeta().Perms2 = &p
			return
		}
	}
}
