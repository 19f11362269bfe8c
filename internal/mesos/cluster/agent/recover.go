package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/container"
)

// load reads what is on disk, before anything runs.
func (a *Agent) load() error {
	id, err := a.loadIdentity()
	if err != nil {
		return err
	}
	if id.AgentID != "" {
		a.agentID.Store(&id.AgentID)
	}
	all, err := a.records()
	if err != nil {
		return err
	}
	for _, t := range all {
		if id.BootID != a.bootID {
			t.pid = 0 // numbers of another boot name other processes
		}
		key := taskKey{t.frameworkID(), t.id()}
		if other := a.tasks[key]; other != nil {
			// The id was used again while updates of its first use were left.
			if other.phase != ended {
				t, other = other, t
			}
			os.Remove(a.recordPath(other.cid))
		}
		a.tasks[key] = t
	}
	return nil
}

// recover makes the node agree with the records: containers that live are
// kept, those of frameworks without checkpointing end, and what no record knows
// is removed.
func (a *Agent) recover(ctx context.Context, all []*task) error {
	if id := a.id(); id != nil {
		if err := a.saveIdentity(id.GetValue()); err != nil {
			return err
		}
	}
	known := map[string]bool{}
	for _, t := range all {
		if t.phase == ended {
			continue
		}
		known[t.cid] = true
		if !t.framework.GetCheckpoint() {
			a.log.Info("container of a framework without checkpointing ends", "task", t.id(), "container", t.cid)
			t.abandoned = true
		}
		if t.phase == launching {
			// Nobody waits for it: the launch did not get to its executor.
			t.phase, t.pid = running, 0
		} else if attachment, err := a.network.Attachment(t.cid); err == nil {
			t.attachment = attachment
		} else if !errors.Is(err, os.ErrNotExist) {
			a.log.Error("networks of container are unknown", "container", t.cid, "error", err)
		}
		a.settle(t)
	}
	alive := func(cid string) bool { return known[cid] }
	if err := a.removeOrphans(ctx, alive); err != nil {
		return err
	}
	return nil
}

// settle gives a task whose executor has not survived its end, before anybody is
// told of the task: nobody shall take it for a running one while its container
// is cleaned up.
func (a *Agent) settle(t *task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fd, err := openProcess(t.pid, t.started)
	if err == nil {
		unix.Close(fd)
		return
	}
	if t.abandoned || terminal(t.state()) {
		return
	}
	a.log.Info("executor is gone", "task", t.id(), "error", err)
	if err := a.appendStatus(t, a.executorTerminated(t)); err != nil {
		a.log.Error("end of task is told after its cleaning up", "task", t.id(), "error", err)
	}
}

func (a *Agent) removeOrphans(ctx context.Context, alive func(string) bool) error {
	if _, err := container.CreateGroup(filepath.Join(a.config.CgroupsRoot, executorsGroup), container.Limits{}); err != nil {
		return err
	}
	groups, err := container.ListGroups(a.config.CgroupsRoot)
	if err != nil {
		return err
	}
	for _, name := range groups {
		if name == executorsGroup || alive(name) {
			continue
		}
		stop, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := container.OpenGroup(a.cgroup(name)).Destroy(stop)
		cancel()
		if err != nil {
			a.log.Error("orphaned cgroup is left", "cgroup", name, "error", err)
		}
	}
	failed, err := a.network.Recover(ctx, alive)
	if err != nil {
		return err
	}
	for cid, err := range failed {
		a.removeLater(cid, err)
	}
	for _, dir := range []string{filepath.Join(a.config.WorkDir, "containers"), filepath.Join(a.config.RuntimeDir, "containers")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("list containers: %w", err)
		}
		for _, e := range entries {
			if alive(e.Name()) {
				continue
			}
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				a.log.Error("orphaned directory is left", "directory", filepath.Join(dir, e.Name()), "error", err)
			}
		}
	}
	return a.images.Retain(alive)
}

// collectSandboxes removes the sandboxes of ended containers but the newest.
func (a *Agent) collectSandboxes() {
	a.sandboxes.Lock()
	defer a.sandboxes.Unlock()
	inUse := map[string]bool{}
	for _, t := range a.current() {
		t.mu.Lock()
		if t.phase != ended {
			inUse[t.cid] = true
		}
		t.mu.Unlock()
	}
	runs, err := filepath.Glob(filepath.Join(globQuote(a.config.WorkDir), "slaves/*/frameworks/*/executors/*/runs/*"))
	if err != nil {
		a.log.Error("sandboxes are not collected", "error", err)
		return
	}
	type sandbox struct {
		path string
		at   time.Time
	}
	var old []sandbox
	for _, path := range runs {
		info, err := os.Lstat(path)
		if err == nil && info.IsDir() && !inUse[filepath.Base(path)] {
			old = append(old, sandbox{path, info.ModTime()})
		}
	}
	slices.SortFunc(old, func(x, y sandbox) int { return y.at.Compare(x.at) })
	for _, s := range old[min(len(old), a.config.SandboxesKept):] {
		if err := os.RemoveAll(s.path); err != nil {
			a.log.Warn("sandbox is left", "path", s.path, "error", err)
			continue
		}
		a.removeEmpty(s.path)
	}
}

// removeEmpty removes the link to a sandbox, and the directories above it that
// are empty then.
func (a *Agent) removeEmpty(sandbox string) {
	runs := filepath.Dir(sandbox)
	if to, err := os.Readlink(filepath.Join(runs, "latest")); err == nil && to == sandbox {
		os.Remove(filepath.Join(runs, "latest"))
	}
	// runs, executor, "executors", framework: a directory with something in it stays.
	for dir, level := runs, 0; level < 4; dir, level = filepath.Dir(dir), level+1 {
		if os.Remove(dir) != nil {
			return
		}
	}
}

func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// startOver forgets the agent's id after its tasks have ended: the master does
// not want it back.
func (a *Agent) startOver() error {
	a.killAll()
	a.agentID.Store(nil)
	if err := os.Remove(a.identityPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget agent's id: %w", err)
	}
	return nil
}

// frameworks that own current tasks.
func frameworks(all []*task) []*mesosv1.FrameworkInfo {
	seen := map[string]bool{}
	var list []*mesosv1.FrameworkInfo
	for _, t := range all {
		if !seen[t.frameworkID()] {
			seen[t.frameworkID()] = true
			list = append(list, t.framework)
		}
	}
	return list
}
