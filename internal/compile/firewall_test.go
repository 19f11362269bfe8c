package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/contrail-mesos/contrail/internal/model"
)

// scoped gives an object a name in the project, or in the cluster's
// policy-management.
func scoped(m model.Meta, global bool) model.Meta {
	if global {
		m.FQName = []string{"default-policy-management", m.FQName[2]}
		m.ParentType, m.ParentUUID = "policy-management", model.DerivedUUID("policies")
	}
	return m
}

func (w *town) tag(text string, id uint32, global bool) *model.Tag {
	typ, value, _ := strings.Cut(text, "=")
	t := &model.Tag{Meta: meta(model.KindTag, text), TagID: fmt.Sprintf("0x%08x", id), TagTypeName: typ, TagValue: value}
	if global {
		t.Meta = model.Meta{UUID: model.DerivedUUID("tag", text), FQName: []string{text}}
	}
	w.put(t)
	return t
}

func (w *town) firewallRule(name, action, one, direction, two string, service *model.FirewallServiceType) *model.FirewallRule {
	endpoint := func(text string) *model.FirewallRuleEndpointType {
		kind, name, _ := strings.Cut(text, ":")
		switch {
		case text == "any":
			return &model.FirewallRuleEndpointType{Any: new(true)}
		case strings.Contains(text, "="):
			return &model.FirewallRuleEndpointType{Tags: strings.Split(text, ",")}
		case kind == "addresses":
			return &model.FirewallRuleEndpointType{AddressGroup: "d:p:" + name}
		case strings.Contains(text, "/"):
			return &model.FirewallRuleEndpointType{Subnet: subnet(text)}
		}
		return &model.FirewallRuleEndpointType{VirtualNetwork: "d:p:" + text}
	}
	r := &model.FirewallRule{
		Meta: meta(model.KindFirewallRule, name), ActionList: &model.ActionListType{SimpleAction: action},
		Endpoint1: endpoint(one), Direction: direction, Endpoint2: endpoint(two), Service: service,
	}
	r.UUID = name // as verdicts name it
	w.put(r)
	return r
}

// application makes a policy set with one policy of some rules.
func (w *town) application(name string, global bool, rules ...*model.FirewallRule) *model.ApplicationPolicySet {
	a := &model.ApplicationPolicySet{Meta: scoped(meta(model.KindApplicationPolicySet, name), global)}
	p := &model.FirewallPolicy{Meta: scoped(meta(model.KindFirewallPolicy, name), global)}
	w.put(a)
	w.put(p)
	w.refer(a, p, `{"sequence": "1.0"}`)
	for i, r := range rules {
		w.refer(p, r, fmt.Sprintf(`{"sequence": "%c"}`, 'a'+i))
	}
	return a
}

func tcp(port string) *model.FirewallServiceType {
	return &model.FirewallServiceType{Protocol: "tcp", DstPorts: new(portRange(port))}
}

const (
	webTier   = 2<<16 | 1
	dbTier    = 2<<16 | 2
	hrApp     = 1<<16 | 1
	labelA    = 1
	labelB    = 2
	siteOne   = 4<<16 | 1
	siteTwo   = 4<<16 | 2
	anyPortNr = 4000
)

