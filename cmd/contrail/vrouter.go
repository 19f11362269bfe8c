package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/api/vrouterapi"
	"github.com/contrail-mesos/contrail/internal/box"
	"github.com/contrail-mesos/contrail/internal/cli"
)

// vrouterFlags are those that all tables of the vRouter have.
type vrouterFlags struct {
	agent, cluster, node string
	output               cli.Output
	watch                bool
	interval             time.Duration
}

func (f *vrouterFlags) register(cmd *cobra.Command) {
	set := cmd.Flags()
	set.StringVar(&f.agent, "agent", "", "`address` of the vRouter agent: unix:PATH (default: that of this machine, or those of all nodes of `contrail up`)")
	set.StringVar(&f.cluster, "name", box.DefaultName, "`name` of the cluster of `contrail up`")
	set.StringVar(&f.node, "node", "", "`name` of the node of `contrail up`; all without it")
	set.BoolVarP(&f.watch, "watch", "w", false, "show it again and again, until interrupted")
	set.DurationVar(&f.interval, "interval", 2*time.Second, "how often, with --watch")
	registerForms(cmd, &f.output, cli.JSON)
}

// addresses are those of the agents that are asked.
func (f *vrouterFlags) addresses() ([]string, error) {
	if f.agent != "" {
		if f.node != "" {
			return nil, errors.New("--agent names one agent; leave out --node")
		}
		return []string{f.agent}, nil
	}
	if f.cluster == box.DefaultName && f.node == "" {
		if _, err := os.Stat(portapi.DefaultSocket); err == nil {
			return []string{"unix:" + portapi.DefaultSocket}, nil
		}
	}
	sockets, err := box.AgentSockets(f.cluster, f.node)
	if errors.Is(err, box.ErrNotUp) {
		return nil, fmt.Errorf("no vRouter agent on this machine: there is no %s, and %w; see --agent", portapi.DefaultSocket, err)
	}
	var addresses []string
	for _, path := range sockets {
		addresses = append(addresses, "unix:"+path)
	}
	return addresses, err
}

func (f *vrouterFlags) run(cmd *cobra.Command, show func(context.Context, *cli.VRouter, io.Writer) error) error {
	addresses, err := f.addresses()
	if err != nil {
		return err
	}
	v, err := cli.NewVRouter(addresses)
	if err != nil {
		return err
	}
	defer v.Close()
	w := cmd.OutOrStdout()
	if !f.watch {
		return show(cmd.Context(), v, w)
	}
	if f.interval < 100*time.Millisecond {
		return fmt.Errorf("--interval %s: want at least 100ms", f.interval)
	}
	v.ShowRates()
	out, isFile := w.(*os.File)
	terminal := isFile && term.IsTerminal(int(out.Fd())) && f.output != cli.JSON
	return cli.Watch(cmd.Context(), w, terminal, f.interval, func(w io.Writer) error { return show(cmd.Context(), v, w) })
}

// vrouterTable is a subcommand that shows one.
type vrouterTable struct {
	use, short, long, example string
	args                      cobra.PositionalArgs
	// params are what the arguments are asked as, filters the flags by name.
	params  []string
	filters []string
	show    func(*cli.VRouter, context.Context, io.Writer, url.Values, cli.Output) error
}

// vrouterFilters are the help of the flags that choose rows.
var vrouterFilters = map[string]string{
	vrouterapi.ParamVRF:      "`number` of a VRF, or name of a network or its end",
	vrouterapi.ParamVif:      "`interface`: index, device, UUID of a port, or address",
	vrouterapi.ParamFamily:   "`family` of the routes: inet, inet6 or bridge",
	vrouterapi.ParamProtocol: "`protocol`: tcp, udp, icmp, icmp6, sctp or a number",
	vrouterapi.ParamLimit:    fmt.Sprintf("`number` of rows of a node, up to %d (default %d)", vrouterapi.MaxLimit, vrouterapi.DefaultLimit),
}

