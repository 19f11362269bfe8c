package compile

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// The rules of a security group say what may begin: a connection that is
// allowed from one side passes in both directions, with the ICMP errors about
// it, until it ends. So there are two sets, of rules that only allow: for what
// arrives at a port and for what leaves it. A port of several groups has the
// rules of all of them; a port of none is not asked, and one of groups without
// rules, such as __no_rule__, exchanges nothing.

// anyGroup is the number of no group in access lists.
const anyGroup = "-1"

// securityGroup is a security-group compiled.
type securityGroup struct {
	Name   string
	Number uint32
	// ingress and egress are its parts of the sets of its ports.
	ingress, egress *Block
	Faults
}

// groupNumber is 0 for a group that has none.
func groupNumber(o *model.SecurityGroup) uint32 {
	n := model.ValueOr(o.SecurityGroupID, 0)
	if n <= 0 || n > math.MaxUint32 {
		return 0
	}
	return uint32(n)
}

// groupRule is a rule with its sides told apart.
type groupRule struct {
	written  *model.PolicyRuleType
	place    int
	services []Service
	egress   bool
	// remote are the addresses of the side that is not local, lists taken
	// apart, groups by number.
	remote []ruleAddress
}

// readGroup reads a group with its rules; false when there is none.
func readGroup(g *graph, uuid string) (*securityGroup, []groupRule, bool) {
	o, ok := get[*model.SecurityGroup](g, model.KindSecurityGroup, uuid)
	if !ok {
		return nil, nil, false
	}
	s := &securityGroup{Name: model.FQString(o.FQName), Number: groupNumber(o)}
	if o.SecurityGroupEntries == nil {
		return s, nil, true
	}
	var rules []groupRule
	for i := range o.SecurityGroupEntries.PolicyRule {
		r := groupRule{written: &o.SecurityGroupEntries.PolicyRule[i], place: i}
		if err := r.read(g, s); err != nil {
			s.problem("security-group %s: rule %d: %v", s.Name, i+1, err)
		}
		rules = append(rules, r)
	}
	return s, rules, true
}

// read reads what was written. A rule that cannot be understood allows nothing.
func (r *groupRule) read(g *graph, of *securityGroup) error {
	remote, err := r.side()
	if err != nil {
		return err
	}
	for i := range remote {
		a := &remote[i]
		switch {
		case a.SecurityGroup == anyNetwork:
			r.remote = append(r.remote, ruleAddress{AddressType: model.AddressType{SecurityGroup: anyGroup}})
		case a.SecurityGroup != "":
			other, ok := byName[*model.SecurityGroup](g, model.KindSecurityGroup, a.SecurityGroup)
			if !ok {
				of.missing(fmt.Sprintf("security-group %s: rule %d", of.Name, r.place+1), model.KindSecurityGroup, a.SecurityGroup)
				continue
			}
			number := groupNumber(other)
			r.remote = append(r.remote, ruleAddress{model.AddressType{SecurityGroup: strconv.FormatUint(uint64(number), 10)}, number, model.EntityOf(other)})
		default:
			for _, subnet := range prefixesOf(a) {
				r.remote = append(r.remote, ruleAddress{AddressType: model.AddressType{Subnet: subnet}})
			}
		}
	}
	r.services, err = parseServices(ParseFamily(r.written.Ethertype), r.written.Protocol, r.written.SrcPorts, r.written.DstPorts)
	return err
}

// side finds the local side of the rule and returns the other.
func (r *groupRule) side() ([]model.AddressType, error) {
	local := func(list []model.AddressType) bool {
		return slices.ContainsFunc(list, func(a model.AddressType) bool { return a.SecurityGroup == localNetwork })
	}
	src, dst := local(r.written.SrcAddresses), local(r.written.DstAddresses)
	if src == dst {
		return nil, fmt.Errorf(`exactly one side has to be security_group "local"`)
	}
	r.egress = src
	if src {
		return r.written.DstAddresses, nil
	}
	return r.written.SrcAddresses, nil
}

// selector is the remote side.
func (r *groupRule) selector() *Selector {
	s := &Selector{}
	for i := range r.remote {
		switch a := &r.remote[i]; {
		case a.SecurityGroup == anyGroup:
			s.Any = true
		case a.number != 0:
			s.Groups = append(s.Groups, a.number)
		case a.Subnet != nil:
			if prefix, ok := ParsePrefix(a.Subnet); ok {
				s.Prefixes = append(s.Prefixes, prefix)
			}
		}
	}
	return s.seal()
}

var groupUnit = &unit[securityGroup]{
	name: "security-group", layer: 0, compute: compileGroup,
	same: func(a, b *securityGroup) bool {
		return a.Number == b.Number && sameBlock(a.ingress, b.ingress) && sameBlock(a.egress, b.egress) && a.Faults.equal(&b.Faults)
	},
}

