package vrouter

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"time"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// portPolicy is the policy of a port, with the sets that it names.
type portPolicy struct {
	dataplane.Policy
	sets map[dataplane.SetID]*dataplane.Set
}

// policyTarget makes policies of ports real.
type policyTarget struct{ plane Dataplane }

func (t policyTarget) List(context.Context) (map[int]portPolicy, error) {
	known, err := t.plane.KnownPolicies()
	all := make(map[int]portPolicy, len(known))
	for ifindex, p := range known {
		all[ifindex] = portPolicy{Policy: p}
	}
	return all, err
}

func (t policyTarget) Put(ctx context.Context, ifindex int, p portPolicy) error {
	return t.PutAll(ctx, map[int]portPolicy{ifindex: p})
}

func (t policyTarget) PutAll(_ context.Context, all map[int]portPolicy) error {
	policies, sets := map[int]dataplane.Policy{}, map[dataplane.SetID]*dataplane.Set{}
	for ifindex, p := range all {
		policies[ifindex] = p.Policy
		maps.Copy(sets, p.sets)
	}
	return t.plane.PutPolicies(policies, sets)
}

func (t policyTarget) Delete(_ context.Context, ifindex int) error {
	return t.plane.DeletePolicy(ifindex)
}

// followPolicies has each port judged by the policy that is known of it. One
// that is not known yet keeps what the data plane has, or is closed.
func (a *Agent) followPolicies(records []*record) {
	all := map[int]portPolicy{}
	for _, r := range records {
		if r.HostIndex == 0 {
			continue
		}
		if p, known := a.routing.policyOf(r); known {
			all[r.HostIndex] = p
		}
	}
	a.policies.Replace(all)
}

// policyOf is the policy of a port as far as it is believed; it is known when
// all sets that it names are.
func (r *routing) policyOf(rec *record) (p portPolicy, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.believed.ports[rec.ID].GetPolicy()
	if of.GetNetwork() == 0 {
		return p, false
	}
	p.Identity = dataplane.NewIdentity(of.GetNetwork(), of.GetSecurityGroups(), of.GetTags())
	for kind, raw := range map[dataplane.PolicySet][]byte{
		dataplane.NetworkPolicy: of.GetNetworkSet(), dataplane.Firewall: of.GetFirewallSet(),
		dataplane.Arriving: of.GetArrivingSet(), dataplane.Leaving: of.GetLeavingSet(),
	} {
		if len(raw) == 0 {
			continue
		}
		set := r.believed.set(raw)
		if set == nil {
			return p, false
		}
		if p.sets == nil {
			p.sets = map[dataplane.SetID]*dataplane.Set{}
		}
		p.Sets[kind], p.sets[set.ID] = set.ID, set
	}
	return p, true
}

// policyTables are the sets that the ports of a node need, and their blocks.
type policyTables struct {
	sets   map[string][][]byte // ids of blocks
	blocks map[string][]dataplane.Rule
}

func newPolicyTables() policyTables {
	return policyTables{map[string][][]byte{}, map[string][]dataplane.Rule{}}
}

func (t *policyTables) clone() policyTables {
	return policyTables{maps.Clone(t.sets), maps.Clone(t.blocks)}
}

// add takes over what others have.
func (t *policyTables) add(other *policyTables) {
	maps.Copy(t.sets, other.sets)
	maps.Copy(t.blocks, other.blocks)
}

// set is a set with its rules; nil while something of it is missing.
func (t *policyTables) set(id []byte) *dataplane.Set {
	s := &dataplane.Set{}
	ids, ok := t.sets[string(id)]
	if !ok || len(id) != len(s.ID) {
		return nil
	}
	s.ID = dataplane.SetID(id)
	for _, block := range ids {
		rules, ok := t.blocks[string(block)]
		if !ok {
			return nil
		}
		s.Blocks = append(s.Blocks, rules)
	}
	return s
}

func (t *policyTables) forget(gone *controlv1.PolicyGone) {
	delete(t.sets, string(gone.GetSet()))
	delete(t.blocks, string(gone.GetBlock()))
}

// takePolicy puts sets and blocks into a session's view, and if it leads, into
// what is believed. They come before the ports that need them.
func (r *routing) takePolicy(v *view, m *controlv1.ControlMessage) {
	to := []*policyTables{&v.policyTables}
	if v == r.leader {
		to = append(to, &r.believed.policyTables)
	}
	switch body := m.GetBody().(type) {
	case *controlv1.ControlMessage_PolicySet:
		for _, t := range to {
			t.sets[string(body.PolicySet.GetId())] = body.PolicySet.GetBlocks()
		}
	case *controlv1.ControlMessage_PolicyBlock:
		rules, err := rulesOf(body.PolicyBlock)
		if err != nil {
			r.log.Error("control node sent a policy that is none; ports that have it stay as they are, or closed", "error", err)
			return
		}
		for _, t := range to {
			t.blocks[string(body.PolicyBlock.GetId())] = rules
		}
	case *controlv1.ControlMessage_PolicyGone:
		v.forget(body.PolicyGone)
		if v == r.leader && v.portsDone {
			r.believed.forget(body.PolicyGone)
		}
	}
}

