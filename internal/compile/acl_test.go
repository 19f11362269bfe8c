package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
)

// entryText is an entry in the words of rule.
func entryText(e *model.AclRuleType) string {
	m := e.MatchCondition
	address := func(a *model.AddressType) string {
		switch {
		case a.Subnet != nil:
			return fmt.Sprintf("%s/%d", a.Subnet.IPPrefix, a.Subnet.IPPrefixLen)
		case a.SecurityGroup != "":
			return "group:" + strings.TrimPrefix(a.SecurityGroup, "d:p:")
		case a.VirtualNetwork == "":
			return "-"
		}
		return strings.TrimPrefix(a.VirtualNetwork, "d:p:")
	}
	ports := func(p *model.PortType) string {
		switch first, last := *p.StartPort, *p.EndPort; {
		case first == -1:
			return "any"
		case first == last:
			return strconv.FormatInt(first, 10)
		default:
			return fmt.Sprintf("%d-%d", first, last)
		}
	}
	id := e.RuleUUID
	switch id {
	case ImplicitAllow:
		id = "allow"
	case ImplicitDeny:
		id = "deny"
	}
	return fmt.Sprintf("%s: %s %s %s %s %s %s", id, e.ActionList.SimpleAction, m.Protocol,
		address(m.SrcAddress), ports(m.SrcPort), address(m.DstAddress), ports(m.DstPort))
}

func entryTexts(l *AccessList) []string {
	if l == nil {
		return nil
	}
	list := []string{}
	for i := range l.Entries {
		list = append(list, entryText(&l.Entries[i].AclRuleType))
	}
	return list
}

