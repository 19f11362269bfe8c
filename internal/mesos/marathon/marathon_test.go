package marathon

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const webApp = `{"id":"/shop/web","cmd":"sleep 1000","cpus":0.1,"mem":32,"instances":2,"labels":{"team":"x"},
 "networks":[{"mode":"container","name":"contrail","labels":{"networks":"blue"}}],
 "container":{"type":"MESOS","docker":{"image":"repo/example"},"portMappings":[{"containerPort":80,"hostPort":0,"name":"http"}]},
 "constraints":[["hostname","UNIQUE"]],"taskKillGracePeriodSeconds":3}`

func TestRunScaleRestartDelete(t *testing.T) {
	h := newHarness(t)
	one, two := h.agent("node-1"), h.agent("node-2")
	both := func() (running, ever int) {
		r1, e1 := one.count()
		r2, e2 := two.count()
		return r1 + r2, e1 + e2
	}
	created := h.do("POST", "/v2/apps", webApp, http.StatusCreated)
	if created["id"] != "/shop/web" || len(created["deployments"].([]any)) != 1 {
		t.Errorf("created %v", created)
	}
	h.do("POST", "/v2/apps", webApp, http.StatusConflict)
	h.deployed()
	app := h.do("GET", "/v2/apps/shop/web", "", 200)["app"].(map[string]any)
	if app["tasksRunning"] != 2.0 {
		t.Errorf("running %v", app)
	}
	hosts := map[any]bool{}
	for _, task := range app["tasks"].([]any) {
		task := task.(map[string]any)
		hosts[task["host"]] = true
		if ip := task["ipAddresses"].([]any)[0].(map[string]any)["ipAddress"]; ip != "10.32.0.7" || !strings.HasPrefix(task["id"].(string), "shop_web.instance-") {
			t.Errorf("task %v", task)
		}
	}
	if len(hosts) != 2 {
		t.Errorf("UNIQUE instances are on %v", hosts)
	}
	one.mu.Lock()
	info := one.runs[0].GetTask()
	one.mu.Unlock()
	network := info.GetContainer().GetNetworkInfos()[0]
	if network.GetName() != "contrail" || network.GetLabels().GetLabels()[0].GetValue() != "blue" || len(network.GetPortMappings()) != 1 ||
		info.GetContainer().GetMesos().GetImage().GetDocker().GetName() != "repo/example" || info.GetName() != "web.shop" ||
		info.GetKillPolicy().GetGracePeriod().GetNanoseconds() != 3e9 || !info.GetCommand().GetShell() {
		t.Errorf("task %v", info)
	}

	h.do("PUT", "/v2/apps/shop/web", `{"instances":1}`, 200)
	h.deployed()
	if running, ever := both(); running != 1 || ever != 2 {
		t.Errorf("after scaling down %d run of %d", running, ever)
	}
	// A change of the configuration replaces instances.
	h.do("PUT", "/v2/apps/shop/web", `{"env":{"A":"b"},"upgradeStrategy":{"minimumHealthCapacity":0,"maximumOverCapacity":0}}`, 200)
	h.deployed()
	if running, ever := both(); running != 1 || ever != 3 {
		t.Errorf("after a change %d run of %d", running, ever)
	}
	h.do("POST", "/v2/apps/shop/web/restart", "", 200)
	h.deployed()
	if running, ever := both(); running != 1 || ever != 4 {
		t.Errorf("after a restart %d run of %d", running, ever)
	}
	if versions := h.do("GET", "/v2/apps/shop/web/versions", "", 200)["versions"].([]any); len(versions) != 4 || !slices.IsSortedFunc(versions, func(a, b any) int { return strings.Compare(b.(string), a.(string)) }) {
		t.Errorf("versions %v", versions)
	}
	h.do("DELETE", "/v2/apps/shop/web", "", 200)
	h.do("GET", "/v2/apps/shop/web", "", 404)
	h.deployed()
	if running, _ := both(); running != 0 {
		t.Errorf("%d run after the deletion", running)
	}
	if len(h.do("GET", "/v2/tasks", "", 200)["tasks"].([]any)) != 0 {
		t.Error("tasks are left")
	}
}

func TestLastTaskFailure(t *testing.T) {
	h := newHarness(t)
	h.agent("node-1")
	h.do("POST", "/v2/apps", `{"id":"bad","cmd":"fail","cpus":0.1,"mem":32,"backoffSeconds":3600}`, http.StatusCreated)
	h.eventually("last failure", func() bool {
		app := h.do("GET", "/v2/apps/bad", "", 200)["app"].(map[string]any)
		last, ok := app["lastTaskFailure"].(map[string]any)
		return ok && strings.Contains(last["message"].(string), "no address left in blue") && last["state"] == "TASK_FAILED"
	})
	item := h.do("GET", "/v2/queue", "", 200)["queue"].([]any)[0].(map[string]any)
	if item["count"] != 1.0 || item["delay"].(map[string]any)["overdue"] != false {
		t.Errorf("queue %v", item)
	}
	h.do("POST", "/v2/apps", `{"id":"bad","cmd":"x"}`, http.StatusConflict)
	h.do("DELETE", "/v2/apps/bad", "", http.StatusConflict) // its deployment is not done
	h.do("DELETE", "/v2/apps/bad?force=true", "", 200)
	h.deployed()
}

