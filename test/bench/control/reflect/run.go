package reflect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/contrail-mesos/contrail/internal/nstest"
	"github.com/contrail-mesos/contrail/test/bench/internal/report"
	"github.com/contrail-mesos/contrail/test/bench/internal/scope"
)

const defaultRounds = 5

// benchCase is a number of routes from one client to others.
type benchCase struct {
	name      string
	routes    int
	receivers int
	rounds    int // at most, 0 for no bound
	// slow is how often variants run that take minutes for it.
	slow int
}

func cases() []benchCase {
	all := []benchCase{
		{"reflect100k", 100_000, 1, 0, 3},
		{"reflect100k-10", 100_000, 10, 3, 1},
	}
	if os.Getenv("FULL") != "" {
		all = append(all, benchCase{"reflect1m", 1_000_000, 1, 1, 1})
	}
	return all
}

// Run measures; rounds is 0 for the default. It needs root.
func Run(ctx context.Context, rounds int) ([]report.Result, error) {
	if rounds == 0 {
		rounds = defaultRounds
	}
	return run(ctx, rounds, cases())
}

func run(ctx context.Context, rounds int, cases []benchCase) ([]report.Result, error) {
	samples := report.NewSamples()
	for round := range rounds {
		for _, c := range cases {
			if c.rounds > 0 && round >= c.rounds {
				continue
			}
			if err := oneRound(ctx, c, round, samples); err != nil {
				return nil, err
			}
		}
		fmt.Fprintf(os.Stderr, "reflection: round %d of %d\n", round+1, rounds)
	}
	var results []report.Result
	for _, c := range cases {
		for _, what := range []struct {
			name, unit string
			targets    map[string]float64
		}{{"elapsed", "s", nil}, {"cpu", "s", map[string]float64{"frr": 1}}, {"rss", "MiB", nil}} {
			r := samples.Result(c.name+"/"+what.name, ours, what.unit, "lower", what.targets)
			r.Case = c.name + "/" + what.name
			results = append(results, r)
		}
	}
	return results, nil
}

func oneRound(ctx context.Context, c benchCase, round int, samples report.Samples) error {
	messages := updates(c.routes)
	all := variants()
	turn := round % len(all) // so that no one always follows the same
	for _, v := range slices.Concat(all[turn:], all[:turn]) {
		if v.name == "gobgpd" && round >= c.slow {
			continue
		}
		f, err := measure(ctx, c, v, messages)
		if err != nil {
			return fmt.Errorf("%s with %s: %w", c.name, v.name, err)
		}
		samples.Add(c.name+"/elapsed", v.name, f.elapsed.Seconds())
		samples.Add(c.name+"/cpu", v.name, f.cpu.Seconds())
		samples.Add(c.name+"/rss", v.name, f.rss)
	}
	return nil
}

type figures struct {
	elapsed, cpu time.Duration
	rss          float64 // MiB
}

// measure runs one variant once, in namespaces of its own.
func measure(ctx context.Context, c benchCase, v variant, messages []byte) (f figures, err error) {
	s := &scope.Scope{}
	err = s.Run(func() error {
		clients := make([]netip.Addr, 1+c.receivers)
		for i := range clients {
			clients[i] = clientAddr(i)
		}
		server, outside := wire(s, clients)
		dir, err := os.MkdirTemp("", "bench-control-")
		if err != nil {
			return err
		}
		s.Cleanup(func() { os.RemoveAll(dir) })
		cmd, err := v.command(dir, clients)
		if err != nil {
			return err
		}
		var output bytes.Buffer
		cmd.Stdout, cmd.Stderr = &output, &output
		if err := server.Start(cmd); err != nil {
			return fmt.Errorf("start (make setup installs it): %w", err)
		}
		s.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		f, err = exchange(ctx, c, outside, cmd, clients, messages)
		if err != nil {
			return fmt.Errorf("%w; its output: %s", err, strings.TrimSpace(output.String()))
		}
		return nil
	})
	return f, err
}

// wire joins two namespaces; the second has all clients' addresses.
func wire(s *scope.Scope, clients []netip.Addr) (server, outside *nstest.NS) {
	server, outside = nstest.New(s, "server"), nstest.New(s, "clients")
	nstest.Veth(s, server, "eth0", outside, "eth0")
	server.Up("eth0", netip.PrefixFrom(serverAddr, 24))
	var prefixes []netip.Prefix
	for _, c := range clients {
		prefixes = append(prefixes, netip.PrefixFrom(c, 24))
	}
	outside.Up("eth0", prefixes...)
	return server, outside
}

// exchange opens all sessions, sends, and waits until all have all.
func exchange(ctx context.Context, c benchCase, ns *nstest.NS, cmd *exec.Cmd, addrs []netip.Addr, messages []byte) (f figures, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	clients := make([]*client, len(addrs))
	for i, a := range addrs {
		if clients[i], err = connect(ctx, ns, a); err != nil {
			return f, err
		}
		defer clients[i].Close()
	}
	stop := context.AfterFunc(ctx, func() {
		for _, c := range clients {
			c.Close()
		}
	})
	defer stop()
	before, err := cpuTime(cmd.Process.Pid)
	if err != nil {
		return f, err
	}
	began := time.Now()
	var g errgroup.Group
	for _, receiver := range clients[1:] {
		g.Go(func() error { return receiver.receive(c.routes) })
	}
	go clients[0].discard()
	if _, err := clients[0].Write(messages); err != nil {
		return f, fmt.Errorf("send: %w", err)
	}
	if err := g.Wait(); err != nil {
		return f, fmt.Errorf("receive: %w", err)
	}
	f.elapsed = time.Since(began)
	after, err := cpuTime(cmd.Process.Pid)
	if err != nil {
		return f, err
	}
	f.cpu = after - before
	f.rss, err = peakMemory(cmd.Process.Pid)
	return f, err
}

// cpuTime is what a process has used, in user and kernel mode.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// Behind the name, which may have spaces, utime and stime are 12th and 13th.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("short /proc/PID/stat")
	}
	ticks := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil // USER_HZ is 100
}

// peakMemory is the most resident memory that a process ever had, in MiB.
func peakMemory(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			return float64(kib) / 1024, err
		}
	}
	return 0, errors.New("no VmHWM in /proc/PID/status")
}
