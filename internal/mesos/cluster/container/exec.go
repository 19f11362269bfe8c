package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Stdio of a command in a container.
type Stdio struct{ In, Out, Err *os.File }

// Exec runs argv in the container of process pid and in its working directory,
// with env added to a plain environment, and waits for it. When ctx ends, the
// command is killed. The command has the capabilities of a container with an
// image, and is not under the limits of the container.
func Exec(ctx context.Context, pid int, argv, env []string, stdio Stdio) (Status, error) {
	if len(argv) == 0 {
		return Status{}, errors.New("run in container: no command given")
	}
	type result struct {
		pidfd int
		err   error
	}
	started := make(chan result, 1)
	ended := make(chan Status, 1)
	go func() {
		// The thread enters the container for good and ends with the goroutine.
		runtime.LockOSThread()
		child, pidfd, err := forkInside(pid, argv, env, stdio)
		started <- result{pidfd, err}
		if err != nil {
			return
		}
		for {
			var ws syscall.WaitStatus
			_, err := syscall.Wait4(child, &ws, 0, nil)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			ended <- statusOf(ws)
			return
		}
	}()
	r := <-started
	if r.err != nil {
		return Status{}, fmt.Errorf("run in container of process %d: %w", pid, r.err)
	}
	defer unix.Close(r.pidfd)
	select {
	case status := <-ended:
		return status, nil
	case <-ctx.Done():
		unix.PidfdSendSignal(r.pidfd, unix.SIGKILL, nil, 0)
		<-ended
		return Status{}, fmt.Errorf("run in container of process %d: %w", pid, ctx.Err())
	}
}

func forkInside(pid int, argv, env []string, stdio Stdio) (child, pidfd int, err error) {
	// All are opened first: /proc of the container shows other numbers.
	kinds := []struct {
		name string
		flag int
		fd   int
	}{
		{"ipc", unix.CLONE_NEWIPC, -1},
		{"uts", unix.CLONE_NEWUTS, -1},
		{"net", unix.CLONE_NEWNET, -1},
		{"pid", unix.CLONE_NEWPID, -1},
		{"mnt", unix.CLONE_NEWNS, -1},
	}
	defer func() {
		for _, k := range kinds {
			if k.fd >= 0 {
				unix.Close(k.fd)
			}
		}
	}()
	for i := range kinds {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kinds[i].name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, 0, fmt.Errorf("open %s namespace: %w", kinds[i].name, err)
		}
		kinds[i].fd = fd
	}
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("open root of container: %w", err)
	}
	defer root.Close()
	dir, err := os.OpenFile(fmt.Sprintf("/proc/%d/cwd", pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("open working directory of container: %w", err)
	}
	defer dir.Close()
	// The mount namespace can be entered only by a thread with a file system
	// context of its own.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return 0, 0, fmt.Errorf("leave shared root: %w", err)
	}
	for _, k := range kinds {
		if err := unix.Setns(k.fd, k.flag); err != nil {
			return 0, 0, fmt.Errorf("enter %s namespace: %w", k.name, err)
		}
	}
	if err := errors.Join(unix.Fchdir(int(root.Fd())), unix.Chroot("."), unix.Fchdir(int(dir.Fd()))); err != nil {
		return 0, 0, fmt.Errorf("enter root of container: %w", err)
	}
	path, err := lookPath(argv[0], env)
	if err != nil {
		return 0, 0, err
	}
	if err := dropCapabilities(); err != nil {
		return 0, 0, err
	}
	child, err = syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Env:   withDefaults(env),
		Files: []uintptr{stdio.In.Fd(), stdio.Out.Fd(), stdio.Err.Fd()},
		Sys:   &syscall.SysProcAttr{PidFD: &pidfd},
	})
	if err != nil {
		return 0, 0, fmt.Errorf("run %s: %w", path, err)
	}
	return child, pidfd, nil
}

func withDefaults(env []string) []string {
	var out []string
	for _, v := range []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"} {
		name, _, _ := strings.Cut(v, "=")
		// The first of two counts for most programs.
		if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") }) {
			out = append(out, v)
		}
	}
	return append(out, env...)
}
