package configapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/serve"
)

// allowFields replaces what the cluster's rules say of fields.
func (b *bench) allowFields(rules string) {
	b.Helper()
	id := b.json("POST", "/fqname-to-id", `{"type": "api-access-list", "fq_name": ["default-global-system-config", "default-api-access-list"]}`)["uuid"].(string)
	b.json("PUT", "/api-access-list/"+id, `{"api-access-list": {"api_access_list_entries": {"rbac_rule": [
		{"rule_object": "*", "rule_perms": [{"role_name": "admin", "role_crud": "CRUD"}, {"role_name": "member", "role_crud": "CRUD"}]}, `+rules+`]}}}`)
}

const onlyAdmins = `"rule_perms": [{"role_name": "admin", "role_crud": "CRUD"}, {"role_name": "member", "role_crud": ""}]`

// TestFieldsThatMayNotBeRead: a field that the rules keep from a role is in no
// answer to it, and no answer depends on it.
func TestFieldsThatMayNotBeRead(t *testing.T) {
	b := newBench(t, testConfig())
	ids := b.tenants()
	vn, policy, ipam := ids["p1/virtual-network"], ids["p1/network-policy"], ids["p1/network-ipam"]
	b.json("PUT", "/virtual-network/"+vn, fmt.Sprintf(`{"virtual-network": {"annotations": {"key_value_pair": [{"key": "k", "value": "sesame"}]}, "is_shared": true,
		"network_policy_refs": [{"uuid": %q, "attr": {"sequence": {"major": 71, "minor": 0}}}], "network_ipam_refs": [{"uuid": %q, "attr": %s}]}}`, policy, ipam, subnetBlue))
	b.allowFields(fmt.Sprintf(`{"rule_object": "virtual-network", "rule_field": "annotations", %[1]s},
		{"rule_object": "virtual-network", "rule_field": "network_policy_refs", %[1]s},
		{"rule_object": "virtual_network", "rule_field": "network_ipam_refs", %[1]s},
		{"rule_object": "virtual-network", "rule_field": "uuid", %[1]s},
		{"rule_object": "*", "rule_field": "perms2", %[1]s}`, onlyAdmins))
	path := "/virtual-network/" + vn
	hidden := []string{"sesame", `"annotations"`, `"network_policy_refs"`, `"network_ipam_refs"`, `"perms2"`, "10.1.0", `"major":71`}
	for _, question := range []string{
		path, path + "?fields=annotations,network_policy_refs,network_ipam_refs", "/virtual-networks?detail=true", "/virtual-networks?fields=annotations,perms2,network_policy_refs",
		"/network-policy/" + policy, "/network-policys?fields=virtual_network_back_refs", "/network-ipam/" + ipam, "/ipam",
	} {
		status, text := b.callAs(member1, "GET", question, "")
		if status != http.StatusOK {
			t.Errorf("%s: %d %s", question, status, text)
		}
		for _, h := range hidden {
			if strings.Contains(text, h) {
				t.Errorf("%s shows a member %s: %s", question, h, text)
			}
		}
		if strings.HasPrefix(question, path) && !strings.Contains(text, `"uuid":"`+vn+`"`) {
			t.Errorf("%s does not say which object it is: %s", question, text)
		}
		if _, text := b.callAs(admin1, "GET", question, ""); !strings.Contains(text, "sesame") && !strings.Contains(text, "10.1.0") && !strings.Contains(text, `"major":71`) {
			t.Errorf("%s does not show an admin what he may read: %s", question, text)
		}
	}
	for _, tc := range []struct {
		what, method, path, body string
		member, admin            string
	}{
		{"filter", "GET", `/virtual-networks?count=true&filters=annotations==%7B%22key_value_pair%22:%5B%7B%22key%22:%22k%22,%22value%22:%22sesame%22%7D%5D%7D`, "", `"count":0`, `"count":1`},
		{"filter for what is absent", "GET", `/virtual-networks?count=true&filters=annotations==null,is_shared==true`, "", `"count":1`, `"count":0`},
		{"back references", "GET", "/virtual-networks?count=true&back_ref_id=" + policy, "", `"count":0`, `"count":1`},
		{"elements", "GET", "/prop-collection-get?fields=annotations&uuid=" + vn, "", "Permission denied", "sesame"},
		{"counts of addresses", "POST", path + "/subnet-ip-count", `{"subnet_list": ["10.1.0.0/24"]}`, "Permission denied", "ip_count_list"},
		{"write what it is", "PUT", path, `{"virtual-network": {"annotations": {"key_value_pair": [{"key": "k", "value": "sesame"}]}}}`, "Permission denied", vn},
		{"write what it is not", "PUT", path, `{"virtual-network": {"annotations": {"key_value_pair": [{"key": "k", "value": "open"}]}}}`, "Permission denied", vn},
		{"write rights as they are", "PUT", path, `{"virtual-network": {"perms2": {"owner": "` + tenant(ids["p1"]) + `", "owner_access": 7, "global_access": 0, "share": []}}}`, "Permission denied", vn},
		{"write another field", "PUT", path, `{"virtual-network": {"display_name": "x"}}`, vn, vn},
		{"element that is there", "POST", "/prop-collection-update", `{"uuid": "` + vn + `", "updates": [{"field": "annotations", "operation": "delete", "position": "k"}]}`, "Permission denied", ""},
	} {
		if _, text := b.callAs(member1, tc.method, tc.path, tc.body); !strings.Contains(text, tc.member) {
			t.Errorf("%s by a member: %s, want %s", tc.what, text, tc.member)
		}
		if _, text := b.callAs(admin1, tc.method, tc.path, tc.body); !strings.Contains(text, tc.admin) {
			t.Errorf("%s by an admin: %s, want %s", tc.what, text, tc.admin)
		}
	}
	for _, u := range []struct {
		who  string
		want bool
	}{{"reader", true}, {"member", false}} {
		who := map[string]func() string{
			"reader": func() string { _, s := b.callAs(reader, "GET", "/virtual-network/"+vn, ""); return s },
			"member": func() string { _, s := b.callAs(member1, "GET", "/virtual-network/"+vn, ""); return s },
		}[u.who]
		if got := strings.Contains(who(), `"perms2"`); got != u.want {
			t.Errorf("%s sees perms2: %v", u.who, got)
		}
	}
}

