//go:build net

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// frrVTEP is FRR as an end of VXLAN networks: bgpd speaks EVPN, zebra tells the
// kernel of a bridge what it says and bgpd what the bridge sees, and the kernel
// forwards. A host is behind it.
type frrVTEP struct {
	*fabricRouter
	host    *nstest.NS
	vni     int
	address netip.Addr // of the host
	mac     string
}

// frrDirectory is where the daemons, which run as their own user, keep their
// sockets.
func frrDirectory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "frr-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	frr, err := user.Lookup("frr")
	if err != nil {
		t.Fatalf("the user of FRR (make setup installs it): %v", err)
	}
	uid, _ := strconv.Atoi(frr.Uid)
	gid, _ := strconv.Atoi(frr.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return dir
}

// vtep makes a bridge of a VXLAN network with a host, and FRR for it.
func (c *cluster) vtep(t *testing.T, n, vni int, host netip.Prefix, target string) *frrVTEP {
	t.Helper()
	v := &frrVTEP{fabricRouter: c.onFabric(t, "vtep", n), host: nstest.New(t, "host"), vni: vni, address: host.Addr()}
	v.dir = frrDirectory(t)
	v.ns.DisableIPv6()
	v.host.DisableIPv6()
	v.ns.Bridge("br0")
	device := strings.Fields(fmt.Sprintf("link add vx0 type vxlan id %d local %s dstport 4789 nolearning", vni, v.fabricRouter.address))
	if _, err := v.ns.Run("ip", device...); err != nil {
		t.Fatal(err)
	}
	v.ns.Enslave("vx0", "br0")
	nstest.Veth(t, v.host, "eth0", v.ns, "h0")
	v.ns.Enslave("h0", "br0")
	v.host.MTU("eth0", 1450)
	v.host.Up("eth0", host)
	v.mac = v.host.Link("eth0").Attrs().HardwareAddr.String()
	// The router's own address in the network is how it comes to know that of
	// the host.
	v.ns.Up("br0", netip.PrefixFrom(host.Addr().Next(), host.Bits()))

	v.speakEVPN(t, "", fmt.Sprintf(`
router bgp 64512
 bgp router-id %[1]s
 no bgp default ipv4-unicast
 neighbor 172.31.0.1 remote-as 64512
 neighbor 172.31.0.1 timers connect 1
 address-family l2vpn evpn
  neighbor 172.31.0.1 activate
  advertise-all-vni
  vni %[2]d
   rd %[1]s:%[2]d
   route-target import %[3]s
   route-target export %[3]s
  exit-vni
 exit-address-family
`, v.fabricRouter.address, vni, target))
	return v
}

// speakEVPN runs FRR's zebra and bgpd with these configurations. The latter alone is
// killed and started again.
func (r *fabricRouter) speakEVPN(t *testing.T, forZebra, forBGP string) {
	t.Helper()
	zebra, bgpd := r.write(t, "zebra.conf", forZebra), r.write(t, "bgpd.conf", forBGP)
	common := func(name, conf string) []string {
		return []string{
			"/usr/lib/frr/" + name, "-f", conf, "-z", filepath.Join(r.dir, "zserv.api"), "--vty_socket", r.dir, "-i", filepath.Join(r.dir, name+".pid"),
			"-A", "127.0.0.1", "-P", "0", "-u", "frr", "-g", "frr",
		}
	}
	(&fabricRouter{ns: r.ns, dir: r.dir, out: r.out}).launch(t, common("zebra", zebra)...)
	eventually(t, recovery, "zebra listens", func() error {
		_, err := os.Stat(filepath.Join(r.dir, "zserv.api"))
		return err
	})
	r.launch(t, append(common("bgpd", bgpd), "-p", "0")...)
}

// knows waits until the bridge of FRR sends to a MAC by VXLAN to a node.
func (v *frrVTEP) knows(t *testing.T, mac, node string) {
	t.Helper()
	eventually(t, recovery, "FRR knows "+mac, func() error {
		out, err := v.ns.Run("bridge", "fdb", "show", "dev", "vx0")
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, mac) && strings.Contains(line, "dst "+node) {
				return nil
			}
		}
		return fmt.Errorf("no %s at %s in: %s", mac, node, out)
	})
}

// macOf is that of the interface with an address, as its node has it.
func (c *cluster) macOf(t *testing.T, address string) string {
	t.Helper()
	var object struct {
		Interface struct {
			MACs struct {
				List []string `json:"mac_address"`
			} `json:"virtual_machine_interface_mac_addresses"`
		} `json:"virtual-machine-interface"`
	}
	c.api(t, "GET", "/virtual-machine-interface/"+c.interfaceOf(t, address), nil, &object)
	macs := object.Interface.MACs.List
	if len(macs) == 0 {
		t.Fatalf("the interface with the address %s has no MAC", address)
	}
	return macs[0]
}

