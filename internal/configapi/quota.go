package configapi

import (
	"bytes"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// Quotas are counted on the graph, in the transaction that creates what
// counts. There is no counter that all writers share: whoever creates under a
// limit makes it a condition that nobody wrote the project since, and whoever
// comes near the limit writes the project himself, as it is. So the last slots
// are taken one after the other, and a writer whose view is old meets the
// first of those writes.
//
//	far from the limit    condition: project not written since the view
//	less than nearLimit   the same, and writes the project: they take turns
//
// More than the limit would need nearLimit creations in flight at one moment,
// all decided before the first of them that was near was written.
const nearLimit = 256

// Counted beside the types of objects.
const (
	ruleQuota   = "security_group_rule"
	subnetQuota = "subnet"
)

// quotaFields are the limits of a project: where they are, by the name of what
// they limit.
var quotaFields = fieldIndex(reflect.TypeFor[model.QuotaType]())

func fieldIndex(t reflect.Type) map[string]int {
	where := map[string]int{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		where[name] = i
	}
	return where
}

// limitOf is how many of something a project may have, negative for any number.
func limitOf(q *model.QuotaType, name string) int64 {
	field, ok := quotaFields[name]
	if q == nil || !ok {
		return -1
	}
	if n := reflect.ValueOf(q).Elem().Field(field).Interface().(*int64); n != nil {
		return *n
	}
	return model.ValueOr(q.Defaults, -1)
}

// checkQuotas refuses a change that gives a project or domain more than it may have.
func (c *change) checkQuotas() error {
	grown := map[string]map[string]bool{} // project -> what it gets more of
	note := func(project, name string) {
		if project == "" || c.written.created[project] {
			return
		}
		if grown[project] == nil {
			grown[project] = map[string]bool{}
		}
		grown[project][name] = true
	}
	for _, id := range c.written.order {
		o := c.written.objects[id]
		if o.Kind() == model.KindSecurityGroup {
			note(o.GetMeta().ParentUUID, ruleQuota)
		}
		if !c.written.created[id] {
			continue
		}
		if err := c.checkDomain(o); err != nil {
			return err
		}
		if _, limited := quotaFields[o.Kind().Name()]; limited {
			note(c.projectOf(o), o.Kind().Name())
		}
	}
	for e := range c.written.put {
		if e.From.Kind == model.KindVirtualNetwork && e.To.Kind == model.KindNetworkIPAM {
			if vn, ok := c.after(e.From.UUID); ok {
				note(vn.GetMeta().ParentUUID, subnetQuota)
			}
		}
	}
	for _, project := range slices.Sorted(maps.Keys(grown)) {
		if err := c.checkProject(project, slices.Sorted(maps.Keys(grown[project]))); err != nil {
			return err
		}
	}
	return nil
}

// checkProject holds what a project gets against its quota.
func (c *change) checkProject(id string, names []string) error {
	stored, ok := c.v.Stored(id)
	if !ok || !bytes.Contains(stored.JSON, []byte(`"quota"`)) {
		return nil // most have none, and containers wait
	}
	project, ok := model.Get[*model.Project](c.v, id)
	if !ok {
		return nil
	}
	for _, name := range names {
		limit := limitOf(project.Quota, name)
		if limit < 0 {
			continue
		}
		before, after := c.count(project, name)
		if after <= before {
			continue // a project that has more than it may can still be tidied up
		}
		if err := c.within(project, limit, after, name); err != nil {
			return err
		}
	}
	return nil
}

// within refuses more than the limit, and makes the number a condition.
func (c *change) within(owner model.Object, limit, after int64, what string) error {
	if after > limit {
		return refuse(http.StatusPreconditionFailed, connect.CodeResourceExhausted, "quota limit (%d) exceeded for resource %s", limit, what)
	}
	if limit-after < nearLimit {
		c.takeTurns(owner)
	} else if k := store.ObjectKey(model.EntityOf(owner)); !c.Touches(k) {
		c.Guard(store.Guard{Condition: store.NotSince, Key: k, Revision: int64(c.since)})
	}
	return nil
}

// checkDomain holds a new project, network or security group against the
// limits of the domain.
func (c *change) checkDomain(o model.Object) error {
	id := o.GetMeta().ParentUUID
	if o.Kind() == model.KindVirtualNetwork || o.Kind() == model.KindSecurityGroup {
		project, ok := c.after(id)
		if !ok {
			return nil
		}
		id = project.GetMeta().ParentUUID
	} else if o.Kind() != model.KindProject {
		return nil
	}
	domain, ok := model.Get[*model.Domain](c.v, id)
	if !ok || domain.DomainLimits == nil {
		return nil
	}
	limit := map[model.Kind]*int64{
		model.KindProject:        domain.DomainLimits.ProjectLimit,
		model.KindVirtualNetwork: domain.DomainLimits.VirtualNetworkLimit,
		model.KindSecurityGroup:  domain.DomainLimits.SecurityGroupLimit,
	}[o.Kind()]
	if limit == nil || *limit < 0 {
		return nil
	}
	count := c.v.CountChildren(id, o.Kind())
	if o.Kind() != model.KindProject {
		for p := range c.v.StoredChildren(id, model.KindProject) {
			count += c.v.CountChildren(p.UUID, o.Kind())
		}
	}
	_, more := c.gained(func(other model.Object) bool {
		if other.Kind() != o.Kind() {
			return false
		}
		if o.Kind() == model.KindProject {
			return other.GetMeta().ParentUUID == id
		}
		p, ok := c.after(other.GetMeta().ParentUUID)
		return ok && p.GetMeta().ParentUUID == id
	})
	return c.within(domain, *limit, int64(count)+more, o.Kind().Name())
}

// gained counts what the change deletes and creates.
func (c *change) gained(counts func(o model.Object) bool) (lost, more int64) {
	for id := range c.deleted {
		if o, ok := c.v.Find(id); ok && counts(o) {
			lost++
		}
	}
	for id := range c.written.created {
		if counts(c.written.objects[id]) {
			more++
		}
	}
	return lost, more - lost
}

// projectOf is the project that a new object counts for: the one that it is
// under, or refers to, or has its network in, or that owns it.
func (c *change) projectOf(o model.Object) string {
	m := o.GetMeta()
	switch o.Kind() {
	case model.KindFloatingIP:
		for _, r := range c.referencesAfter(m.UUID, model.KindProject) {
			return r.To.UUID
		}
	case model.KindInstanceIP:
		for _, r := range c.referencesAfter(m.UUID, model.KindVirtualNetwork) {
			if vn, ok := c.after(r.To.UUID); ok {
				return vn.GetMeta().ParentUUID
			}
		}
		return ""
	}
	for parent := m; parent.ParentUUID != ""; {
		if parent.ParentType == string(model.KindProject) {
			return parent.ParentUUID
		}
		above, ok := c.after(parent.ParentUUID)
		if !ok {
			break
		}
		parent = above.GetMeta()
	}
	return projectOfTenant(m)
}

// projectOfTenant is the project that owns an object which is under none.
func projectOfTenant(m *model.Meta) string {
	if m.Perms2 == nil {
		return ""
	}
	t := strings.ReplaceAll(m.Perms2.Owner, "-", "")
	if len(t) != 32 {
		return ""
	}
	id := strings.Join([]string{t[:8], t[8:12], t[12:16], t[16:20], t[20:]}, "-")
	if !model.IsUUID(id) {
		return ""
	}
	return id
}

// count is how many of something a project has before and after the change.
func (c *change) count(project *model.Project, name string) (before, after int64) {
	switch name {
	case ruleQuota:
		return c.countParts(project.UUID, model.KindSecurityGroup, func(o model.Object, _ bool) int64 {
			if e := o.(*model.SecurityGroup).SecurityGroupEntries; e != nil {
				return int64(len(e.PolicyRule))
			}
			return 0
		})
	case subnetQuota:
		return c.countParts(project.UUID, model.KindVirtualNetwork, c.countSubnets)
	}
	kind := model.KindOfName(name)
	before = c.counted(project.UUID, kind)
	_, more := c.gained(func(o model.Object) bool { return o.Kind() == kind && c.projectOf(o) == project.UUID })
	return before, before + more
}

// countParts adds up parts of a project's objects of a kind, before and after.
func (c *change) countParts(project string, kind model.Kind, parts func(o model.Object, after bool) int64) (before, after int64) {
	for o := range c.v.ChildSeq(project, kind) {
		before += parts(o, false)
		if now, ok := c.after(o.GetMeta().UUID); ok {
			after += parts(now, true)
		}
	}
	for id := range c.written.created {
		if o := c.written.objects[id]; o.Kind() == kind && o.GetMeta().ParentUUID == project {
			after += parts(o, true)
		}
	}
	return before, after
}

func (c *change) countSubnets(vn model.Object, after bool) int64 {
	id := vn.GetMeta().UUID
	refs := c.v.References(id, model.KindNetworkIPAM)
	if after {
		refs = c.referencesAfter(id, model.KindNetworkIPAM)
	}
	n := 0
	for _, r := range refs {
		if attr, err := model.RefAttr[model.VnSubnetsType](r); err == nil {
			n += len(attr.IPAMSubnets)
		}
	}
	return int64(n)
}

// counted is how many objects of a kind a project has in the graph.
func (c *change) counted(project string, kind model.Kind) int64 {
	t, ok := model.TypeOf(string(kind))
	if !ok {
		return 0 // a limit of something that there is none of any more
	}
	n := 0
	switch {
	case kind == model.KindFloatingIP:
		n = c.v.CountBackReferences(project, kind)
	case kind == model.KindInstanceIP:
		for vn := range c.v.StoredChildren(project, model.KindVirtualNetwork) {
			n += c.v.CountBackReferences(vn.UUID, kind)
		}
	case t.MayHaveParent(model.KindProject):
		n = c.v.CountChildren(project, kind)
	default:
		n = c.below(project, t)
	}
	return int64(n)
}

// below counts objects that are under what a project has, or that it owns.
func (c *change) below(project string, t *model.Type) int {
	n := 0
	for _, parent := range t.Parents {
		if above, ok := model.TypeOf(string(parent)); ok && above.MayHaveParent(model.KindProject) {
			for o := range c.v.StoredChildren(project, parent) {
				n += c.v.CountChildren(o.UUID, t.Kind)
			}
			return n
		}
	}
	for o := range c.v.All(t.Kind) {
		if projectOfTenant(o.GetMeta()) == project {
			n++
		}
	}
	return n
}
