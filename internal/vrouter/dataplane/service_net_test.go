//go:build net

package dataplane

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

var (
	gateway = netip.MustParseAddr("10.32.0.1")
	dns     = netip.MustParseAddr("10.32.0.2")
	control = netip.MustParseAddr("172.31.0.1")
	other   = netip.MustParseAddr("172.31.0.2")
)

const source = 50001

// segment is a TCP packet without content.
func segment(from MAC, src, dst netip.Addr, sport, dport, ttl int, flags ...func(*layers.TCP)) []byte {
	ip := ipv4(src, dst, layers.IPProtocolTCP)
	ip.TTL = uint8(ttl)
	head := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Window: 1000}
	for _, f := range flags {
		f(head)
	}
	head.SetNetworkLayerForChecksum(ip)
	return serialize(ethernet(from, RouterMAC()), ip, head, payload)
}

func syn(h *layers.TCP) { h.SYN = true }
func ack(h *layers.TCP) { h.ACK = true }

// wantSegment checks ends and TTL of a TCP packet without a tunnel, and that
// the checksums are right.
func (b *bench) wantSegment(frame []byte, src, dst string, ttl uint8) {
	b.t.Helper()
	p := inner(frame, false)
	ip, _ := p.NetworkLayer().(*layers.IPv4)
	tcp, ok := p.TransportLayer().(*layers.TCP)
	if !ok {
		b.t.Fatalf("no TCP in %x", frame)
	}
	b.wantInner(frame, false, netip.MustParseAddrPort(src).Addr(), netip.MustParseAddrPort(dst).Addr())
	if have := fmt.Sprintf("%d to %d", tcp.SrcPort, tcp.DstPort); have != fmt.Sprintf("%d to %d", netip.MustParseAddrPort(src).Port(), netip.MustParseAddrPort(dst).Port()) {
		b.t.Errorf("ports are %s, want %s to %s", have, src, dst)
	}
	if ip.TTL != ttl {
		b.t.Errorf("TTL is %d, want %d", ip.TTL, ttl)
	}
}

func (b *bench) putService(p Port, at netip.Addr, s Service) {
	b.t.Helper()
	b.ns.Must(func() error { return b.dp.PutService(ServiceKey{p.IfIndex, p.Addresses[0], at}, s) })
}

// asks sends a segment of port1 to BGP of an address.
func (b *bench) asks(at netip.Addr, sport int, flag func(*layers.TCP)) (uint32, []byte) {
	b.t.Helper()
	return b.fromPort(b.port1, segment(mac1, addr1, at, sport, 179, 1, flag))
}

func (b *bench) answers(from netip.Addr, sport, dport int) (uint32, []byte) {
	b.t.Helper()
	return b.fromWire(segment(nic, from, localIP, sport, dport, 60, ack))
}

// wantService has a connection of port1 pass in both directions.
func (b *bench) wantService(t *testing.T, at, control netip.Addr, sport int, flag func(*layers.TCP)) {
	t.Helper()
	verdict, out := b.asks(at, sport, flag)
	wantVerdict(t, verdict, tcRedirect)
	b.wantSegment(out, fmt.Sprint(localIP, ":", source), fmt.Sprint(control, ":179"), 255)
	verdict, out = b.answers(control, 179, source)
	wantVerdict(t, verdict, tcRedirect)
	b.wantSegment(out, fmt.Sprint(at, ":179"), fmt.Sprint(addr1, ":", sport), 255)
	if got := MAC(out[:6]); got != mac1 {
		b.t.Errorf("answer goes to %s, want %s", got, mac1)
	}
}

