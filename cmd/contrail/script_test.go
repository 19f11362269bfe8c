package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/auth"
	"github.com/contrail-mesos/contrail/internal/configapi"
	"github.com/contrail-mesos/contrail/internal/control"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
	"github.com/contrail-mesos/contrail/internal/store/storetest"
)

// TestScripts runs testdata/*.txtar: commands of contrail against an API of
// their own, over a real store.
func TestScripts(t *testing.T) {
	endpoint := storetest.Start(t)
	var count atomic.Int64
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "", // writes what the commands answer into the scripts
		Setup: func(env *testscript.Env) error {
			prefix := fmt.Sprintf("/script%d/", count.Add(1))
			address := startAPI(env, endpoint, prefix)
			env.Setenv(environmentAPI, address)
			env.Setenv("HOME", env.WorkDir)
			env.Values["control"] = func(ts *testscript.TestScript) { startControl(ts, endpoint, prefix) }
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// control starts a control node, which has read what is in the store
			// when the command ends. It answers on $CONTROL.
			"control": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Value("control").(func(*testscript.TestScript))(ts)
			},
		},
	})
}

// startControl starts a control node on the store of a script.
func startControl(ts *testscript.TestScript, endpoint, prefix string) {
	dir, err := os.MkdirTemp("", "control") // the script's is too long for a socket
	ts.Check(err)
	socket := filepath.Join(dir, "s")
	s, err := store.Open(context.Background(), testLog(), store.Config{Endpoints: []string{endpoint}, Prefix: prefix})
	ts.Check(err)
	graph := model.NewGraph()
	node := control.New(testLog(), control.Config{}, graph)
	server, err := serve.Listen(testLog(), serve.Config{Unix: socket}, node.Handler())
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { _ = s.Follow(ctx, node.Recovery(), store.Into(testLog(), graph)) }) // ends with ctx
	parts.Go(func() { _ = node.Run(ctx) })
	parts.Go(func() { _ = server.Run(ctx) })
	ts.Defer(func() {
		cancel()
		parts.Wait()
		s.Close()
		os.RemoveAll(dir)
	})
	ts.Setenv("CONTROL", "unix:"+socket)
	select {
	case <-node.Ready():
	case <-time.After(time.Minute):
		ts.Fatalf("the control node has not read the store within a minute")
	}
}

func testLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
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
	api, err := configapi.New(testLog(), s, configapi.Config{
		Rest: time.Hour, Tombstone: time.Hour, Pool: netip.MustParsePrefix(defaultPool), Mode: configapi.NoAuth,
	})
	fatal(err)
	users, err := auth.New(testLog(), auth.Config{Users: filepath.Join(env.WorkDir, "users.yaml")}, api, api.Demanded)
	fatal(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.Run(ctx) }()
	// As `contrail up` has it: a listener that is open in the mode no-auth.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	fatal(err)
	file, err := l.(*net.TCPListener).File()
	fatal(err)
	fd, err := unix.Dup(int(file.Fd())) // the server closes it
	fatal(err)
	fatal(errors.Join(file.Close(), l.Close()))
	server, err := serve.Listen(testLog(), serve.Config{Open: []int{fd}, Authenticator: users}, api.Handler())
	fatal(err)
	served := make(chan error, 1)
	go func() { served <- server.Run(ctx) }()
	env.Defer(func() {
		cancel()
		<-served
		if err := <-done; !errors.Is(err, context.Canceled) {
			panic(err)
		}
		s.Close()
	})
	return "http://" + l.Addr().String()
}
