//go:build net

package dataplane

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/vrouter/prober"
)

var (
	probeOwn   = prober.Own.Addr()
	probeAlias = netip.MustParseAddr("169.254.0.2")
	asker      = netip.MustParseAddr("10.32.0.2")
)

func tcpFrame(from, to MAC, src, dst netip.Addr, sport, dport int, answers bool) []byte {
	ip := ipv4(src, dst, layers.IPProtocolTCP)
	l := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), SYN: true, ACK: answers, Window: 1000}
	l.SetNetworkLayerForChecksum(ip)
	return serialize(ethernet(from, to), ip, l)
}

func echoFrame(from, to MAC, src, dst netip.Addr, id uint16, answers bool) []byte {
	typ := layers.ICMPv4TypeEchoRequest
	if answers {
		typ = layers.ICMPv4TypeEchoReply
	}
	l := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(uint8(typ), 0), Id: id, Seq: 1}
	return serialize(ethernet(from, to), ipv4(src, dst, layers.IPProtocolICMPv4), l, payload)
}

// TestNetProbeProgram: what the prober sends to an alias goes to the port as if
// from its network, and the exact answer comes back; nothing else does.
func TestNetProbeProgram(t *testing.T) {
	b := newBench(t)
	device := b.ns.Dummy("contrail-probe").Attrs().Index
	inner := MAC{2, 0, 0, 0, 9, 9}
	b.must(b.dp.PutProbe(probeAlias, Probe{IfIndex: b.port1.IfIndex, Address: addr1, Source: asker}))
	// A way out for everything does not lead probes' answers there.
	b.must(b.dp.PutRoute(RouteKey{vrf, netip.MustParsePrefix("0.0.0.0/0")}, NextHop{Kind: Tunnel, Remote: remoteIP, Label: farLabel}))
	probe := func(frame []byte) (uint32, []byte) {
		t.Helper()
		return b.run(b.dp.objects.ProbeRx, device, frame)
	}
	elsewhere := func(what string, p Port, frame []byte) {
		t.Helper()
		verdict, out := b.fromPort(p, frame)
		if verdict == tcDrop {
			b.forgetDrops()
			return
		}
		if ip, ok := gopacket.NewPacket(out[14:], layers.LayerTypeIPv4, gopacket.Default).NetworkLayer().(*layers.IPv4); ok && ip.DstIP.Equal(net.IP(probeOwn.AsSlice())) {
			t.Errorf("%s gets to the prober", what)
		}
	}
	for name, test := range map[string]struct{ ask, answer, other []byte }{
		"tcp": {
			tcpFrame(inner, inner, probeOwn, probeAlias, 40000, 80, false), tcpFrame(mac1, RouterMAC(), addr1, asker, 80, 40000, true),
			tcpFrame(mac1, RouterMAC(), addr1, asker, 80, 40001, true),
		},
		"icmp": {
			echoFrame(inner, inner, probeOwn, probeAlias, 7, false), echoFrame(mac1, RouterMAC(), addr1, asker, 7, true),
			echoFrame(mac1, RouterMAC(), addr1, asker, 8, true),
		},
	} {
		elsewhere(name+" before it was asked", b.port1, test.other)
		verdict, out := probe(test.ask)
		wantVerdict(t, verdict, tcRedirect)
		b.wantInner(out, false, asker, addr1)
		if got := MAC(out[:6]); got != mac1 {
			t.Errorf("%s: it goes to %s", name, got)
		}
		for range 2 {
			verdict, out = b.fromPort(b.port1, test.answer)
			wantVerdict(t, verdict, tcRedirect)
			b.wantInner(out, false, probeAlias, probeOwn)
			if got := MAC(out[:6]); got != inner {
				t.Errorf("%s: the answer goes to %s", name, got)
			}
		}
		elsewhere(name+" that answers nothing", b.port1, test.other)
	}
	elsewhere("a request", b.port1, echoFrame(mac1, RouterMAC(), addr1, asker, 7, false))
	elsewhere("udp", b.port1, udpFrame(mac1, addr1, asker))
	elsewhere("another address of the port", b.port1, tcpFrame(mac1, RouterMAC(), addr1b, asker, 80, 40000, true))
	elsewhere("another port", b.port2, tcpFrame(mac2, RouterMAC(), addr2, asker, 80, 40000, true))
	verdict, _ := b.fromPort(b.port2, tcpFrame(mac2, RouterMAC(), addr1, asker, 80, 40000, true))
	b.wantDrop(verdict, DropSourceAddress, b.port2.IfIndex)

	ask := tcpFrame(inner, inner, probeOwn, probeAlias, 40000, 80, false)
	verdict, _ = probe(tcpFrame(inner, inner, probeOwn, netip.MustParseAddr("169.254.0.3"), 40000, 80, false))
	b.wantDrop(verdict, DropNoPort, device)
	verdict, _ = probe(udpFrame(inner, probeOwn, probeAlias))
	b.wantDrop(verdict, DropProtocol, device)
	blocked := b.port1
	blocked.Blocked = true
	b.putPort(blocked)
	verdict, _ = probe(ask)
	b.wantDrop(verdict, DropBlocked, b.port1.IfIndex)
	b.putPort(b.port1)
	// The port has another address now, which is not asked.
	b.must(b.dp.PutProbe(probeAlias, Probe{IfIndex: b.port1.IfIndex, Address: addr2, Source: asker}))
	verdict, _ = probe(ask)
	b.wantDrop(verdict, DropDestinationAddress, b.port1.IfIndex)

	all, err := b.dp.Probes()
	b.must(err)
	if want := (Probe{IfIndex: b.port1.IfIndex, Address: addr2, Source: asker}); len(all) != 1 || all[probeAlias] != want {
		t.Errorf("probes are %v", all)
	}
	b.must(errors.Join(b.dp.DeleteProbe(probeAlias), b.dp.DeleteProbe(probeAlias)))
	elsewhere("an answer to what is gone", b.port1, tcpFrame(mac1, RouterMAC(), addr1, asker, 80, 40000, true))
}