func TestFirewall(t *testing.T) {
	type packet struct {
		from, to         string
		network          uint32
		fromTags, toTags []uint32
		port             uint16
		want             string // rule, with ! in front when it denies
	}
	for _, c := range []struct {
		name    string
		build   func(w *town) []*model.FirewallRule
		packets []packet
	}{
		{"tags, one direction", func(w *town) []*model.FirewallRule {
			w.tag("tier=web", webTier, false)
			w.tag("tier=db", dbTier, false)
			return []*model.FirewallRule{w.firewallRule("r1", "pass", "tier=web", ">", "tier=db", tcp("80"))}
		}, []packet{
			{"10.0.0.1", "10.0.0.2", 1, []uint32{webTier}, []uint32{dbTier}, 80, "r1"},
			{"10.0.0.1", "10.0.0.2", 1, []uint32{dbTier}, []uint32{webTier}, 80, ""},
			{"10.0.0.1", "10.0.0.2", 1, []uint32{webTier}, []uint32{dbTier}, 81, ""},
			{"10.0.0.1", "10.0.0.2", 1, []uint32{webTier}, nil, 80, ""},
		}},
		{"the other and both directions", func(w *town) []*model.FirewallRule {
			w.tag("tier=web", webTier, false)
			w.tag("tier=db", dbTier, false)
			return []*model.FirewallRule{
				w.firewallRule("r1", "deny", "tier=web", "<", "tier=db", tcp("80")),
				w.firewallRule("r2", "pass", "tier=web", "<>", "tier=db", tcp("any")),
			}
		}, []packet{
			{"10.0.0.1", "10.0.0.2", 1, []uint32{dbTier}, []uint32{webTier}, 80, "!r1"},
			{"10.0.0.1", "10.0.0.2", 1, []uint32{webTier}, []uint32{dbTier}, 80, "r2"},
			{"10.0.0.1", "10.0.0.2", 1, []uint32{dbTier}, []uint32{webTier}, 81, "r2"},
		}},
		{"all tags of an end, and a global one", func(w *town) []*model.FirewallRule {
			w.tag("tier=web", webTier, false)
			w.tag("application=hr", hrApp, true)
			return []*model.FirewallRule{w.firewallRule("r1", "pass", "tier=web,global:application=hr", ">", "any", tcp("80"))}
		}, []packet{
			{"10.0.0.1", "10.0.0.2", 1, []uint32{webTier}, nil, 80, ""},
			{"10.0.0.1", "10.0.0.2", 1, []uint32{webTier, hrApp}, nil, 80, "r1"},
		}},
		{"a tag that does not exist is nobody's", func(w *town) []*model.FirewallRule {
			w.tag("tier=web", webTier, false)
			return []*model.FirewallRule{w.firewallRule("r1", "pass", "tier=web,tier=none", ">", "any", tcp("80"))}
		}, []packet{
			{"10.0.0.1", "10.0.0.2", 1, []uint32{webTier}, nil, 80, ""},
		}},
		{"a service that nobody understands is refused", func(w *town) []*model.FirewallRule {
			return []*model.FirewallRule{w.firewallRule("r1", "pass", "any", ">", "any", &model.FirewallServiceType{Protocol: "tpc"})}
		}, []packet{
			{"10.0.0.1", "10.0.0.2", 1, nil, nil, 80, ""},
		}},
		{"match tags", func(w *town) []*model.FirewallRule {
			w.put(&model.TagType{Meta: model.Meta{UUID: model.DerivedUUID("tag-type", "site"), FQName: []string{"site"}}, TagTypeID: "0x0004"})
			r := w.firewallRule("r1", "pass", "any", ">", "any", tcp("80"))
			r.MatchTags = &model.FirewallRuleMatchTagsType{TagList: []string{"site"}}
			return []*model.FirewallRule{r}
		}, []packet{
			{"10.0.0.1", "10.0.0.2", 1, []uint32{siteOne}, []uint32{siteOne}, 80, "r1"},
			{"10.0.0.1", "10.0.0.2", 1, []uint32{siteOne}, []uint32{siteTwo}, 80, ""},
			{"10.0.0.1", "10.0.0.2", 1, nil, nil, 80, ""},
		}},
		{"networks, prefixes, address groups", func(w *town) []*model.FirewallRule {
			w.network("blue", 1)
			w.put(&model.AddressGroup{
				Meta:               meta(model.KindAddressGroup, "offices"),
				AddressGroupPrefix: &model.SubnetListType{Subnet: []model.SubnetType{*subnet("192.0.2.0/24"), *subnet("2001:db8::/32")}},
			})
			return []*model.FirewallRule{
				w.firewallRule("r1", "pass", "addresses:offices", ">", "blue", tcp("80")),
				w.firewallRule("r2", "pass", "10.0.0.0/24", ">", "any", tcp("81")),
			}
		}, []packet{
			{"192.0.2.7", "10.0.0.2", 1, nil, nil, 80, "r1"},
			{"192.0.3.7", "10.0.0.2", 1, nil, nil, 80, ""},
			{"192.0.2.7", "10.0.0.2", 2, nil, nil, 80, ""},
			{"10.0.0.7", "10.0.0.2", 2, nil, nil, 81, "r2"},
		}},
		{"a labelled address group is where its label is", func(w *town) []*model.FirewallRule {
			a, b := w.tag("label=a", labelA, false), w.tag("label=b", labelB, false)
			prefixes := func(name, fq, prefix string) *model.AddressGroup {
				g := &model.AddressGroup{Meta: meta(model.KindAddressGroup, name), AddressGroupPrefix: &model.SubnetListType{Subnet: []model.SubnetType{*subnet(prefix)}}}
				g.FQName = append(strings.Split(fq, ":"), name)
				w.put(g)
				return g
			}
			both, one, foreign := prefixes("both", "d:p", "192.0.2.0/24"), prefixes("one", "d:p", "198.51.100.0/24"), prefixes("foreign", "d:other", "203.0.113.0/24")
			w.refer(both, a, "")
			w.refer(both, b, "")
			w.refer(one, a, "")
			w.refer(foreign, a, "")
			w.refer(foreign, b, "")
			return []*model.FirewallRule{w.firewallRule("r1", "pass", "label=a,label=b", ">", "any", tcp("80"))}
		}, []packet{
			{"192.0.2.7", "10.0.0.2", 1, nil, nil, 80, "r1"},
			{"198.51.100.7", "10.0.0.2", 1, nil, nil, 80, ""},
			{"203.0.113.7", "10.0.0.2", 1, nil, nil, 80, ""},
			{"10.0.0.1", "10.0.0.2", 1, []uint32{labelA, labelB}, nil, 80, "r1"},
			{"10.0.0.1", "10.0.0.2", 1, []uint32{labelA}, nil, 80, ""},
		}},
		{"service groups", func(w *town) []*model.FirewallRule {
			g := &model.ServiceGroup{Meta: meta(model.KindServiceGroup, "web"), ServiceGroupFirewallServiceList: &model.FirewallServiceGroupType{
				FirewallService: []model.FirewallServiceType{*tcp("80"), {ProtocolID: new(int64(6)), DstPorts: new(portRange("443-444"))}},
			}}
			w.put(g)
			r := w.firewallRule("r1", "pass", "any", ">", "any", nil)
			w.refer(r, g, "")
			return []*model.FirewallRule{r}
		}, []packet{
			{"10.0.0.1", "10.0.0.2", 1, nil, nil, 80, "r1"},
			{"10.0.0.1", "10.0.0.2", 1, nil, nil, 444, "r1"},
			{"10.0.0.1", "10.0.0.2", 1, nil, nil, 445, ""},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &town{}
			a := w.application("a", false, c.build(w)...)
			w.view(func(v *model.View) {
				app := compileApplication(graphOf(v), a.UUID)
				set, _ := firewallSet([]*applicationRules{app})
				for _, p := range c.packets {
					got := set.Evaluate(1, Packet{
						Src: End{netip.MustParseAddr(p.from), 1, nil, p.fromTags}, Dst: End{netip.MustParseAddr(p.to), p.network, nil, p.toTags},
						Protocol: 6, SrcPort: anyPortNr, DstPort: p.port,
					})
					rule, denies := strings.CutPrefix(p.want, "!")
					if rule == "" {
						rule, denies = ImplicitDeny, true
					}
					if got.Rule != rule || got.Pass == denies {
						t.Errorf("%+v: %+v", p, got)
					}
				}
			})
		})
	}
}

