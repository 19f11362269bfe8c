package configapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
	"github.com/contrail-mesos/contrail/internal/store/storetest"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// endpoint is the etcd that all tests of the package share; each has a prefix
// of its own in it.
var endpoint string

func TestMain(m *testing.M) {
	os.Exit(storetest.Main(m, func(at string) { endpoint = at }))
}

func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

var prefixCount atomic.Int64

// bench is one API over a store of its own.
type bench struct {
	testing.TB
	api     *API
	store   *store.Store
	prefix  string
	handler http.Handler
}

func testConfig() Config {
	return Config{Rest: time.Hour, Tombstone: time.Hour, Pool: netip.MustParsePrefix("10.32.0.0/12")}
}

func newBench(t testing.TB, cfg Config) *bench {
	t.Helper()
	return openBench(t, fmt.Sprintf("/test%d/", prefixCount.Add(1)), cfg)
}

func openBench(t testing.TB, prefix string, cfg Config) *bench {
	t.Helper()
	return openBenchAt(t, store.Config{Endpoints: []string{endpoint}, Prefix: prefix}, cfg)
}

func openBenchAt(t testing.TB, at store.Config, cfg Config) *bench {
	t.Helper()
	s, err := store.Open(context.Background(), quiet(), at)
	if err != nil {
		t.Fatal(err)
	}
	api, err := New(quiet(), s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	// A busy machine answers late; a test is about what it answers.
	api.readWait, api.writeWait = time.Minute, 5*time.Minute
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	b := &bench{t, api, s, at.Prefix, api.Handler()}
	if err := api.waitReady(b.ctx()); err != nil {
		t.Fatal(err)
	}
	return b
}

// ctx is that of an administrator.
func (b *bench) ctx() context.Context { return as(ctls.RoleAdmin, "") }

func as(role, node string) context.Context {
	return serve.WithCaller(context.Background(), serve.Caller{Identity: ctls.Identity{Role: role, Node: node}, Via: "test"})
}

// join adds node number n.
func (b *bench) join(n int) string {
	b.Helper()
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
	_, err := (&nodes{b.api}).Join(b.ctx(), connect.NewRequest(&configv1.JoinRequest{
		Node: id, Name: fmt.Sprintf("node-%d", n), Address: fmt.Sprintf("172.31.0.%d", 10+n), FabricMtu: 1500, BootId: "boot",
	}))
	if err != nil {
		b.Fatal(err)
	}
	return id
}

func request(node, container, network string) *configv1.AttachRequest {
	return &configv1.AttachRequest{
		Key:     &configv1.AttachmentKey{Node: node, ContainerId: container, Interface: "eth0", BootId: "boot", Namespace: "4:1"},
		Network: &configv1.NetworkRequest{Network: network, CreateMissing: true},
	}
}

func (b *bench) attach(r *configv1.AttachRequest) *configv1.Attachment {
	b.Helper()
	a, err := b.api.attach(b.ctx(), r)
	if err != nil {
		b.Fatalf("attach %s: %v", r.Key.ContainerId, err)
	}
	return a.Attachment
}

func (b *bench) detach(k *configv1.AttachmentKey) bool {
	b.Helper()
	d, err := b.api.detach(b.ctx(), &configv1.DetachRequest{Key: k})
	if err != nil {
		b.Fatalf("detach %s: %v", k.ContainerId, err)
	}
	return d.Existed
}

// dump lists the keys of the store, without what rests.
func (b *bench) dump() map[store.Key]string {
	b.Helper()
	entries, err := b.store.Dump(b.ctx())
	if err != nil {
		b.Fatal(err)
	}
	keys := map[store.Key]string{}
	for _, e := range entries {
		switch e.Key.Space() {
		case store.SpaceRest, store.SpaceTomb:
			if e.Lease == 0 {
				b.Errorf("%s has no lease", e.Key)
			}
		default:
			keys[e.Key] = string(e.Value)
		}
	}
	return keys
}

// endRests ends all rests and tombstones now.
func (b *bench) endRests() {
	b.Helper()
	entries, err := b.store.Dump(b.ctx())
	if err != nil {
		b.Fatal(err)
	}
	seen := map[store.Lease]bool{}
	for _, e := range entries {
		if e.Lease != 0 && !seen[e.Lease] {
			seen[e.Lease] = true
			if err := b.store.EndLeases(b.ctx(), e.Lease); err != nil {
				b.Fatal(err)
			}
		}
	}
	head, err := b.store.Head(b.ctx())
	if err != nil {
		b.Fatal(err)
	}
	if err := b.api.catchUp(b.ctx(), head); err != nil {
		b.Fatal(err)
	}
}

func code(err error) connect.Code {
	if err == nil {
		return 0
	}
	return connect.CodeOf(rpcError(err))
}

func containerID() string { return model.NewUUID() }

// callerOf is ctx with the caller that the bench speaks for.
func (b *bench) callerOf(ctx context.Context) context.Context {
	return serve.WithCaller(ctx, serve.CallerOf(b.ctx()))
}
