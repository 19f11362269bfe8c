package box

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	bridgeName = "fabric"
	uplinkName = "eth0"
	// bpfSource marks a bpffs that a box mounted: Down may unmount it.
	bpfSource = "contrail-box"
)

// ensureNetwork makes what is missing of the fabric and the nodes' links to it.
func (c *Config) ensureNetwork(nodes int) error {
	if err := ensureNamespace(c.fabric()); err != nil {
		return err
	}
	err := inNamespace(c.fabric(), func() error {
		if err := ensureUp("lo"); err != nil {
			return err
		}
		return ensureBridge()
	})
	if err != nil {
		return fmt.Errorf("set up %s: %w", c.fabric(), err)
	}
	for n := 1; n <= nodes; n++ {
		if err := c.ensureNode(n); err != nil {
			return fmt.Errorf("set up %s: %w", c.node(n), err)
		}
	}
	return nil
}

func ensureBridge() error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
	if err := netlink.LinkAdd(bridge); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("create bridge %s: %w", bridgeName, err)
	}
	if err := ensureAddress(bridgeName, fabricAddress); err != nil {
		return err
	}
	return ensureUp(bridgeName)
}

// ensureNode makes the node's namespace and its veth: one end is a port of the
// bridge, the other is the node's eth0.
func (c *Config) ensureNode(n int) error {
	if err := ensureNamespace(c.node(n)); err != nil {
		return err
	}
	node, err := os.Open(filepath.Join(netnsDir, c.node(n)))
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer node.Close()
	port := "node-" + strconv.Itoa(n)
	err = inNamespace(c.fabric(), func() error {
		bridge, err := netlink.LinkByName(bridgeName)
		if err != nil {
			return fmt.Errorf("find bridge %s: %w", bridgeName, err)
		}
		veth := &netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: port, MasterIndex: bridge.Attrs().Index},
			PeerName:      uplinkName,
			PeerNamespace: netlink.NsFd(node.Fd()),
		}
		if err := netlink.LinkAdd(veth); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("create link %s: %w", port, err)
		}
		return ensureUp(port)
	})
	if err != nil {
		return err
	}
	return inNamespace(c.node(n), func() error {
		if err := ensureUp("lo"); err != nil {
			return err
		}
		if err := ensureAddress(uplinkName, c.nodeAddress(n)); err != nil {
			return err
		}
		return ensureUp(uplinkName)
	})
}

func ensureUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	return nil
}

func ensureAddress(name, address string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	ip, network, err := net.ParseCIDR(address + fabricPrefix)
	if err != nil {
		return fmt.Errorf("address of %s: %w", name, err)
	}
	network.IP = ip
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: network}); err != nil {
		return fmt.Errorf("give %s the address %s: %w", name, network, err)
	}
	return nil
}

// removeNetwork removes the namespaces, and with them their links.
func (c *Config) removeNetwork() error {
	entries, err := os.ReadDir(netnsDir)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("list network namespaces: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		if entry.Name() == c.fabric() || c.isNode(entry.Name()) {
			errs = append(errs, removeNamespace(entry.Name()))
		}
	}
	return errors.Join(errs...)
}

// isNode tells whether a namespace's name is one of this cluster's nodes.
func (c *Config) isNode(name string) bool {
	number, ok := strings.CutPrefix(name, c.Name+"-node-")
	if !ok {
		return false
	}
	_, err := strconv.Atoi(number)
	return err == nil
}

// ensureBPF mounts the BPF file system where it is missing.
func ensureBPF() error {
	return withRunLock(func() error {
		if isBPF() {
			return nil
		}
		if err := unix.Mount(bpfSource, bpfRoot, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
			return fmt.Errorf("mount the BPF file system on %s: %w", bpfRoot, err)
		}
		return nil
	})
}

// removeBPF unpins everything of the cluster, and unmounts the file system if
// a box mounted it and nobody else pins there.
func (c *Config) removeBPF() error {
	return withRunLock(func() error {
		if !isBPF() {
			return nil
		}
		if err := os.RemoveAll(c.pins()); err != nil {
			return fmt.Errorf("remove pins %s: %w", c.pins(), err)
		}
		left, err := os.ReadDir(bpfRoot)
		if err != nil || slices.ContainsFunc(left, isPin) {
			return err
		}
		mounts, err := readMounts()
		if err != nil {
			return err
		}
		for _, m := range mounts {
			if m.point == bpfRoot && m.source == bpfSource {
				// Busy means that somebody is about to pin: it stays then.
				if err := unix.Unmount(bpfRoot, 0); err != nil && !errors.Is(err, unix.EBUSY) {
					return fmt.Errorf("unmount %s: %w", bpfRoot, err)
				}
			}
		}
		return nil
	})
}

// isPin tells somebody's pin from the iterators that the kernel puts into a
// new BPF file system.
func isPin(entry os.DirEntry) bool { return !strings.HasSuffix(entry.Name(), ".debug") }

func isBPF() bool {
	var st unix.Statfs_t
	return unix.Statfs(bpfRoot, &st) == nil && st.Type == unix.BPF_FS_MAGIC
}

// withRunLock holds a lock that all boxes of the machine share. It is on a
// directory that is always there, so nothing is left of it.
func withRunLock(f func() error) error {
	dir, err := os.Open("/run")
	if err != nil {
		return fmt.Errorf("lock /run: %w", err)
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock /run: %w", err)
	}
	return f()
}
