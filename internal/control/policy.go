package control

import (
	"fmt"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// ShownPolicy is what an interface is to policy, and the rules that follow from
// the configuration for its traffic, in the order in which they are asked.
type ShownPolicy struct {
	Interface string         `json:"interface"`
	Network   uint32         `json:"network"`
	Groups    []uint32       `json:"groups"`
	Tags      []string       `json:"tags"`
	Sets      []ShownRuleSet `json:"sets"`
}

// ShownRuleSet is one of an interface's policy sets.
type ShownRuleSet struct {
	// Name is "network", "timed", "firewall", "arriving" or "leaving".
	Name  string        `json:"name"`
	ID    compile.SetID `json:"id"`
	Rules []ShownRule   `json:"rules"`
}

// ShownRule is a rule in the words of people.
type ShownRule struct {
	Rule    string `json:"rule"`
	Action  string `json:"action"`
	Service string `json:"service"`
	Src     string `json:"src"`
	Dst     string `json:"dst"`
	// SameTags are types of tags of which both sides have the same.
	SameTags []string `json:"same_tags,omitempty"`
}

// findInterface is the UUID of an interface that somebody names by that, by its
// whole name, or by the end of it.
func findInterface(v *model.View, name string) (string, error) {
	if model.IsUUID(name) {
		return strings.ToLower(name), nil
	}
	if e, ok := v.EntityByName(model.KindVirtualMachineInterface, name); ok {
		return e.UUID, nil
	}
	var id string
	var found []string
	for s := range v.AllStored(model.KindVirtualMachineInterface) {
		if full := s.FQString(); name != "" && strings.HasSuffix(full, ":"+name) {
			id, found = s.UUID, append(found, full)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("interface: there is no virtual-machine-interface %q; `contrail get virtual-machine-interfaces -A` lists them", name)
	case 1:
		return id, nil
	}
	slices.Sort(found)
	few := strings.Join(found[:min(len(found), 5)], ", ")
	return "", fmt.Errorf("interface: %q is one of %d, such as %s; give the whole name", name, len(found), few)
}

// showPolicy shows the policy sets of an interface, see findInterface.
func (s *Server) showPolicy(name string) (*ShownPolicy, error) {
	var id string
	var p *compile.Port
	var err error
	s.graph.View(func(v *model.View) {
		if id, err = findInterface(v, name); err == nil {
			p = compile.PortOf(v, id)
		}
	})
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, fmt.Errorf("interface: no virtual-machine-interface %q is in a network; give its UUID, or its name as domain:project:name", name)
	}
	shown := &ShownPolicy{Interface: id, Network: p.Network, Groups: append([]uint32{}, p.Groups...), Tags: []string{}, Sets: []ShownRuleSet{}}
	for _, tag := range p.Tags {
		shown.Tags = append(shown.Tags, fmt.Sprintf("0x%08x", tag))
	}
	for _, x := range []struct {
		name string
		set  *compile.Set
	}{{"network", p.Static}, {"timed", p.Timed}, {"firewall", p.Firewall}, {"arriving", p.Ingress}, {"leaving", p.Egress}} {
		if x.set != nil {
			shown.Sets = append(shown.Sets, ShownRuleSet{Name: x.name, ID: x.set.ID, Rules: showRules(x.set)})
		}
	}
	return shown, nil
}

func showRules(set *compile.Set) []ShownRule {
	rules := []ShownRule{}
	for r := range set.Rules() {
		shown := ShownRule{Rule: r.UUID, Action: r.Action.String(), Service: r.Service.String(), Src: r.Src.String(), Dst: r.Dst.String()}
		for _, typ := range r.SameTags {
			shown.SameTags = append(shown.SameTags, fmt.Sprintf("0x%04x", typ))
		}
		rules = append(rules, shown)
	}
	return rules
}