func TestQueueSaysWhy(t *testing.T) {
	h := newHarness(t)
	h.agent("node-1")
	h.do("POST", "/v2/apps", `{"id":"big","cmd":"x","cpus":50,"mem":32}`, http.StatusCreated)
	h.eventually("a reason", func() bool {
		text, err := json.Marshal(h.do("GET", "/v2/queue", "", 200))
		return err == nil && strings.Contains(string(text), "InsufficientCpus")
	})
}

// A restarted Marathon finds its tasks, starts none twice, and ends what it
// does not know.
func TestRestart(t *testing.T) {
	h := newHarness(t)
	a := h.agent("node-1")
	h.do("POST", "/v2/apps", `{"id":"web","cmd":"x","cpus":0.1,"mem":32,"instances":3}`, http.StatusCreated)
	h.deployed()
	id := h.do("GET", "/v2/info", "", 200)["frameworkId"]
	h.stop()
	h.startMarathon()
	h.eventually("subscribed", func() bool {
		h.marathon.mu.Lock()
		defer h.marathon.mu.Unlock()
		confirmed := 0
		for _, i := range h.marathon.store.Instances {
			if i.confirmed {
				confirmed++
			}
		}
		return h.marathon.session != nil && confirmed == 3
	})
	if got := h.do("GET", "/v2/info", "", 200)["frameworkId"]; got != id {
		t.Errorf("framework id %v, before %v", got, id)
	}
	// One task is lost from the state: it is unknown now, and replaced.
	h.stop()
	s, err := openStore(h.marathon.cfg.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	for id := range s.Instances {
		delete(s.Instances, id)
		break
	}
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	h.startMarathon()
	h.eventually("the unknown task is replaced", func() bool {
		running, ever := a.count()
		return running == 3 && ever == 4
	})
	h.do("DELETE", "/v2/apps/web", "", 200)
	h.deployed()
	if running, _ := a.count(); running != 0 {
		t.Errorf("%d run", running)
	}
}

func TestEvents(t *testing.T) {
	h := newHarness(t)
	h.agent("node-1")
	response, err := http.Get(h.url + "/v2/events?event_type=status_update_event&event_type=deployment_success")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	next := func() map[string]any {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				event := map[string]any{}
				if err := json.Unmarshal([]byte(data), &event); err != nil {
					t.Fatal(err)
				}
				return event
			}
		}
		t.Fatal("event stream ended")
		return nil
	}
	if next()["eventType"] != "event_stream_attached" {
		t.Error("first event is not event_stream_attached")
	}
	h.do("POST", "/v2/apps", `{"id":"web","cmd":"x","cpus":0.1,"mem":32}`, http.StatusCreated)
	for _, want := range []string{"TASK_STARTING", "TASK_RUNNING"} {
		if got := next(); got["taskStatus"] != want || got["appId"] != "/web" {
			t.Errorf("event %v, want %s", got, want)
		}
	}
	if got := next(); got["eventType"] != "deployment_success" {
		t.Errorf("event %v", got)
	}
}

