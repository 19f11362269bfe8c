//go:build net

package e2e

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// frrGateway is FRR as a router of a VXLAN that it does not bridge to anybody: with a
// VNI for routes (L3VNI), a MAC of its own as a router, and a host on another link.
type frrGateway struct {
	*fabricRouter
	host *nstest.NS
	at   netip.Addr // of the host
	mac  string     // of the router
}

func (c *cluster) gateway(t *testing.T, n, vni int, target string) *frrGateway {
	t.Helper()
	g := &frrGateway{fabricRouter: c.onFabric(t, "gateway", n), host: nstest.New(t, "host"), at: netip.MustParseAddr("192.168.9.2")}
	g.dir = frrDirectory(t)
	g.ns.DisableIPv6()
	g.host.DisableIPv6()
	g.ns.Bridge("br0")
	for _, command := range []string{
		fmt.Sprintf("ip link add vx0 type vxlan id %d local %s dstport 4789 nolearning", vni, g.address),
		"sysctl -q net.ipv4.ip_forward=1",
	} {
		words := strings.Fields(command)
		if out, err := g.ns.Run(words[0], words[1:]...); err != nil {
			t.Fatal(out, err)
		}
	}
	g.ns.Enslave("vx0", "br0")
	g.ns.MTU("br0", 1450)
	g.mac = g.ns.Link("br0").Attrs().HardwareAddr.String()
	nstest.Veth(t, g.host, "eth0", g.ns, "h0")
	g.host.MTU("eth0", 1450)
	g.ns.Up("h0", netip.MustParsePrefix("192.168.9.1/24"))
	g.host.Up("eth0", netip.PrefixFrom(g.at, 24))
	g.host.Route("eth0", netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("192.168.9.1"))
	g.speakEVPN(t, fmt.Sprintf("vni %d\n", vni), fmt.Sprintf(`
router bgp 64512
 bgp router-id %[1]s
 no bgp default ipv4-unicast
 no bgp network import-check
 neighbor 172.31.0.1 remote-as 64512
 neighbor 172.31.0.1 timers connect 1
 address-family ipv4 unicast
  network 192.168.9.0/24
 exit-address-family
 address-family l2vpn evpn
  neighbor 172.31.0.1 activate
  advertise-all-vni
  advertise ipv4 unicast
  route-target import %[2]s
  route-target export %[2]s
 exit-address-family
`, g.address, target))
	return g
}

// knows waits until the kernel of the router sends to a task by VXLAN to a node.
func (g *frrGateway) knows(t *testing.T, of task, node string) {
	t.Helper()
	eventually(t, recovery, "FRR has a route to "+of.Address(), func() error {
		out, err := g.ns.Run("ip", "route", "get", of.Address())
		if err == nil && !strings.Contains(out, "via "+node+" dev br0") {
			err = fmt.Errorf("no way by %s: %s", node, out)
		}
		return err
	})
}

// TestNetRouterOutside: FRR routes between networks of tasks that a logical router
// connects and a host, by prefixes of EVPN and the VXLAN of the logical router: tasks
// of both networks and of one node, and the host, reach each other.
func TestNetRouterOutside(t *testing.T) {
	const vni = 7000
	c := ruled(t, "front", "back")
	one, same := c.inNetwork(t, "/outside/one", "front", 1), c.inNetwork(t, "/outside/same", "front", 1)
	two := c.inNetwork(t, "/outside/two", "back", 2)
	beside := c.inNetwork(t, "/outside/beside", "back", 1)
	third := c.inNetwork(t, "/outside/third", "third", 1)
	project := "/project/" + c.find(t, "project", "default-domain", policyProject)
	c.api(t, "PUT", project, map[string]any{"project": map[string]any{"vxlan_routing": true}}, nil)
	router := c.object(t, "logical-router", "all", map[string]any{
		"vxlan_network_identifier": strconv.Itoa(vni), "configured_route_target_list": map[string]any{"route_target": []string{"target:64512:200"}},
	})
	for _, name := range []string{"front", "back"} {
		c.refer(t, "virtual-network", c.find(t, "virtual-network", "default-domain", policyProject, name), "logical-router", router, nil)
	}
	frr := c.gateway(t, 4, vni, "64512:200")
	c.router(t, "gateway", 64512, frr.address, map[string]any{"address_families": map[string]any{"family": []string{"e-vpn"}}})
	c.session(t, "gateway")

	nodes := map[string]string{one.ID: "172.31.0.11", same.ID: "172.31.0.11", two.ID: "172.31.0.12", beside.ID: "172.31.0.11"}
	for node := 1; node <= 2; node++ {
		c.wantRoute(t, node, "192.168.9.0/24", `"VXLAN"`, frr.address.String(), fmt.Sprintf(`"vni":%d`, vni), frr.mac, "applied")
	}
	for i, task := range []task{one, same, two, beside} {
		frr.knows(t, task, nodes[task.ID])
		fromHost := func() {
			if out, err := frr.host.Run("ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", task.Address()); err != nil {
				t.Errorf("the host does not reach %s: %v: %s", task.ID, err, out)
			}
		}
		if i%2 == 0 {
			fromHost()
		}
		if err := c.check(t, task, frr.at.String(), "icmp", "10s"); err != nil {
			t.Errorf("%s does not reach the host: %v", task.ID, err)
		}
		fromHost()
		// As big as packets get.
		if out, err := frr.host.Run("ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", strconv.Itoa(1450-28), task.Address()); err != nil {
			t.Errorf("a packet of 1450 bytes does not reach %s: %v: %s", task.ID, err, out)
		}
	}
	if err := c.check(t, third, frr.at.String(), "icmp", "500ms"); err == nil {
		t.Error("a task of a network that the logical router does not connect reaches the host")
	}
	t.Run("the router ends", func(t *testing.T) {
		frr.kill()
		c.wantRoute(t, 1, "192.168.9.0/24")
		c.reaches(t, one, two.Address())
		frr.start(t)
		c.wantRoute(t, 1, "192.168.9.0/24", `"VXLAN"`, "applied")
		frr.knows(t, one, nodes[one.ID])
		if err := c.check(t, one, frr.at.String(), "icmp", "10s"); err != nil {
			t.Errorf("the task does not reach the host again: %v", err)
		}
	})
	t.Run("by the VNI of each network", func(t *testing.T) {
		c.api(t, "PUT", "/logical-router/"+router, map[string]any{"logical-router": map[string]any{"vxlan_network_identifier": ""}}, nil)
		t.Cleanup(func() {
			c.api(t, "PUT", "/logical-router/"+router, map[string]any{"logical-router": map[string]any{"vxlan_network_identifier": strconv.Itoa(vni)}}, nil)
		})
		// Nodes take nothing by a VNI that nobody has.
		eventually(t, recovery, "the host reaches no task", func() error {
			if _, err := frr.host.Run("ping", "-n", "-c", "1", "-W", "0.2", one.Address()); err == nil {
				return fmt.Errorf("it reaches %s", one.Address())
			}
			return nil
		})
	})
	eventually(t, recovery, "the host reaches tasks again", func() error {
		_, err := frr.host.Run("ping", "-n", "-c", "1", "-W", "1", one.Address())
		return err
	})
}
