//go:build net

package dataplane

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"pgregory.net/rapid"
)

// frameOf is the frame of a connection's first packet, from a container.
func frameOf(from MAC, c connection) []byte {
	if c.src.addr.Is6() {
		return frameOf6(from, c)
	}
	ip := ipv4(c.src.addr, c.dst.addr, layers.IPProtocol(c.protocol))
	parts := []gopacket.SerializableLayer{ethernet(from, RouterMAC()), ip}
	switch c.protocol {
	case 1:
		parts = append(parts, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(uint8(c.sport), uint8(c.dport)), Id: 7})
	case 6:
		tcp := &layers.TCP{SrcPort: layers.TCPPort(c.sport), DstPort: layers.TCPPort(c.dport), SYN: true}
		tcp.SetNetworkLayerForChecksum(ip)
		parts = append(parts, tcp)
	case 17:
		parts = append(parts, udp(ip, int(c.sport), int(c.dport)))
	}
	return serialize(append(parts, payload)...)
}

func (b *bench) forgetFlows() {
	b.t.Helper()
	b.dp.mu.Lock()
	defer b.dp.mu.Unlock()
	_, _, err := b.dp.sweep(func(rawFlow) bool { return true })
	b.must(err)
}

func (b *bench) putPolicy(p Port, policy Policy, sets ...*Set) {
	b.t.Helper()
	all := map[SetID]*Set{}
	for _, s := range sets {
		if s != nil {
			all[s.ID] = s
		}
	}
	b.must(b.dp.PutPolicies(map[int]Policy{p.IfIndex: policy}, all))
}

// drawnPort is a port with drawn policy.
type drawnPort struct {
	policy Policy
	sets   [policySets]*Set
}

func (d draw) port(rules int) drawnPort {
	p := drawnPort{policy: Policy{Identity: d.identity()}}
	for i := range p.sets {
		if d.IntN(3) > 0 {
			p.sets[i] = d.set(rules)
			p.policy.Sets[i] = p.sets[i].ID
		}
	}
	return p
}

func (p drawnPort) passes(c connection, last PolicySet) bool {
	for _, s := range []*Set{p.sets[NetworkPolicy], p.sets[Firewall], p.sets[last]} {
		if s != nil && !s.passes(p.policy.Identity.Network(), c) {
			return false
		}
	}
	return true
}

// world is what packets of a family are drawn from.
type world struct {
	own, far  []netip.Addr
	other     netip.Addr
	protocols []uint8
}

var (
	fourWorld = world{[]netip.Addr{addr1, addr1b}, []netip.Addr{farAddr, farAddr2}, addr2, []uint8{1, 6, 17, 47}}
	sixWorld  = world{[]netip.Addr{one6, one6b}, []netip.Addr{far6, far6b}, two6, []uint8{58, 6, 17, 47}}
)

