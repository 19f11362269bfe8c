package main

import (
	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/api/contrail/config/v1/configv1connect"
	"github.com/contrail-mesos/contrail/internal/lifecycle"
	"github.com/contrail-mesos/contrail/internal/mesos/manager"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

func newMesosManagerCommand() *cobra.Command {
	var flags serviceFlags
	var cfg manager.Config
	var config string
	cmd := &cobra.Command{
		Use:   "mesos-manager",
		Short: "Give containers of Mesos nodes their interfaces",
		Long: `Answers the nodes' vRouter agents (RPC, with the node's certificate) and foreign
CNI plugins (POST /add_cni_info and /del_cni_info, with a node's certificate or
the bearer token), and turns what they ask for into attachments of the
configuration API. It keeps no state.`,
		Example: "  contrail mesos-manager --config unix:/run/contrail/config.sock --listen-tls 172.31.0.1:6991 --tls-dir /etc/contrail/tls",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, credentials, err := flags.load("mesos-manager")
			if err != nil {
				return err
			}
			client, base, err := serve.Client(config, credentials, false, ctls.RoleController)
			if err != nil {
				return err
			}
			defer client.CloseIdleConnections()
			m := manager.New(log, cfg,
				configv1connect.NewAttachmentsClient(client, base), configv1connect.NewNodesClient(client, base),
				configv1connect.NewRecoveryClient(client, base))
			server, err := serve.Listen(log, flags.listen, m.Handler())
			if err != nil {
				return err
			}
			group := lifecycle.New(log)
			group.Add("manager", server.Run)
			return group.Wait(cmd.Context())
		},
	}
	f := cmd.Flags()
	flags.register(f)
	f.StringVar(&flags.listen.Bearer, "listen-bearer", "", "`address` (host:port) of the loopback to answer on with a bearer token")
	f.StringVar(&flags.listen.BearerFile, "bearer-file", "/etc/contrail/mesos-manager.token", "`file` with the bearer token; made if it does not exist")
	f.StringVar(&config, "config", defaultConfigAPI, "`address` of the configuration API: unix:PATH or HOST:PORT")
	f.StringVar(&cfg.Defaults.Domain, "default-domain", "default-domain", "`domain` of containers without the label domain-name")
	f.StringVar(&cfg.Defaults.Project, "default-project", "mesos-default", "`project` of containers without the label project-name")
	f.StringVar(&cfg.Defaults.Network, "default-network", "mesos-default-pod-task-network", "`network` of containers without the label networks")
	f.DurationVar(&cfg.Timeout, "config-timeout", manager.DefaultTimeout, "`time` to wait for the configuration API, tries included")
	return cmd
}
