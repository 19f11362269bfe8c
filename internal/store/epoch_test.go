package store

import (
	"errors"
	"maps"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// waitEpoch waits until the store's followers are in another epoch.
func waitEpoch(t *testing.T, over <-chan struct{}) {
	t.Helper()
	select {
	case <-over:
	case <-time.After(time.Minute):
		t.Fatal("the epoch did not end")
	}
}

func TestRestoreInPlace(t *testing.T) {
	srv := startServer(t)
	st := srv.open("/e/")
	x := st.Txn()
	x.Put("obj/a/1", []byte("old"))
	rev := commit(t, x)
	f := newShadow()
	follow(t, st, f)
	f.waitFor(t, rev)
	epoch, over := st.Era()
	if epoch != 1 {
		t.Errorf("epoch %d, want 1", epoch)
	}

	stale := st.Txn()
	stale.Put("obj/a/1", []byte("decided before the restore"))
	if _, err := st.client.Txn(t.Context()).Then(
		clientv3.OpPut(st.path(EpochKey), "7"), clientv3.OpDelete(st.path("obj/a/1")), clientv3.OpPut(st.path("obj/a/2"), "new"),
	).Commit(); err != nil {
		t.Fatal(err)
	}
	waitEpoch(t, over)
	if st.Epoch() != 7 || f.epoch != 7 || f.resets != 2 {
		t.Errorf("epoch %d, the follower's %d after %d resets, want 7 after 2", st.Epoch(), f.epoch, f.resets)
	}
	if want, got := (map[Key]string{"obj/a/2": "new"}), f.snapshot(); !maps.Equal(got, want) {
		t.Errorf("follower has %v, want %v", got, want)
	}
	if _, err := stale.Commit(t.Context()); !errors.Is(err, ErrNewEpoch) {
		t.Errorf("error %v, want ErrNewEpoch", err)
	}
	x = st.Txn()
	x.Put("obj/a/3", []byte("newer"))
	f.waitFor(t, commit(t, x))
}

// A store that was made anew from a backup begins with revisions that a
// follower has seen already in another history.
func TestRestoreOfTheDataDirectory(t *testing.T) {
	srv := startServer(t)
	st := srv.open("/e/")
	var rev int64
	for range 50 {
		x := st.Txn()
		x.Put("obj/a/1", []byte("old"))
		rev = commit(t, x)
	}
	f := newShadow()
	follow(t, st, f)
	f.waitFor(t, rev)
	_, over := st.Era()

	srv.stop()
	if err := os.RemoveAll(srv.cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	srv.start()
	if _, err := st.client.Txn(t.Context()).Then(
		clientv3.OpPut(st.path(EpochKey), "2"), clientv3.OpPut(st.path("obj/a/2"), "new"),
	).Commit(); err != nil {
		t.Fatal(err)
	}
	waitEpoch(t, over)
	if want, got := (map[Key]string{"obj/a/2": "new"}), f.snapshot(); st.Epoch() != 2 || !maps.Equal(got, want) {
		t.Errorf("epoch %d, follower has %v, want 2 and %v", st.Epoch(), got, want)
	}
	x := st.Txn()
	x.Put("obj/a/3", []byte("newer"))
	f.waitFor(t, commit(t, x))
}