// The programs decide as the rules say, whatever the rules, the identities and
// the packets are, at whichever end, and whichever of rules and routes come
// first.
func TestNetPolicyIsTheModels(t *testing.T) {
	b := newBench6(t)
	passed, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		d := draw{rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))}
		rules := rapid.SampledFrom([]int{0, 1, 5, 20, 64, 65, 200, 5000}).Draw(t, "rules")
		one, two := d.port(rules), d.port(min(rules, 200))
		far := map[netip.Addr]Identity{farAddr: d.identity(), farAddr2: d.identity(), far6: d.identity(), far6b: d.identity()}
		putRoutes := func() {
			for addr, who := range far {
				b.must(b.dp.PutRoute(host(vrf, addr), NextHop{Kind: Tunnel, Remote: remoteIP, Label: farLabel, Identity: who}))
			}
		}
		if d.IntN(2) == 0 {
			putRoutes()
		}
		b.putPolicy(b.port1, one.policy, one.sets[:]...)
		b.putPolicy(b.port2, two.policy, two.sets[:]...)
		putRoutes()
		for range 30 {
			world := pick(d, fourWorld, sixWorld)
			c := connection{
				src: end{pick(d, world.own...), one.policy.Identity}, protocol: pick(d, world.protocols...),
				sport: uint16(d.IntN(12)), dport: uint16(d.IntN(12)),
			}
			var verdict uint32
			var want bool
			switch d.IntN(3) {
			case 0: // leaves the node
				c.dst.addr = pick(d, world.far...)
				c.dst.who = far[c.dst.addr]
				want = one.passes(c, Leaving)
				verdict, _ = b.fromPort(b.port1, frameOf(mac1, c))
			case 1: // arrives
				c.dst = c.src
				c.src.addr = pick(d, world.far...)
				c.src.who = far[c.src.addr]
				want = one.passes(c, Arriving)
				verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, frameOf(mac2, c)))
			case 2: // both ends are here
				c.dst = end{world.other, two.policy.Identity}
				want = one.passes(c, Leaving) && two.passes(c, Arriving)
				verdict, _ = b.fromPort(b.port1, frameOf(mac1, c))
			}
			if got := verdict == tcRedirect; got != want {
				t.Fatalf("%+v: verdict %d, drops %v, want it to pass: %v\none: %+v\ntwo: %+v", c, verdict, b.dropped(), want, one, two)
			}
			if want {
				passed++
			} else {
				refused++
			}
			b.forgetFlows()
		}
	})
	t.Logf("%d packets passed and %d were refused", passed, refused)
	if passed < refused/20 || refused < passed/20 {
		t.Errorf("%d packets passed and %d were refused: the test shows little", passed, refused)
	}
}

// someSet makes a set of rules.
func someSet(name string, rules ...Rule) *Set {
	s := &Set{Blocks: [][]Rule{rules}}
	copy(s.ID[:], name)
	return s
}

// allow is a rule for all that a protocol's port is asked for by.
func allow(protocol int16, port uint16, src, dst Selector) Rule {
	return Rule{Src: src, Dst: dst, Protocol: protocol, SrcPorts: []PortRange{AllPorts}, DstPorts: []PortRange{{port, port}}}
}

var (
	anyone  = Selector{Any: true}
	toWeb   = someSet("web", allow(6, 80, anyone, anyone))
	nothing = someSet("nothing")
	member  = NewIdentity(vrf, []uint32{100}, nil)
	webTCP  = connection{src: end{addr: farAddr}, dst: end{addr: addr1}, protocol: 6, sport: 1000, dport: 80}
)

func (c connection) answer() connection {
	return connection{src: c.dst, dst: c.src, protocol: c.protocol, sport: c.dport, dport: c.sport}
}

// wants passes the frame of a connection to or from port 1 and compares.
func (b *bench) wants(c connection, reason DropReason) {
	b.t.Helper()
	var verdict uint32
	if c.src.addr == addr1 {
		verdict, _ = b.fromPort(b.port1, frameOf(mac1, c))
	} else {
		verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, frameOf(mac2, c)))
	}
	if reason != 0 {
		b.wantDrop(verdict, reason, b.port1.IfIndex)
	} else if verdict != tcRedirect {
		b.t.Errorf("%+v: verdict %d, drops %v, want it to pass", c, verdict, b.dropped())
		b.forgetDrops()
	}
}

// What answers passes, and what would begin in the same direction does not.
func TestNetAnswersPass(t *testing.T) {
	b := newBench(t)
	web := Policy{Identity: member}
	web.Sets[Arriving], web.Sets[Leaving] = toWeb.ID, nothing.ID
	b.putPolicy(b.port1, web, toWeb, nothing)
	b.wants(webTCP.answer(), DropPolicyGroup)
	b.wants(webTCP, 0)
	b.wants(webTCP.answer(), 0)
	b.wants(webTCP, 0)
	other := webTCP
	other.sport++
	b.wants(other.answer(), DropPolicyGroup)

	// An echo's reply is one that has its identifier.
	ping := connection{src: end{addr: farAddr}, dst: end{addr: addr1}, protocol: 1, sport: 8}
	pong := connection{src: end{addr: addr1}, dst: end{addr: farAddr}, protocol: 1}
	echo := someSet("echo", allow(1, 0, anyone, anyone))
	web.Sets[Arriving] = echo.ID
	b.putPolicy(b.port1, web, echo, nothing)
	b.wants(pong, DropPolicyGroup)
	b.wants(ping, 0)
	b.wants(pong, 0)
	back := ping
	back.src, back.dst = ping.dst, ping.src
	b.wants(back, DropPolicyGroup)
}

