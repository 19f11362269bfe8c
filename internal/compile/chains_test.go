package compile

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
)

// routed makes a network with a prefix.
func (w *town) routed(name string, number int64) *model.VirtualNetwork {
	vn := w.network(name, number)
	ipam := &model.NetworkIPAM{Meta: meta(model.KindNetworkIPAM, name)}
	w.put(ipam)
	w.refer(vn, ipam, fmt.Sprintf(`{"ipam_subnets": [{"subnet": {"ip_prefix": "10.0.%d.0", "ip_prefix_len": 24}}]}`, number))
	return vn
}

// service makes a service with instances between two networks.
func (w *town) service(name, mode string, from, to *model.VirtualNetwork, instances int) *model.ServiceInstance {
	si := &model.ServiceInstance{Meta: meta(model.KindServiceInstance, name)}
	st := &model.ServiceTemplate{Meta: meta(model.KindServiceTemplate, name), ServiceTemplateProperties: &model.ServiceTemplateType{ServiceMode: mode}}
	w.put(si)
	w.put(st)
	w.refer(si, st, "")
	for n := range instances {
		tuple := &model.PortTuple{Meta: meta(model.KindPortTuple, fmt.Sprintf("%s%d", name, n+1))}
		tuple.ParentType, tuple.ParentUUID = string(model.KindServiceInstance), si.UUID
		w.put(tuple)
		w.servicePort(tuple, "left", from, n)
		w.servicePort(tuple, "right", to, n)
	}
	return si
}

// servicePort gives an instance of a service an interface in a network, with an
// address that tells the network, the service and the instance.
func (w *town) servicePort(tuple *model.PortTuple, side string, in *model.VirtualNetwork, n int) {
	name := tuple.DisplayName + "-" + side
	vmi := &model.VirtualMachineInterface{
		Meta: meta(model.KindVirtualMachineInterface, name), VirtualMachineInterfaceProperties: &model.VirtualMachineInterfacePropertiesType{ServiceInterfaceType: side},
	}
	ip := &model.InstanceIP{
		Meta: meta(model.KindInstanceIP, name), InstanceIPAddress: fmt.Sprintf("10.0.%d.%d", *in.VirtualNetworkNetworkID, int(tuple.DisplayName[0])+n),
	}
	w.put(vmi)
	w.put(ip)
	w.refer(vmi, tuple, "")
	w.refer(vmi, in, "")
	w.refer(ip, vmi, "")
}

// through is a rule that sends traffic through services.
func through(text string, services ...string) model.PolicyRuleType {
	r := rule("r-"+strings.Join(services, "-"), text)
	for _, s := range services {
		r.ActionList.ApplyService = append(r.ActionList.ApplyService, "d:p:"+s)
	}
	return r
}

// written is what a route says, in short.
func (r *ChainRoute) written() string {
	return fmt.Sprintf("%v to %d for %d from %d via %s in %d", r.Prefixes, r.Network, r.To, short(r.From), r.Address, r.Via)
}

// short makes numbers of passages readable: a name for each of the tests'.
func short(n uint32) uint32 {
	for i, name := range []string{"a", "b", "c"} {
		for at, s := range []side{left, right} {
			if n == passageNumber(model.DerivedUUID(string(model.KindServiceInstance), name), s) {
				return uint32(1001 + 10*i + at)
			}
		}
	}
	return n
}

func writtenRoutes(list []ChainRoute) []string {
	var all []string
	for i := range list {
		all = append(all, list[i].written())
	}
	slices.Sort(all)
	return all
}

