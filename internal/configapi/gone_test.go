package configapi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/store"
)

// What is written has succeeded, so it is in the audit log, also when its
// caller goes while it is on its way.
func TestWritesOfThoseWhoHaveGone(t *testing.T) {
	b := newBench(t, testConfig())
	const writes = 300
	succeeded := map[store.Key]bool{}
	for i := range writes {
		k := store.AgentKey(fmt.Sprintf("gone-%d", i))
		ctx, cancel := context.WithCancel(b.ctx())
		timer := time.AfterFunc(rand.N(2*time.Millisecond), cancel)
		_, err := b.api.write(ctx, audit{"test", string(k)}, func(c *change) error {
			c.Create(k, []byte(`"x"`))
			return nil
		})
		timer.Stop()
		cancel()
		succeeded[k] = err == nil
	}
	there := b.dump()
	for k, ok := range succeeded {
		if _, written := there[k]; written != ok {
			t.Errorf("%s is written: %v; its write succeeded: %v", k, written, ok)
		}
	}
}
