package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/contrail-mesos/contrail/internal/cli"
)

// The environment that commands which speak to the configuration API read.
const (
	environmentAPI     = "CONTRAIL_API_URL"
	environmentProject = "CONTRAIL_PROJECT"
)

// apiFlags say how a command reaches the configuration API, and which project
// short names mean.
type apiFlags struct {
	config, ca string
	scope      cli.Scope
}

func (f *apiFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "`address` of the configuration API: unix:PATH, HOST:PORT or a URL (default $"+environmentAPI+", else this machine's)")
	flags.StringVar(&f.ca, "ca", "", "`file` with the certificates that sign the API's, for https")
	project := os.Getenv(environmentProject)
	if project == "" {
		project = "mesos-default"
	}
	flags.StringVarP(&f.scope.Project, "project", "p", project, "`project` of short names, or domain:project (from $"+environmentProject+")")
	cmd.RegisterFlagCompletionFunc("project", f.completeProjects)
}

// client makes a client of the API. The caller closes it.
func (f *apiFlags) client() (*cli.Client, error) {
	address := f.config
	if address == "" {
		address = os.Getenv(environmentAPI)
	}
	if address == "" {
		address = cli.DefaultAddress(cli.Socket)
	}
	options := cli.Options{Address: address, CA: f.ca}
	if file, err := tokenFile(); err == nil {
		if options.Token, err = cli.TokenOf(file, address); err != nil {
			return nil, err
		}
	}
	return cli.NewClient(options)
}

// tokenFile is where `contrail login` keeps this user's tokens.
func tokenFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no place for tokens: %w", err)
	}
	return filepath.Join(dir, "contrail", "token"), nil
}

// with makes a client for as long as use runs.
func (f *apiFlags) with(use func(*cli.Client) error) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	defer client.Close()
	return use(client)
}

// formFlag is a flag for the form of an answer.
type formFlag struct {
	output *cli.Output
	forms  []cli.Output
}

var _ pflag.Value = (*formFlag)(nil)

func (f *formFlag) String() string { return string(*f.output) }
func (f *formFlag) Type() string   { return "format" }
func (f *formFlag) Set(s string) error {
	if s == "text" || s == "table" {
		*f.output = cli.Text
		return nil
	}
	words := []string{"text"}
	for _, form := range f.forms {
		if s == string(form) {
			*f.output = form
			return nil
		}
		words = append(words, string(form))
	}
	return errors.New("want " + anyOf(words))
}

// anyOf lists words as a sentence does: a, b or c.
func anyOf(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// registerForms adds -o with the forms that a command knows beside text.
func registerForms(cmd *cobra.Command, output *cli.Output, forms ...cli.Output) {
	words := []string{"text"}
	for _, form := range forms {
		words = append(words, string(form))
	}
	cmd.Flags().VarP(&formFlag{output, forms}, "output", "o", "`format` of the answer: "+anyOf(words))
	cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// completeProjects completes the names of projects from the live API.
func (f *apiFlags) completeProjects(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return f.complete(cmd, func(ctx context.Context, c *cli.Client) []string {
		return c.CompleteNames(ctx, "project", f.scope, prefix)
	})
}

// complete asks the live API, silently and not for long.
func (f *apiFlags) complete(cmd *cobra.Command, ask func(context.Context, *cli.Client) []string) ([]string, cobra.ShellCompDirective) {
	var words []string
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, cli.CompletionTimeout)
	defer cancel()
	if err := f.with(func(c *cli.Client) error { words = ask(ctx, c); return nil }); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeTypeAndNames completes a type, then names of its objects, as many as
// the command takes.
func (f *apiFlags) completeTypeAndNames(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		switch {
		case len(args) == 0:
			return cli.CompleteTypes(prefix), cobra.ShellCompDirectiveNoFileComp
		case most > 0 && len(args) > most:
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f.complete(cmd, func(ctx context.Context, c *cli.Client) []string {
			return c.CompleteNames(ctx, args[0], f.scope, prefix)
		})
	}
}
