//go:build net

package vrouter

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/nstest"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// blinking is a cluster with established flows from one node to a container of
// the other, which has a floating address in the network of one of the senders.
type blinking struct {
	*cluster
	one, two       *node
	a, out, server *container
	floating       netip.Addr
}

const floatingAddress = "198.51.100.3"

func newBlinking(t *testing.T) *blinking {
	c := newCluster(t, 2)
	b := &blinking{cluster: c, one: c.nodes[0], two: c.nodes[1], floating: netip.MustParseAddr(floatingAddress)}
	b.a, b.server, b.out = b.one.add("blue"), b.two.add("blue"), b.one.add("outside")
	b.controllers.giveFloating(b.two.ports()[0].ID, b.server.address, "outside")
	b.controllers.answersOnly(b.two.ports()[0].ID)
	eventually(t, "blue is reached by its address", func() error { return b.a.ping(b.server) })
	eventually(t, "blue is reached by its floating address", func() error {
		_, err := b.out.ns.Run("ping", "-c1", "-W1", floatingAddress)
		return err
	})
	eventually(t, "blue only answers", func() error {
		if b.server.ping(b.a) == nil {
			return errors.New("it reaches others")
		}
		return nil
	})
	return b
}

// giveFloating gives a port an address in another network.
func (c *controllers) giveFloating(id, fixed, network string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floating[id] = &controlv1.ForeignAddress{Address: floatingAddress, Vrf: c.networks[network], Fixed: fixed}
	c.commit()
}

// answersOnly has a port begin nothing: its answers pass because of the flows
// alone. Each call has another set say so.
func (c *controllers) answersOnly(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	number := len(c.sets)
	set, block := fmt.Appendf(nil, "set %012d", number), fmt.Appendf(nil, "blk %012d", number)
	nothing := &controlv1.PolicyRule{
		Uuid: "nothing", Src: &controlv1.PolicySelector{Prefixes: []string{"192.0.2.1/32"}}, Dst: &controlv1.PolicySelector{Any: true},
		Protocol: new(uint32(number + 1)), SrcPorts: []*controlv1.PortRange{{Last: 65535}}, DstPorts: []*controlv1.PortRange{{Last: 65535}},
	}
	c.sets = append(c.sets, blockMessage(block, nothing), setMessage(set, block))
	c.policies[id] = &controlv1.PortPolicy{Network: c.networks["blue"], LeavingSet: set}
	c.commit()
}

// load is a rate of packets over a number of flows.
type load struct{ rate, flows int }

// run has both kinds of flows while something happens, and at least for a time,
// and says what became of them.
func (b *blinking) run(l load, least time.Duration, happens func()) outcomeOfRun {
	b.t.Helper()
	to := func(from *container, address netip.Addr, port uint16, part int) nstest.Traffic {
		return nstest.Traffic{
			From: from.ns, To: b.server.ns, Address: address, Port: port, Flows: max(l.flows/part, 1), Rate: l.rate / part,
		}
	}
	fixed := netip.MustParseAddr(b.server.address)
	earlier := b.created()
	// A quarter of all is translated.
	direct, translated := to(b.a, fixed, 7, 1), to(b.out, b.floating, 8, 4)
	direct.Flows, direct.Rate = l.flows-translated.Flows, l.rate-translated.Rate
	traffic := []*nstest.RunningTraffic{nstest.StartTraffic(b.t, direct), nstest.StartTraffic(b.t, translated)}
	streams := []*nstest.RunningStream{
		nstest.StartStream(b.t, to(b.a, fixed, 9, 1)), nstest.StartStream(b.t, to(b.out, b.floating, 10, 1)),
	}
	before := b.created()
	done := time.After(least)
	happens()
	<-done
	after := b.created() // while all of them have packets
	var o outcomeOfRun
	for _, r := range traffic {
		tally := r.Stop(b.t)
		o.Sent += tally.Sent
		o.Lost += tally.Lost
		o.Answers += tally.Answers
		o.AnswersLost += tally.AnswersLost
		o.Rate += tally.Rate
		o.Refused = max(o.Refused, tally.Refused)
	}
	for _, s := range streams {
		tally := s.Stop(b.t)
		o.streamed += tally.Bytes
		o.again += tally.Again
	}
	for key, at := range before {
		if _, another := earlier[key]; another {
			continue
		}
		o.flows++
		switch now, there := after[key]; {
		case !there:
			o.gone++
		case now != at:
			o.begunAnew++
		}
	}
	return o
}