// A change of a port's sets is decided anew, in both directions, and only that.
func TestNetPolicyChangesOutdateFlows(t *testing.T) {
	b := newBench(t)
	policy := Policy{Identity: member}
	policy.Sets[Arriving] = toWeb.ID
	b.putPolicy(b.port1, policy, toWeb)
	b.wants(webTCP, 0)
	b.wants(webTCP.answer(), 0)
	neighbour := udpFrame(mac2, addr2, farAddr)
	verdict, _ := b.fromPort(b.port2, neighbour)
	wantVerdict(t, verdict, tcRedirect)

	policy.Sets[Arriving] = nothing.ID
	b.putPolicy(b.port1, policy, nothing)
	for _, f := range b.flows() {
		if f.Current != (f.IfIndex == b.port2.IfIndex) {
			t.Errorf("flow %+v is current: %v", f, f.Current)
		}
	}
	b.wants(webTCP.answer(), DropPolicyGroup) // by what it answers
	b.wants(webTCP, DropPolicyGroup)
	b.wants(webTCP.answer(), 0) // begins something now: leaving is not asked
	if all, err := b.dp.Policies(); err != nil || all[b.port1.IfIndex] != policy {
		t.Errorf("policies are %+v, %v, want %+v", all, err, policy)
	}
	// The set that nobody has any more is gone.
	if sets, err := b.dp.setHeads(); err != nil || len(sets) != 1 {
		t.Errorf("sets are %v, %v, want one", sets, err)
	}
}

// Who has no policy is closed; what is established goes on.
func TestNetPortWithoutPolicy(t *testing.T) {
	b := newBench(t)
	b.wants(webTCP, 0)
	b.must(b.dp.DeletePolicy(b.port1.IfIndex))
	b.wants(webTCP, 0)
	other := webTCP
	other.sport++
	b.wants(other, DropPolicyPending)
	verdict, _ := b.fromPort(b.port2, udpFrame(mac2, addr2, addr1))
	b.wantDrop(verdict, DropPolicyPending, b.port2.IfIndex)
	b.putPolicy(b.port1, Policy{Identity: member})
	b.wants(other, 0)
	// Nothing of a port and its policy stays.
	b.ns.Must(func() error { return b.dp.DeletePort(b.port1.IfIndex) })
	b.must(b.dp.SweepNextHops())
	policies, err := b.dp.Policies()
	who, whoErr := b.dp.identities()
	if err := errors.Join(err, whoErr); err != nil || len(policies) != 1 || len(who) != 1 {
		t.Errorf("policies %v and identities %v, %v, want those of port 2", policies, who, err)
	}
}

// A port that has come to an address of another is closed as long as it has no
// policy: what was established with the other says nothing of it.
func TestNetAddressOfAnotherPort(t *testing.T) {
	b := newBench(t)
	b.must(b.dp.PutVNI(vni, vrf))
	near := udpFrame(mac2, addr2, addr1b)
	far := byVXLAN(remoteIP, localIP, vni, 50000, between(mac2, RouterMAC(), udpFrame(mac2, farAddr, addr1b)))
	pass := func() {
		t.Helper()
		verdict, _ := b.fromPort(b.port2, near)
		wantVerdict(t, verdict, tcRedirect)
		verdict, _ = b.fromWire(far)
		wantVerdict(t, verdict, tcRedirect)
	}
	pass()
	b.port1.Addresses = []netip.Addr{addr1}
	b.putPort(b.port1)
	next := Port{IfIndex: b.ns.Dummy("tap3").Attrs().Index, Name: "tap3", VRF: vrf, Label: 1003, MAC: MAC{2, 0, 0, 0, 0, 3}, Addresses: []netip.Addr{addr1b}}
	b.ns.Must(func() error { return b.dp.PutPort(next) })
	b.must(b.dp.PutRoute(host(vrf, addr1b), NextHop{Kind: Local, Label: next.Label}))
	verdict, _ := b.fromPort(b.port2, near)
	b.wantDrop(verdict, DropPolicyPending, b.port2.IfIndex)
	verdict, _ = b.fromWire(far)
	b.wantDrop(verdict, DropPolicyPending, next.IfIndex)
	b.putPolicy(next, Policy{Identity: member})
	pass()
}

