package compile

import (
	"net/netip"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
)

func groupOf(v *model.View, o *model.SecurityGroup) *securityGroup {
	return compileGroup(graphOf(v), o.UUID)
}

func TestGroupLists(t *testing.T) {
	v6 := rule("r4", "pass icmp group:local any > ::/0 128-0")
	v6.Ethertype = "IPv6"
	w := &town{}
	w.group("other", 8000002)
	g := w.group("g", 8000001,
		rule("r1", "pass tcp 10.0.0.0/8,group:other any > group:local 80,443"),
		rule("r2", "pass any group:local any > group:any any"),
		rule("r3", "pass any group:g any > group:local any"),
		v6,
		rule("r5", "pass any group:none any > group:local any"),
		rule("r6", "pass any group:local any > group:local any"),
	)
	empty := w.group("__no_rule__", 8000003)
	w.view(func(v *model.View) {
		lists := writtenOut(v, g)
		got := map[string][]string{}
		for _, l := range lists {
			for i := range l.AccessControlListEntries.ACLRule {
				got[l.Name()] = append(got[l.Name()], entryText(&l.AccessControlListEntries.ACLRule[i]))
			}
		}
		want := map[string][]string{
			"ingress-access-control-list": {
				"r1: pass 6 10.0.0.0/8 any - 80", "r1: pass 6 10.0.0.0/8 any - 443",
				"r1: pass 6 group:8000002 any - 80", "r1: pass 6 group:8000002 any - 443",
				"r3: pass any group:8000001 any - any",
			},
			"egress-access-control-list": {"r2: pass any - any group:-1 any", "r4: pass 58 - any ::/0 128-0"},
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		problem, _ := lists[0].Annotation(problemKey)
		if want := `security-group d:p:g: rule 6: exactly one side has to be security_group "local"`; problem != want {
			t.Errorf("problems %q", problem)
		}
		if missing := groupOf(v, g).Missing; !slices.Equal(missing, []string{"security-group d:p:g: rule 5: security-group d:p:none does not exist"}) {
			t.Errorf("missing %q", missing)
		}
		if lists := writtenOut(v, empty); len(lists) != 2 || len(lists[0].AccessControlListEntries.ACLRule) != 0 {
			t.Errorf("lists of a group without rules: %v", lists)
		}
	})
}

// TestGroupSets: the rules of all groups of a port count, in each direction,
// and what none allows is refused.
func TestGroupSets(t *testing.T) {
	v6 := rule("v6", "pass tcp ::/0 any > group:local 22")
	v6.Ethertype = "IPv6"
	w := &town{}
	web := w.group("web", 8000001, rule("web", "pass tcp 0.0.0.0/0 any > group:local 80"), rule("out", "pass any group:local any > group:any any"))
	db := w.group("db", 8000002, rule("db", "pass tcp group:web any > group:local 5432"), v6)
	none := w.group("__no_rule__", 8000003)
	from := func(address string, groups ...uint32) End {
		return End{Address: netip.MustParseAddr(address), Groups: groups}
	}
	w.view(func(v *model.View) {
		for _, c := range []struct {
			name    string
			groups  []*model.SecurityGroup
			egress  bool
			packet  Packet
			allowed string
		}{
			{"open port", []*model.SecurityGroup{web}, false, Packet{from("10.0.0.1"), from("10.0.0.2"), 6, 1000, 80}, "web"},
			{"other port", []*model.SecurityGroup{web}, false, Packet{from("10.0.0.1"), from("10.0.0.2"), 6, 1000, 81}, ""},
			{"other protocol", []*model.SecurityGroup{web}, false, Packet{from("10.0.0.1"), from("10.0.0.2"), 17, 1000, 80}, ""},
			{"IPv6 where IPv4 is", []*model.SecurityGroup{web}, false, Packet{from("2001:db8::1"), from("2001:db8::2"), 6, 1000, 80}, ""},
			{"IPv6", []*model.SecurityGroup{web, db}, false, Packet{from("2001:db8::1"), from("2001:db8::2"), 6, 1000, 22}, "v6"},
			{"group of the other", []*model.SecurityGroup{db}, false, Packet{from("10.0.0.1", 8000001), from("10.0.0.2"), 6, 1000, 5432}, "db"},
			{"not in that group", []*model.SecurityGroup{db}, false, Packet{from("10.0.0.1", 8000002), from("10.0.0.2"), 6, 1000, 5432}, ""},
			{"the second group", []*model.SecurityGroup{db, web}, false, Packet{from("10.0.0.1"), from("10.0.0.2"), 6, 1000, 80}, "web"},
			{"out", []*model.SecurityGroup{web}, true, Packet{from("10.0.0.1"), from("10.0.0.2"), 17, 1000, 53}, "out"},
			{"out without a rule", []*model.SecurityGroup{db}, true, Packet{from("10.0.0.1"), from("10.0.0.2"), 17, 1000, 53}, ""},
			{"no rules in", []*model.SecurityGroup{none}, false, Packet{from("10.0.0.1"), from("10.0.0.2"), 6, 1000, 80}, ""},
			{"no rules out", []*model.SecurityGroup{none}, true, Packet{from("10.0.0.1"), from("10.0.0.2"), 6, 1000, 80}, ""},
		} {
			var groups []*securityGroup
			for _, o := range c.groups {
				groups = append(groups, groupOf(v, o))
			}
			set, egress, _ := groupSets(groups)
			if c.egress {
				set = egress
			}
			got := set.Evaluate(1, c.packet)
			if got.Pass != (c.allowed != "") || got.Pass && got.Rule != c.allowed {
				t.Errorf("%s: %+v", c.name, got)
			}
		}
	})
}

// TestGroupRulesAreNamed: each rule says the group that it is written in, and its
// place there, whichever side it is about.
func TestGroupRulesAreNamed(t *testing.T) {
	w := &town{}
	web := w.group("web", 8000001, rule("in", "pass tcp 0.0.0.0/0 any > group:local 80"), rule("out", "pass any group:local any > group:any any"))
	w.view(func(v *model.View) {
		s := groupOf(v, web)
		for place, b := range []*Block{s.ingress, s.egress} {
			if r := b.Rules[0]; r.Owner != "security-group "+model.FQString(web.FQName) || r.Place != place+1 {
				t.Errorf("rule %s is of %q, place %d", r.UUID, r.Owner, r.Place)
			}
		}
	})
}

// TestGroupSetsOrder: the sets of a port do not depend on the order of its
// groups, and say what the groups say.
func TestGroupSetsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &town{}
		var all []*model.SecurityGroup
		address := rapid.SampledFrom([]string{"group:any", "group:g0", "group:g1", "10.0.0.0/8", "10.1.0.0/16"})
		for i := range 3 {
			var rules []model.PolicyRuleType
			for range rapid.IntRange(0, 4).Draw(t, "rules") {
				ports := rapid.SampledFrom([]string{"any", "80", "80-90,85-100"}).Draw(t, "ports")
				id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id")
				if rapid.Bool().Draw(t, "egress") {
					rules = append(rules, rule(id, "pass tcp group:local any > "+address.Draw(t, "remote")+" "+ports))
				} else {
					rules = append(rules, rule(id, "pass tcp "+address.Draw(t, "remote")+" any > group:local "+ports))
				}
			}
			all = append(all, w.group("g"+string(rune('0'+i)), int64(8000001+i), rules...))
		}
		w.view(func(v *model.View) {
			var groups []*securityGroup
			for _, o := range all {
				groups = append(groups, groupOf(v, o))
			}
			in, out, _ := groupSets(groups)
			in2, out2, _ := groupSets(rapid.Permutation(groups).Draw(t, "order"))
			if in.ID != in2.ID || out.ID != out2.ID {
				t.Fatal("another order makes another set")
			}
			p := Packet{
				Src:      End{Address: netip.MustParseAddr(rapid.SampledFrom([]string{"10.1.0.1", "10.2.0.1", "11.0.0.1"}).Draw(t, "src")), Groups: []uint32{8000001}},
				Dst:      End{Address: netip.MustParseAddr("10.9.0.1")},
				Protocol: 6, DstPort: rapid.SampledFrom([]uint16{80, 95, 99}).Draw(t, "port"),
			}
			alone := slices.ContainsFunc(groups, func(s *securityGroup) bool {
				set, _, _ := groupSets([]*securityGroup{s})
				return set.Evaluate(1, p).Pass
			})
			if together := in.Evaluate(1, p).Pass; together != alone {
				t.Fatalf("alone %t, together %t", alone, together)
			}
		})
	})
}
