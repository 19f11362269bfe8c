//go:build net

package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/nstest"
	base "github.com/contrail-mesos/contrail/test/cluster"
)

// fabricRouter is a daemon of others on the fabric, in a namespace of its own.
type fabricRouter struct {
	ns      *nstest.NS
	address netip.Addr
	dir     string
	command []string
	process *exec.Cmd
	out     *os.File // what all daemons of the namespace say
}

// onFabric makes the namespace: number N has 172.31.0.(200+N).
func (c *cluster) onFabric(t *testing.T, name string, n int) *fabricRouter {
	t.Helper()
	r := &fabricRouter{
		ns: nstest.New(t, name), address: netip.AddrFrom4([4]byte{172, 31, 0, byte(200 + n)}), dir: t.TempDir(),
	}
	var err error
	if r.out, err = os.OpenFile(filepath.Join(r.dir, "output"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.out.Close() })
	port := "router-" + strconv.Itoa(n)
	for _, command := range []string{
		"link add " + port + " type veth peer name eth0 netns " + r.ns.Path(), "link set " + port + " master fabric up",
	} {
		if _, err := base.Run(t.Context(), append([]string{"nsenter", "--net=/run/netns/" + c.Fabric(), "ip"}, strings.Fields(command)...)...); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := base.Run(contextOf(t), "nsenter", "--net=/run/netns/"+c.Fabric(), "ip", "link", "delete", port); err != nil {
			t.Error(err)
		}
	})
	r.ns.Up("eth0", netip.PrefixFrom(r.address, 24))
	return r
}

func (r *fabricRouter) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// launch runs the daemon until the test ends.
func (r *fabricRouter) launch(t *testing.T, command ...string) {
	t.Helper()
	r.command = command
	r.start(t)
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			said, err := os.ReadFile(r.out.Name())
			t.Logf("output up to the end of %s (%v):\n%s", command[0], err, said)
		}
	})
}

func (r *fabricRouter) start(t *testing.T) {
	t.Helper()
	r.process = exec.Command(r.command[0], r.command[1:]...)
	r.process.Stdout, r.process.Stderr = r.out, r.out
	if err := r.ns.Start(r.process); err != nil {
		t.Fatalf("start %s (make setup installs it): %v", r.command[0], err)
	}
}

// kill ends the daemon without a word to anybody.
func (r *fabricRouter) kill() {
	if r.process != nil {
		_ = r.process.Process.Signal(syscall.SIGKILL)
		_ = r.process.Wait()
		r.process = nil
	}
}

// frr runs FRR's bgpd, as a router of another autonomous system that announces
// two prefixes: one with a target of the user's and one with an automatic one.
func (c *cluster) frr(t *testing.T, n int, automatic string) *frrRouter {
	t.Helper()
	r := &frrRouter{c.onFabric(t, "frr", n)}
	conf := r.write(t, "bgpd.conf", fmt.Sprintf(`
route-map WANTED permit 10
 set extcommunity rt 64512:100
route-map STOLEN permit 10
 set extcommunity rt %[2]s
!
router bgp 64600
 bgp router-id %[1]s
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 172.31.0.1 remote-as 64512
 neighbor 172.31.0.1 password open-sesame
 neighbor 172.31.0.1 timers connect 1
 address-family ipv4 vpn
  neighbor 172.31.0.1 activate
  network 198.51.100.0/24 rd 64600:1 label 2001 route-map WANTED
  network 198.51.101.0/24 rd 64600:1 label 2002 route-map STOLEN
 exit-address-family
`, r.address, automatic))
	r.launch(t, "/usr/lib/frr/bgpd", "-f", conf, "-Z", "-n", "-S", "--vty_socket", r.dir,
		"-i", filepath.Join(r.dir, "bgpd.pid"), "-A", "127.0.0.1", "-u", "root", "-g", "root")
	return r
}

type frrRouter struct{ *fabricRouter }

// knows waits until FRR has a route to an address, with these in its details.
func (r *frrRouter) knows(t *testing.T, address string, parts ...string) {
	t.Helper()
	eventually(t, time.Minute, "FRR knows "+address, func() error {
		out, err := r.ns.Run("vtysh", "--vty_socket", r.dir, "-d", "bgpd", "-c", "show bgp ipv4 vpn "+address+"/32")
		if err != nil {
			return err
		}
		return hasAll(out, parts)
	})
}

func hasAll(text string, parts []string) error {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return fmt.Errorf("no %q in: %s", part, text)
		}
	}
	return nil
}

