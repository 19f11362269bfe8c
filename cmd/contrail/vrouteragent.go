package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/vrouter"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

func newVRouterAgentCommand() *cobra.Command {
	var (
		common   serviceFlags
		config   vrouter.Config
		plane    dataplane.Config
		address  string
		natPorts string
		refused  []string
	)
	cmd := &cobra.Command{
		Use:   "vrouter-agent",
		Short: "Give the containers of this node their interfaces and forward between nodes",
		Example: `  contrail vrouter-agent --name node-1 --tls-dir /etc/contrail/tls --underlay eth0 \
    --manager 172.31.0.1:6991 --control 172.31.0.1:5269`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if plane.NATPorts, err = dataplane.ParseNATPorts(natPorts); err != nil {
				return fmt.Errorf("--nat-ports: %w", err)
			}
			for _, text := range refused {
				prefix, err := netip.ParsePrefix(text)
				if err != nil {
					return fmt.Errorf("--nat-refuse %q: want prefixes, such as 192.0.2.0/24", text)
				}
				config.NATRefuse = append(config.NATRefuse, prefix)
			}
			return runVRouterAgent(cmd.Context(), &common, config, plane, address)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&common.logLevel, "log-level", "info", "least severe `level` that is logged: debug, info, warn or error")
	flags.StringVar(&common.tlsDir, "tls-dir", "", "`directory` with ca.crt, tls.crt and tls.key of this node")
	flags.StringVar(&config.Name, "name", "", "`name` of the node")
	flags.StringVar(&config.RunDir, "run-dir", "/run/contrail", "`directory` of agent.sock and agent.token")
	flags.StringVar(&config.StateDir, "state-dir", "/var/lib/contrail", "`directory` of the ports and of the detach queue")
	flags.StringVar(&plane.PinDir, "pin-dir", "/sys/fs/bpf/contrail", "`directory` on a bpffs in which the data plane is pinned")
	flags.Uint32Var(&plane.FloodRate, "flood-rate", 10000, "`number` of copies of broadcasts that a port, and the tunnels of a network, may have made in a second")
	flags.Uint32Var(&plane.FlowEntries, "flow-entries", 512<<10, "`number` of flows the node has room for, about 200 bytes each, taken at once; maps that are pinned keep theirs")
	flags.StringVar(&natPorts, "nat-ports", dataplane.DefaultNATPorts.String(), "`ports` FIRST-LAST of the node's address that link-local services and SNAT use; sockets of the node get none of them")
	flags.StringSliceVar(&refused, "nat-refuse", nil, "`prefixes` that tasks do not reach by link-local services and SNAT, beside the nodes and controllers that are known")
	flags.StringVar(&config.Underlay, "underlay", "eth0", "`device` that carries the tunnels to the other nodes")
	flags.StringVar(&address, "address", "", "IPv4 `address` of the node on the underlay (default: the device's first)")
	flags.StringVar(&config.Manager, "manager", "", "`address` (host:port) of the Mesos manager")
	flags.StringSliceVar(&config.Control, "control", nil, "`addresses` (host:port) of control nodes to begin with; these tell of the others")
	flags.StringSliceVar(&config.Collectors, "collector", nil, "`addresses` (host:port) of collectors, the first of which that answers gets records of sessions; none are made without")
	flags.StringVar(&config.PortAPI, "port-api", "127.0.0.1:9091", "`address` of the classic port API; empty for none")
	flags.StringVar(&config.Introspect, "introspect", "127.0.0.1:8085", "`address` of the tables and metrics; empty for none")
	flags.StringVar(&config.TokenFile, "token-file", "", "`file` with the bearer token of both (default RUN-DIR/agent.token)")
	flags.BoolVar(&config.PortAPIOpen, "port-api-open", false, "answer the port API without a token: every process of the node may use it")
	return cmd
}

func runVRouterAgent(ctx context.Context, common *serviceFlags, config vrouter.Config, plane dataplane.Config, address string) error {
	log, credentials, err := common.load("vrouter-agent")
	if err != nil {
		return err
	}
	config.Credentials = credentials
	if config.RunDir, err = filepath.Abs(config.RunDir); err != nil {
		return fmt.Errorf("--run-dir: %w", err)
	}
	if config.StateDir, err = filepath.Abs(config.StateDir); err != nil {
		return fmt.Errorf("--state-dir: %w", err)
	}
	if address == "" {
		config.Address, err = vrouter.UnderlayAddress(config.Underlay)
	} else if config.Address, err = netip.ParseAddr(address); err != nil {
		err = fmt.Errorf("--address %q: want an IPv4 address", address)
	}
	if err != nil {
		return err
	}
	if config.Credentials == nil {
		return errors.New("--tls-dir is missing: the node's certificate says who it is")
	}
	plane.FlowEvents = len(config.Collectors) > 0
	plane.Underlay, plane.LocalIP = config.Underlay, config.Address
	opened, err := dataplane.Open(log, plane)
	if err != nil {
		return err
	}
	agent, err := vrouter.New(log, config, opened)
	if err == nil {
		err = agent.Run(ctx)
	}
	return errors.Join(err, opened.Close())
}
