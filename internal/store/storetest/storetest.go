// Package storetest starts the embedded store for the tests of its users: one
// for all tests of a package, in which each opens a prefix of its own, or one
// for a test. The tests of internal/store start their own, which they stop and
// configure.
//
//	func TestMain(m *testing.M) {
//		os.Exit(storetest.Main(m, func(at string) { endpoint = at }))
//	}
package storetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/contrail-mesos/contrail/internal/store"
)

// Leaks are the goroutines that libraries of etcd keep for the life of a process.
var Leaks = []goleak.Option{
	goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
	goleak.IgnoreTopFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"),
	goleak.IgnoreAnyFunction("go.etcd.io/etcd/client/pkg/v3/logutil.(*MergeLogger).outputLoop"),
}

// Main runs the tests of a package with a store, of which use is told the
// endpoint. It returns what the process exits with: it is a failure, too, if the
// store fails or goroutines are left.
func Main(m *testing.M, use func(endpoint string)) int {
	endpoint, stop, err := start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	use(endpoint)
	code := m.Run()
	err = stop()
	if err == nil && code == 0 {
		err = goleak.Find(Leaks...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// Start starts a store that ends with the test, after the clean-ups that the
// test registers later. It returns the endpoint.
func Start(t testing.TB) string {
	t.Helper()
	endpoint, stop, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return endpoint
}

func start() (endpoint string, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "store") // a test's own is too long for a socket
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	socket := filepath.Join(dir, "run", "s")
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	go func() {
		done <- store.Serve(ctx, log, store.ServerConfig{
			DataDir: filepath.Join(dir, "data"), Socket: socket, Ready: func() { close(ready) },
		})
	}()
	stop = func() error {
		cancel()
		err := <-done
		if err != nil {
			err = fmt.Errorf("store: %w", err)
		}
		return errors.Join(err, os.RemoveAll(dir))
	}
	select {
	case <-ready:
		return "unix://" + socket, stop, nil
	case err := <-done:
		cancel()
		return "", nil, errors.Join(fmt.Errorf("store: %w", err), os.RemoveAll(dir))
	}
}
