//go:build net

package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// decoded is what tcpdump makes of the first packets that match.
func decoded(t *testing.T, ns *nstest.NS, device, filter string, packets int, during func() error) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out strings.Builder
	cmd := exec.CommandContext(ctx, "tcpdump", "-i", device, "-n", "-vv", "-l", "-c", fmt.Sprint(packets), filter)
	cmd.Stdout = &out
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	ns.Must(func() error { return ns.Start(cmd) })
	// It says so when it listens.
	first := make([]byte, 512)
	n, err := stderr.Read(first)
	for err == nil && !strings.Contains(string(first[:n]), "listening on") {
		var more int
		more, err = stderr.Read(first[n:])
		n += more
	}
	err = errors.Join(err, during(), cmd.Wait())
	if err != nil {
		t.Errorf("capture %s: %v: %s", filter, err, out.String())
	}
	return out.String()
}

// All kinds of traffic pass by each encapsulation, and tcpdump knows it for
// what it is.
func TestNetEncapsulationsBetweenNodes(t *testing.T) {
	for e, want := range map[Encapsulation]struct {
		filter string
		parts  []string
	}{
		MPLSoGRE: {"proto gre", []string{"GREv0", "MPLS (label 1002, tc 0, [S], ttl 64)", "10.32.0.3 > 10.32.0.5: ICMP echo request"}},
		VXLAN:    {"udp port 4789", []string{"VXLAN, flags [I] (0x08), vni 5001", "10.32.0.3 > 10.32.0.5: ICMP echo request"}},
	} {
		t.Run(e.String(), func(t *testing.T) {
			c := newCluster(t, 2)
			c.encapsulation = e
			a, far := c.container(0, 1, "10.32.0.3"), c.container(1, 1, "10.32.0.5")
			c.connect()
			far.serve(t)
			out := decoded(t, c.fabric, "n1", want.filter, 2, func() error { return a.ping(far.addr) })
			for _, part := range want.parts {
				if !strings.Contains(out, part) {
					t.Errorf("no %q in: %s", part, out)
				}
			}
			if strings.Contains(out, "bad") {
				t.Errorf("a checksum is wrong: %s", out)
			}
			for check, err := range map[string]error{
				"tcp":               a.tcp(far.addr, 32<<20),
				"udp of one packet": a.udp(far.addr, 1500-c.overhead()-28),
				"udp of fragments":  a.udp(far.addr, 8000),
			} {
				if err != nil {
					t.Errorf("%s: %v", check, err)
				}
			}
			if t.Failed() {
				c.dump()
			}
		})
	}
}

// vtep is a bridge with a VXLAN device: another vendor's end of a network.
type vtep struct {
	*nstest.NS
	host *nstest.NS
	addr netip.Addr
	mac  MAC
	ip   netip.Addr // of the host behind it
}

func (c *cluster) vtep(number int, vni uint32, ip netip.Addr) *vtep {
	t := c.t
	t.Helper()
	v := &vtep{
		NS: nstest.New(t, fmt.Sprintf("vtep-%d", number)), host: nstest.New(t, fmt.Sprintf("host-%d", number)),
		addr: netip.AddrFrom4([4]byte{172, 31, 0, byte(100 + number)}), ip: ip,
	}
	v.DisableIPv6()
	v.host.DisableIPv6()
	port := fmt.Sprintf("v%d", number)
	nstest.Veth(t, v.NS, "eth0", c.fabric, port)
	c.fabric.Enslave(port, "br0")
	v.Up("eth0", netip.PrefixFrom(v.addr, 24))
	v.Bridge("br0")
	if _, err := v.Run("ip", "link", "add", "vx0", "type", "vxlan", "id", fmt.Sprint(vni), "local", v.addr.String(), "dstport", "4789", "nolearning"); err != nil {
		t.Fatal(err)
	}
	v.Enslave("vx0", "br0")
	nstest.Veth(t, v.host, "eth0", v.NS, "h0")
	v.Enslave("h0", "br0")
	v.host.MTU("eth0", 1450)
	v.host.Up("eth0", netip.PrefixFrom(ip, 8))
	v.mac = MAC(v.host.Link("eth0").Attrs().HardwareAddr)
	return v
}

// learn is what EVPN tells the VTEP: where a MAC is, and who wants broadcasts.
func (v *vtep) learn(t *testing.T, mac string, at netip.Addr) {
	t.Helper()
	if out, err := v.Run("bridge", "fdb", "append", mac, "dev", "vx0", "dst", at.String()); err != nil {
		t.Fatal(err, out)
	}
}

func TestNetForeignVTEP(t *testing.T) {
	c := newCluster(t, 2)
	c.encapsulation = VXLAN
	a, far := c.container(0, 1, "10.32.0.3"), c.container(1, 1, "10.32.0.5")
	c.connect()
	v := c.vtep(1, vniOf(1), netip.MustParseAddr("10.32.0.77"))
	for _, n := range c.nodes {
		v.learn(t, "00:00:00:00:00:00", n.config.LocalIP)
		if err := n.dp.PutRoute(host(1, v.ip), NextHop{Kind: Tunnel, Remote: v.addr, Encapsulation: VXLAN, VNI: vniOf(1), MAC: v.mac}); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []*container{a, far} {
		v.learn(t, net.HardwareAddr(k.port.MAC[:]).String(), k.node.config.LocalIP)
	}
	for _, k := range []*container{a, far} {
		k.serve(t)
		if err := k.ping(v.ip); err != nil {
			t.Errorf("container to host: %v", err)
		}
		if _, err := v.host.Run("ping", "-n", "-c", "3", "-i", "0.02", "-W", "2", k.addr.String()); err != nil {
			t.Errorf("host to container: %v", err)
		}
		out, err := v.host.Run("ip", "neigh", "show", k.addr.String())
		if err != nil || !strings.Contains(out, k.port.MAC.String()) {
			t.Errorf("host knows %q, %v, want %s for %s", out, err, k.port.MAC, k.addr)
		}
	}
	// The host as a whole: bulk TCP, which comes in super-packets.
	outside := &container{NS: v.host, cluster: c}
	if err := errors.Join(outside.tcp(a.addr, 32<<20), outside.udp(a.addr, 1450-28), outside.udp(far.addr, 8000)); err != nil {
		t.Error(err)
	}
	// Somebody else on the underlay with the same VNI gets nothing in or out.
	w := c.vtep(2, vniOf(1), netip.MustParseAddr("10.32.0.78"))
	w.learn(t, "00:00:00:00:00:00", a.node.config.LocalIP)
	if err := (&container{NS: w.host, cluster: c}).refused(a.addr); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		c.dump()
		for _, dump := range [][]string{{"bridge", "fdb"}, {"ip", "neigh"}, {"ip", "-s", "link"}} {
			out, _ := v.Run(dump[0], dump[1:]...)
			t.Log(out)
		}
	}
}
