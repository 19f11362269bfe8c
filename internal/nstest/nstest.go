// Package nstest builds small networks of network namespaces for tests: hosts
// joined by veth pairs and bridges. It needs root; files that use it carry the
// build tag net.
//
//	a, b := nstest.New(t, "a"), nstest.New(t, "b")
//	nstest.Veth(t, a, "eth0", b, "eth0")
//	a.Up("eth0", netip.MustParsePrefix("10.0.0.1/24"))
//	a.Do(func() error { ... runs in a ... })
//
// Namespaces have no name in the file system: the kernel removes each, and
// the devices in it, with its last reference, so that a killed test leaves
// nothing. Path gives programs a way in while the test lives.
package nstest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TB is the part of testing.TB that is used, so that a benchmark program can
// have namespaces, too. Fatalf must not return.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// NS is a network namespace with its loopback up. The test that made it ends
// it. Its methods may be called by several goroutines.
type NS struct {
	t      TB
	name   string
	handle netns.NsHandle
	// Links works in the namespace from any thread.
	Links *netlink.Handle
}

// New makes a namespace; name is for messages.
func New(t TB, name string) *NS {
	t.Helper()
	handle, err := create()
	if err != nil {
		t.Fatalf("make namespace %s: %v (needs root)", name, err)
	}
	links, err := netlink.NewHandleAt(handle, unix.NETLINK_ROUTE)
	if err != nil {
		handle.Close()
		t.Fatalf("open netlink in %s: %v", name, err)
	}
	n := &NS{t: t, name: name, handle: handle, Links: links}
	t.Cleanup(func() {
		links.Close()
		handle.Close()
	})
	n.setUp("lo")
	return n
}

// create makes a namespace. Its thread goes back to where it was: programs that
// it has started may be set to end with it.
func create() (netns.NsHandle, error) {
	type result struct {
		handle netns.NsHandle
		err    error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- result{netns.None(), err}
			return
		}
		defer home.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{netns.None(), err}
			return
		}
		handle, err := netns.Get()
		// A thread that cannot go back ends with its goroutine.
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		done <- result{handle, err}
	}()
	r := <-done
	return r.handle, r.err
}

// Name returns the name given to New.
func (n *NS) Name() string { return n.name }

// Path is a path by which this process and its children can open the
// namespace, as CNI_NETNS wants.
func (n *NS) Path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(n.handle))
}

// Fd is the namespace's file descriptor, valid while the test lives.
func (n *NS) Fd() int { return int(n.handle) }

// Do runs f on a thread in the namespace and returns its error. Sockets that f
// opens stay in the namespace and may be used anywhere; goroutines that f
// starts do not run in it. f must not end the test: it returns an error.
func (n *NS) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		if err := netns.Set(n.handle); err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", n.name, err)
			return
		}
		err = f()
		// A thread that cannot go back ends with its goroutine.
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Must is Do for what has to succeed.
func (n *NS) Must(f func() error) {
	n.t.Helper()
	if err := n.Do(f); err != nil {
		n.t.Fatalf("in %s: %v", n.name, err)
	}
}