func TestNetworkLists(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(w *town, blue, red *model.VirtualNetwork)
		want  []string
	}{
		{"no policy", func(*town, *model.VirtualNetwork, *model.VirtualNetwork) {}, nil},
		{
			"both directions",
			func(w *town, blue, red *model.VirtualNetwork) {
				w.attach(blue, w.policy("p", rule("r1", "pass tcp local any <> red 80")), 0)
			},
			[]string{
				"r1: pass 6 blue any red 80", "r1: pass 6 red 80 blue any",
				"allow: pass any blue any blue any",
				"deny: deny any blue any red any", "deny: deny any red any blue any",
				"allow: pass any any any any any",
			},
		},
		{
			"one direction is denied in the other",
			func(w *town, blue, red *model.VirtualNetwork) {
				w.attach(blue, w.policy("p", rule("r1", "pass udp blue 53,100-200 > red any")), 0)
			},
			[]string{
				"r1: pass 17 blue 53 red any", "r1: pass 17 blue 100-200 red any",
				"allow: pass any blue any blue any",
				"deny: deny any blue any red any", "deny: deny any red any blue any",
				"allow: pass any any any any any",
			},
		},
		{
			"rules of others do not concern it",
			func(w *town, blue, red *model.VirtualNetwork) {
				w.network("green", 3)
				w.attach(blue, w.policy("p", rule("r1", "deny any red any > green any"), rule("r2", "pass any 10.0.0.0/8 any > red any"), rule("r3", "deny icmp 10.0.0.0/8 any > 2001:db8::/32 8-0")), 0)
			},
			[]string{
				"r3: deny 1 10.0.0.0/8 any 2001:db8::/32 8-0",
				"allow: pass any blue any blue any",
				"deny: deny any 10.0.0.0/8 any 2001:db8::/32 any", "deny: deny any 2001:db8::/32 any 10.0.0.0/8 any",
				"allow: pass any any any any any",
			},
		},
		{
			"policies by sequence, the networks of a policy, groups",
			func(w *town, blue, red *model.VirtualNetwork) {
				a, b := w.policy("a", rule("r1", "deny 47 any any > local any")), w.policy("b", rule("r2", "pass any policy:a any > group:g any"))
				w.group("g", 8000001)
				w.attach(blue, a, 2)
				w.attach(red, a, 0)
				w.attach(blue, b, 1)
			},
			[]string{
				"r2: pass any blue any group:g any",
				"r1: deny 47 any any blue any",
				"allow: pass any blue any blue any",
				"deny: deny any blue any group:g any", "deny: deny any group:g any blue any",
				"deny: deny any any any blue any", "deny: deny any blue any any any",
				"allow: pass any any any any any",
			},
		},
		{
			"icmp of IPv6 keeps its type in the other direction",
			func(w *town, blue, red *model.VirtualNetwork) {
				r := rule("r1", "pass icmp local any <> red 128-0")
				r.Ethertype = "IPv6"
				w.attach(blue, w.policy("p", r), 0)
			},
			[]string{
				"r1: pass 58 blue any red 128-0", "r1: pass 58 red any blue 128-0",
				"allow: pass any blue any blue any",
				"deny: deny any blue any red any", "deny: deny any red any blue any",
				"allow: pass any any any any any",
			},
		},
		{
			"a service is not gone past",
			func(w *town, blue, red *model.VirtualNetwork) {
				r := rule("r1", "pass any local any <> red any")
				r.ActionList.ApplyService = []string{"d:p:firewall"}
				w.attach(blue, w.policy("p", r), 0)
			},
			[]string{
				"allow: pass any blue any blue any",
				"deny: deny any blue any red any", "deny: deny any red any blue any",
				"allow: pass any any any any any",
			},
		},
		{
			"provider",
			func(w *town, blue, red *model.VirtualNetwork) {
				red.IsProviderNetwork = new(true)
				w.refer(blue, red, "")
			},
			[]string{
				"allow: pass any blue any blue any",
				"deny: deny any blue any red any", "deny: deny any red any blue any",
				"allow: pass any any any any any",
			},
		},
		{
			"being one",
			func(w *town, blue, red *model.VirtualNetwork) { blue.IsProviderNetwork = new(true) },
			[]string{
				"allow: pass any blue any blue any",
				"deny: deny any blue any any any", "deny: deny any any any blue any",
				"allow: pass any any any any any",
			},
		},
		{
			"without logical routers",
			func(w *town, blue, red *model.VirtualNetwork) {
				w.tune(TuneLogicalRouters, "false")
				w.attach(blue, w.policy("p", rule("r1", "pass tcp local any > red 80")), 0)
			},
			[]string{
				"r1: pass 6 blue any red 80",
				"allow: pass any blue any blue any",
				"deny: deny any any any any any",
			},
		},
		{
			"without logical routers, and with a way to the fabric",
			func(w *town, blue, red *model.VirtualNetwork) {
				w.tune(TuneLogicalRouters, "false")
				blue.FabricSNAT = new(true)
				w.refer(blue, red, "")
			},
			[]string{
				"allow: pass any blue any blue any",
				"deny: deny any blue any any any", "deny: deny any any any blue any",
				"deny: deny any any any any any",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &town{}
			blue, red := w.network("blue", 1), w.network("red", 2)
			c.build(w, blue, red)
			w.view(func(v *model.View) {
				static, timed := NetworkLists(v, blue.UUID, anybody)
				if diff := gocmp.Diff(c.want, entryTexts(static)); diff != "" {
					t.Error(diff)
				}
				if timed != nil {
					t.Errorf("a list of timed policies: %v", entryTexts(timed))
				}
			})
		})
	}
}

// TestTimedPolicies: they are in a list of their own, which nothing is implied
// in.
func TestTimedPolicies(t *testing.T) {
	w := &town{}
	blue := w.network("blue", 1)
	w.refer(blue, w.policy("p", rule("r1", "pass any any any <> local any")), `{"timer": {"start_time": "2026-01-01T00:00:00", "end_time": "2027-01-01T00:00:00"}}`)
	w.view(func(v *model.View) {
		static, timed := NetworkLists(v, blue.UUID, anybody)
		if static != nil {
			t.Errorf("static list %v", entryTexts(static))
		}
		if want := []string{"r1: pass any any any blue any", "r1: pass any blue any any any"}; !slices.Equal(entryTexts(timed), want) {
			t.Errorf("timed list %v", entryTexts(timed))
		}
		lists := writtenOut(v, blue)
		if len(lists) != 1 || lists[0].Name() != "dynamic" || !*lists[0].AccessControlListEntries.Dynamic {
			t.Errorf("lists %v", lists)
		}
	})
}

// anybody may read everything.
func anybody(model.Entity) bool { return true }

