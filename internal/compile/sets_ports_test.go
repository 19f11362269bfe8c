package compile

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
)

func (w *town) port(name string, vn *model.VirtualNetwork, refs ...model.Object) *model.VirtualMachineInterface {
	vmi := &model.VirtualMachineInterface{Meta: meta(model.KindVirtualMachineInterface, name)}
	w.put(vmi)
	w.refer(vmi, vn, "")
	for _, o := range refs {
		w.refer(vmi, o, "")
	}
	return vmi
}

func TestPort(t *testing.T) {
	w := &town{}
	project := &model.Project{Meta: model.Meta{UUID: model.DerivedUUID("project"), FQName: []string{"d", "p"}}}
	machine := &model.VirtualMachine{Meta: model.Meta{UUID: model.NewUUID(), FQName: []string{"m"}}}
	w.put(project)
	w.put(machine)
	blue := w.network("blue", 1)
	w.network("red", 2)
	web, db := w.tag("tier=web", webTier, false), w.tag("tier=db", dbTier, false)
	app, label := w.tag("application=hr", hrApp, false), w.tag("label=a", labelA, false)
	w.refer(machine, web, "")
	w.refer(blue, db, "")
	w.refer(blue, label, "")
	w.refer(project, app, "")
	w.attach(blue, w.policy("p", rule("np", "pass tcp local any <> red 80")), 0)
	hr := w.application("hr", false, w.firewallRule("fw", "deny", "any", ">", "any", tcp("81")), w.firewallRule("fw2", "pass", "any", ">", "any", tcp("any")))
	w.refer(hr, app, "")
	group := w.group("g", 8000001, rule("sg", "pass tcp 10.0.0.0/8 any > group:local 80-90"))
	port := w.port("a", blue, machine, group)
	twin := w.port("b", blue, machine, group)
	open := w.port("open", blue, group)
	open.PortSecurityEnabled = new(false)
	free := w.port("free", blue, group)
	free.VirtualMachineInterfaceDisablePolicy = new(true)
	lost := &model.VirtualMachineInterface{Meta: meta(model.KindVirtualMachineInterface, "lost")}
	w.put(lost)
	w.view(func(v *model.View) {
		p := PortOf(v, port.UUID)
		if p.Network != 1 || !slices.Equal(p.Groups, []uint32{8000001}) || !slices.Equal(p.Tags, []uint32{labelA, hrApp, webTier}) {
			t.Errorf("port %+v", p)
		}
		if q := PortOf(v, twin.UUID); !portUnit.same(p, q) {
			t.Errorf("an equal port %+v", q)
		}
		if q := PortOf(v, open.UUID); q.Ingress != nil || q.Egress != nil || q.Static == nil || q.Firewall == nil || len(q.Groups) != 1 {
			t.Errorf("without port security %+v", q)
		}
		if q := PortOf(v, free.UUID); q.Ingress != nil || q.Static != nil || q.Firewall != nil || len(q.Tags) == 0 {
			t.Errorf("without policy %+v", q)
		}
		if PortOf(v, lost.UUID) != nil {
			t.Error("a port in no network")
		}
		here, there := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		for _, c := range []struct {
			from, to uint32
			source   uint16
			port     uint16
			arrives  bool
			want     string
		}{
			{2, 1, 80, 85, true, "sg"},            // all pass it
			{1, 2, 999, 80, false, ImplicitDeny},  // no group lets anything leave
			{1, 1, 999, 85, true, "sg"},           // within the network
			{2, 1, 999, 85, true, ImplicitDeny},   // the network's policy
			{1, 1, 999, 81, true, "fw"},           // the firewall
			{1, 1, 999, 95, true, ImplicitDeny},   // the group
			{3, 1, 999, 85, true, "sg"},           // no policy is about it
			{1, 1, 999, 85, false, ImplicitDeny},  // nothing may leave
			{2, 2, 999, 9999, true, ImplicitDeny}, // not even nonsense
		} {
			got := p.Evaluate(Packet{Src: End{here, c.from, nil, nil}, Dst: End{there, c.to, nil, nil}, Protocol: 6, SrcPort: c.source, DstPort: c.port}, c.arrives)
			if got.Rule != c.want || got.Pass == (c.want == "fw" || c.want == ImplicitDeny) {
				t.Errorf("%+v: %+v", c, got)
			}
		}
	})
}

// parish draws the objects and references that policy follows from.
type parish struct{}