// TestWatchLeavesFieldsOut: streams follow rules that change.
func TestWatchLeavesFieldsOut(t *testing.T) {
	b := newBench(t, testConfig())
	ids := b.tenants()
	vn := "/virtual-network/" + ids["p1/virtual-network"]
	b.json("PUT", vn, `{"virtual-network": {"annotations": {"key_value_pair": [{"key": "k", "value": "sesame"}]}}}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.handler.ServeHTTP(w, r.WithContext(serve.WithCaller(r.Context(), serve.CallerOf(asUser(member1)))))
	}))
	defer server.Close()
	events := func() string {
		t.Helper()
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get(server.URL + "/watch?resource_type=virtual-network")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, part := "", make([]byte, 4096)
		for !strings.Contains(text, "\n\n") {
			n, err := resp.Body.Read(part)
			if text += string(part[:n]); err != nil {
				t.Fatal(err)
			}
		}
		return text
	}
	if text := events(); !strings.Contains(text, "sesame") {
		t.Errorf("a member does not see what he may read: %s", text)
	}
	b.allowFields(`{"rule_object": "virtual-network", "rule_field": "annotations", ` + onlyAdmins + `}`)
	if text := events(); strings.Contains(text, "sesame") || !strings.Contains(text, ids["p1/virtual-network"]) {
		t.Errorf("a member sees a field that he may not read: %s", text)
	}
}

// TestNoOracles: answers that refuse do not tell what they refuse.
func TestNoOracles(t *testing.T) {
	b := newBench(t, testConfig())
	ids := b.tenants()
	vn, other := ids["p1/virtual-network"], ids["p2/virtual-network"]
	group := ids["p2/security-group"]
	view := instanceOf(b, other)
	name := func(kind, fq string) string {
		return fmt.Sprintf(`{%q: {"fq_name": %s}}`, kind, fq)
	}
	right, wrong := `["default-domain","p2","p2-virtual-network","p2-virtual-network"]`, `["default-domain","p2","x","x"]`
	same := func(what string, first, second func() (int, string)) {
		t.Helper()
		s1, t1 := first()
		s2, t2 := second()
		if s1 != s2 || t1 != t2 {
			t.Errorf("%s: %d %s, and %d %s", what, s1, t1, s2, t2)
		}
	}
	as := func(method, path, body string) func() (int, string) {
		return func() (int, string) { return b.callAs(admin1, method, path, body) }
	}
	// The view of another tenant's network.
	same("write a view", as("PUT", "/routing-instance/"+view, name("routing-instance", right)), as("PUT", "/routing-instance/"+view, name("routing-instance", wrong)))
	for _, method := range []string{"PUT", "DELETE"} {
		if status, text := b.callAs(admin1, method, "/routing-instance/"+view, `{"routing-instance": {}}`); status != 404 {
			t.Errorf("%s of a view of another tenant: %d %s", method, status, text)
		}
	}
	// What may only be referred to, or only be read.
	b.json("POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "network-policy", "ref-uuid": %q, "operation": "ADD", "attr": {"sequence": {"major": 71, "minor": 0}}}`, other, ids["p2/network-policy"]))
	b.json("PUT", "/virtual-network/"+other, `{"virtual-network": {"annotations": {"key_value_pair": [{"key": "k", "value": "sesame"}]}}}`)
	for _, access := range []int{1, 4} {
		b.json("POST", "/chmod", fmt.Sprintf(`{"uuid": %q, "global_access": %d}`, other, access))
		relax := func(to string) func() (int, string) {
			return as("POST", "/ref-relax-for-delete", fmt.Sprintf(`{"uuid": %q, "ref-uuid": %q}`, other, to))
		}
		same("ref-relax-for-delete", relax(ids["p2/network-policy"]), relax(group))
		set := func(position string) func() (int, string) {
			return as("POST", "/prop-collection-update", fmt.Sprintf(`{"uuid": %q, "updates": [{"field": "annotations", "operation": "delete", "position": %q}, {"field": "annotations", "operation": "modify", "position": "k"}]}`, other, position))
		}
		same("prop-collection-update", set("k"), set("x"))
	}
	// Which of the networks that he reads refer to what he does not know.
	same("back_ref_id", as("GET", "/virtual-networks?count=true&back_ref_id="+ids["p2/network-policy"], ""), as("GET", "/virtual-networks?count=true&back_ref_id="+group, ""))
	// Attributes belong to who refers: who may only be referred to does not show them.
	b.json("POST", "/chmod", fmt.Sprintf(`{"uuid": %q, "global_access": 4}`, ids["p2/network-policy"]))
	b.json("POST", "/chmod", fmt.Sprintf(`{"uuid": %q, "global_access": 1}`, other))
	if _, text := b.callAs(admin1, "GET", "/network-policy/"+ids["p2/network-policy"], ""); strings.Contains(text, `"major":71`) || !strings.Contains(text, other) {
		t.Errorf("back references of what may only be referred to: %s", text)
	}
	// Nobody hides objects from his own project.
	body := `{"virtual-network": {"fq_name": ["default-domain", "p1", "ghost"], "parent_type": "project", "id_perms": {"user_visible": false}}}`
	if status, text := b.callAs(member1, "POST", "/virtual-networks", body); status != 403 {
		t.Errorf("create what only administrators see: %d %s", status, text)
	}
	if status, text := b.callAs(member1, "POST", "/virtual-networks", strings.Replace(body, "false", "true", 1)); status != 200 {
		t.Errorf("create what everybody sees: %d %s", status, text)
	}
	// Tags that he does not see stay.
	b.create("tag", `{"tag_type_name": "label", "tag_value": "audit", "fq_name": ["x"], "id_perms": {"user_visible": false}}`)
	b.json("POST", "/set-tag", fmt.Sprintf(`{"obj_type": "virtual-network", "obj_uuid": %q, "label": {"is_global": true, "add_values": ["audit"]}}`, vn))
	if status, text := b.callAs(admin1, "POST", "/set-tag", fmt.Sprintf(`{"obj_type": "virtual-network", "obj_uuid": %q, "label": null}`, vn)); status != 200 {
		t.Errorf("set-tag: %d %s", status, text)
	}
	if b.get("virtual-network", vn)["tag_refs"] == nil {
		t.Error("a tag that the user does not see was removed")
	}
}
