package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/box"
	"github.com/contrail-mesos/contrail/internal/cli"
)

func newExecCommand() *cobra.Command {
	var cfg box.Config
	cmd := &cobra.Command{
		Use:   "exec TASK -- COMMAND...",
		Short: "Run a command in a task's container",
		Long: `Runs a command in the namespaces and the root file system of a running task of
the cluster of this machine. TASK is the task's id, the beginning of one, or the
name of an application, such as client; the exit code is the command's.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return errors.New("want TASK -- COMMAND, such as: contrail exec client -- /bin/sh")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cfg.Validate(); err != nil {
				return err
			}
			ctx, stop := leaveTerminal(cmd.Context())
			defer stop()
			command, err := box.TaskCommand(ctx, cfg, args[0], args[1:])
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
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 || cfg.Validate() != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), cli.CompletionTimeout)
		defer cancel()
		tasks, err := box.Tasks(ctx, cfg)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp // a shell is no place for errors
		}
		return slices.DeleteFunc(tasks, func(id string) bool { return !strings.HasPrefix(id, prefix) }), cobra.ShellCompDirectiveNoFileComp
	}
	registerCluster(cmd.Flags(), &cfg)
	return cmd
}

// leaveTerminal returns a context for a process that waits for another on the
// same terminal. What the user types there, such as ^C, is for the other, which
// gets it, too: a shell goes on, and so must who waits for it. The context ends
// with SIGTERM or SIGHUP.
func leaveTerminal(ctx context.Context) (context.Context, context.CancelFunc) {
	typed := make(chan os.Signal, 1)
	// Not signal.Ignore: the other would inherit it.
	signal.Notify(typed, syscall.SIGINT, syscall.SIGQUIT)
	return signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGTERM, syscall.SIGHUP)
}
