package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Down ends every process of the cluster and removes all that it made in the
// kernel and under /run; with purge its data too. It needs nothing to run and
// nothing to be known: what carries the cluster's name or mark goes.
func Down(ctx context.Context, cfg Config, purge bool, out io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("down removes network namespaces and mounts: run it as root")
	}
	unlock, err := lockRun(cfg.runDir())
	if err != nil {
		return err
	}
	defer unlock()
	p := &progress{out: out}
	steps := []struct {
		name string
		do   func() error
	}{
		{"supervisor and components stopped", func() error { return cfg.stopAll(ctx) }},
		{"containers ended", func() error { return cfg.killContainers(ctx) }},
		{"mounts removed", func() error { return unmountUnder(cfg.runDir(), cfg.Data) }},
		{"network removed", cfg.removeNetwork},
		{"BPF pins removed", cfg.removeBPF},
		{"cgroups removed", func() error { return removeCgroups(cfg.Name) }},
		{"files removed", func() error { return cfg.removeFiles(purge) }},
	}
	var errs []error
	for _, s := range steps {
		errs = append(errs, p.step(s.name, s.do)) // what can go goes, whatever else fails
	}
	return errors.Join(errs...)
}

// stopAll ends the supervisor first, since it would start again what ends.
func (c *Config) stopAll(ctx context.Context) error {
	processes, err := c.findProcesses()
	if err != nil {
		return err
	}
	var supervisors []process
	for _, p := range processes {
		if p.component == supervisorName {
			supervisors = append(supervisors, p)
		}
	}
	if err := stopProcesses(ctx, supervisors, stopGrace); err != nil {
		return err
	}
	return untilNone(ctx, c.findProcesses, stopGrace)
}

// killContainers ends what carries no marks: containers have an environment of
// their own. They are known by their cgroups and by their network namespaces.
func (c *Config) killContainers(ctx context.Context) error {
	return untilNone(ctx, func() ([]process, error) {
		inCgroups, err := processesIn(c.Name)
		if err != nil {
			return nil, err
		}
		inNamespaces, err := processesOf(c.runDir())
		return append(inCgroups, inNamespaces...), err
	}, 0)
}

// untilNone stops what find finds, again and again: what is being stopped may
// have started others meanwhile.
func untilNone(ctx context.Context, find func() ([]process, error), grace time.Duration) error {
	const rounds = 20
	for range rounds {
		processes, err := find()
		if err != nil || len(processes) == 0 {
			return err
		}
		if err := stopProcesses(ctx, processes, grace); err != nil {
			return err
		}
		grace = 0
	}
	return errors.New("processes keep appearing; end whoever starts them, and try again")
}

func (c *Config) removeFiles(purge bool) error {
	errs := []error{os.RemoveAll(c.runDir())}
	if purge {
		errs = append(errs, os.RemoveAll(c.Data))
		if filepath.Dir(c.Data) == filepath.Dir(defaultData(c.Name)) {
			removeIfEmpty(filepath.Dir(c.Data))
		}
	}
	removeIfEmpty(netnsDir)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove files: %w", err)
	}
	return nil
}

// removeIfEmpty removes a directory that others may share.
func removeIfEmpty(dir string) { _ = unix.Rmdir(dir) }