// TestNetProber: a prober reaches two ports that have the same address, each
// over its own device, and only them.
func TestNetProber(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	blue := c.container(0, 1, "10.32.0.3")
	red := c.container(0, 2, "10.32.0.3")
	blue.serve(t)
	var p *prober.Net
	n.Must(func() (err error) {
		if p, err = prober.Open(); err != nil {
			return err
		}
		return errors.Join(n.dp.AttachProber(p.Index), p.Up())
	})
	closed := false
	t.Cleanup(func() {
		if !closed {
			p.Close()
		}
	})
	aliases := map[*container]netip.Addr{blue: probeAlias, red: probeAlias.Next()}
	for k, alias := range aliases {
		if err := n.dp.PutProbe(alias, Probe{IfIndex: k.port.IfIndex, Address: k.addr, Source: asker}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for k, alias := range aliases {
		if err := p.Ping(ctx, alias); err != nil {
			t.Errorf("%s: %v", k.Name(), err)
		}
	}
	conn, err := p.Dial(ctx, netip.AddrPortFrom(aliases[blue], 7))
	if err != nil {
		c.dump()
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	sent := make([]byte, 4<<20)
	go func() {
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	if got, err := io.ReadAll(conn); err != nil || len(got) != len(sent) {
		t.Errorf("%d bytes came back: %v", len(got), err)
	}
	conn.Close()
	if _, err := p.Dial(ctx, netip.AddrPortFrom(aliases[red], 7)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("where nothing listens: %v", err)
	}
	short, end := context.WithTimeout(ctx, 50*time.Millisecond)
	defer end()
	if err := p.Ping(short, netip.MustParseAddr("169.254.7.7")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("where nobody is: %v", err)
	}
	if _, err := p.Dial(short, netip.MustParseAddrPort("169.254.7.7:80")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("where nobody is: %v", err)
	}
	// What a container begins gets nowhere.
	if err := blue.refused(asker); err != nil {
		t.Error(err)
	}
	if err := red.Do(func() error {
		_, err := net.DialTimeout("tcp", "10.32.0.2:40000", 200*time.Millisecond)
		return err
	}); err == nil {
		t.Error("a container connects to the prober")
	}
	// A second one takes the place of the first; with the last the device goes.
	var second *prober.Net
	n.Must(func() (err error) {
		if second, err = prober.Open(); err != nil {
			return err
		}
		return errors.Join(n.dp.AttachProber(second.Index), second.Up())
	})
	p.Close()
	closed = true
	if err := p.Ping(ctx, aliases[blue]); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a prober that is closed: %v", err)
	}
	if err := second.Ping(ctx, aliases[blue]); err != nil {
		t.Error(err)
	}
	second.Close()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		var gone netlink.LinkNotFoundError
		if _, err := n.Links.LinkByName(prober.Device); errors.As(err, &gone) {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the device of the prober is left: %v", err)
		}
	}
}
