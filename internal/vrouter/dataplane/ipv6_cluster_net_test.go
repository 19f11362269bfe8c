//go:build net

package dataplane

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dual starts a container with addresses of both families, and returns it by its
// IPv4 and by its IPv6 address.
func (c *cluster) dual(node int, vrf uint32, v4, v6 string) (by4, by6 *container) {
	c.t.Helper()
	by4 = c.container(node, vrf, v4, v6)
	by6 = &container{NS: by4.NS, cluster: c, node: by4.node, addr: netip.MustParseAddr(v6)}
	by6.configure6("eth0")
	by4.port.Gateways = []netip.Addr{gateway6}
	by6.port = by4.port
	c.all = append(c.all, by6)
	by6.node.Must(func() error { return by6.node.dp.PutPort(by6.port) })
	return by4, by6
}

// configure6 gives the container its IPv6 address and the way out, as the plugin
// does.
func (k *container) configure6(device string) {
	k.cluster.t.Helper()
	k.Must(func() error {
		var errs []error
		for _, setting := range []string{"all/accept_dad 0", device + "/accept_dad 0", device + "/accept_ra 0", "all/disable_ipv6 0", device + "/disable_ipv6 0"} {
			name, value, _ := strings.Cut(setting, " ")
			errs = append(errs, os.WriteFile("/proc/sys/net/ipv6/conf/"+name, []byte(value), 0))
		}
		return errors.Join(errs...)
	})
	for _, args := range []string{
		"addr replace " + k.addr.String() + "/64 dev " + device + " nodad",
		"route replace default via " + gateway6.String() + " dev " + device + " onlink",
	} {
		if out, err := k.Run("ip", append([]string{"-6"}, strings.Fields(args)...)...); err != nil {
			k.cluster.t.Fatalf("ip -6 %s in %s: %v: %s", args, k.Name(), err, out)
		}
	}
	// The kernel takes packets to the address a moment after it has it.
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		out, err := k.Run("ip", "-6", "route", "show", "table", "local", k.addr.String())
		if err == nil && len(out) > 0 {
			return
		}
		if time.Now().After(deadline) {
			k.cluster.t.Fatalf("%s has no local route to %s: %v: %s", k.Name(), k.addr, err, out)
		}
	}
}

// Containers reach each other over IPv6 on one node and through each tunnel, with
// super-packets and without.
func TestNetContainersReachEachOtherByIPv6(t *testing.T) {
	for _, offload := range []string{"on", "off"} {
		for _, e := range []Encapsulation{MPLSoUDP, MPLSoGRE, VXLAN} {
			t.Run(fmt.Sprintf("%s, segmentation %s", e, offload), func(t *testing.T) {
				c := newCluster(t, 2)
				c.encapsulation = e
				a4, a := c.dual(0, 1, "10.32.0.3", "2001:db8::3")
				_, near := c.dual(0, 1, "10.32.0.4", "2001:db8::4")
				far4, far := c.dual(1, 1, "10.32.0.5", "2001:db8::5")
				_, red := c.dual(1, 2, "10.48.0.3", "2001:db8::9")
				c.connect()
				for _, n := range c.nodes {
					for _, feature := range []string{"tx-udp_tnl-segmentation", "tx-gre-segmentation", "tx"} {
						if out, err := n.Run("ethtool", "-K", "eth0", feature, offload); err != nil {
							t.Fatalf("ethtool %s: %v: %s", feature, err, out)
						}
					}
				}
				near.serve(t)
				far.serve(t)
				far4.serve(t)
				for name, to := range map[string]netip.Addr{"same node": near.addr, "cross node": far.addr} {
					for check, err := range map[string]error{
						"ping":               a.ping(to),
						"tcp":                a.tcp(to, 100),
						"tcp bulk":           a.tcp(to, 8<<20),
						"udp":                a.udp(to, 100),
						"udp of one packet":  a.udp(to, 1500-c.overhead()-48),
						"udp of fragments":   a.udp(to, 8000),
						"udp of the largest": a.udp(to, 65000),
					} {
						if err != nil {
							t.Errorf("%s, %s: %v", name, check, err)
						}
					}
				}
				for _, err := range []error{
					a.ping(gateway6), // the router itself
					a4.tcp(far4.addr, 1<<20),
					a.refused(red.addr), red.refused(a.addr), a.refused(netip.MustParseAddr("2001:db8::99")),
				} {
					if err != nil {
						t.Error(err)
					}
				}
				if t.Failed() {
					c.dump()
				}
			})
		}
	}
}

