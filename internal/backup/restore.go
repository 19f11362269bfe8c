package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

const (
	// stepKeys and stepBytes bound one transaction: the store answers others
	// between two of them, and refuses requests of more than 1.5 MiB. A key takes
	// two operations at most, and an etcd that nobody told otherwise allows 128.
	stepKeys  = 50
	stepBytes = 512 << 10
)

// Options of a restore.
type Options struct {
	// Rest is how long what was in use before the restore is not given out.
	Rest time.Duration
	Log  *slog.Logger
}

// Result of a restore.
type Result struct {
	Epoch   uint64   `json:"epoch"`
	Keys    int      `json:"keys"`
	Removed int      `json:"removed"`
	Awaited []string `json:"awaited"`
	// Quiet: nobody knows what was released lately, so that nothing is
	// allocated for as long as a rest takes.
	Quiet bool `json:"quiet"`
}

// Restore replaces what a store holds by a dump, which it reads twice: nothing
// is changed before it was found to be whole. When it fails halfway the store
// stays closed, and Restore is to be called again.
func Restore(ctx context.Context, s *store.Store, dump io.ReadSeeker, o Options) (Result, error) {
	summary, err := Verify(dump)
	if err != nil {
		return Result{}, err
	}
	if _, err := dump.Seek(0, io.SeekStart); err != nil {
		return Result{}, fmt.Errorf("read the dump again: %w", err)
	}
	r := newRestorer(s, o)
	if err := r.close(ctx, summary); err != nil {
		return Result{}, fmt.Errorf("close the store: %w", err)
	}
	if err := r.clear(ctx); err != nil {
		return Result{}, fmt.Errorf("clear the store: %w; run the restore again, the store is closed until then", err)
	}
	if err := r.fill(ctx, dump); err != nil {
		return Result{}, fmt.Errorf("fill the store: %w; run the restore again, the store is closed until then", err)
	}
	if err := r.await(ctx); err != nil {
		return Result{}, fmt.Errorf("open the store: %w; run the restore again, the store is closed until then", err)
	}
	return r.result, nil
}

// restorer is one run of a restore.
type restorer struct {
	store *store.Store
	log   *slog.Logger
	rest  time.Duration

	state store.RestoreState
	// revision at which the state was written: another run would change it.
	revision int64
	// leases by the seconds that they are to last.
	leases map[int64]sharedLease
	// nodes that have to report, by UUID: those of the store, and those of the dump.
	nodes  map[string]string
	result Result
}

func newRestorer(s *store.Store, o Options) *restorer {
	return &restorer{store: s, log: o.Log, rest: o.Rest, leases: map[int64]sharedLease{}, nodes: map[string]string{}}
}

// step is a transaction that only this run may make.
func (r *restorer) step() *store.Txn {
	t := r.store.Txn()
	t.In(r.result.Epoch)
	t.Guard(store.Guard{Condition: store.Unchanged, Key: store.RestoreStateKey, Revision: r.revision})
	return t
}

var errOvertaken = errors.New("another restore has begun meanwhile")

func (r *restorer) commit(ctx context.Context, t *store.Txn) error {
	_, err := t.Commit(ctx)
	var conflict *store.Conflict
	if errors.As(err, &conflict) || errors.Is(err, store.ErrNewEpoch) {
		return errOvertaken
	}
	return err
}

// close begins the new epoch.
func (r *restorer) close(ctx context.Context, dump Summary) error {
	before, at, err := r.store.RestoreState(ctx)
	if err != nil {
		return err
	}
	blank := before.Blank
	if before.Phase != store.PhaseRestoring {
		blank, err = r.isBlank(ctx, at)
		if err != nil {
			return err
		}
	}
	r.state = store.RestoreState{
		Phase: store.PhaseRestoring, Run: model.NewUUID(), Began: time.Now().UTC().Truncate(time.Second), Dumped: dump.Created,
		FromEpoch: dump.Epoch, FromRevision: dump.Revision, Blank: blank,
	}
	r.result.Epoch = max(at.Epoch, dump.Epoch) + 1
	value, err := json.Marshal(r.state)
	if err != nil {
		return err
	}
	t := r.store.Txn()
	t.In(at.Epoch)
	t.Put(store.EpochKey, []byte(strconv.FormatUint(r.result.Epoch, 10)))
	t.Put(store.RestoreStateKey, value)
	if r.revision, err = t.Commit(ctx); errors.Is(err, store.ErrNewEpoch) {
		return errOvertaken
	} else if err != nil {
		return err
	}
	r.log.Info("store is closed for a restore", "epoch", r.result.Epoch)
	return nil
}

// isBlank tells whether the store has no nodes.
func (r *restorer) isBlank(ctx context.Context, at model.Position) (bool, error) {
	blank := true
	err := r.store.ScanSpace(ctx, store.SpaceNode, int64(at.Revision), func(entries []store.Entry) error {
		blank = blank && len(entries) == 0
		return nil
	})
	return blank, err
}

