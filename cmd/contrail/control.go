package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/contrail-mesos/contrail/internal/control"
	"github.com/contrail-mesos/contrail/internal/lifecycle"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
)

// newControlCommand is `contrail controller control`.
func newControlCommand() *cobra.Command {
	var flags serviceFlags
	var from storeFlags
	var router string
	var addPaths int
	cmd := &cobra.Command{
		Use:   "control",
		Short: "Build the routes of all networks and stream them to the nodes",
		Long: `Follows the store, computes the routes of every network, and streams to each
node's vRouter agent what its containers need. It serves on from what it knows
while the store or the configuration API is away.`,
		Example: "  contrail controller control --store unix:/run/contrail/store.sock --listen-tls 172.31.0.1:5269 --listen-unix /run/contrail/control.sock --tls-dir /etc/contrail/tls",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkAddPaths(addPaths); err != nil {
				return err
			}
			log, credentials, err := flags.load("control")
			if err != nil {
				return err
			}
			at, err := from.config(credentials)
			if err != nil {
				return err
			}
			boundGarbage(controlBounds)
			graph := model.NewGraph()
			node := control.New(log, control.Config{Router: router, AddPaths: addPaths, Policies: true}, graph)
			server, err := serve.Listen(log, flags.listen, node.Handler())
			if err != nil {
				return err
			}
			group := lifecycle.New(log)
			others, err := node.Exchange(flags.listen.TLS, credentials)
			if err != nil && flags.listen.TLS != "" {
				log.Warn("other controllers will not find this one", "error", err)
			}
			if others != nil {
				group.Add("exchange", others.Run)
			}
			group.Add("store", func(ctx context.Context) error {
				s, err := store.Open(ctx, log, at)
				if err != nil {
					return err
				}
				defer s.Close()
				ctx, cancel := context.WithCancel(ctx)
				var beside sync.WaitGroup
				defer beside.Wait()
				defer cancel()
				beside.Go(func() { _ = node.Prove(ctx, s) }) // ends with ctx
				followers := []store.Follower{node.Recovery()}
				if others != nil { // known before the graph is, for agents are told what they know
					beside.Go(func() { _ = others.Announce(ctx, s) }) // ends with ctx
					followers = append(followers, others)
				}
				return s.Follow(ctx, append(followers, store.Into(log, graph, control.Unread...))...)
			})
			group.Add("routes", node.Run)
			group.Add("sessions", server.Run)
			return group.Wait(cmd.Context())
		},
	}
	flags.register(cmd.Flags())
	from.register(cmd.Flags())
	from.registerShared(cmd.Flags())
	registerAddPaths(cmd.Flags(), &addPaths)
	cmd.Flags().StringVar(&router, "bgp-router", "", "`name` of the bgp-router below ip-fabric:__default__ that this controller is, if there is one")
	return cmd
}

func registerAddPaths(set *pflag.FlagSet, n *int) {
	set.IntVar(n, "bgp-add-paths", 0, fmt.Sprintf("how many paths of a route to take from BGP peers that offer several (RFC 7911), at most %d; 0 asks for one", control.MaxAddPaths))
}

func checkAddPaths(n int) error {
	if n < 0 || n > control.MaxAddPaths {
		return fmt.Errorf("--bgp-add-paths %d is out of range; set 0 to %d", n, control.MaxAddPaths)
	}
	return nil
}
