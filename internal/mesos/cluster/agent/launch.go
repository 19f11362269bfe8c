package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/container"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/executor"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/image"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/isolator"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// executorsGroup is the cgroup of all executors, and of the containers' PID 1:
// whoever ends the node finds them there when the agent is gone.
const executorsGroup = "executors"

// sandboxTarget is where a container with an image finds its sandbox.
const sandboxTarget = "/mnt/mesos/sandbox"

// run takes a task from the master.
func (a *Agent) run(framework *mesosv1.FrameworkInfo, info *mesosv1.TaskInfo) {
	t := newTask(framework, info)
	key := taskKey{t.frameworkID(), t.id()}
	a.mu.Lock()
	before := a.tasks[key]
	if before != nil {
		before.mu.Lock()
		over, ending := before.phase == ended, terminal(before.state())
		before.mu.Unlock()
		switch {
		case !over && ending:
			// The master has freed the id with the task's end, which the
			// container has not reached yet. Mesos drops such a task, too.
			a.mu.Unlock()
			dropped := a.verdict(t, mesosv1.TaskState_TASK_DROPPED, mesosv1.TaskStatus_REASON_EXECUTOR_TERMINATED, "Executor terminating")
			dropped.Uuid = nil // nothing is kept of it, so nothing can be sent again
			a.send(t.framework.GetId(), dropped, dropped.GetState())
			return
		case !over:
			a.mu.Unlock()
			return // it runs already
		}
	}
	a.tasks[key] = t
	a.mu.Unlock()
	t.mu.Lock()
	err := a.save(t)
	t.mu.Unlock()
	if err != nil {
		// Without a record nothing may exist.
		a.log.Error("task is refused", "task", t.id(), "error", err)
		a.send(t.framework.GetId(), a.verdict(t, mesosv1.TaskState_TASK_FAILED, mesosv1.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED,
			"Failed to launch container: "+err.Error()), mesosv1.TaskState_TASK_FAILED)
		a.mu.Lock()
		delete(a.tasks, key)
		a.mu.Unlock()
		return
	}
	a.start(t)
}

// launch makes the container and starts its executor, or says what the task
// becomes instead. What it made stays for cleanUp.
func (a *Agent) launch(ctx context.Context, t *task) *mesosv1.TaskStatus {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := make(chan struct{})
	go func() { // a kill ends a pull of an image
		defer close(stopped)
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.wake:
				if t.isKilled() {
					cancel(errKilled)
					return
				}
			}
		}
	}()
	err := a.prepare(ctx, t)
	cancel(nil)
	<-stopped
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errKilled) || t.isKilled():
		return a.verdict(t, mesosv1.TaskState_TASK_KILLED, mesosv1.TaskStatus_REASON_TASK_KILLED_DURING_LAUNCH, "Task killed during launch")
	}
	a.log.Info("container is not launched", "task", t.id(), "container", t.cid, "error", err)
	return a.verdict(t, mesosv1.TaskState_TASK_FAILED, mesosv1.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED, "Failed to launch container: "+err.Error())
}

var errKilled = errors.New("task was killed")

func (t *task) isKilled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kill != nil || t.abandoned
}

func (a *Agent) prepare(ctx context.Context, t *task) error {
	if err := supported(t.info); err != nil {
		return err
	}
	account, err := a.account(t)
	if err != nil {
		return err
	}
	sandbox, err := a.makeSandbox(t, account)
	if err != nil {
		return err
	}
	b := builder{agent: a, task: t, sandbox: sandbox}
	if docker := t.info.GetContainer().GetMesos().GetImage().GetDocker(); docker != nil {
		img, err := a.images.Acquire(ctx, t.cid, docker.GetName(), !t.info.GetContainer().GetMesos().GetImage().GetCached())
		if context.Cause(ctx) != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		b.image = &img
	}
	if err := a.attach(ctx, t); err != nil {
		return err
	}
	if t.isKilled() {
		return errKilled
	}
	plan, err := b.plan(account)
	if err != nil {
		return err
	}
	limits := limitsOf(t.info, a.config.CPUQuota)
	group, err := container.CreateGroup(a.cgroup(t.cid), limits)
	if err != nil {
		return err
	}
	plan.Spec.Cgroup, plan.MemoryLimit = group.Entry(), limits.Memory
	return a.startExecutor(t, sandbox, plan)
}

