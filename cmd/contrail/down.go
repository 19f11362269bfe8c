package main

import (
	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/box"
)

func newDownCommand() *cobra.Command {
	var cfg box.Config
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the cluster of this machine and remove what it made",
		Long: `Stops every process, ends every container and removes namespaces, links,
mounts, cgroups, BPF pins and sockets. It works whatever state the cluster is
in. Data stays for the next up, unless --purge is given.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return err
			}
			return box.Down(cmd.Context(), cfg, purge, cmd.OutOrStdout())
		},
	}
	registerCluster(cmd.Flags(), &cfg)
	cmd.Flags().BoolVar(&purge, "purge", false, "delete the cluster's data too")
	return cmd
}
