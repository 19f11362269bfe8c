package configapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// patience bounds how long a process may take to answer or to end.
const patience = 2 * time.Minute

// build builds the binary that is measured.
func build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "contrail")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
		"-o", binary, "github.com/contrail-mesos/contrail/cmd/contrail")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return binary, nil
}

// process is a running process of the binary, with all that it starts.
type process struct {
	cmd *exec.Cmd
	log *os.File
}

// start runs the binary. What it writes goes to a file, as it would go to a
// journal.
func start(binary, logFile string, env []string, args ...string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	// The run may be killed: nothing outlives it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return &process{cmd, log}, nil
}

// stop asks the process to end and waits until it has.
func (p *process) stop() error {
	if p == nil {
		return nil
	}
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	if waited := p.cmd.Wait(); waited != nil && p.cmd.ProcessState.ExitCode() != -1 {
		err = errors.Join(err, waited)
	}
	return errors.Join(err, p.log.Close())
}

// children are the process ids of what the process started, by the last of
// the words that say what they are: store, config, control.
func (p *process) children() (map[string]int, error) {
	id := p.cmd.Process.Pid
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

// anonymous is the anonymous memory of a process, in bytes.
func anonymous(pid int) (int64, error) {
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

// controller is `contrail controller` with a directory of its own.
type controller struct {
	*process
	dir    string
	client *http.Client
}

func startController(binary, dir string, args ...string) (*controller, error) {
	c := &controller{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	c.process, err = start(binary, filepath.Join(dir, "log"), nil, append([]string{
		"controller", "--data", filepath.Join(dir, "data"), "--run", filepath.Join(dir, "run"), "--rest", "1s", "--tombstone", "1s",
	}, args...)...)
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "run", "config.sock")
	var dialer net.Dialer
	c.client = &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 256,
		DisableCompression:  true,
		ReadBufferSize:      256 << 10,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}
	return c, nil
}

// ready waits until the API answers requests for objects.
func (c *controller) ready(ctx context.Context) error {
	return eventually(ctx, func() error {
		_, err := c.call(ctx, "GET", "/domains?count=true", "")
		return err
	})
}

func (c *controller) stop() error {
	if c == nil {
		return nil
	}
	c.client.CloseIdleConnections()
	return c.process.stop()
}

// storeSocket is where the controller's own etcd answers.
func (c *controller) storeSocket() string { return filepath.Join(c.dir, "run", "store.sock") }

// bare is an etcd alone, as it is without any setting of ours for its memory.
type bare struct {
	*process
	socket string
}

func startBare(binary, dir, data string) (*bare, error) {
	b := &bare{socket: filepath.Join(dir, "s")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	b.process, err = start(binary, filepath.Join(dir, "log"), []string{"GOGC=100"},
		"controller", "store", "--data", data, "--socket", b.socket)
	return b, err
}

// dial connects to an etcd and waits until it answers.
func dial(ctx context.Context, socket string) (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"unix://" + socket}, Logger: zap.NewNop(), MaxCallSendMsgSize: 16 << 20, MaxCallRecvMsgSize: math.MaxInt32,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}, MinConnectTimeout: time.Second,
		})},
	})
	if err != nil {
		return nil, err
	}
	err = eventually(ctx, func() error {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := client.Get(short, "epoch", clientv3.WithCountOnly())
		return err
	})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return client, nil
}

// eventually tries until it succeeds.
func eventually(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
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
