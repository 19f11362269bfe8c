package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Below the pin directory: maps/NAME_vN, and links/underlay and links/guard or,
// without tcx, links/underlay_filter.
const (
	mapDirName  = "maps"
	linkDirName = "links"
)

func (d *Dataplane) mapDir() string      { return filepath.Join(d.config.PinDir, mapDirName) }
func (d *Dataplane) linkDir() string     { return filepath.Join(d.config.PinDir, linkDirName) }
func (d *Dataplane) underlayPin() string { return filepath.Join(d.linkDir(), "underlay") }
func (d *Dataplane) guardPin() string    { return filepath.Join(d.linkDir(), "guard") }

// makePinDirs makes the directories, after a look at the file system: a plain
// one would take the directories and refuse the pins.
func makePinDirs(pinDir string) error {
	parent := pinDir
	for {
		var st unix.Statfs_t
		err := unix.Statfs(parent, &st)
		if err == nil {
			if st.Type != unix.BPF_FS_MAGIC {
				return fmt.Errorf("pin directory %s: %s is not on a bpf file system; "+
					"mount one: mount -t bpf bpf /sys/fs/bpf", pinDir, parent)
			}
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || parent == "/" {
			return fmt.Errorf("pin directory %s: %w", pinDir, err)
		}
		parent = filepath.Dir(parent)
	}
	for _, name := range []string{mapDirName, linkDirName} {
		if err := os.MkdirAll(filepath.Join(pinDir, name), 0o700); err != nil {
			return fmt.Errorf("make pin directory: %w", err)
		}
	}
	return nil
}

// discardForeign removes pins that another network namespace left. Interface
// indexes mean nothing outside theirs: to adopt them would be to touch other
// devices that happen to have the same. A namespace that still lives keeps its
// pins, and Open fails.
func (d *Dataplane) discardForeign(netns uint64) error {
	m, err := ebpf.LoadPinnedMap(filepath.Join(d.mapDir(), bpfMapNodeV1), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned map %s: %w", bpfMapNodeV1, err)
	}
	defer m.Close()
	var node bpfNode
	if err := m.Lookup(uint32(0), &node); err != nil {
		return fmt.Errorf("read node record: %w", err)
	}
	if node.Netns == netns || node.Netns == 0 {
		return nil
	}
	live, err := d.underlayLives()
	if err != nil {
		return err
	}
	if live {
		return fmt.Errorf("another network namespace uses the pins (its underlay is attached by them); " +
			"give each node its own directory, or end the other one")
	}
	d.log.Warn("removing pins of a network namespace that is gone", "directory", d.config.PinDir)
	if err := RemovePins(d.config.PinDir); err != nil {
		return err
	}
	return makePinDirs(d.config.PinDir)
}

// netnsCookie identifies the calling thread's network namespace, once for all
// until the machine reboots (and then the pins are gone, too).
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("read network namespace's cookie: %w", err)
	}
	return cookie, nil
}
