//go:build net

package dataplane

import (
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// slow is a limit that one large packet uses up for seconds.
var slow = Limit{Rate: LeastRate, Burst: 8}

// largeUDP is a packet of more than 1000 bytes.
func largeUDP(from MAC, src, dst netip.Addr, sport int) []byte {
	ip := ipv4(src, dst, layers.IPProtocolUDP)
	return serialize(ethernet(from, RouterMAC()), ip, udp(ip, sport, 53), gopacket.Payload(make([]byte, 1000)))
}

// limit gives the ports of a bench limits, and nothing to owe.
func (b *bench) limit(egress1, ingress1, ingress2 Limit) {
	b.t.Helper()
	b.putPort(b.port1)
	b.putPort(b.port2)
	one, two := b.port1, b.port2
	one.Egress, one.Ingress, two.Ingress = egress1, ingress1, ingress2
	b.putPort(one)
	b.putPort(two)
}

// passes has the programs take a frame that nothing is against.
func (b *bench) passes(what string, verdict uint32) {
	b.t.Helper()
	if drops := b.dropped(); verdict != tcRedirect || len(drops) != 0 {
		b.t.Errorf("%s: verdict %d, drops %v", what, verdict, drops)
	}
	b.forgetDrops()
}

// TestNetLimitsOfAPort: a port may send and be sent so much; what is more is
// dropped, of flows that are known and of those that are not, which are not made.
func TestNetLimitsOfAPort(t *testing.T) {
	b := newBench(t)
	b.must(b.dp.PutVNI(vniOf(vrf), vrf))
	sent := func(dst netip.Addr) func(sport int) uint32 {
		return func(sport int) uint32 {
			verdict, _ := b.fromPort(b.port1, largeUDP(mac1, addr1, dst, sport))
			return verdict
		}
	}
	came := func(sport int) uint32 {
		verdict, _ := b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, largeUDP(mac2, farAddr, addr1, sport)))
		return verdict
	}
	cases := []struct {
		name                        string
		egress1, ingress1, ingress2 Limit
		reason                      DropReason
		port                        Port
		send                        func(sport int) uint32
	}{
		{"egress to a port here", slow, Limit{}, Limit{}, DropEgressRate, b.port1, sent(addr2)},
		{"egress to a tunnel", slow, Limit{}, Limit{}, DropEgressRate, b.port1, sent(farAddr)},
		{"ingress from a port here", Limit{}, Limit{}, slow, DropIngressRate, b.port2, sent(addr2)},
		{"ingress from a tunnel", Limit{}, slow, Limit{}, DropIngressRate, b.port1, came},
	}
	for i, c := range cases {
		b.limit(c.egress1, c.ingress1, c.ingress2)
		b.passes(c.name, c.send(1000+i))
		b.wantDrop(c.send(1000+i), c.reason, c.port.IfIndex)
		flows := len(b.flows())
		b.wantDrop(c.send(2000+i), c.reason, c.port.IfIndex)
		if n := len(b.flows()); n != flows {
			t.Errorf("%s: %d flows, and %d before a packet that was too much", c.name, n, flows)
		}
	}

	// The other direction, and the other port, have nothing to do with it.
	b.limit(slow, Limit{}, Limit{})
	for i := range 3 {
		b.passes("arrival at a port with a limit of its egress", came(3000+i))
		verdict, _ := b.fromPort(b.port2, largeUDP(mac2, addr2, farAddr, 3000+i))
		b.passes("packet of a port without limits", verdict)
	}

	// When the limit goes, it goes for flows that were under it.
	b.passes("first packet", sent(farAddr)(4000))
	b.wantDrop(sent(farAddr)(4000), DropEgressRate, b.port1.IfIndex)
	b.limit(Limit{}, Limit{}, Limit{})
	b.passes("packet without a limit", sent(farAddr)(4000))
}

