// Command contrail is every part of Contrail for Mesos in one binary; each
// subcommand wires one service or one tool and nothing else.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/lifecycle"
)

func main() {
	if code, ok := runHelper(os.Args); ok {
		os.Exit(code)
	}
	ctx, stop := lifecycle.WithSignals(context.Background())
	defer stop()
	if err := newRootCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "contrail: "+err.Error())
		os.Exit(1)
	}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "contrail",
		Short:         "Virtual networks for Mesos clusters",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newUpCommand(), newSuperviseCommand(), newDownCommand(), newStatusCommand())
	root.AddCommand(newExecCommand(), newLogsCommand(), newRepoCommand(), newVersionCommand())
	root.AddCommand(newMesosManagerCommand())
	root.AddCommand(newMesosCommand())
	root.AddCommand(newNodeCommand())
	root.AddCommand(newVRouterAgentCommand())
	root.AddCommand(newControllerCommand(), newDBCommand())
	root.AddCommand(newUserCommand(), newLoginCommand())
	root.AddCommand(newGetCommand(), newDescribeCommand(), newTypesCommand(), newExplainCommand())
	root.AddCommand(newIPAMCommand())
	root.AddCommand(newCreateCommand(), newApplyCommand(), newDiffCommand(), newEditCommand(), newDeleteCommand())
	return root
}
