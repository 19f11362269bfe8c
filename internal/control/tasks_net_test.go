//go:build net

package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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

	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/control/rib"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/nstest"
)

// taskLab is a control node and a node with a task, each in a namespace. The
// task's addresses are the node's own, and what connects to the gateway is passed
// on as the node would do it.
type taskLab struct {
	t *testing.T
	*world
	server     *Server
	here, node *nstest.NS
	running    sync.WaitGroup
	// stop ends the control node, as the end of its process does.
	stop context.CancelFunc
}

const taskPort = 50000

func newTaskLab(t *testing.T) *taskLab {
	l := &taskLab{t: t, world: newWorld(), here: nstest.New(t, "controller"), node: nstest.New(t, "node")}
	nstest.Veth(t, l.here, "eth0", l.node, "eth0")
	l.here.Up("eth0", netip.MustParsePrefix("10.99.0.1/24"))
	l.node.Up("eth0", netip.MustParsePrefix("10.99.0.2/24"))
	l.node.Dummy("task")
	l.node.Up("task", netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.0.0.3/24"), netip.MustParsePrefix("fd00::3/64"))
	l.server = New(discard(), Config{Router: "c1", Network: l.here}, l.graph)
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	l.running.Go(func() {
		if err := l.server.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		l.running.Wait()
	})
	l.relay(ctx)
	l.router("c1", "control-node", netip.MustParseAddrPort("10.99.0.1:179"), 64512)
	l.network("blue", 1, nil, nil)
	l.network("red", 2, nil, nil)
	l.subnets("blue")
	l.world.node("n1", "10.99.0.2", 1500)
	l.world.node("n2", "10.99.0.9", 1500)
	l.attach("b1", "blue", "n1", "10.0.0.3", 16)
	l.attach("b2", "blue", "n2", "10.0.0.4", 17)
	l.attach("r1", "red", "n2", "10.0.1.4", 18)
	l.pairs("b1", "10.8.0.0/16", "fd08::/16")
	six := &model.InstanceIP{Meta: model.Meta{UUID: id("iip6", "b1"), FQName: []string{"b1-six"}}, InstanceIPAddress: "fd00::3"}
	l.apply(model.Batch{Objects: []model.Object{six}, References: []model.Reference{{
		From: model.EntityOf(six), To: model.Entity{Kind: model.KindVirtualMachineInterface, UUID: id("vmi", "b1")},
	}}})
	return l
}

// relay is the node's translation: one connection with the control node at a time.
func (l *taskLab) relay(ctx context.Context) {
	listener, err := l.node.Listen(ctx, &net.ListenConfig{}, "tcp4", "10.0.0.1:179")
	if err != nil {
		l.t.Fatal(err)
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	l.running.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			d, err := l.dial(ctx, taskPort)
			if err != nil {
				c.Close()
				continue
			}
			end := func() { c.Close(); d.Close() }
			stop := context.AfterFunc(ctx, end)
			var both sync.WaitGroup
			for _, way := range [][2]net.Conn{{c, d}, {d, c}} {
				both.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					end()
				})
			}
			both.Wait()
			stop()
		}
	})
}

// dial connects to the control node from a port of the node.
func (l *taskLab) dial(ctx context.Context, port int) (net.Conn, error) {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 99, 0, 2), Port: port}, Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // no TIME_WAIT
		})
	}}
	return l.node.Dial(ctx, d, "tcp4", "10.99.0.1:179")
}

func (l *taskLab) peer() (ShownPeer, bool) {
	for _, p := range l.server.tables.showPeers().Peers {
		if p.Task != nil {
			return p, true
		}
	}
	return ShownPeer{}, false
}

func (l *taskLab) state() string {
	p, _ := l.peer()
	return p.State
}

// way is how the network reaches a prefix.
func (l *taskLab) way(prefix string) func() string {
	return func() string {
		t := l.server.tables
		t.mu.Lock()
		defer t.mu.Unlock()
		r, _ := t.rib.Route(1, rib.UnicastKey(netip.MustParsePrefix(prefix)))
		for _, p := range r.Paths {
			if p.Used {
				return fmt.Sprintf("%s %s label %d", p.Source, p.NextHop, p.Label)
			}
		}
		return "none"
	}
}

