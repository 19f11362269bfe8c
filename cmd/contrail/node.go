package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/api/contrail/config/v1/configv1connect"
	"github.com/contrail-mesos/contrail/internal/cli"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// defaultConfigAPI is where the configuration API listens on a controller.
const defaultConfigAPI = "unix:/run/contrail/config.sock"

// nodeFlags say how a node command reaches the configuration API.
type nodeFlags struct {
	config, tlsDir, output string
}

func newNodeCommand() *cobra.Command {
	var flags nodeFlags
	cmd := &cobra.Command{
		Use:   "node",
		Short: "List and remove the machines that run containers",
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "List the nodes that have joined",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.with(func(nodes configv1connect.NodesClient) error {
				return listNodes(cmd.Context(), cmd.OutOrStdout(), nodes, flags.output)
			})
		},
	}
	remove := &cobra.Command{
		Use:   "remove NAME|UUID",
		Short: "Forget a node that is gone for good, and release all that was attached to it",
		Long: `Forgets a node and detaches every container of it: their addresses rest and are
then given to others. Remove a node only when its containers are surely dead.
Mesos is not told: mark its agent as gone there (MARK_AGENT_GONE), too, or its
tasks are replaced only after the master's agent timeout. A node that comes back
nevertheless joins anew, and detaches what it ran.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: flags.completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return flags.with(func(nodes configv1connect.NodesClient) error {
				return removeNode(cmd.Context(), cmd.OutOrStdout(), nodes, args[0], flags.output)
			})
		},
	}
	for _, sub := range []*cobra.Command{list, remove} {
		sub.Flags().StringVar(&flags.config, "config", defaultConfigAPI, "`address` of the configuration API: unix:PATH or HOST:PORT")
		sub.Flags().StringVar(&flags.tlsDir, "tls-dir", "", "`directory` with ca.crt, tls.crt and tls.key, for HOST:PORT")
		registerOutput(sub, &flags.output)
	}
	cmd.AddCommand(list, remove)
	return cmd
}

func (f *nodeFlags) with(use func(configv1connect.NodesClient) error) error {
	var credentials *ctls.Credentials
	if f.tlsDir != "" {
		var err error
		if credentials, err = ctls.LoadCredentials(f.tlsDir); err != nil {
			return fmt.Errorf("--tls-dir %s: %w", f.tlsDir, err)
		}
	}
	client, base, err := serve.Client(f.config, credentials, false, ctls.RoleController)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return f.explain(use(configv1connect.NewNodesClient(client, base)))
}

// completeNodes completes the name of one node from the live API.
func (f *nodeFlags) completeNodes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), cli.CompletionTimeout)
	defer cancel()
	var names []string
	err := f.with(func(nodes configv1connect.NodesClient) error {
		res, err := nodes.List(ctx, connect.NewRequest(&configv1.ListNodesRequest{}))
		if err == nil {
			for _, n := range res.Msg.Nodes {
				names = append(names, n.Name)
			}
		}
		return err
	})
	if err != nil {
		names = nil // a shell is no place for errors
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// explain says what is wrong where the configuration API did not answer, and
// what it said where it did.
func (f *nodeFlags) explain(err error) error {
	if connect.CodeOf(err) == connect.CodeUnavailable && !connect.IsWireError(err) {
		return fmt.Errorf("configuration API at %s does not answer: %w; see --config and `contrail status`", f.config, err)
	}
	if e := (*connect.Error)(nil); errors.As(err, &e) {
		return errors.New(e.Message())
	}
	return err
}

// nodeRow is a node in JSON.
type nodeRow struct {
	UUID      string `json:"uuid"`
	Name      string `json:"name"`
	Address   string `json:"address"`
	FabricMTU uint32 `json:"fabric_mtu"`
	BootID    string `json:"boot_id"`
}

func listNodes(ctx context.Context, w io.Writer, nodes configv1connect.NodesClient, output string) error {
	res, err := nodes.List(ctx, connect.NewRequest(&configv1.ListNodesRequest{}))
	if err != nil {
		return err
	}
	rows := make([]nodeRow, 0, len(res.Msg.Nodes))
	for _, n := range res.Msg.Nodes {
		rows = append(rows, nodeRow{UUID: n.Id, Name: n.Name, Address: n.Address, FabricMTU: n.FabricMtu, BootID: n.BootId})
	}
	if output == "json" {
		return printJSON(w, rows)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tADDRESS\tMTU\tUUID\tBOOT")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\n", r.Name, r.Address, r.FabricMTU, r.UUID, r.BootID)
	}
	return table.Flush()
}

func removeNode(ctx context.Context, w io.Writer, nodes configv1connect.NodesClient, name, output string) error {
	res, err := nodes.Remove(ctx, connect.NewRequest(&configv1.RemoveNodeRequest{Node: name}))
	if err != nil {
		return err
	}
	if output == "json" {
		return printJSON(w, struct {
			Node     string `json:"node"`
			Detached uint32 `json:"detached"`
		}{name, res.Msg.Detached})
	}
	_, err = fmt.Fprintf(w, "node %s is removed; %d attachments are released\n", name, res.Msg.Detached)
	return err
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
