package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/simulate"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what the controllers of a cluster can carry",
	}
	cmd.AddCommand(newBenchAgentsCommand())
	return cmd
}

func newBenchAgentsCommand() *cobra.Command {
	var (
		c                         simulate.Config
		config, tlsDir, authority string
		output                    string
	)
	cmd := &cobra.Command{
		Use:   "agents",
		Short: "Play the agents of many nodes, and measure how soon they are told",
		Long: `Joins nodes and attaches containers to networks of a project of its own, opens
the sessions of all their agents at once, and measures: how long it takes until
each agent was told all routes of its networks; how long a single change takes to
reach each agent that has to know; and how the control nodes keep up while
containers come and go. With --lose one of several control nodes is ended then,
and it measures how long it takes until all agents have gone to others and been
told everything. Each time it checks that the agents were told exactly what they
should have been. In the end it removes what it made.

The agents' certificates are signed with the cluster's authority. The load is
real: run it against a cluster that nobody depends on.`,
		Example: "  contrail bench agents --control 172.31.0.1:5269 --authority /var/lib/contrail/box/pki/ca --agents 100 --networks 100 --networks-each 20 --ports 50",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			// Not one that is made here: it would sign for nobody.
			if c.Authority, err = ctls.LoadAuthority(authority); err != nil {
				return fmt.Errorf("--authority %s: want the directory of the cluster's authority: %w", authority, err)
			}
			var credentials *ctls.Credentials
			if tlsDir != "" {
				if credentials, err = ctls.LoadCredentials(tlsDir); err != nil {
					return fmt.Errorf("--tls-dir %s: %w", tlsDir, err)
				}
			}
			if c.HTTP, c.Base, err = serve.Client(config, credentials, false, ctls.RoleController); err != nil {
				return err
			}
			defer c.HTTP.CloseIdleConnections()
			log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("component", "bench")
			result, err := simulate.Run(cmd.Context(), log, c)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), result)
			}
			return printAgents(cmd.OutOrStdout(), result)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&c.Control, "control", nil, "`addresses` (host:port) of the control nodes")
	flags.IntVar(&c.Sessions, "sessions", 1, "`number` of control nodes that each agent has a session with")
	flags.StringVar(&authority, "authority", "", "`directory` of the cluster's authority, with ca.crt and ca.key")
	flags.StringVar(&config, "config", defaultConfigAPI, "`address` of the configuration API: unix:PATH or HOST:PORT")
	flags.StringVar(&tlsDir, "tls-dir", "", "`directory` with ca.crt, tls.crt and tls.key of an administrator, for HOST:PORT")
	flags.IntVar(&c.Agents, "agents", 1000, "`number` of nodes")
	flags.IntVar(&c.Ports, "ports", 50, "`number` of containers on each node")
	flags.IntVar(&c.Networks, "networks", 1000, "`number` of networks")
	flags.IntVar(&c.NetworksEach, "networks-each", 20, "`number` of networks that each node has containers in")
	flags.IntVar(&c.Changes, "changes", 50, "`number` of containers that come and go one by one")
	flags.DurationVar(&c.Churn, "churn", 10*time.Second, "how long containers come and go as fast as the configuration API allows")
	flags.StringVar(&c.Lose, "lose", "", "shell `command` that ends one of the control nodes, when all else has been measured")
	flags.DurationVar(&c.Patience, "patience", time.Minute, "how long to wait for agents to be told before giving up")
	for _, name := range []string{"control", "authority"} {
		_ = cmd.MarkFlagRequired(name) // fails for unknown names only
	}
	registerOutput(cmd, &output)
	return cmd
}

func printAgents(w io.Writer, r *simulate.Result) error {
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "sessions\t%d of %d agents\n", r.Sessions, r.Agents)
	fmt.Fprintf(table, "routes told\t%d\n", r.Routes)
	fmt.Fprintf(table, "converged after\t%s\n", round(r.Converge))
	fmt.Fprintf(table, "one change\tp50 %s, p99 %s, slowest %s\n", round(r.Change.P50), round(r.Change.P99), round(r.Change.Max))
	if r.Churn.For > 0 {
		fmt.Fprintf(table, "churn\t%.0f changes/s, %d told, all right %s after the last\n",
			float64(r.Churn.Changes)/r.Churn.For.Seconds(), r.Churn.Deliveries, round(r.Churn.Settled))
	}
	if r.Loss.Resync > 0 {
		fmt.Fprintf(table, "a control node lost\t%d sessions told all by others after %s\n", r.Loss.Sessions, round(r.Loss.Resync))
	}
	return table.Flush()
}