func (t vrouterTable) command() *cobra.Command {
	var flags vrouterFlags
	cmd := &cobra.Command{
		Use: t.use, Short: t.short, Long: t.long, Example: t.example, Args: t.args, ValidArgsFunction: cobra.NoFileCompletions,
	}
	chosen := map[string]*string{}
	for _, name := range t.filters {
		chosen[name] = cmd.Flags().String(name, "", vrouterFilters[name])
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := url.Values{}
		for name, value := range chosen {
			if *value != "" {
				q.Set(name, *value)
			}
		}
		for i, arg := range args {
			q.Add(t.params[i], arg)
		}
		return flags.run(cmd, func(ctx context.Context, v *cli.VRouter, w io.Writer) error {
			return t.show(v, ctx, w, q, flags.output)
		})
	}
	flags.register(cmd)
	return cmd
}

// newVRouterCommand is `contrail vrouter`.
func newVRouterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vrouter",
		Short: "Look into the data plane of a node",
		Long: `Shows what packets meet on a node: the tables in the kernel, with the names of
what is in them. They are read by the node's vRouter agent, as root; with
` + "`contrail up`" + ` all nodes of this machine are asked. RX is what the vRouter got from
a container and passed on, TX what it gave to one.`,
	}
	for _, t := range vrouterTables {
		cmd.AddCommand(t.command())
	}
	return cmd
}

const (
	byVRF = vrouterapi.ParamVRF
	byVif = vrouterapi.ParamVif
)

