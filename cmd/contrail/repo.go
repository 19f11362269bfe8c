package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/lifecycle"
	"github.com/contrail-mesos/contrail/internal/repo"
	"github.com/contrail-mesos/contrail/internal/serve"
)

func newRepoCommand() *cobra.Command {
	var flags serviceFlags
	var images string
	cmd := &cobra.Command{
		Use:   "repo",
		Short: "Serve container images to the cluster's nodes",
		Long: `Answers image pulls (the read-only part of the OCI distribution protocol) from
an OCI layout directory, whose index names each image by the annotation
org.opencontainers.image.ref.name, such as contrail/example:latest.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, _, err := flags.load("repo")
			if err != nil {
				return err
			}
			if images == "" {
				return errors.New("--images: no directory given; name the OCI layout that holds the images")
			}
			server, err := serve.Listen(log, flags.listen, repo.NewHandler(log, images))
			if err != nil {
				return err
			}
			group := lifecycle.New(log)
			group.Add("images", server.Run)
			return group.Wait(cmd.Context())
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().StringVar(&images, "images", "", "OCI layout `directory` with the images")
	return cmd
}
