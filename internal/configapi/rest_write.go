package configapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// given is an object as a client sent it.
type given struct {
	properties map[string]json.RawMessage
	// references by kind of the target; an empty list clears them.
	references map[model.Kind][]givenRef
	// positions of the elements of lists that are changed one by one.
	positions map[string][]string
}

// givenRef is an element of a list of references: a name or a UUID.
type givenRef struct {
	To   []string        `json:"to"`
	UUID string          `json:"uuid"`
	Attr json.RawMessage `json:"attr"`
}

// sortFields tells properties from references, and leaves out what is only for reading.
func sortFields(t *model.Type, in map[string]json.RawMessage, where string) (*given, error) {
	g := &given{properties: map[string]json.RawMessage{}, references: map[model.Kind][]givenRef{}}
	count := 0
	for _, name := range slices.Sorted(maps.Keys(in)) {
		class, kind := t.Classify(name)
		switch class {
		case model.ClassProperty:
			if err := checkPerms(name, in[name]); err != nil {
				return nil, invalid("Bad property in %s: %v", where, err)
			}
			g.properties[name] = in[name]
		case model.ClassReference:
			list := []givenRef{}
			if err := typed(name, in[name], &list); err != nil {
				return nil, invalid("Bad reference in %s: %v", where, err)
			}
			if err := checkRefs(t, kind, name, list); err != nil {
				return nil, invalid("Bad reference in %s: %v", where, err)
			}
			if count += len(list); count > maxReferences {
				return nil, invalid("Bad reference in %s: %d references; at most %d are possible in one request, add others with ref-update", where, count, maxReferences)
			}
			g.references[kind] = list
		case model.ClassUnknown:
			if strings.HasSuffix(name, "_refs") {
				return nil, invalid("Unknown reference in resource %s {%s}", where, brief(name))
			}
			return nil, invalid("Bad property in %s: %s: %s does not have it", where, brief(name), t.Kind)
		}
	}
	return g, nil
}

func checkRefs(t *model.Type, kind model.Kind, name string, list []givenRef) error {
	reference, _ := t.Reference(kind)
	for _, r := range list {
		if r.UUID == "" && len(r.To) == 0 {
			return fmt.Errorf("an element of %s has neither to nor uuid", name)
		}
		if r.UUID != "" && !model.IsUUID(r.UUID) {
			return fmt.Errorf("%s: Invalid UUID format: %s", name, brief(r.UUID))
		}
		if err := reference.ValidateAttr(r.Attr); err != nil {
			return err
		}
	}
	return nil
}

// targets resolves the references of an object to one kind.
func (c *change) targets(from model.Entity, kind model.Kind, list []givenRef, where string) ([]model.Reference, error) {
	var refs []model.Reference
	for _, r := range list {
		to, ok := c.target(kind, strings.ToLower(r.UUID), r.To)
		if !ok {
			return nil, invalid("Bad reference in %s: no %s has %s", where, kind, describe(r))
		}
		if slices.ContainsFunc(refs, func(have model.Reference) bool { return have.To == to }) {
			continue
		}
		refs = append(refs, model.Reference{From: from, To: to, Attr: nonNull(r.Attr)})
	}
	return refs, nil
}

func describe(r givenRef) string {
	if r.UUID != "" {
		return "uuid " + r.UUID
	}
	return "name " + pyList(r.To)
}

func (a *API) createObject(r *http.Request) (*answer, error) {
	t, err := typeOfCollection(r)
	if err != nil {
		return nil, err
	}
	in, err := fields(r, t)
	if err != nil {
		return nil, err
	}
	g, err := sortFields(t, in, "create")
	if err != nil {
		return nil, err
	}
	if isAbsent(g.properties["fq_name"]) {
		return nil, invalid("Bad Request, no fq_name in POST body")
	}
	asked := askedPerms(g.properties)
	if err := checkSettable(t, g.properties); err != nil {
		return nil, err
	}
	decoded, err := t.Decode(encodeFields(g.properties))
	if err != nil {
		return nil, invalid("Bad property in create: %v", err)
	}
	m := decoded.GetMeta()
	for _, part := range m.FQName {
		if err := checkName(t.Kind, part); err != nil {
			return nil, invalid("Bad Request, %v", err)
		}
	}
	chosen := m.UUID != ""
	if !chosen {
		m.UUID = model.NewUUID()
	}
	if !model.IsUUID(m.UUID) {
		return nil, invalid("Invalid UUID format: %s", brief(m.UUID))
	}
	m.UUID = strings.ToLower(m.UUID)
	if err := nameTag(decoded); err != nil {
		return nil, err
	}
	name := *m // decide may run more than once
	var out map[string]any
	at, err := a.write(r.Context(), audit{"create", string(t.Kind) + "/" + m.UUID + " " + model.FQString(m.FQName)}, func(c *change) error {
		o, err := copyOf(t, decoded)
		if err != nil {
			return err
		}
		meta := o.GetMeta()
		*meta = name
		if err := c.parent(t, meta); err != nil {
			return err
		}
		if err := c.may.mayCreate(t.Kind, c.parentOf(meta), g.sortedFields()...); err != nil {
			return err
		}
		if err := c.unique(t.Kind, meta); err != nil {
			return err
		}
		if chosen {
			c.holdID(t.Kind, meta.UUID)
		}
		if err := c.complete(meta, t.Kind, asked, creator(r)); err != nil {
			return err
		}
		var refs []model.Reference
		for _, kind := range slices.Sorted(maps.Keys(g.references)) {
			list, err := c.targets(model.EntityOf(o), kind, g.references[kind], "create")
			if err != nil {
				return err
			}
			refs = append(refs, list...)
		}
		c.bequeath(o, refs, asked)
		out = created(o, base(r))
		return c.create(o, refs)
	})
	if err != nil {
		return nil, err
	}
	return &answer{at: at, body: map[string]any{string(t.Kind): out}}, nil
}

