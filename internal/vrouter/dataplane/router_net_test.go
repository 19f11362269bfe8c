//go:build net

package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// outerRouter is a router of another vendor that knows networks by EVPN: it routes
// between a host and a VXLAN, and the MAC of a node is the next hop of all that is on
// that node.
type outerRouter struct {
	*nstest.NS
	host *nstest.NS
	addr netip.Addr
	mac  MAC
	ip   netip.Addr // of the host
}

// nodeMAC is that of a node as routers know it.
func (n *testNode) nodeMAC() string {
	a := n.config.LocalIP.As4()
	return net.HardwareAddr{0x0e, 0, a[0], a[1], a[2], a[3]}.String()
}

func (c *cluster) router(vni uint32) *outerRouter {
	t := c.t
	t.Helper()
	r := &outerRouter{
		NS: nstest.New(t, "router"), host: nstest.New(t, "host"),
		addr: netip.AddrFrom4([4]byte{172, 31, 0, 100}), ip: netip.MustParseAddr("192.168.9.2"),
	}
	r.DisableIPv6()
	r.host.DisableIPv6()
	nstest.Veth(t, r.NS, "eth0", c.fabric, "r0")
	c.fabric.Enslave("r0", "br0")
	r.Up("eth0", netip.PrefixFrom(r.addr, 24))
	r.Bridge("br0")
	r.run("ip", "link", "add", "vx0", "type", "vxlan", "id", fmt.Sprint(vni), "local", r.addr.String(), "dstport", "4789", "nolearning")
	r.Enslave("vx0", "br0")
	r.MTU("br0", 1450)
	r.run("sysctl", "-q", "net.ipv4.ip_forward=1")
	r.mac = MAC(r.Link("br0").Attrs().HardwareAddr)
	nstest.Veth(t, r.host, "eth0", r.NS, "h0")
	r.Up("h0", netip.MustParsePrefix("192.168.9.1/24"))
	r.host.MTU("eth0", 1450)
	r.host.Up("eth0", netip.PrefixFrom(r.ip, 24))
	r.host.Route("eth0", netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("192.168.9.1"))
	return r
}

func (r *outerRouter) run(command ...string) {
	if out, err := r.Run(command[0], command[1:]...); err != nil {
		panic(fmt.Sprint(command, out, err))
	}
}

// learn is what EVPN tells the router of a container.
func (r *outerRouter) learn(k *container) {
	at, mac := k.node.config.LocalIP.String(), k.node.nodeMAC()
	r.run("bridge", "fdb", "replace", mac, "dev", "vx0", "dst", at)
	r.run("ip", "neigh", "replace", at, "dev", "br0", "lladdr", mac, "nud", "permanent")
	r.run("ip", "route", "replace", k.addr.String()+"/32", "via", at, "dev", "br0", "onlink")
}

// A logical router with a VNI: what comes by it is for ports of all its networks,
// and of no others, whichever end speaks first.
func TestNetRouterOutside(t *testing.T) {
	const routerVNI, routerVRF = 7000, 1<<29 | 7000
	c := newCluster(t, 2)
	c.encapsulation = VXLAN
	a, b, far := c.container(0, 1, "10.32.0.3"), c.container(0, 2, "10.33.0.3"), c.container(1, 1, "10.32.0.5")
	other := c.container(0, 3, "10.34.0.3")
	c.connect()
	r := c.router(routerVNI)
	back := NextHop{Kind: Tunnel, Remote: r.addr, Encapsulation: VXLAN, VNI: routerVNI, MAC: r.mac}
	outside := netip.MustParsePrefix("192.168.9.0/24")
	for _, n := range c.nodes {
		routes := map[RouteKey]NextHop{}
		for _, k := range []*container{a, b, far} {
			routes[RouteKey{k.port.VRF, outside}] = back
			routes[host(routerVRF, k.addr)] = k.nextHop(n)
		}
		routes[RouteKey{other.port.VRF, outside}] = back
		if err := errors.Join(n.dp.PutRoutes(routes), n.dp.PutVNI(routerVNI, routerVRF)); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []*container{a, b, far, other} {
		r.learn(k)
		k.Route("eth0", netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.0.0.1"))
	}
	hostEnd := &container{NS: r.host, cluster: c}
	for _, k := range []*container{a, b, far} {
		k.serve(t)
		if k != b { // whose first packet is the host's
			if err := k.ping(r.ip); err != nil {
				t.Errorf("%s to the host: %v", k.addr, err)
			}
		}
		if err := errors.Join(hostEnd.ping(k.addr), hostEnd.tcp(k.addr, 4<<20), hostEnd.udp(k.addr, 8000)); err != nil {
			t.Errorf("the host to %s: %v", k.addr, err)
		}
		if err := k.ping(r.ip); err != nil {
			t.Errorf("%s to the host: %v", k.addr, err)
		}
	}
	// What the router does not connect is not reached by its VNI.
	if err := hostEnd.refused(other.addr); err != nil {
		t.Error(err)
	}
	// Whoever takes another node's MAC is not heard.
	r.run("bridge", "fdb", "replace", far.node.nodeMAC(), "dev", "vx0", "dst", a.node.config.LocalIP.String())
	r.run("ip", "route", "replace", a.addr.String()+"/32", "via", far.node.config.LocalIP.String(), "dev", "br0", "onlink")
	if err := hostEnd.refused(a.addr); err != nil {
		t.Error(err)
	}
	drops, err := a.node.dp.Drops()
	if text := fmt.Sprint(drops); err != nil || !strings.Contains(text, "destination-mac") || !strings.Contains(text, "destination-address") {
		t.Errorf("drops %s, %v", text, err)
	}
	if t.Failed() {
		c.dump()
	}
}
