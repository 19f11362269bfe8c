//go:build net

package dataplane

import (
	"net/netip"
	"testing"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// TestNetPrefixBehindPort: a port sends from what the routes lead to it, and
// gets it, and nothing else.
func TestNetPrefixBehindPort(t *testing.T) {
	b := newBench(t)
	route := RouteKey{VRF: vrf, Prefix: netip.MustParsePrefix("192.0.2.0/24")}
	elsewhere := RouteKey{VRF: vrf, Prefix: netip.MustParsePrefix("192.0.2.128/25")}
	behind, beyond := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.200")
	fromWire := func(dst netip.Addr, label uint32) []byte {
		return tunnelled(remoteIP, localIP, label, 50000, udpFrame(mac1, farAddr, dst))
	}
	verdict, _ := b.fromPort(b.port1, udpFrame(mac1, behind, farAddr))
	b.wantDrop(verdict, DropSourceAddress, b.port1.IfIndex)
	verdict, _ = b.fromWire(fromWire(behind, label1))
	b.wantDrop(verdict, DropDestinationAddress, b.port1.IfIndex)

	b.must(b.dp.PutRoutes(map[RouteKey]NextHop{
		route:     {Kind: Local, Label: label1, Behind: true},
		elsewhere: {Kind: Tunnel, Remote: remoteIP, Label: farLabel},
	}))
	for range 2 { // the first packet decides, the second finds the flow
		verdict, _ = b.fromPort(b.port1, udpFrame(mac1, behind, farAddr))
		wantVerdict(t, verdict, tcRedirect)
		verdict, _ = b.fromWire(fromWire(behind, label1))
		wantVerdict(t, verdict, tcRedirect)
		verdict, _ = b.fromPort(b.port2, udpFrame(mac2, addr2, behind))
		wantVerdict(t, verdict, tcRedirect)
	}
	for _, refused := range []struct {
		name   string
		port   Port
		src    netip.Addr
		reason DropReason
	}{
		{"a neighbour of what is behind the other port", b.port2, behind, DropSourceAddress},
		{"what a longer prefix leads elsewhere", b.port1, beyond, DropSourceAddress},
		{"an address of another port", b.port1, addr2, DropSourceAddress},
	} {
		t.Run(refused.name, func(t *testing.T) {
			verdict, _ := b.fromPort(refused.port, udpFrame(refused.port.MAC, refused.src, farAddr))
			b.wantDrop(verdict, refused.reason, refused.port.IfIndex)
		})
	}
	verdict, _ = b.fromWire(fromWire(beyond, label1))
	b.wantDrop(verdict, DropDestinationAddress, b.port1.IfIndex)
	verdict, _ = b.fromWire(fromWire(behind, label2))
	b.wantDrop(verdict, DropDestinationAddress, b.port2.IfIndex)

	// With the route, what was decided by it goes.
	b.must(b.dp.DeleteRoute(route))
	verdict, _ = b.fromPort(b.port1, udpFrame(mac1, behind, farAddr))
	b.wantDrop(verdict, DropSourceAddress, b.port1.IfIndex)
	verdict, _ = b.fromWire(fromWire(behind, label1))
	b.wantDrop(verdict, DropDestinationAddress, b.port1.IfIndex)
}

// TestNetContainerRoutes: a container routes for a host behind it, to which
// containers here and on another node get, and which gets to them.
func TestNetContainerRoutes(t *testing.T) {
	c := newCluster(t, 2)
	router, here, far := c.container(0, 1, "10.1.0.1"), c.container(0, 1, "10.1.0.2"), c.container(1, 1, "10.1.0.3")
	c.connect()
	host := nstest.New(t, "behind")
	nstest.Veth(t, host, "eth0", router.NS, "eth1")
	behind, gateway := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.1")
	host.Up("eth0", netip.PrefixFrom(behind, 24))
	router.Up("eth1", netip.PrefixFrom(gateway, 24))
	run := func(ns *nstest.NS, command ...string) {
		t.Helper()
		if out, err := ns.Run(command[0], command[1:]...); err != nil {
			t.Fatalf("%v: %v: %s", command, err, out)
		}
	}
	run(host, "ip", "route", "add", "10.0.0.0/8", "via", gateway.String())
	run(router.NS, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	// It has an address there itself, from which it asks by ARP when it answers.
	run(router.NS, "ip", "address", "add", "192.0.2.2/32", "dev", "lo")
	for _, k := range []*container{here, far} {
		run(k.NS, "ip", "route", "add", "192.0.2.0/24", "dev", "eth0")
	}
	to := RouteKey{VRF: 1, Prefix: netip.MustParsePrefix("192.0.2.0/24")}
	for _, k := range []*container{here, far} {
		if err := k.refused(behind); err != nil {
			t.Error(err)
		}
	}
	for _, n := range c.nodes {
		hop := router.nextHop(n)
		hop.Behind = hop.Kind == Local
		if err := n.dp.PutRoute(to, hop); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []*container{here, far} {
		if err := k.ping(behind); err != nil {
			t.Errorf("%s to the host behind the router: %v", k.Name(), err)
		}
		run(router.NS, "ip", "neigh", "flush", "dev", "eth0")
		if err := k.ping(netip.MustParseAddr("192.0.2.2")); err != nil {
			t.Errorf("%s to the router's address in the prefix: %v", k.Name(), err)
		}
		run(host, "ping", "-n", "-c", "1", "-W", "2", k.addr.String())
	}
	// The host takes an address that is not behind the router.
	run(host, "ip", "addr", "add", "198.51.100.9/32", "dev", "eth0")
	if out, err := host.Run("ping", "-n", "-c", "1", "-W", "0.2", "-I", "198.51.100.9", far.addr.String()); err == nil {
		t.Errorf("a false source gets through: %s", out)
	}
	c.nodes[0].waitDrops(t, Drop{Reason: DropSourceAddress, IfIndex: router.port.IfIndex, Packets: 1})
	if t.Failed() {
		c.dump()
	}
}
