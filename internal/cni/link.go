package cni

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/api/portapi"
)

// hostInterfaces are the names that the host's side of an interface may have:
// `tap` and 12 characters of a hash, 15 in all, which is the longest that Linux
// allows. The first is the usual one; the others are for a container that is
// added in a new namespace while its old one still holds the first.
func hostInterfaces(containerID, ifname string) [3]string {
	var names [3]string
	for i := range names {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", containerID, ifname, i))
		names[i] = "tap" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:12]
	}
	return names
}

// namespace is an open network namespace.
type namespace struct {
	file *os.File
	// id is `device:inode`, which is unique as long as the namespace lives.
	id string
}

// openNamespace opens a container's namespace. A path that leads to something
// else, or to the plugin's own namespace, is refused: the plugin would rename
// and address the node's own interfaces.
func openNamespace(path string) (*namespace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	id, err := namespaceID(int(f.Fd()))
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	defer own.Close()
	ownID, err := namespaceID(int(own.Fd()))
	if err == nil && ownID == id {
		err = errors.New("it is the node's own")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	return &namespace{file: f, id: id}, nil
}

func (n *namespace) close() { n.file.Close() }

func namespaceID(fd int) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return "", err
	}
	if fs.Type != unix.NSFS_MAGIC {
		return "", errors.New("not a namespace")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), nil
}

// links is netlink in the node's and in the container's namespace.
type links struct {
	namespace       *namespace
	host, container *netlink.Handle
}

func openLinks(ns *namespace) (*links, error) {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	container, err := netlink.NewHandleAt(netns.NsHandle(ns.file.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		host.Close()
		return nil, fmt.Errorf("open netlink in the container's namespace: %w", err)
	}
	return &links{namespace: ns, host: host, container: container}, nil
}

func (l *links) close() {
	l.host.Close()
	l.container.Close()
}

// createVeth makes the pair with one message: the peer is born in the
// container's namespace under its final name. The host's side stays down: the
// agent sets it up when its port is plugged, so that nothing passes before.
//
// created is false if this very pair was there already. A pair that leads to
// an earlier namespace of the same container is the agent's to remove.
func (l *links) createVeth(containerID, ifname string) (hostName string, created bool, err error) {
	for _, hostName := range hostInterfaces(containerID, ifname) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = hostName
		veth := netlink.NewVeth(attrs)
		veth.PeerName, veth.PeerNamespace = ifname, netlink.NsFd(l.namespace.file.Fd())
		err = l.host.LinkAdd(veth)
		if err == nil {
			return hostName, true, nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return "", false, fmt.Errorf("create interface pair %s and %s: %w", hostName, ifname, err)
		}
		existing, err := l.host.LinkByName(hostName)
		switch {
		case err == nil && l.isPair(existing, ifname):
			return hostName, false, nil
		case isNotFound(err):
			// It is the container's side that exists.
			return "", false, types.NewError(types.ErrInvalidEnvironmentVariables,
				fmt.Sprintf("interface %s exists already in the container, and is not ours; remove it or ask for another CNI_IFNAME", ifname), "")
		case err != nil:
			return "", false, fmt.Errorf("look up interface %s: %w", hostName, err)
		}
	}
	return "", false, fmt.Errorf("create interface pair for %s: all names are taken by earlier namespaces of the container", ifname)
}

// isPair tells whether host's peer is the interface of this container.
func (l *links) isPair(host netlink.Link, ifname string) bool {
	peer, err := l.container.LinkByName(ifname)
	return err == nil && peer.Type() == "veth" && host.Type() == "veth" &&
		peer.Attrs().ParentIndex == host.Attrs().Index && host.Attrs().ParentIndex == peer.Attrs().Index
}

