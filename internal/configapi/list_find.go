package configapi

import (
	"encoding/json"
	"iter"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// find returns the objects that match, in the order of their UUIDs. It looks
// only at those that the narrowest of the given conditions leaves.
func (l *listQuery) find(v *model.View, t *model.Type) ([]derived, error) {
	parents := l.resolveParents(v, t)
	var found []derived
	seen := map[string]bool{}
	for d := range l.candidates(v, t, parents) {
		id := d.object.GetMeta().UUID
		if seen[id] || !l.selects(v, &d, parents) {
			continue
		}
		seen[id] = true
		ok, err := l.passes(d.object)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b derived) int {
		return strings.Compare(a.object.GetMeta().UUID, b.object.GetMeta().UUID)
	})
	return found, nil
}

// resolveParents returns the ids of the parents that are asked for: nil when
// any will do, and none when they do not exist.
func (l *listQuery) resolveParents(v *model.View, t *model.Type) *idSet {
	if l.parentName == "" {
		return l.parents
	}
	var list []string
	for _, kind := range t.Parents {
		if l.parentType != "" && model.KindOfName(l.parentType) != kind {
			continue
		}
		o, ok := byName(v, kind, model.ParseFQ(kind, l.parentName))
		if ok && l.parents.allows(o.GetMeta().UUID) {
			list = append(list, o.GetMeta().UUID)
		}
	}
	return newIDSet(list)
}

// candidates yields the objects that can match, perhaps twice.
func (l *listQuery) candidates(v *model.View, t *model.Type, parents *idSet) iter.Seq[derived] {
	switch {
	case l.shared && (parents != nil || l.referring != nil):
		return all(v, t.Kind) // what is shared may be anywhere
	case l.uuids != nil:
		return func(yield func(derived) bool) {
			for _, id := range l.uuids.list {
				if d, ok := find(v, t.Kind, id); ok && !yield(d) {
					return
				}
			}
		}
	case l.names != nil:
		return func(yield func(derived) bool) {
			for _, name := range l.names.list {
				if d, ok := findByName(v, t.Kind, model.ParseFQ(t.Kind, name)); ok && !yield(d) {
					return
				}
			}
		}
	case l.referring != nil:
		return referrers(v, t.Kind, l.referring.list)
	case parents != nil:
		return children(v, t.Kind, parents.list)
	default:
		return all(v, t.Kind)
	}
}

// all yields all objects and views of a kind.
func all(v *model.View, kind model.Kind) iter.Seq[derived] {
	return func(yield func(derived) bool) {
		for o := range v.All(kind) {
			if !yield(derived{object: o}) {
				return
			}
		}
		for _, d := range derive(v, kind) {
			if !yield(d) {
				return
			}
		}
	}
}

// children yields the objects and views of a kind under the parents.
func children(v *model.View, kind model.Kind, parents []string) iter.Seq[derived] {
	return func(yield func(derived) bool) {
		for _, p := range parents {
			for o := range v.ChildSeq(p, kind) {
				if !yield(derived{object: o}) {
					return
				}
			}
			if kind != model.KindRoutingInstance {
				continue
			}
			for _, d := range deriveOf(v, p) {
				if d.object.Kind() == kind && !yield(d) {
					return
				}
			}
		}
	}
}

// referrers yields the objects and views of a kind that refer to the targets.
func referrers(v *model.View, kind model.Kind, targets []string) iter.Seq[derived] {
	return func(yield func(derived) bool) {
		for _, to := range targets {
			for r := range v.BackReferenceSeq(to, kind) {
				if d, ok := find(v, kind, r.From.UUID); ok && !yield(d) {
					return
				}
			}
			target, ok := find(v, model.KindRouteTarget, to)
			if !ok || kind != model.KindRoutingInstance {
				continue
			}
			for view := range instancesOf(v, target.object) {
				if d, ok := find(v, kind, view.GetMeta().UUID); ok && !yield(d) {
					return
				}
			}
		}
	}
}

// selects tells whether an object is where a client looks for it.
func (l *listQuery) selects(v *model.View, d *derived, parents *idSet) bool {
	m := d.object.GetMeta()
	switch {
	case !l.uuids.allows(m.UUID) || !l.names.allows(model.FQString(m.FQName)):
		return false
	case l.shared && isShared(m.Perms2):
		return true
	case !parents.allows(m.ParentUUID):
		return false
	}
	return l.referring == nil || slices.ContainsFunc(l.referring.list, func(to string) bool {
		_, ok := v.Reference(m.UUID, to)
		return ok || d.own(to)
	})
}

// isShared tells whether everybody may see an object.
func isShared(p *model.PermType2) bool {
	return p != nil && model.ValueOr(p.GlobalAccess, 0) > 0
}

// passes tells whether an object has the values that are asked for.
func (l *listQuery) passes(o model.Object) (bool, error) {
	if l.filters == nil {
		return true, nil
	}
	encoded, err := model.Encode(o)
	if err != nil {
		return false, err
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(encoded, &values); err != nil {
		return false, err
	}
	for name, wanted := range l.filters {
		value := values[name]
		if name == "name" {
			value, _ = json.Marshal(o.GetMeta().Name()) // strings have a JSON form
		}
		if isAbsent(value) {
			value = json.RawMessage("null")
		}
		if !slices.Contains(wanted, canonical(value)) {
			return false, nil
		}
	}
	return true, nil
}
