package configapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/api/usageapi"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// secret is in the name of everything of the other tenant.
const secret = "xyzzy"

// twoTenants makes a tenant p1, and another whose names are secret, whose
// objects refer to each other in both directions as administrators may have
// linked them. It returns the other's objects by UUID.
func (b *bench) twoTenants() map[string]model.Kind {
	b.Helper()
	hidden := map[string]model.Kind{}
	make := func(kind, properties string) string {
		id := b.create(kind, properties)
		if strings.Contains(properties, secret) {
			hidden[id] = model.Kind(kind)
		}
		return id
	}
	node := b.join(1)
	ids := map[string]string{}
	for _, p := range []string{"p1", secret} {
		name := func(kind string) string { return fmt.Sprintf(`"fq_name": ["default-domain", %q, "%s-%s"]`, p, p, kind) }
		make("project", fmt.Sprintf(`{"fq_name": ["default-domain", %q]}`, p))
		for _, kind := range []string{"network-ipam", "network-policy", "security-group", "route-table", "tag"} {
			more := ""
			if kind == "network-policy" { // it is the other's network's, too
				more = fmt.Sprintf(`, "network_policy_entries": {"policy_rule": [{"direction": "<>", "protocol": "any", "ethertype": "IPv4", "action_list": {"simple_action": "pass"},
					"src_addresses": [{"virtual_network": "local"}], "dst_addresses": [{"network_policy": "default-domain:%s:%s-network-policy"}],
					"src_ports": [{"start_port": -1, "end_port": -1}], "dst_ports": [{"start_port": -1, "end_port": -1}]}]}`, p, p)
			}
			if kind == "tag" {
				more = fmt.Sprintf(`, "tag_type_name": "label", "tag_value": %q`, p)
			}
			n := name(kind)
			if kind == "tag" {
				n = fmt.Sprintf(`"fq_name": ["default-domain", %q, "label=%s"]`, p, p)
			}
			ids[p+kind] = make(kind, `{`+n+`, "parent_type": "project"`+more+`}`)
		}
		ids[p+"vn"] = make("virtual-network", `{`+name("vn")+`, "parent_type": "project", "annotations": {"key_value_pair": [{"key": "note", "value": "`+p+`"}]},
			"network_ipam_refs": [{"uuid": "`+ids[p+"network-ipam"]+`", "attr": `+subnetBlue+`}]}`)
		ids[p+"pool"] = make("floating-ip-pool", fmt.Sprintf(`{"fq_name": ["default-domain", %q, "%s-vn", "%s-pool"]}`, p, p, p))
		ids[p+"vmi"] = make("virtual-machine-interface", `{`+name("vmi")+`, "parent_type": "project", "virtual_network_refs": [{"uuid": "`+ids[p+"vn"]+`"}]}`)
		r := request(node, containerID(), p+"-vn")
		r.Network.Project, r.DisplayName = p, p+" task"
		at := b.attach(r)
		if p == secret {
			hidden[at.VirtualMachineId], hidden[at.InterfaceId] = model.KindVirtualMachine, model.KindVirtualMachineInterface
			hidden[at.Addresses[0].InstanceIpId] = model.KindInstanceIP
		}
		ids[p+"vm"] = at.VirtualMachineId
	}
	hidden[instanceOf(b, ids[secret+"vn"])] = model.KindRoutingInstance
	for _, of := range []model.Entity{{Kind: model.KindVirtualNetwork, UUID: ids[secret+"vn"]}, {Kind: model.KindSecurityGroup, UUID: ids[secret+"security-group"]}} {
		b.api.graph.View(func(v *model.View) {
			for _, o := range compile.AccessLists(v, of) {
				hidden[o.UUID] = o.Kind()
			}
		})
	}
	for _, l := range [][3]string{
		{"virtual-network", "vn", "network-policy"},
		{"virtual-network", "vn", "route-table"},
		{"virtual-machine-interface", "vmi", "security-group"},
		{"virtual-network", "vn", "tag"},
	} {
		for _, way := range [][2]string{{"p1", secret}, {secret, "p1"}} {
			b.json("POST", "/ref-update", fmt.Sprintf(`{"type": %q, "uuid": %q, "ref-type": %q, "ref-uuid": %q, "operation": "ADD", "attr": null}`,
				l[0], ids[way[0]+l[1]], l[2], ids[way[1]+l[2]]))
		}
	}
	return hidden
}

// instanceOf is the view that follows from a network.
func instanceOf(b *bench, network string) string {
	list := b.get("virtual-network", network)["routing_instances"].([]any)
	return list[0].(map[string]any)["uuid"].(string)
}