var vrouterTables = []vrouterTable{
	{
		use: "vif [INTERFACE]", short: "List the interfaces",
		long: `Lists the interfaces that packets pass: the underlay, and the ports of containers.
STATE is "up", "blocked", "closed" while the policy of the port has not come, or
"pending" or "failed" while it is not in the data plane as it should be, with the
reason. FLOWS counts those that it began and others towards it, as quotas do. LIMITS
is what the container may send (out) and be sent (in); what is more is counted by
drops, as egress-rate and ingress-rate. -o json has bursts, the policy sets, the
floating addresses and all counts. INTERFACE is an index, a device, the UUID of a port
or an address.`,
		example: "  contrail vrouter vif\n  contrail vrouter vif 10.32.0.3 -o json",
		args:    cobra.MaximumNArgs(1), params: []string{byVif}, filters: []string{byVRF}, show: (*cli.VRouter).Vifs,
	},
	{
		use: "rt [DESTINATION]", short: "List the routes with their next hops",
		long: `Lists the routes of all VRFs with where they lead: the port of a label of this
node, a tunnel, or the members that share the flows. DESTINATION is an address, for
the route that it takes in each VRF, a prefix, for that and those within, or a MAC.
STATE tells whether the route is in the data plane as the control nodes want it.`,
		example: "  contrail vrouter rt\n  contrail vrouter rt 10.32.0.4 --vrf blue\n  contrail vrouter rt --family bridge",
		args:    cobra.MaximumNArgs(1), params: []string{vrouterapi.ParamPrefix},
		filters: []string{byVRF, byVif, vrouterapi.ParamFamily, vrouterapi.ParamLimit}, show: (*cli.VRouter).Routes,
	},
	{
		use: "nh [NUMBER]", short: "List the next hops",
		long: `Lists the next hops that routes lead to, with how many do. The routes to a node
share one: label or VNI are the route's. 0 discards, 1 is any port of the node.`,
		example: "  contrail vrouter nh", args: cobra.MaximumNArgs(1), params: []string{vrouterapi.ParamID}, show: (*cli.VRouter).NextHops,
	},
	{
		use: "mpls [LABEL]", short: "List the MPLS labels of the node's ports",
		long:    "Lists the labels by which others send to ports of the node.",
		example: "  contrail vrouter mpls\n  contrail vrouter mpls 16",
		args:    cobra.MaximumNArgs(1), params: []string{vrouterapi.ParamID}, filters: []string{byVRF, byVif}, show: (*cli.VRouter).Labels,
	},
	{
		use: "vxlan [VNI]", short: "List the VXLAN network identifiers that the node takes",
		long: `Lists the identifiers by which others send to networks of the node, what becomes of
frames there, and the nodes and routers that are sent broadcasts.`,
		example: "  contrail vrouter vxlan",
		args:    cobra.MaximumNArgs(1), params: []string{vrouterapi.ParamID}, filters: []string{byVRF}, show: (*cli.VRouter).VNIs,
	},
	{
		use: "flow [END [END]]", short: "List the flows",
		long: `Lists the flows in both directions, that which began first. An END is an address, a
prefix, or an address and a port; with two, flows between them. TO is where packets
go, NAT what their addresses become. What is "outdated" is decided anew by the next
packet: GENERATION is that of the ports and routes, and that of the policies, by
which it was decided. -o json has the policy sets.`,
		example: "  contrail vrouter flow\n  contrail vrouter flow 10.32.0.3 10.32.0.4:80\n  contrail vrouter flow --vif 12 --protocol tcp",
		args:    cobra.MaximumNArgs(2), params: []string{vrouterapi.ParamEnd, vrouterapi.ParamEnd},
		filters: []string{byVRF, byVif, vrouterapi.ParamProtocol, vrouterapi.ParamLimit}, show: (*cli.VRouter).Flows,
	},
	{
		use: "rules [INTERFACE]", short: "List the rules with what they have decided",
		long: `Lists the policy sets of the ports with their rules, in the order in which they are
asked: of the first that matches a connection's first packet the VERDICT counts, and
what none matches is refused. RULE is the object that the rule is written in, and its
place there. COUNT is how often it has decided: connections that began, and each
packet that was refused; what is established is not asked again. Ports that have the
same set, the VIFS, share its counts. They begin with the set, outlive the agent, and
stay with a rule while others of its set change. -o json has the UUIDs.`,
		example: "  contrail vrouter rules\n  contrail vrouter rules 10.32.0.3 -w",
		args:    cobra.MaximumNArgs(1), params: []string{byVif}, filters: []string{byVRF, vrouterapi.ParamLimit}, show: (*cli.VRouter).Rules,
	},
	{
		use: "drops", short: "Tell why packets were dropped",
		long: `Lists what was dropped, by reason and interface: the port concerned where it is
known, else the interface that the packet came in by. docs/reference/drops.md says
what to do about each reason, and so does -o json.`,
		example: "  contrail vrouter drops\n  contrail vrouter drops --vif 10.32.0.3 -w",
		args:    cobra.NoArgs, filters: []string{byVRF, byVif}, show: (*cli.VRouter).Drops,
	},
	{
		use: "vrf [NETWORK]", short: "List the forwarding tables",
		long: `Lists the VRFs of the node with their routes, their VXLAN network identifiers and
what their ports have sent and got. NETWORK is a number, or the name of a network or
its end.`,
		example: "  contrail vrouter vrf\n  contrail vrouter vrf blue",
		args:    cobra.MaximumNArgs(1), params: []string{byVRF}, show: (*cli.VRouter).VRFs,
	},
	{
		use: "stats", short: "Tell what passed the interfaces",
		long: `Lists packets and bytes of each port and their sums; of the underlay what was dropped
there. The total of drops has those of former ports, too. -w tells also how many
packets pass in a second.`,
		example: "  contrail vrouter stats -w",
		args:    cobra.NoArgs, filters: []string{byVRF, byVif}, show: (*cli.VRouter).Stats,
	},
	{
		use: "fabric", short: "Tell what leaves the node without a tunnel",
		long: `Lists the link-local services with where they are, or why tasks do not reach them, the
ports of networks with fabric SNAT, and the node's address and ports that these use.
-o json has the addresses of nodes and controllers, which nothing reaches that way.`,
		example: "  contrail vrouter fabric", args: cobra.NoArgs, show: (*cli.VRouter).Fabric,
	},
	{
		use: "objects", short: "List what is not in the data plane as it should be",
		long: `Lists the ports, policies, routes, MACs, bridges, VXLAN network identifiers, BGP
services and probes that are not in the kernel as the agent wants them, with the last
error: what failed is tried again. What is "to go" is there and not wanted; it goes
when the control nodes have told all that they know. No rows are the best answer.`,
		example: "  contrail vrouter objects", args: cobra.NoArgs, filters: []string{vrouterapi.ParamLimit}, show: (*cli.VRouter).Objects,
	},
}
