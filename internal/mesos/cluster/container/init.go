package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Descriptors that Launcher.Start hands over.
const (
	specFD   = 3
	reportFD = 4
)

// Init is PID 1 of a container: it builds the container from the spec on
// descriptor 3, runs the command, reports on descriptor 4 and returns the exit
// code of this process.
func Init() int {
	unix.CloseOnExec(specFD)
	unix.CloseOnExec(reportFD)
	reports := json.NewEncoder(os.NewFile(reportFD, "reports"))
	terminate := make(chan os.Signal, 8)
	signal.Notify(terminate, unix.SIGTERM)
	pid, err := launch()
	if err != nil {
		reports.Encode(report{Error: err.Error()})
		return 1
	}
	if err := reports.Encode(report{}); err != nil {
		return 1
	}
	go func() {
		for range terminate {
			unix.Kill(-1, unix.SIGTERM) // everyone but this process
		}
	}()
	status := reap(pid)
	if err := reports.Encode(report{Status: &status}); err != nil {
		return 1
	}
	return 0
}

func launch() (int, error) {
	data, err := readAll(os.NewFile(specFD, "spec"))
	if err != nil {
		return 0, fmt.Errorf("read spec: %w", err)
	}
	var spec Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return 0, fmt.Errorf("decode spec: %w", err)
	}
	group, err := spec.Cgroup.open()
	if err != nil {
		return 0, err
	}
	defer group.close()
	if spec.Hostname != "" {
		if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
			return 0, fmt.Errorf("set host name %q: %w", spec.Hostname, err)
		}
	}
	if spec.NetNS != "" {
		if err := loopbackUp(); err != nil {
			return 0, err
		}
	}
	if err := mountAll(&spec); err != nil {
		return 0, err
	}
	var pid int
	onSideThread(func() { pid, err = fork(&spec, group) })
	return pid, err
}

// onSideThread runs f on a thread that ends with it and is not the process's
// first: the memory of a process is accounted to the cgroup of its first thread.
func onSideThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			onSideThread(f) // this thread is held meanwhile
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

// fork runs the command. Capabilities, cgroups (version 1) and no_new_privs are
// those of the thread that forks; what is changed here is never undone.
func fork(spec *Spec, group *openEntry) (int, error) {
	command := spec.Command
	if spec.Root != nil {
		if err := os.MkdirAll(command.Dir, 0o755); err != nil {
			return 0, fmt.Errorf("make working directory: %w", err)
		}
	}
	path, err := lookPath(command.Path, command.Env)
	if err != nil {
		return 0, err
	}
	attr := &syscall.ProcAttr{
		Dir:   command.Dir,
		Env:   command.Env,
		Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Credential: &syscall.Credential{Uid: command.UID, Gid: command.GID},
		},
	}
	if err := group.join(attr.Sys); err != nil {
		return 0, err
	}
	if !spec.KeepCapabilities {
		if err := dropCapabilities(); err != nil {
			return 0, err
		}
	}
	if spec.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return 0, fmt.Errorf("forbid new privileges: %w", err)
		}
	}
	pid, err := syscall.ForkExec(path, command.Args, attr)
	if err != nil {
		return 0, fmt.Errorf("run %s in %s: %w", path, command.Dir, err)
	}
	return pid, nil
}

// reap waits for every process that ends up with PID 1, until the command ends.
func reap(command int) Status {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return Status{Code: 255} // ECHILD: impossible while the command lives
		case pid == command && (ws.Exited() || ws.Signaled()):
			return statusOf(ws)
		}
	}
}

// lookPath finds a program by the PATH of env, in the container.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		candidate := filepath.Join(dir, name)
		info, err := os.Stat(candidate)
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("program %q is not in %s of the container", name, path)
}

// loopbackUp brings lo up, as Mesos does after the plugins have run.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