// TestNetVTEP: FRR bridges a network of tasks to a host behind it, by EVPN and
// VXLAN. Task and host reach each other, whichever speaks first.
func TestNetVTEP(t *testing.T) {
	c := start(t)
	t.Cleanup(func() { c.clean(t) }) // the last, after the router is deleted
	c.post(t, app("/vtep/one", "stretched", 1, c.On(1)))
	c.post(t, app("/vtep/two", "stretched", 1, c.On(2)))
	c.post(t, app("/vtep/other", "apart", 1, c.On(1)))
	one, two, other := c.running(t, "/vtep/one", 1)[0], c.running(t, "/vtep/two", 1)[0], c.running(t, "/vtep/other", 1)[0]
	network := c.find(t, "virtual-network", "default-domain", "mesos-default", "stretched")
	var object struct {
		Network struct {
			Number int `json:"virtual_network_network_id"`
		} `json:"virtual-network"`
	}
	c.api(t, "GET", "/virtual-network/"+network, nil, &object)
	// Networks of tasks only route unless somebody says otherwise.
	c.api(t, "PUT", "/virtual-network/"+network, map[string]any{"virtual-network": map[string]any{
		"virtual_network_properties": map[string]any{"forwarding_mode": "l2_l3"},
		"route_target_list":          map[string]any{"route_target": []string{"target:64512:100"}},
	}}, nil)

	// The host has an address of the tasks' subnet that no task gets so soon.
	at := netip.MustParseAddr(one.Address()).As4()
	at[2], at[3] = at[2]|15, 200
	host := netip.AddrFrom4(at)
	frr := c.vtep(t, 3, object.Network.Number, netip.PrefixFrom(host, 20), "64512:100")
	c.router(t, "vtep", 64512, frr.fabricRouter.address, map[string]any{"address_families": map[string]any{"family": []string{"e-vpn"}}})
	c.session(t, "vtep")

	// FRR is told where the tasks are, and who wants the network's broadcasts.
	nodes := []string{"172.31.0.11", "172.31.0.12"}
	for i, task := range []task{one, two} {
		frr.knows(t, c.macOf(t, task.Address()), nodes[i])
		frr.knows(t, "00:00:00:00:00:00", nodes[i])
	}
	// The host speaks first: FRR learns its MAC from that, and its address by
	// asking. Nodes answer its questions for tasks from then on.
	eventually(t, recovery, "FRR learns the host", func() error {
		_, err := frr.ns.Run("ping", "-n", "-c", "1", "-W", "1", host.String())
		return err
	})
	for node := 1; node <= 2; node++ {
		c.wantRoute(t, node, host.String()+"/32", `"VXLAN"`, frr.fabricRouter.address.String(), fmt.Sprintf(`"vni":%d`, frr.vni), frr.mac, "applied")
	}
	for _, task := range []task{one, two} {
		if err := c.check(t, task, host.String(), "icmp", "10s"); err != nil {
			t.Errorf("the task does not reach the host: %v", err)
		}
		if out, err := frr.host.Run("ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", task.Address()); err != nil {
			t.Errorf("the host does not reach the task: %v: %s", err, out)
		}
		out, err := frr.host.Run("ip", "neigh", "show", task.Address())
		if mac := c.macOf(t, task.Address()); err != nil || !strings.Contains(out, mac) {
			t.Errorf("the host has %q for %s, %v, want %s", out, task.Address(), err, mac)
		}
	}
	// As big as the host's packets get.
	if out, err := frr.host.Run("ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", strconv.Itoa(1450-28), one.Address()); err != nil {
		t.Errorf("a packet of 1450 bytes does not pass: %v: %s", err, out)
	}
	if err := c.check(t, other, host.String(), "icmp", "500ms"); err == nil {
		t.Error("a task of another network reaches the host")
	}

	t.Run("layer 2", func(t *testing.T) { c.layer2(t, frr, network, one, two, other) })
	t.Run("nodes prefer VXLAN", func(t *testing.T) {
		vrouters := "/global-vrouter-config/" + c.find(t, "global-vrouter-config", "default-global-system-config", "default-global-vrouter-config")
		prefer := func(list ...string) {
			c.api(t, "PUT", vrouters, map[string]any{"global-vrouter-config": map[string]any{
				"encapsulation_priorities": map[string]any{"encapsulation": list},
			}}, nil)
		}
		t.Cleanup(func() { prefer("MPLSoUDP", "MPLSoGRE", "VXLAN") })
		for _, e := range []string{"VXLAN", "MPLSoGRE"} {
			prefer(e, "MPLSoUDP")
			for node, to := range map[int]task{1: two, 2: one} {
				c.wantRoute(t, node, to.Address()+"/32", fmt.Sprintf("%q", e), "applied")
			}
			c.reaches(t, one, two.Address())
		}
	})
	t.Run("the router ends", func(t *testing.T) {
		frr.kill()
		c.wantRoute(t, 1, host.String()+"/32")
		c.reaches(t, one, two.Address())
		frr.start(t)
		c.wantRoute(t, 1, host.String()+"/32", `"VXLAN"`, "applied")
		if err := c.check(t, one, host.String(), "icmp", "10s"); err != nil {
			t.Errorf("the task does not reach the host again: %v", err)
		}
	})
	c.api(t, "PUT", "/virtual-network/"+network, map[string]any{"virtual-network": map[string]any{"route_target_list": nil}}, nil)
	c.wantRoute(t, 1, host.String()+"/32")
	for _, id := range []string{"/vtep/one", "/vtep/two", "/vtep/other"} {
		c.destroy(t, id)
	}
	c.forget(t, "stretched")
}
