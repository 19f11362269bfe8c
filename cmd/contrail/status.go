package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/contrail-mesos/contrail/internal/box"
)

// registerOutput adds the flag that every command with an answer has.
func registerOutput(cmd *cobra.Command, output *string) {
	cmd.Flags().VarP((*outputFormat)(output), "output", "o", "`format` of the answer: text or json")
}

// outputFormat is "" (text) or json.
type outputFormat string

var _ pflag.Value = (*outputFormat)(nil)

func (f *outputFormat) String() string { return string(*f) }
func (f *outputFormat) Type() string   { return "format" }
func (f *outputFormat) Set(s string) error {
	switch s {
	case "text":
		*f = ""
	case "json":
		*f = outputFormat(s)
	default:
		return errors.New("want text or json")
	}
	return nil
}

var errDegraded = errors.New("not everything runs; see the reasons above and `contrail logs COMPONENT`")

func newStatusCommand() *cobra.Command {
	var cfg box.Config
	var output string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell how the cluster of this machine is",
		Long:  "Tells the state of every component. Exits with 1 when something does not run.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return err
			}
			status, err := readOrWait(cmd.Context(), cfg, wait, timeout)
			if err != nil {
				return err
			}
			if output == "json" {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				err = encoder.Encode(status)
			} else {
				err = printStatus(cmd.OutOrStdout(), status)
			}
			if err == nil && !status.Healthy() {
				err = errDegraded
			}
			return err
		},
	}
	registerCluster(cmd.Flags(), &cfg)
	registerOutput(cmd, &output)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until everything runs")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait")
	return cmd
}

func readOrWait(ctx context.Context, cfg box.Config, wait bool, timeout time.Duration) (*box.Status, error) {
	if !wait {
		return box.ReadStatus(cfg)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	status, err := box.WaitHealthy(ctx, cfg)
	if status != nil {
		return status, nil // what is missing is told by the status itself
	}
	return nil, err
}

func printStatus(out io.Writer, status *box.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tCOMPONENT\tSTATE\tPID\tRESTARTS\tSINCE\tREASON")
	supervisor := box.StateRunning
	if !status.Supervisor.Running {
		supervisor = box.StateGone
	}
	fmt.Fprintf(w, "-\tsupervisor\t%s\t%d\t\t\t\n", supervisor, status.Supervisor.PID)
	for _, c := range status.Components {
		node := c.Node
		if node == "" {
			node = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", node, c.Name, c.State, c.PID, c.Restarts,
			time.Since(c.Since).Round(time.Second), c.Reason)
	}
	return w.Flush()
}
