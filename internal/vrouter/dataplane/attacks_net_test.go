//go:build net

package dataplane

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// TestNetForgedTunnelFromContainer: a container that knows the labels and the VNI
// of another network, and the addresses of the nodes, wraps packets as a node
// does. To the router they are packets of its own network like any others: for the
// address of a node there is no route, and what a neighbour gets is not unwrapped.
func TestNetForgedTunnelFromContainer(t *testing.T) {
	c := newCluster(t, 2)
	attacker, neighbour := c.container(0, 1, "10.32.0.3"), c.container(1, 1, "10.32.0.4")
	// Tenants may use the addresses of the fabric: it is another network.
	namesake := c.container(1, 1, "172.31.0.12")
	friend, victim := c.container(0, 2, "10.48.0.3"), c.container(1, 2, "10.48.0.4")
	c.connect()
	seen := sniff(t, victim.NS, "eth0")
	one, two := c.nodes[0].config.LocalIP, c.nodes[1].config.LocalIP
	marker := func(text string) []byte {
		ip := ipv4(friend.addr, victim.addr, layers.IPProtocolUDP)
		return serialize(ethernet(friend.port.MAC, RouterMAC()), ip, udp(ip, 1000, 53), gopacket.Payload(text))
	}
	var frames [][]byte
	for _, way := range []struct{ src, dst netip.Addr }{
		{attacker.addr, one}, {one, two}, {attacker.addr, neighbour.addr}, {attacker.addr, namesake.addr},
	} {
		for _, f := range [][]byte{
			tunnelled(way.src, way.dst, victim.port.Label, 50000, marker("forged")),
			byGRE(way.src, way.dst, victim.port.Label, marker("forged")),
			byVXLAN(way.src, way.dst, vniOf(2), 50000, between(friend.port.MAC, victim.port.MAC, marker("forged"))),
		} {
			frames = append(frames, between(attacker.port.MAC, RouterMAC(), f))
		}
	}
	gets := map[*container]*sniffer{neighbour: sniff(t, neighbour.NS, "eth0"), namesake: sniff(t, namesake.NS, "eth0")}
	if err := attacker.inject(frames...); err != nil {
		t.Fatal(err)
	}
	at := attacker.port.IfIndex
	c.nodes[0].waitDrops(t,
		Drop{Reason: DropNoRoute, IfIndex: at, Packets: 3},
		Drop{Reason: DropSourceAddress, IfIndex: at, Packets: 3})
	for k, s := range gets {
		count := 0
		if err := s.find(func(p gopacket.Packet) bool {
			if bytes.Contains(p.Data(), []byte("forged")) && bytes.Contains(p.Data(), k.addr.AsSlice()) {
				count++
			}
			return count == 3
		}); err != nil {
			t.Errorf("%s gets %d of 3 packets that are for it: %v", k.Name(), count, err)
		}
	}
	if err := friend.inject(marker("honest")); err != nil {
		t.Fatal(err)
	}
	if err := seen.find(func(p gopacket.Packet) bool {
		if bytes.Contains(p.Data(), []byte("forged")) {
			t.Errorf("the victim gets a forged packet: %x", p.Data())
		}
		return bytes.Contains(p.Data(), []byte("honest"))
	}); err != nil {
		t.Errorf("the victim does not get an honest packet: %v", err)
	}
}

// TestNetLabelOfAnotherNow: the label of a port that is gone comes to be that of a
// port of another network, with the same address. Who has not heard of it yet goes
// on sending, by flows that were established; nothing of that gets there.
func TestNetLabelOfAnotherNow(t *testing.T) {
	const vrf2 = vrf + 1
	next := Port{VRF: vrf2, Label: label1, MAC: mac2, Addresses: []netip.Addr{addr1}}
	inner := udpFrame(mac1, farAddr, addr1)
	ways := map[string][]byte{
		"MPLS over UDP": tunnelled(remoteIP, localIP, label1, 50000, inner),
		"MPLS over GRE": byGRE(remoteIP, localIP, label1, inner),
		"VXLAN":         byVXLAN(remoteIP, localIP, vniOf(vrf), 50000, between(mac2, mac1, inner)),
	}
	for name, frame := range ways {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.must(b.dp.PutVNI(vniOf(vrf), vrf))
			for range 2 {
				verdict, _ := b.fromWire(frame)
				wantVerdict(t, verdict, tcRedirect)
			}
			b.ns.Must(func() error { return b.dp.DeletePort(b.port1.IfIndex) })
			now := next
			now.IfIndex, now.Name = b.ns.Dummy("tap3").Attrs().Index, "tap3"
			b.putPort(now)
			b.must(b.dp.PutRoute(host(vrf2, addr1), NextHop{Kind: Local, Label: label1}))
			refused := func(byLabel DropReason) {
				t.Helper()
				reason, at := byLabel, now.IfIndex
				if name == "VXLAN" { // the route of its network leads to a port of another
					reason = DropDestinationAddress
				}
				verdict, _ := b.fromWire(frame)
				b.wantDrop(verdict, reason, at)
			}
			refused(DropNoSourceRoute)
			// The new network has the sender's address, too, on another node.
			b.must(b.dp.PutRoute(host(vrf2, farAddr), NextHop{Kind: Tunnel, Remote: otherIP, Label: farLabel}))
			refused(DropTunnelSource)
			if f := b.flows(); len(f) != 0 {
				t.Errorf("flows are %+v, want none", f)
			}
		})
	}
}

