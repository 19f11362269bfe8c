package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
	users           userFlags
	// Of several controllers.
	name, peerListen, clientListen string
	join                           []string
	drain                          time.Duration
	addPaths                       int
	// The store's, or another.
	space    spaceFlags
	external storeFlags
}

// spaceFlags are limits of the embedded store.
type spaceFlags struct{ quota, reserve sizeValue }

func (f *spaceFlags) register(flags *pflag.FlagSet, prefix string) {
	f.quota, f.reserve = store.DefaultQuota, store.DefaultReserve
	flags.Var(&f.quota, prefix+"quota", "`size` at which the store refuses to grow")
	flags.Var(&f.reserve, prefix+"reserve", "free `size` of the disk below which the store refuses to grow")
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
  config   answers the configuration API, on RUN/config.sock, --listen-users and --listen-fd
  control  streams routes to the nodes, on RUN/control.sock and --listen-tls

They end with this process, however it ends.

With --peer-listen it is one of several controllers, three as a rule, that keep
the store together: the first begins alone, also with the data that it has, and
the others --join it. They speak mutual TLS with the certificates of --tls-dir.
With --store-endpoints the store is an etcd of your own and no store is run.`,
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
	flags.IntSliceVar(&f.listenFD, "listen-fd", nil, "inherited listening `descriptor` on which the configuration API answers, without authentication in the mode no-auth")
	flags.DurationVar(&f.rest, "rest", defaultRest, "how long released addresses, labels and numbers rest")
	flags.DurationVar(&f.tombstone, "tombstone", defaultTombstone, "how long a detached container's interface cannot be attached again")
	flags.DurationVar(&f.slow, "slow-request", defaultSlow, "how long a request of the configuration API may take before it is logged; 0 logs none")
	flags.StringVar(&f.pool, "pool", defaultPool, "IPv4 `prefix` from which new networks get a /20 each")
	f.registerCluster(flags)
	f.users.register(flags)
	cmd.AddCommand(newStoreCommand(), newConfigCommand(), newControlCommand())
	cmd.AddCommand(newMemberCommands()...)
	return cmd
}

func (f *controllerFlags) registerCluster(flags *pflag.FlagSet) {
	flags.StringVar(&f.name, "name", "", "`name` of this one among the controllers, the host's if empty")
	flags.StringVar(&f.peerListen, "peer-listen", "", "`address` (host:port, port 2380 as a rule) on which the other controllers' stores reach this one's")
	flags.StringVar(&f.clientListen, "client-listen", "", "`address` (host:port) on which the other controllers' processes reach this one's store, the host of --peer-listen and port 2379 if empty")
	flags.StringSliceVar(&f.join, "join", nil, "`addresses` (host or host:port of --client-listen) of other controllers to join; without effect once there are data")
	registerAddPaths(flags, &f.addPaths)
	flags.DurationVar(&f.drain, "drain", 0, "how long the configuration API is served on, without being ready, when it is to stop (half a second if it is one of several)")
	flags.StringSliceVar(&f.external.endpoints, "store-endpoints", nil, "`URLs` of an etcd of your own that keeps the configuration")
	f.external.registerFiles(flags)
	f.space.register(flags, "store-")
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
	if err := f.complete(); err != nil {
		return err
	}
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

// complete checks the flags about the store and fills in what they leave open.
func (f *controllerFlags) complete() error {
	several := f.peerListen != ""
	if err := checkAddPaths(f.addPaths); err != nil {
		return err
	}
	switch {
	case several && len(f.external.endpoints) > 0:
		return errors.New("--peer-listen is for the embedded store, --store-endpoints for another: give one of them")
	case !several && (len(f.join) > 0 || f.clientListen != ""):
		return errors.New("--join and --client-listen want --peer-listen, the address of this controller")
	case several && f.tlsDir == "":
		return errors.New("--peer-listen wants --tls-dir: controllers speak mutual TLS")
	}
	if f.name == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("--name: %w", err)
		}
		f.name = host
	}
	if !several {
		return nil
	}
	if f.drain == 0 {
		f.drain = defaultDrain
	}
	host, _, err := net.SplitHostPort(f.peerListen)
	if err != nil {
		return fmt.Errorf("--peer-listen %q: want host:port, such as 192.0.2.1:2380", f.peerListen)
	}
	if f.clientListen == "" {
		f.clientListen = net.JoinHostPort(host, clientPort)
	}
	for i, address := range f.join {
		if _, _, err := net.SplitHostPort(address); err != nil {
			f.join[i] = net.JoinHostPort(strings.Trim(address, "[]"), clientPort)
		}
	}
	return nil
}

const (
	// clientPort is where a controller's store listens for other controllers.
	clientPort = "2379"
	// defaultDrain lets clients of one of several controllers go to another.
	defaultDrain = 500 * time.Millisecond
)

// reach is how config and control reach the store.
func (f *controllerFlags) reach(socket string) storeFlags {
	from := f.external
	from.writer = f.name
	if len(from.endpoints) > 0 {
		from.shared = true
		return from
	}
	from.endpoints = append([]string{"unix:" + socket}, f.join...)
	if f.peerListen != "" {
		from.shared = true
		from.members = filepath.Join(f.data, "members")
	}
	return from
}

// children in the order of starting.
func (f *controllerFlags) children() []child {
	socket := filepath.Join(f.run, "store.sock")
	common := []string{"--log-level", f.logLevel}
	if f.tlsDir != "" {
		common = append(common, "--tls-dir", f.tlsDir)
	}
	from := f.reach(socket)
	common = append(common, from.args()...)
	config := child{name: "config", args: append([]string{
		"--listen-unix", filepath.Join(f.run, "config.sock"),
		"--rest", f.rest.String(), "--tombstone", f.tombstone.String(), "--pool", f.pool,
		"--slow-request", f.slow.String(), "--drain", f.drain.String(),
	}, append(f.users.args(), common...)...)}
	control := child{name: "control", args: append([]string{
		"--listen-unix", filepath.Join(f.run, "control.sock"), "--bgp-router", f.name, "--bgp-add-paths", strconv.Itoa(f.addPaths),
	}, common...)}
	for i, fd := range f.listenFD {
		// Only config shall have it.
		syscall.CloseOnExec(fd)
		config.files = append(config.files, os.NewFile(uintptr(fd), "listen-fd"))
		config.args = append(config.args, "--listen-fd", strconv.Itoa(3+i))
	}
	if f.listenTLS != "" {
		control.args = append(control.args, "--listen-tls", f.listenTLS)
	}
	if len(f.external.endpoints) > 0 {
		return []child{config, control}
	}
	return []child{f.storeChild(socket), config, control}
}

func (f *controllerFlags) storeChild(socket string) child {
	args := []string{
		"--data", filepath.Join(f.data, "store"), "--socket", socket, "--log-level", f.logLevel,
		"--quota", f.space.quota.String(), "--reserve", f.space.reserve.String(),
	}
	if f.peerListen != "" {
		args = append(args, "--tls-dir", f.tlsDir, "--name", f.name, "--peer-listen", f.peerListen, "--client-listen", f.clientListen)
		if len(f.join) > 0 {
			args = append(args, "--join", strings.Join(f.join, ","))
		}
	}
	return child{name: "store", args: args}
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
	var members store.MemberConfig
	var space spaceFlags
	cmd := &cobra.Command{
		Use:     "store",
		Short:   "Keep the configuration (embedded etcd) and answer on a unix socket",
		Example: "  contrail controller store --data /var/lib/contrail/controller/store --socket /run/contrail/store.sock",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, credentials, err := flags.load("store")
			if err != nil {
				return err
			}
			if members.Peers != "" {
				members.Credentials = credentials
				cfg.Members = &members
			}
			cfg.Quota, cfg.Reserve = int64(space.quota), int64(space.reserve)
			// etcd makes its socket with the mode that the umask leaves.
			unix.Umask(0o077)
			boundGarbage(storeBounds)
			return store.Serve(cmd.Context(), log, cfg)
		},
	}
	set := cmd.Flags()
	set.StringVar(&flags.logLevel, "log-level", "info", "least severe `level` that is logged: debug, info, warn or error")
	set.StringVar(&flags.tlsDir, "tls-dir", "", "`directory` with ca.crt, tls.crt and tls.key of the controller")
	set.StringVar(&cfg.DataDir, "data", "/var/lib/contrail/controller/store", "`directory` of the data")
	set.StringVar(&cfg.Socket, "socket", "/run/contrail/store.sock", "`path` of the unix socket; only root gets in")
	set.DurationVar(&cfg.Retention, "retention", time.Hour, "how long old revisions are kept")
	set.StringVar(&members.Name, "name", "", "`name` of this one among the controllers")
	set.StringVar(&members.Peers, "peer-listen", "", "`address` (host:port) for the other controllers' stores")
	set.StringVar(&members.Clients, "client-listen", "", "`address` (host:port) for the other controllers' processes")
	set.StringSliceVar(&members.Join, "join", nil, "`addresses` (host:port) of other controllers' --client-listen to join")
	space.register(set, "")
	return cmd
}

// newConfigCommand is `contrail controller config`.
func newConfigCommand() *cobra.Command {
	var flags serviceFlags
	var from storeFlags
	var pool string
	var cfg configapi.Config
	var users userFlags
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Answer the configuration API",
		Example: "  contrail controller config --store unix:/run/contrail/store.sock --listen-unix /run/contrail/config.sock",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, credentials, err := flags.load("config")
			if err != nil {
				return err
			}
			at, err := from.config(credentials)
			if err != nil {
				return err
			}
			boundGarbage(storeBounds)
			if cfg.Pool, err = netip.ParsePrefix(pool); err != nil {
				return fmt.Errorf("--pool %q: want an IPv4 prefix such as %s", pool, defaultPool)
			}
			cfg.Mode = users.firstMode(flags.listen.Open)
			return serveConfig(cmd.Context(), log, at, cfg, flags.listen, &users)
		},
	}
	flags.register(cmd.Flags())
	users.register(cmd.Flags())
	from.register(cmd.Flags())
	from.registerShared(cmd.Flags())
	cmd.Flags().DurationVar(&flags.listen.Drain, "drain", 0, "how long to serve on, without being ready, when this is to stop")
	cmd.Flags().DurationVar(&cfg.Rest, "rest", defaultRest, "how long released addresses, labels and numbers rest")
	cmd.Flags().DurationVar(&cfg.Tombstone, "tombstone", defaultTombstone, "how long a detached container's interface cannot be attached again")
	cmd.Flags().StringVar(&pool, "pool", defaultPool, "IPv4 `prefix` from which new networks get a /20 each")
	cmd.Flags().DurationVar(&cfg.Slow, "slow-request", defaultSlow, "how long a request may take before it is logged; 0 logs none")
	return cmd
}

func serveConfig(ctx context.Context, log *slog.Logger, at store.Config, cfg configapi.Config, listen serve.Config, users *userFlags) error {
	s, err := store.Open(ctx, log, at)
	if err != nil {
		return err
	}
	defer s.Close()
	api, err := configapi.New(log, s, cfg)
	if err != nil {
		return err
	}
	known, err := users.service(log, api, &listen)
	if err != nil {
		return err
	}
	defer known.Close()
	server, err := serve.Listen(log, listen, api.Handler())
	if err != nil {
		return err
	}
	group := lifecycle.New(log)
	group.Add("graph", api.Run)
	group.Add("api", func(ctx context.Context) error {
		defer context.AfterFunc(ctx, api.Leave)()
		return server.Run(ctx)
	})
	return group.Wait(ctx)
}
