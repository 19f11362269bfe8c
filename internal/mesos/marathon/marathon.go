package marathon

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
)

// Config of a Marathon.
type Config struct {
	// Client and URL reach the master: its base URL, without a path.
	Client *http.Client
	URL    string
	// StateDir is where the state is.
	StateDir string
	// DefaultNetwork is the name of container networks that have none.
	DefaultNetwork string
	// LaunchTimeout is how long an instance may take until it runs; 0 means 5
	// minutes.
	LaunchTimeout time.Duration
	// Name of the framework: default "marathon".
	Name string
	// Hostname and Version are what /v2/info and the master are told.
	Hostname string
	Version  string
}

// Marathon is one instance. Its methods are safe for concurrent use.
type Marathon struct {
	cfg  Config
	log  *slog.Logger
	wake chan struct{}

	mu        sync.Mutex
	store     *store
	dirty     bool
	session   *session // nil while not subscribed
	offers    []*mesosv1.Offer
	calls     []*schedulerv1.Call // to be made, in order
	listeners map[*listener]bool
	revived   time.Time
	wanted    int // instances that wait for offers
}

// New returns a Marathon with the state of cfg.StateDir.
func New(log *slog.Logger, cfg Config) (*Marathon, error) {
	if cfg.Name == "" {
		cfg.Name = "marathon"
	}
	cfg.LaunchTimeout = cmp.Or(cfg.LaunchTimeout, 5*time.Minute)
	s, err := openStore(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	return &Marathon{cfg: cfg, log: log, wake: make(chan struct{}, 1), store: s, listeners: map[*listener]bool{}}, nil
}

// tick is how often times (backoff, retries of kills) are looked at.
const tick = 250 * time.Millisecond

// Run subscribes, again and again with pauses, and keeps applications as they
// are wanted until ctx ends.
func (m *Marathon) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() { m.stayConnected(ctx) })
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			m.closeListeners()
			return nil
		case <-m.wake:
		case <-ticker.C:
		}
		m.act(ctx)
	}
}

// changed wakes the acting goroutine.
func (m *Marathon) changed() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// act decides under the lock, saves, and then makes the calls without it.
func (m *Marathon) act(ctx context.Context) {
	m.mu.Lock()
	m.step(time.Now())
	if m.dirty {
		if err := m.store.save(); err != nil {
			m.log.Error("nothing is done until the state can be saved", "error", err)
			m.mu.Unlock()
			return
		}
		m.dirty = false
	}
	calls, session := m.calls, m.session
	m.calls = nil
	m.mu.Unlock()
	if session == nil {
		return
	}
	for _, call := range calls {
		if err := session.call(ctx, call); err != nil {
			m.log.Warn("call to the master failed", "call", call.GetType().String(), "error", err)
			session.cancel() // what was lost is found by reconciliation
			return
		}
	}
}

func newTaskID(app string) string {
	return flatID(app) + ".instance-" + uuid.NewString() + "._app.1"
}