func TestNothingOfOthersIsShown(t *testing.T) {
	b := newBench(t, testConfig())
	hidden := b.twoTenants()
	var ids []string
	for id := range hidden {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	users := []struct {
		who string
		ctx context.Context
	}{{"admin", asUser(admin1)}, {"member", asUser(member1)}, {"nobody", asUser(nobody)}}
	// Else the test would find nothing where nothing is.
	if _, text, _ := b.call("GET", "/virtual-networks?detail=true", ""); !strings.Contains(text, secret) {
		t.Fatal("the administrator does not see the other tenant")
	}
	rapid.Check(t, func(rt *rapid.T) {
		user := rapid.SampledFrom(users).Draw(rt, "user")
		method, path, body := drawQuestion(rt, ids, hidden)
		ctx, cancel := context.WithTimeout(user.ctx, 20*time.Second)
		defer cancel()
		r := httptest.NewRequest(method, "http://api:8082"+path, strings.NewReader(body)).WithContext(ctx)
		w := httptest.NewRecorder()
		b.handler.ServeHTTP(initialOnly{w, cancel}, r)
		if w.Code >= 500 {
			rt.Fatalf("%s %s by %s: %d %s", method, path, user.who, w.Code, w.Body)
		}
		// What was asked for may be in the answer that it does not exist.
		asked, err := url.QueryUnescape(path)
		if err != nil {
			rt.Fatal(err)
		}
		asked += body
		text := w.Body.String() + fmt.Sprint(w.Header())
		for _, id := range ids {
			if strings.Contains(text, id) && !strings.Contains(asked, id) {
				rt.Fatalf("%s %s %s by %s shows %s %s: %s", method, path, body, user.who, hidden[id], id, text)
			}
		}
		if strings.Contains(text, secret) && !strings.Contains(asked, secret) {
			rt.Fatalf("%s %s %s by %s shows a name: %s", method, path, body, user.who, text)
		}
		if w.Code == 200 && strings.Contains(asked, secret) && strings.Contains(text, secret) {
			rt.Fatalf("%s %s %s by %s is answered: %s", method, path, body, user.who, text)
		}
	})
}

// drawQuestion draws a request that reads.
func drawQuestion(rt *rapid.T, ids []string, hidden map[string]model.Kind) (method, path, body string) {
	var kinds []model.Kind
	for _, t := range model.Types() {
		kinds = append(kinds, t.Kind)
	}
	id := rapid.SampledFrom(ids).Draw(rt, "id")
	kind := rapid.SampledFrom(append(kinds, hidden[id], hidden[id], model.KindVirtualNetwork, model.KindVirtualMachineInterface)).Draw(rt, "kind")
	t, _ := model.TypeOf(string(kind))
	q := url.Values{}
	for name, values := range map[string][]string{
		"detail": {"true"}, "count": {"true"}, "shared": {"true"}, "parent_id": {id}, "back_ref_id": {id}, "obj_uuids": {id}, "exclude_hrefs": {""},
		"fields":             {"network_policy_refs,security_group_refs,virtual_machine_interface_back_refs,virtual_networks,perms2,tag_refs,annotations"},
		"filters":            {`display_name=="` + secret + `-vn"`},
		"parent_fq_name_str": {"default-domain:" + secret},
		"page_limit":         {"1"},
		"fq_names":           {"default-domain:" + secret + ":" + secret + "-vn"},
		"page_marker":        {id},
		"exclude_children":   {""},
		"exclude_back_refs":  {""},
	} {
		if rapid.IntRange(0, 3).Draw(rt, name) == 0 {
			q.Set(name, values[0])
		}
	}
	name, err := json.Marshal([]string{"default-domain", secret, secret + "-vn"})
	if err != nil {
		rt.Fatal(err)
	}
	switch rapid.SampledFrom([]string{
		"list", "list", "list", "read", "own", "bulk", "name", "id", "perms", "collection", "count", "watch", "other",
	}).Draw(rt, "question") {
	case "list":
		return "GET", "/" + t.Collection() + "?" + q.Encode(), ""
	case "read":
		return "GET", "/" + string(hidden[id]) + "/" + id + "?" + q.Encode(), ""
	case "own":
		return "POST", "/list-bulk-collection", fmt.Sprintf(`{"type": %q, "detail": "true"}`, kind)
	case "bulk":
		return "POST", "/list-bulk-collection", fmt.Sprintf(`{"type": %q, "back_ref_id": %q, "detail": "true"}`, kind, id)
	case "name":
		return "POST", "/fqname-to-id", fmt.Sprintf(`{"type": "virtual-network", "fq_name": %s}`, name)
	case "id":
		return "POST", "/id-to-fqname", fmt.Sprintf(`{"uuid": %q}`, id)
	case "perms":
		return "GET", "/obj-perms?uuid=" + id, ""
	case "collection":
		return "GET", "/prop-collection-get?fields=annotations&uuid=" + id, ""
	case "count":
		return "POST", "/virtual-network/" + id + "/subnet-ip-count", `{"subnet_list": ["10.1.0.0/24"]}`
	case "watch":
		return "GET", "/watch?resource_type=" + string(kind), ""
	default:
		return "GET", rapid.SampledFrom([]string{
			"/", "/config-root", "/metrics", "/inventory", "/ipam", "/ipam?addresses=true", "/ipam?address=10.1.0.253", "/obj-cache",
			"/compile?network=default-domain:p1:p1-vn", "/compile?network=default-domain:" + secret + ":" + secret + "-vn", "/compile?network=" + id, "/openapi.json", "/aaa-mode", "/documentation/index.html", "/debug/graph", "/healthz", "/readyz",
		}).Draw(rt, "path"), ""
	}
}

// A member sees how full the networks of his project are, and whose the
// addresses in them are.
func TestMembersSeeTheAddressesOfTheirNetworks(t *testing.T) {
	b := newBench(t, testConfig())
	b.twoTenants()
	for path, want := range map[string]int{"/ipam": 0, "/ipam?addresses=true": 1, "/ipam?network=default-domain:p1:p1-vn&addresses=true": 1} {
		r := httptest.NewRequest("GET", "http://api:8082"+path, nil).WithContext(asUser(member1))
		w := httptest.NewRecorder()
		b.handler.ServeHTTP(w, r)
		var got usageapi.Answer
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		if len(got.Networks) != 1 || got.Networks[0].FQName[1] != "p1" || got.Networks[0].Subnets[0].Used != 1 || len(got.Networks[0].Addresses) != want {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
}

// initialOnly ends a stream of events after the initial state.
type initialOnly struct {
	*httptest.ResponseRecorder
	end func()
}

func (w initialOnly) Write(p []byte) (int, error) {
	n, err := w.ResponseRecorder.Write(p)
	if text := w.Body.Bytes(); bytes.HasPrefix(text, []byte("event: init\n")) && bytes.HasSuffix(text, []byte("]}\n\n")) {
		w.end()
	}
	return n, err
}

func TestOthersAreNotTouched(t *testing.T) {
	b := newBench(t, testConfig())
	hidden := b.twoTenants()
	before := b.dump()
	for id, kind := range hidden {
		for _, who := range []struct {
			name string
			ctx  context.Context
		}{{"admin", asUser(admin1)}, {"reader", asUser(reader)}, {"nobody", asUser(nobody)}} {
			for _, q := range [][3]string{
				{"DELETE", "/" + string(kind) + "/" + id, ""},
				{"PUT", "/" + string(kind) + "/" + id, fmt.Sprintf(`{%q: {"display_name": "taken"}}`, kind)},
				{"POST", "/chmod", fmt.Sprintf(`{"uuid": %q, "global_access": 7}`, id)},
				{"POST", "/chown", fmt.Sprintf(`{"uuid": %q, "owner": "00000000000040008000000000000001"}`, id)},
				{"POST", "/prop-collection-update", fmt.Sprintf(`{"uuid": %q, "updates": [{"field": "annotations", "operation": "set", "value": {"key": "a", "value": "b"}}]}`, id)},
				{"POST", "/set-tag", fmt.Sprintf(`{"obj_type": %q, "obj_uuid": %q, "label": null}`, kind, id)},
				{"POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "network-policy", "ref-fq-name": ["default-domain", "p1", "p1-network-policy"], "operation": "ADD"}`, id)},
				{"POST", "/virtual-network/" + id + "/ip-alloc", `{"count": 1}`},
			} {
				r := httptest.NewRequest(q[0], "http://api:8082"+q[1], strings.NewReader(q[2])).WithContext(who.ctx)
				w := httptest.NewRecorder()
				b.handler.ServeHTTP(w, r)
				if w.Code < 400 || w.Code >= 500 {
					t.Errorf("%s %s %s by %s: %d %s", q[0], q[1], q[2], who.name, w.Code, w.Body)
				}
				if text := w.Body.String(); who.name != "reader" && strings.Contains(text, secret) {
					t.Errorf("%s %s %s by %s shows a name: %s", q[0], q[1], q[2], who.name, text)
				}
			}
		}
	}
	after := b.dump()
	for k, v := range before {
		if after[k] != v {
			t.Errorf("%s was changed", k)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d keys, %d before", len(after), len(before))
	}
}