// perms are the parts of id_perms and perms2 that a client may set.
type perms struct {
	id     *model.IdPermsType
	perms2 *model.PermType2
	// noOwner is set when perms2 was given without an owner.
	noOwner bool
}

// askedPerms takes id_perms and perms2 out of the properties: most of them is
// not the client's to say, and clients send back what they have read.
func askedPerms(properties map[string]json.RawMessage) *perms {
	p := &perms{}
	if raw := properties["id_perms"]; !isAbsent(raw) {
		p.id = &model.IdPermsType{}
		if json.Unmarshal(raw, p.id) != nil {
			p.id = nil
		}
	}
	if raw := properties["perms2"]; !isAbsent(raw) {
		p.perms2 = &model.PermType2{}
		if json.Unmarshal(raw, p.perms2) != nil {
			p.perms2 = nil
		} else if p.perms2.Owner == "" {
			p.noOwner = true
		}
	}
	for _, name := range []string{"id_perms", "perms2", "configuration_version"} {
		delete(properties, name)
	}
	return p
}

func isAbsent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// encodeFields makes JSON of fields that came out of JSON.
func encodeFields(in map[string]json.RawMessage) []byte {
	data, err := json.Marshal(in)
	if err != nil {
		return []byte("null") // they were valid before
	}
	return data
}

// copyOf makes an object that may be changed.
func copyOf(t *model.Type, o model.Object) (model.Object, error) {
	return t.Patch(o, nil)
}

// parent finds the parent of a new object and completes its meta.
func (c *change) parent(t *model.Type, m *model.Meta) error {
	allowed := t.Parents
	top := len(allowed) == 0 || slices.Contains(allowed, model.KindConfigRoot)
	if len(allowed) == 0 || m.ParentType == string(model.KindConfigRoot) || top && (len(allowed) == 1 || m.ParentType == "" && len(m.FQName) == 1) {
		if !top {
			return invalid("Invalid parent type: %s. Allowed types: %s", m.ParentType, kinds(allowed))
		}
		if len(m.FQName) != 1 {
			return invalid("Invalid fq-name of an object with no parent: %s", pyList(m.FQName))
		}
		m.ParentType, m.ParentUUID = "", ""
		return nil
	}
	if m.ParentType == "" {
		if len(allowed) > 1 {
			return invalid("Missing parent type: %s. Allowed types: %s", t.Kind, kinds(allowed))
		}
		m.ParentType = string(allowed[0])
	}
	kind := model.KindOfName(m.ParentType)
	if !slices.Contains(allowed, kind) {
		return invalid("Invalid parent type: %s. Allowed types: %s", brief(m.ParentType), kinds(allowed))
	}
	m.ParentType = string(kind)
	if len(m.FQName) < 2 {
		return invalid("Bad Request, fq_name %s has no part that names the parent of type %s", pyList(m.FQName), kind)
	}
	name := m.FQName[:len(m.FQName)-1]
	o, ok := byName(c.v, kind, name)
	ok = ok && c.mayNameParent(o)
	if m.ParentUUID != "" && ok && o.GetMeta().UUID != strings.ToLower(m.ParentUUID) {
		ok = false
	}
	if !ok {
		return invalid("Parent %s type %s does not exist", pyList(name), kind)
	}
	m.ParentUUID = o.GetMeta().UUID
	return nil
}

func kinds(list []model.Kind) string {
	names := make([]string, len(list))
	for i, k := range list {
		names[i] = string(k)
	}
	return pyList(names)
}