// TestOthersNetworks: a list tells a reader nothing of a policy that he may not
// read, and names nothing that he may not read and no rule named. The set knows
// it all.
func TestOthersNetworks(t *testing.T) {
	w := &town{}
	blue, red, open := w.network("blue", 1), w.network("red", 2), w.network("open", 3)
	p, hidden := w.policy("p", rule("r1", "pass any local any > policy:p any")), w.policy("hidden", rule("r2", "pass tcp local any > open 99"))
	for _, vn := range []*model.VirtualNetwork{blue, red, open} {
		w.attach(vn, p, 0)
	}
	w.attach(blue, hidden, 1)
	group := w.group("group", 8000001, rule("r3", "pass any group:others any > group:local any"), rule("r4", "pass any 10.0.0.0/8 any > group:local any"))
	others := w.group("others", 8000002)
	w.view(func(v *model.View) {
		not := map[string]bool{red.UUID: true, hidden.UUID: true, others.UUID: true}
		reader := func(e model.Entity) bool { return !not[e.UUID] }
		static, _ := NetworkLists(v, blue.UUID, reader)
		if list := strings.Join(entryTexts(static), "\n"); strings.Contains(list, "red") || !strings.Contains(list, "r1: pass any blue any open any") || strings.Contains(list, "r2") {
			t.Error(list)
		}
		if want := []string{"the rules of a network-policy that you may not read act too, and are not listed"}; !slices.Equal(static.Problems, want) {
			t.Errorf("problems %q", static.Problems)
		}
		all, _ := NetworkLists(v, blue.UUID, anybody)
		if list := strings.Join(entryTexts(all), "\n"); !strings.Contains(list, "red") || !strings.Contains(list, "r2") {
			t.Error(list)
		}
		ingress, _ := GroupLists(v, group.UUID, reader)
		if got := entryTexts(ingress); !slices.Equal(got, []string{"r4: pass any 10.0.0.0/8 any - any"}) {
			t.Errorf("list of a group %q", got)
		}
		not[group.UUID] = true
		for _, o := range AccessLists(v, model.EntityOf(group)) {
			if full := WriteOut(v, o, reader); full.AccessControlListEntries != nil || full.Annotations == nil {
				t.Errorf("a list of a group of which the reader may read a part: %+v", full)
			}
		}
		if got := setsOf(v, blue.UUID).Static.Evaluate(1, Packet{Src: End{Network: 1}, Dst: End{Network: 2}}); got.Rule != "r1" {
			t.Errorf("%+v", got)
		}
	})
}

// TestTooLong: what would be too long when written out is not written out, and
// says so; the set is as long as the rules.
func TestTooLong(t *testing.T) {
	w := &town{}
	blue := w.network("blue", 1)
	r := rule("r1", "pass tcp local any > 10.0.0.0/8 1")
	for i := range 200 {
		r.DstPorts = append(r.DstPorts, portRange(strconv.Itoa(2*i+10)))
		r.SrcPorts = append(r.SrcPorts, portRange(strconv.Itoa(2*i+10)))
	}
	w.attach(blue, w.policy("p", r), 0)
	w.view(func(v *model.View) {
		list := writtenOut(v, blue)[0]
		problem, _ := list.Annotation(problemKey)
		if len(list.AccessControlListEntries.ACLRule) != 0 || !strings.Contains(problem, "not listed") {
			t.Errorf("%d entries, problem %q", len(list.AccessControlListEntries.ACLRule), problem)
		}
		if sets := setsOf(v, blue.UUID); size(sets.Static) != 5 || len(sets.Problems) != 0 {
			t.Errorf("%d rules, %v", size(sets.Static), sets.Problems)
		}
	})
}

// TestTooMany: a set that would be too large refuses everything.
func TestTooMany(t *testing.T) {
	w := &town{}
	blue := w.network("blue", 1)
	var rules []model.PolicyRuleType
	for i := range maxRules / 4 {
		rules = append(rules, rule("r", fmt.Sprintf("pass tcp local any <> 10.%d.%d.0/24 80", i/256, i%256)))
	}
	w.attach(blue, w.policy("p", rules...), 0)
	w.view(func(v *model.View) {
		sets := setsOf(v, blue.UUID)
		if sets.Static != closed || len(sets.Problems) != 1 {
			t.Errorf("%d rules, %v", size(sets.Static), sets.Problems)
		}
	})
}

