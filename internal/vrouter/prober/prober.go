// Package prober is where the agent's health checks come from: a network
// namespace that only the agent has, with one device, whose other end is in the
// node's namespace and takes packets to the ports (program probe_rx of package
// dataplane).
//
//	agent -- sockets --> prober's namespace == contrail-probe --probe_rx--> port
//	                                                  ^--------vif_rx------'
//
// A port is known here by an alias, an address that the data plane makes its own
// and that of who asks. The namespace has no name and nothing listens in it. It
// ends with the process and with it the device, but not before connections that
// were still ending: the agent removes a device that an earlier one left.
package prober

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The devices: that in the node's namespace, and its other end.
const (
	Device = "contrail-probe"
	inner  = "probe"
)

// Own is the prober's own address. Aliases are the others of its prefix, which
// are nothing outside of the namespace.
var Own = netip.MustParsePrefix("169.254.0.1/16")

// Net is the namespace. Its methods may be called by several goroutines.
type Net struct {
	// Index of Device.
	Index int
	// inside works in the namespace.
	inside *netlink.Handle
	work   chan func()
	closed chan struct{}
	ended  sync.WaitGroup
}

// Open makes the namespace and the device, in the caller's network namespace. A
// device that an earlier process left is replaced.
func Open() (*Net, error) {
	n := &Net{work: make(chan func()), closed: make(chan struct{})}
	started := make(chan error, 1)
	n.ended.Go(func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err == nil {
			defer home.Close()
			err = unix.Unshare(unix.CLONE_NEWNET)
		}
		started <- err
		if err != nil {
			return
		}
		// A process's first thread does not end with its goroutine, and would keep
		// the namespace. One that cannot go back ends.
		defer func() {
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}()
		for {
			select {
			case f := <-n.work:
				f()
			case <-n.closed:
				return
			}
		}
	})
	if err := <-started; err != nil {
		return nil, fmt.Errorf("open prober: make network namespace: %w", err)
	}
	if err := n.connect(); err != nil {
		n.Close()
		return nil, fmt.Errorf("open prober: %w", err)
	}
	return n, nil
}

// Close ends the namespace, and removes its device: connections that are still
// ending keep the namespace for a while. Whoever still asks gets net.ErrClosed, or
// what was on its way.
func (n *Net) Close() {
	if n.inside != nil {
		n.inside.Close()
	}
	close(n.closed)
	n.ended.Wait()
	if n.Index == 0 {
		return
	}
	if h, err := netlink.NewHandle(unix.NETLINK_ROUTE); err == nil {
		defer h.Close()
		// What fails here is mended by the next Open, which replaces the device.
		_ = h.LinkDel(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: n.Index}})
	}
}

// do runs f in the namespace. Sockets that it opens stay there.
func (n *Net) do(f func() error) error {
	done := make(chan error, 1)
	select {
	case n.work <- func() { done <- f() }:
		return <-done
	case <-n.closed:
		return net.ErrClosed
	}
}

// connect makes the device.
func (n *Net) connect() error {
	outside, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer outside.Close()
	var namespace *os.File
	err = n.do(func() (err error) {
		if namespace, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		n.inside, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if namespace != nil {
		defer namespace.Close()
	}
	if err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	if old, err := outside.LinkByName(Device); err == nil {
		if err := outside.LinkDel(old); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove the old device %s: %w", Device, err)
		}
	}
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: Device}, PeerName: inner, PeerNamespace: netlink.NsFd(int(namespace.Fd())),
	}
	if err := outside.LinkAdd(pair); err != nil {
		return fmt.Errorf("make device %s: %w", Device, err)
	}
	if n.Index, err = indexOf(outside, Device); err != nil {
		return err
	}
	return address(n.inside)
}

func indexOf(h *netlink.Handle, name string) (int, error) {
	link, err := h.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find device %s: %w", name, err)
	}
	return link.Attrs().Index, nil
}

// address brings up the end in the namespace. Nobody there answers ARP.
func address(h *netlink.Handle) error {
	link, err := h.LinkByName(inner)
	if err != nil {
		return fmt.Errorf("find device %s: %w", inner, err)
	}
	own, err := netlink.ParseAddr(Own.String())
	if err != nil {
		return err
	}
	for what, f := range map[string]func() error{
		"turn off IPv6": func() error { return h.LinkSetIP6AddrGenMode(link, nl6None) },
		"turn off ARP":  func() error { return h.LinkSetARPOff(link) },
		"give address":  func() error { return h.AddrAdd(link, own) },
	} {
		if err := f(); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EAFNOSUPPORT) {
			return fmt.Errorf("%s at device %s: %w", what, inner, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring device %s up: %w", inner, err)
	}
	return nil
}

// settle bounds how long the kernel takes to see that both ends are up. Until
// then it drops what is sent.
const settle = 5 * time.Second

// Up brings the device up in the node's namespace: not before it carries its
// program.
func (n *Net) Up() error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: n.Index, Name: Device}}
	_ = h.LinkSetIP6AddrGenMode(link, nl6None) // kernels without IPv6 have none
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring device %s up: %w", Device, err)
	}
	for deadline := time.Now().Add(settle); ; time.Sleep(5 * time.Millisecond) {
		if isUp(h, Device) && isUp(n.inside, inner) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("device %s does not come up", Device)
		}
	}
}

func isUp(h *netlink.Handle, name string) bool {
	link, err := h.LinkByName(name)
	return err == nil && link.Attrs().OperState == netlink.OperUp
}

// Lost tells whether the device has gone from the node's namespace, and with it the
// way to all ports.
func (n *Net) Lost() bool {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return false // it is not known
	}
	defer h.Close()
	link, err := h.LinkByIndex(n.Index)
	var none netlink.LinkNotFoundError
	return errors.As(err, &none) || err == nil && link.Attrs().Name != Device
}

// nl6None is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const nl6None = 1
