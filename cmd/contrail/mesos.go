package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/lifecycle"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/master"
	"github.com/contrail-mesos/contrail/internal/mesos/marathon"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// mesosVersion is the version of Mesos whose APIs are spoken; clients compare it.
const mesosVersion = "1.12.0"

func newMesosCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mesos",
		Short: "Mesos in a box: a master, agents and a Marathon for one machine",
		Long: `A Mesos cluster for trying and for tests, with the v1 HTTP APIs of Apache Mesos
and the REST API of Marathon. Production uses Apache Mesos or ClusterD.`,
	}
	cmd.AddCommand(newMesosMasterCommand(), newMesosAgentCommand(), newMarathonCommand())
	return cmd
}

func newMesosMasterCommand() *cobra.Command {
	var flags serviceFlags
	cfg := master.Config{Version: mesosVersion}
	cmd := &cobra.Command{
		Use:   "master",
		Short: "Run the Mesos master of a one-machine cluster",
		Long: `Answers schedulers and operators with the Mesos v1 HTTP APIs and serves the agents
of this project, which register with the certificate of their node. The registry
of agents is in the work directory; tasks and frameworks come back with them.`,
		Example: "  contrail mesos master --work-dir /var/lib/contrail/mesos-master --listen-tls 172.31.0.1:5050 --tls-dir /etc/contrail/tls",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, _, err := flags.load("mesos-master")
			if err != nil {
				return err
			}
			if cfg.Address == "" {
				cfg.Address = flags.listen.TLS
			}
			if err := addressFromHost(&cfg.Address); err != nil {
				return err
			}
			m, err := master.New(log, cfg)
			if err != nil {
				return err
			}
			server, err := serve.Listen(log, flags.listen, m.Handler())
			if err != nil {
				return err
			}
			// The master stops before the server, so that its streams end in order.
			group := lifecycle.New(log)
			group.Add("server", server.Run)
			group.Add("master", m.Run)
			return group.Wait(cmd.Context())
		},
	}
	f := cmd.Flags()
	flags.register(f)
	f.StringVar(&cfg.WorkDir, "work-dir", "/var/lib/contrail/mesos-master", "`directory` of the registry")
	f.StringVar(&cfg.Cluster, "cluster", "contrail", "`name` of the cluster")
	f.StringVar(&cfg.Hostname, "hostname", "", "`name` that the master calls itself; the address if empty")
	f.StringVar(&cfg.Address, "advertise", "", "`address` (IP:PORT) that clients are told; that of --listen-tls if empty")
	f.DurationVar(&cfg.PingTimeout, "agent-ping-timeout", 0, "`time` of silence after which an agent is unreachable (default 75s)")
	f.DurationVar(&cfg.ReregisterTimeout, "agent-reregister-timeout", 0, "`time` that agents have to come back after a start of the master (default 10m)")
	return cmd
}

// addressFromHost replaces a host name by its address, which the master has to
// tell its clients.
func addressFromHost(address *string) error {
	resolved, err := net.ResolveTCPAddr("tcp", *address)
	if err != nil || resolved.IP == nil {
		return fmt.Errorf("master address %q: want an address and a port; see --advertise and --listen-tls", *address)
	}
	*address = resolved.String()
	return nil
}

func newMarathonCommand() *cobra.Command {
	var flags serviceFlags
	var cfg marathon.Config
	var masterAddress string
	cmd := &cobra.Command{
		Use:   "marathon",
		Short: "Run applications on a Mesos cluster, with Marathon's REST API",
		Long: `Keeps applications running on a Mesos cluster, as its framework "marathon". The
REST API is a subset of Marathon's: applications, tasks, deployments, queue,
events. Definitions with health checks are refused, as none are made.`,
		Example: "  contrail mesos marathon --master 172.31.0.1:5050 --tls-dir /etc/contrail/tls --state-dir /var/lib/contrail/marathon --listen-unix /run/contrail/marathon.sock",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, credentials, err := flags.load("mesos-marathon")
			if err != nil {
				return err
			}
			if cfg.Client, cfg.URL, err = masterClient(masterAddress, credentials); err != nil {
				return err
			}
			defer cfg.Client.CloseIdleConnections()
			return runMarathon(cmd, log, cfg, flags)
		},
	}
	f := cmd.Flags()
	flags.register(f)
	f.StringVar(&masterAddress, "master", "", "`address` of the master: HOST:PORT for ours (TLS), http://HOST:PORT for an Apache Mesos")
	f.StringVar(&cfg.StateDir, "state-dir", "/var/lib/contrail/marathon", "`directory` of applications and instances")
	f.StringVar(&cfg.DefaultNetwork, "default-network-name", "", "`name` of container networks that have none")
	f.DurationVar(&cfg.LaunchTimeout, "task-launch-timeout", 0, "`time` that an instance may take until it runs, before another is started in its place (default 5m)")
	f.StringVar(&cfg.Name, "framework-name", "marathon", "`name` of the framework")
	return cmd
}

// masterClient reaches our master, or one that answers on plain HTTP.
func masterClient(address string, credentials *ctls.Credentials) (*http.Client, string, error) {
	if address == "" {
		return nil, "", fmt.Errorf("--master is missing: want HOST:PORT or http://HOST:PORT")
	}
	if strings.HasPrefix(address, "http://") {
		return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}, strings.TrimSuffix(address, "/"), nil
	}
	return serve.Client(address, credentials, false, ctls.RoleMaster)
}

func runMarathon(cmd *cobra.Command, log *slog.Logger, cfg marathon.Config, flags serviceFlags) error {
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("read the host name: %w", err)
	}
	cfg.Hostname, cfg.Version = hostname, "1.11.0"
	m, err := marathon.New(log, cfg)
	if err != nil {
		return err
	}
	server, err := serve.Listen(log, flags.listen, m.Handler())
	if err != nil {
		return err
	}
	group := lifecycle.New(log)
	group.Add("server", server.Run)
	group.Add("marathon", m.Run)
	return group.Wait(cmd.Context())
}
