// Package process runs the processes that a benchmark measures: built once,
// started with a file for what they write, stopped and waited for.
package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Patience bounds how long a process may take to answer or to end: one with a
// million objects takes minutes where others use the machine.
const Patience = 10 * time.Minute

// Build builds the binary that is measured.
func Build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "contrail")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
		"-o", binary, "github.com/contrail-mesos/contrail/cmd/contrail")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return binary, nil
}

// Process is a running process of the binary, with all that it starts.
type Process struct {
	// Cmd has been started.
	Cmd *exec.Cmd
	log *os.File
	// ended is closed when it has ended.
	ended chan struct{}
}

// Start runs the binary. What it writes goes to a file, as it would go to a
// journal.
func Start(binary, logFile string, env []string, args ...string) (*Process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	// The run may be killed: nothing outlives it. What ends the process is the end
	// of the thread that started it, which others may end: it has one of its own.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	p := &Process{cmd, log, make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			<-p.ended
		}
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return p, nil
}

// Stop asks the process to end and waits until it has.
func (p *Process) Stop() error {
	if p == nil {
		return nil
	}
	err := p.Cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(Patience, func() { _ = p.Cmd.Process.Kill() })
	defer timer.Stop()
	if waited := p.Cmd.Wait(); waited != nil && p.Cmd.ProcessState.ExitCode() != -1 {
		err = errors.Join(err, waited)
	}
	close(p.ended)
	return errors.Join(err, p.log.Close())
}

// Children are the process ids of what the process started, by the last of
// the words that say what they are: store, config, control.
func (p *Process) Children() (map[string]int, error) {
	id := p.Cmd.Process.Pid
	found := map[string]int{}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", id))
	if err != nil {
		return nil, err
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			return nil, err
		}
		for _, word := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				return nil, err
			}
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
			if err != nil {
				return nil, err
			}
			if args := strings.Split(string(line), "\x00"); len(args) > 2 {
				found[args[2]] = child
			}
		}
	}
	return found, nil
}

// Anonymous is the anonymous memory of a process, in bytes.
func Anonymous(pid int) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kilobytes int64
		if n, _ := fmt.Sscanf(lines.Text(), "RssAnon: %d kB", &kilobytes); n == 1 {
			return kilobytes << 10, nil
		}
	}
	return 0, fmt.Errorf("process %d has no RssAnon", pid)
}

// Eventually tries until it succeeds.
func Eventually(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// FreeAddresses are TCP addresses of the loopback on which nobody listened a
// moment ago.
func FreeAddresses(n int) ([]string, error) {
	var list []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // not before the next has another
		list = append(list, l.Addr().String())
	}
	return list, nil
}
