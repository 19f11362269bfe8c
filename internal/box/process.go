package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Marks in the environment of every process that the box starts. Children
// inherit them; so a process of the cluster is found whoever its parent was.
const (
	markBox         = "CONTRAIL_BOX"
	markComponent   = "CONTRAIL_BOX_COMPONENT"
	markFingerprint = "CONTRAIL_BOX_FINGERPRINT"
)

// process is a running process of the cluster.
type process struct {
	pid         int
	component   string
	fingerprint string
	// leader: it leads its session, as what the box starts itself does.
	leader bool
	// args is its command line.
	args []string
	// started is when it started, in clock ticks since boot.
	started uint64
}

// findProcesses lists what carries the cluster's mark, and what belongs to it
// without one. What ends meanwhile is left out.
func (c *Config) findProcesses() ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if p, ok := readProcess(pid); ok && (p.box == c.Name || c.belongs(p.process)) {
			found = append(found, p.process)
		}
	}
	return found, nil
}

type markedProcess struct {
	process
	box string
}

// belongs tells whether an unmarked process is the cluster's all the same: an
// executor, which is our program with a place under the run directory among its
// arguments, or the plugin that is installed for this cluster. Both have an
// environment of their own.
func (c *Config) belongs(p process) bool {
	program, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(p.pid), "exe"))
	if err != nil {
		return false
	}
	if strings.HasPrefix(program, c.pluginsDir()+"/") {
		return true
	}
	return strings.HasPrefix(filepath.Base(program), "contrail") &&
		slices.ContainsFunc(p.args, func(arg string) bool { return strings.HasPrefix(arg, c.runDir()+"/") })
}

func readProcess(pid int) (markedProcess, bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	environ, err := os.ReadFile(filepath.Join(dir, "environ"))
	if err != nil {
		return markedProcess{}, false
	}
	p := markedProcess{process: process{pid: pid}}
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		key, value, _ := strings.Cut(string(entry), "=")
		switch key {
		case markBox:
			p.box = value
		case markComponent:
			p.component = value
		case markFingerprint:
			p.fingerprint = value
		}
	}
	cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return markedProcess{}, false
	}
	p.args = strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
	var session int
	if p.started, session, err = readStat(dir); err != nil {
		return markedProcess{}, false
	}
	p.leader = session == pid
	return p, true
}

// readStat gives a process's start time in ticks and its session; a zombie is
// as good as gone.
func readStat(dir string) (started uint64, session int, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, 0, err
	}
	// proc_pid_stat(5): the command, in parentheses, may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0, 0, fs.ErrNotExist
	}
	session, err = strconv.Atoi(fields[3])
	if err != nil {
		return 0, 0, err
	}
	started, err = strconv.ParseUint(fields[19], 10, 64)
	return started, session, err
}

// runs tells whether the process with this pid is the one that started then.
func runs(pid int, started uint64) bool {
	if pid <= 0 {
		return false
	}
	now, _, err := readStat(filepath.Join("/proc", strconv.Itoa(pid)))
	return err == nil && now == started
}

// handle is a hold on one process that cannot be mistaken for a later one with
// the same pid.
type handle struct{ file *os.File }

// openProcess takes hold of p; fs.ErrNotExist says that it is gone.
func openProcess(p process) (*handle, error) {
	fd, err := unix.PidfdOpen(p.pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			err = fs.ErrNotExist
		}
		return nil, fmt.Errorf("take hold of process %d: %w", p.pid, err)
	}
	h := &handle{os.NewFile(uintptr(fd), "pidfd")}
	if !runs(p.pid, p.started) {
		h.file.Close()
		return nil, fmt.Errorf("take hold of process %d: %w", p.pid, fs.ErrNotExist)
	}
	return h, nil
}

func (h *handle) signal(sig unix.Signal) error {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Control(func(fd uintptr) { sendErr = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	if errors.Is(sendErr, unix.ESRCH) {
		sendErr = nil
	}
	return errors.Join(err, sendErr)
}

// wait blocks until the process has ended, or ctx has.
func (h *handle) wait(ctx context.Context) error {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = h.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (h *handle) close() { h.file.Close() }

// stopProcesses asks the processes to end, and ends those that have not after
// the grace.
func stopProcesses(ctx context.Context, processes []process, grace time.Duration) error {
	var handles []*handle
	defer func() {
		for _, h := range handles {
			h.close()
		}
	}()
	for _, p := range processes {
		h, err := openProcess(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		handles = append(handles, h)
	}
	ended := func(signal unix.Signal, within time.Duration) bool {
		limit, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		all := true
		for _, h := range handles {
			_ = h.signal(signal)
		}
		for _, h := range handles {
			all = h.wait(limit) == nil && all
		}
		return all
	}
	if grace > 0 && ended(unix.SIGTERM, grace) || ended(unix.SIGKILL, 10*time.Second) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.New("processes do not end even when killed; see `ps -o pid,stat,wchan,cmd` for what they wait for")
}

// processesOf lists the processes in network namespaces that are mounted below
// dir: the tasks' containers.
func processesOf(dir string) ([]process, error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	mounted := make(map[string]bool)
	for _, m := range mounts {
		if m.kind == "nsfs" && strings.HasPrefix(m.point, dir+"/") {
			mounted[m.root] = true // net:[4026532000]
		}
	}
	if len(mounted) == 0 {
		return nil, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		path := filepath.Join("/proc", entry.Name())
		namespace, err := os.Readlink(filepath.Join(path, "ns/net"))
		if err != nil || !mounted[namespace] {
			continue
		}
		if started, _, err := readStat(path); err == nil {
			found = append(found, process{pid: pid, started: started})
		}
	}
	return found, nil
}
