package master

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
)

// compareStream compares what was told of each task, and errors.
func (r *replayer) compareStream(s *replayStream) {
	r.t.Helper()
	if s.closed {
		return // it was, when it was closed
	}
	if s.operator != nil {
		r.compareOperator(s)
		return
	}
	want := r.told(s.recorded)
	for n := range want {
		for len(r.told(s.got)) <= n {
			if r.nextEvent(s) == nil {
				r.t.Fatalf("%s: stream ended with\n%s\nwant\n%s", r.file, strings.Join(r.told(s.got), "\n"), strings.Join(want, "\n"))
			}
		}
	}
	got := r.told(s.got)[:len(want)]
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("%s: (-recorded +ours)\n%s", r.file, diff)
	}
}

// told is what a scheduler learns of its tasks, in lines. Repetitions are left
// out: they depend on time.
func (r *replayer) told(events []*schedulerv1.Event) []string {
	var all []string
	seen := map[string]bool{}
	for _, e := range events {
		switch {
		case e.Failure != nil:
			all = append(all, fmt.Sprintf("FAILURE agent=%t %s %d", e.GetFailure().AgentId != nil, e.GetFailure().GetExecutorId().GetValue(), e.GetFailure().GetStatus()))
		case e.Update != nil:
			s := e.GetUpdate().GetStatus()
			if s.Uuid != nil && seen[string(s.Uuid)] {
				continue
			}
			seen[string(s.GetUuid())] = true
			message := neutral(s.GetMessage())
			if strings.HasPrefix(message, "ExecutorInfo is not compatible") {
				message = "ExecutorInfo is not compatible" // Mesos adds both in text
			}
			state := s.GetState().String()
			if message == "Reconciliation: Latest task state" {
				state = "LATEST" // how far the task is, depends on time
			}
			all = append(all, fmt.Sprintf("%.40s %s %s %s agent=%t executor=%t uuid=%t container=%t %s", s.GetTaskId().GetValue(), state, s.GetSource(),
				reasonOf(s), s.AgentId != nil, s.ExecutorId != nil, s.Uuid != nil, s.ContainerStatus != nil, message))
		case e.Error != nil:
			all = append(all, "ERROR "+e.GetError().GetMessage())
		}
	}
	return all
}

func reasonOf(s *mesosv1.TaskStatus) string {
	if s.Reason == nil {
		return "-"
	}
	return s.GetReason().String()
}

func (r *replayer) compareBody(e exchange, response *http.Response) {
	data, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	switch {
	case e.Response.BodyText != "" && strings.HasPrefix(e.Response.Headers["Content-Type"], "text/plain"):
		if got, want := neutral(string(data)), neutral(e.Response.BodyText); got != want {
			r.t.Errorf("%s %d:\n got %s\nwant %s", r.file, e.N, got, want)
		}
	case len(e.Response.Body) > 0 && e.Response.Body[0] == '{' && strings.HasPrefix(e.Response.Headers["Content-Type"], "application/json"):
		want, got := shape(r.t, e.Response.Body), shape(r.t, data)
		for path := range want {
			known := slices.ContainsFunc(missingFields, func(end string) bool { return strings.Contains(path+".", end+".") || strings.Contains(path, end) })
			if !got[path] && !known && (r.past == "" || !strings.HasPrefix(path, r.past)) {
				r.t.Errorf("%s %d (%s %s): %s is missing", r.file, e.N, e.Request.Path, typeOf(e.Request.Body), path)
			}
		}
		for path := range got {
			known := slices.ContainsFunc(missingFields, func(end string) bool { return strings.Contains(path, end) })
			if !want[path] && !known {
				r.t.Errorf("%s %d (%s %s): %s is not in the recording", r.file, e.N, e.Request.Path, typeOf(e.Request.Body), path)
			}
		}
	case len(data) > 0 && len(e.Response.Body) == 0 && e.Response.BodyB64 == "":
		r.t.Errorf("%s %d: body %.100s, want none", r.file, e.N, data)
	}
}

// shape is the set of paths with the types of their values.
func shape(t *testing.T, text []byte) map[string]bool {
	t.Helper()
	var v any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%.200s: %v", text, err)
	}
	paths := map[string]bool{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			paths[path+" object"] = true
			for key, value := range v {
				walk(path+"."+key, value)
			}
		case []any:
			paths[path+" array"] = true
			for _, value := range v {
				walk(path+"[]", value)
			}
		case json.Number:
			kind := " integer"
			if strings.ContainsAny(v.String(), ".e") {
				kind = " double"
			}
			paths[path+kind] = true
		default:
			paths[fmt.Sprintf("%s %T", path, v)] = true
		}
	}
	walk("", v)
	return paths
}
