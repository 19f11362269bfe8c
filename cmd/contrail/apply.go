package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/contrail-mesos/contrail/internal/cli"
)

// fileFlags name the files with manifests.
type fileFlags struct{ files []string }

func (f *fileFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "`file` with manifests, a directory of *.yaml, *.yml and *.json files, or - for the standard input")
}

// read reads all manifests of the files, in the order of their names.
func (f *fileFlags) read(cmd *cobra.Command, scope cli.Scope) ([]*cli.Manifest, error) {
	if len(f.files) == 0 {
		return nil, errors.New("no manifests: name a file or directory with -f, or - for the standard input")
	}
	var all []*cli.Manifest
	for _, name := range f.files {
		if name == "-" {
			list, err := cli.ReadManifests("stdin", cmd.InOrStdin(), scope)
			if err != nil {
				return nil, err
			}
			all = append(all, list...)
			continue
		}
		paths, err := manifestFiles(name)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			file, err := os.Open(path)
			if err != nil {
				return nil, fmt.Errorf("-f: %w", err)
			}
			list, err := cli.ReadManifests(path, file, scope)
			file.Close()
			if err != nil {
				return nil, err
			}
			all = append(all, list...)
		}
	}
	return all, nil
}

// manifestFiles are the files that a name means.
func manifestFiles(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("-f: %w", err)
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	var paths []string
	err = filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("-f: %w", err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("-f %s: no *.yaml, *.yml or *.json file in it", name)
	}
	return paths, nil
}

func newApplyCommand() *cobra.Command {
	var api apiFlags
	var files fileFlags
	var apply cli.Apply
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make objects what manifests say",
		Long: `Creates the objects of the manifests that do not exist, and changes those that
are not as their manifest says: parents and what is referred to first, whatever
the order in the files. What a manifest does not mention stays; null clears it.
Applying the same again changes nothing.

A manifest says kind, name, and properties and references as the API has them,
references by name. ` + "`contrail get TYPE NAME -o yaml`" + ` writes one.`,
		Example: `  contrail apply -f network.yaml
  contrail apply -f manifests/ --dry-run
  contrail get vn blue -o yaml | contrail apply -f -`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			manifests, err := files.read(cmd, api.scope)
			if err != nil {
				return err
			}
			return api.with(func(c *cli.Client) error { return c.Apply(cmd.Context(), cmd.OutOrStdout(), manifests, apply) })
		},
	}
	api.register(cmd)
	files.register(cmd)
	cmd.Flags().BoolVar(&apply.DryRun, "dry-run", false, "only tell what would change; the API checks it without doing it")
	registerForms(cmd, &apply.Output, cli.Name, cli.JSON)
	return cmd
}

func newDiffCommand() *cobra.Command {
	var api apiFlags
	var files fileFlags
	var output cli.Output
	cmd := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Show what applying manifests would change",
		Long: `Shows, object by object, the lines that applying the manifests would change.
Exits with 1 when there are any.`,
		Example:           "  contrail diff -f manifests/",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			manifests, err := files.read(cmd, api.scope)
			if err != nil {
				return err
			}
			return api.with(func(c *cli.Client) error { return c.Diff(cmd.Context(), cmd.OutOrStdout(), manifests, output) })
		},
	}
	api.register(cmd)
	files.register(cmd)
	registerForms(cmd, &output, cli.JSON)
	return cmd
}

func newCreateCommand() *cobra.Command {
	var api apiFlags
	var files fileFlags
	var parentType string
	var settings []string
	apply := cli.Apply{OnlyCreate: true}
	cmd := &cobra.Command{
		Use:   "create TYPE NAME [--set PATH=VALUE]... | create -f FILE",
		Short: "Create objects of the configuration",
		Long: `Creates an object, with properties that --set gives, or those of manifests. It is
an error that one exists already. Values are YAML: text, numbers, [lists] and
{structures: of them}.`,
		Example: `  contrail create project demo
  contrail create vn blue -p demo --set virtual_network_properties.forwarding_mode=l3
  contrail create vn red -p demo --set network_policy_refs=[web]`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(files.files) > 0 && len(args) > 0 || len(files.files) == 0 && len(args) != 2 {
				return errors.New("want TYPE NAME, or -f FILE")
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return cli.CompleteTypes(prefix), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			manifests, err := toCreate(cmd, &files, args, parentType, settings, api.scope)
			if err != nil {
				return err
			}
			return api.with(func(c *cli.Client) error { return c.Apply(cmd.Context(), cmd.OutOrStdout(), manifests, apply) })
		},
	}
	api.register(cmd)
	files.register(cmd)
	cmd.Flags().StringArrayVar(&settings, "set", nil, "`path=value` of a property, such as display_name=Blue")
	cmd.RegisterFlagCompletionFunc("set", completeFields("="))
	cmd.Flags().StringVar(&parentType, "parent-type", "", "`type` of the parent where several are possible (default project)")
	cmd.Flags().BoolVar(&apply.DryRun, "dry-run", false, "only tell what would be created; the API checks it without doing it")
	registerForms(cmd, &apply.Output, cli.Name, cli.JSON)
	return cmd
}

