package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/pflag"

	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// serviceFlags are the flags that every service has.
type serviceFlags struct {
	logLevel string
	tlsDir   string
	listen   serve.Config
}

func (f *serviceFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.logLevel, "log-level", "info", "least severe `level` that is logged: debug, info, warn or error")
	flags.StringVar(&f.tlsDir, "tls-dir", "", "`directory` with ca.crt, tls.crt and tls.key of this process")
	flags.StringVar(&f.listen.Unix, "listen-unix", "", "`path` of a unix socket to answer on; only root gets in")
	flags.StringVar(&f.listen.TLS, "listen-tls", "", "`address` (host:port) to answer on with mutual TLS")
	flags.IntSliceVar(&f.listen.Open, "listen-fd", nil, "inherited listening `descriptor` that answers without authentication")
}

// load sets up logging and reads the credentials; they are nil without --tls-dir.
func (f *serviceFlags) load(component string) (*slog.Logger, *ctls.Credentials, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", f.logLevel)
	}
	handler := slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})
	log := slog.New(handler).With("component", component)
	if f.tlsDir == "" {
		return log, nil, nil
	}
	credentials, err := ctls.LoadCredentials(f.tlsDir)
	if err != nil {
		return nil, nil, fmt.Errorf("--tls-dir %s: %w", f.tlsDir, err)
	}
	f.listen.Credentials = credentials
	return log, credentials, nil
}
