package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/lifecycle"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/container"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/executor"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// TestMain lets the test binary be every program that takes part: the agent,
// its executors and container-init. They are killed and restarted by tests.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		var err error
		switch os.Args[1] {
		case "container-init":
			unix.Exit(container.Init())
		case "executor":
			err = executorMain(os.Args[3])
		case "agent":
			err = agentMain(os.Args[2])
		default:
			goleak.VerifyTestMain(m)
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, os.Args[1]+": "+err.Error())
			unix.Exit(1)
		}
		unix.Exit(0) // os.Exit takes a second with the race detector
	}
	goleak.VerifyTestMain(m)
}

func executorMain(dir string) error {
	e, err := executor.New(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), executor.Config{
		Socket: os.Getenv("MESOS_DOMAIN_SOCKET"), Path: "/slave(1)/api/v1/executor",
		FrameworkID: os.Getenv("MESOS_FRAMEWORK_ID"), ExecutorID: os.Getenv("MESOS_EXECUTOR_ID"),
		Dir: dir, Init: []string{"/proc/self/exe", "container-init"}, BackoffMax: 100 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	return e.Run(context.Background())
}

// childConfig is what a test tells an agent process.
type childConfig struct {
	Master, Socket, Work, Runtime, Registry, Conf, Plugins, Cgroups string
}

func agentMain(text string) error {
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	resources, err := ParseResources("cpus:4;mem:1024;ports:[31000-31099]")
	if err != nil {
		return err
	}
	a, err := New(log, Config{
		Master: "unix:" + c.Master, Hostname: "node-1", IP: "192.0.2.11", Port: 5051, WorkDir: c.Work, RuntimeDir: c.Runtime,
		Socket: c.Socket, Registry: c.Registry, NetworkConfigDir: c.Conf, NetworkPluginsDir: c.Plugins, CgroupsRoot: c.Cgroups,
		CPUQuota: true, Resources: resources, Executor: []string{"/proc/self/exe", "executor"},
		SandboxesKept: 50, Flags: map[string]string{"work_dir": c.Work},
	})
	if err != nil {
		return err
	}
	server, err := serve.Listen(log, serve.Config{Unix: c.Socket}, a.Handler())
	if err != nil {
		return err
	}
	group := lifecycle.New(log)
	group.Add("api", server.Run)
	group.Add("agent", a.Run)
	return group.Wait(ctx)
}
