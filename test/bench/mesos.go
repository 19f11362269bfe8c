package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/contrail-mesos/contrail/test/cluster"
)

// patience bounds how long an application may take to start or to end.
const patience = time.Minute

// launches measures from the post of an application to the answer of its last
// container to a ping from another container of its network.
func launches(ctx context.Context, b *bench) (err error) {
	pinger := cluster.App("/pinger", "launch", 1)
	maps.Copy(pinger, b.On(1))
	if err := b.post(ctx, pinger); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.destroy(ctx, "/pinger")) }()
	if err := b.answers(ctx, "/pinger", 1, ""); err != nil {
		return err
	}
	for _, count := range []int{1, 10} {
		var took samples
		for range b.rounds {
			began := time.Now()
			if err := b.post(ctx, cluster.App("/launch", "launch", count)); err != nil {
				return err
			}
			if err := b.answers(ctx, "/launch", count, "/pinger"); err != nil {
				return err
			}
			took = append(took, []float64{float64(time.Since(began).Milliseconds())})
			if err := b.destroy(ctx, "/launch"); err != nil {
				return err
			}
		}
		b.report.add(fmt.Sprintf("launch-to-ping/%d", count), "ms", "lower", true, took, nil, nil)
	}
	return nil
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
	for _, task := range tasks {
		if _, err := b.Contrail(ctx, "exec", from, "--", "/bin/contrail-example", "check", task.Address(), "--icmp", "--timeout", "20s"); err != nil {
			return err
		}
	}
	return nil
}

// destroy deletes an application and waits until it is gone.
func (b *bench) destroy(ctx context.Context, app string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return cluster.Eventually(ctx, func() error {
		got, err := b.Curl(ctx, "DELETE", cluster.Marathon+"/v2/apps"+app+"?force=true", "")
		if err != nil || got.Status == 404 {
			return err
		}
		return fmt.Errorf("%s is still there: %d", app, got.Status)
	})
}