// A container that takes the underlay's MTU for its own learns better.
func TestNetPathMTUOfIPv6(t *testing.T) {
	c := newCluster(t, 2)
	_, a := c.dual(0, 1, "10.32.0.3", "2001:db8::3")
	_, far := c.dual(1, 1, "10.32.0.5", "2001:db8::5")
	a.MTU("eth0", 1500)
	far.MTU("eth0", 1500)
	for _, n := range c.nodes {
		for _, k := range c.all {
			if k.node == n {
				n.MTU(k.port.Name, 1500)
			}
		}
	}
	c.connect()
	far.serve(t)
	if err := a.tcp(far.addr, 8<<20); err != nil {
		t.Error(err)
	}
	// A datagram that was too big fits when it is sent again.
	conn, err := a.dialUDP(far.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent, got := make([]byte, 1440), make([]byte, 2000)
	rand.Read(sent)
	deadline := time.Now().Add(patience)
	for {
		conn.Write(sent)
		conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := conn.Read(got)
		if err == nil && bytes.Equal(got[:n], sent) {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("no datagram of %d bytes comes back: %v", len(sent), err)
			break
		}
	}
	out, err := a.Run("ip", "-6", "route", "get", far.addr.String())
	if err != nil || !strings.Contains(out, "mtu 1468") {
		t.Errorf("route is %q, %v, want an MTU of 1468", out, err)
	}
	if t.Failed() {
		c.dump()
	}
}

// UDP super-packets reach a receiver with UDP_GRO whole.
func TestNetUDPSegmentationOfIPv6(t *testing.T) {
	c := newCluster(t, 2)
	_, a := c.dual(0, 1, "10.32.0.3", "2001:db8::3")
	_, same := c.dual(0, 1, "10.32.0.4", "2001:db8::4")
	_, far := c.dual(1, 1, "10.32.0.5", "2001:db8::5")
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
	}
}

// A container that routes sends into the overlay what came out of it.
func TestNetContainerForwardsIPv6(t *testing.T) {
	for _, e := range []struct{ in, out Encapsulation }{{MPLSoUDP, MPLSoUDP}, {MPLSoGRE, MPLSoGRE}, {MPLSoUDP, VXLAN}} {
		t.Run(fmt.Sprintf("%s to %s", e.in, e.out), func(t *testing.T) {
			c := newCluster(t, 2)
			c.encapsulation = e.out
			_, a := c.dual(0, 1, "10.32.0.3", "2001:db8:1::3")
			_, far := c.dual(0, 2, "10.33.0.3", "2001:db8:2::3")
			_, router := c.dual(1, 3, "10.34.0.3", "2001:db8:3::3")
			router.port.Addresses = append(router.port.Addresses, a.addr, far.addr)
			router.node.Must(func() error { return router.node.dp.PutPort(router.port) })
			far.serve(t)
			one, two := c.nodes[0], c.nodes[1]
			via := NextHop{Kind: Tunnel, Remote: two.config.LocalIP, Encapsulation: e.in, Label: router.port.Label}
			if err := errors.Join(
				one.dp.PutRoutes(map[RouteKey]NextHop{
					host(1, far.addr): via, host(1, a.addr): a.nextHop(one),
					host(2, a.addr): via, host(2, far.addr): far.nextHop(one),
				}),
				two.dp.PutRoutes(map[RouteKey]NextHop{host(3, a.addr): a.nextHop(two), host(3, far.addr): far.nextHop(two)}),
			); err != nil {
				t.Fatal(err)
			}
			if out, err := router.Run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"); err != nil {
				t.Fatalf("set forwarding: %v: %s", err, out)
			}
			router.configure6("eth0") // forwarding takes the default route away
			for name, err := range map[string]error{
				"ping": a.ping(far.addr), "tcp": a.tcp(far.addr, 8<<20), "udp of fragments": a.udp(far.addr, 8000),
			} {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if t.Failed() {
				c.dump()
			}
		})
	}
}
