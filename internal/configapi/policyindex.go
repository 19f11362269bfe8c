package configapi

import "github.com/contrail-mesos/contrail/internal/model"

// policyIndex is what a stream that watches access lists asks of all network
// policies: which send traffic through services, and which have rules that name
// another policy and mean the networks with it. It is read once, and then follows
// the changes.
type policyIndex struct {
	read    bool
	chained map[string]struct{}
	// naming are the policies that name one; named is the other way round.
	naming map[string]map[string]struct{}
	named  map[string][]string
}

// follow brings the index to what a view has. The changes are all those since the
// last time.
func (x *policyIndex) follow(v *model.View, c model.Changes) {
	if !x.read {
		*x = policyIndex{read: true, chained: map[string]struct{}{}, naming: map[string]map[string]struct{}{}, named: map[string][]string{}}
		for s := range v.AllStored(model.KindNetworkPolicy) {
			x.put(v, s.UUID)
		}
		return
	}
	for e := range c.Objects {
		if e.Kind == model.KindNetworkPolicy {
			x.put(v, e.UUID)
		}
	}
}

// put reads a policy, which may be gone.
func (x *policyIndex) put(v *model.View, id string) {
	delete(x.chained, id)
	for _, name := range x.named[id] {
		if delete(x.naming[name], id); len(x.naming[name]) == 0 {
			delete(x.naming, name)
		}
	}
	delete(x.named, id)
	p, ok := model.Get[*model.NetworkPolicy](v, id)
	if !ok || p.NetworkPolicyEntries == nil {
		return
	}
	for i := range p.NetworkPolicyEntries.PolicyRule {
		r := &p.NetworkPolicyEntries.PolicyRule[i]
		if r.ActionList != nil && len(r.ActionList.ApplyService) > 0 {
			x.chained[id] = struct{}{}
		}
		for _, addresses := range [][]model.AddressType{r.SrcAddresses, r.DstAddresses} {
			for _, a := range addresses {
				if a.NetworkPolicy != "" {
					x.name(id, a.NetworkPolicy)
				}
			}
		}
	}
}

func (x *policyIndex) name(id, name string) {
	if x.naming[name] == nil {
		x.naming[name] = map[string]struct{}{}
	}
	if _, known := x.naming[name][id]; !known {
		x.naming[name][id] = struct{}{}
		x.named[id] = append(x.named[id], name)
	}
}