// TestUnknownNames: rules about what does not exist do nothing, and say so.
func TestUnknownNames(t *testing.T) {
	w := &town{}
	blue := w.network("blue", 1)
	w.attach(blue, w.policy("p", rule("r1", "pass any local any > yellow any"), rule("r2", "pass any group:none any > local any"), rule("r3", "pass any policy:none any > local any")), 0)
	w.view(func(v *model.View) {
		sets := setsOf(v, blue.UUID)
		want := []string{
			"network-policy d:p:p: rule 1: virtual-network d:p:yellow does not exist",
			"network-policy d:p:p: rule 2: security-group d:p:none does not exist",
			"network-policy d:p:p: rule 3: network-policy d:p:none does not exist",
		}
		if diff := gocmp.Diff(want, sets.Missing); diff != "" {
			t.Error(diff)
		}
		if size(sets.Static) != 2 {
			t.Errorf("rules %+v", slices.Collect(sets.Static.Rules()))
		}
	})
}

// TestSharing: networks of the same policies have one set.
func TestSharing(t *testing.T) {
	w := &town{}
	p := w.policy("p", rule("r1", "pass tcp local any <> any 80"), rule("r2", "pass any a,b any <> a,b any"))
	a, b, c := w.network("a", 1), w.network("b", 2), w.network("c", 3)
	for _, vn := range []*model.VirtualNetwork{a, b, c} {
		w.attach(vn, p, 0)
	}
	w.view(func(v *model.View) {
		x, y, z := setsOf(v, a.UUID).Static, setsOf(v, b.UUID).Static, setsOf(v, c.UUID).Static
		if x.ID != y.ID || x.ID != z.ID {
			t.Errorf("sets %s, %s and %s", x.ID, y.ID, z.ID)
		}
	})
}

// naive writes out the rules of a network in the plainest way.
type naive struct {
	networks []*model.VirtualNetwork
	policies map[string]*model.NetworkPolicy
	attached map[string][]string // networks by policy
	strict   bool
}

type naiveEntry struct {
	id, action, protocol string
	src, dst             string
	sport, dport         model.PortType
}

func (n *naive) expand(addresses []model.AddressType) []string {
	var list []string
	for _, a := range addresses {
		switch {
		case a.NetworkPolicy != "":
			list = append(list, n.attached[a.NetworkPolicy]...)
		case a.VirtualNetwork != "":
			list = append(list, strings.TrimPrefix(a.VirtualNetwork, "d:p:"))
		case a.SecurityGroup != "":
			list = append(list, "group:"+strings.TrimPrefix(a.SecurityGroup, "d:p:"))
		default:
			list = append(list, fmt.Sprintf("%s/%d", a.Subnet.IPPrefix, a.Subnet.IPPrefixLen))
		}
	}
	return list
}

func (n *naive) entries(network string, order []string) []naiveEntry {
	var list, denies []naiveEntry
	anyP := portRange("any")
	isNetwork := func(a string) bool { return !strings.ContainsAny(a, ":/") && a != "any" }
	for _, name := range order {
		for _, r := range n.policies[name].NetworkPolicyEntries.PolicyRule {
			for _, src := range n.expand(r.SrcAddresses) {
				for _, dst := range n.expand(r.DstAddresses) {
					if src == "local" {
						src = network
					}
					if dst == "local" {
						dst = network
					}
					mine := src == network || dst == network || src == "any" || dst == "any"
					if !mine && (isNetwork(src) || isNetwork(dst)) {
						continue
					}
					for _, sp := range r.SrcPorts {
						for _, dp := range r.DstPorts {
							list = append(list, naiveEntry{r.RuleUUID, r.ActionList.SimpleAction, r.Protocol, src, dst, sp, dp})
							if r.Direction == "<>" && r.Protocol == "icmp" {
								list = append(list, naiveEntry{r.RuleUUID, r.ActionList.SimpleAction, r.Protocol, dst, src, sp, dp})
							} else if r.Direction == "<>" {
								list = append(list, naiveEntry{r.RuleUUID, r.ActionList.SimpleAction, r.Protocol, dst, src, dp, sp})
							}
						}
					}
					denies = append(denies, naiveEntry{ImplicitDeny, "deny", "any", src, dst, anyP, anyP}, naiveEntry{ImplicitDeny, "deny", "any", dst, src, anyP, anyP})
				}
			}
		}
	}
	list = append(list, naiveEntry{ImplicitAllow, "pass", "any", network, network, anyP, anyP})
	if n.strict {
		return append(list, naiveEntry{ImplicitDeny, "deny", "any", "any", "any", anyP, anyP})
	}
	list = append(list, denies...)
	return append(list, naiveEntry{ImplicitAllow, "pass", "any", "any", "any", anyP, anyP})
}

