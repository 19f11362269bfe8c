package configapi

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/api/usageapi"
	"github.com/contrail-mesos/contrail/internal/metricsdoc"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

var update = flag.Bool("update", false, "write docs/reference/metrics.md anew")

// ask asks the API's handler by way of a listener.
func (b *bench) ask(via, path string) *httptest.ResponseRecorder {
	b.Helper()
	ctx := serve.WithCaller(context.Background(), serve.Caller{Identity: ctls.Identity{Role: ctls.RoleAdmin}, Via: via})
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil).WithContext(ctx))
	return w
}

func TestMetricsOfRequests(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	b.attach(request(node, containerID(), "blue"))
	for _, path := range []string{"/virtual-networks", "/virtual-networks", "/nonsenses", "/virtual-network/" + containerID(), "/"} {
		b.ask("test", path)
	}
	text := b.ask("test", "/metrics").Body.String()
	for _, line := range []string{
		`contrail_config_requests_total{operation="list",status="200",type="virtual-network"} 2`,
		`contrail_config_requests_total{operation="read",status="404",type="virtual-network"} 1`,
		`contrail_config_requests_total{operation="unknown",status="404",type=""} 1`,
		`contrail_config_requests_total{operation="homepage",status="200",type=""} 1`,
		`contrail_config_request_seconds_count{operation="list",type="virtual-network"} 2`,
		`contrail_config_objects{type="virtual-machine-interface"} 1`,
		`contrail_config_bindings 1`,
		`contrail_config_nodes 1`,
		`contrail_config_requests_in_flight{operation="metrics"} 1`,
		`contrail_config_requests_in_flight{operation="watch"} 0`,
		`contrail_config_subnet_addresses{network="default-domain:mesos-default:blue",subnet="10.32.0.0/20"} 4092`,
		`contrail_config_subnet_addresses_used{network="default-domain:mesos-default:blue",subnet="10.32.0.0/20"} 1`,
		`contrail_config_subnet_addresses_free{network="default-domain:mesos-default:blue",subnet="10.32.0.0/20"} 4091`,
		`contrail_config_addresses{state="used"} 1`,
		`contrail_config_subnets_not_shown 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if !regexp.MustCompile(`contrail_store_request_seconds_count\{method="Txn",status="OK"\} [1-9]`).MatchString(text) {
		t.Error("no latency of transactions")
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestOperationsOfRoutes(t *testing.T) {
	for _, c := range []struct{ pattern, collection, kind, want string }{
		{"POST /{collection}", "virtual-networks", "", "create virtual-network"},
		{"GET /{collection}", "instance-ips", "", "list instance-ip"},
		{"GET /{collection}", "../../x", "", "unknown "},
		{"PUT /{type}/{uuid}", "", "project", "update project"},
		{"DELETE /{type}/{uuid}", "", "domain", "delete domain"},
		{"DELETE /{type}/{uuid}", "", "made up", "unknown "},
		{"POST /ref-update", "", "", "ref-update "},
		{"POST /virtual-network/{uuid}/ip-alloc", "", "", "ip-alloc virtual-network"},
		{"GET /{$}", "", "", "homepage "},
		{"GET /watch", "", "", "watch "},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Pattern = c.pattern
		r.SetPathValue("collection", c.collection)
		r.SetPathValue("type", c.kind)
		if operation, kind := operationOf(r); operation+" "+string(kind) != c.want {
			t.Errorf("%s of %s%s is %q %q, want %q", c.pattern, c.collection, c.kind, operation, kind, c.want)
		}
	}
}

// TestMetricsReference fails when docs/reference/metrics.md is not what the
// metrics are. `go test ./internal/configapi -run MetricsReference -update`
// writes it anew.
func TestMetricsReference(t *testing.T) {
	b := newBench(t, testConfig())
	metricsdoc.Compare(t, filepath.Join("..", "..", "docs", "reference", "metrics.md"), "Metrics of the configuration API", b.api.Registry(), *update)
}

func TestHealth(t *testing.T) {
	s, err := store.Open(context.Background(), quiet(), store.Config{Endpoints: []string{endpoint}, Prefix: "/health/"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	api, err := New(quiet(), s, testConfig())
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{TB: t, api: api, store: s, handler: api.Handler()}
	if w := b.ask("tls", "/healthz"); w.Code != http.StatusOK || w.Body.String() != "ok\n" {
		t.Errorf("healthz before the store is loaded: %d %q", w.Code, w.Body)
	}
	if w := b.ask("tls", "/readyz"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "not loaded") {
		t.Errorf("readyz before the store is loaded: %d %q", w.Code, w.Body)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.Run(ctx) }()
	if err := api.waitReady(ctx); err != nil {
		t.Fatal(err)
	}
	if r := api.probe(ctx); !r.Ready || r.Revision < r.Head || r.Head == 0 || r.Epoch != 1 {
		t.Errorf("loaded, but %+v", r)
	}
	// A graph that is no longer fed falls behind.
	cancel()
	<-done
	other, err := store.Open(context.Background(), quiet(), store.Config{Endpoints: []string{endpoint}, Prefix: "/health/"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	txn := other.Txn()
	txn.Create(store.NumberKey("test", 1), nil)
	if _, err := txn.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	if r := api.probe(context.Background()); r.Ready || !strings.Contains(r.Reason, "behind") || r.Head <= r.Revision {
		t.Errorf("behind, but %+v", r)
	}
	s.Close()
	if r := api.probe(context.Background()); r.Ready || !strings.Contains(r.Reason, "store does not answer") {
		t.Errorf("store is gone, but %+v", r)
	}
}

func TestSlowRequestsAreLogged(t *testing.T) {
	var log bytes.Buffer
	cfg := testConfig()
	cfg.Slow = time.Nanosecond
	b := newBench(t, cfg)
	b.api.log = slog.New(slog.NewTextHandler(&log, nil))
	b.call(http.MethodPost, "/virtual-networks", `{"virtual-network":{"parent_type":"project","fq_name":["default-domain","default-project","red"]}}`)
	if !regexp.MustCompile(`msg="slow request" operation=create type=virtual-network status=200 took=\S+ who=\S+ via=test from=\S+ write.decide=\S+s write.commit=\S+s write.catch_up=\S+s write.attempts=1`).MatchString(log.String()) {
		t.Errorf("log is %s", log.String())
	}
	log.Reset()
	b.api.cfg.Slow = time.Hour
	b.ask("test", "/virtual-networks")
	if strings.Contains(log.String(), "slow") {
		t.Errorf("a quick request is logged: %s", log.String())
	}
}

func TestDebugAnswersOnTheUnixSocketOnly(t *testing.T) {
	b := newBench(t, testConfig())
	b.attach(request(b.join(1), containerID(), "blue"))
	for _, via := range []string{"open", "tls", "bearer"} {
		if w := b.ask(via, "/debug/graph"); w.Code != http.StatusForbidden {
			t.Errorf("by %s: %d %s", via, w.Code, w.Body)
		}
	}
	for path, want := range map[string]string{
		"/debug/": "/debug/pprof/", "/debug/graph": `"virtual-machine-interface": 1`,
		"/debug/ledger": `"used": 1`, "/debug/requests": `"operation": "debug"`, "/debug/pprof/": "goroutine",
	} {
		if w := b.ask("unix", path); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d, no %s in %s", path, w.Code, want, w.Body)
		}
	}
}

func TestIPAMTellsWhoHasAnAddress(t *testing.T) {
	b := newBench(t, testConfig())
	r := request(b.join(1), containerID(), "blue")
	b.attach(r)
	b.attach(request(r.Key.Node, containerID(), "blue"))
	b.detach(r.Key)
	var got usageapi.Answer
	read := func(path string) {
		t.Helper()
		w := b.ask("test", path)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		got.Networks = nil
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
	}
	read("/ipam?network=default-domain:mesos-default:blue&addresses=true")
	if len(got.Networks) != 1 || len(got.Networks[0].Subnets) != 1 {
		t.Fatalf("%+v", got)
	}
	n := got.Networks[0]
	s := n.Subnets[0]
	if s.Size != 4092 || s.Used != 1 || s.Resting != 1 || s.Free != 4090 {
		t.Errorf("%+v", s)
	}
	states := map[string]int{}
	for _, a := range n.Addresses {
		states[a.State]++
		if (a.State == "used") != (a.Type == "instance-ip") {
			t.Errorf("%+v", a)
		}
	}
	if states["used"] != 1 || states["resting"] != 1 || len(n.Addresses) != 2 {
		t.Errorf("%+v", n.Addresses)
	}
	read("/ipam?address=" + n.Addresses[0].Address)
	if len(got.Networks) != 1 || len(got.Networks[0].Addresses) != 1 {
		t.Errorf("%+v", got)
	}
	for path, want := range map[string]int{"/ipam?address=nonsense": 400, "/ipam?network=none": 404} {
		if w := b.ask("test", path); w.Code != want {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// TestFlatSubnetsCountOnce: networks that share the addresses of an IPAM show
// the same ones.
func TestFlatSubnetsCountOnce(t *testing.T) {
	b := newBench(t, testConfig())
	b.create("network-ipam", `{"fq_name": ["default-domain", "default-project", "flat"], "ipam_subnet_method": "flat-subnet",
		"ipam_subnets": {"subnets": [{"subnet": {"ip_prefix": "10.7.0.0", "ip_prefix_len": 24}}]}}`)
	for _, name := range []string{"one", "two"} {
		b.create("virtual-network", `{"fq_name": ["default-domain", "default-project", "`+name+`"], "parent_type": "project",
			"address_allocation_mode": "flat-subnet-only", "network_ipam_refs": [{"to": ["default-domain", "default-project", "flat"], "attr": {"ipam_subnets": []}}]}`)
	}
	b.create("instance-ip", `{"fq_name": ["ip"], "virtual_network_refs": [{"to": ["default-domain", "default-project", "one"]}]}`)
	text := b.ask("test", "/metrics").Body.String()
	for _, line := range []string{
		`contrail_config_addresses{state="used"} 1`,
		`contrail_config_subnet_addresses_used{network="default-domain:default-project:one",subnet="10.7.0.0/24"} 1`,
		`contrail_config_subnet_addresses_used{network="default-domain:default-project:two",subnet="10.7.0.0/24"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
