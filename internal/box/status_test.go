package box

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/contrail-mesos/contrail/internal/serve"
)

// The status of a controller says what it refuses, and keeps its other reason
// when it refuses nothing or does not answer.
func TestStatusTellsDegradation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.sock")
	if got := degradation(path, "exited before"); got != "exited before" {
		t.Errorf("without anybody there: %q", got)
	}
	answer := `{"ready":true,"degraded":"the store was restored"}`
	server, err := serve.Listen(slog.New(slog.NewTextHandler(io.Discard, nil)), serve.Config{Unix: path}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL)
		}
		io.WriteString(w, answer)
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	if got := degradation(path, "exited before"); got != "the store was restored" {
		t.Errorf("degraded: %q", got)
	}
	answer = `{"ready":true}`
	if got := degradation(path, "exited before"); got != "exited before" {
		t.Errorf("sound: %q", got)
	}
}
