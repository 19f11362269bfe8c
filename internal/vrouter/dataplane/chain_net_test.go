//go:build net

package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// Forwarding tables of the chain: those of the networks blue and red, and those
// between its services, of what leaves the first on its right and the second on
// its left.
const (
	blue uint32 = iota + 1
	red
	onRight
	onLeft
)

// service is a container with an interface in blue, on its left, and one in
// red, and forwards between them.
type service struct {
	left, right *container
}

// service starts one whose interfaces have tables of their own where these are
// not 0.
func (c *cluster) service(node, number int, left, right uint32) *service {
	c.t.Helper()
	s := &service{left: c.container(node, blue, fmt.Sprintf("10.0.0.%d", number))}
	s.right = &container{NS: s.left.NS, cluster: c, node: s.left.node, addr: netip.MustParseAddr(fmt.Sprintf("20.0.0.%d", number))}
	tap := fmt.Sprintf("right%d", number)
	nstest.Veth(c.t, s.right.NS, "eth1", s.right.node.NS, tap)
	s.right.Up("eth1", netip.PrefixFrom(s.right.addr, 8))
	s.right.port = Port{
		IfIndex: s.right.node.Link(tap).Attrs().Index, Name: tap, VRF: right, Label: uint32(2000 + number),
		MAC: MAC(s.right.Link("eth1").Attrs().HardwareAddr), Addresses: []netip.Addr{s.right.addr},
	}
	s.left.port.VRF = left
	for _, k := range []*container{s.left, s.right} {
		k.node.Must(func() error {
			return errors.Join(k.node.dp.PutPort(k.port), k.node.dp.PutPolicies(openTo(k.port), nil))
		})
	}
	s.forward(true)
	return s
}

// forward has the service forward what it gets, or not.
func (s *service) forward(on bool) {
	value := 0
	if on {
		value = 1
	}
	if out, err := s.left.Run("sysctl", "-qw", fmt.Sprintf("net.ipv4.ip_forward=%d", value)); err != nil {
		s.left.cluster.t.Fatalf("set forwarding: %v: %s", err, out)
	}
}

// chained gives all nodes the routes that a control node tells of a chain: to
// red through the left of the first service, from there through the left of
// the second, and back the same way.
func (c *cluster) chained(first, second *service, client, server *container) {
	c.t.Helper()
	toBlue, toRed := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("20.0.0.0/8")
	for _, n := range c.nodes {
		through := func(k *container) NextHop {
			hop := k.nextHop(n)
			hop.Behind = hop.Kind == Local
			return hop
		}
		routes := map[RouteKey]NextHop{
			host(blue, client.addr):        client.nextHop(n),
			host(red, server.addr):         server.nextHop(n),
			{VRF: blue, Prefix: toRed}:     through(first.left),
			{VRF: onRight, Prefix: toRed}:  through(second.left),
			{VRF: onLeft, Prefix: toRed}:   through(second.left),
			{VRF: red, Prefix: toBlue}:     through(second.right),
			{VRF: onLeft, Prefix: toBlue}:  through(first.right),
			{VRF: onRight, Prefix: toBlue}: through(first.right),
		}
		if first == second {
			routes[RouteKey{VRF: red, Prefix: toBlue}] = through(first.right)
		}
		if err := n.dp.PutRoutes(routes); err != nil {
			c.t.Fatal(err)
		}
	}
}

// TestNetServiceChain: traffic between two networks goes through the services of
// a chain, there and back, wherever these are, and no other way.
func TestNetServiceChain(t *testing.T) {
	for name, at := range map[string][4]int{ // client, first and second service, server
		"on four nodes":  {0, 1, 2, 3},
		"on one node":    {0, 0, 0, 0},
		"the ends apart": {0, 1, 1, 2},
	} {
		for _, services := range []int{1, 2} {
			t.Run(fmt.Sprintf("%d %s", services, name), func(t *testing.T) {
				c := newCluster(t, 4)
				client, server := c.container(at[0], blue, "10.0.0.1"), c.container(at[3], red, "20.0.0.1")
				for k, prefix := range map[*container]string{client: "20.0.0.0/8", server: "10.0.0.0/8"} {
					if out, err := k.Run("ip", "route", "add", prefix, "dev", "eth0"); err != nil {
						t.Fatalf("route: %v: %s", err, out)
					}
				}
				chain := []*service{c.service(at[1], 10, blue, red)}
				if services == 2 {
					chain = []*service{c.service(at[1], 11, blue, onRight), c.service(at[2], 12, onLeft, red)}
				}
				first, second := chain[0], chain[len(chain)-1]
				if err := client.refused(server.addr); err != nil {
					t.Error(err)
				}
				c.chained(first, second, client, server)
				for _, way := range [][2]*container{{client, server}, {server, client}} {
					if err := way[0].ping(way[1].addr); err != nil {
						t.Errorf("%s through the services: %v", way[0].Name(), err)
					}
				}
				for _, s := range chain {
					s.forward(false)
					if err := client.refused(server.addr); err != nil {
						t.Errorf("past a service: %v", err)
					}
					s.forward(true)
				}
				if t.Failed() {
					c.dump()
				}
			})
		}
	}
}
