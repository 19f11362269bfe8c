package configapi

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// measureFill measures whether the rate stays while one network fills: the
// last tenth of its ports next to the first.
func (b *bench) measureFill(ctx context.Context) error {
	if b.fill == 0 {
		return nil
	}
	name := fmt.Sprintf("fill%dk", b.fill/1000)
	if _, err := b.api.makePlace(ctx, "filled"); err != nil {
		return err
	}
	attach := b.api.attach(b.node, "filled", "net")
	part := b.fill / 10
	var rates []float64
	for range 10 {
		rate, err := amount(ctx, part, attach)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		rates = append(rates, rate)
	}
	b.samples.Add(name, ours, rates[9])
	b.samples.Add(name, "first tenth", rates[0])
	b.add(name, "1/s", "higher", 0.9)
	return nil
}

// amount has 16 clients do something a number of times, and returns the rate.
func amount(ctx context.Context, times int, do operation) (float64, error) {
	var counter atomic.Int64
	began := time.Now()
	_, err := drive(ctx, 16, time.Hour, &counter, func(ctx context.Context, n int64) error {
		if n > int64(times) {
			return errEnough
		}
		return do(ctx, n)
	})
	if err != nil {
		return 0, err
	}
	return float64(times) / time.Since(began).Seconds(), nil
}
