package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
)

// fillUp overwrites one key until the store refuses it.
func fillUp(t *testing.T, st *Store) {
	t.Helper()
	value := make([]byte, 512<<10)
	for range 200 {
		x := st.Txn()
		x.Put("obj/a/1", value)
		_, err := x.Commit(t.Context())
		if errors.Is(err, ErrFull) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the store is never full")
}

func alarms(t *testing.T, st *Store) []string {
	t.Helper()
	members, err := st.Members(t.Context())
	if err != nil || len(members) != 1 || members[0].Error != "" {
		t.Fatalf("members %+v (%v)", members, err)
	}
	return members[0].Alarms
}

// The documented way back from NOSPACE.
func TestCompactBringsAFullStoreBack(t *testing.T) {
	srv := configuredServer(t, func(c *ServerConfig) { c.Quota = 16 << 20 })
	st := srv.open("/full/")
	fillUp(t, st)
	if got := alarms(t, st); !slices.Contains(got, "NOSPACE") {
		t.Errorf("alarms %v, want NOSPACE", got)
	}
	if _, err := st.Dump(t.Context()); err != nil {
		t.Errorf("reads of a full store: %v", err)
	}
	x := st.Txn()
	x.Put("obj/a/2", []byte("small"))
	if _, err := x.Commit(t.Context()); !errors.Is(err, ErrFull) {
		t.Errorf("error %v, want ErrFull", err)
	}
	var steps []string
	if err := st.Compact(t.Context(), func(step string) { steps = append(steps, step) }); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(steps, "\n"); !strings.Contains(text, "compacted") || !strings.Contains(text, "defragmented") {
		t.Errorf("steps:\n%s", text)
	}
	if got := alarms(t, st); len(got) > 0 {
		t.Errorf("alarms %v after compaction", got)
	}
	x = st.Txn()
	x.Put("obj/a/2", []byte("small"))
	commit(t, x)
}

// Writes slow down, then those that do not delete are refused, before etcd
// refuses all.
func TestWritesStopBeforeTheQuota(t *testing.T) {
	srv := startServer(t)
	st := srv.open("/pace/")
	if err := st.learnStatus(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := st.fill.Load(); f.quota != DefaultQuota || f.used <= 0 || f.percent() >= slowAt {
		t.Errorf("an empty store is filled by %+v", *f)
	}
	vn := &model.VirtualNetwork{}
	vn.Meta = model.Meta{UUID: "11111111-1111-4111-8111-111111111111", FQName: []string{"d", "p", "n"}}
	create := func() (int64, error) {
		x := st.Txn()
		x.CreateObject(vn)
		return x.Commit(t.Context())
	}
	st.fill.Store(&fill{used: 90, quota: 100})
	started := time.Now()
	rev, err := create()
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took < slowest/2 {
		t.Errorf("a write of a store that is 90 %% full took %v, want some more", took)
	}
	st.fill.Store(&fill{used: 96, quota: 100})
	if _, err := create(); !errors.Is(err, ErrFull) {
		t.Errorf("error %v of a store that is 96 %% full, want ErrFull", err)
	}
	x := st.Txn()
	x.DeleteObject(vn, uint64(rev))
	commit(t, x)
}

// A disk that is nearly full stops writes, and they go on when it is not.
func TestFullDiskStopsWrites(t *testing.T) {
	srv := startServer(t)
	st := srv.open("/disk/")
	srv.stop()
	srv.cfg.Reserve = 1 << 60
	srv.start()
	put := func() error {
		x := st.Txn()
		x.Put("obj/a/1", []byte("x"))
		_, err := x.Commit(t.Context())
		return err
	}
	deadline := time.Now().Add(time.Minute)
	for !errors.Is(put(), ErrFull) {
		if time.Now().After(deadline) {
			t.Fatal("writes go on with a full disk")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := srv.open("/disk/").Dump(t.Context()); err != nil {
		t.Errorf("reads by a new client with a full disk: %v", err)
	}
	srv.stop()
	srv.cfg.Reserve = 1
	srv.start()
	deadline = time.Now().Add(time.Minute)
	for put() != nil {
		if time.Now().After(deadline) {
			t.Fatalf("writes do not go on: %v", put())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Whoever is told that the store is full has written nothing, and whoever is
// not has: also those whose requests are on their way while it becomes full.
func TestFullIsTrue(t *testing.T) {
	for range 2 {
		st := configuredServer(t, func(c *ServerConfig) { c.Quota = 16 << 20 }).open("/full/")
		var mu sync.Mutex
		told := map[Key]bool{}
		var writers sync.WaitGroup
		for i := range 16 {
			writers.Go(func() {
				for n := range 200 {
					k := Key(fmt.Sprintf("agent/%d-%d", i, n))
					x := st.Txn()
					x.Create(k, make([]byte, 200<<10))
					_, err := x.Commit(t.Context())
					if err != nil && !errors.Is(err, ErrFull) {
						t.Error(err)
					}
					mu.Lock()
					told[k] = err == nil
					mu.Unlock()
					if err != nil {
						return
					}
				}
			})
		}
		writers.Wait()
		there := stateOf(t, st, "agent/")
		for k, written := range told {
			if _, ok := there[k]; ok != written {
				t.Errorf("%s is there: %v; its writer was told %v", k, ok, written)
			}
		}
	}
}
