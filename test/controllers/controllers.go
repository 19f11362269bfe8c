// Package controllers runs several controllers on one machine, each in a network
// namespace of its own, for tests and benchmarks of what they keep together.
//
//	set := controllers.New(t, root, "a", "b", "c")
//	set.StartAll()
//	set.Members[0].Kill()   // kill -9, with its parts
//	set.Members[1].Cut()    // no packet gets in or out
//
// Clients reach the configuration API of each over its unix socket, so that only
// the controllers are cut off from each other.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// TB is the part of testing.TB that is used.
type TB interface {
	nstest.TB
	Logf(format string, args ...any)
	Failed() bool
}

// Set is some controllers and the network between them.
type Set struct {
	t       TB
	root    string // of the module
	dir     string
	binary  string
	fabric  *nstest.NS
	Members []*Controller
	// Args are given to every controller.
	Args []string
}

// Controller is one of a set. Its methods are not for concurrent use.
type Controller struct {
	set     *Set
	Name    string
	Address netip.Addr
	ns      *nstest.NS
	port    string
	cmd     *exec.Cmd
	ended   chan struct{}
	// Alone starts it as the only one.
	Alone bool
	// Args are given to this controller only.
	Args []string
	// Disk, such as 400m, gives it a disk of its own of that size for its data.
	Disk string
}

// New builds the binary and the network; nothing runs yet. root is the
// directory that holds go.mod.
func New(t TB, root string, names ...string) *Set {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl") // short: it holds sockets
	if err != nil {
		t.Fatalf("%v", err)
	}
	s := &Set{t: t, root: root, dir: dir}
	t.Cleanup(s.remove)
	s.binary = s.build("contrail")
	s.certificate("authority")
	s.fabric = nstest.New(t, "fabric")
	s.fabric.Bridge("br0")
	for i, name := range names {
		s.add(name, i+1)
	}
	return s
}

// build builds one of the programs, unless it has been.
func (s *Set) build(program string) (path string) {
	s.t.Helper()
	path = filepath.Join(s.dir, program)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", path, "./cmd/"+program)
	build.Dir, build.Env = s.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		s.t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

func (s *Set) add(name string, number int) {
	c := &Controller{
		set: s, Name: name, port: "c" + strconv.Itoa(number),
		Address: netip.AddrFrom4([4]byte{172, 31, 1, byte(number)}), ns: nstest.New(s.t, name),
	}
	nstest.Veth(s.t, s.fabric, c.port, c.ns, "eth0")
	s.fabric.Enslave(c.port, "br0")
	c.ns.Up("eth0", netip.PrefixFrom(c.Address, 24))
	s.certificate("controller", "--out", c.TLSDir())
	s.Members = append(s.Members, c)
}

// certificate makes certificates as an operator does.
func (s *Set) certificate(args ...string) {
	args = append([]string{"certificate"}, append(args, "--ca-dir", filepath.Join(s.dir, "ca"))...)
	if out, err := exec.Command(s.binary, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

func (s *Set) remove() {
	for _, c := range s.Members {
		c.Kill()
		if s.t.Failed() {
			log, err := os.ReadFile(c.path("log"))
			s.t.Logf("log of %s (%v):\n%s", c.Name, err, tail(string(log), 60))
		}
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Errorf("%v", err)
	}
}

func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// StartAll starts all and waits until they are members and answer.
func (s *Set) StartAll() {
	for _, c := range s.Members {
		c.Start()
		c.WaitReady()
	}
}

// Command runs the binary on the machine of the controller.
func (c *Controller) Command(args ...string) (string, error) {
	return c.ns.Run(c.set.binary, args...)
}

// StoreFlags are the flags by which commands reach the store.
func (c *Controller) StoreFlags() []string {
	return []string{"--store", "unix:" + c.path("store.sock"), "--tls-dir", c.TLSDir()}
}

// Data is the directory of its data.
func (c *Controller) Data() string { return c.path("data") }

// OnDisk is a file in Data as the controller sees it, for one with a Disk.
func (c *Controller) OnDisk(name string) string {
	return filepath.Join("/proc", strconv.Itoa(c.cmd.Process.Pid), "root", c.Data(), name)
}

// TLSDir is the directory of its certificate.
func (c *Controller) TLSDir() string { return c.path("tls") }

// StartProgram starts another program beside the controller; it ends with the
// test.
func (c *Controller) StartProgram(cmd *exec.Cmd) {
	c.set.t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.ns.Start(cmd); err != nil {
		c.set.t.Fatalf("start %s: %v", cmd.Path, err)
	}
	c.set.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

func (c *Controller) path(name string) string { return filepath.Join(c.set.dir, c.Name, name) }

// StoreSocket is the path of its store's socket.
func (c *Controller) StoreSocket() string { return c.path("store.sock") }

// Start starts it. All but the first join the others.
func (c *Controller) Start() {
	t := c.set.t
	t.Helper()
	if err := os.MkdirAll(c.path(""), 0o700); err != nil {
		t.Fatalf("%v", err)
	}
	args := []string{
		"controller", "--data", c.Data(), "--run", c.path(""), "--tls-dir", c.TLSDir(),
		"--name", c.Name, "--rest", "2s", "--tombstone", "2s",
	}
	if !c.Alone {
		args = append(args, "--peer-listen", net.JoinHostPort(c.Address.String(), "2380"))
		for _, other := range c.set.Members {
			if other != c && c != c.set.Members[0] {
				args = append(args, "--join", other.Address.String())
			}
		}
	}
	args = append(append(args, c.set.Args...), c.Args...)
	log, err := os.OpenFile(c.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer log.Close()
	cmd := exec.Command(c.set.binary, args...)
	if c.Disk != "" {
		// A mount that only the controller sees, and that ends with it.
		script := `mkdir -p "$0" && mount -t tmpfs -o size="$1" tmpfs "$0" && shift && exec "$@"`
		cmd = exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, c.Data(), c.Disk, c.set.binary}, args...)...)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.ns.Start(cmd); err != nil {
		t.Fatalf("start %s: %v", c.Name, err)
	}
	c.cmd, c.ended = cmd, make(chan struct{})
	ended := c.ended
	go func() {
		cmd.Wait()
		close(ended)
	}()
}

// WaitReady waits until its configuration API is ready.
func (c *Controller) WaitReady() {
	c.set.t.Helper()
	client, base := c.Client()
	defer client.CloseIdleConnections()
	client.Timeout = 5 * time.Second
	deadline := time.Now().Add(time.Minute)
	for {
		err := get(client, base+"/readyz")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.set.t.Fatalf("controller %s is not ready: %v", c.Name, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func get(client *http.Client, url string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(text)))
	}
	return err
}

// Client is an HTTP client of its configuration API, and the base of URLs.
func (c *Controller) Client() (*http.Client, string) {
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	socket := c.path("config.sock")
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 64,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", socket)
			},
		},
	}, "http://" + c.Name
}