// supported refuses what this agent does not do, rather than do half of it.
func supported(info *mesosv1.TaskInfo) error {
	c := info.GetContainer()
	switch {
	case info.GetExecutor() != nil:
		return errors.New("custom executors are not supported by this agent: give the task a command")
	case info.GetCommand() == nil:
		return errors.New("task has no command")
	case len(info.GetCommand().GetUris()) > 0:
		return errors.New("URIs are not fetched by this agent: put the files into the image or a volume")
	case c != nil && c.GetType() != mesosv1.ContainerInfo_MESOS:
		return fmt.Errorf("container type %s is not supported by this agent: use MESOS", c.GetType())
	case c.GetMesos().GetImage() != nil && c.GetMesos().GetImage().GetDocker() == nil:
		return errors.New("image type APPC is not supported by this agent: use DOCKER")
	}
	return nil
}

// attach joins the networks that the task names; without any it is on the
// network of the agent.
func (a *Agent) attach(ctx context.Context, t *task) error {
	var wanted []isolator.Network
	for _, n := range t.info.GetContainer().GetNetworkInfos() {
		if n.GetName() != "" {
			wanted = append(wanted, isolator.Network{Name: n.GetName(), Info: codec.MarshalJSONWithDefaults(n)})
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	// Not ended by a kill: a plugin that is stopped half-way leaves more to undo.
	attachment, err := a.network.Attach(context.WithoutCancel(ctx), t.cid, t.hostname(), wanted)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.attachment = attachment
	t.mu.Unlock()
	return nil
}

func (t *task) hostname() string {
	if name := t.info.GetContainer().GetHostname(); name != "" {
		return name
	}
	return t.cid
}

// limitsOf sums the task's resources. The least are those of Mesos: 0.01 CPUs
// and 32 MB.
func limitsOf(info *mesosv1.TaskInfo, quota bool) container.Limits {
	sum := map[string]float64{}
	for _, r := range info.GetResources() {
		sum[r.GetName()] += r.GetScalar().GetValue()
	}
	return container.Limits{
		CPUs: max(0.01, sum["cpus"]), CPUQuota: quota, Memory: int64(max(32, sum["mem"]) * (1 << 20)), Processes: 4096,
	}
}

// identityOf a container's command.
type account struct{ uid, gid uint32 }

func (a *Agent) account(t *task) (account, error) {
	name := t.framework.GetUser()
	if u := t.info.GetCommand().GetUser(); u != "" {
		name = u
	}
	if name == "" || name == "root" {
		return account{}, nil
	}
	found, err := user.Lookup(name)
	if err != nil {
		return account{}, fmt.Errorf("user %q is unknown on this agent: %w", name, err)
	}
	uid, err1 := strconv.ParseUint(found.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(found.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return account{}, fmt.Errorf("user %q: %w", name, err)
	}
	return account{uint32(uid), uint32(gid)}, nil
}

// sandboxDir is Mesos's path, by which others find the framework of a container.
func (a *Agent) sandboxDir(t *task) string {
	return filepath.Join(a.config.WorkDir, "slaves", a.id().GetValue(), "frameworks", t.frameworkID(),
		"executors", t.id(), "runs", t.cid)
}

func (a *Agent) makeSandbox(t *task, owner account) (string, error) {
	for _, name := range []string{t.frameworkID(), t.id()} {
		if !filepath.IsLocal(name) || strings.Contains(name, "/") || name == "." || len(name) > 255 {
			return "", fmt.Errorf("id %.60q cannot be a directory name", name)
		}
	}
	a.sandboxes.Lock()
	defer a.sandboxes.Unlock()
	dir := a.sandboxDir(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make sandbox: %w", err)
	}
	// The executor's directory is the task's alone: what root in a container
	// makes set-user-id in its sandbox is out of reach for others of this host.
	private := filepath.Dir(filepath.Dir(dir))
	if err := errors.Join(os.Chmod(private, 0o700), os.Chown(private, int(owner.uid), int(owner.gid))); err != nil {
		return "", fmt.Errorf("make sandbox: %w", err)
	}
	latest := filepath.Join(filepath.Dir(dir), "latest")
	if err := renameio.Symlink(dir, latest); err != nil {
		return "", fmt.Errorf("make sandbox: %w", err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "stdout"), filepath.Join(dir, "stderr")} {
		if path != dir {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
			if err != nil {
				return "", fmt.Errorf("make sandbox: %w", err)
			}
			f.Close()
		}
		if err := os.Chown(path, int(owner.uid), int(owner.gid)); err != nil {
			return "", fmt.Errorf("make sandbox: %w", err)
		}
	}
	return dir, nil
}

// startExecutor starts the executor in a session of its own and records it.
func (a *Agent) startExecutor(t *task, sandbox string, plan *executor.Plan) error {
	dir := a.containerDir(t.cid)
	data, err := json.Marshal(plan)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, executor.PlanFile), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write plan of container: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(sandbox, "stderr"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("open sandbox file: %w", err)
	}
	defer log.Close()
	cmd := exec.Cmd{
		Path: a.config.Executor[0], Args: slices.Concat([]string{"contrail"}, a.config.Executor[1:], []string{"--container-dir", dir}),
		Dir: sandbox, Env: a.executorEnv(t, sandbox), Stderr: log, Stdout: log,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	// Held until the record is on disk: the executor's subscription waits for it.
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start executor: %w", err)
	}
	started, err := processStart(cmd.Process.Pid)
	if err == nil {
		err = container.OpenGroup(filepath.Join(a.config.CgroupsRoot, executorsGroup)).Add(cmd.Process.Pid)
	}
	if err == nil {
		t.phase, t.pid, t.started, t.child = running, cmd.Process.Pid, started, cmd.Process
		err = a.save(t)
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Process.Wait()
		t.phase, t.pid, t.child = launching, 0, nil
		return fmt.Errorf("record executor: %w", err)
	}
	return nil
}

// executorEnv is what Mesos gives executors.
func (a *Agent) executorEnv(t *task, sandbox string) []string {
	checkpoint := "0"
	if t.framework.GetCheckpoint() {
		checkpoint = "1"
	}
	return []string{
		"MESOS_FRAMEWORK_ID=" + t.frameworkID(),
		"MESOS_EXECUTOR_ID=" + t.id(),
		"MESOS_DIRECTORY=" + sandbox,
		"MESOS_SANDBOX=" + sandbox,
		"MESOS_SLAVE_ID=" + a.id().GetValue(),
		"MESOS_SLAVE_PID=" + a.pid(),
		"MESOS_AGENT_ENDPOINT=" + a.endpoint(),
		"MESOS_CHECKPOINT=" + checkpoint,
		"MESOS_HTTP_COMMAND_EXECUTOR=1",
		"MESOS_DOMAIN_SOCKET=" + a.config.Socket,
		"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=5secs",
		"MESOS_RECOVERY_TIMEOUT=15mins",
		"MESOS_SUBSCRIPTION_BACKOFF_MAX=2secs",
		"LIBPROCESS_PORT=0",
	}
}

// builder makes the plan of a container from what was prepared.
type builder struct {
	agent   *Agent
	task    *task
	sandbox string
	image   *image.Image
}

func (b *builder) plan(owner account) (*executor.Plan, error) {
	t := b.task
	command, err := b.command()
	if err != nil {
		return nil, err
	}
	command.UID, command.GID = owner.uid, owner.gid
	spec := container.Spec{ID: t.cid, Command: command, KeepCapabilities: b.image == nil}
	dir := b.agent.containerDir(t.cid)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make container directory: %w", err)
	}
	if b.image != nil {
		writable := filepath.Join(b.agent.config.WorkDir, "containers", t.cid)
		spec.Root = &container.Root{
			Target: filepath.Join(dir, "rootfs"), LayersDir: b.agent.images.LayersDir(), Layers: b.image.Layers,
			Upper: filepath.Join(writable, "upper"), Work: filepath.Join(writable, "work"),
		}
		for _, path := range []string{spec.Root.Target, spec.Root.Upper, spec.Root.Work} {
			if err := os.MkdirAll(path, 0o755); err != nil {
				return nil, fmt.Errorf("make container directory: %w", err)
			}
		}
		spec.Binds = append(spec.Binds, container.Bind{Source: b.sandbox, Target: sandboxTarget})
	}
	volumes, err := b.volumes()
	if err != nil {
		return nil, err
	}
	spec.Binds = append(spec.Binds, volumes...)
	b.networkFiles(&spec)
	return &executor.Plan{
		Spec: spec, Cgroup: b.agent.cgroup(t.cid),
		Stdout: filepath.Join(b.sandbox, "stdout"), Stderr: filepath.Join(b.sandbox, "stderr"),
	}, nil
}

// networkFiles gives the container its own hosts, hostname and resolv.conf; one
// with an image on the host's network sees the host's.
func (b *builder) networkFiles(spec *container.Spec) {
	sources := map[string]string{}
	if a := b.task.attachment; a != nil {
		spec.NetNS, spec.Hostname = a.NetNS, b.task.hostname()
		sources["/etc/hosts"], sources["/etc/hostname"] = a.Hosts, a.Hostname
		if a.Resolv != "" {
			sources["/etc/resolv.conf"] = a.Resolv
		}
	}
	for _, path := range []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} {
		source, own := sources[path]
		if !own && b.image == nil {
			continue
		}
		if !own {
			source = path
			if _, err := os.Stat(path); err != nil {
				continue
			}
		}
		spec.Binds = append(spec.Binds, container.Bind{Source: source, Target: path, ReadOnly: !own, Inert: true})
	}
}