// compileGroup compiles a group; nil when there is none.
func compileGroup(g *graph, uuid string) *securityGroup {
	s, rules, ok := readGroup(g, uuid)
	if !ok {
		return nil
	}
	owner := "security-group " + s.Name
	s.Name = "" // for those who read it
	var ingress, egress []Rule
	for i := range rules {
		r := &rules[i]
		remote := r.selector()
		for _, service := range r.services {
			rule := Rule{UUID: r.written.RuleUUID, Owner: owner, Place: r.place + 1, Src: remote, Dst: anyone, Service: service, Action: pass}
			if r.egress {
				rule.Src, rule.Dst = anyone, remote
				egress = append(egress, rule)
			} else {
				ingress = append(ingress, rule)
			}
		}
	}
	s.ingress, s.egress = newBlock(ingress), newBlock(egress)
	return s
}

// groupPair are the sets of a port of some groups.
type groupPair struct {
	numbers         []uint32
	ingress, egress *Set
	Faults
}

// groupPairUnit makes the sets of groups, whose UUIDs are its owner: sorted,
// each with a comma behind it. Ports of the same groups share them.
var groupPairUnit = &unit[groupPair]{
	name: "security-groups", layer: 1, compute: func(g *graph, owner string) *groupPair {
		var groups []*securityGroup
		for _, uuid := range splitList(owner) {
			if s := groupUnit.get(g, uuid); s != nil {
				groups = append(groups, s)
			}
		}
		p := &groupPair{}
		p.ingress, p.egress, p.Faults = groupSets(groups)
		for _, s := range groups {
			p.numbers = append(p.numbers, s.Number)
		}
		p.numbers = distinct(p.numbers, cmp.Compare)
		return p
	},
	same: func(a, b *groupPair) bool {
		return slices.Equal(a.numbers, b.numbers) && sameSet(a.ingress, b.ingress) && sameSet(a.egress, b.egress) && a.Faults.equal(&b.Faults)
	},
}

// joinList and splitList make a list the owner of a unit.
func joinList(list []string) string {
	var b strings.Builder
	for _, s := range list {
		b.WriteString(s)
		b.WriteByte(',')
	}
	return b.String()
}

func splitList(owner string) []string {
	if owner == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(owner, ","), ",")
}

// groupSets are the sets of a port of some groups. Those that do not exist
// allow nothing.
func groupSets(groups []*securityGroup) (ingress, egress *Set, faults Faults) {
	var in, out []*Block
	for _, s := range groups {
		in, out = append(in, s.ingress), append(out, s.egress)
		faults.addFaults(s.Faults)
	}
	ingress, err := union(in)
	if err != nil {
		faults.problem("security groups, ingress: %v", err)
	}
	egress, err = union(out)
	if err != nil {
		faults.problem("security groups, egress: %v", err)
	}
	return ingress, egress, faults
}

// listGroup writes out the two access lists of a group; false when there is
// none.
func listGroup(g *graph, uuid string, to Reader) (ingress, egress AccessList, ok bool) {
	s, rules, ok := readGroup(g, uuid)
	if !ok {
		return AccessList{}, AccessList{}, false
	}
	for i := range rules {
		r := &rules[i]
		list := &ingress
		if r.egress {
			list = &egress
		}
		if len(r.services) > 0 {
			r.writeOut(list, s, to)
		}
	}
	ingress.Faults, egress.Faults = s.Faults, s.Faults
	ingress.bound("security-group " + s.Name)
	egress.bound("security-group " + s.Name)
	return ingress, egress, true
}

// writeOut adds the entries of a rule. The local side is left open. The number
// of a group is told to whoever may read the group.
func (r *groupRule) writeOut(list *AccessList, of *securityGroup, to Reader) {
	e := Entry{Policy: of.Name, Rule: r.place + 1}
	e.RuleUUID, e.ActionList, e.Direction = r.written.RuleUUID, &model.ActionListType{SimpleAction: "pass"}, ">"
	for i := range r.remote {
		if !r.remote[i].isShown(to) {
			continue
		}
		for _, sp := range orAny(r.written.SrcPorts) {
			for _, dp := range orAny(r.written.DstPorts) {
				m := &model.MatchConditionType{
					Protocol: r.services[0].Protocol.String(), Ethertype: r.written.Ethertype,
					SrcAddress: &r.remote[i].AddressType, SrcPort: &sp, DstAddress: &model.AddressType{}, DstPort: &dp,
				}
				if r.egress {
					m.SrcAddress, m.DstAddress = m.DstAddress, m.SrcAddress
				}
				e.MatchCondition = m
				if !list.add(e) {
					return
				}
			}
		}
	}
}
