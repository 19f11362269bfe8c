package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/configapi"
	"github.com/contrail-mesos/contrail/internal/lifecycle"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
)

// controllerFlags are those of `contrail controller`.
type controllerFlags struct {
	logLevel        string
	tlsDir          string
	data, run       string
	listenTLS       string
	listenFD        []int
	rest, tombstone time.Duration
	slow            time.Duration
	pool            string
}

// Defaults that `contrail controller` and its parts share.
const (
	defaultRest      = 2 * time.Minute
	defaultTombstone = 10 * time.Minute
	defaultPool      = "10.32.0.0/12"
	defaultSlow      = time.Second
)

func newControllerCommand() *cobra.Command {
	var f controllerFlags
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Run the store, the configuration API and the control node",
		Long: `Runs three processes of this binary and starts each again when it ends:

  store    keeps the configuration (etcd), on RUN/store.sock
  config   answers the configuration API, on RUN/config.sock and --listen-fd
  control  streams routes to the nodes, on RUN/control.sock and --listen-tls

They end with this process, however it ends.`,
		Example: "  contrail controller --data /var/lib/contrail --run /run/contrail --tls-dir /etc/contrail/tls --listen-tls 172.31.0.1:5269",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.supervise(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.logLevel, "log-level", "info", "least severe `level` that is logged: debug, info, warn or error")
	flags.StringVar(&f.tlsDir, "tls-dir", "", "`directory` with ca.crt, tls.crt and tls.key of the controller")
	flags.StringVar(&f.data, "data", "/var/lib/contrail/controller", "`directory` of the store's data")
	flags.StringVar(&f.run, "run", "/run/contrail", "`directory` of the sockets")
	flags.StringVar(&f.listenTLS, "listen-tls", "", "`address` (host:port) on which control serves the nodes with mutual TLS")
	flags.IntSliceVar(&f.listenFD, "listen-fd", nil, "inherited listening `descriptor` on which the configuration API answers without authentication")
	flags.DurationVar(&f.rest, "rest", defaultRest, "how long released addresses, labels and numbers rest")
	flags.DurationVar(&f.tombstone, "tombstone", defaultTombstone, "how long a detached container's interface cannot be attached again")
	flags.DurationVar(&f.slow, "slow-request", defaultSlow, "how long a request of the configuration API may take before it is logged; 0 logs none")
	flags.StringVar(&f.pool, "pool", defaultPool, "IPv4 `prefix` from which new networks get a /20 each")
	cmd.AddCommand(newStoreCommand(), newConfigCommand(), newControlCommand())
	return cmd
}

// child is one process of the controller.
type child struct {
	name  string
	args  []string
	files []*os.File
}

func (f *controllerFlags) supervise(ctx context.Context) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: want debug, info, warn or error", f.logLevel)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("component", "controller")
	if err := os.MkdirAll(f.run, 0o700); err != nil {
		return fmt.Errorf("--run %s: %w", f.run, err)
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	group := lifecycle.New(log)
	for _, c := range f.children() {
		group.Add(c.name, func(ctx context.Context) error { return c.keepRunning(ctx, log, binary) })
	}
	return group.Wait(ctx)
}

// children in the order of starting.
func (f *controllerFlags) children() []child {
	socket := filepath.Join(f.run, "store.sock")
	common := []string{"--log-level", f.logLevel}
	config := child{name: "config", args: append([]string{
		"--store", "unix:" + socket, "--listen-unix", filepath.Join(f.run, "config.sock"),
		"--rest", f.rest.String(), "--tombstone", f.tombstone.String(), "--pool", f.pool,
		"--slow-request", f.slow.String(),
	}, common...)}
	control := child{name: "control", args: append([]string{
		"--store", "unix:" + socket, "--listen-unix", filepath.Join(f.run, "control.sock"),
	}, common...)}
	for i, fd := range f.listenFD {
		// Only config shall have it.
		syscall.CloseOnExec(fd)
		config.files = append(config.files, os.NewFile(uintptr(fd), "listen-fd"))
		config.args = append(config.args, "--listen-fd", strconv.Itoa(3+i))
	}
	if f.tlsDir != "" {
		config.args = append(config.args, "--tls-dir", f.tlsDir)
		control.args = append(control.args, "--tls-dir", f.tlsDir)
	}
	if f.listenTLS != "" {
		control.args = append(control.args, "--listen-tls", f.listenTLS)
	}
	return []child{
		{name: "store", args: append([]string{"--data", filepath.Join(f.data, "store"), "--socket", socket}, common...)},
		config, control,
	}
}

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
	// settled is how long a process runs until its earlier ends are forgotten.
	settled = 10 * time.Second
	// grace is how long a process may take to end when it is asked to.
	grace = 10 * time.Second
)

