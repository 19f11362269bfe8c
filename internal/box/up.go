package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// startTimeout bounds how long components may take to answer.
	startTimeout = 45 * time.Second
	// tolerated failures of one component before Up gives up on it.
	tolerated = 4
)

// Up makes the cluster run: what is missing of it is made, what runs already
// stays. On success everything answers, and cfg.Nodes is how many nodes there are.
func Up(ctx context.Context, cfg *Config, out io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("up makes network namespaces and mounts: run it as root")
	}
	unlock, err := lockRun(cfg.runDir())
	if err != nil {
		return err
	}
	defer unlock()
	p := &progress{out: out}
	if err := p.step("identity of the cluster and its nodes", func() error {
		return errors.Join(cfg.checkHost(), cfg.ensureIdentity())
	}); err != nil {
		return err
	}
	steps := []struct {
		name string
		do   func() error
	}{
		{"network namespaces and the fabric between them", func() error { return cfg.ensureNetwork(cfg.Nodes) }},
		{"BPF file system", ensureBPF},
		{"certificates", cfg.ensureCertificates},
		{"CNI plugin and networks", cfg.ensureCNI},
		{"example image", cfg.ensureExampleImage},
	}
	for _, s := range steps {
		if err := p.step(s.name, s.do); err != nil {
			return err
		}
	}
	if err := cfg.ensureRunning(ctx, p); err != nil {
		return err
	}
	return p.step("the controller as a BGP router", func() error { return cfg.ensureRouter(ctx) })
}

// checkHost refuses to continue a cluster from another network namespace than
// the one whose loopback it answers on.
func (c *Config) checkHost() error {
	status, err := ReadStatus(*c)
	if err != nil || !slices.ContainsFunc(status.Components, func(s ComponentStatus) bool { return s.Running }) {
		return nil
	}
	here, err := ownNamespace()
	if err != nil {
		return err
	}
	if status.Namespace != here {
		return fmt.Errorf("cluster %s runs with its ports in another network namespace (%s, this is %s); go there, or stop it with `contrail down --name %s`",
			c.Name, status.Namespace, here, c.Name)
	}
	if status.Data != c.Data {
		return fmt.Errorf("--data %s: cluster %s runs with %s; stop it first with `contrail down --name %s`", c.Data, c.Name, status.Data, c.Name)
	}
	return nil
}

// ensureRunning starts or replaces the supervisor and waits until all
// components answer, saying so one by one.
func (c *Config) ensureRunning(ctx context.Context, p *progress) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var pid int
	err := p.step("supervisor", func() (err error) {
		pid, err = c.ensureSupervisor(ctx)
		return err
	})
	if err != nil {
		return err
	}
	said := make(map[string]bool)
	err = eventually(ctx, func() error {
		status, err := ReadStatus(*c)
		if err != nil || status.Supervisor.PID != pid {
			return errors.New("the supervisor has not said anything yet")
		}
		for _, component := range status.Components {
			if component.State == StateRunning && !said[component.Name] {
				said[component.Name] = true
				p.done(component.Name, "pid "+strconv.Itoa(component.PID))
			}
		}
		return notRunning(status)
	})
	if err == nil {
		return nil
	}
	p.failed("components")
	return fmt.Errorf("start the cluster: %w; it is left as it is, see `contrail status --name %s` and the logs in %s",
		err, c.Name, filepath.Dir(c.logFile("any")))
}

// notRunning says what is missing; permanently so where a component keeps failing.
func notRunning(status *Status) error {
	if !status.Supervisor.Running {
		return permanent(errors.New("the supervisor ended"))
	}
	var missing []string
	for _, component := range status.Components {
		if component.State == StateRunning {
			continue
		}
		missing = append(missing, component.Name+" is "+string(component.State)+" ("+component.Reason+")")
		if component.Restarts >= tolerated {
			return permanent(fmt.Errorf("%s keeps failing: %s; its log is %s", component.Name, component.Reason, component.Log))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return errors.New(strings.Join(missing, ", "))
}

// ensureSupervisor leaves the supervisor alone if it is what would be started
// now, and returns its pid.
func (c *Config) ensureSupervisor(ctx context.Context) (int, error) {
	hash, err := hashFile(c.Binary)
	if err != nil {
		return 0, err
	}
	args := []string{
		"supervise", "--name", c.Name, "--data", c.Data, "--nodes", strconv.Itoa(c.Nodes),
		"--rest", c.Rest.String(), "--tombstone", c.Tombstone.String(),
	}
	want := fingerprint(hash, strings.Join(args, "\x00"))
	processes, err := c.findProcesses()
	if err != nil {
		return 0, err
	}
	var old []process
	for _, p := range processes {
		if p.component != supervisorName || !p.leader {
			continue
		}
		if p.fingerprint == want {
			return p.pid, nil
		}
		old = append(old, p)
	}
	if err := stopProcesses(ctx, old, stopGrace); err != nil {
		return 0, err
	}
	cmd, err := c.command(supervisorName, want, args)
	if err != nil {
		return 0, err
	}
	defer closeOutput(cmd)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start supervisor: %w", err)
	}
	go func() { _ = cmd.Wait() }() // so that its end is seen while Up waits
	return cmd.Process.Pid, nil
}

// lockRun takes the cluster's run directory for one Up or Down at a time.
func lockRun(dir string) (unlock func(), err error) {
	for {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		f, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		// The one before may have been a Down that removed the directory.
		held, errHeld := f.Stat()
		now, errNow := os.Stat(dir)
		if errHeld == nil && errNow == nil && os.SameFile(held, now) {
			return func() { f.Close() }, nil
		}
		f.Close()
	}
}
