package configapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// bareWatch is a watch of etcd's client.
const bareWatch = "etcd-watch"

// measureWatch measures the way of a write, from its sending until a process
// that follows the store has it, as control does; and that of a bare put to a
// bare watch.
func (b *bench) measureWatch(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	log := slog.New(slog.DiscardHandler)
	s, err := store.Open(ctx, log, store.Config{Endpoints: []string{"unix://" + b.api.storeSocket()}})
	if err != nil {
		cancel()
		return err
	}
	graph := model.NewGraph()
	followed := make(chan error, 1)
	go func() { followed <- s.Follow(ctx, store.Into(log, graph)) }()
	defer func() {
		cancel()
		<-followed
		err = errors.Join(err, s.Close())
	}()
	if err := graph.WaitFor(ctx, 1); err != nil {
		return err
	}
	events := b.bare.Watch(ctx, "/watched/", clientv3.WithPrefix())
	for round := range b.rounds + 1 {
		if err := b.watchRound(ctx, graph, events, round > 0); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
	}
	b.addLatency("watch", 3)
	return nil
}

// watchRound sends writes one after the other, each when the last has arrived.
func (b *bench) watchRound(ctx context.Context, graph *model.Graph, events clientv3.WatchChan, counts bool) error {
	watcher := graph.Subscribe()
	defer watcher.Close()
	if _, err := watcher.Next(ctx); err != nil {
		return err
	}
	value := string(make([]byte, 500))
	for range b.watched {
		n := b.counter.Add(1)
		took, err := delivered(ctx, func() error {
			_, err := b.api.create(ctx, "virtual-machine", fmt.Sprintf(`{"fq_name": ["watched-%d"]}`, n))
			return err
		}, func() error { return nextObject(ctx, watcher) })
		if err != nil {
			return err
		}
		bare, err := delivered(ctx, func() error {
			_, err := b.bare.Put(ctx, fmt.Sprint("/watched/", n), value)
			return err
		}, func() error {
			response, ok := <-events
			if !ok {
				return errors.New("the watch ended")
			}
			return response.Err()
		})
		if err != nil {
			return err
		}
		if counts {
			b.samples.Add("watch", ours, took)
			b.samples.Add("watch", bareWatch, bare)
		}
	}
	return nil
}

// nextObject waits for the change of an object.
func nextObject(ctx context.Context, watcher *model.Subscription) error {
	for {
		changes, err := watcher.Next(ctx)
		if err != nil || len(changes.Objects) > 0 {
			return err
		}
	}
}

// delivered is how long after the beginning of a write its watcher has it, in
// milliseconds. It returns when both are done.
func delivered(ctx context.Context, write, watch func() error) (float64, error) {
	began := time.Now()
	written := make(chan error, 1)
	go func() { written <- write() }()
	seen := make(chan error, 1)
	var took time.Duration
	go func() {
		err := watch()
		took = time.Since(began)
		seen <- err
	}()
	if err := <-written; err != nil {
		return 0, err
	}
	select {
	case err := <-seen:
		return float64(took.Nanoseconds()) / 1e6, err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
