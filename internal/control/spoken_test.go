package control

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/rib"
	"github.com/contrail-mesos/contrail/internal/model"
)

// subnets gives a network two subnets, of which .1 and .2 are its own addresses.
func (w *world) subnets(network string) {
	ipam := &model.NetworkIPAM{Meta: model.Meta{UUID: id("ipam", network), FQName: []string{"default-domain", "p", network}}}
	w.apply(model.Batch{Objects: []model.Object{ipam}, References: []model.Reference{{
		From: model.Entity{Kind: model.KindVirtualNetwork, UUID: id("net", network)}, To: model.EntityOf(ipam),
		Attr: []byte(`{"ipam_subnets": [
			{"subnet": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 24}, "default_gateway": "10.0.0.1", "dns_server_address": "10.0.0.2"},
			{"subnet": {"ip_prefix": "fd00::", "ip_prefix_len": 64}, "default_gateway": "fd00::1", "dns_server_address": "fd00::2"}]}`),
	}}})
}

// speaks has the task of a container speak BGP as AS 65001, known by a port.
func (w *world) speaks(service, container string, port uint32, change ...func(*model.BGPAsAService)) {
	o := &model.BGPAsAService{
		Meta:             model.Meta{UUID: id("service", service), FQName: []string{"default-domain", "p", service}},
		AutonomousSystem: new(int64(65001)),
	}
	for _, f := range change {
		f(o)
	}
	w.apply(model.Batch{Objects: []model.Object{o}, References: []model.Reference{{
		From: model.EntityOf(o), To: model.Entity{Kind: model.KindVirtualMachineInterface, UUID: id("vmi", container)}, Number: port,
	}}})
}

// silence takes the service off the container's interface.
func (w *world) silence(service, container string) {
	w.apply(model.Batch{DeleteReferences: []model.Edge{{
		From: model.Entity{Kind: model.KindBGPAsAService, UUID: id("service", service)},
		To:   model.Entity{Kind: model.KindVirtualMachineInterface, UUID: id("vmi", container)},
	}}})
}

// pairs are the allowed address pairs of a container's interface.
func (w *world) pairs(container string, prefixes ...string) {
	list := &model.AllowedAddressPairs{}
	for _, p := range prefixes {
		prefix := netip.MustParsePrefix(p)
		list.AllowedAddressPair = append(list.AllowedAddressPair, model.AllowedAddressPair{
			IP: &model.SubnetType{IPPrefix: prefix.Addr().String(), IPPrefixLen: int64(prefix.Bits())},
		})
	}
	w.apply(model.Batch{Objects: []model.Object{&model.VirtualMachineInterface{
		Meta:                                model.Meta{UUID: id("vmi", container), FQName: []string{"default-domain", "p", container + "-eth0"}},
		VirtualMachineInterfaceMACAddresses: &model.MacAddressesType{MACAddress: []string{macFor(container)}},
		VirtualMachineInterfaceAllowedAddressPairs: list,
	}}})
}

// announces is a route of a task with a next hop; withdraws takes it back.
func announces(prefix, hop string) said {
	return said{prefix: netip.MustParsePrefix(prefix), attributes: &rib.Attributes{
		NextHop: netip.MustParseAddr(hop), ASPath: []uint32{65001}, External: true,
	}}
}

func withdraws(prefix string) said { return said{prefix: netip.MustParsePrefix(prefix)} }

// taskRoutes are the routes of a VRF that tasks announced, with what is used.
func (t *tables) taskRoutes(vrf uint32) map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := map[string]string{}
	keys, _ := t.rib.Keys(vrf)
	for _, key := range keys {
		for _, p := range t.rib.Chosen(vrf, key) {
			if p.Kind == rib.Task {
				found[key.String()] += fmt.Sprintf("%s label %d;", p.NextHop, p.Label)
			}
		}
	}
	return found
}

func (t *tables) hearAndFlush(who speech, routes ...said) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hearTask(who, routes)
	t.flush()
}