// TestNetService: a port reaches the control nodes at the addresses that it has
// them at, as the node with its source port, and their answers reach it.
func TestNetService(t *testing.T) {
	b := newBench(t)
	b.putService(b.port1, gateway, Service{control, source})
	b.putService(b.port1, dns, Service{other, source})
	for _, flag := range []func(*layers.TCP){syn, ack} {
		b.wantService(t, gateway, control, 40000, flag)
		b.wantService(t, dns, other, 40000, flag)
	}
	// Whatever changes, they go on.
	b.must(b.dp.PutRoute(host(vrf, otherIP), NextHop{Kind: Tunnel, Remote: otherIP, Label: 20}))
	verdict, out := b.answers(control, 179, source)
	wantVerdict(t, verdict, tcRedirect)
	b.wantSegment(out, "10.32.0.1:179", "10.32.0.3:40000", 255)
	b.wantService(t, gateway, control, 40000, ack)
	b.wantCounts(b.port1, FlowCount{2, 0}, FlowCount{})
	// They have no age.
	now, err := Now()
	b.must(err)
	if removed, live, err := b.dp.SweepFlows(now+100*time.Hour, DefaultAges()); err != nil || removed != 0 || live != 4 {
		t.Errorf("sweep removed %d and left %d, %v, want all 4 left", removed, live, err)
	}
	b.wantCounts(b.port1, FlowCount{2, 0}, FlowCount{})
	// An agent that starts anew adopts them.
	b.dp.Close()
	b.open()
	if have, err := b.dp.Services(); err != nil || len(have) != 2 || have[ServiceKey{b.port1.IfIndex, addr1, dns}] != (Service{other, source}) {
		t.Errorf("services are %v, %v", have, err)
	}
	b.wantService(t, gateway, control, 40000, ack)
}

// TestNetServiceIsForOnePortAlone: nobody else, and nothing else.
func TestNetServiceIsForOnePortAlone(t *testing.T) {
	b := newBench(t)
	b.putService(b.port1, gateway, Service{control, source})
	b.wantService(t, gateway, control, 40000, syn)
	refused := func(p Port, frame []byte) {
		t.Helper()
		verdict, _ := b.fromPort(p, frame)
		b.wantDrop(verdict, DropNoRoute, p.IfIndex)
	}
	refused(b.port2, segment(mac2, addr2, gateway, 40000, 179, 64, syn))
	refused(b.port1, segment(mac1, addr1, gateway, 40000, 180, 64, syn))
	refused(b.port1, segment(mac1, addr1, control, 40000, 179, 64, syn))
	refused(b.port1, segment(mac1, addr1, dns, 40000, 179, 64, syn))
	refused(b.port1, udpFrame(mac1, addr1, gateway))
	ip := ipv4(addr1, gateway, layers.IPProtocolUDP)
	refused(b.port1, serialize(ethernet(mac1, RouterMAC()), ip, udp(ip, 40000, 179), payload))
	refused(b.port1, serialize(ethernet(mac1, RouterMAC()), ipv4(addr1, gateway, layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1}))
	verdict, _ := b.fromPort(b.port1, segment(mac1, addr2, gateway, 40000, 179, 64, syn))
	b.wantDrop(verdict, DropSourceAddress, b.port1.IfIndex)
	// What is none of the connection is the host's.
	for _, f := range [][3]any{{other, 179, source}, {control, 180, source}, {control, 179, source + 1}} {
		verdict, _ := b.answers(f[0].(netip.Addr), f[1].(int), f[2].(int))
		wantVerdict(t, verdict, tcNext)
	}
	// The same with a label: such a flow comes by no tunnel.
	verdict, _ = b.fromWire(tunnelled(control, localIP, 0, 50000, segment(mac1, control, localIP, 179, source, 64, ack)))
	b.wantDrop(verdict, DropLabel, b.eth0)

	// From another address of the port it is none either.
	refused(b.port1, segment(mac1, addr1b, gateway, 40000, 179, 64, syn))

	// A blocked port gets and sends nothing.
	blocked := b.port1
	blocked.Blocked = true
	b.putPort(blocked)
	verdict, _ = b.asks(gateway, 40000, ack)
	b.wantDrop(verdict, DropBlocked, b.port1.IfIndex)
	verdict, _ = b.answers(control, 179, source)
	b.wantDrop(verdict, DropBlocked, b.port1.IfIndex)
	b.putPort(b.port1)
	b.wantService(t, gateway, control, 40000, ack)

	// Nor does one that loses the address.
	less := b.port1
	less.Addresses = []netip.Addr{addr1b}
	b.putPort(less)
	verdict, _ = b.answers(control, 179, source)
	wantVerdict(t, verdict, tcNext)
}