// An identity that comes after a set is not decided about before the set knows
// it: here, that it is denied before all are allowed.
func TestNetIdentityAfterSet(t *testing.T) {
	stranger := NewIdentity(vrf, []uint32{666}, nil)
	set := someSet("deny", Rule{Src: Selector{Groups: []uint32{666}}, Dst: anyone, Protocol: AnyProtocol, SrcPorts: []PortRange{AllPorts}, DstPorts: []PortRange{AllPorts}, Deny: true},
		allow(6, 80, anyone, anyone))
	policy := Policy{Identity: member}
	policy.Sets[Firewall] = set.ID
	b := newBench(t)
	b.putPolicy(b.port1, policy, set)
	b.wants(webTCP, 0)
	route := func(who Identity) {
		b.must(b.dp.PutRoute(host(vrf, farAddr), NextHop{Kind: Tunnel, Remote: remoteIP, Label: farLabel, Identity: who}))
	}
	route(stranger)
	b.wants(webTCP, DropPolicyFirewall)
	route(NewIdentity(vrf, []uint32{5}, nil))
	b.wants(webTCP, 0)

	// Another process knows the set, but not what is in it.
	b.must(b.dp.Close())
	b.open()
	if known, err := b.dp.KnownPolicies(); err != nil || len(known) != 1 || known[b.port1.IfIndex] != (Policy{}) {
		t.Errorf("known policies are %+v, %v, want that of port 2 alone", known, err)
	}
	b.wants(webTCP, 0) // it was decided
	route(NewIdentity(vrf, []uint32{666, 667}, nil))
	b.wants(webTCP, 0)
	fresh := webTCP
	fresh.sport++
	b.wants(fresh, DropPolicyPending)
	b.putPolicy(b.port1, policy, set)
	b.wants(fresh, DropPolicyFirewall)
	b.must(b.dp.PutPort(b.port1)) // outdates nothing by itself
	route(stranger)
	b.wants(webTCP, DropPolicyFirewall)
}

// Fragments follow the first one; without it nobody knows what they are.
func TestNetPolicyOfFragments(t *testing.T) {
	b := newBench(t)
	policy := Policy{Identity: member}
	dns := someSet("dns", allow(17, 53, anyone, anyone))
	policy.Sets[Leaving] = dns.ID
	b.putPolicy(b.port1, policy, dns)
	first := udpFrame(mac1, addr1, farAddr, func(ip *layers.IPv4) { ip.Flags = layers.IPv4MoreFragments })
	ip := ipv4(addr1, farAddr, layers.IPProtocolUDP)
	ip.FragOffset = 10
	later := serialize(ethernet(mac1, RouterMAC()), ip, payload)
	verdict, _ := b.fromPort(b.port1, later)
	b.wantDrop(verdict, DropFragment, b.port1.IfIndex)
	for _, frame := range [][]byte{first, later} {
		verdict, _ := b.fromPort(b.port1, frame)
		wantVerdict(t, verdict, tcRedirect)
	}
	// None may overwrite the header of TCP.
	for offset, want := range map[uint16]DropReason{1: DropMalformed, 2: DropMalformed, 3: DropFragment} {
		tcp := ipv4(addr1, farAddr, layers.IPProtocolTCP)
		tcp.FragOffset = offset
		verdict, _ := b.fromPort(b.port1, serialize(ethernet(mac1, RouterMAC()), tcp, payload))
		b.wantDrop(verdict, want, b.port1.IfIndex)
	}
	policy.Sets[Leaving] = nothing.ID
	b.putPolicy(b.port1, policy, nothing)
	for _, frame := range [][]byte{first, later} {
		verdict, _ := b.fromPort(b.port1, frame)
		b.wantDrop(verdict, DropPolicyGroup, b.port1.IfIndex)
	}
}

