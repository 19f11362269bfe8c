package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/box"
	"github.com/contrail-mesos/contrail/internal/cli"
)

// newTraceCommand is `contrail trace`.
func newTraceCommand() *cobra.Command {
	var flags vrouterFlags
	var q cli.TraceQuery
	cmd := &cobra.Command{
		Use:   "trace SOURCE DESTINATION PROTOCOL[:PORT]",
		Short: "Tell which way packets take, and what they meet",
		Long: `Tells what becomes of the first packet of a connection, and of the answer to it:
at each node the port, the address checks, NAT, the route with its next hop, the
member of several, the rules that decide, the tunnel with what fits into it, and the
delivery; or the reason of the drop, as it would be counted, and what to do about it.
It is computed by the nodes' agents from the tables in the kernel: nothing is sent,
and connections that there are may pass by an earlier decision, see contrail vrouter
flow.

SOURCE is a task of ` + "`contrail up`" + `, as contrail exec takes it, or what contrail
vrouter vif takes: an address, a UUID, a container's id or name. DESTINATION is the
same, or any address. PROTOCOL is tcp, udp, sctp, icmp, icmp6 or a number; PORT is the
destination's, of icmp the type of the message, without which it is an echo request.

A rule is named by the object that it is written in and its place there. What no rule
matches is refused where there are rules.`,
		Example: "  contrail trace client web tcp:80\n  contrail trace 10.32.0.3 198.51.100.7 icmp\n  contrail trace client 10.32.0.4 udp:53 --size 1500 -o json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 3 {
				return errors.New("want SOURCE DESTINATION PROTOCOL[:PORT], such as: contrail trace client web tcp:80")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if q.Family != "" && q.Family != "inet" && q.Family != "inet6" {
			return fmt.Errorf("--family %s: want inet or inet6", q.Family)
		}
		q.Protocol, q.Port, _ = strings.Cut(args[2], ":")
		var unknown, unknown2 error
		q.Source, unknown = flags.portName(cmd.Context(), args[0])
		q.Destination, unknown2 = flags.portName(cmd.Context(), args[1])
		return flags.run(cmd, func(ctx context.Context, v *cli.VRouter, w io.Writer) error {
			err := v.Trace(ctx, w, q, flags.output)
			if err != nil {
				err = errors.Join(err, unknown, unknown2)
			}
			return err
		})
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&q.SourcePort, "source-port", "", "source `port` of the connection, of icmp its identifier (default 49152)")
	cmd.Flags().StringVar(&q.Size, "size", "", "`bytes` of the IP packet, to see whether it fits")
	cmd.Flags().StringVar(&q.Family, "family", "", "`family` of the addresses, where both ends have both: inet or inet6")
	return cmd
}

// portName is the name by which agents know the port of a task of this machine's
// cluster. What is none is left as it is, as agents may know it by that: the error
// is for when they do not.
func (f *vrouterFlags) portName(ctx context.Context, name string) (string, error) {
	if _, err := netip.ParseAddr(name); err == nil || f.agent != "" {
		return name, nil
	}
	container, err := box.TaskContainer(ctx, box.Config{Name: f.cluster}, name)
	switch {
	case errors.Is(err, box.ErrNotUp):
		return name, nil
	case err != nil:
		return name, err
	}
	return container, nil
}