func (l *taskLab) want(what, want string, have func() string) {
	l.t.Helper()
	got := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if got = have(); got == want {
			return
		}
	}
	l.t.Fatalf("%s: %q, want %q; peers: %+v", what, got, want, l.server.tables.showPeers())
}

// taskSpeaker is a task whose words the test chooses.
type taskSpeaker struct {
	*bgp.Speaker
	l     *taskLab
	heard *bgp.Subscription
	paths map[string]bgp.Path
}

func (l *taskLab) speaker(as, ours uint32) *taskSpeaker {
	own := netip.MustParseAddr("10.0.0.3")
	s, err := bgp.New(bgp.Config{AS: as, RouterID: own, Network: l.node})
	if err != nil {
		l.t.Fatal(err)
	}
	refused := s.SetPeers(map[string]bgp.PeerConfig{"gateway": {
		Addr: netip.MustParseAddr("10.0.0.1"), LocalAddr: own, AS: ours, Families: []bgp.Family{bgp.Inet, bgp.Inet6},
		Retry: 50 * time.Millisecond, NextHopUnchanged: true,
	}})
	if len(refused) > 0 {
		l.t.Fatal(refused)
	}
	ctx, cancel := context.WithCancel(l.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	l.t.Cleanup(func() { cancel(); running.Wait() })
	return &taskSpeaker{s, l, s.Subscribe(bgp.Inet, bgp.Inet6), map[string]bgp.Path{}}
}

func (s *taskSpeaker) announce(prefix, hop string) {
	s.l.t.Helper()
	if err := s.Put(bgp.Route{NLRI: bgp.PrefixNLRI(netip.MustParsePrefix(prefix)), Attrs: &bgp.Attrs{NextHop: netip.MustParseAddr(hop)}}); err != nil {
		s.l.t.Fatal(err)
	}
}

// hears are the routes that the task was told.
func (s *taskSpeaker) hears() string {
	for _, c := range s.heard.Next(1000) {
		p, _ := c.NLRI.Prefix()
		if delete(s.paths, p.String()); len(c.Paths) > 0 {
			s.paths[p.String()] = c.Paths[0]
		}
	}
	var all []string
	for prefix, p := range s.paths {
		all = append(all, fmt.Sprintf("%s via %s path %v", prefix, p.Attrs.NextHop, p.Attrs.ASPath.Numbers()))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// TestNetTask: a task's session, its routes and those of its network, as the
// service and the interface change.
func TestNetTask(t *testing.T) {
	t.Parallel()
	for name, as := range map[string]uint32{"external": 65001, "internal": 64512} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newTaskLab(t)
			of := func(change func(*model.BGPAsAService)) func(*model.BGPAsAService) {
				return func(o *model.BGPAsAService) {
					o.AutonomousSystem = new(int64(as))
					if change != nil {
						change(o)
					}
				}
			}
			l.speaks("s", "b1", taskPort, of(nil))
			s := l.speaker(as, 64512)
			l.want("session", "Established", l.state)
			if p, _ := l.peer(); p.Task.From != "10.99.0.2:50000" || p.Address != "10.0.0.3" || p.Task.Interface != id("vmi", "b1") {
				t.Errorf("shown as %+v, task %+v", p, p.Task)
			}
			const way = "bgpaas 10.99.0.2 label 16"
			path := "[64512]"
			if as == 64512 {
				path = "[]"
			}
			s.announce("10.8.1.0/24", "10.0.0.3")
			s.announce("10.9.0.0/24", "10.0.0.3") // may not
			s.announce("10.8.2.0/24", "10.0.0.4") // to another task
			s.announce("10.0.0.4/32", "10.0.0.3") // who has it
			l.want("its prefix", way, l.way("10.8.1.0/24"))
			l.want("refused", "3 refused", func() string {
				p, _ := l.peer()
				return fmt.Sprintf("%d refused", p.Task.Refused)
			})
			for _, prefix := range []string{"10.9.0.0/24", "10.8.2.0/24"} {
				if got := l.way(prefix)(); got != "none" {
					t.Errorf("%s: %s", prefix, got)
				}
			}
			l.want("the other task", "attachment 10.99.0.9 label 17", l.way("10.0.0.4/32"))
			told := "10.0.0.4/32 via 10.0.0.1 path " + path
			l.want("told", told, s.hears)
			l.attach("b3", "blue", "n2", "10.0.0.5", 19)
			l.want("told of another", told+", 10.0.0.5/32 via 10.0.0.1 path "+path, s.hears)
			l.detach("b3", "blue")
			l.want("told that it is gone", told, s.hears)

			// What it may announce changes without the session.
			l.pairs("b1", "10.9.0.0/16")
			l.want("its prefix", "none", l.way("10.8.1.0/24"))
			l.want("what it may now", way, l.way("10.9.0.0/24"))
			l.pairs("b1", "10.8.0.0/16")
			l.want("its prefix again", way, l.way("10.8.1.0/24"))

			// Nobody else gets in, and nobody is disturbed by trying.
			for _, port := range []int{50001, 40000} {
				c, err := l.dial(t.Context(), port)
				if err != nil {
					t.Fatal(err)
				}
				_ = c.SetReadDeadline(time.Now().Add(patience))
				if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("port %d is answered: %d bytes, %v", port, n, err)
				}
				c.Close()
			}
			if p, _ := l.peer(); p.Flaps != 0 || p.State != "Established" {
				t.Errorf("session after all that: %+v", p)
			}

			l.speaks("s", "b1", taskPort, of(func(o *model.BGPAsAService) { o.BgpaasSuppressRouteAdvertisement = new(true) }))
			l.want("told nothing", "", s.hears)
			l.speaks("s", "b1", taskPort, of(nil))
			l.want("told again", told, s.hears)
			if p, _ := l.peer(); p.Flaps != 0 {
				t.Errorf("the session was lost: %+v", p)
			}

			s.Withdraw(bgp.PrefixNLRI(netip.MustParsePrefix("10.8.1.0/24")))
			l.want("withdrawn", "none", l.way("10.8.1.0/24"))
			s.announce("10.8.1.0/24", "10.0.0.3")
			l.want("announced again", way, l.way("10.8.1.0/24"))
			l.speaks("s", "b1", taskPort, of(func(o *model.BGPAsAService) {
				o.BgpaasSessionAttributes = &model.BgpSessionAttributes{AdminDown: new(true)}
			}))
			l.want("down", "none", l.way("10.8.1.0/24"))
			l.want("session", "Idle", l.state)
			l.speaks("s", "b1", taskPort, of(nil))
			l.want("up again", way, l.way("10.8.1.0/24"))
			l.detach("b1", "blue")
			l.want("gone with the interface", "none", l.way("10.8.1.0/24"))
			if p, ok := l.peer(); ok {
				t.Errorf("still there: %+v", p)
			}
			l.want("left", "0 sessions wanted, 0 interfaces spoke", func() string {
				l.server.tables.mu.Lock()
				defer l.server.tables.mu.Unlock()
				return fmt.Sprintf("%d sessions wanted, %d interfaces spoke", len(l.server.tables.border.tasks.wanted), len(l.server.tables.spoken))
			})
		})
	}
}

