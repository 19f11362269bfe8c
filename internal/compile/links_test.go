package compile

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
)

// asksNaively tells, straight from the definition, whether a network's policies
// ask for another one.
func asksNaively(v *model.View, a, b *model.VirtualNetwork) bool {
	for _, r := range v.References(a.UUID, model.KindNetworkPolicy) {
		p, ok := model.Get[*model.NetworkPolicy](v, r.To.UUID)
		if !ok {
			continue
		}
		for _, rule := range p.NetworkPolicyEntries.PolicyRule {
			if act := rule.ActionList; act != nil && (act.SimpleAction == "deny" || len(act.ApplyService) > 0) {
				continue
			}
			mine := func(list []model.AddressType) bool {
				return slices.ContainsFunc(list, func(x model.AddressType) bool {
					return x.VirtualNetwork == "any" || x.VirtualNetwork == "local" || meansNaively(v, x, a)
				})
			}
			theirs := func(list []model.AddressType) bool {
				return slices.ContainsFunc(list, func(x model.AddressType) bool {
					return x.VirtualNetwork == "any" && a.ParentUUID == b.ParentUUID || meansNaively(v, x, b)
				})
			}
			if mine(rule.SrcAddresses) && theirs(rule.DstAddresses) || mine(rule.DstAddresses) && theirs(rule.SrcAddresses) {
				return true
			}
		}
	}
	return false
}

func meansNaively(v *model.View, x model.AddressType, vn *model.VirtualNetwork) bool {
	if x.VirtualNetwork == model.FQString(vn.FQName) {
		return true
	}
	if x.NetworkPolicy == "" {
		return false
	}
	p, ok := v.EntityByName(model.KindNetworkPolicy, x.NetworkPolicy)
	if !ok {
		return false
	}
	_, has := v.Reference(vn.UUID, p.UUID)
	return has
}

// TestLinks: two networks are linked if, and only if, each one's policies ask
// for the other, and the explanation names rules of both.
func TestLinks(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		drawGraph(t).View(func(v *model.View) {
			for _, x := range networkIDs(v) {
				a, _ := model.Get[*model.VirtualNetwork](v, x)
				i := InstanceOf(v, x)
				if i == nil {
					continue
				}
				e := Explain(v, x)
				for _, y := range networkIDs(v) {
					b, _ := model.Get[*model.VirtualNetwork](v, y)
					asks := x != y && asksNaively(v, a, b) && InstanceOf(v, y) != nil
					want := asks && asksNaively(v, b, a)
					got := slices.ContainsFunc(i.Links, func(l Link) bool { return l.Network == y })
					if want != got {
						t.Fatalf("%v and %v: linked %t, want %t", a.FQName, b.FQName, got, want)
					}
					if want {
						found++
						at := slices.IndexFunc(e.Links, func(l ExplainedLink) bool { return l.Network.UUID == y })
						if at < 0 || len(e.Links[at].Rules) == 0 || len(e.Links[at].Theirs) == 0 {
							t.Fatalf("%v and %v are linked without a reason: %+v", a.FQName, b.FQName, e.Links)
						}
					}
				}
				for _, l := range i.Links {
					if slices.Contains(i.Import, l.Target) && !sharedByHand(e, l.Target) {
						t.Fatalf("%v imports the target of a link", a.FQName)
					}
				}
			}
		})
	})
	if found == 0 {
		t.Error("no two networks were linked")
	}
}

// sharedByHand tells whether an instance has a target from something else than
// a policy.
func sharedByHand(e *Explanation, target Target) bool {
	return slices.ContainsFunc(e.Targets, func(t ExplainedTarget) bool { return t.Target == target })
}

// TestExplainsAllTargets: the explanation has exactly the targets of the
// instance, and views and holders agree with it.
func TestExplainsAllTargets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drawGraph(t).View(func(v *model.View) {
			for _, id := range networkIDs(v) {
				i := InstanceOf(v, id)
				if i == nil {
					continue
				}
				var imports, exports []Target
				for _, x := range Explain(v, id).Targets {
					if x.Import {
						imports = append(imports, x.Target)
					}
					if x.Export {
						exports = append(exports, x.Target)
					}
					if !slices.Contains(Holders(v, x.Target), id) {
						t.Fatalf("%s has %s, and is not among its holders", i.Name, x.Target)
					}
				}
				if !slices.Equal(sorted(imports), i.Import) || !slices.Equal(sorted(exports), i.Export) {
					t.Fatalf("explained %v and %v, want %v and %v", imports, exports, i.Import, i.Export)
				}
			}
		})
	})
}
