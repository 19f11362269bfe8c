package main

import (
	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/cli"
)

func newIPAMCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ipam",
		Short: "Tell which addresses are in use, free and at rest",
	}
	cmd.AddCommand(newIPAMShowCommand(), newIPAMWhoCommand(), newIPAMCheckCommand())
	return cmd
}

func newIPAMShowCommand() *cobra.Command {
	var api apiFlags
	var output cli.Output
	var addresses bool
	cmd := &cobra.Command{
		Use:     "show [NETWORK...]",
		Short:   "Tell how full the subnets of networks are",
		Long:    "Tells, for each subnet, how many addresses it can give out, how many are in use,\nfree, and at rest: released a short while ago and not given out again yet.",
		Example: "  contrail ipam show -A\n  contrail ipam show blue --addresses",
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
			return api.completeTypeAndNames(0)(cmd, []string{"virtual-network"}, prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return api.with(func(c *cli.Client) error {
				return c.IPAMShow(cmd.Context(), cmd.OutOrStdout(), api.scope, args, addresses, output)
			})
		},
	}
	api.register(cmd)
	cmd.Flags().BoolVarP(&api.scope.All, "all-projects", "A", false, "show the networks of all projects")
	cmd.Flags().BoolVar(&addresses, "addresses", false, "list the addresses that are not free, and who has them")
	registerForms(cmd, &output, cli.JSON)
	return cmd
}

func newIPAMWhoCommand() *cobra.Command {
	var api apiFlags
	var output cli.Output
	cmd := &cobra.Command{
		Use:     "who ADDRESS",
		Short:   "Tell who has an address",
		Long:    "Tells in which networks an address is in use or at rest, and the interface, the\nmachine and the node that have it. Exits with 1 when nobody has it.",
		Example: "  contrail ipam who 10.32.0.4",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return api.with(func(c *cli.Client) error { return c.IPAMWho(cmd.Context(), cmd.OutOrStdout(), args[0], output) })
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	api.register(cmd)
	registerForms(cmd, &output, cli.JSON)
	return cmd
}

func newIPAMCheckCommand() *cobra.Command {
	var api apiFlags
	var output cli.Output
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Look for addresses that nobody has, and for owners whose address is not theirs",
		Long: `Compares the addresses that are given out with the objects that have addresses and
with what is attached. Exits with 1 when something does not fit.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return api.with(func(c *cli.Client) error { return c.IPAMCheck(cmd.Context(), cmd.OutOrStdout(), output) })
		},
	}
	api.register(cmd)
	registerForms(cmd, &output, cli.JSON)
	return cmd
}
