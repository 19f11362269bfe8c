//go:build net

package box

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the components of a cluster too:
// `component SOCKET` answers on a socket, `component fail` does not.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "component" {
		if os.Args[2] == "--fail" {
			os.Stderr.WriteString("cannot do that\n")
			os.Exit(3)
		}
		_ = os.Remove(strings.TrimPrefix(os.Args[2], "--socket="))
		l, err := net.Listen("unix", strings.TrimPrefix(os.Args[2], "--socket="))
		if err != nil {
			os.Exit(1)
		}
		for {
			conn, err := l.Accept()
			if err != nil {
				os.Exit(1)
			}
			conn.Close()
		}
	}
	goleak.VerifyTestMain(m)
}

type testCluster struct {
	Config
	plan []component
}

// newCluster is a cluster of two components in a namespace, and one that fails.
func newCluster(t *testing.T) *testCluster {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &testCluster{Config: Config{Name: "t" + strings.ToLower(rand.Text()[:8]), Data: t.TempDir(), Nodes: 1, Binary: binary}}
	if err := os.MkdirAll(c.runDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.ensureIdentity(); err != nil {
		t.Fatal(err)
	}
	if err := c.ensureNetwork(1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Down(context.Background(), c.Config, true, t.Output()); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"first", "second"} {
		path := filepath.Join(c.runDir(), name+".sock")
		c.plan = append(c.plan, component{
			name: name, namespace: c.fabric(), args: []string{"component", "--socket=" + path}, ready: probe{unix: path},
		})
	}
	c.plan[1].after = []string{"first"}
	return c
}

// supervise runs a supervisor until stop is called.
func (c *testCluster) supervise(t *testing.T) (stop func()) {
	t.Helper()
	s, err := NewSupervisor(slog.New(slog.NewTextHandler(t.Output(), nil)), c.Config)
	if err != nil {
		t.Fatal(err)
	}
	s.plan = c.plan
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// until waits for a status that is as wanted.
func (c *testCluster) until(t *testing.T, what string, wanted func(*Status) bool) *Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var status *Status
	err := eventually(ctx, func() error {
		now, err := ReadStatus(c.Config)
		if err != nil {
			return err
		}
		if status = now; !wanted(now) {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v; last status %+v", what, err, status)
	}
	return status
}

func (s *Status) component(name string) ComponentStatus {
	for _, c := range s.Components {
		if c.Name == name {
			return c
		}
	}
	return ComponentStatus{}
}

func TestNetSuperviseAndAdopt(t *testing.T) {
	c := newCluster(t)
	stop := c.supervise(t)
	before := c.until(t, "start", (*Status).Healthy)
	netns, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	first := before.component("first")
	if in, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(first.PID), "ns/net")); err != nil || in == netns {
		t.Errorf("component runs in %s, %v; want the cluster's namespace", in, err)
	}

	if err := unix.Kill(first.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	again := c.until(t, "restart", func(s *Status) bool {
		return s.Healthy() && s.component("first").Restarts == 1
	})
	if again.component("second").PID != before.component("second").PID {
		t.Error("the other component was restarted too")
	}

	// A supervisor that ends leaves everything running; the next one adopts it.
	stop()
	for _, component := range again.Components {
		if !runs(component.PID, component.Started) {
			t.Errorf("%s ended with the supervisor", component.Name)
		}
	}
	stop = c.supervise(t)
	adopted := c.until(t, "adoption", func(s *Status) bool { return s.Healthy() && s.component("first").Restarts == 0 })
	for _, component := range again.Components {
		if got := adopted.component(component.Name).PID; got != component.PID {
			t.Errorf("%s has pid %d, want %d: it was not adopted", component.Name, got, component.PID)
		}
	}
	// An adopted one is watched like any other.
	if err := unix.Kill(adopted.component("second").PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.until(t, "restart of an adopted one", func(s *Status) bool { return s.Healthy() && s.component("second").Restarts == 1 })

	// Other arguments mean another process.
	stop()
	path := filepath.Join(c.runDir(), "other.sock")
	c.plan[0].args, c.plan[0].ready = []string{"component", "--socket=" + path}, probe{unix: path}
	defer c.supervise(t)()
	c.until(t, "replacement of the one with other arguments", func(s *Status) bool {
		return s.Healthy() && s.component("first").PID != adopted.component("first").PID
	})
}

func TestNetFailureHasReason(t *testing.T) {
	c := newCluster(t)
	c.plan[0].args = []string{"component", "--fail"}
	defer c.supervise(t)()
	status := c.until(t, "failures", func(s *Status) bool { return s.component("first").Restarts >= 2 })
	if reason := status.component("first").Reason; !strings.Contains(reason, "exit status 3") || !strings.Contains(reason, "cannot do that") {
		t.Errorf("reason %q", reason)
	}
	if second := status.component("second"); second.State != StateWaiting || !strings.Contains(second.Reason, "first") {
		t.Errorf("dependent component: %+v", second)
	}
}

// TestNetDown: nothing is left, even if nobody knows of it any more.
func TestNetDown(t *testing.T) {
	c := newCluster(t)
	stop := c.supervise(t)
	status := c.until(t, "start", (*Status).Healthy)
	stop()
	if err := os.Remove(statusFile(c.runDir())); err != nil {
		t.Fatal(err)
	}
	mountPoint := filepath.Join(c.runDir(), "with space")
	if err := os.Mkdir(mountPoint, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mountPoint, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	// A container that nothing knows but its namespace, mounted under the run directory.
	var container *exec.Cmd
	inside := filepath.Join(c.runDir(), "ns")
	if err := os.WriteFile(inside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		container = exec.Command("sleep", "1000")
		return errors.Join(unix.Mount("/proc/thread-self/ns/net", inside, "", unix.MS_BIND, ""), container.Start())
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- container.Wait() }()
	if err := Down(t.Context(), c.Config, true, t.Output()); err != nil {
		t.Fatal(err)
	}
	<-ended
	for _, component := range status.Components {
		if runs(component.PID, component.Started) {
			t.Errorf("%s still runs", component.Name)
		}
	}
	for _, path := range []string{c.runDir(), c.Data, filepath.Join(netnsDir, c.fabric()), filepath.Join(netnsDir, c.node(1))} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	mounts, err := readMounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if strings.Contains(m.point, c.Name) {
			t.Errorf("mount %s is left", m.point)
		}
	}
	if err := Down(t.Context(), c.Config, true, t.Output()); err != nil {
		t.Errorf("down of nothing: %v", err)
	}
}
