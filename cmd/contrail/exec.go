package main

import (
	"errors"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/box"
)

func newExecCommand() *cobra.Command {
	var cfg box.Config
	cmd := &cobra.Command{
		Use:   "exec TASK -- COMMAND...",
		Short: "Run a command in a task's container",
		Long: `Runs a command in the namespaces and the root file system of a running task of
the cluster of this machine. TASK is the task's id, the beginning of one, or the
name of an application, such as client; the exit code is the command's.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cfg.Validate(); err != nil {
				return err
			}
			command, err := box.TaskCommand(cmd.Context(), cfg, args[0], args[1:])
			if err != nil {
				return err
			}
			command.Stdin, command.Stdout, command.Stderr = os.Stdin, cmd.OutOrStdout(), cmd.ErrOrStderr()
			err = command.Run()
			var ended *exec.ExitError
			if errors.As(err, &ended) && ended.ExitCode() > 0 {
				os.Exit(ended.ExitCode()) // the command has said why
			}
			return err
		},
	}
	registerCluster(cmd.Flags(), &cfg)
	return cmd
}
