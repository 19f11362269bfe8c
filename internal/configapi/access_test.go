package configapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// asUser is the context of a user's request.
func asUser(u serve.User) context.Context {
	role := serve.RoleUser
	if u.Has(serve.CloudAdmin) {
		role = ctls.RoleAdmin
	}
	return serve.WithCaller(context.Background(), serve.Caller{
		Identity: ctls.Identity{Role: role}, Via: "users", From: "192.0.2.1:4711", User: &u,
	})
}

// person is a user with one role in one project, or with roles in the cluster.
func person(name, project, role string, global ...string) serve.User {
	u := serve.User{Name: name, Roles: global}
	if project != "" {
		u.Projects = []serve.Membership{{Project: "default-domain:" + project, Roles: []string{role}}}
	}
	return u
}

// callAs sends one request as a user.
func (b *bench) callAs(u serve.User, method, path, body string) (int, string) {
	b.Helper()
	r := httptest.NewRequest(method, "http://api:8082"+path, strings.NewReader(body)).WithContext(asUser(u))
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// tenants makes two projects, each with a network, an IPAM and a policy. It
// returns UUIDs by what they are of, such as "p1/virtual-network".
func (b *bench) tenants() map[string]string {
	b.Helper()
	ids := map[string]string{}
	for _, p := range []string{"p1", "p2"} {
		ids[p] = b.create("project", fmt.Sprintf(`{"fq_name": ["default-domain", %q]}`, p))
		for _, kind := range []string{"virtual-network", "network-ipam", "network-policy", "security-group"} {
			ids[p+"/"+kind] = b.create(kind, fmt.Sprintf(`{"fq_name": ["default-domain", %q, %q], "parent_type": "project"}`, p, p+"-"+kind))
		}
	}
	return ids
}

var (
	admin1  = person("ada", "p1", "admin")
	member1 = person("max", "p1", "member")
	admin2  = person("eve", "p2", "admin")
	nobody  = person("nil", "", "")
	reader  = person("rita", "", "", serve.ReadOnly)
	cloud   = person("clara", "", "", serve.CloudAdmin)
)

func TestRolesAndOperations(t *testing.T) {
	b := newBench(t, testConfig())
	ids := b.tenants()
	vn, rename := "/virtual-network/"+ids["p1/virtual-network"], `{"virtual-network": {"display_name": %q}}`
	newPolicy := func(name string) string {
		return fmt.Sprintf(`{"network-policy": {"fq_name": ["default-domain", "p1", %q], "parent_type": "project"}}`, name)
	}
	for i, tc := range []struct {
		what, method, path, body                     string
		cloud, reader, admin, member, other, without int
	}{
		{"read", "GET", vn, "", 200, 200, 200, 200, 404, 404},
		{"list", "GET", "/virtual-networks", "", 200, 200, 200, 200, 200, 200},
		{"update", "PUT", vn, rename, 200, 403, 200, 200, 404, 404},
		{"route targets are the administrator's", "PUT", vn, `{"virtual-network": {"route_target_list": {"route_target": ["target:64512:%[1]d"]}}}`, 200, 403, 403, 403, 404, 404},
		{"create", "POST", "/network-policys", newPolicy("%s"), 200, 403, 200, 200, 400, 400},
		{"quota", "PUT", "/project/" + ids["p1"], `{"project": {"quota": {"virtual_network": %[1]d}}}`, 200, 403, 403, 403, 404, 404},
		{"rename project", "PUT", "/project/" + ids["p1"], `{"project": {"display_name": %q}}`, 200, 403, 200, 403, 404, 404},
		{"create project", "POST", "/projects", `{"project": {"fq_name": ["default-domain", %q]}}`, 200, 403, 400, 400, 400, 400},
		{"create router", "POST", "/virtual-routers", `{"virtual-router": {"fq_name": ["default-global-system-config", %q], "virtual_router_ip_address": "192.0.2.%[1]d"}}`, 200, 403, 400, 400, 400, 400},
		{"name to id", "POST", "/fqname-to-id", `{"type": "virtual-network", "fq_name": ["default-domain", "p1", "p1-virtual-network"]}`, 200, 200, 200, 200, 404, 403},
		{"id to name", "POST", "/id-to-fqname", `{"uuid": "` + ids["p1/virtual-network"] + `"}`, 200, 200, 200, 200, 404, 403},
		{"rights", "GET", "/obj-perms?uuid=" + ids["p1/virtual-network"], "", 200, 200, 200, 200, 404, 404},
		{"mode", "PUT", "/aaa-mode", `{"aaa-mode": "rbac"}`, 200, 403, 403, 403, 403, 403},
		{"metrics", "GET", "/metrics", "", 200, 200, 403, 403, 403, 403},
		{"inventory", "GET", "/inventory", "", 200, 200, 403, 403, 403, 403},
		{"types", "GET", "/", "", 200, 200, 200, 200, 200, 200},
		{"delete", "DELETE", "/security-group/" + ids["p1/security-group"], "", 0, 403, 0, 0, 404, 404},
	} {
		for j, who := range []struct {
			serve.User
			want int
		}{{cloud, tc.cloud}, {reader, tc.reader}, {admin1, tc.admin}, {member1, tc.member}, {admin2, tc.other}, {nobody, tc.without}} {
			if who.want == 0 {
				continue
			}
			body := tc.body
			unique := i*10 + j + 1
			switch {
			case strings.Contains(body, "%[1]d"):
				body = strings.ReplaceAll(body, "%[1]d", fmt.Sprint(unique%200+1))
				body = strings.ReplaceAll(body, "%q", fmt.Sprintf(`"n%d"`, unique))
			case strings.Contains(body, "%"):
				body = strings.NewReplacer("%q", fmt.Sprintf(`"n%d"`, unique), "%s", fmt.Sprintf("n%d", unique)).Replace(body)
			}
			if status, text := b.callAs(who.User, tc.method, tc.path, body); status != who.want {
				t.Errorf("%s by %s: %d %s, want %d", tc.what, who.Name, status, text, who.want)
			}
		}
	}
}

func TestListsShowOnlyWhatMayBeRead(t *testing.T) {
	b := newBench(t, testConfig())
	ids := b.tenants()
	list := func(u serve.User, query string) []string {
		t.Helper()
		status, text := b.callAs(u, "GET", "/virtual-networks"+query, "")
		if status != 200 {
			t.Fatalf("list by %s: %d %s", u.Name, status, text)
		}
		var out map[string][]struct{ UUID string }
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatal(err)
		}
		var uuids []string
		for _, o := range out["virtual-networks"] {
			uuids = append(uuids, o.UUID)
		}
		return uuids
	}
	one, two := ids["p1/virtual-network"], ids["p2/virtual-network"]
	if got := list(member1, ""); !slices.Equal(got, []string{one}) {
		t.Errorf("member of p1 sees %v, want %s", got, one)
	}
	if got := list(reader, ""); len(got) < 6 {
		t.Errorf("reader sees %d networks", len(got))
	}
	if status, text := b.callAs(member1, "GET", "/virtual-networks?count=true", ""); !strings.Contains(text, `{"count":1}`) {
		t.Errorf("count: %d %s", status, text)
	}
	// Shared with a tenant, with a domain, with all.
	domain := b.get("project", ids["p1"])["parent_uuid"].(string)
	for _, share := range []string{
		`"share": [{"tenant": "tenant:` + ids["p1"] + `", "tenant_access": 4}]`,
		`"share": [{"tenant": "domain:` + domain + `", "tenant_access": 4}]`,
		`"share": [], "global_access": 4`,
	} {
		b.json("POST", "/chmod", `{"uuid": "`+two+`", `+share+`}`)
		if got := list(member1, ""); !slices.Contains(got, two) {
			t.Errorf("member of p1 does not see what is shared by %s", share)
		}
		if status, text := b.callAs(member1, "PUT", "/virtual-network/"+two, `{"virtual-network": {"display_name": "x"}}`); status != 403 {
			t.Errorf("write with access 4: %d %s", status, text)
		}
	}
	b.json("POST", "/chmod", `{"uuid": "`+two+`", "share": [], "global_access": 0}`)
	if got := list(member1, ""); slices.Contains(got, two) {
		t.Error("no longer shared and still seen")
	}
}

