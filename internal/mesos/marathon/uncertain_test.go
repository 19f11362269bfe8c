package marathon

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// What ran before a restart is not said to run until the master has said so.
func TestTasksUnknownAfterRestart(t *testing.T) {
	h := newHarness(t)
	h.agent("node-1")
	h.do("POST", "/v2/apps", `{"id":"web","cmd":"x","cpus":0.1,"mem":32,"instances":2}`, http.StatusCreated)
	h.deployed()
	h.stop()
	master := h.master
	h.master = "127.0.0.1:1" // nobody answers there
	h.startMarathon()
	app := h.do("GET", "/v2/apps/web", "", 200)["app"].(map[string]any)
	if app["tasksRunning"] != 0.0 || app["tasksStaged"] != 0.0 || len(app["tasks"].([]any)) != 2 {
		t.Errorf("without a master: %v", app)
	}
	for _, task := range app["tasks"].([]any) {
		if state := task.(map[string]any)["state"]; state != "TASK_UNKNOWN" {
			t.Errorf("a task is %v without a master", state)
		}
	}
	h.stop()
	h.master = master
	h.startMarathon()
	h.eventually("tasks are known again", func() bool {
		return h.do("GET", "/v2/apps/web", "", 200)["app"].(map[string]any)["tasksRunning"] == 2.0
	})
}

// An instance of which nothing is heard is replaced, and holds up no deployment.
func TestLaunchTimeout(t *testing.T) {
	h := newHarness(t)
	h.stop()
	h.launching = 3 * time.Second // the second instance is to run by then
	h.startMarathon()
	a := h.agent("node-1")
	h.do("POST", "/v2/apps", `{"id":"web","cmd":"hang","cpus":0.1,"mem":32,"backoffSeconds":0.1}`, http.StatusCreated)
	h.deployed()
	if running, ever := a.count(); running != 1 || ever != 2 {
		t.Errorf("%d run of %d", running, ever)
	}
	app := h.do("GET", "/v2/apps/web", "", 200)["app"].(map[string]any)
	last, _ := app["lastTaskFailure"].(map[string]any)
	if message, _ := last["message"].(string); !strings.Contains(message, "does not run: look at the agent node-1") {
		t.Errorf("last failure %v", last)
	}
}