type outcomeOfRun struct {
	nstest.Tally
	streamed, again        int
	flows, gone, begunAnew int
}

// flowName is what a flow is known by on a node.
type flowName struct {
	node             int
	src, dst         netip.Addr
	srcPort, dstPort uint16
	protocol         uint8
	direction        dataplane.Direction
}

// created returns when each flow that the nodes have was made, whenever it had its
// last packet: on a slow machine that may be a while ago.
func (b *blinking) created() map[flowName]time.Duration {
	b.t.Helper()
	all := map[flowName]time.Duration{}
	for i, n := range b.nodes {
		tables, err := dataplane.OpenTables(filepath.Join(n.bpf, "contrail"))
		if err != nil {
			b.t.Fatal(err)
		}
		for f, err := range tables.Flows() {
			if err != nil {
				b.t.Fatal(err)
			}
			if f.Protocol != unix.IPPROTO_ICMP {
				all[flowName{i, f.Src, f.Dst, f.SrcPort, f.DstPort, f.Protocol, f.Direction}] = f.Created
			}
		}
		tables.Close()
	}
	return all
}

// restart ends an agent and starts the next, which has taken over when it returns.
func (n *node) restart(gracefully bool, between func()) {
	n.t.Helper()
	if gracefully {
		if err := n.process.Process.Signal(unix.SIGTERM); err != nil {
			n.t.Fatal(err)
		}
		if err := n.process.Wait(); err != nil {
			n.t.Errorf("the agent of %s ended with %v", n.ns.Name(), err)
		}
		n.process = nil
	} else {
		n.kill()
	}
	between()
	n.start()
	n.ready()
}

