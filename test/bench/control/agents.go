package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/contrail-mesos/contrail/internal/simulate"
	"github.com/contrail-mesos/contrail/test/bench/internal/report"
)

// agentsCase is one crowd of agents.
type agentsCase struct {
	name                                  string
	agents, ports, networks, networksEach int
	changes                               int
	churn                                 time.Duration
	// controllers are one, or several of which one is killed in the end. Each
	// agent has sessions with all but one of them then.
	controllers int
}

// usualAgents are the crowds of `make bench`: many networks of which each agent
// has some, a large one that a hundred have, and one that a thousand have.
func usualAgents() []agentsCase {
	return []agentsCase{
		{"agents1000", 1000, 50, 1000, 20, 50, 10 * time.Second, 1},
		{"agents100-one", 100, 500, 1, 1, 50, 10 * time.Second, 1},
		{"agents1000-one", 1000, 1, 1, 1, 50, 0, 1},
	}
}

// manyAgents is the crowd that loses a controller: populating three takes a few
// minutes.
func manyAgents() []agentsCase {
	return []agentsCase{{"agents5000", 5000, 10, 1000, 10, 20, 0, 3}}
}

const mebibyte = 1 << 20

// measureAgents plays one crowd against controllers of its own.
func (b *bench) measureAgents(ctx context.Context, c agentsCase) (err error) {
	set, err := startControllers(ctx, b.binary, filepath.Join(b.dir, c.name), c.controllers)
	defer func() { err = errors.Join(err, set.stop()) }()
	if err != nil {
		return fmt.Errorf("start controllers: %w", err)
	}
	peak := set.watchPeak(ctx)
	result, err := b.play(ctx, c, set)
	memory := peak()
	if err != nil {
		return fmt.Errorf("%w; the controllers wrote: %s", err, set.lastWords())
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.add(c.name+"/converge", ms(result.Converge), 0, "ms", "lower")
	b.add(c.name+"/rss", float64(memory)/mebibyte, 0, "MiB", "lower")
	b.add(c.name+"/change", ms(result.Change.P50), ms(result.Change.P99), "ms", "lower")
	if c.churn > 0 {
		b.add(c.name+"/churn", float64(result.Churn.Changes)/result.Churn.For.Seconds(), 0, "changes/s", "higher")
		b.add(c.name+"/churn-settled", ms(result.Churn.Settled), 0, "ms", "lower")
	}
	if c.controllers > 1 {
		b.add(c.name+"/resync", ms(result.Loss.Resync), 0, "ms", "lower")
	}
	return nil
}

// play runs `contrail bench agents`, a process of its own, through the first
// controller's API. It is the last one that is lost.
func (b *bench) play(ctx context.Context, c agentsCase, set *controllers) (*simulate.Result, error) {
	args := []string{
		"bench", "agents", "-o", "json", "--control", set.addresses(), "--config", "unix:" + set.list[0].configSocket(), "--authority", set.authority(),
		"--agents", strconv.Itoa(c.agents), "--ports", strconv.Itoa(c.ports), "--networks", strconv.Itoa(c.networks), "--networks-each", strconv.Itoa(c.networksEach),
		"--changes", strconv.Itoa(c.changes), "--churn", c.churn.String(), "--patience", patience.String(),
	}
	if last := len(set.list) - 1; last > 0 {
		kill, err := set.list[last].killing()
		if err != nil {
			return nil, err
		}
		args = append(args, "--sessions", strconv.Itoa(last), "--lose", kill)
	}
	cmd := exec.CommandContext(ctx, b.binary, args...)
	var out, told bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &told
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("play %s: %w: %s", c.name, err, told.String())
	}
	result := new(simulate.Result)
	if err := json.Unmarshal(out.Bytes(), result); err != nil {
		return nil, fmt.Errorf("play %s: %w", c.name, err)
	}
	return result, nil
}

// patience bounds the wait for what a crowd is to be told.
const patience = 3 * time.Minute

// add records a single measurement.
func (b *bench) add(name string, value, p99 float64, unit, better string) {
	b.results = append(b.results, report.Result{
		Case: name, Value: value, Unit: unit, Runs: 1, P25: value, P75: value, P99: p99, Better: better,
	})
}
