package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/testutils"
	"github.com/google/uuid"

	"github.com/contrail-mesos/contrail/test/bench/internal/report"
)

const (
	defaultRounds = 100
	// parallelEvery is how many rounds go by for one with parallel ADDs.
	parallelEvery = 5
	parallel      = 10

	ours = "contrail"
	peer = "bridge"
	// referenceDir is where Debian's containernetworking-plugins are.
	referenceDir = "/usr/lib/cni"
)

// variant is a plugin with its configuration and the node that it works in.
type variant struct {
	name   string
	binary string
	path   string // CNI_PATH
	config string
	node   ns.NetNS
}

// Run measures ADD and DEL. rounds is 0 for the default.
func Run(ctx context.Context, rounds int) (area *report.Area, err error) {
	if rounds == 0 {
		rounds = defaultRounds
	}
	if _, err := os.Stat(filepath.Join(referenceDir, "bridge")); err != nil {
		return nil, fmt.Errorf("the reference plugins are missing; apt-get install containernetworking-plugins: %w", err)
	}
	area = &report.Area{Area: "cni", Machine: report.ThisMachine()}
	c, err := startCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	reference, err := newReference(c.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, reference.node.Close(), testutils.UnmountNS(reference.node)) }()
	samples := report.NewSamples()
	if err := measure(ctx, rounds, samples, []variant{c.variant(), reference}); err != nil {
		return nil, errors.Join(err, c.logs())
	}
	for _, name := range []string{"add/1", fmt.Sprintf("add/%d", parallel), "del/1"} {
		targets := map[string]float64{}
		if name == "add/1" {
			targets[peer] = 1
		}
		result := samples.Result(name, ours, "ms", "lower", targets)
		result.Case, result.P99 = name, report.Percentile(samples[name][ours], 99)
		for i := range result.Against {
			result.Against[i].P99 = report.Percentile(samples[name][peer], 99)
		}
		area.Results = append(area.Results, result)
	}
	return area, nil
}

func (c *cluster) variant() variant {
	return variant{
		name: ours, binary: c.binary("contrail-cni"), path: c.binary(""), node: c.node,
		config: fmt.Sprintf(`{"args":{"org.apache.mesos":{"network_info":{"labels":{"labels":[{"key":"networks","value":"blue"}]},"name":"contrail"}}},"cniVersion":"0.2.0","contrail":{"agent-socket":%q,"detach-queue":%q},"name":"contrail","type":"contrail-cni"}`,
			c.socket(), filepath.Join(c.dir, "state", "detach-queue")),
	}
}

// newReference is bridge with host-local, as gateway of a network as large as ours.
func newReference(dir string) (variant, error) {
	node, err := testutils.NewNS()
	if err != nil {
		return variant{}, fmt.Errorf("make namespace: %w", err)
	}
	return variant{
		name: peer, binary: filepath.Join(referenceDir, "bridge"), path: referenceDir, node: node,
		config: fmt.Sprintf(`{"args":{"org.apache.mesos":{"network_info":{"name":"bench"}}},"bridge":"bench0","cniVersion":"0.2.0","ipam":{"dataDir":%q,"routes":[{"dst":"0.0.0.0/0"}],"subnet":"10.64.0.0/20","type":"host-local"},"isGateway":true,"name":"bench","type":"bridge"}`,
			filepath.Join(dir, "host-local")),
	}, nil
}

func measure(ctx context.Context, rounds int, samples report.Samples, variants []variant) error {
	// The first makes the network and fills caches; it does not count.
	for round := -1; round < rounds; round++ {
		into := samples
		if round < 0 {
			into = report.NewSamples()
		}
		for _, v := range variants {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := v.one(ctx, into); err != nil {
				return fmt.Errorf("round %d of %s: %w", round, v.name, err)
			}
			if round%parallelEvery == 0 {
				if err := v.many(ctx, into); err != nil {
					return fmt.Errorf("round %d of %s: %w", round, v.name, err)
				}
			}
		}
	}
	return nil
}

// one adds and deletes one container.
func (v variant) one(ctx context.Context, samples report.Samples) error {
	container, err := testutils.NewNS()
	if err != nil {
		return fmt.Errorf("make namespace: %w", err)
	}
	id := uuid.NewString()
	add, err := v.call(ctx, "ADD", id, container)
	if err == nil {
		samples.Add("add/1", v.name, add)
	}
	del, delErr := v.call(ctx, "DEL", id, container)
	if delErr == nil {
		samples.Add("del/1", v.name, del)
	}
	return errors.Join(err, delErr, container.Close(), testutils.UnmountNS(container))
}

// many adds several containers at the same time. The sample is the median of
// the times that their callers waited.
func (v variant) many(ctx context.Context, samples report.Samples) error {
	type result struct {
		took float64
		err  error
	}
	containers, ids, results := make([]ns.NetNS, parallel), make([]string, parallel), make([]result, parallel)
	for i := range containers {
		var err error
		if containers[i], err = testutils.NewNS(); err != nil {
			return fmt.Errorf("make namespace: %w", err)
		}
		ids[i] = uuid.NewString()
	}
	var wait sync.WaitGroup
	for i := range containers {
		wait.Go(func() { results[i].took, results[i].err = v.call(ctx, "ADD", ids[i], containers[i]) })
	}
	wait.Wait()
	var failed []error
	var took []float64
	for i, r := range results {
		took = append(took, r.took)
		_, err := v.call(ctx, "DEL", ids[i], containers[i])
		failed = append(failed, r.err, err, containers[i].Close(), testutils.UnmountNS(containers[i]))
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	samples.Add(fmt.Sprintf("add/%d", parallel), v.name, report.Median(took))
	return nil
}

// call runs the plugin and returns how long it took, in milliseconds.
func (v variant) call(ctx context.Context, verb, id string, container ns.NetNS) (float64, error) {
	cmd := exec.CommandContext(ctx, v.binary)
	cmd.Env = []string{
		"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + id, "CNI_IFNAME=eth0", "CNI_NETNS=" + container.Path(),
		"CNI_PATH=" + v.path, "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
	}
	var out strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(v.config), &out, &out
	var took time.Duration
	err := v.node.Do(func(ns.NetNS) error {
		started := time.Now()
		defer func() { took = time.Since(started) }()
		return cmd.Run()
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", verb, err, out.String())
	}
	return float64(took.Microseconds()) / 1000, nil
}
