package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/client/pkg/v3/transport"

	"github.com/contrail-mesos/contrail/internal/store"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

const defaultStore = "unix:/run/contrail/store.sock"

// storeFlags say how a process or a command reaches the store.
type storeFlags struct {
	endpoints     []string
	cert, key, ca string
	shared        bool
	writer        string
	// members is the file that keeps where the store's other members are.
	members string
}

func (f *storeFlags) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.endpoints, "store", []string{defaultStore},
		"`addresses` of the store, the nearest first: unix:PATH, HOST:PORT of a controller's, or URLs of an etcd of your own")
	f.registerFiles(flags)
}

// registerFiles are the flags for an etcd of the operator's own.
func (f *storeFlags) registerFiles(flags *pflag.FlagSet) {
	flags.StringVar(&f.cert, "store-cert", "", "`file` with the client certificate for an etcd of your own")
	flags.StringVar(&f.key, "store-key", "", "`file` with the key of --store-cert")
	flags.StringVar(&f.ca, "store-ca", "", "`file` with the authorities that sign the certificates of an etcd of your own")
}

// registerShared are the flags of processes that the controller starts.
func (f *storeFlags) registerShared(flags *pflag.FlagSet) {
	flags.BoolVar(&f.shared, "store-shared", false, "other controllers write to the store too: reads ask it how far it is")
	flags.StringVar(&f.members, "store-members", "", "`file` that keeps the addresses of the other controllers' stores, which are learned")
	flags.StringVar(&f.writer, "store-writer", "", "`name` of this controller among those that write, the host's if empty")
}

// args are the flags for a process that the controller starts.
func (f *storeFlags) args() []string {
	args := []string{"--store", strings.Join(f.endpoints, ",")}
	for _, flag := range [][2]string{{"--store-cert", f.cert}, {"--store-key", f.key}, {"--store-ca", f.ca}, {"--store-writer", f.writer}, {"--store-members", f.members}} {
		if flag[1] != "" {
			args = append(args, flag[0], flag[1])
		}
	}
	if f.shared {
		args = append(args, "--store-shared")
	}
	return args
}

// config of the store's client. Without files of their own, TCP endpoints are
// other controllers', and credentials those of this one.
func (f *storeFlags) config(credentials *ctls.Credentials) (store.Config, error) {
	c := store.Config{Shared: f.shared, Writer: f.writer, Members: f.members}
	switch {
	case f.cert != "" || f.key != "" || f.ca != "":
		if f.cert == "" || f.key == "" || f.ca == "" {
			return c, errors.New("--store-cert, --store-key and --store-ca go together")
		}
		config, err := transport.TLSInfo{CertFile: f.cert, KeyFile: f.key, TrustedCAFile: f.ca}.ClientConfig()
		if err != nil {
			return c, fmt.Errorf("--store-cert %s, --store-key %s, --store-ca %s: %w", f.cert, f.key, f.ca, err)
		}
		c.TLS = config
	case credentials != nil:
		c.TLS = credentials.Client("", ctls.RoleController)
	}
	if len(f.endpoints) == 0 {
		return c, errors.New("--store: want at least one address")
	}
	plain := false
	for _, address := range f.endpoints {
		endpoint := etcdEndpoint(address)
		plain = plain || strings.HasPrefix(endpoint, "http:")
		if strings.HasPrefix(endpoint, "https:") && c.TLS == nil {
			return c, fmt.Errorf("--store %s: no certificate; see --tls-dir and --store-cert", address)
		}
		c.Endpoints = append(c.Endpoints, endpoint)
	}
	if f.members != "" && (plain || c.TLS == nil) {
		return c, errors.New("--store-members: no certificate; see --tls-dir")
	}
	if plain {
		if slices.ContainsFunc(c.Endpoints, func(e string) bool { return strings.HasPrefix(e, "https:") }) {
			return c, fmt.Errorf("--store %v: http and https do not go together", f.endpoints)
		}
		c.TLS = nil
	}
	return c, nil
}

// open opens the store for a command.
func (f *storeFlags) open(ctx context.Context, log *slog.Logger, tlsDir string) (*store.Store, error) {
	var credentials *ctls.Credentials
	if tlsDir != "" {
		var err error
		if credentials, err = ctls.LoadCredentials(tlsDir); err != nil {
			return nil, fmt.Errorf("--tls-dir %s: %w", tlsDir, err)
		}
	}
	c, err := f.config(credentials)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, log, c)
}

// etcdEndpoint is what etcd's client calls an address in our form.
func etcdEndpoint(address string) string {
	if path, ok := strings.CutPrefix(address, "unix:"); ok && !strings.HasPrefix(path, "//") {
		return "unix://" + path
	}
	if !strings.Contains(address, "://") {
		return "https://" + address
	}
	return address
}

// sizeValue is a number of bytes as a flag: 512MiB, 8GiB.
type sizeValue int64

var sizeUnits = []struct {
	suffix string
	shift  int
}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}}

// String writes the size in the largest unit that divides it.
func (v *sizeValue) String() string {
	for i := len(sizeUnits) - 1; i >= 0; i-- {
		if u := sizeUnits[i]; *v > 0 && int64(*v)%(1<<u.shift) == 0 {
			return strconv.FormatInt(int64(*v)>>u.shift, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(*v), 10)
}

// Set reads a size.
func (v *sizeValue) Set(text string) error {
	number, shift := text, 0
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(text, u.suffix); ok {
			number, shift = n, u.shift
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > (1<<62)>>shift {
		return fmt.Errorf("%q is no size; write 512MiB or 8GiB", text)
	}
	*v = sizeValue(n << shift)
	return nil
}

// Type is shown in the help.
func (v *sizeValue) Type() string { return "size" }
