package configapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/compile"
)

// serviceOf makes a service-instance of a project, with its template.
func (b *bench) serviceOf(project, name string) string {
	b.Helper()
	b.create("service-template", fmt.Sprintf(`{"fq_name": ["default-domain", %q], "parent_type": "domain", "service_template_properties": {"service_mode": "in-network"}}`, name))
	return b.create("service-instance", fmt.Sprintf(`{"fq_name": ["default-domain", %q, %q], "parent_type": "project",
		"service_template_refs": [{"to": ["default-domain", %q]}]}`, project, name, name))
}

// chain has a policy lead between two networks through a service of its
// project.
func (b *bench) chain(project, service, from, to string) string {
	b.Helper()
	policy := strings.Replace(policyBetween(project, "chain", from, to), `{"simple_action": "pass"}`,
		fmt.Sprintf(`{"simple_action": "pass", "apply_service": ["default-domain:%s:%s"]}`, project, service), 1)
	return b.create("network-policy", policy)
}

// TestPassageNumbers: a service takes the numbers of its forwarding tables with
// it, and a UUID that leads to one that is taken is refused.
func TestPassageNumbers(t *testing.T) {
	b := newBench(t, testConfig())
	b.create("project", `{"fq_name": ["default-domain", "p"]}`)
	service := b.serviceOf("p", "fw")
	b.noneOf("number/passage/", 2)
	b.fits()
	before := b.dump()
	_, err := b.api.write(b.ctx(), audit{"test", ""}, func(c *change) error { return c.takePassages(service) })
	if text := errorText(err); !strings.Contains(text, "the number that follows from it") || !strings.Contains(text, "is in use") {
		t.Errorf("taken twice: %v", err)
	}
	b.unchanged(before)
	b.json("DELETE", "/service-instance/"+service, "")
	b.noneOf("number/passage/", 0)
	b.fits()
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestServiceInstancesOfChains: the routing instances of a chain's services are
// shown below the networks at its ends while policies ask for it, to those who
// may read all that they tell of, and nobody may refer to them.
func TestServiceInstancesOfChains(t *testing.T) {
	b := newBench(t, testConfig())
	ids := b.tenants()
	mine, theirs := ids["p1/virtual-network"], ids["p2/virtual-network"]
	service := b.serviceOf("p1", "fw")
	name := func(id string) string { return fqName(b.get("virtual-network", id)) }
	policy := b.chain("p1", "fw", name(mine), name(theirs))
	b.refer("virtual-network", mine, "network-policy", policy, atSequence)
	own := b.uuids("virtual-network", mine, "routing_instances")
	if len(own) != 1 {
		t.Fatalf("asked for by one, there are %v", own)
	}
	if e := b.compiled(mine); len(e.Chains) != 1 || e.Chains[0].Theirs != nil || e.Chains[0].Services[0].Service.UUID != service {
		t.Errorf("explained as %+v", e.Chains)
	}
	b.refer("virtual-network", theirs, "network-policy", policy, atSequence)
	var views []string
	for _, network := range []string{mine, theirs} {
		list := slices.DeleteFunc(b.uuids("virtual-network", network, "routing_instances"), func(id string) bool { return !compile.IsServiceView(id) })
		if len(list) != 1 {
			t.Fatalf("%s has the services %v", network, list)
		}
		view := b.get("routing-instance", list[0])
		if text := fqName(view); !strings.HasPrefix(text, name(network)+":service-") || !strings.HasSuffix(text, "-default-domain_p1_fw") {
			t.Errorf("it is called %s", text)
		}
		if got := b.json("POST", "/fqname-to-id", fmt.Sprintf(`{"type": "routing-instance", "fq_name": ["%s"]}`, strings.ReplaceAll(fqName(view), ":", `", "`)))["uuid"]; got != list[0] {
			t.Errorf("by its name it is %v", got)
		}
		if got := b.uuids("routing-instance", compile.InstanceUUID(network), "routing_instance_back_refs"); !slices.Equal(got, list) {
			t.Errorf("the network's instance is referred to by %v", got)
		}
		views = append(views, list[0])
	}
	b.denies("POST", "/ref-update", `{"type": "routing-instance", "uuid": "`+compile.InstanceUUID(mine)+`", "ref-type": "routing-instance", "ref-uuid": "`+views[0]+`", "operation": "ADD"}`,
		http.StatusForbidden, "as long as policies lead through its service")
	// Those of p1 may not read the other network, those of p2 not the service.
	if status, text := b.callAs(member1, "GET", "/routing-instance/"+views[0], ""); status == 200 || strings.Contains(text, "fw") {
		t.Errorf("p1 reads of its side: %d %s", status, text)
	}
	if status, text := b.callAs(admin2, "GET", "/routing-instance/"+views[1], ""); status == 200 || strings.Contains(text, "fw") {
		t.Errorf("p2 reads of its side: %d %s", status, text)
	}
	if status, text := b.callAs(admin2, "GET", "/virtual-network/"+theirs, ""); status != 200 || strings.Contains(text, "fw") || strings.Contains(text, views[1]) {
		t.Errorf("p2 reads of its network: %d %s", status, text)
	}
	if status, text := b.callAs(admin2, "GET", "/routing-instance/"+compile.InstanceUUID(theirs), ""); status != 200 || strings.Contains(text, "fw") {
		t.Errorf("p2 reads of its network's instance: %d %s", status, text)
	}
	if status, text := b.callAs(admin2, "GET", "/compile?network="+theirs, ""); status != 200 || strings.Contains(text, "fw") {
		t.Errorf("p2 reads of what its network is compiled to: %d %s", status, text)
	}
	b.json("PUT", "/virtual-network/"+theirs, `{"virtual-network": {"perms2": {"owner": "`+strings.ReplaceAll(ids["p2"], "-", "")+`", "owner_access": 7, "global_access": 5, "share": []}}}`)
	if status, text := b.callAs(member1, "GET", "/routing-instance/"+views[0], ""); status != 200 || !strings.Contains(text, "_p1_fw") {
		t.Errorf("p1 reads %d %s", status, text)
	}
	b.fits()
	b.json("PUT", "/virtual-network/"+theirs, `{"virtual-network": {"network_policy_refs": []}}`)
	if got := b.uuids("virtual-network", mine, "routing_instances"); !slices.Equal(got, own) {
		t.Errorf("left are %v", got)
	}
	for _, view := range views {
		b.denies("GET", "/routing-instance/"+view, "", 404, view)
	}
}

// TestServicesOfOthersAreNotTold: what a network is compiled to does not tell
// whether another project has a service.
func TestServicesOfOthersAreNotTold(t *testing.T) {
	b := newBench(t, testConfig())
	ids := b.tenants()
	mine := ids["p1/virtual-network"]
	b.serviceOf("p2", "fw")
	name := fqName(b.get("virtual-network", mine))
	told := func(service string) string {
		policy := b.create("network-policy", strings.Replace(policyBetween("p1", "probe-"+service, name, "local"), `{"simple_action": "pass"}`,
			fmt.Sprintf(`{"simple_action": "pass", "apply_service": ["default-domain:p2:%s"]}`, service), 1))
		b.refer("virtual-network", mine, "network-policy", policy, atSequence)
		_, text := b.callAs(member1, "GET", "/compile?network="+mine, "")
		b.json("PUT", "/virtual-network/"+mine, `{"virtual-network": {"network_policy_refs": []}}`)
		var e compile.Explanation
		if err := json.Unmarshal([]byte(text), &e); err != nil || len(e.Problems) != 1 {
			t.Fatalf("%s: %s", service, text)
		}
		return strings.Replace(e.Problems[0].Text, service, "NAME", 1)
	}
	if there, absent := told("fw"), told("none"); there != absent {
		t.Errorf("of one that is there %q, of one that is not %q", there, absent)
	}
}

func fqName(o map[string]any) string {
	var words []string
	for _, w := range o["fq_name"].([]any) {
		words = append(words, w.(string))
	}
	return strings.Join(words, ":")
}
