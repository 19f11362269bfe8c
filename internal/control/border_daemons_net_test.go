//go:build net

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// daemonGateway is a control node with gobgpd and FRR as its peers, each in a
// namespace of its own.
type daemonGateway struct {
	t *testing.T
	*world
	server *Server
	gobgp  func(command ...string) string
	vtysh  func(command string) string
}

const gobgpdConf = `
[global.config]
  as = 64512
  router-id = "10.99.1.2"
[[neighbors]]
  [neighbors.config]
    neighbor-address = "10.99.1.1"
    peer-as = 64512
  [neighbors.timers.config]
    connect-retry = 1
    idle-hold-time-after-reset = 1
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "l3vpn-ipv4-unicast"
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "ipv4-unicast"
`

const frrConf = `
router bgp 64512
 bgp router-id 10.99.2.2
 no bgp default ipv4-unicast
 neighbor 10.99.1.1 remote-as 64512
 neighbor 10.99.1.1 timers connect 1
 address-family ipv4 vpn
  neighbor 10.99.1.1 activate
 exit-address-family
`

func newDaemonGateway(t *testing.T) *daemonGateway {
	g := &daemonGateway{t: t, world: newWorld()}
	here := nstest.New(t, "controller")
	link := func(n int) *nstest.NS {
		ns := nstest.New(t, fmt.Sprintf("router%d", n))
		ours := fmt.Sprintf("to%d", n)
		nstest.Veth(t, here, ours, ns, "eth0")
		here.Up(ours, netip.MustParsePrefix(fmt.Sprintf("10.99.%d.1/24", n)))
		ns.Up("eth0", netip.MustParsePrefix(fmt.Sprintf("10.99.%d.2/24", n)))
		return ns
	}
	g.server = New(discard(), Config{Router: "c1", Network: here}, g.graph)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := g.server.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	gobgpd, frr := link(1), link(2)
	if _, err := frr.Run("ip", "route", "add", "10.99.1.0/24", "via", "10.99.2.1"); err != nil {
		t.Fatal(err)
	}
	launchDaemon(t, gobgpd, "gobgpd", "-f", write("gobgpd.toml", gobgpdConf), "--api-hosts", "127.0.0.1:50051", "--pprof-disable")
	launchDaemon(t, frr, "/usr/lib/frr/bgpd", "-f", write("bgpd.conf", frrConf), "-Z", "-n", "-S", "--vty_socket", dir,
		"-i", filepath.Join(dir, "bgpd.pid"), "-A", "127.0.0.1", "-u", "root", "-g", "root")
	g.gobgp = func(command ...string) string { return ask(gobgpd, "gobgp", command...) }
	g.vtysh = func(command string) string {
		return ask(frr, "vtysh", "--vty_socket", dir, "-d", "bgpd", "-c", command)
	}
	g.router("c1", "control-node", netip.MustParseAddrPort("10.99.1.1:179"), 64512)
	for n, name := range []string{"gobgpd", "frr"} {
		g.router(name, "router", netip.MustParseAddrPort(fmt.Sprintf("10.99.%d.2:179", n+1)), 64512)
		g.peer("c1", name, `{"session": [{"attributes": [{"address_families": {"family": ["inet-vpn", "inet"]}}]}]}`)
	}
	return g
}

func ask(ns *nstest.NS, name string, args ...string) string {
	out, err := ns.Run(name, args...)
	if err != nil {
		return err.Error()
	}
	return out
}

// launchDaemon runs a daemon until the test ends.
func launchDaemon(t *testing.T, ns *nstest.NS, name string, args ...string) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(name, args...)
	command.Stdout, command.Stderr = out, out
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := ns.Start(command); err != nil {
		t.Fatalf("start %s (make setup installs it): %v", name, err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		_ = command.Wait()
		if text, err := os.ReadFile(out.Name()); err == nil && t.Failed() {
			t.Logf("output of %s:\n%s", name, text)
		}
		out.Close()
	})
}

// within polls until a text is as wanted.
func (g *daemonGateway) within(what, want string, have func() string) {
	g.t.Helper()
	got := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = have(); got == want {
			return
		}
	}
	g.t.Fatalf("%s:\n%s\nwant:\n%s\npeers: %+v", what, got, want, g.server.tables.showPeers())
}

