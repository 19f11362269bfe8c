package vrouter

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/contrail-mesos/contrail/api/vrouterapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// askedSet is a set by what it is asked about.
type askedSet struct {
	kind dataplane.PolicySet
	id   dataplane.SetID
}

// rules are those of the sets of the ports that are asked about.
func (l *look) rules() (vrouterapi.Rules, error) {
	answer := vrouterapi.Rules{Rules: []vrouterapi.Rule{}}
	policies, err := l.tables.Policies()
	if err != nil {
		return answer, err
	}
	vifs := map[askedSet][]int{}
	for _, ifindex := range slices.Sorted(maps.Keys(policies)) {
		p, ok := l.ports[ifindex]
		if !ok || !l.wantsVif(ifindex) || !l.wantsVRF(p.VRF) {
			continue
		}
		for kind, id := range policies[ifindex].Sets {
			if id != (dataplane.SetID{}) {
				of := askedSet{dataplane.PolicySet(kind), id}
				vifs[of] = append(vifs[of], ifindex)
			}
		}
	}
	order := slices.SortedFunc(maps.Keys(vifs), func(a, b askedSet) int {
		return cmp.Or(slices.Compare(vifs[a], vifs[b]), cmp.Compare(a.kind, b.kind), bytes.Compare(a.id[:], b.id[:]))
	})
	var ids []dataplane.SetID
	for _, of := range order {
		ids = append(ids, of.id)
	}
	sets, err := l.tables.SetsWithRules(ids)
	if err != nil {
		return answer, err
	}
	for _, of := range order {
		if s, ok := sets[of.id]; ok {
			rules := rulesOfSet(of, s, vifs[of])
			room := max(l.limit-len(answer.Rules), 0)
			answer.Left += max(len(rules)-room, 0)
			answer.Rules = append(answer.Rules, rules[:min(len(rules), room)]...)
		}
	}
	return answer, nil
}

// rulesOfSet are its rules, and behind them what none matches.
func rulesOfSet(of askedSet, s dataplane.SetRules, vifs []int) []vrouterapi.Rule {
	list := make([]vrouterapi.Rule, 0, len(s.Rules)+1)
	for i, r := range s.Rules {
		rule := ruleOf(&dataplane.PolicyStep{Kind: of.kind, Set: s.ID, Rule: r, Place: i + 1, Pass: !r.Deny})
		list = append(list, vrouterapi.Rule{Vifs: vifs, TraceRule: *rule, Match: r.Match(), Count: countAt(s.Counts, i)})
	}
	none := vrouterapi.Rule{Vifs: vifs, TraceRule: vrouterapi.TraceRule{Kind: of.kind.String(), Set: s.ID.String()}, Count: countAt(s.Counts, len(s.Counts)-1)}
	switch {
	case s.Err != nil:
		none.Error = s.Err.Error()
	case !s.Known:
		none.Error, none.Count = "its rules are those of an earlier agent; this one is told them when a control node has answered", nil
	}
	return append(list, none)
}

func countAt(counts []uint64, at int) *uint64 {
	if at < 0 || at >= len(counts) {
		return nil
	}
	return &counts[at]
}