// TestChain: what the networks and the services of chains forward to.
func TestChain(t *testing.T) {
	for name, c := range map[string]struct {
		services  func(w *town, blue, red *model.VirtualNetwork)
		rules     []model.PolicyRuleType
		onlyBlue  bool
		blue, red []string
		passages  map[string][]string // of a service: left, then right
		problems  []string            // of blue
	}{
		"one service": {
			services: func(w *town, blue, red *model.VirtualNetwork) { w.service("a", inNetwork, blue, red, 1) },
			rules:    []model.PolicyRuleType{through("pass any blue any <> red any", "a")},
			blue:     []string{"[10.0.2.0/24] to 2 for 1 from 2 via 10.0.1.97 in 1"},
			red:      []string{"[10.0.1.0/24] to 1 for 2 from 1 via 10.0.2.97 in 2"},
			passages: map[string][]string{"a": {"1", "2"}},
		},
		"two instances": {
			services: func(w *town, blue, red *model.VirtualNetwork) { w.service("a", inNetwork, blue, red, 2) },
			rules:    []model.PolicyRuleType{through("pass any blue any > red any", "a")},
			blue:     []string{"[10.0.2.0/24] to 2 for 1 from 2 via 10.0.1.97 in 1", "[10.0.2.0/24] to 2 for 1 from 2 via 10.0.1.98 in 1"},
			red:      []string{"[10.0.1.0/24] to 1 for 2 from 1 via 10.0.2.97 in 2", "[10.0.1.0/24] to 1 for 2 from 1 via 10.0.2.98 in 2"},
			passages: map[string][]string{"a": {"1", "2"}},
		},
		"two services": {
			services: func(w *town, blue, red *model.VirtualNetwork) {
				w.service("a", inNetwork, blue, red, 1)
				w.service("b", inNetwork, blue, red, 1)
			},
			rules: []model.PolicyRuleType{through("pass any blue any <> red any", "a", "b")},
			blue:  []string{"[10.0.2.0/24] to 2 for 1 from 1002 via 10.0.1.97 in 1"},
			red:   []string{"[10.0.1.0/24] to 1 for 2 from 1011 via 10.0.2.98 in 2"},
			passages: map[string][]string{
				"a": {"1", "1002 [10.0.1.0/24] to 1 for 2 from 1 via 10.0.2.97 in 2 [10.0.2.0/24] to 2 for 1 from 2 via 10.0.1.98 in 1"},
				"b": {"1011 [10.0.1.0/24] to 1 for 2 from 1 via 10.0.2.97 in 2 [10.0.2.0/24] to 2 for 1 from 2 via 10.0.1.98 in 1", "2"},
			},
		},
		"transparent": {
			services: func(w *town, _, _ *model.VirtualNetwork) {
				w.service("a", transparent, w.routed("in", 3), w.routed("out", 4), 1)
			},
			rules:    []model.PolicyRuleType{through("pass any blue any <> red any", "a")},
			blue:     []string{"[10.0.2.0/24] to 2 for 1 from 2 via 10.0.3.97 in 3"},
			red:      []string{"[10.0.1.0/24] to 1 for 2 from 1 via 10.0.4.97 in 4"},
			passages: map[string][]string{"a": {"1", "2"}},
		},
		"translating": {
			services: func(w *town, blue, red *model.VirtualNetwork) { w.service("a", inNetNAT, blue, red, 1) },
			rules:    []model.PolicyRuleType{through("pass any blue any <> red any", "a")},
			blue:     []string{"[10.0.2.0/24] to 2 for 1 from 2 via 10.0.1.97 in 1"},
			passages: map[string][]string{"a": {"1", "2"}},
		},
		"translating before another": {
			services: func(w *town, blue, red *model.VirtualNetwork) {
				w.service("a", inNetNAT, blue, red, 1)
				w.service("b", inNetwork, blue, red, 1)
			},
			rules:    []model.PolicyRuleType{through("pass any blue any <> red any", "a", "b")},
			problems: []string{"put it last"},
		},
		"asked for by one": {
			services: func(w *town, blue, red *model.VirtualNetwork) { w.service("a", inNetwork, blue, red, 1) },
			rules:    []model.PolicyRuleType{through("pass any blue any <> red any", "a")},
			onlyBlue: true,
		},
		"between all of a project": {
			services: func(w *town, blue, red *model.VirtualNetwork) { w.service("a", inNetwork, blue, red, 1) },
			rules:    []model.PolicyRuleType{through("pass any blue any > any any", "a")},
			blue:     []string{"[10.0.2.0/24] to 2 for 1 from 2 via 10.0.1.97 in 1"},
			red:      []string{"[10.0.1.0/24] to 1 for 2 from 1 via 10.0.2.97 in 2"},
			passages: map[string][]string{"a": {"1", "2"}},
		},
		"two ways": {
			services: func(w *town, blue, red *model.VirtualNetwork) {
				w.service("a", inNetwork, blue, red, 1)
				w.service("b", inNetwork, blue, red, 1)
			},
			rules: []model.PolicyRuleType{through("pass tcp blue any > red 80", "b"), through("pass any blue any > red any", "a")},
			// The first by the services' UUIDs, the same for both networks.
			blue:     []string{"[10.0.2.0/24] to 2 for 1 from 2 via 10.0.1.97 in 1"},
			red:      []string{"[10.0.1.0/24] to 1 for 2 from 1 via 10.0.2.97 in 2"},
			passages: map[string][]string{"a": {"1", "2"}},
			problems: []string{"more than one way"},
		},
		"a link beside it": {
			services: func(w *town, blue, red *model.VirtualNetwork) { w.service("a", inNetwork, blue, red, 1) },
			rules:    []model.PolicyRuleType{through("pass any blue any > red any", "a"), rule("link", "pass tcp blue any > red 22")},
			blue:     []string{"[10.0.2.0/24] to 2 for 1 from 2 via 10.0.1.97 in 1"},
			red:      []string{"[10.0.1.0/24] to 1 for 2 from 1 via 10.0.2.97 in 2"},
			passages: map[string][]string{"a": {"1", "2"}},
			problems: []string{"lead past the services of another rule, which therefore passes nothing"},
		},
		"no instance": {
			services: func(w *town, blue, red *model.VirtualNetwork) { w.service("a", inNetwork, blue, red, 0) },
			rules:    []model.PolicyRuleType{through("pass any blue any > red any", "a")},
			passages: map[string][]string{"a": {"1", "2"}},
			problems: []string{"no port-tuple"},
		},
		"no such service": {
			services: func(*town, *model.VirtualNetwork, *model.VirtualNetwork) {},
			rules:    []model.PolicyRuleType{through("pass any blue any > red any", "a")},
			problems: []string{"d:p:a, which does not exist"},
		},
		"in a circle": {
			services: func(w *town, blue, red *model.VirtualNetwork) { w.service("a", inNetwork, blue, red, 1) },
			rules:    []model.PolicyRuleType{through("pass any blue any > red any", "a", "a")},
			problems: []string{"in a circle"},
		},
		"of another project": {
			services: func(w *town, blue, red *model.VirtualNetwork) {
				w.service("a", inNetwork, blue, red, 1).ParentUUID = model.DerivedUUID("another project")
			},
			rules:    []model.PolicyRuleType{through("pass any blue any > red any", "a")},
			problems: []string{"of another project"},
		},
		"a mode that there is not": {
			services: func(w *town, blue, red *model.VirtualNetwork) { w.service("a", "sideways", blue, red, 1) },
			rules:    []model.PolicyRuleType{through("pass any blue any > red any", "a")},
			passages: map[string][]string{"a": {"1", "2"}},
			problems: []string{`service_mode "sideways"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &town{}
			blue, red := w.routed("blue", 1), w.routed("red", 2)
			c.services(w, blue, red)
			p := w.policy("p", c.rules...)
			w.attach(blue, p, 1)
			if !c.onlyBlue {
				w.attach(red, p, 1)
			}
			w.view(func(v *model.View) {
				got := [][]string{writtenRoutes(InstanceOf(v, blue.UUID).Chains), writtenRoutes(InstanceOf(v, red.UUID).Chains)}
				if diff := cmp.Diff([][]string{c.blue, c.red}, got); diff != "" {
					t.Error(diff)
				}
				for _, name := range []string{"a", "b"} {
					p := PassagesOf(v, model.DerivedUUID(string(model.KindServiceInstance), name))
					var sides []string
					if p != nil {
						for _, s := range p.Sides {
							sides = append(sides, strings.Join(append([]string{fmt.Sprint(short(s.Number))}, writtenRoutes(s.Routes)...), " "))
						}
					}
					if diff := cmp.Diff(c.passages[name], sides); diff != "" {
						t.Errorf("service %s: %s", name, diff)
					}
				}
				e := Explain(v, blue.UUID)
				if len(e.Problems) != len(c.problems) {
					t.Errorf("problems %v, want %v", e.Problems, c.problems)
				}
				for i, text := range c.problems {
					if i < len(e.Problems) && !strings.Contains(e.Problems[i].Text, text) {
						t.Errorf("problem %q, want %q", e.Problems[i].Text, text)
					}
				}
				answered := slices.ContainsFunc(e.Chains, func(x ExplainedChain) bool { return len(x.Theirs) > 0 })
				if want := len(c.passages) > 0; answered != want {
					t.Errorf("explained as %+v", e.Chains)
				}
			})
		})
	}
}

// TestSharedPassage: what leaves a service that is in the middle of one chain
// and at the end of another is looked up in a table of its own, with the routes
// of both; where two chains go different ways to the same network, one is taken.
func TestSharedPassage(t *testing.T) {
	w := &town{}
	blue, red, green := w.routed("blue", 1), w.routed("red", 2), w.routed("green", 3)
	w.service("a", inNetwork, blue, red, 1)
	w.service("b", inNetwork, blue, red, 1)
	w.service("c", inNetwork, blue, red, 1)
	p := w.policy("p", through("pass any blue any > red any", "a"), through("pass any blue any > green any", "a", "b"))
	other := w.policy("other", through("pass any red any > green any", "a", "c"))
	for _, vn := range []*model.VirtualNetwork{blue, red, green} {
		w.attach(vn, p, 1)
		w.attach(vn, other, 2)
	}
	w.view(func(v *model.View) {
		ps := PassagesOf(v, model.DerivedUUID(string(model.KindServiceInstance), "a"))
		onRight := ps.Sides[right]
		if !onRight.Own || !slices.Equal(onRight.Import, []Target{"target:64512:8000002"}) || len(onRight.Routes) != 2 {
			t.Errorf("its right forwards as %+v", onRight)
		}
		if len(ps.Problems) != 1 || !strings.Contains(ps.Problems[0].Text, "two ways lead from its right to virtual-network d:p:green") {
			t.Errorf("problems %v", ps.Problems)
		}
		// It is not for who may not see all that it names.
		for hidden, want := range map[string]bool{"": true, green.UUID: false} {
			e := Explain(v, blue.UUID)
			e.ShowOnly(false, func(o Origin) bool { return o.UUID != hidden })
			if got := slices.ContainsFunc(e.Problems, func(p Problem) bool { return strings.Contains(p.Text, "d:p:green") }); got != want {
				t.Errorf("without %q, the problem is shown: %v", hidden, got)
			}
		}
	})
}

// wantsNaively tells, straight from the definition, whether a network's
// policies ask for a way through services to another one, from its side.
func wantsNaively(v *model.View, a, b *model.VirtualNetwork, at side, services []string) bool {
	for _, r := range v.References(a.UUID, model.KindNetworkPolicy) {
		p, ok := model.Get[*model.NetworkPolicy](v, r.To.UUID)
		if !ok {
			continue
		}
		for _, rule := range p.NetworkPolicyEntries.PolicyRule {
			if rule.ActionList == nil || !slices.Equal(servicesNaively(v, p, rule.ActionList.ApplyService), services) {
				continue
			}
			mine, theirs := rule.SrcAddresses, rule.DstAddresses
			if at == right {
				mine, theirs = theirs, mine
			}
			here := slices.ContainsFunc(mine, func(x model.AddressType) bool {
				return x.VirtualNetwork == "any" || x.VirtualNetwork == "local" || meansNaively(v, x, a)
			})
			there := slices.ContainsFunc(theirs, func(x model.AddressType) bool {
				return x.VirtualNetwork == "any" && a.ParentUUID == b.ParentUUID || meansNaively(v, x, b)
			})
			if here && there {
				return true
			}
		}
	}
	return false
}

// servicesNaively are the services of a rule; nil when it sends traffic through
// none, or cannot.
func servicesNaively(v *model.View, p *model.NetworkPolicy, names []string) []string {
	var list []string
	for _, name := range names {
		o, ok := v.ByName(model.KindServiceInstance, model.ParseFQ(model.KindServiceInstance, name))
		if !ok || o.GetMeta().ParentUUID != p.ParentUUID || slices.Contains(list, o.GetMeta().UUID) {
			return nil
		}
		list = append(list, o.GetMeta().UUID)
	}
	return list
}

// drawChains makes all policies lead through services.
func drawChains(t *rapid.T, g *model.Graph) model.Batch {
	b := model.Batch{Position: model.Position{Epoch: 1, Revision: g.Position().Revision + 1}}
	for n := range 4 {
		meta := func(kind model.Kind) model.Meta {
			return model.Meta{UUID: drawnID(kind, n), FQName: drawnName(kind, n), ParentType: "project", ParentUUID: model.DerivedUUID("project", fmt.Sprint(n%2))}
		}
		rules := rapid.SliceOfN(rapid.Custom(drawRule), 1, 3).Draw(t, "rules")
		for i := range rules {
			rules[i].ActionList = &model.ActionListType{}
			services := rapid.Permutation([]int{n % 2, n%2 + 2}).Draw(t, "services") // of its project
			for _, s := range services[:rapid.IntRange(1, 2).Draw(t, "number")] {
				name := drawnName(model.KindServiceInstance, s)
				rules[i].ActionList.ApplyService = append(rules[i].ActionList.ApplyService, model.FQString(name))
			}
		}
		b.Objects = append(b.Objects, &model.ServiceInstance{Meta: meta(model.KindServiceInstance)}, &model.NetworkPolicy{
			Meta: meta(model.KindNetworkPolicy), NetworkPolicyEntries: &model.PolicyEntriesType{PolicyRule: rules},
		})
	}
	return b
}

// TestChainsAreOfBoth: there is a chain between two networks if, and only if,
// both ask for it from their sides, it can be gone, and it is the first such.
func TestChainsAreOfBoth(t *testing.T) {
	found, long := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		g := drawGraph(t)
		g.Apply(drawChains(t, g))
		g.View(func(v *model.View) {
			var names [][]string
			for x := range 4 {
				names = append(names, []string{drawnID(model.KindServiceInstance, x)})
				for y := range 4 {
					if x != y {
						names = append(names, []string{drawnID(model.KindServiceInstance, x), drawnID(model.KindServiceInstance, y)})
					}
				}
			}
			g := graphOf(v)
			for _, x := range networkIDs(v) {
				for _, y := range networkIDs(v) {
					a, _ := model.Get[*model.VirtualNetwork](v, x)
					b, _ := model.Get[*model.VirtualNetwork](v, y)
					if x >= y || InstanceOf(v, x) == nil || InstanceOf(v, y) == nil {
						continue
					}
					var want *Chain
					for _, list := range names {
						for _, ends := range [][2]*model.VirtualNetwork{{a, b}, {b, a}} {
							c := &Chain{Ends: [2]string{ends[0].UUID, ends[1].UUID}, Services: list}
							asked := wantsNaively(v, ends[0], ends[1], left, list) && wantsNaively(v, ends[1], ends[0], right, list)
							nat := len(list) == 2 && services.get(g, list[0]) != nil && services.get(g, list[0]).NAT
							if asked && !nat && (want == nil || c.compare(want) < 0) {
								want = c
							}
						}
					}
					for _, of := range []string{x, y} {
						var got []Chain
						if n := networkChains.get(g, of); n != nil {
							got = slices.DeleteFunc(slices.Clone(n.Chains), func(c Chain) bool {
								return !c.hasEnds(Chain{Ends: [2]string{x, y}})
							})
						}
						switch {
						case want == nil && len(got) > 0 || want != nil && (len(got) != 1 || got[0].compare(want) != 0):
							t.Fatalf("between %v and %v there is %+v, want %+v", a.FQName, b.FQName, got, want)
						case want != nil && len(want.Services) > 1:
							long++
						case want != nil:
							found++
						}
					}
				}
			}
		})
	})
	if found == 0 || long == 0 {
		t.Errorf("%d chains of one service and %d of more were found", found, long)
	}
}

// TestServiceViews: each service of a chain has a routing instance below each
// end, which can be found by its id, and which tells the way on.
func TestServiceViews(t *testing.T) {
	w := &town{}
	blue, red := w.routed("blue", 1), w.routed("red", 2)
	a, b := w.service("a", inNetwork, blue, red, 1), w.service("b", inNetwork, blue, red, 1)
	p := w.policy("p", through("pass any blue any <> red any", "a", "b"))
	w.attach(blue, p, 1)
	w.attach(red, p, 1)
	w.view(func(v *model.View) {
		views := ViewsOf(v)
		names := map[string]string{} // of what is behind each, by its name
		for _, vn := range []*model.VirtualNetwork{blue, red} {
			d, ok := views.Of(vn.UUID)
			if !ok || len(d.Services) != 2 {
				t.Fatalf("%v has %+v", vn.FQName, d.Services)
			}
			for _, s := range d.Services {
				i := s.Instance
				if i.ParentUUID != vn.UUID || !IsServiceView(i.UUID) || views.NetworkOf(i.UUID) != vn.UUID || len(s.From) != 4 {
					t.Errorf("%+v is found below %s and tells of %v", i, views.NetworkOf(i.UUID), s.From)
				}
				names[model.FQString(i.FQName)] = i.ServiceChainInformation.RoutingInstance + " through " + i.ServiceChainInformation.ServiceChainAddress
			}
		}
		chain := Chain{Ends: [2]string{blue.UUID, red.UUID}, Services: []string{a.UUID, b.UUID}}
		at := func(network, service string) string {
			return "d:p:" + network + ":service-" + chain.id() + "-d_p_" + service
		}
		want := map[string]string{
			at("blue", "a"): at("blue", "b") + " through 10.0.1.97", at("blue", "b"): "d:p:red:red through 10.0.1.98",
			at("red", "b"): at("red", "a") + " through 10.0.2.98", at("red", "a"): "d:p:blue:blue through 10.0.2.97",
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Error(diff)
		}
		if got := views.NetworkOf("636861696e73-8000-80"); got != "" {
			t.Errorf("what is no id is below %q", got)
		}
	})
}

// TestChainedRules: a rule that sends traffic through services passes it
// between the ends of its chain, in its place among the rules, and only where
// nothing leads past the services.
func TestChainedRules(t *testing.T) {
	for name, c := range map[string]struct {
		more   func(w *town, blue, red *model.VirtualNetwork)
		rules  []model.PolicyRuleType
		passes map[string]bool // of packets, NETWORK:PORT > NETWORK:PORT
		listed []string
	}{
		"chain": {
			rules:  []model.PolicyRuleType{through("pass tcp blue any > red 80", "a")},
			passes: map[string]bool{"1:4711 > 2:80": true, "1:4711 > 2:81": false, "2:4711 > 1:80": false},
			listed: []string{"r-a: pass 6 blue any red 80"},
		},
		"both ways": {
			rules:  []model.PolicyRuleType{through("pass tcp blue any <> red 80", "a")},
			passes: map[string]bool{"1:4711 > 2:80": true, "1:4711 > 2:81": false, "2:4711 > 1:80": false, "2:80 > 1:4711": true},
			listed: []string{"r-a: pass 6 blue any red 80", "r-a: pass 6 red 80 blue any"},
		},
		"denied before": {
			rules:  []model.PolicyRuleType{rule("no", "deny tcp blue any > red 80"), through("pass tcp blue any > red any", "a")},
			passes: map[string]bool{"1:4711 > 2:80": false, "1:4711 > 2:81": true},
			listed: []string{"no: deny 6 blue any red 80", "r-a: pass 6 blue any red any"},
		},
		"denied after": {
			rules:  []model.PolicyRuleType{through("pass tcp blue any > red any", "a"), rule("no", "deny tcp blue any > red 80")},
			passes: map[string]bool{"1:4711 > 2:80": true, "1:4711 > 2:81": true},
			listed: []string{"r-a: pass 6 blue any red any", "no: deny 6 blue any red 80"},
		},
		"a link": {
			rules:  []model.PolicyRuleType{through("pass tcp blue any > red 80", "a"), rule("link", "pass tcp blue any > red 22")},
			passes: map[string]bool{"1:4711 > 2:80": false, "1:4711 > 2:22": true},
			listed: []string{"link: pass 6 blue any red 22"},
		},
		"a router": {
			more: func(w *town, blue, red *model.VirtualNetwork) {
				lr := &model.LogicalRouter{Meta: meta(model.KindLogicalRouter, "lr")}
				w.put(lr)
				w.refer(blue, lr, "")
				w.refer(red, lr, "")
			},
			rules:  []model.PolicyRuleType{through("pass tcp blue any > red 80", "a")},
			passes: map[string]bool{"1:4711 > 2:80": false},
		},
		"no chain": {
			rules:  []model.PolicyRuleType{through("pass tcp blue any > red 80", "a", "a")},
			passes: map[string]bool{"1:4711 > 2:80": false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &town{}
			blue, red := w.routed("blue", 1), w.routed("red", 2)
			w.service("a", inNetwork, blue, red, 1)
			if c.more != nil {
				c.more(w, blue, red)
			}
			p := w.policy("p", c.rules...)
			w.attach(blue, p, 1)
			w.attach(red, p, 1)
			w.view(func(v *model.View) {
				for text, want := range c.passes {
					packet := Packet{Protocol: 6}
					if _, err := fmt.Sscanf(text, "%d:%d > %d:%d", &packet.Src.Network, &packet.SrcPort, &packet.Dst.Network, &packet.DstPort); err != nil {
						t.Fatal(err)
					}
					for _, vn := range []*model.VirtualNetwork{blue, red} {
						if got := NetworkSetsOf(v, vn.UUID).Static.Evaluate(uint32(*vn.VirtualNetworkNetworkID), packet); got.Pass != want {
							t.Errorf("%s: %s: %+v, want %t", vn.DisplayName, text, got, want)
						}
					}
				}
				list, _ := NetworkLists(v, blue.UUID, func(model.Entity) bool { return true })
				var listed []string
				for i, text := range entryTexts(list) {
					if list.Entries[i].Rule > 0 {
						listed = append(listed, text)
					}
				}
				if diff := cmp.Diff(c.listed, listed); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}
