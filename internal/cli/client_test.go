package cli

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// fake answers paths with JSON.
func fake(t *testing.T, answers map[string]string) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[r.URL.Path]
		if !ok {
			http.Error(w, "no "+r.URL.Path, http.StatusNotFound)
			return
		}
		w.Write([]byte(text))
	}))
	t.Cleanup(server.Close)
	c, err := NewClient(Options{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestIPAMCheckFinds shows the API in states that it does not come into by itself.
func TestIPAMCheckFinds(t *testing.T) {
	answers := map[string]string{
		"/ipam": `{"networks":[{"fq_name":["d","p","blue"],"subnets":[],"addresses":[
			{"address":"10.0.0.3","state":"used","owner":"one","type":"instance-ip","name":["one"]},
			{"address":"10.0.0.4","state":"used","owner":"gone"},
			{"address":"10.0.0.5","state":"resting","owner":"rested"}]}]}`,
		"/instance-ips": `{"instance-ips":[{"uuid":"one","fq_name":["one"],"instance_ip_address":"10.0.0.3"},{"uuid":"two","fq_name":["two"],"instance_ip_address":"10.0.0.5"}]}`,
		"/floating-ips": `{"floating-ips":[]}`, "/alias-ips": `{"alias-ips":[]}`,
		"/inventory": `{"attachments":[{"networkFqName":["d","p","blue"],"addresses":[{"address":"10.0.0.3","instanceIpId":"one"},{"address":"10.0.0.9","instanceIpId":"three"}]}]}`,
	}
	var out bytes.Buffer
	err := fake(t, answers).IPAMCheck(context.Background(), &out, Text)
	if !errors.Is(err, ErrFindings) {
		t.Errorf("error %v", err)
	}
	for _, want := range []string{"10.0.0.4  gone", "a leak", "10.0.0.5  two", "10.0.0.9  three"} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), "  "), strings.Join(strings.Fields(want), "  ")) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "10.0.0.3") {
		t.Errorf("10.0.0.3 is as it should be:\n%s", &out)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for status, want := range map[int]string{401: "contrail login", 403: "contrail login", 503: "contrail status"} {
		if text := (&APIError{Status: status, Text: "x"}).Error(); !strings.Contains(text, want) {
			t.Errorf("%d: %s", status, text)
		}
	}
	c := fake(t, map[string]string{"/projects": "<html>"})
	var out bytes.Buffer
	typ, err := FindType("project")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Get(context.Background(), &out, Get{Type: typ, Output: Name}); err == nil || !strings.Contains(err.Error(), "is --config its address?") {
		t.Error(err)
	}
}

// TestPaging reads all pages.
func TestPaging(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("page_marker") {
		case "":
			w.Write([]byte(`{"projects":[{"uuid":"a","fq_name":["default-domain","a"]}],"marker":"a"}`))
		case "a":
			w.Write([]byte(`{"projects":[{"uuid":"b","fq_name":["default-domain","b"]}],"marker":null}`))
		}
	}))
	defer server.Close()
	c, err := NewClient(Options{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	typ, _ := FindType("project")
	var out bytes.Buffer
	if err := c.Get(context.Background(), &out, Get{Type: typ, Output: Name}); err != nil {
		t.Fatal(err)
	}
	if out.String() != "project/default-domain:a\nproject/default-domain:b\n" {
		t.Error(out.String())
	}
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"host:8082": "http://host:8082", "http://h:1/": "http://h:1", "https://h/base": "https://h/base", "[::1]:8082": "http://[::1]:8082",
		"h": "", "ftp://h": "", "http://": "", "http://u:p@h": "", ":8082": "",
	} {
		got, err := parseAddress(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	if got := DefaultAddress("/nowhere/config.sock"); got != Loopback {
		t.Error(got)
	}
}

func TestTokens(t *testing.T) {
	file := t.TempDir() + "/token"
	if got, err := TokenOf(file, "a"); got != "" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	writeFile(t, file, `{"https://a":"secret"}`)
	if got, err := TokenOf(file, "https://a"); got != "secret" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	writeFile(t, file, `{"https://a":"secr`)
	if _, err := TokenOf(file, "https://a"); err == nil || strings.Contains(err.Error(), "secr\"") || !strings.Contains(err.Error(), "contrail login") {
		t.Error(err)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
