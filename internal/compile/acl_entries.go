package compile

import (
	"encoding/json"
	"fmt"
	"hash/fnv"

	"github.com/contrail-mesos/contrail/internal/model"
)

// maxEntries bounds an access list. Lists are for clients to look at: a rule
// is written out for each source, destination and range of ports. What traffic
// is asked about is the set, which is not expanded.
const maxEntries = 1 << 13

// Entry is one entry of an access list, and where it comes from.
type Entry struct {
	model.AclRuleType
	// Policy is the full name of the policy or security group, empty for what
	// is implied; Rule counts its rules from 1.
	Policy string
	Rule   int
}

// AccessList is an expanded list of rules.
type AccessList struct {
	Entries []Entry
	Faults
}

// add adds an entry and tells whether there is room for more.
func (l *AccessList) add(e Entry) bool {
	l.Entries = append(l.Entries, e)
	return len(l.Entries) <= maxEntries
}

// bound empties a list that is too long: nobody shall take a part for it all.
func (l *AccessList) bound(of string) {
	if len(l.Entries) > maxEntries {
		l.Entries = nil
		l.problem("%s: its rules are more than %d when they are written out, and are not listed; they act as they are", of, maxEntries)
	}
}

// entriesType is the list as objects have it.
func (l *AccessList) entriesType(timed bool) *model.AclEntriesType {
	t := &model.AclEntriesType{Dynamic: &timed, ACLRule: make([]model.AclRuleType, len(l.Entries))}
	for i := range l.Entries {
		t.ACLRule[i] = l.Entries[i].AclRuleType
	}
	return t
}

// hashOf is the access_control_list_hash of a list: another one when it changes.
func hashOf(t *model.AclEntriesType) int64 {
	h := fnv.New64a()
	_ = json.NewEncoder(h).Encode(t) // strings, numbers and booleans
	return int64(h.Sum64() >> 1)
}

// expand writes out the rules of policies that concern the network. Those of
// policies that the reader may not read are left out, which is said: a network
// may be shared, and its policies not.
func (l *networkLinks) expand(list *AccessList, policies []attachedPolicy, to Reader) {
	for _, p := range policies {
		switch {
		case p.networkPolicy == nil:
			continue // on its way
		case !to(p.entity()):
			list.problem("the rules of a network-policy that you may not read act too, and are not listed")
			continue
		}
		list.addFaults(p.Faults)
		for i := range p.Rules {
			r := &p.Rules[i]
			if len(r.services) == 0 {
				continue
			}
			if r.chained {
				l.expandChained(list, r, p.peers[i], to, Entry{Policy: p.Name, Rule: i + 1})
				continue
			}
			more := l.eachPair(r, to, func(src, dst *model.AddressType) bool {
				return r.writeOut(list, src, dst, Entry{Policy: p.Name, Rule: i + 1})
			})
			if !more {
				return
			}
		}
	}
}

// eachPair calls f with the pairs of addresses of a rule that concern the
// network, until it returns false. It looks at each pair at most once. What
// was not named and the reader may not read is left out.
func (l *networkLinks) eachPair(r *policyRule, to Reader, f func(src, dst *model.AddressType) bool) bool {
	open, closed := l.split(&r.dst, to)
	for i := range r.src.addresses {
		src := &r.src.addresses[i]
		if !src.isShown(to) {
			continue
		}
		lists := [][]*ruleAddress{open}
		switch {
		case l.isOpen(src):
			lists = [][]*ruleAddress{open, closed.networks, closed.others}
		case src.VirtualNetwork == "":
			lists = [][]*ruleAddress{open, closed.others}
		}
		for _, list := range lists {
			for _, dst := range list {
				if !f(l.named(src), l.named(dst)) {
					return false
				}
			}
		}
	}
	return true
}

// isOpen tells whether an address is that of the network, or any.
func (l *networkLinks) isOpen(a *ruleAddress) bool {
	return a.isAny() || a.VirtualNetwork == localNetwork || a.VirtualNetwork == model.FQString(l.vn.FQName)
}

type closedSide struct{ networks, others []*ruleAddress }

// split parts the addresses of a side by how they concern the network.
func (l *networkLinks) split(s *policySide, to Reader) (open []*ruleAddress, closed closedSide) {
	for i := range s.addresses {
		switch a := &s.addresses[i]; {
		case !a.isShown(to):
		case l.isOpen(a):
			open = append(open, a)
		case a.VirtualNetwork != "":
			closed.networks = append(closed.networks, a)
		default:
			closed.others = append(closed.others, a)
		}
	}
	return open, closed
}

// named is an address with the network's name for "local".
func (l *networkLinks) named(a *ruleAddress) *model.AddressType {
	if a.VirtualNetwork == localNetwork {
		return l.self()
	}
	return &a.AddressType
}

