package configapi

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/api/contrail/config/v1/configv1connect"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// TestPanicLeavesNothingHeld: what a decision chose is free again when it panics.
func TestPanicLeavesNothingHeld(t *testing.T) {
	b := newBench(t, testConfig())
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_, err := b.api.write(b.ctx(), audit{"test", "panic"}, func(c *change) error {
			if _, err := c.takeNumber(networkNumbers, 1, 1000, "owner"); err != nil {
				return err
			}
			panic("defect")
		})
		t.Errorf("write: %v", err)
	}()
	b.api.ledger.mu.Lock()
	held := summarise(b.api.ledger.numbers).Held
	b.api.ledger.mu.Unlock()
	if held != 0 {
		t.Errorf("%d numbers are held by nobody", held)
	}
	// The graph is not locked either.
	b.create("project", `{"fq_name": ["default-domain", "p"]}`)
}

// TestPanicOfAPart: a defect in a goroutine that encodes is that of the request.
func TestPanicOfAPart(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	typ, _ := model.TypeOf("project")
	broken := &listQuery{} // has no selection
	_ = broken.writeTo(httptest.NewRecorder(), typ, make([]*item, 3*partSize), false)
}

// panicking is the handler of a log that cannot be written to.
type panicking struct{ slog.Handler }

func (panicking) Enabled(context.Context, slog.Level) bool  { return true }
func (panicking) Handle(context.Context, slog.Record) error { panic("no log") }

// TestPanicInSettle: one of the attachments of a report meets a defect. That
// is the request's, the others are looked at, and the process lives on.
func TestPanicInSettle(t *testing.T) {
	b := newBench(t, testConfig())
	a := b.agent(1)
	a.start("net-a")
	report := a.report()
	report.Running = append(report.Running, &configv1.Running{Attachment: &configv1.Attachment{
		InterfaceId: "00000000-0000-4000-8000-00000000aaaa", Key: &configv1.AttachmentKey{ContainerId: "damaged", Interface: "eth0"},
	}})
	b.api.log = slog.New(panicking{b.api.log.Handler()}) // which tells of the conflict
	said := new(logBuffer)
	socket := filepath.Join(t.TempDir(), "s")
	server, err := serve.Listen(slog.New(slog.NewTextHandler(said, nil)), serve.Config{Unix: socket}, b.handler)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	}()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	client := configv1connect.NewRecoveryClient(&http.Client{Transport: transport}, "http://config")
	for range 2 {
		_, err = client.Settle(t.Context(), connect.NewRequest(report))
		if err == nil || connect.CodeOf(err) != connect.CodeUnknown || strings.Contains(err.Error(), "no log") {
			t.Errorf("answer: %v, want unknown, without what happened", err)
		}
		report.Running[1].Attachment.Key.ContainerId = "damaged-too" // another conflict to tell of
	}
	if text := said.String(); !strings.Contains(text, "no log") || !strings.Contains(text, "keepConflict") {
		t.Errorf("log %s, want the panic and where it was", text)
	}
}

// TestPanicIsCounted: metrics tell of a request that panicked before it was answered.
func TestPanicIsCounted(t *testing.T) {
	b := newBench(t, testConfig())
	func() {
		defer func() { _ = recover() }()
		h := b.api.observed(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("defect") }))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/x", nil))
	}()
	if n := len(b.api.calls.inFlight()); n != 0 {
		t.Errorf("%d requests are still being answered", n)
	}
	if _, text, _ := b.call("GET", "/metrics", ""); !strings.Contains(text, `contrail_config_requests_total{operation="other",status="500",type=""} 1`) {
		t.Error("metrics do not count it as 500")
	}
}

// TestSlowReaderIsGivenUp: a client that does not read its answer does not keep
// it in memory for ever.
func TestSlowReaderIsGivenUp(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", h2), func(t *testing.T) {
			written := make(chan error, 1)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				// The client is to have its status, however late this goroutine runs.
				w.WriteHeader(http.StatusOK)
				if err := http.NewResponseController(w).Flush(); err != nil {
					written <- err
					return
				}
				seen := newStatusWriter(w, r, 50*time.Millisecond)
				_, err := seen.Write(make([]byte, 64<<20))
				written <- err
			}))
			server.EnableHTTP2 = h2
			server.StartTLS()
			defer server.Close()
			resp, err := server.Client().Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if h2 != (resp.ProtoMajor == 2) {
				t.Fatalf("speaks %s", resp.Proto)
			}
			select {
			case err := <-written:
				var timeout net.Error
				if err == nil || !h2 && !(errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, os.ErrDeadlineExceeded)) {
					t.Errorf("writing ended with %v", err)
				}
			case <-time.After(time.Minute):
				t.Fatal("writes to a client that does not read")
			}
		})
	}
}

// TestQuietWatchOverHTTP2: the time that a client may take to read does not end
// a stream on which nothing happens.
func TestQuietWatchOverHTTP2(t *testing.T) {
	b := newBench(t, testConfig())
	b.api.patience, b.api.watchPause = 2*time.Second, 3*time.Second // a busy machine may take a second to write
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.handler.ServeHTTP(w, r.WithContext(b.callerOf(r.Context())))
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{}
	server.StartTLS()
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/watch?resource_type=project")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Fatalf("speaks %s", resp.Proto)
	}
	quiet := false
	lines := bufio.NewScanner(resp.Body)
	for !quiet && lines.Scan() {
		quiet = strings.HasPrefix(lines.Text(), ": keepalive")
	}
	if !quiet {
		t.Errorf("the stream ended before its first comment: %v", lines.Err())
	}
}
