package configapi

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// fillStep is how many ports ours and the peer get in turn.
const fillStep = 500

// filling is a network that fills, and a bare etcd that fills alike.
type filling struct {
	api         *controller
	alone       *bare
	store, bare *clientv3.Client
	node        string
	// ports is how many there are in both.
	ports  int
	replay operation
}

// measureFill measures whether the rate stays while one network fills: the
// last tenth of its ports next to the first, in per cent. That of a bare etcd
// falls too, since its index grows.
func (b *bench) measureFill(ctx context.Context) (err error) {
	name := fmt.Sprintf("fill%dk", b.fill/1000)
	f, err := startFilling(ctx, b.binary, filepath.Join(b.dir, name))
	if err != nil {
		return errors.Join(err, f.stop())
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	tenth := b.fill / 10
	detachEmpty, err := f.detachSome(ctx, tenth)
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	var first, last fillRates
	for part := range 10 {
		rates, err := f.add(ctx, tenth)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if last = rates; part == 0 {
			first = rates
		}
	}
	detachFull, err := f.detachSome(ctx, tenth)
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	for i, variant := range []string{ours, peer} {
		b.samples.Add(name+"/first", variant, first[i])
		b.samples.Add(name+"/last", variant, last[i])
		b.samples.Add(name, variant, 100*last[i]/first[i])
	}
	b.samples.Add(name+"/detach", ours, detachFull)
	b.samples.Add(name+"/detach", "when empty", detachEmpty)
	b.add(name+"/first", "1/s", "higher", 0)
	b.add(name+"/last", "1/s", "higher", 0)
	b.samples.Add(name, "first tenth", 100)
	flat := b.samples.Result(name, ours, "%", "higher", map[string]float64{"first tenth": 0.9})
	flat.Case = name
	b.results = append(b.results, flat)
	b.add(name+"/detach", "1/s", "higher", 0)
	return nil
}

func startFilling(ctx context.Context, binary, dir string) (*filling, error) {
	f := &filling{}
	var err error
	if f.api, err = startController(binary, filepath.Join(dir, "c")); err != nil {
		return f, err
	}
	if f.alone, err = startBare(binary, filepath.Join(dir, "e"), filepath.Join(dir, "e", "data")); err != nil {
		return f, err
	}
	if err := f.api.ready(ctx); err != nil {
		return f, err
	}
	if f.store, err = dial(ctx, f.api.storeSocket()); err != nil {
		return f, err
	}
	if f.bare, err = dial(ctx, f.alone.socket); err != nil {
		return f, err
	}
	if _, err := f.api.makePlace(ctx, "filled"); err != nil {
		return f, err
	}
	if f.node, err = f.api.join(ctx); err != nil {
		return f, err
	}
	attached, err := record(ctx, f.store, func() error { return f.attach()(ctx, 0) })
	f.replay = replay(f.bare, attached)
	return f, err
}

func (f *filling) stop() error {
	var errs []error
	for _, client := range []*clientv3.Client{f.store, f.bare} {
		if client != nil {
			errs = append(errs, client.Close())
		}
	}
	if f.alone != nil {
		errs = append(errs, f.alone.Stop())
	}
	return errors.Join(append(errs, f.api.stop())...)
}

func (f *filling) attach() operation { return f.api.attach(f.node, "filled", "net") }

// fillRates are ours and the peer's.
type fillRates [2]float64

// add fills both by a number of ports.
func (f *filling) add(ctx context.Context, ports int) (fillRates, error) {
	var took [2]time.Duration
	for done := 0; done < ports; {
		step := min(fillStep, ports-done)
		for i, do := range []operation{f.attach(), f.replay} {
			elapsed, err := amount(ctx, f.ports+1, step, do)
			if err != nil {
				return fillRates{}, err
			}
			took[i] += elapsed
		}
		done += step
		f.ports += step
	}
	return fillRates{float64(ports) / took[0].Seconds(), float64(ports) / took[1].Seconds()}, nil
}

// detachSome attaches some ports and detaches them again, of which it returns
// the rate.
func (f *filling) detachSome(ctx context.Context, ports int) (float64, error) {
	from := 1<<30 + f.ports // others than those that stay
	if _, err := amount(ctx, from, ports, f.attach()); err != nil {
		return 0, err
	}
	elapsed, err := amount(ctx, from, ports, f.api.detach(f.node))
	return float64(ports) / elapsed.Seconds(), err
}

// amount has 16 clients do something a number of times, numbered on from a
// number, and returns how long it took.
func amount(ctx context.Context, from, times int, do operation) (time.Duration, error) {
	var counter atomic.Int64
	began := time.Now()
	_, err := drive(ctx, 16, time.Hour, &counter, func(ctx context.Context, n int64) error {
		if n > int64(times) {
			return errEnough
		}
		return do(ctx, int64(from)+n-1)
	})
	return time.Since(began), err
}
