package control

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
)

// TestBlocksNameRules: a block says the owners of its rules once each, and each rule
// which one is its own.
func TestBlocksNameRules(t *testing.T) {
	selector := &compile.Selector{Any: true}
	rule := func(owner string, place int) compile.Rule {
		return compile.Rule{UUID: "u", Owner: owner, Place: place, Src: selector, Dst: selector, Action: &compile.Action{}}
	}
	var m controlv1.ControlMessage
	body := policyBlockMessage(&compile.Block{Rules: []compile.Rule{rule("a", 1), rule("b", 0), rule("a", 2), rule("", 0)}})
	if err := proto.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	b := m.GetPolicyBlock()
	if !slices.Equal(b.GetOwners(), []string{"a", "b"}) {
		t.Errorf("owners are %q", b.GetOwners())
	}
	var got [][2]uint32
	for _, r := range b.GetRules() {
		got = append(got, [2]uint32{r.GetOwner(), r.GetPlace()})
	}
	if want := [][2]uint32{{1, 1}, {2, 0}, {1, 2}, {0, 0}}; !slices.Equal(got, want) {
		t.Errorf("rules are of %v, want %v", got, want)
	}
}
