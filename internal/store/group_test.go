package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"pgregory.net/rapid"
)

// held keeps all transactions of a store waiting.
type held struct {
	t  rapid.TB
	st *Store
	wg sync.WaitGroup
}

func hold(t rapid.TB, st *Store) *held {
	st.groups.mu.Lock()
	st.groups.flying++
	st.groups.mu.Unlock()
	return &held{t: t, st: st}
}

// result is what a commit returned.
type result struct {
	revision int64
	err      error
}

// commit begins a commit and returns when it waits.
func (h *held) commit(ctx context.Context, x *Txn) *result {
	before := h.waiting()
	r := &result{}
	h.wg.Go(func() { r.revision, r.err = x.Commit(ctx) })
	for deadline := time.Now().Add(time.Minute); h.waiting() == before; time.Sleep(50 * time.Microsecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("the transaction does not wait; %d do", before)
		}
	}
	return r
}

func (h *held) waiting() int {
	h.st.groups.mu.Lock()
	defer h.st.groups.mu.Unlock()
	return len(h.st.groups.waiting)
}

// release lets all go and returns when they have been answered.
func (h *held) release() {
	h.st.groups.next()
	h.wg.Wait()
}

func stateOf(t rapid.TB, st *Store, under Key) map[Key]string {
	resp, err := st.client.Get(context.Background(), st.path(under), clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	state := map[Key]string{}
	for _, kv := range resp.Kvs {
		state[st.key(kv.Key)] = string(kv.Value)
	}
	return state
}

// Transactions that go together happen or not each by itself.
func TestGroup(t *testing.T) {
	st := startServer(t).open("/g/")
	first := st.Txn()
	first.Create("agent/there", []byte("x"))
	commit(t, first)
	put := func(k Key, guards ...Guard) *Txn {
		x := st.Txn()
		for _, g := range guards {
			x.Guard(g)
		}
		x.Put(k, []byte(k))
		return x
	}
	leased := st.Txn()
	leased.PutLeased("tomb/late", nil, 4711)
	h := hold(t, st)
	a := h.commit(t.Context(), put("agent/a", Guard{Condition: Present, Key: "agent/there"}))
	b := h.commit(t.Context(), put("agent/b", Guard{Condition: Present, Key: "agent/missing"}))
	c := h.commit(t.Context(), put("agent/c"))
	again := h.commit(t.Context(), put("agent/a"))                                                 // what a writes
	after := h.commit(t.Context(), put("agent/d", Guard{Condition: Absent, Key: "agent/c"}))       // what c writes
	below := h.commit(t.Context(), put("agent/e", Guard{Condition: RangeEmpty, Key: "agent/a"}))   // what a writes
	into := h.commit(t.Context(), put("agent/missing"))                                            // what b has a guard on
	last := h.commit(t.Context(), put("agent/f", Guard{Condition: RangeEmpty, Key: "agent/none"})) // nobody's
	h.release()
	for name, r := range map[string]*result{"a": a, "c": c, "f": last, "a again": again, "what b wants": into} {
		if r.err != nil {
			t.Errorf("%s: %v", name, r.err)
		}
	}
	if a.revision != c.revision || a.revision != last.revision {
		t.Errorf("revisions %d, %d and %d, want one", a.revision, c.revision, last.revision)
	}
	if again.revision <= a.revision || into.revision <= a.revision {
		t.Errorf("revisions %d and %d of what has to come after %d", again.revision, into.revision, a.revision)
	}
	for key, r := range map[Key]*result{"agent/missing": b, "agent/c": after, "agent/a": below} {
		var conflict *Conflict
		if !errors.As(r.err, &conflict) || conflict.Guard.Key != key {
			t.Errorf("%v, want a conflict over %s", r.err, key)
		}
	}

	h = hold(t, st)
	good, bad, fine := h.commit(t.Context(), put("agent/g")), h.commit(t.Context(), leased), h.commit(t.Context(), put("agent/h"))
	h.release()
	if good.err != nil || fine.err != nil || !errors.Is(bad.err, ErrLeaseGone) {
		t.Errorf("beside one whose lease is gone (%v): %v, %v", bad.err, good.err, fine.err)
	}
}

// A guard that all of them have is met by all of them.
func TestGroupSharesGuards(t *testing.T) {
	st := startServer(t).open("/g/")
	for _, there := range []bool{false, true} {
		h := hold(t, st)
		var all []*result
		for i := range 3 {
			x := st.Txn()
			x.Guard(Guard{Condition: Present, Key: "agent/there"})
			x.Create(Key(fmt.Sprintf("agent/%d", i)), nil)
			all = append(all, h.commit(t.Context(), x))
		}
		h.release()
		for i, r := range all {
			var conflict *Conflict
			if missed := errors.As(r.err, &conflict) && conflict.Guard.Key == "agent/there"; missed == there || there && r.err != nil {
				t.Errorf("transaction %d, what all need exists %v: %v", i, there, r.err)
			}
		}
		x := st.Txn()
		x.Put("agent/there", nil)
		commit(t, x)
	}
}

// A transaction that is not waited for any more is never sent.
func TestGroupWithoutOneThatLeft(t *testing.T) {
	st := startServer(t).open("/g/")
	h := hold(t, st)
	ctx, cancel := context.WithCancel(t.Context())
	x, other := st.Txn(), st.Txn()
	x.Put("agent/x", nil)
	other.Put("agent/other", nil)
	gone := h.commit(ctx, x)
	stayed := h.commit(t.Context(), other)
	cancel()
	for deadline := time.Now().Add(time.Minute); h.waiting() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait, want 1", h.waiting())
		}
	}
	h.release()
	if stayed.err != nil || !errors.Is(gone.err, ErrUnknown) {
		t.Errorf("got %v and %v, want success and %v", stayed.err, gone.err, ErrUnknown)
	}
	if revision, err := x.Settle(t.Context(), 1); revision != 0 || err != nil {
		t.Errorf("settled at %d (%v), want 0", revision, err)
	}
	if state := stateOf(t, st, "agent/"); len(state) != 1 {
		t.Errorf("the store has %v, want agent/other alone", state)
	}
}

