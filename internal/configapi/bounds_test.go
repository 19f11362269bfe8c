package configapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// many joins n elements with commas, or as many as fit into a body.
func many(n int, element func(i int) string) string {
	var b strings.Builder
	for i := range n {
		e := element(i)
		if b.Len()+len(e) > maxBody-2000 {
			break
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(e)
	}
	return b.String()
}

// TestLargeRequests: whatever a member of one project sends in one request,
// nobody waits long for it.
func TestLargeRequests(t *testing.T) {
	b := newBench(t, testConfig())
	ids := b.tenants()
	vn, ipam, policy := ids["p1/virtual-network"], ids["p1/network-ipam"], ids["p1/network-policy"]
	for i := range 60 {
		b.create("security-group", fmt.Sprintf(`{"fq_name": ["default-domain", "p1", "g%d"], "parent_type": "project", "annotations": {"key_value_pair": [{"key": "k", "value": %q}]}}`, i, strings.Repeat("x", 1000)))
	}
	vmi := b.create("virtual-machine-interface", fmt.Sprintf(`{"fq_name": ["default-domain", "p1", "vmi"], "parent_type": "project", "virtual_network_refs": [{"uuid": %q}]}`, vn))
	b.create("tag", `{"tag_type_name": "label", "tag_value": "a", "fq_name": ["default-domain", "p1", "x"], "parent_type": "project"}`)
	named := func(format string) func(int) string {
		return func(i int) string { return fmt.Sprintf(format, i) }
	}
	id := named("00000000-0000-4000-8000-%012d")
	address := func(format string) func(int) string {
		return func(i int) string {
			return strings.ReplaceAll(format, "@", fmt.Sprintf("10.%d.%d.%d", i>>14, i>>6&255, i<<2&255))
		}
	}
	subnets := func(list string) string {
		return fmt.Sprintf(`{"virtual-network": {"network_ipam_refs": [{"uuid": %q, "attr": {"ipam_subnets": [%s]}}]}}`, ipam, list)
	}
	update := func(format string, n int) string {
		return fmt.Sprintf(`{"uuid": %q, "updates": [%s]}`, policy, many(n, named(format)))
	}
	for _, tc := range []struct {
		what, method, path, body string
		want                     int
	}{
		{"allocation pools", "PUT", "/virtual-network/" + vn, subnets(`{"subnet": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 8}, "allocation_pools": [` + many(1e5, address(`{"start":"@","end":"@"}`)) + `]}`), 400},
		{"subnets", "PUT", "/virtual-network/" + vn, subnets(many(1e5, address(`{"subnet":{"ip_prefix":"@","ip_prefix_len":30}}`))), 400},
		{"as many subnets as there may be", "PUT", "/virtual-network/" + vn, subnets(many(maxRanges, address(`{"subnet":{"ip_prefix":"@","ip_prefix_len":30}}`))), 200},
		{"as many subnets again", "PUT", "/virtual-network/" + vn, subnets(many(maxRanges, address(`{"subnet":{"ip_prefix":"@","ip_prefix_len":30}}`))), 200},
		{"addresses of many subnets", "POST", "/virtual-network/" + vn + "/ip-alloc", `{"count": 256}`, 200},
		{"flat subnets", "POST", "/network-ipams", `{"network-ipam": {"fq_name": ["default-domain", "p1", "flat"], "ipam_subnet_method": "flat-subnet", "ipam_subnets": {"subnets": [` + many(1e5, address(`{"subnet":{"ip_prefix":"@","ip_prefix_len":30}}`)) + `]}}}`, 400},
		{"MAC addresses", "PUT", "/virtual-machine-interface/" + vmi, `{"virtual-machine-interface": {"virtual_machine_interface_mac_addresses": {"mac_address": [` + many(1e5, func(i int) string { return fmt.Sprintf(`"02:00:00:%02x:%02x:%02x"`, i>>16, i>>8&255, i&255) }) + `]}}}`, 400},
		{"elements that come", "POST", "/prop-collection-update", update(`{"field":"annotations","operation":"set","value":{"key":"%d","value":"v"}}`, 1e5), 200},
		{"elements that go", "POST", "/prop-collection-update", update(`{"field":"annotations","operation":"delete","position":"%d"}`, 1e5), 200},
		{"elements of a list", "POST", "/prop-collection-update", strings.ReplaceAll(update(`{"field":"virtual_machine_interface_fat_flow_protocols","operation":"add","value":{"protocol":"tcp","port":%d}}`, 9000), policy, vmi), 200},
		{"elements again and again", "GET", "/prop-collection-get?uuid=" + policy + "&fields=" + many(4000, func(int) string { return "annotations" }), "", 200},
		{"fields", "POST", "/list-bulk-collection", `{"type": "security-group", "detail": true, "fields": "access_control_lists,` + many(1e5, named("f%d")) + `"}`, 400},
		{"filters", "POST", "/list-bulk-collection", `{"type": "security-group", "filters": "` + many(1e5, named("f%d==null")) + `"}`, 400},
		{"values of a filter", "POST", "/list-bulk-collection", `{"type": "security-group", "filters": "` + many(1e5, named("annotations==%d")) + `"}`, 200},
		{"referred to", "POST", "/list-bulk-collection", `{"type": "virtual-machine-interface", "shared": true, "back_ref_id": "` + many(1e5, id) + `"}`, 200},
		{"tags", "POST", "/set-tag", fmt.Sprintf(`{"obj_type": "virtual-network", "obj_uuid": %q, "label": {"add_values": [%s], "delete_values": [%s]}}`, vn, many(4e4, func(int) string { return `"a"` }), many(4e4, named(`"a%d"`))), 400},
		{"types of tags", "POST", "/set-tag", fmt.Sprintf(`{"obj_type": "virtual-network", "obj_uuid": %q, %s}`, vn, many(4e4, named(`"t%d":null`))), 400},
		{"names", "POST", "/virtual-networks", `{"virtual-network": {"parent_type": "project", "fq_name": [` + many(1e5, func(int) string { return `"a"` }) + `]}}`, 400},
	} {
		// A write that decides for longer than it may take is refused; what is
		// guarded against takes minutes.
		began := time.Now()
		status, text := b.callAs(admin1, tc.method, tc.path, tc.body)
		if status != tc.want {
			t.Errorf("%s: %d %.200s, want %d", tc.what, status, text, tc.want)
		}
		t.Logf("%s: %s", tc.what, time.Since(began))
	}
}

// TestNetworksGrowTogether: flat subnets count for each network that has them.
func TestNetworksGrowTogether(t *testing.T) {
	b := newBench(t, testConfig())
	b.create("project", `{"fq_name": ["default-domain", "p"]}`)
	half := func(second int) string {
		return many(maxRanges/2+1, func(i int) string {
			return fmt.Sprintf(`{"subnet": {"ip_prefix": "10.%d.%d.%d", "ip_prefix_len": 30}}`, second, i>>6, i<<2&255)
		})
	}
	var refs []string
	for i := range 2 {
		id := b.create("network-ipam", fmt.Sprintf(`{"fq_name": ["default-domain", "p", "flat%d"], "ipam_subnet_method": "flat-subnet"}`, i))
		refs = append(refs, fmt.Sprintf(`{"uuid": %q}`, id))
	}
	b.create("virtual-network", `{"fq_name": ["default-domain", "p", "vn"], "parent_type": "project", "network_ipam_refs": [`+strings.Join(refs, ",")+`]}`)
	for i, want := range []int{http.StatusOK, http.StatusConflict} {
		path := "/network-ipam/" + strings.Trim(strings.TrimPrefix(refs[i], `{"uuid": `), `"}`)
		status, text, _ := b.call("PUT", path, `{"network-ipam": {"ipam_subnets": {"subnets": [`+half(i)+`]}}}`)
		if status != want {
			t.Errorf("subnets of IPAM %d: %d %s, want %d", i, status, text, want)
		}
	}
}

// TestWatchersOfOneUser: one user does not take the streams of all.
func TestWatchersOfOneUser(t *testing.T) {
	var w watchersOf
	var leave []func()
	for i := range maxWatchersOfUser {
		f, err := w.enter(serve.CallerOf(asUser(member1)))
		if err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		leave = append(leave, f)
	}
	if _, err := w.enter(serve.CallerOf(asUser(member1))); err == nil || httpStatus(err) != http.StatusTooManyRequests {
		t.Errorf("one more: %v", err)
	}
	if f, err := w.enter(serve.CallerOf(asUser(admin2))); err != nil {
		t.Errorf("another user: %v", err)
	} else {
		f()
	}
	for _, f := range leave {
		f()
	}
	if len(w.count) != 0 {
		t.Errorf("after all have left: %v", w.count)
	}
}

// TestReportIsBounded: a node cannot fill the store with what it says that it runs.
func TestReportIsBounded(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	r := &configv1.SettleRequest{Node: node, Seen: protoPosition(b.api.graph.Position())}
	for range maxReported + 1 {
		r.Running = append(r.Running, &configv1.Running{})
	}
	if _, err := b.api.settle(as(ctls.RoleNode, node), r); code(err) != connect.CodeInvalidArgument {
		t.Errorf("a report of %d attachments: %v", len(r.Running), err)
	}
}

// TestPositionOfNoAnswer: nobody waits for what will not come.
func TestPositionOfNoAnswer(t *testing.T) {
	b := newBench(t, testConfig())
	at := b.api.graph.Position()
	for text, want := range map[string]int{
		fmt.Sprintf("%d.%d", at.Epoch, at.Revision):     http.StatusOK,
		fmt.Sprintf("%d.9223372036854775807", at.Epoch): http.StatusBadRequest,
		"0.9223372036854775807":                         http.StatusOK,
	} {
		r := httptest.NewRequest("GET", "/projects", nil).WithContext(b.ctx())
		r.Header.Set(positionHeader, text)
		w := httptest.NewRecorder()
		began := time.Now()
		b.handler.ServeHTTP(w, r)
		if w.Code != want || time.Since(began) > b.api.readWait/2 {
			t.Errorf("position %s: %d %s after %s, want %d", text, w.Code, w.Body, time.Since(began), want)
		}
	}
}
