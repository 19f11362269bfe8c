package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// MaxOps is the most keys or guards that one transaction may have.
	MaxOps = 1000
	// serverOps is what the server is told to allow (--max-txn-ops): every
	// transaction carries a few guards of its own.
	serverOps = 1024
	// defaultOps is what an etcd allows that was not told, and externalOps that
	// less our own guards.
	defaultOps  = 128
	externalOps = 120
	// usualKeys is how many keys and guards there is room for at first, and
	// usualBytes how many bytes of operations: an attachment has hardly more.
	usualKeys  = 24
	usualBytes = 6 << 10
)

// ErrUnknown says that it is not known whether a transaction happened: Settle
// finds out.
var ErrUnknown = errors.New("the store did not say whether it happened")

// ErrUnavailable says that no quorum of the store answered.
var ErrUnavailable = errors.New("the store does not answer")

// ErrFull says that the store refuses to grow.
var ErrFull = errors.New("the store is full")

// ErrTooBig says that a transaction has more keys than the store takes.
var ErrTooBig = errors.New("transaction is too big")

// ErrLeaseGone says that a lease of the transaction ended before it: try again.
var ErrLeaseGone = errors.New("lease ended before the transaction")

// ErrNewEpoch says that the store was restored since the transaction began:
// wait for Era to end and decide anew.
var ErrNewEpoch = errors.New("the store was restored in the meantime")

// Condition is what a guard demands.
type Condition string

// Conditions of guards.
const (
	Absent         Condition = "absent"
	Present        Condition = "present"
	Unchanged      Condition = "unchanged"
	RangeEmpty     Condition = "range empty"
	RangeUnchanged Condition = "range unchanged"
	// NotSince holds for a key that was not written after the revision; also
	// for one that is absent.
	NotSince Condition = "untouched"
)

// Guard is a condition on a key, or on the range of keys that begin with it.
type Guard struct {
	Condition Condition
	Key       Key
	// Revision of the key for Unchanged; for RangeUnchanged and NotSince the
	// one that the writer had seen of the store.
	Revision int64
}

// Conflict is the error of a transaction whose guard did not hold; nothing was
// written.
type Conflict struct {
	Guard Guard
	// Revision of the store at which the guard did not hold. Whoever tries
	// again should have seen it.
	Revision int64
}

func (c *Conflict) Error() string {
	return fmt.Sprintf("conflict: %s is not %s", c.Guard.Key, c.Guard.Condition)
}

// Txn collects the keys and guards of one transaction. It is not safe for
// concurrent use. Putting or deleting a key twice is an error of the caller
// that Commit reports.
type Txn struct {
	store  *Store
	epoch  uint64
	guards []Guard
	// guarded are the guards, each once.
	guarded map[Guard]bool
	// ops are its operations on the wire, and count is how many.
	ops   []byte
	count int
	keys  map[Key]bool
	// size is about the bytes of its keys, guards and values.
	size int
	err  error
	// takes and frees name a key that the transaction gives out or makes free,
	// empty if there is none.
	takes, frees Key
	// proof is a value that only this transaction writes to proofKey.
	proofKey string
	proof    []byte
	// shrinks is set when the transaction deletes objects.
	shrinks bool
}

// Txn begins a transaction, which can only happen in the present epoch. Nothing
// is sent before Commit.
func (s *Store) Txn() *Txn {
	return &Txn{
		store: s, epoch: s.Epoch(),
		guards: make([]Guard, 0, usualKeys), guarded: make(map[Guard]bool, usualKeys),
		keys: make(map[Key]bool, usualKeys),
	}
}

// Epoch in which the transaction began.
func (t *Txn) Epoch() uint64 { return t.epoch }

// In makes the transaction hold in an epoch: the one that it was decided in.
func (t *Txn) In(epoch uint64) { t.epoch = epoch }

// Empty tells whether the transaction writes nothing.
func (t *Txn) Empty() bool { return t.count == 0 }

// Takes names an address, prefix, number or label that the transaction gives
// out; empty if there is none.
func (t *Txn) Takes() Key { return t.takes }

// Frees names what the transaction deletes, or a tombstone that it leaves;
// empty if it only writes, and takes references away.
func (t *Txn) Frees() Key { return t.frees }

// Touches tells whether the transaction writes the key.
func (t *Txn) Touches(k Key) bool { return t.keys[k] }

// Create puts a key that must not exist.
func (t *Txn) Create(k Key, value []byte) {
	t.Guard(Guard{Condition: Absent, Key: k})
	t.Put(k, value)
}

