package compile

import (
	"fmt"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

// BenchmarkPolicyOf1000Networks is a change of one policy that 1,000 networks
// of a project have, and that links each with all others, and back.
func BenchmarkPolicyOf1000Networks(b *testing.B) {
	g := manyNetworks(b, 1000)
	policy := func(action string) *model.NetworkPolicy {
		every := []model.AddressType{{VirtualNetwork: "any"}}
		return &model.NetworkPolicy{
			Meta: model.Meta{UUID: model.DerivedUUID("policy"), FQName: []string{"default-domain", "p", "policy"}},
			NetworkPolicyEntries: &model.PolicyEntriesType{PolicyRule: []model.PolicyRuleType{{
				SrcAddresses: every, DstAddresses: every, ActionList: &model.ActionListType{SimpleAction: action},
			}}},
		}
	}
	at := uint64(1)
	put := func(batch model.Batch) {
		at++
		batch.Position = model.Position{Epoch: 1, Revision: at}
		g.Apply(batch)
	}
	var refs []model.Reference
	for i := range 1000 {
		refs = append(refs, model.Reference{From: model.EntityOf(network(fmt.Sprintf("n%d", i), 0)), To: model.EntityOf(policy(""))})
	}
	put(model.Batch{Objects: []model.Object{policy("pass")}, References: refs})
	c := NewCompiler()
	g.View(func(v *model.View) {
		if r := c.Apply(v, model.Changes{Everything: true}); len(r.Instances[refs[0].From.UUID].After.Links) != 999 {
			b.Fatal("the networks are not linked")
		}
	})
	changes := model.Changes{Objects: map[model.Entity]struct{}{model.EntityOf(policy("")): {}}}
	actions := []string{"deny", "pass"}
	for n := 0; b.Loop(); n++ {
		put(model.Batch{Objects: []model.Object{policy(actions[n%2])}})
		g.View(func(v *model.View) {
			if got := len(c.Apply(v, changes).Instances); got != 1000 {
				b.Fatalf("%d instances changed", got)
			}
		})
	}
}
