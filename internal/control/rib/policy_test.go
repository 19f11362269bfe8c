package rib

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/compile"
)

// judge is what policies mean, in the plainest words.
func judge(policies []*compile.RoutingPolicy, key Key, s Spec, targets []Target) (Spec, bool) {
	if key.Kind() != Unicast {
		return s, true
	}
	for _, p := range policies {
		for _, term := range p.Terms {
			if !means(term, key, s, targets) {
				continue
			}
			if term.Action == compile.Reject {
				return s, false
			}
			u := term.Update
			if u.LocalPreference != nil {
				s.LocalPreference = *u.LocalPreference
			}
			if u.MED != nil {
				s.MED = *u.MED
			}
			s.ASPath = slices.Concat(u.ASPath, s.ASPath)
			for _, c := range u.Communities.Add {
				if !slices.Contains(s.Communities, uint32(c)) {
					s.Communities = append(slices.Clone(s.Communities), uint32(c))
					slices.Sort(s.Communities)
				}
			}
			if len(u.ExtCommunities.Add) > 0 {
				targets = slices.Clone(targets)
				for _, c := range u.ExtCommunities.Add {
					targets = sortedTargets(targets, []Target{Target(c)})
				}
				s.Targets = targets
			}
			if u.ExtCommunities.Replace {
				targets = nil
				s.Targets = nil
			}
			if term.Action == compile.Accept {
				return s, true
			}
		}
	}
	return s, true
}

func means(term compile.Term, key Key, s Spec, targets []Target) bool {
	if len(term.Prefixes) > 0 && !slices.ContainsFunc(term.Prefixes, func(m compile.PrefixMatch) bool { return m.Matches(key.Prefix()) }) {
		return false
	}
	source := map[SourceKind]string{
		Attachment: "interface", Floating: "interface", InterfaceRoute: "interface-static", Static: "static",
		Aggregate: "aggregate", Chain: "service-chain", BGP: "bgp",
	}[s.Kind]
	if len(term.Sources) > 0 && !slices.Contains(term.Sources, source) {
		return false
	}
	for _, c := range term.Communities.Values {
		if !slices.Contains(s.Communities, uint32(c)) {
			return false
		}
	}
	for _, c := range term.ExtCommunities.Values {
		if !slices.Contains(targets, Target(c)) {
			return false
		}
	}
	return true
}

// drawPolicies draws those of a VRF or chain, often none.
func drawPolicies(t *rapid.T) []*compile.RoutingPolicy {
	var list []*compile.RoutingPolicy
	for i := range max(0, rapid.IntRange(-2, 2).Draw(t, "policies")) {
		terms := rapid.SliceOfN(rapid.Custom(drawTerm), 1, 3).Draw(t, "terms")
		list = append(list, compile.NewRoutingPolicy(compile.Origin{Name: fmt.Sprint("p", i)}, terms...))
	}
	return list
}