// A fence that is raised while transactions are on their way stops all of them,
// and they find out.
func TestFenceStopsGroup(t *testing.T) {
	st := startServer(t).open("/g/")
	h := hold(t, st)
	var all []*result
	for i := range 3 {
		x := st.Txn()
		x.Put(Key(fmt.Sprintf("agent/%d", i)), nil)
		all = append(all, h.commit(t.Context(), x))
	}
	old := st.fence.Load()
	if _, err := st.raise(); err != nil {
		t.Fatal(err)
	}
	st.fence.Store(old) // as if they had been taken before
	h.release()
	for i, r := range all {
		var conflict *Conflict
		if !errors.As(r.err, &conflict) || conflict.Guard.Key.Space() != SpaceFence {
			t.Errorf("transaction %d: %v, want a conflict over the fence", i, r.err)
		}
	}
	if state := stateOf(t, st, "agent/"); len(state) != 0 {
		t.Errorf("the store has %v", state)
	}
}

// One that is not answered does not keep others waiting for ever.
func TestGroupPassesTheSilent(t *testing.T) {
	st := startServer(t).open("/g/")
	h := hold(t, st)
	answered := st.groups.hold()
	x := st.Txn()
	x.Put("agent/x", nil)
	commit(t, x)
	answered()
	answered()
	if h.waiting() != 0 || st.groups.flying != 0 {
		t.Errorf("%d wait, %d are under way; want none", h.waiting(), st.groups.flying)
	}
}