// Put puts a key, whether it exists or not. Nobody may change the value then.
func (t *Txn) Put(k Key, value []byte) { t.PutLeased(k, value, 0) }

// PutLeased puts a key that ends with the lease.
func (t *Txn) PutLeased(k Key, value []byte, lease Lease) {
	t.touch(k)
	switch k.Space() {
	case SpaceAddress, SpacePrefix, SpaceNumber, SpaceLabel:
		t.takes = k
	case SpaceTomb:
		t.frees = k
	}
	t.size += len(k) + len(value)
	if t.ops == nil {
		t.ops = make([]byte, 0, usualBytes)
	}
	t.ops = t.store.appendPut(t.ops, k, value, lease)
}

// Delete deletes a key; an absent one is fine.
func (t *Txn) Delete(k Key) {
	t.touch(k)
	switch k.Space() {
	case SpaceObject, SpaceNode, SpaceBinding, SpaceAddress, SpacePrefix, SpaceNumber, SpaceLabel:
		t.frees = k
	}
	t.size += len(k)
	t.ops = t.store.appendDelete(t.ops, k)
}

func (t *Txn) touch(k Key) {
	if t.keys[k] {
		t.err = fmt.Errorf("transaction writes %s twice", k)
	}
	t.keys[k] = true
	t.count++
}

// Guard adds a condition.
func (t *Txn) Guard(g Guard) {
	if t.guarded[g] {
		return
	}
	t.guarded[g] = true
	t.size += len(g.Key)
	t.guards = append(t.guards, g)
}

// prove makes a put that no other transaction makes the proof that this one
// happened.
func (t *Txn) prove(k Key, value []byte) {
	if t.proofKey == "" && t.count > 0 {
		t.proofKey, t.proof = t.store.path(k), value
	}
}

// Commit sends the transaction and returns its revision. The error is a
// *Conflict when a guard did not hold. It wraps ErrLeaseGone when a lease had
// ended, ErrNewEpoch when the epoch had, ErrFull when the store has no space,
// ErrNoQuorum when it has no leader; nothing was written then either. It wraps
// ErrUnknown when the answer was lost. It is not repeated here, because its
// guards would then fail against its own keys.
func (t *Txn) Commit(ctx context.Context) (int64, error) {
	if t.err != nil {
		return 0, t.err
	}
	if limit := t.store.maxOps; t.count > limit || len(t.guards) > limit {
		return 0, t.store.tooMany(t.count, len(t.guards))
	}
	if err := t.store.quorate(); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	if err := t.store.pace(ctx, t.shrinks || t.count == 0); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	if t.proofKey == "" && t.count > 0 {
		mark, nonce := t.store.markKey(), []byte(rand.Text())
		t.Put(mark, nonce)
		t.prove(mark, nonce)
	}
	o := t.store.groups.send(ctx, t)
	switch {
	case errors.Is(o.err, ErrFull):
		return t.despiteFull(ctx, o.err)
	case o.err != nil:
		return 0, fmt.Errorf("commit: %w", o.err)
	case !o.held:
		return 0, t.explain(ctx, o.revision, o.fence)
	default:
		return o.revision, nil
	}
}

// despiteFull finds out what became of a transaction that the store answered
// with full: an etcd that becomes full while requests are on their way writes
// them, and says that it has no space all the same. No fence is needed, as what
// is answered is not on its way any more.
func (t *Txn) despiteFull(ctx context.Context, full error) (int64, error) {
	if t.count == 0 {
		return 0, fmt.Errorf("commit: %w", full)
	}
	got, err := t.store.get(ctx, t.proofKey)
	switch {
	case err != nil:
		return 0, fmt.Errorf("commit: %w: %w", ErrUnknown, err)
	case len(got.Kvs) > 0 && bytes.Equal(got.Kvs[0].Value, t.proof):
		return got.Kvs[0].ModRevision, nil
	default:
		return 0, fmt.Errorf("commit: %w", full)
	}
}

// appendGuards appends the guards, but for those that are asked for elsewhere.
func (t *Txn) appendGuards(b []byte, elsewhere map[Guard]bool) []byte {
	for _, g := range t.guards {
		if !elsewhere[g] {
			b = t.store.appendGuard(b, g)
		}
	}
	return b
}

