package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sys/unix"
)

const (
	supervisorName = "supervisor"
	// stopGrace is how long a component may take to end when asked.
	stopGrace = 5 * time.Second
	// steady is how long a component has to run for its failures to be forgiven.
	steady = 30 * time.Second
	// renewal is how often certificates are looked at.
	renewal = time.Hour
)

// Supervisor keeps the components of a cluster running. When it ends, they run
// on; the next one adopts them.
type Supervisor struct {
	cfg    Config
	log    *slog.Logger
	binary string // hash of the binary that components run
	plan   []component

	mu     sync.Mutex
	status Status
	index  map[string]int
	ready  map[string]chan struct{}
}

// NewSupervisor prepares a supervisor for a cluster that Up has set up.
func NewSupervisor(log *slog.Logger, cfg Config) (*Supervisor, error) {
	hash, err := hashFile(cfg.Binary)
	if err != nil {
		return nil, err
	}
	namespace, err := ownNamespace()
	if err != nil {
		return nil, err
	}
	started, _, err := readStat("/proc/self")
	if err != nil {
		return nil, fmt.Errorf("read own start time: %w", err)
	}
	return &Supervisor{
		cfg: cfg, log: log, binary: hash, plan: cfg.plan(cfg.Nodes),
		status: Status{
			Name: cfg.Name, Data: cfg.Data, Namespace: namespace, Nodes: cfg.Nodes,
			Supervisor: ProcessStatus{PID: os.Getpid(), Started: started, Running: true},
		},
		index: make(map[string]int),
		ready: make(map[string]chan struct{}),
	}, nil
}

// Run keeps the components running until ctx ends.
func (s *Supervisor) Run(ctx context.Context) error {
	lock, err := os.OpenFile(filepath.Join(s.cfg.runDir(), "supervisor.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock cluster %s: %w", s.cfg.Name, err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("cluster %s has a supervisor already: %w", s.cfg.Name, err)
	}
	for i, c := range s.plan {
		s.index[c.name], s.ready[c.name] = i, make(chan struct{})
		node := ""
		if c.node > 0 {
			node = s.cfg.node(c.node)
		}
		s.status.Components = append(s.status.Components, ComponentStatus{
			Name: c.name, Node: node, State: StateWaiting, Since: time.Now(), Log: s.cfg.logFile(c.name),
		})
	}
	if err := s.stopStrangers(ctx); err != nil {
		return err
	}
	if err := s.status.write(s.cfg.runDir()); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, c := range s.plan {
		wg.Go(func() { s.keep(ctx, c) })
	}
	wg.Go(func() { s.renew(ctx) })
	wg.Go(func() { s.rotate(ctx) })
	wg.Wait()
	return nil
}

// stopStrangers ends components that the plan no longer has. Executors and
// plugins are nobody's component: they belong to their agents.
func (s *Supervisor) stopStrangers(ctx context.Context) error {
	processes, err := s.cfg.findProcesses()
	if err != nil {
		return err
	}
	strangers := slices.DeleteFunc(processes, func(p process) bool {
		return p.component == "" || p.component == supervisorName || slices.ContainsFunc(s.plan, func(c component) bool { return c.name == p.component })
	})
	return stopProcesses(ctx, strangers, stopGrace)
}

// keep starts one component, and starts it again whenever it has ended.
func (s *Supervisor) keep(ctx context.Context, c component) {
	for _, need := range c.after {
		s.set(c.name, func(st *ComponentStatus) { st.State, st.Reason = StateWaiting, "waits for "+need })
		select {
		case <-ctx.Done():
			return
		case <-s.ready[need]:
		}
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 200*time.Millisecond, 10*time.Second
	for {
		began := time.Now()
		reason := s.runOnce(ctx, c)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > steady {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		s.log.Warn("component ended", "name", c.name, "reason", reason, "again", wait.Round(time.Millisecond))
		s.set(c.name, func(st *ComponentStatus) {
			st.State, st.Reason, st.PID, st.Started, st.Running = StateFailed, reason, 0, 0, false
			st.Restarts++
		})
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// runOnce adopts or starts the component's process and blocks until it ends.
// It returns why it ended.
func (s *Supervisor) runOnce(ctx context.Context, c component) string {
	run, err := s.adopt(ctx, c)
	if err == nil && run == nil {
		run, err = s.start(c)
	}
	if err != nil {
		return err.Error()
	}
	s.set(c.name, func(st *ComponentStatus) {
		st.State, st.PID, st.Started, st.Running = StateStarting, run.pid, run.started, true
	})
	answering, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { s.awaitReady(answering, c) })
	end := run.wait(ctx)
	stop()
	wg.Wait()
	if line := lastLine(s.cfg.logFile(c.name)); line != "" {
		end += ": " + line
	}
	return end
}

func (s *Supervisor) awaitReady(ctx context.Context, c component) {
	if c.ready.wait(ctx, c.namespace) != nil {
		return
	}
	s.set(c.name, func(st *ComponentStatus) { st.State, st.Reason = StateRunning, "" })
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ready[c.name]:
	default:
		close(s.ready[c.name])
	}
}

// running is a component's process.
type running struct {
	process
	// wait blocks until it has ended and says how, or until ctx ends.
	wait func(ctx context.Context) string
}

// adopt finds the component's process if it runs already. One of an older
// binary or with other arguments is ended, and so is what a component left
// behind that has ended itself.
func (s *Supervisor) adopt(ctx context.Context, c component) (*running, error) {
	processes, err := s.cfg.findProcesses()
	if err != nil {
		return nil, err
	}
	var stale []process
	for _, p := range processes {
		if p.component != c.name {
			continue
		}
		main := p.leader && sameCommand(p.args, c.args)
		if main && p.fingerprint == s.fingerprint(c) {
			run, err := adopted(p)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				s.log.Info("component adopted", "name", c.name, "pid", p.pid)
			}
			return run, err
		}
		if main || c.node == 0 {
			stale = append(stale, p) // a node's executors outlive its agent
		}
	}
	return nil, stopProcesses(ctx, stale, stopGrace)
}

// sameCommand compares the subcommands, such as `mesos agent`.
func sameCommand(cmdline, args []string) bool {
	if len(cmdline) < 2 {
		return false
	}
	return slices.Equal(words(cmdline[1:]), words(args))
}

func words(args []string) []string {
	for i, arg := range args {
		if strings.HasPrefix(arg, "-") {
			return args[:i]
		}
	}
	return args
}

func adopted(p process) (*running, error) {
	h, err := openProcess(p)
	if err != nil {
		return nil, err
	}
	return &running{process: p, wait: func(ctx context.Context) string {
		defer h.close()
		if err := h.wait(ctx); err != nil {
			return err.Error()
		}
		return "ended" // only a parent learns how
	}}, nil
}

// renew keeps the certificates fresh; the components notice by themselves.
func (s *Supervisor) renew(ctx context.Context) {
	ticker := time.NewTicker(renewal)
	defer ticker.Stop()
	for {
		if err := s.cfg.ensureCertificates(); err != nil {
			s.log.Error("certificates not renewed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// set changes a component's status and publishes it.
func (s *Supervisor) set(name string, change func(*ComponentStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.status.Components[s.index[name]]
	before := c.State
	change(c)
	if c.State != before {
		c.Since = time.Now()
	}
	if err := s.status.write(s.cfg.runDir()); err != nil {
		s.log.Error("status not written", "error", err)
	}
}
