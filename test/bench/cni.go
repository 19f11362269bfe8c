package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// callsPerRound is how many containers each plugin gets in a round.
	callsPerRound = 20
	// parallelCalls is how many at a time in add/10.
	parallelCalls = 10
	referenceDir  = "/usr/lib/cni"
)

// cniCalls measures ADD and DEL of our plugin and of the reference plugins
// bridge and host-local, called in the same way from the same node.
func cniCalls(ctx context.Context, b *bench) error {
	ours, err := b.contrailPlugin(1)
	if err != nil {
		return err
	}
	state := b.Data + "/reference-ipam"
	reference := plugin{
		binary: referenceDir + "/bridge", netns: nsPath(b.Node(1)),
		conf: fmt.Appendf(nil, `{"cniVersion":"0.2.0","name":"reference","type":"bridge","bridge":"ref0","isGateway":true,
			"ipam":{"type":"host-local","subnet":"10.200.0.0/16","dataDir":%q}}`, state),
	}
	plugins := map[string]plugin{"contrail": ours, "bridge": reference}
	for _, parallel := range []int{1, parallelCalls} {
		adds, dels := make(map[string]samples), make(map[string]samples)
		for range b.rounds {
			for _, name := range []string{"contrail", "bridge"} {
				add, del, err := b.measureCalls(ctx, plugins[name], parallel)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				adds[name], dels[name] = append(adds[name], add), append(dels[name], del)
			}
		}
		b.report.add(fmt.Sprintf("add/%d", parallel), "ms", "lower", true, adds["contrail"], []string{"bridge"}, adds)
		if parallel == 1 {
			b.report.add("del/1", "ms", "lower", true, dels["contrail"], []string{"bridge"}, dels)
		}
	}
	return nil
}

// measureCalls gives containers their interface and takes it back, so many at
// a time, and returns how long each call took, in milliseconds.
func (b *bench) measureCalls(ctx context.Context, p plugin, parallel int) (add, del []float64, err error) {
	var u undo
	defer func() { err = errors.Join(err, u.run()) }()
	var calls []call
	for i := range callsPerRound {
		ns, err := b.namespace(ctx, &u, fmt.Sprintf("cni%d", i))
		if err != nil {
			return nil, nil, err
		}
		calls = append(calls, p.call(uuid.NewString(), nsPath(ns)))
	}
	if add, err = timed(ctx, calls, "ADD", parallel); err != nil {
		return nil, nil, err
	}
	del, err = timed(ctx, calls, "DEL", parallel)
	return add, del, err
}

func timed(ctx context.Context, calls []call, command string, parallel int) ([]float64, error) {
	took := make([]float64, len(calls))
	errs := make([]error, len(calls))
	next := make(chan int)
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for i := range next {
				began := time.Now()
				_, errs[i] = calls[i].run(ctx, command)
				took[i] = float64(time.Since(began).Microseconds()) / 1000
			}
		})
	}
	for i := range calls {
		next <- i
	}
	close(next)
	wg.Wait()
	return took, errors.Join(errs...)
}
