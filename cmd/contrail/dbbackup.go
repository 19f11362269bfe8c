package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/api/contrail/config/v1/configv1connect"
	"github.com/contrail-mesos/contrail/internal/backup"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// newDBDumpCommand is `contrail db dump`.
func newDBDumpCommand() *cobra.Command {
	var flags storeCommandFlags
	cmd := &cobra.Command{
		Use:   "dump FILE|-",
		Short: "Write a consistent backup of the store to a file",
		Long: `Writes everything that the store holds at one revision, compressed, with counts
and a checksum. The cluster goes on meanwhile. The file holds secrets: only its
owner may read it. "-" writes to the standard output.`,
		Example: "  contrail db dump /var/backups/contrail.dump",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return flags.with(cmd.Context(), func(ctx context.Context, s *store.Store) error {
				if args[0] == "-" {
					_, err := backup.Dump(ctx, s, cmd.OutOrStdout(), version)
					return err
				}
				summary, err := backup.DumpFile(ctx, s, args[0], version)
				if err != nil {
					return err
				}
				if flags.output == "json" {
					return printJSON(cmd.OutOrStdout(), summary)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d keys of epoch %d, revision %d, are in %s\n",
					summary.Keys, summary.Epoch, summary.Revision, args[0])
				return err
			})
		},
	}
	flags.add(cmd)
	return cmd
}

// restoreFlags are those of `contrail db restore`.
type restoreFlags struct {
	storeCommandFlags
	api             nodeFlags
	rest            time.Duration
	status, verify  bool
	forget, resolve string
	keep            string
}

// newDBRestoreCommand is `contrail db restore`.
func newDBRestoreCommand() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore FILE|- | --status | --forget NODE | --resolve INTERFACE --keep running|stored",
		Short: "Replace what the store holds by a backup",
		Long: `Verifies the whole file, then replaces what the store holds and begins a new
epoch. The processes of the cluster go on running, and so do containers and
their traffic. Interrupted, it leaves the store closed: run it again.

Afterwards nothing is allocated and nothing is deleted until all nodes have
reported what they run. What the backup does not know is adopted, or shown as a
conflict. --status tells who is awaited and what is in conflict; --forget ends
the waiting for a node that is gone for good; --resolve ends a conflict for the
side that is kept.`,
		Example: `  contrail db restore /var/backups/contrail.dump
  contrail db restore --status
  contrail db restore --forget contrail-node-3
  contrail db restore --resolve 4f2b9d4e-6f0e-4a55-9a5e-0a8f0a4f9c11 --keep running`,
		Args: func(_ *cobra.Command, args []string) error { return f.check(args) },
		RunE: func(cmd *cobra.Command, args []string) error {
			f.api.output, f.api.tlsDir = f.output, f.tlsDir
			switch {
			case f.status:
				return f.showStatus(cmd.Context(), cmd.OutOrStdout())
			case f.forget != "":
				return f.forgetNode(cmd.Context(), cmd.OutOrStdout())
			case f.resolve != "":
				return f.resolveConflict(cmd.Context(), cmd.OutOrStdout())
			}
			return f.restore(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.api.config, "config", defaultConfigAPI, "`address` of the configuration API, for --status, --forget and --resolve: unix:PATH or HOST:PORT")
	flags.DurationVar(&f.rest, "rest", defaultRest, "how long what was in use before the restore is not given out")
	flags.BoolVar(&f.verify, "verify", false, "only verify the file")
	flags.BoolVar(&f.status, "status", false, "tell who is awaited after a restore, and what is in conflict")
	flags.StringVar(&f.forget, "forget", "", "`node` (name or UUID) that is gone for good and not awaited any more")
	cmd.RegisterFlagCompletionFunc("forget", f.api.completeNodes)
	cmd.RegisterFlagCompletionFunc("keep", cobra.FixedCompletions([]string{"running", "stored"}, cobra.ShellCompDirectiveNoFileComp))
	flags.StringVar(&f.resolve, "resolve", "", "`interface` (UUID) whose conflict is ended")
	flags.StringVar(&f.keep, "keep", "", "`side` of the conflict that stays: running or stored")
	return cmd
}

func (f *restoreFlags) check(args []string) error {
	asked := len(args)
	for _, given := range []bool{f.status, f.forget != "", f.resolve != ""} {
		if given {
			asked++
		}
	}
	switch {
	case asked != 1:
		return errors.New("give one of FILE, --status, --forget NODE, --resolve INTERFACE")
	case f.verify && len(args) == 0:
		return errors.New("--verify wants a FILE")
	case f.resolve != "" && f.keep != "running" && f.keep != "stored":
		return fmt.Errorf("--keep %q: say which side stays, running or stored", f.keep)
	case f.rest < 0:
		return fmt.Errorf("--rest %s is below 0", f.rest)
	}
	return nil
}

