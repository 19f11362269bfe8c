package main

import "github.com/spf13/cobra"

// newMesosCommand groups the parts of Mesos in a box.
func newMesosCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mesos",
		Short: "Mesos in a box: a small cluster for trying and for tests",
	}
	cmd.AddCommand(newMesosAgentCommand())
	return cmd
}
