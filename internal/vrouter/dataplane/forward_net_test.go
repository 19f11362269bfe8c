//go:build net

package dataplane

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

func TestNetContainersReachEachOther(t *testing.T) {
	c := newCluster(t, 2)
	a := c.container(0, 1, "10.32.0.3")
	b := c.container(0, 1, "10.32.0.4")
	far := c.container(1, 1, "10.32.0.5")
	red := c.container(1, 2, "10.48.0.3")
	c.connect()
	far.serve(t)
	b.serve(t)
	red.serve(t)
	wire := sniff(t, c.fabric, "n1")

	for name, to := range map[string]netip.Addr{"same node": b.addr, "cross node": far.addr} {
		checks := map[string]error{
			"ping":               a.ping(to),
			"tcp":                a.tcp(to, 100),
			"tcp bulk":           a.tcp(to, 32<<20),
			"udp":                a.udp(to, 100),
			"udp of one packet":  a.udp(to, 1500-overhead-28),
			"udp of fragments":   a.udp(to, 8000),
			"udp of the largest": a.udp(to, 65507),
		}
		for check, err := range checks {
			if err != nil {
				t.Errorf("%s, %s: %v", name, check, err)
			}
		}
	}
	for _, err := range []error{
		a.refused(red.addr), red.refused(a.addr), a.refused(netip.MustParseAddr("172.31.0.11")),
		a.refused(netip.MustParseAddr("172.31.0.12")), a.refused(netip.MustParseAddr("10.32.0.99")),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	err := wire.find(func(p gopacket.Packet) bool {
		ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		outer, isUDP := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || !isUDP || outer.DstPort != 6635 || outer.Checksum != 0 || outer.SrcPort < 49152 ||
			!ip.SrcIP.Equal(net.IP(c.nodes[0].config.LocalIP.AsSlice())) || len(outer.Payload) < 24 {
			return false
		}
		entry := binary.BigEndian.Uint32(outer.Payload)
		inner := gopacket.NewPacket(outer.Payload[4:], layers.LayerTypeIPv4, gopacket.Default)
		in, ok := inner.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		return ok && entry == far.port.Label<<12|1<<8|64 && in.DstIP.Equal(far.addr.AsSlice()) && in.TTL == 63
	})
	if err != nil {
		t.Errorf("no MPLSoUDP packet for label %d on the wire: %v", far.port.Label, err)
	}
	if t.Failed() {
		c.dump()
	}
}

func TestNetOverlappingAddresses(t *testing.T) {
	c := newCluster(t, 2)
	type pair struct{ here, there *container }
	var pairs []pair
	for vrf := uint32(1); vrf <= 2; vrf++ {
		p := pair{c.container(0, vrf, "10.32.0.3"), c.container(1, vrf, "10.32.0.4")}
		p.there.serve(t)
		pairs = append(pairs, p)
	}
	c.connect()
	for i, p := range pairs {
		if err := errors.Join(p.here.ping(p.there.addr), p.here.tcp(p.there.addr, 1<<20)); err != nil {
			t.Errorf("network %d: %v", i+1, err)
		}
	}
	// Each reached its own: take one away and only its peer notices.
	c.nodes[1].Must(func() error { return c.nodes[1].dp.DeletePort(pairs[0].there.port.IfIndex) })
	if err := errors.Join(pairs[0].here.refused(pairs[0].there.addr), pairs[1].here.ping(pairs[1].there.addr)); err != nil {
		t.Error(err)
		c.dump()
	}
}

func TestNetSpoofedPacketsAreDropped(t *testing.T) {
	c := newCluster(t, 2)
	a := c.container(0, 1, "10.32.0.3")
	b := c.container(1, 1, "10.32.0.4")
	c.connect()
	if err := a.ping(b.addr); err != nil {
		t.Fatal(err)
	}
	own := a.port.MAC
	runt := append(udpFrame(own, a.addr, b.addr)[:14], 0x45, 0)
	if err := a.inject(
		udpFrame(own, netip.MustParseAddr("10.32.0.66"), b.addr),
		udpFrame(own, b.addr, b.addr),
		udpFrame(MAC{2, 6, 6, 6, 6, 6}, a.addr, b.addr),
		runt,
	); err != nil {
		t.Fatal(err)
	}
	at := a.port.IfIndex
	c.nodes[0].waitDrops(t,
		Drop{Reason: DropSourceAddress, IfIndex: at, Packets: 2},
		Drop{Reason: DropSourceMAC, IfIndex: at, Packets: 1},
		Drop{Reason: DropMalformed, IfIndex: at, Packets: 1})

	// Somebody on the underlay who knows the label gets nothing in.
	c.fabric.Up("br0", netip.MustParsePrefix("172.31.0.66/24"))
	inner := udpFrame(own, a.addr, b.addr)[14:]
	packet := append(binary.BigEndian.AppendUint32(nil, b.port.Label<<12|1<<8|64), inner...)
	c.fabric.Must(func() error {
		conn, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: c.nodes[1].config.LocalIP.AsSlice(), Port: 6635})
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(packet)
		return err
	})
	c.nodes[1].waitDrops(t, Drop{Reason: DropTunnelSource, IfIndex: b.port.IfIndex, Packets: 1})
}