// TestNetServiceOfClosedPort: a port that has no policy yet begins nothing.
func TestNetServiceOfClosedPort(t *testing.T) {
	b := newBench(t)
	b.putService(b.port1, gateway, Service{control, source})
	b.must(b.dp.DeletePolicy(b.port1.IfIndex))
	verdict, _ := b.asks(gateway, 40000, syn)
	b.wantDrop(verdict, DropPolicyPending, b.port1.IfIndex)
}

// TestNetServiceHasOneConnection: a new one takes the place, and nothing of the
// one before passes any more.
func TestNetServiceHasOneConnection(t *testing.T) {
	b := newBench(t)
	b.putService(b.port1, gateway, Service{control, source})
	b.wantService(t, gateway, control, 40000, syn)
	verdict, _ := b.asks(gateway, 40001, ack)
	b.wantDrop(verdict, DropBgpConnection, b.port1.IfIndex)
	b.wantService(t, gateway, control, 40000, ack)
	b.wantService(t, gateway, control, 40002, syn)
	verdict, _ = b.asks(gateway, 40000, ack)
	b.wantDrop(verdict, DropBgpConnection, b.port1.IfIndex)
	b.wantService(t, gateway, control, 40002, ack)
	if flows := b.flows(); len(flows) != 2 {
		t.Errorf("flows are %+v, want those of one connection", flows)
	}
}

// TestNetServiceMoves: who is connected stays with the control node, and goes to
// the new one when it connects again. What it leaves behind has an age.
func TestNetServiceMoves(t *testing.T) {
	b := newBench(t)
	b.putService(b.port1, gateway, Service{control, source})
	b.wantService(t, gateway, control, 40000, syn)
	b.putService(b.port1, gateway, Service{other, source})
	b.wantService(t, gateway, control, 40000, ack)
	b.wantService(t, gateway, other, 40001, syn)
	b.wantService(t, gateway, control, 40000, ack)
	now, err := Now()
	b.must(err)
	_, _, err = b.dp.SweepFlows(now+time.Hour, DefaultAges())
	b.must(err)
	if flows := b.flows(); len(flows) != 2 || flows[0].Src == control || flows[1].Src == control {
		t.Errorf("flows are %+v, want those with %s", flows, other)
	}
	b.wantService(t, gateway, other, 40001, ack)
	verdict, _ := b.asks(gateway, 40000, ack)
	b.wantDrop(verdict, DropBgpConnection, b.port1.IfIndex)
	// A connection that begins anew from the same port goes there, too.
	b.putService(b.port1, gateway, Service{control, source})
	b.wantService(t, gateway, control, 40001, syn)
}

// TestNetServiceFragments: later fragments have the addresses of the first.
func TestNetServiceFragments(t *testing.T) {
	b := newBench(t)
	b.putService(b.port1, gateway, Service{control, source})
	b.wantService(t, gateway, control, 40000, syn)
	fragments := func(src, dst netip.Addr, sport, dport int) (first, later []byte) {
		ip := ipv4(src, dst, layers.IPProtocolTCP)
		ip.Flags = layers.IPv4MoreFragments
		head := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), ACK: true}
		head.SetNetworkLayerForChecksum(ip)
		first = serialize(ethernet(mac1, RouterMAC()), ip, head, payload)
		ip.Flags, ip.FragOffset = 0, 10
		return first, serialize(ethernet(mac1, RouterMAC()), ip, payload)
	}
	first, later := fragments(addr1, gateway, 40000, 179)
	for _, frame := range [][]byte{first, later} {
		verdict, out := b.fromPort(b.port1, frame)
		wantVerdict(t, verdict, tcRedirect)
		b.wantInner(out, false, localIP, control)
	}
	first, later = fragments(control, localIP, 179, source)
	verdict, _ := b.fromWire(later)
	wantVerdict(t, verdict, tcNext) // its first was not seen
	for _, frame := range [][]byte{first, later} {
		verdict, out := b.fromWire(frame)
		wantVerdict(t, verdict, tcRedirect)
		b.wantInner(out, false, gateway, addr1)
	}
}

