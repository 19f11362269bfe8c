package configapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestDryRun decides writes that change nothing: what would succeed succeeds,
// what would be refused is refused, and the store stays as it was.
func TestDryRun(t *testing.T) {
	b := newBench(t, testConfig())
	id := b.create("virtual-network", `{"parent_type":"project","fq_name":["default-domain","default-project","blue"]}`)
	before := b.dump()
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/virtual-networks", `{"virtual-network":{"parent_type":"project","fq_name":["default-domain","default-project","red"]}}`, 200},
		{"POST", "/virtual-networks", `{"virtual-network":{"parent_type":"project","fq_name":["default-domain","default-project","blue"]}}`, 409},
		{"POST", "/virtual-networks", `{"virtual-network":{"parent_type":"project","fq_name":["default-domain","none","red"]}}`, 400},
		{"PUT", "/virtual-network/" + id, `{"virtual-network":{"display_name":"Blue"}}`, 200},
		{"PUT", "/virtual-network/" + id, `{"virtual-network":{"fq_name":["x"]}}`, 400},
		{"DELETE", "/virtual-network/" + id, "", 200},
		{"DELETE", "/virtual-network/" + containerID(), "", 404},
		{"POST", "/ref-update", `{"type":"virtual-network","uuid":"` + id + `","ref-type":"network-ipam","ref-fq-name":["default-domain","default-project","default-network-ipam"],"operation":"ADD","attr":{"ipam_subnets":[]}}`, 200},
	} {
		if status, text, _ := b.call(c.method, c.path+"?dry_run=true", c.body); status != c.want {
			t.Errorf("%s %s %s: %d %s, want %d", c.method, c.path, c.body, status, text, c.want)
		}
	}
	after := b.dump()
	for k, v := range after {
		if before[k] != v {
			t.Errorf("%s is now %s", k, v)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d keys before, %d after", len(before), len(after))
	}
	if status, text, _ := b.call("DELETE", "/virtual-network/"+id+"?dry_run=perhaps", ""); status != 400 || !strings.Contains(text, "dry_run") {
		t.Errorf("dry_run=perhaps: %d %s", status, text)
	}
}

func TestIfMatch(t *testing.T) {
	b := newBench(t, testConfig())
	id := b.create("virtual-network", `{"parent_type":"project","fq_name":["default-domain","default-project","blue"]}`)
	_, _, header := b.call("GET", "/virtual-network/"+id, "")
	send := func(method, body, etag string) int {
		t.Helper()
		r := httptest.NewRequest(method, "/virtual-network/"+id, strings.NewReader(body)).WithContext(b.ctx())
		r.Header.Set("If-Match", etag)
		w := httptest.NewRecorder()
		b.handler.ServeHTTP(w, r)
		return w.Code
	}
	name := `{"virtual-network":{"display_name":"one"}}`
	if got := send("PUT", name, header.Get("ETag")); got != http.StatusOK {
		t.Errorf("as it was read: %d", got)
	}
	if got := send("PUT", name, header.Get("ETag")); got != http.StatusPreconditionFailed {
		t.Errorf("changed meanwhile: %d", got)
	}
	if got := send("DELETE", "", header.Get("ETag")); got != http.StatusPreconditionFailed {
		t.Errorf("delete what was changed meanwhile: %d", got)
	}
	if got := send("PUT", name, "*"); got != http.StatusOK {
		t.Errorf("any: %d", got)
	}
}
