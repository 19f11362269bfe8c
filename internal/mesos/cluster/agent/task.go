package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	executorv1 "github.com/contrail-mesos/contrail/api/mesos/v1/executor"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/container"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/isolator"
)

// task is a task with its executor and container: one of each.
type task struct {
	framework *mesosv1.FrameworkInfo
	info      *mesosv1.TaskInfo
	cid       string
	wake      chan struct{} // something for live to look at
	gone      chan struct{} // closed when the container has gone

	mu sync.Mutex
	// On disk.
	phase        phase
	pid          int
	started      uint64
	launched     bool // LAUNCH was given to the executor
	statuses     []*mesosv1.TaskStatus
	acknowledged int
	// In memory.
	child      *os.Process // nil after a restart
	attachment *isolator.Attachment
	stream     *executorStream
	subscribed bool
	kill       *mesosv1.KillPolicy // set when it is to be killed
	abandoned  bool                // nobody waits for updates: the framework was removed
	retry      *time.Timer
	pause      time.Duration
	endedAt    time.Time
}

func newTask(framework *mesosv1.FrameworkInfo, info *mesosv1.TaskInfo) *task {
	return &task{
		framework: framework, info: info, cid: uuid.NewString(), phase: launching,
		wake: make(chan struct{}, 1), gone: make(chan struct{}),
	}
}

func (t *task) id() string          { return t.info.GetTaskId().GetValue() }
func (t *task) frameworkID() string { return t.framework.GetId().GetValue() }

// nudge makes live look again.
func (t *task) nudge() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// state is the newest; the lock is held.
func (t *task) state() mesosv1.TaskState {
	if len(t.statuses) == 0 {
		return mesosv1.TaskState_TASK_STAGING
	}
	return t.statuses[len(t.statuses)-1].GetState()
}

func terminal(s mesosv1.TaskState) bool {
	switch s {
	case mesosv1.TaskState_TASK_STAGING, mesosv1.TaskState_TASK_STARTING, mesosv1.TaskState_TASK_RUNNING,
		mesosv1.TaskState_TASK_KILLING, mesosv1.TaskState_TASK_UNREACHABLE, mesosv1.TaskState_TASK_UNKNOWN:
		return false
	}
	return true
}

// live is a task from its launch, or from the agent's start, to its end. When
// ctx ends, it returns and leaves everything as it is.
func (a *Agent) live(ctx context.Context, t *task) {
	t.mu.Lock()
	now := t.phase
	t.mu.Unlock()
	var end *mesosv1.TaskStatus
	switch now {
	case ended:
		close(t.gone)
		a.resend(t)
		return
	case launching:
		if end = a.launch(ctx, t); end == nil {
			end = a.watch(ctx, t)
		}
	case running:
		end = a.watch(ctx, t)
	}
	if ctx.Err() != nil {
		return
	}
	a.cleanUp(t)
	t.mu.Lock()
	t.phase, t.pid, t.child, t.stream, t.endedAt = ended, 0, nil, nil, time.Now()
	if t.abandoned {
		t.acknowledged = len(t.statuses)
	}
	if !t.abandoned && !terminal(t.state()) {
		a.appendStatus(t, end)
	} else if err := a.save(t); err != nil {
		a.log.Error("record of task is out of date", "task", t.id(), "error", err)
	}
	done := t.acknowledged == len(t.statuses)
	t.mu.Unlock()
	close(t.gone)
	if e := t.info.GetExecutor(); e != nil {
		a.executorExited(t.framework.GetId(), e.GetExecutorId())
	}
	if done {
		a.forget(t)
	}
	a.collectSandboxes()
	a.log.Info("container ended", "task", t.id(), "container", t.cid)
}

// verdict is a status that the agent itself gives.
func (a *Agent) verdict(t *task, state mesosv1.TaskState, reason mesosv1.TaskStatus_Reason, message string) *mesosv1.TaskStatus {
	id := uuid.New()
	executor := t.info.GetExecutor().GetExecutorId()
	if executor == nil { // the command executor has the id of its task
		executor = &mesosv1.ExecutorID{Value: proto.String(t.id())}
	}
	return &mesosv1.TaskStatus{
		TaskId: t.info.GetTaskId(), State: state.Enum(), Message: proto.String(message),
		Source: mesosv1.TaskStatus_SOURCE_AGENT.Enum(), Reason: reason.Enum(), AgentId: a.id(),
		ExecutorId: executor, Timestamp: now(), Uuid: id[:],
	}
}

// executorTerminated is the end of a task whose executor ended before it.
func (a *Agent) executorTerminated(t *task) *mesosv1.TaskStatus {
	return a.verdict(t, mesosv1.TaskState_TASK_FAILED, mesosv1.TaskStatus_REASON_EXECUTOR_TERMINATED, "Executor terminated")
}

func now() *float64 { return proto.Float64(float64(time.Now().UnixMicro()) / 1e6) }

// watch waits for the end of the executor and makes it happen where it should.
// It returns the verdict for a task that has none of its own.
func (a *Agent) watch(ctx context.Context, t *task) *mesosv1.TaskStatus {
	t.mu.Lock()
	pid, started, child := t.pid, t.started, t.child
	t.mu.Unlock()
	terminated := a.executorTerminated(t)
	fd, err := openProcess(pid, started)
	if err != nil {
		return terminated
	}
	defer unix.Close(fd)
	exited := make(chan struct{})
	stopped := make(chan struct{})
	watchCtx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(stopped)
		if container.WaitPidfd(watchCtx, fd) == nil {
			close(exited)
		}
	}()
	defer func() { cancel(); <-stopped }()
	end := a.guide(ctx, t, fd, exited)
	if ctx.Err() != nil {
		return nil
	}
	if child != nil {
		child.Wait() // it is dead: this only takes its status
	}
	if end != nil {
		return end
	}
	return terminated
}

