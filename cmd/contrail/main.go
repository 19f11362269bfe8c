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
	// What people use comes before what runs on its own.
	add := func(title string, commands ...*cobra.Command) {
		group := &cobra.Group{ID: title, Title: title + ":"}
		root.AddGroup(group)
		for _, c := range commands {
			c.GroupID = group.ID
			root.AddCommand(c)
		}
	}
	add("The configuration",
		newGetCommand(), newDescribeCommand(), newCreateCommand(), newApplyCommand(), newDiffCommand(),
		newEditCommand(), newDeleteCommand(), newIPAMCommand(), newCompileCommand(), newTypesCommand(), newExplainCommand())
	add("A cluster on this machine",
		newUpCommand(), newSuperviseCommand(), newDownCommand(), newStatusCommand(), newExecCommand(), newLogsCommand(), newControlTablesCommand(), newVRouterCommand(), newTraceCommand())
	add("Users, nodes and the store", newLoginCommand(), newUserCommand(), newNodeCommand(), newCertificateCommand(), newDBCommand(), newBenchCommand())
	add("Services",
		newControllerCommand(), newMesosManagerCommand(), newVRouterAgentCommand(), newMesosCommand(), newRepoCommand())
	root.AddCommand(newVersionCommand())
	explainUse(root)
	return root
}
