package configapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The contract tests talk to the API as a client of the classic interface
// does: HTTP, JSON and the texts of errors, nothing else.

// m and l are JSON objects and lists.
type (
	m = map[string]any
	l = []any
)

// classic is a client of the classic interface.
type classic struct {
	testing.TB
	url   string
	http  *http.Client
	bench *bench
}

// newClassic starts an API with a store of its own and returns a client.
func newClassic(t testing.TB) *classic {
	t.Helper()
	b := newBench(t, testConfig())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.handler.ServeHTTP(w, r.WithContext(b.callerOf(r.Context())))
	}))
	c := &classic{t, server.URL, &http.Client{Transport: &http.Transport{}}, b}
	t.Cleanup(func() {
		c.http.CloseIdleConnections()
		server.Close()
	})
	return c
}

// send sends a request; body is JSON text or what becomes JSON.
func (c *classic) send(method, path string, body any) (status int, text string, header http.Header) {
	c.Helper()
	var data string
	switch b := body.(type) {
	case nil:
	case string:
		data = b
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			c.Fatal(err)
		}
		data = string(raw)
	}
	r, err := http.NewRequest(method, c.url+path, strings.NewReader(data))
	if err != nil {
		c.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json; charset=UTF-8")
	resp, err := c.http.Do(r)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	return resp.StatusCode, string(answer), resp.Header
}

// do sends a request that must succeed, and reads its JSON answer.
func (c *classic) do(method, path string, body any) m {
	c.Helper()
	status, text, header := c.send(method, path, body)
	if status != http.StatusOK {
		c.Fatalf("%s %s %v: %d %s", method, path, body, status, text)
	}
	if text == "" {
		return nil
	}
	if kind := header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		c.Errorf("%s %s: content type %q", method, path, kind)
	}
	var out m
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		c.Fatalf("%s %s: %v in %s", method, path, err, text)
	}
	return out
}

// fails sends a request that must be refused with a text that begins so.
func (c *classic) fails(status int, text, method, path string, body any) {
	c.Helper()
	got, answer, header := c.send(method, path, body)
	if got != status || !strings.HasPrefix(answer, text) {
		c.Errorf("%s %s %v: %d %q, want %d %q", method, path, body, got, answer, status, text)
	}
	if kind := header.Get("Content-Type"); !strings.HasPrefix(kind, "text/") {
		c.Errorf("%s %s: content type %q of an error", method, path, kind)
	}
}

// create creates an object and returns its id.
func (c *classic) create(kind string, fields m) string {
	c.Helper()
	return c.do("POST", "/"+kind+"s", m{kind: fields})[kind].(m)["uuid"].(string)
}

// read reads an object.
func (c *classic) read(kind, id string) m {
	c.Helper()
	return c.do("GET", "/"+kind+"/"+id, nil)[kind].(m)
}

// delete deletes an object.
func (c *classic) delete(kind, id string) {
	c.Helper()
	if status, text, _ := c.send("DELETE", "/"+kind+"/"+id, nil); status != http.StatusOK || text != "" {
		c.Fatalf("delete %s %s: %d %q", kind, id, status, text)
	}
}

// id finds an object by its name, joined with colons.
func (c *classic) id(kind, name string) string {
	c.Helper()
	return c.do("POST", "/fqname-to-id", m{"type": kind, "fq_name": strings.Split(name, ":")})["uuid"].(string)
}

// project makes a project of default-domain.
func (c *classic) project(name string) string {
	c.Helper()
	return c.create("project", m{"fq_name": l{"default-domain", name}})
}

// network makes a network of a project with an IPAM and a subnet.
func (c *classic) network(project, name, prefix string) string {
	c.Helper()
	c.create("network-ipam", m{"fq_name": l{"default-domain", project, name}})
	address, length, _ := strings.Cut(prefix, "/")
	return c.create("virtual-network", m{"fq_name": l{"default-domain", project, name}, "network_ipam_refs": l{m{
		"to":   l{"default-domain", project, name},
		"attr": m{"ipam_subnets": l{m{"subnet": m{"ip_prefix": address, "ip_prefix_len": json.Number(length)}, "addr_from_start": true}}},
	}}})
}

// uuidsOf are the ids in a list.
func uuidsOf(list any) []string {
	var ids []string
	elements, _ := list.(l)
	for _, e := range elements {
		ids = append(ids, fmt.Sprint(e.(m)["uuid"]))
	}
	return ids
}

// names are the last elements of the names in a list of links.
func names(list any) []string {
	var out []string
	elements, _ := list.(l)
	for _, e := range elements {
		to := e.(m)["to"].(l)
		out = append(out, fmt.Sprint(to[len(to)-1]))
	}
	return out
}