// guide passes kills to the executor and enforces time limits, until it exits.
func (a *Agent) guide(ctx context.Context, t *task, fd int, exited <-chan struct{}) (end *mesosv1.TaskStatus) {
	timeout, reason, text := a.config.RegistrationTimeout, mesosv1.TaskStatus_REASON_EXECUTOR_REGISTRATION_TIMEOUT,
		"Executor did not register within %s"
	t.mu.Lock()
	if t.launched {
		timeout, reason, text = a.config.ReregistrationTimeout, mesosv1.TaskStatus_REASON_EXECUTOR_REREGISTRATION_TIMEOUT,
			"Executor did not reregister within %s"
	}
	t.mu.Unlock()
	registration := time.NewTimer(timeout)
	defer registration.Stop()
	var last <-chan time.Time
	t.nudge()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-exited:
			return end
		case <-registration.C:
			t.mu.Lock()
			late := !t.subscribed
			t.mu.Unlock()
			if late {
				end = a.verdict(t, mesosv1.TaskState_TASK_FAILED, reason, fmt.Sprintf(text, timeout))
				killProcess(fd)
			}
		case <-last:
			a.log.Warn("executor does not end and is killed", "task", t.id())
			killProcess(fd)
		case <-t.wake:
			// An executor ends the task within its grace period, or itself is ended.
			if grace, ok := a.deliver(t); ok {
				last = time.After(grace + 10*time.Second)
			}
		}
	}
}

// deliver gives the executor what it has to know; it returns the grace period
// of a task that was told to end.
func (a *Agent) deliver(t *task) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	grace := 5 * time.Second
	for _, p := range []*mesosv1.KillPolicy{t.info.GetKillPolicy(), t.kill} {
		if p.GetGracePeriod() != nil {
			grace = max(0, time.Duration(p.GetGracePeriod().GetNanoseconds()))
		}
	}
	if !t.abandoned && t.kill == nil {
		return 0, false
	}
	if t.stream == nil { // not here yet: a subscription nudges
		return grace, t.abandoned
	}
	if t.abandoned {
		t.stream.send(&executorv1.Event{Type: executorv1.Event_SHUTDOWN.Enum()})
	} else {
		kill := &executorv1.Event_Kill{TaskId: t.info.GetTaskId()}
		if t.kill.GetGracePeriod() != nil {
			kill.KillPolicy = t.kill
		}
		t.stream.send(&executorv1.Event{Type: executorv1.Event_KILL.Enum(), Kill: kill})
	}
	return grace, true
}

func killProcess(fd int) {
	unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
}

// openProcess opens the process of that number and start; any other is not it.
func openProcess(pid int, started uint64) (int, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, fmt.Errorf("open process %d: %w", pid, err)
	}
	now, err := processStart(pid)
	if err == nil && now != started {
		err = errors.New("another process has its number")
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("open process %d: %w", pid, err)
	}
	return fd, nil
}

// processStart is field 22 of /proc/PID/stat: clock ticks since boot.
func processStart(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in field 2 may have anything in it, but it ends at the last ")".
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	if fields[0] == "Z" {
		return 0, syscall.ESRCH // dead, only not waited for
	}
	var start uint64
	_, err = fmt.Sscan(fields[19], &start)
	return start, err
}

// cleanUp removes everything of a container but its sandbox. What cannot be
// removed yet is tried again while the task's end is told.
func (a *Agent) cleanUp(t *task) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.runCtx), 3*time.Minute)
	defer cancel()
	t.mu.Lock()
	pid, started := t.pid, t.started
	t.mu.Unlock()
	if pid != 0 {
		if fd, err := openProcess(pid, started); err == nil {
			killProcess(fd)
			container.WaitPidfd(ctx, fd)
			unix.Close(fd)
		}
	}
	if err := a.remove(ctx, t.cid); err != nil {
		a.removeLater(t.cid, err)
	}
}

// remove removes what there is of a container. It may be repeated.
func (a *Agent) remove(ctx context.Context, cid string) error {
	// The container dies with its executor; the cgroup has what is not dead yet.
	return errors.Join(
		container.OpenGroup(a.cgroup(cid)).Destroy(ctx),
		a.network.Detach(ctx, cid),
		os.RemoveAll(filepath.Join(a.config.WorkDir, "containers", cid)),
		os.RemoveAll(a.containerDir(cid)),
		a.images.Release(cid),
	)
}

// Time between attempts to remove what is left of a container; it doubles.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// removeLater tries to remove a container until it succeeds or this process
// ends: a plugin may have been killed, or be unable to reach its service. The
// next start goes on with it.
func (a *Agent) removeLater(cid string, err error) {
	a.destroyErrors.Add(1)
	a.log.Error("container leaves something behind, removing it is tried again", "container", cid, "error", err)
	a.lives.Go(func() {
		for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
			select {
			case <-a.runCtx.Done():
				return
			case <-time.After(pause):
			}
			ctx, cancel := context.WithTimeout(a.runCtx, 3*time.Minute)
			err := a.remove(ctx, cid)
			cancel()
			if err == nil {
				a.log.Info("container has left nothing behind", "container", cid)
				return
			}
			a.log.Warn("container still leaves something behind", "container", cid, "error", err)
		}
	})
}

func (a *Agent) cgroup(cid string) string { return filepath.Join(a.config.CgroupsRoot, cid) }

func (a *Agent) containerDir(cid string) string {
	return filepath.Join(a.config.RuntimeDir, "containers", cid)
}