// TestSequences: places are compared as texts, whatever numbers they look like.
func TestSequences(t *testing.T) {
	w := &town{}
	p := &model.FirewallPolicy{Meta: meta(model.KindFirewallPolicy, "p")}
	w.put(p)
	for _, s := range []string{"9", "10", "1.5", "1.10"} {
		w.refer(p, w.firewallRule(s, "pass", "any", ">", "any", tcp("80")), fmt.Sprintf(`{"sequence": %q}`, s))
	}
	w.view(func(v *model.View) {
		if got := inSequence(graphOf(v), p.UUID, model.KindFirewallRule); !slices.Equal(got, []string{"1.10", "1.5", "10", "9"}) {
			t.Errorf("order %v", got)
		}
	})
}

// TestApplications: the cluster's policy sets come first, then the project's,
// then those of the application; a tag of the cluster gives other projects no
// say.
func TestApplications(t *testing.T) {
	w := &town{}
	vrouters := &model.GlobalVrouterConfig{Meta: model.Meta{UUID: model.DerivedUUID("vrouters"), FQName: strings.Split(globalVrouterConfig, ":")}}
	project := &model.Project{Meta: model.Meta{UUID: model.DerivedUUID("project"), FQName: []string{"d", "p"}}}
	w.put(vrouters)
	w.put(project)
	app := w.tag("application=hr", hrApp, true)
	cluster, ofProject, tagged, taggedCluster := w.application("cluster", true), w.application("a-project", false), w.application("a-tagged", false), w.application("z-tagged", true)
	foreign := w.application("foreign", false)
	foreign.FQName[1] = "other"
	w.refer(cluster, vrouters, "")
	w.refer(project, ofProject, "")
	for _, a := range []*model.ApplicationPolicySet{tagged, taggedCluster, foreign, cluster} {
		w.refer(a, app, "")
	}
	w.view(func(v *model.View) {
		got := applications(graphOf(v), project.UUID, []string{app.UUID})
		want := []string{cluster.UUID, ofProject.UUID, taggedCluster.UUID, tagged.UUID}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if got := applications(graphOf(v), project.UUID, nil); !slices.Equal(got, want[:2]) {
			t.Errorf("without a tag %v", got)
		}
	})
}

func TestInheritTags(t *testing.T) {
	iface, machine := tagSet{webTier: "i", labelA: "i"}, tagSet{dbTier: "m", siteOne: "m"}
	network, project := tagSet{siteTwo: "n", labelB: "n"}, tagSet{hrApp: "p", labelA: "p"}
	got := inherit(iface, machine, network, project)
	want := []uint32{labelA, labelB, hrApp, webTier, siteOne}
	if !slices.Equal(got.numbers(), want) {
		t.Errorf("tags %x, want %x", got.numbers(), want)
	}
}
