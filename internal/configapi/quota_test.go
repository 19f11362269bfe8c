package configapi

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	"github.com/contrail-mesos/contrail/internal/model"
)

// limit sets the quota of the project p of network().
func (b *bench) limit(quota string) {
	b.Helper()
	id := b.json("POST", "/fqname-to-id", `{"type": "project", "fq_name": ["default-domain", "p"]}`)["uuid"].(string)
	b.json("PUT", "/project/"+id, `{"project": {"quota": `+quota+`}}`)
}

func TestQuota(t *testing.T) {
	b := newBench(t, testConfig())
	vn := b.network()
	const rule = `{"protocol": "any", "src_addresses": [{"security_group": "local"}], "dst_addresses": [{"subnet": {"ip_prefix": "0.0.0.0", "ip_prefix_len": 0}}]}`
	pool := b.create("floating-ip-pool", `{"fq_name": ["default-domain", "p", "blue", "pool"]}`)
	_ = pool
	lb := b.create("loadbalancer-pool", `{"fq_name": ["default-domain", "p", "lb"]}`)
	_ = lb
	// Each is made once within a limit, and refused the second time.
	for _, c := range []struct{ quota, kind, properties string }{
		{`{"network_policy": 1}`, "network-policy", `{"fq_name": ["default-domain", "p", "NAME"]}`},
		{`{"defaults": 1}`, "route-table", `{"fq_name": ["default-domain", "p", "NAME"]}`},
		{`{"defaults": 0, "logical_router": 1}`, "logical-router", `{"fq_name": ["default-domain", "p", "NAME"]}`},
		{`{"virtual_network": 2}`, "virtual-network", `{"fq_name": ["default-domain", "p", "NAME"]}`},
		{`{"floating_ip_pool": 2}`, "floating-ip-pool", `{"fq_name": ["default-domain", "p", "blue", "NAME"]}`},
		{`{"floating_ip": 1}`, "floating-ip", `{"fq_name": ["default-domain", "p", "blue", "pool", "NAME"], "parent_type": "floating-ip-pool", "project_refs": [{"to": ["default-domain", "p"]}]}`},
		{`{"instance_ip": 2}`, "instance-ip", `{"fq_name": ["NAME"], "virtual_network_refs": [{"uuid": "` + vn + `"}]}`},
		{`{"loadbalancer_member": 1}`, "loadbalancer-member", `{"fq_name": ["default-domain", "p", "lb", "NAME"]}`},
		{`{"virtual_machine_interface": 1}`, "virtual-machine-interface", `{"fq_name": ["default-domain", "p", "NAME"], "parent_type": "project", "virtual_network_refs": [{"uuid": "` + vn + `"}]}`},
		{`{"security_group_rule": 2}`, "security-group", `{"fq_name": ["default-domain", "p", "NAME"], "security_group_entries": {"policy_rule": [` + rule + `]}}`},
	} {
		t.Run(c.kind, func(t *testing.T) {
			b.limit(c.quota)
			defer b.limit(`{}`)
			limit := 0
			for n := 0; ; n++ {
				body := fmt.Sprintf(`{%q: %s}`, c.kind, strings.ReplaceAll(c.properties, "NAME", fmt.Sprint("q", n)))
				status, text, _ := b.call("POST", "/"+c.kind+"s", body)
				if status == http.StatusOK && n < 3 {
					limit++
					continue
				}
				resource := model.Kind(c.kind).Name()
				if strings.Contains(c.quota, ruleQuota) {
					resource = ruleQuota
				}
				if limit == 0 || status != http.StatusPreconditionFailed || !strings.HasPrefix(text, "quota limit (") || !strings.HasSuffix(text, ") exceeded for resource "+resource) {
					t.Errorf("after %d: %d %s", limit, status, text)
				}
				b.refused(http.StatusPreconditionFailed, "exceeded for resource "+resource, "POST", "/"+c.kind+"s", body)
				break
			}
		})
	}
	b.limit(`{"virtual_network": -1, "network_policy": 0}`)
	b.create("virtual-network", `{"fq_name": ["default-domain", "p", "any"]}`)
	// A project that has more than it may can still be tidied up and changed.
	b.json("PUT", "/virtual-network/"+vn, `{"virtual-network": {"display_name": "x"}}`)
	id := b.json("POST", "/fqname-to-id", `{"type": "network-policy", "fq_name": ["default-domain", "p", "q0"]}`)["uuid"].(string)
	b.json("PUT", "/network-policy/"+id, `{"network-policy": {"display_name": "x"}}`)
	b.json("DELETE", "/network-policy/"+id, "")
}

