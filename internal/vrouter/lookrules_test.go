package vrouter

import (
	"testing"

	"github.com/contrail-mesos/contrail/api/vrouterapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// TestLookAtRules: the rules of a port's sets are listed with their counts, what none
// matches behind them, and what is not known as such.
func TestLookAtRules(t *testing.T) {
	_, plane, ask := lookAgent(t)
	all := []dataplane.PortRange{dataplane.AllPorts}
	rule := dataplane.Rule{
		UUID: "u-1", Owner: "network-policy d:p:a", Place: 2, Src: dataplane.Selector{OwnOf: []uint32{7}}, Dst: dataplane.Selector{Groups: []uint32{8000001}},
		Protocol: 6, SrcPorts: all, DstPorts: []dataplane.PortRange{{First: 80, Last: 81}, {First: 90, Last: 90}},
	}
	id := dataplane.SetID{0xab}
	plane.setRules = map[dataplane.SetID]dataplane.SetRules{id: {ID: id, Known: true, Rules: []*dataplane.Rule{&rule}, Counts: []uint64{4, 9}}}
	rules := decoded[vrouterapi.Rules](t, ask, "/rules").Rules
	if len(rules) != 2 {
		t.Fatalf("rules are %+v", rules)
	}
	if r := rules[0]; r.Vifs[0] != 3 || r.Kind != "network" || r.UUID != "u-1" || r.OwnerPlace != 2 || !r.Pass || r.Place != 1 || *r.Count != 4 ||
		r.Match != "own network of [7] -> groups [8000001], tcp to 80-81,90" {
		t.Errorf("rule is %+v", r)
	}
	if r := rules[1]; r.Place != 0 || r.Pass || *r.Count != 9 || r.Match != "" {
		t.Errorf("what none matches is %+v", r)
	}
	cut := decoded[vrouterapi.Rules](t, ask, "/rules?limit=1")
	if len(cut.Rules) != 1 || cut.Left != 1 {
		t.Errorf("limited to 1: %+v", cut)
	}
	if of := decoded[vrouterapi.Rules](t, ask, "/rules?vrf=9").Rules; len(of) != 0 {
		t.Errorf("rules of another network are %+v", of)
	}
	plane.setRules[id] = dataplane.SetRules{ID: id, Counts: []uint64{4, 9}}
	rules = decoded[vrouterapi.Rules](t, ask, "/rules?vif=3").Rules
	if len(rules) != 1 || rules[0].Error == "" || rules[0].Count != nil {
		t.Errorf("rules of an earlier agent are %+v", rules)
	}
}
