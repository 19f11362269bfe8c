package configapi

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/api/contrail/config/v1/configv1connect"
	"github.com/contrail-mesos/contrail/internal/model"
)

// hostile are values that no property has.
var hostile = map[string]string{
	"duplicate key":   `{"a": 1, "a": 2}`,
	"deep":            strings.Repeat("[", 40) + strings.Repeat("]", 40),
	"masses":          "[" + strings.Repeat("0,", 300_000) + "0]",
	"surrogate":       `"\ud800"`,
	"control":         `"\u0000"`,
	"invalid utf-8":   "\"\xff\"",
	"out of range":    `99999999999999999999`,
	"fraction":        `1.5`,
	"exponent":        `1e400`,
	"a list":          `[1]`,
	"a number":        `1`,
	"a boolean":       `true`,
	"a nested object": `{"x": {"y": [{"z": 1}]}}`,
}

// Hostile bodies get an answer that says what is wrong, and change nothing.
func TestHostileBodies(t *testing.T) {
	b := newBench(t, testConfig())
	vn := b.network()
	before := b.dump()
	var places []struct{ method, path, body string }
	add := func(method, path, body string) {
		places = append(places, struct{ method, path, body string }{method, path, body})
	}
	add("POST", "/virtual-networks", `%s`)
	add("POST", "/virtual-networks", `{"virtual-network": %s}`)
	for _, field := range []string{"fq_name", "uuid", "parent_type", "virtual_network_properties", "network_ipam_refs", "id_perms", "perms2", "annotations"} {
		add("POST", "/virtual-networks", `{"virtual-network": {"fq_name": ["default-domain", "p", "x"], "parent_type": "project", "`+field+`": %s}}`)
		add("PUT", "/virtual-network/"+vn, `{"virtual-network": {"`+field+`": %s}}`)
	}
	add("PUT", "/virtual-network/"+vn, `{"virtual-network": {"virtual_network_properties": {"vxlan_network_identifier": {"x": %s}}}}`)
	add("PUT", "/virtual-network/"+vn, `{"virtual-network": {"network_ipam_refs": [{"to": %s}]}}`)
	add("PUT", "/virtual-network/"+vn, `{"virtual-network": {"network_ipam_refs": [{"to": ["default-domain", "p", "ipam"], "attr": %s}]}}`)
	for _, action := range []string{"fqname-to-id", "id-to-fqname", "ref-update"} {
		add("POST", "/"+action, `%s`)
		add("POST", "/"+action, `{"type": %s, "uuid": "x"}`)
		add("POST", "/"+action, `{"type": "virtual-network", "uuid": %s}`)
	}
	for _, place := range places {
		for name, value := range hostile {
			status, text, header := b.call(place.method, place.path, strings.Replace(place.body, "%s", value, 1))
			if status < 400 || status > 499 || text == "" {
				t.Errorf("%s %s %s in %s: %d %.300s", place.method, place.path, name, place.body, status, text)
			}
			if got := header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain") {
				t.Errorf("%s: %s", place.path, got)
			}
		}
	}
	if after := b.dump(); !maps.Equal(before, after) {
		t.Error("refused requests changed the store")
	}
}

// Errors name the field and show the value.
func TestBadInputIsNamed(t *testing.T) {
	b := newBench(t, testConfig())
	vn := b.network()
	put := func(fields string) string { return `{"virtual-network": {` + fields + `}}` }
	for _, c := range []struct{ method, path, body, want string }{
		{"PUT", "/virtual-network/" + vn, put(`"is_shared": true, "is_shared": false`), "virtual-network.is_shared is given twice"},
		{"PUT", "/virtual-network/" + vn, put(`"display_name": "a\u0007"`), "virtual-network.display_name is text with the control character U+0007"},
		{"PUT", "/virtual-network/" + vn, put(`"is_shared": "yes"`), `is_shared is "yes", want true or false`},
		{"PUT", "/virtual-network/" + vn, put(`"virtual_network_properties": {"vxlan_network_identifier": 1.5}`), "virtual_network_properties.vxlan_network_identifier is 1.5, want an integer from 1 to 16777215"},
		{"PUT", "/virtual-network/" + vn, put(`"network_ipam_refs": [{"to": 5}]`), "network_ipam_refs.to is "},
		{"PUT", "/virtual-network/" + vn, put(`"network_ipam_refs": {}`), "network_ipam_refs is {}, want a list"},
		{"PUT", "/virtual-network/" + vn, put(`"perms2": {"owner": "x", "owner_access": 8}`), "perms2 is with the access 8, want an integer from 0 to 7"},
		{"PUT", "/virtual-network/" + vn, `[]`, "the body is [], want an object"},
		{"PUT", "/virtual-network/" + vn, `{"virtual-network": 5}`, "virtual-network is 5, want an object"},
		{"PUT", "/virtual-network/" + vn, `{"virtual-network": {}} x`, `the body is "x", want nothing after`},
		{"POST", "/fqname-to-id", `{"type": 7}`, "type is 7, want a string"},
		{"GET", "/virtual-networks?fields=%00", "", "the query parameter fields is"},
		{"GET", "/virtual-networks?fields=%ff", "", "the query parameter fields is"},
		{"GET", "/virtual-networks?a=1;b=2", "", "the query cannot be read"},
		{"GET", "/virtual-network/%00", "", "the path"},
		{"PUT", "/virtual-network/" + vn, put(`"network_policy_refs": [` + strings.Repeat(`{"to": ["x"]},`, 500) + `{"to": ["x"]}]`), "501 references; at most 500"},
	} {
		status, text, _ := b.call(c.method, c.path, c.body)
		if status != http.StatusBadRequest || !strings.Contains(text, c.want) {
			t.Errorf("%s %.60s %.80s: %d %s, want %s", c.method, c.path, c.body, status, text, c.want)
		}
	}
}

