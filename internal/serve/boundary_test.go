package serve

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// lockedBuffer is a log that many goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func TestPanicIsOneFailedRequest(t *testing.T) {
	var log lockedBuffer
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/before":
			w.Header().Set("Content-Type", "application/json")
			panic("the secret of the defect")
		case "/during":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic("the secret of the defect")
		case "/abort":
			panic(http.ErrAbortHandler)
		}
	})
	path := filepath.Join(t.TempDir(), "s")
	s, err := Listen(slog.New(slog.NewTextHandler(&log, nil)), Config{Bearer: freeAddress(t), BearerFile: path}, handler)
	if err != nil {
		t.Fatal(err)
	}
	address := s.listeners[0].Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	// Without keep-alive, so that each request has its own connection.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{}).DialContext}}
	ask := func(path string) (int, string, error) {
		r, err := http.NewRequest(http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+s.token)
		resp, err := client.Do(r)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	if status, body, err := ask("/before"); status != 500 || err != nil || strings.Contains(body, "secret") || strings.Contains(body, ".go") {
		t.Errorf("a panic before the answer: %d %q %v", status, body, err)
	}
	text := log.text()
	if strings.Count(text, "the secret of the defect") != 1 || !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "boundary_test.go") {
		t.Errorf("the log does not have it once, with its place: %s", text)
	}
	if _, body, err := ask("/during"); err == nil {
		t.Errorf("a panic during the answer leaves a whole one: %q", body)
	}
	if _, _, err := ask("/abort"); err == nil || strings.Contains(log.text(), "ErrAbortHandler") || strings.Contains(log.text(), "abort Handler") {
		t.Errorf("an aborted answer: %v", err)
	}
	if status, _, err := ask("/"); status != 200 || err != nil {
		t.Errorf("after panics: %d %v", status, err)
	}
	for range 2 * limitLines {
		ask("/before")
	}
	if n := strings.Count(log.text(), "the secret of the defect"); n > limitLines {
		t.Errorf("%d lines about the same panic", n)
	}
}