func drawTerm(t *rapid.T) compile.Term {
	term := compile.Term{Action: rapid.SampledFrom([]compile.RouteAction{compile.Next, compile.Accept, compile.Reject}).Draw(t, "action")}
	often := func(what string) bool { return rapid.Bool().Draw(t, what) }
	if often("prefixes") {
		p := netip.MustParsePrefix(rapid.SampledFrom([]string{"10.0.0.0/24", "10.0.0.1/32", "10.0.0.0/16"}).Draw(t, "prefix"))
		term.Prefixes = []compile.PrefixMatch{{Prefix: p, First: p.Bits(), Last: rapid.SampledFrom([]int{p.Bits(), 32}).Draw(t, "last")}}
	}
	if often("sources") {
		term.Sources = []string{rapid.SampledFrom([]string{"interface", "interface-static", "static", "aggregate", "service-chain", "bgp"}).Draw(t, "source")}
	}
	target := func() uint64 { return uint64(firstTarget) + uint64(rapid.IntRange(1, 4).Draw(t, "target")) }
	if rapid.IntRange(0, 3).Draw(t, "targets") == 0 {
		term.ExtCommunities = compile.CommunityMatch{All: true, Values: []uint64{target()}}
	}
	if rapid.IntRange(0, 3).Draw(t, "communities") == 0 {
		term.Communities = compile.CommunityMatch{All: true, Values: []uint64{7}}
	}
	if term.Action == compile.Reject {
		return term
	}
	u := &term.Update
	switch rapid.IntRange(0, 6).Draw(t, "update") {
	case 0:
		u.LocalPreference = new(uint32(rapid.IntRange(0, 3).Draw(t, "preference")))
	case 1:
		u.MED = new(uint32(rapid.IntRange(0, 2).Draw(t, "med")))
	case 2:
		u.ASPath = []uint32{64600, 64600}
	case 3:
		u.Communities.Add = []uint64{7}
	case 4:
		u.ExtCommunities.Add = []uint64{target()}
	case 5:
		u.ExtCommunities.Replace = true
	}
	return term
}

// TestStaticRouteToItself: a route that would be its own way is reached by what is
// really there, whatever is preferred.
func TestStaticRouteToItself(t *testing.T) {
	b := newBench()
	v := VRF{Number: 1, Static: []StaticRoute{{Prefix: netip.MustParsePrefix("10.0.0.1/32"), NextHop: netip.MustParseAddr("10.0.0.1")}}}
	b.vrfs[1] = v
	b.rib.SetVRF(v)
	s := Spec{Source: Source{Kind: InterfaceRoute, Name: "i"}, Attributes: Attributes{NextHop: netip.MustParseAddr("172.31.0.11"), LocalPreference: 50}}
	b.own[place{1, testKeys[0], s.Source}] = s
	b.rib.Put(1, testKeys[0], s)
	b.check(t)
	b.wantEmpty(t)
}

// TestPoliciesSeeTargets: when a network comes to export under other targets, those
// who import from it have their policies look again.
func TestPoliciesSeeTargets(t *testing.T) {
	b := newBench()
	reject := compile.Term{Action: compile.Reject, ExtCommunities: compile.CommunityMatch{Values: []uint64{uint64(firstTarget) + 2}}}
	policies := []*compile.RoutingPolicy{compile.NewRoutingPolicy(compile.Origin{Name: "p"}, reject)}
	set := func(v VRF) {
		b.vrfs[v.Number] = v
		b.rib.SetVRF(v)
	}
	set(VRF{Number: 2, Import: []Target{firstTarget + 1}, Policies: policies})
	s := Spec{Source: Source{Kind: Attachment, Name: "i"}, Attributes: Attributes{NextHop: netip.MustParseAddr("172.31.0.11")}}
	b.own[place{1, testKeys[0], s.Source}] = s
	b.rib.Put(1, testKeys[0], s)
	for _, exports := range [][]Target{{firstTarget + 1}, {firstTarget + 1, firstTarget + 2}, {firstTarget + 1, firstTarget + 3}} {
		set(VRF{Number: 1, Export: exports})
		b.check(t)
	}
	b.wantEmpty(t)
}

