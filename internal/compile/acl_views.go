package compile

import (
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Access lists are shown as objects under the network or security group that
// they follow from, with its rights and dates, named as classic clients know
// them.

// accessListKind is one of the access lists that an object may have.
type accessListKind int

const (
	staticList accessListKind = iota
	timedList
	ingressList
	egressList
)

// accessListNames are the last parts of names; a network's own list has the
// network's.
var accessListNames = map[accessListKind]string{
	timedList: "dynamic", ingressList: "ingress-access-control-list", egressList: "egress-access-control-list",
}

// accessListMasks are flipped in the parent's id to make the list's, as
// instanceMask is.
var accessListMasks = map[accessListKind][16]byte{
	staticList:  {9: 0x4e, 0xb1, 0x07, 0xd8, 0x63, 0x2a, 0x95},
	timedList:   {9: 0x91, 0x3d, 0xe4, 0x58, 0x0c, 0xa7, 0x76},
	ingressList: {9: 0x27, 0xf0, 0x6b, 0xa3, 0x9d, 0x14, 0xce},
	egressList:  {9: 0xda, 0x85, 0x32, 0x71, 0xe6, 0x5f, 0x0b},
}

func accessListUUID(parent string, kind accessListKind) string {
	return flipped(parent, accessListMasks[kind])
}

// kindsOf are the access lists that an object of a kind may have.
func kindsOf(parent model.Kind) []accessListKind {
	switch parent {
	case model.KindVirtualNetwork:
		return []accessListKind{staticList, timedList}
	case model.KindSecurityGroup:
		return []accessListKind{ingressList, egressList}
	}
	return nil
}

// AccessListUUIDs are the ids that the access lists of an object may have,
// whether it has them or not.
func AccessListUUIDs(parent model.Entity) []string {
	var ids []string
	for _, kind := range kindsOf(parent.Kind) {
		ids = append(ids, accessListUUID(parent.UUID, kind))
	}
	return ids
}

// ParentsOfAccessList are the objects one of which has the access list with
// the id. Any id may be asked for; whether they exist is another matter.
func ParentsOfAccessList(id string) []model.Entity {
	var parents []model.Entity
	for _, kind := range []model.Kind{model.KindVirtualNetwork, model.KindSecurityGroup} {
		for _, list := range kindsOf(kind) {
			parents = append(parents, model.Entity{Kind: kind, UUID: accessListUUID(id, list)})
		}
	}
	return parents
}

// problemKey is the annotation that says what is wrong with the rules that an
// access list follows from.
const problemKey = "problems"

// AccessLists are the access lists of a network or security group, without
// their entries: none for a network whose traffic is not asked about.
func AccessLists(v *model.View, parent model.Entity) []*model.AccessControlList {
	switch parent.Kind {
	case model.KindVirtualNetwork:
		return listsOfNetwork(v, parent.UUID)
	case model.KindSecurityGroup:
		o, ok := model.Get[*model.SecurityGroup](v, parent.UUID)
		if !ok {
			return nil
		}
		return []*model.AccessControlList{accessList(o, ingressList), accessList(o, egressList)}
	}
	return nil
}

func listsOfNetwork(v *model.View, network string) []*model.AccessControlList {
	l := readLinks(graphOf(v), network)
	if l == nil {
		return nil
	}
	var lists []*model.AccessControlList
	if l.hasRules() {
		lists = append(lists, accessList(l.vn, staticList))
	}
	if len(l.timed) > 0 {
		lists = append(lists, accessList(l.vn, timedList))
	}
	return lists
}

// NetworkLists writes out the rules of a network for a reader, each entry with
// the policy rule that it comes from; nil where the network has no such list.
func NetworkLists(v *model.View, network string, to Reader) (static, timed *AccessList) {
	g := graphOf(v)
	l := readLinks(g, network)
	if l == nil {
		return nil, nil
	}
	l.readPolicies(g)
	if l.hasRules() {
		list := l.listStatic(to)
		static = &list
	}
	if len(l.timed) > 0 {
		list := l.listTimed(to)
		timed = &list
	}
	return static, timed
}

// GroupLists writes out the rules of a security group for a reader; nil where
// there is none.
func GroupLists(v *model.View, group string, to Reader) (ingress, egress *AccessList) {
	in, out, ok := listGroup(graphOf(v), group, to)
	if !ok {
		return nil, nil
	}
	return &in, &out
}

// WriteOut returns one of AccessLists with the entries that a reader may read.
// Its hash is that of these.
func WriteOut(v *model.View, o *model.AccessControlList, to Reader) *model.AccessControlList {
	if !to(model.Entity{Kind: model.Kind(o.ParentType), UUID: o.ParentUUID}) {
		return unlisted(o, "you may read a part of the "+o.ParentType+" only, so what follows from it is not listed")
	}
	static, timed := NetworkLists(v, o.ParentUUID, to)
	ingress, egress := GroupLists(v, o.ParentUUID, to)
	full := *o
	for kind, list := range map[accessListKind]*AccessList{staticList: static, timedList: timed, ingressList: ingress, egressList: egress} {
		if list == nil || accessListUUID(o.ParentUUID, kind) != o.UUID {
			continue
		}
		full.AccessControlListEntries = list.entriesType(kind == timedList)
		full.AccessControlListHash = new(hashOf(full.AccessControlListEntries))
		full.Annotations = problems(list.Problems...)
	}
	return &full
}

// NotWrittenOut returns one of AccessLists that says that its entries are in
// another answer.
func NotWrittenOut(o *model.AccessControlList) *model.AccessControlList {
	return unlisted(o, "the access lists of this answer are too long together; read this one by itself")
}

func unlisted(o *model.AccessControlList, why string) *model.AccessControlList {
	short := *o
	short.Annotations = problems(why)
	return &short
}

func problems(list ...string) *model.KeyValuePairs {
	if len(list) == 0 {
		return nil
	}
	return &model.KeyValuePairs{KeyValuePair: []model.KeyValuePair{{Key: problemKey, Value: strings.Join(list, "\n")}}}
}

// accessList makes the object that shows a list, without entries.
func accessList(parent model.Object, kind accessListKind) *model.AccessControlList {
	of := parent.GetMeta()
	name := accessListNames[kind]
	if name == "" {
		name = of.Name()
	}
	o := &model.AccessControlList{Meta: viewMeta(of, accessListUUID(of.UUID, kind), append(slices.Clone(of.FQName), name))}
	o.ParentType = string(parent.Kind())
	return o
}