// TestTaskRoutes: what counts of what a task announces, and how it comes and goes
// with the interface.
func TestTaskRoutes(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.network("blue", 1, nil, nil)
	b.subnets("blue")
	b.node("n1", "172.31.0.11", 1500)
	b.attach("b1", "blue", "n1", "10.0.0.3", 16)
	b.pairs("b1", "10.8.0.0/16")
	b.behind("table", "10.7.0.0/24", "b1")
	b.speaks("s", "b1", 50000)
	b.step()
	who := speech{iface: id("vmi", "b1"), service: id("service", "s")}
	const way = "172.31.0.11 label 16;"
	check := func(what string, want map[string]string) {
		t.Helper()
		b.step()
		if got := b.tables.taskRoutes(1); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	b.tables.hearAndFlush(who,
		announces("10.8.1.0/24", "10.0.0.3"), announces("10.7.0.128/25", "10.0.0.3"),
		announces("10.9.0.0/24", "10.0.0.3"), // not its own
		announces("10.0.0.0/8", "10.0.0.3"),  // larger than what is its own
		announces("10.8.2.0/24", "10.0.0.9"), // to somebody else
		announces("0.0.0.0/0", "10.0.0.3"),
	)
	both := map[string]string{"10.8.1.0/24": way, "10.7.0.128/25": way}
	check("announced", both)
	if p := b.tables.showTask(b.tables.ports[who.iface], b.tables.ports[who.iface].bgpService(who.service)); p.Accepted != 2 || p.Refused != 4 ||
		p.Refusals[2].Reason != "its next hop 10.0.0.9 is not the task" {
		t.Errorf("shown as %+v", p)
	}
	b.notBehind("table", "b1")
	check("without the table", map[string]string{"10.8.1.0/24": way})
	b.pairs("b1", "10.9.0.0/16")
	check("with another pair", map[string]string{"10.9.0.0/24": way})
	b.pairs("b1", "10.8.0.0/15")
	check("with a wider pair", map[string]string{"10.8.1.0/24": way, "10.9.0.0/24": way})
	b.tables.hearAndFlush(who, withdraws("10.9.0.0/24"), announces("10.8.1.0/24", "10.0.0.9"))
	check("withdrawn, and with a wrong next hop", map[string]string{})
	b.tables.hearAndFlush(who, announces("10.8.1.0/24", "10.0.0.3"))
	b.move("b1", "n1", 17)
	check("with another label", map[string]string{"10.8.1.0/24": "172.31.0.11 label 17;"})
	b.node("n1", "172.31.0.12", 1500)
	check("at another address", map[string]string{"10.8.1.0/24": "172.31.0.12 label 17;"})
	b.silence("s", "b1")
	check("without the service", map[string]string{})
	b.speaks("s", "b1", 50000)
	check("with it again", map[string]string{"10.8.1.0/24": "172.31.0.12 label 17;"})
	b.detach("b1", "blue")
	check("gone", map[string]string{})
	b.tables.mu.Lock()
	defer b.tables.mu.Unlock()
	b.tables.forgetTask(who)
	if len(b.tables.spoken) != 0 {
		t.Errorf("%v is remembered", b.tables.spoken)
	}
}

// TestTaskInSharedNetwork: who may only use a network of another project announces
// his own addresses there and nothing else, whatever pairs he gives his interface.
func TestTaskInSharedNetwork(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.network("blue", 1, nil, nil)
	b.subnets("blue")
	b.node("n1", "172.31.0.11", 1500)
	b.attach("b1", "blue", "n1", "10.0.0.3", 16)
	b.pairs("b1", "0.0.0.0/0")
	b.speaks("s", "b1", 50000)
	owned := func(network, iface string) {
		var vn model.VirtualNetwork
		var vmi model.VirtualMachineInterface
		b.graph.View(func(v *model.View) {
			n, _ := model.Get[*model.VirtualNetwork](v, id("net", "blue"))
			i, _ := model.Get[*model.VirtualMachineInterface](v, id("vmi", "b1"))
			vn, vmi = *n, *i
		})
		vn.ParentType, vn.ParentUUID = "project", id("project", network)
		vmi.ParentType, vmi.ParentUUID = "project", id("project", iface)
		b.apply(model.Batch{Objects: []model.Object{&vn, &vmi}})
	}
	who := speech{iface: id("vmi", "b1"), service: id("service", "s")}
	const way = "172.31.0.11 label 16;"
	check := func(what string, want map[string]string) {
		t.Helper()
		b.step()
		if got := b.tables.taskRoutes(1); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	owned("p", "p")
	b.step()
	b.tables.hearAndFlush(who, announces("203.0.113.0/24", "10.0.0.3"), announces("10.0.0.3/32", "10.0.0.3"))
	check("of the network's project", map[string]string{"203.0.113.0/24": way})
	owned("other", "p")
	check("of another project", map[string]string{})
	if p := b.tables.showTask(b.tables.ports[who.iface], b.tables.ports[who.iface].bgpService(who.service)); p.Accepted != 1 || p.Refused != 1 {
		t.Errorf("shown as %+v", p)
	}
	owned("p", "p")
	check("of its project again", map[string]string{"203.0.113.0/24": way})
}

// TestTaskOfManyPrefixes: what one interface may announce, or has behind it, may be
// much; that makes no route of its task cost more, nor a word of its node, for which
// all tables wait.
func TestTaskOfManyPrefixes(t *testing.T) {
	const routes, many = 2000, 10000
	took := func(prefixes int) (words, up time.Duration) {
		b := newBench()
		defer b.subscription.Close()
		b.network("blue", 1, nil, nil)
		b.subnets("blue")
		b.node("n1", "172.31.0.11", 1500)
		b.attach("b1", "blue", "n1", "10.0.0.3", 16)
		b.speaks("s", "b1", 50000)
		pairs := make([]string, prefixes)
		behind := &model.RouteTableType{}
		for i := range pairs {
			pairs[i] = fmt.Sprintf("100.%d.%d.0/24", 64+i>>8, i&255)
			behind.Route = append(behind.Route, model.RouteType{Prefix: fmt.Sprintf("200.%d.%d.0/24", i>>8, i&255)})
		}
		b.pairs("b1", append(pairs, "203.0.113.0/24")...)
		b.behind("table", "192.0.2.0/24", "b1")
		b.apply(model.Batch{Objects: []model.Object{&model.InterfaceRouteTable{
			Meta:                      model.Meta{UUID: id("irt", "table"), FQName: []string{"default-domain", "p", "table"}},
			InterfaceRouteTableRoutes: behind,
		}}})
		b.step()
		list := make([]said, routes)
		for i := range list {
			list[i] = announces(fmt.Sprintf("203.0.113.%d/32", i&255), "10.0.0.3")
		}
		began := time.Now()
		b.tables.hearAndFlush(speech{iface: id("vmi", "b1"), service: id("service", "s")}, list...)
		words = time.Since(began)
		if got := len(b.tables.taskRoutes(1)); got != 256 {
			t.Fatalf("%d routes count, want 256", got)
		}
		b.tables.mu.Lock()
		defer b.tables.mu.Unlock()
		began = time.Now()
		b.tables.announce(b.tables.ports[id("vmi", "b1")])
		return words, time.Since(began)
	}
	words, up := took(10)
	wordsMany, upMany := took(many)
	if wordsMany > 10*words+50*time.Millisecond {
		t.Errorf("%d routes take %s with %d prefixes, and %s with 10", routes, wordsMany, many, words)
	}
	t.Logf("a port with %d prefixes behind it takes %s, with 10 %s", many, upMany, up)
	if upMany > 2000*up+100*time.Millisecond {
		t.Errorf("a port with %d prefixes behind it takes %s, with 10 %s", many, upMany, up)
	}
}

// TestTaskPort: the node is told what connects to which control node.
func TestTaskPort(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.network("blue", 1, nil, nil)
	b.subnets("blue")
	b.node("n1", "172.31.0.11", 1500)
	b.attach("b1", "blue", "n1", "10.0.0.3", 16)
	b.connect("n1", batch)
	services := func(want string) {
		t.Helper()
		b.step()
		if err := b.agents["n1"].drain(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range b.agents["n1"].state.ports[id("vmi", "b1")].GetBgpServices() {
			text := fmt.Sprint(s.GetSourcePort())
			for _, p := range s.GetPeers() {
				text += fmt.Sprintf(" %s>%s=%d", p.GetClient(), p.GetServer(), p.GetControlNode())
			}
			got = append(got, text)
		}
		if text := strings.Join(got, "; "); text != want {
			t.Errorf("the node is told %q, want %q", text, want)
		}
	}
	services("")
	b.speaks("s", "b1", 50000)
	services("50000 10.0.0.3>10.0.0.1=0 10.0.0.3>10.0.0.2=1")
	b.speaks("s", "b1", 50000, func(o *model.BGPAsAService) { o.BgpaasIPAddress = "10.0.0.100" })
	services("50000 10.0.0.100>10.0.0.1=0 10.0.0.100>10.0.0.2=1")
	b.speaks("s", "b1", 50000, func(o *model.BGPAsAService) {
		o.BgpaasSessionAttributes = &model.BgpSessionAttributes{AdminDown: new(true)}
	})
	services("")
	b.speaks("s", "b1", 50000)
	b.apply(model.Batch{References: []model.Reference{{
		From: model.Entity{Kind: model.KindVirtualNetwork, UUID: id("net", "blue")}, To: model.Entity{Kind: model.KindNetworkIPAM, UUID: id("ipam", "blue")},
		Attr: []byte(`{"ipam_subnets": [{"subnet": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 24}, "default_gateway": "10.0.0.254", "dns_server_address": "10.0.0.254"}]}`),
	}}})
	services("50000 10.0.0.3>10.0.0.254=0")
	b.silence("s", "b1")
	services("")
	b.disconnect("n1")
}

// TestSpokenMessages: another control node decides alike about what a task told
// this one, and forgets it when this one does, or is not asked any more.
func TestSpokenMessages(t *testing.T) {
	var all [2]*bench
	for i := range all {
		b := newBench()
		defer b.subscription.Close()
		b.network("blue", 1, nil, nil)
		b.subnets("blue")
		b.node("n1", "172.31.0.11", 1500)
		b.attach("b1", "blue", "n1", "10.0.0.3", 16)
		b.pairs("b1", "10.8.0.0/16", "fd08::/16")
		b.speaks("s", "b1", 50000)
		b.step()
		all[i] = b
	}
	here, there := all[0].tables, all[1].tables
	who := speech{iface: id("vmi", "b1"), service: id("service", "s")}
	r := here.readShared(nil)
	defer r.close()
	x := &Exchange{tables: there}
	told := &named{map[string]bool{}, map[outside]struct{}{}, map[spokenAt]struct{}{}}
	carry := func() {
		t.Helper()
		for more := true; more; {
			var bodies [][]byte
			bodies, more = r.collect()
			for _, body := range bodies {
				m := new(controlv1.ExchangeMessage)
				if err := proto.Unmarshal(body, m); err != nil {
					t.Fatal(err)
				}
				if err := x.take(&colleague{address: "c1"}, m, told); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	same := func(what string, n int) {
		t.Helper()
		carry()
		a, b := here.taskRoutes(1), there.taskRoutes(1)
		if !maps.Equal(a, b) || len(a) != n {
			t.Errorf("%s: %v here and %v there, want %d", what, a, b, n)
		}
	}
	here.hearAndFlush(who, announces("10.8.1.0/24", "10.0.0.3"), announces("fd08:1::/64", "10.0.0.3"), announces("10.9.0.0/24", "10.0.0.3"))
	same("told", 2)
	here.hearAndFlush(who, withdraws("10.8.1.0/24"))
	same("withdrawn", 1)
	here.hearAndFlush(who, announces("10.8.1.0/24", "10.0.0.3"))
	same("told again", 2)
	// Both ways of the same task are one to nodes.
	there.hearAndFlush(who, announces("10.8.1.0/24", "10.0.0.3"))
	var route controlv1.ControlMessage
	there.mu.Lock()
	key := rib.UnicastKey(netip.MustParsePrefix("10.8.1.0/24"))
	paths := there.rib.Chosen(1, key)
	there.mu.Unlock()
	if err := proto.Unmarshal(encodeRoute(1, key, paths), &route); err != nil || len(paths) != 2 || len(route.GetRoute().GetPaths()) != 1 {
		t.Errorf("%d paths, nodes are told %v, %v", len(paths), route.GetRoute(), err)
	}
	if p := route.GetRoute().GetPaths()[0]; p.GetInterfaceId() != who.iface || !p.GetBehind() {
		t.Errorf("nodes are told %v", p)
	}
	there.cut("c1", true)
	if got := there.taskRoutes(1); len(got) != 2 {
		t.Errorf("cut off: %v", got)
	}
	there.unlearn("c1", &named{})
	if got := there.taskRoutes(1); len(got) != 1 {
		t.Errorf("of itself alone: %v", got)
	}
	for _, wrong := range []*controlv1.Learned{
		{InterfaceId: "i", Prefix: "nowhere"}, {InterfaceId: "i", Prefix: "10.0.0.0/8", Paths: []*controlv1.LearnedPath{{NextHop: "?"}}},
	} {
		if _, err := there.hearSpoken("c1", wrong); err == nil {
			t.Errorf("%v is taken", wrong)
		}
	}
}

// TestTaskRestarting: a session of before this process began waits for what the task
// says, one that comes later for nothing.
func TestTaskRestarting(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.network("blue", 1, nil, nil)
	b.subnets("blue")
	b.node("n1", "172.31.0.11", 1500)
	b.attach("b1", "blue", "n1", "10.0.0.3", 16)
	b.attach("b2", "blue", "n1", "10.0.0.4", 17)
	b.speaks("before", "b1", 50000)
	b.tables.facts.router = "c1"
	b.router("c1", "control-node", netip.MustParseAddrPort("172.31.0.1:179"), 64512)
	b.step()
	k := b.tables.border.tasks
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		k.run(ctx, peeringConfig{AS: 64512, RouterID: netip.MustParseAddr("172.31.0.1"), RestartTime: time.Minute}, true)
	})
	defer running.Wait()
	defer cancel()
	b.speaks("later", "b2", 50001)
	b.step()
	for service, waits := range map[taskKey]bool{
		{id("vmi", "b1"), id("service", "before")}: true,
		{id("vmi", "b2"), id("service", "later")}:  false,
	} {
		var s *taskSession
		for deadline := time.Now().Add(patience); s == nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			b.tables.mu.Lock()
			s = k.running[service]
			b.tables.mu.Unlock()
		}
		if s == nil {
			t.Fatalf("there is no session of %v", service)
		}
		select {
		case <-s.speaker.Whole():
			if waits {
				t.Errorf("%v does not wait for the task", service)
			}
		default:
			if !waits {
				t.Errorf("%v waits for the task", service)
			}
		}
	}
}

// TestTaskModel: whatever happens in whatever order, a VRF has exactly the routes
// that a task said and may have, by the node where it is.
func TestTaskModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench()
		defer b.subscription.Close()
		b.network("blue", 1, nil, nil)
		b.network("red", 2, nil, nil)
		b.subnets("blue")
		b.node("n1", "172.31.0.11", 1500)
		b.node("n2", "172.31.0.12", 1500)
		containers, services := []string{"b1", "b2"}, []string{"s1", "s2"}
		prefixes := []string{"10.8.0.0/16", "10.8.1.0/24", "10.9.0.0/24", "10.0.0.3/32", "0.0.0.0/0", "10.8.0.0/15"}
		address := map[string]string{"b1": "10.0.0.3", "b2": "10.0.0.4"}
		type task struct{ container, service, via string }
		type place struct {
			node  string
			label uint32
		}
		words := map[task]map[string]string{} // next hops by prefix
		allowed, at, has := map[string][]string{}, map[string]place{}, map[string]string{}
		draw := func(list []string, what string) string { return rapid.SampledFrom(list).Draw(t, what) }
		label := uint32(16)
		t.Repeat(map[string]func(*rapid.T){
			"attach": func(t *rapid.T) {
				c := draw(containers, "container")
				label++
				p := place{draw([]string{"n1", "n2"}, "node"), label}
				if _, bound := at[c]; bound {
					b.move(c, p.node, p.label)
				} else {
					b.attach(c, "blue", p.node, address[c], p.label)
					allowed[c] = nil
				}
				at[c] = p
			},
			"detach": func(t *rapid.T) {
				if c := draw(containers, "container"); at[c] != (place{}) {
					b.detach(c, "blue")
					delete(at, c)
					delete(has, c)
				}
			},
			"allow": func(t *rapid.T) {
				if c := draw(containers, "container"); at[c] != (place{}) {
					allowed[c] = rapid.SliceOfN(rapid.SampledFrom(prefixes), 0, 2).Draw(t, "pairs")
					b.pairs(c, allowed[c]...)
				}
			},
			"serve": func(t *rapid.T) {
				if c := draw(containers, "container"); at[c] != (place{}) && has[c] == "" {
					has[c] = draw(services, "service")
					b.speaks(has[c], c, 50000)
				}
			},
			"silence": func(t *rapid.T) {
				if c := draw(containers, "container"); has[c] != "" {
					b.silence(has[c], c)
					delete(has, c)
				}
			},
			"say": func(t *rapid.T) {
				k := task{draw(containers, "container"), draw(services, "service"), draw([]string{here, "c2"}, "to")}
				prefix, hop := draw(prefixes, "prefix"), draw([]string{"", "10.0.0.3", "10.0.0.4"}, "next hop")
				who := speech{id("vmi", k.container), id("service", k.service), k.via}
				if words[k] == nil {
					words[k] = map[string]string{}
				}
				if words[k][prefix] = hop; hop == "" {
					delete(words[k], prefix)
					b.tables.hearAndFlush(who, withdraws(prefix))
				} else {
					b.tables.hearAndFlush(who, announces(prefix, hop))
				}
			},
			"": func(t *rapid.T) {
				b.step()
				want := map[string]map[string]bool{}
				for k, routes := range words {
					p, bound := at[k.container]
					if !bound || has[k.container] != k.service {
						continue
					}
					for prefix, hop := range routes {
						in := slices.ContainsFunc(append(allowed[k.container], address[k.container]+"/32"), func(a string) bool {
							outer, inner := netip.MustParsePrefix(a), netip.MustParsePrefix(prefix)
							return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
						})
						bound := slices.ContainsFunc(containers, func(c string) bool { return at[c] != (place{}) && prefix == address[c]+"/32" })
						if in && hop == address[k.container] && !bound {
							if want[prefix] == nil {
								want[prefix] = map[string]bool{}
							}
							want[prefix][fmt.Sprintf("%s label %d", map[string]string{"n1": "172.31.0.11", "n2": "172.31.0.12"}[p.node], p.label)] = true
						}
					}
				}
				got := b.tables.taskRoutes(1)
				if len(got) != len(want) || len(b.tables.taskRoutes(2)) != 0 {
					t.Fatalf("routes %v, want %v", got, want)
				}
				for prefix, ways := range want {
					have := map[string]bool{}
					for _, w := range strings.Split(strings.TrimSuffix(got[prefix], ";"), ";") {
						have[w] = true
					}
					if !maps.Equal(have, ways) {
						t.Fatalf("%s by %v, want %v", prefix, have, ways)
					}
				}
			},
		})
	})
}

