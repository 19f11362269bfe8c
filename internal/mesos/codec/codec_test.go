package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	agentv1 "github.com/contrail-mesos/contrail/api/mesos/v1/agent"
	executorv1 "github.com/contrail-mesos/contrail/api/mesos/v1/executor"
	masterv1 "github.com/contrail-mesos/contrail/api/mesos/v1/master"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
)

type recording struct {
	Exchanges []struct {
		N          int
		Connection string
		Request    *struct {
			Method, Path string
			Body         json.RawMessage
			BodyText     string `json:"body_text"`
		}
		Response response
	}
}

type response struct {
	Status   int
	Body     json.RawMessage
	BodyText string `json:"body_text"`
	BodyB64  string `json:"body_base64"`
	Records  []struct {
		Record json.RawMessage
		B64    string `json:"record_base64"`
	}
}

// UnmarshalJSON leaves out answers that did not come, which are told in words.
func (r *response) UnmarshalJSON(data []byte) error {
	if data[0] != '{' {
		return nil
	}
	type plain response
	return json.Unmarshal(data, (*plain)(r))
}

func recordings(t testing.TB, pattern string) map[string]recording {
	t.Helper()
	files, err := filepath.Glob("../testdata/recordings/" + pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings %s: %v", pattern, err)
	}
	all := map[string]recording{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var r recording
		if err := json.Unmarshal(data, &r); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[filepath.Base(file)] = r
	}
	return all
}

// answerOf returns the message that a path answers with or streams.
func answerOf(path, connection string, stream bool) proto.Message {
	agent := !strings.HasSuffix(connection, ":5050")
	switch path = strings.TrimSuffix(path, "/"); {
	case strings.HasSuffix(path, "/api/v1/scheduler"):
		return &schedulerv1.Event{}
	case strings.HasSuffix(path, "/api/v1/executor"):
		return &executorv1.Event{}
	case !strings.HasSuffix(path, "/api/v1"):
		return nil
	case agent && stream:
		return &agentv1.ProcessIO{}
	case agent:
		return &agentv1.Response{}
	case stream:
		return &masterv1.Event{}
	default:
		return &masterv1.Response{}
	}
}

// What a real Mesos wrote is read, and written again with the same fields,
// names and values, in the same order.
func TestJSONOfRecordings(t *testing.T) {
	count := 0
	for file, r := range recordings(t, "*.json") {
		for _, e := range r.Exchanges {
			if e.Request == nil {
				continue
			}
			check := func(text json.RawMessage, stream bool) {
				m := answerOf(e.Request.Path, e.Connection, stream)
				if m == nil || len(text) == 0 || text[0] != '{' {
					return
				}
				if err := UnmarshalJSON(text, m); err != nil {
					t.Errorf("%s %d: %v", file, e.N, err)
					return
				}
				count++
				want, got := leaves(t, text), leaves(t, MarshalJSON(m))
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s %d: (-recorded +ours)\n%s", file, e.N, diff)
				}
			}
			check(e.Response.Body, false)
			for _, rec := range e.Response.Records {
				check(rec.Record, true)
			}
		}
	}
	if count < 300 {
		t.Errorf("only %d messages checked", count)
	}
}

// reservedFields are fields that Mesos writes and this project's schema
// reserves, or that leak from Mesos's internal schema (checkpoint of agents).
var reservedFields = []string{
	"get_operations", "get_quota", "get_maintenance_status", "get_maintenance_schedule", "get_resource_providers",
	"disk_statistics", "net_snmp_statistics", "cpus_soft_limit", "mem_kmem_usage_bytes", "mem_kmem_tcp_usage_bytes", "blkio_statistics",
	"agent_info.checkpoint",
}

// leaves lists the values of a JSON text in order, each with its path.
// Doubles are cut to microseconds: Mesos's last digit is not always the
// shortest that reads back equal.
func leaves(t *testing.T, text []byte) []string {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var all []string
	var walk func(path string)
	walk = func(path string) {
		token, err := decoder.Token()
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		switch v := token.(type) {
		case json.Delim:
			for decoder.More() {
				if v == '[' {
					walk(path + "[]")
					continue
				}
				name, err := decoder.Token()
				if err != nil {
					t.Fatal(err)
				}
				walk(path + "." + name.(string))
			}
			decoder.Token()
			return
		case json.Number:
			if f, err := v.Float64(); err == nil && strings.Contains(v.String(), ".") {
				token = strconv.FormatFloat(f, 'f', 6, 64)
			}
		}
		for _, field := range reservedFields {
			if strings.HasSuffix(path, "."+field) || strings.Contains(path, "."+field+".") || strings.Contains(path, "."+field+"[]") {
				return
			}
		}
		all = append(all, fmt.Sprintf("%s = %v", path, token))
	}
	walk("")
	return all
}

