//go:build net

package container

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

const busybox = "/bin/busybox"

// fixture is a container with a root of one layer that holds busybox.
type fixture struct {
	dir  string
	spec *Spec
	out  *os.File
}

func newFixture(t *testing.T, script string) *fixture {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root")
	}
	dir := t.TempDir()
	f := &fixture{dir: dir}
	layer := filepath.Join(dir, "layers", "base")
	for _, d := range []string{
		filepath.Join(layer, "bin"), filepath.Join(layer, "etc"), filepath.Join(dir, "root"),
		filepath.Join(dir, "upper"), filepath.Join(dir, "work"), filepath.Join(dir, "sandbox"),
	} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copyFile(t, busybox, filepath.Join(layer, "bin/busybox"), 0o755)
	for _, name := range []string{"sh", "cat", "id", "ls", "sleep", "grep", "hostname", "mount", "kill", "true", "dd", "tail", "env", "mknod", "ps", "readlink", "wc", "echo", "touch"} {
		if err := os.Symlink("busybox", filepath.Join(layer, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	// An image may point its files anywhere; they must stay inside.
	if err := os.Symlink("/nowhere/resolv.conf", filepath.Join(layer, "etc/resolv.conf")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 192.0.2.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "sandbox", "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	f.out = out
	f.spec = &Spec{
		ID:       uuid.NewString(),
		Hostname: "inside",
		Root: &Root{
			Target: filepath.Join(dir, "root"), LayersDir: filepath.Join(dir, "layers"), Layers: []string{"base"},
			Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"),
		},
		Binds: []Bind{
			{Source: filepath.Join(dir, "sandbox"), Target: "/mnt/mesos/sandbox"},
			{Source: filepath.Join(dir, "resolv.conf"), Target: "/etc/resolv.conf", Inert: true, ReadOnly: true},
		},
		Command: Command{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin", "A=b"}, Dir: "/mnt/mesos/sandbox"},
	}
	return f
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatalf("busybox-static is needed: %v", err)
	}
	if err := os.WriteFile(to, data, mode); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) limit(t *testing.T, limits Limits) *Group {
	t.Helper()
	group, err := CreateGroup("contrail-test-"+f.spec.ID, limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := group.Destroy(ctx); err != nil {
			t.Error(err)
		}
	})
	f.spec.Cgroup = group.Entry()
	return group
}

func launcher() Launcher { return Launcher{Init: []string{"/proc/self/exe", "container-init"}} }

func (f *fixture) start(t *testing.T) *Process {
	t.Helper()
	p, err := launcher().Start(f.spec, f.out, f.out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); <-p.Done() })
	return p
}

