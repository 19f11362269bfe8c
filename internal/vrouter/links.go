package vrouter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// hostLinks is the node's interfaces. Tests have another.
type hostLinks interface {
	// find returns the index of an interface, 0 if there is none.
	find(name string) (int, error)
	// all returns the interfaces by index.
	all() (map[int]string, error)
	// prepare readies the host side of a pair before it is plugged.
	prepare(index int, name string, mtu uint32) error
	// remove deletes the pair if index still has that name; else it is success.
	remove(index int, name string) error
	// mtu of a device.
	mtu(name string) (uint32, error)
	// watch calls changed whenever an interface has gone, until ctx ends.
	watch(ctx context.Context, changed func()) error
}

// kernelLinks are those of the process's network namespace. All methods are
// safe for concurrent use: a netlink handle serialises its requests.
type kernelLinks struct{ handle *netlink.Handle }

func newKernelLinks() (*kernelLinks, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return &kernelLinks{handle}, nil
}

func (l *kernelLinks) find(name string) (int, error) {
	link, err := l.handle.LinkByName(name)
	if isNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look up interface %s: %w", name, err)
	}
	return link.Attrs().Index, nil
}

func (l *kernelLinks) all() (map[int]string, error) {
	list, err := dataplane.Dump(l.handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := make(map[int]string, len(list))
	for _, link := range list {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	return names, nil
}

func (l *kernelLinks) prepare(index int, name string, mtu uint32) error {
	// The host's own stack has no business with a container: no link-local
	// address, no router solicitations. Kernels without IPv6 lack the file.
	path := filepath.Join("/proc/sys/net/ipv6/conf", name, "disable_ipv6")
	if err := os.WriteFile(path, []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("disable IPv6 of the host on %s: %w", name, err)
	}
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index, Name: name}}
	if mtu == 0 {
		return nil
	}
	if err := l.handle.LinkSetMTU(link, int(mtu)); err != nil {
		return fmt.Errorf("set MTU of %s to %d: %w", name, mtu, err)
	}
	return nil
}

func (l *kernelLinks) remove(index int, name string) error {
	found, err := l.find(name)
	if err != nil || found != index || index == 0 {
		return err
	}
	err = l.handle.LinkDel(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index, Name: name}})
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

func (l *kernelLinks) mtu(name string) (uint32, error) {
	link, err := l.handle.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("look up underlay %s: %w", name, err)
	}
	return uint32(link.Attrs().MTU), nil
}

func (l *kernelLinks) watch(ctx context.Context, changed func()) error {
	updates := make(chan netlink.LinkUpdate, 64)
	done := make(chan struct{})
	failed := make(chan error, 1)
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
		ReceiveBufferSize: 1 << 20,
		ErrorCallback: func(err error) {
			select {
			case failed <- err:
			default:
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	defer func() {
		close(done)
		for range updates { // the library's goroutine ends with the channel
		}
	}()
	changed() // what went before the subscription
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return fmt.Errorf("watch interfaces: %w", err)
		case update, ok := <-updates:
			if !ok {
				return errors.New("watch interfaces: the kernel ended it")
			}
			if update.Header.Type == unix.RTM_DELLINK {
				changed()
			}
		}
	}
}

// UnderlayAddress is the first global IPv4 address of a device.
func UnderlayAddress(device string) (netip.Addr, error) {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("look up underlay %s: %w", device, err)
	}
	addresses, err := dataplane.Dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list addresses of underlay %s: %w", device, err)
	}
	for _, a := range addresses {
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && a.Scope == unix.RT_SCOPE_UNIVERSE {
			return ip, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("underlay %s has no IPv4 address; give one with --address", device)
}

func isNotFound(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV)
}

// linkResync is how often the interfaces are looked at although the kernel
// announced nothing.
const linkResync = time.Minute

// runLinks finds ports whose interface has gone: when its namespace ends, the
// kernel removes the pair. That is positive evidence that the container is
// gone, or cannot use the port any more.
func (a *Agent) runLinks(ctx context.Context) error {
	gone := make(chan struct{}, 1)
	notify := func() {
		select {
		case gone <- struct{}{}:
		default:
		}
	}
	watchCtx, stop := context.WithCancel(ctx)
	defer stop()
	watched := make(chan error, 1)
	start := func() { go func() { watched <- a.links.watch(watchCtx, notify) }() }
	start()
	ticker := time.NewTicker(linkResync)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			<-watched
			return ctx.Err()
		case err := <-watched:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			a.log.Warn("interfaces are watched anew", "error", err)
			start()
			continue
		case <-gone:
		case <-ticker.C:
		}
		a.checkLinks(ctx)
	}
}

// checkLinks detaches all ports whose interface has gone. A failure to look is
// no evidence.
func (a *Agent) checkLinks(ctx context.Context) {
	records, _ := a.registry.all()
	if len(records) == 0 {
		return
	}
	links, err := a.links.all()
	if err != nil {
		a.log.Warn("interfaces cannot be checked", "error", err)
		return
	}
	for _, r := range records {
		if r.isClassic() {
			a.followClassic(r, links)
			continue
		}
		if a.exists(r, links) {
			continue
		}
		if err := a.dropStale(r); err != nil {
			a.log.Warn("stale port cannot be removed and is tried again", "port", r.ID, "error", err)
		}
	}
}