// TestNetServiceFitsTheUnderlay: what is sent without a tunnel may be as large as
// the underlay takes, and no larger.
func TestNetServiceFitsTheUnderlay(t *testing.T) {
	b := newBench(t)
	b.putService(b.port1, gateway, Service{control, source})
	of := func(size int) []byte {
		ip := ipv4(addr1, gateway, layers.IPProtocolTCP)
		head := &layers.TCP{SrcPort: 40000, DstPort: 179, SYN: true}
		head.SetNetworkLayerForChecksum(ip)
		return serialize(ethernet(mac1, RouterMAC()), ip, head, make(gopacket.Payload, size-40))
	}
	verdict, _ := b.fromPort(b.port1, of(1500))
	wantVerdict(t, verdict, tcRedirect)
	verdict, _ = b.fromPort(b.port1, of(1501))
	b.wantDrop(verdict, DropTooBig, b.port1.IfIndex)
}

// TestNetServiceLeavesNothing: with the service, or its port, all goes that was
// for it.
func TestNetServiceLeavesNothing(t *testing.T) {
	b := newBench(t)
	key := ServiceKey{b.port1.IfIndex, addr1, gateway}
	for name, remove := range map[string]func() error{
		"service": func() error { return b.dp.DeleteService(key) },
		"port":    func() error { return b.dp.DeletePort(b.port1.IfIndex) },
	} {
		b.putPort(b.port1)
		b.putService(b.port1, gateway, Service{control, source})
		b.wantService(t, gateway, control, 40000, syn)
		if err := b.bind(); err == nil {
			t.Errorf("%s: a program of the node gets the source port", name)
		}
		b.ns.Must(remove)
		b.ns.Must(remove)
		verdict, _ := b.answers(control, 179, source)
		wantVerdict(t, verdict, tcNext) // the host answers with a reset
		services, err := b.dp.Services()
		b.must(err)
		if flows := b.flows(); len(services)+len(flows) != 0 {
			t.Errorf("%s: left are %v and %+v", name, services, flows)
		}
		b.must(b.bind())
	}
}

// bind takes the source port for a moment, as a program of the node.
func (b *bench) bind() error {
	return b.ns.Do(func() error {
		l, err := net.Listen("tcp4", fmt.Sprint(localIP, ":", source))
		if err == nil {
			l.Close()
		}
		return err
	})
}

func TestNetServiceErrors(t *testing.T) {
	b := newBench(t)
	b.putService(b.port1, gateway, Service{control, source})
	good := ServiceKey{b.port2.IfIndex, addr2, gateway}
	for want, c := range map[string]struct {
		key ServiceKey
		s   Service
	}{
		"ifindex":                      {ServiceKey{0, addr2, gateway}, Service{control, 50002}},
		"server":                       {ServiceKey{1, addr2, netip.Addr{}}, Service{control, 50002}},
		"of the control node":          {good, Service{netip.IPv6Loopback(), 50002}},
		"on the node":                  {good, Service{localIP, 50002}},
		"source port 80":               {good, Service{control, 80}},
		"source port 50001 is that of": {good, Service{control, source}},
	} {
		err := b.ns.Do(func() error { return b.dp.PutService(c.key, c.s) })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
	// A program has the port: the service is there, and the error stays until it is free.
	var l net.Listener
	b.ns.Must(func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprint(localIP, ":50002"))
		return err
	})
	put := func() error { return b.ns.Do(func() error { return b.dp.PutService(good, Service{control, 50002}) }) }
	if err := put(); err == nil || !strings.Contains(err.Error(), "source port 50002 is not reserved") {
		t.Errorf("error is %v, want the port's", err)
	}
	if have, err := b.dp.Services(); err != nil || len(have) != 2 {
		t.Errorf("services are %v, %v, want both", have, err)
	}
	l.Close()
	b.must(put())
}

// bgpServer is a control node on the fabric: it echoes, and tells who came.
func (c *cluster) bgpServer(address netip.Addr) (*nstest.NS, <-chan string) {
	c.t.Helper()
	ns := nstest.New(c.t, "control")
	nstest.Veth(c.t, ns, "eth0", c.fabric, "ctl")
	c.fabric.Enslave("ctl", "br0")
	ns.Up("eth0", netip.PrefixFrom(address, 24))
	var l net.Listener
	ns.Must(func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprint(address, ":179"))
		return err
	})
	c.t.Cleanup(func() { l.Close() })
	came := make(chan string, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			came <- conn.RemoteAddr().String()
			go func() {
				defer conn.Close()
				_, err := io.Copy(conn, conn)
				came <- fmt.Sprint("ended: ", err)
			}()
		}
	}()
	return ns, came
}