// A client that sends its body too slowly is answered, and keeps no place.
func TestSlowBody(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := bounded(w, r).(*timedBody)
		_ = b.control.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		r.Body = b
		fail(w, body(r, &struct{}{}))
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408") {
		t.Errorf("%s %v", answer, err)
	}
}

// slowNodes joins when the time for the body is over.
type slowNodes struct {
	configv1connect.UnimplementedNodesHandler
	takes time.Duration
}

func (s slowNodes) Join(ctx context.Context, r *connect.Request[configv1.JoinRequest]) (*connect.Response[configv1.JoinResponse], error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(s.takes):
		return connect.NewResponse(&configv1.JoinResponse{}), nil
	}
}

// The time for the body of an RPC is that until it is there, and no longer.
func TestSlowBodyOfRPC(t *testing.T) {
	const patience = time.Second // in which a busy machine reads a body that is there
	path, handler := configv1connect.NewNodesHandler(slowNodes{takes: 2 * patience})
	server := httptest.NewUnstartedServer(timely(patience, handler))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	http1 := server.Client().Transport.(*http.Transport).Clone()
	http1.Protocols = new(http.Protocols)
	http1.Protocols.SetHTTP1(true)
	http1.ForceAttemptHTTP2, http1.TLSClientConfig.NextProtos = false, []string{"http/1.1"}
	t.Cleanup(http1.CloseIdleConnections)
	for _, c := range []struct {
		name    string
		client  *http.Client
		options []connect.ClientOption
	}{
		{"connect over HTTP/1", &http.Client{Transport: http1}, nil},
		{"connect over HTTP/2", server.Client(), nil},
		{"gRPC", server.Client(), []connect.ClientOption{connect.WithGRPC()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := configv1connect.NewNodesClient(c.client, server.URL, c.options...)
			if _, err := client.Join(t.Context(), connect.NewRequest(&configv1.JoinRequest{Node: "n"})); err != nil {
				t.Errorf("an answer that takes longer than the body may: %v", err)
			}
			slow, end := io.Pipe()
			defer end.Close()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path+"Join", slow)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/json")
			answer, err := c.client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			text, err := io.ReadAll(answer.Body)
			if err != nil || answer.StatusCode == http.StatusOK || !strings.Contains(string(text), "deadline_exceeded") {
				t.Errorf("a body that does not come: %s %s %v", answer.Status, text, err)
			}
		})
	}
}

// FuzzBody: the reader of bodies accepts only what is an object of its type.
func FuzzBody(f *testing.F) {
	for _, value := range hostile {
		if len(value) < 1000 {
			f.Add([]byte(`{"virtual-network": `+value+`}`), "a=b")
		}
	}
	f.Add([]byte(`{"virtual-network": {"fq_name": ["a", "b", "c"], "network_ipam_refs": [{"to": ["x"], "attr": {"ipam_subnets": []}}]}}`), "filters=a==1&count=true")
	t, _ := model.TypeOf("virtual-network")
	f.Fuzz(func(tt *testing.T, data []byte, query string) {
		r := httptest.NewRequest("POST", "/virtual-networks", strings.NewReader(string(data)))
		r.URL = &url.URL{Path: "/virtual-networks", RawQuery: query}
		if checkURL(r) == nil {
			if _, err := listQueryOf(t, r.URL.Query(), base(r)); err != nil && httpStatus(err) != http.StatusBadRequest {
				tt.Errorf("query %q: %v", query, err)
			}
		}
		in, err := fields(r, t)
		if err == nil && in != nil {
			_, err = sortFields(t, in, "create")
		}
		if err != nil && httpStatus(err) != http.StatusBadRequest {
			tt.Errorf("%q: %d %v", data, httpStatus(err), err)
		}
	})
}
