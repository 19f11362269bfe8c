package configapi

import (
	"fmt"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// maxGroupsAndTags is how many security groups and tags a port can have together:
// a vRouter closes one with more (see its data plane's identities).
const maxGroupsAndTags = 126

// checkIdentities refuses what would give a port more security groups and tags
// than a vRouter knows. A port has the tags of its machine, network and project
// too, so a tag on one of those is held against all ports there.
func (c *change) checkIdentities(where string) error {
	k := identityCheck{change: c, levels: map[string][]model.Reference{}, tags: map[string]*model.Tag{}}
	looked := map[string]bool{}
	for _, e := range c.written.edges {
		if _, put := c.written.put[e]; !put || !givesIdentity(e) {
			continue
		}
		for _, vmi := range c.portsOf(e.From) {
			if looked[vmi] {
				continue
			}
			looked[vmi] = true
			if n := k.count(vmi); n > maxGroupsAndTags {
				return invalid("Bad reference in %s: %s_refs of %s: %s security groups and tags, with the tags of its machine, network and project; at most %d are possible",
					where, e.To.Kind.Name(), e.From, k.would(vmi, n), maxGroupsAndTags)
			}
		}
	}
	return nil
}

// givesIdentity tells whether a reference may give a port groups or tags.
func givesIdentity(e model.Edge) bool {
	switch e.From.Kind {
	case model.KindVirtualMachineInterface:
		switch e.To.Kind {
		case model.KindSecurityGroup, model.KindTag, model.KindVirtualMachine, model.KindVirtualNetwork:
			return true
		}
		return false
	case model.KindVirtualMachine, model.KindVirtualNetwork, model.KindProject:
		return e.To.Kind == model.KindTag
	}
	return false
}

// portsOf are the interfaces that have the tags of an object.
func (c *change) portsOf(e model.Entity) []string {
	var list []string
	switch e.Kind {
	case model.KindVirtualMachineInterface:
		return []string{e.UUID}
	case model.KindVirtualMachine, model.KindVirtualNetwork:
		for _, r := range c.backReferencesAfter(e.UUID, model.KindVirtualMachineInterface) {
			list = append(list, r.From.UUID)
		}
	case model.KindProject:
		for child := range c.v.StoredChildren(e.UUID, model.KindVirtualMachineInterface) {
			list = append(list, child.UUID)
		}
		for vn := range c.v.StoredChildren(e.UUID, model.KindVirtualNetwork) {
			list = append(list, c.portsOf(vn.Entity)...)
		}
	}
	return list
}

// identityCheck counts the groups and tags of ports. One tag may concern all ports
// of a project, so what they share is read once, and what only names the next
// object is not decoded.
type identityCheck struct {
	*change
	// levels are the references to tags of objects that ports are in.
	levels map[string][]model.Reference
	tags   map[string]*model.Tag
}

// would tells of a port that would have too much, as far as the caller may know
// it: it may be another tenant's, in a network that is shared with him.
func (k *identityCheck) would(vmi string, n int) string {
	if o, ok := k.after(vmi); !k.may.reads && ok && !k.may.mayName(k.v, derived{object: o}) {
		return "a virtual-machine-interface of another project would have too many"
	}
	return fmt.Sprintf("virtual-machine-interface %s would have %d", vmi, n)
}

// count is how many groups and tags a port will have, or a number that is not
// less and possible.
func (k *identityCheck) count(vmi string) int {
	groups := len(k.referencesAfter(vmi, model.KindSecurityGroup))
	levels := [][]model.Reference{k.referencesAfter(vmi, model.KindTag)}
	most := groups + len(levels[0])
	for _, level := range k.levelsOf(vmi) {
		refs, known := k.levels[level]
		if !known {
			refs = k.referencesAfter(level, model.KindTag)
			k.levels[level] = refs
		}
		levels = append(levels, refs)
		most += len(refs)
	}
	if most <= maxGroupsAndTags {
		return most
	}
	// Some are perhaps the same, or hidden by others.
	tags := make([][]*model.Tag, len(levels))
	for i, refs := range levels {
		for _, r := range refs {
			if t := k.tag(r.To.UUID); t != nil {
				tags[i] = append(tags[i], t)
			}
		}
	}
	return groups + compile.CountTags(tags...)
}

func (k *identityCheck) tag(id string) *model.Tag {
	t, known := k.tags[id]
	if !known {
		o, _ := k.after(id)
		t, _ = o.(*model.Tag)
		k.tags[id] = t
	}
	return t
}

// levelsOf are the objects whose tags an interface has beside its own, the
// innermost first.
func (k *identityCheck) levelsOf(vmi string) []string {
	var levels []string
	for _, r := range k.referencesAfter(vmi, model.KindVirtualMachine) {
		levels = append(levels, r.To.UUID)
	}
	project := ""
	for i, r := range k.referencesAfter(vmi, model.KindVirtualNetwork) {
		if parent, ok := k.parentAfter(r.To.UUID); ok && i == 0 {
			levels, project = append(levels, r.To.UUID), parent.UUID
		}
	}
	if parent, ok := k.parentAfter(vmi); ok && parent.Kind == model.KindProject {
		project = parent.UUID
	}
	if project != "" {
		levels = append(levels, project)
	}
	return levels
}
