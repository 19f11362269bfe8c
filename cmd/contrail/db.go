package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/store"
)

// storeCommandTimeout bounds a command that speaks to the store itself.
const storeCommandTimeout = 10 * time.Minute

// storeOpenTimeout bounds how long such a command waits for a store that does
// not answer, an election included.
const storeOpenTimeout = 15 * time.Second

// quietLog is the logger of commands: only what matters to who runs them.
func quietLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// newDBCommand is `contrail db`.
func newDBCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "db",
		Short: "Look after the store of the configuration",
	}
	cmd.AddCommand(newDBSpaceCommands()...)
	cmd.AddCommand(newDBDumpCommand(), newDBRestoreCommand(), newDBCheckCommand(), newDBRepairCommand())
	return cmd
}

// newDBSpaceCommands are `contrail db status` and `compact`.
func newDBSpaceCommands() []*cobra.Command {
	var flags storeCommandFlags
	status := &cobra.Command{
		Use:   "status",
		Short: "Show the members of the store, its size and its alarms",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.with(cmd.Context(), func(ctx context.Context, s *store.Store) error {
				status, err := s.Status(ctx)
				if err != nil {
					return err
				}
				if flags.output == "json" {
					return printJSON(cmd.OutOrStdout(), status)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "epoch %d, revision %d\n\n", status.Epoch, status.Revision)
				return printMembers(cmd.OutOrStdout(), status.Members)
			})
		},
	}
	compact := &cobra.Command{
		Use:   "compact",
		Short: "Give the store's unused space back, and let it be written again after it was full",
		Long: `Forgets the history of the store, gives the space back to the disk, one member
after the other, and ends the alarm NOSPACE of those that have space again. The
store does this by itself in time; this is for one that is full. A member answers
nothing while its turn lasts, some seconds for each gigabyte.`,
		Example: "  contrail db compact --tls-dir /etc/contrail/tls",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.with(cmd.Context(), func(ctx context.Context, s *store.Store) error {
				var steps []string
				err := s.Compact(ctx, func(step string) {
					steps = append(steps, step)
					if flags.output != "json" {
						fmt.Fprintln(cmd.OutOrStdout(), step)
					}
				})
				if err == nil && flags.output == "json" {
					err = printJSON(cmd.OutOrStdout(), map[string][]string{"steps": steps})
				}
				return err
			})
		},
	}
	flags.add(status, compact)
	return []*cobra.Command{status, compact}
}