// unique refuses a name or UUID that is taken.
func (c *change) unique(kind model.Kind, m *model.Meta) error {
	v := c.v
	if o, ok := byName(v, kind, m.FQName); ok {
		if !c.may.mayRead(o) {
			return taken("%s already exists", pyList(m.FQName))
		}
		return taken("%s already exists with uuid: %s", pyList(m.FQName), o.GetMeta().UUID)
	}
	if d, ok := find(v, "", m.UUID); ok {
		if !c.may.mayReadDerived(v, d) {
			return taken("%s already exists", m.UUID)
		}
		return taken("%s already exists with fq_name: %s", m.UUID, pyList(d.object.GetMeta().FQName))
	}
	return nil
}

// complete fills in what every object has.
func (c *change) complete(m *model.Meta, kind model.Kind, asked *perms, who string) error {
	var err error
	if m.IDPerms, err = model.NewIDPerms(m.UUID, c.now); err != nil {
		return err
	}
	m.IDPerms.Creator = who
	if asked.id != nil {
		m.IDPerms.Description = asked.id.Description
		if asked.id.Enable != nil {
			m.IDPerms.Enable = asked.id.Enable
		}
		if asked.id.UserVisible != nil {
			if !*asked.id.UserVisible && !c.may.all {
				return denied("Permission denied: only a cloud-admin creates objects with id_perms.user_visible false, which nobody else sees")
			}
			m.IDPerms.UserVisible = asked.id.UserVisible
		}
	}
	m.Perms2 = c.newPerms2(m, kind)
	if asked.perms2 != nil {
		mergePerms(m.Perms2, asked.perms2)
	}
	if m.DisplayName == "" {
		m.DisplayName = m.Name()
	}
	return nil
}

// mergePerms takes what is given over.
func mergePerms(p, given *model.PermType2) {
	if given.Owner != "" {
		p.Owner = given.Owner
	}
	if given.OwnerAccess != nil {
		p.OwnerAccess = given.OwnerAccess
	}
	if given.GlobalAccess != nil {
		p.GlobalAccess = given.GlobalAccess
	}
	if given.Share != nil {
		p.Share = given.Share
	}
}

// created is the answer to a create.
func created(o model.Object, base string) map[string]any {
	m := o.GetMeta()
	out := map[string]any{
		"name": m.Name(), "fq_name": m.FQName, "uuid": m.UUID, "href": href(base, model.EntityOf(o)),
	}
	if m.ParentUUID != "" {
		out["parent_type"] = m.ParentType
		out["parent_uuid"] = m.ParentUUID
		out["parent_href"] = href(base, model.Entity{Kind: model.Kind(m.ParentType), UUID: m.ParentUUID})
	}
	return out
}

func (a *API) updateObject(r *http.Request) (*answer, error) {
	t, err := typeOf(r)
	if err != nil {
		return nil, err
	}
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	in, err := fields(r, t)
	if err != nil {
		return nil, err
	}
	if in == nil {
		return &answer{at: a.graph.Position()}, nil
	}
	g, err := sortFields(t, in, "http_put")
	if err != nil {
		return nil, err
	}
	asked := askedPerms(g.properties)
	if asked.noOwner {
		return nil, invalid("Bad property in http_put: perms2 has no owner")
	}
	at, err := a.write(r.Context(), audit{"update", string(t.Kind) + "/" + id}, func(c *change) error {
		o, ok := c.object(t.Kind, id)
		if !ok {
			if d, ok := findDerived(c.v, t.Kind, id); ok && c.may.mayName(c.v, d) {
				return c.overlay(t, d, g)
			}
			return notFound(t.Kind, id)
		}
		if err := c.may.mayTouch(o); err != nil {
			return err
		}
		if err := checkMatch(r, o); err != nil {
			return err
		}
		return c.update(t, o, g, asked)
	})
	if err != nil {
		return nil, err
	}
	return &answer{at: at, body: map[string]any{string(t.Kind): map[string]string{
		"uuid": id, "href": href(base(r), model.Entity{Kind: t.Kind, UUID: id}),
	}}}, nil
}

// update merges what a client sent into an object, property by property and
// list of references by list.
func (c *change) update(t *model.Type, o model.Object, g *given, asked *perms) error {
	given := g.sortedFields()
	if asked.perms2 != nil {
		given = append(given, "perms2")
	}
	if err := c.may.mayCompare(c.v, o, given); err != nil {
		return err
	}
	changes, err := changed(t, o, g.properties)
	if err != nil {
		return err
	}
	patched, err := t.Patch(o, changes)
	if err != nil {
		return invalid("Bad property in http_put: %v", err)
	}
	if err := c.revise(patched, o); err != nil {
		return err
	}
	touch(patched.GetMeta(), asked, model.Timestamp(c.now))
	c.UpdateObject(patched, c.since)
	if err := c.putPositions(o.GetMeta().UUID, changes, g.positions); err != nil {
		return err
	}
	c.disown(o.GetMeta().UUID)
	for _, kind := range slices.Sorted(maps.Keys(g.references)) {
		if err := c.replaceReferences(model.EntityOf(o), kind, g.references[kind]); err != nil {
			return err
		}
	}
	return nil
}