// naiveEnd is an end of a packet in names.
type naiveEnd struct {
	network string
	groups  []string
	address netip.Addr
}

func (e *naiveEntry) matches(p Packet, src, dst naiveEnd) bool {
	side := func(text string, end naiveEnd) bool {
		group, isGroup := strings.CutPrefix(text, "group:")
		switch {
		case text == "any":
			return true
		case isGroup:
			return slices.Contains(end.groups, group)
		case strings.Contains(text, "/"):
			return netip.MustParsePrefix(text).Contains(end.address)
		}
		return text == end.network
	}
	in := func(r model.PortType, port uint16) bool {
		return *r.StartPort == -1 || *r.StartPort <= int64(port) && int64(port) <= *r.EndPort
	}
	numbers := map[string]uint8{"tcp": 6, "udp": 17, "icmp": 1, "gre": 47}
	hasPorts := p.Protocol == 6 || p.Protocol == 17
	unlimited := *e.sport.StartPort == -1 && *e.dport.StartPort == -1
	var fits bool
	switch e.protocol {
	case "any":
		fits = unlimited || hasPorts && in(e.sport, p.SrcPort) && in(e.dport, p.DstPort)
	case "gre":
		fits = p.Protocol == 47
	case "icmp":
		fits = p.Protocol == 1 && (unlimited || *e.dport.StartPort == -1 ||
			*e.dport.StartPort == int64(p.SrcPort) && *e.dport.EndPort == int64(p.DstPort))
	default:
		fits = p.Protocol == numbers[e.protocol] && in(e.sport, p.SrcPort) && in(e.dport, p.DstPort)
	}
	return fits && side(e.src, src) && side(e.dst, dst)
}

// TestSetIsNaiveExpansion: what a set says of a packet is what the first
// matching entry of a list says in which everything is written out for each
// network; and that list is the one that is shown.
func TestSetIsNaiveExpansion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &town{}
		n := &naive{policies: map[string]*model.NetworkPolicy{}, attached: map[string][]string{}, strict: rapid.Bool().Draw(t, "strict")}
		if n.strict {
			w.tune(TuneLogicalRouters, "false")
		}
		for i := range 4 {
			n.networks = append(n.networks, w.network(fmt.Sprintf("n%d", i), int64(i+1)))
		}
		for i := range 2 {
			w.group(fmt.Sprintf("g%d", i), int64(8000001+i))
		}
		address := rapid.SampledFrom([]string{"any", "local", "n0", "n1", "n2", "n3", "nowhere", "10.1.0.0/16", "10.1.2.0/24", "group:g0", "group:g1", "policy:p0", "policy:p1"})
		several := rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(address, 1, 3).Draw(t, "list"), ",") })
		ports := rapid.SampledFrom([]string{"any", "80", "80,82-90", "1-65535"})
		for i := range 2 {
			var rules []model.PolicyRuleType
			for j := range rapid.IntRange(0, 4).Draw(t, "rules") {
				protocol := rapid.SampledFrom([]string{"any", "tcp", "udp", "icmp", "gre"}).Draw(t, "protocol")
				sp, dp := ports.Draw(t, "sport"), ports.Draw(t, "dport")
				if protocol == "icmp" {
					sp, dp = "any", rapid.SampledFrom([]string{"any", "8-0", "8-0,3-1"}).Draw(t, "type")
				}
				rules = append(rules, rule(fmt.Sprintf("p%d-r%d", i, j), strings.Join([]string{
					rapid.SampledFrom([]string{"pass", "deny"}).Draw(t, "action"), protocol,
					several.Draw(t, "src"), sp, rapid.SampledFrom([]string{">", "<>"}).Draw(t, "direction"), several.Draw(t, "dst"), dp,
				}, " ")))
			}
			name := fmt.Sprintf("p%d", i)
			n.policies["d:p:"+name] = w.policy(name, rules...)
		}
		orders := map[string][]string{}
		for _, vn := range n.networks {
			type at struct {
				policy string
				major  int
			}
			var list []at
			for i := range 2 {
				name := fmt.Sprintf("d:p:p%d", i)
				if rapid.Bool().Draw(t, "attached") {
					major := rapid.IntRange(0, 1).Draw(t, "major")*2 + i
					w.attach(vn, n.policies[name], major)
					list = append(list, at{name, major})
					n.attached[name] = append(n.attached[name], vn.Name())
				}
			}
			slices.SortFunc(list, func(a, b at) int { return cmp.Compare(a.major, b.major) })
			for _, a := range list {
				orders[vn.Name()] = append(orders[vn.Name()], a.policy)
			}
		}
		w.view(func(v *model.View) {
			for _, vn := range n.networks {
				if len(orders[vn.Name()]) == 0 {
					continue
				}
				compareNaive(t, v, vn, n.entries(vn.Name(), orders[vn.Name()]))
			}
		})
	})
}