// Run runs a program in the namespace and returns what it wrote. Mounts are
// those of the test (unlike ip netns exec, which hides /sys/fs/bpf).
func (n *NS) Run(name string, args ...string) (string, error) {
	var out bytes.Buffer
	err := n.Do(func() error {
		cmd := exec.Command(name, args...)
		cmd.Stdout, cmd.Stderr = &out, &out
		return cmd.Run()
	})
	if err != nil {
		return out.String(), fmt.Errorf("%s %s in %s: %w: %s",
			name, strings.Join(args, " "), n.name, err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// Start starts cmd in the namespace.
func (n *NS) Start(cmd *exec.Cmd) error { return n.Do(cmd.Start) }

// Listen listens in the namespace, as config does outside.
func (n *NS) Listen(ctx context.Context, config *net.ListenConfig, network, addr string) (l net.Listener, err error) {
	err = n.Do(func() error { l, err = config.Listen(ctx, network, addr); return err })
	return l, err
}

// Dial connects from the namespace, as dialer does outside.
func (n *NS) Dial(ctx context.Context, dialer *net.Dialer, network, addr string) (c net.Conn, err error) {
	err = n.Do(func() error { c, err = dialer.DialContext(ctx, network, addr); return err })
	return c, err
}

// Link returns a device by name.
func (n *NS) Link(name string) netlink.Link {
	n.t.Helper()
	l, err := n.Links.LinkByName(name)
	if err != nil {
		n.t.Fatalf("device %s in %s: %v", name, n.name, err)
	}
	return l
}

// Up brings a device up with the addresses.
func (n *NS) Up(name string, addrs ...netip.Prefix) {
	n.t.Helper()
	l := n.Link(name)
	for _, a := range addrs {
		if err := n.Links.AddrAdd(l, &netlink.Addr{IPNet: ipNet(a)}); err != nil {
			n.t.Fatalf("add %s to %s in %s: %v", a, name, n.name, err)
		}
	}
	n.setUp(name)
}

func (n *NS) setUp(name string) {
	n.t.Helper()
	if err := n.Links.LinkSetUp(n.Link(name)); err != nil {
		n.t.Fatalf("bring %s up in %s: %v", name, n.name, err)
	}
}

// MTU sets a device's MTU.
func (n *NS) MTU(name string, mtu int) {
	n.t.Helper()
	if err := n.Links.LinkSetMTU(n.Link(name), mtu); err != nil {
		n.t.Fatalf("set MTU of %s in %s: %v", name, n.name, err)
	}
}

// Route adds a route through a gateway, or directly if gateway is invalid.
func (n *NS) Route(device string, to netip.Prefix, gateway netip.Addr) {
	n.t.Helper()
	r := &netlink.Route{LinkIndex: n.Link(device).Attrs().Index, Dst: ipNet(to)}
	if gateway.IsValid() {
		r.Gw = gateway.AsSlice()
		r.Flags = int(netlink.FLAG_ONLINK)
	} else {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := n.Links.RouteAdd(r); err != nil {
		n.t.Fatalf("add route %s in %s: %v", to, n.name, err)
	}
}

// Bridge makes a bridge and brings it up.
func (n *NS) Bridge(name string) {
	n.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := n.Links.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		n.t.Fatalf("make bridge %s in %s: %v", name, n.name, err)
	}
	n.setUp(name)
}

// Enslave makes a device a port of a bridge and brings it up.
func (n *NS) Enslave(device, bridge string) {
	n.t.Helper()
	if err := n.Links.LinkSetMaster(n.Link(device), n.Link(bridge)); err != nil {
		n.t.Fatalf("add %s to %s in %s: %v", device, bridge, n.name, err)
	}
	n.setUp(device)
}

// DisableIPv6 keeps the devices of the namespace quiet: with IPv6 they send
// router solicitations and group reports of their own.
func (n *NS) DisableIPv6() {
	n.t.Helper()
	n.Must(func() error {
		for _, which := range []string{"all", "default"} {
			path := "/proc/sys/net/ipv6/conf/" + which + "/disable_ipv6"
			if err := os.WriteFile(path, []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

// Dummy makes a device that swallows what is sent and brings it up: a veth
// whose other end has a namespace to itself (not every kernel has dummy
// devices).
func (n *NS) Dummy(name string) netlink.Link {
	n.t.Helper()
	sink := New(n.t, n.name+"/"+name)
	sink.DisableIPv6()
	Veth(n.t, n, name, sink, "sink")
	n.setUp(name)
	sink.setUp("sink")
	return n.Link(name)
}

// Veth joins two namespaces by a veth pair, both ends down and without
// addresses. The pair is made where it belongs, so names cannot collide with
// those of the machine.
func Veth(t TB, a *NS, aName string, b *NS, bName string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = aName
	attrs.HardwareAddr = RandomMAC()
	pair := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         bName,
		PeerHardwareAddr: RandomMAC(),
		PeerNamespace:    netlink.NsFd(int(b.handle)),
	}
	if err := a.Links.LinkAdd(pair); err != nil {
		t.Fatalf("join %s in %s and %s in %s: %v", aName, a.name, bName, b.name, err)
	}
}

// RandomMAC returns a locally administered unicast address.
func RandomMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	rand.Read(mac)
	mac[0] = mac[0]&^1 | 2
	return mac
}

// BPFFS makes a bpf file system of the test's own and returns a path to it, for
// this process and its children. It is mounted nowhere and ends with its last
// reference, so that a killed test leaves nothing here either.
func BPFFS(t TB) string {
	t.Helper()
	fd, err := detachedBPFFS()
	if err != nil {
		t.Fatalf("make a bpf file system: %v (needs root)", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
}

func detachedBPFFS() (int, error) {
	fs, err := unix.Fsopen("bpf", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "mode", "0700"); err != nil {
		return -1, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
