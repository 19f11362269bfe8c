package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
)

func TestRoutingPolicy(t *testing.T) {
	written := func(terms ...model.PolicyTermType) *model.RoutingPolicy {
		return &model.RoutingPolicy{
			Meta:                 model.Meta{UUID: model.NewUUID(), FQName: []string{"d", "p", "policy"}},
			RoutingPolicyEntries: &model.PolicyStatementType{Term: terms},
		}
	}
	for name, c := range map[string]struct {
		term     model.PolicyTermType
		want     Term
		problems int
	}{
		"nothing": {model.PolicyTermType{}, Term{Action: Next}, 0},
		"all": {
			model.PolicyTermType{
				TermMatchCondition: &model.TermMatchConditionType{
					Prefix: []model.PrefixMatchType{
						{Prefix: "10.1.2.3/8", PrefixType: "longer"}, {Prefix: "192.0.2.0/24"}, {Prefix: "2001:db8::/32", PrefixType: "orlonger"},
					},
					Protocol: []string{"static", "bgp"}, Community: "no-export", CommunityList: []string{"64512:7", "64512:.*"},
					CommunityMatchAll: new(true), ExtcommunityList: []string{"target:64512:5"},
				},
				TermActionList: &model.TermActionListType{Action: "accept", Update: &model.ActionUpdateType{
					LocalPref: new(int64(200)), MED: new(int64(0)), AsPath: &model.ActionAsPathType{Expand: &model.AsListType{ASNList: []int64{7, 7}}},
					Community: &model.ActionCommunityType{Set: &model.CommunityListType{}, Add: &model.CommunityListType{Community: []string{"1:2", "1:1"}}},
				}},
			},
			Term{
				Prefixes: []PrefixMatch{
					{netip.MustParsePrefix("10.0.0.0/8"), 9, 32}, {netip.MustParsePrefix("192.0.2.0/24"), 24, 24}, {netip.MustParsePrefix("2001:db8::/32"), 32, 128},
				},
				Sources:        []string{"bgp", "static"},
				Communities:    CommunityMatch{All: true, Values: []uint64{0xfc000007, 0xffffff01}, Patterns: []string{"64512:.*"}},
				ExtCommunities: CommunityMatch{Values: []uint64{0x0002fc0000000005}},
				Update: AttributesUpdate{
					LocalPreference: new(uint32(200)), MED: new(uint32(0)), ASPath: []uint32{7, 7},
					Communities: CommunityUpdate{Replace: true, Add: []uint64{0x10001, 0x10002}},
				},
				Action: Accept,
			},
			0,
		},
		"a term that cannot be read lets nothing pass": {
			model.PolicyTermType{
				TermMatchCondition: &model.TermMatchConditionType{CommunityList: []string{"("}},
				TermActionList:     &model.TermActionListType{Action: "accept"},
			},
			Term{Action: Reject},
			1,
		},
		"a community that cannot be added": {
			model.PolicyTermType{TermActionList: &model.TermActionListType{Action: "accept", Update: &model.ActionUpdateType{
				Community: &model.ActionCommunityType{Add: &model.CommunityListType{Community: []string{"x"}}},
			}}},
			Term{Action: Reject},
			1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := written(c.term)
			configuration(o).View(func(v *model.View) {
				got := routingPolicies.get(graphOf(v), o.UUID)
				if diff := cmp.Diff([]Term{c.want}, got.Terms, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
					t.Error(diff)
				}
				if len(got.Problems) != c.problems {
					t.Errorf("problems %v, want %d", got.Problems, c.problems)
				}
			})
		})
	}
	m := PrefixMatch{netip.MustParsePrefix("10.0.0.0/8"), 9, 32}
	for text, want := range map[string]bool{"10.0.0.0/8": false, "10.0.0.0/9": true, "10.1.2.3/32": true, "11.0.0.0/9": false, "::/0": false} {
		if got := m.Matches(netip.MustParsePrefix(text)); got != want {
			t.Errorf("%s matches %t, want %t", text, got, want)
		}
	}
}

