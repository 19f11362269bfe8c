package control

import (
	"fmt"
	"slices"
	"testing"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// term makes one of a match and an action, as the API has them in JSON.
func term(prefix, kind, action string) model.PolicyTermType {
	t := model.PolicyTermType{TermActionList: &model.TermActionListType{Action: action}}
	if prefix != "" {
		t.TermMatchCondition = &model.TermMatchConditionType{Prefix: []model.PrefixMatchType{{Prefix: prefix, PrefixType: kind}}}
	}
	return t
}

// routingPolicy makes or replaces one.
func (w *world) routingPolicy(name string, terms ...model.PolicyTermType) *model.RoutingPolicy {
	p := &model.RoutingPolicy{
		Meta:                 model.Meta{UUID: id("rp", name), FQName: []string{"default-domain", "p", name}},
		RoutingPolicyEntries: &model.PolicyStatementType{Term: terms},
	}
	w.apply(model.Batch{Objects: []model.Object{p}})
	return p
}

// filter has a network refer to a routing policy, with a sequence.
func (w *world) filter(network, policy, sequence string) {
	w.apply(model.Batch{References: []model.Reference{{
		From: model.Entity{Kind: model.KindVirtualNetwork, UUID: id("net", network)},
		To:   model.Entity{Kind: model.KindRoutingPolicy, UUID: id("rp", policy)},
		Attr: fmt.Appendf(nil, `{"sequence": %q}`, sequence),
	}}})
}

func (w *world) unfilter(network, policy string) {
	w.apply(model.Batch{DeleteReferences: []model.Edge{{
		From: model.Entity{Kind: model.KindVirtualNetwork, UUID: id("net", network)},
		To:   model.Entity{Kind: model.KindRoutingPolicy, UUID: id("rp", policy)},
	}}})
}

// TestRoutingPolicies: what the policies of a network reject its nodes are not told,
// nor who imports from it; a change of a policy, of its place and of a reference
// counts at once, for the networks concerned.
func TestRoutingPolicies(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	mine := []string{"target:64512:100"}
	b.node("n1", "172.31.0.11", 1500)
	b.network("blue", 1, mine, mine)
	b.network("red", 2, mine, nil)
	b.attach("b1", "blue", "n1", "10.0.0.3", 16)
	b.attach("b2", "blue", "n1", "10.0.0.4", 17)
	b.attach("r1", "red", "n1", "10.0.1.3", 18)
	blue := map[string]string{"10.0.0.3/32": "172.31.0.11 16 of 1", "10.0.0.4/32": "172.31.0.11 17 of 1"}
	red := map[string]string{"10.0.1.3/32": "172.31.0.11 18 of 2"}
	want := func(inBlue, inRed []string) {
		t.Helper()
		pick := func(prefixes []string) map[string]string {
			picked := map[string]string{}
			for _, p := range prefixes {
				picked[p] = blue[p]
			}
			return picked
		}
		b.wantTold(t, "n1", 1, pick(inBlue))
		all := pick(inRed)
		all["10.0.1.3/32"] = red["10.0.1.3/32"]
		b.wantTold(t, "n1", 2, all)
	}
	both, three, four := []string{"10.0.0.3/32", "10.0.0.4/32"}, []string{"10.0.0.3/32"}, []string{"10.0.0.4/32"}
	b.routingPolicy("no-four", term("10.0.0.4/32", "exact", "reject"))
	b.routingPolicy("no-three", term("10.0.0.3/32", "exact", "reject"), term("", "", "next"))
	b.routingPolicy("all", term("10.0.0.0/24", "orlonger", "accept"))
	want(both, both)
	b.filter("blue", "no-four", "1.0")
	want(three, three)
	b.filter("red", "no-three", "1.0")
	want(three, nil)
	b.filter("blue", "all", "2.0") // behind the one that rejects
	want(three, nil)
	b.filter("blue", "all", "0.5")
	want(both, four)
	b.unfilter("red", "no-three")
	want(both, both)
	b.routingPolicy("all", term("10.0.0.0/24", "longer", "reject"))
	want(nil, nil)
	b.unfilter("blue", "all")
	b.unfilter("blue", "no-four")
	want(both, both)

	// The other way round, as classic clients refer: the policy to the instance.
	p := b.routingPolicy("instance", term("10.0.0.3/32", "exact", "reject"))
	instance := model.Entity{Kind: model.KindRoutingInstance, UUID: compile.InstanceUUID(id("net", "blue"))}
	b.apply(model.Batch{References: []model.Reference{{From: model.EntityOf(p), To: instance, Attr: []byte(`{"sequence": "1.0"}`)}}})
	want(four, four)
	b.apply(model.Batch{DeleteReferences: []model.Edge{{From: model.EntityOf(p), To: instance}}})
	want(both, both)
}

// TestRoutingPolicySources: terms know where a route is from.
func TestRoutingPolicySources(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.node("n1", "172.31.0.11", 1500)
	b.network("blue", 1, nil, nil)
	b.attach("b1", "blue", "n1", "10.0.0.3", 16)
	b.behind("irt", "192.0.2.0/24", "b1")
	b.route("blue", "10.0.0.3")
	b.filter("blue", "p", "1.0")
	for source, rejected := range map[string][]string{
		"xmpp":      {"10.0.0.3/32", "192.0.2.0/24", "203.0.113.0/26"}, // and what is reached so
		"interface": {"10.0.0.3/32", "203.0.113.0/26"}, "interface-static": {"192.0.2.0/24"}, "static": {"203.0.113.0/26"},
		"bgp": {}, "service-chain": {}, "aggregate": {}, "bgpaas": {}, "service-interface": {}, "local": {"10.0.0.3/32", "192.0.2.0/24", "203.0.113.0/26"},
	} {
		x := term("", "", "reject")
		x.TermMatchCondition = &model.TermMatchConditionType{Protocol: []string{source}}
		b.routingPolicy("p", x)
		told := b.told(t, "n1", 1)
		for _, prefix := range []string{"10.0.0.3/32", "192.0.2.0/24", "203.0.113.0/26"} {
			if _, has := told[prefix]; has == slices.Contains(rejected, prefix) {
				t.Errorf("without routes of %s the node has %v", source, told)
			}
		}
	}
}

// TestServicePolicies: the policies of a service's interface are for the routes
// that lead through it.
func TestServicePolicies(t *testing.T) {
	b := newChainBench()
	defer b.subscription.Close()
	b.routed("blue", 1)
	b.routed("red", 2)
	b.attach("b1", "blue", "n1", "10.0.1.3", 21)
	b.attach("r1", "red", "n2", "10.0.2.3", 22)
	b.service("si", "in-network")
	b.instance("si", "a", "n3", "blue", "red", 9, 100)
	b.lead("blue", "red", "si")
	reaches := func(leftWay, rightWay bool) {
		t.Helper()
		for _, at := range []struct {
			node, prefix string
			vrf          uint32
			want         bool
		}{{"n1", "10.0.2.0/24", 1, leftWay}, {"n2", "10.0.1.0/24", 2, rightWay}} {
			if told := b.told(t, at.node, at.vrf); (told[at.prefix] != "") != at.want {
				t.Errorf("in vrf %d: %v, want a way to %s: %t", at.vrf, told, at.prefix, at.want)
			}
		}
	}
	reaches(true, true)
	p := b.routingPolicy("p", term("", "", "reject"))
	refer := func(attr string) {
		b.apply(model.Batch{References: []model.Reference{{
			From: model.EntityOf(p), To: model.Entity{Kind: model.KindServiceInstance, UUID: id("si", "si")}, Attr: []byte(attr),
		}}})
	}
	refer(`{"left_sequence": "1.0"}`)
	reaches(false, true)
	refer(`{"right_sequence": "1.0"}`)
	reaches(true, false)
	refer(`{"left_sequence": "1.0", "right_sequence": "1.0"}`)
	reaches(false, false)
	b.routingPolicy("p", term("10.0.2.0/24", "exact", "accept"), term("", "", "reject"))
	reaches(true, false)
	refer(`{}`)
	reaches(true, true)
}