// ageLayout makes what is pinned what an agent of an earlier version leaves: its
// flows have shorter values, and they and their counts other names. The programs
// that are attached go on with what they have.
func (n *node) ageLayout() {
	n.t.Helper()
	dir := filepath.Join(n.bpf, "contrail", "maps")
	pins, err := filepath.Glob(filepath.Join(dir, "flow_v*"))
	if err != nil || len(pins) != 1 || pins[0] == filepath.Join(dir, "flow_v2") {
		n.t.Fatalf("flow tables are %v (%v), want one of another layout than flow_v2", pins, err)
	}
	now, err := ebpf.LoadPinnedMap(pins[0], nil)
	if err != nil {
		n.t.Fatal(err)
	}
	defer now.Close()
	before, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.Hash, Name: "flow_v2", KeySize: now.KeySize(), ValueSize: 112, MaxEntries: now.MaxEntries(),
	})
	if err != nil {
		n.t.Fatal(err)
	}
	defer before.Close()
	var key, value []byte
	flows := now.Iterate()
	for flows.Next(&key, &value) {
		if err := before.Put(key, value[:112]); err != nil {
			n.t.Fatal(err)
		}
	}
	err = errors.Join(flows.Err(), before.Pin(filepath.Join(dir, "flow_v2")), os.Remove(pins[0]))
	for _, name := range []string{"flow_made", "flow_gone"} {
		pins, globErr := filepath.Glob(filepath.Join(dir, name+"_v*"))
		err = errors.Join(err, globErr)
		for _, pin := range pins {
			err = errors.Join(err, os.Rename(pin, filepath.Join(dir, name+"_v1")))
		}
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// change has other ports, their routes and their policies come and go, and the
// server's policy change for others of the same effect.
func (b *blinking) change(rounds int) {
	b.t.Helper()
	id := b.two.ports()[0].ID
	for range rounds {
		var places []string
		for i := range 40 {
			_, place := b.controllers.bind(b.nodes[i%2].uuid, []string{"blue", "red"}[i/2%2])
			places = append(places, place)
		}
		b.controllers.answersOnly(id)
		var sides sync.WaitGroup
		for _, n := range b.nodes {
			come := []*container{newContainer(b.t, "blue"), newContainer(b.t, "red")}
			sides.Go(func() {
				for _, c := range come {
					for _, verb := range []string{"ADD", "DEL"} {
						if out, err := n.tryPlugin(verb, c.call); err != nil || out.code != 0 {
							b.t.Errorf("%s exited %d: %s%s (%v)", verb, out.code, out.stdout, out.stderr, err)
						}
					}
				}
			})
		}
		sides.Wait()
		for _, place := range places {
			b.controllers.remove(place)
		}
	}
}

// TestNetNeverBlinks has established flows, some of them translated, and some
// that policy would not let begin in the direction of the answers, while the agent
// is killed, restarted, upgraded from another layout and reconfigured. None of
// them loses a packet beyond what the same run without all this does. FULL=1 runs
// longer.
func TestNetNeverBlinks(t *testing.T) {
	b := newBlinking(t)
	least, rounds := 1500*time.Millisecond, 1
	if os.Getenv("FULL") == "1" {
		least, rounds = 10*time.Second, 5
	}
	both := func(f func(n *node)) func() {
		return func() {
			for range rounds {
				f(b.two)
				f(b.one)
			}
		}
	}
	cases := []struct {
		name    string
		happens func()
	}{
		{"nothing (control)", func() {}},
		{"agents killed", both(func(n *node) { n.restart(false, func() {}) })},
		{"agents restarted", both(func(n *node) { n.restart(true, func() {}) })},
		{"agents upgraded", both(func(n *node) { n.restart(false, n.ageLayout) })},
		{"others reconfigured", func() { b.change(2 * rounds) }},
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "while\tasked/s\tsent/s\tflows\tsent\tlost\tanswers\tlost\tTCP bytes\tlost\trefused by queues\t")
	before := b.two.ports()
	for _, l := range []load{{12000, 10}, {60000, 120}} {
		var control outcomeOfRun
		for i, c := range cases {
			o := b.run(l, least, c.happens)
			for try := 0; i > 0 && try < 3 && o.saysNothing(control, try); try++ {
				t.Logf("%s at %d packets/s: %d packets lost, %d answers and %d of TCP, and queues of this machine refused %d; once more",
					c.name, l.rate, o.Lost, o.AnswersLost, o.again, o.Refused)
				o = b.run(l, least, c.happens)
			}
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", c.name, l.rate, o.Rate, o.flows, o.Sent, o.Lost,
				o.Answers, o.AnswersLost, o.streamed, o.again, o.Refused)
			if i == 0 {
				control = o
				continue
			}
			if o.worse(control) {
				t.Errorf("%s at %d packets/s: lost %d packets, %d answers and %d of TCP; the control run %d, %d and %d",
					c.name, l.rate, o.Lost, o.AnswersLost, o.again, control.Lost, control.AnswersLost, control.again)
			}
			if o.gone > 0 || o.begunAnew > 0 {
				t.Errorf("%s at %d packets/s: of %d entries of flows %d are gone and %d are new", c.name, l.rate, o.flows, o.gone, o.begunAnew)
			}
		}
	}
	w.Flush()
	t.Logf("established flows, at least %v each:\n%s", least, table.String())
	after := b.two.ports()
	if len(after) != 1 || after[0].ID != before[0].ID || after[0].HostIndex != before[0].HostIndex || after[0].Status.State != "applied" {
		t.Errorf("port before %+v, after %+v", before, after)
	}
	if t.Failed() {
		b.logDrops()
	}
}

func (o outcomeOfRun) worse(control outcomeOfRun) bool {
	return o.Lost > control.Lost || o.AnswersLost > control.AnswersLost || o.again > control.again
}