func TestProtobufOfRecordings(t *testing.T) {
	count := 0
	for file, r := range recordings(t, "*protobuf.json") {
		for _, e := range r.Exchanges {
			if e.Request == nil {
				continue
			}
			check := func(b64 string, stream bool) {
				if b64 == "" {
					return
				}
				data, err := base64.StdEncoding.DecodeString(b64)
				if err != nil {
					t.Fatal(err)
				}
				m := answerOf(e.Request.Path, e.Connection, stream)
				// Numbers that the v1 schema does not have leak from Mesos's own.
				if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, m); err != nil {
					t.Errorf("%s %d: %v", file, e.N, err)
					return
				}
				count++
				again := m.ProtoReflect().New().Interface()
				if err := UnmarshalJSON(MarshalJSON(m), again); err != nil {
					t.Errorf("%s %d: %v", file, e.N, err)
				} else if !proto.Equal(m, again) {
					t.Errorf("%s %d: JSON changes the message: %s", file, e.N, cmp.Diff(m, again, protocmp.Transform()))
				}
			}
			check(e.Response.BodyB64, false)
			for _, rec := range e.Response.Records {
				check(rec.B64, true)
			}
		}
	}
	if count < 10 {
		t.Errorf("only %d messages checked", count)
	}
}

// Calls that Mesos refused for their text are refused with the same text.
func TestRefusedCallsOfRecordings(t *testing.T) {
	count := 0
	for file, r := range recordings(t, "*.json") {
		for _, e := range r.Exchanges {
			if e.Request == nil || e.Response.Status != http.StatusBadRequest {
				continue
			}
			want := e.Response.BodyText
			if !strings.HasPrefix(want, "Failed to parse body into JSON") && !strings.HasPrefix(want, "Failed to convert JSON") {
				continue
			}
			body := []byte(e.Request.BodyText)
			if len(e.Request.Body) > 0 && string(e.Request.Body) != `""` {
				body = e.Request.Body
			}
			var call proto.Message = &masterv1.Call{}
			switch {
			case strings.HasSuffix(e.Request.Path, "scheduler"):
				call = &schedulerv1.Call{}
			case strings.HasSuffix(e.Request.Path, "executor"):
				call = &executorv1.Call{}
			case strings.HasPrefix(file, "agent-0"):
				call = &agentv1.Call{}
			}
			count++
			if err := UnmarshalJSON(body, call); err == nil || err.Error() != want {
				t.Errorf("%s %d: %s: got %v, want %s", file, e.N, body, err, want)
			}
		}
	}
	if count < 8 {
		t.Errorf("only %d calls checked", count)
	}
}

func TestJSONInput(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{`{"type":"RANGES","name":"ports","ranges":{"range":[{"begin":"31000","end":32000.0}]}}`, `{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":31000,"end":32000}]}}`},
		{`{"type":"SCALAR","name":"cpus","scalar":{"value":"0.5"},"unknown":[1,{}]}`, `{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}}`},
		{`{"type":"SCALAR","name":"cpus","scalar":{"value":"Infinity"},"role":null}`, `{"name":"cpus","type":"SCALAR","scalar":{"value":"Infinity"}}`},
		{`{"type":"NOPE","name":"cpus"}`, `error: Failed to convert JSON into Resource protobuf: Failed to find enum for 'NOPE'`},
		{`{"type":"SCALAR","name":1}`, `error: Failed to convert JSON into Resource protobuf: Not expecting a JSON number for field 'name'`},
		{`{"type":"SCALAR","name":["a"]}`, `error: Failed to convert JSON into Resource protobuf: Not expecting a JSON array for field 'name'`},
		{`{"type":"SCALAR"} x`, `error: Failed to parse body into JSON: Parsed JSON included non-whitespace suffix: x`},
		{`{"type":"SCALAR","name":"a","scalar":{"value":"x"}}`, `error: Failed to convert JSON into Resource protobuf: Failed to parse 'x' as a JSON number for field 'value'`},
	} {
		m := &mesosv1.Resource{}
		got := ""
		if err := UnmarshalJSON([]byte(test.in), m); err != nil {
			got = "error: " + err.Error()
		} else {
			got = string(MarshalJSON(m))
		}
		if got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.in, got, test.want)
		}
	}
}

