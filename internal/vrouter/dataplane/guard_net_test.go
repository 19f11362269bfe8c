//go:build net

package dataplane

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// TestNetForgedTunnelFromHost: a task in the node's own network namespace sends what
// other nodes would take for a tunnel's packet of a container on its node. None
// leaves, by whichever encapsulation, from a plain socket or a raw one; what is
// no tunnel's does, and containers reach each other.
func TestNetForgedTunnelFromHost(t *testing.T) {
	hooks(t, func(t *testing.T, withoutTCX bool) {
		c := newCluster(t, 2, func(c *Config) { c.withoutTCX = withoutTCX })
		friend, victim := c.container(0, 2, "10.48.0.3"), c.container(1, 2, "10.48.0.4")
		c.connect()
		victim.serve(t)
		seen := sniff(t, victim.NS, "eth0")
		node := c.nodes[0]
		one, two := node.config.LocalIP, c.nodes[1].config.LocalIP
		ip := ipv4(friend.addr, victim.addr, layers.IPProtocolUDP)
		inner := serialize(ethernet(friend.port.MAC, RouterMAC()), ip, udp(ip, 1000, 53), gopacket.Payload("forged"))
		wrapped := map[string][]byte{
			"MPLS over UDP": tunnelled(one, two, victim.port.Label, 50000, inner),
			"MPLS over GRE": byGRE(one, two, victim.port.Label, inner),
			"VXLAN":         byVXLAN(one, two, vniOf(2), 50000, between(friend.port.MAC, victim.port.MAC, inner)),
		}
		for name, frame := range wrapped {
			if err := sendRaw(node.NS, two, frame[14:]); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		// From a socket that needs no privilege: ports and headers as above.
		for port, payload := range map[uint16][]byte{6635: wrapped["MPLS over UDP"][14+28:], 4789: wrapped["VXLAN"][14+28:]} {
			if err := sendUDP(node.NS, netip.AddrPortFrom(two, port), payload); err != nil {
				t.Errorf("UDP to port %d: %v", port, err)
			}
		}
		node.waitDrops(t, Drop{Reason: DropForgedTunnel, IfIndex: node.Link("eth0").Attrs().Index, Packets: 5})
		c.nodes[1].waitDrops(t)

		if err := friend.ping(victim.addr); err != nil {
			t.Error(err)
		}
		if err := friend.tcp(victim.addr, 1<<20); err != nil {
			t.Error(err)
		}
		if err := seen.find(func(p gopacket.Packet) bool {
			if bytes.Contains(p.Data(), []byte("forged")) {
				t.Errorf("the victim gets a forged packet: %x", p.Data())
			}
			return p.Layer(layers.LayerTypeTCP) != nil
		}); err != nil {
			t.Errorf("the victim does not get an honest packet: %v", err)
		}
		on := sniff(t, c.nodes[1].NS, "eth0")
		if err := sendUDP(node.NS, netip.AddrPortFrom(two, 6636), []byte("not a tunnel")); err != nil {
			t.Error(err)
		}
		if err := on.find(func(p gopacket.Packet) bool { return bytes.Contains(p.Data(), []byte("not a tunnel")) }); err != nil {
			t.Errorf("what is no tunnel's packet does not leave: %v", err)
		}
	})
}

// sendRaw sends a packet of IPv4 as it is.
func sendRaw(ns *nstest.NS, to netip.Addr, packet []byte) error {
	return ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: to.As4()})
	})
}

func sendUDP(ns *nstest.NS, to netip.AddrPort, payload []byte) error {
	return ns.Do(func() error {
		conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(payload)
		return err
	})
}
