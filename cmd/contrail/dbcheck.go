package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/dbcheck"
	"github.com/contrail-mesos/contrail/internal/store"
)

// newDBCheckCommand is `contrail db check`.
func newDBCheckCommand() *cobra.Command {
	var flags storeCommandFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Compare the keys of the store with each other",
		Long: `Reads everything that the store holds at one moment and looks for what does not
fit: names, children and references without objects, addresses, numbers and
labels whose owner does not exist or says otherwise, values that cannot be read.
Exits with 1 when there is any; "contrail db repair" mends those with a repair.`,
		Example: "  contrail db check -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.with(cmd.Context(), func(ctx context.Context, s *store.Store) error {
				entries, revision, err := dbcheck.Read(ctx, s)
				if err != nil {
					return err
				}
				findings := dbcheck.Check(entries)
				w := cmd.OutOrStdout()
				if flags.output == "json" {
					err = printJSON(w, map[string]any{"revision": revision, "keys": len(entries), "findings": findings})
				} else {
					err = printFindings(w, len(entries), revision, findings)
				}
				if err == nil && len(findings) > 0 {
					err = fmt.Errorf("%d findings; `contrail db repair --dry-run` tells which can be mended", len(findings))
				}
				return err
			})
		},
	}
	flags.add(cmd)
	return cmd
}

func printFindings(w io.Writer, keys int, revision int64, findings []dbcheck.Finding) error {
	if len(findings) == 0 {
		_, err := fmt.Fprintf(w, "%d keys at revision %d, all of them fit\n", keys, revision)
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tPROBLEM\tREPAIR")
	for _, f := range findings {
		repair := "-"
		if f.Repair != nil {
			repair = f.Repair.String()
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Key, f.Problem, repair)
	}
	return table.Flush()
}

var errLeft = errors.New("what is left is for you to decide: no repair of it is the only right one")

// newDBRepairCommand is `contrail db repair`.
func newDBRepairCommand() *cobra.Command {
	var flags storeCommandFlags
	var dryRun bool
	var rest time.Duration
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Mend what `contrail db check` found and has only one right answer",
		Long: `Deletes references, names and marks of objects that do not exist, gives objects
the keys that they lack, and lets addresses, numbers and labels without an owner
rest. Each is one transaction, which does not happen if anything that it was
decided on has changed. What is ambiguous is told and not touched. Take a backup
before: "contrail db dump".`,
		Example: "  contrail db repair --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.with(cmd.Context(), func(ctx context.Context, s *store.Store) error {
				w := cmd.OutOrStdout()
				steps := []dbcheck.Step{}
				left, err := dbcheck.Repair(ctx, s, dbcheck.Options{DryRun: dryRun, Rest: rest, Told: func(step dbcheck.Step) {
					steps = append(steps, step)
					if flags.output != "json" {
						printStep(w, dryRun, step)
					}
				}})
				if err != nil {
					return err
				}
				if flags.output == "json" {
					err = printJSON(w, map[string]any{"dry_run": dryRun, "steps": steps, "left": left})
				} else if err = printLeft(w, dryRun, left); err == nil && len(left) == 0 {
					_, err = fmt.Fprintln(w, "everything fits")
				}
				if err == nil && len(left) > 0 && !dryRun {
					err = errLeft
				}
				return err
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only tell what would be done")
	cmd.Flags().DurationVar(&rest, "rest", defaultRest, "how long addresses, labels and numbers rest that had no owner")
	return cmd
}

func printStep(w io.Writer, dryRun bool, s dbcheck.Step) {
	state := "done"
	switch {
	case dryRun:
		state = "would"
	case !s.Done:
		state = "not done, " + s.Note
	}
	fmt.Fprintf(w, "%s: %s\n  because %s %s\n", state, s.Repair, s.Key, s.Problem)
}

func printLeft(w io.Writer, dryRun bool, left []dbcheck.Finding) error {
	for _, f := range left {
		if dryRun && f.Repair != nil {
			continue // shown as a step
		}
		if _, err := fmt.Fprintf(w, "left: %s %s\n", f.Key, f.Problem); err != nil {
			return err
		}
	}
	return nil
}
