package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/contrail-mesos/contrail/internal/configapi"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// TestScripts runs testdata/*.txtar: commands of contrail against an API of
// their own, over a real store.
func TestScripts(t *testing.T) {
	endpoint := startStore(t)
	var count atomic.Int64
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "", // writes what the commands answer into the scripts
		Setup: func(env *testscript.Env) error {
			address := startAPI(env, endpoint, fmt.Sprintf("/script%d/", count.Add(1)))
			env.Setenv(environmentAPI, address)
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
	})
}

func testLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

// startStore starts the etcd of all scripts.
func startStore(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "scripts") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	socket := filepath.Join(dir, "run", "s")
	go func() {
		done <- store.Serve(ctx, testLog(), store.ServerConfig{DataDir: filepath.Join(dir, "data"), Socket: socket, Ready: func() { close(ready) }})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("store: %v", err)
		}
		os.RemoveAll(dir)
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatalf("store: %v", err)
	}
	return "unix://" + socket
}

// startAPI starts the API of one script and returns its URL.
func startAPI(env *testscript.Env, endpoint, prefix string) string {
	fatal := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	s, err := store.Open(context.Background(), testLog(), store.Config{Endpoints: []string{endpoint}, Prefix: prefix})
	fatal(err)
	api, err := configapi.New(testLog(), s, configapi.Config{Rest: time.Hour, Tombstone: time.Hour, Pool: netip.MustParsePrefix(defaultPool)})
	fatal(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.Run(ctx) }()
	handler := api.Handler()
	admin := serve.Caller{Identity: ctls.Identity{Role: ctls.RoleAdmin}, Via: "open"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r.WithContext(serve.WithCaller(r.Context(), admin)))
	}))
	env.Defer(func() {
		server.Close()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			panic(err)
		}
		s.Close()
	})
	return server.URL
}
