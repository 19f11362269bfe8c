package configapi

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
	"github.com/contrail-mesos/contrail/internal/validate"
)

// check looks at a change as a whole before it is committed: every object that
// it writes, or whose references it changes, is held against the rules of the
// model, and every project that gets objects against its quota. It makes no
// difference by which request the change comes.
func (c *change) check(operation string) error {
	for _, id := range c.written.order {
		if o, ok := c.after(id); ok {
			if err := c.checkObject(o, where(operation)); err != nil {
				return err
			}
			if err := c.checkPolicyTargets(o); err != nil {
				return err
			}
		}
	}
	for _, e := range c.written.edges {
		if c.deleted[e.To.UUID] || c.written.objects[e.From.UUID] != nil || !validate.ByReference(e.From.Kind, e.To.Kind) {
			continue
		}
		o, ok := c.after(e.From.UUID)
		if !ok {
			continue
		}
		if err := c.checkObject(o, where(operation)); err != nil {
			return err
		}
		// Two that each add a reference do not see each other's: they take turns.
		c.takeTurns(o)
	}
	if err := c.checkAttributes(where(operation)); err != nil {
		return err
	}
	if err := c.checkIdentities(where(operation)); err != nil {
		return err
	}
	return c.checkQuotas()
}

// takeTurns writes an object as it is, so that of two changes that do so at
// the same time the second is decided anew.
func (c *change) takeTurns(o model.Object) {
	if !c.Touches(store.ObjectKey(model.EntityOf(o))) {
		c.Txn.UpdateObject(o, c.since)
	}
}

// checkAttributes looks at the attributes of the references that the change writes.
func (c *change) checkAttributes(where string) error {
	for e, r := range c.written.put {
		found := validate.Attribute(r)
		if len(found) == 0 {
			continue
		}
		var old []*model.PropertyError
		if before, ok := c.v.Reference(e.From.UUID, e.To.UUID); ok {
			old = validate.Attribute(before)
		}
		if err := firstNew(found, old); err != nil {
			return invalid("Bad reference in %s: %v", where, err)
		}
	}
	return nil
}

// firstNew is the first violation that was not there before: what an older
// version let in does not keep the rest from being changed.
func firstNew(found, old []*model.PropertyError) error {
	for _, e := range found {
		if !slices.ContainsFunc(old, func(o *model.PropertyError) bool { return *o == *e }) {
			return e
		}
	}
	return nil
}

// where is what the classic texts call an operation.
func where(operation string) string {
	switch name, _, _ := strings.Cut(operation, " "); name {
	case "update":
		return "http_put"
	case "ref-update": // with what it does
		return name
	default:
		return operation
	}
}

// checkObject refuses what the change makes wrong with an object.
func (c *change) checkObject(o model.Object, where string) error {
	id := o.GetMeta().UUID
	before := func() model.Object {
		if c.written.created[id] {
			return nil
		}
		old, _ := c.v.Find(id)
		return old
	}
	found := validate.Check(&validate.Subject{Object: o, Before: before, Neighbours: neighbours{c}})
	if len(found) == 0 {
		return nil
	}
	var violated []*model.PropertyError
	if old := before(); old != nil {
		violated = validate.Check(&validate.Subject{Object: old, Before: before, Neighbours: present{c}})
	}
	if err := firstNew(found, violated); err != nil {
		return invalid("Bad property in %s: %v", where, err)
	}
	return nil
}

// neighbours are the other objects as they will be. What a rule has looked at
// becomes a condition of the change.
type neighbours struct{ c *change }

func (n neighbours) keep(e model.Entity) {
	if !n.c.Touches(store.ObjectKey(e)) {
		n.c.Guard(store.Guard{Condition: store.NotSince, Key: store.ObjectKey(e), Revision: int64(n.c.since)})
	}
}

// Find implements validate.Neighbours.
func (n neighbours) Find(kind model.Kind, uuid string) (model.Object, bool) {
	o, ok := n.c.after(uuid)
	if !ok || o.Kind() != kind {
		return nil, false
	}
	n.keep(model.EntityOf(o))
	return o, true
}

// ByName implements validate.Neighbours.
func (n neighbours) ByName(kind model.Kind, fq []string) (model.Object, bool) {
	for _, o := range n.c.written.objects {
		if o.Kind() == kind && slices.Equal(o.GetMeta().FQName, fq) {
			return n.Find(kind, o.GetMeta().UUID)
		}
	}
	e, ok := n.c.v.EntityByName(kind, model.FQString(fq))
	if !ok {
		return nil, false
	}
	n.c.Guard(store.Guard{Condition: store.Present, Key: store.NameKey(kind, fq)})
	return n.Find(kind, e.UUID)
}