func (l *networkLinks) self() *model.AddressType {
	return &model.AddressType{VirtualNetwork: model.FQString(l.vn.FQName)}
}

// writeOut adds the entries of a rule between two addresses, with a copy for
// the other direction if it is for both.
func (r *policyRule) writeOut(list *AccessList, src, dst *model.AddressType, e Entry) bool {
	written := r.written
	protocol := r.services[0].Protocol
	e.RuleUUID, e.ActionList, e.Direction = written.RuleUUID, writtenAction(written.ActionList), ">"
	for _, sp := range orAny(written.SrcPorts) {
		for _, dp := range orAny(written.DstPorts) {
			match := model.MatchConditionType{
				Protocol: protocol.String(), Ethertype: written.Ethertype,
				SrcAddress: src, SrcPort: &sp, DstAddress: dst, DstPort: &dp,
			}
			e.MatchCondition = &match
			more := list.add(e)
			if r.isTwoWay() {
				back := match
				back.SrcAddress, back.DstAddress = dst, src
				if !protocol.IsICMP() {
					back.SrcPort, back.DstPort = &dp, &sp
				}
				e.MatchCondition = &back
				more = list.add(e)
			}
			if !more {
				return false
			}
		}
	}
	return true
}

// writtenAction is an action as it was written, with what it means without a
// word.
func writtenAction(a *model.ActionListType) *model.ActionListType {
	var action model.ActionListType
	if a != nil {
		action = *a
	}
	if action.SimpleAction == "" {
		action.SimpleAction = "pass"
	}
	return &action
}

func orAny(ports []model.PortType) []model.PortType {
	if len(ports) == 0 {
		return []model.PortType{*AnyPort.portType()}
	}
	return ports
}

// listStatic writes out the list that decides what passes.
func (l *networkLinks) listStatic(to Reader) AccessList {
	var list AccessList
	l.expand(&list, l.static, to)
	l.expandImplicit(&list, to)
	list.bound("virtual-network " + model.FQString(l.vn.FQName))
	return list
}

// expandImplicit writes out what networkLinks.implicit has.
func (l *networkLinks) expandImplicit(list *AccessList, to Reader) {
	self, everyone := l.self(), &model.AddressType{VirtualNetwork: anyNetwork}
	list.add(impliedEntry(self, self, pass))
	seen := map[string]bool{}
	between := func(a, b *model.AddressType, action *Action) bool {
		for _, side := range [][2]*model.AddressType{{a, b}, {b, a}} {
			e := impliedEntry(side[0], side[1], action)
			if key := e.ActionList.SimpleAction + addressText(side[0]) + " " + addressText(side[1]); !seen[key] {
				seen[key] = true
				if !list.add(e) {
					return false
				}
			}
		}
		return true
	}
	if l.snat {
		if l.fabric != nil {
			between(self, &model.AddressType{VirtualNetwork: fabricNetwork}, pass)
		}
		between(self, everyone, deny)
	}
	if l.strict {
		list.add(impliedEntry(everyone, everyone, deny))
		return
	}
	for _, p := range l.static {
		if p.networkPolicy == nil || !to(p.entity()) {
			continue
		}
		for i := range p.Rules {
			if !l.eachPair(&p.Rules[i], to, func(src, dst *model.AddressType) bool { return between(src, dst, deny) }) {
				return
			}
		}
	}
	if l.isProvider {
		between(self, everyone, deny)
	}
	for _, p := range l.providers {
		if model.FQString(p.FQName) != fabricNetwork && !to(model.EntityOf(p)) {
			continue
		}
		between(self, &model.AddressType{VirtualNetwork: model.FQString(p.FQName)}, deny)
	}
	list.add(impliedEntry(everyone, everyone, pass))
}

func impliedEntry(src, dst *model.AddressType, action *Action) Entry {
	r := implied(anyone, anyone, action)
	name := "pass"
	if action.Deny {
		name = "deny"
	}
	return Entry{AclRuleType: model.AclRuleType{
		RuleUUID: r.UUID, Direction: ">", ActionList: &model.ActionListType{SimpleAction: name},
		MatchCondition: &model.MatchConditionType{
			Protocol: AnyProtocol.String(), SrcAddress: src, SrcPort: AnyPort.portType(), DstAddress: dst, DstPort: AnyPort.portType(),
		},
	}}
}

// addressText tells different addresses apart.
func addressText(a *model.AddressType) string {
	text := a.VirtualNetwork + "|" + a.SecurityGroup
	if a.Subnet != nil {
		text += fmt.Sprintf("|%s/%d", a.Subnet.IPPrefix, a.Subnet.IPPrefixLen)
	}
	return text
}

// listTimed writes out the rules of policies with a timer.
func (l *networkLinks) listTimed(to Reader) AccessList {
	var list AccessList
	l.expand(&list, l.timed, to)
	list.bound("virtual-network " + model.FQString(l.vn.FQName))
	return list
}
