package agent

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/image"
	"github.com/contrail-mesos/contrail/internal/mesos/cluster/isolator"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

func TestParseResources(t *testing.T) {
	all, err := ParseResources("cpus:4;mem:2048.5; ports:[31000-32000, 80-80]")
	if err != nil || len(all) != 3 || all[1].GetScalar().GetValue() != 2048.5 || all[2].GetRanges().GetRange()[0].GetBegin() != 80 {
		t.Errorf("%v %v", all, err)
	}
	for _, bad := range []string{"", "cpus", "cpus:x", "cpus:-1", "cpus:Inf", "cpus:NaN", ":1", "cpus:1;cpus:2", "ports:[1-2", "ports:[2-1]", "ports:[a-b]", "ports:[]"} {
		if all, err := ParseResources(bad); err == nil {
			t.Errorf("%q: %v", bad, all)
		}
	}
	attributes, err := ParseAttributes("rack:r1;level:3")
	if err != nil || attributes[0].GetText().GetValue() != "r1" || attributes[1].GetScalar().GetValue() != 3 {
		t.Errorf("%v %v", attributes, err)
	}
	for _, bad := range []string{"rack", "rack:", ":x", "a:b;"} {
		if all, err := ParseAttributes(bad); err == nil {
			t.Errorf("%q: %v", bad, all)
		}
	}
}

