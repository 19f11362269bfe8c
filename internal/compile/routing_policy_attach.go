package compile

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// placedPolicy is a routing policy at one place, where several apply in the
// order of their sequences.
type placedPolicy struct {
	sequence float64
	policy   *RoutingPolicy
}

// Each path that comes to a place goes through all its policies, while all other
// paths wait. So there is a bound on the terms of a place, and on their parts.
const (
	maxPolicyTerms = 1000
	maxPolicyParts = 5000
)

// inOrder are the policies at a place in the order in which they apply, each once.
// Where they are too much to ask, one that rejects everything is in their stead.
func inOrder(place Origin, list []placedPolicy) []*RoutingPolicy {
	slices.SortStableFunc(list, func(a, b placedPolicy) int {
		return cmp.Or(cmp.Compare(a.sequence, b.sequence), strings.Compare(a.policy.From.UUID, b.policy.From.UUID))
	})
	var policies []*RoutingPolicy
	for _, a := range list {
		if !slices.Contains(policies, a.policy) {
			policies = append(policies, a.policy)
		}
	}
	terms, parts := 0, 0
	for _, p := range policies {
		terms, parts = terms+len(p.Terms), parts+p.parts
	}
	if terms <= maxPolicyTerms && parts <= maxPolicyParts {
		return policies
	}
	none := NewRoutingPolicy(place, Term{Action: Reject})
	none.Problems = []Problem{{About: place, Text: fmt.Sprintf(
		"its routing policies have together %d terms, with %d communities, AS numbers and steps of patterns; as long as there are more than %d and %d, they reject all routes",
		terms, parts, maxPolicyTerms, maxPolicyParts)}}
	return []*RoutingPolicy{none}
}

// sequenceOf reads a sequence, such as 2 or 1.5; who writes none comes first.
func sequenceOf(text string) float64 {
	n, _ := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return n
}

// routingPoliciesOf are those to which a network refers, and those of its project
// that refer to its routing instance, in order of their sequence. Who may only use
// a network of another project does not decide about its routes.
func routingPoliciesOf(g *graph, network string) ([]*RoutingPolicy, []Problem) {
	var list []placedPolicy
	var problems []Problem
	attach := func(policy string, r model.Reference) *RoutingPolicy {
		p := routingPolicies.get(g, policy)
		if p != nil {
			attr, _ := model.RefAttr[model.RoutingPolicyType](r)
			list = append(list, placedPolicy{sequenceOf(attr.Sequence), p})
		}
		return p
	}
	for _, r := range g.References(network, model.KindRoutingPolicy) {
		attach(r.To.UUID, r)
	}
	of := identities.get(g, network)
	for _, r := range g.BackReferences(InstanceUUID(network), model.KindRoutingPolicy) {
		switch p := routingPolicies.get(g, r.From.UUID); {
		case p == nil:
		case of != nil && of.Project == p.project:
			attach(r.From.UUID, r)
		default:
			problems = append(problems, Problem{About: p.From, Text: "it has no effect on the network, which is of another project; the owner of the network can make it refer to the policy"})
		}
	}
	policies := inOrder(networkOrigin(g, network), list)
	for _, p := range policies {
		problems = append(problems, p.Problems...)
	}
	return policies, problems
}

// policiesAt are those of the interfaces on one side of a service, in order of
// their sequence.
func policiesAt(g *graph, s *service, at side) []*RoutingPolicy {
	var list []placedPolicy
	for _, r := range g.BackReferences(s.From.UUID, model.KindRoutingPolicy) {
		p := routingPolicies.get(g, r.From.UUID)
		if sequence := sequencesAt(r)[at]; p != nil && p.project == s.Project && sequence != "" {
			list = append(list, placedPolicy{sequenceOf(sequence), p})
		}
	}
	return inOrder(s.From, list)
}

// sequencesAt are those of a policy on the left and on the right of a service;
// empty where it is not for that side.
func sequencesAt(r model.Reference) [2]string {
	attr, _ := model.RefAttr[model.RoutingPolicyServiceInstanceType](r)
	return [2]string{left: attr.LeftSequence, right: attr.RightSequence}
}

// servicePolicyProblems are those of policies that refer to a service.
func servicePolicyProblems(g *graph, s *service) []Problem {
	var list []Problem
	for _, at := range []side{left, right} {
		for _, p := range policiesAt(g, s, at) {
			if p.From == s.From { // in the stead of too many
				list = append(list, p.Problems...)
			}
		}
	}
	for _, r := range g.BackReferences(s.From.UUID, model.KindRoutingPolicy) {
		p := routingPolicies.get(g, r.From.UUID)
		switch {
		case p == nil:
		case p.project != s.Project:
			list = append(list, Problem{About: p.From, Text: "it has no effect on the service-instance, which is of another project"})
		case sequencesAt(r) == [2]string{}:
			list = append(list, Problem{About: p.From, Names: []Origin{s.From}, Text: "it refers to service-instance " + s.From.Name +
				" for neither side; set left_sequence or right_sequence"})
		default:
			list = append(list, p.Problems...)
		}
	}
	return list
}
