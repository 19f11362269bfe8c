package configapi

import (
	"cmp"
	"encoding/json"
	"iter"
	"math/bits"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// find returns the objects that match, in no order, perhaps twice. It looks
// only at those that the narrowest of the given conditions leaves.
func (l *listQuery) find(v *model.View, t *model.Type) []*item {
	parents := l.resolveParents(v, t)
	l.referring = l.seen(v)
	expected := 0
	if l.uuids == nil && l.names == nil && l.referring == nil && l.filters == nil {
		expected = v.Count(t.Kind)
	}
	if parents != nil {
		expected = 0
		for _, p := range parents.list {
			expected += v.CountChildren(p, t.Kind)
		}
	}
	found := make([]item, 0, expected)
	for e := range l.candidates(v, t, parents) {
		if l.selects(v, &e, parents) && l.passes(v, &e) {
			found = append(found, item{entry: e})
		}
	}
	items := make([]*item, len(found))
	for i := range found {
		items[i] = &found[i]
	}
	return items
}

// seen are the targets whose referrers are asked for and whose references the
// caller is shown: a list tells no more about others than the objects do.
func (l *listQuery) seen(v *model.View) *idSet {
	if l.referring == nil || l.may.reads {
		return l.referring
	}
	return newIDSet(slices.DeleteFunc(slices.Clone(l.referring.list), func(id string) bool {
		if s, ok := v.Stored(id); ok {
			return !l.may.seesStored(s)
		}
		d, ok := findDerived(v, "", id)
		return !ok || !l.may.sees(&d, d.object)
	}))
}

// keyed is an item of a list with the beginning of its UUID, which saves going
// to each UUID, somewhere in memory, again and again.
type keyed struct {
	begin uint64
	*item
}

// inOrder sorts items by UUID and leaves each once. UUIDs are spread evenly:
// put into as many baskets as there are items, few are in the same.
func inOrder(items []*item) []*item {
	shift := 64 - bits.Len(uint(len(items)))
	ends := make([]int, 1<<(64-shift)+1) // of baskets, and then their beginnings
	places := make([]keyed, len(items))
	for n, i := range items {
		places[n] = keyed{firstDigits(i.UUID), i}
		ends[places[n].begin>>shift]++
	}
	for n := 1; n < len(ends); n++ {
		ends[n] += ends[n-1]
	}
	ordered := make([]keyed, len(items))
	for _, p := range places {
		end := &ends[p.begin>>shift]
		*end--
		ordered[*end] = p
	}
	for n, begin := range ends[:len(ends)-1] {
		slices.SortFunc(ordered[begin:ends[n+1]], func(a, b keyed) int {
			return cmp.Or(cmp.Compare(a.begin, b.begin), strings.Compare(a.UUID, b.UUID))
		})
	}
	sorted := items[:0]
	for n, p := range ordered {
		if n == 0 || p.begin != ordered[n-1].begin || p.UUID != ordered[n-1].UUID {
			sorted = append(sorted, p.item)
		}
	}
	return sorted
}

// firstDigits are the first eight digits of a UUID, which is in lower case, at
// the upper end of a number.
func firstDigits(uuid string) uint64 {
	var n uint64
	for i := range min(len(uuid), 8) {
		c := uint64(uuid[i])
		n |= (c&15 + c>>6*9) & 15 << (60 - 4*i)
	}
	return n
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
func (l *listQuery) candidates(v *model.View, t *model.Type, parents *idSet) iter.Seq[entry] {
	switch {
	case l.shared && (parents != nil || l.referring != nil):
		return all(v, t.Kind) // what is shared may be anywhere
	case l.uuids != nil:
		return func(yield func(entry) bool) {
			for _, id := range l.uuids.list {
				if e, ok := findEntry(v, t.Kind, id); ok && !yield(e) {
					return
				}
			}
		}
	case l.names != nil:
		return func(yield func(entry) bool) {
			for _, name := range l.names.list {
				if e, ok := findEntryByName(v, t.Kind, name); ok && !yield(e) {
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

func findEntryByName(v *model.View, kind model.Kind, name string) (entry, bool) {
	if e, ok := v.EntityByName(kind, name); ok {
		return findEntry(v, kind, e.UUID)
	}
	d, ok := findByName(v, kind, model.ParseFQ(kind, name))
	if !ok {
		return entry{}, false
	}
	return entryOf(d)
}

// all yields all objects and views of a kind.
func all(v *model.View, kind model.Kind) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for s := range v.AllStored(kind) {
			if !yield(entry{Stored: s}) {
				return
			}
		}
		for _, d := range derive(v, kind) {
			if e, ok := entryOf(d); ok && !yield(e) {
				return
			}
		}
	}
}

// children yields the objects and views of a kind under the parents.
func children(v *model.View, kind model.Kind, parents []string) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		views := compile.ViewsOf(v)
		for _, p := range parents {
			for s := range v.StoredChildren(p, kind) {
				if !yield(entry{Stored: s}) {
					return
				}
			}
			parent, ok := v.Entity(p)
			if !ok { // it may be a view
				if kind != model.KindBGPRouter {
					continue
				}
				parent = model.Entity{Kind: model.KindRoutingInstance, UUID: p}
			}
			for _, d := range childViews(views, parent, kind) {
				if e, ok := entryOf(d); ok && !yield(e) {
					return
				}
			}
		}
	}
}

// referrers yields the objects and views of a kind that refer to the targets.
func referrers(v *model.View, kind model.Kind, targets []string) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		for _, to := range targets {
			for r := range v.BackReferenceSeq(to, kind) {
				if e, ok := findEntry(v, kind, r.From.UUID); ok && !yield(e) {
					return
				}
			}
			if kind != model.KindRoutingInstance {
				continue
			}
			for _, of := range []model.Kind{model.KindRouteTarget, kind} {
				target, ok := findEntry(v, of, to)
				if !ok {
					continue
				}
				for view := range instancesOf(v, &target) {
					if e, ok := findEntry(v, kind, view.GetMeta().UUID); ok && !yield(e) {
						return
					}
				}
			}
		}
	}
}

// selects tells whether an object is where a client looks for it.
func (l *listQuery) selects(v *model.View, e *entry, parents *idSet) bool {
	switch {
	case !l.uuids.allows(e.UUID) || l.names != nil && !l.names.allows(e.FQString()):
		return false
	case l.shared && l.may.isShared(e.perms2()):
		return true
	case !parents.allows(e.Parent.UUID):
		return false
	}
	return l.referring == nil || l.refers(v, e)
}

// refers tells whether an object refers to one of those that are asked for.
func (l *listQuery) refers(v *model.View, e *entry) bool {
	if e.view != nil && slices.ContainsFunc(e.view.refs, func(r model.Reference) bool { return l.referring.allows(r.To.UUID) }) {
		return true
	}
	hidden := l.may.hidden(v, e)
	for r := range v.ReferenceSeq(e.UUID, "") {
		if l.referring.allows(r.To.UUID) && !hidden[l.textsOf(r.To.Kind).fields.refs] {
			return true
		}
	}
	return false
}

// isShared tells whether everybody may see an object, or its owner shares it
// with one of the caller's projects.
func (may *access) isShared(p *model.PermType2) bool {
	if p == nil || may == nil {
		return false
	}
	if model.ValueOr(p.GlobalAccess, 0) > 0 {
		return true
	}
	return slices.ContainsFunc(may.scopes, func(s *scope) bool {
		return !sameID(p.Owner, s.tenant) && s.bits(p)&bitRead != 0
	})
}

// passes tells whether an object has the values that are asked for.
func (l *listQuery) passes(v *model.View, e *entry) bool {
	if l.filters == nil {
		return true
	}
	e = l.writtenOut(v, e)
	hidden := l.may.hidden(v, e)
	for name, wanted := range l.filters {
		value, ok := e.Property(name)
		if name == "name" {
			value = e.NameJSON()
		} else if !ok || hidden[name] {
			value = json.RawMessage("null")
		}
		if !wanted.have(value) {
			return false
		}
	}
	return true
}