func (k *container) dialBGP(to netip.Addr, timeout time.Duration) (conn net.Conn, err error) {
	err = k.Do(func() (err error) {
		dialer := net.Dialer{Timeout: timeout}
		conn, err = dialer.Dial("tcp4", fmt.Sprint(to, ":179"))
		return err
	})
	return conn, err
}

// echo sends bytes of a kind and expects them back.
func echo(conn net.Conn, size int) error {
	conn.SetDeadline(time.Now().Add(patience))
	sent := strings.Repeat("keepalive ", size/10+1)[:size]
	failed := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, sent)
		failed <- err
	}()
	got := make([]byte, size)
	_, err := io.ReadFull(conn, got)
	if err := errors.Join(err, <-failed); err != nil {
		return err
	}
	if string(got) != sent {
		return fmt.Errorf("%d bytes came back changed", size)
	}
	return nil
}

// TestNetServiceTraffic: a container has a BGP connection with a control node on
// the fabric, which sees the node with the given port. It outlives the agent, and
// ends with the service.
func TestNetServiceTraffic(t *testing.T) {
	c := newCluster(t, 1)
	client, stranger := c.container(0, 1, "10.1.0.3"), c.container(0, 1, "10.1.0.4")
	c.connect()
	_, came := c.bgpServer(control)
	at := netip.MustParseAddr("10.1.0.1")
	n := c.nodes[0]
	key := ServiceKey{client.port.IfIndex, client.addr, at}
	n.Must(func() error { return n.dp.PutService(key, Service{control, source}) })

	conn, err := client.dialBGP(at, patience)
	if err != nil {
		c.dump()
		t.Fatal(err)
	}
	defer conn.Close()
	if who := <-came; who != fmt.Sprint(n.config.LocalIP, ":", source) {
		t.Errorf("the control node sees %s", who)
	}
	for _, size := range []int{19, 4 << 20} {
		if err := echo(conn, size); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
	for _, to := range []netip.Addr{at, control} {
		if conn, err := stranger.dialBGP(to, 300*time.Millisecond); err == nil {
			conn.Close()
			t.Errorf("another container reaches %s", to)
		}
	}
	for _, err := range []error{client.refused(control), client.refused(at), client.refused(n.config.LocalIP)} {
		if err != nil {
			t.Error(err)
		}
	}

	// The agent goes, and comes again.
	n.dp.Close()
	if err := echo(conn, 100000); err != nil {
		t.Fatalf("without the agent: %v", err)
	}
	n.open(t)
	if err := echo(conn, 100000); err != nil {
		t.Fatalf("with a new agent: %v", err)
	}
	// The node's own programs get another source port, where there are two.
	n.Must(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte(fmt.Sprint(source, " ", source+1)), 0o644)
	})
	n.Must(func() error {
		dialer := net.Dialer{Timeout: patience}
		own, err := dialer.Dial("tcp4", fmt.Sprint(control, ":179"))
		if err == nil {
			defer own.Close()
			if who := <-came; who != fmt.Sprint(n.config.LocalIP, ":", source+1) {
				t.Errorf("a program of the node connects from %s", who)
			}
		}
		return err
	})
	<-came // it has ended
	// A client that was restarted without a word takes the place.
	again, err := client.dialBGP(at, patience)
	if err != nil {
		c.dump()
		t.Fatal(err)
	}
	defer again.Close()
	if err := echo(again, 1000); err != nil {
		t.Fatal(err)
	}
	first, second := <-came, <-came
	if !strings.Contains(first+second, "reset") || !strings.Contains(first+second, fmt.Sprint(source)) {
		t.Errorf("the control node had %q and %q, want the end of the first connection and the second", first, second)
	}
	// The service goes: the host tells the control node so.
	n.Must(func() error { return n.dp.DeleteService(key) })
	again.SetDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := io.WriteString(again, "x"); err == nil {
		if _, err := again.Read(make([]byte, 1)); err == nil {
			t.Error("the connection goes on without the service")
		}
	}
}
