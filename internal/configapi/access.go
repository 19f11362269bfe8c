package configapi

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// Mode says who may do what in the cluster.
type Mode string

const (
	// NoAuth makes administrators of all who come through open listeners.
	// Callers of listeners for users meet the rules of RBAC all the same.
	NoAuth Mode = "no-auth"
	// AdminOnly lets administrators in, and those who read everything.
	AdminOnly Mode = "cloud-admin"
	// RBAC goes by api-access-lists and by perms2 of each object.
	RBAC Mode = "rbac"
)

func (m Mode) valid() bool { return m == NoAuth || m == AdminOnly || m == RBAC }

// Bits of the rights in perms2.
const (
	bitRefer int64 = 1
	bitWrite int64 = 2
	bitRead  int64 = 4
)

// access is what one caller may do, as of one view. Administrators share one
// that allows everything, so that asking costs them nothing.
//
// Whoever answers data asks for each object that he shows (readsEntry,
// mayReadDerived, mayRead) or names (seesStored, sees, mayName): lists, counts,
// children, references and back references. A selection carries the access.
// Whoever writes needs to ask nothing: a change asks for everything that it
// writes, see guarded.go. mayWrite and mayRefer are there to ask early, before
// an answer depends on what the caller may not know.
//
// Two things have to agree, for one of the caller's projects: the rules of the
// api-access-lists for the roles that he has there, and perms2 of the object
// for that project.
type access struct {
	caller serve.Caller
	// all may do everything, reads may read everything.
	all, reads bool
	scopes     []*scope
	// verdicts are remembered by kind and the JSON of perms2.
	verdicts map[model.Kind]map[string]verdict
	// fields that some rule keeps from being read are remembered by kind.
	fields map[model.Kind][]string
}

// scope is one project that a caller has roles in.
type scope struct {
	project model.Entity
	fqName  []string
	// tenant is the project as perms2 names owners; domain is the UUID of its domain.
	tenant, domain string
	roles          []string
	rules          []ruleset
	// decided remembers what the rules said.
	decided map[question]bool
}

type question struct {
	operation     operation
	object, field string
}

// everything is the access of administrators and of the cluster's components.
var everything = &access{all: true, reads: true}

// accessOf returns what the caller of ctx may do. It is valid as long as the view.
func (a *API) accessOf(ctx context.Context, v *model.View) *access {
	caller := serve.CallerOf(ctx)
	if caller.User == nil {
		switch caller.Role {
		case ctls.RoleAdmin, ctls.RoleManager, ctls.RoleController:
			return everything
		case ctls.RoleNode:
			return everything // the services for nodes check what each may; the gate keeps nodes from all else
		default:
			return &access{caller: caller, verdicts: map[model.Kind]map[string]verdict{}}
		}
	}
	if caller.User.Has(serve.CloudAdmin) {
		return everything
	}
	may := &access{caller: caller, reads: caller.User.Has(serve.ReadOnly), verdicts: map[model.Kind]map[string]verdict{}}
	if a.tenancy.Mode() == AdminOnly {
		return may
	}
	for _, m := range caller.User.Projects {
		if s := a.scopeOf(v, caller.User, m); s != nil {
			may.scopes = append(may.scopes, s)
		}
	}
	return may
}

// scopeOf finds a project that a user has roles in; nil when there is none.
func (a *API) scopeOf(v *model.View, u *serve.User, m serve.Membership) *scope {
	var o model.Object
	var ok bool
	if model.IsUUID(m.Project) {
		o, ok = v.Object(model.KindProject, strings.ToLower(m.Project))
	} else {
		o, ok = v.ByName(model.KindProject, strings.Split(m.Project, ":"))
	}
	if !ok {
		return nil
	}
	p := o.GetMeta()
	return &scope{
		project: model.EntityOf(o), fqName: p.FQName, tenant: tenant(p.UUID), domain: p.ParentUUID,
		roles: append(m.Roles[:len(m.Roles):len(m.Roles)], u.Roles...),
		rules: a.tenancy.rules(p.UUID, p.ParentUUID), decided: map[question]bool{},
	}
}

// allows asks the rules of the project.
func (s *scope) allows(o operation, object, field string) bool {
	q := question{o, object, field}
	answer, ok := s.decided[q]
	if !ok {
		answer = decide(s.rules, s.roles, o, object, field)
		s.decided[q] = answer
	}
	return answer
}

// bits are the rights that perms2 gives to the project.
func (s *scope) bits(p *model.PermType2) int64 {
	if p == nil {
		return 0
	}
	bits := model.ValueOr(p.GlobalAccess, 0)
	if sameID(p.Owner, s.tenant) {
		bits |= model.ValueOr(p.OwnerAccess, 7)
	}
	for i := range p.Share {
		kind, id, ok := strings.Cut(p.Share[i].Tenant, ":")
		if !ok {
			kind, id = "tenant", kind
		}
		if kind == "tenant" && sameID(id, s.tenant) || kind == "domain" && sameID(id, s.domain) {
			bits |= p.Share[i].TenantAccess
		}
	}
	return bits
}

