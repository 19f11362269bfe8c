package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/rogpeppe/go-internal/testscript"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/api/contrail/config/v1/configv1connect"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// runAsController makes the test binary the contrail binary: the controller
// starts itself again for its parts.
const runAsController = "controller"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == runAsController {
		main()
		return
	}
	// Scripts run it by its name.
	testscript.Main(m, map[string]func(){"contrail": main})
}

// lockedBuffer is written by a process and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// controller is a running `contrail controller`.
type controller struct {
	t        *testing.T
	dir      string
	listener *os.File
	http     string
	cmd      *exec.Cmd
	log      lockedBuffer
}

func newController(t *testing.T) *controller {
	if os.Geteuid() != 0 {
		t.Skip("the sockets let only root in")
	}
	dir, err := os.MkdirTemp("", "controller") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	c := &controller{t: t, dir: dir, listener: file, http: "http://" + l.Addr().String()}
	l.Close()
	c.start()
	t.Cleanup(func() {
		c.cmd.Process.Signal(syscall.SIGTERM)
		c.cmd.Wait()
		c.gone()
		file.Close()
		os.RemoveAll(dir)
		if t.Failed() {
			t.Log(c.log.String())
		}
	})
	return c
}

func (c *controller) start() {
	c.cmd = exec.Command(os.Args[0], runAsController, "--data", filepath.Join(c.dir, "data"), "--run", filepath.Join(c.dir, "run"),
		"--listen-fd", "3", "--rest", "2s", "--tombstone", "2s")
	c.cmd.Stderr = &c.log
	c.cmd.ExtraFiles = []*os.File{c.listener}
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
}

// parts are the processes of the controller, by name.
func (c *controller) parts() map[string]int {
	out := map[string]int{}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, dir := range dirs {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		args := strings.Split(string(line), "\x00")
		if err != nil || len(args) < 3 || args[1] != runAsController || !strings.Contains(string(line), c.dir) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && !strings.HasPrefix(args[2], "-") {
			out[args[2]] = pid
		}
	}
	return out
}

// eventually polls until the condition holds.
func (c *controller) eventually(what string, f func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !f() {
		if time.Now().After(deadline) {
			c.t.Fatalf("not in time: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *controller) gone() {
	c.eventually("all parts gone", func() bool { return len(c.parts()) == 0 })
}

// ask reads a page of the configuration API; empty when it does not answer.
func (c *controller) ask(path string) string {
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(c.http + path)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(text)
}

func TestControllerOutlivesItsParts(t *testing.T) {
	c := newController(t)
	c.eventually("the API answers", func() bool { return strings.Contains(c.ask("/domains"), "default-domain") })
	if n := len(c.parts()); n != 3 {
		t.Fatalf("%d parts run, want 3: %v", n, c.parts())
	}
	client, base, err := serve.Client("unix:"+filepath.Join(c.dir, "run", "config.sock"), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	const node = "00000000-0000-4000-8000-000000000001"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := configv1connect.NewNodesClient(client, base).Join(ctx, connect.NewRequest(&configv1.JoinRequest{
		Node: node, Name: "n1", Address: "172.31.0.11", FabricMtu: 1500, BootId: "b",
	})); err != nil {
		t.Fatal(err)
	}
	attachments := configv1connect.NewAttachmentsClient(client, base)
	for i, name := range []string{"store", "config", "control", "store"} {
		pid := c.parts()[name]
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("kill %s: %v", name, err)
		}
		// An attach in the middle of it is tried until it is answered, as a
		// manager does, and happens once.
		key := &configv1.AttachmentKey{Node: node, ContainerId: fmt.Sprint("c", i), Interface: "eth0", BootId: "b", Namespace: "4:1"}
		c.eventually("attach after "+name+" was killed", func() bool {
			_, err := attachments.Attach(ctx, connect.NewRequest(&configv1.AttachRequest{Key: key, Network: &configv1.NetworkRequest{CreateMissing: true}}))
			return err == nil
		})
		c.eventually(name+" runs again", func() bool { again := c.parts()[name]; return again != 0 && again != pid })
	}
	list, err := attachments.List(ctx, connect.NewRequest(&configv1.ListRequest{}))
	if err != nil || len(list.Msg.Attachments) != 4 {
		t.Fatalf("attachments %v (%v)", list, err)
	}

	// Killed for good, it takes its parts along; the next one goes on.
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.cmd.Wait()
	c.gone()
	c.start()
	c.eventually("the API answers again", func() bool { return strings.Count(c.ask("/inventory"), "containerId") == 4 })
}