// gobgpd runs a router of the cluster's own autonomous system.
func (c *cluster) gobgpd(t *testing.T, n int) *gobgpRouter {
	t.Helper()
	r := &gobgpRouter{fabricRouter: c.onFabric(t, "gobgpd", n)}
	conf := fmt.Sprintf(`
[global.config]
  as = 64512
  router-id = %q
[[neighbors]]
  [neighbors.config]
    neighbor-address = "172.31.0.1"
    peer-as = 64512
  [neighbors.timers.config]
    connect-retry = 1
    idle-hold-time-after-reset = 1
  [neighbors.graceful-restart.config]
    enabled = true
    restart-time = 120
`, r.address)
	for _, family := range []string{"l3vpn-ipv4-unicast", "rtc"} {
		conf += fmt.Sprintf("  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = %q\n"+
			"    [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true\n", family)
	}
	r.launch(t, "/usr/bin/gobgpd", "-f", r.write(t, "gobgpd.toml", conf), "--api-hosts", "127.0.0.1:50051")
	r.wants(t)
	return r
}

type gobgpRouter struct{ *fabricRouter }

// wants has the router ask for the routes with the user's target.
func (r *gobgpRouter) wants(t *testing.T) {
	t.Helper()
	eventually(t, recovery, "VRF of gobgpd", func() error {
		if out, err := r.ns.Run("gobgp", "vrf"); err == nil && strings.Contains(out, "outside") {
			return nil
		}
		_, err := r.ns.Run("gobgp", strings.Fields("vrf add outside rd 64512:9 rt both 64512:100")...)
		return err
	})
}

// announce has the router announce a prefix, with itself as next hop.
func (r *gobgpRouter) announce(t *testing.T, prefix string, label int, target string) {
	t.Helper()
	r.wants(t)
	command := fmt.Sprintf("global rib add -a vpnv4 %s label %d rd %s:1 rt %s encap mpls-in-udp nexthop %s", prefix, label, r.address, target, r.address)
	eventually(t, recovery, command, func() error {
		_, err := r.ns.Run("gobgp", strings.Fields(command)...)
		return err
	})
}

// learned is a route that the router was told: where to send with which label.
type learned struct {
	node  netip.Addr
	label uint32
}

var learnedRoute = regexp.MustCompile(`\[(\d+)\]\s+(\d+\.\d+\.\d+\.\d+)\s`)

// route waits until the router knows an address, with these in its details.
func (r *gobgpRouter) route(t *testing.T, address string, parts ...string) learned {
	t.Helper()
	var found learned
	eventually(t, time.Minute, "gobgpd knows "+address, func() error {
		out, err := r.ns.Run("gobgp", "global", "rib", "-a", "vpnv4")
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			match := learnedRoute.FindStringSubmatch(line)
			if !strings.Contains(line, ":"+address+"/32") || match == nil {
				continue
			}
			label, err := strconv.ParseUint(match[1], 10, 20)
			if err != nil {
				return err
			}
			found = learned{netip.MustParseAddr(match[2]), uint32(label)}
			return hasAll(line, parts)
		}
		return fmt.Errorf("none in: %s", out)
	})
	return found
}

// lacks waits until the router has no route to an address.
func (r *gobgpRouter) lacks(t *testing.T, address string) {
	t.Helper()
	eventually(t, time.Minute, "gobgpd does not know "+address, func() error {
		out, err := r.ns.Run("gobgp", "global", "rib", "-a", "vpnv4")
		if err == nil && strings.Contains(out, ":"+address+"/32") {
			err = errors.New(out)
		}
		return err
	})
}

// forward is the router's own data plane: it takes MPLS over UDP (RFC 7510),
// answers pings of one task for all addresses behind it, and sends the answers
// as the route says that it learned.
func (r *gobgpRouter) forward(t *testing.T, task string, to learned) {
	t.Helper()
	var conn *net.UDPConn
	r.ns.Must(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: r.address.AsSlice(), Port: 6635})
		return err
	})
	var forwarding sync.WaitGroup
	t.Cleanup(func() {
		conn.Close()
		forwarding.Wait()
	})
	inside := netip.MustParseAddr(task).As4()
	forwarding.Go(func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			packet := buffer[:n]
			// A label with the bottom-of-stack bit, IPv4 without options, an echo
			// request of the task.
			if n < 4+20+8 || packet[2]&1 == 0 || packet[4] != 0x45 || packet[13] != 1 || packet[24] != 8 ||
				from.Addr() != to.node || [4]byte(packet[16:20]) != inside {
				continue
			}
			binary.BigEndian.PutUint32(packet, to.label<<12|1<<8|64)
			source := [4]byte(packet[16:20])
			copy(packet[16:20], packet[20:24])
			copy(packet[20:24], source[:])
			packet[24] = 0 // echo reply: the sum of the message is less by its type
			sum := uint32(binary.BigEndian.Uint16(packet[26:])) + 8<<8
			binary.BigEndian.PutUint16(packet[26:], uint16(sum+sum>>16))
			_, _ = conn.WriteToUDPAddrPort(packet, netip.AddrPortFrom(to.node, 6635)) // a ping that is lost is asked again
		}
	})
}
