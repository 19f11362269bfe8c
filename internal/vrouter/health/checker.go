package health

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/contrail-mesos/contrail/internal/serve"
)

// Checker sends the probes of checks. Its methods may be called by several
// goroutines.
type Checker struct {
	log *slog.Logger
	// changed is called when a verdict is another, and now and then while probes
	// cannot be sent, without locks held.
	changed func()
	// verdicts bounds the lines of the log that ports can cause.
	verdicts serve.Limiter

	mu      sync.Mutex
	checks  map[Key]*running
	adopted map[Key]string // reasons of checks that failed when an earlier process ended
	asking  sync.WaitGroup
	// unsent is when it was said last that probes cannot be sent.
	unsent time.Time
}

// running is a check that is asked, or is left.
type running struct {
	state State
	// network by which it is asked.
	network Network
	stop    context.CancelFunc
}

// New makes a Checker without checks; changed must not block.
func New(log *slog.Logger, changed func()) *Checker {
	return &Checker{log: log, changed: changed, checks: map[Key]*running{}, adopted: map[Key]string{}}
}

// Adopt takes over the checks that have failed, of an earlier process.
func (c *Checker) Adopt(failing map[string][]Failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for port, list := range failing {
		for _, f := range list {
			c.adopted[Key{port, f.Check}] = f.Reason
		}
	}
}

// Set makes the checks those that there are: what is not among them is forgotten
// with its verdict. They are asked over the network, which may be another than
// before.
func (c *Checker) Set(network Network, checks []Check) {
	c.mu.Lock()
	now := time.Now()
	slices.SortFunc(checks, func(a, b Check) int { return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.ID, b.ID)) })
	wanted := map[Key]bool{}
	changed := len(c.adopted) > 0
	atPort, total, port := 0, 0, ""
	for _, check := range checks {
		if atPort++; check.Port != port {
			atPort, port = 1, check.Port
		}
		switch {
		case check.Left != "":
		case atPort > MaxPortChecks:
			check.Left = "the port has more checks than it may have"
		case total >= MaxChecks:
			check.Left = "the node has more checks than it may have"
		default:
			total++
		}
		wanted[check.Key] = true
		c.put(network, check, now)
	}
	for key, r := range c.checks {
		if !wanted[key] {
			changed = changed || r.state.Failing
			r.stop()
			delete(c.checks, key)
		}
	}
	clear(c.adopted)
	c.mu.Unlock()
	if changed {
		c.changed()
	}
}

// put begins to ask, unless it is asked just so already.
func (c *Checker) put(network Network, check Check, now time.Time) {
	old := c.checks[check.Key]
	if old != nil && old.network == network && reflect.DeepEqual(old.state.Check, check) {
		return
	}
	r := &running{network: network, state: State{Check: check, Since: now}}
	if old != nil {
		old.stop()
		r.state.Failing, r.state.Since, r.state.Reason = old.state.Failing, old.state.Since, old.state.Reason
	} else if reason, failing := c.adopted[check.Key]; failing {
		r.state.Failing, r.state.Reason = true, reason
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	c.checks[check.Key] = r
	if check.Left == "" {
		c.asking.Go(func() { c.run(ctx, r, check) })
	}
}

// run asks again and again, the first time within a delay, so that the checks of
// a node do not ask all at once.
func (c *Checker) run(ctx context.Context, r *running, check Check) {
	timer := time.NewTimer(rand.N(check.Delay))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		reason, failed, sent := check.ask(ctx, r.network)
		if ctx.Err() != nil {
			return
		}
		took := time.Since(began)
		if sent {
			c.judge(r, reason, failed, took)
		} else {
			c.noteUnsent(check, reason)
		}
		timer.Reset(max(check.Delay-took, 0))
	}
}

func (c *Checker) judge(r *running, reason string, failed bool, took time.Duration) {
	c.mu.Lock()
	changed := r.state.judge(reason, failed, time.Now())
	r.state.Took = took
	current := c.checks[r.state.Key] == r
	c.mu.Unlock()
	if !changed || !current {
		return
	}
	c.note(r, reason, failed)
	c.changed()
}

// note logs a verdict that is another than before.
func (c *Checker) note(r *running, reason string, failed bool) {
	silent, ok := c.verdicts.Admit(time.Now())
	if !ok {
		return
	}
	attributes := []any{"port", r.state.Port, "check", r.state.ID, "name", r.state.Name, "address", r.state.Address, "not_logged", silent}
	if failed {
		c.log.Warn("health check of a port fails", append(attributes, "reason", reason)...)
	} else {
		c.log.Info("health check of a port passes again", attributes...)
	}
}

// unsentPause is how often it is said, at most, that probes cannot be sent.
const unsentPause = 10 * time.Second

// noteUnsent says that the node could not ask. The verdict stands; whoever made the
// network may look what has become of it.
func (c *Checker) noteUnsent(check Check, reason string) {
	c.mu.Lock()
	now := time.Now()
	news := now.Sub(c.unsent) >= unsentPause
	if news {
		c.unsent = now
	}
	c.mu.Unlock()
	if news {
		c.log.Warn("a health check cannot be made; it counts as before", "port", check.Port, "check", check.ID, "name", check.Name, "error", reason)
		c.changed()
	}
}

// Failing are the checks of a port that have failed, by their ids.
func (c *Checker) Failing(port string) []Failure { return c.AllFailing()[port] }

// AllFailing are those of all ports.
func (c *Checker) AllFailing() map[string][]Failure {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string][]Failure{}
	for key, reason := range c.adopted {
		all[key.Port] = append(all[key.Port], Failure{key.ID, reason})
	}
	for key, r := range c.checks {
		if r.state.Failing {
			all[key.Port] = append(all[key.Port], Failure{key.ID, r.state.Reason})
		}
	}
	for _, list := range all {
		slices.SortFunc(list, func(a, b Failure) int { return cmp.Compare(a.Check, b.Check) })
	}
	return all
}

// States are all checks, in the order of their keys.
func (c *Checker) States() []State {
	c.mu.Lock()
	defer c.mu.Unlock()
	states := make([]State, 0, len(c.checks))
	for _, key := range slices.SortedFunc(maps.Keys(c.checks), func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.ID, b.ID))
	}) {
		states = append(states, c.checks[key].state)
	}
	return states
}

// Close ends all probes and waits for them. Verdicts stay.
func (c *Checker) Close() {
	c.mu.Lock()
	for _, r := range c.checks {
		r.stop()
	}
	c.mu.Unlock()
	c.asking.Wait()
}
