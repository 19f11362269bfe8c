package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/model"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// certificateFlags are those of `contrail certificate`.
type certificateFlags struct {
	authority, out, output string
	valid                  time.Duration
}

// newCertificateCommand is `contrail certificate`.
func newCertificateCommand() *cobra.Command {
	var f certificateFlags
	cmd := &cobra.Command{
		Use:   "certificate",
		Short: "Make the cluster's authority and the certificates of its processes",
	}
	authority := &cobra.Command{
		Use:   "authority",
		Short: "Make the authority that signs for this cluster",
		Long: `Makes the authority of a new cluster: ca.key, which is to stay where it is, and
ca.crt. One that is there already stays. Whoever has the key is any process of
the cluster to all others.`,
		Example: "  contrail certificate authority --ca-dir /etc/contrail/ca",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.makeAuthority(cmd.OutOrStdout()) },
	}
	registerOutput(authority, &f.output)
	cmd.AddCommand(authority)
	for _, c := range []struct{ role, use, short string }{
		{ctls.RoleController, "controller", "Issue the certificate of a controller"},
		{ctls.RoleNode, "node UUID", "Issue the certificate of a node"},
		{ctls.RoleManager, "mesos-manager", "Issue the certificate of a Mesos manager"},
		{ctls.RoleMaster, "mesos-master", "Issue the certificate of a Mesos master"},
		{ctls.RoleMarathon, "mesos-marathon", "Issue the certificate of Marathon"},
		{ctls.RoleRepo, "repo", "Issue the certificate of an image registry"},
		{ctls.RoleAnalytics, "analytics", "Issue the certificate of a collector"},
		{ctls.RoleAdmin, "admin", "Issue the certificate of an administrator's machine"},
	} {
		cmd.AddCommand(f.issueCommand(c.role, c.use, c.short))
	}
	for _, sub := range cmd.Commands() {
		sub.Flags().StringVar(&f.authority, "ca-dir", "/etc/contrail/ca", "`directory` of the authority")
	}
	return cmd
}

func (f *certificateFlags) issueCommand(role, use, short string) *cobra.Command {
	takes, example := cobra.NoArgs, role
	if role == ctls.RoleNode {
		takes, example = cobra.ExactArgs(1), role+" 4f2b9d4e-6f0e-4a55-9a5e-0a8f0a4f9c11"
	}
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Long: short + `, signed by the cluster's authority: tls.crt and
tls.key, with the authority's ca.crt beside them. It names no machine. A directory
made here is copied to the machine that needs it, by a way that keeps the key
secret. A certificate that has more than a third of the time left stays; processes
take a new one without a restart.`,
		Example: "  contrail certificate " + example + " --out /etc/contrail/tls",
		Args:    takes,
		RunE: func(cmd *cobra.Command, args []string) error {
			id := ctls.Identity{Role: role}
			if len(args) > 0 {
				if id.Node = strings.ToLower(args[0]); !model.IsUUID(id.Node) {
					return fmt.Errorf("node %q: want its UUID, such as 4f2b9d4e-6f0e-4a55-9a5e-0a8f0a4f9c11", id.Node)
				}
			}
			return f.issue(cmd.OutOrStdout(), id)
		},
	}
	cmd.Flags().StringVar(&f.out, "out", "/etc/contrail/tls", "`directory` for the certificate")
	cmd.Flags().DurationVar(&f.valid, "valid", ctls.LeafValidity, "how long it is valid, at most as long as the authority")
	registerOutput(cmd, &f.output)
	return cmd
}

func (f *certificateFlags) makeAuthority(w io.Writer) error {
	done := "is there already"
	authority, err := ctls.LoadAuthority(f.authority)
	if errors.Is(err, fs.ErrNotExist) {
		done = "is made"
		authority, err = ctls.OpenAuthority(f.authority)
	}
	if err != nil {
		return fmt.Errorf("--ca-dir: %w", err)
	}
	if f.output == "json" {
		return printJSON(w, map[string]string{"authority": f.authority, "until": authority.Until().Format(time.RFC3339)})
	}
	_, err = fmt.Fprintf(w, "authority in %s %s, valid until %s\n", f.authority, done, authority.Until().Format(time.DateOnly))
	return err
}

func (f *certificateFlags) issue(w io.Writer, id ctls.Identity) error {
	if f.valid <= 0 {
		return fmt.Errorf("--valid %s: want more than nothing", f.valid)
	}
	authority, err := ctls.LoadAuthority(f.authority)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--ca-dir %s has no authority; `contrail certificate authority` makes one for a new cluster", f.authority)
	}
	if err != nil {
		return fmt.Errorf("--ca-dir: %w", err)
	}
	if filepath.Clean(f.out) == filepath.Clean(f.authority) {
		return errors.New("--out is --ca-dir: the authority's key is not to be given away")
	}
	if err := unlessAnother(f.out, id); err != nil {
		return err
	}
	until, err := authority.IssueFor(f.out, id, f.valid)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	if f.output == "json" {
		return printJSON(w, struct {
			Role  string `json:"role"`
			Node  string `json:"node,omitempty"`
			Out   string `json:"out"`
			Until string `json:"until"`
		}{id.Role, id.Node, f.out, until.Format(time.RFC3339)})
	}
	_, err = fmt.Fprintf(w, "certificate of %s in %s, valid until %s\n", id, f.out, until.Format(time.DateOnly))
	return err
}

// unlessAnother refuses to replace the certificate of somebody else.
func unlessAnother(dir string, id ctls.Identity) error {
	have, err := ctls.LoadCredentials(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("--out %s holds something else: %w", dir, err)
	}
	if is, err := have.Identity(); err != nil || is != id {
		return fmt.Errorf("--out %s holds the certificate of %s: give another directory, or remove it first", dir, is)
	}
	return nil
}