// pick is one of a few objects of a kind.
func (parish) pick(t *rapid.T, kind model.Kind) (name string, m model.Meta) {
	name = fmt.Sprintf("%c%d", kind[0], rapid.IntRange(0, 2).Draw(t, "which"))
	return name, meta(kind, name)
}

func (p parish) object(t *rapid.T) model.Object {
	kind := rapid.SampledFrom([]model.Kind{
		model.KindVirtualNetwork, model.KindNetworkPolicy, model.KindSecurityGroup, model.KindVirtualMachineInterface, model.KindVirtualMachine,
		model.KindTag, model.KindProject, model.KindApplicationPolicySet, model.KindFirewallPolicy, model.KindFirewallRule,
		model.KindAddressGroup, model.KindServiceGroup, model.KindGlobalVrouterConfig, model.KindTagType,
	}).Draw(t, "kind")
	name, m := p.pick(t, kind)
	flag := rapid.Bool().Draw(t, "flag")
	number := int64(m.UUID[0]) // of its own
	switch kind {
	case model.KindVirtualNetwork:
		return &model.VirtualNetwork{Meta: m, VirtualNetworkNetworkID: new(number*256 + int64(name[1])), IsProviderNetwork: &flag, FabricSNAT: new(rapid.Bool().Draw(t, "snat"))}
	case model.KindNetworkPolicy:
		return &model.NetworkPolicy{Meta: m, NetworkPolicyEntries: p.rules(t, "any", "local", "v0", "v1", "10.0.0.0/8", "policy:n0", "policy:n1", "group:s0")}
	case model.KindSecurityGroup:
		return &model.SecurityGroup{Meta: m, SecurityGroupID: new(8000000 + int64(name[1])), SecurityGroupEntries: p.rules(t, "group:local", "group:s0", "group:s1", "group:any", "10.0.0.0/8")}
	case model.KindVirtualMachineInterface:
		return &model.VirtualMachineInterface{Meta: m, PortSecurityEnabled: &flag}
	case model.KindVirtualMachine:
		return &model.VirtualMachine{Meta: m}
	case model.KindTag:
		m.FQName[2] = "tier=" + name
		return &model.Tag{Meta: m, TagID: fmt.Sprintf("0x%04x%04x", rapid.IntRange(0, 2).Draw(t, "type"), name[1])}
	case model.KindProject:
		m.UUID, m.FQName = model.DerivedUUID("project"), []string{"d", "p"}
		return &model.Project{Meta: m}
	case model.KindApplicationPolicySet:
		return &model.ApplicationPolicySet{Meta: m}
	case model.KindFirewallPolicy:
		return &model.FirewallPolicy{Meta: m}
	case model.KindFirewallRule:
		endpoint := rapid.SampledFrom([]*model.FirewallRuleEndpointType{
			{Any: new(true)}, {VirtualNetwork: "d:p:v0"}, {AddressGroup: "d:p:a0"}, {Tags: []string{"tier=t0"}}, {Tags: []string{"tier=t0", "tier=t1"}},
		})
		r := &model.FirewallRule{
			Meta: m, Endpoint1: endpoint.Draw(t, "one"), Endpoint2: endpoint.Draw(t, "two"), Direction: "<>",
			ActionList: &model.ActionListType{SimpleAction: "pass"}, Service: tcp("80"),
		}
		if flag {
			r.MatchTags = &model.FirewallRuleMatchTagsType{TagList: []string{"t0"}}
			r.Service = nil
		}
		return r
	case model.KindAddressGroup:
		return &model.AddressGroup{Meta: m, AddressGroupPrefix: &model.SubnetListType{Subnet: []model.SubnetType{*subnet("10.1.0.0/16")}}}
	case model.KindServiceGroup:
		return &model.ServiceGroup{Meta: m, ServiceGroupFirewallServiceList: &model.FirewallServiceGroupType{FirewallService: []model.FirewallServiceType{*tcp(rapid.SampledFrom([]string{"80", "81"}).Draw(t, "port"))}}}
	case model.KindTagType:
		m.FQName = []string{name}
		return &model.TagType{Meta: m, TagTypeID: "0x0002"}
	default:
		m.UUID, m.FQName = model.DerivedUUID("vrouters"), strings.Split(globalVrouterConfig, ":")
		return &model.GlobalVrouterConfig{Meta: m}
	}
}