func compareNaive(t *rapid.T, v *model.View, vn *model.VirtualNetwork, entries []naiveEntry) {
	static, _ := NetworkLists(v, vn.UUID, anybody)
	shown := map[string]bool{}
	for _, s := range entryTexts(static) {
		shown[s] = true
	}
	want := map[string]bool{}
	for i := range entries {
		e := &entries[i]
		protocol, _ := ParseProtocol(e.protocol)
		r := rule(e.id, strings.Join([]string{e.action, protocol.String(), e.src, "any", ">", e.dst, "any"}, " "))
		if strings.HasPrefix(e.src, "group:") && e.src == "group:any" {
			t.Fatal("not drawn")
		}
		want[entryText(&model.AclRuleType{RuleUUID: e.id, ActionList: r.ActionList, MatchCondition: &model.MatchConditionType{
			Protocol: protocol.String(), SrcAddress: &r.SrcAddresses[0], SrcPort: &e.sport, DstAddress: &r.DstAddresses[0], DstPort: &e.dport,
		}})] = true
	}
	if diff := gocmp.Diff(want, shown); diff != "" {
		t.Fatalf("list of %s: %s", vn.Name(), diff)
	}
	set := setsOf(v, vn.UUID).Static
	end := func(label string) (End, naiveEnd) {
		network := rapid.IntRange(0, 4).Draw(t, label+" network")
		e := End{Address: netip.MustParseAddr(rapid.SampledFrom([]string{"10.1.2.3", "10.1.3.4", "10.2.0.1"}).Draw(t, label+" address")), Network: uint32(network)}
		ne := naiveEnd{network: fmt.Sprintf("n%d", network-1), address: e.Address}
		for i := range 2 {
			if rapid.Bool().Draw(t, label+" group") {
				e.Groups = append(e.Groups, uint32(8000001+i))
				ne.groups = append(ne.groups, fmt.Sprintf("g%d", i))
			}
		}
		return e, ne
	}
	for range 10 {
		p := Packet{Protocol: rapid.SampledFrom([]uint8{6, 17, 1, 47}).Draw(t, "protocol")}
		var src, dst naiveEnd
		p.Src, src = end("src")
		p.Dst, dst = end("dst")
		switch p.Protocol {
		case 6, 17:
			p.SrcPort, p.DstPort = rapid.SampledFrom([]uint16{80, 81, 85, 0}).Draw(t, "sport"), rapid.SampledFrom([]uint16{80, 81, 85}).Draw(t, "dport")
		case 1:
			p.SrcPort, p.DstPort = rapid.SampledFrom([]uint16{8, 3, 0}).Draw(t, "type"), rapid.SampledFrom([]uint16{0, 1}).Draw(t, "code")
		}
		got := set.Evaluate(networkNumber(vn), p)
		for i := range entries {
			if e := &entries[i]; e.matches(p, src, dst) {
				if got.Rule != e.id || got.Pass != (e.action == "pass") {
					t.Fatalf("network %s, packet %+v: set says %+v, list %+v", vn.Name(), p, got, *e)
				}
				break
			}
		}
	}
}

func size(s *Set) int { return len(slices.Collect(s.Rules())) }

func writtenOut(v *model.View, of model.Object) []*model.AccessControlList {
	var lists []*model.AccessControlList
	for _, o := range AccessLists(v, model.EntityOf(of)) {
		lists = append(lists, WriteOut(v, o, anybody))
	}
	return lists
}

// setsOf are the sets of a network.
func setsOf(v *model.View, network string) *NetworkSets { return NetworkSetsOf(v, network) }
