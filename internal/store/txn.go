package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// MaxOps is the most keys or guards that one transaction may have.
	MaxOps = 1000
	// serverOps is what the server is told to allow (--max-txn-ops): every
	// transaction carries a few guards of its own.
	serverOps = 1024
)

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
	ops    []clientv3.Op
	keys   map[Key]bool
	err    error
}

// Txn begins a transaction, which can only happen in the present epoch. Nothing
// is sent before Commit.
func (s *Store) Txn() *Txn { return &Txn{store: s, epoch: s.Epoch(), keys: map[Key]bool{}} }

// Epoch in which the transaction began.
func (t *Txn) Epoch() uint64 { return t.epoch }

// Empty tells whether the transaction writes nothing.
func (t *Txn) Empty() bool { return len(t.ops) == 0 }

// Touches tells whether the transaction writes the key.
func (t *Txn) Touches(k Key) bool { return t.keys[k] }

// Create puts a key that must not exist.
func (t *Txn) Create(k Key, value []byte) {
	t.Guard(Guard{Condition: Absent, Key: k})
	t.Put(k, value)
}

// Put puts a key, whether it exists or not.
func (t *Txn) Put(k Key, value []byte) { t.put(k, value) }

// PutLeased puts a key that ends with the lease.
func (t *Txn) PutLeased(k Key, value []byte, lease Lease) {
	t.put(k, value, clientv3.WithLease(clientv3.LeaseID(lease)))
}

func (t *Txn) put(k Key, value []byte, options ...clientv3.OpOption) {
	t.touch(k)
	t.ops = append(t.ops, clientv3.OpPut(t.store.path(k), string(value), options...))
}

// Delete deletes a key; an absent one is fine.
func (t *Txn) Delete(k Key) {
	t.touch(k)
	t.ops = append(t.ops, clientv3.OpDelete(t.store.path(k)))
}

func (t *Txn) touch(k Key) {
	if t.keys[k] {
		t.err = fmt.Errorf("transaction writes %s twice", k)
	}
	t.keys[k] = true
}

// Guard adds a condition.
func (t *Txn) Guard(g Guard) {
	for _, have := range t.guards {
		if have == g {
			return
		}
	}
	t.guards = append(t.guards, g)
}

func (t *Txn) compare(g Guard) clientv3.Cmp {
	k := t.store.path(g.Key)
	switch g.Condition {
	case Absent:
		return clientv3.Compare(clientv3.CreateRevision(k), "=", 0)
	case Present:
		return clientv3.Compare(clientv3.CreateRevision(k), ">", 0)
	case Unchanged:
		return clientv3.Compare(clientv3.ModRevision(k), "=", g.Revision)
	case RangeEmpty:
		return clientv3.Compare(clientv3.CreateRevision(k), "=", 0).WithPrefix()
	case NotSince:
		return clientv3.Compare(clientv3.ModRevision(k), "<", g.Revision+1)
	default: // RangeUnchanged: deletions pass, they only take away what was seen
		return clientv3.Compare(clientv3.ModRevision(k), "<", g.Revision+1).WithPrefix()
	}
}

// Commit sends the transaction and returns its revision. The error is a
// *Conflict when a guard did not hold, and wraps ErrLeaseGone when a lease had
// ended, or ErrNewEpoch when the epoch had. After any other error it is not known whether the transaction
// happened: it is not repeated, because its guards would then fail against its
// own keys.
func (t *Txn) Commit(ctx context.Context) (int64, error) {
	if t.err != nil {
		return 0, t.err
	}
	if len(t.ops) > MaxOps || len(t.guards) > MaxOps {
		return 0, fmt.Errorf("transaction of %d keys and %d guards: at most %d are possible; do it in smaller steps",
			len(t.ops), len(t.guards), MaxOps)
	}
	cmps := make([]clientv3.Cmp, 0, len(t.guards)+1)
	for _, g := range t.guards {
		cmps = append(cmps, t.compare(g))
	}
	cmps = append(cmps, clientv3.Compare(clientv3.Value(t.store.path(EpochKey)), "=", strconv.FormatUint(t.epoch, 10)))
	resp, err := t.store.client.Txn(ctx).If(cmps...).Then(t.ops...).Commit()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return 0, fmt.Errorf("commit: %w", ErrLeaseGone)
	}
	if err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	if !resp.Succeeded {
		return 0, t.explain(ctx, resp.Header.Revision)
	}
	return resp.Header.Revision, nil
}

// explain finds the guard that did not hold at the revision. It is a second
// request so that the transactions that succeed do not carry the questions.
func (t *Txn) explain(ctx context.Context, revision int64) error {
	for _, g := range t.guards {
		options := []clientv3.OpOption{clientv3.WithRev(revision), clientv3.WithKeysOnly()}
		switch g.Condition {
		case RangeEmpty:
			options = append(options, clientv3.WithPrefix(), clientv3.WithLimit(1))
		case NotSince:
			options = append(options, clientv3.WithMinModRev(g.Revision+1))
		case RangeUnchanged:
			options = append(options, clientv3.WithPrefix(), clientv3.WithMinModRev(g.Revision+1), clientv3.WithLimit(1))
		}
		resp, err := t.store.client.Get(ctx, t.store.path(g.Key), options...)
		if err != nil {
			return fmt.Errorf("explain conflict: %w", err)
		}
		holds := len(resp.Kvs) == 0
		switch g.Condition {
		case Present:
			holds = !holds
		case Unchanged:
			holds = len(resp.Kvs) == 1 && resp.Kvs[0].ModRevision == g.Revision || holds && g.Revision == 0
		}
		if !holds {
			return &Conflict{Guard: g, Revision: revision}
		}
	}
	if at, err := t.store.head(ctx); err != nil || at.epoch != t.epoch {
		return fmt.Errorf("commit: %w", cmp.Or(err, ErrNewEpoch))
	}
	return &Conflict{Guard: Guard{Condition: "known"}, Revision: revision}
}
