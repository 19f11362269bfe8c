package executor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/google/renameio/v2"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	executorv1 "github.com/contrail-mesos/contrail/api/mesos/v1/executor"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/container"
)

// Config of an executor.
type Config struct {
	// Socket of the agent, and path of its executor API.
	Socket, Path string
	// FrameworkID and ExecutorID of this executor.
	FrameworkID, ExecutorID string
	// Dir has the Plan; PIDFile is written there.
	Dir string
	// Init is the argv of container-init.
	Init []string
	// RecoveryTimeout is how long the agent may be away; 0 means 15 minutes.
	RecoveryTimeout time.Duration
	// BackoffMax is the longest pause between subscriptions; 0 means 2 s.
	BackoffMax time.Duration
	// GracePeriod between TERM and KILL, where the task has none; 0 means 5 s.
	GracePeriod time.Duration
}

// Names of files in Config.Dir.
const (
	PlanFile = "plan.json"
	// PIDFile has the process number of the container's PID 1 while it runs.
	PIDFile = "pid"
)

// Plan is the container that the agent has prepared.
type Plan struct {
	Spec container.Spec `json:"spec"`
	// Cgroup of the container, relative to the root of the hierarchies.
	Cgroup string `json:"cgroup"`
	// MemoryLimit in bytes, for the message when it is exceeded.
	MemoryLimit int64 `json:"memory_limit"`
	// Stdout and Stderr are files on the host.
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
}

// Executor runs one task. Everything below is owned by Run's goroutine.
type Executor struct {
	log    *slog.Logger
	config Config
	client *client

	plan      Plan
	framework *mesosv1.FrameworkInfo
	task      *mesosv1.TaskInfo
	process   *container.Process
	killing   bool
	overtime  bool
	ended     bool
	updates   []*mesosv1.TaskStatus // not acknowledged
	// launched is set until an update is acknowledged: the agent may not know
	// that its LAUNCH arrived.
	launched bool
}

// New makes an executor.
func New(log *slog.Logger, config Config) (*Executor, error) {
	config.RecoveryTimeout = cmp.Or(config.RecoveryTimeout, 15*time.Minute)
	config.BackoffMax = cmp.Or(config.BackoffMax, 2*time.Second)
	config.GracePeriod = cmp.Or(config.GracePeriod, 5*time.Second)
	e := &Executor{log: log, config: config}
	data, err := os.ReadFile(filepath.Join(config.Dir, PlanFile))
	if err != nil {
		return nil, fmt.Errorf("read plan of container: %w", err)
	}
	if err := json.Unmarshal(data, &e.plan); err != nil {
		return nil, fmt.Errorf("decode plan of container: %w", err)
	}
	e.client = newClient(log, config)
	return e, nil
}

// Run blocks until the task has ended and the agent knows it, or the agent
// stays away for too long, or ctx ends; the container is gone then.
func (e *Executor) Run(ctx context.Context) error {
	clientCtx, cancel := context.WithCancel(ctx)
	disconnected := make(chan error, 1)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		disconnected <- e.client.run(clientCtx)
	}()
	err := e.loop(ctx, disconnected)
	if e.process != nil {
		e.process.Kill()
		<-e.process.Done()
	}
	cancel()
	<-stopped
	if errors.Is(err, errDone) {
		err = nil
	}
	return err
}

var errDone = errors.New("task has ended and the agent knows")

func (e *Executor) loop(ctx context.Context, disconnected <-chan error) error {
	var grace, completion <-chan time.Time
	for {
		var exited <-chan struct{}
		if e.process != nil && !e.ended {
			exited = e.process.Done()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-disconnected:
			return err
		case reply := <-e.client.subscribing:
			e.client.reset()
			reply <- e.subscribeCall()
		case event := <-e.client.events:
			start, err := e.handle(event)
			if err != nil {
				return err
			}
			if start > 0 {
				grace = time.After(start)
			}
			if e.task.GetMaxCompletionTime() != nil && completion == nil {
				completion = time.After(time.Duration(e.task.GetMaxCompletionTime().GetNanoseconds()))
			}
		case <-grace:
			e.log.Info("grace period is over", "task", e.task.GetTaskId().GetValue())
			if err := e.process.Kill(); err != nil {
				return err
			}
		case <-completion:
			if e.process != nil && !e.ended && !e.killing {
				e.overtime = true
				grace = time.After(e.terminate(e.gracePeriod(nil)))
			}
		case <-exited:
			e.finish()
		}
	}
}

// handle returns a positive duration when a grace period begins.
func (e *Executor) handle(event *executorv1.Event) (time.Duration, error) {
	switch event.GetType() {
	case executorv1.Event_SUBSCRIBED:
		e.framework = event.GetSubscribed().GetFrameworkInfo()
	case executorv1.Event_LAUNCH:
		e.launch(event.GetLaunch().GetTask())
	case executorv1.Event_KILL:
		return e.kill(e.gracePeriod(event.GetKill().GetKillPolicy())), nil
	case executorv1.Event_SHUTDOWN:
		if (e.process == nil || e.ended) && len(e.updates) == 0 {
			return 0, errDone
		}
		return e.kill(e.gracePeriod(nil)), nil
	case executorv1.Event_ACKNOWLEDGED:
		e.launched = false
		id := event.GetAcknowledged().GetUuid()
		e.updates = slices.DeleteFunc(e.updates, func(s *mesosv1.TaskStatus) bool { return string(s.GetUuid()) == string(id) })
		if e.ended && len(e.updates) == 0 {
			return 0, errDone
		}
	case executorv1.Event_ERROR:
		return 0, fmt.Errorf("agent refuses this executor: %s", event.GetError().GetMessage())
	}
	return 0, nil
}

