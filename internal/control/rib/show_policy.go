package rib

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/contrail-mesos/contrail/internal/compile"
)

// How routes came through routing policies is not kept: who asks has them go
// through once more.

// termText names a term.
func termText(p *compile.RoutingPolicy, term int) string {
	return fmt.Sprintf("term %d of routing-policy %s", term+1, p.From.Name)
}

// rejection names the term that rejects a path which has come to a VRF.
func (v *vrf) rejection(p *Path) string {
	var last string
	v.apply(p.Key.inVRF(), p, func(policy *compile.RoutingPolicy, term int) { last = termText(policy, term) })
	return "rejected by " + last
}

// noting is for who is told of terms that match: it notes those that change
// something.
func noting(where string, list *[]string) func(*compile.RoutingPolicy, int) {
	return func(p *compile.RoutingPolicy, term int) {
		if does := p.Terms[term].Update.String(); does != "" {
			*list = append(*list, fmt.Sprintf("%s%s: %s", termText(p, term), where, does))
		}
	}
}

// changes are the terms that made a path of the VRF what it is there: of the
// service that it leads through, of the VRF that it is from, of this one.
func (v *vrf) changes(p *Path) []string {
	var list []string
	came := v.cameAs(p)
	if o := p.origin; o != nil {
		said := came
		where := ""
		if o != v {
			said, where = o.cameAs(came), fmt.Sprintf(" in vrf %d", o.Number)
		}
		if d, s := o.chainOf(said); d != nil {
			d.pass(said.Key, s, noting(" at "+d.name, &list))
		}
		if o.filter != nil && said.Key.kind == Unicast {
			o.apply(said.Key, said, noting(where, &list))
		}
	}
	if p.origin != v && v.filter != nil && p.Key.inVRF().kind == Unicast {
		v.apply(p.Key.inVRF(), came, noting("", &list))
	}
	return list
}

// chainOf is the chain that made a path, and the path before the policies of that
// chain; nil where there are none.
func (v *vrf) chainOf(p *Path) (*derivation, Spec) {
	if p.Kind != Chain {
		return nil, Spec{}
	}
	for _, d := range v.chainsWithPolicies() {
		for _, s := range d.specs(p.Key) {
			if s.Source == p.Source {
				return d, s
			}
		}
	}
	return nil, Spec{}
}

// chainsWithPolicies are in order of their names.
func (v *vrf) chainsWithPolicies() []*derivation {
	var list []*derivation
	for _, d := range v.derived {
		if c, ok := d.spec.(ServiceChain); ok && len(c.Policies) > 0 {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b *derivation) int { return cmp.Compare(a.name, b.name) })
	return list
}

// rejectedChains are the paths through services that the policies of these
// rejected.
func (v *vrf) rejectedChains(key Key) []MissingPath {
	var list []MissingPath
	for _, d := range v.chainsWithPolicies() {
		for _, s := range d.specs(key) {
			var last string
			_, accepted := d.pass(key, s, func(p *compile.RoutingPolicy, term int) { last = termText(p, term) })
			if !accepted {
				p := s.path(key, &sharedAttributes{Attributes: s.Attributes})
				p.origin = v
				list = append(list, missing(p, "rejected by "+last, true))
			}
		}
	}
	return list
}
