// Package reconcile makes one kind of object real: it compares what should be
// with what is, and acts on the difference, again and again until there is none.
//
//	Set, Delete, Replace --> desired --+
//	                                   |-- pending --> Run --> Target.Put, Target.Delete
//	Target.List ---------> actual -----+                  `--> status of each object
//
// Run is the only one that touches the target. It first lists what is there, so
// that a restart adopts instead of beginning anew; it puts before it deletes,
// and deletes only what the owner of the table allows; an object that fails is
// tried again with growing pauses, without holding up the others.
package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Target makes objects real. All methods are idempotent. Those that change it
// are called by one goroutine; List may be called meanwhile.
type Target[K comparable, V any] interface {
	// List returns what is really there.
	List(ctx context.Context) (map[K]V, error)
	Put(ctx context.Context, k K, v V) error
	// Delete of what is absent is success.
	Delete(ctx context.Context, k K) error
}

// BatchTarget is a target that can put many objects at once for less.
type BatchTarget[K comparable, V any] interface {
	Target[K, V]
	// PutAll puts all, or fails and may have put some.
	PutAll(ctx context.Context, objects map[K]V) error
}

// State of an object's way to the target.
type State string

// States of objects.
const (
	Pending State = "pending"
	Applied State = "applied"
	Failed  State = "failed"
)

// Status says whether what was asked for is real, and since when it is so.
type Status struct {
	State State
	// Err is the last failure; it stays while the object is tried again.
	Err   error
	Since time.Time
}

// Object is a desired object with its status.
type Object[K comparable, V any] struct {
	Key    K
	Value  V
	Status Status
}

// Entry is an object that is desired, or there, or both, with the status of the
// way from one to the other: one that is there and not desired is pending, until
// it may go.
type Entry[K comparable, V any] struct {
	Key K
	// Desired and There are nil where there is none.
	Desired, There *V
	Status         Status
}

// Options of a table.
type Options[K comparable, V any] struct {
	// Name is used in logs.
	Name  string
	Equal func(a, b V) bool
	// MayDelete tells whether an object that nobody desires may go; nil means
	// always. Wake makes the table ask again.
	MayDelete func(K) bool
	// Applied is called after a desired object became real, by the goroutine
	// of Run. It may be nil.
	Applied func(K, V)
	// Resync is the pause between full comparisons with the target.
	Resync time.Duration
	// RetryMin and RetryMax bound the pauses before an object is tried again.
	RetryMin, RetryMax time.Duration
}

// Table is the desired state of one target. It is safe for concurrent use.
type Table[K comparable, V any] struct {
	log     *slog.Logger
	target  Target[K, V]
	options Options[K, V]

	mu      sync.Mutex
	tracker *Tracker[K, V]
	status  map[K]*status
	listed  bool
	relist  bool
	// busy tells whether the target is working on a key.
	busy func(K) bool
	// failures counts attempts that failed, those to list included.
	failures uint64
	// changed is closed and replaced whenever a status changes.
	changed chan struct{}
	wake    chan struct{}
}

type status struct {
	Status
	attempts int
	retryAt  time.Time
	// version grows with each change of what is desired.
	version uint64
}

// New returns an empty table; nothing happens before Run.
func New[K comparable, V any](log *slog.Logger, target Target[K, V], options Options[K, V]) *Table[K, V] {
	if options.Resync == 0 {
		options.Resync = time.Minute
	}
	if options.RetryMin == 0 {
		options.RetryMin = 100 * time.Millisecond
	}
	if options.RetryMax == 0 {
		options.RetryMax = 15 * time.Second
	}
	return &Table[K, V]{
		log:     log.With("table", options.Name),
		target:  target,
		options: options,
		tracker: NewTracker[K](options.Equal),
		status:  map[K]*status{},
		changed: make(chan struct{}),
		wake:    make(chan struct{}, 1),
	}
}

// Set desires v under k.
func (t *Table[K, V]) Set(k K, v V) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(k, v)
	t.Wake()
}

// Delete desires that nothing is under k.
func (t *Table[K, V]) Delete(k K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.delete(k)
	t.Wake()
}

// Replace desires exactly what is in all.
func (t *Table[K, V]) Replace(all map[K]V) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.tracker.desired {
		if _, stays := all[k]; !stays {
			t.delete(k)
		}
	}
	for k, v := range all {
		t.set(k, v)
	}
	t.Wake()
}

func (t *Table[K, V]) set(k K, v V) {
	if old, ok := t.tracker.desired[k]; ok && t.options.Equal(old, v) {
		return
	}
	t.tracker.SetDesired(k, v)
	t.pending(k)
}

func (t *Table[K, V]) delete(k K) {
	if _, ok := t.tracker.desired[k]; !ok {
		return
	}
	t.tracker.DeleteDesired(k)
	t.pending(k)
}

func (t *Table[K, V]) pending(k K) {
	s := t.status[k]
	if s == nil {
		s = &status{}
		t.status[k] = s
	}
	s.version++
	s.attempts, s.retryAt = 0, time.Time{}
	s.Status = Status{State: Pending, Since: time.Now()}
	if t.listed && (t.busy == nil || !t.busy(k)) {
		t.rest(k)
	}
	t.announce()
}

