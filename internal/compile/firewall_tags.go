package compile

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Numbers of types of tags that the system knows.
const (
	labelType       = 0
	applicationType = 1
)

// TagID is a tag's number: its type in the upper half, its value in the lower.
func TagID(t *model.Tag) (uint32, bool) {
	n, err := strconv.ParseUint(t.TagID, 0, 32)
	return uint32(n), err == nil
}

// tagSet are the UUIDs of tags by their number.
type tagSet map[uint32]string

// tagUnit are the tags that an object itself has; nil when it has none.
var tagUnit = &unit[tagSet]{name: "tags", layer: 0, compute: func(g *graph, uuid string) *tagSet {
	if tags := tagsOf(g, uuid); len(tags) > 0 {
		return &tags
	}
	return nil
}}

// tagsOf are the tags that an object itself has.
func tagsOf(g *graph, uuid string) tagSet {
	var tags tagSet
	for _, r := range g.References(uuid, model.KindTag) {
		t, ok := get[*model.Tag](g, model.KindTag, r.To.UUID)
		if !ok {
			continue
		}
		if id, ok := TagID(t); ok {
			if tags == nil {
				tags = tagSet{}
			}
			tags[id] = t.UUID
		}
	}
	return tags
}

// inherit are the tags of an object with those of the objects that it is in,
// the most specific first. Of a type the most specific object that has it
// wins, with the lowest number; labels come together.
func inherit(levels ...tagSet) tagSet {
	var all tagSet
	for _, tags := range levels {
		if len(tags) > 0 && all == nil {
			all = tagSet{}
		}
		for _, id := range tags.numbers() {
			if id>>16 == labelType || !all.has(uint16(id>>16)) {
				all[id] = tags[id]
			}
		}
	}
	return all
}

// CountTags is how many tags an interface has of those of its own and of the
// objects that it is in, the most specific first.
func CountTags(levels ...[]*model.Tag) int {
	sets := make([]tagSet, len(levels))
	for i, tags := range levels {
		sets[i] = tagSet{}
		for _, t := range tags {
			if id, ok := TagID(t); ok {
				sets[i][id] = t.UUID
			}
		}
	}
	return len(inherit(sets...))
}

// has tells whether there is a tag of a type.
func (t tagSet) has(typ uint16) bool {
	for id := range t {
		if uint16(id>>16) == typ {
			return true
		}
	}
	return false
}

// numbers of the tags, sorted; nil when there are none.
func (t tagSet) numbers() []uint32 {
	return distinct(slices.Collect(maps.Keys(t)), cmp.Compare)
}

// applications are the UUIDs of the application tags, by number.
func (t tagSet) applications() []string {
	var list []string
	for _, id := range t.numbers() {
		if id>>16 == applicationType {
			list = append(list, t[id])
		}
	}
	return list
}

// applications are the policy sets that apply to ports of a project with some
// application tags, each once: those of the cluster, of the project, and of the
// applications. Tags of the cluster are for all, so a set of one project is not
// for the ports of others that have its tag, unless their project refers to it.
func applications(g *graph, project string, tags []string) []string {
	var list []string
	add := func(sets []string) {
		for _, uuid := range sets {
			if !slices.Contains(list, uuid) {
				list = append(list, uuid)
			}
		}
	}
	if o, ok := byName[*model.GlobalVrouterConfig](g, model.KindGlobalVrouterConfig, globalVrouterConfig); ok {
		add(byScope(g, froms(g.BackReferences(o.UUID, model.KindApplicationPolicySet))))
	}
	scope := ""
	if p, ok := get[*model.Project](g, model.KindProject, project); ok {
		scope = model.FQString(p.FQName)
		var sets []string
		for _, r := range g.References(project, model.KindApplicationPolicySet) {
			sets = append(sets, r.To.UUID)
		}
		add(byScope(g, sets))
	}
	for _, tag := range tags {
		tagged := froms(g.BackReferences(tag, model.KindApplicationPolicySet))
		add(byScope(g, slices.DeleteFunc(tagged, func(uuid string) bool {
			o, ok := get[*model.ApplicationPolicySet](g, model.KindApplicationPolicySet, uuid)
			return !ok || scopeOf(&o.Meta) != "" && scopeOf(&o.Meta) != scope
		})))
	}
	return list
}

func froms(refs []model.Reference) []string {
	list := make([]string, len(refs))
	for i := range refs {
		list[i] = refs[i].From.UUID
	}
	return list
}

// byScope puts policy sets of the cluster before those of projects, and these
// by name.
func byScope(g *graph, sets []string) []string {
	type scoped struct {
		uuid, name string
		depth      int
	}
	var list []scoped
	for _, uuid := range sets {
		if o, ok := get[*model.ApplicationPolicySet](g, model.KindApplicationPolicySet, uuid); ok {
			list = append(list, scoped{uuid, model.FQString(o.FQName), len(o.FQName)})
		}
	}
	slices.SortFunc(list, func(a, b scoped) int {
		return cmp.Or(cmp.Compare(a.depth, b.depth), cmp.Compare(a.name, b.name))
	})
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].uuid
	}
	return ids
}