// clear removes everything but what rests. What was in use rests from now on,
// and the nodes are kept in mind as awaited ones: a run that comes after a
// crash finds both.
func (r *restorer) clear(ctx context.Context) error {
	t, size := r.step(), 0
	flush := func() error {
		if t.Empty() {
			return nil
		}
		err := r.commit(ctx, t)
		t, size = r.step(), 0
		return err
	}
	err := r.store.Scan(ctx, r.revision, func(entries []store.Entry) error {
		for _, e := range entries {
			if err := r.remove(ctx, t, e); err != nil {
				return err
			}
			if size++; size >= stepKeys {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

func (r *restorer) remove(ctx context.Context, t *store.Txn, e store.Entry) error {
	switch e.Key.Space() {
	case store.SpaceEpoch, store.SpaceRest, store.SpaceTomb, store.SpaceFence, store.SpaceMark, store.SpaceControl:
		return nil
	case store.SpaceRestore:
		return r.removeState(t, e)
	case store.SpaceAddress, store.SpacePrefix, store.SpaceNumber, store.SpaceLabel:
		if r.rest > 0 {
			lease, err := r.lease(ctx, seconds(r.rest))
			if err != nil {
				return err
			}
			t.PutLeased(store.RestKey(e.Key), nil, lease)
		}
	case store.SpaceNode:
		var n model.Node
		if json.Unmarshal(e.Value, &n) == nil && n.UUID != "" {
			if err := r.awaitNode(t, n); err != nil {
				return err
			}
		}
	}
	t.Delete(e.Key)
	r.result.Removed++
	return nil
}

// removeState keeps the nodes that an earlier run, or an earlier restore, was
// waiting for.
func (r *restorer) removeState(t *store.Txn, e store.Entry) error {
	node, conflict := e.Key.ParseRestore()
	switch {
	case node != "":
		var n store.AwaitedNode
		if err := json.Unmarshal(e.Value, &n); err != nil {
			return fmt.Errorf("read %s: %w", e.Key, err)
		}
		return r.awaitNode(t, model.Node{UUID: node, Name: n.Name})
	case conflict != "":
		t.Delete(e.Key)
	}
	return nil
}

// awaitNode has a node awaited, once.
func (r *restorer) awaitNode(t *store.Txn, n model.Node) error {
	if _, known := r.nodes[n.UUID]; known {
		return nil
	}
	value, err := json.Marshal(store.AwaitedNode{Name: n.Name})
	if err != nil {
		return err
	}
	r.nodes[n.UUID] = n.Name
	t.Put(store.AwaitedKey(n.UUID), value)
	return nil
}

// fill writes the dump.
func (r *restorer) fill(ctx context.Context, dump io.Reader) error {
	in, err := NewReader(dump)
	if err != nil {
		return err
	}
	resting, err := r.resting(ctx)
	if err != nil {
		return err
	}
	t, keys, size := r.step(), 0, 0
	flush := func() error {
		if t.Empty() {
			return nil
		}
		err := r.commit(ctx, t)
		t, keys, size = r.step(), 0, 0
		return err
	}
	for {
		record, err := in.Next()
		if errors.Is(err, io.EOF) {
			return flush()
		}
		if err != nil {
			return err // Verify has read it whole: the file was changed meanwhile
		}
		if keys >= stepKeys || keys > 0 && size+len(record.Value) > stepBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		if err := r.put(ctx, t, record, resting); err != nil {
			return err
		}
		keys, size = keys+1, size+len(record.Key)+len(record.Value)
	}
}

// resting are the rests and tombstones that the store has kept.
func (r *restorer) resting(ctx context.Context) (map[store.Key]bool, error) {
	_, at, err := r.store.RestoreState(ctx)
	if err != nil {
		return nil, err
	}
	found := map[store.Key]bool{}
	for _, space := range []store.Space{store.SpaceRest, store.SpaceTomb} {
		err := r.store.ScanSpace(ctx, space, int64(at.Revision), func(entries []store.Entry) error {
			for _, e := range entries {
				found[e.Key] = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (r *restorer) put(ctx context.Context, t *store.Txn, record Record, resting map[store.Key]bool) error {
	k := record.Key
	r.result.Keys++
	switch k.Space() {
	case store.SpaceRest, store.SpaceTomb:
		if resting[k] {
			return nil // released again since the dump: that rest is the longer one
		}
	case store.SpaceAddress, store.SpacePrefix, store.SpaceNumber, store.SpaceLabel:
		if resting[store.RestKey(k)] {
			t.Delete(store.RestKey(k))
		}
	case store.SpaceNode:
		var n model.Node
		if err := json.Unmarshal(record.Value, &n); err == nil && n.UUID != "" {
			if err := r.awaitNode(t, n); err != nil {
				return err
			}
		}
	}
	if record.SecondsLeft == 0 {
		t.Put(k, record.Value)
		return nil
	}
	lease, err := r.lease(ctx, record.SecondsLeft)
	if err != nil {
		return err
	}
	t.PutLeased(k, record.Value, lease)
	return nil
}

// sharedLease is a lease that keys of the next moments get, too.
type sharedLease struct {
	store.Lease
	until time.Time
}

// leaseShared is how long a lease is shared; it lasts so much longer.
const leaseShared = 5 * time.Second

// lease returns a lease that ends in n seconds or a little later, never before.
func (r *restorer) lease(ctx context.Context, n int64) (store.Lease, error) {
	now := time.Now()
	if l, ok := r.leases[n]; ok && now.Before(l.until) {
		return l.Lease, nil
	}
	lease, err := r.store.GrantLease(ctx, n+seconds(2*leaseShared))
	if err != nil {
		return 0, err
	}
	r.leases[n] = sharedLease{lease, now.Add(leaseShared)}
	return lease, nil
}

func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// await ends the restore: what it left is whole, and waits for the nodes.
func (r *restorer) await(ctx context.Context) error {
	r.state.Phase = store.PhaseAwaiting
	r.result.Quiet = r.state.Blank && r.rest > 0
	t := r.step()
	if r.result.Quiet {
		lease, err := r.store.GrantLease(ctx, seconds(r.rest))
		if err != nil {
			return err
		}
		t.PutLeased(store.RestoreQuietKey, nil, lease)
	}
	value, err := json.Marshal(r.state)
	if err != nil {
		return err
	}
	t.Put(store.RestoreStateKey, value)
	if err := r.commit(ctx, t); err != nil {
		return err
	}
	for _, name := range r.nodes {
		r.result.Awaited = append(r.result.Awaited, name)
	}
	return nil
}
