package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/contrail-mesos/contrail/internal/simulate"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
	"github.com/contrail-mesos/contrail/test/bench/internal/process"
	"github.com/contrail-mesos/contrail/test/bench/internal/report"
)

// agentsCase is one crowd of agents.
type agentsCase struct {
	name                                  string
	agents, ports, networks, networksEach int
	changes                               int
	churn                                 time.Duration
}

// usualAgents are the crowds of `make bench`: many networks of which each agent
// has some, and one that all have.
func usualAgents() []agentsCase {
	return []agentsCase{
		{"agents1000", 1000, 50, 1000, 20, 50, 10 * time.Second},
		{"agents100-one", 100, 500, 1, 1, 50, 10 * time.Second},
	}
}

const mebibyte = 1 << 20

// measureAgents plays one crowd against a controller of its own.
func (b *bench) measureAgents(ctx context.Context, c agentsCase) (err error) {
	dir := filepath.Join(b.dir, c.name)
	authority, err := ctls.OpenAuthority(filepath.Join(dir, "ca"))
	if err != nil {
		return err
	}
	credentials := filepath.Join(dir, "tls")
	if err := authority.Issue(credentials, ctls.RoleController, ""); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	controller, err := process.Start(b.binary, filepath.Join(dir, "log"), nil, "controller", "--data", filepath.Join(dir, "data"),
		"--run", filepath.Join(dir, "run"), "--tls-dir", credentials, "--listen-tls", address, "--rest", "1s", "--tombstone", "1s")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, controller.Stop()) }()
	socket := filepath.Join(dir, "run", "config.sock")
	if err := process.Eventually(ctx, func() error {
		_, err := os.Stat(socket)
		return err
	}); err != nil {
		return err
	}
	peak := watchPeak(ctx, controller, "control")
	result, err := b.play(ctx, c, address, socket, filepath.Join(dir, "ca"))
	memory := peak()
	if err != nil {
		return fmt.Errorf("%w; the controller wrote: %s", err, lastLines(filepath.Join(dir, "log")))
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.add(c.name+"/converge", ms(result.Converge), 0, "ms", "lower")
	b.add(c.name+"/rss", float64(memory)/mebibyte, 0, "MiB", "lower")
	b.add(c.name+"/change", ms(result.Change.P50), ms(result.Change.P99), "ms", "lower")
	b.add(c.name+"/churn", float64(result.Churn.Changes)/result.Churn.For.Seconds(), 0, "changes/s", "higher")
	b.add(c.name+"/churn-settled", ms(result.Churn.Settled), 0, "ms", "lower")
	return nil
}

// play runs `contrail bench agents`, a process of its own.
func (b *bench) play(ctx context.Context, c agentsCase, control, config, authority string) (*simulate.Result, error) {
	cmd := exec.CommandContext(ctx, b.binary, "bench", "agents", "-o", "json", "--control", control, "--config", "unix:"+config, "--authority", authority,
		"--agents", strconv.Itoa(c.agents), "--ports", strconv.Itoa(c.ports), "--networks", strconv.Itoa(c.networks), "--networks-each", strconv.Itoa(c.networksEach),
		"--changes", strconv.Itoa(c.changes), "--churn", c.churn.String())
	var out, told bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &told
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("play %s: %w: %s", c.name, err, told.String())
	}
	result := new(simulate.Result)
	if err := json.Unmarshal(out.Bytes(), result); err != nil {
		return nil, fmt.Errorf("play %s: %w", c.name, err)
	}
	return result, nil
}

// add records a single measurement.
func (b *bench) add(name string, value, p99 float64, unit, better string) {
	b.results = append(b.results, report.Result{
		Case: name, Value: value, Unit: unit, Runs: 1, P25: value, P75: value, P99: p99, Better: better,
	})
}

// watchPeak follows the anonymous memory of one of a controller's processes,
// and returns a function that ends it with the most there was, in bytes.
func watchPeak(ctx context.Context, p *process.Process, child string) func() int64 {
	ctx, cancel := context.WithCancel(ctx)
	most := make(chan int64, 1)
	go func() {
		var peak int64
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			if children, err := p.Children(); err == nil {
				if n, err := process.Anonymous(children[child]); err == nil {
					peak = max(peak, n)
				}
			}
			select {
			case <-ctx.Done():
				most <- peak
				return
			case <-ticker.C:
			}
		}
	}()
	return func() int64 {
		cancel()
		return <-most
	}
}

// freePort is a port that was free a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// lastLines is the end of a log.
func lastLines(file string) string {
	const most = 2000
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-most):])
}
