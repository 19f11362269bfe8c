package configapi

import (
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
			if err := c.checkIdentity(vmi, e, where); err != nil {
				return err
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

func (c *change) checkIdentity(vmi string, by model.Edge, where string) error {
	levels := c.tagLevels(vmi)
	groups := len(c.referencesAfter(vmi, model.KindSecurityGroup))
	most := groups
	for _, level := range levels {
		most += len(c.referencesAfter(level, model.KindTag))
	}
	if most <= maxGroupsAndTags {
		return nil
	}
	// Some are perhaps the same, or hidden by others.
	tags := make([][]*model.Tag, len(levels))
	for i, level := range levels {
		for _, r := range c.referencesAfter(level, model.KindTag) {
			if o, ok := c.after(r.To.UUID); ok {
				if tag, ok := o.(*model.Tag); ok {
					tags[i] = append(tags[i], tag)
				}
			}
		}
	}
	n := groups + compile.CountTags(tags...)
	if n <= maxGroupsAndTags {
		return nil
	}
	return invalid("Bad reference in %s: %s_refs of %s: virtual-machine-interface %s would have %d security groups and tags, with the tags of its machine, network and project; at most %d are possible",
		where, by.To.Kind.Name(), by.From, vmi, n, maxGroupsAndTags)
}

// tagLevels are the objects whose tags an interface has, the innermost first.
func (c *change) tagLevels(vmi string) []string {
	levels := []string{vmi}
	for _, r := range c.referencesAfter(vmi, model.KindVirtualMachine) {
		levels = append(levels, r.To.UUID)
	}
	project := ""
	for i, r := range c.referencesAfter(vmi, model.KindVirtualNetwork) {
		if vn, ok := c.after(r.To.UUID); ok && i == 0 {
			levels, project = append(levels, r.To.UUID), vn.GetMeta().ParentUUID
		}
	}
	if o, ok := c.after(vmi); ok && o.GetMeta().ParentType == string(model.KindProject) {
		project = o.GetMeta().ParentUUID
	}
	if project != "" {
		levels = append(levels, project)
	}
	return levels
}