func TestMarshalJSONWithDefaults(t *testing.T) {
	info := &mesosv1.NetworkInfo{Name: proto.String("blue"), IpAddresses: []*mesosv1.NetworkInfo_IPAddress{{}}, Labels: &mesosv1.Labels{}}
	want := `{"ip_addresses":[{"protocol":"IPv4"}],"name":"blue","labels":{}}`
	if got := string(MarshalJSONWithDefaults(info)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDoubles(t *testing.T) {
	for v, want := range map[float64]string{15: "15.0", 0.1: "0.1", 1795349353.230777: "1795349353.230777", 0: "0.0", -3: "-3.0", 1e22: "1e+22", math.Inf(1): `"Infinity"`} {
		if got := string(AppendDouble(nil, v)); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
}

func TestAccept(t *testing.T) {
	for accept, want := range map[string]string{
		"": "application/json", "*/*": "application/json", "application/x-protobuf": "application/x-protobuf",
		"application/x-protobuf, application/json;q=0.5": "application/json", "application/*": "application/json",
		"application/json;q=0, application/x-protobuf": "application/x-protobuf", "text/html": "406",
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		got := "406"
		if t, err := ResponseType(r); err == nil {
			got = t.String()
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", accept, got, want)
		}
	}
}

func TestRecordIO(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payloads := rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(t, "payloads")
		var stream []byte
		for _, p := range payloads {
			stream = AppendRecord(stream, p)
		}
		reader := NewRecordReader(bytes.NewReader(stream), 1<<20)
		for i, want := range payloads {
			if got, err := reader.Next(); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("record %d: got %q, %v, want %q", i, got, err, want)
			}
		}
		if _, err := reader.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("at the end: %v", err)
		}
	})
}

func TestRecordReaderRefuses(t *testing.T) {
	for stream, want := range map[string]string{
		"5\nabc": "unexpected EOF", "12": "unexpected EOF", "x\n": `read record: 'x' in the length of a record`,
		"\nabc": `read record: '\n' in the length of a record`, "101\n": "read record: longer than 100 bytes",
		"-1\n": `read record: '-' in the length of a record`, "00000000000001\na": "read record: length of a record has more than 10 digits",
	} {
		if _, err := NewRecordReader(strings.NewReader(stream), 100).Next(); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", stream, err, want)
		}
	}
}

// Each record is one chunk, as clients may count on.
func TestRecordIsOneChunk(t *testing.T) {
	big := &schedulerv1.Event{Type: schedulerv1.Event_ERROR.Enum(), Error: &schedulerv1.Event_Error{Message: proto.String(strings.Repeat("x", 10000))}}
	small := &schedulerv1.Event{Type: schedulerv1.Event_HEARTBEAT.Enum()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		records := NewRecordWriter(w, JSON, JSON.String())
		for _, m := range []proto.Message{small, big, small} {
			if err := records.Write(m); err != nil {
				t.Error(err)
			}
		}
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(text), "\r\n\r\n")
	for i, m := range []proto.Message{small, big, small} {
		record := string(AppendRecord(nil, MarshalJSON(m)))
		chunk := fmt.Sprintf("%x\r\n%s\r\n", len(record), record)
		rest, ok := strings.CutPrefix(body, chunk)
		if !ok {
			t.Fatalf("record %d is not one chunk: %.60q", i, body)
		}
		body = rest
	}
}

func FuzzUnmarshalJSON(f *testing.F) {
	for _, r := range recordings(f, "errors-0*.json") {
		for _, e := range r.Exchanges {
			if e.Request != nil && len(e.Request.Body) > 0 {
				f.Add([]byte(e.Request.Body))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &schedulerv1.Call{}
		if UnmarshalJSON(data, m) != nil {
			return
		}
		text := MarshalJSON(m)
		again := &schedulerv1.Call{}
		if err := UnmarshalJSON(text, again); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if second := MarshalJSON(again); !bytes.Equal(text, second) {
			t.Fatalf("%s becomes %s", text, second)
		}
	})
}

func FuzzRecordReader(f *testing.F) {
	f.Add([]byte("3\nabc0\n12\nhello worlds"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		reader := NewRecordReader(bytes.NewReader(stream), 1<<16)
		for {
			payload, err := reader.Next()
			if err != nil {
				return
			}
			if len(payload) > 1<<16 {
				t.Fatalf("record of %d bytes", len(payload))
			}
		}
	})
}
