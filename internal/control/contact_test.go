package control

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// distantStore answers or not, and is at a revision.
type distantStore struct {
	away atomic.Bool
	head atomic.Int64
}

func (s *distantStore) Head(ctx context.Context) (int64, error) {
	if s.away.Load() {
		return 0, errors.New("no quorum")
	}
	return s.head.Load(), nil
}

func (s *distantStore) Sync(context.Context) error { return nil }

// A control node that does not hear from the store, or whose graph does not get
// what the store has, says so, and when that is over too.
func TestCutOffIsTold(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Config{CutOff: 60 * time.Millisecond})
	c.twoNodes()
	var store distantStore
	store.head.Store(int64(c.revision))
	ctx, cancel := context.WithCancel(context.Background())
	var proving sync.WaitGroup
	proving.Go(func() { _ = c.server.Prove(ctx, &store) })
	defer proving.Wait()
	defer cancel()

	one := c.agent("n1")
	says := func(want bool) {
		t.Helper()
		one.until("the word whether it is cut off", func() bool { return one.state.cutOff == want })
	}
	store.away.Store(true)
	says(true)
	if _, text := c.get("/metrics"); !strings.Contains(text, "contrail_control_cut_off 1") {
		t.Error("no metric says that it is cut off")
	}
	store.away.Store(false)
	says(false)
	store.head.Add(1)
	says(true)
	c.detach("b0", "blue")
	says(false)
	one.wantSame(c.world, always)
}