func TestInvalid(t *testing.T) {
	h := newHarness(t)
	for _, test := range []struct {
		body   string
		status int
		path   string
	}{
		{`{"id":`, 400, ""},
		{`[]`, 400, ""},
		{"{\"id\":\"a\",\"cmd\":\"\xc3\x28\"}", 400, ""},
		{`{"id":"a","cmd":5}`, 400, "/cmd"},
		{`{"id":"a","cmd":"x","cpus":-1}`, 422, "/cpus"},
		{`{"id":"A_b","cmd":"x"}`, 422, "/id"},
		{`{"id":"","cmd":"x"}`, 422, "/id"},
		{`{"id":"a"}`, 422, "/"},
		{`{"id":"a","cmd":"x","args":["y"]}`, 422, "/"},
		{`{"id":"a","cmd":"x","healthChecks":[{"protocol":"COMMAND","command":{"value":"true"}}]}`, 422, "/healthChecks"},
		{`{"id":"a","cmd":"x","networks":[{"mode":"container"}]}`, 422, "/networks(0)"},
		{`{"id":"a","cmd":"x","networks":[{"mode":"host","name":"blue"}]}`, 422, "/networks(0)"},
		{`{"id":"a","cmd":"x","networks":[{"mode":"container","name":"a"},{"mode":"container","name":"a"}]}`, 422, "/networks"},
		{`{"id":"a","cmd":"x","networks":[{"mode":"host"},{"mode":"container","name":"a"}]}`, 422, "/networks"},
		{`{"id":"a","cmd":"x","networks":[{"mode":"host"}],"ipAddress":{}}`, 422, "/networks"},
		{`{"id":"a","cmd":"x","constraints":[["hostname","NEAR"]]}`, 422, "/constraints(0)"},
		{`{"id":"a","cmd":"x","networks":[{"mode":"container","name":"n","labels":{"networks":"` + strings.Repeat("x", 10000) + `"}}]}`, 422, "/networks(0)/labels"},
	} {
		answer := h.do("POST", "/v2/apps", test.body, test.status)
		text, err := json.Marshal(answer["details"])
		if err != nil {
			t.Fatal(err)
		}
		if answer["message"] == "" || test.path != "" && !strings.Contains(string(text), `"path":"`+test.path+`"`) {
			t.Errorf("%.80s: %v", test.body, answer)
		}
	}
	if apps := h.do("GET", "/v2/apps", "", 200)["apps"].([]any); len(apps) != 0 {
		t.Errorf("bad input leaves %v", apps)
	}
	h.do("GET", "/v2/apps/none", "", 404)
	h.do("DELETE", "/v2/apps/none", "", 404)
	h.do("PATCH", "/v2/apps/none", "{}", 404)
	h.do("GET", "/nothing", "", 404)
	h.do("POST", "/v2/apps/x", "{}", 405)
}

func TestIPAddressForm(t *testing.T) {
	for name, test := range map[string]struct{ in, networks, mappings string }{
		"plain": {
			`{"id":"a","cmd":"x","ipAddress":{"networkName":"blue","labels":{"k":"v"},"groups":["prod"]}}`,
			`[{"mode":"container","name":"blue","labels":{"k":"v"}}]`, `null`,
		},
		"discovery": {
			`{"id":"a","cmd":"x","ipAddress":{"networkName":"blue","discovery":{"ports":[{"number":80,"name":"http","protocol":"tcp"}]}}}`,
			`[{"mode":"container","name":"blue"}]`, `[{"containerPort":80,"protocol":"tcp","name":"http"}]`,
		},
		"bridge": {
			`{"id":"a","container":{"type":"DOCKER","docker":{"image":"i","network":"BRIDGE","portMappings":[{"containerPort":80,"hostPort":0}]}}}`,
			`[{"mode":"container/bridge"}]`, `[{"containerPort":80,"hostPort":0,"protocol":"tcp"}]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			body := map[string]json.RawMessage{}
			if err := json.Unmarshal([]byte(test.in), &body); err != nil {
				t.Fatal(err)
			}
			app, err := parseApp("", body, nil, "")
			if err != nil {
				t.Fatalf("%v %v", err, err.(*problem).details)
			}
			if got := string(mustJSON(app.Networks)); got != test.networks {
				t.Errorf("networks %s, want %s", got, test.networks)
			}
			if got := string(mustJSON(app.Container.PortMappings)); got != test.mappings {
				t.Errorf("mappings %s, want %s", got, test.mappings)
			}
		})
	}
}

// python3-marathon, the client of Debian, raises on every key it does not know.
func TestPythonClient(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import marathon").Run(); err != nil {
		t.Skipf("python3-marathon is not installed: %v", err)
	}
	h := newHarness(t)
	h.agent("node-1")
	script, err := os.ReadFile("testdata/client.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", string(script), h.url)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

// Whatever is posted, it is taken or refused with a 4xx, and what is taken reads
// back as the same definition.
func FuzzParseApp(f *testing.F) {
	f.Add([]byte(webApp))
	f.Add([]byte(`{"id":"a","cmd":"x","ipAddress":{"networkName":"blue","discovery":{"ports":[{"number":80}]}}}`))
	f.Add([]byte(`{"id":"a","container":{"docker":{"image":"i","network":"BRIDGE","portMappings":[{"containerPort":80}]}},"unreachableStrategy":"disabled"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var body map[string]json.RawMessage
		if json.Unmarshal(text, &body) != nil || body == nil {
			return
		}
		app, err := parseApp("", body, nil, "")
		if err != nil {
			if p, ok := err.(*problem); !ok || p.status < 400 || p.status > 499 {
				t.Fatalf("%v", err)
			}
			return
		}
		again, err := parseApp("", map[string]json.RawMessage{}, app, "")
		if err != nil || !identical(app, again) {
			t.Fatalf("%s reads back as %s: %v", mustJSON(app), mustJSON(again), err)
		}
	})
}