// A container that routes (a service instance) sends into the overlay what came
// out of it: the kernel refuses to encapsulate that twice unless it is asked in
// another way. It may leave by another encapsulation than it came by.
func TestNetContainerForwards(t *testing.T) {
	for _, e := range []struct{ in, out Encapsulation }{
		{MPLSoUDP, MPLSoUDP}, {MPLSoGRE, MPLSoGRE}, {MPLSoUDP, MPLSoGRE}, {MPLSoUDP, VXLAN}, {MPLSoGRE, VXLAN},
	} {
		t.Run(fmt.Sprintf("%s to %s", e.in, e.out), func(t *testing.T) {
			c := newCluster(t, 2)
			c.encapsulation = e.out
			a := c.container(0, 1, "10.32.0.3")
			far := c.container(0, 2, "10.33.0.3")
			router := c.container(1, 3, "10.34.0.3", "10.32.0.3", "10.33.0.3")
			far.serve(t)
			one, two := c.nodes[0], c.nodes[1]
			via := NextHop{Kind: Tunnel, Remote: two.config.LocalIP, Encapsulation: e.in, Label: router.port.Label}
			for _, err := range []error{
				one.dp.PutRoutes(map[RouteKey]NextHop{
					host(1, far.addr): via, host(1, a.addr): a.nextHop(one),
					host(2, a.addr): via, host(2, far.addr): far.nextHop(one),
				}),
				two.dp.PutRoutes(map[RouteKey]NextHop{host(3, a.addr): a.nextHop(two), host(3, far.addr): far.nextHop(two)}),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			router.forwards(a, far)
			if e.in == MPLSoGRE && e.out != MPLSoGRE { // see the package comment
				if out, err := one.Run("ethtool", "-K", "eth0", "tx-gre-segmentation", "off"); err != nil {
					t.Fatal(err, out)
				}
			}
			if err := errors.Join(a.ping(far.addr), a.tcp(far.addr, 16<<20), a.udp(far.addr, 8000)); err != nil {
				t.Error(err)
				c.dump()
			}
		})
	}
}

// forwards makes the container a router between two others. The addresses of
// both are its own as far as its port goes, so that it may send from them: it
// asks for the gateway's MAC, not for theirs.
func (k *container) forwards(others ...*container) {
	for _, to := range others {
		k.Route("eth0", netip.PrefixFrom(to.addr, 32), netip.MustParseAddr("10.34.0.1"))
	}
	k.Must(func() error {
		for name, value := range map[string]string{
			"ip_forward": "1", "conf/all/send_redirects": "0", "conf/eth0/send_redirects": "0", "conf/all/rp_filter": "0",
		} {
			if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// UDP super-packets (UDP_SEGMENT) keep whole over a veth underlay; see the
// package comment for receivers without UDP_GRO on another node.
func TestNetUDPSegmentation(t *testing.T) {
	c := newCluster(t, 2)
	a := c.container(0, 1, "10.32.0.3")
	same := c.container(0, 1, "10.32.0.4")
	far := c.container(1, 1, "10.32.0.5")
	c.connect()
	const segment, segments = 1200, 10
	for _, to := range []*container{same, far} {
		var server *net.UDPConn
		to.Must(func() (err error) {
			server, err = net.ListenUDP("udp", &net.UDPAddr{IP: to.addr.AsSlice(), Port: 7})
			return err
		})
		defer server.Close()
		conn, err := a.dialUDP(to.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if to == far {
			setUDP(t, server, unix.UDP_GRO, 1)
		}
		setUDP(t, conn, unix.UDP_SEGMENT, segment)
		sent := make([]byte, segment*segments)
		rand.Read(sent)
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		server.SetReadDeadline(time.Now().Add(patience))
		var got []byte
		for buf := make([]byte, 65536); len(got) < len(sent); {
			n, err := server.Read(buf)
			if err != nil {
				t.Errorf("%s: %d of %d bytes arrive: %v", to.Name(), len(got), len(sent), err)
				c.dump()
				break
			}
			got = append(got, buf[:n]...)
		}
		if !bytes.Equal(got, sent) {
			t.Errorf("%s: what arrives differs", to.Name())
		}
		counters, err := a.node.dp.Counters(a.port.IfIndex)
		if err != nil || counters.FromPackets%segments != 0 {
			t.Errorf("sender's counters are %+v, %v, want all segments", counters, err)
		}
	}
}

func setUDP(t *testing.T, conn *net.UDPConn, option, value int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err == nil {
		err = errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, option, value)
		}), err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestNetNothingIsLeftAfterRemove(t *testing.T) {
	c := newCluster(t, 2)
	a := c.container(0, 1, "10.32.0.3")
	b := c.container(1, 1, "10.32.0.4")
	c.connect()
	if err := a.ping(b.addr); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		n.Must(n.dp.Remove)
		if err := n.dp.Close(); err != nil {
			t.Error(err)
		}
		out, err := n.Run("bpftool", "net", "show")
		if err != nil {
			t.Error(err)
		}
		for _, program := range []string{"vif_rx", "underlay_rx"} {
			if strings.Contains(out, program) {
				t.Errorf("%s still runs in %s: %s", program, n.Name(), out)
			}
		}
	}
	left, err := filepath.Glob(filepath.Join(c.bpffs, "node-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("pins are left: %v, %v", left, err)
	}
	if err := a.refused(b.addr); err != nil {
		t.Error(err)
	}
}
