package reconcile

// Tracker knows at any time in which keys the desired and the actual state
// differ. It is not safe for concurrent use.
//
// Invariant: a key is pending exactly if it is in one of the two states only,
// or in both with values that are not equal.
type Tracker[K comparable, V any] struct {
	equal   func(a, b V) bool
	desired map[K]V
	actual  map[K]V
	pending map[K]struct{}
}

// NewTracker returns a tracker of two empty states.
func NewTracker[K comparable, V any](equal func(a, b V) bool) *Tracker[K, V] {
	return &Tracker[K, V]{equal, map[K]V{}, map[K]V{}, map[K]struct{}{}}
}

// SetDesired puts v under k into the desired state.
func (t *Tracker[K, V]) SetDesired(k K, v V) { t.desired[k] = v; t.judge(k) }

// DeleteDesired takes k out of the desired state.
func (t *Tracker[K, V]) DeleteDesired(k K) { delete(t.desired, k); t.judge(k) }

// SetActual says that v is under k now.
func (t *Tracker[K, V]) SetActual(k K, v V) { t.actual[k] = v; t.judge(k) }

// DeleteActual says that nothing is under k now.
func (t *Tracker[K, V]) DeleteActual(k K) { delete(t.actual, k); t.judge(k) }

// ReplaceActual says what is there now. The tracker keeps the map.
func (t *Tracker[K, V]) ReplaceActual(actual map[K]V) {
	if actual == nil {
		actual = map[K]V{}
	}
	t.actual = actual
	clear(t.pending)
	for k := range t.desired {
		t.judge(k)
	}
	for k := range t.actual {
		t.judge(k)
	}
}

// IsPending tells whether the states differ in k.
func (t *Tracker[K, V]) IsPending(k K) bool { _, ok := t.pending[k]; return ok }

// Pending returns the keys in which the states differ, in no order.
func (t *Tracker[K, V]) Pending() []K {
	keys := make([]K, 0, len(t.pending))
	for k := range t.pending {
		keys = append(keys, k)
	}
	return keys
}

func (t *Tracker[K, V]) judge(k K) {
	want, desired := t.desired[k]
	have, exists := t.actual[k]
	if desired != exists || desired && !t.equal(want, have) {
		t.pending[k] = struct{}{}
	} else {
		delete(t.pending, k)
	}
}
