package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mountAll makes the mount namespace of this process that of the container.
//
// Sources of binds are opened before the root changes and attached afterwards:
// every path inside is then resolved by the kernel within the container's own
// root, so no symbolic link of an image leads out of it.
func mountAll(spec *Spec) error {
	// Slave, not private: when the host unmounts another container's network
	// namespace, the copy here goes too.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("separate mounts from the host: %w", err)
	}
	trees := make([]int, 0, len(spec.Binds))
	defer func() {
		for _, fd := range trees {
			unix.Close(fd)
		}
	}()
	for _, b := range spec.Binds {
		fd, err := unix.OpenTree(unix.AT_FDCWD, b.Source,
			unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return fmt.Errorf("open %s for a bind mount: %w", b.Source, err)
		}
		trees = append(trees, fd)
	}
	if spec.Root == nil {
		if err := mountProc(); err != nil {
			return err
		}
		return attachAll(spec, trees)
	}
	if err := changeRoot(spec.Root); err != nil {
		return err
	}
	if err := mountSystem(); err != nil {
		return err
	}
	return attachAll(spec, trees)
}

func attachAll(spec *Spec, trees []int) error {
	for i, b := range spec.Binds {
		if err := attach(b, trees[i], spec.Root != nil); err != nil {
			return fmt.Errorf("mount %s on %s: %w", b.Source, b.Target, err)
		}
	}
	return nil
}

// changeRoot mounts the overlay and leaves the host's file system for good.
func changeRoot(root *Root) error {
	if err := os.Chdir(root.LayersDir); err != nil {
		return fmt.Errorf("find image layers: %w", err)
	}
	if len(root.Layers) == 0 { // an empty image: all there is is what is written
		if err := unix.Mount(root.Upper, root.Target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount root file system: %w", err)
		}
	} else {
		lower := make([]string, len(root.Layers))
		for i, layer := range root.Layers {
			lower[len(lower)-1-i] = layer // overlayfs wants the top first
		}
		options := "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + root.Upper + ",workdir=" + root.Work
		if len(options) >= os.Getpagesize() {
			return fmt.Errorf("mount root file system: options for %d layers do not fit a page", len(lower))
		}
		if err := unix.Mount("overlay", root.Target, "overlay", 0, options); err != nil {
			return fmt.Errorf("mount root file system: %w", err)
		}
	}
	if err := os.Chdir(root.Target); err != nil {
		return fmt.Errorf("enter root file system: %w", err)
	}
	// With both arguments equal the old root ends up on top of the new one.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("enter root file system: %w", err)
	}
	return nil
}

const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

func mountProc() error {
	if err := unix.Mount("proc", "/proc", "proc", quiet, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// mountSystem gives an image the kernel's file systems.
func mountSystem() error {
	for _, m := range []struct {
		target, kind string
		flags        uintptr
		options      string
	}{
		{"/proc", "proc", quiet, ""},
		{"/sys", "sysfs", quiet | unix.MS_RDONLY, ""},
		{"/dev", "tmpfs", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=755,size=64k"},
		{"/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{"/dev/shm", "tmpfs", quiet, "mode=1777,size=64m"},
	} {
		if err := makeDirectory(m.target); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
		if err := unix.Mount(m.kind, m.target, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return errors.Join(makeDevices(), protectSystem())
}

// makeDirectory replaces a symbolic link by a directory: nothing of the
// container's own may be shadowed through it.
func makeDirectory(path string) error {
	info, err := os.Lstat(path)
	if err == nil && !info.IsDir() {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return os.MkdirAll(path, 0o755)
}

func makeDevices() error {
	for _, d := range []struct {
		name         string
		major, minor uint32
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}} {
		path := "/dev/" + d.name
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
		if err := os.Chmod(path, 0o666); err != nil { // the umask has its say in mknod
			return fmt.Errorf("make %s: %w", path, err)
		}
	}
	for name, to := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
		"stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(to, "/dev/"+name); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
	}
	return nil
}

// protectSystem makes the machine-wide switches read-only and hides what tells
// about the machine's memory, firmware and power: root inside is root to these
// files. Mesos does neither.
func protectSystem() error {
	for _, path := range []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"} {
		err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "")
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err == nil {
			err = unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|quiet, "")
		}
		if err != nil {
			return fmt.Errorf("protect %s: %w", path, err)
		}
	}
	for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/timer_stats", "/proc/latency_stats", "/proc/sched_debug"} {
		err := unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("hide %s: %w", path, err)
		}
	}
	for _, path := range []string{"/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"} {
		err := unix.Mount("tmpfs", path, "tmpfs", quiet|unix.MS_RDONLY, "size=4k")
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("hide %s: %w", path, err)
		}
	}
	return nil
}

// attach puts an opened tree on its target. Without an image the target is a
// file of the host, which must exist: nothing of the host is created or removed.
func attach(b Bind, tree int, image bool) error {
	var stat unix.Stat_t
	if err := unix.Fstat(tree, &stat); err != nil {
		return err
	}
	if image {
		if err := makeTarget(b.Target, stat.Mode&unix.S_IFMT == unix.S_IFDIR); err != nil {
			return err
		}
	} else if _, err := os.Stat(b.Target); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, b.Target, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS); err != nil {
		return err
	}
	var flags uintptr
	if b.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	if b.Inert {
		flags |= quiet
	}
	if flags == 0 {
		return nil
	}
	return unix.Mount("", b.Target, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "")
}

// makeTarget creates what is missing; a symbolic link in place of a file is
// replaced, as Mesos does for /etc/resolv.conf.
func makeTarget(path string, directory bool) error {
	if directory {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode()&fs.ModeSymlink == 0:
		return nil
	case err == nil:
		if err := os.Remove(path); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}