func (b *builder) volumes() ([]container.Bind, error) {
	var all []container.Bind
	for _, v := range b.task.info.GetContainer().GetVolumes() {
		source := v.GetHostPath()
		switch v.GetSource().GetType() {
		case mesosv1.Volume_Source_HOST_PATH:
			source = v.GetSource().GetHostPath().GetPath()
		case mesosv1.Volume_Source_SANDBOX_PATH:
			path := v.GetSource().GetSandboxPath().GetPath()
			if !filepath.IsLocal(path) {
				return nil, fmt.Errorf("volume %q: path %q leaves the sandbox", v.GetContainerPath(), path)
			}
			source = filepath.Join(b.sandbox, path)
			if err := os.MkdirAll(source, 0o755); err != nil {
				return nil, fmt.Errorf("volume %q: %w", v.GetContainerPath(), err)
			}
		case mesosv1.Volume_Source_UNKNOWN:
		default:
			return nil, fmt.Errorf("volume %q: source %s is not supported by this agent", v.GetContainerPath(), v.GetSource().GetType())
		}
		if !filepath.IsAbs(source) {
			return nil, fmt.Errorf("volume %q: host path %q is not absolute", v.GetContainerPath(), source)
		}
		target := v.GetContainerPath()
		if !filepath.IsAbs(target) {
			target = filepath.Join(b.workDir(), target)
			if b.image == nil { // a place in the sandbox is there only if it is made
				if err := os.MkdirAll(target, 0o755); err != nil {
					return nil, fmt.Errorf("volume %q: %w", v.GetContainerPath(), err)
				}
			}
		}
		all = append(all, container.Bind{Source: source, Target: target, ReadOnly: v.GetMode() == mesosv1.Volume_RO})
	}
	return all, nil
}