func TestApplyPolicies(t *testing.T) {
	prefixes := func(list ...PrefixMatch) []PrefixMatch { return list }
	p := netip.MustParsePrefix
	route := func() *PolicyRoute {
		return &PolicyRoute{
			Prefix: p("10.1.0.0/16"), Sources: []string{"xmpp", "interface"}, Communities: []uint32{0x10002, 0xffffff01},
			ExtCommunities: []uint64{0x0002fc0000000005}, ASPath: []uint32{9}, LocalPreference: 100,
		}
	}
	reject := func(t Term) Term { t.Action = Reject; return t }
	for name, c := range map[string]struct {
		terms    []Term
		accepted bool
		change   func(*PolicyRoute)
	}{
		"none":                 {nil, true, nil},
		"exact":                {[]Term{reject(Term{Prefixes: prefixes(PrefixMatch{p("10.1.0.0/16"), 16, 16})})}, false, nil},
		"exact, but longer":    {[]Term{reject(Term{Prefixes: prefixes(PrefixMatch{p("10.0.0.0/8"), 8, 8})})}, true, nil},
		"longer":               {[]Term{reject(Term{Prefixes: prefixes(PrefixMatch{p("10.0.0.0/8"), 9, 32})})}, false, nil},
		"longer, but the same": {[]Term{reject(Term{Prefixes: prefixes(PrefixMatch{p("10.1.0.0/16"), 17, 32})})}, true, nil},
		"one of several":       {[]Term{reject(Term{Prefixes: prefixes(PrefixMatch{p("11.0.0.0/8"), 8, 32}, PrefixMatch{p("10.1.0.0/16"), 17, 32}, PrefixMatch{p("10.1.0.0/16"), 16, 16})})}, false, nil},
		"other family":         {[]Term{reject(Term{Prefixes: prefixes(PrefixMatch{p("::/0"), 0, 128})})}, true, nil},
		"source":               {[]Term{reject(Term{Sources: []string{"bgp", "xmpp"}})}, false, nil},
		"other source":         {[]Term{reject(Term{Sources: []string{"bgp", "static"}})}, true, nil},
		"any community":        {[]Term{reject(Term{Communities: CommunityMatch{Values: []uint64{7, 0x10002}}})}, false, nil},
		"all communities":      {[]Term{reject(Term{Communities: CommunityMatch{All: true, Values: []uint64{7, 0x10002}}})}, true, nil},
		"pattern of a whole":   {[]Term{reject(Term{Communities: CommunityMatch{Patterns: []string{"1:"}}})}, true, nil},
		"pattern":              {[]Term{reject(Term{Communities: CommunityMatch{Patterns: []string{"1:.*"}}})}, false, nil},
		"pattern of a name":    {[]Term{reject(Term{Communities: CommunityMatch{All: true, Values: []uint64{0x10002}, Patterns: []string{"no-.*"}}})}, false, nil},
		"longest pattern":      {[]Term{reject(Term{Communities: CommunityMatch{Patterns: []string{"1|1:2"}}})}, false, nil},
		"pattern without end":  {[]Term{reject(Term{Communities: CommunityMatch{Patterns: []string{`\Q1:2`}}})}, false, nil},
		"target":               {[]Term{reject(Term{ExtCommunities: CommunityMatch{Patterns: []string{"target:64512:.*"}}})}, false, nil},
		"all conditions":       {[]Term{reject(Term{Sources: []string{"bgp"}, Communities: CommunityMatch{Values: []uint64{0x10002}}})}, true, nil},
		"accept ends":          {[]Term{{Action: Accept}, {Action: Reject}}, true, nil},
		"next goes on":         {[]Term{{Action: Next, Update: AttributesUpdate{MED: new(uint32(5))}}, {Action: Reject, Sources: []string{"bgp"}}}, true, func(r *PolicyRoute) { r.MED = 5 }},
		"what was changed":     {[]Term{{Action: Next, Update: AttributesUpdate{Communities: CommunityUpdate{Replace: true}}}, reject(Term{Communities: CommunityMatch{Values: []uint64{0x10002}}})}, true, func(r *PolicyRoute) { r.Communities = nil }},
		"remove and add":       {[]Term{{Action: Accept, Update: AttributesUpdate{Communities: CommunityUpdate{Remove: []uint64{0x10002, 3}, Add: []uint64{1, 0xffffff01}}}}}, true, func(r *PolicyRoute) { r.Communities = []uint32{1, 0xffffff01} }},
		"numbers and AS path":  {[]Term{{Action: Accept, Update: AttributesUpdate{LocalPreference: new(uint32(7)), ASPath: []uint32{1, 1}}}}, true, func(r *PolicyRoute) { r.LocalPreference, r.ASPath = 7, []uint32{1, 1, 9} }},
		"target added":         {[]Term{{Action: Accept, Update: AttributesUpdate{ExtCommunities: CommunityUpdate{Add: []uint64{2}}}}}, true, func(r *PolicyRoute) { r.ExtCommunities = []uint64{2, 0x0002fc0000000005} }},
	} {
		t.Run(name, func(t *testing.T) {
			policy := NewRoutingPolicy(Origin{}, c.terms...)
			got, want := route(), route()
			if c.change != nil {
				c.change(want)
			}
			if accepted := ApplyPolicies([]*RoutingPolicy{policy}, got, nil); accepted != c.accepted {
				t.Errorf("accepted %t, want %t", accepted, c.accepted)
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPrefixSet: what is looked up is what one after the other would say.
func TestPrefixSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
			b := byte(rapid.IntRange(0, 3).Draw(t, "bits")) << 6
			a, length := netip.AddrFrom4([4]byte{b}), rapid.IntRange(0, 4).Draw(t, "length")
			if rapid.IntRange(0, 3).Draw(t, "six") == 0 {
				a = netip.AddrFrom16([16]byte{b})
			}
			p, _ := a.Prefix(length)
			return p
		})
		list := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) PrefixMatch {
			p := prefix.Draw(t, "listed")
			first := rapid.IntRange(p.Bits(), 5).Draw(t, "first")
			return PrefixMatch{p, first, rapid.IntRange(first, 6).Draw(t, "last")}
		}), 0, 6).Draw(t, "list")
		p := prefix.Draw(t, "prefix")
		set := newPrefixSet(list)
		if got, want := set.has(p), slices.ContainsFunc(list, func(m PrefixMatch) bool { return m.Matches(p) }); got != want {
			t.Fatalf("%v has %s: %t, want %t", list, p, got, want)
		}
	})
}

