package configapi

import (
	"fmt"
	"strings"
	"testing"
)

// TestGroupsAndTagsOfAPort: a port gets no more security groups and tags than a
// vRouter knows, by whatever request they would come, and whichever object of
// those that it is in would have them.
func TestGroupsAndTagsOfAPort(t *testing.T) {
	b := newBench(t, testConfig())
	project := b.create("project", `{"fq_name": ["default-domain", "p"]}`)
	network := b.create("virtual-network", `{"fq_name": ["default-domain", "p", "n"]}`)
	machine := b.create("virtual-machine", `{"fq_name": ["m"]}`)
	port := b.create("virtual-machine-interface", fmt.Sprintf(`{"fq_name": ["default-domain", "p", "i"], "parent_type": "project",
		"virtual_network_refs": [{"uuid": %q}], "virtual_machine_refs": [{"uuid": %q}]}`, network, machine))
	tag := func(typ, value string) string {
		return b.create("tag", fmt.Sprintf(`{"fq_name": ["%s=%s"], "tag_type_name": %q, "tag_value": %q}`, typ, value, typ, value))
	}
	const own = maxGroupsAndTags - 4
	values := ""
	for i := range own + 10 {
		tag("label", fmt.Sprint(i))
		if i < own {
			values += fmt.Sprintf(`, "%d"`, i)
		}
	}
	tags := func(kind, id, add string) string {
		return fmt.Sprintf(`{"obj_type": %q, "obj_uuid": %q, "label": {"is_global": true, "add_values": [%s]}}`, kind, id, add)
	}
	b.json("POST", "/set-tag", tags("virtual-machine-interface", port, values[2:]))
	b.json("POST", "/set-tag", tags("virtual-machine", machine, fmt.Sprintf(`"%d"`, own)))
	b.json("POST", "/set-tag", tags("virtual-network", network, fmt.Sprintf(`"%d"`, own+1)))
	b.json("POST", "/set-tag", tags("project", project, fmt.Sprintf(`"%d"`, own+2)))
	// The same label twice counts once, and of another type the inner one hides the outer.
	b.json("POST", "/set-tag", tags("project", project, `"0", "1", "2"`))
	var groups []string
	for i := range 2 {
		groups = append(groups, b.create("security-group", fmt.Sprintf(`{"fq_name": ["default-domain", "p", "g%d"]}`, i)))
	}
	refer := func(operation, group string) string {
		return fmt.Sprintf(`{"type": "virtual-machine-interface", "uuid": %q, "ref-type": "security-group", "ref-uuid": %q, "operation": %q}`, port, group, operation)
	}
	b.json("POST", "/ref-update", refer("ADD", groups[0])) // that is all there can be
	says := func(by string) string {
		return fmt.Sprintf("virtual-machine-interface %s would have 127 security groups and tags, with the tags of its machine, network and project; at most 126 are possible", by)
	}
	more := fmt.Sprintf(`"%d"`, own+5)
	b.refused(400, "security_group_refs of virtual-machine-interface/"+port+": "+says(port), "POST", "/ref-update", refer("ADD", groups[1]))
	b.refused(400, says(port), "PUT", "/virtual-machine-interface/"+port, fmt.Sprintf(`{"virtual-machine-interface": {"security_group_refs": [{"uuid": %q}, {"uuid": %q}]}}`, groups[0], groups[1]))
	b.refused(400, "tag_refs of virtual-machine-interface/"+port+": "+says(port), "POST", "/set-tag", tags("virtual-machine-interface", port, more))
	for kind, id := range map[string]string{"virtual-machine": machine, "virtual-network": network, "project": project} {
		b.refused(400, "tag_refs of "+kind+"/"+id+": "+says(port), "POST", "/set-tag", tags(kind, id, more))
	}
	other := b.create("virtual-network", `{"fq_name": ["default-domain", "p", "other"]}`)
	b.json("POST", "/set-tag", tags("virtual-network", other, more+fmt.Sprintf(`, "%d"`, own+6)))
	b.refused(400, says(port), "PUT", "/virtual-machine-interface/"+port, fmt.Sprintf(`{"virtual-machine-interface": {"virtual_network_refs": [{"uuid": %q}]}}`, other))
	b.json("DELETE", "/virtual-network/"+other, "")

	b.json("POST", "/ref-update", refer("DELETE", groups[0]))
	b.json("POST", "/ref-update", refer("ADD", groups[1]))
	b.json("PUT", "/virtual-machine-interface/"+port, `{"virtual-machine-interface": {"display_name": "x"}}`)
}

// TestPortsOfOthersAreNotNamed: who tags a network that others use does not learn
// which ports they have there.
func TestPortsOfOthersAreNotNamed(t *testing.T) {
	b := newBench(t, testConfig())
	ids := b.tenants()
	network := ids["p1/virtual-network"]
	port := b.create("virtual-machine-interface", fmt.Sprintf(`{"fq_name": ["default-domain", "p2", "i"], "parent_type": "project", "virtual_network_refs": [{"uuid": %q}]}`, network))
	values := ""
	for i := range maxGroupsAndTags {
		b.create("tag", fmt.Sprintf(`{"fq_name": ["default-domain", "p2", "label=%d"], "parent_type": "project", "tag_type_name": "label", "tag_value": "%d"}`, i, i))
		values += fmt.Sprintf(`, "%d"`, i)
	}
	b.json("POST", "/set-tag", fmt.Sprintf(`{"obj_type": "virtual-machine-interface", "obj_uuid": %q, "label": {"add_values": [%s]}}`, port, values[2:]))
	b.create("tag", `{"fq_name": ["default-domain", "p1", "label=x"], "parent_type": "project", "tag_type_name": "label", "tag_value": "x"}`)
	add := fmt.Sprintf(`{"obj_type": "virtual-network", "obj_uuid": %q, "label": {"add_values": ["x"]}}`, network)
	status, text := b.callAs(admin1, "POST", "/set-tag", add)
	if status != 400 || strings.Contains(text, port) || !strings.Contains(text, "a virtual-machine-interface of another project would have too many security groups and tags") {
		t.Errorf("%d %s", status, text)
	}
	b.refused(400, "virtual-machine-interface "+port+" would have 127 security groups and tags", "POST", "/set-tag", add)
}