// TestNetTaskEnd: the end of the control node's process takes no route of a task
// away from agents that still listen.
func TestNetTaskEnd(t *testing.T) {
	t.Parallel()
	l := newTaskLab(t)
	l.speaks("s", "b1", taskPort)
	s := l.speaker(65001, 64512)
	s.announce("10.8.1.0/24", "10.0.0.3")
	const way = "bgpaas 10.99.0.2 label 16"
	l.want("its prefix", way, l.way("10.8.1.0/24"))
	l.stop()
	l.running.Wait()
	if got := l.way("10.8.1.0/24")(); got != way {
		t.Errorf("after the end: %s, want %s", got, way)
	}
}

// TestNetTaskBounds: another AS is refused, too many routes end the session for a
// while, and none of that is felt by a router.
func TestNetTaskBounds(t *testing.T) {
	t.Parallel()
	l := newTaskLab(t)
	l.speaks("s", "b1", taskPort, func(o *model.BGPAsAService) {
		o.BgpaasSessionAttributes = &model.BgpSessionAttributes{FamilyAttributes: []model.BgpFamilyAttributes{{
			AddressFamily: "inet", PrefixLimit: &model.BgpPrefixLimit{Maximum: new(int64(5))},
		}}}
	})
	wrong := l.speaker(65002, 64512)
	l.want("refusal", "yes", func() string {
		peers := wrong.Peers()
		switch {
		case len(peers) == 0:
			return "no peer"
		case strings.Contains(peers[0].LastErr, "AS"):
			return "yes"
		}
		return peers[0].LastErr
	})
	wrong.SetPeers(nil)
	s := l.speaker(65001, 64512)
	l.want("session", "Established", l.state)
	for i := range 5 {
		s.announce(fmt.Sprintf("10.8.%d.0/24", i), "10.0.0.3")
	}
	l.want("the last one", "bgpaas 10.99.0.2 label 16", l.way("10.8.4.0/24"))
	s.announce("10.8.5.0/24", "10.0.0.3")
	l.want("too many", "Idle", l.state)
	l.want("none of them", "none", l.way("10.8.4.0/24"))
}

