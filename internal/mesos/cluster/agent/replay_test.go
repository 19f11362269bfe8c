package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// differences are the known ones from what a real agent answered, by path of the
// request and type of the call.
var differences = map[string]string{
	"/api/v1 GET_OPERATIONS":         "501: no operations on resources",
	"/api/v1 GET_RESOURCE_PROVIDERS": "501: no resource providers",
	"/api/v1 GET_LOGGING_LEVEL":      "501: the level is a flag",
	"/monitor/statistics":            "needs cgroups; TestNetOperatorAPI reads them",
	"/slave(1)/containers":           "needs cgroups",
	"/containers":                    "needs cgroups",
	"/files/debug":                   "404: nobody that we know reads it",
	"/containerizer/debug":           "404: nobody that we know reads it",
	"/metrics/snapshot":              "has the metrics that mean something here",
	"/api/v1 GET_METRICS":            "has the metrics that mean something here",
	"/api/v1 GET_FLAGS":              "the flags are our own",
	"/flags":                         "the flags are our own",
	"/api/v1 GET_CONTAINERS":         "needs cgroups; TestNetOperatorAPI reads them",
}

// others are parts of documents that differ for known reasons.
var others = []*regexp.Regexp{
	// What the agent is and has been: its build, flags and past.
	regexp.MustCompile(`\.(flags|domain|reserved_resources|unreserved_resources|build_\w+|git_\w+|log_dir|start_time|completed_\w+)\b`),
	regexp.MustCompile(`\.(pending|queued|terminated)_tasks\b|\.(drain_config|estimated_drain_start_time_seconds|resource_providers|capabilities)\b`),
	// The recorded agent has a group with a default executor, too.
	regexp.MustCompile(`\.executors\[\]\.(labels|role|type)\b|executor_info\.(type|shutdown_grace_period|volumes)\b`),
	regexp.MustCompile(`\.container_id\.parent\b|launched_tasks\[\]\.executor_id\b`),
	// Our executor lives on what its task has; Mesos adds 0.1 CPUs and 32 MB.
	regexp.MustCompile(`executor_info\.resources\[\]\.ranges\b`),
}

func isOther(path string) bool {
	return slices.ContainsFunc(others, func(r *regexp.Regexp) bool { return r.MatchString(path) })
}

type exchange struct {
	N       int
	Request *struct {
		Method, Path string
		Headers      map[string]string
		Body         json.RawMessage
		BodyText     string `json:"body_text"`
		BodyB64      string `json:"body_base64"`
	}
	Response struct {
		Status   int
		Headers  map[string]string
		Body     json.RawMessage
		BodyText string `json:"body_text"`
	}
}

// TestReplayOperator asks our agent, which has a task like a recorded one, what
// a real agent was asked: statuses and texts are equal, and documents have the
// same members with the same types.
func TestReplayOperator(t *testing.T) {
	for _, file := range []string{"agent-01-operator-calls.json", "agent-02-legacy-endpoints.json", "agent-04-flags-and-metrics.json"} {
		t.Run(file, func(t *testing.T) {
			a := newTestAgent(t)
			sandbox := recordedTask(t, a)
			for _, e := range recorded(t, file) {
				if e.Request != nil && e.Request.BodyB64 == "" {
					replay(t, a, sandbox, e)
				}
			}
		})
	}
}

func recorded(t *testing.T, file string) []exchange {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../testdata/recordings", file))
	if err != nil {
		t.Fatal(err)
	}
	var recording struct{ Exchanges []exchange }
	if err := json.Unmarshal(text, &recording); err != nil {
		t.Fatal(err)
	}
	return recording.Exchanges
}

