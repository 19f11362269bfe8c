package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/contrail-mesos/contrail/internal/box"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// registerCluster adds the flags that say which one-machine cluster is meant.
func registerCluster(flags *pflag.FlagSet, cfg *box.Config) {
	flags.StringVar(&cfg.Name, "name", box.DefaultName, "`name` of the cluster; it prefixes namespaces, pins, cgroups and sockets")
	flags.StringVar(&cfg.Data, "data", "", "data `directory` (default /var/lib/contrail/box)")
}

// registerPlan adds the flags that say what the cluster consists of.
func registerPlan(flags *pflag.FlagSet, cfg *box.Config) {
	registerCluster(flags, cfg)
	flags.IntVar(&cfg.Nodes, "nodes", 0, "`number` of nodes (default as many as before, or 3)")
	flags.DurationVar(&cfg.Rest, "rest", 2*time.Minute, "how long a released address is not given out again")
	flags.DurationVar(&cfg.Tombstone, "tombstone", 10*time.Minute, "how long a released attachment is remembered")
}

func newUpCommand() *cobra.Command {
	var cfg box.Config
	var noExample bool
	var output string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a whole cluster on this machine, and try it with an example",
		Long: `Starts a controller, a Mesos manager, a Mesos master, Marathon, an image
registry and some nodes, each a network namespace with a Mesos agent and a
vRouter agent. Then acts as a user: starts applications through Marathon's REST
API and checks who reaches whom.

It may be repeated: what runs stays, what is missing is started. For trying and
for tests; it opens ports on this host's loopback that ask nobody who they are
(aaa-mode no-auth; the operator guide says how to have users).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if output == "json" {
				out = cmd.ErrOrStderr() // the answer is what runs
			}
			if err := dataplane.CheckKernel(); err != nil {
				return fmt.Errorf("this machine cannot have nodes: %w", err)
			}
			fmt.Fprintf(out, "Starting cluster %s\n", cfg.Name)
			if err := box.Up(cmd.Context(), &cfg, out); err != nil {
				return err
			}
			if !noExample {
				if err := box.Example(cmd.Context(), cfg, out); err != nil {
					return err
				}
			}
			if output == "json" {
				status, err := box.ReadStatus(cfg)
				if err != nil {
					return err
				}
				return printJSON(cmd.OutOrStdout(), status)
			}
			box.Welcome(cfg, out)
			return nil
		},
	}
	registerPlan(cmd.Flags(), &cfg)
	registerOutput(cmd, &output)
	cmd.Flags().BoolVar(&noExample, "no-example", false, "do not start and check the example applications")
	return cmd
}

// newSuperviseCommand is what up leaves running.
func newSuperviseCommand() *cobra.Command {
	var cfg box.Config
	cmd := &cobra.Command{
		Use:    "supervise",
		Short:  "Keep the processes of a one-machine cluster running",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, _, err := (&serviceFlags{logLevel: "info"}).load("supervisor")
			if err != nil {
				return err
			}
			if err := cfg.Validate(); err != nil {
				return err
			}
			supervisor, err := box.NewSupervisor(log, cfg)
			if err != nil {
				return err
			}
			return supervisor.Run(cmd.Context())
		},
	}
	registerPlan(cmd.Flags(), &cfg)
	return cmd
}
