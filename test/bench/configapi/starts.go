package configapi

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/contrail-mesos/contrail/test/bench/internal/process"
	"github.com/contrail-mesos/contrail/test/bench/internal/report"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// bareStart is the start of an etcd and the reading of all its keys.
	bareStart = "etcd-start"
	// memoryLimit is what store and API together may use, in MiB.
	memoryLimit     = 500
	memoryLimitName = "500 MiB"
	// objectSize is the length of an object's JSON, in bytes.
	objectSize = 1500
)

// measureStarts measures starts with many objects.
func (b *bench) measureStarts(ctx context.Context) error {
	if err := b.measureStart(ctx, fmt.Sprintf("start%dk", b.objects/1000), b.objects, b.starts, true); err != nil {
		return err
	}
	if b.huge == 0 {
		return nil
	}
	return b.measureStart(ctx, fmt.Sprintf("start%dk", b.huge/1000), b.huge, 1, false)
}

func (b *bench) measureStart(ctx context.Context, name string, objects, rounds int, judged bool) error {
	dir := filepath.Join(b.dir, name)
	data := filepath.Join(dir, "data", "store")
	if err := b.seedStart(ctx, dir, data, objects); err != nil {
		return fmt.Errorf("%s: make objects: %w", name, err)
	}
	for range rounds {
		elapsed, memory, err := b.startOurs(ctx, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		b.samples.Add(name+"/elapsed", ours, elapsed.Seconds())
		b.samples.Add(name+"/rss", ours, memory)
		if elapsed, memory, err = b.startPeer(ctx, dir, data, objects); err != nil {
			return fmt.Errorf("%s of the peer: %w", name, err)
		}
		b.samples.Add(name+"/elapsed", bareStart, elapsed.Seconds())
		b.samples.Add(name+"/rss", bareStart, memory)
		b.samples.Add(name+"/rss", memoryLimitName, memoryLimit)
	}
	targets := map[string]float64{}
	if judged {
		targets[bareStart] = 2
	}
	elapsed := b.samples.Result(name+"/elapsed", ours, "s", "lower", targets)
	elapsed.Case = name + "/elapsed"
	targets = map[string]float64{}
	if judged {
		targets[memoryLimitName] = 1
	}
	memory := b.samples.Result(name+"/rss", ours, "MiB", "lower", targets)
	memory.Case = name + "/rss"
	b.results = append(b.results, elapsed, memory)
	return nil
}

// seedStart makes the data that is started with: half interfaces, half addresses.
func (b *bench) seedStart(ctx context.Context, dir, data string, objects int) (err error) {
	alone, err := startBare(b.binary, filepath.Join(dir, "seed"), data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, alone.Stop()) }()
	_, err = seed(ctx, alone.socket, "many", objects/2, objects/2, objectSize)
	return err
}

// startOurs starts a controller, until the API answers. The memory is what
// store and API have together when that is over.
func (b *bench) startOurs(ctx context.Context, dir string) (took time.Duration, memory float64, err error) {
	began := time.Now()
	c, err := startController(b.binary, dir)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := c.ready(ctx); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	memory, err = settled(func() (int64, error) {
		children, err := c.Children()
		if err != nil {
			return 0, err
		}
		return together(children["store"], children["config"])
	})
	return took, memory, err
}

// startPeer starts an etcd alone and reads all its keys.
func (b *bench) startPeer(ctx context.Context, dir, data string, objects int) (took time.Duration, memory float64, err error) {
	began := time.Now()
	alone, err := startBare(b.binary, filepath.Join(dir, "peer"), data)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, alone.Stop()) }()
	client, err := dial(ctx, alone.socket)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	if err := readAll(ctx, client, objects); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	memory, err = settled(func() (int64, error) { return together(alone.Cmd.Process.Pid) })
	return took, memory, err
}

// readAll reads all keys the plainest way: in one answer, or where that would
// be gigabytes as a stream, as ours does.
func readAll(ctx context.Context, client *clientv3.Client, objects int) error {
	if objects <= mostAtOnce {
		_, err := client.Get(ctx, "\x00", clientv3.WithFromKey())
		return err
	}
	chunks, err := client.GetStream(ctx, "\x00", clientv3.WithFromKey())
	if err != nil {
		return err
	}
	for chunk := range chunks {
		if err == nil {
			err = chunk.Err()
		}
	}
	return err
}

// mostAtOnce is of how many objects all keys fit into one answer.
const mostAtOnce = 200_000

func together(pids ...int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		n, err := process.Anonymous(pid)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// settling is how long after a start its memory is looked at, for a while.
const settling = 5 * time.Second

// settled is the memory that is in use when the start is over, in MiB.
func settled(look func() (int64, error)) (float64, error) {
	time.Sleep(settling)
	var samples []float64
	for range 20 {
		n, err := look()
		if err != nil {
			return 0, err
		}
		samples = append(samples, float64(n)/(1<<20))
		time.Sleep(50 * time.Millisecond)
	}
	return report.Median(samples), nil
}
