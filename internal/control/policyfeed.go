package control

import (
	"slices"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/feed"
)

// The sets of a node's ports, and their blocks, are rows of the same feed as the
// ports: a block is told before the sets that have it, a set before the ports,
// and each is taken back when the last that has it is gone. Each is encoded once
// for all nodes.

// policyRow is a set, or a block, as a node's agent is told of it.
type policyRow struct {
	node *node
	key  policyKey
	// uses are the rows of the node that have it.
	uses int
	// message is of all nodes, which share it.
	message *sharedMessage
	row     feed.Row
}

// policyKey names a set or a block.
type policyKey struct {
	id    compile.SetID
	isSet bool
}

// sharedMessage is encoded when the first node needs it.
type sharedMessage struct {
	body []byte
	uses int
}

// Message implements feed.Item.
func (r *policyRow) Message(gone bool) []byte {
	if gone {
		return policyGoneMessage(r.key)
	}
	return r.message.body
}

// Forgotten implements feed.Item.
func (r *policyRow) Forgotten() { delete(r.node.policies, r.key) }

// setsOf are the sets of a port.
func setsOf(p *compile.Port) []*compile.Set {
	if p == nil {
		return nil
	}
	return slices.DeleteFunc([]*compile.Set{p.Static, p.Firewall, p.Ingress, p.Egress}, func(s *compile.Set) bool { return s == nil })
}

// hold has the agent told of what a port needs.
func (n *node) hold(p *compile.Port) {
	for _, s := range setsOf(p) {
		r := n.policyRow(policyKey{s.ID, true})
		if r.uses++; r.uses > 1 {
			continue
		}
		for _, b := range s.Blocks {
			n.holdBlock(b)
		}
		r.share(func() []byte { return policySetMessage(s) })
		n.feed.Put(&r.row, r)
	}
}

func (n *node) holdBlock(b *compile.Block) {
	r := n.policyRow(policyKey{b.ID, false})
	if r.uses++; r.uses > 1 {
		return
	}
	r.share(func() []byte { return policyBlockMessage(b) })
	n.feed.Put(&r.row, r)
}

// release takes back what a port has needed.
func (n *node) release(p *compile.Port) {
	for _, s := range setsOf(p) {
		if !n.drop(policyKey{s.ID, true}) {
			continue
		}
		for _, b := range s.Blocks {
			n.drop(policyKey{b.ID, false})
		}
	}
}

func (n *node) policyRow(key policyKey) *policyRow {
	r, ok := n.policies[key]
	if !ok {
		r = &policyRow{node: n, key: key}
		n.policies[key] = r
	}
	return r
}

// drop ends one use, and reports whether it was the last.
func (n *node) drop(key policyKey) bool {
	r := n.policies[key]
	if r.uses--; r.uses > 0 {
		return false
	}
	if r.message.uses--; r.message.uses == 0 {
		delete(n.messages, key)
	}
	n.feed.Remove(&r.row)
	return true
}

// share takes the message that all nodes have, which the first one makes.
func (r *policyRow) share(encode func() []byte) {
	m, ok := r.node.messages[r.key]
	if !ok {
		m = &sharedMessage{body: encode()}
		r.node.messages[r.key] = m
	}
	m.uses++
	r.message = m
}

func policyGoneMessage(key policyKey) []byte {
	gone := &controlv1.PolicyGone{}
	if key.isSet {
		gone.What = &controlv1.PolicyGone_Set{Set: key.id[:]}
	} else {
		gone.What = &controlv1.PolicyGone_Block{Block: key.id[:]}
	}
	return encode(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_PolicyGone{PolicyGone: gone}})
}

func policySetMessage(s *compile.Set) []byte {
	m := &controlv1.PolicySet{Id: s.ID[:]}
	for _, b := range s.Blocks {
		m.Blocks = append(m.Blocks, b.ID[:])
	}
	return encode(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_PolicySet{PolicySet: m}})
}

func policyBlockMessage(b *compile.Block) []byte {
	m := &controlv1.PolicyBlock{Id: b.ID[:], Rules: make([]*controlv1.PolicyRule, len(b.Rules))}
	owners := map[string]uint32{"": 0}
	for i := range b.Rules {
		r := &b.Rules[i]
		owner, known := owners[r.Owner]
		if !known {
			m.Owners = append(m.Owners, r.Owner)
			owner = uint32(len(m.Owners))
			owners[r.Owner] = owner
		}
		m.Rules[i] = policyRule(r)
		m.Rules[i].Owner, m.Rules[i].Place = owner, uint32(r.Place)
	}
	return encode(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_PolicyBlock{PolicyBlock: m}})
}

func policyRule(r *compile.Rule) *controlv1.PolicyRule {
	m := &controlv1.PolicyRule{
		Uuid: r.UUID, Src: policySelector(r.Src), Dst: policySelector(r.Dst), Family: uint32(r.Family),
		SrcPorts: portRanges(r.Service.Src), DstPorts: portRanges(r.Service.Dst), Deny: r.Action.Deny,
	}
	if r.Protocol != compile.AnyProtocol {
		m.Protocol = new(uint32(r.Protocol))
	}
	for _, typ := range r.SameTags {
		m.SameTags = append(m.SameTags, uint32(typ))
	}
	return m
}

func policySelector(s *compile.Selector) *controlv1.PolicySelector {
	m := &controlv1.PolicySelector{
		Any: s.Any, Own: s.Own, OwnOf: s.OwnOf, Networks: s.Networks, SecurityGroups: s.Groups, Tags: s.Tags,
	}
	for _, p := range s.Prefixes {
		m.Prefixes = append(m.Prefixes, p.String())
	}
	return m
}

func portRanges(list []compile.Ports) []*controlv1.PortRange {
	ranges := make([]*controlv1.PortRange, len(list))
	for i, p := range list {
		ranges[i] = &controlv1.PortRange{First: uint32(p.First), Last: uint32(p.Last)}
	}
	return ranges
}

// portPolicyMessage is what a port's message says of its policy; nil where
// nothing is known.
func portPolicyMessage(p *compile.Port) *controlv1.PortPolicy {
	if p == nil {
		return nil
	}
	id := func(s *compile.Set) []byte {
		if s == nil {
			return nil
		}
		return s.ID[:]
	}
	return &controlv1.PortPolicy{
		Network: p.Network, SecurityGroups: p.Groups, Tags: p.Tags,
		NetworkSet: id(p.Static), FirewallSet: id(p.Firewall), ArrivingSet: id(p.Ingress), LeavingSet: id(p.Egress),
	}
}
