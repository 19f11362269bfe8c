package store

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// A transaction with many guards costs no more requests to explain than one
// with few: after an election many are explained at once.
func TestExplainAsksOnce(t *testing.T) {
	st := startServer(t).open("/x/")
	x := st.Txn()
	x.Put("agent/last", nil)
	commit(t, x)
	for _, allowed := range []int{MaxOps, 50} { // at once, and in parts
		st.maxOps = allowed
		x = st.Txn()
		x.Put("agent/new", nil)
		for i := range min(200, allowed-1) {
			x.Guard(Guard{Condition: Absent, Key: Key(fmt.Sprintf("agent/%d", i))})
		}
		x.Guard(Guard{Condition: Absent, Key: "agent/last"})
		before := requests(t, st)
		_, err := x.Commit(t.Context())
		var conflict *Conflict
		if !errors.As(err, &conflict) || conflict.Guard.Key != "agent/last" {
			t.Fatalf("%v, want a conflict over agent/last", err)
		}
		if n := requests(t, st) - before; n > 3 {
			t.Errorf("%d requests for a transaction that was refused, of at most %d operations", n, allowed)
		}
	}
}

// Whose time is over when he is refused learns the fence nevertheless: else
// every later transaction would be refused for it, each after its own time.
func TestFenceIsLearnedLate(t *testing.T) {
	st := startServer(t).open("/x/")
	old := st.fence.Load()
	raised, err := st.raise()
	if err != nil {
		t.Fatal(err)
	}
	st.fence.Store(old) // the answer was lost
	x := st.Txn()
	x.Put("agent/a", nil)
	x.Guard(Guard{Condition: Absent, Key: "agent/b"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var conflict *Conflict
	if err := x.explain(ctx, raised.revision, old); !errors.As(err, &conflict) || conflict.Guard.Key.Space() != SpaceFence {
		t.Errorf("%v, want a conflict over the fence", err)
	}
	if now := st.fence.Load(); now != raised.revision {
		t.Errorf("the fence is taken for %d, it is %d", now, raised.revision)
	}
	x = st.Txn()
	x.Put("agent/a", nil)
	commit(t, x)
}

// requests counts what was asked of etcd so far.
func requests(t *testing.T, st *Store) (n uint64) {
	t.Helper()
	collected := make(chan prometheus.Metric, 100)
	st.Metrics().Collect(collected)
	close(collected)
	for m := range collected {
		var out dto.Metric
		if err := m.Write(&out); err != nil {
			t.Fatal(err)
		}
		n += out.GetHistogram().GetSampleCount()
	}
	return n
}