// TestRoutingPolicyTargets: a policy cannot bring routes into networks of others.
func TestRoutingPolicyTargets(t *testing.T) {
	for text, problems := range map[string]int{
		"target:64512:100": 0, "target:64512:8000007": 1, "target:1:8000007": 0, "0x0300000000000001": 1, "0x8004fc0000000007": 1, "0x0003fc0000000007": 0,
	} {
		for _, u := range []*model.ActionExtCommunityType{
			{Set: &model.ExtCommunityListType{Community: []string{text}}}, {Add: &model.ExtCommunityListType{Community: []string{text}}},
		} {
			o := &model.RoutingPolicy{
				Meta: model.Meta{UUID: model.NewUUID(), FQName: []string{"d", "p", "policy"}},
				RoutingPolicyEntries: &model.PolicyStatementType{Term: []model.PolicyTermType{{
					TermActionList: &model.TermActionListType{Action: "accept", Update: &model.ActionUpdateType{Extcommunity: u}},
				}}},
			}
			configuration(o).View(func(v *model.View) {
				if got := routingPolicies.get(graphOf(v), o.UUID); len(got.Problems) != problems {
					t.Errorf("%s: problems %v, want %d", text, got.Problems, problems)
				}
			})
		}
	}
}

// TestRoutingPoliciesThatAreTooMany: each path that comes to a network goes through
// its policies while all others wait. What would take too long rejects everything,
// and says so.
func TestRoutingPoliciesThatAreTooMany(t *testing.T) {
	blue := network("blue", 1)
	accept := &model.TermActionListType{Action: "accept"}
	policy := func(terms int, patterns ...string) *model.RoutingPolicy {
		p := &model.RoutingPolicy{Meta: model.Meta{UUID: model.NewUUID(), FQName: []string{"d", "p", model.NewUUID()}}, RoutingPolicyEntries: &model.PolicyStatementType{}}
		for range terms {
			p.RoutingPolicyEntries.Term = append(p.RoutingPolicyEntries.Term, model.PolicyTermType{
				TermMatchCondition: &model.TermMatchConditionType{CommunityList: patterns}, TermActionList: accept,
			})
		}
		return p
	}
	many := make([]string, 6000)
	for i := range many {
		many[i] = fmt.Sprintf("64512:%d", i)
	}
	for name, c := range map[string]struct {
		policies []*model.RoutingPolicy
		too      bool
	}{
		"few":                     {[]*model.RoutingPolicy{policy(1, "64512:.*")}, false},
		"many terms":              {[]*model.RoutingPolicy{policy(500), policy(500)}, false},
		"too many terms":          {[]*model.RoutingPolicy{policy(500), policy(501)}, true},
		"a pattern with too much": {[]*model.RoutingPolicy{policy(1, "((.?){30}){30}((.?){30}){30}((.?){30}){30}x")}, true},
		"too many communities":    {[]*model.RoutingPolicy{policy(1, many...)}, true},
	} {
		g := configuration(blue)
		b := model.Batch{Position: model.Position{Epoch: 1, Revision: 2}}
		for _, p := range c.policies {
			b.Objects = append(b.Objects, p)
			b.References = append(b.References, model.Reference{From: model.EntityOf(blue), To: model.EntityOf(p)})
		}
		g.Apply(b)
		g.View(func(v *model.View) {
			i := InstanceOf(v, blue.UUID)
			route := &PolicyRoute{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Communities: []uint32{0xfc000007}}
			_, problems := routingPoliciesOf(graphOf(v), blue.UUID)
			if ApplyPolicies(i.Policies, route, nil) == c.too || len(problems) > 0 != c.too {
				t.Errorf("%s: %d policies, problems %v; want that they are too many: %t", name, len(i.Policies), problems, c.too)
			}
		})
	}
}
