package image

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var impatient = patience{answer: 2 * time.Second, silence: 2 * time.Second, window: 4 * time.Second, atLeast: 1 << 20}

// A registry that takes connections and never says anything.
func TestRegistryNeverAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var connections atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			defer c.Close()
		}
	}()
	s := open(t, Config{Dir: t.TempDir(), Registry: l.Addr().String(), patience: impatient})
	_, err = s.Acquire(t.Context(), "x", "shop/web:1", false)
	if !errors.Is(err, ErrUnreachable) {
		t.Fatalf("pull from a registry that never answers: %v", err)
	}
	for _, part := range []string{`image "shop/web:1"`, "registry " + l.Addr().String(), "has not answered within 2s", "check the registry"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not tell %q", err, part)
		}
	}
	// One try with TLS and one without: such a registry is not asked again.
	if n := connections.Load(); n > 2 {
		t.Errorf("it was asked %d times", n)
	}
	l.Close()
	<-done
}

// The manifest comes, and then the layers do not, or not in this life.
func TestRegistryStalls(t *testing.T) {
	server, _ := newRegistry(t)
	img := testImage(t, "content")
	push(t, server, "shop/web:1", img)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		want   string
	}{
		"no header": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "has not answered within 2s"},
		"no body": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "has sent nothing for 2s"},
		"drops": {func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte{0x1f, 0x8b, 8, 0x10, 0, 0, 0, 0, 0, 0xff}) // gzip, with a comment that does not end
			ticker := time.NewTicker(100 * time.Millisecond)          // fewer bytes than the layer has
			defer ticker.Stop()
			for {
				http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-ticker.C:
					w.Write([]byte("x"))
				}
			}
		}, "which is too slow"},
	} {
		t.Run(name, func(t *testing.T) {
			slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/blobs/"+digest.String()) {
					test.answer(w, r)
					return
				}
				server.Config.Handler.ServeHTTP(w, r)
			}))
			defer slow.Close()
			host := slow.Listener.Addr().String()
			dir := t.TempDir()
			s := open(t, Config{Dir: dir, Registry: host, patience: impatient})
			_, err := s.Acquire(t.Context(), "x", "shop/web:1", false)
			if err == nil {
				t.Fatal("pulled")
			}
			for _, part := range []string{`image "shop/web:1"`, "registry " + host, test.want, "check the registry"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not tell %q", err, part)
				}
			}
			for _, left := range []string{"tmp", "layers"} {
				if entries, err := os.ReadDir(filepath.Join(dir, left)); err != nil || len(entries) > 0 {
					t.Errorf("%s has %v %v", left, entries, err)
				}
			}
		})
	}
}
