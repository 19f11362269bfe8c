package configapi

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/contrail-mesos/contrail/test/bench/internal/report"
)

// operation is one request of a client, or what one action needs of them. n is
// different for every call of a run.
type operation func(ctx context.Context, n int64) error

// errEnough ends the work of the client that meets it.
var errEnough = errors.New("enough")

// speed is what a number of clients reached together.
type speed struct {
	rate float64 // operations per second
	p50  float64 // milliseconds
	p99  float64
}

// drive has clients work side by side for a while, each as fast as it gets
// answers. counter numbers the operations on from where it stands.
func drive(ctx context.Context, clients int, length time.Duration, counter *atomic.Int64, do operation) (speed, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make([][]float64, clients)
	began := time.Now()
	var working sync.WaitGroup
	for c := range clients {
		working.Go(func() {
			for ctx.Err() == nil && time.Since(began) < length {
				sent := time.Now()
				err := do(ctx, counter.Add(1))
				if errors.Is(err, errEnough) {
					return
				}
				if err != nil {
					cancel(err)
					return
				}
				took[c] = append(took[c], float64(time.Since(sent).Microseconds())/1000)
			}
		})
	}
	working.Wait()
	elapsed := time.Since(began).Seconds()
	if ctx.Err() != nil {
		return speed{}, context.Cause(ctx)
	}
	var all []float64
	for _, list := range took {
		all = append(all, list...)
	}
	return speed{
		rate: float64(len(all)) / elapsed,
		p50:  report.Percentile(all, 50),
		p99:  report.Percentile(all, 99),
	}, nil
}