// sameID compares UUIDs that are written with dashes or without.
func sameID(a, b string) bool {
	i, j := 0, 0
	for {
		for i < len(a) && a[i] == '-' {
			i++
		}
		for j < len(b) && b[j] == '-' {
			j++
		}
		if i == len(a) || j == len(b) {
			return i == len(a) && j == len(b) && i > 0
		}
		if lower(a[i]) != lower(b[j]) {
			return false
		}
		i++
		j++
	}
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// bits are the rights that perms2 of an object gives to any of the caller's projects.
func (may *access) bits(p *model.PermType2) int64 {
	var bits int64
	for _, s := range may.scopes {
		bits |= s.bits(p)
	}
	return bits
}

// allowed tells whether rules and perms2 allow something in one and the same
// project. bit is one of perms2.
func (may *access) allowed(p *model.PermType2, bit int64, o operation, kind model.Kind, field string) bool {
	for _, s := range may.scopes {
		if s.bits(p)&bit != 0 && s.allows(o, string(kind), field) {
			return true
		}
	}
	return false
}

// ruled tells whether the rules allow something in any of the caller's projects.
func (may *access) ruled(o operation, object, field string) bool {
	for _, s := range may.scopes {
		if s.allows(o, object, field) {
			return true
		}
	}
	return false
}

// mayRead tells whether the caller may see a stored object.
func (may *access) mayRead(o model.Object) bool {
	if may == nil {
		return false
	}
	return may.reads || isVisible(o) && may.allowed(o.GetMeta().Perms2, bitRead, opRead, o.Kind(), "")
}

// mayReadDerived tells whether the caller may see a stored object, or a derived
// one: whoever may read a network or security group may read what follows
// from it, unless that tells of others too.
func (may *access) mayReadDerived(v *model.View, d derived) bool {
	if may == nil || may.reads {
		return may != nil
	}
	if !d.isView() {
		return may.mayRead(d.object)
	}
	of, ok := v.Find(d.owner.UUID)
	reads := may.readsAllOf(v)
	return ok && may.mayRead(of) && may.allowed(of.GetMeta().Perms2, bitRead, opRead, d.object.Kind(), "") &&
		!slices.ContainsFunc(d.from, func(e model.Entity) bool { return !reads(e) })
}

// mayName tells whether the caller may know that an object exists: he may do
// something with it.
func (may *access) mayName(v *model.View, d derived) bool {
	if may.mayReadDerived(v, d) {
		return true
	}
	o := d.object
	if d.isView() {
		var ok bool
		if o, ok = v.Find(d.owner.UUID); !ok {
			return false
		}
	}
	return isVisible(o) && may.bits(o.GetMeta().Perms2) != 0
}

// isVisible tells whether an object is shown to others than administrators.
func isVisible(o model.Object) bool {
	p := o.GetMeta().IDPerms
	return p == nil || model.ValueOr(p.UserVisible, true)
}

// refuseRead refuses to show an object that the caller may not read.
func (may *access) refuseRead(v *model.View, e *entry) error {
	if may.readsEntry(v, e) {
		return nil
	}
	d, ok := find(v, e.Kind, e.UUID)
	switch {
	case !ok || !may.mayName(v, d):
		return notFound(e.Kind, e.UUID)
	case may.bits(d.object.GetMeta().Perms2)&bitRead == 0:
		return denied("Permission denied: perms2 of %s does not let %s read it", e.Entity, may.caller)
	}
	return may.refuseByRule(opRead, e.Kind, "")
}

// readable are those of a list that the caller may read.
func (may *access) readable(v *model.View, list []*item) []*item {
	if may.reads {
		return list
	}
	return slices.DeleteFunc(list, func(i *item) bool { return !may.readsEntry(v, &i.entry) })
}

// readsEntry is mayReadDerived for an object in its stored form.
func (may *access) readsEntry(v *model.View, e *entry) bool {
	if may == nil || may.reads {
		return may != nil
	}
	if e.view != nil {
		return may.mayReadDerived(v, *e.view)
	}
	return may.known(e.Stored).read
}

// seesStored tells whether an object that another is linked with may be named
// to the caller: he may read it or refer to it.
func (may *access) seesStored(s model.Stored) bool {
	if may == nil || may.reads {
		return may != nil
	}
	k := may.known(s)
	return k.read || k.refer
}

// sees is seesStored for a view that is linked with from, which is nil for a
// stored object. What follows from one network belongs together.
func (may *access) sees(from *derived, view model.Object) bool {
	if may == nil || may.reads || from != nil && view.Kind() == model.KindRouteTarget {
		return may != nil
	}
	return may.mayRead(view) || isVisible(view) && may.bits(view.GetMeta().Perms2)&bitRefer != 0
}

// known tells what the caller may do with a stored object. Most objects have
// the rights of many others: each is decided once.
func (may *access) known(s model.Stored) verdict {
	if raw, ok := s.Member("id_perms", "user_visible"); ok && string(raw) == "false" {
		return verdict{}
	}
	raw, _ := s.Property("perms2")
	of := may.verdicts[s.Kind]
	if k, ok := of[string(raw)]; ok {
		return k
	}
	if of == nil {
		of = map[string]verdict{}
		may.verdicts[s.Kind] = of
	}
	var p *model.PermType2
	if json.Unmarshal(raw, &p) != nil {
		p = nil
	}
	k := verdict{read: may.allowed(p, bitRead, opRead, s.Kind, ""), refer: may.bits(p)&bitRefer != 0, hidden: may.hiddenBy(s.Kind, p)}
	of[string(raw)] = k
	return k
}

// verdict is what a caller may do with objects of one kind and the same perms2.
type verdict struct {
	read, refer bool
	// hidden are the fields that he may not read.
	hidden map[string]bool
}

// mayRefer refuses a reference to what the caller may not refer to. What he may
// not even know does not exist for him.
func (may *access) mayRefer(v *model.View, to model.Entity) error {
	if may.all {
		return nil
	}
	d, ok := find(v, to.Kind, to.UUID)
	if !ok || !may.mayName(v, d) {
		return notFound(to.Kind, to.UUID)
	}
	if may.bits(permsOf(v, d))&bitRefer == 0 {
		return denied("Permission denied: perms2 of %s lets %s read it, but not refer to it; ask its owner for access 1", to, may.caller)
	}
	return nil
}

// mayTouch refuses to write an object that perms2 does not let the caller write.
func (may *access) mayTouch(o model.Object) error {
	if may.all {
		return nil
	}
	e, bits := model.EntityOf(o), may.bits(o.GetMeta().Perms2)
	if !may.reads && (bits == 0 || !isVisible(o)) {
		return notFound(e.Kind, e.UUID)
	}
	if bits&bitWrite == 0 {
		return denied("Permission denied: perms2 of %s does not let %s write it", e, may.caller)
	}
	return nil
}

// mayWrite refuses to update or delete a stored object, or fields of it.
// Fields are properties, and references as in "network_policy_refs".
func (may *access) mayWrite(o model.Object, op operation, fields ...string) error {
	if may.all {
		return nil
	}
	if err := may.mayTouch(o); err != nil {
		return err
	}
	if len(fields) == 0 {
		fields = []string{""}
	}
	for _, f := range fields {
		if !may.allowed(o.GetMeta().Perms2, bitWrite, op, o.Kind(), f) {
			return may.refuseByRule(op, o.Kind(), f)
		}
	}
	return nil
}

// mayCreate refuses to create an object. parent is nil at the top.
func (may *access) mayCreate(kind model.Kind, parent model.Object, fields ...string) error {
	if may.all {
		return nil
	}
	fields = append(fields, "")
	if parent == nil {
		if !tenantsOwn[kind] {
			return denied("Permission denied: only a cloud-admin creates objects of the type %s at the top", kind)
		}
		for _, f := range fields {
			if !may.ruled(opCreate, string(kind), f) {
				return may.refuseByRule(opCreate, kind, f)
			}
		}
		return nil
	}
	e, p := model.EntityOf(parent), parent.GetMeta().Perms2
	if !may.reads && (may.bits(p) == 0 || !isVisible(parent)) {
		return invalid("Parent %s type %s does not exist", pyList(parent.GetMeta().FQName), e.Kind)
	}
	if may.bits(p)&bitWrite == 0 {
		return denied("Permission denied: perms2 of %s does not let %s create objects in it", e, may.caller)
	}
	for _, f := range fields {
		if !may.allowed(p, bitWrite, opCreate, kind, f) {
			return may.refuseByRule(opCreate, kind, f)
		}
	}
	return nil
}

// tenantsOwn are the types at the top whose objects belong to tenants: a
// project's containers and their addresses.
var tenantsOwn = map[model.Kind]bool{
	model.KindVirtualMachine: true, model.KindInstanceIP: true,
}

func (may *access) refuseByRule(o operation, kind model.Kind, field string) error {
	what := string(kind)
	if field != "" {
		what += "." + field
	}
	if len(may.scopes) == 0 {
		return denied("Permission denied: %s may not %s %s: none of the projects in which it has roles exists", may.caller, o, what)
	}
	return denied("Permission denied: no rule of the api-access-lists lets %s %s %s", may.caller, o, what)
}

// owner is the tenant that a new object without an owner of its own belongs
// to: the caller's project when he has one only, else the cloud's administrator.
func (may *access) owner() string {
	if len(may.scopes) == 1 {
		return may.scopes[0].tenant
	}
	return ""
}
