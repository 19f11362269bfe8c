package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/api/vrouterapi"
)

// traceNode answers as an agent does, and notes what it was asked.
func traceNode(t *testing.T, name string, answers map[string]string) (url string, asked *[]string) {
	asked = &[]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(vrouterapi.HeaderNode, name)
		q := r.URL.Query()
		key := strings.Join([]string{r.URL.Path, q.Get("vif"), q.Get("node"), q.Get("asked")}, " ")
		answer, ok := answers[strings.TrimRight(key, " ")]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			answer = `{"kind":"not-found","message":"nothing of ` + key + `"}`
		} else if strings.HasPrefix(r.URL.Path, "/trace") {
			*asked = append(*asked, r.URL.String())
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

const (
	sentTrace = `{"node":"node-1","node_address":"172.31.0.11","protocol":"tcp","source":"10.32.0.3","source_port":49152,"destination":"198.51.100.4","destination_port":80,
"source_as":"198.51.100.3","destination_as":"198.51.100.4","verdict":"tunnel","next_hop":{"type":"tunnel","remote":"172.31.0.12","encapsulation":"MPLSoUDP","label":17},
"steps":[{"step":"port","text":"vif 4 tap1"},{"step":"tunnel","text":"tunnel to 172.31.0.12"}]}`
	arrivedTrace = `{"node":"node-2","node_address":"172.31.0.12","protocol":"tcp","source":"198.51.100.3","source_port":49152,"destination":"198.51.100.4","destination_port":80,
"source_as":"198.51.100.3","destination_as":"10.32.0.9","verdict":"delivered","next_hop":{"type":"local","vif":7},"steps":[{"step":"deliver","text":"to vif 7"}]}`
	answeredTrace = `{"node":"node-2","node_address":"172.31.0.12","protocol":"tcp","source":"10.32.0.9","source_port":80,"destination":"198.51.100.3","destination_port":49152,
"source_as":"198.51.100.4","destination_as":"198.51.100.3","verdict":"dropped","reason":"no-route","advice":"look at the routes","steps":[{"step":"drop","text":"no-route: none"}]}`
)

// TestTraceOfTwoNodes: the agent at the end of the tunnel is asked for the delivery,
// with the addresses that the packet has then, and the answer is asked for from the
// receiver.
func TestTraceOfTwoNodes(t *testing.T) {
	one, asked1 := traceNode(t, "node-1", map[string]string{
		"/vif client": `{"vifs":[{"vif":4,"type":"virtual","addresses":["10.32.0.3","2001:db8::3"]}]}`,
		"/trace 4":    sentTrace,
	})
	two, asked2 := traceNode(t, "node-2", map[string]string{
		"/trace/arrival  172.31.0.12": arrivedTrace,
		"/trace 7  198.51.100.4":      answeredTrace,
	})
	v, err := NewVRouter([]string{one, two})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	q := TraceQuery{Source: "client", Destination: "198.51.100.4", Protocol: "tcp", Port: "80"}
	var out bytes.Buffer
	if err := v.Trace(context.Background(), &out, q, Text); err != nil {
		t.Fatal(err)
	}
	want := `tcp 10.32.0.3:49152 -> 198.51.100.4:80
NODE STEP WHAT
node-1 port vif 4 tap1
node-1 tunnel tunnel to 172.31.0.12
node-2 deliver to vif 7
node-2 (answer) drop no-route: none
is delivered; its answer is dropped: no-route
look at the routes`
	if got := squeezed(out.String()); got != want {
		t.Errorf("shows\n%s\nwant\n%s", got, want)
	}
	if len(*asked1) != 1 || !strings.Contains((*asked1)[0], "destination=198.51.100.4&port=80&protocol=tcp&source=10.32.0.3") {
		t.Errorf("asked node 1 %q", *asked1)
	}
	if len(*asked2) != 2 || !strings.Contains((*asked2)[0], "destination=198.51.100.4&encapsulation=MPLSoUDP&label=17") ||
		!strings.Contains((*asked2)[0], "outer=172.31.0.11") || !strings.Contains((*asked2)[0], "source=198.51.100.3") ||
		!strings.Contains((*asked2)[1], "destination=198.51.100.3&port=49152&protocol=tcp&source=10.32.0.9&source_port=80") {
		t.Errorf("asked node 2 %q", *asked2)
	}
	out.Reset()
	var result TraceResult
	if err := v.Trace(context.Background(), &out, q, JSON); err != nil || json.Unmarshal(out.Bytes(), &result) != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if result.Verdict != "delivered" || result.AnswerVerdict != "dropped" || result.AnswerReason != "no-route" || len(result.Hops) != 2 || len(result.Answer) != 1 {
		t.Errorf("JSON is %+v", result)
	}
}

// TestTraceBeyond: a trace ends with the tunnel whose agent is not asked, and names
// that are nobody's or several's are errors.
func TestTraceBeyond(t *testing.T) {
	answers := map[string]string{
		"/vif client":    `{"vifs":[{"vif":4,"type":"virtual","addresses":["10.32.0.3"]}]}`,
		"/vif two":       `{"vifs":[{"vif":4,"type":"virtual"},{"vif":5,"type":"virtual"}]}`,
		"/vif six":       `{"vifs":[{"vif":6,"type":"virtual","addresses":["2001:db8::6"]}]}`,
		"/vif 10.32.0.3": `{"vifs":[{"vif":4,"type":"virtual","addresses":["10.32.0.3"]}]}`,
		"/trace 4":       sentTrace,
	}
	one, _ := traceNode(t, "node-1", answers)
	v, err := NewVRouter([]string{one})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var out bytes.Buffer
	if err := v.Trace(context.Background(), &out, TraceQuery{Source: "10.32.0.3", Destination: "198.51.100.4", Protocol: "tcp"}, Text); err != nil ||
		!strings.HasSuffix(out.String(), "leaves for 172.31.0.12, whose agent was not asked or does not answer\n") {
		t.Errorf("%v: %s", err, out.String())
	}
	for _, bad := range []struct{ source, destination, want string }{
		{"nobody", "198.51.100.4", "source: nothing of"},
		{"client", "nobody", "destination: nothing of"},
		{"two", "198.51.100.4", "vif 4 and at node-1 vif 5"},
		{"client", "six", "same family"},
	} {
		out.Reset()
		err := v.Trace(context.Background(), &out, TraceQuery{Source: bad.source, Destination: bad.destination, Protocol: "tcp"}, Text)
		if err == nil || !strings.Contains(err.Error(), bad.want) || out.Len() != 0 {
			t.Errorf("%+v: %v, wrote %q", bad, err, out.String())
		}
	}
}