// configure sets the container's side to what the agent answered. All steps
// may be repeated.
func (l *links) configure(ifname string, answer *portapi.AttachResponse) (netlink.Link, error) {
	link, err := l.container.LinkByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("look up interface %s in the container: %w", ifname, err)
	}
	mac, err := net.ParseMAC(answer.MAC)
	if err != nil {
		return nil, fmt.Errorf("set MAC address of %s: %w", ifname, err)
	}
	if err := l.container.LinkSetHardwareAddr(link, mac); err != nil {
		return nil, fmt.Errorf("set MAC address of %s to %s: %w", ifname, mac, err)
	}
	if err := l.container.LinkSetMTU(link, int(answer.MTU)); err != nil {
		return nil, fmt.Errorf("set MTU of %s to %d: %w", ifname, answer.MTU, err)
	}
	if slices.ContainsFunc(answer.Addresses, isIPv6) {
		if answer.MTU < leastIPv6MTU {
			return nil, fmt.Errorf("prepare %s for its IPv6 address: its MTU is %d, IPv6 needs %d: raise the MTU of the nodes' fabric, or give the network no IPv6 subnet", ifname, answer.MTU, leastIPv6MTU)
		}
		if err := l.namespace.prepareIPv6(ifname); err != nil {
			return nil, err
		}
	}
	if err := l.container.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set %s up: %w", ifname, err)
	}
	for _, a := range answer.Addresses {
		prefix, err := prefixOf(a)
		if err != nil {
			return nil, err
		}
		address := &netlink.Addr{IPNet: prefix}
		if isIPv6(a) {
			// Nobody else has it; so it is of use at once, and not after a second.
			address.Flags = unix.IFA_F_NODAD
		}
		if err := l.container.AddrReplace(link, address); err != nil {
			return nil, fmt.Errorf("add address %s to %s: %w", prefix, ifname, err)
		}
	}
	link.Attrs().HardwareAddr, link.Attrs().MTU = mac, int(answer.MTU)
	return link, nil
}

// leastIPv6MTU is that of RFC 8200 section 5: the kernel has no IPv6 on an
// interface with less.
const leastIPv6MTU = 1280

func isIPv6(a portapi.Address) bool { return strings.Contains(a.Address, ":") }

// prepareIPv6 has an interface of the namespace take IPv6, where the node's
// default may be that it does not. All that it needs it is told: it asks no router
// and no neighbour whether an address is its own.
func (n *namespace) prepareIPv6(ifname string) error {
	failed := make(chan error, 1)
	go func() {
		// For good: the thread is in the other namespace, and ends with this.
		runtime.LockOSThread()
		err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET)
		for _, setting := range [][2]string{{"accept_ra", "0"}, {"accept_dad", "0"}, {"disable_ipv6", "0"}} {
			if err == nil {
				err = os.WriteFile("/proc/sys/net/ipv6/conf/"+ifname+"/"+setting[0], []byte(setting[1]), 0)
			}
		}
		failed <- err
	}()
	err := <-failed
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("prepare %s for its IPv6 address: the node's kernel has no IPv6; load or allow it, or give the network no IPv6 subnet: %w", ifname, err)
	}
	if err != nil {
		return fmt.Errorf("prepare %s for its IPv6 address: %w", ifname, err)
	}
	return nil
}

// addDefaultRoutes sends everything that has no other way through the gateways.
func (l *links) addDefaultRoutes(link netlink.Link, addresses []portapi.Address) error {
	for _, a := range addresses {
		gateway := net.ParseIP(a.Gateway)
		if gateway == nil {
			continue
		}
		prefix, err := prefixOf(a)
		if err != nil {
			return err
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway}
		if !prefix.Contains(gateway) {
			route.Flags = int(netlink.FLAG_ONLINK)
		}
		if err := l.container.RouteReplace(route); err != nil {
			return fmt.Errorf("add default route via %s: %w", gateway, err)
		}
	}
	return nil
}

// deleteHostLink removes an interface pair by its host side; an absent one is
// success.
func deleteHostLink(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if isNotFound(err) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

func isNotFound(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV)
}

func prefixOf(a portapi.Address) (*net.IPNet, error) {
	ip := net.ParseIP(a.Address)
	bits := 8 * net.IPv6len
	if v4 := ip.To4(); v4 != nil {
		ip, bits = v4, 8*net.IPv4len
	}
	if ip == nil || a.PrefixLength < 0 || a.PrefixLength > bits {
		return nil, fmt.Errorf("address %s/%d of the vRouter agent's answer is none", a.Address, a.PrefixLength)
	}
	return &net.IPNet{IP: ip, Mask: net.CIDRMask(a.PrefixLength, bits)}, nil
}
