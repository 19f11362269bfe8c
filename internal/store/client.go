package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Config says how to reach a store.
type Config struct {
	// Endpoints of etcd; a unix socket is "unix:///run/contrail/store.sock".
	Endpoints []string
	// Prefix of all keys, "/contrail/" if empty. It ends with a slash.
	Prefix string
	// TLS is spoken on TCP endpoints; nil where all are unix sockets.
	TLS *tls.Config
	// Writer names this process among those that write, the host if empty.
	Writer string
	// Shared is set where other processes write too: then Barrier asks.
	Shared bool
	// Members, if not empty, is a file that keeps where the members are whose
	// name is not Writer. They are used after Endpoints.
	Members string
}

// Store is a client of the store. It is safe for concurrent use.
type Store struct {
	log    *slog.Logger
	client *clientv3.Client
	prefix string
	writer string
	shared bool
	maxOps int
	era    atomic.Pointer[era]
	// latency of etcd's answers.
	latency *prometheus.HistogramVec
	// fence is the revision of the writer's fence, see Settle.
	fence  atomic.Int64
	marks  atomic.Uint32
	groups groups
	heads  rounds
	fences rounds
	syncs  rounds
	fill   atomic.Pointer[fill]
	// lost is since when no leader is known, nil while one is.
	lost atomic.Pointer[time.Time]
	// members are those that are learned, nil where none are to be.
	members *known

	mu     sync.Mutex
	leases map[time.Duration]*slot
}

// era is the time of one epoch.
type era struct {
	epoch uint64
	over  chan struct{}
}

const (
	// requestTimeout bounds one request: a leader that dies costs about 2 s.
	requestTimeout = 10 * time.Second
	// attemptTimeout bounds requests that are repeated: what a dying leader
	// swallowed is noticed by its silence.
	attemptTimeout = 2 * time.Second
)

// Open connects to a store and waits until it answers or ctx ends. The first
// client of a new store gives it its epoch.
func Open(ctx context.Context, log *slog.Logger, c Config) (*Store, error) {
	if c.Prefix == "" {
		c.Prefix = "/contrail/"
	}
	if c.Writer == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("open store: name this writer: %w", err)
		}
		c.Writer = host
	}
	var members *known
	if c.Members != "" {
		var err error
		if members, err = openKnown(c.Members, c.Endpoints); err != nil {
			log.Warn("starting without the addresses of the store's other members", "error", err)
		}
		c.Endpoints = members.endpoints()
	}
	latency := newLatency()
	client, err := clientv3.New(c.etcd(log, grpc.WithChainUnaryInterceptor(measure(latency))))
	if err != nil {
		return nil, fmt.Errorf("open store %v: %w", c.Endpoints, err)
	}
	s := &Store{log: log, client: client, prefix: c.Prefix, writer: c.Writer, shared: c.Shared, maxOps: MaxOps, latency: latency, members: members, leases: map[time.Duration]*slot{}}
	s.groups.store = s
	s.heads.ask = s.askHead
	s.fences.ask = s.raise
	s.syncs.ask = s.requestProgress
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %v: %w", c.Endpoints, err), client.Close())
	}
	return s, nil
}

func (c Config) etcd(log *slog.Logger, more ...grpc.DialOption) clientv3.Config {
	options := []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{
			// A store that restarts on this machine is back within a second.
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		// The first endpoint is this machine's; others only when it is away.
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"pick_first": {}}]}`),
	}
	options = append(options, more...)
	if c.TLS != nil {
		options = append(options, grpc.WithTransportCredentials(newMixedCredentials(c.TLS)))
	}
	return clientv3.Config{
		Endpoints:            c.Endpoints,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		MaxCallSendMsgSize:   maxSent,
		MaxCallRecvMsgSize:   maxReceived,
		TLS:                  c.TLS,
		Logger:               zap.New(&zapBridge{handler: log.Handler(), quiet: context.Background()}),
		DialOptions:          options,
	}
}

// begin waits until the store answers.
func (s *Store) begin(ctx context.Context) error {
	if err := s.readEpoch(ctx); err != nil {
		return err
	}
	if err := s.readFence(ctx); err != nil {
		return err
	}
	return s.probeOps(ctx)
}

// probeOps finds out whether the store takes big transactions: an etcd that
// others operate allows 128 keys unless told otherwise.
func (s *Store) probeOps(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	cmps := make([]clientv3.Cmp, serverOps)
	for i := range cmps {
		cmps[i] = clientv3.Compare(clientv3.CreateRevision(s.path(EpochKey)), ">", 0)
	}
	_, err := s.client.Txn(ctx).If(cmps...).Commit()
	if errors.Is(err, rpctypes.ErrTooManyOps) {
		s.maxOps = externalOps
		s.log.Warn("the store refuses big transactions, so writes of objects with many references will fail; start its etcd with --max-txn-ops",
			"want", serverOps, "allowed", externalOps)
		return nil
	}
	if err != nil {
		return fmt.Errorf("probe --max-txn-ops: %w", err)
	}
	return nil
}

// askHead is head for all readers that wait.
func (s *Store) askHead() (position, error) {
	ctx, cancel := context.WithTimeout(s.client.Ctx(), attemptTimeout)
	defer cancel()
	return s.head(ctx)
}

// Close ends all connections.
func (s *Store) Close() error {
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// Epoch of the store: 1 for a new one, and one more with each restore. It
// changes under a running process, after Follow has told its followers of it.
func (s *Store) Epoch() uint64 { return s.era.Load().epoch }

// Era returns the present epoch and a channel that is closed when it ends.
func (s *Store) Era() (epoch uint64, over <-chan struct{}) {
	e := s.era.Load()
	return e.epoch, e.over
}

// Refresh reads the epoch again, for those who do not Follow.
func (s *Store) Refresh(ctx context.Context) error {
	at, err := s.head(ctx)
	if err == nil {
		s.enter(at.epoch)
	}
	return err
}

func (s *Store) enter(epoch uint64) {
	old := s.era.Load()
	if old != nil && old.epoch == epoch {
		return
	}
	s.era.Store(&era{epoch, make(chan struct{})})
	if old != nil {
		close(old.over)
	}
}

func (s *Store) path(k Key) string { return s.prefix + string(k) }

func (s *Store) key(path []byte) Key { return Key(path[len(s.prefix):]) }

func (s *Store) readEpoch(ctx context.Context) error {
	waiting := false
	for {
		value, err := s.initEpoch(ctx)
		if err == nil {
			epoch, err := parseEpoch(value)
			if err == nil {
				s.enter(epoch)
			}
			return err
		}
		if ctx.Err() != nil {
			return err
		}
		if !waiting {
			s.log.Info("waiting for the store", "error", err)
			waiting = true
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func parseEpoch(value []byte) (uint64, error) {
	epoch, err := strconv.ParseUint(string(value), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read epoch: the store holds %q, want a number", value)
	}
	return epoch, nil
}

func (s *Store) initEpoch(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	k := s.path(EpochKey)
	// Reading comes first: a store that is full refuses the transaction.
	if got, err := s.client.Get(ctx, k); err == nil && len(got.Kvs) > 0 {
		return got.Kvs[0].Value, nil
	}
	resp, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(k), "=", 0)).
		Then(clientv3.OpPut(k, "1")).
		Else(clientv3.OpGet(k)).
		Commit()
	if err != nil {
		return nil, fmt.Errorf("read epoch: %w", err)
	}
	if resp.Succeeded {
		return []byte("1"), nil
	}
	return resp.Responses[0].GetResponseRange().Kvs[0].Value, nil
}

// wait blocks for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