// workDir is the sandbox as the command sees it.
func (b *builder) workDir() string {
	if b.image != nil {
		return sandboxTarget
	}
	return b.sandbox
}

// command follows Mesos's table for commands and images.
func (b *builder) command() (container.Command, error) {
	info := b.task.info.GetCommand()
	c := container.Command{Env: b.env(), Dir: b.workDir()}
	if b.image != nil && b.image.WorkingDir != "" {
		c.Dir = filepath.Join("/", b.image.WorkingDir)
	}
	switch {
	case info.GetShell():
		if info.Value == nil {
			return c, errors.New("shell command has no value")
		}
		c.Path, c.Args = "/bin/sh", []string{"sh", "-c", info.GetValue()}
	case info.Value != nil:
		c.Path, c.Args = info.GetValue(), info.GetArguments()
		if len(c.Args) == 0 {
			c.Args = []string{info.GetValue()}
		}
	case b.image == nil:
		return c, errors.New("command has no value and there is no image to say what to run")
	default:
		argv := slices.Clone(b.image.Entrypoint)
		switch arguments := info.GetArguments(); {
		case len(argv) > 0 && len(arguments) > 0:
			argv = append(argv, arguments...)
		case len(argv) > 0:
			argv = append(argv, b.image.Cmd...)
		case len(b.image.Cmd) > 0 && len(arguments) > 0:
			argv = append(slices.Clone(b.image.Cmd[:1]), arguments...)
		default:
			argv = b.image.Cmd
		}
		if len(argv) == 0 {
			return c, fmt.Errorf("image %q has neither entrypoint nor command, and the task gives none", b.image.Name)
		}
		c.Path, c.Args = argv[0], argv
	}
	return c, nil
}

// env is the image's, then Mesos's, then the framework's; the last one of a
// name wins.
func (b *builder) env() []string {
	t := b.task
	vars := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if b.image != nil {
		vars = append(vars, b.image.Env...)
	}
	vars = append(vars,
		"MESOS_FRAMEWORK_ID="+t.frameworkID(), "MESOS_EXECUTOR_ID="+t.id(), "MESOS_TASK_ID="+t.id(),
		"MESOS_SLAVE_ID="+b.agent.id().GetValue(), "MESOS_AGENT_ENDPOINT="+b.agent.endpoint(),
		"MESOS_SANDBOX="+b.workDir(), "MESOS_DIRECTORY="+b.sandbox, "LIBPROCESS_PORT=0",
	)
	address, listen := b.agent.config.IP, b.agent.config.IP
	if a := t.attachment; a != nil {
		listen = "0.0.0.0"
		for _, r := range slices.Backward(a.Results) {
			if r.IP4 != "" {
				address = r.IP4
			}
		}
	}
	vars = append(vars, "MESOS_CONTAINER_IP="+address, "LIBPROCESS_IP="+listen)
	for _, v := range t.info.GetCommand().GetEnvironment().GetVariables() {
		vars = append(vars, v.GetName()+"="+v.GetValue())
	}
	seen := map[string]bool{}
	var env []string
	for _, v := range slices.Backward(vars) {
		name, _, _ := strings.Cut(v, "=")
		if !seen[name] {
			seen[name] = true
			env = append(env, v)
		}
	}
	slices.Reverse(env)
	return env
}
