package configapi

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// chown gives an object to another tenant.
func (a *API) chown(r *http.Request) (*answer, error) {
	var q struct {
		UUID  string `json:"uuid"`
		Owner string `json:"owner"`
	}
	if err := body(r, &q); err != nil {
		return nil, err
	}
	if q.Owner == "" {
		return nil, invalid("Bad Request, owner is missing; give the UUID of a project")
	}
	return a.setPermissions(r, "chown", q.UUID, &permissions{Owner: &q.Owner})
}

// permissions are what a client may set of perms2.
type permissions struct {
	UUID         string          `json:"uuid"`
	Owner        *string         `json:"owner"`
	OwnerAccess  *int64          `json:"owner_access"`
	GlobalAccess *int64          `json:"global_access"`
	Share        json.RawMessage `json:"share"`
}

// chmod sets rights on an object.
func (a *API) chmod(r *http.Request) (*answer, error) {
	var q permissions
	if err := body(r, &q); err != nil {
		return nil, err
	}
	if q.Owner == nil && q.OwnerAccess == nil && q.GlobalAccess == nil && len(q.Share) == 0 {
		return nil, invalid("Bad Request, nothing to set; give owner, owner_access, global_access or share")
	}
	return a.setPermissions(r, "chmod", q.UUID, &q)
}

