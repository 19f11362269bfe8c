package main

import (
	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/cli"
)

func newCompileCommand() *cobra.Command {
	var api apiFlags
	var output cli.Output
	var explain string
	cmd := &cobra.Command{
		Use:   "compile --explain NETWORK",
		Short: "Tell what a network is compiled to, and from which objects",
		Long: `Tells the routing instance that follows from a network: its route targets and the
networks that policies link it with, each with the object that it is from, its
static routes, aggregates and routing policies, and what is wrong with any of
them. Networks that the network's policies ask for and that do not ask back are
listed as unanswered.`,
		Example: "  contrail compile --explain blue\n  contrail compile --explain default-domain:shop:front -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return api.with(func(c *cli.Client) error {
				return c.CompileExplain(cmd.Context(), cmd.OutOrStdout(), api.scope, explain, output)
			})
		},
	}
	api.register(cmd)
	cmd.Flags().StringVar(&explain, "explain", "", "the network: a name, or a UUID")
	_ = cmd.MarkFlagRequired("explain")
	_ = cmd.RegisterFlagCompletionFunc("explain", func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return api.completeTypeAndNames(0)(cmd, []string{"virtual-network"}, prefix)
	})
	registerForms(cmd, &output, cli.JSON)
	return cmd
}