// TestNetLimitsOfAnswers: what a container asks the node counts as what it sends,
// and the answer as what it is sent. That is not refused: others could use it up.
func TestNetLimitsOfAnswers(t *testing.T) {
	b := newBench(t)
	gateway := netip.MustParseAddr("10.32.0.1")
	b.port1.Gateways = []netip.Addr{gateway}
	ip := ipv4(addr1, gateway, layers.IPProtocolICMPv4)
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1, Seq: 1}
	echo := serialize(ethernet(mac1, RouterMAC()), ip, icmp, gopacket.Payload(make([]byte, 1000)))
	arp := arpOf(mac1, 1, addr1, gateway)

	b.limit(slow, Limit{}, Limit{})
	verdict, _ := b.fromPort(b.port1, echo)
	b.passes("echo", verdict)
	for _, frame := range [][]byte{echo, arp} {
		verdict, _ = b.fromPort(b.port1, frame)
		b.wantDrop(verdict, DropEgressRate, b.port1.IfIndex)
	}

	b.limit(Limit{}, slow, Limit{})
	for range 2 {
		for _, frame := range [][]byte{echo, arp} {
			verdict, _ = b.fromPort(b.port1, frame)
			b.passes("question of a container that may be sent nothing more", verdict)
		}
	}
	verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, udpFrame(mac2, farAddr, addr1)))
	b.wantDrop(verdict, DropIngressRate, b.port1.IfIndex)
}

// TestNetLimitsOfFrames: bridged frames count, too, each copy of one for many.
func TestNetLimitsOfFrames(t *testing.T) {
	b := newBridgeBench(t, Bridge{})
	long := string(make([]byte, 1000))
	toPort, toAll := rawFrame(mac1, mac2, long), rawFrame(mac1, everybody, long)
	byIP := between(mac1, mac2, largeUDP(mac1, addr1, addr2, 1000))
	for name, frame := range map[string][]byte{"no IP": toPort, "IP": byIP} {
		b.limit(slow, Limit{}, Limit{})
		verdict, _ := b.fromPort(b.port1, frame)
		b.passes(name, verdict)
		verdict, _ = b.fromPort(b.port1, frame)
		b.wantDrop(verdict, DropEgressRate, b.port1.IfIndex)

		b.limit(Limit{}, Limit{}, slow)
		verdict, _ = b.fromPort(b.port1, frame)
		b.passes(name, verdict)
		verdict, _ = b.fromPort(b.port1, frame)
		b.wantDrop(verdict, DropIngressRate, b.port2.IfIndex)
	}

	b.limit(Limit{}, Limit{}, slow)
	b.fromPort(b.port1, toAll) // whose verdict is always to drop the original
	verdict, _ := b.fromPort(b.port1, toAll)
	b.wantDrop(verdict, DropIngressRate, b.port2.IfIndex)
	b.limit(slow, Limit{}, Limit{})
	b.fromPort(b.port1, toAll)
	verdict, _ = b.fromPort(b.port1, toAll)
	b.wantDrop(verdict, DropEgressRate, b.port1.IfIndex)

	b.limit(Limit{}, slow, Limit{})
	arrival := byVXLAN(remoteIP, localIP, vni, 50000, rawFrame(farMAC, mac1, long))
	verdict, _ = b.fromWire(arrival)
	b.passes("frame by VXLAN", verdict)
	verdict, _ = b.fromWire(arrival)
	b.wantDrop(verdict, DropIngressRate, b.port1.IfIndex)
}

// TestNetLimitsStay: limits are read as they were written, outlive who wrote them
// with what is owed, and go with their port.
func TestNetLimitsStay(t *testing.T) {
	b := newBench(t)
	b.port1.Egress, b.port1.Ingress = slow, Limit{Rate: 10e6, Burst: 2e6}
	b.putPort(b.port1)
	check := func(when string) {
		t.Helper()
		ports, err := b.dp.Ports()
		b.must(err)
		if p := ports[b.port1.IfIndex]; !p.Equal(b.port1) {
			t.Errorf("%s: port is %+v, want %+v", when, p, b.port1)
		}
	}
	check("as written")
	b.fromPort(b.port1, largeUDP(mac1, addr1, farAddr, 1000))
	b.dp.Close()
	b.open()
	check("adopted")
	b.putPort(b.port1)
	verdict, _ := b.fromPort(b.port1, largeUDP(mac1, addr1, farAddr, 1000))
	b.wantDrop(verdict, DropEgressRate, b.port1.IfIndex)

	for name, p := range map[string]Limit{
		"rate without a burst": {Rate: 1e6}, "burst without a rate": {Burst: 1e6}, "small rate": {Rate: LeastRate - 1, Burst: 1},
		"large rate": {Rate: MostRate + 1, Burst: 1}, "large burst": {Rate: 1e6, Burst: MostBurst + 1},
	} {
		bad := b.port1
		bad.Ingress = p
		b.ns.Must(func() error {
			if err := b.dp.PutPort(bad); err == nil {
				t.Errorf("%s is taken", name)
			}
			return nil
		})
	}
	check("after bad input")

	slot := b.dp.slots[b.port1.IfIndex]
	b.ns.Must(func() error { return b.dp.DeletePort(b.port1.IfIndex) })
	for dir := range uint32(limitDirs) {
		var left bpfLimit
		if err := b.dp.maps().LimitV1.Lookup(limitOf(slot, dir), &left); err != nil || left != (bpfLimit{}) {
			t.Errorf("direction %d: %+v is left (%v)", dir, left, err)
		}
	}
}

