package main

import (
	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/cli"
)

func newGetCommand() *cobra.Command {
	var api apiFlags
	var get cli.Get
	var labels []string
	var fields []string
	var watch bool
	cmd := &cobra.Command{
		Use:   "get TYPE [NAME...]",
		Short: "List objects of the configuration",
		Long: `Lists the objects of a type in a project, or the named ones. A name is
domain:project:name, or short within --project, or a UUID. Types have short names
and may be in the plural: ` + "`contrail types`" + ` lists them.

-o yaml writes manifests that ` + "`contrail apply`" + ` takes; -o json writes all that the
API tells of the objects.`,
		Example: `  contrail get networks
  contrail get vmi -A -o wide
  contrail get vn blue -o yaml
  contrail get vm -l application=web
  contrail get iip -A --field virtual_network_refs=blue`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: api.completeTypeAndNames(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if get.Type, err = cli.FindType(args[0]); err != nil {
				return err
			}
			for _, text := range labels {
				s, err := cli.ParseSelector(text)
				if err != nil {
					return err
				}
				get.Labels = append(get.Labels, s...)
			}
			if get.Fields, err = cli.ParseFields(get.Type, fields); err != nil {
				return err
			}
			get.Names, get.Scope, get.Note = args[1:], api.scope, cmd.ErrOrStderr()
			return api.with(func(c *cli.Client) error {
				if watch {
					return c.Watch(cmd.Context(), cmd.OutOrStdout(), get)
				}
				return c.Get(cmd.Context(), cmd.OutOrStdout(), get)
			})
		},
	}
	api.register(cmd)
	cmd.Flags().BoolVarP(&api.scope.All, "all-projects", "A", false, "list the objects of all projects")
	cmd.Flags().StringArrayVarP(&labels, "selector", "l", nil, "`labels` that objects must have among annotations and tags: key=value, key!=value, key, !key")
	cmd.Flags().StringArrayVar(&fields, "field", nil, "`path=value` that objects must have, such as virtual_network_properties.forwarding_mode=l3")
	cmd.RegisterFlagCompletionFunc("field", completeFields("="))
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "list the objects, then tell what happens to them, until interrupted")
	registerForms(cmd, &get.Output, cli.Wide, cli.JSON, cli.YAML, cli.Name)
	return cmd
}

// completeFields completes paths of the type that the first argument names.
func completeFields(suffix string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return cli.CompleteFields(args[0], prefix, suffix), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

func newDescribeCommand() *cobra.Command {
	var api apiFlags
	var output cli.Output
	cmd := &cobra.Command{
		Use:   "describe TYPE NAME",
		Short: "Tell everything about an object of the configuration",
		Long: `Tells the properties of an object, what it refers to, what is below it, what
refers to it, who owns it and when it changed. What is stored and does nothing yet
is marked so.`,
		Example:           "  contrail describe network blue",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: api.completeTypeAndNames(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := cli.FindType(args[0])
			if err != nil {
				return err
			}
			return api.with(func(c *cli.Client) error {
				return c.Describe(cmd.Context(), cmd.OutOrStdout(), t, api.scope, args[1], output)
			})
		},
	}
	api.register(cmd)
	registerForms(cmd, &output, cli.JSON)
	return cmd
}

func newTypesCommand() *cobra.Command {
	var output cli.Output
	cmd := &cobra.Command{
		Use:   "types",
		Short: "List the types of objects of the configuration",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cli.Types(cmd.OutOrStdout(), output) },
	}
	registerForms(cmd, &output, cli.JSON)
	return cmd
}

func newExplainCommand() *cobra.Command {
	var output cli.Output
	cmd := &cobra.Command{
		Use:   "explain TYPE[.PROPERTY[.FIELD...]]",
		Short: "Tell what a type, a property or a field means",
		Example: `  contrail explain network
  contrail explain vn.network_ipam_refs.attr.ipam_subnets`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return cli.CompletePaths(prefix), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
		RunE: func(cmd *cobra.Command, args []string) error { return cli.Explain(cmd.OutOrStdout(), args[0], output) },
	}
	registerForms(cmd, &output, cli.JSON)
	return cmd
}