// keepRunning runs the process again and again until ctx ends.
func (c *child) keepRunning(ctx context.Context, log *slog.Logger, binary string) error {
	// The kernel ends the child when the thread that made it goes away: keep it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pause := firstPause
	for {
		started := time.Now()
		err := c.run(ctx, binary)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(started) > settled {
			pause = firstPause
		}
		log.Warn("process ended; starting it again", "process", c.name, "error", err, "pause", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		pause = min(2*pause, maxPause)
	}
}

func (c *child) run(ctx context.Context, binary string) error {
	cmd := exec.CommandContext(ctx, binary, append([]string{"controller", c.name}, c.args...)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.ExtraFiles = c.files
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	if err := cmd.Run(); err != nil {
		return err
	}
	return fmt.Errorf("ended without being asked to")
}

// newStoreCommand is `contrail controller store`.
func newStoreCommand() *cobra.Command {
	var flags serviceFlags
	var cfg store.ServerConfig
	cmd := &cobra.Command{
		Use:     "store",
		Short:   "Keep the configuration (embedded etcd) and answer on a unix socket",
		Example: "  contrail controller store --data /var/lib/contrail/controller/store --socket /run/contrail/store.sock",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, _, err := flags.load("store")
			if err != nil {
				return err
			}
			// etcd makes its socket with the mode that the umask leaves.
			unix.Umask(0o077)
			return store.Serve(cmd.Context(), log, cfg)
		},
	}
	cmd.Flags().StringVar(&flags.logLevel, "log-level", "info", "least severe `level` that is logged: debug, info, warn or error")
	cmd.Flags().StringVar(&cfg.DataDir, "data", "/var/lib/contrail/controller/store", "`directory` of the data")
	cmd.Flags().StringVar(&cfg.Socket, "socket", "/run/contrail/store.sock", "`path` of the unix socket; only root gets in")
	cmd.Flags().DurationVar(&cfg.Retention, "retention", time.Hour, "how long old revisions are kept")
	return cmd
}

// newConfigCommand is `contrail controller config`.
func newConfigCommand() *cobra.Command {
	var flags serviceFlags
	var endpoint, pool string
	var cfg configapi.Config
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Answer the configuration API",
		Example: "  contrail controller config --store unix:/run/contrail/store.sock --listen-unix /run/contrail/config.sock",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, _, err := flags.load("config")
			if err != nil {
				return err
			}
			if cfg.Pool, err = netip.ParsePrefix(pool); err != nil {
				return fmt.Errorf("--pool %q: want an IPv4 prefix such as %s", pool, defaultPool)
			}
			return serveConfig(cmd.Context(), log, endpoint, cfg, flags.listen)
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().StringVar(&endpoint, "store", "unix:/run/contrail/store.sock", "`address` of the store: unix:PATH or an etcd URL")
	cmd.Flags().DurationVar(&cfg.Rest, "rest", defaultRest, "how long released addresses, labels and numbers rest")
	cmd.Flags().DurationVar(&cfg.Tombstone, "tombstone", defaultTombstone, "how long a detached container's interface cannot be attached again")
	cmd.Flags().StringVar(&pool, "pool", defaultPool, "IPv4 `prefix` from which new networks get a /20 each")
	cmd.Flags().DurationVar(&cfg.Slow, "slow-request", defaultSlow, "how long a request may take before it is logged; 0 logs none")
	return cmd
}

func serveConfig(ctx context.Context, log *slog.Logger, endpoint string, cfg configapi.Config, listen serve.Config) error {
	s, err := store.Open(ctx, log, store.Config{Endpoints: []string{etcdEndpoint(endpoint)}})
	if err != nil {
		return err
	}
	defer s.Close()
	api, err := configapi.New(log, s, cfg)
	if err != nil {
		return err
	}
	server, err := serve.Listen(log, listen, api.Handler())
	if err != nil {
		return err
	}
	group := lifecycle.New(log)
	group.Add("graph", api.Run)
	group.Add("api", server.Run)
	return group.Wait(ctx)
}
