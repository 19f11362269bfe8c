package simulate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Result is what was measured. Durations are in nanoseconds in JSON.
type Result struct {
	Agents   int `json:"agents"`
	Sessions int `json:"sessions"`
	// Routes that all sessions have together.
	Routes int64 `json:"routes"`
	// Converge is the time from the first session's beginning until each had
	// been told all of its routes, to the end of each table.
	Converge time.Duration `json:"converge"`
	// Change is from a request to the configuration API until an agent was told
	// of the route that came or went; one value for each agent that had to be.
	Change Percentiles `json:"change"`
	Churn  Churn       `json:"churn"`
	Loss   Loss        `json:"loss"`
}

// Percentiles of a number of values.
type Percentiles struct {
	Values int           `json:"values"`
	P50    time.Duration `json:"p50"`
	P99    time.Duration `json:"p99"`
	Max    time.Duration `json:"max"`
}

// Churn is what came and went, as fast as the configuration API took it.
type Churn struct {
	// Changes are attachments and detachments.
	Changes    int           `json:"changes"`
	For        time.Duration `json:"for"`
	Deliveries int64         `json:"deliveries"`
	// Settled is the time from the last answer until all agents were right.
	Settled time.Duration `json:"settled"`
}

// Loss is that of a control node.
type Loss struct {
	// Sessions that had to go to another one.
	Sessions int `json:"sessions"`
	// Resync is the time from the begin of the command that ended the control node
	// until each agent had all its sessions again, and each of them had been told
	// all routes.
	Resync time.Duration `json:"resync"`
}

func (f *fleet) measure(ctx context.Context) (result *Result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer func() {
		cancel()
		running.Wait()
		for _, a := range f.agents {
			a.disconnect()
		}
	}()
	for _, a := range f.agents {
		if err := a.connect(); err != nil {
			return nil, err
		}
	}
	started := time.Now()
	for _, a := range f.agents {
		for _, s := range a.sessions {
			running.Go(func() { s.run(ctx) })
		}
	}
	if err := f.settled(ctx, "sessions have begun"); err != nil {
		return nil, err
	}
	result = &Result{Agents: f.Agents, Sessions: f.Agents * f.Sessions, Routes: f.routes.Load(), Converge: time.Since(started)}
	f.log.Info("converged", "routes", result.Routes, "after", result.Converge.Round(time.Millisecond))
	if result.Change, err = f.changes(ctx); err != nil {
		return nil, err
	}
	f.log.Info("changes measured", "p50", result.Change.P50, "p99", result.Change.P99)
	if result.Churn, err = f.churn(ctx); err != nil {
		return nil, err
	}
	result.Loss, err = f.lose(ctx)
	return result, err
}

// settled waits until every session was told exactly what it should have been.
func (f *fleet) settled(ctx context.Context, after string) error {
	ctx, cancel := context.WithTimeout(ctx, f.Patience)
	defer cancel()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		err := fmt.Errorf("sessions have %d routes, want %d", f.routes.Load(), f.expected())
		if f.routes.Load() == f.expected() {
			if err = f.right(); err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s, not within %s: %w", after, f.Patience, errors.Join(err, f.right(), f.ended()))
		case <-ticker.C:
		}
	}
}

// ended says how often sessions ended, and why; nil if none did.
func (f *fleet) ended() error {
	f.endings.Lock()
	defer f.endings.Unlock()
	var all []error
	for _, why := range slices.Sorted(maps.Keys(f.endings.by)) {
		all = append(all, fmt.Errorf("%d sessions ended: %s", f.endings.by[why], why))
	}
	return errors.Join(all...)
}

