package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// mesosContainer is what a Mesos agent says of one container.
type mesosContainer struct {
	ExecutorID  struct{ Value string } `json:"executor_id"`
	ContainerID struct{ Value string } `json:"container_id"`
	Status      struct {
		ExecutorPID int `json:"executor_pid"`
	} `json:"container_status"`
	node int
}

// TaskCommand prepares a command that runs in the namespaces and the root file
// system of a running task's container, with the task's environment. The task
// is named by its id, the beginning of it, or its application's id.
func TaskCommand(ctx context.Context, cfg Config, task string, command []string) (*exec.Cmd, error) {
	container, err := cfg.findContainer(ctx, task)
	if err != nil {
		return nil, err
	}
	pid, err := cfg.containerProcess(container)
	if err != nil {
		return nil, err
	}
	environ, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return nil, fmt.Errorf("read the environment of task %s: %w", container.ExecutorID.Value, err)
	}
	// Not nsenter: what the image gives as the program must have no more
	// capabilities than the task itself.
	args := []string{"mesos", "container-exec", strconv.Itoa(pid)}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append(args, command...)...)
	for entry := range bytes.SplitSeq(bytes.TrimSuffix(environ, []byte{0}), []byte{0}) {
		cmd.Env = append(cmd.Env, string(entry))
	}
	// It is asked to end, and ends the command.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Second
	return cmd, nil
}

// TaskContainer is the id of a running task's container; the task is named as for
// TaskCommand.
func TaskContainer(ctx context.Context, cfg Config, task string) (string, error) {
	container, err := cfg.findContainer(ctx, task)
	return container.ContainerID.Value, err
}

// Tasks are the ids of the tasks that run, in order.
func Tasks(ctx context.Context, cfg Config) ([]string, error) {
	containers, err := cfg.containers(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(containers))
	for i, m := range containers {
		ids[i] = m.ExecutorID.Value
	}
	slices.Sort(ids)
	return ids, nil
}

func (c *Config) findContainer(ctx context.Context, task string) (mesosContainer, error) {
	containers, err := c.containers(ctx)
	if err != nil {
		return mesosContainer{}, err
	}
	exact := slices.IndexFunc(containers, func(m mesosContainer) bool { return m.ExecutorID.Value == task })
	if exact >= 0 {
		return containers[exact], nil
	}
	// Marathon names the tasks of /shop/web as shop_web.instance-...
	app := strings.ReplaceAll(strings.Trim(task, "/"), "/", "_") + "."
	var matches []mesosContainer
	var names, others []string
	for _, m := range containers {
		id := m.ExecutorID.Value
		others = append(others, id)
		if strings.HasPrefix(id, task) || strings.HasPrefix(id, app) {
			matches, names = append(matches, m), append(names, id)
		}
	}
	switch len(matches) {
	case 1:
		return matches[0], nil
	case 0:
		return mesosContainer{}, fmt.Errorf("no running task is named %q; there are: %s", task, list(others))
	default:
		return mesosContainer{}, fmt.Errorf("%d tasks are named %q, say which: %s", len(matches), task, list(names))
	}
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// containers asks the Mesos agents of all nodes.
func (c *Config) containers(ctx context.Context) ([]mesosContainer, error) {
	status, err := ReadStatus(*c)
	if err != nil {
		return nil, err
	}
	var all []mesosContainer
	var errs []error
	for n := 1; n <= status.Nodes; n++ {
		agent, err := socket(c.mesosSocket(n))
		if err != nil {
			return nil, err
		}
		var answer struct {
			GetContainers struct {
				Containers []mesosContainer `json:"containers"`
			} `json:"get_containers"`
		}
		if err := agent.do(ctx, "POST", "/api/v1", map[string]string{"type": "GET_CONTAINERS"}, &answer); err != nil {
			errs = append(errs, fmt.Errorf("ask the Mesos agent of %s: %w", c.node(n), err))
			continue
		}
		for _, container := range answer.GetContainers.Containers {
			container.node = n
			all = append(all, container)
		}
	}
	if len(all) == 0 {
		return nil, errors.Join(errs...)
	}
	return all, nil // an agent that is away hides only its own tasks
}

// containerProcess is the oldest process of the container's cgroup: what the
// task runs.
func (c *Config) containerProcess(m mesosContainer) (int, error) {
	processes, err := processesIn(c.nodeCgroup(m.node))
	if err != nil {
		return 0, err
	}
	var oldest process
	for _, p := range processes {
		data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "cgroup"))
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return 0, fmt.Errorf("read cgroups of process %d: %w", p.pid, err)
		}
		if strings.Contains(string(data), m.ContainerID.Value) && (oldest.pid == 0 || p.started < oldest.started) {
			oldest = p
		}
	}
	if oldest.pid == 0 {
		return 0, fmt.Errorf("task %s has no running process", m.ExecutorID.Value)
	}
	return oldest.pid, nil
}