// operations are what the transaction does. Without any the member that is asked
// would compare what it has by itself, which may be old; a read makes it ask a
// quorum.
func (t *Txn) operations() []byte {
	if t.count > 0 {
		return t.ops
	}
	return t.store.appendRead(nil, EpochKey)
}

// ofRange tells whether the guard is on all keys that begin with its own.
func (g Guard) ofRange() bool { return g.Condition == RangeEmpty || g.Condition == RangeUnchanged }

// reason tells what an error of the store means for a write.
func (s *Store) reason(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return ErrLeaseGone
	case errors.Is(err, rpctypes.ErrNoSpace):
		return ErrFull
	case errors.Is(err, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%w: start the store's etcd with --max-txn-ops=%d", ErrTooBig, serverOps)
	case errors.Is(err, rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("%w: make the object smaller, or start the store's etcd with a larger --max-request-bytes", ErrTooBig)
	case errors.Is(err, rpctypes.ErrTooManyRequests):
		return fmt.Errorf("%w: too many requests at once; try again", ErrUnavailable)
	default:
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
}

func (s *Store) tooMany(ops, guards int) error {
	if s.maxOps < MaxOps {
		return fmt.Errorf("%w: %d keys and %d guards, this store allows %d; start its etcd with --max-txn-ops=%d", ErrTooBig, ops, guards, s.maxOps, serverOps)
	}
	return fmt.Errorf("%w: %d keys and %d guards, at most %d are possible; do it in smaller steps", ErrTooBig, ops, guards, MaxOps)
}

// explain finds out what did not hold at the revision. It is a second request so
// that the transactions that succeed do not carry the questions, and one request
// for all of them: what is asked one by one takes longer than an attempt may
// last when a new leader has many to answer. It has a time of its own, since a
// fence that is not learned stops every later transaction, too.
func (t *Txn) explain(ctx context.Context, revision, fence int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
	defer cancel()
	s := t.store
	stopped := &Conflict{Guard: Guard{Condition: Unchanged, Key: key(SpaceFence, s.writer), Revision: fence}, Revision: revision}
	ops := []clientv3.Op{clientv3.OpGet(s.path(EpochKey)), clientv3.OpGet(s.fenceKey(), clientv3.WithKeysOnly())}
	for first := 0; ; {
		last := min(len(t.guards), first+s.maxOps-len(ops))
		for _, g := range t.guards[first:last] {
			ops = append(ops, s.look(g, revision))
		}
		resp, err := s.client.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			s.log.Debug("cannot find out why a transaction was refused; it is decided anew", "error", err)
			return stopped // not knowing why does not change that it was
		}
		found := resp.Responses
		if first == 0 {
			if kvs := found[0].GetResponseRange().Kvs; len(kvs) > 0 && string(kvs[0].Value) != strconv.FormatUint(t.epoch, 10) {
				return fmt.Errorf("commit: %w", ErrNewEpoch)
			}
			if now := modified(found[1].GetResponseRange().Kvs); now != fence {
				s.fence.CompareAndSwap(fence, now)
				return stopped
			}
			found = found[2:]
		}
		for i, g := range t.guards[first:last] {
			if !g.holds(found[i].GetResponseRange().Kvs) {
				return &Conflict{Guard: g, Revision: revision}
			}
		}
		if first, ops = last, nil; first == len(t.guards) {
			return stopped
		}
	}
}

// look reads what tells whether a guard held at a revision.
func (s *Store) look(g Guard, revision int64) clientv3.Op {
	options := []clientv3.OpOption{clientv3.WithRev(revision), clientv3.WithKeysOnly()}
	switch g.Condition {
	case RangeEmpty:
		options = append(options, clientv3.WithPrefix(), clientv3.WithLimit(1))
	case NotSince:
		options = append(options, clientv3.WithMinModRev(g.Revision+1))
	case RangeUnchanged:
		options = append(options, clientv3.WithPrefix(), clientv3.WithMinModRev(g.Revision+1), clientv3.WithLimit(1))
	}
	return clientv3.OpGet(s.path(g.Key), options...)
}

// holds tells whether a guard did, by what look found.
func (g Guard) holds(found []*mvccpb.KeyValue) bool {
	switch g.Condition {
	case Present:
		return len(found) > 0
	case Unchanged:
		return modified(found) == g.Revision
	default:
		return len(found) == 0
	}
}

// modified is the revision at which a key was last written, 0 if it is absent.
func modified(found []*mvccpb.KeyValue) int64 {
	if len(found) == 0 {
		return 0
	}
	return found[0].ModRevision
}