// saysNothing is whether a run is worse, and that may be the machine's doing: its
// queues had no room for packets, or TCP alone took some for lost, as it does when
// an answer has to wait for a CPU. The latter is believed the third time.
func (o outcomeOfRun) saysNothing(control outcomeOfRun, try int) bool {
	if o.gone+o.begunAnew > 0 || !o.worse(control) {
		return false
	}
	onlyTCP := o.Lost <= control.Lost && o.AnswersLost <= control.AnswersLost
	return o.Refused > 0 || onlyTCP && try < 2
}

func (b *blinking) logDrops() {
	for _, n := range b.nodes {
		tables, err := dataplane.OpenTables(filepath.Join(n.bpf, "contrail"))
		if err != nil {
			b.t.Error(err)
			continue
		}
		drops, err := tables.Drops()
		b.t.Logf("%s has dropped %v (%v)", n.ns.Name(), drops, err)
		tables.Close()
	}
}

// TestNetNothingGoesBeforeControllersSpeak: while no controller answers, an agent
// that starts takes nothing away, also not what the graph has lost meanwhile; that
// goes when a controller has said so.
func TestNetNothingGoesBeforeControllersSpeak(t *testing.T) {
	b := newBlinking(t)
	fixed := netip.MustParseAddr(b.server.address)
	traffic := []*nstest.RunningTraffic{
		nstest.StartTraffic(t, nstest.Traffic{From: b.a.ns, To: b.server.ns, Address: fixed, Port: 7, Flows: 4, Rate: 1000}),
		nstest.StartTraffic(t, nstest.Traffic{From: b.out.ns, To: b.server.ns, Address: b.floating, Port: 8, Flows: 4, Rate: 1000}),
	}
	b.controllers.stop()
	b.controllers.remove(placeOf(b.two.uuid, b.server.container, "eth0"))
	for _, n := range b.nodes {
		n.kill()
		n.start()
		eventually(t, "the agent answers and has its ports", n.hasPorts)
	}
	for _, r := range traffic {
		// What queues of this machine had no room for no agent took away.
		if tally := r.Stop(t); tally.Lost+tally.AnswersLost > tally.Refused {
			t.Errorf("without controllers %d of %d packets and %d answers to %s are lost (queues refused %d)",
				tally.Lost, tally.Sent, tally.AnswersLost, r.Address, tally.Refused)
		}
	}
	if err := b.a.ping(b.server); err != nil {
		t.Errorf("without controllers: %v", err)
	}
	b.serve()
	eventually(t, "the port goes", func() error {
		if ports, taps := b.two.ports(), b.two.taps(); len(ports)+len(taps) > 0 {
			return fmt.Errorf("ports %v, interfaces %v", ports, taps)
		}
		return nil
	})
	eventually(t, "the routes to it and its flows go", func() error {
		for _, n := range b.nodes {
			if err := n.knows(fixed, b.floating); err != nil {
				return err
			}
		}
		return nil
	})
	if ports := b.one.ports(); len(ports) != 2 {
		t.Errorf("ports of the other node are %v, want both", ports)
	}
}

// hasPorts is an error until all ports of the agent are as they are to be.
func (n *node) hasPorts() error {
	ports, err := n.listPorts()
	if err != nil {
		return err
	}
	if len(ports) == 0 {
		return errors.New("it has none")
	}
	for _, p := range ports {
		if p.Status.State != "applied" {
			return fmt.Errorf("port %s is %+v", p.ID, p.Status)
		}
	}
	return nil
}

// knows is an error while the node has routes to, or ports with, an address.
func (n *node) knows(addresses ...netip.Addr) error {
	tables, err := dataplane.OpenTables(filepath.Join(n.bpf, "contrail"))
	if err != nil {
		return err
	}
	defer tables.Close()
	routes, err := tables.Routes()
	if err != nil {
		return err
	}
	for key := range routes {
		for _, a := range addresses {
			if key.Prefix.Addr() == a {
				return fmt.Errorf("%s has a route to %s", n.ns.Name(), a)
			}
		}
	}
	return nil
}