func (parish) rules(t *rapid.T, addresses ...string) *model.PolicyEntriesType {
	address := rapid.SampledFrom(addresses)
	var e model.PolicyEntriesType
	for i := range rapid.IntRange(0, 3).Draw(t, "rules") {
		e.PolicyRule = append(e.PolicyRule, rule(fmt.Sprint(i), fmt.Sprintf("%s tcp %s any %s %s 80",
			rapid.SampledFrom([]string{"pass", "deny"}).Draw(t, "action"), address.Draw(t, "src"),
			rapid.SampledFrom([]string{">", "<>"}).Draw(t, "direction"), address.Draw(t, "dst"))))
	}
	return &e
}

func (p parish) reference(t *rapid.T) model.Reference {
	end := func(kind model.Kind) model.Entity {
		switch kind {
		case model.KindProject:
			return model.Entity{Kind: kind, UUID: model.DerivedUUID("project")}
		case model.KindGlobalVrouterConfig:
			return model.Entity{Kind: kind, UUID: model.DerivedUUID("vrouters")}
		}
		_, m := p.pick(t, kind)
		return model.Entity{Kind: kind, UUID: m.UUID}
	}
	x := rapid.SampledFrom([]struct {
		from, to model.Kind
		attrs    []string
	}{
		{model.KindVirtualNetwork, model.KindNetworkPolicy, []string{`{"sequence": {"major": 1, "minor": 0}}`, `{"sequence": {"major": 2, "minor": 1}}`, `{"timer": {}}`}},
		{model.KindVirtualNetwork, model.KindVirtualNetwork, nil},
		{model.KindVirtualNetwork, model.KindTag, nil},
		{model.KindVirtualMachineInterface, model.KindVirtualNetwork, nil},
		{model.KindVirtualMachineInterface, model.KindVirtualMachine, nil},
		{model.KindVirtualMachineInterface, model.KindSecurityGroup, nil},
		{model.KindVirtualMachineInterface, model.KindTag, nil},
		{model.KindVirtualMachine, model.KindTag, nil},
		{model.KindProject, model.KindTag, nil},
		{model.KindProject, model.KindApplicationPolicySet, nil},
		{model.KindApplicationPolicySet, model.KindTag, nil},
		{model.KindApplicationPolicySet, model.KindGlobalVrouterConfig, nil},
		{model.KindApplicationPolicySet, model.KindFirewallPolicy, []string{`{"sequence": "1"}`, `{"sequence": "2"}`}},
		{model.KindFirewallPolicy, model.KindFirewallRule, []string{`{"sequence": "1"}`, `{"sequence": "2"}`}},
		{model.KindFirewallRule, model.KindServiceGroup, nil},
		{model.KindAddressGroup, model.KindTag, nil},
	}).Draw(t, "reference")
	r := model.Reference{From: end(x.from), To: end(x.to)}
	if x.attrs != nil {
		r.Attr = []byte(rapid.SampledFrom(x.attrs).Draw(t, "attr"))
	}
	return r
}

// TestIncrementalPolicy: whatever is changed in whatever order, the sets are
// those of the configuration as it is.
func TestIncrementalPolicy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkIncremental(t, slices.Concat(roots, Policy), parish{}.object, parish{}.reference)
	})
}

// TestReportsOfPolicy: who follows the reports has the ports as they are.
func TestReportsOfPolicy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := model.NewGraph()
		s := g.Subscribe()
		defer s.Close()
		c := NewCompiler(Policy)
		ports := map[string]*Port{}
		for range rapid.IntRange(1, 20).Draw(t, "rounds") {
			mutate(t, g, parish{}.object, parish{}.reference)
			changes, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			g.View(func(v *model.View) {
				for id, change := range c.Apply(v, changes).Ports {
					if ports[id] = change.After; change.After == nil {
						delete(ports, id)
					}
				}
				for o := range v.All(model.KindVirtualMachineInterface) {
					id := o.GetMeta().UUID
					want, got := PortOf(v, id), ports[id]
					if (want == nil) != (got == nil) || want != nil && !portUnit.same(want, got) {
						t.Fatalf("port %s: %s", id, gocmp.Diff(want, got, gocmp.AllowUnexported(Selector{}), gocmp.Comparer(func(a, b netip.Prefix) bool { return a == b })))
					}
				}
			})
		}
	})
}

