package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// shortNames are those that people of the field say.
var shortNames = map[string]model.Kind{
	"aip": "alias-ip", "aipp": "alias-ip-pool", "aps": "application-policy-set", "bgp": "bgp-router",
	"bgpaas": "bgp-as-a-service", "acl": "access-control-list", "dom": "domain", "fip": "floating-ip",
	"fipp": "floating-ip-pool", "fp": "firewall-policy", "fr": "firewall-rule", "gsc": "global-system-config",
	"gvc": "global-vrouter-config", "iip": "instance-ip", "ipam": "network-ipam", "irt": "interface-route-table",
	"lb": "loadbalancer", "lr": "logical-router", "np": "network-policy",
	"pr": "physical-router", "proj": "project", "pt": "port-tuple", "qos": "qos-config", "ri": "routing-instance",
	"rp": "routing-policy", "rt": "route-target", "rtb": "route-table", "sg": "security-group",
	"shc": "service-health-check", "si": "service-instance", "st": "service-template", "vdns": "virtual-DNS",
	"vm": "virtual-machine", "vmi": "virtual-machine-interface", "vn": "virtual-network", "vr": "virtual-router",
	"vrf": "routing-instance",
	// The words that stand for the types that people look at most.
	"network": "virtual-network", "interface": "virtual-machine-interface", "policy": "network-policy",
}

// shortOf is the short name to show for a type, empty when it has none.
func shortOf(kind model.Kind) string {
	best := ""
	for short, k := range shortNames {
		if k == kind && len(short) <= 6 && (best == "" || len(short) < len(best) || len(short) == len(best) && short < best) {
			best = short
		}
	}
	return best
}

// FindType finds the type that a word means: its name with dashes or
// underscores, the name of its collection, the plural that people would write,
// or a short name.
func FindType(word string) (*model.Type, error) {
	lower := strings.ToLower(strings.ReplaceAll(word, "_", "-"))
	for _, candidate := range singulars(lower) {
		if kind, ok := shortNames[candidate]; ok {
			candidate = strings.ToLower(string(kind))
		}
		for _, t := range model.Types() {
			if strings.ToLower(string(t.Kind)) == candidate {
				return t, nil
			}
		}
	}
	if near := nearTypes(lower); len(near) > 0 {
		return nil, fmt.Errorf("there is no type %q; did you mean %s? `contrail types` lists all", word, strings.Join(near, " or "))
	}
	return nil, fmt.Errorf("there is no type %q; `contrail types` lists all", word)
}

// singulars are what a word may be the plural of, the word itself first.
func singulars(word string) []string {
	list := []string{word}
	if s, ok := strings.CutSuffix(word, "ies"); ok {
		list = append(list, s+"y")
	}
	if s, ok := strings.CutSuffix(word, "es"); ok {
		list = append(list, s)
	}
	if s, ok := strings.CutSuffix(word, "s"); ok {
		list = append(list, s)
	}
	return list
}

// nearTypes are at most three types whose name is like the word.
func nearTypes(word string) []string {
	type near struct {
		name string
		far  int
	}
	var list []near
	for _, t := range model.Types() {
		name := strings.ToLower(string(t.Kind))
		switch d := distance(name, word); {
		case d <= 2:
			list = append(list, near{string(t.Kind), d})
		case len(word) >= 3 && strings.Contains(name, word):
			list = append(list, near{string(t.Kind), 3})
		}
	}
	slices.SortStableFunc(list, func(a, b near) int { return a.far - b.far })
	var names []string
	for _, n := range list[:min(3, len(list))] {
		names = append(names, n.name)
	}
	return names
}

// distance is the number of letters to change, add or leave out between words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost = 1 + min(before, row[j], row[j+1])
			}
			before, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// depths are the lengths that full names of a type can have, with whether the
// first two parts are then a domain and a project.
func depths(t *model.Type) map[int]bool {
	return depthsOf(t, map[model.Kind]bool{})
}

func depthsOf(t *model.Type, seen map[model.Kind]bool) map[int]bool {
	out := map[int]bool{}
	if seen[t.Kind] {
		return out
	}
	seen[t.Kind] = true
	defer delete(seen, t.Kind)
	if len(t.Parents) == 0 {
		out[1] = false
	}
	for _, kind := range t.Parents {
		if kind == model.KindConfigRoot {
			out[1] = out[1] || false
			continue
		}
		parent, ok := model.TypeOf(string(kind))
		if !ok {
			continue
		}
		for n, inProject := range depthsOf(parent, seen) {
			out[n+1] = out[n+1] || inProject || kind == model.KindProject
		}
	}
	return out
}

// inProject tells whether objects of a type can be in a project.
func inProject(t *model.Type) bool {
	for _, is := range depths(t) {
		if is {
			return true
		}
	}
	return false
}

// tenants are, of types whose names have no project, the references that tell
// it. The first that an object has decides.
var tenants = map[model.Kind][]string{
	model.KindInstanceIP: {"virtual_machine_interface_refs", "virtual_network_refs"},
}

// hasProjects tells whether objects of a type belong to projects.
func hasProjects(t *model.Type) bool { return inProject(t) || len(tenants[t.Kind]) > 0 }

// projectsOf are the projects that an object belongs to: that of its name, else
// those of what it refers to. It needs the fields of tenants.
func projectsOf(t *model.Type, o object) [][]string {
	if p := projectOf(t, o.name()); p != nil {
		return [][]string{p}
	}
	var list [][]string
	for _, field := range tenants[t.Kind] {
		for _, l := range o.links(field) {
			if len(l.To) > 2 && !slices.ContainsFunc(list, func(p []string) bool { return slices.Equal(p, l.To[:2]) }) {
				list = append(list, l.To[:2])
			}
		}
		if len(list) > 0 {
			break
		}
	}
	return list
}

// has tells whether an object is of the scope. One that belongs to no project
// is in all of them.
func (s Scope) has(t *model.Type, o object) bool {
	if s.All || !hasProjects(t) {
		return true
	}
	list := projectsOf(t, o)
	return len(list) == 0 || slices.ContainsFunc(list, func(p []string) bool { return slices.Equal(p, s.project()) })
}
