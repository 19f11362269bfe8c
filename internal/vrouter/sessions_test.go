package vrouter

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/google/uuid"
)

// Each control node is first, and second, for about as many nodes as any other,
// and the loss of one does not move the others.
func TestRankIsEven(t *testing.T) {
	addresses := []string{"a:5269", "b:5269", "c:5269"}
	first, second := map[string]int{}, map[string]int{}
	const nodes = 3000
	for range nodes {
		node := uuid.NewString()
		order := rank(node, addresses)
		first[order[0]]++
		second[order[1]]++
		rest := rank(node, slices.DeleteFunc(slices.Clone(addresses), func(a string) bool { return a == order[1] }))
		if want := []string{order[0], order[2]}; !reflect.DeepEqual(rest, want) {
			t.Fatalf("without %s the order is %v, want %v", order[1], rest, want)
		}
	}
	for _, a := range addresses {
		for _, n := range []int{first[a], second[a]} {
			if n < nodes/3-200 || n > nodes/3+200 {
				t.Errorf("%s is first for %d and second for %d nodes of %d", a, first[a], second[a], nodes)
			}
		}
	}
	if got := rank("n", []string{"a:1", "a:1"}); len(got) != 1 {
		t.Errorf("an address given twice: %v", got)
	}
}

func TestPlan(t *testing.T) {
	idle := candidate{ready: true}
	resting := candidate{}
	good := candidate{running: true, good: true, young: true}
	young := candidate{running: true, young: true}
	slow := candidate{running: true}
	bad := candidate{running: true, bad: true}
	leader := candidate{running: true, bad: true, leads: true}
	for name, tt := range map[string]struct {
		peers      []candidate
		hold       bool
		begin, end []int
	}{
		"at first the first two":                       {peers: []candidate{idle, idle, idle}, begin: []int{0, 1}},
		"enough":                                       {peers: []candidate{good, good, idle}},
		"on their way":                                 {peers: []candidate{good, young, idle}},
		"one does not come":                            {peers: []candidate{good, slow, idle}, begin: []int{2}},
		"one is lost":                                  {peers: []candidate{good, resting, idle}, begin: []int{2}},
		"one is lost and the others do not rush":       {peers: []candidate{good, resting, idle}, hold: true},
		"both are lost, no time to lose":               {peers: []candidate{resting, resting, idle}, hold: true, begin: []int{2}},
		"the bad one is left when there are two":       {peers: []candidate{bad, good, good}, end: []int{0}},
		"and not before":                               {peers: []candidate{bad, good, young}},
		"one more for a bad one":                       {peers: []candidate{bad, good, idle}, begin: []int{2}},
		"who comes first comes back":                   {peers: []candidate{idle, good, good}, begin: []int{0}},
		"and when it is there, the last is ended":      {peers: []candidate{good, good, good}, end: []int{2}},
		"all are bad":                                  {peers: []candidate{bad, leader, bad}},
		"all are bad, and there is another to try":     {peers: []candidate{bad, leader, bad, idle}, end: []int{2}},
		"the one that is believed is not ended for it": {peers: []candidate{bad, bad, leader, idle}, end: []int{1}},
		"one control node":                             {peers: []candidate{good}},
		"none":                                         {},
	} {
		t.Run(name, func(t *testing.T) {
			begin, end := plan(tt.peers, tt.hold)
			if fmt.Sprint(begin, end) != fmt.Sprint(tt.begin, tt.end) {
				t.Errorf("begin %v, end %v; want %v, %v", begin, end, tt.begin, tt.end)
			}
		})
	}
}