// inGoBGP are the routes of inet-vpn that gobgpd has: distinguisher, prefix,
// next hop and label.
func (g *daemonGateway) inGoBGP() string {
	var rib map[string][]struct {
		NLRI struct {
			Prefix string
			RD     struct{ Admin, Assigned any }
			Labels []int
		}
		Attrs []struct {
			Type    int
			NextHop string `json:"nexthop"`
		}
	}
	text := g.gobgp("global", "rib", "-a", "vpnv4", "-j")
	if err := json.Unmarshal([]byte(text), &rib); err != nil {
		return text
	}
	var all []string
	for _, paths := range rib {
		for _, p := range paths {
			hop := ""
			for _, a := range p.Attrs {
				if a.NextHop != "" {
					hop = a.NextHop
				}
			}
			all = append(all, fmt.Sprintf("%v:%v %s via %s label %v", p.NLRI.RD.Admin, p.NLRI.RD.Assigned, p.NLRI.Prefix, hop, p.NLRI.Labels))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// inFRR are those that FRR has: distinguisher, prefix and next hop.
func (g *daemonGateway) inFRR() string {
	var rib struct {
		Routes struct {
			Distinguishers map[string]map[string][]struct {
				NextHops []struct{ IP string }
			} `json:"routeDistinguishers"`
		}
	}
	text := g.vtysh("show bgp ipv4 vpn json")
	if err := json.Unmarshal([]byte(text), &rib); err != nil {
		return text
	}
	var all []string
	for rd, prefixes := range rib.Routes.Distinguishers {
		for prefix, paths := range prefixes {
			for _, p := range paths {
				for _, hop := range p.NextHops {
					all = append(all, fmt.Sprintf("%s %s via %s", rd, prefix, hop.IP))
				}
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// TestNetNumbersBeyond65535: networks with numbers that have no room in a route
// distinguisher, and want the same index, have their routes kept apart by routers
// of others, also where two nodes share an address.
func TestNetNumbersBeyond65535(t *testing.T) {
	t.Parallel()
	g := newDaemonGateway(t)
	mine := []string{"target:64500:1"}
	for n := range 2 {
		g.node(fmt.Sprintf("n%d", n+1), fmt.Sprintf("172.31.0.1%d", n+1), 1500)
	}
	g.network("red", 70_000+sharedIndexes, mine, mine)
	both := func(what string, lines ...string) {
		t.Helper()
		var short []string
		for _, l := range lines {
			short = append(short, l[:strings.Index(l, " label")])
		}
		g.within(what+" in gobgpd", strings.Join(lines, "\n"), g.inGoBGP)
		g.within(what+" in FRR", strings.Join(short, "\n"), g.inFRR)
	}
	g.attach("r1", "red", "n1", "10.0.0.4", 21)
	g.attach("r2", "red", "n2", "10.0.0.4", 22)
	g.activeActive("r1", "10.0.0.4")
	g.activeActive("r2", "10.0.0.4")
	both("an address of two nodes",
		"172.31.0.11:37232 10.0.0.4/32 via 172.31.0.11 label [21]", "172.31.0.12:37232 10.0.0.4/32 via 172.31.0.12 label [22]")
	// A network with a lower number and the same address moves the other one.
	g.network("blue", 70_000, mine, mine)
	g.attach("b1", "blue", "n1", "10.0.0.4", 31)
	both("an address of two networks",
		"172.31.0.11:37232 10.0.0.4/32 via 172.31.0.11 label [31]",
		"172.31.0.11:37233 10.0.0.4/32 via 172.31.0.11 label [21]",
		"172.31.0.12:37232 10.0.0.4/32 via 172.31.0.12 label [22]")
	g.detach("b1", "blue")
	both("without the other network",
		"172.31.0.11:37232 10.0.0.4/32 via 172.31.0.11 label [21]", "172.31.0.12:37232 10.0.0.4/32 via 172.31.0.12 label [22]")
	if n := len(g.server.tables.showPeers().Peers); n != 2 {
		t.Errorf("there are %d peers", n)
	}
}
