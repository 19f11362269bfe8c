package configapi

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
)

// TestPolicyIndex: an index that follows changes is as one that reads all anew.
func TestPolicyIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := model.NewGraph()
		g.Reset(model.Batch{Position: model.Position{Epoch: 1, Revision: 1}})
		var followed policyIndex
		number := rapid.IntRange(0, 3)
		name := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("d:p:%d", number.Draw(t, "policy")) })
		rule := rapid.Custom(func(t *rapid.T) model.PolicyRuleType {
			r := model.PolicyRuleType{ActionList: &model.ActionListType{SimpleAction: "pass"}}
			if rapid.Bool().Draw(t, "chained") {
				r.ActionList.ApplyService = []string{"d:p:s"}
			}
			if rapid.Bool().Draw(t, "naming") {
				r.SrcAddresses = []model.AddressType{{NetworkPolicy: name.Draw(t, "names")}}
			}
			return r
		})
		for revision := range rapid.IntRange(1, 10).Draw(t, "changes") {
			e := model.Entity{Kind: model.KindNetworkPolicy, UUID: model.DerivedUUID("policy", fmt.Sprint(number.Draw(t, "number")))}
			b := model.Batch{Position: model.Position{Epoch: 1, Revision: uint64(revision) + 2}}
			if rapid.IntRange(0, 3).Draw(t, "gone") == 0 {
				b.DeleteObjects = []model.Entity{e}
			} else {
				b.Objects = []model.Object{&model.NetworkPolicy{
					Meta:                 model.Meta{UUID: e.UUID, FQName: []string{"d", "p", e.UUID}},
					NetworkPolicyEntries: &model.PolicyEntriesType{PolicyRule: rapid.SliceOfN(rule, 0, 3).Draw(t, "rules")},
				}}
			}
			g.Apply(b)
			g.View(func(v *model.View) {
				followed.follow(v, model.Changes{Objects: map[model.Entity]struct{}{e: {}}})
				var anew policyIndex
				anew.follow(v, model.Changes{})
				for _, x := range []*policyIndex{&followed, &anew} {
					for _, names := range x.named {
						slices.Sort(names)
					}
				}
				if !reflect.DeepEqual(followed, anew) {
					t.Fatalf("followed %+v, anew %+v", followed, anew)
				}
			})
		}
	})
}