// rest notes that k needs nothing, if so.
func (t *Table[K, V]) rest(k K) {
	s := t.status[k]
	if s == nil || t.tracker.IsPending(k) {
		return
	}
	if _, desired := t.tracker.desired[k]; !desired {
		delete(t.status, k)
	} else if s.State != Applied {
		s.Status = Status{State: Applied, Since: time.Now()}
	}
	t.announce()
}

// Wake makes Run look at what is pending, and ask MayDelete again.
func (t *Table[K, V]) Wake() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Resync makes Run compare everything with the target.
func (t *Table[K, V]) Resync() {
	t.mu.Lock()
	t.relist = true
	t.mu.Unlock()
	t.Wake()
}

// Get returns what is desired under k.
func (t *Table[K, V]) Get(k K) (V, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok := t.tracker.desired[k]
	return v, ok
}

// StatusOf returns the status of k, and whether anything is desired there.
func (t *Table[K, V]) StatusOf(k K) (Status, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.status[k]
	_, desired := t.tracker.desired[k]
	if s == nil {
		return Status{}, desired
	}
	return s.Status, desired
}

// Objects returns all desired objects, in no order.
func (t *Table[K, V]) Objects() []Object[K, V] {
	t.mu.Lock()
	defer t.mu.Unlock()
	objects := make([]Object[K, V], 0, len(t.tracker.desired))
	for k, v := range t.tracker.desired {
		objects = append(objects, Object[K, V]{k, v, t.status[k].Status})
	}
	return objects
}

// Entries compares what is desired with what the target says is there now, in no
// order.
func (t *Table[K, V]) Entries(ctx context.Context) ([]Entry[K, V], error) {
	there, err := t.target.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", t.options.Name, err)
	}
	desired := t.Objects()
	entries := make([]Entry[K, V], 0, max(len(there), len(desired)))
	for _, o := range desired {
		e := Entry[K, V]{Key: o.Key, Desired: &o.Value, Status: o.Status}
		if v, ok := there[o.Key]; ok {
			e.There = &v
			delete(there, o.Key)
		}
		entries = append(entries, e)
	}
	for k, v := range there {
		e := Entry[K, V]{Key: k, There: &v, Status: Status{State: Pending}}
		if s, desired := t.StatusOf(k); !desired && s.State != "" {
			e.Status = s
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// States counts the objects by their state.
func (t *Table[K, V]) States() map[State]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	states := map[State]int{Pending: 0, Applied: 0, Failed: 0}
	for _, s := range t.status {
		states[s.State]++
	}
	return states
}

// Failures counts the attempts that have failed.
func (t *Table[K, V]) Failures() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failures
}

// Name is that of the options.
func (t *Table[K, V]) Name() string { return t.options.Name }

// Wait blocks until the last Set or Delete of k is real, or has failed once;
// the table goes on trying.
func (t *Table[K, V]) Wait(ctx context.Context, k K) error {
	for {
		t.mu.Lock()
		changed := t.changed
		s := t.status[k]
		var state Status
		if s != nil {
			state = s.Status
		}
		t.mu.Unlock()
		if s == nil || state.State == Applied {
			return nil
		}
		if state.State == Failed {
			return state.Err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s %v: %w", t.options.Name, k, context.Cause(ctx))
		}
	}
}

func (t *Table[K, V]) announce() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// Run reconciles until ctx ends.
func (t *Table[K, V]) Run(ctx context.Context) error {
	resync := time.NewTicker(t.options.Resync)
	defer resync.Stop()
	for {
		pause := t.round(ctx)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-t.wake:
		case <-timer.C:
		case <-resync.C:
			t.mu.Lock()
			t.relist = true
			t.mu.Unlock()
		}
		timer.Stop()
	}
}

// round acts on all that is pending and due, and returns how long nothing will be.
func (t *Table[K, V]) round(ctx context.Context) time.Duration {
	if err := t.list(ctx); err != nil {
		t.log.Warn("table cannot be read and is tried again", "error", err)
		t.mu.Lock()
		t.failures++
		t.mu.Unlock()
		return t.options.RetryMin
	}
	puts, deletes := t.due()
	if batch, ok := t.target.(BatchTarget[K, V]); ok && len(puts) > 1 && t.putAll(ctx, batch, puts) {
		puts = nil
	}
	for _, k := range puts {
		t.put(ctx, k)
	}
	for _, k := range deletes {
		t.remove(ctx, k)
	}
	return t.nextRetry()
}

func (t *Table[K, V]) list(ctx context.Context) error {
	t.mu.Lock()
	needed := !t.listed || t.relist
	t.mu.Unlock()
	if !needed {
		return nil
	}
	actual, err := t.target.List(ctx)
	if err != nil {
		return fmt.Errorf("list %s: %w", t.options.Name, err)
	}
	t.mu.Lock()
	t.tracker.ReplaceActual(actual)
	t.listed, t.relist = true, false
	type object struct {
		k K
		v V
	}
	var adopted []object
	for k, s := range t.status {
		if t.tracker.IsPending(k) {
			if s.State == Applied {
				s.Status = Status{State: Pending, Since: time.Now()}
			}
			continue
		}
		if v, desired := t.tracker.desired[k]; desired && s.State != Applied {
			adopted = append(adopted, object{k, v})
		}
		t.rest(k)
	}
	t.announce()
	t.mu.Unlock()
	if t.options.Applied != nil {
		for _, o := range adopted {
			t.options.Applied(o.k, o.v)
		}
	}
	return nil
}

