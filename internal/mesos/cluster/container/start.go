package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Launcher starts containers.
type Launcher struct {
	// Init runs Init of this package: the path of a program, and its arguments.
	Init []string
}

// Process is a running container. Safe for concurrent use.
type Process struct {
	process *os.Process
	done    chan struct{}
	status  Status
	err     error
}

// Start makes the container of spec and runs its command, with the two files as
// its standard output and error. An error means that nothing is left running.
// The container is killed when the calling process dies.
func (l Launcher) Start(spec *Spec, stdout, stderr *os.File) (*Process, error) {
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("start container %s: %w", spec.ID, err)
	}
	encoded, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("start container %s: %w", spec.ID, err)
	}
	p := &Process{done: make(chan struct{})}
	started := make(chan error, 1)
	go l.run(p, spec.NetNS, encoded, stdout, stderr, started)
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("start container %s: %w", spec.ID, err)
	}
	return p, nil
}

// run owns an OS thread for the life of the container: the thread enters the
// network namespace, is the parent that the kernel watches for PDEATHSIG, and
// ends with this goroutine because it is never unlocked.
func (l Launcher) run(p *Process, netNS string, spec []byte, stdout, stderr *os.File, started chan<- error) {
	runtime.LockOSThread()
	defer close(p.done)
	reports, err := l.fork(p, netNS, spec, stdout, stderr)
	if err != nil {
		started <- err
		return
	}
	defer reports.Close()
	decoder := json.NewDecoder(reports)
	var first report
	err = decoder.Decode(&first)
	switch {
	case err != nil:
		err = fmt.Errorf("container-init ended before it said anything: %w", err)
	case first.Error != "":
		err = errors.New(first.Error)
	}
	if err != nil {
		p.process.Kill()
		p.process.Wait()
		started <- err
		return
	}
	started <- nil
	var last report
	decodeErr := decoder.Decode(&last)
	state, waitErr := p.process.Wait()
	switch {
	case decodeErr == nil && last.Status != nil:
		p.status = *last.Status
	case waitErr != nil:
		p.err = fmt.Errorf("wait for container-init: %w", waitErr)
	default:
		// Killed from outside: the command died of the same.
		ws, _ := state.Sys().(syscall.WaitStatus)
		p.status = statusOf(ws)
	}
}

func (l Launcher) fork(p *Process, netNS string, spec []byte, stdout, stderr *os.File) (*os.File, error) {
	if netNS != "" {
		if err := enter(netNS, unix.CLONE_NEWNET); err != nil {
			return nil, err
		}
	}
	specRead, specWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer specRead.Close()
	defer specWrite.Close()
	reportRead, reportWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer reportWrite.Close()
	cmd := exec.Cmd{
		Path:       l.Init[0],
		Args:       append([]string{"contrail"}, l.Init[1:]...),
		Env:        []string{},
		Dir:        "/",
		Stdout:     stdout,
		Stderr:     stderr,
		ExtraFiles: []*os.File{specRead, reportWrite},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
			Pdeathsig:  syscall.SIGKILL,
			Setsid:     true,
		},
	}
	if err := cmd.Start(); err != nil {
		reportRead.Close()
		return nil, fmt.Errorf("start container-init: %w", err)
	}
	p.process = cmd.Process
	// A closed reader means that it died, which its reports tell better.
	if _, err := specWrite.Write(spec); err != nil && !errors.Is(err, unix.EPIPE) {
		p.process.Kill()
		p.process.Wait()
		reportRead.Close()
		return nil, fmt.Errorf("send spec to container-init: %w", err)
	}
	return reportRead, nil
}

func enter(path string, kind int) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), kind); err != nil {
		return fmt.Errorf("enter namespace %s: %w", path, err)
	}
	return nil
}

// PID of the container's PID 1 in the caller's PID namespace.
func (p *Process) PID() int { return p.process.Pid }

// Done is closed when the container has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status blocks until the container has ended and says how.
func (p *Process) Status() (Status, error) {
	<-p.done
	return p.status, p.err
}

// Terminate sends SIGTERM to every process of the container but PID 1.
func (p *Process) Terminate() error { return p.signal(syscall.SIGTERM) }

// Kill ends every process of the container at once.
func (p *Process) Kill() error { return p.signal(syscall.SIGKILL) }

func (p *Process) signal(s syscall.Signal) error {
	if err := p.process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to container: %w", s, err)
	}
	return nil
}

func statusOf(ws syscall.WaitStatus) Status {
	if ws.Signaled() {
		return Status{Signal: int(ws.Signal())}
	}
	return Status{Code: ws.ExitStatus()}
}

// readAll bounds what container-init accepts as its spec.
func readAll(r io.Reader) ([]byte, error) {
	const limit = 4 << 20
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && len(data) > limit {
		err = fmt.Errorf("spec is longer than %d bytes", limit)
	}
	return data, err
}
