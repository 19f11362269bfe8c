package control

import (
	"fmt"
	"time"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/test/bench/internal/report"
)

// measureRecompile changes a rule of a policy that many networks have, again
// and again, and takes the time until a compiler has the sets of all networks
// and of their ports.
func measureRecompile(networks, ports, rules, changes int) (report.Result, error) {
	g, policy, err := underOnePolicy(networks, ports, rules)
	if err != nil {
		return report.Result{}, err
	}
	c := compile.NewCompiler(compile.Policy)
	g.View(func(v *model.View) { c.Apply(v, model.Changes{Everything: true}) })
	named := model.Changes{Objects: map[model.Entity]struct{}{model.EntityOf(policy): {}}}
	var ms []float64
	for n := range changes {
		policy.NetworkPolicyEntries.PolicyRule[rules/2].DstPorts = portsOf(int64(20_000 + n))
		stored, err := model.StoredOf(policy)
		if err != nil {
			return report.Result{}, err
		}
		g.Apply(model.Batch{Position: model.Position{Epoch: 1, Revision: uint64(n) + 2}, Stored: []model.Stored{stored}})
		var changed *compile.Report
		begin := time.Now()
		g.View(func(v *model.View) { changed = c.Apply(v, named) })
		ms = append(ms, float64(time.Since(begin).Microseconds())/1000)
		if len(changed.NetworkSets) != networks || len(changed.Ports) != ports {
			return report.Result{}, fmt.Errorf("a changed rule has changed %d networks and %d ports, want %d and %d", len(changed.NetworkSets), len(changed.Ports), networks, ports)
		}
	}
	return report.Result{
		Case: fmt.Sprintf("recompile%d", networks), Value: report.Median(ms), Unit: "ms", Runs: len(ms), Better: "lower",
		P25: report.Percentile(ms, 25), P75: report.Percentile(ms, 75), P99: report.Percentile(ms, 99),
	}, nil
}

// underOnePolicy is a configuration of networks that all have one policy, whose
// rules name each of them, and of ports in them.
func underOnePolicy(networks, ports, rules int) (*model.Graph, *model.NetworkPolicy, error) {
	meta := func(kind model.Kind, name string) model.Meta {
		return model.Meta{UUID: model.DerivedUUID(string(kind), name), FQName: []string{"d", "p", name}, ParentType: "project", ParentUUID: model.DerivedUUID("project")}
	}
	name := func(i int) string { return fmt.Sprintf("n%d", i%networks) }
	address := func(network string) []model.AddressType { return []model.AddressType{{VirtualNetwork: network}} }
	policy := &model.NetworkPolicy{Meta: meta(model.KindNetworkPolicy, "p"), NetworkPolicyEntries: &model.PolicyEntriesType{}}
	for i := range rules {
		r := model.PolicyRuleType{
			RuleUUID: model.DerivedUUID("rule", name(i)), Direction: "<>", Protocol: "tcp", ActionList: &model.ActionListType{SimpleAction: "pass"},
			SrcAddresses: address("local"), SrcPorts: portsOf(-1), DstPorts: portsOf(int64(i + 1)),
		}
		for n := i; n < networks; n += rules {
			r.DstAddresses = append(r.DstAddresses, address("d:p:"+name(n))...)
		}
		policy.NetworkPolicyEntries.PolicyRule = append(policy.NetworkPolicyEntries.PolicyRule, r)
	}
	g := model.NewGraph()
	load := g.Load()
	add := func(o model.Object, to ...model.Entity) error {
		stored, err := model.StoredOf(o)
		if err != nil {
			return err
		}
		b := model.Batch{Stored: []model.Stored{stored}}
		for _, e := range to {
			b.References = append(b.References, model.Reference{From: stored.Entity, To: e})
		}
		load.Add(b)
		return nil
	}
	err := add(policy)
	for i := 0; i < networks && err == nil; i++ {
		err = add(&model.VirtualNetwork{Meta: meta(model.KindVirtualNetwork, name(i)), VirtualNetworkNetworkID: new(int64(i + 1))}, model.EntityOf(policy))
	}
	for i := 0; i < ports && err == nil; i++ {
		vn := model.Entity{Kind: model.KindVirtualNetwork, UUID: model.DerivedUUID(string(model.KindVirtualNetwork), name(i))}
		err = add(&model.VirtualMachineInterface{Meta: meta(model.KindVirtualMachineInterface, fmt.Sprintf("i%d", i))}, vn)
	}
	load.Done(model.Position{Epoch: 1, Revision: 1})
	return g, policy, err
}

// portsOf is one port, or any for -1.
func portsOf(n int64) []model.PortType { return []model.PortType{{StartPort: &n, EndPort: &n}} }