// sink counts what comes by TCP.
type sink struct{ bytes atomic.Int64 }

func (k *container) sink(t *testing.T, port int) *sink {
	t.Helper()
	s := &sink{}
	var listener *net.TCPListener
	k.Must(func() (err error) {
		listener, err = net.ListenTCP("tcp", &net.TCPAddr{IP: k.addr.AsSlice(), Port: port})
		return err
	})
	t.Cleanup(func() { listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buf := make([]byte, 256<<10)
		for err != io.EOF {
			var n int
			if n, err = conn.Read(buf); err != nil {
				return
			}
			s.bytes.Add(int64(n))
		}
	}()
	return s
}

// stream sends to a sink for as long as the test lasts, or until it is stopped.
func (k *container) stream(t *testing.T, to *container, port int) (*sink, func()) {
	t.Helper()
	s := to.sink(t, port)
	var conn net.Conn
	k.Must(func() (err error) {
		conn, err = net.Dial("tcp", netip.AddrPortFrom(to.addr, uint16(port)).String())
		return err
	})
	go func() {
		buf := make([]byte, 128<<10)
		for {
			if _, err := conn.Write(buf); err != nil {
				return
			}
		}
	}()
	stop := func() {
		_ = conn.(*net.TCPConn).SetLinger(0) // what is on its way would use up the limit
		conn.Close()
	}
	t.Cleanup(stop)
	return s, stop
}

const (
	// settleFor is how long the mean of one connection is that has to be its limit:
	// TCP without a queue goes by fits and starts of a quarter of a second.
	settleFor = 4 * time.Second
	// settlePatience is how long that may take to come.
	settlePatience = 16 * time.Second
)

// settled is what a limited connection came to.
type settled struct {
	ok bool
	// over is more than the limit and its burst, bits in a second over a time; this
	// no machine is too slow for.
	over error
	// best is the most that came in settleFor, bits in a second, when not ok.
	best float64
}

// settle measures, after what passes at once at the beginning, until the mean of some
// settleFor is within 5 % of a rate. It may bring too little on a machine that has no
// time, and never more than 5 % above the rate since began beyond the burst.
func (s *sink) settle(l Limit, began time.Time) (got settled) {
	type sample struct {
		at   time.Duration
		bits float64
	}
	rate, burst := float64(l.Rate), max(float64(l.Burst), float64(l.Rate)*LeastBurst.Seconds())
	burst += 2 * 65536 * 8 // super-packets, as one passes whole if anything does, on each of two CPUs
	var samples []sample
	for at := time.Duration(0); at < settlePatience; {
		time.Sleep(250 * time.Millisecond)
		bits := float64(s.bytes.Load()) * 8
		at = time.Since(began)
		if bits > 1.05*rate*at.Seconds()+burst {
			got.over = fmt.Errorf("TCP brings %.1f Mbit in %.1f s, and the limit is %.0f in a second and %.1f at once",
				bits/1e6, at.Seconds(), rate/1e6, burst/1e6)
			return got
		}
		if at < time.Second {
			continue
		}
		samples = append(samples, sample{at, bits})
		for len(samples) > 1 && at-samples[1].at >= settleFor {
			samples = samples[1:]
		}
		first := samples[0]
		if at-first.at < settleFor {
			continue
		}
		mean := (bits - first.bits) / (at - first.at).Seconds()
		if mean > 0.95*rate && mean < 1.05*rate {
			return settled{ok: true}
		}
		got.best = max(got.best, mean)
	}
	return got
}

// least is how many bits came in the worst of four seconds.
func (s *sink) least() float64 {
	worst := math.Inf(1)
	for range 4 {
		from, start := s.bytes.Load(), time.Now()
		time.Sleep(time.Second) // the time is what is measured
		worst = min(worst, float64(s.bytes.Load()-from)*8/time.Since(start).Seconds())
	}
	return worst
}

// limited are two containers, and what one may send the other.
type limited struct {
	name     string
	from, to *container
	ingress  bool // the limit is of the one that is sent to
	port     int  // of the last connection
}

// stream begins one with a limit.
func (p *limited) stream(t *testing.T, l Limit) (s *sink, began time.Time, stop func()) {
	t.Helper()
	k := p.from
	if p.ingress {
		k = p.to
	}
	with := k.port
	if p.ingress {
		with.Ingress = l
	} else {
		with.Egress = l
	}
	k.node.Must(func() error { return k.node.dp.PutPort(with) })
	p.port++
	began = time.Now()
	s, stop = p.from.stream(t, p.to, p.port)
	return s, began, stop
}

// again tries a limit that was not reached, if the machine has the time for it: when
// without a limit nothing like twice as much comes, that says nothing.
func (p *limited) again(t *testing.T, l Limit, got settled) {
	t.Helper()
	for range 2 {
		s, _, stop := p.stream(t, Limit{})
		free := s.least()
		stop()
		if free < 2*float64(l.Rate) {
			t.Logf("%s: not tried at %.0f Mbit/s, as this machine has no more than %.1f now", p.name, float64(l.Rate)/1e6, free/1e6)
			return
		}
		t.Logf("%s: TCP brings %.1f Mbit/s, the limit is %.0f, and without it %.1f; once more",
			p.name, got.best/1e6, float64(l.Rate)/1e6, free/1e6)
		s, began, stop := p.stream(t, l)
		got = s.settle(l, began)
		stop()
		if got.over != nil {
			t.Errorf("%s: %v", p.name, got.over)
		}
		if got.ok || got.over != nil {
			return
		}
	}
	t.Errorf("%s: TCP brings %.1f Mbit/s at best in the mean of %v, and the limit is %.0f",
		p.name, got.best/1e6, settleFor, float64(l.Rate)/1e6)
}

// TestNetTCPGetsItsLimit: one TCP connection gets what is allowed, neither more nor
// less, in both directions, on one node and between two. FULL=1 tries 1 Gbit/s, too.
func TestNetTCPGetsItsLimit(t *testing.T) {
	c := newCluster(t, 2)
	var pairs []*limited
	for i, name := range []string{"egress, one node", "egress, two nodes", "ingress, one node", "ingress, two nodes"} {
		n := 3 + 2*i
		pairs = append(pairs, &limited{
			name: name, ingress: i >= 2, port: 5000,
			from: c.container(0, 1, fmt.Sprintf("10.32.0.%d", n)),
			to:   c.container(i%2, 1, fmt.Sprintf("10.32.0.%d", n+1)),
		})
	}
	c.connect()
	limits := []Limit{{Rate: 10e6, Burst: 8 * 15140}, {Rate: 100e6, Burst: 8 * 15140}}
	together := len(pairs)
	if os.Getenv("FULL") == "1" {
		limits = append(limits, Limit{Rate: 1e9, Burst: 8 << 20})
	}
	for _, l := range limits {
		if l.Rate >= 1e9 {
			together = 1
		}
		for some := range slices.Chunk(pairs, together) {
			gotten := make([]settled, len(some))
			var all sync.WaitGroup
			for i, p := range some {
				s, began, stop := p.stream(t, l)
				all.Go(func() {
					gotten[i] = s.settle(l, began)
					stop()
				})
			}
			all.Wait()
			for i, p := range some {
				switch got := gotten[i]; {
				case got.over != nil:
					t.Errorf("%s: %v", p.name, got.over)
				case !got.ok && t.Failed():
					t.Logf("%s: TCP brings %.1f Mbit/s at best, and the limit is %.0f", p.name, got.best/1e6, float64(l.Rate)/1e6)
				case !got.ok: // the first time: a defect is seen once
					p.again(t, l, got)
				}
			}
		}
	}
	if t.Failed() {
		c.dump()
	}
}