func toCreate(cmd *cobra.Command, files *fileFlags, args []string, parentType string, settings []string, scope cli.Scope) ([]*cli.Manifest, error) {
	if len(args) == 0 {
		if len(settings) > 0 || parentType != "" {
			return nil, errors.New("--set and --parent-type go with TYPE NAME, not with -f")
		}
		return files.read(cmd, scope)
	}
	t, err := cli.FindType(args[0])
	if err != nil {
		return nil, err
	}
	m, err := cli.ManifestOf(t, args[1], parentType, settings, scope)
	if err != nil {
		return nil, err
	}
	return []*cli.Manifest{m}, nil
}

func newDeleteCommand() *cobra.Command {
	var api apiFlags
	var files fileFlags
	var d cli.Delete
	cmd := &cobra.Command{
		Use:   "delete TYPE NAME... | delete -f FILE",
		Short: "Delete objects of the configuration",
		Long: `Deletes the named objects, or those of manifests, in the reverse order of their
needs. The API refuses to delete what others are below or refer to.

--cascade deletes what is below the objects too. It shows what that is, and does
it only with --yes; while an object that stays refers to one that would go, nothing
is deleted.`,
		Example: `  contrail delete vn blue -p demo
  contrail delete -f manifests/
  contrail delete project demo --cascade`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(files.files) > 0 && len(args) > 0 || len(files.files) == 0 && len(args) < 2 {
				return errors.New("want TYPE NAME..., or -f FILE")
			}
			return nil
		},
		ValidArgsFunction: api.completeTypeAndNames(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			d.Scope = api.scope
			if len(args) == 0 {
				d.Manifests, err = files.read(cmd, api.scope)
			} else {
				d.Names = args[1:]
				d.Type, err = cli.FindType(args[0])
			}
			if err != nil {
				return err
			}
			return api.with(func(c *cli.Client) error { return c.Delete(cmd.Context(), cmd.OutOrStdout(), d) })
		},
	}
	api.register(cmd)
	files.register(cmd)
	cmd.Flags().BoolVar(&d.Cascade, "cascade", false, "delete what is below the objects too, after showing it")
	cmd.Flags().BoolVar(&d.Yes, "yes", false, "do what --cascade has shown")
	cmd.Flags().BoolVar(&d.DryRun, "dry-run", false, "only tell what would be deleted; the API checks it without doing it")
	registerForms(cmd, &d.Output, cli.Name, cli.JSON)
	return cmd
}

func newEditCommand() *cobra.Command {
	var api apiFlags
	var output cli.Output
	cmd := &cobra.Command{
		Use:   "edit TYPE NAME",
		Short: "Change an object of the configuration in an editor",
		Long: `Opens the manifest of an object in $VISUAL or $EDITOR and applies what was
changed; what is taken out is cleared. When something is wrong with it, the editor
opens again and says what. When somebody else changed the object meanwhile, nothing
is written and the file is kept.`,
		Example:           "  EDITOR=nano contrail edit vn blue",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: api.completeTypeAndNames(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := cli.FindType(args[0])
			if err != nil {
				return err
			}
			return api.with(func(c *cli.Client) error {
				return c.Edit(cmd.Context(), cmd.OutOrStdout(), t, api.scope, args[1], runEditor(cmd), output)
			})
		},
	}
	api.register(cmd)
	registerForms(cmd, &output, cli.Name, cli.JSON)
	return cmd
}

// runEditor runs the user's editor, which may have arguments of its own.
func runEditor(cmd *cobra.Command) cli.Editor {
	return func(path string) error {
		editor := os.Getenv("VISUAL")
		if editor == "" {
			editor = os.Getenv("EDITOR")
		}
		if editor == "" {
			editor = "vi"
		}
		words := append(strings.Fields(editor), path)
		run := exec.CommandContext(cmd.Context(), words[0], words[1:]...)
		run.Stdin, run.Stdout, run.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
		if err := run.Run(); err != nil {
			return fmt.Errorf("%s: %w; set $EDITOR", editor, err)
		}
		return nil
	}
}
