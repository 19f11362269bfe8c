package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
}

// Store is a client of the store. It is safe for concurrent use.
type Store struct {
	log    *slog.Logger
	client *clientv3.Client
	prefix string
	era    atomic.Pointer[era]
	// latency of etcd's answers.
	latency *prometheus.HistogramVec

	mu     sync.Mutex
	leases map[time.Duration]*slot
}

// era is the time of one epoch.
type era struct {
	epoch uint64
	over  chan struct{}
}

// requestTimeout bounds one request: a leader that dies costs about 2 s.
const requestTimeout = 10 * time.Second

// Open connects to a store and waits until it answers or ctx ends. The first
// client of a new store gives it its epoch.
func Open(ctx context.Context, log *slog.Logger, c Config) (*Store, error) {
	if c.Prefix == "" {
		c.Prefix = "/contrail/"
	}
	latency := newLatency()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            c.Endpoints,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		MaxCallSendMsgSize:   16 << 20,
		MaxCallRecvMsgSize:   256 << 20,
		Logger:               zap.New(&zapBridge{handler: log.Handler(), quiet: context.Background()}),
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(measure(latency)), grpc.WithConnectParams(grpc.ConnectParams{
			// A store that restarts on this machine is back within a second.
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		})},
	})
	if err != nil {
		return nil, fmt.Errorf("open store %v: %w", c.Endpoints, err)
	}
	s := &Store{log: log, client: client, prefix: c.Prefix, latency: latency, leases: map[time.Duration]*slot{}}
	if err := s.readEpoch(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %v: %w", c.Endpoints, err), client.Close())
	}
	return s, nil
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
