package control

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// group makes a security group, or gives it other rules.
func (w *world) group(name string, port int64) {
	any := []model.PortType{{StartPort: new(int64(-1)), EndPort: new(int64(-1))}}
	w.apply(model.Batch{Objects: []model.Object{&model.SecurityGroup{
		Meta: model.Meta{UUID: id("sg", name), FQName: []string{"default-domain", "p", name}}, SecurityGroupID: new(8000000 + int64(name[1])),
		SecurityGroupEntries: &model.PolicyEntriesType{PolicyRule: []model.PolicyRuleType{{
			RuleUUID: id("rule", name), Direction: ">", Protocol: "tcp", SrcAddresses: []model.AddressType{{SecurityGroup: "any"}}, SrcPorts: any,
			DstAddresses: []model.AddressType{{SecurityGroup: "local"}}, DstPorts: []model.PortType{{StartPort: &port, EndPort: &port}},
		}}},
	}}})
}

// join has a container's interface in a security group, or not.
func (w *world) join(container, group string, in bool) {
	e := model.Edge{
		From: model.Entity{Kind: model.KindVirtualMachineInterface, UUID: id("vmi", container)}, To: model.Entity{Kind: model.KindSecurityGroup, UUID: id("sg", group)},
	}
	if in {
		w.apply(model.Batch{References: []model.Reference{{From: e.From, To: e.To}}})
	} else {
		w.apply(model.Batch{DeleteReferences: []model.Edge{e}})
	}
}

// setsOfPort are the ids of a port's sets.
func setsOfPort(p *controlv1.Port) [][]byte {
	of := p.GetPolicy()
	return slices.DeleteFunc([][]byte{of.GetNetworkSet(), of.GetFirewallSet(), of.GetArrivingSet(), of.GetLeavingSet()}, func(id []byte) bool { return len(id) == 0 })
}

// comparePolicy says whether the agent has exactly the sets that its ports need.
func (a *agentState) comparePolicy(v *model.View) string {
	sets, blocks := map[string]bool{}, map[string]bool{}
	for iface, p := range a.ports {
		want := compile.PortOf(v, iface)
		if !proto.Equal(p.Policy, portPolicyMessage(want)) {
			return fmt.Sprintf("port %s: policy is %v, want %v", iface, p.Policy, want)
		}
		for _, s := range setsOf(want) {
			sets[string(s.ID[:])] = true
			have := a.sets[string(s.ID[:])]
			if have == nil || len(have.Blocks) != len(s.Blocks) {
				return fmt.Sprintf("port %s: set %s is %v", iface, s.ID, have)
			}
			for i, b := range s.Blocks {
				blocks[string(b.ID[:])] = true
				block := a.blocks[string(b.ID[:])]
				if string(have.Blocks[i]) != string(b.ID[:]) || len(block.GetRules()) != len(b.Rules) {
					return fmt.Sprintf("set %s: block %s is %v", s.ID, b.ID, block)
				}
			}
		}
	}
	if len(a.sets) != len(sets) || len(a.blocks) != len(blocks) {
		return fmt.Sprintf("%d sets and %d blocks, want %d and %d", len(a.sets), len(a.blocks), len(sets), len(blocks))
	}
	return ""
}