func TestHiddenFromUsers(t *testing.T) {
	b := newBench(t, testConfig())
	b.create("project", `{"fq_name": ["default-domain", "p1"]}`)
	id := b.create("virtual-network", `{"fq_name": ["default-domain", "p1", "secret"], "parent_type": "project", "id_perms": {"user_visible": false}}`)
	if status, _ := b.callAs(admin1, "GET", "/virtual-network/"+id, ""); status != 404 {
		t.Errorf("read of an object that is not for users: %d", status)
	}
	if status, _ := b.callAs(reader, "GET", "/virtual-network/"+id, ""); status != 200 {
		t.Errorf("read by the reader: %d", status)
	}
}

func TestReferences(t *testing.T) {
	b := newBench(t, testConfig())
	ids := b.tenants()
	vn, policy := ids["p1/virtual-network"], ids["p2/network-policy"]
	refer := fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "network-policy", "ref-uuid": %q, "operation": "ADD", "attr": {"sequence": {"major": 1, "minor": 0}}}`, vn, policy)
	put := fmt.Sprintf(`{"virtual-network": {"network_policy_refs": [{"uuid": %q, "attr": {"sequence": {"major": 1, "minor": 0}}}]}}`, policy)
	try := func(access int, wantRef, wantPut int) {
		t.Helper()
		b.json("POST", "/chmod", fmt.Sprintf(`{"uuid": %q, "global_access": %d}`, policy, access))
		if status, text := b.callAs(admin1, "POST", "/ref-update", refer); status != wantRef {
			t.Errorf("ref-update with access %d: %d %s, want %d", access, status, text, wantRef)
		}
		if status, text := b.callAs(admin1, "PUT", "/virtual-network/"+vn, put); status != wantPut {
			t.Errorf("PUT with access %d: %d %s, want %d", access, status, text, wantPut)
		}
	}
	try(0, 404, 400)
	try(4, 403, 403)
	try(1, 200, 200)
	// What is referred to and no longer shown stays when the list is written again.
	b.json("POST", "/chmod", fmt.Sprintf(`{"uuid": %q, "global_access": 0}`, policy))
	if _, text := b.callAs(admin1, "GET", "/virtual-network/"+vn, ""); strings.Contains(text, policy) {
		t.Errorf("another tenant's policy is shown: %s", text)
	}
	if status, text := b.callAs(admin1, "PUT", "/virtual-network/"+vn, `{"virtual-network": {"network_policy_refs": []}}`); status != 200 {
		t.Fatalf("PUT: %d %s", status, text)
	}
	if refs := b.get("virtual-network", vn)["network_policy_refs"]; refs == nil {
		t.Error("a reference that the user does not see was removed")
	}
	// Back references and children, too.
	if _, text := b.callAs(admin2, "GET", "/network-policy/"+policy, ""); strings.Contains(text, vn) {
		t.Errorf("another tenant's network is shown as a back reference: %s", text)
	}
}

func TestOwners(t *testing.T) {
	b := newBench(t, testConfig())
	ids := b.tenants()
	owner := func(kind, id string) string {
		return b.get(kind, id)["perms2"].(map[string]any)["owner"].(string)
	}
	for what, got := range map[string]string{
		"project":             owner("project", ids["p1"]),
		"child of a project":  owner("virtual-network", ids["p1/virtual-network"]),
		"child of its child":  owner("floating-ip-pool", b.create("floating-ip-pool", `{"fq_name": ["default-domain", "p1", "p1-virtual-network", "pool"]}`)),
		"container's address": owner("instance-ip", b.attachedIn(ids["p1"])),
	} {
		if got != tenant(ids["p1"]) {
			t.Errorf("%s belongs to %s, want %s", what, got, tenant(ids["p1"]))
		}
	}
	if got := owner("virtual-DNS", b.create("virtual-DNS", `{"fq_name": ["default-domain", "dns"], "virtual_DNS_data": {"domain_name": "d", "default_ttl_seconds": 60, "record_order": "random"}}`)); got != "cloud-admin" {
		t.Errorf("child of a domain belongs to %s", got)
	}
	// Nobody gives to others what is not his.
	body := fmt.Sprintf(`{"virtual-network": {"fq_name": ["default-domain", "p1", "gift"], "parent_type": "project", "perms2": {"owner": %q}}}`, tenant(ids["p2"]))
	if status, text := b.callAs(admin1, "POST", "/virtual-networks", body); status != 403 {
		t.Errorf("create for another tenant: %d %s", status, text)
	}
}

// attachedIn attaches a container in a project and returns its instance-ip.
func (b *bench) attachedIn(project string) string {
	b.Helper()
	var name string
	b.api.graph.View(func(v *model.View) {
		o, _ := v.Find(project)
		name = o.GetMeta().Name()
	})
	r := request(b.join(1), containerID(), "attached")
	r.Network.Project = name
	return b.attach(r).Addresses[0].InstanceIpId
}