// Those that go alone, however many, are not what others wait for.
func TestGroupPassesTheLarge(t *testing.T) {
	st := startServer(t).open("/g/")
	var large sync.WaitGroup
	done := make(chan struct{})
	for i := range 4 {
		large.Go(func() {
			for range 10 {
				x := st.Txn()
				x.Put(Key(fmt.Sprintf("agent/%d", i)), make([]byte, memberBytes))
				if _, err := x.Commit(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		defer close(done)
		large.Wait()
	}()
	for {
		st.groups.mu.Lock()
		flying := st.groups.flying
		st.groups.mu.Unlock()
		if flying != 0 {
			t.Errorf("others wait for %d", flying)
		}
		select {
		case <-done:
			return
		case <-time.After(100 * time.Microsecond):
		}
		if t.Failed() {
			<-done
			return
		}
	}
}

// Keys count, too: what goes together is bounded however long they are.
func TestSizeOfKeys(t *testing.T) {
	x := startServer(t).open("/g/").Txn()
	for i := range memberOps {
		k := Key(fmt.Sprintf("fq/%0*d", 1000, i))
		x.Guard(Guard{Condition: Absent, Key: k})
		x.Delete(k)
	}
	if x.fitsGroup() {
		t.Errorf("%d bytes go together with others", x.size)
	}
}

// act is a transaction of a property test.
type act struct {
	guards  []Guard
	puts    []Key
	deletes []Key
}

// naive is a store as simple as can be.
type naive struct {
	state map[Key]string
	// fresh are the keys written since all transactions were decided.
	fresh map[Key]bool
}

func (n *naive) holds(g Guard) bool {
	_, there := n.state[g.Key]
	switch g.Condition {
	case Absent:
		return !there
	case Present:
		return there
	case NotSince:
		return !there || !n.fresh[g.Key]
	}
	for k := range n.state {
		if strings.HasPrefix(string(k), string(g.Key)) && (g.Condition == RangeEmpty || n.fresh[k]) {
			return false
		}
	}
	return true
}

func (n *naive) do(a act, value string) bool {
	for _, g := range a.guards {
		if !n.holds(g) {
			return false
		}
	}
	for _, k := range a.deletes {
		delete(n.state, k)
	}
	for _, k := range a.puts {
		n.state[k], n.fresh[k] = value, true
	}
	return true
}

// explained tells whether one after the other, in some order, the rest would
// have had these results and left this state.
func (n *naive) explained(acts []act, rest []int, held []bool, want map[Key]string) bool {
	if len(rest) == 0 {
		return maps.Equal(n.state, want)
	}
	for at, i := range rest {
		next := &naive{maps.Clone(n.state), maps.Clone(n.fresh)}
		if next.do(acts[i], fmt.Sprint(i)) == held[i] &&
			next.explained(acts, slices.Delete(slices.Clone(rest), at, at+1), held, want) {
			return true
		}
	}
	return false
}

// Whatever goes together, it is as if it had happened one after the other.
func TestGroupsAreSerial(t *testing.T) {
	st := startServer(t).open("/g/")
	keys := []Key{"agent/a/1", "agent/a/2", "agent/b/1", "agent/b/2"}
	ranges := []Key{"agent/a/", "agent/b/", "agent/"}
	rapid.Check(t, func(t *rapid.T) {
		clean := st.Txn()
		for _, k := range keys {
			if rapid.Bool().Draw(t, "exists") {
				clean.Put(k, []byte("old"))
			} else {
				clean.Delete(k)
			}
		}
		since, err := clean.Commit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		start := &naive{state: stateOf(t, st, "agent/"), fresh: map[Key]bool{}}
		h := hold(t, st)
		var acts []act
		var results []*result
		for i := range rapid.IntRange(1, 5).Draw(t, "transactions") {
			x, a := st.Txn(), act{}
			for range rapid.IntRange(0, 2).Draw(t, "guards") {
				g := Guard{Condition: rapid.SampledFrom([]Condition{Absent, Present, NotSince, RangeEmpty, RangeUnchanged}).Draw(t, "condition")}
				if g.ofRange() {
					g.Key = rapid.SampledFrom(ranges).Draw(t, "range")
				} else {
					g.Key = rapid.SampledFrom(keys).Draw(t, "guarded")
				}
				if g.Condition == NotSince || g.Condition == RangeUnchanged {
					g.Revision = since
				}
				a.guards = append(a.guards, g)
				x.Guard(g)
			}
			for _, k := range rapid.SliceOfNDistinct(rapid.SampledFrom(keys), 1, 2, rapid.ID).Draw(t, "written") {
				if rapid.Bool().Draw(t, "put") {
					a.puts = append(a.puts, k)
					x.Put(k, []byte(fmt.Sprint(i)))
				} else {
					a.deletes = append(a.deletes, k)
					x.Delete(k)
				}
			}
			acts = append(acts, a)
			results = append(results, h.commit(t.Context(), x))
		}
		h.release()
		held, rest := make([]bool, len(acts)), make([]int, len(acts))
		for i, r := range results {
			var conflict *Conflict
			if held[i], rest[i] = r.err == nil, i; r.err != nil && !errors.As(r.err, &conflict) {
				t.Fatal(r.err)
			}
		}
		if got := stateOf(t, st, "agent/"); !start.explained(acts, rest, held, got) {
			t.Fatalf("no order explains %v\nfrom %v\nto %v\nby %+v", held, start.state, got, acts)
		}
	})
}
