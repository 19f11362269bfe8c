//go:build net

package dataplane

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// TestNetNATPorts: no two flows with the same far end have the same port of the node;
// a port cannot take all; who finds none is told so; what has ended gives its back.
func TestNetNATPorts(t *testing.T) {
	b := newBench(t, func(c *Config) { c.NATPorts = NATPorts{61000, 61127} })
	b.putFabric()
	b.must(b.dp.PutSNAT(b.port1.IfIndex, fabricNet))
	b.must(b.dp.PutSNAT(b.port2.IfIndex, fabricNet))
	taken := map[uint16]string{}
	begin := func(p Port, from netip.Addr, flows int) (begun int) {
		t.Helper()
		for i := range flows {
			verdict, out := b.fromPort(p, segment(p.MAC, from, outsider, 40000+i, 443, 64, syn))
			if verdict == tcDrop {
				continue
			}
			src, _, _ := b.ends(out)
			who := fmt.Sprint(from, " ", 40000+i)
			if other := taken[src.Port()]; other != "" {
				t.Fatalf("%s and %s both have port %d", who, other, src.Port())
			}
			taken[src.Port()] = who
			begun++
		}
		return begun
	}
	if n := begin(b.port1, addr1, 200); n < 20 || n > 128/4 {
		t.Errorf("one port has %d of 128 ports, want up to a quarter", n)
	}
	if n := begin(b.port2, addr2, 100); n < 12 {
		t.Errorf("another port has %d ports beside that, want most of its quarter", n)
	}
	for d := range b.dropped() {
		if d.Reason != DropNatPorts {
			t.Errorf("dropped %+v", d)
		}
	}
	b.forgetDrops()
	// With another far end all are free.
	b.leaves(b.port1, segment(mac1, addr1, outsider, 40000, 80, 64, syn), ap(outsider, 80))

	now, err := Now()
	b.must(err)
	if _, live, err := b.dp.SweepFlows(now+time.Hour, DefaultAges()); err != nil || live != 0 {
		t.Errorf("sweep left %d flows, %v", live, err)
	}
	b.wantCounts(b.port1, FlowCount{}, FlowCount{})
	clear(taken)
	if n := begin(b.port1, addr1, 100); n < 20 {
		t.Errorf("after all have ended, a port has %d", n)
	}
}

// TestNetNATAges: a flow and its answers live as long as either has packets.
func TestNetNATAges(t *testing.T) {
	b := newBench(t)
	b.putFabric()
	b.must(b.dp.PutSNAT(b.port1.IfIndex, fabricNet))
	frame := udpBetween(mac1, ap(addr1, 40000), ap(outsider, 53), 64)
	s := b.leaves(b.port1, frame, ap(outsider, 53))
	answer := udpBetween(nic, ap(outsider, 53), ap(localIP, s), 64)
	b.arrives(b.port1, answer, ap(outsider, 53), ap(addr1, 40000))
	later, err := Now()
	b.must(err)
	for _, dir := range []uint8{flowFromPort, flowFromTunnel} {
		later += 10 * time.Hour
		b.touchFlows(dir, later) // the other direction was long ago
		b.sweepAt(later, 2)
	}
	b.sweepAt(later+time.Hour, 0)
	// Half of one is none.
	b.leaves(b.port1, frame, ap(outsider, 53))
	for f, err := range b.dp.rawFlows() {
		b.must(err)
		if f.key.Dir == flowFromTunnel {
			b.must(b.dp.maps().FlowV3.Delete(f.key))
		}
	}
	b.sweepAt(later-20*time.Hour, 0)
}

// touchFlows makes the flows of a direction look as if they had a packet then.
func (b *bench) touchFlows(dir uint8, at time.Duration) {
	b.t.Helper()
	for f, err := range b.dp.rawFlows() {
		b.must(err)
		if f.key.Dir == dir {
			f.value.LastSeen = uint64(at)
			b.must(b.dp.maps().FlowV3.Put(f.key, f.value))
		}
	}
}

func (b *bench) sweepAt(now time.Duration, want int) {
	b.t.Helper()
	if _, live, err := b.dp.SweepFlows(now, DefaultAges()); err != nil || live != want {
		b.t.Errorf("sweep leaves %d flows, %v, want %d", live, err, want)
	}
}

