package compile

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

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
