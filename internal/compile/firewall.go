package compile

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// A port's firewall is the application policy sets that apply to it, one after
// the other: those of the whole cluster, then those of its project, then those
// that have its application tag; in each the policies by sequence, in a policy
// the rules by sequence. The first rule that matches decides, at both ends of
// a connection; what none matches is refused. Where no set has a rule, nothing
// is asked.
//
//	application-policy-set --applicationUnit--> rules in order
//	project and application --firewallUnit--> the set of ports

// applicationRules are the rules of an application-policy-set, in order.
type applicationRules struct {
	// written tells whether there are rules at all, whatever they come to.
	written bool
	block   *Block
	Faults
}

var applicationUnit = &unit[applicationRules]{
	name: "application-policy-set", layer: 0, compute: compileApplication,
	same: func(a, b *applicationRules) bool {
		return a.written == b.written && sameBlock(a.block, b.block) && a.Faults.equal(&b.Faults)
	},
}

// compileApplication compiles an application-policy-set; nil when there is
// none.
func compileApplication(g *graph, uuid string) *applicationRules {
	if _, ok := g.Object(model.KindApplicationPolicySet, uuid); !ok {
		return nil
	}
	a := &applicationRules{}
	var rules []Rule
	for _, policy := range inSequence(g, uuid, model.KindFirewallPolicy) {
		for _, id := range inSequence(g, policy, model.KindFirewallRule) {
			if rule, ok := get[*model.FirewallRule](g, model.KindFirewallRule, id); ok {
				a.written = true
				rules = append(rules, a.compile(g, rule)...)
			}
		}
	}
	a.block = newBlock(rules)
	return a
}

// firewall is the set of a port, and what is wrong with it.
type firewall struct {
	set *Set
	Faults
}

// firewallUnit makes the set of ports in a project with some application tags:
// its owner is a list, the project's UUID, which may be empty, and the tags'.
var firewallUnit = &unit[firewall]{
	name: "firewall", layer: 1, compute: func(g *graph, owner string) *firewall {
		list := splitList(owner)
		if len(list) == 0 {
			return nil
		}
		var rules []*applicationRules
		for _, uuid := range applications(g, list[0], list[1:]) {
			if a := applicationUnit.get(g, uuid); a != nil {
				rules = append(rules, a)
			}
		}
		f := &firewall{}
		f.set, f.Faults = firewallSet(rules)
		return f
	},
	same: func(a, b *firewall) bool { return sameSet(a.set, b.set) && a.Faults.equal(&b.Faults) },
}

// inSequence are the objects of a kind that one refers to, in the order of
// their sequences, which are compared as texts.
func inSequence(g *graph, of string, kind model.Kind) []string {
	type place struct{ sequence, uuid string }
	var list []place
	for _, r := range g.References(of, kind) {
		attr, err := model.RefAttr[model.FirewallSequence](r)
		if err != nil { // another version wrote it
			attr.Sequence = ""
		}
		list = append(list, place{attr.Sequence, r.To.UUID})
	}
	slices.SortFunc(list, func(a, b place) int {
		return cmp.Or(strings.Compare(a.sequence, b.sequence), strings.Compare(a.uuid, b.uuid))
	})
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].uuid
	}
	return ids
}

// compile returns the rules that one firewall-rule stands for: one for each of
// its services and directions.
func (a *applicationRules) compile(g *graph, o *model.FirewallRule) []Rule {
	of := "firewall-rule " + model.FQString(o.FQName)
	missing := func(kind model.Kind, name string) { a.missing(of, kind, name) }
	action := actionOf(o.ActionList)
	services, err := firewallServices(g, o)
	if err != nil {
		a.problem("%s: %v", of, err)
		services = nil
		if action.Deny {
			services = []Service{anyService()}
		}
	}
	same, err := matchTypes(g, o)
	if err != nil {
		a.problem("%s: %v", of, err)
		return nil
	}
	var rules []Rule
	one, two := readEndpoint(g, o, o.Endpoint1, missing), readEndpoint(g, o, o.Endpoint2, missing)
	for _, s := range services {
		rule := Rule{UUID: o.UUID, Owner: of, Src: one, Dst: two, Service: s, SameTags: same, Action: action}
		if o.Direction != "<" {
			rules = append(rules, rule)
		}
		if o.Direction == "<" || o.Direction == "<>" {
			rule.Src, rule.Dst = two, one
			rules = append(rules, rule)
		}
	}
	return rules
}

// firewallServices are the protocols and ports of a rule or of the groups that
// it refers to.
func firewallServices(g *graph, o *model.FirewallRule) ([]Service, error) {
	var written []model.FirewallServiceType
	if o.Service != nil {
		written = append(written, *o.Service)
	}
	for _, r := range g.References(o.UUID, model.KindServiceGroup) {
		group, ok := get[*model.ServiceGroup](g, model.KindServiceGroup, r.To.UUID)
		if ok && group.ServiceGroupFirewallServiceList != nil {
			written = append(written, group.ServiceGroupFirewallServiceList.FirewallService...)
		}
	}
	var list []Service
	for i := range written {
		w := &written[i]
		protocol := w.Protocol
		if protocol == "" && w.ProtocolID != nil {
			protocol = strconv.FormatInt(*w.ProtocolID, 10)
		}
		services, err := parseServices(AnyFamily, protocol, ranges(w.SrcPorts), ranges(w.DstPorts))
		if err != nil {
			return nil, fmt.Errorf("service %d: %w", i+1, err)
		}
		list = append(list, services...)
	}
	return list, nil
}