// daemons are speakers of others, with what each reads.
var daemons = map[string]struct {
	file, conf string
	command    func(file string) []string
}{
	"gobgpd": {"gobgpd.toml", `
[global.config]
  as = 65001
  router-id = "10.0.0.3"
  port = -1
[[neighbors]]
  [neighbors.config]
    neighbor-address = "10.0.0.1"
    peer-as = 64512
  [neighbors.transport.config]
    local-address = "10.0.0.3"
  [neighbors.timers.config]
    connect-retry = 1
    idle-hold-time-after-reset = 1
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "ipv4-unicast"
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "ipv6-unicast"
`, func(file string) []string { return []string{"gobgpd", "-f", file, "--api-hosts", "127.0.0.1:50051"} }},
	"ExaBGP": {"exabgp.conf", `
neighbor 10.0.0.1 {
	router-id 10.0.0.3;
	local-address 10.0.0.3;
	local-as 65001;
	peer-as 64512;
	family { ipv4 unicast; ipv6 unicast; }
	static {
		route 10.8.1.0/24 next-hop self;
		route 10.9.0.0/24 next-hop self;
		route fd08:1::/64 next-hop fd00::3;
	}
}
`, func(file string) []string {
		return []string{"env", "exabgp.daemon.user=root", "exabgp.log.destination=stdout", "exabgp", file}
	}},
}

// TestNetTaskDaemons has daemons of others be the task.
func TestNetTaskDaemons(t *testing.T) {
	t.Parallel()
	for name, d := range daemons {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newTaskLab(t)
			l.speaks("s", "b1", taskPort)
			file := filepath.Join(t.TempDir(), d.file)
			if err := os.WriteFile(file, []byte(d.conf), 0o644); err != nil {
				t.Fatal(err)
			}
			command := d.command(file)
			cmd := exec.Command(command[0], command[1:]...)
			out, err := os.Create(file + ".out")
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			cmd.Stdout, cmd.Stderr = out, out
			if err := l.node.Start(cmd); err != nil {
				t.Fatalf("start %s (make setup installs it): %v", name, err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				if said, _ := os.ReadFile(out.Name()); t.Failed() {
					t.Logf("%s said:\n%s", name, said)
				}
			})
			gobgp := func(args string) string {
				said, err := l.node.Run("gobgp", strings.Fields(args)...)
				if err != nil {
					return err.Error()
				}
				return said
			}
			l.want("session", "Established", l.state)
			if name == "gobgpd" {
				for _, route := range []string{"-a ipv4 10.8.1.0/24 nexthop 10.0.0.3", "-a ipv4 10.9.0.0/24 nexthop 10.0.0.3", "-a ipv6 fd08:1::/64 nexthop fd00::3"} {
					if said := gobgp("global rib add " + route); said != "" {
						t.Fatal(said)
					}
				}
			}
			l.want("its prefix", "bgpaas 10.99.0.2 label 16", l.way("10.8.1.0/24"))
			l.want("its prefix of IPv6", "bgpaas 10.99.0.2 label 16", l.way("fd08:1::/64"))
			l.want("refused", "1 refused: 10.9.0.0/24", func() string {
				p, _ := l.peer()
				if len(p.Task.Refusals) == 0 {
					return "none"
				}
				return fmt.Sprintf("%d refused: %s", p.Task.Refused, p.Task.Refusals[0].Prefix)
			})
			l.want("told", "yes", func() string {
				if name != "gobgpd" {
					return "yes" // ExaBGP keeps no table
				}
				said := gobgp("global rib")
				if strings.Contains(said, "10.0.0.4/32") && strings.Contains(said, "10.0.0.1") {
					return "yes"
				}
				return said
			})
			_ = cmd.Process.Kill()
			l.want("gone with the daemon", "none", l.way("10.8.1.0/24"))
		})
	}
}