// TestNetNATErrors: an error about what left reaches the port, and quotes what the
// port sent.
func TestNetNATErrors(t *testing.T) {
	b := newBench(t)
	b.putFabric()
	b.must(b.dp.PutSNAT(b.port1.IfIndex, fabricNet))
	router := netip.MustParseAddr("172.31.0.254")
	for name, sent := range map[string][]byte{
		"tcp":     segment(mac1, addr1, outsider, 40000, 443, 64, syn),
		"udp":     udpBetween(mac1, ap(addr1, 40001), ap(outsider, 53), 64),
		"icmp":    echoMessage(mac1, addr1, outsider, 8, 77),
		"service": segment(mac1, addr1, metadata.Addr(), 40002, 80, 64, syn),
	} {
		verdict, out := b.fromPort(b.port1, sent)
		wantVerdict(t, verdict, tcRedirect)
		quote := bytes.Clone(out[14:])
		message := serialize(ethernet(nic, RouterMAC()), ipv4(router, localIP, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: 1400}, gopacket.Payload(quote))
		b.must(b.dp.bump())
		verdict, out = b.fromWire(message)
		wantVerdict(t, verdict, tcRedirect)
		from := router
		if name == "service" {
			from = metadata.Addr()
		}
		b.wantInner(out, false, from, addr1)
		got, want := out[14+20+8:], sent[14:]
		// All but TTL and the sum of the header, which the router before had changed,
		// and the sums of what is behind it, which nobody looks at.
		if !bytes.Equal(got[12:24], want[12:24]) {
			t.Errorf("%s: the error quotes %x, and %x was sent", name, got[:28], want[:28])
		}
		if name == "icmp" && !bytes.Equal(got[20:28], want[20:28]) {
			t.Errorf("%s: the error quotes %x, and %x was sent", name, got[20:28], want[20:28])
		}
		// About nothing of ours it is the host's.
		quote[19]++
		message = serialize(ethernet(nic, RouterMAC()), ipv4(router, localIP, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: 1400}, gopacket.Payload(quote))
		verdict, _ = b.fromWire(message)
		wantVerdict(t, verdict, tcNext)
	}
}

// TestNetNATFragments: later fragments go where the first did, both ways.
func TestNetNATFragments(t *testing.T) {
	b := newBench(t)
	b.putFabric()
	b.must(b.dp.PutSNAT(b.port1.IfIndex, fabricNet))
	fragments := func(src, dst netip.AddrPort) (first, later []byte) {
		ip := ipv4(src.Addr(), dst.Addr(), layers.IPProtocolUDP)
		ip.Flags = layers.IPv4MoreFragments
		first = serialize(ethernet(mac1, RouterMAC()), ip, udp(ip, int(src.Port()), int(dst.Port())), payload)
		ip.Flags, ip.FragOffset = 0, 10
		return first, serialize(ethernet(mac1, RouterMAC()), ip, payload)
	}
	first, later := fragments(ap(addr1, 40000), ap(outsider, 53))
	verdict, _ := b.fromPort(b.port1, later)
	b.wantDrop(verdict, DropFragment, b.port1.IfIndex)
	verdict, out := b.fromPort(b.port1, first)
	wantVerdict(t, verdict, tcRedirect)
	s := uint16(out[34])<<8 | uint16(out[35])
	verdict, out = b.fromPort(b.port1, later)
	wantVerdict(t, verdict, tcRedirect)
	b.wantInner(out, false, localIP, outsider)
	first, later = fragments(ap(outsider, 53), ap(localIP, s))
	for _, frame := range [][]byte{first, later} {
		verdict, out := b.fromWire(frame)
		wantVerdict(t, verdict, tcRedirect)
		b.wantInner(out, false, outsider, addr1)
	}
}

// TestNetNATReserves: sockets of the node get none of the ports.
func TestNetNATReserves(t *testing.T) {
	b := newBench(t, func(c *Config) { c.NATPorts = NATPorts{40000, 40999} })
	if err := b.dp.NATProblem(); err != nil {
		t.Fatal(err)
	}
	b.ns.Must(func() error {
		for range 300 {
			c, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer c.Close()
			if port := c.LocalAddr().(*net.UDPAddr).Port; port >= 40000 && port <= 40999 {
				return fmt.Errorf("a socket has port %d", port)
			}
		}
		return nil
	})
	if !coversPorts("8080,40000-40999", 40000, 40999) || !coversPorts("1-10,5-20", 3, 20) || coversPorts("1-10,12-20", 3, 20) || coversPorts("", 1, 2) {
		t.Error("what is reserved is not read right")
	}
	for _, text := range []string{"", "1-2", "70000-70001", "62000-61000", "100-2000"} {
		if p, err := ParseNATPorts(text); err == nil {
			t.Errorf("%q is taken as %s", text, p)
		}
	}
}