// Children implements validate.Neighbours.
func (n neighbours) Children(parent string, kind model.Kind) []model.Object {
	n.c.Guard(store.Guard{Condition: store.RangeUnchanged, Key: store.ChildPrefix(parent), Revision: int64(n.c.since)})
	var list []model.Object
	for _, child := range n.c.v.Children(parent, kind) {
		if o, ok := n.Find(kind, child.GetMeta().UUID); ok {
			list = append(list, o)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(n.c.written.created)) {
		if o := n.c.written.objects[id]; o.Kind() == kind && o.GetMeta().ParentUUID == parent {
			list = append(list, o)
		}
	}
	return list
}

// References implements validate.Neighbours. The references that are there
// must stay; one that comes meanwhile is checked from its own side.
func (n neighbours) References(from model.Entity, to model.Kind) []model.Reference {
	list := n.c.referencesAfter(from.UUID, to)
	if n.c.written.objects[from.UUID] != nil {
		return list // whoever changes them now meets our guard on the object
	}
	for _, r := range list {
		if k := store.RefKey(r.Edge()); !n.c.Touches(k) {
			n.c.Guard(store.Guard{Condition: store.Present, Key: k})
		}
	}
	return list
}

// BackReferences implements validate.Neighbours.
func (n neighbours) BackReferences(to model.Entity, from model.Kind) []model.Reference {
	n.c.Guard(store.Guard{Condition: store.RangeUnchanged, Key: store.RefPrefixFrom(to, from), Revision: int64(n.c.since)})
	return n.c.backReferencesAfter(to.UUID, from)
}

// present are the other objects as they are.
type present struct{ c *change }

// Find implements validate.Neighbours.
func (p present) Find(kind model.Kind, uuid string) (model.Object, bool) {
	return p.c.v.Object(kind, uuid)
}

// ByName implements validate.Neighbours.
func (p present) ByName(kind model.Kind, fq []string) (model.Object, bool) {
	return p.c.v.ByName(kind, fq)
}

// Children implements validate.Neighbours.
func (p present) Children(parent string, kind model.Kind) []model.Object {
	return p.c.v.Children(parent, kind)
}

// References implements validate.Neighbours.
func (p present) References(from model.Entity, to model.Kind) []model.Reference {
	return p.c.v.References(from.UUID, to)
}

// BackReferences implements validate.Neighbours.
func (p present) BackReferences(to model.Entity, from model.Kind) []model.Reference {
	return p.c.v.BackReferences(to.UUID, from)
}

// nameRules gives the rules of a policy or security group that have no UUID
// one: that of an equal rule before, so that sending a policy again changes
// nothing. o's own entries may be shared with the graph and stay as they are.
func (c *change) nameRules(o, before model.Object) {
	entries := entriesOf(o)
	if entries == nil || *entries == nil {
		return
	}
	rules := slices.Clone((*entries).PolicyRule)
	var known []model.PolicyRuleType
	if old := entriesOf(before); old != nil && *old != nil {
		known = slices.Clone((*old).PolicyRule)
	}
	for i := range rules {
		if rules[i].RuleUUID != "" {
			continue
		}
		rules[i].RuleUUID = model.NewUUID()
		for j := range known {
			if id := known[j].RuleUUID; id != "" && sameRule(rules[i], known[j]) &&
				!slices.ContainsFunc(rules, func(r model.PolicyRuleType) bool { return r.RuleUUID == id }) {
				rules[i].RuleUUID = id
				break
			}
		}
	}
	copied := **entries
	copied.PolicyRule = rules
	*entries = &copied
}

// entriesOf is where an object has its rules, nil if it has none.
func entriesOf(o model.Object) **model.PolicyEntriesType {
	switch o := o.(type) {
	case *model.NetworkPolicy:
		return &o.NetworkPolicyEntries
	case *model.SecurityGroup:
		return &o.SecurityGroupEntries
	}
	return nil
}

// sameRule compares all but the UUIDs.
func sameRule(a, b model.PolicyRuleType) bool {
	a.RuleUUID, b.RuleUUID = "", ""
	return reflect.DeepEqual(a, b)
}
