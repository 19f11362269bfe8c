package configapi

import (
	"slices"
	"sync/atomic"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// Access lists are views of what the rules of networks and security groups come
// to. They may be long, so they are written out only when they are read.

// maxEntries bounds the entries of access lists in one answer.
const maxEntries = 1 << 17

func newEntries() *atomic.Int64 {
	n := &atomic.Int64{}
	n.Store(maxEntries)
	return n
}

// fieldsOfEntries are the fields for which an access list is written out.
var fieldsOfEntries = []string{"access_control_list_entries", "access_control_list_hash", "annotations"}

// writeOut gives the view of an access list its entries, if they are asked for.
func (i *item) writeOut(v *model.View, s *selection) {
	asked := slices.ContainsFunc(fieldsOfEntries, func(f string) bool { return i.wants(s, f) })
	if i.Kind != model.KindAccessControlList || i.view == nil || !asked {
		return
	}
	full := compile.NotWrittenOut(i.list())
	if s.entries.Load() > 0 {
		long := compile.WriteOut(v, i.list(), s.may.readsAllOf(v))
		if s.entries.Add(-lengthOf(long)) >= 0 {
			full = long
		}
	}
	if stored, err := model.StoredOf(full); err == nil {
		i.Stored = stored
	}
}

func lengthOf(o *model.AccessControlList) int64 {
	if o.AccessControlListEntries == nil {
		return 0
	}
	return int64(len(o.AccessControlListEntries.ACLRule))
}

// list is the view of an access list.
func (e *entry) list() *model.AccessControlList { return e.view.object.(*model.AccessControlList) }

// writtenOut is an entry as filters look at it.
func (l *listQuery) writtenOut(v *model.View, e *entry) *entry {
	asked := slices.ContainsFunc(fieldsOfEntries, func(f string) bool { return l.filters[f] != nil })
	if e.Kind != model.KindAccessControlList || e.view == nil || !asked {
		return e
	}
	stored, err := model.StoredOf(compile.WriteOut(v, e.list(), l.may.readsAllOf(v)))
	if err != nil {
		return e
	}
	return &entry{stored, e.view}
}

// findAccessList finds the view of an access list by its name.
func findAccessList(v *model.View, name []string) (derived, bool) {
	for _, kind := range withAccessLists {
		parent, ok := v.EntityByName(kind, model.FQString(name[:len(name)-1]))
		if !ok {
			continue
		}
		for _, d := range accessListViews(v, parent) {
			if slices.Equal(d.object.GetMeta().FQName, name) {
				return d, true
			}
		}
	}
	return derived{}, false
}

// withAccessLists are the kinds of objects that access lists follow from.
var withAccessLists = []model.Kind{model.KindVirtualNetwork, model.KindSecurityGroup}

// accessListViews are the views of an object's access lists, without entries.
func accessListViews(v *model.View, parent model.Entity) []derived {
	if e, ok := v.Entity(parent.UUID); !ok || e != parent {
		return nil
	}
	var list []derived
	for _, o := range compile.AccessLists(v, parent) {
		list = append(list, derived{object: o, owner: parent})
	}
	return list
}

func deriveAccessLists(v *model.View) []derived {
	var list []derived
	for _, kind := range withAccessLists {
		for s := range v.AllStored(kind) {
			list = append(list, accessListViews(v, s.Entity)...)
		}
	}
	return list
}

// changedAccessLists adds the access lists that a change may have made others.
// Some of them may be as they were.
func (s *watchStream) changedAccessLists(dirty map[model.Entity]struct{}, c model.Changes) {
	if s.types[model.KindAccessControlList] == "" {
		return
	}
	add := func(parent model.Entity) {
		for _, id := range compile.AccessListUUIDs(parent) {
			dirty[model.Entity{Kind: model.KindAccessControlList, UUID: id}] = struct{}{}
		}
	}
	s.api.graph.View(func(v *model.View) {
		s.policies.follow(v, c)
		groups, chains := false, false
		attached := func(policy string) {
			for r := range v.BackReferenceSeq(policy, model.KindVirtualNetwork) {
				add(r.From)
			}
		}
		for e := range c.Objects {
			switch e.Kind {
			case model.KindVirtualNetwork:
				add(e)
			case model.KindNetworkPolicy:
				attached(e.UUID)
			case model.KindSecurityGroup:
				groups = true
				add(e)
			}
			chains = chains || connects[e.Kind] || e.Kind == model.KindVirtualNetwork
		}
		for e := range c.References {
			chains = chains || connects[e.From.Kind] || connects[e.To.Kind]
			if e.From.Kind != model.KindVirtualNetwork {
				continue
			}
			add(e.From)
			if named, ok := v.Object(model.KindNetworkPolicy, e.To.UUID); ok {
				for policy := range s.policies.naming[model.FQString(named.GetMeta().FQName)] {
					attached(policy)
				}
			}
		}
		if chains { // what leads through services passes at both ends, or at none
			for policy := range s.policies.chained {
				attached(policy)
			}
		}
		if groups { // others may name one of them
			for group := range v.AllStored(model.KindSecurityGroup) {
				add(group.Entity)
			}
		}
	})
}
