package auth

import (
	"math"
	"sync"
	"time"
)

// throttle makes guessing slow. Each failure doubles the time until the next
// attempt is looked at, for the user from that source soon, for the source with
// whatever users later, and for the user from all sources last and least: a
// stranger can delay somebody else's login, not prevent it.
type throttle struct {
	mu      sync.Mutex
	entries map[string]*failures
}

type failures struct {
	count int
	until time.Time
	last  time.Time
}

// limits of one kind of key.
type limits struct {
	// free failures cost nothing; from then on first is doubled up to most.
	free        int
	first, most time.Duration
}

var (
	userHere     = limits{3, time.Second, 5 * time.Minute}
	source       = limits{20, time.Second, 5 * time.Minute}
	userAnywhere = limits{50, time.Second, 10 * time.Second}
)

const (
	// forgetAfter is how long a failure counts.
	forgetAfter = 15 * time.Minute
	// mostFailures bounds what is remembered.
	mostFailures = 10_000
	// sample is how many of them are looked at to forget one.
	sample = 32
)

func newThrottle() *throttle { return &throttle{entries: map[string]*failures{}} }

// attempt is what one login counts for.
type attempt struct {
	key string
	limits
}

func attemptsOf(user, from string) [3]attempt {
	return [3]attempt{
		{"user " + user + " from " + from, userHere}, {"from " + from, source}, {"user " + user, userAnywhere},
	}
}

// begin counts an attempt as failed, until ok says otherwise: attempts at the
// same time do not get around the limits. wait is how long the caller has to
// wait when it is not looked at.
func (t *throttle) begin(user, from string, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range attemptsOf(user, from) {
		if f := t.entries[a.key]; f != nil && now.Before(f.until) {
			wait = max(wait, f.until.Sub(now))
		}
	}
	if wait > 0 {
		return wait
	}
	for _, a := range attemptsOf(user, from) {
		f := t.entries[a.key]
		if f == nil || now.Sub(f.last) > forgetAfter {
			t.makeRoom()
			f = &failures{}
			t.entries[a.key] = f
		}
		f.count++
		f.last = now
		if over := f.count - a.free; over > 0 {
			delay := time.Duration(math.Min(float64(a.first)*math.Pow(2, float64(over-1)), float64(a.most)))
			f.until = now.Add(delay)
		}
	}
	return 0
}

// ok forgets the failures of a user who knew his password.
func (t *throttle) ok(user, from string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range attemptsOf(user, from) {
		f := t.entries[a.key]
		if f == nil {
			continue
		}
		if a.limits == userHere {
			delete(t.entries, a.key)
			continue
		}
		// Others may be guessing from there, or this user: only this attempt is taken back.
		f.count = max(0, f.count-1)
		if f.count <= a.free {
			f.until = time.Time{}
		}
	}
}

// makeRoom forgets the oldest of a few: looking at all would cost as much as
// the guesses that it is about.
func (t *throttle) makeRoom() {
	if len(t.entries) < mostFailures {
		return
	}
	var oldest string
	seen := 0
	for key, f := range t.entries { // in random order
		if oldest == "" || f.last.Before(t.entries[oldest].last) {
			oldest = key
		}
		if seen++; seen == sample {
			break
		}
	}
	delete(t.entries, oldest)
}
