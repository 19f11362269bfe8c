package control

import (
	"fmt"

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

// showPolicy shows the policy sets of an interface, which is a UUID or a full
// name.
func (s *Server) showPolicy(name string) (*ShownPolicy, error) {
	var id string
	var p *compile.Port
	s.graph.View(func(v *model.View) {
		id = name
		if e, ok := v.EntityByName(model.KindVirtualMachineInterface, name); ok {
			id = e.UUID
		}
		p = compile.PortOf(v, id)
	})
	if p == nil {
		return nil, fmt.Errorf("no virtual-machine-interface %q is in a network; give its UUID, or its name as domain:project:name", name)
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