// Parts of objects count too: rules and subnets.
func TestQuotaOfParts(t *testing.T) {
	b := newBench(t, testConfig())
	vn := b.network()
	b.limit(`{"subnet": 1, "security_group_rule": 1}`)
	two := strings.Replace(subnetBlue, `[{"subnet"`, `[{"subnet": {"ip_prefix": "10.2.0.0", "ip_prefix_len": 24}}, {"subnet"`, 1)
	put := func(attr string) string {
		return `{"virtual-network": {"network_ipam_refs": [{"to": ["default-domain", "p", "ipam"], "attr": ` + attr + `}]}}`
	}
	b.refused(http.StatusPreconditionFailed, "quota limit (1) exceeded for resource subnet", "PUT", "/virtual-network/"+vn, put(two))
	b.json("PUT", "/virtual-network/"+vn, put(subnetBlue))
	rule := `{"protocol": "any", "src_addresses": [{"security_group": "local"}], "dst_addresses": [{"security_group": "any"}]}`
	sg := b.create("security-group", `{"fq_name": ["default-domain", "p", "sg"], "security_group_entries": {"policy_rule": [`+rule+`]}}`)
	b.refused(http.StatusPreconditionFailed, "quota limit (1) exceeded for resource security_group_rule", "PUT", "/security-group/"+sg,
		`{"security-group": {"security_group_entries": {"policy_rule": [`+rule+`,`+rule+`]}}}`)
}

func TestDomainLimits(t *testing.T) {
	b := newBench(t, testConfig())
	domain := b.create("domain", `{"fq_name": ["d"], "domain_limits": {"project_limit": 2, "virtual_network_limit": 1, "security_group_limit": 1}}`)
	b.create("project", `{"fq_name": ["d", "a"]}`)
	b.create("project", `{"fq_name": ["d", "b"]}`)
	b.refused(412, "quota limit (2) exceeded for resource project", "POST", "/projects", `{"project": {"fq_name": ["d", "c"]}}`)
	b.create("virtual-network", `{"fq_name": ["d", "a", "n"]}`)
	b.refused(412, "quota limit (1) exceeded for resource virtual_network", "POST", "/virtual-networks", `{"virtual-network": {"fq_name": ["d", "b", "n"]}}`)
	b.create("security-group", `{"fq_name": ["d", "b", "s"]}`)
	b.refused(412, "quota limit (1) exceeded for resource security_group", "POST", "/security-groups", `{"security-group": {"fq_name": ["d", "a", "s"]}}`)
	b.json("PUT", "/domain/"+domain, `{"domain": {"domain_limits": {"project_limit": -1}}}`)
	b.create("project", `{"fq_name": ["d", "c"]}`)
}

// The composite attachment counts like the requests that it stands for.
func TestQuotaOfAttachments(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	first := request(node, containerID(), "blue")
	made := b.attach(first)
	b.json("PUT", "/project/"+made.ProjectId, `{"project": {"quota": {"virtual_machine_interface": 2}}}`)
	b.attach(request(node, containerID(), "blue"))
	before := b.dump()
	_, err := b.api.attach(b.ctx(), request(node, containerID(), "blue"))
	if code(err) != connect.CodeResourceExhausted || !strings.Contains(fmt.Sprint(err), "quota limit (2) exceeded for resource virtual_machine_interface") {
		t.Errorf("attach beyond the quota: %v", err)
	}
	if len(b.dump()) != len(before) {
		t.Error("the refused attachment left something")
	}
	b.detach(first.Key)
	b.attach(request(node, containerID(), "blue"))
}

// Writers on two controllers that race for the last places never get more
// than there are.
func TestQuotaRace(t *testing.T) {
	b := newBench(t, testConfig())
	c := openBench(t, b.prefix, testConfig())
	b.network()
	const limit, writers = 7, 24
	b.limit(fmt.Sprintf(`{"network_policy": %d}`, limit))
	head, err := b.store.Head(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.api.catchUp(c.ctx(), head); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	status := make([]int, writers)
	for i := range writers {
		on := []*bench{b, c}[i%2]
		done.Go(func() {
			status[i], _, _ = on.call("POST", "/network-policys", fmt.Sprintf(`{"network-policy": {"fq_name": ["default-domain", "p", "np%d"]}}`, i))
		})
	}
	done.Wait()
	got := map[int]int{}
	for _, s := range status {
		got[s]++
	}
	if got[http.StatusOK] != limit || got[http.StatusPreconditionFailed] != writers-limit {
		t.Errorf("answers %v, want %d times 200", got, limit)
	}
}
