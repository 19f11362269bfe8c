package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/contrail-mesos/contrail/internal/auth"
	"github.com/contrail-mesos/contrail/internal/cli"
	"github.com/contrail-mesos/contrail/internal/configapi"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// userFlags say how users reach the configuration API and where they are known
// from. `contrail controller` hands them on to its part config.
type userFlags struct {
	listen    string
	cert, key string
	auth      auth.Config
	mode      string
}

func (f *userFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.listen, "listen-users", "", "`address` (host:port) on which the configuration API answers users, with TLS and tokens")
	flags.StringVar(&f.cert, "users-cert", "", "`file` with the certificate that users see (default that in --tls-dir)")
	flags.StringVar(&f.key, "users-key", "", "`file` with the key of --users-cert")
	flags.StringVar(&f.auth.Users, "users", "", "`file` of local users, YAML; read again when it changes")
	flags.StringVar(&f.auth.OIDC, "oidc", "", "`file` that names a trusted issuer of OpenID Connect, YAML")
	flags.DurationVar(&f.auth.Life, "token-life", time.Hour, "how long a token of contrail login is valid")
	flags.StringVar(&f.mode, "aaa-mode", "", "`mode` of a new cluster: no-auth, cloud-admin or rbac (default no-auth with --listen-fd alone, else rbac)")
}

// args are the flags as the part config gets them.
func (f *userFlags) args() []string {
	args := []string{"--token-life", f.auth.Life.String()}
	for _, flag := range [][2]string{
		{"--listen-users", f.listen},
		{"--users-cert", f.cert},
		{"--users-key", f.key},
		{"--users", f.auth.Users},
		{"--oidc", f.auth.OIDC},
		{"--aaa-mode", f.mode},
	} {
		if flag[1] != "" {
			args = append(args, flag[0], flag[1])
		}
	}
	return args
}

// firstMode is that of a cluster that is new.
func (f *userFlags) firstMode(open []int) configapi.Mode {
	switch {
	case f.mode != "":
		return configapi.Mode(f.mode)
	case len(open) > 0 && f.listen == "":
		return configapi.NoAuth
	default:
		return configapi.RBAC
	}
}

// service makes the service that knows users, and has the listeners ask it.
func (f *userFlags) service(log *slog.Logger, api *configapi.API, listen *serve.Config) (*auth.Service, error) {
	s, err := auth.New(log, f.auth, api, api.Demanded)
	if err != nil {
		return nil, err
	}
	listen.Users, listen.UsersCert, listen.UsersKey = f.listen, f.cert, f.key
	listen.Authenticator = s
	return s, nil
}

// newUserCommand is `contrail user`.
func newUserCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "Help with the file of local users"}
	cmd.AddCommand(newUserHashCommand())
	return cmd
}

func newUserHashCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "hash",
		Short: "Make the hash of a password",
		Long: `Reads a password from the terminal, or one line of the standard input, and
prints the hash that an entry of the file of local users has as its password.`,
		Example: "  contrail user hash",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := readPassword(cmd, true)
			if err != nil {
				return err
			}
			hash, err := auth.Hash(password)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), map[string]string{"hash": hash})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), hash)
			return err
		},
	}
	registerOutput(cmd, &output)
	return cmd
}

// readPassword reads a password without showing it, twice where it is a new
// one; or one line when the input is no terminal.
func readPassword(cmd *cobra.Command, isNew bool) ([]byte, error) {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read password: %w", err)
		}
		return []byte(strings.TrimRight(line, "\r\n")), nil
	}
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprint(cmd.ErrOrStderr(), prompt)
		password, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		if err != nil {
			return nil, fmt.Errorf("read password: %w", err)
		}
		return password, nil
	}
	password, err := ask("Password: ")
	if err != nil || !isNew {
		return password, err
	}
	again, err := ask("Again: ")
	if err == nil && string(again) != string(password) {
		err = errors.New("the two passwords differ")
	}
	return password, err
}

// newLoginCommand is `contrail login`.
func newLoginCommand() *cobra.Command {
	var f apiFlags
	var name, project string
	var output cli.Output
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Get a token, which the other commands then send",
		Long: `Asks the configuration API for a token with a name and a password, and keeps it
in a file of this user's for as long as it is valid. The password is read from the
terminal, or is one line of the standard input.`,
		Example: "  contrail login --config https://config.example.com:8443 --user alice",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				u, err := user.Current()
				if err != nil {
					return fmt.Errorf("--user is needed: %w", err)
				}
				name = u.Username
			}
			file, err := tokenFile()
			if err != nil {
				return err
			}
			password, err := readPassword(cmd, false)
			if err != nil {
				return err
			}
			return f.with(func(c *cli.Client) error {
				grant, err := c.Login(cmd.Context(), auth.Credentials{User: name, Password: string(password), Project: project})
				if err != nil {
					return err
				}
				if err := cli.KeepToken(file, c.Address(), grant.Token); err != nil {
					return err
				}
				return cli.ShowLogin(cmd.OutOrStdout(), output, c.Address(), grant)
			})
		},
	}
	cmd.Flags().StringVar(&f.config, "config", "", "`address` of the configuration API: unix:PATH, HOST:PORT or a URL (default $"+environmentAPI+", else this machine's)")
	cmd.Flags().StringVar(&f.ca, "ca", "", "`file` with the certificates that sign the API's, for https")
	cmd.Flags().StringVarP(&name, "user", "u", "", "`name` of the user (default that of the system)")
	cmd.Flags().StringVarP(&project, "project", "p", "", "restrict the token to the roles in a `project`")
	registerForms(cmd, &output, cli.JSON)
	return cmd
}