func (e *Executor) launch(task *mesosv1.TaskInfo) {
	if e.task != nil {
		return // sent again by an agent that had not seen that it arrived
	}
	e.task, e.launched = task, true
	e.update(mesosv1.TaskState_TASK_STARTING, "", nil)
	if err := e.start(); err != nil {
		e.ended = true
		e.update(mesosv1.TaskState_TASK_FAILED, "Failed to launch command: "+err.Error(),
			mesosv1.TaskStatus_REASON_COMMAND_EXECUTOR_FAILED.Enum())
		return
	}
	e.update(mesosv1.TaskState_TASK_RUNNING, "", nil)
}

func (e *Executor) start() error {
	stdout, err := os.OpenFile(e.plan.Stdout, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open sandbox file: %w", err)
	}
	defer stdout.Close()
	stderr, err := os.OpenFile(e.plan.Stderr, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open sandbox file: %w", err)
	}
	defer stderr.Close()
	process, err := container.Launcher{Init: e.config.Init}.Start(&e.plan.Spec, stdout, stderr)
	if err != nil {
		return err
	}
	e.process = process
	pid := []byte(strconv.Itoa(process.PID()) + "\n")
	if err := renameio.WriteFile(filepath.Join(e.config.Dir, PIDFile), pid, 0o644); err != nil {
		process.Kill()
		<-process.Done()
		e.process = nil
		return fmt.Errorf("write process number: %w", err)
	}
	return nil
}

func (e *Executor) gracePeriod(policy *mesosv1.KillPolicy) time.Duration {
	for _, p := range []*mesosv1.KillPolicy{policy, e.task.GetKillPolicy()} {
		if p.GetGracePeriod() != nil {
			return max(0, time.Duration(p.GetGracePeriod().GetNanoseconds()))
		}
	}
	return e.config.GracePeriod
}

// kill may be repeated; a later one with a shorter grace period counts.
func (e *Executor) kill(grace time.Duration) time.Duration {
	if e.process == nil || e.ended {
		return 0
	}
	if !e.killing {
		e.killing = true
		if slices.ContainsFunc(e.framework.GetCapabilities(), func(c *mesosv1.FrameworkInfo_Capability) bool {
			return c.GetType() == mesosv1.FrameworkInfo_Capability_TASK_KILLING_STATE
		}) {
			e.update(mesosv1.TaskState_TASK_KILLING, "", nil)
		}
	}
	return e.terminate(grace)
}

func (e *Executor) terminate(grace time.Duration) time.Duration {
	if err := e.process.Terminate(); err != nil {
		e.log.Warn("task is not told to end", "error", err)
	}
	return max(grace, time.Nanosecond)
}

// finish says how the command ended.
func (e *Executor) finish() {
	e.ended = true
	status, err := e.process.Status()
	text, ok := describe(status)
	if err != nil {
		text, ok = "Container is lost: "+err.Error(), false
	}
	usage := container.OpenGroup(e.plan.Cgroup).Usage()
	switch {
	case e.overtime:
		e.update(mesosv1.TaskState_TASK_FAILED, text, mesosv1.TaskStatus_REASON_MAX_COMPLETION_TIME_REACHED.Enum())
	case e.killing:
		e.update(mesosv1.TaskState_TASK_KILLED, text, nil)
	case ok:
		e.update(mesosv1.TaskState_TASK_FINISHED, text, nil)
	case usage.OOMKills > 0:
		e.update(mesosv1.TaskState_TASK_FAILED, fmt.Sprintf("Memory limit exceeded: Requested: %dMB Maximum Used: %dMB: %s",
			e.plan.MemoryLimit>>20, usage.MemoryPeak>>20, text), mesosv1.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY.Enum())
	default:
		e.update(mesosv1.TaskState_TASK_FAILED, text, nil)
	}
}

// update queues an update and has it sent.
func (e *Executor) update(state mesosv1.TaskState, message string, reason *mesosv1.TaskStatus_Reason) {
	id := uuid.New()
	status := &mesosv1.TaskStatus{
		TaskId:     e.task.GetTaskId(),
		State:      state.Enum(),
		Source:     mesosv1.TaskStatus_SOURCE_EXECUTOR.Enum(),
		Reason:     reason,
		ExecutorId: &mesosv1.ExecutorID{Value: proto.String(e.config.ExecutorID)},
		Timestamp:  proto.Float64(float64(time.Now().UnixMicro()) / 1e6),
		Uuid:       id[:],
	}
	if message != "" {
		status.Message = proto.String(message)
	}
	e.log.Info("task changes", "task", status.GetTaskId().GetValue(), "state", state.String(), "reason", message)
	e.updates = append(e.updates, status)
	e.client.send(status)
}

func (e *Executor) subscribeCall() *executorv1.Call_Subscribe {
	call := &executorv1.Call_Subscribe{}
	if e.launched {
		call.UnacknowledgedTasks = append(call.UnacknowledgedTasks, e.task)
	}
	for _, s := range e.updates {
		call.UnacknowledgedUpdates = append(call.UnacknowledgedUpdates, &executorv1.Call_Update{Status: s})
	}
	return call
}