func newTestAgent(t *testing.T) *Agent {
	t.Helper()
	dir := t.TempDir()
	resources, err := ParseResources("cpus:2;mem:2048;disk:2048;ports:[31000-31099]")
	if err != nil {
		t.Fatal(err)
	}
	attributes, err := ParseAttributes("rack:r1;zone:a")
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(slog.New(slog.DiscardHandler), Config{
		Master: "127.0.0.1:5050", Hostname: "node1.example", IP: "127.0.0.1", Port: 5051, WorkDir: filepath.Join(dir, "work"),
		RuntimeDir: filepath.Join(dir, "run"), Registry: dir, Resources: resources, Attributes: attributes,
		Executor: []string{"/proc/self/exe", "executor"}, Flags: map[string]string{"port": "5051"}, SandboxesKept: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	id := "a-1"
	a.agentID.Store(&id)
	close(a.recovered)
	return a
}

func (a *Agent) withTask(id string, networks ...*mesosv1.NetworkInfo) *task {
	t := newTask(
		&mesosv1.FrameworkInfo{User: proto.String("root"), Name: proto.String("f"), Id: &mesosv1.FrameworkID{Value: proto.String("f-1")}},
		&mesosv1.TaskInfo{
			Name: proto.String(id), TaskId: &mesosv1.TaskID{Value: proto.String(id)}, AgentId: &mesosv1.AgentID{Value: proto.String("a-1")},
			Command: &mesosv1.CommandInfo{Value: proto.String("hostname; ip -br addr")},
			Labels:  &mesosv1.Labels{Labels: []*mesosv1.Label{{Key: proto.String("app"), Value: proto.String("web")}}},
		})
	t.info.Container = &mesosv1.ContainerInfo{Type: mesosv1.ContainerInfo_MESOS.Enum(), NetworkInfos: networks}
	t.phase, t.pid = running, 25741
	a.tasks[taskKey{"f-1", id}] = t
	return t
}

func request(a *Agent, caller serve.Caller, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r.WithContext(serve.WithCaller(r.Context(), caller)))
	return w
}

var (
	overTLS  = serve.Caller{Identity: ctls.Identity{Role: ctls.RoleManager}, Via: "tls"}
	overUnix = serve.Caller{Identity: ctls.Identity{Role: ctls.RoleAdmin}, Via: "unix"}
)

// What a real executor was told when it called wrongly is what ours is told.
func TestExecutorErrorsOfRecording(t *testing.T) {
	text, err := os.ReadFile("../../testdata/recordings/executor-01-custom-domain-socket.json")
	if err != nil {
		t.Fatal(err)
	}
	var recording struct {
		Exchanges []struct {
			N       int
			Request *struct {
				Method, Path string
				Headers      map[string]string
				Body         json.RawMessage
				BodyText     string `json:"body_text"`
			}
			Response struct {
				Status   int
				BodyText string `json:"body_text"`
				Body     json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(text, &recording); err != nil {
		t.Fatal(err)
	}
	a := newTestAgent(t)
	count := 0
	for _, e := range recording.Exchanges {
		if e.Request == nil || e.Response.Status == 200 {
			continue
		}
		var ids struct {
			Framework struct{ Value string } `json:"framework_id"`
			Executor  struct{ Value string } `json:"executor_id"`
		}
		body := string(e.Request.Body)
		if e.Request.BodyText != "" {
			body = e.Request.BodyText
		} else {
			json.Unmarshal(e.Request.Body, &ids)
		}
		if e.Response.Status == 202 && !strings.Contains(body, "HEARTBEAT") {
			continue
		}
		known := a.withTask("cust-executor-01-custom-domain-socket")
		known.framework.Id.Value = proto.String("0b7f3caa-7e28-4c8e-bf03-9af617a06e70-0008")
		a.tasks = map[taskKey]*task{{known.frameworkID(), known.id()}: known}
		headers := []string{}
		for _, name := range []string{"Accept", "Content-Type"} {
			if value, ok := e.Request.Headers[name]; ok {
				headers = append(headers, name, value)
			}
		}
		w := request(a, overUnix, e.Request.Method, e.Request.Path, body, headers...)
		want := e.Response.BodyText
		if want == "" {
			json.Unmarshal(e.Response.Body, &want)
		}
		if got, _ := io.ReadAll(w.Body); w.Code != e.Response.Status || string(got) != want {
			t.Errorf("%d: %d %s\nwant %d %s", e.N, w.Code, got, e.Response.Status, want)
		}
		count++
	}
	if count < 13 {
		t.Errorf("only %d exchanges checked", count)
	}
}

func TestWhoMayRead(t *testing.T) {
	a := newTestAgent(t)
	for _, test := range []struct {
		caller serve.Caller
		path   string
		code   int
	}{
		{overTLS, "/state", 200},
		{overTLS, "/slave(1)/state", 200},
		{overTLS, "/state.json", 404},
		{overTLS, "/api/v1/executor", 403},
		{overUnix, "/slave(1)/state", 403},
		{serve.Caller{Identity: ctls.Identity{Role: ctls.RoleNode, Node: "x"}, Via: "tls"}, "/state", 403},
		{serve.Caller{Identity: ctls.Identity{Role: ctls.RoleAdmin}, Via: "tls"}, "/files/browse", 400},
		{overTLS, "/health", 200},
		{overTLS, "/files/read?path=/etc/passwd", 404},
		{overTLS, "/files/download?path=" + a.config.WorkDir + "/slaves/../meta/agent.json", 404},
	} {
		if w := request(a, test.caller, http.MethodGet, test.path, ""); w.Code != test.code {
			t.Errorf("%s by %s: %d %s", test.path, test.caller, w.Code, w.Body)
		}
	}
}

func TestLegacyDocuments(t *testing.T) {
	a := newTestAgent(t)
	label := &mesosv1.Labels{Labels: []*mesosv1.Label{{Key: proto.String("tenant"), Value: proto.String("blue")}}}
	task := a.withTask("t", &mesosv1.NetworkInfo{Name: proto.String("net2"), Labels: label}, &mesosv1.NetworkInfo{Name: proto.String("lognet")})
	task.attachment = &isolator.Attachment{Results: []isolator.Result{
		{Network: "net2", IP4: "10.89.0.7", IP6: "fd00:89::7/64"}, {Network: "lognet", IP4: "10.99.0.5"},
	}}
	status := a.verdict(task, mesosv1.TaskState_TASK_RUNNING, mesosv1.TaskStatus_REASON_RECONCILIATION, "")
	status.ContainerStatus = a.containerStatus(task)
	task.statuses = append(task.statuses, status)
	want := `{"network_infos":[{"ip_addresses":[{"protocol":"IPv4","ip_address":"10.89.0.7"},{"protocol":"IPv6","ip_address":"fd00:89::7/64"}],"name":"net2",` +
		`"labels":{"labels":[{"key":"tenant","value":"blue"}]}},{"ip_addresses":[{"protocol":"IPv4","ip_address":"10.99.0.5"}],"name":"lognet"}],"executor_pid":25741`
	if got := string(codec.MarshalJSON(status.ContainerStatus)); !strings.Contains(got, want[1:]) {
		t.Errorf("container status\n got %s\nwant %s", got, want)
	}
	state := request(a, overTLS, http.MethodGet, "/state", "").Body.String()
	for _, want := range []string{
		`"pid":"slave(1)@127.0.0.1:5051"`, `"ports":"[31000-31099]"`, `"attributes":{"rack":"r1","zone":"a"}`, `"cpus":2.0`,
		`"container":"` + task.cid + `"`, `"labels":[{"key":"tenant","value":"blue"}]`, `"directory":"` + a.config.WorkDir + `/slaves/a-1/frameworks/f-1/executors/t/runs/` + task.cid,
	} {
		if !strings.Contains(state, want) {
			t.Errorf("no %s in /state: %s", want, state)
		}
	}
	var containers []struct {
		ContainerID  string `json:"container_id"`
		ExecutorName string `json:"executor_name"`
	}
	if err := json.Unmarshal(request(a, overTLS, http.MethodGet, "/containers", "").Body.Bytes(), &containers); err != nil ||
		len(containers) != 1 || containers[0].ContainerID != task.cid || containers[0].ExecutorName != "Command Executor (Task: t) (Command: sh -c 'hostname; ip...')" {
		t.Errorf("containers %+v %v", containers, err)
	}
}

// The table of commands and images in Mesos's documentation.
func TestCommandTable(t *testing.T) {
	img := func(entrypoint, cmd []string) *image.Image {
		return &image.Image{Name: "i", Entrypoint: entrypoint, Cmd: cmd}
	}
	for _, test := range []struct {
		image   *image.Image
		command *mesosv1.CommandInfo
		want    string
	}{
		{img([]string{"e"}, []string{"c"}), &mesosv1.CommandInfo{Value: proto.String("v")}, "/bin/sh: sh -c v"},
		{img([]string{"e"}, nil), &mesosv1.CommandInfo{Shell: proto.Bool(false), Value: proto.String("v"), Arguments: []string{"a0", "a1"}}, "v: a0 a1"},
		{img([]string{"e"}, []string{"c"}), &mesosv1.CommandInfo{Shell: proto.Bool(false)}, "e: e c"},
		{img([]string{"e"}, []string{"c"}), &mesosv1.CommandInfo{Shell: proto.Bool(false), Arguments: []string{"a"}}, "e: e a"},
		{img(nil, []string{"c", "d"}), &mesosv1.CommandInfo{Shell: proto.Bool(false)}, "c: c d"},
		{img(nil, []string{"c", "d"}), &mesosv1.CommandInfo{Shell: proto.Bool(false), Arguments: []string{"a"}}, "c: c a"},
		{img(nil, nil), &mesosv1.CommandInfo{Shell: proto.Bool(false)}, `image "i" has neither entrypoint nor command, and the task gives none`},
		{nil, &mesosv1.CommandInfo{Shell: proto.Bool(false)}, "command has no value and there is no image to say what to run"},
		{nil, &mesosv1.CommandInfo{}, "shell command has no value"},
	} {
		a := newTestAgent(t)
		b := builder{agent: a, task: a.withTask("t"), sandbox: "/s", image: test.image}
		b.task.info.Command = test.command
		c, err := b.command()
		got := c.Path + ": " + strings.Join(c.Args, " ")
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%v: %s, want %s", test.command, got, test.want)
		}
	}
}

func TestVolumes(t *testing.T) {
	a := newTestAgent(t)
	b := builder{agent: a, task: a.withTask("t"), sandbox: filepath.Join(t.TempDir(), "s"), image: &image.Image{}}
	volume := func(v *mesosv1.Volume) (string, error) {
		b.task.info.Container.Volumes = []*mesosv1.Volume{v}
		binds, err := b.volumes()
		if err != nil {
			return "", err
		}
		return strings.TrimPrefix(binds[0].Source, b.sandbox) + " " + binds[0].Target, nil
	}
	kind := func(k mesosv1.Volume_Source_Type) *mesosv1.Volume_Source {
		return &mesosv1.Volume_Source{Type: k.Enum()}
	}
	sandbox := kind(mesosv1.Volume_Source_SANDBOX_PATH)
	sandbox.SandboxPath = &mesosv1.Volume_Source_SandboxPath{Path: proto.String("data")}
	leaving := kind(mesosv1.Volume_Source_SANDBOX_PATH)
	leaving.SandboxPath = &mesosv1.Volume_Source_SandboxPath{Path: proto.String("../data")}
	var got []string
	for _, v := range []*mesosv1.Volume{
		{ContainerPath: proto.String("data"), HostPath: proto.String("/srv")},
		{ContainerPath: proto.String("/data"), Source: sandbox},
		{ContainerPath: proto.String("/data"), HostPath: proto.String("srv")},
		{ContainerPath: proto.String("/data"), Source: leaving},
		{ContainerPath: proto.String("/data"), Source: kind(mesosv1.Volume_Source_SECRET)},
	} {
		text, err := volume(v)
		if err != nil {
			text = err.Error()
		}
		got = append(got, text)
	}
	want := []string{
		"/srv /mnt/mesos/sandbox/data", "/data /data", `volume "/data": host path "srv" is not absolute`,
		`volume "/data": path "../data" leaves the sandbox`, `volume "/data": source SECRET is not supported by this agent`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A task survives a restart as its record, and goes when nothing is left of it.
func TestRecords(t *testing.T) {
	a := newTestAgent(t)
	task := a.withTask("t")
	task.statuses = []*mesosv1.TaskStatus{a.verdict(task, mesosv1.TaskState_TASK_FAILED, mesosv1.TaskStatus_REASON_EXECUTOR_TERMINATED, "x")}
	task.phase = ended
	if err := a.save(task); err != nil {
		t.Fatal(err)
	}
	all, err := a.records()
	if err != nil || len(all) != 1 || all[0].cid != task.cid || all[0].phase != ended || !proto.Equal(all[0].statuses[0], task.statuses[0]) {
		t.Errorf("records %+v %v", all, err)
	}
	task.acknowledged = 1
	if err := a.save(task); err != nil {
		t.Fatal(err)
	}
	if all, err := a.records(); err != nil || len(all) != 0 {
		t.Errorf("records %v %v", all, err)
	}
	if err := os.WriteFile(a.recordPath("x"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.records(); err == nil || !strings.Contains(err.Error(), "repair or remove the file") {
		t.Errorf("broken record: %v", err)
	}
}

func TestCollectSandboxes(t *testing.T) {
	a := newTestAgent(t)
	live := a.withTask("live")
	var dirs []string
	for _, task := range []*task{live, a.withTask("old"), a.withTask("new")} {
		dir, err := a.makeSandbox(task, account{uint32(os.Getuid()), uint32(os.Getgid())})
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
		if task != live {
			task.phase = ended
		}
	}
	if err := os.Chtimes(dirs[1], a.began.Add(-1e12), a.began.Add(-1e12)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(dirs[2], a.began.Add(1e12), a.began.Add(1e12)); err != nil {
		t.Fatal(err)
	}
	a.collectSandboxes()
	for i, want := range []bool{true, false, true} {
		if _, err := os.Stat(dirs[i]); (err == nil) != want {
			t.Errorf("%s: %v", dirs[i], err)
		}
	}
	if _, err := os.Lstat(filepath.Dir(filepath.Dir(dirs[1]))); err == nil {
		t.Error("empty directories are left")
	}
}
