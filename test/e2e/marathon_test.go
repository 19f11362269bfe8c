//go:build net

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	base "github.com/contrail-mesos/contrail/test/cluster"
)

const (
	marathon = base.Marathon
	master   = base.Master
	config   = base.Config
)

type task = base.Task

// app is an application of the example image in a virtual network.
func app(id, network string, instances int, more ...map[string]any) map[string]any {
	def := base.App(id, network, instances)
	for _, m := range more {
		maps.Copy(def, m)
	}
	return def
}

func networks(labels map[string]string) []map[string]any { return base.Networks(labels) }

var unique = map[string]any{"constraints": [][]string{{"hostname", "UNIQUE"}}}

// post creates an application, and destroys it when the test ends.
func (c *cluster) post(t *testing.T, def map[string]any) {
	t.Helper()
	body, err := json.Marshal(def)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.curl(t, "POST", marathon+"/v2/apps", string(body)); got.Status != 201 {
		t.Fatalf("POST %v: %d %s", def["id"], got.Status, got.Body)
	}
	t.Cleanup(func() { c.destroy(t, def["id"].(string)) })
}

// destroy deletes an application; one that is gone already is fine.
func (c *cluster) destroy(t *testing.T, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(contextOf(t), recovery)
	defer cancel()
	if err := c.Destroy(ctx, id); err != nil {
		t.Errorf("destroy %s: not within %s: %v", id, recovery, err)
	}
}

// running waits until an application has n running tasks with addresses.
func (c *cluster) running(t *testing.T, id string, n int) []task {
	t.Helper()
	var found []task
	eventually(t, time.Minute, id+" runs", func() error {
		all, err := c.Tasks(contextOf(t), id)
		if err != nil {
			return err
		}
		found = nil
		for _, task := range all {
			if task.State == "TASK_RUNNING" && task.Address() != "" {
				found = append(found, task)
			}
		}
		if len(found) != n || len(all) != n {
			return fmt.Errorf("%d of %d tasks run: %+v; last failure: %s", len(found), n, all, c.lastFailure(t, id))
		}
		return nil
	})
	return found
}

// lastFailure is what Marathon says of the last task that failed.
func (c *cluster) lastFailure(t *testing.T, id string) string {
	t.Helper()
	got, err := c.Curl(contextOf(t), "GET", marathon+"/v2/apps"+id+"?embed=app.lastTaskFailure", "")
	if err != nil {
		return err.Error()
	}
	var answer struct {
		App struct {
			LastTaskFailure struct {
				State   string `json:"state"`
				Message string `json:"message"`
			} `json:"lastTaskFailure"`
		} `json:"app"`
	}
	if err := json.Unmarshal([]byte(got.Body), &answer); err != nil {
		return err.Error()
	}
	return answer.App.LastTaskFailure.State + " " + answer.App.LastTaskFailure.Message
}

// check asks from a task's container by one of icmp, tcp and udp.
func (c *cluster) check(t *testing.T, from task, address, way, timeout string) error {
	t.Helper()
	_, err := c.Contrail(contextOf(t), "exec", from.ID, "--", "/bin/contrail-example", "check", address, "--"+way, "--timeout", timeout)
	return err
}

var ways = []string{"icmp", "tcp", "udp"}

// reaches fails the test unless every way works.
func (c *cluster) reaches(t *testing.T, from task, address string) {
	t.Helper()
	for _, way := range ways {
		if err := c.check(t, from, address, way, "10s"); err != nil {
			t.Errorf("%s on %s does not reach %s by %s: %v", from.ID, from.Host, address, way, err)
		}
	}
}

// refused fails the test if any way works.
func (c *cluster) refused(t *testing.T, from task, address string) {
	t.Helper()
	for _, way := range ways {
		if err := c.check(t, from, address, way, "500ms"); err == nil {
			t.Errorf("%s on %s reaches %s by %s", from.ID, from.Host, address, way)
		}
	}
}
