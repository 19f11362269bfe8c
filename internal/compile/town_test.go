package compile

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// town is a configuration in the making.
type town struct {
	batch model.Batch
}

func (w *town) put(o model.Object) { w.batch.Objects = append(w.batch.Objects, o) }

func (w *town) refer(from, to model.Object, attr string) {
	r := model.Reference{From: model.EntityOf(from), To: model.EntityOf(to)}
	if attr != "" {
		r.Attr = []byte(attr)
	}
	w.batch.References = append(w.batch.References, r)
}

func (w *town) view(f func(v *model.View)) {
	g := model.NewGraph()
	w.batch.Position = model.Position{Epoch: 1, Revision: 1}
	g.Reset(w.batch)
	g.View(f)
}

func meta(kind model.Kind, name string) model.Meta {
	return model.Meta{
		UUID: model.DerivedUUID(string(kind), name), FQName: []string{"d", "p", name},
		ParentType: "project", ParentUUID: model.DerivedUUID("project"), DisplayName: name, Perms2: model.NewPerms2(""),
	}
}

// tune sets a tuning of the cluster.
func (w *town) tune(name, value string) {
	w.put(&model.GlobalSystemConfig{
		Meta:         model.Meta{UUID: model.DerivedUUID("system"), FQName: []string{globalSystemConfig}},
		PluginTuning: &model.PluginProperties{PluginProperty: []model.PluginProperty{{Property: "x", Value: "false"}, {Property: name, Value: value}}},
	})
}

func (w *town) network(name string, number int64) *model.VirtualNetwork {
	vn := &model.VirtualNetwork{Meta: meta(model.KindVirtualNetwork, name), VirtualNetworkNetworkID: &number}
	w.put(vn)
	return vn
}

func (w *town) group(name string, number int64, rules ...model.PolicyRuleType) *model.SecurityGroup {
	g := &model.SecurityGroup{
		Meta: meta(model.KindSecurityGroup, name), SecurityGroupID: &number,
		SecurityGroupEntries: &model.PolicyEntriesType{PolicyRule: rules},
	}
	w.put(g)
	return g
}

func (w *town) policy(name string, rules ...model.PolicyRuleType) *model.NetworkPolicy {
	p := &model.NetworkPolicy{Meta: meta(model.KindNetworkPolicy, name), NetworkPolicyEntries: &model.PolicyEntriesType{PolicyRule: rules}}
	w.put(p)
	return p
}

func (w *town) attach(vn *model.VirtualNetwork, p *model.NetworkPolicy, major int) {
	w.refer(vn, p, fmt.Sprintf(`{"sequence": {"major": %d, "minor": 0}}`, major))
}

// written makes the address that a short text stands for: any, local, a
// prefix, or the name of a network, net:NAME, policy:NAME or group:NAME.
func written(text string) model.AddressType {
	kind, name, _ := strings.Cut(text, ":")
	switch {
	case text == "any" || text == "local":
		return model.AddressType{VirtualNetwork: text}
	case kind == "policy":
		return model.AddressType{NetworkPolicy: "d:p:" + name}
	case kind == "group" && (name == "local" || name == "any"):
		return model.AddressType{SecurityGroup: name}
	case kind == "group":
		return model.AddressType{SecurityGroup: "d:p:" + name}
	case strings.Contains(text, "/"):
		return model.AddressType{Subnet: subnet(text)}
	}
	return model.AddressType{VirtualNetwork: "d:p:" + text}
}

func subnet(text string) *model.SubnetType { return subnetType(netip.MustParsePrefix(text)) }

func portRange(text string) model.PortType {
	first, last, ok := strings.Cut(text, "-")
	if text == "any" {
		first, last = "-1", "-1"
	} else if !ok {
		last = first
	}
	a, _ := strconv.ParseInt(first, 10, 64)
	b, _ := strconv.ParseInt(last, 10, 64)
	return model.PortType{StartPort: &a, EndPort: &b}
}

// rule makes a rule of its parts: "ACTION PROTOCOL SRC[,SRC] SPORTS DIR DST[,DST] DPORTS".
func rule(id, text string) model.PolicyRuleType {
	f := strings.Fields(text)
	r := model.PolicyRuleType{
		RuleUUID: id, ActionList: &model.ActionListType{SimpleAction: f[0]}, Protocol: f[1], Direction: f[4],
	}
	for _, a := range strings.Split(f[2], ",") {
		r.SrcAddresses = append(r.SrcAddresses, written(a))
	}
	for _, p := range strings.Split(f[3], ",") {
		r.SrcPorts = append(r.SrcPorts, portRange(p))
	}
	for _, a := range strings.Split(f[5], ",") {
		r.DstAddresses = append(r.DstAddresses, written(a))
	}
	for _, p := range strings.Split(f[6], ",") {
		r.DstPorts = append(r.DstPorts, portRange(p))
	}
	return r
}
