package agent

import (
	"cmp"
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
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/image"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/isolator"
)

// Agent runs tasks. Safe for concurrent use.
type Agent struct {
	log     *slog.Logger
	config  Config
	bootID  string
	began   time.Time
	images  *image.Store
	network *isolator.CNI

	// lives are the goroutines of tasks; they run in Run's context.
	lives     sync.WaitGroup
	runCtx    context.Context
	recovered chan struct{} // closed when it is known what runs

	destroyErrors atomic.Int64

	// Read under task.mu, so not guarded by mu.
	agentID atomic.Pointer[string]
	session atomic.Pointer[session] // nil without the master
	counts  counters

	// sandboxes: making one and removing the empty directories of others
	// exclude each other.
	sandboxes sync.Mutex

	mu        sync.Mutex
	tasks     map[taskKey]*task
	completed []*task // newest last
}

type taskKey struct{ framework, task string }

// completedKept bounds the memory of ended tasks.
const completedKept = 200

// New makes an agent and its directories, and takes over what an earlier
// process left. Nothing runs before Run.
func New(log *slog.Logger, config Config) (*Agent, error) {
	config.RegistrationTimeout = cmp.Or(config.RegistrationTimeout, time.Minute)
	config.ReregistrationTimeout = cmp.Or(config.ReregistrationTimeout, 15*time.Second)
	// Root in a container may make a program set-user-id: no other user of the
	// host may come near it. Only tasks without an image pass through slaves.
	for dir, mode := range map[string]fs.FileMode{"meta": 0o700, "meta/tasks": 0o700, "slaves": 0o711, "containers": 0o700, "images": 0o700} {
		path := filepath.Join(config.WorkDir, dir)
		if err := errors.Join(os.MkdirAll(path, mode), os.Chmod(path, mode)); err != nil {
			return nil, fmt.Errorf("make work directory: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(config.RuntimeDir, "containers"), 0o755); err != nil {
		return nil, fmt.Errorf("make runtime directory: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	a := &Agent{
		log: log, config: config, bootID: strings.TrimSpace(string(boot)), began: time.Now(),
		recovered: make(chan struct{}), tasks: map[taskKey]*task{},
	}
	a.network, err = isolator.New(log, isolator.Config{
		Root: filepath.Join(config.RuntimeDir, "isolators/network/cni"), ConfigDir: config.NetworkConfigDir,
		PluginsDir: config.NetworkPluginsDir, Path: config.PluginPath,
	})
	if err != nil {
		return nil, err
	}
	a.images, err = image.Open(log, image.Config{
		Dir: filepath.Join(config.WorkDir, "images"), Registry: config.Registry, Credentials: config.Credentials,
	})
	if err != nil {
		return nil, err
	}
	if err := a.load(); err != nil {
		return nil, err
	}
	return a, nil
}

// Run recovers, serves the master and runs tasks until ctx ends. Executors and
// containers live on; only an order of the master ends them.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.mu.Lock()
	a.runCtx = ctx
	all := a.snapshot()
	a.mu.Unlock()
	if err := a.recover(ctx, all); err != nil {
		return err
	}
	close(a.recovered)
	for _, t := range all {
		a.start(t)
	}
	sessions := make(chan error, 1)
	go func() { sessions <- a.serveMaster(ctx) }()
	var err error
	select {
	case err = <-sessions:
		sessions <- err
	case <-ctx.Done():
		err = ctx.Err()
	}
	cancel()
	<-sessions
	a.lives.Wait()
	return err
}

// start gives a task its goroutine.
func (a *Agent) start(t *task) {
	a.lives.Go(func() { a.live(a.runCtx, t) })
}

// snapshot of the tasks that are known, in order of their ids. a.mu is held.
func (a *Agent) snapshot() []*task {
	all := make([]*task, 0, len(a.tasks))
	for _, t := range a.tasks {
		all = append(all, t)
	}
	slices.SortFunc(all, func(x, y *task) int { return strings.Compare(x.frameworkID()+x.id(), y.frameworkID()+y.id()) })
	return all
}

// Tasks lists what is not completed.
func (a *Agent) current() []*task {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.snapshot()
}

func (a *Agent) find(framework, id string) *task {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tasks[taskKey{framework, id}]
}

// forget moves a task whose container and updates are done to the completed ones.
func (a *Agent) forget(t *task) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := taskKey{t.frameworkID(), t.id()}
	if a.tasks[key] != t {
		return
	}
	delete(a.tasks, key)
	a.completed = append(a.completed, t)
	if n := len(a.completed) - completedKept; n > 0 {
		a.completed = slices.Delete(a.completed, 0, n)
	}
}

func (a *Agent) id() *mesosv1.AgentID {
	id := a.agentID.Load()
	if id == nil {
		return nil
	}
	return &mesosv1.AgentID{Value: id}
}

// info is the agent as master and executors see it.
func (a *Agent) info() *mesosv1.AgentInfo {
	return &mesosv1.AgentInfo{
		Hostname: proto.String(a.config.Hostname), Port: proto.Int32(int32(a.config.Port)),
		Resources: a.config.Resources, Attributes: a.config.Attributes, Id: a.id(),
	}
}

func (a *Agent) endpoint() string { return fmt.Sprintf("%s:%d", a.config.IP, a.config.Port) }

// pid is the agent's name in the old form of Mesos.
func (a *Agent) pid() string { return "slave(1)@" + a.endpoint() }

// errGone ends Run: the master wants this agent to go.
var errGone = errors.New("the master has shut this agent down")

// killAll ends every task, without telling anybody, and waits for it.
func (a *Agent) killAll() {
	for _, t := range a.current() {
		t.mu.Lock()
		t.abandoned = true
		t.mu.Unlock()
		t.nudge()
	}
	for _, t := range a.current() {
		select {
		case <-t.gone:
		case <-a.runCtx.Done():
			return
		}
	}
}