// TestServiceProblems: a service that cannot work says why, and is no port's.
func TestServiceProblems(t *testing.T) {
	b := newBench()
	defer b.subscription.Close()
	b.network("blue", 1, nil, nil)
	b.node("n1", "172.31.0.11", 1500)
	b.attach("b1", "blue", "n1", "10.0.0.3", 16)
	for name, want := range map[string]struct {
		port    uint32
		change  func(*model.BGPAsAService)
		subnets bool
		problem string
	}{
		"no AS":      {50000, func(o *model.BGPAsAService) { o.AutonomousSystem = nil }, true, "it has no autonomous_system"},
		"no port":    {0, func(*model.BGPAsAService) {}, true, "has no port"},
		"no gateway": {50000, func(*model.BGPAsAService) {}, false, "no address to speak from"},
		"families": {50000, func(o *model.BGPAsAService) {
			o.BgpaasSessionAttributes = &model.BgpSessionAttributes{AddressFamilies: &model.AddressFamilies{Family: []string{"e-vpn"}}}
		}, true, "neither inet nor inet6"},
	} {
		if want.subnets {
			b.subnets("blue")
		} else {
			b.apply(model.Batch{DeleteReferences: []model.Edge{{From: model.Entity{Kind: model.KindVirtualNetwork, UUID: id("net", "blue")}, To: model.Entity{Kind: model.KindNetworkIPAM, UUID: id("ipam", "blue")}}}})
		}
		b.speaks("s", "b1", want.port, want.change)
		b.graph.View(func(v *model.View) {
			list := compile.BGPServicesOf(v, id("vmi", "b1"), id("net", "blue"))
			if len(list) != 1 || !strings.Contains(list[0].Problem, want.problem) {
				t.Errorf("%s: %+v", name, list)
			}
		})
		b.silence("s", "b1")
	}
	b.subnets("blue")
	b.speaks("one", "b1", 50000)
	b.speaks("two", "b1", 50001)
	b.step()
	refused := 0
	for _, p := range b.tables.showPeers().Peers {
		if strings.Contains(p.Error, "already") && p.State == "refused" {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("of two services at one address %d are refused: %+v", refused, b.tables.showPeers().Peers)
	}
}