// Stop asks it to end and waits until it and its parts have.
func (c *Controller) Stop() {
	if c.cmd == nil {
		return
	}
	c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
	case <-time.After(30 * time.Second):
		c.set.t.Errorf("controller %s does not end", c.Name)
	}
	c.Kill()
}

// Kill ends it and its parts at once.
func (c *Controller) Kill() {
	if c.cmd == nil {
		return
	}
	// The group outlives its leader for as long as parts do.
	for syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) == nil {
		time.Sleep(5 * time.Millisecond)
	}
	<-c.ended
	c.cmd = nil
}

// KillPart ends one of its processes at once; it is started again.
func (c *Controller) KillPart(name string) error {
	parts, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, file := range parts {
		line, err := os.ReadFile(file)
		args := strings.Split(string(line), "\x00")
		if err != nil || len(args) < 3 || args[0] != c.set.binary || args[2] != name || !strings.Contains(string(line), c.path("")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGKILL)
	}
	return fmt.Errorf("controller %s has no process %s", c.Name, name)
}

// Break ends its store for good: it finds something else in place of its data.
// What it returns puts them back.
func (c *Controller) Break() (mend func()) {
	data := filepath.Join(c.Data(), "store")
	must := func(err error) {
		if err != nil {
			c.set.t.Fatalf("the data of %s: %v", c.Name, err)
		}
	}
	must(os.Rename(data, data+".good"))
	must(os.WriteFile(data, nil, 0o600))
	must(c.KillPart("store"))
	return func() {
		must(os.Remove(data))
		must(os.Rename(data+".good", data))
	}
}

// Wipe removes its data.
func (c *Controller) Wipe() {
	if err := os.RemoveAll(c.Data()); err != nil {
		c.set.t.Errorf("%v", err)
	}
}

// Cut cuts it off from the others.
func (c *Controller) Cut() {
	f := c.set.fabric
	if err := f.Links.LinkSetDown(f.Link(c.port)); err != nil {
		c.set.t.Errorf("cut %s off: %v", c.Name, err)
	}
}

// Heal ends Cut.
func (c *Controller) Heal() {
	f := c.set.fabric
	if err := f.Links.LinkSetUp(f.Link(c.port)); err != nil {
		c.set.t.Errorf("heal %s: %v", c.Name, err)
	}
}