// manyPorts is a graph of ports in networks, with one policy for all networks
// that has many rules and names each, a group for each ten ports, and tags.
func manyPorts(b *testing.B, networks, ports, rules int) (*model.Graph, *model.NetworkPolicy, *town) {
	w := &town{}
	list := make([]*model.VirtualNetwork, networks)
	for i := range list {
		list[i] = w.network(fmt.Sprintf("n%d", i), int64(i+1))
	}
	var all []model.PolicyRuleType
	for i := range rules {
		src := []string{"local", "any", "10.0.0.0/8", fmt.Sprintf("n%d", i%networks)}[i%4]
		all = append(all, rule(model.DerivedUUID("rule", fmt.Sprint(i)), fmt.Sprintf("pass tcp %s any <> n%d,local %d", src, (i*7)%networks, i+1)))
	}
	p := w.policy("p", all...)
	for _, vn := range list {
		w.attach(vn, p, 0)
	}
	tags := []*model.Tag{w.tag("tier=web", webTier, false), w.tag("tier=db", dbTier, false)}
	var group *model.SecurityGroup
	for i := range ports {
		if i%10 == 0 {
			group = w.group(fmt.Sprintf("g%d", i/10), int64(8000000+i/10), rule("r", "pass tcp 10.0.0.0/8 any > group:local 80"), rule("r", "pass any group:local any > group:any any"))
		}
		m := &model.VirtualMachine{Meta: model.Meta{UUID: model.NewUUID(), FQName: []string{fmt.Sprintf("m%d", i)}}}
		w.put(m)
		w.port(fmt.Sprintf("i%d", i), list[i%networks], group, tags[i%2], m)
	}
	load := model.NewGraph()
	l := load.Load()
	for _, o := range w.batch.Objects {
		s, err := model.StoredOf(o)
		if err != nil {
			b.Fatal(err)
		}
		l.Add(model.Batch{Stored: []model.Stored{s}})
	}
	l.Add(model.Batch{References: w.batch.References})
	l.Done(model.Position{Epoch: 1, Revision: 1})
	return load, p, w
}

// BenchmarkPolicy1000 is a changed rule of a policy of 1,000 rules that 1,000
// networks have, with a port in each.
func BenchmarkPolicy1000(b *testing.B) {
	g, p, _ := manyPorts(b, 1000, 1000, 1000)
	c := NewCompiler(Policy)
	g.View(func(v *model.View) { c.Apply(v, model.Changes{Everything: true}) })
	changes := model.Changes{Objects: map[model.Entity]struct{}{model.EntityOf(p): {}}}
	n := int64(0)
	for b.Loop() {
		b.StopTimer()
		n++
		other := *p
		entries := *p.NetworkPolicyEntries
		entries.PolicyRule = slices.Clone(entries.PolicyRule)
		entries.PolicyRule[500].DstPorts = []model.PortType{{StartPort: new(10000 + n), EndPort: new(10000 + n)}}
		other.NetworkPolicyEntries = &entries
		s, err := model.StoredOf(&other)
		if err != nil {
			b.Fatal(err)
		}
		g.Apply(model.Batch{Position: model.Position{Epoch: 1, Revision: uint64(n) + 1}, Stored: []model.Stored{s}})
		b.StartTimer()
		g.View(func(v *model.View) {
			if r := c.Apply(v, changes); len(r.NetworkSets) != 1000 || len(r.Ports) != 1000 {
				b.Fatalf("%d networks and %d ports have other sets", len(r.NetworkSets), len(r.Ports))
			}
		})
	}
}

// BenchmarkPorts compiles 50,000 ports from nothing, and shows what they take
// in memory.
func BenchmarkPorts(b *testing.B) {
	g, _, _ := manyPorts(b, 1000, 50_000, 10)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var c *Compiler
	for b.Loop() {
		c = NewCompiler(Policy)
		g.View(func(v *model.View) { c.Apply(v, model.Changes{Everything: true}) })
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/50_000, "B/port")
	runtime.KeepAlive(c)
}

// BenchmarkOnePort is a change of one port among 50,000.
func BenchmarkOnePort(b *testing.B) {
	g, _, w := manyPorts(b, 1000, 50_000, 10)
	c := NewCompiler(Policy)
	g.View(func(v *model.View) { c.Apply(v, model.Changes{Everything: true}) })
	e := model.EntityOf(w.batch.Objects[len(w.batch.Objects)-1])
	changes := model.Changes{Objects: map[model.Entity]struct{}{e: {}}, References: map[model.Edge]struct{}{w.batch.References[len(w.batch.References)-1].Edge(): {}}}
	b.ReportAllocs()
	for b.Loop() {
		g.View(func(v *model.View) { c.Apply(v, changes) })
	}
}