// TestNetFloodLeavesOthersAlone: a container begins connections as fast as it can,
// to everybody it may. Established flows of another tenant on the same nodes lose
// nothing, and it begins new ones.
func TestNetFloodLeavesOthersAlone(t *testing.T) {
	c := newCluster(t, 2)
	attacker, drain := c.container(0, 1, "10.32.0.3"), c.container(1, 1, "10.32.0.4")
	other, peer := c.container(0, 2, "10.48.0.3"), c.container(1, 2, "10.48.0.4")
	c.connect()
	peer.serve(t)
	traffic := nstest.StartTraffic(t, nstest.Traffic{From: other.NS, To: peer.NS, Address: peer.addr, Port: 9, Flows: 16, Rate: 2000})
	batch, more := 0, 20
	for ; batch < 200 && more > 0; batch++ {
		frames := make([][]byte, 0, 500)
		for i := range cap(frames) {
			n := batch*cap(frames) + i
			ip := ipv4(attacker.addr, drain.addr, layers.IPProtocolTCP)
			syn := &layers.TCP{SrcPort: layers.TCPPort(1 + n%60000), DstPort: layers.TCPPort(1 + n/60000), SYN: true, Window: 1000}
			syn.SetNetworkLayerForChecksum(ip)
			frames = append(frames, serialize(ethernet(attacker.port.MAC, RouterMAC()), ip, syn))
		}
		if err := attacker.inject(frames...); err != nil {
			t.Fatal(err)
		}
		if own, _, err := c.nodes[0].dp.PortFlowCount(attacker.port.IfIndex); err != nil {
			t.Fatal(err)
		} else if own.Flows >= 8192/16 {
			more--
		}
		if more == 10 {
			if err := other.tcp(peer.addr, 10_000); err != nil {
				t.Errorf("amid the flood: %v", err)
			}
		}
	}
	tally := traffic.Stop(t)
	t.Logf("%d packets of others, %d lost and %d answers, amid %d of a flood; queues of this machine refused %d",
		tally.Sent, tally.Lost, tally.AnswersLost, batch*500, tally.Refused)
	if tally.Lost+tally.AnswersLost > tally.Refused {
		t.Errorf("%d packets and %d answers of others are lost", tally.Lost, tally.AnswersLost)
		c.dump()
	}
	attacker.node.waitDropOf(t, DropFlowQuota, attacker.port.IfIndex)
}

// TestNetFloodOfRefusals: what a container has refused is told no faster than it
// may, so that its neighbours' refusals are told, too.
func TestNetFloodOfRefusals(t *testing.T) {
	b := newBench(t, withEvents)
	next := b.events()
	closed := someSet("refuses everything")
	for _, p := range []Port{b.port1, b.port2} {
		policy := Policy{Identity: NewIdentity(vrf, nil, nil)}
		policy.Sets[NetworkPolicy] = closed.ID
		b.putPolicy(p, policy, closed)
	}
	for n := range 2000 {
		b.send(b.port1, farAddr, 1+n)
	}
	verdict, _ := b.fromPort(b.port2, udpFrame(mac2, addr2, farAddr))
	wantVerdict(t, verdict, tcDrop)
	for told := 0; ; told++ {
		if e := next(); e.IfIndex == b.port2.IfIndex {
			break
		} else if told > 1500 {
			t.Fatal("all that is told is of the port that floods")
		}
	}
	if noRoom, _, err := b.dp.FlowEventsLost(); err != nil || noRoom != 0 {
		t.Errorf("%d events had no room, %v", noRoom, err)
	}
}

// TestNetFloodOfQuestions: ARP is answered where it is asked, however much another
// asks.
func TestNetFloodOfQuestions(t *testing.T) {
	c := newCluster(t, 1)
	attacker, other := c.container(0, 1, "10.32.0.3"), c.container(0, 2, "10.48.0.3")
	question := serialize(
		&layers.Ethernet{SrcMAC: hw(attacker.port.MAC), DstMAC: hw(MAC{255, 255, 255, 255, 255, 255}), EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: attacker.port.MAC[:], SourceProtAddress: attacker.addr.AsSlice(), DstHwAddress: make([]byte, 6), DstProtAddress: []byte{10, 32, 0, 1},
		})
	flood := make([][]byte, 2000)
	for i := range flood {
		flood[i] = question
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if err := attacker.inject(flood...); err != nil {
				ended <- err
				return
			}
		}
	}()
	for n := range 5 {
		asked := fmt.Sprintf("10.48.1.%d", n+1)
		_, _ = other.Run("ping", "-c", "1", "-W", "1", asked) // nobody is there, behind the router
		if got, err := other.Run("ip", "neigh", "show", asked); err != nil || !strings.Contains(got, RouterMAC().String()) {
			t.Errorf("amid questions of others the router's MAC is %q, %v", got, err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