func (t *Table[K, V]) due() (puts, deletes []K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for k := range t.tracker.pending {
		if s := t.status[k]; s != nil && s.retryAt.After(now) {
			continue
		}
		if _, desired := t.tracker.desired[k]; desired {
			puts = append(puts, k)
		} else {
			deletes = append(deletes, k)
		}
	}
	return puts, deletes
}

func (t *Table[K, V]) put(ctx context.Context, k K) {
	t.mu.Lock()
	v, desired := t.tracker.desired[k]
	version := t.version(k)
	if desired {
		t.busy = func(x K) bool { return x == k }
	}
	t.mu.Unlock()
	if !desired {
		return
	}
	err := t.target.Put(ctx, k, v)
	t.mu.Lock()
	t.busy = nil
	if err == nil {
		t.tracker.SetActual(k, v)
	}
	settled := t.settle(k, version, err)
	t.mu.Unlock()
	if settled && t.options.Applied != nil {
		t.options.Applied(k, v)
	}
}

// putAll is put for many; false means that it failed and each has to be put by
// itself, to find the one that cannot be.
func (t *Table[K, V]) putAll(ctx context.Context, target BatchTarget[K, V], keys []K) bool {
	objects, versions := map[K]V{}, map[K]uint64{}
	t.mu.Lock()
	for _, k := range keys {
		if v, desired := t.tracker.desired[k]; desired {
			objects[k], versions[k] = v, t.version(k)
		}
	}
	t.busy = func(k K) bool { _, ok := versions[k]; return ok }
	t.mu.Unlock()
	err := target.PutAll(ctx, objects)
	var settled []K
	t.mu.Lock()
	t.busy = nil
	if err == nil {
		for k, v := range objects {
			t.tracker.SetActual(k, v)
			if t.settle(k, versions[k], nil) {
				settled = append(settled, k)
			}
		}
		t.announce()
	}
	t.mu.Unlock()
	if t.options.Applied != nil {
		for _, k := range settled {
			t.options.Applied(k, objects[k])
		}
	}
	return err == nil
}

func (t *Table[K, V]) remove(ctx context.Context, k K) {
	if t.options.MayDelete != nil && !t.options.MayDelete(k) {
		return
	}
	t.mu.Lock()
	_, desired := t.tracker.desired[k]
	version := t.version(k)
	if !desired {
		t.busy = func(x K) bool { return x == k }
	}
	t.mu.Unlock()
	if desired {
		return
	}
	err := t.target.Delete(ctx, k)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy = nil
	if err == nil {
		t.tracker.DeleteActual(k)
	}
	if t.settle(k, version, err) {
		delete(t.status, k)
	}
}

func (t *Table[K, V]) version(k K) uint64 {
	if s := t.status[k]; s != nil {
		return s.version
	}
	return 0
}

// settle notes the outcome of an attempt, unless something else is desired by
// now; it tells whether the object is what it should be.
func (t *Table[K, V]) settle(k K, version uint64, err error) bool {
	if err != nil {
		t.failures++
	}
	s := t.status[k]
	if s == nil {
		s = &status{}
		t.status[k] = s
	}
	if s.version != version {
		t.rest(k)
		return false
	}
	defer t.announce()
	if err == nil {
		if s.attempts > 0 {
			t.log.Info("object is applied after failures", "key", k, "attempts", s.attempts+1)
		}
		s.attempts, s.retryAt = 0, time.Time{}
		s.Status = Status{State: Applied, Since: time.Now()}
		return true
	}
	if s.attempts == 0 {
		t.log.Warn("object cannot be applied and is tried again", "key", k, "error", err)
	}
	if s.State != Failed {
		s.Since = time.Now()
	}
	s.State, s.Err = Failed, err
	s.retryAt = time.Now().Add(Backoff(s.attempts, t.options.RetryMin, t.options.RetryMax))
	s.attempts++
	return false
}

func (t *Table[K, V]) nextRetry() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.options.Resync
	for k := range t.tracker.pending {
		if s := t.status[k]; s != nil && !s.retryAt.IsZero() {
			next = min(next, max(time.Until(s.retryAt), time.Millisecond))
		}
	}
	return next
}

// Backoff is the pause after the attempt with this number, counted from 0: it
// doubles from lowest to highest, and a random quarter is taken off, so that
// many who failed together do not come back together.
func Backoff(attempt int, lowest, highest time.Duration) time.Duration {
	pause := highest
	if attempt < 30 {
		pause = min(highest, lowest<<attempt)
	}
	return pause - time.Duration(rand.Int64N(int64(pause)/4+1))
}