// recordedTask gives the agent a task with a sandbox, and returns the sandbox.
func recordedTask(t *testing.T, a *Agent) string {
	t.Helper()
	var state struct {
		State struct {
			Tasks struct {
				Launched []json.RawMessage `json:"launched_tasks"`
			} `json:"get_tasks"`
			Frameworks struct {
				Frameworks []struct {
					Info json.RawMessage `json:"framework_info"`
				} `json:"frameworks"`
			} `json:"get_frameworks"`
		} `json:"get_state"`
	}
	if err := json.Unmarshal(recorded(t, "agent-01-operator-calls.json")[2].Response.Body, &state); err != nil {
		t.Fatal(err)
	}
	was := &mesosv1.Task{}
	framework := &mesosv1.FrameworkInfo{}
	for text, m := range map[*json.RawMessage]proto.Message{&state.State.Tasks.Launched[0]: was, &state.State.Frameworks.Frameworks[0].Info: framework} {
		if err := codec.UnmarshalJSON(*text, m); err != nil {
			t.Fatal(err)
		}
	}
	task := newTask(framework, &mesosv1.TaskInfo{
		Name: was.Name, TaskId: was.TaskId, AgentId: was.AgentId, Resources: was.Resources, Labels: was.Labels, Discovery: was.Discovery,
		Container: was.Container, Command: &mesosv1.CommandInfo{Value: proto.String("sleep 1000")},
	})
	task.phase, task.statuses, task.acknowledged = running, was.Statuses, len(was.Statuses)
	a.tasks[taskKey{task.frameworkID(), task.id()}] = task
	sandbox := a.sandboxDir(task)
	if err := os.MkdirAll(sandbox, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"stdout": "first line\nsecond line\n", "stderr": "oops\n"} {
		if err := os.WriteFile(filepath.Join(sandbox, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return sandbox
}

var recordedSandbox = regexp.MustCompile(`/var/lib/mesos/agent/slaves/[^"&?]*/runs/(latest|[0-9a-f-]{36})`)

func replay(t *testing.T, a *Agent, sandbox string, e exchange) {
	t.Helper()
	body := e.Request.BodyText
	if len(e.Request.Body) > 0 && string(e.Request.Body) != `""` {
		body = string(e.Request.Body)
	}
	var call struct{ Type string }
	json.Unmarshal([]byte(body), &call)
	path, _, _ := strings.Cut(e.Request.Path, "?")
	if differences[strings.TrimSpace(path+" "+call.Type)] != "" || differences[path] != "" {
		return
	}
	name := fmt.Sprintf("%d %s %s %s", e.N, e.Request.Method, path, call.Type)
	body = recordedSandbox.ReplaceAllLiteralString(body, sandbox)
	target := recordedSandbox.ReplaceAllLiteralString(e.Request.Path, sandbox)
	var headers []string
	for _, h := range []string{"Accept", "Content-Type"} {
		if value, ok := e.Request.Headers[h]; ok {
			headers = append(headers, h, value)
		}
	}
	w := request(a, overTLS, e.Request.Method, target, body, headers...)
	if w.Code != e.Response.Status {
		t.Errorf("%s: %d %.200s, want %d", name, w.Code, w.Body, e.Response.Status)
		return
	}
	compareAnswer(t, name, e, w)
}

func compareAnswer(t *testing.T, name string, e exchange, w *httptest.ResponseRecorder) {
	t.Helper()
	if got, want := w.Header().Get("Content-Type"), e.Response.Headers["Content-Type"]; got != want {
		t.Errorf("%s: Content-Type %q, want %q", name, got, want)
	}
	if e.Response.Status >= 400 && e.Response.BodyText != "" && w.Body.String() != e.Response.BodyText {
		t.Errorf("%s: %q, want %q", name, w.Body, e.Response.BodyText)
	}
	if len(e.Response.Body) == 0 || e.Response.Body[0] != '{' && e.Response.Body[0] != '[' {
		return
	}
	want, got := shape(t, e.Response.Body), shape(t, w.Body.Bytes())
	for _, path := range want {
		if !slices.Contains(got, path) && !isOther(path) {
			t.Errorf("%s: %s is missing", name, path)
		}
	}
	for _, path := range got {
		if !slices.Contains(want, path) && !isOther(path) {
			t.Errorf("%s: %s is not in the recording", name, path)
		}
	}
}

// shape lists the paths of a document with the types of their values.
func shape(t *testing.T, text []byte) []string {
	t.Helper()
	var document any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&document); err != nil {
		t.Fatalf("%.200s: %v", text, err)
	}
	var paths []string
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			paths = append(paths, path+" object")
			for key, value := range v {
				walk(path+"."+key, value)
			}
		case []any:
			paths = append(paths, path+" array")
			for _, value := range v {
				walk(path+"[]", value)
			}
		default:
			paths = append(paths, fmt.Sprintf("%s %T", path, v))
		}
	}
	walk("", document)
	slices.Sort(paths)
	return slices.Compact(paths)
}