// touch gives an updated object its new dates, and the rights that a client
// may change. o's own are shared with the graph and stay as they are.
func touch(m *model.Meta, asked *perms, now string) {
	if m.IDPerms != nil {
		p := *m.IDPerms
		p.LastModified = now
		if asked.id != nil {
			p.Description = asked.id.Description
			if asked.id.Enable != nil {
				p.Enable = asked.id.Enable
			}
		}
		m.IDPerms = &p
	}
	if asked.perms2 != nil && m.Perms2 != nil {
		p := *m.Perms2
		mergePerms(&p, asked.perms2)
		m.Perms2 = &p
	}
	m.ConfigurationVersion = new(model.ValueOr(m.ConfigurationVersion, 0) + 1)
}

// changed returns the properties that are not as they were, and refuses those
// that a client may not change.
func changed(t *model.Type, o model.Object, properties map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	encoded, err := model.Encode(o)
	if err != nil {
		return nil, err
	}
	var now map[string]json.RawMessage
	if err := json.Unmarshal(encoded, &now); err != nil {
		return nil, fmt.Errorf("read back %s: %w", model.EntityOf(o), err)
	}
	changes := map[string]json.RawMessage{}
	for name, value := range properties {
		if sameJSON(value, now[name]) {
			continue
		}
		p, _ := t.Property(name)
		switch {
		case name == "parent_type" && isAbsent(now[name]) && string(value) == `"config-root"`:
			continue
		case name == "fq_name" || name == "uuid" || name == "parent_type" || name == "parent_uuid":
			return nil, invalid("Bad property in http_put: %s can not be changed", name)
		case name == "instance_ip_address":
			return nil, invalid("Instance IP Address can not be changed")
		case name == "virtual_network_network_id":
			return nil, denied("Cannot set the virtual network ID")
		case name == "security_group_id":
			return nil, denied("Cannot set the security group ID")
		case !strings.Contains(p.Ops, "U") && !isResizable(t.Kind, name):
			return nil, invalid("Bad property in http_put: %s can not be changed", name)
		}
		changes[name] = value
	}
	return changes, nil
}

// sameJSON compares two values regardless of how they are written.
func sameJSON(a, b json.RawMessage) bool {
	if isAbsent(a) || isAbsent(b) {
		return isAbsent(a) == isAbsent(b)
	}
	return canonical(a) == canonical(b)
}

func canonical(raw json.RawMessage) string {
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return string(raw)
	}
	out, err := json.Marshal(v)
	if err != nil {
		return string(raw)
	}
	return string(out)
}

// replaceReferences makes an object's references to a kind those of the list.
func (c *change) replaceReferences(from model.Entity, kind model.Kind, list []givenRef) error {
	wanted, err := c.targets(from, kind, list, "http_put")
	if err != nil {
		return err
	}
	if from.Kind == model.KindVirtualNetwork && kind == model.KindNetworkIPAM {
		vn, ok := c.v.Find(from.UUID)
		if !ok {
			return notFound(from.Kind, from.UUID)
		}
		all := slices.Clone(wanted)
		for old := range c.v.ReferenceSeq(from.UUID, kind) {
			if c.isHidden(old) {
				all = append(all, old)
			}
		}
		if err := c.setSubnets(vn, all, "http_put"); err != nil {
			return err
		}
		wanted = all[:len(wanted)]
	}
	return c.setReferences(from, kind, wanted)
}

// setReferences makes an object's references to a kind the wanted ones.
func (c *change) setReferences(from model.Entity, kind model.Kind, wanted []model.Reference) error {
	for _, old := range c.v.References(from.UUID, kind) {
		keep := slices.ContainsFunc(wanted, func(r model.Reference) bool { return r.To == old.To })
		if keep || c.isHidden(old) {
			continue
		}
		if from.Kind == model.KindVirtualNetwork && kind == model.KindNetworkIPAM {
			c.dropEdge(old.Edge()) // setSubnets has looked at all of them together
			continue
		}
		if err := c.dropReference(old); err != nil {
			return err
		}
	}
	for _, r := range wanted {
		old, ok := c.v.Reference(r.From.UUID, r.To.UUID)
		if ok && sameJSON(old.Attr, r.Attr) {
			continue
		}
		r.Relaxed = old.Relaxed
		if err := c.setReference(r); err != nil {
			return err
		}
	}
	return nil
}
