package configapi

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// tune sets a tuning of the cluster.
func (b *bench) tune(name, value string) {
	b.Helper()
	b.json("PUT", "/global-system-config/"+b.uuidOf("global-system-config", systemConfig), tuning(name, value))
}

func tuning(name, value string) string {
	return fmt.Sprintf(`{"global-system-config": {"plugin_tuning": {"plugin_property": [{"property": %q, "value": %q}]}}}`, name, value)
}

// uuidOf is the UUID of an object by its name.
func (b *bench) uuidOf(kind string, name ...string) string {
	b.Helper()
	return b.json("POST", "/fqname-to-id", fmt.Sprintf(`{"type": %q, "fq_name": ["%s"]}`, kind, strings.Join(name, `", "`)))["uuid"].(string)
}

// groupsOf are the security groups of an interface, by name.
func (b *bench) groupsOf(vmi string) string {
	b.Helper()
	var names []string
	b.api.graph.View(func(v *model.View) {
		for r := range v.ReferenceSeq(vmi, model.KindSecurityGroup) {
			o, _ := v.Find(r.To.UUID)
			names = append(names, model.FQString(o.GetMeta().FQName))
		}
	})
	return strings.Join(names, " ")
}

// TestDefaultSecurityGroup: when asked, each project has a security group
// default, and what is attached there has it; it goes with the project, unless
// somebody has made it his own.
func TestDefaultSecurityGroup(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	old := b.attach(request(node, containerID(), "blue"))
	if groups := b.groupsOf(old.InterfaceId); groups != "" {
		t.Fatalf("nobody asked, and the port has %s", groups)
	}
	system := b.uuidOf("global-system-config", systemConfig)
	b.refused(400, `plugin_tuning.plugin_property[0].value`, "PUT", "/global-system-config/"+system, tuning(compile.TuneDefaultGroup, "yes"))
	b.tune(compile.TuneDefaultGroup, "true")

	// A project from before gets the group with the next port.
	const before = "default-domain:mesos-default:default"
	first := b.attach(request(node, containerID(), "blue"))
	second := b.attach(request(node, containerID(), "red"))
	if one, two := b.groupsOf(first.InterfaceId), b.groupsOf(second.InterfaceId); one != before || two != before {
		t.Errorf("ports have %q and %q, want %s", one, two, before)
	}
	group := b.get("security-group", b.uuidOf("security-group", "default-domain", "mesos-default", "default"))
	if rules := group["security_group_entries"].(map[string]any)["policy_rule"].([]any); len(rules) != 4 {
		t.Errorf("the group has rules %v", rules)
	}
	for _, at := range []string{first.InterfaceId, second.InterfaceId} {
		b.api.graph.View(func(v *model.View) {
			port := compile.PortOf(v, at)
			member := compile.End{Address: netip.MustParseAddr("10.0.0.3"), Groups: port.Groups}
			inside := compile.Packet{Protocol: 6, DstPort: 80, Src: member, Dst: member}
			if !port.Ingress.Evaluate(port.Network, inside).Pass {
				t.Errorf("a member does not reach another: %+v", port)
			}
			inside.Src.Groups = nil
			if port.Ingress.Evaluate(port.Network, inside).Pass {
				t.Errorf("a stranger reaches a member: %+v", port)
			}
			inside.Src, inside.Dst = inside.Dst, inside.Src
			if !port.Egress.Evaluate(port.Network, inside).Pass {
				t.Errorf("a member does not reach a stranger: %+v", port)
			}
		})
	}
	for _, a := range []*configv1.Attachment{first, second, old} {
		b.detach(a.Key)
	}
	b.noneOf("number/security-group/", 1) // that of __no_rule__
	b.denies("POST", "/fqname-to-id", `{"type": "project", "fq_name": ["default-domain", "mesos-default"]}`, 404, "")

	// A project that somebody makes has it at once, and loses it only with itself.
	project := b.create("project", `{"fq_name": ["default-domain", "mine"]}`)
	mine := b.uuidOf("security-group", "default-domain", "mine", "default")
	b.json("DELETE", "/project/"+project, "")
	b.denies("GET", "/security-group/"+mine, "", 404, "")
	project = b.create("project", `{"fq_name": ["default-domain", "mine"]}`)
	mine = b.uuidOf("security-group", "default-domain", "mine", "default")
	b.json("PUT", "/security-group/"+mine, `{"security-group": {"display_name": "ours"}}`)
	b.refused(409, "Delete when children still present", "DELETE", "/project/"+project, "")
	b.json("DELETE", "/security-group/"+mine, "")
	b.json("DELETE", "/project/"+project, "")

	b.tune(compile.TuneDefaultGroup, "false")
	project = b.create("project", `{"fq_name": ["default-domain", "mine"]}`)
	b.denies("POST", "/fqname-to-id", `{"type": "security-group", "fq_name": ["default-domain", "mine", "default"]}`, 404, "")
	b.json("DELETE", "/project/"+project, "")
}
