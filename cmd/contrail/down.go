package main

import (
	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/box"
)

func newDownCommand() *cobra.Command {
	var cfg box.Config
	var purge bool
	var output string
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
			if output != "json" {
				return box.Down(cmd.Context(), cfg, purge, cmd.OutOrStdout())
			}
			if err := box.Down(cmd.Context(), cfg, purge, cmd.ErrOrStderr()); err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), struct {
				Name   string `json:"name"`
				Purged bool   `json:"purged"`
			}{cfg.Name, purge})
		},
	}
	registerCluster(cmd.Flags(), &cfg)
	registerOutput(cmd, &output)
	cmd.Flags().BoolVar(&purge, "purge", false, "delete the cluster's data too")
	return cmd
}