// An ICMP error passes if it is about what passed, and makes no way for others.
func TestNetPolicyOfErrors(t *testing.T) {
	b := newBench(t)
	policy := Policy{Identity: member}
	dns := someSet("dns", allow(17, 53, anyone, anyone))
	policy.Sets[Leaving], policy.Sets[Arriving] = dns.ID, nothing.ID
	b.putPolicy(b.port1, policy, dns, nothing)
	out := udpFrame(mac1, addr1, farAddr)
	about := func(frame []byte, typ uint8) []byte {
		// A router on the way says it.
		ip := ipv4(farAddr2, addr1, layers.IPProtocolICMPv4)
		inner := serialize(ethernet(mac2, RouterMAC()), ip,
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, 3)}, gopacket.Payload(frame[14:14+28]))
		return tunnelled(remoteIP, localIP, label1, 50000, inner)
	}
	refused := func(frame []byte) {
		t.Helper()
		verdict, _ := b.fromWire(frame)
		b.wantDrop(verdict, DropPolicyGroup, b.port1.IfIndex)
	}
	refused(about(out, 3))
	verdict, _ := b.fromPort(b.port1, out)
	wantVerdict(t, verdict, tcRedirect)
	for _, typ := range []uint8{3, 11, 12} {
		verdict, _ = b.fromWire(about(out, typ))
		wantVerdict(t, verdict, tcRedirect)
	}
	refused(about(udpFrame(mac1, addr1, farAddr2), 3)) // of another flow
	refused(about(udpFrame(mac1, addr1b, farAddr), 3)) // not of the receiver's
	refused(about(out, 5))                             // a redirect is no error
	if flows := b.flows(); len(flows) != 1 {
		t.Errorf("flows are %+v, want that of the datagram", flows)
	}
}

// A set that the data plane cannot enforce refuses everything, and says why.
func TestNetSetThatIsTooMuch(t *testing.T) {
	b := newBench(t)
	var rules []Rule
	for typ := range uint16(maxSameLists + 1) {
		r := allow(6, 80, anyone, anyone)
		r.SameTags = []uint16{typ + 1}
		rules = append(rules, r)
	}
	set := someSet("too much", append(rules, allow(6, 80, anyone, anyone))...)
	policy := Policy{Identity: member}
	policy.Sets[NetworkPolicy] = set.ID
	for range 2 { // who tries again is told again
		if err := b.dp.PutPolicies(map[int]Policy{b.port1.IfIndex: policy}, map[SetID]*Set{set.ID: set}); err == nil {
			t.Error("the set was taken")
		}
		if known, err := b.dp.KnownPolicies(); err != nil || known[b.port1.IfIndex] == policy {
			t.Errorf("policies are %v, %v, want none of port 1 as it should be", known, err)
		}
		b.wants(webTCP, DropPolicyNetwork)
	}
	unknown := Policy{Identity: member}
	unknown.Sets[Leaving] = SetID{1}
	if err := b.dp.PutPolicies(map[int]Policy{b.port1.IfIndex: unknown}, nil); err == nil {
		t.Error("a set that nobody knows was taken")
	}
	if err := errors.Join(b.dp.DeletePolicy(4711)); err != nil {
		t.Errorf("deleting what is absent: %v", err)
	}
}

