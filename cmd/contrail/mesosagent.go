package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/contrail-mesos/contrail/internal/lifecycle"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/agent"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/container"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/executor"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// runHelper runs the programs inside this one that the Mesos agent and
// `contrail exec` start for each container. They are no commands of the user's,
// and are told apart before anything else happens, because every container
// waits for them.
func runHelper(args []string) (code int, ok bool) {
	if len(args) < 3 || args[1] != "mesos" {
		return 0, false
	}
	switch args[2] {
	case "container-init":
		return container.Init(), true
	case "executor":
		if err := runExecutor(args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, "contrail mesos executor: "+err.Error())
			return 1, true
		}
		return 0, true
	case "container-exec":
		return runContainerExec(args[3:]), true
	}
	return 0, false
}

// runContainerExec runs a command in the container of a process, in its working
// directory and with its own environment: `contrail exec`.
func runContainerExec(args []string) int {
	ctx, stop := leaveTerminal(context.Background())
	defer stop()
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "contrail mesos container-exec: give the id of a process of the container and a command")
		return 1
	}
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		fmt.Fprintf(os.Stderr, "contrail mesos container-exec: %q is no process id\n", args[0])
		return 1
	}
	status, err := container.Exec(ctx, pid, args[1:], os.Environ(), container.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "contrail mesos container-exec: "+err.Error())
		return 1
	case status.Signal != 0:
		return 128 + status.Signal // as a shell tells it
	default:
		return status.Code
	}
}

// self is this program, also after its file was replaced by another version.
const self = "/proc/self/exe"

// runExecutor is configured by the environment that Mesos gives executors.
func runExecutor(args []string) error {
	flags := pflag.NewFlagSet("executor", pflag.ContinueOnError)
	dir := flags.String("container-dir", "", "`directory` with the plan of the container")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := lifecycle.WithSignals(context.Background())
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	e, err := executor.New(log, executor.Config{
		Socket:      os.Getenv("MESOS_DOMAIN_SOCKET"),
		Path:        "/slave(1)/api/v1/executor",
		FrameworkID: os.Getenv("MESOS_FRAMEWORK_ID"),
		ExecutorID:  os.Getenv("MESOS_EXECUTOR_ID"),
		Dir:         *dir,
		Init:        []string{self, "mesos", "container-init"},
	})
	if err != nil {
		return err
	}
	return e.Run(ctx)
}

func newMesosAgentCommand() *cobra.Command {
	var (
		common                serviceFlags
		config                agent.Config
		resources, attributes string
	)
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the tasks of Mesos in a box on this node",
		Example: `  contrail mesos agent --master 172.31.0.1:5050 --hostname node-1 --ip 172.31.0.11 \
    --tls-dir /etc/contrail/tls --listen-tls 172.31.0.11:5051 --listen-unix /run/mesos/agent.sock \
    --work-dir /var/lib/mesos --runtime-dir /run/mesos --cgroups-root mesos \
    --docker-registry 172.31.0.1:1567 \
    --network-cni-config-dir /etc/cni/net.d --network-cni-plugins-dir /usr/libexec/contrail`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config.Flags = map[string]string{}
			cmd.Flags().VisitAll(func(f *pflag.Flag) { config.Flags[mesosFlag(f.Name)] = f.Value.String() })
			var err error
			if config.Resources, err = agent.ParseResources(resources); err != nil {
				return fmt.Errorf("--resources: %w", err)
			}
			if config.Attributes, err = agent.ParseAttributes(attributes); err != nil {
				return fmt.Errorf("--attributes: %w", err)
			}
			return runMesosAgent(cmd.Context(), &common, config)
		},
	}
	flags := cmd.Flags()
	common.register(flags)
	flags.StringVar(&config.Master, "master", "", "`address` (host:port, or unix:PATH) of the master")
	flags.StringVar(&config.Hostname, "hostname", "", "`name` of the node (default: the host's)")
	flags.StringVar(&config.IP, "ip", "", "`address` of the node that frameworks see")
	flags.IntVar(&config.Port, "port", 5051, "port of the agent that frameworks see")
	flags.StringVar(&config.WorkDir, "work-dir", "/var/lib/mesos", "`directory` of sandboxes, images and records")
	flags.StringVar(&config.RuntimeDir, "runtime-dir", "/run/mesos", "`directory` of running containers")
	flags.StringVar(&config.Registry, "docker-registry", "", "registry (`host:port`) for image names without one, or the directory of image archives")
	flags.StringVar(&config.NetworkConfigDir, "network-cni-config-dir", "", "`directory` of CNI network configurations")
	flags.StringVar(&config.NetworkPluginsDir, "network-cni-plugins-dir", "", "search `path` of CNI plugins, also given to them")
	flags.StringVar(&config.CgroupsRoot, "cgroups-root", "mesos", "cgroup `path` below which containers get theirs")
	flags.BoolVar(&config.CPUQuota, "cgroups-enable-cfs", true, "a container gets no more CPU than its task asks for, even on an idle node")
	flags.StringVar(&resources, "resources", "cpus:1;mem:1024;disk:1024;ports:[31000-32000]", "what the node `offers`")
	flags.StringVar(&attributes, "attributes", "", "what distinguishes the node, as `name:value;name:value`")
	flags.DurationVar(&config.RegistrationTimeout, "executor-registration-timeout", time.Minute, "how long an executor may take to start")
	flags.DurationVar(&config.ReregistrationTimeout, "executor-reregistration-timeout", 15*time.Second, "how long an executor may take to come back after a restart of the agent")
	flags.IntVar(&config.SandboxesKept, "sandboxes-kept", 50, "how many sandboxes of ended containers stay")
	return cmd
}

// mesosFlag is a flag's name as Mesos shows it.
func mesosFlag(name string) string {
	out := []byte(name)
	for i, c := range out {
		if c == '-' {
			out[i] = '_'
		}
	}
	return string(out)
}

func runMesosAgent(ctx context.Context, common *serviceFlags, config agent.Config) error {
	log, credentials, err := common.load("mesos-agent")
	if err != nil {
		return err
	}
	for flag, value := range map[string]string{
		"--master": config.Master, "--ip": config.IP, "--docker-registry": config.Registry, "--listen-unix": common.listen.Unix,
	} {
		if value == "" {
			return errors.New(flag + " is missing")
		}
	}
	if config.Hostname == "" {
		if config.Hostname, err = os.Hostname(); err != nil {
			return fmt.Errorf("find host name: %w; see --hostname", err)
		}
	}
	for _, path := range []*string{&config.WorkDir, &config.RuntimeDir, &common.listen.Unix} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	config.Credentials = credentials
	config.Socket = common.listen.Unix
	config.PluginPath = os.Getenv("PATH")
	config.Executor = []string{self, "mesos", "executor"}
	a, err := agent.New(log, config)
	if err != nil {
		return err
	}
	server, err := serve.Listen(log, common.listen, a.Handler())
	if err != nil {
		return err
	}
	group := lifecycle.New(log)
	group.Add("api", server.Run)
	group.Add("agent", a.Run)
	return group.Wait(ctx)
}
