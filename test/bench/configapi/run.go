package configapi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/contrail-mesos/contrail/test/bench/internal/process"
	"github.com/contrail-mesos/contrail/test/bench/internal/report"
)

const (
	ours = "contrail"
	// peer is a bare client with transactions of the same keys.
	peer = "etcd-txn"
)

// size is how much a run measures.
type size struct {
	rounds  int
	length  time.Duration // of one variant of a case in one round
	warmUp  time.Duration
	clients []int
	list    int // interfaces in the long list
	short   int // and in the short one
	objects int // when the start is measured
	starts  int // rounds of that
	watched int // writes whose delivery is measured, in one round
	fill    int // ports of the network that fills
	huge    int // objects of the start that is only reported, 0 for none
}

func usual() size {
	s := size{
		rounds: 5, length: 1500 * time.Millisecond, warmUp: time.Second, clients: []int{1, 16, 64},
		list: 10_000, short: 500, objects: 100_000, starts: 3, watched: 200, fill: 20_000,
	}
	if os.Getenv("FULL") == "1" {
		s.huge = 1_000_000
	}
	return s
}

// Run measures the configuration API. rounds is 0 for the default.
func Run(ctx context.Context, rounds int) (*report.Area, error) {
	s := usual()
	if rounds != 0 {
		s.rounds, s.starts = rounds, min(s.starts, rounds)
	}
	return run(ctx, s)
}

// bench is one run.
type bench struct {
	size
	dir, binary string
	samples     report.Samples
	results     []report.Result

	api *controller
	// store is a client of the controller's own etcd, bare one of the peer's.
	store, bare *clientv3.Client
	counter     atomic.Int64
	node        string
	place       *place
	// read is an interface to read.
	read string
}

// placeName is the project whose network the writes go to.
const placeName = "bench"

func run(ctx context.Context, s size) (area *report.Area, err error) {
	b := &bench{size: s, samples: report.NewSamples()}
	if b.dir, err = os.MkdirTemp("", "contrail-bench-configapi-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	area = &report.Area{Area: "configapi", Machine: report.ThisMachine()}
	if b.binary, err = process.Build(ctx, b.dir); err != nil {
		return nil, err
	}
	for _, measure := range []func(context.Context) error{b.measureRunning, b.measureThree, b.measureFill, b.measureStarts} {
		if err := measure(ctx); err != nil {
			return nil, err
		}
	}
	area.Results = b.results
	return area, nil
}

// measureRunning measures what a controller does while it runs.
func (b *bench) measureRunning(ctx context.Context) (err error) {
	if b.api, err = startController(b.binary, filepath.Join(b.dir, "c")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.api.stop()) }()
	alone, err := startBare(b.binary, filepath.Join(b.dir, "e"), filepath.Join(b.dir, "e", "data"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, alone.Stop()) }()
	if err := b.api.ready(ctx); err != nil {
		return fmt.Errorf("start controller: %w", err)
	}
	if b.store, err = dial(ctx, b.api.storeSocket()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.store.Close()) }()
	if b.bare, err = dial(ctx, alone.socket); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.bare.Close()) }()
	if b.place, err = b.api.makePlace(ctx, placeName); err != nil {
		return err
	}
	if b.node, err = b.api.join(ctx); err != nil {
		return err
	}
	if b.read, err = b.api.create(ctx, "virtual-machine-interface", fmt.Sprintf(`{"fq_name": ["default-domain", %q, "read"], "parent_type": "project",
		"virtual_network_refs": [{"uuid": %q}], "virtual_machine_refs": [{"uuid": %q}]}`, placeName, b.place.network, b.place.machine)); err != nil {
		return err
	}
	for _, measure := range []func(context.Context) error{b.measureWrites, b.measureLists, b.measureWatch} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return nil
}

// variant is one way to do what a case measures.
type variant struct {
	name string
	do   operation
}

// rate is a case: what several clients reach together.
type rate struct {
	name    string
	clients int
	// targets are ratios to reach: of rates, and of the p99 of one answer.
	target, targetP99 float64
	variants          []variant
}

// measureWrites measures the writes, and reads of one object beside them.
func (b *bench) measureWrites(ctx context.Context) error {
	classic, attach := b.api.createInterface(placeName, b.place), b.api.attach(b.node, placeName, "net")
	created, err := record(ctx, b.store, func() error { return classic(ctx, b.counter.Add(1)) })
	if err != nil {
		return fmt.Errorf("record create-interface: %w", err)
	}
	attached, err := record(ctx, b.store, func() error { return attach(ctx, 0) })
	if err != nil {
		return fmt.Errorf("record attach: %w", err)
	}
	var rates []rate
	for _, clients := range b.clients {
		for _, w := range []struct {
			name    string
			target  float64
			do      operation
			written []transaction
		}{{"create-interface", 0.3, classic, created}, {"attach", 0.5, attach, attached}} {
			r := rate{name: fmt.Sprintf("%s/%d", w.name, clients), clients: clients, variants: []variant{
				{ours, w.do}, {peer, replay(b.bare, w.written)},
			}}
			if clients == 16 {
				r.target, r.targetP99 = w.target, 5
			}
			rates = append(rates, r)
		}
	}
	rates = append(rates, rate{name: "read/16", clients: 16, target: 10, variants: []variant{
		{ours, b.api.get("/virtual-machine-interface/" + b.read)}, {"create-interface", classic},
	}})
	for _, r := range rates {
		if err := b.measureRate(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}

// measureRate measures a case in rounds.
func (b *bench) measureRate(ctx context.Context, r rate) error {
	for _, v := range r.variants {
		if _, err := drive(ctx, r.clients, b.warmUp, &b.counter, v.do); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
	}
	for range b.rounds {
		for _, v := range r.variants {
			got, err := drive(ctx, r.clients, b.length, &b.counter, v.do)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			b.samples.Add(r.name, v.name, got.rate)
			b.samples.Add(r.name+"/p99", v.name, got.p99)
		}
	}
	b.add(r.name, "1/s", "higher", r.target)
	if r.targetP99 != 0 {
		b.add(r.name+"/p99", "ms", "lower", r.targetP99)
	}
	return nil
}

// add makes the result of a case from its samples. target is the ratio to
// reach against each peer, 0 for none.
func (b *bench) add(name, unit, better string, target float64) *report.Result {
	targets := map[string]float64{}
	for v := range b.samples[name] {
		targets[v] = target
	}
	result := b.samples.Result(name, ours, unit, better, targets)
	result.Case = name
	b.results = append(b.results, result)
	return &b.results[len(b.results)-1]
}

// addLatency is add for latencies of single actions, with their p99.
func (b *bench) addLatency(name string, target float64) {
	result := b.add(name, "ms", "lower", target)
	result.P99 = report.Percentile(b.samples[name][ours], 99)
	for i, a := range result.Against {
		result.Against[i].P99 = report.Percentile(b.samples[name][a.Peer], 99)
	}
}