func (f *fixture) output(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(f.out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// waitFor polls the output for a line that the command prints.
func (f *fixture) waitFor(t *testing.T, text string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(f.output(t), text) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q in output:\n%s", text, f.output(t))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func mounts(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("findmnt", "-rno", "TARGET,FSTYPE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestNetContainerWorld(t *testing.T) {
	f := newFixture(t, `
		echo A=$A home; hostname; cat /etc/resolv.conf; echo pid $$
		ls /dev; mount | grep ' / '; touch /etc/new && echo wrote
		ls -d /work /root 2>/dev/null || echo no host
		mknod /tmp-null c 1 3 2>/dev/null || echo no mknod
		echo 1 2>/dev/null > /proc/sys/kernel/panic || echo no sysctl
		echo firmware: $(ls /sys/firmware 2>/dev/null).
		grep CapBnd /proc/self/status; exit 7`)
	f.limit(t, Limits{CPUs: 0.5, CPUQuota: true, Memory: 64 << 20, Processes: 100})
	p := f.start(t)
	status, err := p.Status()
	if err != nil || status != (Status{Code: 7}) {
		t.Fatalf("status %+v %v\n%s", status, err, f.output(t))
	}
	out := f.output(t)
	for _, want := range []string{"A=b home", "inside", "nameserver 192.0.2.1", "urandom", "overlay", "wrote", "no host", "no mknod", "no sysctl", "firmware: .", "00000000a00425fb"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if _, err := os.Stat(filepath.Join(f.dir, "upper/etc/new")); err != nil {
		t.Errorf("write is not in the upper directory: %v", err)
	}
	if strings.Contains(mounts(t), f.dir) {
		t.Errorf("mounts are left:\n%s", mounts(t))
	}
}

func TestNetContainerTerminate(t *testing.T) {
	f := newFixture(t, `echo ready; sleep 1000`)
	p := f.start(t)
	f.waitFor(t, "ready")
	if err := p.Terminate(); err != nil {
		t.Fatal(err)
	}
	status, err := p.Status()
	if err != nil || status.Signal != 15 && status.Code != 143 {
		t.Fatalf("status %+v %v", status, err)
	}
}

func TestNetContainerKillStubborn(t *testing.T) {
	f := newFixture(t, `trap '' TERM; sleep 1000 & echo ready; while true; do sleep 1; done`)
	group := f.limit(t, Limits{})
	p := f.start(t)
	f.waitFor(t, "ready")
	p.Terminate()
	p.Kill()
	status, err := p.Status()
	if err != nil || status.Signal != 9 {
		t.Fatalf("status %+v %v", status, err)
	}
	if pids, err := group.processes(); err != nil || len(pids) != 0 {
		t.Fatalf("left %v %v", pids, err)
	}
}

func TestNetContainerOutOfMemory(t *testing.T) {
	f := newFixture(t, `a=x; while true; do a=$a$a; done`)
	group := f.limit(t, Limits{Memory: 16 << 20})
	status, err := f.start(t).Status()
	if err != nil || status == (Status{}) {
		t.Fatalf("status %+v %v", status, err)
	}
	if group.Usage().OOMKills == 0 {
		t.Fatalf("no memory kill counted: %+v, status %+v", group.Usage(), status)
	}
}

func TestNetContainerErrors(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		`run /bin/none in`:           func(s *Spec) { s.Command.Path = "/bin/none" },
		`program "none" is not in`:   func(s *Spec) { s.Command.Path = "none" },
		`open namespace`:             func(s *Spec) { s.NetNS = "/nowhere" },
		`for a bind mount`:           func(s *Spec) { s.Binds[0].Source = "/nowhere" },
		`mount root file system`:     func(s *Spec) { s.Root.Layers = []string{"none"} },
		`container has no command`:   func(s *Spec) { s.Command.Path = "" },
		`enter cgroup`:               func(s *Spec) { s.Cgroup.Tasks = []string{"/nowhere/tasks"} },
		`"x" is not absolute`:        func(s *Spec) { s.Command.Dir = "x" },
		`cannot be mounted`:          func(s *Spec) { s.Root.Upper += ",x" },
		`at most 55 can be mounted:`: func(s *Spec) { s.Root.Layers = make([]string, 60) },
	} {
		f := newFixture(t, "true")
		change(f.spec)
		_, err := launcher().Start(f.spec, f.out, f.out)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q, got %v", name, err)
		}
	}
}

func TestNetContainerHostFileSystem(t *testing.T) {
	f := newFixture(t, "")
	f.spec.Root = nil
	f.spec.Command.Dir = filepath.Join(f.dir, "sandbox")
	f.spec.Command.Args[2] = "cat /etc/resolv.conf; echo $$; ps | wc -l"
	f.spec.Binds = f.spec.Binds[1:]
	status, err := f.start(t).Status()
	if out := f.output(t); err != nil || status != (Status{}) || !strings.HasPrefix(out, "nameserver 192.0.2.1\n2\n") && !strings.HasPrefix(out, "nameserver 192.0.2.1\n") {
		t.Fatalf("status %+v %v:\n%s", status, err, out)
	}
}

func TestNetContainerExec(t *testing.T) {
	f := newFixture(t, `touch /marker; echo ready; sleep 1000`)
	p := f.start(t)
	f.waitFor(t, "ready")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var out bytes.Buffer
	copied := make(chan struct{})
	go func() { io.Copy(&out, r); close(copied) }()
	status, err := Exec(t.Context(), p.PID(), []string{"sh", "-c", "ls /marker; hostname; pwd; grep CapEff /proc/self/status; echo $HOME; exit 3"}, []string{"HOME=/here"}, Stdio{null, w, w})
	if err != nil || status.Code != 3 {
		t.Fatalf("status %+v %v", status, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Exec(ctx, p.PID(), []string{"sleep", "1000"}, nil, Stdio{null, w, w}); err == nil {
		t.Fatal("cancelled exec succeeded")
	}
	w.Close()
	<-copied
	if out.String() != "/marker\ninside\n/\nCapEff:\t00000000a00425fb\n/here\n" {
		t.Fatalf("output %q", out.String())
	}
}
