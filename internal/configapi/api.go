package configapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// Config of the configuration API.
type Config struct {
	// Rest is how long a released address, label or number is not given out
	// again; nothing rests when it is 0. The store counts in seconds and knows
	// nothing between 0 and 2.
	Rest time.Duration
	// Tombstone is how long an attachment that was detached cannot come back.
	Tombstone time.Duration
	// Pool is the IPv4 prefix from which new networks get a /20 each.
	Pool netip.Prefix
	// Slow is how long a request may take before it is logged; 0 logs none.
	Slow time.Duration
	// Mode is what a new cluster begins with; RBAC when it is empty.
	Mode Mode
}

// API is the configuration API. All methods are safe for concurrent use.
type API struct {
	log       *slog.Logger
	cfg       Config
	store     *store.Store
	graph     *model.Graph
	ledger    *ledger
	subnets   subnetCache
	positions *positions
	history   *history
	recovery  *recovery
	tenancy   *tenancy
	metrics   *metrics
	ready     chan struct{}
	leaving   atomic.Bool

	calls  *calls
	prober prober
	// patience is how long a client may take to read a part of an answer.
	patience time.Duration
	// watchers counts the streams of events; watchPause is after how long
	// without events they get a comment.
	watchers   atomic.Int64
	watchersOf watchersOf
	watchPause time.Duration
	// readWait bounds how long a read waits for what it must show, writeWait a
	// write with all its attempts.
	readWait, writeWait time.Duration
	// refusals bounds the log lines about requests that were refused.
	refusals serve.Limiter
}

// New makes the API of a store. It answers when Run has loaded the store.
func New(log *slog.Logger, s *store.Store, cfg Config) (*API, error) {
	if !cfg.Pool.IsValid() || !cfg.Pool.Addr().Is4() || cfg.Pool != cfg.Pool.Masked() || cfg.Pool.Bits() > networkBits {
		return nil, fmt.Errorf("address pool %s: want an IPv4 prefix of at most %d bits without host bits, such as 10.32.0.0/12", cfg.Pool, networkBits)
	}
	if cfg.Mode == "" {
		cfg.Mode = RBAC
	}
	if !cfg.Mode.valid() {
		return nil, fmt.Errorf("mode %q: want %s, %s or %s", cfg.Mode, NoAuth, AdminOnly, RBAC)
	}
	a := &API{
		log: log, cfg: cfg, store: s, tenancy: newTenancy(cfg.Mode),
		graph: model.NewGraph(), ledger: newLedger(), recovery: newRecovery(), positions: &positions{}, history: newHistory(), metrics: newMetrics(), ready: make(chan struct{}),
		calls: newCalls(), patience: readerPatience, watchPause: watchPause, readWait: readWait, writeWait: writeWait,
	}
	a.metrics.registry.MustRegister(newState(a), s.Metrics())
	return a, nil
}

// Graph is what the API reads from.
func (a *API) Graph() *model.Graph { return a.graph }

// Registry holds the metrics of the API.
func (a *API) Registry() *prometheus.Registry { return a.metrics.registry }

// Run follows the store until ctx ends, and makes the initial objects first.
func (a *API) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	followed := make(chan error, 1)
	// The graph comes last: when it shows a revision, the others know it.
	go func() {
		followed <- a.store.Follow(ctx, a.ledger, a.positions, a.history, a.recovery, a.tenancy, store.Into(a.log, a.graph))
	}()
	if err := a.initialise(ctx); err != nil {
		cancel()
		<-followed
		return err
	}
	close(a.ready)
	var recovering sync.WaitGroup
	recovering.Go(func() { a.runRecovery(ctx) })
	defer recovering.Wait()
	defer cancel()
	return <-followed
}

// initialise waits for the first load and creates what a new cluster has.
func (a *API) initialise(ctx context.Context) error {
	if err := a.graph.WaitFor(ctx, 1); err != nil {
		return err
	}
	if a.recovery.settling() {
		return nil // runRecovery makes them when numbers are given out again
	}
	ctx = asItself(ctx)
	for _, o := range initialObjects() {
		if err := a.createInitial(ctx, o); err != nil {
			return err
		}
	}
	alarms, err := initialAlarms()
	if err == nil {
		err = a.createInitial(ctx, alarms...)
	}
	if err != nil {
		return err
	}
	return a.keepMode(ctx)
}

// asItself is the context of what the API does by itself.
func asItself(ctx context.Context) context.Context {
	return serve.WithCaller(ctx, serve.Caller{Identity: ctls.Identity{Role: ctls.RoleController}, Via: "itself"})
}

// waitReady blocks until the API answers.
func (a *API) waitReady(ctx context.Context) error {
	select {
	case <-a.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