// TestExplainPolicies: who asks is told which terms changed or rejected a path.
func TestExplainPolicies(t *testing.T) {
	host := netip.MustParsePrefix("10.0.0.1/32")
	policy := func(name string, terms ...compile.Term) []*compile.RoutingPolicy {
		return []*compile.RoutingPolicy{compile.NewRoutingPolicy(compile.Origin{Name: name}, terms...)}
	}
	prefer := compile.Term{Action: compile.Next, Update: compile.AttributesUpdate{LocalPreference: new(uint32(200))}}
	reject := compile.Term{Action: compile.Reject, Prefixes: []compile.PrefixMatch{{Prefix: host, First: 32, Last: 32}}}
	targets := []Target{firstTarget}
	for name, c := range map[string]struct {
		origin, importer []*compile.RoutingPolicy
		// What is said of the path in the two VRFs: where it is, or why it is not.
		own, imported string
	}{
		"none":                {nil, nil, "the only path", "the only path"},
		"changed":             {policy("a", prefer), nil, "term 1 of routing-policy a: local_pref 200", "term 1 of routing-policy a in vrf 1: local_pref 200"},
		"changed twice":       {policy("a", prefer), policy("b", prefer), "term 1 of routing-policy a: local_pref 200", "term 1 of routing-policy a in vrf 1: local_pref 200, term 1 of routing-policy b: local_pref 200"},
		"rejected":            {policy("a", prefer, reject), nil, "rejected by term 2 of routing-policy a", "in vrf 1 it is rejected by term 2 of routing-policy a"},
		"rejected by another": {nil, policy("b", reject), "the only path", "rejected by term 1 of routing-policy b"},
	} {
		t.Run(name, func(t *testing.T) {
			r := New(encodeText)
			r.SetVRF(VRF{Number: 1, Export: targets, Policies: c.origin})
			r.SetVRF(VRF{Number: 2, Import: targets, Policies: c.importer})
			r.Put(1, UnicastKey(host), Spec{Source: Source{Kind: Attachment, Name: "i"}, Attributes: Attributes{NextHop: netip.MustParseAddr("172.31.0.11")}})
			r.Flush()
			for number, want := range map[uint32]string{1: c.own, 2: c.imported} {
				e := r.Explain(host, number)[0]
				var said string
				switch {
				case len(e.Missing) > 0:
					if said = e.Missing[0].Path.Why; !e.Missing[0].Rejected {
						t.Errorf("vrf %d: %q is not said to be rejected", number, said)
					}
				case e.Route != nil && len(e.Route.Paths[0].Policies) > 0:
					said = strings.Join(e.Route.Paths[0].Policies, ", ")
				case e.Route != nil:
					said = e.Route.Paths[0].Why
				}
				if said != want {
					t.Errorf("vrf %d: %q, want %q", number, said, want)
				}
			}
		})
	}
}

// TestExplainChainPolicies: the same of the routes through a service.
func TestExplainChainPolicies(t *testing.T) {
	host := netip.MustParsePrefix("10.0.0.9/32")
	r := New(encodeText)
	hop := Attributes{NextHop: netip.MustParseAddr("172.31.0.11"), LocalPreference: 100}
	chain := ServiceChain{Name: "c", Network: 2, To: 1, From: 2, Via: 1, Address: netip.MustParseAddr("10.0.0.1")}
	r.SetVRF(VRF{Number: 2})
	r.Put(1, testKeys[0], Spec{Source: Source{Kind: Attachment, Name: "s"}, Attributes: hop})
	r.Put(2, testKeys[1], Spec{Source: Source{Kind: Attachment, Name: "i"}, Attributes: hop})
	for want, term := range map[string]compile.Term{
		"rejected by term 1 of routing-policy p": {Action: compile.Reject},
		"term 1 of routing-policy p at c: med 7": {Action: compile.Accept, Update: compile.AttributesUpdate{MED: new(uint32(7))}},
	} {
		chain.Policies = []*compile.RoutingPolicy{compile.NewRoutingPolicy(compile.Origin{Name: "p"}, term)}
		r.SetVRF(VRF{Number: 1, Chains: []ServiceChain{chain}})
		r.Flush()
		var said []string
		e := r.Explain(host, 1)[0]
		for _, m := range e.Missing {
			said = append(said, m.Path.Why)
		}
		if e.Route != nil {
			said = append(said, e.Route.Paths[0].Policies...)
		}
		if has := e.Route != nil; has == (term.Action == compile.Reject) {
			t.Errorf("a term that says %s, and there is a route: %t", term.Action, has)
		}
		if !slices.Contains(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
	}
}
