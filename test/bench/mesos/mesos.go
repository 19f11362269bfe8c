// Package mesos measures how long a user waits: from the post of an application
// to Marathon until its containers answer ping, in a whole cluster of three
// nodes that the run starts and removes.
package mesos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/contrail-mesos/contrail/test/bench/internal/report"
	"github.com/contrail-mesos/contrail/test/cluster"
)

const (
	defaultRounds = 10
	// roundsOfMost is how often the largest application is launched: one takes
	// as long as many small ones.
	roundsOfMost = 3
	ours         = "contrail"
	// patience bounds how long an application may take to start or to end.
	patience = time.Minute
)

type bench struct{ *cluster.Cluster }

// Run measures launches of 1, 10 and 100 containers. rounds is 0 for the default.
func Run(ctx context.Context, rounds int) (area *report.Area, err error) {
	if rounds == 0 {
		rounds = defaultRounds
	}
	c, err := cluster.New(ctx, "bench", ".")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Remove()) }()
	if err := c.Up(ctx, "--no-example", "--rest", "1s", "--tombstone", "1s"); err != nil {
		return nil, err
	}
	b := &bench{c}
	// The pinger also keeps the network, whose making is not measured.
	pinger := cluster.App("/pinger", "launch", 1)
	maps.Copy(pinger, b.On(1))
	if err := b.post(ctx, pinger); err != nil {
		return nil, err
	}
	if err := b.answers(ctx, "/pinger", 1, ""); err != nil {
		return nil, err
	}
	area = &report.Area{Area: "mesos", Machine: report.ThisMachine()}
	samples := report.NewSamples()
	// The first brings the image to all nodes, and does not count.
	if _, err := b.launch(ctx, 10); err != nil {
		return nil, fmt.Errorf("try a launch: %w", err)
	}
	for _, count := range []int{1, 10, 100} {
		name := fmt.Sprintf("launch-to-ping/%d", count)
		times := rounds
		if count == 100 {
			times = min(rounds, roundsOfMost)
		}
		for range times {
			took, err := b.launch(ctx, count)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			samples.Add(name, ours, float64(took.Milliseconds()))
		}
		result := samples.Result(name, ours, "ms", "lower", nil)
		result.Case, result.P99 = name, report.Percentile(samples[name][ours], 99)
		area.Results = append(area.Results, result)
	}
	return area, nil
}

// launch starts an application, waits for its answers, and destroys it.
func (b *bench) launch(ctx context.Context, count int) (time.Duration, error) {
	began := time.Now()
	if err := b.post(ctx, cluster.App("/launch", "launch", count)); err != nil {
		return 0, err
	}
	if err := b.answers(ctx, "/launch", count, "pinger"); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, b.destroy(ctx, "/launch")
}

func (b *bench) post(ctx context.Context, app map[string]any) error {
	body, err := json.Marshal(app)
	if err != nil {
		return err
	}
	got, err := b.Curl(ctx, "POST", cluster.Marathon+"/v2/apps", string(body))
	if err == nil && got.Status != 201 {
		err = fmt.Errorf("post %v: %d %s", app["id"], got.Status, got.Body)
	}
	return err
}

// answers waits until so many tasks run, and answer pings from another task.
func (b *bench) answers(ctx context.Context, app string, count int, from string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var tasks []cluster.Task
	err := cluster.Eventually(ctx, func() (err error) {
		if tasks, err = b.Tasks(ctx, app); err != nil {
			return err
		}
		running := 0
		for _, task := range tasks {
			if task.State == "TASK_RUNNING" && task.Address() != "" {
				running++
			}
		}
		if running < count {
			return fmt.Errorf("%d of %d tasks of %s run", running, count, app)
		}
		return nil
	})
	if err != nil || from == "" {
		return err
	}
	command := []string{"exec", from, "--", "sh", "-c", pingAll, "sh"}
	for _, task := range tasks {
		command = append(command, task.Address())
	}
	_, err = b.Contrail(ctx, command...)
	return err
}

// pingAll asks all addresses that it is given at once, and fails if one does
// not answer.
const pingAll = `for address in "$@"; do
  /bin/contrail-example check "$address" --icmp --timeout 20s &
  asking="$asking $!"
done
for one in $asking; do wait "$one" || exit 1; done`

// destroy deletes an application and waits until it is gone.
func (b *bench) destroy(ctx context.Context, app string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return b.Destroy(ctx, app)
}
