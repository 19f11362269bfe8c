package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/testutils"
	"github.com/google/uuid"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/api/portapi"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// Addresses on the benchmark's fabric.
const (
	managerAddress = "172.31.0.1:6991"
	controlAddress = "172.31.0.1:5269"
)

// cluster is one node and the controllers, each a process in a namespace.
type cluster struct {
	dir          string
	fabric, node ns.NetNS
	processes    []*exec.Cmd
	mounted      bool
}

func (c *cluster) binary(name string) string { return filepath.Join(c.dir, "bin", name) }
func (c *cluster) socket() string            { return filepath.Join(c.dir, "node", agentSocketName) }

const agentSocketName = "agent.sock"

// startCluster builds and starts all that is behind the plugin.
func startCluster(ctx context.Context) (c *cluster, err error) {
	dir, err := os.MkdirTemp("", "contrail-bench-cni-")
	if err != nil {
		return nil, err
	}
	c = &cluster{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.logs(), c.stop())
		}
	}()
	const module = "github.com/contrail-mesos/contrail/cmd/"
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
		"-o", c.binary("")+"/", module+"contrail", module+"contrail-cni")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return c, fmt.Errorf("build: %w: %s", err, out)
	}
	if err := c.makeFabric(); err != nil {
		return c, err
	}
	node := uuid.NewString()
	if err := c.issue(node); err != nil {
		return c, err
	}
	if err := c.startAll(); err != nil {
		return c, err
	}
	return c, c.waitReady(ctx)
}

// makeFabric joins the controllers' namespace and the node's.
func (c *cluster) makeFabric() error {
	var err error
	if c.fabric, err = testutils.NewNS(); err != nil {
		return fmt.Errorf("make namespace: %w", err)
	}
	if c.node, err = testutils.NewNS(); err != nil {
		return fmt.Errorf("make namespace: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(c.node.Fd()))}
	err = withLinks(c.fabric, func(h *netlink.Handle) error { return h.LinkAdd(veth) })
	return errors.Join(err, setUp(c.fabric, "172.31.0.1/24"), setUp(c.node, "172.31.0.11/24"))
}

func withLinks(n ns.NetNS, do func(*netlink.Handle) error) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(n.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	return do(h)
}

func setUp(n ns.NetNS, prefix string) error {
	return withLinks(n, func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		link, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		p := netip.MustParsePrefix(prefix)
		address := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}}
		return errors.Join(h.AddrAdd(link, address), h.LinkSetUp(link), h.LinkSetUp(lo))
	})
}

func (c *cluster) issue(node string) error {
	authority, err := ctls.OpenAuthority(filepath.Join(c.dir, "ca"))
	if err != nil {
		return err
	}
	return errors.Join(
		authority.Issue(c.pki("controller"), ctls.RoleController, ""),
		authority.Issue(c.pki("manager"), ctls.RoleManager, ""),
		authority.Issue(c.pki("node"), ctls.RoleNode, node),
	)
}

func (c *cluster) pki(name string) string { return filepath.Join(c.dir, "pki", name) }

func (c *cluster) startAll() error {
	bpf := filepath.Join(c.dir, "bpf")
	if err := os.Mkdir(bpf, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("bpf", bpf, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount a bpf file system: %w", err)
	}
	c.mounted = true
	run := filepath.Join(c.dir, "run")
	return errors.Join(
		c.start(c.fabric, "controller", "controller", "--data", filepath.Join(c.dir, "data"), "--run", run,
			"--tls-dir", c.pki("controller"), "--listen-tls", controlAddress),
		c.start(c.fabric, "manager", "mesos-manager", "--config", "unix:"+filepath.Join(run, "config.sock"),
			"--tls-dir", c.pki("manager"), "--listen-tls", managerAddress),
		c.start(c.node, "agent", "vrouter-agent", "--name", "bench-node", "--run-dir", filepath.Join(c.dir, "node"),
			"--state-dir", filepath.Join(c.dir, "state"), "--pin-dir", filepath.Join(bpf, "node"), "--underlay", "eth0",
			"--manager", managerAddress, "--control", controlAddress, "--tls-dir", c.pki("node")),
	)
}

func (c *cluster) start(in ns.NetNS, name string, args ...string) error {
	log, err := os.Create(filepath.Join(c.dir, name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(c.binary("contrail"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := in.Do(func(ns.NetNS) error { return cmd.Start() }); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	c.processes = append(c.processes, cmd)
	return nil
}

// waitReady asks the agent until it has joined.
func (c *cluster) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.socket())
		},
	}}
	ask := func() error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+portapi.PathStatus, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		var status portapi.Status
		if err := json.NewDecoder(response.Body).Decode(&status); err != nil {
			return err
		}
		if !status.Ready {
			return errors.New(status.Message)
		}
		return nil
	}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the vRouter agent: %w", err)
		case <-ticker.C:
		}
	}
}

// logs returns the ends of the processes' logs as an error, for a failure.
func (c *cluster) logs() error {
	files, _ := filepath.Glob(filepath.Join(c.dir, "*.log"))
	var all []error
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		all = append(all, fmt.Errorf("%s: %s", filepath.Base(file), strings.Join(lines[max(0, len(lines)-5):], "\n")))
	}
	return errors.Join(all...)
}

// stop ends the processes in reverse order and removes everything.
func (c *cluster) stop() error {
	var failed []error
	for _, cmd := range slices.Backward(c.processes) {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // how it ends does not matter any more
		kill.Stop()
	}
	if c.mounted {
		failed = append(failed, unix.Unmount(filepath.Join(c.dir, "bpf"), unix.MNT_DETACH))
	}
	for _, n := range []ns.NetNS{c.node, c.fabric} {
		if n != nil {
			failed = append(failed, n.Close(), testutils.UnmountNS(n))
		}
	}
	return errors.Join(append(failed, os.RemoveAll(c.dir))...)
}
