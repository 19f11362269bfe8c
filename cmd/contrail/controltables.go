package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/cli"
)

// defaultControl is where the control node of this machine answers root.
const defaultControl = "unix:/run/contrail/control.sock"

// newControlTablesCommand is `contrail control`.
func newControlTablesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "control",
		Short: "Look at the tables of a control node",
		Long: `Shows what the control node of this machine knows: the routes of all networks,
why a path is used and why a network has no route, and the agents it serves. It
shows what every tenant runs, and answers root only.`,
	}
	one := func(use, short, long, example string, args cobra.PositionalArgs, run func(context.Context, *cli.Control, io.Writer, []string, cli.Output) error) {
		var address string
		var output cli.Output
		sub := &cobra.Command{
			Use: use, Short: short, Long: long, Example: example, Args: args, ValidArgsFunction: cobra.NoFileCompletions,
			RunE: func(cmd *cobra.Command, args []string) error {
				c, err := cli.NewControl(address)
				if err != nil {
					return err
				}
				defer c.Close()
				return run(cmd.Context(), c, cmd.OutOrStdout(), args, output)
			},
		}
		sub.Flags().StringVar(&address, "control", defaultControl, "`address` of the control node: unix:PATH")
		registerForms(sub, &output, cli.JSON)
		cmd.AddCommand(sub)
	}
	one("agents", "List the nodes and how their agents are",
		`Lists the nodes. SESSION is "lost" where an agent was there and is not: its routes
stay and are stale. DOWN are ports that the agent says are down, WAITING those it
has not spoken of yet, UNHEALTHY those with a health check that has failed, HELD reports of ports that the store does not bind to the
node. BEHIND counts the changes that the agent has not been sent yet.`,
		"  contrail control agents -o json", cobra.NoArgs,
		func(ctx context.Context, c *cli.Control, w io.Writer, _ []string, o cli.Output) error {
			return c.Agents(ctx, w, o)
		})
	one("peers", "List the BGP peers and how their sessions are",
		`Lists the routers that peer with this controller. They, and this controller
itself, are objects of the type bgp-router below ip-fabric:__default__; those that
refer to the one with this controller's name are its peers. REASON is why there is
no session, or why the object cannot be a peer.`,
		"  contrail control peers", cobra.NoArgs,
		func(ctx context.Context, c *cli.Control, w io.Writer, _ []string, o cli.Output) error {
			return c.Peers(ctx, w, o)
		})
	one("instances", "List the forwarding tables of the networks",
		"Lists each network's forwarding table, with the route targets that it imports\nand exports and the number of agents that need it.",
		"  contrail control instances", cobra.NoArgs,
		func(ctx context.Context, c *cli.Control, w io.Writer, _ []string, o cli.Output) error {
			return c.Instances(ctx, w, o)
		})
	one("imports [NETWORK]", "Tell from which networks a network takes routes",
		"Tells for each route target that a network imports which other networks export\nit. NETWORK is a name, a UUID or the number of the forwarding table.",
		"  contrail control imports blue", cobra.MaximumNArgs(1),
		func(ctx context.Context, c *cli.Control, w io.Writer, args []string, o cli.Output) error {
			return c.Imports(ctx, w, argument(args, 0), o)
		})
	one("routes NETWORK", "List the routes of a network",
		`Lists the routes of a network with all their paths. Traffic takes those that are
used; WHY tells what decided. NETWORK is a name, a UUID or the number of the
forwarding table.`,
		"  contrail control routes blue\n  contrail control routes default-domain:mesos-default:blue -o json", cobra.ExactArgs(1),
		func(ctx context.Context, c *cli.Control, w io.Writer, args []string, o cli.Output) error {
			return c.Routes(ctx, w, args[0], o)
		})
	one("explain PREFIX [NETWORK]", "Tell how an address is reached, and why not",
		`Tells for each network, or for one, which route an address or a prefix takes and
why, and for paths that other networks have why this one has not.`,
		"  contrail control explain 10.32.0.4\n  contrail control explain 10.32.0.0/20 blue", cobra.RangeArgs(1, 2),
		func(ctx context.Context, c *cli.Control, w io.Writer, args []string, o cli.Output) error {
			return c.Explain(ctx, w, args[0], argument(args, 1), o)
		})
	one("health", "List the health checks of ports, and which fail",
		`Lists the health checks of interfaces with what their nodes say of them. A check
that fails takes the routes to its port away until it passes again. What is not
known to fail passes; what a node asks, and how often, is at /health of its agent.`,
		"  contrail control health", cobra.NoArgs,
		func(ctx context.Context, c *cli.Control, w io.Writer, _ []string, o cli.Output) error {
			return c.Health(ctx, w, o)
		})
	one("policy INTERFACE", "List the rules that follow for a port",
		`Lists the rules that follow from network policies, security groups and firewall
policies for the traffic of a port: of each set the first rule that matches
decides, and a packet has to pass all sets that there are. OWN NETWORK is the
port's. A set of "timed" rules refuses nothing. INTERFACE is the UUID or the full
name of a virtual-machine-interface.`,
		"  contrail control policy default-domain:mesos-default:web-1-eth0", cobra.ExactArgs(1),
		func(ctx context.Context, c *cli.Control, w io.Writer, args []string, o cli.Output) error {
			return c.Policy(ctx, w, args[0], o)
		})
	return cmd
}

// argument is the i-th, or empty.
func argument(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}
