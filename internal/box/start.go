package box

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// searchPath is the PATH of every process that the box starts.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// start starts the component's process in its namespace, in a session of its
// own, with its log and its open listeners.
func (s *Supervisor) start(c component) (*running, error) {
	var inherited []*os.File
	defer func() {
		for _, f := range inherited {
			f.Close()
		}
	}()
	for _, address := range c.open {
		f, err := openListener(address)
		if err != nil {
			return nil, err
		}
		inherited = append(inherited, f)
	}
	cmd, err := s.cfg.command(c.name, s.fingerprint(c), c.args)
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = inherited
	err = inNamespace(c.namespace, cmd.Start)
	closeOutput(cmd)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	s.log.Info("component started", "name", c.name, "pid", cmd.Process.Pid)
	run := &running{process: process{pid: cmd.Process.Pid}}
	run.started, _, _ = readStat(fmt.Sprintf("/proc/%d", cmd.Process.Pid))
	ended := make(chan string, 1)
	go func() {
		_ = cmd.Wait()
		ended <- cmd.ProcessState.String()
	}()
	run.wait = func(ctx context.Context) string {
		select {
		case <-ctx.Done():
			return ctx.Err().Error()
		case how := <-ended:
			return how
		}
	}
	return run, nil
}

// openListener opens a loopback address of the namespace that this process is
// in, for a component to inherit.
func openListener(address string) (*os.File, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", address, err)
	}
	defer l.Close()
	return l.(*net.TCPListener).File()
}

// command prepares a process of the cluster: marked, detached from the
// terminal and its session, writing to its log.
func (c *Config) command(name, fingerprint string, args []string) (*exec.Cmd, error) {
	cmd := exec.Command(c.Binary, args...)
	cmd.Dir = "/"
	cmd.Env = []string{
		"PATH=" + searchPath, markBox + "=" + c.Name, markComponent + "=" + name, markFingerprint + "=" + fingerprint,
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	path := c.logFile(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, nil
}

func closeOutput(cmd *exec.Cmd) { cmd.Stdout.(*os.File).Close() }

// fingerprint changes when a component's process has to be replaced.
func (s *Supervisor) fingerprint(c component) string {
	return fingerprint(s.binary, c.namespace, strings.Join(c.args, "\x00"))
}

func fingerprint(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x01")))
	return hex.EncodeToString(sum[:8])
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read binary: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read binary %s: %w", path, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// lastLine is the end of a log, for saying why its component ended.
func lastLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 4096
	if info, err := f.Stat(); err == nil && info.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return ""
		}
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte{'\n'})
	return string(lines[len(lines)-1])
}