func (f *restoreFlags) restore(ctx context.Context, w io.Writer, path string) error {
	file, err := openDump(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if f.verify {
		summary, err := backup.Verify(file)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if f.output == "json" {
			return printJSON(w, summary)
		}
		_, err = fmt.Fprintf(w, "%s is whole: %d keys of epoch %d, revision %d, of %s\n",
			path, summary.Keys, summary.Epoch, summary.Revision, summary.Created.Format(time.RFC3339))
		return err
	}
	return f.with(ctx, func(ctx context.Context, s *store.Store) error {
		result, err := backup.Restore(ctx, s, file, backup.Options{Rest: f.rest, Log: quietLog()})
		if err != nil {
			return fmt.Errorf("restore %s: %w", path, err)
		}
		slices.Sort(result.Awaited)
		if f.output == "json" {
			return printJSON(w, result)
		}
		fmt.Fprintf(w, "restored: %d keys; epoch %d begins\n", result.Keys, result.Epoch)
		if len(result.Awaited) > 0 {
			fmt.Fprintf(w, "awaited: %s\n", strings.Join(result.Awaited, ", "))
		}
		if result.Quiet {
			fmt.Fprintf(w, "nothing is allocated for %s: the store had no nodes, so addresses may be in use that nobody knows of\n", f.rest)
		}
		_, err = fmt.Fprintln(w, "see `contrail db restore --status` for how far it is")
		return err
	})
}

// openDump opens a dump; the standard input is copied to a file, since a dump
// is read twice.
func openDump(path string) (*os.File, error) {
	if path != "-" {
		return os.Open(path)
	}
	file, err := os.CreateTemp("", "contrail-dump-")
	if err != nil {
		return nil, err
	}
	// It goes with its last descriptor.
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if _, err := io.Copy(file, os.Stdin); err != nil {
		return nil, errors.Join(fmt.Errorf("read the dump: %w", err), file.Close())
	}
	_, err = file.Seek(0, io.SeekStart)
	return file, err
}

// withRecovery connects to the configuration API.
func (f *restoreFlags) withRecovery(use func(configv1connect.RecoveryClient) error) error {
	var credentials *ctls.Credentials
	if f.api.tlsDir != "" {
		var err error
		if credentials, err = ctls.LoadCredentials(f.api.tlsDir); err != nil {
			return fmt.Errorf("--tls-dir %s: %w", f.api.tlsDir, err)
		}
	}
	client, base, err := serve.Client(f.api.config, credentials, false, ctls.RoleController)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return f.api.explain(use(configv1connect.NewRecoveryClient(client, base)))
}

func (f *restoreFlags) showStatus(ctx context.Context, w io.Writer) error {
	return f.withRecovery(func(c configv1connect.RecoveryClient) error {
		res, err := c.Status(ctx, connect.NewRequest(&configv1.RecoveryStatusRequest{}))
		if err != nil {
			return err
		}
		if f.output == "json" {
			return printJSON(w, recoveryOf(res.Msg))
		}
		return printRecovery(w, res.Msg)
	})
}

// recoveryForm is the status of a restore in JSON.
type recoveryForm struct {
	Phase       string         `json:"phase"`
	Epoch       uint64         `json:"epoch"`
	Revision    uint64         `json:"revision"`
	RestoredAt  string         `json:"restored_at,omitempty"`
	DumpedAt    string         `json:"dumped_at,omitempty"`
	SecondsLeft uint64         `json:"seconds_left"`
	Awaited     []awaitedForm  `json:"awaited"`
	Conflicts   []conflictForm `json:"conflicts"`
}

type awaitedForm struct {
	UUID     string `json:"uuid"`
	Name     string `json:"name"`
	Joined   bool   `json:"joined"`
	Reported bool   `json:"reported"`
}

type conflictForm struct {
	Interface string   `json:"interface"`
	Node      string   `json:"node"`
	Container string   `json:"container"`
	Name      string   `json:"interface_name"`
	Network   []string `json:"network"`
	Addresses []string `json:"addresses"`
	Reason    string   `json:"reason"`
	Resolved  bool     `json:"resolved"`
}

func recoveryOf(s *configv1.RecoveryStatusResponse) recoveryForm {
	out := recoveryForm{
		Phase: phaseText(s), Epoch: s.Position.GetEpoch(), Revision: s.Position.GetRevision(), RestoredAt: s.RestoredAt, DumpedAt: s.DumpedAt,
		SecondsLeft: s.SecondsLeft, Awaited: []awaitedForm{}, Conflicts: []conflictForm{},
	}
	for _, n := range s.Awaited {
		out.Awaited = append(out.Awaited, awaitedForm{UUID: n.Node, Name: n.Name, Joined: n.Joined, Reported: n.Reported})
	}
	for _, c := range s.Conflicts {
		at := c.Attachment
		out.Conflicts = append(out.Conflicts, conflictForm{
			Interface: at.GetInterfaceId(), Node: at.GetKey().GetNode(), Container: at.GetKey().GetContainerId(), Name: at.GetKey().GetInterface(),
			Network: at.GetNetworkFqName(), Addresses: addressesOf(at), Reason: c.Reason, Resolved: c.Dropped,
		})
	}
	return out
}

// phaseText is open, awaiting or restoring.
func phaseText(s *configv1.RecoveryStatusResponse) string {
	return strings.ToLower(strings.TrimPrefix(s.Phase.String(), "PHASE_"))
}

func addressesOf(at *configv1.Attachment) []string {
	list := make([]string, len(at.GetAddresses()))
	for i, a := range at.GetAddresses() {
		list[i] = a.Address
	}
	return list
}

func printRecovery(w io.Writer, s *configv1.RecoveryStatusResponse) error {
	fmt.Fprintf(w, "store: %s, epoch %d, revision %d\n", phaseText(s), s.Position.GetEpoch(), s.Position.GetRevision())
	if s.RestoredAt != "" {
		fmt.Fprintf(w, "restored: at %s, from a dump of %s\n", s.RestoredAt, s.DumpedAt)
	}
	if s.SecondsLeft > 0 {
		fmt.Fprintf(w, "resting: addresses that nobody knows of, for %d more seconds\n", s.SecondsLeft)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(s.Awaited) > 0 {
		fmt.Fprintln(table, "AWAITED\tUUID\tSTATE")
	}
	for _, n := range s.Awaited {
		state := "has not joined"
		switch {
		case n.Reported:
			state = "has reported; its conflicts wait for the others"
		case n.Joined:
			state = "has not reported"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", n.Name, n.Node, state)
	}
	if len(s.Conflicts) > 0 {
		fmt.Fprintln(table, "CONFLICT\tNODE\tCONTAINER\tNETWORK\tADDRESS\tREASON")
	}
	for _, c := range s.Conflicts {
		at := c.Attachment
		reason := c.Reason
		if c.Dropped {
			reason = "resolved; the node takes its port off with the next report"
		}
		fmt.Fprintf(table, "%s\t%s\t%s %s\t%s\t%s\t%s\n", at.GetInterfaceId(), at.GetKey().GetNode(), at.GetKey().GetContainerId(),
			at.GetKey().GetInterface(), strings.Join(at.GetNetworkFqName(), ":"), strings.Join(addressesOf(at), ","), reason)
	}
	return table.Flush()
}

func (f *restoreFlags) forgetNode(ctx context.Context, w io.Writer) error {
	return f.withRecovery(func(c configv1connect.RecoveryClient) error {
		res, err := c.Forget(ctx, connect.NewRequest(&configv1.ForgetRequest{Node: f.forget}))
		if err != nil {
			return err
		}
		if f.output == "json" {
			return printJSON(w, struct {
				Node     string `json:"node"`
				Detached uint32 `json:"detached"`
			}{f.forget, res.Msg.Detached})
		}
		_, err = fmt.Fprintf(w, "node %s is not awaited any more; %d attachments are released\n", f.forget, res.Msg.Detached)
		return err
	})
}

func (f *restoreFlags) resolveConflict(ctx context.Context, w io.Writer) error {
	keep := configv1.ResolveRequest_KEEP_STORED
	done := "the node takes its port off with its next report"
	if f.keep == "running" {
		keep = configv1.ResolveRequest_KEEP_RUNNING
		done = "what was in its way is released; the node's next report has it adopted"
	}
	return f.withRecovery(func(c configv1connect.RecoveryClient) error {
		if _, err := c.Resolve(ctx, connect.NewRequest(&configv1.ResolveRequest{Interface: f.resolve, Keep: keep})); err != nil {
			return err
		}
		if f.output == "json" {
			return printJSON(w, map[string]string{"interface": f.resolve, "kept": f.keep})
		}
		_, err := fmt.Fprintf(w, "interface %s: %s\n", f.resolve, done)
		return err
	})
}
