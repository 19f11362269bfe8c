//go:build net

package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Something of everything, on two nodes and with few loads of the programs: what
// test/kernel runs on another kernel, where each load takes seconds.
func TestNetSmoke(t *testing.T) {
	c := newCluster(t, 2)
	c.encapsulation = VXLAN // the containers' MTU is that of the largest overhead
	a, a6 := c.dual(0, 1, "10.32.0.3", "2001:db8::3")
	near, near6 := c.dual(0, 1, "10.32.0.4", "2001:db8::4")
	far, far6 := c.dual(1, 1, "10.32.0.5", "2001:db8::5")
	red, red6 := c.dual(1, 2, "10.48.0.3", "2001:db8::9")
	for _, k := range []*container{near, near6, far, far6, red, red6} {
		k.serve(t)
	}
	step := func(name string, f func(t *testing.T)) {
		if !t.Run(name, f) {
			c.dump()
		}
	}
	check := func(t *testing.T, what string, errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}

	for _, e := range []Encapsulation{MPLSoUDP, MPLSoGRE, VXLAN} {
		c.encapsulation = e
		c.connect()
		step(e.String(), func(t *testing.T) {
			wire := sniff(t, c.fabric, "n1")
			check(t, "to the other node", a.ping(far.addr), a.udp(far.addr, 1450-28), a.udp(far.addr, 8000))
			check(t, "by IPv6", a6.ping(far6.addr), a6.udp(far6.addr, 1450-48), a6.udp(far6.addr, 8000))
			v4, err := timed(func() error { return a.tcp(far.addr, 4<<20) })
			v6, err6 := timed(func() error { return a6.tcp(far6.addr, 4<<20) })
			check(t, "bulk", err, err6)
			// TCP goes on without its super-packets, at a crawl.
			if v6 > 5*v4+5*time.Second {
				t.Errorf("4 MB took %s by IPv6, and %s by IPv4: something is lost", v6, v4)
			}
			check(t, "back", far.ping(a.addr), far6.ping(a6.addr))
			if err := wire.find(func(p gopacket.Packet) bool { return isTunnelled(p, e) }); err != nil {
				t.Errorf("no %s packet on the wire: %v", e, err)
			}
		})
	}
	step("one node", func(t *testing.T) {
		check(t, "to the neighbour", a.ping(near.addr), a.tcp(near.addr, 2<<20), a.udp(near.addr, 8000),
			a6.ping(near6.addr), a6.tcp(near6.addr, 2<<20), a6.udp(near6.addr, 8000))
	})
	step("refusals", func(t *testing.T) {
		check(t, "other networks and the nodes", a.refused(red.addr), red.refused(a.addr), a6.refused(red6.addr),
			a.refused(netip.MustParseAddr("10.32.0.99")), a.refused(c.nodes[1].config.LocalIP))
		check(t, "spoofing", a.inject(udpFrame(a.port.MAC, netip.MustParseAddr("10.32.0.66"), far.addr),
			udpFrame(MAC{2, 6, 6, 6, 6, 6}, a.addr, far.addr)))
		c.nodes[0].waitDrops(t,
			Drop{Reason: DropSourceAddress, IfIndex: a.port.IfIndex, Packets: 1},
			Drop{Reason: DropSourceMAC, IfIndex: a.port.IfIndex, Packets: 1})
	})
	step("policy", func(t *testing.T) {
		conn, err := a.dialTCP(far.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		policy := openTo(far.port)[far.port.IfIndex]
		echo := someSet("echo", allow(1, 0, anyone, anyone))
		policy.Sets[Arriving] = echo.ID
		put := func(p Policy, sets map[SetID]*Set) {
			t.Helper()
			check(t, "put policy", c.nodes[1].dp.PutPolicies(map[int]Policy{far.port.IfIndex: p}, sets))
		}
		put(policy, map[SetID]*Set{echo.ID: echo})
		check(t, "what is allowed", a.ping(far.addr))
		conn.Write([]byte("established before it was denied"))
		c.nodes[1].waitDropOf(t, DropPolicyGroup, far.port.IfIndex)
		put(openTo(far.port)[far.port.IfIndex], nil)
		check(t, "allowed again", a.tcp(far.addr, 1<<10))
	})
	step("killed agent", func(t *testing.T) {
		n := c.nodes[1]
		check(t, "close", n.dp.Close())
		s := startStream(t, a, far.addr)
		program := n.underlayProgram(t)
		n.startAgent(t)() // it has taken over, and is killed
		if next := n.underlayProgram(t); next == program {
			t.Errorf("the underlay still has program %d, not that of the agent after it", program)
		}
		check(t, "while no agent runs", a.ping(far.addr), a.tcp(far.addr, 1<<20), a6.tcp(far6.addr, 1<<20), a.refused(red.addr))
		n.open(t)
		if total, lost := s.end(t); lost != 0 {
			t.Errorf("%d of %d packets are lost", lost, total)
		}
		if ports, err := n.dp.Ports(); err != nil || len(ports) != 2 {
			t.Errorf("the next agent finds ports %v, %v, want both", ports, err)
		}
		check(t, "by the next agent", far.tcp(near.addr, 1<<20))
	})
	step("end", func(t *testing.T) {
		n := c.nodes[1]
		n.Must(n.dp.Remove)
		for _, device := range []string{"eth0", far.port.Name} {
			qdiscs, err := n.Links.QdiscList(n.Link(device))
			for _, q := range qdiscs {
				if q.Type() == "clsact" {
					err = errors.Join(err, fmt.Errorf("qdisc clsact is left"))
				}
			}
			check(t, device, err)
		}
		check(t, "afterwards", a.refused(far.addr))
	})
}

func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

// isTunnelled says whether a packet of the wire is one of the encapsulation.
func isTunnelled(p gopacket.Packet, e Encapsulation) bool {
	if gre, ok := p.Layer(layers.LayerTypeGRE).(*layers.GRE); ok {
		return e == MPLSoGRE && gre.Protocol == layers.EthernetTypeMPLSUnicast
	}
	outer, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok || len(outer.Payload) < 8 {
		return false
	}
	switch outer.DstPort {
	case 6635:
		return e == MPLSoUDP
	case 4789:
		return e == VXLAN && binary.BigEndian.Uint32(outer.Payload[4:])>>8 == vniOf(1)
	}
	return false
}