func (a *API) setPermissions(r *http.Request, operation, id string, q *permissions) (*answer, error) {
	if !model.IsUUID(id) {
		return nil, invalid("Bad Request, invalid object id: Invalid UUID format: %s", brief(id))
	}
	asked, err := q.check()
	if err != nil {
		return nil, err
	}
	id = strings.ToLower(id)
	at, err := a.write(r.Context(), audit{operation, id}, func(c *change) error {
		old, ok := c.v.Find(id)
		if !ok || !c.may.mayName(c.v, derived{object: old}) {
			return missing("No object found for id %s", id)
		}
		if !c.may.all && (old.GetMeta().Perms2 == nil || !c.may.is(old.GetMeta().Perms2.Owner) || c.may.mayWrite(old, opUpdate, "perms2") != nil) {
			return denied(" Permission denied")
		}
		t, ok := model.TypeOf(string(old.Kind()))
		if !ok {
			return missing("No object found for id %s", id)
		}
		o, err := copyOf(t, old)
		if err != nil {
			return err
		}
		m := o.GetMeta()
		before := m.Perms2
		if before == nil {
			m.Perms2 = model.NewPerms2("")
		}
		touch(m, &perms{perms2: asked}, model.Timestamp(c.now))
		if before != nil && samePerms(before, m.Perms2) {
			return nil
		}
		c.UpdateObject(o, c.since)
		c.disown(id)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &answer{at: at, body: struct{}{}}, nil
}

// check checks what a client sent, and turns it into what is stored.
func (q *permissions) check() (*model.PermType2, error) {
	out := &model.PermType2{OwnerAccess: q.OwnerAccess, GlobalAccess: q.GlobalAccess}
	if q.Owner != nil {
		owner, ok := tenantOf(*q.Owner)
		if !ok {
			return nil, invalid("Bad Request, invalid owner: Invalid UUID format: %s", brief(*q.Owner))
		}
		out.Owner = owner
	}
	for name, access := range map[string]*int64{"owner_access": q.OwnerAccess, "global_access": q.GlobalAccess} {
		if access != nil && !isAccess(*access) {
			return nil, invalid("Bad Request, invalid %s value %d; want 0 to 7: 4 to read, 2 to write, 1 to refer", name, *access)
		}
	}
	if isAbsent(q.Share) {
		return out, nil
	}
	if err := json.Unmarshal(q.Share, &out.Share); err != nil {
		return nil, invalid(`Bad Request, invalid share; want a list of {"tenant": "tenant:UUID", "tenant_access": 7}: %v`, err)
	}
	if out.Share == nil {
		out.Share = []model.ShareType{}
	}
	for i := range out.Share {
		if err := checkShare(&out.Share[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func checkShare(s *model.ShareType) error {
	kind, id, ok := strings.Cut(s.Tenant, ":")
	if !ok {
		kind, id = "tenant", s.Tenant
	}
	if _, isID := tenantOf(id); !isID || kind != "tenant" && kind != "domain" {
		return invalid("Bad Request, invalid share: %q is no tenant; want tenant:UUID or domain:UUID", brief(s.Tenant))
	}
	if !isAccess(s.TenantAccess) {
		return invalid("Bad Request, invalid share: tenant_access of %s; want 0 to 7: 4 to read, 2 to write, 1 to refer", brief(s.Tenant))
	}
	s.Tenant = kind + ":" + id
	return nil
}

func isAccess(n int64) bool { return 0 <= n && n <= 7 }

// tenantOf reads a tenant as clients write it: a UUID with dashes or without,
// or the name of the cloud's administrator.
func tenantOf(text string) (string, bool) {
	if text == model.NewPerms2("").Owner {
		return text, true
	}
	plain := strings.ToLower(tenant(text))
	if len(plain) != 32 || strings.Trim(plain, "0123456789abcdef") != "" {
		return "", false
	}
	if len(text) != 32 && !model.IsUUID(text) {
		return "", false
	}
	return plain, true
}

// tokenInfo is what a caller's token says, without the token.
type tokenInfo struct {
	User     string              `json:"user"`
	Issuer   string              `json:"issuer,omitempty"`
	Roles    []string            `json:"roles"`
	Projects map[string][]string `json:"projects"`
}

// objectPermissions answers what the caller may do with an object.
func (a *API) objectPermissions(r *http.Request) (*answer, error) {
	id := strings.ToLower(r.URL.Query().Get("uuid"))
	if id != "" && !model.IsUUID(id) {
		return nil, invalid("Invalid UUID format: %s", brief(id))
	}
	caller := serve.CallerOf(r.Context())
	out := struct {
		Token       *tokenInfo `json:"token_info"`
		CloudAdmin  bool       `json:"is_cloud_admin_role"`
		ReadOnly    bool       `json:"is_global_read_only_role"`
		Permissions string     `json:"permissions"`
	}{}
	if u := caller.User; u != nil {
		out.Token = &tokenInfo{User: u.Name, Issuer: u.Issuer, Roles: append([]string{}, u.Roles...), Projects: map[string][]string{}}
		for _, m := range u.Projects {
			out.Token.Projects[m.Project] = m.Roles
		}
	}
	if a.tenancy.Mode() != NoAuth || caller.User != nil {
		out.CloudAdmin = caller.Role == ctls.RoleAdmin
		out.ReadOnly = caller.User.Has(serve.ReadOnly)
	}
	at := a.graph.Position()
	var err error
	a.graph.View(func(v *model.View) {
		at = v.Position()
		may := a.accessOf(r.Context(), v)
		if id == "" {
			if may.all {
				out.Permissions = "RWX"
			}
			return
		}
		d, ok := find(v, "", id)
		if !ok || !may.mayName(v, d) {
			err = missing("No object found for id %s", id)
			return
		}
		out.Permissions = may.letters(v, d)
	})
	if err != nil {
		return nil, err
	}
	return &answer{at: at, body: out}, nil
}

// letters says what the caller may do with an object: read, write, refer.
func (may *access) letters(v *model.View, d derived) string {
	if may.all {
		return "RWX"
	}
	var b strings.Builder
	if may.mayReadDerived(v, d) {
		b.WriteByte('R')
	}
	if !d.isView() && may.mayWrite(d.object, opUpdate) == nil {
		b.WriteByte('W')
	}
	if may.mayRefer(v, model.EntityOf(d.object)) == nil {
		b.WriteByte('X')
	}
	return b.String()
}
