//go:build net

package box

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/serve"
)

// The tasks that a shell offers are those of all Mesos agents that answer.
func TestNetTasks(t *testing.T) {
	cfg := Config{Name: "t-" + strings.ToLower(rand.Text()[:8])}
	if _, err := Tasks(t.Context(), cfg); err == nil {
		t.Error("a cluster that does not run has tasks")
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(cfg.runDir()); err != nil {
			t.Error(err)
		}
	})
	if err := os.MkdirAll(cfg.runDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := (&Status{Nodes: 2}).write(cfg.runDir()); err != nil { // the second node's agent is away
		t.Fatal(err)
	}
	server, err := serve.Listen(slog.New(slog.DiscardHandler), serve.Config{Unix: cfg.mesosSocket(1)}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"get_containers":{"containers":[{"executor_id":{"value":"web.2"}},{"executor_id":{"value":"client.1"}}]}}`)
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	got, err := Tasks(t.Context(), cfg)
	if err != nil || !slices.Equal(got, []string{"client.1", "web.2"}) {
		t.Errorf("tasks %v, error %v", got, err)
	}
}