// A port with more groups and tags than there is room for is closed, and is an
// error: it does not keep the policy that it had before.
func TestNetPortWithTooManyTags(t *testing.T) {
	b := newBench(t)
	b.wants(webTCP, 0)
	tags := make([]uint32, maxIdentityValues+1)
	for i := range tags {
		tags[i] = uint32(i + 1)
	}
	many := Policy{Identity: NewIdentity(vrf, nil, tags)}
	many.Sets[Arriving] = nothing.ID
	for range 2 {
		other := Policy{Identity: NewIdentity(vrf, nil, tags[:1])}
		err := b.dp.PutPolicies(map[int]Policy{b.port1.IfIndex: many, b.port2.IfIndex: other}, map[SetID]*Set{nothing.ID: nothing})
		if err == nil {
			t.Error("no error says that the port has too many tags")
		}
		b.wants(webTCP, DropPolicyNetwork)
		verdict, _ := b.fromPort(b.port2, udpFrame(mac2, addr2, farAddr))
		wantVerdict(t, verdict, tcRedirect)
		if all, err := b.dp.Policies(); err != nil || all[b.port1.IfIndex] == many || all[b.port2.IfIndex] != other {
			t.Errorf("policies are %+v, %v; want that of port 2 to be %+v", all, err, other)
		}
		b.must(b.dp.Close())
		b.open()
	}
	b.putPolicy(b.port1, Policy{Identity: member})
	b.wants(webTCP, 0)
	if sets, err := b.dp.setHeads(); err != nil || len(sets) != 0 {
		t.Errorf("sets are %v, %v, want none", sets, err)
	}
}

// What an agent that was killed wrote for a port that never came goes with the
// next start, unless the device is still there.
func TestNetPolicyOfDeviceThatIsGone(t *testing.T) {
	b := newBench(t)
	policy := Policy{Identity: member}
	policy.Sets[Arriving] = toWeb.ID
	const gone, loopback = 9999, 1
	b.must(b.dp.PutPolicies(map[int]Policy{gone: policy}, map[SetID]*Set{toWeb.ID: toWeb}))
	b.must(b.dp.PutPolicies(map[int]Policy{loopback: {Identity: member}}, nil))
	b.must(b.dp.Close())
	b.open()
	all, err := b.dp.Policies()
	_, stays := all[loopback]
	if _, there := all[gone]; err != nil || there || !stays {
		t.Errorf("policies are of %v, %v; want none of %d and one of %d", all, err, gone, loopback)
	}
	if sets, err := b.dp.setHeads(); err != nil || len(sets) != 0 {
		t.Errorf("sets are %v, %v, want none", sets, err)
	}
}

// A set may grow too big by who comes to exist: whoever made it is refused, and
// nobody else's routes are.
func TestNetSetThatGrowsTooMuch(t *testing.T) {
	b := newBench(t)
	const groups, identities = 13, 5000
	var rules []Rule
	for i := range uint32(60_000) {
		r := allow(6, 80, Selector{Groups: []uint32{1 + i%groups}}, anyone)
		rules = append(rules, r)
	}
	set := someSet("grows", append(rules, allow(6, 80, anyone, anyone))...)
	policy := Policy{Identity: member}
	policy.Sets[NetworkPolicy] = set.ID
	b.putPolicy(b.port1, policy, set)
	b.wants(webTCP, 0)

	routes := map[RouteKey]NextHop{}
	for n := range uint32(identities) {
		var of []uint32 // another part of the groups for each
		for g := range uint32(groups) {
			if n>>g&1 != 0 {
				of = append(of, 1+g)
			}
		}
		at := netip.AddrFrom4([4]byte{10, 64, byte(n >> 8), byte(n)})
		routes[host(vrf, at)] = NextHop{Kind: Tunnel, Remote: remoteIP, Label: farLabel, Identity: NewIdentity(vrf, of, nil)}
	}
	b.must(b.dp.PutRoutes(routes))
	b.wants(webTCP, DropPolicyNetwork)
	if known, err := b.dp.KnownPolicies(); err != nil || known[b.port1.IfIndex] == policy {
		t.Errorf("policies are %+v (%v), want that of the port not known", known, err)
	}
	if err := b.dp.PutPolicies(map[int]Policy{b.port1.IfIndex: policy}, map[SetID]*Set{set.ID: set}); err == nil {
		t.Error("the set was taken")
	}
}