// rulesOf reads the rules of a block. One that is not understood cannot be left
// out: others would decide in its place.
func rulesOf(b *controlv1.PolicyBlock) ([]dataplane.Rule, error) {
	rules := make([]dataplane.Rule, len(b.GetRules()))
	for i, r := range b.GetRules() {
		if err := readRule(r, &rules[i]); err != nil {
			return nil, fmt.Errorf("rule %s of policy block %x: %w", r.GetUuid(), b.GetId(), err)
		}
		// The names are for people: one that is missing keeps no rule back.
		rules[i].UUID, rules[i].Place = r.GetUuid(), int(r.GetPlace())
		if at := r.GetOwner(); at > 0 && int(at) <= len(b.GetOwners()) {
			rules[i].Owner = b.GetOwners()[at-1]
		}
	}
	return rules, nil
}

func readRule(r *controlv1.PolicyRule, rule *dataplane.Rule) (err error) {
	rule.Deny = r.GetDeny()
	if rule.Family = uint8(r.GetFamily()); r.GetFamily() != 0 && r.GetFamily() != 4 && r.GetFamily() != 6 {
		return fmt.Errorf("family is %d, want 4, 6 or 0", r.GetFamily())
	}
	if rule.Protocol = dataplane.AnyProtocol; r.Protocol != nil {
		if rule.Protocol = int16(r.GetProtocol()); r.GetProtocol() > 255 {
			return fmt.Errorf("protocol is %d, want one up to 255", r.GetProtocol())
		}
	}
	for _, typ := range r.GetSameTags() {
		rule.SameTags = append(rule.SameTags, uint16(typ))
	}
	if rule.SrcPorts, err = readPorts(r.GetSrcPorts()); err != nil {
		return fmt.Errorf("src_ports: %w", err)
	}
	if rule.DstPorts, err = readPorts(r.GetDstPorts()); err != nil {
		return fmt.Errorf("dst_ports: %w", err)
	}
	if rule.Src, err = readSelector(r.GetSrc()); err != nil {
		return fmt.Errorf("src: %w", err)
	}
	if rule.Dst, err = readSelector(r.GetDst()); err != nil {
		return fmt.Errorf("dst: %w", err)
	}
	return nil
}

func readPorts(list []*controlv1.PortRange) ([]dataplane.PortRange, error) {
	ports := make([]dataplane.PortRange, len(list))
	for i, p := range list {
		if p.GetFirst() > p.GetLast() || p.GetLast() > 1<<16-1 {
			return nil, fmt.Errorf("%d to %d is no range of ports", p.GetFirst(), p.GetLast())
		}
		ports[i] = dataplane.PortRange{First: uint16(p.GetFirst()), Last: uint16(p.GetLast())}
	}
	return ports, nil
}

func readSelector(s *controlv1.PolicySelector) (dataplane.Selector, error) {
	sel := dataplane.Selector{
		Any: s.GetAny(), Own: s.GetOwn(), OwnOf: s.GetOwnOf(), Networks: s.GetNetworks(), Groups: s.GetSecurityGroups(), Tags: s.GetTags(),
	}
	for _, text := range s.GetPrefixes() {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return sel, err
		}
		sel.Prefixes = append(sel.Prefixes, p)
	}
	return sel, nil
}

// identityOf is who is at the end of a path.
func identityOf(p *controlv1.Path) dataplane.Identity {
	return dataplane.NewIdentity(p.GetOriginNetwork(), p.GetSecurityGroups(), p.GetTags())
}

// policyWait bounds how long an ADD waits for the policy of its port.
const policyWait = time.Second

// awaitPolicy waits until a new port is open to what its policy allows, so that
// the container's first packets are not lost. A port whose policy does not come
// in time is closed until it does.
func (a *Agent) awaitPolicy(ctx context.Context, r *record) {
	ctx, cancel := context.WithTimeout(ctx, policyWait)
	defer cancel()
	for {
		changed := a.registry.nextChange()
		if s, desired := a.policies.StatusOf(r.HostIndex); desired && s.State == reconcile.Applied {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			a.log.Warn("policy of a new port is not here yet; until it comes the port is closed", "port", r.ID, "host_interface", r.HostInterface)
			return
		}
	}
}
