//go:build net

package bgp

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// A lab is a speaker of ours in a namespace, with daemons of others in theirs,
// each on a link of its own: number N has 10.99.N.2, and we are 10.99.N.1.
type lab struct {
	t   *testing.T
	ns  *nstest.NS
	sp  *Speaker
	end func()
	cfg Config
}

const labAS = 64512

func newLab(t *testing.T, change func(*Config)) *lab {
	t.Helper()
	l := &lab{t: t, ns: nstest.New(t, "us")}
	l.cfg = Config{
		AS: labAS, RouterID: netip.MustParseAddr("10.99.0.1"), Network: l.ns,
		Listen: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:179")},
		Log:    slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&l.cfg)
	}
	l.start()
	t.Cleanup(l.stop)
	return l
}

// start runs a speaker, as a new process would.
func (l *lab) start() {
	l.t.Helper()
	sp, err := New(l.cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sp.Run(ctx) }()
	l.sp = sp
	l.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Errorf("speaker: %v", err)
		}
	})
}

func (l *lab) stop() { l.end() }

// link joins a new namespace to ours.
func (l *lab) link(n int, name string) *nstest.NS {
	l.t.Helper()
	ns := nstest.New(l.t, name)
	ours := fmt.Sprintf("to%d", n)
	nstest.Veth(l.t, l.ns, ours, ns, "eth0")
	l.ns.Up(ours, netip.MustParsePrefix(fmt.Sprintf("10.99.%d.1/24", n)))
	ns.Up("eth0", netip.MustParsePrefix(fmt.Sprintf("10.99.%d.2/24", n)))
	return ns
}

func theirs(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("10.99.%d.2", n)) }

// daemon is a process of others.
type daemon struct {
	t    *testing.T
	ns   *nstest.NS
	name string
	args []string
	env  []string
	dir  string
	cmd  *exec.Cmd
	out  *bytes.Buffer
}

// launch runs a daemon in a namespace; it ends with the test.
func launch(t *testing.T, ns *nstest.NS, dir string, env []string, name string, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, ns: ns, name: name, args: args, env: env, dir: dir, out: &bytes.Buffer{}}
	d.start()
	t.Cleanup(func() {
		d.kill()
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, d.out)
		}
	})
	return d
}

func (d *daemon) start() {
	d.t.Helper()
	d.cmd = exec.Command(d.name, d.args...)
	d.cmd.Dir, d.cmd.Stdout, d.cmd.Stderr = d.dir, d.out, d.out
	d.cmd.Env = append(os.Environ(), d.env...)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.ns.Start(d.cmd); err != nil {
		d.t.Fatalf("start %s (make setup installs it): %v", d.name, err)
	}
}

// kill ends the daemon and what it started, without a word to anybody.
func (d *daemon) kill() {
	if d.cmd == nil {
		return
	}
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	_ = d.cmd.Wait()
	d.cmd = nil
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// frr runs FRR's bgpd, without zebra.
func (l *lab) frr(ns *nstest.NS, config string) *daemon {
	l.t.Helper()
	dir := l.t.TempDir()
	conf := write(l.t, dir, "bgpd.conf", config)
	return launch(l.t, ns, dir, nil, "/usr/lib/frr/bgpd", "-f", conf, "-Z", "-n", "-S", "--vty_socket", dir,
		"-i", filepath.Join(dir, "bgpd.pid"), "-A", "127.0.0.1", "-u", "root", "-g", "root")
}

// vtysh asks FRR.
func (d *daemon) vtysh(command string) string {
	out, err := d.ns.Run("vtysh", "--vty_socket", d.dir, "-d", "bgpd", "-c", command)
	if err != nil {
		return err.Error()
	}
	return out
}

// eventually polls until a condition holds; what it returns is why not yet.
func eventually(t *testing.T, what string, f func() string) {
	t.Helper()
	why := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if why = f(); why == "" {
			return
		}
	}
	t.Fatalf("%s: not within the time: %s", what, why)
}

// contains is a condition: a text has all the parts.
func contains(text string, parts ...string) string {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return fmt.Sprintf("no %q in:\n%s", p, text)
		}
	}
	return ""
}

// up waits for a session.
func (l *lab) up(name string) PeerState {
	l.t.Helper()
	var st PeerState
	eventually(l.t, "session with "+name, func() string {
		st = l.peer(name)
		if st.State == Established {
			return ""
		}
		return fmt.Sprintf("%+v", st)
	})
	return st
}

func (l *lab) peer(name string) PeerState {
	for _, p := range l.sp.Peers() {
		if p.Name == name {
			return p
		}
	}
	return PeerState{}
}

// setPeers fails the test when a configuration is refused.
func (l *lab) setPeers(peers map[string]PeerConfig) {
	l.t.Helper()
	for name, err := range l.sp.SetPeers(peers) {
		l.t.Fatalf("%s: %v", name, err)
	}
}

// watcher collects what a subscription tells.
type watcher struct {
	sub *Subscription
	now map[NLRI][]Path
}

func (l *lab) watch(fams ...Family) *watcher {
	w := &watcher{sub: l.sp.Subscribe(fams...), now: map[NLRI][]Path{}}
	l.t.Cleanup(w.sub.Close)
	return w
}

// see waits until a route's paths fulfil a condition.
func (w *watcher) see(t *testing.T, id NLRI, f func([]Path) string) {
	t.Helper()
	eventually(t, id.String(), func() string {
		for changes := w.sub.Next(100); len(changes) > 0; changes = w.sub.Next(100) {
			for _, c := range changes {
				w.now[c.NLRI] = c.Paths
			}
		}
		if why := f(w.now[id]); why != "" {
			return fmt.Sprintf("%s; all: %v", why, w.now)
		}
		return ""
	})
}

func one(f func(Path) string) func([]Path) string {
	return func(paths []Path) string {
		if len(paths) != 1 {
			return fmt.Sprintf("%d paths", len(paths))
		}
		return f(paths[0])
	}
}

func none(paths []Path) string {
	if len(paths) == 0 {
		return ""
	}
	return fmt.Sprintf("%d paths", len(paths))
}
