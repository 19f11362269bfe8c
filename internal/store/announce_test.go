package store

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// An announced key is there while somebody announces it, whatever becomes of
// its lease, and not after.
func TestAnnounce(t *testing.T) {
	st := startServer(t).open("/c/")
	ctx, cancel := context.WithCancel(t.Context())
	var announcing sync.WaitGroup
	announcing.Go(func() {
		if err := st.Announce(ctx, ControlKey("192.0.2.1:5269"), []byte("{}"), 2*time.Second); !errors.Is(err, context.Canceled) {
			t.Errorf("announcing ended with %v", err)
		}
	})
	defer announcing.Wait()
	defer cancel()
	lease := func(want bool, not Lease) (lease Lease) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			resp, err := st.client.Get(t.Context(), st.path(ControlKey("192.0.2.1:5269")))
			if err != nil {
				t.Fatal(err)
			}
			if len(resp.Kvs) > 0 == want && (!want || Lease(resp.Kvs[0].Lease) != not) {
				if want {
					lease = Lease(resp.Kvs[0].Lease)
				}
				return lease
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d keys, want it there: %t", len(resp.Kvs), want)
			}
		}
	}
	first := lease(true, 0)
	if first == 0 {
		t.Fatal("it has no lease")
	}
	if err := st.EndLeases(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	lease(true, first)
	cancel()
	lease(false, 0)
}
