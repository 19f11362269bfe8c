package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/store"
)

// storeCommandFlags are those of commands that speak to the store itself.
type storeCommandFlags struct {
	storeFlags
	tlsDir, output string
}

func (f *storeCommandFlags) add(cmds ...*cobra.Command) {
	for _, cmd := range cmds {
		f.register(cmd.Flags())
		cmd.Flags().StringVar(&f.tlsDir, "tls-dir", "", "`directory` with the certificates of this controller, to reach the others")
		registerOutput(cmd, &f.output)
	}
}

// with opens the store for f.
func (f *storeCommandFlags) with(ctx context.Context, do func(ctx context.Context, s *store.Store) error) error {
	ctx, cancel := context.WithTimeout(ctx, storeCommandTimeout)
	defer cancel()
	opening, opened := context.WithTimeout(ctx, storeOpenTimeout)
	defer opened()
	s, err := f.open(opening, quietLog(), f.tlsDir)
	if err != nil {
		return fmt.Errorf("%w; is the controller running, and more than half of all of them? see --store and --tls-dir", err)
	}
	defer s.Close()
	return do(ctx, s)
}

// newMemberCommands are `contrail controller list` and `remove`.
func newMemberCommands() []*cobra.Command {
	var flags storeCommandFlags
	list := &cobra.Command{
		Use:     "list",
		Short:   "List the controllers that keep the store",
		Example: "  contrail controller list --tls-dir /etc/contrail/tls",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.with(cmd.Context(), func(ctx context.Context, s *store.Store) error {
				members, err := s.Members(ctx)
				if err != nil {
					return err
				}
				if flags.output == "json" {
					return printJSON(cmd.OutOrStdout(), members)
				}
				return printMembers(cmd.OutOrStdout(), members)
			})
		},
	}
	remove := &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a controller out of the store for good",
		Long: `Takes a controller out of those that keep the store: one that is dead and will
not come back with its data, or one that is to go. To replace it, start a new one
with an empty --data and --join. Its name may be used again.`,
		Example: "  contrail controller remove controller-3 --tls-dir /etc/contrail/tls",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return flags.with(cmd.Context(), func(ctx context.Context, s *store.Store) error {
				if err := s.RemoveMember(ctx, args[0]); err != nil {
					return err
				}
				if flags.output == "json" {
					return printJSON(cmd.OutOrStdout(), map[string]string{"removed": args[0]})
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "controller %s is no member any more\n", args[0])
				return err
			})
		},
	}
	flags.add(list, remove)
	return []*cobra.Command{list, remove}
}

func printMembers(w io.Writer, members []store.Member) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tSTATE\tPEERS\tCLIENTS\tSIZE\tIN USE\tQUOTA\tREMARKS")
	for _, m := range members {
		remarks := strings.Join(m.Alarms, " ")
		if m.Error != "" {
			remarks = strings.TrimSpace(remarks + " " + m.Error)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, m.State, hostOf(m.Peer), hostOf(m.Clients),
			mebibytes(m.Size), mebibytes(m.InUse), mebibytes(m.Quota), remarks)
	}
	return table.Flush()
}

// hostOf is what of a URL interests: where it is.
func hostOf(url string) string {
	_, rest, ok := strings.Cut(url, "://")
	if !ok {
		return "-"
	}
	return rest
}

func mebibytes(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
