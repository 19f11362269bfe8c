package configapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// tagChange is what a client asks of the tags of one type on an object.
type tagChange struct {
	// clear is set for null: all tags of the type go.
	clear    bool
	Global   bool     `json:"is_global"`
	Value    *string  `json:"value"`
	Add      []string `json:"add_values"`
	Delete   []string `json:"delete_values"`
	typeName string
}

// setTag sets tags of an object by type and value. The tags must exist.
func (a *API) setTag(r *http.Request) (*answer, error) {
	var q map[string]json.RawMessage
	if err := body(r, &q); err != nil {
		return nil, err
	}
	var kind, id string
	if typed("obj_type", q["obj_type"], &kind) != nil || typed("obj_uuid", q["obj_uuid"], &id) != nil || kind == "" || id == "" {
		return nil, invalid("Bad Request, object type and UUID must be specified: set obj_type and obj_uuid")
	}
	t, ok := model.TypeOf(kind)
	if !ok {
		return nil, invalid("Invalid object type %s", brief(kind))
	}
	if _, ok := t.Reference(model.KindTag); !ok {
		return nil, invalid("Invalid object type %s: it has no tags", brief(kind))
	}
	id, err := bodyID("obj_uuid", id)
	if err != nil {
		return nil, err
	}
	delete(q, "obj_type")
	delete(q, "obj_uuid")
	changes, err := tagChanges(t, q)
	if err != nil {
		return nil, err
	}
	at, err := a.write(r.Context(), audit{"set-tag", string(t.Kind) + "/" + id}, func(c *change) error {
		return c.setTags(t, id, changes)
	})
	if err != nil {
		return nil, err
	}
	return &answer{at: at, body: struct{}{}}, nil
}

// tagChanges reads what is asked, type by type.
func tagChanges(t *model.Type, q map[string]json.RawMessage) ([]tagChange, error) {
	if len(q) > maxReferences {
		return nil, invalid("Bad Request, %d types of tags; at most %d are possible in one request", len(q), maxReferences)
	}
	var changes []tagChange
	for _, name := range slices.Sorted(maps.Keys(q)) {
		x := tagChange{typeName: strings.ToLower(name)}
		if isAbsent(q[name]) {
			x.clear = true
			changes = append(changes, x)
			continue
		}
		if err := known(name, q[name], &x); err != nil {
			return nil, invalid("Bad Request, %v", err)
		}
		switch {
		case len(x.Add)+len(x.Delete) > maxReferences:
			return nil, invalid("Bad Request, %s has %d values; at most %d are possible in one request", brief(name), len(x.Add)+len(x.Delete), maxReferences)
		case t.Kind == model.KindAddressGroup && x.typeName != labelType:
			return nil, invalid("Invalid tag type %s for object type %s", x.typeName, t.Name)
		case x.typeName == labelType && x.Value != nil:
			x.Add = append(x.Add, *x.Value)
		case x.typeName != labelType && (x.Add != nil || x.Delete != nil):
			return nil, invalid("Tag type %s cannot be set multiple times on a same object.", x.typeName)
		case x.typeName != labelType && model.ValueOr(x.Value, "") == "":
			return nil, invalid("No valid value provided for tag type %s", x.typeName)
		}
		changes = append(changes, x)
	}
	return changes, nil
}

func (c *change) setTags(t *model.Type, id string, changes []tagChange) error {
	d, ok := find(c.v, t.Kind, id)
	if !ok || !c.may.mayName(c.v, d) {
		return notFound(t.Kind, id)
	}
	if err := c.may.mayTouch(d.object); err != nil {
		return err
	}
	// By type and value: a tag of the object and of its project may be equal.
	now := map[string]map[string][]model.Reference{}
	for r := range c.v.ReferenceSeq(id, model.KindTag) {
		tag, ok := model.Get[*model.Tag](c.v, r.To.UUID)
		if !ok || c.isHidden(r) {
			continue // nobody means what he does not see
		}
		if now[tag.TagTypeName] == nil {
			now[tag.TagTypeName] = map[string][]model.Reference{}
		}
		now[tag.TagTypeName][tag.TagValue] = append(now[tag.TagTypeName][tag.TagValue], r)
	}
	for i := range changes {
		if err := c.setTagsOfType(d.object, &changes[i], now[changes[i].typeName]); err != nil {
			return err
		}
	}
	if c.Empty() {
		return nil
	}
	return c.redate(d)
}

// setTagsOfType makes one change; now are the tags of the type by value.
func (c *change) setTagsOfType(o model.Object, x *tagChange, now map[string][]model.Reference) error {
	values := x.Add
	if x.typeName != labelType && !x.clear {
		values = []string{*x.Value}
	}
	var wanted []model.Entity
	for _, value := range values {
		tag, err := c.locateTag(o, x.typeName+"="+value, x.Global)
		if err != nil {
			return err
		}
		if slices.Contains(x.Delete, value) {
			return invalid("Bad Request, %s %s is to be added and deleted", x.typeName, quoteText(value))
		}
		wanted = append(wanted, model.EntityOf(tag))
	}
	for value, refs := range now {
		for _, r := range refs {
			stays := x.typeName == labelType && !x.clear && !slices.Contains(x.Delete, value)
			if stays || slices.Contains(wanted, r.To) {
				continue
			}
			if err := c.dropReference(r); err != nil {
				return err
			}
		}
	}
	for _, to := range wanted {
		r := model.Reference{From: model.EntityOf(o), To: to}
		if _, there := c.v.Reference(r.From.UUID, to.UUID); there || c.Touches(store.RefKey(r.Edge())) {
			continue
		}
		if err := c.setReference(r); err != nil {
			return err
		}
	}
	return nil
}

// locateTag finds a tag of the cluster or of the project that an object is of.
func (c *change) locateTag(o model.Object, name string, global bool) (model.Object, error) {
	fq := []string{name}
	if !global {
		fq = append(projectOf(c.v, o), name)
	}
	tag, ok := c.v.ByName(model.KindTag, fq)
	if !ok || !c.may.mayName(c.v, derived{object: tag}) {
		return nil, missing("Tag with FQName %s not found", pyList(fq))
	}
	return tag, nil
}

// projectOf is the name of the project that an object is below, or else of the
// one that owns it.
func projectOf(v *model.View, o model.Object) []string {
	m := o.GetMeta()
	for i := 2; i <= len(m.FQName); i++ {
		if p, ok := v.ByName(model.KindProject, m.FQName[:i]); ok {
			return slices.Clone(p.GetMeta().FQName)
		}
	}
	if m.Perms2 == nil {
		return nil
	}
	if p, ok := v.Object(model.KindProject, dashed(m.Perms2.Owner)); ok {
		return slices.Clone(p.GetMeta().FQName)
	}
	return nil
}

// dashed is the UUID that a tenant's id without dashes stands for.
func dashed(tenant string) string {
	if len(tenant) != 32 {
		return tenant
	}
	return strings.Join([]string{tenant[:8], tenant[8:12], tenant[12:16], tenant[16:20], tenant[20:]}, "-")
}
