package main

import (
	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/box"
)

// componentNames are the components that the cluster has at present.
func componentNames(cfg box.Config) []string {
	status, err := box.ReadStatus(cfg)
	if err != nil {
		return nil
	}
	var names []string
	for _, c := range status.Components {
		names = append(names, c.Name)
	}
	return names
}

func newLogsCommand() *cobra.Command {
	var cfg box.Config
	var follow bool
	var lines int
	cmd := &cobra.Command{
		Use:   "logs [COMPONENT]",
		Short: "Show the logs of the cluster of this machine",
		Long: `Shows the last lines of one component's log, or of all of them, each line with
its component's name. Components are named as in contrail status.`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 || cfg.Validate() != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return componentNames(cfg), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cfg.Validate(); err != nil {
				return err
			}
			component := ""
			if len(args) > 0 {
				component = args[0]
			}
			return box.Logs(cmd.Context(), cfg, component, lines, follow, cmd.OutOrStdout())
		},
	}
	registerCluster(cmd.Flags(), &cfg)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on showing what is written")
	cmd.Flags().IntVarP(&lines, "lines", "n", 100, "how many of the last `lines` of each log")
	return cmd
}