func ranges(p *model.PortType) []model.PortType {
	if p == nil {
		return nil
	}
	return []model.PortType{*p}
}

// matchTypes are the types of tags that both sides of a rule must share.
func matchTypes(g *graph, o *model.FirewallRule) ([]uint16, error) {
	if o.MatchTags == nil {
		return nil, nil
	}
	var types []uint16
	for _, name := range o.MatchTags.TagList {
		typ, ok := byName[*model.TagType](g, model.KindTagType, name)
		if !ok {
			return nil, fmt.Errorf("tag-type %s of match_tags does not exist", name)
		}
		n, err := strconv.ParseUint(typ.TagTypeID, 0, 16)
		if err != nil {
			return nil, fmt.Errorf("tag-type %s of match_tags has no number", name)
		}
		types = append(types, uint16(n))
	}
	return distinct(types, cmp.Compare), nil
}

// readEndpoint resolves one side of a rule. What does not exist is nobody.
func readEndpoint(g *graph, rule *model.FirewallRule, e *model.FirewallRuleEndpointType, missing func(model.Kind, string)) *Selector {
	s := &Selector{}
	switch {
	case e == nil:
	case model.ValueOr(e.Any, false), e.VirtualNetwork == anyNetwork:
		s.Any = true
	case e.Subnet != nil:
		if prefix, ok := ParsePrefix(e.Subnet); ok {
			s.Prefixes = append(s.Prefixes, prefix)
		}
	case e.VirtualNetwork != "":
		vn, ok := byName[*model.VirtualNetwork](g, model.KindVirtualNetwork, e.VirtualNetwork)
		if !ok {
			missing(model.KindVirtualNetwork, e.VirtualNetwork)
			break
		}
		return networkSelector(vn)
	case e.AddressGroup != "":
		group, ok := byName[*model.AddressGroup](g, model.KindAddressGroup, e.AddressGroup)
		if !ok {
			missing(model.KindAddressGroup, e.AddressGroup)
			break
		}
		s.addGroup(group)
	case len(e.Tags) > 0:
		s.addTags(g, rule, e.Tags, missing)
	}
	return s.seal()
}

func (s *Selector) addGroup(group *model.AddressGroup) {
	if group.AddressGroupPrefix == nil {
		return
	}
	for i := range group.AddressGroupPrefix.Subnet {
		if prefix, ok := ParsePrefix(&group.AddressGroupPrefix.Subnet[i]); ok {
			s.Prefixes = append(s.Prefixes, prefix)
		}
	}
}

// addTags chooses who has all the tags, and the prefixes of address groups
// that have them all: of the rule's project, and those of the cluster. A group
// of another project has no say in it, though tags of the cluster are for all.
func (s *Selector) addTags(g *graph, rule *model.FirewallRule, texts []string, missing func(model.Kind, string)) {
	var ids []uint32
	var groups map[string]int
	for i, text := range texts {
		name, ok := TagName(&rule.Meta, text)
		if !ok {
			missing(model.KindTag, text)
			return
		}
		tag, ok := byName[*model.Tag](g, model.KindTag, model.FQString(name))
		if !ok {
			missing(model.KindTag, model.FQString(name))
			return
		}
		id, ok := TagID(tag)
		if !ok { // another version wrote it
			return
		}
		ids = append(ids, id)
		groups = among(g, tag.UUID, groups, i)
	}
	s.Tags = ids
	for uuid, n := range groups {
		group, ok := get[*model.AddressGroup](g, model.KindAddressGroup, uuid)
		if ok && n == len(texts) && (scopeOf(&group.Meta) == "" || scopeOf(&group.Meta) == scopeOf(&rule.Meta)) {
			s.addGroup(group)
		}
	}
}

// among counts how many of the tags so far each address group has.
func among(g *graph, tag string, groups map[string]int, before int) map[string]int {
	now := map[string]int{}
	for _, r := range g.BackReferences(tag, model.KindAddressGroup) {
		if groups[r.From.UUID] == before {
			now[r.From.UUID] = before + 1
		}
	}
	return now
}

// firewallSet is the set of a port to which the policy sets apply, in order;
// nil when they have no rules.
func firewallSet(applications []*applicationRules) (set *Set, faults Faults) {
	var blocks []*Block
	written := false
	for _, a := range applications {
		written = written || a.written
		blocks = append(blocks, a.block)
		faults.addFaults(a.Faults)
	}
	if !written {
		return nil, faults
	}
	set, err := newSet(blocks...)
	if err != nil {
		faults.problem("firewall: %v", err)
	}
	return set, faults
}