// right returns the first thing that a session was told wrongly.
func (f *fleet) right() error {
	for _, n := range f.networks {
		for a := range n.agents {
			for _, s := range a.sessions {
				if err := s.right(n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// probe waits for one change of a VRF to reach all agents that have it.
type probe struct {
	vrf     uint32
	gone    bool
	started time.Time
	missing atomic.Int64
	done    chan struct{}
	mu      sync.Mutex
	seen    map[*agent]time.Duration
}

func (p *probe) arrive(a *agent, vrf uint32) {
	if vrf != p.vrf {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, has := p.seen[a]; has {
		return // by the agent's other session
	}
	p.seen[a] = time.Since(p.started)
	if p.missing.Add(-1) == 0 {
		close(p.done)
	}
}

// changes attaches and detaches one container after the other, each time of
// another agent, and measures how long the other agents wait for the news.
func (f *fleet) changes(ctx context.Context) (Percentiles, error) {
	var all []time.Duration
	for i := range f.Changes {
		a := f.agents[i*7919%len(f.agents)]
		n := f.of(a)
		var hash uint64
		attached, err := f.observe(ctx, n, false, func() (err error) {
			hash, err = a.attach(ctx, n, f.Ports+i)
			return err
		})
		if err != nil {
			return Percentiles{}, err
		}
		detached, err := f.observe(ctx, n, true, func() error { return a.detach(ctx, n, f.Ports+i, hash) })
		if err != nil {
			return Percentiles{}, err
		}
		all = append(append(all, attached...), detached...)
	}
	return percentiles(all), nil
}

// of is one of the networks that an agent has ports in.
func (f *fleet) of(a *agent) *network {
	var all []*network
	for _, n := range f.networks {
		if n.agents[a] > 0 {
			all = append(all, n)
		}
	}
	return all[rand.IntN(len(all))]
}

// observe makes a change of a network and returns when each agent was told.
func (f *fleet) observe(ctx context.Context, n *network, gone bool, change func() error) ([]time.Duration, error) {
	p := &probe{vrf: n.vrf, gone: gone, done: make(chan struct{}), seen: map[*agent]time.Duration{}}
	p.missing.Store(int64(len(n.agents)))
	p.started = time.Now()
	f.probe.Store(p)
	defer f.probe.Store(nil)
	if err := change(); err != nil {
		return nil, err
	}
	timer := time.NewTimer(f.Patience)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, fmt.Errorf("one change of %s, not within %s: %d of %d agents were not told", n.name, f.Patience, p.missing.Load(), len(n.agents))
	}
	// Other sessions of the agents may be told later, and wait for the lock.
	p.mu.Lock()
	times := slices.Collect(maps.Values(p.seen))
	p.mu.Unlock()
	return times, f.settled(ctx, "one change")
}

// churn attaches and detaches as fast as it can.
func (f *fleet) churn(ctx context.Context) (c Churn, err error) {
	if f.Churn <= 0 {
		return c, nil
	}
	var changes atomic.Int64
	before, started := f.deliveries.Load(), time.Now()
	group, inner := errgroup.WithContext(ctx)
	for worker := range side {
		group.Go(func() error {
			for i := worker; time.Since(started) < f.Churn; i += side {
				a := f.agents[i%len(f.agents)]
				n := f.of(a)
				hash, err := a.attach(inner, n, f.Ports+f.Changes+i)
				if err == nil {
					err = a.detach(inner, n, f.Ports+f.Changes+i, hash)
				}
				if err != nil {
					return err
				}
				changes.Add(2)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return c, err
	}
	ended := time.Now()
	if err := f.settled(ctx, "churn"); err != nil {
		return c, err
	}
	return Churn{
		Changes: int(changes.Load()), For: ended.Sub(started), Deliveries: f.deliveries.Load() - before, Settled: time.Since(ended),
	}, nil
}

func percentiles(all []time.Duration) Percentiles {
	if len(all) == 0 {
		return Percentiles{}
	}
	slices.Sort(all)
	return Percentiles{Values: len(all), P50: all[len(all)/2], P99: all[len(all)*99/100], Max: all[len(all)-1]}
}
